package main

import (
	"strings"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes"
	"github.com/labctl/labctl/recipes/dcui"
)

// comparison follows the same keys on two hosts, one that they are right for
// and one that they harm. The two differ in as few facts as can be found.
type comparison struct {
	right, wrong           map[string]string // facts in which they differ
	keys                   []string
	rightPlaces, wrongEnds []string // after each key
	parts                  int      // index of the first key after which they stand in different places
}

// compare finds such a pair; ok is false where there is none, or where the
// model does not confirm it.
func compare(v *recipes.Verdict, known map[string]string, layout string) (c comparison, ok bool) {
	var right, wrong *recipes.Ending
	best, most := 1<<10, dcui.Nothing
	for _, e := range v.Worlds {
		if e.OK {
			most = max(most, e.World.Effect())
		}
	}
	for i := range v.Worlds {
		good := &v.Worlds[i]
		if !good.OK {
			continue
		}
		for k := range v.Worlds {
			bad := &v.Worlds[k]
			if bad.OK || !bad.World.Effect().Destructive() {
				continue
			}
			// Two facts more are a smaller evil than a start in the middle of
			// something.
			score := 2 * len(differing(good.Facts, bad.Facts))
			if !fromWelcome(bad) || !fromWelcome(good) {
				score += 5
			}
			if good.World.Effect() < most { // right by chance, or because there was nothing to do
				score += 10
			}
			if score < best {
				best, right, wrong = score, good, bad
			}
		}
	}
	if right == nil {
		return c, false
	}
	rightFacts := mergeFacts(known, mergeFacts(wrong.Facts, right.Facts))
	wrongFacts := mergeFacts(known, mergeFacts(right.Facts, wrong.Facts))
	c.right, c.wrong = map[string]string{}, map[string]string{}
	for _, n := range differing(rightFacts, wrongFacts) {
		c.right[n], c.wrong[n] = rightFacts[n], wrongFacts[n]
	}
	c.keys = v.Keys
	var rightEnd, wrongEnd dcui.World
	if c.rightPlaces, rightEnd, ok = trace(v.Keys, rightFacts, layout); !ok {
		return c, false
	}
	if c.wrongEnds, wrongEnd, ok = trace(v.Keys, wrongFacts, layout); !ok {
		return c, false
	}
	c.parts = len(c.keys)
	for i := range c.keys {
		if c.rightPlaces[i] != c.wrongEnds[i] {
			c.parts = i
			break
		}
	}
	return c, rightEnd.Effect().String() == right.Effect && wrongEnd.Effect().String() == wrong.Effect
}

// fromWelcome prefers the worlds in which nobody left the console anywhere.
func fromWelcome(e *recipes.Ending) bool {
	s, ok := e.Facts["screen"]
	return !ok || s == "welcome"
}

// differing lists the facts that both have, with different values.
func differing(a, b map[string]string) []string {
	var out []string
	for _, n := range dcui.FactNames() {
		x, inA := a[n]
		y, inB := b[n]
		if inA && inB && x != y {
			out = append(out, n)
		}
	}
	return out
}

// trace follows key words on one host and tells where it stands after each.
func trace(keys []string, facts map[string]string, layout string) (places []string, w dcui.World, ok bool) {
	w, err := dcui.NewWorld(facts)
	if err != nil {
		return nil, w, false
	}
	if layout == "" {
		layout = "us" // where the facts say nothing, that is what is composed for
		if known := facts["layout"]; known != "" {
			layout = known
		}
	}
	l, err := hid.FindLayout(layout)
	if err != nil {
		return nil, w, false
	}
	for _, k := range keys {
		var chords []hid.Chord
		switch {
		case strings.HasPrefix(k, "${"):
			t := dcui.Token{Layout: l.Short()}
			if k != "${password}" {
				t.ID = 1
			}
			if w, err = w.Enter(t); err != nil {
				return nil, w, false
			}
		case strings.HasPrefix(k, `"`):
			chords, err = l.Chords(strings.Trim(k, `"`))
		default:
			chords, err = hid.ParseChords(k)
		}
		if err != nil {
			return nil, w, false
		}
		for _, c := range chords {
			w = w.Press(c)
		}
		places = append(places, placeOf(w))
	}
	return places, w, true
}

// placeOf says in a few words where a console stands.
func placeOf(w dcui.World) string {
	s := w.At()
	if sel := w.Selected(); sel != "" {
		s += ": " + sel
	} else if label, _, ok := w.Field(); ok && w.At() == "login" {
		s += ": " + strings.TrimSuffix(label, ":")
	}
	if e := w.Effect(); e.Destructive() {
		s += ": " + e.String()
	}
	return s
}

// write shows the two side by side.
func (c *comparison) write(p *page) {
	p.printf("\n%s\n", p.paint(bold, "the same keys on two hosts"))
	t := table{header: []string{"  KEY", "RIGHT WITH " + factWords(c.right), "WRONG WITH " + factWords(c.wrong)}}
	for i, k := range c.keys {
		st, right, wrong := plain, c.rightPlaces[i], c.wrongEnds[i]
		switch {
		case i == c.parts:
			st, wrong = yellow, wrong+"  ← here they part"
		case i > c.parts && i == len(c.keys)-1:
			st = red
		}
		t.row(st, "  "+k, right, wrong)
	}
	t.write(p)
}
