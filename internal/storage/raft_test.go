package storage

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// tape is a raft.FSM that keeps all commands.
type tape struct{ lines [][]byte }

func (f *tape) Apply(l *raft.Log) any {
	f.lines = append(f.lines, bytes.Clone(l.Data))
	return nil
}

func (f *tape) Snapshot() (raft.FSMSnapshot, error) {
	return tapeSnapshot(bytes.Join(f.lines, []byte("\n"))), nil
}

func (f *tape) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	f.lines = bytes.Split(b, []byte("\n"))
	return err
}

type tapeSnapshot []byte

func (s tapeSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return err
	}
	return sink.Close()
}

func (tapeSnapshot) Release() {}

// lead starts a raft of one voter on s and waits until it leads and has applied its log.
func lead(t *testing.T, s *Store, f *tape) *raft.Raft {
	t.Helper()
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID("node")
	c.Logger = hclog.NewNullLogger()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 20*time.Millisecond, 20*time.Millisecond, 10*time.Millisecond
	c.TrailingLogs = 10
	_, trans := raft.NewInmemTransport("node")
	known, err := raft.HasExistingState(s.Log(), s.Stable(), s.Snapshots())
	if err != nil {
		t.Fatal(err)
	}
	if !known {
		conf := raft.Configuration{Servers: []raft.Server{{ID: c.LocalID, Address: trans.LocalAddr()}}}
		if err := raft.BootstrapCluster(c, s.Log(), s.Stable(), s.Snapshots(), trans, conf); err != nil {
			t.Fatal(err)
		}
	}
	r, err := raft.NewRaft(c, f, s.Log(), s.Stable(), s.Snapshots(), trans)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Shutdown().Error() })
	if !<-r.LeaderCh() {
		t.Fatal("it does not lead")
	}
	if err := r.Barrier(10 * time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	return r
}

// Raft itself on our stores: everything it has acknowledged is there after a crash and after a clean shutdown, through
// snapshots, truncation of the log, rotation of segments and changes of term.
func TestRaft(t *testing.T) {
	dir := t.TempDir()
	n := 0
	for round := range 6 {
		s := mustOpen(t, options(t, dir))
		f := &tape{}
		r := lead(t, s, f)
		if v, err := s.Stable().GetUint64([]byte(keyVoteTerm)); v == 0 || err != nil {
			t.Fatalf("raft keeps its vote elsewhere: %d, %v", v, err)
		}
		if len(f.lines) != n {
			t.Fatalf("round %d: %d commands came back, want %d", round, len(f.lines), n)
		}
		for i, l := range f.lines {
			if string(l[:8]) != fmt.Sprintf("%08d", i) {
				t.Fatalf("round %d: command %d is %q", round, i, l)
			}
		}
		for range 150 {
			cmd := fmt.Appendf(nil, "%08d%s", n, bytes.Repeat([]byte("."), 500))
			if err := r.Apply(cmd, time.Second).Error(); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if round%2 == 1 {
			if err := r.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
			if first, err := s.Log().FirstIndex(); err != nil || first < 100 {
				t.Fatalf("the log was not truncated: %d, %v", first, err)
			}
		}
		if round%3 == 1 {
			if err := r.Shutdown().Error(); err != nil {
				t.Fatal(err)
			}
			mustClose(t, s)
		} else {
			dir = crashed(t, s)
		}
	}
}

func TestRaftVolatile(t *testing.T) {
	s := OpenVolatile(Options{})
	f := &tape{}
	r := lead(t, s, f)
	for i := range 100 {
		if err := r.Apply(fmt.Appendf(nil, "%d", i), time.Second).Error(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if first, err := s.Log().FirstIndex(); err != nil || first < 50 {
		t.Fatalf("the log was not truncated: %d, %v", first, err)
	}
	if i, b := readSnapshot(t, s); i < 100 || len(bytes.Split(b, []byte("\n"))) != 100 {
		t.Fatalf("snapshot at %d: %q", i, b)
	}
}
