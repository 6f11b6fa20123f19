package dcui

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/labctl/labctl/hid"
)

// The parts of a belief are the belief: each of its hosts is in one of them, in
// the state that it was in.
func TestPartsAreTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		host := anyFacts(t, true)
		known := map[string]string{}
		for name, value := range host {
			if rapid.Bool().Draw(t, "know "+name) {
				known[name] = value
			}
		}
		b, err := NewBelief(known)
		if err != nil {
			t.Fatal(err)
		}
		one, err := NewWorld(host)
		if err != nil {
			t.Fatal(err)
		}
		keys := rapid.SliceOfN(rapid.SampledFrom(busy), 0, 8).Draw(t, "keys")
		before := b
		for _, k := range keys {
			b, one = b.Press(k), one.Press(k)
		}
		var parts []Belief
		for _, w := range b.Worlds() {
			part := before.Like(w)
			for _, name := range FactNames() {
				if !slices.Equal(part.Values(name), w.Values(name)) {
					t.Fatalf("%s: %v of the part, %v of the world", name, part.Values(name), w.Values(name))
				}
			}
			parts = append(parts, part)
		}
		if whole := Union(parts...); count(whole) != count(before) {
			t.Fatalf("%d hosts in the parts, %d in the whole", count(whole), count(before))
		}
		mine := b.Like(one)
		if mine.Len() != 1 || !sameState(&mine.worlds[0], &one) {
			t.Fatalf("the host is in %d worlds of %d", mine.Len(), b.Len())
		}
	})
}

// A key that is certain does in a belief what it does in its world.
func TestCertain(t *testing.T) {
	certain := 0
	rapid.Check(t, func(t *rapid.T) {
		b, err := NewBelief(anyFacts(t, false))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range rapid.SliceOfN(rapid.SampledFrom(busy), 0, 8).Draw(t, "keys") {
			b = b.Press(k)
		}
		w := rapid.SampledFrom(b.Worlds()).Draw(t, "world")
		k := rapid.SampledFrom(append([]hid.Chord{Down, Up}, busy...)).Draw(t, "key")
		after := w.Alone().Press(k)
		next, ok := w.Certain(k)
		switch {
		case !ok && after.Len() == 1 && after.worlds[0] == w.Press(k) && after.worlds[0].facts == w.facts:
			return // both halves came to the same
		case ok && (after.Len() != 1 || after.worlds[0] != next):
			t.Fatalf("certain, and %d worlds", after.Len())
		case ok:
			certain++
		}
	})
	if certain == 0 {
		t.Error("no key was certain")
	}
}
