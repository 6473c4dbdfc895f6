//go:build linux

// Package rig is what tests share that run the real program from outside: building it, starting and ending processes, disks that
// are too small, and strace to make system calls fail. It fails no test by itself: its functions return errors and reasons.
package rig
