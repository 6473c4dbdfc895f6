package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// sse is one event as a client reads it.
type sse struct {
	id, event string
	data      map[string]any
}

// stream opens a stream of events past the checker, and ends with the test.
func (d *door) stream(path string, last ...string) *bufio.Reader {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.t.Context()), 20*time.Second)
	d.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+path, http.NoBody)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, id := range last {
		r.Header.Set("Last-Event-ID", id)
	}
	res, err := d.check.base.RoundTrip(r)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != 200 || !isStream(res) {
		d.t.Fatalf("%s: %d %v", path, res.StatusCode, res.Header)
	}
	b := bufio.NewReader(res.Body)
	if line, err := b.ReadString('\n'); err != nil || line != "retry: 1000\n" {
		d.t.Fatalf("it begins with %q, %v", line, err)
	}
	return b
}

// next reads one event; its data holds what the document says of an event.
func (d *door) next(b *bufio.Reader) sse {
	d.t.Helper()
	var e sse
	for {
		line, err := b.ReadString('\n')
		if err != nil {
			d.t.Fatalf("the stream ended: %v", err)
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case line == "\n" && e.event != "":
			return e
		case name == "id":
			e.id = value
		case name == "event":
			e.event = value
		case name == "data":
			var raw any
			if err := json.Unmarshal([]byte(value), &raw); err != nil {
				d.t.Fatal(err)
			}
			if err := d.check.doc.Components.Schemas["Event"].Value.VisitJSON(raw); err != nil {
				d.t.Errorf("%s is beyond the document: %v", value, err)
			}
			e.data, _ = raw.(map[string]any)
			if looksSecret.MatchString(value) {
				d.t.Errorf("an event tells a key: %s", value)
			}
		}
	}
}

func (d *door) wantNext(b *bufio.Reader, event, name string) sse {
	d.t.Helper()
	e := d.next(b)
	if e.event != event || e.data["name"] != name {
		d.t.Fatalf("%s of %v, want %s of %s", e.event, e.data["name"], event, name)
	}
	return e
}

func TestEventsOfALock(t *testing.T) {
	d := openDoor(t)
	b := d.stream("/v1/locks/a%2Fb/events")
	d.ok("POST", "/v1/locks/other", "")
	d.ok("POST", "/v1/tasks/a%2Fb", "")
	d.ok("POST", "/v1/locks/a%2Fb", `{"key":"`+key(1)+`","owner":"me","metadata":"two\nlines","ttl":60}`)
	g := d.wantNext(b, "granted", "a/b")
	if g.data["owner"] != "me" || g.data["metadata"] != "two\nlines" || g.data["ttl"] != 60.0 || g.data["mode"] != "exclusive" || g.data["token"] == nil {
		t.Errorf("granted %v", g.data)
	}
	d.ok("DELETE", "/v1/locks/a%2Fb", "", "Lock-Key", key(1))
	d.wantNext(b, "released", "a/b")
}

func TestEventsGoOnWhereTheyStopped(t *testing.T) {
	d := openDoor(t)
	b := d.stream("/v1/events?prefix=a&of=locks")
	for _, n := range []string{"a1", "b1", "a2", "a3"} {
		d.ok("POST", "/v1/locks/"+n, "")
	}
	first := d.wantNext(b, "granted", "a1")
	for range 2 { // whoever asks again, with the same id, is told the same
		b = d.stream("/v1/events?prefix=a&of=locks", first.id)
		d.wantNext(b, "granted", "a2")
		d.wantNext(b, "granted", "a3")
	}
	b = d.stream("/v1/events", "9999999-1")
	missed := d.next(b)
	if missed.event != "missed" || missed.data["detail"] == nil || missed.id == "" {
		t.Errorf("an id that is to come: %v", missed)
	}
	d.ok("POST", "/v1/locks/a4", "")
	d.wantNext(b, "granted", "a4")
	d.wantNext(d.stream("/v1/events?prefix=a4", missed.id), "granted", "a4")
}

func TestEventsOfTasks(t *testing.T) {
	d := openDoor(t)
	b, all := d.stream("/v1/tasks/t/events"), d.stream("/v1/events?of=tasks")
	d.ok("POST", "/v1/locks/t", "")
	d.ok("POST", "/v1/tasks/t", `{"key":"`+key(1)+`","owner":"me"}`)
	d.ok("POST", "/v1/tasks/t/renew", `{"key":"`+key(1)+`","progress":"half"}`)
	d.ok("POST", "/v1/tasks/t/complete", `{"key":"`+key(1)+`","result":"all"}`)
	for _, s := range []*bufio.Reader{b, all} {
		if e := d.wantNext(s, "task_claimed", "t"); e.data["status"] != "running" || e.data["attempt"] != 1.0 {
			t.Errorf("claimed %v", e.data)
		}
		if e := d.wantNext(s, "task_progress", "t"); e.data["progress"] != "half" {
			t.Errorf("progress %v", e.data)
		}
		if e := d.wantNext(s, "task_done", "t"); e.data["result"] != "all" || e.data["status"] != "done" {
			t.Errorf("done %v", e.data)
		}
	}
}

// pieces notes how much a handler writes at once.
type pieces struct {
	*httptest.ResponseRecorder
	longest int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.longest = max(p.longest, len(b))
	return p.ResponseRecorder.Write(b)
}

func (*pieces) SetWriteDeadline(time.Time) error { return nil }

// TestLongEventsAreWrittenInPieces: what a reader who comes back has to be told is not gathered in memory first.
func TestLongEventsAreWrittenInPieces(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/tasks/t", `{"key":"`+key(1)+`"}`)
	const n = 40
	for i := range n {
		d.ok("POST", "/v1/tasks/t/renew", `{"key":"`+key(1)+`","progress":"`+strings.Repeat(string(rune('A'+i)), 16<<10)+`"}`)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w := &pieces{ResponseRecorder: httptest.NewRecorder()}
	r := mustRequest(t, http.MethodGet, d.url+"/v1/events?of=tasks").WithContext(ctx)
	r.Header.Set("Last-Event-ID", "0-0")
	seen := 0
	c := newCall(w, r)
	err := d.server.streamEvents(c, func(e *locktable.Event) bool {
		if seen++; seen == n+1 { // the last one
			cancel()
		}
		return isAbout(e, aboutTasks)
	})
	if got := strings.Count(w.Body.String(), "event: task_"); err != nil || got != n+1 {
		t.Errorf("%d events were written, %v", got, err)
	}
	if w.longest > 2*eventWrite {
		t.Errorf("%d bytes were written at once", w.longest)
	}
}

func TestEventsRefuseBadInput(t *testing.T) {
	d := openDoor(t)
	for _, path := range []string{"/v1/events?of=x", "/v1/events?x=1", "/v1/events?of=locks&of=tasks", "/v1/locks/a/events?prefix=a", "/v1/tasks/a/events?of=tasks"} {
		d.problem(400, CodeInvalidField, "GET", path, "")
	}
	for _, id := range []string{"x", "1", "-", "1-", "1-x", "-1-1", "1-4294967296"} {
		d.problem(400, CodeInvalidField, "GET", "/v1/events", "", "Last-Event-ID", id)
	}
	d.problem(400, CodeInvalidName, "GET", "/v1/locks/../events", "")
	d.server.streams.Store(maxEventStreams)
	d.problem(429, CodeTooManyStreams, "GET", "/v1/events", "")
	d.server.streams.Store(0)
}

// TestSlowReaderIsCutOff: whoever does not read gets no more once it has missed something, and nobody waits for it.
func TestSlowReaderIsCutOff(t *testing.T) {
	d := openDoor(t)
	slow, quick := d.stream("/v1/events?prefix=many"), d.stream("/v1/events?prefix=last")
	metadata := strings.Repeat("m", 4000)
	var all sync.WaitGroup
	for worker := range 64 { // more events than are kept, and more bytes than the sockets take
		all.Go(func() {
			name := fmt.Sprintf("many%d", worker)
			for i := range 160 {
				k := key(worker*1000 + i)
				a := &command.Acquire{Name: name, Key: k, Ttl: int64(time.Hour), Metadata: metadata}
				if o, err := d.backend.Propose(t.Context(), command.FromAcquire(a)); err != nil || o.Code != locktable.Granted {
					t.Error(o.Code, err)
					return
				}
				if _, err := d.backend.Propose(t.Context(), command.FromRelease(&command.Release{Name: name, Key: k})); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	d.ok("POST", "/v1/locks/last", "")
	d.wantNext(quick, "granted", "last")
	rest, err := io.ReadAll(slow)
	text := string(rest)
	if n := strings.Count(text, "event: granted"); n >= 64*160 {
		t.Errorf("it got all %d events", n)
	}
	// If the writing took longer than a piece may take, the connection was cut instead.
	if err == nil && !strings.Contains(text[strings.LastIndex(text, "event: "):], "event: missed") {
		t.Errorf("it was not told: %q", text[max(0, len(text)-200):])
	}
}

// TestStopEndsStreams: a stream does not hold up the end of the server.
func TestStopEndsStreams(t *testing.T) {
	d := openDoor(t)
	b := d.stream("/v1/events")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := d.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := b.ReadString('\n')
		if err != nil {
			break
		}
		if line != "\n" {
			t.Errorf("after the end came %q", line)
		}
	}
}

// deadlines notes the write deadlines that a handler sets.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// TestQuietStreamHasNoDeadline: each piece has to be taken in time, but a stream on which nothing happens is not reset.
func TestQuietStreamHasNoDeadline(t *testing.T) {
	d := openDoor(t)
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	c := newCall(w, mustRequest(t, http.MethodGet, d.url+"/v1/events"))
	c.buf = append(c.buf[:0], ":\n\n"...)
	if !d.server.writeEvents(c) || len(w.set) != 2 || w.set[0].IsZero() || !w.set[1].IsZero() {
		t.Errorf("deadlines %v", w.set)
	}
}
