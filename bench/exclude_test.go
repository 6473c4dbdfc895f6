package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestLocksExclude shows that what is measured are locks: in the way in which each system is used here, nobody has one while
// somebody else has it. A system that is not installed is skipped.
func TestLocksExclude(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds etcd and starts every system: make bench-test")
	}
	shared := t.TempDir()
	for dir := shared; len(dir) > len(os.TempDir()); dir = dir[:strings.LastIndexByte(dir, '/')] {
		if err := os.Chmod(dir, 0o755); err != nil { // some servers run as another user
			t.Fatal(err)
		}
	}
	if err := build(t.Context(), "..", shared); err != nil {
		t.Fatal(err)
	}
	skipped := 0
	for _, s := range systems() {
		t.Run(s.Name, func(t *testing.T) {
			if missing := s.missing(); len(missing) > 0 {
				skipped++
				t.Skipf("not installed: %v", missing)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			h, err := newHost(shared)
			if err != nil {
				t.Fatal(err)
			}
			defer h.stop()
			service, err := s.start(ctx, h)
			if err != nil {
				t.Fatal(err)
			}
			if service.version == "" || h.memory() <= 0 {
				t.Errorf("version %q, %d bytes of memory", service.version, h.memory())
			}
			b := &bench{host: h, service: service}
			clients, hangUp, err := b.dial(ctx, 6)
			if err != nil {
				t.Fatal(err)
			}
			defer hangUp()
			before := h.cpu()
			if err := exclude(ctx, clients, 15); err != nil {
				t.Error(err)
			}
			if h.cpu() < before {
				t.Error("the servers' CPU time went back")
			}
		})
	}
	t.Logf("%d of %d systems were skipped", skipped, len(systems()))
}

// exclude lets every client have the lock so many times, and says when two of them had it at once.
func exclude(ctx context.Context, clients []client, times int) error {
	var inside, intruders, turns atomic.Int64
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for range times {
				lock, err := c.lock(ctx, "one")
				if err != nil {
					errs[i] = err
					return
				}
				if inside.Add(1) > 1 {
					intruders.Add(1)
				}
				turns.Add(1)
				time.Sleep(time.Millisecond) // so that somebody who can come in does
				inside.Add(-1)
				if errs[i] = lock.unlock(ctx); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if n := intruders.Load(); n > 0 {
		errs = append(errs, fmt.Errorf("%d times somebody came in while another one had the lock", n))
	}
	if want := int64(len(clients) * times); errors.Join(errs...) == nil && turns.Load() != want {
		errs = append(errs, fmt.Errorf("%d turns of %d", turns.Load(), want))
	}
	return errors.Join(errs...)
}

// open is a lock that excludes nobody; real is one of this process.
type open struct{}

func (open) lock(context.Context, string) (held, error) { return open{}, nil }
func (open) unlock(context.Context) error               { return nil }
func (open) close()                                     {}

type real struct{ sync.Mutex }

func (r *real) lock(context.Context, string) (held, error) {
	r.Lock()
	return r, nil
}

func (r *real) unlock(context.Context) error {
	r.Unlock()
	return nil
}

func (*real) close() {}

// TestExclude shows that the test above can fail, and that it does not when all is well.
func TestExclude(t *testing.T) {
	if err := exclude(t.Context(), []client{open{}, open{}, open{}, open{}}, 20); err == nil {
		t.Error("nobody was seen inside an open lock")
	}
	r := &real{}
	if err := exclude(t.Context(), []client{r, r, r}, 20); err != nil {
		t.Error(err)
	}
}
