//go:build linux

package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/hid/gadget"
)

var system gadget.System

// mountConfigFS makes gadgets possible.
func mountConfigFS(t *testing.T) {
	t.Helper()
	run(t, "modprobe", "libcomposite")
	if err := unix.Mount("configfs", "/sys/kernel/config", "configfs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		t.Fatal(err)
	}
}

// plug shows the host a keyboard, and returns both of its ends.
func plug(t *testing.T, o hid.Options) (*hid.Keyboard, *events) {
	t.Helper()
	mountConfigFS(t)
	ctx := t.Context()
	if _, err := system.Up(ctx, gadget.Spec{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := system.Down(context.Background(), ""); err != nil {
			t.Error(err)
		}
		waitGone(t)
	})
	if _, err := system.Bind(ctx, "", ""); err != nil {
		t.Fatal(err)
	}
	node, err := system.WaitNode(ctx, "", patience)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := hid.Open(node, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kb.Close() })
	if err := kb.WaitReady(ctx, patience); err != nil {
		t.Fatal(err)
	}
	return kb, openEvents(t)
}

// eventNode finds the event device that the host made for the keyboard.
func eventNode() string {
	names, _ := filepath.Glob("/sys/class/input/event*")
	for _, n := range names {
		vendor, _ := os.ReadFile(n + "/device/id/vendor")
		product, _ := os.ReadFile(n + "/device/id/product")
		if strings.TrimSpace(string(vendor)) == "1d6b" && strings.TrimSpace(string(product)) == "0104" {
			return "/dev/input/" + filepath.Base(n)
		}
	}
	return ""
}

func until(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s, not yet: %s", limit, what)
		}
	}
}

// patience is for what has to happen and has no promised time: this machine is
// emulated, and may share its processor with others.
const patience = time.Minute

// waitGone waits until the host has seen the keyboard go. The next one would
// come too early else: dummy_hcd then fails to enumerate it.
func waitGone(t *testing.T) {
	t.Helper()
	until(t, patience, "the host has seen the keyboard go", func() bool { return eventNode() == "" })
}

// event is what the kernel tells of a key (include/uapi/linux/input.h).
type event struct {
	at    time.Duration // since boot, by the kernel's clock
	code  uint16
	value int32 // 0 up, 1 down, 2 repeated
}

// events reads the host's keyboard.
type events struct {
	file    *os.File
	ch      chan event
	dropped chan struct{} // closed when the kernel had to leave events out
	gone    chan struct{} // closed when the keyboard is gone
	goneAt  time.Duration // since boot; to be read after that only
}

// Types and codes of events (include/uapi/linux/input-event-codes.h).
const (
	evSyn, evKey, evLED = 0, 1, 0x11
	synDropped          = 3
	ledScroll           = 2
	eventSize           = 24
)

func openEvents(t *testing.T) *events {
	t.Helper()
	return openEventsUnless(t, func() bool { return false })
}

// openEventsUnless returns nil where over says first that no keyboard will come.
func openEventsUnless(t *testing.T, over func() bool) *events {
	t.Helper()
	var node string
	var file *os.File
	until(t, patience, "the host has an event device for the keyboard", func() bool {
		if over() {
			return true
		}
		if node = eventNode(); node == "" {
			return false
		}
		// Blocking, so that closing it cannot race with a read of the poller.
		f, err := os.OpenFile(node, os.O_RDWR, 0)
		if err != nil {
			return false
		}
		// CLOCK_MONOTONIC is also what the tests measure with. (EVIOCSCLOCKID)
		if err := unix.IoctlSetPointerInt(int(f.Fd()), 0x400445a0, unix.CLOCK_MONOTONIC); err != nil {
			_ = f.Close() // gone again
			return false
		}
		file = f
		return true
	})
	if file == nil {
		return nil
	}
	e := &events{file: file, ch: make(chan event, 1<<16), dropped: make(chan struct{}), gone: make(chan struct{})}
	go e.read()
	return e
}

func (e *events) read() {
	defer func() {
		var now unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
		e.goneAt = time.Duration(now.Nano())
		close(e.gone)
	}()
	buf := make([]byte, 64*eventSize)
	lost := false
	for {
		n, err := e.file.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) >= eventSize; b = b[eventSize:] {
			kind, code := binary.LittleEndian.Uint16(b[16:]), binary.LittleEndian.Uint16(b[18:])
			switch {
			case kind == evSyn && code == synDropped && !lost:
				lost = true
				close(e.dropped)
			case kind == evKey:
				at := time.Duration(binary.LittleEndian.Uint64(b))*time.Second + time.Duration(binary.LittleEndian.Uint64(b[8:]))*time.Microsecond
				e.ch <- event{at, code, int32(binary.LittleEndian.Uint32(b[20:]))}
			}
		}
	}
}

// next returns the next event that is no repetition.
func (e *events) next(t *testing.T) event {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case ev := <-e.ch:
			if ev.value != 2 {
				return ev
			}
		case <-timer.C:
			t.Fatalf("no event within %s", patience)
		}
	}
}

// want fails the test where the next events are others than a press and a
// release of that key.
func (e *events) want(t *testing.T, code uint16) {
	t.Helper()
	for _, value := range []int32{1, 0} {
		if ev := e.next(t); ev.code != code || ev.value != value {
			t.Errorf("%s arrived, want key %d, value %d", ev, code, value)
		}
	}
}

// sign gives a labctl that waits for a watcher its sign, by switching Scroll Lock's
// light on and off until the first key arrives. So none can come before somebody
// reads here, however late that is. It returns false where labctl ends instead.
func (e *events) sign(t *testing.T, l *labctl) bool {
	t.Helper()
	light := func(on byte) {
		led := make([]byte, 2*eventSize) // the second is of evSyn: all is said
		binary.LittleEndian.PutUint16(led[16:], evLED)
		binary.LittleEndian.PutUint16(led[18:], ledScroll)
		led[20] = on
		_, _ = e.file.Write(led) // of a keyboard that is gone no key will come
	}
	for end := time.Now().Add(patience); len(e.ch) == 0; {
		light(1)
		time.Sleep(hid.WatcherHold)
		light(0)
		time.Sleep(hid.WatcherHold)
		if l.over() {
			return len(e.ch) > 0
		}
		if time.Now().After(end) {
			t.Fatalf("no key within %s after the watcher's sign", patience)
		}
	}
	return true
}

// typing starts a labctl that types; its first key waits until the host's keyboard
// is read.
func typing(t *testing.T, env []string, args ...string) (*labctl, *events) {
	t.Helper()
	l, host := tryTyping(t, env, args...)
	if host == nil {
		t.Fatalf("labctl ended without a key: %s", l.stderr.String())
	}
	return l, host
}

// tryTyping is typing, and returns no host where labctl ends without a key.
func tryTyping(t *testing.T, env []string, args ...string) (*labctl, *events) {
	t.Helper()
	l := start(t, env, append(args, "--wait-for-watcher")...)
	host := openEventsUnless(t, l.over)
	if host == nil || !host.sign(t, l) {
		return l, nil
	}
	return l, host
}

// ending is what the host saw of a keyboard after a moment, until it saw none.
type ending struct {
	up      time.Duration // after the moment: the last time that a key was down, 0 for never
	presses int           // keys that went down, without modifiers
}

// after waits until the keyboard is gone.
func (e *events) after(t *testing.T, moment time.Duration, down ...uint16) ending {
	t.Helper()
	select {
	case <-e.gone:
	case <-time.After(patience):
		t.Fatalf("the host still sees the keyboard %s later", patience)
	}
	close(e.ch) // its only writer has ended
	var end ending
	held := map[uint16]bool{}
	for _, code := range down {
		held[code] = true
	}
	for ev := range e.ch {
		switch ev.value {
		case 1:
			held[ev.code] = true
			if ev.at > moment && ev.code != codeLeftShift {
				end.presses++
			}
		case 0:
			delete(held, ev.code)
			end.up = max(end.up, ev.at-moment)
		}
	}
	if len(held) > 0 { // a keyboard that is gone holds nothing
		end.up = max(end.up, e.goneAt-moment)
	}
	return end
}

// silent fails the test if a key arrives.
func (e *events) silent(t *testing.T, during time.Duration) {
	t.Helper()
	select {
	case ev := <-e.ch:
		t.Errorf("key %d, value %d arrived, and none should", ev.code, ev.value)
	case <-time.After(during):
	}
}

func (e event) String() string {
	return fmt.Sprintf("key %d %s", e.code, map[int32]string{0: "up", 1: "down", 2: "again"}[e.value])
}

// Codes of keys (include/uapi/linux/input-event-codes.h).
const (
	codeA         = 30
	codeLeftShift = 42
	codeB         = 48
	codeF2        = 60
	codeDown      = 108
)

func TestOneKey(t *testing.T) {
	kb, host := plug(t, hid.Options{})
	if _, err := kb.Type(t.Context(), []hid.Chord{{Key: hid.KeyF2}}, hid.Pace{}); err != nil {
		t.Fatal(err)
	}
	host.want(t, codeF2)
	host.silent(t, 200*time.Millisecond)
}
