package simulation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// check judges the whole history of the clients.
func (w *world) check() {
	h := &w.book.history
	byLock := map[string][]*claim{}
	for _, c := range h.claims {
		c.broken = w.book.brokenAt(c)
		byLock[c.lock] = append(byLock[c.lock], c)
		w.checkOutcomes(c)
		w.checkGhosts(c)
		w.checkWaits(c)
		w.checkTakenBack(c)
	}
	reads := map[string][]*read{}
	for _, r := range h.reads {
		reads[r.lock] = append(reads[r.lock], r)
	}
	for lock, cs := range byLock {
		w.checkWindows(lock, cs)
		w.checkReads(reads[lock], cs)
		w.checkQueues(reads[lock], cs)
	}
	w.checkSessions()
	w.checkTasks(byLock)
	w.checkLinear(byLock, reads)
}

// most is how many claims of that kind may hold a lock together; 0: any number.
func most(c *claim) int {
	switch {
	case c.slots > 0:
		return int(c.slots)
	case c.mode == command.Mode_SHARED:
		return 0
	}
	return 1
}

// checkWindows judges S2 and S3: the times in which clients believed in their holds.
func (w *world) checkWindows(lock string, all []*claim) {
	var cs []*claim
	for _, c := range all {
		if c.token != 0 && !c.ack.IsZero() {
			cs = append(cs, c)
		}
	}
	slices.SortFunc(cs, func(a, b *claim) int { return int(int64(a.token) - int64(b.token)) })
	for i, a := range cs {
		for _, b := range cs[:i] {
			if sameHold(a, b) {
				continue
			}
			// a has the greater token.
			if a.ack.Before(b.first) {
				w.violated("S3", "token %d of %s was acknowledged before token %d was asked for", a.token, lock, b.token)
			}
			if a.token == b.token {
				w.violated("S3", "token %d of %s was granted twice", a.token, lock)
			}
			if b.ends().After(a.ack) && a.ends().After(b.ack) && b.ends().After(b.ack) {
				if a.mode != b.mode || most(a) == 1 {
					w.violated("S2", "%s is held with token %d from %v to %v and with %d from %v to %v", lock, b.token, b.ack.Sub(w.began),
						b.ends().Sub(w.began), a.token, a.ack.Sub(w.began), a.ends().Sub(w.began))
				}
			}
		}
		if n := most(a); n > 1 && w.heldAt(cs[:i+1], a.ack) > n && a.ends().After(a.ack) {
			w.violated("S2", "%s has %d holders at %v", lock, w.heldAt(cs[:i+1], a.ack), a.ack.Sub(w.began))
		}
	}
}

// sameHold tells whether both count as one hold, of a session that has the lock twice.
func sameHold(a, b *claim) bool {
	return a.session != nil && a.session == b.session && a.token == b.token
}

func (w *world) heldAt(cs []*claim, at time.Time) (n int) {
	for _, c := range cs {
		if !at.Before(c.ack) && at.Before(c.ends()) {
			n++
		}
	}
	return n
}

// checkOutcomes judges S7 and S15: whatever a client was told happened is in the log, between the request and the answer, and what
// it was told did not happen is not.
func (w *world) checkOutcomes(c *claim) {
	f := w.book.fate(c)
	released, refused := false, true
	for _, a := range c.attempts {
		var ls []*logged
		switch a.op {
		case opAcquire:
			ls = w.book.acquires[a.attachment]
			if a.attachment == 0 {
				continue
			}
		case opRenew:
			ls = w.book.renewals[a.ttl]
		case opHandOver:
			continue
		case opRelease, opFinish:
			released = true
			refused = refused && a.certain()
			continue
		}
		switch {
		case a.certain() && len(ls) > 0:
			w.violated("S15", "a request (%d) for %s with %s failed with %q at %v, and is in the log as entry %d", a.op, c.lock, c.key,
				a.err, a.answered.Sub(w.began), ls[0].index)
		case a.err != nil:
		case len(ls) == 0:
			w.violated("S7", "a request (%d) for %s with %s was answered code %d at %v, and is not in the log", a.op, c.lock, c.key,
				a.out.Code, a.answered.Sub(w.began))
		case !slices.ContainsFunc(ls, func(l *logged) bool { return !l.at.After(a.answered) && !l.at.Before(a.sent) }):
			w.violated("S15", "a request (%d) for %s was made between %v and %v, and executed at %v", a.op, c.lock,
				a.sent.Sub(w.began), a.answered.Sub(w.began), ls[0].at.Sub(w.began))
		}
		if a.err == nil && a.out.Code == locktable.Granted && f != nil && !slices.ContainsFunc(f.grants, func(g grant) bool { return g.token == a.out.Token }) {
			w.violated("S7", "token %d of %s was acknowledged, and the log grants no such", a.out.Token, c.lock)
		}
	}
	if released && refused && len(w.book.releases[c.key]) > 0 && !slices.ContainsFunc(c.attempts, func(a *attempt) bool { return (a.op == opRelease || a.op == opFinish) && !a.certain() }) {
		w.violated("S15", "every release of %s with %s was refused, and one is in the log", c.lock, c.key)
	}
	if !c.gone.IsZero() && f != nil && f.live() != nil && c.session == nil {
		w.violated("S7", "the release of %s with token %d was acknowledged, and the hold lives on", c.lock, c.token)
	}
}

// checkGhosts judges S9: nobody is granted a lock who has been away for longer than the grace, counting the polls that were under
// way when the client left, and their late copies. In an entry after a pause the lock can fall free before the place is due, and is granted at
// the time of the entry. An acquire that a dying leader has left in a log may be executed late; it counts from then on.
func (w *world) checkGhosts(c *claim) {
	f := w.book.fate(c)
	if f == nil {
		return
	}
	bound := 3*w.o.grace() + 3*time.Second
	for _, g := range f.grants {
		if away := g.clock.Sub(max(c.usedAt, g.asked)); g.at.After(c.used) && away > bound+g.gap {
			w.violated("S9", "%s is granted with token %d to a client that left %v of cluster time before", c.lock, g.token, away)
		}
	}
}

// checkTakenBack: what a client comes back for within the grace is taken back by nobody. Only it can release its hold.
func (w *world) checkTakenBack(c *claim) {
	f := w.book.fate(c)
	if f == nil || !c.sliced || c.session != nil || len(w.book.releases[c.key]) > 0 {
		return
	}
	for _, g := range f.grants {
		if g.how != locktable.EventReleased {
			continue
		}
		w.count.add("unfetched grants taken back", 1)
		for _, a := range c.attempts {
			was := a.op == opAcquire && a.err == nil && (a.out.Code == locktable.Waiting || a.out.Code == locktable.Granted)
			if away := g.end.Sub(a.sent); was && away >= 0 && away < validity(w.o.grace()) {
				w.violated("S9", "token %d of %s was released at %v, and not by its client, which waits in slices and had asked %v before",
					g.token, c.lock, g.end.Sub(w.began), away)
			}
		}
	}
}

// checkWaits judges L1 and L4: every wait ends in time, and a grant is told at once.
func (w *world) checkWaits(c *claim) {
	for _, a := range c.attempts {
		if a.op != opAcquire || a.left {
			continue
		}
		took := a.answered.Sub(a.sent)
		if a.wait >= 0 && took > a.wait+tick+w.trouble(a.sent, a.answered)+w.o.lossAllowance() {
			w.violated("L1", "a wait of %v for %s was answered after %v (code %d, error %v)", a.wait, c.lock, took, a.out.Code, a.err)
		}
		if a.attachment == 0 || a.life == nil {
			continue
		}
		told, ok := w.book.wakes[wake{a.life, a.attachment}]
		if !ok || a.err != nil && !a.certain() {
			continue
		}
		if late := a.answered.Sub(told); late > tick+w.trouble(told, a.answered) {
			w.violated("L4", "the grant of %s was applied at %v on the node where %s waits, which answered %v later", c.lock,
				told.Sub(w.began), c.key, late)
		}
	}
}

// checkReads judges S13 by the clients' beliefs: a read sees each hold that its holder has believed in from before it began until
// after it ended, and none whose release was acknowledged before.
func (w *world) checkReads(reads []*read, cs []*claim) {
	for _, r := range reads {
		for _, c := range cs {
			if c.token == 0 || c.ack.IsZero() {
				continue
			}
			seen := slices.Contains(r.holders, c.token)
			switch {
			case !seen && !c.ack.After(r.begin) && c.ends().After(r.end):
				w.violated("S13", "a read of %s through %s from %v to %v at %v sees %v, but %v only as due, and not token %d, held from %v to %v: %s",
					r.lock, r.through, r.begin.Sub(w.began), r.end.Sub(w.began), r.now, r.holders, r.expiring, c.token, c.ack.Sub(w.began),
					c.ends().Sub(w.began), w.story(c))
			case seen && !c.gone.IsZero() && c.gone.Before(r.begin) && !reheld(cs, c):
				w.violated("S13", "a read of %s at %v sees token %d, whose release was acknowledged at %v", r.lock, r.begin.Sub(w.began),
					c.token, c.gone.Sub(w.began))
			}
		}
	}
}

// story tells what the client of c was told, and what became of its grants.
func (w *world) story(c *claim) string {
	var b strings.Builder
	for _, a := range c.attempts {
		fmt.Fprintf(&b, "\n  attempt %d (copy: %v) from %v to %v: code %d token %d now %v deadline %v, %v", a.op, a.copied, a.sent.Sub(w.began),
			a.answered.Sub(w.began), a.out.Code, a.out.Token, a.out.Now, a.out.Deadline, a.err)
	}
	if f := w.book.fate(c); f != nil {
		for _, g := range f.grants {
			fmt.Fprintf(&b, "\n  token %d granted at %v (%v), ended at %v by event %d", g.token, g.at.Sub(w.began), g.clock, g.end.Sub(w.began), g.how)
		}
	}
	return b.String()
}

// reheld tells whether another key of the session counts for the same hold.
func reheld(cs []*claim, c *claim) bool {
	return slices.ContainsFunc(cs, func(o *claim) bool { return o != c && o.token == c.token })
}

// checkQueues judges S8 as a client can: of two waiters that a read has shown, and of one that it has shown and one that came
// later, the first is granted first, unless it lost its place.
func (w *world) checkQueues(reads []*read, cs []*claim) {
	keys := map[string]*claim{}
	for _, c := range cs {
		keys[c.key] = c
	}
	for _, r := range reads {
		for i, x := range r.waiters {
			first := keys[x]
			if first == nil || first.token == 0 || w.lostPlace(first, r.begin) {
				continue
			}
			for _, y := range r.waiters[i+1:] {
				if second := keys[y]; second != nil && second.token != 0 && second.token < first.token && !w.handed(second) && !w.lostPlace(second, r.begin) {
					w.violated("S8", "%s waited before %s for %s and was granted after it", first.key, second.key, r.lock)
				}
			}
			for _, late := range cs {
				if late.token != 0 && late.first.After(r.end) && late.token < first.token && !w.handed(late) && !reheld(cs, late) {
					w.violated("S8", "%s waited for %s before %s came, and was granted after it", first.key, r.lock, late.key)
				}
			}
		}
	}
}

// lostPlace tells whether the key lost a place after that time, or a grant that was taken back undelivered.
func (w *world) lostPlace(c *claim, since time.Time) bool {
	f := w.book.fate(c)
	return f == nil || len(f.grants) > 1 || slices.ContainsFunc(f.dropped, func(t time.Time) bool { return !t.Before(since) })
}

// handed tells whether the hold was handed over to the key, past those before it in the queue.
func (w *world) handed(c *claim) bool {
	f := w.book.fate(c)
	return f != nil && slices.ContainsFunc(f.grants, func(g grant) bool { return g.handed })
}

// checkSessions judges S11: nothing of a session is granted after its end.
func (w *world) checkSessions() {
	for id, fs := range w.book.bySession {
		for _, f := range fs {
			if g := f.live(); g != nil {
				w.violated("S11", "session %s is long over, and its hold of %s lives", id, f.lock)
			}
		}
	}
}
