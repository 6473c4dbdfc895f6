//go:build linux && !race

package counts

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/server"
)

const someKey = "CANARYkeyCANARYkeyCANARYkey00001"

// stub is a Backend that does everything at once and allocates nothing.
type stub struct {
	server.Backend
	table *locktable.Table
}

func (s *stub) Propose(_ context.Context, c *command.Command) (locktable.Outcome, error) {
	if c.GetRenew() != nil {
		return locktable.Outcome{Code: locktable.Renewed, Token: 1, TTL: 30 * time.Second}, nil
	}
	return locktable.Outcome{Code: locktable.Released, Released: 1}, nil
}

func (s *stub) Acquire(_ context.Context, a *command.Acquire, _ node.Slice) (locktable.Outcome, error) {
	return locktable.Outcome{Code: locktable.Granted, Token: 1, TTL: time.Duration(a.GetTtl())}, nil
}

func (s *stub) Read(_ context.Context, f func(*locktable.Table, locktable.Time)) error {
	f(s.table, 0)
	return nil
}

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) FlushError() error           { return nil }

// What a handler allocates beside net/http, the node and the table.
func TestHandlersAllocateLittle(t *testing.T) {
	byKey := http.Header{"Lock-Key": {someKey}}
	for _, c := range []struct {
		bound
		method, target, body string
		header               http.Header
	}{
		{seedAcquireAllocs, "GET", "/getLock/my-lock/30", "", nil},
		{seedReleaseAllocs, "GET", "/releaseLock/my-lock/" + someKey, "", nil},
		{v1AcquireAllocs, "POST", "/v1/locks/my-lock", `{"ttl":30,"key":"` + someKey + `","owner":"worker-7"}`, http.Header{"Content-Type": {"application/json"}}},
		{v1RenewAllocs, "POST", "/v1/locks/my-lock/renew", `{"key":"` + someKey + `"}`, http.Header{"Content-Type": {"application/json"}}},
		{v1ReleaseAllocs, "DELETE", "/v1/locks/my-lock", "", byKey},
	} {
		c.holds(t, allocationsOf(t, c.method, c.target, c.body, c.header))
	}
}

func allocationsOf(t *testing.T, method, target, body string, header http.Header) float64 {
	t.Helper()
	s, err := server.New(server.Config{Backend: &stub{table: locktable.New(locktable.DefaultSettings())}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	reader := bytes.NewReader(nil)
	r := (&http.Request{
		Method: method, URL: u, Host: "localhost", Header: header, Body: io.NopCloser(reader), ContentLength: int64(len(body)), ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(context.Background())
	w := &discard{header: make(http.Header, 8)}
	text := []byte(body)
	return testing.AllocsPerRun(1000, func() {
		reader.Reset(text)
		clear(w.header)
		w.status = http.StatusOK
		s.ServeHTTP(w, r)
		if w.status != http.StatusOK {
			t.Fatalf("%s %s: %d", method, target, w.status)
		}
	})
}
