package hid

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseChord(t *testing.T) {
	for s, want := range map[string]Chord{
		"F1":              {Key: 0x3a},
		"f12":             {Key: 0x45},
		"ENTER":           {Key: 0x28},
		"Return":          {Key: 0x28},
		"ESC":             {Key: 0x29},
		"TAB":             {Key: 0x2b},
		"UP":              {Key: 0x52},
		"RIGHT":           {Key: 0x4f},
		"PGDN":            {Key: 0x4e},
		"DELETE":          {Key: 0x4c},
		"BACKSPACE":       {Key: 0x2a},
		"z":               {Key: 0x1d},
		"0":               {Key: 0x27},
		"KP0":             {Key: 0x62},
		"KPENTER":         {Key: 0x58},
		"LESS":            {Key: 0x64},
		"F24":             {Key: 0x73},
		"INTL1":           {Key: 0x87},
		"ALT+F2":          {Mods: 4, Key: 0x3b},
		"CTRL+ALT+DELETE": {Mods: 5, Key: 0x4c},
		"alt+ctrl+del":    {Mods: 5, Key: 0x4c},
		"GUI+RCTRL+A":     {Mods: 0x18, Key: 4},
		"ALTGR+Q":         {Mods: 0x40, Key: 0x14},
		"RALT+Q":          {Mods: 0x40, Key: 0x14},
		"SHIFT":           {Mods: 2},
		"0x65":            {Key: 0x65},
		"ALT+KP4+":        {Mods: 4, Key: 0x5c, Keep: true},
	} {
		got, err := ParseChord(s)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", s, got, err, want)
		}
	}
	for s, why := range map[string]string{
		"":          "missing",
		"F0":        "no such key",
		"F25":       "no such key",
		"<F2>":      "no such key",
		"ENTR":      "no such key",
		"A+B":       "two keys",
		"A+CTRL":    "before its key",
		"ALT+ALT+A": "twice",
		"ALT++A":    "missing",
		"+":         "missing",
		"A+":        "nothing to keep",
		"ALT+":      "nothing to keep",
		"0x01":      "no such key",
		"0xe0":      "no such key",
		"0x4":       "no such key",
		"ALT F2":    "no such key",
	} {
		c, err := ParseChord(s)
		var n *NotationError
		if !errors.As(err, &n) || !strings.Contains(n.Reason, why) || c != (Chord{}) {
			t.Errorf("%q: got %v, %v; want an error with %q", s, c, err, why)
		}
	}
}

func TestParseChords(t *testing.T) {
	for s, want := range map[string]string{
		"":                           "",
		"  F2\n\tTAB ":               "F2 TAB",
		"DOWN×4 ENTER":               "DOWN DOWN DOWN DOWN ENTER",
		"DOWN x2 ENTER x1":           "DOWN DOWN ENTER",
		"down ×2":                    "DOWN DOWN",
		"DOWNx3":                     "DOWN DOWN DOWN",
		"F1x2 ALT+F2X2":              "F1 F1 ALT+F2 ALT+F2",
		"x x2":                       "X X",
		"0x10":                       "M",
		"ALT+KP4+ ALT+KP5":           "ALT+KP4+ ALT+KP5",
		"CTRL+ALT+F1×2 SHIFT+TAB ×2": "CTRL+ALT+F1 CTRL+ALT+F1 SHIFT+TAB SHIFT+TAB",
	} {
		got, err := ParseChords(s)
		if err != nil || join(got) != want {
			t.Errorf("%q: got %s, %v; want %s", s, join(got), err, want)
		}
	}
	for s, want := range map[string]NotationError{
		"F2  HELLO":         {"HELLO", 4, "no such key"},
		"x4":                {"x4", 0, "no key to repeat"},
		"F2 ×0":             {"×0", 3, "want a count from 1 to 10000"},
		"F2 DOWN×":          {"DOWN×", 3, "want a count from 1 to 10000"},
		"F2 DOWN×+1":        {"DOWN×+1", 3, "want a count from 1 to 10000"},
		"DOWN×99999":        {"DOWN×99999", 0, "want a count from 1 to 10000"},
		"DOWN×9999 A B":     {"B", 13, "more than 10000 keys"},
		"F2 NOKEY×3":        {"NOKEY", 3, "no such key"},
		"é x99999999999999": {"é", 0, "no such key"},
	} {
		_, err := ParseChords(s)
		var n *NotationError
		if !errors.As(err, &n) || *n != want {
			t.Errorf("%q: got %#v, want %#v", s, err, want)
		}
	}
}

func genChord() *rapid.Generator[Chord] {
	return rapid.Custom(func(t *rapid.T) Chord {
		c := Chord{
			Mods: Mods(rapid.Byte().Draw(t, "mods")),
			Key:  Usage(rapid.IntRange(int(firstKey), int(firstModifier)-1).Draw(t, "key")),
		}
		switch {
		case c.Mods == 0:
		case rapid.IntRange(0, 9).Draw(t, "alone") == 0:
			c.Key = 0
		default:
			c.Keep = rapid.Bool().Draw(t, "keep")
		}
		return c
	})
}

// Law: a chord is read back from its name.
func TestChordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := genChord().Draw(t, "chord")
		if got, err := ParseChord(c.String()); err != nil || got != c {
			t.Fatalf("%+v is written %s and read as %+v, %v", c, c, got, err)
		}
	})
}

func FuzzParseChords(f *testing.F) {
	for _, s := range []string{"F2 TAB DOWN×4 ENTER", "DOWN x4", "ALT+KP4+", "0x65 x0", "×", "+", "a\x00+", "F2 \xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		chords, err := ParseChords(s)
		if err != nil {
			var n *NotationError
			if !errors.As(err, &n) || !strings.HasPrefix(s[n.Offset:], n.Word) {
				t.Fatalf("%q: %#v", s, err)
			}
			return
		}
		again, err := ParseChords(join(chords))
		if err != nil || join(again) != join(chords) {
			t.Fatalf("%q is %s, which is read as %s, %v", s, join(chords), join(again), err)
		}
	})
}
