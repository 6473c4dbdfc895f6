package locktable

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// Commands about tasks, for the random tests. One of the tasks is called like a lock.

var testTasks = []string{"a", "t", "u"}

func (g *generator) taskCommand() *command.Command {
	if len(g.m.anchors) == 0 && g.c.Intn(3) == 0 {
		return command.FromCalendar(&command.Calendar{At: int64(g.m.now)})
	}
	switch n := g.c.Intn(100); {
	case n < 50:
		return g.claimTask()
	case n < 72:
		return g.finishTask()
	case n < 82:
		return g.renewTask()
	case n < 88:
		return command.FromForgetTask(&command.ForgetTask{Name: pick(g.c, testTasks), Token: g.sometimesToken()})
	case n < 96:
		return g.settleTask()
	default:
		c := &command.Calendar{At: g.m.wall() + int64(g.c.Intn(5)-1)*int64(time.Second)/2, Force: g.c.Intn(2) == 0}
		if g.c.Intn(4) == 0 {
			c.At = g.m.wall() + int64(g.c.Intn(3))*int64(time.Millisecond) - 1
		}
		return command.FromCalendar(c)
	}
}

func (g *generator) claimTask() *command.Command {
	a := &command.ClaimTask{
		Name: pick(g.c, testTasks), Key: g.key(), Wait: pick(g.c, []int64{0, -1, -1, 2e9, 3e9, 5e9, 8e9}), Owner: g.text(),
		Attachment: uint64(g.c.Intn(3)), Keep: pick(g.c, []int64{0, -1, 1e9, 2e9, 4e9}), MaxAttempts: uint32(g.c.Intn(4)),
		RetryDelay: pick(g.c, []int64{0, 0, 1e9, 2e9}), AtMostOnce: g.c.Intn(4) == 0,
	}
	if g.c.Intn(8) > 3 && (len(g.m.sessions) > 0 || g.c.Intn(8) == 0) {
		a.Session, a.Request = g.session(), g.number()
	} else {
		a.Ttl = g.duration(8, 60)
	}
	if g.c.Intn(2) == 0 {
		g.schedule(a)
	}
	if g.c.Intn(4) == 0 {
		a.AtLeast = pick(g.c, []int64{1e9, 3e9, 5e9})
	}
	if c := g.claim(6); c != nil && g.m.onTask(c) {
		a.Name, a.Key, a.Session, a.Ttl = g.m.taskOf(c).name, c.key, c.session, int64(c.ttl)
		if a.GetSession() == "" {
			a.Request = 0
		}
	}
	if g.c.Intn(10) == 0 {
		if x := g.m.task(a.GetName()); x != nil && x.finisher != "" {
			a.Key = x.finisher
		}
	}
	if g.c.Intn(150) == 0 {
		a.Name = pick(g.c, []string{"", ".", "a\n", "\xff", "v", "w"})
	}
	return command.FromClaimTask(a)
}

// schedule names a slot of 3 seconds that mostly contains the present.
func (g *generator) schedule(a *command.ClaimTask) {
	const slot = int64(3 * time.Second)
	a.SlotStart = max(g.m.wall(), 0) / slot * slot
	a.SlotEnd = a.GetSlotStart() + slot
	switch g.c.Intn(16) {
	case 0:
		a.SlotEnd += slot
	case 1:
		a.SlotStart, a.SlotEnd = a.GetSlotEnd(), a.GetSlotEnd()+slot
	case 2:
		a.SlotStart, a.SlotEnd = a.GetSlotStart()-slot, a.GetSlotStart()
	case 3:
		a.SlotEnd = a.GetSlotStart()
	}
}

// aim draws a task, and mostly the key that has the claim on it, that had it, or that waits for it.
func (g *generator) aim() (name, key, session string) {
	name, key = pick(g.c, testTasks), g.key()
	if c := g.claim(1); c != nil && g.m.onTask(c) {
		key, session = c.key, c.session
		if g.c.Intn(8) > 0 {
			name = g.m.taskOf(c).name
		}
		return name, key, session
	}
	if x := g.m.task(name); x != nil && g.c.Intn(8) > 0 {
		if x.finisher != "" {
			key = x.finisher
		}
		if c := g.m.claimant(x); c != nil && g.c.Intn(4) > 0 {
			key, session = c.key, c.session
		}
	}
	return name, key, session
}

func (g *generator) result() string { return pick(g.c, []string{"", "ok", "no", "good"}) }

func (g *generator) finishTask() *command.Command {
	name, key, session := g.aim()
	f := &command.FinishTask{Name: name, Key: key, Failed: g.c.Intn(2) == 0, Text: g.result()}
	if g.c.Intn(60) == 0 {
		f.Text = "too long a text"
	}
	if session != "" {
		if f.Request = g.number(); f.GetRequest() > 0 || g.c.Intn(4) == 0 {
			f.Session = session
		}
	}
	return command.FromFinishTask(f)
}

func (g *generator) renewTask() *command.Command {
	name, key, session := g.aim()
	r := &command.RenewTask{Name: name, Key: key, Ttl: g.sometimes(g.duration(8, 30))}
	if g.c.Intn(2) == 0 {
		r.Progress = proto.String(g.result())
	}
	if session != "" {
		if r.Request = g.number(); r.GetRequest() > 0 || g.c.Intn(4) == 0 {
			r.Session = session
		}
	}
	return command.FromRenewTask(r)
}

func (g *generator) sometimesToken() uint64 {
	if g.c.Intn(3) == 0 || len(g.m.tasks) == 0 {
		return 0
	}
	return max(pick(g.c, g.m.tasks).token, 1) - uint64(g.c.Intn(8)/7)
}

func (g *generator) settleTask() *command.Command {
	s := &command.SettleTask{Name: pick(g.c, testTasks), Verdict: command.TaskVerdict(1 + g.c.Intn(3)), Text: g.result()}
	if g.c.Intn(30) == 0 {
		s.Verdict = command.TaskVerdict(g.c.Intn(6))
	}
	for _, x := range g.m.tasks {
		if x.status == TaskUnknown || x.status == TaskFailed && g.c.Intn(3) == 0 || g.c.Intn(16) == 0 {
			s.Name = x.name
		}
	}
	if x := g.m.task(s.GetName()); x != nil && g.c.Intn(16) > 0 {
		s.Token = x.token
	}
	return command.FromSettleTask(s)
}
