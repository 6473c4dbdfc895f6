package plainhttp

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

const (
	acquireSeed = "GET /getLock/a-b:c?timeout=10 HTTP/1.1\r\nHost: localhost:7333\r\n\r\n"
	acquireV1   = "POST /v1/locks/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"wait\":-1}"
	releaseV1   = "DELETE /v1/locks/a HTTP/1.1\r\nHost: localhost\r\nlock-key:  01234567890123456789012345678901 \r\n\r\n"
	replaceIt   = "PUT / HTTP/1.1\r\nhOST: [::1]\r\nContent-Length: 0\r\n\r\n"
)

// What is plain, and what stands after it.
var plainOnes = []string{
	acquireSeed, acquireV1, releaseV1, replaceIt,
	"GET /a?b=%20 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nAccept: */*\r\nUser-Agent:\r\n\r\n",
	"GET //a/../b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
}

// What is not, be it that net/http refuses it or does something else with it.
var otherOnes = []string{
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"\r\n" + acquireSeed,
	"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
	"GET /a HTTP/1.1 \r\nHost: a\r\n\r\n",
	"GET /a\r\nHost: a\r\n\r\n",
	"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a? HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /%61 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a HTTP/1.1\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost:\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost : a\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nX: y\r\nx: z\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nX: y\nZ: z\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nX: y\rZ: z\r\n\r\n",
	"GET /a HTTP/1.1\nHost: a\n\n",
	"GET /a HTTP/1.1\r\nHost: a\r\n\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
	"GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\na",
	"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
	"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
	"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\n" + manyLines(maxLines) + "\r\n",
}

func manyLines(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("X-" + strings.Repeat("a", i+1) + ": y\r\n")
	}
	return b.String()
}

func TestWhatIsPlain(t *testing.T) {
	for _, s := range plainOnes {
		var p parser
		if n, v := p.parse([]byte(s + "GET")); v != plain || n != len(s) {
			t.Errorf("%q: %d, %d bytes", s, v, n)
		}
		for i := range len(s) {
			if _, v := p.parse([]byte(s[:i])); v != partial {
				t.Errorf("%q: %d", s[:i], v)
			}
		}
	}
	for _, s := range otherOnes {
		var p parser
		if _, v := p.parse([]byte(s)); v != other {
			t.Errorf("%q: %d", s, v)
		}
	}
}

// TestUnescapedCharacters: what counts as unescaped is what package url neither decodes nor would have escaped.
func TestUnescapedCharacters(t *testing.T) {
	for c := range 256 {
		if !isPathChar[c] {
			continue
		}
		for _, path := range []string{"/" + string(rune(c)), "/a" + string(rune(c)) + "b/" + string(rune(c)) + string(rune(c))} {
			u, err := url.ParseRequestURI(path)
			if err != nil || *u != (url.URL{Path: path}) {
				t.Errorf("%q: %+v, %v", path, u, err)
			}
		}
	}
}

// TestFormsAreKeptApart: what is kept of one request never shows in another one.
func TestFormsAreKeptApart(t *testing.T) {
	requests := []string{
		"GET /1 HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 1\r\n\r\n",
		"GET /2 HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
		"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /4 HTTP/1.1\r\nHost: b\r\nY: 1\r\nX: 2\r\n\r\n",
		"GET /5 HTTP/1.1\r\nHost: b\r\nY: 1\r\nContent-Length: 2\r\n\r\nab",
		"GET /6 HTTP/1.1\r\nHost: b\r\nY: 1\r\nContent-Length: 3\r\n\r\nabc",
		"GET /7 HTTP/1.1\r\nHost: b\r\nY: 1\r\n\r\n",
		"POST /8 HTTP/1.1\r\nHost: b\r\nY: 1\r\n\r\n",
		"GET /9 HTTP/1.1\r\nHost: b\r\nY: 1\r\nX: \x01\r\n\r\n",
		"GET /10 HTTP/1.1\r\nHost: b\r\nY: 1\r\n\r\n",
		"GET /11 HTTP/1.1\r\nHost: b\r\nY: 1\r\nY: 1\r\n\r\n",
		"GET /12 HTTP/1.1\r\nHost: b\r\nY: 1\r\nY: 1\r\n\r\n",
		"GET /13 HTTP/1.1\r\n\r\n",
		"GET /14 HTTP/1.1\r\n\r\n",
		"GET /15 HTTP/1.1\r\nHost: b\r\n\r\n",
	}
	for _, first := range requests {
		for _, second := range requests {
			var p parser
			compare(t, &p, []byte(first))
			compare(t, &p, []byte(second))
		}
	}
}

// TestRefusedHalfway: a header of which half was read and kept leaves nothing that is taken for another one's.
func TestRefusedHalfway(t *testing.T) {
	var p parser
	for _, lines := range []string{"X: 1\r\nY: 1\r\n", "Z: 2\r\nY: \x01\r\n", "Z: 2\r\nY: 1\r\n"} {
		compare(t, &p, []byte("GET / HTTP/1.1\r\nHost: a\r\n"+lines+"\r\n"))
	}
}

// FuzzParse holds the parser against net/http's: what it takes for plain, net/http takes for the very same request.
func FuzzParse(f *testing.F) {
	for _, a := range append(append([]string(nil), plainOnes...), otherOnes...) {
		f.Add([]byte(a), []byte(acquireV1))
		f.Add([]byte(releaseV1), []byte(a+"GET"))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var p parser
		compare(t, &p, first)
		compare(t, &p, second)
		compare(t, &p, first)
	})
}

func compare(t *testing.T, p *parser, b []byte) {
	t.Helper()
	n, v := p.parse(b)
	if v != plain {
		return
	}
	got := newRequest("")
	p.request(got)
	from := bytes.NewReader(b)
	buf := bufio.NewReader(from)
	want, err := http.ReadRequest(buf)
	if err != nil {
		t.Fatalf("%q: net/http says %v", b, err)
	}
	gotBody, _ := io.ReadAll(got.Body)
	wantBody, err := io.ReadAll(want.Body)
	if err != nil || !bytes.Equal(gotBody, wantBody) {
		t.Fatalf("%q: body %q, net/http has %q, %v", b, gotBody, wantBody, err)
	}
	if after := len(b) - from.Len() - buf.Buffered(); after != n {
		t.Fatalf("%q: %d bytes, net/http has %d", b, n, after)
	}
	if hosts := want.Header["Host"]; hosts != nil {
		t.Fatalf("%q: %q", b, hosts) // ReadRequest takes it out
	}
	got.Body, want.Body = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q:\n%+v\nnet/http has\n%+v", b, got, want)
	}
}
