package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// results are all figures of a run.
type results struct {
	Date    string     `json:"date"`
	Machine machine    `json:"machine"`
	Rounds  int        `json:"rounds"`
	Seconds float64    `json:"seconds"` // of each measurement
	Handoff int        `json:"handoff_clients"`
	Waiters int        `json:"waiters"`
	Systems []*outcome `json:"systems"`
}

// machine is what it was measured on.
type machine struct {
	CPU    string  `json:"cpu"`
	Cores  int     `json:"cores"`
	Kernel string  `json:"kernel"`
	Go     string  `json:"go"`
	Load   float64 `json:"load"`    // before the run
	SyncUS float64 `json:"sync_us"` // of 4 KiB that are appended
}

// outcome is what came out of one system.
type outcome struct {
	*System
	Version  string       `json:"version"`
	Pairs    []pairsRun   `json:"pairs"`
	Handoffs []handoffRun `json:"handoffs"`
	Hold     *holdRun     `json:"hold,omitempty"`
	Wait     *waitRun     `json:"wait,omitempty"`
	Failures []string     `json:"failures,omitempty"`
}

func newResults(o *options, chosen []*System, dir string) *results {
	r := &results{
		Date: time.Now().UTC().Format(time.DateOnly), Machine: thisMachine(dir), Rounds: o.rounds, Seconds: o.time.Seconds(),
		Handoff: o.handoff, Waiters: o.waiters,
	}
	for _, s := range chosen {
		r.Systems = append(r.Systems, &outcome{System: s})
	}
	return r
}

func thisMachine(dir string) machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: "unknown", SyncUS: syncTime(dir)}
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(kernel))
	load, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(load), " ")
	m.Load, _ = strconv.ParseFloat(first, 64)
	return m
}

// syncTime is the median time of appending 4 KiB and syncing, the floor of everything that is kept on disk, in
// microseconds.
func syncTime(dir string) float64 {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	var times []float64
	for range 300 {
		begun := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0
		}
		if err := f.Sync(); err != nil {
			return 0
		}
		times = append(times, float64(time.Since(begun).Microseconds()))
	}
	return median(times)
}

// pairs are the medians of a system for a number of clients; nil if it was not measured.
func (s *outcome) pairs(clients int) *pairsRun {
	var rate, server, own, p50, p99 []float64
	for _, p := range s.Pairs {
		if p.Clients == clients {
			rate, server, own = append(rate, p.PerSecond), append(server, p.ServerCPU), append(own, p.ClientCPU)
			p50, p99 = append(p50, p.P50), append(p99, p.P99)
		}
	}
	if len(rate) == 0 {
		return nil
	}
	return &pairsRun{Clients: clients, PerSecond: median(rate), ServerCPU: median(server), ClientCPU: median(own), P50: median(p50), P99: median(p99)}
}

// handoff are the medians of a system; the served are those of all rounds.
func (s *outcome) handoff() *handoffRun {
	if len(s.Handoffs) == 0 {
		return nil
	}
	r := &handoffRun{}
	var rate, server, p50, p99 []float64
	for _, h := range s.Handoffs {
		rate, server, p50, p99 = append(rate, h.PerSecond), append(server, h.ServerCPU), append(p50, h.P50), append(p99, h.P99)
		r.Most, r.Least = r.Most+h.Most, r.Least+h.Least
	}
	r.PerSecond, r.ServerCPU, r.P50, r.P99 = median(rate), median(server), median(p50), median(p99)
	return r
}
