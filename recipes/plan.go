package recipes

import (
	"fmt"
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
		there := make([]dcui.World, 0, 16)
		place := func(w dcui.World) uint8 {
			// So few that a map of them would be slower.
			i := slices.Index(there, w)
			if i < 0 {
				i = len(there)
				there = append(there, w)
				t.done = append(t.done, done(w))
			}
			return uint8(i)
		}
		place(b.Worlds()[0])
		for i := 0; i < len(there); i++ {
			if len(there) > most {
				left = append(left, b)
				return
			}
			row := make([]uint8, len(keys))
			for j, k := range keys {
				to, ok := there[i].Certain(k)
				if !ok {
					worlds := there[i].Alone().Press(k).Worlds()
					if len(worlds) > 1 {
						for _, w := range worlds {
							follow(b.Like(w))
						}
						return
					}
					to = worlds[0]
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

// searcher finds keys for some of its tracks at once. What it learns of two
// tracks serves all searches in which both are.
type searcher struct {
	tracks []track
	keys   int
	pairs  map[[2]int][]uint8
	found  map[string][]uint8 // by tracks; nil where there are no keys
}

const unreachable = 255

// distances gives, for every two places of two tracks, how many keys lead both
// to where they are done: place of i times places of j, plus place of j.
func (s *searcher) distances(i, j int) []uint8 {
	if d, ok := s.pairs[[2]int{i, j}]; ok {
		return d
	}
	a, b := s.tracks[i], s.tracks[j]
	nb := len(b.next)
	n := len(a.next) * nb
	// Edges backwards, as lists in one array.
	first := make([]int32, n+1)
	to := func(at, k int) int { return int(a.next[at/nb][k])*nb + int(b.next[at%nb][k]) }
	for at := range n {
		for k := range s.keys {
			first[to(at, k)+1]++
		}
	}
	for at := range n {
		first[at+1] += first[at]
	}
	from := make([]int32, n*s.keys)
	fill := slices.Clone(first[:n])
	for at := range n {
		for k := range s.keys {
			t := to(at, k)
			from[fill[t]] = int32(at)
			fill[t]++
		}
	}
	d := make([]uint8, n)
	queue := make([]int32, 0, n)
	for at := range n {
		d[at] = unreachable
		if a.done[at/nb] && b.done[at%nb] {
			d[at] = 0
			queue = append(queue, int32(at))
		}
	}
	for q := 0; q < len(queue); q++ {
		at := queue[q]
		for _, p := range from[first[at]:first[at+1]] {
			if d[p] == unreachable && d[at] < unreachable-1 {
				d[p] = d[at] + 1
				queue = append(queue, p)
			}
		}
	}
	if s.pairs == nil {
		s.pairs = map[[2]int][]uint8{}
	}
	s.pairs[[2]int{i, j}] = d
	return d
}

// search finds the shortest keys, by number, that lead all these tracks at once
// to where they are done, if there are any of at most maxReach. It goes first
// where the worst two of them are nearest, which is never farther than all.
func (s *searcher) search(which []int) ([]uint8, bool) {
	if len(which) == 0 {
		return nil, false
	}
	id := make([]byte, 0, 2*len(which))
	for _, i := range which {
		id = append(id, byte(i), byte(i>>8))
	}
	if path, ok := s.found[string(id)]; ok {
		return path, path != nil
	}
	path := s.walk(which)
	if s.found == nil {
		s.found = map[string][]uint8{}
	}
	s.found[string(id)] = path
	return path, path != nil
}

func (s *searcher) walk(which []int) []uint8 {
	type pair struct {
		a, b, width int // positions in which
		d           []uint8
	}
	width := len(which)
	var pairs []pair
	for i := range which {
		for j := i; j < width; j++ {
			if i == j && width > 1 {
				continue
			}
			pairs = append(pairs, pair{i, j, len(s.tracks[which[j]].next), s.distances(which[i], which[j])})
		}
	}
	least := func(at []uint8) int {
		most := 0
		for _, p := range pairs {
			most = max(most, int(p.d[int(at[p.a])*p.width+int(at[p.b])]))
		}
		return most
	}
	type node struct {
		from   int32
		key    uint8
		length uint8
	}
	places := make([]uint8, width, 64*width)
	nodes := []node{{from: -1}}
	seen := map[string]int32{string(places): 0}
	var waiting [maxReach + 1][]int32 // by the least number of keys in all
	if l := least(places); l <= maxReach {
		waiting[l] = append(waiting[l], 0)
	}
	closed := []bool{false}
	to := make([]uint8, width)
	for total := 0; total <= maxReach; total++ {
		for len(waiting[total]) > 0 {
			at := waiting[total][0]
			waiting[total] = waiting[total][1:]
			if closed[at] {
				continue
			}
			closed[at] = true
			here := places[int(at)*width : int(at+1)*width]
			if int(nodes[at].length) == total && s.allDone(which, here) {
				path := []uint8{}
				for i := at; nodes[i].from >= 0; i = nodes[i].from {
					path = append(path, nodes[i].key)
				}
				slices.Reverse(path)
				return path
			}
			for k := range s.keys {
				here := places[int(at)*width : int(at+1)*width]
				for i, n := range which {
					to[i] = s.tracks[n].next[here[i]][k]
				}
				length := nodes[at].length + 1
				sum := int(length) + least(to)
				if sum > maxReach {
					continue
				}
				i, known := seen[string(to)]
				if known && nodes[i].length <= length || !known && len(nodes) == maxSearch {
					continue
				}
				if !known {
					i = int32(len(nodes))
					seen[string(to)] = i
					places = append(places, to...)
					nodes = append(nodes, node{})
					closed = append(closed, false)
				}
				nodes[i] = node{at, uint8(k), length}
				waiting[sum] = append(waiting[sum], i)
			}
		}
	}
	return nil
}

func (s *searcher) allDone(which []int, at []uint8) bool {
	for i, n := range which {
		if !s.tracks[n].done[at[i]] {
			return false
		}
	}
	return true
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
	find := searcher{keys: len(keys)}
	var parts []leaf
	ids := map[string]int{}
	leaves, theirs, hopeless := tracksOf(b, keys, done)
	for n, p := range leaves {
		id := theirs[n].id()
		i, known := ids[id]
		if !known {
			i = len(find.tracks)
			find.tracks = append(find.tracks, theirs[n])
			if _, ok := find.search([]int{i}); !ok {
				i = -1
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
		if path, ok := find.search(tracksIn(parts)); ok {
			for _, k := range path {
				r.keys = append(r.keys, keys[k])
			}
			break
		}
		fact, values, lengths := settle(&find, parts)
		if fact == "" {
			r.lost = append(r.lost, loss{r.good, nil, "no keys lead to " + what})
			r.good = dcui.Belief{}
			break
		}
		keep, rest := split(r.good, fact, values...)
		r.lost = append(r.lost, loss{rest, []string{fact}, "the keys to " + what + " differ" + lengths})
		r.good = keep
		parts = slices.DeleteFunc(parts, func(l leaf) bool {
			return !slices.ContainsFunc(l.b.Values(fact), func(v string) bool { return slices.Contains(values, v) })
		})
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

// tracksIn gives the tracks of these parts, each once.
func tracksIn(parts []leaf) []int {
	var in []int
	for _, p := range parts {
		in = append(in, p.track)
	}
	slices.Sort(in)
	return slices.Compact(in)
}

// settle names the fact that makes the search succeed, or at least easier, and
// the values to go on with: the most that have keys in common, and of as many
// those with the shortest keys. lengths says in words how many keys each value
// takes. Where no single fact is enough it is the first
// that makes a difference.
func settle(find *searcher, parts []leaf) (fact string, values []string, lengths string) {
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
		unsolved, longest := 0, 0
		var best group
		var groups []group
		var each []string
		for _, v := range dcui.FactValues(name) {
			if by[v] == nil {
				continue
			}
			if anyFact == "" {
				anyFact, anyValue = name, v
			}
			path, ok := find.search(tracksIn(by[v]))
			if !ok {
				unsolved++
				continue
			}
			each = append(each, fmt.Sprintf("%d with %s=%s", len(path), name, v))
			longest = max(longest, len(path))
			groups = find.gather(groups, group{[]string{v}, by[v], len(path)})
		}
		for _, g := range groups {
			if len(g.values) > len(best.values) || len(g.values) == len(best.values) && g.keys < best.keys {
				best = g
			}
		}
		if score := unsolved*(maxReach+1) + longest; len(groups) > 0 && score < worst {
			worst, fact, values, lengths = score, name, best.values, ""
			if len(each) <= 3 {
				lengths = ": " + strings.Join(each, ", ")
			}
		}
	}
	if fact == "" {
		return anyFact, []string{anyValue}, ""
	}
	return fact, values, lengths
}

// group holds values of a fact that have keys in common.
type group struct {
	values []string
	parts  []leaf
	keys   int
}

// gather puts a value into the first group that has keys for it too.
func (s *searcher) gather(groups []group, one group) []group {
	for i, g := range groups {
		parts := slices.Concat(g.parts, one.parts)
		if path, ok := s.search(tracksIn(parts)); ok {
			groups[i] = group{append(g.values, one.values...), parts, len(path)}
			return groups
		}
	}
	return append(groups, one)
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
