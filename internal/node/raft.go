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

// hasPast tells whether the store has a log, a snapshot or a term. A beginning that did not come to its end is none.
func (n *Node) hasPast() (bool, error) {
	log, stable := n.store.Log(), n.store.Stable()
	past, err := raft.HasExistingState(log, stable, n.store.Snapshots())
	if err != nil || !past {
		return past, err
	}
	unfinished, err := isUnfinished(log, stable, n.store.Snapshots())
	if err != nil || !unfinished {
		return true, err
	}
	n.config.Logger.Info("this data directory was left while its first start wrote into it: beginning anew")
	return false, stable.SetUint64([]byte(keyCurrentTerm), 0)
}

const (
	keyCurrentTerm = "CurrentTerm" // raft's own
	firstTerm      = 1
)

// isUnfinished tells that the process ended within raft.BootstrapCluster, which writes the first term and then the first entry, the
// members. Without members nothing would ever be elected, and the term would forbid a second beginning. Nobody else has the first
// term and no entry: every election begins a later one.
func isUnfinished(log raft.LogStore, stable raft.StableStore, snapshots raft.SnapshotStore) (bool, error) {
	term, err := stable.GetUint64([]byte(keyCurrentTerm))
	if err != nil || term != firstTerm { // err: there is no term. One that cannot be read stopped HasExistingState.
		return false, nil
	}
	last, err := log.LastIndex()
	if err != nil || last > 0 {
		return false, err
	}
	metas, err := snapshots.List()
	return len(metas) == 0, err
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
	log := n.store.Log()
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
