package storage

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

func segmentInfo(base, id uint64) types.SegmentInfo {
	return types.SegmentInfo{ID: id, BaseIndex: base, MinIndex: base, Codec: codecID, SizeLimit: minSegmentSize}
}

func TestReopen(t *testing.T) {
	for _, how := range []string{"closed", "crashed"} {
		t.Run(how, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "data")
			var last, kept uint64
			var id string
			for round := range uint64(5) {
				s := mustOpen(t, options(t, dir))
				checkLog(t, s, kept, last)
				if round > 0 && s.NodeID() != id {
					t.Fatal("the node id has changed")
				}
				id = s.NodeID()
				fill(t, s, last+1, last+200, 1+3*round)
				last += 200
				kept = max(kept, 1)
				if round == 2 {
					snapshot(t, s, 300, []byte("state"))
					kept = 250
					if err := s.Log().DeleteRange(1, kept-1); err != nil {
						t.Fatal(err)
					}
				}
				if round == 3 {
					if err := s.Log().DeleteRange(last-20, last); err != nil {
						t.Fatal(err)
					}
					last -= 21
				}
				checkLog(t, s, kept, last)
				if how == "closed" {
					mustClose(t, s)
				} else {
					dir = crashed(t, s)
				}
			}
			s := mustOpen(t, options(t, dir))
			checkLog(t, s, kept, last)
			if i, b := readSnapshot(t, s); i != 300 || string(b) != "state" {
				t.Fatalf("snapshot %d %q", i, b)
			}
			if n := len(segments(t, dir)); n < 3 {
				t.Fatalf("only %d segments: nothing was rotated", n)
			}
		})
	}
}

func TestStableStore(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, options(t, dir))
	if v, err := s.Stable().GetUint64([]byte("CurrentTerm")); v != 0 || err != nil {
		t.Fatalf("fresh: %d, %v", v, err)
	}
	for i := range uint64(20) {
		if err := errors.Join(s.Stable().SetUint64([]byte("CurrentTerm"), i), s.Stable().Set([]byte("c"), []byte{byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{crashed(t, s), dir} {
		mustClose(t, s)
		s := mustOpen(t, options(t, dir))
		v, err := s.Stable().GetUint64([]byte("CurrentTerm"))
		b, err2 := s.Stable().Get([]byte("c"))
		if v != 19 || !bytes.Equal(b, []byte{19}) || err != nil || err2 != nil {
			t.Fatalf("%d, %v, %v, %v", v, b, err, err2)
		}
	}
}

// A crash between the two writes of a vote leaves no vote, and not the old candidate in the new term.
func TestHalfAVote(t *testing.T) {
	s := mustOpen(t, options(t, t.TempDir()))
	term, candidate := []byte("LastVoteTerm"), []byte("LastVoteCand")
	vote := func(n uint64, c string) {
		if err := errors.Join(s.Stable().SetUint64(term, n), s.Stable().Set(candidate, []byte(c))); err != nil {
			t.Fatal(err)
		}
	}
	vote(3, "a")
	vote(3, "a")
	if c, err := s.Stable().Get(candidate); string(c) != "a" || err != nil {
		t.Fatalf("%q, %v", c, err)
	}
	if err := s.Stable().SetUint64(term, 4); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, options(t, crashed(t, s)))
	n, err := s.Stable().GetUint64(term)
	c, err2 := s.Stable().Get(candidate)
	if n != 4 || c != nil || err != nil || err2 != nil {
		t.Fatalf("vote %d for %q, %v, %v", n, c, err, err2)
	}
	vote(4, "b")
	if c, err := s.Stable().Get(candidate); string(c) != "b" || err != nil {
		t.Fatalf("%q, %v", c, err)
	}
}

func TestIsMonotonic(t *testing.T) {
	for _, s := range []*Store{mustOpen(t, options(t, t.TempDir())), OpenVolatile(Options{})} {
		m, ok := s.Log().(raft.MonotonicLogStore)
		if !ok || !m.IsMonotonic() {
			t.Fatal("raft is not told that the log takes no gaps")
		}
	}
}

func TestClosedStore(t *testing.T) {
	s := mustOpen(t, options(t, t.TempDir()))
	mustClose(t, s)
	if err := s.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
}

// The files of a data directory are private, whatever the umask is, and those of a directory that was too open become so.
func TestPermissions(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "data")
	s := mustOpen(t, options(t, dir))
	fill(t, s, 1, 500, 7)
	snapshot(t, s, 100, []byte("x"))
	checkModes(t, dir)
	mustClose(t, s)
	checkModes(t, dir)

	for _, path := range []string{"", "log", "format", "LOCK"} {
		if err := os.Chmod(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mustOpen(t, options(t, dir))
	checkModes(t, dir)
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(fileMode)
		if e.IsDir() {
			want = dirMode
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		n++
		return nil
	})
	if err != nil || n < 10 {
		t.Fatalf("%d files, %v", n, err)
	}
}

func TestSecondOpener(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, options(t, dir))
	_, err := Open(options(t, dir))
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Fatalf("second opener: %v", err)
	}
	if out := openElsewhere(t, dir); !strings.Contains(out, ErrLocked.Error()) || !strings.Contains(out, dir) {
		t.Fatalf("opener in another process: %s", out)
	}
	mustClose(t, s)
	if out := openElsewhere(t, dir); !strings.Contains(out, "opened") {
		t.Fatalf("opener in another process, after Close: %s", out)
	}
}

// openElsewhere opens dir in a process of its own and returns what that says.
func openElsewhere(t *testing.T, dir string) string {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestHelperOpen$", "-test.v")
	c.Env = append(os.Environ(), "STORAGE_TEST_OPEN="+dir)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestHelperOpen is the other process of openElsewhere.
func TestHelperOpen(t *testing.T) {
	dir := os.Getenv("STORAGE_TEST_OPEN")
	if dir == "" {
		t.Skip("only runs as a helper of TestSecondOpener")
	}
	s, err := Open(options(t, dir))
	if err != nil {
		t.Log(err)
		return
	}
	mustClose(t, s)
	t.Log("opened")
}

func TestForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options(t, dir)); err == nil || !strings.Contains(err.Error(), "thesis.txt") {
		t.Fatalf("foreign directory: %v", err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o755 {
		t.Fatal("the foreign directory was changed")
	}
	if e, err := os.ReadDir(dir); err != nil || len(e) != 1 {
		t.Fatal("the foreign directory was written to")
	}
	if _, err := Open(options(t, filepath.Join(dir, "thesis.txt"))); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Fatalf("a file: %v", err)
	}
}

func TestMountPointIsFresh(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, options(t, dir))
}

func TestFormatFile(t *testing.T) {
	s := mustOpen(t, options(t, t.TempDir()))
	fill(t, s, 1, 10, 1)
	mustClose(t, s)
	format := func(dir string) string { return layout(dir).format() }

	dir := copyDir(t, string(s.dir))
	edit(t, format(dir), func([]byte) []byte { return []byte("doubledutch-data 7\nsomething else") })
	if _, err := Open(options(t, dir)); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("newer format: %v", err)
	} else if !errors.Is(err, ErrNewer) {
		t.Errorf("not known for newer: %v", err)
	}

	dir = copyDir(t, string(s.dir))
	edit(t, format(dir), func([]byte) []byte { return nil })
	if c := refused(t, dir); !strings.Contains(c.What, "empty") {
		t.Errorf("empty format file: %v", c)
	}

	dir = copyDir(t, string(s.dir))
	if err := os.Remove(format(dir)); err != nil {
		t.Fatal(err)
	}
	if c := refused(t, dir); !strings.Contains(c.What, "missing") {
		t.Errorf("no format file: %v", c)
	}

	// A format file of another directory does not go with this meta file.
	other := mustOpen(t, options(t, t.TempDir()))
	dir = copyDir(t, string(s.dir))
	edit(t, format(dir), func([]byte) []byte { return newIdentity("other").encode() })
	if c := refused(t, dir); !strings.Contains(c.What, "belongs") {
		t.Errorf("foreign format file: %v", c)
	}
	mustClose(t, other)
}

// A first start that a crash has interrupted is done again.
func TestUnfinishedFirstStart(t *testing.T) {
	dir := layout(t.TempDir())
	if _, err := dir.initialize(nil, "n"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir.format(), dir.format()+tmpSuffix); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, options(t, string(dir)))
	fill(t, s, 1, 3, 1)
	checkLog(t, s, 1, 3)
}

func TestVolatile(t *testing.T) {
	s := OpenVolatile(Options{})
	fill(t, s, 1, 300, 17)
	checkLog(t, s, 1, 300)
	if err := s.Log().DeleteRange(1, 99); err != nil {
		t.Fatal(err)
	}
	if err := s.Log().DeleteRange(290, 300); err != nil {
		t.Fatal(err)
	}
	checkLog(t, s, 100, 289)
	snapshot(t, s, 289, []byte("state"))
	if i, b := readSnapshot(t, s); i != 289 || string(b) != "state" {
		t.Fatalf("snapshot %d %q", i, b)
	}
	if err := s.Log().DeleteRange(1, 289); err != nil {
		t.Fatal(err)
	}
	checkLog(t, s, 0, 0)
	fill(t, s, 500, 510, 3)
	checkLog(t, s, 500, 510)
	if s.Full() || s.Stalled() != 0 || s.NodeID() == "" || s.ClusterID() == "" {
		t.Fatal("a volatile store that is full, stalled or has no name")
	}
	mustClose(t, s)
}

func TestStalledIsZeroAtRest(t *testing.T) {
	s := mustOpen(t, options(t, t.TempDir()))
	fill(t, s, 1, 50, 1)
	if d := s.Stalled(); d > time.Second {
		t.Fatalf("stalled for %v with nothing to do", d)
	}
}
