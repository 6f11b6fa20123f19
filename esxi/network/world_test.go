package network

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

// world is a host's network in the terms of the API, as a table test furnishes
// it. snapshot reads it by the same code that reads a real host, and apply is a
// small model of what a host does with a change.
type world struct {
	direct   bool
	net      types.HostNetworkInfo
	services map[string][]string // vmkernel device → services
	vms      []vm
	switches []dvs
	state    types.HostSystemConnectionState
	ha       bool
	tasks    []types.TaskInfo
	stores   map[string]types.BaseDatastoreInfo
	hbas     []types.BaseHostHostBusAdapter
	managed  string // address of the vCenter, as the host knows it
	rollback string
	odd      []types.DistributedVirtualPort // ports that differ from their port group
	next     int                            // port keys
}

type vm struct {
	name, host, ip, product string
	off, template, snapshot bool
	nics                    []types.BaseVirtualDevice
}

// dvs is what vCenter knows of a distributed switch.
type dvs struct {
	config types.VMwareDVSConfigInfo
	groups []dvGroup
	hidden bool // port groups, from this path
}

type dvGroup struct {
	key, name string
	ephemeral bool
	uplink    bool
	override  bool // exceptions are allowed
	setting   types.VMwareDVSPortSetting
}

const (
	testUUID = "50 2c 5e 1d"
	uplinkPG = "dvportgroup-20"
)

var slotNames = []string{"Uplink 1", "Uplink 2", "Uplink 3", "Uplink 4"}

func ref(kind, value string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: kind, Value: value}
}

// homelab is a host with a DVS, and nothing plugged into anything.
func homelab() *world {
	w := &world{state: types.HostSystemConnectionStateConnected, services: map[string][]string{}, stores: map[string]types.BaseDatastoreInfo{}, next: 100}
	w.net.DnsConfig = &types.HostDnsConfig{Address: []string{"192.168.1.53"}}
	w.net.IpRouteConfig = &types.HostIpRouteConfig{DefaultGateway: "192.168.20.1"}
	w.pnic("vmnic0", 1000)
	w.addDVS("DVS0", testUUID, uplinkPG)
	for i, g := range []struct {
		name string
		vlan int32
	}{{"DVS-Mgmt", 20}, {"Lab", 30}, {"Storage", 40}, {"VM Network", 0}} {
		w.addGroup(0, fmt.Sprintf("dvportgroup-%d", 21+i), g.name, g.vlan)
	}
	return w
}

// nuc is the seed's host: vmnic0, vmk0 and three machines on DVS0.
func nuc() *world {
	w := homelab()
	w.join(0)
	w.proxy(0).Spec.Backing = &types.DistributedVirtualSwitchHostMemberPnicBacking{
		PnicSpec: []types.DistributedVirtualSwitchHostMemberPnicSpec{{PnicDevice: "vmnic0", UplinkPortKey: "1", UplinkPortgroupKey: uplinkPG}},
	}
	w.vmk("vmk0", "192.168.20.11", "DVS-Mgmt", "management")
	w.addVM("photonbox", "Lab", "192.168.30.21")
	w.addVM("pihole", "VM Network", "192.168.1.53")
	w.addVM("nested-esxi", "Lab", "192.168.30.40")
	return w
}

// standard is the same host on vSwitch0, a member of DVS0 without an uplink.
func standard() *world {
	w := homelab()
	w.join(0)
	w.addSwitch("vSwitch0", "vmnic0")
	w.addPortGroup("vSwitch0", "Management Network", 20)
	w.addPortGroup("vSwitch0", "Lab", 30)
	w.addPortGroup("vSwitch0", "VM Network", 0)
	w.vmk("vmk0", "192.168.20.11", "Management Network", "management")
	w.addVM("photonbox", "Lab", "192.168.30.21")
	w.addVM("pihole", "VM Network", "192.168.1.53")
	w.addVM("nested-esxi", "Lab", "192.168.30.40")
	return w
}

// toStandard and toDistributed are what the config of these hosts asks for.
func toStandard() Goal { return Goal{To: Standard} }
func toDistributed() Goal {
	return Goal{To: Distributed, PortGroup: "DVS-Mgmt"}
}

func (w *world) pnic(device string, mbps int32) {
	p := types.PhysicalNic{Key: "key-" + device, Device: device, Mac: "b8:ae:ed:00:00:0" + device[len(device)-1:]}
	if mbps > 0 {
		p.LinkSpeed = &types.PhysicalNicLinkInfo{SpeedMb: mbps}
	}
	w.net.Pnic = append(w.net.Pnic, p)
}

func (w *world) addDVS(name, uuid, uplinks string) {
	d := dvs{config: types.VMwareDVSConfigInfo{MaxMtu: 1500}}
	d.config.Name, d.config.Uuid = name, uuid
	d.config.UplinkPortPolicy = &types.DVSNameArrayUplinkPortPolicy{UplinkPortName: slices.Clone(slotNames)}
	trunk := &types.VmwareDistributedVirtualSwitchTrunkVlanSpec{VlanId: []types.NumericRange{{Start: 0, End: 4094}}}
	d.groups = []dvGroup{{key: uplinks, name: name + "-DVUplinks", uplink: true, setting: types.VMwareDVSPortSetting{Vlan: trunk}}}
	w.switches = append(w.switches, d)
}

func (w *world) addGroup(dvs int, key, name string, vlan int32) *dvGroup {
	g := dvGroup{key: key, name: name, setting: types.VMwareDVSPortSetting{
		Vlan:           &types.VmwareDistributedVirtualSwitchVlanIdSpec{VlanId: vlan},
		SecurityPolicy: &types.DVSSecurityPolicy{AllowPromiscuous: boolPolicy(false), MacChanges: boolPolicy(false), ForgedTransmits: boolPolicy(false)},
		UplinkTeamingPolicy: &types.VmwareUplinkPortTeamingPolicy{
			Policy: textPolicy(bySourcePort), ReversePolicy: boolPolicy(true), NotifySwitches: boolPolicy(true), RollingOrder: boolPolicy(false),
			FailureCriteria: &types.DVSFailureCriteria{CheckBeacon: boolPolicy(false)},
			UplinkPortOrder: &types.VMwareUplinkPortOrderPolicy{ActiveUplinkPort: slices.Clone(slotNames)},
		},
	}}
	w.switches[dvs].groups = append(w.switches[dvs].groups, g)
	return w.group(name)
}

func (w *world) group(name string) *dvGroup {
	for i := range w.switches {
		for k := range w.switches[i].groups {
			if g := &w.switches[i].groups[k]; g.name == name || g.key == name {
				return g
			}
		}
	}
	return nil
}

// join makes the host a member: it gets uplink ports 1 to 4.
func (w *world) join(dvs int) {
	c := &w.switches[dvs].config
	p := types.HostProxySwitch{DvsUuid: c.Uuid, DvsName: c.Name, Mtu: c.MaxMtu}
	p.Spec.Backing = &types.DistributedVirtualSwitchHostMemberPnicBacking{}
	for i, name := range slotNames {
		p.UplinkPort = append(p.UplinkPort, types.KeyValue{Key: strconv.Itoa(10*dvs + i + 1), Value: name})
	}
	w.net.ProxySwitch = append(w.net.ProxySwitch, p)
}

func (w *world) proxy(i int) *types.HostProxySwitch { return &w.net.ProxySwitch[i] }

// plugUplink puts a NIC on the uplink port with that key.
func (w *world) plugUplink(device, port string) {
	b := w.proxy(0).Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking)
	b.PnicSpec = append(b.PnicSpec, types.DistributedVirtualSwitchHostMemberPnicSpec{PnicDevice: device, UplinkPortKey: port, UplinkPortgroupKey: uplinkPG})
}

func (w *world) addSwitch(name string, nics ...string) *types.HostVirtualSwitch {
	policy := Policy{Security: security{MACChanges: true, Forged: true}, Teaming: teaming{Mode: bySourcePort, Reverse: true, Notify: true, Active: nics}}.host()
	spec := types.HostVirtualSwitchSpec{NumPorts: 128, Mtu: 1500, Policy: &policy}
	if len(nics) > 0 {
		spec.Bridge = &types.HostVirtualSwitchBondBridge{NicDevice: nics, Beacon: &types.HostVirtualSwitchBeaconConfig{Interval: 1}}
	}
	w.net.Vswitch = append(w.net.Vswitch, types.HostVirtualSwitch{Name: name, Spec: spec})
	return w.vswitch(name)
}

func (w *world) vswitch(name string) *types.HostVirtualSwitch {
	for i := range w.net.Vswitch {
		if w.net.Vswitch[i].Name == name {
			return &w.net.Vswitch[i]
		}
	}
	return nil
}

func (w *world) addPortGroup(sw, label string, vlan int32) *types.HostPortGroupSpec {
	w.net.Portgroup = append(w.net.Portgroup, types.HostPortGroup{Spec: types.HostPortGroupSpec{Name: label, VlanId: vlan, VswitchName: sw}})
	return w.portGroup(label)
}

func (w *world) portGroup(label string) *types.HostPortGroupSpec {
	for i := range w.net.Portgroup {
		if w.net.Portgroup[i].Spec.Name == label {
			return &w.net.Portgroup[i].Spec
		}
	}
	return nil
}

func (w *world) dropPortGroup(label string) {
	w.net.Portgroup = slices.DeleteFunc(w.net.Portgroup, func(g types.HostPortGroup) bool { return g.Spec.Name == label })
}

// connection is a port of the distributed port group of that name; nil where
// there is none.
func (w *world) connection(name string) *types.DistributedVirtualSwitchPortConnection {
	for _, d := range w.switches {
		for _, g := range d.groups {
			if g.name == name {
				w.next++
				return &types.DistributedVirtualSwitchPortConnection{SwitchUuid: d.config.Uuid, PortgroupKey: g.key, PortKey: strconv.Itoa(w.next), ConnectionCookie: int32(w.next)}
			}
		}
	}
	return nil
}

// vmk adds an adapter, on the standard port group of that label if there is
// one, else on the distributed one.
func (w *world) vmk(device, ip, group string, services ...string) *types.HostVirtualNicSpec {
	v := types.HostVirtualNic{Device: device, Key: "key-" + device, Spec: types.HostVirtualNicSpec{
		Ip:  &types.HostIpConfig{IpAddress: ip, SubnetMask: "255.255.255.0"},
		Mac: "00:50:56:60:00:0" + device[len(device)-1:], Mtu: 1500, TsoEnabled: types.NewBool(true), NetStackInstanceKey: "defaultTcpipStack",
	}}
	if w.portGroup(group) != nil {
		v.Spec.Portgroup, v.Portgroup = group, group
	} else {
		v.Spec.DistributedVirtualPort = w.connection(group)
	}
	w.net.Vnic = append(w.net.Vnic, v)
	w.services[device] = services
	return w.vnic(device)
}

func (w *world) vnic(device string) *types.HostVirtualNicSpec {
	for i := range w.net.Vnic {
		if w.net.Vnic[i].Device == device {
			return &w.net.Vnic[i].Spec
		}
	}
	return nil
}

func (w *world) addVM(name, group, ip string) *vm {
	v := vm{name: name, ip: ip, host: name}
	w.vms = append(w.vms, v)
	w.plug(name, group)
	return w.vm(name)
}

func (w *world) vm(name string) *vm {
	for i := range w.vms {
		if w.vms[i].name == name {
			return &w.vms[i]
		}
	}
	return nil
}

// plug gives a machine one more card.
func (w *world) plug(name, group string) {
	v := w.vm(name)
	n := len(v.nics)
	card := &types.VirtualVmxnet3{}
	card.Key = int32(4000 + n)
	card.DeviceInfo = &types.Description{Label: fmt.Sprintf("Network adapter %d", n+1)}
	card.MacAddress, card.AddressType = fmt.Sprintf("00:50:56:70:%02x:%02x", len(w.vms), n), "assigned"
	card.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Connected: n == 0}
	card.UnitNumber, card.ControllerKey = types.NewInt32(int32(7+n)), 100
	if w.portGroup(group) != nil {
		card.Backing = &types.VirtualEthernetCardNetworkBackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: group}}
	} else {
		card.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: *w.connection(group)}
	}
	v.nics = append(v.nics, card)
}

// objects is the world as the property collector tells it.
func (w *world) objects() []types.ObjectContent {
	object := func(kind, value string, props ...any) types.ObjectContent {
		o := types.ObjectContent{Obj: ref(kind, value)}
		for i := 0; i < len(props); i += 2 {
			if props[i+1] != nil {
				o.PropSet = append(o.PropSet, types.DynamicProperty{Name: props[i].(string), Val: props[i+1]})
			}
		}
		return o
	}
	n := copied(w.net)
	for i := range n.Vswitch {
		if b, ok := n.Vswitch[i].Spec.Bridge.(*types.HostVirtualSwitchBondBridge); ok {
			for _, nic := range b.NicDevice {
				n.Vswitch[i].Pnic = append(n.Vswitch[i].Pnic, "key-"+nic)
			}
		}
	}
	var netConfig types.HostVirtualNicManagerInfo
	for _, service := range []string{"management", "vmotion", "vsan", "nvmeTcp"} {
		c := types.VirtualNicManagerNetConfig{NicType: service}
		for _, v := range w.net.Vnic {
			key := service + "." + v.Key
			c.CandidateVnic = append(c.CandidateVnic, types.HostVirtualNic{Device: v.Device, Key: key})
			if slices.Contains(w.services[v.Device], service) {
				c.SelectedVnic = append(c.SelectedVnic, key)
			}
		}
		netConfig.NetConfig = append(netConfig.NetConfig, c)
	}
	all := []types.ObjectContent{object("HostSystem", "host-1", "name", "nuc01", "parent", ref("ClusterComputeResource", "domain-c1"),
		"runtime.connectionState", w.state, "config.network", n, "config.virtualNicManagerInfo", netConfig,
		"config.storageDevice.hostBusAdapter", types.ArrayOfHostHostBusAdapter{HostHostBusAdapter: w.hbas},
		"config.product.version", "8.0.3", "summary.managementServerIp", w.managed, "configManager.networkSystem", ref("HostNetworkSystem", "networkSystem-1"))}
	for i, v := range w.vms {
		power := types.VirtualMachinePowerStatePoweredOn
		if v.off || v.template {
			power = types.VirtualMachinePowerStatePoweredOff
		}
		o := object("VirtualMachine", fmt.Sprintf("vm-%d", i+1), "name", v.name, "config.template", v.template, "runtime.powerState", power,
			"guest.hostName", v.host, "guest.ipAddress", v.ip, "config.hardware.device", types.ArrayOfVirtualDevice{VirtualDevice: v.nics})
		if v.product != "" {
			o.PropSet = append(o.PropSet, types.DynamicProperty{Name: "config.vAppConfig", Val: types.VmConfigInfo{Product: []types.VAppProductInfo{{Name: v.product}}}})
		}
		if v.snapshot {
			o.PropSet = append(o.PropSet, types.DynamicProperty{Name: "snapshot", Val: types.VirtualMachineSnapshotInfo{}})
		}
		all = append(all, o)
	}
	for i, d := range w.switches {
		self := ref("VmwareDistributedVirtualSwitch", fmt.Sprintf("dvs-%d", i))
		if !w.direct {
			all = append(all, object(self.Type, self.Value, "name", d.config.Name, "uuid", d.config.Uuid, "config", d.config))
		}
		for _, g := range d.groups {
			if d.hidden {
				break
			}
			kind := types.DistributedVirtualPortgroupPortgroupTypeEarlyBinding
			if g.ephemeral {
				kind = types.DistributedVirtualPortgroupPortgroupTypeEphemeral
			}
			o := object("DistributedVirtualPortgroup", g.key, "name", g.name, "key", g.key, "config.type", string(kind), "config.defaultPortConfig", g.setting)
			if !w.direct {
				o.PropSet = append(o.PropSet, types.DynamicProperty{Name: "config.uplink", Val: g.uplink},
					types.DynamicProperty{Name: "config.distributedVirtualSwitch", Val: self},
					types.DynamicProperty{Name: "config.policy", Val: types.VMwareDVSPortgroupPolicy{VlanOverrideAllowed: g.override}})
			}
			all = append(all, o)
		}
	}
	if w.ha {
		all = append(all, object("ClusterComputeResource", "domain-c1", "configurationEx",
			types.ClusterConfigInfoEx{DasConfig: types.ClusterDasConfigInfo{Enabled: types.NewBool(true)}}))
	}
	for i, info := range w.tasks {
		all = append(all, object("Task", fmt.Sprintf("task-%d", i), "info", info))
	}
	for name, info := range w.stores {
		all = append(all, object("Datastore", name, "name", name, "info", info))
	}
	return all
}

// snapshot reads the world as Read and ReadFor do.
func (w *world) snapshot(t testing.TB) *Snapshot {
	t.Helper()
	s, err := newSnapshot(w.objects(), ref("HostSystem", "host-1"), !w.direct)
	if err != nil {
		t.Fatal(err)
	}
	s.Rollback = w.rollback
	for i := range s.Distributed {
		s.Distributed[i].readPorts(w.odd, s.Ref)
	}
	return s
}

func copied[T any](v T) T {
	var b bytes.Buffer
	var c T
	if err := types.NewJSONEncoder(&b).Encode(v); err != nil {
		panic(err)
	}
	if err := types.NewJSONDecoder(&b).Decode(&c); err != nil {
		panic(err)
	}
	return c
}

func (w *world) clone() *world {
	c := *w
	c.net = copied(w.net)
	c.vms = slices.Clone(w.vms)
	for i := range c.vms {
		c.vms[i].nics = copied(types.ArrayOfVirtualDevice{VirtualDevice: c.vms[i].nics}).VirtualDevice
	}
	return &c
}

// apply is what a host does with one UpdateNetworkConfig(modify): all of it, or
// an error and nothing. It is strict where a host may be lenient.
func (w *world) apply(c types.HostNetworkConfig) (err error) {
	before := w.net
	w.net = copied(before)
	c = copied(c)
	defer func() {
		if err != nil {
			w.net = before
		}
	}()
	const add, edit, remove = "add", "edit", "remove"
	for _, v := range c.Vswitch {
		switch have := w.vswitch(v.Name); {
		case v.ChangeOperation == add && have == nil && len(v.Name) <= 32:
			w.net.Vswitch = append(w.net.Vswitch, types.HostVirtualSwitch{Name: v.Name, Spec: *v.Spec})
			if err := w.ordered(v.Name); err != nil {
				return err
			}
		case v.ChangeOperation == edit && have != nil:
			if err := w.respec(have, *v.Spec); err != nil {
				return err
			}
		default:
			return fmt.Errorf("cannot %s switch %s", v.ChangeOperation, v.Name)
		}
	}
	for _, p := range c.ProxySwitch {
		i := slices.IndexFunc(w.net.ProxySwitch, func(have types.HostProxySwitch) bool { return have.DvsUuid == p.Uuid })
		b, ok := p.Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking)
		if i < 0 || !ok || p.ChangeOperation != edit {
			return fmt.Errorf("cannot %s proxy switch %s", p.ChangeOperation, p.Uuid)
		}
		used := map[string]bool{}
		for _, m := range b.PnicSpec {
			if !slices.ContainsFunc(w.proxy(i).UplinkPort, func(port types.KeyValue) bool { return port.Key == m.UplinkPortKey }) || used[m.UplinkPortKey] {
				return fmt.Errorf("%s: uplink port %q is taken or not there", m.PnicDevice, m.UplinkPortKey)
			}
			used[m.UplinkPortKey] = true
		}
		w.proxy(i).Spec.Backing = b
	}
	for _, g := range c.Portgroup {
		have := w.portGroup(g.Spec.Name)
		switch {
		case g.Spec.VlanId < 0 || g.Spec.VlanId > 4095 || w.vswitch(g.Spec.VswitchName) == nil:
			return fmt.Errorf("port group %s: VLAN %d on %s", g.Spec.Name, g.Spec.VlanId, g.Spec.VswitchName)
		case g.ChangeOperation == add && have == nil:
			w.net.Portgroup = append(w.net.Portgroup, types.HostPortGroup{Spec: *g.Spec})
		case g.ChangeOperation == edit && have != nil && have.VswitchName == g.Spec.VswitchName:
			*have = *g.Spec
		default:
			return fmt.Errorf("cannot %s port group %s", g.ChangeOperation, g.Spec.Name)
		}
		if err := w.ordered(g.Spec.VswitchName); err != nil {
			return err
		}
	}
	for _, v := range c.Vnic {
		if err := w.respecVMK(v); err != nil {
			return err
		}
	}
	return w.endState()
}

func (w *world) respec(have *types.HostVirtualSwitch, spec types.HostVirtualSwitchSpec) error {
	var nics []string
	if b, ok := spec.Bridge.(*types.HostVirtualSwitchBondBridge); ok {
		nics = b.NicDevice
	}
	kept := func(p *types.HostNetworkPolicy) { // a NIC that leaves the switch leaves each order
		if p == nil || p.NicTeaming == nil || p.NicTeaming.NicOrder == nil {
			return
		}
		gone := func(nic string) bool { return !slices.Contains(nics, nic) }
		o := p.NicTeaming.NicOrder
		o.ActiveNic, o.StandbyNic = slices.DeleteFunc(o.ActiveNic, gone), slices.DeleteFunc(o.StandbyNic, gone)
	}
	if spec.Policy == nil {
		spec.Policy = have.Spec.Policy
		kept(spec.Policy)
	}
	for i := range w.net.Portgroup {
		if g := &w.net.Portgroup[i].Spec; g.VswitchName == have.Name {
			kept(&g.Policy)
		}
	}
	have.Spec = spec
	return w.ordered(have.Name)
}

// ordered refuses an order that names what the switch does not have, and a
// probe with beacons that it does not send.
func (w *world) ordered(name string) error {
	var nics []string
	b, ok := w.vswitch(name).Spec.Bridge.(*types.HostVirtualSwitchBondBridge)
	if ok {
		nics = b.NicDevice
	}
	policies := map[string]*types.HostNetworkPolicy{name: w.vswitch(name).Spec.Policy}
	for i := range w.net.Portgroup {
		if g := &w.net.Portgroup[i].Spec; g.VswitchName == name {
			policies[g.Name] = &g.Policy
		}
	}
	for what, p := range policies {
		if p == nil || p.NicTeaming == nil {
			continue
		}
		if p.NicTeaming.Policy == byLoad {
			return fmt.Errorf("%s balances by load, which only a DVS can", what)
		}
		if o := p.NicTeaming.NicOrder; o != nil {
			for _, nic := range slices.Concat(o.ActiveNic, o.StandbyNic) {
				if !slices.Contains(nics, nic) {
					return fmt.Errorf("%s orders %s, which %s does not have", what, nic, name)
				}
			}
		}
		if f := p.NicTeaming.FailureCriteria; f != nil && yes(f.CheckBeacon) && ok && b.Beacon == nil {
			return fmt.Errorf("%s probes with beacons, which %s does not send", what, name)
		}
	}
	return nil
}

func (w *world) respecVMK(c types.HostVirtualNicConfig) error {
	i := slices.IndexFunc(w.net.Vnic, func(v types.HostVirtualNic) bool { return v.Device == c.Device })
	if i < 0 || c.ChangeOperation != "edit" {
		return fmt.Errorf("cannot %s %s", c.ChangeOperation, c.Device)
	}
	v, spec := &w.net.Vnic[i], *c.Spec
	if ip := spec.Ip; ip != nil {
		if ip.Dhcp && ip.IpAddress+ip.SubnetMask != "" {
			return fmt.Errorf("%s: a leased address cannot be set", c.Device)
		}
		if ip.Dhcp {
			spec.Ip = v.Spec.Ip // the lease goes on
		}
	}
	switch port := spec.DistributedVirtualPort; {
	case (port != nil) == (spec.Portgroup != ""):
		return fmt.Errorf("%s: a port group or a distributed port, not both", c.Device)
	case port == nil:
		if w.portGroup(spec.Portgroup) == nil || c.Portgroup != spec.Portgroup {
			return fmt.Errorf("%s: there is no port group %s", c.Device, spec.Portgroup)
		}
		v.Portgroup = spec.Portgroup
	default:
		g := w.group(port.PortgroupKey)
		member := slices.ContainsFunc(w.net.ProxySwitch, func(p types.HostProxySwitch) bool { return p.DvsUuid == port.SwitchUuid })
		if g == nil || g.uplink || !member || w.direct && !g.ephemeral || port.PortKey != "" || c.Portgroup != "" {
			return fmt.Errorf("%s cannot be plugged into %+v", c.Device, *port)
		}
		w.next++
		port.PortKey, v.Portgroup = strconv.Itoa(w.next), ""
	}
	v.Spec = spec
	return nil
}

// endState holds what must be true however the call got there.
func (w *world) endState() error {
	owner := map[string]string{}
	claim := func(nic, by string) error {
		if !slices.ContainsFunc(w.net.Pnic, func(p types.PhysicalNic) bool { return p.Device == nic }) || owner[nic] != "" {
			return fmt.Errorf("%s is claimed by %s and %s", nic, owner[nic], by)
		}
		owner[nic] = by
		return nil
	}
	for _, v := range w.net.Vswitch {
		if b, ok := v.Spec.Bridge.(*types.HostVirtualSwitchBondBridge); ok {
			for _, nic := range b.NicDevice {
				if err := claim(nic, v.Name); err != nil {
					return err
				}
			}
		}
	}
	for _, p := range w.net.ProxySwitch {
		for _, m := range p.Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking).PnicSpec {
			if err := claim(m.PnicDevice, p.DvsName); err != nil {
				return err
			}
		}
	}
	held := map[string]string{}
	for _, v := range w.net.Vnic {
		if label := v.Spec.Portgroup; label != "" {
			if held[label] != "" {
				return fmt.Errorf("%s and %s share port group %s", held[label], v.Device, label)
			}
			held[label] = v.Device
		}
	}
	return nil
}

// move edits the machines of a plan as a Run would.
func (w *world) move(t testing.TB, p *Plan, d direction) {
	t.Helper()
	s := w.snapshot(t)
	for _, e := range p.VMs {
		machine, todo := p.todo(s, e, d)
		for _, change := range nicSpec(machine, todo, d).DeviceChange {
			dev := change.GetVirtualDeviceConfigSpec().Device
			card := dev.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
			v := w.vm(e.Name)
			i := slices.IndexFunc(v.nics, func(have types.BaseVirtualDevice) bool { return have.GetVirtualDevice().Key == card.Key })
			switch b := card.Backing.(type) {
			case *types.VirtualEthernetCardNetworkBackingInfo:
				if w.portGroup(b.DeviceName) == nil {
					t.Fatalf("%s: there is no port group %s", e.Name, b.DeviceName)
				}
			case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
				if g := w.group(b.Port.PortgroupKey); g == nil || g.uplink || b.Port.PortKey != "" {
					t.Fatalf("%s cannot be plugged into %+v", e.Name, b.Port)
				}
				w.next++
				b.Port.PortKey = strconv.Itoa(w.next)
			}
			v.nics[i] = dev
		}
	}
}

// tidy removes what a plan made on the host.
func (w *world) tidy(p *Plan) {
	for _, label := range p.Made.PortGroups {
		w.dropPortGroup(label)
	}
	w.net.Vswitch = slices.DeleteFunc(w.net.Vswitch, func(v types.HostVirtualSwitch) bool { return v.Name == p.Made.Switch })
}

// text is the world's configuration without what a server chooses anew: port
// keys and cookies. Two worlds are the same if their texts are.
func (w *world) text() string {
	c := w.clone()
	for i := range c.net.Vnic {
		if p := c.net.Vnic[i].Spec.DistributedVirtualPort; p != nil {
			p.PortKey, p.ConnectionCookie = "", 0
		}
	}
	for _, v := range c.vms {
		for _, n := range v.nics {
			if b, ok := n.GetVirtualDevice().Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo); ok {
				b.Port.PortKey, b.Port.ConnectionCookie = "", 0
			}
		}
	}
	var b bytes.Buffer
	enc := types.NewJSONEncoder(&b)
	for _, v := range []any{c.net.Vswitch, c.net.Portgroup, c.net.ProxySwitch, c.net.Vnic} {
		if err := enc.Encode(v); err != nil {
			panic(err)
		}
	}
	for _, v := range c.vms {
		if err := enc.Encode(types.ArrayOfVirtualDevice{VirtualDevice: v.nics}); err != nil {
			panic(err)
		}
	}
	return b.String()
}
