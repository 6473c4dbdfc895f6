package server

import (
	"encoding/hex"
	"net/url"
	"strconv"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// stateHashParam asks GET /v1/cluster for a hash of the state of the node that answers.
const stateHashParam = "state_hash"

// wantsStateHash looks for the parameter state_hash, the only one of its route.
func wantsStateHash(c *call) (bool, error) {
	if c.r.URL.RawQuery == "" {
		return false, nil
	}
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return false, fail(CodeInvalidRequest, "The part of the address after the question mark cannot be read.")
	}
	switch v := values[stateHashParam]; {
	case len(v) == 0:
		return false, nil
	case len(v) == 1 && v[0] == "true":
		return true, nil
	case len(v) == 1 && v[0] == "false":
		return false, nil
	}
	return false, failField(stateHashParam, "The parameter state_hash must be true or false.")
}

// appendStateHash appends what tells copies of the table apart: nodes that have applied the same entries have the same hash.
// The table stands still while it is made, about a second for a million locks, so only one is made at a time. The index
// may lag behind the hash by the entry that is being applied.
func (s *Server) appendStateHash(b []byte) []byte {
	s.hashing.Lock()
	defer s.hashing.Unlock()
	var hash [32]byte
	var at uint64
	s.backend.ReadStale(func(t *locktable.Table, index uint64, _ time.Duration) { hash, at = t.Hash(), index })
	b = append(b, `,"state_hash":{"applied_index":`...)
	b = strconv.AppendUint(b, at, 10)
	b = append(b, `,"sha256":"`...)
	b = hex.AppendEncode(b, hash[:])
	return append(b, `"}`...)
}
