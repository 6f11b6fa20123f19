package usbwatch

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/labctl/labctl/hid"
)

// example is the report descriptor of a boot keyboard from HID 1.11, appendix
// B.1.
const example = "05010906a101050719e029e715002501750195088102950175088101" +
	"95057501050819012905910295017503910195067508150025650507190029658100c0"

func descriptor(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func good(t testing.TB) *Device {
	return &Device{
		MaxPower: 100, Interfaces: 1, Class: 3, SubClass: 1, Protocol: 1,
		Endpoints:  []Endpoint{{In: true, Interrupt: true, MaxPacket: 8, Interval: time.Millisecond}},
		Descriptor: descriptor(t, example),
	}
}

func TestLint(t *testing.T) {
	for _, f := range Lint(good(t)) {
		if !f.OK {
			t.Errorf("a boot keyboard as in the specification: %+v", f)
		}
	}
	refused := errors.New("stalled")
	for check, spoil := range map[string]func(*Device){
		"boot keyboard":     func(d *Device) { d.SubClass = 0 },
		"one interface":     func(d *Device) { d.Interfaces = 2 },
		"one endpoint":      func(d *Device) { d.Endpoints = append(d.Endpoints, Endpoint{Interrupt: true}) },
		"packet of 8 bytes": func(d *Device) { d.Endpoints[0].MaxPacket = 64 },
		"interval":          func(d *Device) { d.Endpoints[0].Interval = 32 * time.Millisecond },
		"power":             func(d *Device) { d.MaxPower = 500 },
		"boot protocol":     func(d *Device) { d.BootErr = refused },
		"idle rate":         func(d *Device) { d.IdleErr = refused },
		"report descriptor": func(d *Device) { d.Descriptor = d.Descriptor[:len(d.Descriptor)-4] },
	} {
		d := good(t)
		spoil(d)
		var bad []string
		for _, f := range Lint(d) {
			if !f.OK {
				bad = append(bad, f.Check)
			}
			if f.Why == "" || f.Found == "" {
				t.Errorf("%s does not say what and why: %+v", f.Check, f)
			}
		}
		if !slices.Equal(bad, []string{check}) {
			t.Errorf("a spoilt %s is found as %q", check, bad)
		}
	}
	d := good(t)
	d.Descriptor, d.DescriptorErr = nil, refused
	if n := slices.IndexFunc(Lint(d), func(f Finding) bool { return f.Check == "report descriptor" && !f.OK }); n < 0 {
		t.Error("a descriptor that cannot be read passes")
	}
}

func TestParseDescriptor(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      shape
		fails     bool
	}{
		{name: "boot keyboard", hex: example, want: bootShape},
		{name: "with report numbers", hex: "05010906a1018501" + "750895088102c0", want: shape{keyboard: true, numbered: true, in: 64}},
		{name: "mouse", hex: "05010902a101750895038106c0", want: shape{in: 24}},
		{name: "cut in an item", hex: "050109", fails: true},
		{name: "long item", hex: "fe0200aabb", fails: true},
		{name: "a field of 2^32 bits", hex: "77ffffffff97ffffffff8102", fails: true},
	} {
		got, err := parseDescriptor(descriptor(t, c.hex))
		if (err != nil) != c.fails || err == nil && got != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func FuzzDescriptor(f *testing.F) {
	f.Add(descriptor(f, example))
	f.Add([]byte{0x77, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseDescriptor(b)
		if err == nil && (s.in < 0 || s.out < 0 || s.in > 1<<16 || s.out > 1<<16) {
			t.Errorf("%x: %+v", b, s)
		}
	})
}

func TestLocks(t *testing.T) {
	var s lockState
	press := func(u hid.Usage) bool { c := s.take(hid.Report{2: byte(u)}); s.take(hid.Report{}); return c }
	if !press(hid.KeyCapsLock) || s.on != hid.CapsLock {
		t.Errorf("after Caps Lock: %b", s.on)
	}
	if press(hid.KeyA) || s.take(hid.Report{}) {
		t.Error("a letter changes the locks")
	}
	press(hid.KeyNumLock)
	if press(hid.KeyCapsLock); s.on != hid.NumLock {
		t.Errorf("after Num Lock and Caps Lock again: %b", s.on)
	}
}
