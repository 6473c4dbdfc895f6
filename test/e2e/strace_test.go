//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// canTrace finds out once whether strace is here and may inject into system calls; "" means that it may.
var canTrace = sync.OnceValue(func() string {
	if _, err := exec.LookPath("strace"); err != nil {
		return "strace is not installed"
	}
	// With the injection, cat cannot read its file.
	cmd := exec.Command("strace", "-qq", "-o", os.DevNull, "-e", "trace=read", "-e", "inject=read:error=EIO:when=1+", "cat", os.DevNull)
	if err := cmd.Run(); err == nil {
		return "strace does not inject errors here"
	} else if exec.Command("strace", "-qq", "-o", os.DevNull, "-e", "trace=none", "true").Run() != nil {
		return "strace may not trace processes here: " + err.Error()
	}
	return ""
})

func needStrace(t *testing.T) {
	t.Helper()
	if reason := canTrace(); reason != "" {
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
	return tr, []string{
		"strace", "-f", "-qq", "-ttt", "-T", "-o", tr.file, "-e", "signal=none",
		"-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:" + inject,
	}
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
