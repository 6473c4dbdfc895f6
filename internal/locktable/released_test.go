package locktable

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/test/golden"
)

// The log of a released version: entries as they stood in a log, each with its length (varint) before it. In hashes.txt
// there is a line for each of them, with what a table of that version said and became.
const (
	releasedLog      = "log.bin"
	releasedHashes   = "hashes.txt"
	releasedSnapshot = "snapshot.bin"
)

// The log goes on until it has all there is.
const (
	leastReleased = 600
	mostReleased  = 3000
)

// replayer feeds a table with entries and writes down what comes of each.
type replayer struct {
	table   *Table
	answers hash.Hash // of everything that the table has said so far
}

func newReplayer() *replayer {
	return &replayer{table: New(DefaultSettings()), answers: sha256.New()}
}

// apply applies an entry and returns its line.
func (r *replayer) apply(e *command.Entry) string {
	outs, events := r.table.Apply(Time(e.GetTime()), e.GetCommands())
	for i := range outs {
		tellOutcome(r.answers, &outs[i])
	}
	for i := range events {
		tellEvent(r.answers, &events[i])
	}
	state := r.table.Hash()
	return fmt.Sprintf("%x %x", state[:8], r.answers.Sum(nil)[:8])
}

// tellOutcome writes the fields that version 1 had; those of later versions are told where they have a value.
func tellOutcome(w io.Writer, o *Outcome) {
	_, _ = fmt.Fprintln(w, "outcome", o.Code, o.Mode, o.Slots, o.Token, int64(o.TTL), o.Deadline, int64(o.Waited), o.Position,
		o.Released, o.Now, o.Detail != "")
	tellHolder(w, o.Holder)
}

func tellHolder(w io.Writer, h *Holder) {
	if h != nil {
		_, _ = fmt.Fprintf(w, "holder %q %q %d %d %d %d %d %d\n", h.Owner, h.Metadata, h.Mode, h.Token, h.Since, h.Deadline, h.Holders, h.Waiters)
	}
}

func tellEvent(w io.Writer, e *Event) {
	_, _ = fmt.Fprintf(w, "event %d %q %s %d %d %d %d %q %q %d %d %d %d\n", e.Kind, e.Lock, e.Key.Reveal(), e.Attachment, e.Mode,
		e.Slots, e.Token, e.Owner, e.Metadata, e.TTL, e.Deadline, e.Waited, e.HeldFor)
	tellHolder(w, e.Holder)
}

// TestReleasedLogs: what a released version has written gives the same locks, answers and snapshots today. A difference means
// that servers of the two versions in one cluster would disagree; if it is wanted, it has to begin with a new level.
func TestReleasedLogs(t *testing.T) {
	if golden.Updating() {
		writeReleased(t)
	}
	for _, v := range golden.Versions(t) {
		t.Run(fmt.Sprint("v", v), func(t *testing.T) {
			entries := readEntries(t, golden.Read(t, v, releasedLog))
			lines := strings.Split(strings.TrimSpace(string(golden.Read(t, v, releasedHashes))), "\n")
			if len(entries) < leastReleased || len(lines) != len(entries) {
				t.Fatalf("%d entries and %d lines", len(entries), len(lines))
			}
			whole := newReplayer()
			snapshot := golden.Read(t, v, releasedSnapshot)
			fromSnapshot, err := Restore(bytes.NewReader(snapshot))
			if err != nil {
				t.Fatal(err)
			}
			start, reached := fromSnapshot.Hash(), false
			for i, e := range entries {
				if got := whole.apply(e); got != lines[i] {
					t.Fatalf("entry %d (%v): state and answers are %s, and were %s in version %d", i, e, got, lines[i], v)
				}
				switch {
				case reached:
					fromSnapshot.Apply(Time(e.GetTime()), e.GetCommands())
				case whole.table.Hash() == start:
					reached = true
					writesAlike(t, whole.table, snapshot)
				}
			}
			if !reached {
				t.Error("the snapshot is of a state that the log does not lead to")
			}
			if fromSnapshot.Hash() != whole.table.Hash() {
				t.Error("the table from the snapshot went another way than the one from the whole log")
			}
			if err := whole.table.CheckInvariants(); err != nil {
				t.Error(err)
			}
		})
	}
}

// writesAlike checks that today's code writes the table as the older version did, which may have to read it.
func writesAlike(t *testing.T, table *Table, snapshot []byte) {
	t.Helper()
	written, err := snapshotBytes(table, 100)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, snapshot) {
		t.Error("the same state is written in another form")
	}
}

func readEntries(t *testing.T, data []byte) []*command.Entry {
	t.Helper()
	var entries []*command.Entry
	r := bufio.NewReader(bytes.NewReader(data))
	for {
		n, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return entries
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		e, err := command.Decode(b)
		if err != nil {
			t.Fatalf("entry %d: %v", len(entries), err)
		}
		entries = append(entries, e)
	}
}

// writeReleased makes the golden files of the present version.
func writeReleased(t *testing.T) {
	var entries []*command.Entry
	for seed := int64(1); entries == nil; seed++ {
		entries = completeLog(seed)
	}
	var log, hashes bytes.Buffer
	var snapshot []byte
	r := newReplayer()
	for _, e := range entries {
		data, err := command.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		log.Write(binary.AppendUvarint(nil, uint64(len(data))))
		log.Write(data)
		fmt.Fprintln(&hashes, r.apply(e))
		written, err := snapshotBytes(r.table, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(written) > len(snapshot) { // the richest state
			snapshot = written
		}
	}
	golden.Write(t, command.Version, releasedLog, log.Bytes())
	golden.Write(t, command.Version, releasedHashes, hashes.Bytes())
	golden.Write(t, command.Version, releasedSnapshot, snapshot)
}

// completeLog returns a log that has everything, or nil if that would take too long.
func completeLog(seed int64) []*command.Entry {
	seen := newCoverage(command.Version)
	m := newModel(DefaultSettings())
	m.level = 1
	g := &generator{c: rand.New(rand.NewSource(seed)), m: m, tasks: 30}
	r := newReplayer()
	var entries []*command.Entry
	put := func(now Time, cmds []*command.Command) {
		e := command.NewEntry(1, int64(now), cmds)
		m.Apply(now, cmds)
		r.apply(e)
		seen.note(e, r.table.outcomes, r.table.events)
		entries = append(entries, e)
	}
	if command.Version > 1 {
		put(0, []*command.Command{command.FromRaise(&command.Raise{Version: command.Version})})
	}
	put(0, []*command.Command{command.FromConfigure(&command.Configure{Settings: smallSettings()})})
	for _, e := range ties() {
		put(e.now, e.cmds)
	}
	for len(entries) < leastReleased || len(seen.missing()) > 0 {
		if len(entries) == mostReleased {
			return nil
		}
		put(g.now(), writable(g.entry()))
	}
	return entries
}

// ties are what chance does not bring: a wait that ends together with the grace, and deadlines of the same moment.
func ties() []logEntry {
	grace := Time(smallSettings().GetWaiterGrace())
	acquire := func(lock, key string, ttl, wait Time) *command.Command {
		return command.FromAcquire(&command.Acquire{Name: lock, Key: pad(key), Ttl: int64(ttl), Wait: int64(wait), LockDelay: int64(ttl % 2)})
	}
	return []logEntry{
		{1, []*command.Command{acquire("a", "k0", 2*grace, 0), acquire("a", "k1", grace, grace)}},
		{1 + grace, nil},
		{1 + grace, []*command.Command{acquire("b", "k2", grace, 0), acquire("b", "k3", grace, grace), acquire("c", "k4", grace, 0)}},
		{1 + 2*grace, nil},
		{1 + 3*grace, nil},
	}
}

// writable leaves out the commands that no server would write, and makes the room for texts so small that it gets full.
func writable(cmds []*command.Command) []*command.Command {
	var out []*command.Command
	for _, c := range cmds {
		if s := c.GetConfigure().GetSettings(); s.GetMaxSpent() == 2 {
			s.MaxTextBytes = 16
		}
		if command.Check(c) == nil {
			out = append(out, c)
		}
	}
	return out
}

// coverage tells which kinds of commands, outcomes and events of version 1 have yet to come.
type coverage map[string]bool

// lastOf are the last outcome and kind of event of each version.
var lastOf = map[uint32]struct {
	code Code
	kind EventKind
}{
	1: {TooMuchText, EventSessionExpired},
	2: {NoSuccessor, EventTaskForgotten},
}

func newCoverage(version uint32) coverage {
	c := coverage{}
	for i := range (&command.Command{}).ProtoReflect().Descriptor().Fields().Len() {
		cmd := (&command.Command{}).ProtoReflect()
		f := cmd.Descriptor().Fields().Get(i)
		cmd.Set(f, cmd.NewField(f))
		if f.Name() != "raise" && command.Current.Of(cmd.Interface().(*command.Command)) <= version {
			c[string(f.Name())] = true
		}
	}
	for code := Invalid; code <= lastOf[version].code; code++ {
		if code != Cancelled { // Apply never answers so
			c[fmt.Sprint("code ", code)] = true
		}
	}
	for kind := EventGranted; kind <= lastOf[version].kind; kind++ {
		c[fmt.Sprint("event ", kind)] = true
	}
	return c
}

func (c coverage) note(e *command.Entry, outs []Outcome, events []Event) {
	for _, cmd := range e.GetCommands() {
		m := cmd.ProtoReflect()
		delete(c, string(m.WhichOneof(m.Descriptor().Oneofs().ByName("op")).Name()))
	}
	for i := range outs {
		delete(c, fmt.Sprint("code ", outs[i].Code))
	}
	for i := range events {
		delete(c, fmt.Sprint("event ", events[i].Kind))
	}
}

func (c coverage) missing() []string {
	var out []string
	for what := range c {
		out = append(out, what)
	}
	return out
}

// What the golden files are worth: they have every kind of command, outcome and event that there was.
func TestReleasedLogsLackNothing(t *testing.T) {
	for _, v := range golden.Versions(t) {
		seen := newCoverage(v)
		r := newReplayer()
		for _, e := range readEntries(t, golden.Read(t, v, releasedLog)) {
			r.apply(e)
			seen.note(e, r.table.outcomes, r.table.events)
		}
		for _, what := range seen.missing() {
			t.Errorf("the log of version %d has no %s", v, what)
		}
	}
}

// TestNextLogLacksNothing: a log of the present version that `make golden` would write has every kind of command, outcome and event.
func TestNextLogLacksNothing(t *testing.T) {
	for seed := int64(1); seed <= 50; seed++ {
		if completeLog(seed) != nil {
			return
		}
	}
	t.Error("no log is complete within the most that it may have")
}
