package recipes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestLibraryParses(t *testing.T) {
	for _, name := range libraryNames() {
		src, err := libraryFile(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		r, err := Parse(name+".yaml", src)
		if err != nil {
			t.Errorf("%s", err)
			continue
		}
		if r.Name != name {
			t.Errorf("%s.yaml holds recipe %s", name, r.Name)
		}
	}
	if len(Library()) != len(libraryNames()) {
		t.Errorf("the library has %d recipes of %d files", len(Library()), len(libraryNames()))
	}
}

func TestFindUnknown(t *testing.T) {
	_, err := Find("restore-standart-switch")
	var unknown *NotFoundError
	if !errors.As(err, &unknown) || unknown.Near != "restore-standard-switch" {
		t.Errorf("got %v", err)
	}
	_, err = Find("make-coffee")
	if !errors.As(err, &unknown) || unknown.Near != "" {
		t.Errorf("got %v", err)
	}
}

// Every fault of a file is told at once, with its place: x marks the spot in a
// line that the file has, so that places cannot rot.
func TestParseErrors(t *testing.T) {
	const head = "recipe: x\nsecrets: {password: root}\nsteps:\n"
	for _, c := range []struct {
		name, src string
		want      []string // line:col: message, or a part of it
	}{
		{"unknown key", "recipe: x\nrisky: yes\nsteps: [anchor]\n", []string{"2:1: unknown key risky"}},
		{"unknown step", head + "  - anchr\n", []string{"4:5: unknown step anchr"}},
		{"unknown step with a value", head + "  - selct: Network\n", []string{"4:5: unknown step selct"}},
		{"wrong type", "recipe: [x]\nsteps: anchor\n", []string{"1:9: recipe wants one value and is a list", "2:8: steps wants a list and is text"}},
		{"wrong type of a step", head + "  - keys: {a: b}\n  - [anchor]\n", []string{"4:11: keys wants one value and is a mapping", "5:5: a step wants a mapping or one word and is a list"}},
		{"wrong types are told once", head + "  - confirm: [F11]\n  - leave: {a: b}\n  - type: [a]\n  - toggle: {SSH: [on]}\n  - login: {key: [F2]}\n  - type\n  - type: \"\"\n", []string{
			"4:14: confirm wants one value and is a list", "5:12: leave wants one value", "6:11: type wants one value", "7:19: toggle.SSH wants one value",
			"8:18: login wants one value", "9:5: the step type says what", "10:5: type holds no text"}},
		{"number for text", "recipe: x\nsummary: 5\nsteps: [anchor]\n", []string{"2:10: summary wants text and is a number"}},
		{"bad key name", head + "  - keys: F2 TABB ENTER\n", []string{`4:14: bad key name "TABB"`}},
		{"bad key name in a list", head + "  - keys: [F2, DWN]\n", []string{`4:16: bad key name "DWN"`}},
		{"bad key name in a block", head + "  - keys: |\n      F2 TAB\n      ENTRE\n", []string{`6:7: bad key name "ENTRE"`}},
		{"the same word twice", head + "  - keys: F2 FF2 F2 FF2\n", []string{`4:14: bad key name "FF2"`, `4:21: bad key name "FF2"`}},
		{"bad count", head + "  - keys: DOWN×0 DOWNx9999\n  - keys: x2 DOWN\n", []string{"4:11: want a count from 1", "4:18: want a count from 1", "5:11: no key to repeat"}},
		{"too many keys", head + "  - keys: DOWN×4000 UP×2\n  - keys: UP×4000\n  - keys: UP×4000\n", []string{"4:21: more than 4000 keys", "6:5: more than 10000 keys"}},
		{"a key too many", head + "  - keys: ALT+F2+F3\n", []string{`4:11: bad key name "ALT+F2+F3": two keys`}},
		{"open text", head + "  - keys: F2 \"abc\n", []string{"4:14: a text without its closing quote"}},
		{"open name", head + "  - keys: F2 ${password\n", []string{"4:14: ${ without its }"}},
		{"tab indent", "recipe: x\nsteps:\n\t- anchor\n", []string{"3:1: a tab in the indent"}},
		{"tab after blanks", "recipe: x\nsteps:\n  - anchor\n \t- login\n", []string{"4:2: a tab in the indent"}},
		{"duplicate key", "recipe: x\nrecipe: y\nsteps: [anchor]\n", []string{"2:1: recipe stands here a second time; the first is in line 1"}},
		{"duplicate key in a step", head + "  - keys: F2\n    keys: F3\n", []string{"5:5: keys stands here a second time; the first is in line 4"}},
		{"duplicate fact", "recipe: x\nrequires: {ssh: on, ssh: off}\nsteps: [anchor]\n", []string{"2:21: ssh stands here a second time"}},
		{"unknown select target", head + "  - select: Network Restore Option\n", []string{`4:13: unknown select target "Network Restore Option"`}},
		{"unknown field", head + "  - set: {IP: 1}\n", []string{`4:11: unknown field "IP"`}},
		{"unknown switch", head + "  - toggle: {SHS: on, SSH: maybe}\n", []string{"4:14: unknown switch SHS", `4:28: toggle wants on or off and is "maybe"`}},
		{"unknown screen", head + "  - expect: menue\n  - leave: nowhere\n", []string{`4:13: unknown screen "menue"`, `5:12: unknown screen "nowhere"`}},
		{"undeclared secret", "recipe: x\nsteps:\n  - keys: F2 TAB ${pasword}\n", []string{"3:18: undeclared secret or variable ${pasword}"}},
		{"undeclared secret of login", "recipe: x\nsteps:\n  - login\n", []string{"3:5: undeclared secret password"}},
		{"undeclared variable", head + "  - type: a ${b} c\n  - set: {VLAN ID: \"${vlan}\"}\n", []string{"4:13: undeclared secret or variable ${b}", "5:21: undeclared secret or variable ${vlan}"}},
		{"bad duration", head + "  - wait: 3\n  - wait: -1s\n", []string{`4:11: wait wants a duration and is "3"`, "5:11: wait wants a duration above nothing"}},
		{"bad confirm", head + "  - confirm: F12\n", []string{`4:14: confirm cannot be "F12"`}},
		{"bad login", head + "  - login: F3\n  - login: {usr: root}\n", []string{`4:12: login cannot be "F3"`, "5:13: unknown key usr"}},
		{"no blank after the dash", "recipe: x\nsteps:\n- anchor\n-keys: F2\n", []string{"4:1: unknown key -keys"}},
		{"no colon", head + "  - keys F2 TAB\n", []string{"4:5: the step keys has no colon"}},
		{"empty condition", head + "  - anchor\nverify:\n  - {}\n", []string{"6:5: verify is empty"}},
		{"two actions", head + "  - select: Network Restore Options\n    confirm: F11\n", []string{"5:5: a second action in one step: confirm"}},
		{"empty steps", "recipe: x\nsteps: []\n", []string{"2:1: steps is empty"}},
		{"no steps", "recipe: x\n", []string{"1:1: steps: is missing"}},
		{"no name", "steps: [anchor]\n", []string{"1:1: recipe: is missing"}},
		{"empty file", "", []string{"1:1: the file is empty"}},
		{"only a comment", "# nothing\n", []string{"1:1: the file is empty"}},
		{"a list", "- anchor\n", []string{"1:1: a recipe wants a mapping and is a list"}},
		{"two documents", "recipe: x\nsteps: [anchor]\n---\nrecipe: y\n", []string{"4:1: a second document"}},
		{"broken YAML", head + "  - keys: \"F2\n", []string{"4:11: "}},
		{"bad risk", "recipe: x\nrisk: high\nsteps: [anchor]\n", []string{`2:7: unknown risk "high"`}},
		{"bad range", "recipe: x\nesxi: \">=9.5\"\nsteps: [anchor]\n", []string{"2:7: no version of ESXi"}},
		{"no range", "recipe: x\nesxi: new\nsteps: [anchor]\n", []string{`2:7: "new" is no range`}},
		{"bad facts", "recipe: x\nrequires: {managment: none, wrap: maybe}\nsteps: [anchor]\n", []string{"2:12: unknown fact managment", `2:35: fact wrap cannot be "maybe"`}},
		{"bad condition", head + "  - when: {ssh: 5}\n    keys: F2\nverify:\n  - reachable: {tcp: 99999, within: soon}\n  - managment: standard\n  - effect: boom\n", []string{
			`4:17: fact ssh cannot be "5"`, "7:22: verify.reachable.tcp wants a port", "7:37: verify.reachable.within wants a duration", "8:5: unknown condition managment", `9:13: unknown effect "boom"`}},
		{"bad variables", "recipe: x\nvars:\n  a b: x\n  ip: {kind: addr}\n  p: {kind: ipv4, default: 300.1.1.1}\nsteps: [anchor]\n", []string{`3:3: "a b" is no name`, `4:14: unknown kind "addr"`, "5:3: the default of p is no ipv4"}},
		{"secret and variable", "recipe: x\nsecrets: {a: b}\nvars: {a: b}\nsteps: [anchor]\n", []string{"3:1: a is a secret and a variable"}},
		{"unknown include", head + "  - include: restore-standart-switch\n  - include: ./gone.yaml\n", []string{"4:14: include restore-standart-switch: no recipe", "5:14: include ./gone.yaml: no such file"}},
		{"unknown anchor", head + "  - keys: *k\n", []string{"4:5: the step keys says what", "4:11: no anchor &k"}},
		{"all at once", "recipe: x\nfoo: 1\nsteps:\n  - selct: a\n  - keys: TABB\nverify:\n  - bar: 1\n", []string{"2:1:", "4:5:", "5:11:", "7:5:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Parse("bad.yaml", []byte(c.src))
			var all Errors
			if !errors.As(err, &all) || r != nil {
				t.Fatalf("got %v, %v", r, err)
			}
			if len(all) != len(c.want) {
				t.Fatalf("%d errors, want %d:\n%s", len(all), len(c.want), err)
			}
			for i, e := range all {
				if !strings.HasPrefix(e.Error(), "bad.yaml:"+c.want[i]) {
					t.Errorf("got  %s\nwant bad.yaml:%s", e, c.want[i])
				}
				if lines := strings.Split(c.src, "\n"); e.Text != lines[e.Line-1] {
					t.Errorf("%s shows %q", e, e.Text)
				}
				if n := len(e.Error()) + len(e.Hint); n > 390 {
					t.Errorf("%d characters: %s", n, e)
				}
			}
		})
	}
}

// A file that is no recipe is refused before the YAML parser spends minutes on
// it.
func TestParseGivesUpEarly(t *testing.T) {
	for _, unit := range []string{"[", "{a: ", "- ", "&a ", "x, ", "\"\" "} {
		start := time.Now()
		_, err := Parse("big.yaml", []byte("recipe: x\nsteps: "+strings.Repeat(unit, 100_000)+"\n"))
		var all Errors
		if !errors.As(err, &all) || len(all) != 1 || all[0].Line != 2 || !strings.Contains(all[0].Msg, "this is no recipe") {
			t.Errorf("%q: %.200v", unit, err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%q took %v", unit, took)
		}
	}
}

// Files from other systems are read as they are meant.
func TestParseForeignFiles(t *testing.T) {
	src, err := libraryFile("restore-standard-switch.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{strings.ReplaceAll(string(src), "\n", "\r\n"), "\uFEFF" + string(src)} {
		if r, err := Parse("x.yaml", []byte(s)); err != nil || len(r.Steps) != 5 {
			t.Errorf("%.20q: %v", s, err)
		}
	}
}

func TestParseErrorHidesAPassword(t *testing.T) {
	_, err := Parse("bad.yaml", []byte("recipe: x\npasswd: hunter2\nsteps: [anchor]\n"))
	var all Errors
	if !errors.As(err, &all) || strings.Contains(fmt.Sprintf("%+v", *all[0]), "hunter2") {
		t.Errorf("got %+v", *all[0])
	}
}

// Words of the key notation, as keyWords gives them back.
func TestKeyNotation(t *testing.T) {
	for in, want := range map[string]string{
		"F2 TAB ${password} ENTER DOWN×4 ENTER DOWN ENTER F11": "F2 TAB ${password} ENTER DOWN×4 ENTER DOWN ENTER F11",
		"DOWN x4 down DOWNx2":                "DOWN×7",
		"DOWN DOWN ×3":                       "DOWN×4",
		"ALT+F2 alt+f2 escape Return":        "ALT+F2×2 ESC ENTER",
		`F2 "a b" "c" ENTER`:                 `F2 "a bc" ENTER`,
		`"say \"hi\" \\ ok" x2`:              `"say \"hi\" \\ oksay \"hi\" \\ ok"`,
		`"cost: $$5 ${password}!"`:           `"cost: $5 " ${password} "!"`,
		"${password}${password} ${password}": "${password}×3",
		"5 Y KP1 0x65":                       "5 Y KP1 MENU",
	} {
		r, err := Parse("x.yaml", []byte("recipe: x\nsecrets: {password: root}\nsteps:\n  - keys: '"+in+"'\n"))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := strings.Join(keyWords(r.Steps[0].words), " "); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestIncludes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, src string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	read := func(path string) (*Recipe, error) {
		t.Helper()
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return Parse(path, src)
	}
	write("in.yaml", "recipe: in\nrequires: {ssh: on}\nsecrets: {password: root}\nsteps:\n  - anchor\n  - login\n")
	out := write("out.yaml", "recipe: out\nsteps:\n  - include: ./in.yaml\n    when: {console: local}\n  - keys: ${password}\n")
	r, err := read(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Steps) != 3 || r.Steps[0].Kind != StepAnchor || len(r.Steps[0].when) != 1 || len(r.requires) != 1 || len(r.Secrets) != 1 {
		t.Errorf("steps %+v", r.Steps)
	}
	if r.Steps[1].File != filepath.Join(dir, "in.yaml") || r.Steps[1].Line != 6 {
		t.Errorf("login stands at %s:%d", r.Steps[1].File, r.Steps[1].Line)
	}
	write("a.yaml", "recipe: a\nsteps:\n  - include: ./b.yaml\n")
	b := write("b.yaml", "recipe: b\nsteps:\n  - include: ./a.yaml\n")
	if _, err := read(b); err == nil || !strings.Contains(err.Error(), "leads back to itself") || !strings.Contains(err.Error(), "a.yaml:3:14") {
		t.Errorf("cycle: %v", err)
	}
	self := write("self.yaml", "recipe: s\nsteps:\n  - include: self.yaml\n")
	if _, err := read(self); err == nil || !strings.Contains(err.Error(), "self.yaml:3:14: include self.yaml leads back") {
		t.Errorf("cycle: %v", err)
	}
	write("bad.yaml", "recipe: bad\nsteps:\n  - anchr\n")
	over := write("over.yaml", "recipe: over\nsteps:\n  - include: bad.yaml\n")
	if _, err := read(over); err == nil || !strings.Contains(err.Error(), "bad.yaml:3:5: unknown step anchr") || !strings.Contains(err.Error(), "over.yaml:3:14: the included bad.yaml has faults") {
		t.Errorf("bad include: %v", err)
	}
	if r, err := Parse("x.yaml", []byte("recipe: x\nsteps:\n  - include: restore-standard-switch\n")); err != nil || len(r.Steps) != 5 {
		t.Errorf("library: %v", err)
	}
	if _, err := Parse("x.yaml", []byte("recipe: x\nsteps:\n  - include: "+dir+"/\n")); err == nil || !strings.Contains(err.Error(), "no recipe file") {
		t.Errorf("folder: %v", err)
	}
}

// Whatever a file holds, its faults have places in it, and what parses can be
// compiled and checked.
func FuzzParse(f *testing.F) {
	for _, name := range libraryNames() {
		src, err := libraryFile(name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, s := range []string{"recipe: x\nsteps:\n\t- a", "recipe: &a x\nsteps: [*a]", "recipe: x\nsteps: [{keys: '${a} \"b'}]", "a: *a", "? x\n: y", "recipe: x\nsteps: [{set: {VLAN ID: '5'}}, {toggle: {SSH: on}}, {hold: {key: ESC, for: 1s}}, leave]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if strings.Contains(string(src), "include") {
			t.Skip() // opens files
		}
		r, err := Parse("fuzz.yaml", src)
		if err != nil {
			var all Errors
			if !errors.As(err, &all) || len(all) == 0 {
				t.Fatalf("an error without a place: %v", err)
			}
			lines := strings.Split(newlines.Replace(string(src)), "\n")
			for _, e := range all {
				if e.Line < 1 || e.Line > len(lines) || e.Col < 1 || e.Col > utf8.RuneCountInString(lines[e.Line-1])+2 {
					t.Errorf("%s lies outside the file", e)
				}
			}
			return
		}
		b, err := r.Belief(seedHost)
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.Compile(b, Vars{})
		if err != nil {
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("an error without a place: %v", err)
			}
			return
		}
		v, err := p.Check(t.Context())
		if err != nil || len(v.Worlds) != 1 || v.Verdict == NeedsFacts && len(v.Missing) == 0 {
			t.Errorf("%+v, %v", v, err)
		}
		for _, w := range p.Keys() {
			if w == "" {
				t.Error("an empty key word")
			}
		}
	})
}
