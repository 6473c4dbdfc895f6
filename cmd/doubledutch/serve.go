package main

import (
	"errors"
	"fmt"

	"github.com/alecthomas/kong"
)

// serveCmd runs the server.
type serveCmd struct {
	Listen  string `default:"127.0.0.1:7333" placeholder:"ADDRESS" help:"Address and port to listen on (default ${default}); port 0 takes a free one."`
	DataDir string `default:"doubledutch-data" placeholder:"DIR" help:"Where locks are kept (default ${default}); made if it does not exist."`

	Volatile bool `help:"Keep everything in memory: nothing survives a restart."`
	Quiet    bool `help:"Do not print the block that says where the server listens."`
	apiKey
	clusterFlags
	ServerName string `placeholder:"NAME" help:"What the classic interface calls this server (default DoubleDutch/VERSION)."`

	TLSCert     string   `name:"tls-cert" placeholder:"FILE" help:"PEM file with the certificate; read again when it changes."`
	TLSKey      string   `name:"tls-key" placeholder:"FILE" help:"PEM file with the certificate's key."`
	Insecure    bool     `help:"Allow an address that others can reach without TLS and an API key."`
	AllowedHost []string `placeholder:"NAME" help:"Host name by which clients may address the server; can be repeated. Loopback addresses, localhost and the names in the certificate always may."`

	MaxConnections      int `default:"20000" placeholder:"N" help:"Most connections at a time (default ${default})."`
	MaxConnectionsPerIP int `name:"max-connections-per-ip" default:"200" placeholder:"N" help:"Most connections at a time from one address (default ${default})."`

	MaxTTL            seconds `name:"max-ttl" default:"${max_ttl}" placeholder:"DURATION" help:"Longest lifetime that a client may ask for (default ${default})."`
	MaxLocks          uint32  `default:"${max_locks}" placeholder:"N" help:"Most locks at a time (default ${default})."`
	MaxWaitersPerLock uint32  `default:"${max_waiters_per_lock}" placeholder:"N" help:"Longest queue of one lock (default ${default})."`
	MaxSessions       uint32  `default:"${max_sessions}" placeholder:"N" help:"Most sessions at a time (default ${default})."`

	MinFreeSpace    byteSize `default:"32MiB" placeholder:"SIZE" help:"With less free disk space, new locks are refused; what is held can be renewed and released (default ${default})."`
	HangTimeout     seconds  `default:"10s" placeholder:"DURATION" help:"End the program when the disk does not answer for so long (default ${default})."`
	ShutdownTimeout seconds  `default:"10s" placeholder:"DURATION" help:"How long a shutdown may take (default ${default})."`

	// For tests: a cluster that never snapshots would not show what installing one does.
	SnapshotSize byteSize `hidden:"" default:"64MiB" placeholder:"SIZE" help:"Size of the log that brings the next snapshot."`

	LogLevel  string `enum:"debug,info,warn,error" default:"info" help:"debug, info, warn or error (default ${default})."`
	LogFormat string `enum:"auto,text,json" default:"auto" help:"text, json, or auto: text on a terminal and JSON elsewhere (default ${default})."`
}

// Help shows the usual ways to run a server.
func (*serveCmd) Help() string {
	return `Logs go to standard error. Once the server can be used, a short block on standard output says where it listens.
SIGTERM and SIGINT stop it: who waits is told to come back, what is in flight is finished, and the exit code is 0. A
second signal ends it at once.

Examples:

    doubledutch serve
    doubledutch serve --volatile --listen 127.0.0.1:0
    doubledutch serve --listen 0.0.0.0:7333 --api-key-file key --tls-cert cert.pem --tls-key key.pem
    doubledutch --config /etc/doubledutch.json serve

A cluster of three begins when this was started on each of host1 to host3, with its own --name and --cluster-listen:

    doubledutch serve --name n1 --cluster-listen host1:7334 --cluster n1=host1:7334,n2=host2:7334,n3=host3:7334 \
        --cluster-cert n1.pem --cluster-key n1-key.pem --cluster-ca ca.pem`
}

// AfterApply refuses flags that contradict each other.
func (s *serveCmd) AfterApply(ctx *kong.Context) error {
	from := newSources(ctx)
	if err := from.settle("api-key", "api-key-file"); err != nil {
		return err
	}
	if err := from.settle("volatile", "data-dir"); err != nil {
		return err
	}
	return s.check()
}

// check refuses values that cannot work, whatever the rest of the system looks like.
func (s *serveCmd) check() error {
	switch {
	case s.TLSCert != "" && s.TLSKey == "":
		return errors.New("--tls-cert needs --tls-key as well")
	case s.TLSKey != "" && s.TLSCert == "":
		return errors.New("--tls-key needs --tls-cert as well")
	case !s.Volatile && s.DataDir == "":
		return errors.New("--data-dir is empty: name a directory, or give --volatile to keep nothing")
	}
	return errors.Join(s.clusterFlags.check(), s.checkPositive())
}

// checkPositive refuses limits of zero, with which nothing would work.
func (s *serveCmd) checkPositive() error {
	for _, limit := range []struct {
		flag  string
		value int64
	}{
		{"max-connections", int64(s.MaxConnections)},
		{"max-connections-per-ip", int64(s.MaxConnectionsPerIP)},
		{"max-ttl", int64(s.MaxTTL)},
		{"max-locks", int64(s.MaxLocks)},
		{"max-waiters-per-lock", int64(s.MaxWaitersPerLock)},
		{"max-sessions", int64(s.MaxSessions)},
		{"hang-timeout", int64(s.HangTimeout)},
		{"shutdown-timeout", int64(s.ShutdownTimeout)},
	} {
		if limit.value <= 0 {
			return fmt.Errorf("--%s must be greater than 0", limit.flag)
		}
	}
	return nil
}
