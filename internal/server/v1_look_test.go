package server

import (
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

func TestHistoryAnswersWhoHeldItThen(t *testing.T) {
	d := openDoor(t)
	night := time.Date(2020, 2, 3, 2, 0, 0, 0, time.UTC)
	for i, owner := range []string{"first", "second", "third"} {
		d.calendar(night.Add(time.Duration(i) * time.Hour))
		d.hold("a", i, `"owner":"`+owner+`","slots":2`)
		d.calendar(night.Add(time.Duration(i)*time.Hour + 30*time.Minute))
		if owner != "third" {
			d.ok("DELETE", "/v1/locks/a", "", "Lock-Key", key(i))
		}
	}
	all := d.ok("GET", "/v1/locks/a/history", "")
	past := parts(t, all, "holds")
	first := past[1]
	since, _ := first["since"].(string)
	ended, _ := first["ended"].(string)
	if len(past) != 2 || past[0]["owner"] != "second" || first["owner"] != "first" || first["end"] != "released" || first["slots"] != 2.0 ||
		!strings.HasPrefix(since, "2020-02-03T02:00:00") || !strings.HasPrefix(ended, "2020-02-03T02:30:00") || all["remembered_since"] != since {
		t.Errorf("the history says %v", all)
	}
	if now := parts(t, all, "holders"); all["holder_count"] != 1.0 || len(now) != 1 || now[0]["owner"] != "third" {
		t.Errorf("the history says %v", all)
	}
	if some := parts(t, d.ok("GET", "/v1/locks/a/history?limit=1", ""), "holds"); len(some) != 1 || some[0]["owner"] != "second" {
		t.Errorf("with a limit, the history says %v", some)
	}
	for at, want := range map[string]string{
		"2020-02-03T01:59:59Z":         "",
		"2020-02-03T02:03:00Z":         "first",
		"2020-02-03T03:03:00%2B01:00":  "first",
		"2020-02-03T02:45:00Z":         "",
		"2020-02-03T03:29:59Z":         "second",
		"2020-02-03T04:15:00Z":         "third",
		"2020-02-03T04:30:40.5Z":       "third", // a clock that is ahead
		"2020-02-03T02:03:00.25-00:00": "first",
	} {
		m := d.ok("GET", "/v1/locks/a/history?at="+at, "")
		var got []string
		for _, h := range append(parts(t, m, "holders"), parts(t, m, "holds")...) {
			owner, _ := h["owner"].(string)
			got = append(got, owner)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("at %s it was held by %q, want %q", at, got, want)
		}
	}
	d.problem(400, CodeInvalidField, "GET", "/v1/locks/a/history?at=2020-02-03T04:35:00Z", "")
	if m := d.ok("GET", "/v1/locks/a/history?consistency=stale&at=2020-02-03T02:03:00Z", ""); m["consistency"] != "stale" || len(parts(t, m, "holds")) != 1 {
		t.Errorf("a stale answer is %v", m)
	}
	d.want(200, `{"name":"b","holder_count":0,"holders":[],"holds":[]}`, "GET", "/v1/locks/b/history", "")
}

// TestTimesOfDayAreTheCalendars looks at every answer that tells a time of day.
func TestTimesOfDayAreTheCalendars(t *testing.T) {
	d := openDoor(t)
	d.calendar(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC))
	d.ok("POST", "/v1/sessions", `{"id":"`+key(9)+`"}`)
	d.hold("a", 1, `"session":"`+key(9)+`"`)
	d.ok("POST", "/v1/locks/a/ask", `{"reason":"why"}`)
	d.calendar(time.Date(2009, 1, 1, 0, 0, 0, 0, time.UTC))
	answers := []*answer{
		d.get("/v1/locks/a"), d.get("/v1/locks/a?consistency=stale"), d.get("/v1/locks"), d.get("/v1/locks?consistency=stale"), d.get("/v1/sessions/" + key(9)),
		d.get("/v1/holds", "Lock-Key", key(1)), d.get("/v1/locks/a", "Lock-Key", key(1)), d.do("POST", "/v1/locks/a", ""),
		d.do("POST", "/v1/locks/a/renew", `{"key":"`+key(1)+`"}`), d.get("/v1/locks/a/history"),
	}
	for i, a := range answers {
		if !strings.Contains(a.body, `"since":"2001-01-01T00:00:0`) || strings.Contains(a.body, `"since":"2009`) || strings.Contains(a.body, `"since":"202`) {
			t.Errorf("answer %d tells another time than the calendar's: %s", i, a.body)
		}
	}
}

func TestShowTellsMyPlaceAndTheChain(t *testing.T) {
	d := openDoor(t)
	d.calendar(time.Now())
	d.hold("a", 7, "")
	d.ok("DELETE", "/v1/locks/a", "", "Lock-Key", key(7))
	for i, owner := range []string{"ann", "bob"} {
		d.ok("POST", "/v1/sessions", `{"id":"`+key(90+i)+`","owner":"`+owner+`"}`)
	}
	d.hold("a", 1, `"session":"`+key(90)+`"`)
	token := d.hold("b", 2, `"session":"`+key(91)+`"`)["token"]
	_ = d.queue("b", 3, `"session":"`+key(90)+`"`)
	_ = d.queue("a", 4, `"owner":"cid"`)
	m := d.ok("GET", "/v1/locks/a", "", "Lock-Key", key(4))
	place := part(t, m, "place")
	if left, _ := place["gives_up_in"].(float64); place["position"] != 1.0 || left <= 50 || left > 60 || m["hold"] != nil {
		t.Errorf("my place is %v", place)
	}
	chain := parts(t, m, "waits_for")
	if len(chain) != 1 || chain[0]["owner"] != "ann" || chain[0]["waits_for"] != "b" || chain[0]["held_by"] != "bob" || chain[0]["token"] != token || chain[0]["queued"] != nil {
		t.Errorf("the chain is %v", chain)
	}
	hold := part(t, d.ok("GET", "/v1/locks/a", "", "Lock-Key", key(1)), "hold")
	if hold["ttl"] != 30.0 || hold["token"] == nil {
		t.Errorf("my hold is %v", hold)
	}
	for _, k := range []int{2, 55} { // of another lock, and of none
		if m := d.ok("GET", "/v1/locks/a", "", "Lock-Key", key(k)); m["place"] != nil || m["hold"] != nil {
			t.Errorf("a stranger is told %v", m)
		}
	}
	stale := d.ok("GET", "/v1/locks/a?consistency=stale", "", "Lock-Key", key(4))
	if part(t, stale, "place")["position"] != 1.0 || len(parts(t, stale, "waits_for")) != 1 {
		t.Errorf("a stale look is %v", stale)
	}
	if strings.Contains(d.get("/v1/locks/a", "Lock-Key", key(4)).body, key(4)) {
		t.Error("the key is told back")
	}
}

// TestExpectedWait holds a lock for a known time of the cluster's clock, so that the guess of the next one is near.
func TestExpectedWait(t *testing.T) {
	d := openDoor(t)
	d.calendar(time.Now())
	d.hold("a", 1, "")
	d.until("some time", func(tb *locktable.Table) bool { k, _ := tb.Key(mustKey(t, key(1))); return tb.Now().Sub(k.Since) > 0 })
	var began locktable.Time
	if err := d.backend.Read(t.Context(), func(tb *locktable.Table, _ locktable.Time) { k, _ := tb.Key(mustKey(t, key(1))); began = k.Since }); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for now := began; now.Sub(began) < 300*time.Millisecond && time.Now().Before(deadline); {
		if err := d.backend.Read(t.Context(), func(_ *locktable.Table, at locktable.Time) { now = at }); err != nil {
			t.Fatal(err)
		}
	}
	d.ok("DELETE", "/v1/locks/a", "", "Lock-Key", key(1))
	held, _ := parts(t, d.ok("GET", "/v1/locks/a/history", ""), "holds")[0]["held_for"].(float64)
	d.hold("a", 2, "")
	_ = d.queue("a", 3, `"owner":"x"`)
	_ = d.queue("a", 4, `"owner":"y"`)
	m := d.ok("GET", "/v1/locks/a", "", "Lock-Key", key(4))
	mine, _ := part(t, m, "place")["expected_wait"].(float64)
	next, _ := m["expected_wait"].(float64)
	p := d.problem(409, CodeHeld, "POST", "/v1/locks/a", "")
	told, _ := p["expected_wait"].(float64)
	// What is left of the first hold is not known here; it is between nothing and the whole.
	for what, c := range map[string]struct{ got, places float64 }{"my place": {mine, 1}, "the next": {next, 2}, "the refused": {told, 2}} {
		if held < 0.3 || c.got < c.places*held-0.002 || c.got > (c.places+1)*held+0.002 {
			t.Errorf("%s may wait %v s, with holds of %v s and %v before the last", what, c.got, held, c.places)
		}
	}
	if q := parts(t, m, "queue"); q[1]["expected_wait"] != part(t, m, "place")["expected_wait"] {
		t.Errorf("the queue is %v", q)
	}
}

func mustKey(t *testing.T, s string) locktable.Key {
	t.Helper()
	k, ok := locktable.ParseKey(s)
	if !ok {
		t.Fatalf("%q is no key", s)
	}
	return k
}
