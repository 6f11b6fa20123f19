package sim

import "testing"

func BenchmarkReset(b *testing.B) {
	for _, scene := range []string{"nuc", "rack"} {
		b.Run(scene, func(b *testing.B) {
			l, err := Start(b.Context(), Options{Scene: scene})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			for b.Loop() {
				if err := l.Reset(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
