package locktable

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// grant acquires a free lock and returns the token.
func grant(t *testing.T, tb *Table, n int) uint64 {
	t.Helper()
	out, _ := tb.Apply(tb.Now(), []*command.Command{command.FromAcquire(&command.Acquire{
		Name: fmt.Sprintf("lock%d", n), Key: fmt.Sprintf("%032d", n), Ttl: int64(30e9),
	})})
	if out[0].Code != Granted {
		t.Fatalf("code %d: %s", out[0].Code, out[0].Detail)
	}
	return out[0].Token
}

// TestBumpEpoch: whatever number of grants a backup has missed, up to half an epoch, the next token after a restore is greater.
func TestBumpEpoch(t *testing.T) {
	const epoch, half = 1 << epochBits, 1 << (epochBits - 1)
	for _, tt := range []struct{ last, least, want uint64 }{
		{0, 0, 1},
		{1, 0, 1},
		{half - 1, 0, 1},
		{half, 0, 2}, // fewer than 2^39 tokens are left before the next epoch begins
		{epoch - 1, 0, 2},
		{epoch, 0, 2},
		{7*epoch + 12, 0, 8},
		{7*epoch + 12, 8, 8},
		{7*epoch + 12, 9, 9},
		{7*epoch + 12, 3, 8},
		{7*epoch + 12, MaxEpoch, MaxEpoch},
		{(MaxEpoch-1)*epoch + half - 1, 0, MaxEpoch},
	} {
		tb := New(testSettings())
		tb.lastToken = tt.last
		got, err := tb.BumpEpoch(tt.least)
		if err != nil || got != tt.want {
			t.Errorf("after token %d, at least %d: epoch %d, %v; want %d", tt.last, tt.least, got, err, tt.want)
			continue
		}
		if tb.lastToken < tt.last+half {
			t.Errorf("after token %d only %d grants are covered", tt.last, tb.lastToken-tt.last)
		}
		if next := grant(t, tb, 1); next != tt.want*epoch+1 || EpochOf(next) != tt.want || next >= maxToken {
			t.Errorf("after token %d the next is %d", tt.last, next)
		}
	}
}

// TestBumpEpochAtTheEnd: rather no restore than a token that another reader would round.
func TestBumpEpochAtTheEnd(t *testing.T) {
	for _, tt := range []struct{ last, least uint64 }{
		{MaxEpoch << epochBits, 0}, {maxToken - 1, 0}, {(MaxEpoch-1)<<epochBits + 1<<(epochBits-1), 0}, {0, MaxEpoch + 1}, {0, 1 << 63},
	} {
		tb := New(testSettings())
		tb.lastToken = tt.last
		if got, err := tb.BumpEpoch(tt.least); !errors.Is(err, ErrNoEpoch) || tb.lastToken != tt.last {
			t.Errorf("after token %d, at least %d: epoch %d, %v, last token %d", tt.last, tt.least, got, err, tb.lastToken)
		}
	}
}

// TestBumpEpochKeepsHolds: what is held keeps its token, and a repeated acquire is told the old one; a snapshot keeps the epoch.
func TestBumpEpochKeepsHolds(t *testing.T) {
	tb := New(testSettings())
	first := grant(t, tb, 1)
	if _, err := tb.BumpEpoch(0); err != nil {
		t.Fatal(err)
	}
	tb, err := snapshotRestore(tb)
	if err != nil {
		t.Fatal(err)
	}
	if again := grant(t, tb, 1); again != first {
		t.Errorf("the hold has token %d, had %d", again, first)
	}
	if next := grant(t, tb, 2); next != 1<<epochBits+1 {
		t.Errorf("the next token is %d", next)
	}
}

// TestEpochRunsOver: a counter that has run full goes on in the next epoch.
func TestEpochRunsOver(t *testing.T) {
	tb := New(testSettings())
	tb.lastToken = 1<<epochBits - 1
	if got := grant(t, tb, 1); got != 1<<epochBits {
		t.Errorf("token %d", got)
	}
	if err := tb.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// TestRenewAll: every hold and session lasts its whole lifetime from the restore, since its holder may have renewed it after the
// backup; every place has its grace, but no longer wait.
func TestRenewAll(t *testing.T) {
	tb := New(testSettings())
	at := func(now time.Duration, want Code, c *command.Command) {
		t.Helper()
		if out, _ := tb.Apply(Time(now), []*command.Command{c}); out[0].Code != want {
			t.Fatalf("%v: code %d: %s", c, out[0].Code, out[0].Detail)
		}
	}
	key := func(n int) string { return fmt.Sprintf("%032d", n) }
	at(0, Granted, command.FromAcquire(&command.Acquire{Name: "private", Key: key(1), Ttl: int64(10 * time.Second)}))
	at(0, Opened, command.FromOpenSession(&command.OpenSession{Id: key(2), Ttl: int64(20 * time.Second)}))
	at(0, Granted, command.FromAcquire(&command.Acquire{Name: "shared", Key: key(3), Session: key(2)}))
	at(0, Waiting, command.FromAcquire(&command.Acquire{Name: "private", Key: key(4), Ttl: int64(time.Second), Wait: int64(12 * time.Second)}))
	at(0, Waiting, command.FromAcquire(&command.Acquire{Name: "private", Key: key(5), Ttl: int64(time.Second), Wait: -1}))
	now := Time(9 * time.Second)
	at(time.Duration(now), Done, command.FromPoll(&command.Poll{Keys: []string{key(4), key(5)}}))
	running := tb.Snapshot()
	want := tb.Hash()
	tb.RenewAll()
	if err := tb.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
	// A snapshot that had begun shows the time before.
	var before bytes.Buffer
	for {
		b, err := running.Next(1)
		if err != nil {
			break
		}
		before.Write(b)
	}
	running.Close()
	if old, err := Restore(&before); err != nil || old.Hash() != want {
		t.Errorf("the snapshot changed: %v", err)
	}
	tb, err := snapshotRestore(tb)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		at   time.Duration
		live map[int]bool
	}{
		{11 * time.Second, map[int]bool{1: true, 3: true, 4: true, 5: true}}, // the first would have ended at 10 s
		{13 * time.Second, map[int]bool{1: true, 3: true, 4: false, 5: true}},
		{19*time.Second - 1, map[int]bool{1: true, 3: true, 5: true}},
		{19 * time.Second, map[int]bool{1: false, 3: true, 5: true}},
		{29*time.Second - 1, map[int]bool{3: true}},
		{29 * time.Second, map[int]bool{3: false}},
	} {
		tb.Apply(Time(tt.at), nil)
		for n, live := range tt.live {
			k, _ := ParseKey(key(n))
			if _, ok := tb.Key(k); ok != live {
				t.Errorf("at %v key %d is there: %v", tt.at, n, ok)
			}
		}
	}
}
