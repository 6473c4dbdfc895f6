package locktable

import "slices"

// The views of the naive model.

// Lock shows a lock as Table.Lock does.
func (m *model) Lock(name string, limit int) (LockInfo, bool) {
	hs, ws, b := m.holders(name), m.waiters(name), m.block(name)
	if len(hs)+len(ws) == 0 && b == nil {
		return LockInfo{}, false
	}
	l := LockInfo{Name: name, NumHolders: len(hs), NumWaiters: len(ws)}
	if b != nil {
		l.BlockedUntil = b.until
	}
	for _, c := range hs {
		l.Slots = c.slots
		h := HolderInfo{Owner: m.ownerTold(c), Metadata: c.meta, Mode: c.mode, Slots: c.slots, Token: c.token, Since: c.since, Set: len(c.group)}
		h.TTL, h.Deadline = m.lifetime(c)
		l.Holders = append(l.Holders, h)
	}
	l.Ask, l.Expected = m.askInfo(name), m.joining(name)
	for i, c := range ws {
		l.Slots = c.slots
		l.Waiters = append(l.Waiters, WaiterInfo{
			Owner: m.ownerTold(c), Metadata: c.meta, Mode: c.mode, Position: i + 1, Since: c.queued, WaitUntil: c.waitUntil,
			Set: len(c.group), Expected: m.expect(name, i+1),
		})
	}
	l.Holders = l.Holders[:min(limit, len(l.Holders))]
	l.Waiters = l.Waiters[:min(limit, len(l.Waiters))]
	return l, true
}

// Session shows a session as Table.Session does.
func (m *model) Session(id Key, limit int) (SessionInfo, bool) {
	var info SessionInfo
	claims := m.claimsOf(id.Reveal())
	if s := m.session(id.Reveal()); s != nil {
		info = SessionInfo{TTL: s.ttl, Deadline: s.deadline, Opened: s.opened, Owner: s.owner, Metadata: s.meta}
	} else if c := m.claim(id.Reveal()); c != nil && c.session == "" {
		info = SessionInfo{Private: true, TTL: c.ttl, Deadline: c.deadline, Opened: c.since, Owner: c.owner, Metadata: c.meta}
		claims = []*mClaim{c}
	} else {
		return info, false
	}
	claims = slices.DeleteFunc(claims, func(c *mClaim) bool { return c != c.all()[0] })
	info.NumKeys = len(claims)
	for _, c := range claims[:min(limit, len(claims))] {
		k := KeyInfo{Lock: c.lock, Held: c.held, Token: c.token, Mode: c.mode, Slots: c.slots, Attachment: c.attachment}
		if c.group != nil {
			k.Names = c.locks()
		}
		if m.onTask(c) {
			k.Lock, k.Task = m.taskOf(c).name, true
		}
		if !c.held {
			k.Position = m.worstPosition(c)
			k.Expected = m.expectPlace(c)
		} else {
			k.Ask = m.askOfHold(c)
		}
		info.Keys = append(info.Keys, k)
	}
	return info, true
}

// Stats counts as Table.Stats does.
func (m *model) Stats() Stats {
	st := Stats{Locks: len(m.locks()), Sessions: len(m.sessions), Spent: len(m.spent), LastToken: m.token, History: len(m.past)}
	for _, b := range m.blocks {
		if !slices.Contains(m.locks(), b.lock) {
			st.Locks++ // nobody holds it or waits for it, but there is something to remember about it
		}
	}
	for _, l := range m.locks() {
		if len(m.holders(l)) > 0 {
			st.Held++
		}
	}
	st.Tasks = len(m.tasks)
	for _, c := range m.claims {
		if m.onTask(c) && c.held {
			st.Running++
		} else if m.onTask(c) {
			st.TaskWaiters++
		} else if c.held {
			st.Holders++
		} else {
			st.Waiters++
		}
	}
	return st
}
