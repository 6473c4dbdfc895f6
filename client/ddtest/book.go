package ddtest

import (
	"crypto/rand"
	"sync"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// book knows the keys behind holds and claims, which no interface tells. All nodes tell it what they apply, so it may hear of
// a thing several times, and late.
type book struct {
	mu    sync.Mutex                   // guards holds
	holds map[string]map[string]uint64 // by place (see lockPlace) and key: the token
}

// Locks and tasks of one name have nothing to do with each other.
func lockPlace(name string) string { return "lock/" + name }
func taskPlace(name string) string { return "task/" + name }

func (b *book) note(events []locktable.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range events {
		e := &events[i]
		switch e.Kind {
		case locktable.EventGranted:
			b.beginLocked(lockPlace(e.Lock), e)
		case locktable.EventTaskClaimed:
			b.beginLocked(taskPlace(e.Lock), e)
		case locktable.EventReleased, locktable.EventExpired, locktable.EventBroken, locktable.EventHandedOver:
			b.endLocked(lockPlace(e.Lock), e)
		case locktable.EventTaskDone, locktable.EventTaskFailed, locktable.EventTaskLost, locktable.EventTaskTakenBack,
			locktable.EventTaskForgotten:
			b.endLocked(taskPlace(e.Lock), e)
		}
	}
}

func (b *book) beginLocked(place string, e *locktable.Event) {
	if b.holds[place] == nil {
		b.holds[place] = map[string]uint64{}
	}
	b.holds[place][e.Key.Reveal()] = e.Token
}

// endLocked removes a hold, unless its key has a newer one by now.
func (b *book) endLocked(place string, e *locktable.Event) {
	if key := e.Key.Reveal(); b.holds[place][key] <= e.Token {
		delete(b.holds[place], key)
	}
	if len(b.holds[place]) == 0 {
		delete(b.holds, place)
	}
}

// keys returns the keys that hold a place and whose tokens are at most upTo.
func (b *book) keys(place string, upTo uint64) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for key, token := range b.holds[place] {
		if token <= upTo {
			keys = append(keys, key)
		}
	}
	return keys
}

// newKey returns a key that nobody can guess.
func newKey() string {
	text := rand.Text() // 26 characters of base32
	return (text + rand.Text())[:locktable.KeyLen]
}
