package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// serveTampered runs a server on a new directory with inject done to its system calls, until it ends by itself.
func serveTampered(t *testing.T, inject string, args ...string) result {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace, to make system calls fail")
	}
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(t.TempDir(), "data")}, args...)
	cmd := doubledutch(t, args...).command(t.Context())
	cmd.Path, cmd.Args = strace, append([]string{
		strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=fsync,fdatasync,fallocate", "-e", "signal=none", "-e", "inject=" + inject,
	}, cmd.Args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if strings.Contains(stderr.String(), "ptrace") {
		t.Skip("strace is not permitted here")
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// What the disk does to a first start decides how it ends.
func TestDiskAtTheStart(t *testing.T) {
	for _, tt := range []struct {
		inject string
		code   int
		says   string
	}{
		{"fdatasync,fsync:error=EIO:when=1", exitcode.StorageFailed, "input/output error"},
		{"fdatasync,fsync:error=EIO:when=4", exitcode.StorageFailed, "input/output error"},
		{"fdatasync:error=EIO:when=12", exitcode.StorageFailed, "input/output error"},
		{"fdatasync,fsync:error=EROFS:when=4", exitcode.StorageFailed, "read-only file system"},
		{"fdatasync,fsync:error=ENOSPC:when=4", exitcode.StorageFailed, "no space is left on the file system of"},
		{"fallocate:error=ENOSPC:when=1", exitcode.StorageFailed, "make room there"},
		{"fdatasync,fsync:delay_enter=3000000:when=4", exitcode.StorageHung, "disk does not answer"},
	} {
		t.Run(tt.inject, func(t *testing.T) {
			t.Parallel()
			r := serveTampered(t, tt.inject, "--hang-timeout", "1s")
			if r.code != tt.code || !strings.Contains(r.stderr, tt.says) || r.out != "" {
				t.Errorf("it ended with %d, want %d and %q; it printed\n%s%s", r.code, tt.code, tt.says, r.out, r.stderr)
			}
		})
	}
}

// A directory of a newer version is told apart from everything that a restart could cure.
func TestNewerDirectory(t *testing.T) {
	dir := t.TempDir()
	serve(t, doubledutch(t, "--data-dir", dir)).stop(os.Interrupt)
	if err := os.WriteFile(filepath.Join(dir, "format"), []byte("doubledutch-data 7\nsomething else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	doubledutch(t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0").check(exitcode.StorageDamaged, "newer version")
}
