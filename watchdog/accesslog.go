package watchdog

import (
	"errors"
	"io"
	"log"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/executor"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// outcome says in a word how a request ended, whatever its status: an answer of
// 504 may be the function's own.
type outcome string

const (
	answered      outcome = "answered"       // by the function
	refused       outcome = "refused"        // by us: credentials, limits, a bad request
	timedOut      outcome = "timed out"      // the function did not answer in time
	clientClosed  outcome = "client closed"  // the client left before the end
	clientStalled outcome = "client stalled" // it stayed, but took no more
	shutDown      outcome = "shut down"      // we left before the end
	failed        outcome = "failed"         // the function or the way to it
)

// outcomeOf names the error of a call, or what cut off its response.
func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return answered
	case errors.Is(err, reverseproxy.ErrAborted), errors.Is(err, executor.ErrShutdown):
		return shutDown
	case errors.Is(err, executor.ErrTimeout), errors.Is(err, reverseproxy.ErrTimeout):
		return timedOut
	case errors.Is(err, reverseproxy.ErrClientStalled):
		return clientStalled
	case errors.Is(err, reverseproxy.ErrClientGone):
		return clientClosed
	case errors.Is(err, reverseproxy.ErrBadBody), errors.Is(err, syscall.E2BIG):
		return refused
	default:
		return failed
	}
}

// whose returns err, or what our side of the client's connection knows better:
// that it was we who left.
func whose(err error, client *reverseproxy.Client) error {
	if own := client.Err(); own != nil && (err == nil || errors.Is(err, reverseproxy.ErrClientGone)) {
		return own
	}
	return err
}

// access is what is logged of a request.
type access struct {
	method, target string
	status         int
	length         int64 // of the body; -1 = unknown
	took           time.Duration
	callID         string // "" = not to be logged
	outcome        outcome
	cutOff         error // why the response is not whole; nil = it is
}

// statusText is net/http's, with nginx' name for its own status.
func statusText(status int) string {
	if status == 499 {
		return "Client Closed Request"
	}
	return http.StatusText(status)
}

// appendText appends upstream's line; one of a response that was cut off goes on to
// say so. It is put together by hand: with package fmt it cost as much as verifying
// a token does.
func (a *access) appendText(b []byte) []byte {
	b = appendEscaped(b, a.method)
	b = append(b, ' ')
	b = appendEscaped(b, a.target)
	b = append(b, " - "...)
	b = strconv.AppendInt(b, int64(a.status), 10)
	b = append(append(b, ' '), statusText(a.status)...)
	b = append(b, " - ContentLength: "...)
	b = appendSize(b, a.length)
	b = append(b, " ("...)
	b = appendSeconds(b, a.took, 4)
	b = append(b, "s)"...)
	if a.callID != "" {
		b = append(appendEscaped(append(b, " ["...), a.callID), ']')
	}
	if a.cutOff != nil {
		b = appendEscaped(append(b, " - cut off: "...), a.cutOff.Error())
	}
	return b
}

// accessLines writes lines as the watchdog's own logger does, which would take as
// long for the date alone.
type accessLines struct {
	out io.Writer

	mu     sync.Mutex
	buf    []byte
	second int64 // of the stamp, since 1970
	stamp  []byte
}

func (l *accessLines) write(a access, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if second := now.Unix(); second != l.second || l.stamp == nil {
		l.second, l.stamp = second, now.AppendFormat(l.stamp[:0], "2006/01/02 15:04:05 ")
	}
	l.buf = append(a.appendText(append(l.buf[:0], l.stamp...)), '\n')
	l.out.Write(l.buf)
}

// appendSeconds appends a duration in seconds with so many digits behind the
// point, rounded.
func appendSeconds(dst []byte, d time.Duration, digits int) []byte {
	unit, perSecond := time.Second, uint64(1)
	for range digits {
		unit, perSecond = unit/10, perSecond*10
	}
	n := uint64(max(d, 0)+unit/2) / uint64(unit)
	dst = append(strconv.AppendUint(dst, n/perSecond, 10), '.')
	for perSecond /= 10; perSecond > 0; perSecond /= 10 {
		dst = append(dst, '0'+byte(n/perSecond%10))
	}
	return dst
}

// json writes the line to l.
func (a access) json(l *zerolog.Logger) {
	e := l.Log().Str("method", a.method).Str("target", a.target).Int("status", a.status).
		Int64("bytes", a.length).Float64("seconds", a.took.Seconds()).Str("outcome", string(a.outcome))
	if a.callID != "" {
		e.Str("call_id", a.callID)
	}
	if a.cutOff != nil {
		e.Str("cut_off", a.cutOff.Error())
	}
	e.Send()
}

// newLoggers returns the loggers of the watchdog's own lines and, with asJSON,
// of access lines.
func newLoggers(out io.Writer, asJSON bool) (*log.Logger, *zerolog.Logger) {
	if !asJSON {
		return log.New(out, "", log.LstdFlags), nil
	}
	json := zerolog.New(out).With().Timestamp().Logger()
	return log.New(json, "", 0), &json
}

// serverLog is for fasthttp's own lines. It leaves out why a response was cut
// off: its access line says that.
type serverLog struct{ *log.Logger }

// Printf implements fasthttp.Logger.
func (l serverLog) Printf(format string, args ...any) {
	for _, arg := range args {
		err, is := arg.(error)
		if is && (outcomeOf(err) != failed || errors.Is(err, executor.ErrFailed)) {
			return
		}
	}
	l.Logger.Printf(format, args...)
}
