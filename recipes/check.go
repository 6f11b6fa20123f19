package recipes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/labctl/labctl/recipes/dcui"
)

// probes tell how to learn a fact.
var probes = map[string]string{
	"esxi":          "labctl host learn HOST while its API answers; the welcome screen shows it too",
	"console":       "local where a monitor would show the console, serial where it was redirected to a serial port",
	"vcenter":       "labctl host learn HOST while its API answers",
	"lockdown":      "labctl host learn HOST while its API answers",
	"lockdown_item": "look at System Customization once: is Configure Lockdown Mode dimmed? Or rehearse on a nested host of the same version",
	"management":    "labctl host learn HOST while its API answers, or labctl net show HOST",
	"wrap":          "press UP on the first item of the menu once, on a nested host of the same version",
	"caps":          "the Caps Lock light; a recipe with anchor and login reads it by itself",
	"shell":         "Alt+F1 asks for a login only where the ESXi Shell is on",
	"ssh":           "TCP port 22 answers only where SSH is on",
	"layout":        "labctl host learn HOST while its API answers: esxcli system settings keyboard layout get",
	"screen":        "start the recipe with anchor, which leads to the welcome screen from any other",
}

// Check tells where the program leads in every world. It types nothing, and
// gives the same for the same program always.
func (p *Program) Check(ctx context.Context) (*Verdict, error) {
	v := p.judge()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("checking recipe %s: %w", p.recipe.Name, err)
	}
	if v.Verdict == NeedsFacts && len(v.Missing) == 0 {
		if err := p.otherwise(v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (p *Program) judge() *Verdict {
	v := &Verdict{Recipe: p.recipe.Name, Keys: p.Keys(), Missing: slices.Clone(p.missing), Notes: slices.Clone(p.notes)}
	risk := func(name string) {
		if !slices.Contains(v.Risks, name) {
			v.Risks = append(v.Risks, name)
		}
	}
	destroyed, missed := false, false
	var ends []dcui.Belief
	for _, way := range p.ways {
		all, bad, missing := p.follow(way, v, risk)
		destroyed, missed = destroyed || bad, missed || missing
		ends = append(ends, all)
	}
	if p.open {
		risk("open-secret")
	}
	if p.late {
		risk("idle-logout")
	}
	slices.Sort(v.Risks)
	switch {
	case destroyed || p.open || p.late:
		v.Verdict = Unsafe
	case missed:
		v.Verdict = NeedsFacts
	default:
		v.Verdict = Safe
	}
	if v.Verdict != Safe {
		p.explain(v)
	}
	p.understated(v, ends)
	if v.Missing == nil {
		v.Missing = []Missing{}
	}
	return v
}

// state is what came of a world in the end.
type state uint8

const (
	right state = iota
	exposing
	missing
	destroying
)

// follow adds the ends of one way to a verdict.
func (p *Program) follow(way *way, v *Verdict, risk func(string)) (all dcui.Belief, destroyed, missed bool) {
	end := way.end
	for _, k := range p.goals(way) {
		end = sorted(end, k)
	}
	why := map[dcui.World]string{}
	parts := []dcui.Belief{end}
	for _, s := range way.stopped {
		for _, w := range s.worlds.Worlds() {
			why[w] = s.why
			if s.why == "" {
				why[w] = "it stops there"
			}
		}
		parts = append(parts, s.worlds)
	}
	all = dcui.Union(parts...)
	status := func(w dcui.World) (s state, because string) {
		for _, e := range w.Effects() {
			if e.Destructive() && !p.isGoal(way, e) {
				return destroying, e.String() + " is not the goal"
			}
		}
		if s := why[w]; s != "" {
			return missing, s
		}
		if s := p.misses(way, w); s != "" {
			return missing, s
		}
		if w.Exposed() {
			return exposing, "a secret is typed in the open"
		}
		return right, ""
	}
	for _, o := range all.Outcomes(func(w dcui.World) string {
		is, _ := status(w)
		return fmt.Sprint(w.At(), "\x00", w.Effect(), "\x00", named(w), "\x00", is)
	}) {
		is, because := status(o.World)
		switch is {
		case destroying:
			destroyed = true
			for _, e := range o.World.Effects() {
				if e.Destructive() && !p.isGoal(way, e) {
					risk(slug(e.String()))
				}
			}
		case missing:
			missed = true
			risk("missed-goal")
		}
		e := Ending{Facts: o.Facts, End: o.World.At(), Effect: named(o.World).String(), OK: is == right, Why: because, Harm: is == destroying, World: o.World, Way: way.answers}
		if worst := o.World.Effect(); worst != named(o.World) {
			e.Did = worst.String()
		}
		v.Worlds = append(v.Worlds, e)
	}
	return all, destroyed, missed
}

// named gives the worst effect of a world that the JSON has a name for.
func named(w dcui.World) dcui.Effect {
	for _, e := range w.Effects() {
		if e.Named() {
			return e
		}
	}
	return dcui.Nothing
}

// riskOf gives the risk that an effect amounts to.
func riskOf(e dcui.Effect) Risk {
	switch {
	case e.Destructive():
		return Destructive
	case e <= dcui.PingTest:
		return ReadOnly
	case e < dcui.AgentsRestarted, e == dcui.LockdownOff, e == dcui.LockdownOn:
		return Toggle
	}
	return Disruptive
}

// understated notes a risk that is declared lower than it is. It changes no
// verdict: no declaration does.
func (p *Program) understated(v *Verdict, ends []dcui.Belief) {
	at, ok := p.recipe.at["risk"]
	if !ok {
		return
	}
	worst := dcui.Nothing
	for _, end := range ends {
		for _, w := range end.Worlds() {
			worst = max(worst, w.Effect())
		}
	}
	if is := riskOf(worst); slices.Index(risks, string(is)) > slices.Index(risks, string(p.recipe.Risk)) {
		v.Notes = append(v.Notes, at.errorf("declare risk: "+string(is), "the recipe is declared %s, and in some world its effect is %s, which is %s", p.recipe.Risk, worst, is))
	}
}

// explain adds the facts in which the worlds that go wrong differ from those
// that do not.
func (p *Program) explain(v *Verdict) {
	named := map[string]bool{}
	for _, e := range v.Worlds {
		for f := range e.Facts {
			named[f] = true
		}
	}
	values := map[string][2][]string{}
	for f := range named {
		var pair [2][]string
		every := p.start.Values(f)
		for _, e := range v.Worlds {
			i := 0
			if !e.OK {
				i = 1
			}
			val := e.Facts[f]
			switch {
			case val == "": // with any of them
				pair[i] = every
			case !slices.Contains(pair[i], val):
				pair[i] = append(slices.Clip(pair[i]), val)
			}
		}
		values[f] = pair
	}
	inOrder := func(vals []string, f string) []string {
		slices.SortFunc(vals, func(a, b string) int {
			known := dcui.FactValues(f)
			return cmp.Compare(slices.Index(known, a), slices.Index(known, b))
		})
		return vals
	}
	for _, f := range dcui.FactNames() {
		pair, ok := values[f]
		if !ok {
			continue
		}
		if slices.ContainsFunc(v.Missing, func(m Missing) bool { return m.Fact == f }) {
			continue
		}
		all := inOrder(slices.Compact(slices.Sorted(slices.Values(slices.Concat(pair[0], pair[1])))), f)
		good, bad := inOrder(pair[0], f), inOrder(pair[1], f)
		why := "where it leads depends on it"
		switch {
		case len(good) == 0 || slices.Equal(good, bad):
		case len(bad) > 0:
			why = fmt.Sprintf("right only with %s", strings.Join(good, ", "))
		}
		v.Missing = append(v.Missing, Missing{Fact: f, Splits: all, Why: why, Probe: probes[f]})
	}
	slices.SortStableFunc(v.Missing, func(a, b Missing) int {
		names := dcui.FactNames()
		return cmp.Compare(slices.Index(names, a.Fact), slices.Index(names, b.Fact))
	})
}

// otherwise finds the given facts that keep the recipe from its goal: each one
// that would be enough, or else those in which the host differs from the most
// similar one that the recipe is right for.
func (p *Program) otherwise(v *Verdict) error {
	given := map[string]string{}
	for _, f := range dcui.FactNames() {
		if values := p.start.Values(f); len(values) == 1 {
			given[f] = values[0]
		}
	}
	vars := p.vars
	vars.Layout = p.layout.Short()
	// One fact that is otherwise is the plainest answer. That the goal was
	// reached before, or that somebody had left the right screen open, is none
	// where there is another.
	var others, goal, screen []Missing
	for _, f := range dcui.FactNames() {
		val, ok := given[f]
		if !ok {
			continue
		}
		delete(given, f)
		b, err := dcui.NewBelief(given)
		given[f] = val
		if err != nil {
			return err
		}
		other, err := p.recipe.compile(b, vars)
		if err != nil {
			continue
		}
		want := slices.DeleteFunc(other.reaching().Values(f), func(s string) bool { return s == val })
		if len(want) == 0 {
			continue
		}
		to := &others
		switch {
		case f == "screen":
			to = &screen
		case slices.ContainsFunc(p.allGoals(), func(k Condition) bool { return k.Fact == f }):
			to = &goal
		}
		*to = append(*to, givenAs(f, val, want))
	}
	for _, m := range [][]Missing{others, goal, screen} {
		if len(v.Missing) == 0 {
			v.Missing = m
		}
	}
	if len(v.Missing) > 0 {
		return nil
	}
	everywhere, err := dcui.NewBelief(nil)
	if err != nil {
		return err
	}
	if other, err := p.recipe.compile(everywhere, vars); err == nil {
		best := -1
		var nearest dcui.World
		for _, w := range other.reaching().Worlds() {
			same := 0
			for f, val := range given {
				if slices.Contains(w.Values(f), val) {
					same++
				}
			}
			if same > best {
				best, nearest = same, w
			}
		}
		for _, f := range dcui.FactNames() {
			if best < 0 {
				break
			}
			val, ok := given[f]
			if want := nearest.Values(f); ok && !slices.Contains(want, val) {
				v.Missing = append(v.Missing, givenAs(f, val, want))
			}
		}
	}
	if len(v.Missing) == 0 {
		f := "screen"
		for _, k := range p.allGoals() {
			if k.Kind == "fact" {
				f = k.Fact
			}
		}
		v.Missing = append(v.Missing, Missing{Fact: f, Splits: dcui.FactValues(f),
			Why: "no fact is known to help: the recipe reaches its goal in no world", Probe: probes[f]})
	}
	return nil
}

func givenAs(fact, value string, want []string) Missing {
	return Missing{Fact: fact, Splits: append([]string{value}, want...), Probe: probes[fact],
		Why: fmt.Sprintf("given as %s, and the recipe reaches its goal with %s", value, strings.Join(want, ", "))}
}

// reaching gives the worlds at the end that reach the goal.
func (p *Program) reaching() dcui.Belief {
	var all []dcui.Belief
	for _, way := range p.ways {
		end := way.end
		for _, k := range p.goals(way) {
			end = sorted(end, k)
		}
		all = append(all, end.Where(func(w dcui.World) bool { return p.misses(way, w) == "" }))
	}
	return dcui.Union(all...)
}

// goals gives all conditions that the end of a way has to meet.
func (p *Program) goals(way *way) []Condition { return slices.Concat(p.recipe.Verify, way.states) }

func (p *Program) allGoals() []Condition {
	var all []Condition
	for _, way := range p.ways {
		all = append(all, p.goals(way)...)
	}
	return all
}

// isGoal says whether an effect is what the recipe is for.
func (p *Program) isGoal(way *way, e dcui.Effect) bool {
	if slices.Contains(way.wanted, e) || slices.Contains(way.allowed, e) {
		return true
	}
	for _, k := range p.recipe.Verify {
		switch {
		case k.Kind == "effect" && k.Value == e.String(),
			k.Kind == "fact" && k.Fact == "management" && k.Value == "standard" && e == dcui.StandardRestored,
			k.Kind == "fact" && k.Fact == "management" && k.Value == "distributed" && e == dcui.DistributedRestored:
			return true
		}
	}
	return false
}

// misses says what keeps a world from the goal, or "".
func (p *Program) misses(way *way, w dcui.World) string {
	for _, e := range way.wanted {
		if !slices.Contains(w.Effects(), e) {
			return "not reached: " + e.String()
		}
	}
	for _, k := range p.goals(way) {
		if !holds(w, k) {
			return "not so in the end: " + k.String()
		}
	}
	return ""
}

// sorted parts the worlds so that each can answer a condition.
func sorted(b dcui.Belief, k Condition) dcui.Belief {
	switch {
	case k.Kind == "fact" && !k.asksSSH():
		return known(b, k.Fact)
	case (k.Network() || k.asksSSH()) && k.Host == "":
		b = known(b, "management")
		if k.TCP == 22 || k.asksSSH() {
			b = known(b, "ssh")
		}
	}
	return b
}

// Holds says whether a condition holds in a world, by the model. A host that
// restarts is back after a while.
func Holds(w dcui.World, c Condition) bool { return holds(w, c) }

// holds says whether the model agrees with a condition.
func holds(w dcui.World, k Condition) bool {
	now := func(f string) string { v, _ := w.Now(f); return v }
	switch k.Kind {
	case "reachable":
		if k.Host != "" {
			return true
		}
		// A host that restarts is back after a while.
		return w.At() != "off" && now("management") != "none" && (k.TCP != 22 || now("ssh") == "on")
	case "unreachable":
		return k.Host != "" || w.Down() || now("management") == "none" || k.TCP == 22 && now("ssh") == "off"
	case "closed":
		// Which other services a host has is no part of the model.
		return k.Host != "" || w.At() != "off" && now("management") != "none" && (k.TCP != 22 || now("ssh") == "off")
	case "icmp":
		return slices.Contains(w.Effects(), dcui.PingTest)
	case "led":
		return !w.Down()
	case "usb-reset": // by a restart, or for good
		return w.Down() || slices.ContainsFunc(w.Effects(), func(e dcui.Effect) bool {
			return e == dcui.HostRestarted || e == dcui.HostShutDown || e == dcui.SystemReset
		})
	case "effect":
		return w.Effect().String() == k.Value || slices.ContainsFunc(w.Effects(), func(e dcui.Effect) bool { return e.String() == k.Value })
	case "selected":
		return canonical(w.Selected()) == k.Value
	}
	if k.Fact == "screen" {
		return w.At() == k.Value
	}
	return now(k.Fact) == k.Value
}
