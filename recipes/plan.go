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
	// maxSearch bounds the places of all cursors together that a search goes
	// through.
	maxSearch = 1 << 14
)

// track is how keys move the cursor of one world: places by number, the first
// one where it stands.
type track struct {
	next [][]uint8 // by place and key
	done []bool
}

// tracksOf follows every key from each world of a belief until nothing new
// comes up. A world in which a key may do one thing or another, as a fact is
// open, is parted by that fact and done again. Worlds that the keys lead to too
// many places are left out.
func tracksOf(b dcui.Belief, keys []hid.Chord, done func(dcui.World) bool) (parts []dcui.Belief, tracks []track, left []dcui.Belief) {
	var follow func(b dcui.Belief)
	follow = func(b dcui.Belief) {
		if b.Len() != 1 {
			for _, w := range b.Worlds() {
				follow(b.Like(w))
			}
			return
		}
		const most = 250 // places; the longest list has 28
		var t track
		at := map[dcui.World]uint8{}
		var there []dcui.Belief
		place := func(b dcui.Belief) uint8 {
			w := b.Worlds()[0]
			i, ok := at[w]
			if !ok {
				i = uint8(len(there))
				at[w] = i
				there = append(there, b)
				t.done = append(t.done, done(w))
			}
			return i
		}
		place(b)
		for i := 0; i < len(there); i++ {
			if len(there) > most {
				left = append(left, b)
				return
			}
			row := make([]uint8, len(keys))
			for j, k := range keys {
				to := there[i].Press(k)
				if to.Len() != 1 {
					for _, w := range to.Worlds() {
						follow(b.Like(w))
					}
					return
				}
				row[j] = place(to)
			}
			t.next = append(t.next, row)
		}
		parts, tracks = append(parts, b), append(tracks, t)
	}
	follow(b)
	return parts, tracks, left
}

func (t track) id() string {
	var b strings.Builder
	for i, row := range t.next {
		b.Write(row)
		if t.done[i] {
			b.WriteByte(255)
		} else {
			b.WriteByte(254)
		}
	}
	return b.String()
}

// search finds the shortest keys, by number, that lead all tracks at once to
// where they are done, if there are any of at most maxReach. Among those of
// one length it is the first in the order of the keys.
func search(tracks []track, keys int) ([]uint8, bool) {
	if len(tracks) == 0 {
		return nil, false
	}
	type node struct {
		from   int32
		key    uint8
		length uint8
	}
	width := len(tracks)
	places := make([]uint8, width, 64*width)
	nodes := []node{{from: -1}}
	seen := map[string]bool{string(places): true}
	to := make([]uint8, width)
	for at := 0; at < len(nodes); at++ {
		here := places[at*width : (at+1)*width]
		all := true
		for i := range tracks {
			all = all && tracks[i].done[here[i]]
		}
		if all {
			var path []uint8
			for i := int32(at); nodes[i].from >= 0; i = nodes[i].from {
				path = append(path, nodes[i].key)
			}
			slices.Reverse(path)
			return path, true
		}
		if nodes[at].length == maxReach {
			continue
		}
		for k := range keys {
			here := places[at*width : (at+1)*width]
			for i := range tracks {
				to[i] = tracks[i].next[here[i]][k]
			}
			if seen[string(to)] || len(nodes) == maxSearch {
				continue
			}
			seen[string(to)] = true
			places = append(places, to...)
			nodes = append(nodes, node{int32(at), uint8(k), nodes[at].length + 1})
		}
	}
	return nil, false
}

// leaf is a part of the worlds in which these keys move one cursor alike.
type leaf struct {
	b     dcui.Belief
	track int
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
func reach(b dcui.Belief, keys []hid.Chord, done func(dcui.World) bool, what string) reached {
	var tracks []track
	var parts []leaf
	ids := map[string]int{}
	leaves, theirs, hopeless := tracksOf(b, keys, done)
	for n, p := range leaves {
		id := theirs[n].id()
		i, known := ids[id]
		if !known {
			i = -1
			if _, ok := search(theirs[n:n+1], len(keys)); ok {
				i = len(tracks)
				tracks = append(tracks, theirs[n])
			}
			ids[id] = i
		}
		if i < 0 {
			hopeless = append(hopeless, p)
			continue
		}
		parts = append(parts, leaf{p, i})
	}
	r := reached{}
	if len(hopeless) == 0 {
		r.good = b // not in pieces
	} else {
		r.good = union(parts)
		bad := dcui.Union(hopeless...)
		r.lost = append(r.lost, loss{bad, telling(r.good, bad), what + " cannot be reached"})
	}
	for len(parts) > 0 {
		if path, ok := search(some(tracks, parts), len(keys)); ok {
			for _, k := range path {
				r.keys = append(r.keys, keys[k])
			}
			break
		}
		fact, value := settle(tracks, parts, len(keys))
		if fact == "" {
			r.lost = append(r.lost, loss{r.good, nil, "no keys lead to " + what})
			r.good = dcui.Belief{}
			break
		}
		keep, rest := split(r.good, fact, value)
		r.lost = append(r.lost, loss{rest, []string{fact}, "the keys to " + what + " differ"})
		r.good = keep
		parts = slices.DeleteFunc(parts, func(l leaf) bool { return !slices.Contains(l.b.Values(fact), value) })
	}
	return r
}

func union(parts []leaf) dcui.Belief {
	all := make([]dcui.Belief, len(parts))
	for i, p := range parts {
		all[i] = p.b
	}
	return dcui.Union(all...)
}

// some gives the tracks of these parts, each once.
func some(tracks []track, parts []leaf) []track {
	var in []track
	for i := range tracks {
		if slices.ContainsFunc(parts, func(l leaf) bool { return l.track == i }) {
			in = append(in, tracks[i])
		}
	}
	return in
}

// settle names the fact that makes the search succeed, or at least easier, and
// the value to go on with: that of the shortest keys. Where no single fact is
// enough it is the first that makes a difference.
func settle(tracks []track, parts []leaf, keys int) (fact, value string) {
	worst := int(^uint(0) >> 1)
	var anyFact, anyValue string
	for _, name := range dcui.FactNames() {
		by := map[string][]leaf{}
		wide := 0
		for _, p := range parts {
			values := p.b.Values(name)
			wide = max(wide, len(values))
			for _, v := range values {
				by[v] = append(by[v], p)
			}
		}
		if len(by) < 2 || wide == len(by) && !slices.ContainsFunc(parts, func(p leaf) bool { return len(p.b.Values(name)) < wide }) {
			continue
		}
		unsolved, longest, shortest, best := 0, 0, maxReach+1, ""
		for _, v := range dcui.FactValues(name) {
			if by[v] == nil {
				continue
			}
			if anyFact == "" {
				anyFact, anyValue = name, v
			}
			path, ok := search(some(tracks, by[v]), keys)
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
