// Package node is one member of a DoubleDutch cluster: it brings commands into the replicated log, applies the log to
// the lock table, keeps cluster time while it leads, and parks the clients that wait.
//
// What is promised: when Propose or Acquire returns an outcome, the command is applied and, unless the node is
// volatile, on disk. When they return an error, the error says whether the command may still take effect (ErrUnknown)
// or not. A client that waits in Acquire gets exactly one answer. All methods may be called from any goroutine.
//
// A single server is the only voter of its cluster. In a larger one, any node takes commands and passes them on to the
// leader, parks the clients that wait with it and wakes them from its own copy of the table, and answers reads after
// asking the leader how far it has to have applied the log.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// Config says how a node runs.
type Config struct {
	// Dir is the data directory. Empty: volatile, everything is kept in memory and gone with the process.
	Dir string
	// Settings are the limits that the cluster shall enforce; they are proposed when they differ from the replicated
	// ones. nil keeps those.
	Settings *command.Settings
	// Logger gets what an operator should know. Default: discard.
	Logger *slog.Logger
	// Observer is told what was applied and committed. Default: nobody.
	Observer Observer
	// Fatal is called when the process must not go on: a write to disk failed or hangs, or a log entry cannot be
	// understood. It should not return. Default: panic.
	Fatal func(error)
	// HangTimeout is how long a write to disk may take before it counts as hanging. 0: the storage's default.
	HangTimeout time.Duration
	// MinFree is the number of free bytes on the disk below which new locks are refused. 0: the storage's default.
	MinFree int64
	// Cluster says how the node belongs to a cluster. nil: it is a single server.
	Cluster *Cluster
	// Version of the program, for people who look at the cluster.
	Version string
	// SnapshotBytes is the size of the log since the last snapshot that brings the next one. 0: 64 MiB.
	SnapshotBytes int64
	// Simulation is for tests that run the node on disks and clocks of their own. nil: the real ones.
	Simulation *Simulation

	// What this server knows of commands. Tests make up other versions.
	schema *command.Schema
}

// Observer is told what happens, to count it. Its methods must not block.
type Observer interface {
	// Applied is called for each applied entry, one at a time, with slices that are valid during the call. Entries that
	// are replayed at the start are not told.
	Applied(cmds []*command.Command, out []locktable.Outcome, events []locktable.Event)
	// Committed is called by the leader when an entry with that many commands (0: a tick) was committed and applied,
	// with the time since it was proposed.
	Committed(commands int, latency time.Duration)
}

type nobody struct{}

func (nobody) Applied([]*command.Command, []locktable.Outcome, []locktable.Event) {}
func (nobody) Committed(int, time.Duration)                                       {}

const (
	defaultSnapshotBytes = 64 << 20
	snapshotCheck        = time.Second
	fullDiskHurry        = 16
	minSnapshotEntries   = 20_000
	maxSnapshotEntries   = 200_000
	// How often a node without office looks whether it has been elected (the signal of hashicorp/raft may get lost).
	officeCheck = 100 * time.Millisecond
)

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = nobody{}
	}
	if c.Fatal == nil {
		c.Fatal = func(err error) { panic(err) }
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = defaultSnapshotBytes
	}
	if c.schema == nil {
		c.schema = command.Current
	}
	return c
}

// Node is a running member.
type Node struct {
	config Config
	schema *command.Schema
	store  *storage.Store
	raft   *raft.Raft
	fsm    *fsm
	// raft again, for those who may ask before it is there.
	raftRef   atomic.Pointer[raft.Raft]
	entered   atomic.Bool // it belongs to a cluster
	transport Transport   // nil: a single server
	clock     clock
	queue     *queue
	waiters   *waiters
	unfetched *unfetched
	fates     *fates
	stall     *stall
	tally     tally

	proposals proposals
	asking    askers                   // those who wait for an answer of raft
	behind    atomic.Pointer[[]string] // why the level is not raised, for people

	waiting    atomic.Bool // for a cluster that adds this node
	adoptions  chan adoption
	confirming rounds
	log        *parallelLog
	membership turn        // held while the members change and while the level is raised
	snapshots  turn        // held while one is taken, and while one of the leader is installed
	backingUp  atomic.Bool // a backup is being read

	attachments atomic.Uint64 // the last one given out
	stopping    chan struct{} // closed: parked clients go
	stop        chan struct{} // closed: the goroutines end
	stopOnce    sync.Once
	closeOnce   sync.Once
	closeErr    error
	done        sync.WaitGroup
}

// Open starts a node and returns when it can serve: it leads or knows a leader, and has applied all that was committed
// before. In a new cluster that takes until the others are there. The error says in one sentence what an operator can do about it, where it
// comes from the data directory or from the other nodes.
func Open(ctx context.Context, c Config) (*Node, error) {
	c = c.withDefaults()
	q := newQueue()
	n := &Node{
		config: c, schema: c.schema, queue: q, waiters: newWaiters(), unfetched: newUnfetched(), fates: newFates(), stall: newStall(q), adoptions: make(chan adoption),
		membership: make(turn, 1), snapshots: make(turn, 1), confirming: rounds{turn: make(turn, 1)},
		stopping: make(chan struct{}), stop: make(chan struct{}),
	}
	n.attachments.Store(rand.Uint64())
	n.fsm = newFSM(c, n.waiters, n.fates, n.stop)
	n.clock.elapsed = c.simulation().Elapsed
	if err := n.openStore(); err != nil {
		return nil, err
	}
	if err := n.start(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// start brings the node from an open store to service.
func (n *Node) start(ctx context.Context) error {
	if err := n.openTransport(); err != nil {
		return err
	}
	past, err := n.hasPast()
	if err != nil {
		return err
	}
	var first *raft.Configuration
	if !past {
		if first, err = n.enter(ctx); err != nil {
			return err
		}
	}
	n.entered.Store(true)
	if err := n.startRaft(first); err != nil {
		return err
	}
	n.done.Go(n.work)
	n.done.Go(n.keepPlaces)
	n.done.Go(func() { n.stall.watch(n.stop) })
	n.done.Go(n.takeSnapshots)
	n.done.Go(n.countElections)
	if n.clustered() {
		n.done.Go(n.watchMembership)
		n.done.Go(n.tellFates)
	}
	if err := n.awaitService(ctx); err != nil {
		return err
	}
	if err := n.configure(ctx); err != nil {
		return err
	}
	if n.clustered() {
		n.tryRaise()
		n.done.Go(n.steward)
		return nil
	}
	return n.raise(ctx)
}

func (n *Node) openTransport() (err error) {
	if n.config.Cluster == nil {
		return nil
	}
	n.transport, err = n.config.Cluster.Listen(Hooks{Self: n.self, Admit: n.admit, Handle: n.handle})
	return err
}

// awaitService returns when a linearizable read succeeds, and then lets the clients and the metrics have the news.
func (n *Node) awaitService(ctx context.Context) error {
	for {
		err := n.Read(ctx, func(*locktable.Table, locktable.Time) {})
		if err == nil {
			n.fsm.live.Store(true)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no leader was found: %w", err)
		case <-time.After(leaderCheck):
		}
	}
}

func (n *Node) openStore() (err error) {
	o := storage.Options{
		Dir: n.config.Dir, Logger: n.config.Logger, Fatal: n.config.Fatal,
		HangTimeout: n.config.HangTimeout, MinFree: n.config.MinFree, Name: n.name(),
	}
	if open := n.config.simulation().Open; open != nil {
		n.store, err = open(o)
		return err
	}
	if n.volatile() {
		n.store = storage.OpenVolatile(o)
		return nil
	}
	n.store, err = storage.Open(o)
	return err
}

// name is the name that is wanted for this node, if any.
func (n *Node) name() string {
	if n.config.Cluster == nil {
		return ""
	}
	return n.config.Cluster.Name
}

func (n *Node) volatile() bool { return n.config.Dir == "" }

// configure proposes the wanted settings if the replicated ones differ. The first entry of a new cluster does it in any
// case, so that the settings never depend on the defaults of the binary that replays the log.
func (n *Node) configure(ctx context.Context) error {
	want := n.config.Settings
	var have *command.Settings
	fresh := false
	n.fsm.view(func(t *locktable.Table) { have, fresh = t.Settings(), t.Now() == 0 && t.Stats().LastToken == 0 })
	if want == nil {
		want = have
	}
	want = proto.CloneOf(want)
	n.schema.Trim(want, n.fsm.level.Load())
	if !fresh && locktable.SameSettings(want, have) {
		return nil
	}
	if !fresh {
		n.config.Logger.Info("the limits of this node's flags replace the ones in force; give all nodes the same", "changed", changed(have, want))
	}
	o, err := n.Propose(ctx, command.FromConfigure(&command.Configure{Settings: want}))
	if err != nil {
		return fmt.Errorf("set the limits: %w", err)
	}
	if o.Code != locktable.Done {
		return fmt.Errorf("set the limits: %s", o.Detail)
	}
	return nil
}

// changed names the limits that differ.
func changed(have, want *command.Settings) string {
	var names []string
	a, b := have.ProtoReflect(), want.ProtoReflect()
	for i := range a.Descriptor().Fields().Len() {
		f := a.Descriptor().Fields().Get(i)
		if !a.Get(f).Equal(b.Get(f)) {
			names = append(names, string(f.Name()))
		}
	}
	return strings.Join(names, ", ")
}

// work proposes while the node is in office, and passes commands on while it is not.
func (n *Node) work() {
	p := &proposer{
		schema: n.schema, raft: n.raft, fsm: n.fsm, clock: &n.clock, queue: n.queue, stall: n.stall, obs: n.config.Observer, parks: n.waiters,
		alone: !n.clustered(),
	}
	p.wall.now = n.config.simulation().Wall
	refused := office{}
	for {
		if n.raft.State() != raft.Leader {
			if n.forward() {
				break
			}
			continue
		}
		if !n.takeOffice() {
			// Leadership is being handed over: until that has ended the node can neither lead nor forward.
			refused.again(n)
			if n.sleep(leaderCheck) {
				break
			}
			continue
		}
		stopped := p.run(n.stop)
		n.clock.leaveOffice()
		n.fates.clear()
		if stopped {
			break
		}
		n.config.Logger.Warn("lost leadership")
	}
	n.queue.fail(ErrStopping)
}

// sleep waits for d, or until the node stops (true).
func (n *Node) sleep(d time.Duration) (stopped bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-n.stop:
		return true
	}
}

// takeOffice waits until everything committed before is applied and starts the clock from there.
func (n *Node) takeOffice() bool {
	term := n.raft.CurrentTerm()
	if err := n.raft.Barrier(0).Error(); err != nil {
		return false
	}
	base := n.fsm.now()
	if n.raft.CurrentTerm() != term || n.raft.State() != raft.Leader {
		return false
	}
	n.clock.takeOffice(term, base)
	if n.clustered() {
		n.config.Logger.Info("this node leads", "term", term)
	}
	return true
}

func (n *Node) isStopping() bool {
	select {
	case <-n.stop:
		return true
	default:
		return false
	}
}

// takeSnapshots lets raft snapshot the table, and cut the log, whenever the log has grown enough. When the disk is
// nearly full, less is enough: a snapshot frees the room that the log takes. (If it finds no room itself, nothing is
// lost.)
func (n *Node) takeSnapshots() {
	t := time.NewTicker(snapshotCheck)
	defer t.Stop()
	for {
		select {
		case <-n.stop:
			return
		case <-t.C:
			if n.wantsSnapshot() {
				n.snapshot()
			}
		}
	}
}

// wantsSnapshot tells whether the log since the last snapshot has grown enough, in bytes or, because each entry takes
// its time at the next start, in entries. The more there is to write, the more entries it takes to be worth it.
func (n *Node) wantsSnapshot() bool {
	var state int
	n.fsm.view(func(t *locktable.Table) {
		s := t.Stats()
		state = s.Holders + s.Waiters + s.Spent
	})
	bytes, entries := n.config.SnapshotBytes, min(minSnapshotEntries+int64(state)/4, maxSnapshotEntries)
	if few := n.config.simulation().SnapshotEntries; few != 0 {
		entries = few
	}
	if n.store.Full() {
		bytes, entries = bytes/fullDiskHurry, entries/fullDiskHurry
	}
	return n.fsm.logBytes.Load() >= bytes || n.fsm.logEntries.Load() >= entries
}

func (n *Node) snapshot() {
	n.snapshots.Lock() // see raftGuard
	defer n.snapshots.Unlock()
	start := time.Now()
	err := n.raft.Snapshot().Error()
	switch {
	case err == nil:
		n.config.Logger.Debug("snapshot taken", "duration", time.Since(start))
	case errors.Is(err, raft.ErrNothingNewToSnapshot), errors.Is(err, raft.ErrRaftShutdown), n.isStopping():
	default:
		n.config.Logger.Error("snapshot failed", "error", err)
	}
}

// StopWaiting sends away all clients that wait, and those that come to wait, with ErrStopping. Their places are kept
// for the grace from now on, so that they still have them when the server is back.
func (n *Node) StopWaiting() {
	n.stopOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		n.pollPlaces(ctx)
		close(n.stopping)
	})
}

// Close finishes what is in flight, and closes the log. It is harmless to call it again.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.StopWaiting()
		n.handOver()
		n.queue.close()
		close(n.stop)
		n.done.Wait()
		n.asking.close()
		var errs []error
		if n.raft != nil {
			errs = append(errs, n.raft.Shutdown().Error())
			_ = n.log.settle() // the store tells of its failures itself
		}
		if n.transport != nil {
			errs = append(errs, n.transport.Close())
		}
		n.closeErr = errors.Join(append(errs, n.store.Close())...)
	})
	return n.closeErr
}

// handOver lets another member lead before this one goes, so that nobody has to miss it first.
func (n *Node) handOver() {
	if !n.clustered() || !n.isLeader() {
		return
	}
	if err := n.raft.LeadershipTransfer().Error(); err != nil {
		n.config.Logger.Info("leadership was not handed over", "error", err)
	}
}
