//go:build linux

package torture

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// meddler stands between clients and servers while it is told to: it delays requests and answers, loses answers, and sends
// requests twice: at once, or when everybody has forgotten them, to the same node or another.
type meddler struct {
	clients *clients
	active  atomic.Int32 // how many faults want it
	pending sync.WaitGroup

	delayed, lost, doubled, replayed atomic.Int64
}

var errLost = errors.New("the meddler has lost the answer")

// total is how often it has meddled.
func (m *meddler) total() int64 {
	return m.delayed.Load() + m.lost.Load() + m.doubled.Load() + m.replayed.Load()
}

// pass lets the op through in its own way.
func (m *meddler) pass(ctx context.Context, o *op, send func()) {
	if m.active.Load() == 0 || o.Kind == read {
		send()
		return
	}
	chance := rand.Float64()
	switch {
	case chance < 0.25:
		m.delayed.Add(1)
		pause(ctx, jitter())
		send()
		pause(ctx, jitter())
	case chance < 0.31:
		m.lost.Add(1)
		send()
		*o = op{
			Client: o.Client, Node: o.Node, Kind: o.Kind, Lock: o.Lock, Key: o.Key, Owner: o.Owner, Session: o.Session,
			Number: o.Number, TTL: o.TTL, Wait: o.Wait, Call: o.Call, Err: errLost.Error(),
		}
	case chance < 0.41:
		m.doubled.Add(1)
		m.again(o, 0)
		send()
	case chance < 0.55:
		m.replayed.Add(1)
		m.again(o, time.Duration(rand.Int64N(int64(6*time.Second))))
		send()
	default:
		send()
	}
}

// jitter is 75 ± 50 ms.
func jitter() time.Duration {
	return 25*time.Millisecond + time.Duration(rand.Int64N(int64(100*time.Millisecond)))
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// again sends a copy of o after a while. Half of the copies are not waited for: their connection breaks.
func (m *meddler) again(o *op, after time.Duration) {
	twin := &op{
		Client: "meddler", Node: o.Node, Kind: o.Kind, Lock: o.Lock, Key: o.Key, Owner: o.Owner, Session: o.Session,
		Number: o.Number, TTL: o.TTL, Wait: o.Wait, Replay: true,
	}
	if rand.IntN(2) == 0 {
		twin.Node = m.clients.doors.names[rand.IntN(len(m.clients.doors.names))]
	}
	patience := answerWithin + time.Duration(o.Wait*float64(time.Second))
	if rand.IntN(2) == 0 {
		patience = time.Duration(rand.Int64N(int64(50 * time.Millisecond)))
	}
	m.pending.Go(func() {
		time.Sleep(after) // a late copy
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		twin.Call = m.clients.history.now()
		m.clients.send(ctx, twin)
		twin.Return = m.clients.history.now()
		m.clients.history.add(twin)
	})
}
