package storage

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A single write or sync that hangs ends the start, which says before what it is at.
func TestHangingStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		o := Options{Logger: book.logger(), HangTimeout: 10 * time.Second}.withDefaults()
		g := newQuietGuard()
		block := make(chan struct{})
		late := OpenVolatile(Options{})
		began := time.Now()
		_, err := supervise(o, g, func() (*Store, error) {
			err := g.step("sync the thing", func() error { <-block; return nil })
			return late, err
		})
		took := time.Since(began)
		var f *FailedError
		if !errors.As(err, &f) || !errors.Is(err, ErrHung) || f.Op != "sync the thing" {
			t.Fatal(err)
		}
		if took < 10*time.Second || took > 11*time.Second {
			t.Errorf("it took %v", took)
		}
		book.want(t, "preparing the log takes long")
		book.want(t, "sync the thing")
		close(block)
		<-late.stop // what comes back later is closed
	})
}

// Many slow steps are no hang, and no silence either.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		o := Options{Logger: book.logger(), HangTimeout: 10 * time.Second}.withDefaults()
		g := newQuietGuard()
		want := OpenVolatile(Options{})
		s, err := supervise(o, g, func() (*Store, error) {
			for range 5 {
				if err := g.step("x", func() error { time.Sleep(9 * time.Second); return nil }); err != nil {
					return nil, err
				}
			}
			return want, nil
		})
		if s != want || err != nil || g.err() != nil {
			t.Fatal(s, err, g.err())
		}
		if n := book.count("preparing the log takes long"); n != 5 { // after 2, 12, 22, 32 and 42 s
			t.Errorf("it said %d times what it is at", n)
		}
	})
}

func TestQuickStartIsSilent(t *testing.T) {
	var book logBook
	o := options(t, t.TempDir())
	o.Logger = book.logger()
	mustOpen(t, o)
	if book.count("takes long") != 0 {
		t.Error("a quick start says that it takes long")
	}
}

// Failures of the disk are told apart from others, and what failed first from what came of it.
func TestStartFailure(t *testing.T) {
	g := newQuietGuard()
	var f *FailedError
	for _, err := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, failed("x", unix.EROFS)} {
		if got := startFailure("d", g, err); !errors.As(got, &f) || !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
	}
	for _, err := range []error{ErrLocked, ErrNewer, unix.EACCES, corrupt("p", "w")} {
		if got := startFailure("d", g, err); errors.As(got, &f) {
			t.Errorf("%v became %v", err, got)
		}
	}
	_ = g.fail("sync", unix.EIO)
	if got := startFailure("d", g, corrupt("p", "what came of it")); !errors.Is(got, unix.EIO) {
		t.Errorf("the first failure was lost: %v", got)
	}
}
