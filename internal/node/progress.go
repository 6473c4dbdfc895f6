package node

import "sync"

// progress lets readers wait until the log is applied up to some index.
type progress struct {
	mu    sync.Mutex // guards waits
	waits map[*wait]struct{}
}

type wait struct {
	index uint64
	done  chan struct{}
}

// await returns a channel that is closed when index is reached, and a function to call when it is not needed any more.
func (p *progress) await(index uint64) (reached <-chan struct{}, leave func()) {
	w := &wait{index: index, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waits == nil {
		p.waits = make(map[*wait]struct{})
	}
	p.waits[w] = struct{}{}
	return w.done, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waits, w)
	}
}

// reached wakes those who wait for index or less.
func (p *progress) reached(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.waits {
		if w.index <= index {
			close(w.done)
			delete(p.waits, w)
		}
	}
}
