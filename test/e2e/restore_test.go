//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// runProgram runs a verb to its end and returns its exit code, or minus the signal that ended it, and what it printed.
func runProgram(t *testing.T, wrap []string, args ...string) (code int, text string) {
	t.Helper()
	argv := append(append([]string{}, wrap...), append([]string{plainBinary}, args...)...)
	cmd := exec.Command(argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	evidence.add(fromOutput, t.Name()+": "+args[0], out.Bytes())
	if w, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return -int(w.Signal()), out.String()
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// TestKillAtEachSyncOfARestore: whenever a restore is interrupted, what it leaves is either nothing, or refused, or everything. No
// server ever starts on half of it, as if every lock were free.
func TestKillAtEachSyncOfARestore(t *testing.T) {
	t.Parallel()
	needStrace(t)
	s := start(t, options{})
	key := newKey()
	token := s.acquire(canaryName+"restored", request{Key: key, TTL: 3600}).Token
	file := filepath.Join(t.TempDir(), "backup")
	if code, text := runProgram(t, nil, "backup", file, "--server", s.base); code != 0 {
		t.Fatalf("%d %s", code, text)
	}
	s.kill()
	const nothing, refused, everything = "nothing", "refused", "everything"
	seen := map[string]int{}
	for n := 1; n <= 16; n++ {
		_, wrap := traceSyncs(t, fmt.Sprintf("signal=SIGKILL:when=%d", n))
		dir := filepath.Join(t.TempDir(), "data")
		code, text := runProgram(t, wrap, "restore", file, "--data-dir", dir)
		if code == 0 {
			seen["not hit"]++
			continue
		}
		if code != -int(syscall.SIGKILL) {
			t.Fatalf("N=%d: ended with %d: %s", n, code, text)
		}
		// To restore again says what is there.
		what := nothing
		switch code, text := runProgram(t, nil, "restore", file, "--data-dir", dir); {
		case code == 1 && strings.Contains(text, "a restore was interrupted"):
			what = refused
		case code == 1 && strings.Contains(text, "holds data already"):
			what = everything
		case code != 0:
			t.Errorf("N=%d: restoring again ended with %d: %s", n, code, text)
			continue
		}
		seen[what]++
		after := launch(t, options{dir: dir})
		switch up := after.comesUp(); {
		case what == refused && up:
			t.Errorf("N=%d: a server started on half a restore", n)
		case what == refused:
		case !up:
			t.Errorf("N=%d: no server starts on %s", n, what)
		default:
			if again := after.acquire(canaryName+"restored", request{Key: key, TTL: 3600}).Token; again != token {
				t.Errorf("N=%d: the hold has token %d, had %d", n, again, token)
			}
			after.kill()
		}
	}
	t.Logf("after the kills there was: %v", seen)
	if seen[refused] < 4 || seen[everything] < 1 {
		t.Errorf("the kills have not hit enough: %v", seen)
	}
}
