package locktable

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// Tasks, schedules and the calendar in the naive model. Claims on tasks are among the model's claims; their lock is the task's
// name behind a mark that no lock's name can have.

const mTaskMark = "\x00"

type mTask struct {
	name               string
	status             TaskStatus
	attempts           uint32
	terms              *command.ClaimTask // the newest claim
	token              uint64
	slotStart, slotEnd int64
	text, progress     string
	owner, meta        string
	since, ended       Time
	at                 Time
	timer              uint64 // seq of the deadline; 0: none
	finisher           string
	finisherFailed     bool
	ran                bool
	lastRun            Time
}

func (m *model) onTask(c *mClaim) bool { return strings.HasPrefix(c.lock, mTaskMark) }

func (m *model) task(name string) *mTask {
	for _, x := range m.tasks {
		if x.name == name {
			return x
		}
	}
	return nil
}

func (m *model) taskOf(c *mClaim) *mTask { return m.task(strings.TrimPrefix(c.lock, mTaskMark)) }

func (m *model) claimant(x *mTask) *mClaim {
	for _, c := range m.holders(mTaskMark + x.name) {
		return c
	}
	return nil
}

func (m *model) waitersFor(x *mTask) []*mClaim { return m.waiters(mTaskMark + x.name) }

// --- the calendar ---

// wall is what the calendar shows, or cluster time if it is not known.
func (m *model) wall() int64 {
	if wall, ok := m.Calendar(m.now); ok {
		return wall
	}
	return int64(m.now)
}

func (m *model) inSlot(a *command.ClaimTask) bool {
	return len(m.anchors) > 0 && a.GetSlotStart() <= m.wall() && m.wall() < a.GetSlotEnd()
}

// whenWall tells when the calendar will show at.
func (m *model) whenWall(at int64) Time {
	if at <= m.wall() {
		return m.now
	}
	return m.now.Add(time.Duration(at - m.wall()))
}

// --- claiming ---

func (m *model) okClaim(a *command.ClaimTask) bool {
	like := &command.Acquire{
		Name: a.GetName(), Key: a.GetKey(), Session: a.GetSession(), Ttl: a.GetTtl(), Wait: a.GetWait(), Owner: a.GetOwner(),
		Metadata: a.GetMetadata(), Request: a.GetRequest(),
	}
	long := int64(100 * 366 * 24 * time.Hour)
	switch {
	case !m.okAcquire(like), a.GetKeep() > long:
	case a.GetRetryDelay() < 0, a.GetRetryDelay() > long, a.GetAtLeast() < 0, a.GetAtLeast() > long:
	case a.GetSlotStart() < 0, a.GetSlotEnd() < 0, a.GetSlotStart() >= a.GetSlotEnd() && a.GetSlotEnd()+a.GetSlotStart() != 0:
	default:
		return true
	}
	return false
}

func (m *model) okResult(text string) bool {
	most := 16 << 10
	if n := int(m.settings.GetMaxResult()); n > 0 {
		most = n
	}
	return len(text) <= most && utf8.ValidString(text)
}

func (m *model) mostTasks() int {
	if n := int(m.settings.GetMaxTasks()); n > 0 {
		return n
	}
	return 1_000_000
}

func (m *model) claimTask(a *command.ClaimTask) Outcome {
	if !m.okClaim(a) {
		return mInvalid
	}
	s := m.session(a.GetSession())
	if a.GetRequest() == 0 {
		return m.claimKey(a)
	}
	if s == nil {
		return m.noSession(a.GetSession())
	}
	r, o := m.reply(s, a.GetRequest(), "claim", a.GetKey())
	x := m.task(a.GetName())
	switch {
	case o.Code != Done:
		return o
	case r == nil:
		o := m.claimKey(a)
		if o.Code != SlotPassed { // the gateway asks again with another slot
			m.remember(s, mReply{a.GetRequest(), "claim", a.GetKey(), o.Code, 0})
		}
		return o
	case r.code == NotClaimable || (r.code == KeySpent || r.code == Broken) && x != nil && x.finisher == a.GetKey():
		return Outcome{Code: NotClaimable, Task: m.tellTask(a.GetName())}
	case r.code == KeySpent || r.code == Broken:
		return m.unlessBroken(a.GetKey(), r.code)
	case r.code != Granted && r.code != Waiting:
		return Outcome{Code: r.code}
	}
	o = m.claimKey(a)
	if o.Code != KeyInUse && o.Code != SlotPassed {
		r.code = o.Code
	}
	return o
}

func (m *model) claimKey(a *command.ClaimTask) Outcome {
	c, x := m.claim(a.GetKey()), m.task(a.GetName())
	switch {
	case c != nil && (c.lock != mTaskMark+a.GetName() || c.session != a.GetSession()):
		return Outcome{Code: KeyInUse}
	case c != nil && c.held:
		if c.attachment != a.GetAttachment() { // else nobody has been told yet
			c.attachment = 0
		}
		return m.claimed(c)
	case c != nil && a.GetWait() == 0:
		m.drop(c)
		m.taskEvent(EventTaskAnswered, c)
		m.look(c.lock)
		return Outcome{Code: NotClaimable, Task: m.tellTask(a.GetName())}
	case c != nil:
		if c.attachment != a.GetAttachment() {
			m.taskEvent(EventSuperseded, c)
		}
		m.attach(c, &command.Acquire{Attachment: a.GetAttachment(), Wait: a.GetWait()})
		return Outcome{Code: Waiting, Position: m.position(c), Task: m.tellTask(a.GetName())}
	case x != nil && x.finisher == a.GetKey():
		return Outcome{Code: NotClaimable, Task: m.tellTask(a.GetName())}
	case m.isSpent(a.GetKey()):
		return m.unlessBroken(a.GetKey(), KeySpent)
	case m.session(a.GetKey()) != nil:
		return Outcome{Code: KeyInUse}
	case a.GetSession() != "" && m.session(a.GetSession()) == nil:
		return m.noSession(a.GetSession())
	case a.GetSession() != "" && len(m.claimsOf(a.GetSession())) >= int(m.settings.GetMaxKeysPerSession()):
		return Outcome{Code: TooManyKeys}
	}
	return m.claimFresh(x, a)
}

func (m *model) claimFresh(x *mTask, a *command.ClaimTask) Outcome {
	scheduled := a.GetSlotEnd() != 0
	if scheduled && !m.inSlot(a) {
		return Outcome{Code: SlotPassed}
	}
	if x == nil && len(m.tasks) >= m.mostTasks() {
		return Outcome{Code: TooManyTasks}
	}
	newRun := x != nil && x.status != TaskRunning && scheduled && (x.slotEnd == 0 || a.GetSlotStart() > x.slotStart)
	if newRun && x.ran {
		if again := x.lastRun.Add(time.Duration(max(a.GetAtLeast(), x.terms.GetAtLeast()))); again > m.now {
			o := Outcome{Code: NotClaimable, Task: m.tellTask(x.name)}
			o.Task.ClaimableAt = again
			return o
		}
	}
	free := x == nil || newRun || x.status == TaskOpen && x.at <= m.now && m.entitled(x, a)
	text := m.textWith("") + uint64(len(a.GetOwner())+len(a.GetMetadata()))
	if x == nil {
		text += uint64(len(a.GetName()) + 32)
	}
	switch {
	case !free && (a.GetWait() == 0 || x.status != TaskRunning && x.status != TaskOpen):
		return Outcome{Code: NotClaimable, Task: m.tellTask(x.name)}
	case !free && len(m.waitersFor(x)) >= int(m.settings.GetMaxWaitersPerLock()):
		return Outcome{Code: TooManyWaiters}
	case len(m.claims) >= int(m.settings.GetMaxClaims()):
		return Outcome{Code: TooManyKeys}
	case text > m.settings.GetMaxTextBytes():
		return Outcome{Code: TooMuchText}
	}
	if x == nil {
		x = &mTask{name: a.GetName()}
		m.tasks = append(m.tasks, x)
		slices.SortFunc(m.tasks, func(a, b *mTask) int { return cmp.Compare(a.name, b.name) })
		newRun = true
	}
	if newRun {
		x.slotStart, x.slotEnd, x.attempts, x.text = a.GetSlotStart(), a.GetSlotEnd(), 0, ""
	}
	c := &mClaim{
		key: a.GetKey(), session: a.GetSession(), lock: mTaskMark + x.name, owner: a.GetOwner(), meta: a.GetMetadata(), seq: m.nextSeq(),
		queued: m.now, ttl: time.Duration(a.GetTtl()), asked: a,
	}
	if s := m.session(c.session); s != nil {
		c.sessionOwner = s.owner
	}
	m.claims = append(m.claims, c)
	m.attach(c, &command.Acquire{Attachment: a.GetAttachment(), Wait: a.GetWait()})
	if free {
		m.beginAttempt(x, c)
		return m.claimed(c)
	}
	m.taskEvent(EventTaskQueued, c)
	return Outcome{Code: Waiting, Position: m.position(c), Task: m.tellTask(x.name)}
}

// entitled tells whether by the claim's own word there may be another attempt.
func (m *model) entitled(x *mTask, a *command.ClaimTask) bool {
	return a.GetMaxAttempts() == 0 || a.GetMaxAttempts() > x.attempts
}

func (m *model) claimed(c *mClaim) Outcome {
	o := m.granted(c)
	o.Task = m.taskInfo(m.taskOf(c))
	return o
}

func (m *model) beginAttempt(x *mTask, c *mClaim) {
	m.token++
	m.grants++
	c.held, c.token, c.nth, c.since, c.waited = true, m.token, m.grants, m.now, m.now.Sub(c.queued)
	if c.session == "" {
		c.deadline = m.now.Add(c.ttl)
	}
	x.status, x.terms, x.token, x.since, x.ended, x.progress = TaskRunning, c.asked, c.token, m.now, 0, ""
	x.owner, x.meta = "", ""
	x.attempts++
	m.until(x, 0)
	m.taskEvent(EventTaskClaimed, c)
}

// until sets when something happens to x by itself.
func (m *model) until(x *mTask, at Time) {
	x.at, x.timer = at, 0
	if at > m.now && at != Never {
		x.timer = m.nextSeq()
	}
}
