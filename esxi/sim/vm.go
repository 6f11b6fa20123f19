package sim

import (
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ReconfigVMTask changes Ethernet cards in the world and leaves the rest of the specification to vcsim.
func (a *api) ReconfigVMTask(req *types.ReconfigVM_Task) soap.HasFault {
	var cards, others []types.BaseVirtualDeviceConfigSpec
	for _, c := range req.Spec.DeviceChange {
		if isNIC(c) {
			cards = append(cards, c)
		} else {
			others = append(others, c)
		}
	}
	id, known := a.ids[req.This]
	if !known {
		return &methods.ReconfigVM_TaskBody{Fault_: soapFault(refuse(&types.ManagedObjectNotFound{Obj: req.This}, "there is no VM %s", req.This.Value))}
	}
	task := a.startTask(req.This, "reconfigVm", func() (types.AnyType, error) {
		if err := a.site.sleep(a.site.lab.faults.opDelay()); err != nil {
			return nil, err
		}
		if len(cards) > 0 {
			if err := a.rewire(id, cards); err != nil {
				return nil, err
			}
		}
		rest := req.Spec
		rest.DeviceChange = others
		if len(cards) > 0 && reflect.DeepEqual(rest, types.VirtualMachineConfigSpec{}) {
			return nil, nil
		}
		vm := a.reg.Get(req.This).(*simulator.VirtualMachine)
		_, err := a.task(vm.ReconfigVMTask(a.context(), &types.ReconfigVM_Task{This: req.This, Spec: rest}))
		return nil, err
	})
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
}

// rewire applies card changes to the world.
func (a *api) rewire(id string, cards []types.BaseVirtualDeviceConfigSpec) error {
	s := a.site
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.world.vm(id)
	if v == nil {
		return notFound("there is no VM %s", id)
	}
	if !a.direct() {
		if err := s.connected(v.host); err != nil {
			return err
		}
	}
	if err := s.lab.faults.vmEdit(v.name); err != nil {
		return err
	}
	w, err := s.world.rewire(id, cards, a.direct())
	if err != nil {
		return err
	}
	s.commit(w)
	return nil
}
