//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// newClient returns an HTTP client with its own connections and no time-out.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true}}
}

// reply is an answer, or the reason why there is none. received is when it was read to its end.
type reply struct {
	status         int
	header         http.Header
	body           string
	err            error
	sent, received time.Time
}

// ok tells whether the server said that it did what was asked.
func (r reply) ok() bool { return r.err == nil && r.status == http.StatusOK }

func (r reply) String() string {
	if r.err != nil {
		return r.err.Error()
	}
	return fmt.Sprintf("%d %s", r.status, r.body)
}

// do sends a request and never fails the test. What it learns that may not contain a key goes to the archive.
func (s *server) do(ctx context.Context, method, path, body string, header ...string) reply {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.options.apiKey != "" {
		req.Header.Set("Authorization", "Bearer "+s.options.apiKey)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	r := reply{sent: time.Now()}
	resp, err := s.client.Do(req)
	if err != nil {
		r.err = err
		return r
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	r.received, r.status, r.header, r.body, r.err = time.Now(), resp.StatusCode, resp.Header, string(b), err
	s.file(method+" "+path, r)
	return r
}

// file puts what an answer says into the archive.
func (s *server) file(request string, r reply) {
	where := s.t.Name() + ": " + request[:min(len(request), 40)]
	switch {
	case r.status == http.StatusConflict:
		evidence.add(fromRefusal, where, []byte(r.body))
	case r.status >= http.StatusBadRequest:
		evidence.add(fromError, where, []byte(r.body))
	case strings.HasPrefix(request, "GET /metrics"):
		evidence.add(fromMetrics, where, []byte(r.body))
	}
}

func (s *server) get(path string, header ...string) reply {
	return s.do(context.Background(), http.MethodGet, path, "", header...)
}

func (s *server) post(path string, body any) reply {
	return s.do(context.Background(), http.MethodPost, path, encode(body))
}

func encode(body any) string {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // only of what a test wrote
	}
	return string(b)
}

// decode reads the body of an answer that must be a success.
func decode[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	if !r.ok() {
		t.Fatalf("no success: %v", r)
	}
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return v
}

// request is the body of an acquire. Every client says who it is, so that the sweep has something to find.
type request struct {
	Key      string  `json:"key,omitempty"`
	TTL      float64 `json:"ttl,omitempty"`
	Wait     float64 `json:"wait,omitempty"`
	Session  string  `json:"session,omitempty"`
	Owner    string  `json:"owner,omitempty"`
	Metadata string  `json:"metadata,omitempty"`
}

// grant is the answer to an acquire.
type grant struct {
	Name      string
	Key       string
	Token     uint64
	TTL       float64
	ExpiresIn float64 `json:"expires_in"`
	Waited    float64
}

// token returns the fencing token of a grant, or 0 if r is none.
func (r reply) token() uint64 {
	var g grant
	if !r.ok() || json.Unmarshal([]byte(r.body), &g) != nil {
		return 0
	}
	return g.Token
}

// lockView is what everybody may know of a lock.
type lockView struct {
	Held        bool
	Holders     []holderView
	QueueLength int `json:"queue_length"`
	Queue       []struct {
		Owner    string
		Position int
	}
}

type holderView struct {
	Owner, Metadata string
	Token           uint64
	TTL             float64
	ExpiresIn       float64 `json:"expires_in"`
}

// holdsView is what a key stands for.
type holdsView struct {
	Held      bool
	TTL       float64
	ExpiresIn float64 `json:"expires_in"`
	Locks     []struct {
		Name     string
		Held     bool
		Token    uint64
		Position int
	}
}

// problem is the body of a refusal.
type problem struct {
	Code        string
	Detail      string
	QueueLength int `json:"queue_length"`
}

// problemOf reads a refusal, which must have the status.
func problemOf(t *testing.T, r reply, status int) problem {
	t.Helper()
	var p problem
	if r.err != nil || r.status != status {
		t.Fatalf("want status %d: %v", status, r)
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return p
}

func lockPath(name string) string { return "/v1/locks/" + url.PathEscape(name) }

// tryAcquire asks for a lock and tells what came of it.
func (s *server) tryAcquire(ctx context.Context, name string, q request) reply {
	if q.Owner == "" {
		q.Owner = canaryOwner
	}
	q.Metadata += canaryMetadata
	r := s.do(ctx, http.MethodPost, lockPath(name), encode(q))
	var g grant
	if r.ok() && q.Key == "" && json.Unmarshal([]byte(r.body), &g) == nil {
		evidence.secret(g.Key)
	}
	return r
}

// acquire takes a lock that must be free.
func (s *server) acquire(name string, q request) grant {
	s.t.Helper()
	return decode[grant](s.t, s.tryAcquire(context.Background(), name, q))
}

// tryRelease gives a hold or place up and tells what came of it.
func (s *server) tryRelease(name, key string) reply {
	return s.do(context.Background(), http.MethodDelete, lockPath(name), "", "Lock-Key", key)
}

func (s *server) release(name, key string) {
	s.t.Helper()
	if r := s.tryRelease(name, key); !r.ok() {
		s.t.Fatalf("release %s: %v", name, r)
	}
}

func (s *server) show(name string) lockView {
	s.t.Helper()
	return decode[lockView](s.t, s.get(lockPath(name)))
}

// holds asks what a key stands for; the answer is 404 if it is nothing.
func (s *server) holds(key string) reply { return s.get("/v1/holds", "Lock-Key", key) }

// awaitQueue returns when n clients wait for the lock.
func (s *server) awaitQueue(name string, n int, within time.Duration) {
	s.t.Helper()
	eventually(s.t, within, fmt.Sprintf("%d clients wait", n), func() bool { return s.show(name).QueueLength == n })
}

// seedGet speaks the seed interface: the body is all there is.
func (s *server) seedGet(path string) string {
	s.t.Helper()
	r := s.get(path)
	if !r.ok() {
		s.t.Fatalf("%s: %v", path, r)
	}
	if len(r.body) == rig.KeyLength {
		evidence.secret(r.body)
	}
	return r.body
}

// metric reads one number without labels from /metrics.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	for line := range strings.Lines(s.get("/metrics").body) {
		var v float64
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			if _, err := fmt.Sscan(rest, &v); err != nil {
				s.t.Fatal(err)
			}
			return v
		}
	}
	s.t.Fatalf("/metrics has no %s", name)
	return 0
}
