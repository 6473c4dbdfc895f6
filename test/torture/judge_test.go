//go:build linux

package torture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// verdict collects what is wrong with a history.
type verdict struct{ wrong []string }

func (v *verdict) add(property, format string, args ...any) {
	v.wrong = append(v.wrong, property+": "+fmt.Sprintf(format, args...))
}

// Answers say their times to the nanosecond, but a float of seconds holds somewhat less.
const rounding = int64(time.Microsecond)

// judge applies all judges but the linearizability checker. The names are those of the properties in docs/testing.md.
func judge(h *history) []string {
	v := &verdict{}
	known := study(h.ops)
	judgeExclusion(known, v)
	judgeLosses(known, v)
	judgeTokens(h.ops, known, v)
	judgeSameGrant(known, v)
	judgeOrder(known, v)
	judgeReads(known, v)
	judgeHolders(h.ops, known, v)
	judgeLeases(h.ops, v)
	judgeAnswers(h, v)
	return v.wrong
}

func (o *op) String() string {
	s := fmt.Sprintf("%s %s by %s at %s (%s to %s)", o.Kind, o.Lock, cmp.Or(o.Owner, o.Client), o.Node, at(o.Call), at(o.Return))
	switch {
	case o.Replay:
		s = "replayed " + s
	case o.Err != "":
		s += ": " + o.Err
	}
	return fmt.Sprintf("%s: %d %s token %d", s, o.Status, o.Code, o.Token)
}

// judgeExclusion (S2, S5): nobody was granted a lock while its holder could believe in it. Tokens tell the order of the grants.
func judgeExclusion(known *lives, v *verdict) {
	perLock := map[string][]*life{}
	for _, l := range known.byKey {
		if l.token() != 0 {
			perLock[l.lock] = append(perLock[l.lock], l)
		}
	}
	for lock, list := range perLock {
		slices.SortFunc(list, func(a, b *life) int { return cmp.Compare(a.token(), b.token()) })
		var next *life // of those granted later, the one that was first told
		for i := len(list) - 1; i >= 0; i-- {
			l := list[i]
			if next != nil && next.granted[0].Return < l.end() {
				v.add("S2", "%s: token %d was told at %s, while the holder of token %d (%s) could believe in it until %s",
					lock, next.token(), at(next.granted[0].Return), l.token(), l.owner, at(l.end()))
			}
			if next == nil || l.granted[0].Return < next.granted[0].Return {
				next = l
			}
		}
	}
}

// judgeLosses (S5, S6, S7): nobody was told that its hold is gone before its time. What was answered is true: not even a
// release that was asked for and never answered explains it if it was sent later.
func judgeLosses(known *lives, v *verdict) {
	for _, ops := range known.locks {
		for _, o := range ops {
			l := known.byKey[o.Key]
			lost := o.refusedAs("not_held") || o.refusedAs("key_spent") || o.refusedAs("no_session")
			if l == nil || !lost || len(l.granted) == 0 || o.Call < l.granted[0].Return {
				continue
			}
			if o.Return < min(l.until, l.leaving) {
				v.add("S5", "the hold was to last until %s, and was lost before: %v", at(l.until), o)
			}
		}
	}
}

// judgeTokens (S3): tokens grow in the order of the grants, over all locks, and none is given out twice.
func judgeTokens(ops []*op, known *lives, v *verdict) {
	var grants []*op
	owners := map[uint64]string{}
	for _, l := range known.byKey {
		for _, g := range l.granted {
			if other, ok := owners[g.Token]; ok && other != l.key {
				v.add("S3", "token %d was given out twice, the second time by %v", g.Token, g)
			}
			owners[g.Token] = l.key
		}
		if len(l.granted) > 0 {
			grants = append(grants, l.granted[0])
		}
	}
	told := slices.Clone(grants)
	slices.SortFunc(grants, func(a, b *op) int { return cmp.Compare(a.Call, b.Call) })
	slices.SortFunc(told, func(a, b *op) int { return cmp.Compare(a.Return, b.Return) })
	highest, i := uint64(0), 0
	firstAsked := func(o *op) int64 { return known.byKey[o.Key].asked[0].Call }
	slices.SortFunc(grants, func(a, b *op) int { return cmp.Compare(firstAsked(a), firstAsked(b)) })
	for _, g := range grants {
		for ; i < len(told) && told[i].Return < firstAsked(g); i++ {
			highest = max(highest, told[i].Token)
		}
		if g.Token <= highest {
			v.add("S3", "token %d had been told before: %v", highest, g)
		}
	}
	for _, o := range ops {
		if o.Token >= 1<<53 {
			v.add("S3", "the token is too large: %v", o)
		}
	}
}

// judgeSameGrant (S10): once a client was told of a grant, every repetition tells of the same, and when it has ended, of none.
func judgeSameGrant(known *lives, v *verdict) {
	for _, l := range known.byKey {
		if len(l.granted) == 0 {
			continue
		}
		first := l.granted[0]
		for _, g := range l.granted[1:] {
			if g.Token != first.Token && g.Return > first.Return && g.Call > first.Return {
				v.add("S10", "the same key had token %d before: %v", first.Token, g)
			}
			if g.Call > l.left {
				v.add("S10", "the key had been released before: %v", g)
			}
		}
	}
}

// judgeOrder (S8): who was seen in a queue is granted before everybody who asked later.
func judgeOrder(known *lives, v *verdict) {
	for lock, ops := range known.locks {
		seen := map[*life]int64{} // when first seen waiting
		var asked []*life
		for _, o := range ops {
			if o.Kind == read && o.fate() == done {
				for _, owner := range o.Queue {
					if l := known.byOwner[owner]; l != nil && (seen[l] == 0 || o.Return < seen[l]) {
						seen[l] = o.Return
					}
				}
			}
			if l := known.byKey[o.Key]; l != nil && o.Kind == acquire && l.asked[0] == o && l.token() != 0 {
				asked = append(asked, l)
			}
		}
		for w, when := range seen {
			if w.uncertain || len(w.asked) != 1 || w.token() == 0 || w.asked[0].Call > when || anotherPlace(w.asked[0], when) {
				continue
			}
			for _, later := range asked {
				if later.asked[0].Call > when && later.token() < w.token() {
					v.add("S8", "%s: %s asked at %s and has token %d; %s was seen waiting at %s and has token %d",
						lock, later.owner, at(later.asked[0].Call), later.token(), w.owner, at(when), w.token())
				}
			}
		}
	}
}

// anotherPlace tells whether the grant of o came from a later place than the one that was seen: the wait of that had run out, and a
// node that did not know asked again.
func anotherPlace(o *op, seen int64) bool {
	began := o.Return - int64(o.Waited*1e9)
	return o.Waited > 0 && began > seen && began >= o.Call+int64(o.Wait*1e9)
}

// judgeReads (S13): a read sees whoever could believe in a hold all the while.
func judgeReads(known *lives, v *verdict) {
	for lock, ops := range known.locks {
		var reads []*op
		for _, o := range ops {
			if o.Kind == read && o.fate() == done {
				reads = append(reads, o)
			}
		}
		for _, o := range ops {
			l := known.byKey[o.Key]
			if l == nil || len(l.granted) == 0 || l.granted[0] != o {
				continue
			}
			for _, r := range reads {
				if r.Call > o.Return && r.Return < l.end() && r.HolderToken != o.Token {
					v.add("S13", "%s was held with token %d by %s from %s to %s: %v saw held %v, token %d",
						lock, o.Token, l.owner, at(o.Return), at(l.end()), r, r.Held, r.HolderToken)
				}
			}
		}
	}
}

// judgeHolders (S15): who is shown as a holder has asked for the lock before, and was not told each time that nothing was done.
func judgeHolders(ops []*op, known *lives, v *verdict) {
	for _, o := range ops {
		l := known.byOwner[o.HolderOwner]
		if l == nil {
			continue
		}
		explained := slices.ContainsFunc(l.asked, func(a *op) bool {
			return a.Call < o.Return && (a.fate() == done || a.mayHaveBrought())
		})
		if !explained {
			v.add("S15", "%s was told that nothing was done for it, and yet: %v shows it with token %d", l.owner, o, o.HolderToken)
		}
	}
}

// judgeLeases (S6): what an answer says of the time that is left is what was asked for, less at most the time that the answer
// took.
func judgeLeases(ops []*op, v *verdict) {
	for _, o := range ops {
		if o.fate() != done || o.TTL == 0 || o.Session != "" && o.Kind == acquire {
			continue
		}
		ttl := int64(o.TTL * 1e9)
		left := int64(o.Expires * 1e9)
		if left > ttl+rounding {
			v.add("S6", "%d ns are left of %d: %v", left, ttl, o)
		}
	}
}

// judgeAnswers (L1, S15): every request to a node that was well got an answer in time, and none that makes no sense.
func judgeAnswers(h *history, v *verdict) {
	bad := impairments(h.events)
	for _, o := range h.ops {
		switch {
		case o.Status == 500, strings.HasPrefix(o.Err, "not JSON"), o.Status != 0 && o.Status < 429 && !sensible[o.Code]:
			v.add("S15", "an answer that should not be: %v", o)
		case strings.Contains(o.Err, "deadline exceeded") && !o.Replay && o.Return-o.Call >= int64(answerWithin) && !overlaps(bad[o.Node], o.Call, o.Return):
			v.add("L1", "no answer within %v of the wait of %v s, although the node was up and clients could reach it: %v", answerWithin, o.Wait, o)
		}
	}
}

// sensible are the refusals that a right client can get.
var sensible = map[string]bool{
	"": true, "held": true, "cancelled": true, "key_spent": true, "not_held": true, "no_session": true, "request_too_old": true,
}

type span struct{ from, to int64 }

// impairments are the times during which clients could not count on answers of a node.
func impairments(events []event) map[string][]span {
	spans, open, since := map[string][]span{}, map[string]int{}, map[string]int64{}
	for _, e := range events {
		switch {
		case e.Impairs == nil:
		case *e.Impairs:
			if open[e.Node]++; open[e.Node] == 1 {
				since[e.Node] = e.At
			}
		default:
			if open[e.Node]--; open[e.Node] == 0 {
				spans[e.Node] = append(spans[e.Node], span{since[e.Node], e.At})
			}
		}
	}
	for node, n := range open {
		if n > 0 {
			spans[node] = append(spans[node], span{since[node], never})
		}
	}
	return spans
}

func overlaps(spans []span, from, to int64) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.from < to && from < s.to })
}
