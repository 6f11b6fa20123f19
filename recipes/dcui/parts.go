package dcui

import "github.com/labctl/labctl/hid"

// Union puts beliefs together that have no host in common, such as the parts
// of one. Worlds in the same state stay apart until the next key.
func Union(parts ...Belief) Belief {
	n := 0
	for _, p := range parts {
		n += len(p.worlds)
	}
	all := Belief{worlds: make([]World, 0, n)}
	for _, p := range parts {
		all.worlds = append(all.worlds, p.worlds...)
	}
	return all
}

// Like leaves the hosts that a world stands for. The world may be of another
// moment: it tells the hosts by their facts at the start.
func (b Belief) Like(w World) Belief {
	var next Belief
	for _, v := range b.worlds {
		if !v.facts.meets(w.facts) {
			continue
		}
		v.facts.host &= w.facts.host
		v.facts.screen &= w.facts.screen
		next.worlds = append(next.worlds, v)
	}
	return next
}

// Values lists what a fact may have been at the start in this world, nil for a
// name that is no fact.
func (w World) Values(name string) []string {
	f, ok := factNamed(name)
	if !ok {
		return nil
	}
	return valuesOf(f, w.facts.get(f))
}

// Values lists what a fact may have been at the start in the worlds left.
func (b Belief) Values(name string) []string {
	f, ok := factNamed(name)
	if !ok {
		return nil
	}
	var all uint64
	for i := range b.worlds {
		all |= b.worlds[i].facts.get(f)
	}
	return valuesOf(f, all)
}

func valuesOf(f fact, bits uint64) []string {
	var list []string
	for i, v := range factTable[f].values {
		if bits&(1<<i) != 0 {
			list = append(list, v)
		}
	}
	return list
}

// Certain gives the world after a key, and whether the key does the same
// whatever the facts are that this world leaves open. Where it does not, the
// world is of no use.
func (w World) Certain(k hid.Chord) (next World, ok bool) {
	var s step
	w.apply(input{key: k}, &s)
	return w, !s.open
}

// Alone gives the belief in this world and no other.
func (w World) Alone() Belief { return Belief{worlds: []World{w}} }
