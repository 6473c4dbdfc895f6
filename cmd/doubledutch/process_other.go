//go:build !unix

package main

import "log/slog"

// secureProcess has nothing to do where files are private to their user by default.
func secureProcess(*slog.Logger) {}

// openFiles returns 0: there is no limit to raise.
func openFiles(*slog.Logger) uint64 { return 0 }
