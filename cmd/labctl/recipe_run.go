package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/recipes"
	"github.com/labctl/labctl/recipes/dcui"
)

// running are the flags of run and rehearse.
type running struct {
	compiling
	keyboard    string
	secretFiles []string
	accept      []string
	speed       float64
	dryRun      bool
	watcher     bool
	powerOn     bool
	noMirror    bool
	screens     string
}

func (f *running) add(a *app, c *cobra.Command) {
	f.compiling.add(a, c)
	fs := c.Flags()
	fs.StringVar(&f.keyboard, "keyboard", "", "`URI` of the keyboard: "+keyboardForms+" (default: that of --host)")
	fs.StringArrayVar(&f.secretFiles, "secret-file", nil, "read a secret from a file, `NAME=FILE`; repeat for more")
	fs.StringSliceVar(&f.accept, "accept-risk", nil, "type although the check finds this `RISK`: an effect, as in all-networking-wiped")
	c.RegisterFlagCompletionFunc("accept-risk", completeRisks)
	fs.BoolVar(&f.dryRun, "dry-run", false, "say what would be typed, and open no keyboard")
	fs.BoolVar(&f.noMirror, "no-mirror", false, "lines instead of the picture on a terminal")
}

func (a *app) recipeRunCommand() *cobra.Command {
	var f running
	c := &cobra.Command{
		Use: "run NAME|FILE --host HOST", Short: "Type a recipe into a host",
		Long: `Run checks the recipe for what is known of the host and types it, key by key, if
every world reaches the goal; then it verifies. While it types, a terminal shows
the steps and the screen that the host should show by now. Nothing is typed where
the check does not say safe (exit 7), unless each risk is accepted by its name.

The secret password is the host's (password_command and the like in the config),
else LABCTL_PASSWORD; any other comes from --secret-file or LABCTL_SECRET_NAME.
What is not given is asked for on the terminal.

Exit code 5: nothing was typed. 6: keys have arrived, or may have, and the goal
was not seen.`,
		Example: "  sudo labctl recipe run restore-standard-switch --host nuc01\n  labctl recipe run enable-ssh --keyboard sim: --yes",
		Args:    argsBetween(1, 1, "the name of a recipe, or a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runRecipe(cmd, args[0], &f, false)
		},
	}
	f.add(a, c)
	c.Flags().BoolVar(&f.powerOn, "power-on", false, powerOnUsage)
	c.Flags().BoolVar(&f.watcher, "wait-for-watcher", false, "send nothing before a watcher at the other end (hid watch) has given its sign")
	return c
}

func (a *app) recipeRehearseCommand() *cobra.Command {
	var f running
	c := &cobra.Command{
		Use: "rehearse NAME|FILE", Short: "Play a recipe on a simulated host, or on one that can be watched",
		Long: `Rehearse types the recipe into the model of the console inside labctl, where
nothing can come to harm and nothing is asked. What no fact says of the simulated
host is as on a usual one that the recipe is for. On a terminal it goes at the
pace of a real run, divided by --speed; elsewhere without a pause.

--keyboard vm://HOST/VM rehearses on a nested host instead, and asks first.`,
		Example: "  labctl recipe rehearse restore-standard-switch\n  labctl recipe rehearse enable-ssh --fact esxi=8.0 --speed 3",
		Args:    argsBetween(1, 1, "the name of a recipe, or a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runRecipe(cmd, args[0], &f, true)
		},
	}
	f.add(a, c)
	c.Flags().StringVar(&f.screens, "screenshots", "", "keep a picture of the screen before each step and at the end in this `DIR`, with --keyboard vm://")
	c.Flags().Float64Var(&f.speed, "speed", 0, "`FACTOR` by which every pause is shorter (default 1 on a terminal, elsewhere there are no pauses)")
	return c
}

// riskName is the name by which an effect is accepted.
func riskName(effect string) string { return strings.ReplaceAll(effect, " ", "-") }

// otherRisks are the names of risks that are no effects.
var otherRisks = []string{"idle-logout", "missed-goal", "open-secret"}

// riskNames lists what --accept-risk takes.
func riskNames() []string {
	names := slices.Clone(otherRisks)
	for e := dcui.PingTest; e <= dcui.SystemReset; e++ {
		names = append(names, riskName(e.String()))
	}
	return names
}

// completeRisks offers those of the recipe that is named, by what its check
// finds with nothing given.
func completeRisks(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 || isRecipeFile(args[0]) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	r, err := recipes.Find(args[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	b, err := r.Belief(nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	p, err := r.Compile(b, recipes.Vars{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	v, err := p.Check(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return v.Risks, cobra.ShellCompDirectiveNoFileComp
}

// risks judges the names that were given.
func (f *running) risks() ([]string, error) {
	var out []string
	names := riskNames()
	for _, r := range f.accept {
		name := riskName(strings.TrimSpace(r))
		if !slices.Contains(names, name) {
			err := usagef("--accept-risk %s: no such risk", r)
			if near := nearest(name, names); near != "" {
				return nil, hintf(err, "did you mean %s?", near)
			}
			return nil, hintf(err, "labctl recipe check names the risks of a recipe")
		}
		out = append(out, name)
	}
	return out, nil
}

// job is a recipe on its way to a keyboard.
type job struct {
	recipe   *recipes.Recipe
	arg      string    // as it was named
	host     *HostConf // nil where none is named
	uri      string
	facts    map[string]string // known of the host, and of the simulated one
	places   []string          // kinds of switch that management may be on, where facts leave it open; nil for any
	sim      bool              // the model inside labctl
	screens  string            // folder for pictures of the screen, "" for none
	rehearse bool
	noDevice error // the path that --keyboard gives is no keyboard's; told once the verdict is safe
	vars     recipes.Vars
	verdict  *recipes.Verdict
	program  *recipes.Program
}

// name is what the job's host is called.
func (j *job) name() string {
	switch {
	case j.sim:
		return "a simulated host"
	case j.host != nil:
		return j.host.Name
	}
	return "the host behind " + j.uri
}

// prepare finds recipe, host, keyboard and facts, and judges the program before
// any secret is known.
func (a *app) prepare(cmd *cobra.Command, arg string, f *running, rehearse bool) (*job, error) {
	r, err := a.findRecipe(arg)
	if err != nil {
		return nil, err
	}
	j := &job{recipe: r, arg: arg, rehearse: rehearse, screens: f.screens}
	if j.vars, err = f.values(r); err != nil {
		return nil, err
	}
	if j.vars.Accept, err = f.risks(); err != nil {
		return nil, err
	}
	if err := a.findKeyboard(cmd, f, j); err != nil {
		return nil, err
	}
	given, err := parseFacts(f.facts)
	if err != nil {
		return nil, err
	}
	if j.host != nil {
		j.vars.Pace = j.host.Pace.pace()
		if j.facts, j.vars.Idle, err = a.knownFacts(j.host); err != nil {
			return nil, err
		}
	}
	j.facts = mergeFacts(j.facts, given)
	if j.program, err = a.compile(r, j.facts, j.vars); err != nil {
		return nil, err
	}
	if j.verdict, err = j.program.Check(cmd.Context()); err != nil {
		return nil, a.recipeFault(err)
	}
	if j.sim && j.verdict.Verdict != recipes.Safe && !accepted(j) {
		return j, a.settle(cmd.Context(), j)
	}
	return j, nil
}

// settle puts a rehearsal on a host that the recipe is right for, with values
// for facts that nobody gave, as a real host has them. They are only as many as
// it takes, so that the rehearsal shows what the others leave open. The facts
// that were given stay; where they make it wrong, the verdict stands.
func (a *app) settle(ctx context.Context, j *job) error {
	usual, err := a.usualHost(ctx, j)
	if err != nil {
		return err
	}
	facts := maps.Clone(j.facts)
	for name := range j.recipe.Requires {
		facts[name] = usual[name]
	}
	for {
		p, err := a.compile(j.recipe, facts, j.vars)
		if err != nil {
			return err
		}
		v, err := p.Check(ctx)
		if err != nil {
			return a.recipeFault(err)
		}
		if v.Verdict == recipes.Safe {
			if j.verdict.Verdict == recipes.Unsafe {
				a.warn("%s is right on this simulated host and unsafe on others: labctl recipe check %s", j.recipe.Name, j.arg)
			}
			j.facts, j.program, j.verdict = facts, p, v
			return nil
		}
		open := slices.IndexFunc(v.Missing, func(m recipes.Missing) bool { return facts[m.Fact] == "" && m.Fact != "esxi" })
		switch {
		case open >= 0:
			facts[v.Missing[open].Fact] = usual[v.Missing[open].Fact]
		case facts["esxi"] == "":
			facts["esxi"] = usual["esxi"]
		case len(facts) < len(usual):
			facts = usual
		default:
			return nil
		}
	}
}

// usualHost gives every fact of a host that a recipe has something to do on: of
// the usual version, or else of the newest, with the console where it usually
// stands.
func (a *app) usualHost(ctx context.Context, j *job) (map[string]string, error) {
	versions := dcui.FactValues("esxi")
	slices.Reverse(versions)
	usual := slices.Index(versions, "7.0")
	versions = slices.Concat(versions[usual:usual+1], versions[:usual], versions[usual+1:])
	best := j.verdict
	pinned := j.facts
	for _, version := range versions {
		facts := mergeFacts(map[string]string{"esxi": version, "screen": "welcome"}, j.facts)
		p, err := a.compile(j.recipe, facts, j.vars)
		if err != nil {
			return nil, err
		}
		v, err := p.Check(ctx)
		if err != nil {
			return nil, a.recipeFault(err)
		}
		if slices.ContainsFunc(v.Worlds, func(e recipes.Ending) bool { return e.OK }) {
			best, pinned = v, facts
			break
		}
	}
	facts, err := simulated(j.recipe, pinned, best)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return facts, nil
}

// simulated gives every fact of the host that a recipe is rehearsed on: as
// given, else as the recipe needs it to have something to do, else as usual.
func simulated(r *recipes.Recipe, given map[string]string, v *recipes.Verdict) (map[string]string, error) {
	w, err := dcui.NewWorld(nil)
	if err != nil {
		return nil, err
	}
	usual := w.Facts()
	facts := map[string]string{}
	for name, value := range r.Requires {
		facts[name], _, _ = strings.Cut(value, "|")
	}
	var best *recipes.Ending
	score := 0
	for i := range v.Worlds {
		e := &v.Worlds[i]
		if !e.OK {
			continue
		}
		n := 100 * int(e.World.Effect())
		for name, value := range e.Facts {
			if usual[name] != value {
				n--
			}
		}
		if best == nil || n > score {
			best, score = e, n
		}
	}
	if best != nil {
		maps.Copy(facts, best.Facts)
	}
	maps.Copy(facts, given)
	if w, err = dcui.NewWorld(facts); err != nil {
		return nil, err
	}
	return w.Facts(), nil
}

// standIns are values of variables for a rehearsal. The addresses are those of
// RFC 5737.
var standIns = map[string]string{
	"text": "text", "number": "1", "ipv4": "192.0.2.20", "netmask": "255.255.255.0", "vlan": "20", "hostname": "nuc02.lab.local",
}

// fillVars sees that each variable has a value before anything is typed.
func (a *app) fillVars(j *job) error {
	for _, in := range j.recipe.Vars {
		if _, ok := j.vars.Values[in.Name]; ok || in.Default != "" || in.Optional {
			continue
		}
		if !j.sim {
			return hintf(usagef("variable %s of recipe %s has no value", in.Name, j.recipe.Name), "--var %s=…: %s", in.Name, in.Summary)
		}
		value := standIns[in.Kind]
		if value == "" {
			value = standIns["text"]
		}
		j.vars.Values[in.Name] = value
		a.say("%s is %s in this rehearsal; --var %s=… gives another", in.Name, value, in.Name)
	}
	return nil
}

// findKeyboard decides which host is meant and how keys reach it: --host, else
// the host whose keyboard --keyboard names, else for run the only one of the
// config. A rehearsal goes to the model unless a keyboard is named.
func (a *app) findKeyboard(cmd *cobra.Command, f *running, j *job) error {
	j.uri = f.keyboard
	if j.rehearse && j.uri == "" {
		j.uri = "sim:"
	}
	name := cmd.Flag("host").Value.String()
	if name == "" && j.uri == "sim:" { // the model needs no config
		j.sim = true
		return nil
	}
	s, err := a.settings()
	if err != nil {
		return err
	}
	switch {
	case name != "":
		if j.host, err = a.configuredHost(name); err != nil {
			return err
		}
	case j.uri != "":
		if i := slices.IndexFunc(s.Hosts, func(h HostConf) bool { return h.Keyboard == j.uri }); i >= 0 {
			j.host = &s.Hosts[i]
		}
	case len(s.Hosts) == 1:
		j.host = &s.Hosts[0]
	case len(s.Hosts) > 1:
		var names []string
		for _, h := range s.Hosts {
			names = append(names, h.Name)
		}
		return usagef("--host is missing: the config holds %s", strings.Join(names, ", "))
	default:
		return hintf(usagef("no host is named"), "--host takes one of the config, --keyboard names the keyboard itself: %s", keyboardForms)
	}
	if j.uri == "" {
		if j.uri = j.host.Keyboard; j.uri == "" {
			return hintf(usagef("host %s has no keyboard in the config", j.host.Name), "--keyboard names one: %s", keyboardForms)
		}
	}
	j.sim = j.uri == "sim:"
	u, err := parseKeyboardURI(j.uri)
	if u.kind == "gadget" {
		// A verdict that is not safe comes before anything about the device.
		j.noDevice, err = err, nil
	}
	return err
}

// refuse ends a run that is not safe, before anything is asked or opened. The
// verdict is the result.
func (a *app) refuse(j *job) error {
	v := j.verdict
	if err := a.result(newJudged(v), func(p *page) { a.writeVerdict(p, v, j.facts, j.vars.Layout, false) }); err != nil {
		return err
	}
	a.sayNotes(v)
	host := ""
	if j.host != nil {
		host = j.host.Name
	}
	a.afterVerdict(j.arg, host, v)
	refusal := exitWith(exitUnsafe, &recipes.UnsafeError{Verdict: v})
	if len(v.Risks) > 0 && !j.rehearse {
		return hintf(refusal, "a fact that settles it is the way; who knows better accepts each risk by name, which labctl help NAME explains: --accept-risk %s", strings.Join(v.Risks, ","))
	}
	return refusal
}

func (a *app) runRecipe(cmd *cobra.Command, arg string, f *running, rehearse bool) (err error) {
	ctx := cmd.Context()
	if cmd.Flags().Changed("speed") && f.speed <= 0 {
		return usagef("--speed %v: pauses are divided by it, so it is more than nothing", f.speed)
	}
	j, err := a.prepare(cmd, arg, f, rehearse)
	if err != nil {
		return err
	}
	if f.powerOn && len(j.recipe.Secrets) > 0 {
		return usagef("--power-on: firmware takes these keys, and recipe %s types secret %s", j.recipe.Name, j.recipe.Secrets[0].Name)
	}
	if j.verdict.Verdict != recipes.Safe && !accepted(j) {
		return a.refuse(j)
	}
	if j.noDevice != nil {
		return j.noDevice
	}
	if f.dryRun {
		a.afterVerdict(j.arg, "", j.verdict)
		return a.result(newJudged(j.verdict), func(p *page) { a.writeVerdict(p, j.verdict, j.facts, j.vars.Layout, false) })
	}
	if f.speed > 0 && !j.sim && f.speed != 1 {
		return hintf(usagef("--speed is for the simulated host"), "a recipe's own pace: keys says how fast a host takes them")
	}

	if err := a.fillVars(j); err != nil {
		return err
	}
	if j.vars.Secrets, err = a.recipeSecrets(ctx, j, f); err != nil {
		return err
	}
	if j.vars.Prober, err = a.newProber(j); err != nil {
		return err
	}
	if c, ok := j.vars.Prober.(io.Closer); ok {
		defer c.Close()
	}
	if j.program, err = a.compile(j.recipe, j.facts, j.vars); err != nil {
		return err
	}
	a.warnOfLayout(j)
	if err := a.confirmRun(ctx, j, a.warnOfLife(ctx, j)); err != nil {
		return err
	}
	return a.typeRecipe(ctx, j, f)
}

// accepted says whether each risk of a verdict was taken by name.
func accepted(j *job) bool {
	return len(j.verdict.Risks) > 0 && !slices.ContainsFunc(j.verdict.Risks, func(r string) bool { return !slices.Contains(j.vars.Accept, r) })
}

// secretSources says where a secret may come from.
func secretSources(name string) string {
	if name == "password" {
		return "it comes from the host's password_* line in the config, from LABCTL_PASSWORD or --secret-file password=FILE"
	}
	return fmt.Sprintf("it comes from %s or --secret-file %s=FILE", secretVariable(name), name)
}

// secretVariable is the environment variable of a recipe's secret.
func secretVariable(name string) string {
	return "LABCTL_SECRET_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

// recipeSecrets finds the values of all secrets. A rehearsal on the model asks
// nobody: what is not given there has a stand-in.
func (a *app) recipeSecrets(ctx context.Context, j *job, f *running) (map[string]recipes.Secret, error) {
	files := map[string]string{}
	for _, g := range f.secretFiles {
		name, file, ok := strings.Cut(g, "=")
		switch {
		case !ok || file == "":
			return nil, usagef("--secret-file: want NAME=FILE")
		case !slices.ContainsFunc(j.recipe.Secrets, func(in recipes.Input) bool { return in.Name == name }):
			return nil, usagef("--secret-file %s: recipe %s has no such secret", name, j.recipe.Name)
		}
		files[name] = file
	}
	out := map[string]recipes.Secret{}
	for _, in := range j.recipe.Secrets {
		s, err := a.recipeSecret(ctx, j, in, files[in.Name])
		if err != nil {
			return nil, err
		}
		out[in.Name] = s
	}
	return out, nil
}

func (a *app) recipeSecret(ctx context.Context, j *job, in recipes.Input, file string) (esxi.Secret, error) {
	if file != "" {
		b, err := os.ReadFile(a.expandHome(file))
		if err != nil {
			return esxi.Secret{}, usagef("--secret-file %s: %w", in.Name, err)
		}
		text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		if strings.ContainsAny(text, "\r\n") {
			return esxi.Secret{}, usagef("--secret-file %s: the file holds more than one line, a secret is one", in.Name)
		}
		return esxi.NewSecret(text), nil
	}
	variable := secretVariable(in.Name)
	if text, ok := a.lookup(variable); ok {
		return esxi.NewSecret(text), nil
	}
	question := fmt.Sprintf("%s (%s):", in.Summary, in.Name)
	if in.Summary == "" {
		question = in.Name + ":"
	}
	configured := j.host != nil && (len(j.host.PasswordCommand) > 0 || j.host.PasswordEnv != "" || j.host.PasswordFile != "")
	if in.Name == "password" {
		switch text, ok := a.lookup("LABCTL_PASSWORD"); {
		case configured && !j.sim:
			return a.passwords.source(a, &j.host.Access, "host "+j.host.Name, question, nil)(ctx)
		case ok:
			return esxi.NewSecret(text), nil
		}
	}
	switch {
	case j.sim && in.Name == "password":
		return esxi.NewSecret(practicePassword), nil
	case j.sim:
		return esxi.NewSecret("Labctl-1 " + in.Name), nil // another one, that passes the rules for new passwords
	}
	return a.askSecret(ctx, question, secretInstead(in.Name))
}

func secretInstead(name string) string {
	if name == "password" {
		return "LABCTL_PASSWORD, --secret-file password=FILE or a password_* line in the config"
	}
	return secretVariable(name) + " or --secret-file " + name + "=FILE"
}

// warnOfLayout says so where a value holds characters that keymaps of the same
// name are known to put in different places: their places in the value, and of
// a secret no more than that.
func (a *app) warnOfLayout(j *job) {
	for _, u := range j.program.Unsure() {
		what := "variable " + u.Input
		if u.Secret {
			what = "secret " + u.Input
		}
		var places []string
		for _, n := range u.Places[:min(len(u.Places), 8)] {
			places = append(places, strconv.Itoa(n+1))
		}
		more := ""
		if len(u.Places) > 8 {
			more = " and more"
		}
		a.warn("consoles differ in layout %s: what arrives at character %s%s of %s may be another", u.Layout, strings.Join(places, ", "), more, what)
	}
}

// warnOfLife says so, and returns true, where a recipe that destroys is about to
// be typed into a host whose API answers: it is meant for one that is gone.
func (a *app) warnOfLife(ctx context.Context, j *job) bool {
	if j.vars.Prober == nil || !worstEnd(j.verdict).Destructive() {
		return false
	}
	for _, c := range j.recipe.Verify {
		if c.Kind != "reachable" || c.Host != "" {
			continue
		}
		if up, err := j.vars.Prober.Probe(ctx, c); err == nil && up {
			a.warn("%s already: %s is for a host that is cut off, and ends with: %s", c, j.recipe.Name, worstEnd(j.verdict))
			return true
		}
		return false
	}
	return false
}

// worstEnd is the worst effect in any world of a verdict.
func worstEnd(v *recipes.Verdict) dcui.Effect {
	worst := dcui.Nothing
	for _, e := range v.Worlds {
		worst = max(worst, e.World.Effect())
	}
	return worst
}

// confirmRun asks before keys go to a host that is not simulated. What destroys
// is confirmed with the host's name.
func (a *app) confirmRun(ctx context.Context, j *job, alive bool) error {
	if j.sim || a.yes {
		return nil
	}
	worst := worstEnd(j.verdict)
	if !worst.Destructive() && j.recipe.Risk != recipes.Destructive {
		ok, err := a.confirm(ctx, fmt.Sprintf("type %s into %s (%s)?", j.recipe.Name, j.name(), worst))
		if err == nil && !ok {
			err = exitWith(exitUnchanged, errors.New("nothing was typed"))
		}
		return err
	}
	want := "yes"
	if j.host != nil {
		want = j.host.Name
	}
	still := ""
	if alive {
		still = fmt.Sprintf("%s still answers. ", j.name())
	}
	got, err := a.ask(ctx, fmt.Sprintf("%s%s ends with: %s. Type %s to go on:", still, j.recipe.Name, worst, want), "--yes")
	if err == nil && got != want {
		err = exitWith(exitUnchanged, errors.New("nothing was typed"))
	}
	return err
}

// ran is the result of a run. The JSON is a contract.
type ran struct {
	Version  int               `json:"version"`
	Recipe   string            `json:"recipe"`
	Host     string            `json:"host,omitempty"`
	Keyboard string            `json:"keyboard"`
	Outcome  string            `json:"outcome"` // done, not-verified, broken-off, nothing-typed
	Facts    map[string]string `json:"facts"`
	Keys     []string          `json:"keys"`
	Reports  int               `json:"reports"` // delivered
	End      string            `json:"end"`     // screen, predicted unless the keyboard is sim:
	Effect   string            `json:"effect"`
	Verify   []ranVerify       `json:"verify"`
	Error    string            `json:"error,omitempty"`
}

type ranVerify struct {
	Condition string `json:"condition"`
	OK        bool   `json:"ok"`
	Predicted bool   `json:"predicted"` // the model said so, nobody else was asked
}

// typeRecipe opens the keyboard, types, verifies, and tells what came of it.
func (a *app) typeRecipe(ctx context.Context, j *job, f *running) error {
	command := "recipe run"
	if j.rehearse {
		command = "recipe rehearse"
	}
	if j.host != nil && !j.sim {
		unlock, err := a.lock("host-"+j.host.Name, command)
		if err != nil {
			return err
		}
		defer unlock()
	}
	kb, err := a.openFor(ctx, j, command, f)
	if err != nil {
		return err
	}
	defer kb.Close()
	view, err := a.newRunView(j, f)
	if err != nil {
		return err
	}
	j.vars.Speed = view.speed
	res, err := a.typeOn(ctx, j, kb, view.show)
	view.finish(res, err)
	if failed := a.result(res, func(p *page) { res.write(p, j) }); err == nil {
		err = failed
	}
	a.afterRun(j, err)
	return err
}

// openFor opens the keyboard of a job; the model behind sim: becomes the host
// that the job is for.
func (a *app) openFor(ctx context.Context, j *job, command string, f *running) (*keyboard, error) {
	o := keyboardOptions{URI: j.uri, Command: command, Watcher: f.watcher, PowerOn: f.powerOn, Screens: j.screens}
	if j.sim {
		facts, err := simulated(j.recipe, j.facts, j.verdict)
		if err != nil {
			return nil, usagef("%w", err)
		}
		o.Facts = facts
		if s, ok := j.vars.Secrets["password"]; ok {
			o.Password = new(esxi.NewSecret(s.Reveal()))
		}
	}
	return a.openKeyboard(ctx, o)
}

// compileJob compiles a job's recipe for what is known of its host.
func (a *app) compileJob(j *job) (*recipes.Program, error) {
	b, err := j.recipe.Belief(j.facts)
	if err == nil && j.places != nil {
		b, err = b.Only("management", j.places...)
	}
	if err != nil {
		return nil, a.recipeFault(err)
	}
	p, err := j.recipe.Compile(b, j.vars)
	return p, a.recipeFault(err)
}

// typeOn types a job and verifies. The result is there with an error too, which
// has its exit code. Neither the host's lock nor anything on the terminal is its
// business.
func (a *app) typeOn(ctx context.Context, j *job, kb *keyboard, on func(recipes.Event)) (*ran, error) {
	res := &ran{Version: 1, Recipe: j.recipe.Name, Keyboard: kb.Name, Facts: j.facts, Keys: []string{}, Verify: []ranVerify{}}
	if j.host != nil {
		res.Host = j.host.Name
	}
	if j.vars.Timeout == 0 {
		j.vars.Timeout = a.set.Timeout
	}
	if j.vars.Prober == nil && kb.Model != nil {
		j.vars.Prober = modelProber{kb.Model}
	}
	program, err := a.compileJob(j)
	if err == nil {
		res.Keys = program.Keys()
		err = a.runProgram(ctx, j, program, kb, res, on)
	}
	res.Reports = kb.Delivered()
	res.Outcome = outcome(err, res.Reports)
	if err != nil {
		res.Error = err.Error()
	}
	return res, a.runFault(kb, err)
}

func (a *app) runProgram(ctx context.Context, j *job, program *recipes.Program, kb *keyboard, res *ran, on func(recipes.Event)) error {
	if effects := effectsOf(j.verdict); j.host != nil && !j.sim && slices.Max(effects) > dcui.PingTest {
		if err := a.acting(j.host.Name, "recipe "+j.recipe.Name, effects...); err != nil {
			a.warn("what was learned of %s stays believed: %s", j.host.Name, err) // a rescue is not held up by that
		}
	}
	if !j.sim {
		a.leaving("keys of %s may be half typed on %s; the keyboard's watchdog releases them", j.recipe.Name, j.name())
		defer a.leaving("")
	}
	var last dcui.Belief
	err := program.Run(ctx, kb, func(e recipes.Event) {
		if e.Kind == recipes.EventVerify && (e.OK || e.Step >= len(j.recipe.Steps)) { // the other way of a probe is no failure
			res.Verify = append(res.Verify, ranVerify{e.Text, e.OK, e.Predict})
		}
		if e.Belief.Len() > 0 {
			last = e.Belief
			res.follow(last)
		}
		if !j.sim && e.Kind == recipes.EventWait && e.Step >= len(j.recipe.Steps) {
			a.leaving("no key, all of them were delivered; %s was not seen yet", e.Text)
		}
		on(e)
		a.picture(ctx, kb, e)
	})
	if closed := kb.Close(); closed != nil && err == nil {
		err = keysFault(kb, closed)
	}
	if kb.Model != nil {
		w := kb.Model.World()
		if err == nil && !foretold(last, w) {
			err = &predictionError{w}
		}
		res.End, res.Effect = w.At(), w.Effect().String()
	}
	return err
}

// effectsOf lists what a program does in some world, nothing included.
func effectsOf(v *recipes.Verdict) []dcui.Effect {
	out := []dcui.Effect{dcui.Nothing}
	for _, e := range v.Worlds {
		if effect := e.World.Effect(); !slices.Contains(out, effect) {
			out = append(out, effect)
		}
	}
	return out
}

// picture keeps the screen before each step and at the end, where it is to be
// had. That it failed changes nothing: no key rests on it.
func (a *app) picture(ctx context.Context, kb *keyboard, e recipes.Event) {
	if kb.Picture == nil || e.Kind != recipes.EventStep && e.Kind != recipes.EventDone {
		return
	}
	if err := kb.Picture(ctx, fmt.Sprintf("%02d-%s", e.Step+1, cmp.Or(strings.Trim(notInNames.ReplaceAllString(e.Text, "-"), "-"), "end"))); err != nil {
		a.warn("%s", err)
	}
}

// notInNames is what a picture's file name does without.
var notInNames = regexp.MustCompile(`[^A-Za-z0-9]+`)

// foretold says whether a simulated host ended as some world was to.
func foretold(b dcui.Belief, w dcui.World) bool {
	return b.Len() == 0 || slices.ContainsFunc(b.Worlds(), func(p dcui.World) bool { return p.At() == w.At() && p.Effect() == w.Effect() })
}

// predictionError is a simulated host that did not end as it was to.
type predictionError struct{ end dcui.World }

func (e *predictionError) Error() string {
	return fmt.Sprintf("the simulated host ended at %s with: %s; that was not predicted", e.end.At(), e.end.Effect())
}

// follow takes the predicted end over: the worst effect in any world.
func (r *ran) follow(b dcui.Belief) {
	worst := dcui.Nothing
	for i, w := range b.Worlds() {
		if e := w.Effect(); i == 0 || e > worst {
			worst, r.End, r.Effect = e, w.At(), e.String()
		}
	}
}

func outcome(err error, reports int) string {
	var verify *recipes.VerifyError
	var end *predictionError
	var typing *recipes.TypeError // a probe's condition is a VerifyError too
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &verify) && !errors.As(err, &typing), errors.As(err, &end):
		return "not-verified"
	case reports > 0:
		return "broken-off"
	}
	return "nothing-typed"
}

// otherEnd says why a simulated host may have ended elsewhere than all worlds.
const otherEnd = "a value that the console refuses, such as a weak new password, is one way to it"

// runFault gives an ended run its exit code.
func (a *app) runFault(kb *keyboard, err error) error {
	var (
		unsafe *recipes.UnsafeError
		typing *recipes.TypeError
		verify *recipes.VerifyError
		bad    recipes.Errors
		end    *predictionError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad):
		return a.recipeFault(err)
	case errors.As(err, &unsafe):
		return exitWith(exitUnsafe, err)
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &end):
		return hintf(exitWith(exitFailed, err), "%s", otherEnd)
	case errors.Is(err, recipes.ErrSurprise):
		return hintf(keysFault(kb, err), "something that is taken for known of the host is not so: labctl host show, --fact and the config's facts say what")
	case errors.As(err, &verify) && errors.As(err, &typing):
		return hintf(keysFault(kb, err), "a probe stopped the run; nothing was typed after it, and the next run begins with its anchor")
	case errors.As(err, &verify) && kb.Model != nil:
		return hintf(exitWith(exitChanged, fmt.Errorf("%w; the simulated host is at %s", err, kb.Model.World().At())), "%s", otherEnd)
	case errors.As(err, &verify):
		return hintf(exitWith(exitChanged, err), "all keys were delivered: look at the host")
	case errors.As(err, &typing) && typing.Lost:
		return hintf(exitWith(exitChanged, err), "a key may have landed or not; nothing was typed after it, and the next run begins with its anchor")
	}
	return usbHelp(keysFault(kb, err))
}

func (r *ran) write(p *page, j *job) {
	where := j.name()
	switch r.Outcome {
	case "done":
		p.printf("%s: %s on %s\n", p.paint(green, "done"), r.Effect, where)
	case "not-verified":
		p.printf("%s: all keys of %s went out to %s, and the goal was not seen\n", p.paint(red, "not verified"), r.Recipe, where)
	case "broken-off":
		p.printf("%s: %s on %s after %d reports; by the model: %s\n", p.paint(red, "broken off"), r.Recipe, where, r.Reports, r.Effect)
	default:
		p.printf("nothing was typed into %s\n", where)
	}
	for _, v := range r.Verify {
		mark, st := "✓", green
		if !v.OK {
			mark, st = "✗", red
		}
		p.printf("  %s %s", p.paint(st, mark), v.Condition)
		if v.Predicted {
			p.printf(" (predicted)")
		}
		p.printf("\n")
	}
}

// instant divides pauses until nothing is left of them.
var instant = math.Inf(1)
