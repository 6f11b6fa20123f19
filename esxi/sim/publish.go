package sim

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// publish makes an inventory show a world: the vCenter's shows all hosts, a host's own shows that host. Only what
// differs from the world shown before is written, so that clients waiting for updates see changes and nothing else.
// The site's lock is held.
func (in *inventory) publish(w *world) {
	was := in.shown
	if was == nil {
		was = &world{}
	}
	in.shown = w
	switched := !slices.Equal(was.switches, w.switches)
	hosted := !slices.Equal(was.hosts, w.hosts)
	moved := !slices.Equal(was.vms, w.vms)
	if switched || hosted || moved {
		in.publishNetworks(w)
	}
	for _, h := range in.hostsOf(w) {
		if switched || h != was.host(h.name) {
			in.publishHost(w, h)
		}
	}
	for _, v := range w.vms {
		if v != was.vm(v.id) {
			in.publishVM(w, v)
		}
	}
	if switched || hosted || moved {
		in.publishMembers(w)
	}
}

func (in *inventory) hostsOf(w *world) []*host {
	if in.direct() {
		return []*host{w.host(in.host)}
	}
	return w.hosts
}

// update writes properties that differ from what the object has.
func (in *inventory) update(obj mo.Reference, changes ...types.PropertyChange) {
	ctx := in.context()
	in.reg.WithLock(ctx, obj, func() {
		in.reg.Update(ctx, obj, changes)
	})
}

func prop(name string, val any) types.PropertyChange {
	return types.PropertyChange{Name: name, Val: val}
}

// setRefs updates a property that is a list of references, unless it is that already.
func (in *inventory) setRefs(obj mo.Reference, name string, have, want []types.ManagedObjectReference) {
	if !slices.Equal(have, want) {
		in.update(obj, prop(name, want))
	}
}

// publishNetworks makes and drops the objects that stand for port groups and distributed switches.
func (in *inventory) publishNetworks(w *world) {
	labels := map[string]bool{}
	for _, h := range in.hostsOf(w) {
		for _, g := range h.groups {
			labels[g.Name] = true
		}
	}
	for _, v := range w.vms { // a VM keeps the network of a port group that is gone
		for _, n := range v.nics {
			if n.attach.group != "" && in.refs[v.id].Value != "" {
				labels[n.attach.group] = true
			}
		}
	}
	for label := range labels {
		if in.networks[label] != nil {
			continue
		}
		net := &mo.Network{Name: label}
		net.ManagedEntity.Name = label
		if in.direct() {
			net.Self = types.ManagedObjectReference{Type: "Network", Value: "HaNetwork-" + label}
		}
		in.addNetwork(net)
		net.Summary = &types.NetworkSummary{Network: &net.Self, Name: label, Accessible: true}
		in.networks[label] = net
	}
	for label, net := range in.networks {
		if !labels[label] {
			in.removeNetwork(net.Self)
			delete(in.networks, label)
		}
	}

	groups := map[string]bool{}
	for _, d := range w.switches {
		if in.direct() && (w.host(in.host).proxy(d.uuid) == nil || in.site.hideDVS) {
			continue
		}
		sw := in.switches[d.uuid]
		if sw == nil && !in.direct() {
			sw = &simulator.DistributedVirtualSwitch{}
			sw.Name, sw.Entity().Name, sw.Uuid = d.name, d.name, d.uuid
			in.addNetwork(sw)
			in.switches[d.uuid] = sw
		}
		for i := range d.groups {
			g := &d.groups[i]
			groups[g.key] = true
			pg := in.groups[g.key]
			if pg == nil {
				pg = &simulator.DistributedVirtualPortgroup{}
				pg.Self = types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: g.key}
				pg.Name, pg.Entity().Name, pg.Key = g.name, g.name, g.key
				in.addNetwork(pg)
				in.groups[g.key] = pg
			}
			in.publishGroup(pg, sw, d, g)
		}
		if sw != nil {
			in.publishSwitch(w, sw, d)
		}
	}
	for key, pg := range in.groups {
		if !groups[key] {
			in.removeNetwork(pg.Self)
			delete(in.groups, key)
		}
	}
	for uuid, sw := range in.switches {
		if w.dvs(uuid) == nil {
			in.removeNetwork(sw.Self)
			delete(in.switches, uuid)
		}
	}
}

func (in *inventory) publishGroup(pg *simulator.DistributedVirtualPortgroup, sw *simulator.DistributedVirtualSwitch, d *dvSwitch, g *dvGroup) {
	config := types.DVPortgroupConfigInfo{
		Key: g.key, Name: g.name, NumPorts: int32(g.numPorts),
		DefaultPortConfig: g.setting,
		Type:              g.binding(),
		BackingType:       "standard",
		ConfigVersion:     strconv.Itoa(g.version),
		AutoExpand:        types.NewBool(g.autoExpand),
		Uplink:            types.NewBool(g.uplink),
		Policy: &types.VMwareDVSPortgroupPolicy{
			DVPortgroupPolicy: types.DVPortgroupPolicy{
				BlockOverrideAllowed: true, PortConfigResetAtDisconnect: true,
				NetworkResourcePoolOverrideAllowed: types.NewBool(false), TrafficFilterOverrideAllowed: types.NewBool(false),
			},
			IpfixOverrideAllowed: types.NewBool(false),
		},
	}
	var keys []string
	for _, p := range d.ports {
		if p.group == g.key {
			keys = append(keys, p.key)
		}
	}
	if g.uplink {
		config.NumPorts = int32(len(keys))
	}
	if sw != nil {
		config.DistributedVirtualSwitch = &sw.Self
	}
	if reflect.DeepEqual(config, pg.Config) && slices.Equal(keys, pg.PortKeys) {
		return
	}
	in.update(pg, prop("config", config), prop("portKeys", keys), prop("name", g.name), prop("summary", types.BaseNetworkSummary(&types.NetworkSummary{
		Network: &pg.Self, Name: g.name, Accessible: true,
	})))
	if g.uplink && pg.Tag == nil {
		in.update(pg, prop("tag", []types.Tag{{Key: "SYSTEM/DVS.UPLINKPG"}}))
	}
}

func (g *dvGroup) binding() string {
	if g.ephemeral {
		return string(types.DistributedVirtualPortgroupPortgroupTypeEphemeral)
	}
	return string(types.DistributedVirtualPortgroupPortgroupTypeEarlyBinding)
}

func (in *inventory) publishSwitch(w *world, sw *simulator.DistributedVirtualSwitch, d *dvSwitch) {
	product := types.DistributedVirtualSwitchProductSpec{
		Name: "DVS", Vendor: "VMware, Inc.", Version: "6.0.0", Build: esxiBuild, ForwardingClass: "etherswitch",
	}
	config := &types.VMwareDVSConfigInfo{
		DVSConfigInfo: types.DVSConfigInfo{
			Uuid: d.uuid, Name: d.name,
			NumPorts: int32(len(d.ports)), MaxPorts: 60000,
			UplinkPortPolicy:              &types.DVSNameArrayUplinkPortPolicy{UplinkPortName: d.uplinks},
			UplinkPortgroup:               []types.ManagedObjectReference{in.groups[d.uplinkGroup().key].Self},
			DefaultPortConfig:             portSetting(vlanID(0), d.uplinks, nil),
			ProductInfo:                   product,
			Policy:                        &types.DVSPolicy{AutoPreInstallAllowed: types.NewBool(false), AutoUpgradeAllowed: types.NewBool(false), PartialUpgradeAllowed: types.NewBool(false)},
			ConfigVersion:                 strconv.Itoa(d.version),
			DefaultProxySwitchMaxNumPorts: 512,
		},
		MaxMtu:                      d.mtu,
		PvlanConfig:                 d.pvlans,
		LinkDiscoveryProtocolConfig: &types.LinkDiscoveryProtocolConfig{Protocol: "cdp", Operation: "listen"},
		IpfixConfig:                 &types.VMwareIpfixConfig{ActiveFlowTimeout: 60, IdleFlowTimeout: 15},
		LacpApiVersion:              "multipleLag",
		MulticastFilteringMode:      "legacyFiltering",
	}
	for _, l := range d.lags {
		config.LacpGroupConfig = append(config.LacpGroupConfig, types.VMwareDvsLacpGroupConfig{
			Key: l.key, Name: l.name, Mode: "active", UplinkNum: int32(l.ports), LoadbalanceAlgorithm: "srcDestIpTcpUdpPortVlan",
			UplinkName: l.uplinkNames(),
		})
	}
	runtime := &types.DVSRuntimeInfo{}
	var members []types.ManagedObjectReference
	for _, name := range d.members {
		ref := in.hosts[name].Self
		members = append(members, ref)
		m := types.DistributedVirtualSwitchHostMember{
			Config: types.DistributedVirtualSwitchHostMemberConfigInfo{
				Host: &ref, MaxProxySwitchPorts: 1536, Backing: d.backing(w.host(name).proxy(d.uuid)),
			},
			RuntimeState: &types.DistributedVirtualSwitchHostMemberRuntimeState{CurrentMaxProxySwitchPorts: 1536},
			ProductInfo:  &product,
			Status:       string(types.DistributedVirtualSwitchHostMemberHostComponentStateUp),
		}
		for _, p := range d.uplinkPorts(name) {
			m.UplinkPortKey = append(m.UplinkPortKey, p.key)
		}
		config.Host = append(config.Host, m)
		runtime.HostMemberRuntime = append(runtime.HostMemberRuntime, types.HostMemberRuntimeInfo{Host: ref, Status: m.Status})
	}
	var groups []types.ManagedObjectReference
	var names []string
	for _, g := range d.groups {
		groups = append(groups, in.groups[g.key].Self)
		names = append(names, g.name)
	}
	if reflect.DeepEqual(types.BaseDVSConfigInfo(config), sw.Config) && slices.Equal(groups, sw.Portgroup) {
		return
	}
	in.update(sw,
		prop("config", config), prop("runtime", runtime), prop("portgroup", groups),
		prop("summary", types.DVSSummary{
			Name: d.name, Uuid: d.uuid, NumPorts: int32(len(d.ports)), ProductInfo: &product,
			HostMember: members, PortgroupName: names, NumHosts: int32(len(members)),
		}),
		prop("capability", &types.DVSCapability{
			DvsOperationSupported: types.NewBool(true), DvPortGroupOperationSupported: types.NewBool(true),
			DvPortOperationSupported: types.NewBool(true),
		}))
}

func (l *lag) uplinkNames() []string {
	var names []string
	for i := range l.ports {
		names = append(names, fmt.Sprintf("%s-%d", l.name, i))
	}
	return names
}

// backing is the pnic list of a proxy switch; a member that vCenter has not heard of yet has none.
func (d *dvSwitch) backing(p *proxySwitch) *types.DistributedVirtualSwitchHostMemberPnicBacking {
	b := &types.DistributedVirtualSwitchHostMemberPnicBacking{}
	if p == nil {
		return b
	}
	for _, u := range p.uplinks {
		b.PnicSpec = append(b.PnicSpec, types.DistributedVirtualSwitchHostMemberPnicSpec{
			PnicDevice: u.pnic, UplinkPortKey: u.port, UplinkPortgroupKey: d.uplinkGroup().key,
		})
	}
	return b
}

// publishHost shows a host's networking in its three places: networkSystem.networkInfo, config.network and the
// services of its VMkernel adapters.
func (in *inventory) publishHost(w *world, h *host) {
	hs := in.hosts[h.name]
	info := w.networkInfo(h)
	services := h.services()
	in.update(hs, prop("config.network", info), prop("config.virtualNicManagerInfo", &types.HostVirtualNicManagerInfo{NetConfig: services}))

	ns := in.reg.Get(*hs.ConfigManager.NetworkSystem).(*simulator.HostNetworkSystem)
	in.update(ns, prop("networkInfo", info), prop("networkConfig", w.networkConfig(h)),
		prop("dnsConfig", info.DnsConfig), prop("ipRouteConfig", info.IpRouteConfig),
		prop("capabilities", hs.Config.Capabilities))
	vnm := in.reg.Get(*hs.ConfigManager.VirtualNicManager).(*simulator.HostVirtualNicManager)
	in.update(vnm, prop("info", types.HostVirtualNicManagerInfo{NetConfig: services}))
	in.publishSystem(h)
}

// The keys that hostd makes for the parts of a host's networking.
func switchKey(name string) string { return "key-vim.host.VirtualSwitch-" + name }
func groupKey(label string) string { return "key-vim.host.PortGroup-" + label }
func pnicKey(device string) string { return "key-vim.host.PhysicalNic-" + device }
func vnicKey(device string) string { return "key-vim.host.VirtualNic-" + device }

func pnicKeys(devices []string) []string {
	var keys []string
	for _, d := range devices {
		keys = append(keys, pnicKey(d))
	}
	return keys
}

func (w *world) networkInfo(h *host) *types.HostNetworkInfo {
	info := &types.HostNetworkInfo{
		DnsConfig: &types.HostDnsConfig{
			HostName: h.name, DomainName: h.domain, Address: h.dns, SearchDomain: []string{h.domain},
		},
		IpRouteConfig:     &types.HostIpRouteConfig{DefaultGateway: h.gateway},
		IpV6Enabled:       types.NewBool(false),
		AtBootIpV6Enabled: types.NewBool(false),
		RouteTableInfo: &types.HostIpRouteTableInfo{IpRoute: []types.HostIpRouteEntry{
			{Network: "0.0.0.0", Gateway: h.gateway, DeviceName: "vmk0"},
		}},
	}
	info.NetStackInstance = []types.HostNetStackInstance{{
		Key: "defaultTcpipStack", Name: "defaultTcpipStack", DnsConfig: info.DnsConfig, IpRouteConfig: info.IpRouteConfig,
		RequestedMaxNumberOfConnections: 11000, CongestionControlAlgorithm: "newreno", IpV6Enabled: types.NewBool(false),
	}}
	for _, p := range h.pnics {
		n := types.PhysicalNic{
			Key: pnicKey(p.device), Device: p.device, Pci: p.pci, Driver: p.driver, Mac: p.mac,
			ValidLinkSpecification: []types.PhysicalNicLinkInfo{{SpeedMb: 1000, Duplex: true}, {SpeedMb: 100, Duplex: true}},
			Spec:                   types.PhysicalNicSpec{Ip: &types.HostIpConfig{}},
			WakeOnLanSupported:     true,
			AutoNegotiateSupported: types.NewBool(true),
		}
		if p.mbps > 0 {
			n.LinkSpeed = &types.PhysicalNicLinkInfo{SpeedMb: p.mbps, Duplex: true}
		}
		info.Pnic = append(info.Pnic, n)
	}
	for i := range h.switches {
		v := &h.switches[i]
		s := types.HostVirtualSwitch{
			Name: v.name, Key: switchKey(v.name), Mtu: v.spec.Mtu, NumPorts: 1536, NumPortsAvailable: 1536 - int32(len(h.groups)),
			Pnic: pnicKeys(v.nics()), Spec: v.spec,
		}
		for _, g := range h.groups {
			if g.VswitchName == v.name {
				s.Portgroup = append(s.Portgroup, groupKey(g.Name))
			}
		}
		info.Vswitch = append(info.Vswitch, s)
	}
	for _, g := range h.groups {
		info.Portgroup = append(info.Portgroup, w.portGroup(h, g))
	}
	for i := range h.proxies {
		if d := w.dvs(h.proxies[i].dvs); d != nil {
			info.ProxySwitch = append(info.ProxySwitch, d.proxySwitch(h, &h.proxies[i]))
		}
	}
	for i := range h.vmks {
		k := &h.vmks[i]
		n := types.HostVirtualNic{Device: k.device, Key: vnicKey(k.device), Portgroup: k.spec.Portgroup, Spec: k.spec}
		if k.spec.Portgroup != "" {
			n.Port = "key-vim.host.PortGroup.Port-" + k.device
		}
		info.Vnic = append(info.Vnic, n)
	}
	return info
}

func (w *world) portGroup(h *host, g types.HostPortGroupSpec) types.HostPortGroup {
	pg := types.HostPortGroup{Key: groupKey(g.Name), Vswitch: switchKey(g.VswitchName), Spec: g}
	if v := h.vswitch(g.VswitchName); v != nil {
		pg.ComputedPolicy = *mergePolicy(v.spec.Policy, &g.Policy)
	}
	for _, k := range h.vmks {
		if k.spec.Portgroup == g.Name {
			pg.Port = append(pg.Port, types.HostPortGroupPort{
				Key: "key-vim.host.PortGroup.Port-" + k.device, Mac: []string{k.spec.Mac}, Type: "host",
			})
		}
	}
	return pg
}

func (d *dvSwitch) proxySwitch(h *host, p *proxySwitch) types.HostProxySwitch {
	s := types.HostProxySwitch{
		DvsUuid: d.uuid, DvsName: d.name, Key: "DvsPortset-" + d.uuid,
		NumPorts: 1536, ConfigNumPorts: 1536, NumPortsAvailable: 1520, Mtu: d.mtu,
		Spec:                        types.HostProxySwitchSpec{Backing: d.backing(p)},
		NetworkReservationSupported: types.NewBool(true),
	}
	for _, u := range p.uplinks {
		s.Pnic = append(s.Pnic, pnicKey(u.pnic))
	}
	for _, port := range d.uplinkPorts(h.name) {
		kv := types.KeyValue{Key: port.key, Value: port.name}
		if port.lag == "" {
			s.UplinkPort = append(s.UplinkPort, kv)
			continue
		}
		at := slices.IndexFunc(s.HostLag, func(l types.HostProxySwitchHostLagConfig) bool { return l.LagName == port.lag })
		if at < 0 {
			key := d.lags[slices.IndexFunc(d.lags, func(l lag) bool { return l.name == port.lag })].key
			s.HostLag = append(s.HostLag, types.HostProxySwitchHostLagConfig{LagKey: key, LagName: port.lag})
			at = len(s.HostLag) - 1
		}
		s.HostLag[at].UplinkPort = append(s.HostLag[at].UplinkPort, kv)
	}
	return s
}

// networkConfig is the same truth in the shape that UpdateNetworkConfig takes.
func (w *world) networkConfig(h *host) *types.HostNetworkConfig {
	c := &types.HostNetworkConfig{}
	for i := range h.switches {
		c.Vswitch = append(c.Vswitch, types.HostVirtualSwitchConfig{Name: h.switches[i].name, Spec: &h.switches[i].spec})
	}
	for i := range h.groups {
		c.Portgroup = append(c.Portgroup, types.HostPortGroupConfig{Spec: &h.groups[i]})
	}
	for i := range h.proxies {
		if d := w.dvs(h.proxies[i].dvs); d != nil {
			c.ProxySwitch = append(c.ProxySwitch, types.HostProxySwitchConfig{
				Uuid: d.uuid, Spec: &types.HostProxySwitchSpec{Backing: d.backing(&h.proxies[i])},
			})
		}
	}
	for i := range h.vmks {
		c.Vnic = append(c.Vnic, types.HostVirtualNicConfig{
			Device: h.vmks[i].device, Portgroup: h.vmks[i].spec.Portgroup, Spec: &h.vmks[i].spec,
		})
	}
	return c
}

// nicTypes are the services a VMkernel adapter of ESXi 6.0 can carry.
var nicTypes = []string{
	"faultToleranceLogging", "management", "vSphereProvisioning", "vSphereReplication", "vSphereReplicationNFC", "vmotion", "vsan",
}

// services tells which VMkernel adapters carry which service.
func (h *host) services() []types.VirtualNicManagerNetConfig {
	var all []types.VirtualNicManagerNetConfig
	for _, t := range nicTypes {
		c := types.VirtualNicManagerNetConfig{NicType: t, MultiSelectAllowed: true}
		for _, k := range h.vmks {
			key := t + "." + vnicKey(k.device)
			c.CandidateVnic = append(c.CandidateVnic, types.HostVirtualNic{
				Device: k.device, Key: key, Portgroup: k.spec.Portgroup, Spec: k.spec,
			})
			if slices.Contains(k.services, t) {
				c.SelectedVnic = append(c.SelectedVnic, key)
			}
		}
		all = append(all, c)
	}
	return all
}

// publishVM shows a VM's cards and networks, name and power state.
func (in *inventory) publishVM(w *world, v *vm) {
	ref, ok := in.refs[v.id]
	if !ok {
		return
	}
	obj, ok := in.reg.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	var nets []types.ManagedObjectReference
	var guest []types.GuestNicInfo
	ctx := in.context()
	in.reg.WithLock(ctx, obj, func() {
		devices := slices.Clone(obj.Config.Hardware.Device)
		devices = slices.DeleteFunc(devices, func(d types.BaseVirtualDevice) bool {
			_, card := d.(types.BaseVirtualEthernetCard)
			return card
		})
		for i := range v.nics {
			n := &v.nics[i]
			ref, label := in.network(w, n.attach)
			if ref != nil && !slices.Contains(nets, *ref) {
				nets = append(nets, *ref)
			}
			devices = append(devices, n.card(ref, label))
			g := types.GuestNicInfo{Network: label, MacAddress: n.mac, Connected: n.connect.Connected, DeviceConfigId: n.key}
			if i == 0 && v.guestIP != "" && v.on {
				g.IpAddress = []string{v.guestIP}
			}
			guest = append(guest, g)
		}
		power := types.VirtualMachinePowerStatePoweredOff
		if v.on {
			power = types.VirtualMachinePowerStatePoweredOn
		}
		changes := []types.PropertyChange{
			prop("config.hardware.device", devices), prop("network", nets), prop("guest.net", guest),
			prop("summary.config.numEthernetCards", int32(len(v.nics))),
		}
		if obj.Name != v.name {
			changes = append(changes, prop("name", v.name), prop("config.name", v.name), prop("summary.config.name", v.name))
		}
		if (obj.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn) != v.on {
			changes = append(changes, prop("runtime.powerState", power), prop("summary.runtime.powerState", power))
		}
		in.reg.Update(ctx, obj, changes)
	})
}

// network is the moref and name of what an adapter is attached to.
func (in *inventory) network(w *world, a attachment) (*types.ManagedObjectReference, string) {
	if a.dvs != "" {
		if pg := in.groups[a.dvGroup]; pg != nil {
			return &pg.Self, pg.Name
		}
		return nil, ""
	}
	if net := in.networks[a.group]; net != nil {
		return &net.Self, a.group
	}
	return nil, a.group
}

// publishMembers shows who uses what: networks and VMs of a host, hosts and VMs of a network.
func (in *inventory) publishMembers(w *world) {
	type users struct {
		hosts, vms []types.ManagedObjectReference
	}
	use := map[types.ManagedObjectReference]*users{}
	of := func(ref types.ManagedObjectReference) *users {
		if use[ref] == nil {
			use[ref] = &users{}
		}
		return use[ref]
	}
	for _, h := range in.hostsOf(w) {
		hs := in.hosts[h.name]
		var nets []types.ManagedObjectReference
		for _, g := range h.groups {
			nets = append(nets, in.networks[g.Name].Self)
		}
		for _, d := range w.switches {
			if h.proxy(d.uuid) == nil {
				continue
			}
			for _, g := range d.groups {
				if pg := in.groups[g.key]; pg != nil {
					nets = append(nets, pg.Self)
				}
			}
		}
		for _, ref := range nets {
			u := of(ref)
			u.hosts = append(u.hosts, hs.Self)
		}
		in.setRefs(hs, "network", hs.Network, nets)
		if cr, ok := in.reg.Get(*hs.Parent).(*mo.ComputeResource); ok {
			in.setRefs(cr, "network", cr.Network, nets)
		}
	}
	for _, v := range w.vms {
		vmRef, ok := in.refs[v.id]
		if !ok {
			continue
		}
		for _, n := range v.nics {
			if ref, _ := in.network(w, n.attach); ref != nil {
				if u := of(*ref); !slices.Contains(u.vms, vmRef) {
					u.vms = append(u.vms, vmRef)
				}
			}
		}
	}
	for _, net := range in.networks {
		u := of(net.Self)
		in.setRefs(net, "host", net.Host, u.hosts)
		in.setRefs(net, "vm", net.Vm, u.vms)
	}
	for _, pg := range in.groups {
		u := of(pg.Self)
		in.setRefs(pg, "host", pg.Host, u.hosts)
		in.setRefs(pg, "vm", pg.Vm, u.vms)
	}
}

// addNetwork puts a network object into the datacenter's network folder.
func (in *inventory) addNetwork(obj mo.Entity) {
	folder := in.reg.Get(in.dc.NetworkFolder).(*simulator.Folder)
	in.reg.PutEntity(folder, obj)
	ref := obj.Reference()
	in.update(folder, prop("childEntity", append(slices.Clone(folder.ChildEntity), ref)))
	in.update(in.dc, prop("network", append(slices.Clone(in.dc.Network), ref)))
}

func (in *inventory) removeNetwork(ref types.ManagedObjectReference) {
	folder := in.reg.Get(in.dc.NetworkFolder).(*simulator.Folder)
	gone := func(r types.ManagedObjectReference) bool { return r == ref }
	in.update(folder, prop("childEntity", slices.DeleteFunc(slices.Clone(folder.ChildEntity), gone)))
	in.update(in.dc, prop("network", slices.DeleteFunc(slices.Clone(in.dc.Network), gone)))
	in.reg.Remove(in.context(), ref)
}
