package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/backup"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// restoreCmd makes the data directory of a new cluster out of a backup.
type restoreCmd struct {
	File       string `arg:"" help:"The backup; - is standard input."`
	DataDir    string `name:"data-dir" default:"doubledutch-data" placeholder:"DIR" help:"Data directory to make (default ${default}); it must be empty or missing."`
	Name       string `placeholder:"NAME" help:"Name of the node (default: from the host name)."`
	TokenEpoch uint64 `name:"token-epoch" placeholder:"N" help:"Begin with this epoch of tokens at least. Needed if this backup, or an older one, was restored before: take one more than was printed then."`
	Check      bool   `help:"Only check FILE and say what is in it."`
	JSON       bool   `name:"json" help:"Print what was done as JSON, for programs."`
}

// Help says what comes before and after.
func (*restoreCmd) Help() string {
	return `FILE is checked as a whole before anything is made. The directory belongs to the only node of a new cluster, which
nodes of the old one cannot join: first make sure that none of them still serves. Start it with "doubledutch serve";
further nodes get empty directories and --join.

Holds and sessions begin their whole lifetimes anew, places in queues are kept. Holds that were released since the backup
are back until they expire; holds that were granted since are lost. Tokens go on in a new epoch, above all that the old
cluster gave, so resources that compare tokens refuse whoever has lost a hold.

Examples:

    doubledutch restore --check locks.backup
    doubledutch restore locks.backup --data-dir /var/lib/doubledutch --name n1
    age -d locks.backup.age | doubledutch restore - --data-dir /var/lib/doubledutch`
}

// AfterApply refuses what cannot work before anything is read.
func (r *restoreCmd) AfterApply() error {
	if r.DataDir == "" {
		return errors.New("--data-dir is empty: name a directory")
	}
	if r.Name != "" {
		if err := node.CheckName(r.Name); err != nil {
			return fmt.Errorf("--name: %w", err)
		}
	}
	if r.TokenEpoch > locktable.MaxEpoch {
		return fmt.Errorf("--token-epoch: the last epoch is %d", locktable.MaxEpoch)
	}
	return nil
}

// restoreReport is what is told of a restore.
type restoreReport struct {
	Backup    backup.Header `json:"backup"`
	DataDir   string        `json:"data_dir,omitempty"`
	Name      string        `json:"name,omitempty"`
	ClusterID string        `json:"cluster_id,omitempty"`
	Epoch     uint64        `json:"token_epoch,omitempty"`
}

// Run reads the backup and makes the directory.
func (r *restoreCmd) Run(c *console) error {
	log := newLogger(c.err, "warn", "auto")
	secureProcess(log) // before the first file is made
	i, err := r.read(c)
	if err != nil {
		return err
	}
	report := restoreReport{Backup: i.Header()}
	if r.Check {
		return r.tell(c, &report)
	}
	p, err := i.Plant(node.Planting{Dir: r.DataDir, Name: r.Name, Epoch: r.TokenEpoch, Logger: log})
	if err != nil {
		return r.explain(err)
	}
	report.DataDir, report.Name, report.ClusterID, report.Epoch = r.DataDir, p.Name, p.ClusterID, p.Epoch
	return r.tell(c, &report)
}

// read reads and checks the whole backup.
func (r *restoreCmd) read(c *console) (*node.Image, error) {
	in, name := c.in, "standard input"
	if r.File != "-" {
		f, err := os.Open(r.File)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was only read
		in, name = io.Reader(f), r.File
	}
	i, err := node.ReadBackup(in)
	switch {
	case errors.Is(err, backup.ErrDamaged), errors.Is(err, backup.ErrNewer), errors.Is(err, locktable.ErrBadSnapshot):
		return nil, exitcode.With(exitcode.StorageDamaged, fmt.Errorf("%s: %w; nothing was restored", name, err))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return i, nil
}

// explain says why no directory was made.
func (r *restoreCmd) explain(err error) error {
	if errors.Is(err, storage.ErrHasData) {
		return fmt.Errorf("%s holds data already, and was not touched: a restore makes a new directory; "+
			"move the old one away (keep it until all is well), or name another with --data-dir", r.DataDir)
	}
	return exitcode.With(storageCode(err), fmt.Errorf("restore to %s: %w", r.DataDir, err))
}

// tell prints what was found, and done.
func (r *restoreCmd) tell(c *console, report *restoreReport) error {
	if r.JSON {
		return printJSON(c.out, report)
	}
	h := &report.Backup
	if r.Check {
		_, err := fmt.Fprintf(c.out, "a whole backup of %s: %s\n", contents(h), origin(h))
		return err
	}
	_, err := fmt.Fprintf(c.out, "restored %s to %s: node %s of the new cluster %s, token epoch %d\n"+
		"Start it with \"doubledutch serve --data-dir %s\" when no node of the old cluster serves any more.\n",
		contents(h), report.DataDir, report.Name, report.ClusterID, report.Epoch, report.DataDir)
	return err
}
