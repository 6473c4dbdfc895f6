package simulation

import (
	"context"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// useSet takes two or three of the locks that the others use, works, and gives them back as one.
func (c *client) useSet() {
	kinds := []*command.SetMember{
		{Name: c.lock("p", 1)},
		{Name: c.lock("q", 2)},
		{Name: c.lock("rw", 1), Mode: command.Mode(c.rand.IntN(2))},
		{Name: c.lock("sem", 1), Slots: 2},
	}
	if c.chance(50) {
		kinds[1].Name = "p1" + kinds[0].Name[2:]
	}
	c.rand.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	key, ttl := c.key(), c.time(time.Second, 5*time.Second)
	a := &command.Acquire{Key: key, Ttl: int64(ttl), Owner: key, Wait: int64(c.time(0, 12*time.Second))}
	var ms []*claim
	for _, k := range kinds[:2+c.rand.IntN(2)] {
		m := &claim{lock: k.Name, key: key, mode: k.Mode, slots: k.Slots, first: time.Now(), ofSet: true}
		a.Set = append(a.Set, k)
		ms = append(ms, m)
		c.book.history.begin(m)
	}
	ms[0].others = ms[1:]
	c.count.add("sets", 1)
	if c.take(ms[0], a) {
		c.work(ms[0], ttl)
	}
}

// holdAndWait takes locks in a session, in any order, and keeps them while it waits for others.
func (c *client) holdAndWait() {
	n := &numbered{client: c, s: &shared{id: c.key()}}
	ttl := c.time(4*time.Second, 8*time.Second)
	if !n.open(ttl) {
		return
	}
	c.count.add("sessions that hold and wait", 1)
	first := c.rand.IntN(2)
	for i := range 2 {
		m := &claim{lock: c.lock("d", 1)[:1] + string(rune('0'+(first+i)%2)) + c.lock("d", 1)[2:], key: c.key(), session: n.s, first: time.Now()}
		n.book.history.begin(m)
		n.last++
		a := &command.Acquire{Name: m.lock, Key: m.key, Session: n.s.id, Wait: int64(6 * time.Second), Request: n.last, Owner: m.key}
		if !n.take(m, a) || !n.renew(ttl) {
			break
		}
		n.sleep(time.Second, 3*time.Second)
	}
	if c.chance(90) {
		n.endAll()
	}
}

// handOver gives the lock to somebody who waits for it. It tells whether it did.
func (c *client) handOver(m *claim) bool {
	ctx, cancel := within(patience)
	defer cancel()
	i := c.glance(ctx, m.lock)
	if len(i.Waiters) == 0 {
		return false
	}
	to := i.Waiters[len(i.Waiters)-1].Owner
	m.leaving(time.Now())
	h := &attempt{op: opHandOver, sent: time.Now()}
	h.answer, h.life = c.propose(ctx, c.pick(), command.FromHandOver(&command.HandOver{Name: m.lock, Key: m.key, To: to}))
	c.finish(m, h)
	return h.err == nil && h.out.Code == locktable.Released
}

// operate breaks holds and settles tasks now and then.
func (c *client) operate() {
	for time.Now().Before(c.end) {
		c.sleep(time.Second, 6*time.Second)
		if c.chance(50) {
			c.breakSome()
		} else {
			c.settleSome()
		}
	}
}

// breakSome ends the holds of a lock, as far as the operator has seen them. It may do so twice.
func (c *client) breakSome() {
	lock := c.lock([]string{"p", "q", "rw", "sem", "d"}[c.rand.IntN(5)], 2)
	ctx, cancel := within(patience)
	defer cancel()
	upTo := uint64(0)
	for _, h := range c.glance(ctx, lock).Holders {
		upTo = max(upTo, h.Token)
	}
	if upTo == 0 {
		return
	}
	for range 1 + c.rand.IntN(2) {
		c.propose(ctx, c.pick(), command.FromBreak(&command.Break{Name: lock, UpToToken: upTo, Owner: "ops", Reason: "it hangs"}))
	}
}

// glance returns what some node knows of the lock, perhaps of the past.
func (c *client) glance(ctx context.Context, lock string) locktable.LockInfo {
	got := make(chan locktable.LockInfo, 1)
	c.ask(ctx, c.pick(), func(_ context.Context, n *node.Node) answer {
		n.ReadStale(func(t *locktable.Table, _ uint64, _ time.Duration) {
			i, _ := t.Lock(lock, 50)
			for k := range i.Waiters {
				i.Waiters[k].Owner = strings.Clone(i.Waiters[k].Owner)
			}
			got <- i
		})
		return answer{}
	})
	select {
	case i := <-got:
		return i
	default:
		return locktable.LockInfo{}
	}
}

// nameOf returns what a release or renewal says of the lock: of a set any or none, and nothing of a task.
func (c *claim) nameOf(by *client) string {
	if c.task != nil || c.ofSet && by.chance(40) {
		return ""
	}
	return c.all()[by.rand.IntN(len(c.others)+1)].lock
}
