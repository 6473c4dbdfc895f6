package storage

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMissingAndShortSegments(t *testing.T) {
	master, _, _ := sample(t)
	for i := range segments(t, master) {
		dir := copyDir(t, master)
		path := segments(t, dir)[i]
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if c := refused(t, dir); c.Path != path || !strings.Contains(c.What, "missing") {
			t.Errorf("segment %d removed: %v", i, c)
		}

		dir = copyDir(t, master)
		path = segments(t, dir)[i]
		edit(t, path, func(b []byte) []byte { return b[:lastNonZero(b)/3] })
		if c := refused(t, dir); c.Path != path {
			t.Errorf("segment %d cut: %v", i, c)
		}

		dir = copyDir(t, master)
		path = segments(t, dir)[i]
		other := segments(t, dir)[(i+1)%len(segments(t, dir))]
		b, err := os.ReadFile(other)
		if err != nil {
			t.Fatal(err)
		}
		edit(t, path, func([]byte) []byte { return b })
		if c := refused(t, dir); c.Path != path {
			t.Errorf("segment %d replaced: %v", i, c)
		}
	}
	dir := copyDir(t, master)
	foreign := filepath.Join(dir, "log", "mine.wal")
	if err := os.WriteFile(foreign, []byte("x"), fileMode); err != nil {
		t.Fatal(err)
	}
	_ = refused(t, dir)
}

func TestMetaFile(t *testing.T) {
	master, first, last := sample(t)
	meta := func(dir string) string { return layout(dir).meta() }
	r := rand.New(rand.NewPCG(5, 6))
	const used = metaHeader + 100
	for i := range 24 {
		dir := copyDir(t, master)
		off := r.IntN(used) + i%2*metaSlot
		flip(t, meta(dir), off, r.IntN(8))
		s, err := Open(options(t, dir))
		if err != nil {
			t.Fatalf("one copy flipped at %d: %v", off, err)
		}
		checkLog(t, s, first, last)
		if v, err := s.Stable().GetUint64([]byte("CurrentTerm")); v != 7 || err != nil {
			t.Fatalf("term %d, %v", v, err)
		}
		mustClose(t, s)
		flip(t, meta(dir), (off+metaSlot)%(2*metaSlot), r.IntN(8)) // the first was mended meanwhile
		s = mustOpen(t, options(t, dir))
		mustClose(t, s)
	}
	for what, change := range map[string]func(b []byte) []byte{
		"both flipped": func(b []byte) []byte { b[30] ^= 1; b[30+metaSlot] ^= 1; return b },
		"empty":        func(b []byte) []byte { return nil },
		"zeros":        func(b []byte) []byte { clear(b); return b },
		"foreign":      func(b []byte) []byte { return []byte(strings.Repeat("foreign ", 100)) },
	} {
		dir := copyDir(t, master)
		edit(t, meta(dir), change)
		if c := refused(t, dir); c.Path != meta(dir) {
			t.Errorf("%s: %v", what, c)
		}
	}
	dir := copyDir(t, master)
	if err := os.Remove(meta(dir)); err != nil {
		t.Fatal(err)
	}
	if c := refused(t, dir); c.Path != meta(dir) {
		t.Errorf("missing: %v", c)
	}
}

func TestFlippedBitInFormatAndMarker(t *testing.T) {
	master, first, last := sample(t)
	r := rand.New(rand.NewPCG(7, 8))
	format, err := os.ReadFile(layout(master).format())
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		dir := copyDir(t, master)
		flip(t, layout(dir).format(), r.IntN(len(format)), r.IntN(8))
		if _, err := Open(options(t, dir)); err == nil {
			t.Fatal("a format file with a flipped bit was taken")
		}
		_ = os.RemoveAll(dir)
	}
	s := mustOpen(t, options(t, master))
	mustClose(t, s)
	marker, err := os.ReadFile(layout(master).marker())
	if err != nil {
		t.Fatal(err)
	}
	for range 8 { // as good as none
		dir := copyDir(t, master)
		flip(t, layout(dir).marker(), r.IntN(len(marker)), r.IntN(8))
		s := mustOpen(t, options(t, dir))
		checkLog(t, s, first, last)
		mustClose(t, s)
	}
}

// The newest snapshot is needed when the log does not reach back to the one before.
func TestDamagedSnapshot(t *testing.T) {
	master, _, _ := sample(t) // snapshots 150 and 300, log from 200 on
	r := rand.New(rand.NewPCG(9, 10))
	for _, file := range []string{metaJSON, stateFile, sealFile} {
		for range 8 {
			dir := copyDir(t, master)
			path := newestSnapshotDir(t, dir)
			b, err := os.ReadFile(filepath.Join(path, file))
			if err != nil {
				t.Fatal(err)
			}
			flip(t, filepath.Join(path, file), r.IntN(len(b)), r.IntN(8))
			if c := refused(t, dir); c.Path != path {
				t.Error(c)
			}
		}
	}
	for _, file := range []string{metaJSON, stateFile, ""} {
		dir := copyDir(t, master)
		path := newestSnapshotDir(t, dir)
		if err := os.RemoveAll(filepath.Join(path, file)); err != nil {
			t.Fatal(err)
		}
		_ = refused(t, dir)
	}
}

func newestSnapshotDir(t *testing.T, dir string) string {
	t.Helper()
	l, err := filepath.Glob(filepath.Join(dir, "snapshots", "4-300-*"))
	if err != nil || len(l) != 1 {
		t.Fatal(l, err)
	}
	return l[0]
}

// While the log holds all that was in a damaged snapshot, it is removed and the log takes its place.
func TestDamagedSnapshotThatTheLogReplaces(t *testing.T) {
	for _, clean := range []bool{false, true} {
		s := mustOpen(t, options(t, t.TempDir()))
		fill(t, s, 1, 400, 9)
		snapshot(t, s, 150, []byte("older"))
		snapshot(t, s, 300, []byte("newer"))
		if err := s.Log().DeleteRange(1, 140); err != nil {
			t.Fatal(err)
		}
		dir := string(s.dir)
		if !clean {
			dir = crashed(t, s)
		}
		mustClose(t, s)
		flip(t, filepath.Join(newestSnapshotDir(t, dir), stateFile), 2, 3)
		s = mustOpen(t, options(t, dir))
		if i, b := readSnapshot(t, s); i != 150 || string(b) != "older" {
			t.Fatalf("snapshot %d %q", i, b)
		}
		checkLog(t, s, 141, 400)
	}
}

func TestUnfinishedSnapshotIsRemoved(t *testing.T) {
	s := mustOpen(t, options(t, t.TempDir()))
	fill(t, s, 1, 10, 1)
	dir := crashed(t, s)
	left := filepath.Join(dir, "snapshots", "1-5-77.tmp")
	if err := os.Mkdir(left, dirMode); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, options(t, dir))
	if ok, err := exists(left); ok || err != nil {
		t.Fatal("an unfinished snapshot was left")
	}
}

// A snapshot of which a crash has come before the seal is as good as the others, and is sealed.
func TestSnapshotWithoutSeal(t *testing.T) {
	master, first, last := sample(t)
	seal := filepath.Join(newestSnapshotDir(t, master), sealFile)
	if err := os.Remove(seal); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, options(t, master))
	checkLog(t, s, first, last)
	if ok, err := exists(seal); !ok || err != nil {
		t.Fatal("it was not sealed")
	}
}

// A log that ends before the newest snapshot is what the arrival of a snapshot leaves; it is emptied and goes on behind it.
func TestLogBeforeSnapshot(t *testing.T) {
	s := mustOpen(t, options(t, t.TempDir()))
	fill(t, s, 1, 100, 9)
	snapshot(t, s, 500, []byte("arrived"))
	dir := crashed(t, s)
	s = mustOpen(t, options(t, dir))
	checkLog(t, s, 0, 0)
	fill(t, s, 501, 510, 2)
	checkLog(t, s, 501, 510)
}

func TestGapBetweenSnapshotAndLog(t *testing.T) {
	s := mustOpen(t, options(t, t.TempDir()))
	fill(t, s, 1, 400, 9)
	snapshot(t, s, 300, []byte("x"))
	if err := s.Log().DeleteRange(1, 350); err != nil {
		t.Fatal(err)
	}
	if c := refused(t, crashed(t, s)); !strings.Contains(c.What, "351") || !strings.Contains(c.What, "300") {
		t.Error(c)
	}
}

// A crash between the index of a segment and the list of segments stops raft-wal v0.4.1 for good; we finish the rotation.
func TestCrashBeforeRotation(t *testing.T) {
	s := mustOpen(t, options(t, t.TempDir()))
	last := uint64(0)
	for len(segments(t, string(s.dir))) < 2 { // until the first is sealed
		last++
		fill(t, s, last, last, 1)
	}
	dir := crashed(t, s)
	id, err := readIdentity(layout(dir).format())
	if err != nil {
		t.Fatal(err)
	}
	// Take the second segment back out of the list, as if the crash had come before.
	m, _, err := openMeta(layout(dir).meta(), id.node, newGuard(options(t, dir)))
	if err != nil {
		t.Fatal(err)
	}
	st, err := m.Load("")
	if err != nil {
		t.Fatal(err)
	}
	st.Segments = st.Segments[:1]
	st.Segments[0].MaxIndex, st.Segments[0].IndexStart = 0, 0
	st.Segments[0].SealTime = time.Time{}
	if err := m.CommitState(st); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, options(t, dir))
	if got, err := s.Log().LastIndex(); err != nil || got == 0 || got > last {
		t.Fatal(got, err)
	} else {
		fill(t, s, got+1, got+300, 7)
		checkLog(t, s, 1, got+300)
	}
}
