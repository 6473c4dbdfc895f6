//go:build linux

package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// network is how nodes reach each other and clients reach nodes. Nodes are numbered from 0; outside stands for all clients.
type network interface {
	// wrap returns the command that runs a program on the node.
	wrap(node int) []string
	// What the node listens on, and how others (peerAddr) and clients (clientAddr) reach it.
	peerAddr(node int) (listen, advertise string)
	clientAddr(node int) (listen, dial string)
	// started tells who serves at the node now.
	started(node, pid int)
	// disturb begins a disturbance and returns what ends it and tells how many packets or pieces it has met.
	disturb(d disturbance) (end func() (int64, error), err error)
	close() error
}

const (
	outside    = -1
	commandsAt = nodeCount // a machine that is no node, from which commands are run; there is none on loopback
)

// disturbance is what happens on some links, each in one direction.
type disturbance struct {
	links []link
	kind  disturbanceKind
}

type link struct{ from, to int }

type disturbanceKind int

const (
	drop disturbanceKind = iota
	lose                 // a fifth of all packets
	slow                 // everything that the links' sources send
)

// namespaces is a network of one network namespace for each node on a bridge; the clients are on this side of it.
type namespaces struct {
	prefix string // of all names
	subnet string // such as 10.77.3.
	nodes  int
	chains atomic.Int64

	mu sync.Mutex // one change of a node's rules at a time
}

// run executes a command and puts what it printed into the error.
func run(argv ...string) (string, error) {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return string(out), nil
}

// newNamespaces makes the network. It needs root, ip and iptables.
func newNamespaces(nodes int) (*namespaces, error) {
	for _, tool := range []string{"ip", "iptables"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s is not installed", tool)
		}
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("only root can make network namespaces")
	}
	sweep()
	pid := os.Getpid()
	n := &namespaces{prefix: fmt.Sprintf("dd%d", pid), subnet: fmt.Sprintf("10.%d.%d.", 64+pid>>8&63, pid&255), nodes: nodes}
	if err := n.make(); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

var leftOver = regexp.MustCompile(`(?m)^dd(\d+)n\d+`)

// sweep removes the namespaces of runs that were killed.
func sweep() {
	list, _ := run("ip", "netns", "list")
	for _, m := range leftOver.FindAllStringSubmatch(list, -1) {
		if _, err := os.Stat("/proc/" + m[1]); err != nil {
			_, _ = run("ip", "netns", "del", m[0])
			_, _ = run("ip", "link", "del", "dd"+m[1]+"b") // once for all of them
		}
	}
}

func (n *namespaces) name(node int) string { return fmt.Sprintf("%sn%d", n.prefix, node+1) }

func (n *namespaces) address(node int) string { return n.subnet + strconv.Itoa(node+11) }

func (n *namespaces) make() error {
	bridge := n.prefix + "b"
	script := [][]string{
		{"ip", "link", "add", bridge, "type", "bridge"},
		{"ip", "addr", "add", n.subnet + "1/24", "dev", bridge},
		{"ip", "link", "set", bridge, "up"},
	}
	for i := range n.nodes {
		ns, here, there := n.name(i), fmt.Sprintf("%sv%d", n.prefix, i+1), fmt.Sprintf("%sw%d", n.prefix, i+1)
		script = append(
			script,
			[]string{"ip", "netns", "add", ns},
			[]string{"ip", "link", "add", here, "type", "veth", "peer", "name", there},
			[]string{"ip", "link", "set", there, "netns", ns, "name", "eth0"},
			[]string{"ip", "link", "set", here, "master", bridge, "up"},
			[]string{"ip", "-n", ns, "link", "set", "lo", "up"},
			[]string{"ip", "-n", ns, "addr", "add", n.address(i) + "/24", "dev", "eth0"},
			[]string{"ip", "-n", ns, "link", "set", "eth0", "up"},
		)
	}
	for _, argv := range script {
		if _, err := run(argv...); err != nil {
			return err
		}
	}
	return nil
}

func (n *namespaces) close() error {
	var errs []error
	for i := range n.nodes {
		_, err := run("ip", "netns", "del", n.name(i))
		errs = append(errs, err)
	}
	_, err := run("ip", "link", "del", n.prefix+"b")
	return errors.Join(append(errs, err)...)
}

func (n *namespaces) wrap(node int) []string { return []string{"ip", "netns", "exec", n.name(node)} }

func (n *namespaces) peerAddr(node int) (listen, advertise string) {
	return n.address(node) + ":7334", n.address(node) + ":7334"
}

func (n *namespaces) clientAddr(node int) (listen, dial string) {
	return n.address(node) + ":7333", n.address(node) + ":7333"
}

func (*namespaces) started(int, int) {}

func (n *namespaces) source(node int) string {
	if node == outside {
		return n.subnet + "1"
	}
	return n.address(node)
}

// disturb puts rules into a chain of their own where packets arrive. What clients shall not get is dropped where it leaves.
func (n *namespaces) disturb(d disturbance) (func() (int64, error), error) {
	if d.kind == slow {
		return n.squeeze(d.links[0].from)
	}
	chain := fmt.Sprintf("f%d", n.chains.Add(1))
	var hooks [][]string // undone in the end
	n.mu.Lock()
	defer n.mu.Unlock()
	nodes := map[int]bool{}
	var errs []error
	ipt := func(node int, args ...string) (string, error) {
		return run(append(append(n.wrap(node), "iptables", "-w"), args...)...)
	}
	for _, l := range d.links {
		at, hook, match, addr := l.to, "INPUT", "-s", n.source(l.from)
		if l.to == outside {
			at, hook, match, addr = l.from, "OUTPUT", "-d", n.source(outside)
		}
		if !nodes[at] {
			nodes[at] = true
			_, err := ipt(at, "-N", chain)
			errs = append(errs, err)
			rule := []string{"-A", chain, "-j", "DROP"}
			if d.kind == lose {
				rule = []string{"-A", chain, "-m", "statistic", "--mode", "random", "--probability", "0.2", "-j", "DROP"}
			}
			_, err = ipt(at, rule...)
			errs = append(errs, err)
		}
		rule := []string{hook, match, addr, "-j", chain}
		_, err := ipt(at, append([]string{"-I"}, rule...)...)
		errs = append(errs, err)
		hooks = append(hooks, append([]string{strconv.Itoa(at), "-D"}, rule...))
	}
	end := func() (met int64, err error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		var errs []error
		for _, h := range hooks {
			at, _ := strconv.Atoi(h[0])
			_, err := ipt(at, h[1:]...)
			errs = append(errs, err)
		}
		for at := range nodes {
			out, err := ipt(at, "-nvxL", chain)
			met += counted(out)
			_, err2 := ipt(at, "-F", chain)
			_, err3 := ipt(at, "-X", chain)
			errs = append(errs, err, err2, err3)
		}
		return met, errors.Join(errs...)
	}
	return end, errors.Join(errs...)
}

var dropLine = regexp.MustCompile(`(?m)^ *(\d+) +\d+ +DROP`)

// counted reads the packets of all DROP rules.
func counted(listing string) (sum int64) {
	for _, m := range dropLine.FindAllStringSubmatch(listing, -1) {
		v, _ := strconv.ParseInt(m[1], 10, 64)
		sum += v
	}
	return sum
}

var overlimit = regexp.MustCompile(`overlimits (\d+)`)

// squeeze lets the node send so little at a time that everything it says comes late.
func (n *namespaces) squeeze(node int) (func() (int64, error), error) {
	tc := func(args ...string) (string, error) {
		return run(append(append(n.wrap(node), "tc"), args...)...)
	}
	_, err := tc("qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "300kbit", "burst", "4kb", "latency", "400ms")
	return func() (int64, error) {
		out, err := tc("-s", "qdisc", "show", "dev", "eth0")
		met := int64(0)
		if m := overlimit.FindStringSubmatch(out); m != nil {
			met, _ = strconv.ParseInt(m[1], 10, 64)
		}
		_, err2 := tc("qdisc", "del", "dev", "eth0", "root")
		return met, errors.Join(err, err2)
	}, err
}
