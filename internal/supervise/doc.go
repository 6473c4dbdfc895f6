// Package supervise runs a command that must not outlive a lease. [Run] starts it, passes signals and the terminal on to it, and
// returns when it and everything that it has started are gone; the caller releases the lease then, not sooner. When the lease
// comes near its end without a renewal, the command is told (TERM) and, before the lease can be somebody else's, killed with
// all its descendants.
//
// Three processes take part:
//
//	wrapper ──▶ guardian ──▶ command ──▶ whatever it starts
//
// The wrapper, which called Run, has the lease and tells the guardian how long it lasts. The guardian is this program
// again (see [Guardian]), does nothing but wait, and is the one that kills. So:
//
//   - If the wrapper is killed, the guardian sees the end of its socket and ends the command.
//   - If the wrapper is stopped (or hangs, or starves), no later deadline comes, and the guardian ends the command in time.
//   - If the guardian is killed, the kernel kills the command (parent-death signal), the rest falls to the wrapper, which
//     kills it and tells when it is gone.
//   - If the guardian is stopped, the wrapper kills it when the deadline is there, with the same effect.
//
// Both are subreapers: whatever a descendant does to detach itself (new process groups, new sessions, parents that end),
// it stays a descendant, is found, and is killed. That nothing is left is not concluded from a list of processes, which could
// be incomplete, but from the kernel's word that the guardian has no child any more (ECHILD).
//
// What is not guaranteed: processes that others start on behalf of the command (a container engine, a service manager, cron,
// another machine) are no descendants. What has other rights than this program (behind sudo, say) cannot be killed by it.
// A process in an uninterruptible system call dies when that call ends. When both wrapper and guardian are stopped, or the
// whole machine is, the command may do something in the moment after it goes on and before it is killed. Against all of
// these only a fencing token helps.
//
// Deadlines are counted by CLOCK_BOOTTIME, which goes on while the machine is suspended.
package supervise
