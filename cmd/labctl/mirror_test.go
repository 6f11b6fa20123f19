package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes"
	"github.com/labctl/labctl/recipes/dcui"
)

// watched is a view of a run that is under way, without a terminal.
func watched(t *testing.T) *runView {
	t.Helper()
	r, err := recipes.Find("restore-standard-switch")
	if err != nil {
		t.Fatal(err)
	}
	facts := map[string]string{"esxi": "7.0", "management": "distributed"}
	b, err := dcui.NewBelief(mergeFacts(facts, map[string]string{"screen": "welcome", "caps": "off", "layout": "us", "lockdown": "off"}))
	if err != nil {
		t.Fatal(err)
	}
	a := &app{env: testEnv(t)}
	v := &runView{a: a, job: &job{recipe: r, sim: true, uri: "sim:"}, step: -1, facts: map[string]string{"esxi": "7.0", "console": "local"}}
	v.take(recipes.Event{Kind: recipes.EventStart, Steps: []string{"anchor", "login", "select Network Restore Options", "select Restore Standard Switch", "confirm F11"}, Belief: b})
	v.take(recipes.Event{Kind: recipes.EventStep, Step: 1, Belief: b})
	var ev dcui.Evidence
	b, ev = b.Step(dcui.F2)
	v.take(recipes.Event{Kind: recipes.EventKey, Step: 1, Key: "F2", Belief: b, Evidence: ev})
	return v
}

// A picture says at every size where the run is, and that the screen is
// predicted.
func TestMirrorSizes(t *testing.T) {
	v := watched(t)
	v.views = 2
	for _, size := range []struct {
		w, h int
		want []string
	}{
		{130, 40, []string{"restore-standard-switch · a simulated host", "✓ anchor", "▸ login", "  confirm F11", "predicted screen: login", "Enter an authorized login name", "key     F2", "nothing done", "2 possible", "1/5", "F2: seen, "}},
		{116, 28, []string{"▸ login", "predicted screen: login"}},
		{90, 36, []string{"▸ 2/5 login   F2", "predicted screen: login", "nothing done", "2 screens possible", "1/5"}},
		{80, 24, []string{"▸ 2/5 login   F2", "predicted screen: login", "2 screens possible", "Enter an authorized login name", "F2: seen"}},
		{60, 20, []string{"▸ 2/5 login   F2", "predicted: login", "nothing done", "2 screens\n"}},
		{40, 9, []string{"▸ 2/5 login"}},
		{5, 2, nil},
	} {
		text := v.picture(size.w, size.h, ability{}).text()
		for _, want := range size.want {
			if !strings.Contains(text, want) {
				t.Errorf("%dx%d lacks %q:\n%s", size.w, size.h, want, text)
			}
		}
	}
	v.take(recipes.Event{Kind: recipes.EventWait, Step: 1, Text: "the moon", For: 12 * time.Second, Max: time.Minute, Belief: v.belief})
	if text := v.picture(80, 24, ability{}).text(); !strings.Contains(text, "waiting for the moon, 12s so far, at most 1m0s") {
		t.Errorf("a wait does not show:\n%s", text)
	}
	v.take(recipes.Event{Kind: recipes.EventVerify, Text: "management: standard", OK: true, Predict: true, Belief: v.belief})
	if text := v.picture(130, 40, ability{}).text(); !strings.Contains(text, "✓ management: standard") || !strings.Contains(text, "(predicted)") {
		t.Errorf("a verified condition does not show:\n%s", text)
	}
}

// A simulated host that ends elsewhere than predicted is not passed over.
func TestPredicted(t *testing.T) {
	v := watched(t)
	w := v.world
	if !foretold(v.belief, w) {
		t.Error("the world that is shown was not predicted")
	}
	if foretold(v.belief, w.Press(dcui.Esc)) {
		t.Error("a world at another screen passes for predicted")
	}
}

// Whatever a run prints, no part of its secret is in it, neither as text nor as
// reports.
func TestRunKeepsSecrets(t *testing.T) {
	const secret = "Zq7#Wx9!kV"
	file := writeTemp(t, "secret", secret+"\n")
	reports := hid.Reports(mustChords(t, secret))
	for _, args := range [][]string{
		{"recipe", "rehearse", "restore-standard-switch", "-o", "json", "-v"},
		{"recipe", "rehearse", "restore-standard-switch", "-v"},
		{"recipe", "run", "restore-standard-switch", "--keyboard", "sim:", "--yes", "--fact", "esxi=7.0"},
		{"recipe", "rehearse", "restore-standard-switch", "--layout", "gr", "--fact", "layout=gr"},
	} {
		_, stdout, stderr := invoke(t, testEnv(t), append(args, "--secret-file", "password="+file)...)
		all := stdout + stderr
		for n := 4; n <= len(secret); n++ {
			if strings.Contains(all, secret[:n]) || strings.Contains(all, secret[len(secret)-n:]) {
				t.Errorf("%v tells of the secret:\n%s", args, all)
			}
		}
		for _, r := range reports {
			if r != (hid.Report{}) && strings.Contains(all, r.String()) {
				t.Errorf("%v tells a report of the secret", args)
			}
		}
	}
}

func mustChords(t *testing.T, text string) []hid.Chord {
	t.Helper()
	l, err := hid.FindLayout("us")
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Chords(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// With -o json each line is an object, the last one is the result, and stderr
// stays empty.
func TestRehearsalStream(t *testing.T) {
	code, stdout, stderr := invoke(t, testEnv(t), "recipe", "rehearse", "restore-standard-switch", "-o", "json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, stderr %q", code, stderr)
	}
	var last map[string]any
	kinds := map[string]int{}
	for line := range strings.Lines(stdout) {
		last = nil
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if k, ok := last["event"].(string); ok {
			kinds[k]++
		}
	}
	if last["version"] != 1.0 || last["outcome"] != "done" || last["effect"] != "standard switch restored" {
		t.Errorf("the last line is %v", last)
	}
	if kinds["start"] != 1 || kinds["step"] != 5 || kinds["key"] < 10 || kinds["verify"] != 2 || kinds["done"] != 1 {
		t.Errorf("events: %v", kinds)
	}
}

// Every recipe of the library can be rehearsed with nothing given, without a
// question and with the end that was predicted.
func TestRehearseLibrary(t *testing.T) {
	for _, r := range recipes.Library() {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			code, _, stderr := invoke(t, testEnv(t), "recipe", "rehearse", r.Name)
			if code != 0 {
				t.Errorf("exit %d:\n%s", code, stderr)
			}
		})
	}
}

// What is said while the picture is up is in it, and an abrupt end gives the
// terminal back first.
func TestAbruptEnd(t *testing.T) {
	e := testEnv(t)
	a := &app{env: e}
	var screen bytes.Buffer
	l := &live{a: a, out: &screen}
	l.start()
	f := e.restore.Load()
	if f == nil {
		t.Fatal("nothing would give the terminal back")
	}
	(*f)()
	if !strings.Contains(screen.String(), "\x1b[?25h\x1b[?1049l") {
		t.Errorf("the terminal is left as %q", screen.String())
	}
	if e.restore.Load() != nil {
		t.Error("it would be given back twice")
	}
}
