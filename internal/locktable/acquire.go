package locktable

import (
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

func (t *Table) acquire(a *command.Acquire) Outcome {
	if err := CheckAcquire(t.settings, a); err != nil {
		return invalid(err)
	}
	key, _ := ParseKey(a.GetKey())
	if a.GetRequest() == 0 {
		return t.acquireKey(key, a)
	}
	s := t.sharedSession(a.GetSession())
	if s == nil {
		return t.noSession(a.GetSession())
	}
	o := t.numbered(s, request{number: a.GetRequest(), op: opAcquire, key: a.GetKey()}, func() Outcome {
		return t.acquireKey(key, a)
	})
	if o.Code == Held && o.Holder == nil {
		o.Holder, o.Expected = t.describeFor(a)
	}
	return o
}

// describeLock returns what a refused client is told about a lock that may be free by now.
func (t *Table) describe(name string) *Holder {
	if l := t.lockNamed(name); l != nil {
		return t.describeLock(l)
	}
	return &Holder{}
}

func (t *Table) noSession(id string) Outcome {
	if t.privateClaim(id) != nil {
		return Outcome{Code: SessionPrivate}
	}
	return Outcome{Code: NoSession}
}

// acquireKey answers for a known key, refuses a spent one, and asks for the lock with a fresh one.
func (t *Table) acquireKey(key Key, a *command.Acquire) Outcome {
	if c := t.keys.get(key); c != nil {
		return t.repeat(c, a)
	}
	switch {
	case t.spent.has(key):
		return t.unlessBroken(a.GetKey(), KeySpent)
	case t.sharedSession(a.GetKey()) != nil:
		return Outcome{Code: KeyInUse}
	case a.GetSession() == "":
		return t.ask(key, nil, a)
	}
	s := t.sharedSession(a.GetSession())
	switch {
	case s == nil:
		return t.noSession(a.GetSession())
	case s.n+numLocks(a) > int(t.settings.GetMaxKeysPerSession()):
		return Outcome{Code: TooManyKeys}
	}
	return t.ask(key, s, a)
}

// repeat answers an acquire whose key is known.
func (t *Table) repeat(c *claim, a *command.Acquire) Outcome {
	if !c.is(a) {
		return Outcome{Code: KeyInUse}
	}
	t.touch(c.lock)
	if !c.waiting() {
		// The same attachment is the same request, sent twice by its gateway: nobody has been told of the hold yet.
		if c.attachment != a.GetAttachment() {
			c.attachment = 0
		}
		return c.granted()
	}
	if a.GetWait() == 0 {
		t.drop(c, EventTimedOut, keepKey)
		t.serve(c)
		o := Outcome{Code: Held}
		o.Holder, o.Expected = t.describeFor(a)
		return o
	}
	if c.attachment != a.GetAttachment() {
		t.emit(t.event(c, EventSuperseded))
		c.attachment = a.GetAttachment()
	}
	t.await(c, a.GetWait())
	return t.placed(c, c.position())
}

// is tells whether a asks for what c is.
func (c *claim) is(a *command.Acquire) bool {
	session := ""
	if c.session != nil {
		session = c.session.id
	}
	if session != a.GetSession() || c.lock.isTask {
		return false
	}
	if set := c.set(); set != nil || len(a.GetSet()) > 0 {
		return set.is(a)
	}
	return c.lock.name == a.GetName() && c.lock.slots == a.GetSlots() && c.modeOf() == a.GetMode()
}

// ask grants the lock to a new key, refuses it, or puts it into the queue.
func (t *Table) ask(key Key, s *session, a *command.Acquire) Outcome {
	if len(a.GetSet()) > 0 {
		return t.askSet(key, s, a)
	}
	l := t.lockNamed(a.GetName())
	if l != nil && l.used() && l.slots != a.GetSlots() {
		return Outcome{Code: ModeMismatch}
	}
	if l != nil && s != nil && l.slots == 0 {
		if held := s.holdOn(l); held != nil {
			return t.reenter(key, held, a)
		}
	}
	switch {
	case l == nil && t.locks.Len() >= int(t.settings.GetMaxLocks()):
		return Outcome{Code: TooManyLocks}
	case l != nil && (l.waiters.n > 0 || !l.admits(a.GetMode())):
		return t.queue(key, s, l, a)
	}
	if code, full := t.full(l, a, holds); full {
		return Outcome{Code: code}
	}
	if l == nil {
		l = t.newLock(a.GetName())
	}
	t.touch(l)
	l.slots = a.GetSlots()
	c := t.newClaim(key, s, l, a)
	t.hold(c, t.nextToken())
	return c.granted()
}

// A new claim holds the lock at once, or waits for it.
const (
	holds = true
	waits = false
)

// full tells whether, and in which way, the table is too full for one more claim on l (nil: a new lock).
func (t *Table) full(l *lock, a *command.Acquire, holding bool) (Code, bool) {
	text := len(a.GetOwner()) + len(a.GetMetadata())
	if l == nil {
		text += len(a.GetName())
	}
	switch {
	case holding && l != nil && l.holders.len() >= int(t.settings.GetMaxHoldersPerLock()):
		return TooManyHolders, true
	case t.allClaims() >= int(t.settings.GetMaxClaims()):
		return TooManyKeys, true
	case !t.hasRoomFor(text):
		return TooMuchText, true
	}
	return 0, false
}

// hasRoomFor tells whether so many bytes of text may be added.
func (t *Table) hasRoomFor(text int) bool { return t.text+uint64(text) <= t.settings.GetMaxTextBytes() }

// reenter counts one more hold of a session that holds the lock already.
func (t *Table) reenter(key Key, held *claim, a *command.Acquire) Outcome {
	if held.modeOf() != a.GetMode() {
		return Outcome{Code: ModeMismatch}
	}
	if code, full := t.full(held.lock, a, holds); full {
		return Outcome{Code: code}
	}
	t.touch(held.lock)
	c := t.newClaim(key, held.session, held.lock, a)
	t.hold(c, held.token)
	return c.granted()
}

// queue refuses an acquire that does not want to wait, and gives any other a place.
func (t *Table) queue(key Key, s *session, l *lock, a *command.Acquire) Outcome {
	switch {
	case a.GetWait() == 0:
		return Outcome{Code: Held, Holder: t.describeLock(l), Expected: t.expect(l, l.waiters.len()+1)}
	case l.waiters.len() >= int(t.settings.GetMaxWaitersPerLock()):
		return Outcome{Code: TooManyWaiters}
	}
	if code, full := t.full(l, a, waits); full {
		return Outcome{Code: code}
	}
	if t.level >= 2 && mayClose(s, l) {
		if cycle := t.deadlock(s, &claim{lock: l, session: s, mode: uint8(a.GetMode())}, a.GetOwner()); cycle != nil {
			return Outcome{Code: Deadlock, Cycle: cycle}
		}
	}
	t.touch(l)
	l.slots = a.GetSlots()
	c := t.newClaim(key, s, l, a)
	t.joinQueue(c)
	t.await(c, a.GetWait())
	t.emit(t.event(c, EventQueued))
	position := l.waiters.len()
	if c.next != nil {
		position = c.position()
	}
	return t.placed(c, position)
}

// placed is the outcome for a key that waits.
func (t *Table) placed(c *claim, position int) Outcome {
	o := Outcome{Code: Waiting, Position: position, Expected: t.expectPlace(c, position)}
	o.Mode, o.Slots = c.kind()
	return o
}

// joinQueue puts c at the end of the queue of its lock, or right behind the place that its session has there in the same mode
// already. They are granted together; and if the first is given up, the other does not fall back behind those who have
// counted on the session to be before them.
func (t *Table) joinQueue(c *claim) {
	if twin := c.lastTwin(); twin != nil && t.level >= 2 {
		c.lock.waiters.insert(c, twin)
	} else {
		c.lock.waiters.push(c)
	}
	t.waits(c)
}

// waits counts c, which has just joined a queue.
func (t *Table) waits(c *claim) {
	t.counts.add(c)
	if c.session != nil && c.queued() {
		c.session.places++
	}
}

// lastTwin returns the last of the places that are granted together with c, which has no place yet, or nil.
func (c *claim) lastTwin() (twin *claim) {
	if c.session == nil || c.session.places == 0 || c.lock.slots > 0 || c.set() != nil {
		return nil
	}
	for _, x := range c.session.placesOn(c.lock) {
		if x != c && x.mode == c.mode {
			twin = x
		}
	}
	return twin
}

// newClaim makes the claim of a fresh key, of a set its lead. It is in no list of its lock yet.
func (t *Table) newClaim(key Key, s *session, l *lock, a *command.Acquire) *claim {
	c := &claim{
		key: key, lock: l, session: s, seq: t.nextSeq(), since: t.now, mode: uint8(a.GetMode()),
		ttl: time.Duration(a.GetTtl()), attachment: a.GetAttachment(),
	}
	if a.GetOwner() != "" || a.GetMetadata() != "" || a.GetLockDelay() != 0 {
		c.extra = &extra{
			owner: strings.Clone(a.GetOwner()), metadata: strings.Clone(a.GetMetadata()),
			lockDelay: time.Duration(a.GetLockDelay()),
		}
		t.text += uint64(len(a.GetOwner()) + len(a.GetMetadata()))
	}
	if s != nil {
		t.touchSession(s)
		s.link(c)
	}
	t.keys.put(c)
	return c
}

// await starts the wait and the grace of c from now.
func (t *Table) await(c *claim, wait int64) {
	x := c.ensureExtra()
	x.until = Never
	if wait > 0 {
		x.until = t.now.Add(time.Duration(wait))
	}
	t.grace(c)
}

func (t *Table) grace(c *claim) {
	c.deadline = t.now.Add(time.Duration(t.settings.GetWaiterGrace()))
	t.timers.arm(c)
}

// granted is the outcome for a key that holds.
func (c *claim) granted() Outcome {
	o := Outcome{Code: Granted, Token: c.token, Waited: c.details().waited}
	o.TTL, o.Deadline = c.lease()
	o.Mode, o.Slots = c.kind()
	return o
}

// CountedPositions is how far back in a queue positions are counted one by one. Counting costs time while the table
// stands still.
const CountedPositions = 1000

// position counts from 1, the head of the queue, to CountedPositions; for a set, in the queue where it stands furthest back.
func (c *claim) position() int {
	if set := c.set(); set != nil {
		return set.position()
	}
	return c.place()
}

func (c *claim) place() int {
	n := 1
	for p := c.lock.waiters.head; p != c && n < CountedPositions; p = p.next {
		n++
	}
	return n
}
