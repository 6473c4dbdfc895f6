package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestHelperAppend is the process that TestKillAtSync kills: it appends, takes snapshots, truncates and votes, and says on
// its standard output what was acknowledged.
func TestHelperAppend(t *testing.T) {
	dir := os.Getenv("STORAGE_TEST_APPEND")
	if dir == "" {
		t.Skip("only runs as a helper of TestKillAtSync")
	}
	s := mustOpen(t, options(t, dir))
	last, err := s.Log().LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	for i := last + 1; i <= last+60; i += 3 {
		fill(t, s, i, i+2, 3)
		fmt.Println("log", i+2)
		if err := s.Stable().SetUint64([]byte("CurrentTerm"), i); err != nil {
			t.Fatal(err)
		}
		fmt.Println("term", i)
		if i%30 == 1 {
			snapshot(t, s, i, fmt.Appendf(nil, "state %d", i))
			fmt.Println("snapshot", i)
			if err := s.Log().DeleteRange(1, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustClose(t, s)
	fmt.Println("closed 1")
}

// A process that is killed at any of its first syncs, in a first start or a later one, has lost nothing that it had acknowledged.
func TestKillAtSync(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace, to kill a process at a certain sync")
	}
	used := filepath.Join(t.TempDir(), "used")
	if out, err := appendElsewhere(used); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	kills := 0
	for n := 1; n <= 60; n += 2 {
		dir := filepath.Join(t.TempDir(), "data")
		if n%4 == 1 {
			dir = copyDir(t, used)
		}
		inject := fmt.Sprintf("inject=fsync,fdatasync:signal=SIGKILL:when=%d", n)
		out, err := appendElsewhere(dir, "strace", "-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", inject)
		if strings.Contains(out, "ptrace") {
			t.Skip("strace is not permitted here")
		}
		if err != nil {
			kills++
		}
		checkAcknowledged(t, n, dir, out)
	}
	if kills < 20 {
		t.Fatalf("only %d processes were killed", kills)
	}
}

// appendElsewhere runs TestHelperAppend on dir in another process, behind the command by.
func appendElsewhere(dir string, by ...string) (string, error) {
	args := append(by, os.Args[0], "-test.run=^TestHelperAppend$")
	c := exec.Command(args[0], args[1:]...)
	c.Env = append(os.Environ(), "STORAGE_TEST_APPEND="+dir)
	out, err := c.CombinedOutput()
	return string(out), err
}

// checkAcknowledged opens dir and compares it with what out says was acknowledged.
func checkAcknowledged(t *testing.T, n int, dir, out string) {
	t.Helper()
	acked := make(map[string]uint64)
	for line := range strings.Lines(out) {
		var what string
		var i uint64
		if _, err := fmt.Sscanf(line, "%s %d", &what, &i); err == nil {
			acked[what] = i
		}
	}
	s, err := Open(options(t, dir))
	if err != nil {
		t.Fatalf("killed at sync %d: %v", n, err)
	}
	defer mustClose(t, s)
	first, err := s.Log().FirstIndex()
	last, err2 := s.Log().LastIndex()
	term, err3 := s.Stable().GetUint64([]byte("CurrentTerm"))
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	if last < acked["log"] || term < acked["term"] {
		t.Fatalf("killed at sync %d: log %d and term %d, but acknowledged were %v", n, last, term, acked)
	}
	checkLog(t, s, first, last)
	if acked["snapshot"] > 0 {
		if i, b := readSnapshot(t, s); i < acked["snapshot"] || !bytes.Equal(b, fmt.Appendf(nil, "state %d", i)) {
			t.Fatalf("killed at sync %d: snapshot %d %q, acknowledged was %d", n, i, b, acked["snapshot"])
		}
	}
}
