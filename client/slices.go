package client

import "time"

// waiting is the time in a queue, which is spent in slices.
type waiting struct {
	clock *clock
	ttl   time.Duration // of what is waited for
	wait  time.Duration // negative: without end
	began instant
	n     int // slices that have passed
}

// Slices of a wait are short against the ttl, so that the lease that a slice brings has most of its lifetime before it. The first
// ones are shorter, so that an endpoint that does not answer is found out soon.
const (
	minSlice = time.Second
	// A place stays for 15 s after the last sign of its client that its node could pass on, which was some seconds ago when the node
	// is cut off. In what is left, that has to be noticed, and another node asked.
	maxSlice = 5 * time.Second
)

// The server takes no longer waits than of a year.
const maxWait = 300 * 24 * time.Hour

// left is what is left of the wait; -1 s for no end, and 0 when it is over: then the place is given up, unless it has been granted
// meanwhile.
func (w *waiting) left() time.Duration {
	if w.wait < 0 {
		return -time.Second
	}
	left := w.wait - w.clock.now().sub(w.began)
	if left < time.Millisecond {
		return 0
	}
	return left
}

// next returns what is left of the wait, and the slice of it to ask for; no slice if nothing is left.
func (w *waiting) next() (left, slice time.Duration) {
	left = w.left()
	switch {
	case left == 0:
		return 0, 0
	case left > maxWait:
		left = -time.Second // until the next slice
	}
	return left, min(w.ttl/3, backoff(w.n, minSlice, maxSlice))
}

// answerIn is how long a server may take to answer a request for a slice.
func answerIn(left, slice time.Duration) time.Duration {
	if left > 0 {
		return min(left, slice)
	}
	return slice
}
