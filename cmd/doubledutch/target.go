package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// target is a file that appears whole or not at all, or standard output.
type target struct {
	io.Writer
	path  string
	force bool
	file  *os.File // nil: standard output, or done with
	// messages is where a person is told about it: not where the content goes.
	messages io.Writer
}

// newTarget begins a file at path; - is standard output. A file that is there already is refused, unless force is set.
func newTarget(c *console, path string, force bool) (*target, error) {
	if path == "-" {
		if isTerminal(c.out) {
			return nil, errors.New("the file is nothing to look at, and holds keys: redirect standard output, or name a file")
		}
		return &target{Writer: c.out, messages: c.err}, nil
	}
	t := &target{path: path, force: force, messages: c.out}
	if err := t.mayReplace(); err != nil {
		return nil, err
	}
	var err error
	// In the same directory, because it is renamed in the end. CreateTemp makes it 0600.
	if t.file, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp"); err != nil {
		return nil, err
	}
	t.Writer = t.file
	return t, nil
}

// mayReplace refuses a path that is taken.
func (t *target) mayReplace() error {
	info, err := os.Lstat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file; for standard output write -", t.path)
	case !t.force:
		return fmt.Errorf("%s exists; choose another name, or replace it with --force", t.path)
	}
	return nil
}

// commit puts the file in its place, on disk.
func (t *target) commit() error {
	if t.file == nil {
		return nil
	}
	if err := t.file.Sync(); err != nil {
		return err
	}
	if err := t.mayReplace(); err != nil { // it may have come meanwhile
		return err
	}
	if err := os.Rename(t.file.Name(), t.path); err != nil {
		return err
	}
	err := t.file.Close()
	t.file = nil
	return errors.Join(err, syncDir(filepath.Dir(t.path)))
}

// discard removes what was not committed.
func (t *target) discard() {
	if t.file != nil {
		_ = t.file.Close()
		_ = os.Remove(t.file.Name())
		t.file = nil
	}
}

// syncDir makes the entries of a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
