package simulation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// How long, in real time, the judgement of one lock may take. Histories are short, so more means that it will not end.
const linearPatience = 20 * time.Second

// The steps of a lock, as clients see them.
const (
	stepGrant = iota
	stepEnd   // released, or taken back undelivered, or expired: the token is not held afterwards
	stepHeld  // somebody holds it
	stepRead
)

type step struct {
	kind  int
	token uint64
}

// held is the state of the model: who holds the lock and the newest token.
type held struct{ holder, newest uint64 }

// lockModel is a lock with tokens. That a hold ends by itself is a step of its own, which begins when the lease may end at the
// earliest.
var lockModel = porcupine.Model{
	Init: func() any { return held{} },
	Step: func(state, input, output any) (bool, any) {
		s, in := state.(held), input.(step)
		switch in.kind {
		case stepGrant:
			return s.holder == 0 && in.token > s.newest, held{in.token, in.token}
		case stepEnd:
			if s.holder == in.token {
				s.holder = 0
			}
			return true, s
		case stepHeld:
			return s.holder != 0, s
		default:
			return s.holder == in.token, s
		}
	},
}

// checkLinear judges S4, S13 and S15: the answers of each exclusive lock fit one order of steps that respects real time.
func (w *world) checkLinear(byLock map[string][]*claim, reads map[string][]*read) {
	for lock, cs := range byLock {
		if !strings.HasPrefix(lock, "p") || slices.ContainsFunc(cs, func(c *claim) bool { return c.session != nil && c.token != 0 }) {
			continue // in a session a hold may be counted
		}
		ops := w.operations(cs, reads[lock])
		w.count.add("linear histories", 1)
		w.count.add("linear operations", len(ops))
		switch porcupine.CheckOperationsTimeout(lockModel, ops, linearPatience) {
		case porcupine.Ok:
		case porcupine.Illegal:
			w.violated("S13", "the %d answers of %s fit no order", len(ops), lock)
			w.note("%s", history4(ops))
		case porcupine.Unknown:
			w.violated("S13", "the %d answers of %s could not be judged in %v", len(ops), lock, linearPatience)
		}
	}
}

// operations makes the history of a lock. What clients do not know, whether and by when it happened, is taken from the log.
func (w *world) operations(cs []*claim, reads []*read) []porcupine.Operation {
	var ops []porcupine.Operation
	id := 0
	add := func(s step, begin, end time.Time) {
		ops = append(ops, porcupine.Operation{ClientId: id, Input: s, Call: int64(begin.Sub(w.began)), Output: nil, Return: int64(end.Sub(w.began))})
		id++
	}
	for _, c := range cs {
		f := w.book.fate(c)
		if f == nil {
			continue
		}
		for _, g := range f.grants {
			w.addHold(c, g, add)
		}
		for _, a := range c.attempts {
			if a.op == opAcquire && a.err == nil && a.out.Code == locktable.Held && a.number == 0 && !c.ofSet && a.out.Holder != nil && a.out.Holder.Holders > 0 {
				add(step{kind: stepHeld}, a.sent, a.answered)
			}
		}
	}
	for _, r := range reads {
		switch {
		case len(r.expiring) > 0:
		case len(r.holders) == 0:
			add(step{kind: stepRead}, r.begin, r.end)
		default:
			add(step{stepRead, r.holders[0]}, r.begin, r.end)
		}
	}
	return ops
}

// history4 prints a history, for whoever has to find out what is wrong with it.
func history4(ops []porcupine.Operation) string {
	var b strings.Builder
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, o := range ops {
		s := o.Input.(step)
		fmt.Fprintf(&b, "\n    %-6s %4d from %.6f to %.6f", []string{"grant", "end", "held", "read"}[s.kind], s.token,
			time.Duration(o.Call).Seconds(), time.Duration(o.Return).Seconds())
	}
	return b.String()
}

// addHold adds the beginning and the end of a hold.
func (w *world) addHold(c *claim, g grant, add func(step, time.Time, time.Time)) {
	granted := g.at
	if g.token == c.token && !c.ack.IsZero() {
		for _, a := range c.attempts {
			if a.err == nil && a.out.Code == locktable.Granted && a.out.Token == g.token {
				granted = a.answered
				break
			}
		}
	}
	add(step{stepGrant, g.token}, c.first, granted)
	if g.end.IsZero() {
		return
	}
	begin, end := c.first, g.end
	switch {
	case g.how == locktable.EventExpired && g.token == c.token && !c.sent.IsZero() && c.released.IsZero():
		begin = c.sent.Add(c.until.Sub(c.sent)) // not before the belief has ended
	case (g.how == locktable.EventReleased || g.how == locktable.EventHandedOver) && g.token == c.token && !c.released.IsZero():
		begin = c.released
		if !c.gone.IsZero() && c.gone.After(end) {
			end = c.gone
		}
	}
	if begin.After(end) {
		begin = end
	}
	add(step{stepEnd, g.token}, begin, end)
}
