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

// acceptNow returns a connection that waits in ln's queue; nil = none does, or
// there is no way to know.
func acceptNow(net.Listener) net.Conn { return nil }
