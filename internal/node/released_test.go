package node

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/test/golden"
)

// The data directory of a server of a released version, and what was in it.
const (
	releasedDir   = "server.tar.gz"
	releasedState = "server.txt"
)

// What lives in a golden directory must not end before it is read, however late that is.
const longLived = 366 * 24 * time.Hour

// TestReleasedDataDirectories: a server of this version takes over from one of any before, and goes on with its locks, its
// queue, its keys and its tokens.
func TestReleasedDataDirectories(t *testing.T) {
	if golden.Updating() {
		writeReleased(t)
	}
	for _, v := range golden.Versions(t) {
		t.Run(fmt.Sprint("v", v), func(t *testing.T) {
			dir := t.TempDir()
			unpack(t, dir, golden.Read(t, v, releasedDir))
			n := open(t, dir)
			if got, want := describe(t, n), string(golden.Read(t, v, releasedState)); got != want {
				t.Errorf("it has\n%s\nand had\n%s", got, want)
			}
			held := mustAcquire(t, n, longAcquire("db", "holder"), locktable.Granted)
			mustRelease(t, n, "db", "holder")
			next := mustAcquire(t, n, longAcquire("db", "waiter"), locktable.Granted)
			if next.Token <= held.Token {
				t.Errorf("token %d after %d", next.Token, held.Token)
			}
			mustAcquire(t, n, longAcquire("gone", "spent"), locktable.KeySpent)
		})
	}
}

func longAcquire(name, key string) *command.Acquire {
	a := acquireCmd(name, key, 0)
	a.Ttl, a.Owner = int64(longLived), "owner of "+key
	return a
}

// describe tells what a table has, except for times, which go on.
func describe(t *testing.T, n *Node) string {
	t.Helper()
	var b strings.Builder
	err := n.Read(t.Context(), func(tb *locktable.Table, _ locktable.Time) {
		s := tb.Stats()
		fmt.Fprintf(&b, "last token %d\nmax ttl %v\n", s.LastToken, time.Duration(tb.Settings().GetMaxTtl()))
		for _, name := range []string{"db", "gone", "permits", "shared"} {
			l, _ := tb.Lock(name, 10)
			fmt.Fprintf(&b, "lock %s slots %d\n", name, l.Slots)
			for _, h := range l.Holders {
				fmt.Fprintf(&b, "  holder %q %q mode %d token %d\n", h.Owner, h.Metadata, h.Mode, h.Token)
			}
			for _, w := range l.Waiters {
				fmt.Fprintf(&b, "  waiter %q mode %d\n", w.Owner, w.Mode)
			}
		}
		for _, key := range []string{"holder", "waiter", "reader", "sessionkey", "permit"} {
			k, _ := locktable.ParseKey(keyOf(key))
			i, ok := tb.Key(k)
			fmt.Fprintf(&b, "key %s: known %v, held %v, token %d\n", key, ok, i.Held, i.Token)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// writeReleased makes a directory with a snapshot and entries after it.
func writeReleased(t *testing.T) {
	dir := t.TempDir()
	settings := locktable.DefaultSettings()
	settings.WaiterGrace, settings.SpentRetention = int64(longLived), int64(longLived)
	n, err := Open(t.Context(), Config{Dir: dir, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	propose := func(want locktable.Code, c *command.Command) {
		t.Helper()
		if o, err := n.Propose(t.Context(), c); err != nil || o.Code != want {
			t.Fatalf("code %d, error %v", o.Code, err)
		}
	}
	acquire := func(want locktable.Code, name, key string, change func(*command.Acquire)) {
		t.Helper()
		a := longAcquire(name, key)
		change(a)
		propose(want, command.FromAcquire(a))
	}
	plain := func(*command.Acquire) {}
	acquire(locktable.Granted, "db", "holder", func(a *command.Acquire) { a.Metadata = "in the snapshot" })
	acquire(locktable.Granted, "gone", "spent", plain)
	propose(locktable.Released, command.FromRelease(&command.Release{Name: "gone", Key: keyOf("spent")}))
	propose(locktable.Opened, command.FromOpenSession(&command.OpenSession{Id: keyOf("session"), Ttl: int64(longLived), Owner: "a session"}))
	acquire(locktable.Waiting, "db", "waiter", func(a *command.Acquire) { a.Wait = -1 })
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	acquire(locktable.Granted, "shared", "reader", func(a *command.Acquire) { a.Mode, a.Metadata = locktable.Shared, "in the log" })
	acquire(locktable.Granted, "shared", "sessionkey", func(a *command.Acquire) {
		a.Mode, a.Session, a.Ttl, a.Request = locktable.Shared, keyOf("session"), 0, 1
	})
	acquire(locktable.Granted, "permits", "permit", func(a *command.Acquire) { a.Slots = 3 })
	state := describe(t, n)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	golden.Write(t, command.Version, releasedState, []byte(state))
	golden.Write(t, command.Version, releasedDir, pack(t, dir))
}

// sizeRecord notes how long a file really is: the zeros at the end, which the log has prepared, are not packed.
const sizeRecord = "DOUBLEDUTCH.size"

func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	add := func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		if d.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o700})
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		size := strconv.Itoa(len(data))
		data = bytes.TrimRight(data, "\x00")
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(data)), PAXRecords: map[string]string{sizeRecord: size}}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	if err := errors.Join(filepath.WalkDir(dir, add), w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unpack(t *testing.T, dir string, data []byte) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil && h.Typeflag == tar.TypeDir {
			err = os.Mkdir(filepath.Join(dir, h.Name), 0o700)
		} else if err == nil {
			err = unpackFile(filepath.Join(dir, h.Name), r, h.PAXRecords[sizeRecord])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func unpackFile(path string, r io.Reader, size string) error {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return os.Truncate(path, n)
}
