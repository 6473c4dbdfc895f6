package plainhttp

import (
	"io"
	"net/http"
)

// request fills r, which is used again and again, with what was parsed last.
func (p *parser) request(r *http.Request) {
	r.Method, r.URL, r.RequestURI = p.method(), &p.url, p.target
	r.Header, r.Host = p.form.header, p.form.host
	r.ContentLength, r.Body = int64(p.form.length), http.NoBody
	r.Form, r.PostForm, r.MultipartForm, r.Pattern = nil, nil, nil, ""
	if len(p.rest) > 0 {
		p.body = body{p.rest}
		r.Body = &p.body
	}
}

// method is that of the request that was parsed last.
func (p *parser) method() string {
	for i := range p.forms {
		if p.form == &p.forms[i] {
			return methods[i]
		}
	}
	panic("unreachable")
}

// newRequest returns what request fills.
func newRequest(remote string) *http.Request {
	return &http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: remote}
}

// body is the body of a request that is there already.
type body struct{ rest []byte }

func (b *body) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *body) Close() error {
	b.rest = nil
	return nil
}

// Bytes returns what has not been read, without a copy of it: it is valid as long as the request.
func (b *body) Bytes() []byte { return b.rest }
