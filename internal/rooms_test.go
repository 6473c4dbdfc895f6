// Package internal_test keeps the rooms of the house apart: see ARCHITECTURE.md.
package internal_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/doubledutch-lock/doubledutch/"

// A ban says what a package (and all it imports from this module) must not import, and why.
var bans = []struct {
	from, banned, why string
}{
	{"client", module, "the public client speaks HTTP, and drags nothing of the server into programs that use it"},
	{"internal/command", module, "the form of commands is the lowest room; it knows none of the others"},
	{"internal/command", "net/http", "the log form does not depend on the door"},
	{"internal/command", "os", "encoding does no I/O"},
	{"internal/backup", module, "the form of a backup file; it does not know what the state means"},
	{"internal/backup", "os", "whoever calls has the file"},
	{"internal/backup", "net/http", "the form of a backup file does not depend on the door"},
	{"internal/locktable", module + "internal/node", "imports go down: node feeds the table"},
	{"internal/locktable", module + "internal/server", "imports go down: the table has no door"},
	{"internal/locktable", module + "internal/storage", "the table does no I/O"},
	{"internal/locktable", "github.com/hashicorp/raft", "the table does not know where its entries come from"},
	{"internal/locktable", "net", "the table does no I/O"},
	{"internal/locktable", "net/http", "the table does no I/O"},
	{"internal/locktable", "os", "the table does no I/O"},
	{"internal/locktable", "sync", "the table has no goroutines; its owner serialises"},
	{"internal/locktable", "context", "nothing in the table can wait"},
	{"internal/locktable", "math/rand", "randomness arrives in commands"},
	{"internal/locktable", "math/rand/v2", "randomness arrives in commands"},
	{"internal/locktable", "crypto/rand", "randomness arrives in commands"},
	{"internal/locktable", "log/slog", "the table tells events; others log"},
	{"internal/schedule", module, "slots follow from the calendar alone"},
	{"internal/schedule", "net/http", "slots are computed, not asked for"},
	{"internal/locktable", module + "internal/schedule", "time zones and cron expressions are no part of the replicated state"},
	{"internal/load", module, "the load generator sees a server from outside, as its users do"},
	{"internal/load", "net/http", "its client costs more than the server does"},
	{"internal/storage", module + "internal/locktable", "storage keeps bytes; it does not know what they mean"},
	{"internal/storage", module + "internal/command", "storage keeps bytes; it does not know what they mean"},
	{"internal/storage", module + "internal/node", "imports go down"},
	{"internal/storage", "net/http", "storage has no door"},
	{"internal/peer", module, "the channel between nodes carries bytes; it does not know what they mean"},
	{"internal/peer", "net/http", "nodes do not speak HTTP to each other"},
	{"internal/plainhttp", module, "it serves any handler"},
	{"internal/node", module + "internal/server", "imports go down: a node can be driven without HTTP"},
	{"internal/node", "net/http", "a node knows no HTTP"},
	{"internal/supervise", module, "it runs commands under any lease; it does not know what a lock is"},
	{"internal/supervise", "net/http", "whoever calls renews"},
	{"internal/simulation", module + "internal/server", "the simulation's clients call nodes; sockets would stop its clock"},
	{"internal/server", "github.com/hashicorp/raft", "the door does not know how commands are agreed on"},
	{"internal/server", "github.com/hashicorp/raft-wal", "the door does not know where the log is kept"},
	{"internal/server", module + "internal/storage", "the door asks the node how the disk is"},
	{"client/fence", module, "it wraps a database and asks no server"},
	{"client/fence", "github.com/", "a program that guards its table needs no other module for it"},
	{"internal/server", "net/http/pprof", "it registers itself on the default mux (H15)"},
	{"internal/server", "expvar", "it registers itself on the default mux (H15)"},
}

func TestRoomsAreKeptApart(t *testing.T) {
	imports := listImports(t)
	for _, b := range bans {
		for _, imp := range imports[module+b.from] {
			if imp == b.banned || (strings.HasSuffix(b.banned, "/") && strings.HasPrefix(imp, b.banned)) {
				t.Errorf("%s imports %s: %s", b.from, imp, b.why)
			}
		}
	}
}

// Whoever imports the client gets nothing else.
func TestClientNeedsTheStandardLibraryOnly(t *testing.T) {
	for _, imp := range listImports(t)[module+"client"] {
		if first, _, _ := strings.Cut(imp, "/"); strings.Contains(first, ".") {
			t.Errorf("client imports %s", imp)
		}
	}
}

func TestEveryRoomIsListed(t *testing.T) {
	known := map[string]bool{}
	for _, b := range bans {
		known[module+b.from] = true
	}
	for pkg := range listImports(t) {
		rest, ok := strings.CutPrefix(pkg, module+"internal/")
		if ok && !strings.Contains(rest, "/") && !known[pkg] {
			t.Errorf("no ban is written down for %s; say what it must not know", pkg)
		}
	}
}

// listImports returns the direct imports of every package of the module, without those of tests.
func listImports(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := make(map[string][]string)
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		imports[p.ImportPath] = p.Imports
	}
	if len(imports) < 5 {
		t.Fatalf("only %d packages found", len(imports))
	}
	return imports
}
