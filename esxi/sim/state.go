package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is what is true in a lab, as its control server tells it: in a fixed order, times in milliseconds.
type State struct {
	Version        int           `json:"version"`
	Scene          string        `json:"scene"`
	Hosts          []HostState   `json:"hosts"`
	DVS            []SwitchState `json:"dvs"`
	Faults         []*FaultState `json:"faults"`
	Held           int           `json:"held"` // requests that a hold keeps
	Requests       Requests      `json:"requests"`
	RollbackEvents int           `json:"rollbackEvents"`
	VCHs           []VCHState    `json:"vchs"`
	Pools          []PoolState   `json:"pools"`   // without those that the hosts came with
	Folders        []FolderState `json:"folders"` // of VMs, below the datacenter's
	Files          []FileState   `json:"files"`   // on the datastores, without those of the scene's own VMs
}

// FaultState is an armed fault and what it has done.
type FaultState struct {
	Fault
	Seen  int `json:"seen"`  // requests it could have struck since it was armed
	Fired int `json:"fired"` // how often it has struck
}

// HostState is a host and its VMs.
type HostState struct {
	Name            string          `json:"name"`
	ConnectionState string          `json:"connectionState"` // as the vCenter shows it
	Power           string          `json:"power"`           // on, off or booting
	SSH             bool            `json:"ssh"`
	Shell           bool            `json:"shell"`
	Lockdown        bool            `json:"lockdown"`
	Management      Management      `json:"management"`
	Pnics           []PnicState     `json:"pnics"`
	Switches        []SwitchPart    `json:"switches"`
	ProxySwitches   []SwitchPart    `json:"proxySwitches"`
	Portgroups      []Portgroup     `json:"portgroups"`
	Vmkernels       []VmkernelState `json:"vmkernels"`
	VMs             []VMState       `json:"vms"`
	Wire            WireState       `json:"wire"`
	DarkMs          int64           `json:"darkMs"` // how long vmk0 was unreachable since the last reset
}

// Management is where vmk0 is and whether it answers.
type Management struct {
	Device     string `json:"device"`
	Switch     string `json:"switch"`
	SwitchKind string `json:"switchKind"` // standard or distributed
	Portgroup  string `json:"portgroup"`
	VLAN       int    `json:"vlan"`
	Reachable  bool   `json:"reachable"`
	Reason     string `json:"reason"` // why not
}

// PnicState is a physical adapter.
type PnicState struct {
	Device string `json:"device"`
	Mbps   int32  `json:"mbps"` // 0: the link is down
	Switch string `json:"switch"`
}

// SwitchPart is a standard switch, or a host's part of a distributed one.
type SwitchPart struct {
	Name    string   `json:"name"`
	MTU     int32    `json:"mtu"`
	Uplinks []string `json:"uplinks"` // pnics; on a distributed switch pnic=uplink port name
}

// Portgroup is a standard port group, or a distributed one.
type Portgroup struct {
	Name   string `json:"name"`
	VLAN   int    `json:"vlan"`
	Switch string `json:"switch,omitempty"`
	Type   string `json:"type,omitempty"` // port binding of a distributed port group
}

// VmkernelState is a VMkernel adapter.
type VmkernelState struct {
	Device     string   `json:"device"`
	IP         string   `json:"ip"`
	MAC        string   `json:"mac"`
	MTU        int32    `json:"mtu"`
	Switch     string   `json:"switch"`
	SwitchKind string   `json:"switchKind"`
	Portgroup  string   `json:"portgroup"`
	VLAN       int      `json:"vlan"`
	Services   []string `json:"services"`
}

// VMState is a VM and its cards.
type VMState struct {
	Name     string     `json:"name"`
	Power    string     `json:"power"` // on or off
	Template bool       `json:"template"`
	NICs     []NICState `json:"nics"`
}

// NICState is a VM's Ethernet card.
type NICState struct {
	Label      string `json:"label"`
	MAC        string `json:"mac"`
	Switch     string `json:"switch"`
	SwitchKind string `json:"switchKind"`
	Portgroup  string `json:"portgroup"`
	Port       string `json:"port,omitempty"` // distributed port key
	Connected  bool   `json:"connected"`
	Lit        bool   `json:"lit"`    // it has a working uplink and its VLAN
	DarkMs     int64  `json:"darkMs"` // how long a running VM had no network on it since the last reset
}

// WireState is the switch port at the other end of a host's cable.
type WireState struct {
	Mode string `json:"mode"` // trunk or access
	VLAN int    `json:"vlan"` // of an access port
}

// SwitchState is a distributed switch.
type SwitchState struct {
	Name          string      `json:"name"`
	UUID          string      `json:"uuid"`
	ConfigVersion int         `json:"configVersion"`
	MTU           int32       `json:"mtu"`
	Members       []string    `json:"members"`
	Portgroups    []Portgroup `json:"portgroups"`
}

// Requests counts API requests since the last reset.
type Requests struct {
	Total  int              `json:"total"`
	ByPath map[string]int   `json:"byPath"` // vcenter, esxi
	Bytes  map[string]int64 `json:"bytes"`  // received in uploads to datastores, by path
	Calls  []string         `json:"calls"`  // method names in order of arrival, the first 5000
}

// State reads what is true at this moment.
func (l *Lab) State() State {
	s := l.site.Load()
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := time.Now()
	st := State{
		Version: 1, Scene: l.opt.Scene, Hosts: []HostState{}, DVS: []SwitchState{}, Faults: l.faults.state(),
		Held: int(l.held.Load()), Requests: l.tally.state(), RollbackEvents: s.rollbacks,
		VCHs: s.vchs(), Pools: s.poolList(), Folders: s.folderList(), Files: s.files(),
	}
	for _, h := range s.world.hosts {
		st.Hosts = append(st.Hosts, s.hostState(h, now))
	}
	for _, d := range s.world.switches {
		sw := SwitchState{Name: d.name, UUID: d.uuid, ConfigVersion: d.version, MTU: d.mtu, Members: append([]string{}, d.members...), Portgroups: []Portgroup{}}
		for i := range d.groups {
			g := &d.groups[i]
			sw.Portgroups = append(sw.Portgroups, Portgroup{Name: g.name, VLAN: dvTag(g.setting).number(), Type: g.binding()})
		}
		st.DVS = append(st.DVS, sw)
	}
	return st
}

// number is the tag as the project's JSON shows it: trunks are 4095.
func (t vlanTag) number() int {
	if t.trunk != nil {
		return vlanTrunk
	}
	return t.id
}

func (s *site) hostState(h *host, now time.Time) HostState {
	w := s.world
	st := HostState{
		Name: h.name, ConnectionState: string(s.members[h.name].state), DarkMs: s.darkFor(h.name, now),
		Power: h.system.power.String(), SSH: h.system.ssh, Shell: h.system.shell, Lockdown: h.system.lockdown,
		Pnics: []PnicState{}, Switches: []SwitchPart{}, ProxySwitches: []SwitchPart{}, Portgroups: []Portgroup{},
		Vmkernels: []VmkernelState{}, VMs: []VMState{}, Wire: WireState{Mode: "trunk"},
	}
	if h.wire.access != 0 {
		st.Wire = WireState{Mode: "access", VLAN: h.wire.access}
	}
	owner := map[string]string{}
	for i := range h.switches {
		v := &h.switches[i]
		st.Switches = append(st.Switches, SwitchPart{Name: v.name, MTU: v.spec.Mtu, Uplinks: append([]string{}, v.nics()...)})
		for _, d := range v.nics() {
			owner[d] = v.name
		}
	}
	for _, p := range h.proxies {
		d := w.dvs(p.dvs)
		part := SwitchPart{Name: d.name, MTU: d.mtu, Uplinks: []string{}}
		for _, u := range p.uplinks {
			part.Uplinks = append(part.Uplinks, u.pnic+"="+d.port(u.port).name)
			owner[u.pnic] = d.name
		}
		st.ProxySwitches = append(st.ProxySwitches, part)
	}
	for _, p := range h.pnics {
		st.Pnics = append(st.Pnics, PnicState{Device: p.device, Mbps: p.mbps, Switch: owner[p.device]})
	}
	for _, g := range h.groups {
		st.Portgroups = append(st.Portgroups, Portgroup{Name: g.Name, VLAN: int(g.VlanId), Switch: g.VswitchName})
	}
	slices.SortFunc(st.Portgroups, func(a, b Portgroup) int { return strings.Compare(a.Name, b.Name) })
	for i := range h.vmks {
		k := &h.vmks[i]
		at := w.place(h, k.attachment())
		ks := VmkernelState{Device: k.device, MAC: k.spec.Mac, MTU: k.spec.Mtu, Switch: at.sw, SwitchKind: at.kind, Portgroup: at.group, VLAN: at.vlan,
			Services: append([]string{}, k.services...)}
		if k.spec.Ip != nil {
			ks.IP = k.spec.Ip.IpAddress
		}
		st.Vmkernels = append(st.Vmkernels, ks)
		if k.device == "vmk0" {
			st.Management = Management{Device: k.device, Switch: at.sw, SwitchKind: at.kind, Portgroup: at.group, VLAN: at.vlan}
		}
	}
	st.Management.Reachable, st.Management.Reason = w.management(h.name)
	for _, v := range w.vms {
		if v.host != h.name {
			continue
		}
		vs := VMState{Name: v.name, Power: "off", Template: v.template, NICs: []NICState{}}
		if v.on {
			vs.Power = "on"
		}
		for i := range v.nics {
			n := &v.nics[i]
			at := w.place(h, n.attach)
			vs.NICs = append(vs.NICs, NICState{
				Label: n.label, MAC: n.mac, Switch: at.sw, SwitchKind: at.kind, Portgroup: at.group, Port: n.attach.port,
				Connected: n.connect.Connected, Lit: w.nicDark(v, n) == "", DarkMs: s.darkFor(fmt.Sprint(v.id, "#", n.key), now),
			})
		}
		st.VMs = append(st.VMs, vs)
	}
	return st
}

// place says in words where an adapter is attached.
type place struct {
	sw, kind, group string
	vlan            int
}

func (w *world) place(h *host, a attachment) place {
	if a.dvs != "" {
		p := place{kind: "distributed"}
		if d := w.dvs(a.dvs); d != nil {
			p.sw = d.name
			if g := d.group(a.dvGroup); g != nil {
				p.group, p.vlan = g.name, dvTag(d.setting(a)).number()
			}
		}
		return p
	}
	p := place{kind: "standard", group: a.group}
	if g := h.group(a.group); g != nil {
		p.sw, p.vlan = g.VswitchName, int(g.VlanId)
	}
	return p
}

func (t *tally) state() Requests {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := Requests{Total: t.total, ByPath: map[string]int{"vcenter": 0, "esxi": 0}, Bytes: map[string]int64{"vcenter": 0, "esxi": 0}, Calls: append([]string{}, t.calls...)}
	for k, v := range t.byPath {
		r.ByPath[k] = v
	}
	for k, v := range t.bytes {
		r.Bytes[k] = v
	}
	return r
}

func (s *faultSet) state() []*FaultState {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []*FaultState{}
	for _, f := range s.armed {
		list = append(list, &FaultState{Fault: f.Fault, Seen: f.Seen, Fired: f.Fired})
	}
	return list
}
