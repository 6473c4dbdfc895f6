package simulation

import (
	"slices"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// namesOf returns the locks that a asks for.
func namesOf(a *command.Acquire) []string {
	if len(a.GetSet()) == 0 {
		return []string{a.GetName()}
	}
	var names []string
	for _, m := range a.GetSet() {
		names = append(names, m.GetName())
	}
	return names
}

// renewed4 notes a renewal, and judges that one whose hold was broken is told so. b.mu is held.
func (b *book) renewed4(i int, key string, l *logged, o locktable.Outcome) {
	for _, f := range b.byKey[key] {
		if o.Code == locktable.Renewed {
			f.extended, f.extendedIx, f.ttl = l.at, i, o.TTL
		}
		if n := len(f.grants); n > 0 && f.grants[n-1].how == locktable.EventBroken && f.grants[n-1].end.Before(l.at) {
			b.world.count.add("renewals of broken holds", 1)
			if o.Code != locktable.Broken {
				b.world.violated("S5", "entry %d answers the renewal of a broken hold of %s with code %d", b.entries[i].index, f.lock, o.Code)
			}
		}
	}
}

// withPlace adds a place at the end, or behind the last one of its session.
func (b *book) withPlace(queue []string, f *fate4key) []string {
	at := len(queue)
	for k, key := range queue {
		if o := b.keys[claimed{key, f.lock}]; f.session != "" && o != nil && o.session == f.session {
			at = k + 1
		}
	}
	return slices.Insert(queue, at, f.key)
}

// together tells whether the grant is the same as that of another lock of the set.
func (b *book) together(f *fate4key, e locktable.Event) bool {
	return e.Set > 1 && slices.ContainsFunc(b.byKey[f.key], func(o *fate4key) bool {
		g := o.live()
		return o != f && g != nil && g.token == e.Token && g.clock == b.clock
	})
}

// judgeSets judges that a key holds all locks of its set with one token, or none, and waits in all queues or in none.
func (b *book) judgeSets(i int, events []locktable.Event) {
	done := map[string]bool{}
	for _, e := range events {
		key := e.Key.Reveal()
		if e.Set < 2 || done[key] || e.Kind == locktable.EventSuperseded {
			continue
		}
		done[key] = true
		held, waiting, tokens := 0, 0, map[uint64]bool{}
		for _, f := range b.byKey[key] {
			if g := f.live(); g != nil {
				held++
				tokens[g.token] = true
			}
			if slices.Contains(b.queues[f.lock], key) {
				waiting++
			}
		}
		all := len(b.byKey[key])
		if held != 0 && held != all || waiting != 0 && waiting != all || held > 0 && waiting > 0 || len(tokens) > 1 || all != e.Set {
			b.world.violated("S4", "entry %d leaves a set of %d with %d holds, %d places and %d tokens", b.entries[i].index, e.Set,
				held, waiting, len(tokens))
		}
		switch {
		case e.Kind == locktable.EventGranted && e.Waited > 0:
			b.world.count.add("sets granted from the queue", 1)
		case e.Kind == locktable.EventGranted:
			b.world.count.add("sets granted at once", 1)
		}
	}
}

// judgeWaits judges that nobody who has joined a queue waits for itself, since level 2. Only locks that are always used
// exclusively count.
func (b *book) judgeWaits(i int, events []locktable.Event) {
	if b.table.Level() < 2 {
		return
	}
	for _, e := range events {
		f := b.keys[claimed{e.Key.Reveal(), e.Lock}]
		if e.Kind != locktable.EventQueued || f == nil || f.session == "" {
			continue
		}
		if b.reaches(f.session, f.session, map[string]bool{}) {
			b.world.violated("L1", "entry %d lets session %s wait for itself", b.entries[i].index, f.session)
		}
	}
}

// reaches tells whether session waits for to, by way of whomever.
func (b *book) reaches(session, to string, seen map[string]bool) bool {
	for _, f := range b.bySession[session] {
		queue := b.queues[f.lock]
		place := slices.Index(queue, f.key)
		if place < 0 || f.lock[0] == 'r' || f.lock[0] == 's' {
			continue
		}
		for _, o := range b.inTheWay(f.lock, queue[:place]) {
			if o.session == "" || o.session == session {
				continue
			}
			if o.session == to {
				return true
			}
			if !seen[o.session] {
				seen[o.session] = true
				if b.reaches(o.session, to, seen) {
					return true
				}
			}
		}
	}
	return false
}

// inTheWay returns who holds the lock, and those in front.
func (b *book) inTheWay(lock string, front []string) (who []*fate4key) {
	for _, key := range front {
		if o := b.keys[claimed{key, lock}]; o != nil {
			who = append(who, o)
		}
	}
	return append(who, b.holders[lock]...)
}

// judgeBreaks judges that holds are broken by order only, and none with a later token than the order named.
func (b *book) judgeBreaks(i int, cmds []*command.Command, events []locktable.Event) {
	for _, e := range events {
		if e.Kind != locktable.EventBroken {
			continue
		}
		ordered := slices.ContainsFunc(cmds, func(c *command.Command) bool { return c.GetBreak().GetUpToToken() >= e.Token })
		if !ordered {
			b.world.violated("S5", "entry %d breaks token %d of %s without an order", b.entries[i].index, e.Token, e.Lock)
		}
	}
}
