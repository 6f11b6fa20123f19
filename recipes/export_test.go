package recipes

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/labctl/labctl/hid"
)

func programOf(t testing.TB, r *Recipe, facts map[string]string, v Vars) *Program {
	t.Helper()
	b, err := r.Belief(facts)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Compile(b, v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func written(t testing.TB, steps string) *Recipe {
	t.Helper()
	src := "recipe: x\nsecrets: {password: p}\nvars: {address: {kind: ipv4}, note: n}\nsteps:\n" + steps
	r, err := Parse("x.yaml", []byte(src))
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	return r
}

func TestExport(t *testing.T) {
	for _, c := range []struct {
		recipe, format string
		want           string
	}{
		{"seed-restore-standard-switch", Ducky, `DEFAULT_DELAY 50
REM Step 1: keys F2 TAB ${password} ENTER DOWN×4 ENTER DOWN ENTER F11
F2
DELAY 300
TAB
STRING {{password}}
ENTER
DELAY 3000
DOWN
DOWN
DOWN
DOWN
ENTER
DELAY 300
DOWN
ENTER
DELAY 300
F11
DELAY 5000
`},
		{"seed-restore-standard-switch", Packer, `[
  "<f2><wait300ms><tab>${var.password}<enter><wait3><down><down><down><down><enter><wait300ms><down><enter><wait300ms><f11><wait5>"
]
`},
		{"restore-standard-switch", Packer, `[
  "<leftAltOn><f2><leftAltOff><wait300ms><esc><wait300ms><esc><wait300ms><esc><wait300ms><esc><wait300ms>",
  "<f2><wait300ms><tab>${var.password}<enter><wait3>",
  "<down><down><down><down><enter><wait300ms>",
  "<down><enter><wait300ms>",
  "<f11><wait5>"
]
`},
	} {
		r, err := Find(c.recipe)
		if err != nil {
			t.Fatal(err)
		}
		out, err := Export(programOf(t, r, seedHost, Vars{}), c.format)
		if err != nil {
			t.Errorf("%s to %s: %v", c.recipe, c.format, err)
			continue
		}
		if c.format == Packer && string(out) != c.want || !strings.HasSuffix(string(out), c.want) {
			t.Errorf("%s to %s:\n%s\nwant\n%s", c.recipe, c.format, out, c.want)
		}
	}
}

// Whoever reads a script learns where it is right.
func TestExportTellsWhatItTakesForGranted(t *testing.T) {
	r, err := Find("restore-standard-switch")
	if err != nil {
		t.Fatal(err)
	}
	out, err := Export(programOf(t, r, with(seedHost, "layout", "", "management", "", "caps", ""), Vars{}), Ducky)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"REM Right only where management is distributed.", "layout: US Default.", "Caps Lock has to be off", "{{password}}: ESXi root password", "Afterwards: management: standard."} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

// Each recipe of the library goes out, but for those that
// ask the network on their way.
func TestExportLibrary(t *testing.T) {
	for _, r := range Library() {
		p := programOf(t, r, with(hostFor(r, "6.7"), "layout", "", "screen", "", "console", ""), Vars{})
		for _, format := range Formats() {
			out, err := Export(p, format)
			if r.Name == "ping-canary" {
				if err == nil {
					t.Errorf("%s to %s:\n%s", r.Name, format, out)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s to %s: %v", r.Name, format, err)
			}
			if _, err := Import(format, "x", out, ImportOptions{}); err != nil {
				t.Errorf("%s from %s: %v", r.Name, format, err)
			}
		}
	}
}

func TestExportOnOtherLayouts(t *testing.T) {
	keys := written(t, "  - confirm: Y\n  - type: 'z@'\n")
	host := with(seedHost, "layout", "de", "screen", "mgmt.confirm")
	// Packer types places of a US keyboard, a ducky with its language set types characters.
	for format, want := range map[string]string{
		Packer: "[\n  \"z<wait5>\",\n  \"y<rightAltOn>q<rightAltOff>\"\n]\n",
		Ducky:  "REM Step 1: confirm Y\nSTRING y\nDELAY 5000\nREM Step 2: type \"z@\"\nSTRING z@\n",
	} {
		out, err := Export(programOf(t, keys, host, Vars{}), format)
		if err != nil || !strings.HasSuffix(string(out), want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", format, err, out, want)
		}
	}
}

func TestExportRefuses(t *testing.T) {
	for _, c := range []struct {
		name, steps, format string
		facts               []string
		step                int
		reason              string
	}{
		{"a question to the network", "  - keys: F2\n  - probe: {tcp: 22, within: 3s}\n", Ducky, []string{"ssh", "on"}, 1, "only labctl can ask"},
		{"a held key", "  - hold: {key: F10, for: 3s}\n", Ducky, nil, 0, "no command that holds"},
		{"a key without a word", "  - keys: F2\n  - keys: KP5\n", Ducky, nil, 1, "KP5"},
		{"nor for Packer", "  - keys: CAPSLOCK\n", Packer, nil, 0, "CAPSLOCK"},
		{"a side that no script names", "  - keys: RSHIFT+TAB\n", Ducky, nil, 0, "RSHIFT+TAB"},
		{"three modifiers", "  - keys: CTRL+ALT+SHIFT+F1\n", Ducky, nil, 0, "CTRL+SHIFT+ALT+F1"},
		{"a code on the keypad", "  - keys: ALT+KP4+ ALT+KP5\n", Packer, nil, 0, "ALT+KP4+"},
		{"a text like a placeholder", "  - keys: '\"a{{b}}\"'\n", Ducky, nil, 0, "reads as a placeholder"},
		{"a text like a template", "  - keys: '\"{\"'\n  - keys: '\"{\"'\n", Packer, nil, 1, "start of a template"},
		{"a dollar sign before a variable", "  - keys: '\"$$\" ${address}'\n", Packer, nil, 0, "for an escape"},
		{"a text like a key", "  - keys: F2\n  - keys: '\"<tab>\"'\n", Packer, nil, 1, "reads as a key"},
		{"a secret on another layout", "  - anchor\n  - login\n", Packer, []string{"layout", "de"}, 1, "as on a US keyboard"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := Export(programOf(t, written(t, c.steps), with(seedHost, c.facts...), Vars{}), c.format)
			var refused *ExportError
			if !errors.As(err, &refused) {
				t.Fatalf("error %v, and\n%s", err, out)
			}
			if refused.Step != c.step || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), fmt.Sprintf("step %d (", c.step+1)) {
				t.Errorf("%v, want step %d: %s", err, c.step+1, c.reason)
			}
		})
	}
	keys := written(t, "  - keys: F2\n")
	var format *FormatError
	if _, err := Export(programOf(t, keys, seedHost, Vars{}), "bash"); !errors.As(err, &format) {
		t.Errorf("an unknown format gives %v", err)
	}
	toggle := written(t, "  - toggle: {SSH: on}\n")
	if out, err := Export(programOf(t, toggle, with(seedHost, "screen", "trouble", "ssh", "on"), Vars{}), Ducky); err == nil || !strings.Contains(err.Error(), "types nothing") {
		t.Errorf("a program of no keys gives %v and\n%s", err, out)
	}
	if out, err := Export(programOf(t, toggle, seedHost, Vars{}), Ducky); err == nil || !strings.Contains(err.Error(), "no keys lead") {
		t.Errorf("a program without a way gives %v and\n%s", err, out)
	}
}

// A secret that is known goes out as a name all the same, and a variable as
// what it is.
func TestExportKeepsSecrets(t *testing.T) {
	const password = "Zx9_kQ7w"
	r := written(t, "  - anchor\n  - login\n  - select: Test Management Network\n  - set: {\"Ping Address #0\": '${address}'}\n")
	p := programOf(t, r, seedHost, Vars{Secrets: map[string]Secret{"password": secret(password)}, Values: map[string]string{"address": "198.51.100.7"}})
	for _, format := range Formats() {
		out, err := Export(p, format)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(password) - 2 {
			if strings.Contains(string(out), password[i:i+3]) {
				t.Errorf("%s holds a part of the secret:\n%s", format, out)
			}
		}
		if !strings.Contains(string(out), "198.51.100.7") || !strings.Contains(string(out), "password}") {
			t.Errorf("%s:\n%s", format, out)
		}
	}
}

// What was exported and imported again types the same keys, and what a format
// reads is what was written: the pauses too.
func TestRoundTrip(t *testing.T) {
	chords := []string{
		"F2", "TAB", "ENTER", "ESC", "DOWN", "UP", "LEFT", "SPACE", "BACKSPACE", "DELETE", "HOME", "PGDN", "F11", "F12", "MENU",
		"ALT+F2", "SHIFT+TAB", "CTRL+ALT+DELETE", "CTRL+C", "GUI", "N", "SHIFT+N", "MINUS", "LESS", "ALTGR+Q", "RCTRL+F1", "GRAVE",
	}
	layouts := []string{"us", "us", "de", "fr", "us-dvorak", "pl", "ru"}
	exported := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		layout := rapid.SampledFrom(layouts).Draw(t, "layout")
		l, err := hid.FindLayout(layout)
		if err != nil {
			t.Fatal(err)
		}
		var steps strings.Builder
		for range rapid.IntRange(1, 5).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				fmt.Fprintf(&steps, "  - wait: %s\n", time.Duration(rapid.IntRange(1, 90_000).Draw(t, "ms"))*time.Millisecond)
				continue
			case 1:
				fmt.Fprintf(&steps, "  - hold: {key: F10, for: %ds}\n", rapid.IntRange(1, 9).Draw(t, "s"))
				continue
			}
			var words []string
			for range rapid.IntRange(1, 6).Draw(t, "words") {
				switch rapid.IntRange(0, 3).Draw(t, "word") {
				case 0:
					text := rapid.StringOfN(rapid.SampledFrom([]rune(`ab Zz09<>{}$%"'\#:é^~/tab`)), 1, 8, -1).Draw(t, "text")
					if _, err := l.Chords(text); err != nil {
						continue
					}
					words = append(words, quote(strings.ReplaceAll(text, "$", "$$")))
				case 1:
					words = append(words, rapid.SampledFrom([]string{"${note}", "${address}"}).Draw(t, "input"))
				default:
					words = append(words, rapid.SampledFrom(chords).Draw(t, "key"))
				}
			}
			if len(words) > 0 {
				fmt.Fprintf(&steps, "  - keys: %s\n", yamlText(strings.Join(words, " ")))
			}
		}
		if steps.Len() == 0 {
			return
		}
		r, err := Parse("x.yaml", []byte("recipe: x\nvars: {address: {kind: ipv4}, note: n}\nsteps:\n"+steps.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, steps.String())
		}
		host := with(seedHost, "layout", layout)
		b, err := r.Belief(host)
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.Compile(b, Vars{})
		if err != nil {
			return // a key held that makes a difference
		}
		for _, format := range Formats() {
			out, err := Export(p, format)
			var refused *ExportError
			if errors.As(err, &refused) {
				continue
			}
			if err != nil {
				if strings.Contains(err.Error(), "types nothing") {
					continue
				}
				t.Fatal(err)
			}
			src, err := Import(format, "x", out, ImportOptions{Layout: layout})
			if err != nil {
				if strings.Contains(err.Error(), "nothing in it is typed") {
					continue
				}
				t.Fatalf("%v\n%s", err, out)
			}
			again, err := Parse("y.yaml", src)
			if err != nil {
				t.Fatalf("%v\n%s", err, src)
			}
			exported[format]++
			as := layout
			if format == Packer {
				as = "us"
			}
			b, err := again.Belief(with(host, "layout", as))
			if err != nil {
				t.Fatal(err)
			}
			q, err := again.Compile(b, Vars{})
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, src)
			}
			was, now := pressed(t, p, format), pressed(t, q, format)
			if !slices.Equal(was, now) {
				t.Fatalf("%s:\n%s\ngives\n%s\nwhich types\n%v\nand not\n%v", format, out, src, now, was)
			}
			if format == Ducky {
				in := &importer{layout: q.layout, lines: strings.Split(string(out), "\n")}
				read, want := taps(in.ducky(), p.layout), taps(mustBeats(t, p, format), p.layout)
				if !slices.Equal(read, want) {
					t.Fatalf("%s reads\n%v\nand not\n%v", out, read, want)
				}
			}
		}
	})
	for _, format := range Formats() {
		if exported[format] < 10 {
			t.Errorf("only %d programs were exported to %s", exported[format], format)
		}
	}
}

func mustBeats(t rapid.TB, p *Program, format string) []beat {
	beats, err := p.beats(format)
	if err != nil {
		t.Fatal(err)
	}
	return beats
}

// pressed lists chords, inputs and held keys, pauses left out.
func pressed(t rapid.TB, p *Program, format string) []string {
	return taps(slices.DeleteFunc(mustBeats(t, p, format), func(b beat) bool { return b.kind == beatPause }), p.layout)
}
