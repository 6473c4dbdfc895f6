//go:build linux && !race

package counts

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A bound is the most that something may take. It stands a little above what was measured when it was set: what varies with
// the scheduler or the garbage collector fits in between, one allocation more does not.
//
// Whoever makes something cheaper lowers its bound in the same commit, so that it stays so. Whoever has to raise one says in
// the commit what is gained for it. docs/testing.md lists them all, and is held against this list.
type bound struct {
	what string
	most float64
	unit string
}

var (
	seedAcquireAllocs = bound{"a seed acquire, in its handler", 4, "allocations"}
	seedReleaseAllocs = bound{"a seed release, in its handler", 4, "allocations"}
	v1AcquireAllocs   = bound{"a v1 acquire, in its handler", 7, "allocations"}
	v1RenewAllocs     = bound{"a v1 renewal, in its handler", 8, "allocations"}
	v1ReleaseAllocs   = bound{"a v1 release, in its handler", 3, "allocations"}
	wholeAcquire      = bound{"a seed acquire, from socket to socket", 34, "allocations"}
	wholeRelease      = bound{"a seed release, from socket to socket", 29, "allocations"}

	requestReads  = bound{"reading a request", 1.5, "calls"}
	requestWrites = bound{"writing an answer", 1, "calls"}
	allCalls      = bound{"a request to a volatile server, with all that the runtime does", 8, "calls"}

	pairEntries    = bound{"an acquire and a release by one client", 2, "log entries"}
	handOffEntries = bound{"a release that grants to the next in the queue", 1, "log entries"}
	renewEntries   = bound{"a renewal by one client", 1, "log entries"}
	batchEntries   = bound{"1,000 commands that came while the log was busy", 2, "log entries"}
	pairBytes      = bound{"an acquire and a release by one client", 160, "bytes of log entries"}
	batchBytes     = bound{"an acquire in a batch of 500", 80, "bytes of log entries"}

	entrySyncs   = bound{"an entry of the log", 1, "syncs"}
	tickSyncs    = bound{"a second in which nothing happens but something could expire", 1, "syncs"}
	idleSyncs    = bound{"any time in which nothing could expire", 0, "syncs"}
	entryWritten = bound{"an entry with one acquire or release", 160, "bytes written to the log"}

	heldBytes     = bound{"a held lock, of 100,000", 330, "bytes"}
	sessionBytes  = bound{"a session that holds nothing, of 100,000", 350, "bytes"}
	snapshotBytes = bound{"a held lock in a snapshot", 80, "bytes"}
	leftBytes     = bound{"each of 100,000 names that came, went and were forgotten", 10, "bytes"}
	leftTwice     = bound{"each of 100,000 more of them", 1, "bytes"}

	parkedBytes      = bound{"a client that waits, of 1,000", 21_000, "bytes"}
	parkedGoroutines = bound{"a client that waits", 1.1, "goroutines"}
	idleBytes        = bound{"a connection that is kept alive, of 1,000", 12_000, "bytes"}
	idleGoroutines   = bound{"a connection that is kept alive", 1.1, "goroutines"}
)

var bounds = []bound{
	seedAcquireAllocs, seedReleaseAllocs, v1AcquireAllocs, v1RenewAllocs, v1ReleaseAllocs, wholeAcquire, wholeRelease,
	requestReads, requestWrites, allCalls,
	pairEntries, handOffEntries, renewEntries, batchEntries, pairBytes, batchBytes,
	entrySyncs, tickSyncs, idleSyncs, entryWritten,
	heldBytes, sessionBytes, snapshotBytes, leftBytes, leftTwice,
	parkedBytes, parkedGoroutines, idleBytes, idleGoroutines,
}

// holds fails the test if got is beyond the bound.
func (b bound) holds(t *testing.T, got float64) {
	t.Helper()
	t.Logf("%s: %.4g %s, at most %s", b.what, got, b.unit, b.number())
	if got > b.most {
		t.Errorf("%s takes %.6g %s, at most %s were allowed: make it cheaper, or say in the commit that raises the bound (bounds_test.go) what that buys",
			b.what, got, b.unit, b.number())
	}
}

func (b bound) number() string { return strconv.FormatFloat(b.most, 'f', -1, 64) }

// row is its line of the table in docs/testing.md.
func (b bound) row() string { return fmt.Sprintf("| %s | %s %s |\n", b.what, b.number(), b.unit) }

func TestDocumentListsTheBounds(t *testing.T) {
	page, err := os.ReadFile("../../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, b := range bounds {
		want.WriteString(b.row())
	}
	if !strings.Contains(string(page), "|---|---|\n"+want.String()+"\n") {
		t.Errorf("docs/testing.md does not list the bounds as they are:\n%s", want.String())
	}
}
