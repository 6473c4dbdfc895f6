//go:build linux

package run

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// swallower stands between a client and a server. Once it is told so, it takes what it gets and passes nothing on, in both
// directions, without closing a connection: as a network does that was cut.
type swallower struct {
	address string
	cut     atomic.Bool
}

func newSwallower(t *testing.T, server string) *swallower {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &swallower{address: listener.Addr().String()}
	var mu sync.Mutex // guards open
	var open []net.Conn
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			_ = c.Close()
		}
	})
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", server)
			if err != nil {
				_ = from.Close()
				continue
			}
			mu.Lock()
			open = append(open, from, to)
			mu.Unlock()
			go s.pass(from, to)
			go s.pass(to, from)
		}
	}()
	return s
}

func (s *swallower) pass(from, to net.Conn) {
	_, _ = io.Copy(swallowing{s, to}, from)
	if !s.cut.Load() {
		_ = to.Close()
	}
}

type swallowing struct {
	s  *swallower
	to io.Writer
}

func (w swallowing) Write(p []byte) (int, error) {
	if w.s.cut.Load() {
		return len(p), nil
	}
	return w.to.Write(p)
}

// island is a network namespace with one cable to this one.
type island struct{ name, here, there string }

var islands atomic.Int32

// newIsland makes one, or skips the test where it cannot.
func newIsland(t *testing.T) *island {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip is not installed")
	}
	n, pid := islands.Add(1), os.Getpid()
	i := &island{name: fmt.Sprintf("ddrun%dn%d", pid, n)}
	subnet := fmt.Sprintf("10.%d.%d.", 128+pid>>8&63, pid&255)
	i.here, i.there = subnet+fmt.Sprint(4*n+1), subnet+fmt.Sprint(4*n+2)
	cable, end := fmt.Sprintf("ddr%dv%d", pid, n), fmt.Sprintf("ddr%dw%d", pid, n)
	t.Cleanup(func() {
		if err := errors.Join(ip("netns", "del", i.name), ip("link", "del", cable)); err != nil && !strings.Contains(err.Error(), "Cannot find") {
			t.Error(err)
		}
	})
	for _, args := range [][]string{
		{"netns", "add", i.name},
		{"link", "add", cable, "type", "veth", "peer", "name", end},
		{"link", "set", end, "netns", i.name, "name", "eth0"},
		{"addr", "add", i.here + "/30", "dev", cable},
		{"link", "set", cable, "up"},
		{"-n", i.name, "addr", "add", i.there + "/30", "dev", "eth0"},
		{"-n", i.name, "link", "set", "lo", "up"},
		{"-n", i.name, "link", "set", "eth0", "up"},
	} {
		if err := ip(args...); err != nil {
			t.Skipf("no network namespace can be made here: %v", err)
		}
	}
	return i
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

// wrap runs a program on the island.
func (i *island) wrap() []string { return []string{"ip", "netns", "exec", i.name} }

// cut makes that nothing reaches the island any more, and nothing leaves it, without a word to anybody.
func (i *island) cut(t *testing.T) {
	t.Helper()
	if err := ip("-n", i.name, "addr", "del", i.there+"/30", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := ip("-n", i.name, "link", "set", "eth0", "down"); err != nil {
		t.Fatal(err)
	}
}
