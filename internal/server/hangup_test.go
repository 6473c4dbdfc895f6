package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

const (
	waitSeed = "GET /getLock/q?timeout=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"
	waitV1   = "POST /v1/locks/q HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"wait\":-1}"
	// Its body is never read, so that net/http does not read ahead either.
	waitBody = "GET /getLock/q?timeout=60 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
	lateLine = "\r\n"
	nextOne  = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
)

// TestHangingUpAfterMoreBytes closes the connections of clients that had sent something after the request that waits.
func TestHangingUpAfterMoreBytes(t *testing.T) {
	for _, c := range []struct {
		what, request, later string
		encrypted            bool
	}{
		{"late line end", waitV1, lateLine, false},
		{"pipelined later", waitSeed, nextOne, false},
		{"pipelined at once", waitSeed + nextOne, "", false},
		{"unread body", waitBody, "", false},
		{"TLS, late line end", waitSeed, lateLine, true},
		{"TLS, pipelined later", waitV1, nextOne, true},
		{"TLS, pipelined at once", waitV1 + nextOne, "", true},
	} {
		t.Run(c.what, func(t *testing.T) {
			d, dial := openFor(t, c.encrypted)
			holder := d.take("q")
			conn := dial()
			say(t, conn, c.request)
			d.waiting("q", 1)
			if c.later != "" {
				say(t, conn, c.later)
			}
			left := time.Now()
			_ = conn.Close()
			d.waiting("q", 0)
			if late := time.Since(left); late > time.Second {
				t.Errorf("it left the queue after %v", late)
			}
			d.want(200, "released", "GET", "/releaseLock/q/"+holder, "")
			d.take("q") // nobody was granted the lock
		})
	}
}

// TestHangupBeforeTheWatch: a connection whose client has gone before anybody watched it is told of at once, and one that this side
// has closed, too.
func TestHangupBeforeTheWatch(t *testing.T) {
	if !seesHangups {
		t.Skip("this system does not tell")
	}
	for _, byUs := range []bool{false, true} {
		client, conn := connected(t)
		if byUs {
			_ = conn.Close()
		} else {
			_ = client.Close()
		}
		told := make(chan struct{})
		name := watchHangup(conn.raw, func() { close(told) })
		receive(t, told)
		forgetHangup(conn.raw, name)
	}
}

// TestForgottenWatch: what was watched and is not any more is not told of, and the connection can be watched again.
func TestForgottenWatch(t *testing.T) {
	client, conn := connected(t)
	forgetHangup(conn.raw, watchHangup(conn.raw, func() { t.Error("the watch was forgotten") }))
	told := make(chan struct{})
	name := watchHangup(conn.raw, func() { close(told) })
	defer forgetHangup(conn.raw, name)
	_ = client.Close()
	receive(t, told)
}

// connected returns the two ends of a connection.
func connected(t *testing.T) (client net.Conn, conn *limitedConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	accepted, err := newLimitedListener(ln, -1, -1, false, NewMetrics()).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(client.Close(), accepted.Close(), ln.Close()) })
	conn, _ = accepted.(*limitedConn)
	return client, conn
}

func receive(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody noticed that the client hung up")
	}
}

// TestConnectedAfterMoreBytes: who sent more and stays keeps its place beyond several looks, and gets all its answers.
func TestConnectedAfterMoreBytes(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		d, dial := openFor(t, encrypted)
		d.take("q")
		conn := dial()
		say(t, conn, "GET /getLock/q?timeout=0.9 HTTP/1.1\r\nHost: localhost\r\n\r\n")
		d.waiting("q", 1)
		say(t, conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		got, _ := io.ReadAll(conn)
		if s := string(got); strings.Count(s, "HTTP/1.1 200 OK") != 2 || !strings.Contains(s, "false") || !strings.HasSuffix(s, "ok") {
			t.Errorf("TLS %v: %q", encrypted, s)
		}
		if n := d.backend.abandoned.Load(); n != 0 {
			t.Errorf("TLS %v: abandoned %d times", encrypted, n)
		}
	}
}

// TestGrantJustAfterHangingUp: the lock falls free before anybody has looked at the connection again.
func TestGrantJustAfterHangingUp(t *testing.T) {
	if !seesHangups {
		t.Skip("this system does not tell")
	}
	d := openDoor(t)
	holder := d.take("q")
	conn := d.dial()
	say(t, conn, waitSeed)
	d.waiting("q", 1)
	say(t, conn, lateLine)
	_ = conn.Close()
	d.want(200, "released", "GET", "/releaseLock/q/"+holder, "")
	d.waiting("q", 0)
	d.until("a free lock", func(tb *locktable.Table) bool { return tb.Stats().Held == 0 })
}

// TestHalfClosedIsGone: a client that closes its sending half counts as gone, as the document says. What it gets must not
// look like an answer, least of all like a lock.
func TestHalfClosedIsGone(t *testing.T) {
	for _, request := range []string{waitSeed, waitV1, "GET /getlock?lockname=q&timeout=60 HTTP/1.0\r\n\r\n"} {
		d := openDoor(t)
		d.take("q")
		conn := d.dial()
		say(t, conn, request)
		d.waiting("q", 1)
		tcp, _ := conn.(*net.TCPConn)
		if err := tcp.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		d.waiting("q", 0)
		if got, _ := io.ReadAll(conn); len(got) != 0 {
			t.Errorf("%q was answered with %q", request, got)
		}
	}
}

// TestNoAnswerForTheDeparted: no route answers a client that is gone with an implicit 200.
func TestNoAnswerForTheDeparted(t *testing.T) {
	d := openDoor(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range [][2]string{
		{"GET", "/getLock/a"},
		{"GET", "/getLock/a/5"},
		{"GET", "/releaseLock/a/" + key(1)},
		{"GET", "/getlock?lockname=a"},
		{"GET", "/status"},
		{"POST", "/v1/locks/a"},
		{"GET", "/v1/locks"},
		{"HEAD", "/v1/locks"},
		{"HEAD", "/v1/locks/a"},
		{"POST", "/v1/sessions"},
		{"HEAD", "/v1/sessions/" + key(1)},
	} {
		r := httptest.NewRequestWithContext(ctx, c[0], c[1], http.NoBody)
		r.Host = "localhost"
		// What waits for nothing is answered in any case: the client may have ended its sending half only.
		if w := httptest.NewRecorder(); !aborts(d.server, w, r) && w.Header().Get("Content-Type") == "" {
			t.Errorf("%s %s: %d %q", c[0], c[1], w.Code, w.Body)
		}
	}
}

// aborts tells whether the handler has the connection cut.
func aborts(h http.Handler, w http.ResponseWriter, r *http.Request) (aborted bool) {
	defer func() { aborted = recover() == http.ErrAbortHandler }()
	h.ServeHTTP(w, r)
	return
}

// openFor opens a door, with TLS or without, and says how to reach it. The door's own client speaks to it too.
func openFor(t *testing.T, encrypted bool) (*door, func() net.Conn) {
	if !encrypted {
		d := openDoor(t)
		return d, d.dial
	}
	d, _, _ := openTLS(t)
	d.overTLS(false)
	return d, func() net.Conn { return tls.Client(d.dial(), &tls.Config{InsecureSkipVerify: true}) }
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}
