package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// host is where the servers of one system run: their processes and their directory.
type host struct {
	dir    string         // of this system, removed by stop
	shared string         // for what is built once for all
	end    syscall.Signal // what ends the servers in order
	procs  []*exec.Cmd
	logs   []*os.File
}

func newHost(shared string) (*host, error) {
	dir, err := os.MkdirTemp(shared, "system")
	if err != nil {
		return nil, err
	}
	return &host{dir: dir, shared: shared, end: syscall.SIGTERM}, os.Chmod(dir, 0o755)
}

// start starts a server. account is the user whom it runs as if this program is root, and that user exists; empty: the same.
func (h *host) start(account string, args ...string) error {
	path, err := find(args[0])
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(h.dir, fmt.Sprintf("log-%d", len(h.procs))))
	if err != nil {
		return err
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, h.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential(account)}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	h.procs, h.logs = append(h.procs, cmd), append(h.logs, log)
	return nil
}

// prepare runs a program to its end, and returns what it printed.
func (h *host) prepare(ctx context.Context, account string, args ...string) (string, error) {
	path, err := find(args[0])
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential(account)}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// folder makes a directory that belongs to the account.
func (h *host) folder(account, name string) (string, error) {
	path := filepath.Join(h.dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", err
	}
	if c := credential(account); c != nil {
		return path, os.Chown(path, int(c.Uid), int(c.Gid))
	}
	return path, nil
}

// credential is that of an account, for those servers that refuse to run as root.
func credential(account string) *syscall.Credential {
	if account == "" || os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup(account)
	if err != nil {
		return nil
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// grace is how long a server has to stop: what it would still save is thrown away.
const grace = 3 * time.Second

// stop ends the servers and removes what they wrote.
func (h *host) stop() {
	var wg sync.WaitGroup
	for i, cmd := range h.procs {
		wg.Go(func() {
			_ = cmd.Process.Signal(h.end)
			late := time.AfterFunc(grace, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
			_ = cmd.Wait()
			late.Stop()
			_ = h.logs[i].Close()
		})
	}
	wg.Wait()
	_ = os.RemoveAll(h.dir)
}

// tail is the end of what the servers have printed, for when something went wrong.
func (h *host) tail() string {
	var all strings.Builder
	for _, log := range h.logs {
		text, _ := os.ReadFile(log.Name())
		all.Write(text[max(0, len(text)-2000):])
	}
	return all.String()
}

// address is a free one on the loopback interface.
func address() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// addresses are n of them, which no two have in common.
func addresses(n int) ([]string, error) {
	var all []string
	var open []io.Closer
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open, all = append(open, l), append(all, l.Addr().String())
	}
	return all, nil
}

// port is that of an address.
func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// patience is how long a server may take until it can be used.
const patience = 90 * time.Second

// await tries until a client can take and give back a lock, and returns the service.
func (h *host) await(ctx context.Context, s *service) (*service, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try(ctx, s)
		if err == nil {
			return s, nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("it does not come up: %w\n%s", err, h.tail())
		}
	}
}

func try(ctx context.Context, s *service) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := s.dial(ctx, 0)
	if err != nil {
		return err
	}
	defer c.close()
	lock, err := c.lock(ctx, "come-up")
	if err != nil {
		return err
	}
	return lock.unlock(ctx)
}
