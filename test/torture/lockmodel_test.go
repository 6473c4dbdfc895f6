//go:build linux

package torture

import (
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
)

// step is an op for the checker.
type step struct {
	kind  stepKind
	key   string
	token uint64 // what was told; 0: nothing
	order *order // of its lock
	what  string // for people
}

// order is what answers tell of the grants of one lock. Tokens grow with every grant, so they tell the order, too.
type order struct {
	tokens []uint64 // ascending
	owner  map[uint64]string
	sure   int // steps that have certainly happened
}

func (v *lives) order(lock string) *order {
	o := &order{owner: map[uint64]string{}}
	see := func(token uint64, l *life) {
		if l == nil || l.lock != lock || token == 0 {
			return
		}
		if _, known := o.owner[token]; !known {
			o.tokens = append(o.tokens, token)
		}
		o.owner[token] = l.key
	}
	for _, x := range v.locks[lock] {
		see(x.HolderToken, v.byOwner[x.HolderOwner])
		if x.fate() == done && x.Kind == acquire {
			see(x.Token, v.byKey[x.Key])
		}
	}
	slices.Sort(o.tokens)
	return o
}

// next is the grant behind the one with token last; 0 if there is none.
func (o *order) next(last uint64) (token uint64, key string) {
	i, found := slices.BinarySearch(o.tokens, last)
	if found {
		i++
	}
	if i == len(o.tokens) {
		return 0, ""
	}
	return o.tokens[i], o.owner[o.tokens[i]]
}

type stepKind int

const (
	granted    stepKind = iota // the key holds the lock now, or held it already
	refused                    // somebody else holds it
	kept                       // a renewal
	freed                      // a release
	notMine                    // the key does not hold the lock
	settled                    // after this, the key does not hold the lock, whether it did before or not
	seenHeld                   // a read
	seenFree                   // a read
	maybe                      // acquires without an answer
	maybeFreed                 // a release or an end of a session without an answer, an expiry
	taken                      // a lost grant taken back
)

// optional tells whether the step need not happen.
func (s *step) optional() bool { return s.kind >= maybe }

// lockState is the state of one lock, as far as clients can know it.
type lockState struct {
	holder string
	last   uint64 // the token of the newest grant
	// The holder was not told, so that its grant may be taken back.
	untold bool
	done   int // sure steps so far
}

func (s lockState) free() lockState { return lockState{last: s.last, done: s.done} }

// model is what a lock does.
var model = porcupine.Model{
	Init: func() any { return lockState{} },
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
		return fmt.Sprintf("%.6s token %d", s.holder, s.last)
	},
}

// next tells whether q can happen now, and what comes of it.
func (s lockState) next(q *step) (bool, any) {
	mine := s.holder == q.key && s.holder != ""
	if q.optional() {
		return s.perhaps(q, mine)
	}
	s.done++
	switch q.kind {
	case granted:
		if mine && s.last == q.token {
			s.untold = false
			return true, s
		}
		token, _ := q.order.next(s.last)
		return s.holder == "" && token == q.token, lockState{holder: q.key, last: q.token, done: s.done}
	case refused:
		return s.holder != "" && !mine, s
	case kept:
		s.untold = false
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
	case seenHeld:
		return mine && (q.token == 0 || q.token == s.last), s
	case seenFree:
		return s.holder == "", s
	}
	panic("a step without a meaning")
}

// perhaps is next for what need not happen: without an effect it happens in the end.
func (s lockState) perhaps(q *step, mine bool) (bool, any) {
	token, key := q.order.next(s.last)
	switch {
	case q.kind == maybe && s.holder == "" && key == q.key:
		return true, lockState{holder: q.key, last: token, untold: true, done: s.done}
	case q.kind == maybeFreed && mine, q.kind == taken && mine && s.untold:
		return true, s.free()
	}
	return s.done == q.order.sure, s
}
