//go:build linux

package guest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/labctl/labctl/hid"
)

const watcher = "/bin/labctl-usb"

// watchCable starts hid watch with libusb, and ends it after the test.
func watchCable(t *testing.T, env []string, args ...string) *labctl {
	t.Helper()
	if _, err := os.Stat(watcher); err != nil {
		t.Skip("for the machine that has libusb")
	}
	l := &labctl{cmd: exec.Command(watcher, append([]string{"hid", "watch", "-o", "json"}, args...)...), ended: make(chan struct{})}
	l.cmd.Env = append([]string{"PATH=/bin", "HOME=/root"}, env...)
	l.cmd.Stdout, l.cmd.Stderr = &l.stdout, &l.stderr
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(l.ended)
		if err := l.cmd.Wait(); err != nil && l.cmd.ProcessState == nil {
			_, _ = l.stderr.Write([]byte(err.Error()))
		}
	}()
	t.Cleanup(func() { _ = l.cmd.Process.Kill(); <-l.ended })
	return l
}

// seen is one line of hid watch.
type seen struct {
	Event, Report, Key, Name, Want, Got, Error string
	Position                                   int
	Version                                    int
	Keys, Reports, Odd                         int
	Secret, OK                                 bool
	Recipe                                     struct {
		Outcome     string
		Matched, Of int
	}
	Timing   struct{ MedianMs, P99Ms, LongestMs float64 }
	Findings []struct {
		Check, Found string
		OK           bool
	}
}

// lines returns the events and the result of a watch that has ended.
func (l *labctl) lines(t *testing.T) (events []seen, result seen) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(l.stdout.String()))
	for d.More() {
		var s seen
		if err := d.Decode(&s); err != nil {
			t.Fatalf("%v in %s", err, l.stdout.String())
		}
		events = append(events, s)
	}
	if len(events) == 0 || events[len(events)-1].Version != 1 {
		t.Fatalf("no result in %q: %s", l.stdout.String(), l.stderr.String())
	}
	return events[:len(events)-1], events[len(events)-1]
}

func reportsOf(events []seen) (out []string) {
	for _, e := range events {
		if e.Event == "report" {
			out = append(out, e.Report)
		}
	}
	return out
}

// TestWatchLint: labctl's own keyboard has nothing that its watcher minds.
func TestWatchLint(t *testing.T) {
	up(t)
	w := watchCable(t, nil, "--lint")
	l := start(t, nil, "hid", "press", "F2", "--wait-for-watcher")
	if code := w.exit(t, patience); code != 0 {
		t.Errorf("exit %d: %s", code, w.stderr.String())
	}
	_, r := w.lines(t)
	if !r.OK || len(r.Findings) < 9 {
		t.Errorf("findings %+v", r.Findings)
	}
	if err := l.cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	l.exit(t, patience)
}

// TestWatchTyping types 10,000 keys at full speed. The watcher has every report,
// in order, and this machine's own driver none.
func TestWatchTyping(t *testing.T) {
	const keys = 10_000
	console := openConsole(t)
	up(t)
	w := watchCable(t, nil, "--once")
	text := strings.Repeat("the quick brown fox jumps over 13 lazy dogs, ", keys/45+1)[:keys]
	var want struct{ Reports []string }
	lastJSON(t, labctlOK(t, nil, "hid", "type", "--layout", "us", "--dry-run", "-o", "json", text), &want)
	l := start(t, nil, "hid", "type", "--layout", "us", "--wait-for-watcher", "--gap", "0s", text)
	if code := l.exit(t, 4*time.Minute); code != 0 {
		t.Fatalf("typing: exit %d: %s", code, l.stderr.String())
	}
	if code := w.exit(t, patience); code != 0 {
		t.Errorf("watching: exit %d: %s", code, w.stderr.String())
	}
	events, r := w.lines(t)
	got := reportsOf(events)
	if !slices.Equal(got, want.Reports) {
		t.Errorf("%d reports came, want %d; they differ from %d on", len(got), len(want.Reports), firstDifference(got, want.Reports))
	}
	if r.Keys != keys || r.Odd != 0 {
		t.Errorf("%d keys and %d odd transfers, want %d and none", r.Keys, r.Odd, keys)
	}
	if s := console.text(); s != "" {
		t.Errorf("the console got %d characters: %.40q", len(s), s)
	}
	figure("watch-reports", float64(len(got)))
	figure("watch-median-ms", r.Timing.MedianMs)
	figure("watch-p99-ms", r.Timing.P99Ms)
	figure("watch-longest-ms", r.Timing.LongestMs)
}

func firstDifference(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// noSecret looks for the presses of a text in what a watcher said.
func noSecret(t *testing.T, w *labctl, secret string) {
	t.Helper()
	us, err := hid.FindLayout("us")
	if err != nil {
		t.Fatal(err)
	}
	chords, err := us.Chords(secret)
	if err != nil {
		t.Fatal(err)
	}
	said := w.stdout.String() + w.stderr.String()
	if strings.Contains(said, secret) {
		t.Error("the secret is in the watcher's output")
	}
	for i, c := range chords {
		press := hid.Report{0: byte(c.Mods), 2: byte(c.Key)}
		if strings.Contains(said, press.String()) {
			t.Errorf("the report of the secret's character %d is in the watcher's output", i+1)
		}
	}
}

// TestWatchSecret: the watcher plays the host's lock lights, without which no
// secret is typed, and shows nothing of it.
func TestWatchSecret(t *testing.T) {
	const secret = "Passw0rd!xY"
	up(t)
	w := watchCable(t, nil)
	for range 2 { // a watcher sees each run
		l := start(t, []string{"LABCTL_SECRET_TEXT=" + secret}, "hid", "type", "--secret", "--layout", "us", "--wait-for-watcher")
		if code := l.exit(t, patience); code != 0 {
			t.Fatalf("exit %d: %s", code, l.stderr.String())
		}
	}
	until(t, patience, "the watcher has seen both runs end", func() bool { return strings.Count(w.stdout.String(), `"event":"gone"`) == 2 })
	if err := w.cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := w.exit(t, patience); code != 0 {
		t.Errorf("exit %d: %s", code, w.stderr.String())
	}
	events, r := w.lines(t)
	count := map[string]int{}
	for _, e := range events {
		count[e.Event]++
	}
	if !r.Secret || count["secret"] != 2 || count["ready"] != 2 || count["gone"] != 2 {
		t.Errorf("events %v, result %+v", count, r)
	}
	noSecret(t, w, secret)
}

// TestWatchRecipe: what comes is what was compiled at the watcher's end, and with
// another password it is not.
func TestWatchRecipe(t *testing.T) {
	const secret, other = "N0t-a;Word", "N0t-a;Lord"
	up(t)
	file := filepath.Join(t.TempDir(), "restore.yaml")
	if err := os.WriteFile(file, []byte(restore), 0o600); err != nil {
		t.Fatal(err)
	}
	facts := []string{}
	for _, f := range []string{"esxi=6.7", "console=local", "vcenter=yes", "lockdown=off", "management=distributed",
		"wrap=no", "screen=welcome", "caps=off", "layout=us", "shell=off", "ssh=off"} {
		facts = append(facts, "--fact", f)
	}
	for _, c := range []struct {
		typed, outcome string
		code           int
	}{{secret, "same", 0}, {other, "differs", 1}} {
		w := watchCable(t, []string{"LABCTL_PASSWORD=" + secret}, append([]string{"--once", "--recipe", file}, facts...)...)
		l := start(t, []string{"HOME=/root", "LABCTL_PASSWORD=" + c.typed},
			append([]string{"recipe", "run", file, "--keyboard", "/dev/hidg0", "--yes", "--wait-for-watcher"}, facts...)...)
		if code := l.exit(t, patience); code != 0 {
			t.Fatalf("typing: exit %d: %s", code, l.stderr.String())
		}
		if code := w.exit(t, patience); code != c.code {
			t.Errorf("watching: exit %d, want %d: %s%s", code, c.code, w.stdout.String(), w.stderr.String())
		}
		events, r := w.lines(t)
		if r.Recipe.Outcome != c.outcome || r.Recipe.Of == 0 {
			t.Errorf("%+v, want %s: %s", r.Recipe, c.outcome, w.stdout.String())
		}
		if c.outcome == "differs" {
			i := slices.IndexFunc(events, func(e seen) bool { return e.Event == "differs" })
			if i < 0 || events[i].Want != "${password}" || events[i].Got != "something else" {
				t.Errorf("it does not say where: %s", w.stdout.String())
			}
		}
		noSecret(t, w, c.typed)
	}
}
