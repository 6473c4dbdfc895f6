package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/backup"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// Backup begins a backup, in the form of package backup, that holds everything that was acknowledged before the call, by
// whichever node. It contains keys. version is the program's, for the header.
//
// What is read is made while it is read, in pieces, and entries are applied in between: nobody waits for a slow reader.
// Until the reader is closed, which must not be forgotten, the node keeps aside what changes. There is one backup at a
// time; a second is refused with ErrOverloaded. Reads after the node began to stop fail with ErrStopping.
func (n *Node) Backup(ctx context.Context, version string) (io.ReadCloser, error) {
	if n.backingUp.Swap(true) {
		return nil, fmt.Errorf("%w: another backup is being made", ErrOverloaded)
	}
	b, err := n.beginBackup(ctx, version)
	if err != nil {
		n.backingUp.Store(false)
		return nil, err
	}
	return b, nil
}

func (n *Node) beginBackup(ctx context.Context, version string) (*backupReader, error) {
	at, err := n.awaitReadAt(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.fsm.awaitApplied(ctx, at.GetIndex()); err != nil {
		return nil, err
	}
	state, h := n.fsm.snapshot()
	sign(&h, n.store, version)
	b := &backupReader{node: n, state: state}
	if b.out, err = backup.NewWriter(&b.buf, h); err != nil {
		state.Release()
		return nil, err
	}
	return b, nil
}

// tableHeader is what a table says of itself in the header of its backup.
func tableHeader(t *locktable.Table, index uint64) backup.Header {
	s := t.Stats()
	return backup.Header{
		Index: max(1, index), Time: int64(t.Now()), Epoch: locktable.EpochOf(s.LastToken), LastToken: s.LastToken,
		Locks: s.Locks, Holds: s.Holders, Waiters: s.Waiters, Sessions: s.Sessions,
	}
}

// sign writes into h whose state it is, and who made it when.
func sign(h *backup.Header, s *storage.Store, version string) {
	h.ClusterID, h.Node, h.Server, h.Made = s.ClusterID(), s.Name(), version, backup.MadeAt(time.Now())
}

// backupReader makes a backup as it is read. It belongs to one goroutine.
type backupReader struct {
	node  *Node
	state *fsmSnapshot
	out   *backup.Writer // into buf
	buf   bytes.Buffer
	whole bool
	ended bool
}

func (b *backupReader) Read(p []byte) (int, error) {
	for b.buf.Len() == 0 {
		if b.whole || b.ended {
			return 0, io.EOF
		}
		if err := b.more(); err != nil {
			return 0, err
		}
	}
	return b.buf.Read(p)
}

// more puts the next piece into buf.
func (b *backupReader) more() error {
	piece, err := b.state.next()
	switch {
	case errors.Is(err, io.EOF):
		b.whole = true
		return b.out.Close()
	case err != nil:
		return err
	}
	_, err = b.out.Write(piece)
	return err
}

// Close gives up what was kept aside. A second call does nothing.
func (b *backupReader) Close() error {
	if b.ended {
		return nil
	}
	b.ended = true
	b.state.Release()
	b.node.backingUp.Store(false)
	return nil
}
