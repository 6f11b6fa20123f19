package sim

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, d)
	}
}

func standardBacking(label string) types.BaseVirtualDeviceBackingInfo {
	return &types.VirtualEthernetCardNetworkBackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: label}}
}

func dvBacking(group string) types.BaseVirtualDeviceBackingInfo {
	return &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: types.DistributedVirtualSwitchPortConnection{SwitchUuid: dvsUUID, PortgroupKey: group}}
}

func (c *client) finder() *find.Finder {
	f := find.NewFinder(c.Client, false)
	dc, err := f.DefaultDatacenter(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return f.SetDatacenter(dc)
}

func (c *client) vm(name string) *object.VirtualMachine {
	c.t.Helper()
	v, err := c.finder().VirtualMachine(c.t.Context(), name)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// rewire moves a VM's first card.
func (c *client) rewire(name string, to types.BaseVirtualDeviceBackingInfo) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	v := c.vm(name)
	devices, err := v.Device(ctx)
	if err != nil {
		return err
	}
	cards := devices.SelectByType((*types.VirtualEthernetCard)(nil))
	if len(cards) == 0 {
		return errors.New("the VM has no card")
	}
	card := cards[0]
	card.GetVirtualDevice().Backing = to
	task, err := v.Reconfigure(ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: card},
	}})
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

// card reads a VM's first card.
func (c *client) card(name string) *types.VirtualEthernetCard {
	c.t.Helper()
	devices, err := c.vm(name).Device(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	cards := devices.SelectByType((*types.VirtualEthernetCard)(nil))
	if len(cards) == 0 {
		c.t.Fatalf("%s has no card", name)
	}
	return cards[0].(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
}

func TestCardsMoveInBothInventories(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "standard"})
	vc, direct := connect(t, l, "vcenter"), connect(t, l, "esxi")
	before := vc.card("photonbox")
	if err := vc.rewire("photonbox", dvBacking("dvportgroup-22")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{vc, direct} {
		card := c.card("photonbox")
		b, ok := card.Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo)
		if !ok || b.Port.PortgroupKey != "dvportgroup-22" || b.Port.PortKey == "" {
			t.Errorf("the card is backed by %+v", card.Backing)
		}
		if card.MacAddress != before.MacAddress || card.Key != before.Key {
			t.Errorf("the card has become another: %s %d, was %s %d", card.MacAddress, card.Key, before.MacAddress, before.Key)
		}
		if !card.Connectable.Connected || !card.Connectable.StartConnected {
			t.Errorf("the card is %+v", card.Connectable)
		}
		var v mo.VirtualMachine
		if err := c.vm("photonbox").Properties(t.Context(), c.vm("photonbox").Reference(), []string{"network", "guest.net", "guest.ipAddress"}, &v); err != nil {
			t.Fatal(err)
		}
		if len(v.Network) != 1 || v.Network[0].Value != "dvportgroup-22" {
			t.Errorf("the VM is on %v", v.Network)
		}
	}
	nic := l.State().Hosts[0].VMs[0].NICs[0]
	if nic.Lit || nic.Portgroup != "Lab" || nic.SwitchKind != "distributed" {
		t.Errorf("%+v: it has left the switch with the uplink", nic)
	}
	eventually(t, func() bool { return l.State().Hosts[0].VMs[0].NICs[0].DarkMs > 20 }, true)

	if err := direct.rewire("photonbox", standardBacking("Lab")); err != nil {
		t.Fatalf("back, in a direct session: %v", err)
	}
	if n := l.State().Hosts[0].VMs[0].NICs[0]; !n.Lit || n.DarkMs <= 20 {
		t.Errorf("the VM is back: %+v", n)
	}
	if err := direct.rewire("photonbox", dvBacking("dvportgroup-22")); !fault.Is(err, &types.NotSupported{}) {
		t.Errorf("static binding in a direct session: %v", err)
	}
}

// An unknown label takes plain vcsim down with it.
func TestAnUnknownLabelIsRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"vcenter", "esxi"} {
		l := start(t, Options{})
		c := connect(t, l, path)
		if err := c.rewire("photonbox", standardBacking("Nowhere")); !fault.Is(err, &types.InvalidDeviceBacking{}) {
			t.Errorf("%s: %v", path, err)
		}
		if err := c.create("stray", standardBacking("Nowhere")); !fault.Is(err, &types.InvalidDeviceBacking{}) {
			t.Errorf("%s: creating a VM: %v", path, err)
		}
		if _, err := c.finder().VirtualMachine(t.Context(), "stray"); err == nil {
			t.Errorf("%s: the refused VM is there", path)
		}
		c.card("photonbox") // it still answers
	}
}

// create makes a VM with one card.
func (c *client) create(name string, backing types.BaseVirtualDeviceBackingInfo) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	f := c.finder()
	dc, err := f.DefaultDatacenter(ctx)
	if err != nil {
		return err
	}
	folders, err := dc.Folders(ctx)
	if err != nil {
		return err
	}
	pool, err := f.DefaultResourcePool(ctx)
	if err != nil {
		return err
	}
	card := &types.VirtualVmxnet3{}
	card.Key, card.Backing = -1, backing
	task, err := folders.VmFolder.CreateVM(ctx, types.VirtualMachineConfigSpec{
		Name: name, GuestId: "otherGuest64", Files: &types.VirtualMachineFileInfo{VmPathName: "[datastore1]"},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{Operation: "add", Device: card}},
		ExtraConfig:  []types.BaseOptionValue{&types.OptionValue{Key: "guestinfo.key", Value: "value"}},
	}, pool, nil)
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

func TestANewVMIsPartOfTheWorld(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ path, peer, scene string }{{"vcenter", "esxi", "nuc"}, {"esxi", "vcenter", "ephemeral"}} {
		t.Run(tc.path, func(t *testing.T) {
			t.Parallel()
			l := start(t, Options{Scene: tc.scene})
			here, there := connect(t, l, tc.path), connect(t, l, tc.peer)
			if err := here.create("fresh", dvBacking("dvportgroup-22")); err != nil {
				t.Fatal(err)
			}
			names := func() (all []string) {
				for _, v := range l.State().Hosts[0].VMs {
					all = append(all, v.Name+" "+v.Power)
				}
				return all
			}
			if got := names(); len(got) != 4 || got[3] != "fresh off" {
				t.Fatalf("VMs: %v", got)
			}
			ctx := t.Context()
			vm := here.vm("fresh")
			task, err := vm.PowerOn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := task.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			if got := names(); got[3] != "fresh on" {
				t.Errorf("VMs: %v", got)
			}
			if s, err := there.vm("fresh").PowerState(ctx); err != nil || s != "poweredOn" {
				t.Errorf("the other inventory shows it %s, %v", s, err)
			}
			if mac, want := there.card("fresh").MacAddress, here.card("fresh").MacAddress; mac != want {
				t.Errorf("its card is %s there, %s here", mac, want)
			}
			if !l.State().Hosts[0].VMs[3].NICs[0].Lit {
				t.Error("it has no network")
			}
			task, err = vm.Suspend(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := task.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			if s, err := there.vm("fresh").PowerState(ctx); err != nil || s != "suspended" {
				t.Errorf("the other inventory shows it %s, %v", s, err)
			}
			task, err = vm.Reconfigure(ctx, types.VirtualMachineConfigSpec{Annotation: "hello"})
			if err != nil {
				t.Fatal(err)
			}
			if err := task.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			var twin mo.VirtualMachine
			if err := there.vm("fresh").Properties(ctx, there.vm("fresh").Reference(), []string{"config"}, &twin); err != nil {
				t.Fatal(err)
			}
			if twin.Config.Annotation != "hello" || object.OptionValueList(twin.Config.ExtraConfig).IsTrue("no") {
				t.Errorf("the other inventory shows %q", twin.Config.Annotation)
			}
			if v, _ := object.OptionValueList(twin.Config.ExtraConfig).GetString("guestinfo.key"); v != "value" {
				t.Errorf("guestinfo.key is %q there", v)
			}
			task, err = vm.PowerOff(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := task.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			task, err = vm.Destroy(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := task.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			if got := names(); len(got) != 3 {
				t.Errorf("VMs: %v", got)
			}
			if _, err := there.finder().VirtualMachine(ctx, "fresh"); err == nil {
				t.Error("the other inventory still shows it")
			}
			if err := l.Reset(); err != nil {
				t.Fatal(err)
			}
			if got := names(); len(got) != 3 {
				t.Errorf("VMs after a reset: %v", got)
			}
		})
	}
}

func TestTemplatesAndSnapshots(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "awkward"})
	for _, path := range []string{"vcenter", "esxi"} {
		c := connect(t, l, path)
		if err := c.rewire("golden", dvBacking("dvportgroup-23")); !fault.Is(err, &types.NotSupported{}) {
			t.Errorf("%s: reconfiguring a template: %v", path, err)
		}
		var v mo.VirtualMachine
		if err := c.vm("golden").Properties(t.Context(), c.vm("golden").Reference(), []string{"config.template"}, &v); err != nil || !v.Config.Template {
			t.Errorf("%s: %v, template %v", path, err, v.Config)
		}
		if err := c.vm("before-upgrade").Properties(t.Context(), c.vm("before-upgrade").Reference(), []string{"snapshot"}, &v); err != nil || v.Snapshot == nil {
			t.Fatalf("%s: snapshot %v, %v", path, v.Snapshot, err)
		}
		var snap mo.VirtualMachineSnapshot
		if err := c.vm("golden").Properties(t.Context(), *v.Snapshot.CurrentSnapshot, []string{"config"}, &snap); err != nil {
			t.Fatal(err)
		}
		cards := object.VirtualDeviceList(snap.Config.Hardware.Device).SelectByType((*types.VirtualEthernetCard)(nil))
		if len(cards) != 1 {
			t.Errorf("%s: the snapshot remembers %d cards", path, len(cards))
		}
	}
}

func TestAPortOverridesItsGroup(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "awkward"})
	c := connect(t, l, "vcenter")
	ref, err := c.finder().Network(t.Context(), "DVS0")
	if err != nil {
		t.Fatal(err)
	}
	ports, err := object.NewDistributedVirtualSwitch(c.Client, ref.Reference()).FetchDVPorts(t.Context(), &types.DistributedVirtualSwitchPortCriteria{
		Connected: types.NewBool(true), PortgroupKey: []string{"dvportgroup-22"}, Inside: types.NewBool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for _, p := range ports {
		s := p.Config.Setting.(*types.VMwareDVSPortSetting)
		if !s.SecurityPolicy.Inherited {
			own++
			if !*s.SecurityPolicy.ForgedTransmits.Value || p.Connectee.ConnectedEntity.Value != c.vm("before-upgrade").Reference().Value {
				t.Errorf("port %s: %+v, %+v", p.Key, s.SecurityPolicy, p.Connectee)
			}
		}
		if !s.UplinkTeamingPolicy.Inherited {
			t.Errorf("port %s has a teaming policy of its own", p.Key)
		}
	}
	if own != 1 {
		t.Errorf("%d ports of %d have a security policy of their own", own, len(ports))
	}
}

func TestManyCardsMoveAtOnce(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "standard", VMs: 12})
	c := connect(t, l, "vcenter")
	vms := l.State().Hosts[0].VMs
	var wg sync.WaitGroup
	errs := make([]error, len(vms))
	for i, v := range vms {
		wg.Go(func() { errs[i] = c.rewire(v.Name, dvBacking("dvportgroup-22")) })
	}
	reads := make(chan struct{})
	go func() {
		defer close(reads)
		for range 20 {
			c2 := *c
			c2.read()
		}
	}()
	wg.Wait()
	<-reads
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	ports := map[string]bool{}
	for _, v := range l.State().Hosts[0].VMs {
		ports[v.NICs[0].Port] = true
	}
	if len(ports) != len(vms) {
		t.Errorf("%d VMs on %d ports", len(vms), len(ports))
	}
}

func TestThreeHundredVMs(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("building 300 VMs takes seconds")
	}
	l := start(t, Options{VMs: 300})
	c := connect(t, l, "vcenter")
	if len(c.host.Vm) != 300 {
		t.Fatalf("%d VMs", len(c.host.Vm))
	}
	if err := c.update(toStandard(20)); err != nil {
		t.Fatal(err)
	}
	if err := c.rewire("vm300", standardBacking("Lab")); err != nil {
		t.Fatal(err)
	}
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	if got, want := picture(l), "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDistributedSwitchOnTheWire(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	ctx := t.Context()
	ref, err := c.finder().Network(ctx, "DVS0")
	if err != nil {
		t.Fatal(err)
	}
	dvs := object.NewDistributedVirtualSwitch(c.Client, ref.Reference())
	uplinks, err := dvs.FetchDVPorts(ctx, &types.DistributedVirtualSwitchPortCriteria{UplinkPort: types.NewBool(true), Host: []types.ManagedObjectReference{c.host.Self}})
	if err != nil {
		t.Fatal(err)
	}
	if len(uplinks) != 4 || uplinks[0].Connectee == nil || uplinks[0].Connectee.NicKey != "vmnic0" || uplinks[1].Connectee != nil {
		t.Errorf("uplink ports: %+v", uplinks)
	}
	used, err := dvs.FetchDVPorts(ctx, &types.DistributedVirtualSwitchPortCriteria{Connected: types.NewBool(true), PortgroupKey: []string{"dvportgroup-22"}, Inside: types.NewBool(true)})
	if err != nil || len(used) != 2 {
		t.Errorf("used ports of Lab: %+v, %v", used, err)
	}
	add := func(name string) error {
		task, err := dvs.AddPortgroup(ctx, []types.DVPortgroupConfigSpec{{
			Name: name, NumPorts: 4, Type: "earlyBinding",
			DefaultPortConfig: &types.VMwareDVSPortSetting{Vlan: &types.VmwareDistributedVirtualSwitchVlanIdSpec{VlanId: 50}},
		}})
		if err != nil {
			return err
		}
		return task.Wait(ctx)
	}
	if err := add("Cameras"); err != nil {
		t.Fatal(err)
	}
	if err := add("Cameras"); !fault.Is(err, &types.DuplicateName{}) {
		t.Errorf("the same name again: %v", err)
	}
	pg, err := c.finder().Network(ctx, "Cameras")
	if err != nil {
		t.Fatal(err)
	}
	destroy := func(ref types.ManagedObjectReference) error {
		res, err := methods.Destroy_Task(ctx, c.Client, &types.Destroy_Task{This: ref})
		if err != nil {
			return err
		}
		return object.NewTask(c.Client, res.Returnval).Wait(ctx)
	}
	if err := destroy(pg.Reference()); err != nil {
		t.Errorf("removing an empty port group: %v", err)
	}
	if err := destroy(types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: "dvportgroup-22"}); !fault.Is(err, &types.ResourceInUse{}) {
		t.Errorf("removing a port group in use: %v", err)
	}

	reconfigure := func(spec types.DVSConfigSpec) error {
		task, err := dvs.Reconfigure(ctx, &types.VMwareDVSConfigSpec{DVSConfigSpec: spec})
		if err != nil {
			return err
		}
		return task.Wait(ctx)
	}
	member := func(op string, b types.BaseDistributedVirtualSwitchHostMemberBacking) []types.DistributedVirtualSwitchHostMemberConfigSpec {
		return []types.DistributedVirtualSwitchHostMemberConfigSpec{{Operation: op, Host: c.host.Self, Backing: b}}
	}
	if err := reconfigure(types.DVSConfigSpec{Host: member("remove", nil)}); !fault.Is(err, &types.ResourceInUse{}) {
		t.Errorf("a member in use leaves: %v", err)
	}
	if err := reconfigure(types.DVSConfigSpec{ConfigVersion: "1", Host: member("edit", nil)}); !fault.Is(err, &types.ConcurrentAccess{}) {
		t.Errorf("an edit of an older version: %v", err)
	}
	err = reconfigure(types.DVSConfigSpec{Host: member("edit", &types.DistributedVirtualSwitchHostMemberPnicBacking{})})
	if !fault.Is(err, &types.NetworkDisruptedAndConfigRolledBack{}) {
		t.Errorf("taking the only uplink away: %v", err)
	}
	if got, want := picture(l), "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected"; got != want {
		t.Errorf("%s, want %s", got, want)
	}

	if err := l.Arm(Fault{Fault: "op-delay", MS: 200}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	conflicts := make(chan error, 2)
	for range 2 {
		wg.Go(func() { conflicts <- reconfigure(types.DVSConfigSpec{}) })
	}
	wg.Wait()
	a, b := <-conflicts, <-conflicts
	if (a == nil) == (b == nil) || !fault.Is(errors.Join(a, b), &types.ConcurrentAccess{}) {
		t.Errorf("two edits at once: %v and %v", a, b)
	}

	var mdvs mo.DistributedVirtualSwitch
	if err := dvs.Properties(ctx, dvs.Reference(), []string{"uuid", "name", "config", "summary"}, &mdvs); err != nil {
		t.Fatal(err)
	}
	config, ok := mdvs.Config.(*types.VMwareDVSConfigInfo)
	if !ok || len(config.Host) != 1 || len(config.UplinkPortgroup) != 1 || config.MaxMtu != 1500 {
		t.Errorf("config: %+v", mdvs.Config)
	}
}

func TestAHostTellsLittleOfDistributedSwitches(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "esxi")
	ctx := t.Context()
	collect := func(props ...string) ([]types.ObjectContent, error) {
		spec := types.PropertySpec{Type: "DistributedVirtualPortgroup", PathSet: props}
		if props == nil {
			spec.All = types.NewBool(true)
		}
		res, err := methods.RetrievePropertiesEx(ctx, c.Client, &types.RetrievePropertiesEx{This: c.ServiceContent.PropertyCollector, SpecSet: []types.PropertyFilterSpec{{
			PropSet: []types.PropertySpec{spec},
			ObjectSet: []types.ObjectSpec{{Obj: c.host.Self, SelectSet: []types.BaseSelectionSpec{
				&types.TraversalSpec{Type: "HostSystem", Path: "network"},
			}}},
		}}})
		if err != nil {
			return nil, err
		}
		return res.Returnval.Objects, nil
	}
	groups, err := collect("name", "key", "config.type", "config.defaultPortConfig")
	if err != nil || len(groups) != 6 {
		t.Errorf("%d port groups, %v", len(groups), err)
	}
	if _, err := collect(); !fault.Is(err, &types.SystemError{}) || !fault.Is(err, &types.NotSupported{}) {
		t.Errorf("whole objects: %v", err)
	}
	_, err = methods.FetchDVPorts(ctx, c.Client, &types.FetchDVPorts{This: types.ManagedObjectReference{Type: "DistributedVirtualSwitch", Value: "dvs-1"}})
	if !fault.Is(err, &types.NotSupported{}) {
		t.Errorf("the switch itself: %v", err)
	}
	if err := l.Arm(Fault{Fault: "hide-dvs"}); err != nil {
		t.Fatal(err)
	}
	if groups, err := collect("name"); err != nil || len(groups) != 0 {
		t.Errorf("hidden: %d port groups, %v", len(groups), err)
	}
	l.Disarm()
	if groups, err := collect("name"); err != nil || len(groups) != 6 {
		t.Errorf("shown again: %d port groups, %v", len(groups), err)
	}
}
