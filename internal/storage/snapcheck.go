package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
)

// The files of a snapshot. The first two are raft.FileSnapshotStore's, the third is ours: the CRC-32C of the first.
const (
	metaJSON  = "meta.json"
	stateFile = "state.bin"
	sealFile  = "meta.check"
)

// snapshotMeta is the content of a snapshot's meta.json.
type snapshotMeta struct {
	raft.SnapshotMeta
	CRC []byte // CRC-64 (ECMA) of the state
}

// A snapshotName is a snapshot's directory by its name, term-index-milliseconds.
type snapshotName struct {
	name                string
	term, index, millis uint64
}

// verify reads all snapshots and returns the index of the newest, 0 for none. A damaged one is removed if the log, with the
// entries first to last, can take its place; otherwise it is an error. seen is the newest index with those that were removed.
func (s *snapshotStore) verify(first, last uint64) (newest, seen uint64, err error) {
	names, err := s.names()
	if err != nil {
		return 0, 0, err
	}
	damaged := make(map[string]error)
	for _, n := range names {
		seen = max(seen, n.index)
		if err := s.check(n); err != nil {
			damaged[n.name] = err
		} else if newest == 0 {
			newest = n.index
		}
	}
	for _, n := range names {
		err := damaged[n.name]
		if err == nil {
			continue
		}
		path := filepath.Join(s.dir, n.name)
		if replaceable := n.index <= newest || first > 0 && first <= newest+1 && n.index <= last; !replaceable {
			return 0, 0, corrupt(path, "%v, and the log does not hold what was in it", err)
		}
		s.logger.Warn("removed a damaged snapshot; the log still holds what was in it", "path", path, "error", err)
		if err := os.RemoveAll(path); err != nil {
			return 0, 0, err
		}
	}
	return newest, seen, nil
}

// names returns the snapshots in the directory, the newest first.
func (s *snapshotStore) names() ([]snapshotName, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var names []snapshotName
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		n := snapshotName{name: e.Name()}
		if _, err := fmt.Sscanf(n.name, "%d-%d-%d", &n.term, &n.index, &n.millis); err != nil {
			return nil, corrupt(filepath.Join(s.dir, n.name), "it is not a snapshot")
		}
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b snapshotName) int {
		return slices.Compare([]uint64{b.term, b.index, b.millis}, []uint64{a.term, a.index, a.millis})
	})
	return names, nil
}

// check verifies one snapshot, and seals it if a crash has come before its seal.
func (s *snapshotStore) check(n snapshotName) error {
	m, err := readSnapshotMeta(s.dir, n.name)
	if err != nil {
		return err
	}
	if m.ID != n.name || m.Index != n.index || m.Term != n.term || m.Version != raft.SnapshotVersionMax {
		return errors.New("its metadata is that of another snapshot")
	}
	size, sum, err := sumFile(filepath.Join(s.dir, n.name, stateFile))
	switch {
	case err != nil:
		return err
	case size != m.Size:
		return fmt.Errorf("its state has %d bytes instead of %d", size, m.Size)
	case !bytes.Equal(sum, m.CRC):
		return errors.New("its state does not pass its checksum")
	}
	if sealed, err := exists(filepath.Join(s.dir, n.name, sealFile)); sealed || err != nil {
		return err
	}
	if err := sealSnapshot(s.g, s.dir, n.name); !noSpace(err) {
		return err
	}
	return nil
}

// readSnapshotMeta reads the metadata of a snapshot and compares it with its seal, if there is one.
func readSnapshotMeta(dir, name string) (snapshotMeta, error) {
	var m snapshotMeta
	raw, err := os.ReadFile(filepath.Join(dir, name, metaJSON))
	if err != nil {
		return m, err
	}
	seal, err := os.ReadFile(filepath.Join(dir, name, sealFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return m, err
	}
	if err == nil && string(seal) != sealOf(raw) {
		return m, errors.New("its metadata does not pass its checksum")
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("its metadata can't be read: %w", err)
	}
	return m, nil
}

func sealOf(meta []byte) string { return fmt.Sprintf("%08x\n", crc32.Checksum(meta, castagnoli)) }

// sealSnapshot writes the checksum of a finished snapshot's metadata.
func sealSnapshot(g *guard, dir, name string) error {
	raw, err := os.ReadFile(filepath.Join(dir, name, metaJSON))
	if err != nil {
		return err
	}
	return writeFileAtomic(g, filepath.Join(dir, name, sealFile), []byte(sealOf(raw)))
}

// secureSnapshot makes a snapshot that was just begun private, and its directory entries durable, which
// raft.FileSnapshotStore does only for the snapshot's own entry.
func secureSnapshot(g *guard, dir string) error {
	if err := os.Chmod(dir, dirMode); err != nil {
		return err
	}
	for _, name := range []string{metaJSON, stateFile} {
		if err := os.Chmod(filepath.Join(dir, name), fileMode); err != nil {
			return err
		}
	}
	return syncDir(g, dir)
}

// sumFile returns the size and CRC-64 (ECMA) of the file at path.
func sumFile(path string) (int64, []byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = f.Close() }()
	h := crc64.New(crc64.MakeTable(crc64.ECMA))
	n, err := io.Copy(h, f)
	return n, h.Sum(nil), err
}
