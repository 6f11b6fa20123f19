package sim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// world is what is true of a lab's network at one instant. The vCenter and the hosts publish views of it; none of
// them owns a part. A world that has been committed never changes: an operation clones it, asks for the host, switch
// or VM it wants to change by the edit functions, and returns the clone or a refusal. Specs borrowed from the API
// (pointers inside vim types) are shared between clones and are replaced, never written through.
type world struct {
	hosts    []*host
	switches []*dvSwitch
	vms      []*vm
	fabric   []segment
}

// segment is an IP subnet and the VLAN in which it lives on the physical network; 0 is the native, untagged one.
type segment struct {
	prefix netip.Prefix
	vlan   int
}

// host is one ESXi host's networking, and the cable at its back.
type host struct {
	name     string
	address  string // the IP at which vCenter and clients know the host; vmk0 must keep it to stay reachable
	pnics    []pnic
	switches []vswitch
	groups   []types.HostPortGroupSpec
	proxies  []proxySwitch
	vmks     []vmk
	dns      []string
	gateway  string
	domain   string
	wire     wire
	system   system
}

// pnic is a physical adapter. mbps is its link speed in Mbit/s; 0 means that the link is down.
type pnic struct {
	device, mac, driver, pci string
	mbps                     int32
}

type vswitch struct {
	name string
	spec types.HostVirtualSwitchSpec
}

// nics are the physical adapters bridged to the switch, in order.
func (s *vswitch) nics() []string {
	if b, ok := s.spec.Bridge.(*types.HostVirtualSwitchBondBridge); ok && b != nil {
		return b.NicDevice
	}
	return nil
}

// proxySwitch is a host's part of a distributed switch.
type proxySwitch struct {
	dvs     string // uuid
	uplinks []uplink
}

// uplink is a physical adapter plugged into an uplink port.
type uplink struct{ pnic, port string }

// vmk is a VMkernel adapter. Exactly one of spec.Portgroup and spec.DistributedVirtualPort is set.
type vmk struct {
	device   string
	spec     types.HostVirtualNicSpec
	services []string // management, vmotion, vsan, …: what HostVirtualNicManager calls nicType
}

// wire is the switch port at the other end of the host's cables. The zero wire is a trunk: a frame with tag N is in
// VLAN N, an untagged one in the native VLAN. With access set the port lets untagged frames pass and drops tagged ones.
type wire struct{ access int }

// vm is a virtual machine as far as the network is concerned; the rest of it lives in the inventories.
type vm struct {
	id       string
	name     string
	host     string
	on       bool
	template bool
	guestIP  string
	guestDNS string
	product  string // vApp product name; the VCSA is told by it
	esxi     bool   // ESXi runs in it
	nics     []nic
}

// nic is a virtual Ethernet card. It is attached to a standard port group (group) or to a distributed port (dvs,
// dvGroup, port).
type nic struct {
	key     int32
	device  types.BaseVirtualDevice // the card as last specified; the fields below win over what it says
	label   string
	mac     string
	connect types.VirtualDeviceConnectInfo
	attach  attachment
	home    int // VLAN in which the guest expects to be
}

// anyVLAN marks a guest of which only the port group knows where it belongs.
const anyVLAN = -1

// attachment is where a virtual adapter is plugged in.
type attachment struct {
	group              string // standard port group, or "":
	dvs, dvGroup, port string // uuid, port group key, port key
}

// vlanTrunk is the VLAN id by which a standard port group hands all tags to the guest.
const vlanTrunk = 4095

// linkMbps is the speed of a NUC's adapter.
const linkMbps = 1000

func (w *world) clone() *world {
	c := *w
	c.hosts = slices.Clone(w.hosts)
	c.switches = slices.Clone(w.switches)
	c.vms = slices.Clone(w.vms)
	return &c
}

func (w *world) host(name string) *host {
	for _, h := range w.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// editHost replaces a host by a copy that may be changed.
func (w *world) editHost(name string) *host {
	for i, h := range w.hosts {
		if h.name != name {
			continue
		}
		c := *h
		c.pnics = slices.Clone(h.pnics)
		c.switches = slices.Clone(h.switches)
		c.groups = slices.Clone(h.groups)
		c.vmks = slices.Clone(h.vmks)
		c.proxies = slices.Clone(h.proxies)
		w.hosts[i] = &c
		return &c
	}
	return nil
}

func (w *world) vm(id string) *vm {
	for _, v := range w.vms {
		if v.id == id {
			return v
		}
	}
	return nil
}

func (w *world) editVM(id string) *vm {
	for i, v := range w.vms {
		if v.id != id {
			continue
		}
		c := *v
		c.nics = slices.Clone(v.nics)
		w.vms[i] = &c
		return &c
	}
	return nil
}

func (h *host) vswitch(name string) *vswitch {
	for i := range h.switches {
		if h.switches[i].name == name {
			return &h.switches[i]
		}
	}
	return nil
}

func (h *host) group(label string) *types.HostPortGroupSpec {
	for i := range h.groups {
		if h.groups[i].Name == label {
			return &h.groups[i]
		}
	}
	return nil
}

func (h *host) pnic(device string) *pnic {
	for i := range h.pnics {
		if h.pnics[i].device == device {
			return &h.pnics[i]
		}
	}
	return nil
}

func (h *host) proxy(dvs string) *proxySwitch {
	for i := range h.proxies {
		if h.proxies[i].dvs == dvs {
			return &h.proxies[i]
		}
	}
	return nil
}

func (h *host) vmk(device string) *vmk {
	for i := range h.vmks {
		if h.vmks[i].device == device {
			return &h.vmks[i]
		}
	}
	return nil
}

func (k *vmk) attachment() attachment {
	if p := k.spec.DistributedVirtualPort; p != nil {
		return attachment{dvs: p.SwitchUuid, dvGroup: p.PortgroupKey, port: p.PortKey}
	}
	return attachment{group: k.spec.Portgroup}
}

// vlanOf is the VLAN of the subnet an address belongs to.
func (w *world) vlanOf(ip string) (int, bool) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return 0, false
	}
	for _, s := range w.fabric {
		if s.prefix.Contains(addr) {
			return s.vlan, true
		}
	}
	return 0, false
}

// management says whether the host's management answers on the wire, and if not, why. hostd is known by vmk0's
// address, so it is vmk0 whose path counts.
func (w *world) management(name string) (ok bool, reason string) {
	h := w.host(name)
	switch {
	case h.system.power != powerOn:
		return false, "the host is " + h.system.power.String()
	case h.system.agents:
		return false, "the management agents are restarting"
	}
	k := h.vmk("vmk0")
	if k == nil {
		return false, "vmk0 does not exist"
	}
	if k.spec.Ip == nil || k.spec.Ip.IpAddress != h.address {
		return false, "vmk0 has lost its address " + h.address
	}
	home, known := w.vlanOf(h.address)
	if !known {
		return false, "no subnet on the wire holds " + h.address
	}
	reason = w.dark(h, k.attachment(), home, false)
	return reason == "", reason
}

// nicDark is the reason why a VM's card has no network, or "".
func (w *world) nicDark(v *vm, n *nic) string {
	if !n.connect.Connected {
		return "disconnected"
	}
	if p := w.host(v.host).system.power; p != powerOn {
		return "its host is " + p.String()
	}
	return w.dark(w.host(v.host), n.attach, n.home, true)
}

// dark gives the reason why an adapter attached at a cannot talk to its VLAN, or "": a working uplink that the
// teaming of its port group uses, and a tag that the wire carries to that VLAN. A guest may tag its own frames, a
// VMkernel adapter never does.
func (w *world) dark(h *host, a attachment, home int, guest bool) string {
	var uplinks []string
	var tag vlanTag
	switch {
	case a.dvs != "":
		d := w.dvs(a.dvs)
		p := h.proxy(a.dvs)
		if d == nil || p == nil {
			return "the host is not on that distributed switch"
		}
		s := d.setting(a)
		if s == nil {
			return "the distributed port group is gone"
		}
		tag = dvTag(s)
		uplinks = d.teamed(s, p)
	case h.group(a.group) != nil:
		pg := h.group(a.group)
		vs := h.vswitch(pg.VswitchName)
		if pg.VlanId == vlanTrunk {
			tag = vlanTag{trunk: []types.NumericRange{{Start: 0, End: 4094}}}
		} else {
			tag = vlanTag{id: int(pg.VlanId)}
		}
		uplinks = teamed(vs, pg)
	default:
		return fmt.Sprintf("port group %q is gone", a.group)
	}
	if len(uplinks) == 0 {
		return "no uplink is active or standby for its port group"
	}
	if !slices.ContainsFunc(uplinks, func(d string) bool { p := h.pnic(d); return p != nil && p.mbps > 0 }) {
		return "the link of its uplink is down"
	}
	frames := tag.id
	if guest && home > 0 && tag.passes(home) {
		frames = home
	}
	return h.wire.blocks(frames, home)
}

// teamed lists the adapters that a standard port group may use: its own order wins over its switch's.
func teamed(s *vswitch, pg *types.HostPortGroupSpec) []string {
	order := nicOrder(&pg.Policy)
	if order == nil {
		order = nicOrder(s.spec.Policy)
	}
	if order == nil {
		return s.nics()
	}
	var use []string
	for _, d := range slices.Concat(order.ActiveNic, order.StandbyNic) {
		if slices.Contains(s.nics(), d) {
			use = append(use, d)
		}
	}
	return use
}

func nicOrder(p *types.HostNetworkPolicy) *types.HostNicOrderPolicy {
	if p == nil || p.NicTeaming == nil {
		return nil
	}
	return p.NicTeaming.NicOrder
}

// vlanTag is how frames leave a port group: with one tag (id, 0 for none), or with the guest's own (trunk).
type vlanTag struct {
	id    int
	trunk []types.NumericRange
}

func (t vlanTag) passes(vlan int) bool {
	return slices.ContainsFunc(t.trunk, func(r types.NumericRange) bool {
		return int(r.Start) <= vlan && vlan <= int(r.End)
	})
}

// blocks gives the reason why frames with this tag (0: none) do not reach VLAN home, or "".
func (wr wire) blocks(tag, home int) string {
	switch {
	case wr.access != 0 && tag != 0:
		return fmt.Sprintf("the wire is an access port of VLAN %d and drops tag %d", wr.access, tag)
	case wr.access != 0, home == anyVLAN, tag == home:
		return ""
	case tag == 0:
		return fmt.Sprintf("its frames are untagged, its network is VLAN %d", home)
	default:
		return fmt.Sprintf("its frames carry tag %d, its network is VLAN %d", tag, home)
	}
}
