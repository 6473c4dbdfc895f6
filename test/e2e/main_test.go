//go:build linux

package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// minParallel is how many tests run at once at least: most of them wait for most of their time.
const minParallel = 5

var (
	// testedBinary is the program as most tests start it, under the race detector if the tests are. plainBinary never is.
	testedBinary, plainBinary string
	// scratch is a directory of this run, removed at its end.
	scratch string
)

func TestMain(m *testing.M) {
	if os.Getenv(jumperEnv) != "" {
		os.Exit(jump(os.Args[1:]))
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if p := flag.Lookup("test.parallel"); p != nil {
		if n, err := strconv.Atoi(p.Value.String()); err == nil && n < minParallel {
			_ = flag.Set("test.parallel", strconv.Itoa(minParallel))
		}
	}
	var err error
	if scratch, err = os.MkdirTemp("", "doubledutch-e2e"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	if err := buildAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if leaks := evidence.search(); len(leaks) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: the sweep of everything that the servers said found %d leaks:\n", len(leaks))
		for _, l := range leaks[:min(len(leaks), 20)] {
			fmt.Fprintln(os.Stderr, "  "+l)
		}
		return 1
	}
	fmt.Println(evidence.summary())
	return code
}

// buildAll builds the program once, and once more under the race detector if the tests run under it.
func buildAll() error {
	plainBinary = filepath.Join(scratch, "doubledutch")
	testedBinary = plainBinary
	var group sync.WaitGroup
	var plain, raced error
	group.Go(func() { plain = rig.Build(plainBinary) })
	if raceEnabled {
		testedBinary = filepath.Join(scratch, "doubledutch-race")
		group.Go(func() { raced = rig.Build(testedBinary, "-race") })
	}
	group.Wait()
	if plain != nil {
		return plain
	}
	return raced
}
