package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// TestHangingUpLeavesTheQueue closes the connections of waiting clients of each kind.
func TestHangingUpLeavesTheQueue(t *testing.T) {
	for _, c := range []struct{ what, request string }{
		{"seed", "GET /getLock/q?timeout=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"classic", "GET /getlock?lockname=q&timeout=-1 HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"v1", "POST /v1/locks/q HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"wait\":60}"},
		{"old", "GET /getLock/q?timeout=60 HTTP/1.0\r\n\r\n"},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := openDoor(t)
			holder := d.take("q")
			conn := d.dial()
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			d.waiting("q", 1)
			left := time.Now()
			_ = conn.Close()
			d.waiting("q", 0)
			if late := time.Since(left); late > time.Second {
				t.Errorf("it left the queue after %v", late)
			}
			d.want(200, "released", "GET", "/releaseLock/q/"+holder, "")
			// Nobody was granted the lock: it is free for the next one.
			d.take("q")
			if log := d.logs.String(); strings.Contains(log, "a request failed") {
				t.Errorf("a client that leaves is no mistake of the server: %s", log)
			}
		})
	}
}

// TestResetHTTP2StreamLeavesTheQueue cancels one stream of a connection that lives on.
func TestResetHTTP2StreamLeavesTheQueue(t *testing.T) {
	d := openDoor(t)
	d.overHTTP2()
	holder := d.take("q")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := d.request(ctx, "GET", "/getLock/q?timeout=60", "")
		ended <- err
	}()
	d.waiting("q", 1)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	d.waiting("q", 0)
	d.want(200, "released", "GET", "/releaseLock/q/"+holder, "")
	d.take("q")
}

// overHTTP2 makes the client speak HTTP/2 without TLS.
func (d *door) overHTTP2() {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	d.check.base = &http.Transport{Protocols: &p}
}

func TestHTTP2(t *testing.T) {
	d := openDoor(t)
	d.overHTTP2()
	key := d.take("a")
	d.ok("POST", "/v1/locks/b", `{"ttl":10}`)
	d.problem(413, CodeBodyTooLarge, "POST", "/v1/locks/a", `{"metadata":"`+strings.Repeat("x", maxBodyBytes)+`"}`)
	// More waiters than one HTTP/1 connection could carry, parked on one connection.
	const n = 50
	got := make(chan string, n)
	for range n {
		go func() {
			a, err := d.request(t.Context(), "GET", "/getLock/a?timeout=60", "")
			if err != nil {
				t.Error(err)
				got <- ""
				return
			}
			got <- a.body
		}()
	}
	d.waiting("a", n)
	for range n {
		d.want(200, "released", "GET", "/releaseLock/a/"+key, "")
		key = <-got
		if !keyPattern.MatchString(key) {
			t.Fatalf("a waiter got %q", key)
		}
	}
}

// TestUndeliveredGrantIsReleased lets the client vanish between the grant and its answer.
func TestUndeliveredGrantIsReleased(t *testing.T) {
	for _, path := range []string{"/getLock/u", "/getLock/u?timeout=10", "/getlock?lockname=u"} {
		d := openDoor(t)
		w := &brokenWriter{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequestWithContext(t.Context(), "GET", path, http.NoBody)
		r.Host = "localhost"
		d.server.ServeHTTP(w, r)
		d.until("release", func(tb *locktable.Table) bool { return tb.Stats().Held == 0 && tb.Stats().LastToken == 1 })
		if n := d.backend.abandoned.Load(); n != 1 {
			t.Errorf("%s: abandoned %d times", path, n)
		}
	}
}

// brokenWriter is a connection that breaks when the answer is flushed.
type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) FlushError() error { return os.ErrDeadlineExceeded }

func TestGrantForDepartedClientIsReleased(t *testing.T) {
	d := openDoor(t)
	ctx, cancel := context.WithCancel(t.Context())
	d.server.backend = &leavesAfterGrant{d.backend, cancel}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, "POST", "/v1/locks/u", http.NoBody)
	r.Host = "localhost"
	d.server.ServeHTTP(w, r)
	d.until("release", func(tb *locktable.Table) bool { return tb.Stats().Held == 0 && tb.Stats().LastToken == 1 })
}

// A client may end its sending half right after the request, as `nc -N` does, and read the answer: the lock is its own.
// One that closes the connection is gone, and its grant is taken back.
func TestHalfClosedIsNotGone(t *testing.T) {
	d := openDoor(t)
	conn := dialTCP(t, d)
	_, _ = io.WriteString(conn, "GET /getLock/half HTTP/1.1\r\nHost: localhost\r\n\r\n")
	_ = conn.CloseWrite()
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK") {
		t.Fatalf("answer %q, error %v", answer, err)
	}
	if n := d.backend.abandoned.Load(); n != 0 {
		t.Errorf("abandoned %d times", n)
	}
	// Not each: the answer may have been on its way before the end of the connection was seen.
	for i := 0; d.backend.abandoned.Load() == 0; i++ {
		if i == 5000 {
			t.Fatal("no grant was taken back")
		}
		conn := dialTCP(t, d)
		_, _ = io.WriteString(conn, "GET /getLock/gone"+strconv.Itoa(i)+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		_ = conn.Close()
	}
}

func dialTCP(t *testing.T, d *door) *net.TCPConn {
	t.Helper()
	conn, ok := d.dial().(*net.TCPConn)
	if !ok {
		t.Fatal("not a TCP connection")
	}
	return conn
}

// leavesAfterGrant ends the client's connection as soon as its lock is granted.
type leavesAfterGrant struct {
	Backend
	leave context.CancelFunc
}

func (b *leavesAfterGrant) Acquire(ctx context.Context, a *command.Acquire, sl node.Slice) (locktable.Outcome, error) {
	out, err := b.Backend.Acquire(ctx, a, sl)
	b.leave()
	return out, err
}

// slowBackend holds up each command until it may go on.
type slowBackend struct {
	Backend
	inside, goOn chan struct{}
}

func (b *slowBackend) Propose(ctx context.Context, c *command.Command) (locktable.Outcome, error) {
	close(b.inside)
	<-b.goOn
	return b.Backend.Propose(ctx, c)
}

// TestShutdownAnswersWaiters ends a server with parked clients: they are told to come back, and the one that brings its
// own key still has its place.
func TestShutdownAnswersWaiters(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/locks/q", `{"key":"`+key(1)+`"}`)
	answers := make(chan *answer, 2)
	for _, c := range [][3]string{{"POST", "/v1/locks/q", `{"wait":60,"key":"` + key(2) + `"}`}, {"GET", "/getLock/q?timeout=60", ""}} {
		go func() {
			a, err := d.request(context.Background(), c[0], c[1], c[2])
			if err != nil {
				t.Error(err)
				a = &answer{}
			}
			answers <- a
		}()
	}
	d.waiting("q", 2)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := d.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if a := <-answers; a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%d %q, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
		}
	}
	// The seed's place is gone, since nobody knows its key; the other is kept.
	d.waiting("q", 1)
	if _, err := net.Dial("tcp", d.addr); err == nil {
		t.Error("the server still accepts")
	}
	if !d.server.stopping.Load() {
		t.Error("not stopping")
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	d := openDoor(t)
	inside, goOn := make(chan struct{}), make(chan struct{})
	d.server.backend = &slowBackend{d.backend, inside, goOn}
	got := make(chan *answer, 1)
	go func() {
		a, err := d.request(context.Background(), "POST", "/v1/sessions", "")
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	<-inside
	ended := make(chan error, 1)
	go func() { ended <- d.server.Shutdown(context.Background()) }()
	<-d.server.ended
	close(goOn)
	if a := <-got; a == nil || a.status != 200 {
		t.Errorf("answer %+v", a)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestPipelined: requests on one connection are answered in order, one after the other.
func TestPipelined(t *testing.T) {
	d := openDoor(t)
	one := "GET /getLock/p HTTP/1.1\r\nHost: localhost\r\n\r\n"
	last := "GET /getLock/p HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	r := bufio.NewReader(strings.NewReader(d.raw(one + one + last)))
	var bodies []string
	for range 3 {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		bodies = append(bodies, string(b))
	}
	if !keyPattern.MatchString(bodies[0]) || bodies[1] != "false" || bodies[2] != "false" {
		t.Errorf("%q", bodies)
	}
}
