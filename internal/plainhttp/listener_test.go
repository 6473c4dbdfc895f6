package plainhttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// tell answers with what it got. The path says how.
func tell(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	text := fmt.Sprintf("%s %s %s %s %q %s %d %q %v", r.Method, r.RequestURI, r.URL.Path, r.URL.RawQuery, body, r.Host, r.ContentLength,
		slices.Sorted(maps.Keys(r.Header)), err)
	for _, k := range slices.Sorted(maps.Keys(r.Header)) {
		text += fmt.Sprintf("%q", r.Header[k])
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("X-Said", "one\r\nline")
	switch {
	case strings.Contains(r.URL.Path, "close"):
		h.Set("Connection", "close")
	case strings.Contains(r.URL.Path, "silent"):
		return
	case strings.Contains(r.URL.Path, "nothing"):
		w.WriteHeader(http.StatusNoContent)
		return
	case strings.Contains(r.URL.Path, "abort"):
		panic(http.ErrAbortHandler)
	}
	if strings.Contains(r.URL.Path, "flush") {
		h.Set("Content-Length", strconv.Itoa(len(text)))
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
		return
	}
	_, _ = io.WriteString(w, text[:len(text)/2])
	_, _ = io.WriteString(w, text[len(text)/2:])
}

// house is a server with a Listener in front of it.
type house struct {
	ln   *Listener
	http *http.Server
	// How many requests were answered by the listener, and by net/http.
	here, there atomic.Int64
}

func open(ln net.Listener) *house {
	h := &house{}
	h.http = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.there.Add(1)
		tell(w, r)
	}), ErrorLog: log.New(io.Discard, "", 0)}
	h.ln = Listen(ln, Config{
		Serve: func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "stream") {
				return false
			}
			h.here.Add(1)
			tell(w, r)
			return true
		},
		Context:      func(net.Conn) context.Context { return context.Background() },
		FirstTimeout: 5 * time.Second, IdleTimeout: time.Minute, WriteTimeout: 10 * time.Second,
	})
	go func() { _ = h.http.Serve(h.ln) }()
	return h
}

func (h *house) close() { _ = errors.Join(h.http.Close(), h.ln.Shutdown(context.Background())) }

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return ln
}

// talk sends the pieces over one connection and returns all that comes back.
func talk(tb testing.TB, addr net.Addr, pieces ...[]byte) []byte {
	tb.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	for _, p := range pieces {
		_, _ = c.Write(p) // which fails when the server has said all it has to say
	}
	_ = c.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(c)
	return got
}

// readable puts the answers of a connection into a form that depends on what they say only.
func readable(raw []byte) string {
	var out strings.Builder
	r := bufio.NewReader(bytes.NewReader(raw))
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			rest, _ := io.ReadAll(r)
			return out.String() + fmt.Sprintf("%v %q\n", errors.Is(err, io.ErrUnexpectedEOF), rest)
		}
		body, err := io.ReadAll(res.Body)
		res.Header.Del("Date")
		fmt.Fprintf(&out, "%s %s %v %q %v\n", res.Proto, res.Status, res.Header, body, err)
	}
}

// FuzzTalk says the same to net/http and to net/http behind a Listener, and wants to hear the same.
func FuzzTalk(f *testing.F) {
	one, other := listen(f), listen(f)
	direct := &http.Server{Handler: http.HandlerFunc(tell), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = direct.Serve(one) }()
	h := open(other)
	f.Cleanup(func() {
		_ = direct.Close()
		h.close()
	})
	for _, a := range append(append([]string(nil), plainOnes...), otherOnes...) {
		f.Add([]byte(a), 0)
		f.Add([]byte(acquireSeed+a), len(acquireSeed)+5)
		f.Add([]byte(a+acquireV1+releaseV1), len(a)+20)
	}
	for _, path := range []string{"close", "silent", "nothing", "abort", "flush", "stream"} {
		f.Add([]byte("GET /"+path+" HTTP/1.1\r\nHost: a\r\n\r\n"+acquireV1), 0)
	}
	f.Fuzz(func(t *testing.T, said []byte, cut int) {
		cut = min(max(cut, 0), len(said))
		want := readable(talk(t, one.Addr(), said[:cut], said[cut:]))
		if got := readable(talk(t, other.Addr(), said[:cut], said[cut:])); got != want {
			t.Errorf("%q:\n%s\nnet/http says\n%s", said, got, want)
		}
	})
}

// TestWhoAnswers: what is plain is answered by the listener, the first request that is not and all after it by net/http.
func TestWhoAnswers(t *testing.T) {
	h := open(listen(t))
	defer h.close()
	talk(t, h.ln.Addr(), []byte(acquireSeed+acquireV1+releaseV1))
	talk(t, h.ln.Addr(), []byte(acquireV1[:len(acquireV1)-4]), []byte(acquireV1[len(acquireV1)-4:]))
	if here, there := h.here.Load(), h.there.Load(); here != 4 || there != 0 {
		t.Errorf("%d here, %d by net/http", here, there)
	}
	talk(t, h.ln.Addr(), []byte(acquireSeed+"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"+acquireV1))
	talk(t, h.ln.Addr(), []byte("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"+acquireV1))
	large := "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("a", 9000)
	talk(t, h.ln.Addr(), []byte(large+acquireSeed))
	if here, there := h.here.Load(), h.there.Load(); here != 5 || there != 6 {
		t.Errorf("%d here, %d by net/http", here, there)
	}
}

// pipes is a listener of connections whose deadlines follow the clock of a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	close(l.closed)
	return nil
}

func (*pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (l *pipes) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

func inBubble(t *testing.T, f func(t *testing.T, h *house, ln *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := open(ln)
		f(t, h, ln)
		h.close()
	})
}

func ask(t *testing.T, c net.Conn, request string) *http.Response {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	return res
}

// ends returns how long it takes until the server closes the connection.
func ends(c net.Conn) time.Duration {
	start := time.Now()
	_, _ = io.Copy(io.Discard, c)
	return time.Since(start)
}

func TestSilentConnectionEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *house, ln *pipes) {
		for _, asked := range []int{0, 1, 3} {
			c := ln.dial()
			for range asked {
				ask(t, c, acquireSeed)
				time.Sleep(50 * time.Second)
			}
			want := time.Minute
			if asked == 0 {
				want = 5 * time.Second
			}
			if took := ends(c) + 50*time.Second*time.Duration(min(asked, 1)); took < want || took > want+deadlineStep {
				t.Errorf("after %d requests: %v", asked, took)
			}
		}
	})
}

func TestAnswerThatNobodyReads(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house, ln *pipes) {
		c := ln.dial()
		if _, err := io.WriteString(c, acquireSeed); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for h.ln.count() > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(start); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("given up after %v", took)
		}
		_ = c.Close()
	})
}

func (l *Listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// TestSlowRequest: net/http has a connection as soon as a request does not come in one go.
func TestSlowRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house, ln *pipes) {
		c := ln.dial()
		defer c.Close()
		ask(t, c, acquireSeed)
		for _, piece := range []string{acquireV1[:10], acquireV1[10:20]} {
			_, _ = io.WriteString(c, piece)
			time.Sleep(restTimeout / 3)
			synctest.Wait()
			if h.ln.count() != 1 {
				t.Error("handed over too early")
			}
		}
		time.Sleep(2 * restTimeout)
		synctest.Wait()
		if h.ln.count() != 0 {
			t.Error("still here")
		}
		time.Sleep(time.Hour) // no deadline has been left behind
		ask(t, c, acquireV1[20:])
		if here, there := h.here.Load(), h.there.Load(); here != 1 || there != 1 {
			t.Errorf("%d here, %d by net/http", here, there)
		}
	})
}

// TestDrip: who sends a byte now and then has the time of one request, not of each byte.
func TestDrip(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house, ln *pipes) {
		for _, answered := range []bool{false, true} {
			c := ln.dial()
			synctest.Wait()
			if answered {
				ask(t, c, acquireSeed)
			}
			start := time.Now()
			for i := 0; h.ln.count() > 0 && i < len(acquireV1); i++ {
				_, _ = io.WriteString(c, acquireV1[i:i+1])
				time.Sleep(restTimeout / 10)
				synctest.Wait()
			}
			if took := time.Since(start); took < restTimeout || took > 2*restTimeout {
				t.Errorf("net/http had it after %v", took)
			}
			_ = c.Close()
		}
	})
}

// TestShutdown: who is silent is closed at once, who has just come has a moment, and who is being answered gets the answer.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		answering, goOn := make(chan struct{}), make(chan struct{})
		l := Listen(ln, Config{
			Serve: func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost {
					close(answering)
					<-goOn
				}
				tell(w, r)
				return true
			},
			Context:      func(net.Conn) context.Context { return context.Background() },
			FirstTimeout: time.Minute, IdleTimeout: time.Minute, WriteTimeout: time.Minute,
		})
		silent, busy, mute, late := ln.dial(), ln.dial(), ln.dial(), ln.dial()
		ask(t, silent, acquireSeed)
		answer := make(chan *http.Response, 1)
		go func() { answer <- ask(t, busy, acquireV1) }()
		<-answering
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- l.Shutdown(context.Background()) }()
		if took := ends(silent); took != 0 {
			t.Errorf("the silent one was closed after %v", took)
		}
		if res := ask(t, late, acquireSeed); res.StatusCode != http.StatusOK || !res.Close {
			t.Errorf("who had just come got %d, close %v", res.StatusCode, res.Close)
		}
		if took := ends(mute); took != lastCall {
			t.Errorf("who said nothing was closed after %v", took)
		}
		select {
		case err := <-ended:
			t.Errorf("ended before the last answer: %v", err)
		default:
		}
		close(goOn)
		if res := <-answer; res.StatusCode != http.StatusOK || !res.Close {
			t.Errorf("the busy one got %d, close %v", res.StatusCode, res.Close)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
	})
}

// TestShutdownCuts: when its time is up, what is still being answered is cut.
func TestShutdownCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		stuck := make(chan struct{})
		l := Listen(ln, Config{
			Serve:        func(http.ResponseWriter, *http.Request) bool { <-stuck; return true },
			Context:      func(net.Conn) context.Context { return context.Background() },
			FirstTimeout: time.Minute, IdleTimeout: time.Minute, WriteTimeout: time.Minute,
		})
		c := ln.dial()
		_, _ = io.WriteString(c, acquireSeed)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if err := l.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if took := ends(c); took != 0 {
			t.Errorf("cut after %v more", took)
		}
		close(stuck)
	})
}

// broken is a listener that fails a few times.
type broken struct {
	net.Listener
	times int
}

func (b *broken) Accept() (net.Conn, error) {
	if b.times > 0 {
		b.times--
		return nil, &net.OpError{Op: "accept", Err: errTooMany}
	}
	return b.Listener.Accept()
}

var errTooMany = errors.New("too many open files")

// TestAcceptTellsErrors: whoever calls Accept decides what an error means, and after it connections are accepted again.
func TestAcceptTellsErrors(t *testing.T) {
	l := Listen(&broken{listen(t), 2}, Config{Context: func(net.Conn) context.Context { return nil }})
	for range 2 {
		if _, err := l.Accept(); !errors.Is(err, errTooMany) {
			t.Errorf("%v", err)
		}
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if nc, err := l.Accept(); err != nil {
		t.Error(err)
	} else {
		_ = nc.Close()
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
}
