//go:build linux

package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// inParallel calls f for 0 to n-1 from a number of clients.
func inParallel(clients, n int, f func(i int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	group.Wait()
}

func TestTenThousandLocksSurviveKill(t *testing.T) {
	t.Parallel()
	const locks, clients = 10_000, 64
	name := func(i int) string { return fmt.Sprintf("%s%d", canaryName, i) }
	keys, tokens := make([]string, locks), make([]uint64, locks)
	s := start(t, options{plain: true, level: "info"})
	inParallel(clients, locks, func(i int) {
		if i%2 == 0 { // half by the seed interface, half by v1
			keys[i] = s.get("/getLock/" + name(i) + "/3600").body
			evidence.secret(keys[i])
			return
		}
		keys[i] = newKey()
		r := s.tryAcquire(context.Background(), name(i), request{Key: keys[i], TTL: 3600})
		if tokens[i] = r.token(); tokens[i] == 0 {
			t.Errorf("acquire %d: %v", i, r)
		}
	})
	s.kill()

	s = s.restart()
	highest := uint64(0)
	for _, token := range tokens {
		highest = max(highest, token)
	}
	inParallel(clients, locks, func(i int) {
		if got := s.get("/getLock/" + name(i)).body; got != "false" {
			t.Errorf("lock %d is not held after the restart: %q", i, got)
		}
		if i%10 == 1 {
			r := s.tryAcquire(context.Background(), name(i), request{Key: keys[i], TTL: 3600})
			if r.token() != tokens[i] {
				t.Errorf("lock %d: a retry got %v instead of token %d", i, r, tokens[i])
			}
		}
	})
	if g := s.acquire(canaryName+"New", request{}); g.Token <= highest || g.Token < locks {
		t.Errorf("a new grant has token %d, the highest before was %d", g.Token, highest)
	}
	inParallel(clients, locks, func(i int) {
		if got := s.get("/releaseLock/" + name(i) + "/" + keys[i]).body; got != "released" {
			t.Errorf("lock %d does not release: %q", i, got)
		}
	})
	last := uint64(locks)
	for i := range 20 {
		g := s.acquire(name(i), request{})
		if g.Token <= last {
			t.Errorf("token %d after %d", g.Token, last)
		}
		last = g.Token
	}
}

// parked is a client that waits with a key of its own.
type parked struct {
	key    string
	answer chan reply
	leave  context.CancelFunc
}

// park sends a client to wait for the lock.
func (s *server) park(name string, q request) *parked {
	if q.Key == "" {
		q.Key = newKey()
	}
	ctx, leave := context.WithCancel(context.Background())
	s.t.Cleanup(leave)
	p := &parked{key: q.Key, answer: make(chan reply, 1), leave: leave}
	go func() { p.answer <- s.tryAcquire(ctx, name, q) }()
	return p
}

// parkInOrder parks n clients, each when the one before it has its place.
func (s *server) parkInOrder(name string, n int, q request) []*parked {
	s.t.Helper()
	var all []*parked
	for i := range n {
		all = append(all, s.park(name, q))
		s.awaitQueue(name, i+1, soon)
	}
	return all
}

// result waits for the end of the wait.
func (p *parked) result(t *testing.T, within time.Duration) reply {
	t.Helper()
	select {
	case r := <-p.answer:
		return r
	case <-time.After(within):
		t.Fatalf("a waiter has no answer after %v", within)
		return reply{}
	}
}

func TestPlacesSurviveKill(t *testing.T) {
	t.Parallel()
	const name, waiters = canaryName + "Places", 6
	s := start(t, options{})
	holder := s.acquire(name, request{Key: newKey(), TTL: 600})
	queue := s.parkInOrder(name, waiters, request{TTL: 600, Wait: 120})
	s.kill()
	for i, p := range queue {
		if r := p.result(t, soon); r.ok() {
			t.Fatalf("waiter %d was told %v while the lock was held", i, r)
		}
	}

	s = s.restart()
	again := make([]*parked, waiters)
	for i := waiters - 1; i >= 0; i-- { // the last in the queue comes back first
		again[i] = s.park(name, request{Key: queue[i].key, TTL: 600, Wait: 120})
	}
	s.awaitQueue(name, waiters, soon)
	if g := s.acquire(name, request{Key: holder.Key, TTL: 600}); g.Token != holder.Token {
		t.Errorf("the holder's retry got token %d instead of %d", g.Token, holder.Token)
	}
	s.release(name, holder.Key)
	last := holder.Token
	for i, p := range again {
		g := decode[grant](t, p.result(t, soon))
		if g.Token <= last || g.Key != queue[i].key {
			t.Errorf("waiter %d: token %d after %d", i, g.Token, last)
		}
		last = g.Token
		if view := s.show(name); view.QueueLength != waiters-1-i {
			t.Errorf("after waiter %d was granted, %d wait", i, view.QueueLength)
		}
		s.release(name, g.Key)
	}
}

func TestSessionsSurviveKill(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	id := newKey()
	if r := s.post("/v1/sessions", map[string]any{"id": id, "ttl": 600, "owner": canaryOwner, "metadata": canaryMetadata}); !r.ok() {
		t.Fatal(r)
	}
	var granted []grant
	for i := range 3 {
		granted = append(granted, s.acquire(fmt.Sprintf("%sSession%d", canaryName, i), request{Key: newKey(), Session: id}))
	}
	s.kill()
	s = s.restart()
	view := decode[struct {
		Owner     string
		ExpiresIn float64 `json:"expires_in"`
		Locks     []struct {
			Held  bool
			Token uint64
		}
	}](t, s.get("/v1/sessions/"+id))
	if view.Owner != canaryOwner || view.ExpiresIn <= 0 || len(view.Locks) != len(granted) {
		t.Fatalf("the session came back as %+v", view)
	}
	for i, l := range view.Locks {
		if !l.Held || l.Token != granted[i].Token {
			t.Errorf("lock %d of the session: %+v, want token %d", i, l, granted[i].Token)
		}
	}
	ended := decode[struct{ Released int }](t, s.do(context.Background(), "DELETE", "/v1/sessions/"+id, ""))
	if ended.Released != len(granted) {
		t.Errorf("the end of the session released %d", ended.Released)
	}
}
