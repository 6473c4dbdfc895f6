package storage

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// BenchmarkStoreLogs appends one entry of 4 KiB per call, and beside it does a plain append and fdatasync of as many bytes.
// Its figure "x-plain" is the ratio of the two.
func BenchmarkStoreLogs(b *testing.B) {
	s, err := Open(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	f, err := os.Create(filepath.Join(b.TempDir(), "plain"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()

	data := bytes.Repeat([]byte("x"), 4<<10)
	var ours, plain time.Duration
	b.ReportAllocs()
	for i := range b.N {
		start := time.Now()
		if err := s.Log().StoreLogs([]*raft.Log{{Index: uint64(i) + 1, Term: 1, Data: data}}); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := fdatasync(f); err != nil {
			b.Fatal(err)
		}
		ours += between.Sub(start)
		plain += time.Since(between)
	}
	b.ReportMetric(float64(ours)/float64(plain), "x-plain")
	b.ReportMetric(float64(ours.Microseconds())/float64(b.N), "µs/append")
}
