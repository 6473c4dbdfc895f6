package locktable

import (
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// session is a shared session: a lease that holds any number of claims.
type session struct {
	id              string
	key             Key // id again, in the form in which ids are compared with keys
	seq             uint64
	opened          Time
	ttl             time.Duration
	deadline        Time
	owner, metadata string
	replies         replies

	head, tail *claim // all claims, in the order of seq
	n          int
	timer      int32
}

func (s *session) due() Time     { return s.deadline }
func (s *session) order() uint64 { return s.seq }
func (s *session) slot() *int32  { return &s.timer }

func (s *session) textBytes() uint64 { return uint64(len(s.owner) + len(s.metadata)) }

func (s *session) link(c *claim) {
	x := c.ensureExtra()
	x.sessionPrev, x.sessionNext = s.tail, nil
	if s.tail == nil {
		s.head = c
	} else {
		s.tail.extra.sessionNext = c
	}
	s.tail = c
	s.n++
}

func (s *session) unlink(c *claim) {
	x := c.extra
	if x.sessionPrev == nil {
		s.head = x.sessionNext
	} else {
		x.sessionPrev.extra.sessionNext = x.sessionNext
	}
	if x.sessionNext == nil {
		s.tail = x.sessionPrev
	} else {
		x.sessionNext.extra.sessionPrev = x.sessionPrev
	}
	x.sessionPrev, x.sessionNext = nil, nil
	s.n--
}

// all returns the claims of s, oldest first.
func (s *session) all() []*claim {
	cs := make([]*claim, 0, s.n)
	for c := s.head; c != nil; c = c.extra.sessionNext {
		cs = append(cs, c)
	}
	return cs
}

// placesOn returns the places of s in the queue of l, oldest first. It walks the shorter of the two lists.
func (s *session) placesOn(l *lock) []*claim {
	var cs []*claim
	if l.waiters.len() < s.n {
		for c := l.waiters.head; c != nil; c = c.next {
			if c.session == s {
				cs = append(cs, c)
			}
		}
		return cs
	}
	for c := s.head; c != nil; c = c.extra.sessionNext {
		if c.lock == l && c.waiting() {
			cs = append(cs, c)
		}
	}
	return cs
}

// holdOn returns one of the holds of s on l, or nil. It walks the shorter of the two lists.
func (s *session) holdOn(l *lock) *claim {
	if l.holders.len() < s.n {
		for c := l.holders.head; c != nil; c = c.next {
			if c.session == s {
				return c
			}
		}
		return nil
	}
	for c := s.head; c != nil; c = c.extra.sessionNext {
		if c.lock == l && !c.waiting() {
			return c
		}
	}
	return nil
}

func (s *session) renew(now Time, ttl time.Duration) {
	if ttl > 0 {
		s.ttl = ttl
	}
	s.deadline = now.Add(s.ttl)
}

// touchSession must be called before s itself changes.
func (t *Table) touchSession(s *session) {
	for _, x := range t.snapshots {
		x.keepSession(s)
	}
}

// sharedSession returns the shared session with that id, or nil.
func (t *Table) sharedSession(id string) *session {
	s, _ := t.sessions.Get(id)
	return s
}

func (t *Table) openSession(o *command.OpenSession) Outcome {
	if err := CheckOpenSession(t.settings, o); err != nil {
		return invalid(err)
	}
	if s := t.sharedSession(o.GetId()); s != nil {
		return openOutcome(s)
	}
	id, _ := ParseKey(o.GetId())
	switch {
	case t.spent.has(id):
		return Outcome{Code: KeySpent}
	case t.keys.get(id) != nil:
		return Outcome{Code: KeyInUse}
	case t.sessions.Len() >= int(t.settings.GetMaxSessions()):
		return Outcome{Code: TooManySessions}
	case !t.hasRoomFor(len(o.GetOwner()) + len(o.GetMetadata())):
		return Outcome{Code: TooMuchText}
	}
	s := &session{
		id: id.Reveal(), key: id, seq: t.nextSeq(), opened: t.now,
		ttl: time.Duration(o.GetTtl()), owner: strings.Clone(o.GetOwner()), metadata: strings.Clone(o.GetMetadata()),
	}
	s.renew(t.now, 0)
	t.sessions.Set(s.id, s)
	t.text += s.textBytes()
	t.timers.arm(s)
	return openOutcome(s)
}

func openOutcome(s *session) Outcome { return Outcome{Code: Opened, TTL: s.ttl, Deadline: s.deadline} }

func (t *Table) renewSession(r *command.RenewSession) Outcome {
	// The request's session is the renewed one, so a request number always has its session.
	if err := checkRenewal(t.settings, r.GetTtl(), r.GetId(), r.GetRequest()); err != nil {
		return invalid(err)
	}
	if c := t.privateHold(r.GetId()); c != nil {
		return t.renewPrivate(c, time.Duration(r.GetTtl()))
	}
	s := t.sharedSession(r.GetId())
	if s == nil {
		return Outcome{Code: NoSession}
	}
	return t.numbered(s, request{number: r.GetRequest(), op: opRenewSession, key: r.GetId()}, func() Outcome {
		return t.renewShared(s, time.Duration(r.GetTtl()))
	})
}

// privateHold returns the hold whose private session has that id, or nil.
func (t *Table) privateHold(id string) *claim {
	if c := t.privateClaim(id); c != nil && !c.waiting() {
		return c
	}
	return nil
}

// privateClaim returns the hold or place whose private session has that id, or nil.
func (t *Table) privateClaim(id string) *claim {
	k, ok := ParseKey(id)
	if !ok {
		return nil
	}
	if c := t.keys.get(k); c != nil && c.session == nil {
		return c
	}
	return nil
}

func (t *Table) renewPrivate(c *claim, ttl time.Duration) Outcome {
	t.touch(c.lock)
	if ttl > 0 {
		c.ttl = ttl
	}
	c.deadline = t.now.Add(c.ttl)
	c.attachment = 0
	t.timers.arm(c)
	return Outcome{Code: Renewed, TTL: c.ttl, Deadline: c.deadline}
}

func (t *Table) renewShared(s *session, ttl time.Duration) Outcome {
	t.touchSession(s)
	s.renew(t.now, ttl)
	t.timers.arm(s)
	return Outcome{Code: Renewed, TTL: s.ttl, Deadline: s.deadline}
}

func (t *Table) endSession(e *command.EndSession) Outcome {
	if s := t.sharedSession(e.GetId()); s != nil {
		return Outcome{Code: Ended, Released: t.finish(s, EventReleased)}
	}
	c := t.privateClaim(e.GetId())
	if c == nil {
		return Outcome{Code: NoSession}
	}
	return Outcome{Code: Ended, Released: t.giveUp(c)}
}

// giveUp ends the hold, or the place, c at its owner's wish and returns the number of holds that ended.
func (t *Table) giveUp(c *claim) (released int) {
	l := c.lock
	if c.waiting() {
		t.drop(c, EventCancelled, spendKey)
	} else {
		t.end(c, EventReleased)
		released = 1
	}
	t.serve(l)
	return released
}

// finish ends the session with all that lives in it, its holds as kind, and returns their number. No lock is served
// before all claims of the session are gone: nothing is granted to a dead session.
func (t *Table) finish(s *session, kind EventKind) (released int) {
	t.touchSession(s)
	t.timers.disarm(s)
	t.sessions.Delete(s.id)
	t.text -= s.textBytes()
	if kind == EventExpired {
		t.emit(Event{Kind: EventSessionExpired, Key: s.key, Owner: s.owner, Metadata: s.metadata})
	}
	claims := s.all()
	for _, c := range claims {
		if c.waiting() {
			t.drop(c, EventCancelled, spendKey)
		} else {
			t.end(c, kind)
			released++
		}
	}
	t.spend(s.key)
	for _, c := range claims {
		// A lock that an earlier turn forgot has no waiters left to serve.
		if l := c.lock; t.lockNamed(l.name) == l {
			t.serve(l)
		}
	}
	return released
}
