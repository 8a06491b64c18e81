//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// load is what is asked of a server: prebuilt requests in turn, over keep-alive
// connections, one at a time on each.
type load struct {
	network, address string
	requests         [][]byte
	connections      int
	want             string // each answer's body; "" = any

	duration time.Duration // what is under way then is waited for
	calls    int           // ends after so many calls instead; 0 = by duration
	rate     float64       // calls per second, whatever the answers take; 0 = as fast as they come
}

// outcome of a load. Latencies are sorted, one for each call, not a histogram's.
type outcome struct {
	perSecond float64
	latencies []time.Duration
}

func (o outcome) quantile(q float64) time.Duration {
	return o.latencies[int(q*float64(len(o.latencies)-1))]
}

// connection is one of a load's.
type connection struct {
	net.Conn
	reader    *bufio.Reader
	response  fasthttp.Response
	latencies []time.Duration

	// With a rate: when the request under way was to be sent, and those that
	// were to be sent since.
	mu      sync.Mutex
	busy    bool
	due     time.Time
	waiting []time.Time
	failure error // after which nothing is read
}

func (l load) dial(ctx context.Context) (connections []*connection, closeAll func(), err error) {
	closeAll = func() {
		for _, c := range connections {
			c.Close()
		}
	}
	for range l.connections {
		var d net.Dialer
		c, err := d.DialContext(ctx, l.network, l.address)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		connections = append(connections, &connection{Conn: c, reader: bufio.NewReader(c)})
	}
	return connections, closeAll, nil
}

// receive reads one answer, and fails unless it is a good one.
func (c *connection) receive(want string) error {
	if err := c.response.Read(c.reader); err != nil {
		return err
	}
	if c.response.StatusCode() != http.StatusOK || want != "" && string(c.response.Body()) != want {
		return fmt.Errorf("status %d, body %.200q", c.response.StatusCode(), c.response.Body())
	}
	return nil
}

// run applies the load. Any answer but a good one is an error: what refuses is fast.
func (l load) run(ctx context.Context) (outcome, error) {
	connections, closeAll, err := l.dial(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer closeAll()
	defer context.AfterFunc(ctx, closeAll)()
	send := l.closedLoop
	if l.rate > 0 {
		send = l.atRate
	}
	elapsed, err := send(connections)
	if err = errors.Join(ctx.Err(), err); err != nil {
		return outcome{}, err
	}
	var o outcome
	for _, c := range connections {
		o.latencies = append(o.latencies, c.latencies...)
	}
	slices.Sort(o.latencies)
	o.perSecond = float64(len(o.latencies)) / elapsed.Seconds()
	return o, nil
}

// closedLoop sends on each connection as fast as it is answered.
func (l load) closedLoop(connections []*connection) (time.Duration, error) {
	var workers sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, len(connections))
	start := time.Now()
	for i, c := range connections {
		workers.Go(func() {
			before := start
			for {
				n := int(next.Add(1)) - 1
				if l.calls > 0 && n >= l.calls {
					return
				}
				_, err := c.Write(l.requests[n%len(l.requests)])
				if err == nil {
					err = c.receive(l.want)
				}
				if err != nil {
					errs[i] = err
					return
				}
				now := time.Now()
				c.latencies = append(c.latencies, now.Sub(before))
				if l.calls == 0 && now.Sub(start) > l.duration {
					return
				}
				before = now
			}
		})
	}
	workers.Wait()
	return time.Since(start), errors.Join(errs...)
}

// atRate sends at equal intervals, on the connections in turn, and counts each
// latency from when the request was to be sent: a server that stalls has all
// the calls on its account that were due meanwhile (coordinated omission).
func (l load) atRate(connections []*connection) (time.Duration, error) {
	// The pacer keeps a P while it sleeps; the readers need theirs.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 1))
	var readers, answers sync.WaitGroup
	request := l.requests[0]
	for _, c := range connections {
		readers.Go(func() {
			for {
				if err := c.receive(l.want); err != nil {
					c.mu.Lock()
					defer c.mu.Unlock()
					c.failure = err
					if c.busy {
						answers.Add(-1 - len(c.waiting))
					}
					return
				}
				now := time.Now()
				c.mu.Lock()
				c.latencies = append(c.latencies, now.Sub(c.due))
				c.busy = len(c.waiting) > 0
				if c.busy {
					c.due, c.waiting = c.waiting[0], c.waiting[1:]
					c.Write(request) // if it fails, so does the next receive
				}
				c.mu.Unlock()
				answers.Done()
			}
		})
	}
	start := time.Now()
	runtime.LockOSThread()
	total := max(1, int(l.rate*l.duration.Seconds()))
	for n := range total {
		due := start.Add(time.Duration(float64(n) / l.rate * 1e9))
		sleepUntil(due)
		c := connections[n%len(connections)]
		c.mu.Lock()
		switch {
		case c.failure != nil: // nobody reads from it any more
		case c.busy:
			answers.Add(1)
			c.waiting = append(c.waiting, due)
		default:
			answers.Add(1)
			c.busy, c.due = true, due
			c.Write(request)
		}
		c.mu.Unlock()
	}
	runtime.UnlockOSThread()
	answers.Wait()
	elapsed := time.Since(start)
	var err error
	for _, c := range connections {
		c.mu.Lock()
		err = errors.Join(err, c.failure)
		c.mu.Unlock()
		c.Close()
	}
	readers.Wait()
	return elapsed, err
}

// sleepUntil is a sleep to some 10 µs, on a locked thread; the runtime's timers
// are good to a millisecond, which is more than what is measured.
func sleepUntil(t time.Time) {
	const prSetTimerslack = 29
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerslack, 1, 0)
	for {
		left := time.Until(t)
		if left <= 0 {
			return
		}
		ts := syscall.NsecToTimespec(left.Nanoseconds())
		rawNanosleep(&ts)
	}
}
