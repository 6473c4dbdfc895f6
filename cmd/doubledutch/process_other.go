//go:build !unix

package main

import "log/slog"

// secureProcess has nothing to do where files are private to their user by default.
func secureProcess(*slog.Logger) {}

// outlivePipes has nothing to do: there is no signal for a broken pipe.
func outlivePipes() {}

// openFiles returns 0: there is no limit to raise.
func openFiles(*slog.Logger) uint64 { return 0 }
