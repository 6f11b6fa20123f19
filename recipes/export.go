package recipes

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// The formats of Export and Import.
const (
	// Ducky is DuckyScript 1.0: one command a line.
	Ducky = "ducky"
	// Packer is the list of strings of a Packer template's boot_command, in a
	// notation that is HCL and JSON alike.
	Packer = "packer"
)

// Formats lists the formats of Export and Import.
func Formats() []string { return []string{Ducky, Packer} }

// ExportError is a step of a recipe that a format has no words for.
type ExportError struct {
	Format string
	Step   int    // of Recipe.Steps
	Text   string // the step in one line
	Reason string
}

func (e *ExportError) Error() string {
	return fmt.Sprintf("exporting to %s: step %d (%s): %s", e.Format, e.Step+1, e.Text, e.Reason)
}

// FormatError is a name that is no format.
type FormatError struct{ Format string }

func (e *FormatError) Error() string {
	return fmt.Sprintf("unknown format %q: it is one of %s", e.Format, strings.Join(Formats(), ", "))
}

// Export writes a program in a foreign format: its keys and its pauses, and for
// each secret, and each variable without a value, a name in its place. What
// only labctl can do is left out where the keys are right without it (the check
// of Caps Lock, what verify asks for), and a step that cannot go without it is
// an *ExportError. Keys that are right for a part of the worlds only are
// written too; which ones that is, the program's verdict tells.
func Export(p *Program, format string) ([]byte, error) {
	name := p.recipe.Name
	if !slices.Contains(Formats(), format) {
		return nil, &FormatError{format}
	}
	// A script is for one layout, so it need not cope with others.
	if len(p.start.Values("layout")) > 1 {
		start, err := p.start.Only("layout", p.layout.Short())
		if err != nil {
			return nil, fmt.Errorf("exporting recipe %s: %w", name, err)
		}
		if p, err = p.recipe.compile(start, p.vars); err != nil {
			return nil, fmt.Errorf("exporting recipe %s: %w", name, err)
		}
	}
	if p.ends().Len() == 0 && p.dead != "" {
		return nil, fmt.Errorf("exporting recipe %s: no keys lead to its goal: %s", name, p.dead)
	}
	beats, err := p.beats(format)
	if err != nil {
		return nil, err
	}
	if len(beats) == 0 {
		return nil, fmt.Errorf("exporting recipe %s: on this host it types nothing", name)
	}
	var out []byte
	if format == Packer {
		var list [][]glyph
		if list, err = writePacker(beats, p.layout); err == nil {
			out, err = packerList(list)
		}
	} else {
		var b strings.Builder
		p.remarks(&b)
		err = p.writeDuckySteps(&b, beats)
		out = []byte(b.String())
	}
	var u *unfit
	if errors.As(err, &u) {
		return nil, p.unfitStep(format, u.step, u.reason)
	}
	return out, err
}

func (p *Program) unfitStep(format string, step int, reason string) error {
	return &ExportError{Format: format, Step: step, Text: p.recipe.Steps[step].Text, Reason: reason}
}

// beats tells what the program does at the keyboard.
func (p *Program) beats(format string) ([]beat, error) {
	var all []beat
	for _, o := range p.ops {
		switch o.kind {
		case opKeys:
			if chords, err := p.layout.Chords(o.text()); err == nil && len(chords) > 0 && slices.Equal(chords, o.chords) {
				all = append(all, beat{kind: beatText, step: o.step, text: o.text()})
				break
			}
			for _, c := range o.chords {
				all = append(all, beat{kind: beatChord, step: o.step, chord: c})
			}
		case opToken:
			for _, w := range o.words {
				all = append(all, beat{kind: beatInput, step: o.step, text: w.text})
			}
		case opHold:
			for _, c := range o.chords {
				all = append(all, beat{kind: beatHold, step: o.step, chord: c, pause: o.after})
			}
			continue
		case opProbe:
			return nil, p.unfitStep(format, o.step, "only labctl can ask whether that holds")
		}
		if o.after > 0 {
			all = append(all, beat{kind: beatPause, step: o.step, pause: o.after})
		}
	}
	return all, nil
}

// text gives the characters that keys type, empty where they are keys.
func (o *op) text() string {
	if len(o.words) == 1 && o.words[0].kind == textWord {
		return o.words[0].text
	}
	return ""
}

// remarks says at the top of a script what it is and what it takes for granted.
func (p *Program) remarks(b *strings.Builder) {
	rem := func(format string, args ...any) {
		fmt.Fprintf(b, "REM %s\n", strings.Map(printable, fmt.Sprintf(format, args...)))
	}
	rem("%s: %s", p.recipe.Name, p.recipe.Summary)
	rem("Risk: %s. Written by labctl recipe export.", p.recipe.Risk)
	rem("Set the language of the device to the console's layout: %s.", p.layout.Name())
	for _, f := range dcui.FactNames() {
		left, all := p.ends().Values(f), p.start.Values(f)
		others := slices.DeleteFunc(all, func(v string) bool { return slices.Contains(left, v) })
		switch {
		case len(others) == 0 || f == "layout":
		case len(others) < len(left):
			rem("Right only where %s is not %s.", f, strings.Join(others, " or "))
		default:
			rem("Right only where %s is %s.", f, strings.Join(left, " or "))
		}
	}
	inputs := map[string]bool{}
	for _, o := range p.ops {
		switch {
		case o.kind == opCaps && !inputs["\x00caps"]:
			inputs["\x00caps"] = true
			rem("Caps Lock has to be off: labctl looks at its light, a script cannot.")
		case o.kind == opToken && !inputs[o.words[0].text]:
			name := o.words[0].text
			inputs[name] = true
			in, _, _ := p.recipe.input(name)
			rem("Put in the place of %s%s%s: %s", placeholderOpen, name, placeholderClose, cmp.Or(in.Summary, name))
		}
	}
	for _, k := range p.recipe.Verify {
		rem("Afterwards: %s.", k)
	}
	if p.pace.Gap > 0 {
		fmt.Fprintf(b, "DEFAULT_DELAY %d\n", milliseconds(p.pace.Gap))
	}
}

// writeDuckySteps writes each step under a remark that names it.
func (p *Program) writeDuckySteps(b *strings.Builder, beats []beat) error {
	for len(beats) > 0 {
		step := beats[0].step
		n := slices.IndexFunc(beats, func(t beat) bool { return t.step != step })
		if n < 0 {
			n = len(beats)
		}
		fmt.Fprintf(b, "REM Step %d: %s\n", step+1, strings.Map(printable, p.recipe.Steps[step].Text))
		if err := writeDucky(b, beats[:n], p.layout); err != nil {
			return err
		}
		beats = beats[n:]
	}
	return nil
}

// beat is one thing that a program does at the keyboard: it presses a chord,
// types a text or what an input stands for, or pauses. Foreign formats are
// written from beats and read into them.
type beat struct {
	kind  beatKind
	step  int // of Recipe.Steps
	chord hid.Chord
	text  string        // or the name of an input
	pause time.Duration // or how long the chord is held
	at    span          // where an imported file has it
}

type beatKind uint8

const (
	beatChord beatKind = iota
	beatText
	beatInput
	beatPause
	beatHold
	beatNote // a comment of an imported file
)

// span is a place in an imported file.
type span struct{ line, col int }

// unfit says why a beat has no words in a format.
type unfit struct {
	step   int
	reason string
}

func (e *unfit) Error() string { return e.reason }

// duckyNames holds the keys that DuckyScript has a word for.
var duckyNames = map[hid.Usage]string{
	hid.KeyEnter: "ENTER", hid.KeyEsc: "ESC", hid.KeyBackspace: "BACKSPACE", hid.KeyTab: "TAB", hid.KeySpace: "SPACE",
	hid.KeyCapsLock: "CAPSLOCK", 0x46: "PRINTSCREEN", hid.KeyScroll: "SCROLLLOCK", 0x48: "PAUSE",
	hid.KeyInsert: "INSERT", hid.KeyHome: "HOME", hid.KeyPgUp: "PAGEUP", hid.KeyDelete: "DELETE", hid.KeyEnd: "END",
	hid.KeyPgDn: "PAGEDOWN", hid.KeyRight: "RIGHT", hid.KeyLeft: "LEFT", hid.KeyDown: "DOWN", hid.KeyUp: "UP",
	hid.KeyNumLock: "NUMLOCK", 0x65: "MENU",
	0x3a: "F1", 0x3b: "F2", 0x3c: "F3", 0x3d: "F4", 0x3e: "F5", 0x3f: "F6", 0x40: "F7", 0x41: "F8", 0x42: "F9",
	0x43: "F10", 0x44: "F11", 0x45: "F12",
}

// duckyMods holds the modifiers and the pairs of them that DuckyScript knows.
var duckyMods = map[hid.Mods]string{
	hid.Ctrl: "CTRL", hid.Shift: "SHIFT", hid.Alt: "ALT", hid.GUI: "GUI",
	hid.Ctrl | hid.Alt: "CTRL-ALT", hid.Ctrl | hid.Shift: "CTRL-SHIFT", hid.Alt | hid.Shift: "ALT-SHIFT",
	hid.Alt | hid.GUI: "ALT-GUI", hid.GUI | hid.Shift: "GUI-SHIFT", hid.GUI | hid.Ctrl: "GUI-CTRL",
}

// placeholderOpen starts an input in DuckyScript, which has no variables that
// every device knows: the text is to be replaced before it is used.
const placeholderOpen, placeholderClose = "{{", "}}"

// manyLines is how many equal lines are shorter as a REPEAT, which not every
// device has.
const manyLines = 8

// writeDucky writes beats, each text for a device whose language is that of the
// layout. A chord that is no key by itself becomes the character that it types.
func writeDucky(b *strings.Builder, beats []beat, l *hid.Layout) error {
	for i := 0; i < len(beats); i++ {
		t := beats[i]
		fail := func(format string, args ...any) error { return &unfit{t.step, fmt.Sprintf(format, args...)} }
		switch t.kind {
		case beatPause:
			fmt.Fprintf(b, "DELAY %d\n", milliseconds(t.pause))
		case beatHold:
			return fail("there is no command that holds a key down")
		case beatChord:
			word, ok := duckyChord(t.chord, l)
			if !ok {
				return fail("there is no command for the key %s", t.chord)
			}
			b.WriteString(word + "\n")
			again := 0
			for i+again+1 < len(beats) && beats[i+again+1].kind == beatChord && beats[i+again+1].chord == t.chord {
				again++
			}
			if again >= manyLines {
				fmt.Fprintf(b, "REPEAT %d\n", again)
				i += again
			}
		case beatText, beatInput:
			b.WriteString("STRING ")
			for ; i < len(beats) && (beats[i].kind == beatText || beats[i].kind == beatInput); i++ {
				t = beats[i]
				if t.kind == beatInput {
					b.WriteString(placeholderOpen + t.text + placeholderClose)
					continue
				}
				if strings.Contains(t.text, placeholderOpen) {
					return fail("a text that holds %s reads as a placeholder", placeholderOpen)
				}
				b.WriteString(t.text)
			}
			i--
			b.WriteByte('\n')
		}
	}
	return nil
}

func duckyChord(c hid.Chord, l *hid.Layout) (string, bool) {
	if c.Keep {
		return "", false
	}
	if name, ok := duckyNames[c.Key]; ok {
		if c.Mods == 0 {
			return name, true
		}
		mods, ok := duckyMods[c.Mods]
		return mods + " " + name, ok
	}
	if c.Key == 0 {
		mods, ok := duckyMods[c.Mods]
		return mods, ok
	}
	if r, ok := only(c, l); ok {
		return "STRING " + string(r), true
	}
	mods, ok := duckyMods[c.Mods]
	r, plain := only(hid.Chord{Key: c.Key}, l)
	return mods + " " + string(r), ok && plain && r > ' '
}

// only gives the character of a chord that is the one way to type it.
func only(c hid.Chord, l *hid.Layout) (rune, bool) {
	r := l.Rune(c)
	if r == 0 || hid.Dead(r) {
		return 0, false
	}
	taps, err := l.Chords(string(r))
	return r, err == nil && len(taps) == 1 && taps[0] == c
}

// packerNames holds the keys that a boot_command has a word for, without the
// angle brackets.
var packerNames = map[hid.Usage]string{
	hid.KeyEnter: "enter", hid.KeyEsc: "esc", hid.KeyBackspace: "bs", hid.KeyTab: "tab", hid.KeySpace: "spacebar",
	hid.KeyInsert: "insert", hid.KeyHome: "home", hid.KeyPgUp: "pageUp", hid.KeyDelete: "del", hid.KeyEnd: "end",
	hid.KeyPgDn: "pageDown", hid.KeyRight: "right", hid.KeyLeft: "left", hid.KeyDown: "down", hid.KeyUp: "up", 0x65: "menu",
	0x3a: "f1", 0x3b: "f2", 0x3c: "f3", 0x3d: "f4", 0x3e: "f5", 0x3f: "f6", 0x40: "f7", 0x41: "f8", 0x42: "f9",
	0x43: "f10", 0x44: "f11", 0x45: "f12",
}

var packerMods = [8]string{"leftCtrl", "leftShift", "leftAlt", "leftSuper", "rightCtrl", "rightShift", "rightAlt", "rightSuper"}

// glyph is a character of a boot_command, or an input in its place.
type glyph struct {
	r     rune
	input string
	at    span
}

func glyphs(s string) (list []glyph) {
	for _, r := range s {
		list = append(list, glyph{r: r})
	}
	return list
}

// writePacker gives a string for each step. Packer types every character as a
// US keyboard has it, so a text goes by the chords that type it: on another
// layout it reads oddly and does the same.
func writePacker(beats []beat, l *hid.Layout) ([][]glyph, error) {
	us, err := hid.FindLayout("us")
	if err != nil {
		return nil, err
	}
	var list [][]glyph
	var last2 [2]rune // before what is written next
	last := -1
	for _, t := range beats {
		fail := func(format string, args ...any) error { return &unfit{t.step, fmt.Sprintf(format, args...)} }
		var s []glyph
		chords := []hid.Chord{t.chord}
		switch t.kind {
		case beatPause:
			s = glyphs("<wait" + packerDuration(t.pause) + ">")
			chords = nil
		case beatInput:
			if l.Short() != us.Short() {
				return nil, fail("Packer types ${%s} as on a US keyboard, and the layout is %s", t.text, l.Short())
			}
			s = []glyph{{input: t.text}}
			chords = nil
		case beatText:
			if chords, err = l.Chords(t.text); err != nil {
				return nil, fail("%s", err)
			}
		}
		for _, c := range chords {
			word, ok := packerChord(c, us, t.kind == beatHold, t.pause)
			if !ok {
				return nil, fail("a boot_command has no word for the key %s", c)
			}
			s = append(s, glyphs(word)...)
		}
		for _, g := range s {
			switch {
			case last2[1] == '{' && g.r == '{':
				return nil, fail("Packer takes {{ for the start of a template")
			case last2[1] == '$' && (g.input != "" || g.r == '{' && last2[0] == '$'), last2 == [2]rune{'%', '%'} && g.r == '{':
				return nil, fail("HCL takes a text that ends on %c for an escape here", last2[1])
			}
			last2 = [2]rune{last2[1], g.r}
		}
		if t.step != last {
			list, last = append(list, nil), t.step
		}
		list[len(list)-1] = append(list[len(list)-1], s...)
	}
	// A text may read as a key: <tab> typed letter by letter. There is no way to
	// escape it, so what was written is read back.
	got, bad := readBootCommand(slices.Concat(list...), us)
	if bad != nil || !slices.Equal(taps(got, us), taps(beats, l)) {
		n := slices.IndexFunc(beats, func(t beat) bool { return t.kind == beatText && strings.ContainsAny(t.text, "<>") })
		if n < 0 {
			n = 0
		}
		return nil, &unfit{beats[n].step, "its text reads as a key of a boot_command, and there is no way to say otherwise"}
	}
	return list, nil
}

// taps tells beats by what they do and not by how they are written.
func taps(beats []beat, l *hid.Layout) []string {
	var list []string
	for _, t := range beats {
		switch t.kind {
		case beatPause:
			list = append(list, t.pause.String())
		case beatInput:
			list = append(list, "${"+t.text+"}")
		case beatHold:
			list = append(list, t.chord.String()+" for "+t.pause.String())
		case beatChord:
			list = append(list, t.chord.String())
		case beatText:
			chords, err := l.Chords(t.text)
			if err != nil {
				return nil
			}
			for _, c := range chords {
				list = append(list, c.String())
			}
		}
	}
	return list
}

func packerChord(c hid.Chord, us *hid.Layout, held bool, d time.Duration) (string, bool) {
	if c.Keep {
		return "", false
	}
	name, special := packerNames[c.Key]
	mods := c.Mods
	var word string
	switch r, ok := only(c, us); {
	case special:
		word = "<" + name + ">"
	case ok && r > ' ' && !held:
		return string(r), true
	case c.Key == 0 && mods != 0 && mods&(mods-1) == 0 && !held:
		for bit, name := range packerMods {
			if mods == 1<<bit {
				return "<" + name + ">", true
			}
		}
	default:
		r, ok := only(hid.Chord{Key: c.Key}, us)
		if !ok || r <= ' ' {
			return "", false
		}
		name, word = string(r), string(r)
	}
	if held {
		word = "<" + name + "On><wait" + packerDuration(d) + "><" + name + "Off>"
	}
	var before, after string
	for bit, name := range packerMods {
		if mods&(1<<bit) != 0 {
			before += "<" + name + "On>"
			after = "<" + name + "Off>" + after
		}
	}
	return before + word + after, true
}

// packerDuration writes whole seconds as Packer's people do, and the rest with
// a unit.
func packerDuration(d time.Duration) string {
	switch {
	case d == time.Second:
		return ""
	case d%time.Second == 0:
		return strconv.Itoa(int(d / time.Second))
	}
	return strconv.Itoa(milliseconds(d)) + "ms"
}

// milliseconds rounds up: a pause may be longer than meant, not shorter.
func milliseconds(d time.Duration) int { return int((d + time.Millisecond - 1) / time.Millisecond) }

// packerList writes strings as JSON, which is HCL too. What HCL takes for a
// template is escaped, but for the variables that stand for inputs.
func packerList(list [][]glyph) ([]byte, error) {
	var b strings.Builder
	b.WriteString("[\n")
	for i, s := range list {
		var text strings.Builder
		for n, g := range s {
			if g.input != "" {
				text.WriteString("${var." + g.input + "}")
				continue
			}
			text.WriteRune(g.r)
			if (g.r == '$' || g.r == '%') && n+1 < len(s) && s[n+1].r == '{' {
				text.WriteRune(g.r)
			}
		}
		var q strings.Builder
		e := json.NewEncoder(&q)
		e.SetEscapeHTML(false)
		if err := e.Encode(text.String()); err != nil {
			return nil, fmt.Errorf("writing a boot_command: %w", err)
		}
		b.WriteString("  " + strings.TrimSpace(q.String()))
		if i+1 < len(list) {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	return []byte(b.String()), nil
}
