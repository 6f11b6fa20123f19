package recipes

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// someFacts draws values for some of the facts, and a whole host that has them.
func someFacts(t *rapid.T) (known, host map[string]string) {
	known, host = map[string]string{}, map[string]string{}
	for _, f := range dcui.FactNames() {
		values := dcui.FactValues(f)
		host[f] = rapid.SampledFrom(values).Draw(t, f)
		// Mostly what a host usually is, so that recipes get somewhere.
		if usual, ok := seedHost[f]; ok && rapid.IntRange(0, 3).Draw(t, "usual "+f) > 0 {
			host[f] = usual
		}
		if rapid.IntRange(0, 3).Draw(t, "know "+f) > 0 {
			known[f] = host[f]
		}
	}
	return known, host
}

var lawWords = []string{"F2", "TAB", "${password}", "ENTER", "DOWN", "DOWN×4", "UP", "ESC", "F11", "F12", "SPACE", "Y", `"root"`, "ALT+F2", "F2 TAB ${password} ENTER"}

var lawSteps = []string{
	"anchor", "login", "leave", "confirm", "select: Network Restore Options", "select: Restore Standard Switch",
	"select: Restore Network Settings", "select: Troubleshooting Options", "select: Reset System Configuration",
	"select: Configure Management Network", "select: VLAN (optional)", "set: {VLAN ID: 7}", "confirm: ENTER", "confirm: Y",
	"toggle: {SSH: on}", "toggle: {ESXi Shell: off}", "select: Restart Management Agents", "expect: menu", "keys: ESC",
	"select: Configure Lockdown Mode", "set: {Enable Lockdown Mode: off}", "select: Test Management Network",
}

// anyRecipe draws a recipe of the library, some keys, or some steps.
func anyRecipe(t *rapid.T) *Recipe {
	const start = "recipe: drawn\nsecrets: {password: root}\n"
	verify := rapid.SampledFrom([]string{"", "verify: [management: standard]\n", "verify: [ssh: on]\n", "verify: [effect: all networking wiped]\n"}).Draw(t, "verify")
	src := ""
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		return rapid.SampledFrom(Library()).Draw(t, "recipe")
	case 1:
		words := rapid.SliceOfN(rapid.SampledFrom(lawWords), 1, 14).Draw(t, "keys")
		src = start + verify + "steps:\n  - keys: '" + strings.Join(words, " ") + "'\n"
	case 2:
		src = start + verify + "steps:\n  - anchor\n  - login\n"
		for _, s := range rapid.SliceOfN(rapid.SampledFrom(lawSteps), 1, 6).Draw(t, "steps") {
			src += "  - " + s + "\n"
		}
	}
	r, err := Parse("drawn.yaml", []byte(src))
	if err != nil {
		t.Fatalf("%s\n%v", src, err)
	}
	return r
}

// verdictOf gives nil where the recipe is refused as a faulty one.
func verdictOf(t *rapid.T, r *Recipe, facts map[string]string, v Vars) (*Program, *Verdict) {
	b, err := r.Belief(facts)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Compile(b, v)
	if err != nil {
		return nil, nil
	}
	verdict, err := p.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if verdict.Verdict == NeedsFacts && len(verdict.Missing) == 0 {
		t.Fatalf("%s needs facts and names none", r.Name)
	}
	if len(verdict.Worlds) == 0 {
		t.Fatalf("%s ends nowhere", r.Name)
	}
	return p, verdict
}

// A fact more never turns safe into unsafe, nor into anything else; and where
// all keys are given, each world ends as it did among others.
func TestCheckIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecipe(t)
		known, host := someFacts(t)
		_, before := verdictOf(t, r, known, Vars{})
		if before == nil {
			return
		}
		more := with(known)
		for _, f := range dcui.FactNames() {
			if rapid.Bool().Draw(t, "learn "+f) {
				more[f] = host[f]
			}
		}
		_, after := verdictOf(t, r, more, Vars{})
		if before.Verdict == Safe && (after == nil || after.Verdict != Safe) {
			t.Fatalf("%s is safe with %v and %v with %v", r.Name, known, after, more)
		}
		if after == nil || !r.Raw() || len(r.requires) > 0 || known["layout"] != more["layout"] {
			return // other keys, or the same for another layout
		}
		_, whole := verdictOf(t, r, host, Vars{Layout: more["layout"]})
		if whole == nil {
			return
		}
		if len(whole.Worlds) != 1 {
			t.Fatalf("%d worlds with everything known", len(whole.Worlds))
		}
		match := 0
		for _, w := range after.Worlds {
			fits := true
			for f, v := range w.Facts {
				fits = fits && host[f] == v
			}
			if !fits {
				continue
			}
			match++
			if one := whole.Worlds[0]; known["layout"] != "" && (one.End != w.End || one.Effect != w.Effect || one.OK != w.OK) {
				t.Fatalf("%v ends with %s, %s, %t among others and %s, %s, %t alone", host, w.End, w.Effect, w.OK, one.End, one.Effect, one.OK)
			}
		}
		if match != 1 {
			t.Fatalf("%d rows of %d are for %v", match, len(after.Worlds), host)
		}
	})
}

// A safe recipe that is run on any host of its belief, as reports into a
// keyboard, ends in its goal and does nothing else that destroys.
func TestSafeMeansTheGoal(t *testing.T) {
	safe := 0
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecipe(t)
		known, host := someFacts(t)
		v := Vars{Speed: math.Inf(1), Secrets: map[string]Secret{}, Values: map[string]string{}}
		for _, s := range r.Secrets {
			v.Secrets[s.Name] = secret("Korrekt7" + s.Name)
		}
		v.Secrets["password"] = secret("Xyz789Abc")
		for _, in := range r.Vars {
			v.Values[in.Name] = map[string]string{"ipv4": "198.51.100.7", "netmask": "255.255.0.0", "vlan": "77", "number": "5"}[in.Kind]
			if v.Values[in.Name] == "" {
				v.Values[in.Name] = "abc"
			}
		}
		p, verdict := verdictOf(t, r, known, v)
		if p == nil || verdict.Verdict != Safe {
			return
		}
		safe++
		w, err := dcui.NewWorld(host)
		if err != nil {
			t.Fatal(err)
		}
		kb := &console{world: w.SetPassword("Xyz789Abc")}
		if err := p.Run(t.Context(), lit{kb}, nil); err != nil {
			t.Fatalf("%s on %v: %v", r.Name, host, err)
		}
		for _, e := range kb.world.Effects() {
			if e.Destructive() && !p.isGoal(p.ways[0], e) {
				t.Fatalf("%s on %v: %s", r.Name, host, e)
			}
		}
		if why := p.misses(p.ways[0], kb.world); why != "" {
			t.Fatalf("%s on %v, known %v: %s at %s after %v", r.Name, host, known, why, kb.world.At(), p.Keys())
		}
	})
	if safe == 0 {
		t.Error("no recipe was safe: nobody was asked")
	}
}

// Up to six keys, the way to an item that is found is the shortest there is,
// and where one exists one is found.
func TestSelectIsShortest(t *testing.T) {
	checked := map[int]int{} // searches by their shortest length
	rapid.Check(t, func(t *rapid.T) {
		_, host := someFacts(t)
		facts := map[string]string{"screen": rapid.SampledFrom([]string{"menu", "mgmt", "restore", "trouble"}).Draw(t, "menu")}
		for _, f := range []string{"esxi", "console", "lockdown_item", "management", "wrap"} {
			if rapid.IntRange(0, 2).Draw(t, "fix "+f) > 0 {
				facts[f] = host[f]
			}
		}
		b, err := dcui.NewBelief(facts)
		if err != nil {
			t.Fatal(err)
		}
		// Somewhere in the menu, the same keys in every world.
		for range rapid.IntRange(0, 4).Draw(t, "down") {
			b = b.Press(dcui.Down)
		}
		var labels []string
		for _, it := range b.Worlds()[0].Items() {
			labels = append(labels, it.Label)
		}
		if labels == nil || rapid.IntRange(0, 9).Draw(t, "from elsewhere") == 0 {
			labels = model().items
		}
		label := rapid.SampledFrom(labels).Draw(t, "item")
		on := func(w dcui.World) bool { return canonical(w.Selected()) == canonical(label) }
		r := reach(b, upDown, on, label)
		shortest := -1
		level := []dcui.Belief{b}
	search:
		for n := 0; n <= 6; n++ {
			var next []dcui.Belief
			for _, at := range level {
				if at.All(on) {
					shortest = n
					break search
				}
				next = append(next, at.Press(dcui.Down), at.Press(dcui.Up))
			}
			level = next
		}
		checked[shortest]++
		complete := len(r.lost) == 0
		switch {
		case shortest >= 0 && (!complete || len(r.keys) != shortest):
			t.Fatalf("%s with %v: %v, lost %d, and %d keys are enough", label, facts, r.keys, len(r.lost), shortest)
		case shortest < 0 && complete && len(r.keys) <= 6:
			t.Fatalf("%s with %v: %v, and a search of all finds none", label, facts, r.keys)
		}
		end := r.good
		for _, k := range r.keys {
			end = end.Press(k)
		}
		if !end.All(on) {
			t.Fatalf("%s with %v: %v do not lead there", label, facts, r.keys)
		}
		if r.good.Len() == 0 && complete {
			t.Fatal("no world is left, and none is lost")
		}
	})
	if checked[1]+checked[2]+checked[3]+checked[4] == 0 || checked[-1] == 0 {
		t.Errorf("lengths %v", checked)
	}
}

// The parts that a search keeps and leaves behind are the whole.
func TestReachLosesNoHost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known, host := someFacts(t)
		known["screen"], host["screen"] = "menu", "menu"
		b, err := dcui.NewBelief(known)
		if err != nil {
			t.Fatal(err)
		}
		w, err := dcui.NewWorld(host)
		if err != nil {
			t.Fatal(err)
		}
		label := rapid.SampledFrom(model().items).Draw(t, "item")
		r := reach(b, upDown, func(w dcui.World) bool { return w.Selected() == label }, label)
		n := r.good.Like(w).Len()
		for _, l := range r.lost {
			n += l.worlds.Like(w).Len()
		}
		if n != 1 {
			t.Fatalf("%s: the host %v is in %d parts", label, host, n)
		}
	})
}

// Two wrapping lists of 10 and 11 entries need more keys than anybody would
// press, and the fact that makes them few is named.
func TestManyKeys(t *testing.T) {
	facts := with(seedHost, "screen", "menu", "wrap", "yes")
	delete(facts, "lockdown_item")
	b, err := dcui.NewBelief(facts)
	if err != nil {
		t.Fatal(err)
	}
	on := func(w dcui.World) bool { return w.Selected() == "Test Management Network" }
	// From the top and from the bottom the item is as far as it is in each list,
	// so it takes a way round one of them to have both meet.
	mid := b
	for range 2 {
		mid = mid.Press(dcui.Down)
	}
	r := reach(mid, []hid.Chord{dcui.Down}, on, "Test Management Network")
	if len(r.lost) != 1 || !slices.Equal(r.lost[0].facts, []string{"lockdown_item"}) || len(r.keys) == 0 || len(r.keys) > 11 {
		t.Errorf("keys %v, lost %+v", r.keys, r.lost)
	}
	if s := fmt.Sprint(r.lost[0].why); !strings.Contains(s, "differ") {
		t.Errorf("why %q", s)
	}
}
