package locktable

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// chooser draws numbers: from a seeded generator for bulk, from rapid for shrinking, from bytes for fuzzing.
type chooser interface {
	Intn(n int) int
}

// generator makes commands over a small universe, so that keys, locks and deadlines collide all the time. It looks at the
// model to aim: at keys that hold, at deadlines to the nanosecond.
type generator struct {
	c       chooser
	m       *model
	log     []*command.Command // all commands so far, for re-delivery
	request uint64
	plain   bool // nothing of version 2, for a table of level 1
	tasks   int  // how many of a hundred commands are about tasks
}

const (
	numKeys     = 24
	numSessions = 6
)

var (
	testKeys     = names("k", numKeys)
	testSessions = names("s", numSessions)
	testLocks    = []string{"a", "b", "c"}
)

func names(prefix string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, pad(fmt.Sprintf("%s%d", prefix, i)))
	}
	return out
}

// smallSettings are limits that are hit often.
func smallSettings() *command.Settings {
	s := proto.CloneOf(testSettings())
	s.MaxTtl, s.MaxWait, s.MaxLockDelay = int64(20*time.Second), int64(20*time.Second), int64(10*time.Second)
	s.WaiterGrace, s.SpentRetention = int64(6*time.Second), int64(9*time.Second)
	s.MaxSpent, s.MaxLocks, s.MaxWaitersPerLock, s.MaxSessions = 6, 3, 5, 3
	s.MaxKeysPerSession, s.MaxRepliesPerSession, s.MaxOwner, s.MaxSlots = 6, 6, 3, 3
	s.MaxHoldersPerLock, s.MaxClaims, s.MaxTextBytes = 4, 12, 130
	s.MaxTasks, s.MaxResult = 2, 6
	return s
}

func pick[T any](c chooser, all []T) T { return all[c.Intn(len(all))] }

// now draws the reading of the next entry's clock.
func (g *generator) now() Time {
	now := g.m.now
	switch n := g.c.Intn(64); {
	case n < 48:
		return now
	case n < 50:
		return now - Time(g.c.Intn(5))*Time(time.Second)
	case n < 51:
		return now + Time(g.c.Intn(1+g.c.Intn(40)))*Time(time.Second)
	case n < 57:
		d, ok := g.m.NextDeadline()
		if ok {
			return d + Time(g.c.Intn(3)) - 1
		}
		return now
	case n < 59:
		return now + Time(g.c.Intn(1000))
	default:
		return now + Time(g.c.Intn(3))*Time(time.Second)
	}
}

// entry draws the commands of one entry.
func (g *generator) entry() []*command.Command {
	n := 1
	switch g.c.Intn(8) {
	case 0:
		n = 0
	case 1:
		n = 2 + g.c.Intn(3)
	}
	var cmds []*command.Command
	for range n {
		cmd := g.command()
		cmds = append(cmds, cmd)
		g.log = append(g.log, cmd)
	}
	return cmds
}

func (g *generator) command() *command.Command {
	if !g.plain && g.c.Intn(10) == 0 {
		return g.care()
	}
	if !g.plain && g.c.Intn(100) < g.tasks {
		return g.taskCommand()
	}
	switch n := g.c.Intn(100); {
	case n < 12 && len(g.log) > 0:
		if back := min(len(g.log), 25); g.c.Intn(4) > 0 {
			return g.log[len(g.log)-1-g.c.Intn(back)]
		}
		return pick(g.c, g.log)
	case n < 58:
		return g.acquire()
	case n < 66:
		return g.release()
	case n < 72:
		return g.renew()
	case n < 78:
		return g.abandon()
	case n < 82:
		return command.FromPoll(&command.Poll{Keys: []string{g.key(), g.key()}})
	case n < 88:
		return command.FromOpenSession(&command.OpenSession{Id: pick(g.c, testSessions), Ttl: g.duration(20, 30), Owner: g.text()})
	case n < 95:
		return command.FromRenewSession(&command.RenewSession{Id: g.session(), Ttl: g.sometimes(g.duration(9, 30)), Request: g.number()})
	case n < 96:
		return command.FromEndSession(&command.EndSession{Id: g.session()})
	case n < 99:
		return g.acquire()
	default:
		return g.configure()
	}
}

// duration draws 1 to n seconds, and now and then something that is not allowed.
func (g *generator) duration(n, seldom int) int64 {
	if g.c.Intn(seldom) == 0 {
		return pick(g.c, []int64{0, -1, int64(21 * time.Second)})
	}
	return int64(1+g.c.Intn(n)) * int64(time.Second)
}

func (g *generator) sometimes(v int64) int64 {
	if g.c.Intn(2) == 0 {
		return 0
	}
	return v
}

func (g *generator) text() string { return pick(g.c, []string{"", "ann", "bob", "bo"}) }

func (g *generator) key() string {
	if g.c.Intn(40) == 0 {
		return pick(g.c, testSessions)
	}
	return pick(g.c, testKeys)
}

func (g *generator) session() string {
	if g.c.Intn(16) == 0 {
		return g.key()
	}
	if len(g.m.sessions) > 0 && g.c.Intn(12) > 0 {
		return pick(g.c, g.m.sessions).id
	}
	return pick(g.c, testSessions)
}

// number draws a request number: none, the next one, or one near it.
func (g *generator) number() uint64 {
	switch g.c.Intn(4) {
	case 0:
		g.request++
		return g.request
	case 1:
		return max(g.request, 5) - uint64(g.c.Intn(6))
	}
	return 0
}

func (g *generator) acquire() *command.Command {
	a := &command.Acquire{
		Name: pick(g.c, testLocks), Key: g.key(), Wait: pick(g.c, []int64{0, -1, -1, 2e9, 3e9, 5e9, 8e9}), Owner: g.text(),
		Attachment: uint64(g.c.Intn(3)),
	}
	if g.c.Intn(8) > 3 && (len(g.m.sessions) > 0 || g.c.Intn(8) == 0) {
		a.Session, a.Request = g.session(), g.number()
	} else {
		a.Ttl = g.duration(8, 60)
	}
	if g.c.Intn(3) == 0 {
		a.Mode = Shared
	}
	if a.GetName() == "c" && g.c.Intn(16) > 0 {
		a.Slots, a.Mode = 2, Exclusive
	} else if g.c.Intn(100) == 0 {
		a.Slots = uint32(g.c.Intn(5))
	}
	if g.c.Intn(8) == 0 {
		a.LockDelay = g.duration(4, 60)
	}
	if g.c.Intn(6) == 0 && !g.plain {
		g.asSet(a)
	}
	if c := g.claim(6); c != nil {
		g.like(a, c)
	}
	if g.c.Intn(200) == 0 {
		a.Name = pick(g.c, []string{"", ".", "..", "a\n", "\xff", "d", "e/f"})
	}
	return command.FromAcquire(a)
}

// asSet makes a the acquire of a set.
func (g *generator) asSet(a *command.Acquire) {
	a.Name, a.Mode, a.Slots = "", 0, 0
	for _, name := range testLocks {
		if g.c.Intn(3) == 0 {
			continue
		}
		m := &command.SetMember{Name: name, Mode: Mode(g.c.Intn(5) / 3)}
		if name == "c" {
			m.Mode, m.Slots = Exclusive, 2
		}
		a.Set = append(a.Set, m)
	}
	if g.c.Intn(2) == 0 {
		slices.Reverse(a.Set)
	}
	switch g.c.Intn(60) {
	case 0:
		a.Set = append(a.Set, &command.SetMember{Name: pick(g.c, []string{"", "a", "b", "d"})})
	case 1:
		a.Slots = 1
	}
}

// claim draws a claim of the model once in n times.
func (g *generator) claim(n int) *mClaim {
	if len(g.m.claims) == 0 || g.c.Intn(n) > 0 {
		return nil
	}
	return pick(g.c, g.m.claims)
}

// like makes a the same request as c, mostly.
func (g *generator) like(a *command.Acquire, c *mClaim) {
	a.Key, a.Session, a.Mode, a.Slots, a.Ttl, a.Set = c.key, c.session, c.mode, c.slots, int64(c.ttl), nil
	a.Name = strings.TrimPrefix(c.lock, mTaskMark)
	if c.group != nil {
		a.Name, a.Mode, a.Slots = "", 0, 0
		for _, x := range c.group {
			a.Set = append(a.Set, &command.SetMember{Name: x.lock, Mode: x.mode, Slots: x.slots})
		}
		if g.c.Intn(2) == 0 {
			slices.Reverse(a.Set)
		}
	}
	if a.GetSession() == "" {
		a.Request = 0
	}
	switch g.c.Intn(20) {
	case 0:
		if a.GetSet() != nil {
			a.Set[0].Mode = 1 - a.Set[0].Mode
			return
		}
		a.Name = pick(g.c, testLocks)
	case 1:
		a.Mode = 1 - a.GetMode()
	case 2:
		a.Slots++
	}
}

// target draws a key and the lock that it stands for, or any other lock.
func (g *generator) target() (name, key, session string) {
	name, key = pick(g.c, testLocks), g.key()
	if g.c.Intn(4) > 0 && len(g.m.claims) > 0 {
		c := pick(g.c, g.m.claims)
		key, session = c.key, c.session
		if g.c.Intn(6) > 0 {
			name = strings.TrimPrefix(c.lock, mTaskMark) // of a task, the lock that is called like it
		} else if c.group != nil && g.c.Intn(2) == 0 {
			name = ""
		}
	}
	return name, key, session
}

func (g *generator) release() *command.Command {
	name, key, session := g.target()
	r := &command.Release{Name: name, Key: key}
	if g.c.Intn(12) == 0 {
		r.Name = "" // whatever the key stands for
	}
	if session != "" {
		if r.Request = g.number(); r.GetRequest() > 0 {
			r.Session = session
		}
	}
	return command.FromRelease(r)
}

func (g *generator) renew() *command.Command {
	name, key, session := g.target()
	r := &command.Renew{Name: name, Key: key, Ttl: g.sometimes(g.duration(8, 30))}
	if g.c.Intn(12) == 0 {
		r.Name = ""
	}
	if session != "" {
		if r.Request = g.number(); r.GetRequest() > 0 {
			r.Session = session
		}
	}
	return command.FromRenew(r)
}

func (g *generator) abandon() *command.Command {
	a := &command.Abandon{Key: g.key(), Attachment: uint64(g.c.Intn(3))}
	if c := g.claim(2); c != nil {
		a.Key, a.Attachment = c.key, c.attachment
		if g.c.Intn(4) == 0 {
			a.Attachment++
		}
	}
	return command.FromAbandon(a)
}

func (g *generator) configure() *command.Command {
	s := smallSettings()
	s.MaxTasks = uint32(g.c.Intn(4))
	for _, f := range []*uint32{&s.MaxSpent, &s.MaxLocks, &s.MaxWaitersPerLock, &s.MaxSessions, &s.MaxKeysPerSession, &s.MaxRepliesPerSession, &s.MaxHoldersPerLock} {
		if g.c.Intn(3) == 0 {
			*f = uint32(1 + g.c.Intn(8))
		}
	}
	if g.c.Intn(4) == 0 {
		s.WaiterGrace, s.SpentRetention = g.duration(6, 10), g.duration(12, 10)
	}
	if g.c.Intn(12) == 0 {
		s.MaxLocks = 0
	}
	if g.c.Intn(3) == 0 {
		s.MaxSet = uint32(1 + g.c.Intn(3))
	}
	if g.plain {
		command.Current.Trim(s, 1)
	}
	return command.FromConfigure(&command.Configure{Settings: s})
}
