package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/logs"
)

const (
	// tail is how many lines are there at first.
	tail = 200
	// maxStreams bounds the streams of a session: each is a connection to the API,
	// and outlives a page that was left for some beats.
	maxStreams = 32
)

// logsPage is what the template "logs" shows.
type logsPage struct {
	Namespace, Name string
	Lines           []logLine
	Stream          string // where the lines after these come from
	Tail            int
}

// logLine is a line of a log, as scripts are sent it, too.
type logLine struct {
	Time     string `json:"time"` // for people
	Exact    string `json:"exact"`
	Instance string `json:"instance,omitempty"`
	Text     string `json:"text"`
}

func newLogLine(m logs.Message) logLine {
	at := m.Timestamp.UTC()
	return logLine{at.Format(time.TimeOnly), at.Format(time.RFC3339Nano), m.Instance, strings.TrimRight(m.Text, "\r\n")}
}

// mark is a place in a log: after the lines of a time, of which there may be
// several.
type mark struct {
	at    time.Time
	lines int
}

// after is the mark after one more line. Those of several replicas need not come
// in order: an older one moves nothing.
func (k mark) after(m logs.Message) mark {
	switch {
	case m.Timestamp.After(k.at):
		return mark{m.Timestamp, 1}
	case m.Timestamp.Equal(k.at):
		k.lines++
	}
	return k
}

func (k mark) String() string {
	if k.lines == 0 {
		return ""
	}
	return k.at.UTC().Format(time.RFC3339Nano) + "/" + strconv.Itoa(k.lines)
}

func parseMark(s string) (k mark, err error) {
	if s == "" {
		return k, nil
	}
	at, lines, _ := strings.Cut(s, "/")
	if k.at, err = time.Parse(time.RFC3339Nano, at); err == nil {
		k.lines, err = strconv.Atoi(lines)
	}
	if err != nil || k.lines < 1 {
		return mark{}, errors.New("no place in a log")
	}
	return k, nil
}

// logs shows the end of a function's log. A script goes on from there.
func (v *visit) logs() error {
	page := logsPage{Namespace: v.r.PathValue("namespace"), Name: v.r.PathValue("name"), Tail: tail}
	ctx, cancel := context.WithTimeout(v.r.Context(), askTimeout)
	defer cancel()
	var end mark
	lines, err := v.openLogs(ctx, url.Values{"tail": {strconv.Itoa(tail)}, "follow": {"false"}})
	if err != nil {
		return err
	}
	defer lines.Close()
	err = decodeLogs(lines, func(m logs.Message) error {
		end = end.after(m)
		page.Lines = append(page.Lines, newLogLine(m))
		return nil
	})
	if err != nil {
		return err
	}
	page.Stream = functionPath(page.Namespace, page.Name, "/logs/stream") + "?" + url.Values{"from": {end.String()}}.Encode()
	return v.show(http.StatusOK, "logs", "Logs of "+page.Name, page)
}

// openLogs returns the log of the visited function, which is to be closed.
func (v *visit) openLogs(ctx context.Context, query url.Values) (io.ReadCloser, error) {
	query.Set("name", v.r.PathValue("name"))
	query.Set("namespace", v.r.PathValue("namespace"))
	response, err := v.open(ctx, http.MethodGet, "/system/logs", query, nil)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

func decodeLogs(r io.Reader, line func(logs.Message) error) error {
	lines := json.NewDecoder(r)
	for {
		var m logs.Message
		if err := lines.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("the log cannot be read: %w", err)
		}
		if err := line(m); err != nil {
			return err
		}
	}
}

// logStream sends the lines after a mark as server-sent events, as they come.
// The ID of each is the mark after it, which browsers send when they connect
// again.
func (v *visit) logStream() error {
	last := v.r.Header.Get("Last-Event-ID")
	if last == "" {
		last = v.r.URL.Query().Get("from")
	}
	from, err := parseMark(last)
	if err != nil {
		return &refusal{http.StatusBadRequest, "from is " + err.Error() + "."}
	}
	if !v.session.beginStream() {
		return &refusal{http.StatusTooManyRequests, "Too many logs are open at the same time. Close one."}
	}
	defer v.session.endStream()
	ctx, cancel := context.WithCancel(v.r.Context())
	defer cancel()
	query := url.Values{"follow": {"true"}}
	if from.lines > 0 {
		query.Set("since", from.at.Format(time.RFC3339Nano))
	}
	lines, err := v.openLogs(ctx, query)
	if err != nil {
		return err
	}
	defer lines.Close()

	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no") // nginx would keep the lines
	var mu sync.Mutex                           // of what is written
	send := func(format string, args ...any) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := fmt.Fprintf(v.w, format, args...)
		return err
	}
	_ = send("retry: 2000\n\n")
	v.w.(http.Flusher).Flush() // from here on each write is sent at once
	var beating sync.WaitGroup
	beating.Go(func() {
		defer cancel()
		tick := time.NewTicker(v.d.beat)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !v.d.sessions.lives(v.key) || send(":\n\n") != nil {
				return
			}
		}
	})
	defer beating.Wait()
	defer cancel()
	end, skip := from, from.lines
	err = decodeLogs(lines, func(m logs.Message) error {
		if m.Timestamp.Before(from.at) {
			return nil
		}
		if m.Timestamp.Equal(from.at) && skip > 0 {
			skip--
			return nil
		}
		end = end.after(m)
		encoded, err := json.Marshal(newLogLine(m))
		if err != nil {
			return err
		}
		return send("id: %s\ndata: %s\n\n", end, encoded)
	})
	if err != nil && ctx.Err() == nil {
		v.d.config.Log.Debug().Msgf("dashboard: logs of %s.%s: %v", v.r.PathValue("name"), v.r.PathValue("namespace"), err)
	}
	return nil
}

// beginStream reports whether there may be one more stream.
func (s *session) beginStream() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams >= maxStreams {
		return false
	}
	s.streams++
	return true
}

func (s *session) endStream() {
	s.mu.Lock()
	s.streams--
	s.mu.Unlock()
}
