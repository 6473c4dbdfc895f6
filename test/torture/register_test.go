//go:build linux

package torture

import (
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/client"
)

// fencedRegister is what locks protect: one value for each lock, and it refuses writes with a token older than the newest it has seen.
// Safe for concurrent use.
type fencedRegister struct {
	mu     sync.Mutex // guards what follows
	newest map[string]uint64
	writes int
}

func (r *fencedRegister) write(lock string, token uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if token < r.newest[lock] {
		return false
	}
	r.newest[lock] = token
	r.writes++
	return true
}

// work is what a holder does with its lease until the time has come or the lease is over: it writes again and again. It returns when it
// certainly had the locks, how often the lease was renewed, and how many of its writes were refused although it had.
func (r *fencedRegister) work(who string, lease *client.Lease, over func() bool) (tenures []tenure, renewals, refused int) {
	begin, end := time.Duration(0), time.Duration(0)
	for deadline := lease.Deadline(); ; time.Sleep(5 * time.Millisecond) { // the pace of its work
		now, ok := monotonic(), true
		for _, name := range lease.Names() {
			ok = r.write(name, lease.Token()) && ok
		}
		if lease.Err() != nil { // it may have been over already at the write
			break
		}
		if !ok {
			refused++
		}
		if end = now; begin == 0 {
			begin = now
		}
		if d := lease.Deadline(); d.Sub(deadline) > 50*time.Millisecond { // which is more than two readings of a clock differ by
			deadline, renewals = d, renewals+1
		}
		if over() {
			break
		}
	}
	if begin == 0 {
		return nil, 0, refused
	}
	for _, name := range lease.Names() {
		tenures = append(tenures, tenure{name, lease.Token(), who, begin, end})
	}
	return tenures, renewals, refused
}
