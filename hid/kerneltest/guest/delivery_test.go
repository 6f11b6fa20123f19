//go:build linux

package guest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/hid/gadget"
)

// TestTenThousandKeys loses none and doubles none.
func TestTenThousandKeys(t *testing.T) {
	kb, host := plug(t, hid.Options{})
	// The kernel keeps 64 events for a reader, and each of the two reports of a key
	// makes three: with more keys in one go, a late reader would lose some itself.
	const keys, batch = 10_000, 8
	start := time.Now()
	for done := 0; done < keys; done += batch {
		var chords []hid.Chord
		for i := range batch {
			chords = append(chords, hid.Chord{Key: hid.KeyA + hid.Usage((done+i)%26)})
		}
		if n, err := kb.Type(t.Context(), chords, hid.Pace{}); err != nil {
			t.Fatalf("after %d reports: %v", n, err)
		}
		for i := range batch {
			want := letterCodes[(done+i)%26]
			for _, value := range []int32{1, 0} {
				if ev := host.next(t); ev.code != want || ev.value != value {
					t.Fatalf("key %d: %s arrived, want key %d, value %d", done+i, ev, want, value)
				}
			}
		}
	}
	host.silent(t, 100*time.Millisecond)
	select {
	case <-host.dropped:
		t.Error("the kernel left events out: this test reads too slowly to tell")
	default:
	}
	t.Logf("%d keys in %v", keys, time.Since(start))
}

// letterCodes holds the event codes of A to Z.
var letterCodes = [26]uint16{30, 48, 46, 32, 18, 33, 34, 35, 23, 36, 37, 38, 50, 49, 24, 25, 16, 19, 31, 20, 22, 47, 17, 45, 21, 44}

// TestRefusedWhileUnbound: what is typed to nobody is refused, and does not
// arrive when somebody comes.
func TestRefusedWhileUnbound(t *testing.T) {
	kb, _ := plug(t, hid.Options{})
	if err := system.Unbind(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	waitGone(t)
	var lost *hid.DeliveryError
	if err := kb.Send(t.Context(), hid.Report{2: byte(hid.KeyF11)}); !errors.As(err, &lost) || lost.State != hid.Refused || !errors.Is(err, hid.ErrNoHost) {
		t.Fatalf("typing while unbound: %v, want a refusal because nobody is there", err)
	}
	if _, err := system.Bind(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	host := openEvents(t)
	host.silent(t, 500*time.Millisecond)
	if err := kb.WaitReady(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	if _, err := kb.Type(t.Context(), []hid.Chord{{Key: hid.KeyF2}}, hid.Pace{}); err != nil {
		t.Fatalf("the same keyboard, bound again: %v", err)
	}
	host.want(t, codeF2)
}

// usbInterface is the host's name for the keyboard on its bus.
func usbInterface(t *testing.T) string {
	t.Helper()
	all, err := filepath.Glob("/sys/bus/usb/drivers/usbhid/*:*")
	if err != nil || len(all) != 1 {
		t.Fatalf("the host's keyboards: %v, %v", all, err)
	}
	return filepath.Base(all[0])
}

func write(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// deaf makes the host stop asking for reports, while the cable stays.
func deaf(t *testing.T) (hear func()) {
	t.Helper()
	name := usbInterface(t)
	write(t, "/sys/bus/usb/drivers/usbhid/unbind", name)
	waitGone(t)
	return func() { write(t, "/sys/bus/usb/drivers/usbhid/bind", name) }
}

// TestHostStopsAsking: the report that it leaves lying is withdrawn, and nothing
// of it lands when the host is back.
func TestHostStopsAsking(t *testing.T) {
	flushed := 0
	kb, _ := plug(t, hid.Options{Deadline: 300 * time.Millisecond, Flush: func(ctx context.Context) error {
		flushed++
		return system.Unbind(ctx, "")
	}})
	hear := deaf(t)
	// The simulated port takes a report or two into a queue of its own, so it is
	// later ones that stay.
	var err error
	sent := 0
	for ; err == nil && sent < 8; sent++ {
		r := hid.Report{}
		if sent%2 == 0 {
			r[2] = byte(hid.KeyF11)
		}
		err = kb.Send(t.Context(), r)
	}
	var lost *hid.DeliveryError
	if !errors.As(err, &lost) || lost.State != hid.Pending || !lost.Flushed || flushed != 1 {
		t.Fatalf("after %d reports to a deaf host: %v, %d flushes; want a pending report, withdrawn", sent, err, flushed)
	}
	if err := kb.Send(t.Context(), hid.Report{2: byte(hid.KeyF2)}); !errors.As(err, &lost) || lost.State != hid.Refused {
		t.Errorf("a key after a pending one: %v, want a refusal", err)
	}
	t.Logf("%d reports went before the one that stayed", sent-1)
	_ = hear // unbound, the device is gone; the host hears again when it comes back
	if err := kb.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	if _, err := system.Bind(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	host := openEvents(t)
	host.silent(t, time.Second)
}

// TestLights: the host answers lock keys, and Caps Lock is set by what it says.
func TestLights(t *testing.T) {
	openConsole(t) // Scroll Lock is for a console that somebody reads
	kb, _ := plug(t, hid.Options{})
	ctx, within := t.Context(), patience
	for _, lock := range []hid.Usage{hid.KeyNumLock, hid.KeyCapsLock, hid.KeyScroll} {
		before, _ := kb.LEDs()
		if err := kb.Probe(ctx, lock, within); err != nil {
			t.Errorf("%s: %v", lock, err)
		}
		if after, known := kb.LEDs(); !known || after != before {
			t.Errorf("%s: lights %03b before, %03b after, known %v", lock, before, after, known)
		}
	}
	for i, on := range []bool{true, true, false, false, true, false} {
		if err := kb.SetCapsLock(ctx, on, within); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if lights, _ := kb.LEDs(); lights&hid.CapsLock != 0 != on {
			t.Errorf("%d: lights %03b, want Caps Lock %v", i, lights, on)
		}
	}
}

// TestUpAndDown sets the gadget up and takes it down fifty times, each twice.
func TestUpAndDown(t *testing.T) {
	mountConfigFS(t)
	ctx := t.Context()
	for i := range 50 {
		for range 2 {
			if _, err := system.Up(ctx, gadget.Spec{}); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		for range 2 {
			if err := system.Down(ctx, ""); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		noGadgets(t)
	}
}

func noGadgets(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir("/sys/kernel/config/usb_gadget")
	if err != nil || len(left) != 0 {
		t.Fatalf("in configfs after down: %v, %v", left, err)
	}
}
