package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// EventID names an event: the index of the log entry that brought it, and which event of that entry it is, from 1 on. It is the
// same on every node. The zero EventID stands before all events.
type EventID struct {
	Index uint64
	N     uint32
}

// String returns the id as clients see it.
func (i EventID) String() string { return fmt.Sprintf("%d-%d", i.Index, i.N) }

// ParseEventID reads what String writes.
func ParseEventID(s string) (EventID, error) {
	a, b, ok := strings.Cut(s, "-")
	index, err1 := strconv.ParseUint(a, 10, 64)
	n, err2 := strconv.ParseUint(b, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return EventID{}, errors.New("an event id is two numbers with a hyphen between them")
	}
	return EventID{Index: index, N: uint32(n)}, nil
}

// After tells whether i stands behind j.
func (i EventID) After(j EventID) bool {
	return i.Index > j.Index || i.Index == j.Index && i.N > j.N
}

// StampedEvent is an event with its place and time.
type StampedEvent struct {
	ID EventID
	// Cluster time, and the calendar's if it is known (nanoseconds since 1970; 0: unknown).
	At   locktable.Time
	Wall int64
	locktable.Event
}

// ErrMissed means that events may have passed unseen: the journal does not reach back as far as was asked.
var ErrMissed = errors.New("events have been missed")

// Events that a node keeps, for those who read them late. One takes some 300 bytes, and its texts.
const (
	journalLength = 1 << 14
	// All of their texts. A task's result, error and progress, and a reason, can have 16 KiB each.
	journalText = 64 << 20
)

// journal keeps the newest events of the log, for any number of readers, each of whom reads at its own pace. A reader that is too
// slow is told that it has missed something; it never slows down anybody else.
type journal struct {
	mu   sync.Mutex // guards all below
	ring []StampedEvent
	next int // where the next event goes, once the ring is full
	// The texts of the events in the ring, in bytes, and how many of the oldest were emptied since there were too many.
	text, empty int
	// Everything after this is in the ring.
	since EventID
	// The newest entry that was looked at.
	newest uint64
	// Closed at the next event; nil: nobody waits for it.
	more chan struct{}
}

// begin says that the journal knows nothing of the entries up to index.
func (j *journal) begin(index uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ring, j.next, j.text, j.empty = nil, 0, 0, 0
	j.since, j.newest = EventID{Index: index, N: ^uint32(0)}, index
	j.wakeLocked()
}

// note adds the events of an entry.
func (j *journal) note(index uint64, now locktable.Time, wall int64, events []locktable.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.newest = index
	if len(events) == 0 {
		return
	}
	for i := range events {
		j.add(StampedEvent{ID: EventID{Index: index, N: uint32(i + 1)}, At: now, Wall: wall, Event: events[i]})
	}
	j.wakeLocked()
}

func (j *journal) add(e StampedEvent) {
	j.text += textOf(&e.Event)
	if len(j.ring) < journalLength {
		j.ring = append(j.ring, e)
	} else {
		if j.empty == 0 {
			j.emptyOldest()
		}
		j.empty--
		j.ring[j.next] = e
		j.next = (j.next + 1) % journalLength
	}
	for j.text > journalText {
		j.emptyOldest()
	}
}

// emptyOldest forgets the oldest event that is kept, all but its id, so that those behind it are still found.
func (j *journal) emptyOldest() {
	e := &j.ring[(j.next+j.empty)%len(j.ring)]
	j.text -= textOf(&e.Event)
	j.since, e.Event = e.ID, locktable.Event{}
	j.empty++
}

func textOf(e *locktable.Event) int {
	n := len(e.Lock) + len(e.Owner) + len(e.Metadata) + len(e.By) + len(e.Reason)
	if t := e.Task; t != nil {
		n += len(t.Name) + len(t.Owner) + len(t.Metadata) + len(t.Text) + len(t.Progress)
	}
	return n
}

func (j *journal) wakeLocked() {
	if j.more != nil {
		close(j.more)
		j.more = nil
	}
}

// read returns up to most events after the given one that want accepts, and the id to go on from. With none there, more is
// closed when there may be. It returns ErrMissed, and the id to go on from, if the journal does not reach back that far.
func (j *journal) read(after EventID, most int, want func(*locktable.Event) bool) (out []StampedEvent, next EventID, more <-chan struct{}, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.since.After(after) {
		return nil, j.since, nil, ErrMissed
	}
	next = after
	for i := j.firstAfter(after); i < len(j.ring) && len(out) < most; i++ {
		e := &j.ring[(j.next+i)%len(j.ring)]
		next = e.ID
		if want(&e.Event) {
			out = append(out, *e)
		}
	}
	if len(out) == 0 {
		if j.more == nil {
			j.more = make(chan struct{})
		}
		more = j.more
	}
	return out, next, more, nil
}

// firstAfter returns the position, counted from the oldest event, of the first one after id.
func (j *journal) firstAfter(id EventID) int {
	low, high := 0, len(j.ring)
	for low < high {
		mid := (low + high) / 2
		if j.ring[(j.next+mid)%len(j.ring)].ID.After(id) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// end returns the id behind everything that was applied.
func (j *journal) end() EventID {
	j.mu.Lock()
	defer j.mu.Unlock()
	return EventID{Index: j.newest, N: ^uint32(0)}
}

// Events reads what happens in the table, in the order of the log. It is not safe for concurrent use.
type Events struct {
	node *Node
	at   EventID
	want func(*locktable.Event) bool
	// To be told at once.
	missed bool
}

// Events returns a reader of the events that want accepts, from after on, or, without, from now on. want must be fast. An id that
// the cluster has not got as far as is not of its log: the first Next says ErrMissed.
func (n *Node) Events(ctx context.Context, after *EventID, want func(*locktable.Event) bool) (*Events, error) {
	e := &Events{node: n, at: n.fsm.journal.end(), want: want}
	if after == nil {
		return e, nil
	}
	if after.Index > e.at.Index {
		at, err := n.awaitReadAt(ctx)
		if err != nil {
			return nil, err
		}
		if after.Index > at.GetIndex() {
			e.missed = true
			return e, nil
		}
	}
	e.at = *after
	return e, nil
}

// At is the id to go on from after what Next has returned: also past events that were not wanted.
func (e *Events) At() EventID { return e.at }

// Next returns the next events, at least one and at most most. It waits up to patience and returns none if nothing happened.
// ErrMissed: events between the last ones and now may be missing; the next call goes on with what is there. ErrStopping: the node
// is on its way out.
func (e *Events) Next(ctx context.Context, most int, patience time.Duration) ([]StampedEvent, error) {
	if e.missed {
		e.missed = false
		return nil, ErrMissed
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		out, next, more, err := e.node.fsm.journal.read(e.at, most, e.want)
		e.at = next
		if err != nil || len(out) > 0 {
			return out, err
		}
		select {
		case <-more:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.node.stopping:
			return nil, ErrStopping
		}
	}
}
