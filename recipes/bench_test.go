package recipes

import "testing"

// The library is checked with nothing known in each round: 200 ms is what the
// whole of it may take.
func BenchmarkCheckLibrary(b *testing.B) {
	all := Library()
	for b.Loop() {
		for _, r := range all {
			check(b, r, nil)
		}
	}
	b.ReportMetric(float64(len(all)), "recipes")
}

func BenchmarkCheckEach(b *testing.B) {
	for _, r := range Library() {
		b.Run(r.Name, func(b *testing.B) {
			for b.Loop() {
				check(b, r, nil)
			}
		})
	}
}
