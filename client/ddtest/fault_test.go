package ddtest_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/client/ddtest"
)

const body = `{"key":"` + keyA + `","ttl":3600}`

// lost sends an acquire of the lock a that gets no answer.
func lost(t *testing.T, s *ddtest.Server) {
	t.Helper()
	if r, err := ask(t.Context(), s.HTTPClient(), "POST", s.URL()+"/v1/locks/a", body); err == nil {
		t.Errorf("an answer came: %+v", r)
	}
}

func TestLose(t *testing.T) {
	s := ddtest.Start(t)
	f := s.Next(ddtest.Acquire).Lose()
	lost(t, s)
	<-f.Done()
	if h := s.Holders("a"); len(h) != 0 {
		t.Errorf("it is held by %+v", h)
	}
	want(t, acquire(t, s, "a", body), 200, "")
	if f.Count() != 1 {
		t.Errorf("it struck %d times", f.Count())
	}
}

func TestLoseAnswer(t *testing.T) {
	s := ddtest.Start(t)
	s.Next(ddtest.Acquire).LoseAnswer()
	lost(t, s)
	h := s.Holders("a")
	if len(h) != 1 {
		t.Fatalf("it is held by %+v", h)
	}
	if r := acquire(t, s, "a", body); r.status != 200 || r.Token != h[0].Token {
		t.Errorf("the repetition got %+v, want the token %d", r, h[0].Token)
	}
}

func TestSwallow(t *testing.T) {
	for name, c := range map[string]struct {
		plan func(*ddtest.Plan) *ddtest.Fault
		held int
	}{
		"request": {(*ddtest.Plan).Swallow, 0},
		"answer":  {(*ddtest.Plan).SwallowAnswer, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := ddtest.Start(t)
			f := c.plan(s.Next(ddtest.Acquire))
			ctx, giveUp := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := ask(ctx, s.HTTPClient(), "POST", s.URL()+"/v1/locks/a", body)
				ended <- err
			}()
			<-f.Done()
			select {
			case err := <-ended:
				t.Errorf("the request ended by itself: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			giveUp()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the request ended with %v", err)
			}
			if h := s.Holders("a"); len(h) != c.held {
				t.Errorf("it is held by %+v", h)
			}
		})
	}
}

func TestTwice(t *testing.T) {
	s := ddtest.Start(t)
	acquire(t, s, "a", body)
	s.Next(ddtest.Release).Twice()
	want(t, must(t, s, "DELETE", "/v1/locks/a", "", "Lock-Key", keyA), 404, "not_held")
	s.Next(ddtest.Acquire).Twice()
	want(t, acquire(t, s, "a", `{"key":"`+keyB+`"}`), 200, "")
}

func TestEcho(t *testing.T) {
	s := ddtest.Start(t)
	s.Next(ddtest.Acquire).Echo(time.Millisecond)
	want(t, acquire(t, s, "a", body), 200, "")
	want(t, must(t, s, "DELETE", "/v1/locks/a", "", "Lock-Key", keyA), 200, "")
	// Whenever the copy comes, the lock stays free: its key is spent.
	want(t, acquire(t, s, "a", `{"wait":5}`), 200, "")
}

func TestRefuse(t *testing.T) {
	s := ddtest.Start(t)
	f := s.Every(ddtest.Acquire.Of("a/b")).Refuse(503, "unavailable")
	for range 2 {
		want(t, acquire(t, s, "a%2Fb", `{}`), 503, "unavailable")
	}
	want(t, acquire(t, s, "c", `{}`), 200, "")
	if f.Count() != 2 {
		t.Errorf("it struck %d times", f.Count())
	}
	f.Stop()
	want(t, acquire(t, s, "a%2Fb", `{}`), 200, "")
}

func TestHang(t *testing.T) {
	s := ddtest.Start(t)
	acquire(t, s, "a", body)
	s.Hang()
	got := make(chan reply, 1)
	go func() {
		r, err := ask(t.Context(), s.HTTPClient(), "POST", s.URL()+"/v1/locks/a/renew", `{"key":"`+keyA+`"}`)
		if err != nil {
			t.Error(err)
		}
		got <- r
	}()
	select {
	case r := <-got:
		t.Errorf("an answer came: %+v", r)
	case <-time.After(50 * time.Millisecond):
	}
	s.Expire("a") // time goes on behind it
	s.Resume()
	want(t, <-got, 404, "not_held")
}

func TestMatches(t *testing.T) {
	all := map[string]ddtest.Match{
		"acquire": ddtest.Acquire, "renew": ddtest.Renew, "release": ddtest.Release, "claim": ddtest.Claim, "report": ddtest.Report,
	}
	for request, meant := range map[string]string{
		"POST /v1/locks/a": "acquire", "POST /v1/locks/a%2Fb": "acquire", "POST /v1/locks": "acquire", "GET /getLock/a": "acquire",
		"GET /getLock/a/30": "acquire", "GET /getlock?lockname=a": "acquire",
		"POST /v1/locks/a/renew": "renew", "POST /v1/holds/renew": "renew", "POST /v1/sessions/x/renew": "renew", "POST /v1/tasks/a/renew": "renew",
		"DELETE /v1/locks/a": "release", "DELETE /v1/holds": "release", "DELETE /v1/sessions/x": "release",
		"GET /releaseLock/a/k": "release", "DELETE /releaselock?lockname=a": "release",
		"POST /v1/tasks/a": "claim", "POST /v1/tasks/a/complete": "report", "POST /v1/tasks/a/fail": "report",
		"GET /v1/locks/a": "", "DELETE /v1/locks/a/holders": "", "POST /v1/locks/a/ask": "", "GET /v1/locks": "", "POST /v1/sessions": "",
		"GET /healthz": "", "POST /v1/verify": "", "GET /": "",
	} {
		method, target := request[:len(request)-len(after(request))-1], after(request)
		r, err := http.NewRequestWithContext(t.Context(), method, "http://x"+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range all {
			if m(r) != (name == meant) {
				t.Errorf("%s: %s is %v", request, name, m(r))
			}
		}
		if !ddtest.Any(r) {
			t.Errorf("%s is not any request", request)
		}
	}
}

// after returns what comes behind the first space.
func after(s string) string {
	for i := range s {
		if s[i] == ' ' {
			return s[i+1:]
		}
	}
	return ""
}
