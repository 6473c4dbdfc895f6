package peer

import "time"

// All limits of the channel.
const (
	// A handshake, TLS included, is done within this time or the connection is closed.
	handshakeTimeout = 5 * time.Second
	// Connecting alone takes at most this time; a host that is gone answers nothing at all.
	connectTimeout = 2 * time.Second
	// A handshake message has at most this size, in bytes.
	maxHandshake = 4 << 10
	// A sentence that explains a refusal has at most this size, in bytes.
	maxSentence = 1 << 10
	maxName     = 128 // bytes of a node's name
	maxID       = 64  // bytes of the id of a cluster or an instance
	// Who refuses a connection waits this long for the other side to read why.
	farewellTimeout = time.Second

	// MaxPayload is the largest request and the largest answer, in bytes.
	MaxPayload = 16 << 20
	// The text of a RemoteError has at most this size, in bytes.
	maxErrorText = 4 << 10

	// Both ends of a call connection say each second that they live, and close it when they heard nothing for deathTime.
	beatEvery = time.Second
	deathTime = 3 * time.Second
	// One frame is read within this time, however steadily its bytes trickle in.
	frameTimeout = 30 * time.Second
	// A write of at most writeChunk bytes that takes longer than this ends the connection.
	writeTimeout = 10 * time.Second
	writeChunk   = 256 << 10
	bufferSize   = 64 << 10
	// A call connection that nobody used for this long is closed.
	idleTimeout = time.Minute
	// A connection that raft's transport does not take within this time is closed.
	raftAcceptTimeout = 5 * time.Second

	// After a failed attempt to connect, calls to the address fail at once for a time that doubles up to maxBackoff.
	minBackoff = 25 * time.Millisecond
	maxBackoff = 500 * time.Millisecond

	// Connections from others: at all, from one IP address, still in their handshake (at all and from one IP
	// address), and from one instance.
	maxConns            = 512
	maxConnsPerHost     = 256
	maxHandshakes       = 128
	maxHandshakeHost    = 64
	maxConnsPerInstance = 64
	// Addresses called at the same time.
	maxLinks = 128

	// Calls in flight on one connection, with the bytes of their requests: the caller waits before it sends more. The
	// answering side holds to the same numbers, and to these for all connections together.
	connCalls  = 1024
	connBytes  = 64 << 20
	totalCalls = 8192
	totalBytes = 256 << 20

	// Lines about strangers and refusals are logged at most once in this time.
	logEvery = 10 * time.Second
	// How long a look at the certificate files holds.
	certCheckEvery = time.Second
)

// Relations that must hold; a negative constant does not convert.
const (
	_ = uint(connBytes - MaxPayload)
	_ = uint(totalBytes - connBytes)
	_ = uint(totalCalls - connCalls)
	_ = uint(deathTime - 2*beatEvery)
	_ = uint(maxHandshake - maxSentence - 64)
	_ = uint(maxHandshake - maxName - 2*maxID - 64)
	_ = uint(maxConns - maxHandshakes - maxConnsPerInstance)
)
