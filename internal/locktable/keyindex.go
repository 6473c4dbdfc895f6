package locktable

import "hash/maphash"

// keyIndex finds the claim of a key. It keeps a hash of 8 bytes for each key and not its 32, which stand in the claim: that
// saves 40 bytes for each lock held. Keys are chosen by clients, so the hash has a seed that nobody knows; what is in the table
// does not depend on it. Go's maps never give memory back, so the index moves to a new map when most of the old one has become
// empty.
type keyIndex struct {
	m    map[uint64]*claim
	n    int // keys
	peak int // the most that m had
	seed maphash.Seed
	mask uint64 // of the hash that counts: all of it, but in tests
}

// Below this many keys a map is too small to be worth moving.
const keyIndexSmall = 1 << 16

var keyIndexMask = ^uint64(0) // tests make it small, so that hashes meet

func (x *keyIndex) hash(k *Key) uint64 { return maphash.Bytes(x.seed, k[:]) & x.mask }

func (x *keyIndex) get(k Key) *claim {
	if x.m == nil {
		return nil
	}
	c := x.m[x.hash(&k)]
	for c != nil && c.key != k {
		c = c.sameHash()
	}
	return c
}

// sameHash returns the next claim whose key has the hash of c's, which hardly ever exists.
func (c *claim) sameHash() *claim {
	if c.extra == nil {
		return nil
	}
	return c.extra.sameHash
}

// put adds c, whose key is not there yet.
func (x *keyIndex) put(c *claim) {
	if x.m == nil {
		x.m, x.seed, x.mask = make(map[uint64]*claim), maphash.MakeSeed(), keyIndexMask
	}
	h := x.hash(&c.key)
	if other := x.m[h]; other != nil {
		c.ensureExtra().sameHash = other
	}
	x.m[h] = c
	x.n++
	x.peak = max(x.peak, len(x.m))
}

// remove takes c, which is there, out.
func (x *keyIndex) remove(c *claim) {
	h := x.hash(&c.key)
	x.n--
	if first := x.m[h]; first != c {
		for first.extra.sameHash != c {
			first = first.extra.sameHash
		}
		first.extra.sameHash = c.sameHash()
	} else if other := c.sameHash(); other != nil {
		x.m[h] = other
	} else {
		delete(x.m, h)
	}
	if c.extra != nil {
		c.extra.sameHash = nil
	}
	if x.peak > keyIndexSmall && len(x.m) < x.peak/8 {
		m := make(map[uint64]*claim, len(x.m))
		for h, c := range x.m {
			m[h] = c
		}
		x.m, x.peak = m, len(m)
	}
}
