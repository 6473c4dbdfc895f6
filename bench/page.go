package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// marks are the lines of docs/performance.md between which the results of a program stand.
type marks struct{ begin, end string }

var peerMarks = marks{
	begin: "<!-- bench-peers: written by `make bench-peers` from here on -->",
	end:   "<!-- bench-peers: end -->",
}

// publish writes the page's part and the plots.
func publish(root string, r *results) error {
	if err := rewritePage(root, peerMarks, r.text()); err != nil {
		return err
	}
	for name, svg := range r.plots() {
		if err := os.WriteFile(filepath.Join(root, "docs", "plots", name), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// rewritePage puts text between the marks of docs/performance.md.
func rewritePage(root string, m marks, text string) error {
	page := filepath.Join(root, "docs", "performance.md")
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	new, err := m.replaceBetween(string(old), text)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(new), 0o644)
}

// replaceBetween puts text between the marks.
func (m marks) replaceBetween(page, text string) (string, error) {
	before, rest, ok1 := strings.Cut(page, m.begin)
	_, after, ok2 := strings.Cut(rest, m.end)
	if !ok1 || !ok2 {
		return "", fmt.Errorf("the lines %q and %q are not there", m.begin, m.end)
	}
	return before + m.begin + "\n\n" + strings.TrimSpace(text) + "\n\n" + m.end + after, nil
}

// text is the part of the page.
func (r *results) text() string {
	var b strings.Builder
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) }
	p("Measured on %s: %d cores (%s), Linux %s, %s; load before the run %.1f. 4 KiB appended and synced took %.0f µs. Each figure is the",
		r.Date, r.Machine.Cores, r.Machine.CPU, r.Machine.Kernel, r.Machine.Go, r.Machine.Load, r.Machine.SyncUS)
	p("median of %d rounds of %g s, in which the systems took turns. The clients run on the same cores; CPU is that of all processes of a", r.Rounds, r.Seconds)
	p("system, without its clients. All figures: [peers.json](plots/peers.json).\n")
	r.pairsTable(p)
	r.handoffTable(p)
	r.holdTable(p)
	r.waitTable(p)
	r.ratioTable(p)
	r.settingsTable(p)
	r.failureList(p)
	return b.String()
}

type printer func(format string, args ...any)

// clientCounts are the numbers of clients that were measured, in order.
func (r *results) clientCounts() (counts []int) {
	for _, s := range r.Systems {
		if len(s.Pairs) == 0 {
			continue
		}
		seen := map[int]bool{}
		for _, run := range s.Pairs {
			if !seen[run.Clients] {
				seen[run.Clients] = true
				counts = append(counts, run.Clients)
			}
		}
		return counts
	}
	return nil
}

// compared is the number of clients at which CPU and latency are told.
const compared = 64

func (r *results) pairsTable(p printer) {
	counts := r.clientCounts()
	var names []string
	for _, n := range counts {
		names = append(names, strconv.Itoa(n))
	}
	p("**Acquire and release of a free lock** (a pair):\n")
	p("| system | kept on disk | pairs/s with %s clients | server CPU, µs/pair at %d | client CPU, µs/pair | acquire p50 / p99, ms |", strings.Join(names, " / "), compared)
	p("|---|---|---|---|---|---|")
	for _, s := range r.Systems {
		var rates []string
		for _, n := range counts {
			rates = append(rates, rate(s.pairs(n)))
		}
		at := s.pairs(compared)
		if at == nil {
			p("| %s | %s | %s | - | - | - |", s.title(), s.Kept, strings.Join(rates, " / "))
			continue
		}
		p("| %s | %s | %s | %s | %s | %s / %s |", s.title(), s.Kept, strings.Join(rates, " / "), digits(at.ServerCPU), digits(at.ClientCPU), digits(at.P50), digits(at.P99))
	}
	p("\n![pairs per second by the number of clients](plots/pairs.svg)\n")
	p("![server CPU of a pair](plots/cpu.svg)\n")
}

func (r *results) handoffTable(p printer) {
	p("**Hand-off** of one lock among %d waiters, from when the holder begins to release it to when another one knows that it has it. Where", r.Handoff)
	p("waiters only ask again now and then, who released it mostly takes it again at once: that is no hand-off, but the last column counts it.\n")
	p("| system | hand-offs/s | p50 / p99, ms | server CPU, µs | most / least served client |")
	p("|---|---|---|---|---|")
	for _, s := range r.Systems {
		h := s.handoff()
		if h == nil {
			p("| %s | - | - | - | - |", s.title())
			continue
		}
		fairness := "one got none"
		if h.Least > 0 {
			fairness = fmt.Sprintf("%.2f", float64(h.Most)/float64(h.Least))
		}
		p("| %s | %s | %s / %s | %s | %s |", s.title(), thousands(h.PerSecond), digits(h.P50), digits(h.P99), digits(h.ServerCPU), fairness)
	}
	p("\n![hand-off](plots/handoff.svg)\n")
}

func (r *results) holdTable(p printer) {
	p("**Held locks**, taken by %d clients (for at most %s):\n", holders, takeLimit)
	p("| system | locks | taken/s | bytes of memory for each | renewals/s (server CPU, µs) |")
	p("|---|---|---|---|---|")
	for _, s := range r.Systems {
		h := s.Hold
		if h == nil {
			p("| %s | - | - | - | - |", s.title())
			continue
		}
		renewals := "by the client"
		if h.Renewals > 0 {
			renewals = fmt.Sprintf("%s (%s)", thousands(h.Renewals), digits(h.RenewCPU))
		}
		p("| %s | %s | %s | %s | %s |", s.title(), thousands(float64(h.Locks)), thousands(h.PerSecond), positive(h.Bytes), renewals)
	}
	p("")
}

func (r *results) waitTable(p printer) {
	p("**Waiting**: %d clients, each with a connection, for one lock. Nothing happens but waiting; then the lock goes round once:\n", r.Waiters)
	p("| system | KiB of memory for each | server CPU while all wait, %% of a core | until all had it, s |")
	p("|---|---|---|---|")
	for _, s := range r.Systems {
		if w := s.Wait; w != nil {
			p("| %s | %s | %s | %s |", s.title(), positive(w.Bytes/1024), digits(w.CPU*100), digits(w.DrainSec))
		} else {
			p("| %s | - | - | - |", s.title())
		}
	}
	p("")
}

func (r *results) settingsTable(p printer) {
	p("Versions and settings; what is not named is the default:\n")
	p("| system | version | settings |")
	p("|---|---|---|")
	for _, s := range r.Systems {
		p("| %s | %s | %s |", s.Name, orDash(s.Version), s.Settings)
	}
	p("")
}

func (r *results) failureList(p printer) {
	for _, s := range r.Systems {
		for _, f := range s.Failures {
			first, _, _ := strings.Cut(f, "\n")
			p("Failed, %s: %s.\n", s.Name, first)
		}
	}
}

// title is the name as a table has it: ours are easy to find.
func (s *outcome) title() string {
	if s.Ours {
		return "**" + s.Name + "**"
	}
	return s.Name
}

func rate(p *pairsRun) string {
	if p == nil {
		return "-"
	}
	return thousands(p.PerSecond)
}

// positive is a number that is nothing when a server gave memory back while it was measured.
func positive(n float64) string {
	if n <= 0 {
		return "-"
	}
	return digits(n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// thousands is a whole number with commas.
func thousands(n float64) string {
	text := strconv.FormatFloat(n, 'f', 0, 64)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// digits is a number with the digits that matter.
func digits(n float64) string {
	switch {
	case n >= 100 || n <= -100:
		return thousands(n)
	case n >= 10:
		return strconv.FormatFloat(n, 'f', 1, 64)
	default:
		return strconv.FormatFloat(n, 'f', 2, 64)
	}
}
