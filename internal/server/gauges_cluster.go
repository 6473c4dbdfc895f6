package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// clusterGauges asks the backend how its cluster is whenever the metrics are read. Labels have the names of nodes, which
// the operator chose and which are few.
type clusterGauges struct {
	backend   Backend
	numbers   [len(clusterNumbers)]*prometheus.Desc
	members   *prometheus.Desc
	reachable *prometheus.Desc
	applied   *prometheus.Desc
	forwards  *prometheus.Desc
	conns     *prometheus.Desc
	calls     *prometheus.Desc
}

// clusterNumbers are those without labels.
var clusterNumbers = [...]struct {
	name, help string
	kind       prometheus.ValueType
	of         func(*node.ClusterStats) float64
}{
	{"leader", "1 if this node leads.", prometheus.GaugeValue, func(s *node.ClusterStats) float64 { return truth(s.Leads) }},
	{"has_leader", "1 if this node knows a leader.", prometheus.GaugeValue, func(s *node.ClusterStats) float64 { return truth(s.HasLeader) }},
	{"term", "The newest term that this node knows.", prometheus.GaugeValue, func(s *node.ClusterStats) float64 { return float64(s.Term) }},
	{"leader_contact_seconds", "How long ago this node heard from the leader; 0 on the leader.", prometheus.GaugeValue, func(s *node.ClusterStats) float64 { return s.LeaderContact.Seconds() }},
	{"log_index", "The last entry in this node's log.", prometheus.GaugeValue, func(s *node.ClusterStats) float64 { return float64(s.LastIndex) }},
	{"commit_index", "The last log entry that this node knows to be committed.", prometheus.GaugeValue, func(s *node.ClusterStats) float64 { return float64(s.CommitIndex) }},
	{"leader_changes_total", "How often this node learned of another leader than the one before.", prometheus.CounterValue, func(s *node.ClusterStats) float64 { return float64(s.LeaderChanges) }},
	{"candidacies_total", "How often this node stood for election.", prometheus.CounterValue, func(s *node.ClusterStats) float64 { return float64(s.Candidacies) }},
	{"peer_connections", "Open connections to and from other nodes.", prometheus.GaugeValue, func(s *node.ClusterStats) float64 { return float64(s.Channel.Open) }},
}

func newClusterGauges(b Backend) *clusterGauges {
	g := &clusterGauges{
		backend:   b,
		members:   labelled("members", "Members, by whether they vote.", "suffrage"),
		reachable: labelled("member_reachable", "1 if the member answered this node just now.", "member"),
		applied:   labelled("member_applied_index", "The last log entry that the member has applied; left out if it did not answer.", "member"),
		forwards:  labelled("forwarded_commands_total", "Commands of clients passed on from the node they asked to the leader.", "direction"),
		conns:     labelled("peer_connections_total", "Connections between nodes, and attempts at them, by what came of them.", "outcome"),
		calls:     labelled("peer_calls_total", "Calls between nodes.", "outcome"),
	}
	for i := range clusterNumbers {
		g.numbers[i] = desc(clusterNumbers[i].name, clusterNumbers[i].help)
	}
	return g
}

func labelled(name, help, label string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, []string{label}, nil)
}

// Describe is part of prometheus.Collector.
func (g *clusterGauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range g.numbers {
		ch <- d
	}
	for _, d := range []*prometheus.Desc{g.members, g.reachable, g.applied, g.forwards, g.conns, g.calls} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector. It takes as long as the slowest member takes to answer, a second at most.
func (g *clusterGauges) Collect(ch chan<- prometheus.Metric) {
	st := g.backend.ClusterStats()
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, label ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, label...)
	}
	for i := range clusterNumbers {
		put(g.numbers[i], clusterNumbers[i].kind, clusterNumbers[i].of(&st))
	}
	put(g.members, prometheus.GaugeValue, float64(st.Voters), "voter")
	put(g.members, prometheus.GaugeValue, float64(st.NonVoters), "nonvoter")
	count := func(d *prometheus.Desc, v uint64, label string) { put(d, prometheus.CounterValue, float64(v), label) }
	count(g.forwards, st.ForwardsSent, "sent")
	count(g.forwards, st.ForwardsReceived, "received")
	count(g.conns, st.Channel.Accepted, "accepted")
	count(g.conns, st.Channel.Dialled, "dialled")
	count(g.conns, st.Channel.DialFailed, "dial_failed")
	count(g.conns, st.Channel.Refused, "refused")
	count(g.conns, st.Channel.Strangers, "stranger")
	count(g.conns, st.Channel.Limited, "limited")
	count(g.calls, st.Channel.Sent, "sent")
	count(g.calls, st.Channel.Broken, "broken")
	count(g.calls, st.Channel.Handled, "handled")
	for _, m := range g.backend.Members(context.Background()) {
		put(g.reachable, prometheus.GaugeValue, truth(m.Reachable), m.Name)
		if m.Reachable {
			put(g.applied, prometheus.GaugeValue, float64(m.AppliedIndex), m.Name)
		}
	}
}
