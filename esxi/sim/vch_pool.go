package sim

import (
	"reflect"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Resource pools are a host's, and its vCenter shows them: what is done to one in either inventory is done to its twin.
// Folders of VMs are the vCenter's alone.

// pool is a resource pool below a host's root pool.
type pool struct {
	host string
	refs map[*inventory]types.ManagedObjectReference
}

// rootPool is the pool that a host came with.
func (in *inventory) rootPool(host string) types.ManagedObjectReference {
	return *in.reg.Get(*in.hosts[host].Parent).(*mo.ComputeResource).ResourcePool
}

// poolTwin finds the same pool in the other inventory, and whose host's it is. The site's lock is held.
func (a *api) poolTwin(ref types.ManagedObjectReference) (peer *inventory, twin types.ManagedObjectReference, host string, ok bool) {
	for name := range a.hosts {
		if a.rootPool(name) == ref {
			peer = a.site.peer(a.inventory, name)
			return peer, peer.rootPool(name), name, true
		}
	}
	for _, p := range a.site.pools {
		if p.refs[a.inventory] == ref {
			peer = a.site.peer(a.inventory, p.host)
			return peer, p.refs[peer], p.host, true
		}
	}
	return nil, twin, "", false
}

// onPools runs a call on a pool and on its twin. The twin's answer cannot differ.
func onPools[R any](a *api, this types.ManagedObjectReference, call func(in *inventory, p *simulator.ResourcePool) R) (here, there R, host string, err error) {
	peer, twin, host, ok := a.poolTwin(this)
	p, found := a.reg.Get(this).(*simulator.ResourcePool)
	if !ok || !found {
		return here, there, "", refuse(&types.ManagedObjectNotFound{Obj: this}, "there is no pool %s", this.Value)
	}
	if !a.direct() {
		if err := a.site.connected(host); err != nil {
			return here, there, host, err
		}
	}
	in := a.inventory
	in.reg.WithLock(in.context(), p, func() { here = call(in, p) })
	other, found := peer.reg.Get(twin).(*simulator.ResourcePool)
	if found {
		peer.reg.WithLock(peer.context(), other, func() { there = call(peer, other) })
	}
	return here, there, host, nil
}

func (a *api) CreateResourcePool(req *types.CreateResourcePool) soap.HasFault {
	s := a.site
	s.mu.Lock()
	defer s.mu.Unlock()
	here, there, host, err := onPools(a, req.This, func(in *inventory, p *simulator.ResourcePool) soap.HasFault {
		r := *req
		r.This = p.Self
		return p.CreateResourcePool(in.context(), &r)
	})
	if err != nil {
		return faulted(err)
	}
	if here.Fault() == nil {
		made := &pool{host: host, refs: map[*inventory]types.ManagedObjectReference{a.inventory: taskRef(here)}}
		if there != nil && there.Fault() == nil {
			made.refs[s.peer(a.inventory, host)] = taskRef(there)
		}
		s.pools = append(s.pools, made)
	}
	return here
}

func (a *api) UpdateConfig(req *types.UpdateConfig) soap.HasFault {
	a.site.mu.Lock()
	defer a.site.mu.Unlock()
	here, _, _, err := onPools(a, req.This, func(in *inventory, p *simulator.ResourcePool) soap.HasFault {
		r := *req
		r.This = p.Self
		return p.UpdateConfig(in.context(), &r)
	})
	if err != nil {
		return faulted(err)
	}
	return here
}

// destroyPool removes a pool; what was in it moves to the pool above, as in vSphere.
func (a *api) destroyPool(req *types.Destroy_Task) soap.HasFault {
	task := a.startTask(req.This, "destroy", func() (types.AnyType, error) {
		s := a.site
		s.mu.Lock()
		defer s.mu.Unlock()
		peer, twin, host, ok := a.poolTwin(req.This)
		if !ok {
			return nil, refuse(&types.ManagedObjectNotFound{Obj: req.This}, "there is no pool %s", req.This.Value)
		}
		if !a.direct() {
			if err := s.connected(host); err != nil {
				return nil, err
			}
		}
		for in, ref := range map[*inventory]types.ManagedObjectReference{a.inventory: req.This, peer: twin} {
			p, ok := in.reg.Get(ref).(*simulator.ResourcePool)
			if !ok {
				continue
			}
			if _, err := in.task(p.DestroyTask(in.context(), &types.Destroy_Task{This: ref})); err != nil {
				return nil, err
			}
		}
		s.pools = slices.DeleteFunc(s.pools, func(p *pool) bool { return p.refs[a.inventory] == req.This })
		return nil, nil
	})
	return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task}}
}

// destroyVM has vcsim unregister a VM and drop its devices, and deletes the VM's own files, where vcsim would delete
// the directory with whatever else is in it. The VM's lock is held.
func (a *api) destroyVM(ctx *simulator.Context, vm *simulator.VirtualMachine, req *types.Destroy_Task) soap.HasFault {
	vmx := vm.Config.Files.VmPathName
	logs := vm.Config.Files.LogDirectory
	var at object.DatastorePath // vcsim wants a datastore that is there
	at.FromString(vmx)
	vm.Config.Files.LogDirectory = (&object.DatastorePath{Datastore: at.Datastore, Path: ".labsim/none"}).String() // what vcsim is to delete
	var disks []string
	for _, d := range object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil)) {
		if b, ok := d.GetVirtualDevice().Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
			disks = append(disks, b.GetVirtualDeviceFileBackingInfo().FileName)
		}
	}
	body := vm.DestroyTask(ctx, req)
	if body.Fault() == nil {
		if _, err := a.task(body); err == nil {
			a.site.removeFiles(vmx, disks)
			return body
		}
	}
	vm.Config.Files.LogDirectory = logs
	return body
}

// destroyFolder destroys a folder of VMs with everything in it, as the vCenter does, foreign or not.
func (a *api) destroyFolder(req *types.Destroy_Task) soap.HasFault {
	task := a.startTask(req.This, "destroy", func() (types.AnyType, error) {
		s := a.site
		s.mu.Lock()
		defer s.mu.Unlock()
		return nil, a.clearFolder(req.This)
	})
	return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task}}
}

func (a *api) clearFolder(ref types.ManagedObjectReference) error {
	f, ok := a.reg.Get(ref).(*simulator.Folder)
	if !ok {
		return refuse(&types.ManagedObjectNotFound{Obj: ref}, "there is no folder %s", ref.Value)
	}
	if slices.Contains([]types.ManagedObjectReference{a.dc.VmFolder, a.dc.HostFolder, a.dc.NetworkFolder, a.dc.DatastoreFolder}, ref) {
		return notSupported("%s is part of the datacenter", f.Name)
	}
	for _, child := range slices.Clone(f.ChildEntity) {
		switch obj := a.reg.Get(child).(type) {
		case *simulator.Folder:
			if err := a.clearFolder(child); err != nil {
				return err
			}
		case *simulator.VirtualMachine:
			if a.disabled(child, "Destroy_Task") {
				return refuse(&types.MethodDisabled{}, "Destroy_Task of %s is disabled", obj.Name)
			}
			ctx := a.context()
			var body soap.HasFault
			a.reg.WithLock(ctx, obj, func() { body = a.destroyVM(ctx, obj, &types.Destroy_Task{This: child}) })
			if _, err := a.task(body); err != nil {
				return err
			}
			if err := a.follow(child); err != nil {
				return err
			}
		}
	}
	_, err := a.task(f.DestroyTask(a.context(), &types.Destroy_Task{This: ref}))
	return err
}

// PowerOnMultiVMTask powers VMs on as the vCenter does on behalf of DRS.
func (a *api) PowerOnMultiVMTask(req *types.PowerOnMultiVM_Task) soap.HasFault {
	if a.direct() {
		return faulted(refuse(&types.NotImplemented{}, "a host powers VMs on one by one"))
	}
	task := a.startTask(req.This, "powerOnMultiVM", func() (types.AnyType, error) {
		s := a.site
		s.mu.Lock()
		defer s.mu.Unlock()
		var res types.ClusterPowerOnVmResult
		for _, ref := range req.Vm {
			vm, ok := a.reg.Get(ref).(*simulator.VirtualMachine)
			if !ok {
				return nil, refuse(&types.ManagedObjectNotFound{Obj: ref}, "there is no VM %s", ref.Value)
			}
			if id, ok := a.ids[ref]; ok {
				if err := s.connected(s.world.vm(id).host); err != nil {
					return nil, err
				}
			}
			ctx := a.context()
			var body soap.HasFault
			a.reg.WithLock(ctx, vm, func() { body = vm.PowerOnVMTask(ctx, &types.PowerOnVM_Task{This: ref}) })
			if body.Fault() != nil {
				return nil, &refusal{fault: methodFault(body.Fault()), why: body.Fault().String}
			}
			sub := taskRef(body)
			_, err := a.task(body)
			res.Attempted = append(res.Attempted, types.ClusterAttemptedVmInfo{Vm: ref, Task: &sub})
			if err != nil {
				continue // its own task tells
			}
			if err := a.follow(ref); err != nil {
				return nil, err
			}
		}
		return res, nil
	})
	return &methods.PowerOnMultiVM_TaskBody{Res: &types.PowerOnMultiVM_TaskResponse{Returnval: task}}
}

// DisableMethods and EnableMethods are not part of the public API: govmomi spells them out for its clients only.
type (
	// DisableMethods keeps anyone from calling methods of some entities.
	DisableMethods struct {
		This   types.ManagedObjectReference   `xml:"_this"`
		Entity []types.ManagedObjectReference `xml:"entity"`
		Method []object.DisabledMethodRequest `xml:"method"`
		Source string                         `xml:"sourceId"`
		Scope  bool                           `xml:"sessionScope,omitempty"`
	}
	// EnableMethods takes that back.
	EnableMethods struct {
		This   types.ManagedObjectReference   `xml:"_this"`
		Entity []types.ManagedObjectReference `xml:"entity"`
		Method []string                       `xml:"method"`
		Source string                         `xml:"sourceId"`
	}
	emptyResponse      struct{}
	disableMethodsBody struct {
		Res *emptyResponse `xml:"urn:vim25 DisableMethodsResponse,omitempty"`
	}
	enableMethodsBody struct {
		Res *emptyResponse `xml:"urn:vim25 EnableMethodsResponse,omitempty"`
	}
)

func (*disableMethodsBody) Fault() *soap.Fault { return nil }
func (*enableMethodsBody) Fault() *soap.Fault  { return nil }

func init() { // vcsim decodes requests into the types that are registered
	types.Add("DisableMethods", reflect.TypeFor[DisableMethods]())
	types.Add("EnableMethods", reflect.TypeFor[EnableMethods]())
}

func (a *api) DisableMethods(req *DisableMethods) soap.HasFault {
	if a.direct() {
		return faulted(notSupported("a host disables no methods"))
	}
	var names []string
	for _, m := range req.Method {
		names = append(names, m.Method)
	}
	a.able(req.Entity, names, false)
	return &disableMethodsBody{Res: &emptyResponse{}}
}

func (a *api) EnableMethods(req *EnableMethods) soap.HasFault {
	a.able(req.Entity, req.Method, true)
	return &enableMethodsBody{Res: &emptyResponse{}}
}

func (a *api) able(entities []types.ManagedObjectReference, names []string, on bool) {
	for _, ref := range entities {
		e, ok := a.reg.Get(ref).(mo.Entity)
		if !ok {
			continue
		}
		ctx := a.context()
		a.reg.WithLock(ctx, e, func() {
			list := slices.DeleteFunc(slices.Clone(e.Entity().DisabledMethod), func(m string) bool { return slices.Contains(names, m) })
			if !on {
				list = append(list, names...)
			}
			a.reg.Update(ctx, e, []types.PropertyChange{prop("disabledMethod", list)})
		})
	}
}

// disabled says whether a method of an entity may not be called.
func (a *api) disabled(ref types.ManagedObjectReference, method string) bool {
	e, ok := a.reg.Get(ref).(mo.Entity)
	if !ok {
		return false
	}
	off := false
	a.reg.WithLock(a.context(), e, func() { off = slices.Contains(e.Entity().DisabledMethod, method) })
	return off
}
