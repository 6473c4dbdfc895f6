package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAnswersComeInAnyOrder(t *testing.T) {
	const n = 200
	var arrived sync.WaitGroup
	arrived.Add(n)
	gates := make([]chan struct{}, n)
	for i := range gates {
		gates[i] = make(chan struct{})
	}
	b := start(t, "n2", handling(func(_ context.Context, from Identity, r []byte) ([]byte, error) {
		i := binary.BigEndian.Uint32(r)
		arrived.Done()
		<-gates[i]
		if i > 0 {
			close(gates[i-1]) // the last one to come is the first to be answered
		}
		return fmt.Appendf(nil, "%s %d", from.Name, i), nil
	}))
	a := start(t, "n1")
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			want := fmt.Sprintf("n1 %d", i)
			if got := mustCall(t, a, b.Addr(), string(binary.BigEndian.AppendUint32(nil, uint32(i)))); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	arrived.Wait()
	close(gates[n-1])
	calls.Wait()
	if s := a.Stats(); s.Dialled != 1 || s.Sent != n {
		t.Errorf("%+v: want %d calls over one connection", s, n)
	}
	eventually(t, "all handled", func() bool { return b.Stats().Handled == n })
}

func TestErrorsOfHandleArrive(t *testing.T) {
	b := start(t, "n2", handling(func(_ context.Context, _ Identity, r []byte) ([]byte, error) {
		switch string(r) {
		case "panic":
			panic("a secret")
		case "huge":
			return make([]byte, MaxPayload+1), nil
		case "wordy":
			return nil, errors.New(strings.Repeat("x", 1<<20))
		}
		return nil, errors.New("no such lock")
	}))
	a := start(t, "n1")
	for request, want := range map[string]string{
		"": "no such lock", "panic": "internal error", "huge": "is the most", "wordy": "xxx",
	} {
		_, err := a.Call(patience(t), b.Addr(), []byte(request))
		var remote *RemoteError
		if !errors.As(err, &remote) || !strings.Contains(remote.Text, want) || strings.Contains(remote.Text, "secret") {
			t.Errorf("%q: %.100v", request, err)
		}
		if errors.Is(err, ErrBroken) || errors.Is(err, ErrUnreachable) {
			t.Errorf("%q: %.100v", request, err)
		}
	}
}

func TestBigPayloads(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", secure), func(t *testing.T) {
			var mine, yours []func(*Config)
			if secure {
				files := certs(t, "n1", "n2")
				mine, yours = with(withTLS(files["n1"])), with(withTLS(files["n2"]))
			}
			a, b := start(t, "n1", mine...), start(t, "n2", yours...)
			var wg sync.WaitGroup
			for i, size := range []int{0, 1, bufferSize - frameHead, bufferSize, writeChunk + 1, MaxPayload} {
				wg.Go(func() {
					request := bytes.Repeat([]byte{byte(i), 7}, size/2+1)[:size]
					answer, err := a.Call(patience(t), b.Addr(), request)
					if err != nil || !bytes.Equal(answer, request) {
						t.Errorf("%d bytes: %d back, %v", size, len(answer), err)
					}
				})
			}
			wg.Wait()
			if _, err := a.Call(patience(t), b.Addr(), make([]byte, MaxPayload+1)); !errors.Is(err, ErrUnreachable) {
				t.Errorf("too much: %v", err)
			}
		})
	}
}

func TestCancelReachesHandle(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	b := start(t, "n2", handling(func(ctx context.Context, _ Identity, r []byte) ([]byte, error) {
		if len(r) > 0 {
			return r, nil
		}
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}))
	a := start(t, "n1")
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the client hung up")
	go func() { <-began; cancel(why) }()
	_, err := a.Call(ctx, b.Addr(), nil)
	if !errors.Is(err, ErrBroken) || !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Handle is told %v", err)
	}
	if got := mustCall(t, a, b.Addr(), "still here"); got != "still here" {
		t.Errorf("after a cancel: %q", got)
	}
	if n := a.Stats().Dialled; n != 1 {
		t.Errorf("%d connections; a cancel must not cost one", n)
	}
}

func TestCutMidCallIsBroken(t *testing.T) {
	began := make(chan struct{})
	gone := make(chan error, 1)
	b := start(t, "n2", handling(func(ctx context.Context, _ Identity, r []byte) ([]byte, error) {
		if len(r) > 0 {
			return r, nil
		}
		close(began)
		<-ctx.Done()
		gone <- context.Cause(ctx)
		return nil, ctx.Err()
	}))
	a := start(t, "n1")
	go func() {
		<-began
		for _, c := range b.connections() {
			c.abort()
		}
	}()
	_, err := a.Call(patience(t), b.Addr(), nil)
	if !errors.Is(err, ErrBroken) || errors.Is(err, ErrUnreachable) {
		t.Errorf("cut: %v", err)
	}
	if err := <-gone; !errors.Is(err, errGone) {
		t.Errorf("Handle is told %v", err)
	}
	if got := mustCall(t, a, b.Addr(), "again"); got != "again" {
		t.Errorf("after reconnecting: %q", got)
	}
	if s := a.Stats(); s.Dialled != 2 || s.Broken != 1 {
		t.Errorf("%+v", s)
	}
}

func TestNobodyThereIsUnreachable(t *testing.T) {
	a, b := start(t, "n1"), start(t, "n2")
	addr := b.Addr()
	_ = b.Close()
	for range 2 { // the second fails out of memory
		if _, err := a.Call(patience(t), addr, nil); !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrBroken) {
			t.Errorf("refused connect: %v", err)
		}
	}
	if n := a.Stats().DialFailed; n != 1 {
		t.Errorf("%d attempts within the first backoff", n)
	}
	again := start(t, "n2", func(c *Config) { c.Listen = addr })
	eventually(t, "reconnected", func() bool {
		answer, err := a.Call(patience(t), again.Addr(), []byte("x"))
		return err == nil && string(answer) == "x"
	})
}

func TestJoinerBecomesMember(t *testing.T) {
	var mu sync.Mutex // guards self
	self := Identity{Name: "n1", Instance: "i1"}
	froms := make(chan Identity, 2)
	b := start(t, "n2", handling(func(_ context.Context, from Identity, _ []byte) ([]byte, error) {
		froms <- from
		return []byte("c1"), nil
	}))
	a := start(t, "n1", func(c *Config) {
		c.Self = func() Identity { mu.Lock(); defer mu.Unlock(); return self }
	})
	id := mustCall(t, a, b.Addr(), "join")
	mu.Lock()
	self.ClusterID = id
	mu.Unlock()
	mustCall(t, a, b.Addr(), "status")
	if f := <-froms; f.ClusterID != "" {
		t.Errorf("joining from %+v", f)
	}
	if f := <-froms; f.ClusterID != "c1" {
		t.Errorf("calling from %+v over the connection of before", f)
	}
}

// A member reaches a node that belongs to no cluster only when it says that this is what it wants; and never one of another.
func TestMeet(t *testing.T) {
	froms := make(chan Identity, 1)
	lone := start(t, "n2", as(Identity{Name: "n2", Instance: "i2"}), handling(func(_ context.Context, from Identity, request []byte) ([]byte, error) {
		froms <- from
		return request, nil
	}))
	foreign := start(t, "n3", as(Identity{ClusterID: "c9", Name: "n3", Instance: "i3"}))
	a := start(t, "n1")
	if _, err := a.Call(patience(t), lone.Addr(), nil); !errors.Is(err, ErrRefused) {
		t.Errorf("call: %v", err)
	}
	answer, err := a.Meet(patience(t), lone.Addr(), []byte("hello"))
	if err != nil || string(answer) != "hello" {
		t.Fatalf("answer %q, error %v", answer, err)
	}
	if from := <-froms; from != ident("n1") {
		t.Errorf("from %+v", from)
	}
	if _, err := a.Meet(patience(t), foreign.Addr(), nil); !errors.Is(err, ErrRefused) {
		t.Errorf("another cluster: %v", err)
	}
	for _, addr := range []string{"169.254.169.254:80", "[fe80::1]:80", "0.0.0.0:80"} {
		if _, err := a.Meet(patience(t), addr, nil); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "cannot have this address") {
			t.Errorf("H16: %s: %v", addr, err)
		}
	}
}

func TestRecheckDisconnects(t *testing.T) {
	var mu sync.Mutex // guards removed
	removed := false
	began := make(chan struct{})
	b := start(t, "n2", admitting(func(Identity, Kind) error {
		mu.Lock()
		defer mu.Unlock()
		if removed {
			return errNo
		}
		return nil
	}), handling(func(ctx context.Context, _ Identity, _ []byte) ([]byte, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	a := start(t, "n1")
	go func() {
		<-began
		b.Recheck() // nobody is removed yet
		mu.Lock()
		removed = true
		mu.Unlock()
		b.Recheck()
	}()
	if _, err := a.Call(patience(t), b.Addr(), nil); !errors.Is(err, ErrBroken) {
		t.Errorf("in flight: %v", err)
	}
	_, err := a.Call(patience(t), b.Addr(), nil)
	checkRefusal(t, err, errNo.Error())
}

func TestCloseEndsEverything(t *testing.T) {
	began := make(chan struct{}, 3)
	stuck := handling(func(ctx context.Context, _ Identity, _ []byte) ([]byte, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	a, b := start(t, "n1", stuck), start(t, "n2", stuck)
	errs := make(chan error, 3)
	for range 2 {
		go func() { _, err := a.Call(patience(t), b.Addr(), nil); errs <- err }()
	}
	go func() { _, err := b.Call(patience(t), a.Addr(), nil); errs <- err }()
	for range 3 {
		<-began
	}
	_ = rawDial(t, b) // a stranger who says nothing
	eventually(t, "stranger seen", func() bool { return b.Stats().Open == 3 })
	_, err := a.RaftLayer().Dial("127.0.0.1:1", 0)
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("port 1: %v", err)
	}
	for _, p := range []*Peer{a, b, b} {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	for range 3 {
		if err := <-errs; !errors.Is(err, ErrBroken) {
			t.Errorf("in flight: %v", err)
		}
	}
	for _, p := range []*Peer{a, b} {
		if s := p.Stats(); s.Open != 0 {
			t.Errorf("%d connections are left", s.Open)
		}
		if _, err := p.RaftLayer().Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
		if _, err := p.Call(patience(t), a.Addr(), nil); !errors.Is(err, ErrUnreachable) {
			t.Errorf("call: %v", err)
		}
		if p.accepted != 0 || p.greeting != 0 || len(p.perHost)+len(p.greetHost)+len(p.perInstance) != 0 {
			t.Errorf("counts are left: %d %d %v %v %v", p.accepted, p.greeting, p.perHost, p.greetHost, p.perInstance)
		}
		if free := p.busy; free.calls != totalCalls || free.bytes != totalBytes {
			t.Errorf("room is lost: %d calls, %d bytes", free.calls, free.bytes)
		}
	}
}

// A caller that ignores the limits of a connection is not read from until there is room, and stays connected.
func TestTooManyCallsWait(t *testing.T) {
	began, release := make(chan struct{}, connCalls), make(chan struct{})
	b := start(t, "n2", handling(func(_ context.Context, _ Identity, r []byte) ([]byte, error) {
		began <- struct{}{}
		<-release
		return r, nil
	}))
	a := start(t, "n1")
	conn, err := a.dial(patience(t), b.Addr(), Call)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.abort()
	var out bytes.Buffer
	for id := range uint64(connCalls + 10) {
		var head [frameHead]byte
		putFrameHead(&head, &frame{kind: frameRequest, id: id})
		out.Write(head[:])
	}
	if _, err := conn.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	for range connCalls {
		<-began
	}
	select {
	case <-began:
		t.Error("one call too many is handled")
	default:
	}
	close(release)
	w := newWire(conn)
	for range connCalls + 10 {
		if f, _, err := w.readHead(); err != nil || f.kind != frameAnswer {
			t.Fatal(f, err)
		}
	}
}

func TestNonsenseEndsCallConnection(t *testing.T) {
	b := start(t, "n2")
	a := start(t, "n1")
	for name, b2 := range map[string][]byte{
		"unknown kind":      {99, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0},
		"answer to a serve": {frameAnswer, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0},
		"too long":          {frameRequest, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1},
		"beat with payload": {frameBeat, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0},
	} {
		conn, err := a.dial(patience(t), b.Addr(), Call)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(b2); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second)) // before deathTime
		for err == nil {
			_, err = conn.Read(make([]byte, 100)) // perhaps a beat
		}
		if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
			t.Errorf("%s: the connection stays", name)
		}
		conn.abort()
	}
}

func TestConnectionsPerInstanceAreLimited(t *testing.T) {
	a, b := start(t, "n1"), start(t, "n2")
	for range maxConnsPerInstance {
		conn, err := a.dial(patience(t), b.Addr(), Call)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.abort()
	}
	eventually(t, "all in", func() bool { return b.Stats().Accepted == maxConnsPerInstance })
	conn, err := a.dial(patience(t), b.Addr(), Call)
	if err == nil { // the acceptor finds out last
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err = conn.Read(make([]byte, 1)); err == nil {
			t.Error("the connection lives")
		}
		conn.abort()
	}
	eventually(t, "limited", func() bool { return b.Stats().Limited == 1 })
}
