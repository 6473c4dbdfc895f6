package locktable

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// How the judge looks at sets and deadlocks: from the history alone.

// jKey is one lock of a key.
type jKey struct {
	key  Key
	lock string
}

// queued puts a key at the end of the queue, or behind the last place of its session in the same mode.
func (j *judge) queued(e Event) {
	q, at := j.queues[e.Lock], len(j.queues[e.Lock])
	session := j.sessionOf[e.Key]
	for i, k := range q {
		p := j.place[jKey{k, e.Lock}]
		if j.level >= 2 && session != "" && p.session == session && p.mode == e.Mode && e.Slots == 0 && e.Set == 0 {
			at = i + 1
		}
	}
	j.queues[e.Lock] = slices.Insert(slices.Clone(q), at, e.Key)
}

// holdOf returns one of the holds of a key, or nil.
func (j *judge) holdOf(k Key) *jHold {
	for x, h := range j.live {
		if x.key == k {
			return h
		}
	}
	return nil
}

// renewHolds notes the new deadline of all holds of a key.
func (j *judge) renewHolds(k Key, deadline Time) {
	for x, h := range j.live {
		if x.key == k {
			h.deadline = deadline
		}
	}
}

// allOrNothing checks that a set holds all its locks with one token, or waits for all of them, and that no other key is on two.
func (j *judge) allOrNothing() error {
	type state struct {
		held, waits, set int
		token            uint64
	}
	keys := map[Key]*state{}
	of := func(k Key, set int, token uint64) (*state, error) {
		s := keys[k]
		if s == nil {
			s = &state{set: set, token: token}
			keys[k] = s
		}
		if s.set != set || s.token != token {
			return nil, fmt.Errorf("the locks of a set differ: %d and %d names, tokens %d and %d", s.set, set, s.token, token)
		}
		return s, nil
	}
	for x, h := range j.live {
		s, err := of(x.key, h.set, h.token)
		if err != nil {
			return err
		}
		s.held++
	}
	for x, p := range j.place {
		s, err := of(x.key, p.set, 0)
		if err != nil {
			return err
		}
		s.waits++
	}
	for _, s := range keys {
		if s.held*s.waits != 0 || s.held+s.waits != max(1, s.set) {
			return fmt.Errorf("a set of %d locks holds %d and waits for %d", s.set, s.held, s.waits)
		}
	}
	return nil
}

// jClaim is a hold or place in what the judge plays on.
type jClaim struct {
	key    Key
	who    string
	lock   string
	mode   Mode
	slots  uint32
	set    int
	shared bool // in a shared session
	held   bool
}

// onLocks returns all holds of locks, and the places in the order of their queues.
func (j *judge) onLocks() []*jClaim {
	var out []*jClaim
	who := func(session string, k Key) string {
		if session == "" {
			return k.Reveal()
		}
		return session
	}
	for x, h := range j.live {
		if strings.HasPrefix(x.lock, jTaskMark) {
			continue
		}
		out = append(out, &jClaim{x.key, who(h.session, x.key), x.lock, h.mode, h.slots, h.set, h.session != "", true})
	}
	for _, lock := range slices.Sorted(maps.Keys(j.queues)) {
		if strings.HasPrefix(lock, jTaskMark) {
			continue
		}
		for _, k := range j.queues[lock] {
			p := j.place[jKey{k, lock}]
			out = append(out, &jClaim{k, who(p.session, k), lock, p.mode, p.slots, p.set, p.session != "", false})
		}
	}
	return out
}

// leftOver lets everybody go who waits for nothing, and grants what falls free, until nothing moves, and returns what is left.
func leftOver(cs []*jClaim) []*jClaim {
	for moved := true; moved; {
		moved = false
		waits := map[string]bool{}
		for _, c := range cs {
			waits[c.who] = waits[c.who] || !c.held
		}
		n := len(cs)
		cs = slices.DeleteFunc(cs, func(c *jClaim) bool { return !waits[c.who] })
		moved = len(cs) < n
		for _, c := range cs {
			if !c.held && canHave(cs, c) {
				give(cs, c)
				moved = true
			}
		}
	}
	return cs
}

// canHave tells whether c, on all its locks, is the first who waits and conflicts with no holder.
func canHave(cs []*jClaim, c *jClaim) bool {
	for _, x := range cs {
		if x.key != c.key || x.held {
			continue
		}
		holders, before := 0, false
		for _, y := range cs {
			switch {
			case y.lock != x.lock:
			case y == x:
				before = true
			case !y.held:
				if !before {
					return false
				}
			case x.slots == 0 && (x.mode == Exclusive || y.mode == Exclusive):
				return false
			default:
				holders++
			}
		}
		if x.slots > 0 && holders >= int(x.slots) {
			return false
		}
	}
	return true
}

// give makes c a holder on all its locks, and with it the places of its session there in the same mode.
func give(cs []*jClaim, c *jClaim) {
	for _, x := range cs {
		if x.key == c.key {
			x.held = true
			for _, y := range cs {
				if y.lock == x.lock && y.shared && y.who == x.who && y.mode == x.mode && y.slots == 0 && y.set == 0 {
					y.held = true
				}
			}
		}
	}
}

// progress checks that nobody waits for ever.
func (j *judge) progress() error {
	if j.level < 2 || j.late || !j.mayWaitForEver() {
		return nil
	}
	if left := leftOver(j.onLocks()); len(left) > 0 {
		return fmt.Errorf("%d claims wait for each other, one of them on %q", len(left), left[0].lock)
	}
	return nil
}

// mayWaitForEver is false if no shared session waits and has anything else: then nobody does.
func (j *judge) mayWaitForEver() bool {
	for _, p := range j.place {
		if p.session == "" {
			continue
		}
		n := 0
		for _, q := range j.place {
			if q.session == p.session {
				n++
			}
		}
		for _, h := range j.live {
			if h.session == p.session {
				n++
			}
		}
		if n > 1 {
			return true
		}
	}
	return false
}

// refused checks that a session that was refused would have waited for ever.
func (j *judge) refused(a *command.Acquire, o Outcome) error {
	j.deadlocks++
	if o.Cycle == nil || len(o.Cycle.Waits) == 0 {
		if a.GetRequest() > 0 {
			return nil // an old answer
		}
		return fmt.Errorf("a deadlock without a cycle")
	}
	key, _ := ParseKey(a.GetKey())
	cs := j.onLocks()
	members := a.GetSet()
	if members == nil {
		members = []*command.SetMember{{Name: a.GetName(), Mode: a.GetMode(), Slots: a.GetSlots()}}
	}
	for _, m := range members {
		if slices.ContainsFunc(cs, func(c *jClaim) bool { return a.GetSet() != nil && c.lock == m.GetName() && c.who == a.GetSession() }) {
			return nil // a set that names a lock of its own session
		}
		cs = append(cs, &jClaim{
			key: key, who: a.GetSession(), lock: m.GetName(), mode: m.GetMode(), slots: m.GetSlots(), set: len(a.GetSet()), shared: true,
		})
	}
	if !slices.ContainsFunc(leftOver(cs), func(c *jClaim) bool { return c.who == a.GetSession() }) {
		return fmt.Errorf("a deadlock that is none")
	}
	return nil
}
