//go:build linux

package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// hold is one acquisition as a careful client sees it: a key of its own, and until when it may believe in it.
type hold struct {
	lock, key, owner string
	session          *session
	number           uint64 // of its acquire
	ttl              time.Duration
	token            uint64
	until            int64 // on the clock of the run
}

// session is a session as its owner sees it.
type session struct {
	id    string
	ttl   time.Duration
	last  uint64 // the last number that was used
	until int64
	used  map[string]bool // locks that it has asked for: a second time it would get what it has
}

// worker is one client: one thing at a time, but for its retry storms.
type worker struct {
	*clients
	id     string
	load   *workload
	rand   *rand.Rand
	serial int
}

// newHold makes the key for an acquisition.
func (w *worker) newHold(lock string, ttl time.Duration, s *session) *hold {
	w.serial++
	h := &hold{lock: lock, key: rig.NewKey(), owner: fmt.Sprintf("%s-%d", w.id, w.serial), ttl: ttl, session: s}
	if s != nil {
		s.last++
		h.number = s.last
	}
	return h
}

// op is a request about the hold, to any node.
func (w *worker) op(kind string, h *hold) *op {
	o := &op{Client: w.id, Node: w.doors.any(w.rand), Kind: kind, Lock: h.lock, Key: h.key, Owner: h.owner}
	if h.session != nil {
		o.Session = h.session.id
	}
	if kind == acquire {
		o.TTL, o.Number = h.ttl.Seconds(), h.number
	}
	return o
}

// believe notes that an answer extends the hold: it counts from when the request was sent.
func (h *hold) believe(o *op) {
	h.until = max(h.until, o.Call+int64(o.Expires*1e9))
	if h.session != nil {
		h.session.until = max(h.session.until, h.until)
	}
}

// patience is how long a client repeats a request until it gives up and lets time decide.
const patience = 20 * time.Second

// again repeats a request through random nodes until it is certain what came of it. ok is false if that never was.
func (w *worker) again(make func() *op) (o *op, ok bool) {
	for until := w.history.now() + int64(patience); ; {
		o = w.do(context.Background(), make())
		if o.fate() == done || o.fate() == undone && !o.Unsent && o.Status < 429 {
			return o, true
		}
		if w.history.now() > until {
			if w.load != nil {
				w.load.gaveUp.Add(1)
			}
			return o, false
		}
		w.rest(20, 200)
	}
}

// rest sleeps between so many milliseconds.
func (w *worker) rest(least, most int) {
	time.Sleep(time.Duration(least+w.rand.IntN(most-least)) * time.Millisecond) // clients are not always busy
}

// take acquires the lock, waiting at most so long.
func (w *worker) take(h *hold, wait time.Duration) bool {
	until := w.history.now() + int64(wait)
	o, ok := w.again(func() *op {
		o := w.op(acquire, h)
		o.Wait = max(0, time.Duration(until-w.history.now())).Seconds()
		if wait == 0 {
			o.Wait = 0
		}
		return o
	})
	if !ok || o.fate() != done {
		if !ok || o.refusedAs("cancelled") {
			w.drop(h) // whatever has become of it
		}
		return false
	}
	h.token = o.Token
	h.believe(o)
	return true
}

// keep renews the hold, once; a careful client keeps some attempts in hand.
func (w *worker) keep(h *hold) bool {
	o := w.do(context.Background(), w.op(renew, h))
	if o.fate() == done {
		h.believe(o)
	}
	return o.fate() == done
}

// drop releases the hold.
func (w *worker) drop(h *hold) {
	number := uint64(0)
	if h.session != nil {
		h.session.last++
		number = h.session.last
	}
	_, _ = w.again(func() *op {
		o := w.op(release, h)
		o.Number = number
		return o
	})
}

// storm repeats the acquire many times at once; all have to give the same grant, which the judges see.
func (w *worker) storm(h *hold) {
	var group sync.WaitGroup
	for range 4 {
		o := w.op(acquire, h)
		group.Go(func() { w.do(context.Background(), o) })
	}
	group.Wait()
}

// valid tells whether the client may still believe in its hold for some time.
func (w *worker) valid(h *hold, spare time.Duration) bool {
	return w.history.now()+int64(spare) < h.until
}

// write writes to the resource behind the lock.
func (w *worker) write(h *hold) { w.load.fence.write(w.history, h) }

// fence is a resource that remembers the highest token for each lock. Safe for concurrent use.
type fence struct {
	mu      sync.Mutex // guards what follows
	highest map[string]uint64
	wrong   []string
	// Writes that were taken, and late ones that were refused.
	taken, late int
}

// write takes a write unless a newer token was seen. That must never happen to a holder who may believe in its hold.
func (f *fence) write(h *history, x *hold) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := h.now()
	switch {
	case x.token >= f.highest[x.lock]:
		f.highest[x.lock] = x.token
		f.taken++
	case now < x.until:
		f.wrong = append(f.wrong, fmt.Sprintf("%s: the holder with token %d was refused at %s, %s before the end of its hold: token %d was there before",
			x.lock, x.token, at(now), time.Duration(x.until-now), f.highest[x.lock]))
	default:
		f.late++
	}
}

// at shows a time on the clock of the run.
func at(ns int64) string { return fmt.Sprintf("%.4fs", float64(ns)/1e9) }
