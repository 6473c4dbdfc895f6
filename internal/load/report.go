package load

import (
	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a run has measured. Its form in JSON is described in docs/benchmarks.md; times are seconds, sizes bytes.
type Report struct {
	Workload    string   `json:"workload"`
	Interface   string   `json:"interface"`
	Endpoints   []string `json:"endpoints"`
	Server      Server   `json:"server"`
	Connections int      `json:"connections"`
	Settings    Settings `json:"settings"`
	// Interrupted says that the run was ended early.
	Interrupted bool `json:"interrupted"`
	// Phases are in the order in which they came. Pairs and Handoff have one.
	Phases []Phase `json:"phases"`
	// Left is how many holds and places may still be there, since they could not be given back. They expire.
	Left int `json:"left"`
}

// Server is what the server said of itself.
type Server struct {
	Version  string `json:"version"`
	Nodes    int    `json:"nodes"`
	Volatile bool   `json:"volatile"`
}

// Settings are those parts of the plan by which the figures are made.
type Settings struct {
	WarmUp   float64 `json:"warm_up"`
	Duration float64 `json:"duration"`
	TTL      float64 `json:"ttl"`
	Rate     float64 `json:"rate"`
	Names    int     `json:"names"`
	Locks    int     `json:"locks"`
	Owner    int     `json:"owner_size"`
	Metadata int     `json:"metadata_size"`
}

// Phase is a part of a run.
type Phase struct {
	Name       string  `json:"name"`
	Seconds    float64 `json:"seconds"`
	Operations int64   `json:"operations"`
	PerSecond  float64 `json:"per_second"`
	// Outside are operations before or after the phase's time: those of the warm-up, and those that were under way at its end.
	Outside int64            `json:"outside"`
	Latency []Latency        `json:"latency"`
	Errors  map[string]int64 `json:"errors"`
	// The operations of the connections that were served most and least.
	MostServed  int64 `json:"most_served"`
	LeastServed int64 `json:"least_served"`
	// ClientCPU is what this process used; 0 where that is not known.
	ClientCPU float64 `json:"client_cpu"`
	// ServerCPU and the resident memory of the servers at both ends of the phase are nil unless their processes are known.
	ServerCPU          *float64 `json:"server_cpu,omitempty"`
	ServerMemoryBefore *int64   `json:"server_memory_before,omitempty"`
	ServerMemory       *int64   `json:"server_memory,omitempty"`
}

// Latency is how long something took.
type Latency struct {
	Of    string  `json:"of"`
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	Max   float64 `json:"max"`
}

func newLatency(of string, h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{Of: of}
	}
	at := h.ValueAtPercentilesSlice([]float64{50, 90, 99, 99.9})
	return Latency{
		Of: of, Count: h.TotalCount(),
		P50: seconds(at[0]), P90: seconds(at[1]), P99: seconds(at[2]), P999: seconds(at[3]), Max: seconds(h.Max()),
	}
}

// seconds of nanoseconds.
func seconds(ns int64) float64 { return float64(ns) / 1e9 }

// newReport tells what is known before the run.
func newReport(p *Plan, s Server) *Report {
	r := &Report{Workload: p.Workload, Interface: p.Interface, Server: s, Connections: p.Connections, Settings: Settings{
		WarmUp: p.WarmUp.Seconds(), Duration: p.Duration.Seconds(), TTL: p.TTL.Seconds(), Rate: p.Rate,
		Owner: p.Owner, Metadata: p.Metadata,
	}}
	switch p.Workload {
	case Pairs:
		r.Settings.Names = p.Names
	case Hold:
		r.Settings.Locks = p.Locks
		r.Settings.Rate = float64(p.Locks) / p.interval().Seconds()
		fallthrough
	case Wait:
		r.Settings.WarmUp = 0
	}
	for _, e := range p.Endpoints {
		r.Endpoints = append(r.Endpoints, e.URL)
	}
	return r
}
