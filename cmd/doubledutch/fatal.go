package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// die ends the process at once after a failure that the node cannot survive: whatever it could still acknowledge might
// not be on disk.
func die(log *slog.Logger, err error) {
	code := storageCode(err)
	log.Error("the server stops at once: "+err.Error(), "exit_code", code)
	os.Exit(code)
}

// startError explains why the node did not open, and gives the error its exit code. That it was stopped before it was up,
// as asked, is no error, but what went wrong while it stopped is.
func startError(err error) error {
	if err = withoutCancel(err); err == nil {
		return nil
	}
	return exitcode.With(storageCode(err), fmt.Errorf("cannot start: %w", err))
}

// withoutCancel takes those parts out of a joined error that are context.Canceled.
func withoutCancel(err error) error {
	if !errors.Is(err, context.Canceled) {
		return err
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return withoutCancel(errors.Unwrap(err))
	}
	var rest []error
	for _, e := range joined.Unwrap() {
		rest = append(rest, withoutCancel(e))
	}
	return errors.Join(rest...)
}

// storageCode is the exit code for a failure of the node or of what it stands on.
func storageCode(err error) int {
	var failed *storage.FailedError
	var damaged *storage.CorruptError
	switch {
	case errors.Is(err, node.ErrRemoved):
		return exitcode.Removed
	case errors.Is(err, storage.ErrLocked):
		return exitcode.DataDirInUse
	case errors.Is(err, storage.ErrHung):
		return exitcode.StorageHung
	case errors.As(err, &damaged), errors.Is(err, storage.ErrNewer), errors.Is(err, command.ErrNotUnderstood):
		return exitcode.StorageDamaged
	case errors.As(err, &failed):
		return exitcode.StorageFailed
	default:
		return exitcode.Failure
	}
}
