package supervise

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// duty is something to be done at a moment.
type duty struct {
	at instant
	do func()
}

// duties are what is ahead, the most pressing first.
func (g *guard) duties() []duty {
	var all []duty
	if g.stage == dying {
		return nil // kill is called again and again
	}
	if g.dieAt != 0 {
		all = append(all, duty{g.dieAt, g.die})
	}
	if g.sayAt != 0 {
		all = append(all, duty{g.sayAt, g.sayLeftover})
	}
	switch {
	case g.order.OnLost == Kill:
		all = append(all, duty{g.killAt, g.killInTime})
		if g.stage == running {
			all = append(all, duty{g.killAt.add(-g.order.Grace), g.loseSoon})
		}
	case g.lost:
	case g.order.OnLost == Warn:
		all = append(all, duty{g.killAt, func() { g.lose("the lock is about to be lost, and the command goes on") }})
	case g.stage == running:
		all = append(all, duty{g.killAt.add(-g.order.Grace), g.loseSoon})
	}
	return all
}

// next is when act has something to do; 0 is never.
func (g *guard) next() instant {
	var next instant
	for _, d := range g.duties() {
		if next == 0 || d.at < next {
			next = d.at
		}
	}
	return next
}

// act does what the time t asks for.
func (g *guard) act(t instant) {
	if g.stage == dying {
		g.kill()
		return
	}
	for _, d := range g.duties() {
		if t >= d.at {
			d.do()
			return
		}
	}
}

// killInTime is for the deadline.
func (g *guard) killInTime() {
	g.lose("the lock is about to be lost: killing the command")
	g.die()
}

// loseSoon begins the end of the command because the deadline is near.
func (g *guard) loseSoon() {
	if g.order.OnLost == Kill {
		g.lose("the lock could not be renewed: ending the command, which is killed in " + soon(g.order.Grace))
	} else {
		g.lose("the lock could not be renewed: the command is told to end")
	}
	g.end()
}

// loseNow is for a lease that is gone already.
func (g *guard) loseNow() {
	if g.lost && g.order.OnLost != Kill || g.stage == dying {
		return
	}
	switch g.order.OnLost {
	case Kill:
		g.lose("the lock is lost: killing the command")
		g.die()
	case Signal:
		g.lose("the lock is lost: the command is told to end")
		g.end()
	case Warn:
		g.lose("the lock is lost, and the command goes on")
	}
}

// lose says that the lease is lost.
func (g *guard) lose(line string) {
	if !g.lost || g.order.OnLost == Kill {
		g.print.say(line)
	}
	g.lost = true
	g.notice.tellLost(g.killAt)
}

// abandoned is for the end of the wrapper: nobody renews any more, and nobody would notice if the command went on.
func (g *guard) abandoned() {
	if g.stage == dying {
		return
	}
	g.print.say("the wrapper is gone: ending the command, which is killed in " + soon(g.order.Grace))
	g.notice.tellLost(g.killAt)
	g.dieAt = now().add(g.order.Grace)
	g.end()
}

// leftover decides about what the command has left behind.
func (g *guard) leftover() {
	if g.stage != running || g.order.Leftover == Leave {
		return
	}
	if left, err := descendants(os.Getpid()); err == nil && len(left) == 0 {
		return
	}
	if g.order.Leftover == End {
		g.dieAt = now().add(g.order.Grace)
		g.end()
		return
	}
	g.sayAt = now().add(sayAfter)
}

// sayAfter is how long what the command has left behind is waited for before a person is told why nothing happens.
const sayAfter = 5 * time.Second

func (g *guard) sayLeftover() {
	g.sayAt = 0
	var pids []string
	left, _ := descendants(os.Getpid())
	for _, p := range left {
		pids = append(pids, strconv.Itoa(p.pid))
	}
	g.print.say("the command has ended; waiting for the processes that it has left behind: " + strings.Join(pids, ", "))
}

// forward passes a signal on to the command's group; once the command itself has ended, to everything that it has left behind.
func (g *guard) forward(sig unix.Signal) {
	if !g.ended {
		g.signalGroup(sig)
		return
	}
	left, _ := descendants(os.Getpid())
	for _, p := range left {
		_ = signalProcess(p, sig)
	}
}

// end asks everything to end. What is stopped is continued, or it could not.
func (g *guard) end() {
	g.stage = ending
	g.signalGroup(unix.SIGTERM)
	g.signalGroup(unix.SIGCONT)
	left, _ := descendants(os.Getpid())
	for _, p := range left {
		if p.group != g.leader {
			_ = signalProcess(p, unix.SIGTERM)
		}
	}
}

// die kills everything, until nothing is left.
func (g *guard) die() {
	g.stage = dying
	g.kill()
}

func (g *guard) kill() {
	g.signalGroup(unix.SIGKILL)
	_, protected := killDescendants(nil)
	for _, p := range protected {
		if !g.protected[p.pid] {
			g.protected[p.pid] = true
			g.print.say(fmt.Sprintf("there is no right to kill process %d", p.pid))
		}
	}
}

// group lists those descendants that are in the command's process group.
func (g *guard) group() []process {
	all, _ := descendants(os.Getpid())
	members := all[:0]
	for _, p := range all {
		if p.group == g.leader {
			members = append(members, p)
		}
	}
	return members
}

// signalGroup signals the command's process group. Once the command itself was reaped, its group's id could be somebody else's,
// and its members are signalled one by one.
func (g *guard) signalGroup(sig unix.Signal) {
	if !g.ended {
		if err := unix.Kill(-g.leader, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			g.print.say(fmt.Sprintf("cannot signal the command: %v", err))
		}
		return
	}
	for _, p := range g.group() {
		_ = signalProcess(p, sig)
	}
}
