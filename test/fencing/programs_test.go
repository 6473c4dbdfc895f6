package fencing

import (
	"fmt"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// patience is a deadline that only something that hangs will miss.
const patience = time.Minute

// find returns the path of a program, or skips the test; in CI it fails instead.
func find(t *testing.T, program, debian string) string {
	t.Helper()
	if path, err := osexec.LookPath(program); err == nil {
		return path
	}
	// Debian keeps the programs of PostgreSQL by version, and those of servers out of the path of users.
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/", "/usr/sbin/"} {
		some, _ := filepath.Glob(pattern + program)
		found = append(found, some...)
	}
	if len(found) > 0 {
		return slices.Max(found)
	}
	missing := fmt.Sprintf("there is no %s on this machine (Debian: apt-get install %s)", program, debian)
	if os.Getenv("CI") == "true" {
		t.Fatal(missing + "; .ci/run has to install it")
	}
	t.Skip("SKIP: " + missing)
	return ""
}

// unprivileged returns who runs a server that refuses to be root, or nil if this is no root.
func unprivileged(names ...string) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range append(names, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// place is a directory for a server and its sockets, whose paths must be short, and the account that it belongs to.
type place struct {
	dir string
	as  *syscall.Credential
}

func newPlace(accounts ...string) (*place, error) {
	dir, err := os.MkdirTemp("", "ddfence")
	if err != nil {
		return nil, err
	}
	p := &place{dir, unprivileged(accounts...)}
	if p.as != nil {
		err = os.Chown(dir, int(p.as.Uid), int(p.as.Gid))
	}
	return p, err
}

func (p *place) remove() { _ = os.RemoveAll(p.dir) }

// command prepares a program of the account, which does not outlive this process.
func (p *place) command(program string, args ...string) *osexec.Cmd {
	cmd := osexec.Command(program, args...)
	cmd.Dir = p.dir
	cmd.Env = environment("HOME="+p.dir, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs a program to its end.
func (p *place) run(program string, args ...string) error {
	cmd := p.command(program, args...)
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// environment is that of the tests without what would lead clients and servers elsewhere.
func environment(more ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "MYSQL") || strings.HasPrefix(v, "HOME=") || strings.HasPrefix(v, "LC_ALL=")
	})
	return append(env, more...)
}

// process is a server that runs until it is stopped.
type process struct {
	cmd   *osexec.Cmd
	said  rig.Output
	ended chan struct{}
	err   error // why it ended; set before ended is closed
}

// start runs a server and returns when ready says so. The process is a child of one thread, which Pdeathsig would take for its
// parent, so that thread lives as long as the process.
func (p *place) start(ready func() error, program string, args ...string) (*process, error) {
	s := &process{cmd: p.command(program, args...), ended: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	began := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := s.cmd.Start()
		began <- err
		if err == nil {
			s.err = s.cmd.Wait()
		}
		close(s.ended)
	}()
	if err := <-began; err != nil {
		return nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	give := time.After(patience)
	for {
		err := ready()
		if err == nil {
			return s, nil
		}
		select {
		case <-tick.C:
		case <-s.ended:
			return nil, fmt.Errorf("%s ended: %w: %s", program, s.err, s.said.String())
		case <-give:
			s.stop(syscall.SIGKILL)
			return nil, fmt.Errorf("%s did not come up: %w: %s", program, err, s.said.String())
		}
	}
}

// stop ends the process, with force if it does not end by itself.
func (s *process) stop(with syscall.Signal) {
	_ = s.cmd.Process.Signal(with)
	select {
	case <-s.ended:
	case <-time.After(patience / 2):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}
