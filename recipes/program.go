package recipes

import (
	"context"
	"errors"

	"github.com/labctl/labctl/recipes/dcui"
)

// Program is a recipe compiled for the worlds that are left.
type Program struct {
	recipe *Recipe
	notes  notation
}

// Belief gives every world that the facts leave. An unknown name or value is a
// *dcui.FactError.
func (r *Recipe) Belief(facts map[string]string) (dcui.Belief, error) { return dcui.NewBelief(facts) }

// Compile finds the keys.
func (r *Recipe) Compile(b dcui.Belief, v Vars) (*Program, error) {
	p := &Program{recipe: r}
	return p, nil
}

// Keys gives the key words.
func (p *Program) Keys() []string { return p.notes.words() }

// Check tells where the program leads.
func (p *Program) Check(ctx context.Context) (*Verdict, error) {
	return nil, errors.New("not there yet")
}

// Run types the program.
func (p *Program) Run(ctx context.Context, kb Keyboard, on func(Event)) error {
	return errors.New("not there yet")
}
