package sim

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// quick are timers short enough for tests and long enough to be seen.
var quick = Options{RollbackAfter: 150 * time.Millisecond, ReconnectAfter: 50 * time.Millisecond, LostAfter: 50 * time.Millisecond}

// patience bounds what should take milliseconds, on a machine that may be busy with other things.
const patience = 30 * time.Second

func start(t *testing.T, opt Options) *Lab {
	t.Helper()
	if opt.RollbackAfter == 0 {
		opt.RollbackAfter = quick.RollbackAfter
	}
	opt.ReconnectAfter, opt.LostAfter = quick.ReconnectAfter, quick.LostAfter
	l, err := Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// client is a logged-in session with one endpoint, seen from one host.
type client struct {
	*vim25.Client
	t    *testing.T
	host mo.HostSystem
}

func dial(t *testing.T, e Endpoint) (*vim25.Client, error) {
	t.Helper()
	u, err := url.Parse(e.URL)
	if err != nil {
		return nil, err
	}
	sc := soap.NewClient(u, false)
	sc.SetThumbprint(u.Host, e.Thumbprint)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := vim25.NewClient(ctx, sc)
	if err != nil {
		return nil, err
	}
	return c, session.NewManager(c).Login(ctx, url.UserPassword(e.User, e.Password))
}

// connect logs in at the vCenter ("vcenter") or at the first host ("esxi").
func connect(t *testing.T, l *Lab, path string) *client {
	t.Helper()
	e := l.VCenter()
	if path == "esxi" {
		e = l.Hosts()[0]
	}
	vc, err := dial(t, e)
	if err != nil {
		t.Fatalf("logging in at the %s: %v", path, err)
	}
	c := &client{Client: vc, t: t}
	c.read()
	return c
}

// read fetches the first host.
func (c *client) read() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	finder := property.DefaultCollector(c.Client)
	root := c.ServiceContent.RootFolder
	visit := func(name, typ, path string, next ...string) *types.TraversalSpec {
		t := &types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: name}, Type: typ, Path: path}
		for _, n := range next {
			t.SelectSet = append(t.SelectSet, &types.SelectionSpec{Name: n})
		}
		return t
	}
	res, err := finder.RetrieveProperties(ctx, types.RetrieveProperties{SpecSet: []types.PropertyFilterSpec{{
		PropSet: []types.PropertySpec{{Type: "HostSystem", PathSet: []string{
			"name", "parent", "runtime", "config.network", "config.virtualNicManagerInfo", "configManager", "summary", "network", "vm",
		}}},
		ObjectSet: []types.ObjectSpec{{Obj: root, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
			visit("folder", "Folder", "childEntity", "folder", "dc", "cr"),
			visit("dc", "Datacenter", "hostFolder", "folder"),
			visit("cr", "ComputeResource", "host"),
		}}},
	}}})
	if err != nil {
		c.t.Fatalf("reading the host: %v", err)
	}
	var hosts []mo.HostSystem
	if err := mo.LoadObjectContent(res.Returnval, &hosts); err != nil {
		c.t.Fatal(err)
	}
	if len(hosts) == 0 {
		c.t.Fatal("no host in the inventory")
	}
	c.host = hosts[0]
	for _, h := range hosts {
		if h.Name < c.host.Name {
			c.host = h
		}
	}
}

func (c *client) network() *object.HostNetworkSystem {
	return object.NewHostNetworkSystem(c.Client, *c.host.ConfigManager.NetworkSystem)
}

// update makes the one call, bounded as a careful client would.
func (c *client) update(config types.HostNetworkConfig) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	_, err := c.network().UpdateNetworkConfig(ctx, config, string(types.HostConfigChangeModeModify))
	return err
}

func bond(devices ...string) types.BaseHostVirtualSwitchBridge {
	return &types.HostVirtualSwitchBondBridge{NicDevice: devices}
}

// toStandard is the whole move in one call: switch with uplink, proxy switch without, port groups, vmk0.
func toStandard(vlan int32) types.HostNetworkConfig {
	return types.HostNetworkConfig{
		Vswitch: []types.HostVirtualSwitchConfig{{ChangeOperation: "add", Name: "vSwitch0", Spec: &types.HostVirtualSwitchSpec{
			NumPorts: 128, Mtu: 1500, Bridge: bond("vmnic0"),
		}}},
		ProxySwitch: []types.HostProxySwitchConfig{{ChangeOperation: "edit", Uuid: dvsUUID, Spec: &types.HostProxySwitchSpec{
			Backing: &types.DistributedVirtualSwitchHostMemberPnicBacking{},
		}}},
		Portgroup: []types.HostPortGroupConfig{
			{ChangeOperation: "add", Spec: &types.HostPortGroupSpec{Name: "Management Network", VlanId: vlan, VswitchName: "vSwitch0"}},
			{ChangeOperation: "add", Spec: &types.HostPortGroupSpec{Name: "Lab", VlanId: 30, VswitchName: "vSwitch0"}},
			{ChangeOperation: "add", Spec: &types.HostPortGroupSpec{Name: "VM Network", VswitchName: "vSwitch0"}},
		},
		Vnic: []types.HostVirtualNicConfig{{ChangeOperation: "edit", Device: "vmk0", Portgroup: "Management Network", Spec: &types.HostVirtualNicSpec{}}},
	}
}

// toDistributed is the way back.
func toDistributed() types.HostNetworkConfig {
	return types.HostNetworkConfig{
		Vswitch: []types.HostVirtualSwitchConfig{{ChangeOperation: "edit", Name: "vSwitch0", Spec: &types.HostVirtualSwitchSpec{NumPorts: 128}}},
		ProxySwitch: []types.HostProxySwitchConfig{{ChangeOperation: "edit", Uuid: dvsUUID, Spec: &types.HostProxySwitchSpec{
			Backing: &types.DistributedVirtualSwitchHostMemberPnicBacking{
				PnicSpec: []types.DistributedVirtualSwitchHostMemberPnicSpec{{PnicDevice: "vmnic0"}},
			},
		}}},
		Vnic: []types.HostVirtualNicConfig{{ChangeOperation: "edit", Device: "vmk0", Spec: &types.HostVirtualNicSpec{
			DistributedVirtualPort: &types.DistributedVirtualSwitchPortConnection{SwitchUuid: dvsUUID, PortgroupKey: "dvportgroup-21"},
		}}},
	}
}

// picture puts a host's networking in one line.
func picture(l *Lab) string {
	h := l.State().Hosts[0]
	var parts []string
	for _, s := range h.Switches {
		parts = append(parts, s.Name+"["+strings.Join(s.Uplinks, " ")+"]")
	}
	for _, s := range h.ProxySwitches {
		parts = append(parts, s.Name+"["+strings.Join(s.Uplinks, " ")+"]")
	}
	parts = append(parts, "vmk0→"+h.Management.Portgroup)
	if !h.Management.Reachable {
		parts = append(parts, "unreachable")
	}
	return strings.Join(append(parts, h.ConnectionState), " ")
}

func TestOneCallMovesThereAndBack(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"vcenter", "esxi"} {
		t.Run(path, func(t *testing.T) {
			scene := "nuc"
			if path == "esxi" {
				scene = "ephemeral" // what a direct session may connect to
			}
			l := start(t, Options{Scene: scene})
			c := connect(t, l, path)
			before := picture(l)
			if err := c.update(toStandard(20)); err != nil {
				t.Fatal(err)
			}
			if got, want := picture(l), "vSwitch0[vmnic0] DVS0[] vmk0→Management Network connected"; got != want {
				t.Fatalf("after the move: %s, want %s", got, want)
			}
			if err := c.update(toDistributed()); err != nil {
				t.Fatal(err)
			}
			if got, want := picture(l), "vSwitch0[] "+before; got != want {
				t.Fatalf("after the way back: %s, want %s", got, want)
			}
		})
	}
}
