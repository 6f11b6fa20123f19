package vch

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// Ref is a managed object's reference.
type Ref = types.ManagedObjectReference

// Site is what one read says about the place where VCHs live.
type Site struct {
	VCenter    bool
	APIVersion string
	Thumbprint string // SHA-1 of the certificate of the connection; "" is unknown

	Root       Ref
	Names      map[Ref]node // of every folder, datacenter, compute resource and pool
	Computes   []Compute
	Pools      []Pool
	Hosts      []Host
	Datastores []Datastore
	Networks   []Network
	Machines   []Machine
	VMFolders  map[Ref]Ref // by datacenter

	Features        []string // of the licenses, in lower case; nil is unknown
	SerialPersisted *bool    // vCenter's option; nil is unknown
}

// node is an object's name and what it is in.
type node struct {
	Name   string
	Parent Ref
}

// Compute is a cluster, or a host that is in none.
type Compute struct {
	Ref, RootPool       Ref
	Name                string
	Cluster             bool
	DRS                 *bool // nil is unknown
	Networks, Datastore []Ref
}

// Pool is a resource pool.
type Pool struct {
	Ref, Parent, Owner Ref
	Name               string
}

// Host is an ESXi host.
type Host struct {
	Ref, Compute, FirewallSystem Ref
	Name, ManagedBy              string // address of the vCenter that manages it, "" is none
	Connected                    bool
	Rulesets                     []types.HostFirewallRuleset
	OutgoingBlocked              *bool // default policy of the firewall; nil is unknown
	VSwitches                    []types.HostVirtualSwitch
	PortGroups                   []types.HostPortGroup
	NetworkSystem                Ref
}

// Datastore is one datastore.
type Datastore struct {
	Ref        Ref
	Name       string
	Accessible bool
	Free       int64 // bytes
	Hosts      []Ref // that have it mounted
}

// Network is anything that an adapter can be attached to.
type Network struct {
	Ref                   Ref
	Name                  string
	DVSName, DVSUUID, Key string // of a distributed port group
	Uplink                bool   // its purpose is uplinks
	Hosts                 []Ref
	OpaqueID, OpaqueType  string
}

// Machine is a virtual machine, with the keys that tell a VCH.
type Machine struct {
	Ref, Parent, Pool Ref
	Host              Ref
	Name, UUID        string
	Path              string // [datastore] folder/name.vmx
	On                bool
	Networks          []Ref
	Keys              Keys
}

// The properties of a site. Keys of ExtraConfig are read one by one: the whole
// of it is 16 KB for each VCH.
var (
	siteProps = []types.PropertySpec{
		{Type: "Folder", PathSet: []string{"name", "parent"}},
		{Type: "Datacenter", PathSet: []string{"name", "parent", "vmFolder"}},
		{Type: "ComputeResource", PathSet: []string{"name", "parent", "resourcePool", "network", "datastore"}},
		{Type: "ClusterComputeResource", PathSet: []string{"name", "parent", "resourcePool", "network", "datastore", "configurationEx"}},
		{Type: "ResourcePool", PathSet: []string{"name", "parent", "owner"}},
		{Type: "Datastore", PathSet: []string{"name", "summary.accessible", "summary.freeSpace", "host"}},
		{Type: "Network", PathSet: []string{"name", "host"}},
		{Type: "OpaqueNetwork", PathSet: []string{"name", "host", "summary"}},
		{Type: "DistributedVirtualPortgroup", PathSet: []string{"name", "host", "key", "config.distributedVirtualSwitch", "tag"}},
		{Type: "DistributedVirtualSwitch", PathSet: []string{"name", "uuid"}},
	}
	hostProps = []string{"name", "parent", "runtime.connectionState", "summary.managementServerIp", "config.firewall", "configManager.firewallSystem", "configManager.networkSystem",
		"config.network.vswitch", "config.network.portgroup"}
)

// markerKeys tell a VCH of either age.
var markerKeys = []string{readPrefix + "init/common/id", oldReadPrefix + "init/common/id"}

// listKeys are read for each machine: enough to list VCHs and to count their
// containers.
var listKeys = append(slices.Clone(markerKeys),
	readPrefix+"init/version/Version", readPrefix+"init/version/BuildNumber", readPrefix+"init/version/GitCommit",
	oldReadPrefix+"init/version/Version", oldReadPrefix+"init/version/BuildNumber", oldReadPrefix+"init/version/GitCommit",
	writePrefix+"init.networks|client.assigned.IP", oldWritePrefix+"init.networks|client.assigned.IP",
	readPrefix+"init/sessions|docker-personality/cmd/Args~", oldReadPrefix+"init/sessions|docker-personality/cmd/Args~",
	readPrefix+"storage/image_stores|0/Path",
	readPrefix+"version/Version", readPrefix+"common/id", oldReadPrefix+"common/id", oldReadPrefix+"common/name", oldReadPrefix+"repo",
	keyMade, keyExpires, keyBridge, keyParents,
)

// labctl's own marks on a VCH. They are plain keys: the guest does not see
// them, and VIC ignores them.
const (
	keyMade    = "labctl.made"    // kinds of objects that its up created beside the machine
	keyExpires = "labctl.expires" // RFC 3339
	keyBridge  = "labctl.bridge"  // port group that labctl made for it, or for one beside it
	keyParents = "labctl.parents" // folders that labctl made on the way to its stores, joined by |
)

func extraPath(key string) string { return `config.extraConfig["` + key + `"]` }

func machineProps(keys []string) types.PropertySpec {
	p := types.PropertySpec{Type: "VirtualMachine", PathSet: []string{"name", "parent", "resourcePool", "runtime.powerState", "runtime.host", "summary.config.vmPathName", "summary.config.uuid", "network"}}
	for _, k := range keys {
		p.PathSet = append(p.PathSet, extraPath(k))
	}
	return p
}

// everywhere walks from the root folder to everything that siteProps names.
func everywhere() []types.BaseSelectionSpec {
	sel := func(names ...string) (out []types.BaseSelectionSpec) {
		for _, n := range names {
			out = append(out, &types.SelectionSpec{Name: n})
		}
		return out
	}
	step := func(name, kind, to string, then ...string) types.BaseSelectionSpec {
		return &types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: name}, Type: kind, Path: to, SelectSet: sel(then...)}
	}
	return []types.BaseSelectionSpec{
		step("folder", "Folder", "childEntity", "folder", "vms", "hosts", "stores", "nets", "switches", "compute", "pools"),
		step("vms", "Datacenter", "vmFolder", "folder"),
		step("hosts", "Datacenter", "hostFolder", "folder"),
		step("switches", "Datacenter", "networkFolder", "folder"),
		step("stores", "Datacenter", "datastore"),
		step("nets", "Datacenter", "network"),
		step("compute", "ComputeResource", "host"),
		step("pools", "ComputeResource", "resourcePool", "pool", "members"),
		step("pool", "ResourcePool", "resourcePool", "pool", "members"),
		step("members", "ResourcePool", "vm"),
	}
}

// machinesOnly walks to virtual machines alone, those in vApps included.
func machinesOnly() []types.BaseSelectionSpec {
	var out []types.BaseSelectionSpec
	for _, s := range everywhere() {
		switch t := s.(*types.TraversalSpec); t.Name {
		case "folder":
			t.SelectSet = []types.BaseSelectionSpec{&types.SelectionSpec{Name: "folder"}, &types.SelectionSpec{Name: "vms"}, &types.SelectionSpec{Name: "hosts"}, &types.SelectionSpec{Name: "pools"}}
			out = append(out, s)
		case "vms", "hosts", "pools", "pool", "members":
			out = append(out, s)
		}
	}
	return out
}

// ReadSite reads what up and down go by, in one API call on a host and three on
// vCenter. Licenses and options are read only for an installation.
func ReadSite(ctx context.Context, c *esxi.Client, forInstall bool) (*Site, error) {
	sc := c.Vim.ServiceContent
	props := append(slices.Clone(siteProps), machineProps(listKeys))
	props = append(props, types.PropertySpec{Type: "HostSystem", PathSet: hostProps})
	spec := types.PropertyFilterSpec{
		PropSet:   props,
		ObjectSet: []types.ObjectSpec{{Obj: sc.RootFolder, Skip: types.NewBool(true), SelectSet: everywhere()}},
	}
	if forInstall && sc.LicenseManager != nil && !c.IsVCenter() {
		spec.PropSet = append(spec.PropSet, types.PropertySpec{Type: "LicenseManager", PathSet: []string{"licenses"}})
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: *sc.LicenseManager})
	}
	objects, err := retrieve(ctx, c, spec)
	if err != nil {
		return nil, fmt.Errorf("read the inventory: %w", err)
	}
	s, err := newSite(objects)
	if err != nil {
		return nil, fmt.Errorf("read the inventory: %w", err)
	}
	s.VCenter, s.APIVersion, s.Root = c.IsVCenter(), sc.About.ApiVersion, sc.RootFolder
	if cert := c.Certificate(); cert != nil {
		s.Thumbprint = esxi.SHA1Fingerprint(cert)
	}
	if forInstall && s.VCenter {
		s.readVCenter(ctx, c)
	}
	return s, nil
}

// retrieve reads properties, a second time where the answer was lost: reading
// changes nothing.
func retrieve(ctx context.Context, c *esxi.Client, spec types.PropertyFilterSpec) (objects []types.ObjectContent, err error) {
	err = again(ctx, func() error {
		objects, err = esxi.Retrieve(ctx, c.Vim, spec)
		return err
	})
	return objects, err
}

// readVCenter reads what only vCenter has. Nothing of it is worth a failure:
// unknown is said as unknown.
func (s *Site) readVCenter(ctx context.Context, c *esxi.Client) {
	sc := c.Vim.ServiceContent
	if sc.Setting != nil {
		res, err := methods.QueryOptions(ctx, c.Vim, &types.QueryOptions{This: *sc.Setting, Name: optionSerial})
		if err == nil && len(res.Returnval) == 1 {
			is := fmt.Sprint(res.Returnval[0].GetOptionValue().Value) == "true"
			s.SerialPersisted = &is
		} else if err == nil {
			s.SerialPersisted = new(bool)
		}
	}
	if sc.LicenseManager == nil {
		return
	}
	objects, err := retrieve(ctx, c, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: "LicenseManager", PathSet: []string{"licenses"}}},
		ObjectSet: []types.ObjectSpec{{Obj: *sc.LicenseManager}},
	})
	if err != nil || len(objects) == 0 {
		return
	}
	for _, p := range objects[0].PropSet {
		s.licenses(p.Val)
	}
}

// optionSerial keeps the serial line of a container VM through vMotion.
const optionSerial = "config.vpxd.SerialPort.PersistNetworkBacking"

// licenses collects the features of all licenses.
func (s *Site) licenses(v types.AnyType) {
	list, ok := v.(types.ArrayOfLicenseManagerLicenseInfo)
	if !ok {
		return
	}
	s.Features = []string{}
	for _, l := range list.LicenseManagerLicenseInfo {
		if strings.Contains(strings.ToLower(l.Name+l.EditionKey+l.LicenseKey), "eval") || l.LicenseKey == "00000-00000-00000-00000-00000" {
			s.Features = append(s.Features, "evaluation")
		}
		for _, p := range l.Properties {
			if kv, ok := p.Value.(types.KeyValue); ok && p.Key == "feature" {
				s.Features = append(s.Features, strings.ToLower(kv.Key))
			}
		}
	}
}

// licensed reports a feature, by prefix: a feature may carry a count, as in
// serialuri:2.
func (s *Site) licensed(feature string) bool {
	return slices.ContainsFunc(s.Features, func(f string) bool { return f == "evaluation" || strings.HasPrefix(f, feature) })
}

func newSite(objects []types.ObjectContent) (*Site, error) {
	s := &Site{Names: map[Ref]node{}, VMFolders: map[Ref]Ref{}}
	switches := map[Ref][2]string{}
	of := map[Ref]Ref{} // port group → switch
	seen := map[Ref]bool{}
	for _, o := range objects {
		if seen[o.Obj] {
			continue
		}
		seen[o.Obj] = true
		p := properties{}
		for _, prop := range o.PropSet {
			p[prop.Name] = prop.Val
		}
		switch o.Obj.Type {
		case "Folder":
			s.Names[o.Obj] = node{p.text("name"), p.ref("parent")}
		case "Datacenter":
			s.Names[o.Obj] = node{p.text("name"), p.ref("parent")}
			s.VMFolders[o.Obj] = p.ref("vmFolder")
		case "ComputeResource", "ClusterComputeResource":
			c := Compute{Ref: o.Obj, RootPool: p.ref("resourcePool"), Name: p.text("name"), Cluster: o.Obj.Type == "ClusterComputeResource",
				Networks: p.refs("network"), Datastore: p.refs("datastore")}
			if ex, ok := p["configurationEx"].(types.ClusterConfigInfoEx); ok {
				c.DRS = ex.DrsConfig.Enabled
			}
			s.Computes = append(s.Computes, c)
			s.Names[o.Obj] = node{c.Name, p.ref("parent")}
		case "ResourcePool", "VirtualApp":
			pool := Pool{Ref: o.Obj, Parent: p.ref("parent"), Owner: p.ref("owner"), Name: p.text("name")}
			s.Pools = append(s.Pools, pool)
			s.Names[o.Obj] = node{pool.Name, pool.Parent}
		case "HostSystem":
			s.Hosts = append(s.Hosts, p.host(o.Obj))
		case "Datastore":
			d := Datastore{Ref: o.Obj, Name: p.text("name")}
			d.Accessible, _ = p["summary.accessible"].(bool)
			d.Free, _ = p["summary.freeSpace"].(int64)
			if mounts, ok := p["host"].(types.ArrayOfDatastoreHostMount); ok {
				for _, m := range mounts.DatastoreHostMount {
					d.Hosts = append(d.Hosts, m.Key)
				}
			}
			s.Datastores = append(s.Datastores, d)
		case "Network", "OpaqueNetwork", "DistributedVirtualPortgroup":
			n := Network{Ref: o.Obj, Name: p.text("name"), Hosts: p.refs("host"), Key: p.text("key")}
			of[o.Obj] = p.ref("config.distributedVirtualSwitch")
			if sum, ok := p["summary"].(types.OpaqueNetworkSummary); ok {
				n.OpaqueID, n.OpaqueType = sum.OpaqueNetworkId, sum.OpaqueNetworkType
			}
			if tags, ok := p["tag"].(types.ArrayOfTag); ok {
				n.Uplink = slices.ContainsFunc(tags.Tag, func(t types.Tag) bool { return t.Key == "SYSTEM/DVS.UPLINKPG" })
			}
			s.Networks = append(s.Networks, n)
		case "DistributedVirtualSwitch", "VmwareDistributedVirtualSwitch":
			switches[o.Obj] = [2]string{p.text("name"), p.text("uuid")}
		case "VirtualMachine":
			s.Machines = append(s.Machines, p.machine(o.Obj))
		case "LicenseManager":
			s.licenses(p["licenses"])
		}
	}
	for i, n := range s.Networks {
		s.Networks[i].DVSName, s.Networks[i].DVSUUID = switches[of[n.Ref]][0], switches[of[n.Ref]][1]
	}
	if len(s.Computes) == 0 && len(s.Machines) == 0 {
		return nil, errors.New("it shows neither hosts nor machines: may this user see them?")
	}
	return s, nil
}

// properties of one object by path.
type properties map[string]types.AnyType

func (p properties) text(path string) string { s, _ := p[path].(string); return s }
func (p properties) ref(path string) Ref     { r, _ := p[path].(Ref); return r }
func (p properties) refs(path string) []Ref {
	a, _ := p[path].(types.ArrayOfManagedObjectReference)
	return a.ManagedObjectReference
}

func (p properties) host(ref Ref) Host {
	h := Host{Ref: ref, Compute: p.ref("parent"), Name: p.text("name"), ManagedBy: p.text("summary.managementServerIp"),
		FirewallSystem: p.ref("configManager.firewallSystem"), NetworkSystem: p.ref("configManager.networkSystem")}
	h.Connected = p["runtime.connectionState"] == types.HostSystemConnectionStateConnected
	if f, ok := p["config.firewall"].(types.HostFirewallInfo); ok {
		h.Rulesets, h.OutgoingBlocked = f.Ruleset, f.DefaultPolicy.OutgoingBlocked
	}
	if v, ok := p["config.network.vswitch"].(types.ArrayOfHostVirtualSwitch); ok {
		h.VSwitches = v.HostVirtualSwitch
	}
	if v, ok := p["config.network.portgroup"].(types.ArrayOfHostPortGroup); ok {
		h.PortGroups = v.HostPortGroup
	}
	return h
}

func (p properties) machine(ref Ref) Machine {
	m := Machine{Ref: ref, Parent: p.ref("parent"), Pool: p.ref("resourcePool"), Host: p.ref("runtime.host"), Name: p.text("name"), UUID: p.text("summary.config.uuid"),
		Path: p.text("summary.config.vmPathName"), Networks: p.refs("network"), Keys: Keys{}}
	m.On = p["runtime.powerState"] == types.VirtualMachinePowerStatePoweredOn
	for name, v := range p {
		m.Keys.take(name, v)
	}
	return m
}

// take files what a property path says about ExtraConfig, and reports whether
// it did: vSphere names one key, a value below it, or sends all of them.
func (k Keys) take(path string, v types.AnyType) bool {
	if path == "config.extraConfig" {
		list, ok := v.(types.ArrayOfOptionValue)
		for _, o := range list.OptionValue {
			k.put(o.GetOptionValue())
		}
		return ok
	}
	rest, ok := strings.CutPrefix(path, `config.extraConfig["`)
	if !ok {
		return false
	}
	key, below, ok := strings.Cut(rest, `"]`)
	switch v := v.(type) {
	case nil:
		delete(k, key)
		return ok
	case types.OptionValue:
		k.put(&v)
		return ok
	case *types.OptionValue:
		k.put(v)
		return ok
	case string:
		if below == "" || below == ".value" {
			k[key] = v
			return ok
		}
	}
	return false
}

// put files one value. Values that are no text belong to others than VIC.
func (k Keys) put(o *types.OptionValue) {
	if text, ok := o.Value.(string); ok {
		k[o.Key] = text
	}
}

// path returns the inventory path of an object, as govc and VIC write it.
func (s *Site) path(r Ref) string {
	var parts []string
	for depth := 0; r != s.Root && depth < 64; depth++ {
		n, ok := s.Names[r]
		if !ok {
			break
		}
		parts = append(parts, n.Name)
		r = n.Parent
	}
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/")
}

// datacenter returns the datacenter that an object is in.
func (s *Site) datacenter(r Ref) Ref {
	for depth := 0; r.Type != "Datacenter" && depth < 64; depth++ {
		n, ok := s.Names[r]
		if !ok {
			return Ref{}
		}
		r = n.Parent
	}
	return r
}

func find[T any](list []T, match func(T) bool) *T {
	if i := slices.IndexFunc(list, match); i >= 0 {
		return &list[i]
	}
	return nil
}

// folder splits [datastore] folder/file into datastore and folder.
func splitPath(p string) (datastore, folder string) {
	rest, ok := strings.CutPrefix(p, "[")
	if !ok {
		return "", ""
	}
	datastore, file, ok := strings.Cut(rest, "]")
	if !ok {
		return "", ""
	}
	folder = path.Dir(strings.TrimSpace(file))
	if folder == "." {
		folder = ""
	}
	return datastore, folder
}

// onStore returns [datastore] path.
func onStore(datastore string, parts ...string) string {
	return "[" + datastore + "] " + path.Join(parts...)
}
