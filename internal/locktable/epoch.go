package locktable

import (
	"errors"
	"fmt"
)

// Tokens stay below 2^53, so that every JSON reader keeps them whole.
const maxToken = 1 << 53

const (
	epochBits = 40 // of a token that count within an epoch
	// MaxEpoch is the last epoch of tokens.
	MaxEpoch = maxToken>>epochBits - 1
)

// ErrNoEpoch says that there is no epoch left that tokens could begin.
var ErrNoEpoch = errors.New("the tokens have no epoch left")

// EpochOf returns the epoch of a token.
func EpochOf(token uint64) uint64 { return token >> epochBits }

// BumpEpoch makes all tokens from now on greater than any that another table has given, or will give, that has gone on from
// this state, as long as it gives fewer than 2^39 of them: the newest token becomes the beginning of a new epoch. Which
// one is returned: the next, or the next but one when the present one is more than half used, but at least least. What is
// held keeps its token. The error wraps ErrNoEpoch, and nothing has changed then.
//
// A table that is restored from a backup needs it, since the cluster that was lost has gone on after the backup. It is no
// command: it belongs to the making of the first snapshot, not to the log.
func (t *Table) BumpEpoch(least uint64) (uint64, error) {
	epoch := max(EpochOf(t.lastToken+1<<(epochBits-1))+1, least)
	if epoch > MaxEpoch {
		return 0, fmt.Errorf("%w: epoch %d would follow epoch %d, and the last is %d", ErrNoEpoch, epoch, EpochOf(t.lastToken), MaxEpoch)
	}
	t.lastToken = epoch << epochBits
	return epoch, nil
}

// RenewAll starts the whole lifetime of every session and hold anew, and the grace of every place in a queue. What ends
// only later for that is safe.
//
// A table that is restored from a backup needs it: its clock stood still since, but a hold that was about to end in the
// backup may have been renewed after it, and its holder still count on that. As BumpEpoch, it is no command.
func (t *Table) RenewAll() {
	t.sessions.Scan(func(_ string, s *session) bool {
		t.renewShared(s, 0)
		return true
	})
	t.locks.Scan(func(_ string, l *lock) bool {
		t.touch(l)
		for c := l.holders.head; c != nil; c = c.next {
			if c.session == nil {
				c.deadline = t.now.Add(c.ttl)
			}
		}
		for c := l.waiters.head; c != nil; c = c.next {
			t.grace(c)
		}
		return true
	})
}
