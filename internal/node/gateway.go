package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

const (
	// How long commands wait for a leader. It covers an election, and is what a client waits for at most when there is no
	// quorum.
	leaderPatience = 4 * time.Second
	// How often a node without a leader looks for one, and a forwarder tries again.
	leaderCheck = 20 * time.Millisecond
)

// forward passes the commands of this node's clients on to the leader, one batch at a time, until this node is elected
// (false) or stops (true).
func (n *Node) forward() (stopped bool) {
	t := time.NewTicker(officeCheck)
	defer t.Stop()
	g := newGatherer(n.queue, false)
	defer g.stop()
	var batch []*proposal
	for n.raft.State() != raft.Leader {
		g.gather()
		if batch = n.queue.take(batch[:0]); len(batch) > 0 {
			sent := time.Now()
			n.forwardBatch(dropVoid(batch, 0))
			g.done(len(batch), sent)
			clear(batch)
			continue
		}
		select {
		case <-n.raft.LeaderCh():
		case <-t.C:
		case <-n.queue.wake:
		case <-n.stop:
			return true
		}
	}
	return false
}

// forwardBatch brings the commands to the leader, whoever that becomes, and answers them. When a request may have been
// received although no answer came, those commands are sent again that have no second effect; the others are answered
// with ErrUnknown.
func (n *Node) forwardBatch(batch []*proposal) {
	if len(batch) == 0 {
		return
	}
	n.stall.start(batch[0].at)
	defer n.stall.end()
	for ; len(batch) > 0; time.Sleep(leaderCheck) {
		var err error
		if batch, err = n.forwardOnce(batch); err == nil {
			return
		}
		if errors.Is(err, ErrUnknown) {
			batch = repeatable(batch, err)
		}
		switch {
		case n.raft.State() == raft.Leader:
			n.queue.putBack(batch) // this node decides now
			return
		case n.isStopping():
			failAll(batch, err)
			return
		}
		batch = n.failImpatient(batch, err)
	}
}

// forwardOnce sends the commands to the present leader and answers them. It returns those that are not answered, and why: if that is no
// ErrUnknown, nothing will come of them there.
func (n *Node) forwardOnce(batch []*proposal) ([]*proposal, error) {
	request := &command.Forward{}
	for _, p := range batch {
		request.Commands = append(request.Commands, p.cmd)
	}
	res, err := n.ask(context.Background(), &command.PeerRequest{Op: &command.PeerRequest_Forward{Forward: request}})
	if err != nil {
		return batch, err
	}
	n.tally.sent.Add(uint64(len(batch)))
	outcomes := res.GetForwarded().GetOutcomes()
	if len(outcomes) != len(batch) {
		return batch, fmt.Errorf("%w: the leader answered something else", ErrUnknown)
	}
	var again []*proposal
	for i, o := range outcomes {
		if o.GetFailure() == command.WireOutcome_UNAVAILABLE { // it lost office before it came to this one
			again, err = append(again, batch[i]), fromFailure(o)
			continue
		}
		batch[i].out = fromWire(o)
		batch[i].finish(fromFailure(o))
	}
	return again, err
}

// repeatable answers the commands of the batch that must not be sent twice, and returns the others, which may have been
// received.
func repeatable(batch []*proposal, err error) []*proposal {
	var rest []*proposal
	for _, p := range batch {
		if isRepeatable(p.cmd) {
			p.unsure = true
			rest = append(rest, p)
		} else {
			p.finish(err)
		}
	}
	return rest
}

// isRepeatable tells whether c may be sent twice and get the same answer. A second Release would find nothing to release and
// say so, unless it has a number.
func isRepeatable(c *command.Command) bool {
	switch op := c.GetOp().(type) {
	case *command.Command_Release:
		return op.Release.GetRequest() != 0
	case *command.Command_HandOver:
		return op.HandOver.GetRequest() != 0
	case *command.Command_EndSession, *command.Command_ForgetTask, *command.Command_SettleTask, *command.Command_Break:
		return false
	}
	return true
}

// failImpatient answers the commands that have waited for a leader for long enough, and returns the others.
func (n *Node) failImpatient(batch []*proposal, err error) []*proposal {
	var rest []*proposal
	for _, p := range batch {
		if n.queue.now()-p.at > leaderPatience {
			p.finish(err)
		} else {
			rest = append(rest, p)
		}
	}
	return rest
}

func failAll(batch []*proposal, err error) {
	for _, p := range batch {
		p.finish(err)
	}
}

// ask sends a request to the leader. The error wraps ErrUnavailable if nothing will come of it, and ErrUnknown otherwise.
func (n *Node) ask(ctx context.Context, r *command.PeerRequest) (*command.PeerResponse, error) {
	if !n.clustered() {
		return nil, ErrUnavailable
	}
	addr := n.leaderAddr()
	if addr == "" {
		return nil, ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, stallAfter)
	defer cancel()
	return n.askAt(ctx, addr, r)
}

func (n *Node) askAt(ctx context.Context, addr string, r *command.PeerRequest) (*command.PeerResponse, error) {
	return n.askBy(ctx, n.transport.Call, addr, r)
}

// askBy sends a request by call.
func (n *Node) askBy(ctx context.Context, call func(context.Context, string, []byte) ([]byte, error), addr string,
	r *command.PeerRequest,
) (*command.PeerResponse, error) {
	data, err := command.EncodeRequest(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	answer, err := call(ctx, addr, data)
	switch {
	case errors.Is(err, ErrNotDelivered), errors.Is(err, ErrRefusedByPeer):
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	var res command.PeerResponse
	if err := proto.Unmarshal(answer, &res); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	switch e := res.GetError(); e.GetCode() {
	case command.PeerError_UNSPECIFIED:
		return &res, nil
	case command.PeerError_NOT_LEADER:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errNotLeader)
	case command.PeerError_REFUSED:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, &RefusedError{e.GetDetail()})
	default:
		return nil, fmt.Errorf("%w: %s", ErrUnknown, e.GetDetail())
	}
}

var errNotLeader = errors.New("the node asked does not lead")

// RefusedError is a refusal of another node that a person should read.
type RefusedError struct{ Sentence string }

func (e *RefusedError) Error() string { return e.Sentence }

// The failures of a command, as they travel between nodes.
var failures = map[command.WireOutcome_Failure]error{
	command.WireOutcome_STOPPING:          ErrStopping,
	command.WireOutcome_UNAVAILABLE:       ErrUnavailable,
	command.WireOutcome_OUTCOME_UNKNOWN:   ErrUnknown,
	command.WireOutcome_DISK_FULL:         ErrDiskFull,
	command.WireOutcome_OVERLOADED:        ErrOverloaded,
	command.WireOutcome_MALFORMED:         ErrMalformed,
	command.WireOutcome_NOT_YET_SUPPORTED: ErrNotYetSupported,
}

func fromFailure(o *command.WireOutcome) error {
	if o.GetFailure() == command.WireOutcome_NONE {
		return nil
	}
	if err, ok := failures[o.GetFailure()]; ok {
		return fmt.Errorf("%w (at the leader)", err)
	}
	return fmt.Errorf("%w: an unknown failure at the leader", ErrUnknown)
}

func toFailure(err error) command.WireOutcome_Failure {
	if errors.Is(err, ErrUnknown) {
		return command.WireOutcome_OUTCOME_UNKNOWN // whatever else it says
	}
	for f, e := range failures {
		if errors.Is(err, e) {
			return f
		}
	}
	return command.WireOutcome_OUTCOME_UNKNOWN
}
