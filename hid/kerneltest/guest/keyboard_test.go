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
	"unsafe"

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
	node, err := system.WaitNode(ctx, "", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := hid.Open(node, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kb.Close() })
	if err := kb.WaitReady(ctx, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	return kb, openEvents(t, 10*time.Second)
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
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s, not yet: %s", limit, what)
		}
	}
}

// waitGone waits until the host has seen the keyboard go. The next one would
// come too early else: dummy_hcd then fails to enumerate it.
func waitGone(t *testing.T) {
	t.Helper()
	until(t, 10*time.Second, "the host has seen the keyboard go", func() bool { return eventNode() == "" })
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
}

const (
	evSyn, evKey, evLED = 0, 1, 0x11
	synDropped          = 3
	eventSize           = 24
)

func openEvents(t *testing.T, limit time.Duration) *events {
	t.Helper()
	var node string
	var file *os.File
	until(t, limit, "the host has an event device for the keyboard", func() bool {
		if node = eventNode(); node == "" {
			return false
		}
		var err error
		// Blocking, so that closing it cannot race with a read of the poller.
		file, err = os.OpenFile(node, os.O_RDWR, 0)
		return err == nil
	})
	e := &events{file: file, ch: make(chan event, 1<<16), dropped: make(chan struct{}), gone: make(chan struct{})}
	// CLOCK_MONOTONIC is also what the tests measure with.
	if err := unix.IoctlSetPointerInt(int(file.Fd()), 0x400445a0, unix.CLOCK_MONOTONIC); err != nil {
		t.Fatal(err)
	}
	go e.read()
	return e
}

func (e *events) read() {
	defer close(e.gone)
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
func (e *events) next(t *testing.T, limit time.Duration) event {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case ev := <-e.ch:
			if ev.value != 2 {
				return ev
			}
		case <-timer.C:
			t.Fatalf("no event within %s", limit)
		}
	}
}

// held returns the one of these keys that is down at this moment by what the
// kernel says (EVIOCGKEY), 0 if none is.
func (e *events) held(t *testing.T, codes ...uint16) uint16 {
	t.Helper()
	var keys [96]byte // KEY_MAX is 0x2ff
	request := uintptr(uint32(2<<30) | uint32(len(keys))<<16 | 'E'<<8 | 0x18)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, e.file.Fd(), request, uintptr(unsafe.Pointer(&keys[0]))); errno != 0 {
		return 0 // gone already
	}
	for _, c := range codes {
		if keys[c/8]&(1<<(c%8)) != 0 {
			return c
		}
	}
	return 0
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
	codeF2   = 60
	codeUp   = 103
	codeDown = 108
)

func TestOneKey(t *testing.T) {
	kb, host := plug(t, hid.Options{})
	if _, err := kb.Type(t.Context(), []hid.Chord{{Key: hid.KeyF2}}, hid.Pace{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int32{1, 0} {
		if ev := host.next(t, 5*time.Second); ev.code != codeF2 || ev.value != want {
			t.Fatalf("%s arrived, want F2 (%d), value %d", ev, codeF2, want)
		}
	}
	host.silent(t, 200*time.Millisecond)
}
