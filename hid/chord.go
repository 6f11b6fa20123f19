package hid

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Usage is a key by its number on page 7 of the HID Usage Tables. It names a
// place on the keyboard, not a character: what the place gives is the layout's
// business.
type Usage byte

// Keys that programs press by name. The letters, digits and signs are where a US
// keyboard has them.
const (
	KeyA         Usage = 0x04
	KeyZ         Usage = 0x1d
	Key1         Usage = 0x1e
	Key0         Usage = 0x27
	KeyEnter     Usage = 0x28
	KeyEsc       Usage = 0x29
	KeyBackspace Usage = 0x2a
	KeyTab       Usage = 0x2b
	KeySpace     Usage = 0x2c
	KeyCapsLock  Usage = 0x39
	KeyF1        Usage = 0x3a
	KeyF2        Usage = 0x3b
	KeyF11       Usage = 0x44
	KeyF12       Usage = 0x45
	KeyScroll    Usage = 0x47
	KeyInsert    Usage = 0x49
	KeyHome      Usage = 0x4a
	KeyPgUp      Usage = 0x4b
	KeyDelete    Usage = 0x4c
	KeyEnd       Usage = 0x4d
	KeyPgDn      Usage = 0x4e
	KeyRight     Usage = 0x4f
	KeyLeft      Usage = 0x50
	KeyDown      Usage = 0x51
	KeyUp        Usage = 0x52
	KeyNumLock   Usage = 0x53
	KeyKP1       Usage = 0x59
	KeyKP0       Usage = 0x62

	firstKey      Usage = 0x04 // below are states of the keyboard, not keys
	firstModifier Usage = 0xe0
)

// usageNames holds the words of the key notation, by usage from firstKey on.
var usageNames = func() map[Usage]string {
	names := map[Usage]string{}
	u := firstKey
	for _, w := range strings.Fields(`A B C D E F G H I J K L M N O P Q R S T U V W X Y Z 1 2 3 4 5 6 7 8 9 0
		ENTER ESC BACKSPACE TAB SPACE MINUS EQUAL LBRACKET RBRACKET BACKSLASH HASH SEMICOLON QUOTE GRAVE COMMA DOT SLASH
		CAPSLOCK F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12 PRINT SCROLLLOCK PAUSE INSERT HOME PGUP DELETE END PGDN
		RIGHT LEFT DOWN UP NUMLOCK KPSLASH KPSTAR KPMINUS KPPLUS KPENTER KP1 KP2 KP3 KP4 KP5 KP6 KP7 KP8 KP9 KP0 KPDOT
		LESS MENU`) {
		names[u] = w
		u++
	}
	for i := range 12 {
		names[0x68+Usage(i)] = "F" + strconv.Itoa(13+i)
	}
	names[0x67], names[0x85] = "KPEQUAL", "KPCOMMA"
	for i := range 9 {
		names[0x87+Usage(i)] = "INTL" + strconv.Itoa(1+i)
		names[0x90+Usage(i)] = "LANG" + strconv.Itoa(1+i)
	}
	return names
}()

// usages is the way back, with the second names that people write.
var usages = func() map[string]Usage {
	byName := map[string]Usage{}
	for u, w := range usageNames {
		byName[w] = u
	}
	for second, w := range map[string]string{"ESCAPE": "ESC", "RETURN": "ENTER", "DEL": "DELETE", "INS": "INSERT",
		"PAGEUP": "PGUP", "PAGEDOWN": "PGDN"} {
		byName[second] = byName[w]
	}
	return byName
}()

// String returns the word of the key notation, or 0x and two digits for a key
// that has none.
func (u Usage) String() string {
	if w, ok := usageNames[u]; ok {
		return w
	}
	if u >= firstModifier && u < firstModifier+8 {
		return modNames[u-firstModifier]
	}
	return fmt.Sprintf("0x%02x", byte(u))
}

// Mods is a set of modifiers, as the first byte of a report holds it.
type Mods byte

// The modifiers; those without a side are the left ones.
const (
	Ctrl Mods = 1 << iota
	Shift
	Alt
	GUI
	RightCtrl
	RightShift
	AltGr
	RightGUI
)

var modNames = [8]string{"CTRL", "SHIFT", "ALT", "GUI", "RCTRL", "RSHIFT", "ALTGR", "RGUI"}

var modsByName = func() map[string]Mods {
	byName := map[string]Mods{"LCTRL": Ctrl, "LSHIFT": Shift, "LALT": Alt, "LGUI": GUI, "RALT": AltGr}
	for bit, w := range modNames {
		byName[w] = 1 << bit
	}
	return byName
}()

// String joins the names of the modifiers with plus signs.
func (m Mods) String() string {
	var w []string
	for bit, name := range modNames {
		if m&(1<<bit) != 0 {
			w = append(w, name)
		}
	}
	return strings.Join(w, "+")
}

// Chord is one tap: a key with modifiers held, or modifiers alone.
type Chord struct {
	Mods Mods
	Key  Usage // 0: only the modifiers are tapped
	// Keep leaves the modifiers down for the next chord, which has the same. A
	// code that is typed on the keypad under Alt needs it: the character comes
	// when Alt is released.
	Keep bool
}

// String returns the chord in the key notation: F2, ALT+F2, CTRL+ALT+DELETE. A
// plus sign at the end stands for Keep.
func (c Chord) String() string {
	s := c.Mods.String()
	if c.Key != 0 || s == "" {
		if s != "" {
			s += "+"
		}
		s += c.Key.String()
	}
	if c.Keep {
		s += "+"
	}
	return s
}

// NotationError is a word that is not in the key notation.
type NotationError struct {
	Word   string
	Offset int // bytes of the text before the word
	Reason string
}

func (e *NotationError) Error() string {
	return fmt.Sprintf("reading key %q at offset %d: %s", e.Word, e.Offset, e.Reason)
}

// ParseChord reads one chord: names of modifiers and at most one key, joined by
// plus signs, in capitals or not. Letters, digits and the words for signs mean
// places on a US keyboard; a character of the host's own layout is text and
// comes from [Layout.Chords]. The error is a *NotationError.
func ParseChord(s string) (Chord, error) {
	return parseChord(s, 0)
}

func parseChord(s string, offset int) (Chord, error) {
	var c Chord
	fail := func(format string, args ...any) (Chord, error) {
		return Chord{}, &NotationError{Word: s, Offset: offset, Reason: fmt.Sprintf(format, args...)}
	}
	rest, keep := strings.CutSuffix(s, "+")
	c.Keep = keep
	for w := range strings.SplitSeq(rest, "+") {
		w = strings.ToUpper(w)
		if m, ok := modsByName[w]; ok {
			if c.Key != 0 {
				return fail("a modifier comes before its key")
			}
			if c.Mods&m != 0 {
				return fail("%s is there twice", m)
			}
			c.Mods |= m
			continue
		}
		u, ok := usages[w]
		if hex, isHex := strings.CutPrefix(w, "0X"); !ok && isHex && len(hex) == 2 {
			n, err := strconv.ParseUint(hex, 16, 8)
			u, ok = Usage(n), err == nil && Usage(n) >= firstKey && Usage(n) < firstModifier
		}
		switch {
		case !ok && w == "":
			return fail("a key is missing")
		case !ok:
			return fail("no such key")
		case c.Key != 0:
			return fail("two keys in one chord")
		}
		c.Key = u
	}
	if c.Keep && (c.Mods == 0 || c.Key == 0) {
		return fail("nothing to keep down: want modifiers and a key before the last plus sign")
	}
	return c, nil
}

// MaxChords is the greatest number of chords that ParseChords returns.
const MaxChords = 10_000

// ParseChords reads chords that are parted by blanks. A count after a chord
// repeats it: DOWN×4, DOWN x4, DOWNx4. (0x and two hexadecimal digits are a
// usage.) The error is a *NotationError.
func ParseChords(s string) ([]Chord, error) {
	var out []Chord
	for start := 0; start < len(s); {
		if n := strings.IndexFunc(s[start:], notSpace); n != 0 {
			if n < 0 {
				break
			}
			start += n
		}
		end := len(s)
		if n := strings.IndexFunc(s[start:], unicode.IsSpace); n >= 0 {
			end = start + n
		}
		w, at := s[start:end], start
		start = end
		c, err := parseChord(w, at)
		times := 1
		if err != nil {
			key, count, ok := cutCount(w)
			if !ok {
				return nil, err
			}
			if times, ok = parseCount(count); !ok {
				return nil, &NotationError{w, at, fmt.Sprintf("want a count from 1 to %d", MaxChords)}
			}
			if key != "" {
				c, err = parseChord(key, at)
			} else if len(out) > 0 {
				c, err = out[len(out)-1], nil
				times-- // one is there already
			} else {
				err = &NotationError{w, at, "no key to repeat"}
			}
			if err != nil {
				return nil, err
			}
		}
		if len(out)+times > MaxChords {
			return nil, &NotationError{w, at, fmt.Sprintf("more than %d keys", MaxChords)}
		}
		for range times {
			out = append(out, c)
		}
	}
	return out, nil
}

func notSpace(r rune) bool { return !unicode.IsSpace(r) }

// cutCount parts KEY×4 and KEYx4.
func cutCount(w string) (key, count string, ok bool) {
	if key, count, ok = strings.Cut(w, "×"); ok {
		return key, count, true
	}
	digits := len(strings.TrimRight(w, "0123456789"))
	if digits == 0 || digits == len(w) || w[digits-1]|0x20 != 'x' {
		return "", "", false
	}
	return w[:digits-1], w[digits:], true
}

func parseCount(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n > 0 && n <= MaxChords && s[0] != '+'
}
