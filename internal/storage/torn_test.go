package storage

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
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
		for range 6 {
			dir := copyDir(t, master)
			path, from, to := lastBatch(t, dir)
			edit(t, path, func(b []byte) []byte { f(b[from:to]); return b })
			healed(t, name, dir, first, last-5)
		}
	}
	for range 30 { // some sectors were written and others not
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
	if _, data, scan := tailOf(t, dir); scan.torn != 0 || !isZero(data[scan.end:]) {
		t.Fatalf("%s: something was left behind the end", name)
	}
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
	for i := range 6 * len(all) {
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
	for range 10 {
		dir := copyDir(t, master)
		path, from, to := lastBatch(t, dir)
		flip(t, path, from+r.IntN(to-from), r.IntN(8))
		_ = refused(t, dir)
		_ = os.RemoveAll(dir)
	}
}

// In the last batch, every bit of every frame's header is tried, and some of each payload.
func TestFlippedBitInLastBatch(t *testing.T) {
	master, _, _ := sample(t)
	path, from, to := lastBatch(t, master)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	base, id, err := parseSegmentName(filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	headers := map[int]bool{to - frameHeader: true}
	for _, off := range readBatch(data, from).entries {
		headers[int(off)] = true
	}
	tried := 0
	for bit := from * 8; bit < to*8; bit++ {
		if !headers[bit/64*8] && bit%37 != 0 {
			continue
		}
		tried++
		data[bit/8] ^= 1 << (bit % 8)
		if s := scanSegment(data, segmentInfo(base, id)); s.damage == "" {
			t.Errorf("bit %d of byte %d (the batch is at %d to %d) was taken for torn", bit%8, bit/8, from, to)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	if s := scanSegment(data, segmentInfo(base, id)); s.damage != "" || tried < 6*64 {
		t.Fatal(s.damage, tried)
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

// A batch larger than what was allocated for its segment is kept whole, and heals like any other when it is torn.
func TestBatchLargerThanItsSegment(t *testing.T) {
	s := mustOpen(t, options(t, t.TempDir()))
	fill(t, s, 1, 10, 1)
	big := entry(11)
	big.Data = bytes.Repeat([]byte("x"), 3*int(roomFor(minSegmentSize)))
	if err := s.Log().StoreLog(big); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 12, 12, 1) // waits for the rotation
	dir := crashed(t, s)
	again := mustOpen(t, options(t, dir))
	var l raft.Log
	if err := again.Log().GetLog(11, &l); err != nil || !bytes.Equal(l.Data, big.Data) {
		t.Fatal("the large entry came back changed:", err)
	}
	mustClose(t, again)

	path := segments(t, dir)[0]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[roomFor(minSegmentSize):])
	scan := scanSegment(data, segmentInfo(1, 0))
	if scan.damage != "" || scan.torn == 0 || len(scan.offsets) != 10 {
		t.Fatal(scan.damage, scan.torn, len(scan.offsets))
	}
	if cut := scanSegment(data[:roomFor(minSegmentSize)], segmentInfo(1, 0)); cut.damage == "" {
		t.Fatal("without the zeros, which are written first, it would not be known for torn")
	}
}

// A last segment that lost some of the zeros at its end has lost nothing; one that may have lost a batch is refused.
func TestCutTail(t *testing.T) {
	master, first, last := sample(t)
	for name, c := range map[string]struct {
		at    func(from, to, size int) int
		heals bool
	}{
		"in the zeros":            {func(_, _, size int) int { return size - 100 }, true},
		"just behind the batch":   {func(_, to, _ int) int { return to + frameHeader }, true},
		"at the end of the batch": {func(_, to, _ int) int { return to }, false},
		"inside the batch":        {func(from, to, _ int) int { return from + (to-from)/2 + 3 }, false},
	} {
		dir := copyDir(t, master)
		path, from, to := lastBatch(t, dir)
		edit(t, path, func(b []byte) []byte { return b[:c.at(from, to, len(b))] })
		if !c.heals {
			if c := refused(t, dir); c.Path != path {
				t.Errorf("%s: %v", name, c)
			}
			continue
		}
		var book logBook
		o := options(t, dir)
		o.Logger = book.logger()
		s, err := Open(o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		book.want(t, "cut off")
		checkLog(t, s, first, last)
		fill(t, s, last+1, last+3, 1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
