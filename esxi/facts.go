package esxi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Facts is what the API tells of a host that its console and its way back
// depend on. A field that is empty or nil is not known, which is not the same
// as off or none.
type Facts struct {
	Name    string // in the inventory
	State   string // runtime.connectionState: connected, notResponding, disconnected
	Product string // VMware ESXi
	Version string // as in 6.7.0
	Build   string
	Vendor  string
	Model   string

	ManagedBy string // address of its vCenter, "none", or "a vCenter" where the address is hidden
	Lockdown  string // off, normal, strict
	Shell     string // on, off
	SSH       string // on, off

	Management string // kind of the switch that the management adapter is on: standard, distributed; none without an adapter
	VMKernels  []FactVMKernel
	Uplinks    []FactUplink

	// What only single calls tell, see ReadFacts.
	DCUIAccess  []string // users who may log in at the console in lockdown mode; empty, not nil: nobody
	DCUITimeout string   // seconds until an idle console logs out, "0": never
	Layout      string   // console keymap by ESXi's name, as in US Default
}

// FactVMKernel is where a vmkernel adapter lives.
type FactVMKernel struct {
	Device     string
	IP         string
	Kind       string // standard, distributed
	Switch     string // name; "" where the host does not tell
	PortGroup  string // label; "" for a distributed one
	Management bool   // carries management traffic
}

// FactUplink is a physical adapter.
type FactUplink struct {
	Device string
	MAC    string
	Mbps   int    // 0: no link
	Kind   string // of the switch that has it: standard, distributed; "" when it is free
	Switch string
}

// FactProperties are the properties of a HostSystem that NewFacts reads.
// apiVersion is that of the server, as in 6.7: asked for a property that it
// does not know, it refuses the whole read.
func FactProperties(apiVersion string) []string {
	p := []string{
		"name", "runtime.connectionState", "summary.managementServerIp", "hardware.systemInfo",
		"config.product", "config.service", "config.network", "config.virtualNicManagerInfo",
	}
	major, _, _ := strings.Cut(apiVersion, ".")
	if n, err := strconv.Atoi(major); err == nil && n < 6 {
		return append(p, "config.adminDisabled") // lockdown mode came in three grades with 6.0
	}
	return append(p, "config.lockdownMode")
}

// NewFacts takes the facts out of a host of which FactProperties were read, or
// some of them. vcenter says that a vCenter answered, which therefore manages
// the host. It is pure.
func NewFacts(h *mo.HostSystem, vcenter bool) *Facts {
	f := &Facts{Name: h.Name, State: string(h.Runtime.ConnectionState), ManagedBy: h.Summary.ManagementServerIp}
	if h.Hardware != nil {
		f.Vendor, f.Model = strings.TrimSpace(h.Hardware.SystemInfo.Vendor), strings.TrimSpace(h.Hardware.SystemInfo.Model)
	}
	c := h.Config
	if f.ManagedBy == "" {
		switch {
		case vcenter:
			f.ManagedBy = "a vCenter"
		case c != nil: // the host has told of itself, so it would have told that too
			f.ManagedBy = "none"
		}
	}
	if c == nil {
		return f
	}
	f.Product, f.Version, f.Build = c.Product.Name, c.Product.Version, c.Product.Build
	f.Lockdown = lockdownWord(c)
	if c.Service != nil {
		f.Shell, f.SSH = serviceWord(c.Service, "TSM"), serviceWord(c.Service, "TSM-SSH")
	}
	if c.Network != nil {
		f.readNetwork(c)
	}
	return f
}

func lockdownWord(c *types.HostConfigInfo) string {
	switch c.LockdownMode {
	case types.HostLockdownModeLockdownDisabled:
		return "off"
	case types.HostLockdownModeLockdownNormal:
		return "normal"
	case types.HostLockdownModeLockdownStrict:
		return "strict"
	}
	switch {
	case c.AdminDisabled == nil:
		return ""
	case *c.AdminDisabled:
		return "normal"
	}
	return "off"
}

func serviceWord(s *types.HostServiceInfo, key string) string {
	i := slices.IndexFunc(s.Service, func(one types.HostService) bool { return one.Key == key })
	switch {
	case i < 0:
		return ""
	case s.Service[i].Running:
		return "on"
	}
	return "off"
}

func (f *Facts) readNetwork(c *types.HostConfigInfo) {
	n := c.Network
	names := map[string]string{} // switch UUID → name
	user := map[string]FactUplink{}
	for _, p := range n.ProxySwitch {
		names[p.DvsUuid] = p.DvsName
		for _, key := range p.Pnic {
			user[key] = FactUplink{Kind: "distributed", Switch: p.DvsName}
		}
	}
	for _, v := range n.Vswitch {
		for _, key := range v.Pnic {
			user[key] = FactUplink{Kind: "standard", Switch: v.Name}
		}
	}
	for _, p := range n.Pnic {
		u := user[p.Key]
		u.Device, u.MAC = p.Device, p.Mac
		if p.LinkSpeed != nil {
			u.Mbps = int(p.LinkSpeed.SpeedMb)
		}
		f.Uplinks = append(f.Uplinks, u)
	}
	selected, told := managementAdapters(c.VirtualNicManagerInfo)
	for _, v := range n.Vnic {
		k := FactVMKernel{Device: v.Device, Kind: "standard", PortGroup: v.Spec.Portgroup}
		if k.PortGroup == "" {
			k.PortGroup = v.Portgroup
		}
		if v.Spec.Ip != nil {
			k.IP = v.Spec.Ip.IpAddress
		}
		if p := v.Spec.DistributedVirtualPort; p != nil {
			k.Kind, k.Switch, k.PortGroup = "distributed", names[p.SwitchUuid], ""
		} else if i := slices.IndexFunc(n.Portgroup, func(g types.HostPortGroup) bool { return g.Spec.Name == k.PortGroup }); i >= 0 {
			k.Switch = n.Portgroup[i].Spec.VswitchName
		}
		// Where the host does not say which adapter carries management, vmk0
		// does: the installer makes it so.
		k.Management = selected[v.Device] || !told && v.Device == "vmk0"
		f.VMKernels = append(f.VMKernels, k)
	}
	f.Management = "none"
	// The console's management network is vmk0's, if it is one of several.
	for _, k := range f.VMKernels {
		if k.Management && (f.Management == "none" || k.Device == "vmk0") {
			f.Management = k.Kind
		}
	}
}

// managementAdapters returns the devices that carry management traffic, and
// whether the host has told at all.
func managementAdapters(m *types.HostVirtualNicManagerInfo) (devices map[string]bool, told bool) {
	devices = map[string]bool{}
	if m == nil {
		return devices, false
	}
	for _, n := range m.NetConfig {
		if n.NicType != string(types.HostVirtualNicManagerNicTypeManagement) {
			continue
		}
		told = true
		for _, cand := range n.CandidateVnic {
			if slices.Contains(n.SelectedVnic, cand.Key) {
				devices[cand.Device] = true
			}
		}
	}
	return devices, told
}

// AwayError says that vCenter has lost the host, so that what it shows is what
// it remembers.
type AwayError struct{ Host, State string }

func (e *AwayError) Error() string {
	return fmt.Sprintf("vCenter shows %s as %s: what it tells of it is what it remembers", e.Host, e.State)
}

// Unread is a fact that could not be read, and why.
type Unread struct {
	Fact string // name of the field of Facts
	Err  error
}

// ReadFacts reads all facts of a host: the properties in one call, two advanced
// settings in one each, and the keymap by esxcli, which takes two. What an
// account may not read, or a version does not have, is returned as unread; only
// a host that cannot be read at all is an error, an *AwayError where it is
// vCenter that has lost it.
func (c *Client) ReadFacts(ctx context.Context, host *object.HostSystem) (*Facts, []Unread, error) {
	ref := host.Reference()
	paths := append(FactProperties(c.Vim.ServiceContent.About.ApiVersion), "configManager.advancedOption")
	objects, err := Retrieve(ctx, c.Vim, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: "HostSystem", PathSet: paths}},
		ObjectSet: []types.ObjectSpec{{Obj: ref}},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read the host: %w", err)
	}
	for i := range objects {
		objects[i].MissingSet = nil // what is missing stays unknown
	}
	var hosts []mo.HostSystem
	if err := mo.LoadObjectContent(objects, &hosts); err != nil {
		return nil, nil, fmt.Errorf("read the host: %w", err)
	}
	if len(hosts) != 1 {
		return nil, nil, fmt.Errorf("read the host: %d hosts came back", len(hosts))
	}
	h := &hosts[0]
	f := NewFacts(h, c.IsVCenter())
	if c.IsVCenter() && f.State != string(types.HostSystemConnectionStateConnected) {
		return nil, nil, &AwayError{Host: f.Name, State: f.State}
	}
	var unread []Unread
	miss := func(fact string, err error) { unread = append(unread, Unread{fact, err}) }
	if f.Lockdown == "" {
		miss("Lockdown", errNotShown)
	}
	if f.Shell == "" || f.SSH == "" {
		miss("Shell", errNotShown)
	}
	if f.Management == "" {
		miss("Management", errNotShown)
	}
	if m := h.ConfigManager.AdvancedOption; m == nil {
		miss("DCUITimeout", errNotShown)
		miss("DCUIAccess", errNotShown)
	} else {
		if f.DCUITimeout, err = option(ctx, c.Vim, *m, "UserVars.DcuiTimeOut"); err != nil {
			miss("DCUITimeout", err)
		}
		users, err := option(ctx, c.Vim, *m, "DCUI.Access")
		if err != nil {
			miss("DCUIAccess", err)
		} else {
			f.DCUIAccess = strings.FieldsFunc(users, func(r rune) bool { return r == ',' || r == ' ' })
			if f.DCUIAccess == nil {
				f.DCUIAccess = []string{}
			}
		}
	}
	if f.Layout, err = consoleLayout(ctx, c.Vim, ref); err != nil {
		miss("Layout", err)
	}
	return f, unread, ctx.Err()
}

var errNotShown = errors.New("the server does not show it to this account")

// option reads one advanced setting of a host.
func option(ctx context.Context, vim *vim25.Client, m types.ManagedObjectReference, name string) (string, error) {
	res, err := methods.QueryOptions(ctx, vim, &types.QueryOptions{This: m, Name: name})
	if err != nil {
		return "", err
	}
	for _, o := range res.Returnval {
		if v := o.GetOptionValue(); v.Key == name {
			return strings.TrimSpace(fmt.Sprint(v.Value)), nil
		}
	}
	return "", fmt.Errorf("the host has no setting %s", name)
}
