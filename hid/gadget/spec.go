// Package gadget makes the kernel show a USB keyboard to the host at the other
// end of the cable, through configfs.
//
// It fails with ErrNoConfigFS where the kernel offers no gadgets, with a
// *UDCError where there is not exactly one port to use, and otherwise with the
// step that the kernel refused; what was made before that step is taken down
// again.
package gadget

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// configFS is where gadgets are made, in the file system mounted at mountPoint,
// and udcClass where the kernel lists the ports that can play device.
const (
	mountPoint = "/sys/kernel/config"
	configFS   = mountPoint + "/usb_gadget"
	udcClass   = "/sys/class/udc"
)

// Parts of a gadget, below its folder. The keyboard is its only function: some
// firmware accepts no keyboard beside something else.
const (
	english  = "strings/0x409" // USB's number for US English
	config   = "configs/c.1"
	function = "functions/hid.usb0"
	link     = config + "/hid.usb0"
)

// DefaultName is the folder of a gadget without a name.
const DefaultName = "labctl"

// Spec is a keyboard as a host will see it. The zero Spec works.
type Spec struct {
	Name         string // folder in configfs, and the name for Down and the rest
	Manufacturer string
	Product      string
	Serial       string
	VendorID     uint16 // 0 and ProductID 0: 1d6b:0104, a Linux gadget
	ProductID    uint16
	// Version is the device's release as binary coded decimals. Hosts remember
	// descriptors by it, so a change of them needs another one. 0 means 1.00.
	Version uint16
	// FullSpeed keeps the keyboard at 12 Mbit/s, for hosts that know keyboards
	// only so.
	FullSpeed bool
	// Interval is bInterval, the host's time between two looks, as USB codes it
	// for the speed in use. 0 leaves it to the kernel: 1 ms at high speed and
	// 10 ms at full speed. Kernels before 6.16 have no such setting.
	Interval uint8
	// MaxPower is what the device may draw from the bus, in mA. 0 means 100,
	// which every port gives.
	MaxPower int
	// Group is the number of the group that may bind the gadget, and unbind it, as
	// root may. 0 changes nothing: at first that is root alone.
	Group int
}

func (s Spec) name() string { return or(s.Name, DefaultName) }

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// reportDescriptor describes the boot keyboard's report (HID 1.11, appendix B.1)
// for hosts that read descriptors. Usages go up to 0xff: Japan's keys are beyond
// the 0x65 of the specification's example.
var reportDescriptor = []byte{
	0x05, 0x01, // usage page: generic desktop
	0x09, 0x06, // usage: keyboard
	0xa1, 0x01, // collection: application
	0x05, 0x07, //   usage page: keys
	0x19, 0xe0, 0x29, 0xe7, //   usages: the modifiers
	0x15, 0x00, 0x25, 0x01, //   from 0 to 1
	0x75, 0x01, 0x95, 0x08, //   8 fields of 1 bit
	0x81, 0x02, //   input: data, variable, absolute
	0x75, 0x08, 0x95, 0x01, //   1 field of 8 bits
	0x81, 0x01, //   input: constant
	0x05, 0x08, //   usage page: lights
	0x19, 0x01, 0x29, 0x05, //   usages: Num Lock to Kana
	0x75, 0x01, 0x95, 0x05, //   5 fields of 1 bit
	0x91, 0x02, //   output: data, variable, absolute
	0x75, 0x03, 0x95, 0x01, //   1 field of 3 bits
	0x91, 0x01, //   output: constant
	0x05, 0x07, //   usage page: keys
	0x19, 0x00, 0x29, 0xff, //   usages: all
	0x15, 0x00, 0x26, 0xff, 0x00, //   from 0 to 255
	0x75, 0x08, 0x95, 0x06, //   6 fields of 8 bits
	0x81, 0x00, //   input: data, array
	0xc0, // end of collection
}

type attribute struct {
	path, value string
	optional    bool // kernels without it do well enough
}

func (s Spec) attributes() []attribute {
	hex16 := func(v, otherwise uint16) string { return fmt.Sprintf("0x%04x", or(v, otherwise)) }
	vendor, product := s.VendorID, s.ProductID
	if vendor == 0 && product == 0 {
		vendor, product = 0x1d6b, 0x0104
	}
	speed := "high-speed"
	if s.FullSpeed {
		speed = "full-speed"
	}
	all := []attribute{
		{path: "idVendor", value: hex16(vendor, 0)},
		{path: "idProduct", value: hex16(product, 0)},
		{path: "bcdDevice", value: hex16(s.Version, 0x0100)},
		{path: "bcdUSB", value: "0x0200"},
		{path: "max_speed", value: speed, optional: true},
		{path: english + "/manufacturer", value: or(s.Manufacturer, "labctl")},
		{path: english + "/product", value: or(s.Product, "Keyboard")},
		{path: english + "/serialnumber", value: or(s.Serial, "1")},
		{path: config + "/MaxPower", value: strconv.Itoa(or(s.MaxPower, 100))},
		{path: config + "/bmAttributes", value: "0x80"}, // bus-powered, no remote wake-up
		{path: config + "/" + english + "/configuration", value: "Keyboard"},
		{path: function + "/protocol", value: "1"}, // keyboard
		{path: function + "/subclass", value: "1"}, // boot interface: firmware looks for it
		{path: function + "/report_length", value: "8"},
		{path: function + "/report_desc", value: string(reportDescriptor)},
		// Lights then come by the control endpoint; some firmware chokes on a
		// second interrupt endpoint.
		{path: function + "/no_out_endpoint", value: "1", optional: true},
	}
	if s.Interval != 0 {
		all = append(all, attribute{path: function + "/interval", value: strconv.Itoa(int(s.Interval)), optional: true})
	}
	return all
}

// Op is what a Step does.
type Op int

// The operations that configfs knows, and the two that make it appear.
const (
	Mkdir Op = iota + 1
	Write
	Symlink // from Path to Data
	Remove  // a symlink
	Rmdir   // with the attributes that the kernel put there
	Load    // the kernel module named by Data
	Mount   // configfs, at Path
	Chgrp   // to the group of the number in Data
	Chmod   // to the octal mode in Data
)

func (o Op) String() string {
	if o < Mkdir || o > Chmod {
		return fmt.Sprintf("Op(%d)", int(o))
	}
	return [...]string{Mkdir: "mkdir", Write: "write", Symlink: "symlink", Remove: "rm", Rmdir: "rmdir", Load: "modprobe", Mount: "mount -t configfs none", Chgrp: "chgrp", Chmod: "chmod"}[o]
}

// Step is one operation on configfs, or on what it needs.
type Step struct {
	Op       Op
	Path     string // absolute
	Data     string // what is written, or what a symlink points to
	Optional bool   // left out where the kernel has no such attribute
	gone     bool   // ENODEV means that it was so already
}

// String returns the step as a line to read.
func (s Step) String() string {
	var line string
	switch s.Op {
	case Write:
		data := strings.TrimSuffix(s.Data, "\n")
		if strings.ContainsFunc(data, func(r rune) bool { return r < ' ' || r > '~' }) {
			data = "hex " + hex.EncodeToString([]byte(s.Data))
		} else {
			data = strconv.Quote(data)
		}
		line = fmt.Sprintf("write %s %s", s.Path, data)
	case Symlink:
		line = fmt.Sprintf("symlink %s -> %s", s.Path, s.Data)
	case Load:
		line = fmt.Sprintf("%s %s", s.Op, s.Data)
	case Chgrp, Chmod:
		line = fmt.Sprintf("%s %s %s", s.Op, s.Data, s.Path)
	default:
		line = fmt.Sprintf("%s %s", s.Op, s.Path)
	}
	if s.Optional {
		line += " (if the kernel has it)"
	}
	return line
}

// Plan returns the steps from what is there to this keyboard, complete and not
// bound to any port. There are none where it is there already; a gadget of the
// same name that differs is taken down first, as the kernel fixes most settings
// once a function is linked. An Interval that was set cannot be told from the
// kernel's own and stays until Down.
func (s Spec) Plan(now Status) []Step {
	if s.matches(now) {
		return append(unbindSteps(s.name(), now), s.grant(now)...)
	}
	steps := Teardown(now)
	base := path.Join(configFS, s.name())
	made := map[string]bool{}
	mkdir := func(rel string) {
		if !made[rel] {
			made[rel] = true
			steps = append(steps, Step{Op: Mkdir, Path: path.Join(base, rel)})
		}
	}
	mkdir("")
	for _, a := range s.attributes() {
		for _, dir := range folders {
			if dir == path.Dir(a.path) || dir != "" && strings.HasPrefix(a.path, dir+"/") {
				mkdir(dir)
			}
		}
		steps = append(steps, Step{Op: Write, Path: path.Join(base, a.path), Data: a.value, Optional: a.optional})
	}
	steps = append(steps, Step{Op: Symlink, Path: path.Join(base, link), Data: path.Join(base, function)})
	return append(steps, s.grant(Status{})...)
}

// grant returns the steps that let the group bind.
func (s Spec) grant(now Status) []Step {
	if s.Group == 0 || now.Group == s.Group {
		return nil
	}
	udc := path.Join(configFS, s.name(), "UDC")
	return []Step{{Op: Chgrp, Path: udc, Data: strconv.Itoa(s.Group)}, {Op: Chmod, Path: udc, Data: "0664"}}
}

// folders are those that Plan makes besides the gadget's own.
var folders = []string{english, config, config + "/" + english, function}

func (s Spec) matches(now Status) bool {
	if !now.Present || !slices.Equal(now.links, []string{link}) {
		return false
	}
	if !slices.Equal(sorted(now.folders), sorted(folders)) {
		return false
	}
	for _, a := range s.attributes() {
		have, ok := now.attributes[a.path]
		if !ok && a.optional {
			continue
		}
		if !ok || !sameValue(have, a.value) {
			return false
		}
	}
	return true
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

// sameValue compares what the kernel shows with what was written: it ends lines
// and writes numbers in its own way.
func sameValue(have, want string) bool {
	if have == want || bytes.Equal([]byte(strings.TrimSuffix(have, "\n")), []byte(want)) {
		return true
	}
	a, errA := strconv.ParseUint(strings.TrimSpace(have), 0, 64)
	b, errB := strconv.ParseUint(want, 0, 64)
	return errA == nil && errB == nil && a == b
}

// Teardown returns the steps that remove a gadget, whatever is in it, in the one
// order that configfs allows: unbind, unlink functions, then every folder after
// what it holds.
func Teardown(now Status) []Step {
	if !now.Present {
		return nil
	}
	base := path.Join(configFS, now.Name)
	steps := unbindSteps(now.Name, now)
	for _, l := range now.links {
		steps = append(steps, Step{Op: Remove, Path: path.Join(base, l)})
	}
	// Reading went from the outside in.
	for _, f := range slices.Backward(now.folders) {
		steps = append(steps, Step{Op: Rmdir, Path: path.Join(base, f)})
	}
	return append(steps, Step{Op: Rmdir, Path: base})
}

func unbindSteps(name string, now Status) []Step {
	if now.UDC == "" {
		return nil
	}
	return []Step{{Op: Write, Path: path.Join(configFS, name, "UDC"), Data: "\n", gone: true}}
}
