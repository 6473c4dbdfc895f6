//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// TestFailedSyncEndsTheServer makes one sync of a server at work fail. Nothing that needed it may be acknowledged.
func TestFailedSyncEndsTheServer(t *testing.T) {
	t.Parallel()
	needStrace(t)
	old := makeOld(t)
	for _, when := range []int{20, 33, 47} {
		t.Run(fmt.Sprintf("when=%d", when), func(t *testing.T) { failSync(t, when, old) })
	}
}

func failSync(t *testing.T, when int, old oldData) {
	trace, wrap := traceSyncs(t, fmt.Sprintf("error=EIO:when=%d", when))
	s := start(t, options{wrap: wrap, plain: true, dir: old.copy(t)})
	w := drive(s, 30*time.Second)
	if code := s.exit(soon); code != exitcode.StorageFailed {
		t.Fatalf("the server ended with %d, want %d", code, exitcode.StorageFailed)
	}
	if !strings.Contains(s.err.String(), "input/output error") {
		t.Error("the log does not say what failed")
	}
	if len(w.acks) < 10 {
		t.Errorf("only %d acknowledgements before", len(w.acks))
	}
	checkLastAcks(t, trace.syncs(t), w.acks)
	w.claims = append(w.claims, old.claims...)
	w.verify(t, s.restart())
}

// checkLastAcks expects that whatever was asked for after the last good sync was not acknowledged: it needed one of its own.
func checkLastAcks(t *testing.T, syncs []aSync, acks []reply) {
	t.Helper()
	var lastGood time.Time
	injected := false
	for _, y := range syncs {
		if y.injected {
			injected = true
			break
		}
		lastGood = y.began.Add(y.took)
	}
	if !injected {
		t.Fatal("no sync was made to fail")
	}
	for _, a := range acks {
		if a.sent.After(lastGood) {
			t.Errorf("acknowledged, although no sync has succeeded since it was sent: %v", a)
		}
	}
}

// TestFailedSyncAtTheStart makes the first start fail.
func TestFailedSyncAtTheStart(t *testing.T) {
	t.Parallel()
	needStrace(t)
	for _, when := range []int{1, 4, 8} {
		_, wrap := traceSyncs(t, fmt.Sprintf("error=EIO:when=%d", when))
		s := launch(t, options{wrap: wrap, plain: true})
		if s.comesUp() {
			t.Fatalf("when=%d: the server came up although a sync of its start failed", when)
		}
		if code := s.exit(soon); code != exitcode.StorageFailed {
			t.Errorf("when=%d: the server ended with %d, want %d", when, code, exitcode.StorageFailed)
		}
		if !strings.Contains(s.err.String(), "input/output error") {
			t.Errorf("when=%d: the message does not say what failed", when)
		}
		s.restart().acquire(canaryName, request{})
	}
}

// TestHangingDisk makes a sync take much longer than --hang-timeout. The process itself cannot go before strace lets go of the
// thread that hangs; that it has ended in its own eyes is told by its last message.
func TestHangingDisk(t *testing.T) {
	t.Parallel()
	needStrace(t)
	old := makeOld(t)
	const delay, timeout = 15 * time.Second, 4 * time.Second
	trace, wrap := traceSyncs(t, fmt.Sprintf("delay_enter=%d:when=25", delay.Microseconds()))
	s := start(t, options{wrap: wrap, plain: true, dir: old.copy(t), args: []string{"--hang-timeout", timeout.String()}})
	w := make(chan *workload, 1)
	go func() { w <- drive(s, 2*time.Minute) }()

	unready := false
	eventually(t, time.Minute, "the server gives up", func() bool {
		unready = unready || s.get("/readyz").status == http.StatusServiceUnavailable
		return strings.Contains(s.err.String(), fmt.Sprintf(`"exit_code":%d`, exitcode.StorageHung))
	})
	gaveUp := time.Now()
	if !unready {
		t.Error("the server never said that it is not ready")
	}
	if code := s.exit(time.Minute); code != exitcode.StorageHung {
		t.Errorf("the server ended with %d, want %d", code, exitcode.StorageHung)
	}
	syncs := trace.syncs(t)
	i := slices.IndexFunc(syncs, func(y aSync) bool { return y.injected })
	if i < 0 {
		t.Fatal("no sync was delayed")
	}
	hung := syncs[i]
	if took := gaveUp.Sub(hung.began); took < timeout || took > delay {
		t.Errorf("gave up after %v", took)
	}
	acks := <-w
	for _, a := range acks.acks {
		if a.sent.After(hung.began) {
			t.Errorf("acknowledged while the disk hung: %v", a)
		}
	}
	acks.claims = append(acks.claims, old.claims...)
	acks.verify(t, s.restart())
}

// TestFullDisk fills the disk of a running server: holders go on, newcomers are refused, until there is space again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 64<<20)
	s := start(t, options{dir: disk + "/data", plain: true})
	held := make([]grant, 50)
	for i := range held {
		held[i] = s.acquire(fmt.Sprintf("%sHeld%d", canaryName, i), request{Key: newKey(), TTL: 600})
	}
	session := newKey()
	if r := s.post("/v1/sessions", map[string]any{"id": session, "ttl": 600}); !r.ok() {
		t.Fatal(r)
	}
	waiter := s.park(held[0].Name, request{TTL: 600, Wait: 300})
	s.awaitQueue(held[0].Name, 1, soon)

	free := fill(t, disk)
	var refused reply
	tries := 0
	eventually(t, soon, "new locks are refused", func() bool {
		tries++
		refused = s.tryAcquire(context.Background(), fmt.Sprintf("%sTry%d", canaryName, tries), request{})
		return !refused.ok()
	})
	if p := problemOf(t, refused, http.StatusInsufficientStorage); p.Code != "disk_full" || refused.header.Get("Retry-After") == "" {
		t.Errorf("a new lock on a full disk: %v", refused)
	}
	if r := s.get("/getLock/" + canaryName + "New2"); r.status != http.StatusInsufficientStorage || !strings.HasSuffix(r.body, ".") {
		t.Errorf("a new lock of the seed interface on a full disk: %v", r)
	}
	if p := problemOf(t, s.post("/v1/sessions", map[string]any{}), http.StatusInsufficientStorage); p.Code != "disk_full" {
		t.Errorf("a new session on a full disk: %v", p)
	}
	useFull(t, s, held, session)
	if g := decode[grant](t, waiter.result(t, soon)); g.Token <= held[len(held)-1].Token {
		t.Errorf("the waiter has token %d", g.Token)
	}

	free()
	var again reply
	eventually(t, soon, "new locks are taken", func() bool {
		again = s.tryAcquire(context.Background(), canaryName+"New", request{Key: newKey()})
		return again.ok()
	})
	if s.isGone() {
		t.Fatal("the server ended")
	}
	s.kill()
	s = s.restart()
	if view := s.show(canaryName + "New"); !view.Held || view.Holders[0].Token != again.token() {
		t.Errorf("after the restart: %+v", view)
	}
}

// useFull does what holders do while the disk is full: for a good while, and then they release.
func useFull(t *testing.T, s *server, held []grant, session string) {
	t.Helper()
	for round := range 10 {
		for _, g := range held {
			if r := s.post(lockPath(g.Name)+"/renew", map[string]any{"key": g.Key, "ttl": 700}); !r.ok() {
				t.Fatalf("round %d: renew on a full disk: %v", round, r)
			}
		}
		if r := s.post("/v1/sessions/"+session+"/renew", map[string]any{}); !r.ok() {
			t.Fatalf("round %d: renew the session on a full disk: %v", round, r)
		}
	}
	for _, g := range held {
		r := s.tryAcquire(context.Background(), g.Name, request{Key: g.Key, TTL: 600})
		if r.token() != g.Token {
			t.Errorf("a retry on a full disk: %v", r)
		}
		s.release(g.Name, g.Key)
	}
}
