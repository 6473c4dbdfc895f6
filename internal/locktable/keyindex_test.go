package locktable

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// The index finds what a plain map finds, also when most hashes meet.
func TestKeyIndex(t *testing.T) {
	for _, mask := range []uint64{0, 3, ^uint64(0)} {
		t.Run(fmt.Sprintf("mask=%x", mask), func(t *testing.T) {
			withKeyIndexMask(t, mask)
			rapid.Check(t, func(t *rapid.T) {
				var x keyIndex
				want := map[Key]*claim{}
				for range rapid.IntRange(1, 200).Draw(t, "steps") {
					k := Key([]byte(fmt.Sprintf("%032d", rapid.IntRange(0, 20).Draw(t, "key"))))
					if c := want[k]; c != nil {
						x.remove(c)
						delete(want, k)
					} else {
						c = &claim{key: k}
						x.put(c)
						want[k] = c
					}
					if x.n != len(want) {
						t.Fatalf("%d keys, %d expected", x.n, len(want))
					}
					for i := range 21 {
						k := Key([]byte(fmt.Sprintf("%032d", i)))
						if x.get(k) != want[k] {
							t.Fatalf("key %d: %p, %p expected", i, x.get(k), want[k])
						}
					}
				}
			})
		})
	}
}

func withKeyIndexMask(t *testing.T, mask uint64) {
	old := keyIndexMask
	keyIndexMask = mask
	t.Cleanup(func() { keyIndexMask = old })
}
