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

	mu    sync.Mutex // guards byKey
	byKey map[locktable.Key][]*waiter
}

// waiter is one parked client.
type waiter struct {
	key locktable.Key
	// Of several that wait with one key, the events of an attachment concern only its own.
	attachment uint64
	// Its wait outlasts the grace, so that it has to be polled.
	polled bool
	// Gets the outcome that ends the wait.
	ended chan locktable.Outcome
}

func newWaiters() *waiters { return &waiters{byKey: make(map[locktable.Key][]*waiter)} }

// park registers a client that is about to wait with key over the connection that attachment names.
func (w *waiters) park(key locktable.Key, attachment uint64, polled bool) *waiter {
	p := &waiter{key: key, attachment: attachment, polled: polled, ended: make(chan locktable.Outcome, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byKey[key] = append(w.byKey[key], p)
	w.count.Add(1)
	return p
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
		switch events[i].Kind {
		case locktable.EventGranted, locktable.EventTimedOut, locktable.EventCancelled, locktable.EventSuperseded:
			for _, p := range w.byKey[events[i].Key] {
				if p.attachment == events[i].Attachment {
					p.tell(outcome(now, &events[i]))
				}
			}
		case locktable.EventReleased, locktable.EventExpired, locktable.EventQueued, locktable.EventSessionExpired:
		}
	}
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

// outcome is the answer to the acquire of a client whose wait ended with e.
func outcome(now locktable.Time, e *locktable.Event) locktable.Outcome {
	o := locktable.Outcome{Mode: e.Mode, Slots: e.Slots, Waited: e.Waited, Now: now}
	switch e.Kind {
	case locktable.EventGranted:
		o.Code, o.Token, o.TTL, o.Deadline = locktable.Granted, e.Token, e.TTL, e.Deadline
	case locktable.EventTimedOut:
		o.Code, o.Holder = locktable.Held, e.Holder
	default:
		o.Code = locktable.Cancelled
	}
	return o
}

// needsPolls tells whether a wait can outlast the grace.
func needsPolls(wait int64, grace time.Duration) bool { return wait < 0 || wait > int64(grace)/2 }
