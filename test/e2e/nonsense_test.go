//go:build linux

package e2e

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// keepsAnswering fails the test unless the server still does its work.
func (s *server) keepsAnswering() {
	s.t.Helper()
	g := s.acquire(canaryName+"Alive", request{})
	s.release(canaryName+"Alive", g.Key)
}

// say sends raw bytes on a connection of its own, closes its half of it, and returns all that comes back.
func (s *server) say(raw string) string {
	s.t.Helper()
	conn := s.dial()
	_ = conn.SetDeadline(time.Now().Add(soon))
	go func() {
		_, _ = io.WriteString(conn, raw)
		if half, ok := conn.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
	}()
	answer, _ := io.ReadAll(conn)
	evidence.add(fromError, s.t.Name()+": raw", answer)
	return string(answer)
}

// noSuccess stands for every answer, and none, but one that says that something was done.
const noSuccess = "anything but a success"

func TestNonsense(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	const n = canaryName + "Nonsense"
	for name, c := range map[string]struct{ raw, want string }{
		"HTTP/1.0":               {"GET /getLock/" + n + "10 HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"},
		"HTTP/1.0 keep-alive":    {"GET /getLock/" + n + "10 HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.0 200 OK"},
		"no Host":                {"GET /getLock/" + n + " HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
		"two Hosts":              {"GET /getLock/" + n + " HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400"},
		"foreign Host":           {"GET /getLock/" + n + " HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 421"},
		"HTTP/3.0":               {"GET /getLock/" + n + " HTTP/3.0\r\nHost: localhost\r\n\r\n", "HTTP/1.1 505"},
		"half a request":         {"GET /getLock/" + n, ""},
		"half a header":          {"GET /getLock/" + n + " HTTP/1.1\r\nHost: loc", "HTTP/1.1 400"},
		"half a body":            {"POST /v1/locks/" + n + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{", noSuccess},
		"nothing":                {"", ""},
		"empty lines":            {strings.Repeat("\r\n", 1000), "HTTP/1.1 400"},
		"zeros":                  {strings.Repeat("\x00", 5000), "HTTP/1.1 400"},
		"huge header":            {"GET /getLock/" + n + " HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "HTTP/1.1 431"},
		"many headers":           {"GET /getLock/" + n + " HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", 20_000) + "\r\n", "HTTP/1.1 431"},
		"huge path":              {"GET /getLock/" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 4"},
		"huge body":              {"POST /v1/locks/" + n + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat(" ", 1_000_000), "HTTP/1.1 413"},
		"two lengths":            {"POST /v1/locks/" + n + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", "HTTP/1.1 400"},
		"negative length":        {"POST /v1/locks/" + n + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: -2\r\n\r\n{}", "HTTP/1.1 400"},
		"unknown coding":         {"POST /v1/locks/" + n + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: brotli\r\n\r\n{}", "HTTP/1.1 501"},
		"space before the colon": {"GET /getLock/" + n + " HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n", "HTTP/1.1 400"},
		"folded header":          {"GET /getLock/" + n + " HTTP/1.1\r\nX: y\r\n Host: localhost\r\n\r\n", "HTTP/1.1 400"},
		"bad escape":             {"GET /getLock/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400"},
		"invalid UTF-8":          {"GET /getLock/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400"},
		"CONNECT":                {"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", "HTTP/1.1 4"},
		"OPTIONS *":              {"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 4"},
		"TLS":                    {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("a", 500), "HTTP/1.1 400"},
		"broken HTTP/2":          {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 3000), ""},
		"debug page":             {"GET /debug/pprof/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 404"},
	} {
		answer := s.say(c.raw)
		if c.want == noSuccess && !strings.HasPrefix(answer, "HTTP/1.1 2") {
			continue
		}
		if !strings.HasPrefix(answer, c.want) {
			t.Errorf("%s: %.100q, want %s", name, answer, c.want)
		}
		s.keepsAnswering()
	}
	if s.show(n).Held {
		t.Error("nonsense has taken the lock")
	}
}

func TestRandomBytes(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 25 {
				raw := make([]byte, 4096)
				_, _ = rand.Read(raw)
				conn, err := net.Dial("tcp", s.host())
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = conn.Write(raw)
				_ = conn.Close()
			}
		})
	}
	group.Wait()
	s.keepsAnswering()
}

// Slow senders of headers and bodies are cut off, and nobody else notices.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	s := start(t, options{plain: true})
	const body = "POST /v1/locks/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
	var group sync.WaitGroup
	for range 20 {
		for _, begin := range []string{"GET /getLock/", body} {
			conn := s.dial()
			if _, err := io.WriteString(conn, begin); err != nil {
				t.Fatal(err)
			}
			group.Go(func() { dripUntilCut(t, conn) })
		}
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for open := true; open; {
		s.keepsAnswering()
		select {
		case <-done:
			open = false
		case <-time.After(50 * time.Millisecond):
		}
	}
	s.client.CloseIdleConnections()
	eventually(t, soon, "all connections are closed", func() bool { return s.metric("doubledutch_connections") <= 1 })
}

// dripUntilCut sends a byte now and then until the server closes the connection.
func dripUntilCut(t *testing.T, conn net.Conn) {
	began := time.Now()
	cut := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, conn)
		close(cut)
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-cut:
			_ = conn.Close()
			return
		case <-tick.C:
			_, _ = io.WriteString(conn, "x")
			if time.Since(began) > time.Minute {
				t.Error("a slow sender was not cut off in a minute")
				_ = conn.Close()
			}
		}
	}
}

// Beyond --max-connections, newcomers are told so and sent away; those who are in are served.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	const most, attempts, clients = 1000, 9_000, 50
	s := start(t, options{plain: true, args: []string{"--max-connections", fmt.Sprint(most)}})
	var in []net.Conn
	for len(in) < most-1 { // and that of s.client
		conn := s.dial()
		if !asks(t, conn) {
			t.Fatalf("connection %d is not served", len(in))
		}
		in = append(in, conn)
	}
	if n := s.metric("doubledutch_connections"); n != most {
		t.Fatalf("%v connections are open", n)
	}
	inParallel(clients, attempts, func(int) {
		conn, err := net.Dial("tcp", s.host())
		if err != nil {
			t.Error(err)
			return
		}
		if answer := farewell(t, conn); answer != "" && !polite(answer) {
			t.Errorf("a connection too many was told %q", answer)
		}
	})
	if n := s.metric(`doubledutch_connections_refused_total{bound="total"}`); n < attempts {
		t.Errorf("only %v connections were refused", n)
	}
	// In a flood, not everybody is told why; afterwards, newcomers are.
	eventually(t, soon, "a newcomer is told that there are too many", func() bool { return polite(farewell(t, s.dial())) })
	for i, conn := range in {
		if !asks(t, conn) {
			t.Fatalf("connection %d is no longer served", i)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, soon, "a newcomer is served", func() bool {
		conn := s.dial()
		defer func() { _ = conn.Close() }()
		return asks(t, conn)
	})
}

// asks sends a request and tells whether it is answered.
func asks(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && string(body) == "ok"
}

// farewell returns what the server says before it closes the connection.
func farewell(t *testing.T, conn net.Conn) string {
	_ = conn.SetDeadline(time.Now().Add(soon))
	answer, _ := io.ReadAll(conn)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	return string(answer)
}

func polite(answer string) bool {
	return strings.HasPrefix(answer, "HTTP/1.1 503 ") && strings.Contains(answer, "Retry-After: ")
}
