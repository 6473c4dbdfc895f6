package peer

import (
	"sync"
	"sync/atomic"
	"time"
)

// Stats are numbers since the start, except for Open.
type Stats struct {
	Open       int    // connections now, in both directions
	Accepted   uint64 // connections that passed the handshake
	Refused    uint64 // peers that were refused, or that refused us, after they had said who they are
	Strangers  uint64 // connections that did not get so far: no TLS, no certificate, garbage, too slow
	Limited    uint64 // connections that were one too many
	Dialled    uint64 // connections of ours that passed the handshake
	DialFailed uint64 // attempts that did not
	Sent       uint64 // calls sent
	Broken     uint64 // calls sent whose answer never came
	Handled    uint64 // calls answered
}

type counters struct {
	accepted, refused, strangers, limited, dialled, dialFailed, sent, broken, handled atomic.Uint64
}

// Stats returns the numbers for metrics.
func (p *Peer) Stats() Stats {
	p.mu.Lock()
	open := len(p.conns)
	p.mu.Unlock()
	c := &p.stats
	return Stats{
		Open: open, Accepted: c.accepted.Load(), Refused: c.refused.Load(), Strangers: c.strangers.Load(),
		Limited: c.limited.Load(), Dialled: c.dialled.Load(), DialFailed: c.dialFailed.Load(),
		Sent: c.sent.Load(), Broken: c.broken.Load(), Handled: c.handled.Load(),
	}
}

// seldom lets something happen once in logEvery.
type seldom struct {
	mu   sync.Mutex // guards what follows
	last time.Time
	more int
}

// now says whether it may happen, and how often it was denied since the last time.
func (s *seldom) now() (more int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := time.Now()
	if !s.last.IsZero() && t.Sub(s.last) < logEvery {
		s.more++
		return 0, false
	}
	more, s.more, s.last = s.more, 0, t
	return more, true
}
