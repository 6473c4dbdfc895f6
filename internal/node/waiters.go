package node

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// Keys named by one Poll, so that an entry stays well within its bounds.
const keysPerPoll = 1000

// waiters are the clients that are parked on this node. A waiter is registered before its acquire is proposed, so that
// no grant can pass it by.
type waiters struct {
	count atomic.Int64 // of all parked, to keep Apply cheap when nobody waits

	mu       sync.Mutex // guards all below, and since and kept of every waiter
	byKey    map[locktable.Key][]*waiter
	restores int // how often the table was replaced
}

// waiter is one parked client.
type waiter struct {
	key locktable.Key
	// Of several that wait with one key, the events of an attachment concern only its own.
	attachment uint64
	// The task that it waits for; "": it waits for a lock.
	task string
	// Its wait outlasts the grace, so that it has to be polled.
	polled bool
	// Before its place was last asked or polled for, so that it lasts for the grace from then on, at least.
	kept time.Time
	// When it got its place; 0: not yet.
	since    locktable.Time
	restores int // of waiters, when it was parked
	// Gets the outcome that ends the wait.
	ended chan locktable.Outcome
}

func newWaiters() *waiters { return &waiters{byKey: make(map[locktable.Key][]*waiter)} }

// newWaiter is a client that is about to wait for a task, or for a lock (""), with key over the connection that attachment names.
func newWaiter(key locktable.Key, attachment uint64, task string) *waiter {
	return &waiter{key: key, attachment: attachment, task: task, ended: make(chan locktable.Outcome, 1)}
}

// park registers p.
func (w *waiters) park(p *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.restores = w.restores
	w.byKey[p.key] = append(w.byKey[p.key], p)
	w.count.Add(1)
}

// leave takes p out.
func (w *waiters) leave(p *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.byKey[p.key]
	for i, q := range rest {
		if q == p {
			rest = append(rest[:i:i], rest[i+1:]...)
			break
		}
	}
	if len(rest) == 0 {
		delete(w.byKey, p.key)
	} else {
		w.byKey[p.key] = rest
	}
	w.count.Add(-1)
}

// tell wakes the parked clients that the events of an entry concern. now is the entry's time. An event that belongs to
// an earlier place of the same key, or to another connection, is not theirs.
func (w *waiters) tell(now locktable.Time, events []locktable.Event) {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range events {
		if endsWait(events[i].Kind) {
			w.tellLocked(events[i].Key, events[i].Attachment, outcome(now, &events[i]))
		}
	}
}

// told wakes the client that waits with key over the connection that attachment names.
func (w *waiters) told(key locktable.Key, attachment uint64, o locktable.Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tellLocked(key, attachment, o)
}

func (w *waiters) tellLocked(key locktable.Key, attachment uint64, o locktable.Outcome) {
	for _, p := range w.byKey[key] {
		if p.attachment == attachment && !p.isOld(o) {
			p.tell(o)
		}
	}
}

// isOld tells whether o is the end of an earlier place of p: an acquire that was sent to two leaders got one from each. Within
// one entry, waits run out before anything is asked for.
func (p *waiter) isOld(o locktable.Outcome) bool {
	if o.Now != p.since {
		return o.Now < p.since
	}
	ranOut := o.Code == locktable.NotClaimable && (o.Task == nil || o.Task.Status < locktable.TaskDone)
	return o.Code == locktable.Held || ranOut
}

// endsWait tells whether an event of that kind ends the wait of the client that it concerns.
func endsWait(k locktable.EventKind) bool {
	switch k {
	case locktable.EventGranted, locktable.EventTimedOut, locktable.EventCancelled, locktable.EventSuperseded,
		locktable.EventTaskClaimed, locktable.EventTaskAnswered, locktable.EventTaskCancelled:
		return true
	}
	return false
}

// recheck tells every parked client that has a place what became of it in t. It is called after the table was replaced by
// a snapshot, which leaves no events.
func (w *waiters) recheck(t *locktable.Table) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.restores++
	for _, parked := range w.byKey {
		for _, p := range parked {
			p.look(t)
		}
	}
}

// queued notes that p has got a place, at the cluster time now. If the table was replaced since p was parked, its events
// may have been lost.
func (w *waiters) queued(p *waiter, now locktable.Time, view func(func(*locktable.Table))) {
	w.mu.Lock()
	p.since = now
	p.forgetOld()
	missed := p.restores != w.restores
	w.mu.Unlock()
	if missed {
		view(func(t *locktable.Table) {
			w.mu.Lock()
			defer w.mu.Unlock()
			p.look(t)
		})
	}
}

// forgetOld takes back what p was told of an earlier place.
func (p *waiter) forgetOld() {
	select {
	case o := <-p.ended:
		if !p.isOld(o) {
			p.tell(o)
		}
	default:
	}
}

// look tells p its fate if its place is in t, or was and is gone. A table that has not got as far as the acquire of p says
// nothing about it.
func (p *waiter) look(t *locktable.Table) {
	if p.since == 0 || t.Now() < p.since {
		return
	}
	i, known := p.in(t)
	mine := i.Attachment == p.attachment
	switch {
	case known && i.Held && (mine || i.Attachment == 0):
		p.tell(locktable.Outcome{
			Code: locktable.Granted, Mode: i.Mode, Slots: i.Slots, Token: i.Token, TTL: i.TTL, Deadline: i.Deadline, Now: t.Now(),
			Task: p.taskIn(t),
		})
	case known && !i.Held && mine:
	case !known && p.isOver(t):
		p.tell(locktable.Outcome{Code: locktable.NotClaimable, Task: p.taskIn(t), Now: t.Now()})
	default:
		p.tell(locktable.Outcome{Code: locktable.Cancelled, Now: t.Now()})
	}
}

// in returns what the key of p stands for in t, unless that is nothing or something else than what p waits for.
func (p *waiter) in(t *locktable.Table) (locktable.KeyInfo, bool) {
	i, known := t.Key(p.key)
	if i.Task != (p.task != "") || i.Task && i.Lock != p.task {
		return i, false
	}
	return i, known
}

// taskIn returns how the task that p waits for stands in t, or nil.
func (p *waiter) taskIn(t *locktable.Table) *locktable.TaskInfo {
	if i, ok := t.Task(p.task); ok {
		return &i
	}
	return nil
}

// isOver tells whether p waits for a task that is over in t.
func (p *waiter) isOver(t *locktable.Table) bool {
	i := p.taskIn(t)
	return i != nil && i.Status >= locktable.TaskDone
}

// tell ends the wait of p, unless it knows its fate already.
func (p *waiter) tell(o locktable.Outcome) {
	select {
	case p.ended <- o:
	default:
	}
}

// polls returns commands that say that the clients of all parked keys are still there.
func (w *waiters) polls() []*command.Command {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*command.Command
	var p *command.Poll
	for key, parked := range w.byKey {
		if !slices.ContainsFunc(parked, func(p *waiter) bool { return p.polled }) {
			continue
		}
		if p == nil || len(p.Keys) == keysPerPoll {
			p = &command.Poll{}
			out = append(out, command.FromPoll(p))
		}
		p.Keys = append(p.Keys, key.Reveal())
	}
	return out
}

// keptSince notes that the places of the keys were polled for after the time at.
func (w *waiters) keptSince(keys []string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		key, _ := locktable.ParseKey(k)
		for _, p := range w.byKey[key] {
			if at.After(p.kept) {
				p.kept = at
			}
		}
	}
}

// lastKept is how long ago the place of p was last asked or polled for, at most.
func (w *waiters) lastKept(p *waiter) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(p.kept)
}

// outcome is the answer to the acquire of a client whose wait ended with e.
func outcome(now locktable.Time, e *locktable.Event) locktable.Outcome {
	o := locktable.Outcome{Mode: e.Mode, Slots: e.Slots, Waited: e.Waited, Now: now, Task: e.Task}
	switch e.Kind {
	case locktable.EventTaskAnswered:
		o.Code = locktable.NotClaimable
	case locktable.EventGranted, locktable.EventTaskClaimed:
		o.Code, o.Token, o.TTL, o.Deadline = locktable.Granted, e.Token, e.TTL, e.Deadline
	case locktable.EventTimedOut:
		o.Code, o.Holder, o.Expected = locktable.Held, e.Holder, e.Expected
	default:
		o.Code = locktable.Cancelled
	}
	return o
}

// needsPolls tells whether a wait can outlast the grace.
func needsPolls(wait, grace time.Duration) bool { return wait < 0 || wait > grace/2 }
