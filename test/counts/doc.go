// Package counts guards the speed of the server without a clock: it asserts what does not depend on the machine, such as the
// allocations and system calls of a request, the log entries and syncs of a command, and the memory of a lock. A change that
// makes one of them worse fails here, on a slow machine as on a fast one.
//
// All bounds stand in bounds_test.go. The race detector allocates for itself, so that under it there is nothing to see here:
// `make test` runs this package without.
package counts
