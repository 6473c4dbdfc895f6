package locktable

import (
	"strings"
	"time"
)

// lock is one named lock while anybody holds it or waits for it, or while a delay blocks it.
type lock struct {
	name    string
	slots   uint32
	holders claims
	waiters claims
	block   *block // nil: not blocked
}

// block keeps a lock from being granted for a while after an expiry.
type block struct {
	lock  *lock
	until Time
	seq   uint64
	timer int32
}

func (b *block) due() Time     { return b.until }
func (b *block) order() uint64 { return b.seq }
func (b *block) slot() *int32  { return &b.timer }

// claim is what a key stands for: a hold (token > 0) or a place in the queue (token = 0). A million of them must fit
// into memory, so what most claims lack lives in extra.
type claim struct {
	key        Key
	lock       *lock
	session    *session // nil: private, the key is the session
	prev, next *claim   // among the lock's holders or waiters
	extra      *extra   // nil: all zero
	token      uint64
	seq        uint64
	since      Time // of the grant; while waiting, of joining the queue
	ttl        time.Duration
	// Private hold: when it expires. Waiter: when its grace ends. Hold in a shared session: unused.
	deadline   Time
	attachment uint64
	timer      int32
	mode       uint8
}

// extra is the part of a claim that a plain hold does without.
type extra struct {
	owner, metadata string
	lockDelay       time.Duration
	until           Time          // of a waiter: when its wait ends
	waited          time.Duration // of a hold: how long it stood in the queue
	// Among the claims of the session.
	sessionPrev, sessionNext *claim
}

func (c *claim) waiting() bool { return c.token == 0 }

// due is the earlier of the two deadlines of a waiter, and the only one of a private hold.
func (c *claim) due() Time {
	if c.waiting() {
		return min(c.deadline, c.extra.until)
	}
	return c.deadline
}

func (c *claim) order() uint64 { return c.seq }
func (c *claim) slot() *int32  { return &c.timer }
func (c *claim) modeOf() Mode  { return Mode(c.mode) }

// textBytes is what c takes of the room for texts.
func (c *claim) textBytes() uint64 {
	x := c.details()
	return uint64(len(x.owner) + len(x.metadata))
}

// ensureExtra returns c's extra, made if it was absent.
func (c *claim) ensureExtra() *extra {
	if c.extra == nil {
		c.extra = new(extra)
	}
	return c.extra
}

// details returns c's extra to read.
func (c *claim) details() *extra {
	if c.extra == nil {
		return &noExtra
	}
	return c.extra
}

var noExtra extra

// lease returns the lifetime and deadline of the session that c lives in.
func (c *claim) lease() (time.Duration, Time) {
	if c.session != nil {
		return c.session.ttl, c.session.deadline
	}
	return c.ttl, c.deadline
}

// claims is a queue of claims from which any can be taken. The prev of the head is the tail, which saves a pointer in each
// lock; the next of the tail is nil.
type claims struct {
	head *claim
	n    int32
}

func (q *claims) push(c *claim) {
	c.next = nil
	if q.head == nil {
		q.head, c.prev = c, c
	} else {
		c.prev = q.head.prev
		c.prev.next = c
		q.head.prev = c
	}
	q.n++
}

func (q *claims) remove(c *claim) {
	switch {
	case c == q.head:
		if q.head = c.next; q.head != nil {
			q.head.prev = c.prev
		}
	case c.next == nil:
		q.head.prev = c.prev
		c.prev.next = nil
	default:
		c.prev.next, c.next.prev = c.next, c.prev
	}
	c.prev, c.next = nil, nil
	q.n--
}

// len returns the number of claims.
func (q *claims) len() int { return int(q.n) }

// used tells whether anybody holds l or waits for it, so that its kind is fixed.
func (l *lock) used() bool { return l.holders.n+l.waiters.n > 0 }

// admits tells whether one more hold of that mode would conflict with none of the present ones.
func (l *lock) admits(m Mode) bool {
	switch {
	case l.block != nil:
		return false
	case l.holders.n == 0:
		return true
	case l.slots > 0:
		return l.holders.len() < int(l.slots)
	default:
		return m == Shared && l.holders.head.modeOf() == Shared
	}
}

// touch must be called before l or one of its claims changes.
func (t *Table) touch(l *lock) {
	for _, s := range t.snapshots {
		s.keepLock(l)
	}
}

// lockNamed returns the lock, or nil if nobody knows it.
func (t *Table) lockNamed(name string) *lock {
	l, _ := t.locks.Get(name)
	return l
}

// newLock adds a lock that somebody is about to hold or wait for. The texts that the table keeps are copies: those in a
// command may be small parts of something large, such as a request.
func (t *Table) newLock(name string) *lock {
	l := &lock{name: strings.Clone(name)}
	t.locks.Set(l.name, l)
	t.text += uint64(len(l.name))
	return l
}

// tidy forgets l when nothing is left to know about it.
func (t *Table) tidy(l *lock) {
	if !l.used() && l.block == nil {
		t.locks.Delete(l.name)
		t.text -= uint64(len(l.name))
	}
}

// serve grants l to the waiters that have become eligible, from the head of the queue, and forgets l if it is idle.
// Everything that ends a hold, a place or a delay calls it once, after the change.
func (t *Table) serve(l *lock) {
	for w := t.firstAlive(l); w != nil && l.admits(w.modeOf()); w = t.firstAlive(l) {
		t.grantWaiter(w)
	}
	t.tidy(l)
}

// firstAlive returns the head of the queue, passing over sessions that are overdue: in a late entry the lock may fall free
// before their own deadline fires, and nothing is granted to the dead.
func (t *Table) firstAlive(l *lock) *claim {
	w := l.waiters.head
	for w != nil && w.session != nil && w.session.deadline <= t.now {
		w = w.next
	}
	return w
}

// grantWaiter gives the head of the queue its hold, and with it the other places of the same session that only wait for
// the session itself.
func (t *Table) grantWaiter(w *claim) {
	l := w.lock
	t.touch(l)
	l.waiters.remove(w)
	t.counts.Waiters--
	t.hold(w, t.nextToken())
	if w.session == nil || l.slots > 0 {
		return
	}
	for _, c := range w.session.placesOn(l) {
		if c.mode == w.mode {
			l.waiters.remove(c)
			t.counts.Waiters--
			t.hold(c, w.token)
		}
	}
}

func (t *Table) nextToken() uint64 {
	t.lastToken++
	return t.lastToken
}

// hold makes c, which is in no list, a holder with the given token and tells so.
func (t *Table) hold(c *claim, token uint64) {
	if waited := t.now.Sub(c.since); waited > 0 {
		c.ensureExtra().waited = waited
	}
	c.token, c.since = token, t.now
	c.lock.holders.push(c)
	if t.counts.Holders++; c.lock.holders.n == 1 {
		t.counts.Held++
	}
	if c.session == nil {
		c.deadline = t.now.Add(c.ttl)
		t.timers.arm(c)
	} else {
		t.timers.disarm(c)
	}
	e := c.event(EventGranted)
	e.TTL, e.Deadline = c.lease()
	e.Waited = c.details().waited
	t.emit(e)
}

// The key of a claim that ends is remembered as spent, or not.
type afterwards bool

const (
	spendKey afterwards = true
	keepKey  afterwards = false
)

// end takes the hold c away, as released or expired. The caller serves the lock.
func (t *Table) end(c *claim, kind EventKind) {
	t.endHold(c, kind, spendKey)
}

func (t *Table) endHold(c *claim, kind EventKind, a afterwards) {
	l := c.lock
	t.touch(l)
	l.holders.remove(c)
	if t.counts.Holders--; l.holders.n == 0 {
		t.counts.Held--
	}
	if kind == EventExpired {
		t.delay(l, c.details().lockDelay)
	}
	e := c.event(kind)
	e.HeldFor = t.now.Sub(c.since)
	t.emit(e)
	t.forget(c, a)
}

// drop takes the place c out of the queue. The caller serves the lock.
func (t *Table) drop(c *claim, kind EventKind, a afterwards) {
	l := c.lock
	t.touch(l)
	l.waiters.remove(c)
	t.counts.Waiters--
	e := c.event(kind)
	e.Waited = t.now.Sub(c.since)
	if kind == EventTimedOut {
		e.Holder = l.describe()
	}
	t.emit(e)
	t.forget(c, a)
}

// forget removes what the table knows of the key itself.
func (t *Table) forget(c *claim, a afterwards) {
	t.timers.disarm(c)
	t.keys.remove(c.key)
	t.text -= c.textBytes()
	if c.session != nil {
		t.touchSession(c.session)
		c.session.unlink(c)
		if a == spendKey {
			c.session.noteSpent(c.key)
		}
	}
	if a == spendKey {
		t.spend(c.key)
	}
}

// delay blocks l for d from now, unless it is blocked for longer already.
func (t *Table) delay(l *lock, d time.Duration) {
	if d <= 0 {
		return
	}
	until := t.now.Add(d)
	if l.block == nil {
		l.block = &block{lock: l, until: until, seq: t.nextSeq()}
		t.timers.arm(l.block)
	}
	l.block.until = max(l.block.until, until)
}

// event returns an event about c.
func (c *claim) event(kind EventKind) Event {
	x := c.details()
	return Event{
		Kind: kind, Lock: c.lock.name, Key: c.key, Attachment: c.attachment, Mode: c.modeOf(), Slots: c.lock.slots, Token: c.token,
		Owner: x.owner, Metadata: x.metadata,
	}
}

// describe returns what a refused client is told about l.
func (l *lock) describe() *Holder {
	h := &Holder{Holders: l.holders.len(), Waiters: l.waiters.len()}
	if c := l.holders.head; c != nil {
		x := c.details()
		h.Owner, h.Metadata = x.owner, x.metadata
		h.Mode, h.Token, h.Since = c.modeOf(), c.token, c.since
		_, h.Deadline = c.lease()
		return h
	}
	if l.block != nil {
		h.Deadline = l.block.until
	}
	return h
}
