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

type mAnchor struct {
	now  Time
	wall int64
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

func (m *model) wall() int64 {
	if len(m.anchors) == 0 {
		return int64(m.now)
	}
	last := m.anchors[len(m.anchors)-1]
	return last.wall + int64(m.now-last.now)
}

func (m *model) calendar(c *command.Calendar) Outcome {
	if c.GetAt() < 0 || c.GetAt() > int64(200*366*24*time.Hour) {
		return mInvalid
	}
	if len(m.anchors) == 0 || c.GetForce() || c.GetAt() > m.wall()+int64(time.Millisecond) {
		m.anchors = append(m.anchors, mAnchor{m.now, c.GetAt()})
	}
	return Outcome{Code: Done}
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
		m.remember(s, mReply{a.GetRequest(), "claim", a.GetKey(), o.Code, 0})
		return o
	case r.code == NotClaimable || r.code == KeySpent && x != nil && x.finisher == a.GetKey():
		return Outcome{Code: NotClaimable, Task: m.tell(a.GetName())}
	case r.code != Granted && r.code != Waiting:
		return Outcome{Code: r.code}
	}
	o = m.claimKey(a)
	if o.Code != KeyInUse {
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
		return Outcome{Code: NotClaimable, Task: m.tell(a.GetName())}
	case c != nil:
		if c.attachment != a.GetAttachment() {
			m.taskEvent(EventSuperseded, c)
		}
		m.attach(c, &command.Acquire{Attachment: a.GetAttachment(), Wait: a.GetWait()})
		return Outcome{Code: Waiting, Position: m.position(c), Task: m.tell(a.GetName())}
	case x != nil && x.finisher == a.GetKey():
		return Outcome{Code: NotClaimable, Task: m.tell(a.GetName())}
	case m.isSpent(a.GetKey()):
		return Outcome{Code: KeySpent}
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
			o := Outcome{Code: NotClaimable, Task: m.tell(x.name)}
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
		return Outcome{Code: NotClaimable, Task: m.tell(x.name)}
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
	m.claims = append(m.claims, c)
	m.attach(c, &command.Acquire{Attachment: a.GetAttachment(), Wait: a.GetWait()})
	if free {
		m.beginAttempt(x, c)
		return m.claimed(c)
	}
	m.taskEvent(EventTaskQueued, c)
	return Outcome{Code: Waiting, Position: m.position(c), Task: m.tell(x.name)}
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

// --- ending ---

// attemptEnds is called after the claim c on a task has gone.
func (m *model) attemptEnds(c *mClaim, kind EventKind) {
	x := m.taskOf(c)
	x.owner, x.meta, x.ended = c.owner, c.meta, m.now
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
		m.spend(gone.key)
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
		o.Task = m.tell(name)
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
		m.spend(c.key)
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
	e := Event{Kind: kind, Lock: c.lock[len(mTaskMark):], Attachment: c.attachment, Token: c.token, Owner: c.owner, Metadata: c.meta}
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

func (m *model) tell(name string) *TaskInfo {
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
		i.Owner, i.Metadata = c.owner, c.meta
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
