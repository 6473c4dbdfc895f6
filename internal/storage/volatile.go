package storage

import "github.com/hashicorp/raft"

// OpenVolatile returns a Store that keeps everything in memory and loses it with the process. It starts no goroutine, and
// takes o.Name as it is.
func OpenVolatile(o Options) *Store {
	o = o.withDefaults()
	name := o.Name
	if name == "" {
		name = defaultName()
	}
	g := newGuard(o)
	m := newMemLog()
	return &Store{
		o:      o,
		id:     newIdentity(name),
		g:      g,
		log:    &logStore{in: m, g: g, path: "the log in memory"},
		stable: &stableStore{in: raft.NewInmemStore(), g: g},
		snaps:  &memSnapshots{},
		stop:   make(chan struct{}),
	}
}
