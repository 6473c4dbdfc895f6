package server

import (
	"context"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// early is a Backend whose node has not found the others yet.
type early struct{ Backend }

func (early) Members(context.Context) []node.MemberStatus             { return nil }
func (early) ReadStale(func(*locktable.Table, uint64, time.Duration)) {}
func (early) Read(context.Context, func(t *locktable.Table, now locktable.Time)) error {
	return node.ErrUnavailable
}

// TestNodeThatHasNotFoundTheOthers: it says so, instead of showing an empty cluster or an empty table.
func TestNodeThatHasNotFoundTheOthers(t *testing.T) {
	d := openDoor(t)
	d.backend.Backend = early{d.backend.Backend}
	for _, path := range []string{"/v1/cluster", "/v1/locks?consistency=stale", "/v1/locks/a?consistency=stale", "/v1/locks/a"} {
		d.problem(503, CodeUnavailable, "GET", path, "")
	}
	d.want(200, "ok", "GET", "/healthz", "")
}

func (*echo) ClusterStats() node.ClusterStats { return node.ClusterStats{} }
