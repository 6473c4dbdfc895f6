package storage

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"

	"github.com/hashicorp/raft"
)

// A marker is left by a clean shutdown and says where the log ended then.
type marker struct {
	last     uint64 // index of the last entry; 0 for an empty log
	snapshot uint64 // index of the newest snapshot; 0 for none
}

func writeMarker(g *guard, path string, m marker) error {
	s := fmt.Sprintf("last %d\nsnapshot %d\n", m.last, m.snapshot)
	return writeFileAtomic(g, path, fmt.Appendf(nil, "%scheck %08x\n", s, crc32.Checksum([]byte(s), castagnoli)))
}

// readMarker reads the marker at path. There is none after a crash, and a damaged one counts as none; ok says which.
func readMarker(path string) (m marker, ok bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	body, sum, _ := strings.Cut(string(b), "check ")
	if sum != fmt.Sprintf("%08x\n", crc32.Checksum([]byte(body), castagnoli)) {
		return m, false, nil
	}
	_, err = fmt.Sscanf(body, "last %d\nsnapshot %d\n", &m.last, &m.snapshot)
	return m, err == nil, nil
}

// newestSnapshot returns the index of the newest snapshot in s, or 0.
func newestSnapshot(s raft.SnapshotStore) uint64 {
	l, err := s.List()
	if err != nil || len(l) == 0 {
		return 0
	}
	return l[0].Index
}
