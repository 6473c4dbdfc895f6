package locktable

// Deadlock detection: would a session that is about to wait ever proceed? The question is answered by playing on. Whoever waits
// for nothing ends; what it held goes to the heads of the queues, by the same rules as in look; and so on, until the asker has
// all that it waits for, or nothing moves any more. Whoever is left then waits, directly or not, for itself, and a shortest way
// from the asker back to it is searched among those who are left.
//
// Only what the asker waits for is looked at, and of that only as much as it takes: locks come into play when somebody of
// interest waits for them, and queues are played only as far as somebody of interest stands in them. Each claim is visited a
// bounded number of times. Lock delays end by themselves and do not count, nor does any deadline.

// maxVisits bounds the work for one question, in claims looked at. Beyond it no deadlock is found, and the asker may wait: its
// wait and the lifetimes of the others have an end anyway.
const maxVisits = 1 << 15

// mayClose tells whether a session that is about to wait for l (nil: for a set) can be part of a cycle at all: whoever may wait for
// it already waits for a lock that it has a claim on.
func mayClose(s *session, l *lock) bool {
	if s == nil || s.n == 0 {
		return false
	}
	if s.places > 0 || s.n > cheapHolds {
		return true
	}
	for c := s.head; c != nil; c = c.extra.sessionNext {
		if c.lock.waiters.n > 0 || c.lock == l {
			return true
		}
	}
	return false
}

// With more holds than that it is not worth looking whether somebody waits for one of them.
const cheapHolds = 64

// wishedFor returns claims as they would stand in the queues for a set of s; locks that nobody knows are left out, they are
// in nobody's way.
func wishedFor(s *session, ws []wish) *claim {
	set := &set{}
	for _, w := range ws {
		if w.lock != nil {
			set.members = append(set.members, &claim{lock: w.lock, session: s, mode: uint8(w.GetMode()), extra: &extra{set: set}})
		}
	}
	return set.members[0]
}

// deadlock returns the cycle that would be closed if s waited for c, which stands in no queue yet and has the given owner, or
// nil. With c there are the other members of its set.
func (t *Table) deadlock(s *session, c *claim, owner string) *Chain {
	g := &game{
		asker: s, owner: owner, locks: make(map[*lock]*gameLock), players: make(map[*session]*player),
		sets: make(map[*claim]*player), gone: make(map[*session]bool),
	}
	me := g.player(s)
	me.last = c
	me.waitsFor += len(c.all())
	g.wantAll(me)
	if g.over() {
		return nil
	}
	for _, m := range c.all() {
		g.locks[m.lock].last = m
	}
	g.play(func() bool { return me.ended })
	if me.ended || g.over() {
		return nil
	}
	return g.cycle(me)
}

// all returns the members of c's set, or c alone.
func (c *claim) all() []*claim {
	if set := c.set(); set != nil {
		return set.members
	}
	return []*claim{c}
}
