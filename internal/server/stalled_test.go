package server

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// heldUp is an Observer that holds up the log: while the gate is there, no entry comes to its end.
type heldUp struct{ gate atomic.Pointer[chan struct{}] }

func (h *heldUp) Applied([]*command.Command, []locktable.Outcome, []locktable.Event) {
	if g := h.gate.Load(); g != nil {
		<-*g
	}
}

func (*heldUp) Committed(int, time.Duration) {}

// TestNothingStaysOfAnUnknownAcquire answers 503 to clients that know no key, while their acquires are on their way
// through a log that stands still. When it moves again the acquires are decided, and taken back.
func TestNothingStaysOfAnUnknownAcquire(t *testing.T) {
	for _, c := range [][2]string{
		{"GET", "/getLock/a"},
		{"GET", "/getLock/a?timeout=60"},
		{"GET", "/getlock?lockname=a"},
		{"GET", "/getlock?lockname=a&timeout=-1"},
		{"POST", "/v1/locks/a"},
	} {
		t.Run(c[1], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { acquireInStall(t, c[0], c[1]) })
		})
	}
}

func acquireInStall(t *testing.T, method, path string) {
	log := &heldUp{}
	n, err := node.Open(t.Context(), node.Config{Observer: log})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Backend: n, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	gate := make(chan struct{})
	log.gate.Store(&gate)
	// The first is applied and not answered; the second is still before the log; for the third nothing new is taken on.
	first := make(chan *httptest.ResponseRecorder, 1)
	go func() { first <- ask() }()
	synctest.Wait()
	for i, w := range []*httptest.ResponseRecorder{ask(), ask(), <-first} {
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("answer %d: %d %q", i, w.Code, w.Body)
		}
	}
	log.gate.Store(nil)
	close(gate)
	synctest.Wait()
	var stats locktable.Stats
	if err := n.Read(t.Context(), func(tb *locktable.Table, _ locktable.Time) { stats = tb.Stats() }); err != nil {
		t.Fatal(err)
	}
	if stats.LastToken == 0 || stats.Locks != 0 || stats.Waiters != 0 {
		t.Errorf("it should have been granted, and nothing should be left: %+v", stats)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
