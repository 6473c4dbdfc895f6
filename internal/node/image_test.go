package node

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/backup"
	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// What a stopped node has in its directory is worth a backup too, the end of its log included.
func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	occupy(t, n)
	if _, err := ReadDir(dir, nil, "v"); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("while the node runs: %v", err)
	}
	n.snapshot()
	mustAcquire(t, n, acquireCmd("late", "l", 0), locktable.Granted) // in the log only
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	var want [32]byte
	n.fsm.view(func(tb *locktable.Table) { want = tb.Hash() })
	i, err := ReadDir(dir, nil, "v")
	if err != nil {
		t.Fatal(err)
	}
	if i.table.Hash() != want || i.Header().Term == 0 || i.Header().ClusterID != n.store.ClusterID() || i.Header().Holds != 3 {
		t.Errorf("%+v", i.Header())
	}
	// It leaves the directory as good as it was.
	again := open(t, dir)
	mustAcquire(t, again, acquireCmd("late", "l", 0), locktable.Granted)
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	size, err := i.WriteTo(&file)
	if err != nil || size != int64(file.Len()) {
		t.Fatalf("%d bytes written, %d there, %v", size, file.Len(), err)
	}
	if back := mustReadBackup(t, file.Bytes()); back.table.Hash() != want || back.Header() != i.Header() {
		t.Errorf("read back: %+v", back.Header())
	}
}

// TestReadDirTakesTheTail: entries at the end of a follower's log may be committed without its knowing.
func TestReadDirTakesTheTail(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	s := openBareStore(t, dir)
	last, err := s.Log().LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	entry := &command.Entry{Version: command.Version, Term: 9, Commands: []*command.Command{command.FromAcquire(acquireCmd("tail", "z", 0))}}
	data, err := proto.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Log().StoreLogs([]*raft.Log{{Index: last + 1, Term: 9, Type: raft.LogCommand, Data: data}})
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	i, err := ReadDir(dir, nil, "v")
	if err != nil {
		t.Fatal(err)
	}
	if h := i.Header(); h.Index != last+1 || h.Term != 9 || h.Holds != 2 || h.LastToken != 2 {
		t.Errorf("%+v", h)
	}
}

func TestReadDirRefuses(t *testing.T) {
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "missing")} {
		if _, err := ReadDir(dir, nil, "v"); !errors.Is(err, storage.ErrNoData) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	s := openBareStore(t, empty) // a node that waits to be taken into a cluster
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDir(empty, nil, "v"); !errors.Is(err, storage.ErrNoData) {
		t.Errorf("without a log: %v", err)
	}
}

func TestPlantRefusesAUsedDirectory(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	held := mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
	data := mustBackUp(t, n)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := mustReadBackup(t, data).Plant(Planting{Dir: dir}); !errors.Is(err, storage.ErrHasData) {
		t.Errorf("%v", err)
	}
	if again := mustAcquire(t, open(t, dir), acquireCmd("db", "a", 0), locktable.Granted); again.Token != held.Token {
		t.Errorf("token %d, was %d", again.Token, held.Token)
	}
}

// rewrap is a backup, with a right checksum, whose header and state were spoilt.
func rewrap(tb testing.TB, file []byte, spoil func(*backup.Header), state func([]byte) []byte) []byte {
	tb.Helper()
	r, err := backup.NewReader(bytes.NewReader(file))
	if err != nil {
		tb.Fatal(err)
	}
	body, err := io.ReadAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	h := r.Header()
	spoil(&h)
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, h)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(state(body)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// H20: what passes its checksum is still looked at.
func TestBackupsThatLie(t *testing.T) {
	n := open(t, "")
	occupy(t, n)
	file := mustBackUp(t, n)
	same := func(b []byte) []byte { return b }
	for name, spoil := range map[string]func(*backup.Header){
		"tokens": func(h *backup.Header) { h.LastToken-- }, "epoch": func(h *backup.Header) { h.Epoch++ },
		"clock": func(h *backup.Header) { h.Time++ }, "counts": func(h *backup.Header) { h.Waiters = 0 },
	} {
		if _, err := ReadBackup(bytes.NewReader(rewrap(t, file, spoil, same))); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, state := range map[string]func([]byte) []byte{
		"cut":   func(b []byte) []byte { return b[:len(b)-1] },
		"more":  func(b []byte) []byte { return append(bytes.Clone(b), 0) },
		"none":  func([]byte) []byte { return nil },
		"other": func(b []byte) []byte { return bytes.Replace(b, []byte("db"), []byte("dc"), 1) },
	} {
		if _, err := ReadBackup(bytes.NewReader(rewrap(t, file, func(*backup.Header) {}, state))); !errors.Is(err, locktable.ErrBadSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReadBackup: a state that is spoilt inside a file with a right checksum brings no panic, and what is accepted can be gone on with.
func FuzzReadBackup(f *testing.F) {
	tb := locktable.New(locktable.DefaultSettings())
	tb.Apply(5, []*command.Command{
		command.FromAcquire(acquireCmd("db", "a", 0)), command.FromAcquire(acquireCmd("db", "b", time.Hour)),
		command.FromOpenSession(&command.OpenSession{Id: keyOf("s"), Ttl: int64(time.Hour)}),
	})
	i := &Image{header: tableHeader(tb, 3), table: tb}
	i.header.ClusterID, i.header.Made = strings.Repeat("a", 32), backup.MadeAt(time.Unix(1e9, 0))
	var file, state bytes.Buffer
	if _, err := i.WriteTo(&file); err != nil {
		f.Fatal(err)
	}
	if err := writeTable(&state, tb); err != nil {
		f.Fatal(err)
	}
	f.Add(state.Bytes(), uint64(3), false)
	f.Add(state.Bytes(), uint64(1<<61), true)
	f.Fuzz(func(t *testing.T, state []byte, index uint64, raw bool) {
		data := state
		if !raw {
			index = max(1, index%(1<<61))
			data = rewrap(t, file.Bytes(), func(h *backup.Header) { h.Index = index }, func([]byte) []byte { return state })
		}
		i, err := ReadBackup(bytes.NewReader(data))
		if err != nil {
			return
		}
		if _, err := i.table.BumpEpoch(0); err != nil && !errors.Is(err, locktable.ErrNoEpoch) {
			t.Fatal(err)
		}
		i.table.Apply(i.table.Now()+1, nil)
		if err := i.table.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
	})
}
