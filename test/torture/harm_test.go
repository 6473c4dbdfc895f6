//go:build linux

package torture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// A harm is done to a run that has its lock, or to its machine. It tells whether that had an effect that could be seen.
type harm struct {
	name    string
	network bool // it needs a machine of its own
	do      func(c *commands, v victim) (bool, error)
}

// victim is a run that has its lock, and the guardian between it and its command.
type victim struct {
	*commandRun
	guardian int
}

var harms = []harm{
	{name: "kill the wrapper", do: (*commands).killWrapper},
	{name: "stop the wrapper for good", do: (*commands).stopForGood},
	{name: "stop the wrapper", do: (*commands).stopWrapper},
	{name: "kill the guardian", do: (*commands).killGuardian},
	{name: "stop the guardian", do: (*commands).stopGuardian},
	{name: "kill the command", do: (*commands).killCommand},
	{name: "cut the machine off", network: true, do: (*commands).cutOff},
	{name: "cut the machine off for good", network: true, do: (*commands).cutOffForGood},
}

// molest does harm to whoever has the lock, again and again.
func (c *commands) molest(l *commandLock) {
	for {
		pause(c.ctx, c.between(200, 1500))
		v, found := c.holder(l)
		if !found {
			return
		}
		h := c.draw()
		c.history.note("run "+v.id, "begin: "+h.name)
		effective, err := h.do(c, v)
		if errors.Is(err, errBusy) {
			c.putBack(h)
			continue
		}
		c.history.note("run "+v.id, fmt.Sprintf("end: %s, effective %v, %v", h.name, effective, err))
		if err != nil {
			c.blame(fmt.Sprintf("%s of run %s: %v", h.name, v.id, err))
		}
		c.mu.Lock()
		t := c.tally[h.name]
		if t == nil {
			t = &tally{}
			c.tally[h.name] = t
		}
		t.tried++
		if effective {
			t.effective++
		}
		c.mu.Unlock()
	}
}

func (c *commands) between(least, most int) time.Duration {
	return time.Duration(least+c.rand.IntN(most-least)) * time.Millisecond
}

// holder waits for a run whose command runs, until all is over.
func (c *commands) holder(l *commandLock) (victim, bool) {
	for c.ctx.Err() == nil {
		l.mu.Lock()
		runs := slices.Clone(l.runs)
		l.mu.Unlock()
		for _, run := range runs {
			pid, err := run.Pid()
			if err != nil || run.IsGone() {
				continue
			}
			if all := childrenOf(pid); len(all) == 1 && len(childrenOf(all[0])) > 0 {
				return victim{run, all[0]}, true
			}
		}
		pause(c.ctx, 20*time.Millisecond)
	}
	return victim{}, false
}

// childrenOf lists the children of a process; none if it has ended.
func childrenOf(pid int) (all []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, path := range lists {
		b, _ := os.ReadFile(path)
		for _, field := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// draw takes the next harm from the deck. Like with other faults, all come before any comes again.
func (c *commands) draw() *harm {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.deck) == 0 {
		for i := range harms {
			if !harms[i].network || c.namesNS {
				c.deck = append(c.deck, &harms[i])
			}
		}
		for i := range c.deck {
			j := i + c.rand.IntN(len(c.deck)-i)
			c.deck[i], c.deck[j] = c.deck[j], c.deck[i]
		}
	}
	h := c.deck[0]
	c.deck = c.deck[1:]
	return h
}

func (c *commands) putBack(h *harm) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deck = append(c.deck, h)
}

// reportLocked tells what was done, by kind.
func (c *commands) reportLocked() string {
	var lines []string
	for i := range harms {
		h := &harms[i]
		if t := c.tally[h.name]; t != nil {
			lines = append(lines, fmt.Sprintf("%-28s %3d tried, %3d effective", h.name, t.tried, t.effective))
		} else if h.network && !c.namesNS {
			lines = append(lines, fmt.Sprintf("%-28s SKIPPED: there are no network namespaces", h.name))
		}
	}
	return strings.Join(lines, "\n")
}

// lackedLocked lists the kinds that a run of so many minutes must have seen and has not.
func (c *commands) lackedLocked(minutes float64) (all []string) {
	for i := range harms {
		h := &harms[i]
		if t := c.tally[h.name]; minutes >= 1 && (t == nil || t.effective == 0) && (!h.network || c.namesNS) {
			all = append(all, h.name)
		}
	}
	return all
}

// lacks tells whether something of it is to come still.
func (c *commands) lacks(minutes float64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lackedLocked(minutes)) > 0 || minutes >= 1 && c.codes[exitcode.RunLost] == 0
}

func (c *commands) killWrapper(v victim) (bool, error) {
	v.allow(sigkilled)
	if err := v.Signal(syscall.SIGKILL); err != nil {
		return false, nil // it has ended
	}
	code, err := v.Exit(endWithin)
	return code == sigkilled, err
}

// stopForGood stops the wrapper until nothing of its command is left: the guardian ends it.
func (c *commands) stopForGood(v victim) (bool, error) {
	pid, err := v.Pid()
	if err != nil {
		return false, err
	}
	stopped := halt(pid)
	defer func() { _ = v.Signal(syscall.SIGCONT) }() // it may have ended
	err = eventually(endWithin, func() error {
		if left := descendants(c.dir, v.id); len(left) > 1 && !v.IsGone() {
			return fmt.Errorf("its wrapper is stopped, and of %v more than that is left", left)
		}
		return nil
	})
	return stopped, err
}

func (c *commands) stopWrapper(v victim) (bool, error) {
	pid, err := v.Pid()
	if err != nil {
		return false, err
	}
	stopped := halt(pid)
	defer func() { _ = v.Signal(syscall.SIGCONT) }() // it may have ended
	time.Sleep(c.between(300, 3000))                 // the harm itself
	return stopped, nil
}

// halt stops a process and tells whether that was seen.
func halt(pid int) bool {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return false
	}
	return eventually(time.Second, func() error {
		if stateOf(pid) != "T" {
			return errNotYet
		}
		return nil
	}) == nil
}

func (c *commands) killGuardian(v victim) (bool, error) {
	v.allow(exitcode.RunFailed)
	if err := syscall.Kill(v.guardian, syscall.SIGKILL); err != nil {
		return false, nil // it has ended
	}
	code, err := v.Exit(endWithin)
	return code == exitcode.RunFailed, err
}

func (c *commands) stopGuardian(v victim) (bool, error) {
	v.allow(exitcode.RunFailed)
	stopped := halt(v.guardian)
	select {
	case <-time.After(c.between(300, 12000)): // the harm itself
	case <-v.Ended():
	}
	if pid, err := v.Pid(); err == nil && slices.Contains(childrenOf(pid), v.guardian) {
		_ = syscall.Kill(v.guardian, syscall.SIGCONT)
	}
	return stopped, nil
}

func (c *commands) killCommand(v victim) (bool, error) {
	v.allow(128 + int(syscall.SIGKILL))
	for _, pid := range childrenOf(v.guardian) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return false, nil // it has ended
		}
	}
	code, err := v.Exit(endWithin)
	return code == 128+int(syscall.SIGKILL), err
}

func (c *commands) cutOff(v victim) (bool, error) { return c.cut(v, c.between(700, 6000)) }

// cutOffForGood lasts until the command is ended for it.
func (c *commands) cutOffForGood(v victim) (bool, error) { return c.cut(v, endWithin) }

func (c *commands) cut(v victim, most time.Duration) (bool, error) {
	if !c.island.TryLock() {
		return false, errBusy
	}
	defer c.island.Unlock()
	var links []link
	for i := range nodeCount {
		links = append(links, both(commandsAt, i)...)
	}
	end, err := c.net.disturb(disturbance{links: links})
	select {
	case <-time.After(most): // the harm itself
	case <-v.Ended():
	}
	if end == nil {
		return false, err
	}
	met, err2 := end()
	return met > 0, errors.Join(err, err2)
}
