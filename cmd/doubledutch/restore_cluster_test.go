package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// member is a node of a cluster on this machine.
type member struct{ name, addr, dir string }

func trio(t *testing.T) []member {
	t.Helper()
	at := freeAddresses(t, 3)
	var out []member
	for i, name := range []string{"n1", "n2", "n3"} {
		out = append(out, member{name, at[i], filepath.Join(t.TempDir(), name)})
	}
	return out
}

// program is how the member is started.
func (m member) program(t *testing.T, args ...string) *program {
	t.Helper()
	return doubledutch(t, append([]string{"--data-dir", m.dir, "--name", m.name, "--cluster-listen", m.addr}, args...)...)
}

// form starts a cluster.
func form(t *testing.T, members []member) []*running {
	t.Helper()
	list := make([]string, 0, len(members))
	for _, m := range members {
		list = append(list, m.name+"="+m.addr)
	}
	nodes := make([]*running, len(members))
	var group sync.WaitGroup
	for i, m := range members {
		p := m.program(t, "--cluster", strings.Join(list, ","))
		group.Go(func() { nodes[i] = serve(t, p) })
	}
	group.Wait()
	if t.Failed() || slices.Contains(nodes, nil) {
		t.FailNow()
	}
	return nodes
}

func kill(t *testing.T, nodes []*running) {
	t.Helper()
	for _, n := range nodes {
		_ = n.stop(syscall.SIGKILL)
	}
}

// A cluster dies, and another of three begins with its backup, on the same addresses. A node of the old one that comes back is
// told that it belongs to another cluster, serves nothing and disturbs nobody.
func TestClusterFromABackup(t *testing.T) {
	old := trio(t)
	nodes := form(t, old)
	held := nodes[1].acquire("db", testKey("a"), `,"ttl":3600`)
	file, said := nodes[2].backUp()
	if said.Node != "n3" || said.Holds != 1 {
		t.Errorf("%+v", said)
	}
	lost := nodes[0].acquire("lost", testKey("b"), `,"ttl":3600`)
	kill(t, nodes)

	first := old[0]
	first.dir = restored(t, file, "--name", "n1")
	n1 := serve(t, first.program(t))
	ghost := old[2].program(t, "--listen", "127.0.0.1:0")
	ghost.args = append([]string{"serve"}, ghost.args...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := ghost.command(ctx)
	var log rig.Output
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return strings.Contains(n1.log.String()+log.String(), "belongs to another cluster") })
	token := n1.acquire("lost", testKey("c"), `,"ttl":3600`)
	if token <= lost || token>>40 != 1 {
		t.Errorf("token %d after %d", token, lost)
	}
	cancel()
	_ = cmd.Wait()

	members := []*running{n1}
	for _, m := range old[1:] {
		m.dir = filepath.Join(t.TempDir(), "new")
		members = append(members, serve(t, m.program(t, "--join", first.addr)))
	}
	for _, n := range members {
		if got := n.acquire("db", testKey("a"), `,"ttl":3600`); got != held {
			t.Errorf("the hold has token %d, had %d", got, held)
		}
	}
	waitFor(t, func() bool { // as voters, so that n1 can go
		out := n1.client("cluster", "status").run().out
		return strings.Count(out, "voter")+strings.Count(out, "leader  ") == 3 && !strings.Contains(out, "joining")
	})
	_ = n1.stop(syscall.SIGTERM)
	members[1].client("release", "lost", testKey("c")).check(exitcode.OK, "released")
	// The directory of the old node would not join either.
	m := old[1]
	m.addr = freeAddresses(t, 1)[0]
	doubledutch(t, "restore", file, "--data-dir", m.dir).check(exitcode.Failure, "holds data already")
}

// A majority is lost for good: what a survivor has on disk is enough for a new cluster.
func TestClusterFromASurvivor(t *testing.T) {
	old := trio(t)
	nodes := form(t, old)
	for i := range 20 {
		nodes[i%3].acquire(fmt.Sprint("lock", i), testKey(fmt.Sprintf("%02d", i)), `,"ttl":3600`)
	}
	kill(t, nodes)
	// Which of them knows everything that was acknowledged is seen from term and index: at least two do.
	var best backupReport
	files := t.TempDir()
	for _, m := range old {
		file := filepath.Join(files, m.name)
		out := doubledutch(t, "backup", file, "--data-dir", m.dir, "--json").check(exitcode.OK, `"term"`).out
		var said backupReport
		if err := json.Unmarshal([]byte(out), &said); err != nil || said.Node != m.name || said.Term == 0 {
			t.Fatalf("%v, %+v", err, said)
		}
		if said.Term > best.Term || said.Term == best.Term && said.Index > best.Index {
			best = said
		}
	}
	n := serve(t, doubledutch(t, "--data-dir", restored(t, best.File)))
	for i := range 20 {
		n.client("release", fmt.Sprint("lock", i), testKey(fmt.Sprintf("%02d", i))).check(exitcode.OK, "released")
	}
}
