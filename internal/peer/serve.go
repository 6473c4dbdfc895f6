package peer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// served is a connection on which the other side calls.
type served struct {
	*wire
	p    *Peer
	room *gate // of this connection
	ctx  context.Context
	wg   sync.WaitGroup // the calls being handled

	cancels map[uint64]context.CancelFunc // guarded by wire.mu; the calls being handled
}

var errGone = errors.New("the caller's connection has ended")

// serve answers calls until the connection ends.
func (p *Peer) serve(c *conn) {
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	s := &served{
		wire: newWire(c), p: p, room: newGate(connCalls, connBytes), ctx: ctx,
		cancels: map[uint64]context.CancelFunc{},
	}
	s.wrote = s.giveBack
	s.beat = func() {}
	s.wg.Go(func() {
		s.write()
		cancel(errGone) // wakes a reader that waits for room
	})
	s.fail(s.read())
	s.wg.Wait()
	p.log.Debug("a call connection has ended", "from", c.remote.Name, "reason", s.failure())
}

func (s *served) read() error {
	for {
		f, size, err := s.readHead()
		if err != nil {
			return err
		}
		switch f.kind {
		case frameRequest:
			err = s.request(f.id, size)
		case frameCancel:
			s.cancelCall(f.id)
		default:
			err = errFrame
		}
		if err != nil {
			return err
		}
	}
}

// request waits for room, reads the request and has it handled. While it waits nothing is read.
func (s *served) request(id uint64, size int) error {
	if err := s.room.enter(s.ctx, size); err != nil {
		return err
	}
	if err := s.p.busy.enter(s.ctx, size); err != nil {
		s.room.leave(size)
		return err
	}
	f := frame{kind: frameAnswer, id: id, room: size, gated: true}
	payload, err := s.readPayload(size)
	if err != nil {
		s.giveBack(&f)
		return err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.mu.Lock()
	_, known := s.cancels[id]
	s.cancels[id] = cancel
	s.mu.Unlock()
	if known {
		s.giveBack(&f)
		cancel()
		return fmt.Errorf("%w: the id of a call twice", errFrame)
	}
	s.wg.Go(func() { s.handle(ctx, f, payload) })
	return nil
}

func (s *served) handle(ctx context.Context, f frame, request []byte) {
	answer, err := s.ask(ctx, request)
	if err == nil && len(answer) > MaxPayload {
		err = fmt.Errorf("the answer has %d bytes, and %d is the most", len(answer), MaxPayload)
	}
	f.payload = answer
	if err != nil {
		text := err.Error()
		f.kind, f.payload = frameFailure, []byte(text[:min(len(text), maxErrorText)])
	}
	s.p.stats.handled.Add(1)
	s.mu.Lock()
	cancel := s.cancels[f.id]
	delete(s.cancels, f.id)
	// An error that the end of the connection caused is no answer: the caller shall see a broken connection.
	ok := (err == nil || s.ctx.Err() == nil) && s.sendLocked(f)
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if !ok {
		s.giveBack(&f)
	}
}

// ask calls Handle. A request that makes it panic must not end node after node.
func (s *served) ask(ctx context.Context, request []byte) (answer []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.p.log.Error("handling a call failed badly", "from", s.c.remote.Name, "stack", string(debug.Stack()))
			answer, err = nil, errors.New("internal error while handling the call")
		}
	}()
	return s.p.config.Handle(ctx, s.c.remote, request)
}

func (s *served) cancelCall(id uint64) {
	s.mu.Lock()
	cancel := s.cancels[id]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// giveBack returns the room of a call when its answer has left.
func (s *served) giveBack(f *frame) {
	if f.gated {
		s.p.busy.leave(f.room)
		s.room.leave(f.room)
	}
}
