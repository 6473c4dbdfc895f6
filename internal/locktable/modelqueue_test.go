package locktable

import (
	"slices"
	"time"
)

// Holds, queues and spent keys of the naive model.

func (m *model) drop(c *mClaim) {
	m.claims = slices.DeleteFunc(m.claims, func(x *mClaim) bool { return x.key == c.key })
}

func (m *model) event(kind EventKind, c *mClaim) *Event {
	key, _ := ParseKey(c.key)
	e := Event{
		Kind: kind, Lock: c.lock, Key: key, Mode: c.mode, Slots: c.slots, Token: c.token, Owner: m.ownerTold(c), Metadata: c.meta,
		Attachment: c.attachment, Set: len(c.group),
	}
	switch kind {
	case EventGranted:
		e.Waited = c.waited
		e.TTL, e.Deadline = m.lifetime(c)
	case EventCancelled, EventTimedOut:
		e.Waited = m.now.Sub(c.queued)
	case EventReleased, EventExpired, EventBroken, EventHandedOver:
		e.HeldFor = m.now.Sub(c.since)
		e.By, e.Reason = m.order.by, m.order.reason
	}
	m.events = append(m.events, e)
	return &m.events[len(m.events)-1]
}

// endSession ends a shared session.
func (m *model) endSession(s *mSession, kind EventKind) int {
	return m.endClaims(m.claimsOf(s.id), kind, s)
}

// endClaims ends the claims of one session in one step: first all of them go, then the queues are looked at.
func (m *model) endClaims(claims []*mClaim, kind EventKind, s *mSession) int {
	released := 0
	m.ending = s
	var touched []string
	if s != nil {
		m.sessions = slices.DeleteFunc(m.sessions, func(x *mSession) bool { return x == s })
	}
	if s != nil && kind == EventExpired {
		key, _ := ParseKey(s.id)
		m.events = append(m.events, Event{Kind: EventSessionExpired, Key: key, Owner: s.owner, Metadata: s.meta})
	}
	for _, c := range claims {
		if c != c.all()[0] {
			continue
		}
		m.drop(c)
		m.spend(mSpent{key: c.key, broken: kind == EventBroken, mOrder: m.order})
		m.noteSpent(c)
		if m.onTask(c) && c.held {
			released++
			m.attemptEnds(c, EventTaskLost)
		} else if m.onTask(c) {
			m.taskEvent(EventTaskCancelled, c)
		} else if c.held {
			released++
			for _, x := range c.all() {
				m.event(kind, x)
				m.rememberHold(x, kind, true)
			}
		} else {
			m.tell(EventCancelled, c)
		}
		touched = append(touched, c.locks()...)
		for _, l := range c.locks() {
			if c.held && (kind == EventExpired || kind == EventBroken) && c.delay > 0 {
				m.blockUntil(l, m.now.Add(c.delay))
			}
		}
	}
	if s != nil {
		m.spend(mSpent{key: s.id})
	}
	if w := m.successor; w != nil {
		m.successor = nil
		m.grantWithTwins(w)
	}
	m.look(touched...)
	return released
}

// noteSpent makes the session of c remember, as long as it remembers the acquire at all, that its key is spent.
func (m *model) noteSpent(c *mClaim) {
	if s := m.session(c.session); s != nil {
		for i := range s.replies {
			if (s.replies[i].op == "acquire" || s.replies[i].op == "claim") && s.replies[i].key == c.key {
				s.replies[i].code = KeySpent
			}
		}
	}
}

func (m *model) blockUntil(lock string, until Time) {
	b := m.block(lock)
	if b == nil {
		b = &mBlock{lock: lock, seq: m.nextSeq()}
		m.blocks = append(m.blocks, b)
	}
	b.until = max(b.until, until)
}

// eligible tells whether a claim of this kind could hold lock beside its present holders.
func (m *model) eligible(lock string, mode Mode, slots uint32) bool {
	if m.block(lock) != nil {
		return false
	}
	holders := m.holders(lock)
	if slots > 0 {
		return len(holders) < int(slots)
	}
	if mode == Exclusive {
		return len(holders) == 0
	}
	return !slices.ContainsFunc(holders, func(h *mClaim) bool { return h.mode == Exclusive })
}

// ownHold returns a hold of the same session on the same readers-writer lock.
func (m *model) ownHold(session, lock string) *mClaim {
	if session == "" {
		return nil
	}
	for _, h := range m.holders(lock) {
		if h.session == session && h.slots == 0 {
			return h
		}
	}
	return nil
}

// grantWithTwins grants a waiter and then the other places that its session has in the same mode.
func (m *model) grantWithTwins(c *mClaim) {
	m.grant(c)
	if c.session == "" || c.slots > 0 {
		return
	}
	for _, w := range m.waiters(c.lock) {
		if w.session == c.session && w.mode == c.mode && w.group == nil {
			m.grant(w)
		}
	}
}

func (m *model) grant(c *mClaim) {
	if own := m.ownHold(c.session, c.lock); own != nil {
		c.token = own.token
	} else {
		m.token++
		c.token = m.token
	}
	m.makeHolder(c, c.token)
}

// makeHolder makes a holder of c.
func (m *model) makeHolder(c *mClaim, token uint64) {
	m.grants++
	c.held, c.nth, c.token = true, m.grants, token
	c.since, c.waited = m.now, m.now.Sub(c.queued)
	if c.session == "" {
		c.deadline = m.now.Add(c.ttl)
	}
	m.event(EventGranted, c)
}

// holder tells a refused client about the lock.
func (m *model) holder(lock string) *Holder {
	hs := m.holders(lock)
	h := &Holder{Holders: len(hs), Waiters: len(m.waiters(lock))}
	if len(hs) == 0 {
		if b := m.block(lock); b != nil {
			h.Deadline = b.until
		}
		return h
	}
	f := hs[0]
	h.Owner, h.Metadata, h.Mode, h.Token, h.Since = m.ownerTold(f), f.meta, f.mode, f.token, f.since
	_, h.Deadline = m.lifetime(f)
	return h
}

// --- spent keys ---

func (m *model) spend(s mSpent) {
	s.at = m.now
	if !s.broken {
		s.mOrder = mOrder{}
	}
	m.spent = append(m.spent, s)
	m.forgetSpent()
}

func (m *model) forgetSpent() {
	for len(m.spent) > 0 {
		old := m.spent[0].at.Add(time.Duration(m.settings.GetSpentRetention())) <= m.now
		if !old && len(m.spent) <= int(m.settings.GetMaxSpent()) {
			break
		}
		m.spent = m.spent[1:]
	}
	m.forgetReasons()
}
