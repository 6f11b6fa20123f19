//go:build linux

package guest

import (
	"os"
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
	l := start(t, nil, "hid", "press", "F2", "--settle", "300ms")
	host := openEvents(t, 20*time.Second)
	for _, value := range []int32{1, 0} {
		if ev := host.next(t, 10*time.Second); ev.code != codeF2 || ev.value != value {
			t.Errorf("%s arrived, want F2, value %d", ev, value)
		}
	}
	if code := l.exit(t, 10*time.Second); code != 0 {
		t.Errorf("exit %d: %s", code, l.stderr.String())
	}
	until(t, 5*time.Second, "the host sees no keyboard after a run", func() bool { return eventNode() == "" })
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

// TestKilled kills labctl many times while it holds a key. The host sees the key
// come up within a second, nothing else is typed, and the next run needs no
// repair.
func TestKilled(t *testing.T) {
	kills, err := strconv.Atoi(os.Getenv("LABCTL_KILLS"))
	if err != nil || kills == 0 {
		kills = 3
	}
	up(t)
	var longest time.Duration
	var after []float64
	late := 0
	for i := range kills {
		l := start(t, nil, "hid", "press", "DOWN", "UP", "DOWN", "UP", "--hold", "5s", "--settle", "800ms")
		host := openEvents(t, 20*time.Second)
		// On a machine as slow as this one the host can be late and lose the first
		// key; the next one is then the one that is held.
		held := host.held(t, codeDown, codeUp)
		if held == 0 { // not pressed yet
			ev := host.next(t, 10*time.Second)
			if held = ev.code; ev.value != 1 || held != codeDown && held != codeUp {
				t.Fatalf("%d: %s arrived, want an arrow down: %s", i, ev, l.stderr.String())
			}
		}
		if held == codeUp {
			late++
		}
		killed := monotonic(t)
		if err := l.cmd.Process.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		released := time.Duration(0)
		for deadline := time.After(5 * time.Second); released == 0; {
			select {
			case ev := <-host.ch:
				switch {
				case ev.value == 2, ev.value == 1 && ev.at < killed:
				case ev.code == held && ev.value == 0:
					released = ev.at
				default:
					t.Fatalf("%d: %s arrived after the kill", i, ev)
				}
			case <-host.gone: // a keyboard that is gone holds nothing
				select {
				case ev := <-host.ch:
					if ev.value == 0 {
						released = ev.at
						continue
					}
				default:
				}
				released = monotonic(t)
			case <-deadline:
				t.Fatalf("%d: the key is still down 5 s after the kill", i)
			}
		}
		longest = max(longest, released-killed)
		after = append(after, (released-killed).Seconds()*1000)
		if released-killed > time.Second {
			t.Errorf("%d: the key was released %s after the kill", i, released-killed)
		}
		l.exit(t, 10*time.Second)
		waitGone(t)
		until(t, 5*time.Second, "the watchdog is gone", func() bool { return len(processes()) == 0 })
	}
	t.Logf("%d first keys were lost on a host that was not ready", late)
	figure("kill-to-release-ms", median(after))
	figure("kill-to-release-max-ms", longest.Seconds()*1000)
	labctlOK(t, nil, "hid", "press", "F2", "--settle", "0s")
}

// TestDeliveryLost: the host stops asking for keys in the middle of a text.
// labctl ends, says so, and leaves nothing that could land later; the next run
// needs no repair.
func TestDeliveryLost(t *testing.T) {
	up(t)
	l := start(t, nil, "hid", "type", strings.Repeat("a", 500), "--layout", "us", "--settle", "0s", "--hold", "10ms", "--gap", "10ms")
	host := openEvents(t, 20*time.Second)
	for range 10 {
		host.next(t, 10*time.Second)
	}
	deaf(t)
	if code := l.exit(t, 15*time.Second); code != 6 {
		t.Errorf("exit %d, want 6, as some keys have arrived", code)
	}
	if said := l.stderr.String(); !strings.Contains(said, "the host did not take") {
		t.Errorf("labctl does not say what happened: %s", said)
	}
	l = start(t, nil, "hid", "press", "F2")
	host = openEvents(t, 20*time.Second)
	for _, value := range []int32{1, 0} {
		if ev := host.next(t, 20*time.Second); ev.code != codeF2 || ev.value != value {
			t.Errorf("%s arrived, want F2, value %d", ev, value)
		}
	}
	if code := l.exit(t, 10*time.Second); code != 0 {
		t.Errorf("the run after it: exit %d: %s", code, l.stderr.String())
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
	if code := l.exit(t, 30*time.Second); code != 0 {
		t.Fatalf("exit %d: %s", code, l.stderr.String())
	}
	until(t, 5*time.Second, "the text is there", func() bool { return len(c.text()) >= len(secret) })
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
