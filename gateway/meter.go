package gateway

import (
	"cmp"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/events"
	"github.com/gatehound/gatehound/gateway/provider"
)

// Metering makes an event of each function call that is forwarded.
type Metering struct {
	Outbox *events.Outbox
	// Exclude are namespaces whose functions are not metered.
	Exclude []string
	// DefaultMemory stands for the memory of functions without a limit, in bytes.
	DefaultMemory int64
}

// meter begins to measure a call, which is about to be forwarded; nil = it is not
// metered. The result is called when the function has answered or failed to, and
// ctx has the answer.
//
// The event is recorded when the last of the answer has come from the function,
// before it is passed on: who has the whole answer has been metered.
func (g *Gateway) meter(f provider.Function, endpoint provider.Endpoint) func(ctx *fasthttp.RequestCtx) {
	m := g.config.Metering
	if m == nil || slices.Contains(m.Exclude, f.Namespace) {
		return nil
	}
	started := time.Now()
	record := func() {
		// What cannot be kept is counted, and logged when that begins.
		_ = m.Outbox.Append(types.FunctionUsageEvent{
			Namespace: f.Namespace, FunctionName: f.Name,
			Started: started.UTC(), Duration: time.Since(started), MemoryBytes: cmp.Or(endpoint.Memory, m.DefaultMemory),
		})
	}
	return func(ctx *fasthttp.RequestCtx) {
		upgraded := ctx.Response.StatusCode() == http.StatusSwitchingProtocols
		if !upgraded && !ctx.Response.IsBodyStream() {
			record()
			return
		}
		record := sync.OnceFunc(record)
		if stream, ends := ctx.Response.BodyStream().(interface{ OnEnd(func()) }); ends {
			stream.OnEnd(record)
		}
		// An upgrade ends with its connection, and so does an answer that is cut off.
		if client, ok := ctx.Conn().(*reverseproxy.Client); ok {
			client.OnDone(record)
		}
	}
}
