package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strconv"
	"time"

	"github.com/openfaas/faas-provider/logs"

	"github.com/gatehound/gatehound/gateway/provider"
)

// logs takes both from the query, and streams a line of JSON for each line of
// the log as it comes.
func (g *Gateway) logs(r *request) (operation, error) {
	f, err := g.function(r, r.query.Get("name"), "")
	if err != nil {
		return operation{}, err
	}
	ask := logs.Request{Name: f.Name, Namespace: f.Namespace, Instance: r.query.Get("instance")}
	if text := r.query.Get("tail"); text != "" {
		if ask.Tail, err = strconv.Atoi(text); err != nil {
			return operation{}, badRequest("tail=%q: want a number of lines", clip(text))
		}
	}
	if text := r.query.Get("since"); text != "" {
		since, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return operation{}, badRequest("since=%q: want a time such as 2006-01-02T15:04:05Z", clip(text))
		}
		ask.Since = &since
	}
	if text := r.query.Get("follow"); text != "" {
		if ask.Follow, err = strconv.ParseBool(text); err != nil {
			return operation{}, badRequest("follow=%q: want true or false", clip(text))
		}
	}
	return onFunction(f, func(ctx context.Context) error {
		// Asked first: once lines are sent there is no 404 any more.
		if _, err := g.config.Provider.Status(ctx, f, false); err != nil {
			return err
		}
		g.streamLogs(r, f, ask)
		return nil
	}), nil
}

// streamLogs sends the log after the handler has returned, until its end, the
// client's, that of its token or of what is granted to it, or ours.
func (g *Gateway) streamLogs(r *request, f provider.Function, ask logs.Request) {
	r.ctx.Response.Header.SetContentType("application/x-ndjson")
	if r.ctx.IsHead() {
		return
	}
	// Nothing follows on the connection, so that it can be watched.
	r.ctx.SetConnectionClose()
	r.ctx.Response.ImmediateHeaderFlush = true
	conn, who := r.ctx.Conn(), r.caller
	id := string(r.ctx.Response.Header.Peek(requestIDHeader))
	r.ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		ctx, cancel := context.WithCancel(g.life)
		defer cancel()
		if !who.until.IsZero() {
			timer := time.AfterFunc(time.Until(who.until), cancel)
			defer timer.Stop()
		}
		go func() {
			if err := g.watchGrant(ctx, who, "Function:Logs", target{namespace: f.Namespace, name: f.Name}); err != nil {
				g.config.Log.Info().Str("request_id", id).Str("function", f.String()).Str("subject", clip(who.name)).Msgf("logs are no longer followed: %v", err)
				cancel()
			}
		}()
		// A log that is silent has nothing that could fail to be written.
		_ = conn.SetReadDeadline(time.Time{})
		// What the client still sends, which would end a mere wait, is nobody's.
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			cancel()
		}()
		lines := json.NewEncoder(w)
		err := g.config.Provider.Logs(ctx, ask, func(m logs.Message) error {
			if err := lines.Encode(m); err != nil {
				return err
			}
			return w.Flush()
		})
		if err != nil && ctx.Err() == nil {
			g.config.Log.Info().Str("request_id", id).Str("function", f.String()).Msgf("logs ended early: %v", err)
		}
	})
}

// watchGrant returns when action is no longer granted to who on t, or, with nil,
// when ctx ends. What cannot be found out is not granted.
func (g *Gateway) watchGrant(ctx context.Context, who caller, action string, t target) error {
	if who.again == nil {
		return nil
	}
	tick := time.NewTicker(g.config.RecheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, 15*time.Second)
		now, err := who.again(bounded)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case !now.may(action, t):
			return forbidden(action, t)
		}
	}
}
