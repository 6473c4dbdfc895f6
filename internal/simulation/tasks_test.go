package simulation

import (
	"context"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// Tasks whose names begin so are kept for good; others for a while.
const (
	keptForGood = "k"
	keptFor     = 20 * time.Second
)

// terms are a client's use of a task.
type terms struct {
	name           string
	text           string
	done, reported bool // as what it reports the attempt; that it did
}

// sight is what a client saw of a task between two moments.
type sight struct {
	name       string
	begin, end time.Time
	info       locktable.TaskInfo
}

// termsOf returns what all claims on the task say: how many attempts, and whether a lost claimant was the last.
func termsOf(task string) (most uint32, once bool) {
	switch task[1] {
	case '1':
		most = 3
	case '2':
		most = 2
	}
	return most, task[0] == 'o'
}

// task returns the name of a task of the present generation: kept for good, kept for a while, or to be done once at most.
func (c *client) task() string { return c.lock([]string{"k", "k", "t", "o"}[c.rand.IntN(4)], 2) }

// useTask claims a task, works, and reports, or is lost on the way.
func (c *client) useTask() {
	x := &terms{name: c.task()}
	m := &claim{lock: taskLock(x.name), key: c.key(), first: time.Now(), task: x}
	c.book.history.begin(m)
	ttl := c.time(time.Second, 4*time.Second)
	most, once := termsOf(x.name)
	a := &command.ClaimTask{
		Name: x.name, Key: m.key, Ttl: int64(ttl), Owner: m.key, MaxAttempts: most, AtMostOnce: once, Keep: -1,
		RetryDelay: int64(c.time(0, 2*time.Second)),
	}
	if !strings.HasPrefix(x.name, keptForGood) {
		a.Keep = int64(keptFor)
	}
	if c.chance(70) {
		a.Wait = int64(c.time(200*time.Millisecond, 12*time.Second))
	}
	if !c.claim(m, a) {
		return
	}
	for end := time.Now().Add(c.time(0, 2*ttl)); time.Now().Before(end); {
		time.Sleep(min(ttl/3, time.Until(end)))
		if m.believed(time.Now()) && c.chance(85) && !c.renewTask(m, ttl) {
			return
		}
	}
	switch n := c.rand.IntN(10); {
	case n < 2:
		c.count.add("claimants that vanished", 1)
	case n < 3:
		m.leaving(time.Now()) // a claimant that gives its key back leaves the attempt
		c.releaseOnce(&claim{key: m.key, lock: m.lock, task: x})
	default:
		c.report(m, n < 8)
	}
}

// claim asks for the task, with repetitions by the same key through other nodes when nobody knows the outcome.
func (c *client) claim(m *claim, a *command.ClaimTask) bool {
	giveUp := time.Now().Add(time.Duration(a.Wait) + c.time(3*time.Second, 15*time.Second))
	for time.Now().Before(giveUp) {
		ctx, cancel := within(time.Duration(a.Wait) + patience)
		r := c.claimOnce(ctx, m, a, false)
		cancel()
		if r.err == nil && r.out.Code != locktable.Cancelled {
			return r.out.Code == locktable.Granted
		}
		c.sleep(20*time.Millisecond, 300*time.Millisecond)
	}
	return false
}

func (c *client) claimOnce(ctx context.Context, m *claim, a *command.ClaimTask, copied bool) *attempt {
	r := &attempt{op: opAcquire, copied: copied, sent: time.Now(), wait: time.Duration(a.Wait)}
	m.touch(c.world)
	r.answer, r.life = c.ask(ctx, c.pick(), func(ctx context.Context, n *node.Node) answer {
		mine := &command.ClaimTask{
			Name: a.Name, Key: a.Key, Ttl: a.Ttl, Wait: a.Wait, Owner: a.Owner, MaxAttempts: a.MaxAttempts, AtMostOnce: a.AtMostOnce,
			Keep: a.Keep, RetryDelay: a.RetryDelay,
		}
		o, err := n.ClaimTask(ctx, mine, node.Slice{})
		return answer{out: o, err: err, attachment: mine.GetAttachment()}
	})
	c.finish(m, r)
	c.saw(a.Name, r)
	if !copied && c.chance(8) {
		late := c.time(200*time.Millisecond, 6*time.Second)
		other := c.world.newClient(c.id<<8 + c.keys + 1000)
		c.closing.Go(func() {
			time.Sleep(late)
			c.count.add("late copies of claims", 1)
			ctx, cancel := within(3 * time.Second)
			defer cancel()
			other.claimOnce(ctx, m, a, true)
		})
	}
	return r
}

// saw notes what an answer says about a task that is not the caller's.
func (c *client) saw(name string, r *attempt) {
	if r.err == nil && r.out.Task != nil && r.out.Code == locktable.NotClaimable {
		c.book.history.sighted(&sight{name, r.sent, r.answered, *r.out.Task})
	}
}

func (h *history) sighted(s *sight) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sights = append(h.sights, s)
}

// renewTask tells how far it is, and whether the claim lives.
func (c *client) renewTask(m *claim, ttl time.Duration) bool {
	ctx, cancel := within(ttl)
	defer cancel()
	progress := "half"
	ren := &command.RenewTask{Name: m.task.name, Key: m.key, Ttl: c.book.unlike(ttl), Progress: &progress}
	r := &attempt{op: opRenew, sent: time.Now(), ttl: ren.Ttl}
	r.answer, r.life = c.propose(ctx, c.pick(), command.FromRenewTask(ren))
	c.finish(m, r)
	return r.err != nil || r.out.Code == locktable.Renewed
}

// report says how the attempt ended, with repetitions, also of what was acknowledged.
func (c *client) report(m *claim, done bool) {
	believed, began := m.until, time.Now()
	// What is not kept for good may be forgotten before a repetition. Half its time leaves room for clocks that run differently.
	remembered := func(answered time.Time) bool {
		return strings.HasPrefix(m.task.name, keptForGood) || answered.Sub(began) < keptFor/2
	}
	m.task.done, m.task.reported, m.task.text = done, true, "by "+m.key
	m.leaving(time.Now())
	f := &command.FinishTask{Name: m.task.name, Key: m.key, Failed: !done, Text: m.task.text}
	for giveUp, acked := time.Now().Add(20*time.Second), false; time.Now().Before(giveUp); c.sleep(20*time.Millisecond, 300*time.Millisecond) {
		ctx, cancel := within(patience)
		r := &attempt{op: opFinish, sent: time.Now()}
		r.answer, r.life = c.propose(ctx, c.pick(), command.FromFinishTask(f))
		cancel()
		c.finish(m, r)
		if r.err != nil {
			continue
		}
		good := r.out.Code == locktable.Finished
		switch {
		case good && acked:
			c.count.add("reports repeated", 1)
		case !good && acked && done && remembered(r.answered), !good && done && r.answered.Before(believed):
			c.violated("S12", "the report of task %s with token %d was answered code %d (acknowledged before: %v)", m.task.name, m.token,
				r.out.Code, acked)
		case !good:
			c.count.add("stale reports refused", 1)
		}
		if acked = acked || good; !acked || !c.chance(40) {
			return
		}
	}
}

// lookAtTasks reads tasks, again and again.
func (c *client) lookAtTasks() {
	for time.Now().Before(c.end) {
		c.sleep(200*time.Millisecond, 2*time.Second)
		c.readTask(c.task())
	}
}

// readTask returns what there is to know about a task by a linearizable read, or nil.
func (c *client) readTask(name string) *sight {
	ctx, cancel := within(patience)
	defer cancel()
	got := make(chan *sight, 1)
	begin := time.Now()
	a, _ := c.ask(ctx, c.pick(), func(ctx context.Context, n *node.Node) answer {
		s := &sight{name: name, begin: begin}
		err := n.Read(ctx, func(t *locktable.Table, _ locktable.Time) { s.info, _ = t.Task(name) })
		got <- s
		return answer{err: err}
	})
	if a.err != nil {
		return nil
	}
	s := <-got
	s.end = time.Now()
	c.book.history.sighted(s)
	return s
}

// settleSome decides about a task that nobody will finish, if there is one.
func (c *client) settleSome() {
	name := c.lock([]string{"o", "o", "k"}[c.rand.IntN(3)], 2)
	s := c.readTask(name)
	if s == nil || s.info.Status != locktable.TaskUnknown && s.info.Status != locktable.TaskFailed {
		return
	}
	verdict := command.TaskVerdict(1 + c.rand.IntN(3))
	c.book.history.settle(taskLock(name))
	ctx, cancel := within(patience)
	defer cancel()
	for range 1 + c.rand.IntN(2) {
		c.propose(ctx, c.pick(), command.FromSettleTask(&command.SettleTask{Name: name, Token: s.info.Token, Verdict: verdict, Text: "settled"}))
	}
}

func (h *history) settle(lock string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = append(h.settled, lock)
}
