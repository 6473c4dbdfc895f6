package node

import (
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// unfetched knows of the clients that have left and were to come back with their keys. A place that nobody comes back for ends with
// the grace, by the table; a grant to it would last for its ttl, which may be long.
type unfetched struct {
	mu    sync.Mutex // guards byKey
	byKey map[locktable.Key]departure
}

// departure is the newest request of a key that left through this node, and until when its client may come back: by the cluster's
// clock, which stands still while nobody leads and nobody can come back, and by this node's, since its table may lag behind.
type departure struct {
	attachment uint64
	until      locktable.Time
	here       time.Time
}

func newUnfetched() *unfetched { return &unfetched{byKey: make(map[locktable.Key]departure)} }

// note begins the time in which a client may come back, if it has not left by a later request.
func (u *unfetched) note(key locktable.Key, d departure) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if d.attachment >= u.byKey[key].attachment {
		u.byKey[key] = d
	}
}

// over forgets those whose time is over at the cluster time now, and returns the ones whose hold in t nobody has asked for since. A
// hold that has just been granted waits for the grace as well: a late copy of the request may have come after one by which
// the client was told that it has until then.
func (u *unfetched) over(t *locktable.Table, now locktable.Time, grace time.Duration) map[locktable.Key]uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make(map[locktable.Key]uint64)
	for key, d := range u.byKey {
		if d.until > now || time.Now().Before(d.here) {
			continue
		}
		i, known := t.Key(key)
		unasked := known && i.Held && i.Attachment == d.attachment
		if unasked && i.Since.Add(grace) > now {
			continue
		}
		delete(u.byKey, key)
		if unasked {
			out[key] = d.attachment
		}
	}
	return out
}

// AbandonLater is Abandon after the grace, counted from now and from the grant, for a client that was to come back with its key. As Abandon, it does nothing if the client
// has come back before, through whatever node. If this node ends first, a hold ends by its deadline.
func (n *Node) AbandonLater(key string, attachment uint64) {
	k, ok := locktable.ParseKey(key)
	if !ok {
		return
	}
	grace := n.grace()
	d := departure{attachment: attachment, until: n.fsm.now().Add(grace), here: time.Now().Add(grace)}
	n.unfetched.note(k, d)
}

// abandonUnfetched takes back the holds that nobody has come back for.
func (n *Node) abandonUnfetched() {
	var left map[locktable.Key]uint64
	grace := n.grace()
	n.fsm.view(func(t *locktable.Table) { left = n.unfetched.over(t, t.Now(), grace) })
	for key, attachment := range left {
		n.Abandon(key.Reveal(), attachment)
	}
}
