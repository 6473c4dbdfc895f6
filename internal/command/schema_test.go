package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/doubledutch-lock/doubledutch/test/golden"
)

// schemaLines describes everything that came with a version up to the given one and that a log or snapshot may hold.
func schemaLines(version uint32) []string {
	d := describer{version: version, seen: map[protoreflect.FullName]bool{}}
	d.message((&Entry{}).ProtoReflect().Descriptor())
	d.message((&Record{}).ProtoReflect().Descriptor())
	slices.Sort(d.lines)
	return d.lines
}

type describer struct {
	version uint32
	seen    map[protoreflect.FullName]bool
	lines   []string
}

func (d *describer) came(name protoreflect.FullName) bool {
	at := max(1, since[name])
	if name == "doubledutch.command.Command.raise" {
		at = raiseSince
	}
	return at <= d.version
}

func (d *describer) message(m protoreflect.MessageDescriptor) {
	if d.seen[m.FullName()] {
		return
	}
	d.seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if !d.came(f.FullName()) {
			continue
		}
		kind := f.Kind().String()
		if sub := f.Message(); sub != nil {
			kind = string(sub.FullName())
			d.message(sub)
		}
		if e := f.Enum(); e != nil {
			kind = string(e.FullName())
			d.enum(e)
		}
		d.lines = append(d.lines, fmt.Sprintf("%s = %d %s %s", f.FullName(), f.Number(), f.Cardinality(), kind))
	}
}

func (d *describer) enum(e protoreflect.EnumDescriptor) {
	if d.seen[e.FullName()] {
		return
	}
	d.seen[e.FullName()] = true
	for i := range e.Values().Len() {
		if v := e.Values().Get(i); d.came(v.FullName()) {
			d.lines = append(d.lines, fmt.Sprintf("%s = %d", v.FullName(), v.Number()))
		}
	}
}

// Nothing of what was released changes, and whatever is added is listed in since with the version it comes with. Without
// that, a new field would be written while an older member takes it for damage.
func TestSchemaKeepsWhatWasReleased(t *testing.T) {
	if golden.Updating() {
		golden.Write(t, Version, "schema.txt", []byte(strings.Join(schemaLines(Version), "\n")+"\n"))
	}
	versions := golden.Versions(t)
	if last := versions[len(versions)-1]; last > Version {
		t.Fatalf("there are golden files of version %d, and this is version %d", last, Version)
	}
	for _, v := range versions {
		want := strings.Split(strings.TrimSpace(string(golden.Read(t, v, "schema.txt"))), "\n")
		got := schemaLines(v)
		for _, line := range got {
			if !slices.Contains(want, line) {
				t.Errorf("version %d has no %q: list it in since, with the version that it comes with", v, line)
			}
		}
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("version %d has %q, which is gone or was changed", v, line)
			}
		}
	}
	for name, at := range since {
		if at < 2 || at > Version {
			t.Errorf("%s came with version %d, and this is version %d", name, at, Version)
		}
	}
}

// A made-up future: version 2 brought metadata, a kind of command, a setting and a mode; version 3 more.
var future = NewSchema(3, map[protoreflect.FullName]uint32{
	"doubledutch.command.Acquire.metadata":         2,
	"doubledutch.command.Acquire.slots":            3,
	"doubledutch.command.Command.end_session":      2,
	"doubledutch.command.Settings.max_metadata":    3,
	"doubledutch.command.Settings.max_text_bytes":  2,
	"doubledutch.command.SHARED":                   2,
	"doubledutch.command.SomethingElse.unheard_of": 9,
})

func TestVersionThatACommandNeeds(t *testing.T) {
	for _, c := range []struct {
		cmd  *Command
		want uint32
	}{
		{FromAcquire(&Acquire{Name: "db"}), 1},
		{FromAcquire(&Acquire{Name: "db", Metadata: "m"}), 2},
		{FromAcquire(&Acquire{Name: "db", Slots: 1}), 3},
		{FromAcquire(&Acquire{Name: "db", Metadata: "m", Slots: 1}), 3},
		{FromAcquire(&Acquire{Name: "db", Mode: Mode_SHARED}), 2},
		{FromRelease(&Release{Name: "db"}), 1},
		{FromEndSession(&EndSession{}), 2},
		{FromConfigure(&Configure{Settings: &Settings{MaxLocks: 1}}), 1},
		{FromConfigure(&Configure{Settings: &Settings{MaxMetadata: 1}}), 3},
		{FromRaise(&Raise{Version: 1}), 2},
		{FromRaise(&Raise{Version: 5}), 5},
		{&Command{}, 1},
	} {
		if got := future.Of(c.cmd); got != c.want {
			t.Errorf("%v needs version %d, want %d", c.cmd, got, c.want)
		}
		if _, ok := c.cmd.GetOp().(*Command_Raise); !ok && Current.Of(c.cmd) != 1 {
			t.Errorf("%v needs version %d today", c.cmd, Current.Of(c.cmd))
		}
	}
}

func TestEntrySaysWhatItNeeds(t *testing.T) {
	plain, news := FromRelease(&Release{Name: "db"}), FromEndSession(&EndSession{})
	if e := future.NewEntry(1, 1, []*Command{plain, plain}); e.GetVersion() != 1 {
		t.Errorf("version %d", e.GetVersion())
	}
	e := future.NewEntry(1, 1, []*Command{plain, news, plain})
	if e.GetVersion() != 2 {
		t.Errorf("version %d", e.GetVersion())
	}
	data, err := Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := future.Decode(data); err != nil {
		t.Error(err)
	}
	if _, err := Decode(data); !errors.Is(err, ErrNotUnderstood) || !strings.Contains(err.Error(), "run a newer server") {
		t.Errorf("version 1 says %v", err)
	}
	// An entry that claims to need less would be skipped over by nobody's check.
	e.Version = 1
	if data, err = Encode(e); err != nil {
		t.Fatal(err)
	}
	if _, err := future.Decode(data); !errors.Is(err, ErrNotUnderstood) {
		t.Errorf("error %v", err)
	}
	if data, err = Encode(&Entry{Version: 1, Commands: []*Command{FromRaise(&Raise{Version: 1})}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(data); !errors.Is(err, ErrNotUnderstood) {
		t.Errorf("error %v", err)
	}
}

func TestTrimLeavesWhatTheLevelKnows(t *testing.T) {
	for level, want := range map[uint32]*Settings{
		1: {MaxLocks: 1},
		2: {MaxLocks: 1, MaxTextBytes: 3},
		3: {MaxLocks: 1, MaxTextBytes: 3, MaxMetadata: 2},
	} {
		s := &Settings{MaxLocks: 1, MaxMetadata: 2, MaxTextBytes: 3}
		future.Trim(s, level)
		if !proto.Equal(s, want) {
			t.Errorf("level %d: %v", level, s)
		}
	}
}

// Whatever a command gets in later versions, in whatever depth, is looked at by those who check: texts, since a text that is
// not UTF-8 fails a whole entry, and fields that are not known.
func TestChecksReachEveryField(t *testing.T) {
	ops := (&Command{}).ProtoReflect().Descriptor().Oneofs().ByName("op").Fields()
	for i := range ops.Len() {
		op := ops.Get(i)
		walk(op.Message(), nil, func(path []protoreflect.FieldDescriptor) {
			c := &Command{}
			m := c.ProtoReflect().Mutable(op).Message()
			last := path[len(path)-1]
			for _, f := range path[:len(path)-1] {
				m = enter(m, f)
			}
			switch {
			case last.Kind() == protoreflect.StringKind && last.IsList():
				m.Mutable(last).List().Append(protoreflect.ValueOfString("\xff"))
			case last.Kind() == protoreflect.StringKind:
				m.Set(last, protoreflect.ValueOfString("\xff"))
			default:
				enter(m, last).SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1))
				if checkKnown(c) == nil {
					t.Errorf("an unknown field in %s is not noticed", last.FullName())
				}
				return
			}
			if Check(c) == nil {
				t.Errorf("a bad text in %s is not noticed", last.FullName())
			}
		})
	}
}

// walk calls f for every text and message below m.
func walk(m protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor, f func([]protoreflect.FieldDescriptor)) {
	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		below := append(slices.Clone(path), field)
		switch field.Kind() {
		case protoreflect.StringKind:
			f(below)
		case protoreflect.MessageKind:
			f(below)
			walk(field.Message(), below, f)
		}
	}
}

// enter returns the message in a field, or a new one at the end of the list in it.
func enter(m protoreflect.Message, f protoreflect.FieldDescriptor) protoreflect.Message {
	if f.IsList() {
		return m.Mutable(f).List().AppendMutable().Message()
	}
	return m.Mutable(f).Message()
}

func TestRequestsSayTheOldestVersionThatDoes(t *testing.T) {
	r := &PeerRequest{Op: &PeerRequest_Hello{Hello: &Hello{}}}
	data, err := EncodeRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeRequest(data); err != nil || got.GetVersion() != 1 {
		t.Errorf("version %d, error %v: a node of the first version has to answer while it is upgraded", got.GetVersion(), err)
	}
	r.Version = PeerVersion + 1
	if data, err = proto.Marshal(r); err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeRequest(data); !errors.Is(err, ErrNotUnderstood) {
		t.Errorf("error %v", err)
	}
}
