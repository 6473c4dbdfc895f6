package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/doubledutch-lock/doubledutch/client"
)

// The server of the examples is one in this process.
func Example() {
	address, stop := serve()
	defer stop()
	ctx := context.Background()

	c, err := client.New([]string{address})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	lease, err := c.Lock(ctx, "database", client.TTL(10*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("held:", lease.Err() == nil, "with token", lease.Token())
	// Work under lease.Context(), and give lease.Token() to what the lock protects.

	if err := lease.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ended:", errors.Is(context.Cause(lease.Context()), client.ErrReleased))
	// Output:
	// held: true with token 1
	// ended: true
}

func ExampleClient_Do() {
	address, stop := serve()
	defer stop()
	c, err := client.New([]string{address})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	err = c.Do(context.Background(), "nightly", func(ctx context.Context, lease *client.Lease) error {
		fmt.Println("working alone on", lease.Name())
		return ctx.Err()
	})
	fmt.Println(err)
	// Output:
	// working alone on nightly
	// <nil>
}

func ExampleClient_TryLock() {
	address, stop := serve()
	defer stop()
	ctx := context.Background()
	c, err := client.New([]string{address}, client.WithOwner("worker-3"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	first, err := c.TryLock(ctx, "report")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = first.Unlock(ctx) }()

	_, err = c.TryLock(ctx, "report")
	var problem *client.Problem
	if errors.Is(err, client.ErrHeld) && errors.As(err, &problem) {
		fmt.Println("held by", problem.Holder.Owner)
	}
	// Output: held by worker-3
}

func ExampleClient_LockAll() {
	address, stop := serve()
	defer stop()
	ctx := context.Background()
	c, err := client.New([]string{address})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	lease, err := c.LockAll(ctx, []string{"accounts/alice", "accounts/bob", "rates"}, client.SharedFor("rates"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(lease.Names())
	_ = lease.Unlock(ctx)
	// Output: [accounts/alice accounts/bob rates]
}

func ExampleClient_Once() {
	address, stop := serve()
	defer stop()
	ctx := context.Background()
	c, err := client.New([]string{address})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	migrate := func(context.Context, *client.Claim) (string, error) {
		fmt.Println("migrating")
		return "version 42", nil
	}
	for range 2 {
		done, err := c.Once(ctx, "migrate-42", migrate, client.MaxAttempts(3))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(done.Result, done.Mine)
	}
	// Output:
	// migrating
	// version 42 true
	// version 42 false
}

func ExampleClient_Campaign() {
	address, stop := serve()
	defer stop()
	ctx := context.Background()
	c, err := client.New([]string{address}, client.WithOwner("host-1"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	office, err := c.Campaign(ctx, "scheduler", "http://10.0.0.7:8080")
	if err != nil {
		log.Fatal(err)
	}
	leader, err := c.Leader(ctx, "scheduler")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(leader.Owner, leader.Value)
	// Lead until office.Context() ends.
	if err := office.Resign(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = c.Leader(ctx, "scheduler")
	fmt.Println(errors.Is(err, client.ErrNoLeader))
	// Output:
	// host-1 http://10.0.0.7:8080
	// true
}

func ExampleClient_Open() {
	address, stop := serve()
	defer stop()
	ctx := context.Background()
	c, err := client.New([]string{address})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	session, err := c.Open(ctx, client.TTL(15*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	first, err := session.Lock(ctx, "table")
	if err != nil {
		log.Fatal(err)
	}
	again, err := session.Lock(ctx, "table")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first.Token() == again.Token())
	if err := session.End(ctx); err != nil { // unlocks everything
		log.Fatal(err)
	}
	fmt.Println(errors.Is(again.Err(), client.ErrReleased))
	// Output:
	// true
	// true
}

func ExampleClient_Watch() {
	address, stop := serve()
	defer stop()
	ctx := context.Background()
	c, err := client.New([]string{address})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	for event, err := range c.Watch(ctx, client.OfLock("door")) {
		if err != nil {
			log.Fatal(err)
		}
		if event.Kind == client.EventBegan { // nothing is missed from here on
			if err := c.Do(ctx, "door", func(context.Context, *client.Lease) error { return nil }); err != nil {
				log.Fatal(err)
			}
			continue
		}
		fmt.Println(event.Kind, event.Name)
		if event.Kind == "released" {
			break
		}
	}
	// Output:
	// granted door
	// released door
}
