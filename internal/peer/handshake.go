package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Identity says who a node is.
type Identity struct {
	ClusterID string // the cluster it belongs to; empty while it knows none
	Name      string // what its operator calls it
	Instance  string // random id of the data directory: a wiped node has another one under its old name
}

// Kind says what a connection is for.
type Kind uint8

// The kinds of connections.
const (
	Raft Kind = 1 + iota // carries the RPCs of hashicorp/raft
	Call                 // carries calls between members of one cluster
	Join                 // carries calls of, or to, a node that knows no cluster yet
)

func (k Kind) String() string {
	switch k {
	case Raft:
		return "raft"
	case Call:
		return "call"
	case Join:
		return "join"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// The handshake has three messages, which keep their form in all versions of the protocol:
//
//	hello    magic, lowest and highest version, kind, 0, length (2), identity   from the dialler
//	answer   magic, version, verdict, length (2), identity or sentence          from the acceptor
//	confirm  verdict, length (2), sentence                                      from the dialler
//
// An identity is three strings, each with its length (2) before it; what follows them is left to later versions. Numbers
// are big-endian. The magic starts with a byte that neither TLS nor a text protocol starts with.
const magic = "\x00ddpeer\n"

const (
	lowestVersion  = 1
	highestVersion = 1
)

const (
	verdictOK      = 1
	verdictRefused = 2
)

const (
	helloHead   = len(magic) + 6
	answerHead  = len(magic) + 4
	confirmHead = 3
)

var (
	errStranger = errors.New("it does not speak the protocol of peers")
	errLooksTLS = fmt.Errorf("%w: it speaks TLS", errStranger)
)

type hello struct {
	lowest, highest uint8
	kind            Kind
	self            Identity
}

// verdict is an answer or a confirmation: an identity when ok, a sentence when not.
type verdict struct {
	ok       bool
	version  uint8
	self     Identity
	sentence string
}

func appendHello(b []byte, h hello) []byte {
	b = append(b, magic...)
	b = append(b, h.lowest, h.highest, uint8(h.kind), 0)
	return appendSized(b, appendIdentity(nil, h.self))
}

func appendAnswer(b []byte, v verdict) []byte {
	b = append(b, magic...)
	if v.ok {
		return appendSized(append(b, v.version, verdictOK), appendIdentity(nil, v.self))
	}
	return appendSized(append(b, v.version, verdictRefused), []byte(sentence(v.sentence)))
}

func appendConfirm(b []byte, v verdict) []byte {
	if v.ok {
		return appendSized(append(b, verdictOK), nil)
	}
	return appendSized(append(b, verdictRefused), []byte(sentence(v.sentence)))
}

func appendSized(b, s []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendIdentity(b []byte, i Identity) []byte {
	for _, s := range []string{i.ClusterID, i.Name, i.Instance} {
		b = appendSized(b, []byte(s))
	}
	return b
}

// readHello reads a hello. It judges the magic before it waits for more.
func readHello(r io.Reader) (hello, error) {
	var h hello
	head := make([]byte, helloHead)
	if err := readMagic(r, head); err != nil {
		return h, err
	}
	rest := head[len(magic):]
	h.lowest, h.highest, h.kind = rest[0], rest[1], Kind(rest[2])
	body, err := readBody(r, helloHead, binary.BigEndian.Uint16(rest[4:]))
	if err != nil {
		return h, err
	}
	if version(h) == 0 {
		return h, nil // the identity may have another form; the caller refuses
	}
	h.self, err = parseIdentity(body)
	return h, err
}

func readAnswer(r io.Reader) (verdict, error) {
	var v verdict
	head := make([]byte, answerHead)
	if err := readMagic(r, head); err != nil {
		return v, err
	}
	rest := head[len(magic):]
	body, err := readBody(r, answerHead, binary.BigEndian.Uint16(rest[2:]))
	if err != nil {
		return v, err
	}
	v.version = rest[0]
	switch rest[1] {
	case verdictOK:
		v.ok = true
		v.self, err = parseIdentity(body)
	case verdictRefused:
		v.sentence = sentence(string(body))
	default:
		err = errStranger
	}
	return v, err
}

func readConfirm(r io.Reader) (verdict, error) {
	head := make([]byte, confirmHead)
	if _, err := io.ReadFull(r, head); err != nil {
		return verdict{}, err
	}
	body, err := readBody(r, confirmHead, binary.BigEndian.Uint16(head[1:]))
	if err != nil {
		return verdict{}, err
	}
	switch head[0] {
	case verdictOK:
		return verdict{ok: true}, nil
	case verdictRefused:
		return verdict{sentence: sentence(string(body))}, nil
	}
	return verdict{}, errStranger
}

// readMagic fills head, which starts with the magic, and gives up at the first byte that cannot be ours.
func readMagic(r io.Reader, head []byte) error {
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return err
	}
	if head[0] >= 0x14 && head[0] <= 0x17 && head[1] == 3 {
		return errLooksTLS
	}
	if string(head[:2]) != magic[:2] {
		return errStranger
	}
	if _, err := io.ReadFull(r, head[2:len(magic)]); err != nil {
		return err
	}
	if string(head[:len(magic)]) != magic {
		return errStranger
	}
	_, err := io.ReadFull(r, head[len(magic):])
	return err
}

func readBody(r io.Reader, head int, size uint16) ([]byte, error) {
	if head+int(size) > maxHandshake {
		return nil, fmt.Errorf("%w: a message of %d bytes", errStranger, head+int(size))
	}
	body := make([]byte, size)
	_, err := io.ReadFull(r, body)
	return body, err
}

func parseIdentity(b []byte) (Identity, error) {
	var i Identity
	for _, s := range []*string{&i.ClusterID, &i.Name, &i.Instance} {
		if len(b) < 2 {
			return i, errStranger
		}
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; len(b) < n {
			return i, errStranger
		}
		*s, b = string(b[:n]), b[n:]
	}
	return i, i.check()
}

// check refuses identities that would not be safe to print or that are not whole.
func (i Identity) check() error {
	switch {
	case i.ClusterID != "" && !plain(i.ClusterID, maxID):
		return fmt.Errorf("%w: bad cluster id", errStranger)
	case !plain(i.Name, maxName):
		return fmt.Errorf("%w: a node's name has 1 to %d letters, digits, dots, dashes and underscores", errStranger, maxName)
	case !plain(i.Instance, maxID):
		return fmt.Errorf("%w: bad instance id", errStranger)
	}
	return nil
}

// plain says whether s has 1 to limit bytes, all of them letters, digits, '.', '-' or '_'.
func plain(s string, limit int) bool {
	for _, c := range []byte(s) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

// version is the highest one that both sides speak, 0 if there is none.
func version(h hello) uint8 {
	v := min(h.highest, highestVersion)
	if v < h.lowest || v < lowestVersion {
		return 0
	}
	return v
}
