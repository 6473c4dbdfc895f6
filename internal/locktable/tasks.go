package locktable

import (
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// task is the record of one task. The lock in it, which is not among the table's locks, has the claimant as its only
// holder, and those who wait; so sessions, deadlines, polls, attachments and spent keys work as for locks.
type task struct {
	lock
	status   TaskStatus
	attempts uint32
	terms    taskTerms // of the newest claim
	token    uint64    // of the newest claim
	// Of the newest run, in calendar time; 0, 0: none.
	slotStart, slotEnd int64
	text, progress     string
	// Who had the newest claim; empty while the task runs, since the claim says it.
	owner, metadata string
	since, ended    Time
	// Open: from when on it can be claimed. Over: when the record goes (Never: it stays). Running: 0.
	at    Time
	seq   uint64 // of the timer; 0: not armed
	timer int32
	// It is open and can be claimed, but nobody who waits may have it. That does not change when one of them leaves, so that
	// many who leave cost one look at the queue, not one each.
	passedOver bool
	// The key that finished an attempt last, and how. The zero key: none.
	finisher       Key
	finisherFailed bool
	lastRun        Time // when the newest run that was done or failed ended, or noRun
}

// taskTerms are what a claim says about its task.
type taskTerms struct {
	keep, retryDelay, atLeast time.Duration
	maxAttempts               uint32
	atMostOnce                bool
}

const noRun Time = -1

func (x *task) due() Time     { return x.at }
func (x *task) order() uint64 { return x.seq }
func (x *task) slot() *int32  { return &x.timer }

// over tells whether there is nothing left to do for anybody, unless an operator or the next slot says otherwise.
func (x *task) over() bool { return x.status >= TaskDone }

// textBytes is what x takes of the room for texts. The room of the finishing key is reserved from the beginning, so that an
// attempt can always be finished.
func (x *task) textBytes() uint64 {
	return uint64(len(x.name) + len(x.owner) + len(x.metadata) + len(x.text) + len(x.progress) + KeyLen)
}

// allow tells whether terms leave x one more attempt.
func (x *task) allow(terms *taskTerms) bool {
	return terms.maxAttempts == 0 || x.attempts < terms.maxAttempts
}

func (t *Table) taskNamed(name string) *task {
	x, _ := t.tasks.Get(name)
	return x
}

// taskOf returns the task that l belongs to, or nil if l is a plain lock or its task is forgotten.
func (t *Table) taskOf(l *lock) *task {
	if !l.isTask {
		return nil
	}
	if x := t.taskNamed(l.name); x != nil && &x.lock == l {
		return x
	}
	return nil
}

func (t *Table) newTask(name string) *task {
	x := &task{lock: lock{name: strings.Clone(name), isTask: true}, status: TaskOpen, at: t.now, lastRun: noRun}
	t.tasks.Set(x.name, x)
	t.text += x.textBytes()
	return x
}

// rewrite lets change change texts of x.
func (t *Table) rewrite(x *task, change func()) {
	t.text -= x.textBytes()
	change()
	t.text += x.textBytes()
}

// armTask makes the timer of x fire at x.at, if that is to come.
func (t *Table) armTask(x *task) {
	if x.at > t.now && x.at < Never {
		x.seq = t.nextSeq()
		t.timers.arm(x)
	}
}

func (t *Table) disarmTask(x *task) {
	t.timers.disarm(x)
	x.seq = 0
}

// fireTask makes x claimable after a delay, or forgets it after its time.
func (t *Table) fireTask(x *task) {
	t.touch(&x.lock)
	if !x.over() {
		x.seq, x.passedOver = 0, false
		t.serveTask(&x.lock)
		return
	}
	if at := t.slotOver(x); at > t.now {
		// The calendar was set back, so that the slot lasts longer than it seemed.
		x.at = at
		t.armTask(x)
		return
	}
	t.forgetTask(x)
}

// reaches returns the cluster time from which on the calendar shows wall or later, as far as that is known now; not before now.
func (t *Table) reaches(wall int64) Time {
	if present, ok := t.Calendar(t.now); ok && wall > present {
		return t.now.Add(time.Duration(wall - present))
	}
	return t.now
}

// slotOver returns when the slot of x ends, or the present if it has none.
func (t *Table) slotOver(x *task) Time {
	if x.slotEnd == 0 {
		return t.now
	}
	return t.reaches(x.slotEnd)
}

// spaced returns from when on another run of x may begin by the spacing of its runs.
func (x *task) spaced(atLeast time.Duration) Time {
	if x.lastRun == noRun {
		return 0
	}
	return x.lastRun.Add(max(atLeast, x.terms.atLeast))
}

// begin gives c, which is in no list, the claim on x.
func (t *Table) begin(x *task, c *claim, terms taskTerms) {
	t.touch(&x.lock)
	t.disarmTask(x)
	t.rewrite(x, func() { x.owner, x.metadata, x.progress = "", "", "" })
	x.status, x.terms, x.at = TaskRunning, terms, 0
	x.attempts++
	x.token = t.nextToken()
	x.since, x.ended = t.now, 0
	if waited := t.now.Sub(c.since); waited > 0 {
		c.ensureExtra().waited = waited
	}
	c.token, c.since = x.token, t.now
	x.holders.push(c)
	t.counts.Running++
	if c.session == nil {
		c.deadline = t.now.Add(c.ttl)
		t.timers.arm(c)
	} else {
		t.timers.disarm(c)
	}
	e := t.taskEvent(x, c, EventTaskClaimed)
	e.TTL, e.Deadline = c.lease()
	e.Waited = c.details().waited
	t.emit(e)
}

// endClaim ends the attempt of c, as done, failed, lost or taken back. The caller serves the task.
func (t *Table) endClaim(x *task, c *claim, kind EventKind, a afterwards) {
	t.touch(&x.lock)
	x.holders.remove(c)
	t.counts.Running--
	t.rewrite(x, func() { x.owner, x.metadata = c.ownerName(), c.details().metadata })
	x.ended = t.now
	switch {
	case kind == EventTaskDone:
		t.setOver(x, TaskDone)
	case kind == EventTaskTakenBack:
		x.attempts--
		t.setOpen(x, 0)
	case kind == EventTaskLost && x.terms.atMostOnce:
		t.setOver(x, TaskUnknown)
	case !x.allow(&x.terms):
		t.setOver(x, TaskFailed)
	default:
		t.setOpen(x, x.terms.retryDelay)
	}
	e := t.taskEvent(x, c, kind)
	e.HeldFor = t.now.Sub(c.since)
	t.emit(e)
	t.forget(c, a)
}

func (t *Table) setOpen(x *task, delay time.Duration) {
	x.status, x.at, x.passedOver = TaskOpen, t.now.Add(delay), false
	t.armTask(x)
}

func (t *Table) setOver(x *task, status TaskStatus) {
	x.status, x.at = status, Never
	if status != TaskUnknown {
		x.lastRun = t.now
		if x.terms.keep >= 0 {
			x.at = max(t.now.Add(x.terms.keep), t.slotOver(x), x.spaced(0))
		}
	}
	t.armTask(x)
}

// endHeldClaim is endHold for the claimant of a task: a hold that ends before the attempt is finished.
func (t *Table) endHeldClaim(c *claim, a afterwards) {
	kind := EventTaskLost
	if a == keepKey {
		kind = EventTaskTakenBack
	}
	t.endClaim(t.taskOf(c.lock), c, kind, a)
}

// dropFromTask is drop for one who waits for a task.
func (t *Table) dropFromTask(c *claim, kind EventKind, a afterwards) {
	if kind == EventTimedOut {
		kind = EventTaskAnswered
	} else {
		kind = EventTaskCancelled
	}
	x := t.taskOf(c.lock)
	t.touch(c.lock)
	x.waiters.remove(c)
	t.counts.TaskWaiters--
	e := t.taskEvent(x, c, kind)
	e.Waited = t.now.Sub(c.since)
	t.emit(e)
	t.forget(c, a)
}

// serveTask is look for a task: it tells those who wait that the task is over, or gives the claim to the first who may have it.
// It may walk over all who wait, of whom there are Settings.MaxWaitersPerLock at most, once for each end of an attempt or delay.
func (t *Table) serveTask(l *lock) {
	x := t.taskOf(l)
	switch {
	case x == nil || x.status == TaskRunning:
	case x.over():
		for w := x.waiters.head; w != nil; w = x.waiters.head {
			t.dropFromTask(w, EventTimedOut, keepKey)
		}
		if x.at <= t.now {
			t.forgetTask(x)
		}
	case x.at > t.now:
	default:
		var w *claim
		if !x.passedOver {
			w = x.firstEntitled(t.now)
		}
		if x.passedOver = w == nil; w != nil {
			t.touch(l)
			x.waiters.remove(w)
			t.counts.TaskWaiters--
			terms := *w.extra.terms
			w.extra.terms = nil
			t.begin(x, w, terms)
		} else if x.attempts == 0 && x.lastRun == noRun && !x.used() {
			t.forgetTask(x) // its only attempt was taken back
		}
	}
}

// firstEntitled returns the first waiter whose session lives and whose terms leave another attempt.
func (x *task) firstEntitled(now Time) *claim {
	for w := x.waiters.head; w != nil; w = w.next {
		if (w.session == nil || w.session.deadline > now) && x.allow(w.extra.terms) {
			return w
		}
	}
	return nil
}

// forgetTask removes the record of x and ends the claim on it, if there is one. If somebody waits, it begins anew as if the
// task had never been known; the caller serves it.
func (t *Table) forgetTask(x *task) {
	t.touch(&x.lock)
	c := x.holders.head
	if c == nil {
		c = &claim{lock: &x.lock, token: x.token, since: t.now}
		c.extra = &extra{owner: x.owner, metadata: x.metadata}
	}
	e := t.taskEvent(x, c, EventTaskForgotten)
	e.HeldFor = t.now.Sub(c.since)
	t.emit(e)
	t.disarmTask(x)
	if c == x.holders.head {
		x.holders.remove(c)
		t.counts.Running--
		t.forget(c, spendKey)
	}
	t.text -= x.textBytes()
	if !x.used() {
		t.tasks.Delete(x.name)
		return
	}
	fresh := task{status: TaskOpen, at: t.now, lastRun: noRun}
	fresh.lock = x.lock
	*x = fresh
	t.text += x.textBytes()
}

// taskEvent returns an event about c, which has or had a claim on x or waits for it.
func (t *Table) taskEvent(x *task, c *claim, kind EventKind) Event {
	e := t.event(c, kind)
	e.Task = t.taskInfo(x)
	return e
}

// tellTask completes an outcome with how the task stands.
func (t *Table) tellTask(o Outcome, name string) Outcome {
	switch o.Code {
	case NotClaimable, NotClaimant, Finished, Renewed, TaskChanged:
		if o.Task == nil {
			o.Task = t.describeTask(name)
		}
	}
	return o
}

// describeTask tells how a task stands. Without a record its status is 0.
func (t *Table) describeTask(name string) *TaskInfo {
	if x := t.taskNamed(name); x != nil {
		return t.taskInfo(x)
	}
	return &TaskInfo{Name: strings.Clone(name)}
}

func (t *Table) taskInfo(x *task) *TaskInfo {
	i := &TaskInfo{
		Name: x.name, Status: x.status, Attempts: x.attempts, MaxAttempts: x.terms.maxAttempts, Token: x.token,
		AtMostOnce: x.terms.atMostOnce, Owner: x.owner, Metadata: x.metadata, Text: x.text, Progress: x.progress,
		Since: x.since, Ended: x.ended, SlotStart: x.slotStart, SlotEnd: x.slotEnd, Waiters: x.waiters.len(),
	}
	switch {
	case x.status == TaskRunning:
		if c := x.holders.head; c != nil {
			i.Owner, i.Metadata = c.ownerName(), c.details().metadata
			i.TTL, i.Deadline = c.lease()
		}
	case x.status == TaskOpen:
		i.ClaimableAt = x.at
	default:
		i.KeepUntil, i.ClaimableAt = x.at, Never
		if x.slotEnd != 0 {
			i.ClaimableAt = max(t.slotOver(x), x.spaced(0))
		}
	}
	return i
}

// Task tells about the task of that name, or returns false if there is no record of it.
func (t *Table) Task(name string) (TaskInfo, bool) {
	x := t.taskNamed(name)
	if x == nil {
		return TaskInfo{}, false
	}
	return *t.taskInfo(x), true
}

// Tasks tells about up to limit tasks whose names begin with prefix and come after the name after, in the byte order of
// names.
func (t *Table) Tasks(prefix, after string, limit int) []TaskInfo {
	var out []TaskInfo
	t.tasks.Ascend(max(prefix, after), func(name string, x *task) bool {
		if len(out) >= limit || !strings.HasPrefix(name, prefix) {
			return false
		}
		if name > after {
			out = append(out, *t.taskInfo(x))
		}
		return true
	})
	return out
}

// termsOf returns what a says about the task.
func termsOf(a *command.ClaimTask) taskTerms {
	return taskTerms{
		keep: max(time.Duration(a.GetKeep()), -1), retryDelay: time.Duration(a.GetRetryDelay()), atLeast: time.Duration(a.GetAtLeast()),
		maxAttempts: a.GetMaxAttempts(), atMostOnce: a.GetAtMostOnce(),
	}
}
