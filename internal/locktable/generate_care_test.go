package locktable

import (
	"math"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// care draws one of the commands of asking, breaking, handing over and the calendar.
func (g *generator) care() *command.Command {
	switch g.c.Intn(8) {
	case 0, 1:
		return command.FromAsk(&command.Ask{
			Name: g.heldLock(), Owner: g.text(), Reason: g.reason(), Within: g.duration(6, 30),
		})
	case 2, 3:
		return g.breakHolds()
	case 4, 5:
		return g.handOver()
	case 6:
		return g.calendar()
	}
	return g.configureCare()
}

func (g *generator) reason() string {
	return pick(g.c, []string{"", "why", "so", "a\nb", "\x00", "0123456789abcdef!"})
}

// heldLock draws a lock, mostly one that is held.
func (g *generator) heldLock() string {
	if c := g.claim(2); c != nil {
		return c.lock
	}
	return pick(g.c, testLocks)
}

func (g *generator) breakHolds() *command.Command {
	b := &command.Break{Name: g.heldLock(), UpToToken: g.m.token, Owner: g.text(), Reason: g.reason()}
	if hs := g.m.holders(b.GetName()); len(hs) > 0 && g.c.Intn(4) > 0 {
		b.UpToToken = pick(g.c, hs).token
	} else if g.c.Intn(4) == 0 {
		b.UpToToken = uint64(g.c.Intn(3))
	}
	return command.FromBreak(b)
}

func (g *generator) handOver() *command.Command {
	name, key, session := g.target()
	h := &command.HandOver{Name: name, Key: key, To: g.text()}
	if g.c.Intn(4) > 0 { // aim at a lock that is held and waited for
		for _, c := range g.m.claims {
			if ws := g.m.waiters(c.lock); c.held && len(ws) > 0 && g.m.ownerOf(pick(g.c, ws)) != "" {
				h.Name, h.Key, session = c.lock, c.key, c.session
				h.To = g.m.ownerOf(pick(g.c, ws))
				break
			}
		}
	}
	if session != "" {
		if h.Request = g.number(); h.GetRequest() > 0 {
			h.Session = session
		}
	}
	return command.FromHandOver(h)
}

func (g *generator) calendar() *command.Command {
	wall, _ := g.m.Calendar(g.m.now)
	c := &command.Calendar{At: wall + pick(g.c, []int64{0, 1, -1, 1e6, 1e6 + 1, 1e9, -1e9, 5e9}), Force: g.c.Intn(4) == 0}
	if g.c.Intn(30) == 0 {
		c.At = pick(g.c, []int64{-1, math.MaxInt64, 0})
	}
	return command.FromCalendar(c)
}

// configureCare changes the limits of memory, one of which leaves room for it.
func (g *generator) configureCare() *command.Command {
	s := smallSettings()
	s.MaxTextBytes = pick(g.c, []uint64{60, 120, 400, 400})
	for _, f := range []*uint32{&s.MaxHistory, &s.MaxHistoryPerLock, &s.MaxResult} {
		if g.c.Intn(3) == 0 {
			*f = uint32(1 + g.c.Intn(8))
		}
	}
	s.HistoryRetention = int64(g.c.Intn(4)*10) * int64(time.Second)
	if g.c.Intn(20) == 0 {
		s.HistoryRetention = -1
	}
	return command.FromConfigure(&command.Configure{Settings: s})
}
