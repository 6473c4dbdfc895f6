package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// In this file a slice lasts long enough to be hung up in, or so short that it is over at once.
const (
	longSlice  = `"wait":60,"poll":50`
	shortSlice = `"wait":60,"poll":0.02`
)

func TestPollAnswersWithThePlace(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/locks/q", `{"key":"`+key(1)+`"}`)
	for range 2 {
		p := d.want(202, "*", "POST", "/v1/locks/q", `{"key":"`+key(2)+`",`+shortSlice+`}`).json(t)
		if p["name"] != "q" || p["key"] != key(2) || p["waiting"] != true || p["position"] != 1.0 || p["queue_length"] != 1.0 {
			t.Errorf("%v", p)
		}
		if left, _ := p["keeps_place_for"].(float64); left <= 0 || left > 15 {
			t.Errorf("kept for %v s", left)
		}
	}
	other := d.want(202, "*", "POST", "/v1/locks/q", `{"key":"`+key(3)+`","wait":-1,"poll":0.02}`).json(t)
	if other["position"] != 2.0 || other["queue_length"] != 2.0 {
		t.Errorf("%v", other)
	}
	d.want(200, `{"released":true}`, "DELETE", "/v1/locks/q", "", "Lock-Key", key(1))
	g := d.ok("POST", "/v1/locks/q", `{"key":"`+key(2)+`",`+shortSlice+`}`)
	if again := d.ok("POST", "/v1/locks/q", `{"key":"`+key(2)+`",`+shortSlice+`}`); again["token"] != g["token"] {
		t.Errorf("%v, then %v", g, again)
	}
	d.problem(409, CodeHeld, "POST", "/v1/locks/q", `{"key":"`+key(3)+`"}`) // its wait is over
	d.waiting("q", 0)
}

// What the history of a lock tells to expect is told in each slice as well.
func TestPollTellsWhatToExpect(t *testing.T) {
	d := openDoor(t)
	d.want(200, "released", "GET", "/releaseLock/q/"+d.take("q"), "")
	d.take("q")
	d.want(202, "*", "POST", "/v1/locks/q", `{`+shortSlice+`}`)
	p := d.want(202, "*", "POST", "/v1/locks/q", `{`+shortSlice+`}`).json(t)
	if _, ok := p["expected_wait"]; !ok {
		t.Errorf("%v", p)
	}
}

func TestPollOfASet(t *testing.T) {
	d := openDoor(t)
	k := d.take("b")
	d.want(202, "*", "POST", "/v1/locks/b", `{`+shortSlice+`}`)
	ask := `{"names":["a",{"name":"b","mode":"shared"}],"key":"` + key(1) + `",` + shortSlice + `}`
	p := d.want(202, "*", "POST", "/v1/locks", ask)
	if !strings.HasPrefix(p.body, `{"names":[{"name":"a","mode":"exclusive"},{"name":"b","mode":"shared"}],"key":"`+key(1)+`","waiting":true,"position":2,"queue_length":2,`) {
		t.Errorf("%s", p.body)
	}
	d.want(200, "released", "GET", "/releaseLock/b/"+k, "")
	d.want(202, "*", "POST", "/v1/locks", ask) // somebody is before it, whose place lasts for its grace
	d.problem(400, CodeInvalidField, "POST", "/v1/locks", `{"names":["a"],"poll":1}`)
}

func TestPollOfATask(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/tasks/job", `{"key":"`+key(1)+`"}`)
	d.problem(400, CodeInvalidField, "POST", "/v1/tasks/job", `{"poll":1}`)
	for range 2 {
		p := d.ok("POST", "/v1/tasks/job", `{"key":"`+key(2)+`",`+shortSlice+`}`)
		if left, _ := p["keeps_place_for"].(float64); p["status"] != "running" || p["waiting"] != true || p["key"] != key(2) || p["position"] != 1.0 || left <= 0 {
			t.Errorf("%v", p)
		}
	}
	// With a schedule as well, where a claim is made anew for the present slot.
	p := d.ok("POST", "/v1/tasks/job", `{"every":3600,`+shortSlice+`}`)
	if p["status"] != "running" || p["waiting"] != true || p["position"] != 2.0 {
		t.Errorf("%v", p)
	}
	d.ok("POST", "/v1/tasks/job/complete", `{"key":"`+key(1)+`","result":"r"}`)
	p = d.ok("POST", "/v1/tasks/job", `{"key":"`+key(2)+`",`+shortSlice+`}`)
	if _, waits := p["waiting"]; p["status"] != "done" || p["result"] != "r" || waits {
		t.Errorf("%v", p)
	}
}

// A connection that breaks in a slice does not give up the place of a client that knows its key; nobody comes back for a key that
// the server made.
func TestHangingUpInASlice(t *testing.T) {
	d := openDoor(t)
	d.take("q")
	hangUp := func(body string) {
		t.Helper()
		before := d.count("http_requests_total", "none")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := d.request(ctx, "POST", "/v1/locks/q", body)
			ended <- err
		}()
		d.waiting("q", 1)
		cancel()
		if err := <-ended; err == nil {
			t.Error("it was answered")
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for start := time.Now(); d.count("http_requests_total", "none") == before; <-tick.C {
			if time.Since(start) > 30*time.Second {
				t.Fatal("the request did not end")
			}
		}
	}
	hangUp(`{` + longSlice + `}`)
	d.waiting("q", 0)
	hangUp(`{"key":"` + key(1) + `",` + longSlice + `}`)
	d.waiting("q", 1)
	d.want(202, "*", "POST", "/v1/locks/q", `{"key":"`+key(1)+`",`+shortSlice+`}`)
	d.want(200, `{"released":true}`, "DELETE", "/v1/locks/q", "", "Lock-Key", key(1))
	d.waiting("q", 0)
}

// count adds up the series of a counter that have a status of that class; "": all.
func (d *door) count(metric, class string) (sum float64) {
	families, err := d.metrics.registry.Gather()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != namespace+"_"+metric {
			continue
		}
		for _, m := range f.GetMetric() {
			fits := class == ""
			for _, l := range m.GetLabel() {
				fits = fits || l.GetName() == "status" && l.GetValue() == class
			}
			if fits {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// An answer that cannot be written takes nothing from a client that comes back for it.
func TestUndeliveredInASlice(t *testing.T) {
	for _, c := range []struct {
		body      string
		held      bool // by somebody else
		abandoned int64
		waiters   int
	}{
		{`{"key":"` + key(1) + `",` + shortSlice + `}`, false, 0, 0},
		{`{` + shortSlice + `}`, false, 1, 0},
		{`{"key":"` + key(1) + `",` + shortSlice + `}`, true, 0, 1},
		{`{` + shortSlice + `}`, true, 1, 0},
	} {
		d := openDoor(t)
		if c.held {
			d.take("u")
		}
		w := &brokenWriter{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/locks/u", strings.NewReader(c.body))
		r.Host, r.Header = "localhost", http.Header{"Content-Type": {"application/json"}}
		d.server.ServeHTTP(w, r)
		if n, later := d.backend.abandoned.Load(), d.backend.postponed.Load(); n != c.abandoned || later != 1-n {
			t.Errorf("%s: abandoned %d times, and %d times later", c.body, n, later)
		}
		held := c.abandoned == 0 || c.held
		d.until("what stays of "+c.body, func(tb *locktable.Table) bool {
			l, _ := tb.Lock("u", 1)
			return l.NumWaiters == c.waiters && (l.NumHolders == 1) == held
		})
	}
}

// A slice that ends without a grant is no failure, and no wait that ran out.
func TestSlicesInMetrics(t *testing.T) {
	d := openDoor(t)
	d.take("q")
	for range 5 {
		d.want(202, "*", "POST", "/v1/locks/q", `{"key":"`+key(1)+`",`+shortSlice+`}`)
	}
	for _, metric := range []string{"timeouts_total", "cancellations_total", "refusals_total", "undelivered_grants_total"} {
		if n := d.count(metric, ""); n != 0 {
			t.Errorf("%s is %v", metric, n)
		}
	}
	for _, class := range []string{"4xx", "5xx"} {
		if n := d.count("http_requests_total", class); n != 0 {
			t.Errorf("%v requests count as %s", n, class)
		}
	}
	if n := d.count("http_requests_total", "2xx"); n < 6 {
		t.Errorf("%v requests count as answered", n)
	}
}
