package node

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// A peer that is gone does not fill the log of those who miss it.
func TestComplaintsAboutAPeerAreToldOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var live atomic.Bool
		live.Store(true)
		l := raftLogger(slog.New(slog.NewTextHandler(&out, nil)), &live)
		for range 25 { // seconds
			for range 5 {
				l.Error("failed to appendEntries to", "peer", raft.Server{ID: "n2"}, "error", errors.New("refused"))
				l.Error("failed to appendEntries to", "peer", raft.Server{ID: "n3"}, "error", errors.New("refused"))
				l.Warn("failed to contact", "server-id", "n2", "time", time.Second)
			}
			l.Error("failed to take snapshot", "error", "the disk is broken")
			time.Sleep(time.Second) // virtual
		}
		for what, want := range map[string]int{
			"failed to appendEntries to": 6, "n2": 6, "n3": 3, "failed to contact": 3, "failed to take snapshot": 25,
		} {
			if got := strings.Count(out.String(), what); got != want {
				t.Errorf("%q is told %d times, want %d", what, got, want)
			}
		}
	})
}
