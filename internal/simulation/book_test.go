package simulation

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// How many entries lie between two comparisons of a node's table with the book's.
const hashEvery = 48

// book is the truth of a run: every entry that any node has applied, executed once more on a table of its own, with the
// real time at which the first node applied it. It judges what can be judged at once.
type book struct {
	world   *world
	history history

	mu      sync.Mutex // guards all below
	entries []entry    // by ascending index
	at      map[uint64]int
	table   *locktable.Table
	clock   locktable.Time
	gap     time.Duration // by how much the newest entry moved the clock
	terms   int
	hashes  map[uint64][sha256.Size]byte
	last    map[*life]uint64
	renewed int64 // the last distinct ttl

	keys      map[claimed]*fate4key
	byKey     map[string][]*fate4key
	handing   map[string]string // lock, to whom the entry in work hands it over
	overdue   map[string]bool   // sessions that the entry in work lets expire
	tasks     map[string]*fate4task
	holders   map[string][]*fate4key // lock
	bySession map[string][]*fate4key
	acquires  map[uint64][]*logged // by attachment
	renewals  map[int64][]*logged  // by ttl
	releases  map[string][]*logged // by key
	queues    map[string][]string  // lock, keys in order
	wakes     map[wake]time.Time
	lastToken uint64
}

// entry is one applied entry of the log.
type entry struct {
	index, term uint64
	data        []byte
	first       time.Time // when a node first applied it
	clock       locktable.Time
}

// wake is a grant that a node has to tell one of its clients.
type wake struct {
	life       *life
	attachment uint64
}

// logged is one executed command.
type logged struct {
	index uint64
	at    time.Time
	code  locktable.Code
	token uint64
}

// claimed is a key and one of the locks that it asks for.
type claimed struct{ key, lock string }

// fate4key is what the log says of a key and a lock.
type fate4key struct {
	key, lock  string
	session    string
	grants     []grant
	queued     []time.Time
	dropped    []time.Time // when a place was lost without a grant
	extended   time.Time   // when the newest grant or renewal was applied
	extendedIx int
	asked      locktable.Time // when the newest acquire was executed
	ttl        time.Duration
}

// grant is one hold.
type grant struct {
	token  uint64
	at     time.Time
	clock  locktable.Time
	gap    time.Duration  // by how much its entry moved the clock
	asked  locktable.Time // when the newest acquire before it was executed
	end    time.Time      // zero: still held
	how    locktable.EventKind
	handed bool // past those before it in the queue
}

func newBook(w *world) *book {
	return &book{
		world: w, at: map[uint64]int{}, table: locktable.New(locktable.DefaultSettings()), hashes: map[uint64][sha256.Size]byte{},
		last: map[*life]uint64{}, keys: map[claimed]*fate4key{}, byKey: map[string][]*fate4key{}, tasks: map[string]*fate4task{}, holders: map[string][]*fate4key{}, bySession: map[string][]*fate4key{}, acquires: map[uint64][]*logged{},
		renewals: map[int64][]*logged{}, releases: map[string][]*logged{},
		queues: map[string][]string{}, wakes: map[wake]time.Time{},
	}
}

// now returns the newest cluster time that any node has applied.
func (b *book) now() locktable.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clock
}

// unlike returns a ttl near d that was never used.
func (b *book) unlike(d time.Duration) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.renewed++
	return int64(d.Truncate(time.Millisecond)) + b.renewed
}

// applied is told of each entry that a node has applied.
func (b *book) applied(l *life, e *raft.Log, view func(func(*locktable.Table))) {
	b.mu.Lock()
	i, known := b.at[e.Index]
	if !known {
		i = b.enter(e)
	}
	if was := b.entries[i]; was.term != e.Term || !bytes.Equal(was.data, e.Data) {
		b.world.violated("S7", "%s applies entry %d of term %d, and another node has applied one of term %d there; what was acknowledged is lost",
			l.machine.name, e.Index, e.Term, was.term)
	}
	if last := b.last[l]; e.Index <= last {
		b.world.violated("S14", "%s applies entry %d after entry %d", l.machine.name, e.Index, last)
	}
	b.last[l] = e.Index
	want, compare := b.hashes[e.Index]
	b.mu.Unlock()
	if compare {
		b.compare(l, e.Index, want, view)
	}
}

func (b *book) compare(l *life, index uint64, want [sha256.Size]byte, view func(func(*locktable.Table))) {
	var have [sha256.Size]byte
	view(func(t *locktable.Table) { have = t.Hash() })
	b.world.count.add("states compared", 1)
	if have != want {
		b.world.violated("S14", "after entry %d %s has another state than the log makes", index, l.machine.name)
	}
}

// enter executes an entry that no node has applied before.
func (b *book) enter(e *raft.Log) int {
	i := len(b.entries)
	if i > 0 && b.entries[i-1].index > e.Index {
		b.world.violated("S14", "entry %d is applied for the first time after entry %d", e.Index, b.entries[i-1].index)
	}
	b.at[e.Index] = i
	if i == 0 || b.entries[i-1].term != e.Term {
		b.terms++
		b.world.count.add("terms", 1)
	}
	b.entries = append(b.entries, entry{index: e.Index, term: e.Term, data: slices.Clone(e.Data), first: time.Now()})
	x, err := command.Decode(e.Data)
	if err != nil {
		b.world.violated("S14", "entry %d can't be read: %v", e.Index, err)
		return i
	}
	now := locktable.Time(x.GetTime())
	if x.GetTerm() != e.Term {
		now = b.table.Now()
		b.world.count.add("readings of another term", 1)
	}
	outs, events := b.table.Apply(now, x.GetCommands())
	b.gap = b.table.Now().Sub(b.clock)
	b.clock = b.table.Now()
	b.entries[i].clock = b.clock
	b.world.count.add("entries", 1)
	b.judge(i, x.GetCommands(), outs, events)
	if err := b.table.CheckInvariants(); err != nil {
		b.world.violated("S1", "after entry %d: %v", e.Index, err)
	}
	if e.Index%hashEvery == 0 {
		b.hashes[e.Index] = b.table.Hash()
	}
	return i
}

// told notes that a node has told its parked clients of events.
func (b *book) told(l *life, events []locktable.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range events {
		if (e.Kind == locktable.EventGranted || e.Kind == locktable.EventTaskClaimed) && e.Attachment != 0 {
			b.wakes[wake{l, e.Attachment}] = time.Now()
		}
	}
}

func (b *book) key(key, lock, session string) *fate4key {
	f := b.keys[claimed{key, lock}]
	if f == nil {
		f = &fate4key{key: key, lock: lock, session: session}
		b.keys[claimed{key, lock}] = f
		b.byKey[key] = append(b.byKey[key], f)
		if session != "" {
			b.bySession[session] = append(b.bySession[session], f)
		}
	}
	return f
}

// fate returns what the log says of the claim, or nil.
func (b *book) fate(c *claim) *fate4key { return b.keys[claimed{c.key, c.lock}] }

// brokenAt returns when the hold of the claim was ended by an operator, or zero.
func (b *book) brokenAt(c *claim) time.Time {
	if f := b.fate(c); f != nil {
		for _, g := range f.grants {
			if g.how == locktable.EventBroken && g.token == c.token {
				return g.end
			}
		}
	}
	return time.Time{}
}

// wasBroken tells whether an operator has ended the hold of the claim.
func (b *book) wasBroken(c *claim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.brokenAt(c).IsZero()
}

// live returns the hold of the key, or nil.
func (f *fate4key) live() *grant {
	if n := len(f.grants); n > 0 && f.grants[n-1].end.IsZero() {
		return &f.grants[n-1]
	}
	return nil
}

// final returns the last entry and the state that all entries make.
func (b *book) final() (last uint64, hash [sha256.Size]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.entries[len(b.entries)-1].index, b.table.Hash()
}
