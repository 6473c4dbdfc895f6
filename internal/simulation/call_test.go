package simulation

import (
	"context"
	"errors"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// errNobody: the machine does not serve; nothing was delivered.
var errNobody = errors.New("connection refused")

// answer is what a client gets for a request.
type answer struct {
	out        locktable.Outcome
	err        error
	attachment uint64 // of an acquire whose answer came
	saw        *read  // of a read
}

// certain tells whether the answer says that nothing happened and nothing will (S15).
func (a *answer) certain() bool {
	if a.err == nil || errors.Is(a.err, node.ErrUnknown) {
		return false
	}
	for _, e := range []error{errNobody, node.ErrUnavailable, node.ErrDiskFull, node.ErrOverloaded} {
		if errors.Is(a.err, e) {
			return true
		}
	}
	return false
}

// ask lets a client call a node, as over a connection: the request may be lost, or its answer, and when the process ends
// or the client gives up, nobody knows what came of it.
func (w *world) ask(ctx context.Context, m *machine, call func(context.Context, *node.Node) answer) (answer, *life) {
	l, _ := m.now()
	if l == nil || l.isDead() {
		return answer{err: errNobody}, l
	}
	n := l.running()
	if n == nil {
		return answer{err: errNobody}, l
	}
	lost, mute := w.n(1000) < w.o.lossy, w.n(1000) < w.o.lossy
	got := make(chan answer, 1)
	w.closing.Go(func() {
		if lost || l.thaw(ctx.Done()) != nil {
			return
		}
		a := call(ctx, n)
		if l.thaw(ctx.Done()) != nil {
			return
		}
		if mute {
			w.count.add("answers lost on the way to a client", 1)
			return
		}
		got <- a
	})
	select {
	case a := <-got:
		return a, l
	case <-l.dead:
		w.count.add("connections broken by a crash", 1)
	case <-ctx.Done():
	}
	return answer{err: errLost}, l
}

func (w *world) acquire(ctx context.Context, m *machine, a *command.Acquire, s node.Slice) (answer, *life) {
	return w.ask(ctx, m, func(ctx context.Context, n *node.Node) answer {
		mine := &command.Acquire{
			Name: a.Name, Key: a.Key, Session: a.Session, Ttl: a.Ttl, Wait: a.Wait, Mode: a.Mode, Slots: a.Slots, Owner: a.Owner,
			LockDelay: a.LockDelay, Request: a.Request, Set: a.Set,
		}
		o, err := n.Acquire(ctx, mine, s)
		return answer{out: o, err: err, attachment: mine.GetAttachment()}
	})
}

func (w *world) propose(ctx context.Context, m *machine, c *command.Command) (answer, *life) {
	return w.ask(ctx, m, func(ctx context.Context, n *node.Node) answer {
		o, err := n.Propose(ctx, c)
		return answer{out: o, err: err}
	})
}

// within is a client's patience.
func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
