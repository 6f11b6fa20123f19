package sim

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// vspcRules is the rule set that lets a host's VMs reach a serial port concentrator, which a VCH is to them.
const vspcRules = "vSPC"

// persistOption is the vCenter's setting without which serial ports lose their address when a VM moves. As the vCenter
// is delivered it is not true.
const persistOption = "config.vpxd.SerialPort.PersistNetworkBacking"

// showFirewall gives a host its own firewall, on, with the rule sets that ESXi has. The site's lock is held, or nobody
// else knows the inventory yet.
func (in *inventory) showFirewall(host string) {
	hs := in.hosts[host]
	closed := in.site.closed[host]
	info := esx.HostFirewallInfo
	info.DefaultPolicy.IncomingBlocked, info.DefaultPolicy.OutgoingBlocked = types.NewBool(true), types.NewBool(true)
	info.Ruleset = slices.Clone(info.Ruleset)
	for i := range info.Ruleset {
		r := &info.Ruleset[i]
		if r.Key == vspcRules {
			r.Enabled = true
		}
		if on, ok := in.site.rules[host+"/"+r.Key]; ok {
			r.Enabled = on
		}
		if closed && r.Enabled && slices.ContainsFunc(r.Rule, func(rule types.HostFirewallRule) bool {
			return rule.Direction == types.HostFirewallRuleDirectionOutbound && rule.Port <= 2377 && 2377 <= max(rule.EndPort, rule.Port)
		}) {
			r.Enabled = false
		}
	}
	in.update(hs, prop("config.firewall", &info))
	if fs, ok := in.reg.Get(*hs.ConfigManager.FirewallSystem).(*simulator.HostFirewallSystem); ok {
		in.update(fs, prop("firewallInfo", &info))
	}
}

func (a *api) EnableRuleset(req *types.EnableRuleset) soap.HasFault {
	fault := a.rule(req.This, req.Id, true)
	return &methods.EnableRulesetBody{Fault_: fault, Res: result(fault, &types.EnableRulesetResponse{})}
}

func (a *api) DisableRuleset(req *types.DisableRuleset) soap.HasFault {
	fault := a.rule(req.This, req.Id, false)
	return &methods.DisableRulesetBody{Fault_: fault, Res: result(fault, &types.DisableRulesetResponse{})}
}

// RefreshFirewall has nothing to read anew: both inventories show the same rule sets.
func (a *api) RefreshFirewall(*types.RefreshFirewall) soap.HasFault {
	return &methods.RefreshFirewallBody{Res: &types.RefreshFirewallResponse{}}
}

func (a *api) rule(this types.ManagedObjectReference, id string, on bool) *soap.Fault {
	s := a.site
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, hs := range a.hosts {
		if *hs.ConfigManager.FirewallSystem != this {
			continue
		}
		if !slices.ContainsFunc(esx.HostFirewallInfo.Ruleset, func(r types.HostFirewallRuleset) bool { return r.Key == id }) {
			break
		}
		s.rules[name+"/"+id] = on
		delete(s.closed, name)
		for _, in := range []*inventory{s.vcenter, s.direct[name]} {
			in.showFirewall(name)
		}
		return nil
	}
	return soapFault(notFound("there is no rule set %q", id))
}

// closeFirewall takes every rule away that lets a host's VMs reach a VCH, or gives them back. The site's lock is held.
func (s *site) closeFirewall(host string, shut bool) {
	if s.closed[host] == shut {
		return
	}
	s.closed[host] = shut
	for _, in := range []*inventory{s.vcenter, s.direct[host]} {
		in.showFirewall(host)
	}
}

// license gives all inventories the one kind of licence or the other.
func (s *site) license(able bool) {
	if s.unlicensed == !able {
		return
	}
	s.unlicensed = !able
	for _, in := range s.inventories() {
		in.license(able)
	}
}

// license gives the inventory's hosts an evaluation licence with the features that a VCH needs, or one without.
func (in *inventory) license(able bool) {
	l := types.LicenseManagerLicenseInfo{LicenseKey: "00000-00000-00000-00000-00000", EditionKey: "eval", Name: "Evaluation Mode"}
	features := []types.KeyValue{{Key: "vsmp:8", Value: "Up to 8-way virtual SMP"}}
	if able {
		features = append(features, types.KeyValue{Key: "serialuri:2", Value: "Remote virtual serial port"}, types.KeyValue{Key: "dvs", Value: "Distributed switch"})
	} else {
		l.LicenseKey, l.EditionKey, l.Name = "11111-00000-00000-00000-00000", "esxBasic", "vSphere 6 Hypervisor"
	}
	for _, f := range features {
		l.Properties = append(l.Properties, types.KeyAnyValue{Key: "feature", Value: f})
	}
	about := in.reg.Get(types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}).(*simulator.ServiceInstance).Content.About
	l.Properties = append(l.Properties,
		types.KeyAnyValue{Key: "ProductName", Value: about.LicenseProductName}, types.KeyAnyValue{Key: "ProductVersion", Value: about.LicenseProductVersion})
	for _, ref := range in.reg.AllReference("LicenseManager") {
		in.update(ref, prop("licenses", []types.LicenseManagerLicenseInfo{l}))
	}
	for _, ref := range in.reg.AllReference("LicenseAssignmentManager") {
		m, ok := ref.(*simulator.LicenseAssignmentManager)
		if !ok {
			continue
		}
		in.reg.WithLock(in.context(), m, func() {
			var list []types.LicenseAssignmentManagerLicenseAssignment
			for name, hs := range in.hosts {
				list = append(list, types.LicenseAssignmentManagerLicenseAssignment{
					EntityId: hs.Self.Value, EntityDisplayName: name, AssignedLicense: l,
				})
			}
			m.QueryAssignedLicensesResponse.Returnval = list
		})
	}
}
