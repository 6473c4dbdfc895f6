package locktable

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// set ties the claims of one key on several locks together. They share key, session, token, seq and since. The first one,
// the lead, has what they need once: it is in the key index and has the timer, the deadlines, the lifetime, the attachment
// and the texts.
type set struct {
	members []*claim // in the order of the names of their locks; at least one
}

// set returns the set that c belongs to, or nil.
func (c *claim) set() *set {
	if c.extra == nil {
		return nil
	}
	return c.extra.set
}

// lead returns the claim that has what c shares with others: the lead of its set, or c itself.
func (c *claim) lead() *claim {
	if c.extra == nil || c.extra.set == nil {
		return c
	}
	return c.extra.set.members[0]
}

// linked tells whether c may have to do with other locks than its own.
func (c *claim) linked() bool { return c.session != nil || c.set() != nil }

// setSize is the number of locks of the set of c, or 0.
func (c *claim) setSize() int {
	if set := c.set(); set != nil {
		return len(set.members)
	}
	return 0
}

// kind returns mode and slots, as outcomes tell them: zero for a set, each of whose locks has its own.
func (c *claim) kind() (Mode, uint32) {
	if c.set() != nil {
		return 0, 0
	}
	return c.modeOf(), c.lock.slots
}

// on tells whether the lock of c, or one of its set, has that name.
func (c *claim) on(name string) bool {
	set := c.set()
	if set == nil {
		return c.lock.name == name
	}
	return slices.ContainsFunc(set.members, func(m *claim) bool { return m.lock.name == name })
}

// names returns the names of the locks.
func (s *set) names() []string {
	out := make([]string, len(s.members))
	for i, m := range s.members {
		out[i] = m.lock.name
	}
	return out
}

// A name in the record of a claim takes its bytes and a few more.
const nameOverhead = 4

// textBytes is what a snapshot takes to say which claims make up the set: all names with the lead, and with each other claim
// the name of the lead's lock.
func (s *set) textBytes() uint64 {
	n := (len(s.members) - 1) * (len(s.members[0].lock.name) + nameOverhead)
	for _, m := range s.members {
		n += len(m.lock.name) + nameOverhead
	}
	return uint64(n)
}

// position is the worst of the positions.
func (s *set) position() int {
	n := 1
	for _, m := range s.members {
		n = max(n, m.place())
	}
	return n
}

// is tells whether a names the locks of s, each in its mode. It is false for a nil s.
func (s *set) is(a *command.Acquire) bool {
	return s != nil && slices.EqualFunc(s.members, sorted(a.GetSet()), func(m *claim, x *command.SetMember) bool {
		return m.lock.name == x.GetName() && m.modeOf() == x.GetMode() && m.lock.slots == x.GetSlots()
	})
}

// leaveSession takes c, with its set, out of its session's list.
func (c *claim) leaveSession() {
	set := c.set()
	if set == nil {
		c.session.unlink(c)
		return
	}
	for _, m := range set.members {
		m.session.unlink(m)
	}
}

// sorted returns the members in the order of their names.
func sorted(ms []*command.SetMember) []*command.SetMember {
	byName := func(a, b *command.SetMember) int { return strings.Compare(a.GetName(), b.GetName()) }
	if slices.IsSortedFunc(ms, byName) {
		return ms
	}
	out := slices.Clone(ms)
	slices.SortStableFunc(out, byName)
	return out
}

// numLocks is how many holds or places a asks for.
func numLocks(a *command.Acquire) int { return max(1, len(a.GetSet())) }

// checkSet checks what an acquire of a set says about its locks.
func checkSet(s *command.Settings, a *command.Acquire) error {
	switch {
	case a.GetName() != "" || a.GetMode() != 0 || a.GetSlots() != 0:
		return errors.New("a set of locks has no name, mode or slots beside those of its locks")
	case len(a.GetSet()) > MaxSet(s):
		return errors.New("a set names at most " + strconv.Itoa(MaxSet(s)) + " locks")
	}
	last := ""
	for _, m := range sorted(a.GetSet()) {
		if err := CheckName(s, m.GetName()); err != nil {
			return err
		}
		if m.GetName() == last {
			return errors.New("a set names each lock once")
		}
		if err := checkKind(s, m.GetMode(), m.GetSlots()); err != nil {
			return err
		}
		last = m.GetName()
	}
	return nil
}

// wish is one lock of a set that is asked for.
type wish struct {
	*command.SetMember
	lock *lock // nil: nobody knows it yet
}

// atOnce tells whether a plain acquire would be granted now.
func (w wish) atOnce() bool {
	return w.lock == nil || w.lock.waiters.n == 0 && w.lock.admits(w.GetMode())
}

func (t *Table) wishes(a *command.Acquire) []wish {
	out := make([]wish, 0, len(a.GetSet()))
	for _, m := range sorted(a.GetSet()) {
		out = append(out, wish{m, t.lockNamed(m.GetName())})
	}
	return out
}

// askSet is ask for a set.
func (t *Table) askSet(key Key, s *session, a *command.Acquire) Outcome {
	ws := t.wishes(a)
	if code, refused := t.refuseSet(ws); refused {
		return Outcome{Code: code}
	}
	own := s.ownAmong(ws)
	holding := own == nil && !slices.ContainsFunc(ws, func(w wish) bool { return !w.atOnce() })
	if !holding && a.GetWait() == 0 {
		o := Outcome{Code: Held}
		o.Holder, o.Expected = t.describeSet(s, ws)
		return o
	}
	if code, full := t.fullForSet(ws, a, holding); full {
		return Outcome{Code: code}
	}
	switch {
	case own != nil:
		return Outcome{Code: Deadlock, Cycle: &Chain{Waits: []Wait{own.waitForSelf(a.GetOwner())}}}
	case !holding && mayClose(s, nil):
		if cycle := t.deadlock(s, wishedFor(s, ws), a.GetOwner()); cycle != nil {
			return Outcome{Code: Deadlock, Cycle: cycle}
		}
	}
	c := t.newSet(key, s, ws, a)
	if holding {
		token := t.nextToken()
		for _, m := range c.set().members {
			t.hold(m, token)
		}
		return c.granted()
	}
	for _, m := range c.set().members {
		t.joinQueue(m)
	}
	t.await(c, a.GetWait())
	for _, m := range c.set().members {
		t.emit(t.event(m, EventQueued))
	}
	// Everybody else in its queues came before.
	position := 0
	for _, m := range c.set().members {
		position = max(position, m.lock.waiters.len())
	}
	return t.placed(c, position)
}

// refuseSet looks for a lock of another kind, and for room for locks that are not known yet.
func (t *Table) refuseSet(ws []wish) (Code, bool) {
	unknown := 0
	for _, w := range ws {
		if w.lock == nil {
			unknown++
		} else if w.lock.used() && w.lock.slots != w.GetSlots() {
			return ModeMismatch, true
		}
	}
	return TooManyLocks, unknown > 0 && t.locks.Len()+unknown > int(t.settings.GetMaxLocks())
}

// fullForSet tells whether, and in which way, the table is too full for a set.
func (t *Table) fullForSet(ws []wish, a *command.Acquire, holding bool) (Code, bool) {
	text := len(a.GetOwner()) + len(a.GetMetadata()) + (len(ws)-1)*(len(ws[0].GetName())+nameOverhead)
	for _, w := range ws {
		text += len(w.GetName()) + nameOverhead
		switch {
		case w.lock == nil:
			text += len(w.GetName())
		case holding && w.lock.holders.len() >= int(t.settings.GetMaxHoldersPerLock()):
			return TooManyHolders, true
		case !holding && w.lock.waiters.len() >= int(t.settings.GetMaxWaitersPerLock()):
			return TooManyWaiters, true
		}
	}
	switch {
	case t.allClaims()+len(ws) > int(t.settings.GetMaxClaims()):
		return TooManyKeys, true
	case !t.hasRoomFor(text):
		return TooMuchText, true
	}
	return 0, false
}

// ownAmong returns the first claim of s on one of the locks, in the order of their names, or nil. A nil s has none.
func (s *session) ownAmong(ws []wish) *claim {
	if s == nil || s.n == 0 {
		return nil
	}
	for _, w := range ws {
		if w.lock == nil {
			continue
		}
		if c := s.claimOn(w.lock); c != nil {
			return c
		}
	}
	return nil
}

// claimOn returns a hold, or else the first place, of s on l, or nil.
func (s *session) claimOn(l *lock) *claim {
	if c := s.holdOn(l); c != nil {
		return c
	}
	if cs := s.placesOn(l); len(cs) > 0 {
		return cs[0]
	}
	return nil
}

// waitForSelf is the chain of one who asks for a lock of which its own session has c.
func (c *claim) waitForSelf(owner string) Wait {
	if owner == "" {
		owner = c.session.owner
	}
	return Wait{Owner: owner, Lock: c.lock.name, HeldBy: c.who(), Token: c.token, Queued: c.waiting()}
}

// describeSet describes the first lock that keeps a set of s from being granted at once, or else the first of all, and
// says how long it may take.
func (t *Table) describeSet(s *session, ws []wish) (*Holder, time.Duration) {
	for _, w := range ws {
		if w.lock != nil && (!w.atOnce() || s != nil && s.claimOn(w.lock) != nil) {
			return t.describeLock(w.lock), t.expected(w.lock.name)
		}
	}
	return t.describe(ws[0].GetName()), t.expected(ws[0].GetName())
}

// describeFor returns what a refused client is told about the lock, or one of the locks, that it asked for.
func (t *Table) describeFor(a *command.Acquire) (*Holder, time.Duration) {
	if len(a.GetSet()) > 0 {
		return t.describeSet(t.sharedSession(a.GetSession()), t.wishes(a))
	}
	return t.describe(a.GetName()), t.expected(a.GetName())
}

// newSet makes the claims of a fresh key and returns their lead. They are in no list of their locks yet.
func (t *Table) newSet(key Key, s *session, ws []wish, a *command.Acquire) *claim {
	set := &set{members: make([]*claim, 0, len(ws))}
	for i, w := range ws {
		l := w.lock
		if l == nil {
			l = t.newLock(w.GetName())
		}
		t.touch(l)
		l.slots = w.GetSlots()
		var c *claim
		if i == 0 {
			c = t.newClaim(key, s, l, a)
			c.ensureExtra().set = set
		} else if c = set.members[0].sibling(l, set); s != nil {
			s.link(c)
		}
		c.mode = uint8(w.GetMode())
		set.members = append(set.members, c)
	}
	t.text += set.textBytes()
	t.sets++
	return set.members[0]
}

// sibling makes another claim of the set that c leads.
func (c *claim) sibling(l *lock, set *set) *claim {
	return &claim{key: c.key, lock: l, session: c.session, seq: c.seq, since: c.since, extra: &extra{set: set}}
}

// eligible tells whether the head of a queue can be granted: a set, if it is the head of all its queues.
func (t *Table) eligible(w *claim) bool {
	set := w.set()
	if set == nil {
		return w.lock.admits(w.modeOf())
	}
	for _, m := range set.members {
		if !m.lock.admits(m.modeOf()) || t.firstAlive(m.lock) != m {
			return false
		}
	}
	return true
}

// grantSet grants the set of w, which is the head of all its queues. Its other locks are to be looked at: it has made way.
func (t *Table) grantSet(w *claim) {
	set, token := w.set(), t.nextToken()
	for _, m := range set.members {
		t.touch(m.lock)
		t.leaveQueue(m)
		t.hold(m, token)
	}
	for _, m := range set.members {
		t.grantTwins(m)
		if m != w {
			t.listLock(m.lock)
		}
	}
}
