//go:build linux

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// TestSnapshot makes a server write so much that it takes a snapshot and drops the log before it, kills it, and
// damages what is left.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	const clients, most = 64, 60_000
	old := oldData{}
	s := start(t, options{plain: true})
	for i := range 20 {
		c := &claim{name: fmt.Sprintf("%sKept%d", canaryName, i), key: newKey(), state: acked, ttl: 3600, renewed: time.Now()}
		c.token = s.acquire(c.name, request{Key: c.key, TTL: c.ttl}).Token
		old.claims = append(old.claims, c)
	}
	place := s.parkInOrder(old.claims[0].name, 1, request{TTL: 600, Wait: 600})[0]
	ballast := strings.Repeat("m", 4000)
	taken := func() bool { return strings.Contains(s.err.String(), `"msg":"snapshot taken"`) }
	var enough atomic.Bool
	inParallel(clients, most, func(i int) {
		if i%500 == 0 && taken() {
			enough.Store(true)
		}
		if enough.Load() {
			return
		}
		name := fmt.Sprintf("%sBallast%d", canaryName, i) // which ends at once by itself
		if r := s.tryAcquire(context.Background(), name, request{Key: newKey(), TTL: 0.001, Metadata: ballast}); !r.ok() {
			t.Errorf("acquire %d: %v", i, r)
		}
	})
	if !taken() {
		t.Fatal("no snapshot was taken")
	}
	old.highest = s.acquire(canaryName+"Last", request{}).Token
	s.kill()
	old.dir = s.dir
	damageSnapshots(t, old)

	s = s.restart()
	w := &workload{s: s, claims: old.claims, highest: old.highest}
	w.verify(t, s)
	h := decode[holdsView](t, s.holds(place.key))
	if h.Held || len(h.Locks) != 1 || h.Locks[0].Position != 1 {
		t.Errorf("the place in the queue came back as %+v", h)
	}
}

// damageSnapshots flips a bit in each file of the snapshots in turn. Where the log does not reach back far enough to do
// without, the server must refuse to start.
func damageSnapshots(t *testing.T, old oldData) {
	t.Helper()
	damaged := 0
	for _, file := range filesOf(t, old.dir) {
		if !strings.HasPrefix(file, "snapshots/") {
			continue
		}
		damaged++
		dir := old.copy(t)
		flip(t, filepath.Join(dir, file))
		s := launch(t, options{dir: dir, plain: true})
		if s.comesUp() {
			w := &workload{s: s, claims: old.claims, highest: old.highest}
			w.verify(t, s)
			s.kill()
			t.Logf("%s: healed", filepath.Base(file))
			continue
		}
		if code := s.exit(soon); code != exitcode.StorageDamaged {
			t.Errorf("%s: the server ended with %d", file, code)
		}
		t.Logf("%s: refused", filepath.Base(file))
	}
	if damaged < 2 {
		t.Errorf("the snapshots have only %d files", damaged)
	}
}
