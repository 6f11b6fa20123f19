package dcui

import (
	"sync"
	"unicode"

	"github.com/labctl/labctl/hid"
)

// Keys that planners and tests name often.
var (
	F2    = hid.Chord{Key: hid.KeyF2}
	F4    = hid.Chord{Key: hid.KeyF1 + 3}
	F11   = hid.Chord{Key: hid.KeyF11}
	F12   = hid.Chord{Key: hid.KeyF12}
	Enter = hid.Chord{Key: hid.KeyEnter}
	Esc   = hid.Chord{Key: hid.KeyEsc}
	Tab   = hid.Chord{Key: hid.KeyTab}
	Space = hid.Chord{Key: hid.KeySpace}
	Up    = hid.Chord{Key: hid.KeyUp}
	Down  = hid.Chord{Key: hid.KeyDown}
	AltF1 = hid.Chord{Mods: hid.Alt, Key: hid.KeyF1}
	AltF2 = hid.Chord{Mods: hid.Alt, Key: hid.KeyF2}
)

const keyPadEnter hid.Usage = 0x58

// unmapped is a character that is typed and not known, such as a code on the
// keypad beyond ASCII. It equals no character of a password or an address, so
// it never passes for one.
const unmapped = '\uFFFD'

// action is what a key means to the console, apart from a character.
type action uint8

const (
	none action = iota
	up
	down
	left
	right
	home
	end
	tab
	backTab
	enterKey
	esc
	space
	backspace
	del
	fkey2
	fkey4
	fkey11
	fkey12
)

var actions = [256]action{
	hid.KeyUp: up, hid.KeyDown: down, hid.KeyLeft: left, hid.KeyRight: right, hid.KeyHome: home, hid.KeyEnd: end,
	hid.KeyTab: tab, hid.KeyEnter: enterKey, keyPadEnter: enterKey, hid.KeyEsc: esc, hid.KeySpace: space,
	hid.KeyBackspace: backspace, hid.KeyDelete: del,
	hid.KeyF2: fkey2, hid.KeyF1 + 3: fkey4, hid.KeyF11: fkey11, hid.KeyF12: fkey12,
}

func meaning(k hid.Chord) action {
	act := actions[k.Key]
	if k.Mods == 0 {
		return act
	}
	if k.Mods&^(hid.Shift|hid.RightShift) != 0 {
		return none
	}
	switch act {
	case tab:
		return backTab
	case enterKey, esc, space, backspace:
		return act
	}
	return none
}

// keymaps holds what every key types on every layout, by level (plain, Shift,
// AltGr, both) and usage: a character, the combining character of a dead key,
// or 0. A map would do, but that is where a belief with the layout open spends
// its time.
type keymaps struct {
	runes [layoutCount][4][256]rune
	// dead holds the keys that are dead on some layout. Only those have to be
	// looked up where no character is read.
	dead [4][256]bool
	// same holds, by key, the layouts that agree with each layout on it.
	same [4][256][layoutCount]uint32
}

// maps is built on first use: most commands type nothing.
var keymap = sync.OnceValue(func() *keymaps {
	m := new(keymaps)
	for i, name := range layoutNames {
		l, err := hid.FindLayout(name.short)
		if err != nil {
			continue // a test compares the names with those of hid
		}
		for level := range 4 {
			for u := range 256 {
				r := l.Rune(hid.Chord{Mods: levels[level], Key: hid.Usage(u)})
				m.runes[i][level][u] = r
				m.dead[level][u] = m.dead[level][u] || hid.Dead(r)
			}
		}
	}
	for level := range 4 {
		for u := range 256 {
			for i := range layoutCount {
				for j := range layoutCount {
					if m.runes[i][level][u] == m.runes[j][level][u] {
						m.same[level][u][i] |= 1 << j
					}
				}
			}
		}
	}
	return m
})

var levels = [4]hid.Mods{0, hid.Shift, hid.AltGr, hid.Shift | hid.AltGr}

// level gives the level that modifiers choose; ok is false where they make the
// chord a command and no character.
func level(m hid.Mods) (n int, ok bool) {
	if m&(hid.Shift|hid.RightShift) != 0 {
		n = 1
	}
	if m&hid.AltGr != 0 {
		n += 2
	}
	return n, m&^(hid.Shift|hid.RightShift|hid.AltGr) == 0
}

// padDigit gives the digit of a key on the keypad.
func padDigit(u hid.Usage) (digit uint16, ok bool) {
	switch {
	case u == hid.KeyKP0:
		return 0, true
	case u >= hid.KeyKP1 && u < hid.KeyKP0:
		return uint16(u-hid.KeyKP1) + 1, true
	}
	return 0, false
}

// invert gives a letter in the other case, as Caps Lock does.
func invert(r rune) rune {
	if unicode.IsUpper(r) {
		return unicode.ToLower(r)
	}
	return unicode.ToUpper(r)
}
