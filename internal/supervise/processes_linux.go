package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// process is a line of the system's list of processes.
type process struct {
	pid, parent, group int
	state              byte
	start              uint64 // when it was started: tells it from a later one with the same id
}

// dead tells whether it has ended and only waits to be reaped. (It may still have threads that run.)
func (p *process) dead() bool { return p.state == 'Z' || p.state == 'X' }

// look reads about one process.
func look(pid int) (process, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	// The second field is a name in parentheses, which may have parentheses and spaces itself.
	end := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[max(end+1, 0):])
	const startTime = 19 // field 22 of the whole line
	if end < 0 || len(fields) <= startTime {
		return process{}, fmt.Errorf("process %d: %q", pid, b)
	}
	p := process{pid: pid, state: fields[0][0]}
	var errs [3]error
	p.parent, errs[0] = strconv.Atoi(string(fields[1]))
	p.group, errs[1] = strconv.Atoi(string(fields[2]))
	p.start, errs[2] = strconv.ParseUint(string(fields[startTime]), 10, 64)
	return p, errors.Join(errs[:]...)
}

// processes lists all that this process can see.
func processes() ([]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	if err != nil {
		return nil, err
	}
	var all []process
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, err := look(pid); err == nil { // else it has ended meanwhile
				all = append(all, p)
			}
		}
	}
	return all, nil
}

// descendants lists the children of a process, their children, and so on, but for those in spare and theirs. Some may be missing: those
// that came or changed their parent while the list was read.
func descendants(of int, spare ...process) ([]process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	children := map[int][]process{}
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p)
	}
	var found []process
	for queue := []int{of}; len(queue) > 0; queue = queue[1:] {
		for _, p := range children[queue[0]] {
			if slices.ContainsFunc(spare, func(s process) bool { return s.pid == p.pid && s.start == p.start }) {
				continue
			}
			found = append(found, p)
			queue = append(queue, p.pid)
		}
	}
	return found, nil
}

// signalProcess signals p and no other process that has its id by now.
func signalProcess(p process, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // Linux before 5.3, or a filter that does not know it
		return unix.Kill(p.pid, sig)
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if same, err := look(p.pid); err != nil || same.start != p.start {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// killDescendants sends KILL to all descendants of this process that it finds, but for those in spare and theirs. It has to be called
// until there are none: what a process started in its last moment is found the next time. It returns those that it has no right
// to kill.
func killDescendants(spare []process) (found, protected []process) {
	found, _ = descendants(os.Getpid(), spare...)
	for _, p := range found {
		if err := signalProcess(p, unix.SIGKILL); errors.Is(err, unix.EPERM) && !p.dead() {
			protected = append(protected, p)
		}
	}
	return found, protected
}

// reapAll takes away the children of this process that have ended. It tells whether there are none any more. Since what loses its
// parent among the descendants of a subreaper becomes its child, it then has no descendants either.
func reapAll() (childless bool) {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return true
		case errors.Is(err, unix.EINTR) || pid > 0:
		default:
			return false
		}
	}
}
