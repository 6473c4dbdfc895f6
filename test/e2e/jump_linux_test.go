package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The jumper runs a program whose wall clock can be moved. A program asks the time of day without a system call, from a
// page that the kernel maps into it, unless that page is missing. So the jumper hides the page when the program starts, stops at each
// system call of its threads, and corrects what clock_gettime says of CLOCK_REALTIME. The monotonic clock stays as it is.

// jumperEnv, when set, makes this test binary a jumper. It names a file with the seconds to add, which is read each time.
const jumperEnv = "E2E_JUMPER"

const (
	auxIgnore, auxVDSO      = 1, 33  // kinds of entries of the auxiliary vector
	syscallEntry            = 1      // ptrace_syscall_info.op
	ptraceGetSyscallInfo    = 0x420e // PTRACE_GET_SYSCALL_INFO
	syscallStop             = syscall.SIGTRAP | 0x80
	clockRealtime           = 0
	wordSize, timespecBytes = 8, 16
)

// syscallInfo is struct ptrace_syscall_info of a stop at the entry.
type syscallInfo struct {
	Op     uint8
	_      [3]byte
	Arch   uint32
	IP, SP uint64
	Nr     uint64
	Args   [6]uint64
}

type jumper struct {
	offsetFile string
	last       int64
	// Where each thread that is inside clock_gettime(CLOCK_REALTIME) wants the answer.
	asked map[int]uintptr
	known map[int]bool
}

// jump runs argv and returns its exit code.
func jump(argv []string) int {
	runtime.LockOSThread() // only the thread that traces may do so
	j := &jumper{offsetFile: os.Getenv(jumperEnv), asked: map[int]uintptr{}, known: map[int]bool{}}
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "jumper:", err)
		return 1
	}
	code, err := j.run(pid)
	if err != nil {
		fmt.Fprintln(os.Stderr, "jumper:", err)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return code
}

func (j *jumper) run(pid int) (int, error) {
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
		return 1, err
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := syscall.PtraceSetOptions(pid, options); err != nil {
		return 1, err
	}
	if err := hideVDSO(pid); err != nil {
		return 1, fmt.Errorf("hide the page of the clock: %w", err)
	}
	j.known[pid] = true
	if err := syscall.PtraceSyscall(pid, 0); err != nil {
		return 1, err
	}
	for {
		tid, err := syscall.Wait4(-1, &ws, syscall.WALL, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 1, err
		}
		switch {
		case tid == pid && ws.Exited():
			return ws.ExitStatus(), nil
		case tid == pid && ws.Signaled():
			return 128 + int(ws.Signal()), nil
		case ws.Stopped():
			// A thread that was killed meanwhile cannot be continued; its end is reported next.
			_ = syscall.PtraceSyscall(tid, int(j.stopped(tid, ws)))
		}
	}
}

// stopped looks at a thread that stands still, and returns the signal that it is to get.
func (j *jumper) stopped(tid int, ws syscall.WaitStatus) syscall.Signal {
	switch sig := ws.StopSignal(); {
	case sig == syscallStop:
		j.atSyscall(tid)
		return 0
	case sig == syscall.SIGTRAP:
		return 0
	case sig == syscall.SIGSTOP && !j.known[tid]: // a new thread reports so
		j.known[tid] = true
		return 0
	default:
		return sig
	}
}

func (j *jumper) atSyscall(tid int) {
	var info syscallInfo
	_, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return
	}
	if info.Op == syscallEntry {
		if info.Nr == syscall.SYS_CLOCK_GETTIME && info.Args[0] == clockRealtime {
			j.asked[tid] = uintptr(info.Args[1])
		}
		return
	}
	if at, ok := j.asked[tid]; ok {
		delete(j.asked, tid)
		j.correct(tid, at)
	}
}

// correct adds the offset to the time that the kernel has written.
func (j *jumper) correct(tid int, at uintptr) {
	var spec [timespecBytes]byte
	if _, err := syscall.PtracePeekData(tid, at, spec[:]); err != nil {
		return
	}
	seconds := int64(binary.NativeEndian.Uint64(spec[:])) + j.offset()
	binary.NativeEndian.PutUint64(spec[:], uint64(seconds))
	_, _ = syscall.PtracePokeData(tid, at, spec[:])
}

// offset returns the seconds to add. While the file is being written, they are as before.
func (j *jumper) offset() int64 {
	text, err := os.ReadFile(j.offsetFile)
	if n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil {
		j.last = n
	}
	return j.last
}

// hideVDSO makes the program, which has not run yet, believe that the kernel offers no clock page. Above the arguments and the
// environment on its stack is the auxiliary vector that tells of it.
func hideVDSO(pid int) error {
	var info syscallInfo // at a stop that is not one of a system call, ip and sp are there as well
	_, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(pid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return errno
	}
	at := uintptr(info.SP)
	word := func() (uint64, error) {
		var b [wordSize]byte
		_, err := syscall.PtracePeekData(pid, at, b[:])
		at += wordSize
		return binary.NativeEndian.Uint64(b[:]), err
	}
	if _, err := word(); err != nil { // the number of arguments
		return err
	}
	for range 2 { // the arguments, then the environment
		for {
			if w, err := word(); err != nil {
				return err
			} else if w == 0 {
				break
			}
		}
	}
	for {
		kind, err := word()
		if err != nil || kind == 0 {
			return fmt.Errorf("the auxiliary vector tells of no page: %w", err)
		}
		if kind == auxVDSO {
			ignore := binary.NativeEndian.AppendUint64(nil, auxIgnore)
			_, err := syscall.PtracePokeData(pid, at-wordSize, ignore)
			return err
		}
		if _, err := word(); err != nil {
			return err
		}
	}
}

// loggedTime returns the time of day that the server has put in front of its last whole line of log.
func (s *server) loggedTime() time.Time {
	s.t.Helper()
	text := s.err.bytes()
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	_, rest, _ := bytes.Cut(lines[len(lines)-1], []byte(`"time":"`))
	stamp, _, _ := bytes.Cut(rest, []byte(`"`))
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		s.t.Fatal(err)
	}
	return at
}
