package node

import "errors"

// What a call may end with when it has no outcome. Callers compare with errors.Is.
var (
	// ErrStopping: the node is going down. A waiter's place is kept for the grace of the settings; come back with the
	// key.
	ErrStopping = errors.New("the server is stopping")
	// ErrUnavailable: there is no leader to decide. The command did not take effect.
	ErrUnavailable = errors.New("no leader")
	// ErrUnknown: the command may or may not take effect. Repeating it with the same key or request number is harmless.
	ErrUnknown = errors.New("the outcome is unknown")
	// ErrDiskFull: the disk is nearly full. New holds, places and sessions are refused; renewing and releasing work.
	ErrDiskFull = errors.New("the disk is nearly full")
	// ErrOverloaded: too many commands wait for the log. The command did not take effect.
	ErrOverloaded = errors.New("too many requests at once")
	// ErrNotYetSupported: a member of the cluster is of a version that does not know the command. A *NotYetError says which.
	ErrNotYetSupported = errors.New("not every node of the cluster knows this yet")
	// ErrMalformed: the command cannot be written to the log.
	ErrMalformed = errors.New("malformed command")
)
