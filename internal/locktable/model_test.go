package locktable

import (
	"cmp"
	"slices"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// model says the rules of doc.go again, as naively as possible: slices in order of arrival, linear scans, no heap, no
// index, nothing incremental. It is the oracle of the random tests and shares no code with Table but the value types.
type model struct {
	now      Time
	token    uint64
	seq      uint64
	grants   int
	settings *command.Settings
	claims   []*mClaim // in order of arrival
	sessions []*mSession
	blocks   []*mBlock
	spent    []mSpent // oldest first
	tasks    []*mTask // by name
	anchors  []mAnchor
	ending   *mSession // the session whose claims are going
	events   []Event
	graphs   []*mGraph // of the deadlocks of the present entry; nil: its own lock
	mCare
}

// mClaim is a key with a place or a hold.
type mClaim struct {
	key, session     string // session "" is private
	lock             string
	mode             Mode
	slots            uint32
	owner, meta      string
	sessionOwner     string
	seq              uint64
	held             bool
	nth              int // order of the grant among all grants
	token            uint64
	queued, since    Time
	waited           time.Duration
	ttl, delay       time.Duration
	deadline         Time // private hold
	waitUntil, grace Time // waiter
	attachment       uint64
	pos              int                // waiter: orders the queue
	group            []*mClaim          // of a set: the claims that share its key, in the order of names
	asked            *command.ClaimTask // of a claim on a task
}

type mSession struct {
	id               string
	seq              uint64
	ttl              time.Duration
	deadline, opened Time
	owner, meta      string
	forgotten        uint64
	replies          []mReply // by number
}

type mReply struct {
	request  uint64
	op       string
	key      string
	code     Code
	released int
}

type mBlock struct {
	lock  string
	until Time
	seq   uint64
}

type mSpent struct {
	key    string
	at     Time
	broken bool // and it is still known why
	mOrder
}

func newModel(s *command.Settings) *model { return &model{settings: s, mCare: mCare{level: 2}} }

func (m *model) Now() Time { return m.now }

// Apply does what Table.Apply promises.
func (m *model) Apply(now Time, cmds []*command.Command) ([]Outcome, []Event) {
	m.now = max(m.now, now)
	m.events, m.graphs = nil, nil
	m.forgetPast()
	for _, c := range cmds {
		if p := c.GetPoll(); p != nil {
			m.poll(p)
		}
	}
	for m.fireOne() {
	}
	m.forgetSpent()
	m.forgetPast()
	var out []Outcome
	for _, c := range cmds {
		o := m.run(c)
		o.Now = m.now
		out = append(out, o)
	}
	return out, m.events
}

func (m *model) run(c *command.Command) Outcome {
	switch op := c.GetOp().(type) {
	case *command.Command_Acquire:
		return m.acquire(op.Acquire)
	case *command.Command_Release:
		r := op.Release
		return m.numbered(r.GetSession(), r.GetRequest(), "release", r.GetKey(), func() Outcome { return m.release(r) })
	case *command.Command_Renew:
		r := op.Renew
		if !m.okTTL(r.GetTtl(), true) {
			return mInvalid
		}
		return m.numbered(r.GetSession(), r.GetRequest(), "renew", r.GetKey(), func() Outcome { return m.renew(r) })
	case *command.Command_RenewSession:
		r := op.RenewSession
		if !m.okTTL(r.GetTtl(), true) {
			return mInvalid
		}
		if m.session(r.GetId()) == nil {
			return m.renewSession(r) // only shared sessions remember numbers
		}
		return m.numbered(r.GetId(), r.GetRequest(), "renew session", r.GetId(), func() Outcome { return m.renewSession(r) })
	case *command.Command_Abandon:
		return m.abandon(op.Abandon)
	case *command.Command_Poll:
		return Outcome{Code: Done}
	case *command.Command_OpenSession:
		return m.openSession(op.OpenSession)
	case *command.Command_EndSession:
		return m.endSessionCommand(op.EndSession)
	case *command.Command_Configure:
		return m.configure(op.Configure)
	case *command.Command_Raise:
		m.level = max(m.level, op.Raise.GetVersion())
		return Outcome{Code: Done}
	case *command.Command_ClaimTask:
		return m.claimTask(op.ClaimTask)
	case *command.Command_FinishTask:
		return m.finishTask(op.FinishTask)
	case *command.Command_RenewTask:
		return m.renewTask(op.RenewTask)
	case *command.Command_ForgetTask:
		return m.forgetTaskCommand(op.ForgetTask)
	case *command.Command_SettleTask:
		return m.settleTask(op.SettleTask)
	}
	return m.runCare(c)
}

// --- looking things up ---

func (m *model) claim(key string) *mClaim {
	for _, c := range m.claims {
		if c.key == key {
			return c
		}
	}
	return nil
}

func (m *model) session(id string) *mSession {
	for _, s := range m.sessions {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (m *model) block(lock string) *mBlock {
	for _, b := range m.blocks {
		if b.lock == lock {
			return b
		}
	}
	return nil
}

func (m *model) isSpent(key string) bool {
	return slices.ContainsFunc(m.spent, func(s mSpent) bool { return s.key == key })
}

// holders returns the holders of lock in order of their grants.
func (m *model) holders(lock string) []*mClaim {
	var out []*mClaim
	for _, c := range m.claims {
		if c.lock == lock && c.held {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *mClaim) int { return cmp.Compare(a.nth, b.nth) })
	return out
}

// waiters returns the queue of lock, head first.
func (m *model) waiters(lock string) []*mClaim {
	var out []*mClaim
	for _, c := range m.claims {
		if c.lock == lock && !c.held {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *mClaim) int { return cmp.Compare(a.pos, b.pos) })
	return out
}

func (m *model) claimsOf(session string) []*mClaim {
	var out []*mClaim
	for _, c := range m.claims {
		if c.session == session {
			out = append(out, c)
		}
	}
	return out
}

func (m *model) locks() []string {
	var out []string
	for _, c := range m.claims {
		if !slices.Contains(out, c.lock) && !m.onTask(c) {
			out = append(out, c.lock)
		}
	}
	return out
}

func (m *model) position(c *mClaim) int { return slices.Index(m.waiters(c.lock), c) + 1 }

func (m *model) lifetime(c *mClaim) (time.Duration, Time) {
	if s := m.session(c.session); s != nil {
		return s.ttl, s.deadline
	}
	if m.ending != nil && m.ending.id == c.session {
		return m.ending.ttl, m.ending.deadline
	}
	c = c.all()[0]
	return c.ttl, c.deadline
}

func (m *model) nextSeq() uint64 {
	m.seq++
	return m.seq
}

// --- deadlines ---

type mDeadline struct {
	at   Time
	seq  uint64
	fire func()
}

// earliest returns the deadline that is due first, by (deadline, seq).
func (m *model) earliest() (mDeadline, bool) {
	first, found := mDeadline{}, false
	consider := func(at Time, seq uint64, fire func()) {
		if !found || at < first.at || at == first.at && seq < first.seq {
			first, found = mDeadline{at, seq, fire}, true
		}
	}
	for _, c := range m.claims {
		switch {
		case m.claim(c.key) != c: // the first of a set stands for it
		case !c.held:
			consider(min(c.waitUntil, c.grace), c.seq, func() { m.endWait(c) })
		case c.session == "":
			consider(c.deadline, c.seq, func() { m.endClaims([]*mClaim{c}, EventExpired, nil) })
		}
	}
	for _, s := range m.sessions {
		consider(s.deadline, s.seq, func() { m.endSession(s, EventExpired) })
	}
	for _, a := range m.asks {
		consider(a.until, 0, func() { m.unask(a.lock) })
	}
	for _, b := range m.blocks {
		consider(b.until, b.seq, func() { m.unblock(b) })
	}
	for _, x := range m.tasks {
		if x.timer != 0 {
			consider(x.at, x.timer, func() { m.taskTimer(x) })
		}
	}
	return first, found
}

// NextDeadline tells when something is due next.
func (m *model) NextDeadline() (Time, bool) {
	d, ok := m.earliest()
	return d.at, ok
}

func (m *model) fireOne() bool {
	d, ok := m.earliest()
	if !ok || d.at > m.now {
		return false
	}
	d.fire()
	return true
}

func (m *model) endWait(c *mClaim) {
	m.drop(c)
	if m.onTask(c) {
		kind := EventTaskCancelled
		if c.waitUntil <= c.grace {
			kind = EventTaskAnswered
		}
		m.taskEvent(kind, c)
		m.look(c.lock)
		return
	}
	if c.waitUntil <= c.grace {
		m.timedOut(c)
	} else {
		m.tell(EventCancelled, c)
	}
	m.look(c.locks()...)
}

// timedOut tells that the wait of c, which is gone, ran out.
func (m *model) timedOut(c *mClaim) {
	for _, x := range c.all() {
		e := m.event(EventTimedOut, x)
		e.Holder, e.Expected = m.holder(x.lock), m.joining(x.lock)
	}
}

func (m *model) unblock(b *mBlock) {
	m.blocks = slices.DeleteFunc(m.blocks, func(x *mBlock) bool { return x == b })
	m.look(b.lock)
}
