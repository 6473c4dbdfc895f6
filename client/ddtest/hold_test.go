package ddtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/client/ddtest"
)

func TestExpire(t *testing.T) {
	s := ddtest.Start(t)
	mine := acquire(t, s, "a", `{"key":"`+keyA+`","ttl":3600}`)
	other := acquire(t, s, "b", `{"ttl":3600}`)
	want(t, mine, 200, "")
	s.Expire("a")
	want(t, must(t, s, "POST", "/v1/locks/a/renew", `{"key":"`+keyA+`"}`), 404, "not_held")
	if h := s.Holders("a"); len(h) != 0 {
		t.Errorf("it is held by %+v", h)
	}
	if h := s.Holders("b"); len(h) != 1 || h[0].Token != other.Token || h[0].ExpiresIn > time.Hour || h[0].ExpiresIn < time.Minute {
		t.Errorf("the other lock is held by %+v", h)
	}
	rival := s.Take("a")
	if rival.Token <= mine.Token {
		t.Errorf("the rival has token %d, mine was %d", rival.Token, mine.Token)
	}
	want(t, acquire(t, s, "a", `{}`), 409, "held")
	rival.Release()
	rival.Release()
	want(t, acquire(t, s, "a", `{}`), 200, "")
}

func TestExpireGivesTheLockToWhoWaits(t *testing.T) {
	s := ddtest.Start(t)
	acquire(t, s, "a", `{"ttl":3600,"owner":"first"}`)
	got := make(chan reply, 1)
	go func() {
		r, err := ask(t.Context(), s.HTTPClient(), "POST", s.URL()+"/v1/locks/a", `{"wait":3600,"owner":"second","metadata":"why"}`)
		if err != nil {
			t.Error(err)
		}
		got <- r
	}()
	s.AwaitWaiters("a", 1)
	if n := s.Waiters("a"); n != 1 {
		t.Errorf("%d wait", n)
	}
	s.Expire("a")
	want(t, <-got, 200, "")
	if h := s.Holders("a"); len(h) != 1 || h[0].Owner != "second" || h[0].Metadata != "why" || h[0].Shared {
		t.Errorf("it is held by %+v", h)
	}
}

func TestExpireOfManyKinds(t *testing.T) {
	s := ddtest.Start(t)
	for range 3 {
		want(t, acquire(t, s, "shared", `{"mode":"shared","ttl":3600}`), 200, "")
	}
	if h := s.Holders("shared"); len(h) != 3 || !h[0].Shared {
		t.Errorf("it is held by %+v", h)
	}
	s.Expire("shared")

	want(t, must(t, s, "POST", "/v1/locks", `{"names":["x","y"],"key":"`+keyA+`","ttl":3600}`), 200, "")
	s.Expire("y")

	want(t, must(t, s, "POST", "/v1/sessions", `{"id":"`+keyB+`","ttl":3600}`), 200, "")
	want(t, acquire(t, s, "s1", `{"session":"`+keyB+`"}`), 200, "")
	want(t, acquire(t, s, "s2", `{"session":"`+keyB+`"}`), 200, "")
	s.Expire("s1")
	want(t, must(t, s, "POST", "/v1/sessions/"+keyB+"/renew", `{}`), 404, "no_session")

	for _, name := range []string{"shared", "x", "y", "s1", "s2"} {
		if h := s.Holders(name); len(h) != 0 {
			t.Errorf("%s is held by %+v", name, h)
		}
	}
}

func TestExpireTask(t *testing.T) {
	s := ddtest.Start(t)
	mine := must(t, s, "POST", "/v1/tasks/job", `{"key":"`+keyA+`","ttl":3600}`)
	if mine.Status != "claimed" {
		t.Fatalf("got %+v", mine)
	}
	s.ExpireTask("job")
	want(t, must(t, s, "POST", "/v1/tasks/job/complete", `{"key":"`+keyA+`"}`), 409, "not_claimant")
	if next := must(t, s, "POST", "/v1/tasks/job", `{"ttl":60}`); next.Status != "claimed" || next.Token <= mine.Token {
		t.Errorf("got %+v", next)
	}
}

func TestBreak(t *testing.T) {
	s := ddtest.Start(t)
	acquire(t, s, "a", `{"key":"`+keyA+`","ttl":3600}`)
	s.Break("a", "for the test")
	want(t, must(t, s, "POST", "/v1/locks/a/renew", `{"key":"`+keyA+`"}`), 409, "broken")
}

func TestAdvance(t *testing.T) {
	s := ddtest.Start(t)
	acquire(t, s, "a", `{"key":"`+keyA+`","ttl":100}`)
	acquire(t, s, "b", `{"ttl":7200}`)
	s.Advance(50 * time.Second)
	if h := s.Holders("a"); len(h) != 1 || h[0].ExpiresIn > 50*time.Second {
		t.Errorf("after half of its lifetime it is held by %+v", h)
	}
	s.Advance(51 * time.Second)
	want(t, must(t, s, "POST", "/v1/locks/a/renew", `{"key":"`+keyA+`"}`), 404, "not_held")
	if h := s.Holders("b"); len(h) != 1 {
		t.Errorf("the other lock is held by %+v", h)
	}
}

func TestAdvanceMovesTheCalendar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where the day has just begun
		s := ddtest.Start(t, ddtest.InMemory())
		claim := func() any {
			t.Helper()
			return must(t, s, "POST", "/v1/tasks/daily", `{"every":86400,"ttl":60,"key":"`+keyA+`"}`).Status
		}
		today := claim()
		must(t, s, "POST", "/v1/tasks/daily/complete", `{"key":"`+keyA+`"}`)
		again := must(t, s, "POST", "/v1/tasks/daily", `{"every":86400,"ttl":60}`).Status
		s.Advance(24 * time.Hour)
		tomorrow := must(t, s, "POST", "/v1/tasks/daily", `{"every":86400,"ttl":60}`).Status
		if today != "claimed" || again != "done" || tomorrow != "claimed" {
			t.Errorf("today it is %v, then %v, tomorrow %v", today, again, tomorrow)
		}
	})
}

func TestAPIKey(t *testing.T) {
	s := ddtest.Start(t, ddtest.APIKey("secret"))
	want(t, acquire(t, s, "a", `{}`), 401, "unauthorized")
	want(t, must(t, s, "POST", "/v1/locks/a", `{}`, "Authorization", "Bearer secret"), 200, "")
}
