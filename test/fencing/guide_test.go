package fencing

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/doubledutch-lock/doubledutch/test/document"
)

// TestGuide runs the page for those who want to guard a table, in a database of its own.
func TestGuide(t *testing.T) {
	t.Parallel()
	find(t, "psql", "postgresql")
	db := openPostgres(t)
	exec(t, db, "CREATE DATABASE guide")
	program := filepath.Join(t.TempDir(), "doubledutch")
	if err := document.Build(program); err != nil {
		t.Fatal(err)
	}
	h := document.Start(t, program)
	if h.Python = document.Python("psycopg2"); h.Python == "" && os.Getenv("CI") == "true" {
		t.Error("there is no python3 with the module psycopg2; .ci/run has to install it")
	}
	h.Env = append(h.Env, "PGHOST="+pg.place.dir, "PGDATABASE=guide", "PGUSER=postgres", "PGSSLMODE=disable")
	document.Test(t, h, "docs/guides/table.md", map[string]int{"sh": 3, "python": 1, "go": 1})
}
