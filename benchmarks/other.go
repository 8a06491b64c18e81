//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "benchmarks: Linux only, since they read /proc")
	os.Exit(1)
}
