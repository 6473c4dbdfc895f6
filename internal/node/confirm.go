package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// How long the others may take to say that they know of no newer leader.
const confirmTimeout = time.Second

// rounds lets those who come while a question is under way share the next one.
type rounds struct {
	turn turn // held by the one that asks

	mu   sync.Mutex // guards next
	next *round     // the one that has not begun; nil: nobody waits
}

type round struct {
	done chan struct{} // closed once err is set
	err  error
}

// share returns what came of an execution of ask that began after the call.
func (r *rounds) share(ask func() error) error {
	r.mu.Lock()
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
	}
	mine := r.next
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case r.turn <- struct{}{}:
	}
	defer r.turn.Unlock()
	select {
	case <-mine.done:
		return mine.err
	default:
	}
	r.mu.Lock()
	r.next = nil // whoever comes from now on is not served by this one
	r.mu.Unlock()
	mine.err = ask()
	close(mine.done)
	return mine.err
}

// confirm makes sure that at a moment after the call a majority knew no newer term than this node's own, so that no other leader can have
// acknowledged anything before the call. Raft's VerifyLeader does not: it also counts an answer to a heartbeat that was sent before,
// and a leader whose process was stopped in between believes it.
func (n *Node) confirm(term uint64) error {
	return n.confirming.share(func() error {
		if n.raft.CurrentTerm() != term {
			return fmt.Errorf("%w: the term is over", ErrUnavailable)
		}
		return n.askTerms(term)
	})
}

func (n *Node) askTerms(term uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), confirmTimeout)
	defer cancel()
	voters, asked := 0, 0
	answers := make(chan bool, len(n.servers()))
	for _, s := range n.servers() {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if s.ID == n.selfID() {
			continue
		}
		asked++
		go func() {
			g, err := n.hello(ctx, string(s.Address))
			answers <- err == nil && g.GetTerm() != 0 && g.GetTerm() <= term && serverID(g.GetName(), g.GetInstance()) == s.ID
		}()
	}
	missing := voters / 2 // beside this node
	for range asked {
		if missing == 0 {
			break
		}
		if <-answers {
			missing--
		}
	}
	if missing > 0 {
		return fmt.Errorf("%w: a majority does not confirm that this node leads", ErrUnavailable)
	}
	return nil
}
