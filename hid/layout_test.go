package hid

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func layout(t testing.TB, name string) *Layout {
	t.Helper()
	l, err := FindLayout(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLayoutNames(t *testing.T) {
	// The names of ESXi's kickstart command keyboard.
	names := strings.Split("Belgian,Brazilian,Croatian,Czechoslovakian,Danish,US Default,Estonian,Finnish,French,German,Greek,"+
		"Icelandic,Italian,Japanese,Latin American,Norwegian,Polish,Portuguese,Russian,Slovenian,Spanish,Swedish,Swiss French,"+
		"Swiss German,Turkish,US Dvorak,Ukrainian,United Kingdom", ",")
	if len(Layouts()) != len(names) {
		t.Errorf("%d layouts, want %d", len(Layouts()), len(names))
	}
	for _, n := range names {
		l := layout(t, strings.ToLower(n))
		if l.Name() != n {
			t.Errorf("%s is called %s", n, l.Name())
		}
		if layout(t, l.Short()) != l {
			t.Errorf("%s is not found as %s", n, l.Short())
		}
	}
	if _, err := FindLayout("ch"); err == nil {
		t.Error("ch is two layouts and was found as one")
	}
}

// Every cell agrees with what libxkbcommon makes of the same data, which is a
// second reader of it. Where a key has only two levels, libxkbcommon ignores
// AltGr and our table is empty.
func TestTablesAgreeWithLibxkbcommon(t *testing.T) {
	b, err := os.ReadFile("testdata/libxkbcommon.txt")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "# ") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(lines) != 5*len(layoutRows) {
		t.Fatalf("%d lines for %d layouts", len(lines), len(layoutRows))
	}
	for i, row := range layoutRows {
		name, rows := lines[5*i], lines[5*i+1:]
		if name != row.name {
			t.Fatalf("layout %s where %s should be", row.name, name)
		}
		for level, text := range row.levels {
			got, want := []rune(text), []rune(rows[level])
			if len(got) != len(layoutKeys) || len(want) != len(layoutKeys) {
				t.Fatalf("%s, level %d: %d and %d keys, want %d", name, level, len(got), len(want), len(layoutKeys))
			}
			plain := []rune(rows[level%2])
			for k := range got {
				if got[k] != want[k] && !(level > 1 && got[k] == nothing && want[k] == plain[k]) {
					t.Errorf("%s, level %d, key %s: %q, want %q", name, level, Usage(layoutKeys[k]), got[k], want[k])
				}
			}
		}
	}
}

// What is printed on keyboards of these countries, and so known without any data
// file. Names of keys are those of the places on a US board.
func TestKeycaps(t *testing.T) {
	for _, c := range []struct{ layout, text, want string }{
		{"us", "aZ1!~ \\|", "A SHIFT+Z 1 SHIFT+1 SHIFT+GRAVE SPACE BACKSLASH SHIFT+BACKSLASH"},
		{"us", "<>{}@\"", "SHIFT+COMMA SHIFT+DOT SHIFT+LBRACKET SHIFT+RBRACKET SHIFT+2 SHIFT+QUOTE"},
		{"gb", "\"@#~\\|£", "SHIFT+2 SHIFT+QUOTE BACKSLASH SHIFT+BACKSLASH LESS SHIFT+LESS SHIFT+3"},
		{"de", "yzYZ", "Z Y SHIFT+Z SHIFT+Y"},
		{"de", "äöüß", "QUOTE SEMICOLON LBRACKET MINUS"},
		{"de", "@€|\\{[]}~", "ALTGR+Q ALTGR+E ALTGR+LESS ALTGR+MINUS ALTGR+7 ALTGR+8 ALTGR+9 ALTGR+0 ALTGR+RBRACKET"},
		{"de", "^`", "GRAVE SPACE SHIFT+EQUAL SPACE"},
		{"de", "#'<>-_/?", "BACKSLASH SHIFT+BACKSLASH LESS SHIFT+LESS SLASH SHIFT+SLASH SHIFT+7 SHIFT+MINUS"},
		{"de", "é", "EQUAL E"},
		{"ch-fr", "éàèüç", "SEMICOLON QUOTE LBRACKET SHIFT+LBRACKET SHIFT+4"},
		{"ch-de", "éàèüç", "SHIFT+SEMICOLON SHIFT+QUOTE SHIFT+LBRACKET LBRACKET SHIFT+4"},
		{"ch-fr", "z@#$!", "Y ALTGR+2 ALTGR+3 BACKSLASH SHIFT+RBRACKET"},
		{"ch-fr", "^~`", "EQUAL SPACE ALTGR+EQUAL SPACE SHIFT+EQUAL SPACE"},
		{"fr", "aqzwm1é@<>", "Q A W Z SEMICOLON SHIFT+1 2 ALTGR+0 LESS SHIFT+LESS"},
		{"us-dvorak", "qwerty-_=", "X COMMA D O K T QUOTE SHIFT+QUOTE RBRACKET"},
		{"us-dvorak", "aoeu'\",.", "A S D F Q SHIFT+Q W E"},
		{"jp", "@`[{]}", "LBRACKET SHIFT+LBRACKET RBRACKET SHIFT+RBRACKET BACKSLASH SHIFT+BACKSLASH"},
		{"jp", ":*;+_^\"&'()", "QUOTE SHIFT+QUOTE SEMICOLON SHIFT+SEMICOLON SHIFT+INTL1 EQUAL SHIFT+2 SHIFT+6 SHIFT+7 SHIFT+8 SHIFT+9"},
		{"jp", "|", "SHIFT+INTL3"},
		{"br", "ç/?", "SEMICOLON INTL1 SHIFT+INTL1"},
		{"se", "åäö@$", "LBRACKET QUOTE SEMICOLON ALTGR+2 ALTGR+4"},
		{"es", "ñ", "SEMICOLON"},
		{"tr", "ıi", "I QUOTE"},
		{"cz", "ěšč123", "2 3 4 SHIFT+1 SHIFT+2 SHIFT+3"},
		{"pl", "ąż", "ALTGR+A ALTGR+Z"},
		{"ru", "йцу", "Q W E"},
		{"gr", "αβγ", "A B G"},
	} {
		chords, err := layout(t, c.layout).Chords(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.layout, err)
			continue
		}
		if got := join(chords); got != c.want {
			t.Errorf("%s types %s as\n\t%s, want\n\t%s", c.layout, c.text, got, c.want)
		}
	}
}

func join(chords []Chord) string {
	var w []string
	for _, c := range chords {
		w = append(w, c.String())
	}
	return strings.Join(w, " ")
}

// How ESXi's layouts part by what they can type of printable ASCII.
func TestCoverageOfASCII(t *testing.T) {
	const direct, dead, none = "one tap each", "some with a dead key", "not all"
	want := map[string]string{}
	for _, s := range strings.Fields("hr cz us fr it jp pl si tr us-dvorak gb") {
		want[s] = direct
	}
	for _, s := range strings.Fields("be br dk ee fi is de latam no pt es se ch-fr ch-de") {
		want[s] = dead
	}
	for _, s := range strings.Fields("gr ru ua") {
		want[s] = none
	}
	for _, l := range Layouts() {
		got := direct
		for r := ' '; r <= '~'; r++ {
			chords, err := l.Chords(string(r))
			switch {
			case err != nil:
				got = none
			case len(chords) > 1 && got == direct:
				got = dead
			}
			if chords, err := l.WithKeypad().Chords(string(r)); err != nil || len(chords) == 0 {
				t.Errorf("%s with the keypad cannot type %q: %v", l.Name(), r, err)
			}
		}
		if got != want[l.Short()] {
			t.Errorf("%s types ASCII: %s, want: %s", l.Name(), got, want[l.Short()])
		}
	}
}

// What XKB and the Linux console type on the same key is taken before what only
// XKB knows, and where that is nothing, Unsure says so.
func TestConsoleKeysFirst(t *testing.T) {
	for _, test := range []struct {
		layout, text, keys string
		unsure             []int
	}{
		{"us", "a~{", "A SHIFT+GRAVE SHIFT+LBRACKET", nil},
		{"be", "[^", "ALTGR+LBRACKET LBRACKET SPACE", nil},
		{"ch-de", "a]", "A ALTGR+RBRACKET", nil},
		{"it", "@ü", "", []int{}},
		{"de", "ä~~", "QUOTE ALTGR+RBRACKET ALTGR+RBRACKET", []int{1, 2}},
	} {
		l, err := FindLayout(test.layout)
		if err != nil {
			t.Fatal(err)
		}
		if chords, err := l.Chords(test.text); test.keys != "" && (err != nil || join(chords) != test.keys) {
			t.Errorf("%s, %q: typed as %s, %v; want %s", test.layout, test.text, join(chords), err, test.keys)
		}
		if got := l.Unsure(test.text); len(got) != len(test.unsure) || len(got) > 0 && !slices.Equal(got, test.unsure) {
			t.Errorf("%s, %q: unsure of %v, want %v", test.layout, test.text, got, test.unsure)
		}
	}
}

func TestUnmapped(t *testing.T) {
	for _, c := range []struct {
		layout, text string
		r            rune
		offset       int
	}{
		{"us", "abcé", 'é', 3},
		{"de", "äöü→字", '字', 4},
		{"us", "tab\there", '\t', 3},
		{"us", "line\n", '\n', 4},
		{"us", "nul\x00", 0, 3},
		{"us", "é", 'é', 0},
		{"de", "\xffa", unicode.ReplacementChar, 0},
		{"ru", "q", 'q', 0},
		{"de", "e\u0301", 0x301, 1}, // a combining character is no dead key
	} {
		chords, err := layout(t, c.layout).Chords(c.text)
		var u *UnmappedError
		if !errors.As(err, &u) {
			t.Errorf("%s types %q as %v, %v", c.layout, c.text, chords, err)
			continue
		}
		want := UnmappedError{layout(t, c.layout).Name(), c.r, c.offset}
		if *u != want || chords != nil {
			t.Errorf("%s, %q: got %#v and %d chords, want %#v", c.layout, c.text, *u, len(chords), want)
		}
		if c.r > 0x7f && strings.ContainsRune(err.Error(), c.r) {
			t.Errorf("the message holds the character, which may be part of a password: %v", err)
		}
	}
}

func TestKeypad(t *testing.T) {
	l := layout(t, "ru").WithKeypad()
	chords, err := l.Chords("й-q")
	if err != nil {
		t.Fatal(err)
	}
	// q is 113; the minus sign has a key of its own.
	if got, want := join(chords), "Q MINUS ALT+KP1+ ALT+KP1+ ALT+KP3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got := hexes(Reports(chords[2:]))
	want := "0400000000000000 0400590000000000 0400000000000000 0400590000000000 0400000000000000 04005b0000000000 0400000000000000 0000000000000000"
	if got != want {
		t.Errorf("Alt has to stay down from the first digit to the last:\n got %s\nwant %s", got, want)
	}
	if _, err := layout(t, "ru").Chords("q"); err == nil {
		t.Error("WithKeypad changed the layout it was called on")
	}
}

// typable returns every character that the layout claims to type.
func typable(l *Layout) []rune {
	var out []rune
	for r := range l.chords {
		out = append(out, r)
	}
	for r := range decompose {
		out = append(out, r)
	}
	for r := ' '; r <= '~'; r++ {
		out = append(out, r)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return slices.DeleteFunc(out, func(r rune) bool { return l.taps(r) == nil })
}

// Law: the layout reads back what it types, also through the reports.
func TestTypedTextReadsBack(t *testing.T) {
	for _, plain := range Layouts() {
		for _, l := range []*Layout{plain, plain.WithKeypad()} {
			chars := typable(l)
			rapid.Check(t, func(t *rapid.T) {
				text := string(rapid.SliceOfN(rapid.SampledFrom(chars), 0, 40).Draw(t, "text"))
				chords, err := l.Chords(text)
				if err != nil {
					t.Fatal(err)
				}
				back, err := DecodeChords(Reports(chords))
				if err != nil || !slices.Equal(back, chords) {
					t.Fatalf("%s: %v typed as reports come back as %v, %v", l.Name(), chords, back, err)
				}
				if got, err := l.Text(back); err != nil || got != text {
					t.Fatalf("%s: %q is read back as %q, %v", l.Name(), text, got, err)
				}
			})
		}
	}
}

// Each character alone too, since the law draws only some of them.
func TestEveryCharacterReadsBack(t *testing.T) {
	for _, l := range Layouts() {
		for _, r := range typable(l) {
			chords, _ := l.Chords(string(r))
			if got, err := l.Text(chords); err != nil || got != string(r) {
				t.Errorf("%s: %q is read back as %q, %v", l.Name(), r, got, err)
			}
		}
	}
}

func TestTextRefuses(t *testing.T) {
	l := layout(t, "de")
	for keys, why := range map[string]string{
		"F2":                        "no character",
		"CTRL+A":                    "no character",
		"ENTER":                     "no character",
		"GRAVE":                     "open at the end",
		"GRAVE Q":                   "does not join",
		"GRAVE GRAVE":               "does not join",
		"ALT+A":                     "no character",
		"ALT+KP7":                   "no printable",
		"ALT+KP9+ ALT+KP9+ ALT+KP9": "beyond ASCII",
		"GRAVE ALT+KP6+ ALT+KP5":    "no printable",
		"ALT+KP6+ F1":               "no character",
		"ALT+KP6+ ALT+F1":           "no character",
	} {
		chords, err := ParseChords(keys)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := l.Text(chords); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: got %q, %v; want an error with %q", keys, got, err, why)
		}
	}
	for _, keys := range []string{"RSHIFT+A", "SHIFT+A"} {
		c, _ := ParseChord(keys)
		if got, err := l.Text([]Chord{c}); got != "A" {
			t.Errorf("%s: got %q, %v", keys, got, err)
		}
	}
	for keys, want := range map[string]string{"EQUAL SPACE": "'", "SHIFT+EQUAL SPACE": "`", "GRAVE SPACE": "^", "ALTGR+LBRACKET SPACE": "\"", "GRAVE SHIFT+A": "Â"} {
		if got, err := l.Text(chordsOf(t, keys)); got != want {
			t.Errorf("dead keys %s: got %q, %v; want %q", keys, got, err, want)
		}
	}
	if got, err := l.Text([]Chord{{Key: 0x32}}); got != "#" {
		t.Errorf("the key of European boards: got %q, %v", got, err)
	}
}

func FuzzLayout(f *testing.F) {
	f.Add(8, "Grüße ^`~", false)
	f.Add(17, "q\x00\xff", true)
	f.Fuzz(func(t *testing.T, n int, text string, keypad bool) {
		l := Layouts()[uint(n)%uint(len(Layouts()))]
		if keypad {
			l = l.WithKeypad()
		}
		chords, err := l.Chords(text)
		if err != nil {
			var u *UnmappedError
			if !errors.As(err, &u) || []rune(text)[u.Offset] != u.Rune {
				t.Fatalf("%s, %q: %#v", l.Name(), text, err)
			}
			return
		}
		if got, err := l.Text(chords); err != nil || got != text {
			t.Fatalf("%s: %q is read back as %q, %v", l.Name(), text, got, err)
		}
	})
}
