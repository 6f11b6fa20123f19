package network

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// Policy is what a port group demands of its switch, in terms that both kinds
// of switch share. Active and Standby name physical NICs.
type Policy struct {
	Security security `json:"security"`
	Teaming  teaming  `json:"teaming"`
	Shaping  *Shaping `json:"shaping,omitempty"` // nil: not shaped
}

type security struct {
	Promiscuous bool `json:"promiscuous"`
	MACChanges  bool `json:"macChanges"`
	Forged      bool `json:"forgedTransmits"`
}

type teaming struct {
	Mode    string   `json:"mode"`    // as in loadbalance_srcid
	Reverse bool     `json:"reverse"` // since vSphere 5.1 always true, whatever is sent: never compared
	Notify  bool     `json:"notifySwitches"`
	Rolling bool     `json:"rolling"` // true: no failback
	Beacon  bool     `json:"beacon"`
	Active  []string `json:"active"`
	Standby []string `json:"standby,omitempty"`
}

// Shaping limits traffic: bandwidths in bits per second, the burst in bytes
// (types.HostNetworkTrafficShapingPolicy).
type Shaping struct {
	Average int64 `json:"average"`
	Peak    int64 `json:"peak"`
	Burst   int64 `json:"burst"`
}

// The load balancing modes of vim25; the last exists on a DVS only.
const (
	bySourcePort = "loadbalance_srcid"
	byOrder      = "failover_explicit"
	byLoad       = "loadbalance_loadbased"
)

func yes(b *bool) bool                        { return b != nil && *b }
func yesPolicy(b *types.BoolPolicy) bool      { return b != nil && yes(b.Value) }
func boolPolicy(b bool) *types.BoolPolicy     { return &types.BoolPolicy{Value: &b} }
func textPolicy(s string) *types.StringPolicy { return &types.StringPolicy{Value: s} }

// hostPolicy returns the effective policy of a standard port group: what it
// says itself, else what its switch says. uplinks are the switch's; one that
// no order names is not used.
func hostPolicy(uplinks []string, ofSwitch, own *types.HostNetworkPolicy) Policy {
	var p Policy
	p.Teaming = teaming{Mode: bySourcePort, Notify: true, Active: uplinks}
	for _, h := range []*types.HostNetworkPolicy{ofSwitch, own} {
		if h == nil {
			continue
		}
		if s := h.Security; s != nil {
			set(&p.Security.Promiscuous, s.AllowPromiscuous)
			set(&p.Security.MACChanges, s.MacChanges)
			set(&p.Security.Forged, s.ForgedTransmits)
		}
		if t := h.NicTeaming; t != nil {
			if t.Policy != "" {
				p.Teaming.Mode = t.Policy
			}
			set(&p.Teaming.Reverse, t.ReversePolicy)
			set(&p.Teaming.Notify, t.NotifySwitches)
			set(&p.Teaming.Rolling, t.RollingOrder)
			if t.FailureCriteria != nil {
				set(&p.Teaming.Beacon, t.FailureCriteria.CheckBeacon)
			}
			if o := t.NicOrder; o != nil && len(o.ActiveNic)+len(o.StandbyNic) > 0 {
				p.Teaming.Active, p.Teaming.Standby = slices.Clone(o.ActiveNic), slices.Clone(o.StandbyNic)
			}
		}
		if s := h.ShapingPolicy; s != nil && s.Enabled != nil {
			p.Shaping = nil
			if *s.Enabled {
				p.Shaping = &Shaping{Average: s.AverageBandwidth, Peak: s.PeakBandwidth, Burst: s.BurstSize}
			}
		}
	}
	return p
}

func set(dst *bool, src *bool) {
	if src != nil {
		*dst = *src
	}
}

// host spells the policy out in full, so that nothing is left to a default
// that differs between ESXi versions.
func (p Policy) host() types.HostNetworkPolicy {
	no, t := false, p.Teaming
	// A switch that has lost its uplinks has no order, not an empty one: so it
	// is in what the vSphere Client sends.
	var order *types.HostNicOrderPolicy
	if len(t.Active)+len(t.Standby) > 0 {
		order = &types.HostNicOrderPolicy{ActiveNic: t.Active, StandbyNic: t.Standby}
	}
	shaping := &types.HostNetworkTrafficShapingPolicy{Enabled: &no}
	if s := p.Shaping; s != nil {
		shaping = &types.HostNetworkTrafficShapingPolicy{Enabled: types.NewBool(true), AverageBandwidth: s.Average, PeakBandwidth: s.Peak, BurstSize: s.Burst}
	}
	return types.HostNetworkPolicy{
		Security: &types.HostNetworkSecurityPolicy{
			AllowPromiscuous: &p.Security.Promiscuous, MacChanges: &p.Security.MACChanges, ForgedTransmits: &p.Security.Forged,
		},
		NicTeaming: &types.HostNicTeamingPolicy{
			Policy: t.Mode, ReversePolicy: &t.Reverse, NotifySwitches: &t.Notify, RollingOrder: &t.Rolling,
			FailureCriteria: &types.HostNicFailureCriteria{
				CheckSpeed: "minimum", Speed: 10, CheckDuplex: &no, FullDuplex: &no, CheckErrorPercent: &no, CheckBeacon: &t.Beacon,
			},
			NicOrder: order,
		},
		ShapingPolicy: shaping,
	}
}

// readSetting takes a distributed port group's own terms: its teaming order
// names uplink ports, which only a switch's members turn into physical NICs.
func (g *DVPortGroup) readSetting(setting types.BaseDVPortSetting) {
	if setting == nil {
		return
	}
	base := setting.GetDVPortSetting()
	if s := base.InShapingPolicy; s != nil && yesPolicy(s.Enabled) {
		g.Features = append(g.Features, "ingress traffic shaping")
	}
	if s := base.OutShapingPolicy; s != nil && yesPolicy(s.Enabled) {
		long := func(p *types.LongPolicy) int64 {
			if p == nil {
				return 0
			}
			return p.Value
		}
		g.Shaping = &Shaping{Average: long(s.AverageBandwidth), Peak: long(s.PeakBandwidth), Burst: long(s.BurstSize)}
	}
	v, ok := setting.(*types.VMwareDVSPortSetting)
	if !ok {
		return
	}
	g.VLAN = newVLAN(v.Vlan)
	if yesPolicy(v.IpfixEnabled) {
		g.Features = append(g.Features, "NetFlow")
	}
	if yesPolicy(v.Blocked) {
		g.Features = append(g.Features, "the block on all ports")
	}
	if f := v.FilterPolicy; f != nil && len(f.FilterConfig) > 0 {
		g.Features = append(g.Features, "traffic filtering and marking")
	}
	if t := v.UplinkTeamingPolicy; t != nil {
		if t.Policy != nil {
			g.Teaming.Mode = t.Policy.Value
		}
		g.Teaming.Reverse, g.Teaming.Notify, g.Teaming.Rolling = yesPolicy(t.ReversePolicy), yesPolicy(t.NotifySwitches), yesPolicy(t.RollingOrder)
		if t.FailureCriteria != nil {
			g.Teaming.Beacon = yesPolicy(t.FailureCriteria.CheckBeacon)
		}
		if o := t.UplinkPortOrder; o != nil {
			g.Teaming.Active, g.Teaming.Standby = o.ActiveUplinkPort, o.StandbyUplinkPort
		}
	}
	if s := v.SecurityPolicy; s != nil {
		g.Security = security{yesPolicy(s.AllowPromiscuous), yesPolicy(s.MacChanges), yesPolicy(s.ForgedTransmits)}
	}
	if m := v.MacManagementPolicy; m != nil {
		set(&g.Security.Promiscuous, m.AllowPromiscuous)
		set(&g.Security.MACChanges, m.MacChanges)
		set(&g.Security.Forged, m.ForgedTransmits)
		g.MACLearn = m.MacLearningPolicy != nil && m.MacLearningPolicy.Enabled
	}
}

func newVLAN(spec types.BaseVmwareDistributedVirtualSwitchVlanSpec) VLAN {
	switch s := spec.(type) {
	case *types.VmwareDistributedVirtualSwitchVlanIdSpec:
		return taggedVLAN(int(s.VlanId))
	case *types.VmwareDistributedVirtualSwitchTrunkVlanSpec:
		var ranges []string
		for _, r := range s.VlanId {
			ranges = append(ranges, fmt.Sprintf("%d-%d", r.Start, r.End))
		}
		return VLAN{ID: 4095, Trunk: true, Known: true, Text: "trunk " + strings.Join(ranges, ",")}
	case *types.VmwareDistributedVirtualSwitchPvlanSpec:
		return VLAN{ID: int(s.PvlanId), PVLAN: true, Known: true, Text: fmt.Sprintf("private VLAN %d", s.PvlanId)}
	}
	return VLAN{Text: "unknown VLAN"}
}

func taggedVLAN(id int) VLAN { return VLAN{ID: id, Known: true, Text: vlanText(id)} }

func vlanText(id int) string {
	switch id {
	case 0:
		return "no VLAN"
	case 4095:
		return "all VLANs"
	}
	return fmt.Sprintf("VLAN %d", id)
}

// full reports whether a trunk passes every tag, as VLAN 4095 does.
func (v VLAN) full() bool { return v.Text == "trunk 0-4094" }

// onHost turns the port group's terms into those of a host whose uplinks sit on
// the named slots of the switch. Slots without a NIC drop out of the order.
func (g *DVPortGroup) onHost(d *DistributedSwitch, uplinks []string) Policy {
	p := Policy{Security: g.Security, Teaming: g.Teaming, Shaping: g.Shaping}
	nics := func(slots []string) (out []string) {
		for _, slot := range slots {
			for _, dev := range uplinks {
				if d.slot(dev) == slot {
					out = append(out, dev)
				}
			}
		}
		return out
	}
	p.Teaming.Active, p.Teaming.Standby = nics(g.Teaming.Active), nics(g.Teaming.Standby)
	if p.Teaming.Mode == "" {
		p.Teaming.Mode = bySourcePort
	}
	return p
}

// setting spells a policy out as a distributed port group's, for one that is
// to be created. Every uplink port of the switch is active, in order: which of
// them carries a NIC is decided host by host.
func (p Policy) setting(vlan int, slots []string) *types.VMwareDVSPortSetting {
	var tag types.BaseVmwareDistributedVirtualSwitchVlanSpec = &types.VmwareDistributedVirtualSwitchVlanIdSpec{VlanId: int32(vlan)}
	if vlan == 4095 {
		tag = &types.VmwareDistributedVirtualSwitchTrunkVlanSpec{VlanId: []types.NumericRange{{Start: 0, End: 4094}}}
	}
	out := &types.DVSTrafficShapingPolicy{Enabled: boolPolicy(false)}
	if s := p.Shaping; s != nil {
		out = &types.DVSTrafficShapingPolicy{
			Enabled: boolPolicy(true), AverageBandwidth: &types.LongPolicy{Value: s.Average},
			PeakBandwidth: &types.LongPolicy{Value: s.Peak}, BurstSize: &types.LongPolicy{Value: s.Burst},
		}
	}
	return &types.VMwareDVSPortSetting{
		DVPortSetting: types.DVPortSetting{OutShapingPolicy: out},
		Vlan:          tag,
		SecurityPolicy: &types.DVSSecurityPolicy{
			AllowPromiscuous: boolPolicy(p.Security.Promiscuous), MacChanges: boolPolicy(p.Security.MACChanges), ForgedTransmits: boolPolicy(p.Security.Forged),
		},
		UplinkTeamingPolicy: &types.VmwareUplinkPortTeamingPolicy{
			Policy: textPolicy(p.Teaming.Mode), ReversePolicy: boolPolicy(p.Teaming.Reverse),
			NotifySwitches: boolPolicy(p.Teaming.Notify), RollingOrder: boolPolicy(p.Teaming.Rolling),
			FailureCriteria: &types.DVSFailureCriteria{CheckBeacon: boolPolicy(p.Teaming.Beacon)},
			UplinkPortOrder: &types.VMwareUplinkPortOrderPolicy{ActiveUplinkPort: slots},
		},
	}
}

// words names what differs between two policies, security and shaping by
// value and teaming by mode; orders are compared by the caller, because a
// switch's slots and a host's NICs have different names.
func (p Policy) words(q Policy) (out []string) {
	flag := func(what string, a, b bool) {
		if a != b {
			say := map[bool]string{true: "accept", false: "reject"}
			out = append(out, fmt.Sprintf("%s %s → %s", what, say[a], say[b]))
		}
	}
	flag("promiscuous mode", p.Security.Promiscuous, q.Security.Promiscuous)
	flag("MAC address changes", p.Security.MACChanges, q.Security.MACChanges)
	flag("forged transmits", p.Security.Forged, q.Security.Forged)
	if p.Teaming.Mode != q.Teaming.Mode {
		out = append(out, fmt.Sprintf("load balancing %s → %s", p.Teaming.Mode, q.Teaming.Mode))
	}
	for _, f := range []struct {
		what string
		a, b bool
	}{
		{"notify switches", p.Teaming.Notify, q.Teaming.Notify}, {"no failback", p.Teaming.Rolling, q.Teaming.Rolling},
		{"beacon probing", p.Teaming.Beacon, q.Teaming.Beacon},
	} {
		if f.a != f.b {
			out = append(out, fmt.Sprintf("%s %t → %t", f.what, f.a, f.b))
		}
	}
	if a, b := shapingWords(p.Shaping), shapingWords(q.Shaping); a != b {
		out = append(out, fmt.Sprintf("shaping %s → %s", a, b))
	}
	return out
}

func shapingWords(s *Shaping) string {
	if s == nil {
		return "off"
	}
	return fmt.Sprintf("%d/%d bit/s, burst %d bytes", s.Average, s.Peak, s.Burst)
}

// differences names what differs between two policies of the same host, the
// order of uplinks included.
func (p Policy) differences(q Policy) []string {
	out := p.words(q)
	order := func(what string, a, b []string) {
		if !slices.Equal(a, b) {
			out = append(out, fmt.Sprintf("%s uplinks %s → %s", what, orNone(strings.Join(a, ", ")), orNone(strings.Join(b, ", "))))
		}
	}
	order("active", p.Teaming.Active, q.Teaming.Active)
	order("standby", p.Teaming.Standby, q.Teaming.Standby)
	return out
}

// overrides names what a single port does not inherit from its port group.
func overrides(setting types.BaseDVPortSetting) (out []string) {
	v, ok := setting.(*types.VMwareDVSPortSetting)
	if !ok {
		return nil
	}
	if vlan := v.Vlan; vlan != nil && !vlan.GetVmwareDistributedVirtualSwitchVlanSpec().Inherited {
		out = append(out, ownVLAN)
	}
	if t := v.UplinkTeamingPolicy; t != nil && !t.Inherited {
		out = append(out, "teaming")
	}
	if s, m := v.SecurityPolicy, v.MacManagementPolicy; s != nil && !s.Inherited || m != nil && !m.Inherited {
		out = append(out, "security policy")
	}
	if s := v.InShapingPolicy; s != nil && !s.Inherited {
		out = append(out, "ingress shaping")
	}
	if s := v.OutShapingPolicy; s != nil && !s.Inherited {
		out = append(out, "egress shaping")
	}
	if b := v.Blocked; yesPolicy(b) && !b.Inherited {
		out = append(out, "block")
	}
	return out
}

// ownVLAN is how overrides names a VLAN that a port does not inherit.
const ownVLAN = "VLAN"

// lacp reports whether an uplink port group aggregates links, as a DVS without
// link aggregation groups does it.
func lacp(setting types.BaseDVPortSetting) bool {
	v, ok := setting.(*types.VMwareDVSPortSetting)
	return ok && v.LacpPolicy != nil && yesPolicy(v.LacpPolicy.Enable)
}
