package storage

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestCodec(t *testing.T) {
	for _, l := range []raft.Log{
		{Index: 1, Term: 2, Type: raft.LogNoop},
		{Index: 1 << 60, Term: 1 << 61, Type: raft.LogConfiguration, Data: []byte("d"), Extensions: []byte("ext")},
		{Index: 3, Data: make([]byte, 100), AppendedAt: time.Unix(1, 2)},
	} {
		var b bytes.Buffer
		if err := (checkedCodec{}).Encode(&l, &b); err != nil {
			t.Fatal(err)
		}
		var got raft.Log
		if err := (checkedCodec{}).Decode(b.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.Index != l.Index || got.Term != l.Term || got.Type != l.Type || !bytes.Equal(got.Data, l.Data) ||
			!bytes.Equal(got.Extensions, l.Extensions) || !got.AppendedAt.Equal(l.AppendedAt) {
			t.Fatalf("%+v became %+v", l, got)
		}
		for i := range b.Len() * 8 {
			c := bytes.Clone(b.Bytes())
			c[i/8] ^= 1 << (i % 8)
			if (checkedCodec{}).Decode(c, &got) == nil {
				t.Fatalf("bit %d was flipped unseen", i)
			}
		}
		for i := range b.Len() {
			if (checkedCodec{}).Decode(b.Bytes()[:i], &got) == nil {
				t.Fatalf("cut to %d bytes unseen", i)
			}
		}
	}
}

// seedSegment returns the content of a segment with some batches.
func seedSegment(tb testing.TB) []byte {
	o := options(tb, tb.TempDir())
	s := mustOpen(tb, o)
	for i := uint64(1); i < 12; i += 3 {
		fill(tb, s, i, i+2, 3)
	}
	data, err := os.ReadFile(segments(tb, o.Dir)[0])
	if err != nil {
		tb.Fatal(err)
	}
	mustClose(tb, s)
	return data
}

// FuzzScan changes a segment in any way. The scan must not panic, and what it calls a torn tail must be clean once zeroed,
// with the same entries.
func FuzzScan(f *testing.F) {
	seed := seedSegment(f)
	used := lastNonZero(seed) + 1
	f.Add(uint16(0), []byte{}, uint16(used))
	f.Add(uint16(40), []byte{1, 0, 0, 0, 255, 255, 255, 255}, uint16(used))
	f.Add(uint16(used-8), []byte{0, 0, 0, 0, 0, 0, 0, 0}, uint16(used))
	f.Add(uint16(used), []byte{2, 0, 0, 0, 4, 0, 0, 0, 1}, uint16(used+16))
	f.Add(uint16(used), []byte{3}, uint16(used/2))
	info := segmentInfo(1, 0)
	f.Fuzz(func(t *testing.T, at uint16, put []byte, zeroFrom uint16) {
		data := bytes.Clone(seed)
		copy(data[min(int(at), len(data)):], put)
		clear(data[min(int(zeroFrom), len(data)):])
		s := scanSegment(data, info)
		if s.damage != "" {
			return
		}
		clear(data[s.end:])
		again := scanSegment(data, info)
		if again.damage != "" || again.torn != 0 || again.end != s.end || len(again.offsets) != len(s.offsets) {
			t.Fatalf("%+v\nafter healing:\n%+v", s, again)
		}
	})
}

// Random bytes are no log.
func TestScanGarbage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		data := make([]byte, roomFor(minSegmentSize))
		for i := range 5000 {
			data[i] = byte(r.Uint32())
		}
		if s := scanSegment(data, segmentInfo(1, 0)); s.damage == "" {
			t.Fatalf("%+v", s)
		}
	}
}

// BenchmarkVerify measures what Open does with a log of 64 MiB.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	s := mustOpen(b, Options{Dir: dir})
	data := bytes.Repeat([]byte("0123456789abcdef"), 64)
	for i := uint64(1); i < 64<<10; i += 64 {
		var logs []*raft.Log
		for j := range uint64(64) {
			logs = append(logs, &raft.Log{Index: i + j, Term: 1, Data: data})
		}
		if err := s.Log().StoreLogs(logs); err != nil {
			b.Fatal(err)
		}
	}
	mustClose(b, s)
	for b.Loop() {
		mustClose(b, mustOpen(b, Options{Dir: dir}))
	}
}

// BenchmarkReplay measures reading a log of 64 MiB through GetLog, as raft does at a start.
func BenchmarkReplay(b *testing.B) {
	s := mustOpen(b, Options{Dir: b.TempDir()})
	data := bytes.Repeat([]byte("0123456789abcdef"), 16)
	n := uint64(200_000)
	for i := uint64(1); i <= n; i += 500 {
		var logs []*raft.Log
		for j := range uint64(500) {
			logs = append(logs, &raft.Log{Index: i + j, Term: 1, Data: data})
		}
		if err := s.Log().StoreLogs(logs); err != nil {
			b.Fatal(err)
		}
	}
	var l raft.Log
	for b.Loop() {
		for i := uint64(1); i <= n; i++ {
			if err := s.Log().GetLog(i, &l); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
}
