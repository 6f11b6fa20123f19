package main

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// levels holds a key's keysym names, one per shift level: plain, Shift, AltGr,
// Shift+AltGr. An empty name is a level on which the key gives nothing. Some
// layouts give more than four levels; no chord reaches those, so they are
// dropped.
type levels [4]string

// key is what a keymap knows of a key.
type key struct {
	syms levels
	kind string // the key type where one is named, such as TWO_LEVEL
}

// reach returns how many levels the key's type has, as far as we count them.
func (k key) reach() int {
	switch k.kind {
	case "ONE_LEVEL":
		return 1
	case "TWO_LEVEL", "ALPHABETIC":
		return 2
	}
	return len(k.syms)
}

// keymap is what a symbols section defines, by XKB key name without brackets.
type keymap map[string]key

// How a definition meets one that is already there (XKB protocol, 6.4.1):
// override fills levels that the newcomer names, augment those that were empty.
const (
	override = "override"
	augment  = "augment"
	replace  = "replace"
)

func (m keymap) add(name string, k key, mode string) {
	old, ok := m[name]
	switch {
	case !ok || mode == replace:
		m[name] = k
		return
	case mode == augment:
		old, k = k, old
	}
	for i, sym := range k.syms {
		if sym != "" {
			old.syms[i] = sym
		}
	}
	if k.kind != "" {
		old.kind = k.kind
	}
	m[name] = old
}

// source is a folder of XKB data. Its files are split into tokens once, as every
// layout includes the same few.
type source struct {
	data  fs.FS
	files map[string][]string
}

func newSource(data fs.FS) *source { return &source{data, map[string][]string{}} }

func (x *source) tokens(file string) ([]string, error) {
	t, ok := x.files[file]
	if !ok {
		text, err := fs.ReadFile(x.data, "symbols/"+file)
		if err != nil {
			return nil, err
		}
		t = tokens(string(text))
		x.files[file] = t
	}
	return t, nil
}

// merged reads sections of XKB symbols files, joined as in "pc(pc105)+de", with
// everything that they include.
func (x *source) merged(spec string) (keymap, error) {
	p := &parser{xkb: x, keys: keymap{}}
	if err := p.include(spec); err != nil {
		return nil, err
	}
	return p.keys, nil
}

func readSection(x *source, spec string, depth int) (keymap, error) {
	if depth > 20 {
		return nil, fmt.Errorf("reading %s: sections include one another", spec)
	}
	file, section, _ := strings.Cut(strings.TrimSuffix(spec, ")"), "(")
	t, err := x.tokens(file)
	if err != nil {
		return nil, err
	}
	p := &parser{xkb: x, depth: depth, tokens: t, keys: keymap{}}
	if err := p.find(section); err != nil {
		return nil, fmt.Errorf("reading %s: %w", spec, err)
	}
	if err := p.body(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", spec, err)
	}
	return p.keys, nil
}

var token = regexp.MustCompile(`//[^\n]*|#[^\n]*|"[^"]*"|<[^>]*>|[A-Za-z0-9_+.-]+|[^\s]`)

func tokens(text string) []string {
	var out []string
	for _, t := range token.FindAllString(text, -1) {
		if !strings.HasPrefix(t, "//") && !strings.HasPrefix(t, "#") {
			out = append(out, t)
		}
	}
	return out
}

type parser struct {
	xkb    *source
	depth  int
	tokens []string
	keys   keymap
	kind   string // the type of keys that name none
}

func (p *parser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

// find moves past the opening brace of the named section, or of the default
// one, which is the first where no section says so.
func (p *parser) find(section string) error {
	all := p.tokens
	var first []string
	isDefault := false
	for len(p.tokens) > 0 {
		switch t := p.next(); t {
		case "default":
			isDefault = true
		case "xkb_symbols":
			name := strings.Trim(p.next(), `"`)
			if p.next() != "{" {
				return fmt.Errorf("section %s does not open with a brace", name)
			}
			if first == nil {
				first = p.tokens
			}
			if name == section || section == "" && isDefault {
				return nil
			}
			isDefault = false
			if err := p.skip("{", "}"); err != nil {
				return err
			}
		}
	}
	if section == "" && first != nil {
		p.tokens = first
		return nil
	}
	return fmt.Errorf("no section %q among %d tokens", section, len(all))
}

// skip moves past the closing token of a group that is open.
func (p *parser) skip(open, closing string) error {
	for depth := 1; depth > 0; {
		switch p.next() {
		case open:
			depth++
		case closing:
			depth--
		case "":
			return fmt.Errorf("missing %s", closing)
		}
	}
	return nil
}

func (p *parser) statementEnd() error {
	for {
		switch p.next() {
		case ";":
			return nil
		case "":
			return errors.New("missing ;")
		}
	}
}

func (p *parser) body() error {
	for {
		mode := override
		t := p.next()
		switch t {
		case override, augment, replace:
			mode = t
			if t = p.next(); t == "include" || strings.HasPrefix(t, `"`) {
				return fmt.Errorf("%s of a whole include is not understood", mode)
			}
		}
		switch t {
		case "}":
			return nil
		case "":
			return errors.New("missing }")
		case "include":
			if err := p.include(strings.Trim(p.next(), `"`)); err != nil {
				return err
			}
		case "key":
			name := p.next()
			if !strings.HasPrefix(name, "<") {
				return fmt.Errorf("a key's name expected, not %q", name)
			}
			k, err := p.key()
			if err != nil {
				return fmt.Errorf("key %s: %w", name, err)
			}
			if k.kind == "" {
				k.kind = p.kind
			}
			p.keys.add(strings.Trim(name, "<>"), k, mode)
		case "key.type": // of the keys after it that name no type
			for t = p.next(); t != "=" && t != ""; {
				t = p.next()
			}
			p.kind = strings.Trim(p.next(), `"`)
			if err := p.statementEnd(); err != nil {
				return err
			}
		default: // name[…]=, modifier_map, virtual_modifiers: nothing that changes what a key gives
			if err := p.statementEnd(); err != nil {
				return err
			}
		}
	}
}

func (p *parser) include(spec string) error {
	mode := override
	for len(spec) > 0 {
		end := strings.IndexAny(spec[1:], "+|") + 1
		if end == 0 {
			end = len(spec)
		}
		part := spec[:end]
		spec = spec[end:]
		switch part[0] {
		case '+':
			mode, part = override, part[1:]
		case '|':
			mode, part = augment, part[1:]
		}
		sub, err := readSection(p.xkb, part, p.depth+1)
		if err != nil {
			return err
		}
		for name, k := range sub {
			p.keys.add(name, k, mode)
		}
	}
	return nil
}

// key reads { … }; and returns the symbols of the first group.
func (p *parser) key() (key, error) {
	var l key
	if p.next() != "{" {
		return l, errors.New("no opening brace")
	}
	groups := 0
	for {
		switch t := p.next(); t {
		case "}":
			if p.next() != ";" {
				return l, errors.New("missing ;")
			}
			return l, nil
		case "":
			return l, errors.New("missing }")
		case "symbols":
			if p.next() == "[" {
				if g := p.next(); !strings.EqualFold(g, "Group1") {
					return l, fmt.Errorf("symbols of %s are not understood", g)
				}
				p.next()
				p.next()
			}
			if p.next() != "[" {
				return l, errors.New("symbols without a list")
			}
			list, err := p.list()
			if err != nil {
				return l, err
			}
			l.syms = list
			groups++
		case "type", "actions":
			if p.next() == "[" { // [Group1]=; without it the = has just gone by
				p.next()
				p.next()
				p.next()
			}
			switch value := p.next(); {
			case value == "[":
				if err := p.skip("[", "]"); err != nil {
					return l, err
				}
			case t == "type":
				l.kind = strings.Trim(value, `"`)
			}
		case "[":
			list, err := p.list()
			if err != nil {
				return l, err
			}
			if groups == 0 {
				l.syms = list
			}
			groups++
		}
	}
}

// list reads the levels of one group up to its closing bracket.
func (p *parser) list() (levels, error) {
	var l levels
	for n := 0; ; {
		switch t := p.next(); t {
		case "]":
			return l, nil
		case "":
			return l, errors.New("missing ]")
		case ",":
			n++
		case "{", "}", "(", ")":
			return l, fmt.Errorf("several symbols or an action on level %d are not understood", n+1)
		default:
			if n < len(l) && !strings.EqualFold(t, "NoSymbol") && !strings.EqualFold(t, "any") {
				l[n] = t
			}
		}
	}
}
