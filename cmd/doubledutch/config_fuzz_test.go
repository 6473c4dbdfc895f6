package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever a configuration file holds, it is either taken or refused with a sentence that names the file.
func FuzzConfigFile(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"listen": "x", "serve": {"max-ttl": 3}}`, `{"allowed-host": ["a"]}`, `{"ttl": 1e999}`, `{"slots": -1}`, `{"serve": []}`, `{"volatile": null}`,
	} {
		f.Add(text)
	}
	path := filepath.Join(f.TempDir(), "config.json")
	model := newParser(&grammar{}, &console{}).Model
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readConfig(path, model); err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%q is refused without the name of the file: %v", text, err)
		}
	})
}
