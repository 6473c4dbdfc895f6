package client

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"
)

// endpoint is one server of the cluster, or a proxy in front of it.
type endpoint struct {
	base string // scheme://host[:port][/path], without a slash at the end

	// Guarded by the mutex of the pool.
	failures   int     // in a row
	badUntil   instant // it is not asked before
	avoidUntil instant // until then others are preferred, if they can be asked soon
}

// pool knows how the endpoints did lately. All requests of a client share it, so that what one of them has found out about an
// endpoint spares the others the time.
type pool struct {
	clock *clock

	mu        sync.Mutex // guards what follows, and the endpoints' state
	endpoints []*endpoint
	preferred int // the last that answered well
}

// newPool starts with any of the endpoints, so that the clients of a cluster spread.
func newPool(bases []string, clock *clock) (*pool, error) {
	p := &pool{clock: clock}
	for _, text := range bases {
		base, err := baseURL(text)
		if err != nil {
			return nil, err
		}
		p.endpoints = append(p.endpoints, &endpoint{base: base})
	}
	if len(p.endpoints) == 0 {
		return nil, fmt.Errorf("doubledutch: no endpoint is given")
	}
	p.preferred = rand.IntN(len(p.endpoints))
	return p, nil
}

func baseURL(text string) (string, error) {
	full := text
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("doubledutch: %q is not an endpoint such as http://127.0.0.1:7333", text)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// pick returns the endpoint to ask next, and how long to wait before. Those that are asked already come last.
func (p *pool) pick(busy func(*endpoint) bool) (*endpoint, time.Duration) {
	now := p.clock.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *endpoint
	var least, pause time.Duration
	for i := range p.endpoints {
		e := p.endpoints[(p.preferred+i)%len(p.endpoints)]
		wait := max(e.badUntil.sub(now), 0)
		cost := wait
		if now < e.avoidUntil {
			cost += avoidCost
		}
		if busy(e) {
			cost += busyCost
		}
		if best == nil || cost < least {
			best, least, pause = e, cost, wait
		}
	}
	return best, pause
}

// How much longer one waits for another endpoint, rather than to ask one that is being asked already or did not answer lately.
const (
	busyCost  = time.Second
	avoidCost = 2 * time.Second
)

// ok notes that e answered as it should.
func (p *pool) ok(e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.failures, e.badUntil, e.avoidUntil = 0, 0, 0
	for i := range p.endpoints {
		if p.endpoints[i] == e {
			p.preferred = i
		}
	}
}

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
	// An endpoint that did not answer at all is avoided for longer: each try costs the time that it takes to find out.
	minAvoid = 5 * time.Second
	maxAvoid = 30 * time.Second
)

// failed notes that e failed, or asked to be left alone for a while.
func (p *pool) failed(e *endpoint, leaveAlone time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pause := max(backoff(e.failures, minBackoff, maxBackoff), leaveAlone)
	e.failures++
	e.badUntil = max(e.badUntil, p.clock.now().add(later(pause)))
}

// stalled notes that e took a request and did not answer it.
func (p *pool) stalled(e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pause := backoff(e.failures, minAvoid, maxAvoid)
	e.failures++
	e.avoidUntil = max(e.avoidUntil, p.clock.now().add(later(pause)))
}

// backoff doubles with each failure.
func backoff(failures int, first, most time.Duration) time.Duration {
	if failures > 10 {
		return most
	}
	return min(first<<failures, most)
}

// later is up to a quarter more, so that clients that were refused together do not come back together.
func later(d time.Duration) time.Duration { return d + time.Duration(rand.Int64N(int64(d)/4+1)) }

func (p *pool) size() int { return len(p.endpoints) }
