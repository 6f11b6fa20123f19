package recipes

import (
	"context"
	"errors"
)

// Run types the program.
func (p *Program) Run(ctx context.Context, kb Keyboard, on func(Event)) error {
	return errors.New("not there yet")
}
