package supervise

import (
	"errors"
	"time"
)

// Lease is what the command must not outlive. Its methods are called from one goroutine.
type Lease interface {
	// Remaining is how long the lease can be relied on from now, as known at the time of the call, counted from the moment at
	// which the last acknowledged request was sent. Not positive when it is over.
	Remaining() time.Duration
	// Lost is closed when the lease is known to be gone, or cannot be relied on any more.
	Lost() <-chan struct{}
}

// OnLost is what happens to a command whose lease comes to its end.
type OnLost string

const (
	// Kill: TERM, and KILL to everything before the lease can be somebody else's.
	Kill OnLost = "kill"
	// Signal: TERM only.
	Signal OnLost = "signal"
	// Warn: nothing but a line of text, and what the command can read from its descriptors.
	Warn OnLost = "warn"
)

// Leftover is what happens to processes that are still there when the command itself has ended.
type Leftover string

const (
	// Wait: Run waits for their end.
	Wait Leftover = "wait"
	// End: they are ended, TERM first.
	End Leftover = "kill"
	// Leave: those that have left the command's process group stay; the others are waited for.
	Leave Leftover = "leave"
)

// Options say what to run, and how.
type Options struct {
	// Argv is the command and its arguments. The command is looked for in PATH, and run without a shell.
	Argv []string
	// Env is its environment; variables for the descriptors are added.
	Env []string
	// Lease is held until Run returns, by the caller.
	Lease Lease
	// Grace is how long the command has between TERM and KILL.
	Grace time.Duration
	// Reserve is how long before the end of the lease KILL is sent, so that the kernel has time to do it. More than 0.
	Reserve time.Duration
	// Poll is how often the lease is asked how long it remains.
	Poll time.Duration
	// OnLost and Leftover must be one of the constants.
	OnLost   OnLost
	Leftover Leftover
	// Litter is a directory that the guardian removes with all that is in it if the caller is killed before it can. "": none.
	Litter string
	// Say prints a line for a person. It is called from one goroutine, and its being slow delays nothing but other lines.
	Say func(line string)
}

// Outcome is how a run has ended. When Run returns, nothing of the command is left, except what Leave leaves and what Signal
// and Warn let go on.
type Outcome struct {
	// Code is the command's exit code as a shell tells it: 126 if it could not be executed, 127 if it was not found, 128+n if
	// signal n ended it.
	Code int
	// Lost: the command was told to end, or killed, because its lease came to the end, or could not begin any more.
	Lost bool
}

// ErrUnsupported is returned by Run where the system has nothing to build on.
var ErrUnsupported = errors.New("running a command under a lock needs Linux (parent-death signals, subreapers, process descriptors)")

// Names of the variables of the command's environment that tell the numbers of descriptors.
const (
	// ExpiresVariable: reading that descriptor at offset 0 gives one line, "held" or "lost", a space, and the moment at which
	// the command is killed, in seconds of CLOCK_BOOTTIME (the first number in /proc/uptime), always of the same length.
	ExpiresVariable = "DOUBLEDUTCH_EXPIRES_FD"
	// LostVariable: reading that descriptor blocks until the command is to end because of its lease.
	LostVariable = "DOUBLEDUTCH_LOST_FD"
)
