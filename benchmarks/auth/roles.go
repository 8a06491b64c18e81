package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/watchdog"
)

// This program is also the functions and the load, each in a process of its
// own, told by these variables.
const (
	roleVariable   = "AUTH_ROLE"
	socketVariable = "AUTH_SOCKET"
	roundVariable  = "AUTH_ROUND"
	countVariable  = "AUTH_CONNECTIONS"
	tokenVariable  = "AUTH_TOKEN"
)

// play plays the role that the environment names, if any.
func play() bool {
	var err error
	switch role := os.Getenv(roleVariable); role {
	case "":
		return false
	case "upstream": // the function of http mode
		var ln net.Listener
		if ln, err = net.Listen("unix", os.Getenv(socketVariable)); err == nil {
			err = fasthttp.Serve(ln, answer)
		}
	case "function":
		err = watchdog.ServeFast(answer)
	case "load":
		err = load()
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func answer(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("OK") }

// load calls for a while, each connection as fast as it is answered, and
// prints how many calls a second there were.
func load() error {
	round, err := time.ParseDuration(os.Getenv(roundVariable))
	if err != nil {
		return err
	}
	connections, err := strconv.Atoi(os.Getenv(countVariable))
	if err != nil {
		return err
	}
	request := []byte("GET / HTTP/1.1\r\nHost: function\r\nAuthorization: Bearer " + os.Getenv(tokenVariable) + "\r\n\r\n")
	var mu sync.Mutex
	var failure error
	calls := 0
	var workers sync.WaitGroup
	start := time.Now()
	for range connections {
		workers.Go(func() {
			n, err := callUntil(start.Add(round), request)
			mu.Lock()
			defer mu.Unlock()
			calls += n
			if err != nil {
				failure = err
			}
		})
	}
	workers.Wait()
	fmt.Println(calls, time.Since(start).Seconds())
	return failure
}

func callUntil(end time.Time, request []byte) (calls int, err error) {
	conn, err := net.Dial("unix", os.Getenv(socketVariable))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	var res fasthttp.Response
	for ; time.Now().Before(end); calls++ {
		if _, err := conn.Write(request); err != nil {
			return calls, err
		}
		if err := res.Read(reader); err != nil {
			return calls, err
		}
		if res.StatusCode() != fasthttp.StatusOK || string(res.Body()) != "OK" {
			return calls, fmt.Errorf("status %d, body %q", res.StatusCode(), res.Body())
		}
	}
	return calls, nil
}
