package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi/network"
)

type netCleanupResult struct {
	Version int                `json:"version"`
	Host    string             `json:"host"`
	Items   []network.Leftover `json:"items"`
	Removed []string           `json:"removed"`
	Left    []string           `json:"left"`
}

func (a *app) netCleanupCommand() *cobra.Command {
	var via string
	var named []string
	c := &cobra.Command{
		Use: "cleanup [HOST]", Short: "Remove what a move left in place on purpose",
		Long: `Cleanup lists switches without an uplink, their port groups, and the membership
of a distributed switch that the host no longer uses, and whether each is safe
to remove: safe is what a move of labctl made or emptied and nothing is plugged
into, a powered-off machine included. A switch that no journal here names may be
isolated on purpose; it goes only if --switch names it.

Cleanup removes the safe ones after a question, or with --yes. After that
rollback is no longer possible; apply in the other direction is.

While a move is unfinished it refuses.`,
		Example: "  labctl net cleanup nuc01\n  labctl net cleanup nuc01 --switch vSwitch1 --yes", Args: argsBetween(0, 1, "one host"), ValidArgsFunction: a.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.netCleanup(cmd.Context(), first(args), via, named)
		},
	}
	a.viaFlag(c, &via)
	c.Flags().StringArrayVar(&named, "switch", nil, "also a switch called `NAME` that labctl did not make or empty; repeatable")
	return c
}

// ownSwitches tells the switches that cleanup may remove: those in the host's
// journals, and those the user names.
func (a *app) ownSwitches(host string, named []string) (func(network.SwitchName) bool, error) {
	dir, err := a.statePath("journals")
	if err != nil {
		return nil, err
	}
	own, err := network.OwnSwitches(dir, host)
	return func(n network.SwitchName) bool { return slices.Contains(own, n) || slices.Contains(named, n.Name) }, err
}

func (a *app) netCleanup(ctx context.Context, name, via string, named []string) error {
	t, err := a.target(name)
	if err != nil {
		return err
	}
	chosen, _, done, err := a.reach(ctx, t, via, "net cleanup")
	if err != nil {
		return err
	}
	defer done()
	if err := a.noOpenJournal(t.Name); err != nil {
		return err
	}
	s, err := chosen.Read(ctx, nil)
	if err != nil {
		return err
	}
	if s.State != "connected" {
		return hintf(exitWith(exitUnsafe, fmt.Errorf("vCenter shows %s as %s: what it tells about its network is old", t.Name, s.State)),
			"again when vCenter has it back; --via esxi does what the host can do alone")
	}
	vmk := firstOf(t.Host.Network.VMK, "vmk0")
	own, err := a.ownSwitches(t.Name, named)
	if err != nil {
		return err
	}
	r := &netCleanupResult{Version: 1, Host: t.Name, Items: append([]network.Leftover{}, network.Leftovers(s, vmk, own)...), Removed: []string{}, Left: []string{}}
	safe := 0
	var unused []string
	for _, l := range r.Items {
		if l.Safe {
			safe++
		}
		if !slices.Contains(unused, l.Switch) {
			unused = append(unused, l.Switch)
		}
	}
	for _, n := range named {
		if !slices.Contains(unused, n) {
			return usagef("--switch %s: %s has no unused switch of that name; unused: %s", n, t.Name, dash(strings.Join(unused, ", ")))
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
		a.next("where it stands", "net", "status", t.Name)
		return a.result(r, func(*page) {})
	}
	if safe == 0 {
		if err := a.result(r, list); err != nil {
			return err
		}
		if len(named) == 0 {
			a.say("--switch NAME also takes one that labctl did not make or empty")
		}
		return nil
	}
	if !a.yes {
		if !a.interactive() {
			if err := a.result(r, list); err != nil {
				return err
			}
			a.next("to remove what is safe", "net", "cleanup", t.Name, "--yes")
			return nil
		}
		pg := a.page(a.stderr)
		list(pg)
		a.stderrLines("", pg.text())
		if ok, err := a.confirm(ctx, fmt.Sprintf("remove the %d that are safe?", safe)); err != nil || !ok {
			return err
		}
		// A person may have thought about it for an hour.
		if s, err = chosen.Read(ctx, nil); err != nil {
			return err
		}
		now := network.Leftovers(s, vmk, own)
		if !slices.EqualFunc(now, r.Items, network.Leftover.Same) {
			return hintf(exitWith(exitStale, fmt.Errorf("%s: what is left over has changed since it was listed; nothing was removed", t.Name)), "run the command again")
		}
		r.Items = now
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
	removed, left, err := run.Remove(ctx, s, r.Items)
	if err != nil {
		return exitWith(exitChanged, err)
	}
	r.Removed, r.Left = append(r.Removed, removed...), append(r.Left, left...)
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
