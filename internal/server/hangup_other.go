//go:build !linux

package server

import "syscall"

// seesHangups: here an end of the connection is not seen while data is unread before it.
const seesHangups = false

// watchHangup watches nothing: net/http reads ahead and ends the request's context, up to the first byte that comes.
func watchHangup(syscall.RawConn, func()) uint64 { return 0 }

func forgetHangup(syscall.RawConn, uint64) {}

// hungUp cannot tell.
func hungUp(syscall.RawConn) bool { return false }

// wasReset cannot tell.
func wasReset(syscall.RawConn) bool { return false }
