//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fate is what a client knows of something that it asked for.
type fate int

const (
	unknown fate = iota // asked, and not answered: either is right
	acked               // answered
	undone              // its end was answered
	undoing             // its end was asked, and not answered
)

// claim is one hold of the workload.
type claim struct {
	name, key string
	session   string
	state     fate
	token     uint64
	// The lifetime that was acknowledged last; a renewal that was not answered may have made it longer.
	ttl     float64
	renewed time.Time // sent
}

// line is one queue of the workload: a holder and those who wait behind it, in the order in which they were seen to.
type line struct {
	name    string
	holder  claim
	waiters []*inLine
}

type inLine struct {
	*parked
	seen bool // a GET has shown the place
}

// workload is what clients do until the server dies, and what they were told.
type workload struct {
	s *server

	mu       sync.Mutex // guards what follows
	claims   []*claim
	sessions map[string]fate
	lines    []*line
	highest  uint64
	acks     []reply // everything that changed something and was acknowledged
	over     atomic.Bool
}

// drive runs the workload until the server is gone or limit has passed.
func drive(s *server, limit time.Duration) *workload {
	w := &workload{s: s, sessions: map[string]fate{}}
	stop := time.AfterFunc(limit, func() { w.over.Store(true) })
	defer stop.Stop()
	var group sync.WaitGroup
	for i := range 2 {
		group.Go(func() { w.until(func(n int) bool { return w.single(fmt.Sprintf("%s-%d-%d", canaryName, i, n), n) }) })
	}
	group.Go(func() { w.until(w.inSession) })
	group.Go(func() { w.until(w.waitInLine) })
	group.Wait()
	return w
}

// until repeats step until it was not answered.
func (w *workload) until(step func(n int) bool) {
	for n := 0; !w.over.Load() && step(n); n++ {
	}
}

// note keeps an acknowledgement and returns whether r is one.
func (w *workload) note(r reply) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.ok() {
		w.acks = append(w.acks, r)
		w.highest = max(w.highest, r.token())
	}
	return r.ok()
}

// take acquires a lock for c.
func (w *workload) take(c *claim) bool {
	w.mu.Lock()
	w.claims = append(w.claims, c)
	w.mu.Unlock()
	q := request{Key: c.key, Session: c.session}
	if c.session == "" {
		q.TTL = c.ttl
	}
	r := w.s.tryAcquire(context.Background(), c.name, q)
	if !w.note(r) {
		return false
	}
	c.state, c.token, c.renewed = acked, r.token(), r.sent
	return true
}

// single takes a lock and then renews, releases or keeps it.
func (w *workload) single(name string, n int) bool {
	c := &claim{name: name, key: newKey(), ttl: 600}
	if !w.take(c) {
		return false
	}
	switch n % 3 {
	case 1:
		r := w.s.post(lockPath(name)+"/renew", map[string]any{"key": c.key, "ttl": 1200})
		if !w.note(r) {
			return false
		}
		c.ttl, c.renewed = 1200, r.sent
	case 2:
		c.state = undoing
		if !w.note(w.s.tryRelease(name, c.key)) {
			return false
		}
		c.state = undone
	}
	return true
}

// inSession opens a session, takes two locks in it, renews it, and ends every other one.
func (w *workload) inSession(n int) bool {
	id := newKey()
	w.setSession(id, unknown)
	if !w.note(w.s.post("/v1/sessions", map[string]any{"id": id, "ttl": 600, "owner": canaryOwner})) {
		return false
	}
	w.setSession(id, acked)
	var mine []*claim
	for i := range 2 {
		c := &claim{name: fmt.Sprintf("%s-s%d-%d", canaryName, n, i), key: newKey(), session: id}
		if !w.take(c) {
			return false
		}
		mine = append(mine, c)
	}
	if !w.note(w.s.post("/v1/sessions/"+id+"/renew", map[string]any{"ttl": 900})) {
		return false
	}
	if n%2 == 0 {
		return true
	}
	w.setSession(id, undoing)
	for _, c := range mine {
		c.state = undoing
	}
	if !w.note(w.s.do(context.Background(), http.MethodDelete, "/v1/sessions/"+id, "")) {
		return false
	}
	w.setSession(id, undone)
	for _, c := range mine {
		c.state = undone
	}
	return true
}

func (w *workload) setSession(id string, f fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions[id] = f
}

// waitInLine builds a queue of three behind a holder, and hands every other one on to its head.
func (w *workload) waitInLine(n int) bool {
	l := &line{name: fmt.Sprintf("%s-q%d", canaryName, n)}
	l.holder = claim{name: l.name, key: newKey(), ttl: 600}
	if !w.take(&l.holder) {
		return false
	}
	w.mu.Lock()
	w.lines = append(w.lines, l)
	w.mu.Unlock()
	for i := range 3 {
		p := &inLine{parked: w.s.park(l.name, request{TTL: 600, Wait: 300})}
		l.waiters = append(l.waiters, p)
		if p.seen = w.sees(l.name, i+1); !p.seen {
			return false
		}
	}
	if n%2 == 0 {
		return true
	}
	l.holder.state = undoing
	if !w.note(w.s.tryRelease(l.name, l.holder.key)) {
		return false
	}
	l.holder.state = undone
	return true
}

// sees polls until n wait for the lock; false means that the server is gone.
func (w *workload) sees(name string, n int) bool {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for ; !w.over.Load(); <-tick.C {
		r := w.s.get(lockPath(name))
		if !r.ok() {
			return false
		}
		if decode[lockView](w.s.t, r).QueueLength >= n {
			return true
		}
	}
	return false
}

// verify compares what a server found on its disk with what the clients were told before. Those who waited come back at
// once, the last in line first, since their places are not kept for long.
func (w *workload) verify(t *testing.T, s *server) {
	t.Helper()
	again := make([][]*parked, len(w.lines))
	for i, l := range w.lines {
		again[i] = make([]*parked, len(l.waiters))
		for j := len(l.waiters) - 1; j >= 0; j-- {
			again[i][j] = s.park(l.name, request{Key: l.waiters[j].key, TTL: 600, Wait: 300})
		}
	}
	for _, c := range w.claims {
		w.verifyClaim(t, s, c)
	}
	for id, f := range w.sessions {
		r := s.get("/v1/sessions/" + id)
		if f == acked && r.status != http.StatusOK || f == undone && r.status != http.StatusNotFound {
			t.Errorf("a session whose state was %d is now: %d", f, r.status)
		}
	}
	for i, l := range w.lines {
		w.verifyLine(t, s, l, again[i])
	}
	if g := s.acquire(canaryName+"After", request{}); g.Token <= w.highest {
		t.Errorf("after token %d was handed out, a new grant has %d", w.highest, g.Token)
	}
}

// verifyClaim looks at one hold.
func (w *workload) verifyClaim(t *testing.T, s *server, c *claim) {
	t.Helper()
	r := s.holds(c.key)
	switch {
	case c.state == acked && !r.ok():
		t.Errorf("the acknowledged hold with token %d is gone: %v", c.token, r.status)
	case c.state == undone && r.status != http.StatusNotFound:
		t.Errorf("the acknowledged release of token %d is undone: %v", c.token, r)
	}
	if c.state != acked || !r.ok() {
		return
	}
	h := decode[holdsView](t, r)
	if !h.Held || len(h.Locks) != 1 || h.Locks[0].Name != c.name || h.Locks[0].Token != c.token {
		t.Errorf("the hold with token %d came back as %+v", c.token, h)
	}
	if least := c.ttl - time.Since(c.renewed).Seconds() - 0.002; h.ExpiresIn < least {
		t.Errorf("token %d expires in %v s, before the %v s that were promised", c.token, h.ExpiresIn, least)
	}
}

// verifyLine expects that the places of those who came back have not changed, and that they are served in that order.
func (w *workload) verifyLine(t *testing.T, s *server, l *line, again []*parked) {
	t.Helper()
	before := map[string]uint64{} // the tokens of those whose grant was acknowledged
	for i, p := range l.waiters {
		if r := p.result(t, soon); r.ok() {
			before[p.key] = r.token()
			w.highest = max(w.highest, r.token())
		}
		if !p.seen {
			continue
		}
		h := decode[holdsView](t, s.holds(p.key))
		if !h.Held && (h.Locks[0].Position < 1 || h.Locks[0].Position > i+1) {
			t.Errorf("a waiter in place %d came back in place %d", i+1, h.Locks[0].Position)
		}
	}
	if r := s.tryRelease(l.name, l.holder.key); l.holder.state == acked && !r.ok() {
		t.Errorf("the holder cannot release: %v", r.status)
	}
	last := l.holder.token
	for i, p := range again {
		g := decode[grant](t, p.result(t, soon))
		if l.waiters[i].seen && g.Token <= last {
			t.Errorf("the waiter in place %d has token %d after %d", i+1, g.Token, last)
		}
		if want := before[p.key]; want != 0 && want != g.Token {
			t.Errorf("the acknowledged grant with token %d is now one with %d", want, g.Token)
		}
		if l.waiters[i].seen {
			last = g.Token
		}
		s.release(l.name, g.Key)
	}
}
