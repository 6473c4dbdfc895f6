package command

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Version is the newest version of the log that this server knows. It is raised by one for a release that adds a kind of
// command, a field with a meaning, a value of an enumeration, or another effect of what there was. The cluster works at
// the newest version that all its members know, its level.
//
//	1  locks, sessions
//	2  sets of locks, tasks, asking, breaking, handing over, past holds, the calendar
const Version = 2

// since says with which version a kind of command (the field of Command), a field, or a value came, by its full name. What
// is not listed came with version 1. A test holds it against the schemas of all released versions in test/golden. Raise
// is not here because the version that it needs stands in it.
var since = map[protoreflect.FullName]uint32{
	"doubledutch.command.Acquire.set":                   2,
	"doubledutch.command.Command.claim_task":            2,
	"doubledutch.command.Command.finish_task":           2,
	"doubledutch.command.Command.renew_task":            2,
	"doubledutch.command.Command.forget_task":           2,
	"doubledutch.command.Command.settle_task":           2,
	"doubledutch.command.Command.ask":                   2,
	"doubledutch.command.Command.break":                 2,
	"doubledutch.command.Command.hand_over":             2,
	"doubledutch.command.Command.calendar":              2,
	"doubledutch.command.Settings.max_set":              2,
	"doubledutch.command.Settings.max_tasks":            2,
	"doubledutch.command.Settings.max_result":           2,
	"doubledutch.command.Settings.max_history":          2,
	"doubledutch.command.Settings.max_history_per_lock": 2,
	"doubledutch.command.Settings.history_retention":    2,
	// In snapshots:
	"doubledutch.command.Record.task":             2,
	"doubledutch.command.Record.history":          2,
	"doubledutch.command.Record.broken":           2,
	"doubledutch.command.SnapshotHeader.calendar": 2,
	"doubledutch.command.LockRecord.ask":          2,
	"doubledutch.command.Claim.set":               2,
	"doubledutch.command.Claim.first":             2,
	"doubledutch.command.Claim.terms":             2,
	"doubledutch.command.SnapshotTrailer.tasks":   2,
	"doubledutch.command.SnapshotTrailer.history": 2,
	"doubledutch.command.SnapshotTrailer.broken":  2,
}

// raiseSince is the first version that can be raised to.
const raiseSince = 2

// Current is what this server knows.
var Current = NewSchema(Version, since)

// Schema is what a server of some version knows of commands. It is immutable.
type Schema struct {
	version uint32
	// Returns what came after version 1, by the message that it is in or whose fields lead to it. The descriptors that it
	// needs are not there yet while variables of this package are initialised.
	newer func() newerParts
	// Returns those of Command, by the number of their field: they are asked for with each command, several times.
	ops func() []*part
}

type newerParts map[protoreflect.FullName][]part

// part is a field that came later, or in which something may be that did.
type part struct {
	field  protoreflect.FieldDescriptor
	since  uint32
	values map[protoreflect.EnumNumber]uint32
	leads  []part // of the message that it leads to
}

// NewSchema returns the schema of a server that knows everything up to version; since is as the variable of that name.
// Servers have Current, and tests make up others.
func NewSchema(version uint32, since map[protoreflect.FullName]uint32) *Schema {
	newer := sync.OnceValue(func() newerParts {
		n := newerParts{}
		if len(since) > 0 {
			n.learn((&Command{}).ProtoReflect().Descriptor(), since)
		}
		return n
	})
	return &Schema{version: version, newer: newer, ops: sync.OnceValue(func() []*part { return newer().ops() })}
}

// ops returns the parts of Command by the number of their field.
func (n newerParts) ops() (ops []*part) {
	parts := n[(&Command{}).ProtoReflect().Descriptor().FullName()]
	for i := range parts {
		p := &parts[i]
		if missing := int(p.field.Number()) + 1 - len(ops); missing > 0 {
			ops = append(ops, make([]*part, missing)...)
		}
		ops[p.field.Number()] = p
	}
	return ops
}

// learn notes the parts of m and returns them. Messages do not contain themselves.
func (n newerParts) learn(m protoreflect.MessageDescriptor, since map[protoreflect.FullName]uint32) []part {
	var parts []part
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		p := part{field: f, since: max(1, since[f.FullName()])}
		if e := f.Enum(); e != nil {
			p.values = newerValues(e, since)
		}
		if sub := f.Message(); sub != nil {
			p.leads = n.learn(sub, since)
		}
		if p.since > 1 || p.leads != nil || p.values != nil {
			parts = append(parts, p)
		}
	}
	if parts != nil {
		n[m.FullName()] = parts
	}
	return parts
}

func newerValues(e protoreflect.EnumDescriptor, since map[protoreflect.FullName]uint32) map[protoreflect.EnumNumber]uint32 {
	var values map[protoreflect.EnumNumber]uint32
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		if at := since[v.FullName()]; at > 1 {
			if values == nil {
				values = map[protoreflect.EnumNumber]uint32{}
			}
			values[v.Number()] = at
		}
	}
	return values
}

// op returns the part that is the field of Command with that number, or nil if the field came with version 1 and leads nowhere.
func (s *Schema) op(number protoreflect.FieldNumber) *part {
	if ops := s.ops(); int(number) < len(ops) {
		return ops[number]
	}
	return nil
}

// Version returns the newest version that is known.
func (s *Schema) Version() uint32 { return s.version }

// Of returns the lowest version that a server must know to apply c.
func (s *Schema) Of(c *Command) uint32 {
	if r := c.GetRaise(); r != nil {
		return max(raiseSince, r.GetVersion())
	}
	// All fields of a command are of one oneof, and looking at the one that is set takes a tenth of looking at each.
	m := c.ProtoReflect()
	set := m.WhichOneof(m.Descriptor().Oneofs().Get(0))
	if set == nil {
		return 1
	}
	p := s.op(set.Number())
	if p == nil {
		return 1
	}
	return max(p.since, p.needOf(m.Get(set)))
}

// needOfAll returns what the parts of m need.
func needOfAll(parts []part, m protoreflect.Message) uint32 {
	need := uint32(1)
	for i := range parts {
		if p := &parts[i]; m.Has(p.field) {
			need = max(need, p.since, p.needOf(m.Get(p.field)))
		}
	}
	return need
}

// needOf returns what the value of a field needs.
func (p *part) needOf(v protoreflect.Value) uint32 {
	if !p.field.IsList() {
		return p.needOne(v)
	}
	need := uint32(1)
	for i := range v.List().Len() {
		need = max(need, p.needOne(v.List().Get(i)))
	}
	return need
}

func (p *part) needOne(v protoreflect.Value) uint32 {
	switch {
	case p.leads != nil:
		return needOfAll(p.leads, v.Message())
	case p.values != nil:
		return max(1, p.values[v.Enum()])
	}
	return 1
}

// Trim clears all fields of settings that came after the given level. Settings that were written for a newer version can
// so be proposed before it is reached.
func (s *Schema) Trim(settings *Settings, level uint32) {
	m := settings.ProtoReflect()
	for _, p := range s.newer()[m.Descriptor().FullName()] {
		if p.since > level {
			m.Clear(p.field)
		}
	}
}

// NewEntry returns an entry that holds cmds, with a clock reading (nanoseconds of cluster time) that was taken in the
// given term. Its version is the lowest that all of cmds can do with.
func (s *Schema) NewEntry(term uint64, time int64, cmds []*Command) *Entry {
	need := uint32(1)
	for _, c := range cmds {
		need = max(need, s.Of(c))
	}
	return &Entry{Version: need, Term: term, Time: time, Commands: cmds}
}

// NewEntry is that of Current.
func NewEntry(term uint64, time int64, cmds []*Command) *Entry {
	return Current.NewEntry(term, time, cmds)
}

// Decode is that of Current.
func Decode(data []byte) (*Entry, error) { return Current.Decode(data) }

// Decode reads an entry. The error wraps ErrNotUnderstood when the entry asks for a newer version, carries a command or
// field that this version does not know or that is newer than the entry says, or is out of bounds.
func (s *Schema) Decode(data []byte) (*Entry, error) {
	if len(data) > MaxEntryBytes {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrNotUnderstood, len(data), MaxEntryBytes)
	}
	var e Entry
	if err := proto.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotUnderstood, err)
	}
	if err := s.CheckVersion(e.GetVersion()); err != nil {
		return nil, err
	}
	if len(e.GetCommands()) > MaxCommandsPerEntry {
		return nil, fmt.Errorf("%w: %d commands, more than %d", ErrNotUnderstood, len(e.GetCommands()), MaxCommandsPerEntry)
	}
	if len(e.ProtoReflect().GetUnknown()) > 0 {
		return nil, fmt.Errorf("%w: it has a field that this server does not know", ErrNotUnderstood)
	}
	for i, c := range e.GetCommands() {
		err := checkKnown(c)
		if err == nil && s.Of(c) > e.GetVersion() {
			err = errTooNew
		}
		if err != nil {
			return nil, fmt.Errorf("%w: command %d %w", ErrNotUnderstood, i, err)
		}
	}
	return &e, nil
}

var errTooNew = errors.New("is newer than its entry says")

// CheckVersion returns an error that wraps ErrNotUnderstood if something of that version cannot be read.
func (s *Schema) CheckVersion(v uint32) error {
	if v < 1 || v > s.version {
		return fmt.Errorf("%w: it has format version %d, this server knows up to %d; run a newer server on this data",
			ErrNotUnderstood, v, s.version)
	}
	return nil
}
