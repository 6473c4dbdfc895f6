package server

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// echo is a Backend that grants everything and remembers what it was asked.
type echo struct {
	acquire *command.Acquire
	claim   *command.ClaimTask
	release *command.Release
	cmd     *command.Command // the last one that was proposed
	table   *locktable.Table
}

func (e *echo) Propose(_ context.Context, c *command.Command) (locktable.Outcome, error) {
	e.cmd, e.release = c, c.GetRelease()
	if c.GetAsk() != nil {
		return locktable.Outcome{Code: locktable.Done}, nil
	}
	return locktable.Outcome{Code: locktable.Released, Released: 1}, nil
}

func (e *echo) Acquire(_ context.Context, a *command.Acquire, _ node.Slice) (locktable.Outcome, error) {
	e.acquire = a
	return locktable.Outcome{Code: locktable.Granted, Token: 1, TTL: time.Duration(a.GetTtl())}, nil
}

func (e *echo) ClaimTask(_ context.Context, a *command.ClaimTask, _ node.Slice) (locktable.Outcome, error) {
	e.claim = a
	return locktable.Outcome{Code: locktable.Granted, Token: 1, TTL: time.Duration(a.GetTtl()), Task: &locktable.TaskInfo{Attempts: 1}}, nil
}

func (e *echo) Read(_ context.Context, f func(*locktable.Table, locktable.Time)) error {
	f(e.table, 0)
	return nil
}
func (e *echo) Abandon(string, uint64) {}

func (e *echo) AbandonLater(string, uint64) {}
func (e *echo) Status() node.Status         { return node.Status{Ready: true} }
func (e *echo) StopWaiting()                {}

func (e *echo) Events(context.Context, *node.EventID, func(*locktable.Event) bool) (*node.Events, error) {
	return nil, node.ErrUnavailable
}

func echoServer(t testing.TB) (*Server, *echo) {
	t.Helper()
	e := &echo{table: locktable.New(locktable.DefaultSettings())}
	s, err := New(Config{Backend: e, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s, e
}

// goodName is the rule of the contract, written again.
func goodName(n string) bool {
	return n != "" && len(n) <= 512 && n != "." && n != ".." && utf8.ValidString(n) && strings.IndexFunc(n, unicode.IsControl) < 0
}

// FuzzSeedPath sends any target, and any name in its usual encoding: the name that reaches the table is the one in the
// URL, and the answer is one of those of the contract.
func FuzzSeedPath(f *testing.F) {
	for _, s := range []string{"/getLock/a", "/getLock/a%2Fb/30", "/getLock//30", "/releaseLock/a/" + plantedKey, "/getLock/%zz", "/getLock/a?timeout=1", "//getLock/a", "/getLock/a%2Fb\"", "/getlock?lockname=a", "*", "/getLock/é/1.5", "/getLock/..%2F.."} {
		f.Add(s, s)
	}
	s, e := echoServer(f)
	f.Fuzz(func(t *testing.T, target, name string) {
		e.acquire, e.release = nil, nil
		if status, body, ok := serve(s, "GET", target, ""); ok {
			checkSeedAnswer(t, e, target, status, body)
		}
		e.acquire = nil
		status, body, _ := serve(s, "GET", "/getLock/"+url.PathEscape(name), "")
		if !goodName(name) {
			if status != http.StatusBadRequest || e.acquire != nil {
				t.Fatalf("%q: %d %q, asked for %v", name, status, body, e.acquire)
			}
			return
		}
		if status != http.StatusOK || e.acquire.GetName() != name || body != e.acquire.GetKey() {
			t.Fatalf("%q: %d %q, asked for %v", name, status, body, e.acquire)
		}
	})
}

// serve asks s as net/http would, or returns false if net/http would not pass such a target on.
func serve(s *Server, method, target, body string) (status int, answer string, ok bool) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return 0, "", false
	}
	r := httptest.NewRequestWithContext(context.Background(), method, "/", strings.NewReader(body))
	r.URL, r.RequestURI, r.Host = u, target, "localhost"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String(), true
}

func checkSeedAnswer(t *testing.T, e *echo, target string, status int, body string) {
	path, _, _ := strings.Cut(target, "?")
	parts := strings.Split(path, "/")
	seed := len(parts) > 1 && (parts[1] == "getLock" || parts[1] == "releaseLock") && parts[0] == ""
	switch {
	case !seed:
		return
	case e.acquire != nil:
		name, err := url.PathUnescape(parts[2])
		if err != nil || e.acquire.GetName() != name || !goodName(name) || status != 200 || body != e.acquire.GetKey() {
			t.Fatalf("%q: %d %q, asked for %v", target, status, body, e.acquire)
		}
	case e.release != nil:
		name, err := url.PathUnescape(parts[2])
		if err != nil || e.release.GetName() != name || status != 200 || body != seedReleased {
			t.Fatalf("%q: %d %q, asked for %v", target, status, body, e.release)
		}
	case status == 200:
		if body != seedFalse || parts[1] != "releaseLock" {
			t.Fatalf("%q: %d %q", target, status, body)
		}
	case status != 400 && status != 404:
		t.Fatalf("%q: %d %q", target, status, body)
	}
}

// looseAcquire is how encoding/json sees the body of an acquire.
type looseAcquire struct {
	TTL       *float64 `json:"ttl"`
	Wait      float64  `json:"wait"`
	Key       string   `json:"key"`
	Mode      string   `json:"mode"`
	Slots     uint32   `json:"slots"`
	Session   string   `json:"session"`
	Owner     string   `json:"owner"`
	Metadata  string   `json:"metadata"`
	LockDelay float64  `json:"lock_delay"`
}

// FuzzAcquireBody: a body that is accepted means the same to another JSON decoder.
func FuzzAcquireBody(f *testing.F) {
	for _, s := range []string{
		`{}`, ``, `{"ttl":30}`, `{"ttl":1.5e1,"wait":-1}`, `{"key":"` + plantedKey + `"}`, `{"mode":"shared","owner":"\u00e9\n"}`, `{"slots":3,"metadata":"x"}`,
		`{"ttl":1,"ttl":2}`, `{"TTL":1}`, `{"session":"` + plantedSession + `"}`, `{"lock_delay":0.1}`, `{"ttl":null}`, `{} {}`, `{"ttl":1e999}`, `{"owner":"\ud800"}`,
	} {
		f.Add(s)
	}
	s, e := echoServer(f)
	f.Fuzz(func(t *testing.T, body string) {
		e.acquire, e.release = nil, nil
		status, answer, _ := serve(s, "POST", "/v1/locks/a", body)
		if status != http.StatusOK {
			if e.acquire != nil || status < 400 || status >= 500 || !json.Valid([]byte(answer)) {
				t.Fatalf("%q: %d %q, asked for %v", body, status, answer, e.acquire)
			}
			return
		}
		compareBodies(t, body, e.acquire)
	})
}

func compareBodies(t *testing.T, body string, got *command.Acquire) {
	var loose looseAcquire
	dec := json.NewDecoder(strings.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&loose); err != nil && (body != "" || err != io.EOF) {
		t.Fatalf("%q was accepted, but encoding/json says %v", body, err)
	}
	ttl := 30.0
	switch {
	case loose.Session != "":
		ttl = 0
	case loose.TTL != nil:
		ttl = *loose.TTL
	}
	want := map[string]any{
		"session": loose.Session, "owner": loose.Owner, "metadata": loose.Metadata, "shared": loose.Mode == "shared", "slots": loose.Slots,
	}
	have := map[string]any{
		"session": got.GetSession(), "owner": got.GetOwner(), "metadata": got.GetMetadata(), "shared": got.GetMode() == locktable.Shared, "slots": got.GetSlots(),
	}
	if loose.Key != "" {
		want["key"], have["key"] = loose.Key, got.GetKey()
	}
	if !reflect.DeepEqual(want, have) {
		t.Fatalf("%q: %v, encoding/json %v", body, have, want)
	}
	near(t, body, got.GetTtl(), ttl)
	near(t, body, got.GetLockDelay(), loose.LockDelay)
	if loose.Wait >= 0 {
		near(t, body, got.GetWait(), loose.Wait)
	} else if got.GetWait() >= 0 {
		t.Fatalf("%q: wait %d", body, got.GetWait())
	}
}

// near compares nanoseconds with seconds; the least positive duration is a millisecond.
func near(t *testing.T, body string, got int64, seconds float64) {
	want := seconds
	if seconds > 0 && seconds < 0.001 {
		want = 0.001
	}
	if diff := time.Duration(got).Seconds() - want; diff > 1e-6 || diff < -1e-6 {
		t.Fatalf("%q: %d ns, want %v s", body, got, want)
	}
}

// FuzzClaimBody: a claim that is accepted means the same to another JSON decoder, and its answer is JSON.
func FuzzClaimBody(f *testing.F) {
	for _, s := range []string{
		`{}`, ``, `{"ttl":30,"wait":-1}`, `{"keep":0}`, `{"keep":-1}`, `{"keep":60,"max_attempts":3,"retry_delay":1.5}`, `{"at_most_once":true}`,
		`{"every":0.1}`, `{"cron":"* * * *"}`, `{"cron":"30 2 * * *","zone":"Mars/Base"}`, `{"every":60,"cron":"* * * * *"}`, `{"at_least":1e9}`,
		`{"key":"` + plantedKey + `"}`, `{"session":"` + plantedSession + `"}`, `{"owner":"\u00e9","metadata":"a\nb"}`, `{"ttl":null}`, `{"Keep":1}`,
	} {
		f.Add(s)
	}
	s, e := echoServer(f)
	f.Fuzz(func(t *testing.T, body string) {
		if strings.Contains(body, "every") || strings.Contains(body, "cron") {
			return // they need a calendar, which this backend has not
		}
		e.claim = nil
		status, answer, _ := serve(s, "POST", "/v1/tasks/a", body)
		if !json.Valid([]byte(answer)) {
			t.Fatalf("%q: %q", body, answer)
		}
		if status != http.StatusOK {
			if e.claim != nil || status < 400 || status >= 500 {
				t.Fatalf("%q: %d %q, asked for %v", body, status, answer, e.claim)
			}
			return
		}
		var loose struct {
			Keep        *float64 `json:"keep"`
			MaxAttempts uint32   `json:"max_attempts"`
			AtMostOnce  bool     `json:"at_most_once"`
			RetryDelay  float64  `json:"retry_delay"`
			AtLeast     float64  `json:"at_least"`
			Owner       string   `json:"owner"`
		}
		if err := json.Unmarshal([]byte(body), &loose); err != nil && body != "" {
			t.Fatalf("%q was accepted, but encoding/json says %v", body, err)
		}
		if e.claim.GetMaxAttempts() != loose.MaxAttempts || e.claim.GetAtMostOnce() != loose.AtMostOnce || e.claim.GetOwner() != loose.Owner {
			t.Fatalf("%q: %v", body, e.claim)
		}
		near(t, body, e.claim.GetRetryDelay(), loose.RetryDelay)
		near(t, body, e.claim.GetAtLeast(), loose.AtLeast)
		if loose.Keep == nil || *loose.Keep < 0 {
			if e.claim.GetKeep() != -1 {
				t.Fatalf("%q: keep %d", body, e.claim.GetKeep())
			}
			return
		}
		near(t, body, e.claim.GetKeep(), *loose.Keep)
	})
}

// FuzzSetNames: whatever is sent as names is taken as it stands, or refused with a sentence.
func FuzzSetNames(f *testing.F) {
	for _, s := range []string{`["a"]`, `[]`, `["a","a"]`, `[{"name":"a","mode":"shared"},"b"]`, `[{"name":"a","slots":3}]`, `[[]]`, `[null]`, `{}`, `"a"`, `[{"name":"\ud800"}]`, `[{"name":"a"}`, `["\u0061","a"]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		v := jsontext.Value(raw)
		if !v.IsValid() || len(raw) > maxBodyBytes {
			return
		}
		_ = v.Compact()
		set, err := readSet(v)
		if err != nil {
			if err.Error() == "" || set != nil {
				t.Fatalf("%q: %v, %v", raw, set, err)
			}
			return
		}
		var loose []any
		if err := json.Unmarshal([]byte(raw), &loose); err != nil || len(loose) != len(set) || len(set) == 0 {
			t.Fatalf("%q: %v, encoding/json %v, %v", raw, set, loose, err)
		}
		for i, x := range loose {
			name, _ := x.(string)
			if m, ok := x.(map[string]any); ok {
				name, _ = m["name"].(string)
			}
			if set[i].GetName() != name {
				t.Fatalf("%q: %v, encoding/json %v", raw, set, loose)
			}
		}
	})
}
