//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// refuses starts a server that must not come up, and returns what it says.
func refuses(t *testing.T, dir string, code int) string {
	t.Helper()
	s := launch(t, options{dir: dir})
	if s.comesUp() {
		t.Fatal("the server came up")
	}
	if got := s.exit(soon); got != code {
		t.Errorf("the server ended with %d, want %d", got, code)
	}
	text := s.err.String()
	if !strings.Contains(text, "cannot start") {
		t.Errorf("the message does not say that the server cannot start: %s", text)
	}
	return text
}

// flip changes one bit in the middle of what a file says.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(data, "\x00"))
	if used == 0 {
		used = len(data) // a file of zeros
	}
	data[used/2] ^= 0x10
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// filesOf lists the files in a data directory, by their path inside it.
func filesOf(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rest, _ := filepath.Rel(dir, path)
			files = append(files, rest)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A flipped bit in what the server needs makes it refuse to start; where a second copy exists or nothing depends on the
// file, it starts with all locks.
func TestFlippedBit(t *testing.T) {
	t.Parallel()
	old := makeOld(t)
	heals := func(file string) bool {
		switch dir, name := filepath.Split(file); {
		case name == "LOCK", name == "clean", dir == "reserve/", file == "log/meta":
			return true
		}
		return false
	}
	refused, healed := 0, 0
	for _, file := range filesOf(t, old.dir) {
		dir := old.copy(t)
		flip(t, filepath.Join(dir, file))
		if heals(file) {
			healed++
			w := &workload{claims: old.claims, highest: old.highest}
			w.verify(t, start(t, options{dir: dir, plain: true}))
			continue
		}
		refused++
		text := refuses(t, dir, exitcode.StorageDamaged)
		if !strings.Contains(text, filepath.Join(dir, file)) || !strings.Contains(text, "doubledutch restore") {
			t.Errorf("%s: the message does not say which file is damaged and what to do: %s", file, text)
		}
	}
	if refused < 2 || healed < 4 {
		t.Errorf("only %d files were refused and %d healed", refused, healed)
	}
}

// Both copies of what is kept twice are needed no more than one.
func TestBothCopiesDamaged(t *testing.T) {
	t.Parallel()
	dir := makeOld(t).dir
	path := filepath.Join(dir, "log", "meta")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{40, len(data)/2 + 40} { // inside what each copy says
		data[at] ^= 1
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if text := refuses(t, dir, exitcode.StorageDamaged); !strings.Contains(text, path) {
		t.Errorf("the message does not name the file: %s", text)
	}
}

// A log that is cut off after a clean stop is damage; the missing file of a log is too.
func TestCutLog(t *testing.T) {
	t.Parallel()
	old := makeOld(t)
	for name, harm := range map[string]func(string) error{
		"cut":     cutInHalf,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"missing": os.Remove,
	} {
		dir := old.copy(t)
		segments, err := filepath.Glob(filepath.Join(dir, "log", "*.wal"))
		if err != nil || len(segments) == 0 {
			t.Fatalf("%v: %v", segments, err)
		}
		if err := harm(segments[0]); err != nil {
			t.Fatal(err)
		}
		if text := refuses(t, dir, exitcode.StorageDamaged); !strings.Contains(text, dir) {
			t.Errorf("%s: the message does not name the place: %s", name, text)
		}
	}
}

// cutInHalf cuts off half of what is written in a file.
func cutInHalf(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, int64(len(bytes.TrimRight(data, "\x00"))/2))
}

// What a power cut leaves of the last batch is dropped, and everything that was acknowledged is there.
func TestTornTailHeals(t *testing.T) {
	t.Parallel()
	s := start(t, options{plain: true})
	w := &workload{s: s, sessions: map[string]fate{}}
	for n := range 30 {
		w.single(fmt.Sprintf("%sTorn%d", canaryName, n), n)
	}
	s.kill()
	segments, err := filepath.Glob(filepath.Join(s.dir, "log", "*.wal"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("%v: %v", segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(data, "\x00"))
	end = (end + 7) / 8 * 8
	// The beginning of an entry of 2000 bytes of which one sector arrived.
	torn := append([]byte{1, 0, 0, 0, 0xd0, 0x07, 0, 0}, bytes.Repeat([]byte{0xa5}, 400)...)
	copy(data[end:], torn)
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	s = s.restart()
	if !strings.Contains(s.err.String(), "unfinished batch") {
		t.Error("the log does not mention what was dropped")
	}
	w.verify(t, s)
}

func TestSecondServerIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	text := refuses(t, s.dir, exitcode.DataDirInUse)
	if !strings.Contains(text, "in use by another process") || !strings.Contains(text, fmt.Sprint(s.pid())) {
		t.Errorf("the message does not say who has the directory: %s", text)
	}
	s.acquire(canaryName, request{}) // the first is not disturbed
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	dir := makeOld(t).dir
	path := filepath.Join(dir, "format")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	body, _, _ := strings.Cut(strings.Replace(string(data), "doubledutch-data 1\n", "doubledutch-data 2\n", 1), "check ")
	sum := crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli))
	if err := os.WriteFile(path, fmt.Appendf(nil, "%scheck %08x\n", body, sum), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := refuses(t, dir, exitcode.StorageDamaged); !strings.Contains(text, "newer version") {
		t.Errorf("the message does not say that a newer version is needed: %s", text)
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("my work"), 0o644); err != nil {
		t.Fatal(err)
	}
	if text := refuses(t, dir, exitcode.Failure); !strings.Contains(text, "choose an empty directory") {
		t.Errorf("the message does not say what to do: %s", text)
	}
	if info, err := os.Stat(filepath.Join(dir, "thesis.txt")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the foreign file was touched: %v, %v", info, err)
	}
}

// Everything is private, whatever the umask is, and stays so over a restart.
func TestPermissions(t *testing.T) {
	t.Parallel()
	s := start(t, options{wrap: []string{"sh", "-c", `umask 0; "$@" & trap 'kill $!' TERM; wait`, "sh"}})
	s.acquire(canaryName, request{})
	checkPermissions(t, s.dir)
	s.signal(syscall.SIGTERM)
	eventually(t, soon, "the server leaves its mark of a clean stop", func() bool {
		_, err := os.Stat(filepath.Join(s.dir, "clean"))
		return err == nil
	})
	checkPermissions(t, s.dir)
}

func checkPermissions(t *testing.T, dir string) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has the mode %o", path, info.Mode().Perm())
		}
		return nil
	})
	if err != nil || seen < 8 {
		t.Errorf("%d files: %v", seen, err)
	}
}
