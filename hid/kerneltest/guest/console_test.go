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

// TestLayouts types every printable ASCII character on every layout that can,
// and compares with what arrives at a console that has the keymap of that name.
// The characters that arrive as others are those of which hid is not sure, and no
// more.
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
		// A letter shows whether a dead key is still open, and Enter ends what came of
		// one character.
		end := []hid.Chord{{Key: hid.KeyEnter}}
		letter := ""
		if a, err := l.Chords("a"); err == nil {
			letter, end = "a", append(a, end...)
		}
		var typed []rune
		var chords []hid.Chord
		for r := rune(' '); r <= '~'; r++ {
			if one, err := l.Chords(string(r)); err == nil {
				typed, chords = append(typed, r), append(append(chords, one...), end...)
			}
		}
		c.forget()
		if _, err := kb.Type(t.Context(), chords, hid.Pace{}); err != nil {
			t.Fatal(err)
		}
		for wait := time.Now(); strings.Count(c.text(), "\r") < len(typed) && time.Since(wait) < 2*time.Second; {
			time.Sleep(5 * time.Millisecond)
		}
		got := strings.Split(c.text(), "\r")
		var wrong, unsure []rune
		for i, r := range typed {
			arrived := "nothing"
			if i < len(got) {
				arrived = got[i]
			}
			if arrived != string(r)+letter {
				wrong = append(wrong, r)
				one, _ := l.Chords(string(r))
				t.Logf("%s: %c, typed as %v, arrives as %q", l.Short(), r, one, arrived)
			}
		}
		for _, i := range l.Unsure(string(typed)) {
			unsure = append(unsure, typed[i])
		}
		if len(typed) == 0 || string(wrong) != string(unsure) {
			t.Errorf("layout %s: of %d characters these arrive as others: %q; hid is not sure of %q", l.Short(), len(typed), string(wrong), string(unsure))
		}
	}
	figure("layouts typed on a console with their keymap", float64(len(hid.Layouts())))
}
