package storage

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	o := options(t, dir)
	o.Name = "east-1_b"
	s := mustOpen(t, o)
	if s.Name() != o.Name {
		t.Fatalf("the name is %q", s.Name())
	}
	mustClose(t, s)

	s = mustOpen(t, options(t, dir))
	if s.Name() != o.Name {
		t.Fatalf("without one, the name is %q", s.Name())
	}
	mustClose(t, s)
	mustClose(t, mustOpen(t, o))

	o.Name = "west"
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), `"east-1_b"`) || !strings.Contains(err.Error(), `"west"`) {
		t.Fatalf("another name: %v", err)
	}
	for _, name := range []string{"a b", "a/b", "ü", "a.b", strings.Repeat("x", maxName+1)} {
		o := options(t, filepath.Join(t.TempDir(), "data"))
		o.Name = name
		if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "cannot be the name") {
			t.Errorf("%q: %v", name, err)
		}
		if ok, err := exists(o.Dir); ok || err != nil {
			t.Errorf("%q: it left a directory", name)
		}
	}
	if v := OpenVolatile(Options{Name: "east"}); v.Name() != "east" {
		t.Errorf("volatile, the name is %q", v.Name())
	}
}

func TestDefaultName(t *testing.T) {
	for host, want := range map[string]string{
		"web1":                   "web1",
		"web1.example.com":       "web1-example-com",
		"größe":                  "gr--e",
		"":                       "node",
		"...":                    "node",
		strings.Repeat("ab", 50): strings.Repeat("ab", 50)[:maxName],
	} {
		if got := reducedName(host); got != want || !validName(got) {
			t.Errorf("%q gives %q, want %q", host, got, want)
		}
	}
	s := mustOpen(t, options(t, t.TempDir()))
	if v := OpenVolatile(Options{}); !validName(s.Name()) || v.Name() != s.Name() {
		t.Errorf("the default names are %q and %q", s.Name(), v.Name())
	}
}

func TestSetCluster(t *testing.T) {
	id := strings.Repeat("0a", 16)
	s := mustOpen(t, options(t, t.TempDir()))
	old, node, name := s.ClusterID(), s.NodeID(), s.Name()
	for _, bad := range []string{"", "0a", strings.Repeat("0A", 16), strings.Repeat("0g", 16), id + "0a"} {
		if err := s.SetCluster(bad); err == nil || s.ClusterID() != old {
			t.Errorf("%q was taken: %v", bad, err)
		}
	}
	if err := s.SetCluster(id); err != nil {
		t.Fatal(err)
	}
	if s.ClusterID() != id || s.NodeID() != node || s.Name() != name {
		t.Fatal("not what was set")
	}
	dir := crashed(t, s) // it is durable at once
	s = mustOpen(t, options(t, dir))
	if s.ClusterID() != id || s.NodeID() != node || s.Name() != name {
		t.Fatal("it was not kept")
	}
	fill(t, s, 1, 3, 1)
	if err := s.SetCluster(old); err == nil || s.ClusterID() != id {
		t.Fatalf("with entries in the log: %v", err)
	}
	if err := s.SetCluster(id); err != nil {
		t.Fatalf("the same one again: %v", err)
	}
}

func TestSetClusterWithSnapshotOrVolatile(t *testing.T) {
	id := strings.Repeat("0b", 16)
	v := OpenVolatile(Options{})
	if err := v.SetCluster(id); err != nil || v.ClusterID() != id {
		t.Fatal(err, v.ClusterID())
	}
	snapshot(t, v, 5, []byte("x"))
	if err := v.SetCluster(strings.Repeat("0c", 16)); err == nil || v.ClusterID() != id {
		t.Fatal("with a snapshot:", err)
	}
}

// A failure while the format file is written is one of the Store, and the old cluster stays.
func TestSetClusterFails(t *testing.T) {
	book := new(errorBook)
	o := options(t, t.TempDir())
	o.Fatal = book.add
	s := mustOpen(t, o)
	old := s.ClusterID()
	s.dir = layout(filepath.Join(o.Dir, "gone"))
	var f *FailedError
	if err := s.SetCluster(strings.Repeat("0b", 16)); !errors.As(err, &f) || s.ClusterID() != old || len(book.all()) != 1 {
		t.Fatal(err, s.ClusterID(), book.all())
	}
}
