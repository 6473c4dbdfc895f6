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
		step := Wait{Owner: m.ownerOf(w), Lock: w.lock}
		hs, head := m.holders(w.lock), m.waiters(w.lock)[0]
		readers := len(hs) > 0 && w.slots == 0 && w.mode == Shared && hs[0].mode == Shared
		switch {
		case len(hs) > 0 && !readers:
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
		if c.session != "" && o.session == c.session && !o.held {
			return o
		}
	}
	return nil
}
