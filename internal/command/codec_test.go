package command

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// everyCommand returns one command of each kind, with all fields set.
func everyCommand() []*Command {
	key := strings.Repeat("k", 32)
	return []*Command{
		FromAcquire(&Acquire{
			Name: "db", Key: key, Session: key, Ttl: 1, Wait: -1, Mode: Mode_SHARED, Slots: 3, Owner: "o", Metadata: "m",
			LockDelay: 4, Attachment: 5, Request: 6,
		}),
		FromRelease(&Release{Name: "db", Key: key, Session: key, Request: 1}),
		FromRenew(&Renew{Name: "db", Key: key, Ttl: 1, Session: key, Request: 2}),
		FromAbandon(&Abandon{Key: key, Attachment: 7}),
		FromPoll(&Poll{Keys: []string{key, key}}),
		FromOpenSession(&OpenSession{Id: key, Ttl: 1, Owner: "o", Metadata: "m"}),
		FromRenewSession(&RenewSession{Id: key, Ttl: 1, Request: 3}),
		FromEndSession(&EndSession{Id: key}),
		FromConfigure(&Configure{Settings: &Settings{MaxTtl: 1, MaxLocks: 2}}),
	}
}

// everyKind has those commands, too, that need a later version.
func everyKind() []*Command {
	return append(everyCommand(), FromRaise(&Raise{Version: 2}))
}

func mustEncode(t testing.TB, cmds ...*Command) []byte {
	t.Helper()
	data, err := Encode(NewEntry(3, 42, cmds))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	cmds := everyCommand()
	e, err := Decode(mustEncode(t, cmds...))
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(e, &Entry{Version: Version, Time: 42, Term: 3, Commands: cmds}) {
		t.Errorf("decoded %v", e)
	}
}

func TestEveryKindOfCommandIsCovered(t *testing.T) {
	fields := (&Command{}).ProtoReflect().Descriptor().Oneofs().ByName("op").Fields()
	if got := len(everyKind()); got != fields.Len() {
		t.Errorf("%d kinds in the tests, %d in the schema", got, fields.Len())
	}
	for _, c := range everyKind() {
		if opMessage(c) == nil {
			t.Errorf("opMessage does not know %T", c.GetOp())
		}
		if err := Check(c); err != nil {
			t.Errorf("%T: %v", c.GetOp(), err)
		}
	}
}

// T24: whatever a newer server may have written is refused, never skipped, at every level of the entry.
func TestNewerEntriesAreNotUnderstood(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1)
	withUnknown := func(m proto.Message) { m.ProtoReflect().SetUnknown(unknown) }
	for name, change := range map[string]func(*Entry){
		"newer version":    func(e *Entry) { e.Version = Version + 1 },
		"no version":       func(e *Entry) { e.Version = 0 },
		"field of entry":   func(e *Entry) { withUnknown(e) },
		"kind of command":  func(e *Entry) { e.Commands[0].Op = nil; withUnknown(e.Commands[0]) },
		"empty command":    func(e *Entry) { e.Commands[0].Op = nil },
		"field of command": func(e *Entry) { withUnknown(e.Commands[0].GetAcquire()) },
		"field of settings": func(e *Entry) {
			e.Commands[0] = everyCommand()[8]
			withUnknown(e.Commands[0].GetConfigure().GetSettings())
		},
		"too many commands": func(e *Entry) {
			for len(e.Commands) <= MaxCommandsPerEntry {
				e.Commands = append(e.Commands, e.Commands[0])
			}
		},
	} {
		e := &Entry{Version: Version, Commands: everyCommand()[:1]}
		change(e)
		data, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(data); !errors.Is(err, ErrNotUnderstood) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestOversizedAndBrokenEntriesAreNotUnderstood(t *testing.T) {
	for name, data := range map[string][]byte{
		"oversized": make([]byte, MaxEntryBytes+1),
		"broken":    {0x0a},
		"cut":       mustEncode(t, everyCommand()...)[:50],
	} {
		if _, err := Decode(data); !errors.Is(err, ErrNotUnderstood) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestCheckFindsWhatCannotBeWritten(t *testing.T) {
	bad := []*Command{
		{},
		FromAcquire(&Acquire{Name: "\xff"}),
		FromAcquire(&Acquire{Owner: "\xff"}),
		FromAcquire(&Acquire{Metadata: "\xff"}),
		FromRelease(&Release{Key: "\xff"}),
		FromRenew(&Renew{Session: "\xff"}),
		FromAbandon(&Abandon{Key: "\xff"}),
		FromPoll(&Poll{Keys: []string{"a", "\xff"}}),
		FromOpenSession(&OpenSession{Owner: "\xff"}),
		FromRenewSession(&RenewSession{Id: "\xff"}),
		FromEndSession(&EndSession{Id: "\xff"}),
	}
	for _, c := range bad {
		if Check(c) == nil {
			t.Errorf("%v passes", c)
		}
	}
}

// FuzzDecode: whatever the bytes, Decode does not panic, and what it accepts means the same after another round.
func FuzzDecode(f *testing.F) {
	f.Add(mustEncode(f, everyCommand()...))
	f.Add(mustEncode(f))
	for _, c := range everyCommand() {
		f.Add(mustEncode(f, c))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrNotUnderstood) {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := Encode(NewEntry(e.GetTerm(), e.GetTime(), e.GetCommands()))
		if err != nil {
			t.Fatal(err)
		}
		e2, err := Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		e.Version = e2.GetVersion()
		if !proto.Equal(e, e2) {
			t.Fatalf("%v became %v", e, e2)
		}
		third, _ := Encode(NewEntry(e2.GetTerm(), e2.GetTime(), e2.GetCommands()))
		if !bytes.Equal(again, third) {
			t.Fatal("encoding is not stable")
		}
	})
}
