package locktable

import (
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// settingsLevel returns the oldest format version that has what s says.
func settingsLevel(s *command.Settings) uint32 {
	return command.Current.Of(command.FromConfigure(&command.Configure{Settings: s}))
}

// add counts c.
func (s *Stats) add(c *claim) {
	switch {
	case c.lock.isTask && c.waiting():
		s.TaskWaiters++
	case c.lock.isTask:
		s.Running++
	case c.waiting():
		s.Waiters++
	default:
		s.Holders++
	}
}

func (s *Snapshot) collectTasks(most int) {
	s.tasks.Ascend(s.cursor, func(name string, x *task) bool {
		if name == s.cursor {
			return true
		}
		if len(s.collected) >= most {
			return false
		}
		image := s.taskImages[&x.lock]
		if image == nil {
			image = x.record()
		}
		delete(s.taskImages, &x.lock)
		s.collect(&command.Record{Kind: &command.Record_Task{Task: image}})
		s.cursor = name
		s.trailer.Tasks++
		return true
	})
}

// keepTask keeps the image of the task that l belongs to if it has yet to be written.
func (s *Snapshot) keepTask(l *lock) {
	if s.part > partTasks || (s.part == partTasks && s.cursor != "" && l.name <= s.cursor) {
		return
	}
	if x := s.table.taskOf(l); x != nil && s.taskImages[l] == nil {
		s.taskImages[l] = x.record()
	}
}

func (x *task) record() *command.TaskRecord {
	r := &command.TaskRecord{
		Name: x.name, Status: uint32(x.status), Attempts: x.attempts, MaxAttempts: x.terms.maxAttempts, Token: x.token,
		AtMostOnce: x.terms.atMostOnce, Keep: int64(x.terms.keep), RetryDelay: int64(x.terms.retryDelay),
		AtLeast: int64(x.terms.atLeast), SlotStart: x.slotStart, SlotEnd: x.slotEnd, Text: x.text, Progress: x.progress,
		Owner: x.owner, Metadata: x.metadata, Since: int64(x.since), Ended: int64(x.ended), TimerAt: int64(x.at), TimerSeq: x.seq,
		FinisherFailed: x.finisherFailed, LastRun: int64(x.lastRun),
	}
	if x.at == Never {
		r.TimerAt = waitForever
	}
	if x.finisher != (Key{}) {
		r.Finisher = x.finisher.Reveal()
	}
	if c := x.holders.head; c != nil {
		r.Claimant = c.record()
	}
	for c := x.waiters.head; c != nil; c = c.next {
		w := c.record()
		w.Terms = c.extra.terms.record()
		r.Waiters = append(r.Waiters, w)
	}
	return r
}

func (m *taskTerms) record() *command.TaskTerms {
	return &command.TaskTerms{
		Keep: int64(m.keep), MaxAttempts: m.maxAttempts, RetryDelay: int64(m.retryDelay), AtMostOnce: m.atMostOnce,
		AtLeast: int64(m.atLeast),
	}
}

func restoreTerms(r *command.TaskTerms) *taskTerms {
	return &taskTerms{
		keep: time.Duration(r.GetKeep()), retryDelay: time.Duration(r.GetRetryDelay()), atLeast: time.Duration(r.GetAtLeast()),
		maxAttempts: r.GetMaxAttempts(), atMostOnce: r.GetAtMostOnce(),
	}
}

func (r *restorer) takeTask(x *command.TaskRecord) error {
	k, ok := ParseKey(x.GetFinisher())
	switch {
	case !ok && x.GetFinisher() != "":
		return bad("a finishing key is malformed")
	case !ok && x.GetFinisherFailed():
		return bad("nobody finished, but failed")
	case x.GetTimerAt() != waitForever && (x.GetTimerAt() < 0 || Time(x.GetTimerAt()) == Never):
		return bad("a task has an impossible time")
	}
	s := &task{
		lock: lock{name: strings.Clone(x.GetName()), isTask: true}, status: TaskStatus(x.GetStatus()), attempts: x.GetAttempts(),
		token: x.GetToken(), slotStart: x.GetSlotStart(), slotEnd: x.GetSlotEnd(), text: x.GetText(), progress: x.GetProgress(),
		owner: x.GetOwner(), metadata: x.GetMetadata(), since: Time(x.GetSince()), ended: Time(x.GetEnded()), at: Time(x.GetTimerAt()),
		seq: x.GetTimerSeq(), finisher: k, finisherFailed: x.GetFinisherFailed(), lastRun: Time(x.GetLastRun()),
		terms: taskTerms{
			keep: time.Duration(x.GetKeep()), retryDelay: time.Duration(x.GetRetryDelay()), atLeast: time.Duration(x.GetAtLeast()),
			maxAttempts: x.GetMaxAttempts(), atMostOnce: x.GetAtMostOnce(),
		},
	}
	if x.GetTimerAt() == waitForever {
		s.at = Never
	}
	r.table.tasks.Set(s.name, s)
	r.table.text += s.textBytes()
	if s.seq != 0 {
		r.table.timers.arm(s)
	}
	r.count.Tasks++
	return r.takeTaskClaims(s, x)
}

func (r *restorer) takeTaskClaims(s *task, x *command.TaskRecord) error {
	if x.GetClaimant() != nil {
		if err := r.takeClaim(&s.lock, x.GetClaimant(), false); err != nil {
			return err
		}
	}
	for _, w := range x.GetWaiters() {
		if err := r.takeClaim(&s.lock, w, true); err != nil {
			return err
		}
	}
	return nil
}

// task checks one task and its claims.
func (c *checker) task(x *task) {
	c.must(CheckTaskName(c.t.settings, x.name) == nil || len(x.name) > int(c.t.settings.GetMaxName()), "task %q has an impossible name", x.name)
	c.text += x.textBytes()
	c.must(x.isTask && x.slots == 0 && x.block == nil, "task %q is a plain lock", x.name)
	c.must(x.status >= TaskOpen && x.status <= TaskUnknown, "task %q has an unknown status", x.name)
	c.must(x.terms.sane(), "task %q has impossible terms", x.name)
	c.must(x.terms.maxAttempts == 0 || x.attempts <= x.terms.maxAttempts, "task %q: %d attempts of %d", x.name, x.attempts, x.terms.maxAttempts)
	c.must(x.token <= c.t.lastToken, "task %q: token %d of %d", x.name, x.token, c.t.lastToken)
	c.must(x.slotStart == 0 && x.slotEnd == 0 || x.slotStart >= 0 && x.slotStart < x.slotEnd, "task %q has an impossible slot", x.name)
	c.must(x.since >= 0 && x.since <= c.t.now && x.ended >= 0 && x.ended <= c.t.now, "task %q has times in the future", x.name)
	c.must(x.lastRun >= noRun && x.lastRun <= c.t.now, "task %q ran in the future", x.name)
	c.taskTimer(x)
	running := x.status == TaskRunning
	c.must(running == (x.holders.n == 1) && x.holders.n <= 1, "task %q: status %d with %d claimants", x.name, x.status, x.holders.n)
	if h := x.holders.head; h != nil {
		c.claim(&x.lock, h)
		_, deadline := h.lease()
		c.must(h.next == nil && !h.waiting() && h.token == x.token && h.since == x.since && deadline > c.t.now, "task %q: a bad claim", x.name)
		c.must(x.owner == "" && x.metadata == "" && x.ended == 0 && x.attempts > 0, "task %q does not run as it should", x.name)
		c.must(h.extra == nil || h.extra.terms == nil, "task %q: the terms of a claim are there twice", x.name)
		c.must(h.mode == 0 && h.details().lockDelay == 0, "task %q: a claim looks like a hold", x.name)
		if h.session == nil {
			c.timer(h)
		} else {
			c.must(*h.slot() == 0, "task %q: a claim of a session has its own timer", x.name)
		}
		c.counts.Running++
	}
	c.taskWaiters(x)
}

func (m *taskTerms) sane() bool {
	return m.keep >= -1 && m.retryDelay >= 0 && m.atLeast >= 0 && max(m.keep, m.retryDelay, m.atLeast) <= maxDuration
}

func (c *checker) taskTimer(x *task) {
	if x.seq != 0 {
		c.seq(x.seq)
		c.timer(x)
	}
	toCome := x.at > c.t.now && x.at < Never
	c.must((x.seq != 0) == toCome && (x.seq != 0) == (x.timer != 0), "task %q: its timer is not as it should be", x.name)
	switch {
	case x.status == TaskRunning:
		c.must(x.at == 0, "task %q runs and waits", x.name)
	case x.over():
		c.must(x.at > c.t.now, "task %q is kept too long", x.name)
	default:
		c.must(x.at >= 0, "task %q waits for the past", x.name)
	}
}

func (c *checker) taskWaiters(x *task) {
	n := 0
	for w := x.waiters.head; w != nil; w = w.next {
		n++
		c.claim(&x.lock, w)
		c.must(w.waiting() && w.extra != nil && w.extra.terms != nil && w.extra.terms.sane(), "task %q: a waiter without terms", x.name)
		c.must(w.due() > c.t.now, "task %q: a waiter is overdue", x.name)
		c.must(w.mode == 0 && w.extra.lockDelay == 0, "task %q: a waiter looks like one of a lock", x.name)
		c.must(w.next == nil || w.next.seq > w.seq, "task %q: the queue is out of order", x.name)
		c.timer(w)
	}
	c.must(n == x.waiters.len(), "task %q counts %d waiters of %d", x.name, x.waiters.n, n)
	c.must(n == 0 || !x.over(), "task %q is over and %d wait", x.name, n)
	c.must(x.status != TaskOpen || x.at > c.t.now || x.firstEntitled(c.t.now) == nil, "task %q: the first who waits could have it", x.name)
	c.counts.TaskWaiters += n
}
