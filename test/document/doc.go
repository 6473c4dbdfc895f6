// Package document finds the blocks of documents that are meant to be run, runs them, and compares what comes out with what they promise.
// Tests use it: those of test/readme, and those of test/fencing for what needs a database.
//
// A block of sh, python or go (a whole program) that follows the line
//
//	<!-- run -->
//
// is run against a real server; the blocks of one document run in order on one server and in one directory,
// each in a shell of its own.
// "127.0.0.1:7333" stands for that server's address and "bin/doubledutch" for the program; what a block starts itself in the
// background, on ports 7340 to 7359, ends with it. A comment that begins with an
// arrow promises output, on the line of a command or below it:
//
//	curl -s http://127.0.0.1:7333/getLock/a     # → false  (somebody has it)
//
// Words in parentheses, two spaces behind the promise, only explain it. "…" stands for any text within a line. Everything
// that a block prints must be promised: in a shell block, what was printed since the promise before; in a Python or Go block,
// all promises (of Go behind //) together, line by line.
package document
