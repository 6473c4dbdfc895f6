package locktable

import (
	"fmt"
	"slices"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// How the judge looks at asking, breaking, handing over, past holds and the calendar. It expects of the memory what the
// settings promise, as long as it can tell from outside.
type jCare struct {
	level         uint32 // of the table, before the present entry
	late          bool   // it was raised after sessions may have come to wait for each other
	limits        *command.Settings
	handed        map[string]string // locks that were handed over and have yet to be granted, to whom
	owners        map[Key]string    // of places
	sessionOwners map[string]map[string]bool
	groups        map[jGroupID]*jGroup
	past          []*jPast // oldest first, of all locks
	asks          map[string]*AskInfo
	brokenKeys    map[string]bool
	walls         []jWall
	forced        bool

	broken, handedOver, asked, judged, readings int
}

type jGroupID struct {
	lock  string
	token uint64
}

// jGroup is a counted hold.
type jGroup struct {
	grants   []Time
	known    bool // begun while past holds were remembered
	counts   bool // an end was not a taking back
	takeBack bool // an end may have been one
}

type jPast struct {
	lock            string
	token           uint64
	grants          []Time
	ended           Time
	how             EventKind
	by, reason      string
	sure            bool // it began with the first of grants
	must            bool // it has to be remembered
	text            int
	younger, ofLock int // how many past holds came after it
	youngerText     int
}

// jMemory is how many past holds the judge remembers itself.
const jMemory = 30

// jWall is what the calendar showed at the end of an entry.
type jWall struct {
	now   Time
	wall  int64
	valid bool
}

func (j *judge) newCare(s *command.Settings) {
	j.jCare = jCare{
		level: 2, limits: s, owners: map[Key]string{}, sessionOwners: map[string]map[string]bool{}, groups: map[jGroupID]*jGroup{},
		asks: map[string]*AskInfo{}, brokenKeys: map[string]bool{}, handed: map[string]string{},
	}
}

// begun notes a grant.
func (j *judge) begun(e Event) {
	id := jGroupID{e.Lock, e.Token}
	g := j.groups[id]
	if g == nil {
		g = &jGroup{known: j.remembers()}
		j.groups[id] = g
	}
	g.grants = append(g.grants, j.now)
}

// successor tells whether a grant is what a hand-over was for.
func (j *judge) successor(e Event) bool {
	by, ok := j.handed[e.Lock]
	if !ok {
		return false
	}
	at := slices.Index(j.queues[e.Lock], e.Key)
	if at < 0 {
		return false
	}
	for _, k := range j.queues[e.Lock][:at] {
		if j.owners[k] == by {
			return false // another one of that owner came before
		}
	}
	return j.isOwner(e, by)
}

func (j *judge) isOwner(e Event, owner string) bool {
	session := ""
	if p := j.place[jKey{e.Key, e.Lock}]; p != nil {
		session = p.session
	}
	return e.Owner == owner || e.Owner == "" && j.sessionOwners[session][owner]
}

// ordered judges the end of a hold that somebody ordered.
func (j *judge) ordered(e Event, h *jHold, cmds []*command.Command) error {
	if e.Kind == EventBroken {
		j.broken++
		j.brokenKeys[e.Key.Reveal()] = true
		for _, c := range cmds {
			if b := c.GetBreak(); b != nil && (b.GetName() == e.Lock || e.Set > 1) && b.GetUpToToken() >= h.token && b.GetOwner() == e.By && b.GetReason() == e.Reason {
				return nil
			}
		}
		return fmt.Errorf("broken by nobody")
	}
	j.handedOver++
	j.handed[e.Lock] = e.By
	for _, o := range j.live {
		if o.lock == e.Lock {
			return fmt.Errorf("handed over while another holds")
		}
	}
	for _, c := range cmds {
		if o := c.GetHandOver(); o != nil && (o.GetName() == e.Lock || o.GetName() == "") && o.GetKey() == e.Key.Reveal() && o.GetTo() == e.By {
			return nil
		}
	}
	return fmt.Errorf("handed over by nobody")
}

// over notes the end of a hold, delivered or perhaps not.
func (j *judge) over(e Event, delivered bool) {
	id := jGroupID{e.Lock, e.Token}
	g := j.groups[id]
	g.counts = g.counts || delivered && j.remembers()
	g.takeBack = g.takeBack || !delivered
	left := 0
	for _, h := range j.live {
		if h.lock == e.Lock {
			left++
		}
		if h.lock == e.Lock && h.token == e.Token {
			return
		}
	}
	if left == 0 {
		delete(j.asks, e.Lock)
	}
	delete(j.groups, id)
	text := len(e.Lock) + len(e.By) + len(e.Reason) + 3 // an owner has up to 3 bytes
	for _, p := range j.past {
		p.younger++
		p.youngerText += text
		if p.lock == e.Lock {
			p.ofLock++
		}
	}
	j.past = append(j.past, &jPast{
		lock: e.Lock, token: e.Token, grants: g.grants, ended: j.now, how: e.Kind, by: e.By, reason: e.Reason,
		sure: g.known && !g.takeBack, must: j.remembers() && g.counts, text: text,
	})
	j.past = j.past[max(0, len(j.past)-jMemory):]
	j.expectLess()
}

// expectLess notes which past holds the limits allow to be forgotten.
func (j *judge) expectLess() {
	s := j.limits
	for _, p := range j.past {
		if p.younger >= int(mOr(s.GetMaxHistory(), 100_000)) || p.ofLock >= int(mOr(s.GetMaxHistoryPerLock(), 32)) ||
			uint64(p.youngerText+p.text) > s.GetMaxTextBytes()/8 || int64(j.now-p.ended) >= mOr(s.GetHistoryRetention(), int64(7*24*time.Hour)) {
			p.must = false
		}
	}
	for i := range j.walls {
		w := &j.walls[i]
		w.valid = w.valid && int64(j.now-w.now) < mOr(s.GetHistoryRetention(), int64(7*24*time.Hour))
	}
}

func (j *judge) askedOf(e Event) error {
	j.asked++
	if !j.tokenLive(e.Lock, e.Token) {
		return fmt.Errorf("asked somebody who does not hold")
	}
	j.asks[e.Lock] = &AskInfo{Owner: e.By, Reason: e.Reason, At: j.now, Until: e.Deadline}
	return nil
}

// careCommands looks at the commands of an entry after its events.
func (j *judge) careCommands(cmds []*command.Command, outs []Outcome) error {
	j.forced = false
	j.expectLess() // by the limits as they were when the clock moved
	for i, c := range cmds {
		if s := c.GetConfigure().GetSettings(); s != nil && outs[i].Code == Done {
			j.limits = s
			j.expectLess()
		}
		j.forced = j.forced || c.GetCalendar().GetForce()
		key := c.GetRenew().GetKey() + c.GetRelease().GetKey() + c.GetAcquire().GetKey() + c.GetClaimTask().GetKey() +
			c.GetHandOver().GetKey() + c.GetRenewSession().GetId()
		if outs[i].Code == Broken && !j.brokenKeys[key] {
			return fmt.Errorf("%v: told that its hold was broken", c)
		}
	}
	j.expectLess()
	for lock, a := range j.asks {
		if a.Until <= j.now {
			delete(j.asks, lock)
		}
	}
	if len(cmds) == 1 && outs[0].Code == Renewed && cmds[0].GetRenew() != nil && cmds[0].GetRenew().GetRequest() == 0 {
		if want := j.askOf(cmds[0].GetRenew().GetKey()); !sameAsk(outs[0].Ask, want) {
			return fmt.Errorf("%v: told of %+v instead of %+v", cmds[0], outs[0].Ask, want)
		}
	}
	if len(j.handed) > 0 {
		return fmt.Errorf("handed over to nobody: %v", j.handed)
	}
	for _, c := range cmds {
		j.level = max(j.level, c.GetRaise().GetVersion())
	}
	return nil
}

// askOf returns what is asked of the holders of the first lock of a key of which anything is.
func (j *judge) askOf(key string) *AskInfo {
	var locks []string
	for x := range j.live {
		if x.key.Reveal() == key && j.asks[x.lock] != nil {
			locks = append(locks, x.lock)
		}
	}
	if len(locks) == 0 {
		return nil
	}
	return j.asks[slices.Min(locks)]
}

// remembers tells whether the table remembers past holds.
func (j *judge) remembers() bool { return j.level >= 2 }

// memory compares what the table remembers with what the judge saw.
func (j *judge) memory(t *Table) error {
	for _, lock := range testLocks {
		if err := j.history(lock, t.History(lock, 100)); err != nil {
			return fmt.Errorf("past holds of %q: %w", lock, err)
		}
	}
	return j.calendar(t)
}

func (j *judge) history(lock string, hs []PastHold) error {
	for i := len(j.past) - 1; i >= 0; i-- {
		p := j.past[i]
		switch {
		case p.lock != lock:
		case len(hs) > 0 && p.is(hs[0]):
			hs = hs[1:]
			j.judged++
		case p.must:
			return fmt.Errorf("forgot token %d that ended at %d as %d", p.token, p.ended, p.how)
		}
	}
	if len(hs) > 0 && len(j.past) < jMemory {
		return fmt.Errorf("remembers what never was: %+v", hs[0])
	}
	return nil
}

func (p *jPast) is(h PastHold) bool {
	if h.Token != p.token || h.Ended != p.ended || h.How != p.how || h.By != p.by || h.Reason != p.reason {
		return false
	}
	return h.Since == p.grants[0] || !p.sure && slices.Contains(p.grants, h.Since)
}

func (j *judge) calendar(t *Table) error {
	wall, ok := t.Calendar(j.now)
	if n := len(j.walls); n > 0 {
		last := j.walls[n-1]
		switch {
		case !ok:
			return fmt.Errorf("the calendar is lost")
		case wall-last.wall < int64(j.now-last.now) && !j.forced:
			return fmt.Errorf("the calendar goes back, from %d at %d to %d at %d", last.wall, last.now, wall, j.now)
		case wall-last.wall != int64(j.now-last.now):
			j.readings++
		}
		if last.now == j.now {
			j.walls = j.walls[:n-1]
		}
	}
	for _, w := range j.walls {
		if then, ok := t.Calendar(w.now); w.valid && (!ok || then != w.wall) {
			return fmt.Errorf("the calendar showed %d at %d and is remembered as %d", w.wall, w.now, then)
		}
	}
	if ok {
		j.walls = append(j.walls, jWall{j.now, wall, true})
		j.walls = j.walls[max(0, len(j.walls)-20):]
	}
	return nil
}
