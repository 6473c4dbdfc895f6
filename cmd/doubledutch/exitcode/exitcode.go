// Package exitcode names the numbers with which the doubledutch program ends, so that scripts, service managers and tests
// can tell outcomes apart. A number never changes its meaning.
package exitcode

import "errors"

// What the client verbs and every other run can end with.
const (
	// OK: what was asked for was done.
	OK = 0
	// Failure: anything that has no number of its own.
	Failure = 1
	// Usage: the command line, an environment variable or the configuration file is wrong. Nothing was tried.
	Usage = 2
	// Held: the lock was not acquired because others hold it, or the wait for it ran out.
	Held = 3
	// NotHeld: release, renew or hand over with a key that does not hold the lock; ask or break where nobody holds it.
	NotHeld = 4
	// Unavailable: the server cannot be reached, is not ready, or is too full to take the request now.
	Unavailable = 5
	// TaskDone: the task was not claimed because it is done.
	TaskDone = 6
	// TaskFailed: the task was not claimed because it has failed, or because nobody knows how it ended.
	TaskFailed = 7
	// Interrupted: a signal ended the program before it was done.
	Interrupted = 130
)

// What run can end with besides. All other codes are those of its command, told as a shell does: 128+n for the signal n.
const (
	// NotAcquired: others have the lock, or do the task. It is Failure too, as with flock(1), and can be set with a flag.
	NotAcquired = 1
	// RunTaskFailed: the task has failed before, or nobody knows how it ended.
	RunTaskFailed = 122
	// RunLost: the lock could not be kept, and the command was ended.
	RunLost = 123
	// RunUnavailable: no server could be reached, or none could grant anything.
	RunUnavailable = 124
	// RunFailed: run itself failed: the server refused the request, or the guardian of the command was killed.
	RunFailed = 125
	// RunNotExecutable and RunNotFound are those of a shell for the command.
	RunNotExecutable = 126
	RunNotFound      = 127
)

// What serve, and what else uses a data directory, can end with besides. None of these is cured by a restart alone, except StorageFailed and StorageHung when
// the disk recovers.
const (
	// StorageFailed: a write or a sync failed. Nothing was acknowledged after it.
	StorageFailed = 10
	// StorageHung: a write or a sync did not return within --hang-timeout.
	StorageHung = 11
	// StorageDamaged: the data directory, or a backup, cannot be trusted. Serve refuses to start, or stopped at what it cannot
	// read; restore has touched nothing.
	StorageDamaged = 12
	// DataDirInUse: another server has the data directory.
	DataDirInUse = 13
	// Removed: the node was removed from its cluster. It can come back with an empty data directory and --join.
	Removed = 14
)

// Meanings lists every code with the words that --help prints, in the order of the numbers.
var Meanings = []struct {
	Code int
	Text string
}{
	{OK, "done"},
	{Failure, "failed for a reason that has no number of its own"},
	{Usage, "wrong flag, variable or configuration file; nothing was tried"},
	{Held, "acquire, task claim: others have it, or the wait ran out"},
	{NotHeld, "it is not held (any more); ask, break: nobody holds it"},
	{Unavailable, "the server cannot be reached, is not ready or is too full"},
	{TaskDone, "task claim: the task is done"},
	{TaskFailed, "task claim: the task has failed, or nobody knows how it ended"},
	{StorageFailed, "serve, backup, restore: a write or sync to disk failed"},
	{StorageHung, "serve: the disk did not answer within --hang-timeout"},
	{StorageDamaged, "serve, backup, restore: the data directory or backup is damaged or from a newer version"},
	{DataDirInUse, "serve, backup, restore: another server uses the data directory"},
	{Removed, "serve: this node was removed from its cluster"},
	{RunTaskFailed, "run: the task has failed, or nobody knows how it ended"},
	{RunLost, "run: the lock could not be kept; the command was ended before others could have it"},
	{RunUnavailable, "run: the server cannot be reached, is not ready or is too full"},
	{RunFailed, "run: failed itself, before its command began or with it"},
	{RunNotExecutable, "run: the command cannot be executed"},
	{RunNotFound, "run: there is no such command"},
	{Interrupted, "ended by a signal before it was done"},
}

// Error is an error that decides with which code the program ends.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// With returns err with a code, or nil if err is nil.
func With(code int, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, Err: err}
}

// Of returns the code that err carries: OK for nil, Failure for an error without one.
func Of(err error) int {
	var e *Error
	switch {
	case err == nil:
		return OK
	case errors.As(err, &e):
		return e.Code
	}
	return Failure
}
