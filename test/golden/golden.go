// Package golden finds what earlier versions have written: for each version of the log, a directory here with its schema,
// a log, a snapshot, and the data directory of a server. Whatever comes later must read them as they were meant, so the
// tests of internal/command, internal/locktable and internal/node replay them all. README.md says when a directory is
// made.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

var update = flag.Bool("update-golden", false, "write the golden files of the present version, which must not be there yet")

// dir is where the versions are, as seen from a package two levels below the root.
var dir = filepath.Join("..", "..", "test", "golden")

// Versions returns the versions that have golden files, in ascending order, beginning with 1 and with none missing. It is
// called by tests of packages two levels below the root of the module.
func Versions(tb testing.TB) []uint32 {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "v*"))
	if err != nil {
		tb.Fatal(err)
	}
	versions := make([]uint32, len(found))
	for i := range found {
		versions[i] = uint32(i + 1)
		if _, err := os.Stat(path(versions[i], "")); err != nil {
			tb.Fatalf("the golden files of a version are missing: %v", err)
		}
	}
	if len(versions) == 0 {
		tb.Fatal("there are no golden files")
	}
	return versions
}

// Read returns a file of a version.
func Read(tb testing.TB, version uint32, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path(version, name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Updating tells whether golden files shall be written.
func Updating() bool { return *update }

// Write writes a file of a version. What is there already is never replaced: a release has been made with it.
func Write(tb testing.TB, version uint32, name string, data []byte) {
	tb.Helper()
	if err := os.MkdirAll(path(version, ""), 0o755); err != nil {
		tb.Fatal(err)
	}
	f, err := os.OpenFile(path(version, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		tb.Fatalf("%s is there already: golden files are not changed. If no release has version %d yet, remove its directory first",
			path(version, name), version)
	}
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
}

func path(version uint32, name string) string {
	return filepath.Join(dir, "v"+strconv.FormatUint(uint64(version), 10), name)
}
