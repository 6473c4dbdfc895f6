//go:build !linux

package client

import "time"

// asleep is not known on this system. On macOS and Windows, a lease may be believed in for too long after a suspend; only the
// fencing token protects against that.
func asleep() time.Duration { return 0 }
