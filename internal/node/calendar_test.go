package node

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

func claimCmd(task, key string, wait time.Duration) *command.ClaimTask {
	return &command.ClaimTask{Name: task, Key: keyOf(key), Ttl: int64(20 * time.Second), Wait: int64(wait), Keep: int64(time.Hour)}
}

func mustClaim(t *testing.T, n *Node, c *command.ClaimTask, want locktable.Code) locktable.Outcome {
	t.Helper()
	o, err := n.ClaimTask(t.Context(), c, Slice{})
	if err != nil || o.Code != want {
		t.Fatalf("claim of %s: code %d, error %v, want %d", c.GetName(), o.Code, err, want)
	}
	return o
}

func claimLater(ctx context.Context, n *Node, c *command.ClaimTask) <-chan answer {
	got := make(chan answer, 1)
	go func() {
		o, err := n.ClaimTask(ctx, c, Slice{})
		got <- answer{o, err}
	}()
	return got
}

func finish(t *testing.T, n *Node, task, key, text string) {
	t.Helper()
	o, err := n.Propose(t.Context(), command.FromFinishTask(&command.FinishTask{Name: task, Key: keyOf(key), Text: text}))
	if err != nil || o.Code != locktable.Finished {
		t.Fatalf("code %d, error %v", o.Code, err)
	}
}

// atLevel2 waits until all nodes of c have got to it.
func (c *trio) atLevel2() {
	for _, n := range c.nodes {
		for range 1000 {
			if n.Status().Level >= 2 {
				break
			}
			time.Sleep(10 * time.Millisecond) // virtual
		}
	}
}

// calendarOf reads the calendar through n.
func calendarOf(t *testing.T, n *Node) (wall time.Time, known bool) {
	t.Helper()
	if err := n.Read(t.Context(), func(tb *locktable.Table, now locktable.Time) {
		var at int64
		at, known = tb.Calendar(now)
		wall = time.Unix(0, at)
	}); err != nil {
		t.Fatal(err)
	}
	return wall, known
}

// The replicas of a service start, one does the task, the others wait for its result, over whichever node.
func TestClaimThroughAFollowerWaitsForTheResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		c.atLevel2()
		f := c.followers()
		mustClaim(t, f[0], claimCmd("migrate", "a", 0), locktable.Granted)
		got := claimLater(t.Context(), f[1], claimCmd("migrate", "b", -1))
		time.Sleep(10 * time.Second) // virtual
		unanswered(t, got)
		done := time.Now()
		finish(t, f[0], "migrate", "a", "42 tables")
		a := receive(t, got)
		if a.err != nil || a.out.Code != locktable.NotClaimable || a.out.Task == nil || a.out.Task.Status != locktable.TaskDone ||
			a.out.Task.Text != "42 tables" {
			t.Fatalf("%+v %+v", a, a.out.Task)
		}
		if waited := time.Since(done); waited >= LAN.Commit {
			t.Errorf("told %v after the end", waited)
		}
	})
}

func TestClaimAndItsPlacesSurviveTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		c.atLevel2()
		name, old := c.leader()
		f := c.followers()
		claimed := mustClaim(t, old, claimCmd("t", "a", 0), locktable.Granted)
		place := claimLater(t.Context(), f[0], claimCmd("t", "b", -1))
		synctest.Wait()
		c.isolate(c.members[name], true)
		delete(c.nodes, name)
		again := mustClaim(t, f[1], claimCmd("t", "a", 0), locktable.Granted)
		if again.Token != claimed.Token || again.Task.Attempts != 1 {
			t.Errorf("token %d after %d, attempt %d", again.Token, claimed.Token, again.Task.Attempts)
		}
		unanswered(t, place)
		o, err := f[1].Propose(t.Context(), command.FromFinishTask(&command.FinishTask{Name: "t", Key: keyOf("a"), Failed: true}))
		if err != nil || o.Code != locktable.Finished {
			t.Fatalf("code %d, error %v", o.Code, err)
		}
		if a := receive(t, place); a.err != nil || a.out.Code != locktable.Granted || a.out.Token != claimed.Token+1 || a.out.Task.Attempts != 2 {
			t.Errorf("%+v", a)
		}
		c.nodes[name] = old
	})
}

// A leader brings its wall clock into the log with what is written anyway, and never lets the calendar go back; an operator can.
func TestCalendarFollowsTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64 // how wrong the wall clocks are
		c := openTrioOf(t, &Simulation{Wall: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
		c.atLevel2()
		_, leader := c.leader()
		f := c.followers()[0]
		must := func(what string, ahead time.Duration) {
			t.Helper()
			wall, known := calendarOf(t, f)
			if off := time.Until(wall) - ahead; !known || off > 0 || off < -calendarLag {
				t.Errorf("%s: the calendar is %v ahead, known %v; want %v", what, time.Until(wall), known, ahead)
			}
		}
		mustAcquire(t, f, acquireCmd("db", "a", 0), locktable.Granted)
		must("after the first entry", 0)
		applied := leader.Status().AppliedIndex
		mustRelease(t, f, "db", "a")
		time.Sleep(3 * time.Minute) // virtual
		if got := leader.Status().AppliedIndex; got > applied+2 {
			t.Errorf("%d entries of a cluster that nobody asks for anything", got-applied)
		}
		must("after some minutes", 0)

		ahead.Store(int64(time.Minute))
		mustAcquire(t, f, acquireCmd("db", "b", 0), locktable.Granted)
		must("with a clock that is ahead", time.Minute)
		ahead.Store(0)
		time.Sleep(2 * time.Second) // virtual
		mustRelease(t, f, "db", "b")
		must("with a clock that is right again", time.Minute)
		if o, err := f.SetCalendar(t.Context(), false); err != nil || o.Code != locktable.Done {
			t.Fatalf("code %d, error %v", o.Code, err)
		}
		must("set without force", time.Minute)
		if o, err := f.SetCalendar(t.Context(), true); err != nil || o.Code != locktable.Done {
			t.Fatalf("code %d, error %v", o.Code, err)
		}
		must("set by an operator", 0)
	})
}

// A claim of a slot sees a calendar that is up to date, however long nobody has asked for anything, and the slot is that of the
// cluster's calendar, whatever the clock of the next leader says.
func TestClaimOfASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		c := openTrioOf(t, &Simulation{Wall: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
		c.atLevel2()
		f := c.followers()[0]
		slot := func(key string, start time.Time) *command.ClaimTask {
			a := claimCmd("nightly", key, 0)
			a.SlotStart, a.SlotEnd = start.UnixNano(), start.Add(time.Minute).UnixNano()
			return a
		}
		first := time.Now().Truncate(time.Minute)
		mustClaim(t, f, slot("a", first), locktable.Granted)
		finish(t, f, "nightly", "a", "")
		mustClaim(t, f, slot("b", first), locktable.NotClaimable)
		time.Sleep(time.Until(first.Add(time.Minute + time.Second))) // virtual
		ahead.Store(-int64(time.Minute))                             // the leader's clock falls behind, and nothing changes
		mustClaim(t, f, slot("c", first), locktable.SlotPassed)
		mustClaim(t, f, slot("d", first.Add(time.Minute)), locktable.Granted)
		finish(t, f, "nightly", "d", "")
		ahead.Store(int64(time.Minute)) // it runs ahead: the calendar follows at once, since the claim needs it
		mustClaim(t, f, slot("e", first.Add(2*time.Minute)), locktable.Granted)
	})
}

// After a snapshot was installed those who wait for a task are told, too.
func TestParkedClaimsLearnFromASnapshot(t *testing.T) {
	table := locktable.New(locktable.DefaultSettings())
	apply := func(c *command.Command) { table.Apply(1, []*command.Command{c}) }
	claim := func(task, key string, attachment uint64) {
		a := claimCmd(task, key, -1)
		a.Attachment = attachment
		apply(command.FromClaimTask(a))
	}
	claim("done", "x", 1)
	claim("done", "answered", 2)
	apply(command.FromFinishTask(&command.FinishTask{Name: "done", Key: keyOf("x"), Text: "result"}))
	claim("runs", "claimed", 3)
	claim("runs", "waiting", 4)
	a := acquireCmd("other", "elsewhere", time.Minute)
	a.Attachment = 6
	apply(command.FromAcquire(a))
	w := newWaiters()
	want := map[string]struct {
		task       string
		attachment uint64
		code       locktable.Code
		status     locktable.TaskStatus
	}{
		"answered":  {"done", 2, locktable.NotClaimable, locktable.TaskDone},
		"claimed":   {"runs", 3, locktable.Granted, locktable.TaskRunning},
		"waiting":   {"runs", 4, 0, 0},
		"lost":      {"runs", 5, locktable.Cancelled, 0},
		"forgotten": {"none", 7, locktable.Cancelled, 0},
		"elsewhere": {"runs", 6, locktable.Cancelled, 0}, // its key stands for a lock by now
	}
	parked := map[string]*waiter{}
	for name, x := range want {
		key, _ := locktable.ParseKey(keyOf(name))
		parked[name] = newWaiter(key, x.attachment, x.task)
		w.park(parked[name])
		w.queued(parked[name], 1, func(f func(*locktable.Table)) { f(table) })
	}
	w.recheck(table)
	for name, p := range parked {
		var got locktable.Outcome
		select {
		case got = <-p.ended:
		default:
		}
		status := locktable.TaskStatus(0)
		if got.Task != nil {
			status = got.Task.Status
		}
		if got.Code != want[name].code || status != want[name].status {
			t.Errorf("%s: code %d, status %d; want %+v", name, got.Code, status, want[name])
		}
	}
}

// A claim that is answered in the entry that queued it is no old news: the task can be over by then.
func TestClaimThatEndsInItsEntry(t *testing.T) {
	key, _ := locktable.ParseKey(keyOf("a"))
	for status, told := range map[locktable.TaskStatus]bool{locktable.TaskDone: true, locktable.TaskRunning: false} {
		w := newWaiters()
		p := newWaiter(key, 7, "t")
		w.park(p)
		w.tell(5, []locktable.Event{{
			Kind: locktable.EventTaskAnswered, Lock: "t", Key: key, Attachment: 7, Task: &locktable.TaskInfo{Name: "t", Status: status},
		}})
		w.queued(p, 5, func(func(*locktable.Table)) {})
		if got := len(p.ended) > 0; got != told {
			t.Errorf("status %d: told %v", status, got)
		}
	}
}
