package locktable

import (
	"slices"
	"time"
	"unicode"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// Asking, breaking, handing over, past holds, expected waits and the calendar of the naive model.

// mCare is what a model knows since version 2.
type mCare struct {
	level uint32 // as of Table
	asks  []mAsk
	past  []mPast  // oldest first
	ended []mEnded // delivered keys of counted holds that go on
	order mOrder   // behind the holds that are being ended
	// Whom the lock is handed over to.
	successor *mClaim
}

type mOrder struct{ by, reason string }

type mAsk struct {
	lock, owner, reason string
	at, until           Time
}

type mPast struct {
	lock string
	PastHold
}

type mEnded struct {
	lock   string
	token  uint64
	since  Time
	waited time.Duration
}

type mAnchor struct {
	now  Time
	wall int64
}

func (m *model) runCare(c *command.Command) Outcome {
	switch op := c.GetOp().(type) {
	case *command.Command_Ask:
		return m.ask(op.Ask)
	case *command.Command_Break:
		return m.breakHolds(op.Break)
	case *command.Command_HandOver:
		h := op.HandOver
		if h.GetTo() == "" || !m.okText(h.GetTo(), "") || h.GetRequest() > 0 && h.GetSession() == "" {
			return mInvalid
		}
		return m.numbered(h.GetSession(), h.GetRequest(), "hand over", h.GetKey(), func() Outcome { return m.handOver(h) })
	case *command.Command_Calendar:
		return m.readCalendar(op.Calendar)
	}
	panic("unknown command")
}

// mOr returns n, or d if it is 0.
func mOr[T int64 | uint32](n, d T) T {
	if n == 0 {
		return d
	}
	return n
}

func (m *model) okOrder(owner, reason string) bool {
	for _, r := range reason {
		if unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' {
			return false
		}
	}
	return m.okText(owner, "") && len(reason) <= int(mOr(m.settings.GetMaxResult(), 16384))
}

// --- asking ---

func (m *model) ask(a *command.Ask) Outcome {
	if !m.okName(a.GetName()) || !m.okOrder(a.GetOwner(), a.GetReason()) || a.GetWithin() < int64(time.Millisecond) || a.GetWithin() > m.settings.GetMaxWait() {
		return mInvalid
	}
	lock := a.GetName()
	hs := m.holders(lock)
	if len(hs) == 0 {
		return Outcome{Code: NotHeld}
	}
	now := mAsk{lock, a.GetOwner(), a.GetReason(), m.now, m.now.Add(time.Duration(a.GetWithin()))}
	for _, old := range m.asks {
		if old.lock == lock && old.owner == now.owner && old.reason == now.reason && old.until-old.at == now.until-now.at {
			return Outcome{Code: Done, Holder: m.holder(lock)}
		}
	}
	if m.textWith("")+uint64(len(now.owner)+len(now.reason)) > m.settings.GetMaxTextBytes() {
		return Outcome{Code: TooMuchText}
	}
	m.unask(lock)
	m.asks = append(m.asks, now)
	m.events = append(m.events, Event{
		Kind: EventAsked, Lock: lock, Mode: hs[0].mode, Slots: hs[0].slots, Token: hs[0].token, By: now.owner, Reason: now.reason, Deadline: now.until,
	})
	return Outcome{Code: Done, Holder: m.holder(lock)}
}

func (m *model) unask(lock string) {
	m.asks = slices.DeleteFunc(m.asks, func(a mAsk) bool { return a.lock == lock })
}

func (m *model) askInfo(lock string) *AskInfo {
	for _, a := range m.asks {
		if a.lock == lock {
			return &AskInfo{Owner: a.owner, Reason: a.reason, At: a.at, Until: a.until}
		}
	}
	return nil
}

// --- breaking and handing over ---

func (m *model) breakHolds(b *command.Break) Outcome {
	if !m.okName(b.GetName()) || !m.okOrder(b.GetOwner(), b.GetReason()) || b.GetUpToToken() == 0 {
		return mInvalid
	}
	var hit []*mClaim
	for _, c := range m.holders(b.GetName()) {
		if c.token <= b.GetUpToToken() {
			hit = append(hit, c.all()[0])
		}
	}
	if len(hit) == 0 {
		return Outcome{Code: NotHeld}
	}
	m.order = mOrder{b.GetOwner(), b.GetReason()}
	n := m.endClaims(hit, EventBroken, nil)
	m.order = mOrder{}
	return Outcome{Code: Released, Released: n}
}

func (m *model) handOver(h *command.HandOver) Outcome {
	c := m.claimOn(h.GetKey(), h.GetName())
	if c == nil || !c.held || m.onTask(c) || h.GetRequest() > 0 && c.session != h.GetSession() {
		return m.notHeld(h.GetKey())
	}
	i := slices.IndexFunc(m.waiters(c.lock), func(w *mClaim) bool { return m.ownerOf(w) == h.GetTo() })
	if i < 0 || len(m.holders(c.lock)) > 1 || m.block(c.lock) != nil {
		return Outcome{Code: NoSuccessor}
	}
	w := m.waiters(c.lock)[i]
	for _, x := range m.claims {
		twin := x.lock == w.lock && x.mode == w.mode && x.slots == 0 && x.group == nil
		if x != w && !x.held && !m.onTask(x) && w.session != "" && x.session == w.session && !twin {
			return Outcome{Code: NoSuccessor} // it waits elsewhere too
		}
	}
	if c.group != nil || w.group != nil {
		return Outcome{Code: NoSuccessor}
	}
	m.order = mOrder{by: h.GetTo()}
	m.successor = w
	m.endClaims([]*mClaim{c}, EventHandedOver, nil)
	m.order = mOrder{}
	return Outcome{Code: Released, Released: 1}
}

func (m *model) ownerOf(c *mClaim) string {
	if c.owner != "" {
		return c.owner
	}
	return c.sessionOwner
}

// ownerTold is ownerOf, as the level has it.
func (m *model) ownerTold(c *mClaim) string {
	if m.level < 2 {
		return c.owner
	}
	return m.ownerOf(c)
}

// notHeld is the outcome for a key that does not hold.
func (m *model) notHeld(key string) Outcome { return m.unlessBroken(key, NotHeld) }

func (m *model) unlessBroken(key string, code Code) Outcome {
	for _, s := range m.spent {
		if s.key == key && s.broken && m.claim(key) == nil {
			by := "by " + s.by
			if s.by == "" {
				by = "by an operator"
			}
			if s.reason != "" {
				by += ": " + s.reason
			}
			return Outcome{Code: Broken, Detail: by}
		}
	}
	return Outcome{Code: code}
}

// --- past holds ---

// rememberHold notes the end of c, which is no claim any more.
func (m *model) rememberHold(c *mClaim, kind EventKind, delivered bool) {
	if len(m.holders(c.lock)) == 0 {
		m.unask(c.lock)
	}
	if m.level < 2 {
		return
	}
	if delivered {
		m.ended = append(m.ended, mEnded{c.lock, c.token, c.since, c.waited})
	}
	for _, h := range m.holders(c.lock) {
		if h.token == c.token {
			return
		}
	}
	var first *mEnded
	for i := range m.ended {
		e := &m.ended[i]
		if e.lock == c.lock && e.token == c.token {
			if first == nil || e.since < first.since || e.since == first.since && e.waited > first.waited {
				first = e
			}
		}
	}
	if first == nil {
		return
	}
	p := mPast{c.lock, PastHold{
		Owner: m.ownerOf(c), Mode: c.mode, Slots: c.slots, Token: c.token, Since: first.since, Ended: m.now, Waited: first.waited, How: kind,
		By: m.order.by, Reason: m.order.reason,
	}}
	m.ended = slices.DeleteFunc(m.ended, func(e mEnded) bool { return e.lock == c.lock && e.token == c.token })
	m.past = append(m.past, p)
	for len(m.pastOf(c.lock)) > int(mOr(m.settings.GetMaxHistoryPerLock(), 32)) {
		i := slices.IndexFunc(m.past, func(p mPast) bool { return p.lock == c.lock })
		m.past = slices.Delete(m.past, i, i+1)
	}
	m.forgetPast()
}

func (m *model) forgetPast() {
	for len(m.past) > 0 {
		text := 0
		for _, p := range m.past {
			text += len(p.lock) + len(p.Owner) + len(p.By) + len(p.Reason)
		}
		keep := time.Duration(mOr(m.settings.GetHistoryRetention(), int64(7*24*time.Hour)))
		if len(m.past) <= int(mOr(m.settings.GetMaxHistory(), 100_000)) && uint64(text) <= m.settings.GetMaxTextBytes()/8 &&
			m.past[0].Ended.Add(keep) > m.now {
			break
		}
		m.past = m.past[1:]
	}
	for len(m.anchors) > 1 && m.anchors[1].now.Add(time.Duration(mOr(m.settings.GetHistoryRetention(), int64(7*24*time.Hour)))) <= m.now {
		m.anchors = m.anchors[1:]
	}
}

// forgetReasons forgets the oldest reasons of broken keys when they take too much room.
func (m *model) forgetReasons() {
	for {
		text := 0
		for _, s := range m.spent {
			text += len(s.by) + len(s.reason)
		}
		if uint64(text) <= m.settings.GetMaxTextBytes()/8 {
			return
		}
		i := slices.IndexFunc(m.spent, func(s mSpent) bool { return s.broken })
		m.spent[i].broken, m.spent[i].mOrder = false, mOrder{}
	}
}

func (m *model) pastOf(lock string) []mPast {
	var out []mPast
	for _, p := range m.past {
		if p.lock == lock {
			out = append(out, p)
		}
	}
	return out
}

func (m *model) History(lock string, limit int) []PastHold {
	var out []PastHold
	for _, p := range m.pastOf(lock) {
		p.SinceWall, _ = m.Calendar(p.Since)
		p.EndedWall, _ = m.Calendar(p.Ended)
		out = slices.Insert(out, 0, p.PastHold)
	}
	return out[:min(limit, len(out))]
}

// expect says how long a place may take.
func (m *model) expect(lock string, place int) time.Duration {
	past := m.pastOf(lock)
	if len(past) == 0 {
		return 0
	}
	sum := int64(0)
	for _, p := range past {
		sum += int64(p.Ended-p.Since) / 1000
	}
	mean := sum / int64(len(past))
	wait := mean * int64(place-1)
	hs := m.holders(lock)
	if len(hs) > 0 {
		if left := mean - int64(m.now-hs[0].since)/1000; left > 0 {
			wait += left
		}
	}
	for _, c := range append(hs, m.waiters(lock)...) {
		if c.slots > 0 {
			wait /= int64(c.slots)
			break
		}
	}
	wait *= 1000
	if b := m.block(lock); b != nil {
		wait = max(wait, int64(b.until-m.now))
	}
	return time.Duration(wait)
}

func (m *model) Expected(lock string) (time.Duration, bool) {
	if len(m.pastOf(lock)) == 0 {
		return 0, false
	}
	return m.joining(lock), true
}

// joining says how long one who joins the queue may wait.
func (m *model) joining(lock string) time.Duration {
	if len(m.holders(lock))+len(m.waiters(lock)) == 0 && m.block(lock) == nil {
		return 0
	}
	return m.expect(lock, len(m.waiters(lock))+1)
}

// --- the calendar ---

func (m *model) readCalendar(c *command.Calendar) Outcome {
	if c.GetAt() < 0 || c.GetAt() > 2*100*366*24*3600*1e9 {
		return mInvalid
	}
	wall, known := m.Calendar(m.now)
	if known && c.GetAt() <= wall+1e6 && !(c.GetForce() && c.GetAt() != wall) {
		return Outcome{Code: Done}
	}
	m.anchors = slices.DeleteFunc(m.anchors, func(a mAnchor) bool { return a.now == m.now })
	m.anchors = append(m.anchors, mAnchor{m.now, c.GetAt()})
	return Outcome{Code: Done}
}

func (m *model) Calendar(at Time) (wall int64, ok bool) {
	for _, a := range m.anchors {
		if a.now <= at {
			wall, ok = a.wall+int64(at-a.now), true
		}
	}
	return wall, ok
}
