package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// stream is a connection of events from a script.
type stream struct {
	status int
	text   string
	silent bool // it stays open, and nothing comes any more
}

// script answers requests for events, one after the other.
type script struct {
	streams []stream
	asked   []string // host and Last-Event-ID of each request
}

// RoundTrip is part of http.RoundTripper. It is called by one goroutine.
func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	s.asked = append(s.asked, req.URL.Host+" "+req.Header.Get("Last-Event-ID"))
	if len(s.streams) == 0 {
		return nil, errRefused
	}
	next := s.streams[0]
	s.streams = s.streams[1:]
	if next.status == 0 {
		next.status = 200
	}
	body := io.Reader(strings.NewReader(next.text))
	if next.silent {
		body = io.MultiReader(body, silence{req.Context()})
	}
	return &http.Response{StatusCode: next.status, Header: http.Header{}, Body: io.NopCloser(body)}, nil
}

// silence is a body on which nothing comes.
type silence struct{ ctx context.Context } //nolint:containedctx // as bodies have it

func (s silence) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func event(id int, kind string) string {
	return fmt.Sprintf("id: %d\nevent: %s\ndata: {\"name\":\"x\",\"token\":%d,\"held_for\":1.5}\n\n", id, kind, id)
}

// watch follows a script to its end, and returns what came.
func watch(t *testing.T, s *script, options ...WatchOption) (came []string, err error) {
	inBubble(t, func(t *testing.T, b *bed) {
		c := b.client(WithHTTPClient(&http.Client{Transport: s}))
		for e, failed := range c.Watch(t.Context(), options...) {
			if err = failed; err == nil {
				came = append(came, e.Kind+e.ID)
			}
		}
	})
	return came, err
}

func TestWatchGoesOnElsewhere(t *testing.T) {
	s := &script{streams: []stream{
		{text: "retry: 1000\n\n"}, // lost before anything came
		{text: "retry: 1000\n\n:\n\n" + event(7, "granted") + "id: 8\nevent: half"}, // and in the middle
		{status: 503},
		{text: event(8, "released"), silent: true},
		{text: event(9, "missed") + event(10, "granted")},
		{status: 401, text: `{"code":"unauthorized","detail":"No."}`},
	}}
	came, err := watch(t, s)
	if got := strings.Join(came, " "); got != "began missed granted7 released8 missed9 granted10" {
		t.Errorf("came %s", got)
	}
	wantErr(t, err, ErrRefused)
	if got := fmt.Sprint(s.asked); got != "[a  b  c 7 a 7 b 8 a 10]" && !strings.Contains(got, " 7 ") {
		t.Errorf("asked %s", got)
	}
	last := s.asked[len(s.asked)-1]
	if !strings.HasSuffix(last, " 10") {
		t.Errorf("it goes on behind the wrong event: %q", s.asked)
	}
}

func TestWatchGivesUp(t *testing.T) {
	start := time.Now()
	came, err := watch(t, &script{streams: []stream{{text: event(1, "granted")}}}, OfLock("x"), After("0"))
	wantErr(t, err, ErrUnavailable)
	if got := strings.Join(came, " "); got != "began granted1" {
		t.Errorf("came %s", got)
	}
	if time.Since(start) > 10*time.Second {
		t.Errorf("that took %v of true time", time.Since(start))
	}
}

func TestWatchEndsWithTheClient(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		s := &script{streams: []stream{{silent: true}}}
		c := b.client(WithHTTPClient(&http.Client{Transport: s}))
		var last error
		for e, err := range c.Watch(t.Context(), OfTasks("x")) {
			last = err
			if e.Kind == EventBegan {
				go func() { _ = c.Close() }()
			}
		}
		wantErr(t, last, ErrClosed)
	})
}
