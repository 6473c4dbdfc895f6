package locktable

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// ErrBadSnapshot marks a snapshot that is damaged, cut short, or of a newer version than this server knows; then the error
// wraps command.ErrNotUnderstood as well.
var ErrBadSnapshot = errors.New("bad snapshot")

// One lock with all its claims is one record.
const maxRecordBytes = 1 << 30

// Restore reads what a Snapshot wrote and returns a table that goes on exactly as the original would. The error wraps
// ErrBadSnapshot, or what r said.
func Restore(r io.Reader) (*Table, error) { return RestoreUpTo(r, command.Version) }

// RestoreUpTo is Restore for a server that knows versions up to newest.
func RestoreUpTo(r io.Reader, newest uint32) (*Table, error) {
	rs := restorer{newest: newest, in: bufio.NewReaderSize(r, 1<<16), sum: sha256.New(), members: make(map[*session][]*claim)}
	if err := rs.run(); err != nil {
		return nil, err
	}
	if err := rs.table.CheckInvariants(); err != nil {
		return nil, bad("%w", err)
	}
	return rs.table, nil
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBadSnapshot, fmt.Errorf(format, args...))
}

// restorer reads the records of a snapshot in their order: header, sessions, locks, spent keys, trailer.
type restorer struct {
	newest  uint32
	in      *bufio.Reader
	sum     hash.Hash
	buf     bytes.Buffer
	again   []byte // buf, encoded once more
	table   *Table
	part    part
	last    string // the last name or id of this part
	count   command.SnapshotTrailer
	members map[*session][]*claim
}

func (r *restorer) run() error {
	for r.part != partEnd {
		rec, raw, err := r.read()
		if err != nil {
			return err
		}
		if err := r.take(rec); err != nil {
			return err
		}
		r.sum.Write(binary.AppendUvarint(nil, uint64(len(raw))))
		r.sum.Write(raw)
	}
	if _, err := r.in.ReadByte(); err != io.EOF {
		return bad("something follows its end")
	}
	r.linkMembers()
	return nil
}

// read returns the next record and its bytes, which are valid until the next call.
func (r *restorer) read() (*command.Record, []byte, error) {
	n, err := binary.ReadUvarint(r.in)
	if err != nil {
		return nil, nil, bad("it is cut short: %w", err)
	}
	if n > maxRecordBytes {
		return nil, nil, bad("a record of %d bytes", n)
	}
	r.buf.Reset()
	if _, err := io.CopyN(&r.buf, r.in, int64(n)); err != nil {
		return nil, nil, bad("it is cut short: %w", err)
	}
	var rec command.Record
	if err := proto.Unmarshal(r.buf.Bytes(), &rec); err != nil {
		return nil, nil, bad("%w", err)
	}
	return &rec, r.buf.Bytes(), r.checkForm(&rec)
}

// checkForm refuses records that this server would not have written so: with fields that it does not know (a newer server
// did mean something by them), or in another encoding.
func (r *restorer) checkForm(rec *command.Record) (err error) {
	r.again, err = proto.MarshalOptions{Deterministic: true}.MarshalAppend(r.again[:0], rec)
	if err != nil || !bytes.Equal(r.again, r.buf.Bytes()) {
		return bad("a record is not in the form in which records are written")
	}
	if hasUnknown(rec.ProtoReflect()) {
		return bad("%w: it has a field that this server does not know; run a newer server on this data", command.ErrNotUnderstood)
	}
	return nil
}

// hasUnknown tells whether m or a message in it has a field that this version does not know.
func hasUnknown(m protoreflect.Message) bool {
	found := len(m.GetUnknown()) > 0
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				found = found || hasUnknown(v.List().Get(i).Message())
			}
		default:
			found = found || hasUnknown(v.Message())
		}
		return !found
	})
	return found
}

func (r *restorer) take(rec *command.Record) error {
	if h := rec.GetHeader(); h != nil {
		return r.takeHeader(h)
	}
	if r.part == partHeader {
		return bad("it does not begin with a header")
	}
	switch kind := rec.GetKind().(type) {
	case *command.Record_Session:
		return r.inPart(partSessions, kind.Session.GetId(), func() error { return r.takeSession(kind.Session) })
	case *command.Record_Lock:
		return r.inPart(partLocks, kind.Lock.GetName(), func() error { return r.takeLock(kind.Lock) })
	case *command.Record_Spent:
		return r.inPart(partSpent, "", func() error { return r.takeSpent(kind.Spent) })
	case *command.Record_Trailer:
		return r.inPart(partTrailer, "", func() error { return r.takeTrailer(kind.Trailer) })
	}
	return bad("%w: it has a record that this server does not know", command.ErrNotUnderstood)
}

// inPart calls f after checking that the parts come in order, and the records of a part too.
func (r *restorer) inPart(p part, id string, f func() error) error {
	if p < r.part || (p == r.part && id != "" && id <= r.last) {
		return bad("its records are out of order")
	}
	r.part, r.last = p, id
	return f()
}

func (r *restorer) takeHeader(h *command.SnapshotHeader) error {
	switch {
	case r.part != partHeader:
		return bad("it has two headers")
	case h.GetVersion() < 1 || h.GetVersion() > r.newest:
		return bad("%w: it has format version %d, this server knows up to %d; run a newer server on this data",
			command.ErrNotUnderstood, h.GetVersion(), r.newest)
	case h.GetNow() < 0:
		return bad("its clock is negative")
	case h.GetLastToken() >= maxToken || h.GetLastSeq() >= maxToken:
		return bad("its counters are at their end")
	}
	if err := CheckSettings(h.GetSettings()); err != nil {
		return bad("%w", err)
	}
	r.table = New(h.GetSettings())
	r.table.level = h.GetVersion()
	r.table.now, r.table.lastToken, r.table.lastSeq = Time(h.GetNow()), h.GetLastToken(), h.GetLastSeq()
	r.part = partSessions
	return nil
}

func (r *restorer) takeSession(x *command.SessionRecord) error {
	key, ok := ParseKey(x.GetId())
	if !ok {
		return bad("a session id is malformed")
	}
	s := &session{
		id: x.GetId(), key: key, seq: x.GetSeq(), opened: Time(x.GetOpened()), ttl: time.Duration(x.GetTtl()),
		deadline: Time(x.GetDeadline()), owner: x.GetOwner(), metadata: x.GetMetadata(),
		replies: replies{forgotten: x.GetForgotten()},
	}
	for _, p := range x.GetReplies() {
		s.replies.list = append(s.replies.list, reply{
			request: request{number: p.GetRequest(), op: p.GetOp(), key: p.GetKey()}, code: Code(p.GetCode()), released: int(p.GetReleased()),
		})
	}
	r.table.sessions.Set(s.id, s)
	r.table.text += s.textBytes()
	r.table.timers.arm(s)
	r.count.Sessions++
	return nil
}

func (r *restorer) takeLock(x *command.LockRecord) error {
	l := r.table.newLock(x.GetName())
	l.slots = x.GetSlots()
	if (x.GetBlockedUntil() != 0) != (x.GetBlockedSeq() != 0) {
		return bad("a delay is half there")
	}
	if x.GetBlockedUntil() != 0 {
		l.block = &block{lock: l, until: Time(x.GetBlockedUntil()), seq: x.GetBlockedSeq()}
		r.table.timers.arm(l.block)
	}
	for _, h := range x.GetHolders() {
		if err := r.takeClaim(l, h, false); err != nil {
			return err
		}
	}
	for _, w := range x.GetWaiters() {
		if err := r.takeClaim(l, w, true); err != nil {
			return err
		}
	}
	if l.holders.n > 0 {
		r.table.counts.Held++
	}
	r.count.Locks++
	return nil
}

func (r *restorer) takeClaim(l *lock, x *command.Claim, waiting bool) error {
	key, ok := ParseKey(x.GetKey())
	switch {
	case !ok:
		return bad("a key is malformed")
	case r.table.keys.get(key) != nil:
		return bad("a key stands for two things")
	case !wellFormed(x, waiting):
		return bad("a holder or waiter has what only the other can have")
	case x.GetMode() != Exclusive && x.GetMode() != Shared:
		return bad("a claim has an unknown mode")
	}
	c := &claim{
		key: key, lock: l, token: x.GetToken(), seq: x.GetSeq(), since: Time(x.GetSince()), ttl: time.Duration(x.GetTtl()),
		deadline: Time(x.GetDeadline()), attachment: x.GetAttachment(), mode: uint8(x.GetMode()),
	}
	if x.GetOwner() != "" || x.GetMetadata() != "" || x.GetLockDelay() != 0 || x.GetWaited() != 0 || waiting {
		c.extra = &extra{
			owner: x.GetOwner(), metadata: x.GetMetadata(),
			lockDelay: time.Duration(x.GetLockDelay()), waited: time.Duration(x.GetWaited()),
		}
	}
	if x.GetSession() != "" {
		if c.session = r.table.sharedSession(x.GetSession()); c.session == nil {
			return bad("a claim belongs to no session")
		}
		r.members[c.session] = append(r.members[c.session], c)
	}
	r.place(c, x, waiting)
	return nil
}

// wellFormed tells whether exactly those fields of x are set that its state has a meaning for.
func wellFormed(x *command.Claim, waiting bool) bool {
	if waiting {
		until := x.GetWaitUntil()
		return x.GetToken() == 0 && x.GetWaited() == 0 && (until == waitForever || until > 0 && Time(until) < Never)
	}
	return x.GetToken() != 0 && x.GetWaitUntil() == 0 && x.GetWaited() >= 0 &&
		(x.GetSession() == "" || x.GetDeadline() == 0)
}

// place puts c into the lists where its state says that it is.
func (r *restorer) place(c *claim, x *command.Claim, waiting bool) {
	r.table.keys.put(c)
	r.table.text += c.textBytes()
	if !waiting {
		c.lock.holders.push(c)
		r.table.counts.Holders++
		if c.session == nil {
			r.table.timers.arm(c)
		}
		return
	}
	if c.extra.until = Time(x.GetWaitUntil()); x.GetWaitUntil() == waitForever {
		c.extra.until = Never
	}
	c.lock.waiters.push(c)
	r.table.counts.Waiters++
	r.table.timers.arm(c)
}

// linkMembers gives every session its claims in the order in which they came.
func (r *restorer) linkMembers() {
	for s, cs := range r.members {
		slices.SortFunc(cs, func(a, b *claim) int { return cmp.Compare(a.seq, b.seq) })
		for _, c := range cs {
			s.link(c)
		}
	}
}

func (r *restorer) takeSpent(x *command.SpentRecord) error {
	if n := len(x.GetKeys()); n == 0 || n > spentChunkLen || r.count.GetSpent()%spentChunkLen != 0 {
		return bad("its spent keys are not in chunks")
	}
	for _, s := range x.GetKeys() {
		key, ok := ParseKey(s.GetKey())
		if !ok || r.table.spent.has(key) {
			return bad("a spent key is malformed, or there twice")
		}
		r.table.spent.add(key, Time(s.GetAt()))
		r.count.Spent++
	}
	return nil
}

func (r *restorer) takeTrailer(x *command.SnapshotTrailer) error {
	if !bytes.Equal(x.GetSha256(), r.sum.Sum(nil)) {
		return bad("its checksum does not fit")
	}
	r.count.Sha256 = x.GetSha256()
	if !proto.Equal(x, &r.count) {
		return bad("its counts do not fit")
	}
	r.part = partEnd
	return nil
}
