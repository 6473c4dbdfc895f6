// Command doubledutch is the lock server and its command line, one file per verb.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/supervise"
)

func main() {
	if code, is := supervise.Guardian(); is {
		os.Exit(code) // this process was started by run, to watch over a command
	}
	os.Exit(run(os.Args[1:], &console{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}

// console is where a verb reads what is piped in, prints what was asked for, and tells a person about it.
type console struct {
	in       io.Reader
	out, err io.Writer
	command  []string // what stands behind -- on the command line of run
}

// run does what args ask for and returns the exit code.
func run(args []string, c *console) int {
	dropEmptyVariables()
	args, c.command = cutCommand(args)
	parser := newParser(&grammar{}, c)
	kongplete.Complete(parser) // a shell that asks for completions gets them, and the program ends here

	ctx, err := parser.Parse(args)
	if err != nil {
		return complain(c, err, exitcode.Usage)
	}
	err = ctx.Run(c)
	switch {
	case errors.Is(err, errSaid):
		return exitcode.Of(err)
	case err != nil:
		return complain(c, err, exitcode.Of(err))
	}
	return exitcode.OK
}

// errSaid is for an exit code that needs no sentence, because whoever it is for was told already.
var errSaid = errors.New("the exit code says it")

// dropEmptyVariables makes an empty environment variable the same as none, which is what a compose file or a service
// manager passes on for a setting that nobody made.
func dropEmptyVariables() {
	for _, v := range os.Environ() {
		if name, value, _ := strings.Cut(v, "="); value == "" && strings.HasPrefix(name, envPrefix+"_") {
			_ = os.Unsetenv(name) // fails for malformed names only
		}
	}
}

// complain prints err as one sentence, with a pointer to the help if the command line was at fault.
func complain(c *console, err error, code int) int {
	_, _ = fmt.Fprintf(c.err, "doubledutch: %s\n", printable(strings.ReplaceAll(err.Error(), "\n", "; ")))
	var parse *kong.ParseError
	if errors.As(err, &parse) {
		_, _ = fmt.Fprintf(c.err, "Run \"%s --help\" for help.\n", helpTarget(parse))
	}
	return code
}

// helpTarget is the command whose help fits the error.
func helpTarget(err *kong.ParseError) string {
	if err.Context == nil || err.Context.Selected() == nil {
		return "doubledutch"
	}
	return err.Context.Selected().FullPath()
}
