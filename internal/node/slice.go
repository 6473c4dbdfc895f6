package node

import (
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// Slice says for how long a request stays of the wait that it asks for, and whether its client comes back for the rest. The zero
// value is a request that stays until its wait ends, or its client leaves.
type Slice struct {
	// When the request has waited for so long without an end, its outcome is Waiting, as the place stands then: Now is the present,
	// Deadline how long the place stays at least without another request, and Holder.Waiters is the length of the queue. The
	// place stays, and so does a grant that comes between this request and the next one with the key; of a client that does not
	// come back, the place ends with its grace, and a grant some seconds later. 0: there are no slices.
	For time.Duration
	// The client knows the key and comes back with it: neither the end of its connection nor an outcome that is not known gives
	// up the place, or the grant, as long as its client may still come back.
	Keep bool
}

// A request whose place went over to another one with the same key stays for so long at most. Were it answered at once, two clients
// that share a key by mistake would send each other away without a pause.
const supersededStay = time.Second

// isSliced tells whether the slice of p ends before its wait.
func (p *parked) isSliced() bool {
	wait := time.Duration(p.a.GetWait())
	return p.slice.For > 0 && (wait < 0 || p.slice.For < wait)
}

// stay is how long p is parked at most; negative: without end.
func (p *parked) stay() time.Duration {
	if p.isSliced() {
		return p.slice.For
	}
	return time.Duration(p.a.GetWait())
}

// sliceTimer tells when a slice is over.
type sliceTimer struct {
	over  <-chan time.Time // nil: the wait ends before
	timer *time.Timer
	end   time.Time // of the slice, or of the wait; zero: neither has one
}

// startSlice begins the slice of p, or one without end.
func (p *parked) startSlice() *sliceTimer {
	t := &sliceTimer{}
	if stay := p.stay(); stay >= 0 {
		t.end = p.asked.Add(stay)
	}
	if p.isSliced() {
		t.set(t.end)
	}
	return t
}

func (t *sliceTimer) set(end time.Time) {
	t.stop()
	t.end, t.timer = end, time.NewTimer(time.Until(end))
	t.over = t.timer.C
}

// hasten ends the slice soon.
func (t *sliceTimer) hasten() {
	soon := time.Now().Add(supersededStay)
	if !t.end.IsZero() && t.end.Before(soon) {
		soon = t.end
	}
	t.set(soon)
}

func (t *sliceTimer) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

// isSuperseded tells whether o, by which p is told that its place is lost, may mean that another request with its key has it now:
// that request may be an earlier one of the same client, which has come late. A table that lags behind may still have a place
// that is lost.
func (n *Node) isSuperseded(p *parked, o *locktable.Outcome) (known bool) {
	if p.slice.For == 0 || o.Code != locktable.Cancelled {
		return false
	}
	n.fsm.view(func(t *locktable.Table) { _, known = p.in(t) })
	p.lost = o
	return known
}

// endSlice returns how the place of p stands, or its end, should that have come in the same moment.
func (n *Node) endSlice(p *parked) locktable.Outcome {
	select {
	case o := <-p.ended:
		if !n.isSuperseded(p, &o) {
			return o
		}
	default:
	}
	o, lost := p.placed, false
	n.fsm.view(func(t *locktable.Table) {
		o.Now = max(o.Now, t.Now())
		if task := p.taskIn(t); task != nil {
			o.Task = task
		}
		i, known := p.in(t)
		lost = !known && p.lost != nil
		if !known || i.Held {
			return // this node has not heard of the place yet, or it went over to another request, and was granted
		}
		o.Position, o.Expected, o.Waited = i.Position, i.Expected, o.Now.Sub(i.Since)
		o.Holder = &locktable.Holder{Waiters: longestQueue(t, &i)}
	})
	if lost {
		return *p.lost
	}
	if o.Holder == nil {
		o.Holder = &locktable.Holder{Waiters: o.Position}
	}
	o.Deadline = o.Now.Add(n.keptFor(p))
	return o
}

// longestQueue is how many wait in the queue of the lock of a key, of several in the longest.
func longestQueue(t *locktable.Table, k *locktable.KeyInfo) (most int) {
	names := k.Names
	if len(names) == 0 {
		names = []string{k.Lock}
	}
	for _, name := range names {
		l, _ := t.Lock(name, 0)
		most = max(most, l.NumWaiters)
	}
	return most
}

// keptFor is how long the place of p stays, at least, if nobody asks for it again: until its grace or its wait ends.
func (n *Node) keptFor(p *parked) time.Duration {
	d := n.grace() - n.waiters.lastKept(p.waiter)
	if wait := time.Duration(p.a.GetWait()); wait > 0 {
		d = min(d, wait-time.Since(p.asked))
	}
	return max(d, 0)
}
