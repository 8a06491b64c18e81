package reverseproxy

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// watchDelay is how old a call is before its client is watched, so that fast
// calls pay for nothing but a timer.
const watchDelay = 30 * time.Millisecond

// watch closes an upstream's connection when the client of its call has gone.
// It peeks at the client's connection and so takes nothing from a pipelined
// request; when one is there, the watch ends. A client that has shut down its
// writing side counts as gone: hardly any HTTP client does that, and from here
// it looks the same as a closed connection.
type watch struct {
	mu     sync.Mutex
	state  watchState
	client net.Conn
	up     net.Conn
	timer  *time.Timer
	done   chan struct{} // a token: peeking has ended
	gone   atomic.Bool
}

type watchState uint8

const (
	watchOff     watchState = iota // before start
	watchArmed                     // the timer runs
	watchPeeking                   // waiting at the client's connection
	watchStopped                   // after stop, until reset
)

// reset makes the watch ready for the next call on its connection.
func (w *watch) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = watchOff
	w.gone.Store(false)
}

// start arms the watch. It is called when the request body has been read: a
// client that goes before that is noticed by reading. Not after stop.
func (w *watch) start(client, up net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != watchOff {
		return
	}
	w.state, w.client, w.up = watchArmed, client, up
	if w.timer == nil {
		w.done = make(chan struct{}, 1)
		w.timer = time.AfterFunc(watchDelay, w.run)
		return
	}
	w.timer.Reset(watchDelay)
}

func (w *watch) run() {
	w.mu.Lock()
	if w.state != watchArmed {
		w.mu.Unlock()
		return
	}
	w.state = watchPeeking
	client, up := w.client, w.up
	// The server's deadline is for reading the request, which is over.
	client.SetReadDeadline(time.Time{})
	w.mu.Unlock()

	if WaitGone(client) {
		w.gone.Store(true)
		up.Close()
	}
	w.done <- struct{}{}
}

// stop ends the watch, gives the client's connection back to the server and
// reports whether the client has gone.
func (w *watch) stop() (gone bool) {
	w.mu.Lock()
	state := w.state
	w.state = watchStopped
	switch state {
	case watchArmed:
		w.timer.Stop()
	case watchPeeking:
		w.client.SetReadDeadline(longAgo)
	}
	w.mu.Unlock()
	if state == watchPeeking {
		<-w.done
		w.client.SetReadDeadline(time.Time{})
	}
	w.mu.Lock()
	w.client, w.up = nil, nil
	w.mu.Unlock()
	return w.gone.Load()
}
