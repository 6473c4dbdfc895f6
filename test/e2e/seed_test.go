//go:build linux

package e2e

import (
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// curl asks with the command that the README shows, and returns the status and the body to the last byte.
func curl(t *testing.T, flags ...string) (status int, body string) {
	t.Helper()
	const mark = "\n--status--"
	out, err := exec.Command("curl", append([]string{"-sS", "-g", "-w", mark + "%{http_code}"}, flags...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %v: %v: %s", flags, err, out)
	}
	body, code, _ := strings.Cut(string(out), mark)
	status, err = strconv.Atoi(code)
	if err != nil {
		t.Fatalf("curl %v: %s", flags, out)
	}
	if len(body) == rig.KeyLength {
		evidence.secret(body)
	}
	return status, body
}

func needCurl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("SKIP: curl is not installed")
	}
}

// seedTurn is one question to the seed interface.
type seedTurn struct {
	path   string
	status int
	body   string // "KEY": any key, which is remembered; "SENTENCE": one sentence; otherwise the exact text
}

func TestSeedConversationWithCurl(t *testing.T) {
	t.Parallel()
	needCurl(t)
	s := start(t, options{})
	const n = canaryName + "Seed"
	key := ""
	for _, turn := range []seedTurn{
		{"/getLock/" + n, 200, "KEY"},
		{"/getLock/" + n, 200, "false"},
		{"/getLock/" + n + "/60", 200, "false"},
		{"/getLock/" + n + "?timeout=0.1", 200, "false"},
		{"/releaseLock/" + n + "/" + newKey(), 200, "false"},
		{"/releaseLock/" + n + "/nonsense", 200, "false"},
		{"/releaseLock/" + n + "2/LAST", 200, "false"},
		{"/releaseLock/" + n + "/LAST", 200, "released"},
		{"/releaseLock/" + n + "/LAST", 200, "false"},
		{"/getLock/" + n + "/0", 400, "SENTENCE"},
		{"/getLock/" + n + "/-1", 400, "SENTENCE"},
		{"/getLock/" + n + "/inf", 400, "SENTENCE"},
		{"/getLock/" + n + "/NaN", 400, "SENTENCE"},
		{"/getLock/" + n + "/1e3", 400, "SENTENCE"},
		{"/getLock/" + n + "/99999999999", 400, "SENTENCE"},
		{"/getLock/" + n + "/abc?timeout=1", 400, "SENTENCE"},
		{"/getLock/" + n + "?timeout=abc", 400, "SENTENCE"},
		{"/getLock/%01", 400, "SENTENCE"},
		{"/getLock/" + strings.Repeat("x", 513), 400, "SENTENCE"},
		{"/getLock/" + n + "/2.5", 200, "KEY"}, // so none of the above took it
		{"/releaseLock/" + n + "/LAST", 200, "released"},
		{"/getLock/a%2Fb%20" + n, 200, "KEY"},
		{"/getLock/a%2fb%20" + n, 200, "false"},
		{"/releaseLock/a%2Fb%20" + n + "/LAST", 200, "released"},
	} {
		path := strings.ReplaceAll(turn.path, "LAST", key)
		status, body := curl(t, "--path-as-is", s.base+path)
		if status != turn.status || !seedBody(turn.body, body) {
			t.Errorf("%s: %d %q, want %d %s", turn.path, status, body, turn.status, turn.body)
		}
		if turn.body == "KEY" {
			key = body
		}
	}
}

func seedBody(want, got string) bool {
	switch want {
	case "KEY":
		return len(got) == rig.KeyLength && strings.Trim(got, rig.KeyAlphabet) == ""
	case "SENTENCE":
		return strings.HasSuffix(got, ".") && len(got) > 20 && !strings.Contains(got, "\n")
	}
	return got == want
}

func TestSeedOnlyGetActs(t *testing.T) {
	t.Parallel()
	needCurl(t)
	s := start(t, options{})
	url := s.base + "/getLock/" + canaryName + "Methods"
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		if status, _ := curl(t, "-X", method, url); status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, status)
		}
	}
	if status, _ := curl(t, "-I", "-o", "/dev/null", url); status != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %d", status)
	}
	r := s.get("/getLock/" + canaryName + "Methods")
	if !seedBody("KEY", r.body) {
		t.Errorf("the lock was taken by a method that must not act: %v", r)
	}
	evidence.secret(r.body)
	if got := r.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: %q", got)
	}
}

func TestSeedTimes(t *testing.T) {
	t.Parallel()
	s := start(t, options{plain: true})
	const n = "/getLock/" + canaryName + "Times"
	const lifetime = 700 * time.Millisecond

	began := time.Now()
	first := s.seedGet(n + "/0.7")
	if got := s.seedGet(n + "?timeout=0.2"); got != "false" || time.Since(began) < 200*time.Millisecond {
		t.Errorf("a timeout of 0.2 s gave %q after %v", got, time.Since(began))
	}
	second := s.seedGet(n + "?timeout=20")
	if took := time.Since(began); took < lifetime || !seedBody("KEY", second) || second == first {
		t.Errorf("a waiter got %q after %v; the lifetime before was %v", second, took, lifetime)
	}
	if got := s.seedGet("/releaseLock/" + canaryName + "Times/" + first); got != "false" {
		t.Errorf("an expired key releases: %q", got)
	}
	waiter := make(chan string)
	go func() { waiter <- s.get(n + "?timeout=-1").body }()
	s.awaitQueue(canaryName+"Times", 1, soon)
	if got := s.seedGet("/releaseLock/" + canaryName + "Times/" + second); got != "released" {
		t.Errorf("release: %q", got)
	}
	third := <-waiter
	evidence.secret(third)
	if !seedBody("KEY", third) {
		t.Errorf("the waiter got %q", third)
	}
}

func TestSixtyClientsOneKey(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	const clients = 60
	answers := make([]string, clients)
	ready, ahead := make(chan struct{}), make(chan struct{}, clients)
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			one := *s
			one.client = newClient() // a connection of its own
			defer one.client.CloseIdleConnections()
			_ = one.get("/healthz")
			ahead <- struct{}{}
			<-ready
			answers[i] = one.get("/getLock/" + canaryName + "Sixty").body
		})
	}
	for range clients {
		<-ahead
	}
	close(ready)
	group.Wait()
	keys := 0
	for i, a := range answers {
		switch {
		case seedBody("KEY", a):
			keys++
			evidence.secret(a)
		case a != "false":
			t.Errorf("client %d got %q", i, a)
		}
	}
	if keys != 1 {
		t.Errorf("%d clients got a key", keys)
	}
}
