//go:build linux

package torture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The environment of a heart: the directory into which it beats, and the number of the run that it belongs to.
const (
	heartsVariable = "TORTURE_HEARTS"
	runVariable    = "TORTURE_RUN"
)

const beatEvery = 10 * time.Millisecond

func TestMain(m *testing.M) {
	if dir := os.Getenv(heartsVariable); dir != "" {
		if err := heart(dir, os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		return
	}
	os.Exit(m.Run())
}

// heart is the command under `doubledutch run`: it writes the time into a file again and again, for so many milliseconds, or until it is
// killed. The command has a child in a session of its own, which does the same. Those of every second run ignore TERM.
func heart(dir, role, milliseconds string) error {
	run := os.Getenv(runVariable)
	n, err := strconv.Atoi(run)
	if err != nil {
		return err
	}
	life, err := strconv.Atoi(milliseconds)
	if err != nil {
		return err
	}
	if n%2 == 0 {
		signal.Ignore(syscall.SIGTERM)
	}
	if role == "command" {
		child := exec.Command("/proc/self/exe", "child", "3600000")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			return err
		}
		go func() { _ = child.Wait() }()
	}
	name := strings.Join([]string{os.Getenv("DOUBLEDUTCH_LOCK"), os.Getenv("DOUBLEDUTCH_TOKEN"), run, role}, ".")
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	for end := time.Now().Add(time.Duration(life) * time.Millisecond); time.Now().Before(end); time.Sleep(beatEvery) {
		var beat [8]byte
		binary.LittleEndian.PutUint64(beat[:], uint64(monotonic()))
		if _, err := file.Write(beat[:]); err != nil {
			return err
		}
	}
	return nil
}

// readHearts reads what all hearts have written: their tenures, and how many beats there are.
func readHearts(dir string) (tenures []tenure, beats int, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, 0, err
		}
		parts := strings.Split(f.Name(), ".")
		token, err := strconv.ParseUint(parts[1], 10, 64)
		if err != nil || len(parts) != 4 || len(b)%8 != 0 {
			return nil, 0, errors.Join(err, fmt.Errorf("%s is not what a heart writes", f.Name()))
		}
		if len(b) == 0 {
			continue // it was killed before its first beat
		}
		moment := func(at int) time.Duration { return time.Duration(binary.LittleEndian.Uint64(b[at:])) }
		tenures = append(tenures, tenure{parts[0], token, "run " + parts[2], moment(0), moment(len(b) - 8)})
		beats += len(b) / 8
	}
	return tenures, beats, nil
}

// descendants are the processes of runs whose hearts beat into the directory; only those of one run unless that is "". A process
// that has ended and was not waited for has no environment, and is none.
func descendants(dir, run string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range all {
		b, err := os.ReadFile(path)
		env := "\x00" + string(b)
		if err != nil || !strings.Contains(env, "\x00"+heartsVariable+"="+dir+"\x00") {
			continue
		}
		if run == "" || strings.Contains(env, "\x00"+runVariable+"="+run+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}
