package storage

import (
	"bytes"
	"fmt"
	"strings"
)

// parseSegmentName takes the name of a segment file apart.
func parseSegmentName(name string) (base, id uint64, err error) {
	n, err := fmt.Sscanf(name, "%020d-%016x"+segmentSuffix, &base, &id)
	if err != nil || n != 2 || !strings.HasSuffix(name, segmentSuffix) {
		return 0, 0, fmt.Errorf("%q is not the name of a log segment", name)
	}
	return base, id, nil
}

var zeros [64 << 10]byte

// isZero says whether b holds nothing but zeros.
func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
