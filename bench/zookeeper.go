package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

const zookeeperJar = "/usr/share/java/zookeeper.jar"

func zookeeper() *System {
	return &System{
		Name: "ZooKeeper, one node", Kept: "yes", Settings: "defaults, `-Xmx1g`; go-zookeeper/zk with zk.Lock, a session for each client",
		programs: []string{"java", "/usr/share/zookeeper/bin/zkServer.sh"}, packages: []string{"zookeeper"}, start: startZookeeper,
	}
}

func startZookeeper(ctx context.Context, h *host) (*service, error) {
	at, err := address()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(h.dir, "zoo.cfg")
	text := fmt.Sprintf("tickTime=2000\ndataDir=%s\nclientPortAddress=127.0.0.1\nclientPort=%s\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\n",
		filepath.Join(h.dir, "data"), port(at))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if err := h.start("", "java", "-Xmx1g", "-cp", zookeeperJar, "org.apache.zookeeper.server.quorum.QuorumPeerMain", config); err != nil {
		return nil, err
	}
	s, err := h.await(ctx, &service{dial: func(ctx context.Context, _ int) (client, error) { return dialZookeeper(ctx, at) }})
	if err != nil {
		return nil, err
	}
	s.version, err = zookeeperVersion(at)
	return s, err
}

// zookeeperVersion asks the server, which answers "Zookeeper version: 3.8.0-…, built on …" and more.
func zookeeperVersion(at string) (string, error) {
	conn, err := net.DialTimeout("tcp", at, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("srvr")); err != nil {
		return "", err
	}
	answer := make([]byte, 200)
	n, err := conn.Read(answer)
	first, _, _ := strings.Cut(strings.TrimPrefix(string(answer[:n]), "Zookeeper version: "), ",")
	number, _, _ := strings.Cut(first, "-")
	return number, err
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func dialZookeeper(ctx context.Context, at string) (client, error) {
	c, events, err := zk.Connect([]string{at}, ttl, zk.WithLogger(quiet{}))
	if err != nil {
		return nil, err
	}
	for {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				return &zookeeperClient{c}, nil
			}
		case <-ctx.Done():
			c.Close()
			return nil, ctx.Err()
		}
	}
}

type zookeeperClient struct{ conn *zk.Conn }

func (c *zookeeperClient) lock(ctx context.Context, name string) (held, error) {
	defer context.AfterFunc(ctx, c.conn.Close)() // nothing else ends its waiting
	l := zk.NewLock(c.conn, "/locks/"+name, zk.WorldACL(zk.PermAll))
	if err := l.Lock(); err != nil {
		return nil, err
	}
	return zookeeperHeld{l}, nil
}

func (c *zookeeperClient) close() { c.conn.Close() }

type zookeeperHeld struct{ *zk.Lock }

func (h zookeeperHeld) unlock(context.Context) error { return h.Unlock() }
