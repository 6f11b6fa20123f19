package sim

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// The ways people try first, each on both paths: through the vCenter the host comes back but the job is not done, in a
// direct session the host is stranded.
func TestNaiveWaysStrandOrRollBack(t *testing.T) {
	t.Parallel()
	prepare := func(c *client) error { // a switch and a port group beside the distributed one: harmless, left behind
		ctx := c.t.Context()
		if err := c.network().AddVirtualSwitch(ctx, "vSwitch0", &types.HostVirtualSwitchSpec{NumPorts: 128}); err != nil {
			return err
		}
		return c.network().AddPortGroup(ctx, types.HostPortGroupSpec{Name: "Management Network", VlanId: 20, VswitchName: "vSwitch0"})
	}
	for _, tc := range []struct {
		name     string
		scene    string
		do       func(*client) error
		rolled   string // the picture after it, through the vCenter
		stranded string // and in a direct session
	}{
		{
			name: "vmk0 first", scene: "nuc",
			do: func(c *client) error {
				if err := prepare(c); err != nil {
					return err
				}
				_, err := methods.UpdateVirtualNic(c.t.Context(), c.Client, &types.UpdateVirtualNic{
					This: c.network().Reference(), Device: "vmk0", Nic: types.HostVirtualNicSpec{Portgroup: "Management Network"},
				})
				return err
			},
			rolled:   "vSwitch0[] DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected", // the orphans stay
			stranded: "vSwitch0[] DVS0[vmnic0=Uplink 1] vmk0→Management Network unreachable notResponding",
		},
		{
			name: "the uplink first", scene: "nuc",
			do: func(c *client) error {
				if err := prepare(c); err != nil {
					return err
				}
				config := toStandard(20)
				config.Vswitch[0].ChangeOperation = "edit"
				config.Portgroup, config.Vnic = nil, nil
				return c.update(config)
			},
			rolled:   "vSwitch0[] DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected",
			stranded: "vSwitch0[vmnic0] DVS0[] vmk0→DVS-Mgmt unreachable notResponding",
		},
		{
			name: "the wrong VLAN", scene: "nuc",
			do:       func(c *client) error { return c.update(toStandard(99)) },
			rolled:   "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected",
			stranded: "vSwitch0[vmnic0] DVS0[] vmk0→Management Network unreachable notResponding",
		},
		{
			name: "a minimal specification", scene: "standard",
			do: func(c *client) error {
				_, err := methods.UpdateVirtualSwitch(c.t.Context(), c.Client, &types.UpdateVirtualSwitch{
					This: c.network().Reference(), VswitchName: "vSwitch0", Spec: types.HostVirtualSwitchSpec{
						NumPorts: 128,
						Policy:   &types.HostNetworkPolicy{NicTeaming: &types.HostNicTeamingPolicy{Policy: "failover_explicit"}},
					},
				})
				return err
			},
			rolled:   "vSwitch0[vmnic0] DVS0[] vmk0→Management Network connected",
			stranded: "vSwitch0[] DVS0[] vmk0→Management Network unreachable notResponding",
		},
	} {
		for _, path := range []string{"vcenter", "esxi"} {
			t.Run(tc.name+" "+path, func(t *testing.T) {
				t.Parallel()
				l := start(t, Options{Scene: tc.scene})
				c := connect(t, l, path)
				err := tc.do(c)
				if path == "vcenter" {
					if !fault.Is(err, &types.NetworkDisruptedAndConfigRolledBack{}) {
						t.Errorf("the answer is %v, want a rollback", err)
					}
					if got := picture(l); got != tc.rolled {
						t.Errorf("left behind: %s\nwant:        %s", got, tc.rolled)
					}
					if n := l.State().RollbackEvents; n != 1 {
						t.Errorf("%d rollback events", n)
					}
					return
				}
				if err == nil || fault.Is(err, &types.NetworkDisruptedAndConfigRolledBack{}) {
					t.Errorf("the answer is %v, want a lost connection", err)
				}
				eventually(t, func() string { return picture(l) }, tc.stranded)
				if _, err := dial(t, l.Hosts()[0]); err == nil {
					t.Error("a stranded host answers")
				}
			})
		}
	}
}

// eventually waits for a value that a timer brings about.
func eventually[T comparable](t *testing.T, get func() T, want T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got := get()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %v, want %v", got, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestARolledBackHostIsAsItWas(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	before := l.State().Hosts[0]
	network := *c.host.Config.Network
	if err := c.update(toStandard(99)); !fault.Is(err, &types.NetworkDisruptedAndConfigRolledBack{}) {
		t.Fatal(err)
	}
	after := l.State().Hosts[0]
	before.DarkMs, after.DarkMs = 0, 0
	for i := range after.VMs {
		for j := range after.VMs[i].NICs {
			after.VMs[i].NICs[j].DarkMs = 0
		}
	}
	same(t, "the state", after, before)
	c.read()
	same(t, "config.network", *c.host.Config.Network, network)

	events, err := methods.QueryEvents(t.Context(), c.Client, &types.QueryEvents{
		This: *c.ServiceContent.EventManager, Filter: types.EventFilterSpec{EventTypeId: []string{"NetworkRollbackEvent"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(events.Returnval) != 1 || events.Returnval[0].(*types.NetworkRollbackEvent).MethodName != "UpdateNetworkConfig" {
		t.Errorf("events: %+v", events.Returnval)
	}
}

func TestWithoutRollbackTheHostStaysLost(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	if err := l.Arm(Fault{Fault: "rollback-off"}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, l, "vcenter")
	was := *c.host.Config.Network
	if err := c.update(toStandard(99)); err == nil || fault.Is(err, &types.NetworkDisruptedAndConfigRolledBack{}) {
		t.Fatalf("the answer is %v", err)
	}
	if got, want := picture(l), "vSwitch0[vmnic0] DVS0[] vmk0→Management Network unreachable notResponding"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	c.read()
	same(t, "what the vCenter shows of a host that it lost", *c.host.Config.Network, was)
	if err := c.update(toStandard(20)); !fault.Is(err, &types.HostNotConnected{}) {
		t.Errorf("a change on a lost host: %v", err)
	}
}

// The vCenter's VM sits on the host. Moving the host is right and still cuts the vCenter off, unless someone moves the
// VM's card in the meantime.
func TestAVCenterOnTheHostCutsItselfOff(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "vcsa"})
	c := connect(t, l, "vcenter")
	err := c.update(toStandard(20))
	if err == nil {
		t.Fatal("the vCenter answers from a switch without an uplink")
	}
	eventually(t, func() string { return picture(l) }, "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected")
	if _, err := dial(t, l.VCenter()); err != nil {
		t.Errorf("after the rollback: %v", err)
	}

	l = start(t, Options{Scene: "vcsa", RollbackAfter: 5 * time.Second})
	c = connect(t, l, "vcenter")
	go func() { _ = c.update(toStandard(20)) }()
	eventually(t, func() string { return l.State().Hosts[0].Management.Portgroup }, "Management Network")
	if _, err := dial(t, l.VCenter()); err == nil {
		t.Error("the vCenter answers while its VM is dark")
	}
	d := connect(t, l, "esxi")
	if err := d.rewire("vcsa", standardBacking("Management Network")); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string { return picture(l) }, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network connected")
	if n := l.State().RollbackEvents; n != 0 {
		t.Errorf("%d rollbacks", n)
	}
}

func TestTheVCenterNoticesDirectChanges(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	vc, direct := connect(t, l, "vcenter"), connect(t, l, "esxi")
	if err := direct.update(toStandard(20)); err != nil {
		t.Fatal(err)
	}
	vc.read()
	if n := vc.host.Config.Network.Vnic[0].Portgroup; n != "Management Network" {
		t.Errorf("the vCenter shows vmk0 on %q", n)
	}
	_ = direct.update(types.HostNetworkConfig{Portgroup: []types.HostPortGroupConfig{
		{ChangeOperation: "edit", Spec: &types.HostPortGroupSpec{Name: "Management Network", VlanId: 99, VswitchName: "vSwitch0"}},
	}})
	eventually(t, func() string { return l.State().Hosts[0].ConnectionState }, "notResponding")
	vc.read()
	if id := vc.host.Config.Network.Portgroup[0].Spec.VlanId; id != 20 {
		t.Errorf("the vCenter knows VLAN %d of a host that it lost", id)
	}
	if vc.host.Runtime.ConnectionState != types.HostSystemConnectionStateNotResponding {
		t.Errorf("the vCenter shows the host as %s", vc.host.Runtime.ConnectionState)
	}
}

func TestBothInventoriesShowOneTruth(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	vc, direct := connect(t, l, "vcenter"), connect(t, l, "esxi")
	if vc.host.Name != "nuc01" || strings.Contains(direct.host.Name, "nuc") {
		t.Errorf("names: %q in the vCenter, %q on the host", vc.host.Name, direct.host.Name)
	}
	same(t, "config.network on the host", *direct.host.Config.Network, *vc.host.Config.Network)
	for _, c := range []*client{vc, direct} {
		if v := c.host.Summary.Config.Product.Version; v != "6.0.0" {
			t.Errorf("version %s", v)
		}
		var ns mo.HostNetworkSystem
		if err := c.network().Properties(t.Context(), c.network().Reference(), []string{"networkInfo", "networkConfig", "capabilities"}, &ns); err != nil {
			t.Fatal(err)
		}
		same(t, "networkInfo", *ns.NetworkInfo, *c.host.Config.Network)
	}
	if direct.host.Summary.ManagementServerIp == "" {
		t.Error("the host does not know its vCenter")
	}
	p := vc.host.Config.Network.ProxySwitch[0]
	if p.DvsName != "DVS0" || len(p.UplinkPort) != 4 || p.Pnic[0] != "key-vim.host.PhysicalNic-vmnic0" {
		t.Errorf("proxy switch: %+v", p)
	}
	spec := p.Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking).PnicSpec[0]
	if spec.UplinkPortKey != p.UplinkPort[0].Key || spec.UplinkPortgroupKey != "dvportgroup-20" {
		t.Errorf("uplink: %+v", spec)
	}
	for _, s := range vc.host.Config.VirtualNicManagerInfo.NetConfig {
		if s.NicType == "management" && (len(s.SelectedVnic) != 1 || s.SelectedVnic[0] != "management.key-vim.host.VirtualNic-vmk0") {
			t.Errorf("management is carried by %v", s.SelectedVnic)
		}
	}
}

func TestServicesFollowTheWorld(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	this := *c.host.ConfigManager.VirtualNicManager
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := methods.SelectVnicForNicType(ctx, c.Client, &types.SelectVnicForNicType{This: this, NicType: "vmotion", Device: "vmk0"}); err != nil {
		t.Fatal(err)
	}
	res, err := methods.QueryNetConfig(ctx, c.Client, &types.QueryNetConfig{This: this, NicType: "vmotion"})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Returnval.SelectedVnic) != 1 {
		t.Errorf("vmotion is carried by %v", res.Returnval.SelectedVnic)
	}
	if got := l.State().Hosts[0].Vmkernels[0].Services; len(got) != 2 {
		t.Errorf("services: %v", got)
	}
	if _, err := methods.DeselectVnicForNicType(ctx, c.Client, &types.DeselectVnicForNicType{This: this, NicType: "vmotion", Device: "vmk0"}); err != nil {
		t.Fatal(err)
	}
	if got := l.State().Hosts[0].Vmkernels[0].Services; len(got) != 1 {
		t.Errorf("services: %v", got)
	}
}

func TestNetworkHintsTellTheVLANs(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	hints, err := c.network().QueryNetworkHint(t.Context(), []string{"vmnic0"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int32]bool{}
	for _, s := range hints[0].Subnet {
		seen[s.VlanId] = true
	}
	if !seen[0] || !seen[20] || !seen[30] {
		t.Errorf("VLANs heard: %v", seen)
	}
}
