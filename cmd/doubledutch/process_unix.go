//go:build unix

package main

import (
	"log/slog"
	"os/signal"
	"syscall"
)

// secureProcess makes sure that nothing this process creates can be read by other users, and that a crash leaves no copy
// of its memory, keys included, on disk. It must run before the first file is created.
func secureProcess(log *slog.Logger) {
	syscall.Umask(0o077)
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		log.Warn("cannot turn core dumps off", "error", err)
	}
}

// outlivePipes keeps the process alive when whoever reads its standard output or error goes away, as a log shipper does
// that restarts. What is written from then on is lost, and the write fails with EPIPE.
func outlivePipes() { signal.Ignore(syscall.SIGPIPE) }

// openFiles raises the number of files that the process may have open to the hard limit, and returns it.
func openFiles(log *slog.Logger) uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("cannot find out how many files may be open", "error", err)
		return 0
	}
	if limit.Cur < limit.Max {
		raised := limit
		raised.Cur = raised.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err == nil {
			limit = raised
		}
	}
	return uint64(limit.Cur) //nolint:unconvert // signed on some systems
}
