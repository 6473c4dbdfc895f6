package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestAnswers(t *testing.T) {
	big := strings.Repeat("x", 3*readBuffer)
	for _, tt := range []struct {
		name, text string
		want       Answer
		bad        bool
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nDate: x\r\n\r\nabc", Answer{Status: 200, Body: []byte("abc")}, false},
		{"other case", "HTTP/1.1 200 OK\r\ncontent-length:3\r\n\r\nabc", Answer{Status: 200, Body: []byte("abc")}, false},
		{"no text behind the status", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", Answer{Status: 200}, false},
		{"chunks", "HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nA: b\r\n\r\n", Answer{Status: 404, Body: []byte("abc")}, false},
		{"nothing", "HTTP/1.1 204 No Content\r\n\r\n", Answer{Status: 204}, false},
		{"after a hint", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 500 X\r\nConnection: close\r\nContent-Length: 1\r\n\r\nz", Answer{Status: 500, Body: []byte("z"), last: true}, false},
		{"big", "HTTP/1.1 200 OK\r\nContent-Length: 6144\r\n\r\n" + big, Answer{Status: 200, Body: []byte(big)}, false},
		{"no length", "HTTP/1.1 200 OK\r\n\r\nabc", Answer{}, true},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Answer{}, true},
		{"great length", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", Answer{}, true},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nab\r\n", Answer{}, true},
		{"long chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", Answer{}, true},
		{"no HTTP", "SSH-2.0-server_1.0\r\n", Answer{}, true},
		{"no number", "HTTP/1.1 2x0 OK\r\n\r\n", Answer{}, true},
		{"long line", "HTTP/1.1 200 OK\r\nA: " + big + "\r\n\r\n", Answer{}, true},
	} {
		for pieces, in := range map[string]io.Reader{"whole": strings.NewReader(tt.text), "bytes": iotest.OneByteReader(strings.NewReader(tt.text))} {
			c := &Conn{in: bufio.NewReaderSize(in, readBuffer)}
			got, err := c.read()
			if tt.bad {
				if !errors.Is(err, errMalformed) {
					t.Errorf("%s, %s: %v, %v", tt.name, pieces, got, err)
				}
				continue
			}
			if err != nil || got.Status != tt.want.Status || !bytes.Equal(got.Body, tt.want.Body) || got.last != tt.want.last {
				t.Errorf("%s, %s: %d %q %v, %v", tt.name, pieces, got.Status, got.Body, got.last, err)
			}
			if rest, _ := io.ReadAll(c.in); len(rest) > 0 {
				t.Errorf("%s, %s: %q is left", tt.name, pieces, rest)
			}
		}
	}
	for _, cut := range []string{"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab"} {
		c := &Conn{in: bufio.NewReaderSize(strings.NewReader(cut), readBuffer)}
		if a, err := c.read(); err == nil {
			t.Errorf("%q is an answer: %+v", cut, a)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := &Conn{in: bufio.NewReaderSize(bytes.NewReader(text), readBuffer)}
		if a, err := c.read(); err == nil && (a.Status < 200 || a.Status > 999 || len(a.Body) > len(text)) {
			t.Errorf("%q is %d %q", text, a.Status, a.Body)
		}
	})
}

// What is written by hand is what net/http reads.
func TestRequests(t *testing.T) {
	p := &Plan{Interface: V1, APIKey: "open", TTL: 1500 * time.Millisecond, Owner: 3, Metadata: 2}
	e, err := NewEndpoint("http://host:81/deep/", nil)
	if err != nil {
		t.Fatal(err)
	}
	k := newKeys()
	key := string(k.appendKey(nil, 77))
	v1 := newDialect(p, e, "a b/&", k)
	seed := *p
	seed.Interface = Seed
	old := newDialect(&seed, e, "a b/&", k)
	given := []byte("0123456789abcdef0123456789abcdef")
	for name, tt := range map[string]struct {
		request           []byte
		method, uri, body string
		lockKey           string
	}{
		"acquire":      {v1.acquire(nil, 5, 77, "-1"), "POST", "/deep/v1/locks/a%20b%2F&5", `{"key":"` + key + `","ttl":1.5,"wait":-1,"owner":"ooo","metadata":"mm"}`, ""},
		"try":          {v1.acquire(nil, 5, 77, ""), "POST", "/deep/v1/locks/a%20b%2F&5", `{"key":"` + key + `","ttl":1.5,"owner":"ooo","metadata":"mm"}`, ""},
		"renew":        {v1.renew(nil, 5, 77), "POST", "/deep/v1/locks/a%20b%2F&5/renew", `{"key":"` + key + `"}`, ""},
		"release":      {v1.release(nil, 5, 77, nil), "DELETE", "/deep/v1/locks/a%20b%2F&5", "", key},
		"list":         {v1.list(nil), "GET", "/deep/v1/locks?limit=1&prefix=a+b%2F%26", "", ""},
		"seed acquire": {old.acquire(nil, 5, 77, "-1"), "GET", "/deep/getLock/a%20b%2F&5/1.5?timeout=-1", "", ""},
		"seed try":     {old.acquire(nil, 5, 77, ""), "GET", "/deep/getLock/a%20b%2F&5/1.5", "", ""},
		"seed release": {old.release(nil, 5, 77, given), "GET", "/deep/releaseLock/a%20b%2F&5/" + string(given), "", ""},
	} {
		in := bufio.NewReader(bytes.NewReader(tt.request))
		r, err := http.ReadRequest(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, err := io.ReadAll(r.Body)
		if r.Method != tt.method || r.RequestURI != tt.uri || string(body) != tt.body || err != nil {
			t.Errorf("%s: %s %s %s %v", name, r.Method, r.RequestURI, body, err)
		}
		if r.Host != "host:81" || r.Header.Get("Authorization") != "Bearer open" || r.Header.Get("Lock-Key") != tt.lockKey || in.Buffered() > 0 {
			t.Errorf("%s: %q %v, %d bytes too many", name, r.Host, r.Header, in.Buffered())
		}
		if tt.body != "" && (!json.Valid(body) || r.Header.Get("Content-Type") != "application/json") {
			t.Errorf("%s: no JSON", name)
		}
	}
	if len(key) != keyLength || key == string(k.appendKey(nil, 78)) || key == string(newKeys().appendKey(nil, 77)) {
		t.Errorf("the key %q", key)
	}
}

// Who is late counts from when it should have begun; nobody begins early.
func TestBeat(t *testing.T) {
	b := newBeat(100, 3, 4) // each 10 ms, with 7.5 ms before the first
	begun := time.Now()
	b.due = begun.Add(-time.Second)
	for i := range 5 {
		if got, ok := b.next(t.Context()); !ok || !got.Equal(begun.Add(-time.Second+time.Duration(i)*10*time.Millisecond)) {
			t.Errorf("beat %d counts from %s, %v", i, got.Sub(begun), ok)
		}
	}
	b.due = time.Now().Add(20 * time.Millisecond)
	if due := b.due; true {
		if got, ok := b.next(t.Context()); !ok || got.Before(due) {
			t.Errorf("%s early, %v", due.Sub(got), ok)
		}
	}
	if free := newBeat(0, 0, 1); free.every != 0 {
		t.Error("a rate of 0 is no rate")
	}
}

func TestRecorder(t *testing.T) {
	r := newRecorder(3, "a", "b")
	r.operation(0, time.Second, time.Second)
	r.failed(0, "early")
	r.begin()
	r.operation(0, time.Millisecond, 2*time.Millisecond)
	r.operation(2, 3*time.Millisecond, -1)
	r.operation(3, 0, 100*time.Hour) // not compared; beyond both ends of a histogram
	r.failed(1, "x")
	r.failed(2, "x")
	r.end()
	r.operation(1, time.Second, time.Second)
	ops, times, failures := r.sum()
	if ops != 3 || times[0].TotalCount() != 3 || times[1].TotalCount() != 2 || len(failures) != 1 || failures["x"] != 2 || r.outside.Load() != 2 {
		t.Errorf("%d operations, %d and %d times, %v, %d outside", ops, times[0].TotalCount(), times[1].TotalCount(), failures, r.outside.Load())
	}
	if most, least := r.extremes(); most != 1 || least != 0 {
		t.Errorf("most %d, least %d", most, least)
	}
	if r.total() != 7 {
		t.Errorf("%d in all", r.total())
	}
}

func TestFailureCodes(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("x")}
	for want, err := range map[string]error{
		"malformed_answer": errMalformed, "cannot_connect": dial, "connection_lost": io.EOF,
		"no_answer_in_time": &net.OpError{Op: "read", Err: timeoutError{}},
	} {
		if got := failure(err); got != want {
			t.Errorf("%v is %s", err, got)
		}
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }
