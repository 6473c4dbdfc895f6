package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/peer"
)

// clusterFlags are the flags of serve that make a node of it. Without --cluster-listen it is a single server.
type clusterFlags struct {
	Name             string     `placeholder:"NAME" help:"Name of this node in its cluster; kept in the data directory (default: from the host name)."`
	ClusterListen    string     `placeholder:"ADDRESS" help:"Address and port for the other nodes; makes this server a node of a cluster."`
	ClusterAdvertise string     `placeholder:"ADDRESS" help:"Where the other nodes reach this one (default: its address in --cluster, or --cluster-listen)."`
	Cluster          memberList `placeholder:"NAME=ADDRESS,..." help:"All nodes of a cluster that shall begin, the same on each of them; ignored once this one is a member."`
	Join             string     `placeholder:"ADDRESS" help:"--cluster-listen of any node of a running cluster that this one shall join, or wait: until 'doubledutch cluster add' adds it; ignored once it is a member."`
	ClusterCert      string     `name:"cluster-cert" placeholder:"FILE" help:"PEM file with this node's certificate (see doubledutch cluster certs)."`
	ClusterKey       string     `name:"cluster-key" placeholder:"FILE" help:"PEM file with the certificate's key."`
	ClusterCA        string     `name:"cluster-ca" placeholder:"FILE" help:"PEM file with the certificates of the CA that all nodes trust."`
	ClusterTiming    string     `enum:"lan,wan" default:"lan" help:"lan, or wan for nodes that are up to 200 ms apart; the same on all nodes (default ${default})."`
}

// joinWait stands for an address in --join: the cluster comes to the node.
const joinWait = "wait"

// memberList is what --cluster says: names with addresses, as in n1=host1:7334,n2=host2:7334.
type memberList string

// UnmarshalText reads a list.
func (m *memberList) UnmarshalText(text []byte) error {
	*m = memberList(text)
	_, err := m.members()
	return err
}

// members takes the list apart. Names and addresses are valid, and none of them is there twice.
func (m memberList) members() (map[string]string, error) {
	if m == "" {
		return nil, nil
	}
	members, owners := map[string]string{}, map[string]string{}
	for part := range strings.SplitSeq(string(m), ",") {
		name, addr, found := strings.Cut(strings.TrimSpace(part), "=")
		if !found {
			return nil, fmt.Errorf("%q is not a node; write for example n1=host1:7334,n2=host2:7334,n3=host3:7334", part)
		}
		if err := errors.Join(node.CheckName(name), node.CheckAddress(addr)); err != nil {
			return nil, err
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("the node %s is there twice", name)
		}
		if other, twice := owners[addr]; twice {
			return nil, fmt.Errorf("the nodes %s and %s have the same address", other, name)
		}
		members[name], owners[addr] = addr, name
	}
	return members, nil
}

// check refuses flags that contradict each other.
func (f *clusterFlags) check() error {
	if f.ClusterListen == "" {
		return f.checkSingle()
	}
	members, err := f.Cluster.members()
	if err != nil {
		return fmt.Errorf("--cluster: %w", err)
	}
	_, listed := members[f.Name]
	switch {
	case f.Cluster != "" && f.Join != "":
		return errors.New("--cluster and --join contradict each other: the first begins a cluster, the second joins one that runs")
	case f.Cluster != "" && f.Name == "":
		return errors.New("--cluster needs --name, which says which of the nodes this one is")
	case f.Cluster != "" && !listed:
		return fmt.Errorf("--cluster does not list this node, %s: it names all nodes, and is the same on each of them", f.Name)
	case listed && f.ClusterAdvertise != "" && f.ClusterAdvertise != members[f.Name]:
		return fmt.Errorf("--cluster-advertise contradicts --cluster, where the address of %s is %s", f.Name, members[f.Name])
	}
	return errors.Join(f.checkName(), f.checkAddresses(), f.checkFiles())
}

// checkSingle refuses what has a meaning for a node of a cluster only.
func (f *clusterFlags) checkSingle() error {
	for _, flag := range []struct{ name, value string }{
		{"cluster", string(f.Cluster)},
		{"join", f.Join},
		{"name", f.Name},
		{"cluster-advertise", f.ClusterAdvertise},
		{"cluster-cert", f.ClusterCert},
		{"cluster-key", f.ClusterKey},
		{"cluster-ca", f.ClusterCA},
	} {
		if flag.value != "" {
			return fmt.Errorf("--%s needs --cluster-listen, the address for the other nodes", flag.name)
		}
	}
	return nil
}

func (f *clusterFlags) checkName() error {
	if f.Name == "" {
		return nil
	}
	if err := node.CheckName(f.Name); err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	return nil
}

func (f *clusterFlags) checkAddresses() error {
	if _, _, err := net.SplitHostPort(f.ClusterListen); err != nil {
		return fmt.Errorf("--cluster-listen: %q is not an address; write for example 10.0.0.1:7334", f.ClusterListen)
	}
	for _, flag := range []struct{ name, value string }{{"cluster-advertise", f.ClusterAdvertise}, {"join", f.Join}} {
		if flag.value == "" || flag.name == "join" && flag.value == joinWait {
			continue
		}
		if err := node.CheckAddress(flag.value); err != nil {
			return fmt.Errorf("--%s: %w", flag.name, err)
		}
	}
	return nil
}

func (f *clusterFlags) checkFiles() error {
	given := 0
	for _, name := range []string{f.ClusterCert, f.ClusterKey, f.ClusterCA} {
		if name != "" {
			given++
		}
	}
	if given != 0 && given != 3 {
		return errors.New("--cluster-cert, --cluster-key and --cluster-ca go together: give all three or none")
	}
	return nil
}

// cluster is what the flags say to the node, or nil for a single server.
func (f *clusterFlags) cluster(insecure bool, log *slog.Logger) *node.Cluster {
	if f.ClusterListen == "" {
		return nil
	}
	members, _ := f.Cluster.members() // checked
	channel := peer.Config{Listen: f.ClusterListen, Advertise: f.advertise(members), Insecure: insecure, Logger: log}
	if f.ClusterCert != "" {
		channel.TLS = &peer.TLSFiles{Cert: f.ClusterCert, Key: f.ClusterKey, CA: f.ClusterCA}
	}
	join, await := f.Join, f.Join == joinWait
	if await {
		join = ""
	}
	timing := node.LAN
	if f.ClusterTiming == "wan" {
		timing = node.WAN
	}
	return &node.Cluster{
		Name: f.Name, Listen: node.ListenPeer(channel), Members: members, Join: join, Await: await, Timing: timing,
	}
}

// advertise is the address for the other nodes. Empty: the one that is bound.
func (f *clusterFlags) advertise(members map[string]string) string {
	if f.ClusterAdvertise != "" {
		return f.ClusterAdvertise
	}
	if addr := members[f.Name]; addr != "" {
		return addr
	}
	if _, port, err := net.SplitHostPort(f.ClusterListen); err != nil || port == "0" {
		return ""
	}
	return f.ClusterListen
}
