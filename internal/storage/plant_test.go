package storage

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

func seedOf(state []byte) Seed {
	return Seed{
		Index: 41, Term: 7,
		Configuration: func(name, nodeID string) raft.Configuration {
			return raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(name + "." + nodeID), Address: "here"}}}
		},
		Write: func(w io.Writer) error {
			_, err := w.Write(state)
			return err
		},
	}
}

func TestPlant(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "data")
	state := bytes.Repeat([]byte("state"), 10_000)
	p, err := Plant(Options{Dir: dir, Name: "n1"}, seedOf(state))
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, dir)
	o.Existing = true
	s := mustOpen(t, o)
	checkModes(t, dir)
	if s.Name() != "n1" || s.NodeID() != p.NodeID || s.ClusterID() != p.ClusterID || p.Name != "n1" {
		t.Errorf("planted %+v, opened %s %s %s", p, s.Name(), s.NodeID(), s.ClusterID())
	}
	index, got := readSnapshot(t, s)
	list, err := s.Snapshots().List()
	if err != nil || len(list) != 1 {
		t.Fatalf("%d snapshots, %v", len(list), err)
	}
	m := list[0]
	if index != 41 || m.Term != 7 || !bytes.Equal(got, state) || m.ConfigurationIndex != 41 ||
		len(m.Configuration.Servers) != 1 || m.Configuration.Servers[0].ID != raft.ServerID("n1."+p.NodeID) {
		t.Errorf("the snapshot is %+v with %d bytes", m, len(got))
	}
	if term, err := s.Stable().GetUint64([]byte(keyCurrentTerm)); err != nil || term != 7 {
		t.Errorf("the term is %d, %v", term, err)
	}
	// The log goes on behind the snapshot.
	fill(t, s, 42, 60, 5)
	checkLog(t, s, 42, 60)
	mustClose(t, s)
	checkLog(t, mustOpen(t, options(t, dir)), 42, 60)
}

// TestPlantRefuses: a directory with data, of whatever kind, stays as it is.
func TestPlantRefuses(t *testing.T) {
	used := t.TempDir()
	s := mustOpen(t, options(t, used))
	if _, err := Plant(Options{Dir: used}, seedOf(nil)); !errors.Is(err, ErrHasData) && !errors.Is(err, ErrLocked) {
		t.Errorf("a directory in use: %v", err)
	}
	fill(t, s, 1, 5, 5)
	mustClose(t, s)
	before := listing(t, used)
	if _, err := Plant(Options{Dir: used}, seedOf(nil)); !errors.Is(err, ErrHasData) {
		t.Errorf("a used directory: %v", err)
	}
	if after := listing(t, used); after != before {
		t.Errorf("it changed from\n%s\nto\n%s", before, after)
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "photo"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	before = listing(t, foreign)
	if _, err := Plant(Options{Dir: foreign}, seedOf(nil)); err == nil || listing(t, foreign) != before {
		t.Errorf("somebody else's directory: %v, %s", err, listing(t, foreign))
	}
	if _, err := Plant(Options{Dir: filepath.Join(foreign, "new"), Name: "a b"}, seedOf(nil)); err == nil || listing(t, foreign) != before {
		t.Errorf("a bad name: %v", err)
	}
}

var errNoState = errors.New("no state")

// TestPlantFails: what could not be finished is taken away again.
func TestPlantFails(t *testing.T) {
	parent := t.TempDir()
	s := seedOf(nil)
	s.Write = func(io.Writer) error { return errNoState }
	if _, err := Plant(Options{Dir: filepath.Join(parent, "a", "b")}, s); !errors.Is(err, errNoState) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(parent, "a", "b")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
	dir := t.TempDir()
	if _, err := Plant(Options{Dir: dir}, s); !errors.Is(err, errNoState) || listing(t, dir) != "" {
		t.Errorf("%v; left behind: %s", err, listing(t, dir))
	}
	if _, err := Plant(Options{Dir: dir}, seedOf(nil)); err != nil {
		t.Errorf("after the failure: %v", err)
	}
}

// TestHalfPlanted: what a crash leaves before the last step is no empty directory, in which a server would begin anew.
func TestHalfPlanted(t *testing.T) {
	dir := t.TempDir()
	if _, err := Plant(Options{Dir: dir}, seedOf([]byte("state"))); err != nil {
		t.Fatal(err)
	}
	whole := layout(dir)
	if err := os.WriteFile(whole.planting(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, options(t, dir)) // the crash came after all was done
	if index, _ := readSnapshot(t, s); index != 41 {
		t.Errorf("the snapshot is of entry %d", index)
	}
	mustClose(t, s)
	if ok, err := exists(whole.planting()); ok || err != nil {
		t.Errorf("the marker is still there (%v)", err)
	}
	half := layout(t.TempDir())
	for _, name := range []string{"restoring", "log", "snapshots"} {
		if err := os.Mkdir(half.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(options(t, string(half))); !errors.Is(err, ErrHalfPlanted) {
			t.Errorf("open: %v", err)
		}
		if _, err := Plant(Options{Dir: string(half)}, seedOf(nil)); !errors.Is(err, ErrHalfPlanted) {
			t.Errorf("plant: %v", err)
		}
	}
}

func TestExisting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	o := Options{Dir: dir, Existing: true}
	if _, err := Open(o); !errors.Is(err, ErrNoData) {
		t.Errorf("a missing directory: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); !errors.Is(err, ErrNoData) || listing(t, dir) != "" {
		t.Errorf("an empty directory: %v, %s", err, listing(t, dir))
	}
	mustClose(t, mustOpen(t, options(t, dir)))
	mustClose(t, mustOpen(t, o))
}

// listing is what is below dir, names with sizes and modes.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		b.WriteString(name)
		if info, err := e.Info(); err == nil && !e.IsDir() {
			b.WriteString(" " + info.Mode().String() + " " + info.ModTime().String())
		}
		b.WriteString("\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
