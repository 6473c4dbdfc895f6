package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

func TestTaskConversation(t *testing.T) {
	d := openDoor(t)
	d.problem(404, CodeNoTask, "GET", "/v1/tasks/migrate", "")
	g := d.ok("POST", "/v1/tasks/migrate", `{"ttl":60,"owner":"one","metadata":"why","max_attempts":3,"retry_delay":0}`)
	k, _ := g["key"].(string)
	if !keyPattern.MatchString(k) || g["status"] != "claimed" || g["attempt"] != 1.0 || g["ttl"] != 60.0 || g["expires_in"] != 60.0 || g["waited"] != 0.0 {
		t.Errorf("claimed %v", g)
	}
	r := d.ok("POST", "/v1/tasks/migrate", `{"owner":"two"}`)
	if r["status"] != "running" || r["owner"] != "one" || r["metadata"] != "why" || r["token"] != g["token"] || r["max_attempts"] != 3.0 || r["key"] != nil {
		t.Errorf("running %v", r)
	}
	n := d.ok("POST", "/v1/tasks/migrate/renew", `{"key":"`+k+`","ttl":90,"progress":"3 of 7"}`)
	if n["ttl"] != 90.0 || n["name"] != "migrate" {
		t.Errorf("renewed %v", n)
	}
	if s := d.ok("GET", "/v1/tasks/migrate", ""); s["progress"] != "3 of 7" || s["ttl"] != 90.0 || s["status"] != "running" {
		t.Errorf("shown %v", s)
	}
	p := d.problem(409, CodeNotClaimant, "POST", "/v1/tasks/migrate/complete", `{"key":"`+key(9)+`","result":"stolen"}`)
	if task, _ := p["task"].(map[string]any); task["status"] != "running" || task["attempt"] != 1.0 {
		t.Errorf("refused with %v", p)
	}
	f := d.ok("POST", "/v1/tasks/migrate/fail", `{"key":"`+k+`","error":"disk"}`)
	if f["status"] != "open" || f["claimable_in"] != 0.0 {
		t.Errorf("failed %v", f)
	}
	again := d.ok("POST", "/v1/tasks/migrate", `{"key":"`+key(1)+`","max_attempts":3}`)
	if again["status"] != "claimed" || again["attempt"] != 2.0 || again["error"] != "disk" || again["token"] == g["token"] {
		t.Errorf("claimed again %v", again)
	}
	d.problem(409, CodeNotClaimant, "POST", "/v1/tasks/migrate/complete", `{"key":"`+k+`"}`)
	for range 2 {
		d.want(200, `{"status":"done"}`, "POST", "/v1/tasks/migrate/complete", `{"key":"`+key(1)+`","result":"v42"}`)
		if s := d.ok("POST", "/v1/tasks/migrate", `{"wait":5}`); s["status"] != "done" || s["result"] != "v42" || s["ended"] == nil {
			t.Errorf("done %v", s)
		}
	}
	d.want(200, `{"forgotten":true}`, "DELETE", "/v1/tasks/migrate", "")
	d.problem(404, CodeNoTask, "DELETE", "/v1/tasks/migrate", "")
}

// TestTaskWaiters: who waits gets the result, and the claim when the first claimant fails.
func TestTaskWaiters(t *testing.T) {
	d := openDoor(t)
	answers := make(chan *answer, 2)
	for i, end := range []string{"fail", "complete"} {
		claim := fmt.Sprintf(`{"key":"%s","wait":-1}`, key(2*i+1))
		d.ok("POST", "/v1/tasks/t", fmt.Sprintf(`{"key":"%s"}`, key(2*i)))
		go func() {
			a, err := d.request(context.WithoutCancel(t.Context()), "POST", "/v1/tasks/t", claim)
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
		d.until("one who waits", func(tb *locktable.Table) bool { x, _ := tb.Task("t"); return x.Waiters == 1 })
		d.ok("POST", "/v1/tasks/t/"+end, `{"key":"`+key(2*i)+`"}`)
		a := <-answers
		want := map[string]string{"fail": "claimed", "complete": "done"}[end]
		if m := a.json(t); m["status"] != want {
			t.Errorf("after %s: %v, want %s", end, m, want)
		}
		if end == "fail" {
			d.ok("POST", "/v1/tasks/t/fail", `{"key":"`+key(1)+`"}`)
		}
	}
}

func TestTaskInASession(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/sessions", `{"id":"`+key(1)+`"}`)
	claim := `{"session":"` + key(1) + `","key":"` + key(2) + `"}`
	first := d.ok("POST", "/v1/tasks/t", claim, "Idempotency-Key", "1")
	second := d.ok("POST", "/v1/tasks/t", claim, "Idempotency-Key", "1")
	if first["token"] != second["token"] || second["status"] != "claimed" {
		t.Errorf("%v, then %v", first, second)
	}
	d.problem(422, CodeRequestMismatch, "POST", "/v1/tasks/t/complete", `{"key":"`+key(2)+`","session":"`+key(1)+`"}`, "Idempotency-Key", "1")
	s := d.ok("GET", "/v1/sessions/"+key(1), "")
	if locks, _ := s["locks"].([]any); len(locks) != 1 || locks[0].(map[string]any)["task"] != true {
		t.Errorf("session %v", s)
	}
	if h := d.ok("GET", "/v1/holds", "", "Lock-Key", key(2)); h["held"] != true {
		t.Errorf("holds %v", h)
	}
	d.ok("POST", "/v1/holds/renew", `{"key":"`+key(2)+`"}`)
	d.ok("POST", "/v1/tasks/t/complete", `{"key":"`+key(2)+`","session":"`+key(1)+`"}`, "Idempotency-Key", "2")
	d.problem(404, CodeNoSession, "POST", "/v1/tasks/u", `{"session":"`+key(8)+`"}`)
}

func TestTaskAtMostOnceIsSettled(t *testing.T) {
	d := openDoor(t)
	g := d.ok("POST", "/v1/tasks/pay", `{"key":"`+key(1)+`","at_most_once":true,"owner":"one"}`)
	d.problem(409, CodeTaskChanged, "DELETE", "/v1/tasks/pay", "")
	d.want(200, `{"released":true}`, "DELETE", "/v1/holds", "", "Lock-Key", key(1)) // as far as it came, nobody knows
	u := d.ok("POST", "/v1/tasks/pay", ``)
	if u["status"] != "unknown" || u["owner"] != "one" || u["at_most_once"] != true {
		t.Errorf("unknown %v", u)
	}
	d.problem(409, CodeTaskChanged, "POST", "/v1/tasks/pay/settle", `{"verdict":"done","token":9007199254740991}`)
	body := fmt.Sprintf(`{"verdict":"done","token":%.0f,"result":"seen"}`, g["token"])
	for range 2 {
		d.want(200, `{"status":"done"}`, "POST", "/v1/tasks/pay/settle", body)
	}
	if s := d.ok("GET", "/v1/tasks/pay", ""); s["result"] != "seen" {
		t.Errorf("settled %v", s)
	}
	d.problem(404, CodeNoTask, "POST", "/v1/tasks/none/settle", body)
	d.problem(409, CodeTaskChanged, "DELETE", "/v1/tasks/pay?token=9007199254740991", "")
	d.want(200, `{"forgotten":true}`, "DELETE", fmt.Sprintf("/v1/tasks/pay?token=%.0f", g["token"]), "")
}

// TestTaskOncePerSlot: the calendar of the cluster decides, not the clock of who asks.
func TestTaskOncePerSlot(t *testing.T) {
	d := openDoor(t)
	// Ahead of the wall clock, which a leader may bring into the calendar.
	at := time.Date(2126, 11, 24, 2, 45, 0, 0, time.UTC)
	set := func(at time.Time) {
		if _, err := d.backend.Propose(t.Context(), command.FromCalendar(&command.Calendar{At: at.UnixNano(), Force: true})); err != nil {
			t.Fatal(err)
		}
	}
	set(at)
	job := `{"cron":"30 2 * * *","zone":"Europe/Zurich","ttl":600}`
	g := d.ok("POST", "/v1/tasks/nightly", job)
	k, _ := g["key"].(string)
	slot, _ := g["slot"].(map[string]any)
	if g["status"] != "claimed" || slot["start"] != "2126-11-24T01:30:00.000Z" || slot["end"] != "2126-11-25T01:30:00.000Z" {
		t.Errorf("claimed %v", g)
	}
	if r := d.ok("POST", "/v1/tasks/nightly", job); r["status"] != "running" {
		t.Errorf("running %v", r)
	}
	d.ok("POST", "/v1/tasks/nightly/complete", `{"key":"`+k+`"}`)
	if r := d.ok("POST", "/v1/tasks/nightly", job); r["status"] != "done" || r["claimable_in"] == nil || r["since"].(string)[:16] != "2126-11-24T02:45" {
		t.Errorf("done %v", r)
	}
	set(at.Add(24 * time.Hour))
	if r := d.ok("POST", "/v1/tasks/nightly", job); r["status"] != "claimed" || r["attempt"] != 1.0 {
		t.Errorf("the next night %v", r)
	}
}

// TestTaskSlotWithoutACalendar: the first schedule finds no calendar and makes one.
func TestTaskSlotWithoutACalendar(t *testing.T) {
	d := openDoor(t)
	if g := d.ok("POST", "/v1/tasks/t", `{"every":900}`); g["status"] != "claimed" || g["slot"] == nil {
		t.Errorf("claimed %v", g)
	}
	d.backend.answerWith(locktable.SlotPassed)
	d.problem(503, CodeSlotPassed, "POST", "/v1/tasks/u", `{"every":900}`)
}

func TestTaskList(t *testing.T) {
	d := openDoor(t)
	for i := range 5 {
		d.ok("POST", fmt.Sprintf("/v1/tasks/a%d", i), `{"key":"`+key(i)+`"}`)
		d.ok("POST", fmt.Sprintf("/v1/tasks/a%d/complete", i), `{"key":"`+key(i)+`","result":"secret"}`)
	}
	d.ok("POST", "/v1/tasks/b", "")
	var names []string
	path := "/v1/tasks?prefix=a&limit=2"
	for range 4 {
		page := d.ok("GET", path, "")
		list, _ := page["tasks"].([]any)
		for _, x := range list {
			task, _ := x.(map[string]any)
			names = append(names, task["name"].(string))
			if task["status"] != "done" || task["result"] != nil {
				t.Errorf("listed %v", task)
			}
		}
		cursor, _ := page["cursor"].(string)
		if cursor == "" {
			break
		}
		path = "/v1/tasks?prefix=a&limit=2&cursor=" + cursor
	}
	if got := strings.Join(names, " "); got != "a0 a1 a2 a3 a4" {
		t.Errorf("listed %s", got)
	}
	d.problem(400, CodeInvalidField, "GET", "/v1/tasks?consistency=stale", "")
	d.problem(400, CodeInvalidField, "GET", "/v1/tasks?x=1", "")
}

func TestTaskRefusesBadInput(t *testing.T) {
	d := openDoor(t)
	for _, c := range []struct{ path, body, field string }{
		{"", `{"ttl":0}`, "ttl"},
		{"", `{"keep":"x"}`, "keep"},
		{"", `{"max_attempts":0}`, "max_attempts"},
		{"", `{"max_attempts":1.5}`, "max_attempts"},
		{"", `{"retry_delay":-1}`, "retry_delay"},
		{"", `{"at_least":-1}`, "at_least"},
		{"", `{"at_most_once":1}`, "at_most_once"},
		{"", `{"at_most_once":null}`, "at_most_once"},
		{"", `{"every":0.5}`, "every"},
		{"", `{"every":-5}`, "every"},
		{"", `{"every":60,"cron":"* * * * *"}`, "cron"},
		{"", `{"cron":""}`, "cron"},
		{"", `{"cron":"* * * *"}`, "cron"},
		{"", `{"cron":"0 0 30 2 *"}`, "cron"},
		{"", `{"cron":"TZ=UTC * * * * *"}`, "cron"},
		{"", `{"cron":"0 3 * * *","zone":"Mars/Base"}`, "zone"},
		{"", `{"zone":"UTC"}`, "zone"},
		{"", `{"mode":"shared"}`, "mode"},
		{"", `{"session":"` + key(1) + `","ttl":5}`, "ttl"},
		{"", `{"session":"` + key(1) + `","key":"` + key(1) + `"}`, "key"},
		{"/complete", ``, "key"},
		{"/complete", `{"key":"` + key(1) + `","error":"x"}`, "error"},
		{"/complete", `{"key":"` + key(1) + `","result":7}`, "result"},
		{"/complete", `{"key":"` + key(1) + `","result":"` + strings.Repeat("x", 16<<10+1) + `"}`, "result"},
		{"/complete", `{"key":"` + key(1) + `","result":"a\u0000"}`, "result"},
		{"/fail", `{"key":"` + key(1) + `","result":"x"}`, "result"},
		{"/fail", `{"key":"` + key(1) + `","error":"a\u0000"}`, "error"},
		{"/renew", `{"ttl":5}`, "key"},
		{"/renew", `{"key":"` + key(1) + `","progress":7}`, "progress"},
		{"/renew", `{"key":"` + key(1) + `","ttl":31622401}`, "ttl"},
		{"/settle", `{"token":1}`, "verdict"},
		{"/settle", `{"verdict":"done"}`, "token"},
		{"/settle", `{"verdict":"DONE","token":1}`, "verdict"},
		{"/settle", `{"verdict":"done","token":0}`, "token"},
		{"/settle", `{"verdict":"done","token":1.5}`, "token"},
		{"/settle", `{"verdict":"failed","token":1,"result":"x"}`, "result"},
		{"/settle", `{"verdict":"done","token":1,"error":"x"}`, "error"},
	} {
		p := d.problem(400, CodeInvalidField, "POST", "/v1/tasks/a"+c.path, c.body)
		if f, _ := p["field"].(string); f != c.field {
			t.Errorf("%s %s: the field is %q, want %q", c.path, c.body, f, c.field)
		}
	}
	d.problem(400, CodeInvalidName, "POST", "/v1/tasks/..", ``)
	d.problem(400, CodeInvalidName, "GET", "/v1/tasks/%00", ``)
	d.problem(400, CodeInvalidField, "DELETE", "/v1/tasks/a?token=x", ``)
	d.problem(400, CodeInvalidField, "DELETE", "/v1/tasks/a?token=1&token=2", ``)
	d.problem(400, CodeInvalidField, "DELETE", "/v1/tasks/a?all=1", ``)
	d.problem(400, CodeInvalidField, "POST", "/v1/tasks/a", ``, "Idempotency-Key", "1")
	d.problem(400, CodeInvalidRequest, "POST", "/v1/tasks/a", `{"ttl":31622401}`)
	d.problem(404, CodeNoTask, "GET", "/v1/tasks/a", ``)
}

func TestTaskLimitsAndFailures(t *testing.T) {
	d := openDoor(t)
	for _, c := range refusals {
		c.set(d.backend)
		d.problem(c.status, c.code, "POST", "/v1/tasks/a", "")
		d.backend.recover()
	}
	for outcome, e := range outcomeErrors {
		d.backend.answerWith(outcome)
		d.problem(codeTable[e.Code].status, e.Code, "POST", "/v1/tasks/a/complete", `{"key":"`+key(1)+`"}`)
		d.backend.recover()
	}
	before := d.backend.abandoned.Load()
	d.backend.failWith(errUnknownForTest)
	d.problem(503, CodeUnknown, "POST", "/v1/tasks/a", `{"key":"`+key(1)+`"}`)
	if d.backend.abandoned.Load() != before {
		t.Error("a client's own key was abandoned")
	}
	d.problem(503, CodeUnknown, "POST", "/v1/tasks/a", "")
	if d.backend.abandoned.Load() != before+1 {
		t.Error("a key that nobody knows was not abandoned")
	}
}

func TestVerify(t *testing.T) {
	d := openDoor(t)
	g := d.ok("POST", "/v1/locks/a", `{"key":"`+key(1)+`"}`)
	body := fmt.Sprintf(`{"name":"a","token":%.0f}`, g["token"])
	d.want(200, `{"valid":true}`, "POST", "/v1/verify", body)
	d.want(200, `{"valid":false}`, "POST", "/v1/verify", `{"name":"a","token":9007199254740991}`)
	d.want(200, `{"valid":false}`, "POST", "/v1/verify", fmt.Sprintf(`{"name":"b","token":%.0f}`, g["token"]))
	d.ok("DELETE", "/v1/locks/a", "", "Lock-Key", key(1))
	d.want(200, `{"valid":false}`, "POST", "/v1/verify", body)
	s1 := d.ok("POST", "/v1/locks/s", `{"mode":"shared"}`)
	s2 := d.ok("POST", "/v1/locks/s", `{"mode":"shared"}`)
	d.want(200, `{"valid":false}`, "POST", "/v1/verify", fmt.Sprintf(`{"name":"s","token":%.0f}`, s1["token"]))
	d.want(200, `{"valid":true}`, "POST", "/v1/verify", fmt.Sprintf(`{"name":"s","token":%.0f}`, s2["token"]))
	for _, bad := range []string{``, `{"name":"a"}`, `{"token":1}`, `{"name":"","token":1}`, `{"name":"a","token":-1}`, `{"name":"a","token":"1"}`, `{"name":"a","token":9007199254740992}`} {
		d.problem(400, CodeInvalidField, "POST", "/v1/verify", bad)
	}
	d.problem(400, CodeInvalidName, "POST", "/v1/verify", `{"name":"..","token":1}`)
}
