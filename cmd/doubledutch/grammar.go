package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// envPrefix starts the name of the environment variable that stands for a flag.
const envPrefix = "DOUBLEDUTCH"

// grammar is the whole command line.
type grammar struct {
	Config configFile `placeholder:"FILE" help:"JSON file with values for flags; keys are flag names, alone or grouped by command."`

	Serve      serveCmd      `cmd:"" help:"Run the lock server."`
	Run        runCmd        `cmd:"" help:"Run a command while holding a lock, or once over all machines."`
	Acquire    acquireCmd    `cmd:"" help:"Acquire a lock and print its key."`
	Renew      renewCmd      `cmd:"" help:"Start the lifetime of a held lock anew."`
	Release    releaseCmd    `cmd:"" help:"Release a lock, or give up a place in its queue."`
	Ls         lsCmd         `cmd:"" help:"List the locks that are held or waited for."`
	Show       showCmd       `cmd:"" help:"Show who holds a lock and who waits for it."`
	Watch      watchCmd      `cmd:"" help:"Print what happens to locks or tasks, as it happens."`
	Verify     verifyCmd     `cmd:"" help:"Ask whether a fencing token still holds a lock."`
	Task       taskCmd       `cmd:"" help:"Things to be done once, or once per slot of a schedule."`
	Elect      electCmd      `cmd:"" help:"Campaign for an election, and stay leader until a signal."`
	Leader     leaderCmd     `cmd:"" help:"Tell who leads an election."`
	History    historyCmd    `cmd:"" help:"Show who held a lock before, or at some time."`
	Ask        askCmd        `cmd:"" help:"Ask the holders of a lock to make way."`
	Break      breakCmd      `cmd:"" help:"End the holds of a lock by order."`
	Handover   handoverCmd   `cmd:"" help:"Hand a held lock over to one who waits for it."`
	Ping       pingCmd       `cmd:"" help:"Ask whether the server is ready (for health checks)."`
	Cluster    clusterCmd    `cmd:"" help:"Look after a cluster: its members, its leader, its certificates."`
	Bench      benchCmd      `cmd:"" help:"Put load on a server, and measure how it bears it."`
	Backup     backupCmd     `cmd:"" help:"Write a backup of everything, from a running server or a stopped one's data directory."`
	Restore    restoreCmd    `cmd:"" help:"Make the data directory of a new cluster out of a backup."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Completion completionCmd `cmd:"" help:"Print the completion script for a shell."`
}

// newParser returns the parser that fills g. Everything that it prints goes to c.
func newParser(g *grammar, c *console) *kong.Kong {
	return kong.Must(
		g,
		kong.Name("doubledutch"),
		kong.Description(description()),
		kong.DefaultEnvars(envPrefix),
		kong.Writers(c.out, c.err),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoAppDescFormat: true, WrapUpperBound: 100}),
		serveVars(),
	)
}

// description is the text of `doubledutch --help` above the list of commands.
func description() string {
	var b strings.Builder
	b.WriteString(`A lock service: whoever acquires a lock has it alone until it is released or its lifetime ends.

    doubledutch serve                          run a server in this directory
    KEY=$(doubledutch acquire --wait 1m db)    take the lock "db", waiting up to a minute
    doubledutch release db "$KEY"              give it back
    doubledutch run db -- ./migrate            or all of it in one, with a command

A flag can also be set by its environment variable or in the file named by --config. The command
line goes before the environment, the environment before the file, the file before the default.

Exit codes:
`)
	for _, m := range exitcode.Meanings {
		_, _ = fmt.Fprintf(&b, "  %3d  %s\n", m.Code, m.Text)
	}
	return strings.TrimRight(b.String(), "\n")
}
