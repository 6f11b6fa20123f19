package network

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// A re-read is measured against a layout: each difference is one line, and what
// has nothing to do with the move is none.
func TestMismatches(t *testing.T) {
	for _, tc := range []struct {
		name string
		host func() *world
		make func(*world)
		want []string
	}{
		{"nothing", nuc, func(*world) {}, nil},
		{"port keys", nuc, func(w *world) { w.vnic("vmk0").DistributedVirtualPort.PortKey = "9" }, nil},
		{"another port group's policy", nuc, func(w *world) { w.group("Storage").order(nil, nil) }, nil},
		{"a machine", nuc, func(w *world) { w.vms = nil }, nil},
		{"link", nuc, func(w *world) { w.net.Pnic[0].LinkSpeed = nil }, nil},
		{"letters of a MAC address", nuc, func(w *world) { w.vnic("vmk0").Mac = strings.ToUpper(w.vnic("vmk0").Mac) }, nil},
		{"uplink gone", nuc, func(w *world) { w.proxy(0).Spec.Backing = &types.DistributedVirtualSwitchHostMemberPnicBacking{} }, []string{"vmnic0: switch is none, not DVS0"}},
		{"uplink port", nuc, func(w *world) {
			w.proxy(0).Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking).PnicSpec[0].UplinkPortKey = "3"
		}, []string{"vmnic0: uplink port is Uplink 3, not Uplink 1"}},
		{"a switch of the same name and another kind", nuc, func(w *world) {
			w.proxy(0).Spec.Backing = &types.DistributedVirtualSwitchHostMemberPnicBacking{}
			w.addSwitch("DVS0", "vmnic0")
		}, []string{"vmnic0: kind of switch is standard, not distributed"}},
		{"vmk gone", nuc, func(w *world) { w.net.Vnic = nil }, []string{"vmk0: is gone"}},
		{"vmk elsewhere", nuc, func(w *world) { w.vnic("vmk0").DistributedVirtualPort = w.connection("Lab") }, []string{"vmk0: port group is Lab on DVS0, VLAN 30, not DVS-Mgmt on DVS0, VLAN 20"}},
		{"a namesake of the port group", nuc, func(w *world) {
			w.vnic("vmk0").DistributedVirtualPort.PortgroupKey = "dvportgroup-99"
			w.addGroup(0, "dvportgroup-99", "DVS-Mgmt", 20)
		}, []string{"vmk0: port group is DVS-Mgmt on DVS0, VLAN 20, not DVS-Mgmt on DVS0, VLAN 20 (dvportgroup-99, not dvportgroup-21)"}},
		{"a new name of the port group", nuc, func(w *world) { w.group("DVS-Mgmt").name = "Management" }, nil},
		{"VLAN", nuc, func(w *world) {
			w.group("DVS-Mgmt").setting.Vlan = &types.VmwareDistributedVirtualSwitchVlanIdSpec{VlanId: 21}
		}, []string{"vmk0: VLAN is 21, not 20"}},
		{"all of vmk0", nuc, func(w *world) {
			v := w.vnic("vmk0")
			v.Ip = &types.HostIpConfig{IpAddress: "192.168.20.99", SubnetMask: "255.255.0.0"}
			v.Mac, v.Mtu, v.NetStackInstanceKey = "00:00:00:00:00:01", 9000, "vmotion"
			w.services["vmk0"] = []string{"vmotion", "management"}
		}, []string{
			"vmk0: address is 192.168.20.99, not 192.168.20.11", "vmk0: netmask is 255.255.0.0, not 255.255.255.0",
			"vmk0: MAC address is 00:00:00:00:00:01, not 00:50:56:60:00:00", "vmk0: MTU is 9000, not 1500",
			"vmk0: TCP/IP stack is vmotion, not defaultTcpipStack", "vmk0: services is management vmotion, not management",
		}},
		{"DHCP", nuc, func(w *world) { w.vnic("vmk0").Ip.Dhcp = true }, []string{"vmk0: DHCP is true, not false"}},
		{"standard port group gone", standard, func(w *world) { w.dropPortGroup("Lab") }, []string{"port group Lab: is not on vSwitch0"}},
		{"standard port group elsewhere", standard, func(w *world) { w.addSwitch("vSwitch1"); w.portGroup("Lab").VswitchName = "vSwitch1" }, []string{"port group Lab: is not on vSwitch0"}},
		{"its VLAN", standard, func(w *world) { w.portGroup("Lab").VlanId = 31 }, []string{"port group Lab: VLAN is 31, not 30"}},
		{"its policy", standard, func(w *world) {
			w.portGroup("Lab").Policy = types.HostNetworkPolicy{
				Security:      &types.HostNetworkSecurityPolicy{AllowPromiscuous: types.NewBool(true)},
				NicTeaming:    &types.HostNicTeamingPolicy{ReversePolicy: types.NewBool(false), NicOrder: &types.HostNicOrderPolicy{StandbyNic: []string{"vmnic0"}}},
				ShapingPolicy: &types.HostNetworkTrafficShapingPolicy{Enabled: types.NewBool(true), AverageBandwidth: 8, PeakBandwidth: 9, BurstSize: 10},
			}
		}, []string{
			"port group Lab: promiscuous mode accept → reject expected", "port group Lab: shaping 8/9 bit/s, burst 10 bytes → off expected",
			"port group Lab: active uplinks none → vmnic0 expected", "port group Lab: standby uplinks vmnic0 → none expected",
		}},
		{"the switch's policy", standard, func(w *world) {
			w.vswitch("vSwitch0").Spec.Policy.Security.ForgedTransmits = types.NewBool(false)
		}, []string{
			"port group Lab: forged transmits reject → accept expected", "port group Management Network: forged transmits reject → accept expected", "port group VM Network: forged transmits reject → accept expected",
		}},
		{"an unused port group's policy", func() *world { w := standard(); w.addPortGroup("vSwitch0", "unused", 7); return w }, func(w *world) { w.portGroup("unused").VlanId = 8 }, nil},
	} {
		w := tc.host()
		g := toStandard()
		if w.vswitch("vSwitch0") != nil {
			g = toDistributed()
		}
		p := NewPlan(w.snapshot(t), g)
		if p.Refused() {
			t.Fatal(p.Refusals)
		}
		tc.make(w)
		if got := p.Before.mismatches(w.snapshot(t)); !slices.Equal(sorted(got), sorted(tc.want)) {
			t.Errorf("%s:\ngot  %q\nwant %q", tc.name, got, tc.want)
		}
	}
}

// A leased address may change on the way.
func TestMismatchesOfALease(t *testing.T) {
	w := nuc()
	w.vnic("vmk0").Ip.Dhcp = true
	p := NewPlan(w.snapshot(t), toStandard())
	w.vnic("vmk0").Ip.IpAddress = "192.168.20.77"
	if got := p.Before.mismatches(w.snapshot(t)); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

// Cleanup names what nothing needs any more, in the order in which it can go.
func TestLeftovers(t *testing.T) {
	for _, tc := range []struct {
		name string
		host func() *world
		make func(*world)
		vmk  string
		want []string // what; safe or what it waits for
	}{
		{"a host at home", nuc, func(*world) {}, "", nil},
		{"moved to the DVS", nuc, func(w *world) {
			w.addSwitch("vSwitch0")
			w.addPortGroup("vSwitch0", "Lab", 30)
			w.addPortGroup("vSwitch0", "Management Network", 20)
		}, "", []string{
			"port group Lab of vSwitch0: safe", "port group Management Network of vSwitch0: safe", "standard switch vSwitch0: safe",
		}},
		{"with a machine on it", nuc, func(w *world) {
			w.addSwitch("vSwitch0")
			w.addPortGroup("vSwitch0", "Inside", 0)
			w.addPortGroup("vSwitch0", "Old", 0)
			w.addVM("inner", "Inside", "")
		}, "", []string{
			"port group Inside of vSwitch0: in use by inner", "port group Old of vSwitch0: safe", "standard switch vSwitch0: a port group of it is in use",
		}},
		{"with a machine on it that is off", nuc, func(w *world) {
			w.addSwitch("vSwitch0")
			w.addPortGroup("vSwitch0", "Inside", 0)
			w.addVM("inner", "Inside", "").off = true
		}, "", []string{"port group Inside of vSwitch0: in use by inner", "standard switch vSwitch0: a port group of it is in use"}},
		{"with a vmk on it", nuc, func(w *world) {
			w.addSwitch("vSwitch0")
			w.addPortGroup("vSwitch0", "x", 0)
			w.vmk("vmk1", "10.0.0.1", "x")
		}, "", []string{
			"port group x of vSwitch0: in use by vmk1", "standard switch vSwitch0: a port group of it is in use",
		}},
		{"isolated on purpose", nuc, func(w *world) {
			w.addSwitch("vSwitch0")
			w.addSwitch("Isolated")
			w.addPortGroup("Isolated", "Inside", 0)
		}, "", []string{
			"standard switch vSwitch0: safe", "port group Inside of Isolated: " + notOurs, "standard switch Isolated: " + notOurs,
		}},
		{"isolated on purpose and in use", nuc, func(w *world) {
			w.addSwitch("Isolated")
			w.addPortGroup("Isolated", "Inside", 0)
			w.addVM("inner", "Inside", "")
		}, "", []string{
			"port group Inside of Isolated: in use by inner", "standard switch Isolated: a port group of it is in use",
		}},
		{"with an uplink", nuc, func(w *world) { w.pnic("vmnic1", 1000); w.addSwitch("vSwitch0", "vmnic1") }, "", nil},
		{"moved to the standard switch", standard, func(*world) {}, "", []string{"membership of DVS0: safe"}},
		{"with a machine left on the DVS", standard, func(w *world) { w.addVM("late", "Storage", "") }, "", []string{"membership of DVS0: in use by late"}},
		{"with an uplink left", standard, func(w *world) { w.pnic("vmnic1", 1000); w.plugUplink("vmnic1", "1") }, "", nil},
		{"not a member", standard, func(w *world) { w.net.ProxySwitch = nil }, "", nil},
		{"direct", standard, direct, "", []string{"membership of DVS0: only vCenter can end it"}},
		{"the home of management without an uplink", standard, func(w *world) { w.vswitch("vSwitch0").Spec.Bridge = nil }, "", []string{"membership of DVS0: safe"}},
		{"another management adapter", nuc, func(w *world) {
			w.addSwitch("vSwitch0")
			w.addPortGroup("vSwitch0", "x", 0)
			w.vmk("vmk1", "10.0.0.1", "x")
		}, "vmk1", nil},
	} {
		w := tc.host()
		tc.make(w)
		var got []string
		for _, l := range Leftovers(w.snapshot(t), tc.vmk, func(n SwitchName) bool { return n.Name != "Isolated" }) {
			state := l.Reason
			if l.Safe {
				state = "safe"
			}
			got = append(got, l.What+": "+state)
			if l.Safe != (l.remove != nil) {
				t.Errorf("%s: %s is safe %t, but can be removed %t", tc.name, l.What, l.Safe, l.remove != nil)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tc.name, got, tc.want)
		}
	}
}

// Only what a move that went out made or emptied is labctl's to remove, and only
// until a cleanup has removed it.
func TestOwnSwitches(t *testing.T) {
	there := NewPlan(nuc().snapshot(t), toStandard())
	back := NewPlan(standard().snapshot(t), toDistributed())
	joined := NewPlan(standard().snapshot(t), toDistributed())
	joined.Prepare = &Prepare{DVS: "DVS0", Join: true}
	mine := nuc()
	mine.addSwitch("vSwitch0")
	onMine := NewPlan(mine.snapshot(t), toStandard())
	act, end := Record{Kind: "act", Act: "change"}, Record{Kind: "end", Outcome: Applied}
	plan := func(p *Plan) Record { return Record{Kind: "plan", Plan: p} }
	cleaned := func(what ...string) Record { return Record{Kind: "cleanup", Objects: what} }
	dvs, sw := SwitchName{Distributed, "DVS0"}, SwitchName{Standard, "vSwitch0"}
	for _, tc := range []struct {
		name     string
		journals [][]Record
		want     []SwitchName
	}{
		{"no journal", nil, nil},
		{"there", [][]Record{{plan(there), act, end}}, []SwitchName{dvs, sw}},
		{"onto a switch that was there", [][]Record{{plan(onMine), act, end}}, []SwitchName{dvs}},
		{"back", [][]Record{{plan(back), act, end}}, []SwitchName{sw}},
		{"made a member", [][]Record{{plan(joined), act, end}}, []SwitchName{sw, dvs}},
		{"nothing was sent", [][]Record{{plan(there)}}, nil},
		{"cleaned up", [][]Record{{plan(there), act, end, cleaned("membership of DVS0")}}, []SwitchName{sw}},
		{"all cleaned up", [][]Record{{plan(there), act, end, cleaned("membership of DVS0", "standard switch vSwitch0")}}, nil},
		{"cleaned up and moved again", [][]Record{{plan(there), act, end, cleaned("membership of DVS0", "standard switch vSwitch0")}, {plan(back), act, end}}, []SwitchName{sw}},
	} {
		dir := t.TempDir()
		for i, records := range tc.journals {
			for _, host := range []string{"nuc01", "nuc01-2"} { // another host's journals are another's
				j, err := CreateJournal(dir, host, time.Unix(int64(i), 0))
				if err != nil {
					t.Fatal(err)
				}
				if err := j.Begin(host, nil); err != nil {
					t.Fatal(err)
				}
				for _, r := range records {
					if err := j.Append(r); err != nil {
						t.Fatal(err)
					}
				}
				j.Close()
			}
		}
		got, err := OwnSwitches(dir, "nuc01")
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, %v; want %v", tc.name, got, err, tc.want)
		}
		if got, _ := OwnSwitches(dir, "nuc02"); len(got) > 0 {
			t.Errorf("%s: %v belong to a host that never moved", tc.name, got)
		}
	}
}

// Undoing removes what the plan made, and nothing that somebody has plugged
// into since.
func TestMadeAndInUse(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(*world)
		want []string
	}{
		{"nothing there", func(*world) {}, nil},
		{"all unused", func(w *world) { w.addSwitch("vSwitch0"); w.addPortGroup("vSwitch0", "Lab", 30) }, []string{"port group Lab of vSwitch0: []", "standard switch vSwitch0: []"}},
		{"a machine on it", func(w *world) {
			w.addSwitch("vSwitch0")
			w.addPortGroup("vSwitch0", "Lab", 30)
			w.addVM("late", "Lab", "").off = true
		},
			[]string{"port group Lab of vSwitch0: [late]", "standard switch vSwitch0: [late]"}},
		{"a port group that is not ours", func(w *world) { w.addSwitch("vSwitch0"); w.addPortGroup("vSwitch0", "mine", 0) }, []string{"standard switch vSwitch0: [port group mine]"}},
		{"a NIC that came later", func(w *world) { w.pnic("vmnic1", 1000); w.addSwitch("vSwitch0", "vmnic1") }, []string{"standard switch vSwitch0: [vmnic1]"}},
		{"a namesake on another switch", func(w *world) { w.addSwitch("vSwitch7"); w.addPortGroup("vSwitch7", "Lab", 30) }, nil},
	} {
		w := nuc()
		p := NewPlan(w.snapshot(t), toStandard())
		tc.make(w)
		var got []string
		for _, r := range p.leftovers(w.snapshot(t)) {
			got = append(got, r.what+": ["+strings.Join(r.users, " ")+"]")
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tc.name, got, tc.want)
		}
	}
}

// A property that a host hides is a hole in what is known, not a failed read;
// of the host itself and its machines everything must be there.
func TestHiddenProperties(t *testing.T) {
	hide := func(w *world, kind, property string) error {
		objects := w.objects()
		for i, o := range objects {
			if o.Obj.Type != kind {
				continue
			}
			objects[i].PropSet = slices.DeleteFunc(o.PropSet, func(p types.DynamicProperty) bool { return p.Name == property })
			objects[i].MissingSet = []types.MissingProperty{{Path: property, Fault: types.LocalizedMethodFault{Fault: &types.NotSupported{}}}}
		}
		s, err := newSnapshot(objects, ref("HostSystem", "host-1"), !w.direct)
		if err != nil {
			return err
		}
		if p := NewPlan(s, toStandard()); !p.Refused() || !slices.ContainsFunc(p.Refusals, func(r Refusal) bool {
			return r.Code == "vlan-unknown" || r.Code == "dvs-hidden"
		}) {
			t.Errorf("%s of %s hidden: refusals %v", property, kind, p.Refusals)
		}
		return nil
	}
	for _, tc := range [][2]string{
		{"DistributedVirtualPortgroup", "config.defaultPortConfig"}, {"DistributedVirtualPortgroup", "key"},
	} {
		w := nuc()
		direct(w)
		if err := hide(w, tc[0], tc[1]); err != nil {
			t.Errorf("%v: %v", tc, err)
		}
	}
	if err := hide(nuc(), "VmwareDistributedVirtualSwitch", "uuid"); err != nil {
		t.Error(err)
	}
	for _, tc := range [][2]string{{"HostSystem", "config.network"}, {"VirtualMachine", "config.hardware.device"}} {
		if hide(nuc(), tc[0], tc[1]) == nil {
			t.Errorf("%v is hidden, and nobody objects", tc)
		}
	}
}
