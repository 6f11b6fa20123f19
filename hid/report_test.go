package hid

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func hexes(reports []Report) string {
	var w []string
	for _, r := range reports {
		w = append(w, r.String())
	}
	return strings.Join(w, " ")
}

func TestReports(t *testing.T) {
	const up = "0000000000000000"
	for keys, want := range map[string]string{
		"":      "",
		"F1":    "00003a0000000000 " + up,
		"A A":   "0000040000000000 " + up + " 0000040000000000 " + up,
		"SHIFT": "0200000000000000 " + up,
		// The modifier leads and lags its key.
		"SHIFT+A": "0200000000000000 0200040000000000 0200000000000000 " + up,
		"ALT+F2 ESC": "0400000000000000 04003b0000000000 0400000000000000 " + up +
			" 0000290000000000 " + up,
		// Nothing to keep Alt down for.
		"ALT+KP4+": "0400000000000000 04005c0000000000 0400000000000000 " + up,
		"ALT+KP4+ A": "0400000000000000 04005c0000000000 0400000000000000 " + up +
			" 0000040000000000 " + up,
	} {
		chords, err := ParseChords(keys)
		if err != nil {
			t.Fatal(err)
		}
		if got := hexes(Reports(chords)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", keys, got, want)
		}
	}
	if got := Reports([]Chord{{}}); len(got) != 0 {
		t.Errorf("the zero chord is typed as %s", hexes(got))
	}
}

// Laws of every stream: at most one key is down, it comes up before the next
// goes down, all is up at the end, and the chords can be read back.
func TestReportStreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chords := rapid.SliceOfN(genChord(), 0, 20).Draw(t, "chords")
		reports := Reports(chords)
		var d Decoder
		var last Report
		down := map[Usage]bool{}
		taps := 0
		for _, r := range reports {
			if len(r.Keys()) > 0 && len(last.Keys()) > 0 {
				t.Fatalf("two reports with a key in a row: %s", hexes(reports))
			}
			if r == last {
				t.Fatalf("a report that changes nothing: %s", hexes(reports))
			}
			last = r
			for _, e := range d.Decode(r) {
				if down[e.Key] == e.Down {
					t.Fatalf("%s goes where it is: %s", e.Key, hexes(reports))
				}
				down[e.Key] = e.Down
				if e.Down && e.Key < firstModifier {
					taps++
				}
			}
		}
		for key, isDown := range down {
			if isDown {
				t.Fatalf("%s stays down: %s", key, hexes(reports))
			}
		}
		want := 0
		for i := range chords { // Keep counts only before the same modifiers
			next := i + 1
			if next == len(chords) || chords[next].Mods != chords[i].Mods {
				chords[i].Keep = false
			}
			if chords[i].Key != 0 {
				want++
			}
		}
		if taps != want {
			t.Fatalf("%d keys pressed, want %d: %s", taps, want, hexes(reports))
		}
		for i := range chords { // modifiers alone melt into a kept chord before them
			if chords[i].Keep && chords[i+1].Key == 0 {
				return
			}
		}
		got, err := DecodeChords(reports)
		if err != nil || !slices.Equal(got, chords) {
			t.Fatalf("got %v, %v; want %v", got, err, chords)
		}
	})
}

func TestDecoder(t *testing.T) {
	var d Decoder
	for _, c := range []struct{ report, want string }{
		{"0000040000000000", "+A"},
		{"0000040500000000", "+B"},
		{"0000050000000000", "-A"},
		{"0200060000000000", "+SHIFT -B +C"},
		{"0200060600000000", ""},          // the same key twice
		{"0000010101010101", "-SHIFT"},    // roll-over: nothing is known of the keys
		{"0000000000000000", "-C"},        // and C was still down
		{"0200040000000000", "+SHIFT +A"}, // as a keyboard without a lead sends it
		{"0000000000000000", "-A -SHIFT"}, // the key first, so that it is a chord
		{"00ff040000000000", "+A"},        // the reserved byte says nothing
		{"0000000000000004", ""},          // moved to another place, still down
		{"0000000000000000", "-A"},
	} {
		r, err := ParseReport(c.report)
		if err != nil {
			t.Fatal(err)
		}
		var w []string
		for _, e := range d.Decode(r) {
			w = append(w, map[bool]string{true: "+", false: "-"}[e.Down]+e.Key.String())
		}
		if got := strings.Join(w, " "); got != c.want {
			t.Errorf("%s: got %s, want %s", c.report, got, c.want)
		}
	}
}

func TestDecodeChordsRefuses(t *testing.T) {
	for stream, why := range map[string]string{
		"0000040500000000 0000000000000000":                  "several keys",
		"0000040000000000 0000050000000000 0000000000000000": "before the last one is released",
		"0200040000000000 0000000000000000":                  "together with a key",
		"0000010101010101":                                   "lost track",
		"0000040000000000":                                   "still down",
		"0200000000000000":                                   "still down",
		"0000040000000000 0200040000000000 0200000000000000 0000000000000000": "together with a key",
	} {
		var reports []Report
		for w := range strings.FieldsSeq(stream) {
			r, err := ParseReport(w)
			if err != nil {
				t.Fatal(err)
			}
			reports = append(reports, r)
		}
		if got, err := DecodeChords(reports); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: got %v, %v; want an error with %q", stream, got, err, why)
		}
	}
}

func TestParseReportRefuses(t *testing.T) {
	for _, s := range []string{"", "00", "0000040000000000 ", "000004000000000g", "000004000000000000"} {
		if r, err := ParseReport(s); err == nil || s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%q: got %s, %v", s, r, err)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\x02\x00\x04\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Decoder
		var reports []Report
		down := map[Usage]bool{}
		for len(b) >= 8 {
			r := Report(b[:8])
			b = b[8:]
			reports = append(reports, r)
			for _, e := range d.Decode(r) {
				if down[e.Key] == e.Down {
					t.Fatalf("%s goes where it is: %s", e.Key, hexes(reports))
				}
				down[e.Key] = e.Down
			}
			if back, err := ParseReport(r.String()); err != nil || back != r {
				t.Fatalf("%s is read as %s, %v", r, back, err)
			}
			n := 0
			for _, isDown := range down {
				if isDown {
					n++
				}
			}
			if n > 14 {
				t.Fatalf("%d keys down at once, a report holds 8 modifiers and 6 keys: %x", n, binary.BigEndian.Uint64(r[:]))
			}
		}
		if chords, err := DecodeChords(reports); err == nil {
			if again, err := DecodeChords(Reports(chords)); err != nil || len(again) > len(chords) {
				t.Fatalf("%s is %v, which is typed as %v, %v", hexes(reports), chords, again, err)
			}
		}
	})
}
