package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// codecID names the entry format below in segment headers and in the meta file. raft-wal leaves numbers from 1<<16 to others.
const codecID = 1<<16 + 0xdd01

// entryVersion is the first byte of every entry.
const entryVersion = 1

// entryHeader is the length of the fixed part of an entry:
//
//	 0  version
//	 1  CRC-32C of everything behind it
//	 5  index
//	13  term
//	21  type
//	22  appended at, Unix nanoseconds; 0 for none
//	30  length of the extensions
//	34  extensions, then data up to the end
//
// All numbers are little-endian.
const entryHeader = 34

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errBadEntry says that the bytes of a log entry are not what was written.
var errBadEntry = errors.New("checksum of a log entry does not match")

// checkedCodec stores log entries with a checksum over all that is in them. It implements wal.Codec.
type checkedCodec struct{}

func (checkedCodec) ID() uint64 { return codecID }

// Encode writes l to w.
func (checkedCodec) Encode(l *raft.Log, w io.Writer) error {
	if b, ok := w.(*bytes.Buffer); ok {
		b.Grow(entryHeader + len(l.Extensions) + len(l.Data))
	}
	var h [entryHeader]byte
	h[0] = entryVersion
	binary.LittleEndian.PutUint64(h[5:], l.Index)
	binary.LittleEndian.PutUint64(h[13:], l.Term)
	h[21] = byte(l.Type)
	binary.LittleEndian.PutUint64(h[22:], uint64(nanos(l.AppendedAt)))
	binary.LittleEndian.PutUint32(h[30:], uint32(len(l.Extensions)))

	sum := crc32.Checksum(h[5:], castagnoli)
	sum = crc32.Update(sum, castagnoli, l.Extensions)
	sum = crc32.Update(sum, castagnoli, l.Data)
	binary.LittleEndian.PutUint32(h[1:], sum)

	for _, part := range [][]byte{h[:], l.Extensions, l.Data} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// Decode sets l to the entry in b, of which it keeps nothing.
func (checkedCodec) Decode(b []byte, l *raft.Log) error {
	if err := checkEntry(b); err != nil {
		return err
	}
	ext := int(binary.LittleEndian.Uint32(b[30:]))
	*l = raft.Log{
		Index:      entryIndex(b),
		Term:       binary.LittleEndian.Uint64(b[13:]),
		Type:       raft.LogType(b[21]),
		AppendedAt: fromNanos(int64(binary.LittleEndian.Uint64(b[22:]))),
		Extensions: clone(b[entryHeader : entryHeader+ext]),
		Data:       clone(b[entryHeader+ext:]),
	}
	return nil
}

// checkEntry verifies the checksum and the inner lengths of the entry in b.
func checkEntry(b []byte) error {
	if len(b) < entryHeader || b[0] != entryVersion {
		return errBadEntry
	}
	if crc32.Checksum(b[5:], castagnoli) != binary.LittleEndian.Uint32(b[1:]) {
		return errBadEntry
	}
	if uint64(binary.LittleEndian.Uint32(b[30:])) > uint64(len(b)-entryHeader) {
		return errBadEntry
	}
	return nil
}

// entryIndex returns the index of an entry that checkEntry has accepted.
func entryIndex(b []byte) uint64 { return binary.LittleEndian.Uint64(b[5:]) }

// clone copies b; an empty b gives nil, as raft leaves absent fields nil.
func clone(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}
