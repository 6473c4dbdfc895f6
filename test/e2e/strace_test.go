//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

func needStrace(t *testing.T) {
	t.Helper()
	if reason := rig.CannotTrace(); reason != "" {
		t.Skip("SKIP: " + reason)
	}
}

// syncTrace is a running strace that watches and tampers with all syncs of a server.
type syncTrace struct{ file string }

// traceSyncs returns the command that runs a server so that its syncs are injected into. strace counts for each thread
// and for each of the two calls alone, so `when` counts the syncs of one thread; syncs tells which one of all it was.
func traceSyncs(t *testing.T, inject string) (*syncTrace, []string) {
	t.Helper()
	tr := &syncTrace{file: filepath.Join(t.TempDir(), "trace")}
	return tr, rig.TraceSyncs(tr.file, inject)
}

// aSync is one line of the trace.
type aSync struct {
	began    time.Time
	took     time.Duration
	injected bool
}

var syncLine = regexp.MustCompile(`^\d+ +(\d+)\.(\d{6}) f(?:data)?sync\(\d+(.*)$`)

// tampered finds what strace has done something to. A call that was delayed until the process ended has no result.
var tampered = regexp.MustCompile(`INJECTED|DELAYED|= \?`)

// syncs reads the trace. The end of a call that was interrupted by another thread's line is not followed.
func (tr *syncTrace) syncs(t *testing.T) []aSync {
	t.Helper()
	text, err := os.ReadFile(tr.file)
	if err != nil {
		t.Fatal(err)
	}
	var all []aSync
	for line := range strings.Lines(string(text)) {
		m := syncLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		sec, _ := strconv.ParseInt(m[1], 10, 64)
		usec, _ := strconv.ParseInt(m[2], 10, 64)
		s := aSync{began: time.Unix(sec, usec*1000), injected: tampered.MatchString(m[3])}
		if i := strings.LastIndex(m[3], "<0."); i >= 0 {
			f, _ := strconv.ParseFloat(strings.TrimRight(m[3][i+1:], ">"), 64)
			s.took = time.Duration(f * float64(time.Second))
		}
		all = append(all, s)
	}
	return all
}
