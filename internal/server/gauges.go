package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// gauges asks the backend how things stand whenever the metrics are read. When it cannot answer, the numbers of the
// table are left out rather than guessed.
type gauges struct {
	backend Backend
	table   [len(tableGauges)]*prometheus.Desc
	ready   *prometheus.Desc
	full    *prometheus.Desc
	applied *prometheus.Desc
	pending *prometheus.Desc
	stall   *prometheus.Desc
	offset  *prometheus.Desc
}

// tableGauges are the numbers of locktable.Stats.
var tableGauges = [...]struct {
	name, help string
	of         func(*locktable.Stats) int
}{
	{"locks", "Locks that are held, waited for or blocked.", func(s *locktable.Stats) int { return s.Locks }},
	{"held_locks", "Locks that are held.", func(s *locktable.Stats) int { return s.Held }},
	{"holders", "Holds.", func(s *locktable.Stats) int { return s.Holders }},
	{"waiters", "Places in queues.", func(s *locktable.Stats) int { return s.Waiters }},
	{"tasks", "Records of tasks.", func(s *locktable.Stats) int { return s.Tasks }},
	{"running_tasks", "Tasks that somebody has a claim on.", func(s *locktable.Stats) int { return s.Running }},
	{"task_waiters", "Places of those who wait for a task.", func(s *locktable.Stats) int { return s.TaskWaiters }},
	{"sessions", "Shared sessions.", func(s *locktable.Stats) int { return s.Sessions }},
	{"spent_keys", "Remembered keys of holds that ended.", func(s *locktable.Stats) int { return s.Spent }},
}

// How long reading the metrics waits for the table.
const gaugeTimeout = time.Second

// watch adds the gauges of b, once.
func (m *Metrics) watch(b Backend) {
	g := &gauges{
		backend: b,
		ready:   desc("ready", "1 if the server takes requests."),
		full:    desc("disk_full", "1 if new locks are refused because the disk is nearly full."),
		applied: desc("applied_index", "The last log entry that was applied."),
		pending: desc("pending_commands", "Commands that wait for their log entry."),
		stall:   desc("disk_stall_seconds", "How long the oldest unfinished write to disk has been running; 0 if none is."),
	}
	g.offset = desc("calendar_offset_seconds", "This machine's clock minus the calendar of the cluster; missing as long as there is none.")
	for i := range tableGauges {
		g.table[i] = desc(tableGauges[i].name, tableGauges[i].help)
	}
	m.registry.MustRegister(g, newClusterGauges(b))
}

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, nil, nil)
}

// Describe is part of prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range g.table {
		ch <- d
	}
	for _, d := range []*prometheus.Desc{g.ready, g.full, g.applied, g.pending, g.stall, g.offset} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	st := g.backend.Status()
	send(ch, g.ready, truth(st.Ready))
	send(ch, g.full, truth(st.DiskFull))
	send(ch, g.applied, float64(st.AppliedIndex))
	send(ch, g.pending, float64(st.Pending))
	send(ch, g.stall, st.DiskStall.Seconds())
	ctx, cancel := context.WithTimeout(context.Background(), gaugeTimeout)
	defer cancel()
	var stats locktable.Stats
	var wall int64
	var known bool
	if err := g.backend.Read(ctx, func(t *locktable.Table, now locktable.Time) {
		stats = t.Stats()
		wall, known = t.Calendar(now)
	}); err != nil {
		return
	}
	if known {
		send(ch, g.offset, time.Since(time.Unix(0, wall)).Seconds())
	}
	for i := range tableGauges {
		send(ch, g.table[i], float64(tableGauges[i].of(&stats)))
	}
}

func send(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
