package recipes

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// Parse reads a recipe strictly. Every fault that can be seen without a host is
// told at once: the error is of type Errors. YAML that cannot be read comes
// alone. An include names a recipe of the library, or a file relative to this
// one, which Parse opens.
func Parse(file string, src []byte) (*Recipe, error) {
	return parse(file, src, nil)
}

const (
	maxSteps = 500
	maxDepth = 8    // includes
	maxLines = 4000 // a library's recipe has thirty
	// The time that the YAML parser takes grows with the square of what it has to
	// take apart: so many marks took it 2 s, ten times as many minutes.
	maxMarks = 16_000
)

func parse(file string, src []byte, stack []string) (*Recipe, error) {
	src = bytes.TrimPrefix(src, []byte("\uFEFF")) // some editors start a file with it
	d := &decoder{src: newSource(file, src), anchors: map[string]ast.Node{}, stack: append(slices.Clone(stack), file)}
	r := &Recipe{File: file, Source: slices.Clone(src), Risk: Destructive, at: map[string]place{}}
	d.r = r
	if len(d.src.lines) > maxLines {
		return nil, Errors{place{d.src, maxLines, 1}.errorf("", "more than %d lines: this is no recipe", maxLines)}
	}
	if at, ok := tooMuch(d.src); ok {
		return nil, Errors{at.errorf("", "more than %d brackets, commas, colons and the like: this is no recipe", maxMarks)}
	}
	if body := d.body(src); body != nil {
		d.recipe(body)
	} else if len(d.errs) == 0 {
		d.fail(place{d.src, 1, 1}, "", "the file is empty: a recipe has at least recipe: and steps:")
	}
	if len(d.errs) > 0 {
		return nil, d.errs.sorted()
	}
	return r, nil
}

// tooMuch finds the place where a file has more in it that could be structure
// than any recipe.
func tooMuch(src *source) (place, bool) {
	n := 0
	for i, line := range src.lines {
		for col, r := range []rune(line) {
			if strings.ContainsRune("[]{},:-?&*!\"'", r) {
				n++
			}
			if n > maxMarks {
				return place{src, i + 1, col + 1}, true
			}
		}
	}
	return place{}, false
}

// decoder fills a Recipe from a YAML tree and goes on after a fault.
type decoder struct {
	src     *source
	r       *Recipe
	errs    Errors
	anchors map[string]ast.Node
	aliases int
	uses    []inputUse
	typed   int      // words of all steps
	stack   []string // files that are being read, for includes
	forks   int      // probes that go two ways
}

// inputUse is a ${name}, or a login that needs a secret.
type inputUse struct {
	name   string
	at     place
	secret bool
}

func (d *decoder) fail(at place, hint, format string, args ...any) {
	d.errs = append(d.errs, at.errorf(hint, format, args...))
}

// body parses the YAML.
func (d *decoder) body(src []byte) ast.Node {
	tree, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		at, msg, hint := place{d.src, 1, 1}, err.Error(), ""
		if errors.As(err, &syntax) {
			msg, at = syntax.GetMessage(), d.src.token(syntax.GetToken())
		}
		if line, ok := d.tab(at.line); ok {
			at, msg = line, "a tab in the indent: YAML indents with spaces"
		}
		if strings.Contains(msg, "could not find end character") || strings.Contains(msg, "mapping value is not allowed") {
			hint = "put the value in single quotes"
		}
		d.fail(at, hint, "%s", msg)
		return nil
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			d.fail(d.src.node(doc.Body), "", "a second document: a recipe is one")
			break
		}
		body = doc.Body
	}
	return body
}

// tab finds a tab in the indent of a line, or of the one before: the parser
// trips over it at either.
func (d *decoder) tab(line int) (place, bool) {
	for _, n := range []int{line, line - 1, line + 1} {
		if n < 1 || n > len(d.src.lines) {
			continue
		}
		text := d.src.lines[n-1]
		indent := text[:len(text)-len(strings.TrimLeft(text, " \t-"))]
		if i := strings.IndexByte(indent, '\t'); i >= 0 && strings.TrimSpace(text) != "" {
			return place{d.src, n, i + 1}, true
		}
	}
	return place{}, false
}

// resolve follows an alias and takes an anchor off.
func (d *decoder) resolve(n ast.Node) ast.Node {
	for range 16 {
		switch t := n.(type) {
		case *ast.AnchorNode:
			d.anchors[t.Name.GetToken().Value] = t.Value
			n = t.Value
			continue
		case *ast.AliasNode:
			d.aliases++
			to := d.anchors[t.Value.GetToken().Value]
			if to == nil || d.aliases > 100 {
				d.fail(d.src.node(n), "", "no anchor &%s stands before this", t.Value.GetToken().Value)
				return &ast.NullNode{Token: n.GetToken(), BaseNode: &ast.BaseNode{}}
			}
			n = to
			continue
		case *ast.TagNode:
			d.fail(d.src.node(n), "", "tags are not understood here")
			n = t.Value
			continue
		}
		break
	}
	return n
}

func (d *decoder) wrong(n ast.Node, what, want string) {
	hint := ""
	if _, ok := scalar(n); ok && want == "text" {
		hint = "put it in quotes"
	}
	d.fail(d.src.node(n), hint, "%s wants %s and is %s", what, want, kindOf(n))
}

// scalar reads a node that holds one value.
func (d *decoder) scalar(n ast.Node, what string) (string, bool) {
	n = d.resolve(n)
	s, ok := scalar(n)
	if !ok {
		d.wrong(n, what, "one value")
	}
	return s, ok
}

// str reads text that is not empty.
func (d *decoder) str(n ast.Node, what string) string {
	s, ok := d.scalar(n, what)
	if ok && strings.TrimSpace(s) == "" {
		d.fail(d.src.node(n), "", "%s is empty", what)
	}
	return s
}

// proper reads text where a number or true would be a slip.
func (d *decoder) proper(n ast.Node, what string) string {
	n = d.resolve(n)
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return d.str(n, what)
	}
	d.wrong(n, what, "text")
	return ""
}

// pair is one key of a mapping and its value.
type pair struct {
	key   string
	at    place // of the key
	value ast.Node
}

// pairs gives the keys of a mapping, each once.
func (d *decoder) pairs(n ast.Node, what string) []pair {
	n = d.resolve(n)
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		d.wrong(n, what, "a mapping")
		return nil
	}
	var out []pair
	first := map[string]int{}
	for _, v := range values {
		at := d.src.node(v.Key)
		if v.Key.IsMergeKey() {
			d.fail(at, "", "merge keys (<<) are not understood here")
			continue
		}
		key, ok := scalar(d.resolve(v.Key))
		if !ok {
			d.fail(at, "", "a key is one word")
			continue
		}
		if line, dup := first[key]; dup {
			d.fail(at, "", "%s stands here a second time; the first is in line %d", key, line)
			continue
		}
		first[key] = at.line
		out = append(out, pair{key, at, d.resolve(v.Value)})
	}
	return out
}

// list gives the items of a list; null is none.
func (d *decoder) list(n ast.Node, what string) []ast.Node {
	n = d.resolve(n)
	if _, null := n.(*ast.NullNode); null {
		return nil
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.wrong(n, what, "a list")
		return nil
	}
	out := make([]ast.Node, len(seq.Values))
	for i, v := range seq.Values {
		out[i] = d.resolve(v)
	}
	return out
}

func (d *decoder) unknown(p pair, what string, known []string) {
	hint := oneOf(known)
	if near := nearest(p.key, known); near != "" {
		hint = "did you mean " + near + "?"
	}
	if strings.HasPrefix(p.key, "-") {
		hint = "a blank belongs after the dash: - " + strings.TrimLeft(p.key, "-")
	}
	d.fail(p.at, hint, "unknown %s %s", what, p.key)
	if sounds.MatchString(p.key) {
		// A password has no place in a recipe; where it stands all the same it is
		// not shown.
		e := d.errs[len(d.errs)-1]
		e.Text = string([]rune(e.Text)[:min(len([]rune(e.Text)), e.Col-1+len([]rune(p.key)))]) + ": …"
	}
}

// sounds matches a key that may have a password after it.
var sounds = regexp.MustCompile(`(?i)pass|pwd|secret|token`)

// oneOf lists names, as far as they fit on a line.
func oneOf(names []string) string {
	const most = 200
	s := "it is one of "
	for i, n := range names {
		if len(s)+len(n) > most {
			return s + "…"
		}
		if i > 0 {
			s += ", "
		}
		s += n
	}
	return s
}

var topKeys = []string{"recipe", "summary", "risk", "esxi", "requires", "secrets", "vars", "pace", "steps", "verify"}

var recipeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func (d *decoder) recipe(n ast.Node) {
	r := d.r
	n = d.resolve(n)
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		d.wrong(n, "a recipe", "a mapping")
		return
	}
	var steps ast.Node
	for _, p := range d.pairs(n, "a recipe") {
		r.at[p.key] = p.at
		switch p.key {
		case "recipe":
			r.Name = d.str(p.value, "recipe")
			if r.Name != "" && !recipeName.MatchString(r.Name) {
				d.fail(d.src.node(p.value), "", "a recipe's name is made of letters, digits, dots, dashes and underscores")
			}
		case "summary":
			r.Summary = d.proper(p.value, "summary")
		case "risk":
			s := d.str(p.value, "risk")
			if s != "" && !slices.Contains(risks, s) {
				d.fail(d.src.node(p.value), oneOf(risks), "unknown risk %q", s)
			}
			r.Risk = Risk(s)
		case "esxi":
			r.ESXi = d.str(p.value, "esxi")
			if versions := d.versions(r.ESXi, d.src.node(p.value)); versions != nil {
				r.requires = append(r.requires, requirement{"esxi", versions, "ESXi " + r.ESXi, d.src.node(p.value)})
			}
		case "requires":
			r.Requires = map[string]string{}
			for _, q := range d.requirements(p.value, "requires") {
				r.Requires[q.fact] = strings.Join(q.values, "|")
				r.requires = append(r.requires, q)
			}
		case "secrets":
			for _, q := range d.inputs(p.value, "secrets") {
				if in, ok := d.input(q, "secrets", []string{"summary"}); ok {
					r.Secrets = append(r.Secrets, in)
				}
			}
		case "vars":
			for _, q := range d.inputs(p.value, "vars") {
				if in, ok := d.input(q, "vars", []string{"summary", "kind", "default"}); ok {
					r.Vars = append(r.Vars, in)
				}
			}
		case "pace":
			r.Pace = *d.pace(p.value)
		case "steps":
			steps = p.value
		case "verify":
			// Read below, where every fault of the steps is told first.
			for _, item := range d.list(p.value, "verify") {
				r.Verify = append(r.Verify, d.conditions(item, "verify")...)
			}
		default:
			d.unknown(p, "key", topKeys)
		}
	}
	top := d.src.node(n)
	if _, ok := r.at["recipe"]; !ok {
		d.fail(top, "", "recipe: is missing, the name of the recipe")
	}
	for _, v := range r.Vars {
		if slices.ContainsFunc(r.Secrets, func(s Input) bool { return s.Name == v.Name }) {
			d.fail(r.at["vars"], "", "%s is a secret and a variable", v.Name)
		}
	}
	if _, ok := r.at["steps"]; !ok {
		d.fail(top, "", "steps: is missing, the list of what to do")
		return
	}
	faults := len(d.errs)
	if list := d.list(steps, "steps"); len(list) > 0 {
		d.steps(list, nil)
	} else if len(d.errs) == faults {
		d.fail(r.at["steps"], "", "steps is empty: a recipe does something")
	}
	d.lookUp()
}

// lookUp finds the inputs that steps use among those that the recipe declares.
func (d *decoder) lookUp() {
	var names []string
	for _, in := range slices.Concat(d.r.Secrets, d.r.Vars) {
		names = append(names, in.Name)
	}
	for _, u := range d.uses {
		_, secret, ok := d.r.input(u.name)
		hint := "declare it under secrets: or vars:"
		if near := nearest(u.name, names); near != "" {
			hint = "did you mean " + near + "?"
		}
		switch {
		case !ok && u.secret:
			d.fail(u.at, "add secrets: {"+u.name+": what it is}", "undeclared secret %s: login types it", u.name)
		case !ok:
			d.fail(u.at, hint, "undeclared secret or variable ${%s}", u.name)
		case u.secret && !secret:
			d.fail(u.at, "", "login types the secret %s, and that is a variable here", u.name)
		}
	}
}

var versionRange = regexp.MustCompile(`^(>=|<=|==|>|<|=)?\s*([0-9]+(?:\.[0-9]+)?)$`)

// versions gives the versions that a range such as ">=5.1 <8" leaves of those
// that the model knows.
func (d *decoder) versions(s string, at place) []string {
	if s == "" {
		return nil
	}
	s = opBlank.ReplaceAllString(s, "$1")
	left := dcui.FactValues("esxi")
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }) {
		m := versionRange.FindStringSubmatch(part)
		if m == nil {
			d.fail(at, `write it like ">=5.1 <8.0"`, "%q is no range of versions", s)
			return nil
		}
		left = slices.DeleteFunc(left, func(v string) bool {
			c := compareVersions(v, m[2])
			switch m[1] {
			case ">=":
				return c < 0
			case "<=":
				return c > 0
			case ">":
				return c <= 0
			case "<":
				return c >= 0
			}
			return c != 0
		})
	}
	if len(left) == 0 {
		d.fail(at, oneOf(dcui.FactValues("esxi")), "no version of ESXi is in the range %q", s)
		return nil
	}
	return left
}

var opBlank = regexp.MustCompile(`([<>=])\s+`)

// compareVersions compares as far as both go, so that 7 stands for 7.0.
func compareVersions(a, b string) int {
	part := func(s string, i int) int {
		f := strings.Split(s, ".")
		if i >= len(f) {
			return 0
		}
		n, err := strconv.Atoi(f[i])
		if err != nil {
			return 1 << 30 // more digits than a version has
		}
		return n
	}
	return cmp.Or(cmp.Compare(part(a, 0), part(b, 0)), cmp.Compare(part(a, 1), part(b, 1)))
}

// requirements reads facts, each with a value or a list of values.
func (d *decoder) requirements(n ast.Node, what string) []requirement {
	if _, null := d.resolve(n).(*ast.NullNode); null {
		return nil
	}
	var out []requirement
	for _, p := range d.pairs(n, what) {
		known := dcui.FactValues(p.key)
		if known == nil {
			d.unknown(p, "fact", dcui.FactNames())
			continue
		}
		q := requirement{fact: p.key, at: p.at}
		items := []ast.Node{p.value}
		if seq, ok := p.value.(*ast.SequenceNode); ok {
			items = seq.Values
		}
		for _, item := range items {
			s, ok := d.scalar(item, what+"."+p.key)
			if !ok {
				continue
			}
			if p.key == "esxi" && known != nil && !slices.Contains(known, s) {
				q.values = append(q.values, d.versions(s, d.src.node(item))...)
				continue
			}
			v, ok := factValue(p.key, s)
			if !ok {
				d.fail(d.src.node(item), oneOf(known), "fact %s cannot be %q", p.key, s)
				continue
			}
			q.values = append(q.values, v)
		}
		if len(q.values) > 0 {
			out = append(out, q)
		} else if len(items) == 0 {
			d.fail(p.at, "", "%s.%s is an empty list", what, p.key)
		}
	}
	return out
}

// factValue gives a fact's value in its usual spelling.
func factValue(fact, value string) (string, bool) {
	w, err := dcui.NewWorld(map[string]string{fact: value})
	if err != nil {
		return "", false
	}
	return w.Facts()[fact], true
}

func (d *decoder) inputs(n ast.Node, what string) []pair {
	if _, null := n.(*ast.NullNode); null {
		return nil
	}
	return d.pairs(n, what)
}

// input reads a secret or a variable: a summary, or a mapping.
func (d *decoder) input(p pair, what string, keys []string) (Input, bool) {
	in := Input{Name: p.key}
	if what == "vars" {
		in.Kind = "text"
	}
	if !inputName.MatchString(p.key) {
		d.fail(p.at, "", "%q is no name: want letters, digits and underscores", p.key)
		return in, false
	}
	switch v := p.value.(type) {
	case *ast.NullNode:
		return in, true
	case *ast.MappingNode, *ast.MappingValueNode:
		for _, q := range d.pairs(v, what+"."+p.key) {
			switch {
			case !slices.Contains(keys, q.key):
				d.unknown(q, "key", keys)
			case q.key == "summary":
				in.Summary = d.str(q.value, "summary")
			case q.key == "kind":
				in.Kind = d.str(q.value, "kind")
				if !slices.Contains(Kinds(), in.Kind) {
					d.fail(d.src.node(q.value), oneOf(Kinds()), "unknown kind %q", in.Kind)
				}
			case q.key == "default":
				if _, null := q.value.(*ast.NullNode); !null {
					in.Default, _ = d.scalar(q.value, "default")
				}
				in.Optional = true
			}
		}
		if in.Optional && in.Default != "" && slices.Contains(Kinds(), in.Kind) {
			if why := badValue(in.Kind, in.Default); why != "" {
				d.fail(p.at, "", "the default of %s is no %s: %s", in.Name, in.Kind, why)
			}
		}
	default:
		in.Summary = d.str(p.value, what+"."+p.key)
	}
	return in, true
}

// duration reads a length of time above nothing.
func (d *decoder) duration(n ast.Node, what string) time.Duration {
	s, ok := d.scalar(n, what)
	if !ok {
		return 0
	}
	t, err := time.ParseDuration(strings.ReplaceAll(s, " ", ""))
	switch {
	case err != nil:
		d.fail(d.src.node(n), "write it like 3s, 500ms or 2m", "%s wants a duration and is %q", what, s)
	case t <= 0 || t > 24*time.Hour:
		d.fail(d.src.node(n), "", "%s wants a duration above nothing and up to a day", what)
		return 0
	}
	return t
}

func (d *decoder) pace(n ast.Node) *hid.Pace {
	p := new(hid.Pace)
	for _, q := range d.pairs(n, "pace") {
		switch q.key {
		case "hold":
			p.Hold = d.duration(q.value, "pace.hold")
		case "gap":
			p.Gap = d.duration(q.value, "pace.gap")
		case "lead":
			p.Lead = d.duration(q.value, "pace.lead")
		default:
			d.unknown(q, "key", []string{"hold", "gap", "lead"})
		}
	}
	return p
}

var (
	actionNames = []string{"keys", "anchor", "login", "select", "set", "toggle", "confirm", "leave", "type", "wait",
		"hold", "expect", "probe", "include", "steps"}
	besides = []string{"when", "pace", "note"}
	bare    = []string{"anchor", "login", "leave", "confirm"}
)

func (d *decoder) steps(list []ast.Node, outer []requirement) {
	for _, n := range list {
		if len(d.r.Steps) >= maxSteps {
			d.fail(d.src.node(n), "", "more than %d steps", maxSteps)
			return
		}
		d.step(n, outer)
	}
}

func (d *decoder) step(n ast.Node, outer []requirement) {
	at := d.src.node(n)
	if s, ok := scalar(n); ok {
		switch {
		case slices.Contains(bare, s):
			d.action(pair{s, at, nil}, Step{at: at, when: outer})
		case slices.Contains(actionNames, s):
			d.fail(at, "", "the step %s says what: %s: …", s, s)
		default:
			if name, rest, ok := strings.Cut(s, " "); ok && slices.Contains(actionNames, name) {
				d.fail(at, "write "+name+": "+strings.TrimSpace(rest), "the step %s has no colon", name)
				return
			}
			d.unknown(pair{key: s, at: at}, "step", actionNames)
		}
		return
	}
	if _, ok := n.(*ast.MappingNode); !ok {
		if _, ok := n.(*ast.MappingValueNode); !ok {
			d.wrong(n, "a step", "a mapping or one word")
			return
		}
	}
	step := Step{at: at, when: outer}
	var actions []pair
	for _, p := range d.pairs(n, "a step") {
		switch {
		case slices.Contains(actionNames, p.key):
			actions = append(actions, p)
		case p.key == "when":
			step.when = slices.Concat(outer, d.requirements(p.value, "when"))
		case p.key == "pace":
			step.pace = d.pace(p.value)
		case p.key == "note":
			step.Note = d.str(p.value, "note")
		default:
			d.unknown(p, "step", append(slices.Clone(actionNames), besides...))
			return
		}
	}
	switch len(actions) {
	case 0:
		d.fail(at, oneOf(actionNames), "this step does nothing")
	case 1:
		if _, null := actions[0].value.(*ast.NullNode); null {
			if !slices.Contains(bare, actions[0].key) {
				d.fail(actions[0].at, "", "the step %s says what: it is empty", actions[0].key)
				return
			}
			actions[0].value = nil
		}
		step.at = actions[0].at
		d.action(actions[0], step)
	default:
		d.fail(actions[1].at, "make it a step of its own: - "+actions[1].key, "a second action in one step: %s, after %s", actions[1].key, actions[0].key)
	}
}

func (d *decoder) action(p pair, s Step) {
	s.Kind, s.File, s.Line, s.Col = StepKind(p.key), d.src.file, s.at.line, s.at.col
	v := p.value
	switch p.key {
	case "keys":
		s.words = d.keys(v, "keys")
		s.Text = "keys " + strings.Join(keyWords(s.words), " ")
	case "anchor":
		if v != nil {
			d.wrong(v, "anchor", "nothing after it")
		}
		s.Text = "anchor"
	case "login":
		d.login(v, &s)
	case "select":
		s.name = d.str(v, "select")
		s.Text = "select " + s.name
		if s.name == "" {
			return
		}
		if sw, on, ok := switchLabel(s.name); ok {
			s.Kind, s.sets = StepToggle, []setting{{sw, onOff(on), d.src.node(v)}}
			break
		}
		label, ok := model().item(s.name)
		if !ok {
			hint := "labctl recipe show and labctl dcui tell what the menus hold"
			if near := nearest(s.name, model().items); near != "" {
				hint = "did you mean " + near + "?"
			}
			d.fail(d.src.node(v), hint, "unknown select target %q: no menu of any version has it", s.name)
		}
		s.name = label
	case "set":
		var text []string
		for _, q := range d.pairs(v, "set") {
			if !model().hasField(q.key) {
				hint := "labctl dcui shows the forms"
				if near := nearest(q.key, model().fields); near != "" {
					hint = "did you mean " + near + "?"
				}
				d.fail(q.at, hint, "unknown field %q: no form of any version has it", q.key)
			}
			words := []word(nil)
			if _, null := q.value.(*ast.NullNode); !null {
				words = d.scalarText(q.value, "set."+q.key)
			}
			s.sets = append(s.sets, setting{q.key, words, q.at})
			text = append(text, q.key)
		}
		s.Text = "set " + strings.Join(text, ", ")
	case "toggle":
		var text []string
		for _, q := range d.pairs(v, "toggle") {
			sw, ok := switchNamed(q.key)
			if !ok {
				d.unknown(q, "switch", []string{"SSH", "ESXi Shell"})
				continue
			}
			state, ok := d.scalar(q.value, "toggle."+q.key)
			if !ok {
				continue
			}
			if state != "on" && state != "off" {
				d.fail(d.src.node(q.value), "", "toggle wants on or off and is %q", state)
				continue
			}
			s.sets = append(s.sets, setting{sw, onOff(state == "on"), q.at})
			text = append(text, sw+" "+state)
		}
		s.Text = "toggle " + strings.Join(text, ", ")
	case "confirm":
		key := "F11"
		if v != nil {
			key = strings.ToUpper(d.str(v, "confirm"))
		}
		switch key {
		case "": // said by str
		case "F11", "ENTER", "F2", "SPACE":
			c, err := hid.ParseChord(key)
			if err != nil {
				d.fail(s.at, "", "%s", err)
			}
			s.words = []word{{kind: chordWord, chord: c, at: s.at}}
		case "Y", "N":
			// A letter, wherever the keymap has it.
			s.words = []word{{kind: textWord, text: strings.ToLower(key), at: s.at}}
		default:
			d.fail(d.src.node(v), "a dialog is confirmed with F11, ENTER, F2, Y or N", "confirm cannot be %q", key)
		}
		s.Text = "confirm " + key
	case "leave":
		s.Text = "leave"
		if v != nil {
			s.name = d.str(v, "leave")
			s.Text += " for " + s.name
			if s.name != "" {
				d.screen(s.name, d.src.node(v))
			}
		}
	case "type":
		s.words = d.scalarText(v, "type")
		s.Text = "type " + strings.Join(keyWords(s.words), " ")
		if _, ok := scalar(d.resolve(v)); ok && len(s.words) == 0 {
			d.fail(s.at, "", "type holds no text")
		}
	case "wait":
		if _, ok := scalar(v); ok {
			s.d = d.duration(v, "wait")
			s.Text = "wait " + s.d.String()
			break
		}
		s.Kind, s.cond = StepProbe, d.conditions(v, "wait")
		s.Text = "wait: " + conditionText(s.cond)
	case "hold":
		d.hold(v, &s)
	case "expect":
		if name, ok := scalar(v); ok {
			d.screen(name, d.src.node(v))
			s.cond = []Condition{{Kind: "fact", Fact: "screen", Value: name, at: d.src.node(v)}}
		} else {
			s.cond = d.conditions(v, "expect")
		}
		for _, c := range s.cond {
			if c.Network() || c.Kind == "icmp" || c.Kind == "led" || c.Kind == "usb-reset" {
				d.fail(c.at, "ask the network with probe:", "expect goes by the model, which is not the network")
			}
		}
		s.Text = "expect " + conditionText(s.cond)
	case "probe":
		s.cond = d.conditions(v, "probe")
		s.Text = "probe: " + conditionText(s.cond)
		d.fork(v, s)
		return
	case "include":
		d.include(v, s)
		return
	case "steps":
		d.steps(d.list(v, "steps"), s.when)
		return
	}
	if d.typed += len(s.words); d.typed > maxKeysAll && d.typed-len(s.words) <= maxKeysAll {
		d.fail(s.at, "", "more than %d keys in one recipe", maxKeysAll)
	}
	d.r.Steps = append(d.r.Steps, s)
}

// maxForks bounds the probes of a recipe that go two ways: with each the ways
// through it may be twice as many.
const maxForks = 4

// fork adds a probe and the steps of its two ways, where it has them.
func (d *decoder) fork(v ast.Node, s Step) {
	var then, els *pair
	if _, ok := scalar(v); !ok {
		for _, p := range d.pairs(v, "probe") {
			switch p.key {
			case "then":
				then = &p
			case "else":
				els = &p
			}
		}
	}
	at := len(d.r.Steps)
	d.r.Steps = append(d.r.Steps, s)
	if (then != nil || els != nil) && len(s.cond) > 1 {
		d.fail(s.cond[1].at, "one probe after the other, each with its ways", "a probe that goes two ways asks for one thing")
	}
	way := func(p *pair, prefix string) int {
		if p == nil {
			return 0
		}
		from := len(d.r.Steps)
		d.steps(d.list(p.value, "probe."+p.key), s.when)
		for i := range d.r.Steps[from:] {
			d.r.Steps[from+i].Text = prefix + d.r.Steps[from+i].Text
		}
		return len(d.r.Steps) - from
	}
	if els == nil {
		// What does not hold stops the run, so that these are the next steps.
		way(then, "")
		return
	}
	n := way(then, "if so: ")
	m := way(els, "if not: ")
	fork := &d.r.Steps[at]
	fork.fork, fork.then, fork.els = true, n, m
	if d.forks++; d.forks == maxForks+1 {
		d.fail(els.at, "", "more than %d probes that go two ways", maxForks)
	}
}

func conditionText(cs []Condition) string {
	text := make([]string, len(cs))
	for i, c := range cs {
		text[i] = c.String()
	}
	return strings.Join(text, ", ")
}

func onOff(on bool) []word {
	if on {
		return []word{{kind: textWord, text: "on"}}
	}
	return []word{{kind: textWord, text: "off"}}
}

// login reads nothing, the key that asks for the login, or a mapping.
func (d *decoder) login(v ast.Node, s *Step) {
	s.name, s.via, s.Text = "password", dcui.F2, "login"
	key := func(n ast.Node) {
		switch name := strings.ToUpper(d.str(n, "login")); name {
		case "F2", "": // nothing is said by str
		case "F12":
			s.via, s.Text = dcui.F12, "login with F12"
		default:
			d.fail(d.src.node(n), "F2 leads to the menu, F12 to shutting down", "login cannot be %q", name)
		}
	}
	if _, ok := scalar(v); ok {
		key(v)
	} else if v != nil {
		for _, q := range d.pairs(v, "login") {
			switch q.key {
			case "key":
				key(q.value)
			case "secret":
				s.name = d.str(q.value, "login.secret")
			case "user":
				s.user = d.scalarText(q.value, "login.user")
			default:
				d.unknown(q, "key", []string{"key", "secret", "user"})
			}
		}
	}
	d.uses = append(d.uses, inputUse{s.name, s.at, true})
}

// hold reads a pause in which a person may still say no, or a key to keep down.
func (d *decoder) hold(v ast.Node, s *Step) {
	if _, ok := scalar(v); ok {
		s.d = d.duration(v, "hold")
		s.Text = "hold on for " + s.d.String()
		return
	}
	for _, q := range d.pairs(v, "hold") {
		switch q.key {
		case "key":
			s.words = d.keys(q.value, "hold.key")
			if len(s.words) != 1 || s.words[0].kind != chordWord {
				d.fail(d.src.node(q.value), "", "hold wants one key")
			}
		case "for":
			s.d = d.duration(q.value, "hold.for")
		default:
			d.unknown(q, "key", []string{"key", "for"})
		}
	}
	if s.d == 0 || len(s.words) == 0 {
		d.fail(s.at, "hold: {key: F10, for: 3s}", "hold wants a key and how long")
	}
	s.Text = fmt.Sprintf("hold %s for %s", strings.Join(keyWords(s.words), " "), s.d)
}

func (d *decoder) screen(name string, at place) {
	if name == "" || slices.Contains(dcui.Screens(), name) {
		return
	}
	hint := oneOf(dcui.Screens())
	if near := nearest(name, dcui.Screens()); near != "" {
		hint = "did you mean " + near + "?"
	}
	d.fail(at, hint, "unknown screen %q", name)
}

// conditions reads what has to hold: a mapping, or one of the words led, icmp
// and usb-reset.
func (d *decoder) conditions(n ast.Node, what string) []Condition {
	n = d.resolve(n)
	if s, ok := scalar(n); ok {
		if s == "led" || s == "icmp" || s == "usb-reset" {
			p := d.src.node(n)
			return []Condition{{Kind: s, at: p, Line: p.line, Col: p.col}}
		}
		d.fail(d.src.node(n), "write it like reachable: {tcp: 443, within: 3m}, or management: standard", "%s: %q says nothing that could hold", what, s)
		return nil
	}
	faults := len(d.errs)
	var out []Condition
	var loose *Condition // tcp and within without reachable: in front
	for _, p := range d.pairs(n, what) {
		c := Condition{Kind: p.key, at: p.at, Line: p.at.line, Col: p.at.col}
		switch p.key {
		case "then", "else":
			if what != "probe" {
				d.fail(p.at, "probe: {…, then: [steps], else: [steps]}", "%s has no %s: only a probe goes two ways", what, p.key)
			}
			continue
		case "reachable", "unreachable", "icmp", "led", "usb-reset":
			d.target(p.value, &c, what+"."+p.key)
		case "closed":
			d.target(p.value, &c, what+".closed")
			if c.TCP == 0 {
				d.fail(p.at, "closed: {tcp: 22}", "%s.closed wants a port", what)
			}
		case "tcp", "within", "host":
			if loose == nil {
				c.Kind = "reachable"
				loose = &c
			}
			d.targetKey(p, loose, what)
			continue
		case "effect":
			c.Value, _ = d.scalar(p.value, what+".effect")
			if !slices.Contains(effectNames(), c.Value) {
				d.fail(d.src.node(p.value), oneOf(effectNames()), "unknown effect %q", c.Value)
			}
		case "selected":
			c.Value = d.str(p.value, what+".selected")
			label, ok := model().item(c.Value)
			if !ok {
				d.fail(d.src.node(p.value), "", "unknown item %q: no menu of any version has it", c.Value)
			}
			c.Value = label
		case "screen":
			c.Kind, c.Fact = "fact", "screen"
			c.Value, _ = d.scalar(p.value, what+".screen")
			d.screen(c.Value, d.src.node(p.value))
		default:
			known := dcui.FactValues(p.key)
			if known == nil {
				d.unknown(p, "condition", append([]string{"reachable", "unreachable", "closed", "icmp", "led", "usb-reset", "effect", "selected"}, dcui.FactNames()...))
				continue
			}
			s, ok := d.scalar(p.value, what+"."+p.key)
			if !ok {
				continue
			}
			v, ok := factValue(p.key, s)
			if !ok {
				d.fail(d.src.node(p.value), oneOf(known), "fact %s cannot be %q", p.key, s)
			}
			c.Kind, c.Fact, c.Value = "fact", p.key, v
		}
		out = append(out, c)
	}
	switch {
	case loose == nil:
	case what == "probe" && len(out) == 1 && loose.TCP == 0 && loose.Host == "" && out[0].Within == 0:
		out[0].Within = loose.Within // the time for the one condition beside it
	default:
		out = append(out, *loose)
	}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		if len(out) == 0 && len(d.errs) == faults {
			d.fail(d.src.node(n), "", "%s is empty", what)
		}
	}
	return out
}

// target reads where to ask and for how long.
func (d *decoder) target(n ast.Node, c *Condition, what string) {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		for _, p := range d.pairs(n, what) {
			d.targetKey(p, c, what)
		}
	case *ast.NullNode, *ast.BoolNode:
	default:
		d.wrong(n, what, "a mapping, such as {tcp: 443, within: 3m}")
	}
}

func (d *decoder) targetKey(p pair, c *Condition, what string) {
	switch p.key {
	case "tcp":
		s, _ := d.scalar(p.value, what+".tcp")
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 65535 {
			d.fail(d.src.node(p.value), "", "%s.tcp wants a port from 1 to 65535 and is %q", what, s)
		}
		c.TCP = n
	case "within":
		c.Within = d.duration(p.value, what+".within")
	case "host":
		c.Host = d.str(p.value, what+".host")
		d.scalarText(p.value, what+".host") // for its ${names}
	default:
		d.unknown(p, "key", []string{"tcp", "host", "within"})
	}
}

func effectNames() []string {
	var names []string
	for e := dcui.Nothing; e <= dcui.SystemReset; e++ {
		names = append(names, e.String())
	}
	return names
}

// include puts the steps of another recipe here. What that one needs, this one
// needs.
func (d *decoder) include(v ast.Node, s Step) {
	name := d.str(v, "include")
	if name == "" {
		return
	}
	at := d.src.node(v)
	if len(d.stack) > maxDepth {
		d.fail(at, "", "includes go more than %d files deep", maxDepth)
		return
	}
	file, src := name, []byte(nil)
	if strings.ContainsAny(name, `/\`) || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") {
		if !filepath.IsAbs(name) {
			file = filepath.Join(filepath.Dir(d.src.file), name)
		}
		if slices.Contains(d.stack, file) {
			d.fail(at, "", "include %s leads back to itself: %s", name, strings.Join(append(d.stack, file), ", "))
			return
		}
		var err error
		if src, err = readFile(file); err != nil {
			d.fail(at, "", "include %s: %s", name, reason(err))
			return
		}
	} else {
		file = name + ".yaml"
		var err error
		if src, err = libraryFile(file); err != nil {
			hint := ""
			if near := nearest(name, libraryNames()); near != "" {
				hint = "did you mean " + near + "?"
			}
			d.fail(at, hint, "include %s: no recipe of the library is called that", name)
			return
		}
		file = "library/" + file
		if slices.Contains(d.stack, file) {
			d.fail(at, "", "include %s leads back to itself: %s", name, strings.Join(append(d.stack, file), ", "))
			return
		}
	}
	r, err := parse(file, src, d.stack)
	if err != nil {
		var all Errors
		if errors.As(err, &all) {
			d.errs = append(d.errs, all...)
			d.fail(at, "", "the included %s has faults", name)
		}
		return
	}
	d.r.requires = append(d.r.requires, r.requires...)
	for _, in := range r.Secrets {
		if !slices.ContainsFunc(d.r.Secrets, func(o Input) bool { return o.Name == in.Name }) {
			d.r.Secrets = append(d.r.Secrets, in)
		}
	}
	for _, in := range r.Vars {
		if !slices.ContainsFunc(d.r.Vars, func(o Input) bool { return o.Name == in.Name }) {
			d.r.Vars = append(d.r.Vars, in)
		}
	}
	for _, t := range r.Steps {
		if t.fork {
			if d.forks++; d.forks == maxForks+1 {
				d.fail(at, "", "more than %d probes that go two ways", maxForks)
			}
		}
		t.when = slices.Concat(s.when, t.when)
		d.r.Steps = append(d.r.Steps, t)
	}
	if len(d.r.Steps) > maxSteps {
		d.fail(at, "", "more than %d steps", maxSteps)
	}
}

// maxFile bounds what an include reads.
const maxFile = 1 << 20

func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, errors.New("this is no recipe file")
	}
	return os.ReadFile(name)
}

// reason gives what went wrong with a file without naming it again.
func reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
