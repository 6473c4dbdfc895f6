//go:build linux

package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// arena is where faults happen.
type arena struct {
	c       *cluster
	clients *clients
	rand    *lockedRand
	// Longer runs have longer faults.
	stretch float64
	slowing sync.Mutex // held while a link is slow
	slowOne sync.Mutex // held by a slow fault

	mu      sync.Mutex // guards what follows
	deck    []*fault   // what comes next
	tally   map[string]*tally
	errs    []error
	skipped map[string]string // faults that are impossible here, and why
	late    sync.WaitGroup    // nodes that get well
}

// tally counts one kind of fault.
type tally struct{ tried, effective int }

// lockedRand is a source of randomness for many goroutines.
type lockedRand struct {
	mu sync.Mutex // guards r
	r  *rand.Rand
}

func (l *lockedRand) IntN(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.IntN(n)
}

var errBusy = errors.New("something else happens to the node")

func newArena(c *cluster, clients *clients, seed uint64, stretch float64, able map[need]string) *arena {
	a := &arena{
		c: c, clients: clients, rand: &lockedRand{r: rand.New(rand.NewPCG(seed, 0))}, stretch: stretch,
		tally: map[string]*tally{}, skipped: map[string]string{},
	}
	for _, f := range faults {
		if why := able[f.needs]; why != "" {
			a.skipped[f.name] = why
			continue
		}
		a.tally[f.name] = &tally{}
	}
	return a
}

// abilities tells what the machine cannot do, and why.
func abilities(disks error) map[need]string {
	not := map[need]string{tracing: rig.CannotTrace()}
	if disks != nil {
		not[smallDisk] = disks.Error()
	}
	if _, err := os.Stat(cpuGroups + "/cpu.cfs_quota_us"); err != nil {
		not[cgroups] = "there is no cgroup (v1) for processors"
	} else if err := os.Mkdir(cpuGroups+"/dd-probe", 0o755); err != nil {
		not[cgroups] = err.Error()
	} else {
		_ = os.Remove(cpuGroups + "/dd-probe") // empty
	}
	return not
}

// between is a duration of so many milliseconds, longer in long runs.
func (a *arena) between(least, most int) time.Duration {
	d := time.Duration(least+a.rand.IntN(most-least)) * time.Millisecond
	return time.Duration(float64(d) * a.stretch)
}

func (a *arena) wait(least, most int) {
	time.Sleep(time.Duration(least+a.rand.IntN(most-least)) * time.Millisecond) // how long a fault lasts, or the calm between
}

// anyNode is the leader half of the time.
func (a *arena) anyNode() *node {
	if a.rand.IntN(2) == 0 {
		if n := a.c.leader(); n != nil {
			return n
		}
	}
	return a.c.nodes[a.rand.IntN(nodeCount)]
}

// grab is anyNode for those who do something to its process; nil if nobody is free.
func (a *arena) grab() *node {
	if n := a.anyNode(); n.busy.TryLock() {
		return n
	}
	first := a.rand.IntN(nodeCount)
	for i := range nodeCount {
		if n := a.c.nodes[(first+i)%nodeCount]; n.busy.TryLock() {
			return n
		}
	}
	return nil
}

// grabAll grabs all nodes, or none.
func (a *arena) grabAll() []*node {
	for i, n := range a.c.nodes {
		if !n.busy.TryLock() {
			for _, m := range a.c.nodes[:i] {
				m.busy.Unlock()
			}
			return nil
		}
	}
	return a.c.nodes
}

// impair notes that clients cannot count on the node, until some time after the returned function was called: when it is
// ready again.
func (a *arena) impair(n *node, what string) (well func()) {
	a.c.history.impaired(n.name, what, true)
	return func() {
		a.late.Go(func() {
			err := n.awaitReady(startWithin)
			a.c.history.impaired(n.name, what+", well again", false)
			if err != nil && !n.running().IsGone() {
				a.c.history.note(n.name, err.Error())
			}
		})
	}
}

// rage lets faults happen for so long, and returns when everything is mended.
func (a *arena) rage(d time.Duration) {
	end := time.Now().Add(d)
	var fast, slow sync.WaitGroup
	for time.Now().Before(end) {
		f := a.draw()
		group := &fast
		if f.slow {
			group = &slow
		}
		group.Go(func() { a.inflict(f) })
		if f.slow || a.rand.IntN(100) < 40 { // and the next one at the same time
			a.wait(0, 400)
			continue
		}
		fast.Wait()
		a.wait(50, 600)
	}
	fast.Wait()
	slow.Wait()
}

// draw takes the next fault from the deck.
func (a *arena) draw() *fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.deck) == 0 {
		a.deck = a.shuffle()
	}
	f := a.deck[0]
	a.deck = a.deck[1:]
	return f
}

// putBack lets a fault that was impossible now come later.
func (a *arena) putBack(f *fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deck = append(a.deck, f)
}

// shuffle makes a deck of all faults that are possible.
func (a *arena) shuffle() (deck []*fault) {
	for i := range faults {
		if a.tally[faults[i].name] == nil {
			continue
		}
		for range faults[i].weight {
			deck = append(deck, &faults[i])
		}
	}
	for i := range deck {
		j := i + a.rand.IntN(len(deck)-i)
		deck[i], deck[j] = deck[j], deck[i]
	}
	return deck
}

func (a *arena) inflict(f *fault) {
	if f.slow && !a.slowOne.TryLock() {
		a.putBack(f)
		return
	} else if f.slow {
		defer a.slowOne.Unlock()
	}
	a.c.history.note("", "begin: "+f.name)
	effective, err := f.run(a)
	if errors.Is(err, errBusy) {
		a.putBack(f)
		return
	}
	a.c.history.note("", fmt.Sprintf("end: %s, effective %v, %v", f.name, effective, err))
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tally[f.name]
	t.tried++
	if effective {
		t.effective++
	}
	if err != nil {
		a.errs = append(a.errs, fmt.Errorf("%s: %w", f.name, err))
	}
}

// report tells what happened, by kind.
func (a *arena) report() (lines []string, faults, kinds int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, t := range a.tally {
		lines = append(lines, fmt.Sprintf("%-22s %3d tried, %3d effective", name, t.tried, t.effective))
		faults += t.effective
		if t.effective > 0 {
			kinds++
		}
	}
	for name, why := range a.skipped {
		lines = append(lines, fmt.Sprintf("%-22s SKIPPED: %s", name, why))
	}
	slices.Sort(lines)
	return lines, faults, kinds
}

// faultsPerMinute is how many faults a run must have seen. A slow machine gets more time for them.
const faultsPerMinute = 27

// lacks tells whether a run of so many minutes has seen too few faults so far, or a kind of them not at all.
func (a *arena) lacks(minutes float64) bool {
	_, faults, kinds := a.report()
	return float64(faults) < faultsPerMinute*minutes || minutes >= 1 && kinds < len(a.tally)
}

// leaderChanges counts the terms in which a node took office, by their logs.
func leaderChanges(dir string) int {
	out, _ := exec.Command("grep", "-ho", `"this node leads".*"term":[0-9]*`, dir+"/n1.log", dir+"/n2.log", dir+"/n3.log").Output()
	terms := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		_, term, _ := strings.Cut(line, `"term":`)
		terms[strings.TrimSpace(term)] = true
	}
	return max(0, len(terms)-1)
}
