package sim

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// The sizes that hostd accepts.
const (
	maxSwitchName = 32
	minMTU        = 1280 // IPv6's minimum; hostd refuses less
	maxMTU        = 9000
)

// networkChange is one UpdateNetworkConfig call, or the single-entity call that amounts to one.
type networkChange struct {
	host   string
	config types.HostNetworkConfig
	mode   string // modify or replace
	direct bool   // in a session with the host itself
	rename string // the port group that takes the name in config, or ""
}

// apply evaluates the change on the end state of the call, all or nothing: the world after it, and the names of the
// VMkernel adapters it made. w stays as it is.
func (w *world) apply(c networkChange) (*world, types.HostNetworkConfigResult, error) {
	var res types.HostNetworkConfigResult
	switch types.HostConfigChangeMode(c.mode) {
	case types.HostConfigChangeModeModify:
	case types.HostConfigChangeModeReplace:
		return nil, res, notSupported("only incremental changes (modify) are implemented")
	default:
		return nil, res, invalid("changeMode", "%q is not a change mode", c.mode)
	}
	e := &edit{world: w.clone(), direct: c.direct}
	e.host = e.world.editHost(c.host)
	if e.host == nil {
		return nil, res, notFound("there is no host %s", c.host)
	}
	if err := e.rename(c); err != nil {
		return nil, res, err
	}
	for _, step := range []func(*types.HostNetworkConfig) error{
		e.pnics, e.switchesAdded, e.proxies, e.groupsAdded, e.vmksChanged, e.groupsRemoved, e.switchesRemoved, e.stacks, e.endState,
	} {
		if err := step(&c.config); err != nil {
			return nil, res, err
		}
	}
	e.world.sweep()
	res.VnicDevice = e.added
	return e.world, res, nil
}

// rename gives a port group a new label, which whatever is attached to it follows.
func (e *edit) rename(c networkChange) error {
	if c.rename == "" {
		return nil
	}
	g, label := e.host.group(c.rename), c.config.Portgroup[0].Spec.Name
	if g == nil {
		return notFound("%s has no port group %q", e.host.name, c.rename)
	}
	if e.host.group(label) != nil {
		return alreadyExists(label)
	}
	g.Name = label
	for i := range e.host.vmks {
		if s := &e.host.vmks[i].spec; s.Portgroup == c.rename {
			s.Portgroup = label
		}
	}
	for _, v := range e.world.vms {
		if v.host != e.host.name {
			continue
		}
		for i, n := range v.nics {
			if n.attach.group == c.rename {
				e.world.editVM(v.id).nics[i].attach.group = label
			}
		}
	}
	return nil
}

// edit is an evaluation under way: a world of its own in which host may be changed.
type edit struct {
	world  *world
	host   *host
	direct bool
	added  []string
}

func operation(op string, allowed ...types.HostConfigChangeOperation) (types.HostConfigChangeOperation, error) {
	o := types.HostConfigChangeOperation(op)
	if o == types.HostConfigChangeOperationIgnore || slices.Contains(allowed, o) {
		return o, nil
	}
	return "", invalid("changeOperation", "%q is not possible here", op)
}

const (
	opAdd    = types.HostConfigChangeOperationAdd
	opEdit   = types.HostConfigChangeOperationEdit
	opRemove = types.HostConfigChangeOperationRemove
)

// pnics checks the physical adapters named by the call. Link speed requests are accepted and change nothing: the
// cable decides.
func (e *edit) pnics(c *types.HostNetworkConfig) error {
	for _, p := range c.Pnic {
		if e.host.pnic(p.Device) == nil {
			return notFound("%s has no physical adapter %q", e.host.name, p.Device)
		}
	}
	return nil
}

func (e *edit) switchesAdded(c *types.HostNetworkConfig) error {
	for _, s := range c.Vswitch {
		op, err := operation(s.ChangeOperation, opAdd, opEdit, opRemove)
		if err != nil {
			return err
		}
		old := e.host.vswitch(s.Name)
		switch {
		case op == opAdd && old != nil:
			return alreadyExists(s.Name)
		case op == opAdd && (s.Name == "" || len(s.Name) > maxSwitchName):
			return invalid("vswitchName", "a switch name has 1 to %d characters", maxSwitchName)
		case op == opEdit && old == nil, op == opRemove && old == nil:
			return notFound("%s has no switch %q", e.host.name, s.Name)
		case op == opEdit && s.Spec == nil:
			return invalid("vswitch.spec", "editing %s needs a spec", s.Name)
		}
		switch op {
		case opAdd:
			v := vswitch{name: s.Name, spec: types.HostVirtualSwitchSpec{NumPorts: 128, Mtu: 1500, Policy: defaultPolicy()}}
			if err := e.respec(&v, s.Spec); err != nil {
				return err
			}
			e.host.switches = append(e.host.switches, v)
		case opEdit:
			if err := e.respec(old, s.Spec); err != nil {
				return err
			}
		}
	}
	return nil
}

// respec gives a switch a new spec. A nil bridge unplugs every adapter; a nil policy, or part of one, stays as it was.
func (e *edit) respec(v *vswitch, s *types.HostVirtualSwitchSpec) error {
	if s == nil {
		return nil
	}
	before := v.nics()
	switch b := s.Bridge.(type) {
	case nil:
		v.spec.Bridge = nil
	case *types.HostVirtualSwitchBondBridge:
		for i, d := range b.NicDevice {
			if e.host.pnic(d) == nil {
				return notFound("%s has no physical adapter %q", e.host.name, d)
			}
			if slices.Contains(b.NicDevice[:i], d) {
				return invalid("bridge.nicDevice", "%s is listed twice", d)
			}
		}
		v.spec.Bridge = nil
		if len(b.NicDevice) > 0 {
			v.spec.Bridge = b
		}
	default:
		return notSupported("%T: a switch is bridged by a bond", b)
	}
	if s.Mtu != 0 {
		if s.Mtu < minMTU || s.Mtu > maxMTU {
			return invalid("mtu", "MTU %d is not within %d to %d", s.Mtu, minMTU, maxMTU)
		}
		v.spec.Mtu = s.Mtu
	}
	if s.NumPorts != 0 {
		v.spec.NumPorts = s.NumPorts
	}

	now := v.nics()
	old := nicOrder(v.spec.Policy)
	policy := mergePolicy(v.spec.Policy, s.Policy)
	if o := nicOrder(s.Policy); o != nil {
		if d, ok := stranger(o, now); ok {
			return invalid("policy.nicTeaming.nicOrder", "%s orders %s, which it does not have", v.name, d)
		}
	} else if policy.NicTeaming != nil {
		// An adapter that leaves also leaves the order; one that arrives becomes active.
		t := *policy.NicTeaming
		t.NicOrder = restrict(old, now)
		for _, d := range now {
			if !slices.Contains(before, d) {
				t.NicOrder.ActiveNic = append(t.NicOrder.ActiveNic, d)
			}
		}
		policy.NicTeaming = &t
	}
	v.spec.Policy = policy
	for i := range e.host.groups {
		g := &e.host.groups[i]
		if g.VswitchName != v.name || nicOrder(&g.Policy) == nil {
			continue
		}
		t := *g.Policy.NicTeaming
		t.NicOrder = restrict(t.NicOrder, now)
		g.Policy.NicTeaming = &t
	}
	return nil
}

// restrict keeps of an order what is in nics.
func restrict(o *types.HostNicOrderPolicy, nics []string) *types.HostNicOrderPolicy {
	kept := &types.HostNicOrderPolicy{}
	if o == nil {
		return kept
	}
	for _, d := range o.ActiveNic {
		if slices.Contains(nics, d) {
			kept.ActiveNic = append(kept.ActiveNic, d)
		}
	}
	for _, d := range o.StandbyNic {
		if slices.Contains(nics, d) {
			kept.StandbyNic = append(kept.StandbyNic, d)
		}
	}
	return kept
}

// stranger finds an adapter in the order that is not in nics.
func stranger(o *types.HostNicOrderPolicy, nics []string) (string, bool) {
	for _, d := range slices.Concat(o.ActiveNic, o.StandbyNic) {
		if !slices.Contains(nics, d) {
			return d, true
		}
	}
	return "", false
}

// proxies evaluates the host's parts of distributed switches. Joining one is vCenter's business (ReconfigureDvs), so
// there is no add.
func (e *edit) proxies(c *types.HostNetworkConfig) error {
	for _, s := range c.ProxySwitch {
		op, err := operation(s.ChangeOperation, opEdit, opRemove)
		if err != nil {
			return err
		}
		d := e.world.dvs(s.Uuid)
		if d == nil || e.host.proxy(s.Uuid) == nil {
			return notFound("%s is not a member of distributed switch %q", e.host.name, s.Uuid)
		}
		switch op {
		case opEdit:
			if s.Spec == nil || s.Spec.Backing == nil {
				return invalid("proxySwitch.spec.backing", "editing the proxy switch of %s needs the full list of its uplinks", d.name)
			}
			b, ok := s.Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking)
			if !ok {
				return notSupported("%T: a proxy switch is backed by physical adapters", s.Spec.Backing)
			}
			if err := e.world.plugUplinks(e.host, d, b.PnicSpec); err != nil {
				return err
			}
		case opRemove:
			if err := e.world.leaveDVS(e.host, d); err != nil {
				return err
			}
			e.world.editDVS(s.Uuid).version++
		}
	}
	return nil
}

// leaveDVS ends a membership that nothing uses any more.
func (w *world) leaveDVS(h *host, d *dvSwitch) error {
	p := h.proxy(d.uuid)
	if len(p.uplinks) > 0 {
		return inUse("PhysicalNic", p.uplinks[0].pnic, "%s is still an uplink of %s", p.uplinks[0].pnic, d.name)
	}
	for port, o := range w.occupants(d.uuid) {
		if o.host == h.name {
			return inUse("DistributedVirtualPort", port, "%s %s is still on %s", o.kind, o.nic, d.name)
		}
	}
	h.proxies = slices.DeleteFunc(h.proxies, func(q proxySwitch) bool { return q.dvs == d.uuid })
	w.editDVS(d.uuid).leave(h.name)
	return nil
}

func (e *edit) groupsAdded(c *types.HostNetworkConfig) error {
	for _, g := range c.Portgroup {
		op, err := operation(g.ChangeOperation, opAdd, opEdit, opRemove)
		if err != nil {
			return err
		}
		if op != opAdd && op != opEdit {
			continue
		}
		if g.Spec == nil || g.Spec.Name == "" {
			return invalid("portgroup.spec.name", "a port group needs a name")
		}
		old := e.host.group(g.Spec.Name)
		if op == opAdd && old != nil {
			return alreadyExists(g.Spec.Name)
		}
		if op == opEdit && old == nil {
			return notFound("%s has no port group %q", e.host.name, g.Spec.Name)
		}
		spec := *g.Spec
		if op == opEdit && spec.VswitchName == "" {
			spec.VswitchName = old.VswitchName
		}
		if spec.VlanId < 0 || spec.VlanId > vlanTrunk {
			return invalid("portgroup.spec.vlanId", "VLAN %d is not within 0 to %d", spec.VlanId, vlanTrunk)
		}
		v := e.host.vswitch(spec.VswitchName)
		if v == nil {
			return notFound("%s has no switch %q for port group %q", e.host.name, spec.VswitchName, spec.Name)
		}
		if o := nicOrder(&spec.Policy); o != nil {
			if d, ok := stranger(o, v.nics()); ok {
				return invalid("portgroup.spec.policy.nicTeaming.nicOrder", "%s orders %s, which %s does not have", spec.Name, d, v.name)
			}
		}
		if old != nil { // what a port group's policy leaves unset is inherited from the switch
			*old = spec
		} else {
			e.host.groups = append(e.host.groups, spec)
		}
	}
	return nil
}

func (e *edit) vmksChanged(c *types.HostNetworkConfig) error {
	for _, n := range c.Vnic {
		op, err := operation(n.ChangeOperation, opAdd, opEdit, opRemove)
		if err != nil {
			return err
		}
		k := e.host.vmk(n.Device)
		if k == nil && (op == opEdit || op == opRemove) {
			return notFound("%s has no VMkernel adapter %q", e.host.name, n.Device)
		}
		if n.Spec == nil && (op == opAdd || op == opEdit) {
			return invalid("vnic.spec", "a VMkernel adapter needs a spec")
		}
		switch op {
		case opAdd:
			k := vmk{device: e.freeVMK(), spec: types.HostVirtualNicSpec{Mtu: 1500, NetStackInstanceKey: "defaultTcpipStack"}}
			k.spec.Mac = macFor(e.host.name + k.device)
			if err := e.respecVMK(&k, n.Portgroup, n.Spec); err != nil {
				return err
			}
			if k.spec.Portgroup == "" && k.spec.DistributedVirtualPort == nil {
				return invalid("vnic.portgroup", "a new VMkernel adapter needs a port group")
			}
			e.host.vmks = append(e.host.vmks, k)
			e.added = append(e.added, k.device)
		case opEdit:
			if err := e.respecVMK(k, n.Portgroup, n.Spec); err != nil {
				return err
			}
		case opRemove:
			e.host.vmks = slices.DeleteFunc(e.host.vmks, func(k vmk) bool { return k.device == n.Device })
		}
	}
	return nil
}

func (e *edit) freeVMK() string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("vmk%d", i); e.host.vmk(name) == nil {
			return name
		}
	}
}

// respecVMK moves and changes a VMkernel adapter: what the spec leaves unset stays, address, MAC and MTU included.
func (e *edit) respecVMK(k *vmk, label string, s *types.HostVirtualNicSpec) error {
	if label == "" {
		label = s.Portgroup
	}
	port := s.DistributedVirtualPort
	switch {
	case port != nil && label != "":
		return invalid("vnic.spec.distributedVirtualPort", "%s is given a port group and a distributed port", k.device)
	case port != nil:
		was := k.attachment()
		same := was.dvs == port.SwitchUuid && was.dvGroup == port.PortgroupKey && (port.PortKey == "" || port.PortKey == was.port)
		if !same {
			k.spec.DistributedVirtualPort, k.spec.Portgroup = nil, ""
			at, err := e.world.plug(e.host.name, port, e.direct)
			if err != nil {
				return err
			}
			k.spec.DistributedVirtualPort = connection(at)
		}
	case label != "":
		if e.host.group(label) == nil {
			return notFound("%s has no port group %q for %s", e.host.name, label, k.device)
		}
		k.spec.Portgroup, k.spec.DistributedVirtualPort = label, nil
	}
	if s.Mtu != 0 {
		if s.Mtu < minMTU || s.Mtu > maxMTU {
			return invalid("vnic.spec.mtu", "MTU %d is not within %d to %d", s.Mtu, minMTU, maxMTU)
		}
		k.spec.Mtu = s.Mtu
	}
	if s.Ip != nil {
		k.spec.Ip = s.Ip
	}
	if s.Mac != "" {
		k.spec.Mac = s.Mac
	}
	if s.NetStackInstanceKey != "" {
		k.spec.NetStackInstanceKey = s.NetStackInstanceKey
	}
	set(&k.spec.TsoEnabled, s.TsoEnabled)
	return nil
}

// connection is how the API shows an attachment. The cookie is the server's; a client's value is never read.
func connection(a attachment) *types.DistributedVirtualSwitchPortConnection {
	var cookie int32 = 1
	for _, c := range a.dvGroup + a.port {
		cookie = cookie*31 + c
	}
	return &types.DistributedVirtualSwitchPortConnection{
		SwitchUuid: a.dvs, PortgroupKey: a.dvGroup, PortKey: a.port, ConnectionCookie: cookie & 0x7fffffff,
	}
}

func (e *edit) groupsRemoved(c *types.HostNetworkConfig) error {
	for _, g := range c.Portgroup {
		if types.HostConfigChangeOperation(g.ChangeOperation) != opRemove {
			continue
		}
		if g.Spec == nil || e.host.group(g.Spec.Name) == nil {
			return notFound("%s has no such port group to remove", e.host.name)
		}
		if err := e.groupFree(g.Spec.Name); err != nil {
			return err
		}
		e.host.groups = slices.DeleteFunc(e.host.groups, func(s types.HostPortGroupSpec) bool { return s.Name == g.Spec.Name })
	}
	return nil
}

// groupFree says whether a port group may go: no VMkernel adapter and no powered-on VM may be left on it.
func (e *edit) groupFree(label string) error {
	for i := range e.host.vmks {
		if e.host.vmks[i].spec.Portgroup == label {
			return inUse("PortGroup", label, "%s is still on port group %q", e.host.vmks[i].device, label)
		}
	}
	for _, v := range e.world.vms {
		for _, n := range v.nics {
			if v.host == e.host.name && v.on && n.attach.group == label {
				return inUse("PortGroup", label, "VM %s is still on port group %q", v.name, label)
			}
		}
	}
	return nil
}

func (e *edit) switchesRemoved(c *types.HostNetworkConfig) error {
	for _, s := range c.Vswitch {
		if types.HostConfigChangeOperation(s.ChangeOperation) != opRemove {
			continue
		}
		for _, g := range e.host.groups {
			if g.VswitchName != s.Name {
				continue
			}
			if err := e.groupFree(g.Name); err != nil {
				return err
			}
		}
		e.host.groups = slices.DeleteFunc(e.host.groups, func(g types.HostPortGroupSpec) bool { return g.VswitchName == s.Name })
		e.host.switches = slices.DeleteFunc(e.host.switches, func(v vswitch) bool { return v.name == s.Name })
	}
	return nil
}

// stacks takes over name servers and the default gateway, given for the host or for the default TCP/IP stack.
func (e *edit) stacks(c *types.HostNetworkConfig) error {
	dns, route := c.DnsConfig, c.IpRouteConfig
	for _, s := range c.NetStackSpec {
		if s.NetStackInstance.Key == "" || s.NetStackInstance.Key == "defaultTcpipStack" {
			if s.NetStackInstance.DnsConfig != nil {
				dns = s.NetStackInstance.DnsConfig
			}
			if s.NetStackInstance.IpRouteConfig != nil {
				route = s.NetStackInstance.IpRouteConfig
			}
		}
	}
	if dns != nil {
		e.host.dns = dns.GetHostDnsConfig().Address
	}
	if route != nil {
		e.host.gateway = route.GetHostIpRouteConfig().DefaultGateway
	}
	return nil
}

// endState holds what must be true however the call got there.
func (e *edit) endState(*types.HostNetworkConfig) error { return e.world.claims(e.host) }

// claims checks that each physical adapter serves one switch only.
func (w *world) claims(h *host) error {
	owner := map[string]string{}
	claim := func(device, by string) error {
		if first, ok := owner[device]; ok {
			return inUse("PhysicalNic", device, "%s would be an uplink of %s and of %s", device, first, by)
		}
		owner[device] = by
		return nil
	}
	for i := range h.switches {
		for _, d := range h.switches[i].nics() {
			if err := claim(d, h.switches[i].name); err != nil {
				return err
			}
		}
	}
	for _, p := range h.proxies {
		for _, u := range p.uplinks {
			if err := claim(u.pnic, w.dvs(p.dvs).name); err != nil {
				return err
			}
		}
	}
	return nil
}

// mergePolicy lays what over sets upon base. Inside a part, unset fields keep base's value.
func mergePolicy(base, over *types.HostNetworkPolicy) *types.HostNetworkPolicy {
	m := types.HostNetworkPolicy{}
	if base != nil {
		m = *base
	}
	if over == nil {
		return &m
	}
	if s := over.Security; s != nil {
		c := types.HostNetworkSecurityPolicy{}
		if m.Security != nil {
			c = *m.Security
		}
		set(&c.AllowPromiscuous, s.AllowPromiscuous)
		set(&c.MacChanges, s.MacChanges)
		set(&c.ForgedTransmits, s.ForgedTransmits)
		m.Security = &c
	}
	if t := over.NicTeaming; t != nil {
		c := types.HostNicTeamingPolicy{}
		if m.NicTeaming != nil {
			c = *m.NicTeaming
		}
		if t.Policy != "" {
			c.Policy = t.Policy
		}
		set(&c.ReversePolicy, t.ReversePolicy)
		set(&c.NotifySwitches, t.NotifySwitches)
		set(&c.RollingOrder, t.RollingOrder)
		set(&c.FailureCriteria, t.FailureCriteria)
		set(&c.NicOrder, t.NicOrder)
		m.NicTeaming = &c
	}
	if o := over.OffloadPolicy; o != nil {
		m.OffloadPolicy = o
	}
	if s := over.ShapingPolicy; s != nil {
		c := types.HostNetworkTrafficShapingPolicy{}
		if m.ShapingPolicy != nil {
			c = *m.ShapingPolicy
		}
		set(&c.Enabled, s.Enabled)
		if s.AverageBandwidth != 0 {
			c.AverageBandwidth = s.AverageBandwidth
		}
		if s.PeakBandwidth != 0 {
			c.PeakBandwidth = s.PeakBandwidth
		}
		if s.BurstSize != 0 {
			c.BurstSize = s.BurstSize
		}
		m.ShapingPolicy = &c
	}
	return &m
}

// defaultPolicy is what ESXi gives a new standard switch.
func defaultPolicy() *types.HostNetworkPolicy {
	return &types.HostNetworkPolicy{
		Security: &types.HostNetworkSecurityPolicy{
			AllowPromiscuous: types.NewBool(false), MacChanges: types.NewBool(true), ForgedTransmits: types.NewBool(true),
		},
		NicTeaming: &types.HostNicTeamingPolicy{
			Policy:         "loadbalance_srcid",
			ReversePolicy:  types.NewBool(true),
			NotifySwitches: types.NewBool(true),
			RollingOrder:   types.NewBool(false),
			FailureCriteria: &types.HostNicFailureCriteria{
				CheckSpeed: "minimum", Speed: 10,
				CheckDuplex: types.NewBool(false), FullDuplex: types.NewBool(false),
				CheckErrorPercent: types.NewBool(false), CheckBeacon: types.NewBool(false),
			},
			NicOrder: &types.HostNicOrderPolicy{},
		},
		OffloadPolicy: &types.HostNetOffloadCapabilities{
			CsumOffload: types.NewBool(true), TcpSegmentation: types.NewBool(true), ZeroCopyXmit: types.NewBool(true),
		},
		ShapingPolicy: &types.HostNetworkTrafficShapingPolicy{Enabled: types.NewBool(false)},
	}
}

// macFor makes a stable MAC address in VMware's range out of a name.
func macFor(name string) string {
	var n uint32 = 2166136261
	for i := range len(name) {
		n = (n ^ uint32(name[i])) * 16777619
	}
	return fmt.Sprintf("00:50:56:%02x:%02x:%02x", n>>16&0x3f, n>>8&0xff, n&0xff)
}
