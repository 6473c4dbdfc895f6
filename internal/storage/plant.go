package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/raft"
)

// keyCurrentTerm is where raft keeps its term.
const keyCurrentTerm = "CurrentTerm"

// A Seed is what a data directory begins with that does not begin empty.
type Seed struct {
	// Index and Term are of the log entry that the state comes after. Both are greater than 0; the log goes on behind them.
	Index, Term uint64
	// Configuration returns the members of the cluster, given who this node has become.
	Configuration func(name, nodeID string) raft.Configuration
	// Write writes the state, as a snapshot.
	Write func(w io.Writer) error
}

// Planted is who a planted directory belongs to; see Store.
type Planted struct{ Name, NodeID, ClusterID string }

// Plant makes the data directory o.Dir with a snapshot in it, the beginning of a cluster of its own. The directory must be
// empty or missing: otherwise the error wraps ErrHasData, and nothing was changed. After any other error what was made is
// removed again. Everything is on disk when Plant returns; a directory that a crash has left half made is refused by Open
// and Plant.
func Plant(o Options, s Seed) (Planted, error) {
	o = o.withDefaults()
	g := newQuietGuard()
	var p Planted
	// What comes back after its time has left a whole directory, or one that is refused: nothing has to be undone.
	_, err := supervise(o, g, func() (_ *Store, err error) {
		p, err = plant(o, g, s)
		return nil, err
	})
	if err != nil {
		return Planted{}, startFailure(o.Dir, g, err)
	}
	return p, nil
}

func plant(o Options, g *guard, s Seed) (p Planted, err error) {
	dir := layout(o.Dir)
	if o.Name == "" {
		o.Name = defaultName()
	}
	if !validName(o.Name) {
		return p, fmt.Errorf("%q cannot be the name of a node: 1 to %d letters, digits, dashes and underscores", o.Name, maxName)
	}
	known, err := exists(string(dir))
	if err != nil {
		return p, err
	}
	if known {
		if err := dir.mustBeFresh(); err != nil {
			return p, err
		}
	}
	if err := dir.create(g); err != nil {
		return p, fmt.Errorf("create the data directory: %w", err)
	}
	lock, err := lockDir(o.Dir, dir.lock())
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	// Once more: between the look and the lock, another process may have begun here.
	if err := dir.mustBeFresh(); err != nil {
		return p, err
	}
	if err := tighten(o.Dir); err != nil {
		return p, err
	}
	id := newIdentity(o.Name)
	if err := dir.sow(o, g, id, s); err != nil {
		return p, errors.Join(err, dir.clear(!known))
	}
	return Planted{Name: id.name, NodeID: id.node, ClusterID: id.cluster}, nil
}

// mustBeFresh refuses a directory that has data in it, or is not ours.
func (l layout) mustBeFresh() error {
	fresh, err := l.fresh()
	if err == nil && !fresh {
		err = fmt.Errorf("%w in %s", ErrHasData, l)
	}
	return err
}

// sow fills a fresh directory. The format file comes last, and a marker is there until then, so that what a crash leaves is
// not taken for an empty directory, in which every lock would be free.
func (l layout) sow(o Options, g *guard, id identity, s Seed) error {
	if err := writeFileAtomic(g, l.planting(), nil); err != nil {
		return err
	}
	if err := l.furnish(g, id); err != nil {
		return err
	}
	if err := l.plantTerm(g, id, s.Term); err != nil {
		return err
	}
	if err := l.plantSnapshot(o, g, id, s); err != nil {
		return err
	}
	if err := writeFileAtomic(g, l.format(), id.encode()); err != nil {
		return err
	}
	return removeDurably(g, l.planting())
}

// plantTerm writes the term that raft goes on from, in the form in which raft-wal reads it.
func (l layout) plantTerm(g *guard, id identity, term uint64) error {
	meta, _, err := openMeta(l.meta(), id.node, g)
	if err != nil {
		return err
	}
	return errors.Join(meta.SetStable([]byte(keyCurrentTerm), binary.LittleEndian.AppendUint64(nil, term)), meta.Close())
}

func (l layout) plantSnapshot(o Options, g *guard, id identity, s Seed) error {
	snaps, err := openSnapshots(l.snapshots(), o.Logger, g)
	if err != nil {
		return err
	}
	_, trans := raft.NewInmemTransport("") // only how it writes addresses matters
	sink, err := snaps.Create(raft.SnapshotVersionMax, s.Index, s.Term, s.Configuration(id.name, id.node), s.Index, trans)
	if err != nil {
		return err
	}
	if err := s.Write(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// clear takes away what sow has made, and the directory itself if it was not there before.
func (l layout) clear(all bool) error {
	var err error
	for _, path := range []string{l.format() + tmpSuffix, l.log(), l.reserve(), l.snapshots(), l.planting(), l.lock()} {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if all {
		err = errors.Join(err, os.Remove(string(l)))
	}
	return err
}
