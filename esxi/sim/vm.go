package sim

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// A VM exists twice in vcsim, in the vCenter's inventory and in its host's, and its cards a third time in the world.
// The world decides about cards. For everything else vcsim decides in the inventory that got the call, and the other
// inventory follows before the call is answered.

// ReconfigVMTask changes Ethernet cards in the world and leaves the rest of the specification to vcsim.
func (a *api) ReconfigVMTask(req *types.ReconfigVM_Task) soap.HasFault {
	s := a.site
	s.mu.RLock()
	id, known := a.ids[req.This]
	s.mu.RUnlock()
	if !known {
		return faulted(refuse(&types.ManagedObjectNotFound{Obj: req.This}, "there is no VM %s", req.This.Value))
	}
	cards := takeNICs(&req.Spec)
	var hidden *string
	life := s.life.Load()
	task := a.startTask(req.This, "reconfigVm", func() (types.AnyType, error) {
		if err := life.sleep(s.lab.faults.opDelay()); err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := life.ctx.Err(); err != nil {
			return nil, err
		}
		if err := a.mayChange(id); err != nil {
			return nil, err
		}
		w, err := s.world.rewire(id, cards, a.direct())
		if err != nil {
			return nil, err
		}
		if vm, ok := a.reg.Get(req.This).(*simulator.VirtualMachine); ok && req.Spec.ExtraConfig != nil {
			var keys map[string]bool
			a.reg.WithLock(a.context(), vm, func() { keys = keysOf(vm) })
			if s.guests[id] != nil && touchesGuest(req.Spec.ExtraConfig) {
				s.volatile[id] = true
			}
			req.Spec.ExtraConfig, hidden = takeHidden(req.Spec.ExtraConfig, keys)
			s.touched.Store(true)
		}
		if rest := req.Spec; !reflect.DeepEqual(rest, types.VirtualMachineConfigSpec{}) {
			s.touched.Store(true)
			vm := a.reg.Get(req.This).(*simulator.VirtualMachine)
			if _, err := a.task(vm.ReconfigVMTask(a.context(), &types.ReconfigVM_Task{This: req.This, Spec: rest})); err != nil {
				return nil, err
			}
			if err := a.follow(req.This); err != nil {
				return nil, err
			}
			if w, err = s.world.rewire(id, cards, a.direct()); err != nil {
				return nil, err
			}
		}
		s.keep(id, hidden)
		s.commit(w)
		return nil, nil
	})
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
}

// mayChange says whether a VM can be changed by this inventory's path now. The site's lock is held.
func (a *api) mayChange(id string) error {
	v := a.site.world.vm(id)
	if v == nil {
		return notFound("the VM is gone")
	}
	if !a.direct() {
		if err := a.site.connected(v.host); err != nil {
			return err
		}
	}
	return a.site.lab.faults.vmEdit(v.name)
}

// takeNICs takes the Ethernet card changes out of a specification.
func takeNICs(spec *types.VirtualMachineConfigSpec) (cards []types.BaseVirtualDeviceConfigSpec) {
	var others []types.BaseVirtualDeviceConfigSpec
	for _, c := range spec.DeviceChange {
		if isNIC(c) {
			cards = append(cards, c)
		} else {
			others = append(others, c)
		}
	}
	spec.DeviceChange = others
	return cards
}

// faultAnswer is an answer that is nothing but a fault.
type faultAnswer struct{ Reason *soap.Fault }

func (b *faultAnswer) Fault() *soap.Fault { return b.Reason }

func faulted(err error) soap.HasFault { return &faultAnswer{soapFault(err)} }

// CreateVMTask judges the cards of a new VM before vcsim makes it, and plugs them in afterwards.
func (a *api) CreateVMTask(req *types.CreateVM_Task) soap.HasFault {
	s := a.site
	s.mu.Lock()
	defer s.mu.Unlock()
	cards := takeNICs(&req.Config)
	folder, ok := a.reg.Get(req.This).(*simulator.Folder)
	if !ok {
		return faulted(refuse(&types.ManagedObjectNotFound{Obj: req.This}, "there is no folder %s", req.This.Value))
	}
	if err := a.admit(req.Config.Name, req.Pool, req.Host, cards); err != nil {
		return faulted(err)
	}
	if err := a.datastoreKnown(req.Config.Files); err != nil {
		return faulted(err)
	}
	if e := a.reg.FindByName(req.Config.Name, folder.ChildEntity); e != nil {
		return faulted(refuse(&types.DuplicateName{Name: req.Config.Name, Object: e.Reference()}, "there is a %s in the folder already", req.Config.Name))
	}
	var hidden *string
	req.Config.ExtraConfig, hidden = takeHidden(req.Config.ExtraConfig, nil)
	body := folder.CreateVMTask(a.context(), req)
	if ref, err := a.task(body); err == nil { // if not, the task tells why
		if err := a.adopt(ref, cards); err != nil {
			return faulted(err)
		}
		s.keep(a.ids[ref], hidden)
	}
	return body
}

// ImportVApp does the same for a VM that is uploaded.
func (a *api) ImportVApp(ctx *simulator.Context, req *types.ImportVApp) soap.HasFault {
	s := a.site
	s.mu.Lock()
	defer s.mu.Unlock()
	spec, ok := req.Spec.(*types.VirtualMachineImportSpec)
	if !ok {
		return faulted(invalid("spec", "%T: only single VMs are imported", req.Spec))
	}
	pool, ok := a.reg.Get(req.This).(*simulator.ResourcePool)
	if !ok {
		return faulted(refuse(&types.ManagedObjectNotFound{Obj: req.This}, "there is no pool %s", req.This.Value))
	}
	cards := takeNICs(&spec.ConfigSpec)
	if err := a.admit(spec.ConfigSpec.Name, req.This, req.Host, cards); err != nil {
		return faulted(err)
	}
	body := pool.ImportVApp(ctx, req) // in the caller's session, to which the lease belongs
	lease, ok := ctx.Session.Get(taskRef(body)).(*simulator.HttpNfcLease)
	if !ok {
		return body
	}
	for { // vcsim makes the VM in a task that only the lease tells about
		var state types.HttpNfcLeaseState
		var info *types.HttpNfcLeaseInfo
		a.reg.WithLock(a.context(), lease, func() { state, info = lease.State, lease.Info })
		switch {
		case state == types.HttpNfcLeaseStateError:
			return body
		case info != nil:
			if err := a.adopt(info.Entity, cards); err != nil {
				return faulted(err)
			}
			return body
		}
		if err := s.life.Load().sleep(time.Millisecond); err != nil {
			return faulted(err)
		}
	}
}

// admit judges a VM that is to be made: its host must be there, and its cards must find their networks.
func (a *api) admit(name string, pool types.ManagedObjectReference, host *types.ManagedObjectReference, cards []types.BaseVirtualDeviceConfigSpec) error {
	hostName := a.host
	if !a.direct() {
		if host == nil {
			host = a.hostOfPool(pool)
		}
		if host == nil || a.nameOf(*host) == "" {
			return invalid("host", "there is no such host")
		}
		hostName = a.nameOf(*host)
		if err := a.site.connected(hostName); err != nil {
			return err
		}
	}
	trial := a.site.world.clone()
	trial.vms = append(trial.vms, &vm{id: "?", name: name, host: hostName})
	_, err := trial.rewire("?", slices.Clone(cards), a.direct())
	return err
}

func (a *api) hostOfPool(pool types.ManagedObjectReference) *types.ManagedObjectReference {
	for ref := pool; ; {
		switch e := a.reg.Get(ref).(type) {
		case *mo.ComputeResource:
			return &e.Host[0]
		case mo.Entity:
			if e.Entity().Parent == nil {
				return nil
			}
			ref = *e.Entity().Parent
		default:
			return nil
		}
	}
}

// Oversee lets vcsim carry out a method of a VM or folder, waits for its task, and has the world and the other
// inventory follow before it answers.
func (a *api) Oversee(ctx *simulator.Context, req any) soap.HasFault {
	s := a.site
	s.mu.Lock()
	defer s.mu.Unlock()
	name := reflect.TypeOf(req).Elem().Name()
	this := reflect.ValueOf(req).Elem().FieldByName("This").Interface().(types.ManagedObjectReference)
	target := a.reg.Get(this)
	if target == nil {
		return faulted(refuse(&types.ManagedObjectNotFound{Obj: this}, "there is no %s", this.Value))
	}
	if id, ok := a.ids[this]; ok && !a.direct() {
		if err := s.connected(s.world.vm(id).host); err != nil {
			return faulted(err)
		}
	}
	if a.disabled(this, name) {
		return faulted(refuse(&types.MethodDisabled{}, "%s of %s is disabled", name, this.Value))
	}
	method := reflect.ValueOf(target).MethodByName(strings.Replace(name, "_Task", "Task", 1))
	args := []reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(req)}
	if method.Type().NumIn() == 1 {
		args = args[1:]
	}
	var body soap.HasFault
	a.reg.WithLock(ctx, target, func() {
		if vm, ok := target.(*simulator.VirtualMachine); ok && name == "Destroy_Task" {
			body = a.destroyVM(ctx, vm, req.(*types.Destroy_Task))
			return
		}
		body = method.Call(args)[0].Interface().(soap.HasFault)
	})
	if body.Fault() != nil {
		return body
	}
	var made types.ManagedObjectReference
	if strings.HasSuffix(name, "_Task") {
		var err error
		if made, err = a.task(body); err != nil {
			return body // the task tells the client
		}
	}
	var err error
	if made.Type == "VirtualMachine" {
		err = a.adopt(made, nil)
	} else {
		err = a.follow(this)
	}
	if err != nil {
		return faulted(err)
	}
	return body
}

// follow brings the world and the other inventory up to date with what vcsim did to a VM here.
func (a *api) follow(ref types.ManagedObjectReference) error {
	s := a.site
	id, known := a.ids[ref]
	if !known {
		return nil
	}
	old := s.world.vm(id)
	peer := s.peer(a.inventory, old.host)
	obj, ok := a.reg.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		a.forget(id)
		peer.drop(id)
		delete(s.ovfEnv, id)
		w := s.world.clone()
		w.vms = slices.DeleteFunc(w.vms, func(v *vm) bool { return v.id == id })
		w.sweep()
		s.commit(w)
		s.power(id, false)
		return nil
	}
	w := s.world.clone()
	v := w.editVM(id)
	// A task that a call has left running holds the VM's lock until it is done.
	a.reg.WithLock(a.context(), obj, func() {
		v.name, v.template = obj.Name, obj.Config.Template
		v.on = obj.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	})
	if v.on != old.on {
		for i := range v.nics {
			v.nics[i].connect.Connected = v.on && v.nics[i].connect.StartConnected
		}
	}
	if err := a.mirror(obj, peer, id); err != nil {
		return err
	}
	s.commit(w)
	peer.publishVM(peer.shown, v)
	if v.on != old.on {
		s.power(id, v.on)
	}
	return nil
}

// peer is the other inventory that shows a host's VMs.
func (s *site) peer(in *inventory, host string) *inventory {
	if in.direct() {
		return s.vcenter
	}
	return s.direct[host]
}

// adopt makes a VM that vcsim has made here part of the world and of the other inventory.
func (a *api) adopt(ref types.ManagedObjectReference, cards []types.BaseVirtualDeviceConfigSpec) error {
	s := a.site
	obj, ok := a.reg.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return notFound("the new VM is gone")
	}
	v := &vm{host: a.host}
	var file string
	var in types.ManagedObjectReference
	a.reg.WithLock(a.context(), obj, func() {
		if !a.direct() {
			v.host = a.nameOf(*obj.Runtime.Host)
		}
		v.name, v.template, file = obj.Name, obj.Config.Template, obj.Config.Files.VmPathName
		if obj.ResourcePool != nil {
			in = *obj.ResourcePool
		}
		v.on = obj.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
		cards = append(cards, s.world.cardsOf(obj)...)
	})
	v.id = fmt.Sprintf("%s/%s#%s", v.host, v.name, ref.Value)
	w := s.world.clone()
	w.vms = append(w.vms, v)
	w, err := w.rewire(v.id, cards, a.direct())
	if err != nil {
		return err
	}
	peer := s.peer(a.inventory, v.host)
	hs := peer.hosts[v.host]
	folder := peer.reg.Get(peer.dc.VmFolder).(*simulator.Folder)
	pool := peer.rootPool(v.host)
	if _, twin, _, ok := a.poolTwin(in); ok && twin.Value != "" {
		pool = twin
	}
	twin, err := peer.task(folder.RegisterVMTask(peer.context(), &types.RegisterVM_Task{
		This: folder.Self, Path: file, Name: v.name, Pool: &pool, Host: &hs.Self,
	}))
	if err != nil {
		return fmt.Errorf("showing VM %s in the other inventory: %w", v.name, err)
	}
	a.know(v.id, ref)
	peer.know(v.id, twin)
	if err := a.mirror(obj, peer, v.id); err != nil {
		return err
	}
	s.commit(w)
	return nil
}

// cardsOf turns the cards that vcsim copied into a clone into changes to be judged: a static port or a MAC address is
// nobody else's.
func (w *world) cardsOf(obj *simulator.VirtualMachine) []types.BaseVirtualDeviceConfigSpec {
	var cards []types.BaseVirtualDeviceConfigSpec
	for _, d := range obj.Config.Hardware.Device {
		card, ok := d.(types.BaseVirtualEthernetCard)
		if !ok {
			continue
		}
		c := card.GetVirtualEthernetCard()
		if slices.ContainsFunc(w.vms, func(v *vm) bool {
			return slices.ContainsFunc(v.nics, func(n nic) bool { return n.mac == c.MacAddress })
		}) {
			c.MacAddress = ""
		}
		if b, ok := c.Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo); ok {
			b.Port.PortKey = ""
		}
		cards = append(cards, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d})
	}
	return cards
}

// mirror copies a VM's configuration and guest to its twin. Cards are published, references to datastores translated.
func (a *api) mirror(obj *simulator.VirtualMachine, peer *inventory, id string) error {
	var config types.VirtualMachineConfigInfo
	var guest types.GuestInfo
	var summary types.VirtualMachineConfigSummary
	var power types.VirtualMachinePowerState
	var err error
	a.reg.WithLock(a.context(), obj, func() {
		power = obj.Runtime.PowerState
		if err = deepCopy(obj.Config, &config); err == nil {
			err = deepCopy(obj.Guest, &guest)
		}
		summary = obj.Summary.Config
	})
	if err != nil {
		return fmt.Errorf("copying VM %s: %w", obj.Name, err)
	}
	for _, d := range config.Hardware.Device {
		if b, ok := d.GetVirtualDevice().Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
			file := b.GetVirtualDeviceFileBackingInfo()
			file.Datastore = peer.datastoreAt(file.FileName)
		}
	}
	twin := peer.reg.Get(peer.refs[id])
	peer.update(twin, prop("config", &config), prop("guest", &guest), prop("summary.config", summary),
		prop("runtime.powerState", power), prop("summary.runtime.powerState", power))
	return nil
}

// datastoreAt is the datastore of a path like "[datastore1] vm/disk.vmdk".
func (in *inventory) datastoreAt(file string) *types.ManagedObjectReference {
	var p object.DatastorePath
	if !p.FromString(file) {
		return nil
	}
	if ds := in.reg.FindByName(p.Datastore, in.dc.Datastore); ds != nil {
		ref := ds.Reference()
		return &ref
	}
	return nil
}

// deepCopy copies a vim value, interfaces and all.
func deepCopy(src, dst any) error {
	b, err := xml.Marshal(src)
	if err != nil {
		return err
	}
	dec := xml.NewDecoder(bytes.NewReader(b))
	dec.TypeFunc = types.TypeFunc()
	return dec.Decode(dst)
}

// drop takes a VM out of an inventory.
func (in *inventory) drop(id string) {
	ref, ok := in.refs[id]
	in.forget(id)
	vm, found := in.reg.Get(ref).(*simulator.VirtualMachine)
	if !ok || !found {
		return
	}
	ctx := in.context()
	in.reg.WithLock(ctx, vm, func() {
		vm.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff
		vm.UnregisterVM(ctx, &types.UnregisterVM{This: ref})
	})
}
