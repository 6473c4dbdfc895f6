package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// sick is a Backend that reports trouble and does nothing else.
type sick struct{ Backend }

var errSick = errors.New("it is sick")

func (sick) Status() node.Status { return node.Status{Pending: 7, DiskStall: 2500 * time.Millisecond} }

func (sick) ClusterStats() node.ClusterStats { return node.ClusterStats{Candidacies: 3, Voters: 3} }

func (sick) Members(context.Context) []node.MemberStatus {
	return []node.MemberStatus{{Name: "n1", Reachable: true, AppliedIndex: 9}, {Name: "n2"}}
}

func (sick) Read(context.Context, func(*locktable.Table, locktable.Time)) error { return errSick }

// TestTroubleIsMeasured: what an operator needs in trouble is there although the table cannot be asked.
func TestTroubleIsMeasured(t *testing.T) {
	m := NewMetrics()
	m.watch(sick{})
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"doubledutch_pending_commands 7\n", "doubledutch_disk_stall_seconds 2.5\n", "doubledutch_ready 0\n",
		"doubledutch_has_leader 0\n", "doubledutch_leader 0\n", "doubledutch_candidacies_total 3\n", `doubledutch_members{suffrage="voter"} 3`,
		`doubledutch_member_reachable{member="n1"} 1`, `doubledutch_member_reachable{member="n2"} 0`,
		`doubledutch_member_applied_index{member="n1"} 9`, `doubledutch_peer_calls_total{outcome="broken"} 0`,
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(text.String(), `applied_index{member="n2"}`) {
		t.Error("a number of a member that did not answer was guessed")
	}
	if strings.Contains(text.String(), "doubledutch_waiters") {
		t.Error("a number of the table was guessed")
	}
}

// TestLogAttributes: durations are readable in both formats, and errors have the key that all rooms use.
func TestLogAttributes(t *testing.T) {
	var log bytes.Buffer
	s, err := New(Config{Backend: sick{}, Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/locks", http.NoBody)
	r.Host = "localhost"
	s.ServeHTTP(httptest.NewRecorder(), r)
	var failed, request struct{ Msg, Error, Took string }
	lines := json.NewDecoder(&log)
	if err := errors.Join(lines.Decode(&failed), lines.Decode(&request)); err != nil {
		t.Fatal(err)
	}
	if failed.Error != errSick.Error() {
		t.Errorf("the error is told as %+v", failed)
	}
	if _, err := time.ParseDuration(request.Took); err != nil || request.Msg != "request" {
		t.Errorf("%v in %+v", err, request)
	}
}
