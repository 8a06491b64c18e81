// Package freeport chooses TCP ports for programs that must be told theirs
// before they listen, and for tests that want a port where nobody listens.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
)

const (
	lowest           = 10000 // below are ports that programs are known by
	usuallyEphemeral = 32768 // and above
)

// held are the ports of this process. Its listeners stay here because the garbage
// collector closes what nothing refers to.
var held struct {
	sync.Mutex
	ports map[int]net.Listener
}

// Take returns a port that nobody listens on, on 127.0.0.1 or on all addresses.
// It is the caller's until this process ends: no other call of Take returns it, on
// Linux not even in another process. As it is below the ports that the kernel chooses,
// no outgoing connection and no listener on ":0" gets it. Take panics if no port is
// left.
func Take() string {
	held.Lock()
	defer held.Unlock()
	if held.ports == nil {
		held.ports = make(map[int]net.Listener)
	}
	n := ephemeral() - lowest
	var err error
	for i, start := 0, rand.IntN(n); i < n; i++ {
		port := lowest + (start+i)%n
		if _, ours := held.ports[port]; ours {
			continue
		}
		if held.ports[port], err = hold(port); err == nil {
			return strconv.Itoa(port)
		}
		delete(held.ports, port)
	}
	panic(fmt.Sprintf("no port from %d to %d is free: %v", lowest, lowest+n-1, err))
}

// hold returns what keeps port from other processes, nil where nothing can, or
// an error if the port is not free.
func hold(port int) (l net.Listener, err error) {
	if runtime.GOOS == "linux" {
		// A child that is forked meanwhile would have the probes below open until it
		// execs, and so listen. Other systems: net.Listen takes this lock itself.
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		// An abstract socket leaves no file, and ends with its process.
		if l, err = net.Listen("unix", fmt.Sprintf("@gatehound-port-%d", port)); err != nil {
			return nil, err
		}
	}
	for _, host := range []string{"127.0.0.1", ""} { // not every system lets the one stand for the other
		probe, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		if err == nil {
			err = probe.Close()
		}
		if err != nil {
			if l != nil {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
	}
	return l, nil
}

// ephemeral returns the first port that the kernel chooses itself.
func ephemeral() int {
	var first int
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if _, err := fmt.Sscan(string(b), &first); err != nil || first <= lowest {
		return usuallyEphemeral
	}
	return first
}
