package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

var env = provider.Function{Namespace: "dev", Name: "env"}

// sleeper is a faas-provider with one function, env.dev, which is as its test
// wants it.
type sleeper struct {
	*httptest.Server

	mu     sync.Mutex
	status types.FunctionStatus
	gone   bool
	asked  int      // questions for the status
	scaled []uint64 // replicas wanted
	refuse []int    // statuses for the next scale requests
	starts int      // questions after which one that was scaled is available; 0 = never
	probed int
	ready  int // probes after which the function is ready
}

func newSleeper(t *testing.T) *sleeper {
	s := &sleeper{status: types.FunctionStatus{Name: "env", Namespace: "dev"}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *sleeper) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, credentials := r.BasicAuth()
	isCall := strings.HasPrefix(r.URL.Path, "/function/")
	switch {
	case isCall == credentials:
		w.WriteHeader(http.StatusTeapot) // they are for the API, all of it, and not for functions
	case s.gone:
		w.WriteHeader(http.StatusNotFound)
	case r.URL.Path == "/function/env.dev/_/ready":
		if s.probed++; s.ready == 0 || s.probed < s.ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case r.Method == http.MethodDelete:
		s.gone = true
	case r.URL.Path == "/system/scale-function/env":
		var q types.ScaleServiceRequest
		_ = json.NewDecoder(r.Body).Decode(&q)
		s.scaled = append(s.scaled, q.Replicas)
		if len(s.refuse) > 0 {
			http.Error(w, "the provider says no", s.refuse[0])
			s.refuse = s.refuse[1:]
			return
		}
		if s.status.Replicas = q.Replicas; q.Replicas == 0 {
			s.status.AvailableReplicas = 0
		}
		w.WriteHeader(http.StatusAccepted)
	case r.URL.RequestURI() == "/system/function/env?namespace=dev":
		s.asked++
		if s.starts--; s.status.Replicas > 0 && s.starts == 0 {
			s.status.AvailableReplicas = 1
		}
		_ = json.NewEncoder(w).Encode(s.status)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// set changes what is there.
func (s *sleeper) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// waitScaled waits until the function has been asked for.
func (s *sleeper) waitScaled(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.scaled) > 0 }, 20*time.Second, time.Millisecond)
}

func open(t *testing.T, at string, c Config) *Provider {
	t.Helper()
	var err error
	c.URL, err = url.Parse(at)
	require.NoError(t, err)
	c.User, c.Password = "admin", "pw"
	p, err := New(c)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// TestScaleFromZero: many calls ask for a start once, and wait for it together.
func TestScaleFromZero(t *testing.T) {
	t.Parallel()
	s := newSleeper(t)
	s.status.Labels = &map[string]string{"com.openfaas.scale.min": "3"}
	s.starts = 5
	p := open(t, s.URL, Config{ScaleFromZero: true})
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			e, err := p.Endpoint(t.Context(), env)
			if err != nil || e.Prefix != "/function/env.dev" {
				t.Errorf("%v, %v", e, err)
			}
		})
	}
	calls.Wait()
	require.Equal(t, []uint64{3}, s.scaled)
	require.Equal(t, 5, s.asked)
	_, err := p.Endpoint(t.Context(), env)
	require.NoError(t, err)
	require.Equal(t, 5, s.asked, "a warm function costs nothing more")

	// Put to sleep by us, it is not taken for warm.
	require.NoError(t, p.Scale(t.Context(), env, 0))
	s.set(func() { s.starts = 2 })
	_, err = p.Endpoint(t.Context(), env)
	require.NoError(t, err)
	require.Equal(t, []uint64{3, 0, 3}, s.scaled)
}

func TestScaleFromZeroOff(t *testing.T) {
	t.Parallel()
	s := newSleeper(t)
	_, err := open(t, s.URL, Config{}).Endpoint(t.Context(), env)
	require.NoError(t, err)
	require.Empty(t, s.scaled)
	require.Equal(t, 1, s.asked)
}

// TestMemory: the limit is known with the function, and its changes in time.
func TestMemory(t *testing.T) {
	t.Parallel()
	s := newSleeper(t)
	p := open(t, s.URL, Config{})
	for memory, want := range map[string]int64{"": 0, "64Mi": 64 << 20, "1e9": 1e9, "nonsense": 0, "1e-999999999": 0} {
		s.set(func() { s.status.Limits = &types.FunctionResources{Memory: memory} })
		p.mu.Lock()
		if k, known := p.known[env]; known {
			k.until = time.Now()
			p.known[env] = k
		}
		p.mu.Unlock()
		e, err := p.Endpoint(t.Context(), env)
		require.NoError(t, err)
		require.Equal(t, want, e.Memory, memory)
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(*sleeper)
		scaled  []uint64
		err     string
	}{
		"no label":           {func(s *sleeper) {}, []uint64{1}, ""},
		"a label of 0":       {func(s *sleeper) { s.status.Labels = &map[string]string{"com.openfaas.scale.min": "0"} }, []uint64{1}, ""},
		"a bad label":        {func(s *sleeper) { s.status.Labels = &map[string]string{"com.openfaas.scale.min": "-1"} }, []uint64{1}, ""},
		"starting already":   {func(s *sleeper) { s.status.Replicas = 5 }, nil, ""},
		"a conflict":         {func(s *sleeper) { s.refuse = []int{500, 502} }, []uint64{1, 1, 1}, ""},
		"refused":            {func(s *sleeper) { s.refuse = []int{400} }, []uint64{1}, "400: the provider says no"},
		"deleted meanwhile":  {func(s *sleeper) { s.refuse = []int{404} }, []uint64{1}, "not found"},
		"available all long": {func(s *sleeper) { s.status.Replicas, s.status.AvailableReplicas = 2, 1 }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSleeper(t)
			s.starts = 4
			c.prepare(s)
			_, err := open(t, s.URL, Config{ScaleFromZero: true}).Endpoint(t.Context(), env)
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.err)
			}
			require.Equal(t, c.scaled, s.scaled)
		})
	}
}

// TestStartLimit: the error says which limit struck, and the next call tries
// again.
func TestStartLimit(t *testing.T) {
	t.Parallel()
	s := newSleeper(t)
	s.refuse = []int{500}
	p := open(t, s.URL, Config{ScaleFromZero: true, StartTimeout: time.Second})
	_, err := p.Endpoint(t.Context(), env)
	var refused *provider.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, &provider.Error{Status: 503, Message: "function env.dev had no replica available within 1s " +
		"(scale_from_zero; the limit is upstream_timeout): its status and its logs say why"}, refused)
	require.Equal(t, []uint64{1, 1}, s.scaled)
	s.set(func() { s.starts = 1 })
	_, err = p.Endpoint(t.Context(), env)
	require.NoError(t, err)
}

// TestCallersLeave: one who goes away does not wait, and does not end it for the
// others. When the function is deleted, nobody waits.
func TestCallersLeave(t *testing.T) {
	t.Parallel()
	s := newSleeper(t)
	p := open(t, s.URL, Config{ScaleFromZero: true})
	stays := make(chan error, 1)
	go func() {
		_, err := p.Endpoint(t.Context(), env)
		stays <- err
	}()
	leaves, leave := context.WithCancelCause(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := p.Endpoint(leaves, env)
		left <- err
	}()
	bored := errors.New("bored")
	leave(bored)
	require.ErrorIs(t, <-left, bored)
	s.waitScaled(t)
	select {
	case err := <-stays:
		t.Fatal("ended with ", err)
	case <-time.After(100 * time.Millisecond):
	}
	require.NoError(t, p.Delete(t.Context(), env))
	require.ErrorIs(t, <-stays, provider.ErrNotFound)
	require.Len(t, s.scaled, 1)
}

func TestCloseEndsWaiting(t *testing.T) {
	t.Parallel()
	s := newSleeper(t)
	p := open(t, s.URL, Config{ScaleFromZero: true})
	ended := make(chan error, 1)
	go func() {
		_, err := p.Endpoint(t.Context(), env)
		ended <- err
	}()
	s.waitScaled(t)
	p.Close()
	require.Error(t, <-ended)
}

func TestProbe(t *testing.T) {
	t.Parallel()
	s := newSleeper(t)
	s.ready = 3
	p := open(t, s.URL, Config{Probe: true, StartTimeout: 10 * time.Second})
	for range 2 {
		_, err := p.Endpoint(t.Context(), env)
		require.NoError(t, err)
	}
	require.Equal(t, 3, s.probed)

	s = newSleeper(t)
	p = open(t, s.URL, Config{Probe: true, StartTimeout: time.Second})
	_, err := p.Endpoint(t.Context(), env)
	var refused *provider.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 503, refused.Status)
	require.Contains(t, refused.Message, "did not answer 200 at /_/ready within 1s (probe_functions; the limit is upstream_timeout)")
	require.ErrorContains(t, err, "it answered 503")
	_, err = p.Endpoint(t.Context(), provider.Function{Namespace: "dev", Name: "nope"})
	require.ErrorIs(t, err, provider.ErrNotFound)
}

// TestUnresponsiveProvider: what it never answers is not waited for by a caller
// who has gone.
func TestUnresponsiveProvider(t *testing.T) {
	t.Parallel()
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(hang.Close)
	p := open(t, hang.URL, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := p.Endpoint(ctx, env)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	p.Close() // before the server, which waits for its handlers
}
