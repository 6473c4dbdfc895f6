package node

import (
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// How long a command may be on its way, in the queue or beyond it, before those who wait are told that the outcome is unknown.
	stallAfter = 5 * time.Second
	stallCheck = 250 * time.Millisecond
)

var errStalled = fmt.Errorf("the log has not answered for %v", stallAfter)

// stall notices that the log does not answer, so that nobody has to set a timer for each command.
type stall struct {
	queue *queue
	// When the oldest command in flight was put into the queue, on the queue's clock; 0: none is in flight.
	inFlight atomic.Int64
	// Closed while the log is stalled; replaced when it answers again.
	signal atomic.Pointer[chan struct{}]
}

func newStall(q *queue) *stall {
	s := &stall{queue: q}
	s.reset()
	return s
}

func (s *stall) reset() {
	c := make(chan struct{})
	s.signal.Store(&c)
}

// stalled returns a channel that is closed when the log stalls.
func (s *stall) stalled() <-chan struct{} { return *s.signal.Load() }

// start notes that commands are on their way, the oldest of which was put into the queue at that time.
func (s *stall) start(oldest time.Duration) { s.inFlight.Store(int64(oldest)) }

// end notes that the entry was answered. The log works again, for everybody who comes from now on.
func (s *stall) end() {
	s.inFlight.Store(0)
	select {
	case <-s.stalled():
		s.reset()
	default:
	}
}

// watch keeps the signal true to the facts until stop is closed.
func (s *stall) watch(stop <-chan struct{}) {
	t := time.NewTicker(stallCheck)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			s.look()
		}
	}
}

func (s *stall) look() {
	// One after the other, batches that each fail in time would keep those behind them waiting for ever.
	oldest := time.Duration(s.inFlight.Load())
	if oldest == 0 {
		oldest = s.queue.oldest()
	}
	late := oldest != 0 && s.queue.now()-oldest > stallAfter
	select {
	case <-s.stalled():
		if !late {
			s.reset()
		}
	default:
		if late {
			close(*s.signal.Load())
		}
	}
}
