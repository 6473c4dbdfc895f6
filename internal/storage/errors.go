package storage

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked says that another process has the data directory open.
	ErrLocked = errors.New("data directory is in use by another process")

	// ErrNewer says that the data directory was written by a newer version of this program.
	ErrNewer = errors.New("the data directory was written by a newer version")

	// ErrNoData says that there is no data directory where one is wanted.
	ErrNoData = errors.New("there is no data")

	// ErrHalfPlanted says that Plant was interrupted.
	ErrHalfPlanted = errors.New("a restore was interrupted")

	// ErrHasData says that there is data in a directory where none may be.
	ErrHasData = errors.New("there is data already")

	// ErrHung says that a write or sync did not return within Options.HangTimeout.
	ErrHung = errors.New("disk does not answer")

	// ErrClosed says that the Store was closed.
	ErrClosed = errors.New("storage is closed")
)

// A FailedError is the first failed write, sync or read of a Store, and the answer to every write after it.
type FailedError struct {
	Op  string // what was being done, such as "append to the log"
	Err error
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("storage failed: %s: %v", e.Op, e.Err)
}

func (e *FailedError) Unwrap() error { return e.Err }

// restoreAdvice is what an operator can do about a damaged data directory.
const restoreAdvice = "restore a backup to another directory (doubledutch restore), let the node join its cluster anew if it has one, " +
	"or move the directory away and start empty, knowing that every lock is then lost and fencing tokens start again"

// A CorruptError says that something in the data directory is not what was written there, in a way that no crash explains.
type CorruptError struct {
	Path   string // the file or directory concerned
	What   string // what is wrong with it
	Advice string // what the operator can do
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged: %s; %s", e.Path, e.What, e.Advice)
}

func corrupt(path, format string, args ...any) *CorruptError {
	return &CorruptError{Path: path, What: fmt.Sprintf(format, args...), Advice: restoreAdvice}
}
