package client_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/client"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/server"
)

// serve starts a server in this process, on a free port of the loopback interface, and returns its address.
func serve() (url string, stop func()) {
	log := slog.New(slog.DiscardHandler)
	n, err := node.Open(context.Background(), node.Config{Logger: log})
	if err != nil {
		panic(err)
	}
	s, err := server.New(server.Config{Backend: n, Listen: "127.0.0.1:0", Version: "test", Logger: log})
	if err != nil {
		panic(err)
	}
	if err := s.Listen(); err != nil {
		panic(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	return "http://" + s.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-served; err != nil {
			panic(err)
		}
		_ = n.Close()
	}
}

// open makes a client of a server of its own.
func open(t *testing.T, options ...client.Option) *client.Client {
	t.Helper()
	url, stop := serve()
	t.Cleanup(stop)
	return dial(t, url, options...)
}

func dial(t *testing.T, url string, options ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New([]string{url}, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
