// Package usbwatch plays the host at the other end of a gadget's cable: it takes
// the keyboard away from this machine's own driver, so that nothing is typed into
// the desktop, and hands over the reports that come.
//
// It fails with ErrNotBuilt in a program that was built without the tag usb, with
// ErrNotAllowed where the device belongs to somebody else, and otherwise with
// what libusb refused.
package usbwatch

import (
	"errors"
	"time"

	"github.com/labctl/labctl/hid"
)

// ErrNotBuilt: the program holds no libusb, as gousb needs cgo, which a static
// binary for the Pi does without.
var ErrNotBuilt = errors.New("this program was built without libusb")

// ErrNotAllowed: the user may not open the device.
var ErrNotAllowed = errors.New("this user may not open the USB device")

// Options say how long to watch. The zero Options watch until the context ends.
type Options struct {
	// Lint ends the watch with the first keyboard's EventFound, before anything is
	// read from it.
	Lint bool
	// Once ends it when the first keyboard is gone.
	Once bool
}

// Kind is what an Event tells.
type Kind int

// The kinds of events, in the order in which they come from one keyboard.
const (
	EventFound  Kind = iota + 1 // and claimed: Device and Findings
	EventReady                  // the sign of hid.WatcherSign has been given
	EventReport                 // Report
	EventOdd                    // a transfer that is no report of the boot protocol: Length
	EventGone                   // Err, unless it was unplugged
)

// Event is one thing that happened on the cable.
type Event struct {
	Kind     Kind
	At       time.Time // when this program had it, some 0.1 ms after the wire at best
	Device   *Device
	Findings []Finding
	Report   hid.Report
	Length   int // bytes
	Err      error
}
