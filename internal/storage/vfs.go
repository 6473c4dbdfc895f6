package storage

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// segmentDir is the file system as raft-wal's segments see it. It takes new segments from the pool of prepared ones and
// reports each error to the guard, also those of raft-wal's background rotation, which raft-wal itself only logs.
type segmentDir struct {
	pool *pool
	meta *metaFile
	g    *guard
}

var _ types.VFS = (*segmentDir)(nil)

// ListDir returns the names of the files in dir.
func (d *segmentDir) ListDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Create makes the segment file name, with room for size bytes and some more allocated. Its directory entry is durable.
func (d *segmentDir) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if err := d.g.err(); err != nil {
		return nil, err
	}
	f, err := d.pool.take(d.g, filepath.Join(dir, name), int64(size))
	if err != nil {
		return nil, d.g.fail("create a log segment", err)
	}
	if err := d.noteCreated(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return newSegmentFile(f, d.g)
}

// noteCreated puts down in the meta file that the segment file name exists, so that its loss is noticed.
func (d *segmentDir) noteCreated(name string) error {
	_, id, err := parseSegmentName(name)
	if err != nil {
		return err
	}
	return d.meta.created(id)
}

// Delete removes a segment that is no longer needed.
func (d *segmentDir) Delete(dir, name string) error {
	return removeDurably(d.g, filepath.Join(dir, name))
}

func (d *segmentDir) OpenReader(dir, name string) (types.ReadableFile, error) {
	return os.Open(filepath.Join(dir, name))
}

func (d *segmentDir) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	return newSegmentFile(f, d.g)
}

// segmentFiler makes segments whose headers name our entry format; see metaFile.CommitState.
type segmentFiler struct{ *segment.Filer }

func (f segmentFiler) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	info.Codec = codecID
	return f.Filer.Create(info)
}

// segmentFile is an open segment. Only one goroutine at a time writes to it.
type segmentFile struct {
	*os.File
	g    *guard
	size int64
}

func newSegmentFile(f *os.File, g *guard) (*segmentFile, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &segmentFile{File: f, g: g, size: st.Size()}, nil
}

// WriteAt writes p at off. Where that goes over the end of the file, zeros are written and synced first, so that a crash
// leaves zeros in place of what it has cut off, there too.
func (f *segmentFile) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > f.size {
		if err := allocate(f.g, f.File, f.size, end); err != nil {
			return 0, f.g.fail("extend "+f.Name(), err)
		}
		f.size = end
	}
	n, err := f.File.WriteAt(p, off)
	if err != nil {
		err = f.g.fail("write "+f.Name(), err)
	}
	return n, err
}

// Sync makes what was written durable. The file's size and blocks are so already, and the data is enough.
func (f *segmentFile) Sync() error {
	if err := fdatasync(f.File); err != nil {
		return f.g.fail("sync "+f.Name(), err)
	}
	return nil
}

// Close closes the file; a second call is harmless.
func (f *segmentFile) Close() error {
	err := f.File.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
