package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"
)

func sample() *results {
	r := &results{Date: "2026-01-02", Machine: machine{CPU: "x", Cores: 2, SyncUS: 150}, Rounds: 2, Seconds: 1, Handoff: 32, Waiters: 100}
	for i, s := range systems() {
		o := &outcome{System: s, Version: "1." + s.Name}
		for round := range 3 {
			for _, n := range []int{1, 64} {
				o.Pairs = append(o.Pairs, pairsRun{Clients: n, PerSecond: float64(1000*n + 100*i + round), ServerCPU: float64(20 + i), P50: 1, P99: 2})
			}
			o.Handoffs = append(o.Handoffs, handoffRun{PerSecond: 1234, P50: 0.05, P99: 0.2, Most: 3, Least: int64(i % 2)})
		}
		if i > 0 {
			o.Hold, o.Wait = &holdRun{Locks: 5000, PerSecond: 1000, Bytes: -1, Renewals: float64(i % 2)}, &waitRun{Waiters: 100, Bytes: 2048}
		}
		r.Systems = append(r.Systems, o)
	}
	r.Systems[10].Failures = []string{"it broke\nwith a log"}
	r.Systems = append(r.Systems, &outcome{System: &System{Name: "Nothing"}})
	return r
}

func TestPage(t *testing.T) {
	text := sample().text()
	for _, want := range []string{
		"| **DoubleDutch, volatile** | no | 1,001 / 64,001 | 20.0 | 0.00 | 1.00 / 2.00 |",
		"| Nothing |  | - / - | - | - | - |",
		"| **DoubleDutch, volatile** | 1,234 | 0.05 / 0.20 | 0.00 | one got none |",
		"| ZooKeeper, one node | 5,000 | 1,000 | - | by the client |",
		"| ZooKeeper, one node | 1.ZooKeeper, one node |",
		"Failed, ZooKeeper, one node: it broke.",
		"| one node, pairs/s with 64 clients | at least 4 × etcd's | 0.99 ×: **missed** |",
		"| one node, server CPU with 64 clients | at most 30 µs/pair | 21.0 µs: met |",
		"| volatile, hand-off | p50 at most 0.1 ms, p99 at most 3 × p50 | 0.05 ms: met; p99 4.0 ×: **missed** |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not have %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "%!") || strings.Contains(text, "NaN") {
		t.Errorf("a number is missing:\n%s", text)
	}
}

func TestPageHasItsPlace(t *testing.T) {
	page, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	once, err := peerMarks.replaceBetween(string(page), "new text")
	if err != nil || strings.Count(once, "new text") != 1 {
		t.Fatalf("%v in %s", err, once)
	}
	if twice, err := peerMarks.replaceBetween(once, "newer text"); err != nil || strings.Contains(twice, "new text") || len(twice) != len(once)+2 {
		t.Errorf("%v in %s", err, twice)
	}
	if _, err := peerMarks.replaceBetween("no marks", "x"); err == nil {
		t.Error("a page without marks was written")
	}
}

func TestPlotsAreSVG(t *testing.T) {
	plots := sample().plots()
	plots["empty.svg"] = (&results{}).plots()["pairs.svg"]
	if len(plots) != 4 {
		t.Errorf("%d plots", len(plots))
	}
	for name, svg := range plots {
		texts := 0
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "text" {
				texts++
			}
		}
		if texts < 3 || strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") || strings.Contains(svg, "%!") {
			t.Errorf("%s has %d texts:\n%s", name, texts, svg)
		}
	}
}

func TestNumbers(t *testing.T) {
	if m := median([]float64{3, 1, 2}); m != 2 {
		t.Errorf("median %g", m)
	}
	if m := median([]float64{4, 1}); m != 1 {
		t.Errorf("median %g", m)
	}
	for n, want := range map[float64]string{0.123: "0.12", 12.34: "12.3", 1234.5: "1,234", -1234: "-1,234", 999.7: "1,000"} {
		if got := digits(n); got != want {
			t.Errorf("%g is %s", n, got)
		}
	}
	s := newLogScale([]float64{0, 3, 250}, 0, 300)
	if s.low != 1 || s.high != 1000 || s.at(1) != 0 || math.Abs(s.at(10)-100) > 1e-9 || s.at(5000) != 300 || len(s.ticks()) != 4 {
		t.Errorf("%+v", s)
	}
	moved := apart([]float64{50, 10, 12, 30}, 15)
	if moved[1] != 10 || moved[2] != 25 || moved[3] != 40 || moved[0] != 55 {
		t.Errorf("%v", moved)
	}
}

func TestChoose(t *testing.T) {
	there := &System{Name: "there", programs: []string{"sh"}}
	absent := &System{Name: "Absent", programs: []string{"sh", "no-such-program"}, packages: []string{"b", "a", "b"}}
	all := []*System{there, absent}
	if _, err := choose(all, &options{}); err == nil || !strings.Contains(err.Error(), "apt-get install --no-install-recommends a b (") {
		t.Errorf("what is missing: %v", err)
	}
	for _, o := range []*options{{partial: true}, {only: "x, THERE"}} {
		if got, err := choose(all, o); err != nil || len(got) != 1 || got[0] != there {
			t.Errorf("%+v: %v, %v", o, got, err)
		}
	}
	if _, err := choose(all, &options{only: "absent", partial: true}); err == nil {
		t.Error("nothing was chosen, and nothing said")
	}
}

// The page can be written anew from the figures.
func TestRender(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/docs/plots", 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"plots/peers.json": string(text), "performance.md": "a\n" + peerMarks.begin + "\nold\n" + peerMarks.end + "\nz\n"} {
		if err := os.WriteFile(dir+"/docs/"+name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(t.Context(), &options{render: true, out: dir}); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(dir + "/docs/performance.md")
	if err != nil || !strings.Contains(string(page), strings.TrimSpace(sample().text())) || !strings.HasPrefix(string(page), "a\n") || !strings.HasSuffix(string(page), "\nz\n") {
		t.Errorf("%v in %s", err, page)
	}
	for name, svg := range sample().plots() {
		if got, err := os.ReadFile(dir + "/docs/plots/" + name); err != nil || string(got) != svg {
			t.Errorf("%s: %v", name, err)
		}
	}
}
