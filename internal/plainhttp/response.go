package plainhttp

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// response gathers one answer and writes it at once.
type response struct {
	c        *conn
	header   http.Header
	status   int // 0: not said yet
	body     []byte
	declared int  // the length of the body, as the handler says; -1: it does not
	sent     bool // or failed to be
	err      error
	buf      []byte // what is written
}

// Answers whose buffers grew beyond this leave them to the collector.
const maxKept = 16 << 10

var errStreamed = fmt.Errorf("plainhttp: only a whole answer can be written: %w", errors.ErrUnsupported)

// begin makes w ready for the next answer.
func (w *response) begin() {
	if w.header == nil {
		w.header = make(http.Header)
	}
	clear(w.header)
	if cap(w.body) > maxKept || cap(w.buf) > maxKept {
		w.body, w.buf = nil, nil
	}
	w.status, w.declared, w.sent, w.err = 0, -1, false, nil
	w.body = w.body[:0]
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	if v := w.header["Content-Length"]; len(v) == 1 {
		if n, err := strconv.Atoi(v[0]); err == nil && n >= 0 {
			w.declared = n
		}
	}
}

// Write implements http.ResponseWriter. It keeps b for when the answer is sent.
func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	switch {
	case w.sent, w.declared >= 0 && len(w.body)+len(b) > w.declared:
		return 0, http.ErrContentLength
	case !hasBody(w.status):
		return 0, http.ErrBodyNotAllowed
	}
	w.body = append(w.body, b...)
	return len(b), nil
}

// FlushError sends the answer, which must be complete, and says whether the system took it.
func (w *response) FlushError() error {
	if !w.sent && w.declared != len(w.body) && hasBody(w.status) {
		return errStreamed
	}
	w.send()
	return w.err
}

// SetWriteDeadline does nothing: every answer has the time that the listener gives it from when it is sent.
func (w *response) SetWriteDeadline(time.Time) error { return nil }

// finish sends what is not sent yet, and tells whether another request can follow on the connection.
func (w *response) finish() bool {
	w.WriteHeader(http.StatusOK)
	w.send()
	whole := w.declared < 0 || w.declared == len(w.body)
	return w.err == nil && whole && !w.closes()
}

// closes tells whether the answer is the last one of its connection.
func (w *response) closes() bool {
	v := w.header["Connection"]
	return len(v) == 1 && v[0] == "close"
}

func (w *response) send() {
	if w.sent {
		return
	}
	w.sent = true
	if w.c.ln.closing.Load() {
		w.header["Connection"] = closing
	}
	now := time.Now()
	w.buf = append(w.appendHead(w.buf[:0], now), w.body...)
	w.err = w.c.write(w.buf, now)
}

var closing = []string{"close"}

func (w *response) appendHead(b []byte, now time.Time) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(w.status)...)
	b = append(b, "\r\n"...)
	for name, values := range w.header {
		for _, v := range values {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, oneLine(v)...)
			b = append(b, "\r\n"...)
		}
	}
	b = append(b, "Date: "...)
	b = append(b, w.c.ln.date(now)...)
	b = append(b, "\r\n"...)
	if w.declared < 0 && hasBody(w.status) {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(w.body)), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// oneLine keeps a value from becoming more than one line, as net/http does.
func oneLine(v string) string {
	for i := range len(v) {
		if v[i] == '\r' || v[i] == '\n' {
			return lineEnds.Replace(v)
		}
	}
	return v
}

var lineEnds = strings.NewReplacer("\r", " ", "\n", " ")

func hasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
