package supervise

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// wrapper is what Run does while the command runs.
type wrapper struct {
	options *Options
	signals *Signals
	wire    wire
	term    *terminal
	print   *printer
	group   int // this process's group, if there is a terminal

	reports chan report   // closed when the guardian is gone
	alarm   *alarm        // for a guardian that does not do its work
	ended   chan struct{} // closed when the guardian has ended
	process *os.Process
	// inherited are children of whatever has been replaced by this program (exec): they are not ours.
	inherited []process
	leader    int // 0: it has not begun, as far as is known

	killAt instant // what the guardian was told last
	lost   bool    // the guardian was told so
	out    *Outcome
}

// Run runs the command until it has ended and nothing of it is left. An error says that it could not be begun, or that
// the guardian has failed; in the second case everything was killed.
func Run(o *Options, s *Signals) (Outcome, error) {
	// The guardian is not bound to this thread, but to the process: it watches a socket.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return Outcome{}, fmt.Errorf("becoming a subreaper: %w", err)
	}
	w := &wrapper{options: o, signals: s, reports: make(chan report), ended: make(chan struct{}), term: openTerminal(), print: newPrinter(o.Say)}
	defer w.term.close()
	defer w.print.close()
	var err error
	if w.inherited, err = descendants(os.Getpid()); err != nil {
		return Outcome{}, fmt.Errorf("listing processes: %w", err)
	}
	if w.alarm, err = newAlarm(); err != nil {
		return Outcome{}, err
	}
	defer w.alarm.close()
	if err := w.begin(); err != nil {
		return Outcome{}, err
	}
	defer w.wire.close()
	return w.stay()
}

// begin starts the guardian and tells it what to do.
func (w *wrapper) begin() error {
	mine, its, err := newWires()
	if err != nil {
		return err
	}
	w.wire = mine
	if err := w.startGuardian(its); err != nil {
		mine.close()
		return fmt.Errorf("starting the guardian: %w", err)
	}
	first := &start{Grace: w.options.Grace, OnLost: w.options.OnLost, Leftover: w.options.Leftover, Litter: w.options.Litter}
	if w.term != nil {
		w.group = unix.Getpgrp()
		first.Group = w.group
		// A command in a pipeline does not get the terminal before it asks: another part may use it, such as a pager.
		first.Foreground = w.term.foreground() == w.group && isTerminal(0) && isAlone()
	}
	w.killAt = w.deadline()
	first.KillAt = w.killAt
	_ = w.wire.send(&order{Start: first}) // if it is gone already, that shows
	go w.hear()
	return nil
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// startGuardian starts this program again, in a process group of its own: what a terminal, or kill with a negative number, sends to
// the wrapper's group is for the wrapper alone.
func (w *wrapper) startGuardian(its wire) error {
	defer its.close()
	if _, err := unix.FcntlInt(uintptr(its), unix.F_SETFD, 0); err != nil {
		return err
	}
	p, err := os.StartProcess("/proc/self/exe", append([]string{guardianName, strconv.Itoa(int(its))}, w.options.Argv...), &os.ProcAttr{
		Env:   w.options.Env,
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return err
	}
	w.process = p
	go func() {
		defer close(w.ended)
		_, _ = p.Wait()
	}()
	return nil
}

// hear passes on what the guardian reports.
func (w *wrapper) hear() {
	defer close(w.reports)
	for {
		var r report
		if w.wire.receive(&r, 0) != nil {
			return
		}
		w.reports <- r
	}
}

// deadline is when the command is to be killed at the latest, as far as the lease is known now.
func (w *wrapper) deadline() (at instant) {
	for range 10 {
		t := now() // before: a pause in between must not make it later
		at = max(at, t.add(w.options.Lease.Remaining()-w.options.Reserve))
		if now() < t.add(time.Millisecond) {
			break // there was none
		}
	}
	return at
}

// stay passes on deadlines, signals and stops until the guardian reports the end, or is gone.
func (w *wrapper) stay() (Outcome, error) {
	poll := time.NewTicker(w.options.Poll)
	defer poll.Stop()
	gone := w.options.Lease.Lost()
	for {
		w.watchGuardian()
		select {
		case r, more := <-w.reports:
			if !more {
				return w.conclude()
			}
			w.heard(&r)
		case <-gone:
			gone = nil
			w.lost = true
			w.killAt = min(w.killAt, now())
			_ = w.wire.send(&order{Lost: true})
		case <-poll.C:
			w.renewed()
		case s := <-w.signals.c:
			w.signalled(s)
		case <-w.alarm.C:
			w.overrule()
		}
	}
}

// renewed tells the guardian of a later deadline.
func (w *wrapper) renewed() {
	if w.lost {
		return
	}
	// What is later by less was computed twice from the same answer.
	if killAt := w.deadline(); killAt > w.killAt.add(time.Millisecond) && w.wire.send(&order{KillAt: killAt}) == nil {
		w.killAt = killAt
	}
}

// watchGuardian sets the alarm for the moment at which the command must have been killed by the guardian. It is half the reserve
// later, so that the other half is left for what the guardian has failed to do.
func (w *wrapper) watchGuardian() {
	at := w.killAt.add(w.options.Reserve / 2)
	if w.options.OnLost != Kill || w.out != nil {
		at = 0
	}
	if err := w.alarm.set(at); err != nil {
		w.overrule()
	}
}

// overrule ends a guardian that has not killed the command in time: it is stopped, or starved. With it ends the command (by its
// parent-death signal), and the rest is this process's.
func (w *wrapper) overrule() {
	if w.options.OnLost == Kill && w.out == nil && now() >= w.killAt {
		_ = w.process.Kill()
		w.lost = true
	}
}

// heard takes a report.
func (w *wrapper) heard(r *report) {
	switch {
	case r.Started != 0:
		w.leader = r.Started
	case r.Stopped != 0:
		w.stop()
	case r.Gone != nil:
		w.out = r.Gone
	}
}

// signalled passes a signal on.
func (w *wrapper) signalled(s os.Signal) {
	sig, ok := s.(syscall.Signal)
	switch {
	case !ok || sig == unix.SIGCONT || sig == unix.SIGPIPE:
	case sig == unix.SIGTSTP:
		_ = w.wire.send(&order{Signal: int(sig)})
		w.stop()
	default:
		_ = w.wire.send(&order{Signal: int(sig)})
	}
}

// stop stops this process with the command, so that the shell that has started it takes notice. Meanwhile nobody renews; the
// guardian sees to the deadline.
func (w *wrapper) stop() {
	w.print.say("stopped; the lock is not renewed meanwhile: unless continued within " +
		soon(time.Duration(w.killAt.add(-w.options.Grace)-now())) + ", the command is ended")
	w.print.flush()
	stopSelf()
	// Continued. The deadline may have passed: then the guardian has done its work, and what is sent now does not count.
	w.renewed()
	front := w.term.foreground() == w.group && w.group != 0
	_ = w.wire.send(&order{Resume: true, Terminal: front && isAlone()})
}

// stopSelf stops this process and returns when it was continued. The signal goes to this thread: sent to the process, another thread
// might take it, and this one would go on for a moment.
func stopSelf() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
}

// conclude is for the end of the guardian.
func (w *wrapper) conclude() (Outcome, error) {
	<-w.ended
	w.term.give(w.leader, w.group)
	if w.out != nil {
		return *w.out, nil // it has seen the end of everything
	}
	for !reapAll() {
		found, _ := killDescendants(w.inherited)
		if len(found) == 0 && len(w.inherited) > 0 {
			break // without those, reapAll would be the one to say so
		}
		w.term.give(w.leader, w.group)
		time.Sleep(sweepPause)
	}
	killed := Outcome{Code: 128 + int(unix.SIGKILL), Lost: w.lost}
	if w.lost {
		return killed, nil
	}
	return killed, errGuardian
}

// sweepPause is between two looks at what there is to kill.
const sweepPause = 5 * time.Millisecond

var errGuardian = errors.New("the guardian process has ended before its command, which was killed with all that it had started")
