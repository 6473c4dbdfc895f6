package simulation

import (
	"slices"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// judge looks at what an entry did: S3 (tokens grow), S4 and S10 (a key has one hold), S8 (the head of the queue is
// granted, nobody overtakes), S11 (a session ends as a whole), L3 (an expiry does not come late). b.mu is held.
func (b *book) judge(i int, cmds []*command.Command, outs []locktable.Outcome, events []locktable.Event) {
	for k, c := range cmds {
		b.log(i, c, outs[k])
	}
	b.handing = map[string]string{}
	b.overdue = map[string]bool{}
	for _, e := range events {
		if e.Kind == locktable.EventSessionExpired {
			b.overdue[e.Key.Reveal()] = true
		}
	}
	for _, e := range events {
		if e.Kind >= locktable.EventTaskClaimed {
			b.taskEvent(i, cmds, e)
		} else {
			b.event(i, e)
		}
	}
	b.judgeSets(i, events)
	b.judgeWaits(i, events)
	b.judgeBreaks(i, cmds, events)
	for k, c := range cmds {
		if x := c.GetEndSession(); x != nil && outs[k].Code == locktable.Ended {
			b.ended(i, x.GetId())
		}
	}
}

// log notes the command and its outcome.
func (b *book) log(i int, c *command.Command, o locktable.Outcome) {
	l := &logged{index: b.entries[i].index, at: b.entries[i].first, code: o.Code, token: o.Token}
	switch {
	case c.GetAcquire() != nil:
		a := c.GetAcquire()
		for _, name := range namesOf(a) {
			b.key(a.GetKey(), name, a.GetSession()).asked = b.clock
		}
		if o.Code == locktable.Deadlock {
			b.world.count.add("deadlocks refused", 1)
		}
		if b.acquires[a.GetAttachment()] = append(b.acquires[a.GetAttachment()], l); len(b.acquires[a.GetAttachment()]) > 1 {
			b.world.count.add("acquires that came into the log again", 1)
		}
	case c.GetRenew() != nil:
		r := c.GetRenew()
		b.renewals[r.GetTtl()] = append(b.renewals[r.GetTtl()], l)
		b.renewed4(i, r.GetKey(), l, o)
	case c.GetRelease() != nil:
		r := c.GetRelease()
		b.releases[r.GetKey()] = append(b.releases[r.GetKey()], l)
	default:
		b.logTask(i, c, l, o)
	}
}

func (b *book) event(i int, e locktable.Event) {
	at, key := b.entries[i].first, e.Key.Reveal()
	queue := b.queues[e.Lock]
	place := slices.Index(queue, key)
	f := b.keys[claimed{key, e.Lock}]
	if f == nil {
		return // a session's own event
	}
	switch e.Kind {
	case locktable.EventQueued:
		b.queues[e.Lock] = b.withPlace(queue, f)
		f.queued = append(f.queued, at)
	case locktable.EventGranted:
		b.granted(i, f, e, place)
	case locktable.EventTimedOut, locktable.EventCancelled:
		if place >= 0 {
			b.queues[e.Lock] = slices.Delete(queue, place, place+1)
		}
		f.dropped = append(f.dropped, at)
	case locktable.EventReleased, locktable.EventExpired, locktable.EventBroken, locktable.EventHandedOver:
		b.holders[e.Lock] = slices.DeleteFunc(b.holders[e.Lock], func(o *fate4key) bool { return o == f })
		if g := f.live(); g != nil {
			g.end, g.how = at, e.Kind
		}
		switch e.Kind {
		case locktable.EventBroken:
			b.world.count.add("holds broken", 1)
		case locktable.EventHandedOver:
			b.world.count.add("holds handed over", 1)
			b.handing[e.Lock] = e.By
		case locktable.EventExpired:
			b.world.count.add("expiries", 1)
			b.late(i, f)
		}
	case locktable.EventSuperseded, locktable.EventSessionExpired:
	}
}

func (b *book) granted(i int, f *fate4key, e locktable.Event, place int) {
	at := b.entries[i].first
	if e.Token <= b.lastToken && !b.reentered(f, e) && !b.together(f, e) {
		b.world.violated("S3", "entry %d grants token %d of %s after token %d was granted", b.entries[i].index, e.Token, e.Lock, b.lastToken)
	}
	b.lastToken = max(b.lastToken, e.Token)
	queue := b.queues[e.Lock]
	to, handed := b.handing[e.Lock]
	delete(b.handing, e.Lock)
	switch {
	case handed:
		if to != e.Owner || place < 0 {
			b.world.violated("S8", "entry %d hands %s over to %s, and grants it to %s", b.entries[i].index, e.Lock, to, e.Owner)
		}
	case place > 0 && !b.reentered(f, e) && !b.allOverdue(queue[:place], e.Lock):
		b.world.violated("S8", "entry %d grants %s to the waiter in place %d", b.entries[i].index, e.Lock, place+1)
	case place < 0 && len(queue) > 0 && !b.reentered(f, e): // deadlines fire before commands run: nobody is overdue
		b.world.violated("S8", "entry %d grants %s to a newcomer, and %d wait", b.entries[i].index, e.Lock, len(queue))
	}
	if place >= 0 {
		b.queues[e.Lock] = slices.Delete(queue, place, place+1)
		b.world.count.add("queue grants", 1)
	}
	if g := f.live(); g != nil {
		b.world.violated("S10", "entry %d grants %s to a key that holds it", b.entries[i].index, e.Lock)
	}
	b.holders[e.Lock] = append(b.holders[e.Lock], f)
	f.grants = append(f.grants, grant{token: e.Token, at: at, clock: b.clock, gap: b.gap, asked: f.asked, handed: handed})
	f.extended, f.extendedIx, f.ttl = at, i, e.TTL
}

// allOverdue tells whether all those who wait in front go with their sessions in the same entry. They are passed over although
// their end is told later: deadlines fire one after the other, and what falls free at the first is not for the dead.
func (b *book) allOverdue(front []string, lock string) bool {
	return !slices.ContainsFunc(front, func(key string) bool { return !b.overdue[b.keys[claimed{key, lock}].session] })
}

// reentered tells whether the grant counts another hold of a session that has the lock.
func (b *book) reentered(f *fate4key, e locktable.Event) bool {
	for _, o := range b.bySession[f.session] {
		if g := o.live(); f.session != "" && o.lock == e.Lock && g != nil && g.token == e.Token {
			return true
		}
	}
	return false
}

// ended judges the end of a session.
func (b *book) ended(i int, id string) {
	for _, f := range b.bySession[id] {
		if f.live() != nil {
			b.world.violated("S11", "entry %d ends session %s, and its hold of %s remains", b.entries[i].index, id, f.lock)
		}
	}
}

const (
	// An idle leader moves the clock at least this often (node.maxTick).
	tick = time.Second
	// What a slow disk or network may add to the time between a deadline and the entry that expires it.
	lateSlack = 3 * time.Second
)

// late judges the expiry of a private hold: after its lifetime, as the slowest clock counts it, it may come later only by
// the time without a leader and by a tick for each election.
func (b *book) late(i int, f *fate4key) {
	if f.session != "" {
		return
	}
	bound := f.ttl*100/(100-rho) + lateSlack
	for k := f.extendedIx + 1; k <= i; k++ {
		if gap := b.entries[k].first.Sub(b.entries[k-1].first); gap > tick {
			bound += gap - tick
		}
		if b.entries[k].term != b.entries[k-1].term {
			bound += tick
		}
	}
	if took := b.entries[i].first.Sub(f.extended); took > bound {
		b.world.violated("L3", "entry %d expires %s %v after its lease of %v began; %v is the most",
			b.entries[i].index, f.lock, took, f.ttl, bound)
	}
}
