package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/network"
	"github.com/labctl/labctl/recipes/dcui"
)

type netApplyResult struct {
	Version  int               `json:"version"`
	Host     string            `json:"host"`
	Outcome  network.Outcome   `json:"outcome"`
	Already  bool              `json:"already,omitempty"` // nothing was to be done
	VMs      netVMCount        `json:"vms"`
	OutageMs int64             `json:"outageMs"` // of management, as seen from here
	Requests int               `json:"requests"`
	Journal  string            `json:"journal"`
	Cause    string            `json:"cause,omitempty"` // why it is not applied
	Left     []string          `json:"left,omitempty"`  // what is not as it should be
	Refusals []network.Refusal `json:"refusals,omitempty"`
	Rescue   *netRescued       `json:"rescue,omitempty"`
	Exit     int               `json:"exit"`
}

type netVMCount struct {
	Moved       int      `json:"moved"`
	Failed      int      `json:"failed"`
	FailedNames []string `json:"failedNames,omitempty"`
}

func (a *app) netApplyCommand() *cobra.Command {
	var f netFlags
	c := &cobra.Command{
		Use: "apply HOST... --to standard|distributed | apply plan.json", Short: "Carry a move out",
		Long: `Apply shows the plan, asks for the host's name, and moves the vmkernel adapters
and their uplink in one transaction, then the virtual machines. Before each act
a journal on this machine says what is about to happen; after it the host is
read back over a new connection, and that reading is the result.

Without a terminal it takes --yes and --accept-risk=lose-management. Several
hosts go one after another and stop at the first that is not applied. An
argument that ends in .json or holds a slash is a saved plan.

With --rescue RECIPE a host that is gone after the move, on every path and for
up to 50 s, is brought back through its keyboard. Before anything is changed the
recipe is checked for what is known of the host, the keyboard is opened, and the
password is tried. Afterwards the host is read back: where it is there but not
as planned, the outcome is rescued, with exit 6, and labctl net resume goes on
from there.

Exit codes: 0 applied; 4 the saved plan is stale; 5 not applied or rolled back,
and everything is as it was; 6 not as it was: labctl net status tells what is
left, labctl net resume and labctl net rollback go on from there; 7 refused.`,
		Example: `  labctl net apply nuc01 --to standard
  labctl net apply nuc01-plan.json --yes --accept-risk=lose-management`,
		Args:              argsBetween(0, -1, "hosts, or one plan file"),
		ValidArgsFunction: a.completeHosts,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.netApply(cmd, args, &f) },
	}
	a.goalFlags(c, &f)
	f.rescue.add(c)
	return c
}

func (a *app) netApply(cmd *cobra.Command, args []string, f *netFlags) error {
	ctx := cmd.Context()
	if err := a.findRescue(cmd, &f.rescue); err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{""}
	}
	for i, arg := range args {
		if isPlanFile(arg) {
			if len(args) > 1 {
				return usagef("a plan file goes alone: %s", arg)
			}
			return a.netApplyFile(cmd, arg, f)
		}
		err := a.netApplyHost(ctx, arg, f)
		if err != nil {
			if rest := args[i+1:]; len(rest) > 0 {
				a.say("not touched: %s; apply stops at the first host that is not applied", strings.Join(rest, ", "))
				return err
			}
			return err
		}
	}
	return nil
}

// netApplyFile carries a saved plan out, if the host is still as it was.
func (a *app) netApplyFile(cmd *cobra.Command, file string, f *netFlags) error {
	saved, err := loadPlan(file)
	if err != nil {
		return err
	}
	for _, name := range []string{"to", "via", "switch", "dvs", "portgroup", "map", "create-portgroups", "vcsa-on-host"} {
		if cmd.Flags().Changed(name) {
			return usagef("--%s does not go with a plan file: the plan says it", name)
		}
	}
	if err := f.checkRisks(); err != nil {
		return err
	}
	t, err := a.target(saved.Host)
	if err != nil {
		return err
	}
	g := saved.Goal
	g.Accept = append(g.Accept, f.accept...)
	g.Local = localAddresses()
	return a.netRun(cmd.Context(), t, saved.Via, g, saved, &f.rescue)
}

func (a *app) netApplyHost(ctx context.Context, name string, f *netFlags) error {
	t, err := a.target(name)
	if err != nil {
		return err
	}
	g, err := a.goal(t, f)
	if err != nil {
		return err
	}
	return a.netRun(ctx, t, f.viaFor(), g, nil, &f.rescue)
}

// planFresh is how old the reading of a host may be when its change goes out.
// Without a question, and with a keyboard that answers, it is a second or two.
const planFresh = 10 * time.Second

// netRun is one host's apply: lock, read, plan, ask, act. saved is the plan
// that was looked at before, or nil.
func (a *app) netRun(ctx context.Context, t *target, via string, g network.Goal, saved *network.Plan, rf *rescueFlags) error {
	chosen, other, done, err := a.reach(ctx, t, via, "net apply")
	if err != nil {
		return err
	}
	defer done()
	if err := a.noOpenJournal(t.Name); err != nil {
		return err
	}
	dir, err := a.stateDir("journals")
	if err != nil {
		return err
	}
	j, err := network.CreateJournal(dir, t.Name, a.now())
	if err != nil {
		return err
	}
	begun := false
	defer func() {
		if begun {
			j.Close()
		} else if err := j.Discard(); err != nil {
			a.warn("%s", err)
		}
	}()
	if err := j.Begin(t.Name, t.endpoints()); err != nil {
		return err
	}
	s, p, err := a.planFor(ctx, t, chosen, g)
	if err != nil {
		return err
	}
	seen := a.now()
	if a.interactive() || a.yes && slices.Contains(g.Accept, riskManagement) { // else nobody can say yes, and the run leaves nothing
		a.learnAlong(p.Host, chosen.Via, s.Facts)
	}
	res := &netApplyResult{Version: 1, Host: p.Host, Outcome: network.NotApplied, Refusals: p.Refusals}
	// What ends the run before anything was sent is an error, and with -o json a
	// result too.
	notBegun := func(err error) error {
		res.Requests, res.Exit, res.Cause = requests(chosen, other), exitCode(ctx, err), err.Error()
		if failed := a.result(res, func(*page) {}); failed != nil {
			return failed
		}
		return err
	}
	if saved != nil && saved.Fingerprint != p.Fingerprint {
		return notBegun(hintf(exitWith(exitStale, &network.StaleError{Host: p.Host}), "to see the new plan: %s", a.line("net", "plan", p.Host, "--to", string(p.To))))
	}
	if !a.json() {
		pg := a.page(a.stderr)
		writePlan(pg, p)
		a.stderrLines("", pg.text())
		a.stderrLines("", " ")
	}
	switch {
	case p.Refused():
		return notBegun(a.refusal(p))
	case p.Already:
		res.Outcome, res.Already, res.Requests = network.Applied, true, requests(chosen, other)
		a.next("where it stands", "net", "status", p.Host)
		return a.result(res, func(*page) {}) // the plan has said so
	}
	help, err := a.planRescue(ctx, t, rf, s, p)
	if err != nil {
		return notBegun(err)
	}
	asked, err := a.confirmRisk(ctx, p, g.Accept, "apply")
	if err != nil {
		return notBegun(err)
	}
	other = a.readyPath(ctx, t, other)
	if err := a.proveRescue(ctx, t, help, chosen, other); err != nil {
		return notBegun(err)
	}
	if asked || a.now().Sub(seen) > planFresh {
		// A person may have thought about it, or looked for a password, for an hour.
		var now *network.Plan
		if s, now, err = a.planFor(ctx, t, chosen, g); err != nil {
			return notBegun(err)
		}
		if now.Fingerprint != p.Fingerprint {
			return notBegun(hintf(exitWith(exitStale, &network.StaleError{Host: p.Host}), "to see the new plan: %s", a.again()))
		}
		p = now
	}

	if err := j.Planned(p); err != nil {
		return err
	}
	if err := a.acting(p.Host, "net apply", dcui.NetworkChanged); err != nil {
		return err
	}
	a.leaving("the journal %s; labctl net resume %s goes on from there", j.Path, p.Host)
	run := a.newRun(t, chosen, other, p, j)
	if help != nil {
		run.Window = rescueWindow
	}
	out, err := run.Apply(ctx, s)
	begun = j.Sent()
	if err != nil {
		return err
	}
	if help != nil {
		if out, err = a.carryRescue(ctx, help, run, out); err != nil {
			return err
		}
	}
	return a.netEnd(ctx, run, out, "apply", t.Host.Keyboard, help)
}

func (a *app) newRun(t *target, chosen, other *network.Path, p *network.Plan, j *network.Journal) *network.Run {
	r := &network.Run{Via: chosen, Other: other, Plan: p, Journal: j, Timeout: a.set.Timeout, On: a.runView(p.Host)}
	if t.ESXi != nil {
		r.Knock = func(ctx context.Context) error { return esxi.Knock(ctx, t.ESXi) }
	}
	return r
}

// readyPath makes sure that the other path's password is at hand before the
// first one may be gone, and drops the path where it is not.
func (a *app) readyPath(ctx context.Context, t *target, p *network.Path) *network.Path {
	if p == nil {
		return nil
	}
	e := t.ESXi
	if p.Via == "vcenter" {
		e = t.VCenter
	}
	if _, err := e.Password(ctx); err != nil {
		a.warn("%s cannot be asked if there is doubt: %s", p.Via, err)
		return nil
	}
	return p
}

// endpoints is what the journal keeps of both paths.
func (t *target) endpoints() map[string]network.Endpoint {
	out := map[string]network.Endpoint{}
	for via, e := range map[string]*esxi.Endpoint{"vcenter": t.VCenter, "esxi": t.ESXi} {
		if e != nil {
			out[via] = network.Endpoint{URL: e.URL.String(), User: e.User, Thumbprint: e.Thumbprint}
		}
	}
	return out
}

// confirmRisk asks for the host's name, or takes --yes together with the named
// risk. It reports whether a person was asked.
func (a *app) confirmRisk(ctx context.Context, p *network.Plan, accept []string, verb string) (asked bool, err error) {
	accepted := slices.Contains(accept, riskManagement)
	switch {
	case a.yes && (accepted || p.Rest()):
		return false, nil
	case a.yes:
		return false, hintf(exitWith(exitUnsafe, fmt.Errorf("%s: --yes alone does not cut a host off", p.Host)),
			"who knows says so: %s", a.again("--accept-risk="+riskManagement))
	}
	if !a.interactive() {
		a.nextLine = "unattended: " + a.again("--yes", "--accept-risk="+riskManagement)
	}
	question := "%s cuts %s off for a moment; type its name to go on:"
	if p.Rest() {
		question = "%s changes the network of %s; type its name to go on:"
	}
	answer, err := a.ask(ctx, fmt.Sprintf(question, verb, p.Host), "--yes --accept-risk="+riskManagement)
	if err != nil {
		return true, err
	}
	if answer != p.Host {
		return true, hintf(exitWith(exitUnsafe, fmt.Errorf("not confirmed: %s is as it was", p.Host)), "to be asked again: %s", a.again())
	}
	return true, nil
}

// netEnd shows how a run ended, says what comes next, and picks the exit code.
// keyboard is the host's, "" where it has none.
func (a *app) netEnd(ctx context.Context, run *network.Run, out *network.Result, verb, keyboard string, help *rescue) error {
	p := run.Plan
	res := &netApplyResult{
		Version: 1, Host: p.Host, Outcome: out.Outcome, OutageMs: out.Outage.Milliseconds(), Requests: requests(run.Via, run.Other),
		Journal: run.Journal.Path, Cause: out.Cause, Left: out.Left,
		VMs: netVMCount{Moved: out.Moved, Failed: len(out.FailedVMs), FailedNames: out.FailedVMs},
	}
	if help != nil {
		res.Rescue = &help.done
	}
	res.Exit = netExit(verb, out)
	a.leaving("")
	if out.Clean() {
		switch out.Outcome {
		case network.Applied:
			a.learnPlace(p.Host, run.Via.Via, string(p.To))
		case network.RolledBack, network.NotApplied:
			a.learnPlace(p.Host, run.Via.Via, string(p.Management().At.Kind))
		}
	}
	if out.Gone && !out.Typed && len(out.At) == 1 { // what a rescue by hand has to know
		a.learnPlace(p.Host, run.Via.Via, string(out.At[0]))
	}
	if err := a.result(res, func(pg *page) { writeOutcome(pg, res, out) }); err != nil {
		return err
	}
	switch res.Exit {
	case exitDone:
		if out.Outcome == network.Applied {
			if !a.json() {
				a.hint("to take the move back: %s", a.line("net", "rollback", p.Host))
			}
			a.next("to see what is no longer needed", "net", "cleanup", p.Host)
		} else {
			a.next("where it stands", "net", "status", p.Host)
		}
		return nil
	case exitUnchanged:
		a.next("where it stands", "net", "status", p.Host)
		return exitWith(exitUnchanged, fmt.Errorf("%s: %s; everything is as it was%s", p.Host, outcomeWords(out.Outcome), because(out.Cause)))
	}
	err := exitWith(exitChanged, fmt.Errorf("%s: %s, and not as it was%s", p.Host, outcomeWords(out.Outcome), because(out.Cause)))
	switch {
	case out.Outcome == network.Rescued, run.Journal.Rescued() && !out.Gone:
		a.afterRescue(p.Host)
	case out.Outcome == network.Unknown && help != nil && help.done.State == "typed":
		err = hintf(err, "all keys are out: look at the cable and at the console")
		a.next("to look again", "net", "resume", p.Host)
	case out.Gone && keyboard != "":
		recipe := ""
		if help != nil {
			recipe = help.job.arg
		}
		err = hintf(err, "%s", a.typeHint(p.Host, recipe))
		a.next("to look again", "net", "resume", p.Host)
	case out.Gone:
		err = hintf(err, "if the host stays away, its console has Network Restore Options")
		a.next("to look again", "net", "resume", p.Host)
	default:
		err = hintf(err, "to take it back: %s", a.line("net", "rollback", p.Host))
		a.next("to finish", "net", "resume", p.Host)
	}
	return err
}

// requests counts what was sent on the paths in use, and the logouts that
// follow.
func requests(paths ...*network.Path) (n int) {
	for _, p := range paths {
		if p != nil && p.Requests() > 0 {
			n += p.Requests() + 1
		}
	}
	return n
}

func because(cause string) string {
	if cause == "" {
		return ""
	}
	return ": " + cause
}

// netExit tells the truth about the host: 0 what was asked for holds, 5 it does
// not and nothing has changed, 6 anything else.
func netExit(verb string, out *network.Result) int {
	switch {
	case !out.Clean(), out.Outcome == network.Rescued:
		return exitChanged
	case out.Outcome == network.Applied:
		return exitDone
	case verb == "rollback":
		return exitDone
	}
	return exitUnchanged
}

func outcomeWords(o network.Outcome) string {
	switch o {
	case network.RolledBack:
		return "rolled back"
	case network.NotApplied:
		return "not applied"
	}
	return string(o)
}

func writeOutcome(p *page, r *netApplyResult, out *network.Result) {
	look := green
	if r.Exit != exitDone {
		look = red
	}
	t := table{}
	t.row(look, "outcome", outcomeWords(r.Outcome))
	if n := r.VMs.Moved + r.VMs.Failed; n > 0 {
		t.row(plain, "virtual machines", fmt.Sprintf("%d of %d moved", r.VMs.Moved, n))
	}
	if h := r.Rescue; h != nil {
		t.row(h.look(), "rescue", h.words())
	}
	for _, f := range r.VMs.FailedNames {
		t.row(red, "left behind", f)
	}
	for _, l := range r.Left {
		t.row(red, "not as it should be", l)
	}
	switch {
	case !out.Cut:
	case !out.OutageKnown:
		t.row(plain, "management outage", fmt.Sprintf("%d ms at the most: nobody could watch the host's own address", r.OutageMs))
	case r.OutageMs == 0:
		t.row(plain, "management outage", "none seen from here")
	default:
		t.row(plain, "management outage", fmt.Sprintf("%d ms, as seen from here", r.OutageMs))
	}
	t.row(plain, "requests", fmt.Sprint(r.Requests))
	t.row(plain, "journal", r.Journal)
	t.write(p)
}
