//go:build linux

package torture

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// The linearizability checker looks at each lock alone. To what clients did come things that the servers may do by themselves:
// a hold expires, not before its client was told; an acquire whose answer was lost is taken back. These, and requests without
// an answer, may take effect at any later time, or never. So that the number of orders does not explode, those that have no
// effect come after everything that was answered, and of several that would have the same effect there is one.

// linearBudget is how long the checker may think about one lock. Running out of it is a failure.
const linearBudget = 20 * time.Second

// steps turns what is known about a lock into steps. Keys that may have held the lock, but that no answer has ever shown, are
// left out: every refusal names the holder, so that a hold of theirs explains nothing.
func (v *lives) steps(lock string) []porcupine.Operation {
	var all []porcupine.Operation
	clients := map[string]int{}
	add := func(client string, call, ret int64, q *step) {
		if _, ok := clients[client]; !ok {
			clients[client] = len(clients)
		}
		all = append(all, porcupine.Operation{ClientId: clients[client], Input: q, Call: call, Return: ret})
	}
	order := v.order(lock)
	shown, hidden := v.shown(lock, order)
	numbers := firstOfNumbers(v.locks[lock])
	for _, o := range v.locks[lock] {
		if o.Key != "" && o.fate() == unknown {
			continue // see unsure
		}
		q := &step{key: o.Key, token: o.Token, order: order, what: o.String()}
		call := o.Call
		if x := numbers[numbered{o.Session, o.Number}]; x != nil && o.Kind == release {
			if x.answer != nil && x.answer != o {
				continue // told again, or about to be
			}
			call = x.call
		} else if x != nil && o.fate() == undone {
			call = x.call // it may be told again what was true then
		}
		if ret, ok := v.step(o, q, hidden); ok {
			order.sure++
			add(o.Client, call, ret, q)
		}
	}
	for key := range shown {
		v.unsure(v.byKey[key], order, add)
	}
	slices.SortFunc(all, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	return all
}

// numbered names a request that is done once, however often it comes.
type numbered struct {
	session string
	number  uint64
}

// numberedOps are all ops of one number.
type numberedOps struct {
	call   int64 // of the first
	answer *op   // the first that was certain
}

func firstOfNumbers(ops []*op) map[numbered]*numberedOps {
	all := map[numbered]*numberedOps{}
	for _, o := range ops {
		if o.Number == 0 {
			continue
		}
		n := numbered{o.Session, o.Number}
		x := all[n]
		if x == nil {
			x = &numberedOps{call: o.Call}
			all[n] = x
		}
		x.call = min(x.call, o.Call)
		if o.fate() != unknown && o.Status != 0 && o.Status < 429 && (x.answer == nil || o.Return < x.answer.Return) {
			x.answer = o
		}
	}
	return all
}

// shown are the keys that some answer shows as a holder. hidden tells whether there are others that may have held the lock.
func (v *lives) shown(lock string, order *order) (shown map[string]bool, hidden bool) {
	shown = map[string]bool{}
	for _, key := range order.owner {
		shown[key] = true
	}
	for _, o := range v.locks[lock] {
		hidden = hidden || o.mayHaveBrought() && !shown[o.Key]
	}
	return shown, hidden
}

// step fills in q for o; false: o says nothing. ret is when its effect is over for certain.
func (v *lives) step(o *op, q *step, hidden bool) (ret int64, ok bool) {
	f := o.fate()
	switch {
	case o.Kind == acquire && f == done:
		q.kind = granted
	case o.Kind == acquire && o.refusedAs("held"):
		return o.Return, v.refusal(o, q, hidden)
	case o.Kind == renew && f == done:
		q.kind = kept
	case o.Kind == release && f == done:
		q.kind = freed
		if l := v.byKey[o.Key]; l.uncertain && len(l.granted) == 0 {
			q.kind = settled // perhaps it was a place, or a hold that no other answer shows
		}
	case o.refusedAs("not_held"), o.refusedAs("key_spent"), o.refusedAs("no_session") && o.Key != "":
		q.kind = notMine
	case o.Kind == read && f == done && o.Held:
		l := v.byOwner[o.HolderOwner]
		if l == nil {
			return 0, false
		}
		q.kind, q.key, q.token = seenHeld, l.key, o.HolderToken
	case o.Kind == read && f == done:
		q.kind = seenFree
	default:
		return 0, false
	}
	return o.Return, true
}

// refusal fills in q for a refusal because somebody else holds the lock. That of a try names the holder; others may name one
// that came later, and say only that there is one.
func (v *lives) refusal(o *op, q *step, hidden bool) bool {
	l := v.byOwner[o.HolderOwner]
	switch {
	case o.Session == "" && o.Wait == 0 && l != nil:
		q.kind, q.key, q.token = seenHeld, l.key, o.HolderToken
		return l.key != o.Key
	case hidden:
		return false
	}
	q.kind, q.token = refused, 0
	return true
}

// unsure adds what may have happened with a key: acquires without an answer, as many as there are grants of the key; that they
// were taken back; and one end of the hold, by a release without an answer, by the end of its session, or by expiry.
func (v *lives) unsure(l *life, order *order, add func(client string, call, ret int64, q *step)) {
	perhaps := func(kind stepKind, call int64, what string) {
		add("server", call, never, &step{kind: kind, key: l.key, order: order, what: what + l.owner})
	}
	grants := 0
	for _, key := range order.owner {
		if key == l.key {
			grants++
		}
	}
	first := l.firstUnanswered()
	for range grants {
		if first != never {
			perhaps(maybe, first, "perhaps granted: ")
		}
	}
	if first != never && (grants > 1 || len(l.granted) == 0) {
		for range grants {
			perhaps(taken, first, "perhaps taken back: ")
		}
	}
	from := l.until
	if from == 0 {
		from = l.asked[0].Call + int64(l.asked[0].TTL*1e9)
	}
	from = min(max(from, v.sessionUntil(l.session)), l.unansweredRelease)
	if s := v.sessions[l.session]; s != nil {
		for _, o := range s.ends {
			switch o.fate() {
			case done:
				order.sure++
				add("server", o.Call, o.Return, &step{kind: settled, key: l.key, order: order, what: "end of its session: " + l.owner})
			case unknown:
				from = min(from, o.Call)
			case undone:
			}
		}
	}
	perhaps(maybeFreed, from, "perhaps ended: ")
}

func (v *lives) sessionUntil(id string) int64 {
	if s := v.sessions[id]; s != nil {
		return s.until
	}
	return 0
}

// mayHaveBrought tells whether the acquire may have brought a hold, although its answer does not say so. Servers repeat among
// each other what was not answered, and by then what the first copy has brought may have ended.
func (o *op) mayHaveBrought() bool {
	return o.Kind == acquire && (o.fate() == unknown || o.refusedAs("key_spent") || o.refusedAs("no_session"))
}

// firstUnanswered is when the first acquire was sent that may have been the one that brought the hold, although no answer
// says so; never if there is none.
func (l *life) firstUnanswered() int64 {
	for _, o := range l.asked {
		if o.mayHaveBrought() && (len(l.granted) == 0 || o.Call < l.granted[0].Return) {
			return o.Call
		}
	}
	return never
}

// linearity is the outcome of the checker.
type linearity struct {
	locks, ops, most int
	wrong            []string
	longest          time.Duration
	slow             []string // locks that took long
}

// judgeLinearity (S1, S4, S7, S13, S15) checks every lock of the history, two at a time.
func judgeLinearity(h *history) *linearity {
	known := study(h.ops)
	res := &linearity{}
	names := make([]string, 0, len(known.locks))
	for name := range known.locks {
		names = append(names, name)
	}
	slices.Sort(names)
	var mu sync.Mutex // guards res
	var next atomic.Int64
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(names); i = int(next.Add(1)) - 1 {
				all := known.steps(names[i])
				start := time.Now()
				got := porcupine.CheckOperationsTimeout(model, all, linearBudget)
				mu.Lock()
				res.count(names[i], all, got, time.Since(start))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return res
}

func (l *linearity) count(lock string, all []porcupine.Operation, got porcupine.CheckResult, took time.Duration) {
	n := len(all)
	l.locks++
	l.ops += n
	l.most = max(l.most, n)
	if l.longest = max(l.longest, took); took > linearBudget/10 {
		l.slow = append(l.slow, fmt.Sprintf("%s: %v for %d steps", lock, took.Round(time.Second), n))
	}
	switch got {
	case porcupine.Ok:
	case porcupine.Illegal:
		l.wrong = append(l.wrong, fmt.Sprintf("linearizability: %s: no order explains its %d steps; the longest that makes sense ends with%s", lock, n, explain(all)))
	default:
		l.wrong = append(l.wrong, fmt.Sprintf("linearizability: %s: the checker did not get through its %d steps within %v", lock, n, linearBudget))
	}
}
