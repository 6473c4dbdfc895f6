// Package load puts a server, or a cluster, under load and measures what it does. It sees the server as its users do:
// through HTTP/1.1 on keep-alive connections.
//
// The generator shares a machine with what it measures more often than not, so it is made to be cheap: one goroutine for each
// connection, requests that are written into a buffer by hand, and a reader that looks at no more of an answer than it has to.
// net/http's client would cost more than the server does (BenchmarkClient).
package load
