//go:build linux

package supervise

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// modeVariable makes this test binary behave as something else.
const modeVariable = "SUPERVISE_TEST_MODE"

func TestMain(m *testing.M) {
	if code, is := Guardian(); is {
		os.Exit(code)
	}
	switch os.Getenv(modeVariable) {
	case "wrap":
		os.Exit(wrapMain(os.Args[1:]))
	case "":
		os.Exit(m.Run())
	}
}

// wrapMain runs the rest of its arguments under a lease that is renewed as long as a file is there.
func wrapMain(args []string) int {
	flags := flag.NewFlagSet("wrap", flag.ExitOnError)
	ttl := flags.Duration("ttl", time.Hour, "")
	grace := flags.Duration("grace", 100*time.Millisecond, "")
	reserve := flags.Duration("reserve", 100*time.Millisecond, "")
	renewed := flags.String("renewed", "", "")
	lost := flags.String("lost", "", "")
	onLost := flags.String("on-lost", string(Kill), "")
	leftover := flags.String("leftover", string(Wait), "")
	litter := flags.String("litter", "", "")
	_ = flags.Parse(args)
	lease := &fileLease{ttl: *ttl, renewed: *renewed, gone: make(chan struct{})}
	lease.until = now().add(*ttl)
	if *lost != "" {
		go func() {
			for {
				if _, err := os.Stat(*lost); err == nil {
					close(lease.gone)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, modeVariable+"=") {
			env = append(env, v)
		}
	}
	out, err := Run(&Options{
		Argv: flags.Args(), Env: env, Lease: lease, Grace: *grace, Reserve: *reserve, Poll: 10 * time.Millisecond,
		OnLost: OnLost(*onLost), Leftover: Leftover(*leftover), Litter: *litter, Say: func(line string) { fmt.Fprintln(os.Stderr, "wrap: "+line) },
	}, Listen())
	fmt.Fprintf(os.Stderr, "gone by %v\n", now())
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 125
	case out.Lost:
		return 123
	}
	return out.Code
}

// fileLease is renewed when somebody asks and some time has passed, as long as a file is there.
type fileLease struct {
	ttl     time.Duration
	renewed string
	until   instant
	gone    chan struct{}
}

func (l *fileLease) Remaining() time.Duration {
	if _, err := os.Stat(l.renewed); err == nil && l.until < now().add(l.ttl-20*time.Millisecond) {
		l.until = now().add(l.ttl)
	}
	return time.Duration(l.until - now())
}

func (l *fileLease) Lost() <-chan struct{} { return l.gone }
