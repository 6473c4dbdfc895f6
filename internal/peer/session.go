package peer

import (
	"context"
	"time"
)

// session is a connection on which this side calls.
type session struct {
	*wire
	addr string
	kind Kind
	room *gate

	// Guarded by wire.mu:
	calls   map[uint64]*call
	spare   []*call // to be used again; not a sync.Pool, as channels must not leave a synctest bubble
	lastID  uint64
	used    time.Time // when the last call began or ended
	retired bool      // ends when its calls have
}

// call is a request under way. Its channel has room for the one outcome.
type call struct {
	outcome chan outcome
	sent    bool // guarded by wire.mu: the writer has taken it
	dropped bool // guarded by wire.mu: the caller gave up before
}

type outcome struct {
	answer []byte
	err    error
}

func newSession(addr string, c *conn, kind Kind) *session {
	s := &session{
		wire: newWire(c), addr: addr, kind: kind, room: newGate(connCalls, connBytes),
		calls: map[uint64]*call{}, used: time.Now(),
	}
	s.taken = s.takeLocked
	s.beat = s.endIdle
	return s
}

func (s *session) failed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// call returns errRetired when the session ended before anything was queued.
func (s *session) call(ctx context.Context, request []byte) ([]byte, error) {
	if err := s.room.enter(ctx, len(request)); err != nil {
		return nil, unreachable(s.addr, err)
	}
	defer s.room.leave(len(request))
	c, id := s.begin(request)
	if c == nil {
		return nil, errRetired
	}
	var o outcome
	select {
	case o = <-c.outcome:
	case <-ctx.Done():
		if !s.giveUp(id) {
			o = <-c.outcome // it came in the same moment
			break
		}
		if c.sent {
			return nil, broken(s.addr, cause(ctx))
		}
		return nil, unreachable(s.addr, cause(ctx))
	}
	s.reuse(c)
	return o.answer, o.err
}

// begin queues the request. It returns nil when the session has ended.
func (s *session) begin(request []byte) (c *call, id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired || s.err != nil {
		return nil, 0
	}
	if n := len(s.spare); n > 0 {
		c, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		c = &call{outcome: make(chan outcome, 1)}
	}
	s.lastID++
	s.calls[s.lastID] = c
	s.used = time.Now()
	s.sendLocked(frame{kind: frameRequest, id: s.lastID, payload: request, call: c})
	return c, s.lastID
}

func (s *session) reuse(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*c = call{outcome: c.outcome}
	s.spare = append(s.spare, c)
}

// takeLocked is called when the writer takes a frame: from now on the request may arrive.
func (s *session) takeLocked(f *frame) bool {
	if f.call == nil {
		return true
	}
	if f.call.dropped {
		return false
	}
	f.call.sent = true
	return true
}

// giveUp ends the wait for an answer, or returns false when there is one already. The call is not used again: the writer
// may still look at it.
func (s *session) giveUp(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[id]
	if c == nil {
		return false
	}
	delete(s.calls, id)
	if c.sent {
		s.sendLocked(frame{kind: frameCancel, id: id})
	} else {
		c.dropped = true
	}
	return true
}

// read hands answers to those who wait for them, until the session ends.
func (s *session) read() {
	for {
		f, size, err := s.readHead()
		if err == nil && f.kind != frameAnswer && f.kind != frameFailure {
			err = errFrame
		}
		var payload []byte
		if err == nil {
			payload, err = s.readPayload(size)
		}
		if err != nil {
			s.end(err)
			return
		}
		o := outcome{answer: payload}
		if f.kind == frameFailure {
			o = outcome{err: &RemoteError{Text: sentence(string(payload))}}
		}
		s.deliver(f.id, o)
	}
}

// deliver drops answers that nobody waits for any more.
func (s *session) deliver(id uint64, o outcome) {
	s.mu.Lock()
	c := s.calls[id]
	delete(s.calls, id)
	s.mu.Unlock()
	if c != nil {
		c.outcome <- o
	}
}

// end fails the session and all calls that wait on it. The reader does it; it ends as soon as the wire has failed.
func (s *session) end(err error) {
	s.fail(err)
	err = s.failure() // the first reason
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, c := range s.calls {
		delete(s.calls, id)
		if c.sent {
			c.outcome <- outcome{err: broken(s.addr, err)}
		} else {
			c.outcome <- outcome{err: unreachable(s.addr, err)}
		}
	}
}

// retire ends the session when its calls have ended.
func (s *session) retire() {
	s.mu.Lock()
	s.retired = true
	s.mu.Unlock()
}

// endIdle is called each second.
func (s *session) endIdle() {
	s.mu.Lock()
	if len(s.calls) > 0 {
		s.used = time.Now()
	}
	idle := len(s.calls) == 0 && (s.retired || time.Since(s.used) > idleTimeout)
	s.mu.Unlock()
	if idle {
		s.fail(errIdle)
	}
}
