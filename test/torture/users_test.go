//go:build linux

package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/client"
)

const (
	userCount = 8
	shopCount = 3
	// Lifetimes of holds. The short one is renewed every second, and gone 1.8 s after the last chance.
	shortTTL = 3 * time.Second
	longTTL  = 12 * time.Second
)

// users are clients of the package that do all there is to do.
type users struct {
	*ring
	probe    *probe
	register fencedRegister
	clients  []*client.Client
	over     chan struct{}
	ending   sync.Once
	group    sync.WaitGroup

	mu                           sync.Mutex // guards what follows
	tenures                      []tenure
	grants, queued, renewals     int
	refused, lost, excused       int
	sets, tasks, patient, inDesk int
	executions                   map[string]int // of tasks
	wrong                        []string
}

func startUsers(r *ring) *users {
	u := &users{
		ring: r, probe: startProbe(r.c), over: make(chan struct{}), executions: map[string]int{},
		register: fencedRegister{newest: map[string]uint64{}},
	}
	for i := range userCount {
		c, err := client.New(r.urls(), client.WithOwner(fmt.Sprintf("user-%d", i)))
		if err != nil {
			r.t.Fatal(err)
		}
		u.clients = append(u.clients, c)
	}
	r.t.Cleanup(func() {
		for _, c := range u.clients {
			_ = c.Close() // so that nobody waits for what never comes, should the test have failed in between
		}
		u.stop()
	})
	ready := make(chan struct{}, userCount+1)
	for i, c := range u.clients {
		rnd := rand.New(rand.NewPCG(r.seed, uint64(i)))
		u.group.Go(func() { u.keep(c, i, ready) })
		u.group.Go(func() { u.shop(c, i, rnd) })
		u.group.Go(func() { u.once(c, i) })
	}
	u.group.Go(func() { u.desk(u.clients[0], ready) })
	for range userCount + 1 {
		<-ready
	}
	for i := range 3 { // in the queue of one who gives nothing away before the end
		u.group.Go(func() { u.wait(u.clients[i+1], i) })
	}
	return u
}

func (u *users) isOver() bool {
	select {
	case <-u.over:
		return true
	default:
		return false
	}
}

func (u *users) count(what *int, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	*what += n
}

// fault notes an error. It is excused if, not long before, no node answered for a third of the ttl: a lease would have been renewed then.
func (u *users) fault(who string, err error, ttl time.Duration) {
	longest := u.probe.longest(longTTL)
	lost := errors.Is(err, client.ErrLost)
	text := fmt.Sprintf("%s: %v; in the %v before, no node answered for %v at most", who, err, longTTL, longest.Round(time.Millisecond))
	u.history.note("", text)
	u.mu.Lock()
	defer u.mu.Unlock()
	if lost {
		u.lost++
	}
	if longest >= ttl/3 {
		u.excused++
		fmt.Println("EXCUSED:", text)
		return
	}
	u.wrong = append(u.wrong, text)
}

// use works with a lease for as long as it is told to, and unlocks it.
func (u *users) use(who string, lease *client.Lease, ttl time.Duration, over func() bool) {
	tenures, renewals, refused := u.register.work(who, lease, over)
	lost := lease.Err()
	if lost != nil {
		u.fault(who+" has lost its lease", lost, ttl)
	}
	if err := lease.Unlock(context.Background()); err != nil && lost == nil {
		u.fault(who+" unlocks", err, shortTTL)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tenures = append(u.tenures, tenures...)
	u.grants++
	u.renewals += renewals
	u.refused += refused
	if lease.Waited() > 0 {
		u.queued++
	}
}

// keep holds a lock of its own from the beginning to the end.
func (u *users) keep(c *client.Client, i int, ready chan<- struct{}) {
	who, ttl := fmt.Sprintf("keeper %d", i), []time.Duration{shortTTL, longTTL}[i%2]
	lease, err := c.Lock(context.Background(), fmt.Sprintf("own-%d", i), client.TTL(ttl))
	ready <- struct{}{}
	if err != nil {
		u.fault(who, err, ttl)
		return
	}
	u.use(who, lease, ttl, u.isOver)
}

// wait waits for what the first keeper has. Nobody gets it before the end.
func (u *users) wait(c *client.Client, i int) {
	who := fmt.Sprintf("waiter %d", i)
	lease, err := c.Lock(context.Background(), "own-0", client.TTL(shortTTL))
	if err != nil {
		u.fault(who, err, longTTL)
		return
	}
	u.use(who, lease, shortTTL, until(20*time.Millisecond))
	u.count(&u.patient, 1)
}

func until(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().After(end) }
}

// shop takes one of the locks that many want, or two at once, for a moment or longer than they last without renewal.
func (u *users) shop(c *client.Client, i int, rnd *rand.Rand) {
	who := fmt.Sprintf("shopper %d", i)
	for !u.isOver() {
		set := i < 2
		lock := func() (*client.Lease, error) {
			if set {
				return c.LockAll(context.Background(), []string{"shop-2", "shop-0"}, client.TTL(shortTTL))
			}
			return c.Lock(context.Background(), fmt.Sprintf("shop-%d", rnd.IntN(shopCount)), client.TTL(shortTTL))
		}
		lease, err := lock()
		if err != nil {
			u.fault(who, err, longTTL)
			continue
		}
		d := time.Duration(rnd.IntN(150)) * time.Millisecond
		if rnd.IntN(30) == 0 {
			d = shortTTL + d
		}
		enough := until(d)
		u.use(who, lease, shortTTL, func() bool { return enough() || u.isOver() })
		if set {
			u.count(&u.sets, 1)
		}
	}
}

// desk is a session with two locks in it.
func (u *users) desk(c *client.Client, ready chan<- struct{}) {
	session, err := c.Open(context.Background(), client.TTL(shortTTL))
	ready <- struct{}{}
	if err != nil {
		u.fault("the session", err, shortTTL)
		return
	}
	var group sync.WaitGroup
	for _, name := range []string{"desk-a", "desk-b"} {
		group.Go(func() {
			who := "the session with " + name
			lease, err := session.Lock(context.Background(), name)
			if err != nil {
				u.fault(who, err, shortTTL)
				return
			}
			u.use(who, lease, shortTTL, u.isOver)
			u.count(&u.inDesk, 1)
		})
	}
	group.Wait()
	if err := session.End(context.Background()); err != nil {
		u.fault("the end of the session", err, shortTTL)
	}
}

// once does tasks together with all others, each of them once.
func (u *users) once(c *client.Client, i int) {
	for n := 0; !u.isOver(); n++ {
		name := fmt.Sprintf("task-%d", n)
		done, err := c.Once(context.Background(), name, func(ctx context.Context, claim *client.Claim) (string, error) {
			u.mu.Lock()
			u.executions[name]++
			u.mu.Unlock()
			pause(ctx, 50*time.Millisecond) // the task itself
			return name + " is done", nil
		}, client.TTL(shortTTL))
		if err != nil {
			u.fault(fmt.Sprintf("user %d at %s", i, name), err, longTTL)
			continue
		}
		if done.Result != name+" is done" {
			u.mu.Lock()
			u.wrong = append(u.wrong, fmt.Sprintf("%s has the result %q", name, done.Result))
			u.mu.Unlock()
		}
		u.count(&u.tasks, 1)
	}
}

// lacks tells whether there was too little to see so far.
func (u *users) lacks() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.tooLittleLocked(false)) > 0
}

func (u *users) tooLittleLocked(end bool) (all []string) {
	for _, least := range []struct {
		what       string
		have, want int
		atEnd      bool
	}{
		{"grants", u.grants, 40, false},
		{"grants from the queue", u.queued, 20, false},
		{"grants of sets", u.sets, 3, false},
		{"answers of tasks", u.tasks, 40, false},
		{"renewals", u.renewals, 20, true},
		{"locks in a session", u.inDesk, 2, true},
		{"grants to those who waited all the time", u.patient, 3, true},
	} {
		if least.have < least.want && (end || !least.atEnd) {
			all = append(all, fmt.Sprintf("the run saw too little: %d %s, not %d", least.have, least.what, least.want))
		}
	}
	return all
}

// stop lets everybody finish.
func (u *users) stop() {
	u.ending.Do(func() {
		close(u.over)
		u.group.Wait()
		u.probe.stop()
	})
}

// judge says what was wrong. Call it after stop.
func (u *users) judge() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range judgeTenures(u.tenures) {
		u.t.Error(w.describe(u.history, u.tenures, longTTL))
	}
	for _, w := range append(u.wrong, u.tooLittleLocked(true)...) {
		u.t.Error(w)
	}
	if u.refused > 0 {
		u.t.Errorf("the register refused %d writes of clients that had the lock", u.refused)
	}
	for name, n := range u.executions {
		if n > 1 && u.excused == 0 {
			u.t.Errorf("%s was done %d times", name, n)
		}
	}
	if u.t.Failed() {
		u.t.Logf("what happened, beside who had what:%s", timeline(u.history, nil, "", 0, time.Duration(u.history.now())))
	}
	for _, n := range u.c.nodes {
		log, _ := os.ReadFile(u.dir + "/" + n.name + ".log")
		if strings.Contains(string(log), "panic: ") {
			u.t.Errorf("the log of %s says that there was a panic", n.name)
		}
	}
}

func (u *users) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return fmt.Sprintf(`%d grants (%d from the queue, %d of sets), %d renewals, %d tasks done and told %d times
%d writes to the fenced register, %d refused; %d leases lost, %d faults excused by the machine; longest time without an answer of any node %v`,
		u.grants, u.queued, u.sets, u.renewals, len(u.executions), u.tasks,
		u.register.writes, u.refused, u.lost, u.excused, u.probe.longest(time.Hour).Round(time.Millisecond))
}
