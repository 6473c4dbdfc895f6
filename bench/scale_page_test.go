package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func scaleSample() *scaleResults {
	c := cost{PerSecond: 12345.6, ServerCPU: 34.5}
	r := &scaleResults{Date: "2026-01-02", Version: "v1", Waiting: []waitRun{{Waiters: 10_000, Bytes: 26_000, CPU: .04, DrainSec: 4.5}}}
	for i, n := range heldSizes {
		r.Table = append(r.Table, tablePoint{"renew", n, 1000}, tablePoint{"hand-off", n, 2000 + float64(i)})
		r.Held = append(r.Held, heldPoint{Locks: n, Take: c, Renew: c, Pair: c, Bytes: 900, Restart: 1.5, Recover: 2.5, Snapshots: i, SnapshotBytes: int64(i) * 77_000_000})
	}
	r.Held[3].Snapshotting = &snapshotStalls{Seconds: 2, With: []float64{30, 10, 20}, Without: []float64{4, 16}}
	r.Sessions = []sessionPoint{{Sessions: 1000, Open: c, Renew: c, Bytes: 400}}
	r.Names = []namesPoint{{Names: 1000, Pair: c, Memory: 50 << 20, Disk: 100 << 20}}
	return r
}

func TestScalePageAndPlots(t *testing.T) {
	r := scaleSample()
	text := r.text()
	for _, want := range []string{
		"| renew | 1,000 | 1,000 | 1,000 | 1,000 |", "| hand-off | 2,000 | 2,001 | 2,002 | 2,003 |", "| 1,000,000 | 12,346 (34.5) | 12,346 (34.5) | 12,346 (34.5) | 900 | 1.50 / 2.50 | 231,000,000 bytes |",
		"| 1,000 | 12,346 (34.5) | 12,346 (34.5) | 12,346 (34.5) | 900 | 1.50 / 2.50 | none was due |", "| 10,000 | 25.4 | 4.00 | 4.50 |", "| 1,000,000 | 3 | 2.00 | 20.0 (30.0) | 16.0 (16.0) |", "| 1,000 | 12,346 (34.5) | 50.0 | 100 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "%!") || strings.Contains(text, "NaN") {
		t.Errorf("a number is missing:\n%s", text)
	}
	for name, svg := range r.plots() {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// The page has a place for the figures, and can be written anew from them.
func TestScaleRender(t *testing.T) {
	dir := t.TempDir()
	page, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(scaleSample())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/docs/plots", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"plots/scale.json": text, "performance.md": page} {
		if err := os.WriteFile(dir+"/docs/"+name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := scale(t.Context(), &options{render: true, out: dir}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dir + "/docs/performance.md")
	if err != nil || !strings.Contains(string(got), strings.TrimSpace(scaleSample().text())) {
		t.Errorf("%v in %s", err, got)
	}
}

func TestTableLinesAreRead(t *testing.T) {
	m := tableLine.FindStringSubmatch("x\nBenchmarkScale/begin_a_snapshot/held=1000000-2   352182   2776.5 ns/op\n")
	if len(m) != 4 || m[1] != "begin_a_snapshot" || m[2] != "1000000" || m[3] != "2776.5" {
		t.Errorf("read %q", m)
	}
}

func TestSizesUpTo(t *testing.T) {
	if got := upTo(heldSizes, 100_000); len(got) != 3 {
		t.Errorf("%v", got)
	}
	if got := upTo(heldSizes, 1); len(got) != 1 {
		t.Errorf("%v: something has to be measured", got)
	}
}

// Each snapshot's longest pair, with what comes right after it, and those of as long times that meet none.
func TestLongestPairs(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Unix(1000, 0).Add(d) }
	between := func(from, to time.Duration) span { return span{at(from), at(to)} }
	pairs := []span{
		between(0, 3*time.Millisecond), between(time.Second, time.Second+7*time.Millisecond),
		between(2*time.Second, 2*time.Second+20*time.Millisecond), between(2*time.Second+950*time.Millisecond, 2*time.Second+990*time.Millisecond),
		between(4*time.Second, 4*time.Second+5*time.Millisecond),
	}
	got := longestPairs(pairs, []span{between(2*time.Second, 2900*time.Millisecond)}, between(0, 6*time.Second))
	want := &snapshotStalls{Seconds: .9, With: []float64{40}, Without: []float64{3, 7, 0, 5, 0}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
