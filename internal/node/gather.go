package node

import "time"

// How commands are gathered for a batch. Measured with three nodes and 64 clients: 45 to 50 commands in an entry instead of 21, for a
// fifth less CPU per command, a fifth more commands and a lower latency; with 16 clients a fifth less CPU. Waiting for as long as the
// last batch took gains less with 64 clients, twice as long less with 16.
const (
	gatherShare = 0.9                  // of those that are expected
	gatherMost  = 5 * time.Millisecond // at a time, and half as long again as the last batch took
	// Nothing is waited for unless so many commands are expected: few share the cost of a batch badly, and would all be later.
	gatherCrowd = 8
	// Having waited in vain twice, this many batches are sent off at once, and another attempt is made.
	gatherRest = 16
)

// gatherer decides whether a batch waits for more commands. A batch answers its clients at the same moment, and many come back at once
// with their next command; without a wait those that do not make it into the very next batch go with the one after that, for good: two groups
// that take turns, at twice the cost. Where commands come as they like, no wait is long enough to be worth it, and soon none is made.
// A single server does not wait: there an entry is cheap, and nothing was gained.
type gatherer struct {
	queue  *queue
	alone  bool          // a single server
	crowd  float64       // commands that were on their way at a time, lately
	took   time.Duration // the last batch
	vain   int           // waits that were too short, in a row
	rest   int           // batches that do not wait
	timeUp *time.Timer
}

func newGatherer(q *queue, alone bool) *gatherer {
	return &gatherer{queue: q, alone: alone, timeUp: time.NewTimer(gatherMost)}
}

// gather returns when the commands that wait in the queue should go. If there are none, that is at once.
func (g *gatherer) gather() {
	n := int(g.crowd * gatherShare)
	switch {
	case g.alone || n < gatherCrowd || g.queue.len() == 0:
		return
	case g.rest > 0:
		g.rest--
		return
	}
	g.timeUp.Reset(min(g.took*3/2, gatherMost))
	if g.queue.await(n, g.timeUp.C) {
		g.vain = 0
		return
	}
	if g.vain++; g.vain > 1 {
		g.vain, g.rest = 1, gatherRest
	}
}

// done notes that a batch of n commands was answered, and when it had been sent off.
func (g *gatherer) done(n int, sent time.Time) {
	if g.alone {
		return
	}
	g.crowd = (g.crowd + float64(n+g.queue.len())) / 2
	g.took = time.Since(sent)
}

// stop gives back what g holds.
func (g *gatherer) stop() { g.timeUp.Stop() }
