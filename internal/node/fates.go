package node

import (
	"context"
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

const (
	// Acquires of other nodes' clients that the leader remembers, to tell their node at once how they end. Those beyond learn
	// it from the log.
	maxRemembered = 100_000
	tellTimeout   = time.Second
)

// fates is what a leader knows of the clients that wait with other nodes. Raft brings an entry to the followers, but that it
// is committed they learn with the next one, or Timing.Commit later; a client that waits there for a lock would feel it.
type fates struct {
	mu sync.Mutex // guards all below
	// Attachments that wait, and the names of their nodes.
	parked map[uint64]string
	// What has yet to be sent, by node, and the nodes to which something is being sent.
	outbox map[string][]*command.Fate
	busy   map[string]bool
	wake   chan struct{} // has a value when outbox may be non-empty
}

func newFates() *fates {
	return &fates{
		parked: make(map[uint64]string), outbox: make(map[string][]*command.Fate), busy: make(map[string]bool),
		wake: make(chan struct{}, 1),
	}
}

// expect remembers that the acquire c of a client of that node may come to wait. It is called before c is proposed.
func (f *fates) expect(node string, c *command.Command) {
	a := c.GetAcquire()
	if a.GetWait() == 0 || a.GetAttachment() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.parked) < maxRemembered {
		f.parked[a.GetAttachment()] = node
	}
}

// settled forgets the acquire c again, unless it waits.
func (f *fates) settled(c *command.Command, o *command.WireOutcome) {
	if a := c.GetAcquire(); a.GetWait() != 0 && locktable.Code(o.GetCode()) != locktable.Waiting {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.parked, a.GetAttachment())
	}
}

// clear forgets everything. Another node leads.
func (f *fates) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.parked)
	clear(f.outbox)
}

// note puts what the events of an entry say about clients of other nodes into the outbox.
func (f *fates) note(now locktable.Time, events []locktable.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.parked) == 0 {
		return
	}
	for i := range events {
		e := &events[i]
		if !endsWait(e.Kind) {
			continue
		}
		node, ok := f.parked[e.Attachment]
		if !ok {
			continue
		}
		delete(f.parked, e.Attachment)
		o := outcome(now, e)
		f.outbox[node] = append(f.outbox[node], &command.Fate{Key: e.Key.Reveal(), Attachment: e.Attachment, Outcome: toWire(&o)})
	}
	if len(f.outbox) > 0 {
		f.signal()
	}
}

func (f *fates) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take returns what can be sent now, and marks the nodes that it is for as busy.
func (f *fates) take() map[string][]*command.Fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string][]*command.Fate)
	for node, fates := range f.outbox {
		if !f.busy[node] {
			f.busy[node], out[node] = true, fates
			delete(f.outbox, node)
		}
	}
	return out
}

func (f *fates) sent(node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.busy, node)
	if len(f.outbox[node]) > 0 {
		f.signal()
	}
}

// tellFates sends what there is to tell, one message at a time to each node. What does not arrive is not sent again.
func (n *Node) tellFates() {
	for {
		select {
		case <-n.stop:
			return
		case <-n.fates.wake:
			for node, fates := range n.fates.take() {
				n.done.Go(func() {
					n.tell(node, fates)
					n.fates.sent(node)
				})
			}
		}
	}
}

func (n *Node) tell(node string, fates []*command.Fate) {
	s, ok := n.memberNamed(node)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	r := &command.PeerRequest{Op: &command.PeerRequest_Tell{Tell: &command.Tell{Fates: fates}}}
	if _, err := n.askAt(ctx, string(s.Address), r); err != nil {
		n.config.Logger.Debug("clients of another node learn their fate from the log", "name", node, "error", err)
	}
}

// answerTell wakes the clients of this node whose wait has ended, as the leader says.
func (n *Node) answerTell(t *command.Tell) *command.PeerResponse {
	for _, f := range t.GetFates() {
		if key, ok := locktable.ParseKey(f.GetKey()); ok {
			n.waiters.told(key, f.GetAttachment(), fromWire(f.GetOutcome()))
		}
	}
	return &command.PeerResponse{Op: &command.PeerResponse_Tell{Tell: &command.Told{}}}
}
