package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

func TestStorageCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{fmt.Errorf("x: %w", storage.ErrLocked), exitcode.DataDirInUse},
		{fmt.Errorf("x: %w", &storage.FailedError{Op: "sync", Err: syscall.EIO}), exitcode.StorageFailed},
		{fmt.Errorf("x: %w", &storage.FailedError{Op: "sync", Err: storage.ErrHung}), exitcode.StorageHung},
		{fmt.Errorf("x: %w", &storage.CorruptError{Path: "p", What: "w"}), exitcode.StorageDamaged},
		{fmt.Errorf("x: %w", command.ErrNotUnderstood), exitcode.StorageDamaged},
		{fmt.Errorf("x: %w", storage.ErrNewer), exitcode.StorageDamaged},
		{fmt.Errorf("%w; start it anew", node.ErrRemoved), exitcode.Removed},
		{errors.New("x"), exitcode.Failure},
	} {
		if got := exitcode.Of(startError(tt.err)); got != tt.want {
			t.Errorf("%v ends with %d, want %d", tt.err, got, tt.want)
		}
	}
}

// That a start was stopped is no error; what went wrong while it stopped is one.
func TestStoppedStart(t *testing.T) {
	stopped := fmt.Errorf("the node did not get to lead: %w", context.Canceled)
	for _, err := range []error{stopped, errors.Join(stopped, nil), fmt.Errorf("x: %w", errors.Join(stopped, context.Canceled))} {
		if got := startError(err); got != nil {
			t.Errorf("%v is told as %v", err, got)
		}
	}
	for _, err := range []error{
		errors.Join(stopped, &storage.FailedError{Op: "sync", Err: syscall.EIO}),
		fmt.Errorf("x: %w", errors.Join(&storage.FailedError{Op: "sync", Err: syscall.EIO}, stopped)),
	} {
		got := startError(err)
		if exitcode.Of(got) != exitcode.StorageFailed || !strings.Contains(got.Error(), "input/output error") || errors.Is(got, context.Canceled) {
			t.Errorf("%v is told as %v", err, got)
		}
	}
}
