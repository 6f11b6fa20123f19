package main

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/hid/usbwatch"
)

// plugging is what a test puts in place of libusb.
func plugging(plugs ...[]hid.Report) func(context.Context, usbwatch.Options, func(usbwatch.Event)) error {
	return func(_ context.Context, _ usbwatch.Options, on func(usbwatch.Event)) error {
		for _, reports := range plugs {
			at := time.Now()
			d := &usbwatch.Device{Vendor: 0x1d6b, Product: 0x0104}
			on(usbwatch.Event{Kind: usbwatch.EventFound, Device: d, Findings: usbwatch.Lint(d)})
			on(usbwatch.Event{Kind: usbwatch.EventReady})
			for i, r := range reports {
				on(usbwatch.Event{Kind: usbwatch.EventReport, Report: r, At: at.Add(time.Duration(i) * time.Millisecond)})
			}
			on(usbwatch.Event{Kind: usbwatch.EventGone})
		}
		return nil
	}
}

func chordsOf(t *testing.T, keys string) []hid.Chord {
	t.Helper()
	c, err := hid.ParseChords(keys)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func textOf(t *testing.T, text string) []hid.Chord {
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

// cableWatched runs a watch and returns its events, its result, all that it said, and
// its exit code.
func cableWatched(t *testing.T, w *watch, format string, plugs ...[]hid.Report) (events []watchEvent, result watchResult, said string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	w.a = &app{env: &env{stdout: &stdout, stderr: &stderr, terminal: func(any) bool { return false }, lookup: func(string) (string, bool) { return "", false }}}
	w.a.set.Output = format
	if err := w.reset(); err != nil {
		t.Fatal(err)
	}
	err := w.run(t.Context(), plugging(plugs...))
	said = stdout.String() + stderr.String()
	if format == "json" {
		lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
		for _, line := range lines[:len(lines)-1] {
			var e watchEvent
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			events = append(events, e)
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &result); err != nil || result.Version != 1 {
			t.Fatalf("the last line is no result: %v in %q", err, lines[len(lines)-1])
		}
	}
	return events, result, said, exitCode(t.Context(), err)
}

func shown(events []watchEvent) (out []string) {
	for _, e := range events {
		if e.Event == "report" {
			out = append(out, e.Report)
		}
	}
	return out
}

func hexes(reports []hid.Report) (out []string) {
	for _, r := range reports {
		out = append(out, r.String())
	}
	return out
}

func TestWatchShowsReports(t *testing.T) {
	reports := hid.Reports(slices.Concat(textOf(t, "Hello, 7!"), chordsOf(t, "ALT+F2 ESCx4 DOWNx3 ENTER")))
	events, r, _, code := cableWatched(t, &watch{}, "json", reports)
	if got := shown(events); !slices.Equal(got, hexes(reports)) || code != 0 {
		t.Errorf("exit %d, %d reports, want %d: %v", code, len(got), len(reports), got)
	}
	if r.Keys != 18 || r.Reports != len(reports) || r.Timing == nil || r.Timing.Median != 1 || r.Secret {
		t.Errorf("result %+v, timing %+v", r, r.Timing)
	}
	total := 0
	for _, b := range r.Timing.Buckets {
		total += b.Count
	}
	if total != len(reports)-1 {
		t.Errorf("the histogram holds %d gaps of %d", total, len(reports)-1)
	}
	_, _, said, _ := cableWatched(t, &watch{}, "text", reports)
	for _, want := range []string{"18 keys in", "median 1.0 ms", "█"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
}

// wantedOf makes one key of each part of a recipe; a part in ${} is a secret.
func wantedOf(t *testing.T, secret string, parts ...string) (out []wantedKey, reports []hid.Report) {
	t.Helper()
	for _, p := range parts {
		k := wantedKey{word: p}
		if name, ok := strings.CutPrefix(p, "${"); ok {
			k.secret = strings.TrimSuffix(name, "}")
			k.reports = hid.Reports(textOf(t, secret))
		} else {
			k.reports = hid.Reports(chordsOf(t, p))
		}
		out, reports = append(out, k), append(reports, k.reports...)
	}
	return out, reports
}

// pressesOf are the reports that would give a text away.
func pressesOf(t *testing.T, text string) (out []string) {
	for _, c := range textOf(t, text) {
		out = append(out, hid.Report{0: byte(c.Mods), 2: byte(c.Key)}.String())
	}
	return out
}

func TestWatchComparesAndMasks(t *testing.T) {
	const secret = "xY7;q"
	parts := []string{"F2", "TAB", "${password}", "ENTER", "DOWN×2"}
	want, same := wantedOf(t, secret, parts...)
	tap := func(u hid.Usage) []hid.Report { return []hid.Report{{2: byte(u)}, {}} }
	_, other := wantedOf(t, "xY8;q", parts...)
	_, noTab := wantedOf(t, secret, "F2", "${password}", "ENTER", "DOWN×2")
	for name, c := range map[string]struct {
		reports  []hid.Report
		outcome  string
		position int
		code     int
	}{
		"the same":                   {same, "same", 0, 0},
		"a release first":            {slices.Concat([]hid.Report{{}}, same), "same", 0, 0},
		"with lock keys tapped":      {slices.Concat(tap(hid.KeyNumLock), tap(hid.KeyNumLock), same), "same", 0, 0},
		"locks before the secret":    {slices.Concat(same[:4], tap(hid.KeyCapsLock), tap(hid.KeyCapsLock), same[4:]), "same", 0, 0},
		"cut off":                    {same[:len(same)-2], "incomplete", 0, 1},
		"nothing":                    {nil, "nothing", 0, 1},
		"one key more":               {slices.Concat(same, tap(hid.KeyDown)), "differs", 6, 1},
		"another secret":             {other, "differs", 3, 1},
		"a secret in the user field": {noTab, "differs", 2, 1},
		"a key lost":                 {same[2:], "differs", 1, 1},
	} {
		for _, format := range []string{"json", "text"} {
			_, r, said, code := cableWatched(t, &watch{recipe: "mine", want: want}, format, c.reports)
			if code != c.code {
				t.Errorf("%s: exit %d, want %d: %s", name, code, c.code, said)
			}
			if format == "json" && (r.Recipe == nil || r.Recipe.Outcome != c.outcome || r.Recipe.Position != c.position) {
				t.Errorf("%s: %+v, want %s at %d", name, r.Recipe, c.outcome, c.position)
			}
			for i, press := range slices.Concat(pressesOf(t, secret), pressesOf(t, "8")) {
				if strings.Contains(said, press) {
					t.Errorf("%s: the output holds character %d of the secret: %s", name, i+1, said)
				}
			}
			if strings.Contains(said, "SHIFT+Y") || strings.Contains(said, secret) {
				t.Errorf("%s: the output holds a key of the secret: %s", name, said)
			}
		}
	}
}

// A recipe's secret is hidden where it stands, whatever the model makes of it.
func TestWatchMasksOutsideFields(t *testing.T) {
	const secret = "xY7;q"
	want, reports := wantedOf(t, secret, "ALT+F1", "${password}", "ENTER")
	events, r, said, code := cableWatched(t, &watch{recipe: "mine", want: want}, "json", reports)
	if code != 0 || r.Recipe.Outcome != "same" || !r.Secret {
		t.Errorf("exit %d: %s", code, said)
	}
	if i := slices.IndexFunc(events, func(e watchEvent) bool { return e.Event == "secret" && e.Name == "password" }); i < 0 {
		t.Errorf("no ${password} among the events: %s", said)
	}
	for i, press := range pressesOf(t, secret) {
		if strings.Contains(said, press) {
			t.Errorf("the output holds character %d: %s", i+1, said)
		}
	}
}

// A watcher without a recipe knows a secret by where it goes, or by what labctl
// does before it.
func TestWatchMasksWithoutRecipe(t *testing.T) {
	const secret = "xY7;q"
	text := hid.Reports(textOf(t, secret))
	taps := hid.Reports(chordsOf(t, "NUMLOCKx2"))
	login := hid.Reports(chordsOf(t, "F2 TAB"))
	for name, plugs := range map[string][][]hid.Report{
		"into a password field":            {slices.Concat(login, text)},
		"the same, the keyboard came anew": {login, text},
		"after a host's sign of life":      {slices.Concat(taps, text)},
		"logged in before": {
			slices.Concat(login, hid.Reports(textOf(t, practicePassword)), hid.Reports(chordsOf(t, "ENTER"))),
			slices.Concat(login, text),
		},
	} {
		_, r, said, code := cableWatched(t, &watch{}, "json", plugs...)
		if code != 0 || !r.Secret || r.Keyboards != len(plugs) {
			t.Errorf("%s: exit %d, %+v", name, code, r)
		}
		for i, press := range pressesOf(t, secret) {
			if strings.Contains(said, press) {
				t.Errorf("%s: the output holds character %d: %s", name, i+1, said)
			}
		}
		if strings.Count(said, `"event":"secret"`) > len(plugs) {
			t.Errorf("%s: the number of events tells the length: %s", name, said)
		}
	}
}

// What a recipe's run hands to a keyboard is what the watcher compares with.
func TestWatchCompilesRecipes(t *testing.T) {
	var known []string
	for _, f := range []string{"esxi=6.7", "console=local", "vcenter=yes", "lockdown=off", "lockdown_item=dimmed", "management=distributed",
		"wrap=no", "screen=welcome", "caps=off", "layout=us", "shell=off", "ssh=off"} {
		known = append(known, "--fact", f)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a library's":      {append([]string{"--recipe", "restore-standard-switch"}, known...), 0, "${password}"},
		"too little known": {[]string{"--recipe", "restore-standard-switch"}, exitUnsafe, ""},
		"unknown":          {[]string{"--recipe", "restore-standard-swich"}, exitUsage, ""},
		"without":          {[]string{"--layout", "de"}, exitUsage, ""},
		"unknown value":    {[]string{"--recipe", "set-vlan", "--var", "vlanid=7"}, exitUsage, ""},
	} {
		a := &app{env: &env{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, terminal: func(any) bool { return false }, lookup: func(name string) (string, bool) {
			if name == "LABCTL_PASSWORD" {
				return "pass", true
			}
			return "", false
		}}}
		a.root() // flags
		cmd := a.hidWatchCommand()
		var f watching
		cmd.ResetFlags()
		f.add(a, cmd)
		cmd.Flags().StringVar(&f.recipe, "recipe", "", "")
		if err := cmd.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		cmd.SetContext(t.Context())
		w, err := a.newWatch(cmd, &f)
		if got := exitCode(t.Context(), err); got != c.code {
			t.Errorf("%s: exit %d, want %d: %v", name, got, c.code, err)
			continue
		}
		if c.want == "" {
			continue
		}
		i := slices.IndexFunc(w.want, func(k wantedKey) bool { return k.word == c.want })
		if i < 0 || w.want[i].secret != "password" || !slices.Equal(w.want[i].reports, hid.Reports(textOf(t, "pass"))) {
			t.Errorf("%s: %+v", name, w.want)
		}
		var all []hid.Report
		for _, k := range w.want {
			all = append(all, k.reports...)
		}
		if _, r, said, code := cableWatched(t, w, "json", all); code != 0 || r.Recipe.Outcome != "same" {
			t.Errorf("%s: exit %d: %s", name, code, said)
		}
	}
}

// The wait for a keyboard is told every ten seconds, and --timeout caps it.
func TestWatchWaits(t *testing.T) {
	var stderr bytes.Buffer
	w := &watch{a: &app{env: &env{terminal: func(any) bool { return false }, stderr: &stderr}}}
	start := time.Now()
	for s := range 25 {
		if err := w.wait(start.Add(time.Duration(s) * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(stderr.String(), "waiting for the keyboard"); n != 3 {
		t.Errorf("told %d times in 25 s", n)
	}
	w.a.set.Timeout = 30 * time.Second
	if err := w.wait(start.Add(29 * time.Second)); err != nil {
		t.Error(err)
	}
	if err := w.wait(start.Add(30 * time.Second)); err == nil {
		t.Error("the wait goes on after --timeout")
	}
}

// The picture on a terminal, large and small, holds no key of a secret either.
func TestWatchPicture(t *testing.T) {
	const secret = "xY7;q"
	want, reports := wantedOf(t, secret, "F2", "TAB", "${password}", "ENTER")
	w := &watch{a: &app{env: &env{terminal: func(any) bool { return false }, stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}}, recipe: "mine", want: want, password: secret, live: &live{}}
	if err := w.reset(); err != nil {
		t.Fatal(err)
	}
	see := func(want ...string) {
		t.Helper()
		for _, size := range [][2]int{{100, 40}, {82, 30}, {80, 24}, {20, 3}, {1, 1}} {
			text := w.picture(size[0], size[1]).text()
			for _, s := range want {
				if size[0] >= 80 && !strings.Contains(text, s) {
					t.Errorf("%v: no %q in\n%s", size, s, text)
				}
			}
		}
	}
	see("waiting for the keyboard", "none of mine has come")
	w.take(usbwatch.Event{Kind: usbwatch.EventFound, Device: &usbwatch.Device{Name: "Keyboard", Manufacturer: "labctl"}})
	see("giving the sign to labctl Keyboard")
	w.take(usbwatch.Event{Kind: usbwatch.EventReady})
	for i, r := range reports {
		w.take(usbwatch.Event{Kind: usbwatch.EventReport, Report: r, At: time.Unix(0, int64(i))})
		if i == len(reports)/2 {
			see("TAB ${password}", "as compiled so far: 2 of 4 keys")
		}
	}
	see("3 keys in 6 reports, and a secret", "all 4 keys of mine, as compiled", "System Customization")
}
