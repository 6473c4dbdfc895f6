//go:build linux

package torture

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	member "github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

var (
	minutes  = flag.Float64("torture.minutes", 1.5, "how long faults happen")
	seedFlag = flag.Uint64("torture.seed", 0, "which faults happen, and what clients do (0: random)")
	loopback = flag.Bool("torture.loopback", false, "use proxies on loopback instead of network namespaces")
	keepAll  = flag.Bool("torture.keep", false, "keep the directory of a run that found nothing, too")
	recheck  = flag.String("torture.recheck", "", "judge the history in this directory again")
)

// ring is one run: a cluster, its clients, and where all that it leaves behind is kept.
type ring struct {
	t       testing.TB
	dir     string
	seed    uint64
	net     network
	c       *cluster
	history *history
	clients *clients
	disks   error // why there are no small disks
	namesNS bool
}

// newRing builds the program and forms a cluster.
func newRing(t testing.TB) *ring {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()>>1 | 1
	}
	dir, err := os.MkdirTemp("", "doubledutch-torture")
	if err != nil {
		t.Fatal(err)
	}
	r := &ring{t: t, dir: dir, seed: seed, history: newHistory()}
	t.Cleanup(r.leave)
	program := filepath.Join(dir, "doubledutch")
	if err := rig.Build(program); err != nil {
		t.Fatal(err)
	}
	r.net = r.network()
	t.Cleanup(func() {
		if err := r.net.close(); err != nil {
			t.Errorf("taking the network down: %v", err)
		}
	})
	unmount, err := useSmallDisks(dir)
	r.disks = err
	t.Cleanup(func() {
		r.saveData()
		unmount()
	})
	r.c, err = newCluster(dir, program, r.net, r.history)
	if r.c != nil {
		t.Cleanup(r.c.end)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.clients = newClients(r.c.doors(), r.history)
	return r
}

// network makes the best network that can be had, and says so if it is not the real one.
func (r *ring) network() network {
	var why error = errors.New("as the flag -torture.loopback says")
	if !*loopback {
		n, err := newNamespaces(commandsAt + 1)
		if err == nil {
			r.namesNS = true
			return n
		}
		why = err
	}
	fmt.Printf("FALLBACK: the nodes are on loopback behind proxies, since there are no network namespaces: %v\n", why)
	n, err := newLoopback(nodeCount)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// saveData keeps the data directories of a failed run, which are in memory.
func (r *ring) saveData() {
	if r.t.Failed() && r.disks == nil {
		for i := range nodeCount {
			data := filepath.Join(r.dir, fmt.Sprintf("n%d", i+1), "data")
			_, _ = run("cp", "-a", data, filepath.Join(r.dir, fmt.Sprintf("data-n%d", i+1)))
		}
	}
}

// leave keeps what a failed run has left, and tells how to have it again.
func (r *ring) leave() {
	if !r.t.Failed() && !*keepAll {
		_ = os.RemoveAll(r.dir)
		return
	}
	if err := r.history.save(r.dir); err != nil {
		r.t.Logf("the history is not kept: %v", err)
	}
	r.t.Logf("seed %d; the history, the faults, the servers' logs and data are in %s", r.seed, r.dir)
	r.t.Logf("judge it again: go test ./test/torture -run TestRecheck -v -torture.recheck %s", r.dir)
	r.t.Logf("once more: go test ./test/torture -run '^%s$' -v -timeout 0 -torture.minutes %v -torture.rolling %v -torture.seed %d",
		r.t.Name(), *minutes, *rollingMinutes, r.seed)
}

// TestTorture lets a cluster work while everything breaks.
func TestTorture(t *testing.T) {
	if *recheck != "" {
		t.Skip("SKIP: a stored history is judged instead")
	}
	r := newRing(t)
	able := abilities(r.disks)
	if !r.namesNS {
		able[realNetwork] = "there are no network namespaces"
	}
	a := newArena(r.c, r.clients, r.seed, min(3, max(1, *minutes/4)), able)
	load := startLoad(r.clients, fullSize, r.seed)
	runs := startCommands(r)
	time.Sleep(time.Second) // some ops in peace
	total := time.Duration(*minutes * float64(time.Minute))
	for end, late := time.Now().Add(total), time.Now().Add(2*total); time.Now().Before(end) || (a.lacks(*minutes) || runs.lacks(*minutes)) && time.Now().Before(late); {
		a.rage(min(max(time.Until(end), 5*time.Second), 45*time.Second))
		r.recover()
	}
	time.Sleep(2 * time.Second) // some more ops in peace
	load.stop()
	runs.stop()
	a.late.Wait()
	r.agree()
	r.retire()
	r.sentence(load, a)
	runs.judge(*minutes)
}

// recover expects that every node serves soon after the last fault (L2).
func (r *ring) recover() {
	r.history.note("", "calm")
	start := time.Now()
	for _, n := range r.c.nodes {
		if err := n.awaitReady(startWithin); err != nil {
			r.t.Errorf("L2: %v", err)
			return
		}
		w := &worker{clients: r.clients, id: "recovery", rand: rand.New(rand.NewPCG(r.seed, uint64(n.index)))}
		err := eventually(10*time.Second-min(time.Since(start), 9*time.Second), func() error {
			h := w.newHold("recovery-"+n.name, time.Second, nil)
			o := w.op(acquire, h)
			o.Node, o.Wait = n.name, 2
			if w.do(r.t.Context(), o).fate() != done {
				return errors.New(o.String())
			}
			h.believe(o)
			w.drop(h)
			return nil
		})
		if err != nil {
			r.t.Errorf("L2: %s does not grant 10 s after the last fault: %v", n.name, err)
		}
	}
	fmt.Printf("recovered on all nodes %.2fs after the last fault\n", time.Since(start).Seconds())
}

// agree expects that all nodes have the same state (S14) once nothing happens any more: when everything has expired.
func (r *ring) agree() {
	last := ""
	err := eventually(40*time.Second, func() error {
		var hashes []string
		for range 2 { // twice the same: nothing is under way
			for _, n := range r.c.nodes {
				v, err := n.view("?state_hash=true")
				if err != nil {
					return err
				}
				hashes = append(hashes, fmt.Sprintf("%d %s", v.State.Index, v.State.SHA256))
			}
		}
		last = strings.Join(hashes, "\n")
		for _, h := range hashes[1:] {
			if h != hashes[0] {
				return errNotYet
			}
		}
		return nil
	})
	if err != nil {
		r.t.Errorf("S14: the nodes do not agree on one state: %v\n%s", err, last)
	}
}

// retire stops all nodes in peace and makes their tables again from their disks (S7, S14).
func (r *ring) retire() {
	v, err := r.rest()
	if err != nil {
		r.t.Error(err)
		return
	}
	for _, n := range r.c.nodes {
		if err := n.stop(startWithin); err != nil {
			r.t.Error(err)
		}
	}
	for _, n := range r.c.nodes {
		image, err := member.ReadDir(filepath.Join(n.data, "data"), nil, "")
		if err != nil {
			r.t.Errorf("S7: the disk of %s cannot be read: %v", n.name, err)
			continue
		}
		if got := fmt.Sprintf("%x", image.Hash()); got != v.State.SHA256 || image.Header().Index < v.State.Index {
			r.t.Errorf("S7: from the disk of %s comes state %s at entry %d; the nodes had %s at %d",
				n.name, got, image.Header().Index, v.State.SHA256, v.State.Index)
		}
	}
}

// rest waits until nothing is written any more, and returns the state then. While anything can expire, the clock is written every
// second.
func (r *ring) rest() (v view, err error) {
	index, since := uint64(0), time.Now()
	err = eventually(time.Minute, func() error {
		if v, err = r.c.nodes[0].view("?state_hash=true"); err != nil {
			return err
		}
		if v.State.Index != index {
			index, since = v.State.Index, time.Now()
		}
		if time.Since(since) < 3*time.Second {
			return errNotYet
		}
		return nil
	})
	return v, err
}

// judgeAll lets all judges speak.
func (r *ring) judgeAll(load *workload) *linearity {
	t := r.t
	if err := r.history.save(r.dir); err != nil { // before anything can take too long
		t.Error(err)
	}
	for _, w := range append(judge(r.history), load.fence.wrong...) {
		t.Error(w)
	}
	lin := judgeLinearity(r.history)
	for _, w := range lin.wrong {
		t.Error(w)
	}
	for _, w := range r.c.unexpected {
		t.Error(w)
	}
	for _, n := range r.c.nodes {
		log, _ := os.ReadFile(filepath.Join(r.dir, n.name+".log"))
		for _, bad := range []string{"panic: ", "fatal error: ", "DATA RACE", "a handler panicked", "failed inside the server"} {
			if strings.Contains(string(log), bad) {
				t.Errorf("the log of %s says %q", n.name, bad)
			}
		}
	}
	return lin
}

// sentence lets all judges speak and looks whether they had enough to see.
func (r *ring) sentence(load *workload, a *arena) {
	t := r.t
	lin := r.judgeAll(load)
	for _, err := range a.errs {
		t.Error(err)
	}
	s := take(r.history, lin, load)
	s.elections = leaderChanges(r.dir)
	lines, faults, kinds := a.report()
	s.faults, s.kinds = faults, kinds
	fmt.Printf("seed %d\n%s\n%s\n", r.seed, strings.Join(lines, "\n"), s)
	for _, w := range s.tooLittle(*minutes, a) {
		t.Error(w)
	}
}

// TestRecheck judges a history that a run has left.
func TestRecheck(t *testing.T) {
	if *recheck == "" {
		t.Skip("SKIP: no -torture.recheck")
	}
	h, err := loadHistory(*recheck)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range judge(h) {
		t.Error(w)
	}
	lin := judgeLinearity(h)
	for _, w := range lin.wrong {
		t.Error(w)
	}
	fmt.Printf("%d locks, %d steps, at most %d for one lock, longest %v %q\n", lin.locks, lin.ops, lin.most, lin.longest, lin.slow)
}
