package locktable

import (
	"cmp"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// The commands of the naive model.

func (m *model) okTTL(ttl int64, zero bool) bool {
	return ttl >= 0 && ttl <= m.settings.GetMaxTtl() && (zero || ttl > 0)
}

func (m *model) okText(owner, meta string) bool {
	return len(owner) <= int(m.settings.GetMaxOwner()) && len(meta) <= int(m.settings.GetMaxMetadata()) &&
		utf8.ValidString(owner) && utf8.ValidString(meta)
}

func (m *model) okName(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > int(m.settings.GetMaxName()) || !utf8.ValidString(name) {
		return false
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// mInvalid refuses a command; the wording is the table's business.
var mInvalid = Outcome{Code: Invalid, Detail: "a rule was broken"}

func okKey(s string) bool {
	_, ok := ParseKey(s)
	return ok
}

func (m *model) okAcquire(a *command.Acquire) bool {
	shared := a.GetSession() != ""
	switch {
	case !m.okName(a.GetName()), !okKey(a.GetKey()), shared && !okKey(a.GetSession()), a.GetKey() == a.GetSession():
	case shared && a.GetTtl() != 0, !shared && !m.okTTL(a.GetTtl(), false), !shared && a.GetRequest() != 0:
	case a.GetWait() > m.settings.GetMaxWait():
	case a.GetLockDelay() < 0, a.GetLockDelay() > m.settings.GetMaxLockDelay():
	case a.GetMode() != Exclusive && a.GetMode() != Shared:
	case a.GetSlots() > m.settings.GetMaxSlots(), a.GetSlots() > 0 && a.GetMode() == Shared:
	case !m.okText(a.GetOwner(), a.GetMetadata()):
	default:
		return true
	}
	return false
}

// numbered runs f at most once for a request number of a shared session.
func (m *model) numbered(session string, request uint64, op, key string, f func() Outcome) Outcome {
	s := m.session(session)
	if request == 0 {
		return f()
	}
	if s == nil {
		return m.noSession(session)
	}
	if r, o := m.reply(s, request, op, key); o.Code != Done {
		return o
	} else if r == nil {
		o := f()
		m.remember(s, mReply{request, op, key, o.Code, o.Released})
		return o
	} else if r.code == Renewed {
		return Outcome{Code: Renewed, TTL: s.ttl, Deadline: s.deadline}
	} else {
		return Outcome{Code: r.code, Released: r.released}
	}
}

// reply looks for what is remembered of a request. The outcome is Done if the request may go on.
func (m *model) reply(s *mSession, request uint64, op, key string) (*mReply, Outcome) {
	for i, r := range s.replies {
		if r.request != request {
			continue
		}
		if r.op != op || r.key != key {
			return nil, Outcome{Code: RequestMismatch}
		}
		return &s.replies[i], Outcome{Code: Done}
	}
	if request <= s.forgotten {
		return nil, Outcome{Code: RequestTooOld}
	}
	return nil, Outcome{Code: Done}
}

func (m *model) remember(s *mSession, r mReply) {
	s.replies = append(s.replies, r)
	slices.SortFunc(s.replies, func(a, b mReply) int { return cmp.Compare(a.request, b.request) })
	for len(s.replies) > int(m.settings.GetMaxRepliesPerSession()) {
		s.forgotten = s.replies[0].request
		s.replies = s.replies[1:]
	}
}

func (m *model) acquire(a *command.Acquire) Outcome {
	if !m.okAcquire(a) {
		return mInvalid
	}
	s := m.session(a.GetSession())
	if a.GetRequest() == 0 {
		return m.acquireKey(a)
	}
	if s == nil {
		return m.noSession(a.GetSession())
	}
	r, o := m.reply(s, a.GetRequest(), "acquire", a.GetKey())
	if o.Code != Done {
		return o
	}
	if r == nil {
		o := m.acquireKey(a)
		m.remember(s, mReply{a.GetRequest(), "acquire", a.GetKey(), o.Code, 0})
		return o
	}
	if r.code == Held {
		return Outcome{Code: Held, Holder: m.holder(a.GetName())}
	}
	if r.code != Granted && r.code != Waiting {
		return Outcome{Code: r.code}
	}
	if m.claim(a.GetKey()) == nil && m.isSpent(a.GetKey()) {
		return Outcome{Code: KeySpent}
	}
	// The key answers for itself, or it was taken back without being spent. A wrong duplicate changes nothing.
	o = m.acquireKey(a)
	if o.Code != KeyInUse {
		r.code = o.Code
	}
	return o
}

func (m *model) acquireKey(a *command.Acquire) Outcome {
	if c := m.claim(a.GetKey()); c != nil {
		return m.again(c, a)
	}
	if m.isSpent(a.GetKey()) {
		return Outcome{Code: KeySpent}
	}
	if m.session(a.GetKey()) != nil {
		return Outcome{Code: KeyInUse}
	}
	if a.GetSession() != "" && m.session(a.GetSession()) == nil {
		return m.noSession(a.GetSession())
	}
	return m.enter(a)
}

func (m *model) noSession(id string) Outcome {
	if c := m.claim(id); c != nil && c.session == "" {
		return Outcome{Code: SessionPrivate}
	}
	return Outcome{Code: NoSession}
}

// again answers an acquire whose key is known.
func (m *model) again(c *mClaim, a *command.Acquire) Outcome {
	if c.lock != a.GetName() || c.session != a.GetSession() || c.mode != a.GetMode() || c.slots != a.GetSlots() {
		return Outcome{Code: KeyInUse}
	}
	if c.held {
		if c.attachment != a.GetAttachment() { // else nobody has been told yet
			c.attachment = 0
		}
		return m.granted(c)
	}
	if a.GetWait() == 0 {
		m.drop(c)
		m.event(EventTimedOut, c).Holder = m.holder(c.lock)
		m.look(c.lock)
		return Outcome{Code: Held, Holder: m.holder(c.lock)}
	}
	if c.attachment != a.GetAttachment() {
		m.event(EventSuperseded, c)
	}
	m.attach(c, a)
	return m.waiting(c)
}

func (m *model) attach(c *mClaim, a *command.Acquire) {
	c.attachment = a.GetAttachment()
	c.grace = m.now.Add(time.Duration(m.settings.GetWaiterGrace()))
	c.waitUntil = Never
	if a.GetWait() >= 0 {
		c.waitUntil = m.now.Add(time.Duration(a.GetWait()))
	}
}

func (m *model) granted(c *mClaim) Outcome {
	o := Outcome{Code: Granted, Mode: c.mode, Slots: c.slots, Token: c.token, Waited: c.waited}
	o.TTL, o.Deadline = m.lifetime(c)
	return o
}

func (m *model) waiting(c *mClaim) Outcome {
	return Outcome{Code: Waiting, Mode: c.mode, Slots: c.slots, Position: m.position(c)}
}

// textWith counts the bytes of all texts, as if the lock existed.
func (m *model) textWith(lock string) uint64 {
	n := 0
	names := m.locks()
	if lock != "" && !slices.Contains(names, lock) {
		names = append(names, lock)
	}
	for _, name := range names {
		n += len(name)
	}
	for _, c := range m.claims {
		n += len(c.owner) + len(c.meta)
	}
	for _, s := range m.sessions {
		n += len(s.owner) + len(s.meta)
	}
	return uint64(n)
}

// enter answers an acquire with a fresh key.
func (m *model) enter(a *command.Acquire) Outcome {
	lock := a.GetName()
	holders, waiters := m.holders(lock), m.waiters(lock)
	own := m.ownHold(a.GetSession(), lock)
	others := append(slices.Clone(holders), waiters...)
	free := own != nil || len(waiters) == 0 && m.eligible(lock, a.GetMode(), a.GetSlots())
	session := a.GetSession()
	switch {
	case session != "" && len(m.claimsOf(session)) >= int(m.settings.GetMaxKeysPerSession()):
		return Outcome{Code: TooManyKeys}
	case len(others) > 0 && others[0].slots != a.GetSlots(), own != nil && own.mode != a.GetMode():
		return Outcome{Code: ModeMismatch}
	case len(others) == 0 && m.block(lock) == nil && m.Stats().Locks >= int(m.settings.GetMaxLocks()):
		return Outcome{Code: TooManyLocks}
	case !free && a.GetWait() == 0:
		return Outcome{Code: Held, Holder: m.holder(lock)}
	case !free && len(waiters) >= int(m.settings.GetMaxWaitersPerLock()):
		return Outcome{Code: TooManyWaiters}
	case free && len(holders) >= int(m.settings.GetMaxHoldersPerLock()):
		return Outcome{Code: TooManyHolders}
	case len(m.claims) >= int(m.settings.GetMaxClaims()):
		return Outcome{Code: TooManyKeys}
	case m.textWith(lock)+uint64(len(a.GetOwner())+len(a.GetMetadata())) > m.settings.GetMaxTextBytes():
		return Outcome{Code: TooMuchText}
	}
	c := &mClaim{
		key: a.GetKey(), session: a.GetSession(), lock: lock, mode: a.GetMode(), slots: a.GetSlots(), owner: a.GetOwner(),
		meta: a.GetMetadata(), seq: m.nextSeq(), queued: m.now, ttl: time.Duration(a.GetTtl()),
		delay: time.Duration(a.GetLockDelay()),
	}
	m.claims = append(m.claims, c)
	m.attach(c, a)
	if free {
		m.grant(c)
		return m.granted(c)
	}
	m.event(EventQueued, c)
	return m.waiting(c)
}

func (m *model) release(r *command.Release) Outcome {
	c := m.claim(r.GetKey())
	if c == nil || c.lock != r.GetName() || r.GetRequest() > 0 && c.session != r.GetSession() {
		return Outcome{Code: NotHeld}
	}
	return Outcome{Code: Released, Released: m.endClaims([]*mClaim{c}, EventReleased, nil)}
}

func (m *model) renew(r *command.Renew) Outcome {
	c := m.claim(r.GetKey())
	if c == nil || c.lock != r.GetName() || !c.held || r.GetRequest() > 0 && c.session != r.GetSession() {
		return Outcome{Code: NotHeld}
	}
	c.attachment = 0 // its client knows of the hold
	var o Outcome
	if s := m.session(c.session); s != nil {
		o = m.renewLease(&s.ttl, &s.deadline, r.GetTtl())
	} else {
		o = m.renewLease(&c.ttl, &c.deadline, r.GetTtl())
	}
	o.Mode, o.Slots, o.Token = c.mode, c.slots, c.token
	return o
}

func (m *model) renewLease(ttl *time.Duration, deadline *Time, asked int64) Outcome {
	if asked > 0 {
		*ttl = time.Duration(asked)
	}
	*deadline = m.now.Add(*ttl)
	return Outcome{Code: Renewed, TTL: *ttl, Deadline: *deadline}
}

func (m *model) renewSession(r *command.RenewSession) Outcome {
	if s := m.session(r.GetId()); s != nil {
		return m.renewLease(&s.ttl, &s.deadline, r.GetTtl())
	}
	if c := m.claim(r.GetId()); c != nil && c.session == "" && c.held {
		c.attachment = 0
		return m.renewLease(&c.ttl, &c.deadline, r.GetTtl())
	}
	return Outcome{Code: NoSession}
}

func (m *model) endSessionCommand(e *command.EndSession) Outcome {
	if s := m.session(e.GetId()); s != nil {
		return Outcome{Code: Ended, Released: m.endSession(s, EventReleased)}
	}
	if c := m.claim(e.GetId()); c != nil && c.session == "" {
		return Outcome{Code: Ended, Released: m.endClaims([]*mClaim{c}, EventReleased, nil)}
	}
	return Outcome{Code: NoSession}
}

func (m *model) abandon(a *command.Abandon) Outcome {
	c := m.claim(a.GetKey())
	if c == nil || a.GetAttachment() == 0 || c.attachment != a.GetAttachment() {
		return Outcome{Code: Done}
	}
	m.drop(c)
	if c.held {
		m.event(EventReleased, c)
	} else {
		m.event(EventCancelled, c)
	}
	m.look(c.lock)
	return Outcome{Code: Done}
}

func (m *model) poll(p *command.Poll) Outcome {
	for _, k := range p.GetKeys() {
		if c := m.claim(k); c != nil && !c.held {
			c.grace = m.now.Add(time.Duration(m.settings.GetWaiterGrace()))
		}
	}
	return Outcome{Code: Done}
}

func (m *model) openSession(o *command.OpenSession) Outcome {
	id := o.GetId()
	if !okKey(id) || !m.okTTL(o.GetTtl(), false) || !m.okText(o.GetOwner(), o.GetMetadata()) {
		return mInvalid
	}
	if s := m.session(id); s != nil {
		return Outcome{Code: Opened, TTL: s.ttl, Deadline: s.deadline}
	}
	switch {
	case m.claim(id) != nil:
		return Outcome{Code: KeyInUse}
	case m.isSpent(id):
		return Outcome{Code: KeySpent}
	case len(m.sessions) >= int(m.settings.GetMaxSessions()):
		return Outcome{Code: TooManySessions}
	case m.textWith("")+uint64(len(o.GetOwner())+len(o.GetMetadata())) > m.settings.GetMaxTextBytes():
		return Outcome{Code: TooMuchText}
	}
	ttl := time.Duration(o.GetTtl())
	s := &mSession{
		id: id, seq: m.nextSeq(), ttl: ttl, deadline: m.now.Add(ttl), opened: m.now, owner: o.GetOwner(), meta: o.GetMetadata(),
	}
	m.sessions = append(m.sessions, s)
	return Outcome{Code: Opened, TTL: ttl, Deadline: s.deadline}
}

func (m *model) configure(c *command.Configure) Outcome {
	s := c.GetSettings()
	for _, v := range []int64{
		s.GetMaxTtl(), s.GetMaxWait(), s.GetMaxLockDelay(), s.GetWaiterGrace(), s.GetSpentRetention(), int64(s.GetMaxSpent()),
		int64(s.GetMaxLocks()), int64(s.GetMaxWaitersPerLock()), int64(s.GetMaxSessions()), int64(s.GetMaxKeysPerSession()),
		int64(s.GetMaxRepliesPerSession()), int64(s.GetMaxName()), int64(s.GetMaxOwner()), int64(s.GetMaxMetadata()),
		int64(s.GetMaxSlots()), int64(s.GetMaxHoldersPerLock()), int64(s.GetMaxClaims()), int64(s.GetMaxTextBytes()),
	} {
		if v <= 0 {
			return mInvalid
		}
	}
	m.settings = s
	m.forgetSpent()
	return Outcome{Code: Done}
}
