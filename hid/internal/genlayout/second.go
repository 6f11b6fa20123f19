package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// secondHeader explains the file to its readers.
const secondHeader = `# What libxkbcommon %s says of XKB data %s: for each layout the symbol of each key
# under no modifier, Shift, AltGr, Shift+AltGr. One column per key, U+2400 for nothing,
# a combining character for a dead key.
`

var (
	compiledKey  = regexp.MustCompile(`(?s)key <(\w+)>\s*\{(.*?)\};`)
	compiledSyms = regexp.MustCompile(`(?s)\[([^]]*)\]\s*(?:,\s*|$|\})?[^\[]*$`)
)

// second asks libxkbcommon, another reader of the same data, for every layout.
// The test of package hid holds the tables against what it says.
func second(v string, keysymdef []byte) ([]byte, error) {
	tool, err := exec.Command("xkbcli", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("xkbcli (package libxkbcommon-tools): %w", err)
	}
	runes := keysymRunes(keysymdef)
	var b bytes.Buffer
	fmt.Fprintf(&b, secondHeader, strings.TrimSpace(string(tool)), v)
	for _, l := range layouts {
		args := []string{"compile-keymap", "--layout", l.xkb}
		if base, variant, ok := strings.Cut(strings.TrimSuffix(l.xkb, ")"), "("); ok {
			args = []string{"compile-keymap", "--layout", base, "--variant", variant}
		}
		out, err := exec.Command("xkbcli", args...).Output()
		if err != nil {
			return nil, fmt.Errorf("xkbcli %s: %w", strings.Join(args, " "), err)
		}
		syms := map[string][]string{}
		for _, m := range compiledKey.FindAllSubmatch(out, -1) {
			if in := compiledSyms.FindSubmatch(m[2]); in != nil {
				for _, s := range strings.Split(string(in[1]), ",") {
					syms[string(m[1])] = append(syms[string(m[1])], strings.TrimSpace(s))
				}
			}
		}
		fmt.Fprintln(&b, l.name)
		for level := range 4 {
			for _, name := range keys {
				r, of := none, syms[name]
				if name == "BKSL" && len(of) == 0 {
					of = syms["AC12"]
				}
				at := level
				if len(of) <= 2 || len(syms["RALT"]) == 0 || syms["RALT"][0] != "ISO_Level3_Shift" {
					at = level % 2 // nothing asks for AltGr
				}
				if len(of) == 1 {
					at = 0
				}
				if at < len(of) {
					if c, err := char(of[at], runes); err == nil { // else no character, as of NoSymbol
						r = c
					}
				}
				b.WriteRune(r)
			}
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}
