package main

import (
	"strconv"
	"time"

	"github.com/alecthomas/kong"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// serveVars are the defaults of those flags that set limits of the lock table, so that the help tells the real ones.
func serveVars() kong.Vars {
	s := locktable.DefaultSettings()
	decimal := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	return kong.Vars{
		"max_ttl":              time.Duration(s.MaxTtl).String(),
		"max_locks":            decimal(s.MaxLocks),
		"max_waiters_per_lock": decimal(s.MaxWaitersPerLock),
		"max_sessions":         decimal(s.MaxSessions),
	}
}

// settings are the limits of the lock table that the flags ask for: the defaults, except where a flag says otherwise.
// They count from this start on, also for a data directory that was used with others before.
func (s *serveCmd) settings() *command.Settings {
	limits := locktable.DefaultSettings()
	limits.MaxTtl = int64(s.MaxTTL)
	limits.MaxLocks = s.MaxLocks
	limits.MaxWaitersPerLock = s.MaxWaitersPerLock
	limits.MaxSessions = s.MaxSessions
	return limits
}
