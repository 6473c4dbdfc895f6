package node

import (
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// How long an entry may be on its way before those who wait for it are told that the outcome is unknown.
	stallAfter = 5 * time.Second
	stallCheck = 250 * time.Millisecond
)

var errStalled = fmt.Errorf("the log has not answered for %v", stallAfter)

// stall notices that the log does not answer, so that nobody has to set a timer for each command.
type stall struct {
	// When the entry in flight was proposed, as time since began; 0: none is.
	inFlight atomic.Int64
	began    time.Time
	// Closed while the log is stalled; replaced when it answers again.
	signal atomic.Pointer[chan struct{}]
}

func newStall() *stall {
	s := &stall{began: time.Now()}
	s.reset()
	return s
}

func (s *stall) reset() {
	c := make(chan struct{})
	s.signal.Store(&c)
}

// stalled returns a channel that is closed when the log stalls.
func (s *stall) stalled() <-chan struct{} { return *s.signal.Load() }

func (s *stall) start() { s.inFlight.Store(max(1, int64(time.Since(s.began)))) }

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
	started := time.Duration(s.inFlight.Load())
	late := started != 0 && time.Since(s.began)-started > stallAfter
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
