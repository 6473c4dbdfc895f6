//go:build linux

package rig

import (
	"crypto/rand"
	"fmt"
	"os/exec"
)

// Program is the package of the program.
const Program = "github.com/doubledutch-lock/doubledutch/cmd/doubledutch"

// Build builds the program, with further flags of go build, into the file named to.
func Build(to string, flags ...string) error {
	args := append([]string{"build", "-o", to}, flags...)
	out, err := exec.Command("go", append(args, Program)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go %v: %w: %s", args, err, out)
	}
	return nil
}

// KeyAlphabet is what keys and session ids are made of, KeyLength of them.
const (
	KeyAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	KeyLength   = 32
)

// NewKey returns a key, or id of a session, as a client makes one.
func NewKey() string {
	var b [KeyLength]byte
	_, _ = rand.Read(b[:]) // never fails
	for i := range b {
		b[i] = KeyAlphabet[int(b[i])%len(KeyAlphabet)]
	}
	return string(b[:])
}
