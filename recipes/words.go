package recipes

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"github.com/labctl/labctl/hid"
)

// What one step and one recipe may type; no console needs a tenth of it.
const (
	maxKeys    = 4_000
	maxKeysAll = 10_000
)

// inputName is a name that ${} takes.
var inputName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

// text reads characters with ${name} in between, and $$ for a dollar sign.
func (d *decoder) text(s string, at func(part string) place) []word {
	var out []word
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			out = append(out, word{kind: textWord, text: plain.String(), at: at("")})
			plain.Reset()
		}
	}
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			plain.WriteString(s)
			break
		}
		plain.WriteString(s[:i])
		s = s[i:]
		switch {
		case strings.HasPrefix(s, "$$"):
			plain.WriteByte('$')
			s = s[2:]
		case strings.HasPrefix(s, "${"):
			end := strings.IndexByte(s, '}')
			if end < 0 {
				d.fail(at("${"), "", "${ without its }")
				return out
			}
			flush()
			out = append(out, d.use(s[2:end], at(s[:end+1])))
			s = s[end+1:]
		default:
			plain.WriteByte('$')
			s = s[1:]
		}
	}
	flush()
	return out
}

// use makes the word of ${name} and remembers it, to be looked up when the
// whole file is read.
func (d *decoder) use(name string, at place) word {
	if !inputName.MatchString(name) {
		d.fail(at, "", "${%s} is no name: want letters, digits and underscores", name)
	} else {
		d.uses = append(d.uses, inputUse{name: name, at: at})
	}
	return word{kind: inputWord, text: name, at: at}
}

// scalarText reads a node as text.
func (d *decoder) scalarText(n ast.Node, what string) []word {
	s, ok := d.scalar(n, what)
	if !ok {
		return nil
	}
	f := d.src.finder(n)
	words := d.text(s, func(part string) place {
		if part == "" {
			return f.start
		}
		return f.find(part)
	})
	for i := range words {
		if words[i].kind == textWord {
			d.printable(words[i])
		}
	}
	return words
}

// printable refuses characters that are keys of their own in a form.
func (d *decoder) printable(w word) {
	for _, r := range w.text {
		if unicode.IsControl(r) {
			d.fail(w.at, "keys have names: keys: TAB ENTER", "text cannot hold control characters such as line ends")
			return
		}
	}
}

// keys reads the key notation: F2 TAB ${password} ENTER DOWN×4, DOWN x4,
// ALT+F2, "text".
func (d *decoder) keys(n ast.Node, what string) []word {
	if list, ok := n.(*ast.SequenceNode); ok {
		var all []word
		for _, item := range list.Values {
			all = append(all, d.keys(d.resolve(item), what)...)
		}
		return all
	}
	s, ok := d.scalar(n, what)
	if !ok {
		return nil
	}
	f := d.src.finder(n)
	faults := len(d.errs)
	var out []word
	last := 0 // words that a count repeats
	repeat := func(count string, at place) {
		times, err := strconv.Atoi(count)
		switch {
		case err != nil || times < 1 || times > maxKeys:
			d.fail(at, "", "want a count from 1 to %d", maxKeys)
			return
		case last == 0:
			d.fail(at, "", "no key to repeat stands before the count")
			return
		case len(out)+(times-1)*last > maxKeys:
			d.fail(at, "", "more than %d keys", maxKeys)
			return
		}
		again := slices.Clone(out[len(out)-last:])
		for range times - 1 {
			out = append(out, again...)
		}
		last = 0
	}
	for s = strings.TrimLeftFunc(s, unicode.IsSpace); s != ""; s = strings.TrimLeftFunc(s, unicode.IsSpace) {
		if s[0] == '"' {
			body, rest, ok := quoted(s)
			if !ok {
				d.fail(f.find(`"`), "", "a text without its closing quote")
				break
			}
			at := f.find(`"`)
			start := len(out)
			out = append(out, d.text(body, func(part string) place {
				if part == "" {
					return at
				}
				return f.find(part)
			})...)
			for _, w := range out[start:] {
				if w.kind == textWord {
					d.printable(w)
				}
			}
			last = len(out) - start
			if body == "" {
				d.fail(at, "", "a text of no characters")
			}
			s = rest
			continue
		}
		end := strings.IndexFunc(s, unicode.IsSpace)
		if end < 0 {
			end = len(s)
		}
		if strings.HasPrefix(s, "${") {
			if close := strings.IndexByte(s, '}'); close >= 0 && close+1 <= end {
				end = close + 1
			}
		}
		w := s[:end]
		at := f.find(w)
		s = s[end:]
		if strings.HasPrefix(w, "${") {
			if !strings.HasSuffix(w, "}") {
				d.fail(at, "", "${ without its }")
				continue
			}
			out = append(out, d.use(w[2:len(w)-1], at))
			last = 1
			continue
		}
		if c, err := hid.ParseChord(w); err == nil {
			out = append(out, word{kind: chordWord, chord: c, at: at})
			last = 1
			continue
		}
		if m := countWord.FindStringSubmatch(w); m != nil {
			if m[1] == "" {
				repeat(m[2], at)
				continue
			}
			if c, err := hid.ParseChord(m[1]); err == nil {
				out = append(out, word{kind: chordWord, chord: c, at: at})
				last = 1
				repeat(m[2], at)
				continue
			}
			w = m[1]
		}
		d.badKey(w, at)
	}
	if len(out) > maxKeys && len(d.errs) == faults {
		d.fail(f.start, "", "more than %d keys", maxKeys)
	}
	if len(out) == 0 && strings.TrimSpace(s) == "" && len(d.errs) == faults {
		d.fail(f.start, "", "%s holds no keys", what)
	}
	return out
}

// countWord parts KEY×4, KEYx4, ×4 and x4.
var countWord = regexp.MustCompile(`^(.*?)[×xX*]([0-9]+)$`)

func (d *decoder) badKey(w string, at place) {
	_, err := hid.ParseChord(w)
	reason := "no such key"
	if n, ok := err.(*hid.NotationError); ok {
		reason = n.Reason
	}
	hint := "text stands in double quotes, an input is ${name}"
	if near := nearest(strings.ToUpper(w), keyNames()); near != "" {
		hint = "did you mean " + near + "?"
	}
	d.fail(at, hint, "bad key name %q: %s", w, reason)
}

// keyNames lists the words of the key notation.
func keyNames() []string {
	var names []string
	for u := hid.KeyA; u < 0xe0; u++ {
		if s := u.String(); !strings.HasPrefix(s, "0x") {
			names = append(names, s)
		}
	}
	return names
}

// quoted cuts a text in double quotes; \" and \\ stand for a quote and a
// backslash in it.
func quoted(s string) (body, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// quote is the inverse of quoted.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// nearest gives the name that is much like s, or "".
func nearest(s string, names []string) string {
	best, found := max(2, len(s)/4+1), ""
	for _, n := range names {
		if strings.EqualFold(n, s) {
			return n
		}
		if d := distance(strings.ToLower(s), strings.ToLower(n)); d < best && d < len(n) {
			best, found = d, n
		}
	}
	return found
}

// distance is the number of characters to add, drop, change or swap with their
// neighbour.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	var before []int
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		next := make([]int, len(y)+1)
		next[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(y)]
}
