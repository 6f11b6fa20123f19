package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi/network"
	"github.com/labctl/labctl/recipes/dcui"
)

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
	err = exitWith(exitUnsafe, fmt.Errorf("an earlier migration of %s is not finished: %s", host, j.Path))
	return hintf(hintf(err, "to finish it, or undo it: %s", a.line("net", "resume", host)), "what is left of it: %s", a.line("net", "status", host))
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

func (a *app) netResumeCommand() *cobra.Command {
	return a.journalCommand("resume", "Finish an interrupted move, or undo it",
		`Resume reads the host and finishes the move in its newest journal: what has
arrived is completed, what never left is closed, and what is in between is
undone. After a rescue management stays as the console has set it, and what was
left on the old switch follows. It works from the journal alone, after a crash, a kill -9, or an answer
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
			"to plan the way back anew: %s", a.line("net", "plan", p.Host, "--to", string(p.From)))
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
	if err := a.acting(p.Host, "net "+verb, dcui.NetworkChanged); err != nil {
		return err
	}
	a.leaving("the journal %s; labctl net resume %s goes on from there", j.Path, p.Host)
	run := a.newRun(t, chosen, a.readyPath(ctx, t, other), p, j)
	out, err := do(ctx, run)
	if err != nil {
		return err
	}
	return a.netEnd(ctx, run, out, verb, t.Host.Keyboard, nil)
}

// nothingToDo closes a command whose journal is complete, or holds nothing. The
// exit code still tells where the host stands: a resume ends with 0 only where
// the move is made.
func (a *app) nothingToDo(verb string, res *netApplyResult, why string) error {
	if verb == "resume" && res.Outcome != network.Applied {
		res.Exit = exitUnchanged
	}
	if res.Host != "" {
		a.next("where it stands", "net", "status", res.Host)
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
			_, _, done, err := a.reach(ctx, t, "", "")
			if err != nil {
				return nil, nil, err
			}
			defer done()
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

type netStatusResult struct {
	Version  int             `json:"version"`
	Host     string          `json:"host"`
	Open     bool            `json:"open"` // a migration waits to be finished or undone
	Journal  string          `json:"journal,omitempty"`
	Started  string          `json:"started,omitempty"`
	From     network.Kind    `json:"from,omitempty"`
	To       network.Kind    `json:"to,omitempty"`
	Outcome  network.Outcome `json:"outcome,omitempty"`
	Rescued  bool            `json:"rescued,omitempty"` // its console has put management on a switch of its own
	Left     []string        `json:"left,omitempty"`
	LastAct  string          `json:"lastAct,omitempty"`
	Now      string          `json:"now,omitempty"` // where the management adapter is, as read just now
	NowKind  network.Kind    `json:"nowKind,omitempty"`
	Away     bool            `json:"away,omitempty"`   // nobody reaches the host: Now is what vCenter remembers
	Dark     []string        `json:"dark,omitempty"`   // machines that were left on a switch without an uplink
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
	chosen, other, done, err := a.reach(ctx, t, via, "")
	if err != nil {
		return err
	}
	defer done()
	j, err := a.latestJournal(t.Name)
	if err != nil {
		return err
	}
	r := &netStatusResult{Version: 1, Host: t.Name}
	vmk := firstOf(t.Host.Network.VMK, "vmk0")
	var p *network.Plan
	if j != nil {
		defer j.Close()
		r.Journal, r.Open = j.Path, j.Open()
		if p = j.Plan(); p != nil {
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
		r.Away = s.State != "connected"
		if r.Open && p != nil && !r.Away {
			r.Rescued, r.Dark = p.Settled(s), p.Dark(s)
		} else if !r.Open && r.NowKind == network.Standard {
			if rest := network.NewPlan(s, network.Goal{To: network.Standard, Vmk: vmk}); rest.Rest() {
				r.Dark = rest.Dark(s)
			}
		}
		own, err := a.ownSwitches(t.Name, nil)
		if err != nil {
			return err
		}
		for _, l := range network.Leftovers(s, vmk, own) {
			if l.Safe {
				r.LeftOver++
			}
		}
	}
	if failed := a.result(r, func(p *page) { writeNetStatus(p, r, vmk) }); failed != nil {
		return failed
	}
	switch {
	case r.Open && r.Rescued:
		a.afterRescue(t.Name)
		return exitWith(exitPending, nil)
	case r.Open && (r.Away || r.Unread != "") && t.Host.Keyboard != "":
		a.hint("%s", a.typeHint(t.Name, ""))
		a.next("then", "net", "status", t.Name)
		return exitWith(exitPending, nil)
	case r.Open:
		a.hint("to take it back: %s", a.line("net", "rollback", t.Name))
		a.next("to finish it, or undo it", "net", "resume", t.Name)
		return exitWith(exitPending, nil)
	case len(r.Dark) > 0:
		a.next("to move them after the host", "net", "apply", t.Name, "--to", "standard")
	case r.LeftOver > 0:
		a.next("to see what is no longer needed", "net", "cleanup", t.Name)
	case r.Unread != "" && exitCode(ctx, err) == exitUsage:
		return err
	case r.Unread != "":
		a.next("a look at everything that can be wrong", "doctor")
	case r.NowKind != "":
		a.next("to see what a move would change", "net", "plan", t.Name, "--to", otherKind(r.NowKind))
	}
	return nil
}

// afterRescue is the way on for a host that its console has brought back.
func (a *app) afterRescue(host string) {
	a.hint("to go back to where it was cut off: %s", a.line("net", "rollback", host))
	a.next("to move what is left to the switch that the host is on now", "net", "resume", host)
}

// typeHint is the way back for a host that is gone and has a keyboard. recipe is
// the one in use, or "".
func (a *app) typeHint(host, recipe string) string {
	return "if the host stays away, to type into its console: " + a.line("recipe", "run", firstOf(recipe, "restore-standard-switch"), "--host", host)
}

func writeNetStatus(p *page, r *netStatusResult, vmk string) {
	t := table{}
	t.row(bold, "host", r.Host)
	if r.Unread != "" {
		t.row(red, vmk, "not to be read: "+r.Unread)
	} else {
		t.row(plain, vmk, dash(r.Now))
	}
	if r.Away {
		t.row(red, "", "as vCenter remembers it: the host does not answer")
	}
	switch {
	case r.Journal == "":
		t.row(plain, "last move", "none recorded")
	case r.To == "":
		t.row(plain, "last move", "started "+r.Started+", ended before it had a plan")
	case r.Open && r.Rescued:
		t.row(yellow, "last move", fmt.Sprintf("to %s, started %s: cut off, and brought back from the console; not finished", r.To, r.Started))
	case r.Open:
		t.row(yellow, "last move", fmt.Sprintf("to %s, started %s: not finished", r.To, r.Started))
	default:
		t.row(plain, "last move", fmt.Sprintf("to %s, started %s: %s", r.To, r.Started, outcomeWords(r.Outcome)))
	}
	if r.LastAct != "" {
		t.row(yellow, "interrupted in", r.LastAct)
	}
	if len(r.Dark) > 0 {
		t.row(red, "without an uplink", strings.Join(r.Dark, ", "))
	}
	for _, l := range r.Left {
		t.row(yellow, "left", l)
	}
	if r.Journal != "" {
		t.row(plain, "journal", r.Journal)
	}
	t.write(p)
}
