package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi/vch"
)

type vchDownResult struct {
	Version int           `json:"version"`
	VCHs    []vch.Removal `json:"vchs"`
	Exit    int           `json:"exit"`
}

type vchDownFlags struct {
	place                        vchPlace
	force, volumes, all, expired bool
	prefix                       string
}

func (a *app) vchDownCommand() *cobra.Command {
	var f vchDownFlags
	c := &cobra.Command{
		Use: "down NAME... | --expired | --all [--prefix P]", Short: "Remove VCHs",
		Long: `Down removes VCHs with their container VMs, pool, folder, files, and the bridge
network where it was made for them. It works on VCHs that vic-machine made, of
any version, and on what a run that was killed left behind; what is gone already
is no error, and to remove a VCH twice is none either.

Only machines whose own configuration proves them to be containers of this VCH
are removed: others stay, and then their pool does. Running containers need
--force. Volume stores stay unless --volumes is given.

Exit codes: 0 nothing is left; 6 something is, and is named; 7 containers are
running, and nothing was removed.`,
		Example: `  labctl vch down t1
  labctl vch down --all --prefix ci-`,
		Args:              argsBetween(0, -1, "names of VCHs"),
		ValidArgsFunction: a.completeVCHs,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.vchDown(cmd.Context(), &f, args) },
	}
	c.Flags().BoolVar(&f.force, "force", false, "remove running containers too")
	c.Flags().BoolVar(&f.volumes, "volumes", false, "remove volume stores too, with what is in them")
	c.Flags().BoolVar(&f.expired, "expired", false, "remove the VCHs whose --ttl is over")
	c.Flags().BoolVar(&f.all, "all", false, "remove all VCHs")
	c.Flags().StringVar(&f.prefix, "prefix", "", "with --all: only those whose name begins with `P`")
	a.vchPlaceFlags(c, &f.place)
	return c
}

func (f *vchDownFlags) check(names []string) error {
	switch {
	case f.prefix != "" && !f.all:
		return usagef("--prefix goes with --all")
	case f.all && f.expired:
		return usagef("--all and --expired exclude each other")
	case (f.all || f.expired) && len(names) > 0:
		return usagef("%s is named, and --all or --expired chooses too: give one of them", names[0])
	case !f.all && !f.expired && len(names) == 0:
		return hintf(usagef("which VCH is missing"), "to list them: labctl vch ls")
	}
	for i, n := range names {
		if n == "" || slices.Contains(names[:i], n) {
			return usagef("the name %q stands there twice, or is none", n)
		}
	}
	return nil
}

func (a *app) vchDown(ctx context.Context, f *vchDownFlags, names []string) error {
	if err := f.check(names); err != nil {
		return err
	}
	s, done, err := a.vchDial(ctx, &f.place)
	if err != nil {
		return err
	}
	defer done()
	if f.all || f.expired {
		if names, err = a.vchChoose(ctx, s, f); err != nil {
			return err
		}
		if len(names) == 0 {
			a.say("no VCH is to be removed")
			a.nextLine = "what is there: " + a.like("vch", "ls")
			return a.result(vchDownResult{Version: 1, VCHs: []vch.Removal{}}, func(*page) {})
		}
	}
	unlock, err := a.lockVCHs(names, "vch down")
	if err != nil {
		return err
	}
	defer unlock()
	var targets []vch.Target
	for _, n := range names {
		t := vch.Target{Name: n}
		if t.CertDir, err = a.vchDir(n); err != nil {
			return err
		}
		if t.Journal, err = vch.OpenJournal(s.journals, s.server(), n); err != nil {
			return err
		}
		defer t.Journal.Done()
		targets = append(targets, t)
	}
	a.leaving("what is not removed yet; labctl vch down %s goes on", strings.Join(names, " "))
	view := &vchProgress{a: a}
	// A removal that was begun is carried to its end: half of a VCH helps
	// nobody. The second ctrl-c stops it.
	res, err := vch.Down(context.WithoutCancel(ctx), s.Client, targets, vch.DownOptions{On: view.on, Force: f.force, Volumes: f.volumes})
	view.end()
	a.leaving("")
	if err != nil {
		return a.vchError(err)
	}
	out := vchDownResult{Version: 1, VCHs: res}
	a.nextLine = "what is there now: " + a.like("vch", "ls")
	a.remember(func(f *seenFile) {
		for _, r := range res {
			if len(r.Left) == 0 {
				delete(f.VCHs, r.Name)
			}
		}
	})
	for _, r := range res {
		if len(r.Left) > 0 {
			out.Exit = exitChanged
		}
		if !r.Found {
			a.say("%s: there is no such VCH, and nothing of it is left", r.Name)
		}
	}
	if err := a.result(out, func(pg *page) { a.writeRemovals(pg, res) }); err != nil {
		return err
	}
	if out.Exit != 0 {
		return hintf(exitWith(out.Exit, fmt.Errorf("not everything could be removed")), "to try the rest again: %s", a.again())
	}
	return nil
}

// vchChoose lists the VCHs that --all or --expired mean.
func (a *app) vchChoose(ctx context.Context, s *vchSession, f *vchDownFlags) ([]string, error) {
	list, err := vch.List(ctx, s.Client)
	if err != nil {
		return nil, err
	}
	seen := map[string]int{}
	for _, e := range list {
		seen[e.Name]++
	}
	var names []string
	for _, e := range list {
		if f.expired && (e.Expires.IsZero() || e.Expires.After(a.now())) || !strings.HasPrefix(e.Name, f.prefix) {
			continue
		}
		if seen[e.Name] > 1 {
			names = append(names, e.ID)
			continue
		}
		names = append(names, e.Name)
	}
	if f.expired {
		return names, nil
	}
	// What a killed run left has no machine to be listed by.
	left, err := vch.Journals(s.journals, s.server())
	if err != nil {
		return nil, err
	}
	for _, n := range left {
		if seen[n] == 0 && strings.HasPrefix(n, f.prefix) && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	if f.prefix == "" && len(names) > 0 {
		yes, err := a.confirm(ctx, fmt.Sprintf("remove %s?", strings.Join(names, ", ")))
		if err != nil {
			return nil, err
		}
		if !yes {
			return nil, exitWith(exitFailed, fmt.Errorf("nothing was removed"))
		}
	}
	return names, nil
}

func (a *app) writeRemovals(pg *page, list []vch.Removal) {
	for _, r := range list {
		switch {
		case !r.Found: // said on stderr
		case len(r.Left) == 0:
			pg.printf("%s: removed\n", r.Name)
		default:
			pg.printf("%s: not all of it is removed\n", r.Name)
		}
		for _, l := range r.Left {
			pg.WriteString(pg.paint(red, printable("  left: "+l)) + "\n")
		}
		for _, k := range r.Kept {
			pg.printf("  kept: %s\n", k)
		}
	}
}
