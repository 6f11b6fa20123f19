package hid

import "testing"

func TestRune(t *testing.T) {
	for _, c := range []struct {
		layout string
		chord  Chord
		want   rune
	}{
		{"us", Chord{Key: KeyA}, 'a'},
		{"us", Chord{Mods: RightShift, Key: KeyA}, 'A'},
		{"us", Chord{Mods: Shift | RightShift, Key: KeyA}, 'A'},
		{"us", Chord{Mods: AltGr, Key: KeyA}, 0},
		{"us", Chord{Mods: Alt, Key: KeyA}, 0},
		{"us", Chord{Key: KeyF2}, 0},
		{"us", Chord{Key: KeyA, Mods: Shift, Keep: true}, 'A'},
		{"de", Chord{Key: KeyZ}, 'y'},
		{"de", Chord{Mods: AltGr, Key: KeyA + 'q' - 'a'}, '@'},
		{"de", Chord{Key: 0x35}, 0x302},
		{"de", Chord{Key: 0x32}, '#'},
		{"de", Chord{Key: 0x31}, '#'},
		{"fr", Chord{Key: KeyA}, 'q'},
	} {
		if got := layout(t, c.layout).Rune(c.chord); got != c.want {
			t.Errorf("%s on %s: %q, want %q", c.chord, c.layout, got, c.want)
		}
	}
}

func TestCompose(t *testing.T) {
	if r, ok := Compose(0x302, 'e'); r != 'ê' || !ok || !Dead(0x302) || Dead('e') {
		t.Errorf("an accent on e is %q, %v", r, ok)
	}
	if r, ok := Compose(0x302, 'q'); ok {
		t.Errorf("an accent on q is %q", r)
	}
}
