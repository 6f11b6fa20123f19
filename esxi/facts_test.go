package esxi

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func TestReadFacts(t *testing.T) {
	lab := startLab(t, "nuc")
	for _, via := range []string{"vcenter", "nuc01"} {
		c, err := Dial(t.Context(), lab[via])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Logout(context.WithoutCancel(t.Context()))
		h, err := c.FindHost(t.Context(), Wanted{Name: "nuc01"})
		if err != nil {
			t.Fatal(err)
		}
		n := c.Requests()
		f, unread, err := c.ReadFacts(t.Context(), h)
		if err != nil || len(unread) > 0 {
			t.Fatalf("%s: %v, unread %v", via, err, unread)
		}
		if got := c.Requests() - n; got != 5 {
			t.Errorf("%s: %d requests, want 5", via, got)
		}
		want := &Facts{
			Name: f.Name, State: "connected", Product: "VMware ESXi", Version: "6.0.0", Build: f.Build,
			Vendor: "Intel Corporation", Model: "NUC6i5SYH", ManagedBy: "127.0.0.1",
			Lockdown: "off", Shell: "off", SSH: "off", Management: "distributed",
			VMKernels: []FactVMKernel{{Device: "vmk0", IP: "192.168.20.11", Kind: "distributed", Switch: "DVS0", Management: true}},
			Uplinks:   f.Uplinks, DCUIAccess: []string{"root"}, DCUITimeout: "600", Layout: "US Default",
		}
		if d := cmp.Diff(want, f); d != "" {
			t.Errorf("%s (-want +got):\n%s", via, d)
		}
		if len(f.Uplinks) == 0 || f.Uplinks[0].Device != "vmnic0" || f.Uplinks[0].Kind != "distributed" || f.Uplinks[0].Switch != "DVS0" || f.Uplinks[0].Mbps == 0 {
			t.Errorf("%s: uplinks %+v", via, f.Uplinks)
		}
	}
}

// What nobody told must never look like off, none or no.
func TestNewFactsUnknown(t *testing.T) {
	none := &Facts{}
	for _, h := range []*mo.HostSystem{{}, {Config: nil}} {
		if d := cmp.Diff(none, NewFacts(h, false)); d != "" {
			t.Errorf("of an empty host (-want +got):\n%s", d)
		}
	}
	f := NewFacts(&mo.HostSystem{Config: &types.HostConfigInfo{}}, false)
	if f.Lockdown != "" || f.Shell != "" || f.SSH != "" || f.Management != "" || f.ManagedBy != "none" {
		t.Errorf("of a host that shows nothing: %+v", f)
	}
	if f := NewFacts(&mo.HostSystem{}, true); f.ManagedBy == "" || f.ManagedBy == "none" {
		t.Errorf("a vCenter tells of it, and it is managed by %q", f.ManagedBy)
	}
}

func TestNewFacts(t *testing.T) {
	host := func(change func(*types.HostConfigInfo)) *mo.HostSystem {
		c := &types.HostConfigInfo{
			Network: &types.HostNetworkInfo{
				Vswitch:     []types.HostVirtualSwitch{{Name: "vSwitch0", Pnic: []string{"key-nic1"}}},
				ProxySwitch: []types.HostProxySwitch{{DvsName: "DVS0", DvsUuid: "aa", Pnic: []string{"key-nic0"}}},
				Portgroup:   []types.HostPortGroup{{Spec: types.HostPortGroupSpec{Name: "Management Network", VswitchName: "vSwitch0"}}},
				Pnic:        []types.PhysicalNic{{Key: "key-nic0", Device: "vmnic0", LinkSpeed: &types.PhysicalNicLinkInfo{SpeedMb: 1000}}, {Key: "key-nic1", Device: "vmnic1"}, {Key: "key-nic2", Device: "vusb0"}},
				Vnic: []types.HostVirtualNic{
					{Key: "vmk1", Device: "vmk1", Spec: types.HostVirtualNicSpec{DistributedVirtualPort: &types.DistributedVirtualSwitchPortConnection{SwitchUuid: "aa"}}},
					{Key: "vmk0", Device: "vmk0", Spec: types.HostVirtualNicSpec{Portgroup: "Management Network"}},
				},
			},
			VirtualNicManagerInfo: &types.HostVirtualNicManagerInfo{NetConfig: []types.VirtualNicManagerNetConfig{
				{NicType: "vmotion", CandidateVnic: []types.HostVirtualNic{{Key: "vmk1", Device: "vmk1"}}, SelectedVnic: []string{"vmk1"}},
				{NicType: "management", CandidateVnic: []types.HostVirtualNic{{Key: "vmk0", Device: "vmk0"}, {Key: "vmk1", Device: "vmk1"}}, SelectedVnic: []string{"vmk0"}},
			}},
		}
		if change != nil {
			change(c)
		}
		return &mo.HostSystem{Config: c}
	}
	managed := func(keys ...string) func(*types.HostConfigInfo) {
		return func(c *types.HostConfigInfo) { c.VirtualNicManagerInfo.NetConfig[1].SelectedVnic = keys }
	}
	yes, no := types.NewBool(true), types.NewBool(false)
	for _, tc := range []struct {
		what   string
		change func(*types.HostConfigInfo)
		got    func(*Facts) string
		want   string
	}{
		{"management on a standard switch", nil, func(f *Facts) string { return f.Management }, "standard"},
		{"on the other adapter", managed("vmk1"), func(f *Facts) string { return f.Management }, "distributed"},
		{"on both: vmk0 is the console's", managed("vmk1", "vmk0"), func(f *Facts) string { return f.Management }, "standard"},
		{"on none", managed(), func(f *Facts) string { return f.Management }, "none"},
		{"not told: vmk0", func(c *types.HostConfigInfo) { c.VirtualNicManagerInfo = nil }, func(f *Facts) string { return f.Management }, "standard"},
		{"switch of vmk0", nil, func(f *Facts) string { return f.VMKernels[1].Switch }, "vSwitch0"},
		{"switch of vmk1", nil, func(f *Facts) string { return f.VMKernels[0].Switch }, "DVS0"},
		{"a used uplink", nil, func(f *Facts) string { return f.Uplinks[1].Kind + " " + f.Uplinks[1].Switch }, "standard vSwitch0"},
		{"a free uplink", nil, func(f *Facts) string { return f.Uplinks[2].Kind + f.Uplinks[2].Switch }, ""},
		{"strict", func(c *types.HostConfigInfo) { c.LockdownMode = "lockdownStrict" }, func(f *Facts) string { return f.Lockdown }, "strict"},
		{"normal", func(c *types.HostConfigInfo) { c.LockdownMode = "lockdownNormal" }, func(f *Facts) string { return f.Lockdown }, "normal"},
		{"before 6.0", func(c *types.HostConfigInfo) { c.AdminDisabled = yes }, func(f *Facts) string { return f.Lockdown }, "normal"},
		{"before 6.0, off", func(c *types.HostConfigInfo) { c.AdminDisabled = no }, func(f *Facts) string { return f.Lockdown }, "off"},
		{"a mode to come", func(c *types.HostConfigInfo) { c.LockdownMode = "lockdownOther" }, func(f *Facts) string { return f.Lockdown }, ""},
		{"ssh", func(c *types.HostConfigInfo) {
			c.Service = &types.HostServiceInfo{Service: []types.HostService{{Key: "TSM-SSH", Running: true}}}
		}, func(f *Facts) string { return "ssh " + f.SSH + ", shell " + f.Shell }, "ssh on, shell "},
	} {
		if got := tc.got(NewFacts(host(tc.change), false)); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.what, got, tc.want)
		}
	}
}

// A server refuses a read that names a property it does not know.
func TestFactPropertiesByVersion(t *testing.T) {
	for api, want := range map[string]bool{"5.5": false, "6.0": true, "8.0.3.0": true, "": true} {
		if got := slices.Contains(FactProperties(api), "config.lockdownMode"); got != want {
			t.Errorf("API %q: asks for lockdownMode: %t", api, got)
		}
	}
}
