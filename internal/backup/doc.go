// Package backup is the form of a backup file: who it is of and from when, the state of the lock table as opaque bytes, and
// a checksum over everything.
//
// What a caller may rely on: a file of which Reader.Read has returned io.EOF is what a Writer has written, from its first
// byte to its last (SHA-256), and nothing follows. Before that, nothing that was read may be believed.
//
// # Form
//
//	doubledutch-backup 1          version of this form
//	{"cluster_id":…}              the Header, JSON on one line
//	length, bytes; length, bytes  the state in pieces; length is 4 bytes, big-endian, 1 to 1 MiB
//	0                             a length of 0: no more pieces
//	length                        8 bytes, big-endian: how long the file is up to here, itself not counted
//	checksum                      32 bytes: SHA-256 of everything before
//
// So `head -2 FILE` tells what a file is. A reader refuses a version and a header that it does not know, rather than to
// understand half of it.
package backup
