package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/hid/gadget"
	"github.com/labctl/labctl/recipes"
)

// fakeRoot is a machine with a gadget that is set up: plain files, so it keeps
// what is written and knows none of the kernel's rules. Those are for the tests
// on a real kernel.
type fakeRoot struct {
	t    *testing.T
	root string
}

const fakeGadget = "/sys/kernel/config/usb_gadget/labctl"

func newFakeRoot(t *testing.T) fakeRoot {
	r := fakeRoot{t, t.TempDir()}
	for _, d := range []string{
		"configs/c.1/strings/0x409", "functions/hid.usb0", "strings/0x409",
	} {
		r.dir(filepath.Join(fakeGadget, d))
	}
	r.file(fakeGadget+"/UDC", "\n")
	r.file(fakeGadget+"/functions/hid.usb0/dev", "236:0\n")
	r.file("/sys/dev/char/236:0/uevent", "MAJOR=236\nMINOR=0\nDEVNAME=hidg0\n")
	r.file("/sys/class/udc/port0/state", "configured\n")
	r.file("/dev/hidg0", "")
	r.dir("/run/lock")
	return r
}

func (r fakeRoot) dir(p string) {
	r.t.Helper()
	if err := os.MkdirAll(r.root+p, 0o755); err != nil {
		r.t.Fatal(err)
	}
}

func (r fakeRoot) file(p, text string) {
	r.t.Helper()
	r.dir(filepath.Dir(p))
	if err := os.WriteFile(r.root+p, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r fakeRoot) bound() string {
	r.t.Helper()
	b, err := os.ReadFile(r.root + fakeGadget + "/UDC")
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// cable is a host that takes reports, and knows whether it could see the keyboard
// when they came.
type cable struct {
	root   fakeRoot
	got    []hid.Report
	unseen int
	after  func(n int) error // asked before the n-th report, from 1
}

func (c *cable) Take(_ context.Context, r hid.Report) error {
	if c.root.bound() == "" {
		c.unseen++
	}
	if c.after != nil {
		if err := c.after(len(c.got) + 1); err != nil {
			return err
		}
	}
	c.got = append(c.got, r)
	return nil
}

func (c *cable) Lights() (hid.LEDs, bool) { return 0, false }

// openFake is openGadget with a cable behind the device file.
func openFake(t *testing.T, a *app, r fakeRoot, c *cable) (*keyboard, error) {
	t.Helper()
	g := &usbKeyboard{sys: gadget.System{Root: r.root}, open: func(path string, o hid.Options) (*hid.Keyboard, error) {
		if path != r.root+"/dev/hidg0" {
			return nil, fmt.Errorf("opens %s", path)
		}
		return hid.NewKeyboard(c, o), nil
	}}
	return g.keyboard(t.Context(), a, keyboardPlace{text: "/dev/hidg0", kind: "gadget", path: "/dev/hidg0"},
		keyboardOptions{Command: "hid test", Settle: -1, Root: r.root})
}

func TestGadgetRun(t *testing.T) {
	a, r := &app{env: testEnv(t)}, newFakeRoot(t)
	c := &cable{root: r}
	kb, err := openFake(t, a, r, c)
	if err != nil {
		t.Fatal(err)
	}
	if r.bound() != "port0" {
		t.Errorf("bound to %q during the run", r.bound())
	}
	if _, err := openFake(t, &app{env: testEnv(t)}, r, c); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d, labctl hid test", os.Getpid())) {
		t.Errorf("a second run at once: %v", err)
	}
	if r.bound() != "port0" {
		t.Error("the refused run unbound the keyboard of the first")
	}
	if user := a.keyboardUser(r.root); !strings.Contains(user, "hid test") {
		t.Errorf("user %q", user)
	}
	if err := kb.Send(t.Context(), hid.Report{2: 4}); err != nil {
		t.Fatal(err)
	}
	if err := kb.Close(); err != nil {
		t.Error(err)
	}
	if want := []hid.Report{{2: 4}, {}}; fmt.Sprint(c.got) != fmt.Sprint(want) || c.unseen != 0 {
		t.Errorf("the host got %v, %d of it unseen", c.got, c.unseen)
	}
	if r.bound() != "" || a.keyboardUser(r.root) != "" {
		t.Errorf("after the run: bound to %q, used by %q", r.bound(), a.keyboardUser(r.root))
	}
	again, err := openFake(t, a, r, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := kb.Close(); err != nil || r.bound() == "" || a.keyboardUser(r.root) == "" {
		t.Errorf("a second Close reached into the next run: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// What a failed start has made is given back.
func TestGadgetStartFails(t *testing.T) {
	for name, spoil := range map[string]func(fakeRoot){
		"not set up":    func(r fakeRoot) { os.RemoveAll(r.root + fakeGadget) },
		"no port":       func(r fakeRoot) { os.RemoveAll(r.root + "/sys/class/udc/port0") },
		"another port":  func(r fakeRoot) { r.dir("/sys/class/udc/port1") },
		"another name":  func(r fakeRoot) { r.file("/sys/dev/char/236:0/uevent", "DEVNAME=hidg1\n"); r.file("/dev/hidg1", "") },
		"port is taken": func(r fakeRoot) { r.file("/sys/kernel/config/usb_gadget/other/UDC", "port0\n") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := testEnv(t)
			a, r := &app{env: e}, newFakeRoot(t)
			spoil(r)
			kb, err := openFake(t, a, r, &cable{root: r})
			if err == nil {
				kb.Close()
				t.Fatal("it opened")
			}
			a.report(t.Context(), err)
			if s := e.stderr.(*bytes.Buffer).String(); name != "another name" && !strings.Contains(s, "labctl: hint: ") {
				t.Errorf("no way out: %s", s)
			}
			l, err := a.lockKeyboard(t.Context(), a.keyboardDirs(r.root), gadgetLock, "hid test")
			if err != nil {
				t.Fatal(err)
			}
			l.release()
			if b, _ := os.ReadFile(r.root + fakeGadget + "/UDC"); strings.TrimSpace(string(b)) != "" {
				t.Errorf("still bound to %q", b)
			}
		})
	}
}

// A keyboard that a run left bound is unbound before the next one begins.
// Who may type, told in words and by whom to ask.
func TestWhoMayType(t *testing.T) {
	gid := 4711
	if os.Geteuid() != 0 {
		gid = os.Getegid() // who is not root can give a file to no other
	}
	r := newFakeRoot(t)
	r.file("/proc/sys/kernel/osrelease", "6.1\n")
	a := &app{env: testEnv(t)}
	look := func(uid int, groups ...int) check {
		t.Helper()
		result, err := a.hidDoctor(machine{sys: gadget.System{Root: r.root}, goos: "linux", uid: uid,
			groups: func() ([]int, error) { return groups, nil }})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(result.Checks, func(c check) bool { return c.Name == "permissions" })
		return result.Checks[i]
	}
	expect := func(c check, verdict, fix string) {
		t.Helper()
		if c.Verdict != verdict || !strings.Contains(c.Fix, fix) || (fix == "") != (c.Fix == "") {
			t.Errorf("%+v, want %s and %q", c, verdict, fix)
		}
	}
	expect(look(0), checkOK, "")
	expect(look(1000, gid), checkWarn, "put sudo before")
	r.file("/etc/group", fmt.Sprintf("labctl:x:%d:\n", gid))
	expect(look(1000, 1000), checkWarn, "sudo usermod -aG labctl $USER")
	expect(look(1000, 1000, gid), checkWarn, `in /etc/udev/rules.d/60-labctl.rules: SUBSYSTEM=="hidg", GROUP="labctl"`)
	r.file("/usr/lib/udev/rules.d/60-labctl.rules", "")
	expect(look(1000, 1000, gid), checkWarn, "sudo labctl hid up")
	udc := r.root + fakeGadget + "/UDC"
	if err := errors.Join(os.Chown(udc, -1, gid), os.Chmod(udc, 0o664)); err != nil {
		t.Fatal(err)
	}
	expect(look(1000, 1000, gid), checkOK, "")
	expect(look(0), checkOK, "")
}

func TestGadgetLeftBound(t *testing.T) {
	e := testEnv(t)
	a, r := &app{env: e}, newFakeRoot(t)
	r.file(fakeGadget+"/UDC", "port0\n")
	kb, err := openFake(t, a, r, &cable{root: r})
	if err != nil {
		t.Fatal(err)
	}
	defer kb.Close()
	if s := e.stderr.(*bytes.Buffer).String(); !strings.Contains(s, "an earlier run left the keyboard bound") {
		t.Errorf("stderr %q", s)
	}
}

func TestChosenPort(t *testing.T) {
	a, r := &app{env: testEnv(t)}, newFakeRoot(t)
	r.dir("/sys/class/udc/port1")
	r.file("/run/lock/"+chosenPort, "port1")
	kb, err := openFake(t, a, r, &cable{root: r})
	if err != nil {
		t.Fatal(err)
	}
	if r.bound() != "port1" {
		t.Errorf("bound to %q", r.bound())
	}
	if err := kb.Close(); err != nil {
		t.Error(err)
	}
}

// startDog is the watchdog of a run whose process is this test.
func startDog(t *testing.T, a *app, r fakeRoot) (*watchdog, *keyboardLock) {
	t.Helper()
	lock, err := a.lockKeyboard(t.Context(), a.keyboardDirs(r.root), gadgetLock, "hid test")
	if err != nil {
		t.Fatal(err)
	}
	w, err := a.startWatchdog(t.Context(), r.root, "/dev/hidg0", lock)
	if err != nil {
		t.Fatal(err)
	}
	r.file(fakeGadget+"/UDC", "port0\n")
	return w, lock
}

// When labctl has gone without a word, the watchdog unbinds, ends, and only then
// lets the lock go. The end of a process is a closed pipe, whatever ended it.
func TestWatchdogUnbinds(t *testing.T) {
	a, r := &app{env: testEnv(t)}, newFakeRoot(t)
	w, lock := startDog(t, a, r)
	// Signals to a terminal's processes, or to all of a service, are not for it.
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := w.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if sid, err := syscall.Getpgid(w.cmd.Process.Pid); err != nil || sid != w.cmd.Process.Pid {
		t.Errorf("it is in process group %d, %v", sid, err)
	}
	lock.file.Close() // as the kernel does
	if user := a.keyboardUser(r.root); user == "" {
		t.Error("the lock went with labctl, while the watchdog has still to unbind")
	}
	if err := w.alive(); err != nil || r.bound() != "port0" {
		t.Fatalf("before the end of labctl: %v, bound to %q", err, r.bound())
	}
	w.pipe.Close()
	select {
	case <-w.ended:
	case <-time.After(watchdogEnd):
		t.Fatal("it does not end")
	}
	if r.bound() != "" {
		t.Errorf("still bound to %q", r.bound())
	}
	if user := a.keyboardUser(r.root); user != "" {
		t.Errorf("lock held by %s", user)
	}
	if w.alive() == nil {
		t.Error("it ended, and is called alive")
	}
}

func TestWatchdogKeepsOut(t *testing.T) {
	a, r := &app{env: testEnv(t)}, newFakeRoot(t)
	w, lock := startDog(t, a, r)
	w.stop()
	if w.alive() == nil {
		t.Error("still alive after stop")
	}
	if r.bound() != "port0" {
		t.Error("a run that cleaned up by itself was cleaned up after")
	}
	lock.release()
}

// A run whose watchdog has ended presses nothing more, and releases.
func TestWatchdogDies(t *testing.T) {
	a, r := &app{env: testEnv(t)}, newFakeRoot(t)
	c := &cable{root: r}
	g := &usbKeyboard{sys: gadget.System{Root: r.root}, open: func(_ string, o hid.Options) (*hid.Keyboard, error) { return hid.NewKeyboard(c, o), nil }}
	kb, err := g.keyboard(t.Context(), a, keyboardPlace{path: "/dev/hidg0"}, keyboardOptions{Command: "hid test", Settle: -1, Root: r.root})
	if err != nil {
		t.Fatal(err)
	}
	c.after = func(n int) error {
		if n == 3 {
			g.dog.cmd.Process.Kill()
			<-g.dog.ended
		}
		return nil
	}
	chords, err := hid.ParseChords("A×9")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kb.Type(t.Context(), chords, hid.Pace{}); err == nil || exitCode(t.Context(), keysFault(kb, err)) != exitChanged || !strings.Contains(err.Error(), "watchdog") {
		t.Errorf("got %v", err)
	}
	if len(c.got) != 4 || c.got[3] != (hid.Report{}) {
		t.Errorf("the host got %v", c.got)
	}
	if err := kb.Close(); err != nil || r.bound() != "" {
		t.Errorf("%v, bound to %q", err, r.bound())
	}
}

// A process that holds the lock and has been killed is waited for, as its
// watchdog is at work; one that lives is not.
func TestLockOfTheKilled(t *testing.T) {
	a, dir := &app{env: testEnv(t)}, t.TempDir()
	held, err := a.lockKeyboard(t.Context(), []string{dir}, gadgetLock, "hid test")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := a.lockKeyboard(t.Context(), []string{dir}, gadgetLock, "hid test"); err == nil {
		t.Fatal("locked twice")
	}
	if time.Since(start) > leftoverLimit/2 {
		t.Error("it waits for a process that lives")
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := held.file.WriteAt(fmt.Appendf(nil, "process %d, labctl x\n", dead.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, held.release)
	next, err := a.lockKeyboard(t.Context(), []string{dir}, gadgetLock, "hid test")
	if err != nil {
		t.Fatal(err)
	}
	next.release()
}

// Where there is no folder for all users' locks, there is another.
func TestLockFolders(t *testing.T) {
	a := &app{env: testEnv(t)}
	none := filepath.Join(t.TempDir(), "none")
	dirs := a.keyboardDirs(none)
	l, err := a.lockKeyboard(t.Context(), dirs, gadgetLock, "hid test")
	if err != nil {
		t.Fatal(err)
	}
	if got := filepath.Dir(l.file.Name()); got != dirs[1] {
		t.Errorf("locked in %s, want %s", got, dirs[1])
	}
	l.release()
	if _, err := os.Stat(none); err == nil {
		t.Error("the folder for all users was made")
	}
	e := testEnv(t)
	e.lookup = func(string) (string, bool) { return "", false }
	if dirs := (&app{env: e}).keyboardDirs(none); len(dirs) != 2 {
		t.Errorf("without a home: %v", dirs)
	}
	// A link that somebody put into a folder for all is not followed.
	shared := t.TempDir()
	if err := os.Symlink(filepath.Join(none, "x"), filepath.Join(shared, "labctl-"+lockFile(gadgetLock))); err != nil {
		t.Fatal(err)
	}
	if _, err := openLockFile([]string{shared}, lockFile(gadgetLock)); err == nil {
		t.Error("a link was followed")
	}
}

func TestKeysFault(t *testing.T) {
	refused := &hid.DeliveryError{State: hid.Refused, Err: hid.ErrNoHost}
	pending := &hid.DeliveryError{State: hid.Pending, Err: hid.ErrNotTaken}
	c := &cable{root: newFakeRoot(t)}
	fresh := &keyboard{Keyboard: hid.NewKeyboard(c, hid.Options{})}
	used := &keyboard{Keyboard: hid.NewKeyboard(c, hid.Options{})}
	if err := used.Send(t.Context(), hid.Report{}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		kb   *keyboard
		err  error
		want int
	}{
		{fresh, nil, exitDone},
		{used, nil, exitDone},
		{fresh, refused, exitUnchanged},
		{fresh, pending, exitChanged},
		{used, refused, exitChanged},
		{used, pending, exitChanged},
		{fresh, fmt.Errorf("typing: %w", errors.Join(pending, errors.New("x"))), exitChanged},
	} {
		if got := exitCode(t.Context(), keysFault(tc.kb, tc.err)); got != tc.want {
			t.Errorf("%v after %d reports: exit %d, want %d", tc.err, tc.kb.Delivered(), got, tc.want)
		}
	}
	// A recipe that is broken off says what to do about the keyboard, too.
	for reason, hint := range map[error]string{hid.ErrNoHost: "is the cable in", hid.ErrLeft: "its firmware"} {
		err := (&app{env: testEnv(t)}).runFault(used, &recipes.TypeError{Sent: 1, Err: &hid.DeliveryError{State: hid.Refused, Err: reason}})
		if got := hintOf(err, ""); exitCode(t.Context(), err) != exitChanged || !strings.Contains(got, hint) {
			t.Errorf("%v: hint %q", err, got)
		}
	}
}

// What the URI of a keyboard names is known without touching it.
func TestParseKeyboardURI(t *testing.T) {
	for text, want := range map[string]keyboardPlace{
		"/dev/hidg0":                      {kind: "gadget", path: "/dev/hidg0"},
		"/dev/hidg3":                      {kind: "gadget", path: "/dev/hidg3"},
		"sim:":                            {kind: "model"},
		"sim://127.0.0.1:8989/nuc01":      {kind: "labsim", addr: "127.0.0.1:8989", host: "nuc01"},
		"sim://[::1]:8989/nuc01":          {kind: "labsim", addr: "[::1]:8989", host: "nuc01"},
		"ssh://pi":                        {kind: "ssh", host: "pi", path: "/dev/hidg0"},
		"ssh://root@[::1]:2222/dev/hidg1": {kind: "ssh", user: "root", host: "::1", addr: "2222", path: "/dev/hidg1"},
		"vm://nuc01/nested%20esxi":        {kind: "vm", host: "nuc01", vm: "nested esxi"},
	} {
		want.text = text
		if got, err := parseKeyboardURI(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "hidg0", "/dev/null", "/etc/passwd", "sim", "sim:/", "sim://x", "sim://x:1", "sim://x:1/a/b", "sim://u@x:1/a", "ssh://", "ssh://-oProxyCommand=x", "ssh://-l@pi", "ssh://root:secret@pi", "ssh://pi/dev/null", "ssh://pi/dev/hidg0;reboot", "ssh://pi:0", "ssh://pi/dev/hidg0?x", "vm://h", "vm:///v", "vm://h/v/w", "vm://u@h/v", "http://x:1/y", "%zz"} {
		if got, err := parseKeyboardURI(text); exitCode(t.Context(), err) != exitUsage {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// The model takes what a host would, and its console is the one that facts and
// password describe.
func TestModelKeyboard(t *testing.T) {
	a := &app{env: testEnv(t)}
	kb, err := a.openKeyboard(t.Context(), keyboardOptions{URI: "sim:", Facts: map[string]string{"caps": "on"}, Password: new(esxi.NewSecret("Vmw4re!"))})
	if err != nil {
		t.Fatal(err)
	}
	defer kb.Close()
	layout, err := findLayout("us")
	if err != nil {
		t.Fatal(err)
	}
	if err := kb.SetCapsLock(t.Context(), false, time.Second); err != nil {
		t.Fatal(err)
	}
	text, err := layout.Chords("Vmw4re!")
	if err != nil {
		t.Fatal(err)
	}
	enter := []hid.Chord{{Key: hid.KeyEnter}}
	for _, chords := range [][]hid.Chord{{{Key: hid.KeyF2}, {Key: hid.KeyTab}}, text, enter} {
		if _, err := kb.Type(t.Context(), chords, hid.Pace{}); err != nil {
			t.Fatal(err)
		}
	}
	if at := kb.Model.World().At(); at != "menu" {
		t.Errorf("the login ends at %s", at)
	}
	if _, err := a.openKeyboard(t.Context(), keyboardOptions{URI: "sim:", Facts: map[string]string{"cpas": "on"}}); exitCode(t.Context(), err) != exitUsage {
		t.Errorf("an unknown fact: %v", err)
	}
}

// A number on the keypad under Alt is one character, however many digits it has.
func TestModelTakesKeypadCodes(t *testing.T) {
	a := &app{env: testEnv(t)}
	kb, err := a.openKeyboard(t.Context(), keyboardOptions{URI: "sim:", Facts: map[string]string{"screen": "welcome"}, Password: new(esxi.NewSecret("n"))})
	if err != nil {
		t.Fatal(err)
	}
	defer kb.Close()
	code := []hid.Chord{ // 110
		{Key: hid.KeyF2}, {Key: hid.KeyTab},
		{Mods: hid.Alt, Key: hid.KeyKP1, Keep: true}, {Mods: hid.Alt, Key: hid.KeyKP1, Keep: true}, {Mods: hid.Alt, Key: hid.KeyKP0},
		{Key: hid.KeyEnter},
	}
	if _, err := kb.Type(t.Context(), code, hid.Pace{}); err != nil {
		t.Fatal(err)
	}
	if at := kb.Model.World().At(); at != "menu" {
		t.Errorf("the login ends at %s", at)
	}
}

// host is a sink that keeps what it gets and may show its lights.
type host struct {
	got    []hid.Report
	lights hid.LEDs
	silent bool
	keys   hid.Decoder
}

func (h *host) Take(_ context.Context, r hid.Report) error {
	h.got = append(h.got, r)
	for _, e := range h.keys.Decode(r) {
		switch {
		case e.Down && e.Key == hid.KeyNumLock:
			h.lights ^= hid.NumLock
		case e.Down && e.Key == hid.KeyCapsLock:
			h.lights ^= hid.CapsLock
		}
	}
	return nil
}

func (h *host) Lights() (hid.LEDs, bool) { return h.lights, !h.silent }

// A secret is typed only where Caps Lock is seen to be off, and what was tapped
// for that is tapped in pairs.
func TestReadyForSecret(t *testing.T) {
	for name, tc := range map[string]struct {
		h        *host
		accepted bool
		want     int
		taps     int // of lock keys, in all
	}{
		"off":              {&host{}, false, exitDone, 2},
		"on":               {&host{lights: hid.CapsLock | hid.ScrollLock}, false, exitDone, 4},
		"silent":           {&host{silent: true}, false, exitUnsafe, 2},
		"silent, accepted": {&host{silent: true}, true, exitDone, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &app{env: testEnv(t)}
			before := tc.h.lights
			kb := &keyboard{Keyboard: hid.NewKeyboard(tc.h, hid.Options{})}
			restore, err := a.readyForSecret(t.Context(), kb, tc.accepted)
			if got := exitCode(t.Context(), err); got != tc.want {
				t.Errorf("exit %d, %v", got, err)
			}
			if err == nil && !tc.h.silent && tc.h.lights&hid.CapsLock != 0 {
				t.Error("Caps Lock is on")
			}
			if err == nil {
				if err := restore(); err != nil {
					t.Error(err)
				}
			}
			if tc.h.lights != before {
				t.Errorf("lights %03b, before %03b", tc.h.lights, before)
			}
			chords, err := hid.DecodeChords(tc.h.got)
			if err != nil || len(chords) != tc.taps {
				t.Errorf("taps %v, %v", chords, err)
			}
		})
	}
}

// Pauses: none at all with --gap 0s, unless --hold asks for one.
func TestPace(t *testing.T) {
	for args, want := range map[string]hid.Pace{
		"":                    {Hold: hid.DefaultHold, Gap: hid.DefaultGap, Lead: hid.DefaultLead},
		"--gap 0s":            {},
		"--gap 0s --hold 0s":  {},
		"--hold 0s":           {Gap: hid.DefaultGap, Lead: hid.DefaultLead},
		"--gap 0s --hold 5s":  {Hold: 5 * time.Second},
		"--gap 1ms --hold 2s": {Hold: 2 * time.Second, Gap: time.Millisecond, Lead: hid.DefaultLead},
	} {
		a := &app{env: testEnv(t)}
		c := a.hidPressCommand()
		var f typing
		c.ResetFlags()
		f.add(a, c)
		if err := c.ParseFlags(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		if err := f.finish(a, c); err != nil || f.pace != want {
			t.Errorf("%q: %+v, %v", args, f.pace, err)
		}
	}
}

// A run that loses its host at any report: the exit code says what is known, no
// report is sent a second time, and afterwards the host sees no keyboard.
func TestGadgetLosesHost(t *testing.T) {
	chords, err := hid.ParseChords("A B C")
	if err != nil {
		t.Fatal(err)
	}
	reports := hid.Reports(chords)
	for n := 1; n <= len(reports); n++ {
		for _, lost := range []error{&hid.DeliveryError{State: hid.Refused, Err: hid.ErrNoHost}, context.DeadlineExceeded} {
			t.Run(fmt.Sprintf("%d/%T", n, lost), func(t *testing.T) {
				t.Parallel()
				a, r := &app{env: testEnv(t)}, newFakeRoot(t)
				asked := 0
				c := &cable{root: r, after: func(int) error {
					if asked++; asked >= n {
						return lost
					}
					return nil
				}}
				kb, err := openFake(t, a, r, c)
				if err != nil {
					t.Fatal(err)
				}
				_, err = kb.Type(t.Context(), chords, hid.Pace{})
				want := exitChanged
				if n == 1 && lost != context.DeadlineExceeded {
					want = exitUnchanged
				}
				if got := exitCode(t.Context(), keysFault(kb, err)); got != want {
					t.Errorf("exit %d, want %d: %v", got, want, err)
				}
				if err := kb.Close(); err != nil {
					t.Error(err)
				}
				if fmt.Sprint(c.got) != fmt.Sprint(reports[:n-1]) {
					t.Errorf("the host got %v", c.got)
				}
				// Beyond the lost one there is at most the attempt to release.
				if asked > n+1 {
					t.Errorf("%d reports were tried after the one that was lost", asked-n)
				}
				if r.bound() != "" {
					t.Errorf("still bound to %q", r.bound())
				}
				// A watchdog that another test starts in this moment has our lock, until
				// it runs its own program.
				l, err := a.lockKeyboard(t.Context(), a.keyboardDirs(r.root), gadgetLock, "hid test")
				if err != nil {
					t.Fatal(err)
				}
				l.release()
			})
		}
	}
}

// Who types into a host by its name has it alone, as a move or a recipe has.
func TestTypingLocksHost(t *testing.T) {
	config := filepath.Join(t.TempDir(), "labctl.yaml")
	if err := os.WriteFile(config, []byte("version: 1\nhosts:\n  - {name: nuc01, keyboard: \"sim:\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := testEnv(t, "LABCTL_CONFIG="+config)
	unlock, err := (&app{env: e}).lock("host-nuc01", "net apply")
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := invoke(t, e, "hid", "press", "F2", "--host", "NUC01"); code != exitFailed || !strings.Contains(stderr, fmt.Sprintf("host-nuc01 is in use by process %d, labctl net apply", os.Getpid())) {
		t.Errorf("exit %d: %s", code, stderr)
	}
	unlock()
	for range 2 { // which gives it back
		if code, _, stderr := invoke(t, e, "hid", "press", "F2", "--host", "NUC01"); code != 0 {
			t.Errorf("exit %d: %s", code, stderr)
		}
	}
}

// The layout of a host's console is what the flag says, else the config, else what
// was learned of it.
func TestTypingLayout(t *testing.T) {
	for _, tc := range []struct {
		entry, learned, flag, want string
	}{
		{"", "", "", "US Default"},
		{"", "de", "", "German"},
		{"facts: {layout: fr}", "de", "", "French"},
		{"layout: gb, facts: {layout: gb}", "de", "", "United Kingdom"},
		{"layout: gb", "de", "tr", "Turkish"},
	} {
		config := filepath.Join(t.TempDir(), "labctl.yaml")
		entry := strings.TrimSuffix("{name: nuc01, keyboard: \"sim:\", "+tc.entry, ", ") + "}"
		if err := os.WriteFile(config, []byte("version: 1\nhosts:\n  - "+entry+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		e := testEnv(t, "LABCTL_CONFIG="+config)
		if tc.learned != "" {
			f := &learnedFile{Version: 1, Host: "nuc01", Facts: map[string]learnedFact{"layout": {Value: tc.learned, Read: e.now(), Via: "esxi"}}}
			if err := (&app{env: e}).keepFacts(f); err != nil {
				t.Fatal(err)
			}
		}
		args := []string{"hid", "type", "\u4e2d", "--host", "nuc01", "--dry-run"}
		if tc.flag != "" {
			args = append(args, "--layout", tc.flag)
		}
		// The refusal names the layout.
		if code, _, stderr := invoke(t, e, args...); code != exitUsage || !strings.Contains(stderr, "layout "+tc.want+" cannot type") {
			t.Errorf("%+v: exit %d: %s", tc, code, stderr)
		}
	}
}

// A run that finds no host has waited for all it waits for within the 15 s that are
// promised, and has some time left for the rest.
func TestWaitsFitPromise(t *testing.T) {
	leftBound := rebindPause
	tries := 2*(nodeLimit+hostLimit) + rebindPause
	if sum := leftBound + tries; sum >= 15*time.Second {
		t.Errorf("%s of waits", sum)
	}
	if sum := hid.DefaultDeadline * 4; sum >= 15*time.Second { // a lost report, and its release, in two steps each
		t.Errorf("%s for a lost report", sum)
	}
}
