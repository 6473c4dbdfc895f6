package locktable

import "slices"

// The search for a shortest cycle among those who are left when nothing moves any more.

// cycle returns a shortest way from one who is left back to it, or nil if there is none: then others wait for each other, and it
// only waits for them.
func (g *game) cycle(me *player) *Chain {
	queue := []*player{me}
	for i := 0; i < len(queue); i++ {
		p := queue[i]
		g.wantAll(p)
		g.play(func() bool { return false })
		if g.over() {
			return nil
		}
		seen := make(map[twin]bool)
		var chain *Chain
		p.places(func(c *claim) {
			if p.granted[c] || chain != nil || c.lock.slots == 0 && seen[twin{c.lock, c.mode}] {
				return // granted with an earlier one
			}
			seen[twin{c.lock, c.mode}] = true
			g.inTheWay(c, func(b *claim, queued bool) bool {
				q := g.blocker(b)
				step := g.wait(c, b, queued)
				if q == me {
					chain = p.chain(step)
					return false
				}
				if !q.found {
					q.found, q.from, q.step = true, p, step
					queue = append(queue, q)
				}
				return true
			})
		})
		if chain != nil {
			return chain
		}
	}
	return nil
}

// twin is what makes two places of a session one.
type twin struct {
	lock *lock
	mode uint8
}

// blocker returns the player of a claim that is in the way.
func (g *game) blocker(c *claim) *player {
	if c.session != nil {
		return g.player(c.session)
	}
	return g.privatePlayer(c.lead())
}

// chain is the way from the asker to p and one step more.
func (p *player) chain(last Wait) *Chain {
	out := []Wait{last}
	for ; p.from != nil; p = p.from {
		out = append(out, p.step)
	}
	slices.Reverse(out)
	return &Chain{Waits: out}
}

// inTheWay calls f for each claim that keeps c from being granted and that no earlier call for the lock was for, until f returns
// false: for holders, then for the queue.
func (g *game) inTheWay(c *claim, f func(b *claim, queued bool) bool) {
	l := g.locks[c.lock]
	class := c.mode
	if l.lock.slots > 0 {
		class = uint8(Exclusive)
	}
	s := &l.searched[class]
	if !s.begun {
		*s = search{begun: true, next: l.lock.waiters.head, seen: make(map[*claim]bool)}
		for h := l.lock.holders.head; h != nil && !l.admits(c); h = h.next {
			g.visits++
			if g.holder(h) != nil && conflicts(h, c) && !f(h, false) {
				return
			}
		}
	}
	if s.seen[c] {
		return // all who are before it were found already
	}
	for ; s.next != nil && s.next != c; s.next = s.next.next {
		g.visits++
		s.waiting = s.waiting || s.next == l.head
		s.seen[s.next] = true
		if g.inFront(l, s.next, c, s.waiting) && !f(s.next, true) {
			return
		}
	}
}

// conflicts tells whether the two, on the same lock, cannot hold it beside each other for as long as they want.
func conflicts(a, b *claim) bool {
	return a.lock.slots > 0 || a.modeOf() == Exclusive || b.modeOf() == Exclusive
}

// inFront tells whether b, before c in the queue of l, is in the way of c. Waiting tells whether b is behind all whom the game
// has passed.
func (g *game) inFront(l *gameLock, b, c *claim, waiting bool) bool {
	if p := g.existing(b); p != nil && p.granted[b] {
		return !p.ended && conflicts(b, c) && !l.admits(c)
	}
	return waiting && (conflicts(b, c) || b.set() != nil)
}

func (g *game) existing(c *claim) *player {
	if c.session != nil {
		return g.players[c.session]
	}
	return g.sets[c.lead()]
}

// wait is the step from who wants c to who has b.
func (g *game) wait(c, b *claim, queued bool) Wait {
	w := Wait{Owner: c.who(), Lock: c.lock.name, HeldBy: b.who(), Queued: queued}
	if c.seq == 0 && g.owner != "" {
		w.Owner = g.owner
	}
	if !queued {
		w.Token = b.token
	}
	return w
}

// who is the owner that a claim, or else its session, named.
func (c *claim) who() string {
	if o := c.details().owner; o != "" || c.session == nil {
		return o
	}
	return c.session.owner
}
