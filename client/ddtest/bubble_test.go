package ddtest_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/client/ddtest"
)

// In a bubble time is virtual: leases expire at their second, and nobody waits.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ddtest.Start(t, ddtest.InMemory())
		want(t, acquire(t, s, "a", `{"key":"`+keyA+`","ttl":300}`), 200, "")
		time.Sleep(299 * time.Second)
		if h := s.Holders("a"); len(h) != 1 {
			t.Errorf("after 299 s it is held by %+v", h)
		}
		time.Sleep(2 * time.Second)
		want(t, must(t, s, "POST", "/v1/locks/a/renew", `{"key":"`+keyA+`"}`), 404, "not_held")
	})
}

func TestBubbleDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ddtest.Start(t, ddtest.InMemory())
		for key, c := range map[string]struct {
			plan func(*ddtest.Plan) *ddtest.Fault
			left float64 // of the lifetime, when the server executed the request
		}{
			keyA: {func(p *ddtest.Plan) *ddtest.Fault { return p.Delay(40 * time.Second) }, 20},
			keyB: {func(p *ddtest.Plan) *ddtest.Fault { return p.Late(40 * time.Second) }, 60},
		} {
			c.plan(s.Next(ddtest.Acquire))
			sent := time.Now()
			r := acquire(t, s, "a", `{"key":"`+key+`","ttl":60}`)
			want(t, r, 200, "")
			if took := time.Since(sent).Round(time.Second); took != 40*time.Second {
				t.Errorf("the answer came after %v", took)
			}
			if h := s.Holders("a"); len(h) != 1 || h[0].ExpiresIn.Round(time.Second).Seconds() != c.left {
				t.Errorf("it is held by %+v, want %v s left", h, c.left)
			}
			s.Expire("a")
		}
	})
}

// A grant that waited is delivered although the server hung meanwhile.
func TestBubbleHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ddtest.Start(t, ddtest.InMemory())
		acquire(t, s, "a", `{"ttl":10}`)
		got := make(chan reply, 1)
		go func() {
			r, err := ask(t.Context(), s.HTTPClient(), "POST", s.URL()+"/v1/locks/a", `{"wait":60,"ttl":60}`)
			if err != nil {
				t.Error(err)
			}
			got <- r
		}()
		s.AwaitWaiters("a", 1)
		s.Hang()
		time.Sleep(20 * time.Second)
		if len(got) != 0 {
			t.Error("an answer came")
		}
		s.Resume()
		want(t, <-got, 200, "")
	})
}

func TestBubbleCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ddtest.Start(t, ddtest.InMemory(), ddtest.Nodes(3))
		mine := acquire(t, s, "a", `{"key":"`+keyA+`","ttl":60}`)
		want(t, mine, 200, "")
		old := s.Leader()
		s.FailOver()
		if now := s.Leader(); now == old {
			t.Errorf("node %d leads again", now)
		}
		for _, url := range s.Endpoints() {
			r, err := ask(t.Context(), s.HTTPClient(), "POST", url+"/v1/locks/a/renew", `{"key":"`+keyA+`"}`)
			if err != nil {
				t.Fatal(err)
			}
			want(t, r, 200, "")
		}
		s.Advance(59 * time.Second)
		s.FailOver()
		if h := s.Holders("a"); len(h) != 1 || h[0].Token != mine.Token {
			t.Errorf("it is held by %+v", h)
		}
		s.Advance(2 * time.Second)
		if h := s.Holders("a"); len(h) != 0 {
			t.Errorf("it is held by %+v", h)
		}
		s.HandOver()
		want(t, acquire(t, s, "b", `{"ttl":3600}`), 200, "")
		s.Restart()
		if h := s.Holders("b"); len(h) != 1 {
			t.Errorf("after the restart it is held by %+v", h)
		}
		s.Expire("b")
	})
}

// Without a majority nobody gets an answer; with it again, everything is as it was.
func TestBubbleMinority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ddtest.Start(t, ddtest.InMemory(), ddtest.Nodes(3))
		acquire(t, s, "a", `{"key":"`+keyA+`","ttl":3600}`)
		s.Kill(1)
		s.Kill(1)
		s.Kill(2)
		if r := acquire(t, s, "b", `{}`); r.status != 503 {
			t.Errorf("got %+v", r)
		}
		_, err := ask(t.Context(), s.HTTPClient(), "GET", s.Endpoints()[1]+"/v1/locks/a", "")
		if err == nil {
			t.Error("a killed node answers")
		}
		s.Revive(2)
		want(t, must(t, s, "POST", "/v1/locks/a/renew", `{"key":"`+keyA+`"}`), 200, "")
		s.Revive(1)
		s.Revive(1)
	})
}

func TestMemoryReachesNothingElse(t *testing.T) {
	s := ddtest.Start(t, ddtest.InMemory())
	if _, err := ask(t.Context(), s.HTTPClient(), "GET", "http://127.0.0.1:1/", ""); err == nil {
		t.Error("the client reached something else")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ask(ctx, http.DefaultClient, "GET", s.URL(), ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
