package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// createFile makes a new file of mode 0600, whatever the umask is.
func createFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(fileMode); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// makeDir makes a directory of mode 0700 if there is none at path, and its entry durable.
func makeDir(g *guard, path string) error {
	if err := os.Mkdir(path, dirMode); errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := os.Chmod(path, dirMode); err != nil {
		return err
	}
	return syncDir(g, filepath.Dir(path))
}

// syncDir makes the entries of a directory durable.
func syncDir(g *guard, path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(g.step("sync "+path, d.Sync), d.Close())
}

// writeFileAtomic puts a file with data at path; after a crash there is the old file, or none, or the whole new one.
func writeFileAtomic(g *guard, path string, data []byte) error {
	tmp := path + tmpSuffix
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	f, err := createFile(tmp)
	if err != nil {
		return err
	}
	err = g.step("write "+path, func() error {
		_, err := f.Write(data)
		return errors.Join(err, f.Sync())
	})
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(g, filepath.Dir(path))
}

// removeDurably removes the file at path, if there is one, so that it stays away.
func removeDurably(g *guard, path string) error {
	if err := os.Remove(path); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return syncDir(g, filepath.Dir(path))
}

// fdatasync flushes the data of f, and of its metadata what is needed to find the data again.
func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// exists says whether there is anything at path.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// tighten takes group's and others' rights from everything in root that has them.
func tighten(root string) error {
	return filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != root && e.Name() == "lost+found" {
			return filepath.SkipDir
		}
		if e.Type()&os.ModeSymlink != 0 {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		mode := os.FileMode(fileMode)
		if e.IsDir() {
			mode = dirMode
		}
		if info.Mode().Perm()&^mode == 0 {
			return nil
		}
		if err := os.Chmod(path, mode); err != nil {
			return fmt.Errorf("%s can be read by others, and that can't be changed: %w", path, err)
		}
		return nil
	})
}
