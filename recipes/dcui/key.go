package dcui

import "unicode"

// Key is one chord: a key held with modifiers, pressed and released.
//
// Both numbers are those of USB HID: Mod is the first byte of a boot keyboard
// report (HID 1.11, 8.3), Usage is from the keyboard page (HID Usage Tables,
// section 10).
type Key struct{ Mod, Usage byte }

// Modifier bits of a boot keyboard report.
const (
	LeftCtrl byte = 1 << iota
	LeftShift
	LeftAlt
	LeftGUI
	RightCtrl
	RightShift
	RightAlt
	RightGUI
)

// Usages that the console gives a meaning of their own.
const (
	keyA, keyZ    = 0x04, 0x1D
	key1, key0    = 0x1E, 0x27
	keyEnter      = 0x28
	keyEsc        = 0x29
	keyBackspace  = 0x2A
	keyTab        = 0x2B
	keySpace      = 0x2C
	keyMinus      = 0x2D
	keyComma      = 0x36
	keyDot        = 0x37
	keySlash      = 0x38
	keyCapsLock   = 0x39
	keyF1, keyF12 = 0x3A, 0x45
	keyScrollLock = 0x47
	keyHome       = 0x4A
	keyPageUp     = 0x4B
	keyDelete     = 0x4C
	keyEnd        = 0x4D
	keyPageDown   = 0x4E
	keyRight      = 0x4F
	keyLeft       = 0x50
	keyDown       = 0x51
	keyUp         = 0x52
	keyNumLock    = 0x53
	keyPadEnter   = 0x58
	keyISO        = 0x64 // beside the left shift, on keyboards that have it
)

// Keys that planners and tests name often.
var (
	F2    = Key{Usage: keyF1 + 1}
	F4    = Key{Usage: keyF1 + 3}
	F11   = Key{Usage: keyF1 + 10}
	F12   = Key{Usage: keyF12}
	Enter = Key{Usage: keyEnter}
	Esc   = Key{Usage: keyEsc}
	Tab   = Key{Usage: keyTab}
	Space = Key{Usage: keySpace}
	Up    = Key{Usage: keyUp}
	Down  = Key{Usage: keyDown}
	AltF1 = Key{Mod: LeftAlt, Usage: keyF1}
	AltF2 = Key{Mod: LeftAlt, Usage: keyF1 + 1}
)

// unmapped is what a key types when this model does not know the character. It
// equals no character of a password or an address, so it never passes for one.
const unmapped = '\uFFFD'

// usShifted and usPlain are the rows of a US keyboard from usage 0x1E to 0x38,
// Enter to Space left out as NUL.
const (
	usPlain   = "1234567890\x00\x00\x00\x00\x00-=[]\\\\;'`,./"
	usShifted = "!@#$%^&*()\x00\x00\x00\x00\x00_+{}||:\"~<>?"
	gbPlain   = "1234567890\x00\x00\x00\x00\x00-=[]##;'`,./"
	gbShifted = "!\"\x00$%^&*()\x00\x00\x00\x00\x00_+{}~~:@\x00<>?"
	// Letters in the order of usages 0x04 to 0x1D.
	qwertz = "abcdefghijklmnopqrstuvwxzy"
	azerty = "qbcdefghijkl\x00noparstuvzxyw"
	dvorak = "axje.uidchtnmbrl'poygk,qf;"
)

type runeTable [layoutCount][2][256]rune

// typedBy holds the character of every key, plain and shifted, by layout.
var typedBy = makeRunes()

// decode gives the character that a chord types on a console with this
// keymap, Caps Lock off; 0 for a chord that types none.
//
// US and United Kingdom are whole. Of the other layouts only the letters,
// digits and marks are known that stay or move in a way that is common to
// their family; all else is unmapped.
func decode(layout int, k Key) rune {
	if k.Mod&^(LeftShift|RightShift) != 0 {
		if k.Mod&RightAlt != 0 && typedBy[layout][0][k.Usage] != 0 {
			return unmapped // third level
		}
		return 0
	}
	shift := 0
	if k.Mod != 0 {
		shift = 1
	}
	return typedBy[layout][shift][k.Usage]
}

func makeRunes() *runeTable {
	var t runeTable
	for l := range layoutCount {
		name := layoutNames[l].short
		plain, shifted := usPlain, usShifted
		if name == "gb" {
			plain, shifted = gbPlain, gbShifted
		}
		for i := range len(plain) {
			u := key1 + i
			t[l][0][u], t[l][1][u] = rune(plain[i]), rune(shifted[i])
			if i >= keyEnter-key1 && i <= keySpace-key1 {
				continue // typed by no layout
			}
			if plain[i] == 0 {
				t[l][0][u] = unmapped
			}
			if shifted[i] == 0 {
				t[l][1][u] = unmapped
			}
			if name == "us" || name == "gb" {
				continue
			}
			t[l][1][u] = unmapped
			digit := u <= key0 && name != "fr" && name != "be" && name != "cz"
			mark := (u == keyComma || u == keyDot) && name != "fr" && name != "be" && name != "us-dvorak"
			if !digit && !mark {
				t[l][0][u] = unmapped
			}
		}
		t[l][0][keyISO], t[l][1][keyISO] = unmapped, unmapped
		switch name {
		case "us":
			t[l][0][keyISO], t[l][1][keyISO] = '<', '>'
		case "gb":
			t[l][0][keyISO], t[l][1][keyISO] = '\\', '|'
		}
		letters := ""
		switch name {
		case "de", "ch-de", "ch-fr", "cz", "hr", "si":
			letters = qwertz
		case "fr", "be":
			letters = azerty
		case "us-dvorak":
			letters = dvorak
		}
		for i := range rune(26) {
			u, r := keyA+i, 'a'+i
			if letters != "" {
				r = rune(letters[i])
			}
			switch {
			case name == "gr" || name == "ru" || name == "ua", r == 0, name == "tr" && r == 'i':
				t[l][0][u], t[l][1][u] = unmapped, unmapped
			case unicode.IsLetter(r):
				t[l][0][u], t[l][1][u] = r, unicode.ToUpper(r)
			default:
				t[l][0][u], t[l][1][u] = r, unmapped
			}
		}
		if letters == azerty {
			t[l][0][keySlash-5], t[l][1][keySlash-5] = 'm', 'M' // the key of a US semicolon
		}
		if letters == dvorak {
			for u, r := range map[int]rune{0x33: 's', 0x36: 'w', 0x37: 'v', 0x38: 'z'} {
				t[l][0][u], t[l][1][u] = r, unicode.ToUpper(r)
			}
		}
		t[l][0][keySpace], t[l][1][keySpace] = ' ', ' '
	}
	return &t
}

// invert gives a letter in the other case, as Caps Lock does.
func invert(r rune) rune {
	if unicode.IsUpper(r) {
		return unicode.ToLower(r)
	}
	return unicode.ToUpper(r)
}
