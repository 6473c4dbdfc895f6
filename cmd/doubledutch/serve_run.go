package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/server"
)

// Run brings the server up from the bottom, serves until a signal or a failure, and takes it down from the top.
func (s *serveCmd) Run(c *console) error {
	log := newLogger(c.err, s.LogLevel, s.LogFormat)
	outlivePipes()
	secureProcess(log) // before the first file is created
	fewer := s.fitConnections(log)
	key, err := s.load()
	if err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	// What is wrong with the door's settings is told before a long log is replayed.
	metrics, late := server.NewMetrics(), &lateNode{}
	door, err := server.New(s.doorConfig(late, key, log, metrics))
	if err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	ctx, stop := untilSignal(log)
	defer stop()
	exitAfter(ctx, s.ShutdownTimeout.duration(), log)

	served := make(chan error, 1)
	member, err := s.openBoth(ctx, log, metrics, late, door, served)
	if err != nil || member == nil {
		return err
	}
	if err := s.announce(ctx, c, log, door, member, key); err != nil {
		log.Warn("cannot print the start-up block", "error", err)
	}
	if fewer > 0 {
		log.Info("the system's limit on open files allows fewer connections than --max-connections", "max_connections", fewer)
	}

	err = s.wait(ctx, served)
	stop() // also when serving ended by itself: from here on the time for stopping runs
	return errors.Join(err, s.shutDown(log, door, member))
}

// openNode opens the data directory and returns a member that can serve. A node of a new cluster, or one that joins, gets
// there when the others are there too: that takes as long as it takes, and ends with ctx.
func (s *serveCmd) openNode(ctx context.Context, log *slog.Logger, metrics *server.Metrics) (*node.Node, error) {
	dir := s.DataDir
	if s.Volatile {
		dir = ""
	}
	return node.Open(ctx, node.Config{
		Dir:         dir,
		Version:     version(),
		Settings:    s.settings(),
		Logger:      log,
		Observer:    metrics,
		Fatal:       func(err error) { die(log, err) },
		MinFree:     int64(s.MinFreeSpace),
		HangTimeout: s.HangTimeout.duration(),
		Cluster:     s.cluster(s.Insecure, log),

		SnapshotBytes: int64(s.SnapshotSize),
	})
}

// openBoth opens the node and the door. A single server opens its door last, so that whoever can connect is served, and
// nothing is answered before everything that was ever promised is back. A node of a cluster may have to wait for the
// others, and whoever watches over it must be able to tell that from being dead: its door opens first and answers 503.
// There is neither a node nor an error if it was stopped, as asked, before it was up.
func (s *serveCmd) openBoth(ctx context.Context, log *slog.Logger, metrics *server.Metrics, late *lateNode, door *server.Server, served chan<- error) (*node.Node, error) {
	open := func() error {
		if err := door.Listen(); err != nil {
			return err
		}
		go func() { served <- door.Serve() }()
		return nil
	}
	if s.ClusterListen != "" {
		if err := open(); err != nil {
			return nil, err
		}
		log.Info("answering 503 until the other nodes are found", "address", door.Addr().String())
	}
	member, err := s.openNode(ctx, log, metrics)
	if err != nil {
		s.closeDoor(door)
		return nil, startError(err)
	}
	late.come(member)
	if s.ClusterListen == "" {
		if err := open(); err != nil {
			return nil, errors.Join(err, member.Close())
		}
	}
	return member, nil
}

// closeDoor closes a door behind which there was never a node: nobody waits there for long.
func (s *serveCmd) closeDoor(door *server.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), s.ShutdownTimeout.duration()/4)
	defer cancel()
	_ = door.Shutdown(ctx)
}

// doorConfig is what the flags say of the door.
func (s *serveCmd) doorConfig(member server.Backend, key secret, log *slog.Logger, metrics *server.Metrics) server.Config {
	return server.Config{
		Backend:             member,
		APIKey:              key.reveal(),
		ServerName:          s.ServerName,
		Version:             version(),
		AllowedHosts:        append(certificateHosts(s.TLSCert), s.AllowedHost...),
		Listen:              s.Listen,
		TLSCert:             s.TLSCert,
		TLSKey:              s.TLSKey,
		Insecure:            s.Insecure,
		MaxConnections:      s.MaxConnections,
		MaxConnectionsPerIP: s.MaxConnectionsPerIP,
		Logger:              log,
		Metrics:             metrics,
	}
}

// announce tells the person at the terminal and the service manager that the server can be used.
func (s *serveCmd) announce(ctx context.Context, c *console, log *slog.Logger, door *server.Server, member *node.Node, key secret) error {
	b := s.banner(door.Addr().String(), key)
	if err := b.recover(ctx, member); err != nil {
		return err
	}
	if s.ClusterListen != "" {
		b.members = member.Members(ctx)
	}
	log.Info("serving", b.attrs()...)
	if err := notifyManager("READY=1"); err != nil {
		log.Warn("cannot tell the service manager that the server is ready", "error", err)
	}
	if s.Quiet {
		return nil
	}
	_, err := fmt.Fprint(c.out, b.text())
	return err
}

// wait returns nil when a signal came, or the error that ended serving.
func (s *serveCmd) wait(ctx context.Context, served <-chan error) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return fmt.Errorf("serving ended: %w", err)
	}
}

// shutDown stops the door first, so that nobody is promised anything that the node can no longer keep; then the node,
// which finishes what it has taken on and closes the disk.
func (s *serveCmd) shutDown(log *slog.Logger, door *server.Server, member *node.Node) error {
	_ = notifyManager("STOPPING=1")
	ctx, cancel := context.WithTimeout(context.Background(), s.ShutdownTimeout.duration()*3/4) // the rest is the node's
	defer cancel()
	if err := door.Shutdown(ctx); err != nil {
		log.Warn("some requests were cut off", "error", err)
	}
	if err := member.Close(); err != nil {
		return fmt.Errorf("closing the data directory: %w", err)
	}
	log.Info("stopped")
	return nil
}

// fitConnections lowers --max-connections to what the system's limit on open files leaves room for, and returns the new
// bound if it is lower. A server that runs out of files refuses connections anyhow, but then it also fails to open the
// next file of its log.
func (s *serveCmd) fitConnections(log *slog.Logger) int {
	files := openFiles(log)
	if files == 0 || files >= uint64(s.MaxConnections)+filesBesideConnections {
		return 0
	}
	s.MaxConnections = int(max(files, 2*filesBesideConnections) - filesBesideConnections)
	return s.MaxConnections
}

// filesBesideConnections is a generous guess at how many files the log, the snapshots and the runtime have open.
const filesBesideConnections = 128
