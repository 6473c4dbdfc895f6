package load

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// The workloads.
const (
	Pairs   = "pairs"   // acquire and release free names
	Handoff = "handoff" // one lock that goes round among all connections
	Hold    = "hold"    // many held locks that are renewed
	Wait    = "wait"    // many connections that wait for one lock
)

// The interfaces through which a server can be used. Seed knows Pairs and Handoff only, and neither owner nor metadata.
const (
	V1   = "v1"
	Seed = "seed"
)

// Plan says what to do.
type Plan struct {
	Workload  string
	Interface string
	Endpoints []*Endpoint // connections are spread over them evenly, and move on to the next one when theirs fails
	APIKey    string
	// Connections is how many there are at once: what works in parallel. Handoff and Wait take one more to prepare and look.
	Connections int
	WarmUp      time.Duration // not counted; Pairs and Handoff
	Duration    time.Duration // of what is measured
	Timeout     time.Duration // of an answer, beyond the wait for a lock
	TTL         time.Duration
	Prefix      string // of the names; each run adds something of its own
	Names       int    // Pairs: how many names there are, at least one for each connection
	Locks       int    // Hold: how many are held, at least one for each connection
	// Rate, if positive, is how many operations a second are begun, in all, whether earlier ones have ended or not; a
	// connection that is behind catches up, and each operation counts from when it should have begun. Pairs and Hold.
	Rate     float64
	Owner    int // bytes of it
	Metadata int // bytes of it
}

// The bounds of a plan, beyond which a server would refuse it or the figures would say nothing.
const (
	maxConnections = 1_000_000
	maxNames       = 1 << 32
	maxOwner       = 256
	maxMetadata    = 4096
	maxPrefix      = 256
	minTTL         = time.Second
)

// Check says in a sentence what is wrong with the plan, if anything is.
func (p *Plan) Check() error {
	switch {
	case p.Workload != Pairs && p.Workload != Handoff && p.Workload != Hold && p.Workload != Wait:
		return fmt.Errorf("there is no workload %q", p.Workload)
	case p.Interface != V1 && p.Interface != Seed:
		return fmt.Errorf("there is no interface %q", p.Interface)
	case p.Interface == Seed && p.Workload != Pairs && p.Workload != Handoff:
		return fmt.Errorf("the seed interface cannot do %q: it neither renews nor looks", p.Workload)
	case p.Interface == Seed && p.Owner+p.Metadata > 0:
		return errors.New("the seed interface has neither owner nor metadata")
	case len(p.Endpoints) == 0:
		return errors.New("there is no server")
	case p.Connections < 1 || p.Connections > maxConnections:
		return fmt.Errorf("the number of connections must be from 1 to %d", maxConnections)
	case p.Duration <= 0 || p.Timeout <= 0 || p.WarmUp < 0:
		return errors.New("the duration and the time-out must be greater than 0")
	case p.TTL < minTTL:
		return fmt.Errorf("the ttl must be at least %s", minTTL)
	case p.Owner < 0 || p.Owner > maxOwner || p.Metadata < 0 || p.Metadata > maxMetadata:
		return fmt.Errorf("an owner has at most %d bytes, and metadata %d", maxOwner, maxMetadata)
	case len(p.Prefix) > maxPrefix:
		return fmt.Errorf("the prefix has at most %d bytes", maxPrefix)
	}
	return p.checkNumbers()
}

func (p *Plan) checkNumbers() error {
	switch {
	case p.Workload == Pairs && (p.Names < p.Connections || p.Names > maxNames):
		return fmt.Errorf("each of the %d connections needs a name of its own, and %d is the most", p.Connections, maxNames)
	case p.Workload == Hold && (p.Locks < p.Connections || p.Locks > maxNames):
		return fmt.Errorf("each of the %d connections needs a lock of its own to hold, and %d is the most", p.Connections, maxNames)
	case p.Workload == Hold && p.interval() > p.TTL*2/3:
		return fmt.Errorf("at this rate a lock would be renewed each %s, which is too seldom for a ttl of %s", p.interval().Round(time.Millisecond), p.TTL)
	case p.Rate < 0:
		return errors.New("the rate must be greater than 0")
	case p.Rate > 0 && p.Workload != Pairs && p.Workload != Hold:
		return fmt.Errorf("%q has no rate: it goes as fast as the server hands the lock on", p.Workload)
	}
	return nil
}

// interval is the time from one renewal of a lock to the next.
func (p *Plan) interval() time.Duration {
	if p.Rate > 0 {
		return time.Duration(float64(p.Locks) / p.Rate * float64(time.Second))
	}
	return p.TTL / 3
}

// randomText returns n letters and digits that nobody can guess.
func randomText(n int) string {
	text := ""
	for len(text) < n {
		text += rand.Text()
	}
	return text[:n]
}
