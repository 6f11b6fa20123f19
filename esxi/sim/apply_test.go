package sim

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

// worldOf furnishes a scene without any inventory.
func worldOf(t *testing.T, scene string) *world {
	t.Helper()
	s, err := furnish(scene, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s.w
}

// with changes a configuration.
func with(c types.HostNetworkConfig, edits ...func(*types.HostNetworkConfig)) types.HostNetworkConfig {
	for _, e := range edits {
		e(&c)
	}
	return c
}

func vmkSpec(label string, port *types.DistributedVirtualSwitchPortConnection) []types.HostVirtualNicConfig {
	return []types.HostVirtualNicConfig{{ChangeOperation: "edit", Device: "vmk0", Portgroup: label, Spec: &types.HostVirtualNicSpec{DistributedVirtualPort: port}}}
}

func dvPortIn(group string) *types.DistributedVirtualSwitchPortConnection {
	return &types.DistributedVirtualSwitchPortConnection{SwitchUuid: dvsUUID, PortgroupKey: group}
}

func proxyEdit(specs ...types.DistributedVirtualSwitchHostMemberPnicSpec) []types.HostProxySwitchConfig {
	return []types.HostProxySwitchConfig{{ChangeOperation: "edit", Uuid: dvsUUID, Spec: &types.HostProxySwitchSpec{
		Backing: &types.DistributedVirtualSwitchHostMemberPnicBacking{PnicSpec: specs},
	}}}
}

func groupAdd(name string, vlan int32, vswitch string) []types.HostPortGroupConfig {
	return []types.HostPortGroupConfig{{ChangeOperation: "add", Spec: &types.HostPortGroupSpec{Name: name, VlanId: vlan, VswitchName: vswitch}}}
}

func switchOp(op, name string, spec *types.HostVirtualSwitchSpec) []types.HostVirtualSwitchConfig {
	return []types.HostVirtualSwitchConfig{{ChangeOperation: op, Name: name, Spec: spec}}
}

// Each case is one call, judged on its end state. The numbers are those of the invariants in the package's plan:
// what real hosts enforce.
func TestApplyJudgesTheEndState(t *testing.T) {
	t.Parallel()
	type config = types.HostNetworkConfig
	standardPolicy := func(active ...string) *types.HostNetworkPolicy {
		return &types.HostNetworkPolicy{NicTeaming: &types.HostNicTeamingPolicy{NicOrder: &types.HostNicOrderPolicy{ActiveNic: active}}}
	}
	for _, tc := range []struct {
		name   string
		scene  string
		config config
		mode   string
		direct bool
		fault  types.BaseMethodFault // nil: accepted
		dark   string                // part of the reason why vmk0 is cut off afterwards; "" if it is reachable
	}{
		{name: "1 one call moves the adapter between switches", scene: "nuc", config: toStandard(20)},
		{name: "1 and back", scene: "standard", config: toDistributed()},
		{name: "1 an adapter on two switches", scene: "nuc", config: with(toStandard(20), func(c *config) { c.ProxySwitch = nil }), fault: &types.ResourceInUse{}},
		{name: "1 an adapter on two standard switches", scene: "standard", config: config{
			Vswitch: switchOp("add", "vSwitch1", &types.HostVirtualSwitchSpec{Bridge: bond("vmnic0")}),
		}, fault: &types.ResourceInUse{}},
		{name: "2 an adapter that does not exist", scene: "nuc", config: config{
			Vswitch: switchOp("add", "vSwitch0", &types.HostVirtualSwitchSpec{Bridge: bond("vmnic7")}),
		}, fault: &types.NotFound{}},
		{name: "2 a proxy switch with an adapter that does not exist", scene: "nuc", config: config{
			ProxySwitch: proxyEdit(types.DistributedVirtualSwitchHostMemberPnicSpec{PnicDevice: "vmnic7"}),
		}, fault: &types.NotFound{}},
		{name: "3 a port group on a switch of the same call", scene: "nuc", config: config{
			Vswitch: switchOp("add", "vSwitch1", nil), Portgroup: groupAdd("Test", 7, "vSwitch1"),
		}},
		{name: "3 a port group without a switch", scene: "nuc", config: config{Portgroup: groupAdd("Test", 7, "vSwitch1")}, fault: &types.NotFound{}},
		{name: "3 vmk0 to a port group that does not exist", scene: "standard", config: config{Vnic: vmkSpec("Nowhere", nil)}, fault: &types.NotFound{}},
		{name: "4 removing the port group under vmk0", scene: "standard", config: config{
			Portgroup: []types.HostPortGroupConfig{{ChangeOperation: "remove", Spec: &types.HostPortGroupSpec{Name: "Management Network"}}},
		}, fault: &types.ResourceInUse{}},
		{name: "4 removing the port group under a running VM", scene: "standard", config: config{
			Portgroup: []types.HostPortGroupConfig{{ChangeOperation: "remove", Spec: &types.HostPortGroupSpec{Name: "Lab"}}},
		}, fault: &types.ResourceInUse{}},
		{name: "4 removing the switch under vmk0", scene: "standard", config: config{Vswitch: switchOp("remove", "vSwitch0", nil)}, fault: &types.ResourceInUse{}},
		{name: "4 removing a port group that the same call empties", scene: "standard", config: with(toDistributed(), func(c *config) {
			c.Portgroup = []types.HostPortGroupConfig{{ChangeOperation: "remove", Spec: &types.HostPortGroupSpec{Name: "Management Network", VlanId: -1}}}
		})},
		{name: "5 adding a switch that exists", scene: "standard", config: config{Vswitch: switchOp("add", "vSwitch0", nil)}, fault: &types.AlreadyExists{}},
		{name: "5 editing a switch that does not exist", scene: "nuc", config: config{Vswitch: switchOp("edit", "vSwitch0", &types.HostVirtualSwitchSpec{})}, fault: &types.NotFound{}},
		{name: "5 removing a switch that does not exist", scene: "nuc", config: config{Vswitch: switchOp("remove", "vSwitch0", nil)}, fault: &types.NotFound{}},
		{name: "5 adding a port group that exists", scene: "standard", config: config{Portgroup: groupAdd("Lab", 30, "vSwitch0")}, fault: &types.AlreadyExists{}},
		{name: "5 editing a VMkernel adapter that does not exist", scene: "nuc", config: config{
			Vnic: []types.HostVirtualNicConfig{{ChangeOperation: "edit", Device: "vmk9", Spec: &types.HostVirtualNicSpec{}}},
		}, fault: &types.NotFound{}},
		{name: "5 an operation that is none", scene: "nuc", config: config{Vswitch: switchOp("replace", "vSwitch0", nil)}, fault: &types.InvalidArgument{}},
		{name: "6 a distributed port and a port group", scene: "standard", config: config{Vnic: vmkSpec("Lab", dvPortIn("dvportgroup-21"))}, fault: &types.InvalidArgument{}},
		{name: "6 a distributed port on a switch without this host", scene: "fresh", config: config{Vnic: vmkSpec("", dvPortIn("dvportgroup-21"))}, fault: &types.InvalidArgument{}},
		{name: "6 a distributed port group that does not exist", scene: "standard", config: config{Vnic: vmkSpec("", dvPortIn("dvportgroup-99"))}, fault: &types.NotFound{}},
		{name: "6 the uplink port group", scene: "standard", config: config{Vnic: vmkSpec("", dvPortIn("dvportgroup-20"))}, fault: &types.InvalidArgument{}},
		{name: "7 a port that is taken", scene: "nuc", config: config{Vnic: vmkSpec("", &types.DistributedVirtualSwitchPortConnection{
			SwitchUuid: dvsUUID, PortgroupKey: "dvportgroup-22", PortKey: "8",
		})}, fault: &types.ResourceInUse{}},
		{name: "7 a port key on an ephemeral port group", scene: "ephemeral", config: config{Vnic: vmkSpec("", &types.DistributedVirtualSwitchPortConnection{
			SwitchUuid: dvsUUID, PortgroupKey: "dvportgroup-22", PortKey: "77",
		})}, fault: &types.InvalidArgument{}},
		{name: "8 static binding in a direct session", scene: "standard", config: toDistributed(), direct: true, fault: &types.NotSupported{}},
		{name: "8 leaving a static port in a direct session", scene: "nuc", config: toStandard(20), direct: true},
		{name: "9 an uplink port that is taken", scene: "two-uplinks", config: config{ProxySwitch: proxyEdit(
			types.DistributedVirtualSwitchHostMemberPnicSpec{PnicDevice: "vmnic0", UplinkPortKey: "32"},
			types.DistributedVirtualSwitchHostMemberPnicSpec{PnicDevice: "vmnic1", UplinkPortKey: "32"},
		)}, fault: &types.ResourceInUse{}},
		{name: "9 a port that is no uplink port", scene: "nuc", config: config{
			ProxySwitch: proxyEdit(types.DistributedVirtualSwitchHostMemberPnicSpec{PnicDevice: "vmnic0", UplinkPortKey: "1"}),
		}, fault: &types.InvalidArgument{}},
		{name: "9 an adapter listed twice", scene: "nuc", config: config{ProxySwitch: proxyEdit(
			types.DistributedVirtualSwitchHostMemberPnicSpec{PnicDevice: "vmnic0"}, types.DistributedVirtualSwitchHostMemberPnicSpec{PnicDevice: "vmnic0"},
		)}, fault: &types.InvalidArgument{}},
		{name: "9 the list is the whole list: an empty one unplugs", scene: "nuc", config: config{ProxySwitch: proxyEdit()}, dark: "no uplink"},
		{name: "9 no backing at all", scene: "nuc", config: config{
			ProxySwitch: []types.HostProxySwitchConfig{{ChangeOperation: "edit", Uuid: dvsUUID, Spec: &types.HostProxySwitchSpec{}}},
		}, fault: &types.InvalidArgument{}},
		{name: "10 an edit without a bridge unplugs", scene: "standard", config: config{
			Vswitch: switchOp("edit", "vSwitch0", &types.HostVirtualSwitchSpec{NumPorts: 256}),
		}, dark: "no uplink"},
		{name: "10 an edit without a policy keeps it", scene: "standard", config: config{
			Vswitch: switchOp("edit", "vSwitch0", &types.HostVirtualSwitchSpec{Bridge: bond("vmnic0"), Mtu: 9000}),
		}},
		{name: "10 an order that names an adapter the switch does not have", scene: "standard", config: config{
			Vswitch: switchOp("edit", "vSwitch0", &types.HostVirtualSwitchSpec{Policy: standardPolicy("vmnic0")}),
		}, fault: &types.InvalidArgument{}},
		{name: "11 VLAN 4096", scene: "standard", config: config{Portgroup: groupAdd("Test", 4096, "vSwitch0")}, fault: &types.InvalidArgument{}},
		{name: "11 VLAN 4095", scene: "standard", config: config{Portgroup: groupAdd("Test", 4095, "vSwitch0")}},
		{name: "11 a switch name of 33 characters", scene: "nuc", config: config{Vswitch: switchOp("add", strings.Repeat("v", 33), nil)}, fault: &types.InvalidArgument{}},
		{name: "11 an MTU of 9001", scene: "nuc", config: config{Vswitch: switchOp("add", "v", &types.HostVirtualSwitchSpec{Mtu: 9001})}, fault: &types.InvalidArgument{}},
		{name: "12 the wrong VLAN", scene: "nuc", config: toStandard(99), dark: "tag 99"},
		{name: "12 no VLAN", scene: "nuc", config: toStandard(0), dark: "untagged"},
		{name: "12 a port group whose own order uses no adapter", scene: "nuc", config: with(toStandard(20), func(c *config) {
			c.Portgroup[0].Spec = &types.HostPortGroupSpec{Name: "Management Network", VlanId: 20, VswitchName: "vSwitch0", Policy: *standardPolicy()}
		}), dark: "no uplink"},
		{name: "12 vmk0 alone", scene: "nuc", config: with(toStandard(20), func(c *config) {
			c.Vswitch[0].Spec, c.ProxySwitch = nil, nil
		}), dark: "no uplink"},
		{name: "12 a distributed port group that uses another uplink", scene: "standard", config: with(toDistributed(), func(c *config) {
			c.ProxySwitch = proxyEdit(types.DistributedVirtualSwitchHostMemberPnicSpec{PnicDevice: "vmnic0"})
			c.Vnic = vmkSpec("", dvPortIn("dvportgroup-22"))
		}), dark: "tag 30"},
		{name: "12 another address", scene: "nuc", config: config{Vnic: []types.HostVirtualNicConfig{{ChangeOperation: "edit", Device: "vmk0", Spec: &types.HostVirtualNicSpec{
			Ip: &types.HostIpConfig{IpAddress: "192.168.20.99", SubnetMask: "255.255.255.0"},
		}}}}, dark: "address"},
		{name: "replace is not implemented", scene: "nuc", config: toStandard(20), mode: "replace", fault: &types.NotSupported{}},
		{name: "a mode that is none", scene: "nuc", config: toStandard(20), mode: "bogus-mode", fault: &types.InvalidArgument{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := worldOf(t, tc.scene)
			host := *w.hosts[0]
			if tc.mode == "" {
				tc.mode = "modify"
			}
			after, _, err := w.apply(networkChange{host: "nuc01", config: tc.config, mode: tc.mode, direct: tc.direct})
			if !reflect.DeepEqual(host, *w.hosts[0]) {
				t.Error("the world it started from has changed")
			}
			if tc.fault != nil {
				var r *refusal
				if !errors.As(err, &r) {
					t.Fatalf("accepted (%v), want %T", err, tc.fault)
				}
				if reflect.TypeOf(r.fault) != reflect.TypeOf(tc.fault) {
					t.Fatalf("refused with %T (%s), want %T", r.fault, r.why, tc.fault)
				}
				return
			}
			if err != nil {
				t.Fatalf("refused: %T %v", faultOf(err), err)
			}
			ok, reason := after.management("nuc01")
			if ok != (tc.dark == "") || !strings.Contains(reason, tc.dark) {
				t.Errorf("vmk0 reachable: %v (%s), want dark %q", ok, reason, tc.dark)
			}
		})
	}
}

func TestApplyKeepsWhatIsNotMentioned(t *testing.T) {
	t.Parallel()
	w := worldOf(t, "nuc")
	was := w.hosts[0].vmks[0]
	after, _, err := w.apply(networkChange{host: "nuc01", config: toStandard(20), mode: "modify"})
	if err != nil {
		t.Fatal(err)
	}
	k := after.hosts[0].vmks[0]
	if k.spec.Mac != was.spec.Mac || k.spec.Mtu != was.spec.Mtu || k.spec.Ip != was.spec.Ip || !slices.Equal(k.services, was.services) {
		t.Errorf("vmk0 lost something on its way: %+v, was %+v", k, was)
	}
	if k.spec.DistributedVirtualPort != nil || k.spec.Portgroup != "Management Network" {
		t.Errorf("vmk0 is attached to %+v", k.attachment())
	}
	if order := nicOrder(after.hosts[0].switches[0].spec.Policy); !slices.Equal(order.ActiveNic, []string{"vmnic0"}) {
		t.Errorf("a new adapter is to be active, the order is %+v", order)
	}

	spec := &types.HostVirtualSwitchSpec{Bridge: bond("vmnic0"), Policy: &types.HostNetworkPolicy{
		Security: &types.HostNetworkSecurityPolicy{AllowPromiscuous: types.NewBool(true)},
	}}
	after, _, err = after.apply(networkChange{host: "nuc01", config: types.HostNetworkConfig{Vswitch: switchOp("edit", "vSwitch0", spec)}, mode: "modify"})
	if err != nil {
		t.Fatal(err)
	}
	p := after.hosts[0].switches[0].spec.Policy
	if !*p.Security.AllowPromiscuous || !*p.Security.ForgedTransmits || p.NicTeaming.Policy != "loadbalance_srcid" || p.ShapingPolicy == nil {
		t.Errorf("an edit of one field changed others: %+v", p)
	}
}

func TestAnUplinkKeepsItsPortUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	w := worldOf(t, "two-uplinks")
	ports := func(w *world) (list []string) {
		for _, u := range w.hosts[0].proxies[0].uplinks {
			list = append(list, u.pnic+"="+w.switches[0].port(u.port).name)
		}
		return list
	}
	for _, tc := range []struct {
		specs []types.DistributedVirtualSwitchHostMemberPnicSpec
		want  []string
	}{
		{[]types.DistributedVirtualSwitchHostMemberPnicSpec{{PnicDevice: "vmnic1"}, {PnicDevice: "vmnic0"}}, []string{"vmnic1=Uplink 2", "vmnic0=Uplink 1"}},
		{[]types.DistributedVirtualSwitchHostMemberPnicSpec{{PnicDevice: "vmnic1"}}, []string{"vmnic1=Uplink 2"}},
		{[]types.DistributedVirtualSwitchHostMemberPnicSpec{{PnicDevice: "vmnic0", UplinkPortKey: w.switches[0].uplinkPorts("nuc01")[3].key}}, []string{"vmnic0=Uplink 4"}},
	} {
		after, _, err := w.apply(networkChange{host: "nuc01", config: types.HostNetworkConfig{ProxySwitch: proxyEdit(tc.specs...)}, mode: "modify"})
		if err != nil {
			t.Fatal(err)
		}
		if got := ports(after); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: %v, want %v", tc.specs, got, tc.want)
		}
	}
}

func TestStaticPortsAreFinite(t *testing.T) {
	t.Parallel()
	w := worldOf(t, "standard")
	d := w.editDVS(dvsUUID)
	g := d.group("dvportgroup-21")
	g.autoExpand = false
	d.ports = slices.DeleteFunc(d.ports, func(p dvPort) bool { return p.group == g.key && p.key != "0" })
	attach := func(w *world) (*world, error) {
		after, _, err := w.apply(networkChange{host: "nuc01", mode: "modify", config: types.HostNetworkConfig{
			Vnic: []types.HostVirtualNicConfig{{ChangeOperation: "add", Spec: &types.HostVirtualNicSpec{
				Ip: &types.HostIpConfig{Dhcp: true}, DistributedVirtualPort: dvPortIn("dvportgroup-21"),
			}}},
		}})
		return after, err
	}
	w, err := attach(w)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attach(w); !isFault[*types.ResourceNotAvailable](err) {
		t.Errorf("the second of one port: %v", err)
	}
	w.editDVS(dvsUUID).group("dvportgroup-21").autoExpand = true
	if _, err := attach(w); err != nil {
		t.Errorf("an expanding pool is exhausted: %v", err)
	}
}

// isFault says whether an error is a refusal with that fault.
func isFault[F types.BaseMethodFault](err error) bool {
	var r *refusal
	if !errors.As(err, &r) {
		return false
	}
	_, ok := r.fault.(F)
	return ok
}

func TestEphemeralPortsComeAndGo(t *testing.T) {
	t.Parallel()
	w := worldOf(t, "ephemeral")
	count := func(w *world) (n int) {
		for _, p := range w.switches[0].ports {
			if p.group == "dvportgroup-21" {
				n++
			}
		}
		return n
	}
	if n := count(w); n != 1 {
		t.Fatalf("%d ports with vmk0 attached", n)
	}
	away, _, err := w.apply(networkChange{host: "nuc01", config: toStandard(20), mode: "modify", direct: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := count(away); n != 0 {
		t.Errorf("%d ports after vmk0 left", n)
	}
	back, _, err := away.apply(networkChange{host: "nuc01", config: toDistributed(), mode: "modify", direct: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := count(back); n != 1 {
		t.Errorf("%d ports after vmk0 came back", n)
	}
}

func TestAPortForgetsWhatItOverrodeWhenItsCardLeaves(t *testing.T) {
	t.Parallel()
	w := worldOf(t, "awkward")
	port := w.vm("nuc01/before-upgrade").nics[0].attach.port
	if w.switches[0].port(port).override == nil {
		t.Fatal("the scene's port overrides nothing")
	}
	card := &types.VirtualVmxnet3{}
	card.Key = firstNIC
	card.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: *dvPortIn("dvportgroup-23")}
	after, err := w.rewire("nuc01/before-upgrade", []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: card},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	if after.switches[0].port(port).override != nil || w.switches[0].port(port).override == nil {
		t.Error("the port left behind keeps its settings, or the world before has lost them")
	}
}

func TestRewireJudgesCards(t *testing.T) {
	t.Parallel()
	standard := func(label string) types.BaseVirtualDeviceBackingInfo {
		return &types.VirtualEthernetCardNetworkBackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: label}}
	}
	distributed := func(group string) types.BaseVirtualDeviceBackingInfo {
		return &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: *dvPortIn(group)}
	}
	card := func(key int32, b types.BaseVirtualDeviceBackingInfo) types.BaseVirtualDevice {
		return &types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{VirtualDevice: types.VirtualDevice{Key: key, Backing: b}}}}
	}
	for _, tc := range []struct {
		name   string
		scene  string
		vm     string
		op     types.VirtualDeviceConfigSpecOperation
		key    int32
		to     types.BaseVirtualDeviceBackingInfo
		direct bool
		fault  types.BaseMethodFault
	}{
		{name: "to a distributed port group", scene: "standard", vm: "photonbox", op: "edit", key: 4000, to: distributed("dvportgroup-22")},
		{name: "to a label that the host lacks", scene: "nuc", vm: "photonbox", op: "edit", key: 4000, to: standard("Lab"), fault: &types.InvalidDeviceBacking{}},
		{name: "to a switch without this host", scene: "fresh", vm: "photonbox", op: "edit", key: 4000, to: distributed("dvportgroup-23"), fault: &types.InvalidArgument{}},
		{name: "static binding in a direct session", scene: "standard", vm: "photonbox", op: "edit", key: 4000, to: distributed("dvportgroup-22"), direct: true, fault: &types.NotSupported{}},
		{name: "away from a static port in a direct session", scene: "standard", vm: "photonbox", op: "edit", key: 4000, to: standard("VM Network"), direct: true},
		{name: "ephemeral binding in a direct session", scene: "ephemeral", vm: "photonbox", op: "edit", key: 4000, to: distributed("dvportgroup-23"), direct: true},
		{name: "a card that is not there", scene: "standard", vm: "photonbox", op: "edit", key: 4007, to: standard("Lab"), fault: &types.InvalidDeviceSpec{}},
		{name: "another card", scene: "standard", vm: "photonbox", op: "add", key: -1, to: standard("Lab")},
		{name: "a new card without a network", scene: "standard", vm: "photonbox", op: "add", key: -1, fault: &types.InvalidDeviceSpec{}},
		{name: "no card", scene: "standard", vm: "photonbox", op: "remove", key: 4000},
		{name: "a template", scene: "awkward", vm: "golden", op: "edit", key: 4000, to: distributed("dvportgroup-23"), fault: &types.NotSupported{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := worldOf(t, tc.scene)
			id := "nuc01/" + tc.vm
			before := w.vm(id).nics[0]
			after, err := w.rewire(id, []types.BaseVirtualDeviceConfigSpec{
				&types.VirtualDeviceConfigSpec{Operation: tc.op, Device: card(tc.key, tc.to)},
			}, tc.direct)
			if tc.fault != nil {
				if err == nil || reflect.TypeOf(faultOf(err)) != reflect.TypeOf(tc.fault) {
					t.Fatalf("%T %v, want %T", faultOf(err), err, tc.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(before, w.vm(id).nics[0]) {
				t.Error("the world it started from has changed")
			}
			if tc.op == "edit" {
				n := after.vm(id).nics[0]
				if n.mac != before.mac || n.connect != before.connect || n.label != before.label {
					t.Errorf("the card lost something: %+v, was %+v", n, before)
				}
				if n.attach == before.attach {
					t.Error("the card has not moved")
				}
			}
		})
	}
}

func TestReconfigureJudgesMembers(t *testing.T) {
	t.Parallel()
	backing := func(pnics ...string) types.BaseDistributedVirtualSwitchHostMemberBacking {
		b := &types.DistributedVirtualSwitchHostMemberPnicBacking{}
		for _, p := range pnics {
			b.PnicSpec = append(b.PnicSpec, types.DistributedVirtualSwitchHostMemberPnicSpec{PnicDevice: p})
		}
		return b
	}
	for _, tc := range []struct {
		name    string
		scene   string
		version string
		member  memberChange
		fault   types.BaseMethodFault
	}{
		{"a host joins without uplinks", "fresh", "", memberChange{"add", "nuc01", nil}, nil},
		{"a host joins twice", "standard", "", memberChange{"add", "nuc01", nil}, &types.AlreadyExists{}},
		{"a host joins with the adapter its management uses", "fresh", "", memberChange{"add", "nuc01", backing("vmnic0")}, &types.DvsOperationBulkFault{}},
		{"a member without connections leaves", "standard", "", memberChange{"remove", "nuc01", nil}, nil},
		{"a member with connections leaves", "nuc", "", memberChange{"remove", "nuc01", nil}, &types.ResourceInUse{}},
		{"a stranger leaves", "fresh", "", memberChange{"remove", "nuc01", nil}, &types.NotFound{}},
		{"a member gives up its uplink", "nuc", "1", memberChange{"edit", "nuc01", backing()}, nil},
		{"an edit of an older version", "nuc", "0", memberChange{"edit", "nuc01", backing()}, &types.ConcurrentAccess{}},
		{"a host that does not exist", "nuc", "", memberChange{"add", "", nil}, &types.InvalidArgument{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := worldOf(t, tc.scene)
			after, err := w.reconfigure(dvsUUID, tc.version, 0, []memberChange{tc.member})
			if tc.fault == nil {
				if err != nil {
					t.Fatal(err)
				}
				if after.switches[0].version != w.switches[0].version+1 {
					t.Error("configVersion has not moved on")
				}
				return
			}
			if err == nil || reflect.TypeOf(faultOf(err)) != reflect.TypeOf(tc.fault) {
				t.Fatalf("%T %v, want %T", faultOf(err), err, tc.fault)
			}
		})
	}
}

// A cable that ends in an access port carries untagged frames only: the reason why a restored standard switch answers
// where the tagged port groups did not.
func TestAnAccessPortCarriesUntaggedFramesOnly(t *testing.T) {
	t.Parallel()
	w := worldOf(t, "nuc")
	w.editHost("nuc01").wire.access = 999
	if ok, reason := w.management("nuc01"); ok || !strings.Contains(reason, "drops tag 20") {
		t.Errorf("tagged management on an access port: %v (%s)", ok, reason)
	}
	after, _, err := w.apply(networkChange{host: "nuc01", config: toStandard(0), mode: "modify"})
	if err != nil {
		t.Fatal(err)
	}
	if ok, reason := after.management("nuc01"); !ok {
		t.Errorf("untagged management on an access port: %s", reason)
	}
}
