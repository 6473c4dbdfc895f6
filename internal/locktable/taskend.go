package locktable

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// The numbered operations on tasks, see requests.go.
const (
	opClaimTask uint32 = iota + 5
	opFinishTask
	opRenewTask
)

// CheckTaskName returns what is wrong with a task's name, or nil. The rules are those of CheckName.
func CheckTaskName(s *command.Settings, name string) error {
	return checkName(s, "the task's name", name)
}

// CheckTaskText returns what is wrong with a result, an error or a progress, or nil: up to Settings.MaxResult bytes of UTF-8
// without control characters other than tabs and line ends.
func CheckTaskText(s *command.Settings, text string) error {
	if len(text) > MaxResult(s) {
		return errors.New("the text is longer than " + strconv.Itoa(MaxResult(s)) + " bytes")
	}
	return checkText("the text", text, true)
}

// CheckClaimTask returns the first rule that a breaks, or nil.
func CheckClaimTask(s *command.Settings, a *command.ClaimTask) error {
	if err := CheckTaskName(s, a.GetName()); err != nil {
		return err
	}
	if _, ok := ParseKey(a.GetKey()); !ok {
		return errKey
	}
	lease := &command.Acquire{Key: a.GetKey(), Session: a.GetSession(), Ttl: a.GetTtl(), Request: a.GetRequest()}
	if err := checkLease(s, lease); err != nil {
		return err
	}
	if a.GetWait() > 0 && a.GetWait() > s.GetMaxWait() {
		return errors.New("the wait must be at most " + seconds(time.Duration(s.GetMaxWait())) + " seconds")
	}
	for _, d := range []struct {
		what  string
		value int64
	}{
		{"the time to keep the record", max(a.GetKeep(), 0)},
		{"the delay before another attempt", a.GetRetryDelay()},
		{"the time between runs", a.GetAtLeast()},
	} {
		if err := checkDuration(d.what, time.Duration(d.value), 0, int64(maxDuration)); err != nil {
			return err
		}
	}
	if start, end := a.GetSlotStart(), a.GetSlotEnd(); (start != 0 || end != 0) && (start < 0 || start >= end) {
		return errors.New("the slot must begin at 0 or later and end after its beginning")
	}
	return checkOwner(s, a.GetOwner(), a.GetMetadata())
}

// claimantOf returns the claim of key on the task x, or nil.
func (t *Table) claimantOf(x *task, key string) *claim {
	k, ok := ParseKey(key)
	if x == nil || !ok {
		return nil
	}
	if c := x.holders.head; c != nil && c.key == k {
		return c
	}
	return nil
}

// byClaimant runs do for the claimant, as a numbered request of the session if one is named.
func (t *Table) byClaimant(name, key, session string, q request, do func(x *task, c *claim) Outcome) Outcome {
	run := func() Outcome {
		x := t.taskNamed(name)
		c := t.claimantOf(x, key)
		if c != nil && session != "" && (c.session == nil || c.session.id != session) {
			return Outcome{Code: NotClaimant}
		}
		return do(x, c)
	}
	if session == "" {
		return t.tellTask(run(), name)
	}
	s := t.sharedSession(session)
	if s == nil {
		return t.noSession(session)
	}
	return t.tellTask(t.numbered(s, q, run), name)
}

func (t *Table) finishTask(f *command.FinishTask) Outcome {
	err := CheckTaskText(t.settings, f.GetText())
	if f.GetRequest() != 0 && f.GetSession() == "" {
		err = errRequest
	}
	if err != nil {
		return invalid(err)
	}
	q := request{number: f.GetRequest(), op: opFinishTask, key: f.GetKey()}
	return t.byClaimant(f.GetName(), f.GetKey(), f.GetSession(), q, func(x *task, c *claim) Outcome {
		if c == nil {
			return finishedBefore(x, f)
		}
		return t.finishAttempt(x, c, f)
	})
}

// finishedBefore answers one who has no claim (any more).
func finishedBefore(x *task, f *command.FinishTask) Outcome {
	if key, ok := ParseKey(f.GetKey()); ok && x != nil && x.finisher == key && x.finisherFailed == f.GetFailed() {
		return Outcome{Code: Finished}
	}
	return Outcome{Code: NotClaimant}
}

func (t *Table) finishAttempt(x *task, c *claim, f *command.FinishTask) Outcome {
	if !t.hasRoomToChange(x.text, f.GetText()) {
		return Outcome{Code: TooMuchText}
	}
	t.touch(&x.lock)
	t.rewrite(x, func() { x.text = strings.Clone(f.GetText()) })
	x.finisher, x.finisherFailed = c.key, f.GetFailed()
	kind := EventTaskDone
	if f.GetFailed() {
		kind = EventTaskFailed
	}
	t.endClaim(x, c, kind, spendKey)
	o := Outcome{Code: Finished, Task: t.taskInfo(x)}
	t.serveTask(&x.lock)
	return o
}

// hasRoomToChange tells whether a text may be replaced by another one. A shorter one always may.
func (t *Table) hasRoomToChange(old, text string) bool {
	return len(text) <= len(old) || t.hasRoomFor(len(text)-len(old))
}

func (t *Table) renewTask(r *command.RenewTask) Outcome {
	if err := checkRenewal(t.settings, r.GetTtl(), r.GetSession(), r.GetRequest()); err != nil {
		return invalid(err)
	}
	if err := CheckTaskText(t.settings, r.GetProgress()); err != nil {
		return invalid(err)
	}
	q := request{number: r.GetRequest(), op: opRenewTask, key: r.GetKey()}
	return t.byClaimant(r.GetName(), r.GetKey(), r.GetSession(), q, func(x *task, c *claim) Outcome {
		switch {
		case c == nil:
			return Outcome{Code: NotClaimant}
		case r.Progress != nil && !t.hasRoomToChange(x.progress, r.GetProgress()):
			return Outcome{Code: TooMuchText}
		}
		o := t.renewHold(c, time.Duration(r.GetTtl()))
		if r.Progress != nil && r.GetProgress() != x.progress {
			t.rewrite(x, func() { x.progress = strings.Clone(r.GetProgress()) })
			t.emit(t.taskEvent(x, c, EventTaskProgress))
		}
		o.Task = t.taskInfo(x)
		return o
	})
}

func (t *Table) forgetTaskCommand(f *command.ForgetTask) Outcome {
	if err := CheckTaskName(t.settings, f.GetName()); err != nil {
		return invalid(err)
	}
	x := t.taskNamed(f.GetName())
	switch {
	case x == nil:
		return Outcome{Code: NoTask}
	case f.GetToken() != 0 && f.GetToken() != x.token, f.GetToken() == 0 && x.status == TaskRunning:
		return t.tellTask(Outcome{Code: TaskChanged}, f.GetName())
	}
	t.forgetTask(x)
	t.serveTask(&x.lock)
	return Outcome{Code: Done}
}

func (t *Table) settleTask(s *command.SettleTask) Outcome {
	err := CheckTaskName(t.settings, s.GetName())
	if err == nil {
		err = CheckTaskText(t.settings, s.GetText())
	}
	to, known := map[command.TaskVerdict]TaskStatus{
		command.TaskVerdict_VERDICT_DONE: TaskDone, command.TaskVerdict_VERDICT_FAILED: TaskFailed, command.TaskVerdict_VERDICT_RETRY: TaskOpen,
	}[s.GetVerdict()]
	if err == nil && !known {
		err = errors.New("the verdict must be done, failed or retry")
	}
	if err != nil {
		return invalid(err)
	}
	x := t.taskNamed(s.GetName())
	switch {
	case x == nil:
		return Outcome{Code: NoTask}
	case x.token == s.GetToken() && x.status == to && x.text == s.GetText() && (to != TaskOpen || x.attempts == 0):
		return Outcome{Code: Done, Task: t.taskInfo(x)} // it stands so already
	case x.token != s.GetToken() || x.status != TaskUnknown && x.status != TaskFailed:
		return t.tellTask(Outcome{Code: TaskChanged}, s.GetName())
	case !t.hasRoomToChange(x.text, s.GetText()):
		return Outcome{Code: TooMuchText}
	}
	return t.settleAs(x, to, s.GetText())
}

func (t *Table) settleAs(x *task, to TaskStatus, text string) Outcome {
	t.touch(&x.lock)
	t.disarmTask(x)
	t.rewrite(x, func() { x.text = strings.Clone(text) })
	if to == TaskOpen {
		x.attempts = 0
		t.setOpen(x, 0)
	} else {
		t.setOver(x, to)
	}
	e := Event{Kind: EventTaskSettled, Lock: x.name, Token: x.token, Owner: x.owner, Metadata: x.metadata, Task: t.taskInfo(x)}
	t.emit(e)
	if x.over() {
		t.serveTask(&x.lock)
	}
	return Outcome{Code: Done, Task: e.Task}
}
