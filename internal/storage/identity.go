package storage

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
)

// formatVersion is the version of the layout of a data directory. A server refuses directories of a newer one.
const formatVersion = 1

// An identity is what the format file says.
type identity struct {
	cluster string // 32 hexadecimal digits, shared by the members of a cluster
	node    string // 32 hexadecimal digits, of this data directory alone
}

func newIdentity() identity { return identity{cluster: randomID(), node: randomID()} }

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// encode gives the content of the format file.
func (i identity) encode() []byte {
	s := fmt.Sprintf("doubledutch-data %d\ncluster %s\nnode %s\n", formatVersion, i.cluster, i.node)
	return fmt.Appendf(nil, "%scheck %08x\n", s, crc32.Checksum([]byte(s), castagnoli))
}

// readIdentity reads the format file at path.
func readIdentity(path string) (identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return identity{}, err
	}
	return parseIdentity(path, string(b))
}

func parseIdentity(path, s string) (identity, error) {
	var i identity
	var version uint64
	if s == "" {
		return i, corrupt(path, "it is empty")
	}
	if _, err := fmt.Sscanf(s, "doubledutch-data %d\n", &version); err != nil {
		return i, corrupt(path, "it is not the format file of a data directory")
	}
	if version > formatVersion && version < 1000 {
		return i, fmt.Errorf("%s: the data directory was written by a newer version (format %d, this one knows up to %d); "+
			"start the newer version", path, version, formatVersion)
	}
	body, sum, _ := strings.Cut(s, "check ")
	if sum != fmt.Sprintf("%08x\n", crc32.Checksum([]byte(body), castagnoli)) {
		return i, corrupt(path, "the checksum does not match")
	}
	_, err := fmt.Sscanf(body, "doubledutch-data %d\ncluster %s\nnode %s\n", &version, &i.cluster, &i.node)
	if err != nil || version != formatVersion {
		return i, corrupt(path, "it can't be understood")
	}
	return i, nil
}
