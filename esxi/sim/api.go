package sim

import (
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// api answers the methods that vcsim lacks or gets wrong, in one inventory. The inventory's handler sends them here,
// whatever object they were called on; requests still name it. It takes no part in vcsim's object locks, so that an
// operation that takes its time never keeps anyone from reading.
type api struct {
	mo.ExtensibleManagedObject // vcsim wants one in everything it registers
	*inventory

	changes *changes
	watchMu sync.Mutex
	watches map[watchKey]*watch
}

func (a *api) Lock()   {}
func (a *api) Unlock() {}

// answered lists, by managed object type, the methods of api, and for VMs those that vcsim does itself under api's eye.
var answered = map[string][]string{
	"HostNetworkSystem": {
		"UpdateNetworkConfig", "AddVirtualSwitch", "UpdateVirtualSwitch", "RemoveVirtualSwitch", "AddPortGroup", "UpdatePortGroup",
		"RemovePortGroup", "AddVirtualNic", "UpdateVirtualNic", "RemoveVirtualNic", "RefreshNetworkSystem", "QueryNetworkHint",
	},
	"ManagedMethodExecuter":           {"ExecuteSoap"},
	"HostServiceSystem":               {"StartService", "StopService", "RefreshServices"},
	"HostSystem":                      {"EnterLockdownMode", "ExitLockdownMode"},
	"HostVirtualNicManager":           {"QueryNetConfig", "SelectVnicForNicType", "DeselectVnicForNicType"},
	"DistributedVirtualSwitch":        {"ReconfigureDvs_Task", "FetchDVPorts", "AddDVPortgroup_Task", "CreateDVPortgroup_Task", "Destroy_Task"},
	"DistributedVirtualPortgroup":     {"ReconfigureDVPortgroup_Task", "Destroy_Task"},
	"DistributedVirtualSwitchManager": {"QueryDvsByUuid"},
	"VirtualMachine":                  {"ReconfigVM_Task", "PutUsbScanCodes", "CreateScreenshot_Task"},
	"Datacenter":                      {"PowerOnMultiVM_Task"},
	"AuthorizationManager":            {"DisableMethods", "EnableMethods"},
	"HostFirewallSystem":              {"EnableRuleset", "DisableRuleset", "RefreshFirewall"},
	"Folder":                          {"CreateVM_Task", "Destroy_Task"},
	"FileManager":                     {"DeleteDatastoreFile_Task"},
	"SessionManager":                  {"AcquireGenericServiceTicket"},
	"ResourcePool":                    {"ImportVApp", "CreateResourcePool", "UpdateConfig", "Destroy_Task"},
}

// overseen lists the methods that vcsim carries out and after which the world and the other inventory are brought up
// to date.
var overseen = map[string][]string{
	"VirtualMachine": {
		"PowerOnVM_Task", "PowerOffVM_Task", "SuspendVM_Task", "ResetVM_Task", "ShutdownGuest", "RebootGuest", "StandbyGuest",
		"Rename_Task", "MarkAsTemplate", "MarkAsVirtualMachine", "UpgradeVM_Task", "Destroy_Task", "UnregisterVM", "CloneVM_Task",
	},
	"Folder": {"RegisterVM_Task"},
}

// harmless lists methods that leave vcsim's own objects as they are; api's own, apart from those on VMs, folders and
// pools, do so as well.
var harmless = []string{
	"RetrieveServiceContent", "Login", "Logout", "SessionIsActive", "CurrentTime", "Fetch",
	"RetrieveProperties", "RetrievePropertiesEx", "ContinueRetrievePropertiesEx", "CancelRetrievePropertiesEx",
	"CreateFilter", "DestroyPropertyFilter", "CreatePropertyCollector", "DestroyPropertyCollector",
	"WaitForUpdates", "WaitForUpdatesEx", "CheckForUpdates", "CancelWaitForUpdates",
	"CreateContainerView", "CreateListView", "ModifyListView", "DestroyView",
	"FindByInventoryPath", "FindByIp", "FindAllByIp", "FindByDnsName", "FindAllByDnsName", "FindByUuid", "FindAllByUuid", "FindChild",
	"QueryOptions", "RetrieveManagedMethodExecuter", "RetrieveDynamicTypeManager", "QueryEvents", "QueryAssignedLicenses", "ReconfigVM_Task", "PutUsbScanCodes", "TerminateSession",
}

// route installs the api in front of vcsim's own methods.
func (in *inventory) route() {
	a := &api{inventory: in, changes: newChanges(), watches: map[watchKey]*watch{}}
	in.reg.AddHandler(a.changes)
	a.Self = types.ManagedObjectReference{Type: "LabsimAPI", Value: "labsim"}
	in.reg.Put(a)
	in.api = a
	in.reg.Handler = func(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
		if in.direct() {
			if f := in.unreadable(m); f != nil {
				return nil, f
			}
		}
		own := slices.Contains(answered[m.This.Type], m.Name)
		if !slices.Contains(harmless, m.Name) && !(own && worldly(m.This.Type)) {
			in.site.touched.Store(true)
		}
		switch {
		case own, a.waitsHere(ctx, m):
			m.This = a.Self
		case slices.Contains(overseen[m.This.Type], m.Name):
			m.This, m.Name = a.Self, "Oversee"
		}
		return nil, nil
	}
}

// worldly says whether what the api does to objects of this type is done to the world alone.
func worldly(kind string) bool {
	return !slices.Contains([]string{"Folder", "ResourcePool", "VirtualMachine", "Datacenter", "FileManager", "AuthorizationManager", "HostFirewallSystem"}, kind)
}

// unreadable refuses, as hostd does, what a host cannot tell about distributed switches: it knows the port groups'
// settings, but not the objects as a whole, and nothing of the switch itself.
func (in *inventory) unreadable(m *simulator.Method) types.BaseMethodFault {
	refused := &types.SystemError{Reason: "a host does not hold this object"}
	refused.FaultCause = &types.LocalizedMethodFault{Fault: &types.NotSupported{}, LocalizedMessage: "not supported"}
	isSwitch := func(kind string) bool {
		return kind == "DistributedVirtualSwitch" || kind == "VmwareDistributedVirtualSwitch"
	}
	if isSwitch(m.This.Type) {
		return &types.NotSupported{}
	}
	var specs []types.PropertyFilterSpec
	if m.This.Type == "Folder" && m.Name == "CreateFolder" {
		return &types.NotSupported{}
	}
	switch req := m.Body.(type) {
	case *types.RetrievePropertiesEx:
		specs = req.SpecSet
	case *types.RetrieveProperties:
		specs = req.SpecSet
	}
	for _, spec := range specs {
		meets := slices.ContainsFunc(spec.ObjectSet, func(o types.ObjectSpec) bool {
			return o.Obj.Type == "DistributedVirtualPortgroup" || slices.ContainsFunc(o.SelectSet, meetsNetworks)
		})
		for _, p := range spec.PropSet {
			whole := p.All != nil && *p.All
			switch p.Type {
			case "DistributedVirtualPortgroup", "Network", "ManagedEntity":
				if whole && meets && !in.site.hideDVS {
					return refused
				}
			}
		}
		for _, o := range spec.ObjectSet {
			if isSwitch(o.Obj.Type) {
				return refused
			}
		}
	}
	return nil
}

// meetsNetworks says whether a traversal goes on to the networks of a host, a VM or a datacenter.
func meetsNetworks(s types.BaseSelectionSpec) bool {
	t, ok := s.(*types.TraversalSpec)
	return ok && (t.Path == "network" || slices.ContainsFunc(t.SelectSet, meetsNetworks))
}

// hostOf finds the host one of whose managers this is.
func (a *api) hostOf(manager types.ManagedObjectReference) string {
	for name, hs := range a.hosts {
		for _, ref := range []*types.ManagedObjectReference{hs.ConfigManager.NetworkSystem, hs.ConfigManager.VirtualNicManager, hs.ConfigManager.ServiceSystem} {
			if *ref == manager {
				return name
			}
		}
	}
	return ""
}

// network runs a call that is, or amounts to, an UpdateNetworkConfig.
func (a *api) network(this types.ManagedObjectReference, method string, c networkChange) (types.HostNetworkConfigResult, *soap.Fault) {
	c.host, c.direct = a.hostOf(this), a.inventory.direct()
	if c.mode == "" {
		c.mode = string(types.HostConfigChangeModeModify)
	}
	var res types.HostNetworkConfigResult
	err := a.site.change(networkCall{method: method, hosts: []string{c.host}, direct: c.direct, eval: func(w *world) (*world, error) {
		after, r, err := w.apply(c)
		res = r
		return after, err
	}})
	if err != nil {
		return res, soapFault(err)
	}
	return res, nil
}

func (a *api) UpdateNetworkConfig(req *types.UpdateNetworkConfig) soap.HasFault {
	res, fault := a.network(req.This, "UpdateNetworkConfig", networkChange{config: req.Config, mode: req.ChangeMode})
	if fault != nil {
		return &methods.UpdateNetworkConfigBody{Fault_: fault}
	}
	return &methods.UpdateNetworkConfigBody{Res: &types.UpdateNetworkConfigResponse{Returnval: res}}
}

// RefreshNetworkSystem has the host asked, so through the vCenter it fails for one that does not answer, whatever the
// vCenter still believes.
func (a *api) RefreshNetworkSystem(req *types.RefreshNetworkSystem) soap.HasFault {
	if !a.inventory.direct() {
		a.site.mu.RLock()
		err := a.site.connected(a.hostOf(req.This))
		a.site.mu.RUnlock()
		if err != nil {
			return &methods.RefreshNetworkSystemBody{Fault_: soapFault(err)}
		}
	}
	return &methods.RefreshNetworkSystemBody{Res: new(types.RefreshNetworkSystemResponse)}
}

// startTask runs f as a task on an entity and returns at once, as the API's _Task methods do.
func (in *inventory) startTask(entity types.ManagedObjectReference, name string, f func() (types.AnyType, error)) types.ManagedObjectReference {
	ctx := in.context()
	t := simulator.CreateTask(entity, name, nil)
	t.Self = types.ManagedObjectReference{}
	now := time.Now()
	t.Info.StartTime = &now
	t.Info.State = types.TaskInfoStateRunning
	in.reg.WithLock(ctx, entity, func() {
		in.reg.Put(t) // gives it its reference and lists it among the entity's recent tasks
		in.reg.WithLock(ctx, t, func() { t.Info.Key, t.Info.Task = t.Self.Value, t.Self })
	})
	ref := t.Self
	go func() {
		res, err := f()
		ctx := in.context()
		changes := []types.PropertyChange{
			prop("info.completeTime", time.Now()), prop("info.state", types.TaskInfoStateSuccess), prop("info.result", res),
		}
		if err != nil {
			changes[1] = prop("info.state", types.TaskInfoStateError)
			changes = append(changes, prop("info.error", types.LocalizedMethodFault{Fault: faultOf(err), LocalizedMessage: err.Error()}))
		}
		in.reg.AtomicUpdate(ctx, t, changes)
	}()
	return ref
}

// forgetTasks drops all tasks, and from the objects they were about.
func (in *inventory) forgetTasks() {
	ctx := in.context()
	for _, t := range in.reg.AllReference("Task") {
		in.reg.Remove(ctx, t.Reference())
	}
	for _, e := range in.reg.All("") {
		if len(e.Entity().RecentTask) > 0 {
			in.setRefs(e, "recentTask", e.Entity().RecentTask, nil)
		}
	}
	for _, ref := range in.reg.AllReference("TaskManager") {
		if m, ok := ref.(*simulator.TaskManager); ok {
			in.setRefs(m, "recentTask", m.RecentTask, nil)
		}
	}
}

// taskRef reads the task out of the answer of a _Task method.
func taskRef(body soap.HasFault) types.ManagedObjectReference {
	ref, _ := resultOf(body).(types.ManagedObjectReference)
	return ref
}

// resultOf reads Res.Returnval of a method's answer.
func resultOf(body soap.HasFault) any {
	res := reflect.ValueOf(body).Elem().FieldByName("Res")
	if !res.IsValid() || res.IsNil() {
		return nil
	}
	if v := res.Elem().FieldByName("Returnval"); v.IsValid() {
		return v.Interface()
	}
	return nil
}
