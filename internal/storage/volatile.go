package storage

import "github.com/hashicorp/raft"

// OpenVolatile returns a Store that keeps everything in memory and loses it with the process. It starts no goroutine.
func OpenVolatile(o Options) *Store {
	o = o.withDefaults()
	g := newGuard(o)
	m := newMemLog()
	return &Store{
		o:      o,
		id:     newIdentity(),
		g:      g,
		log:    &logStore{in: m, g: g, path: "the log in memory"},
		stable: &stableStore{in: raft.NewInmemStore(), g: g},
		snaps:  &memSnapshots{},
		stop:   make(chan struct{}),
	}
}
