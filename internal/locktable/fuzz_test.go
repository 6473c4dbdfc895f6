package locktable

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// byteChooser draws from fuzz input: one byte for each choice, zeros at the end.
type byteChooser struct{ data []byte }

func (c *byteChooser) Intn(n int) int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % n
}

// FuzzApply turns bytes into commands and compares table, model and judge after each entry.
func FuzzApply(f *testing.F) {
	rng := rand.New(rand.NewSource(1))
	for range 8 {
		data := make([]byte, 600)
		rng.Read(data)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &byteChooser{data}
		w := newWorld(c, true)
		for len(c.data) > 0 && w.steps < 300 {
			if err := w.step(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.replay(); err != nil {
			t.Fatal(err)
		}
	})
}

// snapshotSeeds are snapshots of random tables.
func snapshotSeeds(f *testing.F) [][]byte {
	f.Helper()
	var out [][]byte
	for seed := range int64(12) {
		w := newWorld(rand.New(rand.NewSource(seed)), false)
		for range 15 * (seed + 1) {
			if err := w.step(); err != nil {
				f.Fatal(err)
			}
		}
		data, err := snapshotBytes(w.t, 10)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}

// FuzzRestore reads any bytes: it never panics, and what it accepts is sound and is written out as the same bytes.
func FuzzRestore(f *testing.F) {
	for _, s := range snapshotSeeds(f) {
		f.Add(s)
	}
	f.Fuzz(checkRestore)
}

func checkRestore(t *testing.T, data []byte) {
	r, err := Restore(bytes.NewReader(data))
	if err != nil {
		return
	}
	if err := r.CheckInvariants(); err != nil {
		t.Fatalf("accepted, but %v", err)
	}
	again, err := snapshotBytes(r, 7)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, data) {
		a, b := records(data), records(again)
		for i := range min(len(a), len(b)) {
			if !proto.Equal(a[i], b[i]) {
				t.Fatalf("accepted %v\nwritten out as %v", a[i], b[i])
			}
		}
		t.Fatalf("accepted %d bytes, written out as %d other bytes", len(data), len(again))
	}
	// A sound table goes on working: it must not panic. (Counters at their very end may be written in a forged snapshot.)
	at, _ := r.NextDeadline()
	r.Apply(at, nil)
}

// FuzzRestoreSealed does the same with snapshots whose checksum is right, whatever their records say.
func FuzzRestoreSealed(f *testing.F) {
	for _, s := range snapshotSeeds(f) {
		if body, ok := unseal(s); ok {
			f.Add(body)
		} else {
			f.Fatal("a snapshot without a trailer")
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) { checkRestore(t, seal(body)) })
}

// records splits a snapshot into its records, as far as they can be read.
func records(data []byte) []*command.Record {
	var out []*command.Record
	for len(data) > 0 {
		n, w := binary.Uvarint(data)
		if w <= 0 || n > uint64(len(data)-w) {
			return out
		}
		var r command.Record
		if proto.Unmarshal(data[w:w+int(n)], &r) != nil {
			return out
		}
		out = append(out, &r)
		data = data[w+int(n):]
	}
	return out
}

// unseal takes the trailer off a snapshot.
func unseal(data []byte) ([]byte, bool) {
	rs := records(data)
	if len(rs) == 0 || rs[len(rs)-1].GetTrailer() == nil {
		return nil, false
	}
	size := proto.Size(rs[len(rs)-1])
	return data[:len(data)-size-len(binary.AppendUvarint(nil, uint64(size)))], true
}

// seal puts a fitting trailer behind the records of body.
func seal(body []byte) []byte {
	var tr command.SnapshotTrailer
	for _, r := range records(body) {
		switch {
		case r.GetSession() != nil:
			tr.Sessions++
		case r.GetLock() != nil:
			tr.Locks++
		case r.GetSpent() != nil:
			tr.Spent += uint64(len(r.GetSpent().GetKeys()))
		}
	}
	sum := sha256.Sum256(body)
	tr.Sha256 = sum[:]
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&command.Record{Kind: &command.Record_Trailer{Trailer: &tr}})
	if err != nil {
		panic(err)
	}
	return append(binary.AppendUvarint(bytes.Clone(body), uint64(len(b))), b...)
}

// TestSeal shows that sealing is the inverse of unsealing: otherwise FuzzRestoreSealed would test nothing.
func TestSeal(t *testing.T) {
	w := newWorld(rand.New(rand.NewSource(1)), false)
	for range 30 {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
	}
	data, err := snapshotBytes(w.t, 4)
	if err != nil {
		t.Fatal(err)
	}
	body, ok := unseal(data)
	if !ok || !bytes.Equal(seal(body), data) {
		t.Fatal("the test's idea of a snapshot's frame is not the table's")
	}
}
