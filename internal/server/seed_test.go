package server

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

var keyPattern = regexp.MustCompile(`^[0-9A-Za-z]{32}$`)

func TestSeedConversation(t *testing.T) {
	d := openDoor(t)
	a := d.want(200, "*", "GET", "/getLock/my-lock", "")
	if !keyPattern.MatchString(a.body) {
		t.Fatalf("no key: %q", a.body)
	}
	if ct := a.header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Errorf("content type %q", ct)
	}
	d.want(200, "false", "GET", "/getLock/my-lock", "")
	d.want(200, "false", "GET", "/getLock/my-lock/60", "")
	d.want(200, "false", "GET", "/releaseLock/my-lock/"+strings.Repeat("x", 32), "")
	d.want(200, "false", "GET", "/releaseLock/my-lock/short", "")
	d.want(200, "false", "GET", "/releaseLock/other/"+a.body, "")
	d.want(200, "released", "GET", "/releaseLock/my-lock/"+a.body, "")
	d.want(200, "false", "GET", "/releaseLock/my-lock/"+a.body, "")
	d.want(200, "*", "GET", "/getLock/my-lock/0.5?unknown=1", "")
}

func TestSeedDefaultsAndLifetime(t *testing.T) {
	d := openDoor(t)
	for path, ttl := range map[string]time.Duration{
		"/getLock/a":           30 * time.Second,
		"/getLock/b/45":        45 * time.Second,
		"/getLock/c/0.25":      250 * time.Millisecond,
		"/getLock/d/0.0000001": time.Millisecond,
		"/getLock/e/007":       7 * time.Second,
		"/getLock/f/31622400":  366 * 24 * time.Hour,
	} {
		d.want(200, "*", "GET", path, "")
		acquires := d.backend.acquires
		a := acquires[len(acquires)-1]
		if time.Duration(a.GetTtl()) != ttl || a.GetWait() != 0 || a.GetSession() != "" {
			t.Errorf("%s asked for %v", path, a)
		}
	}
}

func TestSeedRefusesBadInput(t *testing.T) {
	d := openDoor(t)
	long := strings.Repeat("n", 513)
	for _, path := range []string{
		"/getLock/", "/getLock//30", "/getLock/%00", "/getLock/a%0Ab", "/getLock/%C2%85", "/getLock/%FF", "/getLock/.", "/getLock/..",
		"/getLock/%2E", "/getLock/%2e%2E/30", "/getLock/" + long, "/getLock/%7F",
		"/getLock/a/", "/getLock/a/0", "/getLock/a/0.0", "/getLock/a/-1", "/getLock/a/+1", "/getLock/a/1e3", "/getLock/a/inf",
		"/getLock/a/NaN", "/getLock/a/0x10", "/getLock/a/1_000", "/getLock/a/.5", "/getLock/a/5.", "/getLock/a/1.2.3",
		"/getLock/a/%2030", "/getLock/a/30s", "/getLock/a/31622401", "/getLock/a/99999999999999999999999999", "/getLock/a/%D9%A3",
		"/getLock/a?timeout=", "/getLock/a?timeout=x", "/getLock/a?timeout=1e3", "/getLock/a?timeout=1&timeout=2",
		"/getLock/a?timeout=inf", "/getLock/a?timeout=31622401", "/getLock/a?timeout=--1", "/getLock/a?%zz", "/getLock/a?a;b",
		"/releaseLock//" + plantedKey, "/releaseLock/../" + plantedKey,
	} {
		a := d.want(400, "*", "GET", path, "")
		if !strings.HasSuffix(a.body, ".") || strings.Contains(a.body, "\n") {
			t.Errorf("%s: %q is not one sentence", path, a.body)
		}
	}
	if n := d.backend.asked(); n != 0 {
		t.Errorf("%d acquires reached the table", n)
	}
}

func TestNamesArriveAsSent(t *testing.T) {
	d := openDoor(t)
	for path, name := range map[string]string{
		"/getLock/a%2Fb":              "a/b",
		"/getLock/a%2F%2Fb":           "a//b",
		"/getLock/%2F":                "/",
		"/getLock/a%2F..%2Fb":         "a/../b",
		"/getLock/a%252Fb":            "a%2Fb",
		"/getLock/a+b":                "a+b",
		"/getLock/a%20b/30":           "a b",
		"/getLock/%C3%A9%E2%82%AC":    "é€",
		"/getLock/...":                "...",
		"/getLock/a%2Fb%22/30":        `a/b"`,
		"/getLock/a%3Fb%23c":          "a?b#c",
		"/getLock/a;b=c":              "a;b=c",
		"/getLock/" + long512("n"):    long512("n"),
		"/getLock/getLock":            "getLock",
		"/getLock/%e6%97%a5%E6%9C%AC": "日本",
	} {
		d.want(200, "*", "GET", path, "")
		if got := d.backend.acquires[len(d.backend.acquires)-1].GetName(); got != name {
			t.Errorf("%s became %q, want %q", path, got, name)
		}
	}
	// Characters that a careful client would have encoded, beside an encoded slash, on a raw connection.
	d.raw("GET /getLock/x%2Fy\"z HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if got := d.backend.acquires[len(d.backend.acquires)-1].GetName(); got != `x/y"z` {
		t.Errorf("became %q", got)
	}
}

func long512(s string) string { return strings.Repeat(s, 512) }

func TestSlashesAreNotFolded(t *testing.T) {
	d := openDoor(t)
	for _, path := range []string{
		"//getLock/a", "/getLock/a/b/c", "/getLock/a/30/", "/getLock", "/getlock/a", "/GETLOCK/a", "/x/../getLock/a", "/./getLock/a", "/getLock/a/30//",
		"/releaseLock/a", "/releaseLock", "/v1/locks/a/b", "/v1//locks/a", "/debug/pprof/", "/debug/vars", "/a/b/c/d/e/f/g/h",
	} {
		a := d.want(404, "*", "GET", path, "")
		if a.header.Get("Location") != "" {
			t.Errorf("%s redirects", path)
		}
	}
	if n := d.backend.asked(); n != 0 {
		t.Errorf("%d acquires reached the table", n)
	}
}

func TestSeedAndClassicTakeGetOnly(t *testing.T) {
	d := openDoor(t)
	for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"} {
		for path, allow := range map[string]string{
			"/getLock/a": "GET", "/getLock/a/30": "GET", "/releaseLock/a/" + plantedKey: "GET",
			"/getlock?lockname=a": "GET", "/status": "GET", "/releaselock?lockname=a&token=" + plantedKey: "DELETE",
		} {
			if method == allow {
				continue
			}
			a := d.want(405, "*", method, path, "")
			if a.header.Get("Allow") != allow {
				t.Errorf("%s %s: Allow is %q", method, path, a.header.Get("Allow"))
			}
		}
	}
	if n := d.backend.asked(); n != 0 {
		t.Errorf("%d acquires reached the table", n)
	}
}

func TestSixtyClientsOneKey(t *testing.T) {
	d := openDoor(t)
	var wg sync.WaitGroup
	answers := make(chan string, 60)
	for range 60 {
		wg.Go(func() { answers <- d.get("/getLock/contended").body })
	}
	wg.Wait()
	close(answers)
	keys, no := 0, 0
	for a := range answers {
		switch {
		case keyPattern.MatchString(a):
			keys++
		case a == "false":
			no++
		}
	}
	if keys != 1 || no != 59 {
		t.Errorf("%d keys and %d times false", keys, no)
	}
}

func TestSeedWaits(t *testing.T) {
	d := openDoor(t)
	key := d.take("w")
	d.want(200, "false", "GET", "/getLock/w?timeout=0.05", "")
	done := make(chan string, 1)
	go func() { done <- d.get("/getLock/w/30?timeout=20").body }()
	d.waiting("w", 1)
	d.want(200, "released", "GET", "/releaseLock/w/"+key, "")
	if got := <-done; !keyPattern.MatchString(got) {
		t.Errorf("the waiter got %q", got)
	}
}

// TestReleasingAPlaceIsNoRelease: a key that only waits does not hold the lock, so that the old interfaces say no.
func TestReleasingAPlaceIsNoRelease(t *testing.T) {
	d := openDoor(t)
	d.take("q")
	for _, c := range [][2]string{{"GET", "/releaseLock/q/" + key(2)}, {"DELETE", "/releaselock?lockname=q&token=" + key(3)}} {
		k := c[1][len(c[1])-locktable.KeyLen:]
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.problem(409, CodeCancelled, "POST", "/v1/locks/q", `{"wait":60,"key":"`+k+`"}`)
		}()
		d.waiting("q", 1)
		if a := d.do(c[0], c[1], ""); strings.Contains(a.body, "released\":true") || a.body == "released" {
			t.Errorf("%s: %s", c[1], a.body)
		}
		<-done
	}
}

func TestSeedLimitsAndFailures(t *testing.T) {
	d := openDoor(t)
	for _, c := range refusals {
		c.set(d.backend)
		a := d.want(c.status, "*", "GET", "/getLock/a", "")
		if !strings.HasSuffix(a.body, ".") {
			t.Errorf("%q is not a sentence", a.body)
		}
		if c.status != http.StatusInternalServerError && a.header.Get("Retry-After") == "" {
			t.Errorf("%d without Retry-After", c.status)
		}
		a = d.want(c.status, "*", "GET", "/getlock?lockname=a", "")
		if c.status != http.StatusInternalServerError && a.header.Get("Retry-After") == "" {
			t.Errorf("%d without Retry-After", c.status)
		}
		d.backend.recover()
	}
}

func TestSeedSaysFalseInOtherModes(t *testing.T) {
	d := openDoor(t)
	d.want(200, "*", "POST", "/v1/locks/sem", `{"slots":2}`)
	d.want(200, "*", "POST", "/v1/locks/rw", `{"mode":"shared"}`)
	d.want(200, "false", "GET", "/getLock/sem", "")
	d.want(200, "false", "GET", "/getLock/rw", "")
}
