package storage

import (
	"os"
	"path/filepath"
	"testing"
)

// The kernel is told of each whole step, and is at most two behind when more is written.
func TestFlowFollowsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	w := startFlow(path)
	defer w.end()
	for part := range 40 {
		n, err := f.Write(make([]byte, 300_000))
		if err != nil {
			t.Fatal(err)
		}
		w.wrote(n)
		size := int64(part+1) * 300_000
		if w.size != size || w.begun != size/flowStep*flowStep || w.begun-w.ended > 2*flowStep || w.ended > w.begun {
			t.Fatalf("after %d bytes: %+v", size, w)
		}
	}
	if w.ended == 0 {
		t.Error("nothing was waited for")
	}
}

// Without the file, nothing is hastened and nothing fails.
func TestNoFlow(t *testing.T) {
	w := startFlow(filepath.Join(t.TempDir(), "absent"))
	w.wrote(10 * flowStep)
	w.end()
	if w != nil {
		t.Errorf("a flow into nothing: %+v", w)
	}
}
