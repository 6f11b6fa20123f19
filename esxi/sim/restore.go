package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// What the console's Network Restore Options and management dialogs do to a host of a world that may be changed. They
// are done by the host itself: no vCenter is asked, and none takes them back.

// The names that ESXi gives to what it makes.
const (
	defaultSwitch = "vSwitch0"
	defaultGroup  = "Management Network"
)

// restoreStandard moves vmk0, with its address, and the first uplink of its distributed switch to a standard switch,
// untagged. Other adapters stay. A switch or port group of that name is used as it is found: sources differ on whether
// ESXi clears it away first, and clearing would cost a VM its network.
func (w *world) restoreStandard(h *host) {
	k := h.vmk("vmk0")
	if k == nil || k.attachment().dvs == "" {
		return
	}
	var device string
	if p := h.proxy(k.attachment().dvs); p != nil && len(p.uplinks) > 0 {
		device = p.uplinks[0].pnic
		p.uplinks = slices.Clone(p.uplinks[1:])
		w.editDVS(p.dvs).version++
	} else {
		device = h.idle()
	}
	h.layStandard(device)
	k.spec.Portgroup, k.spec.DistributedVirtualPort = defaultGroup, nil
	w.renew(h)
}

// restoreDistributed gives the port of vmk0 a VLAN of its own, whatever its port group says, and the distributed switch
// an uplink again, if it has none and one is free. On a real host it is another port, made by the host, which the
// vCenter gets to know later.
func (w *world) restoreDistributed(h *host, with map[string]string) {
	k := h.vmk("vmk0")
	if k == nil {
		return
	}
	at := k.attachment()
	p := h.proxy(at.dvs)
	if w.dvs(at.dvs) == nil || p == nil {
		return
	}
	d := w.editDVS(at.dvs)
	d.version++
	if port := d.port(at.port); port != nil {
		n, _ := strconv.Atoi(with["vlan"]) // an empty field is no VLAN
		own := types.VMwareDVSPortSetting{}
		if port.override != nil {
			own = *port.override
		}
		own.Vlan = vlanID(int32(n))
		port.override = &own
	}
	if device := h.idle(); device != "" && len(p.uplinks) == 0 && with["adapters"] != "" {
		// Refused only if every uplink port is taken, and then there is nothing to do.
		_ = w.plugUplinks(h, d, []types.DistributedVirtualSwitchHostMemberPnicSpec{{PnicDevice: device}})
	}
}

// wipe sets a host's network back to that of a new installation: one switch, vmk0 by DHCP.
func (w *world) wipe(h *host) {
	mac := macFor(h.name + "vmk0")
	if k := h.vmk("vmk0"); k != nil {
		mac = k.spec.Mac
	}
	for _, p := range h.proxies {
		w.editDVS(p.dvs).leave(h.name)
	}
	h.proxies, h.switches, h.groups, h.dns, h.gateway = nil, nil, nil, nil, ""
	h.layStandard(h.idle())
	h.groups = append(h.groups, types.HostPortGroupSpec{Name: "VM Network", VswitchName: defaultSwitch})
	h.vmks = []vmk{{device: "vmk0", services: []string{"management"}, spec: types.HostVirtualNicSpec{
		Ip: &types.HostIpConfig{Dhcp: true}, Mac: mac, Mtu: 1500, Portgroup: defaultGroup,
		TsoEnabled: types.NewBool(true), NetStackInstanceKey: "defaultTcpipStack",
	}}}
	w.renew(h)
}

// idle names the first physical adapter that no switch has, or "".
func (h *host) idle() string {
	for _, p := range h.pnics {
		used := slices.ContainsFunc(h.switches, func(v vswitch) bool { return slices.Contains(v.nics(), p.device) }) ||
			slices.ContainsFunc(h.proxies, func(q proxySwitch) bool {
				return slices.ContainsFunc(q.uplinks, func(u uplink) bool { return u.pnic == p.device })
			})
		if !used {
			return p.device
		}
	}
	return ""
}

// layStandard makes the default switch and management port group, untagged, and gives the switch an uplink.
func (h *host) layStandard(device string) {
	v := h.vswitch(defaultSwitch)
	if v == nil {
		h.switches = append(h.switches, vswitch{name: defaultSwitch, spec: types.HostVirtualSwitchSpec{NumPorts: 128, Mtu: 1500, Policy: defaultPolicy()}})
		v = &h.switches[len(h.switches)-1]
	}
	if device != "" {
		h.bridge(v, append(slices.Clone(v.nics()), device))
	}
	group := types.HostPortGroupSpec{Name: defaultGroup, VswitchName: defaultSwitch}
	if g := h.group(defaultGroup); g != nil {
		*g = group
	} else {
		h.groups = append(h.groups, group)
	}
}

// bridge gives a switch these adapters, all of them active.
func (h *host) bridge(v *vswitch, nics []string) {
	v.spec.Bridge = nil
	if len(nics) > 0 {
		v.spec.Bridge = &types.HostVirtualSwitchBondBridge{NicDevice: nics, Beacon: &types.HostVirtualSwitchBeaconConfig{Interval: 1}}
	}
	v.spec.Policy = mergePolicy(v.spec.Policy, &types.HostNetworkPolicy{
		NicTeaming: &types.HostNicTeamingPolicy{NicOrder: &types.HostNicOrderPolicy{ActiveNic: nics}},
	})
}

// confirm applies what the dialogs of the management network were confirmed with, as far as vmk0 is on a standard
// switch: on a distributed one VLAN and uplinks are vCenter's.
func (w *world) confirm(h *host, to map[string]string) {
	k := h.vmk("vmk0")
	if k == nil {
		return
	}
	if g := h.group(k.spec.Portgroup); g != nil {
		if vlan, ok := to["vlan"]; ok {
			n, _ := strconv.Atoi(vlan) // an empty field is no VLAN
			g.VlanId = int32(n)
		}
		if marked, ok := to["adapters"]; ok {
			var nics []string
			for device := range strings.SplitSeq(marked, ",") {
				v := h.vswitch(g.VswitchName)
				if h.pnic(device) != nil && (slices.Contains(v.nics(), device) || h.free(device)) {
					nics = append(nics, device)
				}
			}
			h.bridge(h.vswitch(g.VswitchName), nics)
		}
	}
	switch to["ipv4"] {
	case "off":
		k.spec.Ip = &types.HostIpConfig{}
	case "dhcp":
		k.spec.Ip = &types.HostIpConfig{Dhcp: true}
	case "static":
		k.spec.Ip = &types.HostIpConfig{IpAddress: to["address"], SubnetMask: to["netmask"]}
		h.gateway = to["gateway"]
	}
	if _, ok := to["dns1"]; ok {
		h.dns = slices.DeleteFunc([]string{to["dns1"], to["dns2"]}, func(a string) bool { return a == "" })
	}
	w.renew(h)
}

// free says whether no switch has a physical adapter.
func (h *host) free(device string) bool {
	c := *h
	c.pnics = slices.DeleteFunc(slices.Clone(h.pnics), func(p pnic) bool { return p.device != device })
	return c.idle() == device
}

// renew asks for a lease where vmk0 wants one. There is a DHCP server in every subnet, and it knows nobody: the address
// is never the one by which the host was known.
func (w *world) renew(h *host) {
	k := h.vmk("vmk0")
	if k == nil || k.spec.Ip == nil || !k.spec.Ip.Dhcp {
		return
	}
	n := 1 + slices.IndexFunc(w.hosts, func(o *host) bool { return o.name == h.name })
	ip := types.HostIpConfig{Dhcp: true, IpAddress: fmt.Sprintf("169.254.7.%d", n), SubnetMask: "255.255.0.0"}
	at := w.place(h, k.attachment())
	for _, s := range w.fabric {
		home := s.vlan
		if h.wire.access != 0 && home != h.wire.access || s.prefix.Addr().IsLoopback() {
			continue
		}
		if w.dark(h, k.attachment(), home, false) == "" && (h.wire.access != 0 || at.vlan == home) {
			b := s.prefix.Addr().As4()
			b[3] = byte(150 + n)
			ip.IpAddress, ip.SubnetMask = netip.AddrFrom4(b).String(), "255.255.255.0"
			break
		}
	}
	k.spec.Ip = &ip
}
