//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"sync"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// What clients say of themselves. It is shown to whoever inspects the lock or is refused because of it, and nowhere else.
const (
	canaryOwner    = "CanaryOwnerQ7x"
	canaryMetadata = "CanaryMetadataK3v"
	canaryAPIKey   = "CanaryApiKeyZ9w8Y7v6U5t4"
	// Every name of a lock begins like this. Names may be logged, but are no labels of metrics.
	canaryName = "CanaryName"
)

// newKey returns a key, or id of a session, as a client makes one.
func newKey() string {
	key := rig.NewKey()
	evidence.secret(key)
	return key
}

// kind says where a piece of evidence comes from.
type kind int

const (
	fromOutput  kind = iota // what a server printed
	fromError               // the body of an answer of 400 and more
	fromRefusal             // the body of a 409 that tells about the holder
	fromMetrics
)

// archive keeps all that the servers said and all that they must not say. Safe for concurrent use.
type archive struct {
	mu      sync.Mutex // guards what follows
	secrets map[string]bool
	pieces  []piece
	outputs []*capture
}

type piece struct {
	kind  kind
	where string
	text  []byte
}

var evidence = &archive{secrets: map[string]bool{}}

// secret registers a key.
func (a *archive) secret(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secrets[key] = true
}

func (a *archive) add(k kind, where string, text []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pieces = append(a.pieces, piece{k, where, text})
}

func (a *archive) watch(c *capture) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.outputs = append(a.outputs, c)
}

// search returns one line for every thing that was said and should not have been.
func (a *archive) search() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.outputs {
		a.pieces = append(a.pieces, piece{fromOutput, c.where, c.bytes()})
	}
	a.outputs = nil
	var leaks []string
	for _, p := range a.pieces {
		leaks = append(leaks, a.searchLocked(p)...)
	}
	return leaks
}

func (a *archive) searchLocked(p piece) []string {
	var leaks []string
	found := func(what string) { leaks = append(leaks, p.where+": "+what) }
	if a.hasSecretLocked(p.text) {
		found("a key or session id")
	}
	for text, allowed := range map[string]bool{
		canaryAPIKey:         false,
		canaryOwner:          p.kind == fromRefusal,
		canaryMetadata:       p.kind == fromRefusal,
		canaryName:           p.kind != fromMetrics,
		"WARNING: DATA RACE": false,
		"panic: ":            false,
		"fatal error: ":      false,
		"http: superfluous":  false,
		"a handler panicked": false,
		"inside the server":  false,
	} {
		if !allowed && bytes.Contains(p.text, []byte(text)) {
			found(text)
		}
	}
	return leaks
}

// hasSecretLocked slides over every run of letters and digits that is long enough for a key.
func (a *archive) hasSecretLocked(text []byte) bool {
	run := 0
	for i, c := range text {
		if strings.IndexByte(rig.KeyAlphabet, c) < 0 {
			run = 0
			continue
		}
		if run++; run >= rig.KeyLength && a.secrets[string(text[i+1-rig.KeyLength:i+1])] {
			return true
		}
	}
	return false
}

func (a *archive) summary() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	size := 0
	for _, p := range a.pieces {
		size += len(p.text)
	}
	return fmt.Sprintf("canary sweep: %d keys and 4 texts in %d pieces of evidence (%d KiB): 0 hits", len(a.secrets), len(a.pieces), size>>10)
}

// capture keeps what a process prints. Safe for concurrent use.
type capture struct {
	where string

	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func newCapture(where string) *capture {
	c := &capture{where: where}
	evidence.watch(c)
	return c
}

// Write appends p; it never fails.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(p)
}

func (c *capture) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.text.Bytes())
}

func (c *capture) String() string { return string(c.bytes()) }
