package node

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// Bounds of the proposer.
const (
	// Commands may wait for the log in this number. Beyond it new acquires are refused, so that what waits can still be
	// answered in time; twice as much may wait of what frees locks.
	maxPending = 1 << 16
	// Commands of clients in one entry: measured, fewer and more are slower.
	maxBatch = 512
	// Polls, of a thousand keys each, that an entry carries after a pause.
	maxRescue = 128
	// An entry is filled up to this many bytes (one command more may go beyond it). Entries up to this size fit into
	// what the storage has prepared on disk, also when the disk is full.
	maxBatchBytes = 256 << 10
	// After a gap of this length between two entries, be it that the log stalled or the process was paused, the waiters
	// of this node are polled in the next entry, before their grace can fire in it.
	pollGap = 3 * time.Second
	// While anything can expire, an idle leader moves the clock at least this often, so that the time that a failover
	// may add to a lease stays below it.
	maxTick = time.Second
)

// proposal is a command on its way through the log.
type proposal struct {
	cmd  *command.Command
	at   time.Duration // when it was put into the queue, on the queue's clock
	term uint64        // if not 0, the command is void in every other term
	out  locktable.Outcome
	err  error
	// A leader may have received it, although no answer came: whatever comes of sending it again, it may be done.
	unsure bool
	done   chan struct{} // gets one value when out or err is set
	// Who proposed it does not wait for the outcome; it is tried again until then. Zero: it is tried once.
	until time.Time
	queue *queue // where it is put then
}

func (p *proposal) finish(err error) {
	if p.tryAgain(err) {
		return
	}
	if p.unsure && err != nil && !errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	p.err = err
	p.done <- struct{}{}
}

// tryAgain puts p into the queue again if it failed for want of a leader and there is time left.
func (p *proposal) tryAgain(err error) bool {
	if p.until.IsZero() || !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrUnknown) {
		return false
	}
	return time.Now().Before(p.until) && p.queue.put(p, math.MaxInt) == nil
}

// proposals are used again and again. Each node has its own, since a channel must not leave its synctest bubble.
type proposals struct{ pool sync.Pool }

func (ps *proposals) get(c *command.Command) *proposal {
	p, ok := ps.pool.Get().(*proposal)
	if !ok {
		p = &proposal{done: make(chan struct{}, 1)}
	}
	p.cmd = c
	return p
}

// put takes p back, once its owner has received from done.
func (ps *proposals) put(p *proposal) {
	p.cmd, p.term, p.err, p.unsure, p.out = nil, 0, nil, false, locktable.Outcome{}
	ps.pool.Put(p)
}

// queue holds the commands that wait for the next entry.
type queue struct {
	wake  chan struct{} // has a value when pending may be non-empty, or as long as awaited
	began time.Time     // carries the monotonic reading

	mu      sync.Mutex // guards all below
	pending []*proposal
	awaited int // by await
	closed  bool
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1), began: time.Now()} }

// now reads the queue's clock, which is never 0.
func (q *queue) now() time.Duration { return max(1, time.Since(q.began)) }

// oldest returns when the command was put that waits longest; 0: none waits.
func (q *queue) oldest() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == 0 {
		return 0
	}
	return q.pending[0].at
}

// put appends p, unless the queue is closed or too long.
func (q *queue) put(p *proposal, most int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrStopping
	case len(q.pending) >= most:
		return ErrOverloaded
	}
	p.at = q.now()
	q.pending = append(q.pending, p)
	if n := len(q.pending); n == 1 || n == q.awaited {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// await returns true when n commands wait, or false when timeUp is ready before. Only who takes them may call it.
func (q *queue) await(n int, timeUp <-chan time.Time) bool {
	for !q.has(n) {
		select {
		case <-q.wake:
		case <-timeUp:
			return q.has(n)
		}
	}
	return true
}

// has tells whether n commands wait. If not, wake gets a value when they do.
func (q *queue) has(n int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.awaited = n
	return len(q.pending) >= n
}

// take moves the commands of one entry, in order, to batch.
func (q *queue) take(batch []*proposal) []*proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := 0
	for len(batch) < len(q.pending) && len(batch) < maxBatch && size < maxBatchBytes {
		p := q.pending[len(batch)]
		size += proto.Size(p.cmd)
		batch = append(batch, p)
	}
	rest := copy(q.pending, q.pending[len(batch):])
	clear(q.pending[rest:])
	q.pending = q.pending[:rest]
	return batch
}

// putBack puts a batch that was taken at the head of the queue again.
func (q *queue) putBack(batch []*proposal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending = append(slices.Clone(batch), q.pending...)
}

// close refuses all later commands. The ones that wait are still taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending)
}

// fail answers everything that waits with err.
func (q *queue) fail(err error) {
	for batch := q.take(nil); len(batch) > 0; batch = q.take(nil) {
		for _, p := range batch {
			p.finish(err)
		}
	}
}

// proposer turns queued commands into log entries, one entry in flight at a time, and ticks while the node is idle. It
// runs only while the node leads; run ends when it does not.
type proposer struct {
	schema *command.Schema
	raft   *raft.Raft
	fsm    *fsm
	clock  *clock
	queue  *queue
	stall  *stall
	obs    Observer
	parks  *waiters
	wall   wallClock
	alone  bool // nobody else is to be waited for: see gatherer

	batch []*proposal
	cmds  []*command.Command
}

// run proposes until it loses office (false) or stop is closed and the queue is empty (true).
func (p *proposer) run(stop <-chan struct{}) bool {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	g := newGatherer(p.queue, p.alone)
	defer g.stop()
	for {
		// Whoever is ready to run may have a command to add; a lone one is not delayed by this.
		runtime.Gosched()
		g.gather()
		if p.batch = p.queue.take(p.batch[:0]); len(p.batch) > 0 {
			n, sent := len(p.batch), time.Now()
			if !p.propose() {
				return false
			}
			g.done(n, sent)
			continue
		}
		wait := p.untilTick()
		if wait <= 0 {
			if !p.propose() {
				return false
			}
			continue
		}
		timer.Reset(min(wait, officeCheck))
		select {
		case <-p.queue.wake:
		case <-timer.C:
			if !p.inOffice() {
				return false // nobody had anything to propose, and so did not notice
			}
		case <-stop:
			if p.queue.len() == 0 {
				return true
			}
		}
	}
}

// inOffice tells whether Raft still sees this node as the leader of the term for which it took office.
func (p *proposer) inOffice() bool {
	_, term, ok := p.clock.read()
	return ok && p.raft.State() == raft.Leader && p.raft.CurrentTerm() == term
}

// untilTick returns how long an idle leader may let the clock stand: until the next deadline, and at most maxTick after
// the last entry, if anything can expire at all.
func (p *proposer) untilTick() time.Duration {
	next := p.fsm.nextDeadline.Load()
	if next == math.MaxInt64 {
		return time.Hour
	}
	now, _, ok := p.clock.read()
	if !ok {
		return maxTick
	}
	return min(locktable.Time(next).Sub(now), p.fsm.now().Add(maxTick).Sub(now))
}

// propose writes the batch (none: a tick) as one entry and answers its commands. It returns false if the node lost
// office.
func (p *proposer) propose() bool {
	now, term, ok := p.clock.read()
	if !ok || term != p.raft.CurrentTerm() {
		// Elected anew without having noticed: the clock has to be started anew, too.
		p.fail(ErrUnavailable)
		return false
	}
	p.batch = dropVoid(p.batch, term)
	p.cmds = p.cmds[:0]
	if now.Sub(p.fsm.now()) > pollGap {
		polls := p.parks.polls()
		p.cmds = append(p.cmds, polls[:min(len(polls), maxRescue)]...)
	}
	if c := p.reading(term, now); c != nil {
		p.cmds = append(p.cmds, c)
	}
	own := len(p.cmds)
	for _, b := range p.batch {
		p.cmds = append(p.cmds, p.dated(b.cmd))
	}
	entry := p.schema.NewEntry(term, int64(now), p.cmds)
	data, err := command.Encode(entry)
	if err != nil {
		p.fail(fmt.Errorf("%w: %w", ErrMalformed, err))
		return true
	}
	start := time.Now()
	oldest := p.queue.now()
	if len(p.batch) > 0 {
		oldest = p.batch[0].at
	}
	p.stall.start(oldest)
	defer p.stall.end()
	p.fsm.own.Store(&ownEntry{data: data, entry: entry})
	defer p.fsm.own.Store(nil)
	f := p.raft.Apply(data, 0)
	if err := f.Error(); err != nil {
		p.fail(proposeError(err))
		return false
	}
	outcomes, ok := f.Response().([]locktable.Outcome)
	if !ok || len(outcomes) != len(p.cmds) {
		p.fail(ErrUnknown) // the entry was not understood; the node is on its way out
		return false
	}
	p.obs.Committed(len(p.batch), time.Since(start))
	for i, b := range p.batch {
		b.out = outcomes[own+i]
		b.finish(nil)
	}
	clear(p.batch)
	return true
}

// dropVoid answers the commands that may not be proposed in this term (0: not by this node), and returns the others.
func dropVoid(batch []*proposal, term uint64) []*proposal {
	return slices.DeleteFunc(batch, func(p *proposal) bool {
		void := p.term != 0 && p.term != term
		if void {
			p.finish(ErrUnavailable)
		}
		return void
	})
}

func (p *proposer) fail(err error) {
	for _, b := range p.batch {
		b.finish(err)
	}
	clear(p.batch)
}

// proposeError tells what certainly did not happen from what may still happen.
func proposeError(err error) error {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) ||
		errors.Is(err, raft.ErrEnqueueTimeout) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}
