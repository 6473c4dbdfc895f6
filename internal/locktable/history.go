package locktable

import (
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// past is a hold that has ended. It does not change any more, but for the marks of the memory that it is in.
type past struct {
	name, owner string
	token       uint64
	since       Time
	ended       Time
	waited      time.Duration
	order       *order // by whom and why, or nil
	slots       uint32
	mode        uint8
	how         uint8 // EventKind

	next    *past  // the lock's next younger one
	dropped uint64 // which of all that were dropped it was, from 1; 0: it is remembered
}

// order is what an operator, or a holder who hands over, said to the end of a hold. Several holds may share it.
type order struct{ by, reason string }

func (o *order) textBytes() uint64 {
	if o == nil {
		return 0
	}
	return uint64(len(o.by) + len(o.reason))
}

func (p *past) textBytes() uint64 {
	return uint64(len(p.name)+len(p.owner)) + p.order.textBytes()
}

// micros is how long the hold took. Sums of nanoseconds could overflow.
func (p *past) micros() int64 { return p.ended.Sub(p.since).Microseconds() }

// pastHolds remembers holds that have ended, by age and by lock. The list by age is only ever appended to and cut off at
// its front, so that a snapshot can read its part of it while it goes on; what is dropped from its middle is marked with a
// growing number, by which a snapshot tells what had been dropped before it began.
type pastHolds struct {
	list   []*past // oldest first; the first is not dropped
	n      int     // those that are not dropped
	drops  uint64
	text   uint64
	byLock map[string]*lockPast
	spare  *lockPast // one that is out of use, for the next lock
}

// lockPast is what is remembered of one lock.
type lockPast struct {
	oldest, newest *past
	n              int
	micros         int64 // of all holds
}

// add remembers p, and drops the lock's oldest beyond most.
func (h *pastHolds) add(p *past, most int) {
	if h.byLock == nil {
		h.byLock = make(map[string]*lockPast)
	}
	l := h.byLock[p.name]
	if l == nil {
		if l, h.spare = h.spare, nil; l == nil {
			l = new(lockPast)
		}
		*l = lockPast{oldest: p}
		h.byLock[p.name] = l
	} else {
		l.newest.next = p
	}
	l.newest = p
	l.n++
	l.micros += p.micros()
	h.list = append(h.list, p)
	h.n++
	h.text += p.textBytes()
	for l.n > most {
		h.drop(l)
	}
	h.trim()
}

// drop forgets the oldest hold of l.
func (h *pastHolds) drop(l *lockPast) {
	p := l.oldest
	l.oldest = p.next
	l.n--
	l.micros -= p.micros()
	if l.n == 0 {
		delete(h.byLock, p.name)
		h.spare = l
	}
	h.drops++
	p.dropped = h.drops
	h.n--
	h.text -= p.textBytes()
}

// prune forgets holds that ended before retention, and the oldest ones beyond most holds or so many bytes of text.
func (h *pastHolds) prune(now Time, retention time.Duration, most int, text uint64) {
	for h.n > 0 {
		p := h.list[0]
		if h.n <= most && h.text <= text && p.ended.Add(retention) > now {
			return
		}
		h.drop(h.byLock[p.name]) // the oldest of all is the oldest of its lock
		h.trim()
	}
}

// trim takes what was dropped off the front of the list, and all of it out when it has become the greater part.
func (h *pastHolds) trim() {
	for len(h.list) > 0 && h.list[0].dropped != 0 {
		h.list = h.list[1:]
	}
	if h.n == 0 {
		h.list, h.byLock = nil, nil
		return
	}
	if len(h.list) > 2*h.n+1024 {
		list := make([]*past, 0, h.n+h.n/4)
		for _, p := range h.list {
			if p.dropped == 0 {
				list = append(list, p)
			}
		}
		h.list = list
	}
}

// mean returns how long the remembered holds of a lock took in the mean, in microseconds, and how many they are.
func (h *pastHolds) mean(name string) (micros int64, n int) {
	l := h.byLock[name]
	if l == nil {
		return 0, 0
	}
	return l.micros / int64(l.n), l.n
}

// remembers tells whether past holds are remembered: a server of version 1 does not, and must get the same state from the
// same log.
func (t *Table) remembers() bool { return t.level >= 2 }

// firstGrant is when a counted hold began, and how long it had waited.
type firstGrant struct {
	since  Time
	waited time.Duration
}

// before tells whether f counts rather than g (nil: always).
func (f *firstGrant) before(g *firstGrant) bool {
	return g == nil || f.since < g.since || f.since == g.since && f.waited > g.waited
}

func (f *firstGrant) record() *command.FirstGrant {
	if f == nil {
		return nil
	}
	return &command.FirstGrant{Since: int64(f.since), Waited: int64(f.waited)}
}

// passed returns when the counted hold of c on its lock began, if that was with a key that has ended, or nil. Each claim of a
// set has its own.
func (c *claim) passed() *firstGrant {
	if c.extra == nil {
		return nil
	}
	return c.extra.first
}

// firstOf returns the first grant of the counted hold that c belongs to, among its own and those that were passed on to it.
func (c *claim) firstOf() firstGrant {
	f := firstGrant{c.since, c.details().waited}
	if passed := c.passed(); passed != nil && passed.before(&f) {
		return *passed
	}
	return f
}

// remember notes the end of the hold c, which is out of its lock's list but not yet forgotten. Of a counted hold, only the
// last end counts; the earlier ones pass on when it began. A hold that was taken back undelivered counts for nothing.
func (t *Table) remember(c *claim, kind EventKind, a afterwards) {
	var first firstGrant
	if passed := c.passed(); a == spendKey {
		first = c.firstOf()
	} else if passed != nil {
		first = *passed
	} else {
		return
	}
	if other := c.otherHold(); other != nil {
		if x := other.ensureExtra(); first.before(x.first) {
			x.first = &firstGrant{first.since, first.waited}
		}
		return
	}
	p := &past{
		name: c.lock.name, owner: c.ownerName(), token: c.token, since: first.since, ended: t.now, waited: first.waited, order: t.order,
		slots: c.lock.slots, mode: c.mode, how: uint8(kind),
	}
	t.past.add(p, MaxHistoryPerLock(t.settings))
	t.prunePast()
}

// otherHold returns a hold that is one counted hold with c, which is in no list of its lock any more, or nil. It walks the
// shorter of two lists.
func (c *claim) otherHold() *claim {
	s, l := c.session, c.lock
	if s == nil || l.slots > 0 {
		return nil
	}
	if l.holders.len() < s.n {
		for o := l.holders.head; o != nil; o = o.next {
			if o.session == s {
				return o
			}
		}
		return nil
	}
	for o := s.head; o != nil; o = o.extra.sessionNext {
		if o != c && o.lock == l && !o.waiting() {
			return o
		}
	}
	return nil
}

// ownerName returns what c said of itself, or its session did.
func (c *claim) ownerName() string {
	if o := c.details().owner; o != "" || c.session == nil {
		return o
	}
	return c.session.owner
}

// ownerTold is the owner of c that whoever looks is told of. Version 1 did not look at the session.
func (t *Table) ownerTold(c *claim) string {
	if t.level < 2 {
		return c.details().owner
	}
	return c.ownerName()
}

// forgetPast forgets the past holds and the readings of the calendar that are too old or too many by now.
func (t *Table) forgetPast() {
	if t.remembers() {
		t.prunePast()
		t.anchors.prune(t.now, HistoryRetention(t.settings))
	}
}

func (t *Table) prunePast() {
	t.past.prune(t.now, HistoryRetention(t.settings), MaxHistory(t.settings), memoryText(t.settings))
}
