package main

import (
	"context"
	"errors"
	"io"
	"time"
)

// stream sends r and returns the body of a 2xx answer, however long it takes, as long as something comes: a pause of more
// than the time-out ends it.
func (c *client) stream(ctx context.Context, r request) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stream{client: c, ctx: ctx, cancel: cancel}
	s.pause = time.AfterFunc(c.timeout, func() { cancel(context.DeadlineExceeded) })
	req, err := c.build(ctx, r)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, errors.Join(s.explain(err), s.Close())
	}
	s.body = resp.Body
	if resp.StatusCode/100 == 2 {
		return s, nil
	}
	body, err := io.ReadAll(io.LimitReader(s, maxAnswer))
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	return nil, newProblem(resp, body)
}

// stream is a body that has to keep coming.
type stream struct {
	client *client
	ctx    context.Context //nolint:containedctx // of the request that the body belongs to
	cancel context.CancelCauseFunc
	pause  *time.Timer
	body   io.ReadCloser
}

func (s *stream) Read(p []byte) (int, error) {
	s.pause.Reset(s.client.timeout)
	n, err := s.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = s.explain(err)
	}
	return n, err
}

// explain says why nothing came.
func (s *stream) explain(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		err = cause
	}
	return s.client.unreachable(err)
}

func (s *stream) Close() error {
	s.pause.Stop()
	s.cancel(nil)
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}
