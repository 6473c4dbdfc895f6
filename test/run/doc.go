// Package run shows what `doubledutch run` promises, with the real program and a real server: whatever is frozen, cut off or
// killed, everything that the command has started is dead before anybody else is granted the lock. There is no code here but tests.
//
// The command writes the time into a file again and again (its heart beats), by CLOCK_MONOTONIC, which is the same for all
// processes of a machine. Another client waits for the lock and notes the time when it has it. The last heartbeat must be older. This
// is exact; how fast the machine is does not matter.
package run
