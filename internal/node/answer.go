package node

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// handle answers a request of another node.
func (n *Node) handle(ctx context.Context, from Peer, request []byte) ([]byte, error) {
	r, err := command.DecodeRequest(request)
	if err != nil {
		return nil, err
	}
	res := n.answer(ctx, from, r)
	return proto.Marshal(res)
}

func (n *Node) answer(ctx context.Context, from Peer, r *command.PeerRequest) *command.PeerResponse {
	if h := r.GetHello(); h != nil {
		return &command.PeerResponse{Op: &command.PeerResponse_Hello{Hello: n.greeting()}}
	}
	if from.ClusterID == "" && r.GetJoin() == nil {
		return peerError(command.PeerError_REFUSED, "only a member of the cluster may ask for this")
	}
	if a := r.GetAdopt(); a != nil {
		return n.answerAdopt(ctx, from, a)
	}
	if t := r.GetTell(); t != nil {
		return n.answerTell(t)
	}
	if n.raftRef.Load() == nil || !n.isLeader() {
		return peerError(command.PeerError_NOT_LEADER, "this node does not lead")
	}
	switch op := r.GetOp().(type) {
	case *command.PeerRequest_Forward:
		return n.answerForward(ctx, from, op.Forward)
	case *command.PeerRequest_ReadIndex:
		return n.answerRead()
	case *command.PeerRequest_Join:
		return n.answerJoin(from, op.Join)
	case *command.PeerRequest_Change:
		if err := n.change(op.Change); err != nil {
			return peerRefusal(err)
		}
		return &command.PeerResponse{Op: &command.PeerResponse_Change{Change: &command.Changed{}}}
	}
	return peerError(command.PeerError_REFUSED, "this node does not know the request")
}

func peerError(code command.PeerError_Code, detail string) *command.PeerResponse {
	return &command.PeerResponse{Error: &command.PeerError{Code: code, Detail: detail}}
}

// peerRefusal tells another node why a change of membership was not made.
func peerRefusal(err error) *command.PeerResponse {
	r := (*RefusedError)(nil)
	switch {
	case errors.As(err, &r):
		return peerError(command.PeerError_REFUSED, r.Sentence)
	case errors.Is(err, ErrUnavailable):
		return peerError(command.PeerError_NOT_LEADER, err.Error())
	}
	return peerError(command.PeerError_UNKNOWN, err.Error())
}

// answerForward brings the commands of another node's clients into the log. All its checks are made here again. A command that does not
// get there while this node leads is not passed on to the next leader, as this node's own are: the other node does that itself,
// tells its client what came of it, and a second copy would come after that.
func (n *Node) answerForward(ctx context.Context, from Peer, f *command.Forward) *command.PeerResponse {
	_, term, ok := n.clock.read()
	if !ok {
		return peerError(command.PeerError_NOT_LEADER, "this node does not lead yet")
	}
	n.tally.received.Add(uint64(len(f.GetCommands())))
	waits := make([]*proposal, len(f.GetCommands()))
	out := &command.Forwarded{}
	for i, c := range f.GetCommands() {
		o := &command.WireOutcome{}
		n.fates.expect(from.Name, c)
		p, err := n.enqueueIn(term, c)
		if err != nil {
			o.Failure = toFailure(err)
		}
		waits[i] = p
		out.Outcomes = append(out.Outcomes, o)
	}
	for i, p := range waits {
		if p != nil {
			out.Outcomes[i] = n.awaitForwarded(ctx, p)
		}
		n.fates.settled(f.GetCommands()[i], out.GetOutcomes()[i])
	}
	return &command.PeerResponse{Op: &command.PeerResponse_Forwarded{Forwarded: out}}
}

func (n *Node) awaitForwarded(ctx context.Context, p *proposal) *command.WireOutcome {
	select {
	case <-p.done:
		o, err := n.result(p)
		if err != nil {
			return &command.WireOutcome{Failure: toFailure(err)}
		}
		return toWire(&o)
	case <-ctx.Done():
	case <-n.stall.stalled():
	}
	return &command.WireOutcome{Failure: command.WireOutcome_OUTCOME_UNKNOWN}
}

// answerRead tells a reader how far it has to have applied the log, once it is sure that nobody else leads.
func (n *Node) answerRead() *command.PeerResponse {
	at, err := n.readIndex()
	if err != nil {
		return peerError(command.PeerError_NOT_LEADER, err.Error())
	}
	return &command.PeerResponse{Op: &command.PeerResponse_ReadIndex{ReadIndex: at}}
}

// readIndex is asked of the leader. What it acknowledged before the call is applied here, so the index is known before its
// leadership is confirmed; had another leader acknowledged anything before the call, it would not be. The time is of the same moment: to
// confirm may take long, and by a later time a lease might be over that an entry after the index has renewed.
func (n *Node) readIndex() (*command.ReadIndexAt, error) {
	now, term, ok := n.clock.read()
	if !ok {
		return nil, ErrUnavailable // elected perhaps, but what earlier leaders acknowledged may not be applied yet
	}
	index := n.fsm.applied.Load()
	if err := n.confirm(term); err != nil {
		return nil, err
	}
	if _, still, ok := n.clock.read(); !ok || still != term {
		return nil, ErrUnavailable
	}
	return &command.ReadIndexAt{Index: index, Now: int64(now)}, nil
}

// greeting says who this node is and how it is.
func (n *Node) greeting() *command.Greeting {
	me := n.self()
	g := &command.Greeting{
		ClusterId: n.store.ClusterID(), Name: me.Name, Instance: me.Instance, DiskFull: n.store.Full(),
		LogVersion: n.schema.Version(), Version: n.config.Version, AppliedIndex: n.fsm.applied.Load(),
		Waiting: n.waiting.Load(),
	}
	r := n.raftRef.Load()
	if r == nil {
		return g
	}
	g.Member = r.LastIndex() > 0
	g.Term = r.CurrentTerm()
	_, leader := r.LeaderWithID()
	g.Leader = string(leader)
	if !n.isLeader() {
		g.LastContact = int64(max(1, time.Since(r.LastContact())))
	}
	for _, s := range n.servers() {
		name, instance := splitID(s.ID)
		g.Members = append(g.Members, &command.Member{
			Name: name, Instance: instance, Address: string(s.Address), Voter: s.Suffrage == raft.Voter,
		})
	}
	return g
}

// hello asks the node at addr who it is.
func (n *Node) hello(ctx context.Context, addr string) (*command.Greeting, error) {
	res, err := n.askAt(ctx, addr, &command.PeerRequest{Op: &command.PeerRequest_Hello{Hello: &command.Hello{}}})
	if err != nil {
		return nil, err
	}
	if res.GetHello() == nil {
		return nil, errors.New("the node answered something else")
	}
	return res.GetHello(), nil
}
