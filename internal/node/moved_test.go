package node

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/hashicorp/raft"
)

// A member that comes back with its data at another address is found there by the others, whether it was the leader or not.
func TestMemberThatHasMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newNetwork(t), t.TempDir()
		at := map[string]string{"n1": "addr1", "n2": "addr2", "n3": "addr3"}
		nodes := map[string]*Node{}
		start := func(name string, members map[string]string) *Node {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			n, err := Open(ctx, Config{
				Dir:     filepath.Join(dir, name),
				Cluster: &Cluster{Name: name, Members: members, Listen: w.listen(at[name])},
				Fatal:   func(err error) { t.Errorf("%s: fatal: %v", name, err) },
			})
			if err != nil {
				t.Error(err)
			}
			return n
		}
		var mu sync.Mutex // guards nodes
		var wg sync.WaitGroup
		for name := range at {
			wg.Go(func() {
				n := start(name, at)
				mu.Lock()
				defer mu.Unlock()
				nodes[name] = n
			})
		}
		wg.Wait()
		defer func() {
			for _, n := range nodes {
				_ = n.Close()
			}
		}()
		if t.Failed() {
			return
		}
		for name := range at {
			if err := nodes[name].Close(); err != nil {
				t.Fatal(err)
			}
			at[name] += "-new"
			if nodes[name] = start(name, nil); t.Failed() {
				return
			}
			mustAcquire(t, nodes[name], acquireCmd("lock of "+name, name, 0), locktable.Granted)
		}
		time.Sleep(10 * time.Second) // virtual
		for name, n := range nodes {
			for _, s := range n.servers() {
				if want := raft.ServerAddress(at[nameOf(s.ID)]); s.Address != want {
					t.Errorf("%s looks for %s at %s, not at %s", name, s.ID, s.Address, want)
				}
			}
		}
	})
}
