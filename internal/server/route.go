package server

import (
	"net/http"
	"net/url"
	"strings"
)

// style says in which form a route's errors are written.
type style uint8

const (
	styleProblem style = iota // application/problem+json
	stylePlain                // one sentence of text
	styleClassic              // {"servername","error"}
)

// authRule says what a route wants to see when an API key is set.
type authRule uint8

const (
	// authBearer: the header Authorization: Bearer.
	authBearer authRule = iota
	// authQuery: that header, or the query parameter auth.
	authQuery
	// authProxy: the query parameter auth, or, if it is not there, that header: whoever asks may pass on a header of its client's,
	// which is for somebody else.
	authProxy
	// authNone: nothing.
	authNone
)

// handler answers one request. What it returns is written by Server.finish; after it has begun to write itself it
// returns nil.
type handler func(s *Server, c *call) error

// route is one line of the route table.
type route struct {
	method  string
	pattern string
	auth    authRule
	style   style
	// any: every method is answered alike. The method is the one that the OpenAPI document has.
	any bool
	// below: the last segment of the pattern stands for all the rest of a path, of whatever form.
	below bool
	// head: HEAD is answered like GET, without the body.
	head bool
	// linkable: pages of other web sites may link here.
	linkable bool
	// streams: the answer may be written in pieces.
	streams bool
	handle  handler

	segments []string
	stats    *routeStats
}

const (
	maxSegments = 6
	maxParams   = 2
)

// segments is a path split at its slashes, each piece decoded. The first piece is what follows the leading slash.
type segments struct {
	at [maxSegments]string
	n  int
}

// split takes the path of u apart as it was sent: only a literal slash separates, and nothing is folded or cleaned. It
// returns false if there are more segments than any route has, or a segment cannot be decoded.
func (g *segments) split(u *url.URL) bool {
	// RawPath is set whenever the sent form differs from the usual encoding of Path, in particular when a slash was
	// sent as %2F. Otherwise each slash in Path was sent as a slash, and Path can be cut as it is.
	path, decode := u.Path, false
	if u.RawPath != "" {
		path, decode = u.RawPath, true
	}
	if path == "" || path[0] != '/' {
		return false
	}
	path = path[1:]
	for more := true; more; {
		if g.n == maxSegments {
			return false
		}
		var piece string
		piece, path, more = strings.Cut(path, "/")
		if decode {
			var err error
			if piece, err = url.PathUnescape(piece); err != nil {
				return false
			}
		}
		g.at[g.n] = piece
		g.n++
	}
	return true
}

// match tells whether the path fits the route's pattern, and fills params with the pieces that stand for {…}.
func (rt *route) match(g *segments, params *[maxParams]string) bool {
	if g.n != len(rt.segments) {
		return false
	}
	k := 0
	for i, want := range rt.segments {
		if want == "" || want[0] != '{' {
			if g.at[i] != want {
				return false
			}
			continue
		}
		params[k] = g.at[i]
		k++
	}
	return true
}

func (rt *route) takes(method string) bool {
	return rt.any || method == rt.method || rt.head && method == http.MethodHead
}

// name is that of the route for metrics.
func (rt *route) name() string {
	if rt.any {
		return "any " + rt.pattern
	}
	return rt.method + " " + rt.pattern
}

// isAbove tells whether the route takes everything below a path to which that of u belongs.
func (rt *route) isAbove(u *url.URL) bool {
	path := u.RawPath
	if path == "" {
		path = u.Path
	}
	return strings.HasPrefix(path, rt.pattern[:strings.LastIndexByte(rt.pattern, '/')+1])
}

// router finds routes by their first segment.
type router struct {
	byFirst map[string][]*route
	below   []*route
}

func newRouter(table []*route) *router {
	r := &router{byFirst: make(map[string][]*route)}
	for _, rt := range table {
		if rt.below {
			r.below = append(r.below, rt)
			continue
		}
		rt.segments = strings.Split(rt.pattern[1:], "/")
		first := rt.segments[0]
		r.byFirst[first] = append(r.byFirst[first], rt)
	}
	return r
}

// find returns the route for a request, or the error to answer and the style to write it in.
func (r *router) find(req *http.Request, params *[maxParams]string) (*route, style, *Error) {
	for _, rt := range r.below {
		if rt.isAbove(req.URL) && rt.takes(req.Method) {
			return rt, rt.style, nil
		}
	}
	var g segments
	if !g.split(req.URL) {
		return nil, r.styleOf(g.at[0]), fail(CodeNotFound, "There is nothing at this path.")
	}
	for _, rt := range r.byFirst[g.at[0]] {
		if rt.takes(req.Method) && rt.match(&g, params) {
			return rt, rt.style, nil
		}
	}
	allow := r.allowed(&g, params)
	if allow == nil {
		return nil, r.styleOf(g.at[0]), fail(CodeNotFound, "There is nothing at this path.")
	}
	e := fail(CodeMethodNotAllowed, "This path takes "+strings.Join(allow, ", ")+" only.")
	e.allow = strings.Join(allow, ", ")
	return nil, r.styleOf(g.at[0]), e
}

// allowed lists the methods that the path takes.
func (r *router) allowed(g *segments, params *[maxParams]string) (methods []string) {
	for _, rt := range r.byFirst[g.at[0]] {
		if !rt.match(g, params) {
			continue
		}
		methods = append(methods, rt.method)
		if rt.head {
			methods = append(methods, http.MethodHead)
		}
	}
	return methods
}

func (r *router) styleOf(first string) style {
	if routes := r.byFirst[first]; len(routes) > 0 {
		return routes[0].style
	}
	return styleProblem
}
