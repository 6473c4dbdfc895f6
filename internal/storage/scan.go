package storage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft-wal/types"
)

// raft-wal's segment format, version 0: a header, then batches of frames. A frame is 8 bytes (type, three zeros, and a length or
// a checksum), then its payload, filled up to a multiple of 8. A batch is any number of entry frames, at the end of a segment
// an index frame, and a commit frame with the CRC-32C of the batch; the first batch includes the header. A batch is
// written at once and then synced.
const (
	segmentMagic  = 0x58eb6b0d
	segmentHeader = 32
	frameHeader   = 8

	frameEntry  = 1
	frameIndex  = 2
	frameCommit = 3

	sectorSize = 512 // what a disk writes whole or not at all
)

// A scan is what was found in the bytes of a segment.
type scan struct {
	offsets    []uint32 // of the entry frames, in index order
	end        int      // offset behind the last good batch
	sealed     bool     // the last good batch has the index
	indexStart uint64   // offset of the index, if sealed

	torn        int    // bytes, up to the last that is not zero, of a batch that a crash has cut short; they begin at end
	tornEntries int    // how many entries of it can be seen
	damage      string // what is wrong, if it is more than that
}

// scanSegment reads a segment. A batch that is not whole counts as torn if a crash during its write explains all of it:
// each sector is as written or still zero, and nothing was written after it. Otherwise it is damage.
func scanSegment(data []byte, info types.SegmentInfo) scan {
	var s scan
	if int64(len(data)) < roomFor(int64(info.SizeLimit)) {
		s.damage = fmt.Sprintf("it is shorter than it was made: %d bytes instead of %d", len(data), roomFor(int64(info.SizeLimit)))
		return s
	}
	for !s.sealed {
		b := readBatch(data, s.end)
		if b.state != batchGood {
			s.judge(data, info, b)
			return s
		}
		if s.damage = s.accept(data, info, b); s.damage != "" {
			return s
		}
	}
	if !isZero(data[s.end:]) {
		s.damage = fmt.Sprintf("there is something behind the end, at byte %d", s.end)
	}
	return s
}

// accept takes over a batch whose checksum is right, and says what is wrong with its content.
func (s *scan) accept(data []byte, info types.SegmentInfo, b batch) string {
	if s.end == 0 {
		if err := checkHeader(data, info); err != nil {
			return err.Error()
		}
	}
	for _, off := range b.entries {
		index := info.BaseIndex + uint64(len(s.offsets))
		if e := payload(data, int(off)); checkEntry(e) != nil || entryIndex(e) != index {
			return fmt.Sprintf("entry %d at byte %d does not pass its checksum", index, off)
		}
		s.offsets = append(s.offsets, off)
	}
	s.end = b.end
	if b.index != 0 {
		s.sealed, s.indexStart = true, uint64(b.index)+frameHeader
		return s.checkIndex(payload(data, b.index))
	}
	return ""
}

// checkIndex compares the index of the segment with the entries.
func (s *scan) checkIndex(index []byte) string {
	if len(index) != 4*len(s.offsets) {
		return fmt.Sprintf("the index has %d bytes for %d entries", len(index), len(s.offsets))
	}
	for i, off := range s.offsets {
		if binary.LittleEndian.Uint32(index[4*i:]) != off {
			return fmt.Sprintf("the index is wrong for entry number %d", i)
		}
	}
	return ""
}

// The states of a batch.
const (
	batchGood       = iota
	batchMismatch   // whole frames up to the commit, but the checksum is another
	batchIncomplete // ends in zeros
	batchBroken     // has a frame that nobody writes, or that does not end within the file
)

// A batch is what was read from one start.
type batch struct {
	state   int
	entries []uint32 // offsets of the entry frames
	index   int      // offset of the index frame, 0 for none
	end     int      // offset behind the commit; in a batch that is incomplete or broken, of the frame where it is so
}

// readBatch reads the batch that begins at start; at 0 that includes the segment's header.
func readBatch(data []byte, start int) batch {
	b := batch{end: start}
	if start == 0 {
		b.end = segmentHeader
	}
	for {
		if b.end+frameHeader > len(data) {
			b.state = batchBroken
			return b
		}
		h := data[b.end : b.end+frameHeader]
		switch next := b.end + frameSize(h); {
		case isZero(h):
			b.state = batchIncomplete
			return b
		case h[1]|h[2]|h[3] != 0 || h[0] > frameCommit || h[0] == 0 || b.index != 0 && h[0] != frameCommit:
			b.state = batchBroken
			return b
		case h[0] == frameCommit:
			return b.commit(data, start)
		case next > len(data):
			b.state = batchBroken
			return b
		case h[0] == frameIndex:
			b.index, b.end = b.end, next
		default:
			b.entries = append(b.entries, uint32(b.end))
			b.end = next
		}
	}
}

// commit ends the batch with the commit frame at b.end.
func (b batch) commit(data []byte, start int) batch {
	sum := crc32.Checksum(data[start:b.end], castagnoli)
	switch {
	case len(b.entries) == 0 && b.index == 0:
		b.state = batchBroken
		return b
	case sum != binary.LittleEndian.Uint32(data[b.end+4:]):
		b.state = batchMismatch
	}
	b.end += frameHeader
	return b
}

// frameSize returns the length of the frame with header h, with its payload and padding.
func frameSize(h []byte) int {
	if h[0] == frameCommit {
		return frameHeader
	}
	n := int(binary.LittleEndian.Uint32(h[4:]))
	return frameHeader + (n+frameHeader-1)/frameHeader*frameHeader
}

// payload returns the payload of the frame at off, which readBatch has accepted.
func payload(data []byte, off int) []byte {
	n := int(binary.LittleEndian.Uint32(data[off+4:]))
	return data[off+frameHeader : off+frameHeader+n]
}

// checkHeader compares the header of a segment with what the meta file says of it.
func checkHeader(data []byte, info types.SegmentInfo) error {
	field := func(i int) uint64 { return binary.LittleEndian.Uint64(data[i:]) }
	if field(0) != segmentMagic || field(8) != info.BaseIndex || field(16) != info.ID || field(24) != info.Codec {
		return fmt.Errorf("the header is not that of log segment %d, which begins with entry %d", info.ID, info.BaseIndex)
	}
	return nil
}
