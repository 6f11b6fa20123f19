package network

import (
	"fmt"
	"strings"
)

// Attachment is where an adapter is plugged in.
type Attachment struct {
	Kind     Kind   `json:"switchKind"`
	Switch   string `json:"switch"`
	UUID     string `json:"switchUuid,omitempty"` // of a DVS
	Group    string `json:"portgroup"`
	GroupKey string `json:"portgroupKey,omitempty"` // of a distributed port group
	VLAN     int    `json:"vlan"`
}

func (a Attachment) String() string {
	return fmt.Sprintf("%s on %s, %s", a.Group, a.Switch, vlanText(a.VLAN))
}

// same reports whether both are the same port group: by key on a DVS, where a
// name is not unique, and by label on a host, where it is.
func (a Attachment) same(b Attachment) bool {
	if a.Kind != b.Kind {
		return false
	}
	if a.Kind == Distributed && a.GroupKey != "" && b.GroupKey != "" {
		return a.GroupKey == b.GroupKey
	}
	return a.Switch == b.Switch && a.Group == b.Group
}

// Layout is the part of a host's network that a plan touches, in terms that
// can be compared: what was before, what shall be after, what is now.
type Layout struct {
	Uplinks   []UplinkState   `json:"uplinks"`
	Vmkernels []VmkernelState `json:"vmkernels"`
	Groups    []GroupState    `json:"portgroups,omitempty"` // standard port groups that adapters are plugged into
	NICs      []NICState      `json:"nics"`
}

// UplinkState says which switch has a physical NIC, and on which uplink port.
type UplinkState struct {
	Device string `json:"device"`
	Switch string `json:"switch"`
	Kind   Kind   `json:"switchKind"`
	Slot   string `json:"slot,omitempty"`
}

// VmkernelState is a vmkernel adapter with all that must survive a move.
type VmkernelState struct {
	Device   string     `json:"device"`
	At       Attachment `json:"at"`
	IP       string     `json:"ip"`
	Mask     string     `json:"mask"`
	DHCP     bool       `json:"dhcp,omitempty"`
	MAC      string     `json:"mac"`
	MTU      int        `json:"mtu"`
	Stack    string     `json:"stack,omitempty"`
	Services []string   `json:"services,omitempty"`
}

// GroupState is a standard port group's VLAN and effective policy.
type GroupState struct {
	Switch string `json:"switch"`
	Label  string `json:"label"`
	VLAN   int    `json:"vlan"`
	Policy Policy `json:"policy"`
}

// NICState is one network adapter of a virtual machine.
type NICState struct {
	VM  string     `json:"vm"`
	Ref string     `json:"ref"` // moref value
	Key int32      `json:"key"`
	NIC string     `json:"nic"` // label
	MAC string     `json:"mac"`
	At  Attachment `json:"at"`
}

func (v *Vmkernel) state(s *Snapshot) VmkernelState {
	return VmkernelState{
		Device: v.Device, At: v.at(s), IP: v.IP, Mask: v.Mask, DHCP: v.DHCP, MAC: v.MAC, MTU: v.MTU, Stack: v.Stack, Services: v.Services,
	}
}

func (v *Vmkernel) at(s *Snapshot) Attachment {
	a := Attachment{Kind: v.Kind, Switch: v.Switch, Group: v.Group, GroupKey: v.GroupKey, VLAN: v.VLAN.ID}
	if d := s.dvsNamed(v.Switch); v.Kind == Distributed && d != nil {
		a.UUID = d.UUID
	}
	return a
}

func (n *NIC) at(s *Snapshot) Attachment {
	a := Attachment{Kind: n.Kind, Switch: n.Switch, Group: n.Group, GroupKey: n.GroupKey}
	if n.Kind == Distributed {
		if d := s.dvsNamed(n.Switch); d != nil {
			a.UUID = d.UUID
			if g := d.group(n.GroupKey); g != nil {
				a.VLAN = g.VLAN.ID
			}
		}
	} else if _, g := s.portGroup(n.Group); g != nil {
		a.VLAN = g.VLAN
	}
	return a
}

func (s *Snapshot) uplinkState(device string) UplinkState {
	u := s.uplink(device)
	if u == nil {
		return UplinkState{Device: device}
	}
	st := UplinkState{Device: device, Switch: u.Switch, Kind: u.Kind}
	if d := s.dvsNamed(u.Switch); u.Kind == Distributed && d != nil {
		st.Slot = d.slot(device)
	}
	return st
}

// mismatches compares the host's part of a layout, everything but the virtual
// machines, with a snapshot. Each difference is one line for a person.
func (l Layout) mismatches(s *Snapshot) (out []string) {
	differ := func(what, field string, want, got any) {
		if w, g := fmt.Sprint(want), fmt.Sprint(got); w != g {
			out = append(out, fmt.Sprintf("%s: %s is %s, not %s", what, field, orNone(g), orNone(w)))
		}
	}
	for _, want := range l.Uplinks {
		got := s.uplinkState(want.Device)
		if want.Kind != got.Kind && want.Switch == got.Switch {
			differ(want.Device, "kind of switch", want.Kind, got.Kind)
			continue
		}
		differ(want.Device, "switch", want.Switch, got.Switch)
		if want.Slot != "" && got.Switch == want.Switch {
			differ(want.Device, "uplink port", want.Slot, got.Slot)
		}
	}
	for _, want := range l.Vmkernels {
		v := s.vmkernel(want.Device)
		if v == nil {
			out = append(out, want.Device+": is gone")
			continue
		}
		got := v.state(s)
		if !want.At.same(got.At) {
			line := fmt.Sprintf("%s: port group is %s, not %s", want.Device, got.At, want.At)
			if got.At.String() == want.At.String() {
				line += fmt.Sprintf(" (%s, not %s)", got.At.GroupKey, want.At.GroupKey)
			}
			out = append(out, line)
			continue
		}
		differ(want.Device, "VLAN", want.At.VLAN, got.At.VLAN)
		if !want.DHCP {
			differ(want.Device, "address", want.IP, got.IP)
			differ(want.Device, "netmask", want.Mask, got.Mask)
		}
		differ(want.Device, "DHCP", want.DHCP, got.DHCP)
		differ(want.Device, "MAC address", strings.ToLower(want.MAC), strings.ToLower(got.MAC))
		differ(want.Device, "MTU", want.MTU, got.MTU)
		differ(want.Device, "TCP/IP stack", want.Stack, got.Stack)
		differ(want.Device, "services", strings.Join(want.Services, " "), strings.Join(got.Services, " "))
	}
	for _, want := range l.Groups {
		sw, g := s.portGroup(want.Label)
		if g == nil || sw.Name != want.Switch {
			out = append(out, fmt.Sprintf("port group %s: is not on %s", want.Label, want.Switch))
			continue
		}
		differ("port group "+want.Label, "VLAN", want.VLAN, g.VLAN)
		for _, w := range g.Policy.differences(want.Policy) {
			out = append(out, fmt.Sprintf("port group %s: %s expected", want.Label, w))
		}
	}
	return out
}

// holds reports whether the uplinks and vmkernel adapters are where the layout
// has them, whatever their other settings.
func (l Layout) holds(s *Snapshot) bool {
	for _, want := range l.Uplinks {
		if got := s.uplinkState(want.Device); got.Switch != want.Switch || got.Kind != want.Kind {
			return false
		}
	}
	for _, want := range l.Vmkernels {
		if v := s.vmkernel(want.Device); v == nil || !v.at(s).same(want.At) {
			return false
		}
	}
	return true
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
