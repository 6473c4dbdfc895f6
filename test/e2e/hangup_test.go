//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// leavesWithin is what a client that hangs up may still be seen in the queue. The promise is a second; the rest is for
// machines that stall.
const leavesWithin = time.Second + 4*time.Second

func TestHangUpLeavesTheQueue(t *testing.T) {
	t.Parallel()
	const name = canaryName + "HangUp"
	s := start(t, options{plain: true})
	holder := s.acquire(name, request{TTL: 600})
	first := s.park(name, request{TTL: 600, Wait: 300})
	s.awaitQueue(name, 1, soon)
	second := s.park(name, request{TTL: 600, Wait: 300})
	s.awaitQueue(name, 2, soon)

	first.leave() // closes its connection
	gone := time.Now()
	s.awaitQueue(name, 1, leavesWithin)
	t.Logf("left the queue after %v", time.Since(gone))
	s.release(name, holder.Key)
	g := decode[grant](t, second.result(t, soon))
	if g.Token != holder.Token+1 {
		t.Errorf("the next in line has token %d, not the one after %d", g.Token, holder.Token)
	}
	if r := s.holds(first.key); r.ok() {
		t.Errorf("the one that left holds %s", r.body)
	}
	// The key of a place that was given up may be used again.
	s.release(name, g.Key)
	s.release(name, s.acquire(name, request{Key: first.key}).Key)
}

// A client that closes only its sending half has left as well, for all that the server can know. It must not be told that
// something was done for it.
func TestHalfClosedWaiterIsToldNoSuccess(t *testing.T) {
	t.Parallel()
	const name = canaryName + "HalfClosed"
	s := start(t, options{plain: true})
	s.acquire(name, request{TTL: 600})
	for name, raw := range map[string]string{
		"seed": "GET /getLock/" + name + "?timeout=60 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"v1":   "POST " + lockPath(name) + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"wait\": 60}",
	} {
		if answer := s.say(raw); strings.HasPrefix(answer, "HTTP/1.1 2") && !strings.HasSuffix(answer, "\r\n\r\nfalse") {
			t.Errorf("%s: %q", name, answer)
		}
	}
	s.awaitQueue(name, 0, leavesWithin)
}

// A body that nobody asked for does not hide that the client hangs up.
func TestHangUpAfterUselessBody(t *testing.T) {
	t.Parallel()
	const name = canaryName + "UselessBody"
	s := start(t, options{plain: true})
	s.acquire(name, request{TTL: 600})
	conn := s.dial()
	if _, err := fmt.Fprintf(conn, "GET /getLock/%s?timeout=60 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n{\"wait\": 60}", name); err != nil {
		t.Fatal(err)
	}
	s.awaitQueue(name, 1, soon)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	s.awaitQueue(name, 0, leavesWithin)
}

func TestKilledClientLeavesTheQueue(t *testing.T) {
	t.Parallel()
	needCurl(t)
	const name = canaryName + "KilledClient"
	s := start(t, options{plain: true})
	holder := s.acquire(name, request{TTL: 600})
	client := exec.Command("curl", "-sS", s.base+"/getLock/"+name+"?timeout=-1")
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	s.awaitQueue(name, 1, soon)
	if err := client.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = client.Wait()
	s.awaitQueue(name, 0, leavesWithin)
	s.release(name, holder.Key)
	if s.show(name).Held {
		t.Error("the killed client was granted")
	}
}

func TestFiveHundredHangUps(t *testing.T) {
	t.Parallel()
	const name, clients = canaryName + "Crowd", 500
	s := start(t, options{plain: true})
	holder := s.acquire(name, request{TTL: 600})
	before := s.metric("go_goroutines")
	var crowd []*parked
	for range clients {
		crowd = append(crowd, s.park(name, request{TTL: 600, Wait: -1}))
	}
	s.awaitQueue(name, clients, soon)
	if during := s.metric("go_goroutines"); during < before+clients {
		t.Errorf("%v goroutines with %d waiters, %v before", during, clients, before)
	}
	for _, p := range crowd {
		p.leave()
	}
	s.awaitQueue(name, 0, leavesWithin)
	s.client.CloseIdleConnections()
	eventually(t, soon, "the goroutines are gone", func() bool { return s.metric("go_goroutines") <= before+20 })
	s.release(name, holder.Key)
	if s.show(name).Held {
		t.Error("one of those who left was granted")
	}
	if n := s.metric("doubledutch_cancellations_total"); n != clients {
		t.Errorf("%v places were cancelled, not %d", n, clients)
	}
	for _, p := range crowd {
		if r := p.result(t, soon); r.err == nil {
			t.Fatalf("one of those who left was answered: %v", r)
		}
	}
}
