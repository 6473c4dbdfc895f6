// Package ddtest runs a real DoubleDutch server inside a Go test, and lets the test decide what goes wrong with it: a lease
// that expires while its holder works, an answer that is lost after the request was executed, a server that hangs, time that
// passes, a leader that dies. So a program can be tested for what it does when it loses its lock:
//
//	func TestGivesUpWhenTheLockIsLost(t *testing.T) {
//		s := ddtest.Start(t)
//		done := make(chan error, 1)
//		go func() { done <- program(s.URL()) }() // takes the lock "reports" and works under it
//		...
//		s.Expire("reports")          // the lease is over
//		rival := s.Take("reports")   // and somebody else has the lock
//		...                          // the program must stop, and its next write must be refused
//	}
//
// The server is the one of the command doubledutch, down to the replicated log; only the disk and the channel between nodes are in
// memory. What it promises (see docs/api.md) holds here as well, except for what the test breaks.
//
//   - [Server.Expire], [Server.Break] and [Server.Take] change who holds a lock; [Server.Holders] and [Server.Waiters] look.
//   - [Server.Advance] lets time pass for the server and not for the client.
//   - [Server.Next] and [Server.Every] plan faults for requests: lose the request or its answer, delay either, double it, refuse it.
//   - [Server.Hang] lets everything stand still, until [Server.Resume].
//   - [Server.Kill], [Server.Revive] and [Server.Restart] end processes and start them again; with [Nodes] there are several, and
//     [Server.FailOver] lets another one lead.
//
// # Real time and virtual time
//
// Without options the server listens on a free port of the loopback interface, so any client can use it, also one in another
// process. Then time is real: a test that waits for a lease of 30 seconds takes 30 seconds, unless it uses Advance or Expire.
//
// With [InMemory] the server runs inside a testing/synctest bubble, a cluster of three nodes as well. There an hour passes in
// no time, and timers of client and server fire in the right order, however slow the machine is. Start must be called inside the
// bubble, and clients must use [Server.HTTPClient].
//
// # What it is not
//
// It does not simulate a disk that fails or a network between nodes that misbehaves, and it is not made for load: to see that an
// application holds on real machines, run a real server. A server of this package keeps everything in memory until the end of the test.
package ddtest
