package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"
)

const patience = 20 * time.Second

// receiver is a destination that can refuse.
type receiver struct {
	mu       sync.Mutex
	refuse   error
	attempts []Batch
	taken    []Batch
}

func (r *receiver) Deliver(_ context.Context, b Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.Lines = bytes.Clone(b.Lines)
	r.attempts = append(r.attempts, b)
	if r.refuse != nil {
		return r.refuse
	}
	r.taken = append(r.taken, b)
	return nil
}

func (r *receiver) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = err
}

func (r *receiver) tried() []Batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Batch{}, r.attempts...)
}

// numbers returns what the events that were taken are numbered with.
func (r *receiver) numbers(t *testing.T) []int64 {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []int64
	for _, b := range r.taken {
		for _, line := range strings.Split(strings.TrimSuffix(string(b.Lines), "\n"), "\n") {
			var e types.FunctionUsageEvent
			require.NoError(t, json.Unmarshal([]byte(line), &e), line)
			all = append(all, e.MemoryBytes)
		}
	}
	return all
}

func usage(n int64) types.Event {
	return types.FunctionUsageEvent{Namespace: "fn", FunctionName: "env", Started: time.Unix(1, 0).UTC(), Duration: 5, MemoryBytes: n}
}

func upTo(n int64) []int64 {
	var all []int64
	for i := range n {
		all = append(all, i)
	}
	return all
}

// said takes what an outbox logs.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) logf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.text, format+"\n", args...)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func open(t *testing.T, dir string, to Destination, change func(*Config)) (*Outbox, *said) {
	t.Helper()
	log := &said{}
	c := Config{Type: types.TypeFunctionUsage, Dir: dir, To: to, Logf: log.logf, Warnf: log.logf,
		BatchWait: time.Millisecond, RetryMin: time.Millisecond, RetryMax: 4 * time.Millisecond}
	if change != nil {
		change(&c)
	}
	o, err := Open(c)
	require.NoError(t, err)
	return o, log
}

// run runs o until the result is called, or the test ends.
func run(t *testing.T, o *Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { o.Run(ctx); close(done) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// counted returns o's metrics, by outcome; the bytes that wait are "spool".
func counted(t *testing.T, o *Outbox) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(o)
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest("GET", "/", nil))
	values := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^gateway_events_(?:total\{outcome="(\w+)",|(spool)_bytes\{)type="function_usage"\} (\S+)$`).FindAllStringSubmatch(page.Body.String(), -1) {
		n, err := strconv.ParseFloat(m[3], 64)
		require.NoError(t, err)
		values[m[1]+m[2]] = n
	}
	require.Len(t, values, 6, page.Body)
	return values
}

func spooled(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	return found
}

func TestEncode(t *testing.T) {
	t.Parallel()
	line, err := encode(usage(7))
	require.NoError(t, err)
	require.Equal(t, `{"event":"function_usage","namespace":"fn","function_name":"env","started":"1970-01-01T00:00:01Z","duration":5,"memory_bytes":7}`+"\n", string(line))
	line, err = encode(types.APIAccessEvent{Path: "/system/\n\xff,]", Actions: []string{}})
	require.NoError(t, err)
	require.Equal(t, 1, bytes.Count(line, []byte("\n")), "the newline at its end is the only one")
	require.True(t, json.Valid(line))
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), &receiver{}
	o, _ := open(t, dir, to, func(c *Config) { c.BatchEvents = 10 })
	stop := run(t, o)
	for n := range int64(1005) {
		require.NoError(t, o.Append(usage(n)))
	}
	require.Eventually(t, func() bool { return len(to.numbers(t)) == 1005 }, patience, time.Millisecond, "the last five are delivered for their age")
	require.Equal(t, upTo(1005), to.numbers(t), "in order")
	stop()
	ids := map[string]bool{}
	for _, b := range to.tried() {
		require.Equal(t, types.TypeFunctionUsage, b.Type)
		require.LessOrEqual(t, bytes.Count(b.Lines, []byte("\n")), 10)
		require.False(t, ids[b.ID])
		ids[b.ID] = true
	}
	require.Empty(t, spooled(t, dir))
	require.Equal(t, map[string]float64{"queued": 1005, "delivered": 1005, "dropped": 0, "damaged": 0, "retried": 0, "spool": 0}, counted(t, o))
}

func TestBatchesByBytes(t *testing.T) {
	t.Parallel()
	to := &receiver{}
	o, _ := open(t, t.TempDir(), to, func(c *Config) { c.BatchBytes, c.BatchWait = 500, time.Hour })
	for n := range int64(20) {
		require.NoError(t, o.Append(usage(n)))
	}
	stop := run(t, o)
	require.Eventually(t, func() bool { return len(to.tried()) == 6 }, patience, time.Millisecond) // of 3 events, and 2 wait
	stop()
	require.Equal(t, upTo(20), to.numbers(t), "at the end all are delivered")
	for _, b := range to.tried() {
		require.LessOrEqual(t, len(b.Lines), 500)
	}
}

// TestRetries has a destination refuse, a restart meanwhile, and compares what was
// sent, byte by byte.
func TestRetries(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), &receiver{refuse: errors.New("down")}
	// By number alone: else the age of the first event may close its batch.
	o, log := open(t, dir, to, func(c *Config) { c.BatchEvents, c.BatchWait = 4, time.Hour })
	stop := run(t, o)
	for n := range int64(10) {
		require.NoError(t, o.Append(usage(n)))
	}
	require.Eventually(t, func() bool { return len(to.tried()) > 5 }, patience, time.Millisecond)
	stop()
	require.Equal(t, 1, strings.Count(log.String(), "cannot be delivered, and are kept until they are: "), log)
	require.Regexp(t, `cannot be delivered, and are kept until they are: /.*/[0-9]{16}-.*\.jsonl: down\n`, log)
	require.Len(t, spooled(t, dir), 3)
	require.GreaterOrEqual(t, counted(t, o)["retried"], 16.0)
	before := to.tried()

	to.set(nil)
	o, log = open(t, dir, to, func(c *Config) { c.BatchEvents = 4 })
	require.Contains(t, log.String(), "events are left from before")
	run(t, o)
	require.NoError(t, o.Append(usage(10)))
	require.Eventually(t, func() bool { return len(to.numbers(t)) == 11 }, patience, time.Millisecond)
	require.Equal(t, upTo(11), to.numbers(t))
	for _, b := range before {
		require.Contains(t, []Batch{to.taken[0], to.taken[1], to.taken[2]}, b, "the same events have the same ID")
	}
	require.Eventually(t, func() bool { return len(spooled(t, dir)) == 0 }, patience, time.Millisecond)
}

// TestFewFilesWhileDown: what waits is in full batches.
func TestFewFilesWhileDown(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), &receiver{refuse: errors.New("down")}
	o, _ := open(t, dir, to, nil)
	stop := run(t, o)
	for n := range int64(50) {
		require.NoError(t, o.Append(usage(n)))
		time.Sleep(time.Millisecond) // more than BatchWait
	}
	require.LessOrEqual(t, len(spooled(t, dir)), 3)
	to.set(nil)
	stop()
	require.Equal(t, upTo(50), to.numbers(t))
}

func TestDropOldest(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), &receiver{refuse: errors.New("down")}
	o, log := open(t, dir, to, func(c *Config) { c.BatchEvents, c.MaxBytes = 5, 4000 })
	stop := run(t, o)
	for n := range int64(200) {
		require.NoError(t, o.Append(usage(n)))
		require.LessOrEqual(t, o.size(), 4000.0)
	}
	require.Equal(t, 1, strings.Count(log.String(), "the oldest are dropped"))
	to.set(nil)
	require.Eventually(t, func() bool { return o.size() == 0 }, patience, time.Millisecond)
	stop()
	got, c := to.numbers(t), counted(t, o)
	require.Equal(t, 200.0, c["dropped"]+c["delivered"])
	left := int(c["delivered"])
	// The batch that was under way while it was dropped may have come, too.
	require.Contains(t, []int{left, left + 5}, len(got))
	require.Equal(t, upTo(200)[200-left:], got[len(got)-left:], "the newest are left, in order")
	require.Greater(t, c["dropped"], 100.0)
	require.Empty(t, spooled(t, dir))
}

func TestKeepAll(t *testing.T) {
	t.Parallel()
	to := &receiver{refuse: errors.New("down")}
	o, _ := open(t, t.TempDir(), to, func(c *Config) { c.KeepAll, c.MaxBytes = true, 1000 })
	stop := run(t, o)
	n := int64(0)
	for ; o.Ready() == nil; n++ {
		require.NoError(t, o.Append(usage(n)))
	}
	require.ErrorIs(t, o.Ready(), ErrFull)
	require.NoError(t, o.Append(usage(n)), "one that was under way has room still")
	to.set(nil)
	require.Eventually(t, func() bool { return o.Ready() == nil }, patience, time.Millisecond)
	stop()
	require.Equal(t, upTo(n+1), to.numbers(t))
	require.Zero(t, counted(t, o)["dropped"])
}

// TestFolderGone takes the spool's folder away and gives it back.
func TestFolderGone(t *testing.T) {
	t.Parallel()
	for _, keepAll := range []bool{false, true} {
		dir, to := filepath.Join(t.TempDir(), "spool"), &receiver{}
		o, log := open(t, dir, to, func(c *Config) { c.KeepAll = keepAll })
		require.NoError(t, os.Rename(dir, dir+"-away"))
		for n := range int64(3) {
			require.Error(t, o.Append(usage(n)))
		}
		require.Equal(t, keepAll, o.Ready() != nil)
		require.Equal(t, 1, strings.Count(log.String(), "cannot be kept: open "), log)
		require.NoError(t, os.Rename(dir+"-away", dir))
		require.NoError(t, o.Ready())
		require.NoError(t, o.Append(usage(3)))
		require.Contains(t, log.String(), "can be kept again")
		run(t, o)()
		if keepAll {
			require.Equal(t, upTo(4), to.numbers(t))
			require.Zero(t, counted(t, o)["dropped"])
		} else {
			require.Equal(t, []int64{3}, to.numbers(t))
			require.Equal(t, 3.0, counted(t, o)["dropped"])
		}
	}
}

// TestFolderDeleted: nothing is written to a file that has been deleted.
func TestFolderDeleted(t *testing.T) {
	t.Parallel()
	dir, to := filepath.Join(t.TempDir(), "spool"), &receiver{}
	o, log := open(t, dir, to, func(c *Config) { c.KeepAll = true })
	require.NoError(t, o.Append(usage(0)))
	require.NoError(t, os.RemoveAll(dir))
	require.Error(t, o.Append(usage(1)))
	require.Error(t, o.Ready())
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, o.Ready())
	run(t, o)()
	require.Equal(t, []int64{1}, to.numbers(t))
	require.Contains(t, log.String(), "is gone, with 1 function_usage events")
	require.Equal(t, 1.0, counted(t, o)["dropped"])
}

// TestForeignNames: what somebody else has put into the spool neither hides what
// follows it nor fills the memory.
func TestForeignNames(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), &receiver{}
	good, err := encode(usage(0))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "9999999999999999-1ffe0a47-0c27-4b6c-b8a8-2b1c2b0b7c11.jsonl"), good, 0o600))
	large := filepath.Join(dir, "0000000000000001-1ffe0a47-0c27-4b6c-b8a8-2b1c2b0b7c12.jsonl")
	require.NoError(t, os.WriteFile(large, nil, 0o600))
	require.NoError(t, os.Truncate(large, 1<<30))
	killed, _ := open(t, dir, to, nil)
	require.NoError(t, killed.Append(usage(1)))
	o, log := open(t, dir, to, nil)
	run(t, o)()
	require.ElementsMatch(t, upTo(2), to.numbers(t))
	require.Contains(t, log.String(), large+" has 1073741824 bytes")
	require.Equal(t, []string{large}, spooled(t, dir))
}

func TestDamage(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), &receiver{}
	const id = "1ffe0a47-0c27-4b6c-b8a8-2b1c2b0b7c11"
	good, err := encode(usage(0))
	require.NoError(t, err)
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	write("0000000000000003-"+id+".jsonl", string(good)+"\x00\x00\x00\n[1]\n\n"+string(good[:len(good)/2]))
	write("0000000000000004-"+strings.Replace(id, "1", "2", 1)+".jsonl", "")
	write("0000000000000005-"+strings.Replace(id, "1", "3", 1)+".jsonl", "nonsense")
	write("0000000000000006-"+strings.Replace(id, "1", "4", 1)+".jsonl", strings.TrimSuffix(string(good), "\n"))
	write("notes.txt", "not ours")
	o, log := open(t, dir, to, nil)
	require.NoError(t, o.Append(usage(1)))
	run(t, o)()
	require.Equal(t, []int64{0, 0, 1}, to.numbers(t))
	require.Equal(t, id, to.tried()[0].ID)
	require.Equal(t, string(good), string(to.tried()[0].Lines))
	require.Equal(t, 4.0, counted(t, o)["damaged"])
	require.Contains(t, log.String(), "3 lines are no events")
	require.Equal(t, []string{filepath.Join(dir, "notes.txt")}, spooled(t, dir))
}

// TestVanished: somebody has deleted a file of the spool.
func TestVanished(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), &receiver{}
	o, log := open(t, dir, to, func(c *Config) { c.BatchEvents = 1 })
	for n := range int64(3) {
		require.NoError(t, o.Append(usage(n)))
	}
	require.NoError(t, os.Remove(spooled(t, dir)[1]))
	run(t, o)()
	require.Equal(t, []int64{0, 2}, to.numbers(t))
	require.Contains(t, log.String(), "is gone, with 1 function_usage events")
	require.Equal(t, 1.0, counted(t, o)["dropped"])
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	to := &receiver{}
	o, _ := open(t, t.TempDir(), to, func(c *Config) { c.BatchEvents = 7 })
	stop := run(t, o)
	var writers sync.WaitGroup
	for w := range int64(8) {
		writers.Go(func() {
			for n := range int64(250) {
				if err := o.Append(usage(w*250 + n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	stop()
	require.ElementsMatch(t, upTo(2000), to.numbers(t))
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Open(Config{Type: "x", Dir: filepath.Join(file, "spool")})
	require.ErrorContains(t, err, "the spool of x events: ")
}

func FuzzIntact(f *testing.F) {
	for _, s := range []string{"", "\n", "{}\n", "{}\n{", "{\"a\":\"\\n\"}\n[]\n", "{}\r\n{}", "\x00{}\n{}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, events, bad := intact(data)
		var all []map[string]any
		if err := json.Unmarshal(array(lines), &all); err != nil || len(all) != events {
			t.Fatalf("%d events of %q: %v", events, array(lines), err)
		}
		again, n, none := intact(lines)
		if !bytes.Equal(again, lines) || n != events || none != 0 || bad < 0 {
			t.Fatalf("%q is not what %q becomes", again, lines)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	o, err := Open(Config{Type: types.TypeFunctionUsage, Dir: b.TempDir(), To: &receiver{}, MaxBytes: 64 << 20, Logf: b.Logf, Warnf: func(string, ...any) {}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	e := types.FunctionUsageEvent{Namespace: "openfaas-fn", FunctionName: "env", Started: time.Now().UTC(), Duration: 123456, MemoryBytes: 512 << 20}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := o.Append(e); err != nil {
				b.Error(err)
			}
		}
	})
}
