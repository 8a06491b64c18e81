//go:build unix && !linux

package local

import "errors"

// readProcesses needs Linux' /proc.
func readProcesses() (processes, error) { return processes{}, errors.ErrUnsupported }
