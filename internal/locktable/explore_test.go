package locktable

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// exploreDepth is how many entries in a row TestExplore tries in every order (at least 7).
const exploreDepth = 7

// move is one entry of the exhaustive explorer.
type move struct {
	name    string
	advance time.Duration
	due     bool // go to the next deadline
	cmds    []*command.Command
}

// lockMoves are what two clients can do with one lock: each has a private key and a session with another one.
func lockMoves(tb testing.TB) []move {
	tb.Helper()
	return moves(tb, []string{
		"acquire k1 db ttl=2 wait=1 lock-delay=1 via=1", "acquire k2 db ttl=2 wait=3 via=2", "release k1 db", "release k2 db", "abandon k1 via=1",
		"acquire a1 db session=s1 shared wait=-1", "acquire a2 db session=s1 shared wait=2", "acquire b1 db session=s2 wait=-1",
		"release a1 db", "release b1 db", "renew a1 db", "session end s2", "acquire k3 db shared ttl=1",
	})
}

// taskMoves are what they can do with one task.
func taskMoves(tb testing.TB) []move {
	tb.Helper()
	return moves(tb, []string{
		"task claim k1 t ttl=2 wait=1 attempts=2 retry=1 keep=1 via=1", "task claim k2 t ttl=2 wait=3 at-most-once=1 keep=2",
		"task claim a1 t session=s1 wait=-1 attempts=1 keep=-1", "task claim k3 t ttl=1 from=0 to=3 at-least=2",
		"task finish k1 t", "task fail k1 t", "task fail k2 t", "task fail a1 t", "abandon k1 via=1", "release k2", "session end s1",
		"task forget t", "task renew k1 t",
	})
}

func moves(tb testing.TB, lines []string) []move {
	tb.Helper()
	out := []move{{name: "1s", advance: time.Second}, {name: "due", due: true}}
	for _, line := range lines {
		c, err := parseCommand(strings.Fields(line))
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, move{name: line, cmds: []*command.Command{c}})
	}
	return out
}

// TestExplore goes breadth-first through all orders of moves, once through each state, and compares with the model.
func TestExplore(t *testing.T) { explore(t, lockMoves(t), exploreDepth) }

// TestExploreTasks does the same with the moves around a task.
func TestExploreTasks(t *testing.T) { explore(t, taskMoves(t), exploreDepth-1) }

func explore(t *testing.T, all []move, depth int) {
	t.Parallel()
	t.Helper()
	if testing.Short() {
		depth = 5
	}
	start := time.Now()
	frontier, seen, edges := [][]byte{nil}, map[string]bool{}, 0
	for d := 1; d <= depth; d++ {
		var next [][]byte
		for _, path := range frontier {
			for i := range all {
				longer := append(slices.Clone(path), byte(i))
				state, err := walk(all, longer)
				if err != nil {
					t.Fatalf("%s: %v", pathNames(all, longer), err)
				}
				edges++
				if !seen[state] {
					seen[state] = true
					next = append(next, longer)
				}
			}
		}
		frontier = next
	}
	t.Logf("depth %d: %d states, %d steps in %.1f s", depth, len(seen), edges, time.Since(start).Seconds())
	if len(seen) < 100 {
		t.Errorf("only %d states", len(seen))
	}
}

func pathNames(all []move, path []byte) string {
	var names []string
	for _, i := range path {
		names = append(names, all[i].name)
	}
	return strings.Join(names, "; ")
}

// walk runs a path and compares the last step, half of the time on a table restored from a snapshot; the steps before were
// compared when they were the last.
func walk(all []move, path []byte) (string, error) {
	s := testSettings()
	w := &world{t: New(s), m: newModel(s)}
	open := []*command.Command{
		command.FromOpenSession(&command.OpenSession{Id: pad("s1"), Ttl: int64(3 * time.Second)}),
		command.FromOpenSession(&command.OpenSession{Id: pad("s2"), Ttl: int64(4 * time.Second)}),
	}
	open = append(open, command.FromCalendar(&command.Calendar{}))
	w.t.Apply(0, open)
	w.m.Apply(0, open)
	for i, b := range path {
		mv := all[b]
		now := w.m.now.Add(mv.advance)
		if d, ok := w.m.NextDeadline(); mv.due && ok {
			now = d
		}
		if last := i == len(path)-1; last && b%2 == 0 {
			n, err := snapshotRestore(w.t)
			if err != nil {
				return "", err
			}
			w.t = n
		}
		outs, events := w.t.Apply(now, mv.cmds)
		mouts, mevents := w.m.Apply(now, mv.cmds)
		if i < len(path)-1 {
			continue
		}
		if err := cmp.Or(sameOutcomes(outs, mouts), sameEvents(events, mevents), w.t.CheckInvariants()); err != nil {
			return "", err
		}
	}
	return w.m.canonical(), nil
}

// canonical describes the state up to a shift of time and of the counters, under which all rules are the same.
func (m *model) canonical() string {
	var seqs, tokens, grants []uint64
	for _, c := range m.claims {
		seqs, tokens, grants = append(seqs, c.seq), append(tokens, c.token), append(grants, uint64(c.nth))
	}
	for _, s := range m.sessions {
		seqs = append(seqs, s.seq)
	}
	for _, b := range m.blocks {
		seqs = append(seqs, b.seq)
	}
	for _, x := range m.tasks {
		seqs = append(seqs, x.timer)
	}
	slices.Sort(seqs)
	slices.Sort(tokens)
	slices.Sort(grants)
	var b strings.Builder
	rel := func(t Time) Time { return min(t-m.now, 1<<40) }
	for _, c := range m.claims {
		seq, _ := slices.BinarySearch(seqs, c.seq)
		token, _ := slices.BinarySearch(tokens, c.token)
		fmt.Fprintf(&b, "%s %v %d %d %d %d ", c.key[:2], c.held, c.mode, seq, token, c.attachment)
		if c.held {
			nth, _ := slices.BinarySearch(grants, uint64(c.nth))
			fmt.Fprintf(&b, "%d %d;", rel(c.deadline), nth)
		} else {
			fmt.Fprintf(&b, "%d %d;", rel(c.waitUntil), rel(c.grace))
		}
	}
	for _, s := range m.sessions {
		seq, _ := slices.BinarySearch(seqs, s.seq)
		fmt.Fprintf(&b, "%s %d %d;", s.id[:2], seq, rel(s.deadline))
	}
	for _, x := range m.blocks {
		seq, _ := slices.BinarySearch(seqs, x.seq)
		fmt.Fprintf(&b, "block %d %d;", seq, rel(x.until))
	}
	for _, x := range m.tasks {
		seq, _ := slices.BinarySearch(seqs, x.timer)
		asked := ""
		if x.terms != nil {
			asked = x.terms.GetKey()[:2]
		}
		fmt.Fprintf(&b, "%s %d %d %s %d %s%v %d", x.name, x.status, x.attempts, asked, x.slotEnd, x.finisher, x.finisherFailed, seq)
		fmt.Fprintf(&b, " %d %v %d;", rel(x.at), x.ran, rel(x.lastRun))
	}
	if len(m.tasks) > 0 {
		fmt.Fprintf(&b, "%d;", min(m.now, 4*Time(time.Second))) // where the slot is
	}
	for _, s := range m.spent {
		b.WriteString(s.key[:2])
	}
	return b.String()
}
