package locktable

import (
	"bytes"
	"encoding/binary"
	"io"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// read returns the bytes of the next record, which are valid until the next call.
func (r *restorer) read() ([]byte, error) {
	n, err := binary.ReadUvarint(r.in)
	if err != nil {
		return nil, bad("it is cut short: %w", err)
	}
	if n > maxRecordBytes {
		return nil, bad("a record of %d bytes", n)
	}
	r.buf.Reset()
	if _, err := io.CopyN(&r.buf, r.in, int64(n)); err != nil {
		return nil, bad("it is cut short: %w", err)
	}
	return r.buf.Bytes(), nil
}

// takeRaw takes the record in r.buf.
func (r *restorer) takeRaw(raw []byte) error {
	if taken, err := r.takePlain(raw); taken || err != nil {
		return err
	}
	var rec command.Record
	// Without its unknown fields a record that has some has other bytes, so that nobody needs to look for them in the others.
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, &rec); err != nil {
		return bad("%w", err)
	}
	if !r.isForm(&rec, raw) {
		return r.refuse(raw)
	}
	return r.take(&rec)
}

// isForm tells whether raw is how this server writes rec.
func (r *restorer) isForm(rec *command.Record, raw []byte) bool {
	again, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(r.again[:0], rec)
	r.again = again
	return err == nil && bytes.Equal(again, raw)
}

// refuse says what is wrong with a record that this server would not have written so: it has fields that this server does not
// know (a newer server did mean something by them), or another encoding.
func (r *restorer) refuse(raw []byte) error {
	var rec command.Record
	if err := proto.Unmarshal(raw, &rec); err != nil {
		return bad("%w", err)
	}
	if r.isForm(&rec, raw) && hasUnknown(rec.ProtoReflect()) {
		return bad("%w: it has a field that this server does not know; run a newer server on this data", command.ErrNotUnderstood)
	}
	return bad("a record is not in the form in which records are written")
}

// takePlain takes a record in the way of command.PlainLock, if it is one in which nothing has to be refused but its place.
func (r *restorer) takePlain(raw []byte) (taken bool, err error) {
	if r.part == partHeader {
		return false, nil
	}
	p, ok := command.ParsePlainLock(raw)
	if !ok || !utf8.ValidString(p.Name) || p.Token == 0 || p.Mode != Exclusive && p.Mode != Shared {
		return false, nil
	}
	key := Key(p.Key)
	if !key.wellFormed() || r.table.keys.get(key) != nil {
		return false, nil
	}
	return true, r.inPart(partLocks, p.Name, func() error {
		l := r.addLock(p.Name)
		l.slots = p.Slots
		c := &claim{
			key: key, lock: l, token: p.Token, seq: p.Seq, since: Time(p.Since), ttl: time.Duration(p.TTL),
			deadline: Time(p.Deadline), attachment: p.Attachment, mode: uint8(p.Mode),
		}
		r.table.keys.put(c)
		l.holders.push(c)
		r.table.counts.add(c)
		r.table.timers.arm(c)
		r.table.counts.Held++
		r.count.Locks++
		return nil
	})
}

// addLock is newLock for a name that belongs to nobody else, and comes after all that are there.
func (r *restorer) addLock(name string) *lock {
	l := &lock{name: name}
	r.table.locks.Load(name, l)
	r.table.text += uint64(len(name))
	return l
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
