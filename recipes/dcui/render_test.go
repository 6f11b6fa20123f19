package dcui

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/labctl/labctl/hid"
)

var update = flag.Bool("update", false, "write the golden screens anew")

// tour leads to every screen, on the host of the seed unless facts say
// otherwise. Menu items are named, so that the tour is the same for every
// version; one that is not there is left out.
var tour = []struct {
	at    string   // the screen it ends on
	items []string // menu items to open, after a login
	keys  string   // keys after that
	facts []string // what differs from the seed's host
}{
	{at: "welcome"},
	{at: "denied", keys: "F2", facts: []string{"lockdown", "strict"}},
	{at: "login", keys: `F2 TAB "secret"`},
	{at: "login.error", keys: `F2 TAB "wrong" ENTER`},
	{at: "menu", items: []string{""}},
	{at: "menu", items: []string{""}, keys: "DOWN", facts: []string{"lockdown_item", "selectable"}},
	{at: "menu", items: []string{""}, facts: []string{"management", "none"}},
	{at: "menu", items: []string{""}, facts: []string{"console", "serial"}},
	{at: "menu", items: []string{""}, keys: "F4"},
	{at: "password", items: []string{"Configure Password"}, keys: "$password TAB $new"},
	{at: "password.error", items: []string{"Configure Password"}, keys: "ENTER"},
	{at: "lockdown", items: []string{"Configure Lockdown Mode"}, facts: []string{"lockdown_item", "selectable", "lockdown", "normal"}},
	{at: "mgmt", items: []string{"Configure Management Network"}, keys: "DOWN×2"},
	{at: "mgmt.adapters", items: []string{"Configure Management Network", "Network Adapters"}, keys: "DOWN SPACE"},
	{at: "mgmt.adapters.details", items: []string{"Configure Management Network", "Network Adapters"}, keys: `"d"`},
	{at: "mgmt.vlan", items: []string{"Configure Management Network", "VLAN (optional)"}, keys: `"1000"`},
	{at: "mgmt.error", items: []string{"Configure Management Network", "VLAN (optional)"}, keys: `"5000" ENTER`},
	{at: "mgmt.ipv4", items: []string{"Configure Management Network", "IPv4 Configuration"}},
	{at: "mgmt.ipv6", items: []string{"Configure Management Network", "IPv6 Configuration"}, keys: "DOWN×3 SPACE DOWN"},
	{at: "mgmt.dns", items: []string{"Configure Management Network", "DNS Configuration"}, keys: "DOWN×2"},
	{at: "mgmt.suffixes", items: []string{"Configure Management Network", "Custom DNS Suffixes"}},
	{at: "mgmt.confirm", items: []string{"Configure Management Network", "VLAN (optional)"}, keys: `"7" ENTER ESC`},
	{at: "restart_mgmt", items: []string{"Restart Management Network"}},
	{at: "restart_mgmt.result", items: []string{"Restart Management Network"}, keys: "F11"},
	{at: "disable_mgmt", items: []string{"Disable Management Network"}},
	{at: "disable_mgmt.result", items: []string{"Disable Management Network"}, keys: "F11"},
	{at: "test", items: []string{"Test Management Network"}, keys: `BS×9 "198.51.100.7"`},
	{at: "test.result", items: []string{"Test Management Network"}, keys: "ENTER"},
	{at: "restore", items: []string{"Network Restore Options"}},
	{at: "restore", items: []string{"Network Restore Options"}, facts: []string{"management", "standard"}},
	{at: "restore.settings", items: []string{"Network Restore Options", "Restore Network Settings"}},
	{at: "restore.standard", items: []string{"Network Restore Options", "Restore Standard Switch"}},
	{at: "restore.standard", items: []string{"Restore Standard Switch"}},
	{at: "restore.vds", items: []string{"Network Restore Options", "Restore vDS"}},
	{at: "restore.result", items: []string{"Network Restore Options", "Restore Standard Switch"}, keys: "F11"},
	{at: "keyboard", items: []string{"Configure Keyboard"}, keys: "DOWN×9"},
	{at: "trouble", items: []string{"Troubleshooting Options"}},
	{at: "trouble", items: []string{"Troubleshooting Options"}, keys: "DOWN ENTER", facts: []string{"shell", "on"}},
	{at: "trouble.timeouts", items: []string{"Troubleshooting Options", "Modify ESXi Shell and SSH timeouts"}},
	{at: "trouble.idle", items: []string{"Troubleshooting Options", "Modify DCUI idle timeout"}},
	{at: "trouble.error", items: []string{"Troubleshooting Options", "Modify DCUI idle timeout"}, keys: `"x" ENTER`},
	{at: "agents", items: []string{"Troubleshooting Options", "Restart Management Agents"}},
	{at: "agents.result", items: []string{"Troubleshooting Options", "Restart Management Agents"}, keys: "F11"},
	{at: "logs", items: []string{"View System Logs"}},
	{at: "logs.view", items: []string{"View System Logs"}, keys: `"4"`},
	{at: "logs.search", items: []string{"View System Logs"}, keys: `"4/warn"`},
	{at: "support", items: []string{"View Support Information"}},
	{at: "extensions", items: []string{"Remove Custom Extensions"}},
	{at: "reset", items: []string{"Reset System Configuration"}},
	{at: "booting", items: []string{"Reset System Configuration"}, keys: "F11"},
	{at: "power", keys: "F12 TAB $password ENTER"},
	{at: "off", keys: "F12 TAB $password ENTER F2"},
	{at: "shell.off", keys: "ALT+F1"},
	{at: "shell.login", keys: `ALT+F1 "root"`, facts: []string{"shell", "on"}},
	{at: "shell.password", keys: `ALT+F1 "root" ENTER "secret"`, facts: []string{"shell", "on"}},
	{at: "shell", keys: `ALT+F1 "root" ENTER $password ENTER "esxcli"`, facts: []string{"shell", "on"}},
	{at: "status", keys: "ALT+F11"},
	{at: "log", keys: "ALT+F12"},
}

// to moves the cursor to an item by its label and opens it. ok is false where
// there is none that can be selected.
func to(w World, label string) (World, bool) {
	for range 30 {
		at := w.Selected()
		if at == label || strings.Contains(label, "timeouts") && strings.HasPrefix(at, "Modify ESXi") {
			return w.Press(Enter), true
		}
		next := w.Press(Down)
		if next == w {
			break
		}
		w = next
	}
	return w, false
}

func visit(t *testing.T, version string, stop int) (World, bool) {
	t.Helper()
	s := tour[stop]
	w := world(t, with(seedHost, append([]string{"esxi", version}, s.facts...)...))
	if s.items != nil {
		w = play(t, w, loginKeys)
	}
	for _, label := range s.items {
		if label == "" {
			continue
		}
		next, ok := to(w, label)
		if !ok {
			return w, false
		}
		w = next
	}
	return play(t, w, s.keys), true
}

func TestScreens(t *testing.T) {
	reached := map[string]bool{}
	for _, version := range FactValues("esxi") {
		var b strings.Builder
		for i, s := range tour {
			w, ok := visit(t, version, i)
			if !ok {
				continue
			}
			if w.At() != s.at {
				t.Errorf("%s: stop %d is at %s, not at %s", version, i, w.At(), s.at)
			}
			reached[w.At()] = true
			screen := w.Render()
			fmt.Fprintf(&b, "=== %s %v\n%s", w.At(), s.facts, screen.Text())
		}
		golden(t, "esxi-"+version+".txt", b.String())
	}
	for _, name := range Screens() {
		if !reached[name] {
			t.Errorf("no stop of the tour shows %s", name)
		}
	}
}

// From each screen of the tour each key that has a meaning there leads here, on
// this evidence. A transition that moves, or comes to rest on less, shows in
// the difference of the golden file.
func TestEvidence(t *testing.T) {
	keys := []struct {
		name  string
		chord hid.Chord
	}{
		{"F2", F2}, {"F4", F4}, {"F11", F11}, {"F12", F12}, {"ENTER", Enter}, {"ESC", Esc}, {"TAB", Tab}, {"SPACE", Space},
		{"UP", Up}, {"DOWN", Down}, {"PGDN", hid.Chord{Key: hid.KeyPgDn}}, {"D", hid.Chord{Key: hid.KeyA + 3}}, {"N", keyN},
		{"Q", hid.Chord{Key: hid.KeyA + 'q' - 'a'}}, {"Y", hid.Chord{Key: hid.KeyA + 'y' - 'a'}}, {"1", hid.Chord{Key: hid.Key1}},
		{"SLASH", hid.Chord{Key: 0x38}}, {"ALT+F1", AltF1}, {"ALT+F2", AltF2}, {"ALT+F11", hid.Chord{Mods: hid.Alt, Key: hid.KeyF11}},
		{"ALT+F12", hid.Chord{Mods: hid.Alt, Key: hid.KeyF12}},
	}
	var b strings.Builder
	count := map[Grade]int{}
	for i, s := range tour {
		version := "6.7"
		w, ok := visit(t, version, i)
		if !ok {
			version = "5.0"
			if w, ok = visit(t, version, i); !ok {
				continue
			}
		}
		fmt.Fprintf(&b, "=== %s on %s %v\n", w.At(), version, s.facts)
		for _, k := range keys {
			next, ev := w.Step(k.chord)
			everywhere := k.name == "F4" || strings.HasPrefix(k.name, "ALT+")
			if next == w && (ev == nothingKnown || ev == hostIsDown) || everywhere && i > 0 && w.console == 0 || ev == linuxKeyboard && k.name != "D" {
				continue
			}
			count[ev.Grade]++
			to := next.At()
			if label, _, ok := next.Field(); ok || label != "" {
				to += ", " + strings.Join(strings.Fields(label), " ")
			} else if item := next.Selected(); item != "" {
				to += ", " + item
			}
			if e := next.Effect(); e != w.Effect() {
				to += " [" + e.String() + "]"
			}
			fmt.Fprintf(&b, "%-8s %s | %s: %s\n", k.name, to, ev.Grade, ev.Source)
		}
	}
	golden(t, "evidence.txt", b.String())
	for g := Documented; g <= Inferred; g++ {
		if count[g] < 20 {
			t.Errorf("%d transitions are %s", count[g], g)
		}
	}
}

// The roles of the cells are the same on every version, so one shows them all.
func TestAttributes(t *testing.T) {
	letters := "kbatpd>fvDxeEhT"
	var b strings.Builder
	for i, s := range tour {
		w, ok := visit(t, "6.7", i)
		if !ok {
			continue
		}
		fmt.Fprintf(&b, "=== %s %v\n", s.at, s.facts)
		screen := w.Render()
		for r := range screen {
			for c := range screen[r] {
				b.WriteByte(letters[screen[r][c].Attr&^HighContrast])
			}
			if screen[r][0].Attr&HighContrast != 0 {
				b.WriteByte('!')
			}
			b.WriteByte('\n')
		}
	}
	golden(t, "attributes.txt", b.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run with -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// A dimmed item and the one under the cursor can be told from the others, also
// without colour.
func TestColours(t *testing.T) {
	for a := range attrCount {
		for _, a := range []Attr{a, a | HighContrast} {
			if fg, bg := a.Colours(); fg == bg || fg.ANSI == bg.ANSI {
				t.Errorf("role %d is drawn in one colour", a)
			}
		}
	}
	for _, pair := range [][2]Attr{{Plain, Dim}, {Plain, Chosen}, {FieldText, FieldFocus}, {Dialog, FieldFocus}} {
		for _, add := range []Attr{0, HighContrast} {
			f1, b1 := (pair[0] | add).Colours()
			f2, b2 := (pair[1] | add).Colours()
			if f1.ANSI == f2.ANSI && b1.ANSI == b2.ANSI {
				t.Errorf("roles %d and %d look the same", pair[0], pair[1])
			}
		}
	}
}

// The guide has every fact, and the number of worlds in it is about right.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/dcui.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range FactNames() {
		if !strings.Contains(string(guide), "`"+name+"`") {
			t.Errorf("the guide leaves out the fact %s", name)
		}
	}
	for g := Documented; g <= Inferred; g++ {
		if !strings.Contains(string(guide), "| "+g.String()+" |") {
			t.Errorf("the guide leaves out the grade %s", g)
		}
	}
	b := belief(t, nil)
	if hosts := count(b); hosts < 7_500_000 || hosts > 8_500_000 || b.Len() < 30 || b.Len() > 50 {
		t.Errorf("the guide speaks of eight million hosts in some forty worlds, and there are %d in %d", hosts, b.Len())
	}
}
