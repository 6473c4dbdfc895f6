package locktable

import (
	"strings"
	"time"
)

// lock is one named lock while anybody holds it or waits for it, or while a delay blocks it.
type lock struct {
	name    string
	slots   uint32
	listed  bool // on the list of locks to look at
	isTask  bool // it is the lock in a task
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
	set             *set          // nil: plain
	first           *firstGrant   // of a counted hold, if that was with a key that has ended; of a set, each claim has its own
	terms           *taskTerms    // of who waits for a task
	sameHash        *claim        // see keyIndex
	// Among the claims of the session.
	sessionPrev, sessionNext *claim
}

func (c *claim) waiting() bool { return c.token == 0 }

// queued tells whether c waits for a lock.
func (c *claim) queued() bool { return c.waiting() && !c.lock.isTask }

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

// textBytes is what c takes of the room for texts, without the names of a set.
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

// details returns c's extra to read; of a set, that of its lead.
func (c *claim) details() *extra {
	switch {
	case c.extra == nil:
		return &noExtra
	case c.extra.set != nil:
		return c.extra.set.members[0].extra
	}
	return c.extra
}

var noExtra extra

// lease returns the lifetime and deadline of the session that c lives in.
func (c *claim) lease() (time.Duration, Time) {
	if c.session != nil {
		return c.session.ttl, c.session.deadline
	}
	c = c.lead()
	return c.ttl, c.deadline
}

// claims is a queue of claims from which any can be taken. The prev of the head is the tail, which saves a pointer in each
// lock; the next of the tail is nil.
type claims struct {
	head   *claim
	n      int32
	linked int32 // how many of them belong to shared sessions or sets, and so may have to do with other locks
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
	if c.linked() {
		q.linked++
	}
}

// insert puts c behind p.
func (q *claims) insert(c, p *claim) {
	if p.next == nil {
		q.push(c)
		return
	}
	c.prev, c.next = p, p.next
	p.next.prev = c
	p.next = c
	q.n++
	if c.linked() {
		q.linked++
	}
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
	if c.linked() {
		q.linked--
	}
}

// len returns the number of claims.
func (q *claims) len() int { return int(q.n) }

// used tells whether anybody holds l or waits for it, so that its kind is fixed.
func (l *lock) used() bool { return l.holders.n+l.waiters.n > 0 }

// admits tells whether one more hold of that mode would conflict with none of the present ones.
func (l *lock) admits(m Mode) bool {
	return l.block == nil && l.fits(m)
}

// fits is admits without a look at delays.
func (l *lock) fits(m Mode) bool {
	switch {
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
		if l.isTask {
			s.keepTask(l)
		} else {
			s.keepLock(l)
		}
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
	if w.set() != nil {
		t.grantSet(w)
		return
	}
	t.touch(w.lock)
	t.leaveQueue(w)
	t.hold(w, t.nextToken())
	t.grantTwins(w)
}

func (t *Table) nextToken() uint64 {
	t.lastToken++
	return t.lastToken
}

// hold makes c, which is in no list, a holder with the given token and tells so.
func (t *Table) hold(c *claim, token uint64) {
	lead := c.lead() == c
	if waited := t.now.Sub(c.since); waited > 0 && lead {
		c.ensureExtra().waited = waited
	}
	c.token, c.since = token, t.now
	c.lock.holders.push(c)
	if t.counts.Holders++; c.lock.holders.n == 1 {
		t.counts.Held++
	}
	switch {
	case !lead:
	case c.session == nil:
		c.deadline = t.now.Add(c.ttl)
		t.timers.arm(c)
	default:
		t.timers.disarm(c)
	}
	e := t.event(c, EventGranted)
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

// end takes the hold c away, as released, expired, broken or handed over, on all its locks. The caller serves them.
func (t *Table) end(c *claim, kind EventKind) {
	t.endHold(c, kind, spendKey)
}

func (t *Table) endHold(c *claim, kind EventKind, a afterwards) {
	if c.lock.isTask {
		t.endHeldClaim(c, a)
		return
	}
	if set := c.set(); set != nil {
		for _, m := range set.members {
			t.leaveHolders(m, kind, a)
		}
	} else {
		t.leaveHolders(c, kind, a)
	}
	if kind == EventBroken {
		t.spent.broken.add(c.key, t.now, t.order)
	}
	t.forget(c, a)
}

func (t *Table) leaveHolders(c *claim, kind EventKind, a afterwards) {
	l := c.lock
	t.touch(l)
	l.holders.remove(c)
	if t.counts.Holders--; l.holders.n == 0 {
		t.counts.Held--
	}
	if kind == EventExpired || kind == EventBroken {
		t.delay(l, c.details().lockDelay)
	}
	e := t.event(c, kind)
	e.HeldFor = t.now.Sub(c.since)
	if t.order != nil {
		e.By, e.Reason = t.order.by, t.order.reason
	}
	t.emit(e)
	if t.remembers() {
		t.remember(c, kind, a)
	}
	if l.holders.n == 0 {
		t.dropAsk(l)
	}
}

// drop takes the place c out of the queues of all its locks. The caller serves them.
func (t *Table) drop(c *claim, kind EventKind, a afterwards) {
	if c.lock.isTask {
		t.dropFromTask(c, kind, a)
		return
	}
	if set := c.set(); set != nil {
		for _, m := range set.members {
			t.dropPlace(m, kind)
		}
	} else {
		t.dropPlace(c, kind)
	}
	t.forget(c, a)
}

func (t *Table) dropPlace(c *claim, kind EventKind) {
	t.touch(c.lock)
	t.leaveQueue(c)
	e := t.event(c, kind)
	e.Waited = t.now.Sub(c.since)
	if kind == EventTimedOut {
		e.Holder, e.Expected = t.describeLock(c.lock), t.expect(c.lock, c.lock.waiters.len()+1)
	}
	t.emit(e)
}

// forget removes what the table knows of the key of c (of a set, the lead) itself.
func (t *Table) forget(c *claim, a afterwards) {
	t.timers.disarm(c)
	t.keys.remove(c)
	t.text -= c.textBytes()
	if x := c.details(); x.set != nil {
		t.text -= x.set.textBytes()
		t.sets--
	}
	if c.session != nil {
		t.touchSession(c.session)
		c.leaveSession()
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
func (t *Table) event(c *claim, kind EventKind) Event {
	x := c.details()
	return Event{
		Kind: kind, Lock: c.lock.name, Key: c.key, Attachment: c.lead().attachment, Mode: c.modeOf(), Slots: c.lock.slots,
		Token: c.token, Owner: t.ownerTold(c), Metadata: x.metadata, Set: c.setSize(),
	}
}

// describeLock returns what a refused client is told about l.
func (t *Table) describeLock(l *lock) *Holder {
	h := &Holder{Holders: l.holders.len(), Waiters: l.waiters.len()}
	if c := l.holders.head; c != nil {
		x := c.details()
		h.Owner, h.Metadata = t.ownerTold(c), x.metadata
		h.Mode, h.Token, h.Since = c.modeOf(), c.token, c.since
		_, h.Deadline = c.lease()
		return h
	}
	if l.block != nil {
		h.Deadline = l.block.until
	}
	return h
}
