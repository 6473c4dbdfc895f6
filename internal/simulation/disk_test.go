package simulation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

var errDead = errors.New("the process has ended")

// disk is what survives the processes of a machine. A write takes time; it is durable when it returns. A crash in between
// leaves the write, as a whole, or nothing of it.
type disk struct {
	count *counters

	mu       sync.Mutex // guards all below; never held while a write takes its time
	rand     *rand.Rand
	identity []byte
	first    uint64 // of logs
	logs     []raft.Log
	stable   map[string][]byte
	snapshot *snapshot // the newest; nil: none
	seq      int
	pending  []*write // writes that have begun and not ended

	// Faults.
	slow   time.Duration // the most that a write takes longer
	hangs  bool          // writes do not come back
	broken bool          // the next write fails
	full   bool
	failed int // writes
}

type write struct {
	apply func()
	began time.Time
}

type snapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

func newDisk(seed uint64, c *counters) *disk {
	return &disk{count: c, rand: rand.New(rand.NewPCG(seed, 13)), stable: map[string][]byte{}}
}

// crash ends all writes that are under way: each is there as a whole, or not at all, in the order in which they began.
func (d *disk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count.add("writes torn by a crash", len(d.pending))
	for _, w := range d.pending {
		if d.rand.IntN(2) == 0 {
			break
		}
		w.apply()
	}
	d.pending = nil
	d.hangs, d.broken, d.slow = false, false, 0
}

// medium is a disk as one process sees it. When the process has ended, nothing that it does reaches the disk any more.
type medium struct {
	*disk
	life *life
}

var _ storage.Media = (*medium)(nil)

func (m *medium) Log() raft.LogStore            { return (*mediumLog)(m) }
func (m *medium) Stable() raft.StableStore      { return (*mediumStable)(m) }
func (m *medium) Snapshots() raft.SnapshotStore { return (*mediumSnapshots)(m) }

func (m *medium) Identity() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.disk.identity
}

func (m *medium) SaveIdentity(id []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life.isDead() {
		return errDead
	}
	m.disk.identity = slices.Clone(id)
	return nil
}

func (m *medium) Ended() bool { return m.life.isDead() }

func (m *medium) Full() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.full
}

// write does apply durably, which takes its time, or fails.
func (m *medium) write(apply func()) error {
	if err := m.life.thaw(nil); err != nil {
		return err
	}
	w := &write{apply: apply, began: time.Now()}
	took, hangs, err := m.begin(w)
	if err != nil {
		return err
	}
	for hangs {
		select {
		case <-m.life.dead:
			return errDead
		case <-time.After(100 * time.Millisecond):
			m.change(func() { hangs = m.hangs })
		}
	}
	t := time.NewTimer(took)
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.life.dead:
		return errDead
	}
	if err := m.end(w); err != nil {
		return err
	}
	return m.life.thaw(nil)
}

func (m *medium) begin(w *write) (took time.Duration, hangs bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life.isDead() {
		return 0, false, errDead
	}
	if m.broken {
		m.broken = false
		m.failed++
		m.count.add("failed writes", 1)
		if m.rand.IntN(2) == 0 {
			w.apply() // it may have got there all the same
		}
		return 0, false, unix.EIO
	}
	took = 200*time.Microsecond + time.Duration(m.rand.Int64N(int64(time.Millisecond)))
	if m.slow > 0 {
		took += time.Duration(m.rand.Int64N(int64(m.slow)))
		m.count.add("slow writes", 1)
	}
	if m.hangs {
		m.count.add("hung writes", 1)
	}
	m.pending = append(m.pending, w)
	return took, m.hangs, nil
}

// end makes w durable, unless the process has ended, or the write before it, which must not be overtaken, hangs.
func (m *medium) end(w *write) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.pending, w)
	if i < 0 || m.life.isDead() {
		return errDead
	}
	m.pending = slices.Delete(m.pending, i, i+1)
	w.apply()
	return nil
}

type mediumLog medium

func (l *mediumLog) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.logs) == 0 {
		return 0, nil
	}
	return l.first, nil
}

func (l *mediumLog) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.logs) == 0 {
		return 0, nil
	}
	return l.first + uint64(len(l.logs)) - 1, nil
}

func (l *mediumLog) GetLog(index uint64, out *raft.Log) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if index < l.first || index-l.first >= uint64(len(l.logs)) {
		return raft.ErrLogNotFound
	}
	*out = l.logs[index-l.first]
	return nil
}

func (l *mediumLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

func (l *mediumLog) StoreLogs(logs []*raft.Log) error {
	copies := make([]raft.Log, len(logs))
	for i, log := range logs {
		copies[i] = *log
		copies[i].Data = slices.Clone(log.Data)
	}
	bad := error(nil)
	err := (*medium)(l).write(func() {
		for _, log := range copies {
			if len(l.logs) == 0 {
				l.first = log.Index
			}
			if next := l.first + uint64(len(l.logs)); log.Index != next {
				bad = fmt.Errorf("entry %d can't follow entry %d", log.Index, next-1)
				return
			}
			l.logs = append(l.logs, log)
		}
	})
	return errors.Join(err, bad)
}

func (l *mediumLog) DeleteRange(lo, hi uint64) error {
	bad := error(nil)
	err := (*medium)(l).write(func() {
		last := l.first + uint64(len(l.logs)) - 1
		switch {
		case len(l.logs) == 0 || lo > hi || hi < l.first || lo > last:
		case lo <= l.first && hi >= last:
			l.logs = nil
		case lo <= l.first:
			l.logs = slices.Clone(l.logs[hi+1-l.first:])
			l.first = hi + 1
		case hi >= last:
			l.logs = l.logs[: lo-l.first : lo-l.first]
		default:
			bad = fmt.Errorf("only a prefix or a suffix of the log can be removed, not %d to %d", lo, hi)
		}
	})
	return errors.Join(err, bad)
}

type mediumStable medium

func (s *mediumStable) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.stable[string(key)]), nil
}

func (s *mediumStable) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	var n uint64
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n, err
}

// Set writes like the meta file of the real storage: with the term of a new vote, the candidate of the old one goes.
func (s *mediumStable) Set(key, value []byte) error {
	k, v := string(key), slices.Clone(value)
	return (*medium)(s).write(func() {
		if k == "LastVoteTerm" && !bytes.Equal(v, s.stable[k]) {
			delete(s.stable, "LastVoteCand")
		}
		s.stable[k] = v
	})
}

func (s *mediumStable) SetUint64(key []byte, n uint64) error {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (56 - 8*i))
	}
	return s.Set(key, b)
}

type mediumSnapshots medium

func (s *mediumSnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	if (*medium)(s).Full() {
		s.count.add("snapshots without room", 1)
		return nil, unix.ENOSPC
	}
	if err := (*medium)(s).write(func() {}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	return &sink{on: s, snapshot: snapshot{meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d-%d", term, index, s.seq), Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}}, nil
}

func (s *mediumSnapshots) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snapshot == nil {
		return nil, nil
	}
	meta := s.snapshot.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

func (s *mediumSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snapshot == nil || s.snapshot.meta.ID != id {
		return nil, nil, fmt.Errorf("there is no snapshot %q", id)
	}
	meta := s.snapshot.meta
	return &meta, io.NopCloser(bytes.NewReader(s.snapshot.data)), nil
}

// sink is a snapshot being written. It is there when it is closed.
type sink struct {
	on *mediumSnapshots
	snapshot
	done bool
}

func (k *sink) ID() string { return k.meta.ID }

func (k *sink) Write(p []byte) (int, error) {
	k.data = append(k.data, p...)
	return len(p), nil
}

func (k *sink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	k.meta.Size = int64(len(k.data))
	return (*medium)(k.on).write(func() {
		k.on.count.add("snapshots", 1)
		if n := k.on.snapshot; n == nil || n.meta.Index <= k.meta.Index {
			k.on.disk.snapshot = &k.snapshot
		}
	})
}

func (k *sink) Cancel() error {
	k.done = true
	return nil
}
