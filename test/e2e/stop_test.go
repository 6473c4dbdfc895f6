//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// Those who wait are told to come back, and have their places when they do.
func TestGracefulStopKeepsPlaces(t *testing.T) {
	t.Parallel()
	const name, waiters = canaryName + "Graceful", 5
	s := start(t, options{})
	holder := s.acquire(name, request{Key: newKey(), TTL: 600})
	queue := s.parkInOrder(name, waiters, request{TTL: 600, Wait: 300})
	s.stop()
	for i, p := range queue {
		r := p.result(t, soon)
		if q := problemOf(t, r, http.StatusServiceUnavailable); q.Code != "unavailable" || r.header.Get("Retry-After") == "" {
			t.Errorf("waiter %d was told %v, Retry-After %q", i, r, r.header.Get("Retry-After"))
		}
	}

	s = s.restart()
	s.awaitQueue(name, waiters, soon) // nobody has come back yet
	again := make([]*parked, waiters)
	for i := waiters - 1; i >= 0; i-- {
		again[i] = s.park(name, request{Key: queue[i].key, TTL: 600, Wait: 300})
	}
	s.release(name, holder.Key)
	last := holder.Token
	for i, p := range again {
		g := decode[grant](t, p.result(t, soon))
		if g.Token <= last {
			t.Errorf("waiter %d has token %d after %d", i, g.Token, last)
		}
		last = g.Token
		s.release(name, g.Key)
	}
}

// The clients of the seed interface have no key to come back with: they are told, and leave nothing behind.
func TestGracefulStopOfSeedWaiters(t *testing.T) {
	t.Parallel()
	const name = canaryName + "SeedStop"
	s := start(t, options{})
	key := s.seedGet("/getLock/" + name + "/600")
	answer := make(chan reply, 1)
	go func() { answer <- s.get("/getLock/" + name + "?timeout=300") }()
	s.awaitQueue(name, 1, soon)
	s.stop()
	r := <-answer
	if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" || !strings.HasSuffix(r.body, ".") {
		t.Errorf("a waiter was told %v", r)
	}
	s = s.restart()
	s.awaitQueue(name, 0, soon)
	if got := s.seedGet("/releaseLock/" + name + "/" + key); got != "released" {
		t.Errorf("release: %q", got)
	}
}

// Under load, SIGTERM ends the server with 0, and everything that was acknowledged is there afterwards.
func TestGracefulStopUnderLoad(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	worked := make(chan *workload, 1)
	go func() { worked <- drive(s, time.Minute) }()
	s.awaitRequests(400)
	s.stop()
	w := <-worked
	if len(w.acks) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	w.verify(t, s.restart())
}

// awaitRequests returns when the server has logged so many requests.
func (s *server) awaitRequests(n int) {
	s.t.Helper()
	eventually(s.t, soon, fmt.Sprintf("%d requests", n), func() bool { return strings.Count(s.err.String(), `"msg":"request"`) >= n })
}

// halfRequest sends the first half of a request, so that the server has something in flight, and waits until it has it.
func (s *server) halfRequest() net.Conn {
	s.t.Helper()
	before := s.metric("doubledutch_connections")
	conn := s.dial()
	_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", lockPath(canaryName+"Half"))
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, soon, "the server has the connection", func() bool { return s.metric("doubledutch_connections") > before })
	return conn
}

// dial opens a connection that is closed when the test ends.
func (s *server) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.host())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (s *server) awaitLog(text string) {
	s.t.Helper()
	eventually(s.t, soon, "the log says "+text, func() bool { return strings.Contains(s.err.String(), text) })
}

// A request that is in flight at SIGTERM is finished.
func TestInFlightIsFinished(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	conn := s.halfRequest()
	s.signal(syscall.SIGTERM)
	s.awaitLog(`"msg":"stopping"`)
	key := newKey()
	rest := fmt.Sprintf(`"key":%q,"ttl":600`, key)
	if _, err := fmt.Fprintf(conn, "%s%s}", rest, strings.Repeat(" ", 100-len(rest)-2)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if code := s.exit(soon); code != exitcode.OK {
		t.Errorf("the server ended with %d", code)
	}
	s = s.restart()
	if held := s.show(canaryName + "Half").Held; held != (resp.StatusCode == http.StatusOK) || resp.StatusCode != http.StatusOK {
		t.Errorf("the request in flight was answered with %d; held after the restart: %v", resp.StatusCode, held)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--shutdown-timeout", "10m"}})
	s.halfRequest() // keeps the first one waiting
	s.signal(syscall.SIGTERM)
	s.awaitLog(`"msg":"stopping"`)
	s.signal(syscall.SIGINT)
	if code := s.exit(5 * time.Second); code != exitcode.Interrupted {
		t.Errorf("the server ended with %d, want %d", code, exitcode.Interrupted)
	}
}

func TestShutdownTimeout(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--shutdown-timeout", "400ms"}})
	g := s.acquire(canaryName, request{Key: newKey(), TTL: 600})
	s.halfRequest()
	s.signal(syscall.SIGTERM)
	if code := s.exit(10 * time.Second); code != exitcode.OK && code != exitcode.Failure {
		t.Errorf("the server ended with %d", code)
	}
	s = s.restart()
	if view := s.show(canaryName); !view.Held || view.Holders[0].Token != g.Token {
		t.Errorf("after the restart: %+v", view)
	}
}
