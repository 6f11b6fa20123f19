package network

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// Limits of vSphere's names: HostVirtualSwitch.name.
const maxSwitchName = 32

// defaultPorts is what ESXi gives a new standard switch. Since 5.5 the number
// is ignored and the switch grows by itself, but the field must be there.
const defaultPorts = 128

// toStandard plans DVS → standard switch.
func (p *planner) toStandard() {
	s := p.s
	d := s.dvsNamed(p.vmk.Switch)
	if d == nil {
		p.refuse("dvs-hidden", "%s is on a DVS that this path does not show", p.vmk.Device)
		return
	}
	if p.Goal.DVS != "" && p.Goal.DVS != d.Name {
		p.refuse("wrong-switch", "%s is on %s, not on %s", p.vmk.Device, d.Name, p.Goal.DVS)
	}
	p.FromSwitch, p.ToSwitch = d.Name, p.Goal.Switch
	if p.ToSwitch == "" {
		p.ToSwitch = "vSwitch0"
	}
	if len(p.ToSwitch) > maxSwitchName {
		p.refuse("bad-name", "switch name %q is longer than %d characters", p.ToSwitch, maxSwitchName)
	}
	if len(d.LAGs) > 0 {
		p.refuse("lag", "%s uses link aggregation (%s), which a standard switch cannot do", d.Name, d.LAGs[0])
	}
	var uplinks []string
	for _, m := range d.Members {
		uplinks = append(uplinks, m.PnicDevice)
	}
	p.checkUplinks(uplinks, d.Name)

	moving, taken := p.stand(d, uplinks)
	p.placeMachines(d, uplinks, taken)
	for _, f := range d.Features {
		p.lose("%s of %s", f, d.Name)
	}
	if !s.VCenter {
		p.warn("only vCenter shows what %s has that a standard switch has not (I/O control, NetFlow, mirroring, ports with settings of their own): it gets lost unlisted", d.Name)
	}
	p.standardChange(d, moving, uplinks)
}

// stand plans a standard port group for each vmkernel adapter on a DVS. taken
// says what is plugged into a new label.
func (p *planner) stand(d *DistributedSwitch, uplinks []string) (moving []*Vmkernel, taken map[string]string) {
	for i := range p.s.Vmkernels {
		if v := &p.s.Vmkernels[i]; v.Kind == Distributed && v.Switch == d.Name {
			moving = append(moving, v)
		}
	}
	p.checkStorage(moving)

	// A standard port group holds one vmkernel adapter, or virtual machines:
	// each adapter gets its own, and machines keep theirs under its old name.
	taken = map[string]string{}
	for _, v := range moving {
		g := d.group(v.GroupKey)
		if g == nil {
			p.refuse("dvs-hidden", "the port group of %s is hidden on this path, and its VLAN is not to be guessed", v.Device)
			continue
		}
		label := p.labelFor(v, g, d)
		if by, ok := taken[label]; ok {
			p.refuse("label-collision", "%s and %s would share the port group %s, and a standard port group holds one vmkernel adapter", by, v.Device, label)
			continue
		}
		taken[label] = v.Device
		if g.VLAN.Trunk {
			p.refuse("vlan-unknown", "%s is on %s, a %s: which VLAN it uses cannot be told from here", v.Device, g.Name, g.VLAN.Text)
			continue
		}
		if c := v.Spec.DistributedVirtualPort; c != nil && slices.Contains(g.OddVLAN, c.PortKey) {
			p.refuse("vlan-unknown", "the port of %s has a VLAN of its own, not that of %s: take the override away first", v.Device, g.Name)
			continue
		}
		p.standardGroup(v.Device, label, g, d, uplinks)
	}
	return moving, taken
}

// placeMachines plans the machines on a DVS, and their port groups.
func (p *planner) placeMachines(d *DistributedSwitch, uplinks []string, taken map[string]string) {
	p.machines(func(n NIC) (Attachment, bool) {
		g := d.group(n.GroupKey)
		if g == nil {
			p.refuse("dvs-hidden", "the port group of a virtual machine's NIC is hidden on this path, and its VLAN is not to be guessed")
			return Attachment{}, false
		}
		label := g.Name
		if to, ok := p.Goal.Map[g.Name]; ok {
			label = to
		}
		if by, ok := taken[label]; ok && by != "" {
			p.refuse("label-collision", "virtual machines and %s would share the port group %s; --map '%s=NAME' gives the machines another one", by, label, g.Name)
			return Attachment{}, false
		}
		m := p.standardGroup("", label, g, d, uplinks)
		return m.to, true
	})
}

// leftBehind returns the distributed switch that has no uplink of the host any
// more, and on which something is still plugged in, while management is on a
// standard switch that has one: a console that restores a standard switch takes
// only management along. It is nil where there is none.
func (s *Snapshot) leftBehind(home *Vmkernel, g Goal) *DistributedSwitch {
	if g.To != Standard || home.Kind != Standard || !s.carried(Standard, home.Switch) {
		return nil
	}
	for i := range s.Distributed {
		d := &s.Distributed[i]
		if d.Member && len(d.Members) == 0 && (g.DVS == "" || g.DVS == d.Name) && len(s.pluggedInto(Distributed, d.Name, "")) > 0 {
			return d
		}
	}
	return nil
}

// restToStandard plans what was left behind on a DVS: it goes to the standard
// switch on which management is, and management stays as it is.
func (p *planner) restToStandard(d *DistributedSwitch) {
	home := p.s.standard(p.vmk.Switch)
	p.FromSwitch, p.ToSwitch = d.Name, home.Name
	for _, u := range home.Uplinks {
		p.Before.Uplinks, p.After.Uplinks = append(p.Before.Uplinks, p.s.uplinkState(u)), append(p.After.Uplinks, p.s.uplinkState(u))
	}
	moving, taken := p.stand(d, home.Uplinks)
	for i := range p.s.Vmkernels {
		if v := &p.s.Vmkernels[i]; v.Kind == Standard && v.Switch == home.Name {
			p.Before.Vmkernels, p.After.Vmkernels = append(p.Before.Vmkernels, v.state(p.s)), append(p.After.Vmkernels, v.state(p.s))
			taken[v.Group] = v.Device
		}
	}
	p.placeMachines(d, home.Uplinks, taken)
	p.standVmkernels(moving)
	p.warn("%s stays as it is: %s", p.vmk.Device, p.vmk.at(p.s))
}

// labelFor names the standard port group of a vmkernel adapter: the configured
// one for management, else the old name, unless machines or another adapter
// need that.
func (p *planner) labelFor(v *Vmkernel, g *DVPortGroup, d *DistributedSwitch) string {
	if v.Device == p.vmk.Device {
		if p.Goal.PortGroup != "" {
			return p.Goal.PortGroup
		}
		return "Management Network"
	}
	if to, ok := p.Goal.Map[g.Name]; ok {
		return to
	}
	shared := false
	for _, vm := range p.s.VMs {
		shared = shared || slices.ContainsFunc(vm.NICs, func(n NIC) bool { return n.GroupKey == g.Key && n.Switch == d.Name })
	}
	for i := range p.s.Vmkernels {
		o := &p.s.Vmkernels[i]
		shared = shared || o.Device < v.Device && o.GroupKey == g.Key && o.Device != p.vmk.Device
	}
	if shared {
		return g.Name + " " + v.Device
	}
	return g.Name
}

// standardGroup plans one standard port group that stands in for g.
func (p *planner) standardGroup(plugged, label string, g *DVPortGroup, d *DistributedSwitch, uplinks []string) *mapping {
	key := plugged + "\x00" + g.Key
	if m := p.used[key]; m != nil {
		return m
	}
	policy := g.onHost(d, uplinks)
	if len(policy.Teaming.Active)+len(policy.Teaming.Standby) == 0 && len(d.LAGs) == 0 {
		policy.Teaming.Active = uplinks
		if len(d.Members) > 0 { // else nothing can name one
			p.lose("%s named no uplink that has a NIC; on %s it uses %s", g.Name, p.ToSwitch, uplinks)
		}
	}
	if policy.Teaming.Mode == byLoad {
		policy.Teaming.Mode = bySourcePort
		p.lose("load-based teaming of %s becomes load balancing by source port", g.Name)
	}
	switch {
	case g.VLAN.PVLAN:
		p.refuse("pvlan", "%s is a %s, which a standard switch cannot do", g.Name, g.VLAN.Text)
	case !g.VLAN.Known:
		p.refuse("vlan-unknown", "the VLAN of %s cannot be read on this path", g.Name)
	case g.VLAN.Trunk && !g.VLAN.full():
		p.lose("%s passes a %s; on a standard switch all VLANs reach the guest", g.Name, g.VLAN.Text)
	}
	if g.MACLearn {
		if p.refuseUnless("mac-learning", "mac-learning", "%s uses MAC learning, which a standard switch cannot do: nested hosts behind it need promiscuous mode and forged transmits instead", g.Name) {
			policy.Security.Promiscuous, policy.Security.Forged = true, true
			p.lose("MAC learning of %s becomes promiscuous mode with forged transmits", g.Name)
		}
	}
	for _, f := range g.Features {
		p.lose("%s of %s", f, g.Name)
	}
	for _, o := range g.Odd {
		p.lose("%s", o)
	}
	if slices.ContainsFunc(p.After.Groups, func(o GroupState) bool { return o.Label == label }) {
		p.refuse("label-collision", "%s and another port group would both become %s; --map '%s=NAME' keeps them apart", g.Name, label, g.Name)
	}
	m := &mapping{
		from:   Attachment{Kind: Distributed, Switch: d.Name, UUID: d.UUID, Group: g.Name, GroupKey: g.Key, VLAN: g.VLAN.ID},
		to:     Attachment{Kind: Standard, Switch: p.ToSwitch, Group: label, VLAN: g.VLAN.ID},
		policy: policy,
	}
	p.used[key] = m
	p.After.Groups = append(p.After.Groups, GroupState{Switch: p.ToSwitch, Label: label, VLAN: g.VLAN.ID, Policy: policy})

	spec := &types.HostPortGroupSpec{Name: label, VlanId: int32(g.VLAN.ID), VswitchName: p.ToSwitch, Policy: policy.host()}
	sw, have := p.s.portGroup(label)
	switch {
	case have == nil:
		p.Forward.Portgroup = append(p.Forward.Portgroup, types.HostPortGroupConfig{ChangeOperation: string(types.HostConfigChangeOperationAdd), Spec: spec})
		p.Made.PortGroups = append(p.Made.PortGroups, label)
		p.Changes = append(p.Changes, Change{Action: "add", Kind: "portgroup", Object: label, After: fmt.Sprintf("%s on %s, as %s has it", vlanText(g.VLAN.ID), p.ToSwitch, g.Name)})
	case sw.Name != p.ToSwitch:
		p.refuse("label-collision", "port group %s exists on %s already, and a label is unique on its host", label, sw.Name)
	case have.VLAN != g.VLAN.ID:
		p.refuse("label-collision", "port group %s exists on %s with %s, but %s has %s", label, sw.Name, vlanText(have.VLAN), g.Name, g.VLAN.Text)
	case p.pluggedElse(label, plugged):
		p.refuse("label-collision", "port group %s is in use by another adapter already", label)
	default:
		p.Forward.Portgroup = append(p.Forward.Portgroup, types.HostPortGroupConfig{ChangeOperation: string(types.HostConfigChangeOperationEdit), Spec: spec})
		p.restore(sw.Name, have, true)
		if diff := have.Policy.differences(policy); len(diff) > 0 {
			p.Changes = append(p.Changes, Change{Action: "change", Kind: "portgroup", Object: label, After: strings.Join(diff, "; ") + ", as " + g.Name + " has it"})
		}
	}
	return m
}

// restore lets the inverse write a standard port group back as it is.
func (p *planner) restore(sw string, g *PortGroup, measured bool) {
	spec := g.Spec
	p.Inverse.Portgroup = append(p.Inverse.Portgroup, types.HostPortGroupConfig{ChangeOperation: string(types.HostConfigChangeOperationEdit), Spec: &spec})
	if !measured {
		return
	}
	p.Before.Groups = append(p.Before.Groups, GroupState{Switch: sw, Label: g.Label, VLAN: g.VLAN, Policy: g.Policy})
}

// pluggedElse reports whether a standard port group holds what keeps an adapter
// of the move out of it: another vmkernel adapter, or machines where it is to
// hold a vmkernel adapter.
func (p *planner) pluggedElse(label, plugged string) bool {
	for _, v := range p.s.Vmkernels {
		if v.Kind == Standard && v.Group == label && v.Device != plugged {
			return true
		}
	}
	return plugged != "" && slices.ContainsFunc(p.s.VMs, func(v VM) bool {
		return slices.ContainsFunc(v.NICs, func(n NIC) bool { return n.Kind == Standard && n.Group == label })
	})
}

// standardChange writes the one call that moves everything, and its inverse.
func (p *planner) standardChange(d *DistributedSwitch, moving []*Vmkernel, uplinks []string) {
	s := p.s
	add, edit := string(types.HostConfigChangeOperationAdd), string(types.HostConfigChangeOperationEdit)
	var vswitch types.HostVirtualSwitchConfig
	if sw := s.standard(p.ToSwitch); sw == nil {
		policy := Policy{Teaming: teaming{Mode: bySourcePort, Reverse: true, Notify: true, Active: uplinks}}.host()
		vswitch = types.HostVirtualSwitchConfig{ChangeOperation: add, Name: p.ToSwitch, Spec: &types.HostVirtualSwitchSpec{
			NumPorts: defaultPorts, Mtu: int32(d.MTU), Policy: &policy,
			Bridge: &types.HostVirtualSwitchBondBridge{NicDevice: uplinks, Beacon: defaultBeacon()},
		}}
		p.Made.Switch = p.ToSwitch
		p.Changes = append([]Change{{Action: "add", Kind: "switch", Object: p.ToSwitch, After: fmt.Sprintf("standard switch, MTU %d", d.MTU)}}, p.Changes...)
		// Left in place by the inverse, without its uplink; it is removed once
		// nothing is plugged into it.
		bare := *vswitch.Spec
		barePolicy := Policy{Teaming: teaming{Mode: bySourcePort, Reverse: true, Notify: true}}.host()
		bare.Bridge, bare.Policy = nil, &barePolicy
		p.Inverse.Vswitch = []types.HostVirtualSwitchConfig{{ChangeOperation: edit, Name: p.ToSwitch, Spec: &bare}}
	} else {
		old, spec := sw.Spec, sw.Spec
		var have *types.HostVirtualSwitchBondBridge
		if b, ok := sw.Spec.Bridge.(*types.HostVirtualSwitchBondBridge); ok {
			have = b
		} else {
			have = &types.HostVirtualSwitchBondBridge{}
		}
		bridge := *have
		bridge.NicDevice = append(slices.Clone(have.NicDevice), uplinks...)
		if bridge.Beacon == nil {
			bridge.Beacon = defaultBeacon()
		}
		spec.Bridge = &bridge
		spec.Mtu = max(spec.Mtu, int32(d.MTU))
		policy := hostPolicy(sw.Uplinks, sw.Spec.Policy, nil)
		policy.Teaming.Active = append(slices.Clone(policy.Teaming.Active), uplinks...)
		full := policy.host()
		spec.Policy = &full
		vswitch = types.HostVirtualSwitchConfig{ChangeOperation: edit, Name: p.ToSwitch, Spec: &spec}
		p.Inverse.Vswitch = []types.HostVirtualSwitchConfig{{ChangeOperation: edit, Name: p.ToSwitch, Spec: &old}}
		if spec.Mtu != old.Mtu {
			p.Changes = append([]Change{{Action: "change", Kind: "switch", Object: p.ToSwitch, Before: fmt.Sprintf("MTU %d", old.Mtu), After: fmt.Sprintf("MTU %d", spec.Mtu)}}, p.Changes...)
		}
	}
	p.Forward.Vswitch = []types.HostVirtualSwitchConfig{vswitch}

	// The list of a proxy switch's NICs is the full one after the change: an
	// empty list takes the last uplink away.
	p.Forward.ProxySwitch = []types.HostProxySwitchConfig{proxyEdit(d.UUID, nil)}
	p.Inverse.ProxySwitch = []types.HostProxySwitchConfig{proxyEdit(d.UUID, d.Members)}

	for _, u := range uplinks {
		before := s.uplinkState(u)
		p.Before.Uplinks = append(p.Before.Uplinks, before)
		p.After.Uplinks = append(p.After.Uplinks, UplinkState{Device: u, Switch: p.ToSwitch, Kind: Standard})
		p.Changes = append(p.Changes, Change{Action: "change", Kind: "uplink", Object: u, Before: before.words(), After: p.ToSwitch, CutsManagement: true})
	}
	p.standVmkernels(moving)
}

// standVmkernels moves adapters to the port groups that stand made for them.
func (p *planner) standVmkernels(moving []*Vmkernel) {
	for _, v := range moving {
		if m := p.used[v.Device+"\x00"+v.GroupKey]; m != nil {
			p.moveVmkernel(v, m.to)
		}
	}
}

// defaultBeacon is what ESXi's own vSwitch0 has: a beacon a second. Without one
// no port group may probe with beacons (HostNicFailureCriteria.checkBeacon).
func defaultBeacon() *types.HostVirtualSwitchBeaconConfig {
	return &types.HostVirtualSwitchBeaconConfig{Interval: 1}
}

func proxyEdit(uuid string, members []types.DistributedVirtualSwitchHostMemberPnicSpec) types.HostProxySwitchConfig {
	return types.HostProxySwitchConfig{
		ChangeOperation: string(types.HostConfigChangeOperationEdit), Uuid: uuid,
		Spec: &types.HostProxySwitchSpec{Backing: &types.DistributedVirtualSwitchHostMemberPnicBacking{PnicSpec: members}},
	}
}

func (u UplinkState) words() string {
	if u.Slot == "" {
		return u.Switch
	}
	return fmt.Sprintf("%s (%s)", u.Switch, u.Slot)
}

// moveVmkernel adds an adapter to both calls with its full live settings: a
// field left out of an edit is a field trusted to a default.
func (p *planner) moveVmkernel(v *Vmkernel, to Attachment) {
	s := p.s
	before := v.state(s)
	after := before
	after.At = to
	p.Before.Vmkernels, p.After.Vmkernels = append(p.Before.Vmkernels, before), append(p.After.Vmkernels, after)
	p.Forward.Vnic = append(p.Forward.Vnic, vnicEdit(v, to))
	p.Inverse.Vnic = append(p.Inverse.Vnic, vnicEdit(v, before.At))
	address := before.IP
	if before.DHCP {
		address += " by DHCP"
	}
	p.Changes = append(p.Changes, Change{
		Action: "change", Kind: "vmkernel", Object: fmt.Sprintf("%s (%s)", v.Device, address),
		Before: before.At.String(), After: to.String(), CutsManagement: v.Device == p.vmk.Device,
	})
}

func vnicEdit(v *Vmkernel, to Attachment) types.HostVirtualNicConfig {
	spec := v.Spec
	if v.DHCP {
		// The leased address is shown, and must not be set (HostIpConfig.dhcp).
		ip := *spec.Ip
		ip.IpAddress, ip.SubnetMask = "", ""
		spec.Ip = &ip
	}
	c := types.HostVirtualNicConfig{ChangeOperation: string(types.HostConfigChangeOperationEdit), Device: v.Device, Spec: &spec}
	if to.Kind == Standard {
		spec.Portgroup, spec.DistributedVirtualPort, c.Portgroup = to.Group, nil, to.Group
		return c
	}
	// Which port of the group is the server's choice; its cookie too.
	spec.Portgroup = ""
	spec.DistributedVirtualPort = &types.DistributedVirtualSwitchPortConnection{SwitchUuid: to.UUID, PortgroupKey: to.GroupKey}
	return c
}
