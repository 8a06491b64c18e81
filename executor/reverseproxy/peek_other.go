//go:build !linux && !darwin && !freebsd

package reverseproxy

import "net"

// Without a peek nobody notices that a waiting client goes away, and an idle
// connection is taken for a live one.

// WaitGone returns false at once.
func WaitGone(net.Conn) bool { return false }

// Gone returns false.
func Gone(net.Conn) bool { return false }

func canPeek(net.Conn) bool { return false }

func awaitData(net.Conn) bool { return false }

type probe struct{}

func newProbe(net.Conn) *probe { return nil }

func (*probe) quiet() bool { return true }
