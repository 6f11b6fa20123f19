//go:build linux

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHidUpAndDown does with the commands what TestUpAndDown does fifty times
// without them.
func TestHidUpAndDown(t *testing.T) {
	for i := range 8 {
		labctlOK(t, nil, "hid", "up")
		if i == 0 { // once more changes nothing
			labctlOK(t, nil, "hid", "up")
		}
		if node := eventNode(); node != "" {
			t.Fatalf("%d: the host sees the keyboard after hid up: %s", i, node)
		}
		labctlOK(t, nil, "hid", "down")
		if i == 0 {
			labctlOK(t, nil, "hid", "down")
		}
		noGadgets(t)
	}
}

// TestUnseenBetweenRuns: the host sees a keyboard only while somebody types.
func TestUnseenBetweenRuns(t *testing.T) {
	up(t)
	l, host := typing(t, nil, "hid", "press", "F2")
	host.want(t, codeF2)
	if code := l.exit(t, patience); code != 0 {
		t.Errorf("exit %d: %s", code, l.stderr.String())
	}
	waitGone(t)
	var status struct {
		Up    bool
		Bound string
	}
	lastJSON(t, labctlOK(t, nil, "hid", "status", "-o", "json"), &status)
	if !status.Up || status.Bound != "" {
		t.Errorf("status %+v, want up and not bound", status)
	}
}

func monotonic(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// kills is how many times a test kills something.
func kills() int {
	n, err := strconv.Atoi(os.Getenv("LABCTL_KILLS"))
	if err != nil || n == 0 {
		return 3
	}
	return n
}

// TestKilled kills labctl many times while it holds a key. The host sees the key
// come up within a second, nothing else is typed, and the next run needs no
// repair.
func TestKilled(t *testing.T) {
	up(t)
	var longest time.Duration
	var after []float64
	for i := range kills() {
		l, host := typing(t, nil, "hid", "press", "DOWN", "F2", "DOWN", "F2", "--hold", "5s")
		if ev := host.next(t); ev.code != codeDown || ev.value != 1 {
			t.Fatalf("%d: %s arrived, want an arrow down: %s", i, ev, l.stderr.String())
		}
		killed := monotonic(t)
		if err := l.cmd.Process.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		end := host.after(t, killed, codeDown)
		if end.up > time.Second {
			t.Errorf("%d: the key was released %s after the kill", i, end.up)
		}
		if end.presses != 0 {
			t.Errorf("%d: %d keys were pressed after the kill", i, end.presses)
		}
		longest = max(longest, end.up)
		after = append(after, end.up.Seconds()*1000)
		l.exit(t, patience)
		waitGone(t)
		until(t, patience, "the watchdog is gone", func() bool { return len(processes()) == 0 })
	}
	figure("kill-to-release-ms", median(after))
	figure("kill-to-release-max-ms", longest.Seconds()*1000)
	labctlOK(t, nil, "hid", "press", "F2", "--settle", "0s")
}

// TestSignalled ends labctl as a person or a system does, under a key that is held:
// it comes up at once, no other is typed, and all is cleaned up.
func TestSignalled(t *testing.T) {
	up(t)
	for _, signal := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		l, host := typing(t, nil, "hid", "press", "DOWN", "F2", "--hold", "8s")
		if ev := host.next(t); ev.code != codeDown || ev.value != 1 {
			t.Fatalf("%s: %s arrived, want an arrow down: %s", signal, ev, l.stderr.String())
		}
		sent := monotonic(t)
		if err := l.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if end := host.after(t, sent, codeDown); end.presses != 0 || end.up > time.Second {
			t.Errorf("%s: %d keys were pressed after it, and the key was down %s", signal, end.presses, end.up)
		}
		if code := l.exit(t, patience); code != 130 {
			t.Errorf("%s: exit %d, want 130: %s", signal, code, l.stderr.String())
		}
		if now, err := system.Inspect(""); err != nil || now.UDC != "" || len(processes()) > 0 {
			t.Errorf("%s: bound to %q, %v, and %v run on", signal, now.UDC, err, processes())
		}
	}
}

// TestDeliveryLost: the host stops asking for keys in the middle of a text.
// labctl ends, says so, and leaves nothing that could land later; the next run
// needs no repair.
func TestDeliveryLost(t *testing.T) {
	up(t)
	l, host := typing(t, nil, "hid", "type", strings.Repeat("a", 500), "--layout", "us", "--hold", "10ms", "--gap", "10ms")
	for range 10 {
		host.next(t)
	}
	deaf(t)
	if code := l.exit(t, 15*time.Second); code != 6 {
		t.Errorf("exit %d, want 6, as some keys have arrived", code)
	}
	if said := l.stderr.String(); !strings.Contains(said, "the host did not take") {
		t.Errorf("labctl does not say what happened: %s", said)
	}
	l, host = typing(t, nil, "hid", "press", "F2")
	host.want(t, codeF2)
	if code := l.exit(t, patience); code != 0 {
		t.Errorf("the run after it: exit %d: %s", code, l.stderr.String())
	}
}

// TestHostRestarts: the host resets its port under a key that is held, as a host
// does that restarts, and is there again at once. The key is released, and the
// ones that were to follow are not typed.
func TestHostRestarts(t *testing.T) {
	up(t)
	l, host := typing(t, nil, "hid", "press", "DOWN", "F2", "--hold", "3s")
	if ev := host.next(t); ev.code != codeDown || ev.value != 1 {
		t.Fatalf("%s arrived, want an arrow down: %s", ev, l.stderr.String())
	}
	reset := monotonic(t)
	resetPort(t)
	if code := l.exit(t, patience); code != 6 || !strings.Contains(l.stderr.String(), "let go of the keyboard") {
		t.Errorf("exit %d, want 6 and why: %s", code, l.stderr.String())
	}
	if end := host.after(t, reset, codeDown); end.presses != 0 {
		t.Errorf("%d keys were pressed after the reset", end.presses)
	}
	labctlOK(t, nil, "hid", "press", "F2", "--settle", "0s")
}

// unplug makes the host leave alone what is plugged in from now on, until plugIn,
// or the end of the test.
func unplug(t *testing.T) (plugIn func()) {
	t.Helper()
	hub, err := filepath.Glob("/sys/bus/usb/devices/usb*/authorized_default")
	if err != nil || len(hub) != 1 {
		t.Fatalf("%v, %v; want the hub of one port", hub, err)
	}
	write(t, hub[0], "0")
	t.Cleanup(func() { write(t, hub[0], "1") })
	return func() {
		t.Helper()
		devices, err := filepath.Glob("/sys/bus/usb/devices/[0-9]*-[0-9]/authorized")
		if err != nil || len(devices) != 1 {
			t.Fatalf("devices at the host: %v, %v", devices, err)
		}
		write(t, devices[0], "1")
	}
}

// TestNobodyThere: a run without a host ends soon, says so, and leaves nothing
// that lands when one comes.
func TestNobodyThere(t *testing.T) {
	up(t)
	unplug(t)
	l := start(t, nil, "hid", "press", "F2")
	// Ten seconds of it are waits; starting programs is slow here.
	if code := l.exit(t, 30*time.Second); code != 1 || !strings.Contains(l.stderr.String(), "no host is connected") {
		t.Errorf("exit %d: %s", code, l.stderr.String())
	}
	if now, err := system.Inspect(""); err != nil || now.UDC != "" {
		t.Errorf("after it, bound to %q, %v", now.UDC, err)
	}
}

// TestWatcherComesLate: the keyboard stays bound, and nothing is typed, until the
// cable is plugged in and somebody watches; that may take longer than a host may
// take to find a keyboard otherwise.
func TestWatcherComesLate(t *testing.T) {
	up(t)
	plugIn := unplug(t)
	l := start(t, nil, "hid", "press", "F2", "--wait-for-watcher")
	bound := func() bool {
		now, err := system.Inspect("")
		return err == nil && now.UDC != ""
	}
	until(t, patience, "the keyboard is bound", bound)
	for start := time.Now(); time.Since(start) < 12*time.Second; time.Sleep(50 * time.Millisecond) {
		if !bound() {
			t.Fatalf("unbound %s later: %s", time.Since(start), l.stderr.String())
		}
	}
	if eventNode() != "" {
		t.Fatal("the host has taken the keyboard, so this shows nothing")
	}
	plugIn()
	host := openEvents(t)
	if !host.sign(t, l) {
		t.Fatalf("labctl ended without a key: %s", l.stderr.String())
	}
	host.want(t, codeF2)
	if code := l.exit(t, patience); code != 0 {
		t.Errorf("exit %d: %s", code, l.stderr.String())
	}
}

// TestPowerOn: a run for firmware waits for the host to be switched on, longer
// than any other would, and goes on after the host has let go of the keyboard for
// a moment.
func TestPowerOn(t *testing.T) {
	up(t)
	plugIn := unplug(t)
	l := start(t, nil, "hid", "press", "F2×100", "--power-on", "--gap", "150ms")
	time.Sleep(12 * time.Second)
	plugIn()
	openEvents(t).pressed(t, codeF2)
	resetPort(t)
	openEvents(t).pressed(t, codeF2)
	if code := l.exit(t, patience); code != 0 {
		t.Errorf("exit %d: %s", code, l.stderr.String())
	}
}

// pressed waits for the key to go down.
func (e *events) pressed(t *testing.T, code uint16) {
	t.Helper()
	for ev := e.next(t); ev.code != code || ev.value != 1; ev = e.next(t) {
	}
}

// resetPort makes the host reset the keyboard's port and configure it anew
// (USBDEVFS_RESET, include/uapi/linux/usbdevice_fs.h).
func resetPort(t *testing.T) {
	t.Helper()
	device, _, _ := strings.Cut(usbInterface(t), ":")
	var number [2]int
	for i, name := range []string{"busnum", "devnum"} {
		text, err := os.ReadFile("/sys/bus/usb/devices/" + device + "/" + name)
		if err == nil {
			number[i], err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(fmt.Sprintf("/dev/bus/usb/%03d/%03d", number[0], number[1]), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), 0x5514, 0); err != nil {
		t.Fatalf("resetting the port: %v", err)
	}
}

const (
	kdSetLock = 0x4B65 // KDSKBLED: the locks of a console
	capsLock  = 4      // K_CAPSLOCK
)

// TestSecretUnderCapsLock: a secret arrives as it is where Caps Lock was on, and
// the lock is on again afterwards.
func TestSecretUnderCapsLock(t *testing.T) {
	const secret = "Passw0rd!xY"
	up(t)
	c := openConsole(t)
	fd := c.fd
	if err := unix.IoctlSetInt(fd, kdSetLock, capsLock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.IoctlSetInt(fd, kdSetLock, 0) })
	l := start(t, []string{"LABCTL_SECRET_TEXT=" + secret}, "hid", "type", "--secret", "--layout", "us")
	if code := l.exit(t, patience); code != 0 {
		t.Fatalf("exit %d: %s", code, l.stderr.String())
	}
	until(t, patience, "the text is there", func() bool { return len(c.text()) >= len(secret) })
	if c.text() != secret {
		t.Errorf("what arrived is not what was typed (%d characters)", len(c.text()))
	}
	if said := l.stdout.String() + l.stderr.String(); strings.Contains(said, secret) {
		t.Error("labctl prints the secret")
	}
	locks, err := unix.IoctlGetUint32(fd, 0x4B64) // KDGKBLED
	if err != nil || locks&capsLock == 0 {
		t.Errorf("locks afterwards: %x, %v; want Caps Lock on as it was", locks&7, err)
	}
}

// TestNothingStays: after everything, no process, no gadget.
func TestNothingStays(t *testing.T) {
	if p := processes(); len(p) > 0 {
		t.Errorf("still running: %v", p)
	}
	if _, err := os.Stat("/sys/kernel/config/usb_gadget"); err == nil {
		noGadgets(t)
	}
}
