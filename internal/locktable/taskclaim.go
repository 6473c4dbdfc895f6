package locktable

import (
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

func (t *Table) claimTask(a *command.ClaimTask) Outcome {
	if err := CheckClaimTask(t.settings, a); err != nil {
		return invalid(err)
	}
	key, _ := ParseKey(a.GetKey())
	if a.GetRequest() == 0 {
		return t.claimKey(key, a)
	}
	s := t.sharedSession(a.GetSession())
	if s == nil {
		return t.noSession(a.GetSession())
	}
	o := t.numbered(s, request{number: a.GetRequest(), op: opClaimTask, key: a.GetKey()}, func() Outcome {
		return t.claimKey(key, a)
	})
	if x := t.taskNamed(a.GetName()); (o.Code == KeySpent || o.Code == Broken) && x != nil && x.finisher == key {
		o = Outcome{Code: NotClaimable}
	}
	return t.tellTask(o, a.GetName())
}

// claimKey answers for a known key, refuses a spent one, and asks for the task with a fresh one.
func (t *Table) claimKey(key Key, a *command.ClaimTask) Outcome {
	if c := t.keys.get(key); c != nil {
		return t.claimAgain(c, a)
	}
	x := t.taskNamed(a.GetName())
	switch {
	case x != nil && x.finisher == key:
		return Outcome{Code: NotClaimable, Task: t.taskInfo(x)}
	case t.spent.has(key):
		return t.unlessBroken(a.GetKey(), KeySpent)
	case t.sharedSession(a.GetKey()) != nil:
		return Outcome{Code: KeyInUse}
	case a.GetSession() == "":
		return t.claimFor(key, nil, x, a)
	}
	s := t.sharedSession(a.GetSession())
	switch {
	case s == nil:
		return t.noSession(a.GetSession())
	case s.n >= int(t.settings.GetMaxKeysPerSession()):
		return Outcome{Code: TooManyKeys}
	}
	return t.claimFor(key, s, x, a)
}

// claimAgain answers a claim whose key is known.
func (t *Table) claimAgain(c *claim, a *command.ClaimTask) Outcome {
	session := ""
	if c.session != nil {
		session = c.session.id
	}
	x := t.taskOf(c.lock)
	if x == nil || x.name != a.GetName() || session != a.GetSession() {
		return Outcome{Code: KeyInUse}
	}
	t.touch(c.lock)
	if !c.waiting() {
		// The same attachment is the same request, sent twice by its gateway: nobody has been told of the claim yet.
		if c.attachment != a.GetAttachment() {
			c.attachment = 0
		}
		return t.claimed(x, c)
	}
	if a.GetWait() == 0 {
		t.drop(c, EventTimedOut, keepKey)
		t.serveTask(&x.lock)
		return Outcome{Code: NotClaimable, Task: t.describeTask(a.GetName())}
	}
	if c.attachment != a.GetAttachment() {
		t.emit(t.taskEvent(x, c, EventSuperseded))
		c.attachment = a.GetAttachment()
	}
	t.await(c, a.GetWait())
	return Outcome{Code: Waiting, Position: c.position(), Task: t.taskInfo(x)}
}

// claimed is the outcome for the key that has the claim.
func (t *Table) claimed(x *task, c *claim) Outcome {
	o := c.granted()
	o.Task = t.taskInfo(x)
	return o
}

// claimFor gives the task to a new key, refuses it, or lets it wait. x is nil if the task is not known.
func (t *Table) claimFor(key Key, s *session, x *task, a *command.ClaimTask) Outcome {
	if a.GetSlotEnd() != 0 {
		if present, ok := t.Calendar(t.now); !ok || present < a.GetSlotStart() || present >= a.GetSlotEnd() {
			return Outcome{Code: SlotPassed}
		}
	}
	switch {
	case x == nil && t.tasks.Len() >= MaxTasks(t.settings):
		return Outcome{Code: TooManyTasks}
	case x != nil && !t.claimable(x, a):
		return t.waitForTask(key, s, x, a)
	}
	if code, full := t.fullOfClaims(x, a); full {
		return Outcome{Code: code}
	}
	if x == nil {
		x = t.newTask(a.GetName())
	}
	t.touch(&x.lock)
	if x.otherRun(a) {
		x.slotStart, x.slotEnd, x.attempts = a.GetSlotStart(), a.GetSlotEnd(), 0
		t.rewrite(x, func() { x.text = "" })
	}
	c := t.newTaskClaim(key, s, x, a)
	t.begin(x, c, termsOf(a))
	return t.claimed(x, c)
}

// otherRun tells whether a names a slot that begins after that of the newest run of x, so that it asks for a new run.
func (x *task) otherRun(a *command.ClaimTask) bool {
	return x.status != TaskRunning && a.GetSlotEnd() != 0 && (x.slotEnd == 0 || a.GetSlotStart() > x.slotStart)
}

// claimable tells whether a may have the claim on x now.
func (t *Table) claimable(x *task, a *command.ClaimTask) bool {
	if x.otherRun(a) {
		return x.spaced(time.Duration(a.GetAtLeast())) <= t.now
	}
	terms := termsOf(a)
	return x.status == TaskOpen && x.at <= t.now && x.allow(&terms)
}

// waitForTask refuses a claim that does not want to wait or has nothing to wait for, and gives any other a place.
func (t *Table) waitForTask(key Key, s *session, x *task, a *command.ClaimTask) Outcome {
	switch {
	case x.otherRun(a):
		o := Outcome{Code: NotClaimable, Task: t.taskInfo(x)}
		o.Task.ClaimableAt = x.spaced(time.Duration(a.GetAtLeast()))
		return o
	case a.GetWait() == 0 || x.over():
		return Outcome{Code: NotClaimable, Task: t.taskInfo(x)}
	case x.waiters.len() >= int(t.settings.GetMaxWaitersPerLock()):
		return Outcome{Code: TooManyWaiters}
	}
	if code, full := t.fullOfClaims(x, a); full {
		return Outcome{Code: code}
	}
	t.touch(&x.lock)
	c := t.newTaskClaim(key, s, x, a)
	terms := termsOf(a)
	c.ensureExtra().terms = &terms
	x.waiters.push(c)
	t.counts.TaskWaiters++
	t.await(c, a.GetWait())
	t.emit(t.taskEvent(x, c, EventTaskQueued))
	return Outcome{Code: Waiting, Position: x.waiters.len(), Task: t.taskInfo(x)}
}

// fullOfClaims tells whether, and in which way, the table is too full for one more claim on x (nil: a new task).
func (t *Table) fullOfClaims(x *task, a *command.ClaimTask) (Code, bool) {
	text := len(a.GetOwner()) + len(a.GetMetadata())
	if x == nil {
		text += len(a.GetName()) + KeyLen
	}
	switch {
	case t.allClaims() >= int(t.settings.GetMaxClaims()):
		return TooManyKeys, true
	case !t.hasRoomFor(text):
		return TooMuchText, true
	}
	return 0, false
}

// allClaims is the number of holds and places in all, on locks and on tasks.
func (t *Table) allClaims() int {
	return t.counts.Holders + t.counts.Waiters + t.counts.Running + t.counts.TaskWaiters
}

func (t *Table) newTaskClaim(key Key, s *session, x *task, a *command.ClaimTask) *claim {
	return t.newClaim(key, s, &x.lock, &command.Acquire{
		Ttl: a.GetTtl(), Owner: a.GetOwner(), Metadata: a.GetMetadata(), Attachment: a.GetAttachment(),
	})
}
