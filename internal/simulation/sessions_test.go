package simulation

import (
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// numbered is a client's use of one shared session: every request has a number, and keeps it when it is repeated.
type numbered struct {
	*client
	s    *shared
	last uint64
}

// inSession opens a session, takes some locks in it, and ends it, or lets it expire.
func (c *client) inSession() {
	n := &numbered{client: c, s: &shared{id: c.key()}}
	ttl := c.time(2*time.Second, 6*time.Second)
	if !n.open(ttl) {
		return
	}
	c.count.add("sessions", 1)
	for range 1 + c.rand.IntN(4) {
		if !time.Now().Before(n.s.end()) || !n.hold(ttl) {
			break
		}
	}
	if c.chance(70) {
		n.endAll()
	}
}

func (n *numbered) open(ttl time.Duration) bool {
	for range 5 {
		sent := time.Now()
		ctx, cancel := within(patience)
		a, _ := n.propose(ctx, n.pick(), command.FromOpenSession(&command.OpenSession{Id: n.s.id, Ttl: int64(ttl)}))
		cancel()
		if a.err == nil {
			n.extend(sent, a)
			return a.out.Code == locktable.Opened
		}
		n.sleep(20*time.Millisecond, 300*time.Millisecond)
	}
	return false
}

func (n *numbered) extend(sent time.Time, a answer) {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	if until := sent.Add(validity(a.out.Deadline.Sub(a.out.Now))); until.After(n.s.until) {
		n.s.until = until
	}
}

// hold takes a lock in the session, renews the session, and releases the lock.
func (n *numbered) hold(ttl time.Duration) bool {
	m := &claim{lock: n.lock("q", 2), key: n.key(), session: n.s, first: time.Now()}
	n.book.history.begin(m)
	n.last++
	a := &command.Acquire{Name: m.lock, Key: m.key, Session: n.s.id, Wait: int64(n.time(0, 3*time.Second)), Request: n.last, Owner: m.key}
	if !n.take(m, a) {
		return false
	}
	n.sleep(0, ttl/2)
	if n.chance(70) && !n.renew(ttl) {
		return false
	}
	if n.chance(70) {
		n.release(m)
	}
	return true
}

// renew keeps the session alive. It has a number, which stays when it is repeated.
func (n *numbered) renew(ttl time.Duration) bool {
	n.last++
	before := n.s.end()
	for range 4 {
		sent := time.Now()
		ctx, cancel := within(ttl)
		a, _ := n.propose(ctx, n.pick(), command.FromRenewSession(&command.RenewSession{Id: n.s.id, Request: n.last}))
		cancel()
		switch {
		case a.err == nil && a.out.Code == locktable.Renewed:
			n.extend(sent, a)
			return true
		case a.err == nil:
			if time.Now().Before(before) {
				n.violated("S5", "session %s was answered code %d, %v before its end", n.s.id, a.out.Code, time.Until(before))
			}
			return false
		}
		n.sleep(20*time.Millisecond, 200*time.Millisecond)
	}
	return true
}

// release gives a lock back under one number, which may be asked again: the answer must stay the same.
func (n *numbered) release(m *claim) {
	n.last++
	m.leaving(time.Now())
	first := locktable.Outcome{}
	for answers, tries := 0, 0; answers < 1+n.rand.IntN(2) && tries < 6; tries++ {
		ctx, cancel := within(patience)
		r := &attempt{op: opRelease, sent: time.Now(), number: n.last}
		r.answer, r.life = n.propose(ctx, n.pick(), command.FromRelease(&command.Release{
			Name: m.lock, Key: m.key, Session: n.s.id, Request: n.last,
		}))
		cancel()
		n.finish(m, r)
		if r.err == nil {
			if answers++; answers > 1 {
				n.count.add("numbered requests answered again", 1)
				if gone := r.out.Code == locktable.NoSession; r.out.Code != first.Code && !gone {
					n.violated("S10", "request %d of session %s: code %d, then %d", n.last, n.s.id, first.Code, r.out.Code)
				}
			}
			first = r.out
		}
		n.sleep(20*time.Millisecond, 200*time.Millisecond)
	}
}

func (n *numbered) endAll() {
	n.s.mu.Lock()
	n.s.ended = time.Now()
	n.s.mu.Unlock()
	for range 6 {
		ctx, cancel := within(patience)
		a, _ := n.propose(ctx, n.pick(), command.FromEndSession(&command.EndSession{Id: n.s.id}))
		cancel()
		if a.err == nil {
			n.s.mu.Lock()
			n.s.done = true
			n.s.mu.Unlock()
			return
		}
		n.sleep(20*time.Millisecond, 300*time.Millisecond)
	}
}
