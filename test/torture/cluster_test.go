//go:build linux

package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// cluster is three nodes that come and go.
type cluster struct {
	dir     string // of this run
	program string
	net     network
	history *history
	nodes   []*node
	list    string // --cluster
	http    *http.Client

	mu         sync.Mutex // guards what follows
	unexpected []string   // ends of processes that nobody has asked for
}

// node is one of them. Whoever ends, starts or wipes it holds busy.
type node struct {
	c     *cluster
	index int
	name  string
	data  string
	url   string
	busy  sync.Mutex

	mu      sync.Mutex // guards what follows, also in the process
	process *process
	joins   string // --join; empty: --cluster
}

// process is one life of a node.
type process struct {
	*rig.Process
	expected map[int]bool // exit codes with which it may end now; nil: it must not
}

const (
	nodeCount = 3
	diskSize  = 96 << 20
	// What only something that hangs takes so long for.
	startWithin = 60 * time.Second
)

// newCluster forms a cluster in the directory, over the network.
func newCluster(dir, program string, net network, h *history) (*cluster, error) {
	c := &cluster{dir: dir, program: program, net: net, history: h, http: &http.Client{
		Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
	}}
	certs := []string{program, "cluster", "certs", filepath.Join(dir, "certs")}
	var members []string
	for i := range nodeCount {
		n := &node{c: c, index: i, name: fmt.Sprintf("n%d", i+1), data: filepath.Join(dir, fmt.Sprintf("n%d", i+1))}
		_, dial := net.clientAddr(i)
		n.url = "http://" + dial
		_, advertise := net.peerAddr(i)
		members = append(members, n.name+"="+advertise)
		certs = append(certs, n.name)
		c.nodes = append(c.nodes, n)
	}
	c.list = strings.Join(members, ",")
	if _, err := run(certs...); err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			return nil, err
		}
	}
	for _, n := range c.nodes {
		if err := n.awaitReady(startWithin); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// useSmallDisks puts each node's data on a file system of its own that can be filled, if that is possible here.
func useSmallDisks(dir string) (unmount func(), err error) {
	var all []func() error
	unmount = func() {
		for _, f := range all {
			_ = f() // detached if it is busy
		}
	}
	for i := range nodeCount {
		disk := filepath.Join(dir, fmt.Sprintf("n%d", i+1))
		if err := os.MkdirAll(disk, 0o700); err != nil {
			return unmount, err
		}
		f, err := rig.SmallDisk(disk, diskSize)
		if err != nil {
			return unmount, err
		}
		all = append(all, f)
	}
	return unmount, nil
}

func (c *cluster) doors() *doors {
	d := &doors{urls: map[string]string{}}
	for _, n := range c.nodes {
		d.names = append(d.names, n.name)
		d.urls[n.name] = n.url
	}
	return d
}

// start starts the node's process, within what wraps it, and does not wait.
func (n *node) start(wrap ...string) error {
	log, err := os.OpenFile(filepath.Join(n.c.dir, n.name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	n.mu.Lock()
	defer n.mu.Unlock()
	netns := n.c.net.wrap(n.index)
	p, err := rig.Start(rig.Command{
		Argv: append(append([]string{}, netns...), append(wrap, n.argvLocked()...)...), Stdout: log, Stderr: log,
	})
	if err != nil {
		return err
	}
	n.process = &process{Process: p}
	if pid, err := p.Pid(); err == nil {
		n.c.net.started(n.index, pid)
	}
	n.c.history.note(n.name, "start")
	go n.watch(n.process)
	return nil
}

func (n *node) argvLocked() []string {
	listen, _ := n.c.net.clientAddr(n.index)
	peer, advertise := n.c.net.peerAddr(n.index)
	certs := filepath.Join(n.c.dir, "certs", n.name)
	argv := []string{
		n.c.program, "serve", "--listen", listen, "--insecure", "--data-dir", filepath.Join(n.data, "data"), "--name", n.name,
		"--cluster-listen", peer, "--cluster-cert", certs + ".pem", "--cluster-key", certs + "-key.pem",
		"--cluster-ca", filepath.Join(n.c.dir, "certs", "ca.pem"), "--log-format", "json", "--quiet",
		"--max-connections-per-ip", "5000", "--snapshot-size", "64KiB", "--shutdown-timeout", "20s",
	}
	if n.joins != "" {
		return append(argv, "--join", n.joins, "--cluster-advertise", advertise)
	}
	return append(argv, "--cluster", n.c.list)
}

// watch waits for the end of the process and notes if nobody has wanted it.
func (n *node) watch(p *process) {
	<-p.Ended()
	code := p.Code()
	n.mu.Lock()
	ok := p.expected[code]
	n.mu.Unlock()
	n.c.history.note(n.name, fmt.Sprintf("ended with %d", code))
	if ok {
		return
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.unexpected = append(n.c.unexpected, fmt.Sprintf("%s ended with %d at %s; see its log", n.name, code, at(n.c.history.now())))
}

// expect says with which codes the process may end from now on.
func (n *node) expect(codes ...int) *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.process.expected = map[int]bool{}
	for _, c := range codes {
		n.process.expected[c] = true
	}
	return n.process
}

func (n *node) running() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

const sigkilled = -int(syscall.SIGKILL)

// kill ends the node as a power cut would, except that the kernel keeps what was written. Its process may have died before.
func (n *node) kill(codes ...int) bool {
	p := n.expect(append(codes, sigkilled)...)
	n.c.history.note(n.name, "kill -9")
	p.KillAll()
	return p.Code() == sigkilled
}

// stop ends the node in peace.
func (n *node) stop(within time.Duration) error {
	p := n.expect(0)
	n.c.history.note(n.name, "SIGTERM")
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	code, err := p.Exit(within)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with %d after SIGTERM", n.name, code)
	}
	return err
}

// get asks the node for something and reads the answer.
func (n *node) get(path string, into any) error { return n.call(http.MethodGet, path, "", into) }

func (n *node) call(method, path, body string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := n.c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		var p struct{ Code, Detail string }
		_ = json.NewDecoder(resp.Body).Decode(&p) // not every answer has a body to decode
		return fmt.Errorf("%s %s at %s: %d %s %s", method, path, n.name, resp.StatusCode, p.Code, p.Detail)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// view is what a node says of its cluster.
type view struct {
	Name, Leader string
	Members      []struct {
		Name     string
		Voter    bool
		DiskFull bool `json:"disk_full"`
	}
	State struct {
		Index  uint64 `json:"applied_index"`
		SHA256 string
	} `json:"state_hash"`
}

func (n *node) view(query string) (v view, err error) {
	err = n.get("/v1/cluster"+query, &v)
	return v, err
}

// voter tells whether the node sees a member of that name that votes.
func (v *view) voter(name string) bool {
	for _, m := range v.Members {
		if m.Name == name {
			return m.Voter
		}
	}
	return false
}

func (v *view) member(name string) bool {
	for _, m := range v.Members {
		if m.Name == name {
			return true
		}
	}
	return false
}

var errNotYet = errors.New("not yet")

// eventually polls until f succeeds.
func eventually(within time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", within, err)
		}
	}
}

func (n *node) awaitReady(within time.Duration) error {
	return eventually(within, func() error {
		if p := n.running(); p.IsGone() {
			return fmt.Errorf("%s has ended with %d", n.name, p.Code())
		}
		resp, err := n.c.http.Get(n.url + "/readyz")
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s is not ready: %d", n.name, resp.StatusCode)
		}
		return nil
	})
}

// leader returns who leads, as most who answer see it; nil if nobody does.
func (c *cluster) leader() *node {
	votes := map[string]int{}
	for _, n := range c.nodes {
		if v, err := n.view(""); err == nil && v.Leader != "" {
			votes[v.Leader]++
		}
	}
	var best *node
	for _, n := range c.nodes {
		if votes[n.name] > 0 && (best == nil || votes[n.name] > votes[best.name]) {
			best = n
		}
	}
	return best
}

// end kills what runs.
func (c *cluster) end() {
	for _, n := range c.nodes {
		if p := n.running(); p != nil && !p.IsGone() {
			n.kill()
		}
	}
}
