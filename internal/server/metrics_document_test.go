package server

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var metricRow = regexp.MustCompile("(?m)^\\| (`doubledutch_[^|]*) \\|")

// documentedMetrics are the names in the first cells of tables: in full, or after the first one without the prefix.
func documentedMetrics(t *testing.T, paths ...string) []string {
	t.Helper()
	var names []string
	for _, path := range paths {
		text, err := os.ReadFile("../../" + path)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range metricRow.FindAllStringSubmatch(string(text), -1) {
			for i, cell := range strings.Split(row[1], "`") {
				if i%2 == 0 {
					continue
				}
				name, _, _ := strings.Cut(cell, "{")
				if strings.HasPrefix(name, "_") {
					name = namespace + name
				}
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// TestMetricsAreDocumented: the documents list what is served, no more and no less, each once.
func TestMetricsAreDocumented(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/tasks/scheduled", `{"every":60}`) // there is a calendar from now on
	families, err := d.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var served []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), namespace+"_") {
			served = append(served, f.GetName())
		}
	}
	slices.Sort(served)
	documented := documentedMetrics(t, "docs/operations.md", "docs/cluster.md")
	for _, name := range served {
		if !slices.Contains(documented, name) {
			t.Errorf("%s is served and not documented", name)
		}
	}
	for i, name := range documented {
		switch {
		case !slices.Contains(served, name):
			t.Errorf("%s is documented and not served", name)
		case i > 0 && documented[i-1] == name:
			t.Errorf("%s is documented twice", name)
		}
	}
}
