package dcui

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/labctl/labctl/hid"
)

// Each row starts on the seed's host, with the facts changed, after the keys.
func TestTransitions(t *testing.T) {
	for _, c := range []struct {
		name, facts, keys string
		at, selected      string
		effect            string
		grade             Grade // of the last key
	}{
		{"F2 asks for a login", "", "F2", "login", "", "nothing", Seen},
		{"DOWN is as good as TAB there", "", "F2 DOWN $password ENTER", "menu", "Configure Password", "nothing", Seen},
		{"TAB comes round to the name", "", "F2 TAB×2 $password", "login", "", "nothing", Inferred},
		{"and the name is then wrong", "", "F2 TAB×2 $password ENTER", "login.error", "", "nothing", Inferred},
		{"a wrong password can be tried again", "", "F2 TAB ENTER ENTER TAB $password ENTER", "menu", "Configure Password", "nothing", Seen},
		{"Esc leaves the login", "", "F2 ESC", "welcome", "", "nothing", Seen},
		{"strict lockdown denies the console", "lockdown=strict", "F2", "denied", "", "nothing", Documented},
		{"and the power keys", "lockdown=strict", "F12", "denied", "", "nothing", Documented},
		{"normal lockdown lets root in", "lockdown=normal", loginKeys, "menu", "Configure Password", "nothing", Seen},
		{"other keys do nothing", "", "ENTER DOWN SPACE F11", "welcome", "", "nothing", Inferred},

		{"a dimmed item is passed over", "", loginKeys + "DOWN", "menu", "Configure Management Network", "nothing", Inferred},
		{"one that is not dimmed is not", "lockdown_item=selectable", loginKeys + "DOWN", "menu", "Configure Lockdown Mode", "nothing", Seen},
		{"without management DOWN leads far", "management=none", loginKeys + "DOWN", "menu", "Network Restore Options", "nothing", Inferred},
		{"a serial console has no keyboard item", "console=serial", loginKeys + "DOWN×5", "menu", "Troubleshooting Options", "nothing", Seen},
		{"a menu stops at its end", "", loginKeys + "DOWN×40", "menu", "Reset System Configuration", "nothing", Inferred},
		{"or wraps", "wrap=yes", loginKeys + "UP", "menu", "Reset System Configuration", "nothing", Inferred},
		{"and stops at its beginning", "", loginKeys + "UP×3", "menu", "Configure Password", "nothing", Inferred},
		{"keys nobody vouches for do nothing", "", loginKeys + "END HOME PGDN TAB SPACE", "menu", "Configure Password", "nothing", Inferred},
		{"Esc logs out", "", loginKeys + "ESC", "welcome", "", "nothing", Seen},

		{"a password is changed", "", loginKeys + "ENTER $password TAB $new TAB $new ENTER", "menu", "Configure Password", "password changed", Recalled},
		{"not with a wrong old one", "", loginKeys + "ENTER $new TAB $new TAB $new ENTER", "password.error", "", "nothing", Recalled},
		{"not with two new ones", "", loginKeys + "ENTER $password TAB $new TAB $password ENTER", "password.error", "", "nothing", Recalled},
		{"not to a weak one", "", loginKeys + `ENTER $password TAB "secret" TAB "secret" ENTER`, "password.error", "", "nothing", Recalled},
		{"the new one is needed from then on", "", loginKeys + "ENTER $password TAB $new TAB $new ENTER ESC " + loginKeys, "login.error", "", "password changed", Inferred},

		{"lockdown on", "lockdown_item=selectable", loginKeys + "DOWN ENTER SPACE ENTER", "menu", "Configure Lockdown Mode", "lockdown on", Recalled},
		{"lockdown off", "lockdown_item=selectable lockdown=normal", loginKeys + "DOWN ENTER SPACE ENTER", "menu", "Configure Lockdown Mode", "lockdown off", Recalled},
		{"lockdown there and back", "lockdown_item=selectable", loginKeys + "DOWN ENTER SPACE ENTER ENTER SPACE ENTER", "menu", "Configure Lockdown Mode", "nothing", Recalled},
		{"lockdown left alone", "lockdown_item=selectable", loginKeys + "DOWN ENTER SPACE ESC", "menu", "Configure Lockdown Mode", "nothing", Recalled},

		{"VLAN, confirmed", "", loginKeys + `DOWN ENTER DOWN ENTER "1000" ENTER ESC "y"`, "menu", "Configure Management Network", "management network changed", Seen},
		{"VLAN, discarded", "", loginKeys + `DOWN ENTER DOWN ENTER "1000" ENTER ESC "n"`, "menu", "Configure Management Network", "nothing", Inferred},
		{"Esc goes back to the changes", "", loginKeys + `DOWN ENTER DOWN ENTER "1000" ENTER ESC ESC`, "mgmt", "VLAN (optional)", "nothing", Inferred},
		{"and to and fro", "", loginKeys + `DOWN ENTER DOWN ENTER "1000" ENTER ESC×3`, "mgmt.confirm", "", "nothing", Seen},
		{"Caps Lock does not keep Y from counting", "caps=on screen=mgmt.confirm", `"y"`, "menu", "Configure Management Network", "management network changed", Seen},
		{"no change, no question", "", loginKeys + "DOWN ENTER ESC", "menu", "Configure Management Network", "nothing", Seen},
		{"a value put back is no change", "", loginKeys + `DOWN ENTER DOWN ENTER "7" ENTER ENTER BS ENTER ESC`, "menu", "Configure Management Network", "nothing", Seen},
		{"a VLAN out of range", "", loginKeys + `DOWN ENTER DOWN ENTER "4096" ENTER`, "mgmt.error", "", "nothing", Inferred},
		{"can be put right", "", loginKeys + `DOWN ENTER DOWN ENTER "4096" ENTER ENTER BS "5" ENTER ESC "y"`, "menu", "Configure Management Network", "management network changed", Seen},
		{"what was applied is not asked about again", "", loginKeys + `DOWN ENTER DOWN ENTER "1000" ENTER ESC "y" ENTER ESC`, "menu", "Configure Management Network", "management network changed", Seen},
		{"nor what was discarded after that", "", loginKeys + `DOWN ENTER DOWN ENTER "1" ENTER ESC "y" ENTER DOWN ENTER "2" ENTER ESC "n" ENTER ESC`, "menu", "Configure Management Network", "management network changed", Seen},
		{"another adapter", "", loginKeys + `DOWN ENTER ENTER SPACE DOWN SPACE ENTER ESC "y"`, "menu", "Configure Management Network", "management network changed", Seen},
		{"details and back keep the marks", "", loginKeys + `DOWN ENTER ENTER DOWN SPACE "d" ESC ENTER ESC`, "mgmt.confirm", "", "nothing", Seen},
		{"DHCP", "", loginKeys + `DOWN ENTER DOWN×2 ENTER DOWN SPACE ENTER ESC "y"`, "menu", "Configure Management Network", "management network changed", Seen},
		{"a static address", "", loginKeys + `DOWN ENTER DOWN×2 ENTER DOWN×2 SPACE DOWN BS×15 "198.51.100.9" ENTER ESC "y"`, "menu", "Configure Management Network", "management network changed", Seen},
		{"no address", "", loginKeys + `DOWN ENTER DOWN×2 ENTER DOWN×3 "x" ENTER`, "mgmt.error", "", "nothing", Inferred},
		{"IPv6 off restarts the host", "", loginKeys + `DOWN ENTER DOWN×3 ENTER SPACE ENTER ESC "y"`, "booting", "", "host restarted", Seen},

		{"restart of the network", "", loginKeys + "DOWN×2 ENTER F11", "restart_mgmt.result", "", "management network restarted", Documented},
		{"ENTER does not confirm it", "", loginKeys + "DOWN×2 ENTER ENTER", "restart_mgmt", "", "nothing", Inferred},
		{"Esc cancels it", "", loginKeys + "DOWN×2 ENTER ESC F11", "menu", "Restart Management Network", "nothing", Inferred},
		{"a ping test", "", loginKeys + "DOWN×3 ENTER ENTER", "test.result", "", "ping test", Recalled},

		{"all networking", "", loginKeys + "DOWN×4 ENTER ENTER F11", "restore.result", "", "all networking wiped", Recalled},
		{"a distributed switch", "", loginKeys + "DOWN×4 ENTER DOWN×2 ENTER ENTER", "restore.result", "", "distributed switch restored", Recalled},
		{"F11 applies that form too", "", loginKeys + "DOWN×4 ENTER DOWN×2 ENTER F11", "restore.result", "", "distributed switch restored", Recalled},
		{"a restored switch dims its item", "", seedKeys + " ENTER", "restore", "Restore Network Settings", "standard switch restored", Recalled},
		{"the worst effect counts", "", seedKeys + " ENTER ENTER F11", "restore.result", "", "all networking wiped", Recalled},
		{"after a wipe the menu needs a new login", "management=none", loginKeys + "DOWN ENTER×2 F11 ENTER ESC UP", "menu", "Configure Password", "all networking wiped", Inferred},
		{"and has its items then", "management=none", loginKeys + "DOWN ENTER×2 F11 ENTER ESC×2 " + loginKeys + "DOWN", "menu", "Configure Management Network", "all networking wiped", Inferred},
		{"5.0 has the item in the main menu", "esxi=5.0", loginKeys + "DOWN×5 ENTER F11 ENTER", "menu", "Configure Password", "standard switch restored", Recalled},
		{"5.0 can take the network down", "esxi=5.0", loginKeys + "DOWN×4 ENTER F11", "disable_mgmt.result", "", "management network changed", Documented},
		{"5.0 can remove extensions", "esxi=5.0 wrap=yes", loginKeys + "UP×2 ENTER F11", "booting", "", "system configuration reset", Recalled},

		{"another keymap", "", loginKeys + "DOWN×5 ENTER DOWN×9 SPACE ENTER", "menu", "Configure Keyboard", "settings changed", Recalled},
		{"the same keymap", "", loginKeys + "DOWN×5 ENTER DOWN×5 SPACE ENTER", "menu", "Configure Keyboard", "nothing", Recalled},

		{"the shell on", "", loginKeys + "DOWN×6 ENTER ENTER", "trouble", "Disable ESXi Shell", "shell on", Documented},
		{"the shell off", "shell=on", loginKeys + "DOWN×6 ENTER ENTER", "trouble", "Enable ESXi Shell", "shell off", Documented},
		{"SSH on", "", loginKeys + "DOWN×6 ENTER DOWN ENTER", "trouble", "Disable SSH", "ssh on", Documented},
		{"SSH off", "ssh=on", loginKeys + "DOWN×6 ENTER DOWN ENTER", "trouble", "Enable SSH", "ssh off", Documented},
		{"SSH on and off again", "", loginKeys + "DOWN×6 ENTER DOWN ENTER ENTER", "trouble", "Enable SSH", "nothing", Documented},
		{"the agents", "", loginKeys + "DOWN×6 ENTER DOWN×4 ENTER F11", "agents.result", "", "management agents restarted", Documented},
		{"the agents before there was an idle item", "esxi=5.5", loginKeys + "DOWN×6 ENTER DOWN×3 ENTER F11", "agents.result", "", "management agents restarted", Documented},
		{"time-outs", "", loginKeys + `DOWN×6 ENTER DOWN×2 ENTER BS "5" ENTER`, "trouble", "Modify ESXi Shell and SSH timeouts", "settings changed", Recalled},
		{"time-outs that are none", "", loginKeys + `DOWN×6 ENTER DOWN×2 ENTER "x" ENTER`, "trouble.error", "", "nothing", Inferred},

		{"a log", "", loginKeys + `DOWN×7 ENTER "1"`, "logs.view", "", "nothing", Documented},
		{"q leaves it", "", loginKeys + `DOWN×7 ENTER "1q"`, "logs", "", "nothing", Documented},
		{"a search takes a q as text", "", loginKeys + `DOWN×7 ENTER "1/q"`, "logs.search", "", "nothing", Inferred},
		{"and is over with ENTER", "", loginKeys + `DOWN×7 ENTER "1/q" ENTER "q"`, "logs", "", "nothing", Documented},
		{"support information", "", loginKeys + "DOWN×8 ENTER PGDN", "support", "", "nothing", Documented},
		{"reset", "", loginKeys + "DOWN×9 ENTER F11", "booting", "", "system configuration reset", Recalled},
		{"reset, not confirmed", "", loginKeys + "DOWN×9 ENTER ENTER ESC", "menu", "Reset System Configuration", "nothing", Recalled},

		{"shut down", "", "F12 TAB $password ENTER F2", "off", "", "host shut down", Documented},
		{"restart", "", "F12 TAB $password ENTER F11", "booting", "", "host restarted", Recalled},
		{"neither", "", "F12 TAB $password ENTER ESC F11", "welcome", "", "nothing", Inferred},
		{"F2 after a cancelled F12 is no shutdown", "", "F12 ESC " + loginKeys, "menu", "Configure Password", "nothing", Seen},
		{"a wrong password on the way to power", "", "F12 TAB ENTER ENTER TAB $password ENTER", "power", "", "nothing", Seen},
		{"a host that is down hears nothing", "", "F12 TAB $password ENTER F2 ALT+F2 ESC×4 F2", "off", "", "host shut down", Inferred},

		{"another console and back", "", loginKeys + "ALT+F12 DOWN×3 ENTER ALT+F2", "menu", "Configure Password", "nothing", Documented},
		{"Alt+F3 is no console", "", loginKeys + "ALT+F3 DOWN", "menu", "Configure Management Network", "nothing", Inferred},
		{"a serial line has no other console", "console=serial", loginKeys + "ALT+F12", "menu", "Configure Password", "nothing", Inferred},
		{"no shell, no prompt", "", `ALT+F1 "root" ENTER`, "shell.off", "", "nothing", Inferred},
		{"a shell", "shell=on", `ALT+F1 "root" ENTER $password ENTER "esxcli" ENTER`, "shell", "", "shell command run", Inferred},
		{"that is left", "shell=on", `ALT+F1 "root" ENTER $password ENTER "exit" ENTER`, "shell.login", "", "nothing", Inferred},
		{"a wrong password at the shell", "shell=on", `ALT+F1 "root" ENTER "wrong" ENTER "esxcli" ENTER`, "shell.password", "", "nothing", Inferred},
		{"escape hatch", "", loginKeys + `DOWN×6 ENTER ENTER ALT+F1 "root" ENTER $password ENTER "ls" ENTER "exit" ENTER ALT+F2`, "trouble", "Disable ESXi Shell", "shell on", Documented},

		{"edit inside a field", "", loginKeys + `DOWN×3 ENTER HOME DEL "2" RIGHT LEFT BS "1" END ENTER`, "test.result", "", "ping test", Recalled},
		{"two Caps Locks are none", "caps=on", "CAPS " + loginKeys, "menu", "Configure Password", "nothing", Seen},
		{"Caps Lock inverts a password", "", "CAPS " + loginKeys, "login.error", "", "nothing", Inferred},
		{"a screen that 5.0 does not have", "esxi=5.0 screen=restore", "", "menu", "Configure Password", "nothing", Documented},
		{"a screen left open", "screen=restore.vds", "ESC", "restore", "Restore vDS", "nothing", Recalled},
		{"changes left open", "screen=mgmt.confirm", `"n"`, "menu", "Configure Management Network", "nothing", Inferred},
	} {
		t.Run(c.name, func(t *testing.T) {
			var changes []string
			for f := range strings.FieldsSeq(c.facts) {
				name, value, _ := strings.Cut(f, "=")
				changes = append(changes, name, value)
			}
			w := world(t, with(seedHost, changes...))
			words := strings.Fields(c.keys)
			var ev Evidence
			if len(words) > 0 {
				last := words[len(words)-1]
				w = play(t, w, strings.Join(words[:len(words)-1], " "))
				if k, ok := named[last]; ok {
					w, ev = w.Step(k)
				} else {
					// The grade asked for is that of the last key of the word.
					if q := strings.Trim(last, `"`); q != last {
						keys := chords(t, q)
						for _, k := range keys {
							w, ev = w.Step(k)
						}
					} else {
						w = play(t, w, last)
						ev.Grade = c.grade
					}
				}
			}
			if w.At() != c.at || w.Selected() != c.selected || w.Effect().String() != c.effect {
				t.Errorf("at %s on %q with %q, want %s on %q with %q", w.At(), w.Selected(), w.Effect(), c.at, c.selected, c.effect)
			}
			if ev.Grade != c.grade {
				t.Errorf("the last key is %s (%s), want %s", ev.Grade, ev.Source, c.grade)
			}
			if len(words) > 0 && ev.Source == "" && named[words[len(words)-1]] != (hid.Chord{}) {
				t.Error("the last key rests on nothing")
			}
		})
	}
}

// The confirm of the management network takes letters, and those are where the
// console's layout has them.
func TestYIsALetterOfTheLayout(t *testing.T) {
	w := world(t, with(seedHost, "layout", "de", "screen", "mgmt.confirm"))
	if got := w.Press(hid.Chord{Key: hid.KeyZ}); got.Effect() != NetworkChanged {
		t.Errorf("where a US keyboard has Z a German one has Y, yet the effect is %q", got.Effect())
	}
	if got := w.Press(hid.Chord{Key: hid.KeyZ - 1}); got.At() != "mgmt.confirm" || got.Effect() != Nothing {
		t.Errorf("where a US keyboard has Y a German one has Z, yet the end is %v", got)
	}
}

// What the layouts of package hid type, the console reads: each character that
// one of them has, with its dead keys and codes on the keypad.
func TestEveryLayout(t *testing.T) {
	if n := len(hid.Layouts()); n != layoutCount {
		t.Errorf("hid has %d layouts", n)
	}
	for _, name := range layoutNames {
		l, err := hid.FindLayout(name.short)
		if err != nil || l.Name() != name.esxi {
			t.Errorf("%v: hid has %v, %v", name, l, err)
			continue
		}
		field := world(t, with(seedHost, "layout", l.Short(), "screen", "mgmt.suffixes"))
		for range 20 {
			field = field.Press(hid.Chord{Key: hid.KeyBackspace})
		}
		typed := 0
		for r := ' '; r < 0x2100; r++ {
			keys, err := l.WithKeypad().Chords(string(r))
			if err != nil {
				continue
			}
			typed++
			w := field
			for _, k := range keys {
				w = w.Press(k)
			}
			if got := w.Value(); got != string(r) {
				t.Errorf("%s: the keys of %q type %q", l.Short(), r, got)
			}
		}
		if typed < 95 {
			t.Errorf("%s types %d characters", l.Short(), typed)
		}
	}
}

// As on a Linux console: an accent waits for its letter, behind another
// console too, and is let go where the two do not join.
func TestDeadKeys(t *testing.T) {
	w := world(t, with(seedHost, "layout", "de", "screen", "mgmt.suffixes"))
	circumflex, acute := hid.Chord{Key: 0x35}, hid.Chord{Key: 0x2e}
	e, x := hid.Chord{Key: hid.KeyA + 4}, hid.Chord{Key: hid.KeyA + 'x' - 'a'}
	altF12 := hid.Chord{Mods: hid.Alt, Key: hid.KeyF12}
	const was = "lab.local"
	for _, c := range []struct {
		keys []hid.Chord
		want string
	}{
		{[]hid.Chord{circumflex}, was},
		{[]hid.Chord{circumflex, e}, was + "ê"},
		{[]hid.Chord{circumflex, x}, was + "^x"},
		{[]hid.Chord{circumflex, Space}, was + "^"},
		{[]hid.Chord{circumflex, circumflex, e}, was + "^e"},
		{[]hid.Chord{circumflex, acute, e}, was + "^é"},
		{[]hid.Chord{circumflex, {Key: hid.KeyLeft}, e}, "lab.locaêl"},
		{[]hid.Chord{circumflex, {Key: hid.KeyBackspace}}, was},
		{[]hid.Chord{circumflex, {Mods: hid.Alt, Key: hid.KeyF12}, e, AltF2, e}, was + "e"},
		{[]hid.Chord{altF12, circumflex, AltF2, e}, was + "ê"},
		{[]hid.Chord{{Key: hid.KeyCapsLock}, circumflex, e}, was + "Ê"},
	} {
		got := w
		for _, k := range c.keys {
			got = got.Press(k)
		}
		if got.Value() != c.want {
			t.Errorf("%v leave %q, want %q", c.keys, got.Value(), c.want)
		}
	}
	// An open layout is asked for where a key is dead on some of them, and only there.
	b := belief(t, with(seedHost, "layout", "", "screen", "menu"))
	if n := b.Press(x).Len(); n != 1 {
		t.Errorf("a letter in a menu divides the worlds in %d", n)
	}
	if n := b.Press(circumflex).Len(); n < 2 {
		t.Error("a key that is dead on some layouts waits on none")
	}
	if n := b.Press(circumflex).Press(Esc).Len(); n != 1 {
		t.Errorf("ESC leaves %d worlds of an accent", n)
	}
	token, err := play(t, w.Press(circumflex), "BS×9").Press(circumflex).Enter(Token{ID: 3, Layout: "de"})
	if err != nil || token.Press(Enter).At() != "mgmt.error" {
		t.Errorf("an accent before a token leaves it whole, at %s, %v", token.Press(Enter).At(), err)
	}
}

func TestKeypadCodes(t *testing.T) {
	code := func(digits string) (keys []hid.Chord) {
		for _, d := range digits {
			k := hid.KeyKP1 + hid.Usage(d-'1')
			if d == '0' {
				k = hid.KeyKP0
			}
			keys = append(keys, hid.Chord{Mods: hid.Alt, Key: k, Keep: true})
		}
		keys[len(keys)-1].Keep = false
		return keys
	}
	for _, c := range []struct {
		keys         []hid.Chord
		value, label string
	}{
		{code("45"), "x-", "Ping Address #0:"},
		{code("0045"), "x-", "Ping Address #0:"},
		{code("300"), "x\uFFFD", "Ping Address #0:"},
		{code("99999999999"), "x\uFFFD", "Ping Address #0:"},
		{code("8"), "", "Ping Address #0:"},
		{code("0"), "x", "Ping Address #0:"},
		{code("9"), "192.0.2.1", "Ping Address #1:"},
		{code("4")[:1], "x", "Ping Address #0:"},
		{[]hid.Chord{{Mods: hid.Alt, Key: hid.KeyKP1 + 3, Keep: true}, {Mods: hid.Alt, Key: hid.KeyKP1 + 4, Keep: true}, {Key: hid.KeyA}}, "x-ф", "Ping Address #0:"},
		{[]hid.Chord{{Key: hid.KeyKP1 + 3}}, "x", "Ping Address #0:"},
	} {
		w := play(t, world(t, with(seedHost, "layout", "ru", "screen", "test")), "BS×20").Type('x')
		for _, k := range c.keys {
			w = w.Press(k)
		}
		if label, _, _ := w.Field(); w.Value() != c.value || label != c.label {
			t.Errorf("%v leave %q in %s", c.keys, w.Value(), label)
		}
	}
	w := world(t, with(seedHost, "layout", "ru", "shell", "on")).SetPassword("pw")
	w = w.Press(AltF1)
	for _, text := range []string{"root", "pw", "ls"} {
		for _, k := range on(t, "ru", text) {
			next, ev := w.Step(k)
			if k.Mods == hid.Alt && ev.Grade != Documented {
				t.Errorf("at %s a code is %s", w.At(), ev.Grade)
			}
			w = next
		}
		w = w.Press(Enter)
	}
	if w.At() != "shell" || w.Effect() != ShellCommand {
		t.Errorf("codes at the shell end %v", w)
	}
	if _, ev := world(t, with(seedHost, "screen", "mgmt.vlan")).Step(code("4")[0]); ev.Grade != Inferred {
		t.Errorf("in a field a code is %s", ev.Grade)
	}
}

func TestTyping(t *testing.T) {
	w := play(t, world(t, seedHost), loginKeys+`DOWN×3 ENTER BS×20 "abc" HOME "x" RIGHT DEL END BS "Z.1" LEFT×2 "-"`)
	if got := w.Value(); got != "xaZ-.1" {
		t.Errorf("field holds %q", got)
	}
	if label, hides, ok := w.Field(); label != "Ping Address #0:" || hides || !ok {
		t.Errorf("field %q, hides %v, %v", label, hides, ok)
	}
	if got := w.Press(hid.Chord{Mods: hid.Shift, Key: hid.KeyBackspace}).Value(); got != "xaZ.1" {
		t.Errorf("shifted, backspace leaves %q", got)
	}
	kept := play(t, world(t, seedHost), loginKeys+`DOWN ENTER DOWN ENTER "1" ENTER ESC "y" ENTER DOWN ENTER "2" ENTER ESC "n" ENTER DOWN ENTER`)
	if kept.Value() != "1" {
		t.Errorf("a discarded change leaves VLAN %q of the 1 that was applied", kept.Value())
	}
	for range 1000 {
		w = w.Type('é')
	}
	if n := len(w.Value()); n > fieldLimit+4 {
		t.Errorf("a field grew to %d bytes", n)
	}
	if v := w.Type('\n').Type(0).Type('\x01'); v != w {
		t.Error("a control character was taken as text")
	}
	if w := play(t, world(t, seedHost), "F2 TAB $password"); w.Value() != "*" || !w.InPasswordField() {
		t.Errorf("a password shows as %q", w.Value())
	}
	if w := play(t, world(t, seedHost), "F2 $password"); w.Value() != "root•" || w.InPasswordField() {
		t.Errorf("a Token in the open shows as %q", w.Value())
	}
}

// A Token passes the checks of a form where it arrived as composed, and fails
// them where it did not: what would be applied then is not what was meant.
func TestTokensInForms(t *testing.T) {
	for _, c := range []struct {
		keys  string
		token Token
		at    string
	}{
		{"DOWN×2 ENTER DOWN×3 BS×15", Token{ID: 3, Layout: "us"}, "mgmt"},
		{"DOWN×2 ENTER DOWN×3 BS×15", Token{ID: 3, Layout: "fr"}, "mgmt.error"},
		{"DOWN ENTER", Token{ID: 3, Layout: "us", Caseless: true}, "mgmt"},
		{"DOWN ENTER", Token{ID: 3, Layout: "de", Caseless: true}, "mgmt.error"},
		{"DOWN×4 ENTER DOWN×4", Token{ID: 3, Layout: "us"}, "mgmt"},
		{"DOWN×4 ENTER DOWN×4", Token{ID: 3, Layout: "fr"}, "mgmt.error"},
	} {
		w := play(t, world(t, seedHost), loginKeys+"DOWN ENTER "+c.keys)
		w, err := w.Enter(c.token)
		if err != nil {
			t.Fatal(err)
		}
		if w = w.Press(Enter); w.At() != c.at {
			t.Errorf("%s with %+v ends at %s, not at %s", c.keys, c.token, w.At(), c.at)
		}
	}
	caps := world(t, with(seedHost, "caps", "on", "screen", "mgmt.vlan"))
	for caseless, at := range map[bool]string{true: "mgmt", false: "mgmt.error"} {
		w, err := caps.Enter(Token{ID: 3, Layout: "us", Caseless: caseless})
		if err != nil {
			t.Fatal(err)
		}
		if w = w.Press(Enter); w.At() != at {
			t.Errorf("under Caps Lock, caseless %v: at %s", caseless, w.At())
		}
	}
}

// Real keys log in to a world with a real password, and only with that.
func TestRealPassword(t *testing.T) {
	w := world(t, seedHost).SetPassword("Va!id_1pw")
	if got := play(t, w, `F2 TAB "Va!id_1pw" ENTER`); got.At() != "menu" {
		t.Errorf("the right password leads to %s", got.At())
	}
	if got := play(t, w, `F2 TAB "va!id_1pw" ENTER`); got.At() != "login.error" {
		t.Errorf("a wrong password leads to %s", got.At())
	}
	if got := play(t, w.SetPassword(""), "F2 TAB ENTER ENTER"); got.At() != "password" {
		t.Errorf("an empty password leads to %s", got.At())
	} else if label, _, _ := got.Field(); label != "New Password:" {
		t.Errorf("an old password is asked for where there is none: %q", label)
	}
	caps := world(t, with(seedHost, "caps", "on")).SetPassword("Va!id_1pw")
	if got := play(t, caps, `F2 TAB "vA!ID_1PW" ENTER`); got.At() != "menu" {
		t.Errorf("under Caps Lock the inverted keys lead to %s", got.At())
	}
	if caps.LEDs() != 2 || caps.Press(named["CAPS"]).LEDs() != 0 || caps.CapsOff().LEDs() != 0 || caps.Press(named["NUM"]).Press(named["SCROLL"]).LEDs() != 7 {
		t.Error("the lock lights are wrong")
	}
}

func TestIdle(t *testing.T) {
	w := play(t, world(t, seedHost), loginKeys+`DOWN ENTER DOWN ENTER "1000" ENTER`)
	if got := w.Idle(); got.At() != "welcome" || got.Effect() != Nothing || got != world(t, seedHost) {
		t.Errorf("idle in the menus ends %v", got)
	}
	if got := w.Press(named["ALT+F12"]).Idle(); got.At() != "log" || got.Press(AltF2).At() != "welcome" {
		t.Errorf("idle behind another console ends %v", got)
	}
	old := play(t, world(t, with(seedHost, "esxi", "5.5")), loginKeys)
	if got := old.Idle(); got != old {
		t.Errorf("5.5 logs out by itself: %v", got)
	}
}

func TestAnchor(t *testing.T) {
	for _, c := range []struct {
		facts map[string]string
		keys  int
		ok    bool
	}{
		{map[string]string{"screen": "welcome"}, 5, true},
		{map[string]string{"screen": "mgmt.adapters"}, 5, true},
		{map[string]string{"layout": "us"}, 10, true},
		{map[string]string{"layout": "de"}, 10, true},
		{map[string]string{"layout": "us-dvorak"}, 10, true},
		{map[string]string{"layout": "ru"}, 14, true},
		{map[string]string{"layout": "ru", "screen": "menu"}, 5, true},
	} {
		keys, ok := belief(t, c.facts).Anchor()
		if len(keys) != c.keys || ok != c.ok || !slices.Equal(keys[:5], []hid.Chord{AltF2, Esc, Esc, Esc, Esc}) {
			t.Errorf("%v: %v, %v", c.facts, keys, ok)
		}
	}
}

func TestFacts(t *testing.T) {
	for _, bad := range []map[string]string{{"esx": "6.0"}, {"esxi": "6.1"}, {"wrap": ""}, {"layout": "klingon"}, {"screen": "denied"}} {
		for _, f := range []func(map[string]string) error{
			func(m map[string]string) error { _, err := NewWorld(m); return err },
			func(m map[string]string) error { _, err := NewBelief(m); return err },
		} {
			var fe *FactError
			if err := f(bad); !errors.As(err, &fe) || !strings.Contains(err.Error(), fe.Name) {
				t.Errorf("%v: error %v", bad, err)
			}
		}
	}
	if _, err := (Belief{}).Enter(Token{Layout: "xx"}); err == nil {
		t.Error("a token of no layout was taken")
	}
	w := world(t, map[string]string{"layout": "Swiss French"})
	if got, _ := w.Now("layout"); got != "ch-fr" {
		t.Errorf("ESXi's own name gives layout %q", got)
	}
	if got, _ := world(t, nil).Now("esxi"); got != "7.0" {
		t.Errorf("the usual version is %q", got)
	}
	if n := len(FactNames()); n != len(seedHost) {
		t.Errorf("%d facts", n)
	}
	if _, ok := belief(t, nil).Worlds()[0].Now("esxi"); ok {
		t.Error("an open fact has a value")
	}
	w = play(t, world(t, seedHost), seedKeys+" ENTER ESC DOWN×9")
	if got, _ := w.Now("management"); got != "standard" {
		t.Errorf("after the restore management is %q", got)
	}
	w = play(t, world(t, seedHost), loginKeys+"DOWN×6 ENTER ENTER DOWN ENTER")
	for _, name := range []string{"shell", "ssh"} {
		if got, _ := w.Now(name); got != "on" {
			t.Errorf("%s is %q", name, got)
		}
		if got := w.Facts()[name]; got != "off" {
			t.Errorf("%s was %q", name, got)
		}
	}
	if got := w.Effects(); !slices.Equal(got, []Effect{SSHOn, ShellOn}) {
		t.Errorf("effects %v", got)
	}
}

func TestOnly(t *testing.T) {
	b := belief(t, map[string]string{"screen": "welcome"})
	if b.Len() != 1 {
		t.Errorf("one starting screen is %d worlds", b.Len())
	}
	b, err := b.Only("esxi", "5.1", "5.5", "6.0", "6.5", "6.7", "7.0", "8.0")
	if err != nil {
		t.Fatal(err)
	}
	if b, err = b.Only("management", "distributed"); err != nil {
		t.Fatal(err)
	}
	end := play(t, b, seedKeys)
	for _, o := range end.Outcomes(summary) {
		if o.Facts["esxi"] != "" || o.Facts["management"] != "" || o.Facts["wrap"] != "" || o.Facts["vcenter"] != "" {
			t.Errorf("%s depends on %v", summary(o.World), o.Facts)
		}
	}
	if got := end.Splits(summary); !slices.Equal(got, []string{"lockdown", "lockdown_item", "caps", "layout"}) {
		t.Errorf("the outcomes depend on %v", got)
	}
	if _, err := b.Only("esxi", "6.1"); err == nil {
		t.Error("no version 6.1 was missed")
	}
	if _, err := b.Only("nothing"); err == nil {
		t.Error("no fact of that name was missed")
	}
	restored := end.Where(func(w World) bool { return w.Effect() == StandardRestored })
	if all := restored.Outcomes(summary); len(all) == 0 || !restored.All(func(w World) bool { return w.At() == "restore.result" }) {
		t.Errorf("evidence of the restore leaves %v", all)
	}
	none, err := b.Only("management", "standard")
	if err != nil || none.Len() != 0 {
		t.Errorf("contradiction leaves %d worlds, error %v", none.Len(), err)
	}
	none = play(t, none, seedKeys)
	if none.Len() != 0 || len(none.Views()) != 0 || len(none.Outcomes(summary)) != 0 {
		t.Error("keys made worlds out of none")
	}
}

func TestWeakestEvidence(t *testing.T) {
	b := play(t, belief(t, with(seedHost, "lockdown_item", "", "management", "")), loginKeys)
	if _, ev := b.Step(Enter); ev != seenConsole {
		t.Errorf("the first item opens by %v", ev)
	}
	if _, ev := b.Step(Down); ev != lockdownUnseen {
		t.Errorf("DOWN rests on %v", ev)
	}
}

func TestHash(t *testing.T) {
	a := play(t, belief(t, nil), loginKeys)
	b := play(t, belief(t, nil), loginKeys)
	c := b.Press(Down)
	if a.Hash() != b.Hash() || !a.Equal(b) {
		t.Error("the same keys give another belief")
	}
	if a.Hash() == c.Hash() || a.Equal(c) || c.Equal(a) {
		t.Error("another key gives the same belief")
	}
}

func TestItems(t *testing.T) {
	for _, c := range []struct {
		facts []string
		items string // * dims, > is the cursor
	}{
		{nil, ">Configure Password,*Configure Lockdown Mode,Configure Management Network,Restart Management Network," +
			"Test Management Network,Network Restore Options,Configure Keyboard,Troubleshooting Options,View System Logs," +
			"View Support Information,Reset System Configuration"},
		{[]string{"console", "serial", "lockdown_item", "selectable", "management", "none"},
			">Configure Password,Configure Lockdown Mode,*Configure Management Network,*Restart Management Network," +
				"*Test Management Network,Network Restore Options,Troubleshooting Options,View System Logs," +
				"View Support Information,Reset System Configuration"},
		{[]string{"esxi", "5.0", "management", "standard"},
			">Configure Password,*Configure Lockdown Mode,Configure Management Network,Restart Management Network," +
				"Test Management Network,Disable Management Network,*Restore Standard Switch,Configure Keyboard," +
				"Troubleshooting Options,View System Logs,View Support Information,Remove Custom Extensions,Reset System Configuration"},
	} {
		var got []string
		for _, it := range play(t, world(t, with(seedHost, c.facts...)), loginKeys).Items() {
			s := it.Label
			if it.Dimmed {
				s = "*" + s
			}
			if it.Selected {
				s = ">" + s
			}
			got = append(got, s)
		}
		if strings.Join(got, ",") != c.items {
			t.Errorf("%v:\n got %s\nwant %s", c.facts, strings.Join(got, ","), c.items)
		}
	}
	if got := world(t, seedHost).Items(); got != nil {
		t.Errorf("the welcome screen is a menu of %v", got)
	}
}

func TestDestructive(t *testing.T) {
	for e := Nothing; e <= SystemReset; e++ {
		want := e == DistributedRestored || e == StandardRestored || e == NetworkWiped || e == SystemReset
		if e.Destructive() != want || e.String() == "" {
			t.Errorf("%q: destructive is %v", e, e.Destructive())
		}
	}
}

func TestStrongPasswords(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "Ab1!": false, "abcdefgh": false, "abcdef12": false, "Abcdef1": true, "abc_ef1": true,
		"ABC_EF1x": true, string(tokenRight): true, string(tokenGarbled): false,
	} {
		if strong(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

// A light that was read and set right ends all doubt about Caps Lock, and
// joins what it had divided.
func TestCapsOff(t *testing.T) {
	b := belief(t, with(seedHost, "caps", ""))
	if n := play(t, b, loginKeys).Len(); n != 2 {
		t.Errorf("Caps Lock divides a login in %d", n)
	}
	b = play(t, b.CapsOff(), loginKeys)
	if b.Len() != 1 || !b.All(func(w World) bool { return w.At() == "menu" }) {
		t.Errorf("with Caps Lock off the login leads to %v", b.Worlds())
	}
	b = play(t, b, "DOWN×3 ENTER").Type('é')
	if got := b.Worlds()[0].Value(); got != "192.0.2.1é" {
		t.Errorf("a character by another way gives %q", got)
	}
}
