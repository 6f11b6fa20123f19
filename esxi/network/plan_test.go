package network

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"
)

var update = flag.Bool("update", false, "write the golden files anew")

// scene is one row of a table: a host, what is different about it, and the
// goal with what is different about that.
type scene struct {
	name string
	host func() *world // nuc or standard
	make func(*world)
	goal func(*Goal)
}

func (sc scene) plan(t testing.TB) (*Snapshot, *Plan) {
	t.Helper()
	w := sc.host()
	g := toStandard()
	if w.vswitch("vSwitch0") != nil {
		g = toDistributed()
	}
	if sc.make != nil {
		sc.make(w)
	}
	if sc.goal != nil {
		sc.goal(&g)
	}
	s := w.snapshot(t)
	return s, NewPlan(s, g)
}

func direct(w *world) {
	w.direct = true
	for i := range w.switches {
		for k := range w.switches[i].groups {
			w.switches[i].groups[k].ephemeral = true
		}
	}
}

// refused names a plan's refusals.
func refused(p *Plan) (codes []string) {
	for _, r := range p.Refusals {
		if !slices.Contains(codes, r.Code) {
			codes = append(codes, r.Code)
		}
	}
	return codes
}

func trunk(ranges ...int32) *types.VmwareDistributedVirtualSwitchTrunkVlanSpec {
	t := &types.VmwareDistributedVirtualSwitchTrunkVlanSpec{}
	for i := 0; i < len(ranges); i += 2 {
		t.VlanId = append(t.VlanId, types.NumericRange{Start: ranges[i], End: ranges[i+1]})
	}
	return t
}

// order sets a distributed port group's uplink order.
func (g *dvGroup) order(active, standby []string) {
	t := *g.setting.UplinkTeamingPolicy
	t.UplinkPortOrder = &types.VMwareUplinkPortOrderPolicy{ActiveUplinkPort: active, StandbyUplinkPort: standby}
	g.setting.UplinkTeamingPolicy = &t
}

// What the planner refuses, by code, and the risk by whose name it can be
// overruled. A row is refused for its one reason only.
func TestRefusals(t *testing.T) {
	pvlan := &types.VmwareDistributedVirtualSwitchPvlanSpec{PvlanId: 30}
	nfs := func(server string) types.BaseDatastoreInfo {
		return &types.NasDatastoreInfo{Nas: &types.HostNasVolume{HostFileSystemVolume: types.HostFileSystemVolume{Type: "NFS"}, RemoteHost: server}}
	}
	task := func(kind, entity string, state types.TaskInfoState) types.TaskInfo {
		return types.TaskInfo{DescriptionId: kind, EntityName: entity, State: state}
	}
	for _, tc := range []struct {
		scene
		code   string // "" for none
		reason string // part of it
		risk   string
	}{
		// nothing to refuse
		{scene{"nuc", nuc, nil, nil}, "", "", ""},
		{scene{"nuc, direct", nuc, direct, nil}, "", "", ""},
		{scene{"standard", standard, nil, nil}, "", "", ""},
		{scene{"standard, direct", standard, direct, nil}, "", "", ""},
		{scene{"not a member, through vCenter", standard, func(w *world) { w.net.ProxySwitch = nil }, nil}, "", "", ""},
		{scene{"done task", nuc, func(w *world) { w.tasks = []types.TaskInfo{task("x", "nuc01", types.TaskInfoStateSuccess)} }, nil}, "", "", ""},

		// the host
		{scene{"another vmk", nuc, nil, func(g *Goal) { g.Vmk = "vmk7" }}, "no-vmk", "no vmkernel adapter vmk7; it has vmk0", ""},
		{scene{"lost host", nuc, func(w *world) { w.state = "notResponding" }, nil}, "host-not-connected", "notResponding", ""},
		{scene{"running task", nuc, func(w *world) { w.tasks = []types.TaskInfo{task("HostSystem.x", "nuc01", types.TaskInfoStateRunning)} }, nil}, "task-running", "HostSystem.x on nuc01", ""},
		{scene{"queued task", standard, func(w *world) { w.tasks = []types.TaskInfo{task("y", "pihole", types.TaskInfoStateQueued)} }, nil}, "task-running", "y on pihole", ""},
		{scene{"HA", nuc, func(w *world) { w.ha = true }, nil}, "ha-enabled", "vSphere HA is on", "ha"},
		{scene{"HA", standard, func(w *world) { w.ha = true }, nil}, "ha-enabled", "vSphere HA is on", "ha"},

		// uplinks
		{scene{"link down", nuc, func(w *world) { w.net.Pnic[0].LinkSpeed = nil }, nil}, "link-down", "vmnic0 has no link", ""},
		{scene{"link down", standard, func(w *world) { w.net.Pnic[0].LinkSpeed = nil }, nil}, "link-down", "vmnic0 has no link", ""},
		{scene{"all links down", nuc, func(w *world) {
			w.net.Pnic[0].LinkSpeed = nil
			w.pnic("vmnic1", 0)
			w.plugUplink("vmnic1", "2")
		}, nil}, "link-down", "vmnic0, vmnic1", ""},
		{scene{"no uplink", nuc, func(w *world) { w.proxy(0).Spec.Backing = &types.DistributedVirtualSwitchHostMemberPnicBacking{} }, nil}, "no-uplink", "DVS0 has no uplink", ""},
		{scene{"another uplink wanted", nuc, func(w *world) { w.pnic("vmnic1", 1000) }, func(g *Goal) { g.Uplink = "vmnic1" }}, "uplink-not-there", "vmnic1 is not on DVS0, which has vmnic0", ""},
		{scene{"LAG", nuc, func(w *world) {
			w.proxy(0).HostLag = []types.HostProxySwitchHostLagConfig{{LagKey: "l", LagName: "lag1"}}
		}, nil}, "lag", "lag1", ""},
		{scene{"LAG", standard, func(w *world) {
			w.proxy(0).HostLag = []types.HostProxySwitchHostLagConfig{{LagKey: "l", LagName: "lag1"}}
		}, nil}, "lag", "lag1", ""},
		{scene{"LAG of a switch it is not on", standard, func(w *world) {
			w.net.ProxySwitch = nil
			w.switches[0].config.LacpGroupConfig = []types.VMwareDvsLacpGroupConfig{{Name: "lag1"}}
		}, nil}, "lag", "lag1", ""},
		{scene{"LACP of old", nuc, func(w *world) {
			w.group(uplinkPG).setting.LacpPolicy = &types.VMwareUplinkLacpPolicy{Enable: boolPolicy(true)}
		}, nil}, "lag", "LACP on DVS0-DVUplinks", ""},

		// storage
		{scene{"vSAN", nuc, func(w *world) { w.vmk("vmk1", "192.168.40.11", "Storage", "vsan") }, nil}, "storage-vmk", "vmk1 carries vsan", "lose-storage"},
		{scene{"NVMe", standard, func(w *world) {
			w.addPortGroup("vSwitch0", "Storage", 40)
			w.vmk("vmk1", "192.168.40.11", "Storage", "nvmeTcp")
		}, nil}, "storage-vmk", "vmk1 carries nvmeTcp", "lose-storage"},
		{scene{"NFS in the adapter's subnet", nuc, func(w *world) { w.stores["nas"] = nfs("192.168.20.50") }, nil}, "storage-vmk", "NFS storage nas at 192.168.20.50", "lose-storage"},
		{scene{"NFS behind the gateway", nuc, func(w *world) { w.stores["nas"] = nfs("10.9.9.9") }, nil}, "storage-vmk", "10.9.9.9", "lose-storage"},
		{scene{"NFS by name", nuc, func(w *world) { w.stores["nas"] = nfs("nas.lab.local") }, nil}, "storage-vmk", "nas.lab.local", "lose-storage"},
		{scene{"NFS without a route", nuc, func(w *world) { w.stores["nas"] = nfs("10.9.9.9"); w.net.IpRouteConfig = nil }, nil}, "storage-vmk", "10.9.9.9", "lose-storage"},
		{scene{"NFS 4.1 with several servers", nuc, func(w *world) {
			d := nfs("10.0.0.1,192.168.20.50").(*types.NasDatastoreInfo)
			d.Nas.RemoteHostNames = []string{"10.0.0.1", "192.168.20.50"}
			w.stores["nas"] = d
			otherStorage(w)
			w.vnic("vmk1").Ip.IpAddress = "10.0.0.9"
		}, nil}, "storage-vmk", "192.168.20.50", "lose-storage"},
		{scene{"NFS over another switch", nuc, func(w *world) { otherStorage(w); w.stores["nas"] = nfs("192.168.40.5") }, nil}, "", "", ""},
		{scene{"iSCSI", nuc, func(w *world) {
			w.hbas = []types.BaseHostHostBusAdapter{&types.HostInternetScsiHba{
				HostHostBusAdapter: types.HostHostBusAdapter{Device: "vmhba64"}, ConfiguredSendTarget: []types.HostInternetScsiHbaSendTarget{{Address: "192.168.20.60"}},
				ConfiguredStaticTarget: []types.HostInternetScsiHbaStaticTarget{{Address: "192.168.20.60"}},
			}}
		}, nil}, "storage-vmk", "iSCSI storage vmhba64 at 192.168.20.60", "lose-storage"},

		// machines
		{scene{"template", nuc, func(w *world) { w.vm("photonbox").template = true }, nil}, "template", "template photonbox", "templates"},
		{scene{"template", standard, func(w *world) { w.vm("photonbox").template = true }, nil}, "template", "template photonbox", "templates"},
		{scene{"template elsewhere", nuc, func(w *world) { w.vm("photonbox").template = true; w.vm("photonbox").nics = nil }, nil}, "", "", ""},
		{scene{"snapshot", nuc, func(w *world) { w.vm("photonbox").snapshot = true }, nil}, "snapshot", "photonbox has snapshots", "snapshots"},
		{scene{"vCenter by product", nuc, func(w *world) { w.vm("photonbox").product = "VMware vCenter Server" }, nil}, "vcsa-on-host", "as photonbox", ""},
		{scene{"vCenter by older product", nuc, func(w *world) { w.vm("photonbox").product = "VMware vCenter Server Appliance" }, nil}, "vcsa-on-host", "as photonbox", ""},
		{scene{"vCenter by address", standard, nil, func(g *Goal) { g.VCenter = []string{"192.168.30.21"} }}, "vcsa-on-host", "as photonbox", ""},
		{scene{"vCenter by the host's word", nuc, func(w *world) { w.managed = "192.168.30.21" }, nil}, "vcsa-on-host", "as photonbox", ""},
		{scene{"vCenter by name", nuc, func(w *world) { w.vm("photonbox").host = "vcsa.lab.local" }, func(g *Goal) { g.VCenter = []string{"VCSA.Lab.Local"} }}, "vcsa-on-host", "as photonbox", ""},
		{scene{"vCenter by short name", nuc, func(w *world) { w.vm("photonbox").host = "vcsa" }, func(g *Goal) { g.VCenter = []string{"vcsa.lab.local"} }}, "vcsa-on-host", "as photonbox", ""},
		{scene{"a namesake in another domain", nuc, func(w *world) { w.vm("photonbox").host = "vcsa.old.lab" }, func(g *Goal) { g.VCenter = []string{"vcsa.lab.local"} }}, "", "", ""},
		{scene{"vCenter, the flag given, not direct", nuc, func(w *world) { w.vm("photonbox").product = "VMware vCenter Server" }, func(g *Goal) { g.VCSAOnHost = true }}, "vcsa-on-host", "--via esxi", ""},
		{scene{"vCenter, direct, no flag", nuc, func(w *world) { direct(w); w.vm("photonbox").product = "VMware vCenter Server" }, nil}, "vcsa-on-host", "--vcsa-on-host", ""},
		{scene{"vCenter, direct, the flag given", nuc, func(w *world) { direct(w); w.vm("photonbox").product = "VMware vCenter Server" }, func(g *Goal) { g.VCSAOnHost = true }}, "", "", ""},
		{scene{"vCenter, powered off", nuc, func(w *world) { w.vm("photonbox").product = "VMware vCenter Server"; w.vm("photonbox").off = true }, nil}, "", "", ""},
		{scene{"vCenter on another switch", nuc, func(w *world) {
			w.addSwitch("vSwitch7")
			w.addPortGroup("vSwitch7", "Inside", 0)
			v := w.vm("photonbox")
			v.product, v.nics = "VMware vCenter Server", nil
			w.plug("photonbox", "Inside")
		}, nil}, "", "", ""},

		// to a standard switch
		{scene{"private VLAN", nuc, func(w *world) { w.group("Lab").setting.Vlan = pvlan }, nil}, "pvlan", "Lab is a private VLAN 30", ""},
		{scene{"private VLAN under vmk0", nuc, func(w *world) { w.group("DVS-Mgmt").setting.Vlan = pvlan }, nil}, "pvlan", "DVS-Mgmt is a private VLAN 30", ""},
		{scene{"trunk under vmk0", nuc, func(w *world) { w.group("DVS-Mgmt").setting.Vlan = trunk(0, 4094) }, nil}, "vlan-unknown", "vmk0 is on DVS-Mgmt, a trunk 0-4094", ""},
		{scene{"unknown VLAN", nuc, func(w *world) { w.group("Lab").setting.Vlan = nil }, nil}, "vlan-unknown", "VLAN of Lab", ""},
		{scene{"own VLAN of vmk0's port", nuc, func(w *world) {
			w.odd = []types.DistributedVirtualPort{{Key: w.vnic("vmk0").DistributedVirtualPort.PortKey, PortgroupKey: "dvportgroup-21", Config: types.DVPortConfigInfo{
				Setting: &types.VMwareDVSPortSetting{Vlan: &types.VmwareDistributedVirtualSwitchVlanIdSpec{VlanId: 99}}}}}
		}, nil}, "vlan-unknown", "port of vmk0 has a VLAN of its own", ""},
		{scene{"MAC learning", nuc, func(w *world) {
			w.group("Lab").setting.MacManagementPolicy = &types.DVSMacManagementPolicy{MacLearningPolicy: &types.DVSMacLearningPolicy{Enabled: true}}
		}, nil}, "mac-learning", "Lab uses MAC learning", "mac-learning"},
		{scene{"label with another VLAN", nuc, func(w *world) { w.addSwitch("vSwitch0"); w.addPortGroup("vSwitch0", "Lab", 31) }, nil}, "label-collision", "exists on vSwitch0 with VLAN 31, but Lab has VLAN 30", ""},
		{scene{"label with the same VLAN", nuc, func(w *world) { w.addSwitch("vSwitch0"); w.addPortGroup("vSwitch0", "Lab", 30) }, nil}, "", "", ""},
		{scene{"label on another switch", nuc, func(w *world) { w.addSwitch("vSwitch1"); w.addPortGroup("vSwitch1", "Lab", 30) }, nil}, "label-collision", "exists on vSwitch1 already", ""},
		{scene{"label that another vmk has", nuc, func(w *world) {
			w.addSwitch("vSwitch0")
			w.addPortGroup("vSwitch0", "Management Network", 20)
			w.vmk("vmk1", "10.0.0.1", "Management Network")
		}, nil}, "label-collision", "in use by another adapter", ""},
		{scene{"label that machines have", nuc, func(w *world) {
			w.addSwitch("vSwitch0")
			w.addPortGroup("vSwitch0", "Management Network", 20)
			w.plug("photonbox", "Management Network")
		}, nil}, "label-collision", "in use by another adapter", ""},
		{scene{"machines beside vmk0", nuc, func(w *world) { w.plug("photonbox", "DVS-Mgmt") }, func(g *Goal) { g.PortGroup = "DVS-Mgmt" }}, "label-collision", "--map 'DVS-Mgmt=NAME'", ""},
		{scene{"machines beside vmk0, mapped", nuc, func(w *world) { w.plug("photonbox", "DVS-Mgmt") }, func(g *Goal) { g.PortGroup = "DVS-Mgmt"; g.Map = map[string]string{"DVS-Mgmt": "Guests"} }}, "", "", ""},
		{scene{"two port groups mapped to one", nuc, nil, func(g *Goal) { g.Map = map[string]string{"Lab": "VM Network"} }}, "label-collision", "would both become VM Network", ""},
		{scene{"two vmks mapped to one", nuc, func(w *world) { w.vmk("vmk1", "10.0.0.1", "Lab"); w.vmk("vmk2", "10.0.0.2", "Storage") },
			func(g *Goal) { g.Map = map[string]string{"Lab": "X", "Storage": "X"} }}, "label-collision", "vmk1 and vmk2 would share", ""},
		{scene{"a long name", nuc, nil, func(g *Goal) { g.Switch = strings.Repeat("x", 33) }}, "bad-name", "longer than 32", ""},
		{scene{"another DVS named", nuc, nil, func(g *Goal) { g.DVS = "DVS1" }}, "wrong-switch", "vmk0 is on DVS0, not on DVS1", ""},
		{scene{"hidden port groups", nuc, func(w *world) { direct(w); w.switches[0].hidden = true }, nil}, "dvs-hidden", "VLAN is not to be guessed", ""},
		{scene{"hidden switch", nuc, func(w *world) { direct(w); w.net.ProxySwitch = nil }, nil}, "dvs-hidden", "vmk0 is on a DVS that this path does not show", ""},
		{scene{"a machine that only vCenter can plug back", nuc, func(w *world) { direct(w); w.group("Lab").ephemeral = false }, nil}, "", "", ""},

		// to a distributed switch
		{scene{"no DVS", standard, func(w *world) { w.net.ProxySwitch, w.switches = nil, nil }, nil}, "no-dvs", "no distributed switch to move to", ""},
		{scene{"no DVS of that name", standard, nil, func(g *Goal) { g.DVS = "DVS9" }}, "no-dvs", "no distributed switch DVS9; there is: DVS0", ""},
		{scene{"no DVS of that name, direct", standard, direct, func(g *Goal) { g.DVS = "DVS9" }}, "no-dvs", "only vCenter can make it one; it is a member of: DVS0", ""},
		{scene{"two DVS", standard, func(w *world) { w.addDVS("DVS1", "uuid-1", "dvportgroup-90") }, nil}, "which-dvs", "DVS0, DVS1", ""},
		{scene{"two DVS, one named", standard, func(w *world) { w.addDVS("DVS1", "uuid-1", "dvportgroup-90") }, func(g *Goal) { g.DVS = "DVS0" }}, "", "", ""},
		{scene{"another switch named", standard, nil, func(g *Goal) { g.Switch = "vSwitch1" }}, "wrong-switch", "vmk0 is on vSwitch0, not on vSwitch1", ""},
		{scene{"switch not shown", standard, func(w *world) { w.net.Vswitch = nil }, nil}, "no-switch", "switch of vmk0 is not shown", ""},
		{scene{"no match", standard, func(w *world) { w.group("Lab").name = "Laboratory" }, nil}, "no-portgroup", "DVS0 has no port group Lab: create it with VLAN 30", ""},
		{scene{"no match, mapped", standard, func(w *world) { w.group("Lab").name = "Laboratory" }, func(g *Goal) { g.Map = map[string]string{"Lab": "Laboratory"} }}, "", "", ""},
		{scene{"no match, to be created", standard, func(w *world) { w.group("Lab").name = "Laboratory" }, func(g *Goal) { g.CreatePortGroups = true }}, "", "", ""},
		{scene{"no match, to be created, direct", standard, func(w *world) { direct(w); w.group("Lab").name = "Laboratory" }, func(g *Goal) { g.CreatePortGroups = true }}, "no-portgroup", "only vCenter can create it", ""},
		{scene{"two to be created as one", standard, func(w *world) { w.plug("photonbox", "VM Network") }, func(g *Goal) {
			g.CreatePortGroups, g.Map = true, map[string]string{"Lab": "New", "VM Network": "New"}
		}}, "vlan-mismatch", "different VLANs would become New", ""},
		{scene{"an uplink port group is no match", standard, nil, func(g *Goal) { g.Map = map[string]string{"Lab": "DVS0-DVUplinks"} }}, "no-portgroup", "no port group DVS0-DVUplinks", ""},
		{scene{"another VLAN", standard, func(w *world) { w.portGroup("Lab").VlanId = 31 }, nil}, "vlan-mismatch", "Lab on DVS0 has VLAN 30, but Lab on vSwitch0 has VLAN 31", ""},
		{scene{"another VLAN under vmk0", standard, func(w *world) { w.portGroup("Management Network").VlanId = 0 }, nil}, "vlan-mismatch", "has no VLAN", ""},
		{scene{"a trunk for vmk0", standard, func(w *world) { w.group("DVS-Mgmt").setting.Vlan = trunk(0, 4094) }, nil}, "vlan-mismatch", "is a trunk 0-4094, but vmk0 is plugged into VLAN 20", ""},
		{scene{"private VLAN", standard, func(w *world) { w.group("Lab").setting.Vlan = pvlan }, nil}, "pvlan", "Lab on DVS0 is a private VLAN 30", ""},
		{scene{"unknown VLAN", standard, func(w *world) { w.group("Lab").setting.Vlan = nil }, nil}, "vlan-unknown", "VLAN of Lab", ""},
		{scene{"not a member, direct", standard, func(w *world) {
			direct(w)
			w.net.ProxySwitch = nil
			w.switches = nil
		}, nil}, "no-dvs", "no distributed switch", ""},
		{scene{"static binding under vmk0, direct", standard, func(w *world) { direct(w); w.group("DVS-Mgmt").ephemeral = false }, nil}, "static-binding", "DVS-Mgmt on DVS0", ""},
		{scene{"static binding under a machine, direct, no vCenter", standard, func(w *world) { direct(w); w.group("Lab").ephemeral = false }, nil}, "static-binding", "only vCenter can plug", ""},
		{scene{"static binding under a machine, direct, with vCenter", standard, func(w *world) { direct(w); w.group("Lab").ephemeral = false }, func(g *Goal) { g.VCenter = []string{"vcsa"} }}, "", "", ""},
		{scene{"static binding under vCenter, direct", standard, func(w *world) {
			direct(w)
			w.group("Lab").ephemeral = false
			w.vm("photonbox").product, w.vm("nested-esxi").nics = "VMware vCenter Server", nil
		}, func(g *Goal) { g.VCenter, g.VCSAOnHost = []string{"vcsa"}, true }}, "static-binding", "runs in photonbox", ""},
		{scene{"jumbo frames of a vmk", standard, func(w *world) { w.vnic("vmk0").Mtu = 9000 }, nil}, "mtu", "vmk0 has MTU 9000, but DVS0 passes 1500", ""},
		{scene{"all uplink ports taken", standard, func(w *world) {
			for i, port := range []string{"1", "2", "3", "4"} {
				w.pnic(fmt.Sprintf("vmnic%d", i+1), 1000)
				w.plugUplink(fmt.Sprintf("vmnic%d", i+1), port)
			}
		}, nil}, "no-free-uplink", "no free uplink port for vmnic0", ""},
		{scene{"no common uplink port", standard, func(w *world) {
			w.group("DVS-Mgmt").order([]string{"Uplink 1"}, nil)
			w.group("Lab").order([]string{"Uplink 2"}, nil)
		}, nil}, "no-free-uplink", "all of its port groups use", ""},
		{scene{"one uplink port for two NICs", standard, func(w *world) {
			w.pnic("vmnic1", 1000)
			w.vswitch("vSwitch0").Spec.Bridge.(*types.HostVirtualSwitchBondBridge).NicDevice = []string{"vmnic0", "vmnic1"}
			for _, g := range []string{"DVS-Mgmt", "Lab", "VM Network"} {
				w.group(g).order([]string{"Uplink 1"}, nil)
			}
		}, nil}, "no-free-uplink", "no free uplink port for vmnic1", ""},
	} {
		s, p := tc.plan(t)
		name := fmt.Sprintf("%s, to %s", tc.name, p.To)
		if tc.code == "" {
			if p.Refused() || p.Already {
				t.Errorf("%s: refused: %v", name, p.Refusals)
			}
			continue
		}
		if got := refused(p); len(got) != 1 || got[0] != tc.code {
			t.Errorf("%s: refused for %v, want %s", name, p.Refusals, tc.code)
			continue
		}
		if !slices.ContainsFunc(p.Refusals, func(r Refusal) bool { return strings.Contains(r.Reason, tc.reason) && r.Risk == tc.risk }) {
			t.Errorf("%s: %v, want %q with risk %q", name, p.Refusals, tc.reason, tc.risk)
		}
		for _, r := range p.Refusals {
			if len([]rune(r.Reason)) > 300 || strings.Contains(r.Reason, "\n") {
				t.Errorf("%s: a reason that is no line: %q", name, r.Reason)
			}
		}
		if tc.risk != "" {
			g := p.Goal
			g.Accept = []string{"another-risk"}
			if NewPlan(s, g).Refusals == nil || !NewPlan(s, g).Refused() {
				t.Errorf("%s: overruled by another risk's name", name)
			}
			g.Accept = []string{tc.risk}
			if over := NewPlan(s, g); over.Refused() || !slices.ContainsFunc(over.Warnings, func(w string) bool { return strings.Contains(w, "accepted: "+tc.risk) }) {
				t.Errorf("%s: accepted, but %v, warnings %q", name, over.Refusals, over.Warnings)
			}
		}
	}
}

// otherStorage gives the host a storage network of its own.
func otherStorage(w *world) {
	w.pnic("vmnic1", 1000)
	w.addSwitch("vSwitch1", "vmnic1")
	w.addPortGroup("vSwitch1", "iSCSI", 0)
	w.vmk("vmk1", "192.168.40.11", "iSCSI")
}

// What has no equivalent on the other side is listed, a line each.
func TestLost(t *testing.T) {
	yes := boolPolicy(true)
	for _, tc := range []struct {
		scene
		want []string
	}{
		{scene{"nothing", nuc, nil, nil}, nil},
		{scene{"load-based teaming", nuc, func(w *world) { w.group("Lab").setting.UplinkTeamingPolicy.Policy = textPolicy(byLoad) }, nil},
			[]string{"load-based teaming of Lab becomes load balancing by source port"}},
		{scene{"features of the switch", nuc, func(w *world) {
			c := &w.switches[0].config
			c.NetworkResourceManagementEnabled = true
			c.HealthCheckConfig = []types.BaseDVSHealthCheckConfig{&types.VMwareDVSVlanMtuHealthCheckConfig{VMwareDVSHealthCheckConfig: types.VMwareDVSHealthCheckConfig{DVSHealthCheckConfig: types.DVSHealthCheckConfig{Enable: types.NewBool(true)}}}}
			c.IpfixConfig = &types.VMwareIpfixConfig{CollectorIpAddress: "10.0.0.1"}
			c.VspanSession = []types.VMwareVspanSession{{Key: "s"}}
		}, nil}, []string{"Network I/O Control shares and reservations of DVS0", "health check of DVS0", "NetFlow of DVS0", "port mirroring of DVS0"}},
		{scene{"features of a port group", nuc, func(w *world) {
			s := &w.group("Lab").setting
			s.InShapingPolicy, s.IpfixEnabled, s.Blocked = &types.DVSTrafficShapingPolicy{Enabled: yes}, yes, yes
			s.FilterPolicy = &types.DvsFilterPolicy{FilterConfig: []types.BaseDvsFilterConfig{&types.DvsFilterConfig{}}}
		}, nil}, []string{"NetFlow of Lab", "ingress traffic shaping of Lab", "the block on all ports of Lab", "traffic filtering and marking of Lab"}},
		{scene{"features of a port group that nobody uses", nuc, func(w *world) { w.group("Storage").setting.IpfixEnabled = yes }, nil}, nil},
		{scene{"a narrow trunk", nuc, func(w *world) { w.group("Lab").setting.Vlan = trunk(10, 19, 30, 30) }, nil},
			[]string{"Lab passes a trunk 10-19,30-30; on a standard switch all VLANs reach the guest"}},
		{scene{"a whole trunk", nuc, func(w *world) { w.group("Lab").setting.Vlan = trunk(0, 4094) }, nil}, nil},
		{scene{"ports that differ", nuc, func(w *world) {
			own := func(s types.VMwareDVSPortSetting) types.DistributedVirtualPort {
				w.next++
				return types.DistributedVirtualPort{Key: fmt.Sprint(w.next), PortgroupKey: "dvportgroup-22", Config: types.DVPortConfigInfo{Setting: &s}}
			}
			inherited := types.InheritablePolicy{Inherited: true}
			elsewhere := own(types.VMwareDVSPortSetting{SecurityPolicy: &types.DVSSecurityPolicy{}})
			elsewhere.ProxyHost = types.NewReference(ref("HostSystem", "host-9"))
			w.next = 499
			w.odd = []types.DistributedVirtualPort{
				own(types.VMwareDVSPortSetting{SecurityPolicy: &types.DVSSecurityPolicy{}, UplinkTeamingPolicy: &types.VmwareUplinkPortTeamingPolicy{}}),
				own(types.VMwareDVSPortSetting{Vlan: &types.VmwareDistributedVirtualSwitchVlanIdSpec{}}),
				own(types.VMwareDVSPortSetting{Vlan: &types.VmwareDistributedVirtualSwitchTrunkVlanSpec{}}),
				own(types.VMwareDVSPortSetting{Vlan: &types.VmwareDistributedVirtualSwitchPvlanSpec{}}),
				own(types.VMwareDVSPortSetting{MacManagementPolicy: &types.DVSMacManagementPolicy{}, DVPortSetting: types.DVPortSetting{
					Blocked: yes, InShapingPolicy: &types.DVSTrafficShapingPolicy{}, OutShapingPolicy: &types.DVSTrafficShapingPolicy{}}}),
				own(types.VMwareDVSPortSetting{SecurityPolicy: &types.DVSSecurityPolicy{InheritablePolicy: inherited},
					Vlan: &types.VmwareDistributedVirtualSwitchVlanIdSpec{VmwareDistributedVirtualSwitchVlanSpec: types.VmwareDistributedVirtualSwitchVlanSpec{InheritablePolicy: inherited}}}),
				elsewhere,
			}
		}, nil}, []string{
			"port 500 of Lab has its own teaming, security policy", "port 501 of Lab has its own VLAN", "port 502 of Lab has its own VLAN", "port 503 of Lab has its own VLAN",
			"port 504 of Lab has its own security policy, ingress shaping, egress shaping, block",
		}},
		{scene{"an order without a NIC", nuc, func(w *world) { w.group("Lab").order([]string{"Uplink 3"}, nil) }, nil},
			[]string{"Lab named no uplink that has a NIC; on vSwitch0 it uses [vmnic0]"}},
		{scene{"MAC learning, accepted", nuc, func(w *world) {
			w.group("Lab").setting.MacManagementPolicy = &types.DVSMacManagementPolicy{MacLearningPolicy: &types.DVSMacLearningPolicy{Enabled: true}}
		}, func(g *Goal) { g.Accept = []string{"mac-learning"} }}, []string{"MAC learning of Lab becomes promiscuous mode with forged transmits"}},
		{scene{"a template, accepted", nuc, func(w *world) { w.vm("photonbox").template = true }, func(g *Goal) { g.Accept = []string{"templates"} }},
			[]string{"template photonbox stays on DVS0: convert it to a virtual machine to move it"}},
		{scene{"a snapshot, accepted", nuc, func(w *world) { w.vm("photonbox").snapshot = true }, func(g *Goal) { g.Accept = []string{"snapshots"} }},
			[]string{"snapshots of photonbox remember DVS0"}},

		{scene{"to DVS, nothing", standard, same, nil}, nil},
		{scene{"to DVS, policies", standard, func(w *world) {
			same(w)
			s := &w.group("Lab").setting
			s.SecurityPolicy.AllowPromiscuous, s.SecurityPolicy.ForgedTransmits = yes, boolPolicy(false)
			s.UplinkTeamingPolicy.Policy, s.UplinkTeamingPolicy.NotifySwitches, s.UplinkTeamingPolicy.RollingOrder = textPolicy(byLoad), boolPolicy(false), yes
			s.UplinkTeamingPolicy.ReversePolicy = boolPolicy(false) // always true, whatever is said
			s.OutShapingPolicy = &types.DVSTrafficShapingPolicy{Enabled: yes, AverageBandwidth: &types.LongPolicy{Value: 1}, PeakBandwidth: &types.LongPolicy{Value: 2}, BurstSize: &types.LongPolicy{Value: 3}}
		}, nil}, []string{
			"Lab: promiscuous mode reject → accept, as Lab has it", "Lab: forged transmits accept → reject, as Lab has it",
			"Lab: load balancing loadbalance_srcid → loadbalance_loadbased, as Lab has it", "Lab: notify switches true → false, as Lab has it",
			"Lab: no failback false → true, as Lab has it", "Lab: shaping off → 1/2 bit/s, burst 3 bytes, as Lab has it",
		}},
		{scene{"to DVS, one uplink that stands by", standard, func(w *world) {
			same(w)
			for _, name := range []string{"DVS-Mgmt", "Lab", "VM Network"} {
				w.group(name).order([]string{"Uplink 1"}, []string{"Uplink 2"})
			}
			w.group("Lab").order([]string{"Uplink 2"}, []string{"Uplink 1"})
		}, nil}, []string{"Lab: active uplinks vmnic0 → none, as Lab has it", "Lab: standby uplinks none → vmnic0, as Lab has it"}},
		{scene{"to DVS, two uplinks", standard, func(w *world) {
			same(w)
			w.pnic("vmnic1", 1000)
			v := w.vswitch("vSwitch0")
			v.Spec.Bridge.(*types.HostVirtualSwitchBondBridge).NicDevice = []string{"vmnic0", "vmnic1"}
			v.Spec.Policy.NicTeaming.NicOrder.ActiveNic = []string{"vmnic1", "vmnic0"} // in any order, as long as it means nothing
			teaming := func(mode string, active, standby []string) types.HostNetworkPolicy {
				return types.HostNetworkPolicy{NicTeaming: &types.HostNicTeamingPolicy{Policy: mode, NicOrder: &types.HostNicOrderPolicy{ActiveNic: active, StandbyNic: standby}}}
			}
			w.portGroup("Lab").Policy = teaming(bySourcePort, []string{"vmnic0"}, []string{"vmnic1"})
			w.portGroup("VM Network").Policy = teaming(byOrder, []string{"vmnic1", "vmnic0"}, nil)
			w.group("VM Network").setting.UplinkTeamingPolicy.Policy = textPolicy(byOrder)
		}, nil}, []string{
			"Lab: active uplinks vmnic0 → vmnic0, vmnic1, as Lab has it", "Lab: standby uplinks vmnic1 → none, as Lab has it",
			"VM Network: active uplinks vmnic1, vmnic0 → vmnic0, vmnic1, as VM Network has it",
		}},
		{scene{"to DVS, a narrower trunk", standard, func(w *world) { same(w); w.portGroup("Lab").VlanId = 4095; w.group("Lab").setting.Vlan = trunk(10, 19) }, nil},
			[]string{"Lab lets all VLANs through; on DVS0 only trunk 10-19"}},
		{scene{"to DVS, jumbo frames", standard, func(w *world) { same(w); w.vswitch("vSwitch0").Spec.Mtu = 9000 }, nil},
			[]string{"frames over 1500 bytes: MTU 9000 of vSwitch0 becomes 1500"}},
	} {
		_, p := tc.plan(t)
		if p.Refused() {
			t.Errorf("%s: refused: %v", tc.name, p.Refusals)
		}
		got, want := sorted(p.Lost), sorted(tc.want)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s", tc.name, cmp.Diff(want, got))
		}
	}
}

// same gives the distributed port groups the policy of the standard ones.
func same(w *world) {
	for _, name := range []string{"DVS-Mgmt", "Lab", "VM Network"} {
		w.group(name).setting.SecurityPolicy = &types.DVSSecurityPolicy{AllowPromiscuous: boolPolicy(false), MacChanges: boolPolicy(true), ForgedTransmits: boolPolicy(true)}
	}
}

// A policy arrives on the other side as it was, order of uplinks included, and
// nothing of it is left to a default.
func TestPolicyIsSentInFull(t *testing.T) {
	s, p := scene{"", nuc, func(w *world) {
		w.pnic("vmnic1", 1000)
		w.plugUplink("vmnic1", "2")
		w.pnic("vmnic2", 1000)
		w.plugUplink("vmnic2", "4")
		g := w.group("Lab")
		g.order([]string{"Uplink 4", "Uplink 3", "Uplink 1"}, []string{"Uplink 2"})
		g.setting.SecurityPolicy = &types.DVSSecurityPolicy{AllowPromiscuous: boolPolicy(true), MacChanges: boolPolicy(false), ForgedTransmits: boolPolicy(true)}
		tp := g.setting.UplinkTeamingPolicy
		tp.Policy, tp.NotifySwitches, tp.RollingOrder, tp.FailureCriteria = textPolicy("failover_explicit"), boolPolicy(false), boolPolicy(true), &types.DVSFailureCriteria{CheckBeacon: boolPolicy(true)}
		g.setting.OutShapingPolicy = &types.DVSTrafficShapingPolicy{Enabled: boolPolicy(true), AverageBandwidth: &types.LongPolicy{Value: 100}, PeakBandwidth: &types.LongPolicy{Value: 200}, BurstSize: &types.LongPolicy{Value: 300}}
		w.proxy(0).Mtu = 9000
	}, nil}.plan(t)
	if p.Refused() {
		t.Fatal(p.Refusals)
	}
	want := Policy{
		Security: security{Promiscuous: true, Forged: true},
		Teaming:  teaming{Mode: "failover_explicit", Reverse: true, Rolling: true, Beacon: true, Active: []string{"vmnic2", "vmnic0"}, Standby: []string{"vmnic1"}},
		Shaping:  &Shaping{100, 200, 300},
	}
	for _, g := range p.Forward.Portgroup {
		whole(t, g.Spec.Name, &g.Spec.Policy)
		if g.Spec.Name == "Lab" {
			if got := hostPolicy(nil, nil, &g.Spec.Policy); !cmp.Equal(got, want) {
				t.Errorf("Lab: %s", cmp.Diff(want, got))
			}
		}
	}
	sw := p.Forward.Vswitch[0].Spec
	whole(t, "the switch", sw.Policy)
	if bridge := sw.Bridge.(*types.HostVirtualSwitchBondBridge); sw.Mtu != 9000 || !slices.Equal(bridge.NicDevice, []string{"vmnic0", "vmnic1", "vmnic2"}) || bridge.Beacon == nil {
		t.Errorf("the switch: MTU %d, bridge %+v", sw.Mtu, bridge)
	}
	if got := s.uplinkState("vmnic2").Slot; got != "Uplink 4" {
		t.Errorf("vmnic2 is on %s", got)
	}

	_, p = scene{"", standard, func(w *world) {
		w.vswitch("vSwitch0").Spec.Policy.Security.AllowPromiscuous = types.NewBool(true)
		same(w)
	}, nil}.plan(t)
	spec := p.Forward.Vswitch[0].Spec
	if spec.Bridge != nil || spec.NumPorts != 128 || spec.Mtu != 1500 || !*spec.Policy.Security.AllowPromiscuous || spec.Policy.NicTeaming.NicOrder != nil {
		t.Errorf("to the DVS: the switch is edited to %+v", spec)
	}
	spec.Policy.NicTeaming.NicOrder = &types.HostNicOrderPolicy{} // a switch without uplinks has none
	whole(t, "to the DVS: the switch", spec.Policy)
}

// whole fails when a part of a policy is left to the host.
func whole(t *testing.T, what string, p *types.HostNetworkPolicy) {
	t.Helper()
	if p == nil || p.Security == nil || p.NicTeaming == nil || p.ShapingPolicy == nil ||
		p.Security.AllowPromiscuous == nil || p.Security.MacChanges == nil || p.Security.ForgedTransmits == nil ||
		p.NicTeaming.Policy == "" || p.NicTeaming.NotifySwitches == nil || p.NicTeaming.RollingOrder == nil || p.NicTeaming.NicOrder == nil ||
		p.NicTeaming.FailureCriteria == nil || p.NicTeaming.FailureCriteria.CheckBeacon == nil || p.ShapingPolicy.Enabled == nil {
		t.Errorf("%s: the policy is not whole: %+v", what, p)
	}
}

// Which uplink port a NIC gets.
func TestUplinkSlot(t *testing.T) {
	taken := func(ports ...string) func(*world) {
		return func(w *world) {
			for i, port := range ports {
				w.pnic(fmt.Sprintf("vmnic%d", i+1), 1000)
				w.plugUplink(fmt.Sprintf("vmnic%d", i+1), port)
			}
		}
	}
	for _, tc := range []struct {
		name string
		make func(*world)
		want string // slot/key
	}{
		{"the first", func(*world) {}, "Uplink 1/1"},
		{"the first that is free", taken("1", "2"), "Uplink 3/3"},
		{"the one that all name active", func(w *world) {
			w.group("DVS-Mgmt").order([]string{"Uplink 2", "Uplink 3"}, []string{"Uplink 1"})
			w.group("Lab").order([]string{"Uplink 3", "Uplink 4"}, []string{"Uplink 1"})
		}, "Uplink 3/3"},
		{"the one that is active here and standby there", func(w *world) {
			w.group("DVS-Mgmt").order([]string{"Uplink 2"}, []string{"Uplink 4"})
			w.group("Lab").order([]string{"Uplink 4"}, []string{"Uplink 3"})
		}, "Uplink 4/4"},
		{"port groups that nobody uses do not count", func(w *world) { w.group("Storage").order(nil, nil) }, "Uplink 1/1"},
		{"active and taken: standby", func(w *world) {
			for _, g := range []string{"DVS-Mgmt", "Lab", "VM Network"} {
				w.group(g).order([]string{"Uplink 1"}, []string{"Uplink 2"})
			}
			taken("1")(w)
		}, "Uplink 2/2"},
	} {
		w := standard()
		tc.make(w)
		p := NewPlan(w.snapshot(t), toDistributed())
		if p.Refused() {
			t.Errorf("%s: %v", tc.name, p.Refusals)
			continue
		}
		b := p.Forward.ProxySwitch[0].Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking)
		last := b.PnicSpec[len(b.PnicSpec)-1]
		if got := p.After.Uplinks[0].Slot + "/" + last.UplinkPortKey; got != tc.want || last.PnicDevice != "vmnic0" {
			t.Errorf("%s: %s on %s, want %s", tc.name, last.PnicDevice, got, tc.want)
		}
		if len(b.PnicSpec) != len(p.Inverse.ProxySwitch[0].Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking).PnicSpec)+1 {
			t.Errorf("%s: other members were dropped", tc.name)
		}
	}
}

// Each vmkernel adapter gets a standard port group of its own, machines keep
// theirs.
func TestLabels(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(*world)
		goal func(*Goal)
		want string
	}{
		{"plain", nil, nil, "vmk0=Management Network pihole=VM Network photonbox=Lab"},
		{"named", nil, func(g *Goal) { g.PortGroup = "Mgmt" }, "vmk0=Mgmt pihole=VM Network photonbox=Lab"},
		{"mapped", nil, func(g *Goal) { g.Map = map[string]string{"Lab": "Guests"} }, "vmk0=Management Network pihole=VM Network photonbox=Guests"},
		{"a group of its own", func(w *world) { w.vmk("vmk1", "10.0.0.1", "Storage") }, nil, "vmk0=Management Network vmk1=Storage pihole=VM Network photonbox=Lab"},
		{"two in one group", func(w *world) { w.vmk("vmk1", "10.0.0.1", "Storage"); w.vmk("vmk2", "10.0.0.2", "Storage") }, nil,
			"vmk0=Management Network vmk1=Storage vmk2=Storage vmk2 pihole=VM Network photonbox=Lab"},
		{"beside management", func(w *world) { w.vmk("vmk1", "10.0.0.1", "DVS-Mgmt") }, nil, "vmk0=Management Network vmk1=DVS-Mgmt pihole=VM Network photonbox=Lab"},
		{"beside machines", func(w *world) { w.vmk("vmk1", "10.0.0.1", "Lab") }, nil, "vmk0=Management Network vmk1=Lab vmk1 pihole=VM Network photonbox=Lab"},
		{"beside machines, mapped", func(w *world) { w.vmk("vmk1", "10.0.0.1", "Storage") }, func(g *Goal) { g.Map = map[string]string{"Storage": "vMotion"} },
			"vmk0=Management Network vmk1=vMotion pihole=VM Network photonbox=Lab"},
	} {
		w := nuc()
		if tc.make != nil {
			tc.make(w)
		}
		g := toStandard()
		if tc.goal != nil {
			tc.goal(&g)
		}
		p := NewPlan(w.snapshot(t), g)
		if p.Refused() {
			t.Errorf("%s: %v", tc.name, p.Refusals)
			continue
		}
		var got []string
		for _, v := range p.After.Vmkernels {
			got = append(got, v.Device+"="+v.At.Group)
		}
		for _, n := range p.After.NICs {
			if n.VM != "nested-esxi" {
				got = append(got, n.VM+"="+n.At.Group)
			}
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.name, s, tc.want)
		}
		if err := w.apply(p.Forward.HostNetworkConfig); err != nil {
			t.Errorf("%s: a host would refuse it: %v", tc.name, err)
		}
	}
}

// What is to be created on the DVS, and that management can be plugged in
// without vCenter.
func TestCreatePortGroups(t *testing.T) {
	_, p := scene{"", standard, func(w *world) {
		w.net.ProxySwitch = nil
		w.switches[0].groups = w.switches[0].groups[:1]
		w.portGroup("Lab").VlanId = 4095
		policy := Policy{Security: security{Promiscuous: true}, Teaming: teaming{Mode: "failover_explicit", Active: []string{"vmnic0"}}, Shaping: &Shaping{1, 2, 3}}.host()
		w.portGroup("Lab").Policy = policy
	}, func(g *Goal) { g.CreatePortGroups = true }}.plan(t)
	if p.Refused() || p.Prepare == nil || !p.Prepare.Join || p.Prepare.DVS != "DVS0" {
		t.Fatalf("%v %+v", p.Refusals, p.Prepare)
	}
	var got []string
	for _, n := range p.Prepare.Create {
		got = append(got, fmt.Sprint(n.Name, " ", n.VLAN, " ", n.Ephemeral))
		s := n.Policy.setting(n.VLAN, n.Slots)
		back := DVPortGroup{}
		back.readSetting(s)
		want := n.Policy
		want.Teaming.Active, want.Teaming.Standby = slotNames, nil
		if have := (Policy{Security: back.Security, Teaming: back.Teaming, Shaping: back.Shaping}); !cmp.Equal(have, want) || back.VLAN.ID != n.VLAN {
			t.Errorf("%s: created with VLAN %d and %s", n.Name, back.VLAN.ID, cmp.Diff(want, have))
		}
	}
	if s, want := strings.Join(got, ", "), "DVS-Mgmt 20 true, Lab 4095 false, VM Network 0 false"; s != want {
		t.Errorf("to create: %s, want %s", s, want)
	}
}

// Machines that others depend on go first, and vCenter before all.
func TestUrgentMachines(t *testing.T) {
	s, p := scene{"", nuc, func(w *world) {
		direct(w)
		w.addVM("a-router", "Lab", "192.168.20.1")
		w.addVM("b-self", "Lab", "192.168.30.99")
		w.addVM("c-vcsa", "Lab", "192.168.30.98").product = "VMware vCenter Server"
		w.addVM("d-off", "Lab", "192.168.20.1").off = true
	}, func(g *Goal) { g.Local, g.VCSAOnHost = []string{"192.168.30.99"}, true }}.plan(t)
	if p.Refused() {
		t.Fatal(p.Refusals)
	}
	var got []string
	for _, e := range p.VMs {
		got = append(got, fmt.Sprint(e.Name, " ", e.Urgent))
	}
	want := "c-vcsa true, a-router true, b-self true, pihole true, d-off false, nested-esxi false, photonbox false"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	for _, w := range []string{"vCenter runs here, as c-vcsa", "a-router is the router", "pihole is the DNS server", "labctl itself runs here, in b-self"} {
		if !slices.ContainsFunc(p.Warnings, func(have string) bool { return strings.Contains(have, w) }) {
			t.Errorf("no warning that %s: %q", w, p.Warnings)
		}
	}
	if len(s.VMs) != 7 {
		t.Errorf("%d machines were read", len(s.VMs))
	}
}

// Who takes a change back is part of the plan, and true.
func TestUndo(t *testing.T) {
	for _, tc := range []struct {
		scene
		want string
	}{
		{scene{"through vCenter", nuc, func(w *world) { w.rollback = "true" }, nil}, "vCenter reverts by itself"},
		{scene{"setting not read", nuc, nil, nil}, "vCenter reverts by itself"},
		{scene{"rollback off", nuc, func(w *world) { w.rollback = "false" }, nil}, "turned off"},
		{scene{"direct", nuc, direct, nil}, "nobody reverts by itself"},
		{scene{"direct, static", nuc, func(w *world) { direct(w); w.group("DVS-Mgmt").ephemeral = false }, nil}, "through vCenter"},
		{scene{"direct, static, vCenter here", nuc, func(w *world) {
			direct(w)
			w.group("DVS-Mgmt").ephemeral = false
			w.vm("photonbox").product = "VMware vCenter Server"
		}, func(g *Goal) { g.VCSAOnHost = true }}, "by hand"},
		{scene{"direct, to DVS", standard, direct, nil}, "nobody reverts by itself"},
	} {
		if _, p := tc.plan(t); p.Refused() || !strings.Contains(p.Undo, tc.want) {
			t.Errorf("%s: %v, undo %q, want %q", tc.name, p.Refusals, p.Undo, tc.want)
		}
	}
}

// Warnings that are no refusals.
func TestWarnings(t *testing.T) {
	for _, tc := range []struct {
		scene
		want string
	}{
		{scene{"all uplinks move", nuc, func(w *world) { w.pnic("vmnic1", 1000); w.plugUplink("vmnic1", "2") }, nil}, "all uplinks of DVS0 move: vmnic0, vmnic1"},
		{scene{"one link of two is down", nuc, func(w *world) { w.pnic("vmnic1", 0); w.plugUplink("vmnic1", "2") }, nil}, "vmnic1 has no link"},
		{scene{"features unseen", nuc, direct, nil}, "only vCenter shows"},
		{scene{"vCenter out of sync", nuc, func(w *world) { direct(w); w.managed = "192.168.20.2" }, nil}, "out of sync with DVS0"},
		{scene{"machines that follow later", standard, func(w *world) { direct(w); w.group("Lab").ephemeral = false }, func(g *Goal) { g.VCenter = []string{"vcsa"} }}, "follow through vCenter"},
	} {
		if _, p := tc.plan(t); p.Refused() || !slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.Contains(w, tc.want) }) {
			t.Errorf("%s: %v, warnings %q, want %q", tc.name, p.Refusals, p.Warnings, tc.want)
		}
	}
}

func TestAlready(t *testing.T) {
	for _, tc := range []struct {
		host func() *world
		to   Kind
		on   string
	}{{nuc, Distributed, "DVS0"}, {standard, Standard, "vSwitch0"}} {
		p := NewPlan(tc.host().snapshot(t), Goal{To: tc.to})
		if !p.Already || p.Refused() || len(p.Changes) > 0 || p.ToSwitch != tc.on || p.Fingerprint == "" {
			t.Errorf("to %s: %+v", tc.to, p)
		}
	}
}

// The same snapshot gives the same plan, to the byte, and does not change by
// being planned with.
func TestPlanIsPure(t *testing.T) {
	for _, host := range []func() *world{nuc, standard} {
		w := host()
		s := w.snapshot(t)
		before := fmt.Sprintf("%+v", s)
		g := toStandard()
		if w.vswitch("vSwitch0") != nil {
			g = toDistributed()
		}
		a, err := json.Marshal(NewPlan(s, g))
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if b, _ := json.Marshal(NewPlan(w.snapshot(t), g)); string(a) != string(b) {
				t.Fatalf("another plan:\n%s", cmp.Diff(string(a), string(b)))
			}
		}
		if after := fmt.Sprintf("%+v", s); after != before {
			t.Error("planning changed the snapshot")
		}
	}
}

// The fingerprint stays the same for what changes by itself, and changes with
// each thing that the plan depends on.
func TestFingerprint(t *testing.T) {
	print := func(w *world, g Goal) string { return NewPlan(w.snapshot(t), g).Fingerprint }
	for name, change := range map[string]func(*world, *Goal){
		"port keys": func(w *world, _ *Goal) {
			w.vnic("vmk0").DistributedVirtualPort.PortKey = "77"
			w.vnic("vmk0").DistributedVirtualPort.ConnectionCookie = 7
			w.vm("photonbox").nics[0].GetVirtualDevice().Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo).Port.PortKey = "78"
		},
		"uplink port keys": func(w *world, _ *Goal) {
			for i := range w.proxy(0).UplinkPort {
				w.proxy(0).UplinkPort[i].Key += "0"
			}
			for i := range w.proxy(0).Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking).PnicSpec {
				w.proxy(0).Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking).PnicSpec[i].UplinkPortKey += "0"
			}
		},
		"link speed":      func(w *world, _ *Goal) { w.net.Pnic[0].LinkSpeed.SpeedMb = 10000 },
		"guest addresses": func(w *world, _ *Goal) { w.vm("photonbox").ip, w.vm("photonbox").host = "10.1.1.1", "renamed" },
		"tasks": func(w *world, _ *Goal) {
			w.tasks = []types.TaskInfo{{DescriptionId: "x", EntityName: "y", State: types.TaskInfoStateRunning}}
		},
		"power":         func(w *world, _ *Goal) { w.vm("photonbox").off = true },
		"connection":    func(w *world, _ *Goal) { w.state = "notResponding" },
		"accepted risk": func(_ *world, g *Goal) { g.Accept = []string{"x"} },
		"this machine":  func(_ *world, g *Goal) { g.Local, g.VCenter = []string{"10.0.0.1"}, []string{"vcsa"} },
		"order of machines": func(w *world, _ *Goal) {
			slices.Reverse(w.vms)
			// References stay with their machines.
			w.vms[0], w.vms[2] = w.vms[2], w.vms[0]
		},
		"order of port groups": func(w *world, _ *Goal) { slices.Reverse(w.switches[0].groups) },
		"order of ports":       func(w *world, _ *Goal) { slices.Reverse(w.proxy(0).UplinkPort) },
		"order of adapters":    func(w *world, _ *Goal) { slices.Reverse(w.net.Vnic) },
		"order of members": func(w *world, _ *Goal) {
			slices.Reverse(w.proxy(0).Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking).PnicSpec)
		},
		"the default vmk by name": func(_ *world, g *Goal) { g.Vmk = "vmk0" },
	} {
		base := func() *world {
			w := nuc()
			w.pnic("vmnic1", 1000)
			w.plugUplink("vmnic1", "2")
			w.vmk("vmk1", "192.168.30.9", "Storage", "vmotion")
			return w
		}
		w, g := base(), toStandard()
		change(w, &g)
		if print(w, g) != print(base(), toStandard()) {
			t.Errorf("%s: the plan went stale", name)
		}
	}
	for name, change := range map[string]func(*world, *Goal){
		"goal: direction":  func(_ *world, g *Goal) { g.To = Distributed },
		"goal: port group": func(_ *world, g *Goal) { g.PortGroup = "x" },
		"goal: switch":     func(_ *world, g *Goal) { g.Switch = "vSwitch5" },
		"goal: map":        func(_ *world, g *Goal) { g.Map = map[string]string{"Lab": "x"} },
		"goal: create":     func(_ *world, g *Goal) { g.CreatePortGroups = true },
		"goal: VCSA":       func(_ *world, g *Goal) { g.VCSAOnHost = true },
		"link":             func(w *world, _ *Goal) { w.net.Pnic[0].LinkSpeed = nil },
		"a new NIC":        func(w *world, _ *Goal) { w.pnic("vmnic1", 1000) },
		"an uplink more":   func(w *world, _ *Goal) { w.pnic("vmnic1", 1000); w.plugUplink("vmnic1", "2") },
		"uplink slot":      func(w *world, _ *Goal) { w.proxy(0).UplinkPort[0].Key, w.proxy(0).UplinkPort[1].Key = "2", "1" },
		"MTU of the DVS":   func(w *world, _ *Goal) { w.proxy(0).Mtu = 9000 },
		"a new switch":     func(w *world, _ *Goal) { w.addSwitch("vSwitch9") },
		"a new port group": func(w *world, _ *Goal) { w.addSwitch("vSwitch9"); w.addPortGroup("vSwitch9", "x", 0) },
		"VLAN":             func(w *world, _ *Goal) { w.group("Lab").setting.Vlan = trunk(1, 2) },
		"VLAN of an empty port group": func(w *world, _ *Goal) {
			w.group("Storage").setting.Vlan = &types.VmwareDistributedVirtualSwitchVlanIdSpec{VlanId: 41}
		},
		"port group's name": func(w *world, _ *Goal) { w.group("Lab").name = "Lab2" },
		"port group's key":  func(w *world, _ *Goal) { w.group("Lab").key = "dvportgroup-99" },
		"binding":           func(w *world, _ *Goal) { w.group("Lab").ephemeral = true },
		"security":          func(w *world, _ *Goal) { w.group("Lab").setting.SecurityPolicy.ForgedTransmits = boolPolicy(true) },
		"teaming":           func(w *world, _ *Goal) { w.group("Lab").order([]string{"Uplink 1"}, nil) },
		"MAC learning": func(w *world, _ *Goal) {
			w.group("Lab").setting.MacManagementPolicy = &types.DVSMacManagementPolicy{MacLearningPolicy: &types.DVSMacLearningPolicy{Enabled: true}}
		},
		"features":          func(w *world, _ *Goal) { w.group("Lab").setting.IpfixEnabled = boolPolicy(true) },
		"switch's features": func(w *world, _ *Goal) { w.switches[0].config.NetworkResourceManagementEnabled = true },
		"shaping": func(w *world, _ *Goal) {
			w.group("Lab").setting.OutShapingPolicy = &types.DVSTrafficShapingPolicy{Enabled: boolPolicy(true)}
		},
		"LAG":                func(w *world, _ *Goal) { w.proxy(0).HostLag = []types.HostProxySwitchHostLagConfig{{LagName: "lag1"}} },
		"vmk's address":      func(w *world, _ *Goal) { w.vnic("vmk0").Ip.IpAddress = "192.168.20.12" },
		"vmk's MTU":          func(w *world, _ *Goal) { w.vnic("vmk0").Mtu = 1400 },
		"vmk's MAC":          func(w *world, _ *Goal) { w.vnic("vmk0").Mac = "00:50:56:00:00:99" },
		"vmk's services":     func(w *world, _ *Goal) { w.services["vmk0"] = nil },
		"vmk's port group":   func(w *world, _ *Goal) { w.vnic("vmk0").DistributedVirtualPort = w.connection("Lab") },
		"a vmk more":         func(w *world, _ *Goal) { w.vmk("vmk1", "10.0.0.1", "Lab") },
		"a machine more":     func(w *world, _ *Goal) { w.addVM("new", "Lab", "") },
		"a machine less":     func(w *world, _ *Goal) { w.vms = w.vms[:2] },
		"a card more":        func(w *world, _ *Goal) { w.plug("photonbox", "Lab") },
		"a card elsewhere":   func(w *world, _ *Goal) { w.vm("photonbox").nics = nil; w.plug("photonbox", "VM Network") },
		"template":           func(w *world, _ *Goal) { w.vm("photonbox").template = true },
		"snapshot":           func(w *world, _ *Goal) { w.vm("photonbox").snapshot = true },
		"not a member":       func(w *world, _ *Goal) { w.net.ProxySwitch = nil },
		"another path hides": func(w *world, _ *Goal) { w.direct = true; w.switches[0].hidden = true },
	} {
		w, g := nuc(), toStandard()
		change(w, &g)
		if print(w, g) == print(nuc(), toStandard()) {
			t.Errorf("%s: the plan did not go stale", name)
		}
	}
}

// The two calls of the seed's move, and their inverses, as they go over the
// wire.
func TestGolden(t *testing.T) {
	for name, sc := range map[string]scene{"standard": {"", nuc, nil, nil}, "distributed": {"", standard, nil, nil}} {
		_, p := sc.plan(t)
		for _, c := range []struct {
			call   string
			config Config
		}{{"forward", p.Forward}, {"inverse", p.Inverse}} {
			got, err := json.MarshalIndent(c.config, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", "to-"+name+"."+c.call+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s (go test -update writes it anew):\n%s", file, cmp.Diff(string(want), string(got)))
			}
		}
	}
}
