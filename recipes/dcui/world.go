package dcui

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// The console logs out after DefaultIdle without a key, or after HardenedIdle
// where a host follows the stricter baseline. Both are UserVars.DcuiTimeOut on
// ESXi 6.0 and later (CIS benchmark 6.5, STIG V-258757).
const (
	DefaultIdle  = 600 * time.Second
	HardenedIdle = 120 * time.Second
)

// World is one state of one host and its console. It is a value: worlds are
// compared with ==, and Press gives a new one. The zero World is not valid;
// NewWorld and NewBelief make them.
//
// A World of a Belief may leave facts open that have made no difference yet.
// Asked for something that depends on one, such a World answers for the usual
// value; a Belief follows every value.
type World struct {
	facts factset // how the host was at the start

	place   place // of the DCUI, also while another console is in front
	ret     place // what lies below a dialog that opens from several places
	console uint8 // the console in front: 0 is the DCUI, else the number of its Alt+F key
	flags   flags
	menuAt  uint8  // cursor in System Customization
	subAt   uint8  // cursor in the menu below it
	focus   uint8  // field with the cursor in a form
	tail    uint8  // characters right of the cursor in that field
	shell   uint8  // of the shell console: 0 login, 1 password, 2 prompt
	dead    uint8  // accent of a dead key that waits for its letter, 0 for none
	pad     uint16 // number typed on the keypad under Alt, and 1; 0 for none

	mgmtNow, lockNow, layoutNow uint8 // value + 1 where a key has changed the fact
	mgmtSeen                    uint8 // mgmtNow at the login, which is when the menu learns it
	log                         uint8 // number of the log in view

	effects effects
	lines   string // values of the open form
	pending string // settings of the management network that wait for the confirm
	applied string // those that were applied
	line    string // the line being typed at the shell console
	root    string // password of root
}

type flags uint16

const (
	shellFlipped  flags = 1 << iota
	sshFlipped          // as the fact says, turned over
	capsFlipped         //
	capsCleared         // Caps Lock was read and set right
	numLock             //
	scrollLock          //
	contrast            // F4
	towardsPower        // the login was opened by F12
	shellUserRoot       // root was given at the shell's login prompt
	exposed             // a secret was typed elsewhere than into a password field
)

// NewWorld gives the world with these facts; a fact that is not given has its
// usual value. The password of root is that of the Token 0 until SetPassword.
func NewWorld(facts map[string]string) (World, error) {
	known, err := parseFacts(facts)
	if err != nil {
		return World{}, err
	}
	for f := range factCount {
		known = known.with(f, usual(f, known.get(f)))
	}
	w := World{facts: known, root: string(tokenRight)}
	var s step
	w.begin(&s)
	return w, nil
}

// SetPassword gives the world whose root password is this one, for a console
// that receives real keys. A World never prints it.
func (w World) SetPassword(secret string) World {
	w.root = secret
	return w
}

// Format keeps what was typed out of every output, whatever the verb.
func (w World) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "dcui.World{at %s, %s}", w.At(), w.Effect())
}

// step collects what one transition came to know: what it rests on, and the
// first fact it had to know and that is open.
type step struct {
	ev     Evidence
	open   bool
	fact   fact
	values uint64
}

// is says whether a fact has one of these values. Where that is open the
// answer is of no use and the transition has to be done again for each half.
func (s *step) is(w *World, f fact, values uint64) bool {
	now := w.facts.get(f)
	switch {
	case now&values == 0:
		return false
	case now&^values == 0:
		return true
	}
	if !s.open {
		s.open, s.fact, s.values = true, f, now&values
	}
	return false
}

// Bits of values, in the order of factTable.
const (
	esxi50      = 1 << 0
	before60    = 1<<3 - 1
	local       = 1 << 0
	strict      = 1 << 2
	lockdownOff = 1 << 0
	selectable  = 1 << 1
	standardSw  = 1 << 0
	distribSw   = 1 << 1
	noMgmt      = 1 << 2
	yes         = 1 << 1 // of wrap, caps, shell, ssh
)

// now says whether a fact that keys can change has one of these values at
// present; changed is the field of World that holds the change.
func (s *step) now(w *World, f fact, changed uint8, values uint64) bool {
	if changed != 0 {
		return 1<<(changed-1)&values != 0
	}
	return s.is(w, f, values)
}

func (s *step) holds(w *World, c condition) bool {
	switch c {
	case only50:
		return s.is(w, factESXi, esxi50)
	case since51:
		return !s.is(w, factESXi, esxi50)
	case since60:
		return !s.is(w, factESXi, before60)
	case localOnly:
		return s.is(w, factConsole, local)
	case hasMgmt:
		return !s.now(w, factManagement, w.mgmtSeen, noMgmt)
	case distributed:
		return s.now(w, factManagement, w.mgmtNow, distribSw)
	case lockable:
		return s.is(w, factLockdownItem, selectable)
	}
	return true
}

func (s *step) shellOn(w *World) bool {
	return s.is(w, factShell, yes) != (w.flags&shellFlipped != 0)
}

func (s *step) sshOn(w *World) bool {
	return s.is(w, factSSH, yes) != (w.flags&sshFlipped != 0)
}

func (s *step) capsOn(w *World) bool {
	base := w.flags&capsCleared == 0 && s.is(w, factCaps, yes)
	return base != (w.flags&capsFlipped != 0)
}

// settle narrows an open fact to its usual half.
func (w *World) settle(s *step) {
	now := w.facts.get(s.fact)
	half := s.values
	if usual(s.fact, now)&half == 0 {
		half = now &^ half
	}
	w.facts = w.facts.with(s.fact, half)
}

// ask answers a question about a world, with open facts settled on their usual
// values.
func ask[T any](w World, question func(*World, *step) T) T {
	for {
		var s step
		answer := question(&w, &s)
		if !s.open {
			return answer
		}
		w.settle(&s)
	}
}

// At names the screen in front, such as "menu" or "mgmt.ipv4".
func (w World) At() string { return placeNames[ask(w, (*World).here)] }

// here gives the screen in front.
func (w *World) here(s *step) place {
	if w.down() {
		return w.place
	}
	switch w.console {
	case 1:
		switch {
		case w.shell == 1:
			return shellPassword
		case w.shell == 2:
			return shellPrompt
		case s.shellOn(w):
			return shellLogin
		}
		return shellOff
	case 11:
		return status
	case 12:
		return kernelLog
	}
	return w.place
}

// Down says that the host is off or booting, and hears no key.
func (w World) Down() bool { return w.down() }

func (w *World) down() bool { return w.place == off || w.place == booting }

// Item is a line of a menu.
type Item struct {
	Label    string
	Dimmed   bool
	Selected bool
}

// Items lists the lines of the menu in front, nil where there is none.
func (w World) Items() []Item {
	return ask(w, func(w *World, s *step) []Item {
		p := w.here(s)
		var list []Item
		for i := range menus[p] {
			it := &menus[p][i]
			if s.holds(w, it.there) {
				list = append(list, Item{w.label(s, p, i), !s.holds(w, it.enabled), i == int(*w.cursor(p))})
			}
		}
		return list
	})
}

// Selected is the label of the item under the cursor, empty where there is no
// menu.
func (w World) Selected() string {
	return ask(w, func(w *World, s *step) string {
		p := w.here(s)
		if menus[p] == nil {
			return ""
		}
		return w.label(s, p, int(*w.cursor(p)))
	})
}

func (w *World) cursor(p place) *uint8 {
	if p == menu {
		return &w.menuAt
	}
	return &w.subAt
}

// label gives a menu item's text, which for a few depends on the host.
func (w *World) label(s *step, p place, i int) string {
	label := menus[p][i].label
	if p != trouble {
		return label
	}
	switch i {
	case itemShell:
		return onOff(s.shellOn(w)) + label
	case itemSSH:
		return onOff(s.sshOn(w)) + label
	case 2:
		if s.is(w, factESXi, before60) {
			return "Modify ESXi Shell timeouts"
		}
	}
	return label
}

func onOff(on bool) string {
	if on {
		return "Disable "
	}
	return "Enable "
}

// Field tells what typed characters go into: the field's label, and whether
// it hides them. ok is false where characters are keys.
func (w World) Field() (label string, hides, ok bool) {
	switch w.At() {
	case "shell.login":
		return "login:", false, true
	case "shell.password":
		return "Password:", true, true
	case "shell":
		return "command", false, true
	}
	if w.console != 0 || forms[w.place] == nil {
		return "", false, false
	}
	f := forms[w.place][w.focus]
	return f.label, f.kind == hidden, f.kind == text || f.kind == hidden
}

// InPasswordField says whether a secret may be typed: the screen shows stars.
func (w World) InPasswordField() bool {
	_, hides, ok := w.Field()
	return ok && hides
}

// Exposed says that a secret was typed elsewhere than into a password field.
func (w World) Exposed() bool { return w.flags&exposed != 0 }

// Value gives what stands in the field under the cursor: stars where it hides
// its text, and one dot per Token.
func (w World) Value() string {
	if w.console == 1 {
		if w.shell == 1 {
			return ""
		}
		return shown(w.line)
	}
	if w.console != 0 || forms[w.place] == nil {
		return ""
	}
	v := part(w.lines, fieldEnd, int(w.focus))
	if forms[w.place][w.focus].kind == hidden {
		return strings.Repeat("*", utf8.RuneCountInString(v))
	}
	return shown(v)
}

// Effect is the worst thing that keys did to the host.
func (w World) Effect() Effect { return w.allEffects().worst() }

// Effects lists all that keys did to the host, the worst first. A switch that
// was turned and turned back is no effect.
func (w World) Effects() []Effect {
	var list []Effect
	all := w.allEffects()
	for e := SystemReset; e > Nothing; e-- {
		if all&(1<<e) != 0 {
			list = append(list, e)
		}
	}
	return list
}

func (w World) allEffects() effects {
	all := w.effects
	if w.flags&(shellFlipped|sshFlipped) == 0 && w.lockNow == 0 {
		return all
	}
	return ask(w, func(w *World, s *step) effects {
		all := w.effects
		turned := func(changed, on bool, off, onEffect Effect) {
			switch {
			case changed && on:
				all.add(onEffect)
			case changed:
				all.add(off)
			}
		}
		turned(w.flags&shellFlipped != 0, s.shellOn(w), ShellOff, ShellOn)
		turned(w.flags&sshFlipped != 0, s.sshOn(w), SSHOff, SSHOn)
		was := !s.is(w, factLockdown, lockdownOff)
		is := !s.now(w, factLockdown, w.lockNow, lockdownOff)
		turned(was != is, is, LockdownOff, LockdownOn)
		return all
	})
}

// threats holds the effect that one key, other than a typed character in a
// field, can have on a screen.
var threats = [placeCount]Effect{
	restartMgmt: NetworkRestarted, disableMgmt: NetworkChanged, mgmtConfirm: HostRestarted, test: PingTest,
	restoreSettings: NetworkWiped, restoreStandard: StandardRestored, restoreVDS: DistributedRestored,
	agents: AgentsRestarted, extensions: SystemReset, reset: SystemReset, power: HostShutDown,
	password: PasswordChanged, keyboard: SettingsChanged, timeouts: SettingsChanged, idle: SettingsChanged,
	lockdown: LockdownOn, trouble: SSHOn, shellPrompt: ShellCommand,
}

// Threat is the worst effect that a single key can have on the screen in
// front, so that a planner can stay off it.
func (w World) Threat() Effect { return threats[ask(w, (*World).here)] }

// LEDs gives the lock lights as a keyboard sees them: bit 0 Num Lock, 1 Caps
// Lock, 2 Scroll Lock (HID Usage Tables, section 11).
func (w World) LEDs() byte {
	var b byte
	if w.flags&numLock != 0 {
		b |= 1
	}
	if ask(w, func(w *World, s *step) bool { return s.capsOn(w) }) {
		b |= 2
	}
	if w.flags&scrollLock != 0 {
		b |= 4
	}
	return b
}

// Facts gives the facts of this world that are down to one value, as they were
// at the start.
func (w World) Facts() map[string]string {
	m := map[string]string{}
	for f := range factCount {
		if v := w.facts.get(f); v&(v-1) == 0 {
			m[factTable[f].name] = valueName(f, v)
		}
	}
	return m
}

// Now gives what a fact has become, the keys typed included. ok is false where
// it is open, and for a name that is no fact.
func (w World) Now(name string) (value string, ok bool) {
	f, ok := factNamed(name)
	if !ok {
		return "", false
	}
	if f == factScreen {
		var s step
		p := w.here(&s)
		return placeNames[p], !s.open
	}
	v := w.facts.get(f)
	switch {
	case f == factManagement && w.mgmtNow != 0:
		v = 1 << (w.mgmtNow - 1)
	case f == factLockdown && w.lockNow != 0:
		v = 1 << (w.lockNow - 1)
	case f == factLayout && w.layoutNow != 0:
		v = 1 << (w.layoutNow - 1)
	case f == factCaps && w.flags&capsCleared != 0:
		v = 1
	}
	if v&(v-1) != 0 {
		return "", false
	}
	if f == factShell && w.flags&shellFlipped != 0 || f == factSSH && w.flags&sshFlipped != 0 || f == factCaps && w.flags&capsFlipped != 0 {
		v ^= 3
	}
	return valueName(f, v), true
}

func valueName(f fact, bit uint64) string {
	for i, v := range factTable[f].values {
		if bit == 1<<i {
			return v
		}
	}
	return ""
}
