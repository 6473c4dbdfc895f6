package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of CPU times in /proc.
const tick = 10 * time.Millisecond

// stat is what the kernel says of a process; see proc(5).
type stat struct {
	pid, parent int
	cpu         time.Duration // also that of its children that have ended
}

func readStat(path string) (stat, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return stat{}, false // it has just ended
	}
	pid, _, _ := strings.Cut(string(text), " ")
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var n [7]int
	for i, field := range []string{pid, fields[1], fields[11], fields[12], fields[13], fields[14], fields[17]} {
		if n[i], err = strconv.Atoi(field); err != nil {
			return stat{}, false
		}
	}
	s := stat{n[0], n[1], time.Duration(n[2]+n[3]+n[4]+n[5]) * tick}
	if exact, ok := schedStat(filepath.Dir(path)); ok && n[6] == 1 {
		s.cpu = exact + time.Duration(n[4]+n[5])*tick
	}
	return s, true
}

// schedStat is the CPU time of a process's first thread, to the nanosecond. Where each connection has a process of its own, the
// ticks that none of them has filled would add up.
func schedStat(process string) (time.Duration, bool) {
	text, err := os.ReadFile(process + "/schedstat")
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(text), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	return time.Duration(ns), err == nil
}

// family are the processes of the system and all that they have started.
func (h *host) family() []stat {
	children := map[int][]stat{}
	var family []stat
	mine := map[int]bool{}
	for _, cmd := range h.procs {
		mine[cmd.Process.Pid] = true
	}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		if s, ok := readStat(path); ok {
			children[s.parent] = append(children[s.parent], s)
			if mine[s.pid] {
				family = append(family, s)
			}
		}
	}
	for i := 0; i < len(family); i++ {
		family = append(family, children[family[i].pid]...)
	}
	return family
}

// cpu is the time that the servers have used so far.
func (h *host) cpu() (sum time.Duration) {
	for _, s := range h.family() {
		sum += s.cpu
	}
	return sum
}

// memory is that of the servers in bytes; what processes share counts once.
func (h *host) memory() (sum int64) {
	for _, s := range h.family() {
		sum += proportional(s.pid)
	}
	return sum
}

func proportional(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n * 1024
		}
	}
	return 0
}

// ownCPU is what this program, that is the clients, has used so far.
func ownCPU() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
