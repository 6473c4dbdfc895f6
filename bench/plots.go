package main

import (
	"cmp"
	"fmt"
	"slices"
)

func sortBy(order []int, key func(i int) float64) {
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(key(a), key(b)) })
}

// plots are the pictures, by their file names.
func (r *results) plots() map[string]string {
	var rates []curve
	var cpu, handoffs []bar
	for _, s := range r.Systems {
		l := curve{name: s.Name, ours: s.Ours}
		for _, n := range r.clientCounts() {
			if p := s.pairs(n); p != nil && p.PerSecond > 0 {
				l.x, l.y = append(l.x, float64(n)), append(l.y, p.PerSecond)
			}
		}
		if len(l.x) > 0 {
			rates = append(rates, l)
		}
		if p := s.pairs(compared); p != nil {
			cpu = append(cpu, bar{name: s.Name, ours: s.Ours, value: p.ServerCPU, text: digits(p.ServerCPU) + " µs"})
		}
		if h := s.handoff(); h != nil {
			handoffs = append(handoffs, bar{name: s.Name, ours: s.Ours, value: h.P50, mark: h.P99, text: fmt.Sprintf("%s / %s ms", digits(h.P50), digits(h.P99))})
		}
	}
	return map[string]string{
		"pairs.svg":   lines("Acquire and release of a free lock: pairs per second", "clients", rates),
		"cpu.svg":     bars(fmt.Sprintf("Server CPU for a pair, with %d clients (µs, less is better)", compared), cpu),
		"handoff.svg": bars(fmt.Sprintf("Hand-off among %d waiters: p50 (bar) and p99 (mark), ms, less is better", r.Handoff), handoffs),
	}
}
