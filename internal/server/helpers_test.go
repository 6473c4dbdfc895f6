package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// door is a running server over a volatile node, with everything that a test looks at.
type door struct {
	t       *testing.T
	server  *Server
	backend *spy
	metrics *Metrics
	client  *http.Client
	check   *checker
	url     string
	addr    string
	logs    *syncBuffer
}

// spy is a Backend that passes everything on to a node, can be told to fail, and counts what matters.
type spy struct {
	Backend
	mu        sync.Mutex // guards what follows
	fail      error
	reason    string
	full      *locktable.Outcome
	acquires  []*command.Acquire
	releases  []*command.Release
	abandoned atomic.Int64
	postponed atomic.Int64
	panics    atomic.Bool
}

func (s *spy) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *spy) answerWith(code locktable.Code) {
	s.plan(locktable.Outcome{Code: code})
}

func (s *spy) plan(out locktable.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = &out
}

// recover ends what failWith and answerWith began.
func (s *spy) recover() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.full = nil, nil
}

func (s *spy) planned() (locktable.Outcome, error, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full != nil {
		return *s.full, nil, true
	}
	return locktable.Outcome{}, s.fail, s.fail != nil
}

func (s *spy) Propose(ctx context.Context, c *command.Command) (locktable.Outcome, error) {
	if s.panics.Load() {
		panic("a planted panic with a secret: " + plantedKey)
	}
	if r := c.GetRelease(); r != nil {
		s.mu.Lock()
		s.releases = append(s.releases, r)
		s.mu.Unlock()
	}
	if out, err, ok := s.planned(); ok {
		return out, err
	}
	return s.Backend.Propose(ctx, c)
}

func (s *spy) Acquire(ctx context.Context, a *command.Acquire, sl node.Slice) (locktable.Outcome, error) {
	s.mu.Lock()
	s.acquires = append(s.acquires, a)
	s.mu.Unlock()
	if out, err, ok := s.planned(); ok {
		return out, err
	}
	return s.Backend.Acquire(ctx, a, sl)
}

func (s *spy) ClaimTask(ctx context.Context, a *command.ClaimTask, sl node.Slice) (locktable.Outcome, error) {
	if out, err, ok := s.planned(); ok {
		return out, err
	}
	return s.Backend.ClaimTask(ctx, a, sl)
}

func (s *spy) Abandon(key string, attachment uint64) {
	s.abandoned.Add(1)
	s.Backend.Abandon(key, attachment)
}

func (s *spy) AbandonLater(key string, attachment uint64) {
	s.postponed.Add(1)
	s.Backend.AbandonLater(key, attachment)
}

func (s *spy) Status() node.Status {
	st := s.Backend.Status()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != "" {
		st.Ready, st.Reason = false, s.reason
	}
	return st
}

// asked is how many acquires reached the backend.
func (s *spy) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acquires)
}

// syncBuffer is a bytes.Buffer for many goroutines.
type syncBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

const (
	plantedKey     = "CANARYkeyCANARYkeyCANARYkey00001"
	plantedSession = "CANARYsesCANARYsesCANARYses00001"
	plantedAPIKey  = "canary-api-key-8c1f"
)

// openDoor starts a server on a free loopback port. change may adjust its configuration.
func openDoor(t *testing.T, change ...func(*Config)) *door {
	t.Helper()
	logs := &syncBuffer{}
	logger := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	metrics := NewMetrics()
	n, err := node.Open(t.Context(), node.Config{Logger: logger, Observer: metrics})
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, backend: &spy{Backend: n}, metrics: metrics, logs: logs}
	c := Config{Backend: d.backend, Listen: "127.0.0.1:0", Version: "test", Logger: logger, Metrics: metrics}
	for _, f := range change {
		f(&c)
	}
	if d.server, err = New(c); err != nil {
		t.Fatal(err)
	}
	if err := d.server.Listen(); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.server.Serve() }()
	d.addr = d.server.Addr().String()
	d.url = "http://" + d.addr
	d.check = newChecker(t, d.server)
	d.client = &http.Client{Transport: d.check}
	t.Cleanup(func() {
		d.check.base.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := d.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		d.noSecrets()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

var looksSecret = regexp.MustCompile(`[0-9A-Za-z]{32}`)

// noSecrets looks for every key that any client sent or got, in all logs and metrics.
func (d *door) noSecrets() {
	d.t.Helper()
	var metrics bytes.Buffer
	families, err := d.metrics.registry.Gather()
	if err != nil {
		d.t.Error(err)
	}
	for _, f := range families {
		metrics.WriteString(f.String())
	}
	ids := d.backend.Backend.Status()
	public := strings.NewReplacer(ids.NodeID, "node", ids.ClusterID, "cluster")
	for place, text := range map[string]string{"log": d.logs.String(), "metrics": metrics.String()} {
		text = public.Replace(text)
		for _, m := range looksSecret.FindAllString(text, -1) {
			d.t.Errorf("something that looks like a key is in the %s: %s", place, m)
		}
		for _, s := range []string{plantedKey, plantedSession, plantedAPIKey, "canary-name"} {
			if strings.Contains(text, s) {
				d.t.Errorf("%s is in the %s", s, place)
			}
		}
	}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a *answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%v in %q", err, a.body)
	}
	return m
}

// request sends one request; headers come in pairs.
func (d *door) request(ctx context.Context, method, path, body string, headers ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return &answer{res.StatusCode, res.Header, string(data)}, err
}

func (d *door) do(method, path, body string, headers ...string) *answer {
	d.t.Helper()
	a, err := d.request(d.t.Context(), method, path, body, headers...)
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

func (d *door) get(path string, headers ...string) *answer {
	d.t.Helper()
	return d.do(http.MethodGet, path, "", headers...)
}

// want sends a request and checks status and, unless it is "*", the whole body.
func (d *door) want(status int, body, method, path, send string, headers ...string) *answer {
	d.t.Helper()
	a := d.do(method, path, send, headers...)
	if a.status != status || body != "*" && a.body != body {
		d.t.Errorf("%s %s %s: %d %q, want %d %q", method, path, send, a.status, a.body, status, body)
	}
	return a
}

// take acquires a lock by the seed interface and returns the key.
func (d *door) take(name string) string {
	d.t.Helper()
	a := d.get("/getLock/" + name)
	if a.status != 200 || len(a.body) != locktable.KeyLen {
		d.t.Fatalf("take %s: %d %q", name, a.status, a.body)
	}
	return a.body
}

// waiting blocks until n wait for the lock.
func (d *door) waiting(name string, n int) {
	d.t.Helper()
	d.until("waiters of "+name, func(t *locktable.Table) bool {
		l, _ := t.Lock(name, 0)
		return l.NumWaiters == n
	})
}

// until looks at the table again and again, as the only way to see from outside that a request has got so far.
func (d *door) until(what string, ok func(t *locktable.Table) bool) {
	d.t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		good := false
		if err := d.backend.Read(context.Background(), func(t *locktable.Table, _ locktable.Time) { good = ok(t) }); err != nil {
			d.t.Fatal(err)
		}
		if good {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			d.t.Fatalf("%s: not within 5 s", what)
		}
	}
}

// dial opens a raw connection.
func (d *door) dial() net.Conn {
	d.t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// raw sends bytes and returns all that comes back until the server closes.
func (d *door) raw(request string) string {
	d.t.Helper()
	c := d.dial()
	if _, err := io.WriteString(c, request); err != nil {
		d.t.Fatal(err)
	}
	data, _ := io.ReadAll(c) // a reset after the answer is as good as an end
	return string(data)
}
