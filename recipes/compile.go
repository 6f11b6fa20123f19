package recipes

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// Pauses that give the console time to draw (practice; a login was seen to take
// up to 5 s, a change of the network longer).
const (
	afterScreen  = 300 * time.Millisecond
	afterLogin   = 3 * time.Second
	afterConfirm = 5 * time.Second
)

// Compile finds the keys that are right in every world of b. Where a step has
// none, it goes on in those worlds where it has some, and the verdict will be
// that facts are missing. The error is of type Errors: a value that is not of
// its kind, a character that cannot be typed, a secret that no world would
// hide.
func (r *Recipe) Compile(b dcui.Belief, v Vars) (*Program, error) {
	return r.compile(b, v)
}

type compiler struct {
	*Program
	*way
	now      dcui.Belief
	errs     Errors
	step     int
	at       place
	selected string // the item that a confirm would confirm
	ids      map[string]uint8
	layName  string
	spent    time.Duration // since the console was last known to be fresh
	answered bool          // a secret was typed last
	required bool          // hosts that the recipe is not for are left behind
}

func (r *Recipe) compile(b dcui.Belief, v Vars) (*Program, error) {
	c := &compiler{Program: &Program{recipe: r, vars: v, start: b}, way: new(way), now: b, ids: map[string]uint8{"password": 0}}
	if err := c.chooseLayout(b); err != nil {
		return nil, err
	}
	c.judgeValues()
	if len(c.errs) > 0 {
		return nil, c.errs.sorted()
	}
	c.pace = hid.Pace{Hold: hid.DefaultHold, Gap: hid.DefaultGap, Lead: hid.DefaultLead}
	overlay(&c.pace, r.Pace)
	overlay(&c.pace, v.Pace)
	steps := make([]int, len(r.Steps))
	for i := range steps {
		steps[i] = i
	}
	c.follow(steps)
	if len(c.errs) > 0 {
		return nil, c.errs.sorted()
	}
	return c.Program, nil
}

// follow compiles steps, and ends their way.
func (c *compiler) follow(steps []int) {
	for n := 0; n < len(steps); n++ {
		i := steps[n]
		s := &c.recipe.Steps[i]
		c.step, c.at = i, s.at
		// An anchor is right everywhere, so that hosts which the recipe is not for
		// are left where it leads.
		if s.Kind != StepAnchor && s.Kind != StepWait {
			c.require()
		}
		switch {
		case !s.fork:
			c.do(s)
		case c.now.Len() > 0 && c.isFor(s):
			rest := steps[n+1:]
			c.fork(s, rest[:s.then], rest[s.then:s.then+s.els], rest[s.then+s.els:])
			return
		default:
			n += s.then + s.els
		}
	}
	c.end = c.now
	c.ways = append(c.ways, c.way)
}

// fork compiles both ways after a probe to their ends, each for the worlds that
// the answer leaves.
func (c *compiler) fork(s *Step, then, els, rest []int) {
	k := s.cond[0]
	c.add(op{kind: opProbe, cond: s.cond, fork: true})
	if c.stopped != nil {
		c.ways = append(c.ways, &way{answers: c.answers, stopped: c.stopped, wanted: c.wanted, allowed: c.allowed})
		c.stopped = nil
	}
	whole, yes := given(c.now, k, true)
	_, no := given(c.now, k, false)
	c.now = whole
	c.gate(func(w dcui.World) bool { return mayHold(w, k) || mayFail(w, k) }, fmt.Sprintf("nothing answers the probe: %s", k))
	if c.stopped != nil {
		c.ways = append(c.ways, &way{answers: c.answers, stopped: c.stopped, wanted: c.wanted, allowed: c.allowed})
		c.stopped = nil
	}
	before, base, ops := *c, *c.way, c.ops
	walk := func(b dcui.Belief, steps []int, answer string) []op {
		errs := c.errs
		*c = before
		c.errs = errs
		fresh := base
		fresh.wanted, fresh.allowed, fresh.states = slices.Clone(base.wanted), slices.Clone(base.allowed), slices.Clone(base.states)
		if fresh.answers != "" {
			fresh.answers += "; "
		}
		fresh.answers += k.String() + ": " + answer
		c.way, c.now, c.ops = &fresh, b, nil
		if b.Len() > 0 {
			c.follow(slices.Concat(steps, rest))
		}
		return c.ops
	}
	onYes := walk(yes, then, "yes")
	onNo := walk(no, els, "no")
	o := &ops[len(ops)-1]
	o.yes, o.no, o.yesShut, o.noShut = onYes, onNo, yes.Len() == 0, no.Len() == 0
	c.ops = ops
}

// isFor says whether a step is for some world left, and leaves the others
// behind.
func (c *compiler) isFor(s *Step) bool {
	for _, q := range s.when {
		keep, rest := split(c.now, q.fact, q.values...)
		if keep.Len() == 0 {
			return false
		}
		if rest.Len() > 0 {
			c.leave(rest, keep, []string{q.fact}, fmt.Sprintf("%q is for %s only, and others need other keys", s.Text, q))
		}
	}
	return true
}

// require leaves behind the hosts that the recipe is not for.
func (c *compiler) require() {
	if c.required {
		return
	}
	c.required = true
	rs := slices.Clone(c.recipe.requires)
	slices.SortStableFunc(rs, func(a, b requirement) int { return len(a.values) - len(b.values) })
	for _, q := range rs {
		keep, rest := split(c.now, q.fact, q.values...)
		why := fmt.Sprintf("the recipe is for %s only", q)
		c.leave(rest, keep, []string{q.fact}, why)
		if rest.Len() > 0 {
			c.miss(q.fact, q.values, why)
		}
		c.now = keep
	}
}

func overlay(p *hid.Pace, over hid.Pace) {
	if over.Hold > 0 {
		p.Hold = over.Hold
	}
	if over.Gap > 0 {
		p.Gap = over.Gap
	}
	if over.Lead > 0 {
		p.Lead = over.Lead
	}
}

func (c *compiler) fail(at place, hint, format string, args ...any) {
	c.errs = append(c.errs, at.errorf(hint, format, args...))
}

func (c *compiler) chooseLayout(b dcui.Belief) error {
	name := c.vars.Layout
	if name == "" {
		name = "us"
		if known := b.Values("layout"); len(known) == 1 {
			name = known[0]
		}
	}
	l, err := hid.FindLayout(name)
	if err != nil {
		return err
	}
	c.layName = l.Short()
	if c.vars.Keypad {
		l = l.WithKeypad()
	}
	c.layout = l
	return nil
}

// judgeValues refuses values for names that are not declared, and those that
// are not of their kind.
func (c *compiler) judgeValues() {
	r := c.recipe
	for _, name := range slices.Sorted(maps.Keys(c.vars.Values)) {
		in, secret, ok := r.input(name)
		value := c.vars.Values[name]
		at, found := r.at["vars"]
		if !found {
			at = r.at["recipe"]
		}
		switch {
		case !ok:
			var names []string
			for _, v := range r.Vars {
				names = append(names, v.Name)
			}
			hint := "it declares none"
			if len(names) > 0 {
				hint = "it declares " + strings.Join(names, ", ")
			}
			c.fail(at, hint, "recipe %s has no variable %s", r.Name, name)
		case secret:
			c.fail(at, "", "%s is a secret: its value is never given as a variable", name)
		default:
			if why := badValue(in.Kind, value); why != "" {
				c.fail(at, "", "variable %s cannot be %q: %s", name, value, why)
			}
		}
	}
}

// value gives the text of an input; ok is false for a placeholder.
func (c *compiler) value(name string) (text string, secret, ok bool) {
	in, secret, _ := c.recipe.input(name)
	if secret {
		s, ok := c.vars.Secrets[name]
		if !ok || s == nil {
			return "", true, false
		}
		return s.Reveal(), true, true
	}
	if v, ok := c.vars.Values[name]; ok {
		return v, false, true
	}
	return in.Default, false, in.Optional
}

// leave stops the program in some worlds.
func (c *compiler) leave(bad, good dcui.Belief, facts []string, why string) {
	if bad.Len() == 0 {
		return
	}
	all := dcui.Union(good, bad)
	c.stopped = append(c.stopped, stop{bad, c.step, why})
	for _, f := range facts {
		c.miss(f, all.Values(f), why)
	}
	c.now = good
	if good.Len() == 0 && c.dead == "" {
		c.dead = why
	}
}

// miss notes that a fact would help.
func (c *compiler) miss(fact string, values []string, why string) {
	for i := range c.missing {
		if c.missing[i].Fact == fact {
			for _, v := range values {
				if !slices.Contains(c.missing[i].Splits, v) {
					c.missing[i].Splits = append(c.missing[i].Splits, v)
				}
			}
			return
		}
	}
	c.missing = append(c.missing, Missing{Fact: fact, Splits: values, Why: why, Probe: probes[fact]})
}

// gate leaves behind the worlds for which ok does not hold.
func (c *compiler) gate(ok func(dcui.World) bool, why string) {
	if c.now.All(ok) {
		return
	}
	good := c.now.Where(ok)
	bad := c.now.Where(func(w dcui.World) bool { return !ok(w) })
	c.leave(bad, good, telling(good, bad), why)
}

// lose takes over what a search left behind.
func (c *compiler) lose(r reached) {
	for i, l := range r.lost {
		rest := r.good
		for _, later := range r.lost[i+1:] {
			rest = dcui.Union(rest, later.worlds)
		}
		c.leave(l.worlds, rest, l.facts, l.why)
	}
	c.now = r.good
}

func (c *compiler) add(o op) {
	o.step = c.step
	o.pace = c.pace
	if s := c.recipe.Steps[c.step]; s.pace != nil {
		overlay(&o.pace, *s.pace)
	}
	c.late = c.late || c.tooLate(&o)
	c.ops = append(c.ops, o)
}

// tooLate counts the time since the last anchor or login, and says so once
// where keys may find the console logged out.
func (c *compiler) tooLate(o *op) bool {
	idle := c.vars.Idle
	if idle <= 0 {
		idle = dcui.HardenedIdle
	}
	// At the welcome screen nobody is logged in.
	if c.spent > idle && (o.kind == opKeys || o.kind == opToken) && !c.late && !c.now.Idle().Equal(c.now) {
		c.notes = append(c.notes, c.at.errorf("put anchor and login in front of this step",
			"%s have gone by since the last login, and the console may log out after %s", c.spent.Round(time.Second), idle))
		return true
	}
	for _, ch := range o.chords {
		c.spent += o.pace.Hold + o.pace.Gap
		if ch.Mods != 0 {
			c.spent += 2 * o.pace.Lead
		}
	}
	c.spent += o.after
	for _, k := range o.cond {
		within := k.Within
		if within == 0 {
			within = DefaultWithin
		}
		c.spent += within
	}
	return false
}

// press adds a key and follows it in every world.
func (c *compiler) press(keys ...hid.Chord) {
	for _, k := range keys {
		w := word{kind: chordWord, chord: k}
		if n := len(c.ops) - 1; n >= 0 && c.ops[n].kind == opKeys && c.ops[n].step == c.step && c.ops[n].chords[len(c.ops[n].chords)-1].Keep {
			// Modifiers that stay down make one of several chords.
			c.ops[n].chords = append(c.ops[n].chords, k)
			c.ops[n].words = append(c.ops[n].words, w)
		} else {
			c.add(op{kind: opKeys, chords: []hid.Chord{k}, words: []word{w}, after: c.pause(k)})
		}
		c.now = c.now.Press(k)
	}
}

// pause gives what a key needs beyond the pace before the next one.
func (c *compiler) pause(k hid.Chord) time.Duration {
	login := c.answered
	c.answered = false
	switch {
	case k == dcui.F11:
		return afterConfirm
	case k == dcui.Enter && login:
		return afterLogin
	case k == dcui.Enter, k == dcui.Esc, k == dcui.F2, k == dcui.F12, k.Mods == hid.Alt && k.Key >= hid.KeyF1 && k.Key <= hid.KeyF12:
		return afterScreen
	}
	return 0
}

// text adds characters. It follows their keys and not the characters: on
// another layout than they are composed for they are others.
func (c *compiler) text(s string, at place, name string) {
	chords, err := c.keymap().Chords(s)
	if err != nil {
		var un *hid.UnmappedError
		if errors.As(err, &un) {
			what := "the text"
			if name != "" {
				what = "variable " + name
			}
			c.fail(at, "another --layout may have it, or --keypad", "layout %s cannot type character %d of %s", c.layName, un.Offset+1, what)
			return
		}
		c.fail(at, "", "%s", err)
		return
	}
	c.add(op{kind: opKeys, chords: chords, words: []word{{kind: textWord, text: s}}})
	for _, k := range chords {
		c.now = c.now.Press(k)
	}
}

// keymap is the layout, with codes on the keypad for what it lacks where those
// are known to arrive, at the shell, or where there is no other way: Greek,
// Russian and Ukrainian have no letter that says yes.
func (c *compiler) keymap() *hid.Layout {
	atShell := func(w dcui.World) bool { return strings.HasPrefix(w.At(), "shell") }
	if c.recipe.Steps[c.step].Kind == StepConfirm || c.now.All(atShell) {
		return c.layout.WithKeypad()
	}
	return c.layout
}

// token gives the stand-in for an input whose text is not to be known here.
func (c *compiler) token(name string) dcui.Token {
	id, ok := c.ids[name]
	if !ok {
		id = uint8(len(c.ids))
		c.ids[name] = id
	}
	in, secret, _ := c.recipe.input(name)
	return dcui.Token{ID: id, Layout: c.layName, Caseless: caseless(in.Kind), Secret: secret}
}

// input adds the text of a secret or a variable. In the model a secret is
// always a Token, so that check and run see the same.
func (c *compiler) input(name string, at place) {
	value, secret, ok := c.value(name)
	if ok && !secret {
		if value != "" {
			c.text(value, at, name)
		}
		return
	}
	o := op{kind: opToken, token: c.token(name), secret: secret, words: []word{{kind: inputWord, text: name}}}
	if ok {
		chords, err := c.keymap().Chords(value)
		var un *hid.UnmappedError
		switch {
		case errors.As(err, &un):
			c.fail(at, "another --layout may have it, or --keypad", "layout %s cannot type character %d of secret %s", c.layName, un.Offset+1, name)
			return
		case err != nil:
			c.fail(at, "", "secret %s cannot be typed", name)
			return
		}
		o.chords, o.known = chords, true
	}
	c.add(o)
	// The layout is one of the model's own, so there is no error.
	c.now, _ = c.now.Enter(o.token)
	c.answered = secret
}

func hides(w dcui.World) bool { return w.InPasswordField() }

// words types what a step spells out. A secret has to land where it is hidden.
func (c *compiler) words(words []word) {
	for _, w := range words {
		switch w.kind {
		case chordWord:
			c.press(w.chord)
		case textWord:
			c.text(w.text, w.at, "")
		case inputWord:
			if _, secret, _ := c.value(w.text); secret && !c.hidden(w) {
				return
			}
			c.input(w.text, w.at)
		}
	}
}

// hidden says whether a secret may be typed here by keys that are given: where
// no world hides it that is a fault of the recipe, where some do it is unsafe.
func (c *compiler) hidden(w word) bool {
	if c.now.Len() == 0 || c.now.All(hides) {
		return true
	}
	good := c.now.Where(hides)
	if good.Len() == 0 {
		c.fail(w.at, "a secret is typed only where the screen shows stars", "secret %s would be typed in the open: no world left has a password field here", w.text)
		return false
	}
	bad := c.now.Where(func(w dcui.World) bool { return !hides(w) })
	facts := telling(good, bad)
	e := w.at.errorf("login types it only where it is hidden", "secret %s would be typed in the open in some worlds%s", w.text, whichDiffer(facts))
	c.notes = append(c.notes, e)
	c.open = true
	all := dcui.Union(good, bad)
	for _, f := range facts {
		c.miss(f, all.Values(f), "a secret would be typed in the open")
	}
	return true
}

func whichDiffer(facts []string) string {
	if len(facts) == 0 {
		return ""
	}
	return ", which differ in " + strings.Join(facts, ", ")
}

// capsOff makes sure that letters arrive as they are typed.
func (c *compiler) capsOff() {
	off := func(w dcui.World) bool { v, ok := w.Now("caps"); return ok && v == "off" }
	if c.now.All(off) {
		return
	}
	c.add(op{kind: opCaps})
	c.now = c.now.CapsOff()
}

// do compiles one step.
func (c *compiler) do(s *Step) {
	if c.now.Len() == 0 || !c.isFor(s) {
		return
	}
	switch s.Kind {
	case StepKeys:
		c.selected = ""
		c.words(s.words)
	case StepAnchor:
		c.anchor()
	case StepLogin:
		c.login(s)
	case StepSelect:
		c.choose(s)
	case StepToggle:
		c.toggle(s)
	case StepSet:
		for i := range s.sets {
			if c.now.Len() > 0 {
				c.set(&s.sets[i])
			}
		}
	case StepConfirm:
		c.confirm(s)
	case StepLeave:
		c.leaveScreen(s)
	case StepType:
		if slices.ContainsFunc(s.words, func(w word) bool { return w.kind == inputWord || strings.ToLower(w.text) != strings.ToUpper(w.text) }) {
			c.capsOff()
		}
		c.words(s.words)
	case StepWait:
		c.add(op{kind: opWait, after: s.d})
	case StepHold:
		c.hold(s)
	case StepExpect:
		for _, k := range s.cond {
			c.condition(k, fmt.Sprintf("not as expected: %s", k))
		}
	case StepProbe:
		c.add(op{kind: opProbe, cond: s.cond})
		for _, k := range s.cond {
			c.condition(k, fmt.Sprintf("the probe fails: %s", k))
			c.gate(func(w dcui.World) bool { return mayHold(w, k) }, fmt.Sprintf("nothing answers the probe: %s", k))
		}
	}
}

// condition leaves behind the worlds in which something does not hold.
func (c *compiler) condition(k Condition, why string) {
	c.now = sorted(c.now, k)
	c.gate(func(w dcui.World) bool { return holds(w, k) }, why)
}

func (c *compiler) anchor() {
	c.selected, c.spent = "", 0
	keys, ok := c.now.Anchor()
	if !ok {
		var good, bad []dcui.Belief
		for _, w := range c.now.Worlds() {
			one := c.now.Like(w)
			if _, ok := one.Anchor(); ok {
				good = append(good, one)
				continue
			}
			// Where the anchor has to answer a question, the letter depends on the
			// layout.
			for _, l := range one.Values("layout") {
				part, _ := split(one, "layout", l)
				if _, ok := part.Anchor(); ok {
					good = append(good, part)
				} else {
					bad = append(bad, part)
				}
			}
		}
		g, b := dcui.Union(good...), dcui.Union(bad...)
		c.leave(b, g, telling(g, b), "no anchor leads to the welcome screen")
		keys, _ = c.now.Anchor()
	}
	if c.now.Len() == 0 {
		return
	}
	c.press(keys...)
	c.spent = 0
	c.gate(func(w dcui.World) bool { return w.At() == "welcome" }, "the anchor does not lead to the welcome screen")
}

func (c *compiler) login(s *Step) {
	c.selected, c.spent = "", 0
	if c.now.All(func(w dcui.World) bool { return strings.HasPrefix(w.At(), "shell") }) {
		c.gate(func(w dcui.World) bool { return w.At() == "shell.login" }, "the shell does not ask for a login")
		c.capsOff()
		if len(s.user) > 0 {
			c.words(s.user)
		} else {
			c.text("root", s.at, "")
		}
		c.press(dcui.Enter)
		c.gate(hides, "there is no password field")
		if c.now.Len() > 0 {
			c.input(s.name, s.at)
			c.press(dcui.Enter)
			c.gate(func(w dcui.World) bool { return w.At() == "shell" }, "the login fails")
		}
		return
	}
	c.gate(func(w dcui.World) bool { return w.At() == "welcome" }, "the login starts from the welcome screen")
	if c.now.Len() == 0 {
		return
	}
	c.press(s.via)
	c.gate(func(w dcui.World) bool { return w.At() == "login" }, "the console offers no login")
	if c.now.Len() == 0 {
		return
	}
	c.capsOff()
	if len(s.user) > 0 {
		c.clear("Login Name:")
		c.words(s.user)
	}
	c.press(dcui.Tab)
	c.gate(hides, "there is no password field")
	if c.now.Len() == 0 {
		return
	}
	c.input(s.name, s.at)
	c.press(dcui.Enter)
	to := "menu"
	if s.via == dcui.F12 {
		to = "power"
	}
	c.gate(func(w dcui.World) bool { return w.At() == to }, "the password does not arrive as it was typed")
}

var upDown = []hid.Chord{dcui.Down, dcui.Up}

func (c *compiler) choose(s *Step) {
	c.choosing(func(w dcui.World) bool { return canonical(w.Selected()) == s.name }, s.name)
	if c.now.Len() == 0 {
		return
	}
	c.press(dcui.Enter)
	c.selected = s.name
}

// choosing puts the cursor on an item.
func (c *compiler) choosing(on func(dcui.World) bool, what string) {
	c.gate(func(w dcui.World) bool { return w.Selected() != "" }, "there is no menu in front to select "+what+" from")
	if c.now.Len() == 0 {
		return
	}
	r := reach(c.now, upDown, on, what)
	c.lose(r)
	c.press(r.keys...)
}

func (c *compiler) toggle(s *Step) {
	for _, t := range s.sets {
		if c.now.Len() == 0 {
			return
		}
		fact, want := switches[t.label], t.words[0].text
		c.gate(func(w dcui.World) bool { return w.At() == "trouble" }, "the switch "+t.label+" is in the troubleshooting menu")
		c.now = known(c.now, fact)
		is := func(w dcui.World) bool { v, ok := w.Now(fact); return ok && v == want }
		// What a switch was before the last turn is no goal.
		c.states = slices.DeleteFunc(c.states, func(k Condition) bool { return k.Fact == fact })
		c.states = append(c.states, Condition{Kind: "fact", Fact: fact, Value: want})
		if c.now.Len() == 0 || c.now.All(is) {
			continue
		}
		// One key turns it on and the same key turns it off, so both at once
		// cannot be had: go on where there is something to do.
		c.gate(func(w dcui.World) bool { return !is(w) }, "the key that turns "+t.label+" "+want+" turns it back where it is so already")
		c.choosing(func(w dcui.World) bool {
			_, name, _ := strings.Cut(w.Selected(), " ")
			return name == t.label
		}, t.label)
		if c.now.Len() > 0 {
			c.press(dcui.Enter)
		}
	}
}

var formMoves = []hid.Chord{dcui.Down, dcui.Tab, dcui.Up}

// fieldKind of the field under the cursor.
type fieldKind uint8

const (
	textField fieldKind = iota
	checkBox
	radioButton
)

func kindOfField(w dcui.World) fieldKind {
	if _, _, typed := w.Field(); typed {
		return textField
	}
	// Twice pressed, a check box is what it was; a radio button is marked.
	once := w.Press(dcui.Space)
	if once.Value() == w.Value() || once.Press(dcui.Space).Value() != w.Value() {
		return radioButton
	}
	return checkBox
}

func (c *compiler) set(t *setting) {
	c.at = t.at
	c.gate(func(w dcui.World) bool { label, _, _ := w.Field(); return label != "" }, "there is no form in front that has "+t.label)
	if c.now.Len() == 0 {
		return
	}
	r := reach(c.now, formMoves, func(w dcui.World) bool {
		label, _, _ := w.Field()
		return sameField(label, t.label)
	}, t.label)
	c.lose(r)
	c.press(r.keys...)
	if c.now.Len() == 0 {
		return
	}
	first := c.now.Worlds()[0]
	label, hide, _ := first.Field()
	if kind := kindOfField(first); kind != textField {
		c.mark(t, kind)
		return
	}
	for _, w := range t.words {
		if w.kind != inputWord {
			continue
		}
		if _, secret, _ := c.value(w.text); secret && !hide {
			c.fail(w.at, "", "secret %s would be typed in the open: the field %s shows what is typed", w.text, label)
			return
		}
	}
	c.clear(label)
	if len(t.words) > 0 {
		c.capsOff()
		c.words(t.words)
	}
}

// mark brings a check box or a radio button to its state.
func (c *compiler) mark(t *setting, kind fieldKind) {
	state := ""
	if len(t.words) == 1 && t.words[0].kind == textWord {
		state = t.words[0].text
	}
	switch {
	case state != "on" && state != "off":
		c.fail(t.at, "", "%s is a box to mark: it is set on or off", t.label)
		return
	case kind == radioButton && state == "off":
		c.fail(t.at, "set another one of them on", "%s is one of several to choose from: it cannot be set off", t.label)
		return
	}
	is := func(w dcui.World) bool { return (w.Value() != "") == (state == "on") }
	// What stands in a form when it opens is the host's business and no fact, so
	// a radio button is marked even where the model has it marked: twice is once.
	if kind == checkBox && c.now.All(is) {
		return
	}
	if kind == checkBox {
		c.gate(func(w dcui.World) bool { return !is(w) }, "the key that sets "+t.label+" "+state+" turns it back where it is so already")
	}
	c.press(dcui.Space)
}

// clear empties a field that the host may have filled, wherever its cursor
// stands.
func (c *compiler) clear(label string) {
	n := fieldLength(label)
	if n == 0 {
		return
	}
	var keys []hid.Chord
	for range n {
		keys = append(keys, hid.Chord{Key: hid.KeyBackspace})
	}
	for range n {
		keys = append(keys, hid.Chord{Key: hid.KeyDelete})
	}
	c.press(keys...)
}

// fieldLength is how many characters may stand in a field when it opens: the
// longest value of its kind, and for names that of a label of the DNS.
func fieldLength(label string) int {
	switch label {
	case "IPv4 Address", "Subnet Mask", "Default Gateway", "Primary DNS Server", "Alternate DNS Server":
		return len("255.255.255.255")
	case "VLAN ID:":
		return len("4095")
	case "Availability timeout:", "Idle timeout:", "DCUI idle timeout:":
		return len("4294967295")
	}
	switch {
	case strings.HasPrefix(label, "VLAN ID"):
		return len("4095")
	case strings.Contains(label, "Password"):
		return 0 // opens empty
	case strings.HasPrefix(label, "Ping Address"):
		return len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	case strings.HasPrefix(label, "Static address"), label == "Default gateway":
		return len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")
	}
	return 63
}

func (c *compiler) confirm(s *Step) {
	before := c.now
	c.words(s.words)
	if len(c.ops) > 0 && c.now.Len() > 0 {
		c.ops[len(c.ops)-1].after = afterConfirm
	}
	was := func(w dcui.World) (dcui.World, bool) {
		b := before.Like(w)
		if b.Len() == 0 {
			return dcui.World{}, false
		}
		return b.Worlds()[0], true
	}
	c.gate(func(w dcui.World) bool { old, ok := was(w); return ok && old != w }, "nothing asks for "+strings.TrimPrefix(s.Text, "confirm ")+" there")
	if c.selected == "" {
		return
	}
	// What came of it in all worlds is the goal; what came of it in some is
	// part of it.
	var all []dcui.Effect
	for i, w := range c.now.Worlds() {
		old, _ := was(w)
		var fresh []dcui.Effect
		for _, e := range w.Effects() {
			if !slices.Contains(old.Effects(), e) {
				fresh = append(fresh, e)
			}
		}
		c.allowed = append(c.allowed, fresh...)
		if i == 0 {
			all = fresh
		} else {
			all = slices.DeleteFunc(slices.Clone(all), func(e dcui.Effect) bool { return !slices.Contains(fresh, e) })
		}
	}
	c.wanted = append(c.wanted, all...)
}

func (c *compiler) leaveScreen(s *Step) {
	esc := []hid.Chord{dcui.Esc}
	at := func(name string) func(dcui.World) bool {
		return func(w dcui.World) bool { return w.At() == name }
	}
	if s.name != "" {
		r := reach(c.now, esc, at(s.name), "the screen "+s.name)
		c.lose(r)
		c.press(r.keys...)
		return
	}
	if r := reach(c.now, esc, at("mgmt.confirm"), ""); len(r.lost) == 0 {
		c.press(r.keys...)
		return
	}
	r := reach(c.now, esc, at("welcome"), "the welcome screen")
	c.lose(r)
	c.press(r.keys...)
}

// hold keeps a key down. The host repeats it as often as it likes, so it must
// make no difference how often.
func (c *compiler) hold(s *Step) {
	if len(s.words) == 0 {
		c.add(op{kind: opThink, after: s.d})
		return
	}
	k := s.words[0].chord
	once := c.now.Press(k)
	if !once.Press(k).Equal(once) {
		c.fail(s.at, "press it as often as it takes: keys: "+k.String()+" ×4", "%s held down is repeated by the host, and how often makes a difference here", k)
		return
	}
	c.add(op{kind: opHold, chords: []hid.Chord{k}, words: s.words, after: s.d})
	c.now = once
}
