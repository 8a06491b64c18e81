//go:build linux

package main

import (
	_ "embed"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/valyala/fasthttp"
)

//go:embed testdata/spawn.c
var spawnSource []byte

// functionVariable has this program be the function, on the address it holds:
// "host:port", or the path of a Unix socket.
const functionVariable = "BENCHMARKS_FUNCTION"

// play is the function if the environment says so. It ends with who started it.
func play() bool {
	address := os.Getenv(functionVariable)
	if address == "" {
		return false
	}
	dieWithParent()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	ln, err := net.Listen(network, address)
	if err == nil {
		err = (&fasthttp.Server{
			Handler:               answer,
			StreamRequestBody:     true,
			MaxRequestBodySize:    1 << 40,
			ReadBufferSize:        64 << 10,
			WriteBufferSize:       64 << 10,
			NoDefaultServerHeader: true,
		}).Serve(ln)
	}
	fmt.Fprintln(os.Stderr, "function:", err)
	os.Exit(1)
	return true
}

// answer answers "OK" at once; /bytes?n= sends n bytes, and /count says how many
// it was sent.
func answer(ctx *fasthttp.RequestCtx) {
	switch string(ctx.Path()) {
	case "/bytes":
		n := ctx.QueryArgs().GetUintOrZero("n")
		ctx.SetBodyStream(io.LimitReader(zeros{}, int64(n)), n)
	case "/count":
		n, err := io.Copy(io.Discard, ctx.RequestBodyStream())
		if err != nil {
			ctx.Error(err.Error(), fasthttp.StatusBadRequest)
			return
		}
		fmt.Fprint(ctx, n)
	default:
		ctx.SetBodyString("OK")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
