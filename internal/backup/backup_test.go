package backup

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func header() Header {
	return Header{
		ClusterID: strings.Repeat("0f", 16), Node: "n1", Index: 12, Term: 3, Time: 99, Epoch: 1, LastToken: 1<<40 + 5,
		Locks: 4, Holds: 5, Waiters: 6, Sessions: 7, Made: MadeAt(time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)), Server: "1.0",
	}
}

// written is a backup of a state, which is written in parts of the given size.
func written(tb testing.TB, h Header, state []byte, part int) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, h)
	if err != nil {
		tb.Fatal(err)
	}
	for len(state) > 0 {
		n, err := w.Write(state[:min(part, len(state))])
		if err != nil {
			tb.Fatal(err)
		}
		state = state[n:]
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func stateOf(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 1000, maxPiece, maxPiece + 1, 3*maxPiece + 17} {
		state := stateOf(n)
		file := written(t, header(), state, max(1, n/2+1))
		for _, in := range []io.Reader{bytes.NewReader(file), iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(file)))} {
			r, err := NewReader(in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, state) || r.Header() != header() || r.Size() != uint64(len(file)) {
				t.Errorf("%d bytes came back as %d, header %+v, size %d of %d, %v", n, len(got), r.Header(), r.Size(), len(file), err)
			}
			if _, err := r.Read(nil); !errors.Is(err, io.EOF) {
				t.Errorf("after the end: %v", err)
			}
		}
	}
}

func TestTheBeginningIsForPeople(t *testing.T) {
	lines := strings.SplitN(string(written(t, header(), stateOf(10), 10)), "\n", 3)
	if lines[0] != "doubledutch-backup 1" || !strings.Contains(lines[1], `"index":12,"term":3,`) || !strings.Contains(lines[1], `"made":"2026-03-04T05:06:07Z"`) {
		t.Errorf("%q", lines[:2])
	}
}

// TestEveryCutIsRefused: a backup that ends early, wherever, is none.
func TestEveryCutIsRefused(t *testing.T) {
	file := written(t, header(), stateOf(300), 100)
	for n := range file {
		if _, _, err := Verify(bytes.NewReader(file[:n])); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(file), err)
		}
	}
	if _, _, err := Verify(bytes.NewReader(append(bytes.Clone(file), 0))); !errors.Is(err, ErrDamaged) {
		t.Errorf("with a byte more: %v", err)
	}
	if _, n, err := Verify(bytes.NewReader(file)); err != nil || n != uint64(len(file)) {
		t.Errorf("whole: %v", err)
	}
}

// TestEveryFlippedBitIsRefused: the checksum covers everything.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	file := written(t, header(), stateOf(300), 100)
	for i := range file {
		for bit := range 8 {
			bad := bytes.Clone(file)
			bad[i] ^= 1 << bit
			if _, _, err := Verify(bytes.NewReader(bad)); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Errorf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
}

func TestNewerVersion(t *testing.T) {
	file := written(t, header(), nil, 1)
	newer := append([]byte("doubledutch-backup 2\n"), file[bytes.IndexByte(file, '\n')+1:]...)
	if _, _, err := Verify(bytes.NewReader(newer)); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "form 2") {
		t.Errorf("%v", err)
	}
	for _, first := range []string{"doubledutch-backup 0\n", "doubledutch-backup 01\n", "doubledutch-backup -1\n", "doubledutch-backup 99999999\n", "DDS1", "\n", ""} {
		if _, _, err := Verify(strings.NewReader(first)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", first, err)
		}
	}
}

func TestHeadersThatCannotBe(t *testing.T) {
	for _, spoil := range []func(*Header){
		func(h *Header) { h.ClusterID = "x" },
		func(h *Header) { h.ClusterID = strings.Repeat("Z", 32) },
		func(h *Header) { h.Node = strings.Repeat("n", maxText+1) },
		func(h *Header) { h.Index = 0 },
		func(h *Header) { h.Index = maxIndex },
		func(h *Header) { h.Term = maxIndex },
		func(h *Header) { h.Time = -1 },
		func(h *Header) { h.Waiters = -1 },
		func(h *Header) { h.Made = "yesterday" },
		func(h *Header) { h.Made = "2026-03-04T05:06:07+01:00" },
	} {
		h := header()
		spoil(&h)
		if _, err := NewWriter(io.Discard, h); err == nil {
			t.Errorf("%+v was written", h)
		}
	}
	for _, line := range []string{`{}`, `[]`, `{"cluster_id":1}`, strings.Repeat("x", maxHeader+1)} {
		if _, err := NewReader(strings.NewReader("doubledutch-backup 1\n" + line + "\n")); !errors.Is(err, ErrDamaged) {
			t.Errorf("%.20s: %v", line, err)
		}
	}
	// What a newer program adds to the header means something.
	file := string(written(t, header(), nil, 1))
	if _, err := NewReader(strings.NewReader(strings.Replace(file, `{"cluster_id"`, `{"extra":1,"cluster_id"`, 1))); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
}

var errBroken = errors.New("broken")

func TestErrorsOfOthersComeThrough(t *testing.T) {
	file := written(t, header(), stateOf(300), 100)
	for n := range file {
		in := io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(errBroken))
		if _, _, err := Verify(in); !errors.Is(err, errBroken) || errors.Is(err, ErrDamaged) {
			t.Fatalf("broken after %d bytes: %v", n, err)
		}
	}
	var b bytes.Buffer
	w, err := NewWriter(&full{&b, 400}, header())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(stateOf(1000)); !errors.Is(err, errBroken) {
		t.Errorf("write: %v", err)
	}
	if err := w.Close(); !errors.Is(err, errBroken) {
		t.Errorf("close: %v", err)
	}
}

// full is a disk with little room.
type full struct {
	w    io.Writer
	room int
}

func (f *full) Write(p []byte) (int, error) {
	n, err := f.w.Write(p[:min(len(p), f.room)])
	f.room -= n
	if err == nil && n < len(p) {
		err = errBroken
	}
	return n, err
}

// FuzzVerify: whatever the bytes, no panic and no more memory than a piece; and what is accepted is exactly what a Writer writes.
func FuzzVerify(f *testing.F) {
	for _, n := range []int{0, 1, 100} {
		f.Add(written(f, header(), stateOf(n), 50))
	}
	f.Add([]byte("doubledutch-backup 2\n{}\n"))
	f.Add([]byte("doubledutch-backup 1\n{}\n\x7f\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			return
		}
		state, err := io.ReadAll(r)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("%v is no verdict", err)
			}
			return
		}
		h, n, err := Verify(bytes.NewReader(written(t, r.Header(), state, len(state)+1)))
		if err != nil || h != r.Header() || r.Size() != uint64(len(file)) || len(state) <= maxPiece && n > uint64(len(file)) {
			t.Fatalf("written again: %v, header %+v, %d bytes for %d", err, h, n, len(file))
		}
	})
}
