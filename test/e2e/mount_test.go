//go:build linux

package e2e

import (
	"testing"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// smallDisk mounts a file system in memory of so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	unmount, err := rig.SmallDisk(dir, size)
	if err != nil {
		t.Skipf("SKIP: %v", err)
	}
	t.Cleanup(func() { // runs after the servers have ended
		if err := unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill uses up all space of the disk, and returns what gives it back.
func fill(t *testing.T, disk string) (free func()) {
	t.Helper()
	empty, err := rig.Fill(disk)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := empty(); err != nil {
			t.Fatal(err)
		}
	}
}
