package peer

import (
	"context"
	"fmt"
	"testing"
)

func BenchmarkCall(b *testing.B) {
	for _, secure := range []bool{false, true} {
		b.Run(fmt.Sprintf("tls=%t", secure), func(b *testing.B) {
			var mine, yours []func(*Config)
			if secure {
				files := certs(b, "n1", "n2")
				mine, yours = with(withTLS(files["n1"])), with(withTLS(files["n2"]))
			}
			here, there := start(b, "n1", mine...), start(b, "n2", yours...)
			request := make([]byte, 200)
			mustCall(b, here, there.Addr(), "warm")
			b.SetParallelism(32) // times 2 processors: 64 in flight
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := here.Call(context.Background(), there.Addr(), request); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
