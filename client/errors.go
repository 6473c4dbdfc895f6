package client

import (
	"errors"
	"fmt"
)

// What errors of this package are, for [errors.Is]. An error can be one of these and a [*Problem] (for [errors.As]) at the
// same time, which has what the server said. Where a context ended, it is also [context.Canceled] or
// [context.DeadlineExceeded], and has the cause of the context.
var (
	// ErrHeld: others hold the lock, or wait for it, and the wait, if there was one, has run out. You hold nothing. The *Problem
	// has the holder. Of a task: somebody else is at it.
	ErrHeld = errors.New("the lock is held by others")

	// ErrLost: what was held is not held any more, or must not be relied on: it expired, could not be renewed in time, was
	// ended by an operator (the *Problem has by whom and why), or went with its session. Stop working.
	ErrLost = errors.New("the lease is lost")

	// ErrDeadlock: the session would wait for itself, directly or through others; the *Problem has the cycle. Unlock what
	// you hold, and begin again, or acquire everything at once with LockAll.
	ErrDeadlock = errors.New("the lock would never be granted: deadlock")

	// ErrUnavailable: no server could do it, and it is certain that nothing happened.
	ErrUnavailable = errors.New("no server could answer")

	// ErrUnknown: no server told what came of it. It may or may not have happened. What an acquire may have left behind is
	// being given back in the background; at the worst a lock stays held by nobody for its ttl.
	ErrUnknown = errors.New("it is not known what came of it")

	// ErrReleased: the lease was unlocked or handed over by its owner, or its session was ended.
	ErrReleased = errors.New("the lease was released")

	// ErrClosed: the client was closed.
	ErrClosed = errors.New("the client is closed")

	// ErrRefused: the server refuses the request as such: bad names or values, a missing API key, other slots than those of the
	// other users of the lock. Asking again does not help; the *Problem says what is wrong.
	ErrRefused = errors.New("the request was refused")

	// ErrFailed: the task has used up its attempts. The error has what went wrong in the last one.
	ErrFailed = errors.New("the task has failed")

	// ErrNotDone is for functions that are given to [Client.Once] with [AtMostOnce]: an error that is ErrNotDone says that
	// nothing was done, so that somebody else may do it.
	ErrNotDone = errors.New("nothing was done")

	// ErrUnsettled: the claimant of an at-most-once task was lost, or ended with an error, and a person has to find out what
	// happened.
	ErrUnsettled = errors.New("nobody knows how far the task came")

	// ErrNoTask: there is no record of the task (any more).
	ErrNoTask = errors.New("there is no record of the task")

	// ErrNoLeader: nobody leads.
	ErrNoLeader = errors.New("nobody leads")

	// ErrNoSuccessor: nobody of that owner waits who could be given the lock. You still hold it.
	ErrNoSuccessor = errors.New("nobody of that owner waits for the lock")
)

// wrap puts what was tried before err.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("doubledutch: %s: %w", what, err)
}

// both says that the error is of a kind, because of err.
func both(kind, err error) error {
	if err == nil {
		return kind
	}
	return fmt.Errorf("%w: %w", kind, err)
}
