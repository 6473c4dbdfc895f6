package locktable

import "slices"

// Explain follows those who wait.
func (m *model) Explain(lock string, limit int) Explanation {
	var e Explanation
	var been []string // sessions
	if len(m.holders(lock)) == 0 {
		return e
	}
	who := m.holders(lock)[0]
	for {
		w := m.waitingFor(who)
		if w == nil {
			return e
		}
		if who.session != "" && slices.Contains(been, who.session) {
			e.Loop = true
			return e
		}
		if len(e.Waits) == limit {
			e.More = true
			return e
		}
		been = append(been, who.session)
		for _, x := range w.all() {
			if m.waiters(x.lock)[0] != x || !m.eligible(x.lock, x.mode, x.slots) {
				w = x
				break
			}
		}
		step := Wait{Owner: m.ownerOf(w), Lock: w.lock}
		hs, head := m.holders(w.lock), m.waiters(w.lock)[0]
		conflict := w.slots > 0 && len(hs) == int(w.slots) ||
			w.slots == 0 && slices.ContainsFunc(hs, func(h *mClaim) bool { return w.mode == Exclusive || h.mode == Exclusive })
		switch {
		case conflict:
			who = hs[0]
		case head != w:
			who = head
			step.Queued = true
		default:
			e.Waits = append(e.Waits, step)
			return e
		}
		step.HeldBy = m.ownerOf(who)
		if who.held {
			step.Token = who.token
		}
		e.Waits = append(e.Waits, step)
	}
}

// waitingFor returns the place through which the session of a holder or waiter waits, or nil.
func (m *model) waitingFor(c *mClaim) *mClaim {
	if !c.held {
		return c
	}
	for _, o := range m.claims {
		if c.session != "" && o.session == c.session && !o.held && !m.onTask(o) {
			return o
		}
	}
	return nil
}
