package recipes

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/labctl/labctl/hid"
)

// ImportOptions is what an imported file cannot say about itself. The zero
// value works.
type ImportOptions struct {
	Name    string // of the recipe, what no name can hold becomes a dash; empty is "imported"
	Summary string
	Risk    Risk // empty is Destructive: nobody has said what the keys are for
	// Layout is the language that a DuckyScript was written for; empty is us. It
	// tells which key CTRL z is. Packer knows US keyboards only.
	Layout string
}

// Import reads keys in a foreign format and gives a complete recipe of raw keys.
// A name in it that stands for a text becomes a variable of the recipe, or a
// secret where it sounds like one. Faults are Errors, each with its place in
// the file; a name that is no format is a *FormatError.
func Import(format, file string, src []byte, o ImportOptions) ([]byte, error) {
	text := strings.TrimPrefix(string(src), "\ufeff") // of editors on Windows
	in := &importer{file: file, lines: strings.Split(text, "\n")}
	name := "us"
	if format == Ducky {
		name = cmp.Or(o.Layout, name)
	}
	var err error
	if in.layout, err = hid.FindLayout(name); err != nil {
		return nil, err
	}
	var beats []beat
	var head string
	switch format {
	case Ducky:
		beats, head = in.ducky(), "DuckyScript"
	case Packer:
		beats, head = in.packer(text), "a Packer boot_command"
	default:
		return nil, &FormatError{format}
	}
	if len(in.errs) == 0 && !slices.ContainsFunc(beats, func(t beat) bool { return t.kind != beatNote && t.kind != beatPause }) {
		in.fail(span{1, 1}, "", "nothing in it is typed")
	}
	out, keys, steps := in.recipe(beats, head, format == Packer, o)
	if len(in.errs) == 0 && (keys > maxKeys || steps > maxSteps) {
		in.fail(span{1, 1}, "part it into several files", "%d keys in %d steps: a recipe has at most %d in %d", keys, steps, maxKeys, maxSteps)
	}
	if len(in.errs) > 0 {
		return nil, in.errs.sorted()
	}
	return out, nil
}

// notInName is what a recipe's name does not hold.
var notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+|^[._-]+`)

type importer struct {
	file   string
	lines  []string
	layout *hid.Layout
	gap    time.Duration // between keys, where the file sets one
	errs   Errors
}

func (in *importer) fail(at span, hint, format string, args ...any) {
	e := &Error{File: in.file, Line: at.line, Col: at.col, Msg: fmt.Sprintf(format, args...), Hint: hint}
	if at.line <= len(in.lines) {
		e.Text = strings.TrimRight(in.lines[at.line-1], "\r")
	}
	in.errs = append(in.errs, e)
}

var duckyUsages = func() map[string]hid.Usage {
	m := map[string]hid.Usage{
		"ESCAPE": hid.KeyEsc, "DOWNARROW": hid.KeyDown, "UPARROW": hid.KeyUp, "LEFTARROW": hid.KeyLeft, "RIGHTARROW": hid.KeyRight,
		"BREAK": 0x48, "APP": 0x65, "DEL": hid.KeyDelete, "RETURN": hid.KeyEnter,
	}
	for u, name := range duckyNames {
		m[name] = u
	}
	return m
}()

var duckyModsByName = map[string]hid.Mods{
	"CTRL": hid.Ctrl, "CONTROL": hid.Ctrl, "SHIFT": hid.Shift, "ALT": hid.Alt, "GUI": hid.GUI, "WINDOWS": hid.GUI, "COMMAND": hid.GUI, "OPTION": hid.Alt,
}

// maxDelay is the longest pause that is taken for one, an hour.
const maxDelay = time.Hour

func (in *importer) ducky() []beat {
	var all, last []beat
	comment := false
	for n, line := range in.lines {
		line = strings.TrimRight(line, "\r")
		text := strings.TrimLeftFunc(line, unicode.IsSpace)
		at := span{n + 1, utf8.RuneCountInString(line[:len(line)-len(text)]) + 1}
		command, rest, _ := strings.Cut(text, " ")
		var now []beat
		switch {
		case comment:
			comment = command != "END_REM"
			continue
		case text == "":
			continue
		case command == "REM_BLOCK":
			comment = true
			continue
		case command == "REM" || strings.HasPrefix(text, "//"):
			all = append(all, beat{kind: beatNote, text: strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(text, "REM"), "//"))})
			continue
		case command == "STRING" || command == "STRINGLN":
			now = in.duckyText(rest, span{at.line, at.col + len(command) + 1})
			if command == "STRINGLN" {
				now = append(now, beat{kind: beatChord, chord: hid.Chord{Key: hid.KeyEnter}})
			}
		case command == "DELAY":
			if d, ok := in.number(rest, at, int(maxDelay/time.Millisecond)); ok && d > 0 {
				now = []beat{{kind: beatPause, pause: time.Duration(d) * time.Millisecond}}
			}
		case command == "DEFAULT_DELAY" || command == "DEFAULTDELAY":
			if d, ok := in.number(rest, at, int(maxDelay/time.Millisecond)); ok {
				in.gap = max(in.gap, time.Duration(d)*time.Millisecond)
			}
			continue
		case command == "REPEAT":
			times, ok := in.number(rest, at, hid.MaxChords)
			switch {
			case !ok:
			case len(last) == 0:
				in.fail(at, "", "nothing stands before it to repeat")
			case len(all)+times*len(last) > hid.MaxChords:
				in.fail(at, "", "more than %d keys", hid.MaxChords)
			default:
				for range times {
					all = append(all, last...)
				}
			}
			continue
		default:
			c, ok := in.duckyKeys(text, at)
			if !ok {
				continue
			}
			now = []beat{{kind: beatChord, chord: c}}
		}
		all, last = append(all, now...), now
	}
	return all
}

func (in *importer) number(text string, at span, most int) (int, bool) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 0 || n > most {
		in.fail(at, "", "want a number from 0 to %d", most)
		return 0, false
	}
	return n, true
}

var placeholder = regexp.MustCompile(`\{\{\s*([A-Za-z][A-Za-z0-9_-]*)\s*\}\}`)

// duckyText parts a text at its placeholders.
func (in *importer) duckyText(text string, at span) (beats []beat) {
	pos := 0
	add := func(s string) {
		for i, r := range []rune(s) {
			if unicode.IsControl(r) || r == utf8.RuneError {
				in.fail(span{at.line, at.col + utf8.RuneCountInString(text[:pos]) + i}, "", "this character cannot be typed")
				return
			}
		}
		if s != "" {
			beats = append(beats, beat{kind: beatText, text: s})
		}
	}
	for _, m := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		add(text[pos:m[0]])
		beats = append(beats, beat{kind: beatInput, text: text[m[2]:m[3]]})
		pos = m[1]
	}
	add(text[pos:])
	return beats
}

// duckyKeys reads a key with its modifiers, in one word each or joined by
// hyphens.
func (in *importer) duckyKeys(text string, at span) (hid.Chord, bool) {
	var c hid.Chord
	words := strings.Fields(text)
	first := strings.ToUpper(words[0])
	for i, word := range words {
		upper := strings.ToUpper(word)
		if u, ok := duckyUsages[upper]; ok && i+1 == len(words) {
			c.Key = u
			return c, true
		}
		if taps, err := in.layout.Chords(word); i > 0 && i+1 == len(words) && err == nil && len(taps) == 1 {
			c.Mods, c.Key = c.Mods|taps[0].Mods, taps[0].Key
			if r := []rune(word)[0]; r >= 'A' && r <= 'Z' {
				c.Mods &^= hid.Shift // CTRL C is written for Ctrl and c
				for _, w := range words[:i] {
					if strings.Contains(strings.ToUpper(w), "SHIFT") {
						c.Mods |= hid.Shift
					}
				}
			}
			return c, true
		}
		for m := range strings.SplitSeq(upper, "-") {
			bit, ok := duckyModsByName[m]
			_, key := duckyUsages[upper]
			switch {
			case ok:
				c.Mods |= bit
				continue
			case key:
				in.fail(at, "write each key on a line of its own", "a key stands at the end of its line, after its modifiers")
			case i == 0 && !slices.Contains(duckyCommands3, first):
				in.fail(at, meant(first, slices.Concat(slices.Sorted(maps.Keys(duckyUsages)), duckyWords)), "unknown command %s", words[0])
			case i == 0:
				in.fail(at, "write it as keys and delays", "%s is a command of DuckyScript 3 that no recipe has", first)
			default:
				in.fail(at, meant(upper, slices.Sorted(maps.Keys(duckyUsages))), "unknown key %s", word)
			}
			return c, false
		}
	}
	return c, true
}

var duckyWords = []string{"REM", "STRING", "STRINGLN", "DELAY", "DEFAULT_DELAY", "REPEAT", "CTRL", "SHIFT", "ALT", "GUI"}

// duckyCommands3 are commands of DuckyScript 3, which has loops, conditions
// and a mouse.
var duckyCommands3 = []string{
	"ATTACKMODE", "BUTTON_DEF", "DEFINE", "ELSE", "END_BUTTON", "END_FUNCTION", "END_IF", "END_WHILE", "EXFIL", "FUNCTION", "HOLD",
	"IF", "INJECT_MOD", "INJECT_VAR", "JITTER", "LED_G", "LED_OFF", "LED_R", "RELEASE", "RESET", "RESTART_PAYLOAD", "RETURN", "STOP_PAYLOAD",
	"STRING_DELAY", "STRING_BLOCK", "VAR", "WAIT_FOR_BUTTON_PRESS", "WAIT_FOR_CAPS_CHANGE", "WAIT_FOR_CAPS_OFF", "WAIT_FOR_CAPS_ON",
	"WAIT_FOR_NUM_CHANGE", "WAIT_FOR_NUM_OFF", "WAIT_FOR_NUM_ON", "WAIT_FOR_SCROLL_CHANGE", "WAIT_FOR_SCROLL_OFF", "WAIT_FOR_SCROLL_ON", "WHILE",
}

// meant suggests the word that is most like another, as a hint.
func meant(word string, words []string) string {
	if near := nearest(word, words); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}

// packer reads a boot_command: the list alone, or the one in a template.
func (in *importer) packer(src string) []beat {
	r := &hclReader{in: in, src: []rune(src), line: 1, col: 1}
	list := r.bootCommand()
	if len(in.errs) > 0 {
		return nil
	}
	beats, err := readBootCommand(list, in.layout)
	if err != nil {
		in.fail(err.at, "", "%s", err.reason)
	}
	return beats
}

// hclReader reads as much of HCL and of JSON as a list of strings takes.
type hclReader struct {
	in        *importer
	src       []rune
	at        int
	line, col int
}

func (r *hclReader) peek() rune {
	if r.at < len(r.src) {
		return r.src[r.at]
	}
	return 0
}

func (r *hclReader) next() rune {
	c := r.peek()
	if r.at < len(r.src) {
		r.at++
	}
	if r.col++; c == '\n' {
		r.line, r.col = r.line+1, 1
	}
	return c
}

func (r *hclReader) here() span { return span{r.line, r.col} }

func (r *hclReader) has(s string) bool {
	return strings.HasPrefix(string(r.src[r.at:min(len(r.src), r.at+len(s))]), s)
}

// blank passes over blanks and comments.
func (r *hclReader) blank() {
	for r.at < len(r.src) {
		switch {
		case strings.ContainsRune(" \t\r\n", r.peek()):
			r.next()
		case r.peek() == '#' || r.has("//"):
			for r.at < len(r.src) && r.peek() != '\n' {
				r.next()
			}
		case r.has("/*"):
			for r.at < len(r.src) && !r.has("*/") {
				r.next()
			}
			r.next()
			r.next()
		default:
			return
		}
	}
}

// bootCommand finds the list and reads it.
func (r *hclReader) bootCommand() []glyph {
	r.blank()
	if r.peek() == '[' {
		list := r.list()
		if r.blank(); r.at < len(r.src) && len(r.in.errs) == 0 {
			r.in.fail(r.here(), "", "something follows the list")
		}
		return list
	}
	var found []glyph
	var at span
	for r.blank(); r.at < len(r.src); r.blank() {
		start := r.here()
		word := ""
		switch c := r.peek(); {
		case c == '"':
			word = r.skip()
		case c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			for c := r.peek(); c == '_' || c == '-' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'; c = r.peek() {
				word += string(r.next())
			}
		default:
			r.next()
			continue
		}
		if word != "boot_command" {
			continue
		}
		if r.blank(); r.peek() != '=' && r.peek() != ':' {
			continue
		}
		r.next()
		r.blank()
		if at.line != 0 {
			r.in.fail(start, "leave one in the file", "a second boot_command, the first is on line %d", at.line)
			return nil
		}
		at = start
		if r.peek() != '[' {
			r.in.fail(r.here(), "", "want a list of strings in brackets")
			return nil
		}
		if found = r.list(); len(r.in.errs) > 0 {
			return nil
		}
	}
	if at.line == 0 {
		r.in.fail(span{1, 1}, "", "there is no boot_command in it")
	}
	return found
}

// skip passes over a string of which only a name is of interest, templates with
// strings of their own in it.
func (r *hclReader) skip() string {
	start, depth := r.at+1, 0
	for r.next(); r.at < len(r.src); {
		switch c := r.next(); {
		case c == '\\':
			r.next()
		case c == '$' && r.peek() == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case c == '"' && depth == 0:
			return string(r.src[start : r.at-1])
		case c == '\n' && depth == 0:
			return ""
		}
	}
	return ""
}

func (r *hclReader) list() []glyph {
	var all []glyph
	r.next()
	for {
		r.blank()
		switch r.peek() {
		case ']':
			r.next()
			return all
		case '"':
			all = append(all, r.text()...)
			if len(r.in.errs) > 0 {
				return nil
			}
		case 0:
			r.in.fail(r.here(), "", "want a comma or the end of the list")
			return nil
		default:
			r.in.fail(r.here(), "", "want a string in double quotes")
			return nil
		}
		switch r.blank(); r.peek() {
		case ',':
			r.next()
		case ']':
		default:
			r.in.fail(r.here(), "", "want a comma or the end of the list")
			return nil
		}
	}
}

var (
	packerVar  = regexp.MustCompile(`^\$\{\s*var\.([A-Za-z][A-Za-z0-9_-]*)\s*\}`)
	packerUser = regexp.MustCompile("^\\{\\{\\s*user\\s+[`\"]([A-Za-z][A-Za-z0-9_-]*)[`\"]\\s*\\}\\}")
)

// text reads a string in double quotes, a glyph for each character.
func (r *hclReader) text() []glyph {
	start := r.here()
	var all []glyph
	for r.next(); ; {
		at := r.here()
		switch c := r.peek(); {
		case c == 0 || c == '\n':
			r.in.fail(start, "", "a string that does not end on its line")
			return nil
		case c == '"':
			r.next()
			return all
		case r.has("$${") || r.has("%%{"):
			r.next()
			all = append(all, glyph{r: r.next(), at: at}, glyph{r: r.next(), at: at})
		case r.has("${") || r.has("{{"):
			rest := string(r.src[r.at:min(len(r.src), r.at+200)])
			m := packerVar.FindStringSubmatch(rest)
			if m == nil {
				m = packerUser.FindStringSubmatch(strings.ReplaceAll(rest, `\"`, `"`))
			}
			if m == nil {
				r.in.fail(at, "write what it stands for, or a variable: ${var.name}", "a recipe has no such template")
				return nil
			}
			for range m[0] {
				r.next()
			}
			all = append(all, glyph{input: m[1], at: at})
		case r.has("%{"):
			r.in.fail(at, "write what it stands for", "a recipe has no such template")
			return nil
		case c == '\\':
			r.next()
			g, ok := r.escape()
			if !ok {
				r.in.fail(at, "", "no such escape in a string")
				return nil
			}
			all = append(all, glyph{r: g, at: at})
		default:
			all = append(all, glyph{r: r.next(), at: at})
		}
	}
}

func (r *hclReader) escape() (rune, bool) {
	digits := 0
	switch c := r.next(); c {
	case '"', '\\', '/':
		return c, true
	case 'n':
		return '\n', true
	case 't':
		return '\t', true
	case 'r':
		return '\r', true
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	default:
		return 0, false
	}
	hex := ""
	for range digits {
		hex += string(r.next())
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	return rune(n), err == nil && utf8.ValidRune(rune(n))
}

type packerError struct {
	at     span
	reason string
}

func (e *packerError) Error() string { return e.reason }

var (
	packerWait = regexp.MustCompile(`^<wait((?:-?[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+|0|[1-9][0-9]*)?>`)
	packerChar = regexp.MustCompile(`^<(.)(?i:(on|off))>`)
	packerKey  = regexp.MustCompile(`^<((?i)` + strings.Join(packerWords(), "|") + `)(?i:(on|off))?>`)
)

var packerUsages, packerModsByName = func() (map[string]hid.Usage, map[string]hid.Mods) {
	keys, mods := map[string]hid.Usage{"return": hid.KeyEnter}, map[string]hid.Mods{"leftmeta": hid.GUI, "rightmeta": hid.RightGUI}
	for u, name := range packerNames {
		keys[strings.ToLower(name)] = u
	}
	for bit, name := range packerMods {
		mods[strings.ToLower(name)] = 1 << bit
	}
	return keys, mods
}()

// packerWords lists the names of keys, no name before one that it begins.
func packerWords() []string {
	words := append([]string{"return", "leftMeta", "rightMeta"}, packerMods[:]...)
	for _, name := range packerNames {
		words = append(words, name)
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return words
}

// readBootCommand tells the keys of a boot_command as Packer does: what is no
// word in angle brackets is typed letter by letter.
func readBootCommand(list []glyph, us *hid.Layout) ([]beat, *packerError) {
	var beats []beat
	var mods hid.Mods
	used := false      // a key came while the modifiers were down
	var held *beat     // a key that was put down and not let go
	var opened []glyph // modifiers, in the order they went down
	var text strings.Builder
	for _, g := range list {
		r := g.r
		if g.input != "" {
			r = 0 // ends every word
		}
		text.WriteRune(r)
	}
	rest := text.String()
	press := func(c hid.Chord, at span) *packerError {
		if held != nil {
			return &packerError{at, "a key is pressed while another one is held"}
		}
		c.Mods |= mods
		used = true
		beats = append(beats, beat{kind: beatChord, chord: c, at: at})
		return nil
	}
	for i := 0; i < len(list); {
		at := list[i].at
		n := 1
		var err *packerError
		switch {
		case list[i].input != "":
			if held != nil || mods != 0 {
				return nil, &packerError{at, "a variable is typed while a key is held"}
			}
			beats = append(beats, beat{kind: beatInput, text: list[i].input, at: at})
		case list[i].r == '<' && packerWait.MatchString(rest):
			m := packerWait.FindStringSubmatch(rest)
			n = utf8.RuneCountInString(m[0])
			d := time.Second
			if m[1] != "" {
				var bad error
				if d, bad = time.ParseDuration(m[1]); bad != nil {
					d, bad = time.ParseDuration(m[1] + "s")
				}
				if bad != nil || d < 0 || d > maxDelay {
					return nil, &packerError{at, fmt.Sprintf("want a pause from 0 to %s", maxDelay)}
				}
			}
			switch {
			case held != nil:
				held.pause += d
			case mods != 0:
				return nil, &packerError{at, "a pause while a modifier is held: hold a key, or let go before it"}
			case d > 0:
				beats = append(beats, beat{kind: beatPause, pause: d, at: at})
			}
		case list[i].r == '<' && (packerChar.MatchString(rest) || packerKey.MatchString(rest)):
			m := packerChar.FindStringSubmatch(rest)
			var c hid.Chord
			var bit hid.Mods
			if m != nil {
				taps, bad := us.Chords(m[1])
				if bad != nil {
					return nil, &packerError{at, "Packer has no key for this character"}
				}
				c = taps[0]
			} else {
				m = packerKey.FindStringSubmatch(rest)
				name := strings.ToLower(m[1])
				c.Key, bit = packerUsages[name], packerModsByName[name]
			}
			n = utf8.RuneCountInString(m[0])
			switch action := strings.ToLower(m[2]); {
			case bit != 0 && action == "on":
				if held != nil {
					return nil, &packerError{at, "a modifier goes down while a key is held"}
				}
				mods |= bit
				used = false
				opened = append(opened, list[i])
			case bit != 0 && action == "off":
				if mods&bit == 0 {
					return nil, &packerError{at, "this key is let go and was not held"}
				}
				if held != nil {
					return nil, &packerError{at, "a modifier is let go while a key is held"}
				}
				if !used {
					beats = append(beats, beat{kind: beatChord, chord: hid.Chord{Mods: mods}, at: at})
					used = true
				}
				if mods &^= bit; mods == 0 {
					opened = nil
				}
			case bit != 0:
				err = press(hid.Chord{Mods: bit}, at)
			case action == "on":
				if held != nil {
					return nil, &packerError{at, "a key is held while another one is"}
				}
				c.Mods |= mods
				used = true
				held = &beat{kind: beatHold, chord: c, at: at}
			case action == "off":
				if held == nil || held.chord.Key != c.Key {
					return nil, &packerError{at, "this key is let go and was not held"}
				}
				if held.pause == 0 {
					held.kind = beatChord
				}
				beats, held = append(beats, *held), nil
			default:
				err = press(c, at)
			}
		default:
			taps, bad := us.Chords(string(list[i].r))
			switch {
			case bad != nil:
				return nil, &packerError{at, "Packer has no key for this character, and types nothing or something else for it"}
			case mods != 0:
				err = press(taps[0], at)
			case held != nil:
				err = &packerError{at, "a key is pressed while another one is held"}
			case len(beats) > 0 && beats[len(beats)-1].kind == beatText:
				beats[len(beats)-1].text += string(list[i].r)
			default:
				beats = append(beats, beat{kind: beatText, text: string(list[i].r), at: at})
			}
		}
		if err != nil {
			return nil, err
		}
		for _, g := range list[i : i+n] {
			r := g.r
			if g.input != "" {
				r = 0
			}
			rest = rest[utf8.RuneLen(r):]
		}
		i += n
	}
	switch {
	case held != nil:
		return nil, &packerError{held.at, "this key is never let go"}
	case mods != 0:
		return nil, &packerError{opened[0].at, "this key is never let go"}
	}
	return beats, nil
}

// recipe writes the beats as a recipe, and counts what it types.
func (in *importer) recipe(beats []beat, from string, us bool, o ImportOptions) (out []byte, keys, steps int) {
	var b strings.Builder
	risk := cmp.Or(o.Risk, Destructive)
	fmt.Fprintf(&b, "# Imported from %s. Nobody has told yet what these keys are for: say under verify\n", from)
	b.WriteString("# what has to hold in the end, and labctl recipe check will tell where they lead.\n")
	fmt.Fprintf(&b, "recipe: %s\n", cmp.Or(strings.TrimLeft(notInName.ReplaceAllString(o.Name, "-"), "._-"), "imported"))
	fmt.Fprintf(&b, "summary: %s\n", yamlText(cmp.Or(o.Summary, "Keys imported from "+from)))
	fmt.Fprintf(&b, "risk: %s\n", risk)
	typed := slices.ContainsFunc(beats, func(t beat) bool { return t.kind == beatText || t.kind == beatInput })
	if us && typed {
		b.WriteString("requires: {layout: us} # Packer types as on a US keyboard\n")
	}
	var secrets, vars []string
	for _, t := range beats {
		if t.kind != beatInput || slices.Contains(secrets, t.text) || slices.Contains(vars, t.text) {
			continue
		}
		if soundsSecret(t.text) {
			secrets = append(secrets, t.text)
		} else {
			vars = append(vars, t.text)
		}
	}
	for _, group := range []struct {
		key   string
		names []string
	}{{"secrets", secrets}, {"vars", vars}} {
		if len(group.names) > 0 {
			b.WriteString(group.key + ":\n")
		}
		for _, name := range group.names {
			fmt.Fprintf(&b, "  %s: %s\n", name, yamlText("stood for a text in the imported file"))
		}
	}
	if in.gap > hid.DefaultGap {
		fmt.Fprintf(&b, "pace: {gap: %s}\n", in.gap)
	}
	b.WriteString("steps:\n")
	var words []word
	flush := func() {
		if len(words) > 0 {
			steps, keys = steps+1, keys+len(words)
			fmt.Fprintf(&b, "  - keys: %s\n", yamlText(strings.Join(sourceWords(words), " ")))
			words = nil
		}
	}
	for _, t := range beats {
		switch t.kind {
		case beatNote:
			flush()
			if t.text != "" {
				b.WriteString("  # " + strings.Map(printable, t.text) + "\n")
			}
		case beatChord:
			words = append(words, word{kind: chordWord, chord: t.chord})
		case beatText:
			words = append(words, word{kind: textWord, text: t.text})
		case beatInput:
			words = append(words, word{kind: inputWord, text: t.text})
		case beatPause:
			flush()
			steps++
			fmt.Fprintf(&b, "  - wait: %s\n", t.pause)
		case beatHold:
			flush()
			steps++
			fmt.Fprintf(&b, "  - hold: {key: %s, for: %s}\n", t.chord, t.pause)
		}
	}
	flush()
	return []byte(b.String()), keys, steps
}

// sourceWords is keyWords with the dollar signs of a text doubled, as a file
// has them.
func sourceWords(words []word) []string {
	words = slices.Clone(words)
	for i := range words {
		if words[i].kind == textWord {
			words[i].text = strings.ReplaceAll(words[i].text, "$", "$$")
		}
	}
	return keyWords(words)
}

// yamlText writes text in single quotes where YAML needs them.
func yamlText(s string) string {
	if plainYAML.MatchString(s) && !slices.Contains([]string{"true", "false", "null"}, strings.ToLower(s)) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

var plainYAML = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9 ×+$\{\}_.-]*$`)

func printable(r rune) rune {
	if unicode.IsControl(r) {
		return ' '
	}
	return r
}

// soundsSecret guesses by its name whether an input is to be hidden.
func soundsSecret(name string) bool {
	for _, part := range []string{"pass", "pw", "secret", "token", "pin", "key", "credential"} {
		if strings.Contains(strings.ToLower(name), part) {
			return true
		}
	}
	return false
}
