package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var scaleMarks = marks{
	begin: "<!-- bench-scale: written by `make bench-scale` from here on -->",
	end:   "<!-- bench-scale: end -->",
}

// publish writes the page's part and the plots.
func (r *scaleResults) publish(root string) error {
	if err := rewritePage(root, scaleMarks, r.text()); err != nil {
		return err
	}
	for name, svg := range r.plots() {
		if err := os.WriteFile(filepath.Join(root, "docs", "plots", name), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *scaleResults) text() string {
	var b strings.Builder
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) }
	p("Measured on %s with version %s: %d cores (%s), Linux %s, %s; load before the run %.1f. 4 KiB appended and synced took %.0f µs. One run, one", r.Date,
		orDash(r.Version), r.Machine.Cores, r.Machine.CPU, r.Machine.Kernel, r.Machine.Go, r.Machine.Load, r.Machine.SyncUS)
	p("durable node, %d connections, the clients on the same cores. All figures: [scale.json](plots/scale.json).\n", busy)
	r.tableTable(p)
	r.heldTable(p)
	r.stallTable(p)
	r.waitingTable(p)
	r.sessionTable(p)
	r.nameTable(p)
	return b.String()
}

// ops are the kinds of work of the lock table, in the order in which they were measured.
func (r *scaleResults) ops() (ops []string) {
	seen := map[string]bool{}
	for _, t := range r.Table {
		if !seen[t.What] {
			seen[t.What] = true
			ops = append(ops, t.What)
		}
	}
	return ops
}

func (r *scaleResults) tableTable(p printer) {
	p("**The lock table alone**, with so many locks held, in ns for one operation:\n")
	header, rule := "| operation |", "|---|"
	for _, n := range heldSizes {
		header, rule = header+" "+thousands(float64(n))+" |", rule+"---|"
	}
	p("%s\n%s", header, rule)
	for _, op := range r.ops() {
		row := "| " + op + " |"
		for _, n := range heldSizes {
			cell := "-"
			for _, t := range r.Table {
				if t.What == op && t.Held == n {
					cell = digits(t.NS)
				}
			}
			row += " " + cell + " |"
		}
		p("%s", row)
	}
	p("\n![cost of an operation of the lock table by the number of locks held](plots/scale-table.svg)\n")
}

func (r *scaleResults) heldTable(p printer) {
	p("**Held locks**: a server takes them, renews them for a while, and does pairs of other names. A restart is after SIGTERM, a recovery after")
	p("kill -9, each until the first lock is granted.\n")
	p("| locks | taken/s (server CPU, µs) | renewals/s (µs) | pairs/s (µs) | bytes of memory for each | restart / recovery, s | newest snapshot |")
	p("|---|---|---|---|---|---|---|")
	for _, h := range r.Held {
		snapshot := "none was due"
		if h.SnapshotBytes > 0 {
			snapshot = thousands(float64(h.SnapshotBytes)) + " bytes"
		}
		p("| %s | %s | %s | %s | %s | %.2f / %.2f | %s |", thousands(float64(h.Locks)), h.Take, h.Renew, h.Pair, digits(h.Bytes), h.Restart, h.Recover, snapshot)
	}
	p("\n![server CPU of a request by the number of locks held](plots/scale-held.svg)\n")
}

func (r *scaleResults) stallTable(p printer) {
	p("**Stalls**: what one more client notices that takes and releases a lock of its own all the time, beside the %d others that keep the server busy. A pair is two", busy)
	p("requests. What it has to wait for the processors, the clients among them, is in it.\n")
	p("| locks | while they are taken: p50 / p99 / longest pair, ms | snapshots in that time | while they are renewed |")
	p("|---|---|---|---|")
	for _, h := range r.Held {
		p("| %s | %s | %d | %s |", thousands(float64(h.Locks)), h.Taking, h.Snapshots, h.Renewing)
	}
	p("")
	r.snapshotTable(p)
}

func (r *scaleResults) snapshotTable(p printer) {
	p("What of that is due to **snapshots**: the longest pair of the same client while one is written, beside %d others that renew, and in as long a time between", busy)
	p("two of them. With a log of %s at most, so that there are some.\n", stallsLog)
	p("| locks | snapshots | one takes, s | longest pair beside one: median (most), ms | as long without: median (most), ms |")
	p("|---|---|---|---|---|")
	for _, h := range r.Held {
		if x := h.Snapshotting; x != nil {
			p("| %s | %d | %s | %s | %s |", thousands(float64(h.Locks)), len(x.With), digits(x.Seconds), medianAndMost(x.With), medianAndMost(x.Without))
		}
	}
	p("")
}

// medianAndMost is a dash for no figures.
func medianAndMost(all []float64) string {
	if len(all) == 0 {
		return "-"
	}
	all = slices.Sorted(slices.Values(all))
	return digits(all[len(all)/2]) + " (" + digits(all[len(all)-1]) + ")"
}

func (r *scaleResults) waitingTable(p printer) {
	p("**Waiting** for one lock, each with a connection; then it goes round once:\n")
	p("| waiters | KiB of memory for each | server CPU while all wait, %% of a core | until all had it, s |")
	p("|---|---|---|---|")
	for _, w := range r.Waiting {
		p("| %s | %s | %s | %s |", thousands(float64(w.Waiters)), positive(w.Bytes/1024), digits(w.CPU*100), digits(w.DrainSec))
	}
	p("")
}

func (r *scaleResults) sessionTable(p printer) {
	p("**Sessions** that hold nothing:\n")
	p("| sessions | opened/s (server CPU, µs) | renewals/s (µs) | bytes of memory for each |")
	p("|---|---|---|---|")
	for _, s := range r.Sessions {
		p("| %s | %s | %s | %s |", thousands(float64(s.Sessions)), s.Open, s.Renew, digits(s.Bytes))
	}
	p("")
}

func (r *scaleResults) nameTable(p printer) {
	p("**Names that come and go**, each once, on one server. What is remembered of them, spent keys and past holds, is bounded in number:\n")
	p("| names so far | pairs/s (server CPU, µs) | memory of the server, MiB | its directory, MiB |")
	p("|---|---|---|---|")
	for _, n := range r.Names {
		p("| %s | %s | %s | %s |", thousands(float64(n.Names)), n.Pair, digits(float64(n.Memory)/(1<<20)), digits(float64(n.Disk)/(1<<20)))
	}
}

func (c cost) String() string { return thousands(c.PerSecond) + " (" + digits(c.ServerCPU) + ")" }

func (s stalls) String() string { return digits(s.P50) + " / " + digits(s.P99) + " / " + digits(s.Max) }

// plots are the pictures, by their file names.
func (r *scaleResults) plots() map[string]string {
	var table []curve
	for _, op := range r.ops() {
		c := curve{name: op}
		for _, t := range r.Table {
			if t.What == op {
				c.x, c.y = append(c.x, float64(t.Held)), append(c.y, t.NS)
			}
		}
		table = append(table, c)
	}
	take, renew, pair := curve{name: "acquire"}, curve{name: "renewal"}, curve{name: "pair of other names"}
	for _, h := range r.Held {
		for _, c := range []struct {
			*curve
			cpu float64
		}{{&take, h.Take.ServerCPU}, {&renew, h.Renew.ServerCPU}, {&pair, h.Pair.ServerCPU}} {
			c.x, c.y = append(c.x, float64(h.Locks)), append(c.y, c.cpu)
		}
	}
	return map[string]string{
		"scale-table.svg": lines("The lock table alone: ns for an operation", "locks held", table),
		"scale-held.svg":  lines("Server CPU for a request, µs", "locks held", []curve{take, renew, pair}),
	}
}
