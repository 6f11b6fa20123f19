package hid

import (
	"fmt"
	"strings"
	"sync"
)

// Layout says which chords give which characters on a host's console.
//
// The tables are those of XKB, while ESXi loads Linux console keymaps of the
// same names. Both were typed on a Linux console beside each other, with the
// keymaps of Debian's console-data: where XKB has several keys for a character,
// the one that the console has too is taken, and [Layout.Unsure] tells the
// characters for which there is none. Greek, Russian and Ukrainian
// have no Latin letters here: the console's maps have a key that switches
// alphabets, and which letters are on cannot be seen from this side.
type Layout struct {
	name, short string
	keypad      bool
	chords      map[rune]Chord // one tap, also for the combining characters of dead keys
	runes       map[Chord]rune
}

type layoutRow struct {
	name, short string
	levels      [4]string
}

// nothing marks a level without a character.
const nothing = '\u2400'

// layoutKeys holds the usages of the columns of layoutRows: the digits' row with
// the key before it, the three letters' rows, and at the end the keys that not
// every board has, the one right of the left Shift key, Brazil's and Japan's
// beside the right one, and Japan's before Backspace.
const layoutKeys = "\x35\x1e\x1f\x20\x21\x22\x23\x24\x25\x26\x27\x2d\x2e" +
	"\x14\x1a\x08\x15\x17\x1c\x18\x0c\x12\x13\x2f\x30\x31" +
	"\x04\x16\x07\x09\x0a\x0b\x0d\x0e\x0f\x33\x34" +
	"\x1d\x1b\x06\x19\x05\x11\x10\x36\x37\x38\x64\x87\x89"

// everyBoard is how many of layoutKeys all boards have.
const everyBoard = len(layoutKeys) - 3

var levelMods = [4]Mods{0, Shift, AltGr, Shift | AltGr}

// composed lists what a dead key makes of the character typed after it, as
// pairs. The blank gives those signs on which X11 and the Linux console agree.
var composed = []struct {
	dead  rune
	pairs string
}{
	{0x300, " `aàeèiìoòuùnǹAÀEÈIÌOÒUÙNǸ"},
	{0x301, " 'aáeéiíoóuúyýcćlĺnńrŕsśzźAÁEÉIÍOÓUÚYÝCĆLĹNŃRŔSŚZŹ"},
	{0x302, " ^aâeêiîoôuûcĉgĝhĥjĵsŝwŵyŷAÂEÊIÎOÔUÛCĈGĜHĤJĴSŜWŴYŶ"},
	{0x303, " ~aãnñoõiĩuũAÃNÑOÕIĨUŨ"},
	{0x304, "aāeēiīoōuūAĀEĒIĪOŌUŪ"},
	{0x306, "aăgğuŭAĂGĞUŬ"},
	{0x307, "cċeėgġzżCĊEĖGĠIİZŻ"},
	{0x308, " \"aäeëiïoöuüyÿAÄEËIÏOÖUÜYŸ"},
	{0x30a, "aåuůAÅUŮ"},
	{0x30b, "oőuűOŐUŰ"},
	{0x30c, "cčdďeěnňrřsštťzžCČDĎEĚNŇRŘSŠTŤZŽ"},
	{0x327, "cçsşCÇSŞ"},
	{0x328, "aąeęiįuųAĄEĘIĮUŲ"},
}

type deadPair struct{ dead, base rune }

var compose, decompose = func() (map[deadPair]rune, map[rune][]deadPair) {
	to, from := map[deadPair]rune{}, map[rune][]deadPair{}
	for _, c := range composed {
		pairs := []rune(c.pairs)
		for i := 0; i < len(pairs); i += 2 {
			p := deadPair{c.dead, pairs[i]}
			to[p] = pairs[i+1]
			from[pairs[i+1]] = append(from[pairs[i+1]], p)
		}
	}
	return to, from
}()

var layouts = sync.OnceValue(func() []*Layout {
	var all []*Layout
	for _, row := range layoutRows {
		all = append(all, newLayout(row))
	}
	return all
})

// newLayout gives a character that stands in several places the one that is
// likeliest to be there on the console too: without AltGr before with it, on a
// key of every board before others, without Shift before with it.
func newLayout(row layoutRow) *Layout {
	l := &Layout{name: row.name, short: row.short, chords: map[rune]Chord{}, runes: map[Chord]rune{}}
	put := func(r rune, c Chord) {
		l.runes[c] = r
		if _, ok := l.chords[r]; !ok {
			l.chords[r] = c
		}
	}
	put(' ', Chord{Key: KeySpace})
	for half := 0; half < len(row.levels); half += 2 {
		for _, columns := range [2][2]int{{0, everyBoard}, {everyBoard, len(layoutKeys)}} {
			for level := half; level < half+2; level++ {
				cells := []rune(row.levels[level])
				for i := columns[0]; i < columns[1]; i++ {
					if cells[i] != nothing {
						put(cells[i], Chord{Mods: levelMods[level], Key: Usage(layoutKeys[i])})
					}
				}
			}
		}
	}
	for r, c := range agreed[row.short] {
		if c == (Chord{}) {
			delete(l.chords, r)
		} else {
			l.chords[r] = c
		}
	}
	return l
}

// agreed holds, for characters that XKB has in several places, the one where the
// console has them too; the zero Chord stands for a dead key and the blank. The
// test of layouts on a real console says what belongs here.
var agreed = map[string]map[rune]Chord{
	"be":    {'[': {Mods: AltGr, Key: 0x2f}, '\\': {Mods: AltGr, Key: 0x64}, '^': {}, '{': {Mods: AltGr, Key: 0x26}},
	"br":    {'^': {}, '`': {}, '~': {}},
	"hr":    {'`': {Mods: AltGr, Key: 0x24}, '~': {Mods: AltGr, Key: 0x1e}},
	"ee":    {'`': {}, '|': {Mods: AltGr, Key: 0x64}},
	"fi":    {'|': {Mods: AltGr, Key: 0x64}},
	"fr":    {'~': {Mods: AltGr, Key: 0x1f}},
	"is":    {'^': {}, '|': {Mods: AltGr, Key: 0x64}},
	"it":    {'@': {Mods: AltGr, Key: 0x33}, '[': {Mods: AltGr, Key: 0x2f}, ']': {Mods: AltGr, Key: 0x30}},
	"latam": {'@': {Mods: AltGr, Key: 0x14}, '~': {Mods: AltGr, Key: 0x30}},
	"ch-fr": {']': {Mods: AltGr, Key: 0x30}, '|': {Mods: AltGr, Key: 0x24}, '}': {Mods: AltGr, Key: 0x31}},
	"ch-de": {']': {Mods: AltGr, Key: 0x30}, '}': {Mods: AltGr, Key: 0x31}},
	"tr":    {'|': {Mods: AltGr, Key: 0x64}},
}

// unsure holds the printable ASCII characters that the console keymap of a
// layout's name types in no way that XKB knows too. Those for Czech, Russian and
// Ukrainian start in another alphabet, or another order of the digits' row, so
// that hardly a sign is where XKB has it.
var unsure = map[string]string{
	"be":    "`",
	"de":    "~",
	"fr":    "`",
	"gr":    ":;",
	"is":    "`~",
	"it":    "{}~",
	"latam": "^`",
	"no":    "$^`~",
	"se":    "^~",
	"si":    "^`~",
	"cz":    "!\"#$%&'()*+-/0123456789:;<=>?@YZ[\\]^_yz{|}~",
	"ru":    "\",./:;?|",
	"ua":    "\"$%,./:<>?[]{|}~",
}

// Unsure returns the places, counted in characters from 0, of those characters of
// a text that may arrive as others: where XKB has them, the Linux console's keymap
// of the same name has something else. Of characters beyond ASCII nothing is
// known.
func (l *Layout) Unsure(text string) []int {
	var at []int
	n := 0
	for _, r := range text {
		if strings.ContainsRune(unsure[l.short], r) {
			at = append(at, n)
		}
		n++
	}
	return at
}

// Layouts returns the layouts that ESXi offers, in the order of its names.
func Layouts() []*Layout { return append([]*Layout(nil), layouts()...) }

// FindLayout returns the layout of that name, ESXi's ("US Default") or the short
// one ("us"), in capitals or not.
func FindLayout(name string) (*Layout, error) {
	for _, l := range layouts() {
		if strings.EqualFold(name, l.name) || strings.EqualFold(name, l.short) {
			return l, nil
		}
	}
	return nil, fmt.Errorf("finding layout %q: ESXi has none of that name", name)
}

// Name returns the name by which ESXi knows the layout.
func (l *Layout) Name() string { return l.name }

// Short returns the short name.
func (l *Layout) Short() string { return l.short }

// WithKeypad returns the layout with another way for the printable ASCII
// characters that no key gives: their decimal code on the keypad while Alt is
// held. It is not the default because a console has to take such codes. The ESXi
// shell is known to; for the fields of the DCUI nobody has shown it yet.
func (l *Layout) WithKeypad() *Layout {
	k := *l
	k.keypad = true
	return &k
}

// UnmappedError is a character that a layout cannot type. Its message leaves the
// character out, as it may be part of a password.
type UnmappedError struct {
	Layout string
	Rune   rune // U+FFFD where the text is not UTF-8
	Offset int  // characters before it
}

func (e *UnmappedError) Error() string {
	return fmt.Sprintf("layout %s cannot type character %d of the text", e.Layout, e.Offset+1)
}

// Chords returns the taps that type text, or a *UnmappedError for the first
// character that cannot be typed. Control characters cannot: in a form, Tab and
// Enter move and submit, and they have key names for that.
func (l *Layout) Chords(text string) ([]Chord, error) {
	var out []Chord
	n := 0
	for _, r := range text { // bytes that are not UTF-8 come as U+FFFD, which no layout has
		taps := l.taps(r)
		if taps == nil {
			return nil, &UnmappedError{Layout: l.name, Rune: r, Offset: n}
		}
		out = append(out, taps...)
		n++
	}
	return out, nil
}

func (l *Layout) taps(r rune) []Chord {
	if isDead(r) {
		return nil
	}
	if c, ok := l.chords[r]; ok {
		return []Chord{c}
	}
	for _, p := range decompose[r] {
		dead, ok := l.chords[p.dead]
		base, ok2 := l.chords[p.base]
		if ok && ok2 {
			return []Chord{dead, base}
		}
	}
	if l.keypad && r > ' ' && r <= '~' {
		return keypadCode(r)
	}
	return nil
}

func isDead(r rune) bool { return r >= 0x300 && r < 0x370 }

// keypadCode types the decimal number of r on the keypad under the left Alt key.
func keypadCode(r rune) []Chord {
	var out []Chord
	for _, d := range fmt.Sprint(int(r)) {
		key := KeyKP0
		if d != '0' {
			key = KeyKP1 + Usage(d-'1')
		}
		out = append(out, Chord{Mods: Alt, Key: key, Keep: true})
	}
	out[len(out)-1].Keep = false
	return out
}

// Text returns what chords type on this layout, the inverse of Chords. Its
// errors give the place of a chord that types nothing, never the chord.
func (l *Layout) Text(chords []Chord) (string, error) {
	var b strings.Builder
	var dead rune
	for i := 0; i < len(chords); i++ {
		fail := func(why string) (string, error) {
			return "", fmt.Errorf("reading chord %d of %d on layout %s: %s", i+1, len(chords), l.name, why)
		}
		c := chords[i]
		if c.Mods == Alt {
			code := 0
			for ; ; i++ {
				c = chords[i]
				d := int(c.Key-KeyKP1) + 1
				if c.Key == KeyKP0 {
					d = 0
				}
				if c.Mods != Alt || c.Key < KeyKP1 || c.Key > KeyKP0 {
					return fail("it types no character")
				}
				if code = code*10 + d; code > '~' {
					return fail("the code is beyond ASCII")
				}
				if !c.Keep || i+1 == len(chords) {
					break
				}
			}
			if code <= ' ' || dead != 0 {
				return fail("the code is no printable character")
			}
			b.WriteRune(rune(code))
			continue
		}
		if c.Mods&RightShift != 0 {
			c.Mods = c.Mods&^RightShift | Shift
		}
		if c.Key == 0x32 {
			c.Key = 0x31 // European boards send this usage from the key in that place
		}
		c.Keep = false
		r, ok := l.runes[c]
		switch {
		case !ok:
			return fail("it types no character")
		case dead != 0:
			if r, ok = compose[deadPair{dead, r}]; !ok {
				return fail("the dead key before it does not join with it")
			}
			b.WriteRune(r)
			dead = 0
		case isDead(r):
			dead = r
		default:
			b.WriteRune(r)
		}
	}
	if dead != 0 {
		return "", fmt.Errorf("reading %d chords on layout %s: a dead key is still open at the end", len(chords), l.name)
	}
	return b.String(), nil
}
