package ddtest

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
)

// answer is what the server would have answered, kept back.
type answer struct {
	header http.Header
	status int // 0: none came
	body   bytes.Buffer
}

var _ http.ResponseWriter = (*answer)(nil)

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// execute lets the server do what r asks, and returns what it answers. The server believes that the answer has arrived.
func execute(door http.Handler, r *http.Request) *answer {
	a := &answer{header: http.Header{}}
	defer func() {
		// The server gives up on a client that has gone. Whatever else happened is for net/http to tell.
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
			panic(p)
		}
	}()
	door.ServeHTTP(a, r)
	return a
}

// send passes the answer on, or cuts the connection if there is none.
func (a *answer) send(w http.ResponseWriter) {
	if a == nil || a.status == 0 {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes())
}

// problem answers as the server would.
func problem(w http.ResponseWriter, status int, code string) {
	body, _ := json.Marshal(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": "The test refuses this request.", "code": code,
	})
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
