package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/backup"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// Image is the whole state of a cluster outside of a running node: out of a backup, or out of the data directory of a node that
// is stopped.
type Image struct {
	header backup.Header
	table  *locktable.Table
}

// Header says what the image is of.
func (i *Image) Header() backup.Header { return i.header }

// Hash is the hash of the state, the same as a node's that has applied as much.
func (i *Image) Hash() [32]byte { return i.table.Hash() }

// ReadBackup reads a whole backup. It returns an image only if all of r is as it was written, and the state in it can be
// gone on with; otherwise the error wraps backup.ErrDamaged, backup.ErrNewer or locktable.ErrBadSnapshot, or is what r said.
func ReadBackup(r io.Reader) (*Image, error) {
	in, err := backup.NewReader(r)
	if err != nil {
		return nil, err
	}
	t, err := locktable.Restore(in)
	// A bad state in a damaged file is no wonder; so the file is judged first.
	if _, damage := io.Copy(io.Discard, in); damage != nil {
		return nil, damage
	}
	if err != nil {
		return nil, fmt.Errorf("the state in the backup: %w", err)
	}
	i := &Image{header: in.Header(), table: t}
	if !i.fits() {
		return nil, fmt.Errorf("%w: its header is not that of its state", backup.ErrDamaged)
	}
	return i, nil
}

// fits tells whether the header says of the table what the table says.
func (i *Image) fits() bool {
	h := tableHeader(i.table, i.header.Index)
	h.ClusterID, h.Node, h.Term, h.Made, h.Server = i.header.ClusterID, i.header.Node, i.header.Term, i.header.Made, i.header.Server
	return h == i.header
}

// ReadDir reads the data directory of a node that is stopped. What a crash has left is healed as at a start; otherwise nothing
// changes. The errors are those of storage.Open, with storage.ErrNoData for a directory without a log, and those of a log
// that this version does not understand.
//
// All of the log counts. Its last entries may not have been committed when the node stopped; but they may have been, and
// then somebody was told so. What was not committed was never told to anybody as done: to have it done is one of the two
// ends that an unanswered request can have.
func ReadDir(dir string, logger *slog.Logger, version string) (*Image, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	// A failure of the disk comes back from what meets it.
	s, err := storage.Open(storage.Options{Dir: dir, Existing: true, Logger: logger, Fatal: func(error) {}})
	if err != nil {
		return nil, err
	}
	i, err := readStore(s, version)
	if closed := s.Close(); closed != nil && err == nil {
		logger.Warn("everything was read, but the data directory could not be closed in order", "error", closed)
	}
	return i, err
}

// readStore replays what s holds.
func readStore(s *storage.Store, version string) (*Image, error) {
	f := newFSM(Config{Fatal: func(error) {}}.withDefaults(), newWaiters(), newFates(), make(chan struct{}))
	index, term, err := f.restoreNewest(s.Snapshots())
	if err != nil {
		return nil, err
	}
	if index, term, err = f.replay(s.Log(), index, term); err != nil {
		return nil, err
	}
	if index == 0 {
		return nil, fmt.Errorf("%w: the node has no log yet", storage.ErrNoData)
	}
	i := &Image{header: tableHeader(f.table, index), table: f.table}
	i.header.Term = term
	sign(&i.header, s, version)
	return i, nil
}

// restoreNewest takes over the newest snapshot, if there is one, and returns its place in the log.
func (f *fsm) restoreNewest(snaps raft.SnapshotStore) (index, term uint64, err error) {
	list, err := snaps.List()
	if err != nil || len(list) == 0 {
		return 0, 0, err
	}
	meta, r, err := snaps.Open(list[0].ID)
	if err != nil {
		return 0, 0, err
	}
	return meta.Index, meta.Term, f.Restore(r)
}

// replay applies what follows the snapshot at index in the log, and returns the end of the log.
func (f *fsm) replay(log raft.LogStore, index, term uint64) (lastIndex, lastTerm uint64, err error) {
	last, err := log.LastIndex()
	if err != nil {
		return 0, 0, err
	}
	for index < last {
		var l raft.Log
		if err := log.GetLog(index+1, &l); err != nil {
			return 0, 0, fmt.Errorf("read log entry %d: %w", index+1, err)
		}
		index, term = l.Index, l.Term
		if l.Type != raft.LogCommand {
			continue
		}
		if err, bad := f.Apply(&l).(error); bad {
			return 0, 0, err
		}
	}
	return index, term, nil
}

// WriteTo writes the image as a backup. It contains keys.
func (i *Image) WriteTo(w io.Writer) (int64, error) {
	c := &counter{w: w}
	out, err := backup.NewWriter(c, i.header)
	if err == nil {
		err = writeTable(out, i.table)
	}
	if err == nil {
		err = out.Close()
	}
	return c.n, err
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// writeTable writes a snapshot of a table that nobody changes meanwhile.
func writeTable(w io.Writer, t *locktable.Table) error {
	snap := t.Snapshot()
	defer snap.Close()
	for {
		piece, err := snap.Next(snapshotChunk)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
}

// Planting says where and how an image becomes a cluster.
type Planting struct {
	Dir  string // empty or missing
	Name string // of the node; empty: from the host's name
	// Epoch is the least epoch of tokens with which the cluster may begin; 0: whichever comes next.
	Epoch  uint64
	Logger *slog.Logger // Default: discard.
}

// Planted tells what came of it.
type Planted struct {
	storage.Planted
	Epoch uint64 // of the tokens from now on
}

// plantedTerm is the term of the entry that the image of a new cluster counts as.
const plantedTerm = 1

// Plant makes a data directory that a node can be started on: the only voter of a new cluster, which goes on from the image
// with tokens of a new epoch and whole lifetimes. Cluster and node have new ids, so that no node of the old cluster is taken for a member: the
// two have different logs from here on, and a vote or an entry of one must never count in the other. The image is used up.
//
// The error wraps storage.ErrHasData if the directory holds something already; it is untouched then. After any other error
// nothing is left that a server would start on, unless what was written does not read back: the error says that then.
func (i *Image) Plant(p Planting) (Planted, error) {
	epoch, err := i.table.BumpEpoch(p.Epoch)
	if err != nil {
		return Planted{}, err
	}
	i.table.RenewAll()
	o := storage.Options{Dir: p.Dir, Name: p.Name, Logger: p.Logger}
	made, err := storage.Plant(o, storage.Seed{
		Index: i.header.Index, Term: plantedTerm,
		Configuration: func(name, nodeID string) raft.Configuration {
			id := serverID(name, nodeID)
			return raft.Configuration{Servers: []raft.Server{{ID: id, Address: raft.ServerAddress(id)}}}
		},
		Write: func(w io.Writer) error {
			if _, err := w.Write(snapshotHead(i.header.Index)); err != nil {
				return err
			}
			return writeTable(w, i.table)
		},
	})
	if err != nil {
		return Planted{}, err
	}
	return Planted{Planted: made, Epoch: epoch}, i.compare(p.Dir)
}

// compare reads back what was planted.
func (i *Image) compare(dir string) error {
	back, err := ReadDir(dir, nil, "")
	if err != nil {
		return fmt.Errorf("read back what was written: %w", err)
	}
	if back.table.Hash() != i.table.Hash() || back.header.Index != i.header.Index {
		return fmt.Errorf("what was read back from %s is not what was written; do not use it", dir)
	}
	return nil
}

// snapshotHead is what stands before the table in a snapshot of the state machine.
func snapshotHead(applied uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(snapshotMagic), applied)
}
