package server

import "time"

// All limits of the door. The limits of the lock table are replicated settings and stand with it.
const (
	maxHeaderBytes = 16 << 10
	maxBodyBytes   = 64 << 10
	maxStreams     = 128 // HTTP/2 streams of one connection

	readHeaderTimeout = 5 * time.Second // also bounds the TLS handshake
	readTimeout       = 15 * time.Second
	idleTimeout       = 60 * time.Second
	// An answer that waited for nothing is written within this time after its request was read.
	writeTimeout = 30 * time.Second
	// An answer after a wait, and each piece of a streamed one, gets this long.
	deliverTimeout = 10 * time.Second
	// A silent HTTP/2 connection is pinged, a silent TCP connection is probed.
	pingAfter   = 20 * time.Second
	pingTimeout = 10 * time.Second

	// How long, in steps, a reset is waited for after an answer to a client that seems gone.
	resetCheck  = 5 * time.Millisecond
	resetChecks = 20

	defaultMaxConnections      = 20_000
	defaultMaxConnectionsPerIP = 200

	defaultTTL = 30 * time.Second // or the maximum of the settings, if that is less
	minTTL     = time.Millisecond // shorter wishes are rounded up to it
	// No duration that a client sends is longer; the settings are stricter still. 100 years fit an int64 of nanoseconds.
	maxSeconds = 3_200_000_000

	defaultListLimit = 100
	maxListLimit     = 1000
	// How many holders and waiters of one lock or keys of one session an answer shows, and how many holders per lock a
	// listing shows. Counts are always whole.
	maxShown       = 1000
	maxShownListed = 10
	// Streams of events at once. Each looks at every event.
	maxEventStreams = 1000
	// No token is greater, so that every program can read it.
	maxToken = 1<<53 - 1
	// Names of a set that are read at all; the setting max_set is stricter.
	maxSetNames = 1024
	// Tokens that one request asks about.
	maxVerified = 1000
	// How many steps of a cycle the sentence about it tells; the list has all.
	maxCycleTold = 8
	// How many locks one step of a streamed listing reads under the table's protection.
	listStep = 256

	// What clients are told to wait before they try again.
	retrySoon  = "1"
	retryLater = "5"
)
