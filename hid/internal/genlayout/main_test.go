package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/labctl/labctl/internal/skipped"
)

// The checked-in tables are what the generator makes of the data they name.
func TestTablesAreCurrent(t *testing.T) {
	const share, keysymdef = "/usr/share", "/usr/include/X11/keysymdef.h"
	have, err := os.ReadFile("../../layouts_gen.go")
	if err != nil {
		t.Fatal(err)
	}
	syms, err := os.ReadFile(keysymdef)
	if err != nil {
		skipped.Test(t, "the layout tables need x11proto-dev to be made again: %v", err)
	}
	v, err := version(os.DirFS(share))
	if err != nil {
		skipped.Test(t, "the layout tables need xkb-data to be made again: %v", err)
	}
	if head, _, _ := bytes.Cut(have, []byte("\n")); !bytes.Contains(head, []byte(" "+v+";")) {
		skipped.Test(t, "the layout tables are of another version of xkb-data than %s: %s", v, head)
	}
	want, err := generate(os.DirFS(share), syms)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("layouts_gen.go is not what genlayout writes: run go generate in hid")
	}
}

func TestMerging(t *testing.T) {
	xkb := fstest.MapFS{
		"symbols/base": {Data: []byte(`
			hidden partial xkb_symbols "other" { key <AE01> { [ x, X ] }; };
			default xkb_symbols "basic" { // a comment with "quotes"
				name[Group1] = "Base";
				key <AE01> { [ 1, exclam, onesuperior, exclamdown ] };
				key <AE02> { type[Group1] = "TWO_LEVEL", symbols[Group1] = [ 2, at, at, at ], actions[Group1] = [ NoAction() ] };
				modifier_map Mod5 { <AE01> };
			};`)},
		"symbols/top": {Data: []byte(`xkb_symbols "one" {
				include "base"
				key <AE01> { [ ampersand, NoSymbol, any ], [ a, A ] };
				augment key <AE02> { [ z, Z ] };
				key <AE03> { [ c ] };
				replace key <AE03> { [ NoSymbol, C ] };
				include "base(other)|base(basic)"
			};`)},
	}
	for _, c := range []struct {
		spec, key string
		want      key
	}{
		{"base", "AE01", key{syms: levels{"1", "exclam", "onesuperior", "exclamdown"}}},
		{"base", "AE02", key{syms: levels{"2", "at", "at", "at"}, kind: "TWO_LEVEL"}},
		{"top", "AE01", key{syms: levels{"x", "X", "onesuperior", "exclamdown"}}},
		{"top", "AE02", key{syms: levels{"2", "at", "at", "at"}, kind: "TWO_LEVEL"}},
		{"top", "AE03", key{syms: levels{"", "C"}}},
		{"base(other)+top(one)", "AE03", key{syms: levels{"", "C"}}},
	} {
		m, err := newSource(xkb).merged(c.spec)
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
		} else if m[c.key] != c.want {
			t.Errorf("%s, key %s: got %v, want %v", c.spec, c.key, m[c.key], c.want)
		}
	}
}

// What the generator cannot read must stop it, never end as an empty place.
func TestUnreadable(t *testing.T) {
	for text, want := range map[string]string{
		`xkb_symbols "a" { key <AE01> { [ 1 ] }; `:                 "missing }",
		`default xkb_symbols "a" { key <AE01> { [ 1 `:              "missing ]",
		`xkb_symbols "a" { key AE01 { [ 1 ] }; };`:                 "name expected",
		`xkb_symbols "a" { key <AE01> { [ { a, b } ] }; };`:        "several symbols",
		`xkb_symbols "a" { key <AE01> { symbols[Group2]=[a] }; };`: "Group2",
		`xkb_symbols "a" { include "bad" };`:                       "include one another",
		`xkb_symbols "a" { include "none" };`:                      "none",
		`xkb_symbols "a" { override "b" };`:                        "not understood",
		`nothing here`:                                             "no section",
	} {
		_, err := newSource(fstest.MapFS{"symbols/bad": {Data: []byte(text)}}).merged("bad")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", text, err, want)
		}
	}
	m := keymap{"AE01": {syms: levels{"no_such_symbol"}}}
	if _, err := table(m, map[string]rune{}); err == nil {
		t.Error("an unknown symbol made a table")
	}
}

func TestCharacters(t *testing.T) {
	runes := keysymRunes([]byte(`
#define XK_exclam                        0x0021  /* U+0021 EXCLAMATION MARK */
#define XK_old                           0x0021  /* deprecated */
#define XK_dead_grave                    0xfe50
#define XK_horizconnector                0x08a3  /*(U+2500 BOX DRAWINGS LIGHT HORIZONTAL)*/
`))
	for sym, want := range map[string]rune{"exclam": '!', "old": '!', "dead_grave": 0x300, "horizconnector": '─',
		"7": '7', "q": 'q', "U20AC": '€', "0x1002030": '‰', "dead_hook": none, "VoidSymbol": none, "U0300": none, "U00A0": none} {
		if got, err := char(sym, runes); err != nil || got != want {
			t.Errorf("%s: got %U, %v; want %U", sym, got, err, want)
		}
	}
}
