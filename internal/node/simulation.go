package node

import (
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// Simulation stands in for what a node takes from its machine, so that a test can run it on disks and clocks of its own
// making, and see what it does. It is for tests only. A field that is nil or 0 leaves things as they are.
type Simulation struct {
	// Open opens the storage, in place of the directory Config.Dir.
	Open func(storage.Options) (*storage.Store, error)
	// Elapsed is how much time has passed since start by the monotonic clock of the node's machine. It must not block.
	Elapsed func(start time.Time) time.Duration
	// Wall is the wall clock of the node's machine. It must not block.
	Wall func() time.Time
	// Applied is called after each applied command entry, also of a replay, one call at a time. table calls its argument with the
	// table as the entry has left it. Applied may block, as if the process stood still.
	Applied func(l *raft.Log, table func(func(*locktable.Table)))
	// SnapshotEntries is the number of entries that bring a snapshot, TrailingLogs what is kept of the log behind it.
	SnapshotEntries int64
	TrailingLogs    uint64
}

// simulation returns the hooks that a test has set, or ones that do nothing.
func (c *Config) simulation() *Simulation {
	if c.Simulation == nil {
		return &Simulation{}
	}
	return c.Simulation
}

// Leads tells whether this node thinks that it leads. It may have been replaced without knowing yet.
func (n *Node) Leads() bool { return n.isLeader() }
