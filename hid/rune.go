package hid

// Rune returns what one chord types on this layout: a character, the combining
// character of the accent for a dead key (see [Dead]), or 0 where it types none.
func (l *Layout) Rune(c Chord) rune {
	if c.Mods&RightShift != 0 {
		c.Mods = c.Mods&^RightShift | Shift
	}
	if c.Key == 0x32 {
		c.Key = 0x31 // European boards send this usage from the key in that place
	}
	c.Keep = false
	return l.runes[c]
}

// Dead says whether a rune that Rune returned stands for a dead key: one that
// types nothing by itself and puts its accent on the next character.
func Dead(r rune) bool { return isDead(r) }

// Compose returns what a dead key makes of the character typed after it; ok is
// false where the two do not join.
func Compose(dead, base rune) (r rune, ok bool) {
	r, ok = compose[deadPair{dead, base}]
	return r, ok
}
