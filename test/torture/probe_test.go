//go:build linux

package torture

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// probe knows when the cluster, or this machine, was not able to do anything. It renews a hold at each node again and again, with
// plain requests that have nothing to do with the client package. So it can be told whether a client lost something although there were servers
// that could have renewed it.
type probe struct {
	over  chan struct{}
	group sync.WaitGroup

	mu     sync.Mutex // guards what follows
	last   time.Time  // a renewal succeeded, at whichever node
	gaps   []gap      // between two of them, if they are worth mentioning
	served int
}

type gap struct{ from, to time.Time }

const gapWorthMentioning = 20 * time.Millisecond

func startProbe(c *cluster) *probe {
	p := &probe{over: make(chan struct{}), last: time.Now()}
	for _, n := range c.nodes {
		p.group.Go(func() { p.watch(n) })
	}
	return p
}

func (p *probe) watch(n *node) {
	key := rig.NewKey()
	for {
		lock, body := "/v1/locks/probe-"+n.name, fmt.Sprintf(`{"key":%q,"ttl":600}`, key)
		err := n.call("POST", lock, body, nil)
		for err == nil {
			err = n.call("POST", lock+"/renew", fmt.Sprintf(`{"key":%q}`, key), nil)
			if err == nil {
				p.success()
			}
			if p.isOver(30 * time.Millisecond) {
				_ = n.call("DELETE", lock+"?key="+key, "", nil) // or it expires
				return
			}
		}
		if p.isOver(30 * time.Millisecond) {
			return
		}
	}
}

// isOver waits for the end for so long.
func (p *probe) isOver(wait time.Duration) bool {
	select {
	case <-p.over:
		return true
	case <-time.After(wait):
		return false
	}
}

func (p *probe) success() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.last) > gapWorthMentioning {
		p.gaps = append(p.gaps, gap{p.last, now})
	}
	p.last = now
	p.served++
}

// longest is the longest time without a success that touches the last so many seconds.
func (p *probe) longest(last time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	most := now.Sub(p.last)
	for _, g := range p.gaps {
		if now.Sub(g.to) < last {
			most = max(most, g.to.Sub(g.from))
		}
	}
	return most
}

func (p *probe) stop() {
	close(p.over)
	p.group.Wait()
}

func TestProbeTellsGaps(t *testing.T) {
	now := time.Now()
	p := &probe{last: now, gaps: []gap{{now.Add(-60 * time.Second), now.Add(-40 * time.Second)}, {now.Add(-12 * time.Second), now.Add(-10 * time.Second)}}}
	for last, want := range map[time.Duration]time.Duration{time.Second: 0, 11 * time.Second: 2 * time.Second, time.Minute: 20 * time.Second} {
		if got := p.longest(last); got < want || want > 0 && got > want {
			t.Errorf("the longest gap of the last %v is %v, want %v", last, got, want)
		}
	}
}
