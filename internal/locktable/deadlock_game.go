package locktable

// game is the state of the playing on. Its maps are never iterated.
type game struct {
	asker   *session
	owner   string // of the asker's new claim
	locks   map[*lock]*gameLock
	players map[*session]*player
	sets    map[*claim]*player // private ones, by their lead
	gone    map[*session]bool  // ended when their only place was granted, without becoming players
	moved   []*gameLock        // to be looked at
	holders []*player          // whose places are to be brought into play
	visits  int
}

// over tells whether the question has taken too much already. The state of the game may be incomplete then.
func (g *game) over() bool { return g.visits > maxVisits }

// player is a session, or a private claim, that is of interest: it holds or will hold a lock in play, and waits.
type player struct {
	session  *session // nil: private
	last     *claim   // asker: the new claim
	private  *claim   // private: its lead
	waitsFor int      // places that are not granted
	ended    bool
	wants    bool // its places are in play
	granted  map[*claim]bool

	// Of the search for a cycle.
	found bool
	from  *player
	step  Wait
}

// gameLock is a lock in play.
type gameLock struct {
	lock    *lock
	head    *claim // of the queue, as far as it was played
	last    *claim // the asker's new place, behind the queue
	holders int
	mode    uint8 // of the holders
	wanted  int   // places of players in the queue
	listed  bool

	// Of the search for a cycle: the claim up to which the queue was searched for whom a reader, and for whom anybody else, waits.
	searched [2]search
}

type search struct {
	begun   bool
	next    *claim
	waiting bool            // next is not before the head, as far as the queue was played
	seen    map[*claim]bool // those who may ask again
}

// play lets the game go on until it is done or nothing moves any more.
func (g *game) play(done func() bool) {
	for !done() && !g.over() {
		if n := len(g.holders); n > 0 {
			p := g.holders[n-1]
			g.holders = g.holders[:n-1]
			g.wantAll(p)
			continue
		}
		n := len(g.moved)
		if n == 0 {
			return
		}
		l := g.moved[n-1]
		g.moved = g.moved[:n-1]
		l.listed = false
		g.look(l)
	}
}

func (g *game) list(l *gameLock) {
	if !l.listed {
		l.listed = true
		g.moved = append(g.moved, l)
	}
}

// player returns the player that is s, made if it is new. It waits for all its places: a session becomes a player before the first
// of them is granted, unless there is only one.
func (g *game) player(s *session) *player {
	p := g.players[s]
	if p == nil {
		p = &player{session: s, waitsFor: s.places}
		g.players[s] = p
	}
	return p
}

// playerOf returns the player that c belongs to, or nil if it is a private claim on one lock: nobody else has to do with it.
func (g *game) playerOf(c *claim) *player {
	switch {
	case c.session != nil:
		return g.player(c.session)
	case c.set() != nil:
		return g.privatePlayer(c.lead())
	}
	return nil
}

// privatePlayer returns the player that is the private session of c.
func (g *game) privatePlayer(c *claim) *player {
	p := g.sets[c]
	if p == nil {
		p = &player{private: c}
		if c.waiting() {
			p.waitsFor = len(c.all())
		}
		g.sets[c] = p
	}
	return p
}

// places calls f for each place of p, in the order in which they came.
func (p *player) places(f func(*claim)) {
	switch {
	case p.private != nil:
		for _, c := range p.private.all() {
			f(c)
		}
	default:
		for c := p.session.head; c != nil; c = c.extra.sessionNext {
			if c.queued() {
				f(c)
			}
		}
	}
	if p.last != nil {
		for _, c := range p.last.all() {
			f(c)
		}
	}
}

// wantAll brings the places of p that are not granted, and their locks, into play.
func (g *game) wantAll(p *player) {
	if p.wants {
		return
	}
	p.wants = true
	if p.session != nil {
		g.visits += p.session.n
	}
	p.places(func(c *claim) {
		if g.over() {
			return
		}
		l := g.bring(c.lock)
		l.wanted++
		g.list(l)
	})
}

// bring brings a lock into play.
func (g *game) bring(l *lock) *gameLock {
	x := g.locks[l]
	if x != nil {
		return x
	}
	x = &gameLock{lock: l, head: l.waiters.head}
	g.locks[l] = x
	if h := l.holders.head; h != nil {
		x.mode = h.mode
	}
	for h := l.holders.head; h != nil && l.holders.linked > 0 && !g.over(); h = h.next {
		g.visits++
		if p := g.holder(h); p != nil {
			x.holders++
			g.holders = append(g.holders, p)
		}
	}
	return x
}

// holder returns the player that holds h, or nil if it ends, or has ended.
func (g *game) holder(h *claim) *player {
	if h.session == nil || h.session.places == 0 && h.session != g.asker {
		return nil
	}
	if g.gone[h.session] {
		return nil
	}
	if p := g.player(h.session); !p.ended {
		return p
	}
	return nil
}

// look grants l to the heads of its queue.
func (g *game) look(l *gameLock) {
	for l.wanted > 0 {
		if g.visits++; g.over() {
			return
		}
		l.passPlain()
		c := l.first()
		switch {
		case c == nil:
			return
		case g.passed(c):
			l.pass(c)
		case !g.eligible(l, c):
			return
		default:
			g.grant(l, c)
		}
	}
}

// passPlain passes over a queue of private claims on one lock, when each of them ends as soon as it is granted.
func (l *gameLock) passPlain() {
	if l.lock.waiters.linked == 0 && (l.holders == 0 || l.holders < int(l.lock.slots)) {
		l.head = nil
	}
}

// first is the head of the queue as far as it was played.
func (l *gameLock) first() *claim {
	if l.head != nil {
		return l.head
	}
	return l.last
}

func (l *gameLock) pass(c *claim) {
	if c == l.last {
		l.last = nil
	} else {
		l.head = c.next
	}
}

// passed tells whether c, the head of a queue, was granted already, with another place of its session.
func (g *game) passed(c *claim) bool {
	if c.session == nil {
		return false
	}
	p := g.players[c.session]
	return p != nil && p.granted[c]
}

// eligible tells whether c, the head of the queue of l, would be granted. The other locks of a set come into play.
func (g *game) eligible(l *gameLock, c *claim) bool {
	if !l.admits(c) {
		return false
	}
	set := c.set()
	if set == nil {
		return true
	}
	g.visits += len(set.members)
	g.wantAll(g.playerOf(c))
	if g.over() {
		return false
	}
	for _, m := range set.members {
		x := g.locks[m.lock]
		for f := x.first(); f != m && f != nil && g.passed(f); f = x.first() {
			x.pass(f)
		}
		if x.first() != m || !x.admits(m) {
			return false
		}
	}
	return true
}

// admits tells whether the mode of c goes with those who hold l in the game.
func (l *gameLock) admits(c *claim) bool {
	switch {
	case l.holders == 0:
		return true
	case l.lock.slots > 0:
		return l.holders < int(l.lock.slots)
	}
	return c.modeOf() == Shared && Mode(l.mode) == Shared
}

// grant gives l, or all locks of the set of c, to c. Who has all that it waits for ends.
func (g *game) grant(l *gameLock, c *claim) {
	if c.set() == nil && c.session != nil && c.session.places == 1 && c.session != g.asker && g.players[c.session] == nil {
		if c.session.n > 1 {
			g.gone[c.session] = true
		}
		l.pass(c)
		return
	}
	p := g.playerOf(c)
	if p == nil {
		l.pass(c) // it ends at once
		return
	}
	g.wantAll(p)
	if g.over() {
		return
	}
	for _, m := range c.all() {
		x := g.locks[m.lock]
		x.pass(m)
		g.take(p, x, m)
		g.list(x)
	}
	for _, m := range c.all() {
		g.grantTwins(p, g.locks[m.lock], m)
	}
	if p.waitsFor == 0 {
		g.end(p)
	}
}

// take makes c a holder of l.
func (g *game) take(p *player, l *gameLock, c *claim) {
	if p.granted == nil {
		p.granted = make(map[*claim]bool)
	}
	p.granted[c] = true
	p.waitsFor--
	l.wanted--
	l.holders++
	l.mode = c.mode
}

// grantTwins grants the other places that the session has for the lock in the same mode.
func (g *game) grantTwins(p *player, l *gameLock, c *claim) {
	if p.session == nil || l.lock.slots > 0 {
		return
	}
	twins := p.session.placesOn(l.lock)
	g.visits += min(p.session.n, l.lock.waiters.len())
	if p.last != nil && p.last.lock == l.lock {
		twins = append(twins, p.last)
	}
	for _, w := range twins {
		if w.mode == c.mode && w.set() == nil && !p.granted[w] {
			g.take(p, l, w)
		}
	}
}

// end lets p release all that it holds, on the locks that are in play.
func (g *game) end(p *player) {
	p.ended = true
	release := func(c *claim) {
		if l := g.locks[c.lock]; l != nil {
			l.holders--
			g.list(l)
		}
	}
	switch {
	case p == g.players[g.asker]: // the question is answered
	case p.private != nil:
		for _, c := range p.private.all() {
			release(c)
		}
	default:
		for c := p.session.head; c != nil; c = c.extra.sessionNext {
			g.visits++
			release(c)
		}
	}
}
