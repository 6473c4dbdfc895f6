package locktable

import (
	"errors"
	"fmt"
)

// CheckInvariants returns what must never be: two conflicting holds, an eligible waiter that waits, a list, count, index
// or timer that disagrees with another. It takes time in proportion to the state; tests call it after every step, Restore
// once.
func (t *Table) CheckInvariants() error {
	c := checker{t: t, seqs: make(map[uint64]bool), claims: make(map[*claim]bool)}
	c.run()
	return errors.Join(c.errs...)
}

type checker struct {
	t      *Table
	seqs   map[uint64]bool
	claims map[*claim]bool // seen among holders and waiters
	counts Stats
	timers int
	asks   int
	text   uint64
	// Claims of sets count one by one, sets, and the claims that sets say they have; keys, a set as one.
	inSets, sets, members, keys int
	linked                      int // in the lock at hand
	errs                        []error
}

// must notes a broken invariant. At most a few are reported.
func (c *checker) must(ok bool, format string, args ...any) {
	if !ok && len(c.errs) < 8 {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

func (c *checker) run() {
	c.t.locks.Scan(func(name string, l *lock) bool {
		c.must(name == l.name, "lock %q is filed under %q", l.name, name)
		c.lock(l)
		return true
	})
	c.t.tasks.Scan(func(name string, x *task) bool {
		c.must(name == x.name, "task %q is filed under %q", x.name, name)
		c.task(x)
		return true
	})
	c.t.sessions.Scan(func(id string, s *session) bool {
		c.must(id == s.id && id == s.key.Reveal(), "a session is filed under another id")
		c.session(s)
		return true
	})
	c.indexes()
	c.care()
	c.must(c.asks == len(c.t.asks), "%d locks with an ask, %d in the index", c.asks, len(c.t.asks))
}

func (c *checker) lock(l *lock) {
	c.must(CheckName(c.t.settings, l.name) == nil || len(l.name) > int(c.t.settings.GetMaxName()), "lock %q has an impossible name", l.name)
	c.text += uint64(len(l.name))
	c.must(l.used() || l.block != nil, "lock %q is kept although nothing is known of it", l.name)
	if l.block != nil {
		c.must(l.block.until > c.t.now, "lock %q is still blocked", l.name)
		c.timer(l.block)
	}
	c.must(!l.isTask, "lock %q is a task's", l.name)
	c.holders(l)
	c.waiters(l)
	c.must(!l.listed && len(c.t.toLookAt) == 0, "lock %q is still to be looked at", l.name)
	c.ask(l)
	if w := l.waiters.head; w != nil {
		c.must(!c.t.eligible(w), "lock %q: the head of the queue could be granted", l.name)
	}
}

func (c *checker) holders(l *lock) {
	n := 0
	c.linked = 0
	var tokens []uint64
	for h := l.holders.head; h != nil; h = h.next {
		n++
		c.claim(l, h)
		c.must(!h.waiting() && h.token <= c.t.lastToken, "lock %q: a holder's token is %d of %d", l.name, h.token, c.t.lastToken)
		c.must(h.since <= c.t.now, "lock %q: a hold begins in the future", l.name)
		_, deadline := h.lease()
		c.must(deadline > c.t.now, "lock %q: an expired hold", l.name)
		c.must(l.slots > 0 || h.mode == l.holders.head.mode, "lock %q: holders in both modes", l.name)
		if h.session == nil && h.lead() == h {
			c.timer(h)
		} else {
			c.must(*h.slot() == 0, "lock %q: a hold of a session or set has its own timer", l.name)
		}
		tokens = append(tokens, h.token)
	}
	c.conflicts(l, tokens)
	c.must(n == l.holders.len(), "lock %q counts %d holders of %d", l.name, l.holders.n, n)
	c.must(c.linked == int(l.holders.linked), "lock %q counts %d linked holders of %d", l.name, l.holders.linked, c.linked)
	if c.counts.Holders += n; n > 0 {
		c.counts.Held++
	}
}

// conflicts checks mutual exclusion and that the holds of one lock share a token only as one counted hold.
func (c *checker) conflicts(l *lock, tokens []uint64) {
	if l.slots > 0 {
		c.must(len(tokens) <= int(l.slots), "lock %q: %d permits of %d", l.name, len(tokens), l.slots)
	}
	owner := make(map[uint64]*session)
	sessions := make(map[*session]uint64)
	for h := l.holders.head; h != nil; h = h.next {
		if s, ok := owner[h.token]; ok {
			c.must(s != nil && s == h.session && l.slots == 0, "lock %q: two grants of token %d", l.name, h.token)
		}
		owner[h.token] = h.session
		if token, ok := sessions[h.session]; ok && h.session != nil && l.slots == 0 {
			c.must(token == h.token, "lock %q: a session holds with two tokens", l.name)
		}
		sessions[h.session] = h.token
	}
	if h := l.holders.head; h != nil && l.slots == 0 && h.modeOf() == Exclusive {
		c.must(len(owner) == 1, "lock %q: %d exclusive holds", l.name, len(owner))
	}
}

func (c *checker) waiters(l *lock) {
	n := 0
	c.linked = 0
	for w := l.waiters.head; w != nil; w = w.next {
		n++
		c.claim(l, w)
		c.must(w.waiting() && w.extra != nil, "lock %q: a waiter with a token", l.name)
		c.must(w.lead().due() > c.t.now, "lock %q: a waiter is overdue", l.name)
		if w.session != nil && l.slots == 0 && w.set() == nil {
			h := w.session.holdOn(l)
			c.must(h == nil || h.mode != w.mode, "lock %q: a waiter waits for its own session", l.name)
		}
		if w.lead() == w {
			c.timer(w)
		} else {
			c.must(*w.slot() == 0, "lock %q: a place of a set has its own timer", l.name)
		}
	}
	c.must(c.linked == int(l.waiters.linked), "lock %q counts %d linked waiters of %d", l.name, l.waiters.linked, c.linked)
	c.must(n == l.waiters.len(), "lock %q counts %d waiters of %d", l.name, l.waiters.n, n)
	c.counts.Waiters += n
}

func (c *checker) claim(l *lock, x *claim) {
	c.must(x.lock == l, "lock %q has a claim of another lock", l.name)
	c.must(c.t.keys.get(x.key) == x.lead(), "lock %q has a claim that its key does not find", l.name)
	c.must(!c.claims[x], "lock %q has a claim twice", l.name)
	c.must(!c.t.spent.has(x.key), "lock %q has a claim with a spent key", l.name)
	c.must(x.session != nil || x.lead().ttl >= MinTTL, "lock %q has a claim without a lifetime", l.name)
	c.must(l.slots == 0 || x.modeOf() == Exclusive, "lock %q: a shared permit", l.name)
	c.first(x)
	c.claims[x] = true
	if x.set() != nil {
		c.inSets++
	}
	if x.linked() {
		c.linked++
	}
	if x.lead() == x {
		c.keys++
		c.seq(x.seq)
		c.text += x.textBytes()
		c.set(x)
	}
	if s := x.session; s != nil {
		c.must(c.t.sharedSession(s.id) == s, "lock %q has a claim of a dead session", l.name)
	}
}

// set checks what the claims of a set, of which x is the first, share.
func (c *checker) set(x *claim) {
	set := x.set()
	if set == nil {
		return
	}
	c.sets++
	c.text += set.textBytes()
	last := ""
	for _, m := range set.members {
		c.must(m.set() == set && m.key == x.key && m.session == x.session && m.token == x.token && m.seq == x.seq && m.since == x.since,
			"lock %q: the claims of a set differ", m.lock.name)
		c.must(m.lock.name > last, "lock %q: a set is out of order", m.lock.name)
		last = m.lock.name
		c.must(m == x || m.deadline == 0 && m.ttl == 0 && m.attachment == 0, "lock %q: a set has two leads", m.lock.name)
		c.must(c.t.lockNamed(last) == m.lock, "lock %q: a set is on a lock that is forgotten", last)
		c.members++
	}
}

func (c *checker) seq(n uint64) {
	c.must(n > 0 && n <= c.t.lastSeq && !c.seqs[n], "seq %d of %d is wrong or not unique", n, c.t.lastSeq)
	c.seqs[n] = true
}

func (c *checker) session(s *session) {
	c.seq(s.seq)
	c.timer(s)
	c.text += s.textBytes()
	c.must(s.deadline > c.t.now, "a session is overdue")
	c.must(s.ttl >= MinTTL, "a session has no lifetime")
	c.must(c.t.keys.get(s.key) == nil, "a session's id is a key too")
	c.must(!c.t.spent.has(s.key), "a session's id is spent")
	n, keys, places, last := 0, 0, 0, uint64(0)
	for x := s.head; x != nil; x = x.extra.sessionNext {
		n++
		c.must(c.claims[x] && x.session == s, "a session has a claim that no lock has")
		c.must(x.seq > last || x.seq == last && x.lead() != x, "a session's claims are out of order")
		last = x.seq
		if x.lead() == x {
			keys++
		}
		if x.queued() {
			places++
		}
	}
	c.must(keys == s.keys && places == s.places, "a session counts %d keys and %d places, it has %d and %d", s.keys, s.places, keys, places)
	c.must(n == s.n, "a session counts %d claims of %d", s.n, n)
	c.counts.Sessions += n
	low := s.replies.forgotten
	for _, p := range s.replies.list {
		c.must(p.number > low, "a session's replies are out of order")
		low = p.number
	}
}

func (c *checker) timer(x timed) {
	c.timers++
	i := int(*x.slot())
	ok := i > 0 && i <= len(c.t.timers.items) && c.t.timers.items[i-1].what == x
	c.must(ok, "something has no timer")
	c.must(!ok || c.t.timers.items[i-1].at <= x.due(), "a timer is late")
}

func (c *checker) indexes() {
	inSessions := 0
	for x := range c.claims {
		if x.session != nil {
			inSessions++
		}
	}
	c.must(inSessions == c.counts.Sessions, "%d claims name a session, sessions have %d", inSessions, c.counts.Sessions)
	c.must(c.keys == len(c.t.keys.m), "%d keys for %d claims", len(c.t.keys.m), c.keys)
	c.must(c.inSets == c.members, "%d claims of sets, sets have %d", c.inSets, c.members)
	c.must(c.sets == c.t.sets, "%d sets, counted as %d", c.sets, c.t.sets)
	c.must(c.timers == len(c.t.timers.items), "%d timers for %d deadlines", len(c.t.timers.items), c.timers)
	c.must(c.text == c.t.text, "%d bytes of text, counted as %d", c.text, c.t.text)
	have := c.t.counts
	want := c.counts
	want.Sessions = 0
	c.must(have == want, "counts are %+v, should be %+v", have, want)
	c.must(c.t.spent.n == len(c.t.spent.index), "%d spent keys, %d in the index", c.t.spent.n, len(c.t.spent.index))
}
