package recipes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/labctl/labctl/recipes/dcui"
)

// Error is one fault of a recipe, with its place.
type Error struct {
	File      string
	Line, Col int    // from 1; Col counts characters
	Text      string // the line itself
	Msg       string
	Hint      string // a way out, where there is one
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg) }

// Errors are all faults that were found at once, in the order of their places.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted gives the faults in the order of their places, each once.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return slices.CompactFunc(e, func(a, b *Error) bool { return *a == *b })
}

// NotFoundError is a name that no recipe of the library has.
type NotFoundError struct {
	Name string
	Near string // a name that is much like it, or empty
}

func (e *NotFoundError) Error() string {
	if e.Near != "" {
		return fmt.Sprintf("no recipe is called %s: did you mean %s?", e.Name, e.Near)
	}
	return fmt.Sprintf("no recipe is called %s", e.Name)
}

// UnsafeError is a run that was refused before its first key.
type UnsafeError struct{ Verdict *Verdict }

func (e *UnsafeError) Error() string {
	if e.Verdict.Verdict == NeedsFacts {
		return fmt.Sprintf("recipe %s is not known to reach its goal: more facts are needed", e.Verdict.Recipe)
	}
	return fmt.Sprintf("recipe %s is unsafe", e.Verdict.Recipe)
}

// TypeError is a run that ended between its first and its last key.
type TypeError struct {
	Step int // of Recipe.Steps
	Text string
	Sent int // reports that were delivered
	// Lost says that a key may have landed or not. Nothing was typed after it.
	Lost bool
	// Effect is the worst that the delivered keys did to the host, by the
	// model, the lost key included.
	Effect dcui.Effect
	Err    error
}

func (e *TypeError) Error() string {
	after := "before the first key"
	if e.Sent > 0 {
		after = fmt.Sprintf("after %d reports", e.Sent)
	}
	return fmt.Sprintf("typing step %d (%s), %s: %s", e.Step+1, e.Text, after, e.Err)
}

func (e *TypeError) Unwrap() error { return e.Err }

// VerifyError is a run whose keys were all delivered and whose goal was not
// seen, or was not asked for to the end.
type VerifyError struct {
	Condition Condition
	Predicted bool // the model answered, not the host
	Err       error
}

func (e *VerifyError) Error() string {
	s := fmt.Sprintf("verifying %q: not so", e.Condition)
	if e.Err != nil {
		s = fmt.Sprintf("verifying %q: %s", e.Condition, e.Err)
	}
	if e.Predicted {
		s += " (predicted)"
	}
	return s
}

func (e *VerifyError) Unwrap() error { return e.Err }
