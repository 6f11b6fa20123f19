package recipes

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// vocabulary holds the words on the console's menus and forms, of all versions.
type vocabulary struct {
	items  []string
	fields []string
}

// model reads the vocabulary off the model, so that it is nowhere written twice.
var model = sync.OnceValue(func() *vocabulary {
	v := new(vocabulary)
	add := func(to *[]string, s string) {
		if s != "" && !slices.Contains(*to, s) {
			*to = append(*to, s)
		}
	}
	for _, version := range dcui.FactValues("esxi") {
		for _, screen := range dcui.FactValues("screen") {
			w, err := dcui.NewWorld(map[string]string{"esxi": version, "screen": screen, "management": "distributed", "lockdown_item": "selectable"})
			if err != nil || w.At() != screen {
				continue
			}
			for _, it := range w.Items() {
				add(&v.items, it.Label)
			}
			const most = 40 // fields, more than any form has
			for range most {
				label, _, _ := w.Field()
				add(&v.fields, label)
				w = w.Press(dcui.Tab)
			}
		}
	}
	return v
})

// item gives a menu's item by its label, capitals or not.
func (v *vocabulary) item(label string) (string, bool) {
	for _, it := range v.items {
		if strings.EqualFold(it, label) {
			return canonical(it), true
		}
	}
	return label, false
}

// canonical gives one label to an item that versions spell in different ways.
func canonical(label string) string {
	if label == "Modify ESXi Shell timeouts" {
		return "Modify ESXi Shell and SSH timeouts"
	}
	return label
}

func (v *vocabulary) hasField(label string) bool {
	return slices.ContainsFunc(v.fields, func(f string) bool { return sameField(f, label) })
}

// sameField compares a form's label with one in a recipe, which may leave out a
// colon, and all that follows the first words.
func sameField(label, asked string) bool {
	label, asked = strings.ToLower(strings.TrimSuffix(label, ":")), strings.ToLower(strings.TrimSuffix(asked, ":"))
	rest, ok := strings.CutPrefix(label, asked)
	return ok && asked != "" && (rest == "" || rest[0] == ' ')
}

// switches are the lines of the troubleshooting menu that turn something, by
// the fact that holds their state.
var switches = map[string]string{"SSH": "ssh", "ESXi Shell": "shell"}

func switchNamed(s string) (string, bool) {
	for name, fact := range switches {
		if strings.EqualFold(s, name) || strings.EqualFold(s, fact) {
			return name, true
		}
	}
	return "", false
}

// switchLabel reads Enable SSH as the switch and its state.
func switchLabel(s string) (name string, on, ok bool) {
	verb, rest, _ := strings.Cut(s, " ")
	if on = strings.EqualFold(verb, "Enable"); !on && !strings.EqualFold(verb, "Disable") {
		return "", false, false
	}
	name, ok = switchNamed(rest)
	return name, on, ok
}

// keyWords gives the normalised notation of words: equal neighbours folded,
// adjacent text joined.
func keyWords(words []word) []string {
	var n notation
	for _, w := range words {
		switch w.kind {
		case chordWord:
			n.chord(w.chord)
		case textWord:
			n.text(w.text)
		case inputWord:
			n.input(w.text)
		}
	}
	return n.words()
}

// notation collects key words.
type notation struct {
	out   []string
	last  string // an unquoted word, for folding
	times int
	typed strings.Builder
}

func (n *notation) chord(c hid.Chord) { n.flushText(); n.add(c.String()) }

func (n *notation) input(name string) { n.flushText(); n.add("${" + name + "}") }

func (n *notation) text(s string) {
	if s == "" {
		return
	}
	n.flush()
	n.typed.WriteString(s)
}

func (n *notation) add(w string) {
	if w == n.last {
		n.times++
		return
	}
	n.flush()
	n.last, n.times = w, 1
}

func (n *notation) flushText() {
	if n.typed.Len() > 0 {
		n.out = append(n.out, quote(n.typed.String()))
		n.typed.Reset()
	}
}

func (n *notation) flush() {
	if n.times == 1 {
		n.out = append(n.out, n.last)
	} else if n.times > 1 {
		n.out = append(n.out, n.last+"×"+strconv.Itoa(n.times))
	}
	n.last, n.times = "", 0
}

func (n *notation) words() []string {
	n.flush()
	n.flushText()
	if n.out == nil {
		return []string{}
	}
	return n.out
}
