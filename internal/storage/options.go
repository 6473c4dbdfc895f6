package storage

import (
	"log/slog"
	"time"
)

// Limits and defaults, with their relations. Sizes are bytes.
const (
	defaultHangTimeout = 10 * time.Second
	defaultMinFree     = 32 << 20
	defaultSegmentSize = 16 << 20
	minSegmentSize     = 64 << 10 // below this, raft-wal would rotate with nearly every batch
	maxSegmentSize     = 1 << 30  // offsets in a segment are 32 bits
	smallestDefault    = 1 << 20  // the default segment is not scaled below this

	reserveSegments   = 2  // prepared segments: one for the next rotation, one to spare
	segmentsPerDisk   = 16 // the default segment is at most this fraction of the file system
	minFreePerDisk    = 4  // MinFree is at most this fraction of the file system
	allocateStep      = 1 << 20
	retainedSnapshots = 2
	maxName           = 63 // characters of a node's name, as in a host's

	startPatience    = 2 * time.Second  // a start that takes longer says what it is doing
	startReportEvery = 10 * time.Second // and again after so long

	spaceInterval    = 250 * time.Millisecond
	spaceEveryWrites = 64 // look at the free space again after so many writes, too
)

// Options configure a Store. The zero value of each field but Dir means its default.
type Options struct {
	// Dir is the data directory; it is created when missing. Not used by OpenVolatile.
	Dir string

	// Name is the node's name, 1 to 63 characters of [A-Za-z0-9-_]. It is kept in the directory when that is made; later,
	// Open refuses another one. Default: the kept one, or for a new directory the host's name with a dash for each other
	// character, or "node".
	Name string

	// Existing makes Open refuse a directory without data with ErrNoData (wrapped), instead of beginning one.
	Existing bool

	// Logger receives what an operator should know. Default: discard.
	Logger *slog.Logger

	// Fatal is called once, with a *FailedError or a *CorruptError, before the failing call returns. It should end the
	// process. When it returns, the Store refuses every later write. Default: panic.
	Fatal func(error)

	// HangTimeout is how long a write or sync may take before the disk counts as hanging. Default 10 s.
	HangTimeout time.Duration

	// MinFree is the free space in bytes below which Full answers true. Default 32 MiB; at most a quarter of the file
	// system is taken for it.
	MinFree int64

	// SegmentSize is the preallocated size of a log segment in bytes, 64 KiB to 1 GiB. Default 16 MiB, or a sixteenth of the
	// file system when that is less (but at least 1 MiB).
	SegmentSize int
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic(err) }
	}
	if o.HangTimeout <= 0 {
		o.HangTimeout = defaultHangTimeout
	}
	if o.MinFree <= 0 {
		o.MinFree = defaultMinFree
	}
	return o
}

// scaled fits the space settings to a file system of total bytes.
func (o Options) scaled(total int64) Options {
	o.MinFree = min(o.MinFree, total/minFreePerDisk)
	if o.SegmentSize == 0 {
		o.SegmentSize = int(max(smallestDefault, min(defaultSegmentSize, total/segmentsPerDisk)))
	}
	o.SegmentSize = max(minSegmentSize, min(maxSegmentSize, o.SegmentSize))
	return o
}
