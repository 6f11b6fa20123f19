package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/labctl/labctl/docs"
	"github.com/labctl/labctl/recipes"
	"github.com/labctl/labctl/recipes/dcui"
)

// pages are the Markdown files of the repository, from its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out[strings.TrimPrefix(filepath.ToSlash(f), "../../")] = string(b)
		}
	}
	if out["README.md"] == "" || out["docs/net.md"] == "" {
		t.Fatal("README or guides not found: the rules would hold of nothing")
	}
	return out
}

// parseDir parses the Go files of a package that are no tests.
func parseDir(t *testing.T, dir string) []*ast.File {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	var out []*ast.File
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

// sourceCodes reads out of the source what commands can print as a code.
func sourceCodes(t *testing.T) map[string]string {
	t.Helper()
	codes := map[string]string{}
	add := func(where string, words ...string) {
		if len(words) == 0 {
			t.Errorf("%s: no codes found, so this test proves nothing of them", where)
		}
		for _, w := range words {
			codes[w] = where
		}
	}
	// calls lists the literal arguments number n of calls to a method.
	calls := func(dir, method string, n int) (out []string) {
		for _, f := range parseDir(t, dir) {
			ast.Inspect(f, func(node ast.Node) bool {
				c, ok := node.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := c.Fun.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != method {
					return true
				}
				s, ok := literal(c.Args[n])
				if !ok {
					t.Errorf("%s: a call to %s whose code is no literal: its entry cannot be checked", dir, method)
				}
				out = append(out, s)
				return true
			})
		}
		return out
	}
	add("net plan", calls("esxi/network", "refuse", 0)...)
	add("net plan", calls("esxi/network", "refuseUnless", 1)...)
	add("net risk", calls("esxi/network", "refuseUnless", 0)...)
	for _, r := range risks {
		add("net risk", r.name)
	}
	add("vch up", calls("esxi/vch", "refuse", 0)...)
	add("vch up", calls("esxi/vch", "warn", 0)...)
	add("recipe risk", riskNames()...)
	add("hid risk", riskCapsLock)

	// consts lists the string constants of a type, or those whose name begins so.
	consts := func(dir, kind, prefix string) (out []string) {
		for _, f := range parseDir(t, dir) {
			ast.Inspect(f, func(node ast.Node) bool {
				v, ok := node.(*ast.ValueSpec)
				if !ok || len(v.Values) == 0 {
					return true
				}
				of, _ := v.Type.(*ast.Ident)
				if kind != "" && (of == nil || of.Name != kind) || prefix != "" && !strings.HasPrefix(v.Names[0].Name, prefix) {
					return true
				}
				if l, ok := v.Values[0].(*ast.BasicLit); ok {
					out = append(out, strings.Trim(l.Value, `"`))
				}
				return true
			})
		}
		return out
	}
	add("net outcome", consts("esxi/network", "Outcome", "")...)
	add("recipe verdict", consts("recipes", "Kind", "")...)
	add("exit code", consts("cmd/labctl", "", "exit")...)

	// set lists the words that are given to a field, or returned by a function.
	set := func(dir, field, function string) (out []string) {
		for _, f := range parseDir(t, dir) {
			ast.Inspect(f, func(node ast.Node) bool {
				switch n := node.(type) {
				case *ast.AssignStmt:
					for i, l := range n.Lhs {
						if sel, ok := l.(*ast.SelectorExpr); ok && field != "" && sel.Sel.Name == field && i < len(n.Rhs) {
							if s, ok := literal(n.Rhs[i]); ok {
								out = append(out, s)
							}
						}
					}
				case *ast.FuncDecl:
					if n.Name.Name != function {
						break
					}
					ast.Inspect(n, func(node ast.Node) bool {
						if r, ok := node.(*ast.ReturnStmt); ok && len(r.Results) == 1 {
							if s, ok := literal(r.Results[0]); ok && s != "" {
								out = append(out, s)
							}
						}
						return true
					})
				}
				return true
			})
		}
		return out
	}
	for _, w := range set("cmd/labctl", "State", "") {
		if w != "broken-off" { // a recipe's outcome too
			add("rescue state", w)
		}
	}
	add("rescue state", "not-needed")
	add("recipe outcome", set("cmd/labctl", "", "outcome")...)
	add("vch outcome", "up", "failed", "kept")
	add("vch marker", set("esxi/vch", "", "markerOf")...)
	for _, f := range parseDir(t, "hid") {
		ast.Inspect(f, func(node ast.Node) bool {
			v, ok := node.(*ast.ValueSpec)
			if !ok || v.Names[0].Name != "wireKinds" {
				return true
			}
			for _, e := range v.Values[0].(*ast.CompositeLit).Elts {
				if s, ok := literal(e.(*ast.KeyValueExpr).Key); ok {
					add("keyboard", s)
				}
			}
			return true
		})
	}
	return codes
}

// Every code that the source can print has an entry, and no entry is of a code
// that is gone.
func TestCodesHaveEntries(t *testing.T) {
	want := sourceCodes(t)
	have := helpCodes()
	for code, where := range want {
		if !slices.Contains(have, code) {
			t.Errorf("%s %s has no entry in docs/errors.md or docs/exit-codes.md", where, code)
		}
	}
	for _, code := range have {
		if want[code] == "" {
			t.Errorf("the entry %s is stale: nothing prints that code", code)
		}
	}
	if len(want) < 100 {
		t.Errorf("only %d codes found in the source", len(want))
	}
}

// An entry of a refusal says what to do.
func TestEntriesSayWhatToDo(t *testing.T) {
	src := guideText("errors.md")
	all := headings(src)
	part := ""
	for i, h := range all {
		if h.level == 2 {
			part = h.text
		}
		text := section(src, all, i)
		if h.level == 3 && strings.Contains(part, "refuses") && !strings.Contains(text, "\nDo: ") {
			t.Errorf("%s does not say what to do", h.text)
		}
		if h.level == 3 && len(strings.Fields(text)) < 8 {
			t.Errorf("%s says next to nothing: %q", h.text, text)
		}
	}
}

// Every file of docs/ is a topic, and every topic has its file.
func TestGuidesAreTopics(t *testing.T) {
	files, err := fs.Glob(docs.Guides, "*.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	seen := map[string]bool{}
	for _, g := range guides {
		named = append(named, g.file)
		for _, n := range g.names {
			if seen[n] {
				t.Errorf("two guides are called %s", n)
			}
			seen[n] = true
		}
	}
	slices.Sort(named)
	if !slices.Equal(files, named) {
		t.Errorf("docs/ has %v, help knows %v", files, named)
	}
}

// --- command lines

// placeholder is a word that stands for something, as in HOST, NAME-1 or OLD=NEW.
var placeholder = regexp.MustCompile(`^[A-Z][A-Z_0-9/:.-]*(=[A-Z]+)?$|…|^\.\.\.$`)

// shellWords splits a line as a shell would, as far as the guides need it. A
// comment and what comes after a pipe, a semicolon or a redirection is left out.
func shellWords(line string) []string {
	var out []string
	var word strings.Builder
	quote, in := rune(0), false
	flush := func() {
		if in {
			out = append(out, word.String())
		}
		word.Reset()
		in = false
	}
	for _, r := range line {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == ' ' || r == '\t':
			flush()
		case r == '#' && !in, strings.ContainsRune("|;&><()", r):
			flush()
			return out
		default:
			word.WriteRune(r)
			in = true
		}
	}
	flush()
	return out
}

var commandStart = regexp.MustCompile(`(?:^|&& |\|\| |; |\| |\$\()(?:\$ )?(?:sudo )?(?:[A-Z_]+=\S+ )*(?:\./)?(?:bin/)?labctl(?:-usb)?((?: .*)?)$`)

// commandLines finds what a page tells to type: lines of code, and code within
// a line. The second result tells the line number.
func commandLines(src string) (lines []string, at []int) {
	fenced, wasText := false, false
	spans := regexp.MustCompile("`([^`]+)`")
	all := strings.Split(src, "\n")
	for i := 0; i < len(all); i++ {
		line := all[i]
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			continue
		}
		code := fenced || strings.HasPrefix(line, "    ") && !wasText
		wasText = !code && strings.TrimSpace(line) != "" && (wasText || bulletLine.MatchString(line))
		if strings.TrimSpace(line) == "" {
			wasText = false
		}
		if code {
			for rest := strings.TrimSpace(line); rest != ""; {
				for strings.HasSuffix(rest, `\`) && i+1 < len(all) {
					i++
					rest = strings.TrimSuffix(rest, `\`) + strings.TrimSpace(all[i])
				}
				head, tail, _ := strings.Cut(rest, " && ")
				if m := commandStart.FindStringSubmatch(head); m != nil && !tableLine.MatchString(head) && !strings.HasPrefix(m[1], " / ") {
					lines, at = append(lines, "labctl"+m[1]), append(at, i+1)
				}
				rest = tail
			}
			continue
		}
		text := line
		if strings.Count(text, "`")%2 == 1 && i+1 < len(all) { // a span over the end of the line
			text += " " + strings.TrimSpace(all[i+1])
		}
		for _, m := range spans.FindAllStringSubmatch(text, -1) {
			lines, at = append(lines, strings.TrimPrefix(m[1], "sudo ")), append(at, i+1)
		}
	}
	return lines, at
}

// checkCommandLine parses one line against the commands. Spans that are no
// command line are left alone.
func checkCommandLine(root *cobra.Command, line string) error {
	words := shellWords(line)
	if len(words) == 0 {
		return nil
	}
	if strings.HasPrefix(words[0], "--") {
		name, _, _ := strings.Cut(strings.TrimPrefix(words[0], "--"), "=")
		if strings.HasSuffix(name, "…") || foreignFlags[name] != "" {
			return nil
		}
		found := false
		walkCommands(root, func(c *cobra.Command) {
			found = found || c.Flags().Lookup(name) != nil || c.PersistentFlags().Lookup(name) != nil
		})
		if !found {
			return fmt.Errorf("no command has the flag --%s", name)
		}
		return nil
	}
	if words[0] == "labctl" {
		words = words[1:]
	} else if c, _, err := root.Find(words); err != nil || !c.HasParent() || !c.Parent().HasParent() {
		return nil // not a noun and a verb
	}
	for i, w := range words {
		if w == "…" || w == "..." {
			words = words[:i]
			break
		}
	}
	c, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	span := !strings.HasPrefix(line, "labctl ")
	if err := c.ParseFlags(rest); err != nil && err != pflag.ErrHelp && !(span && strings.HasPrefix(err.Error(), "flag needs an argument")) {
		return err
	}
	args := c.Flags().Args()
	if c.HasSubCommands() && len(args) > 0 && !placeholder.MatchString(args[0]) {
		return fmt.Errorf("%s has no command %s", c.CommandPath(), args[0])
	}
	if c.Name() == "help" && len(args) > 0 && !placeholder.MatchString(args[0]) {
		e := testEnvPlain()
		if err := (&app{env: e}).help(root, args); err != nil {
			return err
		}
	}
	if span || len(args) == 0 {
		return nil // a name in running text, without what it works on
	}
	return c.ValidateArgs(args)
}

// foreignFlags are those of other programs that the pages speak of.
var foreignFlags = map[string]string{
	"no-tls": "vic-machine", "no-tlsverify": "vic-machine", "ops-grant-perms": "vic-machine", "target": "vic-machine",
	"password": "vic-machine", "ops-password": "vic-machine", "tls-server-cert": "vic-machine", "tls-ca": "vic-machine",
	"affinity-vm-group": "vic-machine", "list-scenes": "labsim", "list-faults": "labsim",
}

// tableLine is a line of a command's output, not one to type.
var tableLine = regexp.MustCompile(`\S\s{2,}[^\s#]`)

func testEnvPlain() *env {
	return &env{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, lookup: func(string) (string, bool) { return "", false },
		terminal: func(any) bool { return false }}
}

func newRoot(t *testing.T) *cobra.Command {
	a := &app{env: testEnv(t)}
	root := a.root()
	root.SetOut(&bytes.Buffer{})
	return root
}

func TestCommandLinesInGuides(t *testing.T) {
	n := 0
	for name, src := range pages(t) {
		lines, at := commandLines(src)
		for i, line := range lines {
			if err := checkCommandLine(newRoot(t), line); err != nil {
				t.Errorf("%s:%d: %s: %v", name, at[i], line, err)
			}
			if strings.HasPrefix(line, "labctl ") {
				n++
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d command lines found", n)
	}
	// The check is only as good as its eyes.
	for _, bad := range []string{"labctl net paln nuc01", "labctl net plan nuc01 --too standard", "labctl help zebra", "--no-such-flag",
		"labctl recipe check", "net plan --too x", "labctl config zebra", "labctl version now"} {
		lines, _ := commandLines("    " + bad)
		if !strings.HasPrefix(bad, "labctl") {
			lines, _ = commandLines("say `" + bad + "`")
		}
		if len(lines) != 1 || bad != "labctl recipe check" && checkCommandLine(newRoot(t), lines[0]) == nil {
			t.Errorf("%q is not seen as wrong: %q", bad, lines)
		}
	}
}

// --- links, files, YAML

var (
	mdLink   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	treePath = regexp.MustCompile("`((?:cmd|esxi|hid|recipes|docs|configs|bench|\\.github|\\.ci)/[A-Za-z0-9_./*-]+)`")
	goTest   = regexp.MustCompile(`go test (\./[\w/.]+) -run '?\^?(\w+)`)
	testName = regexp.MustCompile("`(Test[A-Z]\\w+)`")
	makeWord = regexp.MustCompile("(?:`|^    (?:.*&& )?)make ([a-z][a-z -]*)")
)

// anchorOf is how forges name the anchor of a heading.
func anchorOf(h string) string {
	h = strings.ToLower(plainText(h))
	h = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(h, "")
	return strings.ReplaceAll(h, " ", "-")
}

func TestLinksInGuides(t *testing.T) {
	all := pages(t)
	mk, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for name, src := range all {
		for _, m := range mdLink.FindAllStringSubmatch(src, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(name), file))
			}
			if _, err := os.Stat(filepath.Join("../..", target)); err != nil {
				t.Errorf("%s: %s leads nowhere", name, m[1])
				continue
			}
			if anchor != "" && !slices.ContainsFunc(headings(all[target]), func(h heading) bool { return anchorOf(h.text) == anchor }) {
				t.Errorf("%s: %s: no such heading", name, m[1])
			}
		}
		for _, m := range treePath.FindAllStringSubmatch(src, -1) {
			if hits, _ := filepath.Glob(filepath.Join("../..", m[1])); len(hits) == 0 && !regexp.MustCompile(`[A-Z]{3}`).MatchString(m[1]) {
				t.Errorf("%s names %s, which is not there", name, m[1])
			}
		}
		for _, m := range testName.FindAllStringSubmatch(src, -1) {
			if !hasTest(t, "*", m[1]) && !hasTest(t, "*/*", m[1]) {
				t.Errorf("%s names %s, and there is no such test", name, m[1])
			}
		}
		for _, m := range goTest.FindAllStringSubmatch(src, -1) {
			if !hasTest(t, m[1], m[2]) {
				t.Errorf("%s: %s: no test begins with %s", name, m[0], m[2])
			}
		}
		for _, line := range strings.Split(src, "\n") {
			for _, m := range makeWord.FindAllStringSubmatch(line, -1) {
				for _, target := range strings.Fields(m[1]) {
					if !regexp.MustCompile(`(?m)^` + target + `:`).Match(mk) {
						t.Errorf("%s: there is no make %s", name, target)
					}
				}
			}
		}
	}
}

func hasTest(t *testing.T, dir, prefix string) bool {
	files, _ := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "func "+prefix) || strings.Contains(string(b), "func Test"+prefix) ||
			regexp.MustCompile(`func (Test|Fuzz|Benchmark)\w*`+prefix).Match(b) {
			return true
		}
	}
	return false
}

// The guide to recipes says of each what it is for.
func TestGuideHasEveryRecipe(t *testing.T) {
	src := pages(t)["docs/recipes.md"]
	for _, r := range recipes.Library() {
		if !strings.Contains(src, "| `"+r.Name+"`") && !strings.Contains(src, ", `"+r.Name+"`") {
			t.Errorf("the table in docs/recipes.md has no line for %s", r.Name)
		}
	}
}

// The config that the guide to the Pi shows is enough for the recipes that it
// tells to run.
func TestPiGuideIsEnough(t *testing.T) {
	src := pages(t)["docs/pi.md"]
	_, block, _ := strings.Cut(src, "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	c, err := parseConfig("pi.md", []byte(block))
	if err != nil {
		t.Fatal(err)
	}
	facts := hostFacts(&c.Config.Hosts[0])
	b, err := dcui.NewBelief(facts)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, r := range recipes.Library() {
		if !strings.Contains(src, "recipe run "+r.Name) {
			continue
		}
		ran++
		p, err := r.Compile(b, recipes.Vars{})
		if err != nil {
			t.Fatal(err)
		}
		if v, err := p.Check(t.Context()); err != nil || v.Verdict != recipes.Safe {
			t.Errorf("%s with %v: %+v, %v", r.Name, facts, v, err)
		}
	}
	if ran < 2 {
		t.Errorf("only %d recipes are run on that page", ran)
	}
}

// What a page shows as YAML is a config or a recipe, or a part of one, and the
// strict parsers take it.
func TestYAMLInGuides(t *testing.T) {
	n := 0
	for name, src := range pages(t) {
		for i, block := range strings.Split(src, "```yaml\n")[1:] {
			yaml, _, ok := strings.Cut(block, "```")
			if !ok {
				t.Errorf("%s: block %d does not end", name, i+1)
				continue
			}
			n++
			where := fmt.Sprintf("%s, YAML %d", name, i+1)
			if err := parseShown(yaml); err != nil {
				t.Errorf("%s: %v", where, err)
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d blocks found", n)
	}
	for _, bad := range []string{"version: 1\nhosts: [{name: a, urll: x}]\n", "recipe: x\nsteps: [{zelect: y}]\n", "  - zelect: y\n", "vch: {bundel: x}\n"} {
		if parseShown(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func parseShown(yaml string) error {
	switch {
	case regexp.MustCompile(`(?m)^recipe:`).MatchString(yaml):
		// A table of the keys shows empty lists, which a recipe cannot have.
		yaml = strings.ReplaceAll(yaml, "steps: []", "steps: [anchor]")
		yaml = strings.ReplaceAll(yaml, "verify: []", "verify: [{screen: welcome}]")
		_, err := recipes.Parse("shown.yaml", []byte(yaml))
		return err
	case strings.HasPrefix(strings.TrimSpace(yaml), "- "):
		yaml = "recipe: shown\nsummary: shown\nrisk: destructive\nsecrets: {password: shown}\nsteps:\n" + strings.ReplaceAll(yaml, ": []", ": [anchor]")
		_, err := recipes.Parse("shown.yaml", []byte(yaml))
		return err
	}
	if !regexp.MustCompile(`(?m)^version:`).MatchString(yaml) {
		yaml = "version: 1\n" + yaml
	}
	_, err := parseConfig("shown.yaml", []byte(yaml))
	return err
}

// --- on the terminal

func TestGuidesFitTheTerminal(t *testing.T) {
	for _, g := range guides {
		for _, width := range []int{40, 80} {
			p := &page{}
			s := &sheet{p: p, width: width, link: guideLink}
			s.write(guideText(g.file))
			for _, line := range strings.Split(p.String(), "\n") {
				code := strings.HasPrefix(line, "    ") // may be pasted, so it is never wrapped
				if n := len([]rune(line)); n > width && !code && strings.Count(strings.TrimSpace(line), " ") > 3 {
					t.Errorf("%s at %d: a line of %d characters: %s", g.file, width, n, line)
				}
				if !code && (strings.Contains(line, "**") || strings.Contains(line, "](") || strings.HasPrefix(line, "#")) {
					t.Errorf("%s: a mark is left over: %s", g.file, line)
				}
			}
			if strings.Contains(p.String(), hardSpace) {
				t.Errorf("%s: a hard blank is left over", g.file)
			}
		}
	}
}

func TestMarkdown(t *testing.T) {
	src := "# One\n\n![x](y.png)\n\nText with `code`, **strong `too`** and *soft*,\nand a [link](pi.md).\n\n" +
		"* first\n  goes on\n* second\n\n    labctl version\n    labctl doctor\n\n| a | b |\n|---|---|\n| `x` | y\\|z |\n\n## Two\n\n```\n# no heading\n```\n"
	var p, c page
	c.colour = true
	for _, on := range []*page{&p, &c} {
		(&sheet{p: on, width: 60, link: guideLink}).write(src)
	}
	want := `One

  Text with code, strong too and soft, and a link (labctl
  help pi).

  - first goes on
  - second

    labctl version
    labctl doctor

  a  b
  x  y|z

Two

    # no heading
`
	want = strings.Replace(want, "(labctl\n  help pi)", "\n  (labctl help pi)", 1)
	if got := p.String(); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	stripped := strings.NewReplacer("\x1b[1m", "", "\x1b[2m", "", styleEnd, "").Replace(c.String())
	if stripped != p.String() || c.String() == p.String() {
		t.Errorf("with colour it is another text:\n%s", c.String())
	}
}
