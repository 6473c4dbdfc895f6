package main

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

const (
	aKey  = "0123456789abcdefghijABCDEFGHIJ00"
	grant = `{"name":"db","key":"` + aKey + `","token":7,"ttl":30,"expires_in":29.998,"mode":"exclusive","waited":1.5}`
	held  = `{"type":"about:blank","title":"The lock is held","status":409,"detail":"Somebody else holds the lock.","code":"held",` +
		`"holder":{"owner":"alice@a","metadata":"backup","mode":"shared","token":6,"since":"2026-01-02T03:04:00.000Z","expires_in":12.5},` +
		`"holder_count":2,"queue_length":3,"waited":0}`
	notHeld     = `{"title":"The key does not hold the lock","status":404,"detail":"This key does not hold this lock.","code":"not_held"}`
	unavailable = `{"title":"The server cannot answer now","status":503,"detail":"The server is stopping.","code":"unavailable"}`
)

func TestAcquire(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, grant))
	r := doubledutch(t, "acquire", "db", "--ttl", "1m", "--owner", "me", "--metadata", "x", "--lock-delay", "0.5", "--api-key", "k3y", "--server", url).
		check(exitcode.OK, `acquired "db": token 7, expires in 29s, waited 1s`)
	if r.out != aKey+"\n" {
		t.Errorf("standard output is %q, want the key alone", r.out)
	}
	req := <-requests
	if req.method != "POST" || req.uri != "/v1/locks/db" || req.header.Get("Authorization") != "Bearer k3y" {
		t.Errorf("the request was %s %s with %v", req.method, req.uri, req.header)
	}
	var body map[string]any
	if err := json.Unmarshal([]byte(req.body), &body); err != nil {
		t.Fatal(err)
	}
	key, _ := body["key"].(string)
	delete(body, "key")
	want := map[string]any{"ttl": 60.0, "mode": "exclusive", "owner": "me", "metadata": "x", "lock_delay": 0.5}
	if len(key) != 32 || !equalJSON(t, body, want) {
		t.Errorf("the body was %s, want a key and %v", req.body, want)
	}
}

// equalJSON tells whether a and b are written alike.
func equalJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(x) == string(y)
}

func TestAcquireBodies(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, grant))
	for args, want := range map[string]string{
		"acquire db -s --key " + aKey + " --owner o":             `{"key":"` + aKey + `","mode":"shared","owner":"o"}`,
		"acquire db -x --wait forever --key k --owner o":         `{"wait":-1,"key":"k","mode":"exclusive","owner":"o"}`,
		"acquire db --slots 3 --session s --key k --owner o":     `{"key":"k","slots":3,"session":"s","owner":"o"}`,
		"acquire db --mode shared --key k --owner o --ttl 100ms": `{"ttl":0.1,"key":"k","mode":"shared","owner":"o"}`,
	} {
		doubledutch(t, append(strings.Fields(args), "--server", url)...).check(exitcode.OK, aKey)
		if req := <-requests; !strings.Contains(req.body, want) {
			t.Errorf("%s sent %s, want %s", args, req.body, want)
		}
	}
	doubledutch(t, "acquire", "db", "--server", url).with("DOUBLEDUTCH_ACQUIRE_KEY="+aKey).check(exitcode.OK, aKey)
	if req := <-requests; !strings.Contains(req.body, aKey) || !strings.Contains(req.body, `"owner":"`+defaultOwner()) {
		t.Errorf("sent %s", req.body)
	}
}

func TestAcquireWaitsAboutAsLongAsItWasTold(t *testing.T) {
	url, requests := fakeServer(t, answering(409, problemType, held))
	doubledutch(t, "acquire", "db", "--wait", "5s", "--server", url).check(exitcode.Held, "held")
	var body struct{ Wait float64 }
	if err := json.Unmarshal([]byte((<-requests).body), &body); err != nil || body.Wait > 5 || body.Wait < 4.9 {
		t.Errorf("asked to wait %v s, %v", body.Wait, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		status     int
		kind, body string
		code       int
		want       string
	}{
		{409, problemType, held, exitcode.Held, "doubledutch: the lock is held by alice@a and 1 more (backup); the hold expires in 12s unless renewed; waiting: 3\n"},
		{409, problemType, `{"code":"held","blocked_for":3,"holder_count":0,"queue_length":0}`, exitcode.Held, "the lock is blocked for another 3s"},
		{409, problemType, `{"code":"held","holder":{"owner":"a","expires_in":9},"holder_count":1,"queue_length":0,"expected_wait":61.5}`, exitcode.Held, "the hold expires in 9s unless renewed; who comes now may have to wait about 1m01s\n"},
		{409, problemType, `{"code":"broken","detail":"The hold was ended."}`, exitcode.NotHeld, "The hold was ended."},
		{409, problemType, `{"code":"cancelled","detail":"Lost it."}`, exitcode.Held, "Lost it."},
		{409, problemType, `{"code":"mode_mismatch","detail":"Other mode."}`, exitcode.Failure, "Other mode."},
		{404, problemType, notHeld, exitcode.NotHeld, "This key does not hold this lock."},
		{404, problemType, `{"code":"no_session","detail":"No such session."}`, exitcode.Failure, "No such session."},
		{401, problemType, `{"code":"unauthorized","title":"An API key is needed"}`, exitcode.Failure, "An API key is needed"},
		{429, problemType, `{"code":"too_many_locks","detail":"Full."}`, exitcode.Unavailable, "Full."},
		{503, problemType, unavailable, exitcode.Unavailable, "The server is stopping."},
		{507, problemType, `{"code":"disk_full","detail":"Disk full."}`, exitcode.Unavailable, "Disk full."},
		{502, "text/html", "<html>", exitcode.Unavailable, "the server answered 502 Bad Gateway"},
		{301, "text/html", "", exitcode.Failure, "the server answered 301 Moved Permanently"},
		{200, "text/html", "<html>", exitcode.Failure, "cannot read the server's answer"},
		{409, problemType, `{"code":"held","holder":{"owner":"\u001b[31mred\u001b[0m"},"holder_count":1}`, exitcode.Held, "\uFFFD[31mred\uFFFD[0m"},
	} {
		url, _ := fakeServer(t, answering(tt.status, tt.kind, tt.body))
		r := doubledutch(t, "acquire", "db", "--server", url).check(tt.code, tt.want)
		if r.out != "" {
			t.Errorf("a refusal printed %q on standard output", r.out)
		}
	}
}

func TestJSONOutput(t *testing.T) {
	url, _ := fakeServer(t, answering(200, jsonType, grant))
	r := doubledutch(t, "acquire", "db", "--json", "--server", url).check(exitcode.OK, `"token": 7`)
	if !json.Valid([]byte(r.out)) || r.stderr != "" {
		t.Errorf("printed %q and %q", r.out, r.stderr)
	}
	url, _ = fakeServer(t, answering(409, problemType, held))
	if r = doubledutch(t, "acquire", "db", "--json", "--server", url).check(exitcode.Held, "alice@a"); !strings.Contains(r.out, `"code": "held"`) {
		t.Errorf("a refusal printed %q", r.out)
	}
}

func TestNamesArePercentEncoded(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, `{"released":true}`))
	for name, want := range map[string]string{
		"a/b":     "/v1/locks/a%2Fb",
		"a b":     "/v1/locks/a%20b",
		"ü%2F?#":  "/v1/locks/%C3%BC%252F%3F%23",
		"a//../b": "/v1/locks/a%2F%2F..%2Fb",
		"...":     "/v1/locks/...",
	} {
		doubledutch(t, "release", name, aKey, "--server", url).check(exitcode.OK, "released")
		if req := <-requests; req.uri != want || req.method != "DELETE" {
			t.Errorf("%q was asked for as %s %s, want %s", name, req.method, req.uri, want)
		}
	}
}

func TestKeyBySomeOtherWay(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, `{"released":true,"expires_in":5,"ttl":5}`))
	for _, p := range []*program{
		doubledutch(t, "release", "db", aKey, "--server", url),
		doubledutch(t, "release", "db", "--server", url).with("DOUBLEDUTCH_KEY=" + aKey),
		doubledutch(t, "release", "db", "-", "--server", url).reading(aKey + "\n"),
		doubledutch(t, "release", "db", "-", "--server", url).reading(aKey),
	} {
		p.check(exitcode.OK, `released "db"`)
		if req := <-requests; req.header.Get("Lock-Key") != aKey || strings.Contains(req.uri, aKey) {
			t.Errorf("%v sent %s with the key %q", p.args, req.uri, req.header.Get("Lock-Key"))
		}
	}
	doubledutch(t, "renew", "db", "-", "--ttl", "2m", "--server", url).reading(aKey).check(exitcode.OK, `renewed "db": expires in 5s`)
	if req := <-requests; req.uri != "/v1/locks/db/renew" || req.body != `{"key":"`+aKey+`","ttl":120}` {
		t.Errorf("renew sent %s to %s", req.body, req.uri)
	}
	doubledutch(t, "release", "db", "-", "--server", url).reading("").check(exitcode.Usage, "no key")
}

func TestNotHeld(t *testing.T) {
	url, _ := fakeServer(t, answering(404, problemType, notHeld))
	doubledutch(t, "release", "db", aKey, "--server", url).check(exitcode.NotHeld, "doubledutch: This key does not hold this lock.\n")
	doubledutch(t, "renew", "db", aKey, "--server", url).check(exitcode.NotHeld, "doubledutch: This key does not hold this lock.\n")
}

func TestNoServer(t *testing.T) {
	doubledutch(t, "ls", "--server", "127.0.0.1:1").check(exitcode.Unavailable, "cannot reach http://127.0.0.1:1: is the server running?")
	doubledutch(t, "acquire", "db", "--wait", "1h").with("DOUBLEDUTCH_SERVER=http://127.0.0.1:1").
		check(exitcode.Unavailable, "cannot reach http://127.0.0.1:1: is the server running?")
}

func TestSilentServer(t *testing.T) {
	url, _ := fakeServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	doubledutch(t, "ls", "--timeout", "50ms", "--server", url).check(exitcode.Unavailable, "no answer from "+url+" in time")
}

func TestPing(t *testing.T) {
	url, requests := fakeServer(t, answering(200, "text/plain", "ok"))
	doubledutch(t, "ping", "--server", url).check(exitcode.OK, "ready\n")
	if req := <-requests; req.uri != "/readyz" {
		t.Errorf("ping asked for %s", req.uri)
	}
	url, _ = fakeServer(t, answering(503, "text/plain; charset=utf-8", "The server is not ready yet."))
	doubledutch(t, "ping", "--server", url).check(exitcode.Unavailable, "doubledutch: The server is not ready yet.\n")
}

// A waiting acquire comes back with the same key when the server restarts, and so finds its place.
func TestWaitSurvivesARestart(t *testing.T) {
	var calls atomic.Int32
	url, requests := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch calls.Add(1) {
		case 1:
			answering(503, problemType, unavailable)(w, r)
		case 2:
			panic(http.ErrAbortHandler) // breaks the connection
		default:
			answering(200, jsonType, grant)(w, r)
		}
	})
	doubledutch(t, "acquire", "db", "--wait", "1m", "--server", url).check(exitcode.OK, aKey)
	keys := map[string]bool{}
	for range 3 {
		var body struct{ Key string }
		if err := json.Unmarshal([]byte((<-requests).body), &body); err != nil {
			t.Fatal(err)
		}
		keys[body.Key] = true
	}
	if len(keys) != 1 {
		t.Errorf("it used the keys %v", keys)
	}
}

// When nobody knows what came of an acquire, its key is released, unless the caller knows it too.
func TestLostAcquireIsTakenBack(t *testing.T) {
	url, requests := fakeServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			panic(http.ErrAbortHandler)
		}
	})
	doubledutch(t, "acquire", "db", "--server", url).check(exitcode.Unavailable, "lost the connection to "+url)
	var body struct{ Key string }
	if err := json.Unmarshal([]byte((<-requests).body), &body); err != nil {
		t.Fatal(err)
	}
	if req := <-requests; req.method != "DELETE" || req.header.Get("Lock-Key") != body.Key {
		t.Errorf("then it sent %s with the key %q, want a DELETE with %q", req.method, req.header.Get("Lock-Key"), body.Key)
	}
	doubledutch(t, "acquire", "db", "--key", aKey, "--server", url).check(exitcode.Unavailable, "lost the connection to "+url)
	<-requests
	select {
	case req := <-requests:
		t.Errorf("it sent %s for a key that the caller knows", req.method)
	default:
	}
}

func TestInterruptedWaitGivesUpItsPlace(t *testing.T) {
	left := make(chan struct{})
	url, requests := fakeServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			<-r.Context().Done()
			close(left)
		}
	})
	cmd := doubledutch(t, "acquire", "db", "--wait", "forever", "--server", url).command(t.Context())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-requests
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-left
	if req := <-requests; req.method != "DELETE" {
		t.Errorf("it sent %s", req.method)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitcode.Interrupted {
		t.Errorf("exit code %d", code)
	}
}

func TestShowTable(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, `{"name":"db","held":true,"holder_count":3,"holders":[
		{"owner":"alice@a","metadata":"backup","mode":"shared","token":6,"since":"2026-01-02T03:04:00.000Z","ttl":30,"expires_in":12.5},
		{"mode":"shared","token":12345,"since":"2026-01-01T00:00:00.000Z","ttl":30,"expires_in":0.25}],
		"queue_length":1,"queue":[{"owner":"bob\tb","mode":"exclusive","position":1,"since":"2026-01-02T03:02:00.000Z","gives_up_in":3}]}`))
	r := doubledutch(t, "show", "db", "--server", url).with("TZ=UTC").run()
	golden(t, r.out, `
db: held, 1 waiting

HOLDER   MODE    TOKEN  SINCE                HELD FOR  EXPIRES IN  METADATA
alice@a  shared  6      2026-01-02 03:04:00  5s        12s         backup
-        shared  12345  2026-01-01 00:00:00  27h04m    250ms       -
... and 1 more

WAITER  MODE       PLACE  WAITING FOR  EXPECTED  METADATA
bob�b   exclusive  1      2m05s        -         -
`)
	if req := <-requests; req.method != "GET" || req.uri != "/v1/locks/db" {
		t.Errorf("asked for %s %s", req.method, req.uri)
	}
	for body, want := range map[string]string{
		`{"name":"a b","held":false,"holder_count":0,"holders":[],"queue_length":0,"queue":[]}`:               "\na b: free\n",
		`{"name":"a","held":false,"holder_count":0,"holders":[],"queue_length":0,"queue":[],"blocked_for":2}`: "\na: blocked for 2s after an expiry or a break, 0 waiting\n",
	} {
		url, _ = fakeServer(t, answering(200, jsonType, body))
		golden(t, doubledutch(t, "show", "db", "--server", url).run().out, want)
	}
}

func TestLsTable(t *testing.T) {
	pages := []string{
		`{"locks":[{"name":"a","held":true,"holder_count":2,"holders":[{"owner":"alice@a","mode":"shared","token":6,"since":"2026-01-02T03:04:00.000Z","expires_in":12.5}],"queue_length":2,"queue":[]}],"cursor":"nYQ"}`,
		`{"locks":[{"name":"jobs/nightly","held":false,"holder_count":0,"holders":[],"queue_length":0,"queue":[],"blocked_for":3}]}`,
	}
	var page atomic.Int32
	url, requests := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		answering(200, jsonType, pages[int(page.Add(1)-1)%len(pages)])(w, r)
	})
	r := doubledutch(t, "ls", "p q/", "--server", url).run()
	golden(t, r.out, `
LOCK          HOLDER        MODE    TOKEN  HELD FOR  EXPIRES IN  WAITING
a             alice@a (+1)  shared  6      5s        12s         2
jobs/nightly  -             -       -      -         -           0
`)
	if first, second := <-requests, <-requests; first.uri != "/v1/locks?prefix=p+q%2F" || second.uri != "/v1/locks?cursor=nYQ&prefix=p+q%2F" {
		t.Errorf("asked for %s and %s", first.uri, second.uri)
	}
	r = doubledutch(t, "ls", "--json", "--server", url).run()
	var all struct{ Locks []lockAnswer }
	if err := json.Unmarshal([]byte(r.out), &all); err != nil || len(all.Locks) != 2 {
		t.Errorf("as JSON: %v in %s", err, r.out)
	}
	r = doubledutch(t, "ls", "--limit", "1", "--server", url).run()
	if strings.Contains(r.out, "nightly") || !strings.Contains(r.out, "alice@a") {
		t.Errorf("with a limit of one:\n%s", r.out)
	}
}

// golden compares what was printed with a text that begins on its own line.
func golden(t *testing.T, got, want string) {
	t.Helper()
	if want = strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}
