package storage

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/hashicorp/raft-wal/types"
)

// A metaFile holds what must survive besides the entries: the list of log segments, and raft's term and vote. It implements
// types.MetaStore.
//
// The file has two slots of fixed size and each change is written to the first, synced, written to the second and
// synced. So at any moment one of them is whole, and both hold everything that was ever acknowledged: whichever slot a
// crash or a flipped bit has spoilt, the other one is enough. All room is allocated when the file is made, so a full disk
// does not stop a vote.
type metaFile struct {
	path string
	g    *guard

	mu    sync.Mutex // guards the rest, and is held while writing
	f     *os.File   // nil once closed
	seq   uint64
	state metaState
}

// metaState is the content of a slot.
type metaState struct {
	NodeID string
	Log    types.PersistentState
	// Tail is the ID plus one of the newest segment whose file was made. When the meta file lists a newer one, the crash
	// came before its file was; otherwise a missing file is damage.
	Tail   uint64
	Stable map[string][]byte
}

const (
	metaMagic    = 0x314154454d4444 // "DDMETA1"
	metaSlot     = 512 << 10
	metaHeader   = 24 // magic, sequence number, length, CRC-32C of all but itself
	maxMetaState = metaSlot - metaHeader
)

// createMeta makes the file at path. It is durable when createMeta returns, and not there after a crash before that.
func createMeta(g *guard, path, nodeID string) error {
	tmp := path + tmpSuffix
	f, err := prepare(g, tmp, 2*metaSlot)
	if err != nil {
		return err
	}
	m := &metaFile{path: path, g: g, f: f, state: metaState{NodeID: nodeID}}
	if err := errors.Join(m.write(m.state), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// openMeta opens the file at path, which must belong to the node, and makes both slots equal. healed says that they weren't.
func openMeta(path, nodeID string, g *guard) (m *metaFile, healed bool, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, false, err
	}
	seq, state, equal, err := readMeta(raw)
	if err != nil {
		return nil, false, corrupt(path, "%v", err)
	}
	if state.NodeID != nodeID {
		return nil, false, corrupt(path, "it belongs to node %q, and the data directory to node %q", state.NodeID, nodeID)
	}
	f, err := os.OpenFile(path, os.O_RDWR, fileMode)
	if err != nil {
		return nil, false, err
	}
	m = &metaFile{path: path, g: g, f: f, seq: seq, state: state}
	if equal {
		return m, false, nil
	}
	if err := m.write(state); err != nil {
		return nil, true, errors.Join(err, f.Close())
	}
	return m, true, nil
}

// readMeta finds the newest whole slot in the bytes of a meta file. equal says that both slots are whole and the same.
func readMeta(raw []byte) (seq uint64, state metaState, equal bool, err error) {
	seqA, a, errA := readSlot(raw, 0)
	seqB, b, errB := readSlot(raw, metaSlot)
	switch {
	case errA != nil && errB != nil:
		return 0, state, false, fmt.Errorf("neither of its two copies can be read: %w", errA)
	case errB != nil || errA == nil && seqA >= seqB:
		return seqA, a, errB == nil && seqA == seqB, nil
	}
	return seqB, b, false, nil
}

// readSlot decodes the slot that begins at off.
func readSlot(raw []byte, off int) (seq uint64, state metaState, err error) {
	if len(raw) < off+metaHeader {
		return 0, state, errors.New("the file is too short")
	}
	h := raw[off:]
	if binary.LittleEndian.Uint64(h) != metaMagic {
		return 0, state, errors.New("it does not begin like a meta file")
	}
	seq = binary.LittleEndian.Uint64(h[8:])
	n := int(binary.LittleEndian.Uint32(h[16:]))
	if n > maxMetaState || len(h) < metaHeader+n {
		return 0, state, errors.New("the file is too short")
	}
	body := h[metaHeader : metaHeader+n]
	if slotSum(h[:20], body) != binary.LittleEndian.Uint32(h[20:]) {
		return 0, state, errors.New("the checksum does not match")
	}
	if err := json.Unmarshal(body, &state); err != nil {
		return 0, state, err
	}
	return seq, state, nil
}

func slotSum(header, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, body)
}

// write puts s into both slots and makes it the present state. m.mu must be held, unless nobody else knows m.
func (m *metaFile) write(s metaState) error {
	if m.f == nil {
		return ErrClosed
	}
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if len(body) > maxMetaState {
		return fmt.Errorf("the list of log segments has outgrown %s", m.path)
	}
	buf := make([]byte, metaHeader, metaHeader+len(body))
	binary.LittleEndian.PutUint64(buf, metaMagic)
	binary.LittleEndian.PutUint64(buf[8:], m.seq+1)
	binary.LittleEndian.PutUint32(buf[16:], uint32(len(body)))
	binary.LittleEndian.PutUint32(buf[20:], slotSum(buf[:20], body))
	buf = append(buf, body...)
	for _, off := range []int64{0, metaSlot} {
		err := m.g.step("write "+m.path, func() error {
			if _, err := m.f.WriteAt(buf, off); err != nil {
				return err
			}
			return fdatasync(m.f)
		})
		if err != nil {
			return err
		}
	}
	m.seq, m.state = m.seq+1, s
	return nil
}

// change applies f to a copy of the state and writes it. A failure is one of the Store.
func (m *metaFile) change(op string, f func(*metaState)) error {
	if err := m.g.err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state
	s.Stable = maps.Clone(s.Stable)
	f(&s)
	if err := m.write(s); err != nil {
		return m.g.fail(op, err)
	}
	return m.g.err()
}

// Load returns the list of segments.
func (m *metaFile) Load(string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state.Log
	s.Segments = slices.Clone(s.Segments)
	return s, nil
}

// CommitState makes s the list of segments. raft-wal v0.4.1 names its own entry format in new ones, whatever codec it was given, and
// would not open them again; so the format is put right here and in segmentFiler.
func (m *metaFile) CommitState(s types.PersistentState) error {
	s.Segments = slices.Clone(s.Segments)
	for i := range s.Segments {
		s.Segments[i].Codec = codecID
	}
	return m.change("write the list of log segments", func(c *metaState) { c.Log = s })
}

// created notes that the file of segment id exists.
func (m *metaFile) created(id uint64) error {
	return m.change("write the list of log segments", func(c *metaState) { c.Tail = max(c.Tail, id+1) })
}

// hasFile says whether the file of segment id was made, so that its absence is a loss.
func (m *metaFile) hasFile(id uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return id < m.state.Tail
}

// GetStable returns the value of key, or nil.
func (m *metaFile) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.state.Stable[string(key)]), nil
}

// The keys under which raft keeps its vote.
const (
	keyVoteTerm      = "LastVoteTerm"
	keyVoteCandidate = "LastVoteCand"
)

// SetStable sets key to value; a nil value removes it.
//
// Raft writes a vote in two steps, first its term and then for whom it is. A crash in between would leave the candidate of an
// older vote with the new term, and raft grants a vote that it finds recorded without comparing the logs again. So a new term takes
// the old candidate away in the same write, and what such a crash leaves is no vote.
func (m *metaFile) SetStable(key, value []byte) error {
	return m.change("write term or vote", func(c *metaState) {
		if c.Stable == nil {
			c.Stable = make(map[string][]byte)
		}
		if string(key) == keyVoteTerm && !bytes.Equal(value, c.Stable[keyVoteTerm]) {
			delete(c.Stable, keyVoteCandidate)
		}
		if value == nil {
			delete(c.Stable, string(key))
			return
		}
		c.Stable[string(key)] = slices.Clone(value)
	})
}

// Close closes the file. A second call is harmless.
func (m *metaFile) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.f == nil {
		return nil
	}
	err := m.f.Close()
	m.f = nil
	return err
}
