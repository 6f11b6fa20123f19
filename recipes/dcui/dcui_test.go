package dcui

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/labctl/labctl/hid"
)

// seedHost is the host on which the keys of the seed recipe are known to have
// worked: ESXi 6.0, vmk0 on a distributed switch.
var seedHost = map[string]string{
	"esxi": "6.0", "console": "local", "vcenter": "yes", "lockdown": "off", "lockdown_item": "dimmed",
	"management": "distributed", "wrap": "no", "screen": "welcome", "caps": "off", "layout": "us",
	"shell": "off", "ssh": "off",
}

func with(facts map[string]string, changes ...string) map[string]string {
	m := maps.Clone(facts)
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "" {
			delete(m, changes[i])
			continue
		}
		m[changes[i]] = changes[i+1]
	}
	return m
}

var named = map[string]hid.Chord{
	"F2": F2, "F4": F4, "F11": F11, "F12": F12, "ENTER": Enter, "ESC": Esc, "TAB": Tab, "SPACE": Space,
	"UP": Up, "DOWN": Down, "ALT+F1": AltF1, "ALT+F2": AltF2,
	"ALT+F11": {Mods: hid.Alt, Key: hid.KeyF1 + 10}, "ALT+F12": {Mods: hid.Alt, Key: hid.KeyF12}, "ALT+F3": {Mods: hid.Alt, Key: hid.KeyF1 + 2},
	"SHIFT+TAB": {Mods: hid.Shift, Key: hid.KeyTab}, "CAPS": {Key: hid.KeyCapsLock}, "NUM": {Key: hid.KeyNumLock}, "SCROLL": {Key: hid.KeyScroll},
	"LEFT": {Key: hid.KeyLeft}, "RIGHT": {Key: hid.KeyRight}, "HOME": {Key: hid.KeyHome}, "END": {Key: hid.KeyEnd},
	"BS": {Key: hid.KeyBackspace}, "DEL": {Key: hid.KeyDelete}, "PGDN": {Key: hid.KeyPgDn},
	"CTRL+C": {Mods: hid.Ctrl, Key: hid.KeyA + 2},
}

// chords gives the keys of a US keyboard for ASCII text.
func chords(t testing.TB, text string) []hid.Chord {
	t.Helper()
	return on(t, "us", text)
}

// on gives the keys that type a text on a layout.
func on(t testing.TB, layout, text string) []hid.Chord {
	t.Helper()
	l, err := hid.FindLayout(layout)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := l.WithKeypad().Chords(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// does is what World and Belief have in common.
type does[T any] interface {
	Press(hid.Chord) T
	Enter(Token) (T, error)
}

// play types words: names of keys, DOWN×4, $password for the Token of root's
// password, and "text" in quotes.
func play[T does[T]](t testing.TB, on T, words string) T {
	t.Helper()
	for word := range strings.FieldsSeq(words) {
		name, count, _ := strings.Cut(word, "×")
		n := 1
		if count != "" {
			if _, err := fmt.Sscan(count, &n); err != nil {
				t.Fatalf("count of %q: %v", word, err)
			}
		}
		for range n {
			switch {
			case name == "$password":
				next, err := on.Enter(Token{Layout: "us"})
				if err != nil {
					t.Fatal(err)
				}
				on = next
			case name == "$new":
				next, err := on.Enter(Token{ID: 1, Layout: "us"})
				if err != nil {
					t.Fatal(err)
				}
				on = next
			case strings.HasPrefix(name, `"`):
				for _, k := range chords(t, strings.Trim(name, `"`)) {
					on = on.Press(k)
				}
			default:
				k, ok := named[name]
				if !ok {
					t.Fatalf("no key %q", word)
				}
				on = on.Press(k)
			}
		}
	}
	return on
}

const (
	loginKeys = "F2 TAB $password ENTER "
	seedKeys  = loginKeys + "DOWN×4 ENTER DOWN ENTER F11"
)

func world(t testing.TB, facts map[string]string) World {
	t.Helper()
	w, err := NewWorld(facts)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func belief(t testing.TB, facts map[string]string) Belief {
	t.Helper()
	b, err := NewBelief(facts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSeedKeys(t *testing.T) {
	for _, c := range []struct {
		changes    []string
		at, effect string
	}{
		{nil, "restore.result", "standard switch restored"},
		{[]string{"lockdown_item", "selectable"}, "test.result", "ping test"},
		{[]string{"management", "none"}, "logs", "nothing"},
		{[]string{"management", "standard"}, "restore.result", "all networking wiped"},
		{[]string{"management", "standard", "wrap", "yes"}, "restore.result", "all networking wiped"},
		{[]string{"esxi", "5.0"}, "disable_mgmt.result", "management network changed"},
		{[]string{"esxi", "8.0"}, "restore.result", "standard switch restored"},
		{[]string{"console", "serial"}, "restore.result", "standard switch restored"},
		{[]string{"lockdown", "normal"}, "restore.result", "standard switch restored"},
		{[]string{"lockdown", "strict"}, "welcome", "nothing"},
		{[]string{"layout", "de"}, "login.error", "nothing"},
		{[]string{"caps", "on"}, "login.error", "nothing"},
		{[]string{"screen", "power"}, "off", "host shut down"},
		{[]string{"screen", "reset"}, "booting", "system configuration reset"},
		{[]string{"screen", "restore.settings"}, "restore.result", "all networking wiped"},
	} {
		facts := with(seedHost, c.changes...)
		w := play(t, world(t, facts), seedKeys)
		if w.At() != c.at || w.Effect().String() != c.effect {
			t.Errorf("%v: ends at %s with %q, want %s with %q", c.changes, w.At(), w.Effect(), c.at, c.effect)
		}
		b := belief(t, facts)
		if b.Len() != 1 {
			t.Fatalf("%v: %d worlds with every fact given", c.changes, b.Len())
		}
		b = play(t, b, seedKeys)
		if got := b.Worlds(); len(got) != 1 || got[0] != w {
			t.Errorf("%v: the belief ends in %v, the world in %v", c.changes, got, w)
		}
	}
}

func summary(w World) string { return w.At() + ": " + w.Effect().String() }

// With nothing known but where the console stands, the same keys restore one
// host, do nothing on another and wipe a third.
func TestSeedInEveryWorld(t *testing.T) {
	b := play(t, belief(t, map[string]string{"screen": "welcome", "layout": "us", "caps": "off"}), seedKeys)
	effect := func(w World) string { return w.Effect().String() }
	got := map[string]string{}
	for _, o := range b.Outcomes(effect) {
		var facts []string
		for _, name := range FactNames() {
			if v, ok := o.Facts[name]; ok {
				facts = append(facts, name+"="+v)
			}
		}
		got[strings.Join(facts, " ")] = effect(o.World)
	}
	for facts, want := range map[string]string{
		"lockdown=strict": "nothing",
		"esxi=6.0 lockdown=off lockdown_item=dimmed management=distributed": "standard switch restored",
		"esxi=6.0 lockdown=off lockdown_item=dimmed management=standard":    "all networking wiped",
		"esxi=5.0 lockdown=off lockdown_item=dimmed management=standard":    "management network changed",
	} {
		if got[facts] != want {
			t.Errorf("%s: %q, want %q", facts, got[facts], want)
		}
	}
	if t.Failed() {
		for _, facts := range slices.Sorted(maps.Keys(got)) {
			t.Logf("%s: %s", facts, got[facts])
		}
	}
	if s := b.Splits(effect); slices.Contains(s, "vcenter") || slices.Contains(s, "wrap") || slices.Contains(s, "ssh") {
		t.Errorf("the effect is said to depend on %v", s)
	}
}

func BenchmarkPress(b *testing.B) {
	w := play(b, world(b, seedHost), loginKeys)
	b.ReportAllocs()
	for b.Loop() {
		w = w.Press(Down)
		w = w.Press(Up)
	}
}

func BenchmarkSeedOnAllWorlds(b *testing.B) {
	start := belief(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		after := play(b, start, seedKeys)
		b.ReportMetric(float64(after.Len()), "worlds")
	}
}

func BenchmarkOutcomes(b *testing.B) {
	after := play(b, belief(b, nil), seedKeys)
	b.ReportAllocs()
	for b.Loop() {
		b.ReportMetric(float64(len(after.Outcomes(summary))), "outcomes")
	}
}

func BenchmarkViews(b *testing.B) {
	after := play(b, belief(b, nil), seedKeys)
	for b.Loop() {
		b.ReportMetric(float64(len(after.Views())), "views")
	}
}

func BenchmarkRender(b *testing.B) {
	w := play(b, world(b, seedHost), loginKeys)
	for b.Loop() {
		w.Render()
	}
}
