package sim

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/vmware/govmomi/vim25/types"
)

// dvSwitch is a distributed switch as vCenter defines it; what a member host made of it is the host's proxySwitch.
type dvSwitch struct {
	uuid, name string
	version    int // counts changes; the API calls it configVersion
	mtu        int32
	uplinks    []string // names of a member's uplink ports
	lags       []lag
	pvlans     []types.VMwareDVSPvlanMapEntry
	groups     []dvGroup
	ports      []dvPort
	members    []string // host names
	nextPort   int
}

// lag is a link aggregation group: uplink ports that every member has besides the plain ones, used by its name.
type lag struct {
	key, name string
	ports     int
}

// dvGroup is a distributed port group. Its key is also the value of its moref.
type dvGroup struct {
	key, name  string
	ephemeral  bool
	uplink     bool
	autoExpand bool
	numPorts   int
	version    int
	setting    *types.VMwareDVSPortSetting
}

// dvPort is a port. Uplink ports belong to a member host and have a name; who occupies a port is told by its occupant.
type dvPort struct {
	key, group string
	host       string
	name       string
	lag        string
	override   *types.VMwareDVSPortSetting // only its non-nil fields override the group's
}

func (w *world) dvs(uuid string) *dvSwitch {
	for _, d := range w.switches {
		if d.uuid == uuid {
			return d
		}
	}
	return nil
}

func (w *world) editDVS(uuid string) *dvSwitch {
	for i, d := range w.switches {
		if d.uuid != uuid {
			continue
		}
		c := *d
		c.groups = slices.Clone(d.groups)
		c.ports = slices.Clone(d.ports)
		c.members = slices.Clone(d.members)
		w.switches[i] = &c
		return &c
	}
	return nil
}

func (d *dvSwitch) group(key string) *dvGroup {
	for i := range d.groups {
		if d.groups[i].key == key {
			return &d.groups[i]
		}
	}
	return nil
}

func (d *dvSwitch) groupNamed(name string) *dvGroup {
	for i := range d.groups {
		if d.groups[i].name == name {
			return &d.groups[i]
		}
	}
	return nil
}

func (d *dvSwitch) uplinkGroup() *dvGroup {
	for i := range d.groups {
		if d.groups[i].uplink {
			return &d.groups[i]
		}
	}
	return nil
}

func (d *dvSwitch) port(key string) *dvPort {
	for i := range d.ports {
		if d.ports[i].key == key {
			return &d.ports[i]
		}
	}
	return nil
}

// uplinkPorts are a member's uplink ports in slot order.
func (d *dvSwitch) uplinkPorts(host string) []dvPort {
	var ports []dvPort
	for _, p := range d.ports {
		if p.host == host {
			ports = append(ports, p)
		}
	}
	return ports
}

func (d *dvSwitch) addPort(p dvPort) string {
	p.key = strconv.Itoa(d.nextPort)
	d.nextPort++
	d.ports = append(d.ports, p)
	return p.key
}

// addGroup adds a port group with its ports; an ephemeral one has none until something connects.
func (d *dvSwitch) addGroup(g dvGroup) {
	d.groups = append(d.groups, g)
	if g.ephemeral || g.uplink {
		return
	}
	for range g.numPorts {
		d.addPort(dvPort{group: g.key})
	}
}

func (d *dvSwitch) removeGroup(key string) {
	d.groups = slices.DeleteFunc(d.groups, func(g dvGroup) bool { return g.key == key })
	d.ports = slices.DeleteFunc(d.ports, func(p dvPort) bool { return p.group == key })
}

// join gives a host its uplink ports and makes it a member.
func (d *dvSwitch) join(host string) {
	d.members = append(d.members, host)
	up := d.uplinkGroup().key
	for _, name := range d.uplinks {
		d.addPort(dvPort{group: up, host: host, name: name})
	}
	for _, l := range d.lags {
		for i := range l.ports {
			d.addPort(dvPort{group: up, host: host, name: fmt.Sprintf("%s-%d", l.name, i), lag: l.name})
		}
	}
}

func (d *dvSwitch) leave(host string) {
	d.members = slices.DeleteFunc(d.members, func(m string) bool { return m == host })
	d.ports = slices.DeleteFunc(d.ports, func(p dvPort) bool { return p.host == host })
}

// setting is what holds for a port: its group's setting with the port's own overrides. Overridden policies are not
// inherited, the others are, as the API marks them.
func (d *dvSwitch) setting(a attachment) *types.VMwareDVSPortSetting {
	g := d.group(a.dvGroup)
	if g == nil {
		return nil
	}
	if p := d.port(a.port); p != nil && p.override != nil {
		return mergeSetting(g.setting, p.override)
	}
	return g.setting
}

// teamed lists the adapters of a proxy switch that a port setting names active or standby, by uplink or LAG name.
func (d *dvSwitch) teamed(s *types.VMwareDVSPortSetting, p *proxySwitch) []string {
	var names []string
	if t := s.UplinkTeamingPolicy; t != nil && t.UplinkPortOrder != nil {
		names = slices.Concat(t.UplinkPortOrder.ActiveUplinkPort, t.UplinkPortOrder.StandbyUplinkPort)
	} else {
		names = d.uplinks
	}
	var use []string
	for _, u := range p.uplinks {
		port := d.port(u.port)
		if port != nil && (slices.Contains(names, port.name) || port.lag != "" && slices.Contains(names, port.lag)) {
			use = append(use, u.pnic)
		}
	}
	return use
}

func dvTag(s *types.VMwareDVSPortSetting) vlanTag {
	switch v := s.Vlan.(type) {
	case *types.VmwareDistributedVirtualSwitchVlanIdSpec:
		return vlanTag{id: int(v.VlanId)}
	case *types.VmwareDistributedVirtualSwitchTrunkVlanSpec:
		return vlanTag{trunk: v.VlanId}
	case *types.VmwareDistributedVirtualSwitchPvlanSpec:
		return vlanTag{id: int(v.PvlanId)}
	}
	return vlanTag{}
}

// occupant is what is plugged into a distributed port.
type occupant struct {
	kind string // pnic, hostVmkVnic or vmVnic: the API's connectee types
	host string
	vm   string // id, for vmVnic
	nic  string // device name or card key
	mac  string
}

// occupants maps the ports of a distributed switch to what is plugged in.
func (w *world) occupants(dvs string) map[string]occupant {
	m := map[string]occupant{}
	for _, h := range w.hosts {
		if p := h.proxy(dvs); p != nil {
			for _, u := range p.uplinks {
				m[u.port] = occupant{kind: "pnic", host: h.name, nic: u.pnic, mac: h.pnic(u.pnic).mac}
			}
		}
		for i := range h.vmks {
			if a := h.vmks[i].attachment(); a.dvs == dvs {
				m[a.port] = occupant{kind: "hostVmkVnic", host: h.name, nic: h.vmks[i].device, mac: h.vmks[i].spec.Mac}
			}
		}
	}
	for _, v := range w.vms {
		for i := range v.nics {
			if n := &v.nics[i]; n.attach.dvs == dvs {
				m[n.attach.port] = occupant{kind: "vmVnic", host: v.host, vm: v.id, nic: strconv.Itoa(int(n.key)), mac: n.mac}
			}
		}
	}
	return m
}

// plug finds the port for a new connection to a distributed port group from host: static binding takes a free port
// of a finite pool and is vCenter's business alone, ephemeral binding makes a port on the spot, on the host as well.
func (w *world) plug(hostName string, c *types.DistributedVirtualSwitchPortConnection, direct bool) (attachment, error) {
	none := attachment{}
	h, d := w.host(hostName), w.dvs(c.SwitchUuid)
	if d == nil || h.proxy(c.SwitchUuid) == nil {
		return none, invalid("port.switchUuid", "%s is not a member of distributed switch %q", hostName, c.SwitchUuid)
	}
	key := c.PortgroupKey
	if key == "" && c.PortKey != "" {
		if p := d.port(c.PortKey); p != nil {
			key = p.group
		}
	}
	g := d.group(key)
	switch {
	case g == nil:
		return none, notFound("distributed switch %s has no port group %q", d.name, c.PortgroupKey)
	case g.uplink:
		return none, invalid("port.portgroupKey", "%s is for uplinks only", g.name)
	case direct && !g.ephemeral:
		// KB 324492: static binding is configured through vCenter only.
		return none, notSupported("%s binds statically: connect to it through vCenter", g.name)
	case g.ephemeral && c.PortKey != "":
		return none, invalid("port.portKey", "%s binds at run time: no port key may be given", g.name)
	}
	d = w.editDVS(d.uuid)
	at := attachment{dvs: d.uuid, dvGroup: g.key}
	if g.ephemeral {
		at.port = d.addPort(dvPort{group: g.key})
		return at, nil
	}
	taken := w.occupants(d.uuid)
	if c.PortKey != "" {
		p := d.port(c.PortKey)
		if p == nil || p.group != g.key {
			return none, notFound("%s has no port %q", g.name, c.PortKey)
		}
		if _, ok := taken[c.PortKey]; ok {
			return none, inUse("DistributedVirtualPort", c.PortKey, "port %s of %s is taken", c.PortKey, g.name)
		}
		at.port = c.PortKey
		return at, nil
	}
	for _, p := range d.ports {
		if _, ok := taken[p.key]; p.group == g.key && !ok {
			at.port = p.key
			return at, nil
		}
	}
	if !g.autoExpand {
		return none, refuse(&types.ResourceNotAvailable{ContainerType: "DistributedVirtualPortgroup", ContainerName: g.name, Type: "port"},
			"all %d ports of %s are taken", g.numPorts, g.name)
	}
	d.group(g.key).numPorts++
	at.port = d.addPort(dvPort{group: g.key})
	return at, nil
}

// sweep tidies up ports that nothing is plugged into any more: ephemeral ones go, the others lose what they overrode
// (portConfigResetAtDisconnect, which is on by default).
func (w *world) sweep() {
	for _, d := range w.switches {
		taken := w.occupants(d.uuid)
		loose := func(p dvPort) bool { _, ok := taken[p.key]; return !ok }
		ephemeral := func(p dvPort) bool { g := d.group(p.group); return g != nil && g.ephemeral }
		if !slices.ContainsFunc(d.ports, func(p dvPort) bool { return loose(p) && (ephemeral(p) || p.override != nil) }) {
			continue
		}
		c := w.editDVS(d.uuid)
		c.ports = slices.DeleteFunc(c.ports, func(p dvPort) bool { return loose(p) && ephemeral(p) })
		for i := range c.ports {
			if loose(c.ports[i]) {
				c.ports[i].override = nil
			}
		}
	}
}

// plugUplinks evaluates the full list of a host's uplinks on a distributed switch. A pnic without a port key keeps
// its port or gets the first free one.
func (w *world) plugUplinks(h *host, d *dvSwitch, specs []types.DistributedVirtualSwitchHostMemberPnicSpec) error {
	p := h.proxy(d.uuid)
	ports := d.uplinkPorts(h.name)
	now := map[string]string{} // pnic → port
	for _, u := range p.uplinks {
		now[u.pnic] = u.port
	}
	taken := map[string]bool{}
	list := make([]uplink, len(specs))
	for i, s := range specs {
		if h.pnic(s.PnicDevice) == nil {
			return notFound("%s has no physical adapter %q", h.name, s.PnicDevice)
		}
		if slices.ContainsFunc(list[:i], func(u uplink) bool { return u.pnic == s.PnicDevice }) {
			return invalid("pnicSpec", "%s is listed twice", s.PnicDevice)
		}
		if s.UplinkPortgroupKey != "" && s.UplinkPortgroupKey != d.uplinkGroup().key {
			return invalid("pnicSpec.uplinkPortgroupKey", "%s is not the uplink port group of %s", s.UplinkPortgroupKey, d.name)
		}
		list[i] = uplink{pnic: s.PnicDevice, port: s.UplinkPortKey}
		if list[i].port == "" {
			list[i].port = now[s.PnicDevice]
		}
		key := list[i].port
		if key == "" {
			continue
		}
		if !slices.ContainsFunc(ports, func(p dvPort) bool { return p.key == key }) {
			return invalid("pnicSpec.uplinkPortKey", "%s is not an uplink port of %s on %s", key, h.name, d.name)
		}
		if taken[key] {
			return inUse("DistributedVirtualPort", key, "uplink port %s takes one adapter only", key)
		}
		taken[key] = true
	}
	for i := range list {
		if list[i].port != "" {
			continue
		}
		free := slices.IndexFunc(ports, func(p dvPort) bool { return p.lag == "" && !taken[p.key] })
		if free < 0 {
			return refuse(&types.ResourceNotAvailable{ContainerType: "DistributedVirtualSwitch", ContainerName: d.name, Type: "uplink port"},
				"%s has no free uplink port for %s", d.name, list[i].pnic)
		}
		list[i].port = ports[free].key
		taken[list[i].port] = true
	}
	p.uplinks = list
	return nil
}

// mergeSetting lays the non-nil fields of over upon base.
func mergeSetting(base, over *types.VMwareDVSPortSetting) *types.VMwareDVSPortSetting {
	if over == nil {
		return base
	}
	m := *base
	if over.Vlan != nil {
		m.Vlan = over.Vlan
	}
	set(&m.Blocked, over.Blocked)
	set(&m.VmDirectPathGen2Allowed, over.VmDirectPathGen2Allowed)
	set(&m.InShapingPolicy, over.InShapingPolicy)
	set(&m.OutShapingPolicy, over.OutShapingPolicy)
	set(&m.NetworkResourcePoolKey, over.NetworkResourcePoolKey)
	set(&m.FilterPolicy, over.FilterPolicy)
	set(&m.QosTag, over.QosTag)
	set(&m.SecurityPolicy, over.SecurityPolicy)
	set(&m.IpfixEnabled, over.IpfixEnabled)
	set(&m.TxUplink, over.TxUplink)
	set(&m.LacpPolicy, over.LacpPolicy)
	set(&m.MacManagementPolicy, over.MacManagementPolicy)
	if t := over.UplinkTeamingPolicy; t != nil {
		merged := *t
		if merged.UplinkPortOrder == nil && base.UplinkTeamingPolicy != nil {
			merged.UplinkPortOrder = base.UplinkTeamingPolicy.UplinkPortOrder
		}
		m.UplinkTeamingPolicy = &merged
	}
	return &m
}

// set overwrites dst with v unless v is nil.
func set[T any](dst **T, v *T) {
	if v != nil {
		*dst = v
	}
}

// portSetting is a complete setting: VLAN id, active uplinks, and the defaults of a new distributed port group.
func portSetting(vlan types.BaseVmwareDistributedVirtualSwitchVlanSpec, active, standby []string) *types.VMwareDVSPortSetting {
	no, yes := func() *types.BoolPolicy { return &types.BoolPolicy{Value: types.NewBool(false)} },
		func() *types.BoolPolicy { return &types.BoolPolicy{Value: types.NewBool(true)} }
	shaping := func() *types.DVSTrafficShapingPolicy {
		return &types.DVSTrafficShapingPolicy{
			Enabled:          no(),
			AverageBandwidth: &types.LongPolicy{Value: 100_000_000},
			PeakBandwidth:    &types.LongPolicy{Value: 100_000_000},
			BurstSize:        &types.LongPolicy{Value: 104_857_600},
		}
	}
	return &types.VMwareDVSPortSetting{
		DVPortSetting: types.DVPortSetting{
			Blocked:                 no(),
			VmDirectPathGen2Allowed: no(),
			InShapingPolicy:         shaping(),
			OutShapingPolicy:        shaping(),
			VendorSpecificConfig:    &types.DVSVendorSpecificConfig{},
			NetworkResourcePoolKey:  &types.StringPolicy{Value: "-1"},
			FilterPolicy:            &types.DvsFilterPolicy{},
		},
		Vlan:   vlan,
		QosTag: &types.IntPolicy{Value: -1},
		UplinkTeamingPolicy: &types.VmwareUplinkPortTeamingPolicy{
			Policy:         &types.StringPolicy{Value: "loadbalance_srcid"},
			ReversePolicy:  yes(),
			NotifySwitches: yes(),
			RollingOrder:   no(),
			FailureCriteria: &types.DVSFailureCriteria{
				CheckSpeed:        &types.StringPolicy{Value: "minimum"},
				Speed:             &types.IntPolicy{Value: 10},
				CheckDuplex:       no(),
				FullDuplex:        no(),
				CheckErrorPercent: no(),
				Percentage:        &types.IntPolicy{},
				CheckBeacon:       no(),
			},
			UplinkPortOrder: &types.VMwareUplinkPortOrderPolicy{ActiveUplinkPort: active, StandbyUplinkPort: standby},
		},
		SecurityPolicy: &types.DVSSecurityPolicy{
			AllowPromiscuous: no(), MacChanges: no(), ForgedTransmits: no(),
		},
		IpfixEnabled: no(),
		TxUplink:     no(),
		LacpPolicy:   &types.VMwareUplinkLacpPolicy{Enable: no(), Mode: &types.StringPolicy{Value: "passive"}},
		MacManagementPolicy: &types.DVSMacManagementPolicy{
			AllowPromiscuous: types.NewBool(false),
			MacChanges:       types.NewBool(false),
			ForgedTransmits:  types.NewBool(false),
			MacLearningPolicy: &types.DVSMacLearningPolicy{
				Enabled: false, AllowUnicastFlooding: types.NewBool(true), Limit: types.NewInt32(4096), LimitPolicy: "DROP",
			},
		},
	}
}

func vlanID(id int32) types.BaseVmwareDistributedVirtualSwitchVlanSpec {
	return &types.VmwareDistributedVirtualSwitchVlanIdSpec{VlanId: id}
}
