//go:build linux

package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/client"
	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

const (
	commandLocks   = 3
	runsOfEachLock = 2
	// Between the deadline of a command and the end of its lock are an eighth of this, the client's margin and 1 %: the machine has
	// 1.4 s to come round to killing.
	commandFlags = "--ttl=8s --grace=500ms --timeout=10s --leftover=kill"
	// What only something that hangs takes so long for.
	endWithin = 60 * time.Second
)

// commands is a workload of its own: `doubledutch run` again and again, on a machine of its own where there are network namespaces.
// Whatever happens to the nodes happens to it, and its processes are stopped and killed besides. A rival, a client of its own,
// competes for the same locks and knows exactly when it has them.
type commands struct {
	*ring
	dir    string // where hearts beat
	log    *os.File
	rival  *client.Client
	locks  []*commandLock
	rand   *lockedRand
	group  sync.WaitGroup
	island sync.Mutex // held while the machine of the runs is cut off
	ctx    context.Context
	end    context.CancelFunc
	ending sync.Once

	mu      sync.Mutex // guards what follows
	count   int        // of runs
	codes   map[int]int
	tenures []tenure // of the rival
	wrong   []string
	deck    []*harm
	tally   map[string]*tally
}

// commandLock is a lock, and the runs that want it.
type commandLock struct {
	name string
	mu   sync.Mutex // guards runs; held while one is started
	runs []*commandRun
}

// commandRun is one `doubledutch run`.
type commandRun struct {
	*rig.Process
	id  string
	mu  sync.Mutex   // guards may
	may map[int]bool // exit codes that are all right
}

// startCommands sets all to work. It needs a cluster.
func startCommands(r *ring) *commands {
	c := &commands{
		ring: r, dir: filepath.Join(r.dir, "hearts"), rand: &lockedRand{r: rand.New(rand.NewPCG(r.seed, 1<<40))},
		codes: map[int]int{}, tally: map[string]*tally{},
	}
	err := os.Mkdir(c.dir, 0o700)
	if err == nil {
		c.log, err = os.Create(filepath.Join(r.dir, "commands.log"))
	}
	if err == nil {
		c.rival, err = client.New(r.urls(), client.WithOwner("rival"))
	}
	if err != nil {
		r.t.Fatal(err)
	}
	c.ctx, c.end = context.WithCancel(context.Background())
	r.t.Cleanup(c.stop)
	for i := range commandLocks {
		l := &commandLock{name: fmt.Sprintf("command-%d", i+1)}
		c.locks = append(c.locks, l)
		for range runsOfEachLock {
			c.group.Go(func() { c.again(l) })
		}
		c.group.Go(func() { c.compete(l) })
		c.group.Go(func() { c.molest(l) })
	}
	return c
}

// urls are the addresses of all nodes.
func (r *ring) urls() (all []string) {
	for _, n := range r.c.nodes {
		all = append(all, n.url)
	}
	return all
}

// again runs commands under the lock, one after the other.
func (c *commands) again(l *commandLock) {
	for c.ctx.Err() == nil {
		run, err := c.start(l)
		if err != nil {
			c.blame("a run cannot be started: " + err.Error())
			return
		}
		if run == nil {
			return
		}
		<-run.Ended()
		l.remove(run)
		c.ended(run)
		pause(c.ctx, time.Duration(c.rand.IntN(300))*time.Millisecond)
	}
}

// start starts a run, or none if it is all over. Half of the commands end soon, the others when something ends them.
func (c *commands) start(l *commandLock) (*commandRun, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	life := 200 + c.rand.IntN(3000)
	if c.rand.IntN(2) == 0 {
		life = 20_000
	}
	run := &commandRun{id: c.nextID(), may: map[int]bool{0: true, exitcode.RunLost: true, exitcode.RunUnavailable: true}}
	var argv []string
	if c.namesNS {
		argv = c.net.wrap(commandsAt)
	}
	argv = append(argv, c.c.program, "run", "--server="+strings.Join(c.urls(), ","), "--owner=run "+run.id)
	argv = append(argv, strings.Fields(commandFlags)...)
	argv = append(argv, l.name, "--", self, "command", fmt.Sprint(life))
	run.Process, err = rig.Start(rig.Command{
		Argv: argv, Env: []string{heartsVariable + "=" + c.dir, runVariable + "=" + run.id}, Stdout: c.log, Stderr: c.log,
	})
	if err != nil {
		return nil, err
	}
	l.runs = append(l.runs, run)
	return run, nil
}

func (c *commands) nextID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	return fmt.Sprint(c.count)
}

func (l *commandLock) remove(run *commandRun) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = slices.DeleteFunc(l.runs, func(r *commandRun) bool { return r == run })
}

// allow says that the run may end with these codes, too.
func (r *commandRun) allow(codes ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, code := range codes {
		r.may[code] = true
	}
}

func (r *commandRun) mayEndWith(code int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.may[code]
}

// ended looks at a run that has ended: with a code that it may have, and with nothing left behind. One that was killed has left its
// end to the guardian.
func (c *commands) ended(run *commandRun) {
	code := run.Code()
	c.history.note("run "+run.id, fmt.Sprintf("ended with %d", code))
	c.mu.Lock()
	c.codes[code]++
	c.mu.Unlock()
	if !run.mayEndWith(code) {
		c.blame(fmt.Sprintf("run %s ended with %d; see commands.log", run.id, code))
	}
	if left := descendants(c.dir, run.id); code >= 0 && len(left) > 0 {
		c.blame(fmt.Sprintf("run %s has ended with %d, and left %v behind", run.id, code, left))
	}
}

func (c *commands) blame(what string) {
	c.history.note("", what)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, what)
}

// compete acquires the lock now and then, for a moment.
func (c *commands) compete(l *commandLock) {
	for c.ctx.Err() == nil {
		lease, err := c.rival.Lock(c.ctx, l.name, client.TTL(3*time.Second))
		if err != nil {
			continue // as often as nodes are away
		}
		t := tenure{lock: l.name, token: lease.Token(), who: "the rival"}
		for end := time.Now().Add(100 * time.Millisecond); ; time.Sleep(5 * time.Millisecond) {
			now := monotonic()
			if lease.Err() != nil {
				break
			}
			if t.end = now; t.begin == 0 {
				t.begin = now
			}
			if time.Now().After(end) {
				break
			}
		}
		_ = lease.Unlock(c.ctx) // or it expires
		if t.begin > 0 {
			c.mu.Lock()
			c.tenures = append(c.tenures, t)
			c.mu.Unlock()
		}
		pause(c.ctx, time.Duration(300+c.rand.IntN(2000))*time.Millisecond)
	}
}

// stop ends all wrappers, as hard as it can be, and returns when nothing of them is left.
func (c *commands) stop() { c.ending.Do(c.finish) }

func (c *commands) finish() {
	c.end()
	for _, l := range c.locks {
		l.mu.Lock()
		for _, run := range l.runs {
			run.allow(sigkilled)
			c.history.note("run "+run.id, "kill -9 in the end")
			run.KillAll()
		}
		l.mu.Unlock()
	}
	c.group.Wait()
	_ = c.rival.Close()
	err := eventually(endWithin, func() error {
		if left := descendants(c.dir, ""); len(left) > 0 {
			return fmt.Errorf("the processes %v are left behind", left)
		}
		return nil
	})
	if err != nil {
		c.blame("orphans: " + err.Error())
	}
	_ = c.log.Close()
}

// judge says what was wrong, and what there was to see. Call it after stop.
func (c *commands) judge(minutes float64) {
	hearts, beats, err := readHearts(c.dir)
	if err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Concat(hearts, c.tenures)
	wrong := judgeTenures(all)
	for _, w := range wrong {
		c.t.Error(w.describe(c.history, all, 12*time.Second))
	}
	for _, w := range c.wrong {
		c.t.Error(w)
	}
	grants := len(merge(hearts))
	fmt.Printf("%d runs, of which %d began their command, and %d grants of the rival; %d heartbeats\n%d lost their lock; %d overlaps; exit codes %v\n%s\n",
		c.count, grants, len(c.tenures), beats, c.codes[exitcode.RunLost], len(wrong), c.codes, c.reportLocked())
	for _, least := range []struct {
		what      string
		have      int
		perMinute float64
	}{
		{"commands", grants, 4}, {"grants of the rival", len(c.tenures), 2}, {"runs that lost their lock", c.codes[exitcode.RunLost], 0.7},
	} {
		if want := int(least.perMinute * minutes); least.have < want {
			c.t.Errorf("the run saw too little: %d %s, not %d", least.have, least.what, want)
		}
	}
	for _, h := range c.lackedLocked(minutes) {
		c.t.Errorf("the run saw too little: no %q of a command with effect", h)
	}
}
