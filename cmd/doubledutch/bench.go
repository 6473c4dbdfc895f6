package main

import (
	"github.com/doubledutch-lock/doubledutch/internal/load"
)

// benchCmd measures a server.
type benchCmd struct {
	Pairs   benchPairsCmd   `cmd:"" help:"Acquire and release free locks."`
	Handoff benchHandoffCmd `cmd:"" help:"Let one lock go round among many who wait for it."`
	Hold    benchHoldCmd    `cmd:"" help:"Hold many locks, and renew them."`
	Wait    benchWaitCmd    `cmd:"" help:"Let many wait for one lock."`
}

// Help says what is common to all of them.
func (*benchCmd) Help() string {
	return `It puts load on a server, and prints how fast it was and what that cost. Each run uses names of its own and releases what it
holds, also when it is ended with Ctrl-C: then the figures so far are printed.

Examples:

    doubledutch bench pairs
    doubledutch bench pairs --connections 256 --server http://a:7333,http://b:7333,http://c:7333
    doubledutch bench handoff --connections 32 --json`
}

// benchPairsCmd is the workload of free locks.
type benchPairsCmd struct {
	Names int     `default:"1000000" placeholder:"N" help:"How many names there are; each connection has its share (default ${default})."`
	Rate  float64 `placeholder:"N" help:"Begin N pairs a second, in all, whether the ones before have ended or not (default: as many as it takes)."`
	benchWarmFlags
	benchFlags
}

// Help shows examples.
func (*benchPairsCmd) Help() string {
	return `A pair is an acquire and a release of a lock that nobody else wants. Without --rate each connection begins the next pair when the
one before has ended, so that a slow server is asked less. With --rate a pair counts from when it should have begun.

Examples:

    doubledutch bench pairs
    doubledutch bench pairs --connections 1
    doubledutch bench pairs --rate 5000 --duration 1m
    doubledutch bench pairs --metadata-size 1000 --server-pid "$(pidof doubledutch)"`
}

// Run measures.
func (b *benchPairsCmd) Run(c *console) error {
	plan := b.plan(load.Pairs)
	plan.Names, plan.Rate = b.Names, b.Rate
	b.warm(&plan)
	return b.measure(c, plan)
}

// benchHandoffCmd is the workload of one lock that everybody wants.
type benchHandoffCmd struct {
	benchWarmFlags
	benchFlags
}

// Help shows examples.
func (*benchHandoffCmd) Help() string {
	return `Each connection waits for the same lock, releases it at once and waits again. A hand-off is the time from when its holder begins to
release it to when the next one knows that it has it.

Examples:

    doubledutch bench handoff
    doubledutch bench handoff --connections 1000 --duration 30s`
}

// Run measures.
func (b *benchHandoffCmd) Run(c *console) error {
	plan := b.plan(load.Handoff)
	b.warm(&plan)
	return b.measure(c, plan)
}

// benchHoldCmd is the workload of many held locks.
type benchHoldCmd struct {
	Locks int     `default:"10000" placeholder:"N" help:"How many locks are held (default ${default})."`
	Rate  float64 `placeholder:"N" help:"Renewals a second, in all (default: each lock when a third of its lifetime has passed)."`
	benchFlags
}

// Help shows examples.
func (*benchHoldCmd) Help() string {
	return `It takes the locks, renews each of them at even distances during --duration, and releases them. A renewal counts from when it was due.

Examples:

    doubledutch bench hold
    doubledutch bench hold --locks 1000000 --ttl 5m --server-pid "$(pidof doubledutch)"
    doubledutch bench hold --locks 10000 --rate 20000`
}

// Run measures.
func (b *benchHoldCmd) Run(c *console) error {
	plan := b.plan(load.Hold)
	plan.Locks, plan.Rate = b.Locks, b.Rate
	return b.measure(c, plan)
}

// benchWaitCmd is the workload of many waiters.
type benchWaitCmd struct {
	benchFlags
}

// Help shows examples.
func (*benchWaitCmd) Help() string {
	return `Every connection waits for one lock, which is held for --duration once they all stand in its queue. Then the lock goes round once.
What the waiting costs is seen with --server-pid.

Examples:

    doubledutch bench wait --connections 1000
    doubledutch bench wait --connections 10000 --server-pid "$(pidof doubledutch)"`
}

// Run measures.
func (b *benchWaitCmd) Run(c *console) error { return b.measure(c, b.plan(load.Wait)) }
