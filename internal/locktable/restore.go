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
	rs := restorer{newest: newest, in: bufio.NewReaderSize(r, 1<<16), sum: sha256.New(), members: make(map[*session][]*claim), sets: make(map[*claim][]string)}
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

// restorer reads the records of a snapshot in their order: header, sessions, locks, spent keys, tasks, past holds, broken keys,
// trailer.
type restorer struct {
	newest  uint32
	in      *bufio.Reader
	sum     hash.Hash
	buf     bytes.Buffer
	again   []byte // buf, encoded once more
	length  []byte // of buf, as it stands before it
	table   *Table
	part    part
	last    string // the last name or id of this part
	count   command.SnapshotTrailer
	members map[*session][]*claim
	sets    map[*claim][]string // leads of sets, with the names of the locks that are still to come
	order   *order              // the last one that was read
}

func (r *restorer) run() error {
	for r.part != partEnd {
		raw, err := r.read()
		if err != nil {
			return err
		}
		if err := r.takeRaw(raw); err != nil {
			return err
		}
		r.length = binary.AppendUvarint(r.length[:0], uint64(len(raw)))
		r.sum.Write(r.length)
		r.sum.Write(raw)
	}
	if _, err := r.in.ReadByte(); err != io.EOF {
		return bad("something follows its end")
	}
	if len(r.sets) > 0 {
		return bad("a set is not on all its locks")
	}
	if v := r.table.needs(); v > r.table.level {
		return bad("it has format version %d, but its content is of version %d", r.table.level, v)
	}
	r.linkMembers()
	return nil
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
	case *command.Record_Task:
		return r.inPart(partTasks, kind.Task.GetName(), func() error { return r.takeTask(kind.Task) })
	case *command.Record_History:
		return r.inPart(partHistory, "", func() error { return r.takeHistory(kind.History) })
	case *command.Record_Broken:
		return r.inPart(partBroken, "", func() error { return r.takeBroken(kind.Broken) })
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
	r.takeCalendar(h)
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
	l := r.addLock(x.GetName())
	l.slots = x.GetSlots()
	if (x.GetBlockedUntil() != 0) != (x.GetBlockedSeq() != 0) {
		return bad("a delay is half there")
	}
	if x.GetBlockedUntil() != 0 {
		l.block = &block{lock: l, until: Time(x.GetBlockedUntil()), seq: x.GetBlockedSeq()}
		r.table.timers.arm(l.block)
	}
	if err := r.takeAsk(l, x.GetAsk()); err != nil {
		return err
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
	if ok && len(x.GetSet()) > 0 && x.GetSet()[0] != l.name {
		return r.takeMember(l, key, x, waiting)
	}
	switch {
	case !ok:
		return bad("a key is malformed")
	case r.table.keys.get(key) != nil:
		return bad("a key stands for two things")
	case !wellFormed(x, waiting) || l.isTask && len(x.GetSet()) > 0 || (x.GetTerms() != nil) != (l.isTask && waiting):
		return bad("a holder or waiter has what only the other can have")
	case x.GetMode() != Exclusive && x.GetMode() != Shared:
		return bad("a claim has an unknown mode")
	case len(x.GetSet()) > maxMaxSet:
		return bad("a set of %d locks", len(x.GetSet()))
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
	if f := x.GetFirst(); f != nil {
		c.ensureExtra().first = &firstGrant{Time(f.GetSince()), time.Duration(f.GetWaited())}
	}
	if x.GetSession() != "" {
		if c.session = r.table.sharedSession(x.GetSession()); c.session == nil {
			return bad("a claim belongs to no session")
		}
		r.members[c.session] = append(r.members[c.session], c)
	}
	if len(x.GetSet()) > 0 {
		c.ensureExtra().set = &set{members: []*claim{c}}
		r.expect(c, x.GetSet()[1:])
		r.table.sets++
		r.table.text += c.set().textBytes()
	}
	if x.GetTerms() != nil {
		c.extra.terms = restoreTerms(x.GetTerms())
	}
	r.place(c, x, waiting)
	return nil
}

// expect notes the names of the locks that are still to come for the set that c leads.
func (r *restorer) expect(c *claim, names []string) {
	if len(names) > 0 {
		r.sets[c] = names
		return
	}
	delete(r.sets, c)
}

// takeMember reads a claim of a set whose first claim was read before.
func (r *restorer) takeMember(l *lock, key Key, x *command.Claim, waiting bool) error {
	lead := r.table.keys.get(key)
	names := r.sets[lead]
	switch {
	case lead == nil || len(names) == 0 || names[0] != l.name || len(x.GetSet()) != 1 || x.GetSet()[0] != lead.lock.name:
		return bad("a claim belongs to no set")
	case x.GetMode() != Exclusive && x.GetMode() != Shared:
		return bad("a claim has an unknown mode")
	case waiting != lead.waiting():
		return bad("a set waits and holds")
	}
	c := &claim{
		key: key, lock: l, session: lead.session, token: lead.token, seq: lead.seq, since: lead.since, mode: uint8(x.GetMode()),
		extra: &extra{set: lead.set()},
	}
	text := lead.set().textBytes()
	c.set().members = append(c.set().members, c)
	r.table.text += lead.set().textBytes() - text
	if f := x.GetFirst(); f != nil {
		c.extra.first = &firstGrant{Time(f.GetSince()), time.Duration(f.GetWaited())}
	}
	if !proto.Equal(c.record(), x) {
		return bad("the claims of a set differ")
	}
	if c.session != nil {
		r.members[c.session] = append(r.members[c.session], c)
	}
	if waiting {
		l.waiters.push(c)
		r.table.waits(c)
	} else {
		l.holders.push(c)
		r.table.counts.Holders++
	}
	r.expect(lead, names[1:])
	return nil
}

// wellFormed tells whether exactly those fields of x are set that its state has a meaning for.
func wellFormed(x *command.Claim, waiting bool) bool {
	if waiting {
		until := x.GetWaitUntil()
		return x.GetToken() == 0 && x.GetWaited() == 0 && x.GetFirst() == nil && (until == waitForever || until > 0 && Time(until) < Never)
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
		r.table.counts.add(c)
		if c.session == nil {
			r.table.timers.arm(c)
		}
		return
	}
	if c.extra.until = Time(x.GetWaitUntil()); x.GetWaitUntil() == waitForever {
		c.extra.until = Never
	}
	c.lock.waiters.push(c)
	r.table.waits(c)
	r.table.timers.arm(c)
}

// linkMembers gives every session its claims in the order in which they came.
func (r *restorer) linkMembers() {
	for s, cs := range r.members {
		slices.SortStableFunc(cs, func(a, b *claim) int { return cmp.Compare(a.seq, b.seq) })
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
