package recipes

import (
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
	end     dcui.Belief // where it leads the worlds it is right for
	stopped []stop      // the others, where they were left behind

	wanted  []dcui.Effect // effects that are the goal
	allowed []dcui.Effect // effects that come with it
	states  []Condition   // switches that are the goal
	missing []Missing
	open    bool // a secret is typed in the open in some world
	late    bool // it takes longer than the console waits
	notes   Errors
	dead    string // why no world is left to go on in
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

// Recipe gives what the program was compiled from.
func (p *Program) Recipe() *Recipe { return p.recipe }

// StepKeys gives the keys of one step of the recipe, as Keys does for all.
func (p *Program) StepKeys(step int) []string {
	var all []word
	for i := range p.ops {
		if p.ops[i].step == step {
			all = append(all, p.ops[i].words...)
		}
	}
	return keyWords(all)
}

// Keys gives the keys in words, such as F2, ALT+F2, DOWN×4, "text" and
// ${password}: equal neighbours are folded, adjacent text is joined, pauses are
// left out. Where the program is not right for every world these are the keys
// for those it is right for.
func (p *Program) Keys() []string {
	var all []word
	for i := range p.ops {
		all = append(all, p.ops[i].words...)
	}
	return keyWords(all)
}
