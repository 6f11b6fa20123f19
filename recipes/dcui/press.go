package dcui

import (
	"math/bits"
	"unicode"
	"unicode/utf8"

	"github.com/labctl/labctl/hid"
)

// Token stands for text whose characters are not known here: a secret, or a
// variable without a value. It arrives as typed, or it does not arrive: with
// another keymap than it was composed for, or letters under Caps Lock, it
// equals nothing.
type Token struct {
	ID     uint8 // 0 is the password of root
	Layout string
	// Caseless says that Caps Lock does not change the text.
	Caseless bool
	// Secret says that the text is for password fields only.
	Secret bool
}

// The characters that stand for a Token in a field, from Unicode's private use
// area.
const (
	tokenRight   = '\uE000'
	tokenGarbled = '\uE100'
	tokenEnd     = '\uE200'
)

func isGarbled(r rune) bool { return r == unmapped || r >= tokenGarbled && r < tokenEnd }

// isPlaceholder says whether a value holds text that is not known and arrived
// as it should: the checks of a form are then taken as passed.
func isPlaceholder(s string) bool {
	found := false
	for _, r := range s {
		if isGarbled(r) {
			return false
		}
		found = found || r >= tokenRight && r < tokenGarbled
	}
	return found
}

// input is what a transition starts from: one of its parts is set.
type input struct {
	kind  inputKind
	key   hid.Chord
	char  rune
	token tokenInput
}

type tokenInput struct {
	id       uint8
	caseless bool
	secret   bool
	layout   int
}

type inputKind uint8

const (
	byKey inputKind = iota
	byChar
	byToken
	byIdle
	byStart
)

func (w *World) apply(in input, s *step) {
	switch in.kind {
	case byKey:
		w.press(in.key, s)
	case byChar:
		s.ev = linuxKeyboard
		w.char(in.char, s)
	case byToken:
		w.enter(in.token, s)
	case byIdle:
		w.idle(s)
	case byStart:
		w.begin(s)
	}
}

// follow does a transition, with open facts settled on their usual values.
func (w World) follow(in input) (World, Evidence) {
	for {
		next := w
		var s step
		next.apply(in, &s)
		if !s.open {
			return next, s.ev
		}
		w.settle(&s)
	}
}

// Press gives the world after a key.
func (w World) Press(k hid.Chord) World {
	next, _ := w.follow(input{key: k})
	return next
}

// Step is Press, and tells what the transition rests on.
func (w World) Step(k hid.Chord) (World, Evidence) { return w.follow(input{key: k}) }

// Type gives the world after a character arrived, by whatever chords made it.
// Control characters are ignored.
func (w World) Type(r rune) World {
	next, _ := w.follow(input{kind: byChar, char: r})
	return next
}

// Enter gives the world after the keys of a Token. Its layout is a name of the
// fact layout; any other is a *FactError.
func (w World) Enter(t Token) (World, error) {
	in, err := t.input()
	if err != nil {
		return w, err
	}
	next, _ := w.follow(in)
	return next, nil
}

func (t Token) input() (input, error) {
	_, bit, err := valueBit("layout", t.Layout)
	if err != nil {
		return input{}, err
	}
	l := 0
	for bit>>l != 1 {
		l++
	}
	return input{kind: byToken, token: tokenInput{t.ID, t.Caseless, t.Secret, l}}, nil
}

// Idle gives the world after nobody touched a key for as long as the console's
// idle time-out.
func (w World) Idle() World {
	next, _ := w.follow(input{kind: byIdle})
	return next
}

// CapsOff gives the world in which Caps Lock was read from its light and
// turned off where it was on.
func (w World) CapsOff() World {
	w.flags = w.flags&^capsFlipped | capsCleared
	return w
}

// begin puts the console where the fact screen says.
func (w *World) begin(s *step) {
	p := welcome
	for i, q := range startPlaces {
		if w.facts.screen == 1<<i {
			p = q
		}
	}
	// A screen that this host does not have is one that nobody left open.
	switch p {
	case shellPrompt, status, kernelLog:
		if !s.is(w, factConsole, local) {
			p = welcome
		}
	case keyboard:
		if !s.is(w, factConsole, local) {
			p = menu
		}
	case restore, restoreSettings, restoreVDS:
		if s.is(w, factESXi, esxi50) {
			p = menu
		}
	case idle:
		if s.is(w, factESXi, before60) {
			p = trouble
		}
	}
	switch p {
	case shellPrompt:
		w.console, w.shell = 1, 2
	case status:
		w.console = 11
	case kernelLog:
		w.console = 12
	default:
		// The cursors stand where the keys that lead here leave them.
		for i, it := range menus[menu] {
			if it.opens == p || it.opens == parent[p] && parent[p] != menu && parent[p] != welcome {
				w.menuAt = uint8(i)
			}
		}
		if up := parent[p]; menus[up] != nil && up != menu {
			for i, it := range menus[up] {
				if it.opens == p {
					w.subAt = uint8(i)
				}
			}
		}
		switch p {
		case restoreStandard:
			w.ret = restore
			if s.is(w, factESXi, esxi50) {
				w.ret, w.menuAt, w.subAt = menu, 6, 0
			} else {
				w.menuAt = 7
			}
		case mgmtConfirm:
			// The confirm shows only with something to apply.
			w.pending = setPart(freshSettings, formEnd, mgmtForm(vlan), isSet+fieldEnd)
			w.menuAt = itemMgmt
		}
		w.open(p, s)
	}
}

// isSet is the VLAN that stands for a change somebody else left unconfirmed.
const isSet = "1"

// open shows a screen afresh.
func (w *World) open(p place, s *step) {
	w.place, w.focus, w.tail, w.lines = p, 0, 0, fresh[p]
	switch {
	case p == lockdown:
		if !s.now(w, factLockdown, w.lockNow, lockdownOff) {
			w.lines = marked + fieldEnd
		}
	case p == password && w.root == "":
		w.focus = 1 // no old password is asked for where none is set
	case mgmtForm(p) >= 0 && w.pending != "":
		w.lines = part(w.pending, formEnd, mgmtForm(p))
	}
}

// leave goes up from a screen to the one below it.
func (w *World) leave(to place, s *step) {
	from := w.place
	w.place, w.focus, w.tail, w.lines = to, 0, 0, ""
	switch to {
	case welcome:
		w.logOut()
	case menu:
		w.subAt = 0
		if from == login {
			// A management network that Restore Network Settings made is in the menu
			// from the next login on (notes on an ESXi 7.0 host that had none).
			w.menuAt, w.mgmtSeen = 0, w.mgmtNow
		}
	}
	if forms[to] != nil {
		w.open(to, s)
	}
	// A restored switch dims the item that did it.
	if menus[to] != nil {
		w.ret = 0
		at := w.cursor(to)
		if !s.holds(w, menus[to][*at].enabled) {
			*at = 0
		}
	}
}

func (w *World) logOut() {
	w.place, w.ret, w.menuAt, w.subAt, w.focus, w.tail, w.lines = welcome, 0, 0, 0, 0, 0, ""
	w.log = 0
	w.pending = w.applied
	w.flags &^= towardsPower
}

// boot ends every session: the host goes down, for good or to come back.
func (w *World) boot(to place) {
	w.logOut()
	w.place, w.console, w.shell, w.line = to, 0, 0, ""
	w.dead, w.pad = 0, 0
	w.flags &^= shellUserRoot
}

func (w *World) idle(s *step) {
	s.ev = timeoutGuide
	if w.down() || s.is(w, factESXi, before60) {
		return
	}
	w.logOut()
}

func (w *World) press(k hid.Chord, s *step) {
	if w.down() {
		s.ev = hostIsDown
		return
	}
	if k.Mods != hid.Alt {
		w.endCode(s)
	}
	w.tap(k, s)
	if !k.Keep {
		w.endCode(s)
	}
}

// tap is a chord up to the release of its modifiers.
func (w *World) tap(k hid.Chord, s *step) {
	s.ev = linuxKeyboard
	switch k.Key {
	case hid.KeyCapsLock:
		w.flags ^= capsFlipped
		return
	case hid.KeyNumLock:
		w.flags ^= numLock
		return
	case hid.KeyScroll:
		w.flags ^= scrollLock
		return
	}
	if k.Mods == hid.Alt {
		if k.Key >= hid.KeyF1 && k.Key <= hid.KeyF12 {
			w.switchConsole(int(k.Key-hid.KeyF1)+1, s)
			return
		}
		if d, ok := padDigit(k.Key); ok {
			w.addCode(d, s)
			return
		}
	}
	switch act := meaning(k); act {
	case none, space:
		w.pressText(k, act, s)
	case enterKey, esc, tab, backTab, backspace:
		// These are characters to a console keymap, so an accent that waits for
		// its letter is let go before them.
		if w.dead != 0 {
			w.char(spacing(w.accent()), s)
		}
		w.act(act, s)
	default:
		w.act(act, s)
	}
}

// act is a key that is no character.
func (w *World) act(act action, s *step) {
	if w.console != 0 {
		w.actShell(act, s)
		return
	}
	if act == fkey4 {
		s.ev = contrastNotes
		w.flags ^= contrast
		return
	}
	s.ev = nothingKnown
	switch p := w.place; {
	case menus[p] != nil:
		w.actMenu(act, s)
	case forms[p] != nil:
		w.actForm(act, s)
	default:
		w.actScreen(act, s)
	}
}

// pressText is a key that may type a character. Where nobody reads one, the
// layout is of no interest, unless an accent waits or begins to wait.
func (w *World) pressText(k hid.Chord, act action, s *step) {
	n, ok := level(k.Mods)
	if !ok {
		s.ev = nothingKnown
		if w.console != 0 && k.Mods == hid.Ctrl && k.Key == hid.KeyA+'c'-'a' && w.reads(s) {
			s.ev = linuxKeyboard
			w.line = ""
		}
		return
	}
	if act != space && w.dead == 0 && !keymap().dead[n][k.Key] && !w.reads(s) {
		s.ev = nothingKnown
		w.scrolls(k, s)
		return
	}
	s.ev = linuxKeyboard
	r := ' '
	if act != space {
		r = w.typed(n, k.Key, s)
	}
	if r == 0 {
		w.scrolls(k, s)
		return
	}
	if w.dead == 0 {
		if hid.Dead(r) {
			w.dead = uint8(r - accents)
			return
		}
		w.char(r, s)
		return
	}
	// A Linux console joins the two where it can, and gives both, one after the
	// other, where it cannot.
	before := w.accent()
	joined, ok := hid.Compose(before, r)
	switch {
	case ok:
		w.char(joined, s)
	case r == ' ' || r == before:
		w.char(spacing(before), s)
	default:
		w.char(spacing(before), s)
		if hid.Dead(r) {
			w.dead = uint8(r - accents)
			return
		}
		w.char(r, s)
	}
}

// scrolls looks up the keys that move through a text and change nothing else.
func (w *World) scrolls(k hid.Chord, s *step) {
	if w.console != 0 || k.Mods != 0 || k.Key != hid.KeyPgUp && k.Key != hid.KeyPgDn {
		return
	}
	switch w.place {
	case support:
		s.ev = supportNotes
	case logView:
		s.ev = keyTable
	}
}

// accents is one less than the first combining character, so that 0 is none.
const accents = 0x300 - 1

// accent takes the accent that waits for its letter.
func (w *World) accent() rune {
	r := accents + rune(w.dead)
	w.dead = 0
	return r
}

// spacing gives an accent as a character of its own.
func spacing(accent rune) rune {
	if r, ok := hid.Compose(accent, ' '); ok {
		return r
	}
	return unmapped
}

// codeLimit is where the number typed on the keypad stops to grow: beyond any
// character that this model tells apart.
const codeLimit = 1_000

func (w *World) addCode(digit uint16, s *step) {
	s.ev = keypadShell
	if w.console == 0 {
		s.ev = keypadField
	}
	code := digit
	if w.pad != 0 {
		code += (w.pad - 1) * 10
	}
	w.pad = min(code, codeLimit) + 1
}

// endCode is the release of Alt after a number on the keypad.
func (w *World) endCode(s *step) {
	if w.pad == 0 {
		return
	}
	code := rune(w.pad - 1)
	w.pad = 0
	ev := s.ev
	switch {
	case code == '\r' || code == '\n':
		w.act(enterKey, s)
	case code == 0x1b:
		w.act(esc, s)
	case code == '\t':
		w.act(tab, s)
	case code == '\b' || code == 0x7f:
		w.act(backspace, s)
	case code > '~':
		w.char(unmapped, s)
	default:
		w.char(code, s)
	}
	s.ev = ev
}

// reads says whether a character means anything to the screen in front.
func (w *World) reads(s *step) bool {
	if w.console != 0 {
		p := w.here(s)
		return p == shellLogin || p == shellPassword || p == shellPrompt
	}
	switch w.place {
	case mgmtConfirm, logs, logView, adapters:
		return true
	}
	return w.typing()
}

// typing says whether the cursor is in a field that takes text.
func (w *World) typing() bool {
	if forms[w.place] == nil {
		return false
	}
	k := forms[w.place][w.focus].kind
	return k == text || k == hidden
}

// char is a character that arrived.
func (w *World) char(r rune, s *step) {
	if unicode.IsControl(r) || w.down() {
		return
	}
	if w.console != 0 || w.typing() {
		s.ev = linuxKeyboard
		w.insert(r, s)
		return
	}
	s.ev = nothingKnown
	switch w.place {
	case mgmtConfirm:
		switch r {
		case 'y', 'Y':
			s.ev = seenConsole
			w.applySettings()
		case 'n', 'N':
			s.ev = byAnalogy
			w.pending = w.applied
			w.leave(menu, s)
		}
		return
	case logs:
		if r >= '1' && r <= '6' {
			s.ev = practice
			if r == '1' {
				s.ev = logNotes
			}
			w.open(logView, s)
			w.log = uint8(r - '0')
		}
		return
	case logView:
		if r == 'q' || r == 'Q' {
			s.ev = logNotes
			w.log = 0
			w.leave(logs, s)
		}
		if r == '/' {
			s.ev = keyTable
			w.open(logSearch, s)
		}
		return
	case adapters:
		if r == 'd' || r == 'D' {
			s.ev = seenConsole
			w.place = adapterDetails // what was marked stays marked
			return
		}
	}
	if r == ' ' && forms[w.place] != nil {
		s.ev = practice
		if w.place == adapters || w.place == ipv4 {
			s.ev = seenConsole
		}
		w.toggle()
	}
}

func (w *World) switchConsole(n int, s *step) {
	s.ev = consoleNotes
	switch n {
	case 1, 2, 11, 12:
	default:
		s.ev = nothingKnown
		return
	}
	// A serial line carries one console.
	if !s.is(w, factConsole, local) {
		s.ev = byAnalogy
		return
	}
	w.console = uint8(n)
	switch n {
	case 1:
		s.ev = securityGuide
		if w.shell == 0 {
			s.shellOn(w) // the prompt is there only with the shell on
		}
	case 2:
		w.console = 0
	}
}

func (w *World) actMenu(act action, s *step) {
	p := w.place
	items, at := menus[p], w.cursor(p)
	switch act {
	case up:
		*at = w.move(items, *at, -1, s)
	case down:
		*at = w.move(items, *at, 1, s)
	case enterKey:
		it := &items[*at]
		s.ev = it.evidence
		switch {
		case p == trouble && *at == itemShell:
			s.shellOn(w)
			w.flags ^= shellFlipped
		case p == trouble && *at == itemSSH:
			s.sshOn(w)
			w.flags ^= sshFlipped
		default:
			if it.opens == restoreStandard {
				w.ret = p
			}
			if p == menu {
				w.subAt = 0
			}
			w.open(it.opens, s)
		}
	case esc:
		s.ev = seenConsole
		switch {
		case p == menu:
			w.leave(welcome, s)
		case p == mgmt && w.pending != w.applied:
			w.open(mgmtConfirm, s)
		default:
			if p != mgmt {
				s.ev = byAnalogy
			}
			w.leave(parent[p], s)
		}
	}
}

// move gives the item that UP or DOWN leads to: the next that can be selected.
func (w *World) move(items []item, at uint8, dir int, s *step) uint8 {
	i := int(at)
	s.ev = seenConsole
	switch w.place {
	case trouble:
		s.ev = securityGuide
	case restore:
		s.ev = practice
	}
	for range items {
		i += dir
		if i < 0 || i >= len(items) {
			s.ev = wrapUnknown
			if !s.is(w, factWrap, yes) {
				return at
			}
			i = (i + len(items)) % len(items)
		}
		if !s.holds(w, items[i].there) {
			continue
		}
		if s.holds(w, items[i].enabled) {
			return uint8(i)
		}
		s.ev = lockdownUnseen
	}
	return at
}

func (w *World) actForm(act action, s *step) {
	p := w.place
	switch act {
	case up, down, tab, backTab:
		dir := 1
		if act == up || act == backTab {
			dir = -1
		}
		s.ev = practice
		switch {
		case p == login && act == tab && w.focus == 0, p == adapters && act == down:
			s.ev = keyNotes
		case p == ipv4 && (act == up || act == down):
			s.ev = seenConsole
		}
		w.moveFocus(dir, act == tab || act == backTab, s)
	case enterKey:
		s.ev = w.footer()
		w.submit(s)
	case esc:
		s.ev = w.footer()
		w.leave(w.below(), s)
	case fkey11:
		if p == restoreVDS {
			s.ev = practice
			w.submit(s)
		}
	case left, right, home, end, backspace, del:
		s.ev = byAnalogy
		if w.typing() {
			w.edit(act)
		}
	}
}

// footer gives what ENTER and ESC of a form rest on: the key hints of some were
// seen.
func (w *World) footer() Evidence {
	switch w.place {
	case login, adapters, vlan, ipv4:
		return seenConsole
	}
	return practice
}

// below gives the screen under the one in front.
func (w *World) below() place {
	if w.ret != 0 {
		switch w.place {
		case restoreStandard, restoreResult:
			return w.ret
		}
	}
	return parent[w.place]
}

func (w *World) moveFocus(dir int, wraps bool, s *step) {
	fields := forms[w.place]
	i := int(w.focus)
	for range fields {
		i += dir
		if i < 0 || i >= len(fields) {
			if !wraps {
				// A list in a dialog is a menu to the one who types.
				if w.place != adapters && w.place != keyboard {
					return
				}
				s.ev = wrapUnknown
				if !s.is(w, factWrap, yes) {
					return
				}
			}
			i = (i + len(fields)) % len(fields)
		}
		if u := fields[i].under; u != 0 && part(w.lines, fieldEnd, int(u)-1) == "" {
			continue
		}
		if w.place == password && i == 0 && w.root == "" {
			continue
		}
		w.focus, w.tail = uint8(i), 0
		return
	}
}

func (w *World) toggle() {
	fields := forms[w.place]
	i := int(w.focus)
	if fields[i].kind == radio {
		for j := range fields {
			if fields[j].kind == radio && j != i {
				w.lines = setPart(w.lines, fieldEnd, j, "")
			}
		}
		w.lines = setPart(w.lines, fieldEnd, i, marked)
		return
	}
	v := marked
	if part(w.lines, fieldEnd, i) != "" {
		v = ""
	}
	w.lines = setPart(w.lines, fieldEnd, i, v)
}

// fieldLimit bounds the bytes of a field, so that no sequence of keys makes a
// world grow without end. No source tells the console's own limits.
const fieldLimit = 256

// insert puts a character where the cursor is, in a field or at the shell.
func (w *World) insert(r rune, s *step) {
	if w.console != 0 {
		if len(w.line) < fieldLimit && w.reads(s) {
			w.line += string(r)
		}
		return
	}
	v := part(w.lines, fieldEnd, int(w.focus))
	if len(v) >= fieldLimit {
		return
	}
	at := w.caret(v)
	w.lines = setPart(w.lines, fieldEnd, int(w.focus), v[:at]+string(r)+v[at:])
}

// caret gives the cursor's place in a value, in bytes.
func (w *World) caret(v string) int {
	at := len(v)
	for range w.tail {
		_, n := utf8.DecodeLastRuneInString(v[:at])
		at -= n
	}
	return at
}

func (w *World) edit(act action) {
	v := part(w.lines, fieldEnd, int(w.focus))
	at := w.caret(v)
	switch act {
	case left:
		if at > 0 {
			w.tail++
		}
	case right:
		if w.tail > 0 {
			w.tail--
		}
	case home:
		w.tail = uint8(min(utf8.RuneCountInString(v), 255))
	case end:
		w.tail = 0
	case backspace:
		_, n := utf8.DecodeLastRuneInString(v[:at])
		w.lines = setPart(w.lines, fieldEnd, int(w.focus), v[:at-n]+v[at:])
	case del:
		if w.tail > 0 {
			_, n := utf8.DecodeRuneInString(v[at:])
			w.lines = setPart(w.lines, fieldEnd, int(w.focus), v[:at]+v[at+n:])
			w.tail--
		}
	}
}

// typed gives the character or the accent of a key under the keymap of this
// console and its Caps Lock, 0 for a key without one.
func (w *World) typed(level int, u hid.Usage, s *step) rune {
	m := keymap()
	var r rune
	if w.layoutNow != 0 {
		r = m.runes[w.layoutNow-1][level][u]
	} else {
		l := bits.TrailingZeros64(w.facts.get(factLayout))
		r = m.runes[l][level][u]
		s.is(w, factLayout, uint64(m.same[level][u][l]))
	}
	if unicode.IsLetter(r) && s.capsOn(w) {
		return invert(r)
	}
	return r
}

// enter types a Token.
func (w *World) enter(t tokenInput, s *step) {
	w.endCode(s)
	s.ev = byAnalogy
	if t.secret && !w.hides(s) {
		w.flags |= exposed
	}
	if w.down() {
		return
	}
	if w.console == 0 && w.place == mgmtConfirm {
		// Among characters that are not known there may be a Y.
		w.applySettings()
		return
	}
	if w.console == 0 && !w.typing() {
		return
	}
	r := tokenRight + rune(t.id)
	if !s.now(w, factLayout, w.layoutNow, 1<<t.layout) || !t.caseless && s.capsOn(w) || w.dead != 0 {
		w.dead = 0
		r = tokenGarbled + rune(t.id)
	}
	w.insert(r, s)
}

// hides says whether the cursor is in a field that shows stars.
func (w *World) hides(s *step) bool {
	if w.console != 0 {
		return w.here(s) == shellPassword
	}
	return forms[w.place] != nil && forms[w.place][w.focus].kind == hidden
}

// submit is ENTER on a form.
func (w *World) submit(s *step) {
	p := w.place
	if p != login && p != password && !acceptable(p, w.lines) {
		to := troubleError
		if mgmtForm(p) >= 0 {
			to = mgmtError
		}
		s.ev = byAnalogy
		// What was typed stays in the form below the message.
		w.ret, w.place = p, to
		return
	}
	switch p {
	case login:
		if part(w.lines, fieldEnd, 0) != "root" || part(w.lines, fieldEnd, 1) != w.root {
			s.ev = loginQuoted
			w.leave(loginError, s)
			return
		}
		if w.flags&towardsPower != 0 {
			w.open(power, s)
			return
		}
		w.leave(menu, s)
	case password:
		was, is, again := part(w.lines, fieldEnd, 0), part(w.lines, fieldEnd, 1), part(w.lines, fieldEnd, 2)
		if was != w.root || is != again || !strong(is) {
			w.leave(passwordError, s)
			return
		}
		w.root = is
		w.effects.add(PasswordChanged)
		w.leave(menu, s)
	case lockdown:
		on := part(w.lines, fieldEnd, 0) != ""
		if on == s.now(w, factLockdown, w.lockNow, lockdownOff) {
			w.lockNow = 1
			if on {
				w.lockNow = 2
			}
		}
		w.leave(menu, s)
	case test:
		w.effects.add(PingTest)
		w.leave(testResult, s)
	case restoreVDS:
		w.effects.add(DistributedRestored)
		w.mgmtNow = 2
		w.ret = restore
		w.leave(restoreResult, s)
	case keyboard:
		for l := range layoutCount {
			if part(w.lines, fieldEnd, l) != "" && !s.now(w, factLayout, w.layoutNow, 1<<l) {
				w.layoutNow = uint8(l) + 1
				w.effects.add(SettingsChanged)
			}
		}
		w.leave(menu, s)
	case logSearch:
		w.leave(logView, s)
	case timeouts, idle:
		if w.lines != fresh[p] {
			w.effects.add(SettingsChanged)
		}
		w.leave(trouble, s)
	default:
		if w.lines != w.setting(p) {
			if w.pending == "" {
				w.pending = freshSettings
			}
			w.pending = setPart(w.pending, formEnd, mgmtForm(p), w.lines)
			if w.pending == freshSettings && w.applied == "" {
				w.pending = ""
			}
		}
		w.leave(mgmt, s)
	}
}

// setting gives the values that a form of the management network opens with.
func (w *World) setting(p place) string {
	if w.pending == "" {
		return fresh[p]
	}
	return part(w.pending, formEnd, mgmtForm(p))
}

// strong is the password rule of ESXi 6.0 and later with its defaults: seven
// characters, of three kinds. A Token is taken as strong.
func strong(s string) bool {
	if isPlaceholder(s) {
		return true
	}
	var lower, upper, digit, other int
	for _, r := range s {
		switch {
		case isGarbled(r):
			return false
		case unicode.IsLower(r):
			lower = 1
		case unicode.IsUpper(r):
			upper = 1
		case unicode.IsDigit(r):
			digit = 1
		default:
			other = 1
		}
	}
	return utf8.RuneCountInString(s) >= 7 && lower+upper+digit+other >= 3
}

// confirmed is what F11 does on a dialog that asks for it.
var confirmed = [placeCount]struct {
	effect   Effect
	to       place
	evidence Evidence
}{
	restartMgmt:     {NetworkRestarted, restartMgmtResult, networkGuide},
	disableMgmt:     {NetworkChanged, disableMgmtResult, networkGuide},
	restoreSettings: {NetworkWiped, restoreResult, practice},
	restoreStandard: {StandardRestored, restoreResult, networkGuide},
	agents:          {AgentsRestarted, agentsResult, networkGuide},
	// Removing extensions counts as a reset: as little comes back, and the
	// host restarts.
	extensions: {SystemReset, booting, practice},
	reset:      {SystemReset, booting, practice},
}

func (w *World) actScreen(act action, s *step) {
	p := w.place
	switch p {
	case welcome:
		if act != fkey2 && act != fkey12 {
			return
		}
		s.ev = seenConsole
		if s.is(w, factLockdown, strict) && w.lockNow == 0 {
			s.ev = strictNotes
			w.place = denied
			return
		}
		w.flags &^= towardsPower
		if act == fkey12 {
			w.flags |= towardsPower
		}
		w.open(login, s)
		return
	case mgmtConfirm:
		if act == esc {
			s.ev = byAnalogy
			w.place = mgmt
		}
		return
	case power:
		switch act {
		case fkey2:
			s.ev = keyNotes
			w.effects.add(HostShutDown)
			w.boot(off)
		case fkey11:
			s.ev = practice
			w.effects.add(HostRestarted)
			w.boot(booting)
		case esc:
			s.ev = practice
			w.leave(welcome, s)
		}
		return
	}
	if act == esc || act == enterKey && isMessage(p) {
		s.ev = closing[p]
		switch p {
		case logView:
			w.log = 0
		case mgmtError, troubleError:
			w.place, w.ret = w.ret, 0
			return
		case adapterDetails:
			w.place = adapters
			return
		}
		w.leave(w.below(), s)
		return
	}
	if c := &confirmed[p]; act == fkey11 && c.effect != Nothing {
		s.ev = c.evidence
		w.effects.add(c.effect)
		switch p {
		case restoreSettings:
			w.pending, w.applied, w.mgmtNow, w.ret = "", "", 1, restore
		case restoreStandard:
			w.mgmtNow = 1
		}
		if c.to == booting {
			w.boot(booting)
			return
		}
		w.place = c.to
	}
}

// closing is what ESC rests on, and ENTER where it closes a message.
var closing = func() (all [placeCount]Evidence) {
	for p := range placeCount {
		all[p] = byAnalogy
	}
	for _, p := range []place{loginError, passwordError, restartMgmtResult, disableMgmtResult, testResult, restoreResult,
		agentsResult, disableMgmt, restoreSettings, restoreStandard, agents, extensions, reset} {
		all[p] = practice
	}
	all[restartMgmt], all[support] = networkGuide, supportNotes
	return all
}()

// isMessage says whether a screen is a message that ENTER closes.
func isMessage(p place) bool {
	switch p {
	case denied, loginError, passwordError, mgmtError, troubleError, adapterDetails,
		restartMgmtResult, disableMgmtResult, testResult, restoreResult, agentsResult:
		return true
	}
	return false
}

// applySettings is Yes on the confirm of the management network.
func (w *World) applySettings() {
	v6 := mgmtForm(ipv6)
	// Turning IPv6 on or off restarts the host, as the dialog itself says.
	restarts := part(part(orFresh(w.pending), formEnd, v6), fieldEnd, 0) != part(part(orFresh(w.applied), formEnd, v6), fieldEnd, 0)
	w.applied = w.pending
	w.effects.add(NetworkChanged)
	if restarts {
		w.effects.add(HostRestarted)
		w.boot(booting)
		return
	}
	w.place, w.subAt = menu, 0
}

func orFresh(settings string) string {
	if settings == "" {
		return freshSettings
	}
	return settings
}

// actShell is a key that is no character at another console than the DCUI.
func (w *World) actShell(act action, s *step) {
	s.ev = nothingKnown
	p := w.here(s)
	if !w.reads(s) {
		return
	}
	s.ev = linuxKeyboard
	switch act {
	case enterKey:
		line := w.line
		w.line = ""
		switch p {
		case shellLogin:
			if line == "" {
				return
			}
			w.shell = 1
			w.flags &^= shellUserRoot
			if line == "root" {
				w.flags |= shellUserRoot
			}
		case shellPassword:
			w.shell = 0
			if w.flags&shellUserRoot != 0 && line == w.root {
				w.shell = 2
			}
			w.flags &^= shellUserRoot
		case shellPrompt:
			switch line {
			case "":
			case "exit":
				w.shell = 0
				s.shellOn(w)
			default:
				w.effects.add(ShellCommand)
			}
		}
	case backspace:
		_, n := utf8.DecodeLastRuneInString(w.line)
		w.line = w.line[:len(w.line)-n]
	}
}
