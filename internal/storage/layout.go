package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A layout is the path of a data directory and knows the paths in it.
type layout string

const (
	tmpSuffix     = ".tmp"
	segmentSuffix = ".wal"
)

func (l layout) path(name string) string { return filepath.Join(string(l), name) }

func (l layout) lock() string      { return l.path("LOCK") }
func (l layout) format() string    { return l.path("format") }
func (l layout) marker() string    { return l.path("clean") }
func (l layout) log() string       { return l.path("log") }
func (l layout) meta() string      { return filepath.Join(l.log(), "meta") }
func (l layout) reserve() string   { return l.path("reserve") }
func (l layout) snapshots() string { return l.path("snapshots") }
func (l layout) planting() string  { return l.path("restoring") } // there while Plant is at work

// ours are the names of what we make in a data directory, but for the format file.
var ours = []string{"LOCK", "format.tmp", "log", "reserve", "snapshots"}

// create makes the directory if it is missing.
func (l layout) create(g *guard) error {
	if ok, err := exists(string(l)); ok || err != nil {
		return err
	}
	if err := os.MkdirAll(string(l), dirMode); err != nil {
		return err
	}
	if err := os.Chmod(string(l), dirMode); err != nil {
		return err
	}
	return syncDir(g, filepath.Dir(string(l)))
}

// prepare makes the directory if it is missing, unless it shall exist, and refuses one that can't be opened.
func (l layout) prepare(existing bool, g *guard) error {
	if existing {
		if ok, err := exists(string(l)); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("%w: %s does not exist", ErrNoData, l))
		}
	} else if err := l.create(g); err != nil {
		return fmt.Errorf("create the data directory: %w", err)
	}
	fresh, err := l.fresh()
	if err == nil && fresh && existing {
		err = fmt.Errorf("%w: %s is empty", ErrNoData, l)
	}
	return err
}

// fresh says that the directory has no data yet: it is empty, or its first start did not get far enough to write the format
// file. It is an error if there is something in it that is not ours, or that a first start can't have left behind.
func (l layout) fresh() (bool, error) {
	st, err := os.Stat(string(l))
	if err != nil {
		return false, err
	}
	if !st.IsDir() {
		return false, fmt.Errorf("%s is not a directory", l)
	}
	if ok, err := exists(l.format()); ok || err != nil {
		return false, err
	}
	entries, err := os.ReadDir(string(l))
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() == "lost+found" {
			continue
		}
		if !slices.Contains(ours, e.Name()) {
			switch l.path(e.Name()) {
			case l.marker():
				return false, l.noFormat()
			case l.planting(), l.planting() + tmpSuffix:
				return false, fmt.Errorf("%w in %s; remove what is in the directory, and restore again", ErrHalfPlanted, l)
			}
			return false, fmt.Errorf("%s is not a data directory: it has no format file, but contains %q; "+
				"choose an empty directory or one that does not exist", l, e.Name())
		}
	}
	if used, err := l.used(); used || err != nil {
		return false, errors.Join(l.noFormat(), err)
	}
	return true, nil
}

// used says that the directory has segments or snapshots in it.
func (l layout) used() (bool, error) {
	for _, dir := range []string{l.log(), l.snapshots()} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			if dir == l.snapshots() || strings.HasSuffix(e.Name(), segmentSuffix) {
				return true, nil
			}
		}
	}
	return false, nil
}

func (l layout) noFormat() error {
	return corrupt(l.format(), "it is missing, although there is data in the directory")
}

// initialize fills a fresh directory. The format file comes last: without it, the next start begins anew.
func (l layout) initialize(g *guard, name string) (identity, error) {
	id := newIdentity(name)
	if err := l.furnish(g, id); err != nil {
		return id, err
	}
	return id, writeFileAtomic(g, l.format(), id.encode())
}

// furnish makes everything in a fresh directory but the format file.
func (l layout) furnish(g *guard, id identity) error {
	for _, dir := range []string{l.log(), l.reserve(), l.snapshots()} {
		if err := makeDir(g, dir); err != nil {
			return err
		}
	}
	if err := createMeta(g, l.meta(), id.node); err != nil {
		return err
	}
	return syncDir(g, l.log())
}

// complete checks that nothing is missing from a directory that has a format file, and removes what an unfinished change
// of that file has left.
func (l layout) complete(g *guard) error {
	if err := errors.Join(os.RemoveAll(l.format()+tmpSuffix), os.RemoveAll(l.planting())); err != nil {
		return err
	}
	if err := makeDir(g, l.reserve()); err != nil {
		return err
	}
	for _, path := range []string{l.log(), l.snapshots(), l.meta()} {
		ok, err := exists(path)
		if err != nil {
			return err
		}
		if !ok {
			return corrupt(path, "it is missing")
		}
	}
	return nil
}
