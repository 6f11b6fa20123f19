package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/network"
)

func (a *app) netCommand() *cobra.Command {
	return a.noun("net", "Move vmk0 and its uplink between switches",
		`Net moves a host's vmkernel adapters and their uplink between a Distributed
vSwitch and a standard vSwitch, in one transaction, and the virtual machines
after them. Every step is in a journal before it happens, and what came of it is
read back from the host.`,
		`  labctl net plan nuc01 --to standard
  labctl net apply nuc01 --to standard`,
		a.netShowCommand(), a.netPlanCommand(), a.netApplyCommand(), a.netStatusCommand(),
		a.netResumeCommand(), a.netRollbackCommand(), a.netCleanupCommand())
}

// riskManagement is the risk that every apply takes.
const riskManagement = "lose-management"

// risks are the names that --accept-risk takes, each with what it accepts.
var risks = []struct{ name, what string }{
	{riskManagement, "the host is off the network while its uplink moves, and may stay so"},
	{"lose-storage", "IP storage is away while the uplink moves"},
	{"ha", "vSphere HA may act on the short break"},
	{"snapshots", "reverting to a snapshot plugs a machine back into the old switch"},
	{"templates", "templates stay on the old switch"},
	{"mac-learning", "MAC learning becomes promiscuous mode"},
}

// netFlags say what a plan is to reach.
type netFlags struct {
	to, via, vswitch, dvs, portgroup string
	mapping                          []string
	create, vcsa                     bool
	accept                           []string
	rescue                           rescueFlags // apply only
}

func (a *app) goalFlags(c *cobra.Command, f *netFlags) {
	c.Flags().StringVar(&f.to, "to", "", "kind of switch to move to: `standard|distributed`")
	c.Flags().StringVar(&f.vswitch, "switch", "", "`NAME` of the standard switch (default: the config's, else vSwitch0)")
	c.Flags().StringVar(&f.dvs, "dvs", "", "`NAME` of the distributed switch (default: the config's, else the only one)")
	c.Flags().StringVar(&f.portgroup, "portgroup", "", "`NAME` of the management port group after the move (default: the config's)")
	c.Flags().StringArrayVar(&f.mapping, "map", nil, "`OLD=NEW` name of a port group on the other switch; repeatable")
	c.Flags().BoolVar(&f.create, "create-portgroups", false, "create port groups that the distributed switch lacks")
	c.Flags().BoolVar(&f.vcsa, "vcsa-on-host", false, "vCenter runs on this host: go straight to the host and move its NIC first")
	a.viaFlag(c, &f.via)
	c.RegisterFlagCompletionFunc("to", cobra.FixedCompletions([]string{"standard", "distributed"}, cobra.ShellCompDirectiveNoFileComp))
	a.acceptFlag(c, f)
}

func (a *app) acceptFlag(c *cobra.Command, f *netFlags) {
	var names []string
	for _, r := range risks {
		names = append(names, r.name)
	}
	c.Flags().StringSliceVar(&f.accept, "accept-risk", nil, "accept a `RISK` by its name: "+strings.Join(names, ", "))
	c.RegisterFlagCompletionFunc("accept-risk", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}

func (f *netFlags) checkRisks() error {
	for _, name := range f.accept {
		if !slices.ContainsFunc(risks, func(r struct{ name, what string }) bool { return r.name == name }) {
			var names []string
			for _, r := range risks {
				names = append(names, r.name)
			}
			return hintf(usagef("--accept-risk %s: there is no such risk", name), "risks are %s", strings.Join(names, ", "))
		}
	}
	return nil
}

// goal merges the flags with what the config says of the host.
func (a *app) goal(t *target, f *netFlags) (network.Goal, error) {
	n := t.Host.Network
	g := network.Goal{
		Vmk: n.VMK, Uplink: n.Uplink, Switch: f.vswitch, DVS: f.dvs, PortGroup: f.portgroup,
		CreatePortGroups: f.create, VCSAOnHost: f.vcsa, Accept: f.accept, Local: localAddresses(),
	}
	switch f.to {
	case "standard":
		g.To = network.Standard
		g.PortGroup = firstOf(g.PortGroup, n.Standard.PortGroup)
	case "distributed":
		g.To = network.Distributed
		g.PortGroup = firstOf(g.PortGroup, n.Distributed.PortGroup)
	case "":
		a.next("what it is on now", "net", "show", firstOf(t.Name, t.wanted().URLHost))
		return g, hintf(usagef("where to is missing"), "--to standard or --to distributed")
	default:
		return g, usagef("--to %s is neither standard nor distributed", f.to)
	}
	if err := f.checkRisks(); err != nil {
		return g, err
	}
	// The names in the config are defaults for a switch that is to be made or
	// chosen, not a claim about where the adapter is now.
	if g.To == network.Standard {
		g.Switch = firstOf(g.Switch, n.Standard.Switch)
	} else {
		g.DVS = firstOf(g.DVS, n.Distributed.Switch)
	}
	for _, m := range f.mapping {
		from, to, ok := strings.Cut(m, "=")
		if !ok || from == "" || to == "" {
			return g, usagef("--map %s is not OLD=NEW", m)
		}
		if g.Map == nil {
			g.Map = map[string]string{}
		}
		g.Map[from] = to
	}
	if t.VCenter != nil {
		g.VCenter = []string{t.VCenter.URL.Hostname()}
	}
	return g, nil
}

func firstOf(some ...string) string {
	for _, s := range some {
		if s != "" {
			return s
		}
	}
	return ""
}

// localAddresses are this machine's, to recognise it among the host's own
// virtual machines.
func localAddresses() (out []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil // then labctl is not recognised, and nobody is warned
	}
	for _, addr := range addrs {
		if n, ok := addr.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// paths returns the way to the host that was asked for and, where there is one,
// the other.
func (t *target) paths(via string) (chosen, other *network.Path, err error) {
	_, name, err := t.path(via)
	if err != nil {
		return nil, nil, err
	}
	make := func(via string, e *esxi.Endpoint) *network.Path {
		if e == nil {
			return nil
		}
		return &network.Path{Via: via, Want: t.wanted(), Timeout: e.CallTimeout, Dial: func(ctx context.Context) (*esxi.Client, error) { return esxi.Dial(ctx, e) }}
	}
	vcenter, direct := make("vcenter", t.VCenter), make("esxi", t.ESXi)
	if name == "vcenter" {
		return vcenter, direct, nil
	}
	return direct, vcenter, nil
}

// name learns what the host is called, where the command line left it open:
// journals and locks go by it.
func (t *target) name(ctx context.Context, p *network.Path) error {
	if t.Name != "" {
		return nil
	}
	_, err := p.Host(ctx)
	t.Name = p.Name
	return err
}

// reach opens the way to a host for one command, under a lock where the command
// has a name to hold it by. done logs out and lets go.
func (a *app) reach(ctx context.Context, t *target, via, command string) (chosen, other *network.Path, done func(), err error) {
	chosen, other, err = t.paths(via)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := t.name(ctx, chosen); err != nil {
		closePaths(ctx, chosen)
		return nil, nil, nil, err
	}
	unlock := func() {}
	if command != "" {
		if unlock, err = a.lock("host-"+t.Name, command); err != nil {
			closePaths(ctx, chosen)
			return nil, nil, nil, err
		}
	}
	return chosen, other, func() { closePaths(ctx, chosen, other); unlock() }, nil
}

func closePaths(ctx context.Context, paths ...*network.Path) {
	for _, p := range paths {
		if p != nil {
			p.Close(ctx)
		}
	}
}

// viaFor lets --vcsa-on-host choose the direct path, which is its point.
func (f *netFlags) viaFor() string {
	if f.via == "" && f.vcsa {
		return "esxi"
	}
	return f.via
}

// planFor reads the host and works out the plan.
func (a *app) planFor(ctx context.Context, t *target, p *network.Path, g network.Goal) (*network.Snapshot, *network.Plan, error) {
	s, err := p.Read(ctx, &g)
	if err != nil {
		return nil, nil, err
	}
	s.Host = firstOf(t.Name, s.Host)
	a.saw(s.Host, s)
	return s, network.NewPlan(s, g), nil
}

func (a *app) netPlanCommand() *cobra.Command {
	var f netFlags
	var out string
	var detailed bool
	c := &cobra.Command{
		Use: "plan [HOST]", Short: "Show what a move would change",
		Long: `Plan reads the host once and shows every change of a move to the other kind of
switch: what is added, what moves, what cuts management off, what has no
equivalent and gets lost, and who takes it back if it goes wrong. It changes
nothing. What the plan refuses ends with exit 7, with the reason. Where management
is on a standard switch already, it plans what a console's restore has left behind
on a distributed switch without an uplink.

A plan that is saved with --out can be applied later. It carries a fingerprint
of the host: when the host has changed since, apply refuses it with exit 4.`,
		Example:           "  labctl net plan nuc01 --to standard --out nuc01-plan.json",
		Args:              argsBetween(0, 1, "one host"),
		ValidArgsFunction: a.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.netPlan(cmd.Context(), first(args), &f, out, detailed)
		},
	}
	a.goalFlags(c, &f)
	c.Flags().StringVar(&out, "out", "", "save the plan as `FILE`, by custom *.json")
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 3 when the plan holds changes")
	return c
}

func (a *app) netPlan(ctx context.Context, name string, f *netFlags, out string, detailed bool) error {
	t, err := a.target(name)
	if err != nil {
		return err
	}
	g, err := a.goal(t, f)
	if err != nil {
		return err
	}
	path, _, err := t.paths(f.viaFor())
	if err != nil {
		return err
	}
	defer closePaths(ctx, path)
	_, p, err := a.planFor(ctx, t, path, g)
	if err != nil {
		return err
	}
	if err := a.result(p, func(pg *page) { writePlan(pg, p) }); err != nil {
		return err
	}
	switch {
	case p.Refused():
		if out != "" {
			a.say("the plan is refused, so %s was not written", out)
		}
		return a.refusal(p)
	case p.Already:
		a.next("where it stands", "net", "status", p.Host)
		return nil
	}
	if out != "" {
		if err := savePlan(out, p); err != nil {
			return err
		}
		a.say("saved as %s", out)
		a.next("to carry it out", "net", "apply", planArgument(out))
	} else {
		a.nextLine = "to carry it out: " + a.like("net", "apply", p.Host, "--to", string(p.To))
	}
	if detailed {
		return exitWith(exitPending, nil)
	}
	return nil
}

// refusal is the error for a plan that must not be carried out.
func (a *app) refusal(p *network.Plan) error {
	err := exitWith(exitUnsafe, fmt.Errorf("%s: the move to %s is refused: %s", p.Host, p.To, p.Refusals[0].Reason))
	if n := len(p.Refusals) - 1; n > 0 {
		err = exitWith(exitUnsafe, fmt.Errorf("%w (and %d more)", err, n))
	}
	var overrule []string
	for _, r := range p.Refusals {
		if r.Risk == "" {
			return hintf(err, "why, and what to do: labctl help %s", r.Code)
		}
		if !slices.Contains(overrule, r.Risk) {
			overrule = append(overrule, r.Risk)
		}
	}
	return hintf(err, "--accept-risk=%s overrules it; what that means: labctl help %s", strings.Join(overrule, ","), p.Refusals[0].Code)
}

// savePlan writes a plan under a temporary name first: a plan is whole or not
// there.
func savePlan(path string, p *network.Plan) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".plan-*")
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("save the plan: %w", err)
	}
	return nil
}

// isPlanFile tells a plan file from a host: by its ending, or by a slash.
func isPlanFile(arg string) bool {
	return strings.HasSuffix(arg, ".json") || strings.ContainsAny(arg, "/\\")
}

// planArgument spells a file so that apply takes it for one.
func planArgument(path string) string {
	if isPlanFile(path) {
		return path
	}
	return "./" + path
}

// loadPlan reads a saved plan. Whatever is wrong with it is bad input.
func loadPlan(path string) (*network.Plan, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("plan file: %w", err)
	}
	p, err := network.ParsePlan(b)
	if err != nil {
		return nil, usagef("plan file %s%s: %w", path, jsonPlace(b, err), err)
	}
	return p, nil
}

// jsonPlace is :line:col of a JSON error, where it has one.
func jsonPlace(b []byte, err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var at int64
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at = kind.Offset
	default:
		return ""
	}
	before := b[:min(int(at), len(b))]
	line := 1 + strings.Count(string(before), "\n")
	col := len(before) - strings.LastIndexByte(string(before), '\n') - 1
	return fmt.Sprintf(":%d:%d", line, max(col, 1))
}

// --- show

type netShowResult struct {
	Version   int         `json:"version"`
	Host      string      `json:"host"`
	Via       string      `json:"via"`
	State     string      `json:"state"`
	Vmkernels []netVmk    `json:"vmkernels"`
	Uplinks   []netUplink `json:"uplinks"`
	Switches  []netSwitch `json:"switches"`
	VMs       []netVM     `json:"vms"`
}

type netVmk struct {
	Device     string       `json:"device"`
	IP         string       `json:"ip"`
	MAC        string       `json:"mac"`
	MTU        int          `json:"mtu"`
	Switch     string       `json:"switch"`
	SwitchKind network.Kind `json:"switchKind"`
	PortGroup  string       `json:"portgroup"`
	VLAN       int          `json:"vlan"`
	Services   []string     `json:"services"`
}

type netUplink struct {
	Device     string       `json:"device"`
	Link       int          `json:"link"` // Mbit/s; 0: no link
	Switch     string       `json:"switch"`
	SwitchKind network.Kind `json:"switchKind"`
}

type netSwitch struct {
	Name       string       `json:"name"`
	Kind       network.Kind `json:"switchKind"`
	MTU        int          `json:"mtu"`
	Uplinks    []string     `json:"uplinks"`
	PortGroups []netGroup   `json:"portgroups"`
}

type netGroup struct {
	Name string `json:"name"`
	VLAN int    `json:"vlan"`
}

type netVM struct {
	Name string   `json:"name"`
	NICs []netNIC `json:"nics"`
}

type netNIC struct {
	Label      string       `json:"label"`
	MAC        string       `json:"mac"`
	Switch     string       `json:"switch"`
	SwitchKind network.Kind `json:"switchKind"`
	PortGroup  string       `json:"portgroup"`
	Connected  bool         `json:"connected"`
}

// otherKind is the kind of switch that a move from k goes to.
func otherKind(k network.Kind) string {
	if k == network.Standard {
		return string(network.Distributed)
	}
	return string(network.Standard)
}

func (a *app) afterShow(r *netShowResult, vmk string) {
	for _, v := range r.Vmkernels {
		if v.Device == vmk && v.Switch != "" {
			a.nextLine = "to see what a move would change: " + a.like("net", "plan", r.Host, "--to", otherKind(v.SwitchKind))
		}
	}
}

func (a *app) netShowCommand() *cobra.Command {
	var via string
	c := &cobra.Command{
		Use: "show [HOST]", Short: "Show where adapters, uplinks and machines are plugged in",
		Long: `Show reads the host once and lists its switches, what is plugged into them, and
which uplink carries them. When vCenter cannot reach the host, it asks the host
itself and says so.`,
		Example:           "  labctl net show nuc01",
		Args:              argsBetween(0, 1, "one host"),
		ValidArgsFunction: a.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			t, err := a.target(first(args))
			if err != nil {
				return err
			}
			chosen, other, err := t.paths(via)
			if err != nil {
				return err
			}
			if via != "" {
				other = nil
			}
			defer closePaths(ctx, chosen, other)
			s, used, err := a.readEither(ctx, chosen, other)
			if err != nil {
				return err
			}
			r := newNetShow(t, s, used.Via)
			a.saw(r.Host, s)
			a.afterShow(r, firstOf(t.Host.Network.VMK, "vmk0"))
			return a.result(r, func(p *page) { writeNetShow(p, r) })
		},
	}
	a.viaFlag(c, &via)
	return c
}

// readEither reads the host on the first path and, where that does not reach
// it, on the second. What vCenter remembers of a host that it lost is shown
// only if nothing better is to be had.
func (a *app) readEither(ctx context.Context, chosen, other *network.Path) (*network.Snapshot, *network.Path, error) {
	s, err := chosen.Read(ctx, nil)
	if err == nil && (s.State == "connected" || other == nil) {
		return s, chosen, nil
	}
	if other == nil || ctx.Err() != nil {
		return nil, nil, err
	}
	why := ""
	if err != nil {
		why = err.Error()
	} else {
		why = "vCenter shows the host as " + s.State
	}
	s2, err2 := other.Read(ctx, nil)
	switch {
	case err2 == nil:
		a.say("%s; read on the other path instead, via %s", why, other.Via)
		return s2, other, nil
	case err == nil:
		a.warn("%s, and the host itself does not answer (%s): this is what vCenter remembers", why, err2)
		return s, chosen, nil
	}
	code := exitCode(ctx, err) // of both, where they agree: a missing password is bad input
	err = fmt.Errorf("%w; and on the other path: %w", err, err2)
	if code == exitCode(ctx, err2) {
		err = exitWith(code, err)
	}
	return nil, nil, err
}

func newNetShow(t *target, s *network.Snapshot, via string) *netShowResult {
	r := &netShowResult{Version: 1, Host: firstOf(t.Name, s.Host), Via: via, State: s.State,
		Vmkernels: []netVmk{}, Uplinks: []netUplink{}, Switches: []netSwitch{}, VMs: []netVM{}}
	for _, v := range s.Vmkernels {
		r.Vmkernels = append(r.Vmkernels, netVmk{
			Device: v.Device, IP: v.IP, MAC: v.MAC, MTU: v.MTU, Switch: v.Switch, SwitchKind: v.Kind, PortGroup: v.Group, VLAN: v.VLAN.ID,
			Services: append([]string{}, v.Services...),
		})
	}
	for _, u := range s.Uplinks {
		r.Uplinks = append(r.Uplinks, netUplink{Device: u.Device, Link: u.Link, Switch: u.Switch, SwitchKind: u.Kind})
	}
	for _, sw := range s.Standard {
		n := netSwitch{Name: sw.Name, Kind: network.Standard, MTU: int(sw.Spec.Mtu), Uplinks: append([]string{}, sw.Uplinks...), PortGroups: []netGroup{}}
		for _, g := range sw.PortGroups {
			n.PortGroups = append(n.PortGroups, netGroup{g.Label, g.VLAN})
		}
		r.Switches = append(r.Switches, n)
	}
	for _, d := range s.Distributed {
		if !d.Member {
			continue
		}
		n := netSwitch{Name: d.Name, Kind: network.Distributed, MTU: d.MTU, Uplinks: []string{}, PortGroups: []netGroup{}}
		for _, m := range d.Members {
			n.Uplinks = append(n.Uplinks, m.PnicDevice)
		}
		for _, g := range d.PortGroups {
			if !g.Uplink {
				n.PortGroups = append(n.PortGroups, netGroup{g.Name, g.VLAN.ID})
			}
		}
		r.Switches = append(r.Switches, n)
	}
	for _, vm := range s.VMs {
		n := netVM{Name: vm.Name, NICs: []netNIC{}}
		for _, c := range vm.NICs {
			n.NICs = append(n.NICs, netNIC{Label: c.Label, MAC: c.MAC, Switch: c.Switch, SwitchKind: c.Kind, PortGroup: c.Group, Connected: c.Connected})
		}
		r.VMs = append(r.VMs, n)
	}
	return r
}
