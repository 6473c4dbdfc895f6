package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// A logCheck verifies the log before raft-wal opens it: raft-wal itself looks only at the last batch, and takes a bad one for torn.
type logCheck struct {
	dir    string
	meta   *metaFile
	clean  bool // the log was closed cleanly, so there can't be a torn batch
	logger *slog.Logger
	g      *guard
	buf    []byte

	// What was found.
	first, last uint64 // index of the first and last entry; 0 for an empty log
	torn        int    // bytes that were dropped from the end
}

// run verifies all segments and heals the tail.
func (c *logCheck) run() error {
	state, err := c.meta.Load("")
	if err != nil {
		return err
	}
	segs := state.Segments
	for i, info := range segs {
		if err := c.checkInfo(segs, i); err != nil {
			return err
		}
		if info.SealTime.IsZero() {
			return c.tail(state)
		}
		if err := c.sealed(info); err != nil {
			return err
		}
	}
	return nil
}

// checkInfo checks what the meta file says of segment i.
func (c *logCheck) checkInfo(segs []types.SegmentInfo, i int) error {
	s := segs[i]
	switch tail := i == len(segs)-1; {
	case s.Codec != codecID:
		return corrupt(c.meta.path, "log segment %d has the unknown entry format %d", s.ID, s.Codec)
	case s.SealTime.IsZero() != tail:
		return corrupt(c.meta.path, "log segment %d is open, but not the last", s.ID)
	case i > 0 && s.BaseIndex != segs[i-1].MaxIndex+1:
		return corrupt(c.meta.path, "there is a gap in the log before entry %d", s.BaseIndex)
	}
	return nil
}

// sealed verifies a segment that is no longer written to.
func (c *logCheck) sealed(info types.SegmentInfo) error {
	path := c.path(info)
	data, err := c.read(path)
	if errors.Is(err, os.ErrNotExist) {
		return corrupt(path, "the log segment with the entries %d to %d is missing", info.MinIndex, info.MaxIndex)
	}
	if err != nil {
		return err
	}
	s := scanSegment(data, info)
	switch {
	case s.damage != "":
		return corrupt(path, "%s", s.damage)
	case !s.sealed || s.torn > 0:
		return corrupt(path, "it ends early, at byte %d", s.end)
	case s.indexStart != info.IndexStart || info.MinIndex < info.BaseIndex || info.MaxIndex-info.BaseIndex >= uint64(len(s.offsets)):
		return corrupt(path, "it does not hold the entries %d to %d as the meta file says", info.MinIndex, info.MaxIndex)
	}
	c.saw(info.MinIndex, info.MaxIndex)
	return nil
}

// tail verifies the segment that is being written to, and heals what a crash leaves.
func (c *logCheck) tail(state types.PersistentState) error {
	info := state.Segments[len(state.Segments)-1]
	path := c.path(info)
	data, err := c.read(path)
	if errors.Is(err, os.ErrNotExist) {
		if c.meta.hasFile(info.ID) {
			return corrupt(path, "the last log segment, from entry %d on, is missing", info.BaseIndex)
		}
		return nil // the crash came between listing the segment and making its file
	}
	if err != nil {
		return err
	}
	made := roomFor(int64(info.SizeLimit))
	cut := made - int64(len(data))
	if cut > 0 {
		data = append(data, make([]byte, cut)...)
	}
	s := scanSegment(data, info)
	if s.damage != "" {
		return corrupt(path, "%s", s.damage)
	}
	if cut > 0 {
		if s.torn > 0 || made-cut < int64(s.end)+frameHeader {
			return corrupt(path, "its end is missing from byte %d on, and may have been acknowledged", made-cut)
		}
		if err := c.lengthen(path, made-cut, made); err != nil {
			return err
		}
	}
	if n := uint64(len(s.offsets)); n > 0 {
		c.saw(info.MinIndex, info.BaseIndex+n-1)
	}
	if s.torn > 0 {
		if err := c.heal(path, len(data), s); err != nil {
			return err
		}
	}
	if s.sealed {
		return c.finishRotation(state, s)
	}
	return nil
}

// lengthen gives the last segment back the zeros that its end has lost. Nothing else can have been there: batches follow
// each other without a gap, and zeros are seen behind the last one.
func (c *logCheck) lengthen(path string, from, to int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	if err := errors.Join(allocate(c.g, f, from, to), f.Close()); err != nil {
		return err
	}
	c.logger.Warn("the end of the last log segment was cut off; gave it back its zeros", "file", path, "bytes", to-from)
	return nil
}

// heal writes zeros over a torn batch, so that no later check finds its remains behind newer batches.
func (c *logCheck) heal(path string, size int, s scan) error {
	if c.clean {
		return corrupt(path, "the log was closed cleanly, but it ends in an unfinished batch at byte %d", s.end)
	}
	f, err := os.OpenFile(path, os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	err = c.g.step("write "+path, func() error {
		_, err := f.WriteAt(make([]byte, min(s.torn, size-s.end)), int64(s.end))
		return errors.Join(err, f.Sync())
	})
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	c.torn = s.torn
	c.logger.Warn("dropped an unfinished batch from the end of the log: a crash cut it short before it was acknowledged",
		"file", path, "bytes", s.torn, "entries_seen", s.tornEntries, "last_index", c.last)
	return nil
}

// finishRotation ends what a crash has interrupted after the last segment got its index and before the next one was listed.
// raft-wal would take no more entries.
func (c *logCheck) finishRotation(state types.PersistentState, s scan) error {
	t := &state.Segments[len(state.Segments)-1]
	t.SealTime = time.Now()
	t.IndexStart = s.indexStart
	t.MaxIndex = t.BaseIndex + uint64(len(s.offsets)) - 1
	next := types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: t.MaxIndex + 1, MinIndex: t.MaxIndex + 1,
		Codec: codecID, CreateTime: time.Now(), SizeLimit: t.SizeLimit,
	}
	state.NextSegmentID++
	state.Segments = append(state.Segments, next)
	return c.meta.CommitState(state)
}

// saw notes that the log has the entries lo to hi.
func (c *logCheck) saw(lo, hi uint64) {
	if c.first == 0 {
		c.first = lo
	}
	c.last = hi
}

func (c *logCheck) path(info types.SegmentInfo) string {
	return filepath.Join(c.dir, segment.FileName(info))
}

// read returns the content of the file at path, until the next call.
func (c *logCheck) read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > 2*maxSegmentSize {
		return nil, corrupt(path, "it has %d bytes, more than any log segment", st.Size())
	}
	if int64(cap(c.buf)) < st.Size() {
		c.buf = make([]byte, st.Size())
	}
	c.buf = c.buf[:st.Size()]
	n, err := f.ReadAt(c.buf, 0)
	if err != nil && n < len(c.buf) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return c.buf, nil
}
