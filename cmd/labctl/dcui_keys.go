package main

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labctl/labctl/hid"
)

// A terminal sends bytes, the model takes chords. typed is what the bytes of
// one key amount to: a chord, a character to be composed on the host's layout,
// or a command to the screen itself.
type typed struct {
	chord   hid.Chord
	char    rune
	command byte // a control character that keyReader leaves to the screen
}

// escapeWait is how long a lone ESC waits for the rest of a sequence. Terminals
// send a sequence in one go; a network may tear it apart for a moment.
const escapeWait = 50 * time.Millisecond

// Control characters with a meaning of their own.
const (
	ctrlAltF   = 0x01 // A: the next key is ALT+Fn
	ctrlC      = 0x03
	ctrlFn     = 0x06 // F: the next key is Fn
	ctrlRedraw = 0x0c // L
	ctrlNext   = 0x0e // N: next screen
	ctrlPrev   = 0x10 // P: previous screen
	ctrlQuit   = 0x11 // Q
	ctrlReset  = 0x12 // R: start again
	ctrlIdle   = 0x14 // T: time passes
	escape     = 0x1b
)

// keyReader takes a terminal's bytes apart. ESC followed by another key is ESC
// and that key, never an ALT chord: blind typing begins with ESC several times,
// and what a terminal puts ALT into is a parameter of the sequence.
type keyReader struct {
	rest   []byte
	prefix byte // ctrlFn or ctrlAltF came before
}

// feed gives what bytes amount to. What may be the start of a sequence is kept
// for the next call.
func (d *keyReader) feed(b []byte) []typed { return d.read(b, false) }

// flush gives what was kept, taken by itself.
func (d *keyReader) flush() []typed { return d.read(nil, true) }

// waiting says that something was kept.
func (d *keyReader) waiting() bool { return len(d.rest) > 0 }

func (d *keyReader) read(b []byte, last bool) []typed {
	d.rest = append(d.rest, b...)
	var out []typed
	for len(d.rest) > 0 {
		t, n := d.one(d.rest, last)
		if n == 0 {
			break
		}
		d.rest = d.rest[n:]
		if t != (typed{}) {
			out = append(out, d.prefixed(t)...)
		}
	}
	return out
}

// functionRow is where the twelve keys are that stand for F1 to F12 after a
// prefix: the row of digits.
const functionRow = "1234567890-="

func (d *keyReader) prefixed(t typed) []typed {
	if t.command == ctrlFn || t.command == ctrlAltF {
		d.prefix = t.command
		return nil
	}
	p := d.prefix
	d.prefix = 0
	if p == 0 || t.char == 0 {
		return []typed{t}
	}
	c := hid.Chord{}
	if p == ctrlAltF {
		c.Mods = hid.Alt
	}
	switch i := strings.IndexRune(functionRow, t.char); {
	case i >= 0:
		c.Key = hid.KeyF1 + hid.Usage(i)
	case t.char == 'c':
		c.Key = hid.KeyCapsLock
	case t.char == 'n':
		c.Key = hid.KeyNumLock
	case t.char == 's':
		c.Key = hid.KeyScroll
	case t.char == 'q': // a line with flow control keeps ctrl+q to itself
		return []typed{{command: ctrlQuit}}
	default:
		return nil
	}
	return []typed{{chord: c}}
}

func tapOf(u hid.Usage) typed { return typed{chord: hid.Chord{Key: u}} }

// one reads one key; n is 0 where more bytes have to come first.
func (d *keyReader) one(b []byte, last bool) (t typed, n int) {
	switch c := b[0]; {
	case c == escape:
		return d.sequence(b, last)
	case c == '\r' || c == '\n':
		return tapOf(hid.KeyEnter), 1
	case c == '\t':
		return tapOf(hid.KeyTab), 1
	case c == 0x7f || c == 0x08:
		return tapOf(hid.KeyBackspace), 1
	case c < 0x20:
		return typed{command: c}, 1
	case c < utf8.RuneSelf:
		return typed{char: rune(c)}, 1
	}
	if !utf8.FullRune(b) && !last {
		return typed{}, 0
	}
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError {
		return typed{}, n
	}
	return typed{char: r}, n
}

// final maps the last byte of a sequence without a number (xterm, VT100).
var final = map[byte]hid.Usage{
	'A': hid.KeyUp, 'B': hid.KeyDown, 'C': hid.KeyRight, 'D': hid.KeyLeft, 'H': hid.KeyHome, 'F': hid.KeyEnd,
	'P': hid.KeyF1, 'Q': hid.KeyF1 + 1, 'R': hid.KeyF1 + 2, 'S': hid.KeyF1 + 3, 'M': hid.KeyEnter,
}

// numbered maps the number of a sequence that ends in a tilde (VT220).
var numbered = map[int]hid.Usage{
	1: hid.KeyHome, 2: hid.KeyInsert, 3: hid.KeyDelete, 4: hid.KeyEnd, 5: hid.KeyPgUp, 6: hid.KeyPgDn, 7: hid.KeyHome, 8: hid.KeyEnd,
	11: hid.KeyF1, 12: hid.KeyF1 + 1, 13: hid.KeyF1 + 2, 14: hid.KeyF1 + 3, 15: hid.KeyF1 + 4,
	17: hid.KeyF1 + 5, 18: hid.KeyF1 + 6, 19: hid.KeyF1 + 7, 20: hid.KeyF1 + 8, 21: hid.KeyF1 + 9, 23: hid.KeyF11, 24: hid.KeyF12,
}

// longest is the length in bytes beyond which something is no key sequence.
const longest = 24

// sequence reads what begins with ESC. A number of modifiers is 1 + shift 1,
// alt 2, control 4 (xterm).
func (d *keyReader) sequence(b []byte, last bool) (typed, int) {
	alone := func() (typed, int) { return tapOf(hid.KeyEsc), 1 }
	if len(b) == 1 {
		if last {
			return alone()
		}
		return typed{}, 0
	}
	switch b[1] {
	case 'O':
		if len(b) == 2 {
			if last {
				return alone()
			}
			return typed{}, 0
		}
		if u, ok := final[b[2]]; ok {
			return tapOf(u), 3
		}
		return alone()
	case '[':
	default:
		return alone()
	}
	// A text console spells F1 to F5 as ESC [ [ A to E.
	if len(b) >= 3 && b[2] == '[' {
		switch {
		case len(b) == 3 && !last:
			return typed{}, 0
		case len(b) > 3 && b[3] >= 'A' && b[3] <= 'E':
			return tapOf(hid.KeyF1 + hid.Usage(b[3]-'A')), 4
		}
		return alone()
	}
	end := 2
	for end < len(b) && (b[end] < 0x40 || b[end] > 0x7e) {
		if b[end] < 0x20 || end > longest {
			return alone()
		}
		end++
	}
	if end == len(b) {
		if last {
			return alone()
		}
		return typed{}, 0
	}
	first, second, _ := strings.Cut(string(b[2:end]), ";")
	number, _ := strconv.Atoi(first)
	var mods hid.Mods
	if m, err := strconv.Atoi(second); err == nil && m > 1 {
		for bit, mod := range []hid.Mods{hid.Shift, hid.Alt, hid.Ctrl} {
			if (m-1)&(1<<bit) != 0 {
				mods |= mod
			}
		}
	}
	var t typed
	switch c := b[end]; {
	case c == '~':
		if u, ok := numbered[number]; ok {
			t = tapOf(u)
		}
	case c == 'Z':
		t = typed{chord: hid.Chord{Mods: hid.Shift, Key: hid.KeyTab}}
	default:
		if u, ok := final[c]; ok && c != 'M' {
			t = tapOf(u)
		}
	}
	if t != (typed{}) {
		t.chord.Mods |= mods
	}
	return t, end + 1 // a sequence without a meaning here is passed over whole
}
