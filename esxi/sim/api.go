package sim

import (
	"reflect"
	"slices"
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
}

func (a *api) Lock()   {}
func (a *api) Unlock() {}

// answered lists, by managed object type, the methods of api, and for VMs those that vcsim does itself under api's eye.
var answered = map[string][]string{
	"HostNetworkSystem": {
		"UpdateNetworkConfig", "AddVirtualSwitch", "UpdateVirtualSwitch", "RemoveVirtualSwitch", "AddPortGroup", "UpdatePortGroup",
		"RemovePortGroup", "AddVirtualNic", "UpdateVirtualNic", "RemoveVirtualNic", "RefreshNetworkSystem", "QueryNetworkHint",
	},
	"VirtualMachine": {"ReconfigVM_Task"},
}

// route installs the api in front of vcsim's own methods.
func (in *inventory) route() {
	a := &api{inventory: in}
	a.Self = types.ManagedObjectReference{Type: "LabsimAPI", Value: "labsim"}
	in.reg.Put(a)
	in.reg.Handler = func(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
		if slices.Contains(answered[m.This.Type], m.Name) {
			m.This = a.Self
		}
		return nil, nil
	}
}

// hostOf finds the host one of whose managers this is.
func (a *api) hostOf(manager types.ManagedObjectReference) string {
	for name, hs := range a.hosts {
		for _, ref := range []*types.ManagedObjectReference{hs.ConfigManager.NetworkSystem, hs.ConfigManager.VirtualNicManager} {
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
	err := a.site.change(c.host, method, c.direct, func(w *world) (*world, error) {
		after, r, err := w.apply(c)
		res = r
		return after, err
	})
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
func (a *api) startTask(entity types.ManagedObjectReference, name string, f func() (types.AnyType, error)) types.ManagedObjectReference {
	ctx := a.context()
	t := simulator.CreateTask(entity, name, nil)
	t.Self = types.ManagedObjectReference{}
	now := time.Now()
	t.Info.StartTime = &now
	t.Info.State = types.TaskInfoStateRunning
	a.reg.WithLock(ctx, entity, func() {
		a.reg.Put(t) // gives it its reference and lists it among the entity's recent tasks
		a.reg.WithLock(ctx, t, func() { t.Info.Key, t.Info.Task = t.Self.Value, t.Self })
	})
	ref := t.Self
	go func() {
		res, err := f()
		ctx := a.context()
		changes := []types.PropertyChange{
			prop("info.completeTime", time.Now()), prop("info.state", types.TaskInfoStateSuccess), prop("info.result", res),
		}
		if err != nil {
			changes[1] = prop("info.state", types.TaskInfoStateError)
			changes = append(changes, prop("info.error", types.LocalizedMethodFault{Fault: faultOf(err), LocalizedMessage: err.Error()}))
		}
		a.reg.AtomicUpdate(ctx, t, changes)
	}()
	return ref
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
