package server

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStartMatrix(t *testing.T) {
	dir := t.TempDir()
	cert, pk := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	writePair(t, cert, pk, "x", time.Unix(1, 0))
	for _, c := range []struct {
		listen         string
		tls, key, open bool
		want           string // part of the error; empty: starts
	}{
		{"", false, false, false, ""},
		{"127.0.0.1:0", false, false, false, ""},
		{"localhost:80", false, false, false, ""},
		{"[::1]:80", false, false, false, ""},
		{":80", false, false, false, "--insecure"},
		{"0.0.0.0:80", false, false, false, "--insecure"},
		{"[::]:80", true, false, false, "--insecure"},
		{"192.0.2.1:80", false, true, false, "--insecure"},
		{"locks.example:80", false, false, false, "--insecure"},
		{"0.0.0.0:80", true, true, false, ""},
		{"0.0.0.0:80", false, false, true, ""},
		{"80", false, false, false, "--listen"},
	} {
		cfg := Config{Backend: &spy{}, Logger: slog.New(slog.DiscardHandler), Listen: c.listen, Insecure: c.open}
		if c.tls {
			cfg.TLSCert, cfg.TLSKey = cert, pk
		}
		if c.key {
			cfg.APIKey = "k"
		}
		_, err := New(cfg)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestStartRefusals(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for want, c := range map[string]Config{
		"backend":       {Logger: log},
		"logger":        {Backend: &spy{}},
		"--tls-key":     {Backend: &spy{}, Logger: log, TLSCert: "c"},
		"--tls-cert":    {Backend: &spy{}, Logger: log, TLSKey: "k"},
		"no such file":  {Backend: &spy{}, Logger: log, TLSCert: "/nowhere/c", TLSKey: "/nowhere/k"},
		"Listen comes ": {},
	} {
		var err error
		if want == "Listen comes " {
			err = (&Server{}).Serve()
		} else {
			_, err = New(c)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestListenOnTakenPort(t *testing.T) {
	d := openDoor(t)
	s, err := New(Config{Backend: d.backend, Logger: slog.New(slog.DiscardHandler), Listen: d.addr})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err == nil {
		t.Error("two servers on one port")
	}
}
