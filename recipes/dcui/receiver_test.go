package dcui

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/labctl/labctl/hid"
)

func received(r *Receiver, chords []hid.Chord) (got []hid.Chord) {
	for _, report := range hid.Reports(chords) {
		got = append(got, r.Take(report)...)
	}
	return got
}

// What is tapped is what the console sees, digits under Alt as one number.
func TestReceiver(t *testing.T) {
	altF2 := hid.Chord{Mods: hid.Alt, Key: hid.KeyF2}
	code := on(t, "ru", "n")
	for _, chords := range [][]hid.Chord{
		{F2, Tab, {Mods: hid.Shift, Key: hid.KeyA}, {Mods: hid.Shift, Key: hid.KeyA}, altF2},
		code, slices.Concat(code, code, []hid.Chord{Esc}), {code[0], altF2},
		{{Mods: hid.Alt, Key: hid.KeyKP0}, {Mods: hid.Alt, Key: hid.KeyKP0}},
	} {
		var r Receiver
		if got := received(&r, chords); !slices.Equal(got, chords) {
			t.Errorf("%v arrive as %v", chords, got)
		}
	}
	var r Receiver
	if got := received(&r, []hid.Chord{{Mods: hid.GUI}, F2}); !slices.Equal(got, []hid.Chord{F2}) {
		t.Errorf("a modifier alone arrives as %v", got)
	}
}

// A world that receives reports ends where the world ends that was pressed.
func TestReceiverLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chords := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) hid.Chord {
			if rapid.Bool().Draw(t, "busy") {
				return rapid.SampledFrom(busy).Draw(t, "key")
			}
			c := anyChord(t)
			if c.Key < hid.KeyA || c.Key >= firstModifier {
				c.Key = hid.KeyA
			}
			return c
		}), 0, 30).Draw(t, "chords")
		for i := range chords {
			// As a keyboard does: what is kept down is what the next chord has too.
			chords[i].Keep = chords[i].Keep && chords[i].Mods != 0 && i+1 < len(chords) && chords[i+1].Mods == chords[i].Mods
		}
		w, err := NewWorld(anyFacts(t, true))
		if err != nil {
			t.Fatal(err)
		}
		pressed, typed := w, w
		for _, k := range chords {
			pressed = pressed.Press(k)
		}
		var r Receiver
		for _, k := range received(&r, chords) {
			typed = typed.Press(k)
		}
		if pressed != typed {
			t.Fatalf("%v end at %v, received at %v", chords, pressed, typed)
		}
	})
}
