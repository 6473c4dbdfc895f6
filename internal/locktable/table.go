package locktable

import (
	"time"

	"github.com/tidwall/btree"
	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// Table is the state of all locks. Its owner serialises all calls.
type Table struct {
	now       Time
	lastToken uint64 // see epoch.go
	lastSeq   uint64
	level     uint32 // the version of commands that all members know, as the log says
	settings  *command.Settings

	locks    btree.Map[string, *lock]
	sessions btree.Map[string, *session] // shared ones, by id
	spent    spentKeys

	// Derived from the above.
	keys   keyIndex
	timers timers
	counts Stats
	text   uint64 // bytes of names, owners and metadata

	// The snapshots that are being written: they must see things as they were.
	snapshots []*Snapshot

	// Of the entry that is being applied.
	outcomes []Outcome
	events   []Event
}

// New returns an empty table with the given settings, which must pass CheckSettings.
func New(s *command.Settings) *Table {
	if err := CheckSettings(s); err != nil {
		panic("locktable: " + err.Error())
	}
	return &Table{level: 1, settings: proto.CloneOf(s)}
}

// Now returns the cluster time of the newest entry.
func (t *Table) Now() Time { return t.now }

// Settings returns the replicated limits. They must not be modified.
func (t *Table) Settings() *command.Settings { return t.settings }

// Level returns the version up to which commands may be applied: 1, or what a Raise has raised it to.
func (t *Table) Level() uint32 { return t.level }

// NextDeadline returns the time of the earliest deadline, and false if nothing can expire.
func (t *Table) NextDeadline() (Time, bool) { return t.timers.next() }

// Apply moves the clock to now (never back), takes note of the polls among cmds, fires what is due, and executes the rest of
// cmds in order. It returns one outcome per command and the events in the order in which things happened; both are valid
// until the next call.
func (t *Table) Apply(now Time, cmds []*command.Command) ([]Outcome, []Event) {
	clear(t.events)
	t.outcomes, t.events = t.outcomes[:0], t.events[:0]
	t.now = max(t.now, now)
	t.pruneSpent()
	for _, c := range cmds {
		// Whoever polls is there, also if the entry comes so late that the grace has ended before it.
		if p := c.GetPoll(); p != nil {
			t.poll(p)
		}
	}
	for x := t.timers.pop(t.now); x != nil; x = t.timers.pop(t.now) {
		t.fire(x)
	}
	for _, c := range cmds {
		o := t.execute(c)
		o.Now = t.now
		t.outcomes = append(t.outcomes, o)
	}
	return t.outcomes, t.events
}

func (t *Table) execute(c *command.Command) Outcome {
	switch op := c.GetOp().(type) {
	case *command.Command_Acquire:
		return t.acquire(op.Acquire)
	case *command.Command_Release:
		return t.release(op.Release)
	case *command.Command_Renew:
		return t.renew(op.Renew)
	case *command.Command_Abandon:
		return t.abandon(op.Abandon)
	case *command.Command_Poll:
		return Outcome{Code: Done} // counted before
	case *command.Command_OpenSession:
		return t.openSession(op.OpenSession)
	case *command.Command_RenewSession:
		return t.renewSession(op.RenewSession)
	case *command.Command_EndSession:
		return t.endSession(op.EndSession)
	case *command.Command_Configure:
		return t.configure(op.Configure)
	case *command.Command_Raise:
		t.level = max(t.level, op.Raise.GetVersion())
		return Outcome{Code: Done}
	}
	// command.Decode lets no unknown command through; who feeds one by another way has a bug that must not be replicated.
	panic("locktable: unknown command")
}

func (t *Table) configure(c *command.Configure) Outcome {
	if err := CheckSettings(c.GetSettings()); err != nil {
		return invalid(err)
	}
	t.settings = proto.CloneOf(c.GetSettings())
	t.pruneSpent()
	return Outcome{Code: Done}
}

func invalid(err error) Outcome { return Outcome{Code: Invalid, Detail: err.Error()} }

// fire ends what is due.
func (t *Table) fire(x timed) {
	switch x := x.(type) {
	case *claim:
		t.fireClaim(x)
	case *session:
		t.finish(x, EventExpired)
	case *block:
		t.touch(x.lock)
		x.lock.block = nil
		t.serve(x.lock)
	}
}

func (t *Table) fireClaim(c *claim) {
	l := c.lock
	switch {
	case !c.waiting():
		t.end(c, EventExpired)
	case c.extra.until <= c.deadline:
		t.drop(c, EventTimedOut, keepKey)
	default:
		t.drop(c, EventCancelled, keepKey)
	}
	t.serve(l)
}

func (t *Table) nextSeq() uint64 {
	t.lastSeq++
	return t.lastSeq
}

func (t *Table) pruneSpent() {
	t.spent.prune(t.now, time.Duration(t.settings.GetSpentRetention()), int(t.settings.GetMaxSpent()))
}

func (t *Table) spend(k Key) {
	t.spent.add(k, t.now)
	t.pruneSpent()
}

func (t *Table) emit(e Event) { t.events = append(t.events, e) }
