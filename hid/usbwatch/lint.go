package usbwatch

import (
	"errors"
	"fmt"
	"time"
)

// Device is what a keyboard says of itself.
type Device struct {
	Bus          int
	Address      int
	Speed        string // low, full, high, super
	Vendor       uint16
	Product      uint16
	Release      string // bcdDevice, as in 1.00
	Manufacturer string
	Name         string
	MaxPower     int // mA
	Interfaces   int // in the configuration
	Interface    int // number of the keyboard's
	Class        uint8
	SubClass     uint8
	Protocol     uint8
	Endpoints    []Endpoint
	// Descriptor is the report descriptor; DescriptorErr says why there is none.
	Descriptor    []byte
	DescriptorErr error
	// What became of SET_PROTOCOL (boot) and SET_IDLE, the first two things that
	// firmware asks of a keyboard (HID 1.11, 7.2.6 and 7.2.4; appendix F.5).
	BootErr, IdleErr error
}

// Endpoint is one pipe of the keyboard's interface.
type Endpoint struct {
	In        bool
	Interrupt bool
	MaxPacket int           // bytes
	Interval  time.Duration // between two looks of the host
}

// Finding is one thing that a host, or the firmware of one, may mind.
type Finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Found string `json:"found"`
	Why   string `json:"why"`
}

// Values of descriptors (HID 1.11, 4.1 to 4.3).
const (
	classHID         = 3
	subClassBoot     = 1
	protocolKeyboard = 1
)

const (
	reportLength = 8                     // bytes, HID 1.11 appendix B.1
	slowest      = 10 * time.Millisecond // what kernels give a gadget at full speed
	unitLoad     = 100                   // mA, USB 2.0, 7.2.1: what a hub without a supply gives to a port
)

// Lint judges a keyboard by what firmware is known to stumble over.
func Lint(d *Device) []Finding {
	var out []Finding
	add := func(check string, ok bool, why, format string, args ...any) {
		out = append(out, Finding{Check: check, OK: ok, Found: fmt.Sprintf(format, args...), Why: why})
	}
	add("boot keyboard", d.Class == classHID && d.SubClass == subClassBoot && d.Protocol == protocolKeyboard,
		"firmware looks for class 3, subclass 1, protocol 1 and for nothing else",
		"class %d, subclass %d, protocol %d", d.Class, d.SubClass, d.Protocol)
	add("one interface", d.Interfaces == 1,
		"some firmware takes no keyboard that comes together with something else", "%d", d.Interfaces)

	var in *Endpoint
	for i := range d.Endpoints {
		if e := &d.Endpoints[i]; e.In && e.Interrupt {
			in = e
			break
		}
	}
	add("one endpoint", len(d.Endpoints) == 1 && in != nil,
		"lights come by the control endpoint then; some firmware chokes on a second interrupt endpoint", "%s", describe(d.Endpoints))
	if in != nil {
		add("packet of 8 bytes", in.MaxPacket == reportLength,
			"a report of the boot protocol is 8 bytes, and firmware reads no more", "%d bytes", in.MaxPacket)
		rate := 0
		if in.Interval > 0 {
			rate = int(time.Second / (2 * in.Interval))
		}
		add("interval", in.Interval > 0 && in.Interval <= slowest,
			"the host looks that often, and a plain key takes two looks", "%s (bInterval), at most %d keys a second", in.Interval, rate)
	}
	add("power", d.MaxPower > 0 && d.MaxPower <= unitLoad,
		"a hub without a supply of its own gives a port 100 mA", "%d mA", d.MaxPower)

	const why = "a host that reads descriptors understands the report only if it is described as it is sent"
	switch shape, err := parseDescriptor(d.Descriptor); {
	case d.DescriptorErr != nil:
		add("report descriptor", false, why, "not read: %v", d.DescriptorErr)
	case err != nil:
		add("report descriptor", false, why, "%v", err)
	default:
		add("report descriptor", shape == bootShape, why, "%s", shape)
	}
	answer := func(check, why string, err error) {
		if err != nil {
			add(check, false, why, "refused: %v", err)
		} else {
			add(check, true, why, "taken")
		}
	}
	answer("boot protocol", "firmware asks for it first, and some gives up where it is refused", d.BootErr)
	answer("idle rate", "a host asks for silence while nothing changes; some gives up where that is refused", d.IdleErr)
	return out
}

func describe(endpoints []Endpoint) string {
	in, out := 0, 0
	for _, e := range endpoints {
		if e.In {
			in++
		} else {
			out++
		}
	}
	return fmt.Sprintf("%d in, %d out", in, out)
}

// shape is what matters of a report descriptor.
type shape struct {
	keyboard bool // the first collection is a keyboard's
	numbered bool // reports begin with a number
	in, out  int  // bits of a report
}

// bootShape is that of the boot protocol's own example (HID 1.11, appendix B.1).
var bootShape = shape{keyboard: true, in: 8 * reportLength, out: 8}

func (s shape) String() string {
	kind, first := "a keyboard", ""
	if !s.keyboard {
		kind = "no keyboard"
	}
	if s.numbered {
		first = ", with report numbers"
	}
	return fmt.Sprintf("%s: %d bits in, %d bits out%s", kind, s.in, s.out, first)
}

// parseDescriptor reads the short items of a report descriptor (HID 1.11, 6.2.2).
func parseDescriptor(b []byte) (shape, error) {
	const (
		tagInput      = 0x80
		tagOutput     = 0x90
		tagCollection = 0xa0
		tagPage       = 0x04
		tagSize       = 0x74
		tagNumber     = 0x84
		tagCount      = 0x94
		tagUsage      = 0x08
		long          = 0xfe
	)
	const most = 1 << 16 // bits; no report of any device comes near
	var s shape
	var page, usage, size, count uint32
	first := true
	for i := 0; i < len(b); {
		tag := b[i] &^ 3
		n := int(b[i] & 3)
		if n == 3 {
			n = 4
		}
		if b[i] == long || i+1+n > len(b) {
			return s, fmt.Errorf("broken at byte %d", i)
		}
		var v uint32
		for k := n; k > 0; k-- {
			v = v<<8 | uint32(b[i+k])
		}
		i += 1 + n
		switch tag {
		case tagPage:
			page = v
		case tagUsage:
			usage = v
		case tagSize:
			size = v
		case tagCount:
			count = v
		case tagNumber:
			s.numbered = true
		case tagCollection:
			if first {
				s.keyboard = page == 1 && usage == 6 // generic desktop, keyboard
			}
			first = false
		case tagInput, tagOutput:
			if size > most || count > most || size*count > most {
				return s, errors.New("a field of impossible size")
			}
			if tag == tagInput {
				s.in = min(s.in+int(size*count), most)
			} else {
				s.out = min(s.out+int(size*count), most)
			}
		}
	}
	return s, nil
}
