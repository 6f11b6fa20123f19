package recipes

import (
	"iter"
	"slices"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// Program is a recipe compiled for the worlds that are left. It is not changed
// by Check and Run.
type Program struct {
	recipe *Recipe
	vars   Vars
	pace   hid.Pace
	layout *hid.Layout
	ops    []op

	start   dcui.Belief // what it was compiled for
	ways    []*way      // through its probes; one where none goes two ways
	missing []Missing
	open    bool // a secret is typed in the open in some world
	late    bool // it takes longer than the console waits
	notes   Errors
	dead    string // why no world is left to go on in
}

// way is one way through a program. The worlds that were left behind before the
// first probe that goes two ways have one to themselves.
type way struct {
	answers string      // to the probes on it
	end     dcui.Belief // where it leads the worlds it is right for
	stopped []stop      // the others, where they were left behind

	wanted  []dcui.Effect // effects that are the goal
	allowed []dcui.Effect // effects that come with it
	states  []Condition   // switches that are the goal
}

// op is a part of a program: keys, or a pause between them.
type op struct {
	kind   opKind
	step   int
	chords []hid.Chord
	words  []word // what Keys says
	token  dcui.Token
	secret bool
	known  bool // chords hold the input's value
	cond   []Condition
	after  time.Duration // pause before the next key, apart from the pace
	pace   hid.Pace

	// Of a probe that goes two ways: all that is typed after it on either. A way
	// is shut where no world left can lead to its answer.
	fork    bool
	yes, no []op
	yesShut bool
	noShut  bool
}

type opKind uint8

const (
	opKeys  opKind = iota
	opToken        // chords are known only with the input's value
	opCaps         // Caps Lock is read from its light and set right
	opWait         // after
	opHold         // the chord stays down for after
	opThink        // after, in which a person may stop it
	opProbe        // cond has to hold
)

// stop is a part of the worlds that the program does not go on in.
type stop struct {
	worlds dcui.Belief
	step   int
	why    string
}

// Belief gives every world that the facts leave, whether the recipe is for it
// or not: in a world that it is not for it types nothing. An unknown name or
// value is a *dcui.FactError.
func (r *Recipe) Belief(facts map[string]string) (dcui.Belief, error) { return dcui.NewBelief(facts) }

// ends gives where it leads the worlds it is right for, on all ways.
func (p *Program) ends() dcui.Belief {
	ends := make([]dcui.Belief, len(p.ways))
	for i, way := range p.ways {
		ends[i] = way.end
	}
	return dcui.Union(ends...)
}

// leaves says whether worlds were left behind on any way.
func (p *Program) leaves() bool {
	return slices.ContainsFunc(p.ways, func(way *way) bool { return len(way.stopped) > 0 })
}

// Recipe gives what the program was compiled from.
func (p *Program) Recipe() *Recipe { return p.recipe }

// StepKeys gives the keys of one step of the recipe, as Keys does for all.
func (p *Program) StepKeys(step int) []string {
	var all []word
	for o := range through(p.ops, true) {
		if o.step == step {
			all = append(all, o.words...)
		}
	}
	if all != nil {
		return keyWords(all)
	}
	// On the other ways a step may come several times, with the same words.
	for o := range everyOp(p.ops) {
		if o.step == step && (all == nil || !slices.Equal(all[len(all)-len(o.words):], o.words)) {
			all = append(all, o.words...)
		}
	}
	return keyWords(all)
}

// through gives the ops on the way on which every probe has the same answer, or
// the other where its way is shut.
func through(ops []op, yes bool) iter.Seq[*op] {
	return func(yield func(*op) bool) {
		for len(ops) > 0 {
			o := &ops[0]
			if !yield(o) {
				return
			}
			switch ops = ops[1:]; {
			case o.fork && (yes && !o.yesShut || o.noShut):
				ops = o.yes
			case o.fork:
				ops = o.no
			}
		}
	}
}

// everyOp gives the ops of all ways.
func everyOp(ops []op) iter.Seq[*op] {
	return func(yield func(*op) bool) { eachOp(ops, yield) }
}

func eachOp(ops []op, yield func(*op) bool) bool {
	for i := range ops {
		if !yield(&ops[i]) || !eachOp(ops[i].yes, yield) || !eachOp(ops[i].no, yield) {
			return false
		}
	}
	return true
}

// Unsure is a value with characters that consoles are known to have in other
// places of their keymap than the layout says.
type Unsure struct {
	Input  string
	Secret bool
	Layout string
	Places []int // in characters from 0
}

// Unsure looks at every value that the program was compiled with.
func (p *Program) Unsure() []Unsure {
	var out []Unsure
	add := func(name, value string, secret bool) {
		if at := p.layout.Unsure(value); len(at) > 0 {
			out = append(out, Unsure{name, secret, p.layout.Short(), at})
		}
	}
	for _, in := range p.recipe.Vars {
		value, ok := p.vars.Values[in.Name]
		if !ok {
			value = in.Default
		}
		add(in.Name, value, false)
	}
	for _, in := range p.recipe.Secrets {
		if s := p.vars.Secrets[in.Name]; s != nil {
			add(in.Name, s.Reveal(), true)
		}
	}
	return out
}

// Keys gives the keys in words, such as F2, ALT+F2, DOWN×4, "text" and
// ${password}: equal neighbours are folded, adjacent text is joined, pauses are
// left out. Of several ways it is the one on which every probe holds. Where the program is not right for every world these are the keys
// for those it is right for.
func (p *Program) Keys() []string {
	var all []word
	for o := range through(p.ops, true) {
		all = append(all, o.words...)
	}
	return keyWords(all)
}
