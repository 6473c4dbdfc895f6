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

// needs is the version of what is in the table: at most its level.
func (t *Table) needs() uint32 {
	remembered := len(t.asks) + t.past.n + len(t.spent.broken.list) + len(t.anchors) + t.sets + t.tasks.Len()
	if remembered > 0 {
		return 2
	}
	return settingsLevel(t.settings)
}

// Snapshot writes a table, in the form of the table's level, as it was when the snapshot was taken, while entries are applied in between. The maps are
// copied on write; of a lock or session that is about to change before it was written, the image is kept first. All
// calls but Encode must be serialised with those to the table.
type Snapshot struct {
	table    *Table
	part     part
	cursor   string // the last name or id written in this part
	written  int    // spent keys
	header   *command.SnapshotHeader
	sessions *btree.Map[string, *session]
	locks    *btree.Map[string, *lock]
	spent    spentKeys
	tasks    *btree.Map[string, *task]
	past     []*past
	dropped  uint64 // past holds that had been dropped
	broken   []brokenKey

	taskImages    map[*lock]*command.TaskRecord
	lockImages    map[*lock]*lockImage
	sessionImages map[*session]*command.SessionRecord

	collected []piece // by Collect, for Encode
	sum       hash.Hash
	buf       []byte
	trailer   command.SnapshotTrailer
}

// piece is a record on its way out.
type piece struct {
	lock  lockImage              // if the others are nil
	other *command.Record        // nil: a lock
	later func() *command.Record // nil, or makes what never changes, or depends on all before
}

// part is the section of the snapshot that is being written.
type part int

const (
	partHeader part = iota
	partSessions
	partLocks
	partSpent
	partTasks
	partHistory
	partBroken
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
			Calendar: t.anchors.records(),
		},
		tasks:         t.tasks.Copy(),
		taskImages:    make(map[*lock]*command.TaskRecord),
		sessions:      t.sessions.Copy(),
		locks:         t.locks.Copy(),
		spent:         t.spent.clone(),
		past:          t.past.list,
		dropped:       t.past.drops,
		broken:        t.spent.broken.list,
		lockImages:    make(map[*lock]*lockImage),
		sessionImages: make(map[*session]*command.SessionRecord),
		sum:           sha256.New(),
	}
}

// Close ends the snapshot, written to its end or not. To call it again is harmless.
func (s *Snapshot) Close() {
	s.table.snapshots = slices.DeleteFunc(s.table.snapshots, func(x *Snapshot) bool { return x == s })
}

// Next returns the next chunk of up to most records (a record is a session, a lock or task with all its claims, a thousand
// spent keys or past holds, or a broken key), valid until the next call, or io.EOF after the last one.
func (s *Snapshot) Next(most int) ([]byte, error) {
	if err := s.Collect(most); err != nil {
		return nil, err
	}
	return s.Encode()
}

// Collect is the part of Next that the table must stand still for: it notes what the records hold, in well under a
// microsecond for each lock, and at most a thousand past holds. It returns io.EOF when all were written. Encode follows.
func (s *Snapshot) Collect(most int) error {
	if s.part == partEnd {
		return io.EOF
	}
	clear(s.collected)
	s.collected = s.collected[:0]
	for len(s.collected) < most && s.part != partEnd {
		s.collectSome(most)
		if s.part == partHistory && len(s.collected) > 0 {
			break // a thousand past holds are enough to look at
		}
	}
	return nil
}

// Encode returns the bytes of what Collect has collected, valid until the next call. The table may go on meanwhile.
func (s *Snapshot) Encode() ([]byte, error) {
	s.buf = s.buf[:0]
	for i := range s.collected {
		if err := s.encode(&s.collected[i]); err != nil {
			return nil, err
		}
	}
	return s.buf, nil
}

// collectSome collects records of the present part, until there are most, and goes to the next part when there are fewer.
func (s *Snapshot) collectSome(most int) {
	switch s.part {
	case partHeader:
		s.collect(&command.Record{Kind: &command.Record_Header{Header: s.header}})
		s.enter(partSessions)
	case partSessions:
		s.collectSessions(most)
		s.enterIfFewer(most, partLocks)
	case partLocks:
		s.collectLocks(most)
		s.enterIfFewer(most, partSpent)
	case partSpent:
		s.collectSpent(most)
		s.enterIfFewer(most, partTasks)
	case partTasks:
		s.collectTasks(most)
		s.enterIfFewer(most, partHistory)
	case partHistory:
		if !s.collectHistory() {
			s.enter(partBroken)
		}
	case partBroken:
		s.collectBroken(most)
		s.enterIfFewer(most, partTrailer)
	case partTrailer:
		s.collectLater(func() *command.Record {
			s.trailer.Sha256 = s.sum.Sum(nil)
			return &command.Record{Kind: &command.Record_Trailer{Trailer: &s.trailer}}
		})
		s.enter(partEnd)
	}
}

func (s *Snapshot) collect(r *command.Record) { s.collected = append(s.collected, piece{other: r}) }

// collectLater has Encode make the record, from what does not change any more.
func (s *Snapshot) collectLater(make func() *command.Record) {
	s.collected = append(s.collected, piece{later: make})
}

func (s *Snapshot) enterIfFewer(most int, p part) {
	if len(s.collected) < most {
		s.enter(p)
	}
}

func (s *Snapshot) enter(p part) { s.part, s.cursor = p, "" }

func (s *Snapshot) collectSessions(most int) {
	s.sessions.Ascend(s.cursor, func(id string, x *session) bool {
		if id == s.cursor {
			return true
		}
		if len(s.collected) >= most {
			return false
		}
		image := s.sessionImages[x]
		if image == nil {
			image = x.record()
		}
		delete(s.sessionImages, x)
		s.collect(&command.Record{Kind: &command.Record_Session{Session: image}})
		s.cursor = id
		s.trailer.Sessions++
		return true
	})
}

func (s *Snapshot) collectLocks(most int) {
	s.locks.Ascend(s.cursor, func(name string, l *lock) bool {
		if name == s.cursor {
			return true
		}
		if len(s.collected) >= most {
			return false
		}
		if image := s.lockImages[l]; image != nil {
			s.collected = append(s.collected, piece{lock: *image})
			delete(s.lockImages, l)
		} else {
			s.collected = append(s.collected, piece{lock: s.table.lockImage(l)})
		}
		s.cursor = name
		s.trailer.Locks++
		return true
	})
}

// collectSpent needs no look at the keys: those that are in this snapshot stay as they are.
func (s *Snapshot) collectSpent(most int) {
	for len(s.collected) < most && s.written < s.spent.n {
		from, n := s.written, min(spentChunkLen, s.spent.n-s.written)
		s.collectLater(func() *command.Record {
			r := &command.SpentRecord{Keys: make([]*command.Spent, 0, n)}
			for _, k := range s.spent.slice(from, n) {
				r.Keys = append(r.Keys, &command.Spent{Key: k.key.Reveal(), At: int64(k.at)})
			}
			return &command.Record{Kind: &command.Record_Spent{Spent: r}}
		})
		s.written += n
		s.trailer.Spent += uint64(n)
	}
}

// encode appends a record to the chunk. The checksum covers everything before the trailer.
func (s *Snapshot) encode(p *piece) error {
	start := len(s.buf)
	switch {
	case p.later != nil:
		p.other = p.later()
	case p.other == nil && p.lock.record == nil:
		s.buf = p.lock.plain.AppendDelimited(s.buf)
	case p.other == nil:
		p.other = &command.Record{Kind: &command.Record_Lock{Lock: p.lock.record}}
	}
	if p.other != nil {
		m := protodelim.MarshalOptions{MarshalOptions: proto.MarshalOptions{Deterministic: true}}
		out := bytes.NewBuffer(s.buf)
		if _, err := m.MarshalTo(out, p.other); err != nil {
			return err
		}
		s.buf = out.Bytes()
	}
	s.sum.Write(s.buf[start:])
	return nil
}

// keepLock keeps the image of l if it has yet to be written.
func (s *Snapshot) keepLock(l *lock) {
	if s.part > partLocks || (s.part == partLocks && s.cursor != "" && l.name <= s.cursor) {
		return
	}
	if s.lockImages[l] == nil {
		image := s.table.lockImage(l)
		s.lockImages[l] = &image
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

// lockImage is a lock as it is to be written.
type lockImage struct {
	plain  command.PlainLock
	record *command.LockRecord // nil: plain is all
}

func (t *Table) lockImage(l *lock) lockImage {
	c := l.holders.head
	if l.holders.n != 1 || l.waiters.n > 0 || l.block != nil || c.session != nil || c.extra != nil || t.asks[l] != nil {
		return lockImage{record: t.lockRecord(l)}
	}
	return lockImage{plain: command.PlainLock{
		Name: l.name, Slots: l.slots, Key: c.key, Seq: c.seq, Token: c.token, Mode: c.modeOf(), Since: int64(c.since),
		TTL: int64(c.ttl), Deadline: int64(c.deadline), Attachment: c.attachment,
	}}
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
	r := &command.Claim{Key: c.key.Reveal(), Seq: c.seq, Mode: c.modeOf(), Token: c.token, Since: int64(c.since)}
	if c.session != nil {
		r.Session = c.session.id
	}
	if c.lead() != c {
		r.Set = []string{c.lead().lock.name}
		r.First = c.extra.first.record()
		return r
	}
	if set := c.set(); set != nil {
		r.Set = set.names()
	}
	x := c.details()
	r.Ttl, r.LockDelay, r.Attachment, r.Owner, r.Metadata = int64(c.ttl), int64(x.lockDelay), c.attachment, x.owner, x.metadata
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
	r.First = x.first.record()
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
