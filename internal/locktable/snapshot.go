package locktable

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"slices"

	"github.com/tidwall/btree"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// Snapshot writes a table, in the form of the table's level, as it was when the snapshot was taken, while entries are applied in between. The maps are
// copied on write; of a lock or session that is about to change before it was written, the image is kept first. All
// calls, like those to the table, must be serialised.
type Snapshot struct {
	table    *Table
	part     part
	cursor   string // the last name or id written in this part
	written  int    // spent keys
	header   *command.SnapshotHeader
	sessions *btree.Map[string, *session]
	locks    *btree.Map[string, *lock]
	spent    spentKeys

	lockImages    map[*lock]*command.LockRecord
	sessionImages map[*session]*command.SessionRecord

	sum     hash.Hash
	buf     bytes.Buffer
	trailer command.SnapshotTrailer
}

// part is the section of the snapshot that is being written.
type part int

const (
	partHeader part = iota
	partSessions
	partLocks
	partSpent
	partTrailer
	partEnd
)

// Snapshot begins a snapshot of the present state. It takes constant time. There can be several at a time, each of which
// costs a little with every first change of a lock until it is closed.
func (t *Table) Snapshot() *Snapshot {
	s := t.newSnapshot()
	t.snapshots = append(t.snapshots, s)
	return s
}

func (t *Table) newSnapshot() *Snapshot {
	return &Snapshot{
		table: t,
		header: &command.SnapshotHeader{
			Version: t.level, Now: int64(t.now), LastToken: t.lastToken, LastSeq: t.lastSeq, Settings: t.settings,
		},
		sessions:      t.sessions.Copy(),
		locks:         t.locks.Copy(),
		spent:         t.spent.clone(),
		lockImages:    make(map[*lock]*command.LockRecord),
		sessionImages: make(map[*session]*command.SessionRecord),
		sum:           sha256.New(),
	}
}

// Close ends the snapshot, written to its end or not. To call it again is harmless.
func (s *Snapshot) Close() {
	s.table.snapshots = slices.DeleteFunc(s.table.snapshots, func(x *Snapshot) bool { return x == s })
}

// Next returns the next chunk of up to most records (a record is a session, a lock with all its claims, or a thousand
// spent keys), valid until the next call, or io.EOF after the last one.
func (s *Snapshot) Next(most int) ([]byte, error) {
	if s.part == partEnd {
		return nil, io.EOF
	}
	s.buf.Reset()
	for n := 0; n < most && s.part != partEnd; {
		wrote, err := s.writeSome(most - n)
		if err != nil {
			return nil, err
		}
		n += wrote
	}
	return s.buf.Bytes(), nil
}

// writeSome writes up to most records of the present part, and goes to the next part when there were fewer.
func (s *Snapshot) writeSome(most int) (wrote int, err error) {
	switch s.part {
	case partHeader:
		wrote, err = 1, s.write(&command.Record{Kind: &command.Record_Header{Header: s.header}})
		s.enter(partSessions)
	case partSessions:
		if wrote, err = s.writeSessions(most); wrote < most {
			s.enter(partLocks)
		}
	case partLocks:
		if wrote, err = s.writeLocks(most); wrote < most {
			s.enter(partSpent)
		}
	case partSpent:
		if wrote, err = s.writeSpent(most); wrote < most {
			s.enter(partTrailer)
		}
	case partTrailer:
		s.trailer.Sha256 = s.sum.Sum(nil)
		wrote, err = 1, s.write(&command.Record{Kind: &command.Record_Trailer{Trailer: &s.trailer}})
		s.enter(partEnd)
	}
	return wrote, err
}

func (s *Snapshot) enter(p part) { s.part, s.cursor = p, "" }

func (s *Snapshot) writeSessions(most int) (wrote int, err error) {
	s.sessions.Ascend(s.cursor, func(id string, x *session) bool {
		if id == s.cursor {
			return true
		}
		if wrote == most || err != nil {
			return false
		}
		image := s.sessionImages[x]
		if image == nil {
			image = x.record()
		}
		delete(s.sessionImages, x)
		err = s.write(&command.Record{Kind: &command.Record_Session{Session: image}})
		s.cursor = id
		s.trailer.Sessions++
		wrote++
		return true
	})
	return wrote, err
}

func (s *Snapshot) writeLocks(most int) (wrote int, err error) {
	s.locks.Ascend(s.cursor, func(name string, l *lock) bool {
		if name == s.cursor {
			return true
		}
		if wrote == most || err != nil {
			return false
		}
		image := s.lockImages[l]
		if image == nil {
			image = l.record()
		}
		delete(s.lockImages, l)
		err = s.write(&command.Record{Kind: &command.Record_Lock{Lock: image}})
		s.cursor = name
		s.trailer.Locks++
		wrote++
		return true
	})
	return wrote, err
}

func (s *Snapshot) writeSpent(most int) (wrote int, err error) {
	for wrote < most && s.written < s.spent.n && err == nil {
		r := &command.SpentRecord{}
		for _, k := range s.spent.slice(s.written, spentChunkLen) {
			r.Keys = append(r.Keys, &command.Spent{Key: k.key.Reveal(), At: int64(k.at)})
		}
		err = s.write(&command.Record{Kind: &command.Record_Spent{Spent: r}})
		s.written += len(r.GetKeys())
		s.trailer.Spent += uint64(len(r.GetKeys()))
		wrote++
	}
	return wrote, err
}

// write appends a record to the chunk. The checksum covers everything before the trailer.
func (s *Snapshot) write(r *command.Record) error {
	start := s.buf.Len()
	m := protodelim.MarshalOptions{MarshalOptions: proto.MarshalOptions{Deterministic: true}}
	if _, err := m.MarshalTo(&s.buf, r); err != nil {
		return err
	}
	s.sum.Write(s.buf.Bytes()[start:])
	return nil
}

// keepLock keeps the image of l if it has yet to be written.
func (s *Snapshot) keepLock(l *lock) {
	if s.part > partLocks || (s.part == partLocks && s.cursor != "" && l.name <= s.cursor) {
		return
	}
	if _, ok := s.lockImages[l]; !ok {
		s.lockImages[l] = l.record()
	}
}

// keepSession keeps the image of x if it has yet to be written.
func (s *Snapshot) keepSession(x *session) {
	if s.part > partSessions || (s.part == partSessions && s.cursor != "" && x.id <= s.cursor) {
		return
	}
	if _, ok := s.sessionImages[x]; !ok {
		s.sessionImages[x] = x.record()
	}
}

func (x *session) record() *command.SessionRecord {
	r := &command.SessionRecord{
		Id: x.id, Seq: x.seq, Ttl: int64(x.ttl), Deadline: int64(x.deadline), Opened: int64(x.opened),
		Owner: x.owner, Metadata: x.metadata, Forgotten: x.replies.forgotten,
	}
	for _, p := range x.replies.list {
		r.Replies = append(r.Replies, &command.Reply{
			Request: p.number, Op: p.op, Key: p.key, Code: uint32(p.code), Released: uint32(p.released),
		})
	}
	return r
}

func (l *lock) record() *command.LockRecord {
	r := &command.LockRecord{Name: l.name, Slots: l.slots}
	if l.block != nil {
		r.BlockedUntil, r.BlockedSeq = int64(l.block.until), l.block.seq
	}
	for c := l.holders.head; c != nil; c = c.next {
		r.Holders = append(r.Holders, c.record())
	}
	for c := l.waiters.head; c != nil; c = c.next {
		r.Waiters = append(r.Waiters, c.record())
	}
	return r
}

// waitForever stands for Never in a snapshot.
const waitForever = -1

func (c *claim) record() *command.Claim {
	x := c.details()
	r := &command.Claim{
		Key: c.key.Reveal(), Seq: c.seq, Mode: c.modeOf(), Token: c.token, Since: int64(c.since), Ttl: int64(c.ttl),
		LockDelay: int64(x.lockDelay), Attachment: c.attachment, Owner: x.owner, Metadata: x.metadata,
	}
	if c.session != nil {
		r.Session = c.session.id
	}
	if !c.waiting() {
		r.Waited = int64(x.waited)
	}
	if c.waiting() || c.session == nil {
		r.Deadline = int64(c.deadline)
	}
	if c.waiting() {
		if r.WaitUntil = int64(x.until); x.until == Never {
			r.WaitUntil = waitForever
		}
	}
	return r
}

// Hash returns the SHA-256 of the state. Equal tables have equal hashes, and it is the checksum that a snapshot of this
// moment ends with. It takes time in proportion to the state.
func (t *Table) Hash() [sha256.Size]byte {
	s := t.newSnapshot()
	for {
		if _, err := s.Next(1 << 10); err != nil {
			break
		}
	}
	return [sha256.Size]byte(s.trailer.GetSha256())
}
