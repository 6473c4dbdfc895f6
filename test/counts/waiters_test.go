//go:build linux && !race

package counts

import (
	"bytes"
	"context"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

const (
	crowd = 1000 // so many clients come to a door
	slack = 50   // goroutines of the server that come and go
)

// socket is a client that takes no memory of this process: a file descriptor, which blocks.
type socket int

func (d *door) socket(t *testing.T) socket {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: d.port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	return socket(fd)
}

func (s socket) send(t *testing.T, path string) {
	t.Helper()
	if _, err := syscall.Write(int(s), []byte("GET "+path+tail)); err != nil {
		t.Fatal(err)
	}
}

// receive reads the answer to its end, which must be the end of a packet.
func (s socket) receive(t *testing.T) {
	t.Helper()
	var answer [1024]byte
	n, err := syscall.Read(int(s), answer[:])
	if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200")) {
		t.Fatalf("answered %q, %v", answer[:n], err)
	}
}

// What a connection takes between two requests, and while it waits for a lock.
func TestWaitersAreSmall(t *testing.T) {
	// Each processor keeps stacks in reserve; of many processors that would be much.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	d := openDoor(t)
	d.dial(t).get([]byte("/getLock/db/3600"))
	before, goroutines := memory(), runtime.NumGoroutine()
	clients := make([]socket, crowd)
	defer func() {
		for _, c := range clients {
			_ = syscall.Close(int(c))
		}
	}()
	for i := range clients {
		clients[i] = d.socket(t)
		clients[i].send(t, "/getLock/db") // it is refused
		clients[i].receive(t)
	}
	settle(t, goroutines+crowd+slack)
	idleBytes.holds(t, (memory()-before)/crowd)
	idleGoroutines.holds(t, float64(runtime.NumGoroutine()-goroutines)/crowd)

	for _, c := range clients {
		c.send(t, "/getLock/db?timeout=3600")
	}
	d.awaitQueue(t, "db", crowd)
	settle(t, goroutines+2*crowd+slack)
	parkedBytes.holds(t, (memory()-before)/crowd)
	parkedGoroutines.holds(t, float64(runtime.NumGoroutine()-goroutines)/crowd)
}

func (d *door) awaitQueue(t *testing.T, name string, n int) {
	t.Helper()
	eventually(t, "a full queue", func() bool {
		got := 0
		err := d.node.Read(context.Background(), func(table *locktable.Table, _ locktable.Time) {
			l, _ := table.Lock(name, 0)
			got = l.NumWaiters
		})
		return err == nil && got == n
	})
}

// settle waits until no more goroutines run than most, as when all that were busy with requests have ended.
func settle(t *testing.T, most int) {
	t.Helper()
	eventually(t, "goroutines that end", func() bool { return runtime.NumGoroutine() <= most })
}

// eventually looks again and again.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !done(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
