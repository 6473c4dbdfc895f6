package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

func etcdOne() *System {
	return &System{
		Name: "etcd, one node", Kept: "yes", Settings: "defaults; clientv3 with concurrency.Mutex, a session for each client",
		start: func(ctx context.Context, h *host) (*service, error) { return startEtcd(ctx, h, 1) },
	}
}

func etcdThree() *System {
	return &System{
		Name: "etcd, three nodes", Kept: "yes, on two of three", Settings: "defaults; client as above, clients spread over the nodes",
		start: func(ctx context.Context, h *host) (*service, error) { return startEtcd(ctx, h, 3) },
	}
}

func startEtcd(ctx context.Context, h *host, nodes int) (*service, error) {
	all, err := addresses(2 * nodes)
	if err != nil {
		return nil, err
	}
	doors, peers := all[:nodes], all[nodes:]
	var members []string
	for i, peer := range peers {
		members = append(members, fmt.Sprintf("n%d=http://%s", i, peer))
	}
	program := filepath.Join(h.shared, "etcd")
	for i := range nodes {
		door, peer := "http://"+doors[i], "http://"+peers[i]
		err := h.start("", program, "--name", fmt.Sprint("n", i), "--data-dir", filepath.Join(h.dir, fmt.Sprint("data", i)),
			"--listen-client-urls", door, "--advertise-client-urls", door, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(members, ","), "--log-level", "error")
		if err != nil {
			return nil, err
		}
	}
	s, err := h.await(ctx, &service{dial: func(ctx context.Context, id int) (client, error) { return dialEtcd(ctx, doors[id%nodes]) }})
	if err != nil {
		return nil, err
	}
	version, err := h.prepare(ctx, "", program, "--version")
	first, _, _ := strings.Cut(version, "\n")
	s.version = strings.TrimPrefix(first, "etcd Version: ")
	return s, err
}

func dialEtcd(ctx context.Context, door string) (client, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{door}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	lease, err := c.Grant(ctx, int64(ttl.Seconds()))
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	s, err := concurrency.NewSession(c, concurrency.WithLease(lease.ID))
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &etcdClient{c, s}, nil
}

type etcdClient struct {
	conn    *clientv3.Client
	session *concurrency.Session
}

func (c *etcdClient) lock(ctx context.Context, name string) (held, error) {
	m := concurrency.NewMutex(c.session, "/locks/"+name)
	if err := m.Lock(ctx); err != nil {
		return nil, err
	}
	return etcdHeld{m}, nil
}

func (c *etcdClient) close() {
	_ = c.session.Close()
	_ = c.conn.Close()
}

type etcdHeld struct{ *concurrency.Mutex }

func (h etcdHeld) unlock(ctx context.Context) error { return h.Unlock(ctx) }
