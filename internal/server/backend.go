package server

import (
	"context"
	"io"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// Backend is what the handlers need of a member of the cluster; *node.Node is one. Its methods are called from many
// goroutines at once.
type Backend interface {
	// ClusterStats does not block.
	ClusterStats() node.ClusterStats
	// Propose has c applied and returns what came of it. Errors wrap the sentinels of package node, or are ctx.Err().
	Propose(ctx context.Context, c *command.Command) (locktable.Outcome, error)
	// Acquire is Propose for an acquire, except that it waits in the queue, if a asks for that, and as long as sl says. If ctx
	// ends first, the place or the grant is given up, unless sl keeps it, and ctx.Err() returned. It sets a.Attachment.
	Acquire(ctx context.Context, a *command.Acquire, sl node.Slice) (locktable.Outcome, error)
	// ClaimTask is Acquire for a claim on a task.
	ClaimTask(ctx context.Context, a *command.ClaimTask, sl node.Slice) (locktable.Outcome, error)
	// Abandon takes back a grant whose answer could not be delivered. It does not wait.
	Abandon(key string, attachment uint64)
	// AbandonLater is Abandon, unless the client comes back with its key within the grace.
	AbandonLater(key string, attachment uint64)
	// Read calls f with the table and the present cluster time. f must be brief and keep no reference to the table.
	Read(ctx context.Context, f func(t *locktable.Table, now locktable.Time)) error
	// ReadStale calls f with the table as this node has it, the index of the newest entry in it, and how long ago, at most,
	// this node heard from the leader. A node that has no table yet does not call f. It waits for nobody; f must be brief and keep no reference to the table.
	ReadStale(f func(t *locktable.Table, index uint64, age time.Duration))
	// Events reads what happens, from after on, or from now on. want must be fast.
	Events(ctx context.Context, after *node.EventID, want func(*locktable.Event) bool) (*node.Events, error)
	// Members asks all members how they are; it takes a second at most. nil: the node is not a member yet.
	Members(ctx context.Context) []node.MemberStatus
	// SetCalendar brings the leader's wall clock into the calendar, with force also backwards.
	SetCalendar(ctx context.Context, force bool) (locktable.Outcome, error)
	// Add, Remove, Promote and Transfer change the cluster. A *node.RefusedError says in a sentence for people why not.
	Add(name, addr string) error
	Remove(name string) error
	Promote(name string) error
	Transfer(name string) error
	// Backup begins a backup of everything that was acknowledged before, made while it is read; it must be closed. version is
	// that of this program.
	Backup(ctx context.Context, version string) (io.ReadCloser, error)
	// Status does not block.
	Status() node.Status
	// StopWaiting ends all waiting, now and from now on, with node.ErrStopping.
	StopWaiting()
}
