package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/configs"
	"github.com/labctl/labctl/recipes"
	"github.com/labctl/labctl/recipes/dcui"
)

func (a *app) recipeCommand() *cobra.Command {
	return a.noun("recipe", "Recipes for the console: check them, rehearse them, type them",
		`A recipe says what to do at the console of a host that nobody sees. Labctl finds
the keys, follows them in every world that the facts leave over, and types them
only where every world ends as it should.

NAME is a recipe of the library (labctl recipe list), FILE one of your own: a
path with a slash in it, or one that ends in .yaml.`,
		"  labctl recipe check seed-restore-standard-switch\n  labctl recipe rehearse restore-standard-switch",
		a.recipeListCommand(), a.recipeShowCommand(), a.recipeCheckCommand(),
		a.recipeRunCommand(), a.recipeRehearseCommand(), a.recipeRecordCommand(),
		a.recipeExportCommand(), a.recipeImportCommand(), a.recipeSchemaCommand())
}

// isRecipeFile tells a path from a name of the library.
func isRecipeFile(arg string) bool {
	return strings.ContainsRune(arg, os.PathSeparator) || strings.HasSuffix(arg, ".yaml") || strings.HasSuffix(arg, ".yml")
}

// findRecipe reads a file, or looks a name up. Its errors have exit code 2.
func (a *app) findRecipe(arg string) (*recipes.Recipe, error) {
	if isRecipeFile(arg) {
		src, err := os.ReadFile(arg)
		if err != nil {
			return nil, usagef("read the recipe: %w", err)
		}
		r, err := recipes.Parse(arg, src)
		return r, a.recipeFault(err)
	}
	r, err := recipes.Find(arg)
	var missing *recipes.NotFoundError
	if !errors.As(err, &missing) {
		return r, err
	}
	err = usagef("no recipe is called %s", arg)
	if missing.Near != "" {
		return nil, hintf(hintf(err, "to list them: labctl recipe list"), "did you mean %s?", missing.Near)
	}
	if _, statErr := os.Stat(arg); statErr == nil {
		return nil, hintf(err, "a file is named with a slash: %s", "./"+arg)
	}
	return nil, hintf(err, "a file ends in .yaml or has a slash in its path; to list the recipes: labctl recipe list")
}

// recipeFault reports the faults of a recipe with their places and lines, and
// gives exit code 2; other errors pass.
func (a *app) recipeFault(err error) error {
	var bad recipes.Errors
	var fact *dcui.FactError
	switch {
	case errors.As(err, &bad):
		for _, e := range bad {
			a.sayPlace(e)
		}
		a.nextLine = "when it is corrected: " + a.again()
		return exitWith(exitUsage, nil)
	case errors.As(err, &fact), errors.Is(err, fs.ErrNotExist):
		return usagef("%w", err)
	}
	return err
}

// sayPlace prints one fault with its line and a caret below the column.
func (a *app) sayPlace(e *recipes.Error) {
	if e.Line < 1 {
		a.say("%s", e.Msg)
	} else {
		a.say("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
	}
	if line := []rune(e.Text); len(line) > 0 {
		col := min(max(e.Col-1, 0), len(line))
		for i, r := range line {
			if r == '\t' {
				line[i] = '→' // one column wide, and the usual culprit
			}
		}
		if from := max(0, col-100); from > 0 {
			line, col = line[from:], col-from
		}
		line = line[:min(len(line), 160)]
		a.stderrLines("", fmt.Sprintf("%5s | %s", strconv.Itoa(e.Line), string(line)))
		a.stderrLines("", fmt.Sprintf("%5s | %s%s", "", strings.Repeat(" ", col), a.errStyle(red, "^")))
	}
	if e.Hint != "" {
		a.hint("%s", e.Hint)
	}
}

// completeRecipes offers the library's names, and files beside them.
func completeRecipes(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if isRecipeFile(word) {
		return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
	}
	var out []string
	for _, r := range recipes.Library() {
		out = append(out, r.Name+"\t"+r.Summary)
	}
	return append(out, recipeFiles(word)...), cobra.ShellCompDirectiveDefault
}

// completeVars offers the variables of the recipe that is named.
func completeVars(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 || isRecipeFile(args[0]) || strings.Contains(word, "=") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	r, err := recipes.Find(args[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, v := range r.Vars {
		out = append(out, v.Name+"=\t"+v.Summary)
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// recipeInput is a secret or a variable in JSON.
type recipeInput struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
	Kind    string `json:"kind,omitempty"`
	Default string `json:"default,omitempty"`
}

// recipeHead is what a recipe says of itself. The JSON is a contract.
type recipeHead struct {
	Name     string            `json:"name"`
	Summary  string            `json:"summary"`
	Risk     string            `json:"risk"`
	ESXi     string            `json:"esxi"`
	Requires map[string]string `json:"requires"`
	Secrets  []recipeInput     `json:"secrets"`
	Vars     []recipeInput     `json:"vars"`
}

func headOf(r *recipes.Recipe) recipeHead {
	h := recipeHead{Name: r.Name, Summary: r.Summary, Risk: string(r.Risk), ESXi: r.ESXi, Requires: r.Requires, Secrets: []recipeInput{}, Vars: []recipeInput{}}
	if h.Requires == nil {
		h.Requires = map[string]string{}
	}
	for _, s := range r.Secrets {
		h.Secrets = append(h.Secrets, recipeInput{s.Name, s.Summary, s.Kind, ""})
	}
	for _, v := range r.Vars {
		h.Vars = append(h.Vars, recipeInput{v.Name, v.Summary, v.Kind, v.Default})
	}
	return h
}

type recipeListResult struct {
	Version int          `json:"version"`
	Recipes []recipeHead `json:"recipes"`
}

func (a *app) recipeListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "The recipes that come with labctl",
		Long: `List shows the library: what each recipe does, what it may cost, and the versions
of ESXi that it is for. The risk is what the recipe says of itself; labctl recipe
check goes by what its keys do.`,
		Example: "  labctl recipe list",
		Args:    argsBetween(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			v := recipeListResult{1, []recipeHead{}}
			for _, r := range recipes.Library() {
				v.Recipes = append(v.Recipes, headOf(r))
			}
			a.next("what one does, and whether it is right", "recipe", "check", "restore-standard-switch")
			return a.result(v, func(p *page) {
				t := table{header: []string{"RECIPE", "RISK", "ESXI", "WHAT IT DOES"}}
				for _, r := range v.Recipes {
					t.row(riskStyle(r.Risk), r.Name, dash(r.Risk), dash(r.ESXi), r.Summary)
				}
				t.write(p)
			})
		},
	}
}

func riskStyle(risk string) style {
	switch recipes.Risk(risk) {
	case recipes.Destructive:
		return red
	case recipes.Disruptive:
		return yellow
	}
	return plain
}

// compiling are the flags from which a recipe becomes a program.
type compiling struct {
	facts  []string
	vars   []string
	layout string
	keypad bool
}

func (f *compiling) add(a *app, c *cobra.Command) {
	a.factFlags(c, &f.facts)
	fs := c.Flags()
	fs.StringArrayVar(&f.vars, "var", nil, "value of a variable, `NAME=VALUE`; repeat for more")
	fs.StringVar(&f.layout, "layout", "", "keyboard `LAYOUT` of the host's console, by ESXi's name or a short one (default: what the facts say, else us)")
	fs.BoolVar(&f.keypad, "keypad", false, "type by its code on the keypad what no key gives, where the console takes that")
	c.RegisterFlagCompletionFunc("layout", completeLayouts)
	c.RegisterFlagCompletionFunc("var", completeVars)
	c.ValidArgsFunction = completeRecipes
}

// values gives what the flags say to the compiler; its errors have exit code 2.
func (f *compiling) values(r *recipes.Recipe) (recipes.Vars, error) {
	v := recipes.Vars{Values: map[string]string{}, Keypad: f.keypad}
	for _, g := range f.vars {
		name, value, ok := strings.Cut(g, "=")
		if !ok {
			return v, usagef("--var %s: want NAME=VALUE", g)
		}
		if old, twice := v.Values[name]; twice && old != value {
			return v, usagef("--var %s is given twice", name)
		}
		names := []string{}
		for _, in := range r.Secrets {
			if in.Name == name {
				return v, hintf(usagef("--var %s: that is a secret, and a command line is no place for one", name), "%s", secretSources(name))
			}
		}
		for _, in := range r.Vars {
			names = append(names, in.Name)
		}
		if !slices.Contains(names, name) {
			err := usagef("--var %s: recipe %s has no such variable", name, r.Name)
			switch near := nearest(name, names); {
			case near != "":
				return v, hintf(err, "did you mean %s?", near)
			case len(names) > 0:
				return v, hintf(err, "it has %s", strings.Join(names, ", "))
			}
			return v, hintf(err, "it has none")
		}
		v.Values[name] = value
	}
	if f.layout != "" {
		l, err := findLayout(f.layout)
		if err != nil {
			return v, err
		}
		v.Layout = l.Short()
	}
	return v, nil
}

// compile turns a recipe into a program for the worlds that facts leave.
func (a *app) compile(r *recipes.Recipe, facts map[string]string, v recipes.Vars) (*recipes.Program, error) {
	b, err := r.Belief(facts)
	if err != nil {
		return nil, a.recipeFault(err)
	}
	p, err := r.Compile(b, v)
	return p, a.recipeFault(err)
}

// judged is a verdict in JSON, under its version. The JSON is a contract.
type judged struct {
	Version int `json:"version"`
	*judgement
}

// judgement is a verdict under a name that does not hide its own field Verdict.
type judgement = recipes.Verdict

func newJudged(v *recipes.Verdict) judged {
	if v.Keys == nil {
		v.Keys = []string{}
	}
	if v.Missing == nil {
		v.Missing = []recipes.Missing{}
	}
	for i := range v.Worlds {
		if v.Worlds[i].Facts == nil {
			v.Worlds[i].Facts = map[string]string{}
		}
	}
	return judged{1, v}
}

func (a *app) recipeCheckCommand() *cobra.Command {
	var f compiling
	var screens bool
	c := &cobra.Command{
		Use: "check NAME|FILE", Short: "Follow a recipe's keys in every world, and judge",
		Long: `Check compiles a recipe for what is known of the host and follows its keys in
every world that this leaves over: each version, each state of the menus, each
place where the console may have stood. It needs no values and asks for nothing.

Safe (exit 0): every world reaches the goal. Needs facts (exit 3): no world comes
to harm, but some miss the goal, or no keys are right in all of them. Unsafe
(exit 7): in some world the keys destroy what they are not for, or show a secret.
What would settle it is named, with the way to learn it.`,
		Example: "  labctl recipe check seed-restore-standard-switch --screens\n  labctl recipe check ./mine.yaml --fact esxi=6.7 --fact management=distributed",
		Args:    argsBetween(1, 1, "the name of a recipe, or a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, verdict, facts, err := a.check(cmd, args[0], &f)
			if err != nil {
				return err
			}
			if err := a.result(newJudged(verdict), func(p *page) { a.writeVerdict(p, verdict, facts, f.layout, screens) }); err != nil {
				return err
			}
			a.sayNotes(verdict)
			a.afterVerdict(args[0], cmd.Flag("host").Value.String(), verdict)
			return verdictExit(verdict)
		},
	}
	f.add(a, c)
	c.Flags().BoolVar(&screens, "screens", false, "show the screens on which the worlds end")
	return c
}

// check is the part that check and show share.
func (a *app) check(cmd *cobra.Command, arg string, f *compiling) (*recipes.Recipe, *recipes.Verdict, map[string]string, error) {
	r, err := a.findRecipe(arg)
	if err != nil {
		return nil, nil, nil, err
	}
	facts, err := a.consoleFacts(cmd, f.facts)
	if err != nil {
		return nil, nil, nil, err
	}
	v, err := f.values(r)
	if err != nil {
		return nil, nil, nil, err
	}
	if v.Idle, err = a.learnedIdle(cmd); err != nil {
		return nil, nil, nil, err
	}
	p, err := a.compile(r, facts, v)
	if err != nil {
		return nil, nil, nil, err
	}
	verdict, err := p.Check(cmd.Context())
	return r, verdict, facts, a.recipeFault(err)
}

// verdictExit is the exit code that a verdict stands for.
func verdictExit(v *recipes.Verdict) error {
	switch v.Verdict {
	case recipes.Unsafe:
		return exitWith(exitUnsafe, nil)
	case recipes.NeedsFacts:
		return exitWith(exitPending, nil)
	}
	return nil
}

// sayNotes prints what a verdict wants looked at, with its places.
func (a *app) sayNotes(v *recipes.Verdict) {
	for _, n := range v.Notes {
		a.sayPlace(n)
	}
}

func (a *app) recipeShowCommand() *cobra.Command {
	var f compiling
	var source bool
	c := &cobra.Command{
		Use: "show NAME|FILE", Short: "A recipe's file, its keys, and where they lead",
		Long: `Show prints a recipe as it is written, the keys that it comes to for what is known
of the host, and where they end in every world that this leaves over. It types
nothing, asks for nothing, and passes no judgement: that is labctl recipe check.`,
		Example: "  labctl recipe show restore-standard-switch --fact management=distributed\n  labctl recipe show enable-ssh --source > mine.yaml",
		Args:    argsBetween(1, 1, "the name of a recipe, or a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if source {
				r, err := a.findRecipe(args[0])
				if err != nil {
					return err
				}
				_, err = a.stdout.Write(r.Source)
				return err
			}
			r, verdict, facts, err := a.check(cmd, args[0], &f)
			if err != nil {
				return err
			}
			a.nextLine = "whether it is right for a host: " + a.like("recipe", "check", args[0])
			return a.result(newShown(r, verdict), func(p *page) {
				for line := range strings.SplitSeq(strings.TrimRight(string(r.Source), "\r\n"), "\n") {
					p.printf("%s\n", strings.TrimSuffix(line, "\r"))
				}
				p.printf("\n")
				p.flow(p.paint(bold, "keys")+"  ", 6, 6, strings.Join(verdict.Keys, " "))
				if len(facts) == 0 {
					p.flow("      ", 6, 6, "for a host of which nothing is known; --fact and --host say more")
				}
				p.printf("\n")
				a.writeWorlds(p, verdict)
			})
		},
	}
	f.add(a, c)
	c.Flags().BoolVar(&source, "source", false, "the file alone, to begin one of your own with")
	return c
}

func (a *app) recipeSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON schema of a recipe's file",
		Long: `Schema prints the JSON schema of recipes. Editors that speak the YAML language
server complete and check a recipe with it.`,
		Example: "  labctl recipe schema > recipe.schema.json",
		Args:    argsBetween(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(a.stdout, configs.RecipeSchema)
			return err
		},
	}
}

// recipeShown is recipe show in JSON.
type recipeShown struct {
	Version int `json:"version"`
	recipeHead
	Source  string            `json:"source"`
	Recipe  string            `json:"recipe"`
	Verdict recipes.Kind      `json:"verdict"`
	Keys    []string          `json:"keys"`
	Worlds  []recipes.Ending  `json:"worlds"`
	Missing []recipes.Missing `json:"missing"`
}

func newShown(r *recipes.Recipe, v *recipes.Verdict) recipeShown {
	j := newJudged(v)
	return recipeShown{1, headOf(r), string(r.Source), v.Recipe, v.Verdict, j.Keys, v.Worlds, j.Missing}
}

// destination is where some of the worlds end.
type destination struct {
	effect, end, why string
	ok, harm         bool
	endings          []recipes.Ending
}

// typical is one of the worlds, rather one in which the console stood at its
// welcome screen, and rather one that takes few facts to name.
func (d *destination) typical() recipes.Ending {
	return slices.MinFunc(d.endings, func(x, y recipes.Ending) int {
		if fx, fy := fromWelcome(&x), fromWelcome(&y); fx != fy {
			if fx {
				return -1
			}
			return 1
		}
		return len(x.Facts) - len(y.Facts)
	})
}

// usual says whether the welcome screen leads here.
func (d *destination) usual() bool {
	t := d.typical()
	return fromWelcome(&t)
}

// destinations sorts worlds by where they end, the harmful ones first, the
// right ones last, and of both those first that a console at its welcome screen
// leads to.
func destinations(v *recipes.Verdict) []*destination {
	var all []*destination
	for _, e := range v.Worlds {
		i := slices.IndexFunc(all, func(d *destination) bool {
			return d.effect == e.Worst() && d.end == e.End && d.ok == e.OK && d.why == e.Why
		})
		if i < 0 {
			i = len(all)
			all = append(all, &destination{effect: e.Worst(), end: e.End, why: e.Why, ok: e.OK, harm: e.Harm})
		}
		all[i].endings = append(all[i].endings, e)
	}
	rank := func(d *destination) int {
		switch {
		case d.harm:
			return 0
		case d.ok:
			return 2
		}
		return 1
	}
	slices.SortStableFunc(all, func(x, y *destination) int {
		if d := rank(x) - rank(y); d != 0 {
			return d
		}
		if usualX, usualY := x.usual(), y.usual(); usualX != usualY {
			if usualX {
				return -1
			}
			return 1
		}
		return len(y.endings) - len(x.endings)
	})
	return all
}

// valuesOf gives the values that a fact has in some endings, in the model's
// order; nil where one of them leaves it open, as it makes no difference there.
func valuesOf(fact string, endings []recipes.Ending) []string {
	found := map[string]bool{}
	for _, e := range endings {
		v, ok := e.Facts[fact]
		if !ok {
			return nil
		}
		found[v] = true
	}
	return slices.DeleteFunc(dcui.FactValues(fact), func(v string) bool { return !found[v] })
}

// where describes some endings by the facts that all of them need: with any
// other value a world ends elsewhere.
func where(endings, all []recipes.Ending) string {
	names := map[string]bool{}
	for _, e := range all {
		for n := range e.Facts {
			names[n] = true
		}
	}
	var out []string
	for _, n := range dcui.FactNames() {
		if !names[n] {
			continue
		}
		every := map[string]bool{}
		for _, e := range all {
			if v, ok := e.Facts[n]; ok {
				every[v] = true
			}
		}
		if vals := valuesOf(n, endings); vals != nil && len(vals) < len(every) {
			out = append(out, n+"="+valueList(n, vals))
		}
	}
	return strings.Join(out, ", ")
}

// valueList joins values; a run of versions, or nearly all of a long list, is
// said shorter.
func valueList(fact string, vals []string) string {
	known := dcui.FactValues(fact)
	if len(vals) == len(known) && len(vals) > 6 {
		return fmt.Sprintf("any of %d", len(known))
	}
	first := slices.Index(known, vals[0])
	if fact == "esxi" && len(vals) > 2 && slices.Equal(vals, known[first:first+len(vals)]) {
		return vals[0] + "…" + vals[len(vals)-1]
	}
	if rest := slices.DeleteFunc(slices.Clone(known), func(v string) bool { return slices.Contains(vals, v) }); len(vals) > 6 && len(rest) <= 4 {
		return "any but " + strings.Join(rest, "|")
	}
	if len(vals) > 8 {
		return fmt.Sprintf("%s|… (%d of %d)", strings.Join(vals[:6], "|"), len(vals), len(known))
	}
	return strings.Join(vals, "|")
}

func factWords(facts map[string]string) string {
	var out []string
	for _, n := range dcui.FactNames() {
		if v, ok := facts[n]; ok {
			out = append(out, n+"="+v)
		}
	}
	return strings.Join(out, " ")
}

func worldCount(n int) string {
	if n == 1 {
		return "1 world"
	}
	return fmt.Sprintf("%d worlds", n)
}

// maxPlaces is how many destinations of a verdict are shown one by one.
const maxPlaces = 8

func (a *app) writeVerdict(p *page, v *recipes.Verdict, facts map[string]string, layout string, screens bool) {
	switch v.Verdict {
	case recipes.Safe:
		p.flow(v.Recipe+" is "+p.paint(green, "safe"), utf8.RuneCountInString(v.Recipe)+8, 2, ": every world that the facts leave reaches the goal")
	case recipes.Unsafe:
		p.printf("%s is %s\n", v.Recipe, p.paint(red, "unsafe"))
		for _, why := range dangers(v) {
			p.flow("  "+p.paint(red, "✗")+" ", 4, 4, why)
		}
	default:
		p.flow(v.Recipe+" "+p.paint(yellow, "needs facts"), utf8.RuneCountInString(v.Recipe)+12, 2, ": no world comes to harm, but not every one reaches the goal")
	}
	p.printf("\n")
	p.flow(p.paint(bold, "keys")+"  ", 6, 6, strings.Join(v.Keys, " "))
	if len(v.Keys) == 0 {
		p.flow("", 0, 6, "      no keys are right in any world that the facts leave")
	}
	p.printf("\n")
	if v.Verdict == recipes.Unsafe {
		writeComparison(p, v, facts, layout)
	}
	a.writeWorlds(p, v)
	if screens {
		a.writeScreens(p, v)
	}
	if v.Verdict == recipes.Safe || len(v.Missing) == 0 {
		return
	}
	p.printf("\n%s\n", p.paint(bold, "what would settle it"))
	for _, m := range v.Missing {
		text := ""
		if len(m.Splits) > 0 {
			text = " " + valueList(m.Fact, m.Splits)
		}
		if m.Why != "" {
			text += " (" + m.Why + ")"
		}
		p.flow("  "+p.paint(bold, m.Fact)+"  ", len(m.Fact)+4, 6, text)
		if m.Probe != "" {
			p.flow("      ", 6, 6, m.Probe)
		}
	}
	p.printf("\n")
	p.flow("", 0, 0, "give what is known as "+example(v)+", or in the config as facts of the host")
}

// example gives the missing facts as flags, with the values of a host for which
// the recipe does most, where there is one that it is right for.
func example(v *recipes.Verdict) string {
	var facts map[string]string
	most := -1
	for _, d := range destinations(v) { // the usual ones first
		one := d.typical()
		if done := int(one.World.Effect()); d.ok && done > most {
			most, facts = done, one.Facts
		}
	}
	var flags []string
	for _, m := range v.Missing {
		if value := facts[m.Fact]; value != "" {
			flags = append(flags, "--fact "+m.Fact+"="+value)
		}
	}
	if len(flags) == 0 {
		return "--fact NAME=VALUE"
	}
	return strings.Join(flags, " ")
}

// dangers says in words why a verdict is unsafe.
func dangers(v *recipes.Verdict) []string {
	var why, effects []string
	for _, d := range destinations(v) {
		if d.harm && !slices.Contains(effects, d.effect) {
			effects = append(effects, d.effect)
		}
	}
	if len(effects) > 0 {
		why = append(why, "in some worlds it ends with what it is not for: "+strings.Join(effects, ", "))
	}
	if slices.Contains(v.Risks, "open-secret") {
		why = append(why, "in some worlds a secret is typed where everybody can read it")
	}
	if slices.Contains(v.Risks, "idle-logout") {
		why = append(why, "it takes so long that the console may have logged out before the last key")
	}
	return why
}

// writeWorlds tells where the worlds end.
func (a *app) writeWorlds(p *page, v *recipes.Verdict) {
	all := destinations(v)
	harmed, right := 0, 0
	for _, d := range all {
		switch {
		case d.harm:
			harmed += len(d.endings)
		case d.ok:
			right += len(d.endings)
		}
	}
	sum := worldCount(len(v.Worlds))
	if n := len(v.Worlds); right < n {
		sum += fmt.Sprintf(": %d reach the goal, %d miss it", right, n-right-harmed)
		if harmed > 0 {
			sum += fmt.Sprintf(", %d come to harm", harmed)
		}
	}
	p.flow(p.paint(bold, "worlds")+"  ", 8, 8, sum)
	for i, d := range all {
		if i == maxPlaces && len(all) > maxPlaces+1 {
			rest := 0
			for _, d := range all[i:] {
				rest += len(d.endings)
			}
			p.printf("  and %d more in %d other places; -o json has them all\n", rest, len(all)-i)
			break
		}
		mark, st := "✗", yellow
		switch {
		case d.ok:
			mark, st = "✓", green
		case d.harm:
			st = red
		}
		text := fmt.Sprintf(", at %s: %s", d.end, worldCount(len(d.endings)))
		if !d.ok && d.why != "" {
			text += " (" + d.why + ")"
		}
		p.flow("  "+p.paint(st, mark)+" "+p.paint(st, d.effect), 4+len(d.effect), 6, text)
		if s := where(d.endings, v.Worlds); s != "" {
			p.flow("      ", 6, 8, "only with "+s)
		}
		if len(d.endings) > 1 {
			if s := factWords(d.typical().Facts); s != "" {
				p.flow("      ", 6, 8, "such as "+s)
			}
		}
	}
}

// writeScreens shows one screen of each destination.
func (a *app) writeScreens(p *page, v *recipes.Verdict) {
	ab := a.ability(a.stdout)
	for i, d := range destinations(v) {
		if i == maxPlaces {
			break
		}
		few := d.typical()
		s := few.Screen()
		c := newCanvas(dcui.Columns+2, dcui.Rows+2)
		frame(c, 0, 0, c.w, c.h, d.end+": "+d.effect)
		c.blit(1, 1, dcui.Columns, dcui.Rows, &s)
		p.printf("\n")
		if words := factWords(few.Facts); words != "" {
			p.printf("%s\n", words)
		}
		if !p.colour {
			p.WriteString(c.text())
			continue
		}
		for y := range c.h {
			p.WriteString(c.line(y, ab) + "\n")
		}
	}
}

// mergeFacts lays facts over others.
func mergeFacts(base, over map[string]string) map[string]string {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, over)
	return out
}
