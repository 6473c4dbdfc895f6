//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestExpiryReachesWaiters measures how late a waiter learns of an expiry. Being early is a mistake; the lateness is only
// reported, because it says more about the machine than about the server, unless it is beyond all reason.
func TestExpiryReachesWaiters(t *testing.T) {
	t.Parallel()
	const samples, ttl, beyondReason = 20, 250 * time.Millisecond, 2 * time.Second
	s := start(t, options{plain: true})
	var late []time.Duration
	for i := range samples {
		name := fmt.Sprintf("%sExpiry%d", canaryName, i)
		hold := s.tryAcquire(context.Background(), name, request{TTL: ttl.Seconds()})
		next := s.tryAcquire(context.Background(), name, request{TTL: 600, Wait: 60})
		if !hold.ok() || !next.ok() {
			t.Fatal(hold, next)
		}
		if d := next.received.Sub(hold.sent); d < ttl {
			t.Errorf("granted %v after the lock was asked for with a ttl of %v", d, ttl)
		}
		late = append(late, next.received.Sub(hold.sent)-ttl) // the two requests' own time counted in
	}
	slices.Sort(late)
	t.Logf("a waiter learned of an expiry at most this much after it was due: p50 %v, p95 %v, worst %v (target on an idle machine: 20ms)",
		late[samples/2], late[samples*95/100], late[samples-1])
	if worst := late[samples-1]; worst > beyondReason {
		t.Errorf("a waiter learned of an expiry %v too late", worst)
	}
}

// TestRenewalHoldsOff renews a short hold for many of its lifetimes, while somebody waits for it to expire.
func TestRenewalHoldsOff(t *testing.T) {
	t.Parallel()
	const name, ttl = canaryName + "Renewed", 600 * time.Millisecond
	s := start(t, options{plain: true})
	first := s.tryAcquire(context.Background(), name, request{TTL: ttl.Seconds()})
	g := decode[grant](t, first)
	p := s.park(name, request{TTL: 600, Wait: 60})
	tick := time.NewTicker(ttl / 6)
	defer tick.Stop()
	sent := first.sent // of the last request that was acknowledged
	for range 15 {
		<-tick.C
		r := s.post(lockPath(name)+"/renew", map[string]any{"key": g.Key})
		if !r.ok() {
			if d := r.received.Sub(sent); d < ttl {
				t.Errorf("lost %v after the renewal before was sent, with a ttl of %v", d, ttl)
			}
			break // this machine has slept through the lifetime
		}
		sent = r.sent
	}
	next := p.result(t, soon)
	if d := next.received.Sub(sent); !next.ok() || d < ttl {
		t.Errorf("granted %v after the last renewal was sent, with a ttl of %v: %v", d, ttl, next)
	}
}

// TestOtherMonotonicClock restarts a server where the monotonic clock reads something else, as after a reboot: a time
// namespace that is ten days ahead. Leases neither end nor grow by that.
func TestOtherMonotonicClock(t *testing.T) {
	t.Parallel()
	const tenDays = "864000"
	wrap := []string{"unshare", "--time", "--monotonic", tenDays, "--boottime", tenDays, "--fork", "--kill-child"}
	if out, err := exec.Command(wrap[0], append(wrap[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("SKIP: no time namespaces here: %v: %s", err, out)
	}
	s := start(t, options{plain: true})
	began := time.Now()
	g := s.acquire(canaryName, request{Key: newKey(), TTL: 600})
	for _, w := range [][]string{wrap, nil} {
		s.kill()
		o := s.options
		o.wrap = w
		s = start(t, o)
		if shifted(t, s.pid()) != (w != nil) {
			t.Fatalf("under %v the server runs in the wrong time namespace", w)
		}
		view := s.show(canaryName)
		if !view.Held || view.Holders[0].Token != g.Token {
			t.Fatalf("under %v: %+v", w, view)
		}
		if left := view.Holders[0].ExpiresIn; left > 600 || left < 600-time.Since(began).Seconds() {
			t.Errorf("under %v: expires in %v s", w, left)
		}
	}
}

// shifted tells whether a process runs in a time namespace that is not ours.
func shifted(t *testing.T, pid int) bool {
	t.Helper()
	offsets, err := os.ReadFile(fmt.Sprintf("/proc/%d/timens_offsets", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(offsets), "864000")
}
