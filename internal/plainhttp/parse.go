package plainhttp

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
)

// verdict says what the bytes at hand are.
type verdict uint8

const (
	plain   verdict = iota // a whole plain request, perhaps with something after it
	partial                // the beginning of what may become one
	other                  // something for net/http
	nothing                // nothing that anybody has to see
)

// maxLines bounds the header of a plain request.
const maxLines = 24

// parser reads plain requests, one after the other. The clients of a connection mostly send the same header lines again and
// again, so those of the newest request with each method are kept, and compared before they are read.
type parser struct {
	forms [len(methods)]form
	url   url.URL
	body  body

	form   *form // of the request that was parsed last
	target string
	rest   []byte // its body
}

var methods = [...]string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut}

// form is what the header of a request says.
type form struct {
	lines  []line
	header http.Header // of lines, without Host
	host   string
	length int // of the body; 0 also if nothing is said about it
}

// line is one line of a header.
type line struct {
	raw   []byte
	name  string // in canonical form
	value []string
}

// parse looks what b begins with. If that is a whole plain request, it is n bytes long, and stays until the next call; its
// body stays in b.
func (p *parser) parse(b []byte) (n int, v verdict) {
	method, rest, v := cutMethod(b)
	if v != plain {
		return 0, v
	}
	end := bytes.Index(rest, headEnd)
	if end < 0 {
		return 0, unfinished(rest)
	}
	target, lines, ok := cutTarget(rest[:end+len(crlf)])
	if !ok {
		return 0, other
	}
	f := &p.forms[method]
	if !f.read(lines) {
		f.lines = f.lines[:0] // half of it may be of another request
		return 0, other
	}
	rest = rest[end+len(headEnd):]
	if f.length > len(rest) {
		return 0, partial
	}
	p.form, p.rest = f, rest[:f.length]
	p.setTarget(target)
	return len(b) - len(rest) + f.length, plain
}

var (
	crlf    = []byte("\r\n")
	headEnd = []byte("\r\n\r\n")
	version = []byte(" HTTP/1.1")
)

// cutMethod takes the method and the space after it from b.
func cutMethod(b []byte) (method int, rest []byte, v verdict) {
	for i, m := range methods {
		switch {
		case len(b) > len(m) && b[len(m)] == ' ' && string(b[:len(m)]) == m:
			return i, b[len(m)+1:], plain
		case len(b) <= len(m) && string(b) == m[:len(b)]:
			return 0, nil, partial
		}
	}
	return 0, nil, other
}

// unfinished tells whether b, in which no header ends, may go on to be plain: to net/http, a line can end without a \r.
func unfinished(b []byte) verdict {
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') {
			return other
		}
	}
	return partial
}

// cutTarget takes the target and the version from the head of a request, whose lines all end with \r\n.
func cutTarget(head []byte) (target, lines []byte, ok bool) {
	end := bytes.Index(head, crlf)
	first, lines := head[:end], head[end+len(crlf):]
	target, ok = bytes.CutSuffix(first, version)
	if !ok || len(target) == 0 || target[0] != '/' {
		return nil, nil, false
	}
	path, query, asked := bytes.Cut(target, []byte("?"))
	return target, lines, all(path, isPathChar) && (!asked || len(query) > 0 && all(query, isQueryChar))
}

// setTarget keeps the target as net/http would: nothing in it is escaped, so that no part has to be decoded.
func (p *parser) setTarget(target []byte) {
	p.target = string(target)
	p.url = url.URL{Path: p.target}
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		p.url.Path, p.url.RawQuery = p.target[:i], p.target[i+1:]
	}
}

// read reads the lines of a header, and returns false if they are not plain.
func (f *form) read(lines []byte) bool {
	n, same := 0, true
	for ; len(lines) > 0; n++ {
		if n == maxLines {
			return false
		}
		end := bytes.Index(lines, crlf)
		raw := lines[:end]
		lines = lines[end+len(crlf):]
		if n < len(f.lines) && bytes.Equal(f.lines[n].raw, raw) {
			continue
		}
		same = false
		if n == len(f.lines) {
			f.lines = append(f.lines, line{})
		}
		if !f.lines[n].read(raw) {
			return false
		}
	}
	if same && n == len(f.lines) {
		return f.host != ""
	}
	f.lines = f.lines[:n]
	return f.gather()
}

// read reads one line. What net/http would not take as it is, or takes for more than a header, is not plain.
func (l *line) read(raw []byte) bool {
	name, value, ok := bytes.Cut(raw, []byte(":"))
	if !ok || len(name) == 0 || !all(name, isTokenChar) || !all(value, isValueChar) {
		return false
	}
	text := string(bytes.Trim(value, " "))
	if l.value == nil {
		l.value = make([]string, 1)
	}
	if !bytes.HasPrefix(l.raw, raw[:len(name)+1]) { // often it is the value alone that is another one
		l.name = textproto.CanonicalMIMEHeaderKey(string(name))
	}
	l.raw, l.value[0] = append(l.raw[:0], raw...), text
	switch l.name {
	case "Connection":
		return text == "keep-alive"
	case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Http2-Settings", "Pragma", "Proxy-Connection":
		return false
	}
	return true
}

// gather makes the header of the lines.
func (f *form) gather() bool {
	if f.header == nil {
		f.header = make(http.Header)
	}
	clear(f.header)
	f.host, f.length = "", 0
	for i := range f.lines {
		l := &f.lines[i]
		if _, twice := f.header[l.name]; twice {
			return false
		}
		f.header[l.name] = l.value
		if l.name == "Content-Length" {
			if f.length = decimal(l.value[0]); f.length < 0 {
				return false
			}
		}
	}
	if host, ok := f.header["Host"]; ok {
		f.host = host[0]
		delete(f.header, "Host")
	}
	return f.host != "" && isHost(f.host)
}

// decimal reads a length of a few digits; -1: it is none.
func decimal(s string) int {
	if s == "" || len(s) > 4 {
		return -1
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	return n
}

func all(b []byte, is [256]bool) bool {
	for _, c := range b {
		if !is[c] {
			return false
		}
	}
	return true
}

func isHost(s string) bool {
	for i := range len(s) {
		if !isHostChar[s[i]] {
			return false
		}
	}
	return true
}

const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var (
	// What a URL's path has as it is, whether decoded or not.
	isPathChar  = chars(alphanumeric + "-._~/:@$&+,;=")
	isQueryChar = chars(alphanumeric + "-._~/:@$&+,;=%")
	isHostChar  = chars(alphanumeric + "-.:[]")
	isTokenChar = chars(alphanumeric + "-_")
	isValueChar = func() (is [256]bool) {
		for c := byte(' '); c <= '~'; c++ {
			is[c] = true
		}
		return is
	}()
)

func chars(s string) (is [256]bool) {
	for _, c := range []byte(s) {
		is[c] = true
	}
	return is
}
