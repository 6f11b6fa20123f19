package sim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// A scene is a lab to start with. Scenes are built from the same few parts so that their differences show.
type scene struct {
	name    string
	summary string
	build   func(*stage)
}

var scenes = []scene{
	{"nuc", "one NUC whose only uplink and vmk0 are on DVS0, with three VMs", func(s *stage) {
		s.onDVS(s.addHost(1))
	}},
	{"standard", "the same host on vSwitch0; a member of DVS0 without uplinks", func(s *stage) {
		s.standard()
	}},
	{"fresh", "the same host on vSwitch0, not on DVS0, which has no Lab port group", func(s *stage) {
		d := s.w.switches[0]
		d.removeGroup(d.groupNamed("Lab").key)
		s.onStandard(s.addHost(1))
	}},
	{"ephemeral", "nuc with ephemeral port groups, which a direct session may connect to", func(s *stage) {
		d := s.w.switches[0]
		d.ports = nil
		for i := range d.groups {
			d.groups[i].ephemeral = !d.groups[i].uplink
		}
		s.onDVS(s.addHost(1))
	}},
	{"vcsa", "nuc with the vCenter's own VM on the host", func(s *stage) {
		h := s.addHost(1)
		s.onDVS(h)
		s.addVM(h, vm{name: "vcsa", guestIP: vcsaIP, guestDNS: "vcsa.lab.local", product: vcsaProduct, on: true}, "DVS-Mgmt", 20)
	}},
	{"rack", "three NUCs on one DVS0, each with its own endpoint", func(s *stage) {
		for i := 1; i <= 3; i++ {
			s.onDVS(s.addHost(i))
		}
	}},
	{"two-uplinks", "nuc with vmnic0 and vmnic1 on DVS0", func(s *stage) {
		h := s.addHost(1)
		s.onDVS(h)
		s.addUplink(h, "vmnic1", "Uplink 2")
	}},
	{"storage", "nuc with vmk1 for vMotion and vmk2 for vSAN on DVS0", func(s *stage) {
		h := s.addHost(1)
		s.onDVS(h)
		s.addVMK(h, "vmk1", "192.168.30.111", "Lab", "vmotion")
		s.addVMK(h, "vmk2", "192.168.40.11", "Storage", "vsan")
	}},
	{"lag", "nuc whose uplink is a member of a link aggregation group", func(s *stage) {
		d := s.w.switches[0]
		d.lags = []lag{{key: "lag-1", name: "lag1", ports: 2}}
		for i, g := range d.groups {
			if !g.uplink {
				d.groups[i].setting = portSetting(g.setting.Vlan, []string{"lag1"}, nil)
			}
		}
		h := s.addHost(1)
		s.onDVS(h)
		for _, p := range d.uplinkPorts(h.name) {
			if p.name == "lag1-0" {
				h.proxies[0].uplinks[0].port = p.key
			}
		}
	}},
	{"pvlan", "nuc with a VM in a private VLAN", func(s *stage) {
		d := s.w.switches[0]
		d.pvlans = []types.VMwareDVSPvlanMapEntry{
			{PrimaryVlanId: 30, SecondaryVlanId: 30, PvlanType: "promiscuous"},
			{PrimaryVlanId: 30, SecondaryVlanId: 31, PvlanType: "isolated"},
		}
		g := d.groupNamed("Lab")
		g.setting = portSetting(&types.VmwareDistributedVirtualSwitchPvlanSpec{PvlanId: 30}, d.uplinks, nil)
		s.onDVS(s.addHost(1))
	}},
	{"trunk", "nuc with a VM that tags its own frames, on a trunk of VLANs 20 to 40", func(s *stage) {
		d := s.w.switches[0]
		d.addGroup(dvGroup{key: s.w.freeGroupKey(), name: "Trunk", numPorts: 8, autoExpand: true, version: 1,
			setting: portSetting(&types.VmwareDistributedVirtualSwitchTrunkVlanSpec{VlanId: []types.NumericRange{{Start: 20, End: 40}}}, d.uplinks, nil)})
		h := s.addHost(1)
		s.onDVS(h)
		s.addVM(h, vm{name: "router", on: true, guestIP: "192.168.30.1"}, "Trunk", 30)
	}},
	{"vch", "standard with a VCH that vic-machine 1.5.8 made", func(s *stage) {
		s.standard()
		s.vchs = append(s.vchs, vicVCH("vch1"))
	}},
	{"vic-0.4", "standard with the VCH of the first lab, of VIC 0.4, and its container", func(s *stage) {
		s.standard()
		s.vchs = append(s.vchs, oldVCH)
	}},
	{"standalone", "standard with a host that no vCenter manages", func(s *stage) {
		s.onStandard(s.addHost(1))
		s.unmanaged = true
	}},
	{"awkward", "nuc with a template, a VM that has a snapshot, and a port with settings of its own", func(s *stage) {
		h := s.addHost(1)
		s.onDVS(h)
		s.addVM(h, vm{name: "golden", template: true}, "Lab", 30)
		s.addVM(h, vm{name: "before-upgrade", on: true, guestIP: "192.168.30.77"}, "Lab", 30)
		s.snapshots = append(s.snapshots, "before-upgrade")
		yes := &types.BoolPolicy{Value: types.NewBool(true)}
		s.w.editDVS(dvsUUID).port(s.w.vms[len(s.w.vms)-1].nics[0].attach.port).override = &types.VMwareDVSPortSetting{
			SecurityPolicy: &types.DVSSecurityPolicy{AllowPromiscuous: yes, MacChanges: yes, ForgedTransmits: yes},
		}
	}},
}

const (
	dvsUUID     = "50 2c 5e 1d 7a 4b 3f 10-9b 1e 00 0c 29 6d 0f 55"
	vcsaProduct = "VMware vCenter Server"
	vcsaIP      = "127.0.0.1" // on loopback the vCenter's address is everybody's
	gatewayIP   = "192.168.20.1"
	dnsIP       = "192.168.1.53"
	dvsName     = "DVS0"
	bridgeGroup = "VCH-Bridge" // for containers' bridge networks: from the vCenter they want a distributed one
)

// stage is a world being furnished.
type stage struct {
	w         *world
	vms       int // how many VMs a host gets
	snapshots []string
	unmanaged bool         // the vCenter is not there for anyone
	vchs      []vchBuilder // for each host, once the lab runs
}

func furnish(name string, vms int) (*stage, error) {
	for _, sc := range scenes {
		if sc.name == name {
			s := &stage{w: homelab(), vms: vms}
			sc.build(s)
			return s, nil
		}
	}
	return nil, fmt.Errorf("there is no scene %q", name)
}

// homelab is the network around the hosts: the cable's VLANs and the distributed switch.
func homelab() *world {
	w := &world{fabric: []segment{
		{netip.MustParsePrefix("192.168.20.0/24"), 20},
		{netip.MustParsePrefix("127.0.0.0/8"), 20}, // the VCSA, in the management VLAN
		{netip.MustParsePrefix("192.168.30.0/24"), 30},
		{netip.MustParsePrefix("192.168.40.0/24"), 40},
		{netip.MustParsePrefix("192.168.1.0/24"), 0},
	}}
	d := &dvSwitch{uuid: dvsUUID, name: dvsName, version: 1, mtu: 1500,
		uplinks: []string{"Uplink 1", "Uplink 2", "Uplink 3", "Uplink 4"}}
	trunk := &types.VmwareDistributedVirtualSwitchTrunkVlanSpec{VlanId: []types.NumericRange{{Start: 0, End: 4094}}}
	d.addGroup(dvGroup{key: "dvportgroup-20", name: "DVS0-DVUplinks-19", uplink: true, version: 1, setting: portSetting(trunk, d.uplinks, nil)})
	for i, g := range []struct {
		name string
		vlan int32
	}{{"DVS-Mgmt", 20}, {"Lab", 30}, {"VM Network", 0}, {"Storage", 40}} {
		d.addGroup(dvGroup{key: fmt.Sprintf("dvportgroup-%d", 21+i), name: g.name, numPorts: 8, autoExpand: true, version: 1,
			setting: portSetting(vlanID(g.vlan), d.uplinks, nil)})
	}
	d.addGroup(dvGroup{key: "dvportgroup-25", name: bridgeGroup, ephemeral: true, version: 1, setting: portSetting(vlanID(50), d.uplinks, nil)})
	w.switches = append(w.switches, d)
	return w
}

// addHost adds an Intel NUC, numbered from 1, without any switch.
func (s *stage) addHost(n int) *host {
	h := &host{
		name:    fmt.Sprintf("nuc%02d", n),
		address: fmt.Sprintf("192.168.20.%d", 10+n),
		pnics:   []pnic{{device: "vmnic0", driver: "e1000e", pci: "0000:00:1f.6", mbps: 1000}},
		dns:     []string{dnsIP},
		gateway: gatewayIP,
		domain:  "lab.local",
	}
	h.pnics[0].mac = fmt.Sprintf("b8:ae:ed:7a:10:%02x", n)
	s.w.hosts = append(s.w.hosts, h)
	return h
}

// onDVS puts a host's uplink, vmk0 and VMs on the distributed switch.
func (s *stage) onDVS(h *host) {
	d := s.w.switches[0]
	d.join(h.name)
	h.proxies = append(h.proxies, proxySwitch{dvs: d.uuid})
	h.proxies[0].uplinks = []uplink{{pnic: "vmnic0", port: d.uplinkPorts(h.name)[0].key}}
	s.addVMK(h, "vmk0", h.address, "DVS-Mgmt", "management")
	s.addVMs(h)
}

// standard is a host on vSwitch0 that is a member of DVS0 without uplinks.
func (s *stage) standard() {
	s.onStandard(s.addHost(1))
	s.w.switches[0].join("nuc01")
	h := s.w.hosts[0]
	h.proxies = append(h.proxies, proxySwitch{dvs: dvsUUID})
}

// onStandard puts a host's uplink, vmk0 and VMs on vSwitch0.
func (s *stage) onStandard(h *host) {
	policy := defaultPolicy()
	policy.NicTeaming.NicOrder.ActiveNic = []string{"vmnic0"}
	h.switches = []vswitch{{name: "vSwitch0", spec: types.HostVirtualSwitchSpec{
		NumPorts: 128, Mtu: 1500, Policy: policy,
		Bridge: &types.HostVirtualSwitchBondBridge{
			NicDevice: []string{"vmnic0"},
			Beacon:    &types.HostVirtualSwitchBeaconConfig{Interval: 1},
			LinkDiscoveryProtocolConfig: &types.LinkDiscoveryProtocolConfig{
				Protocol: "cdp", Operation: "listen",
			},
		},
	}}}
	for label, vlan := range map[string]int32{"Management Network": 20, "Lab": 30, "VM Network": 0} {
		h.groups = append(h.groups, types.HostPortGroupSpec{Name: label, VlanId: vlan, VswitchName: "vSwitch0"})
	}
	slices.SortFunc(h.groups, func(a, b types.HostPortGroupSpec) int { return int(b.VlanId - a.VlanId) })
	s.addVMK(h, "vmk0", h.address, "Management Network", "management")
	s.addVMs(h)
}

// attach plugs into the port group of that name, on the distributed switch if the host is on it with an uplink.
func (s *stage) attach(h *host, label string) attachment {
	if h.group(label) != nil {
		return attachment{group: label}
	}
	d := s.w.switches[0]
	at, err := s.w.plug(h.name, &types.DistributedVirtualSwitchPortConnection{SwitchUuid: d.uuid, PortgroupKey: d.groupNamed(label).key}, false)
	if err != nil {
		return attachment{}
	}
	return at
}

func (s *stage) addVMK(h *host, device, ip, label string, services ...string) {
	k := vmk{device: device, services: services, spec: types.HostVirtualNicSpec{
		Ip:                  &types.HostIpConfig{IpAddress: ip, SubnetMask: "255.255.255.0"},
		Mac:                 macFor(h.name + device),
		Mtu:                 1500,
		TsoEnabled:          types.NewBool(true),
		NetStackInstanceKey: "defaultTcpipStack",
	}}
	if device == "vmk0" {
		k.spec.Mac = h.pnics[0].mac // vmk0 takes over the first adapter's address at installation
	}
	at := s.attach(h, label)
	if at.dvs != "" {
		k.spec.DistributedVirtualPort = connection(at)
	} else {
		k.spec.Portgroup = at.group
	}
	h.vmks = append(h.vmks, k)
}

func (s *stage) addUplink(h *host, device, name string) {
	h.pnics = append(h.pnics, pnic{device: device, mac: macFor(h.name + device), driver: "igb", pci: "0000:02:00.0", mbps: 1000})
	for _, p := range s.w.switches[0].uplinkPorts(h.name) {
		if p.name == name {
			h.proxies[0].uplinks = append(h.proxies[0].uplinks, uplink{pnic: device, port: p.key})
		}
	}
}

// addVMs adds the VMs of the first lab, or as many as were asked for.
func (s *stage) addVMs(h *host) {
	last := h.name[len(h.name)-2:]
	suffix := ""
	if last != "01" {
		suffix = "-" + last
	}
	known := []vm{
		{name: "photonbox" + suffix, guestIP: "192.168.30.21", guestDNS: "photonbox"},
		{name: "pihole" + suffix, guestIP: dnsIP, guestDNS: "pihole"},
		{name: "nested-esxi" + suffix, guestIP: "192.168.30.40", guestDNS: "nested-esxi", esxi: true},
	}
	for i := range s.vms {
		v := vm{name: fmt.Sprintf("vm%03d%s", i+1, suffix), guestIP: fmt.Sprintf("192.168.30.%d", 100+i%150)}
		if i < len(known) {
			v = known[i]
		}
		v.on = true
		if suffix != "" && v.guestIP == dnsIP {
			v.guestIP = "192.168.1.1" + suffix[1:]
		}
		label, vlan := "Lab", 30
		if i == 1 { // the name server lives in the native VLAN
			label, vlan = "VM Network", 0
		}
		s.addVM(h, v, label, vlan)
	}
}

func (s *stage) addVM(h *host, v vm, label string, vlan int) {
	v.id = fmt.Sprintf("%s/%s", h.name, v.name)
	v.host = h.name
	v.nics = []nic{{
		key: firstNIC, device: &types.VirtualVmxnet3{}, label: "Network adapter 1", mac: macFor(v.id),
		connect: types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Connected: v.on},
		attach:  s.attach(h, label), home: vlan,
	}}
	s.w.vms = append(s.w.vms, &v)
}
