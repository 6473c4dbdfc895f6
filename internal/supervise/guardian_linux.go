package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// guardianName is the name under which a guardian is started, for those who list processes, and for itself.
const guardianName = "doubledutch-guardian"

// Guardian tells whether this process was started as a guardian, and then does the work of one; code is what the process is to
// end with. A program that uses Run calls it first of all, before anything else is done.
func Guardian() (code int, is bool) {
	if len(os.Args) < 3 || os.Args[0] != guardianName {
		return 0, false
	}
	fd, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return notExecutable, true
	}
	unix.CloseOnExec(fd)
	out, err := guardOver(wire(fd), os.Args[2:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "doubledutch: %v\n", err)
		return notExecutable, true
	}
	return out.Code, true
}

// stage is how far the end of the command has come.
type stage int

const (
	running stage = iota
	ending        // TERM was sent
	dying         // KILL is being sent until nothing is left
)

// guard is the guardian at work. It is one loop on one thread, which waits for its descriptors.
type guard struct {
	wire   wire
	order  start
	term   *terminal
	notice *notice
	print  *printer

	timer    int // descriptor: goes off when there is something to do
	children int // descriptor: can be read when a child has changed its state

	leader   int // the command: its process id, and that of its group
	ended    bool
	status   unix.WaitStatus // once it has ended
	gone     bool            // nothing is left
	orphaned bool            // the wrapper is gone
	stage    stage
	killAt   instant // the deadline of the lease, less the reserve
	dieAt    instant // when dying begins on other grounds; 0: never
	sayAt    instant // when a person is told what is waited for; 0: never
	lost     bool

	protected map[int]bool // processes that cannot be killed, and of which that was said
}

// guardOver runs the command, and returns when nothing of it is left.
func guardOver(w wire, argv []string) (*Outcome, error) {
	_ = os.WriteFile("/proc/self/comm", []byte("dd-guardian"), 0) // for those who list processes; it would be "exe"
	// The parent-death signal is for the end of the thread that started the command: it must not end before the process.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("becoming a subreaper: %w", err)
	}
	g := &guard{wire: w, term: openTerminal(), protected: map[int]bool{}, print: newPrinter(func(line string) { fmt.Fprintln(os.Stderr, "doubledutch: "+line) })}
	defer g.print.close()
	var first order
	if err := w.receive(&first, 0); err != nil || first.Start == nil {
		return nil, errors.New("the wrapper was gone before it said what to do")
	}
	g.order, g.killAt = *first.Start, first.Start.KillAt
	out, err := g.run(argv)
	if err != nil {
		return nil, err
	}
	if w.send(&report{Gone: out}) != nil && g.order.Litter != "" {
		_ = os.RemoveAll(g.order.Litter)
	}
	return out, nil
}

// run starts the command and stays with it to the end.
func (g *guard) run(argv []string) (*Outcome, error) {
	if err := g.prepare(); err != nil {
		return nil, err
	}
	if g.order.OnLost == Kill && now() >= g.killAt.add(-g.order.Grace) {
		g.print.say("the lock was about to be lost before the command could begin")
		return &Outcome{Lost: true}, nil
	}
	if err := g.start(argv); err != nil {
		g.print.say(err.Error())
		return &Outcome{Code: codeOf(err)}, nil
	}
	_ = g.wire.send(&report{Started: g.leader})
	t := now()
	for g.look(); !g.gone; g.look() {
		g.act(t)
		g.await()
		t = now()
		g.listen()
	}
	g.term.give(g.leader, g.order.Group)
	return &Outcome{Code: shellCode(g.status), Lost: g.lost && g.order.OnLost != Warn}, nil
}

// prepare makes what the loop waits for, and what the command is given.
func (g *guard) prepare() (err error) {
	caught := heeded(append(forwarded, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE))
	signal.Notify(make(chan os.Signal, 1), caught...) // they are for the wrapper; here they only must not end the process
	if g.timer, err = newTimer(); err != nil {
		return err
	}
	if g.children, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, unix.SIGCHLD)
	go func() {
		for range ends {
			_, _ = unix.Write(g.children, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		}
	}()
	g.notice, err = newNotice(g.killAt)
	return err
}

// start starts the command, in a process group of its own.
func (g *guard) start(argv []string) error {
	path, err := find(argv[0])
	if err != nil {
		return err
	}
	if err := g.notice.bequeath(); err != nil {
		return err
	}
	p, err := os.StartProcess(path, argv, &os.ProcAttr{
		Env:   append(os.Environ(), g.notice.variables()...),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
	})
	g.notice.bequeathed()
	if err != nil {
		return err
	}
	g.leader = p.Pid
	if g.order.Foreground {
		g.term.give(g.order.Group, g.leader)
	}
	return p.Release() // this process waits for all its children together
}

// await waits for something to do.
func (g *guard) await() {
	if err := setTimer(g.timer, g.next()); err != nil {
		g.die() // without a clock, nothing is safe
	}
	patience := -1
	switch {
	case g.stage == dying:
		patience = 5 // what was started meanwhile has to be found
	case g.ended:
		patience = 500
	}
	fds := []unix.PollFd{{Fd: int32(g.timer), Events: unix.POLLIN}, {Fd: int32(g.children), Events: unix.POLLIN}}
	if !g.orphaned {
		fds = append(fds, unix.PollFd{Fd: int32(g.wire), Events: unix.POLLIN})
	}
	_, _ = unix.Poll(fds, patience)
	var b [8]byte
	_, _ = unix.Read(g.children, b[:])
	_, _ = unix.Read(g.timer, b[:])
}

// listen obeys all orders that are there. What is judged afterwards is judged by a time that was read before: wherever this process was
// paused, a deadline that was moved meanwhile is known, or the pause is not counted yet.
func (g *guard) listen() {
	for !g.orphaned {
		var o order
		err := g.wire.receive(&o, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, io.EOF):
			g.orphaned = true
			g.abandoned()
		case err == nil:
			g.obey(&o)
		}
	}
}

func (g *guard) obey(o *order) {
	switch {
	case o.KillAt != 0 && !g.lost:
		g.killAt = o.KillAt
		g.notice.moved(o.KillAt)
	case o.Lost:
		g.loseNow()
	case o.Signal != 0:
		g.forward(unix.Signal(o.Signal))
	case o.Resume:
		if o.Terminal {
			g.term.give(g.order.Group, g.leader)
		}
		g.signalGroup(unix.SIGCONT)
	}
}

// look takes note of children that have changed their state, and of the end.
func (g *guard) look() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WUNTRACED|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD):
			g.gone = true
			return
		case pid <= 0:
			g.gone = g.ended && g.order.Leftover == Leave && g.stage != dying && len(g.group()) == 0
			return
		case pid != g.leader:
		case status.Stopped():
			g.stopped(status.StopSignal())
		default:
			g.ended, g.status = true, status
			g.leftover()
		}
	}
}

// stopped decides what to do when the command was stopped.
func (g *guard) stopped(by syscall.Signal) {
	if g.order.Group == 0 || g.stage != running {
		return // nobody could continue it but who has stopped it
	}
	had := g.term.foreground() == g.leader
	if by == unix.SIGTTIN || by == unix.SIGTTOU {
		// It wants the terminal. It has it by now, or can have it, if ours is in the foreground.
		if had || g.term.give(g.order.Group, g.leader) {
			g.signalGroup(unix.SIGCONT)
			return
		}
	} else if by == unix.SIGSTOP && !had {
		return
	}
	g.term.give(g.leader, g.order.Group)
	_ = g.wire.send(&report{Stopped: int(by)})
}

// shellCode is how a shell tells the end of a process.
func shellCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// soon is a duration for people.
func soon(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
