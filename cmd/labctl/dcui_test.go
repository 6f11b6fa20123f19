package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// words spells what a terminal's bytes amount to.
func words(all []typed) string {
	var out []string
	for _, t := range all {
		switch {
		case t.char != 0:
			out = append(out, fmt.Sprintf("%q", t.char))
		case t.command != 0:
			out = append(out, fmt.Sprintf("^%c", t.command+'@'))
		default:
			out = append(out, t.chord.String())
		}
	}
	return strings.Join(out, " ")
}

func TestKeyReader(t *testing.T) {
	for bytes, want := range map[string]string{
		"a1é":                        `'a' '1' 'é'`,
		"\r\n\t\x7f\x08":             "ENTER ENTER TAB BACKSPACE BACKSPACE",
		"\x1bOQ\x1bOP":               "F2 F1",              // xterm
		"\x1b[12~\x1b[23~\x1b[24~":   "F2 F11 F12",         // VT220
		"\x1b[[A\x1b[[B\x1b[[E":      "F1 F2 F5",           // a text console
		"\x1b[A\x1bOB\x1b[C\x1b[D":   "UP DOWN RIGHT LEFT", //
		"\x1b[H\x1b[4~\x1b[1~\x1b[F": "HOME END HOME END",  //
		"\x1b[5~\x1b[6~\x1b[3~":      "PGUP PGDN DELETE",   //
		"\x1b[Z":                     "SHIFT+TAB",          //
		"\x1b[1;3Q":                  "ALT+F2",             // xterm
		"\x1b[12;3~":                 "ALT+F2",             //
		"\x1b[23;5~":                 "CTRL+F11",           //
		"\x1b":                       "ESC",                //
		"\x1b\x1b\x1b\x1b":           "ESC ESC ESC ESC",    // an anchor that arrives at once
		"\x1b\x1b[[B":                "ESC F2",             //
		"\x1bn":                      "ESC 'n'",            //
		"\x1b[":                      "ESC '['",            //
		"\x1b[200~x":                 "'x'",                // a paste begins: no key
		"\x1b[<0;1;1Mx":              "'x'",                // a mouse: no key
		"\x062\x06-\x06=":            "F2 F11 F12",         //
		"\x012\x01x\x06c":            "ALT+F2 CAPSLOCK",    //
		"\x11\x03\x0e":               "^Q ^C ^N",           //
		"\xc3":                       "",                   // half a character
		"\x1b[1;":                    "ESC '[' '1' ';'",    //
	} {
		var d keyReader
		if got := words(append(d.feed([]byte(bytes)), d.flush()...)); got != want {
			t.Errorf("%q is read as %s, want %s", bytes, got, want)
		}
		// A network may deliver byte by byte.
		var torn keyReader
		var all []typed
		for i := range len(bytes) {
			all = append(all, torn.feed([]byte{bytes[i]})...)
		}
		if got := words(append(all, torn.flush()...)); got != want {
			t.Errorf("%q byte by byte is read as %s, want %s", bytes, got, want)
		}
	}
}

func FuzzKeyReader(f *testing.F) {
	f.Add([]byte("\x1b[1;3Q\x1b[[B\x06-ä"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d keyReader
		d.feed(b)
		d.flush()
		if d.waiting() {
			t.Errorf("%q leaves %q unread", b, d.rest)
		}
	})
}

// practised plays a terminal's bytes.
func practised(t *testing.T, facts map[string]string, bytes string) *practice {
	t.Helper()
	p, err := newPractice(facts, "")
	if err != nil {
		t.Fatal(err)
	}
	var d keyReader
	for _, k := range append(d.feed([]byte(bytes)), d.flush()...) {
		if _, err := p.handle(k); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

const seedBytes = "\x1bOQ\tlabctl\r\x1b[B\x1b[B\x1b[B\x1b[B\r\x1b[B\r"

func TestPractice(t *testing.T) {
	seedHost := map[string]string{"esxi": "6.0", "management": "distributed", "lockdown_item": "dimmed"}
	p := practised(t, seedHost, seedBytes)
	if at := p.world.At(); at != "restore.standard" {
		t.Fatalf("the seed's keys end at %s", at)
	}
	p.press(hid.Chord{Key: hid.KeyF11}, 0)
	if e := p.world.Effect(); e != dcui.StandardRestored {
		t.Errorf("effect %s", e)
	}

	// Caps Lock turns the password over, as on a host.
	if at := practised(t, seedHost, "\x06c"+seedBytes).world.At(); at != "login.error" && at != "login" && at != "welcome" {
		t.Errorf("with Caps Lock on the login leads to %s", at)
	}
	// A layout without a character says so and presses nothing.
	p = practised(t, map[string]string{"layout": "ru"}, "x")
	if p.keys != 0 || !strings.Contains(p.note, "no key") {
		t.Errorf("%d keys, note %q", p.keys, p.note)
	}
	// Another screen of the belief, and back.
	p = practised(t, nil, "")
	first := p.world.Render()
	p.handle(typed{command: ctrlNext})
	if p.world.Render() == first {
		t.Error("ctrl+n shows the same screen")
	}
}

// What goes into a hidden field is told to nobody.
func TestPracticeKeepsSecrets(t *testing.T) {
	e := testEnv(t, "LABCTL_PASSWORD=Tr0ub4dor")
	log := writeTemp(t, "log", "")
	e.stdin = strings.NewReader(strings.Replace(seedBytes, "labctl", "Tr0ub4dor", 1))
	code, stdout, stderr := invoke(t, e, "dcui", "-o", "json", "--log", log, "--fact", "management=distributed")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var got dcuiResult
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != 1 || got.End != "restore.standard" || got.Effect != "nothing" || len(got.Text) != dcui.Rows {
		t.Errorf("%+v", got)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	told := string(b)
	if n := strings.Count(told, `"key":"•"`); n != len("Tr0ub4dor") {
		t.Errorf("%d masked keys:\n%s", n, told)
	}
	for _, letter := range "Troubd" {
		if strings.Contains(told, fmt.Sprintf(`"key":"%c"`, letter)) {
			t.Errorf("the log tells a letter of the password:\n%s", told)
		}
	}
}

// At every size the status is there, and a console that does not fit says so.
func TestPracticeSizes(t *testing.T) {
	p := practised(t, nil, "\x1bOQ\tlabctl\r")
	for _, size := range []struct{ w, h int }{{120, 40}, {100, 33}, {82, 31}, {80, 25}, {80, 24}, {60, 15}, {20, 5}, {1, 1}} {
		text := p.draw(size.w, size.h, "labctl dcui", ability{}).text()
		if lines := strings.Count(text, "\n"); lines != size.h {
			t.Errorf("%dx%d: %d lines", size.w, size.h, lines)
		}
		if !strings.Contains(text, "menu"[:min(4, size.w)]) {
			t.Errorf("%dx%d does not say where the console is:\n%s", size.w, size.h, text)
		}
		if size.w >= 80 && size.h >= 24 {
			for _, want := range []string{"Network Restore Options", "<Up/Down> Select", "Reset System Configuration", "ctrl+q ends"} {
				if !strings.Contains(text, want) {
					t.Errorf("%dx%d lacks %q:\n%s", size.w, size.h, want, text)
				}
			}
		}
		if size.w == 60 && !strings.Contains(text, "cropped") {
			t.Errorf("%dx%d does not say that it is cropped:\n%s", size.w, size.h, text)
		}
	}
}

// Without colours the cursor still shows; on a text console no sign is beyond
// its font.
func TestAbilities(t *testing.T) {
	p := practised(t, nil, "\x1bOQ\tlabctl\r")
	c := p.draw(100, 33, "labctl dcui", ability{})
	row := -1
	for y := range c.h {
		if strings.Contains(c.line(y, ability{}), "Configure Password") && strings.Contains(c.line(y, ability{}), "Set.") {
			row = y
			break
		}
	}
	if row < 0 || !strings.Contains(c.line(row, ability{palette: monochrome}), "\x1b[0;7m") {
		t.Error("without colours the chosen item looks like the others")
	}
	if s := c.line(row, ability{palette: ansi16}); !strings.Contains(s, ";43m") {
		t.Errorf("16 colours: %q", s)
	}
	if s := c.line(row, ability{palette: trueColour}); !strings.Contains(s, "48;2;232;160;32") {
		t.Errorf("true colour: %q", s)
	}
	for y := range c.h {
		for _, r := range c.line(y, ability{ascii: true}) {
			if r > 0x7e {
				t.Errorf("row %d of a plain terminal holds %q", y, r)
			}
		}
	}
}

// What was said while a picture was up comes out after it.
func TestLiveKeepsLines(t *testing.T) {
	e := testEnv(t)
	a := &app{env: e}
	a.set.Output = "text"
	var screen bytes.Buffer
	stderr := e.stderr.(*bytes.Buffer)
	l := &live{a: a, out: &screen}
	l.start()
	a.say("interrupted")
	if stderr.Len() != 0 || l.kept.latest() != "labctl: interrupted" {
		t.Errorf("stderr %q, kept %q", stderr, l.kept.latest())
	}
	c := newCanvas(3, 2)
	c.put(0, 0, 3, look{}, "a\x1bb")
	l.draw(c)
	screen.Reset()
	l.draw(c)
	if screen.Len() > 0 {
		t.Errorf("an equal picture was drawn again: %q", &screen)
	}
	l.end()
	l.end()
	a.say("over")
	if diff := cmp.Diff("labctl: interrupted\nlabctl: over\n", stderr.String()); diff != "" {
		t.Error(diff)
	}
}
