package storage

import (
	"errors"
	"io"

	"github.com/hashicorp/raft"
)

// Media are what a Store keeps its things on, in place of a data directory, so that a simulation can decide what a crash
// leaves and what fails. A write is durable when its call returns without error.
type Media interface {
	Log() raft.LogStore
	Stable() raft.StableStore
	Snapshots() raft.SnapshotStore
	// Identity returns what SaveIdentity has put down, or nil. Both must not block.
	Identity() []byte
	SaveIdentity(id []byte) error
	// Ended says that the process which the Store belongs to has ended in the simulation, although its goroutines still run.
	Ended() bool
	// Full says that little space is left.
	Full() bool
}

// OpenOn opens a Store on m, as Open does on a directory: with the latch for failures, the watch for writes that hang,
// and the identity of the first start. o.Dir is not used.
func OpenOn(o Options, m Media) (*Store, error) {
	o = o.withDefaults()
	id, err := identifyOn(m, o.Name)
	if err != nil {
		return nil, err
	}
	g := newGuard(o)
	s := &Store{
		o: o, id: id, g: g, media: m,
		log:    &logStore{in: m.Log(), g: g, path: "the log"},
		stable: &stableStore{in: m.Stable(), g: g},
		snaps:  &mediaSnapshots{SnapshotStore: m.Snapshots(), g: g},
		stop:   make(chan struct{}),
	}
	s.running.Go(func() { g.watch(o.HangTimeout, s.stop) })
	return s, nil
}

// identifyOn reads the identity, or makes one.
func identifyOn(m Media, name string) (identity, error) {
	saved := m.Identity()
	if saved == nil {
		if name == "" {
			name = defaultName()
		}
		id := newIdentity(name)
		return id, m.SaveIdentity(id.encode())
	}
	id, err := parseIdentity("the identity", string(saved))
	if err != nil {
		return id, err
	}
	return id, checkName(name, id.name)
}

// mediaStable is a stableStore that hides its failures from what is left of an ended process: raft panics when it can't
// write its term or vote.
type mediaStable struct {
	*stableStore
	m Media
}

func (s *mediaStable) Set(key, val []byte) error {
	if err := s.stableStore.Set(key, val); err != nil && !s.m.Ended() {
		return err
	}
	return nil
}

func (s *mediaStable) SetUint64(key []byte, val uint64) error {
	if err := s.stableStore.SetUint64(key, val); err != nil && !s.m.Ended() {
		return err
	}
	return nil
}

// mediaSnapshots watches over the writing of snapshots, as snapshotStore does.
type mediaSnapshots struct {
	raft.SnapshotStore
	g *guard
}

func (s *mediaSnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport,
) (raft.SnapshotSink, error) {
	n, err := s.g.begin("create a snapshot")
	if err != nil {
		return nil, err
	}
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err := s.end(n, err); err != nil {
		return nil, err
	}
	return &mediaSink{SnapshotSink: sink, store: s}, nil
}

// end ends flight n. Lack of space is no failure of the Store.
func (s *mediaSnapshots) end(n int, err error) error {
	if noSpace(err) {
		s.g.land(n)
		return err
	}
	return s.g.end(n, err)
}

type mediaSink struct {
	raft.SnapshotSink
	store *mediaSnapshots
}

var _ io.Writer = (*mediaSink)(nil)

func (s *mediaSink) Write(p []byte) (int, error) {
	n, err := s.store.g.begin("write a snapshot")
	if err != nil {
		return 0, err
	}
	written, err := s.SnapshotSink.Write(p)
	return written, s.store.end(n, err)
}

func (s *mediaSink) Close() error {
	n, err := s.store.g.begin("finish a snapshot")
	if err != nil {
		return errors.Join(err, s.Cancel())
	}
	return s.store.end(n, s.SnapshotSink.Close())
}
