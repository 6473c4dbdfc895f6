package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Version is the newest form that this program reads, and the one that it writes.
const Version = 1

// Limits.
const (
	maxHeader   = 4 << 10 // the JSON line, in bytes
	maxPiece    = 1 << 20 // of the state, in bytes
	maxText     = 256     // of a text in the header, in bytes
	maxIndex    = 1 << 62 // of the log; a log that goes on from it has room
	firstLine   = "doubledutch-backup "
	sumLen      = 32
	idLen       = 32 // hexadecimal digits of a cluster's id
	madeLayout  = time.RFC3339
	oldestMade  = 2000 // years between which a backup can have been made
	youngestEnd = 10000
)

// Errors. All that is wrong with a file wraps ErrDamaged or ErrNewer.
var (
	// ErrDamaged: the file is no backup, was cut short, or is not what was written.
	ErrDamaged = errors.New("damaged backup")
	// ErrNewer: a newer version of this program has written the file.
	ErrNewer = errors.New("the backup was written by a newer version")
)

// Header says what a backup is of. Times of the lock table are its own clock; Made is the time of day, for people.
type Header struct {
	ClusterID string `json:"cluster_id"` // of the cluster that was backed up
	Node      string `json:"node"`       // name of the node that wrote it
	Index     uint64 `json:"index"`      // of the newest log entry in it
	Term      uint64 `json:"term"`       // of that entry; 0: not known
	Time      int64  `json:"time"`       // cluster time in nanoseconds
	Epoch     uint64 `json:"epoch"`      // of the newest token
	LastToken uint64 `json:"last_token"`
	Locks     int    `json:"locks"`    // held, waited for or blocked
	Holds     int    `json:"holds"`    // on these locks
	Waiters   int    `json:"waiters"`  // in queues
	Sessions  int    `json:"sessions"` // shared ones
	Made      string `json:"made"`     // RFC 3339, UTC, whole seconds
	Server    string `json:"server"`   // version of the program that wrote it
}

// encode gives the first two lines of a file.
func (h *Header) encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	line, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(line) > maxHeader {
		return nil, errors.New("the header is too long")
	}
	return fmt.Appendf(nil, "%s%d\n%s\n", firstLine, Version, line), nil
}

// parseHeader reads the JSON line. What Header does not know is refused, and any form in which encode would not write it.
func parseHeader(line []byte) (Header, error) {
	var h Header
	if err := json.Unmarshal(line, &h); err != nil {
		return h, damaged("its header can't be read: %v", err)
	}
	if err := h.check(); err != nil {
		return h, damaged("its header can't be right: %v", err)
	}
	if again, err := json.Marshal(&h); err != nil || !bytes.Equal(again, line) {
		return h, damaged("its header is not in the form in which headers are written")
	}
	return h, nil
}

func (h *Header) check() error {
	made, err := time.Parse(madeLayout, h.Made)
	switch {
	case !isID(h.ClusterID):
		return errors.New("the id of the cluster is malformed")
	case len(h.Node) > maxText || len(h.Server) > maxText:
		return errors.New("a text is too long")
	case h.Index == 0 || h.Index >= maxIndex || h.Term >= maxIndex:
		return fmt.Errorf("it is of log entry %d and term %d", h.Index, h.Term)
	case h.Time < 0:
		return errors.New("its clock is negative")
	case h.Locks < 0 || h.Holds < 0 || h.Waiters < 0 || h.Sessions < 0:
		return errors.New("a count is negative")
	case err != nil || made.Year() < oldestMade || made.Year() >= youngestEnd || made.UTC().Format(madeLayout) != h.Made:
		return errors.New("the time when it was made is malformed")
	}
	return nil
}

// MadeAt is the form of Made.
func MadeAt(t time.Time) string { return t.UTC().Format(madeLayout) }

func isID(s string) bool {
	if len(s) != idLen {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}
