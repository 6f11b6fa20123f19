package dcui

import "github.com/labctl/labctl/hid"

// Receiver is the host's end of a keyboard: it tells from reports which chords
// the console sees. The zero Receiver starts with every key up. A key counts
// when it goes down, but for a number typed on the keypad under Alt, of which
// only the next key or the release of Alt tells whether it has another digit.
type Receiver struct {
	keys hid.Decoder
	mods hid.Mods
	code hid.Chord // a digit under Alt that waits for what follows
}

// Take gives the chords that one more report completes.
func (r *Receiver) Take(report hid.Report) []hid.Chord {
	var out []hid.Chord
	end := func(keep bool) {
		if r.code.Key != 0 {
			r.code.Keep = keep
			out = append(out, r.code)
			r.code = hid.Chord{}
		}
	}
	for _, e := range r.keys.Decode(report) {
		if e.Key >= firstModifier {
			r.mods &^= 1 << (e.Key - firstModifier)
			if e.Down {
				r.mods |= 1 << (e.Key - firstModifier)
			}
			if r.mods != hid.Alt {
				end(false)
			}
			continue
		}
		if !e.Down {
			continue
		}
		end(true)
		c := hid.Chord{Mods: r.mods, Key: e.Key}
		if _, digit := padDigit(e.Key); digit && r.mods == hid.Alt {
			r.code = c
			continue
		}
		out = append(out, c)
	}
	return out
}

const firstModifier hid.Usage = 0xe0
