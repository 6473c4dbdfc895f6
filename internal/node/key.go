package node

import (
	"bufio"
	"crypto/rand"
	"sync"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

const keyAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Bytes at or above this are thrown away, so that every character is equally likely.
const keyCutoff = 256 - 256%len(keyAlphabet)

// Reading the system's source costs more than a key is worth, so each pooled reader fetches bytes for some keys at
// once.
var keySource = sync.Pool{New: func() any { return bufio.NewReaderSize(rand.Reader, 1024) }}

// NewKey returns 32 random characters of [0-9A-Za-z] (190 bits) from the system's cryptographic source.
func NewKey() string {
	src := keySource.Get().(*bufio.Reader)
	defer keySource.Put(src)
	var key [locktable.KeyLen]byte
	for i := 0; i < len(key); {
		// crypto/rand's reader never fails; it ends the process instead.
		if b, _ := src.ReadByte(); int(b) < keyCutoff {
			key[i] = keyAlphabet[int(b)%len(keyAlphabet)]
			i++
		}
	}
	return string(key[:])
}
