//go:build linux

package rig

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs or has ended. Safe for concurrent use.
type Process struct {
	cmd     *exec.Cmd
	wrapped bool
	ended   chan struct{} // closed when it is gone
}

// Command says what to start.
type Command struct {
	Argv []string
	// Wrap is a program that runs Argv and ends as it does, such as strace with its flags.
	Wrap           []string
	Env            []string // beside this process's own
	Stdout, Stderr io.Writer
}

// outputDelay is how long output is awaited after the end of a process whose children hold it open.
const outputDelay = 30 * time.Second

// Start starts c in a process group of its own.
func Start(c Command) (*Process, error) {
	argv := append(append([]string{}, c.Wrap...), c.Argv...)
	p := &Process{cmd: exec.Command(argv[0], argv[1:]...), wrapped: len(c.Wrap) > 0, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = c.Stdout, c.Stderr
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = outputDelay
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Ended is closed when the process is gone and its output read.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// IsGone tells whether the process has ended.
func (p *Process) IsGone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Pid returns the process id, of the wrapped program if it is wrapped. Then there is an error until that runs.
func (p *Process) Pid() (int, error) {
	pid := p.cmd.Process.Pid
	if !p.wrapped {
		return pid, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("the wrapped program does not run: %w", err)
	}
	return child, nil
}

// Signal sends a signal to the process, or to the program that is wrapped in it.
func (p *Process) Signal(sig syscall.Signal) error {
	pid, err := p.Pid()
	if err != nil {
		return err
	}
	return syscall.Kill(pid, sig)
}

// KillAll kills the process with all that it has started, and returns when it is gone.
func (p *Process) KillAll() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

// ErrStillRuns is returned by Exit.
var ErrStillRuns = errors.New("the process still runs")

// Exit waits for the end of the process, so long at most, and returns its exit code, or minus the signal that ended it.
func (p *Process) Exit(within time.Duration) (int, error) {
	select {
	case <-p.ended:
	case <-time.After(within):
		return 0, fmt.Errorf("%w after %v", ErrStillRuns, within)
	}
	return p.Code(), nil
}

// Code returns the exit code of a process that has ended, or minus the signal that ended it.
func (p *Process) Code() int {
	state := p.cmd.ProcessState
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return -int(w.Signal())
	}
	return state.ExitCode()
}
