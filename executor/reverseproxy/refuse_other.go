//go:build !linux

package reverseproxy

import (
	"net"
	"os"
)

// refuseNew keeps new connections out of ln's queue where there is a way: a
// Unix socket loses its name.
func refuseNew(ln net.Listener) {
	if ln, ok := ln.(*net.UnixListener); ok {
		ln.SetUnlinkOnClose(false)
		os.Remove(ln.Addr().String())
	}
}
