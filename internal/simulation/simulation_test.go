// Package simulation runs clusters in virtual time: hashicorp/raft and internal/node as they are, on a network, disks and
// clocks that fail, with clients that repeat, hang up, vanish and come back. Everything that the clients see and every
// entry of the log is judged by the properties of README.md.
package simulation

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

var (
	seedFlag    = flag.Uint64("simulate.seed", 0, "seed of the only simulation (0: several)")
	firstFlag   = flag.Uint64("simulate.first", 1, "first of several seeds")
	minutesFlag = flag.Int("simulate.minutes", 32, "virtual minutes of each simulation")
	seedsFlag   = flag.Int("simulate.seeds", 16, "number of simulations")
	logsFlag    = flag.Bool("simulate.logs", false, "put what the nodes log into the timeline")
	timeFlag    = flag.Bool("simulate.timeline", false, "print the timeline as it comes, for runs that panic")
)

// options are what a seed decides about its run.
type options struct {
	seed            uint64
	length          time.Duration
	nodes, clients  int
	timing          node.Timing
	snapshotEntries int64
	trailing        uint64
	drift           int           // parts in a million by which clocks go wrong, at most
	pace            time.Duration // the longest time between two faults
	lossy           int           // of a thousand requests of clients, and of answers, so many get lost
	settings        *command.Settings
}

// optionsOf gives each seed a cluster of its own kind.
func optionsOf(seed uint64, length time.Duration) options {
	s := locktable.DefaultSettings()
	s.WaiterGrace = int64(6 * time.Second)
	s.SpentRetention = int64(2 * time.Minute)
	s.HistoryRetention = int64(2 * time.Minute)
	o := options{
		seed: seed, length: length, nodes: 3, clients: 7, timing: node.LAN, snapshotEntries: 20, trailing: 8,
		drift: 10_000, pace: 3 * time.Second, lossy: 10, settings: s,
	}
	switch seed % 4 {
	case 1:
		o.timing = node.Timing{Election: 300 * time.Millisecond, Commit: 20 * time.Millisecond}
	case 2:
		o.nodes, o.timing, o.snapshotEntries, o.trailing = 5, node.Timing{Election: 500 * time.Millisecond, Commit: 50 * time.Millisecond}, 200, 64
	case 3:
		o.timing, o.snapshotEntries, o.lossy = node.Timing{Election: time.Second, Commit: 50 * time.Millisecond}, 100, 0
	}
	return o
}

func (o *options) grace() time.Duration { return time.Duration(o.settings.GetWaiterGrace()) }

// lossAllowance is what a lost request costs its client, who waits for it in vain.
func (o *options) lossAllowance() time.Duration {
	if o.lossy > 0 {
		return patience
	}
	return 0
}

// What a virtual hour must have seen at least, so that its success says something.
var leastPerHour = map[string]int{
	"faults": 400, "terms": 60, "expiries": 40, "queue grants": 200, "requests without an outcome": 40, "grants after a repetition": 20,
	"requests refused": 10, "reads": 500, "late copies": 10, "waits abandoned": 10, "sessions": 40, "states compared": 100,
	"snapshots": 50, "clients that vanished": 10, "linear histories": 20, "recoveries": 10,
	"sets granted at once": 20, "sets granted from the queue": 20, "deadlocks refused": 3, "holds broken": 5, "holds handed over": 5,
	"claims": 60, "claims lost": 10, "claims retried": 10, "claims from the queue": 5, "tasks done": 20, "tasks settled": 1,
	"reports repeated": 5, "slices": 40,
}

// And what all seeds together must have seen, by its effect.
var leastInAll = []string{
	"cut messages", "dropped messages", "doubled messages", "delayed messages", "lost answers", "snapshots sent",
	"writes torn by a crash", "failed writes", "slow writes", "hung writes", "refused for a full disk",
	"processes that ended themselves", "wiped nodes refused", "removed nodes that stopped themselves", "transfers done",
	"connections broken by a crash", "numbered requests answered again",
	"fault: isolate", "fault: one-way", "fault: halves", "fault: ring", "fault: flap", "fault: bad roads", "fault: crash",
	"fault: crash all", "fault: pause", "fault: slow disk", "fault: late leader", "fault: hung disk", "fault: failing disk", "fault: full disk",
	"fault: lost disk", "fault: transfer", "fault: replace",
}

// A few minutes that run under the race detector, too, when it is asked for this package.
func TestSimulation(t *testing.T) {
	length := time.Duration(*minutesFlag) * time.Minute
	if *seedFlag != 0 {
		run(t, optionsOf(*seedFlag, length), newCounters())
		return
	}
	seeds := *seedsFlag
	if testing.Short() {
		seeds, length = 2, 4*time.Minute
	}
	all := newCounters()
	t.Run("seeds", func(t *testing.T) {
		for i := range seeds {
			seed := *firstFlag + uint64(i)
			t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
				t.Parallel()
				run(t, optionsOf(seed, length), all)
			})
		}
	})
	hours := float64(seeds) * length.Hours()
	t.Logf("%.1f virtual hours:\n%s", hours, all)
	if t.Failed() || hours < 1 {
		return
	}
	for what, least := range leastPerHour {
		if have, want := all.get(what), int(float64(least)*hours); have < want {
			t.Errorf("too little happened: %s %d times, expected %d at least", what, have, want)
		}
	}
	for _, what := range leastInAll {
		if all.get(what) == 0 && hours >= 4 {
			t.Errorf("too little happened: %s never", what)
		}
	}
}

func run(t *testing.T, o options, all *counters) {
	began := time.Now()
	defer forgiveRaft(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, o)
		w.simulate()
		w.report(t)
		all.addAll(w.count)
	})
	t.Logf("%v of virtual time in %v", o.length, time.Since(began).Round(time.Millisecond))
	if t.Failed() {
		t.Logf("again: go test ./internal/simulation -run '^TestSimulation$' -v -simulate.seed=%d -simulate.minutes=%d", o.seed, int(o.length.Minutes()))
	}
}

// forgiveRaft bears that a hand-over of hashicorp/raft v1.8.0 did not end: the goroutines that it leaves cannot be ended. Any
// other goroutine that is left fails the run if none of these is.
func forgiveRaft(t *testing.T) {
	r := recover()
	if r == nil {
		return
	}
	stacks := make([]byte, 1<<24)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if !strings.Contains(fmt.Sprint(r), "blocked goroutines remain") || !bytes.Contains(stacks, []byte(").leadershipTransfer(")) {
		panic(r)
	}
	t.Log("raft has left a hand-over behind that does not end")
}

func (w *world) simulate() {
	for _, m := range w.machines {
		w.start(m)
	}
	for _, m := range w.machines {
		w.awaitWrite(m, time.Now().Add(recovery))
	}
	w.note("the cluster is formed")
	w.end = time.Now().Add(w.o.length)
	var users sync.WaitGroup
	for i := range w.o.clients {
		users.Go(w.newClient(i).run)
	}
	users.Go(w.newClient(50).look)
	users.Go(w.newClient(51).look)
	users.Go(w.newClient(52).lookAtTasks)
	users.Go(w.newClient(53).operate)
	users.Go(w.nemesis)
	users.Wait()
	w.finish()
	for _, m := range w.machines {
		l, _ := m.now()
		w.kill(l, nil)
	}
	w.closing.Wait()
	time.Sleep(time.Minute) // messages that are still on their way arrive nowhere
	w.check()
}

// report prints what was violated with what had happened before.
func (w *world) report(t *testing.T) {
	if len(w.violations) == 0 {
		return
	}
	t.Logf("timeline:\n%s", strings.Join(w.aroundTheFirst(400, 50), "\n"))
	t.Logf("counts:\n%s", w.count)
	if n := len(w.violations); n > 0 {
		t.Errorf("%d violations, the first:\n%s", n, strings.Join(w.violations[:min(n, 15)], "\n"))
	}
}

func (w *world) firstViolation() int {
	for i, line := range w.timeline {
		if strings.Contains(line, "***") {
			return i
		}
	}
	return len(w.timeline)
}

// aroundTheFirst returns lines of the timeline before and after the first violation. Of attempts to start or to remove that fail
// one after the other for the same reason only the first is among them.
func (w *world) aroundTheFirst(before, after int) []string {
	said := map[string]bool{}
	var lines []string
	first := 0
	for i, line := range w.timeline {
		_, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		if i == w.firstViolation() {
			first = len(lines)
		}
		switch {
		case strings.HasPrefix(what, "start "):
			continue // what comes of it is said
		case !strings.Contains(what, "did not start") && !strings.Contains(what, "was not removed"):
			clear(said)
		case said[what]:
			continue
		}
		said[what] = true
		lines = append(lines, line)
	}
	return lines[max(0, first-before):min(len(lines), first+after)]
}

func (c *counters) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(c.n)) {
		lines = append(lines, fmt.Sprintf("%8d %s", c.n[k], k))
	}
	return strings.Join(lines, "\n")
}
