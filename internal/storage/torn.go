package storage

import (
	"fmt"

	"github.com/hashicorp/raft-wal/types"
)

// judge decides what the bytes from s.end on are, which do not make a good batch b: nothing, a torn batch or damage.
func (s *scan) judge(data []byte, info types.SegmentInfo, b batch) {
	rest := data[s.end:]
	if isZero(rest) {
		return
	}
	if s.damage = s.notTorn(data, info, b); s.damage == "" {
		s.torn, s.tornEntries = lastNonZero(rest)+1, len(b.entries)
	}
}

// notTorn says why a crash does not explain batch b, or nothing if it does. A crash leaves each sector of the last batch as
// written or zero. So every frame that can be seen passes its checksum or has a sector of zeros in it, at least one
// sector is missing, and nothing follows. A batch of which only a first part was written, wherever that ends, counts too.
func (s *scan) notTorn(data []byte, info types.SegmentInfo, b batch) string {
	if b.state == batchBroken {
		return fmt.Sprintf("what is at byte %d was never written there", b.end)
	}
	if s.end == 0 && checkHeader(data, info) != nil && !isZero(data[:segmentHeader]) {
		return checkHeader(data, info).Error()
	}
	gaps, bad := s.frames(data, info, b)
	switch next := info.BaseIndex + uint64(len(s.offsets)); {
	case bad != 0:
		return fmt.Sprintf("what is at byte %d was written, but does not pass its checksum", bad)
	case b.state == batchMismatch && gaps == 0:
		return fmt.Sprintf("the batch at byte %d was written to its end, but does not pass its checksum", s.end)
	case b.state == batchMismatch && !isZero(data[b.end:]):
		return fmt.Sprintf("the batch at byte %d does not pass its checksum, and more was written after it", s.end)
	default:
		if at := findBatch(data, s.end, next); at > 0 {
			return fmt.Sprintf("the batch at byte %d is not whole, but a whole one follows at byte %d", s.end, at)
		}
	}
	return ""
}

// frames looks at the frames of a batch that is not good. gaps is how many fail their check for a sector that was not written;
// bad is the offset of one that fails without, or 0.
func (s *scan) frames(data []byte, info types.SegmentInfo, b batch) (gaps, bad int) {
	check := func(off int, ok bool) {
		end := off + frameSize(data[off:])
		switch {
		case ok:
		case hidesCommit(data[off:end]):
			bad = off
		case hasZeroSector(data, off+frameHeader, end), isZero(data[end:]):
			gaps++
		case bad == 0:
			bad = off
		}
	}
	seen := scan{offsets: append([]uint32(nil), s.offsets...)}
	for _, off := range b.entries {
		e := payload(data, int(off))
		check(int(off), checkEntry(e) == nil && entryIndex(e) == info.BaseIndex+uint64(len(seen.offsets)))
		seen.offsets = append(seen.offsets, off)
	}
	if b.index != 0 {
		check(b.index, seen.checkIndex(payload(data, b.index)) == "")
	}
	return gaps, bad
}

// hidesCommit says whether the last of a frame but zeros is a commit frame, which it would swallow if its length were wrong.
func hidesCommit(frame []byte) bool {
	at := lastNonZero(frame) / frameHeader * frameHeader
	return frame[at] == frameCommit && isZero(frame[at+1:at+4])
}

// findBatch looks behind from for a whole batch whose first entry is at least next, or that only has the index, and returns
// its offset, or 0.
func findBatch(data []byte, from int, next uint64) int {
	for off := max(from, segmentHeader-frameHeader) + frameHeader; off+frameHeader <= len(data); off += frameHeader {
		if mayBegin(data, off, next) && readBatch(data, off).state == batchGood {
			return off
		}
	}
	return 0
}

// mayBegin says whether a batch may begin at off: cheaply no in nearly all cases.
func mayBegin(data []byte, off int, next uint64) bool {
	h := data[off : off+frameHeader]
	if h[1]|h[2]|h[3] != 0 || off+frameSize(h) > len(data) {
		return false
	}
	if h[0] != frameEntry {
		return h[0] == frameIndex
	}
	e := payload(data, off)
	if len(e) < entryHeader || e[0] != entryVersion {
		return false
	}
	index := entryIndex(e)
	return index >= next && index-next <= uint64(len(data)) && checkEntry(e) == nil
}

// hasZeroSector says whether some sector's part of data[from:to] is all zeros, as if it had not been written.
func hasZeroSector(data []byte, from, to int) bool {
	for from < to {
		end := min(to, from/sectorSize*sectorSize+sectorSize)
		if isZero(data[from:end]) {
			return true
		}
		from = end
	}
	return false
}

// lastNonZero returns the offset of the last byte in b that is not zero, or -1.
func lastNonZero(b []byte) int {
	i := len(b) - 1
	for i >= 0 && b[i] == 0 {
		i--
	}
	return i
}
