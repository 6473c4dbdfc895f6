package simulation

import (
	"slices"
	"strings"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// taskLock is the name under which the histories have the claims on a task.
func taskLock(name string) string { return "task " + name }

// fate4task is what the log says of a task, without help from the table.
type fate4task struct {
	claimant string // "": nobody
	token    uint64
	attempts uint32
	over     locktable.TaskStatus // 0: it may be claimed
	text     string
}

// logTask notes what commands say about claims. b.mu is held.
func (b *book) logTask(i int, c *command.Command, l *logged, o locktable.Outcome) {
	switch {
	case c.GetClaimTask() != nil:
		a := c.GetClaimTask()
		b.key(a.GetKey(), taskLock(a.GetName()), a.GetSession()).asked = b.clock
		b.acquires[a.GetAttachment()] = append(b.acquires[a.GetAttachment()], l)
	case c.GetRenewTask() != nil:
		r := c.GetRenewTask()
		b.renewals[r.GetTtl()] = append(b.renewals[r.GetTtl()], l)
		b.renewed4(i, r.GetKey(), l, o)
	case c.GetFinishTask() != nil:
		f := c.GetFinishTask()
		b.releases[f.GetKey()] = append(b.releases[f.GetKey()], l)
	}
}

// taskEvent judges S12 by the log: one claimant at a time, whose report alone counts; what is over is not handed out again; no more
// attempts than there may be; a record that is kept for good stays. b.mu is held.
func (b *book) taskEvent(i int, cmds []*command.Command, e locktable.Event) {
	x := b.tasks[e.Lock]
	if x == nil {
		x = &fate4task{}
		b.tasks[e.Lock] = x
	}
	key := e.Key.Reveal()
	f := b.keys[claimed{key, taskLock(e.Lock)}]
	switch e.Kind {
	case locktable.EventTaskClaimed:
		b.taskClaimed(i, x, f, e)
	case locktable.EventTaskDone, locktable.EventTaskFailed, locktable.EventTaskLost, locktable.EventTaskTakenBack:
		b.attemptEnded(i, x, f, e)
	case locktable.EventTaskQueued:
		f.queued = append(f.queued, b.entries[i].first)
	case locktable.EventTaskAnswered, locktable.EventTaskCancelled:
		f.dropped = append(f.dropped, b.entries[i].first)
	case locktable.EventTaskSettled:
		b.world.count.add("tasks settled", 1)
		if x.over != locktable.TaskUnknown && x.over != locktable.TaskFailed {
			b.world.violated("S12", "entry %d settles task %s, which was %d", b.entries[i].index, e.Lock, x.over)
		}
		if x.over, x.text = e.Task.Status, e.Task.Text; x.over == locktable.TaskOpen {
			x.over, x.attempts = 0, 0
		}
	case locktable.EventTaskForgotten:
		if x.claimant != "" || x.over == locktable.TaskDone && strings.HasPrefix(e.Lock, keptForGood) {
			b.world.violated("S12", "entry %d forgets task %s", b.entries[i].index, e.Lock)
		}
		b.world.count.add("tasks forgotten", 1)
		*x = fate4task{token: x.token}
	}
}

func (b *book) taskClaimed(i int, x *fate4task, f *fate4key, e locktable.Event) {
	index := b.entries[i].index
	switch x.attempts++; {
	case x.claimant != "":
		b.world.violated("S12", "entry %d gives task %s to a second claimant", index, e.Lock)
	case x.over != 0:
		b.world.violated("S12", "entry %d hands out task %s again, which was over (%d)", index, e.Lock, x.over)
	case e.Task.MaxAttempts > 0 && x.attempts > e.Task.MaxAttempts:
		b.world.violated("S12", "entry %d begins attempt %d of %d of task %s", index, x.attempts, e.Task.MaxAttempts, e.Lock)
	case e.Token <= b.lastToken:
		b.world.violated("S3", "entry %d gives task %s with token %d after token %d was granted", index, e.Lock, e.Token, b.lastToken)
	}
	b.lastToken = max(b.lastToken, e.Token)
	x.claimant, x.token = f.key, e.Token
	f.grants = append(f.grants, grant{token: e.Token, at: b.entries[i].first, clock: b.clock, gap: b.gap, asked: f.asked})
	b.world.count.add("claims", 1)
	if x.attempts > 1 {
		b.world.count.add("claims retried", 1)
	}
	if e.Waited > 0 {
		b.world.count.add("claims from the queue", 1)
	}
}

func (b *book) attemptEnded(i int, x *fate4task, f *fate4key, e locktable.Event) {
	if x.claimant != f.key || x.token != e.Token {
		b.world.violated("S12", "entry %d ends (%d) task %s for one who is not its claimant", b.entries[i].index, e.Kind, e.Lock)
	}
	x.claimant = ""
	if g := f.live(); g != nil {
		g.end, g.how = b.entries[i].first, e.Kind
	}
	most, once := termsOf(e.Lock)
	switch {
	case e.Kind == locktable.EventTaskDone:
		x.over, x.text = locktable.TaskDone, e.Task.Text
		b.world.count.add("tasks done", 1)
	case e.Kind == locktable.EventTaskTakenBack:
		x.attempts--
	case e.Kind == locktable.EventTaskLost && once:
		x.over = locktable.TaskUnknown
		b.world.count.add("at-most-once claims lost", 1)
	case most > 0 && x.attempts >= most:
		x.over = locktable.TaskFailed
	}
	if e.Kind == locktable.EventTaskLost {
		b.world.count.add("claims lost", 1)
	}
	if x.over != 0 && e.Task.Status != x.over {
		b.world.violated("S12", "entry %d leaves task %s in state %d instead of %d", b.entries[i].index, e.Lock, e.Task.Status, x.over)
	}
}

// checkTasks judges S12 by what clients saw: a completion that was acknowledged for a task that is kept for good is what everybody sees
// who asks later, and nobody gets the task after it.
func (w *world) checkTasks(byLock map[string][]*claim) {
	done := map[string]*claim{}
	for lock, cs := range byLock {
		for _, c := range cs {
			if c.task == nil || !c.task.done || c.gone.IsZero() || !strings.HasPrefix(c.task.name, keptForGood) {
				continue
			}
			if o := done[lock]; o != nil {
				w.violated("S12", "task %s was completed with token %d and with %d", c.task.name, o.token, c.token)
			}
			done[lock] = c
		}
	}
	for lock, d := range done {
		for _, c := range byLock[lock] {
			if c.first.After(d.gone) && c.token != 0 {
				w.violated("S12", "task %s was completed, and then given out with token %d", d.task.name, c.token)
			}
		}
	}
	for _, s := range w.book.history.sights {
		d := done[taskLock(s.name)]
		if d == nil || !s.begin.After(d.gone) {
			continue
		}
		w.count.add("looks at completed tasks", 1)
		if s.info.Status != locktable.TaskDone || s.info.Text != d.task.text || s.info.Token != d.token {
			w.violated("S12", "task %s was completed as %q with token %d, and at %v it is %d, %q with token %d", s.name, d.task.text, d.token,
				s.begin.Sub(w.began), s.info.Status, s.info.Text, s.info.Token)
		}
	}
	w.checkOnce(byLock)
}

// checkOnce judges at-most-once tasks that no operator decided about: whoever had one and did not say that the attempt failed was the last.
func (w *world) checkOnce(byLock map[string][]*claim) {
	for lock, cs := range byLock {
		if !strings.HasPrefix(lock, taskLock("o")) || slices.Contains(w.book.history.settled, lock) {
			continue
		}
		for _, c := range cs {
			for _, d := range cs {
				if c.token != 0 && !c.ack.IsZero() && d.token > c.token && !c.task.reported {
					w.violated("S12", "task %s was given out with token %d after its claimant with %d was lost", c.task.name, d.token, c.token)
				}
			}
		}
	}
}
