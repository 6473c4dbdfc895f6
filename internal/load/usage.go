package load

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what processes have used so far.
type usage struct {
	client time.Duration // CPU time of this process
	server time.Duration // CPU time of the servers
	memory int64         // resident bytes of the servers
}

// tick is the unit of CPU times in /proc, which is the same on all kinds of Linux.
const tick = 10 * time.Millisecond

// measureUsage looks at this process and at the servers.
func measureUsage(servers []int) (usage, error) {
	u := usage{client: ownCPU()}
	for _, pid := range servers {
		cpu, memory, err := processUsage(pid)
		if err != nil {
			return u, err
		}
		u.server += cpu
		u.memory += memory
	}
	return u, nil
}

// processUsage reads what the kernel says of a process; see proc(5).
func processUsage(pid int) (cpu time.Duration, memory int64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("cannot see the process %d: %w", pid, err)
	}
	// Behind the name, which is in parentheses and may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const user, system, pages = 11, 12, 21
	if len(fields) <= pages {
		return 0, 0, fmt.Errorf("cannot read the figures of the process %d", pid)
	}
	var n [3]int64
	for i, at := range []int{user, system, pages} {
		var failed error
		n[i], failed = strconv.ParseInt(fields[at], 10, 64)
		err = errors.Join(err, failed)
	}
	return time.Duration(n[0]+n[1]) * tick, n[2] * int64(os.Getpagesize()), err
}
