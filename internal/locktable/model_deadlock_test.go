package locktable

import (
	"fmt"
	"slices"
)

// Deadlocks in the naive model, by brute force: on a copy of the model everybody who waits for nothing ends, again and again,
// by the model's own rules of granting. Who is left then would be left for ever.

// mEdge says that somebody waits for somebody.
type mEdge struct {
	from, to string
	wait     Wait
}

// who is the session of c, shared or private.
func (c *mClaim) who() string {
	if c.session != "" {
		return c.session
	}
	return c.key
}

// copied returns a model with copies of the claims, in which no time passes and nothing is blocked.
func (m *model) copied() *model {
	d := &model{settings: m.settings, mCare: mCare{level: m.level}, token: m.token, grants: m.grants, now: -1}
	for _, s := range m.sessions {
		d.sessions = append(d.sessions, &mSession{id: s.id, owner: s.owner})
	}
	twins := map[*mClaim]*mClaim{}
	for _, c := range m.claims {
		if m.onTask(c) {
			continue // waiting for tasks does not count
		}
		x := *c
		twins[c] = &x
		d.claims = append(d.claims, &x)
	}
	for _, x := range d.claims {
		var group []*mClaim
		for _, c := range x.group {
			group = append(group, twins[c])
		}
		x.group = group
	}
	return d
}

// playOn lets everybody end who waits for nothing, until nobody is left or all who are left wait.
func (m *model) playOn() {
	m.look(m.locks()...)
	for {
		i := slices.IndexFunc(m.claims, func(c *mClaim) bool { return !m.waits(c.who()) })
		if i < 0 {
			return
		}
		who := m.claims[i].who()
		m.claims = slices.DeleteFunc(m.claims, func(c *mClaim) bool { return c.who() == who })
		m.look(m.locks()...)
	}
}

func (m *model) waits(who string) bool {
	return slices.ContainsFunc(m.claims, func(c *mClaim) bool { return c.who() == who && !c.held })
}

// stuck returns who would be left for ever, as things are.
func (m *model) stuck() []*mClaim {
	d := m.copied()
	d.playOn()
	return d.claims
}

// deadlock returns the cycle that would be closed if these claims, of one session, joined their queues, or nil.
func (m *model) deadlock(session string, wants []*mClaim) *Chain {
	if session == "" {
		return nil
	}
	asked := m.copied()
	for _, c := range wants {
		asked.standInLine(c)
		asked.claims = append(asked.claims, c)
	}
	end := asked.copied()
	end.playOn()
	if !end.waits(session) {
		return nil
	}
	held := map[[2]string]bool{}
	for _, c := range m.claims {
		held[[2]string{c.key, c.lock}] = c.held
	}
	var graph []mEdge
	for _, c := range end.claims {
		if c.held || end.hasEarlierTwin(c) {
			continue
		}
		for _, b := range end.against(c) {
			w := Wait{Owner: end.ownerOf(c), Lock: c.lock, HeldBy: end.ownerOf(b), Queued: !held[[2]string{b.key, b.lock}]}
			if !w.Queued {
				w.Token = b.token
			}
			graph = append(graph, mEdge{c.who(), b.who(), w})
		}
	}
	g := &mGraph{session, graph}
	cycle := g.cycle()
	if cycle != nil {
		m.graphs = append(m.graphs, g)
	}
	return cycle
}

func (m *model) hasEarlierTwin(c *mClaim) bool {
	for _, x := range m.waiters(c.lock) {
		if x == c {
			return false
		}
		if c.session != "" && x.session == c.session && x.mode == c.mode && c.slots == 0 {
			return true
		}
	}
	return false
}

// against returns whoever keeps the waiting c from its lock: holders, and those before it in the queue.
func (m *model) against(c *mClaim) []*mClaim {
	conflict := func(b *mClaim) bool { return b.slots > 0 || b.mode == Exclusive || c.mode == Exclusive }
	var out []*mClaim
	if !m.eligible(c.lock, c.mode, c.slots) {
		for _, h := range m.holders(c.lock) {
			if conflict(h) {
				out = append(out, h)
			}
		}
	}
	for _, w := range m.waiters(c.lock) {
		if w == c {
			break
		}
		if conflict(w) || w.group != nil {
			out = append(out, w)
		}
	}
	return out
}

// mGraph is who waits for whom, and who asked.
type mGraph struct {
	asker string
	edges []mEdge
}

// cycle returns a shortest cycle through the asker, or nil.
func (g *mGraph) cycle() *Chain {
	type path struct {
		at    string
		steps []Wait
	}
	seen := map[string]bool{}
	for paths := []path{{at: g.asker}}; len(paths) > 0; paths = paths[1:] {
		p := paths[0]
		for _, e := range g.edges {
			if e.from != p.at || seen[e.to] {
				continue
			}
			steps := append(slices.Clone(p.steps), e.wait)
			if e.to == g.asker {
				return &Chain{Waits: steps}
			}
			seen[e.to] = true
			paths = append(paths, path{e.to, steps})
		}
	}
	return nil
}

// has tells whether the steps are a way from the asker back to it.
func (g *mGraph) has(c *Chain) bool {
	at := map[string]bool{g.asker: true}
	for _, w := range c.Waits {
		next := map[string]bool{}
		for _, e := range g.edges {
			if at[e.from] && e.wait == w {
				next[e.to] = true
			}
		}
		at = next
	}
	return at[g.asker]
}

// checkCycles checks that the cycles of the present entry's refusals lead from the asker back to it.
func (m *model) checkCycles(outs []Outcome) error {
	i := 0
	for _, o := range outs {
		if o.Cycle == nil {
			continue
		}
		if i == len(m.graphs) {
			return fmt.Errorf("a cycle that the model does not know: %s", showChain(o.Cycle))
		}
		g := m.graphs[i]
		i++
		if g != nil && !g.has(o.Cycle) {
			return fmt.Errorf("no cycle: %s\nwho waits for whom: %+v", showChain(o.Cycle), g.edges)
		}
	}
	return nil
}

// checkProgress checks that nobody is left for ever: whoever would close a cycle is refused.
func (m *model) checkProgress() error {
	for _, c := range m.claims {
		if !c.held && c.session != "" && len(m.claimsOf(c.session)) > 1 {
			if left := m.stuck(); len(left) > 0 {
				return fmt.Errorf("%d claims wait for each other, %s on %s among them", len(left), left[0].key, left[0].lock)
			}
			return nil
		}
	}
	return nil
}
