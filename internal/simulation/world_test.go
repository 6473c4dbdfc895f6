package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// counters count what happened, so that a run can show that enough did.
type counters struct {
	mu sync.Mutex // guards n
	n  map[string]int
}

func newCounters() *counters { return &counters{n: map[string]int{}} }

func (c *counters) add(what string, n int) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what] += n
}

func (c *counters) addAll(o *counters) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, n := range o.n {
		c.add(k, n)
	}
}

func (c *counters) get(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[what]
}

// life is a process: from its start until it ends, by whatever cause.
type life struct {
	machine *machine
	rate    float64       // of the machine's monotonic clock
	dead    chan struct{} // closed: the process has ended

	mu     sync.Mutex    // guards all below
	node   *node.Node    // nil while it starts
	frozen chan struct{} // not nil: the process stands still until it is closed
	cause  error         // why it ended
}

func (l *life) isDead() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

// thaw returns when the process does not stand still, or an error when it has ended, or done is closed.
func (l *life) thaw(done <-chan struct{}) error {
	for {
		if l.isDead() {
			return errDead
		}
		l.mu.Lock()
		frozen := l.frozen
		l.mu.Unlock()
		if frozen == nil {
			return nil
		}
		select {
		case <-frozen:
		case <-l.dead:
			return errDead
		case <-done:
			return errLost
		}
	}
}

func (l *life) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen == nil {
		l.frozen = make(chan struct{})
	}
}

func (l *life) unfreeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		close(l.frozen)
		l.frozen = nil
	}
}

// running returns the node that serves, or nil.
func (l *life) running() *node.Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.node
}

// machine is where processes of one name run, one after another.
type machine struct {
	name, addr string

	mu   sync.Mutex // guards all below
	disk *disk
	life *life // the newest
	join bool  // its next process asks to be taken in
}

func (m *machine) now() (*life, *disk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life, m.disk
}

// world is a cluster on simulated machines, and all that is known of it.
type world struct {
	t         *testing.T
	o         options
	count     *counters
	net       *network
	book      *book
	machines  []*machine
	members   map[string]string
	began     time.Time
	end       time.Time // the last fault begins before
	closing   sync.WaitGroup
	replacing *turn

	mu         sync.Mutex // guards all below
	rand       *rand.Rand
	disks      uint64
	timeline   []string
	violations []string
	faulty     []span // when something was wrong
	broken     int    // faults that are under way
}

// span is a stretch of time; end is zero while it lasts.
type span struct{ begin, end time.Time }

func (w *world) n(most int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(most)
}

// between returns a random duration.
func (w *world) between(least, most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return least + time.Duration(w.rand.Int64N(int64(most-least)))
}

func (w *world) at() string { return fmt.Sprintf("%10.3f", time.Since(w.began).Seconds()) }

// note writes a line of the timeline.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := w.at() + " " + fmt.Sprintf(format, args...)
	w.timeline = append(w.timeline, line)
	if *timeFlag {
		fmt.Println(w.o.seed, line)
	}
}

// violated notes a broken promise, by its name in reliability.md.
func (w *world) violated(promise, format string, args ...any) {
	text := promise + ": " + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, w.at()+" "+text)
	w.timeline = append(w.timeline, w.at()+" *** "+text)
}

// fault notes that something is wrong until the result is called.
func (w *world) fault(kind, format string, args ...any) (over func()) {
	w.count.add("faults", 1)
	w.count.add("fault: "+kind, 1)
	w.note(kind+" "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken++; w.broken == 1 {
		w.faulty = append(w.faulty, span{begin: time.Now()})
	}
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.broken--; w.broken == 0 {
			w.faulty[len(w.faulty)-1].end = time.Now()
		}
	})
}

// trouble returns for how long between begin and end something was wrong, counting what a cluster may take to recover.
func (w *world) trouble(begin, end time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum, until := time.Duration(0), begin
	for _, s := range w.faulty {
		to := s.end.Add(recovery)
		if s.end.IsZero() || to.After(end) {
			to = end
		}
		from := s.begin
		if from.Before(until) {
			from = until
		}
		if to.After(from) {
			sum, until = sum+to.Sub(from), to
		}
	}
	return sum
}

func newWorld(t *testing.T, o options) *world {
	c := newCounters()
	w := &world{
		t: t, o: o, count: c, net: newNetwork(o.seed, c), members: map[string]string{}, began: time.Now(),
		rand: rand.New(rand.NewPCG(o.seed, 17)), replacing: newTurn(),
	}
	w.book = newBook(w)
	for i := range o.nodes {
		m := &machine{name: fmt.Sprint("n", i+1), addr: fmt.Sprint("addr", i+1)}
		m.disk = w.newDisk()
		w.members[m.name] = m.addr
		w.machines = append(w.machines, m)
	}
	return w
}

func (w *world) newDisk() *disk {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disks++
	return newDisk(w.o.seed<<16+w.disks, w.count)
}

// pick returns a random machine.
func (w *world) pick() *machine { return w.machines[w.n(len(w.machines))] }

// some returns n random machines.
func (w *world) some(n int) []*machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Clone(w.machines)
	w.rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:n]
}

// minority is the number of machines that a cluster can do without.
func (w *world) minority() int { return (len(w.machines) - 1) / 2 }

// leader returns the machine whose process thinks that it leads, or a random one.
func (w *world) leader() *machine {
	for _, m := range w.machines {
		l, _ := m.now()
		if l == nil || l.isDead() {
			continue
		}
		if n := l.running(); n != nil && n.Leads() {
			return m
		}
	}
	return w.pick()
}
