package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// options are those of a small store in dir, whose Fatal fails the test.
func options(t testing.TB, dir string) Options {
	return Options{Dir: dir, SegmentSize: minSegmentSize, Fatal: func(err error) { t.Errorf("Fatal: %v", err) }}
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// entry is the entry that every test store has at index.
func entry(index uint64) *raft.Log {
	r := rand.New(rand.NewPCG(index, 1))
	data := make([]byte, 100+r.IntN(1000))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return &raft.Log{Index: index, Term: 1 + index/100, Type: raft.LogCommand, Data: data}
}

// fill appends the entries lo to hi, batch at a time.
func fill(t testing.TB, s *Store, lo, hi, batch uint64) {
	t.Helper()
	for lo <= hi {
		var logs []*raft.Log
		for ; lo <= hi && uint64(len(logs)) < batch; lo++ {
			logs = append(logs, entry(lo))
		}
		if err := s.Log().StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
	}
}

// checkLog checks that the log holds exactly the entries lo to hi; 0 and 0 for an empty log.
func checkLog(t testing.TB, s *Store, lo, hi uint64) {
	t.Helper()
	first, err := s.Log().FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.Log().LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if first != lo || last != hi {
		t.Fatalf("the log holds %d to %d, want %d to %d", first, last, lo, hi)
	}
	for i := lo; i <= hi && i > 0; i++ {
		var got raft.Log
		if err := s.Log().GetLog(i, &got); err != nil {
			t.Fatal(err)
		}
		want := entry(i)
		if got.Index != i || got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
			t.Fatalf("entry %d came back changed", i)
		}
	}
	var none raft.Log
	if err := s.Log().GetLog(hi+1, &none); !errors.Is(err, raft.ErrLogNotFound) {
		t.Fatalf("entry behind the end: %v", err)
	}
}

// snapshot takes a snapshot at index with the content data.
func snapshot(t testing.TB, s *Store, index uint64, data []byte) string {
	t.Helper()
	conf := raft.Configuration{Servers: []raft.Server{{ID: "n", Address: "n"}}}
	_, trans := raft.NewInmemTransport("n")
	sink, err := s.Snapshots().Create(1, index, 1+index/100, conf, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	return sink.ID()
}

// readSnapshot returns the content of the newest snapshot and its index.
func readSnapshot(t testing.TB, s *Store) (uint64, []byte) {
	t.Helper()
	l, err := s.Snapshots().List()
	if err != nil || len(l) == 0 {
		t.Fatalf("no snapshot: %v", err)
	}
	m, r, err := s.Snapshots().Open(l[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return m.Index, data
}

// crashed returns a copy of the directory of s, as a crash at this moment would leave it.
func crashed(t testing.TB, s *Store) string {
	t.Helper()
	return copyDir(t, string(s.dir))
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// edit changes the file at path.
func edit(t testing.TB, path string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), fileMode); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit of the file at path.
func flip(t testing.TB, path string, offset, bit int) {
	t.Helper()
	edit(t, path, func(b []byte) []byte {
		b[offset] ^= 1 << (bit % 8)
		return b
	})
}

// refused opens dir and returns the *CorruptError that it must give.
func refused(t testing.TB, dir string) *CorruptError {
	t.Helper()
	s, err := Open(options(t, dir))
	if err == nil {
		t.Fatalf("%s was opened", errors.Join(s.Close(), errors.New(dir)))
	}
	var c *CorruptError
	if !errors.As(err, &c) {
		t.Fatalf("not a CorruptError: %v", err)
	}
	if c.Path == "" || !strings.Contains(err.Error(), "backup") {
		t.Fatalf("no path or advice: %v", err)
	}
	return c
}

// segments returns the paths of the log segments in dir, in order.
func segments(t testing.TB, dir string) []string {
	t.Helper()
	l, err := filepath.Glob(filepath.Join(dir, "log", "*"+segmentSuffix))
	if err != nil || len(l) == 0 {
		t.Fatalf("no segments in %s: %v", dir, err)
	}
	return l
}

// tailOf returns the path, the content and the scan of the last segment in dir.
func tailOf(t testing.TB, dir string) (path string, data []byte, s scan) {
	t.Helper()
	all := segments(t, dir)
	path = all[len(all)-1]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	base, id, err := parseSegmentName(filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	s = scanSegment(data, segmentInfo(base, id))
	if s.damage != "" {
		t.Fatal(s.damage)
	}
	return path, data, s
}

// A logBook is a slog.Logger's output for tests.
type logBook struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logBook) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *logBook) want(t testing.TB, s string) {
	t.Helper()
	if l.count(s) == 0 {
		t.Fatal(fmt.Sprintf("the log does not say %q:\n", s) + l.b.String())
	}
}
