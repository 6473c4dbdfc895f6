package locktable

import (
	"slices"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// How attempts and runs end in the naive model, and what it tells about tasks.

// attemptEnds is called after the claim c on a task has gone.
func (m *model) attemptEnds(c *mClaim, kind EventKind) {
	x := m.taskOf(c)
	x.owner, x.meta, x.ended = m.ownerOf(c), c.meta, m.now
	usedUp := x.terms.GetMaxAttempts() > 0 && x.attempts >= x.terms.GetMaxAttempts()
	switch {
	case kind == EventTaskTakenBack:
		x.attempts--
		x.status = TaskOpen
		m.until(x, m.now)
	case kind == EventTaskDone:
		m.runEnds(x, TaskDone)
	case kind == EventTaskLost && x.terms.GetAtMostOnce():
		m.runEnds(x, TaskUnknown)
	case usedUp:
		m.runEnds(x, TaskFailed)
	default:
		x.status = TaskOpen
		m.until(x, m.now.Add(time.Duration(x.terms.GetRetryDelay())))
	}
	m.taskEvent(kind, c)
}

func (m *model) runEnds(x *mTask, status TaskStatus) {
	x.status = status
	if status == TaskUnknown {
		m.until(x, Never)
		return
	}
	x.ran, x.lastRun = true, m.now
	if x.terms.GetKeep() < 0 {
		m.until(x, Never)
		return
	}
	at := max(m.now.Add(time.Duration(x.terms.GetKeep())), m.now.Add(time.Duration(x.terms.GetAtLeast())))
	if x.slotEnd != 0 {
		at = max(at, m.whenWall(x.slotEnd))
	}
	m.until(x, at)
}

// lookTask does what has become possible.
func (m *model) lookTask(x *mTask) {
	if x == nil || x.status == TaskRunning {
		return
	}
	if x.status != TaskOpen {
		for _, c := range m.waitersFor(x) {
			m.drop(c)
			m.taskEvent(EventTaskAnswered, c)
		}
		if x.at <= m.now {
			m.forgetTask(x)
		}
		return
	}
	if x.at > m.now {
		return
	}
	for _, c := range m.waitersFor(x) {
		s := m.session(c.session)
		if (s == nil || s.deadline > m.now) && m.entitled(x, c.asked) {
			m.beginAttempt(x, c)
			return
		}
	}
	if x.attempts == 0 && !x.ran && len(m.waitersFor(x)) == 0 {
		m.forgetTask(x)
	}
}

func (m *model) taskTimer(x *mTask) {
	x.timer = 0
	if x.status == TaskOpen {
		m.lookTask(x)
		return
	}
	if x.slotEnd != 0 && m.wall() < x.slotEnd {
		m.until(x, m.whenWall(x.slotEnd))
		return
	}
	m.forgetTask(x)
}

// forgetTask forgets what is known of x. Those who wait for it wait for a new task of that name.
func (m *model) forgetTask(x *mTask) {
	gone := &mClaim{lock: mTaskMark + x.name, token: x.token, owner: x.owner, meta: x.meta, since: m.now}
	if c := m.claimant(x); c != nil {
		gone = c
	}
	m.taskEvent(EventTaskForgotten, gone)
	if gone.key != "" {
		m.drop(gone)
		m.spend(mSpent{key: gone.key})
		m.noteSpent(gone)
	}
	if len(m.waitersFor(x)) > 0 {
		*x = mTask{name: x.name, status: TaskOpen, at: m.now}
		return
	}
	m.tasks = slices.DeleteFunc(m.tasks, func(y *mTask) bool { return x == y })
}

func (m *model) byClaimant(name, key, session string, request uint64, op string, f func(x *mTask, c *mClaim) Outcome) Outcome {
	if session != "" && m.session(session) == nil {
		return m.noSession(session)
	}
	o := m.numbered(session, request, op, key, func() Outcome {
		x := m.task(name)
		c := m.claim(key)
		if c != nil && (c.lock != mTaskMark+name || !c.held) {
			c = nil
		}
		if c != nil && session != "" && c.session != session {
			return Outcome{Code: NotClaimant}
		}
		return f(x, c)
	})
	if o.Task == nil && (o.Code == NotClaimant || o.Code == Finished || o.Code == Renewed) {
		o.Task = m.tellTask(name)
	}
	return o
}

func (m *model) finishTask(f *command.FinishTask) Outcome {
	if !m.okResult(f.GetText()) || f.GetRequest() > 0 && f.GetSession() == "" {
		return mInvalid
	}
	return m.byClaimant(f.GetName(), f.GetKey(), f.GetSession(), f.GetRequest(), "finish", func(x *mTask, c *mClaim) Outcome {
		if c == nil && x != nil && x.finisher == f.GetKey() && x.finisher != "" && x.finisherFailed == f.GetFailed() {
			return Outcome{Code: Finished}
		}
		if c == nil {
			return Outcome{Code: NotClaimant}
		}
		if !m.fits(x.text, f.GetText()) {
			return Outcome{Code: TooMuchText}
		}
		x.text, x.finisher, x.finisherFailed = f.GetText(), f.GetKey(), f.GetFailed()
		m.drop(c)
		kind := EventTaskDone
		if f.GetFailed() {
			kind = EventTaskFailed
		}
		m.attemptEnds(c, kind)
		m.spend(mSpent{key: c.key})
		m.noteSpent(c)
		o := Outcome{Code: Finished, Task: m.taskInfo(x)}
		m.lookTask(x)
		return o
	})
}

func (m *model) fits(old, text string) bool {
	return len(text) <= len(old) || m.textWith("")-uint64(len(old))+uint64(len(text)) <= m.settings.GetMaxTextBytes()
}

func (m *model) renewTask(r *command.RenewTask) Outcome {
	if !m.okResult(r.GetProgress()) || !m.okTTL(r.GetTtl(), true) || r.GetRequest() > 0 && r.GetSession() == "" {
		return mInvalid
	}
	return m.byClaimant(r.GetName(), r.GetKey(), r.GetSession(), r.GetRequest(), "renew task", func(x *mTask, c *mClaim) Outcome {
		if c == nil {
			return Outcome{Code: NotClaimant}
		}
		if r.Progress != nil && !m.fits(x.progress, r.GetProgress()) {
			return Outcome{Code: TooMuchText}
		}
		o := m.renewClaim(c, r.GetTtl())
		if r.Progress != nil && r.GetProgress() != x.progress {
			x.progress = r.GetProgress()
			m.taskEvent(EventTaskProgress, c)
		}
		o.Task = m.taskInfo(x)
		return o
	})
}

func (m *model) forgetTaskCommand(f *command.ForgetTask) Outcome {
	if !m.okName(f.GetName()) {
		return mInvalid
	}
	x := m.task(f.GetName())
	switch {
	case x == nil:
		return Outcome{Code: NoTask}
	case f.GetToken() == 0 && x.status == TaskRunning, f.GetToken() != 0 && f.GetToken() != x.token:
		return Outcome{Code: TaskChanged, Task: m.taskInfo(x)}
	}
	m.forgetTask(x)
	m.lookTask(m.task(f.GetName()))
	return Outcome{Code: Done}
}

func (m *model) settleTask(s *command.SettleTask) Outcome {
	if !m.okName(s.GetName()) || !m.okResult(s.GetText()) || s.GetVerdict() < 1 || s.GetVerdict() > 3 {
		return mInvalid
	}
	x := m.task(s.GetName())
	if x == nil {
		return Outcome{Code: NoTask}
	}
	want := []TaskStatus{0, TaskDone, TaskFailed, TaskOpen}[s.GetVerdict()]
	if x.token == s.GetToken() && x.status == want && x.text == s.GetText() && (want != TaskOpen || x.attempts == 0) {
		return Outcome{Code: Done, Task: m.taskInfo(x)}
	}
	if x.token != s.GetToken() || x.status != TaskFailed && x.status != TaskUnknown {
		return Outcome{Code: TaskChanged, Task: m.taskInfo(x)}
	}
	if !m.fits(x.text, s.GetText()) {
		return Outcome{Code: TooMuchText}
	}
	x.text = s.GetText()
	if want == TaskOpen {
		x.status, x.attempts = TaskOpen, 0
		m.until(x, m.now)
	} else {
		m.runEnds(x, want)
	}
	i := m.taskInfo(x)
	m.events = append(m.events, Event{Kind: EventTaskSettled, Lock: x.name, Token: x.token, Owner: x.owner, Metadata: x.meta, Task: i})
	if want != TaskOpen {
		m.lookTask(x)
	}
	return Outcome{Code: Done, Task: i}
}

// --- telling ---

func (m *model) taskEvent(kind EventKind, c *mClaim) {
	e := Event{Kind: kind, Lock: c.lock[len(mTaskMark):], Attachment: c.attachment, Token: c.token, Owner: m.ownerOf(c), Metadata: c.meta}
	e.Key, _ = ParseKey(c.key)
	switch kind {
	case EventTaskClaimed:
		e.TTL, e.Deadline = m.lifetime(c)
		e.Waited = c.waited
	case EventTaskAnswered, EventTaskCancelled:
		e.Waited = m.now.Sub(c.queued)
	case EventTaskDone, EventTaskFailed, EventTaskLost, EventTaskTakenBack, EventTaskForgotten:
		e.HeldFor = m.now.Sub(c.since)
	}
	e.Task = m.taskInfo(m.taskOf(c))
	m.events = append(m.events, e)
}

func (m *model) tellTask(name string) *TaskInfo {
	if x := m.task(name); x != nil {
		return m.taskInfo(x)
	}
	return &TaskInfo{Name: name}
}

func (m *model) taskInfo(x *mTask) *TaskInfo {
	i := &TaskInfo{
		Name: x.name, Status: x.status, Attempts: x.attempts, MaxAttempts: x.terms.GetMaxAttempts(), Token: x.token,
		AtMostOnce: x.terms.GetAtMostOnce(), Owner: x.owner, Metadata: x.meta, Text: x.text, Progress: x.progress, Since: x.since,
		Ended: x.ended, SlotStart: x.slotStart, SlotEnd: x.slotEnd, Waiters: len(m.waitersFor(x)),
	}
	if c := m.claimant(x); c != nil {
		i.Owner, i.Metadata = m.ownerOf(c), c.meta
		i.TTL, i.Deadline = m.lifetime(c)
	}
	switch x.status {
	case TaskRunning:
	case TaskOpen:
		i.ClaimableAt = x.at
	default:
		i.KeepUntil, i.ClaimableAt = x.at, Never
		if x.slotEnd != 0 {
			i.ClaimableAt = m.whenWall(x.slotEnd)
			if x.ran {
				i.ClaimableAt = max(i.ClaimableAt, x.lastRun.Add(time.Duration(x.terms.GetAtLeast())))
			}
		}
	}
	return i
}

// Task shows a task as Table.Task does.
func (m *model) Task(name string) (TaskInfo, bool) {
	if x := m.task(name); x != nil {
		return *m.taskInfo(x), true
	}
	return TaskInfo{}, false
}
