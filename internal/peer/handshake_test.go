package peer

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

var errNo = errors.New("node n1 has lost its disk; remove it and join it anew")

func TestHandshakeDecides(t *testing.T) {
	refuse := admitting(func(Identity, Kind) error { return errNo })
	wiped := func(r Identity, _ Kind) error {
		if r.Name == "n1" && r.Instance != "n1-disk" {
			return errNo
		}
		return nil
	}
	for _, c := range []struct {
		name             string
		dialler, aceptor []func(*Config)
		kind             Kind
		want             string // empty: admitted
	}{
		{"members, call", nil, nil, Call, ""},
		{"members, raft", nil, nil, Raft, ""},
		{"another cluster", with(as(Identity{"c2", "n1", "i1"})), nil, Call, "another cluster"},
		{"another cluster, raft", with(as(Identity{"c2", "n1", "i1"})), nil, Raft, "another cluster"},
		{"another cluster, as if joining", with(as(Identity{"c2", "n1", "i1"})), nil, Join, "another cluster"},
		{"joining", with(as(Identity{"", "n1", "i1"})), nil, Join, ""},
		{"joining one who has not joined either", with(as(Identity{"", "n1", "i1"})), with(as(Identity{"", "n2", "i2"})), Join, ""},
		{"no cluster yet, raft", with(as(Identity{"", "n1", "i1"})), nil, Raft, "n1 does not belong to a cluster yet"},
		{"no cluster yet, call", with(as(Identity{"", "n1", "i1"})), nil, Call, "n1 does not belong to a cluster yet"},
		{"the other has no cluster", nil, with(as(Identity{"", "n2", "i2"})), Raft, "n2 does not belong to a cluster yet"},
		{"both have none", with(as(Identity{"", "n1", "i1"})), with(as(Identity{"", "n2", "i2"})), Raft, "to a cluster yet"},
		{"unknown kind", nil, nil, Kind(9), "kind 9"},
		{"refused by the acceptor", nil, with(refuse), Call, errNo.Error()},
		{"refused by the dialler", with(refuse), nil, Call, errNo.Error()},
		{"wiped dialler", with(as(Identity{"c1", "n1", "other"})), with(admitting(wiped)), Raft, errNo.Error()},
		{"not wiped", nil, with(admitting(wiped)), Raft, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := start(t, "n1", c.dialler...), start(t, "n2", c.aceptor...)
			conn, err := a.dial(patience(t), b.Addr(), c.kind)
			if conn != nil {
				defer conn.abort()
			}
			checkRefusal(t, err, c.want)
			if c.want != "" {
				eventually(t, "counted", func() bool { return b.Stats().Refused == 1 })
			} else if got := conn.remote.Name; got != "n2" {
				t.Errorf("answered by %q", got)
			}
		})
	}
}

func with(f ...func(*Config)) []func(*Config) { return f }

func checkRefusal(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want a refusal with %q", err, want)
	case want != "" && errors.Is(err, ErrUnreachable):
		t.Errorf("refused and unreachable at once: %v", err)
	}
}

func TestCallAndRaftDialTellTheSentence(t *testing.T) {
	a := start(t, "n1")
	b := start(t, "n2", admitting(func(Identity, Kind) error { return errNo }))
	_, err := a.Call(patience(t), b.Addr(), nil)
	checkRefusal(t, err, errNo.Error())
	conn, err := a.RaftLayer().Dial(raft.ServerAddress(b.Addr()), time.Second)
	checkRefusal(t, err, errNo.Error())
	if conn != nil {
		t.Error("a connection in spite of the refusal")
	}
}

func TestOtherVersionIsTold(t *testing.T) {
	b := start(t, "n2")
	for _, h := range []hello{
		{lowest: 2, highest: 3, kind: Call, self: ident("n1")},
		{lowest: 0, highest: 0, kind: Call, self: ident("n1")},
	} {
		v := sayHello(t, b, h)
		if v.ok || !strings.Contains(v.sentence, "upgrade") {
			t.Errorf("%+v: answer %+v", h, v)
		}
	}
	if v := sayHello(t, b, hello{lowest: 1, highest: 7, kind: Call, self: ident("n1")}); !v.ok || v.version != 1 {
		t.Errorf("a newer node that speaks version 1 too: %+v", v)
	}
}

func sayHello(t *testing.T, p *Peer, h hello) verdict {
	t.Helper()
	c := rawDial(t, p)
	if _, err := c.Write(appendHello(nil, h)); err != nil {
		t.Fatal(err)
	}
	v, err := readAnswer(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func rawDial(t *testing.T, p *Peer) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.BoundAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func TestStrangersAreDroppedAndCounted(t *testing.T) {
	log := newSyncBuffer()
	b := start(t, "n2", logging(log))
	tooLong := append([]byte(magic), 1, 1, 2, 0, 0xFF, 0xFF)
	badIdentity := appendSized(append([]byte(magic), 1, 1, 2, 0), []byte{0, 9, 'x'})
	badName := appendHello(nil, hello{1, 1, Call, Identity{"c1", "n1\nn2", "i"}})
	noInstance := appendHello(nil, hello{1, 1, Call, Identity{"c1", "n1", ""}})
	for i, garbage := range [][]byte{
		[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		{0, 'd', 'x', 0, 0, 0, 0, 0},
		tooLong, badIdentity, badName, noInstance,
		bytes.Repeat([]byte{0xFF}, 1000),
	} {
		c := rawDial(t, b)
		if _, err := c.Write(garbage); err != nil {
			t.Fatal(err)
		}
		if n, _ := io.Copy(io.Discard, c); n != 0 {
			t.Errorf("garbage %d is answered with %d bytes", i, n)
		}
		eventually(t, "counted", func() bool { return b.Stats().Strangers == uint64(i+1) })
	}
	if n := strings.Count(log.String(), "no peer"); n != 1 {
		t.Errorf("%d lines logged, want 1 for all", n)
	}
	if got := mustCall(t, start(t, "n1"), b.Addr(), "x"); got != "x" {
		t.Errorf("peers are not served after strangers: %q", got)
	}
}

func TestPeerAndTLSSpeakerTellEachOther(t *testing.T) {
	files := certs(t, "n1", "n2")
	plainPeer, tlsPeer := start(t, "n1"), start(t, "n2", withTLS(files["n2"]))
	_, err := plainPeer.Call(patience(t), tlsPeer.Addr(), nil)
	checkRefusal(t, err, "speaks TLS")
	_, err = tlsPeer.Call(patience(t), plainPeer.Addr(), nil)
	checkRefusal(t, err, "does not speak TLS")
}

func TestHandshakeMessagesComeBack(t *testing.T) {
	h := hello{lowest: 1, highest: 4, kind: Raft, self: Identity{"", "n-1.example_x", "a"}}
	if got, err := readHello(bytes.NewReader(appendHello(nil, h))); err != nil || got != h {
		t.Errorf("hello %+v, %v", got, err)
	}
	for _, v := range []verdict{{ok: true, version: 3, self: ident("n1")}, {version: 2, sentence: "no, thanks"}} {
		if got, err := readAnswer(bytes.NewReader(appendAnswer(nil, v))); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("answer %+v, %v", got, err)
		}
	}
	got, err := readConfirm(bytes.NewReader(appendConfirm(nil, verdict{sentence: "a\nb\x1b[31m" + strings.Repeat("ü", 2000)})))
	if err != nil || !strings.HasPrefix(got.sentence, "a b [31mü") || len(got.sentence) > maxSentence {
		t.Errorf("confirm %d bytes %.20q, %v", len(got.sentence), got.sentence, err)
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add(appendHello(nil, hello{1, 1, Raft, ident("n1")}))
	f.Add(appendAnswer(nil, verdict{ok: true, version: 1, self: ident("n1")}))
	f.Add(appendAnswer(nil, verdict{sentence: "no"}))
	f.Add(appendConfirm(nil, verdict{ok: true}))
	f.Add([]byte{0x16, 3, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := readHello(bytes.NewReader(b)); err == nil && version(h) != 0 {
			if err := h.self.check(); err != nil {
				t.Errorf("accepted: %v", err)
			}
			if again, err := readHello(bytes.NewReader(appendHello(nil, h))); err != nil || again != h {
				t.Errorf("%+v becomes %+v, %v", h, again, err)
			}
		}
		for _, read := range []func(io.Reader) (verdict, error){readAnswer, readConfirm} {
			v, err := read(bytes.NewReader(b))
			if err == nil && (v.sentence != sentence(v.sentence) || len(v.sentence) > maxSentence) {
				t.Errorf("unsafe sentence %q", v.sentence)
			}
		}
	})
}
