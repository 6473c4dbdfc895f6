package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

func TestClusterFlagsThatContradict(t *testing.T) {
	const trio = "n1=host1:7334,n2=host2:7334,n3=host3:7334"
	for args, want := range map[string]string{
		"--cluster " + trio: "--cluster needs --cluster-listen",
		"--join host1:7334": "--join needs --cluster-listen",
		"--name n1":         "--name needs --cluster-listen",
		"--cluster-ca x":    "--cluster-ca needs --cluster-listen",
		"--cluster-listen 127.0.0.1:0 --name n1 --cluster " + trio + " --join host2:7334":              "--cluster and --join contradict each other",
		"--cluster-listen 127.0.0.1:0 --name n4 --cluster " + trio:                                     "--cluster does not list this node, n4",
		"--cluster-listen 127.0.0.1:0 --cluster " + trio:                                               "--cluster needs --name",
		"--cluster-listen 127.0.0.1:0 --name n1 --cluster " + trio + " --cluster-advertise other:7334": "--cluster-advertise contradicts --cluster",
		"--cluster-listen 127.0.0.1:0 --name n1 --cluster n1":                                          `"n1" is not a node`,
		"--cluster-listen 127.0.0.1:0 --name n1 --cluster n1=host1":                                    `"host1" is not the address of a node`,
		"--cluster-listen 127.0.0.1:0 --name n1 --cluster n1=host1:1,n1=host2:1":                       "the node n1 is there twice",
		"--cluster-listen 127.0.0.1:0 --name n1 --cluster n1=host1:1,n2=host1:1":                       "n1 and n2 have the same address",
		"--cluster-listen 127.0.0.1:0 --name n.1":                                                      "--name: the name of a node",
		"--cluster-listen 127.0.0.1 --name n1":                                                         "--cluster-listen: ",
		"--cluster-listen 127.0.0.1:0 --join host1":                                                    "--join: ",
		"--cluster-listen 127.0.0.1:0 --cluster-cert x":                                                "go together",
		"--cluster-listen 127.0.0.1:0 --cluster-timing moon":                                           "--cluster-timing must be one of",
	} {
		if _, err := parse(t, append([]string{"serve"}, strings.Fields(args)...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("serve %s: %v, want %q", args, err, want)
		}
	}
	doubledutch(t, "serve", "--join", "host1:7334").check(exitcode.Usage, "--join needs --cluster-listen")
}

func TestClusterFlags(t *testing.T) {
	t.Setenv("DOUBLEDUTCH_CLUSTER", "n1=host1:7334, n2=host2:7334")
	g, err := parse(t, "serve", "--volatile", "--name", "n2", "--cluster-listen", "0.0.0.0:7334", "--cluster-timing", "wan")
	if err != nil {
		t.Fatal(err)
	}
	c := g.Serve.cluster(false, nil)
	if c.Name != "n2" || len(c.Members) != 2 || c.Members["n2"] != "host2:7334" || c.Timing != node.WAN || c.Join != "" {
		t.Errorf("%+v", c)
	}
	if got := g.Serve.advertise(c.Members); got != "host2:7334" {
		t.Errorf("advertises %q", got)
	}
	t.Setenv("DOUBLEDUTCH_CLUSTER", "")
	if err := os.Unsetenv("DOUBLEDUTCH_CLUSTER"); err != nil {
		t.Fatal(err)
	}
	file := configFileOf(t, `{"cluster": "n1=host1:7334", "serve": {"name": "n1"}}`)
	for _, tt := range []struct{ args, want string }{
		{"--config " + file + " --cluster-listen 10.0.0.1:7334", "host1:7334"},
		{"--cluster-listen host9:7334 --join host1:7334", "host9:7334"},
		{"--cluster-listen host9:7334 --cluster-advertise host8:1", "host8:1"},
		{"--cluster-listen 127.0.0.1:0", ""},
	} {
		g, err := parse(t, append([]string{"serve", "--volatile"}, strings.Fields(tt.args)...)...)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Serve.advertise(g.Serve.cluster(false, nil).Members); got != tt.want {
			t.Errorf("%s advertises %q, want %q", tt.args, got, tt.want)
		}
	}
	if g, err := parse(t, "serve"); err != nil || g.Serve.cluster(false, nil) != nil {
		t.Errorf("a single server: %v", err)
	}
}

func TestClusterNeedsTLSBeyondLoopback(t *testing.T) {
	doubledutch(t, "serve", "--volatile", "--listen", "127.0.0.1:0", "--cluster-listen", "0.0.0.0:0", "--cluster-advertise", "host1:7334").
		check(exitcode.Failure, "--insecure")
}

const aCluster = `{"cluster_id":"c1","name":"n1","leader":"n2","volatile":true,"applied_index":9,"level":1,"members":[` +
	`{"name":"n1","address":"host1:7334","voter":true,"leader":false,"reachable":true,"applied_index":7,"last_contact":0.004,"disk_full":false,"version":"1.3.0","knows_level":2},` +
	`{"name":"n2","address":"host2:7334","voter":true,"leader":true,"reachable":true,"applied_index":9,"last_contact":0,"disk_full":true,"version":"1.2.0","knows_level":1},` +
	`{"name":"n3","address":"host3:7334","voter":false,"leader":false,"reachable":false}]}`

func TestClusterStatus(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, aCluster))
	out := doubledutch(t, "cluster", "status", "--server", url).check(exitcode.OK, "cluster c1, leader n2, level 1 (asked n1)").out
	if r := <-requests; r.method != "GET" || r.uri != "/v1/cluster" {
		t.Errorf("asked for %s %s", r.method, r.uri)
	}
	for _, want := range []string{
		"n1 host1:7334 voter ok 7 4ms 1.3.0", "n2 host2:7334 leader disk full 9 0ms 1.2.0", "n3 host3:7334 joining unreachable - - -",
		"level 2 begins when these nodes run a version that knows it: n2, n3", "in memory only",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	r := doubledutch(t, "cluster", "status", "--json", "--server", url).check(exitcode.OK, "")
	if !equalJSON(t, json.RawMessage(r.out), json.RawMessage(aCluster)) {
		t.Errorf("printed %s", r.out)
	}
}

func TestClusterChanges(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, `{"done":true}`))
	for args, want := range map[string]struct{ method, uri, body, said string }{
		"remove n3":   {"DELETE", "/v1/cluster/members/n3", "", "n3 is no member any more"},
		"add n4 h4:1": {"POST", "/v1/cluster/members", `{"add":"n4","address":"h4:1"}`, "n4 is a member"},
		"promote n3":  {"POST", "/v1/cluster/members", `{"promote":"n3"}`, "n3 votes"},
		"transfer":    {"POST", "/v1/cluster/transfer", `{}`, "leadership was handed over"},
		"transfer n2": {"POST", "/v1/cluster/transfer", `{"to":"n2"}`, "n2 leads"},
	} {
		args := append([]string{"cluster"}, strings.Fields(args)...)
		doubledutch(t, append(args, "--server", url)...).check(exitcode.OK, want.said)
		if r := <-requests; r.method != want.method || r.uri != want.uri || r.body != want.body {
			t.Errorf("%v sent %s %s %s", args, r.method, r.uri, r.body)
		}
		doubledutch(t, append(args, "--json", "--server", url)...).check(exitcode.OK, `"done": true`)
		<-requests
	}
	doubledutch(t, "cluster", "remove", "a/b", "--server", url).check(exitcode.Usage, "the name of a node")
	doubledutch(t, "cluster", "add", "a/b", "h4:1", "--server", url).check(exitcode.Usage, "the name of a node")
	doubledutch(t, "cluster", "add", "n4", "h4", "--server", url).check(exitcode.Usage, "is not the address of a node")
	doubledutch(t, "cluster", "add", "n4", "169.254.169.254:80", "--server", url).check(exitcode.Usage, "cannot have the address")
	url, _ = fakeServer(t, answering(409, problemType, `{"status":409,"code":"refused","detail":"There is no node n9 in this cluster."}`))
	doubledutch(t, "cluster", "remove", "n9", "--server", url).check(exitcode.Failure, "There is no node n9")
}

func TestClusterCerts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	doubledutch(t, "cluster", "certs", dir, "n1", "n2").check(exitcode.OK, "made a certificate authority")
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	r := doubledutch(t, "cluster", "certs", dir, "n3", "--json").check(exitcode.OK, `"new_ca": false`)
	var got struct{ Nodes []certFiles }
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || len(got.Nodes) != 1 || got.Nodes[0].Name != "n3" {
		t.Fatalf("%s, %v", r.out, err)
	}
	if again, err := os.ReadFile(got.Nodes[0].CA); err != nil || !bytes.Equal(ca, again) {
		t.Errorf("the authority was replaced (%v)", err)
	}
	doubledutch(t, "cluster", "certs", dir, "a/b").check(exitcode.Usage, "the name of a node")
	doubledutch(t, "cluster", "certs", dir, "ca").check(exitcode.Failure, "cannot be the name of a node")

	// What was made opens a node.
	s := serve(t, doubledutch(t, "--volatile", "--name", "n3", "--cluster-listen", "127.0.0.1:0",
		"--cluster-cert", got.Nodes[0].Cert, "--cluster-key", got.Nodes[0].Key, "--cluster-ca", got.Nodes[0].CA))
	if !strings.Contains(s.block, "  cluster  n3 of n3 (leader n3)\n") {
		t.Errorf("the block says\n%s", s.block)
	}
}

// freeAddresses are n addresses that were free a moment ago.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	out := make([]string, n)
	for i := range out {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		out[i] = l.Addr().String()
	}
	return out
}

// Three processes form a cluster, take a fourth in, and let it go.
func TestClusterOfThree(t *testing.T) {
	at := freeAddresses(t, 4)
	list := "n1=" + at[0] + ",n2=" + at[1] + ",n3=" + at[2]
	nodes := make([]*running, 3)
	var wg sync.WaitGroup
	for i, name := range []string{"n1", "n2", "n3"} {
		p := doubledutch(t, "--volatile", "--name", name, "--cluster-listen", at[i], "--cluster", list)
		wg.Go(func() { nodes[i] = serve(t, p) })
	}
	wg.Wait()
	if t.Failed() || nodes[0] == nil || nodes[1] == nil || nodes[2] == nil {
		t.FailNow()
	}
	if !strings.Contains(nodes[0].block, "  cluster  n1 of n1, n2, n3 (leader n") {
		t.Errorf("the block says\n%s", nodes[0].block)
	}
	key := strings.TrimSpace(nodes[0].client("acquire", "db", "--ttl", "1h").check(exitcode.OK, "token 1").out)
	for _, n := range nodes {
		n.client("acquire", "db").check(exitcode.Held, "is held")
		n.client("cluster", "status").check(exitcode.OK, "leader n")
	}
	fourth := serve(t, doubledutch(t, "--volatile", "--name", "n4", "--cluster-listen", at[3], "--join", at[1]))
	fourth.client("show", "db").check(exitcode.OK, "held")
	fourth.client("cluster", "remove", "n9").check(exitcode.Failure, "There is no node n9")
	nodes[0].client("cluster", "remove", "n4").check(exitcode.OK, "n4 is no member")
	if code := fourth.wait(); code != exitcode.Removed {
		t.Errorf("the removed node ended with %d", code)
	}
	nodes[2].client("release", "db", key).check(exitcode.OK, "released")
	for _, n := range nodes[:1] {
		if code := n.stop(syscall.SIGTERM); code != exitcode.OK {
			t.Errorf("exit code %d after SIGTERM", code)
		}
	}
	nodes[1].client("acquire", "db").check(exitcode.OK, "token 2")
}

// A server takes a node in that waits for it, over the real channel. Nothing listens on an address that leads elsewhere.
func TestClusterAdd(t *testing.T) {
	at := freeAddresses(t, 3)
	first := serve(t, doubledutch(t, "--volatile", "--name", "n1", "--cluster-listen", at[0]))
	first.client("acquire", "db", "--ttl", "1h").check(exitcode.OK, "token 1")
	first.client("cluster", "add", "n2", at[1]).check(exitcode.Failure, "No node answers at "+at[1])
	var second *running
	var wg sync.WaitGroup
	p := doubledutch(t, "--volatile", "--name", "n2", "--cluster-listen", at[1], "--join", "wait")
	wg.Go(func() { second = serve(t, p) })
	waitFor(t, func() bool {
		conn, err := net.Dial("tcp", at[1])
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	first.client("cluster", "add", "n3", at[1]).check(exitcode.Failure, "there is node n2, not n3")
	waitFor(t, func() bool { return first.client("cluster", "add", "n2", at[1]).run().code == exitcode.OK })
	wg.Wait()
	if second == nil {
		t.FailNow()
	}
	second.client("acquire", "db").check(exitcode.Held, "is held")
	second.client("cluster", "add", "n2", at[1]).check(exitcode.OK, "n2 is a member")
	out := second.client("cluster", "status").check(exitcode.OK, "level 2").out
	if !strings.Contains(out, version()) {
		t.Errorf("no version in\n%s", out)
	}
}

// A node that waits for the others stays, and a signal ends it.
func TestWaitingToBeFormedEndsWithASignal(t *testing.T) {
	at := freeAddresses(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var log rig.Output
	cmd := doubledutch(t, "serve", "--volatile", "--listen", "127.0.0.1:0", "--cluster-listen", at[0],
		"--name", "n1", "--cluster", "n1="+at[0]+",n2="+at[1]).command(ctx)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It answers other nodes while it waits.
	waitFor(t, func() bool {
		conn, err := net.Dial("tcp", at[0])
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitcode.OK {
		t.Errorf("exit code %d after SIGTERM; it logged\n%s", code, log.String())
	}
}
