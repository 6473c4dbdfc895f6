package locktable

import (
	"errors"
	"fmt"
	"testing"

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
