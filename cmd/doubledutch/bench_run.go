package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/load"
)

// benchFlags are the flags of all workloads.
type benchFlags struct {
	Connections  int      `short:"c" default:"64" placeholder:"N" help:"How many work at a time, each with a connection of its own (default ${default})."`
	Duration     lifetime `short:"d" default:"10s" placeholder:"DURATION" help:"How long to measure (default ${default})."`
	TTL          lifetime `name:"ttl" default:"30s" placeholder:"DURATION" help:"Lifetime of the locks, at least 1s (default ${default})."`
	OwnerSize    int      `placeholder:"BYTES" help:"Size of the owner that each acquire brings (default 0)."`
	MetadataSize int      `placeholder:"BYTES" help:"Size of the metadata that each acquire brings (default 0)."`
	Prefix       filled   `default:"bench" placeholder:"TEXT" help:"What the names of the locks begin with (default ${default})."`
	ServerPID    []int    `name:"server-pid" placeholder:"PID" help:"Process of a server on this machine (Linux), whose CPU time and memory are wanted; can be repeated."`
	clientFlags
}

// benchWarmFlags are the flags of the workloads that go round and round.
type benchWarmFlags struct {
	WarmUp    seconds `default:"1s" placeholder:"DURATION" help:"What to leave out at the beginning (default ${default})."`
	Interface string  `enum:"v1,seed" default:"v1" help:"v1, or seed: GET /getLock and GET /releaseLock (default ${default})."`
}

func (b *benchWarmFlags) warm(p *load.Plan) { p.WarmUp, p.Interface = b.WarmUp.duration(), b.Interface }

// plan is what the flags ask for, as far as all workloads have them.
func (b *benchFlags) plan(workload string) load.Plan {
	return load.Plan{
		Workload: workload, Interface: load.V1, Connections: b.Connections, Duration: b.Duration.duration(),
		Timeout: b.Timeout.duration(), TTL: b.TTL.duration(), Prefix: string(b.Prefix), Owner: b.OwnerSize, Metadata: b.MetadataSize,
	}
}

// measure looks whether the servers are there, carries out the plan and prints what came out.
func (b *benchFlags) measure(c *console, plan load.Plan) error {
	if err := b.locate(&plan); err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	if err := plan.Check(); err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	server, err := b.greet(c)
	if err != nil {
		return err
	}
	outlivePipes() // if nobody reads the figures, the locks are to be released
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	line := newProgress(c)
	context.AfterFunc(ctx, func() {
		stop() // the next signal ends the program at once
		line.say("stopping, and releasing what is held")
	})
	options := load.Options{Server: *server, PIDs: b.ServerPID}
	if line.wanted {
		options.Watch = line.show
	}
	report, err := load.Run(ctx, plan, options)
	line.clear()
	if err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	if err := b.tell(c, report); err != nil {
		return err
	}
	return verdict(report)
}

// tell prints the report.
func (b *benchFlags) tell(c *console, r *load.Report) error {
	if b.JSON {
		return printJSON(c.out, r)
	}
	return printBench(c.out, r)
}

// verdict is the error of a run that did not come to its end, or came to nothing.
func verdict(r *load.Report) error {
	if r.Interrupted {
		return exitcode.With(exitcode.Interrupted, errors.New("interrupted; these are the figures so far"))
	}
	for i := range r.Phases {
		if p := &r.Phases[i]; p.Operations == 0 {
			return fmt.Errorf("not one operation of the phase %q succeeded", p.Name)
		}
	}
	return nil
}

// locate reads --server, which may name several, and how to trust them.
func (b *benchFlags) locate(p *load.Plan) error {
	key, err := b.load()
	if err != nil {
		return err
	}
	p.APIKey = key.reveal()
	transport, err := b.transport()
	if err != nil {
		return err
	}
	for _, server := range b.servers() {
		base, err := serverURL(server)
		if err != nil {
			return err
		}
		e, err := load.NewEndpoint(base, transport.TLSClientConfig)
		if err != nil {
			return err
		}
		p.Endpoints = append(p.Endpoints, e)
	}
	return nil
}

func (b *benchFlags) servers() []string {
	var all []string
	for s := range strings.SplitSeq(b.Server, ",") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// greet asks every server whether it is ready, and what it is: load on one that cannot take it would measure nothing.
func (b *benchFlags) greet(c *console) (*load.Server, error) {
	var first *clusterAnswer
	for _, server := range b.servers() {
		one := b.clientFlags
		one.Server = server
		var a clusterAnswer
		err := one.run(c, func(ctx context.Context, s *client) error { return introduce(ctx, s, &a) })
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = &a
		}
		if a.ID != first.ID {
			return nil, exitcode.With(exitcode.Usage, fmt.Errorf("%s is no node of the cluster that %s belongs to: their locks have nothing to do with each other", server, b.servers()[0]))
		}
	}
	s := &load.Server{Nodes: max(1, len(first.Members)), Volatile: first.Volatile}
	for _, m := range first.Members {
		if m.Name == first.Name {
			s.Version = m.Version
		}
	}
	return s, nil
}

// introduce fetches what a server that is ready says of itself.
func introduce(ctx context.Context, s *client, a *clusterAnswer) error {
	if _, err := s.do(ctx, request{method: http.MethodGet, path: "/readyz"}); err != nil {
		return err
	}
	got, err := s.do(ctx, request{method: http.MethodGet, path: "/v1/cluster"})
	if err != nil {
		return err
	}
	return decode(got.body, a)
}
