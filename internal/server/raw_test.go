package server

import (
	"strings"
	"testing"
)

// TestRawRequests sends what no well-behaved client sends. Each request asks for a lock; taken says whether it may get
// it, and want how the answer begins. After each, nothing else on that connection may have been taken for a request.
func TestRawRequests(t *testing.T) {
	const smuggled = "GET /getLock/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for _, c := range []struct {
		what, request, want string
		taken               bool
	}{
		{"HTTP/1.0", "GET /getLock/a HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK", true},
		{"no Host", "GET /getLock/a HTTP/1.1\r\n\r\n", "HTTP/1.1 400", false},
		{"two Hosts", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400", false},
		{"absolute form", "GET http://localhost/getLock/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK", true},
		{"absolute form, other host", "GET http://evil.example/getLock/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 421", false},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 404", false},
		{"CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 40", false},
		{"no slash", "GET getLock/a HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400", false},
		{"HTTP/3.7", "GET /getLock/a HTTP/3.7\r\nHost: localhost\r\n\r\n", "HTTP/1.1 505", false},
		{"HTTP/0.9", "GET /getLock/a\r\n\r\n", "HTTP/1.1 400", false},
		{"garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\r\n\r\n", "HTTP/1.1 400", false},
		{"NUL in the path", "GET /getLock/a\x00b HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400", false},
		{"NUL in a header", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", "HTTP/1.1 400", false},
		{"space in the path", "GET /getLock/a b HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400", false},
		{"bad escape", "GET /getLock/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400", false},
		{"space before the colon", "GET /getLock/a HTTP/1.1\r\nHost : localhost\r\n\r\n", "HTTP/1.1 400", false},
		{"folded header", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\n X: y\r\n\r\n", "HTTP/1.1 4", false},
		{"two lengths that differ", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 60\r\n\r\n" + smuggled, "HTTP/1.1 400", false},
		{"negative length", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n" + smuggled, "HTTP/1.1 400", false},
		{"length in hex", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x0\r\n\r\n" + smuggled, "HTTP/1.1 400", false},
		{"length with plus", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: +0\r\n\r\n" + smuggled, "HTTP/1.1 400", false},
		{"chunked and length", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + smuggled, "HTTP/1.1 200 OK", true},
		{"unknown encoding", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled, "HTTP/1.1 501", false},
		{"two encodings", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + smuggled, "HTTP/1.1 501", false},
		{"encoding in HTTP/1.0", "GET /getLock/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, "HTTP/1.0 200 OK", true},
		{"large header", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 2*maxHeaderBytes) + "\r\n\r\n", "HTTP/1.1 431", false},
		{"long path", "GET /getLock/" + strings.Repeat("x", 2*maxHeaderBytes) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 431", false},
		{"many headers", "GET /getLock/a HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", maxHeaderBytes) + "\r\n", "HTTP/1.1 431", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := openDoor(t)
			got := d.raw(c.request)
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("%.200q, want %s…", got, c.want)
			}
			if taken := d.backend.asked() == 1; taken != c.taken || d.backend.asked() > 1 {
				t.Errorf("%d acquires reached the table", d.backend.asked())
			}
			for _, a := range d.backend.acquires {
				if a.GetName() != "a" {
					t.Errorf("the lock %q was asked for", a.GetName())
				}
			}
		})
	}
}

// TestBareLineFeeds: net/http takes a bare LF for the end of a header line. One request stays one request.
func TestBareLineFeeds(t *testing.T) {
	d := openDoor(t)
	d.raw("GET /getLock/a HTTP/1.1\nHost: localhost\nConnection: close\n\nGET /getLock/b HTTP/1.1\nHost: localhost\n\n")
	if n := d.backend.asked(); n > 1 {
		t.Errorf("%d acquires reached the table", n)
	}
	// In the sizes of chunks it is refused.
	got := d.raw("POST /v1/locks/c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2;x=\n\n{}\r\n0\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 400") || strings.Count(got, "HTTP/1.1") != 1 {
		t.Errorf("%q", got)
	}
}

// TestChunkedBody: a body without a length is bounded like any other.
func TestChunkedBody(t *testing.T) {
	d := openDoor(t)
	head := "POST /v1/locks/c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	if got := d.raw(head + "2\r\n{}\r\n0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("%q", got)
	}
	if got := d.raw(head + "20000\r\n" + strings.Repeat(" ", 0x20000) + "\r\n0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 413") {
		t.Errorf("%q", got)
	}
}
