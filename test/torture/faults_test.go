//go:build linux

package torture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// A fault breaks something for a while and mends it. It tells whether that had an effect that could be seen, and never leaves
// anything broken.
type fault struct {
	name   string
	weight int  // how often it is in the deck
	slow   bool // it takes long, and others go on meanwhile
	run    func(a *arena) (effective bool, err error)
	// What the machine must be able to do for it.
	needs need
}

type need int

const (
	nothing need = iota
	smallDisk
	tracing
	realNetwork
	cgroups
)

var faults = []fault{
	{name: "kill -9", weight: 3, run: (*arena).killOne},
	{name: "kill all", weight: 1, run: (*arena).killAll},
	{name: "pause", weight: 3, run: (*arena).pauseOne},
	{name: "pause all", weight: 1, run: (*arena).pauseAll},
	{name: "isolate", weight: 3, run: (*arena).isolate},
	{name: "isolate from all", weight: 1, run: (*arena).isolateFromAll},
	{name: "cut one link", weight: 1, run: (*arena).cutLink},
	{name: "one way", weight: 2, run: (*arena).oneWay},
	{name: "flap", weight: 1, run: (*arena).flap},
	{name: "lose packets", weight: 2, run: (*arena).losePackets},
	{name: "cut clients", weight: 2, run: (*arena).cutClients},
	{name: "slow link", weight: 1, run: (*arena).slowLink},
	{name: "meddle with requests", weight: 4, run: (*arena).meddle},
	{name: "transfer", weight: 2, run: (*arena).transfer},
	{name: "replace a member", weight: 1, slow: true, run: (*arena).replace},
	{name: "disk full", weight: 1, slow: true, run: (*arena).fillDisk, needs: smallDisk},
	{name: "sync fails", weight: 1, slow: true, run: (*arena).failSync, needs: tracing},
	{name: "starve", weight: 1, run: (*arena).starve, needs: cgroups},
}

func (a *arena) killOne() (bool, error) {
	n := a.grab()
	if n == nil {
		return false, errBusy
	}
	defer n.busy.Unlock()
	well := a.impair(n, "killed")
	died := n.kill()
	a.wait(0, 2500)
	defer well()
	return died, n.start()
}

func (a *arena) killAll() (bool, error) {
	nodes := a.grabAll()
	if nodes == nil {
		return false, errBusy
	}
	died := true
	var errs []error
	for _, n := range nodes {
		defer a.impair(n, "killed with all")()
		died = n.kill() && died
	}
	a.wait(0, 1000)
	for _, n := range nodes {
		errs = append(errs, n.start())
		n.busy.Unlock()
	}
	return died, errors.Join(errs...)
}

func (a *arena) pauseOne() (bool, error) {
	n := a.grab()
	if n == nil {
		return false, errBusy
	}
	defer n.busy.Unlock()
	return a.pause([]*node{n}, a.between(500, 5000))
}

func (a *arena) pauseAll() (bool, error) {
	nodes := a.grabAll()
	if nodes == nil {
		return false, errBusy
	}
	defer func() {
		for _, n := range nodes {
			n.busy.Unlock()
		}
	}()
	return a.pause(nodes, a.between(300, 2500))
}

func (a *arena) pause(nodes []*node, d time.Duration) (bool, error) {
	stopped := true
	for _, n := range nodes {
		defer a.impair(n, "paused")()
		p := n.running()
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			return false, err
		}
		defer func() { _ = p.Signal(syscall.SIGCONT) }() // it may have ended
		pid, err := p.Pid()
		if err != nil {
			return false, err
		}
		stopped = eventually(time.Second, func() error {
			if stateOf(pid) != "T" {
				return errNotYet
			}
			return nil
		}) == nil && stopped
	}
	time.Sleep(d) // how long the fault lasts
	return stopped, nil
}

// stateOf is the state of a process as in ps.
func stateOf(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// both are the links between a and b in both directions.
func both(x, y int) []link { return []link{{x, y}, {y, x}} }

// others are the links of a node with all other nodes.
func others(n int) (all []link) {
	for i := range nodeCount {
		if i != n {
			all = append(all, both(n, i)...)
		}
	}
	return all
}

// disturbFor lets a disturbance last and tells whether it met anything.
func (a *arena) disturbFor(d time.Duration, what disturbance) (bool, error) {
	end, err := a.c.net.disturb(what)
	time.Sleep(d) // how long the fault lasts
	if end == nil {
		return false, err
	}
	met, err2 := end()
	return met > 0, errors.Join(err, err2)
}

func (a *arena) isolate() (bool, error) {
	n := a.anyNode()
	return a.disturbFor(a.between(700, 6000), disturbance{links: others(n.index)})
}

func (a *arena) isolateFromAll() (bool, error) {
	n := a.anyNode()
	defer a.impair(n, "isolated from clients too")()
	return a.disturbFor(a.between(700, 5000), disturbance{links: append(others(n.index), both(n.index, outside)...)})
}

func (a *arena) cutLink() (bool, error) {
	i := a.rand.IntN(nodeCount)
	return a.disturbFor(a.between(1000, 5000), disturbance{links: both(i, (i+1)%nodeCount)})
}

func (a *arena) oneWay() (bool, error) {
	n := a.anyNode().index
	links := []link{{n, (n + 1) % nodeCount}}
	switch a.rand.IntN(3) {
	case 0: // it hears nobody
		links = []link{{(n + 1) % nodeCount, n}, {(n + 2) % nodeCount, n}}
	case 1: // nobody hears it
		links = []link{{n, (n + 1) % nodeCount}, {n, (n + 2) % nodeCount}}
	}
	return a.disturbFor(a.between(1000, 5000), disturbance{links: links})
}

func (a *arena) flap() (bool, error) {
	n := a.anyNode()
	met := false
	for range 5 {
		ok, err := a.disturbFor(a.between(100, 700), disturbance{links: others(n.index)})
		if err != nil {
			return met, err
		}
		met = met || ok
		a.wait(50, 500)
	}
	return met, nil
}

func (a *arena) losePackets() (bool, error) {
	n := a.anyNode()
	defer a.impair(n, "loses packets")()
	return a.disturbFor(a.between(1500, 5000), disturbance{links: append(others(n.index), both(n.index, outside)...), kind: lose})
}

func (a *arena) cutClients() (bool, error) {
	n := a.anyNode()
	defer a.impair(n, "cut off from clients")()
	links := both(n.index, outside)
	return a.disturbFor(a.between(700, 4000), disturbance{links: links[a.rand.IntN(2):]})
}

func (a *arena) slowLink() (bool, error) {
	if !a.slowing.TryLock() {
		return false, errBusy
	}
	defer a.slowing.Unlock()
	n := a.anyNode()
	defer a.impair(n, "slow")()
	return a.disturbFor(a.between(1500, 4000), disturbance{links: []link{{n.index, outside}}, kind: slow})
}

func (a *arena) meddle() (bool, error) {
	before := a.clients.meddler.total()
	a.clients.meddler.active.Add(1)
	defer a.clients.meddler.active.Add(-1)
	a.wait(2000, 6000)
	return a.clients.meddler.total() > before, nil
}

func (a *arena) transfer() (bool, error) {
	before := a.c.leader()
	asked := a.c.nodes[a.rand.IntN(nodeCount)]
	body := "{}"
	if a.rand.IntN(2) == 0 {
		body = fmt.Sprintf(`{"to":%q}`, a.c.nodes[a.rand.IntN(nodeCount)].name)
	}
	if err := asked.call("POST", "/v1/cluster/transfer", body, nil); err != nil {
		a.c.history.note(asked.name, "no transfer: "+err.Error())
		return false, nil // there may be no leader, or nobody to take over
	}
	for end := time.Now().Add(2 * time.Second); before != nil && time.Now().Before(end); a.wait(50, 100) {
		if after := a.c.leader(); after != nil && before != after {
			return true, nil
		}
	}
	return false, nil
}

// fillDisk fills the disk of a node. It refuses new locks, and may end; but it must not lie.
func (a *arena) fillDisk() (effective bool, err error) {
	n := a.grab()
	if n == nil {
		return false, errBusy
	}
	defer n.busy.Unlock()
	p := n.expect(exitcode.StorageFailed)
	free, err := rig.Fill(n.data)
	if err != nil {
		return false, err
	}
	end := time.Now().Add(a.between(2000, 5000))
	for time.Now().Before(end) && !p.IsGone() {
		v, err := n.view("")
		for _, m := range v.Members {
			effective = effective || err == nil && m.DiskFull
		}
		a.wait(100, 200)
	}
	if err := free(); err != nil {
		return effective, err
	}
	a.wait(300, 500) // a write that has begun may fail still
	if n.expect(); !p.IsGone() {
		return effective, nil
	}
	defer a.impair(n, "ended with a full disk")()
	return true, n.start()
}

// failSync restarts a node so that one of its next syncs fails: it must end with its exit code.
func (a *arena) failSync() (bool, error) {
	n := a.grab()
	if n == nil {
		return false, errBusy
	}
	defer n.busy.Unlock()
	defer a.impair(n, "a sync fails")()
	n.kill()
	trace := filepath.Join(a.c.dir, n.name+".strace")
	err := n.start(rig.TraceSyncs(trace, fmt.Sprintf("error=EIO:when=%d", 8+a.rand.IntN(40)))...)
	if err != nil {
		return false, err
	}
	p := n.expect(exitcode.StorageFailed, sigkilled)
	code, err := p.Exit(20 * time.Second)
	if err != nil {
		n.kill()
		return false, n.start()
	}
	if code != exitcode.StorageFailed {
		err = fmt.Errorf("%s ended with %d after a sync had failed", n.name, code)
	}
	return code == exitcode.StorageFailed, errors.Join(err, n.start())
}

// replace takes a member out of the cluster, wipes it and lets it join as a new one.
func (a *arena) replace() (bool, error) {
	n := a.grab()
	if n == nil {
		return false, errBusy
	}
	defer n.busy.Unlock()
	other := a.c.nodes[(n.index+1+a.rand.IntN(nodeCount-1))%nodeCount]
	well := a.impair(n, "replaced")
	p := n.expect(exitcode.Removed)
	removed := func() error {
		err := other.call("DELETE", "/v1/cluster/members/"+n.name, "", nil)
		if err == nil {
			return nil
		}
		if v, err := other.view(""); err == nil && v.Leader != "" && v.Leader != n.name && !v.member(n.name) {
			return nil
		}
		return err
	}
	if err := eventually(2*time.Minute, removed); err != nil {
		well()
		return false, err
	}
	a.c.history.note(n.name, "removed")
	code, err := p.Exit(20 * time.Second)
	if err != nil {
		n.kill() // it may reach nobody who tells it
	}
	if err := os.RemoveAll(filepath.Join(n.data, "data")); err != nil {
		return false, err
	}
	n.mu.Lock()
	_, n.joins = a.c.net.peerAddr(other.index)
	n.mu.Unlock()
	err = n.start()
	well()
	if err != nil {
		return false, err
	}
	err = eventually(2*time.Minute, func() error {
		v, err := other.view("")
		if err == nil && !v.voter(n.name) {
			err = errNotYet
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s does not vote after it was replaced: %w", n.name, err)
	}
	return err == nil && (code == exitcode.Removed || code == 0), err
}

const cpuGroups = "/sys/fs/cgroup/cpu"

// starve lets a node have a twentieth of a processor.
func (a *arena) starve() (bool, error) {
	n := a.grab()
	if n == nil {
		return false, errBusy
	}
	defer n.busy.Unlock()
	defer a.impair(n, "starved")()
	group := fmt.Sprintf("%s/dd%d-%s", cpuGroups, os.Getpid(), n.name)
	pid, err := n.running().Pid()
	if err != nil {
		return false, err
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		return false, err
	}
	defer func() { _ = os.Remove(group) }() // it may take a moment until it is empty
	set := func(file, value string) error { return os.WriteFile(file, []byte(value), 0o644) }
	err = errors.Join(
		set(group+"/cpu.cfs_period_us", "100000"), set(group+"/cpu.cfs_quota_us", "5000"), set(group+"/cgroup.procs", fmt.Sprint(pid)),
	)
	a.wait(1500, 4000)
	stat, err2 := os.ReadFile(group + "/cpu.stat")
	if !n.running().IsGone() {
		err2 = errors.Join(err2, set(cpuGroups+"/cgroup.procs", fmt.Sprint(pid)))
	}
	return err == nil && !strings.Contains(string(stat), "nr_throttled 0\n"), errors.Join(err, err2)
}
