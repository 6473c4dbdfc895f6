package client

import "crypto/rand"

const (
	keyLength   = 32
	keyAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewKey makes a key: 32 characters of 0-9A-Za-z from the system's cryptographic source. The client makes its own keys;
// make one yourself, and pass it with [Key], if you want to come back to a hold after your program was started anew.
func NewKey() string {
	key := make([]byte, 0, keyLength)
	var random [2 * keyLength]byte
	for {
		_, _ = rand.Read(random[:]) // never fails
		for _, b := range random {
			// What would make some characters more likely than others is thrown away.
			if int(b) >= 256-256%len(keyAlphabet) {
				continue
			}
			if key = append(key, keyAlphabet[int(b)%len(keyAlphabet)]); len(key) == keyLength {
				return string(key)
			}
		}
	}
}

func isKey(s string) bool {
	if len(s) != keyLength {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
