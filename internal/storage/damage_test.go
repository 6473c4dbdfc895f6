package storage

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sample makes a directory with a snapshot, several segments and a tail whose last batch has the entries last-4 to last, as
// a crash leaves it. first is the first entry in the log.
func sample(t *testing.T) (dir string, first, last uint64) {
	t.Helper()
	s := mustOpen(t, options(t, t.TempDir()))
	fill(t, s, 1, 400, 9)
	snapshot(t, s, 150, []byte("older"))
	snapshot(t, s, 300, []byte("newer"))
	if err := s.Log().DeleteRange(1, 199); err != nil {
		t.Fatal(err)
	}
	last = 400
	for { // until the last batch is somewhere in the middle of a segment
		fill(t, s, last+1, last+5, 5)
		last += 5
		dir := string(s.dir)
		if _, _, scan := tailOf(t, dir); !scan.sealed && len(scan.offsets) > 20 {
			break
		}
	}
	if err := s.Stable().SetUint64([]byte("CurrentTerm"), 7); err != nil {
		t.Fatal(err)
	}
	return crashed(t, s), 200, last
}

// lastBatch returns where the last batch of the tail in dir begins and ends.
func lastBatch(t *testing.T, dir string) (path string, from, to int) {
	t.Helper()
	path, data, s := tailOf(t, dir)
	from = int(s.offsets[len(s.offsets)-5])
	if b := readBatch(data, from); b.state != batchGood || b.end != s.end {
		t.Fatal("the last batch is not where it is thought to be")
	}
	return path, from, s.end
}

// A batch that a crash has cut short goes, nothing else does, and the log goes on behind what is left.
func TestTornTail(t *testing.T) {
	master, first, last := sample(t)
	r := rand.New(rand.NewPCG(1, 2))
	tear := map[string]func(b []byte){ // b is a batch
		"zeros from somewhere on": func(b []byte) { clear(b[r.IntN(len(b)-16):]) },
		"only the beginning":      func(b []byte) { clear(b[8+r.IntN(100):]) },
		"nothing but the end":     func(b []byte) { clear(b[:len(b)-8-r.IntN(100)]) },
		"all but the commit":      func(b []byte) { clear(b[len(b)-8:]) },
	}
	for name, f := range tear {
		for range 10 {
			dir := copyDir(t, master)
			path, from, to := lastBatch(t, dir)
			edit(t, path, func(b []byte) []byte { f(b[from:to]); return b })
			healed(t, name, dir, first, last-5)
		}
	}
	for range 40 { // some sectors were written and others not
		dir := copyDir(t, master)
		path, from, to := lastBatch(t, dir)
		edit(t, path, func(b []byte) []byte {
			for whole := bytes.Clone(b); ; copy(b, whole) {
				if dropSectors(r, b, from, to); !isZero(b[from:to]) {
					return b
				}
			}
		})
		healed(t, "sectors", dir, first, last-5)
	}
}

// dropSectors zeroes some sectors' parts of b[from:to], at least one.
func dropSectors(r *rand.Rand, b []byte, from, to int) {
	must := from + r.IntN(to-from)
	for at := from; at < to; {
		end := min(to, at/sectorSize*sectorSize+sectorSize)
		if r.IntN(2) == 0 || at <= must && must < end {
			clear(b[at:end])
		}
		at = end
	}
}

// healed opens dir, which must work and give the entries first to last, and goes on with it.
func healed(t *testing.T, name, dir string, first, last uint64) {
	t.Helper()
	var book logBook
	o := options(t, dir)
	o.Logger = book.logger()
	s, err := Open(o)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	book.want(t, "dropped an unfinished batch")
	checkLog(t, s, first, last)
	fill(t, s, last+1, last+3, 1)
	again := crashed(t, s)
	mustClose(t, s)
	s = mustOpen(t, options(t, again))
	checkLog(t, s, first, last+3)
	mustClose(t, s)
}

// After a clean shutdown, there is no torn batch.
func TestTornTailAfterCleanShutdown(t *testing.T) {
	master, _, _ := sample(t)
	s := mustOpen(t, options(t, master))
	mustClose(t, s)
	path, from, to := lastBatch(t, master)
	edit(t, path, func(b []byte) []byte { clear(b[from+8 : to]); return b })
	if c := refused(t, master); !strings.Contains(c.What, "closed cleanly") {
		t.Error(c)
	}
	edit(t, path, func(b []byte) []byte { clear(b[from:to]); return b })
	if c := refused(t, master); !strings.Contains(c.What, "at the last shutdown") {
		t.Error(c)
	}
}

// A flipped bit anywhere in what the log holds is found, in the last batch too, and so is a batch that is bad although others follow.
func TestFlippedBitInLog(t *testing.T) {
	master, _, _ := sample(t)
	r := rand.New(rand.NewPCG(3, 4))
	all := segments(t, master)
	_, _, tail := tailOf(t, master)
	for i := range 200 {
		dir := copyDir(t, master)
		path := segments(t, dir)[i%len(all)]
		end := tail.end
		if i%len(all) < len(all)-1 {
			end = sealedEnd(t, path)
		}
		off, bit := r.IntN(end), r.IntN(8)
		flip(t, path, off, bit)
		if c := refused(t, dir); c.Path != path {
			t.Errorf("flip in %s at %d: %v", path, off, c)
		}
		_ = os.RemoveAll(dir)
	}
	for range 100 {
		dir := copyDir(t, master)
		path, from, to := lastBatch(t, dir)
		flip(t, path, from+r.IntN(to-from), r.IntN(8))
		refused(t, dir)
		_ = os.RemoveAll(dir)
	}
}

func sealedEnd(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return lastNonZero(data) + 1
}

func TestBadBatchBeforeGoodOne(t *testing.T) {
	master, _, _ := sample(t)
	_, _, tail := tailOf(t, master)
	for i, off := range tail.offsets[:len(tail.offsets)-5] {
		dir := copyDir(t, master)
		path, _, _ := tailOf(t, dir)
		edit(t, path, func(b []byte) []byte { // the frame's header and all behind it in that sector
			clear(b[off : off/sectorSize*sectorSize+sectorSize])
			return b
		})
		if c := refused(t, dir); c.Path != path {
			t.Errorf("entry number %d: %v", i, c)
		}
	}
}

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
		edit(t, path, func(b []byte) []byte { return b[:len(b)/3] })
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
	refused(t, dir)
}

func TestMetaFile(t *testing.T) {
	master, first, last := sample(t)
	meta := func(dir string) string { return layout(dir).meta() }
	r := rand.New(rand.NewPCG(5, 6))
	const used = metaHeader + 100
	for i := range 60 {
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
	for range 100 {
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
	for range 20 { // as good as none
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
		for range 25 {
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
		refused(t, dir)
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
