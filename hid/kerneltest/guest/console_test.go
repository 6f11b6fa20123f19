//go:build linux

package guest

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/labctl/labctl/hid"
)

// console is tty1, read as a program with a full screen reads it.
type console struct {
	file *os.File
	fd   int
	mu   sync.Mutex
	got  []byte

	closed chan struct{}
}

func openConsole(t *testing.T) *console {
	t.Helper()
	// Not blocking, so that closing it ends a read: one that stays would take keys
	// away from whoever reads next.
	fd, err := unix.Open("/dev/tty1", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := makeRaw(fd); err != nil {
		t.Fatal(err)
	}
	// What tests before this one typed is still in its queue.
	if err := unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "/dev/tty1")
	c := &console{file: f, fd: fd, closed: make(chan struct{})}
	t.Cleanup(c.close)
	go func() {
		defer close(c.closed)
		b := make([]byte, 4096)
		for {
			n, err := f.Read(b)
			if err != nil {
				return
			}
			c.mu.Lock()
			c.got = append(c.got, b[:n]...)
			c.mu.Unlock()
		}
	}()
	return c
}

// close stops reading, so that what is typed from now on is for somebody else.
func (c *console) close() {
	_ = c.file.Close()
	<-c.closed
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.got)
}

func (c *console) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = nil
}

// Numbers of a console keymap (include/uapi/linux/kd.h and keyboard.h).
const (
	kdSetKey    = 0x4B47 // KDSKBENT
	noSuchMap   = 0x027f // K_NOSUCHMAP: removes a table
	tables      = 256
	keysInTable = 128 // in the binary form of a keymap
)

// loadKeymap loads the binary form of a keymap: a word, a byte for each table that
// says whether it is there, and those that are, of 128 keys of two bytes.
func loadKeymap(t *testing.T, c *console, data []byte) {
	t.Helper()
	const magic = "bkeymap"
	if !bytes.HasPrefix(data, []byte(magic)) || len(data) < len(magic)+tables {
		t.Fatal("no binary keymap")
	}
	there, keys := data[len(magic):len(magic)+tables], data[len(magic)+tables:]
	set := func(table, index int, value uint16) {
		entry := uint32(table) | uint32(index)<<8 | uint32(value)<<16
		if err := unix.IoctlSetPointerInt(c.fd, kdSetKey, int(int32(entry))); err != nil {
			t.Fatalf("setting key %d of table %d: %v", index, table, err)
		}
	}
	for table := range tables {
		if there[table] == 0 {
			if table > 0 {
				set(table, 0, noSuchMap)
			}
			continue
		}
		for i := range keysInTable {
			set(table, i, binary.LittleEndian.Uint16(keys[2*i:]))
		}
		keys = keys[2*keysInTable:]
	}
}

// TestLayouts types every printable ASCII character on every layout that can, on
// a console that has the keymap of that name. Those of which hid is sure arrive;
// those of which it is not do not.
func TestLayouts(t *testing.T) {
	kb, _ := plug(t, hid.Options{})
	c := openConsole(t)
	for _, l := range hid.Layouts() {
		data, err := os.ReadFile("/etc/keymaps/" + l.Short())
		if err != nil {
			t.Error(err)
			continue
		}
		loadKeymap(t, c, data)
		if _, err := c.file.WriteString("\x1bc"); err != nil { // a lock of the layout before is not for this one
			t.Fatal(err)
		}
		var sure, unsure []string
		for r := rune(' '); r <= '~'; r++ {
			s := string(r)
			if _, err := l.Chords(s); err != nil {
				continue
			}
			if strings.ContainsRune("`'^~\",", r) {
				// Dead keys of the console give these. A letter shows whether one is open.
				if _, err := l.Chords("a"); err == nil {
					s += "a"
				}
			}
			if len(l.Unsure(s)) > 0 {
				unsure = append(unsure, s)
			} else {
				sure = append(sure, s)
			}
		}
		all := strings.Join(sure, "")
		if all == "" || typeLine(t, kb, c, l, all) != all {
			for _, s := range sure {
				if got := typeLine(t, kb, c, l, s); got != s {
					chords, _ := l.Chords(s)
					t.Errorf("%s: %q, typed as %v, arrives as %q", l.Short(), s, chords, got)
				}
			}
		}
		_, err = l.Chords("a")
		latin := err == nil // other alphabets have a lock, and what arrives depends on it
		for _, s := range unsure {
			if typeLine(t, kb, c, l, s) == s && latin {
				t.Errorf("%s: %q arrives, and hid is not sure of it", l.Short(), s)
			}
		}
	}
}

// typeLine types a text and Enter, and returns what arrives before the Enter.
func typeLine(t *testing.T, kb *hid.Keyboard, c *console, l *hid.Layout, text string) string {
	t.Helper()
	chords, err := l.Chords(text)
	if err != nil {
		t.Fatal(err)
	}
	c.forget()
	if _, err := kb.Type(t.Context(), append(chords, hid.Chord{Key: hid.KeyEnter}), hid.Pace{}); err != nil {
		t.Fatal(err)
	}
	for wait := time.Now(); !strings.HasSuffix(c.text(), "\r"); time.Sleep(2 * time.Millisecond) {
		if time.Since(wait) > patience {
			t.Fatalf("layout %s: no Enter arrives after %q", l.Short(), c.text())
		}
	}
	return strings.TrimSuffix(c.text(), "\r")
}
