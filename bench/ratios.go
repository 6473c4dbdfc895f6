package main

import "fmt"

// ratioTable holds our figures against what we have set ourselves, in the same run.
func (r *results) ratioTable(p printer) {
	p("Beside the targets:\n")
	p("| | target | measured |")
	p("|---|---|---|")
	durable, three, volatile := r.find("DoubleDutch, one node"), r.find("DoubleDutch, three nodes"), r.find("DoubleDutch, volatile")
	ratio := func(what, target string, a, b *outcome, least float64) {
		if a == nil || b == nil || a.pairs(compared) == nil || b.pairs(compared) == nil {
			return
		}
		x := a.pairs(compared).PerSecond / b.pairs(compared).PerSecond
		p("| %s | %s | %.2f ×: %s |", what, target, x, met(x >= least))
	}
	cpu := func(what string, a *outcome, most float64) {
		if a == nil || a.pairs(compared) == nil {
			return
		}
		x := a.pairs(compared).ServerCPU
		p("| %s, server CPU with %d clients | at most %.0f µs/pair | %s µs: %s |", what, compared, most, digits(x), met(x <= most))
	}
	handoff := func(what string, a *outcome, most float64) {
		if a == nil || a.handoff() == nil {
			return
		}
		h := a.handoff()
		p("| %s, hand-off | p50 at most %.1f ms, p99 at most 3 × p50 | %s ms: %s; p99 %.1f ×: %s |", what, most, digits(h.P50), met(h.P50 <= most), h.P99/h.P50, met(h.P99 <= 3*h.P50))
	}
	ratio("one node, pairs/s with 64 clients", "at least 4 × etcd's", durable, r.find("etcd, one node"), 4)
	cpu("one node", durable, 30)
	ratio("three nodes, pairs/s with 64 clients", "at least 5 × etcd's", three, r.find("etcd, three nodes"), 5)
	cpu("three nodes", three, 90)
	ratio("volatile, pairs/s with 64 clients", "at least 0.6 × Redis' without persistence", volatile, r.find("Redis, no persistence"), 0.6)
	cpu("volatile", volatile, 26)
	handoff("volatile", volatile, 0.1)
	handoff("one node", durable, 0.3)
	handoff("three nodes", three, 0.7)
	if durable != nil && durable.pairs(1) != nil {
		pair := 1e6 / durable.pairs(1).PerSecond
		p("| one node, a pair of one client | 2 × 1.3 × append and sync, plus the door | %s µs; 2 × 1.3 × the sync are %s µs |", digits(pair), digits(2.6*r.Machine.SyncUS))
	}
	p("")
}

func (r *results) find(name string) *outcome {
	for _, s := range r.Systems {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func met(yes bool) string {
	if yes {
		return "met"
	}
	return fmt.Sprintf("**%s**", "missed")
}
