//go:build linux

package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// SmallDisk mounts a file system in memory of so many bytes on dir. It needs the right to mount.
func SmallDisk(dir string, size int) (unmount func() error, err error) {
	err = syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, fmt.Sprintf("size=%d,mode=700", size))
	if err != nil {
		return nil, fmt.Errorf("no file system can be mounted here: %w", err)
	}
	return func() error {
		err := syscall.Unmount(dir, 0)
		if err != nil {
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
		return err
	}, nil
}

// Fill uses up all space of the disk, and returns what gives it back.
func Fill(disk string) (free func() error, err error) {
	path := filepath.Join(disk, "ballast")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return nil, fmt.Errorf("filling the disk: %w", errors.Join(err, f.Close()))
	}
	return func() error { return os.Remove(path) }, f.Close()
}
