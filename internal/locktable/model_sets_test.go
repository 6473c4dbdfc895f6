package locktable

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// Sets of locks in the naive model: one claim per lock, which share a key and know each other.

// all returns the claims of c's key, in the order of the names of their locks.
func (c *mClaim) all() []*mClaim {
	if c.group == nil {
		return []*mClaim{c}
	}
	return c.group
}

func (c *mClaim) locks() []string {
	var out []string
	for _, x := range c.all() {
		out = append(out, x.lock)
	}
	return out
}

// shown is what outcomes tell of mode and slots.
func (c *mClaim) shown() (Mode, uint32) {
	if c.group != nil {
		return 0, 0
	}
	return c.mode, c.slots
}

func (m *model) setAttachment(c *mClaim, n uint64) {
	for _, x := range c.all() {
		x.attachment = n
	}
}

// tell emits an event for each lock of c.
func (m *model) tell(kind EventKind, c *mClaim) {
	for _, x := range c.all() {
		m.event(kind, x)
	}
}

// claimOn returns the claim of key if it is (also) on that lock, or if no lock is named.
func (m *model) claimOn(key, lock string) *mClaim {
	c := m.claim(key)
	if c == nil || lock != "" && !slices.Contains(c.locks(), lock) {
		return nil
	}
	return c
}

func (m *model) worstPosition(c *mClaim) int {
	n := 0
	for _, x := range c.all() {
		n = max(n, m.position(x))
	}
	return n
}

func mSorted(set []*command.SetMember) []*command.SetMember {
	out := slices.Clone(set)
	slices.SortFunc(out, func(a, b *command.SetMember) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out
}

// okLocks checks what an acquire says about its lock or locks.
func (m *model) okLocks(a *command.Acquire) bool {
	okKind := func(mode Mode, slots uint32) bool {
		return (mode == Exclusive || mode == Shared && slots == 0) && slots <= m.settings.GetMaxSlots()
	}
	if a.GetSet() == nil {
		return m.okName(a.GetName()) && okKind(a.GetMode(), a.GetSlots())
	}
	most := int(m.settings.GetMaxSet())
	if most == 0 {
		most = 64
	}
	if a.GetName() != "" || a.GetMode() != 0 || a.GetSlots() != 0 || len(a.GetSet()) > most {
		return false
	}
	var names []string
	for _, x := range a.GetSet() {
		if !m.okName(x.GetName()) || !okKind(x.GetMode(), x.GetSlots()) || slices.Contains(names, x.GetName()) {
			return false
		}
		names = append(names, x.GetName())
	}
	return true
}

// sameRequest tells whether a asks for what c is.
func (m *model) sameRequest(c *mClaim, a *command.Acquire) bool {
	if c.session != a.GetSession() || (c.group != nil) != (a.GetSet() != nil) {
		return false
	}
	if c.group == nil {
		return c.lock == a.GetName() && c.mode == a.GetMode() && c.slots == a.GetSlots()
	}
	set := mSorted(a.GetSet())
	if len(set) != len(c.group) {
		return false
	}
	for i, x := range c.group {
		if x.lock != set[i].GetName() || x.mode != set[i].GetMode() || x.slots != set[i].GetSlots() {
			return false
		}
	}
	return true
}

// setText is what the names of a set take: all of them with its first claim, the first with each other.
func (m *model) setText(c *mClaim) int {
	switch {
	case c.group == nil:
		return 0
	case c.group[0] != c:
		return len(c.group[0].lock) + 4 - len(c.owner) - len(c.meta)
	}
	n := 0
	for _, x := range c.group {
		n += len(x.lock) + 4
	}
	return n
}

// atOnce tells whether a plain acquire of that kind would be granted now.
func (m *model) atOnce(x *command.SetMember) bool {
	return len(m.waiters(x.GetName())) == 0 && m.eligible(x.GetName(), x.GetMode(), x.GetSlots())
}

// ofSession returns the first hold, or else the first place, of the session on a lock.
func (m *model) ofSession(session, lock string) *mClaim {
	for _, cs := range [][]*mClaim{m.holders(lock), m.waiters(lock)} {
		for _, c := range cs {
			if session != "" && c.session == session {
				return c
			}
		}
	}
	return nil
}

// inTheWay returns the lock that keeps a from being granted at once.
func (m *model) inTheWay(a *command.Acquire) string {
	if a.GetSet() == nil {
		return a.GetName()
	}
	for _, x := range mSorted(a.GetSet()) {
		if !m.atOnce(x) || m.ofSession(a.GetSession(), x.GetName()) != nil {
			return x.GetName()
		}
	}
	return mSorted(a.GetSet())[0].GetName()
}

func (m *model) refusedAsHeld(a *command.Acquire) Outcome {
	lock := m.inTheWay(a)
	return Outcome{Code: Held, Holder: m.holder(lock), Expected: m.joining(lock)}
}

// expectPlace says how long the place c may take: as long as on the worst of its locks.
func (m *model) expectPlace(c *mClaim) time.Duration {
	var d time.Duration
	for _, x := range c.all() {
		d = max(d, m.expect(x.lock, m.position(x)))
	}
	return d
}

// askOfHold returns what is asked of the holders of the first lock of c of which anything is.
func (m *model) askOfHold(c *mClaim) *AskInfo {
	for _, lock := range c.locks() {
		if a := m.askInfo(lock); a != nil {
			return a
		}
	}
	return nil
}

// enterSet answers an acquire of a set with a fresh key.
func (m *model) enterSet(a *command.Acquire) Outcome {
	set, session := mSorted(a.GetSet()), a.GetSession()
	var own *mClaim
	free := true
	for _, x := range set {
		if own == nil {
			own = m.ofSession(session, x.GetName())
		}
		free = free && m.atOnce(x)
	}
	free = free && own == nil
	if session != "" && len(m.claimsOf(session))+len(set) > int(m.settings.GetMaxKeysPerSession()) {
		return Outcome{Code: TooManyKeys}
	}
	if code, refused := m.refuseSet(set); refused {
		return Outcome{Code: code}
	}
	if !free && a.GetWait() == 0 {
		return m.refusedAsHeld(a)
	}
	group := m.newGroup(a, set)
	if code, full := m.fullForSet(set, group, free); full {
		return Outcome{Code: code}
	}
	if own != nil {
		w := Wait{Owner: m.ownerOf(group[0]), Lock: own.lock, HeldBy: m.ownerOf(own), Token: own.token, Queued: !own.held}
		m.graphs = append(m.graphs, nil)
		return Outcome{Code: Deadlock, Cycle: &Chain{Waits: []Wait{w}}}
	}
	if !free {
		if cycle := m.deadlock(session, group); cycle != nil {
			return Outcome{Code: Deadlock, Cycle: cycle}
		}
	}
	seq := m.nextSeq()
	for _, c := range group {
		c.seq = seq
		m.standInLine(c)
		m.claims = append(m.claims, c)
	}
	m.attach(group[0], a)
	if free {
		m.grantSet(group[0])
		return m.granted(group[0])
	}
	m.tell(EventQueued, group[0])
	return m.waiting(group[0])
}

func (m *model) newGroup(a *command.Acquire, set []*command.SetMember) []*mClaim {
	var group []*mClaim
	for _, x := range set {
		group = append(group, m.newClaim(a, x.GetName(), x.GetMode(), x.GetSlots()))
	}
	for _, c := range group {
		c.group = group
	}
	return group
}

func (m *model) refuseSet(set []*command.SetMember) (Code, bool) {
	unknown := 0
	for _, x := range set {
		others := append(m.holders(x.GetName()), m.waiters(x.GetName())...)
		if len(others) > 0 && others[0].slots != x.GetSlots() {
			return ModeMismatch, true
		}
		if len(others) == 0 && m.block(x.GetName()) == nil {
			unknown++
		}
	}
	return TooManyLocks, unknown > 0 && m.Stats().Locks+unknown > int(m.settings.GetMaxLocks())
}

func (m *model) fullForSet(set []*command.SetMember, group []*mClaim, free bool) (Code, bool) {
	names := m.locks()
	for _, x := range set {
		if !free && len(m.waiters(x.GetName())) >= int(m.settings.GetMaxWaitersPerLock()) {
			return TooManyWaiters, true
		}
		if free && len(m.holders(x.GetName())) >= int(m.settings.GetMaxHoldersPerLock()) {
			return TooManyHolders, true
		}
	}
	if len(m.claims)+len(set) > int(m.settings.GetMaxClaims()) {
		return TooManyKeys, true
	}
	text := m.textWith("")
	for _, x := range set {
		if !slices.Contains(names, x.GetName()) && m.block(x.GetName()) == nil {
			text += uint64(len(x.GetName()))
		}
	}
	for _, c := range group {
		text += uint64(len(c.owner) + len(c.meta) + m.setText(c))
	}
	return TooMuchText, text > m.settings.GetMaxTextBytes()
}

// grantSet grants all locks of c, and what its session waits for there in the same mode.
func (m *model) grantSet(c *mClaim) {
	m.token++
	for _, x := range c.all() {
		m.makeHolder(x, m.token)
	}
	for _, x := range c.all() {
		for _, w := range m.waiters(x.lock) {
			if x.slots == 0 && c.session != "" && w.session == c.session && w.mode == x.mode && w.group == nil {
				m.makeHolder(w, m.token)
			}
		}
	}
}

// look grants to the heads of the queues of these locks, and then of those that sets have made way on.
func (m *model) look(locks ...string) {
	var list []string
	put := func(l string) {
		if !slices.Contains(list, l) {
			list = append(list, l)
		}
	}
	for _, l := range locks {
		put(l)
	}
	for len(list) > 0 {
		l := list[0]
		list = list[1:]
		if name, ok := strings.CutPrefix(l, mTaskMark); ok {
			m.lookTask(m.task(name))
			continue
		}
		for c := m.head(l); c != nil && m.canHave(c); c = m.head(l) {
			if c.group == nil {
				m.grantWithTwins(c)
				continue
			}
			m.grantSet(c)
			for _, other := range c.locks() {
				if other != l {
					put(other)
				}
			}
		}
	}
}

// head is the first in the queue who is alive.
func (m *model) head(lock string) *mClaim {
	for _, c := range m.waiters(lock) {
		if s := m.session(c.session); s == nil || s.deadline > m.now {
			return c
		}
	}
	return nil
}

// standInLine gives c a place behind all others, or behind the last one of its session in the same mode.
func (m *model) standInLine(c *mClaim) {
	all := m.waiters(c.lock)
	for i := len(all) - 1; i >= 0; i-- {
		if x := all[i]; m.level >= 2 && c.session != "" && x.session == c.session && x.mode == c.mode && x.slots == 0 && c.group == nil {
			for _, later := range all[i+1:] {
				later.pos++
			}
			c.pos = x.pos + 1
			return
		}
	}
	if len(all) > 0 {
		c.pos = all[len(all)-1].pos + 1
	}
}

// canHave tells whether c, with its set, is the head of all its queues and eligible.
func (m *model) canHave(c *mClaim) bool {
	for _, x := range c.all() {
		if m.head(x.lock) != x || !m.eligible(x.lock, x.mode, x.slots) {
			return false
		}
	}
	return true
}
