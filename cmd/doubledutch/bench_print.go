package main

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/load"
)

// progress is the line on a terminal that says how a run stands.
type progress struct {
	wanted bool
	mu     sync.Mutex // guards out, and what is on the line
	out    io.Writer
}

func newProgress(c *console) *progress { return &progress{wanted: isTerminal(c.err), out: c.err} }

// show writes the line anew.
func (p *progress) show(m load.Moment) {
	text := m.Phase + " " + wholeSeconds(m.Elapsed)
	if m.Planned > 0 {
		text += " of " + wholeSeconds(m.Planned)
	}
	if m.WarmingUp {
		text += ", warming up"
	} else {
		text += fmt.Sprintf("  %s/s  p50 %s  p99 %s  errors %s", grouped(m.Recent), short(m.Latency.P50), short(m.Latency.P99), grouped(float64(m.Errors)))
	}
	p.write("\r\x1b[K" + text)
}

// clear removes the line.
func (p *progress) clear() { p.write("\r\x1b[K") }

// say tells the person at the terminal something, and begins the line anew.
func (p *progress) say(text string) { p.write("\r\x1b[K" + text + "\n") }

func (p *progress) write(text string) {
	if !p.wanted {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.out, text)
}

// wholeSeconds is a duration in whole seconds.
func wholeSeconds(d time.Duration) string { return d.Round(time.Second).String() }

// short is a time in seconds with three digits that matter: 850ns, 83.1µs, 1.24ms, 12.3s.
func short(seconds float64) string {
	for _, unit := range []struct {
		name string
		size float64
	}{{"s", 1}, {"ms", 1e-3}, {"µs", 1e-6}} {
		if n := seconds / unit.size; n >= 1 {
			return strconv.FormatFloat(n, 'f', max(0, 3-digitsOf(n)), 64) + unit.name
		}
	}
	return strconv.FormatFloat(seconds*1e9, 'f', 0, 64) + "ns"
}

// digitsOf is how many digits n has before the point.
func digitsOf(n float64) int { return len(strconv.FormatFloat(n, 'f', 0, 64)) }

// grouped is a whole number with commas between its thousands.
func grouped(n float64) string {
	text := strconv.FormatFloat(n, 'f', 0, 64)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// printBench prints a report for people.
func printBench(w io.Writer, r *load.Report) error {
	t := newTable(w)
	t.line(fmt.Sprintf("%s, %d connections to %s (%s)", r.Workload, r.Connections, strings.Join(r.Endpoints, ", "), underTest(r)))
	t.line("")
	t.row("", "COUNT", "PER SECOND", "P50", "P90", "P99", "P99.9", "MAX")
	for i := range r.Phases {
		p := &r.Phases[i]
		if len(p.Latency) == 0 {
			t.row(p.Name, grouped(float64(p.Operations)), grouped(p.PerSecond))
		}
		for _, l := range p.Latency {
			if l.Count == 0 {
				t.row(label(r, p, l.Of), "0")
				continue
			}
			t.row(label(r, p, l.Of), grouped(float64(l.Count)), grouped(float64(l.Count)/p.Seconds),
				short(l.P50), short(l.P90), short(l.P99), short(l.P999), short(l.Max))
		}
	}
	t.flush()
	for i := range r.Phases {
		p := &r.Phases[i]
		t.line("")
		if len(r.Phases) > 1 {
			t.line(p.Name + ":")
		}
		for _, row := range remarks(r, p) {
			t.row(row[0], row[1])
		}
		t.flush()
	}
	if r.Left > 0 {
		t.line(fmt.Sprintf("\n%s locks could not be given back; they expire within %s", grouped(float64(r.Left)), ago(r.Settings.TTL)))
	}
	return t.done()
}

// label names a row. The phases of a workload may measure the same thing.
func label(r *load.Report, p *load.Phase, of string) string {
	if len(r.Phases) == 1 || p.Name == of {
		return of
	}
	return p.Name + ": " + of
}

// underTest says what was measured.
func underTest(r *load.Report) string {
	text := "DoubleDutch " + cell(r.Server.Version) + ", one node"
	if r.Server.Nodes > 1 {
		text = fmt.Sprintf("DoubleDutch %s, %d nodes", cell(r.Server.Version), r.Server.Nodes)
	}
	if r.Server.Volatile {
		text += ", volatile"
	}
	return text + ", interface " + r.Interface
}

// remarks are what there is to say of a phase beside its latencies.
func remarks(r *load.Report, p *load.Phase) [][2]string {
	rows := [][2]string{{"time", short(p.Seconds)}, {"errors", failures(p.Errors)}}
	if p.MostServed > 0 && r.Connections > 1 {
		rows = append(rows, [2]string{"fairness", fmt.Sprintf("%s operations of the connection served most, %s of the one served least", grouped(float64(p.MostServed)), grouped(float64(p.LeastServed)))})
	}
	client := cost(p.ClientCPU, p)
	if p.ClientCPU > 0.7*p.Seconds*float64(runtime.NumCPU()) {
		client += "; this client itself may be what limits the figures"
	}
	rows = append(rows, [2]string{"client CPU", client})
	if p.ServerCPU != nil {
		rows = append(rows,
			[2]string{"server CPU", cost(*p.ServerCPU, p)},
			[2]string{"server memory", fmt.Sprintf("%s, from %s", megabytes(*p.ServerMemory), megabytes(*p.ServerMemoryBefore))})
	}
	return rows
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// cost is CPU time as a share of the phase and of each operation.
func cost(cpu float64, p *load.Phase) string {
	text := fmt.Sprintf("%s (%.2f cores)", short(cpu), cpu/p.Seconds)
	if p.Operations > 0 && cpu > 0 && p.Name != "stay" { // where nothing is done but waiting
		text += ", " + short(cpu/float64(p.Operations)) + " per operation"
	}
	return text
}

// failures lists errors by their codes.
func failures(errors map[string]int64) string {
	var all []string
	for _, code := range slices.Sorted(maps.Keys(errors)) {
		all = append(all, fmt.Sprintf("%s %s", grouped(float64(errors[code])), cell(code)))
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
