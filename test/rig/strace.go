//go:build linux

package rig

import (
	"os"
	"os/exec"
	"sync"
)

// CannotTrace says why strace cannot be used to inject into system calls, or "" if it can.
var CannotTrace = sync.OnceValue(func() string {
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

// TraceSyncs returns the command that runs a program so that its syncs are injected into and written to the file. strace counts
// for each thread and for each of the two calls alone, so `when` counts the syncs of one thread.
func TraceSyncs(file, inject string) []string {
	return []string{
		"strace", "-f", "-qq", "-ttt", "-T", "-o", file, "-e", "signal=none",
		"-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:" + inject,
	}
}
