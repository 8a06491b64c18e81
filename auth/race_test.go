//go:build race

package auth

const raceDetector = true
