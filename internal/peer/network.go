package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// A Network is where connections come from. Addresses are host:port.
type Network interface {
	Listen(addr string) (net.Listener, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// tcp is the real network. Without open it keeps to loopback addresses.
type tcp struct{ open bool }

// Dead connections of raft, which have no beats, are noticed by TCP itself.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 3 * time.Second, Interval: time.Second, Count: 3}

func (t tcp) Listen(addr string) (net.Listener, error) {
	if err := t.checkListen(addr); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	return lc.Listen(context.Background(), "tcp", addr)
}

func (t tcp) checkListen(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if t.open {
		return nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip", host)
	if host == "" || err != nil {
		ips = []netip.Addr{netip.IPv4Unspecified()}
	}
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return fmt.Errorf("the cluster address %s can be reached by others, who could write into the log: "+
				"give --cluster-cert, --cluster-key and --cluster-ca (`doubledutch cluster certs` makes them), "+
				"or --insecure if the network itself is guarded", addr)
		}
	}
	return nil
}

func (t tcp) Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectTimeout, KeepAliveConfig: keepAlive, Control: t.control}
	return d.DialContext(ctx, "tcp", addr)
}

// control judges the IP address that a name stands for, right before it is connected to.
func (t tcp) control(_, addr string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	switch ip := ap.Addr().Unmap(); {
	case ip.IsUnspecified(), ip.IsMulticast():
		return errNotANode
	case ip.IsLinkLocalUnicast(): // where clouds keep their secrets
		return errNotANode
	case !t.open && !ip.IsLoopback():
		return errors.New("only loopback addresses are dialled without TLS: give --cluster-cert, --cluster-key and " +
			"--cluster-ca, or --insecure")
	}
	return nil
}

var errNotANode = errors.New("a node cannot have this address")

// address is an address in the words of its owner.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// checkAdvertise refuses what others could not dial.
func checkAdvertise(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("cluster address: %w", err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || port == "" || port == "0" || (err == nil && ip.IsUnspecified()) {
		return fmt.Errorf("%s is no address that the other nodes could dial: say which one to advertise", addr)
	}
	return nil
}

// hostOf is the IP address of a remote end, by which connections are counted.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
