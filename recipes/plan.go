package recipes

import (
	"slices"
	"strings"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

const (
	// maxReach bounds the keys to one item or field. From any place of a list
	// that stops at its ends the way to an end and back is at most 26.
	maxReach = 48
	// maxBeliefs bounds the search: as many as keys in two directions, times
	// the places of a cursor in two kinds of list, need.
	maxBeliefs = 4096
)

// search finds the shortest keys that lead a belief to where done holds, as
// long as there are none of more than maxReach.
func search(b dcui.Belief, keys []hid.Chord, done func(dcui.World) bool) ([]hid.Chord, bool) {
	type node struct {
		b      dcui.Belief
		from   int
		key    hid.Chord
		length int
	}
	if b.Len() == 0 {
		return nil, false
	}
	nodes := []node{{b: b, from: -1}}
	seen := map[uint64][]int{b.Hash(): {0}}
	for at := 0; at < len(nodes); at++ {
		if nodes[at].b.All(done) {
			var path []hid.Chord
			for i := at; nodes[i].from >= 0; i = nodes[i].from {
				path = append(path, nodes[i].key)
			}
			slices.Reverse(path)
			return path, true
		}
		if nodes[at].length == maxReach {
			continue
		}
	next:
		for _, k := range keys {
			to := nodes[at].b.Press(k)
			h := to.Hash()
			for _, i := range seen[h] {
				if nodes[i].b.Equal(to) {
					continue next
				}
			}
			if len(nodes) == maxBeliefs {
				continue
			}
			seen[h] = append(seen[h], len(nodes))
			nodes = append(nodes, node{to, at, k, nodes[at].length + 1})
		}
	}
	return nil, false
}

// leaves parts a belief by all facts that decide how these keys move.
func leaves(b dcui.Belief, keys []hid.Chord, most int) []dcui.Belief {
	parts := []dcui.Belief{b}
	for _, k := range keys {
		var next []dcui.Belief
		for _, p := range parts {
			end := p
			for range most {
				end = end.Press(k)
			}
			for _, w := range end.Worlds() {
				next = append(next, p.Like(w))
			}
		}
		parts = next
	}
	return parts
}

// reached is the end of a search that may have had to leave worlds behind.
type reached struct {
	keys []hid.Chord
	good dcui.Belief
	lost []loss
}

// loss is a part of the worlds for which there are no keys, and the facts that
// tell it from the rest.
type loss struct {
	worlds dcui.Belief
	facts  []string
	why    string
}

// reach finds the shortest keys that lead every world to where done holds.
// Where there are none it leaves behind, first the worlds that no keys lead
// there, then as many as it takes, by one fact after the other.
func reach(b dcui.Belief, keys []hid.Chord, most int, done func(dcui.World) bool, what string) reached {
	if path, ok := search(b, keys, done); ok {
		return reached{keys: path, good: b}
	}
	var alone, hopeless []dcui.Belief
	for _, leaf := range leaves(b, keys, most) {
		if _, ok := search(leaf, keys, done); ok {
			alone = append(alone, leaf)
		} else {
			hopeless = append(hopeless, leaf)
		}
	}
	r := reached{good: dcui.Union(alone...)}
	if len(hopeless) > 0 {
		bad := dcui.Union(hopeless...)
		r.lost = append(r.lost, loss{bad, telling(r.good, bad), what + " cannot be reached"})
	}
	for r.good.Len() > 0 {
		var ok bool
		if r.keys, ok = search(r.good, keys, done); ok {
			break
		}
		fact, value := settle(r.good, alone, keys, done)
		if fact == "" {
			r.lost = append(r.lost, loss{r.good, nil, "no keys lead to " + what})
			r.good = dcui.Belief{}
			break
		}
		keep, rest := split(r.good, fact, value)
		r.lost = append(r.lost, loss{rest, []string{fact}, "the keys to " + what + " differ"})
		r.good = keep
	}
	return r
}

// settle names the fact that makes the search succeed, or at least easier, and
// the value to go on with: that of the shortest keys.
func settle(b dcui.Belief, parts []dcui.Belief, keys []hid.Chord, done func(dcui.World) bool) (fact, value string) {
	worst := int(^uint(0) >> 1)
	var anyFact, anyValue string
	for _, name := range dcui.FactNames() {
		values := b.Values(name)
		if len(values) < 2 {
			continue
		}
		differs := false
		for _, p := range parts {
			differs = differs || len(p.Values(name)) > 0 && len(p.Values(name)) < len(values)
		}
		if !differs {
			continue
		}
		if anyFact == "" {
			anyFact, anyValue = name, values[0]
		}
		unsolved, longest, shortest, best := 0, 0, maxReach+1, ""
		for _, v := range values {
			part, _ := split(b, name, v)
			path, ok := search(part, keys, done)
			if !ok {
				unsolved++
				continue
			}
			longest = max(longest, len(path))
			if len(path) < shortest {
				shortest, best = len(path), v
			}
		}
		if score := unsolved*(maxReach+1) + longest; best != "" && score < worst {
			worst, fact, value = score, name, best
		}
	}
	if fact == "" {
		return anyFact, anyValue
	}
	return fact, value
}

// split parts a belief by a fact.
func split(b dcui.Belief, fact string, values ...string) (keep, rest dcui.Belief) {
	others := slices.DeleteFunc(dcui.FactValues(fact), func(v string) bool { return slices.Contains(values, v) })
	// Names and values come from the model itself, so there is no error.
	keep, _ = b.Only(fact, values...)
	if len(others) > 0 {
		rest, _ = b.Only(fact, others...)
	}
	return keep, rest
}

// known parts the worlds by a fact, so that each has one value of it.
func known(b dcui.Belief, fact string) dcui.Belief {
	values := b.Values(fact)
	if len(values) < 2 || fact == "screen" {
		return b
	}
	parts := make([]dcui.Belief, len(values))
	for i, v := range values {
		parts[i], _ = split(b, fact, v)
	}
	return dcui.Union(parts...)
}

// telling names the facts that tell two parts apart: those whose values differ,
// else all that decide together.
func telling(a, b dcui.Belief) []string {
	var names []string
	if a.Len() == 0 || b.Len() == 0 {
		return nil
	}
	for _, f := range dcui.FactNames() {
		if strings.Join(a.Values(f), " ") != strings.Join(b.Values(f), " ") {
			names = append(names, f)
		}
	}
	if names != nil {
		return names
	}
	in := map[dcui.World]bool{}
	for _, w := range a.Worlds() {
		in[w] = true
	}
	return dcui.Union(a, b).Splits(func(w dcui.World) string {
		if in[w] {
			return "a"
		}
		return "b"
	})
}
