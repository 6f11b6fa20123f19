// Package hid turns text and key names into the reports of a USB boot keyboard
// and hands them to a host, one by one, with proof that each arrived.
//
// It fails early and by name: a character that a layout cannot type is an
// [*UnmappedError] before the first report exists, a key name that is no key is
// a [*NotationError], and a report that the host did not take is a
// [*DeliveryError] that says whether the key may still land.
//
// Numbers of keys, modifiers and lights come from the HID Usage Tables 1.12,
// pages 7 and 8, and the report from the HID specification 1.11, appendix B.1.
package hid

//go:generate go run ./internal/genlayout -o layouts_gen.go -second testdata/libxkbcommon.txt
