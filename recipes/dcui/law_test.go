package dcui

import (
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"github.com/labctl/labctl/hid"
	"pgregory.net/rapid"
)

// anyFacts draws a value for each fact, or for some of them.
func anyFacts(t *rapid.T, whole bool) map[string]string {
	facts := map[string]string{}
	for _, name := range FactNames() {
		if whole || rapid.Bool().Draw(t, "know "+name) {
			facts[name] = rapid.SampledFrom(FactValues(name)).Draw(t, name)
		}
	}
	return facts
}

// busy holds the keys that lead somewhere, so that random sequences do too.
var busy = []hid.Chord{
	F2, F2, Tab, Enter, Enter, Enter, Down, Down, Down, Up, Esc, Space, F11, F12, F4, AltF1, AltF2,
	{Mods: hid.Alt, Key: hid.KeyF12}, {Mods: hid.Alt, Key: hid.KeyF1 + 10}, {Mods: hid.Shift, Key: hid.KeyTab},
	{Key: hid.KeyA + 'y' - 'a'}, {Key: keyN.Key}, {Key: hid.KeyA + 'd' - 'a'}, {Key: hid.KeyA + 'q' - 'a'},
	{Key: hid.Key1}, {Key: hid.Key1 + 4}, {Mods: hid.Shift, Key: hid.KeyA}, {Key: hid.KeyBackspace}, {Key: hid.KeyDelete},
	{Key: hid.KeyHome}, {Key: hid.KeyLeft}, {Key: hid.KeyCapsLock}, {Key: hid.KeyNumLock},
}

// act is a key, or with its password set the Token of root's password.
type act struct {
	key      hid.Chord
	password bool
	idle     bool
}

func anyActs(most int) *rapid.Generator[[]act] {
	one := rapid.Custom(func(t *rapid.T) act {
		switch rapid.IntRange(0, 19).Draw(t, "kind") {
		case 0, 1, 2:
			return act{password: true}
		case 3:
			return act{idle: true}
		case 4:
			return act{key: anyChord(t)}
		}
		return act{key: rapid.SampledFrom(busy).Draw(t, "key")}
	})
	return rapid.SliceOfN(one, 0, most)
}

func anyChord(t *rapid.T) hid.Chord {
	if rapid.Bool().Draw(t, "code") {
		return hid.Chord{Mods: hid.Alt, Key: hid.Usage(rapid.ByteRange(byte(hid.KeyKP1), byte(hid.KeyKP0)).Draw(t, "digit")), Keep: rapid.Bool().Draw(t, "keep")}
	}
	return hid.Chord{Mods: hid.Mods(rapid.Byte().Draw(t, "mods")), Key: hid.Usage(rapid.Byte().Draw(t, "key")), Keep: rapid.Bool().Draw(t, "keep")}
}

func do[T interface {
	does[T]
	Idle() T
}](t rapid.TB, on T, acts []act) T {
	for _, a := range acts {
		switch {
		case a.idle:
			on = on.Idle()
		case a.password:
			next, err := on.Enter(Token{Layout: "us"})
			if err != nil {
				t.Fatal(err)
			}
			on = next
		default:
			on = on.Press(a.key)
		}
	}
	return on
}

// No sequence of keys wedges the console: the short anchor leads to the
// welcome screen, except from unconfirmed changes of the management network,
// and from those the long one does, on a layout where the N key types an n.
func TestNothingWedges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := NewWorld(anyFacts(t, true))
		if err != nil {
			t.Fatal(err)
		}
		acts := anyActs(60).Draw(t, "keys")
		for i := range acts {
			w = do(t, w, acts[i:i+1])
			if i%8 != 0 {
				continue // drawing takes longer than all the rest
			}
			screen := w.Render()
			for r := range screen {
				for c := range screen[r] {
					if cell := screen[r][c]; cell.Rune < ' ' || cell.Attr&^HighContrast >= attrCount {
						t.Fatalf("cell %d,%d of %s holds %v", r, c, w.At(), cell)
					}
				}
			}
			if _, _, ok := w.Field(); ok && w.Selected() != "" {
				t.Fatalf("%s is a menu and a form", w.At())
			}
		}
		if w.Down() {
			return
		}
		unsaved := w.pending != w.applied
		short, long := w, w
		for _, k := range shortAnchor {
			short = short.Press(k)
		}
		for _, k := range longAnchor {
			long = long.Press(k)
		}
		if short.At() != "welcome" && !unsaved {
			t.Fatalf("the short anchor leads from %s to %s", w.At(), short.At())
		}
		layout, _ := w.Now("layout")
		switch layout {
		case "gr", "ru", "ua":
			return
		case "us-dvorak":
			long = w
			for _, k := range anchors[2] {
				long = long.Press(k)
			}
		}
		if long.At() != "welcome" {
			t.Fatalf("the long anchor leads from %s to %s", w.At(), long.At())
		}
		if short.Effect() != w.Effect() || long.Effect() != w.Effect() {
			t.Fatalf("the anchor has an effect: %s, then %s and %s", w.Effect(), short.Effect(), long.Effect())
		}
	})
}

func count(b Belief) (hosts int) {
	for _, w := range b.worlds {
		n := 1
		for f := range factCount {
			n *= bits.OnesCount64(w.facts.get(f))
		}
		hosts += n
	}
	return hosts
}

// A belief is worth as much as this: for each host that the facts allow it
// holds one world, and that is where the same keys lead on that host. It is
// also why a fact more never turns safe into unsafe.
func TestBeliefHoldsEveryWorld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		host := anyFacts(t, true)
		known := map[string]string{}
		for name, value := range host {
			if rapid.IntRange(0, 2).Draw(t, "know "+name) == 0 {
				known[name] = value
			}
		}
		b, err := NewBelief(known)
		if err != nil {
			t.Fatal(err)
		}
		w, err := NewWorld(host)
		if err != nil {
			t.Fatal(err)
		}
		hosts := count(b)
		acts := anyActs(25).Draw(t, "keys")
		b, w = do(t, b, acts), do(t, w, acts)
		if now := count(b); now != hosts {
			t.Fatalf("%d hosts before the keys, %d after them", hosts, now)
		}
		found := 0
		shows := w.Render()
		for _, in := range b.worlds {
			if !in.facts.meets(w.facts) {
				continue
			}
			found++
			in.facts = w.facts
			if in != w {
				t.Fatalf("the belief has this host at %v, the host is at %v", in, w)
			}
			if in.At() != w.At() || in.Effect() != w.Effect() {
				t.Fatalf("%v is not %v", in, w)
			}
			if in.Render() != shows {
				t.Fatalf("%v shows another screen than %v", in, w)
			}
		}
		if found != 1 {
			t.Fatalf("the belief holds this host %d times", found)
		}
	})
}

// The views of a belief are all different, and each host is in the one that it
// shows.
func TestViews(t *testing.T) {
	b := play(t, belief(t, map[string]string{"screen": "welcome", "layout": "us"}), loginKeys+"DOWN×6 ENTER")
	seen := map[Screen]bool{}
	hosts := 0
	for i, v := range b.Views() {
		if seen[v.Screen] {
			t.Errorf("view %d is there twice", i)
		}
		seen[v.Screen] = true
		for _, w := range v.Worlds {
			if w.Render() != v.Screen {
				t.Errorf("%v does not show view %d", w, i)
			}
			for name, values := range map[string][]string{"shell": {"off", "on"}, "esxi": {"5.0", "5.5", "8.0"}} {
				if _, known := w.Now(name); known {
					continue
				}
				// A fact that is open here must not change the picture.
				for _, value := range values {
					f, bit, err := valueBit(name, value)
					if err != nil {
						t.Fatal(err)
					}
					if one := w; one.facts.get(f)&bit != 0 {
						one.facts = one.facts.with(f, bit)
						if one.Render() != v.Screen {
							t.Errorf("with %s=%s view %d is another", name, value, i)
						}
					}
				}
			}
			hosts += count(Belief{worlds: []World{w}})
		}
	}
	if len(seen) < 16 || hosts != count(b) {
		t.Errorf("%d views of %d hosts, the belief has %d", len(seen), hosts, count(b))
	}
}

// The facts of an outcome, given back, lead to that outcome and no other.
func TestOutcomesAreTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known := anyFacts(t, false)
		known["layout"] = "us" // keeps the table short
		b, err := NewBelief(known)
		if err != nil {
			t.Fatal(err)
		}
		acts := anyActs(12).Draw(t, "keys")
		all := do(t, b, acts).Outcomes(summary)
		if len(all) == 0 {
			t.Fatal("no outcome")
		}
		o := rapid.SampledFrom(all).Draw(t, "outcome")
		for name, value := range o.Facts {
			if v, ok := known[name]; ok {
				t.Fatalf("%s was given as %s and is no difference", name, v)
			}
			known[name] = value
		}
		again, err := NewBelief(known)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range do(t, again, acts).worlds {
			if summary(w) != summary(o.World) {
				t.Fatalf("with %v the end is %q, not %q", o.Facts, summary(w), summary(o.World))
			}
		}
	})
}

// What goes into a password field comes out nowhere.
func TestSecretsStayIn(t *testing.T) {
	const secret = "Zx9_kQ7w"
	w := world(t, seedHost).SetPassword(secret)
	for _, words := range []string{
		`F2 TAB "Zx9_kQ7w"`, `F2 TAB "Zx9_kQ7w" ENTER ENTER "Zx9_kQ7w" TAB "Zx9_kQ7w"`,
		`ALT+F1 "root" ENTER "Zx9_kQ7w"`,
	} {
		v := w
		if strings.HasPrefix(words, "ALT+F1") {
			v = world(t, with(seedHost, "shell", "on")).SetPassword(secret)
		}
		v = play(t, v, words)
		if !v.InPasswordField() {
			t.Fatalf("%s: not in a password field but at %s", words, v.At())
		}
		screen := v.Render()
		out := fmt.Sprintf("%v %+v %#v %s %d %x %q", v, v, v, v, v, v, &v) + screen.Text() + v.Value()
		for i := range len(secret) - 2 {
			if strings.Contains(out, secret[i:i+3]) {
				t.Errorf("%s: part of the secret is in %q", words, out)
				break
			}
		}
	}
}

// Random keys seldom get far. This walks breadth first from each screen, over
// many thousand worlds, and looks at each key in each: a key has no effect
// that its screen did not threaten, so what a planner stays off for its threat
// is all that it has to stay off; and the anchor holds.
func TestEveryReachableWorld(t *testing.T) {
	const most = 150 // worlds from one screen
	steps := []hid.Chord{
		F2, F11, F12, Enter, Esc, Tab, Space, Down, Up, F4, AltF1, AltF2, {Mods: hid.Alt, Key: hid.KeyF1 + 2}, {Mods: hid.Alt, Key: hid.KeyF1 + 10}, {Mods: hid.Alt, Key: hid.KeyF12},
		{Key: hid.KeyA + 'y' - 'a'}, {Key: keyN.Key}, {Key: hid.KeyA + 'd' - 'a'}, {Key: hid.KeyA + 'q' - 'a'}, {Key: hid.Key1},
	}
	reached := map[string]bool{}
	threatened := effects(0)
	var starts []World
	for i := range tour {
		for _, version := range []string{"5.0", "6.7"} {
			if w, ok := visit(t, version, i); ok {
				starts = append(starts, w)
			}
		}
	}
	starts = append(starts,
		play(t, world(t, seedHost), loginKeys+"ENTER $password TAB $new TAB $new"),
		play(t, world(t, with(seedHost, "lockdown_item", "selectable")), loginKeys+"DOWN ENTER"),
		play(t, world(t, with(seedHost, "shell", "on", "ssh", "on")), loginKeys+"DOWN×6 ENTER DOWN"),
		play(t, world(t, seedHost), loginKeys+"DOWN ENTER DOWN×3 ENTER SPACE ENTER ESC"))
	for _, start := range starts {
		seen := map[World]bool{start: true}
		for queue := []World{start}; len(queue) > 0; queue = queue[1:] {
			w := queue[0]
			reached[w.At()] = true
			checkAnchor(t, w)
			if t.Failed() {
				return
			}
			for _, k := range steps {
				if _, ev := w.Step(k); ev.Source == "" {
					t.Fatalf("%s at %s rests on nothing", k, w.At())
				}
			}
			look := func(next World, by string) {
				now := next.allEffects() &^ w.allEffects()
				threatened |= now
				if now.worst() > w.Threat() {
					t.Fatalf("%s at %s, which threatens %q, has the effect %q", by, w.At(), w.Threat(), now.worst())
				}
				if len(seen) >= most || seen[next] {
					return
				}
				seen[next] = true
				queue = append(queue, next)
			}
			for _, k := range steps {
				look(w.Press(k), fmt.Sprint(k))
			}
			if len(w.Value()) < 6 { // or the fields would fill up without end
				for id := range uint8(2) {
					next, err := w.Enter(Token{ID: id, Layout: "us"})
					if err != nil {
						t.Fatal(err)
					}
					look(next, "a token")
				}
			}
		}
	}
	for _, name := range Screens() {
		if !reached[name] {
			t.Errorf("no keys reached %s", name)
		}
	}
	for e := PingTest; e <= SystemReset; e++ {
		if threatened&(1<<e) == 0 {
			t.Errorf("no key had the effect %q", e)
		}
	}
}

func checkAnchor(t *testing.T, w World) {
	if w.Down() {
		return
	}
	short, long := w, w
	for _, k := range shortAnchor {
		short = short.Press(k)
	}
	for _, k := range longAnchor {
		long = long.Press(k)
	}
	if short.At() != "welcome" && w.pending == w.applied {
		t.Errorf("the short anchor leads from %s to %s", w.At(), short.At())
	}
	// Keys may have changed the layout on the way: then N is elsewhere.
	if layout, _ := w.Now("layout"); layout == "us" && long.At() != "welcome" {
		t.Errorf("the long anchor leads from %s to %s", w.At(), long.At())
	}
	if short.Effect() != w.Effect() || long.Effect() != w.Effect() {
		t.Errorf("the anchor has an effect at %s", w.At())
	}
}
