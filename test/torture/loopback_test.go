//go:build linux

package torture

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// proxies is the network for machines on which there are no namespaces: everything runs on loopback, and each node is reached
// through two proxies, one for other nodes and one for clients. Who connects to a proxy is found out by the process that owns the
// connection. What a cut link carries is held back until the link is whole again.
type proxies struct {
	doors []*door // two for each node: for nodes, for clients

	mu    sync.Mutex // guards what follows
	pids  map[int]int
	bad   map[*disturbed]bool
	conns map[net.Conn]bool
	shut  bool
}

// door is a proxy in front of one address of a node.
type door struct {
	node    int
	clients bool
	front   net.Listener
	behind  string
}

// disturbed is a disturbance that goes on.
type disturbed struct {
	disturbance
	met atomic.Int64
}

func newLoopback(nodes int) (network, error) {
	p := &proxies{pids: map[int]int{}, bad: map[*disturbed]bool{}, conns: map[net.Conn]bool{}}
	for i := range nodes * 2 {
		d, err := newDoor(i/2, i%2 == 1)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.doors = append(p.doors, d)
		go p.serve(d)
	}
	return p, nil
}

// newDoor binds the front and picks an address that was free a moment ago for what is behind it.
func newDoor(node int, clients bool) (*door, error) {
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, front.Close())
	}
	return &door{node: node, clients: clients, front: front, behind: probe.Addr().String()}, probe.Close()
}

func (*proxies) wrap(int) []string { return nil }

func (p *proxies) peerAddr(node int) (listen, advertise string) {
	d := p.doors[node*2]
	return d.behind, d.front.Addr().String()
}

func (p *proxies) clientAddr(node int) (listen, dial string) {
	d := p.doors[node*2+1]
	return d.behind, d.front.Addr().String()
}

func (p *proxies) started(node, pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pids[node] = pid
}

func (p *proxies) close() error {
	var errs []error
	for _, d := range p.doors {
		errs = append(errs, d.front.Close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	for c := range p.conns {
		_ = c.Close() // it may be closed already
	}
	return errors.Join(errs...)
}

func (p *proxies) disturb(d disturbance) (func() (int64, error), error) {
	x := &disturbed{disturbance: d}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bad[x] = true
	return func() (int64, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.bad, x)
		return x.met.Load(), nil
	}, nil
}

// serve takes connections at a door.
func (p *proxies) serve(d *door) {
	for {
		c, err := d.front.Accept()
		if err != nil {
			return
		}
		go p.connect(d, c)
	}
}

func (p *proxies) connect(d *door, front net.Conn) {
	from := outside
	if !d.clients {
		from = p.owner(front.RemoteAddr().String())
	}
	p.holdBack(link{from, d.node}) // a SYN that does not get through
	behind, err := net.Dial("tcp", d.behind)
	if err != nil {
		_ = front.Close()
		return
	}
	if !p.keep(front, behind) {
		return
	}
	go p.carry(front, behind, link{from, d.node})
	p.carry(behind, front, link{d.node, from})
}

// keep remembers the connections, to close them in the end.
func (p *proxies) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
		if p.shut {
			_ = c.Close() // nobody uses it
		}
	}
	return !p.shut
}

// carry copies one direction of a connection.
func (p *proxies) carry(from, to net.Conn, l link) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.holdBack(l)
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = from.Close() // it is broken
			}
			_ = to.Close()
			return
		}
	}
}

// holdBack waits as long as the link is cut, and for a while if it is bad.
func (p *proxies) holdBack(l link) {
	counted := map[*disturbed]bool{}
	for {
		cut := false
		wait := time.Duration(0)
		p.mu.Lock()
		for x := range p.bad {
			if counted[x] || !x.touches(l) {
				cut = cut || x.kind == drop && x.touches(l)
				continue
			}
			counted[x] = true
			x.met.Add(1)
			switch x.kind {
			case drop:
				cut = true
			case slow:
				wait += 60 * time.Millisecond
			case lose:
				if x.met.Load()%5 == 0 {
					wait += 200 * time.Millisecond // as long as TCP takes to send it again
				}
			}
		}
		shut := p.shut
		p.mu.Unlock()
		time.Sleep(wait) // the fault itself
		if !cut || shut {
			return
		}
		time.Sleep(10 * time.Millisecond) // the fault itself
	}
}

func (d *disturbed) touches(l link) bool {
	for _, x := range d.links {
		if x == l || d.kind == slow && x.from == l.from {
			return true
		}
	}
	return false
}

// owner finds the node whose process has the connection with this local address; outside if it is none.
func (p *proxies) owner(addr string) int {
	inode := inodeOf(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, pid := range p.pids {
		if inode != "" && hasSocket(pid, inode) {
			return node
		}
	}
	return outside
}

// inodeOf looks the connection up in the kernel's table.
func inodeOf(addr string) string {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return ""
	}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	want := fmt.Sprintf(":%04X", tcp.Port)
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 9 && strings.HasSuffix(fields[1], want) {
			return fields[9]
		}
	}
	return ""
}

func hasSocket(pid int, inode string) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}
