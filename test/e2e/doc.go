// Package e2e starts the real program and shows from outside what it promises: over HTTP, with signals, with a disk that
// fails, fills up or hangs, and by killing it at every sync. There is no code here but tests.
//
// The tests run as any user on any Linux machine; those that need more (strace, the right to mount or to trace, time
// namespaces, curl, Python's requests) are skipped with the reason where it is missing. Nothing is assumed about how fast
// the machine is: a test polls for what it waits for, with a deadline that only a server that hangs will miss.
//
// Every key, session id, owner, piece of metadata and API key that the tests use is registered, and when all tests are done,
// everything that any server printed, every /metrics page and every error body is searched for them.
package e2e
