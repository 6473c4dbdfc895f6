package simulation

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

const (
	// More than a pause lasts, so that a write that was caught in one does not count as hanging.
	hangTimeout = longestPause + 5*time.Second
	// How long a process tries to start.
	startPatience = 2 * time.Minute
)

// start runs a new process on m and returns at once.
func (w *world) start(m *machine) {
	l := &life{machine: m, dead: make(chan struct{}), rate: 1 + float64(w.n(2*w.o.drift+1)-w.o.drift)/1e6}
	m.mu.Lock()
	m.life = l
	d, join := m.disk, m.join
	m.mu.Unlock()
	w.note("start %s, clock %+.2f %%", m.name, (l.rate-1)*100)
	cluster := &node.Cluster{Name: m.name, Members: w.members, Listen: w.net.listen(l, m.addr), Timing: w.o.timing}
	if join {
		cluster.Members, cluster.Join = nil, w.other(m).addr
	}
	w.closing.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startPatience)
		defer cancel()
		go func() {
			select {
			case <-l.dead:
				cancel()
			case <-ctx.Done():
			}
		}()
		n, err := w.open(ctx, l, d, cluster)
		if err != nil {
			w.note("%s did not start: %v", m.name, err)
			if strings.Contains(err.Error(), "with other data; remove it first") {
				// A request to join from an earlier disk came late, after the name had been removed. An operator does what
				// the sentence says.
				w.count.add("late joins removed", 1)
				w.removed(m)
			}
			w.kill(l, err)
			return
		}
		l.mu.Lock()
		l.node = n
		l.mu.Unlock()
		w.note("%s serves", m.name)
		<-l.dead
		// What is left of the process has no way to the world any more.
		_ = n.Close()
	})
}

func (w *world) open(ctx context.Context, l *life, d *disk, c *node.Cluster) (*node.Node, error) {
	return node.Open(ctx, node.Config{
		Dir: "simulated", Logger: w.logger(l), Cluster: c, Settings: w.o.settings, HangTimeout: hangTimeout,
		Observer: &witness{book: w.book, life: l},
		Fatal: func(err error) {
			w.note("%s ends itself: %v", l.machine.name, err)
			if !errors.Is(err, node.ErrRemoved) && !expectedEnd(err) {
				w.violated("S14", "%s ended itself for no fault of its disk: %v", l.machine.name, err)
			}
			if errors.Is(err, node.ErrHandOver) {
				w.count.add("hand-overs that did not end", 1)
			}
			w.count.add("processes that ended themselves", 1)
			w.kill(l, err)
		},
		Simulation: &node.Simulation{
			Open: func(o storage.Options) (*storage.Store, error) {
				return storage.OpenOn(o, &medium{disk: d, life: l})
			},
			Elapsed: func(start time.Time) time.Duration { return time.Duration(float64(time.Since(start)) * l.rate) },
			Applied: func(e *raft.Log, table func(func(*locktable.Table))) {
				if l.thaw(nil) == nil {
					w.book.applied(l, e, table)
				}
			},
			SnapshotEntries: w.o.snapshotEntries, TrailingLogs: w.o.trailing,
		},
	})
}

// logger returns nil, or what puts the log of a node into the timeline.
func (w *world) logger(l *life) *slog.Logger {
	if !*logsFlag {
		return nil
	}
	return slog.New(slog.NewTextHandler(logLines{w, l}, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

type logLines struct {
	w *world
	l *life
}

func (o logLines) Write(p []byte) (int, error) {
	if !o.l.isDead() {
		o.w.note("    %s: %s", o.l.machine.name, strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// expectedEnd tells whether err is a failure that the simulated disk has brought about, or the known one of raft.
func expectedEnd(err error) bool {
	return errors.Is(err, storage.ErrHung) || errors.Is(err, node.ErrHandOver) || errors.Is(err, errDead) || strings.Contains(err.Error(), "input/output error")
}

// other returns a machine that is not m.
func (w *world) other(m *machine) *machine {
	for {
		if o := w.pick(); o != m {
			return o
		}
	}
}

// kill ends a process at once: no message, no write and no answer of it gets out any more.
func (w *world) kill(l *life, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isDead() {
		return
	}
	l.cause = cause
	close(l.dead)
	w.net.unplug(l, l.machine.addr)
	_, d := l.machine.now()
	d.crash()
}

// witness tells the book what the clients of a node should be woken by.
type witness struct {
	book *book
	life *life
}

func (o *witness) Applied(_ []*command.Command, _ []locktable.Outcome, events []locktable.Event) {
	o.book.told(o.life, events)
}

func (o *witness) Committed(int, time.Duration) {}
