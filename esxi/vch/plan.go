package vch

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// Finding is something that speaks against an installation. Codes are stable:
// a caller has its advice by them.
type Finding struct {
	Code    string `json:"code"`
	Warning bool   `json:"warning,omitempty"` // the installation goes on
	Text    string `json:"text"`
}

// InvalidError says that VCHs cannot be installed as asked: everything that
// speaks against it, warnings included. Nothing was changed.
type InvalidError struct{ Findings []Finding }

func (e *InvalidError) Error() string {
	var bad []string
	for _, f := range e.Findings {
		if !f.Warning {
			bad = append(bad, f.Text)
		}
	}
	if len(bad) == 1 {
		return bad[0]
	}
	return fmt.Sprintf("%d things speak against it: %s", len(bad), strings.Join(bad, "; "))
}

// Plan is one VCH to be: where everything goes and what is to be created. It
// holds no password.
type Plan struct {
	Name     string
	Findings []Finding

	Datacenter, ComputePath, PoolPath string // names and paths as VIC writes them; PoolPath is the parent's
	Datastore                         string
	NICs                              []Adapter
	MakesFolder, MakesPool            bool
	MakesSwitch, MakesPortGroup       bool // of the bridge, named as it

	spec       *Spec
	site       *Site
	datacenter Ref
	parent     Ref // folder of the machine, or of the folder to be made
	compute    Compute
	parentPool Ref
	pool       *Pool // an empty one that is there already
	host       *Host
	found      map[string]*Network
	firewall   []firewallFix
	devices    []types.BaseVirtualDevice // of the new machine
}

// Adapter is a NIC of the appliance and the roles on it.
type Adapter struct {
	Network string
	Slot    int
	Roles   []Role
}

// firewallFix is a rule set to enable on a host.
type firewallFix struct {
	system   Ref
	host, id string
}

// PCI slots of the appliance's adapters, in order (vic: lib/constants,
// lib/spec): the guest computes the device's path from the number.
const (
	firstSlot = 0x4a0
	slotStep  = 32
)

// Objects names what the plan will create, in order.
func (p *Plan) Objects() []string {
	var out []string
	bridge := p.spec.network(Bridge).Network
	if p.MakesPool {
		out = append(out, "resource pool "+p.Name)
	}
	if p.MakesSwitch {
		out = append(out, "switch "+bridge)
	}
	if p.MakesPortGroup {
		out = append(out, "port group "+bridge)
	}
	if p.MakesFolder {
		out = append(out, "folder "+p.Name)
	}
	return append(out, "virtual machine "+p.Name)
}

// NewPlan works out one VCH. It is a pure function of what was read and what is
// wanted; what speaks against it is in Findings, all at once.
func NewPlan(s *Site, spec *Spec) *Plan {
	p := &Plan{Name: spec.Name, spec: spec, site: s, found: map[string]*Network{}}
	p.place()
	if p.compute.Name != "" { // without a place, nothing can be said of what is in reach of it
		p.store()
		p.networks()
		p.existing()
	}
	p.support()
	return p
}

func (p *Plan) refuse(code, format string, args ...any) {
	p.Findings = append(p.Findings, Finding{Code: code, Text: fmt.Sprintf(format, args...)})
}

func (p *Plan) warn(code, format string, args ...any) {
	p.Findings = append(p.Findings, Finding{Code: code, Warning: true, Text: fmt.Sprintf(format, args...)})
}

// refused reports whether anything but warnings was found.
func (p *Plan) refused() bool {
	return slices.ContainsFunc(p.Findings, func(f Finding) bool { return !f.Warning })
}

// place chooses the compute resource, its pool, and the folder of the machine.
func (p *Plan) place() {
	s, want := p.site, p.spec.Compute
	var hits []Compute
	var pool *Pool
	for _, c := range s.Computes {
		path := s.path(c.Ref)
		switch {
		case want == "" || want == c.Name || want == path:
			hits = append(hits, c)
		default:
			for i, r := range s.Pools {
				if s.owner(r.Ref) == c.Ref && r.Ref != c.RootPool && (want == s.path(r.Ref) || want == c.Name+"/Resources/"+r.Name) {
					hits, pool = append(hits, c), &s.Pools[i]
				}
			}
		}
	}
	if len(hits) != 1 {
		var names []string
		for _, c := range s.Computes {
			names = append(names, s.path(c.Ref))
		}
		switch {
		case len(hits) > 1:
			p.refuse("compute-ambiguous", "there is more than one place to compute: %s", strings.Join(names, ", "))
		case want == "":
			p.refuse("compute-none", "there is no host to run it on")
		default:
			p.refuse("compute-unknown", "there is no compute resource %s: there are %s", want, strings.Join(names, ", "))
		}
		return
	}
	p.compute, p.parentPool = hits[0], hits[0].RootPool
	if pool != nil {
		p.parentPool = pool.Ref
	}
	p.datacenter = s.datacenter(p.compute.Ref)
	p.Datacenter = s.Names[p.datacenter].Name
	p.ComputePath, p.PoolPath = s.path(p.compute.Ref), s.path(p.parentPool)
	p.parent = s.VMFolders[p.datacenter]
	p.MakesFolder = s.VCenter
	for i, h := range s.Hosts {
		if h.Compute == p.compute.Ref && (p.host == nil || h.Connected && !p.host.Connected) {
			p.host = &s.Hosts[i]
		}
	}
	p.MakesPool = true
	if p.compute.Cluster && (p.compute.DRS == nil || !*p.compute.DRS) {
		p.MakesPool = false
		p.warn("drs", "DRS is off on %s: the VCH goes into its root pool and limits do not apply", p.compute.Name)
	}
	for i, r := range s.Pools {
		if p.MakesPool && r.Parent == p.parentPool && r.Name == p.Name {
			p.pool, p.MakesPool = &s.Pools[i], false
		}
	}
	if !s.VCenter && p.host != nil && p.host.ManagedBy != "" {
		p.refuse("managed", "%s is managed by the vCenter at %s, which would not learn of the VCH's pool and network", p.host.Name, p.host.ManagedBy)
	}
	if p.host == nil || !p.host.Connected {
		p.refuse("host-away", "no host of %s is connected", p.compute.Name)
	}
}

// owner returns the compute resource of a pool, however deep the pool is.
func (s *Site) owner(r Ref) Ref {
	for depth := 0; depth < 64; depth++ {
		n, ok := s.Names[r]
		if !ok || r.Type == "ComputeResource" || r.Type == "ClusterComputeResource" {
			return r
		}
		r = n.Parent
	}
	return Ref{}
}

// reaches reports whether a host of the plan's compute resource is in list; an
// empty list is one that the server does not give.
func (p *Plan) reaches(list []Ref) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(r Ref) bool {
		h := find(p.site.Hosts, func(h Host) bool { return h.Ref == r })
		return h != nil && h.Compute == p.compute.Ref
	})
}

func (p *Plan) store() {
	var names []string
	var hit []Datastore
	for _, d := range p.site.Datastores {
		if !p.reaches(d.Hosts) {
			continue
		}
		names = append(names, d.Name)
		if p.spec.Datastore == "" || p.spec.Datastore == d.Name {
			hit = append(hit, d)
		}
	}
	switch {
	case len(hit) == 1 && hit[0].Accessible:
		p.Datastore = hit[0].Name
	case len(hit) == 1:
		p.refuse("datastore-away", "datastore %s is not accessible", hit[0].Name)
	case p.spec.Datastore != "" && len(hit) == 0:
		p.refuse("datastore-unknown", "%s has no datastore %s: it has %s", cmp.Or(p.compute.Name, "the host"), p.spec.Datastore, strings.Join(names, ", "))
	case len(hit) == 0:
		p.refuse("datastore-none", "%s has no datastore", cmp.Or(p.compute.Name, "the host"))
	default:
		p.refuse("datastore-ambiguous", "there is more than one datastore: %s", strings.Join(names, ", "))
	}
	if len(hit) == 1 && p.spec.Bundle != nil && hit[0].Free > 0 && hit[0].Free < p.spec.Bundle.Appliance.Size+p.spec.Bundle.Bootstrap.Size {
		p.refuse("datastore-full", "datastore %s has %d MB left: the images alone need %d MB", hit[0].Name, hit[0].Free>>20, (p.spec.Bundle.Appliance.Size+p.spec.Bundle.Bootstrap.Size)>>20)
	}
	labels := map[string]bool{}
	for _, v := range p.spec.Volumes {
		if labels[v.Label] {
			p.refuse("volume-label", "two volume stores are called %s", v.Label)
		}
		labels[v.Label] = true
		if v.NFS == nil && !slices.Contains(names, v.Datastore) {
			p.refuse("volume-datastore", "volume store %s: there is no datastore %s: there are %s", v.Label, v.Datastore, strings.Join(names, ", "))
		}
	}
}

// network returns the network of a name that the plan's hosts have.
func (p *Plan) network(name string) *Network {
	if n, ok := p.found[name]; ok {
		return n
	}
	n := find(p.site.Networks, func(n Network) bool { return n.Name == name && !n.Uplink && p.reaches(n.Hosts) })
	p.found[name] = n
	return n
}

func (p *Plan) networks() {
	spec := p.spec
	for _, r := range outer {
		n := spec.network(r)
		i := slices.IndexFunc(p.NICs, func(a Adapter) bool { return a.Network == n.Network })
		if i < 0 {
			i = len(p.NICs)
			p.NICs = append(p.NICs, Adapter{Network: n.Network, Slot: firstSlot + i*slotStep})
			if p.network(n.Network) == nil {
				p.refuse("network-unknown", "there is no network %s for the %s side: there are %s", n.Network, r, p.names(nil))
			}
		}
		p.NICs[i].Roles = append(p.NICs[i].Roles, r)
		p.static(r, n)
	}
	bridge := spec.network(Bridge)
	if i := slices.IndexFunc(p.NICs, func(a Adapter) bool { return a.Network == bridge.Network }); i >= 0 {
		p.refuse("bridge-shared", "the bridge network %s is the %s network too: containers would be on it with addresses of their own", bridge.Network, p.NICs[i].Roles[0])
	}
	p.NICs = append(p.NICs, Adapter{Network: bridge.Network, Slot: firstSlot + len(p.NICs)*slotStep, Roles: []Role{Bridge}})
	n := p.network(bridge.Network)
	switch {
	case p.site.VCenter && n == nil:
		p.refuse("bridge-missing", "there is no distributed port group %s for the bridge: there are %s", bridge.Network, p.names((*Network).bridges))
	case p.site.VCenter && !n.bridges():
		p.refuse("bridge-standard", "on vCenter the bridge network must be a distributed port group, and %s is none: there are %s", bridge.Network, p.names((*Network).bridges))
	case n == nil:
		p.MakesPortGroup = true
		p.MakesSwitch = p.host == nil || !slices.ContainsFunc(p.host.VSwitches, func(v types.HostVirtualSwitch) bool { return v.Name == bridge.Network })
		if !p.MakesSwitch {
			p.warn("switch-leftover", "there is a switch %s without such a port group: it is used, and stays when the VCH goes", bridge.Network)
		}
	default:
		var others []string
		for _, m := range p.site.Machines {
			if markerOf(m) != "" && m.Name != p.Name && slices.Contains(m.Networks, n.Ref) {
				others = append(others, m.Name)
			}
		}
		if len(others) > 0 {
			p.sharesBridge(strings.Join(others, ", "))
		}
	}
	aliases := map[string]bool{string(Bridge): true}
	for _, c := range spec.ContainerNets {
		alias := cmp.Or(c.Alias, c.Network)
		n := p.network(c.Network)
		switch {
		case n == nil:
			p.refuse("container-network", "there is no network %s for containers: there are %s", c.Network, p.names(nil))
		case p.site.VCenter && !n.bridges():
			p.refuse("container-network", "on vCenter a network for containers must be a distributed port group, and %s is none", c.Network)
		}
		if aliases[alias] {
			p.refuse("container-network", "two networks for containers are called %s", alias)
		}
		if strings.ContainsAny(alias, "|/") {
			p.refuse("container-alias", "a network for containers cannot be called %s", alias)
		}
		aliases[alias] = true
		if len(c.Ranges) > 0 && !c.Gateway.IsValid() {
			p.refuse("container-network", "the address range of %s needs a gateway", c.Network)
		}
	}
}

// sharesBridge warns of another VCH on the bridge network: each deals out
// addresses from its range as if it were alone.
func (p *Plan) sharesBridge(other string) {
	p.warn("bridge-used", "VCH %s is on the bridge network %s too: unless their ranges differ, containers of both can get the same address", other, p.spec.network(Bridge).Network)
}

// bridges reports whether vCenter can use the network for a bridge.
func (n *Network) bridges() bool { return n.Key != "" || n.OpaqueID != "" }

// names lists networks for a message.
func (p *Plan) names(want func(*Network) bool) string {
	var out []string
	for _, n := range p.site.Networks {
		if p.reaches(n.Hosts) && !n.Uplink && (want == nil || want(&n)) {
			out = append(out, n.Name)
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(slices.Compact(out), ", ")
}

func (p *Plan) static(r Role, n RoleNet) {
	own := p.spec.Networks[r]
	if n.Gateway.IsValid() && !n.IP.IsValid() {
		p.refuse("gateway", "the %s network has a gateway and no static address", r)
		return
	}
	if !n.IP.IsValid() || r != Public && !own.IP.IsValid() {
		return // what it shares is said of whose it is
	}
	switch {
	case n.Gateway.IsValid() && !n.IP.Contains(n.Gateway):
		p.refuse("gateway", "gateway %s of the %s network is not in %s", n.Gateway, r, n.IP.Masked())
	case n.Gateway == n.IP.Addr():
		p.refuse("gateway", "the %s network has the address %s for the VCH and for the gateway", r, n.Gateway)
	case r == Public && !n.Gateway.IsValid():
		p.refuse("gateway-missing", "a static address on the public network needs a gateway")
	case r != Public && own.Gateway.IsValid() && len(own.Destinations) == 0 && n.Network != p.spec.network(Public).Network:
		p.refuse("gateway-destinations", "the gateway of the %s network needs destinations: the default route is the public network's", r)
	}
	for _, other := range outer {
		o := p.spec.Networks[other]
		if other < r && own.IP.IsValid() && o.IP.IsValid() && o.IP != own.IP && p.spec.name(other) == n.Network {
			p.refuse("static-twice", "%s has two static addresses, %s for %s and %s for %s: an adapter has one", n.Network, o.IP, other, own.IP, r)
		}
	}
	for _, m := range p.site.Machines {
		if ip := assignedIP(m.Keys); m.On && ip == n.IP.Addr().String() {
			p.refuse("address-taken", "VCH %s has the address %s already", m.Name, ip)
			return
		}
	}
}

// existing looks for what is there by the same name.
func (p *Plan) existing() {
	for _, m := range p.site.Machines {
		inFolder := m.Parent == p.parent
		if p.site.VCenter {
			inFolder = p.site.Names[m.Parent] == node{p.Name, p.parent}
		}
		if m.Name == p.Name && (inFolder || p.pool != nil && m.Pool == p.pool.Ref) {
			what := "a virtual machine"
			if markerOf(m) != "" {
				what = "a VCH"
			}
			p.refuse("exists", "there is %s called %s already", what, p.Name)
			return
		}
	}
	if p.pool != nil && slices.ContainsFunc(p.site.Machines, func(m Machine) bool { return m.Pool == p.pool.Ref }) {
		p.refuse("pool-taken", "there is a resource pool %s with machines in it that are no VCH", p.Name)
	}
	if p.site.VCenter && p.folder() != (Ref{}) {
		p.MakesFolder = false
		if f := p.folder(); slices.ContainsFunc(p.site.Machines, func(m Machine) bool { return m.Parent == f }) {
			p.refuse("folder-taken", "there is a folder %s with machines in it that are no VCH", p.Name)
		}
	}
}

// folder returns the machine folder of the VCH's name, where there is one.
func (p *Plan) folder() Ref {
	for r, n := range p.site.Names {
		if r.Type == "Folder" && n.Parent == p.parent && n.Name == p.Name {
			return r
		}
	}
	return Ref{}
}

// containerPort is the port layer's, which container VMs open their serial line
// to.
const containerPort = 2377

// rulesetNames open containerPort on ESXi, the best first: the first one came
// with 6.7, the others open more.
var rulesetNames = []string{"vic-engine", "vSPC", "remoteSerialPort"}

// support checks licenses, the firewalls and the version.
func (p *Plan) support() {
	s := p.site
	if s.Features == nil {
		p.warn("license-unknown", "the licenses could not be read: containers need one with the feature serialuri")
	} else {
		for _, f := range []string{"serialuri", "dvs"} {
			if f == "dvs" && !s.VCenter || s.licensed(f) {
				continue
			}
			p.refuse("license", "no license has the feature %s, which VIC needs", f)
		}
	}
	if s.SerialPersisted != nil && !*s.SerialPersisted {
		p.warn("serial-option", "vCenter's option %s will be set to true, as VIC needs it", optionSerial)
	}
	mgmt := p.spec.network(Management).IP
	for _, h := range s.Hosts {
		if h.Compute != p.compute.Ref || !h.Connected || len(h.Rulesets) == 0 {
			continue
		}
		if h.OutgoingBlocked != nil && !*h.OutgoingBlocked {
			continue
		}
		var offer, limited string
		open := false
		for _, r := range h.Rulesets {
			if !opens(r) {
				continue
			}
			switch {
			case r.Enabled && admits(r, mgmt):
				open = true
			case r.Enabled:
				limited = r.Key
			}
			if !r.Enabled && slices.Contains(rulesetNames, r.Key) && (offer == "" || slices.Index(rulesetNames, r.Key) < slices.Index(rulesetNames, offer)) {
				offer = r.Key
			}
		}
		switch {
		case open:
		case offer != "" && p.spec.OpenFirewall:
			p.firewall = append(p.firewall, firewallFix{h.FirewallSystem, h.Name, offer})
			p.warn("firewall-opened", "the firewall rule set %s will be enabled on %s, and stay so", offer, h.Name)
		case offer != "":
			p.refuse("firewall", "the firewall of %s closes port %d outwards, which containers need: the rule set %s is off", h.Name, containerPort, offer)
		case limited != "":
			p.refuse("firewall-addresses", "the firewall of %s has the rule set %s for other addresses than %s", h.Name, limited, mgmt.Addr())
		default:
			p.refuse("firewall-rules", "the firewall of %s closes port %d outwards, which containers need, and has none of the rule sets %s", h.Name, containerPort, strings.Join(rulesetNames, ", "))
		}
	}
	if major, _, _ := strings.Cut(s.APIVersion, "."); atoi(major) >= 8 {
		p.warn("version", "VIC was made for vSphere 6.5 to 7.0: on %s nothing is known to work", s.APIVersion)
	}
	if p.spec.OwnUser {
		p.warn("ops-user", "the password of %s goes into the VCH: whoever owns the appliance has it", p.spec.User)
	}
	if p.spec.tls() == TLSNone {
		p.warn("no-tls", "without TLS whoever reaches port %d can do everything with the containers", TLSNone.port())
	}
	if p.spec.tls() == TLSVerify && p.spec.certName() == "" {
		p.refuse("cname", "client authentication needs the VCH's name or address before it boots, and DHCP gives one after")
	}
}

func atoi(s string) int { n, _ := strconv.Atoi(s); return n }

// opens reports whether a rule set has the containers' port outwards.
func opens(r types.HostFirewallRuleset) bool {
	return slices.ContainsFunc(r.Rule, func(x types.HostFirewallRule) bool {
		end := max(x.EndPort, x.Port)
		return x.Direction == types.HostFirewallRuleDirectionOutbound && x.Protocol != "udp" && x.Port <= containerPort && containerPort <= end
	})
}

// admits reports whether a rule set lets traffic to the management address
// pass; with DHCP a list of addresses says nothing.
func admits(r types.HostFirewallRuleset, mgmt netip.Prefix) bool {
	if r.AllowedHosts == nil || r.AllowedHosts.AllIp || !mgmt.IsValid() {
		return true
	}
	for _, s := range r.AllowedHosts.IpAddress {
		if a, err := netip.ParseAddr(s); err == nil && a == mgmt.Addr() {
			return true
		}
	}
	return slices.ContainsFunc(r.AllowedHosts.IpNetwork, func(n types.HostFirewallRulesetIpNetwork) bool {
		net, err := netip.ParsePrefix(fmt.Sprintf("%s/%d", n.Network, n.PrefixLength))
		return err == nil && net.Contains(mgmt.Addr())
	})
}
