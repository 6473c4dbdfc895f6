package locktable

// keyIndex finds the claim of a key. Go's maps never give memory back, so it moves to a new map when most of the old one
// has become empty.
type keyIndex struct {
	m    map[Key]*claim
	peak int
}

// Below this many keys a map is too small to be worth moving.
const keyIndexSmall = 1 << 16

func (x *keyIndex) get(k Key) *claim { return x.m[k] }

func (x *keyIndex) put(c *claim) {
	if x.m == nil {
		x.m = make(map[Key]*claim)
	}
	x.m[c.key] = c
	x.peak = max(x.peak, len(x.m))
}

func (x *keyIndex) remove(k Key) {
	delete(x.m, k)
	if x.peak > keyIndexSmall && len(x.m) < x.peak/8 {
		m := make(map[Key]*claim, len(x.m))
		for k, c := range x.m {
			m[k] = c
		}
		x.m, x.peak = m, len(m)
	}
}
