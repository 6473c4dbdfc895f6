package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// parse parses args without running anything.
func parse(t *testing.T, args ...string) (*grammar, error) {
	t.Helper()
	g := &grammar{}
	_, err := newParser(g, &console{out: &bytes.Buffer{}, err: &bytes.Buffer{}}).Parse(args)
	return g, err
}

// configFileOf writes a configuration file and returns its name.
func configFileOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	file := configFileOf(t, `{"server-name": "flat", "log-level": "warn", "serve": {"server-name": "file", "max-locks": 7, "shutdown-timeout": "3s"}}`)
	g, err := parse(t, "serve", "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	s := &g.Serve
	if s.ServerName != "file" || s.LogLevel != "warn" || s.MaxLocks != 7 || s.ShutdownTimeout.duration().String() != "3s" {
		t.Errorf("from the file: %q %q %d %v", s.ServerName, s.LogLevel, s.MaxLocks, s.ShutdownTimeout)
	}
	if s.Listen != "127.0.0.1:7333" {
		t.Errorf("the default of --listen is %q", s.Listen)
	}

	t.Setenv("DOUBLEDUTCH_SERVER_NAME", "environment")
	t.Setenv("DOUBLEDUTCH_CONFIG", file)
	if g, err = parse(t, "serve"); err != nil || g.Serve.ServerName != "environment" || g.Serve.MaxLocks != 7 {
		t.Errorf("from the environment: %q %d, %v", g.Serve.ServerName, g.Serve.MaxLocks, err)
	}
	if g, err = parse(t, "serve", "--server-name", "flag"); err != nil || g.Serve.ServerName != "flag" {
		t.Errorf("from the command line: %q, %v", g.Serve.ServerName, err)
	}
}

// A stronger source decides between flags that exclude each other; only within one source they contradict.
func TestExclusiveFlagsAcrossSources(t *testing.T) {
	t.Setenv("DOUBLEDUTCH_DATA_DIR", "/somewhere")
	g, err := parse(t, "serve", "--volatile")
	if err != nil || !g.Serve.Volatile || g.Serve.DataDir != "" {
		t.Errorf("volatile %v in %q, %v", g.Serve.Volatile, g.Serve.DataDir, err)
	}
	t.Setenv("DOUBLEDUTCH_VOLATILE", "true")
	if _, err = parse(t, "serve"); err == nil || !strings.Contains(err.Error(), "DOUBLEDUTCH_VOLATILE and DOUBLEDUTCH_DATA_DIR contradict") {
		t.Errorf("both in the environment: %v", err)
	}
	if g, err = parse(t, "serve", "--data-dir", "here"); err != nil || g.Serve.Volatile || g.Serve.DataDir != "here" {
		t.Errorf("volatile %v in %q, %v", g.Serve.Volatile, g.Serve.DataDir, err)
	}
}

func TestConfigFileMistakes(t *testing.T) {
	for text, want := range map[string]string{
		`{"lisen": "x"}`:                         `"lisen" in FILE is not the name of a flag`,
		`{"serve": {"lisen": "x"}}`:              `"serve.lisen" in FILE is not the name of a flag`,
		`{"serve": {"server": "x"}}`:             `"serve.server" in FILE is not the name of a flag`,
		`{"serve": 3}`:                           `"serve" in FILE names a command and must be an object`,
		`{"volatile": "yes"}`:                    `"volatile" in FILE: must be true or false`,
		`{"listen": 80}`:                         `"listen" in FILE: must be a string`,
		`{"max-locks": true}`:                    `"max-locks" in FILE: must be a number or a string`,
		`{"max-locks": -1}`:                      `"max-locks" in FILE`,
		`{"max-ttl": "soon"}`:                    `"max-ttl" in FILE: "soon" is not a duration`,
		`{"log-level": "loud"}`:                  `"log-level" in FILE: must be one of debug, info, warn, error`,
		`{"allowed-host": "x"}`:                  `"allowed-host" in FILE: must be a list of strings`,
		`{"config": "x"}`:                        `"config" in FILE is not the name of a flag`,
		`{"listen": "a", "listen": "b"}`:         `FILE is not a JSON object of flag values: jsontext: duplicate`,
		`{"listen": "a"} x`:                      `FILE is not a JSON object of flag values`,
		`[]`:                                     `FILE is not a JSON object of flag values`,
		``:                                       `FILE is not a JSON object of flag values`,
		`{"volatile": true, "data-dir": "here"}`: `"volatile" in the configuration file and "data-dir" in the configuration file contradict each other`,
	} {
		file := configFileOf(t, text)
		_, err := parse(t, "serve", "--config", file)
		want = strings.ReplaceAll(want, "FILE", file)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n gives  %v\n wanted %s", text, err, want)
		}
	}
	if _, err := parse(t, "serve", "--config", "/nowhere/file"); err == nil || !strings.Contains(err.Error(), "--config: open /nowhere/file") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestConfigFileValues(t *testing.T) {
	file := configFileOf(t, `{"allowed-host": ["a.example", "b,c"], "volatile": true, "max-ttl": 90, "ttl": "2m", "min-free-space": 4096}`)
	g, err := parse(t, "serve", "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(g.Serve.AllowedHost, " "); got != "a.example b,c" {
		t.Errorf("allowed hosts are %q", got)
	}
	if !g.Serve.Volatile || g.Serve.MaxTTL.duration().String() != "1m30s" || g.Serve.MinFreeSpace != 4096 {
		t.Errorf("volatile %v, max-ttl %v, min-free-space %d", g.Serve.Volatile, g.Serve.MaxTTL, g.Serve.MinFreeSpace)
	}
	if g, err = parse(t, "acquire", "x", "--config", file); err != nil || g.Acquire.TTL.duration().String() != "2m0s" {
		t.Errorf("ttl is %v, %v", g.Acquire.TTL, err)
	}
}

func TestEveryFlagHasItsVariable(t *testing.T) {
	parser := newParser(&grammar{}, &console{})
	flags := 0
	err := kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok && f.Name != "help" {
			flags++
			if len(f.Envs) != 1 || !strings.HasPrefix(f.Envs[0], envPrefix+"_") {
				t.Errorf("--%s has the variables %q", f.Name, f.Envs)
			}
			if f.Help == "" {
				t.Errorf("--%s has no help", f.Name)
			}
		}
		return next(nil)
	})
	if err != nil || flags < 40 {
		t.Errorf("visited %d flags, %v", flags, err)
	}
}

func TestEmptyVariableIsNone(t *testing.T) {
	doubledutch(t, "serve", "--tls-key", "x").with("DOUBLEDUTCH_MAX_TTL=", "DOUBLEDUTCH_LOG_LEVEL=").check(2, "--tls-key needs --tls-cert")
	doubledutch(t, "serve", "--tls-key", "x").with("DOUBLEDUTCH_MAX_TTL=soon").check(2, "DOUBLEDUTCH_MAX_TTL")
}
