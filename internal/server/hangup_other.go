//go:build !linux

package server

import "syscall"

// seesHangups: here an end of the connection is not seen while data is unread before it.
const seesHangups = false

// hungUp says yes: what sends more before it has its answer gives its place up, since nobody would notice its end.
func hungUp(syscall.RawConn) bool { return true }

// wasReset cannot tell.
func wasReset(syscall.RawConn) bool { return false }
