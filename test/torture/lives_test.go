//go:build linux

package torture

import (
	"cmp"
	"math"
	"slices"
)

// life is all that is known of one key: what was asked with it, and what for certain came of it.
type life struct {
	lock, key, owner, session string
	asked                     []*op // acquires, in the order in which they were sent
	granted                   []*op // those that were answered with a grant, in the order of the answers
	// The last moment up to which a client was told that it holds; 0: it never was.
	until int64
	// When a release of the key, or the end of its session, was first sent and first acknowledged; never if not.
	leaving, left int64
	// When the first release was sent that was never answered.
	unansweredRelease int64
	uncertain         bool // an acquire was not answered, or sent again by the meddler
}

const never = math.MaxInt64

// lives are the keys of a history, and its sessions.
type lives struct {
	byKey    map[string]*life
	byOwner  map[string]*life
	sessions map[string]*sessionLife
	locks    map[string][]*op // ops about each lock
}

type sessionLife struct {
	until         int64
	leaving, left int64
	ends          []*op
}

// study sorts the ops of a history by whom they concern.
func study(ops []*op) *lives {
	v := &lives{byKey: map[string]*life{}, byOwner: map[string]*life{}, sessions: map[string]*sessionLife{}, locks: map[string][]*op{}}
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b *op) int { return cmp.Compare(a.Call, b.Call) })
	for _, o := range ops {
		v.session(o)
		if o.Lock != "" {
			v.locks[o.Lock] = append(v.locks[o.Lock], o)
		}
		if o.Key != "" {
			v.key(o)
		}
	}
	for _, l := range v.byKey {
		slices.SortFunc(l.granted, func(a, b *op) int { return cmp.Compare(a.Return, b.Return) })
		if s := v.sessions[l.session]; s != nil && len(l.granted) > 0 {
			l.until = max(l.until, s.until)
			l.leaving, l.left = min(l.leaving, s.leaving), min(l.left, s.left)
		}
	}
	return v
}

func (o *op) believed() int64 { return o.Call + int64(o.Expires*1e9) }

func (v *lives) session(o *op) {
	if o.Session == "" {
		return
	}
	s := v.sessions[o.Session]
	if s == nil {
		s = &sessionLife{leaving: never, left: never}
		v.sessions[o.Session] = s
	}
	switch {
	case o.Kind == endSession:
		s.ends = append(s.ends, o)
		if o.fate() != undone {
			s.leaving = min(s.leaving, o.Call)
		}
		if o.fate() == done {
			s.left = min(s.left, o.Return)
		}
	case o.fate() == done && o.Expires > 0:
		s.until = max(s.until, o.believed())
	}
}

func (v *lives) key(o *op) {
	l := v.byKey[o.Key]
	if l == nil {
		l = &life{lock: o.Lock, key: o.Key, owner: o.Owner, session: o.Session, leaving: never, left: never, unansweredRelease: never}
		v.byKey[o.Key], v.byOwner[o.Owner] = l, l
	}
	switch f := o.fate(); {
	case o.Kind == acquire:
		l.asked = append(l.asked, o)
		l.uncertain = l.uncertain || f == unknown || o.Replay
		if f == done {
			l.granted = append(l.granted, o)
		}
	case o.Kind == release && f != undone:
		l.leaving = min(l.leaving, o.Call)
		if f == done {
			l.left = min(l.left, o.Return)
		} else {
			l.unansweredRelease = min(l.unansweredRelease, o.Call)
		}
	}
	if o.fate() == done && o.Expires > 0 {
		l.until = max(l.until, o.believed())
	}
}

// token is the token of the first acknowledged grant, or 0.
func (l *life) token() uint64 {
	if len(l.granted) == 0 {
		return 0
	}
	return l.granted[0].Token
}

// end is the moment up to which nobody else may have the lock: to which the client was told that it holds, unless it began to
// give the lock up before.
func (l *life) end() int64 { return min(l.until, l.leaving) }
