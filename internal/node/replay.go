package node

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// Replay makes the table anew from a data directory that no node uses, as a node at its start would: from the newest snapshot
// and the log behind it, up to the entry at index upTo. It returns the hash of that table and the index that was reached.
// Entries that were never committed are replayed too if upTo is beyond the last committed one. Opening the directory heals
// what a crash has left in it.
func Replay(dir string, upTo uint64) (hash [32]byte, reached uint64, err error) {
	store, err := storage.Open(storage.Options{Dir: dir})
	if err != nil {
		return hash, 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var broken error
	f := newFSM(Config{Fatal: func(e error) { broken = e }}.withDefaults(), newWaiters(), newFates(), nil)
	from, err := f.restoreNewest(store.Snapshots())
	if err != nil {
		return hash, 0, err
	}
	if from > upTo {
		return hash, from, fmt.Errorf("the newest snapshot is of entry %d, beyond %d", from, upTo)
	}
	reached, err = f.replay(store.Log(), from, upTo)
	return f.table.Hash(), reached, errors.Join(err, broken)
}

// restoreNewest reads the newest snapshot, if there is one, and returns the index up to which it goes.
func (f *fsm) restoreNewest(snapshots raft.SnapshotStore) (uint64, error) {
	list, err := snapshots.List()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	meta, r, err := snapshots.Open(list[0].ID)
	if err != nil {
		return 0, err
	}
	return meta.Index, f.Restore(r)
}

// replay applies the commands of the entries behind from, up to upTo or the end of the log.
func (f *fsm) replay(log raft.LogStore, from, upTo uint64) (uint64, error) {
	last, err := log.LastIndex()
	if err != nil {
		return from, err
	}
	for at := from + 1; at <= min(last, upTo); at++ {
		var l raft.Log
		if err := log.GetLog(at, &l); err != nil {
			return at - 1, fmt.Errorf("log entry %d: %w", at, err)
		}
		if l.Type == raft.LogCommand {
			f.Apply(&l)
		}
		from = at
	}
	return from, nil
}
