package client

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"
)

// lateConnection is a transport that gets its connection in the moment in which the request is cancelled, and still sends it.
type lateConnection struct {
	http.RoundTripper // takes what is not an acquire
}

func (l lateConnection) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost {
		return l.RoundTripper.RoundTrip(req)
	}
	<-req.Context().Done()
	time.Sleep(time.Millisecond)
	httptrace.ContextClientTrace(req.Context()).GotConn(httptrace.GotConnInfo{})
	if _, err := l.RoundTripper.RoundTrip(req.WithContext(context.WithoutCancel(req.Context()))); err != nil {
		return nil, err
	}
	return nil, req.Context().Err()
}

func TestRequestThatLeavesInTheLastMoment(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		c := b.client()
		c.traced, c.http.Transport = true, lateConnection{b.net}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := c.TryLock(ctx, "x", TTL(time.Hour))
		wantErr(t, err, context.Canceled, ErrUnknown)
		time.Sleep(giveBackFor)
		synctest.Wait()
		if b.server.holder("x") != 0 {
			t.Error("the lock is held by nobody")
		}
	})
}

// The goroutine that ends a session may stand still between the session and its leases.
func TestLeaseIsNotBelievedInWithoutItsSession(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		c := b.client()
		session, lease := c.newKeeper(t.Context(), "session"), c.newKeeper(t.Context(), "lease")
		session.until = never
		if !lease.startUnder(session) || lease.believed() != nil {
			t.Fatal("it does not begin")
		}
		session.err = ErrLost
		wantErr(t, lease.believed(), ErrLost)
		if !isDone(lease.ctx) || lease.remaining() != 0 {
			t.Error("it is not over")
		}
	})
}

func TestUnlockRefusedEverywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x")
		b.net.set(func(string, *http.Request) fault { return fault{refused: true} })
		wantErr(t, l.Unlock(t.Context()), ErrUnknown)
	})
}
