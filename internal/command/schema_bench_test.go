package command

import "testing"

// What every proposal pays for the version gate, twice: when it is taken on and when its entry is made.
func BenchmarkOf(b *testing.B) {
	c := FromAcquire(&Acquire{Name: "a", Key: "01234567890123456789012345678901", Ttl: 1})
	r := FromRelease(&Release{Name: "a"})
	b.ReportAllocs()
	for b.Loop() {
		Current.Of(c)
		Current.Of(r)
	}
}
