package client

import (
	"context"
	"errors"
)

// Do acquires a lock as [Client.Lock] does, calls f while it is held, and unlocks it. The context of f ends with ctx, and before anybody
// else can have the lock. If the lease is lost before f has returned, the error is [ErrLost], whatever f returns: what f did at the end was
// not protected, or only by the token.
func (c *Client) Do(ctx context.Context, name string, f func(ctx context.Context, lease *Lease) error, options ...LockOption) error {
	l, err := c.Lock(ctx, name, options...)
	if err != nil {
		return err
	}
	return l.do(ctx, f)
}

func (l *Lease) do(ctx context.Context, f func(context.Context, *Lease) error) (err error) {
	defer func() {
		lost := l.Err()
		// Also when f panics. Whether the release is heard of, is not what the caller asked for.
		_ = l.Unlock(ctx)
		if lost != nil && !errors.Is(lost, ErrReleased) {
			err = errors.Join(err, lost)
		}
	}()
	work, cancel := l.With(ctx)
	defer cancel()
	return f(work, l)
}
