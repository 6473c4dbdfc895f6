package node

import "sync"

// askers knows who is inside, so that closing it can wait for them. Raft forgets some of the questions that it has not answered
// when it is shut down, and whoever asked them would wait for ever; so it is shut down when nobody is inside.
type askers struct {
	mu     sync.Mutex // guards closed, and that nobody enters once it is set
	closed bool
	inside sync.WaitGroup
}

// enter returns false when it is closed.
func (g *askers) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside.Add(1)
	return true
}

func (g *askers) leave() { g.inside.Done() }

// close lets nobody in any more and returns when nobody is inside.
func (g *askers) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}

// turn is a lock for what waits for other nodes while it is held. Unlike those of a sync.Mutex, its waiters let the clock of a synctest
// bubble go on.
type turn chan struct{}

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

// TryLock takes the turn if nobody has it.
func (t turn) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}
