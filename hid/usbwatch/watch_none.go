//go:build !usb || !cgo

package usbwatch

import "context"

// Built says whether the program holds libusb.
const Built = false

// Watch needs a program that was built with cgo and the tag usb.
func Watch(context.Context, Options, func(Event)) error { return ErrNotBuilt }
