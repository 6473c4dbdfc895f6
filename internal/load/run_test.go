package load_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/load"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/server"
)

// house is a real server in this process.
type house struct {
	t   *testing.T
	url string
}

func open(t *testing.T) *house {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	n, err := node.Open(t.Context(), node.Config{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{Backend: n, Listen: "127.0.0.1:0", Version: "test", Logger: log, APIKey: "open"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-served, n.Close()); err != nil {
			t.Error(err)
		}
	})
	return &house{t, "http://" + s.Addr().String()}
}

// get fetches a page as JSON.
func (h *house) get(method, path string, into any) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer open")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil || res.StatusCode != http.StatusOK {
		h.t.Fatalf("%s %s: %d, %v", method, path, res.StatusCode, err)
	}
}

// grants is how many grants there ever were, which the next token tells.
func (h *house) grants() int64 {
	h.t.Helper()
	var grant struct{ Token int64 }
	h.get(http.MethodPost, fmt.Sprintf("/v1/locks/probe-%d", time.Now().UnixNano()), &grant)
	return grant.Token - 1
}

// empty complains about every lock but the probes.
func (h *house) empty() {
	h.t.Helper()
	var list struct{ Locks []struct{ Name string } }
	h.get(http.MethodGet, "/v1/locks?prefix=t%20e-", &list)
	if len(list.Locks) > 0 {
		h.t.Errorf("locks are left: %v", list.Locks)
	}
}

func plan(t *testing.T, workload string, urls ...string) load.Plan {
	t.Helper()
	p := load.Plan{
		Workload: workload, Interface: load.V1, APIKey: "open", Connections: 4, Duration: 200 * time.Millisecond,
		Timeout: 30 * time.Second, TTL: time.Minute, Prefix: "t e", Names: 100, Locks: 50,
	}
	for _, url := range urls {
		e, err := load.NewEndpoint(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.Endpoints = append(p.Endpoints, e)
	}
	return p
}

func run(t *testing.T, p load.Plan, o load.Options) *load.Report {
	t.Helper()
	r, err := load.Run(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// busy runs a plan until something was done in the time that is measured, on however slow a machine, and calls again before it
// tries with more time.
func busy(t *testing.T, p load.Plan, o load.Options, again func()) *load.Report {
	t.Helper()
	for {
		r := run(t, p, o)
		consistent(t, r)
		if r.Phases[0].Operations > 0 {
			return r
		}
		if p.Duration *= 2; p.Duration > time.Minute {
			t.Fatalf("nothing is ever done: %+v", r)
		}
		again()
	}
}

// consistent checks what holds for every phase: each operation is in the histogram once.
func consistent(t *testing.T, r *load.Report) {
	t.Helper()
	for _, p := range r.Phases {
		for _, l := range p.Latency {
			if l.Count != p.Operations {
				t.Errorf("%s: %d operations, and %d times of %s", p.Name, p.Operations, l.Count, l.Of)
			}
			if l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max || l.Count > 0 && l.P50 <= 0 {
				t.Errorf("%s: times of %s: %+v", p.Name, l.Of, l)
			}
		}
		if p.Seconds <= 0 || p.PerSecond != float64(p.Operations)/p.Seconds || len(p.Errors) > 0 {
			t.Errorf("%+v", p)
		}
		if n := int64(r.Connections); p.LeastServed*n > p.Operations || p.MostServed > 0 && p.MostServed*n < p.Operations {
			t.Errorf("%s: %d operations, %d and %d at most and least", p.Name, p.Operations, p.MostServed, p.LeastServed)
		}
	}
	if r.Interrupted || r.Left != 0 {
		t.Errorf("interrupted: %v, left: %d", r.Interrupted, r.Left)
	}
}

func phases(r *load.Report) string {
	var names []string
	for _, p := range r.Phases {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

// The server has granted what the report says, and nothing is left.
func TestPairsAndHandoff(t *testing.T) {
	t.Parallel()
	for _, workload := range []string{load.Pairs, load.Handoff} {
		for _, face := range []string{load.V1, load.Seed} {
			t.Run(workload+" "+face, func(t *testing.T) {
				t.Parallel()
				h := open(t)
				p := plan(t, workload, h.url, h.url+"/")
				p.Interface, p.WarmUp = face, 50*time.Millisecond
				before := h.grants()
				r := busy(t, p, load.Options{PIDs: []int{os.Getpid()}}, func() { before = h.grants() })
				if phases(r) != workload {
					t.Fatalf("phases %q", phases(r))
				}
				got := r.Phases[0]
				if granted := h.grants() - before - 1; got.Operations+got.Outside != granted {
					t.Errorf("%d operations and %d outside, but %d grants", got.Operations, got.Outside, granted)
				}
				if got.ServerMemory == nil || *got.ServerMemory == 0 || got.ServerCPU == nil {
					t.Errorf("nothing is known of the server's process: %+v", got)
				}
				h.empty()
			})
		}
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	h := open(t)
	p := plan(t, load.Hold, h.url)
	p.Rate, p.Owner, p.Metadata, p.Duration = 500, 256, 4096, time.Second
	r := run(t, p, load.Options{})
	consistent(t, r)
	if phases(r) != "take renew release" || r.Phases[0].Operations != 50 || r.Phases[1].Operations == 0 || r.Phases[2].Operations != 50 {
		t.Errorf("%+v", r.Phases)
	}
	if got := h.grants(); got != 50 {
		t.Errorf("%d grants", got)
	}
	h.empty()
}

func TestWait(t *testing.T) {
	t.Parallel()
	h := open(t)
	p := plan(t, load.Wait, h.url)
	p.Connections = 70 // more than connect at a time
	r := run(t, p, load.Options{})
	consistent(t, r)
	if phases(r) != "park stay drain" || r.Phases[0].Operations != 70 || r.Phases[2].Operations != 70 {
		t.Errorf("%+v", r.Phases)
	}
	if got := h.grants(); got != 71 {
		t.Errorf("%d grants", got)
	}
	h.empty()
}

// Whenever a run is interrupted, it says so, and gives back what it has.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, workload := range []string{load.Pairs, load.Handoff, load.Hold, load.Wait} {
		t.Run(workload, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := plan(t, workload, h.url)
			p.Duration = time.Hour
			r, err := load.Run(ctx, p, load.Options{Watch: func(load.Moment) { cancel() }})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Interrupted || len(r.Phases) == 0 || r.Left != 0 {
				t.Errorf("%+v", r)
			}
			h.empty()
		})
	}
}

// A broken server is counted, not believed.
func TestFailuresAreCounted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, code string
		handle     http.HandlerFunc
	}{
		{"problem", "too_many_locks", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"code":"too_many_locks","x":1}`)
		}},
		{"no problem", "http_502", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }},
		{"hangs up", "connection_lost", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(tt.handle)
			defer s.Close()
			for _, workload := range []string{load.Pairs, load.Handoff, load.Hold, load.Wait} {
				r := run(t, plan(t, workload, s.URL), load.Options{})
				var failures int64
				for _, p := range r.Phases {
					if p.Operations != 0 || len(p.Errors) > 1 || len(p.Errors) == 1 && p.Errors[tt.code] == 0 {
						t.Errorf("%s: %+v", workload, p)
					}
					failures += p.Errors[tt.code]
				}
				if failures == 0 {
					t.Errorf("%s: nothing was counted: %+v", workload, r)
				}
			}
		})
	}
}

// A silent server is waited for until the time-out, and then cut off.
func TestSilence(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	p := plan(t, load.Pairs, s.URL)
	p.Timeout = 200 * time.Millisecond
	r := run(t, p, load.Options{})
	if r.Phases[0].Operations != 0 || r.Left == 0 {
		t.Errorf("%+v", r)
	}
}

// The connections of an endpoint that fails move on to the next one.
func TestNextEndpoint(t *testing.T) {
	t.Parallel()
	h := open(t)
	var refused atomic.Int64
	bad := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		refused.Add(1)
		panic(http.ErrAbortHandler)
	}))
	defer bad.Close()
	r := run(t, plan(t, load.Hold, bad.URL, h.url), load.Options{})
	if refused.Load() == 0 || r.Phases[2].Operations < 40 || r.Left != 0 {
		t.Errorf("%+v", r)
	}
	h.empty()
}

// A lock that the server has lost is an error, and is not renewed again.
func TestLostHold(t *testing.T) {
	t.Parallel()
	h := open(t)
	p := plan(t, load.Hold, h.url)
	p.Rate, p.Locks, p.Duration = 100, 4, time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	broken := false
	r, err := load.Run(ctx, p, load.Options{Watch: func(m load.Moment) {
		if m.Phase == "renew" && !broken {
			broken = true
			h.breakOne()
		} else if m.Errors > 0 {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Phases[1].Errors["broken"]+r.Phases[1].Errors["not_held"] != 1 {
		t.Errorf("%+v", r.Phases[1])
	}
	h.empty()
}

// breakOne ends a hold of the run by order.
func (h *house) breakOne() {
	var list struct{ Locks []struct{ Name string } }
	h.get(http.MethodGet, "/v1/locks?prefix=t%20e-", &list)
	if len(list.Locks) == 0 {
		h.t.Error("nothing is held")
		return
	}
	path := "/v1/locks/" + strings.ReplaceAll(list.Locks[0].Name, " ", "%20") + "/holders?reason=test"
	var answer any
	h.get(http.MethodDelete, path, &answer)
}

func TestNonsense(t *testing.T) {
	for name, change := range map[string]func(*load.Plan){
		"no workload":         func(p *load.Plan) { p.Workload = "dance" },
		"no interface":        func(p *load.Plan) { p.Interface = "v0" },
		"seed cannot wait":    func(p *load.Plan) { p.Interface, p.Workload = load.Seed, load.Wait },
		"seed has no owner":   func(p *load.Plan) { p.Interface, p.Owner = load.Seed, 1 },
		"no server":           func(p *load.Plan) { p.Endpoints = nil },
		"no connections":      func(p *load.Plan) { p.Connections = 0 },
		"no time":             func(p *load.Plan) { p.Duration = 0 },
		"short ttl":           func(p *load.Plan) { p.TTL = time.Millisecond },
		"big owner":           func(p *load.Plan) { p.Owner = 257 },
		"big metadata":        func(p *load.Plan) { p.Metadata = -1 },
		"too few names":       func(p *load.Plan) { p.Names = 3 },
		"too few locks":       func(p *load.Plan) { p.Workload, p.Locks = load.Hold, 3 },
		"slow renewals":       func(p *load.Plan) { p.Workload, p.Rate = load.Hold, 1 },
		"negative rate":       func(p *load.Plan) { p.Rate = -1 },
		"hand-offs at a rate": func(p *load.Plan) { p.Workload, p.Rate = load.Handoff, 1 },
		"long prefix":         func(p *load.Plan) { p.Prefix = strings.Repeat("x", 300) },
	} {
		p := plan(t, load.Pairs, "http://127.0.0.1:1")
		change(&p)
		if _, err := load.Run(t.Context(), p, load.Options{}); err == nil {
			t.Errorf("%s: it ran", name)
		}
	}
	if _, err := load.Run(t.Context(), plan(t, load.Pairs, "http://127.0.0.1:1"), load.Options{PIDs: []int{1 << 30}}); err == nil {
		t.Error("it saw a process that is not there")
	}
	for _, url := range []string{"ftp://x", "http://a b"} {
		if _, err := load.NewEndpoint(url, nil); err == nil {
			t.Errorf("%q is an endpoint", url)
		}
	}
}

// Through TLS, with a certificate that is trusted by name, and not without.
func TestTLS(t *testing.T) {
	t.Parallel()
	h := open(t)
	real, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(real) }})
	defer proxy.Close()
	roots := x509.NewCertPool()
	roots.AddCert(proxy.Certificate())
	p := plan(t, load.Pairs)
	e, err := load.NewEndpoint(proxy.URL+"/", &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	p.Endpoints = append(p.Endpoints, e)
	busy(t, p, load.Options{}, func() {})
	h.empty()

	stranger := plan(t, load.Pairs, proxy.URL)
	if r := run(t, stranger, load.Options{}); r.Phases[0].Operations != 0 || r.Phases[0].Errors["connection_lost"] == 0 {
		t.Errorf("%+v", r.Phases[0])
	}
}
