package network

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// toDistributed plans standard switch → DVS.
func (p *planner) toDistributed() {
	s := p.s
	sw := s.standard(p.vmk.Switch)
	if sw == nil {
		p.refuse("no-switch", "the switch of %s is not shown", p.vmk.Device)
		return
	}
	p.FromSwitch = sw.Name
	if p.Goal.Switch != "" && p.Goal.Switch != sw.Name {
		p.refuse("wrong-switch", "%s is on %s, not on %s", p.vmk.Device, sw.Name, p.Goal.Switch)
	}
	d := p.chooseDVS()
	if d == nil {
		return
	}
	p.ToSwitch = d.Name
	p.checkUplinks(sw.Uplinks, sw.Name)
	if len(d.LAGs) > 0 {
		p.refuse("lag", "%s uses link aggregation (%s): joining it needs the physical switch to follow", d.Name, d.LAGs[0])
	}
	if !d.Member {
		if !s.VCenter {
			p.refuse("not-a-member", "the host is not a member of %s, and only vCenter can make it one", d.Name)
			return
		}
		p.prepare(d).Join = true
		p.Changes = append(p.Changes, Change{Action: "add", Kind: "membership", Object: s.Host, After: "member of " + d.Name + ", without an uplink yet"})
	}

	var moving []*Vmkernel
	for i := range s.Vmkernels {
		if v := &s.Vmkernels[i]; v.Kind == Standard && v.Switch == sw.Name {
			moving = append(moving, v)
		}
	}
	p.checkStorage(moving)
	if mtu := int(sw.Spec.Mtu); mtu > d.MTU && d.MTU > 0 {
		p.lose("frames over %d bytes: MTU %d of %s becomes %d", d.MTU, mtu, sw.Name, d.MTU)
	}
	for _, v := range moving {
		if v.MTU > d.MTU && d.MTU > 0 {
			p.refuse("mtu", "%s has MTU %d, but %s passes %d", v.Device, v.MTU, d.Name, d.MTU)
		}
		name := ""
		if v.Device == p.vmk.Device {
			name = p.Goal.PortGroup
		}
		p.distributedGroup(v.Device, v.Group, name, sw, d)
	}
	p.machines(func(n NIC) (Attachment, bool) {
		m := p.distributedGroup("", n.Group, "", sw, d)
		if m == nil {
			return Attachment{}, false
		}
		return m.to, true
	})
	p.distributedChange(sw, d, moving)
}

// chooseDVS returns the switch that is meant, or refuses.
func (p *planner) chooseDVS() *DistributedSwitch {
	var names []string
	for _, d := range p.s.Distributed {
		names = append(names, d.Name)
	}
	if name := p.Goal.DVS; name != "" {
		d := p.s.dvsNamed(name)
		switch {
		case d != nil:
			return d
		case p.s.VCenter:
			p.refuse("no-dvs", "there is no distributed switch %s; there is: %s", name, orNone(strings.Join(names, ", ")))
		default:
			p.refuse("no-dvs", "the host is not a member of a distributed switch %s, and only vCenter can make it one; it is a member of: %s", name, orNone(strings.Join(names, ", ")))
		}
		return nil
	}
	switch len(p.s.Distributed) {
	case 1:
		return &p.s.Distributed[0]
	case 0:
		p.refuse("no-dvs", "there is no distributed switch to move to")
	default:
		p.refuse("which-dvs", "there is more than one distributed switch: %s; name it with --dvs", strings.Join(names, ", "))
	}
	return nil
}

func (p *planner) prepare(d *DistributedSwitch) *Prepare {
	if p.Prepare == nil {
		p.Prepare = &Prepare{DVS: d.Name}
	}
	return p.Prepare
}

// distributedGroup finds the distributed port group that stands in for a
// standard one: the named or mapped one, else the one of the same label. The
// VLAN must be the same: it is what the wire decides by.
func (p *planner) distributedGroup(plugged, label, name string, sw *StandardSwitch, d *DistributedSwitch) *mapping {
	key := plugged + "\x00" + label
	if m, ok := p.used[key]; ok {
		return m
	}
	p.used[key] = nil // refused once is enough
	from := sw.group(label)
	if from == nil {
		p.refuse("no-portgroup", "port group %s is not on %s", label, sw.Name)
		return nil
	}
	if to, ok := p.Goal.Map[label]; ok && name == "" {
		name = to
	}
	if name == "" {
		name = label
	}
	old := Attachment{Kind: Standard, Switch: sw.Name, Group: label, VLAN: from.VLAN}
	g := d.groupNamed(name)
	if base, ok := strings.CutSuffix(name, " "+plugged); g == nil && ok && plugged != "" {
		// The name that the way to a standard switch gives an adapter's own port
		// group, where machines needed the old one.
		if g = d.groupNamed(base); g != nil {
			name = base
		}
	}
	if g == nil {
		return p.missingGroup(key, plugged, name, from, old, d)
	}
	switch {
	case g.VLAN.PVLAN:
		p.refuse("pvlan", "%s on %s is a %s", name, d.Name, g.VLAN.Text)
		return nil
	case !g.VLAN.Known:
		p.refuse("vlan-unknown", "the VLAN of %s cannot be read on this path", name)
		return nil
	case g.VLAN.Trunk && plugged != "":
		p.refuse("vlan-mismatch", "%s on %s is a %s, but %s is plugged into %s", name, d.Name, g.VLAN.Text, plugged, vlanText(from.VLAN))
		return nil
	case g.VLAN.ID != from.VLAN:
		p.refuse("vlan-mismatch", "%s on %s has %s, but %s on %s has %s", name, d.Name, g.VLAN.Text, label, sw.Name, vlanText(from.VLAN))
		return nil
	case !p.s.VCenter && !g.Ephemeral && plugged != "":
		p.refuse("static-binding", "%s on %s has static binding: only vCenter can plug something into it (make it ephemeral, or go --via vcenter)", name, d.Name)
		return nil
	}
	if g.VLAN.Trunk && !g.VLAN.full() {
		p.lose("%s lets all VLANs through; on %s only %s", label, d.Name, g.VLAN.Text)
	}
	there := Policy{Security: g.Security, Teaming: g.Teaming, Shaping: g.Shaping}
	for _, w := range from.Policy.words(there) {
		p.lose("%s: %s, as %s has it", label, w, name)
	}
	m := &mapping{from: old, to: Attachment{Kind: Distributed, Switch: d.Name, UUID: d.UUID, Group: name, GroupKey: g.Key, VLAN: g.VLAN.ID}, policy: there}
	p.used[key] = m
	return m
}

// missingGroup refuses for want of a port group, or plans to create it.
// Management gets an ephemeral one: when vCenter is away, the host can still
// plug it in by itself.
func (p *planner) missingGroup(key, plugged, name string, from *PortGroup, old Attachment, d *DistributedSwitch) *mapping {
	if !p.Goal.CreatePortGroups {
		p.refuse("no-portgroup", "%s has no port group %s: create it with %s, or let --create-portgroups do it, or say --map '%s=%s'", d.Name, name, vlanText(from.VLAN), old.Group, d.likely(from.VLAN))
		return nil
	}
	if !p.s.VCenter {
		p.refuse("no-portgroup", "%s has no port group %s, and only vCenter can create it", d.Name, name)
		return nil
	}
	slots := d.UplinkNames
	if len(slots) == 0 {
		for _, port := range d.Ports {
			slots = append(slots, port.Name)
		}
	}
	pr := p.prepare(d)
	i := slices.IndexFunc(pr.Create, func(n NewGroup) bool { return n.Name == name })
	if i < 0 {
		n := NewGroup{Name: name, VLAN: from.VLAN, Ephemeral: plugged == p.vmk.Device, Policy: from.Policy, Slots: slots}
		pr.Create = append(pr.Create, n)
		binding := "static binding"
		if n.Ephemeral {
			binding = "ephemeral binding"
		}
		p.Changes = append(p.Changes, Change{Action: "add", Kind: "portgroup", Object: name, After: fmt.Sprintf("%s on %s, %s, policy of %s", vlanText(from.VLAN), d.Name, binding, old.Group)})
	} else if pr.Create[i].VLAN != from.VLAN {
		p.refuse("vlan-mismatch", "two port groups of different VLANs would become %s", name)
		return nil
	}
	m := &mapping{from: old, to: Attachment{Kind: Distributed, Switch: d.Name, UUID: d.UUID, Group: name, VLAN: from.VLAN},
		policy: Policy{Security: from.Policy.Security, Shaping: from.Policy.Shaping, Teaming: teaming{Active: slots}}}
	p.used[key] = m
	return m
}

// likely names the one port group of the same VLAN, where there is just one.
func (d *DistributedSwitch) likely(vlan int) string {
	var names []string
	for _, g := range d.PortGroups {
		if !g.Uplink && !g.VLAN.PVLAN && g.VLAN.ID == vlan {
			names = append(names, g.Name)
		}
	}
	if len(names) == 1 {
		return names[0]
	}
	return "NAME"
}

// slots assigns each uplink a free uplink port that every port group in use
// names active, else standby: on another one it would carry nothing.
func (p *planner) slots(d *DistributedSwitch, uplinks []string) []types.DistributedVirtualSwitchHostMemberPnicSpec {
	type slot struct{ name, key, group string }
	var free []slot
	for _, port := range d.Ports {
		if !slices.ContainsFunc(d.Members, func(m types.DistributedVirtualSwitchHostMemberPnicSpec) bool { return m.UplinkPortKey == port.Key }) {
			free = append(free, slot{port.Name, port.Key, port.PortGroupKey})
		}
	}
	if !d.Member {
		for _, n := range d.UplinkNames {
			free = append(free, slot{name: n})
		}
	}
	var members []types.DistributedVirtualSwitchHostMemberPnicSpec
	for _, u := range uplinks {
		best := -1
		for _, order := range []func(teaming) []string{
			func(t teaming) []string { return t.Active },
			func(t teaming) []string { return append(slices.Clone(t.Active), t.Standby...) },
		} {
			best = slices.IndexFunc(free, func(f slot) bool {
				for _, m := range p.used {
					if m != nil && !slices.Contains(order(m.policy.Teaming), f.name) {
						return false
					}
				}
				return true
			})
			if best >= 0 {
				break
			}
		}
		if best < 0 {
			p.refuse("no-free-uplink", "%s has no free uplink port for %s that all of its port groups use", d.Name, u)
			continue
		}
		members = append(members, types.DistributedVirtualSwitchHostMemberPnicSpec{PnicDevice: u, UplinkPortKey: free[best].key, UplinkPortgroupKey: free[best].group})
		p.After.Uplinks = append(p.After.Uplinks, UplinkState{Device: u, Switch: d.Name, Kind: Distributed, Slot: free[best].name})
		free = slices.Delete(free, best, best+1)
	}
	return members
}

// lostOrder lists the port groups whose uplinks share the work in another way
// on the DVS: there the order is that of the switch's uplink ports, and which of
// them carries which NIC is known only now.
func (p *planner) lostOrder(sw *StandardSwitch) {
	nics := func(slots []string) (out []string) {
		for _, slot := range slots {
			for _, u := range p.After.Uplinks {
				if u.Slot == slot {
					out = append(out, u.Device)
				}
			}
		}
		return out
	}
	for _, key := range slices.Sorted(maps.Keys(p.used)) {
		m := p.used[key]
		if m == nil {
			continue
		}
		here := sw.group(m.from.Group).Policy
		there := here
		there.Teaming.Active, there.Teaming.Standby = nics(m.policy.Teaming.Active), nics(m.policy.Teaming.Standby)
		if here.Teaming.Mode != byOrder { // then the order among equals means nothing
			for _, list := range []*[]string{&here.Teaming.Active, &here.Teaming.Standby, &there.Teaming.Active, &there.Teaming.Standby} {
				*list = sorted(*list)
			}
		}
		for _, w := range here.differences(there) {
			p.lose("%s: %s, as %s has it", m.from.Group, w, m.to.Group)
		}
	}
}

// distributedChange writes the one call that moves everything, and its inverse.
// The standard port groups stay: that keeps the inverse trivial, and cleanup
// removes them once the move has proved itself.
func (p *planner) distributedChange(sw *StandardSwitch, d *DistributedSwitch, moving []*Vmkernel) {
	s := p.s
	edit := string(types.HostConfigChangeOperationEdit)
	members := p.slots(d, sw.Uplinks)
	p.lostOrder(sw)
	for i, u := range sw.Uplinks {
		before := s.uplinkState(u)
		p.Before.Uplinks = append(p.Before.Uplinks, before)
		after := d.Name
		if i < len(p.After.Uplinks) {
			after = p.After.Uplinks[i].words()
		}
		p.Changes = append(p.Changes, Change{Action: "change", Kind: "uplink", Object: u, Before: before.words(), After: after, CutsManagement: true})
	}
	old, bare := sw.Spec, sw.Spec
	policy := hostPolicy(sw.Uplinks, sw.Spec.Policy, nil)
	policy.Teaming.Active, policy.Teaming.Standby = nil, nil
	full := policy.host()
	bare.Bridge, bare.Policy = nil, &full
	p.Forward.Vswitch = []types.HostVirtualSwitchConfig{{ChangeOperation: edit, Name: sw.Name, Spec: &bare}}
	p.Inverse.Vswitch = []types.HostVirtualSwitchConfig{{ChangeOperation: edit, Name: sw.Name, Spec: &old}}
	p.Forward.ProxySwitch = []types.HostProxySwitchConfig{proxyEdit(d.UUID, append(slices.Clone(d.Members), members...))}
	p.Inverse.ProxySwitch = []types.HostProxySwitchConfig{proxyEdit(d.UUID, d.Members)}
	for _, v := range moving {
		if m := p.used[v.Device+"\x00"+v.Group]; m != nil {
			p.moveVmkernel(v, m.to)
		}
	}
	// A port group whose own order names the uplink loses that entry with it,
	// one that nothing is plugged into as well: the inverse writes all back. A
	// rollback is measured by those that are in use.
	for i := range sw.PortGroups {
		g := &sw.PortGroups[i]
		p.restore(sw.Name, g, len(s.pluggedInto(Standard, sw.Name, g.Label)) > 0)
	}
}
