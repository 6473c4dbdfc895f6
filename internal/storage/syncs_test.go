package storage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	tracedBatches = 40
	tracedLooks   = 100
)

// TestHelperSyncs is the process whose system calls TestEveryBatchIsSynced counts. It writes its marks past the buffers of
// the testing package, so that they stand in the trace where they belong.
func TestHelperSyncs(t *testing.T) {
	dir := os.Getenv("STORAGE_TEST_SYNCS")
	if dir == "" {
		t.Skip("only runs as a helper of TestEveryBatchIsSynced")
	}
	mark := func(format string, args ...any) {
		if _, err := fmt.Fprintf(os.Stdout, "mark "+format+"\n", args...); err != nil {
			t.Fatal(err)
		}
	}
	s := mustOpen(t, options(t, dir))
	mark("begin")
	for i := range uint64(tracedBatches) {
		fill(t, s, 3*i+1, 3*i+3, 3)
		mark("acknowledged")
	}
	within(t, startPatience, "a filled reserve", func() bool { return s.space.pool.missing() == 0 })
	mark("idle")
	for range tracedLooks { // all that is done without being asked for
		if err := s.space.look(s.g); err != nil {
			t.Fatal(err)
		}
		_ = s.g.hung(s.o.HangTimeout)
	}
	mark("busy")
	mustClose(t, s)
}

var (
	syncedSegment = regexp.MustCompile(`f(?:data)?sync\(\d+<.*/log/[^/]*\.wal>`)
	anySync       = regexp.MustCompile(`\b(?:fsync|fdatasync|sync_file_range|msync|sync)\(`)
	traceMark     = regexp.MustCompile(`write\(.*"mark (\w+)`)
)

// Each batch that is acknowledged was synced for itself; without batches nothing is synced.
func TestEveryBatchIsSynced(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace, to see the syncs of a process")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	c := exec.Command(strace, "-f", "-qq", "-y", "-o", trace, "-e", "signal=none", "-e", "trace=fsync,fdatasync,sync,msync,sync_file_range,write",
		os.Args[0], "-test.run=^TestHelperSyncs$")
	c.Env = append(os.Environ(), "STORAGE_TEST_SYNCS="+filepath.Join(t.TempDir(), "data"))
	if out, err := c.CombinedOutput(); strings.Contains(string(out), "ptrace") {
		t.Skip("strace is not permitted here")
	} else if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	acknowledged, syncs, idle := 0, 0, false
	for line := range strings.Lines(string(text)) {
		if m := traceMark.FindStringSubmatch(line); m != nil {
			if m[1] == "acknowledged" {
				if acknowledged++; syncs == 0 {
					t.Errorf("batch %d was acknowledged without a sync of the log", acknowledged)
				}
			}
			syncs, idle = 0, m[1] == "idle"
			continue
		}
		if syncedSegment.MatchString(line) {
			syncs++
		}
		if idle && anySync.MatchString(line) {
			t.Errorf("synced without need: %s", line)
		}
	}
	if acknowledged != tracedBatches {
		t.Errorf("saw %d acknowledgements, want %d", acknowledged, tracedBatches)
	}
}
