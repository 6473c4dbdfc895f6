package server

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// problem checks status and code of a refusal and returns the document.
func (d *door) problem(status int, code Code, method, path, body string, headers ...string) map[string]any {
	d.t.Helper()
	a := d.do(method, path, body, headers...)
	if a.status != status || !strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") {
		d.t.Fatalf("%s %s %s: %d %s %q, want %d %s", method, path, body, a.status, a.header.Get("Content-Type"), a.body, status, code)
	}
	m := a.json(d.t)
	if m["code"] != string(code) || m["status"] != float64(status) {
		d.t.Errorf("%s %s %s: %v, want %s", method, path, body, m, code)
	}
	return m
}

func (d *door) ok(method, path, body string, headers ...string) map[string]any {
	d.t.Helper()
	return d.want(200, "*", method, path, body, headers...).json(d.t)
}

func key(n int) string { return fmt.Sprintf("TESTkeyTESTkeyTESTkeyTEST%07d", n) }

func TestV1Conversation(t *testing.T) {
	d := openDoor(t)
	g := d.ok("POST", "/v1/locks/my-lock", `{"ttl":60,"owner":"me","metadata":"why\nso"}`)
	k, _ := g["key"].(string)
	if !keyPattern.MatchString(k) || g["name"] != "my-lock" || g["ttl"] != 60.0 || g["mode"] != "exclusive" || g["waited"] != 0.0 || g["expires_in"] != 60.0 {
		t.Errorf("grant %v", g)
	}
	p := d.problem(409, CodeHeld, "POST", "/v1/locks/my-lock", "")
	h, _ := p["holder"].(map[string]any)
	if h["owner"] != "me" || h["metadata"] != "why\nso" || h["token"] != g["token"] || p["holder_count"] != 1.0 || p["queue_length"] != 0.0 {
		t.Errorf("held by %v", p)
	}
	r := d.ok("POST", "/v1/locks/my-lock/renew", `{"key":"`+k+`","ttl":90}`)
	if r["ttl"] != 90.0 || r["name"] != "my-lock" || r["expires_in"] != 90.0 {
		t.Errorf("renewed %v", r)
	}
	l := d.ok("GET", "/v1/locks/my-lock", "")
	hs, _ := l["holders"].([]any)
	if l["held"] != true || len(hs) != 1 || l["queue_length"] != 0.0 {
		t.Errorf("lock %v", l)
	}
	d.want(200, `{"released":true}`, "DELETE", "/v1/locks/my-lock", "", "Lock-Key", k)
	d.problem(404, CodeNotHeld, "DELETE", "/v1/locks/my-lock", "", "Lock-Key", k)
	d.problem(404, CodeNotHeld, "POST", "/v1/locks/my-lock/renew", `{"key":"`+k+`"}`)
	d.problem(409, CodeKeySpent, "POST", "/v1/locks/my-lock", `{"key":"`+k+`"}`)
	d.want(200, `{"name":"my-lock","held":false,"holder_count":0,"holders":[],"queue_length":0,"queue":[]}`, "GET", "/v1/locks/my-lock", "")
	g2 := d.ok("POST", "/v1/locks/my-lock", `{}`)
	a, _ := g["token"].(float64)
	if b, _ := g2["token"].(float64); b <= a || g2["ttl"] != 30.0 {
		t.Errorf("second grant %v after %v", g2, g)
	}
}

func TestV1SameKeyIsSameRequest(t *testing.T) {
	d := openDoor(t)
	body := `{"key":"` + key(1) + `","ttl":20}`
	one, two := d.ok("POST", "/v1/locks/a", body), d.ok("POST", "/v1/locks/a", body)
	if one["token"] != two["token"] || one["key"] != key(1) {
		t.Errorf("%v and %v", one, two)
	}
	d.problem(409, CodeKeyInUse, "POST", "/v1/locks/b", body)
}

func TestV1Modes(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/locks/rw", `{"mode":"shared"}`)
	d.ok("POST", "/v1/locks/rw", `{"mode":"shared"}`)
	d.problem(409, CodeHeld, "POST", "/v1/locks/rw", `{"mode":"exclusive"}`)
	d.problem(409, CodeModeMismatch, "POST", "/v1/locks/rw", `{"slots":2}`)
	g := d.ok("POST", "/v1/locks/sem", `{"slots":2}`)
	if g["slots"] != 2.0 || g["mode"] != "exclusive" {
		t.Errorf("permit %v", g)
	}
	d.ok("POST", "/v1/locks/sem", `{"slots":2}`)
	p := d.problem(409, CodeHeld, "POST", "/v1/locks/sem", `{"slots":2}`)
	if p["holder_count"] != 2.0 || p["detail"] != "All permits of the lock are taken." {
		t.Errorf("held %v", p)
	}
	if l := d.ok("GET", "/v1/locks/sem", ""); l["slots"] != 2.0 || l["holder_count"] != 2.0 {
		t.Errorf("lock %v", l)
	}
}

func TestV1LockDelay(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/locks/a", `{"ttl":0.001,"lock_delay":60}`)
	d.until("expiry", func(tb *locktable.Table) bool { return tb.Stats().Held == 0 })
	p := d.problem(409, CodeHeld, "POST", "/v1/locks/a", "")
	if b, _ := p["blocked_for"].(float64); b <= 50 || p["holder"] != nil {
		t.Errorf("held %v", p)
	}
	if detail, _ := p["detail"].(string); !regexp.MustCompile(`^Nobody holds the lock, .* another 5\d(\.\d+)? seconds\.$`).MatchString(detail) {
		t.Errorf("blocked by a delay, and told %q", detail)
	}
	if l := d.ok("GET", "/v1/locks/a", ""); l["held"] != false || l["blocked_for"] == nil {
		t.Errorf("lock %v", l)
	}
}

func TestV1QueueIsShown(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/locks/q", `{"key":"`+key(1)+`"}`)
	done := make(chan map[string]any, 1)
	go func() { done <- d.ok("POST", "/v1/locks/q", `{"wait":30,"owner":"second","key":"`+key(2)+`"}`) }()
	d.waiting("q", 1)
	l := d.ok("GET", "/v1/locks/q", "")
	q, _ := l["queue"].([]any)
	w, _ := q[0].(map[string]any)
	if rest, _ := w["gives_up_in"].(float64); l["queue_length"] != 1.0 || w["owner"] != "second" || w["position"] != 1.0 || rest <= 25 || rest > 30 {
		t.Errorf("lock %v", l)
	}
	if h := d.ok("GET", "/v1/holds", "", "Lock-Key", key(2)); h["held"] != false || h["ttl"] != nil {
		t.Errorf("holds %v", h)
	}
	d.ok("DELETE", "/v1/locks/q", "", "Lock-Key", key(1))
	if g := <-done; g["key"] != key(2) {
		t.Errorf("grant %v", g)
	}
}

func TestV1GivingUpAPlace(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/locks/q", `{"key":"`+key(1)+`"}`)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.problem(409, CodeCancelled, "POST", "/v1/locks/q", `{"wait":-1,"key":"`+key(2)+`"}`)
	}()
	d.waiting("q", 1)
	d.want(200, `{"released":true}`, "DELETE", "/v1/locks/q", "", "Lock-Key", key(2))
	<-done
}

func TestV1WaitRunsOut(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/locks/q", `{"owner":"first"}`)
	p := d.problem(409, CodeHeld, "POST", "/v1/locks/q", `{"wait":0.05}`)
	h, _ := p["holder"].(map[string]any)
	if waited, _ := p["waited"].(float64); waited < 0.05 || h["owner"] != "first" || p["detail"] != "Somebody else held the lock until the wait ran out." {
		t.Errorf("held %v", p)
	}
}

func TestV1Listing(t *testing.T) {
	d := openDoor(t)
	for i := range 25 {
		d.take(fmt.Sprintf("p-%02d", i))
	}
	d.take("q-é")
	var names []string
	cursor := ""
	for page := 0; ; page++ {
		m := d.ok("GET", "/v1/locks?prefix=p-&limit=10"+cursor, "")
		locks, _ := m["locks"].([]any)
		for _, l := range locks {
			lock, _ := l.(map[string]any)
			name, _ := lock["name"].(string)
			names = append(names, name)
		}
		c, more := m["cursor"].(string)
		if !more {
			break
		}
		if page > 5 {
			t.Fatal("the pages do not end")
		}
		cursor = "&cursor=" + c
	}
	if len(names) != 25 || names[0] != "p-00" || names[24] != "p-24" {
		t.Errorf("names %v", names)
	}
	if m := d.ok("GET", "/v1/locks", ""); len(m["locks"].([]any)) != 26 {
		t.Errorf("all: %v", m)
	}
	for i := range listStep + 50 {
		d.take(fmt.Sprintf("r-%04d", i))
	}
	m := d.ok("GET", "/v1/locks?prefix=r-&limit=300", "")
	if c, more := m["cursor"].(string); !more || len(m["locks"].([]any)) != 300 {
		t.Errorf("a page of more than one step: %d locks", len(m["locks"].([]any)))
	} else if m = d.ok("GET", "/v1/locks?prefix=r-&limit=300&cursor="+c, ""); len(m["locks"].([]any)) != listStep+50-300 || m["cursor"] != nil {
		t.Errorf("the last page: %v", m)
	}
	for _, q := range []string{"limit=0", "limit=1001", "limit=x", "limit=+1", "limit=", "cursor=", "cursor=zzz", "cursor=n%25", "color=red", "limit=1&limit=2", "%zz", "prefix=a;b"} {
		if a := d.get("/v1/locks?" + q); a.status != 400 {
			t.Errorf("%s: %d %s", q, a.status, a.body)
		}
	}
}

func TestV1Sessions(t *testing.T) {
	d := openDoor(t)
	s := d.ok("POST", "/v1/sessions", `{"ttl":20,"owner":"worker","id":"`+key(9)+`"}`)
	if s["id"] != key(9) || s["ttl"] != 20.0 || s["expires_in"] != 20.0 {
		t.Errorf("session %v", s)
	}
	d.ok("POST", "/v1/sessions", `{"ttl":20,"owner":"worker","id":"`+key(9)+`"}`)
	in := `"session":"` + key(9) + `"`
	one := d.ok("POST", "/v1/locks/a", `{`+in+`,"key":"`+key(1)+`"}`, "Idempotency-Key", "1")
	again := d.ok("POST", "/v1/locks/a", `{`+in+`,"key":"`+key(1)+`"}`, "Idempotency-Key", "1")
	if one["token"] != again["token"] || one["ttl"] != 20.0 {
		t.Errorf("%v and %v", one, again)
	}
	reentrant := d.ok("POST", "/v1/locks/a", `{`+in+`,"key":"`+key(2)+`"}`, "Idempotency-Key", "2")
	if reentrant["token"] != one["token"] || reentrant["key"] == one["key"] {
		t.Errorf("re-entrant %v", reentrant)
	}
	d.ok("POST", "/v1/locks/b", `{`+in+`,"mode":"shared"}`)
	d.problem(422, CodeRequestMismatch, "POST", "/v1/locks/c", `{`+in+`,"key":"`+key(3)+`"}`, "Idempotency-Key", "1")
	d.ok("POST", "/v1/sessions/"+key(9)+"/renew", `{"ttl":40}`, "Idempotency-Key", "3")
	d.ok("POST", "/v1/sessions/"+key(9)+"/renew", ``)
	d.ok("POST", "/v1/locks/a/renew", `{"key":"`+one["key"].(string)+`",`+in+`}`, "Idempotency-Key", "4")
	show := d.ok("GET", "/v1/sessions/"+key(9), "")
	if locks, _ := show["locks"].([]any); len(locks) != 3 || show["key_count"] != 3.0 || show["owner"] != "worker" || show["ttl"] != 40.0 {
		t.Errorf("session %v", show)
	}
	d.problem(404, CodeNotHeld, "DELETE", "/v1/locks/b", "", "Lock-Key", key(4))
	d.want(200, `{"released":3}`, "DELETE", "/v1/sessions/"+key(9), "")
	d.problem(404, CodeNoSession, "DELETE", "/v1/sessions/"+key(9), "")
	d.problem(404, CodeNoSession, "GET", "/v1/sessions/"+key(9), "")
	d.problem(404, CodeNoSession, "GET", "/v1/sessions/no-id", "")
	d.problem(404, CodeNoSession, "POST", "/v1/sessions/"+key(9)+"/renew", "")
	d.problem(404, CodeNoSession, "POST", "/v1/locks/a", `{`+in+`}`)
	d.problem(409, CodeKeySpent, "POST", "/v1/sessions", `{"id":"`+key(9)+`"}`)
}

// TestV1HeldIsToldAsItIs repeats a numbered try that was refused, after the lock fell free.
func TestV1HeldIsToldAsItIs(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/sessions", `{"id":"`+key(9)+`"}`)
	d.ok("POST", "/v1/locks/a", `{"key":"`+key(1)+`"}`)
	try := func() map[string]any {
		return d.problem(409, CodeHeld, "POST", "/v1/locks/a", `{"session":"`+key(9)+`","key":"`+key(2)+`"}`, "Idempotency-Key", "1")
	}
	if p := try(); p["detail"] != "Somebody else holds the lock." {
		t.Errorf("held %v", p)
	}
	d.ok("DELETE", "/v1/locks/a", "", "Lock-Key", key(1))
	p := try()
	if detail, _ := p["detail"].(string); !strings.Contains(detail, "nobody holds it now") || p["blocked_for"] != nil || p["holder_count"] != 0.0 {
		t.Errorf("free by now, and told %v", p)
	}
}

// TestV1NumberedAcquireNeedsAKey: with a key of the server's making it could not be repeated.
func TestV1NumberedAcquireNeedsAKey(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/sessions", `{"id":"`+key(9)+`"}`)
	p := d.problem(400, CodeInvalidField, "POST", "/v1/locks/a", `{"session":"`+key(9)+`"}`, "Idempotency-Key", "1")
	if p["field"] != "key" || d.backend.asked() != 0 {
		t.Errorf("%v, %d acquires reached the table", p, d.backend.asked())
	}
	d.ok("POST", "/v1/locks/a", `{"session":"`+key(9)+`","key":"`+key(1)+`"}`, "Idempotency-Key", "1")
}

// TestV1LargeSession: an answer has its bounds, and the count is whole.
func TestV1LargeSession(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/sessions", `{"id":"`+key(0)+`"}`)
	for i := 1; i <= maxShown+2; i++ {
		a := &command.Acquire{Name: "a", Key: key(i), Session: key(0)}
		if out, err := d.backend.Acquire(t.Context(), a, node.Slice{}); err != nil || out.Code != locktable.Granted {
			t.Fatal(out.Code, err)
		}
	}
	show := d.ok("GET", "/v1/sessions/"+key(0), "")
	if locks, _ := show["locks"].([]any); len(locks) != maxShown || show["key_count"] != float64(maxShown+2) {
		t.Errorf("%d locks, key_count %v", len(locks), show["key_count"])
	}
}

func TestV1Holds(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/locks/a", `{"ttl":20,"key":"`+key(1)+`"}`)
	h := d.ok("GET", "/v1/holds", "", "Lock-Key", key(1))
	locks, _ := h["locks"].([]any)
	if l, _ := locks[0].(map[string]any); h["held"] != true || h["ttl"] != 20.0 || l["name"] != "a" || l["token"] == nil {
		t.Errorf("holds %v", h)
	}
	r := d.ok("POST", "/v1/holds/renew", `{"key":"`+key(1)+`","ttl":50}`)
	if names, _ := r["names"].([]any); names[0] != "a" || r["ttl"] != 50.0 {
		t.Errorf("renewed %v", r)
	}
	d.want(200, `{"released":true}`, "DELETE", "/v1/holds", "", "Lock-Key", key(1))
	d.problem(404, CodeNotHeld, "DELETE", "/v1/holds", "", "Lock-Key", key(1))
	d.problem(404, CodeNotHeld, "GET", "/v1/holds", "", "Lock-Key", key(1))
	d.problem(404, CodeNotHeld, "POST", "/v1/holds/renew", `{"key":"`+key(1)+`"}`)
	d.problem(400, CodeInvalidField, "GET", "/v1/holds", "")
	d.problem(400, CodeInvalidField, "POST", "/v1/holds/renew", `{"key":"`+key(1)+`","session":"`+key(2)+`"}`)
}
