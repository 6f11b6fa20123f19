package recipes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// console is a keyboard with a host at its other end: it reads reports as a
// host does, with its own code, and knows the real password.
type console struct {
	world   dcui.World
	decoder hid.Decoder
	chord   hid.Chord
	log     []string // chords, not to be shown where a secret is among them
	at      []time.Time
	down    int // keys
	reports int
	fail    func(n int, r hid.Report) error
	dark    bool // no lights
}

func newConsole(t testing.TB, facts map[string]string, password string) *console {
	t.Helper()
	w, err := dcui.NewWorld(facts)
	if err != nil {
		t.Fatal(err)
	}
	return &console{world: w.SetPassword(password)}
}

func (c *console) Send(ctx context.Context, r hid.Report) error {
	if err := ctx.Err(); err != nil {
		return &hid.DeliveryError{State: hid.Refused, Err: err}
	}
	if c.fail != nil {
		if err := c.fail(c.reports, r); err != nil {
			return err
		}
	}
	c.reports++
	c.at = append(c.at, time.Now())
	for _, e := range c.decoder.Decode(r) {
		if e.Key >= 0xe0 {
			bit := hid.Mods(1) << (e.Key - 0xe0)
			if e.Down {
				c.chord.Mods |= bit
			} else {
				c.chord.Mods &^= bit
			}
			continue
		}
		if !e.Down {
			c.down--
			continue
		}
		c.down++
		k := hid.Chord{Mods: c.chord.Mods, Key: e.Key}
		c.log = append(c.log, k.String())
		c.world = c.world.Press(k)
	}
	return nil
}

type lit struct{ *console }

func (c lit) LEDs() (hid.LEDs, bool) { return hid.LEDs(c.world.LEDs()), !c.dark }

type secret string

func (s secret) Reveal() string { return string(s) }

const rootPassword = "Xy7!korrekt-Z"

func compiled(t testing.TB, name string, facts map[string]string, v Vars) *Program {
	t.Helper()
	r, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return compiledRecipe(t, r, facts, v)
}

func compiledRecipe(t testing.TB, r *Recipe, facts map[string]string, v Vars) *Program {
	t.Helper()
	b, err := r.Belief(facts)
	if err != nil {
		t.Fatal(err)
	}
	if v.Secrets == nil {
		v.Secrets = map[string]Secret{"password": secret(rootPassword)}
	}
	p, err := r.Compile(b, v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parsed(t testing.TB, src string) *Recipe {
	t.Helper()
	r, err := Parse("test.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The whole way: keys of a compiled recipe, as reports, into a host that reads
// them by itself, on several layouts and with Caps Lock on.
func TestRunReachesTheGoal(t *testing.T) {
	for _, layout := range []string{"us", "de", "fr", "us-dvorak", "ch-fr"} {
		for _, item := range []string{"dimmed", "selectable"} {
			t.Run(layout+" "+item, func(t *testing.T) {
				facts := with(seedHost, "layout", layout, "lockdown_item", item, "caps", "on", "screen", "mgmt.confirm")
				kb := newConsole(t, facts, rootPassword)
				p := compiled(t, "restore-standard-switch", facts, Vars{Speed: math.Inf(1)})
				var events []Event
				if err := p.Run(t.Context(), lit{kb}, func(e Event) { events = append(events, e) }); err != nil {
					t.Fatal(err)
				}
				if kb.world.Effect() != dcui.StandardRestored || kb.down != 0 {
					t.Errorf("ends %s with %d keys down", kb.world, kb.down)
				}
				last := events[len(events)-1]
				if last.Kind != EventDone || !last.Belief.All(func(w dcui.World) bool { return w.At() == kb.world.At() }) {
					t.Errorf("the mirror ends with %v", last.Kind)
				}
			})
		}
	}
}

// Each key word of the events is the one that was typed, and no event holds a
// part of the secret, or its length.
func TestEventsTellKeysAndNoSecret(t *testing.T) {
	kb := newConsole(t, seedHost, rootPassword)
	p := compiled(t, "seed-restore-standard-switch", seedHost, Vars{Speed: math.Inf(1)})
	var keys []string
	var kinds []EventKind
	err := p.Run(t.Context(), kb, func(e Event) {
		if e.Kind == EventKey {
			keys = append(keys, e.Key)
		}
		if len(kinds) == 0 || kinds[len(kinds)-1] != e.Kind {
			kinds = append(kinds, e.Kind)
		}
		out, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{string(out), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
			if strings.Contains(form, rootPassword) || strings.Contains(form, "korrekt") {
				t.Errorf("an event shows the password")
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "F2 TAB ${password} ENTER DOWN DOWN DOWN DOWN ENTER DOWN ENTER F11"
	if got := strings.Join(keys, " "); got != want {
		t.Errorf("told %s", got)
	}
	if got := fmt.Sprint(kinds); got != "[start step key verify done]" {
		t.Errorf("events %s", got)
	}
}

// A raw recipe sends its keys and nothing else.
func TestRawSendsItsKeysOnly(t *testing.T) {
	kb := newConsole(t, seedHost, "ab")
	p := compiled(t, "seed-restore-standard-switch", seedHost, Vars{Speed: math.Inf(1), Secrets: map[string]Secret{"password": secret("ab")}})
	if err := p.Run(t.Context(), lit{kb}, nil); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(kb.log, " "); got != "F2 TAB A B ENTER DOWN DOWN DOWN DOWN ENTER DOWN ENTER F11" {
		t.Errorf("sent %s", got)
	}
}

// What is not safe sends nothing, unless every risk is accepted by name.
func TestRunRefuses(t *testing.T) {
	for _, c := range []struct {
		recipe string
		facts  map[string]string
		accept []string
		sends  bool
	}{
		{"seed-restore-standard-switch", with(seedHost, "management", "standard"), nil, false},
		{"seed-restore-standard-switch", with(seedHost, "management", "standard"), []string{"missed-goal"}, false},
		{"seed-restore-standard-switch", with(seedHost, "management", "standard"), []string{"all networking wiped"}, true},
		{"seed-restore-standard-switch", with(seedHost, "management", "standard"), []string{"all-networking-wiped"}, true},
		{"seed-restore-standard-switch", with(seedHost, "lockdown_item", "selectable"), nil, false},
		{"seed-restore-standard-switch", with(seedHost, "lockdown_item", "selectable"), []string{"missed-goal"}, true},
		{"restore-standard-switch", with(seedHost, "management", ""), nil, false},
		{"restore-standard-switch", with(seedHost, "management", ""), []string{"missed-goal"}, false},
		{"restore-standard-switch", with(seedHost, "lockdown_item", "", "wrap", "yes"), nil, true},
	} {
		kb := newConsole(t, c.facts, rootPassword)
		p := compiled(t, c.recipe, c.facts, Vars{Speed: math.Inf(1), Accept: c.accept})
		err := p.Run(t.Context(), lit{kb}, nil)
		var unsafe *UnsafeError
		if errors.As(err, &unsafe) == c.sends || kb.reports > 0 != c.sends {
			t.Errorf("%s accepting %v: %d reports, %v", c.recipe, c.accept, kb.reports, err)
		}
	}
}

func TestRunWithoutValues(t *testing.T) {
	kb := newConsole(t, seedHost, rootPassword)
	p := compiled(t, "restore-standard-switch", seedHost, Vars{Secrets: map[string]Secret{}})
	var in *InputError
	if err := p.Run(t.Context(), kb, nil); !errors.As(err, &in) || in.Name != "password" || !in.Secret || kb.reports > 0 {
		t.Errorf("%v after %d reports", err, kb.reports)
	}
	// An empty password is a password.
	kb = newConsole(t, seedHost, "")
	p = compiled(t, "restore-standard-switch", seedHost, Vars{Speed: math.Inf(1), Secrets: map[string]Secret{"password": secret("")}})
	if err := p.Run(t.Context(), kb, nil); err != nil || kb.world.Effect() != dcui.StandardRestored {
		t.Errorf("%v, %s", err, kb.world)
	}
}

// far is a console at the other end of a connection: it takes only whole keys.
type far struct{ lit }

func (far) Far() bool { return true }

func (f far) Play(ctx context.Context, reports []hid.Report, p hid.Pace) (n int, err error) {
	if len(reports) == 0 || reports[len(reports)-1] != (hid.Report{}) {
		return 0, errors.New("no whole key")
	}
	for _, r := range reports {
		if err := f.console.Send(ctx, r); err != nil {
			return n, err
		}
		n++
		switch {
		case len(r.Keys()) > 0:
			time.Sleep(p.Hold)
		case r == hid.Report{}:
			time.Sleep(p.Gap)
		default:
			time.Sleep(p.Lead)
		}
	}
	return n, nil
}

func (far) Send(context.Context, hid.Report) error {
	return errors.New("a report by itself, at the mercy of the connection")
}

// Whatever report is not delivered, nothing follows it, and the error knows
// whether the key may have landed and what it may have done.
func TestNothingFollowsALostKey(t *testing.T) {
	whole := newConsole(t, seedHost, rootPassword)
	if err := compiled(t, "restore-standard-switch", seedHost, Vars{Speed: math.Inf(1)}).Run(t.Context(), lit{whole}, nil); err != nil {
		t.Fatal(err)
	}
	for _, on := range []func(*console) Keyboard{
		func(c *console) Keyboard { return lit{c} },
		func(c *console) Keyboard { return far{lit{c}} },
	} {
		testLostKeys(t, whole.reports, on)
	}
}

func testLostKeys(t *testing.T, reports int, on func(*console) Keyboard) {
	for n := range reports {
		for _, state := range []hid.State{hid.Refused, hid.Pending} {
			kb := newConsole(t, seedHost, rootPassword)
			calls := 0
			kb.fail = func(i int, _ hid.Report) error {
				calls++
				if i == n {
					return &hid.DeliveryError{State: state, Err: hid.ErrNotTaken}
				}
				return nil
			}
			err := compiled(t, "restore-standard-switch", seedHost, Vars{Speed: math.Inf(1)}).Run(t.Context(), on(kb), nil)
			var typing *TypeError
			if !errors.As(err, &typing) || typing.Lost != (state == hid.Pending) || typing.Sent != n || calls != n+1 {
				t.Fatalf("report %d %s: %v after %d calls", n, state, err, calls)
			}
			if strings.Contains(err.Error(), rootPassword) {
				t.Fatal("the error shows the password")
			}
			// Before the last key nothing is done to the host; if that may have
			// landed, it may be.
			want := dcui.Nothing
			if n == reports-1 || n == reports-2 && state == hid.Pending {
				want = dcui.StandardRestored
			}
			if typing.Effect != want {
				t.Errorf("report %d of %d %s: effect %s", n, reports, state, typing.Effect)
			}
		}
	}
}

// The end of ctx lets go of a key that is down.
func TestInterruptReleases(t *testing.T) {
	for n := range 30 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			kb := newConsole(t, seedHost, rootPassword)
			kb.fail = func(i int, _ hid.Report) error {
				if i == n {
					go func() { time.Sleep(time.Millisecond); cancel() }()
				}
				return nil
			}
			err := compiled(t, "restore-standard-switch", seedHost, Vars{}).Run(ctx, lit{kb}, nil)
			if !errors.Is(err, context.Canceled) || kb.down != 0 || kb.chord.Mods != 0 {
				t.Errorf("report %d: %v, %d keys down, modifiers %s", n, err, kb.down, kb.chord.Mods)
			}
			if kb.reports > n+2 {
				t.Errorf("report %d: %d reports", n, kb.reports)
			}
			synctest.Wait()
		})
	}
}

// Caps Lock is never left to luck: without lights a secret is not typed, and a
// raw recipe is refused where the light says on.
func TestCapsLock(t *testing.T) {
	kb := newConsole(t, with(seedHost, "caps", "on"), rootPassword)
	p := compiled(t, "restore-standard-switch", with(seedHost, "caps", ""), Vars{Speed: math.Inf(1)})
	if err := p.Run(t.Context(), kb, nil); !errors.Is(err, ErrCapsLock) {
		t.Errorf("no lights: %v", err)
	}
	if strings.Contains(strings.Join(kb.log, " "), "TAB") {
		t.Errorf("typed on: %v", kb.log)
	}
	dark := newConsole(t, with(seedHost, "caps", "on"), rootPassword)
	dark.dark = true
	if err := p.Run(t.Context(), lit{dark}, nil); !errors.Is(err, ErrCapsLock) {
		t.Errorf("dark: %v", err)
	}
	raw := newConsole(t, with(seedHost, "caps", "on"), rootPassword)
	p = compiled(t, "seed-restore-standard-switch", seedHost, Vars{Speed: math.Inf(1)})
	if err := p.Run(t.Context(), lit{raw}, nil); !errors.Is(err, ErrCapsLock) || raw.reports > 4 {
		t.Errorf("raw: %v after %d reports", err, raw.reports)
	}
}

// asked answers after some questions, or never.
type asked struct {
	times int
	after int
	slow  time.Duration
	hosts []string
}

func (a *asked) Probe(ctx context.Context, c Condition) (bool, error) {
	a.times++
	a.hosts = append(a.hosts, c.Host)
	select {
	case <-time.After(a.slow):
	case <-ctx.Done():
		return false, nil
	}
	return a.after > 0 && a.times >= a.after, nil
}

func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name    string
		prober  *asked
		timeout time.Duration
		ok      bool
		takes   time.Duration
	}{
		{"at once", &asked{after: 1}, 0, true, 0},
		{"after a while", &asked{after: 31}, 0, true, 30 * time.Second},
		{"never", &asked{}, 0, false, 3 * time.Minute},
		{"never, with a limit", &asked{}, 20 * time.Second, false, 20 * time.Second},
		{"slow answers", &asked{slow: 25 * time.Second}, 0, false, 3 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kb := newConsole(t, seedHost, rootPassword)
				p := compiled(t, "restore-standard-switch", seedHost, Vars{Prober: c.prober, Timeout: c.timeout, Speed: math.Inf(1)})
				var last, start time.Time
				waits := 0
				err := p.Run(t.Context(), lit{kb}, func(e Event) {
					if e.Kind != EventKey && e.Kind != EventStep && !last.IsZero() && time.Since(last) > 10*time.Second {
						t.Errorf("silent for %s", time.Since(last))
					}
					if e.Kind == EventWait {
						waits++
						if e.Text == "" || e.Max == 0 || e.For > e.Max {
							t.Errorf("waits for %q, %s of %s", e.Text, e.For, e.Max)
						}
					}
					if waits == 1 && start.IsZero() {
						start = time.Now()
					}
					last = time.Now()
				})
				var verify *VerifyError
				if c.ok != (err == nil) || !c.ok && (!errors.As(err, &verify) || verify.Predicted) {
					t.Errorf("%v", err)
				}
				if took := time.Since(start); took.Round(time.Second) != c.takes {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

// Without a prober the model answers, and says so.
func TestPredictedVerify(t *testing.T) {
	kb := newConsole(t, seedHost, rootPassword)
	predicted := 0
	err := compiled(t, "restore-standard-switch", seedHost, Vars{Speed: math.Inf(1)}).Run(t.Context(), lit{kb}, func(e Event) {
		if e.Kind == EventVerify && e.Predict && e.OK {
			predicted++
		}
	})
	if err != nil || predicted != 2 {
		t.Errorf("%v, %d predicted", err, predicted)
	}
}

// The pace is what the recipe, the host and the step say, and a whole run with
// its pauses stays below the shortest time-out.
func TestPace(t *testing.T) {
	r := parsed(t, `
recipe: paced
pace: {hold: 20ms, gap: 40ms}
steps:
  - keys: DOWN DOWN
  - keys: DOWN SHIFT+TAB
    pace: {gap: 1s, lead: 5ms}
`)
	paced := func(t *testing.T, on func(*console) Keyboard) {
		kb := newConsole(t, seedHost, rootPassword)
		if err := compiledRecipe(t, r, seedHost, Vars{}).Run(t.Context(), on(kb), nil); err != nil {
			t.Fatal(err)
		}
		var gaps []time.Duration
		for i := 1; i < len(kb.at); i++ {
			gaps = append(gaps, kb.at[i].Sub(kb.at[i-1]))
		}
		want := []time.Duration{20, 40, 20, 40, 20, 1000, 5, 20, 5}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if fmt.Sprint(gaps) != fmt.Sprint(want) {
			t.Errorf("gaps %v", gaps)
		}
	}
	synctest.Test(t, func(t *testing.T) { paced(t, func(c *console) Keyboard { return c }) })
	synctest.Test(t, func(t *testing.T) { paced(t, func(c *console) Keyboard { return far{lit{c}} }) })
	synctest.Test(t, func(t *testing.T) {
		kb := newConsole(t, seedHost, rootPassword)
		start := time.Now()
		if err := compiled(t, "restore-standard-switch", seedHost, Vars{}).Run(t.Context(), lit{kb}, nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 30*time.Second || took < 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// With a pause that is longer than the limit no run begins: going on early would
// be typing into another screen, and to stop there would be halfway.
func TestPauseBeyondTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := parsed(t, "recipe: x\nsteps:\n  - keys: F2\n  - wait: 1m\n  - keys: ESC\n")
		kb := newConsole(t, seedHost, rootPassword)
		start := time.Now()
		err := compiledRecipe(t, r, seedHost, Vars{Timeout: 20 * time.Second}).Run(t.Context(), kb, nil)
		if err == nil || !strings.Contains(err.Error(), "step 2 (wait 1m0s) of recipe x takes 1m0s, and 20s is the limit") || len(kb.log) != 0 || time.Since(start) > 0 {
			t.Errorf("%v, typed %v", err, kb.log)
		}
		if err := compiledRecipe(t, r, seedHost, Vars{Timeout: 20 * time.Second, Speed: 10}).Run(t.Context(), kb, nil); err != nil {
			t.Error(err)
		}
	})
}

// A laptop that slept in the middle finds the console logged out.
func TestLoggedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kb := newConsole(t, seedHost, rootPassword)
		kb.fail = func(i int, r hid.Report) error {
			if len(kb.log) > 0 && strings.HasSuffix(kb.log[len(kb.log)-1], "DOWN") && kb.down > 0 {
				time.Sleep(3 * time.Minute)
			}
			return nil
		}
		err := compiled(t, "restore-standard-switch", seedHost, Vars{}).Run(t.Context(), lit{kb}, nil)
		if !errors.Is(err, ErrLoggedOut) || kb.world.Effect() != dcui.Nothing {
			t.Errorf("%v, %s", err, kb.world)
		}
	})
}

// A probe that fails stops the run before the next key; one that holds is
// evidence for the mirror.
func TestProbe(t *testing.T) {
	r := parsed(t, "recipe: x\nsteps:\n  - keys: F2 ESC\n  - probe: {tcp: 22, within: 5s}\n  - keys: F12\n")
	for _, answers := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			facts := with(seedHost, "ssh", "on")
			kb := newConsole(t, facts, rootPassword)
			err := compiledRecipe(t, r, facts, Vars{Prober: &asked{after: answers}}).Run(t.Context(), kb, nil)
			var typing *TypeError
			if (err == nil) != (answers > 0) || err != nil && !errors.As(err, &typing) || len(kb.log) != 2+answers {
				t.Errorf("%d answers: %v, typed %v", answers, err, kb.log)
			}
		})
	}
}
