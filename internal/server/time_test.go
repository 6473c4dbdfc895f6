package server

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// pipeListener hands out in-memory connections, whose deadlines follow the clock of a synctest bubble.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// inBubble runs f with a server and a node whose time is the bubble's.
func inBubble(t *testing.T, f func(t *testing.T, s *Server, ln *pipeListener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, err := node.Open(t.Context(), node.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{Backend: n, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ln := newPipeListener()
		s.listener = ln
		served := make(chan error, 1)
		go func() { served <- s.Serve() }()
		f(t, s, ln)
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
}

func ask(t *testing.T, conn net.Conn, request string) *http.Response {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, conn)
}

func readAnswer(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	res.Body = io.NopCloser(strings.NewReader(string(b)))
	return res
}

func bodyOf(r *http.Response) string {
	b, _ := io.ReadAll(r.Body)
	return string(b)
}

// TestLongWaitOutlivesTheTimeouts waits for far longer than any read, write or idle time-out of the server.
func TestLongWaitOutlivesTheTimeouts(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *Server, ln *pipeListener) {
		holder, waiter := ln.dial(), ln.dial()
		defer holder.Close()
		defer waiter.Close()
		bodyOf(ask(t, holder, "GET /getLock/q/600 HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		start := time.Now()
		res := ask(t, waiter, "GET /getLock/q?timeout=1800 HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if got := bodyOf(res); !keyPattern.MatchString(got) {
			t.Errorf("the waiter got %q", got)
		}
		// The holder never releases; the lock falls free at the end of its lifetime and not earlier.
		if took := time.Since(start); took < 599*time.Second || took > 602*time.Second {
			t.Errorf("granted after %v", took)
		}
		// The connection is as good as new afterwards.
		if got := bodyOf(ask(t, waiter, "GET /getLock/q HTTP/1.1\r\nHost: localhost\r\n\r\n")); got != "false" {
			t.Errorf("the next request got %q", got)
		}
	})
}

// TestLongWaitOverHTTP2 does the same on a stream, where net/http keeps the time itself.
func TestLongWaitOverHTTP2(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *Server, ln *pipeListener) {
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: &p, DialContext: func(context.Context, string, string) (net.Conn, error) { return ln.dial(), nil }}
		defer transport.CloseIdleConnections()
		get := func(path string) string {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			res, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			return bodyOf(res)
		}
		get("/getLock/q/600")
		if got := get("/getLock/q?timeout=1800"); !keyPattern.MatchString(got) {
			t.Errorf("the waiter got %q", got)
		}
	})
}

func TestLongWaitRunsOut(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *Server, ln *pipeListener) {
		c := ln.dial()
		defer c.Close()
		bodyOf(ask(t, c, "GET /getLock/q/9999 HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		start := time.Now()
		if got := bodyOf(ask(t, c, "GET /getLock/q?timeout=90 HTTP/1.1\r\nHost: localhost\r\n\r\n")); got != "false" {
			t.Errorf("got %q", got)
		}
		if took := time.Since(start); took < 90*time.Second || took > 91*time.Second {
			t.Errorf("answered after %v", took)
		}
	})
}

// TestUnreadGrantIsReleased: the waiter is connected but does not read, so that its grant cannot be written.
func TestUnreadGrantIsReleased(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, ln *pipeListener) {
		holder, waiter := ln.dial(), ln.dial()
		defer holder.Close()
		defer waiter.Close()
		key := bodyOf(ask(t, holder, "GET /getLock/q/600 HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		if _, err := io.WriteString(waiter, "GET /getLock/q/600?timeout=1800 HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		bodyOf(ask(t, holder, "GET /releaseLock/q/"+key+" HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		if st := stats(t, s); st.Held != 1 {
			t.Errorf("before the deadline of the write: %+v", st)
		}
		time.Sleep(deliverTimeout + time.Second)
		if st := stats(t, s); st.Held != 0 || st.LastToken != 2 {
			t.Errorf("after the deadline of the write: %+v", st)
		}
	})
}

func stats(t *testing.T, s *Server) (st locktable.Stats) {
	t.Helper()
	if err := s.backend.Read(context.Background(), func(tb *locktable.Table, _ locktable.Time) { st = tb.Stats() }); err != nil {
		t.Fatal(err)
	}
	return st
}

// endsWithin tells after which time the server closes a connection on which only so much was sent.
func endsWithin(t *testing.T, ln *pipeListener, sent string) (time.Duration, string) {
	t.Helper()
	c := ln.dial()
	defer c.Close()
	start := time.Now()
	if sent != "" {
		if _, err := io.WriteString(c, sent); err != nil {
			t.Fatal(err)
		}
	}
	data, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return time.Since(start), string(data)
}

func TestSlowClientsAreCut(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *Server, ln *pipeListener) {
		for _, c := range []struct {
			what, sent, answer string
			after              time.Duration
		}{
			{"nothing", "", "", readHeaderTimeout},
			{"half a header", "GET /getLock/a HTTP/1.1\r\nHost: loc", "", readHeaderTimeout},
			{"half a body", "POST /v1/locks/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", "HTTP/1.1 408 ", readTimeout},
			{"an answered request", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 OK", idleTimeout},
		} {
			took, answer := endsWithin(t, ln, c.sent)
			if took < c.after || took > c.after+time.Second || !strings.HasPrefix(answer, c.answer) {
				t.Errorf("%s: after %v %q, want %v %q", c.what, took, answer, c.after, c.answer)
			}
		}
	})
}

func TestInsecureRemindsEachHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := &syncBuffer{}
		s := &Server{log: slog.New(slog.NewTextHandler(logs, nil)), ended: make(chan struct{}), config: Config{Listen: ":80"}}
		done := make(chan struct{})
		go func() { defer close(done); s.remind() }()
		time.Sleep(2*time.Hour + time.Minute)
		close(s.ended)
		<-done
		if n := strings.Count(logs.String(), "--insecure"); n != 3 {
			t.Errorf("%d warnings in two hours, want 3", n)
		}
	})
}
