package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/vch"
)

func (a *app) vchCommand() *cobra.Command {
	return a.noun("vch", "Virtual Container Hosts for testing",
		`Vch stands up vSphere Integrated Containers' Virtual Container Hosts, looks
into them, and takes them down, in the form that vic-machine 1.5 gives them:
either tool works on what the other one made.

VIC 1.5.5 and later was made for vSphere 6.7 and 7.0, on x86 only; its general
support ended in August 2021. A VCH speaks Docker API 1.25, which docker clients
from version 29 on refuse: take one of version 28 or older.`,
		`  labctl vch up t1
  labctl vch test t1
  labctl vch down t1`,
		a.vchUpCommand(), a.vchLsCommand(), a.vchInspectCommand(), a.vchTestCommand(), a.vchLogsCommand(), a.vchDownCommand())
}

// vchPlace is where a vch command works.
type vchPlace struct{ host, via string }

func (a *app) vchPlaceFlags(c *cobra.Command, p *vchPlace) {
	c.Flags().StringVar(&p.host, "host", "", "`NAME` of the host (default: the only one, or the vCenter)")
	a.viaFlag(c, &p.via)
	c.RegisterFlagCompletionFunc("host", a.completeHosts)
}

// vchEndpoint chooses the API: the vCenter where one is configured, else the
// host. With a vCenter no host has to be chosen.
func (a *app) vchEndpoint(p *vchPlace) (*esxi.Endpoint, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	byURL := strings.HasPrefix(s.origins["url"], "flag ")
	if p.host == "" && p.via != "esxi" && s.VCenter.URL != "" && !byURL {
		pin := ""
		if len(s.Hosts) == 0 && s.URL == "" {
			pin = s.Thumbprint
		}
		return a.endpoint(s, &s.VCenter, "vcenter", pin, "LABCTL_VCENTER_PASSWORD")
	}
	t, err := a.target(p.host)
	if err != nil {
		return nil, err
	}
	e, _, err := t.path(p.via)
	return e, err
}

// vchSession is a connection for one command.
type vchSession struct {
	*esxi.Client
	endpoint *esxi.Endpoint
	journals string // folder
}

// vchDial connects; done logs out.
func (a *app) vchDial(ctx context.Context, p *vchPlace) (*vchSession, func(), error) {
	e, err := a.vchEndpoint(p)
	if err != nil {
		return nil, nil, err
	}
	dir, err := a.statePath("vch")
	if err != nil {
		return nil, nil, err
	}
	c, err := esxi.Dial(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	return &vchSession{c, e, dir}, func() { a.logout(ctx, c) }, nil
}

// server is what journals know an endpoint by.
func (s *vchSession) server() string { return endpointKey(s.endpoint.URL) }

// vchDir is the folder of a VCH's files on this machine. A name that vic-machine
// allows and a path does not has none.
func (a *app) vchDir(name string) (string, error) {
	base, err := a.baseDir("XDG_DATA_HOME", ".local/share")
	if err != nil || vch.CheckName(name) != nil {
		return "", err
	}
	return filepath.Join(base, "labctl", "vch", name), nil
}

// lockVCHs takes the lock of each name.
func (a *app) lockVCHs(names []string, command string) (unlock func(), err error) {
	var held []func()
	unlock = func() {
		for _, u := range held {
			u()
		}
	}
	for _, n := range names {
		u, err := a.lock("vch-"+n, command)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, u)
	}
	return unlock, nil
}

// vchError gives the errors of package vch their exit codes and advice.
func (a *app) vchError(err error) error {
	var (
		bundle    *vch.BundleError
		missing   *vch.NotFoundError
		ambiguous *vch.AmbiguousError
		running   *vch.RunningError
	)
	switch {
	case errors.As(err, &bundle):
		return hintf(exitWith(exitUsage, err), "--bundle DIR names the folder with appliance.iso and bootstrap.iso of a VIC 1.5 release; what is needed: labctl help vch")
	case errors.As(err, &missing):
		return hintf(exitWith(exitUsage, err), "to list them: %s", a.like("vch", "ls"))
	case errors.As(err, &ambiguous):
		return hintf(exitWith(exitUsage, err), "give the id instead of the name; to list them: %s", a.like("vch", "ls"))
	case errors.As(err, &running):
		return hintf(exitWith(exitUnsafe, err), "nothing was removed; to remove running containers too: %s", a.again("--force"))
	}
	return err
}

type vchListResult struct {
	Version int         `json:"version"`
	VCHs    []vch.Entry `json:"vchs"`
}

func (a *app) vchLsCommand() *cobra.Command {
	var p vchPlace
	c := &cobra.Command{
		Use: "ls", Short: "List VCHs",
		Long: `Ls finds every VCH by the mark in its own configuration, whoever made it and
whatever its pool is called, in one request for any number of machines.

MARKER says what the mark is worth: match, or moved when it names another
machine (a copy, one that was registered anew, or one made on the host that
vCenter knows by another id), or creating when it was never finished.`,
		Example: "  labctl vch ls",
		Args:    argsBetween(0, 0, "nothing"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, done, err := a.vchDial(cmd.Context(), &p)
			if err != nil {
				return err
			}
			defer done()
			list, err := vch.List(cmd.Context(), s.Client)
			if err != nil {
				return err
			}
			a.sawVCHs(s.server(), list)
			if list == nil {
				list = []vch.Entry{}
			}
			if len(list) == 0 {
				a.nextLine = "to make one: " + a.like("vch", "up", "t1")
			} else {
				a.nextLine = "to look into one: " + a.like("vch", "inspect", list[0].Name)
			}
			return a.result(vchListResult{1, list}, func(pg *page) { a.writeVCHs(pg, list) })
		},
	}
	a.vchPlaceFlags(c, &p)
	return c
}

func (a *app) writeVCHs(pg *page, list []vch.Entry) {
	if len(list) == 0 {
		a.say("there is no VCH")
		return
	}
	t := table{header: []string{"NAME", "ID", "VERSION", "POWER", "DOCKER", "CONTAINERS", "MARKER", "EXPIRES"}}
	for _, e := range list {
		st, expires := plain, "-"
		if !e.Expires.IsZero() {
			expires = e.Expires.Local().Format("2006-01-02 15:04")
			if e.Expires.Before(a.now()) {
				expires, st = expires+" (over)", yellow
			}
		}
		if e.Marker != "match" {
			st = yellow
		}
		t.row(st, e.Name, e.ID, firstOf(e.VersionString, "-"), e.Power, firstOf(e.DockerHost, "-"), fmt.Sprint(e.Containers), e.Marker, expires)
	}
	t.write(pg)
}

type vchInspectResult struct {
	Version int `json:"version"`
	*vch.Details
}

func (a *app) vchInspectCommand() *cobra.Command {
	var p vchPlace
	var vmx bool
	c := &cobra.Command{
		Use: "inspect NAME", Short: "Look into a VCH and its container VMs",
		Long: `Inspect shows a VCH's networks, images and programs, and for every container VM
its image, command, state, serial line, network and disk. All of it comes from
the machines' own configuration: the Docker API is not asked, and a VCH that is
off or broken shows as well. VIC 0.4's keys are read too.

--vmx adds the raw keys, with secrets masked; with -o json they are always there.`,
		Example:           "  labctl vch inspect t1",
		Args:              argsBetween(1, 1, "the name or id of a VCH"),
		ValidArgsFunction: a.completeVCHs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, done, err := a.vchDial(cmd.Context(), &p)
			if err != nil {
				return err
			}
			defer done()
			d, err := vch.Inspect(cmd.Context(), s.Client, args[0])
			if err != nil {
				return a.vchError(err)
			}
			for _, problem := range d.Problems {
				a.warn("%s: %s", d.Name, problem)
			}
			if d.Power == "on" && d.DockerHost != "" {
				a.nextLine = "to run a container in it: " + a.like("vch", "test", args[0])
			} else {
				a.nextLine = "what its appliance says: " + a.like("vch", "logs", args[0])
			}
			return a.result(vchInspectResult{1, d}, func(pg *page) { writeVCH(pg, d, vmx) })
		},
	}
	c.Flags().BoolVar(&vmx, "vmx", false, "show the raw keys too")
	a.vchPlaceFlags(c, &p)
	return c
}

func (a *app) vchLogsCommand() *cobra.Command {
	var p vchPlace
	c := &cobra.Command{
		Use: "logs NAME", Short: "Fetch an appliance's log",
		Long: `Logs prints the end of the log that a VCH's appliance writes over its serial
port to the datastore. Of a VCH that did not boot and was taken back it prints
what was saved before.`,
		Example:           "  labctl vch logs t1",
		Args:              argsBetween(1, 1, "the name or id of a VCH"),
		ValidArgsFunction: a.completeVCHs,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.vchLogs(cmd.Context(), &p, args[0]) },
	}
	a.vchPlaceFlags(c, &p)
	return c
}
