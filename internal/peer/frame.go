package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What frames are.
const (
	frameRequest = 1 + iota
	frameAnswer
	frameFailure // an answer that is a RemoteError's text
	frameCancel  // the caller of a request has given up
	frameBeat    // the sender lives
)

// A frame is type (1), id of the call (8), length of the payload (4), payload. Numbers are big-endian.
const frameHead = 1 + 8 + 4

type frame struct {
	kind    uint8
	id      uint64
	payload []byte
	call    *call // of a request on its way out
	room    int   // of an answer on its way out: bytes to give back to the gates when it is written
	gated   bool  // whether room is to be given back
}

var errFrame = errors.New("a frame that makes no sense")

func putFrameHead(b *[frameHead]byte, f *frame) {
	b[0] = f.kind
	binary.BigEndian.PutUint64(b[1:], f.id)
	binary.BigEndian.PutUint32(b[9:], uint32(len(f.payload)))
}

// parseFrameHead judges kind and size before anybody reserves memory for the payload.
func parseFrameHead(b *[frameHead]byte) (f frame, size int, err error) {
	f.kind, f.id = b[0], binary.BigEndian.Uint64(b[1:])
	n := binary.BigEndian.Uint32(b[9:])
	limit := uint32(0)
	switch f.kind {
	case frameRequest, frameAnswer:
		limit = MaxPayload
	case frameFailure:
		limit = maxErrorText
	case frameCancel, frameBeat:
	default:
		return f, 0, fmt.Errorf("%w: kind %d", errFrame, f.kind)
	}
	if n > limit {
		return f, 0, fmt.Errorf("%w: kind %d with %d bytes", errFrame, f.kind, n)
	}
	return f, int(n), nil
}
