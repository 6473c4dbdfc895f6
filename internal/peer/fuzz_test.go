package peer

import (
	"net"
	"testing"
)

func FuzzFrameHead(f *testing.F) {
	f.Add([]byte{frameRequest, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5})
	f.Add([]byte{frameFailure, 1, 2, 3, 4, 5, 6, 7, 8, 0xFF, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var head, again [frameHead]byte
		copy(head[:], b)
		fr, size, err := parseFrameHead(&head)
		if err != nil {
			return
		}
		if size < 0 || size > MaxPayload {
			t.Fatalf("%d bytes", size)
		}
		fr.payload = make([]byte, size)
		if putFrameHead(&again, &fr); again != head {
			t.Errorf("% x becomes % x", head, again)
		}
	})
}

// FuzzCallStream feeds the answering side what a hostile member could send.
func FuzzCallStream(f *testing.F) {
	f.Add([]byte{frameRequest, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 'x', frameCancel, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		mine, yours := net.Pipe()
		p := newPeer(Config{Self: func() Identity { return ident("n2") }, Handle: echo})
		c := p.track(yours, false)
		c.greeted(ident("n1"), Call)
		done := make(chan struct{})
		go func() { p.serve(c); close(done) }()
		go func() {
			_, _ = mine.Write(stream)
			_ = mine.Close()
		}()
		for buf := make([]byte, 4096); ; {
			if _, err := mine.Read(buf); err != nil {
				break
			}
		}
		<-done
		p.cancel()
		if p.busy.calls != totalCalls || p.busy.bytes != totalBytes || len(p.conns) != 0 {
			t.Errorf("left: %d calls, %d bytes, %d connections", p.busy.calls, p.busy.bytes, len(p.conns))
		}
	})
}
