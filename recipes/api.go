package recipes

import (
	"context"
	"errors"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// Secret is text that is typed and never shown.
type Secret interface{ Reveal() string }

// Vars is what a recipe is compiled with. The zero value works: every input is
// then a placeholder.
type Vars struct {
	// Values of variables. Without one a variable has its default, or is a
	// placeholder of its kind.
	Values map[string]string
	// Secrets by name. One that is missing is a placeholder: the program can
	// then be checked and not be run.
	Secrets map[string]Secret
	// Layout is the keymap to compose characters for, by any of its names. Empty
	// is that of the belief where it is known, else us.
	Layout string
	// Keypad types ASCII characters that the layout lacks as codes on the
	// keypad under Alt.
	Keypad bool
	// Idle is the console's time-out; 0 is not known, and dcui.HardenedIdle is
	// assumed.
	Idle time.Duration
	// Pace of the host's keys; what is zero is the recipe's, else hid's default.
	Pace hid.Pace
	// Speed divides every pause of a run; 0 is 1. A model needs no pause: with
	// math.Inf(1) there is none.
	Speed float64
	// Timeout caps every wait of a run; 0 caps none.
	Timeout time.Duration
	// Accept names effects that the user takes upon himself, such as
	// "all networking wiped".
	Accept []string
	// Prober asks the network. Without one the model answers, and the answer is
	// called predicted.
	Prober Prober
}

// ErrCannotTell is a Prober's answer to a condition that it cannot look at. The
// model answers then.
var ErrCannotTell = errors.New("nobody can look at that")

// Prober asks the network once whether a condition holds. An error that is not
// ErrCannotTell ends the run; that nothing answers is no error. A Prober with a
// method Predicted that returns true answers for a simulated host: it is asked
// for everything that has to hold in the end, and what it says is called
// predicted.
type Prober interface {
	Probe(ctx context.Context, c Condition) (bool, error)
}

// Keyboard hands a report to the host; *hid.Keyboard is one. A run uses LEDs,
// SetCapsLock, Probe, HostLeft, Far and Play of that type too where a keyboard has them.
type Keyboard interface {
	Send(context.Context, hid.Report) error
}

// Kind of a verdict.
type Kind string

// The verdicts.
const (
	Safe       Kind = "safe"        // every world reaches the goal
	Unsafe     Kind = "unsafe"      // some world has a destructive effect that is not the goal
	NeedsFacts Kind = "needs-facts" // some world misses the goal, or no keys were found
)

// Verdict says where a program leads in every world.
type Verdict struct {
	Recipe  string    `json:"recipe"`
	Verdict Kind      `json:"verdict"`
	Keys    []string  `json:"keys"`
	Worlds  []Ending  `json:"worlds"`
	Missing []Missing `json:"missing"`
	// Risks are the names to accept for running it nevertheless: effects with
	// dashes, missed-goal, open-secret, idle-logout. What was left behind in
	// compiling cannot be accepted: its worlds need other keys.
	Risks []string `json:"risks,omitempty"`
	Notes []*Error `json:"-"` // what a person should look at, with its place
}

// Ending is where worlds end that differ in nothing that has made a difference.
type Ending struct {
	Facts map[string]string `json:"facts"`
	End   string            `json:"end"`
	// Effect is the worst effect of those that other programs know by name.
	Effect string `json:"effect"`
	// Did is the worst effect where that is another one: "shell command run", or
	// "settings changed".
	Did string `json:"did,omitempty"`
	OK  bool   `json:"ok"`
	// Way tells the answers to the probes that lead here; empty where no probe
	// goes two ways. The same host may have one ending on each way.
	Way string `json:"way,omitempty"`
	// Why says what keeps these worlds from the goal; empty where OK.
	Why string `json:"-"`
	// Harm says that it destroys what it is not for.
	Harm bool `json:"-"`
	// World is one of them, at its end.
	World dcui.World `json:"-"`
}

// Worst is the worst effect, in the model's words.
func (e *Ending) Worst() string { return e.World.Effect().String() }

// Screen draws the screen that the model shows at the end.
func (e *Ending) Screen() dcui.Screen { return e.World.Render() }

// Missing is a fact that would settle the matter.
type Missing struct {
	Fact   string   `json:"fact"`
	Splits []string `json:"splits"` // its values that make the difference
	Why    string   `json:"why"`
	Probe  string   `json:"probe"` // how to learn it
}

// EventKind is what an Event tells.
type EventKind string

// The events of a run, in the order of their first coming.
const (
	EventStart  EventKind = "start"  // Steps holds the list
	EventStep   EventKind = "step"   // a step begins
	EventKey    EventKind = "key"    // a key was delivered
	EventWait   EventKind = "wait"   // what is waited for, at least every 10 s
	EventVerify EventKind = "verify" // a condition holds, or does not; a probe's too
	EventDone   EventKind = "done"   // all keys are out and verified
)

// Event is one thing that happened in a run. The live screen, the lines and the
// JSON are three views of these.
type Event struct {
	Kind  EventKind
	Step  int      // of Steps
	Steps []string // EventStart only
	// Key is a word of the key notation, or ${name}: a character of a secret is
	// never told.
	Key      string
	Reports  int           // delivered so far
	Text     string        // what is waited for or verified
	OK       bool          // EventVerify: it holds
	Predict  bool          // EventVerify: the model says so, nothing was asked
	For, Max time.Duration // EventWait: how long so far, and at most
	// Before is how many worlds were left before an answer; 0 where there was
	// none. What the answer left is Belief.
	Before   int
	Belief   dcui.Belief   // after it
	Evidence dcui.Evidence // EventKey: what the transition rests on
}
