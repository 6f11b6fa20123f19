package sim

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// current refuses an edit that was made up against an older version of what it edits.
func current(version string, now int, what string) error {
	if version == "" || version == strconv.Itoa(now) {
		return nil
	}
	return refuse(&types.ConcurrentAccess{}, "%s has changed: configVersion is %d, not %s", what, now, version)
}

// memberChange is one host's part in an edit of a distributed switch.
type memberChange struct {
	op, host string
	backing  types.BaseDistributedVirtualSwitchHostMemberBacking
}

// reconfigure evaluates an edit of a distributed switch: members that join, leave or change uplinks, and its MTU.
func (w *world) reconfigure(uuid, version string, mtu int32, members []memberChange) (*world, error) {
	n := w.clone()
	d := n.editDVS(uuid)
	if err := current(version, d.version, d.name); err != nil {
		return nil, err
	}
	if mtu != 0 {
		if mtu < minMTU || mtu > maxMTU {
			return nil, invalid("spec.maxMtu", "MTU %d is not within %d to %d", mtu, minMTU, maxMTU)
		}
		d.mtu = mtu
	}
	d.version++
	for _, m := range members {
		h := n.editHost(m.host)
		if h == nil {
			return nil, invalid("spec.host.host", "there is no such host")
		}
		d := n.dvs(uuid)
		member := h.proxy(uuid) != nil
		op := types.ConfigSpecOperation(m.op)
		switch {
		case op == types.ConfigSpecOperationAdd && member:
			return nil, alreadyExists(m.host)
		case op == types.ConfigSpecOperationAdd:
			d = n.editDVS(uuid)
			d.join(m.host)
			h.proxies = append(h.proxies, proxySwitch{dvs: uuid})
		case !member:
			return nil, notFound("%s is not a member of %s", m.host, d.name)
		case op == types.ConfigSpecOperationRemove:
			if err := n.leaveDVS(h, d); err != nil {
				return nil, err
			}
			continue
		case op != types.ConfigSpecOperationEdit:
			return nil, invalid("spec.host.operation", "%q is not a member operation", m.op)
		}
		if b, ok := m.backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking); ok {
			err := n.plugUplinks(h, d, b.PnicSpec)
			if err == nil {
				err = n.claims(h)
			}
			if err != nil {
				return nil, &refusal{fault: &types.DvsOperationBulkFault{HostFault: []types.DvsOperationBulkFaultFaultOnHost{{
					Fault: types.LocalizedMethodFault{Fault: faultOf(err), LocalizedMessage: err.Error()},
				}}}, why: err.Error()}
			}
		}
	}
	n.sweep()
	return n, nil
}

func (a *api) ReconfigureDvsTask(req *types.ReconfigureDvs_Task) soap.HasFault {
	spec := req.Spec.GetDVSConfigSpec()
	var mtu int32
	if vmware, ok := req.Spec.(*types.VMwareDVSConfigSpec); ok {
		mtu = vmware.MaxMtu
	}
	uuid := a.uuidOf(req.This)
	var members []memberChange
	var hosts []string
	for _, h := range spec.Host {
		name := a.nameOf(h.Host)
		members = append(members, memberChange{op: h.Operation, host: name, backing: h.Backing})
		if name != "" {
			hosts = append(hosts, name)
		}
	}
	task := a.startTask(req.This, "reconfigureDvs", func() (types.AnyType, error) {
		return nil, a.editSwitch(uuid, networkCall{method: "ReconfigureDvs", hosts: hosts, eval: func(w *world) (*world, error) {
			return w.reconfigure(uuid, spec.ConfigVersion, mtu, members)
		}})
	})
	return &methods.ReconfigureDvs_TaskBody{Res: &types.ReconfigureDvs_TaskResponse{Returnval: task}}
}

// editSwitch runs a change of a distributed switch; a second one meanwhile is a conflict.
func (a *api) editSwitch(uuid string, c networkCall) error {
	s := a.site
	s.mu.Lock()
	d := s.world.dvs(uuid)
	conflict := s.editing[uuid]
	if d != nil && !conflict {
		s.editing[uuid] = true
	}
	s.mu.Unlock()
	switch {
	case d == nil:
		return notFound("the distributed switch is gone")
	case conflict:
		return refuse(&types.ConcurrentAccess{}, "another edit of %s is under way", d.name)
	}
	defer func() { s.mu.Lock(); delete(s.editing, uuid); s.mu.Unlock() }()
	slices.Sort(c.hosts) // hosts are taken in one order, or two edits could wait for each other
	c.hosts = slices.Compact(c.hosts)
	return s.change(c)
}

func (a *api) uuidOf(dvs types.ManagedObjectReference) string {
	a.site.mu.RLock()
	defer a.site.mu.RUnlock()
	for uuid, sw := range a.switches {
		if sw.Self == dvs {
			return uuid
		}
	}
	return ""
}

// switchOf is the distributed switch of a port group.
func (a *api) switchOf(key string) string {
	a.site.mu.RLock()
	defer a.site.mu.RUnlock()
	for _, d := range a.site.world.switches {
		if d.group(key) != nil {
			return d.uuid
		}
	}
	return ""
}

func (a *api) nameOf(host types.ManagedObjectReference) string {
	for name, hs := range a.hosts {
		if hs.Self == host {
			return name
		}
	}
	return ""
}

// addGroups evaluates the creation of port groups and gives their keys.
func (w *world) addGroups(uuid string, specs []types.DVPortgroupConfigSpec) (*world, []string, error) {
	n := w.clone()
	d := n.editDVS(uuid)
	var keys []string
	for _, s := range specs {
		if s.Name == "" {
			return nil, nil, invalid("spec.name", "a port group needs a name")
		}
		if d.groupNamed(s.Name) != nil {
			return nil, nil, refuse(&types.DuplicateName{Name: s.Name}, "%s already has a port group %q", d.name, s.Name)
		}
		g := dvGroup{key: n.freeGroupKey(), name: s.Name, numPorts: int(s.NumPorts), autoExpand: true, version: 1,
			setting: portSetting(vlanID(0), d.uplinks, nil)}
		if err := g.respec(&s); err != nil {
			return nil, nil, err
		}
		d.addGroup(g)
		keys = append(keys, g.key)
	}
	d.version++
	return n, keys, nil
}

func (w *world) freeGroupKey() string {
	for i := 21; ; i++ {
		key := fmt.Sprintf("dvportgroup-%d", i)
		if !slices.ContainsFunc(w.switches, func(d *dvSwitch) bool { return d.group(key) != nil }) {
			return key
		}
	}
}

// respec takes over what a port group specification sets.
func (g *dvGroup) respec(s *types.DVPortgroupConfigSpec) error {
	switch types.DistributedVirtualPortgroupPortgroupType(s.Type) {
	case "":
	case types.DistributedVirtualPortgroupPortgroupTypeEphemeral:
		g.ephemeral = true
	case types.DistributedVirtualPortgroupPortgroupTypeEarlyBinding:
		g.ephemeral = false
	default:
		return notSupported("port binding %q", s.Type)
	}
	if s.Name != "" {
		g.name = s.Name
	}
	if s.AutoExpand != nil {
		g.autoExpand = *s.AutoExpand
	}
	if over, ok := s.DefaultPortConfig.(*types.VMwareDVSPortSetting); ok && over != nil {
		if v, ok := over.Vlan.(*types.VmwareDistributedVirtualSwitchVlanIdSpec); ok && (v.VlanId < 0 || v.VlanId > 4094) {
			return invalid("spec.defaultPortConfig.vlan.vlanId", "VLAN %d is not within 0 to 4094", v.VlanId)
		}
		g.setting = mergeSetting(g.setting, over)
	}
	return nil
}

func (a *api) AddDVPortgroupTask(req *types.AddDVPortgroup_Task) soap.HasFault {
	uuid := a.uuidOf(req.This)
	task := a.startTask(req.This, "addPortgroups", func() (types.AnyType, error) {
		_, err := a.addGroups(uuid, req.Spec)
		return nil, err
	})
	return &methods.AddDVPortgroup_TaskBody{Res: &types.AddDVPortgroup_TaskResponse{Returnval: task}}
}

func (a *api) CreateDVPortgroupTask(req *types.CreateDVPortgroup_Task) soap.HasFault {
	uuid := a.uuidOf(req.This)
	task := a.startTask(req.This, "createPortgroup", func() (types.AnyType, error) {
		keys, err := a.addGroups(uuid, []types.DVPortgroupConfigSpec{req.Spec})
		if err != nil {
			return nil, err
		}
		return types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: keys[0]}, nil
	})
	return &methods.CreateDVPortgroup_TaskBody{Res: &types.CreateDVPortgroup_TaskResponse{Returnval: task}}
}

func (a *api) addGroups(uuid string, specs []types.DVPortgroupConfigSpec) ([]string, error) {
	var keys []string
	err := a.editSwitch(uuid, networkCall{method: "AddDVPortgroup", eval: func(w *world) (*world, error) {
		after, k, err := w.addGroups(uuid, specs)
		keys = k
		return after, err
	}})
	return keys, err
}

// regroup evaluates an edit of a port group.
func (w *world) regroup(uuid, key string, spec *types.DVPortgroupConfigSpec) (*world, error) {
	n := w.clone()
	d := n.editDVS(uuid)
	g := d.group(key)
	if err := current(spec.ConfigVersion, g.version, g.name); err != nil {
		return nil, err
	}
	if other := d.groupNamed(spec.Name); other != nil && other != g {
		return nil, refuse(&types.DuplicateName{Name: spec.Name}, "%s already has a port group %q", d.name, spec.Name)
	}
	used := 0
	for port := range n.occupants(uuid) {
		if p := d.port(port); p != nil && p.group == key {
			used++
		}
	}
	was := g.ephemeral
	if err := g.respec(spec); err != nil {
		return nil, err
	}
	if g.ephemeral != was && used > 0 {
		return nil, inUse("DistributedVirtualPortgroup", g.name, "%s has %d connections: its binding stays", g.name, used)
	}
	if more := int(spec.NumPorts) - g.numPorts; spec.NumPorts > 0 && more > 0 {
		g.numPorts += more
		for range more {
			d.addPort(dvPort{group: key})
		}
	}
	g.version++
	d.version++
	return n, nil
}

func (a *api) ReconfigureDVPortgroupTask(req *types.ReconfigureDVPortgroup_Task) soap.HasFault {
	key, uuid := req.This.Value, a.switchOf(req.This.Value)
	task := a.startTask(req.This, "reconfigurePortgroup", func() (types.AnyType, error) {
		return nil, a.editSwitch(uuid, networkCall{method: "ReconfigureDVPortgroup", hosts: a.membersOf(uuid), eval: func(w *world) (*world, error) {
			return w.regroup(uuid, key, &req.Spec)
		}})
	})
	return &methods.ReconfigureDVPortgroup_TaskBody{Res: &types.ReconfigureDVPortgroup_TaskResponse{Returnval: task}}
}

func (a *api) membersOf(uuid string) []string {
	a.site.mu.RLock()
	defer a.site.mu.RUnlock()
	if d := a.site.world.dvs(uuid); d != nil {
		return slices.Clone(d.members)
	}
	return nil
}

// dropGroup evaluates the removal of a port group.
func (w *world) dropGroup(uuid, key string) (*world, error) {
	n := w.clone()
	d := n.editDVS(uuid)
	g := d.group(key)
	if g.uplink {
		return nil, notSupported("%s is the uplink port group", g.name)
	}
	for port, o := range n.occupants(uuid) {
		if p := d.port(port); p != nil && p.group == key {
			return nil, inUse("DistributedVirtualPortgroup", g.name, "%s %s is still on %s", o.kind, o.nic, g.name)
		}
	}
	d.removeGroup(key)
	d.version++
	return n, nil
}

// DestroyTask removes a distributed port group or switch.
func (a *api) DestroyTask(req *types.Destroy_Task) soap.HasFault {
	switch req.This.Type {
	case "Folder":
		return a.destroyFolder(req)
	case "ResourcePool":
		return a.destroyPool(req)
	}
	c := networkCall{method: "Destroy"}
	uuid := a.uuidOf(req.This)
	if key := req.This.Value; req.This.Type == "DistributedVirtualPortgroup" {
		uuid = a.switchOf(key)
		c.eval = func(w *world) (*world, error) { return w.dropGroup(uuid, key) }
	} else {
		c.eval = func(w *world) (*world, error) {
			d := w.dvs(uuid)
			if len(d.members) > 0 {
				return nil, inUse("DistributedVirtualSwitch", d.name, "%s still has members", d.name)
			}
			n := w.clone()
			n.switches = slices.DeleteFunc(n.switches, func(d *dvSwitch) bool { return d.uuid == uuid })
			return n, nil
		}
	}
	task := a.startTask(req.This, "destroy", func() (types.AnyType, error) { return nil, a.editSwitch(uuid, c) })
	return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task}}
}

func (a *api) QueryDvsByUuid(req *types.QueryDvsByUuid) soap.HasFault {
	a.site.mu.RLock()
	defer a.site.mu.RUnlock()
	res := &types.QueryDvsByUuidResponse{}
	if sw := a.switches[req.Uuid]; sw != nil {
		ref := sw.Self
		res.Returnval = &ref
	}
	return &methods.QueryDvsByUuidBody{Res: res}
}

// FetchDVPorts lists ports by who may have them, who has them, and where.
func (a *api) FetchDVPorts(req *types.FetchDVPorts) soap.HasFault {
	uuid := a.uuidOf(req.This)
	a.site.mu.RLock()
	defer a.site.mu.RUnlock()
	w := a.site.seen
	d := w.dvs(uuid)
	if d == nil {
		return &methods.FetchDVPortsBody{Fault_: soapFault(notFound("the distributed switch is gone"))}
	}
	taken := w.occupants(uuid)
	c := req.Criteria
	if c == nil {
		c = &types.DistributedVirtualSwitchPortCriteria{}
	}
	is := func(want *bool, have bool) bool { return want == nil || *want == have }
	res := &types.FetchDVPortsResponse{}
	for _, p := range d.ports {
		o, connected := taken[p.key]
		host := p.host
		if host == "" && connected {
			host = o.host
		}
		hosted := len(c.Host) == 0 || slices.ContainsFunc(c.Host, func(r types.ManagedObjectReference) bool { return a.nameOf(r) == host })
		inside := c.Inside == nil || *c.Inside
		grouped := len(c.PortgroupKey) == 0 || slices.Contains(c.PortgroupKey, p.group) == inside
		listed := len(c.PortKey) == 0 || slices.Contains(c.PortKey, p.key)
		active := connected && a.active(w, o)
		if !hosted || !grouped || !listed || !is(c.UplinkPort, p.host != "") || !is(c.Connected, connected) || !is(c.Active, active) {
			continue
		}
		port := types.DistributedVirtualPort{
			Key: p.key, DvsUuid: uuid, PortgroupKey: p.group,
			Config: types.DVPortConfigInfo{Name: p.name, ConfigVersion: "1", Setting: d.portSetting(&p)},
			State:  &types.DVPortState{RuntimeInfo: &types.DVPortStatus{LinkUp: active, Mtu: d.mtu, MacAddress: o.mac}},
		}
		if hs := a.hosts[host]; hs != nil {
			ref := hs.Self
			port.ProxyHost = &ref
		}
		if connected {
			port.ConnectionCookie = connection(attachment{dvGroup: p.group, port: p.key}).ConnectionCookie
			port.Connectee = a.connectee(o)
		}
		res.Returnval = append(res.Returnval, port)
	}
	return &methods.FetchDVPortsBody{Res: res}
}

// active says whether an occupant of a port is up: a linked adapter, a VMkernel adapter, a connected card of a running VM.
func (a *api) active(w *world, o occupant) bool {
	switch o.kind {
	case "pnic":
		return w.host(o.host).pnic(o.nic).mbps > 0
	case "vmVnic":
		v := w.vm(o.vm)
		return v.on && slices.ContainsFunc(v.nics, func(n nic) bool { return strconv.Itoa(int(n.key)) == o.nic && n.connect.Connected })
	}
	return true
}

func (a *api) connectee(o occupant) *types.DistributedVirtualSwitchPortConnectee {
	c := &types.DistributedVirtualSwitchPortConnectee{NicKey: o.nic, Type: o.kind}
	ref, ok := a.refs[o.vm]
	if o.kind != "vmVnic" {
		ref, ok = a.hosts[o.host].Self, true
	}
	if ok {
		c.ConnectedEntity = &ref
	}
	return c
}

// portSetting is a port's effective setting as the API shows it: what comes from the port group is marked inherited.
func (d *dvSwitch) portSetting(p *dvPort) *types.VMwareDVSPortSetting {
	group := d.group(p.group)
	s := *group.setting
	if s.UplinkTeamingPolicy != nil {
		t := *s.UplinkTeamingPolicy
		t.Inherited = true
		s.UplinkTeamingPolicy = &t
	}
	if s.SecurityPolicy != nil {
		t := *s.SecurityPolicy
		t.Inherited = true
		s.SecurityPolicy = &t
	}
	if s.MacManagementPolicy != nil {
		t := *s.MacManagementPolicy
		t.Inherited = true
		s.MacManagementPolicy = &t
	}
	for _, shaping := range []**types.DVSTrafficShapingPolicy{&s.InShapingPolicy, &s.OutShapingPolicy} {
		if *shaping != nil {
			t := **shaping
			t.Inherited = true
			*shaping = &t
		}
	}
	switch v := s.Vlan.(type) {
	case *types.VmwareDistributedVirtualSwitchVlanIdSpec:
		t := *v
		t.Inherited = true
		s.Vlan = &t
	case *types.VmwareDistributedVirtualSwitchTrunkVlanSpec:
		t := *v
		t.Inherited = true
		s.Vlan = &t
	case *types.VmwareDistributedVirtualSwitchPvlanSpec:
		t := *v
		t.Inherited = true
		s.Vlan = &t
	}
	return mergeSetting(&s, p.override)
}
