package ddtest

import (
	"net/http"
	"net/url"
	"strings"
)

// A Match says which requests are meant.
type Match func(r *http.Request) bool

// Matches for what clients do, in the interfaces v1, seed and classic.
var (
	// Any is every request.
	Any Match = func(*http.Request) bool { return true }
	// Acquire is a request for a lock, or for a set of locks.
	Acquire Match = func(r *http.Request) bool {
		p := segments(r)
		switch {
		case r.Method == http.MethodPost:
			return is(p, "v1", "locks") || is(p, "v1", "locks", "*")
		case r.Method == http.MethodGet:
			return is(p, "getLock", "*") || is(p, "getLock", "*", "*") || is(p, "getlock")
		}
		return false
	}
	// Renew is a request that keeps a lock, a session or a claim on a task alive.
	Renew Match = func(r *http.Request) bool {
		p := segments(r)
		return r.Method == http.MethodPost && (is(p, "v1", "holds", "renew") || is(p, "v1", "locks", "*", "renew") ||
			is(p, "v1", "sessions", "*", "renew") || is(p, "v1", "tasks", "*", "renew"))
	}
	// Release is a request that gives up a lock, a place in a queue, or a session.
	Release Match = func(r *http.Request) bool {
		p := segments(r)
		if r.Method == http.MethodGet {
			return is(p, "releaseLock", "*", "*")
		}
		return r.Method == http.MethodDelete && (is(p, "v1", "holds") || is(p, "v1", "locks", "*") || is(p, "v1", "sessions", "*") ||
			is(p, "releaselock"))
	}
	// Claim is a request for a task.
	Claim Match = func(r *http.Request) bool { return r.Method == http.MethodPost && is(segments(r), "v1", "tasks", "*") }
	// Report is a request that tells the end of an attempt at a task.
	Report Match = func(r *http.Request) bool {
		p := segments(r)
		return r.Method == http.MethodPost && (is(p, "v1", "tasks", "*", "complete") || is(p, "v1", "tasks", "*", "fail"))
	}
)

// Of narrows a match to requests whose path names a lock, a task or a session. Requests that say what they mean only in their
// body (sets, holds) or their query (classic) do not match.
func (m Match) Of(name string) Match {
	return func(r *http.Request) bool {
		p := segments(r)
		at := 2
		if len(p) > 0 && p[0] != "v1" {
			at = 1
		}
		if len(p) <= at {
			return false
		}
		decoded, err := url.PathUnescape(p[at])
		return err == nil && decoded == name && m(r)
	}
}

// segments splits the path as it was sent: a name may have slashes in it.
func segments(r *http.Request) []string {
	return strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
}

// is compares a path; "*" stands for any segment.
func is(path []string, want ...string) bool {
	if len(path) != len(want) {
		return false
	}
	for i, w := range want {
		if w != "*" && w != path[i] {
			return false
		}
	}
	return true
}
