package node

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/peer"
)

// Three durable nodes over real sockets with mutual TLS: they form, answer for each other, lose their leader, and take it
// back from its disk.
func TestClusterOverTLS(t *testing.T) {
	certs := t.TempDir()
	if err := peer.MakeCA(certs); err != nil {
		t.Fatal(err)
	}
	members := map[string]string{"n1": freeAddr(t), "n2": freeAddr(t), "n3": freeAddr(t)}
	dirs := map[string]string{"n1": t.TempDir(), "n2": t.TempDir(), "n3": t.TempDir()}
	files := map[string]*peer.TLSFiles{}
	for name := range members {
		f, err := peer.MakeNode(certs, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &f
	}
	start := func(name string) *Node {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		n, err := Open(ctx, Config{
			Dir: dirs[name], Fatal: func(err error) { t.Errorf("%s: fatal: %v", name, err) },
			Cluster: &Cluster{
				Name: name, Members: members,
				Listen: ListenPeer(peer.Config{Listen: members[name], TLS: files[name]}),
			},
		})
		if err != nil {
			t.Error(err)
			return nil
		}
		return n
	}
	nodes := map[string]*Node{}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards nodes
	for name := range members {
		wg.Go(func() {
			n := start(name)
			mu.Lock()
			defer mu.Unlock()
			nodes[name] = n
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	defer func() {
		for _, n := range nodes {
			_ = n.Close()
		}
	}()

	leader, follower := "", ""
	for name, n := range nodes {
		if n.isLeader() {
			leader = name
		} else {
			follower = name
		}
	}
	held := mustAcquire(t, nodes[follower], acquireCmd("db", "a", 0), locktable.Granted)
	if err := nodes[leader].Close(); err != nil {
		t.Fatal(err)
	}
	delete(nodes, leader)
	if again := mustAcquire(t, nodes[follower], acquireCmd("db", "a", 0), locktable.Granted); again.Token != held.Token {
		t.Errorf("token %d, was %d", again.Token, held.Token)
	}
	nodes[leader] = start(leader)
	if t.Failed() {
		t.FailNow()
	}
	if again := mustAcquire(t, nodes[leader], acquireCmd("db", "a", 0), locktable.Granted); again.Token != held.Token {
		t.Errorf("token %d after the restart, was %d", again.Token, held.Token)
	}
}

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// A single server grows into three without losing a lock, a key or a token.
func TestSingleServerGrows(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	held := mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	start := func(c Config, addr, name, join string) *Node {
		t.Helper()
		c.Cluster = &Cluster{Name: name, Join: join, Listen: ListenPeer(peer.Config{Listen: addr})}
		c.Fatal = func(err error) { t.Errorf("%s: fatal: %v", name, err) }
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		n, err := Open(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		return n
	}
	first := start(Config{Dir: dir}, addr, "", "")
	second := start(Config{Dir: t.TempDir()}, freeAddr(t), "n2", addr)
	third := start(Config{Dir: t.TempDir()}, freeAddr(t), "n3", addr)
	for _, n := range []*Node{first, second, third} {
		if again := mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted); again.Token != held.Token {
			t.Errorf("token %d, was %d", again.Token, held.Token)
		}
	}
	if got := len(third.Members(t.Context())); got != 3 {
		t.Errorf("%d members", got)
	}
	mustRelease(t, third, "db", "a")
	if next := mustAcquire(t, second, acquireCmd("db", "b", 0), locktable.Granted); next.Token != held.Token+1 {
		t.Errorf("token %d after %d", next.Token, held.Token)
	}
}
