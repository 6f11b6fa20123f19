package network

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"
	"pgregory.net/rapid"
)

// The law of the planner: whatever a host looks like, a plan that is not refused
// moves it to what After says, and its inverse brings back what was there, to
// the last setting.
func TestForwardAndBack(t *testing.T) {
	for _, to := range []Kind{Standard, Distributed} {
		t.Run(string(to), func(t *testing.T) {
			planned, refusals := 0, map[string]int{}
			rapid.Check(t, func(rt *rapid.T) {
				w := drawWorld(rt, to)
				before := w.text()
				s := w.snapshot(t)
				p := NewPlan(s, Goal{To: to, DVS: "DVS0", PortGroup: map[Kind]string{Distributed: "G0"}[to],
					Accept: []string{"mac-learning", "lose-storage", "templates", "snapshots"}})
				if p.Refused() {
					for _, code := range refused(p) {
						refusals[code]++
					}
					return
				}
				planned++

				if err := w.apply(p.Forward.HostNetworkConfig); err != nil {
					rt.Fatalf("a host refuses the change: %v\n%s", err, before)
				}
				w.move(t, p, forward)
				s = w.snapshot(t)
				if bad := p.After.mismatches(s); len(bad) > 0 || !p.After.holds(s) || p.Before.holds(s) {
					rt.Fatalf("after the change: %q\n%s", bad, before)
				}
				for _, e := range p.VMs {
					if _, todo := p.todo(s, e, forward); len(todo) > 0 {
						rt.Fatalf("%s has not moved", e.Name)
					}
				}

				if err := w.apply(p.inverseFor(s).HostNetworkConfig); err != nil {
					rt.Fatalf("a host refuses the inverse: %v\n%s", err, before)
				}
				w.move(t, p, backward)
				w.tidy(p)
				s = w.snapshot(t)
				if bad := p.Before.mismatches(s); len(bad) > 0 || !p.Before.holds(s) || p.After.holds(s) {
					rt.Fatalf("after the inverse: %q\n%s", bad, before)
				}
				if len(p.leftovers(s)) > 0 {
					rt.Fatalf("%d things are left over", len(p.leftovers(s)))
				}
				if after := w.text(); after != before {
					rt.Fatalf("the inverse is not exact:\n%s", cmp.Diff(before, after))
				}
			})
			t.Logf("%d plans tried, refused for %v", planned, refusals)
			if planned < 20 {
				t.Errorf("only %d plans were tried, the others were refused for %v: the law was hardly tested", planned, refusals)
			}
		})
	}
}

// drawWorld furnishes a host at random: several uplinks, vmkernel adapters in
// shared port groups, orders that name some uplinks, standard port groups with
// settings of their own or of their switch, machines with several cards.
func drawWorld(t *rapid.T, to Kind) *world {
	chance := func(what string) bool { return rapid.Bool().Draw(t, what) }
	some := func(what string, of []string) (picked, rest []string) {
		for _, x := range rapid.Permutation(of).Draw(t, what) {
			if chance(what + " has " + x) {
				picked = append(picked, x)
			} else {
				rest = append(rest, x)
			}
		}
		return picked, rest
	}
	modes := []string{bySourcePort, "loadbalance_srcmac", "failover_explicit", byLoad}
	w := homelab()
	w.net.Pnic, w.switches[0].groups = nil, w.switches[0].groups[:1]
	w.direct = chance("direct")
	w.join(0)
	w.proxy(0).Mtu = rapid.SampledFrom([]int32{1500, 9000}).Draw(t, "DVS MTU")

	var nics []string
	for i := range rapid.IntRange(1, 3).Draw(t, "uplinks") {
		nics = append(nics, fmt.Sprintf("vmnic%d", i))
		w.pnic(nics[i], int32(1000*rapid.IntRange(0, 1).Draw(t, "link")))
	}
	w.net.Pnic[0].LinkSpeed = &types.PhysicalNicLinkInfo{SpeedMb: 1000}
	groups := []string{"G0", "G1", "G2", "G3"}
	vlans := map[string]int32{}
	for i, name := range groups {
		vlans[name] = rapid.SampledFrom([]int32{0, 20, 4094}).Draw(t, "VLAN")
		g := w.addGroup(0, fmt.Sprintf("dvportgroup-%d", 30+i), name, vlans[name])
		g.ephemeral = w.direct || chance("ephemeral")
		active, rest := some("active", slotNames)
		standby, _ := some("standby", rest)
		if chance("all active") {
			active, standby = slotNames, nil
		}
		g.order(active, standby)
		policy := Policy{
			Security: security{chance("promiscuous"), chance("MAC changes"), chance("forged")},
			Teaming: teaming{Mode: rapid.SampledFrom(modes).Draw(t, "mode"), Reverse: true, Notify: chance("notify"), Rolling: chance("rolling"),
				Beacon: chance("beacon")},
		}
		if chance("shaped") {
			policy.Shaping = &Shaping{rapid.Int64Range(1, 9).Draw(t, "average"), 10, 11}
		}
		set := policy.setting(0, nil)
		order := g.setting.UplinkTeamingPolicy.UplinkPortOrder
		g.setting.SecurityPolicy, g.setting.UplinkTeamingPolicy, g.setting.OutShapingPolicy = set.SecurityPolicy, set.UplinkTeamingPolicy, set.OutShapingPolicy
		g.setting.UplinkTeamingPolicy.UplinkPortOrder = order
		if chance("learns") && chance("learns indeed") {
			g.setting.MacManagementPolicy = &types.DVSMacManagementPolicy{MacLearningPolicy: &types.DVSMacLearningPolicy{Enabled: true}}
		}
	}

	hostPolicyOf := func(nics []string, parts func(string) bool) types.HostNetworkPolicy {
		active, rest := some("active", nics)
		if len(active) == 0 {
			active, rest = nics, nil
		}
		standby, _ := some("standby", rest)
		p := Policy{
			Security: security{chance("promiscuous"), chance("MAC changes"), chance("forged")},
			Teaming: teaming{Mode: rapid.SampledFrom(modes[:3]).Draw(t, "mode"), Reverse: true, Notify: chance("notify"), Rolling: chance("rolling"),
				Active: active, Standby: standby},
		}
		full := p.host()
		if !parts("security") {
			full.Security = nil
		}
		if !parts("teaming") {
			full.NicTeaming = nil
		} else if !parts("order") {
			full.NicTeaming.NicOrder = nil
		}
		if !parts("shaping") {
			full.ShapingPolicy = nil
		}
		return full
	}
	all := func(string) bool { return true }

	labels := map[string]bool{}
	furnish := func(sw string, nics []string) {
		v := w.addSwitch(sw, nics...)
		v.Spec.Mtu = rapid.SampledFrom([]int32{1500, 9000}).Draw(t, "MTU")
		policy := hostPolicyOf(nics, all)
		v.Spec.Policy = &policy
		for _, name := range groups {
			if sw == "vSwitch0" && to == Standard && chance("no standard group") {
				continue
			}
			g := w.addPortGroup(sw, name, vlans[name])
			g.Policy = hostPolicyOf(nics, chance)
			labels[name] = true
		}
		w.addPortGroup(sw, "unused", 77).Policy = hostPolicyOf(nics, chance)
	}
	onto := func(int) string { return rapid.SampledFrom(groups).Draw(t, "group") }
	if to == Standard {
		free := rapid.Permutation([]string{"1", "2", "3", "4"}).Draw(t, "ports")
		for i, nic := range nics {
			w.plugUplink(nic, free[i])
		}
		drawAdapters(t, w, groups, onto)
		if chance("a standard switch is there") {
			furnish("vSwitch0", nil)
		}
		return w
	}
	if chance("another uplink is on the DVS") {
		w.pnic("vmnic9", 1000)
		w.plugUplink("vmnic9", rapid.SampledFrom([]string{"1", "2", "3", "4"}).Draw(t, "port"))
	}
	furnish("vSwitch0", nics)
	drawAdapters(t, w, groups, onto)
	return w
}

func drawAdapters(t *rapid.T, w *world, groups []string, onto func(int) string) {
	taken := map[string]bool{}
	for i := range rapid.IntRange(1, 4).Draw(t, "vmks") {
		group := onto(i)
		if i == 0 {
			group = "G0"
		}
		if w.portGroup(group) != nil && taken[group] {
			continue // a standard port group holds one adapter
		}
		taken[group] = true
		device := fmt.Sprintf("vmk%d", i)
		w.vmk(device, fmt.Sprintf("192.168.20.%d", 10+i), group, []string{"management", "vmotion", "vsan", ""}[i])
		v := w.vnic(device)
		v.Mtu = rapid.SampledFrom([]int32{1280, 1500}).Draw(t, "MTU")
		if rapid.Bool().Draw(t, "DHCP") {
			v.Ip.Dhcp = true
		}
		if i == 0 {
			w.services[device] = []string{"management"}
		}
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "machines") {
		name := fmt.Sprintf("vm%d", i)
		w.vms = append(w.vms, vm{name: name, off: rapid.Bool().Draw(t, "off")})
		for range rapid.IntRange(0, 3).Draw(t, "cards") {
			if group := onto(0); w.portGroup(group) == nil || !taken[group] {
				w.plug(name, group)
			}
		}
	}
	slices.SortFunc(w.net.Vnic, func(a, b types.HostVirtualNic) int { return int(a.Device[3]) - int(b.Device[3]) })
}

// A rollback may come long after the move. NICs that the move was not about stay
// where they are by then.
func TestInverseSparesOtherNICs(t *testing.T) {
	bridge := func(w *world, nics ...string) {
		v := w.vswitch("vSwitch0")
		v.Spec.Bridge = &types.HostVirtualSwitchBondBridge{NicDevice: nics}
		v.Spec.Policy.NicTeaming.NicOrder = &types.HostNicOrderPolicy{ActiveNic: nics}
	}
	for _, tc := range []struct {
		name        string
		host        func() *world
		before      func(*world)
		since       func(*world)
		vswitch, on []string // NICs of vSwitch0, NIC=port of the DVS
	}{
		{"to standard, nothing since", nuc, nil, func(*world) {}, nil, []string{"vmnic0=1"}},
		{"to standard, one more on the switch", nuc, nil, func(w *world) { w.pnic("vmnic1", 1000); bridge(w, "vmnic0", "vmnic1") }, []string{"vmnic1"}, []string{"vmnic0=1"}},
		{"to standard, one more on the DVS", nuc, nil, func(w *world) { w.pnic("vmnic1", 1000); w.plugUplink("vmnic1", "3") }, nil, []string{"vmnic1=3", "vmnic0=1"}},
		{"to standard, one less on the switch", nuc, func(w *world) { w.pnic("vmnic1", 1000); w.addSwitch("vSwitch0", "vmnic1") }, func(w *world) { bridge(w, "vmnic0") }, nil, []string{"vmnic0=1"}},
		{"to standard, the other one still there", nuc, func(w *world) { w.pnic("vmnic1", 1000); w.addSwitch("vSwitch0", "vmnic1") }, func(*world) {}, []string{"vmnic1"}, []string{"vmnic0=1"}},
		{"to DVS, nothing since", standard, nil, func(*world) {}, []string{"vmnic0"}, nil},
		{"to DVS, one more on the switch", standard, nil, func(w *world) { w.pnic("vmnic1", 1000); bridge(w, "vmnic1") }, []string{"vmnic0", "vmnic1"}, nil},
		{"to DVS, one more on the DVS", standard, nil, func(w *world) { w.pnic("vmnic1", 1000); w.plugUplink("vmnic1", "3") }, []string{"vmnic0"}, []string{"vmnic1=3"}},
		{"to DVS, one less on the DVS", standard, func(w *world) { w.pnic("vmnic1", 1000); w.plugUplink("vmnic1", "3") }, func(w *world) {
			b := w.proxy(0).Spec.Backing.(*types.DistributedVirtualSwitchHostMemberPnicBacking)
			b.PnicSpec = b.PnicSpec[1:]
		}, []string{"vmnic0"}, nil},
	} {
		w := tc.host()
		g := toStandard()
		if w.vswitch("vSwitch0") != nil {
			g = toDistributed()
		}
		if tc.before != nil {
			tc.before(w)
		}
		p := NewPlan(w.snapshot(t), g)
		if p.Refused() {
			t.Errorf("%s: %v", tc.name, p.Refusals)
			continue
		}
		if err := w.apply(p.Forward.HostNetworkConfig); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		tc.since(w)
		if err := w.apply(p.inverseFor(w.snapshot(t)).HostNetworkConfig); err != nil {
			t.Errorf("%s: a host refuses the inverse: %v", tc.name, err)
			continue
		}
		s := w.snapshot(t)
		var on []string
		for _, m := range s.Distributed[0].Members {
			on = append(on, m.PnicDevice+"="+m.UplinkPortKey)
		}
		if !slices.Equal(s.standard("vSwitch0").Uplinks, tc.vswitch) || !slices.Equal(on, tc.on) || !p.Before.holds(s) {
			t.Errorf("%s: vSwitch0 has %q, DVS0 %q; want %q, %q", tc.name, s.standard("vSwitch0").Uplinks, on, tc.vswitch, tc.on)
		}
		if p2 := s.standard("vSwitch0"); len(tc.vswitch) > 0 {
			if got := hostPolicy(nil, p2.Spec.Policy, nil).Teaming; len(got.Active)+len(got.Standby) != len(tc.vswitch) {
				t.Errorf("%s: of %q it uses %q and %q", tc.name, tc.vswitch, got.Active, got.Standby)
			}
		}
	}
}
