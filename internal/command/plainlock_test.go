package command

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// record is p in protobuf.
func (p *PlainLock) record() *Record {
	return &Record{Kind: &Record_Lock{Lock: &LockRecord{
		Name: p.Name, Slots: p.Slots, Holders: []*Claim{{
			Key: string(p.Key[:]), Seq: p.Seq, Mode: p.Mode, Token: p.Token, Since: p.Since, Ttl: p.TTL, Deadline: p.Deadline,
			Attachment: p.Attachment,
		}},
	}}}
}

var (
	plainNumber = rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Max(300), rapid.Uint64())
	plainTime   = rapid.OneOf(rapid.Just(int64(0)), rapid.Int64())
	plainLocks  = rapid.Custom(func(t *rapid.T) PlainLock {
		p := PlainLock{
			Name:  rapid.OneOf(rapid.StringN(0, 20, 20), rapid.StringN(100, 200, 600)).Draw(t, "name"),
			Slots: uint32(plainNumber.Draw(t, "slots")), Mode: Mode(rapid.IntRange(0, 1).Draw(t, "mode")),
			Seq: plainNumber.Draw(t, "seq"), Token: plainNumber.Draw(t, "token"), Attachment: plainNumber.Draw(t, "attachment"),
			Since: plainTime.Draw(t, "since"), TTL: plainTime.Draw(t, "ttl"), Deadline: plainTime.Draw(t, "deadline"),
		}
		copy(p.Key[:], rapid.StringMatching("[0-9A-Za-z]{32}").Draw(t, "key"))
		return p
	})
	canonical = proto.MarshalOptions{Deterministic: true}
)

// What is written by hand is what protobuf writes, to the byte, and is read back.
func TestPlainLockIsProtobuf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := plainLocks.Draw(t, "lock")
		want, err := canonical.Marshal(p.record())
		if err != nil {
			t.Fatal(err)
		}
		got, delimited := p.AppendDelimited([]byte("before")), new(bytes.Buffer)
		if _, err := (protodelim.MarshalOptions{MarshalOptions: canonical}).MarshalTo(delimited, p.record()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, append([]byte("before"), delimited.Bytes()...)) {
			t.Fatalf("%x, protobuf writes %x", got, delimited.Bytes())
		}
		if back, ok := ParsePlainLock(want); !ok || back != p {
			t.Fatalf("read back as %+v, %v", back, ok)
		}
	})
}

// A lock with anything else is not plain.
func TestOtherRecordsAreNotPlain(t *testing.T) {
	plain := PlainLock{Name: "a", Key: [plainKeyLen]byte([]byte("0123456789abcdefghijABCDEFGHIJxy")), Seq: 3, Token: 7, TTL: 5, Deadline: 9}
	for what, change := range map[string]func(*LockRecord){
		"a delay":      func(l *LockRecord) { l.BlockedUntil, l.BlockedSeq = 5, 6 },
		"a question":   func(l *LockRecord) { l.Ask = &AskRecord{At: 1} },
		"a waiter":     func(l *LockRecord) { l.Waiters = append(l.Waiters, l.GetHolders()[0]) },
		"two holders":  func(l *LockRecord) { l.Holders = append(l.Holders, l.GetHolders()[0]) },
		"no holder":    func(l *LockRecord) { l.Holders = nil },
		"a short key":  func(l *LockRecord) { l.GetHolders()[0].Key = "0123" },
		"no key":       func(l *LockRecord) { l.GetHolders()[0].Key = "" },
		"a session":    func(l *LockRecord) { l.GetHolders()[0].Session = "s" },
		"a lock delay": func(l *LockRecord) { l.GetHolders()[0].LockDelay = 1 },
		"an owner":     func(l *LockRecord) { l.GetHolders()[0].Owner = "o" },
		"a wait":       func(l *LockRecord) { l.GetHolders()[0].Waited = 1 },
		"a set":        func(l *LockRecord) { l.GetHolders()[0].Set = []string{"a", "b"} },
		"first":        func(l *LockRecord) { l.GetHolders()[0].First = &FirstGrant{Since: 1} },
		"terms":        func(l *LockRecord) { l.GetHolders()[0].Terms = &TaskTerms{} },
	} {
		r := plain.record()
		change(r.GetLock())
		raw, err := canonical.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := ParsePlainLock(raw); ok {
			t.Errorf("a lock with %s passes for plain: %+v", what, p)
		}
	}
	if _, ok := ParsePlainLock(nil); ok {
		t.Error("nothing passes for a plain lock")
	}
}

// Whatever is taken for plain is what protobuf reads there, and how it writes it.
func FuzzParsePlainLock(f *testing.F) {
	plain := PlainLock{Name: "a", Slots: 2, Key: [plainKeyLen]byte([]byte("0123456789abcdefghijABCDEFGHIJxy")), Seq: 300, Token: 7, TTL: 5, Attachment: 1}
	raw, err := canonical.Marshal(plain.record())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{0x1a, 0x00})
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, ok := ParsePlainLock(raw)
		if !ok {
			return
		}
		var r Record
		if err := proto.Unmarshal(raw, &r); err != nil {
			return // not UTF-8: who calls looks at texts
		}
		if !proto.Equal(&r, p.record()) {
			t.Fatalf("%x is read as %+v, protobuf reads %v", raw, p, &r)
		}
		if again, err := canonical.Marshal(&r); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%x is taken for plain, protobuf writes %x (%v)", raw, again, err)
		}
	})
}
