//go:build race

package reverseproxy

const raceEnabled = true
