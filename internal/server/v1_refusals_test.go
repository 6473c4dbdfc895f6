package server

import (
	"strings"
	"testing"
)

func TestV1RefusesBadFields(t *testing.T) {
	d := openDoor(t)
	for _, c := range []struct{ body, field string }{
		{`{"ttl":0}`, "ttl"},
		{`{"ttl":-1}`, "ttl"},
		{`{"ttl":"30"}`, "ttl"},
		{`{"ttl":true}`, "ttl"},
		{`{"ttl":null}`, "ttl"},
		{`{"ttl":[1]}`, "ttl"},
		{`{"ttl":1e400}`, "ttl"},
		{`{"ttl":1e99}`, "ttl"},
		{`{"wait":"x"}`, "wait"},
		{`{"wait":-1e300}`, "wait"},
		{`{"wait":1,"poll":0}`, "poll"},
		{`{"wait":1,"poll":-1}`, "poll"},
		{`{"wait":1,"poll":1e400}`, "poll"},
		{`{"wait":1,"poll":1e99}`, "poll"},
		{`{"wait":1,"poll":"5"}`, "poll"},
		{`{"wait":1,"poll":null}`, "poll"},
		{`{"wait":0,"poll":5}`, "poll"},
		{`{"poll":5}`, "poll"},
		{`{"lock_delay":-1}`, "lock_delay"},
		{`{"key":"short"}`, "key"},
		{`{"key":"!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"}`, "key"},
		{`{"key":7}`, "key"},
		{`{"session":""}`, "session"},
		{`{"session":"` + key(1) + `","key":"` + key(1) + `"}`, "key"},
		{`{"session":"` + key(1) + `","ttl":5}`, "ttl"},
		{`{"mode":"Exclusive"}`, "mode"},
		{`{"mode":0}`, "mode"},
		{`{"slots":0}`, "slots"},
		{`{"slots":1.5}`, "slots"},
		{`{"slots":-1}`, "slots"},
		{`{"slots":1e2}`, "slots"},
		{`{"slots":4294967297}`, "slots"},
		{`{"slots":2,"mode":"shared"}`, "slots"},
		{`{"owner":7}`, "owner"},
		{`{"metadata":{}}`, "metadata"},
		{`{"TTL":30}`, "TTL"},
		{`{"Ttl":30}`, "Ttl"},
		{`{"lockDelay":1}`, "lockDelay"},
		{`{"ttl":1,"ttl":2}`, "ttl"},
		{`{"ttl":1,"\u0074tl":2}`, "ttl"},
		{`{"":1}`, ""},
		{`{"` + strings.Repeat("x", 100) + `":1}`, strings.Repeat("x", 24) + "…"},
	} {
		p := d.problem(400, CodeInvalidField, "POST", "/v1/locks/a", c.body)
		if f, _ := p["field"].(string); f != c.field {
			t.Errorf("%s: the field is %q, want %q", c.body, f, c.field)
		}
		if detail, _ := p["detail"].(string); c.field != "" && !strings.Contains(detail, c.field) {
			t.Errorf("%s: the detail does not name %q: %s", c.body, c.field, detail)
		}
	}
	if detail, _ := d.problem(400, CodeInvalidField, "POST", "/v1/locks/a", `{"owner":null}`)["detail"].(string); !strings.Contains(detail, "null") {
		t.Errorf("null is refused with %q", detail)
	}
	if n := d.backend.asked(); n != 0 {
		t.Errorf("%d acquires reached the table", n)
	}
}

func TestV1RefusesBadBodies(t *testing.T) {
	d := openDoor(t)
	for _, body := range []string{
		`{`, `[]`, `null`, `"x"`, `7`, `{} {}`, `{}x`, `{"ttl":30,}`, `{'ttl':30}`, "{\"owner\":\"\xff\"}", `{"ttl":+1}`,
		`{"ttl":NaN}`, `{"ttl":Infinity}`, "\xef\xbb\xbf{}", `{"owner":"\ud800"}`, ` `, strings.Repeat("[", 20000),
	} {
		d.problem(400, CodeInvalidBody, "POST", "/v1/locks/a", body)
	}
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/a", `{"ttl":31622401}`)
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/a", `{"wait":31622401}`)
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/a", `{"owner":"`+strings.Repeat("o", 257)+`"}`)
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/a", `{"metadata":"`+strings.Repeat("o", 4097)+`"}`)
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/a", `{"owner":"a\u0000b"}`)
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/a", `{"slots":4294967295}`)
	d.problem(400, CodeInvalidName, "POST", "/v1/locks/..", ``)
	d.problem(400, CodeInvalidName, "POST", "/v1/locks/", ``)
	d.problem(400, CodeInvalidName, "GET", "/v1/locks/%00", ``)
	d.problem(400, CodeInvalidName, "DELETE", "/v1/locks/%FF", ``, "Lock-Key", key(1))
	d.problem(400, CodeInvalidName, "POST", "/v1/locks/./renew", `{"key":"`+key(1)+`"}`)
	d.problem(400, CodeInvalidField, "POST", "/v1/locks/a/renew", ``)
	d.problem(400, CodeInvalidField, "POST", "/v1/locks/a/renew", `{"key":"`+key(1)+`","ttl":31622401}`)
	d.problem(400, CodeInvalidField, "POST", "/v1/locks/a/renew", `{"key":"`+key(1)+`","wait":1}`)
	d.problem(413, CodeBodyTooLarge, "POST", "/v1/locks/a", `{"metadata":"`+strings.Repeat("x", maxBodyBytes)+`"}`)
	for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "application/jsonp", "/"} {
		d.problem(415, CodeUnsupportedMedia, "POST", "/v1/locks/a", `{}`, "Content-Type", ct)
	}
	d.ok("POST", "/v1/locks/a", `{}`, "Content-Type", "application/json; charset=UTF-8")
	if n := d.backend.asked(); n != 1 {
		t.Errorf("%d acquires reached the table", n)
	}
}

func TestV1Headers(t *testing.T) {
	d := openDoor(t)
	d.problem(400, CodeInvalidField, "DELETE", "/v1/locks/a", "")
	d.problem(400, CodeInvalidField, "DELETE", "/v1/locks/a", "", "Lock-Key", "short")
	d.problem(400, CodeInvalidField, "DELETE", "/v1/locks/a", "", "Lock-Key", key(1), "Lock-Session", "short")
	d.problem(400, CodeInvalidField, "DELETE", "/v1/locks/a", "", "Lock-Key", key(1), "Idempotency-Key", "1")
	d.problem(400, CodeInvalidField, "POST", "/v1/locks/a", "", "Idempotency-Key", "1")
	d.problem(400, CodeInvalidField, "POST", "/v1/sessions", "", "Idempotency-Key", "1")
	d.problem(400, CodeInvalidField, "POST", "/v1/locks/a/renew", `{"key":"`+key(1)+`"}`, "Idempotency-Key", "1")
	for _, n := range []string{"0", "-1", "+1", "1.0", "x", "18446744073709551616", "0x1", "8e03978e-40d5-43e8-bc93-6894a57f9324"} {
		d.problem(400, CodeInvalidField, "POST", "/v1/locks/a", `{"session":"`+key(1)+`"}`, "Idempotency-Key", n)
	}
	if n := d.backend.asked(); n != 0 {
		t.Errorf("%d acquires reached the table", n)
	}
}

func TestV1LimitsAndFailures(t *testing.T) {
	d := openDoor(t)
	for _, c := range refusals {
		c.set(d.backend)
		p := d.problem(c.status, c.code, "POST", "/v1/locks/a", "")
		if detail, _ := p["detail"].(string); strings.Contains(detail, "private") {
			t.Errorf("the cause got out: %v", p)
		}
		a := d.do("POST", "/v1/locks/a", "")
		if (a.header.Get("Retry-After") != "") != (c.status != 500) {
			t.Errorf("%d has Retry-After %q", c.status, a.header.Get("Retry-After"))
		}
		if c.code == CodeUnknown && !strings.Contains(a.body, "same key is safe") {
			t.Errorf("%s", a.body)
		}
		d.problem(c.status, c.code, "POST", "/v1/sessions", "")
		if c.code != CodeDiskFull { // which never meets a renewal
			d.problem(c.status, c.code, "POST", "/v1/locks/a/renew", `{"key":"`+key(1)+`"}`)
		}
		d.backend.recover()
	}
}

func TestV1OutcomeCodes(t *testing.T) {
	d := openDoor(t)
	for outcome, e := range outcomeErrors {
		d.backend.answerWith(outcome)
		d.problem(codeTable[e.Code].status, e.Code, "POST", "/v1/locks/a", "")
	}
}

func TestAbandonedWhenTheKeyIsNotTold(t *testing.T) {
	d := openDoor(t)
	d.backend.failWith(errUnknownForTest)
	d.problem(503, CodeUnknown, "POST", "/v1/locks/a", `{"key":"`+key(1)+`"}`)
	if n := d.backend.abandoned.Load(); n != 0 {
		t.Errorf("a client's own key was abandoned %d times", n)
	}
	d.problem(503, CodeUnknown, "POST", "/v1/locks/a", "")
	d.get("/getLock/a")
	d.get("/getlock?lockname=a")
	if n := d.backend.abandoned.Load(); n != 3 {
		t.Errorf("abandoned %d times, want 3", n)
	}
}

func TestHeadIsGetWithoutBody(t *testing.T) {
	d := openDoor(t)
	for _, path := range []string{"/healthz", "/readyz", "/v1/locks", "/v1/locks/a", "/", "/openapi.json", "/metrics"} {
		if a := d.want(200, "", "HEAD", path, ""); a.header.Get("Content-Length") == "" {
			t.Errorf("%s has no length", path)
		}
	}
}
