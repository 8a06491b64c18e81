// Command fwatchdog serves one function. Its settings are environment
// variables.
package main

import (
	"os"

	"github.com/gatehound/gatehound/watchdog"
)

func main() {
	if status, ok := watchdog.Init(os.Args, os.Environ()); ok {
		os.Exit(status)
	}
	os.Exit(watchdog.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
