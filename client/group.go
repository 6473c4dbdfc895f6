package client

import "sync"

// group counts goroutines and operations under way. Unlike a sync.WaitGroup, it may grow while somebody waits for its end.
type group struct {
	mu   sync.Mutex // guards n
	n    int
	idle sync.Cond
}

func newGroup() *group {
	g := &group{}
	g.idle.L = &g.mu
	return g
}

func (g *group) add() {
	g.mu.Lock()
	g.n++
	g.mu.Unlock()
}

func (g *group) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 {
		g.idle.Broadcast()
	}
}

func (g *group) goes(f func()) {
	g.add()
	go func() {
		defer g.done()
		f()
	}()
}

// wait returns when nothing is under way.
func (g *group) wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.n > 0 {
		g.idle.Wait()
	}
}
