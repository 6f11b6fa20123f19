package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// QueryNetworkHint tells which subnets and VLANs a host has heard on its adapters, and what switch is at the other end.
func (a *api) QueryNetworkHint(req *types.QueryNetworkHint) soap.HasFault {
	name := a.hostOf(req.This)
	a.site.mu.RLock()
	defer a.site.mu.RUnlock()
	w := a.site.world
	h := w.host(name)
	if !a.direct() {
		if err := a.site.connected(name); err != nil {
			return &methods.QueryNetworkHintBody{Fault_: soapFault(err)}
		}
	}
	res := &types.QueryNetworkHintResponse{}
	for _, p := range h.pnics {
		if len(req.Device) > 0 && !slices.Contains(req.Device, p.device) {
			continue
		}
		hint := types.PhysicalNicHintInfo{Device: p.device}
		if p.mbps > 0 {
			for _, s := range w.fabric {
				switch {
				case s.prefix.Addr().IsLoopback():
				case h.wire.access == 0:
					hint.Subnet = append(hint.Subnet, types.PhysicalNicIpHint{PhysicalNicHint: types.PhysicalNicHint{VlanId: int32(s.vlan)}, IpSubnet: subnetHint(s)})
				case s.vlan == h.wire.access:
					hint.Subnet = append(hint.Subnet, types.PhysicalNicIpHint{IpSubnet: subnetHint(s)})
				}
			}
			hint.ConnectedSwitchPort = &types.PhysicalNicCdpInfo{
				DevId: "homelab-switch", PortId: "GigabitEthernet0/" + strings.TrimPrefix(p.device, "vmnic"), Vlan: int32(h.wire.access), FullDuplex: types.NewBool(true), Mtu: 9000,
			}
		}
		res.Returnval = append(res.Returnval, hint)
	}
	return &methods.QueryNetworkHintBody{Res: res}
}

// subnetHint is how hosts write an observed range of addresses: first and last.
func subnetHint(s segment) string {
	first := s.prefix.Addr().As4()
	last := first
	last[3] = 254
	first[3] = 1
	dotted := func(b [4]byte) string { return fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], b[3]) }
	return dotted(first) + "-" + dotted(last)
}

func (a *api) QueryNetConfig(req *types.QueryNetConfig) soap.HasFault {
	name := a.hostOf(req.This)
	a.site.mu.RLock()
	defer a.site.mu.RUnlock()
	for _, c := range a.shown.host(name).services() {
		if c.NicType == req.NicType {
			return &methods.QueryNetConfigBody{Res: &types.QueryNetConfigResponse{Returnval: &c}}
		}
	}
	return &methods.QueryNetConfigBody{Fault_: soapFault(invalid("nicType", "there is no service %q", req.NicType))}
}

func (a *api) SelectVnicForNicType(req *types.SelectVnicForNicType) soap.HasFault {
	fault := a.selectVnic(req.This, "SelectVnicForNicType", req.NicType, req.Device, true)
	return &methods.SelectVnicForNicTypeBody{Fault_: fault, Res: result(fault, &types.SelectVnicForNicTypeResponse{})}
}

func (a *api) DeselectVnicForNicType(req *types.DeselectVnicForNicType) soap.HasFault {
	fault := a.selectVnic(req.This, "DeselectVnicForNicType", req.NicType, req.Device, false)
	return &methods.DeselectVnicForNicTypeBody{Fault_: fault, Res: result(fault, &types.DeselectVnicForNicTypeResponse{})}
}

// selectVnic lets a VMkernel adapter carry a service, or not.
func (a *api) selectVnic(this types.ManagedObjectReference, method, service, device string, on bool) *soap.Fault {
	name := a.hostOf(this)
	err := a.site.change(networkCall{method: method, hosts: []string{name}, direct: a.direct(), eval: func(w *world) (*world, error) {
		n := w.clone()
		k := n.editHost(name).vmk(device)
		if k == nil || !slices.Contains(nicTypes, service) {
			return nil, invalid("device", "%s cannot carry %s", strconv.Quote(device), strconv.Quote(service))
		}
		k.services = slices.DeleteFunc(slices.Clone(k.services), func(s string) bool { return s == service })
		if on {
			k.services = append(k.services, service)
			slices.Sort(k.services)
		}
		return n, nil
	}})
	if err != nil {
		return soapFault(err)
	}
	return nil
}
