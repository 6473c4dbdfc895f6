package server

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/api"
)

func TestHealthAndReadiness(t *testing.T) {
	d := openDoor(t)
	d.want(200, "ok", "GET", "/healthz", "")
	d.want(200, "ok", "GET", "/readyz", "")
	d.backend.mu.Lock()
	d.backend.reason = "no leader"
	d.backend.mu.Unlock()
	d.want(200, "ok", "GET", "/healthz", "")
	a := d.want(503, "No leader.", "GET", "/readyz", "")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	d.server.stopping.Store(true)
	d.want(503, "The server is stopping.", "GET", "/readyz", "")
}

func TestDocumentIsServed(t *testing.T) {
	d := openDoor(t)
	if a := d.get("/openapi.json"); a.body != string(api.JSON) {
		t.Error("another document")
	}
	if a := d.get("/openapi.yaml"); a.body != string(api.YAML) || a.header.Get("Content-Type") != "application/yaml" {
		t.Error("another document")
	}
}

func TestFrontPage(t *testing.T) {
	d := openDoor(t)
	if a := d.get("/"); !strings.Contains(a.body, "curl http://"+d.addr+"/getLock/my-lock\n") {
		t.Errorf("%s", a.body)
	}
	a := d.get("/", "Accept", "text/html,*/*", "Host", "localhost:<script>")
	if !strings.HasPrefix(a.body, "<!doctype html>") || strings.Contains(a.body, "script") || a.header.Get("Content-Security-Policy") == "" {
		t.Errorf("%s", a.body)
	}
}

func TestMetrics(t *testing.T) {
	d := openDoor(t)
	k := d.take("canary-name-1")
	d.want(200, "false", "GET", "/getLock/canary-name-1?timeout=0.01", "")
	d.want(200, "false", "GET", "/getLock/canary-name-1", "")
	d.ok("POST", "/v1/locks/canary-name-2", `{"mode":"shared"}`)
	d.ok("POST", "/v1/locks/canary-name-3", `{"slots":2}`)
	d.ok("POST", "/v1/sessions", "")
	d.want(200, "released", "GET", "/releaseLock/canary-name-1/"+k, "")
	d.want(404, "*", "GET", "/canary-name", "")
	text := d.get("/metrics").body
	for _, want := range []string{
		`doubledutch_grants_total{mode="exclusive"} 1`, `doubledutch_grants_total{mode="shared"} 1`, `doubledutch_grants_total{mode="semaphore"} 1`,
		`doubledutch_refusals_total{code="held"} 1`, `doubledutch_timeouts_total 1`, `doubledutch_releases_total 1`, `doubledutch_expiries_total 0`,
		`doubledutch_hold_seconds_count 1`, `doubledutch_wait_seconds_count 0`, `doubledutch_held_locks 2`, `doubledutch_locks 2`, `doubledutch_holders 2`,
		`doubledutch_waiters 0`, `doubledutch_sessions 1`, `doubledutch_spent_keys 1`, `doubledutch_disk_full 0`, `doubledutch_ready 1`,
		`doubledutch_http_requests_total{route="GET /getLock/{name}",status="2xx"} 3`, `doubledutch_http_requests_total{route="none",status="4xx"} 1`,
		`doubledutch_connections_refused_total{bound="total"} 0`, "doubledutch_pending_commands 0", "doubledutch_disk_stall_seconds 0", "doubledutch_commit_latency_seconds_count", "doubledutch_batch_commands_bucket", "go_goroutines", "process_open_fds",
		`doubledutch_http_request_seconds_count{route="POST /v1/sessions"} 1`, "doubledutch_undelivered_grants_total 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(text, "canary") {
		t.Error("a name is in the metrics")
	}
}

// TestMetricsStaySmall asks for many names and paths and sees no more lines than before.
func TestMetricsStaySmall(t *testing.T) {
	d := openDoor(t)
	d.take("a")
	before := strings.Count(d.get("/metrics").body, "\n")
	for i := range 60 {
		d.take(fmt.Sprintf("n%d", i))
		d.get(fmt.Sprintf("/nowhere/%d", i))
		d.do(fmt.Sprintf("M%d", i), "/v1/locks", "")
	}
	if after := strings.Count(d.get("/metrics").body, "\n"); after != before {
		t.Errorf("%d lines, then %d", before, after)
	}
}

func TestPanicsAreAnswered(t *testing.T) {
	d := openDoor(t)
	d.backend.panics.Store(true)
	d.problem(500, CodeInternal, "POST", "/v1/sessions", `{"id":"`+plantedSession+`"}`)
	d.want(500, "Something went wrong inside the server.", "GET", "/releaseLock/canary-name/"+plantedKey, "")
	d.want(500, `{"servername":"DoubleDutch/test","error":"Something went wrong inside the server."}`, "DELETE", "/releaselock?lockname=canary-name&token="+plantedKey, "")
	d.backend.panics.Store(false)
	d.take("a")
	log := d.logs.String()
	if strings.Count(log, "a handler panicked") != 3 || !strings.Contains(log, "releaseHolds") && !strings.Contains(log, "openSession") {
		t.Errorf("the log does not tell: %s", log)
	}
	// d's clean-up looks for the planted secrets in the log.
}

// TestSecretsStayOut sends secrets wherever a client may put them, rightly or wrongly. The clean-up of every door looks
// into log and metrics, and its client into every error.
func TestSecretsStayOut(t *testing.T) {
	d := openDoor(t, func(c *Config) { c.APIKey = plantedAPIKey })
	auth := []string{"Authorization", "Bearer " + plantedAPIKey}
	for _, c := range [][3]string{
		{"GET", "/getLock/canary-name?auth=" + plantedAPIKey, ""},
		{"GET", "/releaseLock/canary-name/" + plantedKey, ""},
		{"GET", "/releaseLock/" + plantedKey + "/x/y", ""},
		{"GET", "/getlock?lockname=canary-name&auth=" + plantedAPIKey, ""},
		{"GET", "/getlock?token=" + plantedKey + "&lockname=", ""},
		{"POST", "/v1/locks/canary-name", `{"key":"` + plantedKey + `","session":"` + plantedSession + `"}`},
		{"POST", "/v1/locks/canary-name", `{"` + plantedKey + `":1}`},
		{"POST", "/v1/locks/canary-name", `{"` + plantedKey + `":1,"` + plantedKey + `":1}`},
		{"POST", "/v1/locks/canary-name", `{"mode":"` + plantedKey + `"}`},
		{"POST", "/v1/locks/canary-name", plantedKey},
		{"POST", "/v1/locks/canary-name/renew", `{"key":"` + plantedKey + `"}`},
		{"POST", "/v1/sessions", `{"id":"` + plantedSession + `"}`},
		{"POST", "/v1/sessions/" + plantedSession + "/renew", ""},
		{"DELETE", "/v1/sessions/" + plantedSession, ""},
		{"GET", "/v1/sessions/" + plantedSession, ""},
		{"GET", "/v1/locks?" + plantedKey + "=1", ""},
		{"GET", "/v1/locks?cursor=" + plantedKey, ""},
		{plantedKey, "/v1/locks", ""},
	} {
		d.do(c[0], c[1], c[2], append(auth, "Lock-Key", plantedKey, "Lock-Session", plantedSession)...)
	}
	d.raw("GET /getLock/canary-name/" + plantedKey + " HTTP/1.1\r\n\r\n")
	d.raw("GET /" + plantedKey + "%zz HTTP/1.1\r\nHost: " + plantedKey + "\r\nX: \x00" + plantedKey + "\r\n\r\n")
	d.raw(plantedKey + "\r\n\r\n")
	if !bytes.Contains([]byte(d.logs.String()), []byte("route=/releaseLock/{name}/{key}")) {
		t.Error("the requests were not logged at all")
	}
}
