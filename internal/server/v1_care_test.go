package server

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// countOf returns the value of a counter.
func countOf(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// calendar sets the cluster's calendar. From then on, the table remembers past holds, too.
func (d *door) calendar(at time.Time) {
	d.t.Helper()
	c := &command.Calendar{At: at.UnixNano(), Force: true}
	if out, err := d.backend.Backend.Propose(d.t.Context(), command.FromCalendar(c)); err != nil || out.Code != locktable.Done {
		d.t.Fatal(out, err)
	}
}

// hold acquires a lock with the key of that number.
func (d *door) hold(name string, n int, members string) map[string]any {
	d.t.Helper()
	if members != "" {
		members = "," + members
	}
	return d.ok("POST", "/v1/locks/"+name, `{"key":"`+key(n)+`"`+members+`}`)
}

// queue lets somebody wait with the key of that number, after those who wait already, and returns where the answer comes.
func (d *door) queue(name string, n int, members string) <-chan *answer {
	d.t.Helper()
	before := 0
	d.until("a look", func(t *locktable.Table) bool {
		l, _ := t.Lock(name, 0)
		before = l.NumWaiters
		return true
	})
	got := make(chan *answer, 1)
	go func() {
		a, err := d.request(d.t.Context(), "POST", "/v1/locks/"+name, `{"wait":60,"key":"`+key(n)+`",`+members+`}`)
		if err != nil {
			a = &answer{body: err.Error()}
		}
		got <- a
	}()
	d.waiting(name, before+1)
	return got
}

// part returns a member that is an object.
func part(t *testing.T, m map[string]any, name string) map[string]any {
	t.Helper()
	p, ok := m[name].(map[string]any)
	if !ok {
		t.Fatalf("there is no object %s in %v", name, m)
	}
	return p
}

// parts returns a member that is an array of objects.
func parts(t *testing.T, m map[string]any, name string) []map[string]any {
	t.Helper()
	list, ok := m[name].([]any)
	if !ok {
		t.Fatalf("there is no array %s in %v", name, m)
	}
	var out []map[string]any
	for _, x := range list {
		o, _ := x.(map[string]any)
		out = append(out, o)
	}
	return out
}

// tokenOf returns the token of a grant.
func tokenOf(g map[string]any) string {
	n, _ := g["token"].(float64)
	return strconv.FormatFloat(n, 'f', -1, 64)
}

func TestAskingIsToldToTheHolder(t *testing.T) {
	d := openDoor(t)
	g := d.hold("a", 1, `"owner":"worker"`)
	a := d.ok("POST", "/v1/locks/a/ask", `{"owner":"ops","reason":"maintenance","within":50}`)
	if h := part(t, a, "holder"); a["asked"] != true || h["owner"] != "worker" || h["token"] != g["token"] || a["holder_count"] != 1.0 {
		t.Errorf("asked %v", a)
	}
	since := ""
	for _, request := range [][3]string{
		{"POST", "/v1/locks/a/renew", `{"key":"` + key(1) + `"}`},
		{"POST", "/v1/holds/renew", `{"key":"` + key(1) + `"}`},
		{"POST", "/v1/sessions/" + key(1) + "/renew", ""},
		{"GET", "/v1/locks/a", ""},
		{"POST", "/v1/locks/a/ask", `{"owner":"ops","reason":"maintenance","within":50}`}, // again
		{"GET", "/v1/locks/a", ""},
	} {
		m := d.ok(request[0], request[1], request[2])
		if m["asked"] == true {
			continue
		}
		asked := part(t, m, "asked")
		left, _ := asked["due_in"].(float64)
		if asked["owner"] != "ops" || asked["reason"] != "maintenance" || asked["within"] != 50.0 || left <= 40 || left > 50 {
			t.Errorf("%s told %v", request[1], m)
		}
		since, _ = asked["since"].(string)
	}
	if _, err := time.Parse(time.RFC3339, since); err != nil {
		t.Error(err)
	}
	held := parts(t, d.ok("GET", "/v1/holds", "", "Lock-Key", key(1)), "locks")
	if part(t, held[0], "asked")["owner"] != "ops" {
		t.Errorf("the key is told %v", held)
	}
	if n := countOf(t, d.metrics.asks); n != 1 {
		t.Errorf("%v asks are counted, want 1", n)
	}
	d.ok("POST", "/v1/locks/a/ask", `{"reason":"another one"}`)
	if asked := part(t, d.ok("GET", "/v1/locks/a", ""), "asked"); asked["reason"] != "another one" || asked["owner"] != nil || asked["within"] != 60.0 {
		t.Errorf("the newest does not count: %v", asked)
	}
	d.ok("DELETE", "/v1/locks/a", "", "Lock-Key", key(1))
	d.problem(404, CodeNotHeld, "POST", "/v1/locks/a/ask", `{"reason":"late"}`)
}

func TestBreakingIsToldAndLogged(t *testing.T) {
	d := openDoor(t)
	d.hold("a", 1, `"owner":"worker","mode":"shared"`)
	d.hold("a", 2, `"mode":"shared"`)
	next := d.queue("a", 3, `"owner":"next"`)
	d.want(200, `{"broken":2}`, "DELETE", "/v1/locks/a/holders?owner=ops&reason=gone+%22mad%22", "")
	if a := <-next; a.status != 200 {
		t.Errorf("who waited got %d %s", a.status, a.body)
	}
	for _, request := range [][]string{
		{"POST", "/v1/locks/a", `{"mode":"shared","key":"` + key(1) + `"}`},
		{"POST", "/v1/locks/a/renew", `{"key":"` + key(1) + `"}`},
		{"POST", "/v1/locks/a/handover", `{"key":"` + key(1) + `","to":"x"}`},
		{"POST", "/v1/holds/renew", `{"key":"` + key(1) + `"}`},
		{"POST", "/v1/sessions/" + key(1) + "/renew", ""},
		{"DELETE", "/v1/locks/a", "", "Lock-Key", key(1)},
		{"DELETE", "/v1/holds", "", "Lock-Key", key(1)},
		{"GET", "/v1/holds", "", "Lock-Key", key(1)},
	} {
		p := d.problem(409, CodeBroken, request[0], request[1], request[2], request[3:]...)
		if p["by"] != "ops" || p["reason"] != `gone "mad"` || p["detail"] != `The hold of this key was ended by ops: gone "mad".` {
			t.Errorf("%v is told %v", request, p)
		}
	}
	d.want(200, "false", "GET", "/releaseLock/a/"+key(1), "")
	log := d.logs.String()
	for _, want := range []string{"level=WARN", "name=a", "holds=2", "owner=ops", `reason="gone \"mad\""`, "remote=127.0.0.1:", `principal=anybody`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %s", want)
		}
	}
	if n := countOf(t, d.metrics.breaks); n != 2 {
		t.Errorf("%v breaks are counted, want 2", n)
	}
	past := parts(t, d.ok("GET", "/v1/locks/a/history", ""), "holds")
	if len(past) != 2 || past[1]["owner"] != "worker" || past[0]["end"] != "revoked" || past[0]["by"] != "ops" || past[0]["reason"] != `gone "mad"` {
		t.Errorf("the history says %v", past)
	}
}

// TestBreakingBlocksAsAnExpiryDoes breaks a hold with a lock delay.
func TestBreakingBlocksAsAnExpiryDoes(t *testing.T) {
	d := openDoor(t)
	d.hold("a", 1, `"lock_delay":60`)
	d.want(200, `{"broken":1}`, "DELETE", "/v1/locks/a/holders?reason=gone", "")
	p := d.problem(409, CodeHeld, "POST", "/v1/locks/a", "")
	if left, _ := p["blocked_for"].(float64); left <= 50 || p["holder"] != nil {
		t.Errorf("it is refused as %v", p)
	}
	d.problem(404, CodeNotHeld, "DELETE", "/v1/locks/a/holders?reason=gone", "")
}

// TestBreakingTwiceSparesTheNextHolder repeats a break as somebody does who got no answer.
func TestBreakingTwiceSparesTheNextHolder(t *testing.T) {
	d := openDoor(t)
	path := "/v1/locks/a/holders?reason=gone&token=" + tokenOf(d.hold("a", 1, ""))
	next := d.queue("a", 2, `"owner":"next"`)
	d.want(200, `{"broken":1}`, "DELETE", path, "")
	if a := <-next; a.status != 200 {
		t.Errorf("who waited got %d %s", a.status, a.body)
	}
	d.problem(404, CodeNotHeld, "DELETE", path, "")
	d.ok("POST", "/v1/locks/a/renew", `{"key":"`+key(2)+`"}`)
	d.ok("DELETE", "/v1/locks/a", "", "Lock-Key", key(2))
	d.problem(404, CodeNotHeld, "DELETE", "/v1/locks/a/holders?reason=gone", "")
	if n := strings.Count(d.logs.String(), "holds of a lock were broken"); n != 1 {
		t.Errorf("%d breaks are in the log, want 1", n)
	}
}

// TestAnUnsureBreakNamesItsToken lets the outcome of a break be unknown.
func TestAnUnsureBreakNamesItsToken(t *testing.T) {
	d := openDoor(t)
	token := tokenOf(d.hold("a", 1, ""))
	d.backend.failWith(errUnknownForTest)
	p := d.problem(503, CodeUnknown, "DELETE", "/v1/locks/a/holders?reason=gone", "")
	if detail, _ := p["detail"].(string); !strings.Contains(detail, "the token "+token+" ") {
		t.Errorf("the answer is %v", p)
	}
	if !strings.Contains(d.logs.String(), "outcome=unknown") {
		t.Error("the log says nothing of it")
	}
}

func TestHandingOver(t *testing.T) {
	d := openDoor(t)
	d.hold("a", 1, `"owner":"first"`)
	other := d.queue("a", 2, `"owner":"other"`)
	chosen := d.queue("a", 3, `"owner":"chosen"`)
	p := d.problem(409, CodeNoSuccessor, "POST", "/v1/locks/a/handover", `{"key":"`+key(1)+`","to":"nobody"}`)
	if detail, _ := p["detail"].(string); !strings.Contains(detail, "owner") {
		t.Errorf("the answer is %v", p)
	}
	d.want(200, `{"released":true}`, "POST", "/v1/locks/a/handover", `{"key":"`+key(1)+`","to":"chosen"}`)
	if a := <-chosen; a.status != 200 {
		t.Errorf("the successor got %d %s", a.status, a.body)
	}
	d.problem(404, CodeNotHeld, "POST", "/v1/locks/a/handover", `{"key":"`+key(1)+`","to":"chosen"}`)
	past := parts(t, d.ok("GET", "/v1/locks/a/history", ""), "holds")
	if len(past) != 1 || past[0]["end"] != "handed_over" || past[0]["by"] != "chosen" || past[0]["owner"] != "first" {
		t.Errorf("the history says %v", past)
	}
	if n := countOf(t, d.metrics.handOvers); n != 1 {
		t.Errorf("%v are counted, want 1", n)
	}
	d.ok("DELETE", "/v1/locks/a", "", "Lock-Key", key(3))
	if a := <-other; a.status != 200 {
		t.Errorf("the other got %d %s", a.status, a.body)
	}
}

// TestHandingOverWithANumber repeats a numbered hand-over, which gets the same answer.
func TestHandingOverWithANumber(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/sessions", `{"id":"`+key(9)+`","owner":"first"}`)
	d.hold("a", 1, `"session":"`+key(9)+`"`)
	next := d.queue("a", 2, `"owner":"next"`)
	body := `{"key":"` + key(1) + `","to":"next","session":"` + key(9) + `"}`
	for range 2 {
		d.want(200, `{"released":true}`, "POST", "/v1/locks/a/handover", body, "Idempotency-Key", "1")
	}
	if a := <-next; a.status != 200 {
		t.Errorf("the successor got %d %s", a.status, a.body)
	}
}

func TestCareRefusesBadInput(t *testing.T) {
	d := openDoor(t)
	k := `"key":"` + key(1) + `"`
	for _, c := range []struct{ method, path, body, field string }{
		{"POST", "/v1/locks/a/ask", ``, "reason"},
		{"POST", "/v1/locks/a/ask", `{"reason":""}`, "reason"},
		{"POST", "/v1/locks/a/ask", `{"reason":7}`, "reason"},
		{"POST", "/v1/locks/a/ask", `{"reason":"r","within":0}`, "within"},
		{"POST", "/v1/locks/a/ask", `{"reason":"r","within":-1}`, "within"},
		{"POST", "/v1/locks/a/ask", `{"reason":"r","Owner":"o"}`, "Owner"},
		{"POST", "/v1/locks/a/ask", `{"reason":"r","key":"k"}`, "key"},
		{"POST", "/v1/locks/a/handover", ``, "key"},
		{"POST", "/v1/locks/a/handover", `{` + k + `}`, "to"},
		{"POST", "/v1/locks/a/handover", `{` + k + `,"to":""}`, "to"},
		{"POST", "/v1/locks/a/handover", `{"key":"short","to":"x"}`, "key"},
		{"POST", "/v1/locks/a/handover", `{` + k + `,"to":"x","session":"s"}`, "session"},
		{"DELETE", "/v1/locks/a/holders", ``, "reason"},
		{"DELETE", "/v1/locks/a/holders?reason=", ``, "reason"},
		{"DELETE", "/v1/locks/a/holders?reason=x&reason=y", ``, "reason"},
		{"DELETE", "/v1/locks/a/holders?reason=x&token=0", ``, "token"},
		{"DELETE", "/v1/locks/a/holders?reason=x&token=%2B1", ``, "token"},
		{"DELETE", "/v1/locks/a/holders?reason=x&token=18446744073709551616", ``, "token"},
		{"DELETE", "/v1/locks/a/holders?reason=x&key=k", ``, "key"},
		{"GET", "/v1/locks/a/history?limit=0", ``, "limit"},
		{"GET", "/v1/locks/a/history?limit=1001", ``, "limit"},
		{"GET", "/v1/locks/a/history?at=02:03", ``, "at"},
		{"GET", "/v1/locks/a/history?at=0001-01-01T00:00:00Z", ``, "at"},
		{"GET", "/v1/locks/a/history?at=2999-01-01T00:00:00Z", ``, "at"},
		{"GET", "/v1/locks/a/history?from=x", ``, "from"},
		{"GET", "/v1/locks/a/history?consistency=none", ``, "consistency"},
	} {
		if p := d.problem(400, CodeInvalidField, c.method, c.path, c.body); p["field"] != c.field {
			t.Errorf("%s %s %s: the field is %v, want %s", c.method, c.path, c.body, p["field"], c.field)
		}
	}
	long := strings.Repeat("x", 20_000)
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/a/ask", `{"reason":"`+long+`"}`)
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/a/ask", `{"reason":"r","owner":"`+long[:300]+`"}`)
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/a/ask", `{"reason":"r","within":1e9}`)
	d.problem(400, CodeInvalidRequest, "DELETE", "/v1/locks/a/holders?reason=a%00b", "")
	d.problem(400, CodeInvalidRequest, "DELETE", "/v1/locks/a/holders?reason=%FF", "")
	d.problem(400, CodeInvalidRequest, "DELETE", "/v1/locks/a/holders?reason=x&owner="+long[:300], "")
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/a/handover", `{`+k+`,"to":"`+long[:300]+`"}`)
	for _, call := range [][2]string{{"POST", "/ask"}, {"POST", "/handover"}, {"DELETE", "/holders?reason=x"}, {"GET", "/history"}} {
		body := map[string]string{"/ask": `{"reason":"r"}`, "/handover": `{` + k + `,"to":"x"}`}[call[1]]
		d.problem(400, CodeInvalidName, call[0], "/v1/locks/.."+call[1], body)
	}
	for _, c := range refusals {
		if c.code == CodeDiskFull {
			continue // which none of these meets
		}
		c.set(d.backend)
		d.problem(c.status, c.code, "POST", "/v1/locks/a/ask", `{"reason":"r"}`)
		d.problem(c.status, c.code, "POST", "/v1/locks/a/handover", `{`+k+`,"to":"x"}`)
		d.problem(c.status, c.code, "DELETE", "/v1/locks/a/holders?reason=x&token=1", "")
		d.backend.recover()
	}
}
