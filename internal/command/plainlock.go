package command

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
)

// PlainLock is the record of a lock that has one holder with a private session, and nothing else: no queue, set, owner, delay
// or question. Nearly all of a million locks are so, and their records are written and read by hand, without an allocation
// for each message: a snapshot costs half of what it does with protobuf, a restore a third. A test holds every byte of it
// against protobuf, and whatever is not plain goes through that.
type PlainLock struct {
	Name  string
	Slots uint32
	// Of the holder.
	Key                  [plainKeyLen]byte
	Seq, Token           uint64
	Mode                 Mode
	Since, TTL, Deadline int64
	Attachment           uint64
}

const plainKeyLen = 32

// Fields of Record, LockRecord and Claim, in the order in which they are written.
const (
	recordLock = 3

	lockName    = 1
	lockSlots   = 2
	lockHolders = 5

	claimKey        = 1
	claimSeq        = 3
	claimMode       = 4
	claimToken      = 5
	claimSince      = 6
	claimTTL        = 7
	claimDeadline   = 8
	claimAttachment = 11
)

// AppendDelimited appends the Record of p, as protobuf would write it, to b, after its length.
func (p *PlainLock) AppendDelimited(b []byte) []byte {
	holder := p.holderSize()
	lock := p.lockSize(holder)
	b = protowire.AppendVarint(b, uint64(sizeBytes(recordLock, lock)))
	return p.append(b, lock, holder)
}

// append appends the Record of p, whose parts have those sizes.
func (p *PlainLock) append(b []byte, lock, holder int) []byte {
	b = appendPrefix(b, recordLock, lock)
	if p.Name != "" {
		b = append(appendPrefix(b, lockName, len(p.Name)), p.Name...)
	}
	b = appendVarint(b, lockSlots, uint64(p.Slots))
	b = appendPrefix(b, lockHolders, holder)
	b = append(appendPrefix(b, claimKey, len(p.Key)), p.Key[:]...)
	b = appendVarint(b, claimSeq, p.Seq)
	b = appendVarint(b, claimMode, uint64(p.Mode))
	b = appendVarint(b, claimToken, p.Token)
	b = appendVarint(b, claimSince, uint64(p.Since))
	b = appendVarint(b, claimTTL, uint64(p.TTL))
	b = appendVarint(b, claimDeadline, uint64(p.Deadline))
	if p.Attachment != 0 {
		b = protowire.AppendFixed64(protowire.AppendTag(b, claimAttachment, protowire.Fixed64Type), p.Attachment)
	}
	return b
}

func (p *PlainLock) lockSize(holder int) int {
	return sizeBytes(lockName, len(p.Name)) + sizeVarint(lockSlots, uint64(p.Slots)) + sizeBytes(lockHolders, holder)
}

func (p *PlainLock) holderSize() int {
	n := sizeBytes(claimKey, len(p.Key)) + sizeVarint(claimSeq, p.Seq) + sizeVarint(claimMode, uint64(p.Mode)) + sizeVarint(claimToken, p.Token) +
		sizeVarint(claimSince, uint64(p.Since)) + sizeVarint(claimTTL, uint64(p.TTL)) + sizeVarint(claimDeadline, uint64(p.Deadline))
	if p.Attachment != 0 {
		n += protowire.SizeTag(claimAttachment) + protowire.SizeFixed64()
	}
	return n
}

func appendPrefix(b []byte, field protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(n))
}

// appendVarint appends a field, unless it is 0, which is not written.
func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func sizeVarint(field protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeVarint(v)
}

func sizeBytes(field protowire.Number, n int) int {
	if n == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeBytes(n)
}

// ParsePlainLock reads the Record of a plain lock. It returns false for everything else: other records, locks that are not
// plain, and bytes that protobuf would not have written. Whether its texts are well-formed is not looked at.
func ParsePlainLock(record []byte) (PlainLock, bool) {
	var p PlainLock
	in := plainReader{b: record}
	in.b = in.bytes(recordLock)
	p.Name = string(in.bytes(lockName))
	p.Slots = uint32(in.varint(lockSlots))
	in.b = in.bytes(lockHolders)
	if key := in.bytes(claimKey); len(key) == len(p.Key) {
		p.Key = [plainKeyLen]byte(key)
	}
	p.Seq, p.Mode, p.Token = in.varint(claimSeq), Mode(in.varint(claimMode)), in.varint(claimToken)
	p.Since, p.TTL, p.Deadline = int64(in.varint(claimSince)), int64(in.varint(claimTTL)), int64(in.varint(claimDeadline))
	p.Attachment = in.fixed64(claimAttachment)
	// What was passed over, cut off or written in another way shows here.
	var again [512]byte
	holder := p.holderSize()
	return p, bytes.Equal(p.append(again[:0], p.lockSize(holder), holder), record)
}

// plainReader reads fields that stand in order. An absent one is empty or 0.
type plainReader struct{ b []byte }

// next tells whether b begins with a field of that number and type, and skips its tag.
func (r *plainReader) next(field protowire.Number, typ protowire.Type) bool {
	n, t, size := protowire.ConsumeTag(r.b)
	if size < 0 || n != field || t != typ {
		return false
	}
	r.b = r.b[size:]
	return true
}

func (r *plainReader) bytes(field protowire.Number) []byte {
	if !r.next(field, protowire.BytesType) {
		return nil
	}
	v, size := protowire.ConsumeBytes(r.b)
	r.skip(size)
	return v
}

func (r *plainReader) varint(field protowire.Number) uint64 {
	if !r.next(field, protowire.VarintType) {
		return 0
	}
	v, size := protowire.ConsumeVarint(r.b)
	r.skip(size)
	return v
}

func (r *plainReader) fixed64(field protowire.Number) uint64 {
	if !r.next(field, protowire.Fixed64Type) {
		return 0
	}
	v, size := protowire.ConsumeFixed64(r.b)
	r.skip(size)
	return v
}

// skip goes on behind a value of that size, or to the end if it was malformed (negative).
func (r *plainReader) skip(size int) {
	if size < 0 {
		size = len(r.b)
	}
	r.b = r.b[size:]
}
