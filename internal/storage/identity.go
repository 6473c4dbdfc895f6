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
	name    string // of the node, for people; see validName
}

func newIdentity(name string) identity {
	return identity{cluster: randomID(), node: randomID(), name: name}
}

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// encode gives the content of the format file.
func (i identity) encode() []byte {
	s := fmt.Sprintf("doubledutch-data %d\ncluster %s\nnode %s\nname %s\n", formatVersion, i.cluster, i.node, i.name)
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
		return i, fmt.Errorf("%s: %w (format %d, this one knows up to %d); start the newer version",
			path, ErrNewer, version, formatVersion)
	}
	at := strings.LastIndex(s, "check ") // a name may contain the word, but no space
	if at < 0 {
		return i, corrupt(path, "it has no checksum")
	}
	body, sum := s[:at], s[at+len("check "):]
	if sum != fmt.Sprintf("%08x\n", crc32.Checksum([]byte(body), castagnoli)) {
		return i, corrupt(path, "the checksum does not match")
	}
	_, err := fmt.Sscanf(body, "doubledutch-data %d\ncluster %s\nnode %s\nname %s\n",
		&version, &i.cluster, &i.node, &i.name)
	if err != nil || version != formatVersion || !validName(i.name) || !validID(i.cluster) || !validID(i.node) {
		return i, corrupt(path, "it can't be understood")
	}
	return i, nil
}
