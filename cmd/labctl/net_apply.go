package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/network"
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
	return c
}

func (a *app) netApply(cmd *cobra.Command, args []string, f *netFlags) error {
	ctx := cmd.Context()
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
				return hintf(err, "not touched: %s; apply stops at the first host that is not applied", strings.Join(rest, ", "))
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
	return a.netRun(cmd.Context(), t, saved.Via, g, saved)
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
	return a.netRun(ctx, t, f.viaFor(), g, nil)
}

// netRun is one host's apply: lock, read, plan, ask, act. saved is the plan
// that was looked at before, or nil.
func (a *app) netRun(ctx context.Context, t *target, via string, g network.Goal, saved *network.Plan) error {
	chosen, other, err := t.paths(via)
	if err != nil {
		return err
	}
	defer closePaths(ctx, chosen, other)
	if err := t.name(ctx, chosen); err != nil {
		return err
	}
	unlock, err := a.lock("host-"+t.Name, "net apply")
	if err != nil {
		return err
	}
	defer unlock()
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
	if saved != nil && saved.Fingerprint != p.Fingerprint {
		return hintf(exitWith(exitStale, &network.StaleError{Host: p.Host}), "labctl net plan %s --to %s makes a new one", p.Host, p.To)
	}
	if !a.json() {
		pg := &page{colour: a.colour(a.stderr)}
		writePlan(pg, p)
		a.stderrLines("", pg.String())
		a.stderrLines("", " ")
	}
	res := &netApplyResult{Version: 1, Host: p.Host, Outcome: network.NotApplied, Refusals: p.Refusals}
	switch {
	case p.Refused():
		res.Requests = requests(chosen, other)
		res.Exit = exitUnsafe
		if err := a.result(res, func(*page) {}); err != nil {
			return err
		}
		return a.refusal(p)
	case p.Already:
		res.Outcome, res.Already, res.Requests = network.Applied, true, requests(chosen, other)
		return a.result(res, func(*page) {}) // the plan has said so
	}
	asked, err := a.confirmRisk(ctx, p, g.Accept, "apply")
	if err != nil {
		return err
	}
	if asked {
		// A person may have thought about it for an hour.
		var now *network.Plan
		if s, now, err = a.planFor(ctx, t, chosen, g); err != nil {
			return err
		}
		if now.Fingerprint != p.Fingerprint {
			return hintf(exitWith(exitStale, &network.StaleError{Host: p.Host}), "run the command again to see the new plan")
		}
		p = now
	}
	other = a.readyPath(ctx, t, other)

	if err := j.Planned(p); err != nil {
		return err
	}
	a.leaving("the journal %s; labctl net resume %s goes on from there", j.Path, p.Host)
	run := a.newRun(t, chosen, other, p, j)
	out, err := run.Apply(ctx, s)
	begun = j.Sent()
	if err != nil {
		return err
	}
	return a.netEnd(ctx, run, out, "apply")
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

// noOpenJournal refuses to begin while an earlier migration is unfinished: its
// inverse would no longer fit.
func (a *app) noOpenJournal(host string) error {
	j, err := a.latestJournal(host)
	if err != nil || j == nil {
		return err
	}
	defer j.Close()
	if !j.Open() {
		return nil
	}
	return hintf(exitWith(exitUnsafe, fmt.Errorf("an earlier migration of %s is not finished: %s", host, j.Path)),
		"labctl net status %s tells what is left; labctl net resume %s or labctl net rollback %s ends it", host, host, host)
}

// latestJournal returns the host's newest journal, nil if there is none.
func (a *app) latestJournal(host string) (*network.Journal, error) {
	dir, err := a.statePath("journals")
	if err != nil {
		return nil, err
	}
	j, err := network.LatestJournal(dir, host)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return j, err
}

// confirmRisk asks for the host's name, or takes --yes together with the named
// risk. It reports whether a person was asked.
func (a *app) confirmRisk(ctx context.Context, p *network.Plan, accept []string, verb string) (asked bool, err error) {
	accepted := false
	for _, r := range accept {
		accepted = accepted || r == riskManagement
	}
	switch {
	case a.yes && accepted:
		return false, nil
	case a.yes:
		return false, hintf(exitWith(exitUnsafe, fmt.Errorf("%s: --yes alone does not cut a host off", p.Host)),
			"--accept-risk=%s says that you know", riskManagement)
	}
	answer, err := a.ask(ctx, fmt.Sprintf("%s cuts %s off for a moment; type its name to go on:", verb, p.Host), "--yes --accept-risk="+riskManagement)
	if err != nil {
		return true, err
	}
	if answer != p.Host {
		return true, exitWith(exitUnsafe, fmt.Errorf("not confirmed: %s is as it was", p.Host))
	}
	return true, nil
}

// netEnd shows how a run ended, says what comes next, and picks the exit code.
func (a *app) netEnd(ctx context.Context, run *network.Run, out *network.Result, verb string) error {
	p := run.Plan
	res := &netApplyResult{
		Version: 1, Host: p.Host, Outcome: out.Outcome, OutageMs: out.Outage.Milliseconds(), Requests: requests(run.Via, run.Other),
		Journal: run.Journal.Path, Cause: out.Cause, Left: out.Left,
		VMs: netVMCount{Moved: out.Moved, Failed: len(out.FailedVMs), FailedNames: out.FailedVMs},
	}
	res.Exit = netExit(verb, out)
	a.leaving("")
	if err := a.result(res, func(pg *page) { writeOutcome(pg, res, out) }); err != nil {
		return err
	}
	switch res.Exit {
	case exitDone:
		if out.Outcome == network.Applied {
			a.hint("labctl net cleanup %s shows what is no longer needed; labctl net rollback %s takes the move back", p.Host, p.Host)
		}
		return nil
	case exitUnchanged:
		return exitWith(exitUnchanged, fmt.Errorf("%s: %s; everything is as it was%s", p.Host, outcomeWords(out.Outcome), because(out.Cause)))
	}
	err := exitWith(exitChanged, fmt.Errorf("%s: %s, and not as it was%s", p.Host, outcomeWords(out.Outcome), because(out.Cause)))
	if out.Outcome == network.Unknown && len(out.Left) == 0 {
		return hintf(err, "labctl net resume %s looks again; if the host stays away, its console has Network Restore Options", p.Host)
	}
	return hintf(err, "labctl net resume %s finishes, labctl net rollback %s takes it back", p.Host, p.Host)
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
	case !out.Clean():
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

// --- resume, rollback

func (a *app) netResumeCommand() *cobra.Command {
	return a.journalCommand("resume", "Finish an interrupted move, or undo it",
		`Resume reads the host and finishes the move in its newest journal: what has
arrived is completed, what never left is closed, and what is in between is
undone. It works from the journal alone, after a crash, a kill -9, or an answer
that got lost, and on another machine with --journal.

Exit codes: 0 applied; 5 the move was not made or was undone, and everything is
as it was; 6 not as it was.`,
		"  labctl net resume nuc01 --yes", func(ctx context.Context, r *network.Run) (*network.Result, error) { return r.Resume(ctx) })
}

func (a *app) netRollbackCommand() *cobra.Command {
	return a.journalCommand("rollback", "Take a move back",
		`Rollback takes back the move in the host's newest journal, however far it got:
the uplink and the vmkernel adapters in one transaction, then the virtual
machines, then what the move had created. Like apply it cuts the host off for a
moment, and asks for the host's name, or takes --yes and
--accept-risk=lose-management.

Exit codes: 0 everything is as it was; 6 not as it was.`,
		"  labctl net rollback nuc01", func(ctx context.Context, r *network.Run) (*network.Result, error) { return r.Rollback(ctx) })
}

func (a *app) journalCommand(verb, short, long, example string, do func(context.Context, *network.Run) (*network.Result, error)) *cobra.Command {
	var f netFlags
	var file string
	c := &cobra.Command{
		Use: verb + " [HOST]", Short: short, Long: long, Example: example,
		Args: argsBetween(0, 1, "one host"), ValidArgsFunction: a.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.checkRisks(); err != nil {
				return err
			}
			return a.netContinue(cmd.Context(), verb, first(args), file, &f, do)
		},
	}
	a.viaFlag(c, &f.via)
	a.acceptFlag(c, &f)
	c.Flags().StringVar(&file, "journal", "", "journal `FILE` of another machine (default: the host's newest here)")
	return c
}

// netContinue is resume and rollback: both work from a journal.
func (a *app) netContinue(ctx context.Context, verb, name, file string, f *netFlags, do func(context.Context, *network.Run) (*network.Result, error)) error {
	t, j, err := a.journalTarget(ctx, name, file)
	if err != nil {
		return err
	}
	if j == nil {
		res := &netApplyResult{Version: 1, Host: t.Name, Outcome: network.NotApplied}
		return a.nothingToDo(verb, res, fmt.Sprintf("no migration of %s is recorded", t.Name))
	}
	defer j.Close()
	unlock, err := a.lock("host-"+t.Name, "net "+verb)
	if err != nil {
		return err
	}
	defer unlock()
	p := j.Plan()
	res := &netApplyResult{Version: 1, Host: t.Name, Outcome: network.NotApplied, Already: true, Journal: j.Path}
	switch end, _ := j.End(); {
	case !j.Sent():
		return a.nothingToDo(verb, res, fmt.Sprintf("%s: the last run sent no change", t.Name))
	case !j.Open() && (verb == "resume" || end.Outcome != network.Applied):
		res.Outcome = end.Outcome
		return a.nothingToDo(verb, res, fmt.Sprintf("%s: the move to %s is closed: %s", t.Name, p.To, outcomeWords(end.Outcome)))
	}
	if j.CleanedUp() && verb == "rollback" {
		return hintf(exitWith(exitUnsafe, fmt.Errorf("%s was cleaned up after this move: what it goes back to is gone", p.Host)),
			"labctl net apply %s --to %s plans the way back anew", p.Host, p.From)
	}
	accept := f.accept
	if verb == "resume" && a.yes {
		accept = append(accept, riskManagement) // accepted when the move began
	}
	if _, err := a.confirmRisk(ctx, p, accept, verb); err != nil {
		return err
	}
	via := f.via
	if via == "" {
		via = p.Via
	}
	if via == "vcenter" && t.VCenter == nil || via == "esxi" && t.ESXi == nil {
		via = ""
	}
	chosen, other, err := t.paths(via)
	if err != nil {
		return err
	}
	defer closePaths(ctx, chosen, other)
	a.leaving("the journal %s; labctl net resume %s goes on from there", j.Path, p.Host)
	run := a.newRun(t, chosen, a.readyPath(ctx, t, other), p, j)
	out, err := do(ctx, run)
	if err != nil {
		return err
	}
	return a.netEnd(ctx, run, out, verb)
}

// nothingToDo closes a command whose journal is complete, or holds nothing. The
// exit code still tells where the host stands: a resume ends with 0 only where
// the move is made.
func (a *app) nothingToDo(verb string, res *netApplyResult, why string) error {
	if verb == "resume" && res.Outcome != network.Applied {
		res.Exit = exitUnchanged
	}
	a.say("%s; there is nothing to %s", why, map[string]string{"resume": "finish", "rollback": "take back"}[verb])
	if err := a.result(res, func(*page) {}); err != nil {
		return err
	}
	if res.Exit != exitDone {
		return exitWith(res.Exit, nil)
	}
	return nil
}

// journalTarget finds the host and its journal. With a journal from elsewhere
// the host need not be in the config: the journal knows its addresses.
func (a *app) journalTarget(ctx context.Context, name, file string) (*target, *network.Journal, error) {
	if file == "" {
		t, err := a.target(name)
		if err != nil {
			return nil, nil, err
		}
		if t.Name == "" {
			path, _, err := t.paths("")
			if err != nil {
				return nil, nil, err
			}
			defer closePaths(ctx, path)
			if err := t.name(ctx, path); err != nil {
				return nil, nil, err
			}
		}
		j, err := a.latestJournal(t.Name)
		return t, j, err
	}
	j, err := network.OpenJournal(file)
	if err != nil {
		return nil, nil, exitWith(exitUsage, err)
	}
	if name != "" && name != j.Host() {
		j.Close()
		return nil, nil, usagef("the journal %s is about %s, not %s", file, j.Host(), name)
	}
	t, err := a.target(j.Host())
	if err == nil {
		return t, j, nil
	}
	t, err = a.targetFrom(j)
	if err != nil {
		j.Close()
		return nil, nil, err
	}
	return t, j, nil
}

// targetFrom builds a target from the addresses in a journal.
func (a *app) targetFrom(j *network.Journal) (*target, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	t := &target{Name: j.Host(), Host: &HostConf{Name: j.Host()}}
	for via, e := range j.Endpoints() {
		access := &Access{URL: e.URL, User: e.User, Thumbprint: e.Thumbprint}
		variable := "LABCTL_PASSWORD"
		if via == "vcenter" {
			variable = "LABCTL_VCENTER_PASSWORD"
		}
		ep, err := a.endpoint(s, access, via+" in the journal", "", variable)
		if err != nil {
			return nil, err
		}
		if via == "vcenter" {
			t.VCenter = ep
		} else {
			t.ESXi = ep
		}
	}
	if t.ESXi == nil && t.VCenter == nil {
		return nil, usagef("the journal of %s names no address", j.Host())
	}
	return t, nil
}

// --- status

type netStatusResult struct {
	Version  int             `json:"version"`
	Host     string          `json:"host"`
	Open     bool            `json:"open"` // a migration waits to be finished or undone
	Journal  string          `json:"journal,omitempty"`
	Started  string          `json:"started,omitempty"`
	From     network.Kind    `json:"from,omitempty"`
	To       network.Kind    `json:"to,omitempty"`
	Outcome  network.Outcome `json:"outcome,omitempty"`
	Left     []string        `json:"left,omitempty"`
	LastAct  string          `json:"lastAct,omitempty"`
	Now      string          `json:"now,omitempty"` // where the management adapter is, as read just now
	NowKind  network.Kind    `json:"nowKind,omitempty"`
	Unread   string          `json:"unread,omitempty"` // why it could not be read
	LeftOver int             `json:"leftovers"`        // things that cleanup could remove
}

func (a *app) netStatusCommand() *cobra.Command {
	var via string
	c := &cobra.Command{
		Use: "status [HOST]", Short: "Tell where a host stands, and whether a move is unfinished",
		Long: `Status shows the host's newest journal and where its management adapter is now.
It exits 3 while a move waits to be finished or undone.`,
		Example: "  labctl net status nuc01", Args: argsBetween(0, 1, "one host"), ValidArgsFunction: a.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error { return a.netStatus(cmd.Context(), first(args), via) },
	}
	a.viaFlag(c, &via)
	return c
}

func (a *app) netStatus(ctx context.Context, name, via string) error {
	t, err := a.target(name)
	if err != nil {
		return err
	}
	chosen, other, err := t.paths(via)
	if err != nil {
		return err
	}
	defer closePaths(ctx, chosen, other)
	if err := t.name(ctx, chosen); err != nil {
		return err
	}
	j, err := a.latestJournal(t.Name)
	if err != nil {
		return err
	}
	r := &netStatusResult{Version: 1, Host: t.Name}
	vmk := firstOf(t.Host.Network.VMK, "vmk0")
	if j != nil {
		defer j.Close()
		r.Journal, r.Open = j.Path, j.Open()
		if p := j.Plan(); p != nil {
			r.From, r.To = p.From, p.To
		}
		r.Started = j.Records[0].Time.Local().Format("2006-01-02 15:04:05")
		if end, ok := j.End(); ok {
			r.Outcome, r.Left = end.Outcome, end.Left
		} else if !j.Sent() {
			r.Outcome = network.NotApplied
		} else {
			r.Outcome = network.Unknown
			for _, rec := range j.Records {
				if rec.Kind == "act" {
					r.LastAct = rec.Act
				}
			}
		}
	}
	s, _, err := a.readEither(ctx, chosen, other)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		r.Unread = strings.ReplaceAll(err.Error(), "\n", "; ")
	default:
		for _, v := range s.Vmkernels {
			if v.Device == vmk {
				r.Now, r.NowKind = fmt.Sprintf("%s, %s switch, port group %s", v.Switch, v.Kind, v.Group), v.Kind
			}
		}
		for _, l := range network.Leftovers(s, vmk) {
			if l.Safe {
				r.LeftOver++
			}
		}
	}
	if err := a.result(r, func(p *page) { writeNetStatus(p, r, vmk) }); err != nil {
		return err
	}
	switch {
	case r.Open:
		a.hint("labctl net resume %s finishes or undoes it, labctl net rollback %s takes it back", t.Name, t.Name)
		return exitWith(exitPending, nil)
	case r.LeftOver > 0:
		a.hint("labctl net cleanup %s shows what is no longer needed", t.Name)
	}
	return nil
}

func writeNetStatus(p *page, r *netStatusResult, vmk string) {
	t := table{}
	t.row(bold, "host", r.Host)
	if r.Unread != "" {
		t.row(red, vmk, "not to be read: "+r.Unread)
	} else {
		t.row(plain, vmk, dash(r.Now))
	}
	switch {
	case r.Journal == "":
		t.row(plain, "last move", "none recorded")
	case r.To == "":
		t.row(plain, "last move", "started "+r.Started+", ended before it had a plan")
	case r.Open:
		t.row(yellow, "last move", fmt.Sprintf("to %s, started %s: not finished", r.To, r.Started))
	default:
		t.row(plain, "last move", fmt.Sprintf("to %s, started %s: %s", r.To, r.Started, outcomeWords(r.Outcome)))
	}
	if r.LastAct != "" {
		t.row(yellow, "interrupted in", r.LastAct)
	}
	for _, l := range r.Left {
		t.row(yellow, "left", l)
	}
	if r.Journal != "" {
		t.row(plain, "journal", r.Journal)
	}
	t.write(p)
}

// --- cleanup

type netCleanupResult struct {
	Version int                `json:"version"`
	Host    string             `json:"host"`
	Items   []network.Leftover `json:"items"`
	Removed []string           `json:"removed"`
	Left    []string           `json:"left"`
}

func (a *app) netCleanupCommand() *cobra.Command {
	var via string
	c := &cobra.Command{
		Use: "cleanup [HOST]", Short: "Remove what a move left in place on purpose",
		Long: `Cleanup lists switches without an uplink, their port groups, and the membership
of a distributed switch that the host no longer uses, and whether each is safe
to remove: safe is what nothing is plugged into, a powered-off machine included.
It removes the safe ones after a question, or with --yes. After that rollback is
no longer possible; apply in the other direction is.

While a move is unfinished it refuses.`,
		Example: "  labctl net cleanup nuc01", Args: argsBetween(0, 1, "one host"), ValidArgsFunction: a.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error { return a.netCleanup(cmd.Context(), first(args), via) },
	}
	a.viaFlag(c, &via)
	return c
}

func (a *app) netCleanup(ctx context.Context, name, via string) error {
	t, err := a.target(name)
	if err != nil {
		return err
	}
	chosen, other, err := t.paths(via)
	if err != nil {
		return err
	}
	defer closePaths(ctx, chosen, other)
	if err := t.name(ctx, chosen); err != nil {
		return err
	}
	unlock, err := a.lock("host-"+t.Name, "net cleanup")
	if err != nil {
		return err
	}
	defer unlock()
	if err := a.noOpenJournal(t.Name); err != nil {
		return err
	}
	h, err := chosen.Host(ctx)
	if err != nil {
		return err
	}
	s, err := network.Read(ctx, h)
	if err != nil {
		return err
	}
	if s.State != "connected" {
		return exitWith(exitUnsafe, fmt.Errorf("vCenter shows %s as %s: what it tells about its network is old", t.Name, s.State))
	}
	vmk := firstOf(t.Host.Network.VMK, "vmk0")
	r := &netCleanupResult{Version: 1, Host: t.Name, Items: network.Leftovers(s, vmk), Removed: []string{}, Left: []string{}}
	safe := 0
	for _, l := range r.Items {
		if l.Safe {
			safe++
		}
	}
	list := func(p *page) {
		tab := table{header: []string{"LEFT OVER", "SAFE", "BECAUSE"}}
		for _, l := range r.Items {
			if l.Safe {
				tab.row(plain, l.What, "yes", l.Reason)
			} else {
				tab.row(yellow, l.What, "no", l.Reason)
			}
		}
		tab.write(p)
	}
	if len(r.Items) == 0 {
		a.say("%s has nothing left over", t.Name)
		return a.result(r, func(*page) {})
	}
	if safe == 0 {
		return a.result(r, list)
	}
	if !a.yes {
		if !a.interactive() {
			if err := a.result(r, list); err != nil {
				return err
			}
			a.hint("labctl net cleanup %s --yes removes what is safe", t.Name)
			return nil
		}
		pg := &page{colour: a.colour(a.stderr)}
		list(pg)
		a.stderrLines("", pg.String())
		if ok, err := a.confirm(ctx, fmt.Sprintf("remove the %d that are safe?", safe)); err != nil || !ok {
			return err
		}
	}
	j, err := a.latestJournal(t.Name)
	if err != nil {
		return err
	}
	if j != nil {
		defer j.Close()
		var names []string
		for _, l := range r.Items {
			if l.Safe {
				names = append(names, l.What)
			}
		}
		if err := j.Cleaned(names); err != nil {
			return err
		}
	}
	run := &network.Run{Via: chosen, Plan: &network.Plan{Host: t.Name}, Timeout: a.set.Timeout, On: a.runView(t.Name)}
	r.Removed, r.Left, err = run.Remove(ctx, s, r.Items)
	if err != nil {
		return exitWith(exitChanged, err)
	}
	if err := a.result(r, func(p *page) {
		for _, what := range r.Removed {
			p.printf("removed %s\n", what)
		}
		for _, what := range r.Left {
			p.printf("%s\n", p.paint(red, "left "+what))
		}
	}); err != nil {
		return err
	}
	if len(r.Left) > 0 {
		return exitWith(exitChanged, fmt.Errorf("%s: %d of %d could not be removed", t.Name, len(r.Left), safe))
	}
	return nil
}
