package peer

import (
	"context"
	"sync"
)

// gate bounds how many calls, and how many bytes of them, are under way. Who has to wait is let in in order.
type gate struct {
	mu      sync.Mutex // guards what follows
	calls   int        // free
	bytes   int        // free
	waiting []*entrant
}

type entrant struct {
	bytes int
	in    chan struct{} // closed when let in
}

func newGate(calls, bytes int) *gate { return &gate{calls: calls, bytes: bytes} }

// enter waits until there is room for a call of n bytes, n being less than all there are, or until ctx ends.
func (g *gate) enter(ctx context.Context, n int) error {
	g.mu.Lock()
	if len(g.waiting) == 0 && g.fitsLocked(n) {
		g.takeLocked(n)
		g.mu.Unlock()
		return nil
	}
	e := &entrant{bytes: n, in: make(chan struct{})}
	g.waiting = append(g.waiting, e)
	g.mu.Unlock()
	select {
	case <-e.in:
		return nil
	case <-ctx.Done():
		g.giveUp(e)
		return cause(ctx)
	}
}

// leave gives back what enter took.
func (g *gate) leave(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	g.bytes += n
	g.admitLocked()
}

func (g *gate) fitsLocked(n int) bool { return g.calls > 0 && g.bytes >= n }

func (g *gate) takeLocked(n int) {
	g.calls--
	g.bytes -= n
}

func (g *gate) admitLocked() {
	for len(g.waiting) > 0 && g.fitsLocked(g.waiting[0].bytes) {
		e := g.waiting[0]
		g.waiting[0] = nil
		g.waiting = g.waiting[1:]
		g.takeLocked(e.bytes)
		close(e.in)
	}
}

// giveUp takes e out of the line, or gives back what it got in the same moment.
func (g *gate) giveUp(e *entrant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.waiting {
		if w == e {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			g.admitLocked() // those behind may be smaller
			return
		}
	}
	g.calls++
	g.bytes += e.bytes
	g.admitLocked()
}
