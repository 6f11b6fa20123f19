package recipes

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/labctl/labctl/hid"
)

// Recipe is a parsed file, what it includes put in its place. It is not changed
// after Parse, so that it can be compiled from several goroutines.
type Recipe struct {
	Name    string
	Summary string
	Risk    Risk
	// ESXi is the range of versions as written, such as ">=5.1 <8.0"; empty for
	// every version.
	ESXi string
	// Requires holds facts that have to be known for the recipe to apply. A
	// list of values in the file is joined with "|".
	Requires map[string]string
	Secrets  []Input
	Vars     []Input
	Steps    []Step
	Verify   []Condition
	// Pace holds where neither the host (Vars.Pace) nor a step has one.
	Pace hid.Pace

	File   string
	Source []byte

	requires []requirement
	at       map[string]place // of the keys of the file, for errors found later
}

// Risk is what a recipe declares about itself. It is a word for people: the
// check goes by what the keys do, and a declaration excuses nothing.
type Risk string

// The risks, the greatest last.
const (
	ReadOnly    Risk = "read-only"
	Toggle      Risk = "toggle"
	Disruptive  Risk = "disruptive"
	Destructive Risk = "destructive"
)

var risks = []string{string(ReadOnly), string(Toggle), string(Disruptive), string(Destructive)}

// Input is a secret or a variable that a recipe declares.
type Input struct {
	Name    string
	Summary string
	// Kind of a variable: text, number, ipv4, netmask, vlan or hostname. Empty
	// for a secret.
	Kind    string
	Default string
	// Optional says that a default is there, which may be empty.
	Optional bool
}

// Kinds lists the kinds of a variable.
func Kinds() []string { return []string{"text", "number", "ipv4", "netmask", "vlan", "hostname"} }

// StepKind is what a step does.
type StepKind string

// The kinds of steps. An include and a group of steps leave their steps behind.
const (
	StepKeys    StepKind = "keys"
	StepAnchor  StepKind = "anchor"
	StepLogin   StepKind = "login"
	StepSelect  StepKind = "select"
	StepSet     StepKind = "set"
	StepToggle  StepKind = "toggle"
	StepConfirm StepKind = "confirm"
	StepLeave   StepKind = "leave"
	StepType    StepKind = "type"
	StepWait    StepKind = "wait"
	StepHold    StepKind = "hold"
	StepExpect  StepKind = "expect"
	StepProbe   StepKind = "probe"
)

// Step is one step of a recipe.
type Step struct {
	Kind StepKind
	// Text says the step in one line, as in "select Network Restore Options".
	Text string
	// Note is the recipe's own words about the step.
	Note string
	File string
	Line int
	Col  int

	at    place
	when  []requirement
	pace  *hid.Pace
	words []word        // keys, type, confirm, hold
	name  string        // select: a label; leave: a screen; login: the name of a secret
	user  []word        // login
	via   hid.Chord     // login
	sets  []setting     // set, toggle
	d     time.Duration // wait, hold
	cond  []Condition   // expect, probe

	// A probe with an else is followed by the steps of its then, these by those
	// of its else, and those by what comes after on either way.
	fork      bool
	then, els int // steps
}

// setting is a field of a form and what is to stand in it, or a switch and its
// state.
type setting struct {
	label string
	words []word
	at    place
}

// requirement is a fact and the values it may have.
type requirement struct {
	fact   string
	values []string
	said   string // in the words of the recipe; empty for fact=value
	at     place
}

func (r requirement) String() string {
	if r.said != "" {
		return r.said
	}
	return r.fact + "=" + strings.Join(r.values, "|")
}

// word is a part of what is typed.
type word struct {
	kind  wordKind
	chord hid.Chord
	text  string // or the name of an input
	at    place
}

type wordKind uint8

const (
	chordWord wordKind = iota
	textWord
	inputWord
)

// Condition is something that verify, expect or probe asks for.
type Condition struct {
	// Kind is reachable, unreachable, closed, icmp, led, effect, selected or fact.
	// A port is closed where the host itself refuses it; a host that says nothing
	// is only unreachable.
	Kind string
	// Fact and Value of kind fact: what a fact of the host has become. Value
	// alone of kinds effect and selected.
	Fact, Value string
	// Host is an address or a name; empty is the host itself. It may hold
	// ${name} of a variable.
	Host string
	// TCP is a port; 0 asks for any answer to a ping.
	TCP int
	// Within is how long it may take; 0 is DefaultWithin.
	Within time.Duration

	Line, Col int
	at        place
}

// DefaultWithin is how long a condition may take that says nothing about it: a
// management agent that restarts is back within a minute or two.
const DefaultWithin = 2 * time.Minute

// Network says whether the network has to answer it, and not the console.
func (c Condition) Network() bool {
	return c.Kind == "reachable" || c.Kind == "unreachable" || c.Kind == "closed"
}

func (c Condition) String() string {
	where := c.Host
	if where == "" {
		where = "the host"
	}
	if c.TCP != 0 {
		where = fmt.Sprintf("TCP port %d of %s", c.TCP, where)
	}
	switch c.Kind {
	case "reachable":
		return where + " answers"
	case "unreachable":
		return where + " does not answer"
	case "closed":
		return where + " is closed"
	case "icmp":
		return "a ping from the host arrives"
	case "led":
		return "the host answers a lock key with its light"
	case "usb-reset":
		return "the host lets go of the USB keyboard"
	case "effect":
		return "effect: " + c.Value
	case "selected":
		return "selected: " + c.Value
	}
	return c.Fact + ": " + c.Value
}

// Raw says whether the recipe is nothing but keys, which are then typed as they
// stand and with nothing around them.
func (r *Recipe) Raw() bool {
	return !slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Kind != StepKeys && s.Kind != StepWait && s.Kind != StepHold })
}

// input gives a declared secret or variable.
func (r *Recipe) input(name string) (in Input, secret, ok bool) {
	for _, s := range r.Secrets {
		if s.Name == name {
			return s, true, true
		}
	}
	for _, v := range r.Vars {
		if v.Name == name {
			return v, false, true
		}
	}
	return Input{}, false, false
}
