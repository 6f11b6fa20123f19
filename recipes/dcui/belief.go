package dcui

import (
	"cmp"
	"hash/maphash"
	"maps"
	"math/bits"
	"slices"

	"github.com/labctl/labctl/hid"
)

// Belief is the set of worlds that facts leave over, and what a sequence of
// keys has made of each. It is a value in use: every method gives a new
// Belief and leaves the old one as it was.
//
// Worlds that differ only in facts which made no difference so far are one
// World with those facts open. All worlds are kept in a fixed order.
type Belief struct {
	worlds []World
}

// NewBelief gives every world that these facts do not exclude, each standing
// where its fact screen says. A fact that is not given is unknown. Every
// combination of facts is allowed; with all of them given one world is left.
// A name or value that is no fact is a *FactError.
func NewBelief(facts map[string]string) (Belief, error) {
	known, err := parseFacts(facts)
	if err != nil {
		return Belief{}, err
	}
	var b Belief
	var ev Evidence
	for screen := uint32(1); screen <= known.screen; screen <<= 1 {
		if known.screen&screen == 0 {
			continue
		}
		w := World{facts: factset{host: known.host, screen: screen}, root: string(tokenRight)}
		b.worlds = branch(b.worlds, w, input{kind: byStart}, &ev)
	}
	b.merge()
	return b, nil
}

// Only leaves the worlds in which a fact had one of these values at the
// start. A Belief that it empties is no error.
func (b Belief) Only(name string, values ...string) (Belief, error) {
	var f fact
	var keep uint64
	for _, v := range values {
		named, bit, err := valueBit(name, v)
		if err != nil {
			return Belief{}, err
		}
		f, keep = named, keep|bit
	}
	if _, ok := factNamed(name); !ok {
		return Belief{}, &FactError{Name: name}
	}
	next := Belief{worlds: make([]World, 0, len(b.worlds))}
	for _, w := range b.worlds {
		if left := w.facts.get(f) & keep; left != 0 {
			w.facts = w.facts.with(f, left)
			next.worlds = append(next.worlds, w)
		}
	}
	next.merge()
	return next, nil
}

// Where leaves the worlds for which pred holds, as evidence from the host
// does: an answered ping, a light that changed.
func (b Belief) Where(pred func(World) bool) Belief {
	var next Belief
	for _, w := range b.worlds {
		if pred(w) {
			next.worlds = append(next.worlds, w)
		}
	}
	return next
}

// Len is the number of worlds that the keys so far told apart.
func (b Belief) Len() int { return len(b.worlds) }

// Worlds gives a copy of the worlds, in their fixed order.
func (b Belief) Worlds() []World { return slices.Clone(b.worlds) }

// All reports whether pred holds in every world. It is true of an empty
// Belief.
func (b Belief) All(pred func(World) bool) bool {
	for _, w := range b.worlds {
		if !pred(w) {
			return false
		}
	}
	return true
}

// Press gives the belief after a key in every world.
func (b Belief) Press(k hid.Chord) Belief {
	next, _ := b.each(input{key: k})
	return next
}

// Step is Press, and tells the weakest of what the transitions rest on.
func (b Belief) Step(k hid.Chord) (Belief, Evidence) { return b.each(input{key: k}) }

// Type gives the belief after a character arrived, as World.Type does.
func (b Belief) Type(r rune) Belief {
	next, _ := b.each(input{kind: byChar, char: r})
	return next
}

// Enter gives the belief after the keys of a Token, as World.Enter does.
func (b Belief) Enter(t Token) (Belief, error) {
	in, err := t.input()
	if err != nil {
		return Belief{}, err
	}
	next, _ := b.each(in)
	return next, nil
}

// Idle gives the belief after the console's idle time-out.
func (b Belief) Idle() Belief {
	next, _ := b.each(input{kind: byIdle})
	return next
}

// CapsOff gives the belief after Caps Lock was read and set right.
func (b Belief) CapsOff() Belief {
	next := Belief{worlds: slices.Clone(b.worlds)}
	for i, w := range next.worlds {
		next.worlds[i] = w.CapsOff()
	}
	next.merge()
	return next
}

func (b Belief) each(in input) (Belief, Evidence) {
	next := Belief{worlds: make([]World, 0, len(b.worlds)+4)}
	var weakest Evidence
	for i := range b.worlds {
		next.worlds = branch(next.worlds, b.worlds[i], in, &weakest)
	}
	next.merge()
	return next, weakest
}

// branch adds what becomes of a world: one world, or several where the
// transition had to know a fact that is open.
func branch(to []World, w World, in input, weakest *Evidence) []World {
	next := w
	var s step
	next.apply(in, &s)
	if !s.open {
		if weakest.Source == "" || s.ev.Grade > weakest.Grade {
			*weakest = s.ev
		}
		return append(to, next)
	}
	rest := w.facts.get(s.fact) &^ s.values
	half := w
	half.facts = w.facts.with(s.fact, s.values)
	to = branch(to, half, in, weakest)
	half.facts = w.facts.with(s.fact, rest)
	return branch(to, half, in, weakest)
}

// merge joins worlds that are in the same state, as far as one World can
// stand for both. Each stays where the first of its state was.
func (b *Belief) merge() {
	n := len(b.worlds)
	if n < 2 {
		return
	}
	// An open-addressed table of first worlds, each the head of a list of those
	// in its state; both hold index + 1. A map keyed by World is four times as
	// slow, and this is where a check spends its time.
	size := 4
	for size < 2*n {
		size *= 2
	}
	var fewSlots, fewLinks [512]int32
	slots, next := fewSlots[:], fewLinks[:]
	if size > len(fewSlots) {
		slots, next = make([]int32, size), make([]int32, n)
	}
	slots = slots[:size]
	var last []int32 // of the list that starts at a world
	again := false
	for i := range n {
		w := &b.worlds[i]
		at := int(w.stateHash()) & (size - 1)
		for slots[at] != 0 && !sameState(&b.worlds[slots[at]-1], w) {
			at = (at + 1) & (size - 1)
		}
		if slots[at] == 0 {
			slots[at] = int32(i + 1)
			continue
		}
		if !again {
			again, last = true, make([]int32, n)
		}
		first := slots[at] - 1
		if last[first] == 0 {
			last[first] = first + 1
		}
		next[last[first]-1] = int32(i + 1)
		last[first] = int32(i + 1)
	}
	if !again {
		return
	}
	inList := make([]bool, n)
	merged := make([]World, 0, n)
	var sets []factset
	for i := range n {
		if inList[i] {
			continue
		}
		if next[i] == 0 {
			merged = append(merged, b.worlds[i])
			continue
		}
		sets = sets[:0]
		for j := i + 1; j != 0; j = int(next[j-1]) {
			inList[j-1] = true
			sets = append(sets, b.worlds[j-1].facts)
		}
		w := b.worlds[i]
		for _, w.facts = range join(sets) {
			merged = append(merged, w)
		}
	}
	b.worlds = merged
}

// join covers a union of disjoint sets with as few as it finds: two sets that
// differ in one fact only are one with either value. Passes go on until none
// helps. It works in place.
func join(sets []factset) []factset {
	for again := true; again; {
		again = false
		for f := range factCount {
			if len(sets) < 2 {
				return sets
			}
			before := len(sets)
			if before <= 16 {
				sets = joinFew(sets, f)
			} else {
				sets = joinMany(sets, f)
			}
			again = again || len(sets) < before
		}
	}
	return sets
}

func joinFew(sets []factset, f fact) []factset {
	kept := sets[:0]
next:
	for _, s := range sets {
		for i := range kept {
			if kept[i].with(f, 0) == s.with(f, 0) {
				kept[i] = kept[i].with(f, kept[i].get(f)|s.get(f))
				continue next
			}
		}
		kept = append(kept, s)
	}
	return kept
}

func joinMany(sets []factset, f fact) []factset {
	seen := make(map[factset]int, len(sets))
	kept := sets[:0]
	for _, s := range sets {
		rest := s.with(f, 0)
		if i, ok := seen[rest]; ok {
			kept[i] = kept[i].with(f, kept[i].get(f)|s.get(f))
			continue
		}
		seen[rest] = len(kept)
		kept = append(kept, s)
	}
	return kept
}

func sameState(a, b *World) bool {
	as := *a
	as.facts = b.facts
	return as == *b
}

// stateHash is a hash of everything but the facts.
func (w *World) stateHash() uint64 {
	const mix = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio
	h := uint64(w.place) | uint64(w.ret)<<8 | uint64(w.console)<<16 | uint64(w.menuAt)<<24 |
		uint64(w.subAt)<<32 | uint64(w.focus)<<40 | uint64(w.tail)<<48 | uint64(w.shell)<<56
	h = bits.RotateLeft64(h*mix, 29) ^ (uint64(w.effects) | uint64(w.flags)<<32 | uint64(w.mgmtNow)<<48 | uint64(w.lockNow)<<56)
	h = bits.RotateLeft64(h*mix, 29) ^ (uint64(w.layoutNow) | uint64(w.dead)<<8 | uint64(w.pad)<<16 | uint64(w.mgmtSeen)<<32 | uint64(w.log)<<40)
	for _, s := range [...]string{w.lines, w.pending, w.applied, w.line, w.root} {
		h = bits.RotateLeft64(h*mix, 29)
		if s != "" {
			h ^= maphash.String(seed, s)
		}
	}
	h *= mix
	return h ^ h>>32
}

var seed = maphash.MakeSeed()

// Hash is the same for equal beliefs within one process, for planners that
// keep the beliefs they have been to.
func (b Belief) Hash() uint64 {
	var sum uint64
	for i := range b.worlds {
		w := &b.worlds[i]
		sum += (w.stateHash() ^ bits.RotateLeft64(w.facts.host*0xD6E8FEB86659FD93, 32) ^ uint64(w.facts.screen)) * 0x9E3779B97F4A7C15
	}
	return sum
}

// Equal says whether two beliefs hold the same worlds.
func (b Belief) Equal(other Belief) bool {
	if len(b.worlds) != len(other.worlds) {
		return false
	}
	in := make(map[World]bool, len(b.worlds))
	for _, w := range b.worlds {
		in[w] = true
	}
	return other.All(func(w World) bool { return in[w] })
}

// Outcome is a set of worlds for which a question has one answer.
type Outcome struct {
	// Facts holds the facts that decide, each with one value, as at the start.
	// A fact that makes no difference is left out.
	Facts map[string]string
	// World is one of them.
	World World
}

// Outcomes sorts the worlds by the answer to a question, such as where they
// end and with what effect, and merges those with the same answer. A fact that
// all worlds of b share is no longer a difference and is left out. The order
// is that of the facts.
func (b Belief) Outcomes(answer func(World) string) []Outcome {
	type group struct {
		worlds []World
		sets   []factset
	}
	var answers []string
	groups := map[string]*group{}
	var union factset
	for _, w := range b.worlds {
		union.host |= w.facts.host
		union.screen |= w.facts.screen
		a := answer(w)
		if groups[a] == nil {
			groups[a] = &group{}
			answers = append(answers, a)
		}
		groups[a].worlds = append(groups[a].worlds, w)
		groups[a].sets = append(groups[a].sets, w.facts)
	}
	type row struct {
		set factset
		Outcome
	}
	var rows []row
	for _, a := range answers {
		for _, set := range singles(join(groups[a].sets), union) {
			o := Outcome{Facts: map[string]string{}}
			for _, w := range groups[a].worlds {
				if w.facts.meets(set) {
					o.World = w
					break
				}
			}
			for f := range factCount {
				if v := set.get(f); v != union.get(f) {
					o.Facts[factTable[f].name] = valueName(f, v)
				}
			}
			rows = append(rows, row{set, o})
		}
	}
	slices.SortStableFunc(rows, func(x, y row) int {
		for f := range factCount {
			if c := cmp.Compare(x.set.get(f)&-x.set.get(f), y.set.get(f)&-y.set.get(f)); c != 0 {
				return c
			}
		}
		return 0
	})
	list := make([]Outcome, len(rows))
	for i, r := range rows {
		list[i] = r.Outcome
	}
	return list
}

// singles expands each set until every fact has one value or all those of the
// union.
func singles(sets []factset, union factset) []factset {
	for f := range factCount {
		all := union.get(f)
		var next []factset
		for _, s := range sets {
			v := s.get(f)
			if v == all {
				next = append(next, s)
				continue
			}
			for ; v != 0; v &= v - 1 {
				next = append(next, s.with(f, v&-v))
			}
		}
		sets = next
	}
	return sets
}

// Splits names the facts that tell the worlds apart by the answer to a
// question, in their fixed order.
func (b Belief) Splits(answer func(World) string) []string {
	found := map[string]bool{}
	for _, o := range b.Outcomes(answer) {
		for name := range o.Facts {
			found[name] = true
		}
	}
	return slices.DeleteFunc(FactNames(), func(n string) bool { return !found[n] })
}

// View is a screen and the worlds that show it.
type View struct {
	Screen Screen
	Worlds []World
}

// Views gives the different screens that the belief still holds, the one with
// the most worlds first. Every version has its own, so of a belief about which
// nothing is known there are a thousand, and they take some tenths of a second.
func (b Belief) Views() []View {
	byHash := map[uint64][]int{}
	var found []*View // pointers, since a View is 16 KB and gets sorted
	add := func(screen *Screen, w World) {
		h := screen.hash()
		for _, at := range byHash[h] {
			if found[at].Screen == *screen {
				found[at].Worlds = append(found[at].Worlds, w)
				return
			}
		}
		byHash[h] = append(byHash[h], len(found))
		found = append(found, &View{*screen, []World{w}})
	}
	for i := range b.worlds {
		views(b.worlds[i], add)
	}
	slices.SortStableFunc(found, func(x, y *View) int { return cmp.Compare(len(y.Worlds), len(x.Worlds)) })
	list := make([]View, len(found))
	for i, v := range found {
		list[i] = *v
	}
	return list
}

func views(w World, add func(*Screen, World)) {
	var s step
	screen := w.render(&s)
	if !s.open {
		add(&screen, w)
		return
	}
	rest := w.facts.get(s.fact) &^ s.values
	half := w
	half.facts = w.facts.with(s.fact, s.values)
	views(half, add)
	half.facts = w.facts.with(s.fact, rest)
	views(half, add)
}

// hash is quicker than that of a map, which goes field by field.
func (s *Screen) hash() uint64 {
	h := uint64(1)
	for r := range s {
		for c := range s[r] {
			h = bits.RotateLeft64(h, 5) ^ (uint64(s[r][c].Rune)<<8 | uint64(s[r][c].Attr))
			h *= 0x9E3779B97F4A7C15
		}
	}
	return h
}

// Anchor gives keys that lead to the welcome screen in every world, and
// whether they do. They are Alt+F2 and ESC four times where that is enough.
// Where somebody may have left changes of the management network unconfirmed,
// ESC alone goes to and fro between them and their confirm, and N has to
// discard them; it comes after the ESCs, where no field is open. Where N is
// depends on the layout: on most it is on the key of a US keyboard, on Dvorak
// on that of L, which means nothing to any screen where N is tried. Greek,
// Russian and Ukrainian have none, and there, or where nothing is known of the
// layout, N is its code on the keypad. A host that is down cannot be led
// anywhere; then those keys are given that leave the fewest worlds astray.
func (b Belief) Anchor() ([]hid.Chord, bool) {
	best, least := anchors[0], -1
	for _, keys := range anchors {
		after := b
		for _, k := range keys {
			after = after.Press(k)
		}
		astray := after.Where(func(w World) bool { return w.console != 0 || w.place != welcome }).Len()
		if least < 0 || astray < least {
			best, least = keys, astray
		}
		if astray == 0 {
			break
		}
	}
	return slices.Clone(best), least == 0
}

var (
	keyN       = hid.Chord{Key: hid.KeyA + 'n' - 'a'}
	keyNDvorak = hid.Chord{Key: hid.KeyA + 'l' - 'a'}

	// codeN is the N of every layout: its number on the keypad under Alt.
	codeN = []hid.Chord{
		{Mods: hid.Alt, Key: hid.KeyKP1, Keep: true}, {Mods: hid.Alt, Key: hid.KeyKP1, Keep: true}, {Mods: hid.Alt, Key: hid.KeyKP0},
	}

	anchors = [...][]hid.Chord{
		{AltF2, Esc, Esc, Esc, Esc},
		{AltF2, Esc, Esc, Esc, Esc, keyN, Esc, keyN, Esc, Esc},
		{AltF2, Esc, Esc, Esc, Esc, keyNDvorak, Esc, keyNDvorak, Esc, Esc},
		{AltF2, Esc, Esc, Esc, Esc, keyN, keyNDvorak, Esc, keyN, keyNDvorak, Esc, Esc},
		slices.Concat([]hid.Chord{AltF2, Esc, Esc, Esc, Esc}, codeN, []hid.Chord{Esc}, codeN, []hid.Chord{Esc, Esc}),
	}
	shortAnchor, longAnchor = anchors[0], anchors[1]
)

// Screens lists the names that At gives, sorted.
func Screens() []string {
	return slices.Sorted(maps.Keys(placeByName))
}

var placeByName = func() map[string]place {
	m := make(map[string]place, placeCount)
	for p := range placeCount {
		m[placeNames[p]] = p
	}
	return m
}()
