package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Cluster says how a node belongs to a cluster of several.
type Cluster struct {
	// Name of this node in the cluster: 1 to 64 characters of a-z, A-Z, 0-9, - and _. Once the data directory knows a name,
	// it may be empty and must not be another.
	Name string
	// Listen opens the channel to the other nodes. The node calls it once, with what the channel needs of the node.
	Listen func(Hooks) (Transport, error)
	// Members of a cluster that is about to begin, names with addresses, this node among them; the same on every node. It is
	// ignored once the node has a log.
	Members map[string]string
	// Join is the address of any member of a running cluster that this node shall join. It is ignored once the node has a log.
	Join string
	// Await has the node wait until a member of a running cluster adds it. It is ignored once the node has a log.
	Await bool
	// Timing fits the distance between the nodes. The zero value is LAN.
	Timing Timing
}

// Timing is how long nodes wait for each other.
type Timing struct {
	// Election is how long a follower waits for its leader before it stands for election (and up to twice as long); also how
	// long a leader without a majority stays in office.
	Election time.Duration
	// Commit is how soon an idle leader tells followers what has been committed.
	Commit time.Duration
}

// Presets. LAN fails over in about a second and bears stalls of some hundred milliseconds; WAN is for round trips of up to 200 ms.
var (
	LAN = Timing{Election: 400 * time.Millisecond, Commit: 10 * time.Millisecond}
	WAN = Timing{Election: 2 * time.Second, Commit: 50 * time.Millisecond}
)

// Peer is who a node is, as it tells the others.
type Peer struct {
	// ClusterID is empty as long as the node belongs to no cluster.
	ClusterID string
	Name      string
	// Instance tells data directories apart: a node whose disk was lost comes back with another one.
	Instance string
}

// Hooks is what the channel between nodes asks of its node.
type Hooks struct {
	// Self is who this node is, at the moment.
	Self func() Peer
	// Admit says whether another node may speak to this one. Its error is told to that node.
	Admit func(from Peer, joining bool) error
	// Handle answers a request.
	Handle func(ctx context.Context, from Peer, request []byte) ([]byte, error)
}

// Transport is the channel to the other nodes.
type Transport interface {
	// Raft returns the transport of Raft's own messages.
	Raft(logger hclog.Logger) raft.Transport
	// Call sends a request to the node at addr and returns its answer. The error wraps ErrNotDelivered or ErrRefusedByPeer
	// if the request certainly was not received.
	Call(ctx context.Context, addr string, request []byte) ([]byte, error)
	// Recheck asks Admit again for all who are connected.
	Recheck()
	// Addr is where others reach this node.
	Addr() string
	Close() error
}

// Errors of the channel between nodes.
var (
	// ErrNotDelivered: the other node has not received the request.
	ErrNotDelivered = errors.New("not delivered")
	// ErrRefusedByPeer: the other node does not speak to this one; the message says why.
	ErrRefusedByPeer = errors.New("refused by the other node")
	// ErrRemoved: this node was removed from its cluster.
	ErrRemoved = errors.New("this node was removed from its cluster")
)

// CheckName returns what is wrong with a node's name, or nil.
func CheckName(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("the name of a node has 1 to 64 characters")
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("the name of a node consists of letters, digits, - and _, not %q", c)
		}
	}
	return nil
}

// CheckAddress returns what is wrong with the address of a node, or nil: it is HOST:PORT and nothing else, and not one that no
// node can have (H16). What a host name leads to is checked when it is dialled.
func CheckAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || portErr != nil || n == 0 || strings.ContainsAny(host, "/@?#% ") {
		return fmt.Errorf("%q is not the address of a node; write for example host1:7334", addr)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip = ip.Unmap(); ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
			return fmt.Errorf("a node cannot have the address %s", addr)
		}
	}
	return nil
}

// A server id of Raft is the node's name and the beginning of its instance. So a node whose disk was lost is another
// server, even under its old name, and cannot vote for the one that it was.
const instanceInID = 8

func serverID(name, instance string) raft.ServerID {
	return raft.ServerID(name + "." + instance[:min(instanceInID, len(instance))])
}

// nameOf returns the name in a server id.
func nameOf(id raft.ServerID) string {
	name, _, _ := strings.Cut(string(id), ".")
	return name
}

// clustered tells whether the node has a channel to others.
func (n *Node) clustered() bool { return n.transport != nil }

// self is who this node is.
func (n *Node) self() Peer {
	p := Peer{Name: n.store.Name(), Instance: n.store.NodeID()}
	if n.entered.Load() {
		p.ClusterID = n.store.ClusterID()
	}
	return p
}

func (n *Node) selfID() raft.ServerID { return serverID(n.store.Name(), n.store.NodeID()) }

// admit decides who may speak to this node. Only nodes of the same cluster do, and those that want to join; a name that is known
// with another data directory is not admitted (T22).
func (n *Node) admit(from Peer, joining bool) error {
	if joining {
		return nil
	}
	if own := n.store.ClusterID(); from.ClusterID != own {
		return fmt.Errorf("node %s belongs to cluster %.8s, this is cluster %.8s", from.Name, from.ClusterID, own)
	}
	servers := n.servers()
	for _, s := range servers {
		switch {
		case s.ID == serverID(from.Name, from.Instance):
			return nil
		case nameOf(s.ID) == from.Name:
			return fmt.Errorf("node %s is known with other data: it has lost its disk or was started anew; "+
				"remove it (doubledutch cluster remove %s), then let it join with an empty data directory", from.Name, from.Name)
		}
	}
	if n.isLeader() && len(servers) > 0 {
		return fmt.Errorf("node %s is not a member of this cluster: %s", from.Name, removedSentence)
	}
	return nil
}

const removedSentence = "it was removed, or never joined"

// servers returns the members in Raft's newest configuration, which may not be committed yet.
func (n *Node) servers() []raft.Server {
	r := n.raftRef.Load()
	if r == nil {
		return nil
	}
	f := r.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

func (n *Node) isLeader() bool {
	_, _, ok := n.clock.read()
	return ok
}

// leaderAddr returns where the leader is, or "" if none is known.
func (n *Node) leaderAddr() string {
	r := n.raftRef.Load()
	if r == nil {
		return ""
	}
	addr, _ := r.LeaderWithID()
	return string(addr)
}
