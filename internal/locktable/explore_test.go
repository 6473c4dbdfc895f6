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
	return append(parseMoves(tb, []string{
		"acquire k1 db ttl=2 wait=1 lock-delay=1 via=1", "acquire k2 db ttl=2 wait=3 via=2", "release k1 db", "release k2 db", "abandon k1 via=1",
		"acquire a1 db session=s1 shared wait=-1", "acquire a2 db session=s1 shared wait=2", "acquire b1 db session=s2 wait=-1",
		"release a1 db", "release b1 db", "renew a1 db", "session end s2", "acquire k3 db shared ttl=1",
	}), move{name: "1s", advance: time.Second}, move{name: "due", due: true})
}

// taskMoves are what they can do with one task.
func taskMoves(tb testing.TB) []move {
	tb.Helper()
	return append(parseMoves(tb, []string{
		"task claim k1 t ttl=2 wait=1 attempts=2 retry=1 keep=1 via=1", "task claim k2 t ttl=2 wait=3 at-most-once=1 keep=2",
		"task claim a1 t session=s1 wait=-1 attempts=1 keep=-1", "task claim k3 t ttl=1 from=0 to=3 at-least=2",
		"task finish k1 t", "task fail k1 t", "task fail k2 t", "task fail a1 t", "abandon k1 via=1", "release k2", "session end s1",
		"task forget t", "task renew k1 t",
	}), move{name: "1s", advance: time.Second}, move{name: "due", due: true})
}

// movesOfMany are what two sessions and a private client can do with two locks, where they hold and wait.
func movesOfMany(tb testing.TB) []move {
	tb.Helper()
	return append(parseMoves(tb, []string{
		"acquire a1 x session=s1 wait=-1", "acquire a2 y session=s1 wait=-1", "acquire a3 y session=s1 shared wait=2",
		"acquire a4 set=x:shared,y session=s1 wait=-1", "acquire b1 y session=s2 wait=-1", "acquire b2 x session=s2 shared wait=-1",
		"acquire b3 x session=s2 shared", "acquire p set=y,x ttl=2 wait=3 lock-delay=1 via=1", "acquire q x shared ttl=5 wait=-1",
		"release a1", "release a2", "release a4 y", "release b1", "release p x", "abandon p via=1", "session end s1",
	}), move{name: "due", due: true})
}

func parseMoves(tb testing.TB, lines []string) []move {
	tb.Helper()
	var out []move
	for _, line := range lines {
		c, err := parseCommand(strings.Fields(line))
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, move{name: line, cmds: []*command.Command{c}})
	}
	return out
}

// TestExplore goes through all orders of moves of two clients with one lock.
func TestExplore(t *testing.T) {
	depth := exploreDepth
	if testing.Short() {
		depth = 5
	}
	explore(t, lockMoves(t), depth)
}

// TestExploreTasks does so with the moves around a task.
func TestExploreTasks(t *testing.T) {
	depth := exploreDepth - 2
	if testing.Short() {
		depth = 4
	}
	explore(t, taskMoves(t), depth)
}

// TestExploreMany does so with two locks, with sets, and with sessions that hold and wait.
func TestExploreMany(t *testing.T) {
	depth := 4
	if testing.Short() {
		depth = 3
	}
	explore(t, movesOfMany(t), depth)
}

// TestExploreCare does so, less deep, with asking, breaking and handing over.
func TestExploreCare(t *testing.T) {
	depth := exploreDepth - 2
	if testing.Short() {
		depth = 4
	}
	explore(t, append(parseMoves(t, []string{
		"acquire k1 db ttl=2 wait=1 lock-delay=1 owner=ann via=1", "acquire k2 db ttl=3 wait=-1 owner=bob", "release k1 db", "abandon k1 via=1",
		"acquire a1 db session=s1 wait=-1 owner=bob", "acquire a2 db session=s1 wait=-1 via=1", "abandon a2 via=1", "release a1 db", "renew k1 db",
		"ask db owner=eve within=1", "break db token=2 reason=why", "hand-over k1 db to=bob", "hand-over a1 db to=ann",
		"acquire p set=db,x ttl=2 wait=-1 owner=ann",
	}), move{name: "1s", advance: time.Second}, move{name: "due", due: true}), depth)
}

// explore goes breadth-first through all orders of moves, once through each state, and compares with the model.
func explore(t *testing.T, all []move, depth int) {
	t.Helper()
	t.Parallel()
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
	w := &world{t: newTable(s), m: newModel(s)}
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
		if err := cmp.Or(sameOutcomes(outs, mouts), sameEvents(events, mevents), w.t.CheckInvariants(), w.m.checkCycles(outs), w.m.checkProgress()); err != nil {
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
			fmt.Fprintf(&b, "%d %d %d;", m.position(c), rel(c.waitUntil), rel(c.grace))
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
		if s.broken {
			b.WriteString("!")
		}
	}
	for _, a := range m.asks {
		fmt.Fprintf(&b, "ask %d;", rel(a.until))
	}
	for _, e := range m.ended {
		fmt.Fprintf(&b, "ended %d %d;", rel(e.since), e.waited)
	}
	for _, p := range m.past {
		fmt.Fprintf(&b, "past %d %d %d;", p.Ended-p.Since, p.How, p.Waited)
	}
	b.WriteByte(byte('0' + m.level))
	return b.String()
}
