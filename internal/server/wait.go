package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// visit says how a request waits, and what becomes of what it got when its client may not have learnt of it.
type visit struct {
	// The client does not know the key yet, so that nothing may be left behind under it when it is not told.
	ownKey bool
	// After so long the client is told how its place stands, and comes back for the rest of its wait; 0: it waits to the end.
	poll time.Duration
}

// slice returns for how long the request waits. Who has chosen its key and says that it comes back keeps what it has, even if its
// connection breaks.
func (v visit) slice() node.Slice { return node.Slice{For: v.poll, Keep: v.poll > 0 && !v.ownKey} }

// acquire has a applied, waiting if it asks for that. Any outcome but Granted comes back as an outcome as well; the
// error is one that can be returned from a handler.
func (s *Server) acquire(c *call, a *command.Acquire, v visit) (locktable.Outcome, error) {
	return s.stand(c, a, v, func(ctx context.Context) (locktable.Outcome, error) { return s.backend.Acquire(ctx, a, v.slice()) })
}

// claimTask is acquire for a claim on a task. Of a claim that did not succeed, the outcome is any code but Granted.
func (s *Server) claimTask(c *call, a *command.ClaimTask, v visit) (locktable.Outcome, error) {
	return s.stand(c, a, v, func(ctx context.Context) (locktable.Outcome, error) { return s.backend.ClaimTask(ctx, a, v.slice()) })
}

// queued is a command that may wait in a queue and whose grant can be taken back.
type queued interface {
	GetKey() string
	GetAttachment() uint64
	GetWait() int64
}

// stand asks the backend for what a is about.
func (s *Server) stand(c *call, a queued, v visit, ask func(context.Context) (locktable.Outcome, error)) (locktable.Outcome, error) {
	// Who does not wait gets an answer so soon that it is tried in any case; deliver sees whether anybody was there.
	ctx := c.lasting()
	var wait *parked
	if a.GetWait() != 0 {
		ctx, wait = park(c.r)
		defer wait.leave()
		// The WriteTimeout counts from the request, and HTTP/2 would reset the stream at it. The ReadTimeout is no danger:
		// it ends with the body.
		_ = http.NewResponseController(c.w).SetWriteDeadline(time.Time{})
		defer s.deadline(c)
	}
	out, err := ask(ctx)
	if err != nil {
		if v.ownKey && mayHaveStayed(err) {
			s.backend.Abandon(a.GetKey(), a.GetAttachment())
		}
		return out, backendError(ctx, err)
	}
	got := out.Code == locktable.Granted || out.Code == locktable.Waiting
	if ctx.Err() != nil || got && wait.gone() {
		// The client is gone. Its place, if it has one, was given up by the backend, unless its slice has just ended.
		if got {
			s.takeBack(a, v)
		}
		return out, errGone
	}
	return out, nil
}

// propose has cmd applied, also if its client has gone meanwhile. The error is one that can be returned from a handler.
func (s *Server) propose(c *call, cmd *command.Command) (locktable.Outcome, error) {
	ctx := c.lasting()
	out, err := s.backend.Propose(ctx, cmd)
	if err != nil {
		return out, backendError(ctx, err)
	}
	return out, nil
}

// mayHaveStayed tells whether a hold or a place may exist although the acquire came back with err.
func mayHaveStayed(err error) bool {
	return errors.Is(err, node.ErrUnknown) || errors.Is(err, node.ErrStopping) || errors.Is(err, node.ErrUnavailable)
}

// deadline gives the answer, or its next piece, its time.
func (s *Server) deadline(c *call) {
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(deliverTimeout))
}

// deliver writes the answer to a grant and hands it to the kernel. If that fails, the grant is taken back, since nobody knows of it.
func (s *Server) deliver(c *call, a queued, v visit, contentType []string, body []byte) {
	if !arrives(c, http.StatusOK, contentType, body) && s.takeBack(a, v) {
		s.undelivered.Inc()
	}
}

// deliverPlace is deliver for an answer about a place, in c.buf.
func (s *Server) deliverPlace(c *call, a queued, v visit, status int) {
	if !arrives(c, status, jsonType, c.buf) {
		s.takeBack(a, v)
	}
}

// takeBack gives up what a got, at once, or when it was given the time to come back for it.
func (s *Server) takeBack(a queued, v visit) (atOnce bool) {
	if v.slice().Keep {
		s.backend.AbandonLater(a.GetKey(), a.GetAttachment())
		return false
	}
	s.backend.Abandon(a.GetKey(), a.GetAttachment())
	return true
}

// arrives writes an answer and tells whether its client may have got it.
func arrives(c *call, status int, contentType []string, body []byte) bool {
	left := hasLeft(c.r) // before: who has its answer may go
	err := c.answer(status, contentType, body)
	if err == nil {
		err = flush(c.w)
	}
	return err == nil && (!left && c.ctx().Err() == nil || !turnedAway(c.r))
}

func flush(w http.ResponseWriter) error {
	if f, ok := w.(interface{ FlushError() error }); ok {
		return f.FlushError()
	}
	if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
