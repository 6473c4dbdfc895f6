package storage

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// defaultName is the host's name in characters that a node's name may have, or "node".
func defaultName() string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return reducedName(host)
}

// reducedName makes a node's name of the name of a host.
func reducedName(host string) string {
	name := strings.Map(func(r rune) rune {
		if inName(r) {
			return r
		}
		return '-'
	}, host)
	name = strings.Trim(name[:min(len(name), maxName)], "-")
	if name == "" {
		return "node"
	}
	return name
}

// validName tells whether name can be the name of a node.
func validName(name string) bool {
	return name != "" && len(name) <= maxName && !strings.ContainsFunc(name, func(r rune) bool { return !inName(r) })
}

func inName(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// validID tells whether id is 32 lower-case hexadecimal digits.
func validID(id string) bool {
	_, err := hex.DecodeString(id)
	return err == nil && len(id) == 32 && strings.ToLower(id) == id
}

// checkName compares the name that is asked for with the one that the directory has. An empty one is none.
func checkName(asked, have string) error {
	if asked == "" || asked == have {
		return nil
	}
	return fmt.Errorf("the data directory belongs to the node %q, not to %q: a node keeps its name; "+
		"start it with that name or with none, or give the new node a directory of its own", have, asked)
}

// SetCluster makes the Store a member of the cluster id, 32 lower-case hexadecimal digits, and returns when that is on
// disk. It is refused once there is anything in the log or a snapshot: what is in them belongs to the cluster that the
// Store is in. Call it before raft is started.
func (s *Store) SetCluster(id string) error {
	if !validID(id) {
		return fmt.Errorf("%q is not the id of a cluster, which is 32 hexadecimal digits", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.id.cluster {
		return nil
	}
	if err := s.empty(); err != nil {
		return fmt.Errorf("join the cluster %s: %w", id, err)
	}
	changed := s.id
	changed.cluster = id
	if err := s.rewriteFormat(changed); err != nil {
		return err
	}
	s.id = changed
	return nil
}

// empty returns an error unless nothing was ever put into log and snapshots.
func (s *Store) empty() error {
	last, err := s.log.LastIndex()
	if err != nil {
		return err
	}
	if last != 0 || newestSnapshot(s.snaps) != 0 {
		return errors.New("the data directory holds entries of another cluster; give the node an empty one")
	}
	return nil
}

// rewriteFormat puts id into the format file. s.mu must be held.
func (s *Store) rewriteFormat(id identity) error {
	if s.media != nil {
		return errors.Join(s.g.err(), s.media.SaveIdentity(id.encode()))
	}
	if s.dir == "" {
		return s.g.err()
	}
	n, err := s.g.begin("write the format file")
	if err != nil {
		return err
	}
	return s.g.end(n, writeFileAtomic(s.g, s.dir.format(), id.encode()))
}
