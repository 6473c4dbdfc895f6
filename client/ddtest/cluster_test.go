package ddtest_test

import (
	"testing"

	"github.com/doubledutch-lock/doubledutch/client/ddtest"
)

// The same in real time, over sockets.
func TestFailOver(t *testing.T) {
	s := ddtest.Start(t, ddtest.Nodes(3))
	if n := len(s.Endpoints()); n != 3 {
		t.Fatalf("there are %d endpoints", n)
	}
	mine := acquire(t, s, "a", `{"key":"`+keyA+`","ttl":3600}`)
	s.FailOver()
	h := s.Holders("a")
	if len(h) != 1 || h[0].Token != mine.Token {
		t.Errorf("it is held by %+v", h)
	}
	for _, url := range s.Endpoints() {
		r, err := ask(t.Context(), s.HTTPClient(), "POST", url+"/v1/locks/a/renew", `{"key":"`+keyA+`"}`)
		if err != nil {
			t.Fatal(err)
		}
		want(t, r, 200, "")
	}
}

func TestRestart(t *testing.T) {
	s := ddtest.Start(t)
	url := s.URL()
	mine := acquire(t, s, "a", `{"key":"`+keyA+`","ttl":3600}`)
	s.Restart()
	if s.URL() != url {
		t.Errorf("the address changed from %s to %s", url, s.URL())
	}
	if h := s.Holders("a"); len(h) != 1 || h[0].Token != mine.Token {
		t.Errorf("it is held by %+v", h)
	}
	s.Kill(0)
	if _, err := ask(t.Context(), s.HTTPClient(), "GET", url+"/v1/locks/a", ""); err == nil {
		t.Error("a killed server answers")
	}
	s.Revive(0)
	want(t, must(t, s, "POST", "/v1/locks/a/renew", `{"key":"`+keyA+`"}`), 200, "")
}
