package node

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// Settings of hashicorp/raft. Why they are so is written in docs/adr and was measured.
const (
	logCacheEntries = 512
	trailingLogs    = 1024
	// The only voter elects itself; nobody's heartbeat has to be awaited.
	singleVoterTimeout = 30 * time.Millisecond
)

// startRaft starts consensus on the opened store. A store without a past becomes a cluster of one voter.
func (n *Node) startRaft() error {
	c := n.raftConfig()
	addr, transport := raft.NewInmemTransport(raft.ServerAddress(c.LocalID))
	log := n.store.Log()
	if !n.volatile() {
		cached, err := raft.NewLogCache(logCacheEntries, log)
		if err != nil {
			return fmt.Errorf("log cache: %w", err)
		}
		log = cached
	}
	self := raft.Configuration{Servers: []raft.Server{{ID: c.LocalID, Address: addr}}}
	err := raft.BootstrapCluster(c, log, n.store.Stable(), n.store.Snapshots(), transport, self)
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("begin the cluster: %w", err)
	}
	n.raft, err = raft.NewRaft(c, n.fsm, log, n.store.Stable(), n.store.Snapshots(), transport)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	return nil
}

func (n *Node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.store.NodeID())
	c.Logger = raftLogger(n.config.Logger, &n.fsm.live)
	c.HeartbeatTimeout = singleVoterTimeout
	c.ElectionTimeout = singleVoterTimeout
	c.LeaderLeaseTimeout = singleVoterTimeout
	c.MaxAppendEntries = 512
	c.TrailingLogs = trailingLogs
	// Snapshots are taken by size of the log, which raft does not know: see takeSnapshots.
	c.SnapshotThreshold = math.MaxUint64
	c.SnapshotInterval = 24 * time.Hour
	c.NoLegacyTelemetry = true
	return c
}
