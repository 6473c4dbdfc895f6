package locktable

import "time"

// PastHold is a hold that has ended.
type PastHold struct {
	Owner        string
	Mode         Mode
	Slots        uint32
	Token        uint64
	Since, Ended Time
	Waited       time.Duration
	// How it ended: EventReleased, EventExpired, EventBroken or EventHandedOver. By and Reason as in the event.
	How        EventKind
	By, Reason string
	// The calendar times of Since and Ended, in nanoseconds since 1970; 0: not known.
	SinceWall, EndedWall int64
}

// History returns up to limit of the remembered past holds of a lock, newest first. It takes time in proportion to what is
// remembered of the lock.
func (t *Table) History(name string, limit int) []PastHold {
	l := t.past.byLock[name]
	if l == nil || limit <= 0 {
		return nil
	}
	p := l.oldest
	for range max(0, l.n-limit) {
		p = p.next
	}
	out := make([]PastHold, min(l.n, limit))
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = t.pastHold(p)
		p = p.next
	}
	return out
}

func (t *Table) pastHold(p *past) PastHold {
	h := PastHold{
		Owner: p.owner, Mode: Mode(p.mode), Slots: p.slots, Token: p.token, Since: p.since, Ended: p.ended, Waited: p.waited,
		How: EventKind(p.how),
	}
	if p.order != nil {
		h.By, h.Reason = p.order.by, p.order.reason
	}
	h.SinceWall, _ = t.Calendar(p.since)
	h.EndedWall, _ = t.Calendar(p.ended)
	return h
}

// Explanation is the chain of who waits for whom behind a lock: the first of its holders waits for the first lock of the
// chain, the one who keeps that from it for the next, and so on.
type Explanation struct {
	Chain
	// The last step leads back to one who is in the chain already.
	Loop bool
	// There are more steps than the limit.
	More bool
}

// Explain follows those who wait from the first holder of a lock on, for up to limit steps. A session that waits for several
// locks is followed to the one for which it has waited longest. One step takes time in proportion to the keys of a session.
func (t *Table) Explain(name string, limit int) Explanation {
	var e Explanation
	l := t.lockNamed(name)
	if l == nil || l.holders.head == nil {
		return e
	}
	seen := map[*session]bool{}
	for who := l.holders.head; who != nil; {
		w := who
		if !who.waiting() {
			w = who.session.place()
		}
		switch {
		case w == nil:
			return e
		case who.session != nil && seen[who.session]:
			e.Loop = true
			return e
		case len(e.Waits) == limit:
			e.More = true
			return e
		}
		if who.session != nil {
			seen[who.session] = true
		}
		var step Wait
		step, who = w.kept().keptBy()
		e.Waits = append(e.Waits, step)
	}
	return e
}

// place returns the oldest place that a session has in the queue of a lock, or nil. A private session (nil) that holds waits for nothing.
func (s *session) place() *claim {
	if s == nil {
		return nil
	}
	for c := s.head; c != nil; c = c.extra.sessionNext {
		if c.queued() {
			return c
		}
	}
	return nil
}

// kept returns the first claim of the set of w that somebody, or a delay, keeps waiting, or w itself if it is not that of a set.
func (w *claim) kept() *claim {
	set := w.set()
	if set == nil {
		return w
	}
	for _, m := range set.members {
		if m.lock.waiters.head != m || !m.lock.admits(m.modeOf()) {
			return m
		}
	}
	return w
}

// keptBy tells who keeps the lock from the waiter w: its first holder, or, if the holders would let w in, the head of the
// queue. by is nil if that is w itself, which waits for a delay.
func (w *claim) keptBy() (step Wait, by *claim) {
	l := w.lock
	step = Wait{Owner: w.ownerName(), Lock: l.name}
	by = l.holders.head
	if l.fits(w.modeOf()) {
		if by = l.waiters.head; by == w {
			return step, nil
		}
		step.Queued = true
	}
	step.HeldBy, step.Token = by.ownerName(), by.token
	return step, by
}
