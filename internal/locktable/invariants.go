package locktable

import (
	"errors"
	"fmt"
	"slices"
)

// CheckInvariants returns what must never be: two conflicting holds, an eligible waiter that waits, a list, count, index
// or timer that disagrees with another. It takes time in proportion to the state; tests call it after every step, Restore
// once.
func (t *Table) CheckInvariants() error {
	c := checker{t: t, seqs: make([]uint64, 0, t.keys.n+t.sessions.Len()), inSession: make(map[*claim]bool)}
	c.run()
	return errors.Join(c.errs...)
}

type checker struct {
	t    *Table
	of   string   // the lock or task at hand
	seqs []uint64 // all that were met
	// Claims of sessions that were seen among holders and waiters. One that is seen twice without being in a session would be
	// twice in one queue, which then had no end.
	inSession map[*claim]bool
	counts    Stats
	timers    int
	asks      int
	text      uint64
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

// mustOf notes what is wrong with the lock or task at hand. It takes no arguments to format: to make ready for them, for a million
// locks that are as they should be, was a third of the time of all checks.
func (c *checker) mustOf(ok bool, what string) {
	if !ok {
		c.must(false, "%q: %s", c.of, what)
	}
}

func (c *checker) run() {
	c.t.locks.Scan(func(name string, l *lock) bool {
		c.of = name
		c.mustOf(name == l.name, "it is filed under another name")
		c.lock(l)
		return true
	})
	c.t.tasks.Scan(func(name string, x *task) bool {
		c.of = name
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
	c.mustOf(CheckName(c.t.settings, l.name) == nil || len(l.name) > int(c.t.settings.GetMaxName()), "it has an impossible name")
	c.text += uint64(len(l.name))
	c.mustOf(l.used() || l.block != nil, "it is kept although nothing is known of it")
	if l.block != nil {
		c.mustOf(l.block.until > c.t.now, "it is still blocked")
		c.timer(l.block)
	}
	c.mustOf(!l.isTask, "it is a task's")
	c.holders(l)
	c.waiters(l)
	c.mustOf(!l.listed && len(c.t.toLookAt) == 0, "it is still to be looked at")
	c.ask(l)
	if w := l.waiters.head; w != nil {
		c.mustOf(!c.t.eligible(w), "the head of the queue could be granted")
	}
}

func (c *checker) holders(l *lock) {
	n := 0
	c.linked = 0
	for h := l.holders.head; h != nil; h = h.next {
		n++
		c.claim(l, h)
		c.mustOf(!h.waiting() && h.token <= c.t.lastToken, "a holder has a token that was not given")
		c.mustOf(h.since <= c.t.now, "a hold begins in the future")
		_, deadline := h.lease()
		c.mustOf(deadline > c.t.now, "an expired hold")
		c.mustOf(l.slots > 0 || h.mode == l.holders.head.mode, "holders in both modes")
		if h.session == nil && h.lead() == h {
			c.timer(h)
		} else {
			c.mustOf(*h.slot() == 0, "a hold of a session or set has its own timer")
		}
	}
	c.mustOf(n == l.holders.len(), "it counts its holders wrongly")
	c.mustOf(c.linked == int(l.holders.linked), "it counts its linked holders wrongly")
	if n > 1 {
		c.conflicts(l, n)
	}
	if c.counts.Holders += n; n > 0 {
		c.counts.Held++
	}
}

// conflicts checks mutual exclusion and that the holds of one lock share a token only as one counted hold.
func (c *checker) conflicts(l *lock, n int) {
	if l.slots > 0 {
		c.mustOf(n <= int(l.slots), "there are more permits than slots")
	}
	owner := make(map[uint64]*session)
	sessions := make(map[*session]uint64)
	for h := l.holders.head; h != nil; h = h.next {
		if s, ok := owner[h.token]; ok {
			c.must(s != nil && s == h.session && l.slots == 0, "lock %q: two grants of token %d", l.name, h.token)
		}
		owner[h.token] = h.session
		if token, ok := sessions[h.session]; ok && h.session != nil && l.slots == 0 {
			c.mustOf(token == h.token, "a session holds with two tokens")
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
		c.mustOf(w.waiting() && w.extra != nil, "a waiter with a token")
		c.mustOf(w.lead().due() > c.t.now, "a waiter is overdue")
		if w.session != nil && l.slots == 0 && w.set() == nil {
			h := w.session.holdOn(l)
			c.mustOf(h == nil || h.mode != w.mode, "a waiter waits for its own session")
		}
		if w.lead() == w {
			c.timer(w)
		} else {
			c.mustOf(*w.slot() == 0, "a place of a set has its own timer")
		}
	}
	c.mustOf(c.linked == int(l.waiters.linked), "it counts its linked waiters wrongly")
	c.mustOf(n == l.waiters.len(), "it counts its waiters wrongly")
	c.counts.Waiters += n
}

func (c *checker) claim(l *lock, x *claim) {
	c.mustOf(x.lock == l, "it has a claim of another lock")
	c.mustOf(c.t.keys.get(x.key) == x.lead(), "it has a claim that its key does not find")
	c.mustOf(!c.t.spent.has(x.key), "it has a claim with a spent key")
	c.mustOf(x.session != nil || x.lead().ttl >= MinTTL, "it has a claim without a lifetime")
	c.mustOf(l.slots == 0 || x.modeOf() == Exclusive, "a shared permit")
	c.first(x)
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
		c.mustOf(!c.inSession[x], "it has a claim twice")
		c.inSession[x] = true
		c.mustOf(c.t.sharedSession(s.id) == s, "it has a claim of a dead session")
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
		c.mustOf(m.lock.name > last, "a set is out of order")
		last = m.lock.name
		c.mustOf(m == x || m.deadline == 0 && m.ttl == 0 && m.attachment == 0, "a set has two leads")
		c.must(c.t.lockNamed(last) == m.lock, "lock %q: a set is on a lock that is forgotten", last)
		c.members++
	}
}

func (c *checker) seq(n uint64) {
	if n == 0 || n > c.t.lastSeq {
		c.must(false, "seq %d of %d is wrong", n, c.t.lastSeq)
	}
	c.seqs = append(c.seqs, n)
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
		c.must(c.inSession[x] && x.session == s, "a session has a claim that no lock has")
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
	ok := i > 0 && i <= c.t.timers.items.n && c.t.timers.items.at(i-1).what == x
	c.must(ok, "something has no timer")
	c.must(!ok || c.t.timers.items.at(i-1).at <= x.due(), "a timer is late")
}

func (c *checker) indexes() {
	slices.Sort(c.seqs)
	for i := 1; i < len(c.seqs); i++ {
		if c.seqs[i] == c.seqs[i-1] {
			c.must(false, "seq %d is not unique", c.seqs[i])
		}
	}
	c.must(len(c.inSession) == c.counts.Sessions, "%d claims name a session, sessions have %d", len(c.inSession), c.counts.Sessions)
	c.must(c.keys == c.t.keys.n, "%d keys for %d claims", c.t.keys.n, c.keys)
	c.must(c.inSets == c.members, "%d claims of sets, sets have %d", c.inSets, c.members)
	c.must(c.sets == c.t.sets, "%d sets, counted as %d", c.sets, c.t.sets)
	c.must(c.timers == c.t.timers.items.n, "%d timers for %d deadlines", c.t.timers.items.n, c.timers)
	c.must(c.text == c.t.text, "%d bytes of text, counted as %d", c.text, c.t.text)
	have := c.t.counts
	want := c.counts
	want.Sessions = 0
	c.must(have == want, "counts are %+v, should be %+v", have, want)
	c.must(c.t.spent.n == len(c.t.spent.index), "%d spent keys, %d in the index", c.t.spent.n, len(c.t.spent.index))
}
