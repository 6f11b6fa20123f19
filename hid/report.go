package hid

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// Report is an input report of the boot protocol: a byte of modifiers, a
// reserved byte, and the usages of up to six keys that are down (HID 1.11,
// appendix B.1). The zero Report is the release of everything.
type Report [8]byte

// String returns the report as 16 hexadecimal digits.
func (r Report) String() string { return hex.EncodeToString(r[:]) }

// ParseReport reads what String wrote.
func ParseReport(s string) (Report, error) {
	var r Report
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(r) {
		// What was read stays out of the message: it may be a key of a password.
		return r, fmt.Errorf("reading a report of %d characters: want %d hexadecimal digits", len(s), 2*len(r))
	}
	return Report(b), nil
}

// Mods returns the modifiers that are down.
func (r Report) Mods() Mods { return Mods(r[0]) }

// Keys returns the usages of the keys that are down, without the modifiers,
// which have no place among the six even if a host's table would take them.
func (r Report) Keys() []Usage {
	var keys []Usage
	for _, b := range r[2:] {
		if u := Usage(b); u >= firstKey && u < firstModifier && !slices.Contains(keys, u) {
			keys = append(keys, u)
		}
	}
	return keys
}

// rollover is what a keyboard puts in every place when more keys are down than
// it can tell (HID 1.11, appendix C).
const rollover = 1

// Reports returns what a keyboard sends for chords tapped one after the other.
// A key is released before the next one is pressed. Modifiers go down in a
// report of their own before their key and come up in one after it, because
// hosts were seen to miss a modifier that changed together with the key: a plain
// key takes two reports, a key with modifiers four. A chord's Keep counts only
// where the next chord has the same modifiers, and the last report always
// releases everything. The zero Chord sends nothing.
func Reports(chords []Chord) []Report {
	var out []Report
	var held Mods
	for i, c := range chords {
		if c.Mods == 0 && c.Key == 0 {
			continue
		}
		mods := Report{byte(c.Mods)}
		if c.Mods != held {
			out = append(out, mods)
		}
		held = c.Mods
		if c.Key != 0 {
			press := mods
			press[2] = byte(c.Key)
			out = append(out, press, mods)
		}
		if c.Mods != 0 && !(c.Keep && i+1 < len(chords) && chords[i+1].Mods == c.Mods) {
			out = append(out, Report{})
			held = 0
		}
	}
	return out
}

// Event is a key that went down or came up.
type Event struct {
	Key  Usage // modifiers are the usages 0xe0 to 0xe7
	Down bool
}

// Decoder tells from successive reports which keys went down and came up. The
// zero Decoder starts with every key up.
type Decoder struct{ last Report }

// Decode returns what changed since the report before: modifiers down, keys up,
// keys down, modifiers up, the order in which a keyboard driver has to look at
// them for a chord to be one. A report of a roll-over says nothing about keys,
// so only its modifiers count.
func (d *Decoder) Decode(r Report) []Event {
	before, after := d.last, r
	if slices.Contains(r[2:], rollover) {
		copy(after[2:], before[2:])
	}
	d.last = after
	var out []Event
	mods := func(changed Mods, down bool) {
		for bit := range 8 {
			if changed&(1<<bit) != 0 {
				out = append(out, Event{firstModifier + Usage(bit), down})
			}
		}
	}
	mods(after.Mods()&^before.Mods(), true)
	for _, u := range before.Keys() {
		if !slices.Contains(after.Keys(), u) {
			out = append(out, Event{u, false})
		}
	}
	for _, u := range after.Keys() {
		if !slices.Contains(before.Keys(), u) {
			out = append(out, Event{u, true})
		}
	}
	mods(before.Mods()&^after.Mods(), false)
	return out
}

// DecodeChords is the inverse of Reports. It fails on a stream in which two keys
// are down at once, modifiers change under a key, or something stays down.
func DecodeChords(reports []Report) ([]Chord, error) {
	var out []Chord
	var last Report
	used := true // the modifiers that are down have been part of a chord
	for i, r := range reports {
		fail := func(why string) error { return fmt.Errorf("decoding report %d of %d: %s", i+1, len(reports), why) }
		keys, before := r.Keys(), last.Keys()
		switch {
		case slices.Contains(r[2:], rollover):
			return nil, fail("the keyboard lost track of its keys")
		case len(keys) > 1:
			return nil, fail("several keys are down")
		case len(keys)+len(before) > 0 && r.Mods() != last.Mods():
			return nil, fail("modifiers change together with a key")
		case len(keys) == 1 && len(before) == 1 && keys[0] != before[0]:
			return nil, fail("a key is pressed before the last one is released")
		case len(keys) == 1 && len(before) == 0:
			if n := len(out) - 1; r.Mods() != 0 && used {
				out[n].Keep = true
			}
			out = append(out, Chord{Mods: r.Mods(), Key: keys[0]})
			used = true
		case r.Mods() != last.Mods():
			if !used && last.Mods()&^r.Mods() != 0 {
				out = append(out, Chord{Mods: last.Mods()})
				used = true
			}
			if r.Mods()&^last.Mods() != 0 {
				used = false
			}
		}
		last = r
	}
	if last.Mods() != 0 || len(last.Keys()) > 0 {
		return nil, errors.New("decoding reports: something is still down at the end")
	}
	return out, nil
}
