//go:build linux

package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// size says how many clients work on how many locks. At most 8 clients share a lock and names change, so that the
// linearizability checker has a chance.
type size struct {
	locks, perLock  int // tried
	queues, inQueue int // waited for
	sessions        int
	sessionLocks    int
	// How long names of locks are used.
	epoch time.Duration
}

var (
	fullSize  = size{locks: 20, perLock: 4, queues: 5, inQueue: 6, sessions: 10, sessionLocks: 8, epoch: 30 * time.Second}
	smallSize = size{locks: 5, perLock: 3, queues: 2, inQueue: 4, sessions: 3, sessionLocks: 3, epoch: 30 * time.Second}
)

// workload is what all clients do together.
type workload struct {
	*clients
	size  size
	fence fence
	over  chan struct{} // closed: clients finish what they are at
	group sync.WaitGroup
	// Requests of which nothing certain was learned, however often they were repeated.
	gaveUp atomic.Int64
}

// startLoad sets the clients to work.
func startLoad(c *clients, s size, seed uint64) *workload {
	l := &workload{clients: c, size: s, over: make(chan struct{}), fence: fence{highest: map[string]uint64{}}}
	n := uint64(0)
	begin := func(id string, step func(*worker)) {
		n++
		w := &worker{clients: c, id: id, load: l, rand: rand.New(rand.NewPCG(seed, n))}
		l.group.Go(func() {
			for !l.isOver() {
				step(w)
			}
		})
	}
	for i := range s.locks * s.perLock {
		begin(fmt.Sprintf("r%d", i), func(w *worker) { w.register(l.name("r", i%s.locks)) })
	}
	for i := range s.queues * s.inQueue {
		begin(fmt.Sprintf("q%d", i), func(w *worker) { w.queue(l.name("q", i%s.queues)) })
	}
	for i := range s.queues {
		begin(fmt.Sprintf("look%d", i), func(w *worker) {
			w.look(l.name("q", i))
			w.rest(100, 300)
		})
	}
	for i := range s.sessions {
		begin(fmt.Sprintf("s%d", i), (*worker).inSession)
	}
	return l
}

// stop lets the clients finish and returns when they have.
func (l *workload) stop() {
	close(l.over)
	l.group.Wait()
	l.meddler.pending.Wait()
}

func (l *workload) isOver() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// name is the present name of a lock.
func (l *workload) name(kind string, i int) string {
	return fmt.Sprintf("%s%d-%d", kind, l.history.now()/int64(l.size.epoch), i)
}

// lifetime is 1 to 5 s, mostly 2.
func (w *worker) lifetime() time.Duration {
	return []time.Duration{1, 2, 2, 2, 3, 5}[w.rand.IntN(6)] * time.Second
}

// register tries to get a lock, and does with it what clients do.
func (w *worker) register(lock string) {
	h := w.newHold(lock, w.lifetime(), nil)
	if !w.take(h, 0) {
		if w.rand.IntN(6) == 0 {
			w.look(lock)
		}
		w.rest(50, 250)
		return
	}
	w.use(h)
	w.rest(20, 120)
}

// use does something with a hold and ends it, or not.
func (w *worker) use(h *hold) {
	if !w.valid(h, h.ttl/2) && !w.keep(h) {
		w.drop(h)
		return
	}
	w.write(h)
	switch n := w.rand.IntN(100); {
	case n < 60: // short work
		w.rest(5, 80)
		w.write(h)
		w.drop(h)
	case n < 75: // long work
		w.stay(h)
		w.drop(h)
	case n < 82: // late for everything
		w.sleepUntil(h.until + w.rand.Int64N(int64(time.Second)))
		w.write(h)
		w.keep(h)
		w.drop(h)
	case n < 88: // to the last moment
		w.sleepUntil(h.until - int64(30*time.Millisecond))
		w.write(h)
		w.keep(h)
		w.drop(h)
	case n < 96:
		w.storm(h)
		w.write(h)
		w.drop(h)
	default: // dead
	}
}

// stay renews some times, looking at the lock in between.
func (w *worker) stay(h *hold) {
	for range 1 + w.rand.IntN(3) {
		w.sleepUntil(min(w.history.now()+int64(h.ttl/3), h.until))
		w.write(h)
		w.keep(h)
		if w.rand.IntN(3) == 0 {
			w.look(h.lock)
		}
		w.write(h)
	}
}

func (w *worker) sleepUntil(when int64) {
	time.Sleep(time.Duration(when - w.history.now())) // what is tested is time
}

// look reads the lock.
func (w *worker) look(lock string) {
	w.do(context.Background(), &op{Client: w.id, Node: w.doors.any(w.rand), Kind: read, Lock: lock})
}

// queue waits for a lock.
func (w *worker) queue(lock string) {
	h := w.newHold(lock, 2*time.Second, nil)
	wait := time.Duration(1000+w.rand.IntN(5000)) * time.Millisecond
	if w.rand.IntN(10) == 0 {
		w.hangUp(h, wait)
		return
	}
	if !w.take(h, wait) {
		return
	}
	if w.valid(h, h.ttl/2) || w.keep(h) {
		w.write(h)
		w.rest(5, 150)
		w.write(h)
	}
	if w.rand.IntN(15) > 0 {
		w.drop(h)
	}
}

// hangUp asks for the lock and leaves soon.
func (w *worker) hangUp(h *hold, wait time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(20+w.rand.IntN(500))*time.Millisecond)
	defer cancel()
	o := w.op(acquire, h)
	o.Wait = wait.Seconds()
	if w.do(ctx, o).fate() == done {
		h.token = o.Token
		h.believe(o)
		w.drop(h)
	}
}

// inSession opens a session and takes locks in it with numbered requests.
func (w *worker) inSession() {
	s := &session{id: rig.NewKey(), ttl: w.lifetime() + time.Second, used: map[string]bool{}}
	o, ok := w.again(func() *op { return w.sessionOp(openSession, s) })
	if !ok || o.fate() != done {
		return
	}
	s.until = o.Call + int64(o.Expires*1e9)
	for range 2 + w.rand.IntN(5) {
		w.oneInSession(s)
		if w.load.isOver() || w.history.now() > s.until {
			break
		}
		if w.history.now() > s.until-int64(s.ttl/2) {
			if o := w.do(context.Background(), w.sessionOp(renewSession, s)); o.fate() == done {
				s.until = max(s.until, o.Call+int64(o.Expires*1e9))
			}
		}
	}
	if w.rand.IntN(4) > 0 {
		_, _ = w.again(func() *op { return w.sessionOp(endSession, s) })
	}
}

func (w *worker) sessionOp(kind string, s *session) *op {
	return &op{Client: w.id, Node: w.doors.any(w.rand), Kind: kind, Session: s.id, Owner: w.id, TTL: s.ttl.Seconds()}
}

func (w *worker) oneInSession(s *session) {
	lock := w.load.name("s", w.rand.IntN(w.load.size.sessionLocks))
	if s.used[lock] {
		return
	}
	s.used[lock] = true
	h := w.newHold(lock, s.ttl, s)
	if !w.take(h, 0) {
		w.rest(30, 200)
		return
	}
	w.write(h)
	if w.rand.IntN(4) == 0 {
		w.storm(h)
	}
	w.rest(5, 200)
	w.write(h)
	if w.rand.IntN(4) > 0 {
		w.drop(h)
	}
}
