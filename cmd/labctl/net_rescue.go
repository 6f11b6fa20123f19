package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/network"
	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes"
	"github.com/labctl/labctl/recipes/dcui"
)

// Waits of a rescue. vCenter takes back after some 30 s what cuts a host off, so
// the window has to be longer; the first key is to go out within a minute of
// the loss, and a keyboard takes some seconds to open. A switch port without
// PortFast is silent for 30 to 50 s after the console has restarted it.
const (
	rescueWindow  = 50 * time.Second
	rescueVerify  = 90 * time.Second // for the host to be there after the keys
	rescueReread  = 20 * time.Second
	rescueOpens   = 3 // attempts to open the keyboard
	rescueReopen  = time.Second
	rescueEcho    = time.Second // for a light to answer its key
	rescueKnock   = 500 * time.Millisecond
	rescueCertain = 300 * time.Millisecond // from a sign of life to the end of typing: the last key may be what brought it
)

// rescueFlags are the flags of apply about the way back through the console.
type rescueFlags struct {
	recipe   string
	keyboard string
	with     compiling

	found *recipes.Recipe
	facts map[string]string
}

func (f *rescueFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.recipe, "rescue", "", "`RECIPE` to type at the console if the host is gone after the move")
	fs.StringVar(&f.keyboard, "keyboard", "", "`URI` of the keyboard for the rescue: "+keyboardForms+" (default: the host's)")
	fs.StringArrayVar(&f.with.facts, "fact", nil, "what is known of the console, `NAME=VALUE`; repeat for more")
	fs.StringArrayVar(&f.with.vars, "var", nil, "value of a variable of the rescue, `NAME=VALUE`; repeat for more")
	c.RegisterFlagCompletionFunc("fact", completeFacts)
	c.RegisterFlagCompletionFunc("rescue", func(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return completeRecipes(c, nil, word)
	})
}

// findRescue reads what the flags name, before any host is asked.
func (a *app) findRescue(cmd *cobra.Command, f *rescueFlags) (err error) {
	if f.facts, err = parseFacts(f.with.facts); err != nil {
		return err
	}
	if f.recipe == "" {
		for _, name := range []string{"keyboard", "var"} {
			if cmd.Flags().Changed(name) {
				return usagef("--%s is for the rescue, and --rescue is missing", name)
			}
		}
		return nil
	}
	f.found, err = a.findRecipe(f.recipe)
	return err
}

// rescue is a recipe that is ready to bring a host back.
type rescue struct {
	job   *job
	facts map[string]string // they leave open where management is
	view  *running          // how the run is shown
	back  func(context.Context) error
	plan  *network.Plan
	done  netRescued
}

// netRescued tells what became of a rescue. The JSON is a contract.
type netRescued struct {
	Recipe   string `json:"recipe"`
	Keyboard string `json:"keyboard"`
	State    string `json:"state"` // not-needed, typed, broken-off or not-typed
	Reports  int    `json:"reports"`
	Why      string `json:"why,omitempty"` // broken-off, not-typed; or what was not seen after it
}

func (r *netRescued) words() string {
	switch r.State {
	case "not-needed":
		return r.Recipe + ": not needed, nothing was typed"
	case "typed":
		s := fmt.Sprintf("%s: typed through %s", r.Recipe, r.Keyboard)
		if r.Why != "" {
			s += "; " + r.Why
		}
		return s
	case "broken-off":
		return fmt.Sprintf("%s: broken off after %d reports: %s", r.Recipe, r.Reports, r.Why)
	}
	return r.Recipe + ": not typed: " + r.Why
}

func (r *netRescued) look() style {
	if r.Why == "" {
		return plain
	}
	return red
}

// rescuing are the effects that may bring a host back and cost it nothing else.
var rescuing = []dcui.Effect{dcui.StandardRestored, dcui.DistributedRestored, dcui.NetworkChanged, dcui.NetworkRestarted, dcui.AgentsRestarted}

// rescueVerdict is the event of a rescue that is not proved safe.
type rescueVerdict struct {
	Event string `json:"event"`
	judged
}

// planRescue judges a recipe for the host as a failed move would leave it; nil
// where no rescue was asked for. Nothing is opened and nobody is asked.
func (a *app) planRescue(ctx context.Context, t *target, f *rescueFlags, s *network.Snapshot, p *network.Plan) (*rescue, error) {
	if f.found == nil || p.Rest() { // that leaves management alone
		return nil, nil
	}
	j := &job{recipe: f.found, arg: f.recipe, host: t.Host, uri: firstOf(f.keyboard, t.Host.Keyboard)}
	if j.uri == "" {
		return nil, hintf(usagef("--rescue %s: %s has no keyboard in the config", f.recipe, p.Host), "--keyboard names one: %s", keyboardForms)
	}
	u, err := parseKeyboardURI(j.uri)
	if err != nil {
		return nil, err
	}
	if u.kind == "model" {
		return nil, usagef("--rescue %s: keyboard sim: reaches no host", f.recipe)
	}
	if j.vars, err = f.with.values(j.recipe); err != nil {
		return nil, err
	}
	known, idle, err := a.knownFacts(t.Host)
	if err != nil {
		return nil, err
	}
	facts := mergeFacts(known, f.facts)
	j.vars.Idle, j.vars.Speed, j.vars.Timeout = idle, 1, a.upTo(rescueVerify)
	if m := facts["management"]; m != "" && m != string(p.From) {
		a.warn("%s: management=%s was given or learned, and the host shows %s: that holds", p.Host, m, p.From)
	}
	delete(facts, "management")
	help := &rescue{job: j, facts: facts, view: &running{compiling: f.with}, plan: p, done: netRescued{Recipe: j.recipe.Name, Keyboard: u.text, State: "not-needed"}}
	if t.ESXi != nil {
		help.back = func(ctx context.Context) error { return esxi.Knock(ctx, t.ESXi) }
	}
	if err := a.fillVars(j); err != nil {
		return nil, err
	}
	var bad, good []string
	var verdict, right *recipes.Verdict
	var given map[string]string
	both, err := a.judgeRescue(ctx, help, p.From, p.To)
	if err != nil {
		return nil, err
	}
	for _, kind := range p.Stranded(s) {
		v, err := a.judgeRescue(ctx, help, kind)
		if err != nil {
			return nil, err
		}
		if v.Verdict == recipes.Safe {
			good, right = append(good, string(kind)), v
		} else {
			bad = append(bad, string(kind))
			if verdict == nil { // the likeliest counts
				verdict, given = v, j.facts
			}
		}
	}
	if len(good) == 0 {
		if a.json() {
			err = a.event(rescueVerdict{"verdict", newJudged(verdict)})
		} else {
			err = a.result(nil, func(pg *page) { a.writeVerdict(pg, verdict, given, j.vars.Layout, false) })
		}
		if err != nil {
			return nil, err
		}
		a.sayNotes(verdict)
		a.next("what it does in each world", "recipe", "check", f.recipe, "--host", p.Host)
		err := exitWith(exitUnsafe, fmt.Errorf("%s: --rescue %s is not proved safe for what a failed move through %s leaves, management on a %s switch: nothing was changed",
			p.Host, j.recipe.Name, p.Via, strings.Join(bad, " or ")))
		if len(verdict.Missing) == 0 || verdict.Missing[0].Fact == "management" {
			return nil, hintf(err, "a move through vCenter is taken back by it; one on the host itself stays, and needs a recipe that is safe there, such as --rescue set-vlan --var vlan=0")
		}
		return nil, hintf(err, "what would settle it: --fact %s=…", verdict.Missing[0].Fact)
	}
	if worst := worstEnd(right); !slices.Contains(rescuing, worst) {
		a.next("what the recipes do", "recipe", "list")
		return nil, hintf(exitWith(exitUnsafe, fmt.Errorf("%s: recipe %s ends with: %s; that is no way to bring a host back unattended, and nothing was changed", p.Host, j.recipe.Name, worst)),
			"restore-standard-switch is one; labctl recipe run types any")
	}
	if err := j.program.Fits(); err != nil {
		return nil, usagef("--rescue %s: %w", f.recipe, err)
	}
	if both.Verdict != recipes.Safe {
		a.say("%s: the rescue %s is for management on a %s switch; where it cannot be told that the move ended there, nothing is typed", p.Host, j.recipe.Name, good[0])
	}
	return help, nil
}

// judgeRescue compiles the rescue for the kinds of switch that management may be
// on. What the console showed and which lights were on may be different by then,
// so it is first tried without.
func (a *app) judgeRescue(ctx context.Context, r *rescue, kinds ...network.Kind) (v *recipes.Verdict, err error) {
	facts := mergeFacts(r.facts, nil)
	if len(kinds) == 1 {
		facts["management"] = string(kinds[0])
	}
	loose := mergeFacts(facts, nil)
	for _, name := range neverKept {
		delete(loose, name)
	}
	j := r.job
	j.places = make([]string, len(kinds))
	for i, k := range kinds {
		j.places[i] = string(k)
	}
	for _, j.facts = range []map[string]string{loose, facts} {
		if j.program, err = a.compileJob(j); err != nil {
			return nil, err
		}
		if j.verdict, err = j.program.Check(ctx); err != nil {
			return nil, a.recipeFault(err)
		}
		if j.verdict.Verdict == recipes.Safe {
			break
		}
	}
	return j.verdict, nil
}

// proveRescue shows, before anything is changed, that the password is right and
// that the host takes keys. The keyboard is closed again: nobody is kept from it
// by a move that needs no rescue.
func (a *app) proveRescue(ctx context.Context, t *target, r *rescue, chosen, other *network.Path) error {
	if r == nil {
		return nil
	}
	refused := func(err error) error {
		if exitCode(ctx, err) == exitUsage {
			return err
		}
		return exitWith(exitFailed, fmt.Errorf("%s: the rescue is not ready, so nothing was changed: %w", r.plan.Host, err))
	}
	secrets := map[string]recipes.Secret{}
	for _, in := range r.job.recipe.Secrets {
		var s esxi.Secret
		var err error
		if in.Name == "password" && t.ESXi != nil && t.ESXi.User == "root" {
			s, err = t.ESXi.Password(ctx)
		} else {
			s, err = a.recipeSecret(ctx, r.job, in, "")
		}
		if err != nil {
			return refused(err)
		}
		secrets[in.Name] = s
	}
	r.job.vars.Secrets = secrets
	direct := chosen
	if chosen.Via != "esxi" {
		direct = other
	}
	if direct == nil {
		a.warn("%s has no path of its own in the config: the console's password is not tried, and after a rescue only vCenter can tell where the host stands", r.plan.Host)
	} else if _, err := direct.Host(ctx); err != nil {
		var login *esxi.LoginError
		if errors.As(err, &login) || ctx.Err() != nil {
			return refused(err)
		}
		a.warn("the console's password was not tried: %s", err)
	}
	var err error
	if r.job.vars.Prober, err = a.newProber(r.job); err != nil {
		return refused(err)
	}
	kb, err := a.openKeyboard(ctx, keyboardOptions{URI: r.job.uri, Command: "net apply --rescue"})
	if err != nil {
		return refused(err)
	}
	err = kb.Probe(ctx, hid.KeyNumLock, a.upTo(rescueEcho))
	sign := "a light answered its key"
	if errors.Is(err, hid.ErrNoEcho) {
		err, sign = nil, "it takes reports; its lights do not answer"
	}
	if err = errors.Join(err, kb.Close()); err != nil {
		return refused(fmt.Errorf("keyboard %s: %w", r.done.Keyboard, err))
	}
	a.progress("  rescue %s is ready: safe by its check, keyboard %s (%s)", r.job.recipe.Name, r.done.Keyboard, sign)
	return nil
}

// carryRescue types the rescue if the move has left the host gone, and returns
// how the run ended.
func (a *app) carryRescue(ctx context.Context, r *rescue, run *network.Run, out *network.Result) (*network.Result, error) {
	if !out.Gone {
		return out, nil
	}
	// The change is one transaction: management is where it was, or where it was to go.
	at := out.At
	if len(at) == 0 {
		at = []network.Kind{r.plan.From, r.plan.To}
	}
	v, err := a.judgeRescue(context.WithoutCancel(ctx), r, at...)
	if err != nil || v.Verdict != recipes.Safe {
		r.done.State, r.done.Why = "not-typed", fmt.Sprintf("management may be on a %s or a %s switch, and %s is not safe on both", r.plan.From, r.plan.To, r.job.recipe.Name)
		if err != nil {
			r.done.Why = err.Error()
		} else if len(at) == 1 {
			r.done.Why = fmt.Sprintf("management is on a %s switch, and %s is not for that", at[0], r.job.recipe.Name)
		}
		out.Cause += "; the rescue was not typed: " + r.done.Why
		return out, nil
	}
	if ctx.Err() != nil {
		r.done.State, r.done.Why = "not-typed", "interrupted"
		out.Cause += "; the rescue was not typed: interrupted"
		return out, nil
	}
	out, err = run.Rescue(ctx, r.job.recipe.Name, rescueReread, func(ctx context.Context) error {
		err := a.typeRescue(ctx, r)
		var unseen *recipes.VerifyError
		switch {
		case err == nil:
			r.done.State = "typed"
		case errors.As(err, &unseen):
			r.done.State, r.done.Why = "typed", err.Error()
		case r.done.Reports > 0:
			r.done.State, r.done.Why = "broken-off", err.Error()
		default:
			r.done.State, r.done.Why = "not-typed", err.Error()
		}
		return err
	})
	return out, err
}

// errBack ends typing into a host that is there again.
var errBack = errors.New("the host is back on the network")

// typeRescue opens the keyboard and types. It stops where management comes back
// before anything was confirmed. The error wraps network.ErrUndone where the
// host's network is certainly as it was.
func (a *app) typeRescue(ctx context.Context, r *rescue) error {
	undone := func(err error) error { return fmt.Errorf("%w: %w", network.ErrUndone, err) }
	var kb *keyboard
	var err error
	for attempt := 1; ; attempt++ {
		kb, err = a.openKeyboard(ctx, keyboardOptions{URI: r.job.uri, Command: "net apply --rescue"})
		if err == nil {
			break
		}
		if attempt == rescueOpens || pause(ctx, rescueReopen) != nil {
			return undone(err)
		}
	}
	defer kb.Close()
	view, err := a.newRunView(r.job, r.view)
	if err != nil {
		return undone(err)
	}
	var mu sync.Mutex
	confirmed := false
	ctx, cancel := context.WithCancelCause(ctx)
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for r.back != nil && pause(watching, rescueKnock) == nil {
			if r.back(watching) != nil || pause(watching, rescueCertain) != nil {
				continue
			}
			mu.Lock()
			if !confirmed {
				cancel(errBack)
			}
			mu.Unlock()
			return
		}
	})
	res, err := a.typeOn(ctx, r.job, kb, func(e recipes.Event) {
		if e.Belief.Len() > 0 && worstOf(e.Belief) != dcui.Nothing {
			mu.Lock()
			confirmed = true
			mu.Unlock()
		}
		view.show(e)
	})
	stop()
	wg.Wait()
	if context.Cause(ctx) == errBack && errors.Is(err, context.Canceled) {
		err = errBack
	}
	cancel(nil)
	view.finish(res, err)
	r.done.Reports = res.Reports
	var typing *recipes.TypeError
	lost := errors.As(err, &typing) && typing.Lost
	if err != nil && !confirmed && !lost {
		return undone(err)
	}
	return err
}
