package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Lease is a lock, or a set of locks, that is held. It renews itself until Unlock, or until it is lost. Its methods are safe for
// use by many goroutines.
type Lease struct {
	client  *Client
	names   []string
	key     string
	token   uint64
	waited  time.Duration
	session *Session // nil: it has a lifetime of its own
	keeper  *keeper  // its own, or for one of a session, one that follows the session's

	release sync.Once // starts giving it back
	freed   chan struct{}
	outcome error // of giving it back; may be read when freed is closed
}

// Ask is what somebody who wants the lock asks of its holder: finish what you can, and unlock. It is a request and no order.
type Ask struct {
	Owner, Reason string
	Since         time.Time     // by the cluster's calendar
	Within        time.Duration // how much time is given, from Since on
	DueIn         time.Duration // what was left of that when the server told it
}

// Name is the name of the lock; of a set, the first.
func (l *Lease) Name() string { return l.names[0] }

// Names are the names of all locks of the lease. The caller must not change them.
func (l *Lease) Names() []string { return l.names }

// Token is the fencing token: greater than that of every grant before, over all locks. Give it to whatever the lock protects, and
// let that refuse tokens older than the newest it has seen. It is no secret.
func (l *Lease) Token() uint64 { return l.token }

// Key is the secret that the lock is held by: whoever has it can renew and release.
func (l *Lease) Key() string { return l.key }

// Waited is how long the server had the acquire in the queue.
func (l *Lease) Waited() time.Duration { return l.waited }

// Context ends before anybody else can have the lock: when the lease is lost, with a cause that is [ErrLost]; also when it is
// unlocked, with the cause [ErrReleased]. Do the work that the lock protects under it. It has the values of the context that
// Lock was called with, but not its end, which bounds the acquiring; see [Lease.With].
func (l *Lease) Context() context.Context { return l.keeper.ctx }

// With returns a context that ends with ctx and also when the lease does. Call cancel when it is not needed any more.
func (l *Lease) With(ctx context.Context) (_ context.Context, cancel context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.keeper.ctx, func() { end(context.Cause(l.keeper.ctx)) })
	return ctx, func() { stop(); end(nil) }
}

// Deadline is until when the lease can be relied on, as of now, if no further renewal succeeds: the moment that the last
// acknowledged request was sent, plus the lifetime that it brought, less 1 % and the margin. It has a reading of Go's monotonic
// clock; compare it with time.Now, and not with other clocks.
func (l *Lease) Deadline() time.Time { return time.Now().Add(l.Remaining()) }

// Remaining is the time until Deadline, and 0 once the lease is over. It looks at the clock itself, and so is right also when
// the program or the machine has just been stopped for a while.
func (l *Lease) Remaining() time.Duration { return l.keeper.remaining() }

// Lost is closed when the lease must not be relied on any more, although it was not unlocked.
func (l *Lease) Lost() <-chan struct{} { return l.keeper.lost }

// Err is nil as long as the lease can be relied on, by the clock at this moment. Afterwards it says why not: [ErrLost] (with the
// *Problem, if a server told so: by whom it was broken, and why), [ErrReleased], or [ErrClosed].
func (l *Lease) Err() error {
	if err := l.keeper.believed(); err != nil {
		return wrap(l.String(), err)
	}
	return nil
}

// Asked gets what others ask of the holder. The newest is kept until it is read.
func (l *Lease) Asked() <-chan Ask { return l.keeper.asked }

// String names the lease, without its key.
func (l *Lease) String() string {
	return "lock " + quoteNames(l.names) + ", token " + strconv.FormatUint(l.token, 10)
}

// GoString is String: the key is not to be printed by accident.
func (l *Lease) GoString() string { return l.String() }

func quoteNames(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return strings.Join(quoted, ", ")
}

// Unlock gives the lock back, and ends the renewals. It returns
//
//   - nil: the server has released it, or it had been released by an earlier Unlock;
//   - an error that is [ErrLost]: the lease was lost before. It is released all the same, in case that it is still held;
//   - an error that is [ErrUnknown]: no server has acknowledged it. At the latest the lock falls free when its ttl has passed.
//
// The lock is given back also if ctx has ended already, as it often has in a deferred call: ctx bounds how long Unlock waits to
// hear that it has happened. In the background it is tried for five seconds. More calls wait for the same outcome.
func (l *Lease) Unlock(ctx context.Context) error {
	l.release.Do(l.giveBack)
	select {
	case <-l.freed:
		return wrap("unlock "+quoteNames(l.names), l.outcome)
	default:
	}
	select {
	case <-l.freed:
		return wrap("unlock "+quoteNames(l.names), l.outcome)
	case <-ctx.Done():
		return wrap("unlock "+quoteNames(l.names), both(ErrUnknown, endOf(ctx)))
	}
}

// giveBack ends the lease and releases it in the background.
func (l *Lease) giveBack() {
	before := l.keeper.believed()
	if before == nil && !l.keeper.finish(ErrReleased) {
		before = l.keeper.believed() // lost in this very moment
	}
	if errors.Is(before, ErrReleased) { // with its session
		close(l.freed)
		return
	}
	started := l.client.later(func(ctx context.Context) {
		defer close(l.freed)
		<-l.keeper.done // no renewal is under way
		res := l.client.free(ctx, l.freeRequest())
		for l.session != nil && res.usedUp() { // the number in its session, which is no statement about the lock
			l.session.skip()
			res = l.client.free(ctx, l.freeRequest())
		}
		l.outcome = givenBack(before, res)
	})
	if !started {
		l.outcome = ErrClosed
		close(l.freed)
	}
}

// freeRequest releases the hold or gives up the place of the key.
func (l *Lease) freeRequest() *request {
	r := freeRequest(l.names[0], l.key)
	if l.session != nil {
		l.session.number(r)
		r.header["Lock-Session"] = l.session.id
	}
	return r
}

func freeRequest(name, key string) *request {
	return &request{method: http.MethodDelete, path: lockPath(name), header: map[string]string{"Lock-Key": key}}
}

// free asks to release something until ctx ends.
func (c *Client) free(ctx context.Context, r *request) result {
	r.patience, r.until = -1, c.clock.now().add(giveBackFor)
	return c.do(ctx, r, nil)
}

// HandOver gives the lock to the first waiter of the given owner, before all others in the queue, and ends the lease like Unlock.
// If nobody of that owner waits who could hold it, the error is [ErrNoSuccessor] and the lease goes on. It does not go with leases
// of a session.
//
// What the lock protects must have come to rest before: since the lease may go on, its context ends only when it is known that the
// lock has gone over, and the successor may be at work by then. If that remains unknown ([ErrUnknown]), the lease is renewed at once,
// and is lost if that shows that it has.
func (l *Lease) HandOver(ctx context.Context, to string) error {
	err := l.handOver(ctx, to)
	return wrap(fmt.Sprintf("hand %s over to %q", quoteNames(l.names), to), err)
}

func (l *Lease) handOver(ctx context.Context, to string) error {
	if err := l.keeper.believed(); err != nil {
		return err
	}
	ctx, end, err := l.client.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	res := l.client.do(ctx, &request{
		method: http.MethodPost, path: lockPath(l.names[0]) + "/handover",
		body: toJSON(map[string]string{"key": l.key, "to": to}), patience: l.client.config.patience,
	}, nil)
	if res.answer != nil || res.problem != nil && res.err == nil && res.unsure && errors.Is(res.problem, ErrLost) {
		l.release.Do(func() {
			l.keeper.finish(ErrReleased)
			close(l.freed)
		})
		return nil
	}
	if res.unsure {
		l.keeper.wake()
	}
	return res.fault()
}
