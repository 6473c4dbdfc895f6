package node

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// bufferSink keeps a snapshot in memory.
type bufferSink struct {
	bytes.Buffer
}

func (*bufferSink) Close() error  { return nil }
func (*bufferSink) ID() string    { return "test" }
func (*bufferSink) Cancel() error { return nil }

// A snapshot shows the state at its beginning, whatever is applied while it is written: renewals and releases of locks that are
// yet to come, new ones, and past holds and spent keys that are forgotten. Most of it is encoded while the table goes on, so
// that the race detector has something to say here.
func TestSnapshotBesideEntries(t *testing.T) {
	f := newFSM(Config{}.withDefaults(), newWaiters(), newFates(), nil)
	index := uint64(0)
	do := func(cmds ...*command.Command) {
		index++
		data, err := command.Encode(command.NewEntry(1, int64(index), cmds))
		if err != nil {
			t.Fatal(err)
		}
		f.Apply(&raft.Log{Index: index, Term: 1, Data: data})
	}
	name := func(i int) string { return fmt.Sprintf("lock-%06d", i) }
	key := func(i int) string { return fmt.Sprintf("%032d", i) }
	acquire := func(i int) *command.Command {
		return command.FromAcquire(&command.Acquire{Name: name(i), Key: key(i), Ttl: int64(time.Hour), Attachment: uint64(i)})
	}
	release := func(i int) *command.Command {
		return command.FromRelease(&command.Release{Name: name(i), Key: key(i)})
	}
	do(command.FromRaise(&command.Raise{Version: 2}))
	settings := locktable.DefaultSettings()
	settings.MaxSpent, settings.MaxHistory = 2500, 2500
	do(command.FromConfigure(&command.Configure{Settings: settings}))
	const held = 4_000
	for i := range held {
		do(acquire(i))
	}
	for i := range 2 * int(settings.GetMaxSpent()) {
		do(acquire(held+i), release(held+i))
	}
	want := f.table.Hash()
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	written := make(chan struct{})
	sink := &bufferSink{}
	wg.Go(func() {
		defer close(written)
		err = snap.Persist(sink)
		snap.Release()
	})
	for i, over := 0, false; !over || i < held; i++ {
		renewed, gone := i*7919%held, i*104729%held
		do(command.FromRenew(&command.Renew{Key: key(renewed)}), release(gone), acquire(2*held+i), release(2*held+i))
		select {
		case <-written:
			over = true
		default:
		}
	}
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := f.readSnapshot(sink)
	if err != nil {
		t.Fatal(err)
	}
	if got.Hash() != want {
		t.Error("the snapshot does not show the state at its beginning")
	}
}
