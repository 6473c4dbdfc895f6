package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/backup"
	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// mustPropose proposes c and fails the test unless the outcome has that code.
func mustPropose(t *testing.T, n *Node, c *command.Command, want locktable.Code) locktable.Outcome {
	t.Helper()
	o, err := n.Propose(t.Context(), c)
	if err != nil || o.Code != want {
		t.Fatalf("%v: code %d (want %d), error %v", c, o.Code, want, err)
	}
	return o
}

// mustBackUp returns a whole backup of n.
func mustBackUp(t *testing.T, n *Node) []byte {
	t.Helper()
	r, err := n.Backup(t.Context(), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

func mustReadBackup(t *testing.T, data []byte) *Image {
	t.Helper()
	i, err := ReadBackup(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// occupy puts one of everything into the table: holds, a session's too, places in a queue, a spent key.
func occupy(t *testing.T, n *Node) {
	t.Helper()
	mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
	mustPropose(t, n, command.FromAcquire(acquireCmd("db", "b", time.Hour)), locktable.Waiting)
	mustPropose(t, n, command.FromAcquire(acquireCmd("db", "c", time.Hour)), locktable.Waiting)
	mustPropose(t, n, command.FromOpenSession(&command.OpenSession{Id: keyOf("s"), Ttl: int64(time.Hour)}), locktable.Opened)
	inSession := acquireCmd("file", "d", 0)
	inSession.Session, inSession.Ttl = keyOf("s"), 0
	mustAcquire(t, n, inSession, locktable.Granted)
	mustAcquire(t, n, acquireCmd("old", "e", 0), locktable.Granted)
	mustRelease(t, n, "old", "e")
}

// T29: a cluster that was restored goes on with everything that the backup has, and with higher tokens than the lost one gave.
func TestRestore(t *testing.T) {
	lost := open(t, "")
	occupy(t, lost)
	held := mustAcquire(t, lost, acquireCmd("db", "a", 0), locktable.Granted)
	data := mustBackUp(t, lost)
	var newest locktable.Outcome
	for i := range 100 {
		newest = mustAcquire(t, lost, acquireCmd(fmt.Sprint("later", i), fmt.Sprint(i, "later"), 0), locktable.Granted)
	}

	i := mustReadBackup(t, data)
	h := i.Header()
	if h.ClusterID != lost.store.ClusterID() || h.Node != lost.store.Name() || h.Server != "1.2.3" || h.Index == 0 ||
		h.Epoch != 0 || h.LastToken != 3 || h.Locks != 2 || h.Holds != 2 || h.Waiters != 2 || h.Sessions != 1 {
		t.Errorf("header %+v", h)
	}
	dir := filepath.Join(t.TempDir(), "data")
	p, err := i.Plant(Planting{Dir: dir, Name: "n1"})
	if err != nil || p.Epoch != 1 || p.Name != "n1" || p.ClusterID == h.ClusterID {
		t.Fatalf("%+v, %v", p, err)
	}

	n := open(t, dir)
	if again := mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted); again.Token != held.Token {
		t.Errorf("the hold came back with token %d, had %d", again.Token, held.Token)
	}
	next := mustAcquire(t, n, acquireCmd("new", "x", 0), locktable.Granted)
	if next.Token <= newest.Token || locktable.EpochOf(next.Token) != 1 {
		t.Errorf("token %d after the restore, %d before", next.Token, newest.Token)
	}
	mustPropose(t, n, command.FromRenewSession(&command.RenewSession{Id: keyOf("s")}), locktable.Renewed)
	mustAcquire(t, n, acquireCmd("old", "e", 0), locktable.KeySpent)
	mustRelease(t, n, "db", "a")
	if again := mustAcquire(t, n, acquireCmd("db", "b", 0), locktable.Granted); again.Token != next.Token+1 {
		t.Errorf("the first in the queue got token %d", again.Token)
	}
	mustRelease(t, n, "db", "b")
	mustAcquire(t, n, acquireCmd("db", "c", 0), locktable.Granted)

	// The clock goes on, not back.
	if now := n.fsm.now(); now < locktable.Time(h.Time) {
		t.Errorf("the clock says %v, in the backup it was %v", now, h.Time)
	}
	// A node of the lost cluster is nobody here, and the other way round.
	if err := n.admit(lost.self(), false); err == nil || !strings.Contains(err.Error(), "belongs to cluster") {
		t.Errorf("a node of the lost cluster: %v", err)
	}
	if err := lost.admit(n.self(), false); err == nil || !strings.Contains(err.Error(), "belongs to cluster") {
		t.Errorf("in the lost cluster: %v", err)
	}
	// A backup of it, restored, begins the epoch after.
	if again, err := mustReadBackup(t, mustBackUp(t, n)).Plant(Planting{Dir: filepath.Join(t.TempDir(), "x")}); err != nil || again.Epoch != 2 {
		t.Errorf("epoch %d after the next restore, %v", again.Epoch, err)
	}
}

// A hold that was about to end in the backup may have been renewed after it: it gets its whole lifetime.
func TestRestoreRenews(t *testing.T) {
	lost := open(t, "")
	mustAcquire(t, lost, acquireCmd("db", "a", 0), locktable.Granted) // for 30 s
	i := mustReadBackup(t, mustBackUp(t, lost))
	i.table.Apply(i.table.Now().Add(25*time.Second), nil)
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := i.Plant(Planting{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	back, err := ReadDir(dir, nil, "v")
	if err != nil {
		t.Fatal(err)
	}
	l, ok := back.table.Lock("db", 1)
	if !ok || l.Holders[0].Deadline != back.table.Now().Add(30*time.Second) {
		t.Errorf("%+v at %v", l, back.table.Now())
	}
}

func TestRestoreWithAnEpoch(t *testing.T) {
	data := mustBackUp(t, open(t, ""))
	if p, err := mustReadBackup(t, data).Plant(Planting{Dir: filepath.Join(t.TempDir(), "a"), Epoch: 77}); err != nil || p.Epoch != 77 {
		t.Errorf("epoch %d, %v", p.Epoch, err)
	}
	dir := filepath.Join(t.TempDir(), "b")
	if _, err := mustReadBackup(t, data).Plant(Planting{Dir: dir, Epoch: locktable.MaxEpoch + 1}); !errors.Is(err, locktable.ErrNoEpoch) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
}

// A restored server survives its next restarts, and its snapshots.
func TestRestoredServerRestarts(t *testing.T) {
	lost := open(t, "")
	occupy(t, lost)
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := mustReadBackup(t, mustBackUp(t, lost)).Plant(Planting{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	var token uint64
	for i := range 3 {
		n := open(t, dir)
		o := mustAcquire(t, n, acquireCmd(fmt.Sprint("lock", i), fmt.Sprint(i, "k"), 0), locktable.Granted)
		if o.Token <= token {
			t.Errorf("token %d after %d", o.Token, token)
		}
		token = o.Token
		mustAcquire(t, n, acquireCmd("db", "x", 0), locktable.Held)
		if i == 1 {
			n.snapshot()
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A backup shows the moment at which it was asked for, whatever happens while it is read, a snapshot for the log included.
func TestBackupStandsStill(t *testing.T) {
	n := open(t, t.TempDir())
	for i := range 3 * snapshotChunk {
		mustAcquire(t, n, acquireCmd(fmt.Sprint("lock", i), fmt.Sprint(i, "k"), 0), locktable.Granted)
	}
	var want [32]byte
	n.fsm.view(func(tb *locktable.Table) { want = tb.Hash() })
	r, err := n.Backup(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 100)
	if _, err := io.ReadFull(r, data); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Backup(t.Context(), "v"); !errors.Is(err, ErrOverloaded) {
		t.Errorf("a second one: %v", err)
	}
	for i := range 2 * snapshotChunk {
		mustRelease(t, n, fmt.Sprint("lock", i), fmt.Sprint(i, "k"))
	}
	n.snapshot()
	if l, err := n.store.Snapshots().List(); err != nil || len(l) != 1 {
		t.Errorf("%d snapshots beside the backup, %v", len(l), err)
	}
	rest, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	i := mustReadBackup(t, append(data, rest...))
	if i.table.Hash() != want || i.Header().Holds != 3*snapshotChunk {
		t.Errorf("the backup is of another moment: %+v", i.Header())
	}
	mustReadBackup(t, mustBackUp(t, n)) // the first one was closed
}

// A follower may get a snapshot from its leader, which replaces its table, while a backup is read from it.
func TestBackupOutlivesItsTable(t *testing.T) {
	n := open(t, "")
	occupy(t, n)
	var want [32]byte
	n.fsm.view(func(tb *locktable.Table) { want = tb.Hash() })
	r, err := n.Backup(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	n.fsm.replace(locktable.New(locktable.DefaultSettings()))
	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	if mustReadBackup(t, data).table.Hash() != want {
		t.Error("the backup is of another table")
	}
	if h := mustReadBackup(t, mustBackUp(t, n)).Header(); h.Holds != 0 {
		t.Errorf("the next one is of the old table: %+v", h)
	}
}

func TestBackupEndsWithTheNode(t *testing.T) {
	n := open(t, "")
	occupy(t, n)
	r, err := n.Backup(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(r); !errors.Is(err, ErrStopping) {
		t.Errorf("%v", err)
	} else if _, err := ReadBackup(bytes.NewReader(data)); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("half a backup: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// Any node gives a backup, of everything that any node has acknowledged; without a majority there is none.
func TestBackupOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, leader := c.leader()
		for i, n := range []*Node{c.nodes["n1"], c.nodes["n2"], c.nodes["n3"]} {
			mustAcquire(t, leader, acquireCmd(fmt.Sprint("lock", i), fmt.Sprint(i, "k"), 0), locktable.Granted)
			if h := mustReadBackup(t, mustBackUp(t, n)).Header(); h.Holds != i+1 || h.Node != n.store.Name() || h.ClusterID != leader.store.ClusterID() {
				t.Errorf("through %s: %+v", n.store.Name(), h)
			}
		}
		c.isolate(c.members[name], true)
		if _, err := leader.Backup(t.Context(), "v"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("without a majority: %v", err)
		}
		c.isolate(c.members[name], false)
		time.Sleep(5 * time.Second) // virtual
		mustBackUp(t, leader)
	})
}
