package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/backup"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// backupCmd writes a backup of a running cluster, or of a stopped node.
type backupCmd struct {
	File    string `arg:"" help:"File to write; - is standard output."`
	DataDir string `name:"data-dir" env:"DOUBLEDUTCH_BACKUP_DATA_DIR" placeholder:"DIR" help:"Back up the data directory of a server that is stopped, instead of asking one that runs."`
	Force   bool   `help:"Replace FILE if it exists."`
	clientFlags
}

// Help says what is in the file and when it is needed.
func (*backupCmd) Help() string {
	return `Everything that was acknowledged before is in it. The server goes on meanwhile, and any node of a cluster will do. What
arrives is checked, and FILE appears when it is whole, with mode 0600.

FILE HOLDS THE KEYS OF ALL LOCKS: whoever has it can release them. Keep it as you keep the data directory. A server without
an API key gives backups to clients on its own machine only.

With --data-dir, for the case that a majority of a cluster is lost for good: the same from what a node has on disk. Of
several survivors take the one with the highest term, and among these the highest log entry; both are printed.

Examples:

    doubledutch backup locks.backup
    doubledutch backup --server https://host2:7333 "locks-$(date +%F).backup"
    doubledutch backup - | age -r age1... > locks.backup.age
    doubledutch backup --data-dir /var/lib/doubledutch last.backup

"doubledutch restore --check FILE" tells what is in a backup, "doubledutch restore FILE" begins a new cluster with it.`
}

// AfterApply takes no --data-dir from a configuration file, as its variable is another one than that of serve: to know where a
// server has its data does not mean that it is stopped.
func (b *backupCmd) AfterApply(ctx *kong.Context) error {
	if newSources(ctx).from["data-dir"] == fromFile {
		b.DataDir = ""
	}
	return nil
}

// backupReport is what is told of a backup.
type backupReport struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
	backup.Header
}

// Run writes the file.
func (b *backupCmd) Run(c *console) error {
	secureProcess(newLogger(c.err, "warn", "auto")) // keys pass through
	t, err := newTarget(c, b.File, b.Force)
	if err != nil {
		return err
	}
	defer t.discard()
	r := backupReport{File: b.File}
	if b.DataDir != "" {
		r.Header, r.Bytes, err = b.fromDir(c, t)
	} else {
		r.Header, r.Bytes, err = b.fromServer(c, t)
	}
	if err != nil {
		return err
	}
	if err := t.commit(); err != nil {
		return err
	}
	return b.tell(t.messages, &r)
}

// fromDir reads the data directory of a stopped server. A signal ends it with the next write, so that no half file is left.
func (b *backupCmd) fromDir(c *console, to io.Writer) (backup.Header, int64, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	i, err := node.ReadDir(b.DataDir, newLogger(c.err, "warn", "auto"), version())
	if err != nil {
		return backup.Header{}, 0, exitcode.With(storageCode(err), fmt.Errorf("back up %s: %w", b.DataDir, err))
	}
	n, err := i.WriteTo(&interruptible{ctx, to})
	return i.Header(), n, err
}

// interruptible is a writer that fails once a signal came.
type interruptible struct {
	ctx context.Context //nolint:containedctx // of the one call that writes
	w   io.Writer
}

func (i *interruptible) Write(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, exitcode.With(exitcode.Interrupted, errors.New("interrupted"))
	}
	return i.w.Write(p)
}

// fromServer asks a server, and checks what comes.
func (b *backupCmd) fromServer(c *console, to io.Writer) (h backup.Header, size int64, err error) {
	err = b.run(c, func(ctx context.Context, server *client) error {
		body, err := server.stream(ctx, request{method: http.MethodGet, path: "/v1/cluster/backup"})
		if err != nil {
			return err
		}
		defer func() { _ = body.Close() }()
		var n uint64
		if h, n, err = backup.Verify(io.TeeReader(body, to)); errors.Is(err, backup.ErrDamaged) {
			return exitcode.With(exitcode.Unavailable, fmt.Errorf("what came from %s is not a whole backup, and was not kept: %w", server.base, err))
		}
		size = int64(n)
		return err
	})
	return h, size, err
}

// tell prints the report.
func (b *backupCmd) tell(w io.Writer, r *backupReport) error {
	if b.JSON {
		return printJSON(w, r)
	}
	_, err := fmt.Fprintf(w, "backed up %s: %d bytes, %s\n", contents(&r.Header), r.Bytes, origin(&r.Header))
	return err
}

// contents says in words what is in a backup.
func contents(h *backup.Header) string {
	return fmt.Sprintf("%d locks (%d holds, %d waiting), %d sessions", h.Locks, h.Holds, h.Waiters, h.Sessions)
}

// origin says in words where a backup is from.
func origin(h *backup.Header) string {
	entry := fmt.Sprintf("log entry %d", h.Index)
	if h.Term > 0 {
		entry = fmt.Sprintf("log entry %d of term %d", h.Index, h.Term)
	}
	return fmt.Sprintf("%s, token epoch %d, cluster %s, by %s at %s", entry, h.Epoch, h.ClusterID, cell(h.Node), h.Made)
}
