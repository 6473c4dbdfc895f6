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
// an answer, may take effect at any later time, or never: then they come after everything else, in a state in which nothing
// but such things can happen. (Without that restriction the number of orders explodes.)

// linearBudget is how long the checker may think about one lock. Running out of it is a failure.
const linearBudget = 60 * time.Second

// step is an op for the checker.
type step struct {
	kind    stepKind
	key     string
	attempt int    // of an acquire: which; of a withdrawal: of which
	token   uint64 // what was told; 0: nothing
	what    string // for people
}

type stepKind int

const (
	granted     stepKind = iota // the key holds the lock now, or held it already
	refused                     // somebody else holds it
	maybe                       // an acquire that nothing is known about
	kept                        // a renewal
	freed                       // a release
	notMine                     // the key does not hold the lock
	settled                     // after this, the key does not hold the lock, whether it did before or not
	maybeFreed                  // a release or an end of a session that nothing is known about, an expiry
	taken                       // a lost grant taken back
	seenHeld                    // a read
	seenFree                    // a read
)

// optional tells whether the step need not happen.
func (s *step) optional() bool { return s.kind == maybe || s.kind == maybeFreed || s.kind == taken }

// lockState is the state of one lock, as far as clients can know it.
type lockState struct {
	holder  string
	token   uint64 // 0: not known yet
	last    uint64 // the highest token known so far
	attempt int    // whose acquire counts, and may be taken back; -1: none
	over    bool   // nothing happens any more
}

func (s lockState) free() lockState { return lockState{last: s.last, attempt: -1, over: s.over} }

// model is what a lock does.
var model = porcupine.Model{
	Init: func() any { return lockState{attempt: -1} },
	Step: func(state, input, _ any) (bool, any) {
		s, _ := state.(lockState)
		q, _ := input.(*step)
		return s.next(q)
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, _ any) string {
		q, _ := input.(*step)
		return q.what
	},
	DescribeState: func(state any) string {
		s, _ := state.(lockState)
		return fmt.Sprintf("%.6s token %d", s.holder, s.token)
	},
}

// next tells whether q can happen now, and what comes of it.
func (s lockState) next(q *step) (bool, any) {
	if s.over && !q.optional() {
		return false, s
	}
	mine := s.holder == q.key && s.holder != ""
	switch q.kind {
	case granted:
		return s.grant(q, mine)
	case maybe:
		if s.holder == "" && !s.over {
			return true, lockState{holder: q.key, last: s.last, attempt: q.attempt}
		}
		if mine && s.attempt != -1 && !s.over {
			s.attempt = -1
			return true, s
		}
	case refused:
		return s.sees(q, s.holder != "" && !mine)
	case kept:
		s.attempt = -1
		return mine, s
	case freed:
		return mine, s.free()
	case notMine:
		return !mine, s
	case settled:
		if mine {
			s = s.free()
		}
		return true, s
	case maybeFreed:
		if mine && !s.over {
			return true, s.free()
		}
	case taken:
		if mine && s.attempt == q.attempt && !s.over {
			return true, s.free()
		}
	case seenHeld:
		return s.sees(q, mine)
	case seenFree:
		return s.holder == "", s
	}
	s.over = true
	return true, s
}

// grant is a grant that a client was told of: a new one, or the one that it has.
func (s lockState) grant(q *step, mine bool) (bool, any) {
	switch {
	case s.holder == "" && q.token > s.last:
		return true, lockState{holder: q.key, token: q.token, last: q.token, attempt: q.attempt}
	case mine && s.token == q.token:
		s.attempt = -1
		return true, s
	case mine && s.token == 0 && q.token > s.last:
		s.attempt, s.token, s.last = -1, q.token, q.token
		return true, s
	}
	return false, s
}

// sees is an answer that tells the holder's token.
func (s lockState) sees(q *step, right bool) (bool, any) {
	switch {
	case !right || q.token != 0 && s.token != 0 && s.token != q.token:
		return false, s
	case q.token != 0 && s.token == 0:
		if q.token <= s.last {
			return false, s
		}
		s.token, s.last = q.token, q.token
	}
	return true, s
}

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
	shown, hidden := v.shown(lock)
	numbers := firstOfNumbers(v.locks[lock])
	for n, o := range v.locks[lock] {
		if o.Key != "" && !shown[o.Key] && o.fate() == unknown {
			continue
		}
		if l := v.byKey[o.Key]; l != nil && o.Kind == acquire && o.fate() == unknown && len(l.granted) > 0 && o.Call > l.granted[0].Return {
			continue // it finds the hold, or its end
		}
		q := &step{key: o.Key, attempt: n, token: o.Token, what: o.String()}
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
			add(o.Client, call, ret, q)
		}
		if o.Kind == acquire && o.fate() == unknown {
			add("server", o.Call, never, &step{kind: taken, key: o.Key, attempt: n, what: "taken back: " + o.String()})
		}
	}
	for key := range shown {
		v.endings(key, v.byKey[key], add)
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
func (v *lives) shown(lock string) (shown map[string]bool, hidden bool) {
	shown = map[string]bool{}
	for _, o := range v.locks[lock] {
		if o.fate() == done && o.Key != "" {
			shown[o.Key] = true
		}
		if l := v.byOwner[o.HolderOwner]; l != nil && l.lock == lock {
			shown[l.key] = true
		}
	}
	for _, o := range v.locks[lock] {
		hidden = hidden || o.Kind == acquire && o.fate() == unknown && !shown[o.Key]
	}
	return shown, hidden
}

// step fills in q for o; false: o says nothing. ret is when its effect is over for certain.
func (v *lives) step(o *op, q *step, hidden bool) (ret int64, ok bool) {
	f := o.fate()
	if f == unknown && (o.Kind == acquire || o.Kind == release) {
		q.kind = map[string]stepKind{acquire: maybe, release: maybeFreed}[o.Kind]
		return never, true
	}
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
			q.kind = settled // perhaps it was a place
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

// endings are what may end the hold of a key besides its releases.
func (v *lives) endings(key string, l *life, add func(client string, call, ret int64, q *step)) {
	from := l.until
	if from == 0 {
		from = l.asked[0].Call + int64(l.asked[0].TTL*1e9)
	}
	s := v.sessions[l.session]
	if s != nil {
		from = max(from, s.until)
		for _, o := range s.ends {
			what := "end of its session: " + o.String()
			switch o.fate() {
			case done:
				add("server", o.Call, o.Return, &step{kind: settled, key: key, what: what})
			case unknown:
				add("server", o.Call, never, &step{kind: maybeFreed, key: key, what: what})
			case undone:
			}
		}
	}
	if l.left < from && !l.uncertain {
		return
	}
	add("server", from, never, &step{kind: maybeFreed, key: key, what: "expiry of " + l.owner})
}

// linearity is the outcome of the checker.
type linearity struct {
	locks, ops, most int
	wrong            []string
	longest          time.Duration
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
				res.count(names[i], len(all), got, time.Since(start))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return res
}

func (l *linearity) count(lock string, n int, got porcupine.CheckResult, took time.Duration) {
	l.locks++
	l.ops += n
	l.most = max(l.most, n)
	l.longest = max(l.longest, took)
	switch got {
	case porcupine.Ok:
	case porcupine.Illegal:
		l.wrong = append(l.wrong, fmt.Sprintf("linearizability: %s: no order explains its %d steps", lock, n))
	default:
		l.wrong = append(l.wrong, fmt.Sprintf("linearizability: %s: the checker did not get through its %d steps within %v", lock, n, linearBudget))
	}
}
