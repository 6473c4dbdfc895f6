package locktable

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// How the judge looks at tasks: S12, and for those who wait S8 to S11. Claims are among its holds and places, under the task's
// name behind a mark.

const jTaskMark = "task\x00"

// jTasks is what the judge knows of tasks, and how often it saw what.
type jTasks struct {
	tasks  map[string]*jTask
	claims map[Key]*command.ClaimTask // what the keys asked for

	claimed, answered, finished, lost, unknown int
}

// jTask is what the history says about a task.
type jTask struct {
	status     TaskStatus
	attempts   uint32
	terms      *command.ClaimTask // of the newest claim
	token      uint64
	slotStart  int64
	scheduled  bool
	result     string
	ended      Time
	delayed    bool // the newest attempt ended so that a delay follows
	ran        bool
	lastRun    Time
	forgotten  bool
	completion int
}

func (j *judge) task(name string) *jTask {
	if j.tasks[name] == nil {
		j.tasks[name] = &jTask{forgotten: true}
	}
	return j.tasks[name]
}

func (j *judge) announceClaim(a *command.ClaimTask, o Outcome) {
	k, ok := ParseKey(a.GetKey())
	if !ok || a == nil || o.Code != Granted && o.Code != Waiting {
		return
	}
	j.sessionOf[k] = a.GetSession()
}

// askedFor returns what the key asked for in this entry. If it asked for several things, the judge cannot tell which of them
// counts: then it is something of the same key that forbids nothing.
func (j *judge) askedFor(e Event, cmds []*command.Command) *command.ClaimTask {
	var found *command.ClaimTask
	for _, c := range cmds {
		if a := c.GetClaimTask(); a != nil && a.GetKey() == e.Key.Reveal() && a.GetName() == e.Lock {
			if found != nil && !proto.Equal(found, a) {
				return &command.ClaimTask{Name: a.GetName(), Key: a.GetKey(), MaxAttempts: ambiguous}
			}
			found = a
		}
	}
	return found
}

const ambiguous = 1 << 31

func (j *judge) taskEvent(e Event, cmds []*command.Command) error {
	x := j.task(e.Lock)
	if e.Task == nil || e.Task.Name != e.Lock {
		return fmt.Errorf("it says nothing about its task")
	}
	q := jTaskMark + e.Lock
	switch e.Kind {
	case EventTaskQueued:
		j.queues[q] = append(j.queues[q], e.Key)
		j.claims[e.Key] = j.askedFor(e, cmds)
		j.place[jKey{e.Key, jTaskMark + e.Lock}] = &jPlace{lock: q, waitUntil: Never, session: j.sessionOf[e.Key]}
	case EventTaskClaimed:
		if err := j.taskClaimed(x, e, cmds); err != nil {
			return err
		}
	case EventTaskAnswered, EventTaskCancelled:
		if err := j.leftTask(x, e, cmds); err != nil {
			return err
		}
	case EventSuperseded, EventTaskProgress:
		if j.place[jKey{e.Key, jTaskMark + e.Lock}] == nil && e.Kind == EventSuperseded || e.Kind == EventTaskProgress && j.live[jKey{e.Key, jTaskMark + e.Lock}] == nil {
			return fmt.Errorf("S10: the key stands for nothing")
		}
	case EventTaskDone, EventTaskFailed, EventTaskLost, EventTaskTakenBack:
		if err := j.attemptEnded(x, e, cmds); err != nil {
			return err
		}
	case EventTaskSettled:
		if err := j.settled(x, e, cmds); err != nil {
			return err
		}
	case EventTaskForgotten:
		return j.taskForgotten(x, e, cmds)
	default:
		return fmt.Errorf("unknown kind")
	}
	if n := len(j.queues[q]); n != e.Task.Waiters {
		return fmt.Errorf("S9: %d wait, the history says %d", e.Task.Waiters, n)
	}
	return j.record(e.Task)
}

// record checks that what is said of a task that is done never changes.
func (j *judge) record(i *TaskInfo) error {
	x := j.tasks[i.Name]
	if x == nil || x.forgotten {
		return nil
	}
	if x.status == TaskDone && i.Token == x.token && i.Status == TaskDone && i.Text != x.result {
		return fmt.Errorf("S12b: the result was %q and is %q", x.result, i.Text)
	}
	if i.MaxAttempts > 0 && i.Attempts > i.MaxAttempts {
		return fmt.Errorf("S12: attempt %d of %d", i.Attempts, i.MaxAttempts)
	}
	return nil
}

func (j *judge) taskClaimed(x *jTask, e Event, cmds []*command.Command) error {
	j.claimed++
	if j.place[jKey{e.Key, jTaskMark + e.Lock}] == nil {
		j.claims[e.Key] = j.askedFor(e, cmds)
	}
	a := j.claims[e.Key]
	if a.GetMaxAttempts() == ambiguous {
		a = &command.ClaimTask{Name: a.GetName(), MaxAttempts: e.Task.MaxAttempts, AtMostOnce: e.Task.AtMostOnce}
	}
	switch {
	case j.live[jKey{e.Key, jTaskMark + e.Lock}] != nil:
		return fmt.Errorf("S10: claimed by a key that holds")
	case a == nil || a.GetName() != e.Lock:
		return fmt.Errorf("S9: nobody asked for it")
	case e.Token <= j.lastToken:
		return fmt.Errorf("S3: token %d after %d", e.Token, j.lastToken)
	case j.stillSpent(e.Key):
		return fmt.Errorf("S10: a spent key was given the claim")
	case j.place[jKey{e.Key, jTaskMark + e.Lock}] == nil && !slices.ContainsFunc(cmds, func(c *command.Command) bool { return c.GetClaimTask().GetKey() == e.Key.Reveal() }):
		return fmt.Errorf("S9: claimed by a key that neither waited nor asked")
	}
	newRun := x.forgotten || e.Task.SlotEnd != 0 && (!x.scheduled || e.Task.SlotStart > x.slotStart)
	if err := j.mayBegin(x, a, newRun); err != nil {
		return err
	}
	if err := j.firstEntitled(x, e, newRun); err != nil {
		return err
	}
	if newRun {
		x.attempts = 0
	}
	if x.forgotten {
		*x = jTask{}
	}
	x.attempts++
	if e.Task.Attempts != x.attempts || e.Task.Status != TaskRunning || e.Task.MaxAttempts != a.GetMaxAttempts() {
		return fmt.Errorf("S12: attempt %d, the history says %d", e.Task.Attempts, x.attempts)
	}
	session := j.sessionOf[e.Key]
	if session != "" && j.sessions[session] == nil && j.opening[session] == 0 {
		return fmt.Errorf("S11: the claim was given to a dead session")
	}
	x.status, x.terms, x.token, x.delayed = TaskRunning, a, e.Token, false
	x.slotStart, x.scheduled = e.Task.SlotStart, e.Task.SlotEnd != 0
	j.lastToken = e.Token
	delete(j.place, jKey{e.Key, jTaskMark + e.Lock})
	j.live[jKey{e.Key, jTaskMark + e.Lock}] = &jHold{jTaskMark + e.Lock, Exclusive, 0, e.Token, e.Deadline, j.now, session, 0}
	return j.exclusion() // S12a
}

// mayBegin checks that a task that is over is not handed out, and that none is before its time.
func (j *judge) mayBegin(x *jTask, a *command.ClaimTask, newRun bool) error {
	switch {
	case x.forgotten:
		return nil
	case newRun && x.ran && x.lastRun.Add(time.Duration(a.GetAtLeast())) > j.now:
		return fmt.Errorf("another run too early")
	case newRun:
		return nil
	case x.status == TaskDone || x.status == TaskFailed || x.status == TaskUnknown:
		return fmt.Errorf("S12c: handed out again though it was over (status %d)", x.status)
	case x.delayed && x.ended.Add(time.Duration(x.terms.GetRetryDelay())) > j.now:
		return fmt.Errorf("another attempt too early")
	}
	return nil
}

// firstEntitled checks that nobody was passed over who lives and may try again.
func (j *judge) firstEntitled(x *jTask, e Event, newRun bool) error {
	q := jTaskMark + e.Lock
	at := slices.Index(j.queues[q], e.Key)
	before := j.queues[q]
	if at >= 0 {
		before = before[:at]
		if !j.alive(jKey{e.Key, q}) {
			return fmt.Errorf("S11: claimed by a dead session")
		}
		if j.place[jKey{e.Key, jTaskMark + e.Lock}].waitUntil <= j.before {
			return fmt.Errorf("S9: claimed after its wait had ended")
		}
	}
	for _, k := range before {
		if j.alive(jKey{k, q}) && j.claims[k].GetMaxAttempts() != ambiguous && !newRun && (j.claims[k].GetMaxAttempts() == 0 || j.claims[k].GetMaxAttempts() > x.attempts) {
			return fmt.Errorf("S8: claimed from position %d", at+1)
		}
	}
	if at >= 0 {
		j.queues[q] = slices.Delete(slices.Clone(j.queues[q]), at, at+1)
	}
	return nil
}

func (j *judge) leftTask(x *jTask, e Event, cmds []*command.Command) error {
	q := jTaskMark + e.Lock
	at, p := slices.Index(j.queues[q], e.Key), j.place[jKey{e.Key, jTaskMark + e.Lock}]
	if at < 0 || p == nil {
		return fmt.Errorf("it had no place")
	}
	gaveUp := slices.ContainsFunc(cmds, func(c *command.Command) bool {
		a := c.GetClaimTask()
		return a.GetKey() == e.Key.Reveal() && a.GetName() == e.Lock && a.GetWait() == 0
	})
	over := !x.forgotten && x.status >= TaskDone
	if e.Kind == EventTaskAnswered {
		j.answered++
		if p.waitUntil > j.now && !gaveUp && !over {
			return fmt.Errorf("S9: answered early")
		}
	} else {
		j.spend(Key{})
	}
	j.queues[q] = slices.Delete(slices.Clone(j.queues[q]), at, at+1)
	delete(j.place, jKey{e.Key, jTaskMark + e.Lock})
	return nil
}

func (j *judge) attemptEnded(x *jTask, e Event, cmds []*command.Command) error {
	h := j.live[jKey{e.Key, jTaskMark + e.Lock}]
	if h == nil || h.lock != jTaskMark+e.Lock || h.token != e.Token || x.status != TaskRunning {
		return fmt.Errorf("S12b: an attempt ended by a key without the claim")
	}
	if e.HeldFor != j.now.Sub(h.since) {
		return fmt.Errorf("it took %d, not %d", e.HeldFor, j.now.Sub(h.since))
	}
	delete(j.live, jKey{e.Key, jTaskMark + e.Lock})
	if err := j.endReason(x, h, e, cmds); err != nil {
		return err
	}
	if e.Kind != EventTaskTakenBack {
		j.spend(e.Key)
	}
	x.status, x.ended, x.delayed = TaskOpen, j.now, true
	usedUp := x.terms.GetMaxAttempts() > 0 && x.attempts >= x.terms.GetMaxAttempts()
	switch {
	case e.Kind == EventTaskTakenBack:
		x.attempts--
		x.delayed = false
	case e.Kind == EventTaskDone:
		x.status = TaskDone
		x.completion++
		x.ran, x.lastRun = true, j.now
	case e.Kind == EventTaskLost && x.terms.GetAtMostOnce():
		x.status = TaskUnknown
		j.unknown++
	case usedUp:
		x.status = TaskFailed
		x.ran, x.lastRun = true, j.now
	}
	if e.Task.Status != x.status || e.Task.Attempts != x.attempts {
		return fmt.Errorf("S12: it should be status %d after %d attempts", x.status, x.attempts)
	}
	return nil
}

// endReason checks that an attempt ends for a reason.
func (j *judge) endReason(x *jTask, h *jHold, e Event, cmds []*command.Command) error {
	name, key := e.Lock, e.Key.Reveal()
	switch e.Kind {
	case EventTaskDone, EventTaskFailed:
		j.finished++
		for _, c := range cmds {
			f := c.GetFinishTask()
			if f != nil && f.GetName() == name && f.GetKey() == key && f.GetFailed() == (e.Kind == EventTaskFailed) {
				x.result = e.Task.Text
				if e.Task.Text == f.GetText() {
					return nil
				}
			}
		}
		return fmt.Errorf("S12b: nobody reported that")
	case EventTaskLost:
		j.lost++
		released, _ := j.releasedBy(cmds, e.Key, "", h.session, 0)
		if !released && j.deadlineOf(h, h.session) > j.now {
			return fmt.Errorf("S5: lost early")
		}
	case EventTaskTakenBack:
		if _, abandoned := j.releasedBy(cmds, e.Key, "", h.session, 0); !abandoned {
			return fmt.Errorf("S4: taken back by nobody")
		}
	}
	return nil
}

func (j *judge) settled(x *jTask, e Event, cmds []*command.Command) error {
	byOrder := slices.ContainsFunc(cmds, func(c *command.Command) bool {
		s := c.GetSettleTask()
		return s.GetName() == e.Lock && s.GetToken() == x.token && s.GetText() == e.Task.Text
	})
	if !byOrder || x.forgotten || x.status != TaskFailed && x.status != TaskUnknown {
		return fmt.Errorf("S12: settled without need (status %d)", x.status)
	}
	x.status, x.delayed, x.result = e.Task.Status, false, e.Task.Text
	if x.status == TaskOpen {
		x.attempts = 0
	} else {
		x.ran, x.lastRun = true, j.now
	}
	return nil
}

func (j *judge) taskForgotten(x *jTask, e Event, cmds []*command.Command) error {
	byOrder := slices.ContainsFunc(cmds, func(c *command.Command) bool { return c.GetForgetTask().GetName() == e.Lock })
	if h := j.live[jKey{e.Key, jTaskMark + e.Lock}]; h != nil {
		if !byOrder {
			return fmt.Errorf("S12: a running task was forgotten")
		}
		delete(j.live, jKey{e.Key, jTaskMark + e.Lock})
		j.spend(e.Key)
	}
	keep := x.terms.GetKeep()
	byTime := x.ran && x.status >= TaskDone && keep >= 0 && x.lastRun.Add(time.Duration(max(keep, x.terms.GetAtLeast()))) <= j.now
	takenBack := x.status == TaskOpen && x.attempts == 0
	if x.forgotten || !byOrder && !byTime && !takenBack {
		return fmt.Errorf("S12: forgotten too early (status %d)", x.status)
	}
	*x = jTask{forgotten: true}
	return nil
}

// taskOutcome judges what a command about tasks was answered.
func (j *judge) taskOutcome(c *command.Command, o Outcome, events []Event) error {
	if o.Task != nil {
		if err := j.record(o.Task); err != nil {
			return err
		}
	}
	if a := c.GetClaimTask(); a != nil {
		k, _ := ParseKey(a.GetKey())
		if h := j.live[jKey{k, jTaskMark + a.GetName()}]; o.Code == Granted && !mentions(events, k) {
			if h == nil || h.token != o.Token || h.lock != jTaskMark+a.GetName() {
				return fmt.Errorf("S10: the claim is not the key's")
			}
			j.duplicates++
		}
		if p := j.place[jKey{k, jTaskMark + a.GetName()}]; p != nil && o.Code == Waiting {
			p.waitUntil = Never
			if a.GetWait() >= 0 {
				p.waitUntil = j.now.Add(time.Duration(a.GetWait()))
			}
		}
	}
	if f := c.GetFinishTask(); f != nil && o.Code == Finished {
		if k, _ := ParseKey(f.GetKey()); j.live[jKey{k, jTaskMark + f.GetName()}] != nil && !mentions(events, k) && f.GetRequest() == 0 {
			return fmt.Errorf("S12b: finished, but the claim is still there")
		}
	}
	if r := c.GetRenewTask(); r != nil && o.Code == Renewed {
		if k, ok := ParseKey(r.GetKey()); ok {
			return j.renewed(k, jTaskMark+r.GetName(), o, events, r.GetRequest() != 0)
		}
	}
	return nil
}
