package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// Kind is one of the two kinds of virtual switch.
type Kind string

const (
	Standard    Kind = "standard"
	Distributed Kind = "distributed"
)

// Snapshot is a host's network as one read shows it, with everything that a
// plan depends on. It is plain data: nothing in it refers to a connection.
type Snapshot struct {
	Host          string
	Ref           types.ManagedObjectReference
	NetworkSystem types.ManagedObjectReference
	VCenter       bool   // read through vCenter, not from the host itself
	State         string // runtime.connectionState: connected, notResponding, disconnected
	Version       string // ESXi version, as in 6.0.0
	ManagedBy     string // address of the vCenter that manages the host, as the host knows it
	HA            bool   // vSphere HA is on for its cluster
	Rollback      string // vCenter's config.vpxd.network.rollback: "true", "false", or "" when not asked

	Uplinks      []Uplink
	Standard     []StandardSwitch
	Distributed  []DistributedSwitch
	Vmkernels    []Vmkernel
	VMs          []VM
	IPStorage    []IPStorage
	RunningTasks []string // "name of the task on name of the entity"
	Gateways     []string
	DNS          []string

	// Facts of the host as far as the one read tells them; nil in a brief one.
	// No plan depends on them.
	Facts *esxi.Facts
}

// Uplink is a physical NIC.
type Uplink struct {
	Device string
	MAC    string
	Link   int    // Mbit/s; 0: no link
	Switch string // name of the switch that has it; "" when it is free
	Kind   Kind
}

// StandardSwitch is a vSwitch of the host. Spec is the live one: an edit starts
// from it, because a field left out of an edit may be reset.
type StandardSwitch struct {
	Name       string
	Uplinks    []string
	Spec       types.HostVirtualSwitchSpec
	PortGroups []PortGroup
}

// PortGroup is a port group of a standard switch, with its effective policy.
type PortGroup struct {
	Label  string
	VLAN   int
	Policy Policy
	Spec   types.HostPortGroupSpec
}

// DistributedSwitch is the host's side of a DVS, its proxy switch, together
// with the port groups the host can see. A DVS that the host is not a member
// of has Member false and neither members nor ports.
type DistributedSwitch struct {
	UUID        string
	Name        string
	Ref         types.ManagedObjectReference // zero on a direct session
	Member      bool
	MTU         int
	Members     []types.DistributedVirtualSwitchHostMemberPnicSpec
	Ports       []UplinkPort // every uplink port that the host has, used or not
	UplinkNames []string     // of the DVS, in order; from vCenter only
	LAGs        []string
	Features    []string // switch features without an equivalent elsewhere
	PortGroups  []DVPortGroup
}

// UplinkPort is one of a proxy switch's uplink ports.
type UplinkPort struct {
	Key, Name    string
	PortGroupKey string
}

// DVPortGroup is a distributed port group.
type DVPortGroup struct {
	Key, Name string
	Ephemeral bool
	Uplink    bool // holds uplinks, not adapters
	VLAN      VLAN
	Teaming   teaming
	Security  security
	Shaping   *Shaping
	MACLearn  bool
	Features  []string // without an equivalent on a standard switch
	Overrides bool     // single ports may differ from the port group
	Odd       []string // what the ports in use do differ in
	OddVLAN   []string // keys of those that differ in their VLAN
	Ref       types.ManagedObjectReference
}

// VLAN is what a port group does with tags.
type VLAN struct {
	ID    int  // 0: untagged; 4095: every tag reaches the guest
	Trunk bool // a range of tags narrower than, or equal to, all of them
	PVLAN bool
	Text  string
	Known bool
}

// Vmkernel is a vmkernel adapter.
type Vmkernel struct {
	Device   string
	IP       string
	Mask     string
	DHCP     bool
	MAC      string
	MTU      int
	Stack    string // TCP/IP stack instance key
	Switch   string
	Kind     Kind
	Group    string // label of its port group
	GroupKey string // key of its distributed port group
	VLAN     VLAN
	Services []string // management, vmotion, vsan, …
	Spec     types.HostVirtualNicSpec
}

// Has reports whether the adapter is selected for a service.
func (v *Vmkernel) Has(service string) bool { return slices.Contains(v.Services, service) }

// VM is a virtual machine that is registered on the host.
type VM struct {
	Ref       types.ManagedObjectReference
	Name      string
	On        bool
	Template  bool
	Snapshots bool
	HostName  string
	IPs       []string
	Product   string // of its vApp properties
	NICs      []NIC
}

// NIC is a virtual machine's network adapter. Device is the live one.
type NIC struct {
	Key       int32
	Label     string // "Network adapter 1"
	MAC       string
	Connected bool
	Kind      Kind // "" for a backing that is neither
	Switch    string
	Group     string
	GroupKey  string
	Device    types.BaseVirtualDevice
}

// IPStorage is storage that the host reaches over IP.
type IPStorage struct {
	Name    string // of the datastore or the target
	Kind    string // NFS or iSCSI
	Address string
}

// readOptions widen a read.
type readOptions struct {
	Brief  bool // where things are plugged in, without what only a plan asks for
	AllDVS bool // every DVS of the inventory, not only those the host is a member of
	Tasks  []types.ManagedObjectReference
}

// TaskState is the state of one task that was read along.
type TaskState struct {
	Ref   types.ManagedObjectReference
	State types.TaskInfoState
	Fault string // one line; "" unless it failed
	Type  string // of the fault
}

// Read takes a snapshot of the host in one API call.
func Read(ctx context.Context, h *object.HostSystem) (*Snapshot, error) {
	s, _, err := read(ctx, h, readOptions{})
	return s, err
}

// ReadFor is Read with what a plan for the goal needs besides. Through vCenter
// it also asks whether vCenter rolls changes back, and where a port group lets
// its ports differ, for the ports in use: a call each.
func ReadFor(ctx context.Context, h *object.HostSystem, g Goal) (*Snapshot, error) {
	s, _, err := read(ctx, h, readOptions{AllDVS: g.To == Distributed})
	if err != nil || !s.VCenter {
		return s, err
	}
	if err := s.readRollback(ctx, h.Client()); err != nil {
		return nil, err
	}
	return s, s.readOverrides(ctx, h.Client())
}

func read(ctx context.Context, h *object.HostSystem, o readOptions) (*Snapshot, []TaskState, error) {
	vcenter := h.Client().IsVC()
	spec := readSpec(h.Reference(), h.Client().ServiceContent.RootFolder, vcenter, o)
	var facts []string
	if !o.Brief {
		facts = addFacts(&spec, esxi.FactProperties(h.Client().ServiceContent.About.ApiVersion))
	}
	objects, err := esxi.Retrieve(ctx, h.Client(), spec)
	if err != nil {
		return nil, nil, fmt.Errorf("read the network of the host: %w", err)
	}
	excuse(objects, facts)
	s, err := newSnapshot(objects, h.Reference(), vcenter)
	if err == nil && !o.Brief {
		s.Facts, err = factsOf(objects, h.Reference(), vcenter)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the network of the host: %w", err)
	}
	tasks, err := taskStates(objects, o.Tasks)
	return s, tasks, err
}

// rollbackSetting is vCenter's advanced setting that lets it take back changes
// that cut a host off; it is on by default, and labctl never changes it.
const rollbackSetting = "config.vpxd.network.rollback"

func (s *Snapshot) readRollback(ctx context.Context, c *vim25.Client) error {
	if c.ServiceContent.Setting == nil {
		return nil
	}
	res, err := methods.QueryOptions(ctx, c, &types.QueryOptions{This: *c.ServiceContent.Setting, Name: rollbackSetting})
	if err != nil {
		var call *esxi.CallError
		if errors.As(err, &call) && call.Refused {
			return nil // not every account may read settings; then the plan does not know
		}
		return fmt.Errorf("read vCenter's rollback setting: %w", err)
	}
	for _, o := range res.Returnval {
		s.Rollback = strings.ToLower(fmt.Sprint(o.GetOptionValue().Value))
	}
	return nil
}

// readOverrides looks at the ports in use of port groups that allow exceptions.
func (s *Snapshot) readOverrides(ctx context.Context, c *vim25.Client) error {
	for i := range s.Distributed {
		d := &s.Distributed[i]
		var keys []string
		for _, g := range d.PortGroups {
			if g.Overrides && s.uses(d, g.Key) {
				keys = append(keys, g.Key)
			}
		}
		if len(keys) == 0 || d.Ref.Value == "" {
			continue
		}
		res, err := methods.FetchDVPorts(ctx, c, &types.FetchDVPorts{This: d.Ref, Criteria: &types.DistributedVirtualSwitchPortCriteria{
			PortgroupKey: keys, Inside: types.NewBool(true), Connected: types.NewBool(true),
		}})
		if err != nil {
			return fmt.Errorf("read the ports of %s: %w", d.Name, err)
		}
		d.readPorts(res.Returnval, s.Ref)
	}
	return nil
}

// readPorts notes what single ports of a host do not inherit.
func (d *DistributedSwitch) readPorts(ports []types.DistributedVirtualPort, host types.ManagedObjectReference) {
	for _, port := range ports {
		g := d.group(port.PortgroupKey)
		if g == nil || port.ProxyHost != nil && *port.ProxyHost != host {
			continue // another switch's, another host's
		}
		what := overrides(port.Config.Setting)
		if len(what) > 0 {
			g.Odd = append(g.Odd, fmt.Sprintf("port %s of %s has its own %s", port.Key, g.Name, strings.Join(what, ", ")))
		}
		if slices.Contains(what, ownVLAN) {
			g.OddVLAN = append(g.OddVLAN, port.Key)
		}
	}
}

// uses reports whether an adapter of the host is plugged into a port group.
func (s *Snapshot) uses(d *DistributedSwitch, key string) bool {
	return slices.ContainsFunc(s.Vmkernels, func(v Vmkernel) bool { return v.Switch == d.Name && v.GroupKey == key }) ||
		slices.ContainsFunc(s.VMs, func(v VM) bool {
			return slices.ContainsFunc(v.NICs, func(n NIC) bool { return n.Switch == d.Name && n.GroupKey == key })
		})
}

// readSpec names every property of the one read. On a direct session the DVS
// itself, and port groups as whole objects, are not to be asked for: hostd
// answers both with a fault (vmware/vic#729).
func readSpec(host, root types.ManagedObjectReference, vcenter bool, o readOptions) types.PropertyFilterSpec {
	follow := func(kind, path string, next ...types.BaseSelectionSpec) types.BaseSelectionSpec {
		return &types.TraversalSpec{Type: kind, Path: path, SelectSet: next}
	}
	spec := types.PropertyFilterSpec{ObjectSet: []types.ObjectSpec{{Obj: host}}}
	// One specification per type: what a server makes of two is not documented.
	want := func(kind string, paths ...string) {
		for i := range spec.PropSet {
			if p := &spec.PropSet[i]; p.Type == kind {
				p.PathSet = append(p.PathSet, paths...)
				return
			}
		}
		spec.PropSet = append(spec.PropSet, types.PropertySpec{Type: kind, PathSet: paths})
	}
	walk := func(more ...types.BaseSelectionSpec) {
		spec.ObjectSet[0].SelectSet = append(spec.ObjectSet[0].SelectSet, more...)
	}
	want("HostSystem", "name", "runtime.connectionState", "config.network", "config.virtualNicManagerInfo", "configManager.networkSystem")
	want("VirtualMachine", "name", "config.hardware.device", "config.template", "runtime.powerState")
	want("DistributedVirtualPortgroup", "name", "key", "config.type", "config.defaultPortConfig")
	want("Task", "info")
	var tasks []types.BaseSelectionSpec
	if !o.Brief {
		tasks = append(tasks, follow("ManagedEntity", "recentTask"))
		walk(tasks...)
		walk(follow("HostSystem", "datastore"))
		want("Datastore", "name", "info")
		want("HostSystem", "parent", "config.storageDevice.hostBusAdapter", "config.product.version", "summary.managementServerIp")
		want("VirtualMachine", "config.vAppConfig", "guest.ipAddress", "guest.hostName", "guest.net", "snapshot")
	}
	walk(follow("HostSystem", "vm", tasks...))
	if !vcenter {
		walk(follow("HostSystem", "network"))
	} else {
		walk(follow("HostSystem", "network", follow("DistributedVirtualPortgroup", "config.distributedVirtualSwitch", tasks...)))
		want("DistributedVirtualPortgroup", "config.policy", "config.uplink", "config.distributedVirtualSwitch")
		want("DistributedVirtualSwitch", "name", "uuid")
		if !o.Brief {
			walk(follow("HostSystem", "parent"))
			want("DistributedVirtualSwitch", "config")
			want("ClusterComputeResource", "configurationEx")
		}
		if o.AllDVS {
			again := &types.SelectionSpec{Name: "folder"}
			spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: root, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
				&types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: "folder"}, Type: "Folder", Path: "childEntity", SelectSet: []types.BaseSelectionSpec{
					again,
					follow("Datacenter", "networkFolder", again),
					follow("DistributedVirtualSwitch", "portgroup"),
					follow("DistributedVirtualSwitch", "recentTask"),
				}},
			}})
		}
	}
	for _, t := range o.Tasks {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: t})
	}
	return spec
}

// addFacts has the read tell the facts of the host along. It returns the
// properties that nothing but the facts needs.
func addFacts(spec *types.PropertyFilterSpec, paths []string) (only []string) {
	i := slices.IndexFunc(spec.PropSet, func(p types.PropertySpec) bool { return p.Type == "HostSystem" })
	p := &spec.PropSet[i]
	for _, path := range paths {
		whole := slices.ContainsFunc(p.PathSet, func(have string) bool { return have == path || strings.HasPrefix(have, path+".") })
		if !slices.Contains(p.PathSet, path) {
			// What lies below comes along.
			p.PathSet = slices.DeleteFunc(p.PathSet, func(have string) bool { return strings.HasPrefix(have, path+".") })
			p.PathSet = append(p.PathSet, path)
		}
		if !whole {
			only = append(only, path)
		}
	}
	return only
}

// excuse drops from what is missing the properties that a plan can do without.
func excuse(objects []types.ObjectContent, paths []string) {
	for i := range objects {
		objects[i].MissingSet = slices.DeleteFunc(objects[i].MissingSet, func(m types.MissingProperty) bool { return slices.Contains(paths, m.Path) })
	}
}

func factsOf(objects []types.ObjectContent, host types.ManagedObjectReference, vcenter bool) (*esxi.Facts, error) {
	var some []types.ObjectContent
	for _, o := range objects {
		if o.Obj == host {
			some = append(some, o)
		}
	}
	var hosts []mo.HostSystem
	if err := mo.LoadObjectContent(some, &hosts); err != nil || len(hosts) != 1 {
		return nil, err
	}
	return esxi.NewFacts(&hosts[0], vcenter), nil
}

// newSnapshot puts what was read into shape. It is pure.
func newSnapshot(objects []types.ObjectContent, host types.ManagedObjectReference, vcenter bool) (*Snapshot, error) {
	var all struct {
		hosts      []mo.HostSystem
		vms        []mo.VirtualMachine
		datastores []mo.Datastore
		tasks      []mo.Task
		groups     []mo.DistributedVirtualPortgroup
		switches   []mo.DistributedVirtualSwitch
		clusters   []mo.ClusterComputeResource
	}
	// A host hides from a direct session what belongs to vCenter, property by
	// property. What a plan then does not know it refuses by name; of the host
	// and its machines everything must be there.
	const partly = true
	for _, load := range []struct {
		partly bool
		dst    any
		kinds  []string
	}{
		{!partly, &all.hosts, []string{"HostSystem"}}, {!partly, &all.vms, []string{"VirtualMachine"}},
		{partly, &all.datastores, []string{"Datastore"}}, {partly, &all.tasks, []string{"Task"}},
		{partly, &all.groups, []string{"DistributedVirtualPortgroup"}},
		{partly, &all.switches, []string{"DistributedVirtualSwitch", "VmwareDistributedVirtualSwitch"}},
		{partly, &all.clusters, []string{"ClusterComputeResource"}},
	} {
		var some []types.ObjectContent
		for _, o := range objects {
			if slices.Contains(load.kinds, o.Obj.Type) {
				if load.partly {
					o.MissingSet = nil
				}
				some = append(some, o)
			}
		}
		if err := mo.LoadObjectContent(some, load.dst); err != nil {
			return nil, err
		}
	}
	i := slices.IndexFunc(all.hosts, func(h mo.HostSystem) bool { return h.Self == host })
	if i < 0 || all.hosts[i].Config == nil || all.hosts[i].Config.Network == nil {
		return nil, fmt.Errorf("the host shows no network configuration")
	}
	h := &all.hosts[i]
	s := &Snapshot{
		Host: h.Name, Ref: host, VCenter: vcenter, State: string(h.Runtime.ConnectionState),
		ManagedBy: h.Summary.ManagementServerIp,
		Version:   h.Config.Product.Version,
	}
	if ns := h.ConfigManager.NetworkSystem; ns != nil {
		s.NetworkSystem = *ns
	}
	for _, c := range all.clusters {
		if ex, ok := c.ConfigurationEx.(*types.ClusterConfigInfoEx); ok && h.Parent != nil && c.Self == *h.Parent {
			s.HA = ex.DasConfig.Enabled != nil && *ex.DasConfig.Enabled
		}
	}
	s.readSwitches(h.Config.Network, all.groups, all.switches)
	s.readVmkernels(h.Config)
	s.readVMs(all.vms)
	s.readStorage(h.Config.StorageDevice, all.datastores)
	for _, t := range all.tasks {
		if t.Info.State == types.TaskInfoStateRunning || t.Info.State == types.TaskInfoStateQueued {
			s.RunningTasks = append(s.RunningTasks, fmt.Sprintf("%s on %s", taskName(t.Info), t.Info.EntityName))
		}
	}
	slices.Sort(s.RunningTasks)
	s.RunningTasks = slices.Compact(s.RunningTasks)
	return s, nil
}

func taskName(info types.TaskInfo) string {
	switch {
	case info.DescriptionId != "":
		return info.DescriptionId
	case info.Name != "":
		return info.Name
	}
	return "a task"
}

func taskStates(objects []types.ObjectContent, wanted []types.ManagedObjectReference) ([]TaskState, error) {
	var some []types.ObjectContent
	for _, o := range objects {
		if slices.Contains(wanted, o.Obj) {
			some = append(some, o)
		}
	}
	var tasks []mo.Task
	if err := mo.LoadObjectContent(some, &tasks); err != nil {
		return nil, err
	}
	var out []TaskState
	for _, t := range tasks {
		out = append(out, newTaskState(t.Self, t.Info.State, t.Info.Error))
	}
	return out, nil
}

func newTaskState(ref types.ManagedObjectReference, state types.TaskInfoState, fault *types.LocalizedMethodFault) TaskState {
	t := TaskState{Ref: ref, State: state}
	if state == types.TaskInfoStateError {
		t.Type, t.Fault = esxi.FaultWords(fault)
		if t.Fault == "" {
			t.Fault = "failed without a reason"
		}
	}
	return t
}

func (s *Snapshot) readSwitches(n *types.HostNetworkInfo, groups []mo.DistributedVirtualPortgroup, switches []mo.DistributedVirtualSwitch) {
	device := map[string]string{} // pnic key → device
	for _, p := range n.Pnic {
		u := Uplink{Device: p.Device, MAC: p.Mac}
		if p.LinkSpeed != nil {
			u.Link = int(p.LinkSpeed.SpeedMb)
		}
		device[p.Key] = p.Device
		s.Uplinks = append(s.Uplinks, u)
	}
	claim := func(dev, name string, kind Kind) {
		for i := range s.Uplinks {
			if s.Uplinks[i].Device == dev {
				s.Uplinks[i].Switch, s.Uplinks[i].Kind = name, kind
			}
		}
	}
	for _, v := range n.Vswitch {
		sw := StandardSwitch{Name: v.Name, Spec: v.Spec}
		for _, key := range v.Pnic {
			if dev := device[key]; dev != "" {
				sw.Uplinks = append(sw.Uplinks, dev)
			}
		}
		if bond, ok := v.Spec.Bridge.(*types.HostVirtualSwitchBondBridge); ok && len(sw.Uplinks) == 0 {
			sw.Uplinks = slices.Clone(bond.NicDevice)
		}
		for _, dev := range sw.Uplinks {
			claim(dev, v.Name, Standard)
		}
		for _, pg := range n.Portgroup {
			if pg.Spec.VswitchName == v.Name {
				sw.PortGroups = append(sw.PortGroups, PortGroup{
					Label: pg.Spec.Name, VLAN: int(pg.Spec.VlanId), Spec: pg.Spec,
					Policy: hostPolicy(sw.Uplinks, v.Spec.Policy, &pg.Spec.Policy),
				})
			}
		}
		slices.SortFunc(sw.PortGroups, func(a, b PortGroup) int { return strings.Compare(a.Label, b.Label) })
		s.Standard = append(s.Standard, sw)
	}
	for _, p := range n.ProxySwitch {
		d := DistributedSwitch{UUID: p.DvsUuid, Name: p.DvsName, Member: true, MTU: int(p.Mtu)}
		if b, ok := p.Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking); ok {
			d.Members = b.PnicSpec
		}
		upg := ""
		for _, m := range d.Members {
			claim(m.PnicDevice, p.DvsName, Distributed)
			upg = m.UplinkPortgroupKey
		}
		for _, port := range p.UplinkPort {
			d.Ports = append(d.Ports, UplinkPort{Key: port.Key, Name: port.Value, PortGroupKey: upg})
		}
		for _, l := range p.HostLag {
			d.LAGs = append(d.LAGs, l.LagName)
		}
		s.Distributed = append(s.Distributed, d)
	}
	for _, sw := range switches {
		if sw.Uuid == "" {
			continue // hidden: it cannot be matched with the host's part of it
		}
		d := s.dvs(sw.Uuid)
		if d == nil {
			s.Distributed = append(s.Distributed, DistributedSwitch{UUID: sw.Uuid, Name: sw.Name})
			d = &s.Distributed[len(s.Distributed)-1]
		}
		d.Ref = sw.Self
		if d.Name == "" {
			d.Name = sw.Name
		}
		d.readConfig(sw.Config)
	}
	s.readGroups(n, groups)
	if c := n.IpRouteConfig; c != nil {
		if g := c.GetHostIpRouteConfig().DefaultGateway; g != "" {
			s.Gateways = append(s.Gateways, g)
		}
	}
	if c := n.DnsConfig; c != nil {
		s.DNS = append(s.DNS, c.GetHostDnsConfig().Address...)
	}
	for _, stack := range n.NetStackInstance {
		if c := stack.IpRouteConfig; c != nil {
			if g := c.GetHostIpRouteConfig().DefaultGateway; g != "" && !slices.Contains(s.Gateways, g) {
				s.Gateways = append(s.Gateways, g)
			}
		}
	}
}

// readConfig takes from a DVS's configuration what a plan must know or tell.
func (d *DistributedSwitch) readConfig(config types.BaseDVSConfigInfo) {
	if config == nil {
		return
	}
	base := config.GetDVSConfigInfo()
	if p, ok := base.UplinkPortPolicy.(*types.DVSNameArrayUplinkPortPolicy); ok {
		d.UplinkNames = p.UplinkPortName
	}
	if base.NetworkResourceManagementEnabled {
		d.Features = append(d.Features, "Network I/O Control shares and reservations")
	}
	for _, h := range base.HealthCheckConfig {
		if on := h.GetDVSHealthCheckConfig().Enable; on != nil && *on {
			d.Features = append(d.Features, "health check")
			break
		}
	}
	v, ok := config.(*types.VMwareDVSConfigInfo)
	if !ok {
		return
	}
	if d.MTU == 0 {
		d.MTU = int(v.MaxMtu)
	}
	if v.IpfixConfig != nil && v.IpfixConfig.CollectorIpAddress != "" {
		d.Features = append(d.Features, "NetFlow")
	}
	if len(v.VspanSession) > 0 {
		d.Features = append(d.Features, "port mirroring")
	}
	for _, l := range v.LacpGroupConfig {
		if !slices.Contains(d.LAGs, l.Name) && !d.Member {
			d.LAGs = append(d.LAGs, l.Name)
		}
	}
}

// readGroups sorts distributed port groups to their switches. vCenter names
// the switch of each; a host does not, so there the adapters that are connected
// tell, and where the host has one proxy switch it is that.
func (s *Snapshot) readGroups(n *types.HostNetworkInfo, groups []mo.DistributedVirtualPortgroup) {
	owner := map[string]string{} // port group key → switch UUID, as seen in connections
	for _, v := range n.Vnic {
		if c := v.Spec.DistributedVirtualPort; c != nil {
			owner[c.PortgroupKey] = c.SwitchUuid
		}
	}
	uplinkGroups := map[string]bool{}
	for _, d := range s.Distributed {
		for _, m := range d.Members {
			owner[m.UplinkPortgroupKey] = d.UUID
			uplinkGroups[m.UplinkPortgroupKey] = true
		}
	}
	for _, g := range groups {
		pg := newDVPortGroup(g)
		if uplinkGroups[pg.Key] {
			pg.Uplink = true
		}
		if !s.VCenter && strings.Contains(pg.Name, "-DVUplinks-") {
			pg.Uplink = true // a host does not say it; this is how vCenter names them
		}
		var d *DistributedSwitch
		if ref := g.Config.DistributedVirtualSwitch; ref != nil {
			i := slices.IndexFunc(s.Distributed, func(d DistributedSwitch) bool { return d.Ref == *ref })
			if i >= 0 {
				d = &s.Distributed[i]
			}
		} else if d = s.dvs(owner[pg.Key]); d == nil && len(s.Distributed) == 1 {
			d = &s.Distributed[0]
		}
		if d == nil {
			continue
		}
		if pg.Uplink {
			for i := range d.Ports {
				d.Ports[i].PortGroupKey = pg.Key
			}
			if lacp(g.Config.DefaultPortConfig) {
				d.LAGs = append(d.LAGs, "LACP on "+pg.Name)
			}
		}
		d.PortGroups = append(d.PortGroups, pg)
	}
	for i := range s.Distributed {
		slices.SortFunc(s.Distributed[i].PortGroups, func(a, b DVPortGroup) int {
			return strings.Compare(a.Name+"\x00"+a.Key, b.Name+"\x00"+b.Key)
		})
	}
}

func newDVPortGroup(g mo.DistributedVirtualPortgroup) DVPortGroup {
	pg := DVPortGroup{Key: g.Key, Name: g.Name, Ref: g.Self, Ephemeral: g.Config.Type == string(types.DistributedVirtualPortgroupPortgroupTypeEphemeral)}
	if u := g.Config.Uplink; u != nil {
		pg.Uplink = *u
	}
	if p, ok := g.Config.Policy.(*types.VMwareDVSPortgroupPolicy); ok {
		pg.Overrides = p.VlanOverrideAllowed || p.UplinkTeamingOverrideAllowed || p.SecurityPolicyOverrideAllowed || p.ShapingOverrideAllowed
	}
	pg.readSetting(g.Config.DefaultPortConfig)
	return pg
}

func (s *Snapshot) readVmkernels(c *types.HostConfigInfo) {
	services := map[string][]string{}
	if m := c.VirtualNicManagerInfo; m != nil {
		for _, n := range m.NetConfig {
			for _, sel := range n.SelectedVnic {
				for _, cand := range n.CandidateVnic {
					if cand.Key == sel {
						services[cand.Device] = append(services[cand.Device], n.NicType)
					}
				}
			}
		}
	}
	for _, v := range c.Network.Vnic {
		k := Vmkernel{
			Device: v.Device, MAC: v.Spec.Mac, MTU: int(v.Spec.Mtu), Stack: v.Spec.NetStackInstanceKey,
			Services: services[v.Device], Spec: v.Spec,
		}
		slices.Sort(k.Services)
		if ip := v.Spec.Ip; ip != nil {
			k.IP, k.Mask, k.DHCP = ip.IpAddress, ip.SubnetMask, ip.Dhcp
		}
		if p := v.Spec.DistributedVirtualPort; p != nil {
			k.Kind, k.GroupKey = Distributed, p.PortgroupKey
			if d := s.dvs(p.SwitchUuid); d != nil {
				k.Switch = d.Name
				if g := d.group(p.PortgroupKey); g != nil {
					k.Group, k.VLAN = g.Name, g.VLAN
				}
			}
		} else {
			k.Kind, k.Group = Standard, cmp.Or(v.Spec.Portgroup, v.Portgroup)
			if sw, g := s.portGroup(k.Group); g != nil {
				k.Switch, k.VLAN = sw.Name, taggedVLAN(g.VLAN)
			}
		}
		s.Vmkernels = append(s.Vmkernels, k)
	}
}

func (s *Snapshot) readVMs(vms []mo.VirtualMachine) {
	for _, m := range vms {
		v := VM{Ref: m.Self, Name: m.Name, On: m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn, Snapshots: m.Snapshot != nil}
		if g := m.Guest; g != nil {
			v.HostName = g.HostName
			if g.IpAddress != "" {
				v.IPs = append(v.IPs, g.IpAddress)
			}
			for _, n := range g.Net {
				for _, ip := range n.IpAddress {
					if !slices.Contains(v.IPs, ip) {
						v.IPs = append(v.IPs, ip)
					}
				}
			}
		}
		if m.Config != nil {
			v.Template = m.Config.Template
			if a := m.Config.VAppConfig; a != nil {
				for _, product := range a.GetVmConfigInfo().Product {
					if v.Product == "" || strings.HasPrefix(product.Name, vcsaProduct) {
						v.Product = product.Name
					}
				}
			}
			for _, d := range m.Config.Hardware.Device {
				if card, ok := d.(types.BaseVirtualEthernetCard); ok {
					v.NICs = append(v.NICs, s.newNIC(d, card.GetVirtualEthernetCard()))
				}
			}
		}
		s.VMs = append(s.VMs, v)
	}
	slices.SortFunc(s.VMs, func(a, b VM) int { return strings.Compare(a.Name+a.Ref.Value, b.Name+b.Ref.Value) })
}

func (s *Snapshot) newNIC(d types.BaseVirtualDevice, card *types.VirtualEthernetCard) NIC {
	n := NIC{Key: card.Key, MAC: card.MacAddress, Device: d}
	if info := card.DeviceInfo; info != nil {
		n.Label = info.GetDescription().Label
	}
	if c := card.Connectable; c != nil {
		n.Connected = c.Connected
	}
	switch b := card.Backing.(type) {
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		n.Kind, n.GroupKey = Distributed, b.Port.PortgroupKey
		if d := s.dvs(b.Port.SwitchUuid); d != nil {
			n.Switch = d.Name
			if g := d.group(b.Port.PortgroupKey); g != nil {
				n.Group = g.Name
			}
		}
	case *types.VirtualEthernetCardNetworkBackingInfo:
		n.Kind, n.Group = Standard, b.DeviceName
		if sw, _ := s.portGroup(b.DeviceName); sw != nil {
			n.Switch = sw.Name
		}
	}
	return n
}

// readStorage lists datastores and targets that the host reaches over IP: they
// are away for as long as the uplink is between switches.
func (s *Snapshot) readStorage(dev *types.HostStorageDeviceInfo, datastores []mo.Datastore) {
	for _, d := range datastores {
		if nas, ok := d.Info.(*types.NasDatastoreInfo); ok && nas.Nas != nil && nas.Nas.Type != string(types.HostFileSystemVolumeFileSystemTypeOTHER) && nas.Nas.RemoteHost != "" {
			servers := nas.Nas.RemoteHostNames // NFS 4.1 may have several
			if len(servers) == 0 {
				servers = []string{nas.Nas.RemoteHost}
			}
			for _, server := range servers {
				s.IPStorage = append(s.IPStorage, IPStorage{Name: d.Name, Kind: "NFS", Address: server})
			}
		}
	}
	if dev == nil {
		return
	}
	for _, hba := range dev.HostBusAdapter {
		iscsi, ok := hba.(*types.HostInternetScsiHba)
		if !ok {
			continue
		}
		for _, t := range iscsi.ConfiguredSendTarget {
			s.IPStorage = append(s.IPStorage, IPStorage{Name: iscsi.Device, Kind: "iSCSI", Address: t.Address})
		}
		for _, t := range iscsi.ConfiguredStaticTarget {
			if !slices.ContainsFunc(s.IPStorage, func(i IPStorage) bool { return i.Kind == "iSCSI" && i.Address == t.Address }) {
				s.IPStorage = append(s.IPStorage, IPStorage{Name: iscsi.Device, Kind: "iSCSI", Address: t.Address})
			}
		}
	}
}

func (s *Snapshot) dvs(uuid string) *DistributedSwitch {
	for i := range s.Distributed {
		if uuid != "" && s.Distributed[i].UUID == uuid {
			return &s.Distributed[i]
		}
	}
	return nil
}

func (s *Snapshot) dvsNamed(name string) *DistributedSwitch {
	for i := range s.Distributed {
		if s.Distributed[i].Name == name {
			return &s.Distributed[i]
		}
	}
	return nil
}

func (s *Snapshot) standard(name string) *StandardSwitch {
	for i := range s.Standard {
		if s.Standard[i].Name == name {
			return &s.Standard[i]
		}
	}
	return nil
}

// portGroup finds a standard port group: a label is unique on its host.
func (s *Snapshot) portGroup(label string) (*StandardSwitch, *PortGroup) {
	for i := range s.Standard {
		if g := s.Standard[i].group(label); g != nil {
			return &s.Standard[i], g
		}
	}
	return nil, nil
}

func (s *Snapshot) vmkernel(device string) *Vmkernel {
	for i := range s.Vmkernels {
		if s.Vmkernels[i].Device == device {
			return &s.Vmkernels[i]
		}
	}
	return nil
}

func (s *Snapshot) uplink(device string) *Uplink {
	for i := range s.Uplinks {
		if s.Uplinks[i].Device == device {
			return &s.Uplinks[i]
		}
	}
	return nil
}

func (sw *StandardSwitch) group(label string) *PortGroup {
	for i := range sw.PortGroups {
		if sw.PortGroups[i].Label == label {
			return &sw.PortGroups[i]
		}
	}
	return nil
}

func (d *DistributedSwitch) group(key string) *DVPortGroup {
	for i := range d.PortGroups {
		if d.PortGroups[i].Key == key {
			return &d.PortGroups[i]
		}
	}
	return nil
}

func (d *DistributedSwitch) groupNamed(name string) *DVPortGroup {
	for i := range d.PortGroups {
		if d.PortGroups[i].Name == name && !d.PortGroups[i].Uplink {
			return &d.PortGroups[i]
		}
	}
	return nil
}

// slot returns the name of the uplink port that a member NIC sits on.
func (d *DistributedSwitch) slot(device string) string {
	for _, m := range d.Members {
		if m.PnicDevice == device {
			for _, p := range d.Ports {
				if p.Key == m.UplinkPortKey {
					return p.Name
				}
			}
		}
	}
	return ""
}

// inSubnet reports whether ip lies in the adapter's own subnet.
func (v *Vmkernel) inSubnet(ip string) bool {
	addr, mask, other := net.ParseIP(v.IP).To4(), net.ParseIP(v.Mask).To4(), net.ParseIP(ip).To4()
	if addr == nil || mask == nil || other == nil {
		return false
	}
	n := net.IPNet{IP: addr.Mask(net.IPMask(mask)), Mask: net.IPMask(mask)}
	return n.Contains(other)
}
