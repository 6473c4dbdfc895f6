package ddtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/client"
	"github.com/doubledutch-lock/doubledutch/client/ddtest"
)

// makeReport writes a report of ten pages. Two at a time would mix their pages.
func makeReport(ctx context.Context, c *client.Client, to *archive) error {
	lease, err := c.Lock(ctx, "report", client.TTL(ttl))
	if err != nil {
		return err
	}
	defer func() { _ = lease.Unlock(ctx) }()
	work, cancel := lease.With(ctx) // ends with the lease
	defer cancel()
	for page := range 10 {
		if err := compute(work); err != nil {
			return err
		}
		if err := to.write(lease.Token(), fmt.Sprint("page ", page)); err != nil {
			return err
		}
	}
	return nil
}

const ttl = 9 * time.Second

// compute takes ten seconds. It ends early when ctx does, and says why.
func compute(ctx context.Context) error {
	select {
	case <-time.After(10 * time.Second):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// archive is where reports go. It refuses writers that are late.
type archive struct {
	mu     sync.Mutex // guards all below
	newest uint64
	pages  []string
}

var errLate = errors.New("somebody with a newer token has written")

func (a *archive) write(token uint64, page string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if token < a.newest {
		return errLate
	}
	a.newest, a.pages = token, append(a.pages, page)
	return nil
}

func (a *archive) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.pages)
}

// start runs makeReport against a server of the test, in virtual time.
func start(t *testing.T, options ...ddtest.Option) (*ddtest.Server, *archive, <-chan error) {
	t.Helper()
	s := ddtest.Start(t, append(options, ddtest.InMemory())...)
	c, err := client.New(s.Endpoints(), client.WithHTTPClient(s.HTTPClient()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	a, done := &archive{}, make(chan error, 1)
	go func() { done <- makeReport(t.Context(), c, a) }()
	return s, a, done
}

func TestNothingGoesWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, done := start(t)
		if err := <-done; err != nil || a.len() != 10 {
			t.Errorf("%d pages, %v", a.len(), err)
		}
		s.Take("report") // it was given back
	})
}

func TestStopsWhenTheLeaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, done := start(t)
		time.Sleep(55 * time.Second)
		s.Expire("report")
		lost := time.Now()
		if err := <-done; !errors.Is(err, client.ErrLost) {
			t.Errorf("it ended with %v", err)
		}
		if a.len() != 5 || time.Since(lost) > ttl {
			t.Errorf("it wrote %d pages, and stopped after %v", a.len(), time.Since(lost))
		}
	})
}

func TestWritesNothingBehindTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, done := start(t)
		time.Sleep(49 * time.Second)
		s.Every(ddtest.Renew).Swallow() // so that the program cannot know in time
		s.Expire("report")
		rival := s.Take("report")
		if err := a.write(rival.Token, "cover"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, errLate) {
			t.Errorf("it ended with %v", err)
		}
		if last := a.pages[len(a.pages)-1]; last != "cover" {
			t.Errorf("behind the next one it wrote %s", last)
		}
	})
}

func TestStopsInTimeWhenNoServerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, done := start(t)
		time.Sleep(51 * time.Second)
		s.Hang() // at 60 s, when the next page is due, others can have the lock
		if err := <-done; !errors.Is(err, client.ErrLost) {
			t.Errorf("it ended with %v", err)
		}
		if a.len() != 5 {
			t.Errorf("it wrote %d pages", a.len())
		}
		s.Resume()
	})
}

func TestOutlivesSmallTroubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, done := start(t, ddtest.Nodes(3))
		s.Next(ddtest.Renew).LoseAnswer()
		s.Next(ddtest.Renew).Delay(2 * time.Second)
		s.Next(ddtest.Renew).Refuse(503, "unavailable")
		time.Sleep(30 * time.Second)
		s.FailOver()
		time.Sleep(20 * time.Second)
		s.Restart()
		if err := <-done; err != nil || a.len() != 10 {
			t.Errorf("%d pages, %v", a.len(), err)
		}
	})
}
