package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

const explained = `{"name":"db","held":true,"holder_count":1,"holders":[
	{"owner":"worker-3","metadata":"nightly","mode":"exclusive","token":41,"since":"2026-01-02T02:00:00.000Z","held_for":3700,"ttl":30,"expires_in":12.5}],
	"queue_length":1,"queue":[{"owner":"bob","mode":"exclusive","position":1,"since":"2026-01-02T03:02:00.000Z","waited":7,"expected_wait":61}],
	"expected_wait":120,"asked":{"owner":"ops\u001b","reason":"new disk","since":"2026-01-02T03:04:00.000Z","within":60,"due_in":41.5},
	"waits_for":[{"owner":"worker-3","waits_for":"disk","held_by":"worker-9","token":40},{"owner":"worker-9","waits_for":"cd","held_by":"","queued":true},
		{"owner":"","waits_for":"x","held_by":""}],"waits_in_circle":true PLACE}`

func TestShowExplains(t *testing.T) {
	place := `,"place":{"position":1,"since":"2026-01-02T03:02:00.000Z","gives_up_in":3,"expected_wait":61}`
	url, requests := fakeServer(t, answering(200, jsonType, strings.Replace(explained, "PLACE", place, 1)))
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(aKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := doubledutch(t, "show", "db", "--key-file", file, "--server", url).with("TZ=UTC").run()
	golden(t, r.out, `
db: held, 1 waiting

HOLDER    MODE       TOKEN  SINCE                HELD FOR  EXPIRES IN  METADATA
worker-3  exclusive  41     2026-01-02 02:00:00  1h01m     12s         nightly

WAITER  MODE       PLACE  WAITING FOR  EXPECTED  METADATA
bob     exclusive  1      7s           ~1m01s    -

Who comes now may have to wait about 2m00s, from how long the lock was held before.
Asked to make way by ops� at 2026-01-02 03:04:00, within 1m00s (41s left): new disk
worker-3 waits for "disk", held by worker-9 (token 40)
worker-9 waits for "cd", behind somebody, who came before
somebody waits for "x", which nobody holds yet
They wait for each other: none of them gets on by itself.
Your place in the queue is 1, for about another 1m01s; your wait runs out in 3s.
`)
	if req := <-requests; req.header.Get("Lock-Key") != aKey {
		t.Errorf("the key %q was sent", req.header.Get("Lock-Key"))
	}
	for mine, want := range map[string]string{
		`,"hold":{"token":41,"since":"2026-01-02T02:00:00.000Z","ttl":30,"expires_in":12}`: "You hold it (token 41) since 2026-01-02 02:00:00; the hold expires in 12s unless renewed.\n",
		``: "Your key neither holds this lock nor waits for it.\n",
	} {
		url, _ = fakeServer(t, answering(200, jsonType, strings.Replace(explained, "PLACE", mine, 1)))
		doubledutch(t, "show", "db", "--server", url).with("TZ=UTC", "DOUBLEDUTCH_KEY="+aKey).check(exitcode.OK, want)
	}
	doubledutch(t, "show", "db", "--key-file", "/nowhere/key", "--server", url).check(exitcode.Usage, "--key-file: open /nowhere/key")
	doubledutch(t, "show", "db", "--key-file", "-", "--server", url).reading("\n").check(exitcode.Usage, "- holds no key")
}

func TestRenewTellsWhatIsAsked(t *testing.T) {
	url, _ := fakeServer(t, answering(200, jsonType, `{"name":"db","ttl":30,"expires_in":30,"asked":{"owner":"ops","reason":"new disk","since":"2026-01-02T03:04:00.000Z","within":60,"due_in":41.5}}`))
	r := doubledutch(t, "renew", "db", aKey, "--server", url).with("TZ=UTC").run()
	golden(t, r.out, "renewed \"db\": expires in 30s\nAsked to make way by ops at 2026-01-02 03:04:00, within 1m00s (41s left): new disk\n")
}

func TestAsk(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, `{"asked":true,"holder":{"owner":"worker-3"},"holder_count":2}`))
	doubledutch(t, "ask", "db", "--reason", "new disk", "--owner", "ops", "--within", "5m", "--server", url).
		check(exitcode.OK, "asked worker-3 and 1 more to make way within 5m00s\n")
	if req := <-requests; req.method != "POST" || req.uri != "/v1/locks/db/ask" || req.body != `{"owner":"ops","reason":"new disk","within":300}` {
		t.Errorf("the request was %s %s %s", req.method, req.uri, req.body)
	}
	doubledutch(t, "ask", "db", "--reason", "x", "--json", "--server", url).check(exitcode.OK, `"asked": true`)
	if req := <-requests; !strings.Contains(req.body, `"owner":"`+defaultOwner()+`","reason":"x","within":60`) {
		t.Errorf("the body was %s", req.body)
	}
	doubledutch(t, "ask", "db", "--server", url).check(exitcode.Usage, "--reason")
	url, _ = fakeServer(t, answering(404, problemType, `{"code":"not_held","detail":"Nobody holds this lock."}`))
	doubledutch(t, "ask", "db", "--reason", "x", "--server", url).check(exitcode.NotHeld, "Nobody holds this lock.")
}

// breakable is a server that has one hold to break.
func breakable(t *testing.T) (url string, requests <-chan seen) {
	t.Helper()
	return fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			answering(200, jsonType, `{"broken":1}`)(w, r)
			return
		}
		answering(200, jsonType, strings.Replace(explained, "PLACE", "", 1))(w, r)
	})
}

func TestBreakShowsWhatItBreaks(t *testing.T) {
	url, requests := breakable(t)
	r := doubledutch(t, "break", "db", "--reason", "it hangs", "--owner", "ops", "--yes", "--server", url).check(exitcode.OK, "worker-3")
	if r.out != "broke the hold of \"db\"\n" {
		t.Errorf("standard output is %q", r.out)
	}
	<-requests
	if req := <-requests; req.method != "DELETE" || req.uri != "/v1/locks/db/holders?owner=ops&reason=it+hangs&token=41" {
		t.Errorf("the request was %s %s", req.method, req.uri)
	}
	doubledutch(t, "break", "db", "--reason", "x", "--owner", "ops", "--token", "40", "-y", "--json", "--server", url).check(exitcode.OK, `"broken": 1`)
	if req := <-requests; req.uri != "/v1/locks/db/holders?owner=ops&reason=x&token=40" {
		t.Errorf("the first request was %s %s", req.method, req.uri)
	}
}

func TestBreakNeedsAPersonOrYes(t *testing.T) {
	url, requests := breakable(t)
	doubledutch(t, "break", "db", "--reason", "x", "--server", url).reading("y\n").check(exitcode.Usage, "say --yes")
	doubledutch(t, "break", "db", "--yes", "--server", url).check(exitcode.Usage, "--reason")
	select {
	case req := <-requests:
		t.Errorf("%s %s was asked for", req.method, req.uri)
	default:
	}
	url, _ = fakeServer(t, answering(200, jsonType, `{"name":"db","held":false,"holder_count":0,"holders":[],"queue_length":0,"queue":[]}`))
	doubledutch(t, "break", "db", "--reason", "x", "--yes", "--server", url).check(exitcode.NotHeld, "nobody holds this lock")
	for line, good := range map[string]bool{"y\n": true, "YES": true, " yes \n": true, "n\n": false, "\n": false, "": false, "yikes\n": false} {
		var asked strings.Builder
		if err := confirm(t.Context(), strings.NewReader(line), &asked, "sure?"); (err == nil) != good || asked.String() != "sure?" {
			t.Errorf("%q: %v after %q", line, err, asked.String())
		}
	}
}

func TestBreakCanBeInterruptedAtItsQuestion(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, out := io.Pipe()
	defer func() { _ = out.Close() }()
	if err := confirm(ctx, in, io.Discard, "sure?"); exitcode.Of(err) != exitcode.Interrupted {
		t.Errorf("it ended with %v", err)
	}
}

func TestHandover(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, `{"released":true}`))
	doubledutch(t, "handover", "db", "--to", "worker-8", "--key-file", "-", "--server", url).reading(aKey).
		check(exitcode.OK, "handed \"db\" over to worker-8\n")
	if req := <-requests; req.method != "POST" || req.uri != "/v1/locks/db/handover" || req.body != `{"key":"`+aKey+`","to":"worker-8"}` {
		t.Errorf("the request was %s %s %s", req.method, req.uri, req.body)
	}
	doubledutch(t, "handover", "db", "--to", "x", "--server", url).check(exitcode.Usage, "no key")
	doubledutch(t, "handover", "db", "--server", url).check(exitcode.Usage, "--to")
	doubledutch(t, "handover", "db", "--to", "x", "--key", aKey, "--key-file", "-", "--server", url).check(exitcode.Usage, "contradict each other")
	doubledutch(t, "handover", "db", "--to", "x", "--key-file", "-", "--server", url).with("DOUBLEDUTCH_KEY=other").reading(aKey).check(exitcode.OK, "handed")
	if req := <-requests; !strings.Contains(req.body, aKey) {
		t.Errorf("the body was %s", req.body)
	}
	doubledutch(t, "handover", "db", "--to", "x", "--api-key", "a", "--api-key-file", "b", "--key", aKey, "--server", url).check(exitcode.Usage, "contradict each other")
	for body, code := range map[string]int{
		`{"code":"no_successor","detail":"Nobody of that owner waits."}`:                exitcode.Failure,
		`{"code":"broken","detail":"The hold of this key was ended by ops: it hangs."}`: exitcode.NotHeld,
	} {
		url, _ = fakeServer(t, answering(409, problemType, body))
		doubledutch(t, "handover", "db", "--to", "x", "--server", url).with("DOUBLEDUTCH_KEY="+aKey).check(code, "doubledutch: ")
	}
}

func TestHistoryTable(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, `{"name":"db","holder_count":1,
		"holders":[{"owner":"bob","mode":"exclusive","token":44,"since":"2026-01-02T03:03:00.000Z","held_for":65,"ttl":30,"expires_in":12.5}],
		"holds":[{"owner":"worker-3","token":41,"mode":"exclusive","since":"2026-01-02T02:00:00.000Z","ended":"2026-01-02T03:03:00.000Z","held_for":3780,"waited":0,"end":"revoked","by":"ops","reason":"it\nhangs"},
		{"owner":"","token":40,"mode":"shared","since":"2026-01-02T01:00:00.000Z","ended":"2026-01-02T01:00:01.000Z","held_for":1,"waited":2,"end":"handed_over","by":"worker-3"},
		{"owner":"x","token":39,"mode":"shared","since":"2026-01-02T01:00:00.000Z","ended":"2026-01-02T01:00:00.500Z","held_for":0.5,"waited":0.25,"end":"expired"}],
		"remembered_since":"2026-01-02T01:00:00.000Z"}`))
	r := doubledutch(t, "history", "db", "--at", "2026-01-02 02:03", "--limit", "7", "--server", url).with("TZ=UTC").run()
	golden(t, r.out, `
OWNER     MODE       TOKEN  SINCE                UNTIL                HELD FOR  WAITED  END
bob       exclusive  44     2026-01-02 03:03:00  -                    1m05s     -       holds it now
worker-3  exclusive  41     2026-01-02 02:00:00  2026-01-02 03:03:00  1h03m     0ms     broken by ops: it�hangs
-         shared     40     2026-01-02 01:00:00  2026-01-02 01:00:01  1s        2s      handed over to worker-3
x         shared     39     2026-01-02 01:00:00  2026-01-02 01:00:00  500ms     250ms   expired
`)
	if req := <-requests; req.method != "GET" || req.uri != "/v1/locks/db/history?at=2026-01-02T02%3A03%3A00Z&limit=7" {
		t.Errorf("the request was %s %s", req.method, req.uri)
	}
	url, _ = fakeServer(t, answering(200, jsonType, `{"name":"db","holder_count":0,"holders":[],"holds":[],"remembered_since":"2026-01-02T01:00:00.000Z"}`))
	doubledutch(t, "history", "db", "--at", "2026-01-02T00:03:00Z", "--server", url).with("TZ=UTC").
		check(exitcode.OK, "db: nobody is remembered to have held it at 2026-01-02 00:03:00; the oldest hold that is remembered began at 2026-01-02 01:00:00\n")
	doubledutch(t, "history", "db", "--at", "noon", "--server", url).check(exitcode.Usage, `"noon" is not a time`)
	doubledutch(t, "history", "db", "--json", "--server", url).check(exitcode.OK, `"holds": []`)
}

func TestTimesOfDayOfPeople(t *testing.T) {
	zone := time.FixedZone("east", 2*60*60)
	now := time.Date(2026, 3, 1, 3, 10, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"02:03":                     time.Date(2026, 3, 1, 2, 3, 0, 0, zone),
		"03:10":                     now,
		"03:10:01":                  time.Date(2026, 2, 28, 3, 10, 1, 0, zone),
		"23:59":                     time.Date(2026, 2, 28, 23, 59, 0, 0, zone),
		"2026-01-02 03:04":          time.Date(2026, 1, 2, 3, 4, 0, 0, zone),
		"2026-01-02T03:04:05":       time.Date(2026, 1, 2, 3, 4, 5, 0, zone),
		"2026-01-02T03:04:05Z":      time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"2026-01-02T03:04:05-01:00": time.Date(2026, 1, 2, 4, 4, 5, 0, time.UTC),
	} {
		if got, err := parseDayTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "24:00", "2:3pm", "yesterday", "2026-02-30 01:00"} {
		if got, err := parseDayTime(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
