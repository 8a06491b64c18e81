package reverseproxy

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// watchDelay is how old a call is before its client is watched, so that fast
// calls pay for next to nothing.
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
	since  time.Time // when the call began
	timer  *time.Timer
	timed  bool          // the timer runs, be it since an earlier call
	done   chan struct{} // a token: peeking has ended
	gone   atomic.Bool
}

type watchState uint8

const (
	watchOff     watchState = iota // before start
	watchArmed                     // until the call is old enough
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
//
// A timer that runs is left alone: run sees whether the call is old enough.
func (w *watch) start(client, up net.Conn, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != watchOff {
		return
	}
	w.state, w.client, w.up, w.since = watchArmed, client, up, since
	switch {
	case w.timer == nil:
		w.done = make(chan struct{}, 1)
		w.timer = time.AfterFunc(watchDelay, w.run)
	case !w.timed:
		w.timer.Reset(watchDelay)
	}
	w.timed = true
}

func (w *watch) run() {
	w.mu.Lock()
	w.timed = false
	if w.state != watchArmed {
		w.mu.Unlock()
		return
	}
	if left := watchDelay - time.Since(w.since); left > 0 {
		w.timed = true
		w.timer.Reset(left)
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
	client := w.client
	w.client, w.up = nil, nil
	w.mu.Unlock()
	if state == watchPeeking {
		client.SetReadDeadline(longAgo)
		<-w.done
		client.SetReadDeadline(time.Time{})
	}
	return w.gone.Load()
}
