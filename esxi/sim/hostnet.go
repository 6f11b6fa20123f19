package sim

import (
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// The single-entity calls of HostNetworkSystem. Each is the UpdateNetworkConfig with that one entry, so they are
// judged alike.

func switchChange(op types.HostConfigChangeOperation, name string, spec *types.HostVirtualSwitchSpec) networkChange {
	return networkChange{config: types.HostNetworkConfig{
		Vswitch: []types.HostVirtualSwitchConfig{{ChangeOperation: string(op), Name: name, Spec: spec}},
	}}
}

func groupChange(op types.HostConfigChangeOperation, spec types.HostPortGroupSpec) networkChange {
	return networkChange{config: types.HostNetworkConfig{
		Portgroup: []types.HostPortGroupConfig{{ChangeOperation: string(op), Spec: &spec}},
	}}
}

func vmkChange(op types.HostConfigChangeOperation, device, label string, spec *types.HostVirtualNicSpec) networkChange {
	return networkChange{config: types.HostNetworkConfig{
		Vnic: []types.HostVirtualNicConfig{{ChangeOperation: string(op), Device: device, Portgroup: label, Spec: spec}},
	}}
}

func (a *api) AddVirtualSwitch(req *types.AddVirtualSwitch) soap.HasFault {
	_, fault := a.network(req.This, "AddVirtualSwitch", switchChange(opAdd, req.VswitchName, req.Spec))
	return &methods.AddVirtualSwitchBody{Fault_: fault, Res: result(fault, &types.AddVirtualSwitchResponse{})}
}

func (a *api) UpdateVirtualSwitch(req *types.UpdateVirtualSwitch) soap.HasFault {
	_, fault := a.network(req.This, "UpdateVirtualSwitch", switchChange(opEdit, req.VswitchName, &req.Spec))
	return &methods.UpdateVirtualSwitchBody{Fault_: fault, Res: result(fault, &types.UpdateVirtualSwitchResponse{})}
}

func (a *api) RemoveVirtualSwitch(req *types.RemoveVirtualSwitch) soap.HasFault {
	_, fault := a.network(req.This, "RemoveVirtualSwitch", switchChange(opRemove, req.VswitchName, nil))
	return &methods.RemoveVirtualSwitchBody{Fault_: fault, Res: result(fault, &types.RemoveVirtualSwitchResponse{})}
}

func (a *api) AddPortGroup(req *types.AddPortGroup) soap.HasFault {
	_, fault := a.network(req.This, "AddPortGroup", groupChange(opAdd, req.Portgrp))
	return &methods.AddPortGroupBody{Fault_: fault, Res: result(fault, &types.AddPortGroupResponse{})}
}

func (a *api) UpdatePortGroup(req *types.UpdatePortGroup) soap.HasFault {
	c := groupChange(opEdit, req.Portgrp)
	if c.config.Portgroup[0].Spec.Name != req.PgName {
		c.rename = req.PgName
	}
	_, fault := a.network(req.This, "UpdatePortGroup", c)
	return &methods.UpdatePortGroupBody{Fault_: fault, Res: result(fault, &types.UpdatePortGroupResponse{})}
}

func (a *api) RemovePortGroup(req *types.RemovePortGroup) soap.HasFault {
	_, fault := a.network(req.This, "RemovePortGroup", groupChange(opRemove, types.HostPortGroupSpec{Name: req.PgName}))
	return &methods.RemovePortGroupBody{Fault_: fault, Res: result(fault, &types.RemovePortGroupResponse{})}
}

func (a *api) AddVirtualNic(req *types.AddVirtualNic) soap.HasFault {
	res, fault := a.network(req.This, "AddVirtualNic", vmkChange(opAdd, "", req.Portgroup, &req.Nic))
	if fault != nil {
		return &methods.AddVirtualNicBody{Fault_: fault}
	}
	return &methods.AddVirtualNicBody{Res: &types.AddVirtualNicResponse{Returnval: res.VnicDevice[0]}}
}

func (a *api) UpdateVirtualNic(req *types.UpdateVirtualNic) soap.HasFault {
	_, fault := a.network(req.This, "UpdateVirtualNic", vmkChange(opEdit, req.Device, "", &req.Nic))
	return &methods.UpdateVirtualNicBody{Fault_: fault, Res: result(fault, &types.UpdateVirtualNicResponse{})}
}

func (a *api) RemoveVirtualNic(req *types.RemoveVirtualNic) soap.HasFault {
	_, fault := a.network(req.This, "RemoveVirtualNic", vmkChange(opRemove, req.Device, "", nil))
	return &methods.RemoveVirtualNicBody{Fault_: fault, Res: result(fault, &types.RemoveVirtualNicResponse{})}
}

// result is res unless there is a fault: an answer holds one of the two.
func result[T any](fault *soap.Fault, res *T) *T {
	if fault != nil {
		return nil
	}
	return res
}
