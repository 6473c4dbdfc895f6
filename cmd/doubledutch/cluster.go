package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// clusterCmd is for those who run a cluster.
type clusterCmd struct {
	Status   clusterStatusCmd   `cmd:"" help:"Show the members and how they are."`
	Add      clusterAddCmd      `cmd:"" help:"Take a node that waits for it into the cluster."`
	Remove   clusterRemoveCmd   `cmd:"" help:"Take a member out of the cluster."`
	Promote  clusterPromoteCmd  `cmd:"" help:"Let a member vote without waiting for it to catch up."`
	Transfer clusterTransferCmd `cmd:"" help:"Hand leadership to another member."`
	Certs    clusterCertsCmd    `cmd:"" help:"Make certificates for the nodes."`
}

// clusterAnswer is what the server says of its cluster.
type clusterAnswer struct {
	ID           string         `json:"cluster_id"`
	Name         string         `json:"name"`
	Leader       string         `json:"leader"`
	Volatile     bool           `json:"volatile"`
	AppliedIndex uint64         `json:"applied_index"`
	Level        uint32         `json:"level"`
	Members      []memberAnswer `json:"members"`
}

// memberAnswer is one member.
type memberAnswer struct {
	Name         string  `json:"name"`
	Address      string  `json:"address"`
	Voter        bool    `json:"voter"`
	Leader       bool    `json:"leader"`
	Reachable    bool    `json:"reachable"`
	AppliedIndex uint64  `json:"applied_index"`
	LastContact  float64 `json:"last_contact"` // seconds
	DiskFull     bool    `json:"disk_full"`
	Version      string  `json:"version"`
	KnowsLevel   uint32  `json:"knows_level"`
}

// clusterStatusCmd shows the cluster.
type clusterStatusCmd struct {
	clientFlags
}

// Help shows an example.
func (*clusterStatusCmd) Help() string {
	return `Any node answers, also one that reaches no majority: then it says what it knows.

Examples:

    doubledutch cluster status
    doubledutch cluster status --server http://host2:7333 --json`
}

// Run asks one node.
func (s *clusterStatusCmd) Run(c *console) error {
	return s.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodGet, path: "/v1/cluster"})
		if err != nil {
			return err
		}
		if s.JSON {
			return printRaw(c.out, got.body)
		}
		var a clusterAnswer
		if err := decode(got.body, &a); err != nil {
			return err
		}
		return printCluster(c.out, &a)
	})
}

// printCluster prints one line for each member.
func printCluster(w io.Writer, a *clusterAnswer) error {
	t := newTable(w)
	leader := "no leader known"
	if a.Leader != "" {
		leader = "leader " + printable(a.Leader)
	}
	t.line(fmt.Sprintf("cluster %s, %s, level %d (asked %s)", cell(a.ID), leader, a.Level, cell(a.Name)))
	if why := a.upgrading(); why != "" {
		t.line(why)
	}
	if a.Volatile {
		t.line("in memory only: nothing survives a restart")
	}
	t.line("")
	t.row("NODE", "ADDRESS", "ROLE", "STATE", "APPLIED", "LAST CONTACT", "VERSION")
	for i := range a.Members {
		m := &a.Members[i]
		applied, contact, version := "-", "-", "-"
		if m.Reachable {
			applied, contact, version = strconv.FormatUint(m.AppliedIndex, 10), ago(m.LastContact), cell(m.Version)
		}
		t.row(cell(m.Name), cell(m.Address), m.role(), m.state(), applied, contact, version)
	}
	return t.done()
}

// upgrading says what keeps the cluster from the newest level that one of its members knows, or nothing.
func (a *clusterAnswer) upgrading() string {
	newest := a.Level
	for i := range a.Members {
		newest = max(newest, a.Members[i].KnowsLevel)
	}
	var behind []string
	for i := range a.Members {
		if a.Members[i].KnowsLevel < newest {
			behind = append(behind, cell(a.Members[i].Name))
		}
	}
	if newest == a.Level {
		return ""
	}
	if len(behind) == 0 {
		return fmt.Sprintf("all nodes know level %d, which begins in a moment", newest)
	}
	return fmt.Sprintf("level %d begins when these nodes run a version that knows it: %s", newest, strings.Join(behind, ", "))
}

func (m *memberAnswer) role() string {
	switch {
	case m.Leader:
		return "leader"
	case m.Voter:
		return "voter"
	default:
		return "joining"
	}
}

func (m *memberAnswer) state() string {
	switch {
	case !m.Reachable:
		return "unreachable"
	case m.DiskFull:
		return "disk full"
	default:
		return "ok"
	}
}

// clusterAddCmd adds a node.
type clusterAddCmd struct {
	Name    string `arg:"" help:"Name of the node."`
	Address string `arg:"" help:"Where it waits: its --cluster-advertise or --cluster-listen."`
	clientFlags
}

// Help says what has to be started first.
func (*clusterAddCmd) Help() string {
	return `The node has to wait for it: start it with an empty data directory and --join wait. It gets the log first, and votes when it
has caught up. A node that is started with the address of a member instead (--join host1:7334) needs no add.

Example, first on the new machine and then anywhere:

    doubledutch serve --name n4 --cluster-listen host4:7334 --join wait
    doubledutch cluster add n4 host4:7334`
}

// Run adds the node.
func (a *clusterAddCmd) Run(c *console) error {
	if err := checkNodeName(a.Name); err != nil {
		return err
	}
	if err := exitcode.With(exitcode.Usage, node.CheckAddress(a.Address)); err != nil {
		return err
	}
	body := map[string]string{"add": a.Name, "address": a.Address}
	return a.change(c, request{method: http.MethodPost, path: "/v1/cluster/members", body: body},
		a.Name+" is a member, and votes when it has caught up")
}

// clusterRemoveCmd removes a member.
type clusterRemoveCmd struct {
	Name string `arg:"" help:"Name of the node."`
	clientFlags
}

// Help says what becomes of the node.
func (*clusterRemoveCmd) Help() string {
	return `The node stops when it learns of it (exit code 14). To have it back, or to replace one that has lost its disk, remove
it, then start it with an empty data directory and --join.

Example:

    doubledutch cluster remove n3`
}

// Run removes the node.
func (r *clusterRemoveCmd) Run(c *console) error {
	if err := checkNodeName(r.Name); err != nil {
		return err
	}
	return r.change(c, request{method: http.MethodDelete, path: "/v1/cluster/members/" + url.PathEscape(r.Name)}, r.Name+" is no member any more")
}

// clusterPromoteCmd makes a voter.
type clusterPromoteCmd struct {
	Name string `arg:"" help:"Name of the node."`
	clientFlags
}

// Help says why it is seldom needed.
func (*clusterPromoteCmd) Help() string {
	return `A node that joined votes by itself once it has caught up, so this is seldom needed.

Example:

    doubledutch cluster promote n4`
}

// Run promotes the node.
func (p *clusterPromoteCmd) Run(c *console) error {
	if err := checkNodeName(p.Name); err != nil {
		return err
	}
	return p.change(c, request{method: http.MethodPost, path: "/v1/cluster/members", body: map[string]string{"promote": p.Name}}, p.Name+" votes")
}

// clusterTransferCmd hands leadership over.
type clusterTransferCmd struct {
	Name string `arg:"" optional:"" help:"Name of the node that shall lead (default: the one that is most up to date)."`
	clientFlags
}

// Help shows examples.
func (*clusterTransferCmd) Help() string {
	return `A leader that is stopped with SIGTERM hands leadership over by itself.

Examples:

    doubledutch cluster transfer
    doubledutch cluster transfer n2`
}

// Run hands leadership over.
func (t *clusterTransferCmd) Run(c *console) error {
	body, said := map[string]string{}, "leadership was handed over"
	if t.Name != "" {
		if err := checkNodeName(t.Name); err != nil {
			return err
		}
		body["to"], said = t.Name, t.Name+" leads"
	}
	return t.change(c, request{method: http.MethodPost, path: "/v1/cluster/transfer", body: body}, said)
}

// change makes a request that changes the cluster and prints what was done.
func (f *clientFlags) change(c *console, r request, said string) error {
	return f.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, r)
		if err != nil {
			return err
		}
		return f.report(c, got, &struct{}{}, func() string { return said })
	})
}

func checkNodeName(name string) error {
	return exitcode.With(exitcode.Usage, node.CheckName(name))
}
