package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes"
	"github.com/labctl/labctl/recipes/dcui"
)

// comparison follows the same keys on two hosts, one that they are right for
// and another. The two differ in as few facts as can be found.
type comparison struct {
	good                     *recipes.Ending   // of the right host
	right, wrong             map[string]string // facts in which they differ
	keys                     []string
	rightPlaces, wrongPlaces []string // after each key
	parts                    int      // index of the first key after which they stand in different places
}

// compare finds a host that the keys are right for and one that they harm; ok is
// false where there is no such pair, or where the model does not confirm it.
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
			if !bad.Harm {
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
	return pair(v, right, wrong, known, layout)
}

// spared finds a host close to the right one of a comparison that the keys do
// not harm and do not help: the one on which they go wrong latest.
func spared(v *recipes.Verdict, than comparison, known map[string]string, layout string) (c comparison, ok bool) {
	for i := range v.Worlds {
		idle := &v.Worlds[i]
		if idle.OK || idle.World.Effect() > dcui.PingTest || !fromWelcome(idle) || len(differing(than.good.Facts, idle.Facts)) != 1 {
			continue
		}
		if one, same := pair(v, than.good, idle, known, layout); same && (!ok || one.parts > c.parts) {
			c, ok = one, true
		}
	}
	return c, ok
}

// pair follows the keys on the hosts of two endings.
func pair(v *recipes.Verdict, right, wrong *recipes.Ending, known map[string]string, layout string) (c comparison, ok bool) {
	rightFacts := mergeFacts(known, mergeFacts(wrong.Facts, right.Facts))
	wrongFacts := mergeFacts(known, mergeFacts(right.Facts, wrong.Facts))
	c.good, c.right, c.wrong = right, map[string]string{}, map[string]string{}
	for _, n := range differing(rightFacts, wrongFacts) {
		c.right[n], c.wrong[n] = rightFacts[n], wrongFacts[n]
	}
	c.keys = v.Keys
	var rightEnd, wrongEnd dcui.World
	if c.rightPlaces, rightEnd, ok = trace(v.Keys, rightFacts, layout); !ok {
		return c, false
	}
	if c.wrongPlaces, wrongEnd, ok = trace(v.Keys, wrongFacts, layout); !ok {
		return c, false
	}
	c.parts = len(c.keys)
	for i := range c.keys {
		if c.rightPlaces[i] != c.wrongPlaces[i] {
			c.parts = i
			break
		}
	}
	return c, rightEnd.Effect() == right.World.Effect() && wrongEnd.Effect() == wrong.World.Effect()
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

// placeOf says in a few words where a console stands: what the cursor is on, else
// the screen, and what was destroyed.
func placeOf(w dcui.World) string {
	if e := w.Effect(); e.Destructive() || e == dcui.PingTest {
		return e.String()
	}
	if sel := w.Selected(); sel != "" {
		return sel
	}
	if label, _, ok := w.Field(); ok && w.At() == "login" {
		return w.At() + ": " + strings.TrimSuffix(label, ":")
	}
	return w.At()
}

// writeComparison shows why the same keys are right on one host and wrong on
// another.
func writeComparison(p *page, v *recipes.Verdict, facts map[string]string, layout string) {
	c, ok := compare(v, facts, layout)
	if !ok {
		return
	}
	if slices.ContainsFunc(v.Keys, func(k string) bool { return strings.HasPrefix(k, "DOWN") || strings.HasPrefix(k, "UP") }) {
		p.flow("", 0, 0, "Nobody sees the screen, so every host gets the same keys. DOWN and UP pass over the lines that are dimmed, "+
			"and hosts differ in these: the same count ends on another line, and the keys after it mean something else.")
		p.printf("\n")
	}
	p.printf("%s\n", p.paint(bold, "the same keys on two hosts"))
	c.write(p, "harmful", red)
	if s, ok := spared(v, c, facts, layout); ok {
		p.printf("%s\n", p.paint(bold, "and on one that they neither help nor harm"))
		s.write(p, "in vain", yellow)
	}
}

// write shows the two side by side.
func (c *comparison) write(p *page, called string, st style) {
	p.flow("  ", 2, 4, fmt.Sprintf("right with %s, and %s with %s", factWords(c.right), called, factWords(c.wrong)))
	t := table{header: []string{"  KEY", "RIGHT", strings.ToUpper(called)}}
	for i, k := range c.keys {
		look, right, wrong := plain, c.rightPlaces[i], c.wrongPlaces[i]
		switch {
		case i == c.parts:
			look, wrong = yellow, wrong+"  ← they part"
		case i > c.parts && i == len(c.keys)-1:
			look = st
		}
		t.row(look, "  "+k, right, wrong)
	}
	t.write(p)
	p.printf("\n")
}
