// Package bench measures the real server process from outside: throughput, latency, and above all the CPU that the server
// spends, which is what can be compared on a machine that the load generator shares. There are benchmarks and no tests
// here: a machine that is slow today must not fail anything.
package bench
