package network

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// PlanVersion is the format of a saved plan.
const PlanVersion = 1

// Goal says what a plan is to reach.
type Goal struct {
	To               Kind              `json:"to"`
	Vmk              string            `json:"vmk,omitempty"`       // the management vmkernel adapter; default vmk0
	Uplink           string            `json:"uplink,omitempty"`    // must be one of those that move, where given
	Switch           string            `json:"switch,omitempty"`    // standard switch; default vSwitch0, or the one vmk is on
	DVS              string            `json:"dvs,omitempty"`       // distributed switch; default: the only one, or the one vmk is on
	PortGroup        string            `json:"portgroup,omitempty"` // of vmk after the move; default "Management Network", or what matches
	Map              map[string]string `json:"map,omitempty"`       // port group names that change on the way, old to new
	CreatePortGroups bool              `json:"createPortgroups,omitempty"`
	VCSAOnHost       bool              `json:"vcsaOnHost,omitempty"`
	Accept           []string          `json:"accept,omitempty"` // risks, by the names that refusals give

	// What the planner cannot see in a host: the names and addresses under
	// which its vCenter is known here, and the addresses of this machine.
	VCenter []string `json:"vcenter,omitempty"`
	Local   []string `json:"-"`
}

// Plan is a move and its inverse, as a pure function of a snapshot and a goal.
type Plan struct {
	Version     int       `json:"version"`
	Host        string    `json:"host"`
	Via         string    `json:"via"` // vcenter or esxi
	From        Kind      `json:"from"`
	To          Kind      `json:"to"`
	FromSwitch  string    `json:"fromSwitch"`
	ToSwitch    string    `json:"toSwitch"`
	Fingerprint string    `json:"fingerprint"`
	Already     bool      `json:"already,omitempty"` // the host is where the goal wants it
	Changes     []Change  `json:"changes"`
	Refusals    []Refusal `json:"refusals"`
	Lost        []string  `json:"lost"`
	Warnings    []string  `json:"warnings,omitempty"`
	Undo        string    `json:"undo,omitempty"` // who takes it back if it goes wrong
	Requests    int       `json:"requests"`       // API calls of an apply, login and logout included

	Goal     Goal     `json:"goal"`
	Prepare  *Prepare `json:"prepare,omitempty"`  // on the DVS, before the host is touched
	Prepared *Prepare `json:"prepared,omitempty"` // the same, once it is done
	Forward  Config   `json:"forward"`
	Inverse  Config   `json:"inverse"`
	VMs      []VMEdit `json:"vms"`
	Before   Layout   `json:"before"`
	After    Layout   `json:"after"`
	Made     Made     `json:"made"` // what Forward creates on the host
}

// Change is one line of the plan.
type Change struct {
	Action         string `json:"action"` // add, change or remove
	Kind           string `json:"kind"`   // switch, portgroup, uplink, vmkernel, vm, membership
	Object         string `json:"object"`
	Before         string `json:"before"`
	After          string `json:"after"`
	CutsManagement bool   `json:"cutsManagement"`
}

// Refusal is a reason not to go on. One with a Risk can be overruled by
// accepting that risk by its name.
type Refusal struct {
	Code   string `json:"code"`
	Reason string `json:"reason"`
	Risk   string `json:"risk,omitempty"`
}

// Prepare is what the DVS needs first. It cuts nobody off.
type Prepare struct {
	DVS    string     `json:"dvs"`
	Create []NewGroup `json:"create,omitempty"`
	Join   bool       `json:"join,omitempty"` // make the host a member, without an uplink
}

// NewGroup is a distributed port group to create.
type NewGroup struct {
	Name      string   `json:"name"`
	VLAN      int      `json:"vlan"`
	Ephemeral bool     `json:"ephemeral,omitempty"`
	Policy    Policy   `json:"policy"`
	Slots     []string `json:"slots"` // uplink ports of the switch, all active
}

// Made names what the change creates, and what its undoing removes again.
type Made struct {
	Switch     string   `json:"switch,omitempty"`
	PortGroups []string `json:"portgroups,omitempty"`
}

// VMEdit moves the network adapters of one virtual machine.
type VMEdit struct {
	Ref    types.ManagedObjectReference `json:"ref"`
	Name   string                       `json:"name"`
	Urgent bool                         `json:"urgent,omitempty"` // vCenter, router, DNS or this machine: goes out first
	NICs   []NICEdit                    `json:"nics"`
}

// NICEdit moves one network adapter. Its MAC and connection flags stay.
type NICEdit struct {
	Key   int32      `json:"key"`
	Label string     `json:"label"`
	From  Attachment `json:"from"`
	To    Attachment `json:"to"`
}

// Config is a HostNetworkConfig that survives JSON, interfaces included.
type Config struct{ types.HostNetworkConfig }

// MarshalJSON writes vim25 JSON, with type names where an interface needs one.
func (c Config) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	if err := types.NewJSONEncoder(&b).Encode(c.HostNetworkConfig); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Config) UnmarshalJSON(b []byte) error {
	return types.NewJSONDecoder(bytes.NewReader(b)).Decode(&c.HostNetworkConfig)
}

// ParsePlan reads a saved plan.
func ParsePlan(b []byte) (*Plan, error) {
	var p Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("not a plan: %w", err)
	}
	switch {
	case p.Version != PlanVersion:
		return nil, fmt.Errorf("not a plan of this labctl: its version is %d, not %d", p.Version, PlanVersion)
	case p.Host == "" || p.Fingerprint == "" || (p.To != Standard && p.To != Distributed) || (p.Via != "vcenter" && p.Via != "esxi"):
		return nil, fmt.Errorf("not a plan: host, fingerprint, to or via is missing")
	}
	return &p, nil
}

// StaleError says that the host is no longer as it was when a plan was made.
type StaleError struct{ Host string }

func (e *StaleError) Error() string {
	return fmt.Sprintf("the plan is stale: the network of %s has changed since it was made", e.Host)
}

// Refused reports whether anything speaks against carrying the plan out.
func (p *Plan) Refused() bool { return len(p.Refusals) > 0 }

// Rest reports whether management is where it should be already, and the plan
// moves what was left behind without an uplink.
func (p *Plan) Rest() bool { return !p.Already && p.Management().At.Kind == p.To }

// Management returns the plan's management adapter, as it is before.
func (p *Plan) Management() VmkernelState {
	for _, v := range p.Before.Vmkernels {
		if v.Device == p.Goal.Vmk {
			return v
		}
	}
	return VmkernelState{Device: p.Goal.Vmk}
}

// planner gathers a plan's parts.
type planner struct {
	*Plan
	s    *Snapshot
	vmk  *Vmkernel
	used map[string]*mapping // by name of the old port group and what is plugged in
}

// mapping is one port group and its counterpart on the other switch.
type mapping struct {
	from, to Attachment
	policy   Policy // of the new one
}

// NewPlan works out the move, its inverse, what gets lost and what speaks
// against it. It is pure: the same snapshot and goal give the same plan.
func NewPlan(s *Snapshot, g Goal) *Plan {
	if g.Vmk == "" {
		g.Vmk = "vmk0"
	}
	p := &planner{s: s, used: map[string]*mapping{}, Plan: &Plan{
		Version: PlanVersion, Host: s.Host, Via: "esxi", To: g.To, Goal: g,
		Changes: []Change{}, Refusals: []Refusal{}, Lost: []string{}, VMs: []VMEdit{},
		Before: Layout{Uplinks: []UplinkState{}, Vmkernels: []VmkernelState{}, NICs: []NICState{}},
		After:  Layout{Uplinks: []UplinkState{}, Vmkernels: []VmkernelState{}, NICs: []NICState{}},
	}}
	if s.VCenter {
		p.Via = "vcenter"
	}
	p.Fingerprint = fingerprint(s, g)
	p.vmk = s.vmkernel(g.Vmk)
	if p.vmk == nil {
		var have []string
		for _, v := range s.Vmkernels {
			have = append(have, v.Device)
		}
		p.refuse("no-vmk", "the host has no vmkernel adapter %s; it has %s", g.Vmk, strings.Join(have, ", "))
		return p.Plan
	}
	p.From = p.vmk.Kind
	if d := s.leftBehind(p.vmk, g); p.From == g.To && d != nil {
		p.From = Distributed
		p.checkHost()
		p.restToStandard(d)
		p.finish()
		p.Undo = "labctl net rollback plugs the machines back in; management is not touched"
		return p.Plan
	}
	if p.From == g.To {
		p.Already, p.FromSwitch, p.ToSwitch = true, p.vmk.Switch, p.vmk.Switch
		return p.Plan
	}
	p.checkHost()
	if g.To == Standard {
		p.toStandard()
	} else {
		p.toDistributed()
	}
	p.finish()
	return p.Plan
}

func (p *planner) refuse(code, format string, args ...any) {
	p.add(Refusal{Code: code, Reason: fmt.Sprintf(format, args...)})
}

// refuseUnless refuses, or warns where the risk was accepted by name. It
// reports whether the risk was accepted.
func (p *planner) refuseUnless(risk, code, format string, args ...any) bool {
	r := Refusal{Code: code, Reason: fmt.Sprintf(format, args...), Risk: risk}
	if slices.Contains(p.Goal.Accept, risk) {
		p.Warnings = append(p.Warnings, r.Reason+" (accepted: "+risk+")")
		return true
	}
	p.add(r)
	return false
}

func (p *planner) add(r Refusal) {
	if !slices.Contains(p.Refusals, r) {
		p.Refusals = append(p.Refusals, r)
	}
}

func (p *planner) lose(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !slices.Contains(p.Lost, line) {
		p.Lost = append(p.Lost, line)
	}
}

func (p *planner) warn(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !slices.Contains(p.Warnings, line) {
		p.Warnings = append(p.Warnings, line)
	}
}

// checkHost refuses what has nothing to do with the direction.
func (p *planner) checkHost() {
	s := p.s
	if s.State != "" && s.State != string(types.HostSystemConnectionStateConnected) {
		p.refuse("host-not-connected", "vCenter shows %s as %s: what it tells about its network is old", s.Host, s.State)
	}
	for _, t := range s.RunningTasks {
		p.refuse("task-running", "a task is running: %s; wait until it is done", t)
	}
	if s.HA {
		p.refuseUnless("ha", "ha-enabled", "vSphere HA is on for this host's cluster and may act on the short break; turn it off or put the host into maintenance first")
	}
}

// checkUplinks refuses uplinks that cannot carry management.
func (p *planner) checkUplinks(names []string, on string) {
	if len(names) == 0 {
		p.refuse("no-uplink", "%s has no uplink to move", on)
		return
	}
	if u := p.Goal.Uplink; u != "" && !slices.Contains(names, u) {
		p.refuse("uplink-not-there", "uplink %s is not on %s, which has %s", u, on, strings.Join(names, ", "))
	}
	var dead []string
	for _, n := range names {
		if u := p.s.uplink(n); u == nil || u.Link == 0 {
			dead = append(dead, n)
		}
	}
	switch {
	case len(dead) == len(names):
		p.refuse("link-down", "%s has no link: check the cable", strings.Join(dead, ", "))
	case len(dead) > 0:
		p.warn("%s has no link", strings.Join(dead, ", "))
	}
	if len(names) > 1 {
		p.warn("all uplinks of %s move: %s", on, strings.Join(names, ", "))
	}
}

// checkStorage refuses to take the storage away from under running machines.
func (p *planner) checkStorage(moving []*Vmkernel) {
	for _, v := range moving {
		for _, service := range []string{"vsan", "vsanWitness", "nvmeTcp", "nvmeRdma"} {
			if v.Has(service) {
				p.refuseUnless("lose-storage", "storage-vmk", "%s carries %s: storage goes away while the uplink moves", v.Device, service)
			}
		}
	}
	for _, st := range p.s.IPStorage {
		by := p.route(st.Address)
		if slices.ContainsFunc(moving, func(v *Vmkernel) bool { return by == nil || v.Device == by.Device }) {
			p.refuseUnless("lose-storage", "storage-vmk", "%s storage %s at %s is reached over this switch and goes away while the uplink moves", st.Kind, st.Name, st.Address)
		}
	}
}

// route returns the adapter in whose subnet an address lies; nil when none
// does, or the address is a name: then the default gateway decides.
func (p *planner) route(address string) *Vmkernel {
	for i := range p.s.Vmkernels {
		if v := &p.s.Vmkernels[i]; v.inSubnet(address) {
			return v
		}
	}
	for _, g := range p.s.Gateways {
		for i := range p.s.Vmkernels {
			if v := &p.s.Vmkernels[i]; v.inSubnet(g) {
				return v
			}
		}
	}
	return nil
}

// machines plans the virtual machines whose adapters are on the old switch.
// place returns where an adapter of an old port group goes.
func (p *planner) machines(place func(NIC) (Attachment, bool)) {
	s := p.s
	var first types.ManagedObjectReference
	for i := range s.VMs {
		vm := &s.VMs[i]
		edit := VMEdit{Ref: vm.Ref, Name: vm.Name}
		var left []string
		for k := range vm.NICs {
			n := &vm.NICs[k]
			if n.Kind != p.From || n.Switch != p.FromSwitch {
				continue
			}
			left = append(left, n.Label)
			if to, ok := place(*n); ok {
				edit.NICs = append(edit.NICs, NICEdit{Key: n.Key, Label: n.Label, From: n.at(s), To: to})
			}
		}
		if len(left) == 0 {
			continue
		}
		if vm.Template {
			if p.refuseUnless("templates", "template", "template %s is plugged into %s, and templates cannot be edited", vm.Name, p.FromSwitch) {
				p.lose("template %s stays on %s: convert it to a virtual machine to move it", vm.Name, p.FromSwitch)
			}
			continue
		}
		if vm.Snapshots && p.refuseUnless("snapshots", "snapshot", "%s has snapshots that remember %s: reverting to one plugs it back in there, without an uplink", vm.Name, p.FromSwitch) {
			p.lose("snapshots of %s remember %s", vm.Name, p.FromSwitch)
		}
		role := p.role(vm)
		p.checkBinding(vm.Name, role, edit.NICs)
		switch role {
		case "":
		case roleVCSA:
			first = vm.Ref
			edit.Urgent = true
			if !p.Goal.VCSAOnHost {
				p.refuse("vcsa-on-host", "vCenter itself runs here, as %s: it would cut itself off and roll the change back; --vcsa-on-host goes straight to the host and moves its NIC right after", vm.Name)
			} else if s.VCenter {
				p.refuse("vcsa-on-host", "vCenter itself runs here, as %s: the change must go straight to the host (--via esxi)", vm.Name)
			} else {
				p.warn("vCenter runs here, as %s: it is moved first, straight on the host", vm.Name)
			}
		case roleSelf:
			edit.Urgent = true
			p.warn("labctl itself runs here, in %s: it is cut off with the host until its NIC has moved", vm.Name)
		default:
			edit.Urgent = true
			p.warn("%s is %s: it moves first", vm.Name, role)
		}
		if len(edit.NICs) > 0 {
			p.VMs = append(p.VMs, edit)
		}
	}
	rank := func(e VMEdit) int {
		switch {
		case e.Ref == first:
			return 0 // vCenter: the others may need it
		case e.Urgent:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(p.VMs, func(a, b VMEdit) int { return rank(a) - rank(b) })
}

// checkBinding looks at what a direct session cannot do: plug a machine into a
// port group with static binding. Where there is a vCenter, the machine follows
// through it, once the host is back; vCenter's own machine cannot wait for that.
func (p *planner) checkBinding(name, role string, nics []NICEdit) {
	if p.s.VCenter {
		return
	}
	for _, n := range nics {
		if !p.s.static(n.To) {
			continue
		}
		switch {
		case role == roleVCSA:
			p.refuse("static-binding", "%s on %s has static binding, and vCenter, which alone can plug something into it, runs in %s: make it ephemeral first", n.To.Group, n.To.Switch, name)
		case len(p.Goal.VCenter) == 0:
			p.refuse("static-binding", "%s on %s has static binding, and only vCenter can plug %s into it", n.To.Group, n.To.Switch, name)
		default:
			p.warn("%s has static binding: machines on it follow through vCenter, once it answers", n.To.Group)
		}
	}
}

// static reports whether only vCenter can plug something in there.
func (s *Snapshot) static(a Attachment) bool {
	if a.Kind != Distributed {
		return false
	}
	d := s.dvs(a.UUID)
	if d == nil {
		return true
	}
	g := d.group(a.GroupKey)
	return g == nil || !g.Ephemeral
}

const (
	roleVCSA = "vCenter"
	roleSelf = "this machine"
)

// vcsaProduct begins the name of vCenter's appliance among a machine's vApp
// properties; older versions say "VMware vCenter Server Appliance".
const vcsaProduct = "VMware vCenter Server"

// sameHost reports whether two names are one host's: alike, or one of them
// short and the first label of the other.
func sameHost(a, b string) bool {
	a, b = strings.ToLower(strings.TrimSuffix(a, ".")), strings.ToLower(strings.TrimSuffix(b, "."))
	short, domain, full := strings.Cut(a, ".")
	other, otherDomain, otherFull := strings.Cut(b, ".")
	return a != "" && short == other && (domain == otherDomain || !full || !otherFull) && net.ParseIP(a) == nil && net.ParseIP(b) == nil
}

// role recognises the machines that others depend on, by their address. Nobody
// depends on one that is powered off.
func (p *planner) role(vm *VM) string {
	if !vm.On {
		return ""
	}
	has := func(some []string) bool {
		return slices.ContainsFunc(vm.IPs, func(ip string) bool { return slices.Contains(some, ip) })
	}
	vcenter := append(slices.Clone(p.Goal.VCenter), p.s.ManagedBy)
	vcenter = slices.DeleteFunc(vcenter, func(s string) bool { return s == "" || s == "localhost" || strings.HasPrefix(s, "127.") })
	switch {
	case strings.HasPrefix(vm.Product, vcsaProduct) || has(vcenter) || slices.ContainsFunc(vcenter, func(name string) bool { return sameHost(name, vm.HostName) }):
		return roleVCSA
	case has(p.Goal.Local):
		return roleSelf
	case has(p.s.Gateways):
		return "the router (its address is the host's gateway)"
	case has(p.s.DNS):
		return "the DNS server of the host"
	}
	return ""
}

// finish completes what both directions share: layouts, changes of machines,
// the inverse's story and the bill.
func (p *planner) finish() {
	s := p.s
	for _, vm := range p.VMs {
		for _, n := range vm.NICs {
			p.Changes = append(p.Changes, Change{Action: "change", Kind: "vm", Object: vm.Name + " " + n.Label, Before: n.From.String(), After: n.To.String()})
			before := NICState{VM: vm.Name, Ref: vm.Ref.Value, Key: n.Key, NIC: n.Label, At: n.From}
			for _, v := range s.VMs {
				for _, have := range v.NICs {
					if v.Ref == vm.Ref && have.Key == n.Key {
						before.MAC = have.MAC
					}
				}
			}
			after := before
			after.At = n.To
			p.Before.NICs, p.After.NICs = append(p.Before.NICs, before), append(p.After.NICs, after)
		}
	}
	if !s.VCenter && p.To == Standard && s.ManagedBy != "" {
		// vCenter learns of it afterwards (DvsHostWentOutOfSyncEvent), and its way
		// to mend that is to write its own picture to the host.
		p.warn("vCenter will show the host as out of sync with %s until labctl net cleanup has ended its membership: do not rectify it there, that takes the uplink back", p.FromSwitch)
	}
	switch {
	case !s.VCenter && p.Goal.VCSAOnHost && !p.hostCanUndo(s):
		p.Undo = "by hand: vCenter runs here, and the host alone cannot plug adapters back into a port group with static binding; make the management port group ephemeral first, and labctl net rollback will do"
		p.warn("there is no way back with labctl as long as the management port group of %s has static binding", p.FromSwitch)
	case !s.VCenter && !p.hostCanUndo(s):
		p.Undo = "labctl net rollback, through vCenter: the host alone cannot plug an adapter into a port group with static binding"
	case !s.VCenter:
		p.Undo = "labctl net rollback; on this path nobody reverts by itself"
	case s.Rollback == "false":
		p.Undo = "labctl net rollback; vCenter's own rollback is turned off (config.vpxd.network.rollback)"
	default:
		p.Undo = "vCenter reverts by itself a change that cuts the host off; after that labctl net rollback"
	}
	// Service content, login, find, read, the change, one re-read, logout; and
	// vCenter's rollback setting on its path.
	p.Requests = 7 + len(p.VMs)
	if s.VCenter {
		p.Requests++
	}
	if p.Prepare != nil {
		p.Requests += 3 + len(p.Prepare.Create)
	}
	slices.SortFunc(p.Refusals, func(a, b Refusal) int { return strings.Compare(a.Code+a.Reason, b.Code+b.Reason) })
}

// fingerprint digests what a plan depends on, and nothing that changes by
// itself: no port keys, no link speeds, no guest addresses, no tasks.
func fingerprint(s *Snapshot, g Goal) string {
	type group struct {
		Key, Name string
		VLAN      VLAN
		Policy    Policy
		Ephemeral bool
		MACLearn  bool
		Features  []string
	}
	type sw struct {
		Kind        Kind
		ID, Name    string
		MTU         int
		Member      bool
		Uplinks     []UplinkState
		Slots, LAGs []string
		Features    []string
		PortGroups  []group
	}
	type machine struct {
		Ref                 string
		Template, Snapshots bool
		NICs                []NICState
	}
	var d struct {
		Goal      Goal
		Links     map[string]bool
		Switches  []sw
		Vmkernels []VmkernelState
		Machines  []machine
	}
	d.Goal = g
	d.Goal.Accept, d.Goal.Local, d.Goal.VCenter = nil, nil, nil
	d.Links = map[string]bool{}
	for _, u := range s.Uplinks {
		d.Links[u.Device] = u.Link > 0
	}
	for _, v := range s.Standard {
		one := sw{Kind: Standard, Name: v.Name, MTU: int(v.Spec.Mtu)}
		for _, u := range v.Uplinks {
			one.Uplinks = append(one.Uplinks, s.uplinkState(u))
		}
		for _, pg := range v.PortGroups {
			one.PortGroups = append(one.PortGroups, group{Name: pg.Label, VLAN: taggedVLAN(pg.VLAN), Policy: pg.Policy})
		}
		d.Switches = append(d.Switches, one)
	}
	for _, v := range s.Distributed {
		one := sw{Kind: Distributed, ID: v.UUID, Name: v.Name, MTU: v.MTU, Member: v.Member, LAGs: sorted(v.LAGs), Features: sorted(v.Features)}
		for _, m := range v.Members {
			one.Uplinks = append(one.Uplinks, s.uplinkState(m.PnicDevice))
		}
		for _, p := range v.Ports {
			one.Slots = append(one.Slots, p.Name)
		}
		// The host tells members and ports in no order.
		slices.Sort(one.Slots)
		slices.SortFunc(one.Uplinks, func(a, b UplinkState) int { return strings.Compare(a.Device, b.Device) })
		for _, pg := range v.PortGroups {
			one.PortGroups = append(one.PortGroups, group{Key: pg.Key, Name: pg.Name, VLAN: pg.VLAN, Ephemeral: pg.Ephemeral,
				MACLearn: pg.MACLearn, Features: sorted(pg.Features),
				Policy: Policy{Security: pg.Security, Teaming: pg.Teaming, Shaping: pg.Shaping}})
		}
		d.Switches = append(d.Switches, one)
	}
	slices.SortFunc(d.Switches, func(a, b sw) int { return strings.Compare(string(a.Kind)+a.Name+a.ID, string(b.Kind)+b.Name+b.ID) })
	for i := range s.Vmkernels {
		d.Vmkernels = append(d.Vmkernels, s.Vmkernels[i].state(s))
	}
	slices.SortFunc(d.Vmkernels, func(a, b VmkernelState) int { return strings.Compare(a.Device, b.Device) })
	for i := range s.VMs {
		vm := &s.VMs[i]
		one := machine{Ref: vm.Ref.Value, Template: vm.Template, Snapshots: vm.Snapshots}
		for k := range vm.NICs {
			n := &vm.NICs[k]
			one.NICs = append(one.NICs, NICState{Key: n.Key, MAC: n.MAC, At: n.at(s)})
		}
		d.Machines = append(d.Machines, one)
	}
	slices.SortFunc(d.Machines, func(a, b machine) int { return strings.Compare(a.Ref, b.Ref) })
	b, err := json.Marshal(d)
	if err != nil {
		// Strings, numbers and bools marshal; a Goal holds nothing else.
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func sorted(some []string) []string {
	some = slices.Clone(some)
	slices.Sort(some)
	return some
}
