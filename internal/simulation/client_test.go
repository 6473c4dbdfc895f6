package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

const (
	// How long a client waits for an answer beyond the wait that it asked for.
	patience = 12 * time.Second
	// A new set of locks comes into use this often, so that the history of one lock stays short.
	generation = 45 * time.Second
)

// client is one program that uses locks.
type client struct {
	*world
	id   int
	rand *rand.Rand
	keys int
}

func (w *world) newClient(id int) *client {
	return &client{world: w, id: id, rand: rand.New(rand.NewPCG(w.o.seed, uint64(100+id)))}
}

func (c *client) chance(percent int) bool { return c.rand.IntN(100) < percent }

func (c *client) time(least, most time.Duration) time.Duration {
	return least + time.Duration(c.rand.Int64N(max(1, int64(most-least))))
}

func (c *client) sleep(least, most time.Duration) { time.Sleep(c.time(least, most)) }

// key returns a key that nobody has used.
func (c *client) key() string {
	c.keys++
	k := fmt.Sprintf("c%dx%dx", c.id, c.keys)
	return k + strings.Repeat("0", locktable.KeyLen-len(k))
}

// lock returns the name of a lock of the present generation.
func (c *client) lock(kind string, n int) string {
	return fmt.Sprintf("%s%d-%d", kind, c.rand.IntN(n), time.Since(c.began)/generation)
}

// run uses locks until the run is over.
func (c *client) run() {
	for time.Now().Before(c.end) {
		switch n := c.rand.IntN(17); {
		case n >= 14:
			c.useTask()
		case n >= 12:
			c.useSet()
		case n >= 10:
			c.holdAndWait()
		case n < 5:
			c.use(c.lock("p", 2), command.Mode_EXCLUSIVE, 0)
		case n < 6:
			c.use(c.lock("q", 2), command.Mode_EXCLUSIVE, 0)
		case n < 7:
			c.use(c.lock("rw", 1), command.Mode(c.rand.IntN(2)), 0)
		case n < 8:
			c.use(c.lock("sem", 1), command.Mode_EXCLUSIVE, 2)
		default:
			c.inSession()
		}
		c.sleep(10*time.Millisecond, 1500*time.Millisecond)
	}
}

// use takes a lock, works, and gives it back, or leaves at some point.
func (c *client) use(lock string, mode command.Mode, slots uint32) {
	m := &claim{lock: lock, key: c.key(), mode: mode, slots: slots, first: time.Now()}
	c.book.history.begin(m)
	ttl := c.time(time.Second, 5*time.Second)
	a := &command.Acquire{Name: lock, Key: m.key, Ttl: int64(ttl), Mode: mode, Slots: slots, Owner: m.key}
	switch n := c.rand.IntN(10); {
	case n < 7:
		a.Wait = int64(c.time(200*time.Millisecond, 12*time.Second))
	case n < 8:
		a.Wait = -1
	}
	if c.take(m, a) {
		c.work(m, ttl)
	}
}

// take acquires, with repetitions when nobody knows the outcome.
func (c *client) take(m *claim, a *command.Acquire) bool {
	until := time.Now().Add(max(0, time.Duration(a.Wait)))
	giveUp := until.Add(c.time(3*time.Second, 20*time.Second))
	slice := c.slice(m, a)
	for tries := 0; time.Now().Before(giveUp); tries++ {
		hangUp := c.hangsUp(a)
		bears := hangUp
		if hangUp == 0 {
			bears = max(0, asked(a, slice)) + patience
		}
		ctx, cancel := within(bears)
		r := c.acquireOnce(ctx, m, a, slice, false)
		cancel()
		if hangUp > 0 && r.err != nil && ctx.Err() != nil {
			r.left = true
			c.count.add("waits abandoned", 1)
			if c.chance(60) {
				return false
			}
			continue
		}
		switch {
		case r.err == nil && r.out.Code == locktable.Granted:
			if tries > 0 {
				c.count.add("grants after a repetition", 1)
			}
			if r.out.Waited > 0 {
				c.count.add("grants after a wait", 1)
			}
			return true
		case r.err == nil && r.out.Code == locktable.Waiting:
			c.count.add("slices", 1)
			c.sleep(0, 2*time.Second)
			a = restOf(a, until)
			continue
		case r.err == nil && r.out.Code != locktable.Cancelled:
			return false
		case c.chance(7):
			c.count.add("clients that vanished", 1)
			return false
		}
		c.sleep(20*time.Millisecond, 300*time.Millisecond)
	}
	return false
}

// slice returns how the client waits: one of three who wait does so in slices, and comes back for what it has got.
func (c *client) slice(m *claim, a *command.Acquire) node.Slice {
	if a.Wait == 0 || !c.chance(33) {
		return node.Slice{}
	}
	for _, x := range m.all() {
		x.sliced = true
	}
	return node.Slice{For: c.time(10*time.Millisecond, 5*time.Second), Keep: true}
}

// restOf is a again, for what is left of the wait; late copies of a may still be sent.
func restOf(a *command.Acquire, until time.Time) *command.Acquire {
	wait := a.Wait
	if wait > 0 {
		wait = int64(max(0, time.Until(until)))
	}
	return &command.Acquire{
		Name: a.Name, Key: a.Key, Session: a.Session, Ttl: a.Ttl, Wait: wait, Mode: a.Mode, Slots: a.Slots, Owner: a.Owner,
		LockDelay: a.LockDelay, Request: a.Request, Set: a.Set,
	}
}

// hangsUp returns when the client will lose patience, or 0.
func (c *client) hangsUp(a *command.Acquire) time.Duration {
	switch {
	case a.Wait < 0:
		return c.time(time.Second, 30*time.Second)
	case a.Wait > 0 && c.chance(12):
		return c.time(100*time.Millisecond, time.Duration(a.Wait))
	}
	return 0
}

// asked returns for how long the node is asked to wait; negative: without end.
func asked(a *command.Acquire, s node.Slice) time.Duration {
	if wait := time.Duration(a.Wait); s.For <= 0 || wait >= 0 && wait <= s.For {
		return wait
	}
	return s.For
}

// acquireOnce sends an acquire to some node, and perhaps lets a copy of it follow.
func (c *client) acquireOnce(ctx context.Context, m *claim, a *command.Acquire, s node.Slice, copied bool) *attempt {
	r := &attempt{op: opAcquire, copied: copied, sent: time.Now(), wait: asked(a, s), number: a.Request}
	m.touch(c.world)
	r.answer, r.life = c.acquire(ctx, c.pick(), a, s)
	c.finish(m, r)
	if !copied && c.chance(4) {
		late := c.time(200*time.Millisecond, 6*time.Second)
		other := c.world.newClient(c.id<<8 + c.keys + 1000)
		c.closing.Go(func() {
			time.Sleep(late)
			c.count.add("late copies", 1)
			ctx, cancel := within(3 * time.Second)
			defer cancel()
			other.acquireOnce(ctx, m, a, s, true)
		})
	}
	return r
}

func (c *client) finish(m *claim, r *attempt) {
	r.answered = time.Now()
	c.count.add("requests", 1)
	switch {
	case r.err == nil:
	case r.certain():
		c.count.add("requests refused", 1)
	default:
		c.count.add("requests without an outcome", 1)
	}
	if errors.Is(r.err, node.ErrDiskFull) {
		c.count.add("refused for a full disk", 1)
	}
	for _, x := range m.all() {
		x.note(c.world, r)
	}
}

// work holds the lock for a while, renews it, and releases it.
func (c *client) work(m *claim, ttl time.Duration) {
	end := time.Now().Add(c.time(0, 2*ttl))
	lazy := c.chance(25) // does not renew, and perhaps stays too long
	for time.Now().Before(end) {
		time.Sleep(min(ttl/3, time.Until(end)))
		if lazy || !m.believed(time.Now()) {
			continue
		}
		ctx, cancel := within(ttl)
		r := c.renewOnce(ctx, m, ttl)
		cancel()
		if r.err == nil && r.out.Code != locktable.Renewed {
			c.count.add("holds lost", 1)
			return
		}
	}
	if c.chance(12) {
		c.count.add("clients that vanished", 1)
		return
	}
	if len(m.others) == 0 && c.chance(20) && c.handOver(m) {
		return
	}
	c.giveBack(m)
}

// renewOnce renews with a ttl that no other renewal has, so that it can be found in the log.
func (c *client) renewOnce(ctx context.Context, m *claim, ttl time.Duration) *attempt {
	ren := &command.Renew{Name: m.nameOf(c), Key: m.key, Ttl: c.book.unlike(ttl)}
	r := &attempt{op: opRenew, sent: time.Now(), ttl: ren.Ttl}
	r.answer, r.life = c.propose(ctx, c.pick(), command.FromRenew(ren))
	c.finish(m, r)
	return r
}

// giveBack releases, with repetitions until it is certain that the hold is gone.
func (c *client) giveBack(m *claim) {
	m.leaving(time.Now())
	copies := 0
	for giveUp := time.Now().Add(20 * time.Second); time.Now().Before(giveUp); c.sleep(20*time.Millisecond, 300*time.Millisecond) {
		if r := c.releaseOnce(m); r.err == nil {
			if copies++; !c.chance(10) {
				return
			}
		}
	}
}

func (c *client) releaseOnce(m *claim) *attempt {
	ctx, cancel := within(patience)
	defer cancel()
	r := &attempt{op: opRelease, sent: time.Now()}
	r.answer, r.life = c.propose(ctx, c.pick(), command.FromRelease(&command.Release{Name: m.nameOf(c), Key: m.key}))
	c.finish(m, r)
	return r
}

// look reads locks, again and again.
func (c *client) look() {
	for time.Now().Before(c.end) {
		c.sleep(100*time.Millisecond, 2*time.Second)
		lock, begin := c.lock([]string{"p", "p", "p", "q", "rw", "sem"}[c.rand.IntN(6)], 2), time.Now()
		ctx, cancel := within(patience)
		m := c.pick()
		a, _ := c.ask(ctx, m, func(ctx context.Context, n *node.Node) answer {
			r := &read{lock: lock, begin: begin, through: m.name}
			err := n.Read(ctx, func(t *locktable.Table, now locktable.Time) { r.fill(t, now) })
			return answer{err: err, saw: r}
		})
		cancel()
		if a.err == nil {
			a.saw.end = time.Now()
			c.count.add("reads", 1)
			c.book.history.saw(a.saw)
		}
	}
}

func (r *read) fill(t *locktable.Table, now locktable.Time) {
	r.now = now
	i, _ := t.Lock(r.lock, 50)
	for _, h := range i.Holders {
		if h.Deadline > now {
			r.holders = append(r.holders, h.Token)
		} else {
			r.expiring = append(r.expiring, h.Token)
		}
	}
	for _, q := range i.Waiters {
		r.waiters = append(r.waiters, strings.Clone(q.Owner))
	}
}
