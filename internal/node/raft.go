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
	// Entries that are sent to a follower, and handed to the fsm, at once. Raft makes room for so many with each entry that it
	// applies: 4 KiB, a fourteenth of all that a server allocates. A single server has nobody to send to.
	appendEntries       = 512
	appendEntriesSingle = 8
)

// address is where others reach this node. A single server has a name only.
func (n *Node) address() raft.ServerAddress {
	if n.clustered() {
		return raft.ServerAddress(n.transport.Addr())
	}
	return raft.ServerAddress(n.selfID())
}

// Raft's own: the key of the term, and the term that raft.BootstrapCluster writes. Every election begins a later one.
const (
	keyCurrentTerm = "CurrentTerm"
	firstTerm      = 1
)

// hasPast tells whether the store has a log, a snapshot or the term of an election. The first term alone is none: raft.BootstrapCluster
// writes it and then the first entry, the members, and a process that ended in between has no members to elect anybody, and a term
// that would forbid a second beginning. It is taken back.
func (n *Node) hasPast() (bool, error) {
	last, err := n.store.Log().LastIndex()
	if err != nil || last > 0 {
		return true, err
	}
	snapshots, err := n.store.Snapshots().List()
	if err != nil || len(snapshots) > 0 {
		return true, err
	}
	stable := n.store.Stable()
	term, err := stable.GetUint64([]byte(keyCurrentTerm))
	if err != nil || term != firstTerm {
		return term > firstTerm, err
	}
	n.config.Logger.Info("this data directory was left while its first start wrote into it: beginning anew")
	return false, stable.SetUint64([]byte(keyCurrentTerm), 0)
}

// startRaft starts consensus on the opened store. A new store begins a cluster if first says with whom.
func (n *Node) startRaft(first *raft.Configuration) error {
	c := n.raftConfig()
	var transport raft.Transport
	if n.clustered() {
		transport = n.transport.Raft(c.Logger)
	} else {
		_, transport = raft.NewInmemTransport(n.address())
	}
	n.log = newParallelLog(n.store.Log(), n.isFollowed)
	n.fsm.log = n.log
	log := raft.LogStore(n.log)
	if err := dropCovered(log, n.store.Snapshots()); err != nil {
		return fmt.Errorf("drop the log that a snapshot covers: %w", err)
	}
	if !n.volatile() {
		cached, err := raft.NewLogCache(logCacheEntries, log)
		if err != nil {
			return fmt.Errorf("log cache: %w", err)
		}
		log = cached
	}
	if first != nil {
		err := raft.BootstrapCluster(c, log, n.store.Stable(), n.store.Snapshots(), transport, *first)
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("begin the cluster: %w", err)
		}
	}
	guarded := n.guardRaft(transport)
	r, err := raft.NewRaft(c, n.fsm, log, n.store.Stable(), n.store.Snapshots(), guarded)
	if err != nil {
		return errors.Join(fmt.Errorf("start raft: %w", err), guarded.Close())
	}
	n.raft = r
	n.raftRef.Store(r)
	return nil
}

// isFollowed tells whether raft leads, and has others to wait for. What is kept in memory is not waited for.
func (n *Node) isFollowed() bool {
	r := n.raftRef.Load()
	return n.clustered() && !n.volatile() && r != nil && r.State() == raft.Leader
}

// dropCovered finishes the installation of a snapshot whose process ended in between: it is there, and the log, which ends before it,
// has yet to be removed. Raft v1.8.0 would go on behind the snapshot, and the log takes no gap.
func dropCovered(log raft.LogStore, snapshots raft.SnapshotStore) error {
	last, err := log.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	metas, err := snapshots.List() // the newest first
	if err != nil || len(metas) == 0 || metas[0].Index <= last {
		return err
	}
	first, err := log.FirstIndex()
	if err != nil {
		return err
	}
	return log.DeleteRange(first, last)
}

func (n *Node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = n.selfID()
	c.Logger = raftLogger(n.config.Logger, &n.fsm.live)
	election, commit := singleVoterTimeout, raft.DefaultConfig().CommitTimeout
	if n.clustered() {
		timing := n.config.Cluster.Timing
		if timing == (Timing{}) {
			timing = LAN
		}
		election, commit = timing.Election, timing.Commit
	}
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = election, election, election
	c.CommitTimeout = commit
	c.MaxAppendEntries = appendEntriesSingle
	if n.clustered() {
		c.MaxAppendEntries = appendEntries
	}
	c.TrailingLogs = trailingLogs
	if few := n.config.simulation().TrailingLogs; few != 0 {
		c.TrailingLogs = few
	}
	// Snapshots are taken by size of the log, which raft does not know: see takeSnapshots.
	c.SnapshotThreshold = math.MaxUint64
	c.SnapshotInterval = 24 * time.Hour
	c.NoLegacyTelemetry = true
	// A leader that has been removed goes on as a follower that nobody asks, so that whoever waits for an answer of raft gets one;
	// watchMembership ends the node.
	c.ShutdownOnRemove = false
	return c
}
