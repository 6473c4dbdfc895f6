// Command bench does the same lock work with DoubleDutch and with those whom people use for locks today, one after the other in
// one run on one machine, and writes what it measured into docs/performance.md and docs/plots.
//
// It is a module of its own, so that the clients of the others are no dependencies of the product. It starts and stops all
// servers itself, from the distribution's packages or, etcd, from the Go module proxy, on free ports of the loopback
// interface and in a directory that is removed in the end.
//
// The clients share the machine with the servers, and some of them cost more than their server does: compare servers by their
// CPU time. Each of the others is used through the client library that its users use; DoubleDutch through HTTP, by hand.
//
// With -scale it measures DoubleDutch alone, with much of everything: how a durable node grows from a thousand held locks to a million.
package main
