package vch

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

func ref(kind, value string) Ref { return Ref{Type: kind, Value: value} }

// bare is the host that the golden keys were written on, as a read shows it.
func bare() *Site {
	root, dc, hosts, vms := ref("Folder", "ha-folder-root"), ref("Datacenter", "ha-datacenter"), ref("Folder", "ha-folder-host"), ref("Folder", "ha-folder-vm")
	compute, pool, host := ref("ComputeResource", "ha-compute-res"), ref("ResourcePool", "ha-root-pool"), ref("HostSystem", "ha-host")
	yes := true
	return &Site{
		APIVersion: "7.0", Root: root, Thumbprint: "45:39:7F:93:29:72:CA:B8:D3:8A:7F:65:DB:83:1D:04:73:A0:6D:2F",
		Names:    map[Ref]node{dc: {"ha-datacenter", root}, hosts: {"host", dc}, vms: {"vm", dc}, compute: {"localhost.localdomain", hosts}, pool: {"Resources", compute}},
		Computes: []Compute{{Ref: compute, RootPool: pool, Name: "localhost.localdomain"}},
		Pools:    []Pool{{Ref: pool, Parent: compute, Owner: compute, Name: "Resources"}},
		Hosts: []Host{{Ref: host, Compute: compute, Name: "localhost.localdomain", Connected: true, OutgoingBlocked: &yes, Rulesets: []types.HostFirewallRuleset{
			{Key: "vSPC", Enabled: true, Rule: []types.HostFirewallRule{{Port: 1, EndPort: 65535, Direction: "outbound", Protocol: "tcp"}}},
		}}},
		Datastores: []Datastore{{Ref: ref("Datastore", "ds-1"), Name: "LocalDS_0", Accessible: true, Free: 1 << 40, Hosts: []Ref{host}}},
		Networks:   []Network{{Ref: ref("Network", "HaNetwork-VM Network"), Name: "VM Network"}},
		VMFolders:  map[Ref]Ref{dc: vms},
		Features:   []string{"serialuri:2"},
	}
}

func plainSpec(t *testing.T) *Spec {
	return &Spec{Name: "vch1", Bundle: fakeBundle(t, "v1.5.8-0-2c978fe", 1<<16), Target: "https://127.0.0.1:8989", User: "user", Password: esxi.NewSecret("pass"),
		Networks: map[Role]RoleNet{Bridge: {Network: "vch1-bridge"}}}
}

// A default VCH has the keys that vic-machine gives it, one for one. What
// differs by nature is listed here: certificates, the command line, the slots
// that vic-machine deals out at random, and what the appliance writes later.
func TestGoldenKeys(t *testing.T) {
	p := NewPlan(bare(), plainSpec(t))
	if p.refused() {
		t.Fatalf("%+v", p.Findings)
	}
	certs, err := NewCertificates(CertRequest{Mode: TLSServer, Organization: []string{"default"}, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	sk := NewSecretKey()
	at := made{vm: ref("VirtualMachine", "vm-14"), pool: ref("ResourcePool", "resgroup-11"), folder: "vch1",
		networks: map[string]Ref{"VM Network": ref("Network", "HaNetwork-VM Network"), "vch1-bridge": ref("Network", "network-12")}}
	got, err := EncodeKeys(p.config(at, certs), sk)
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t)
	old, err := ParseSecretKey(want[ovfEnv])
	if err != nil {
		t.Fatal(err)
	}
	delete(want, ovfEnv)
	delete(want, "answer.msg.serial.file.open")
	want, got = opened(t, want, old), opened(t, got, sk)
	if got[readPrefix+"connect/token@secret"] != "pass" {
		t.Error("the password does not come out as it went in")
	}
	for _, keys := range []Keys{want, got} {
		for k, v := range keys {
			switch {
			case strings.HasPrefix(k, readPrefix+"cert/HostCertificate/") && len(v) > 1000:
				keys[k] = "PEM"
			case strings.Contains(k, ".assigned."):
				delete(keys, k)
			case strings.HasSuffix(k, ".started"):
				keys[k] = nothing
			case strings.HasPrefix(k, readPrefix+"vic_machine_create_options"):
				keys[k] = "a command line"
			}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-vic-machine +here)\n%s", d)
	}
	if n := p.NICs; len(n) != 2 || n[0].Slot != 1184 || n[1].Slot != 1216 || !slices.Equal(n[0].Roles, outer) {
		t.Errorf("adapters %+v", n)
	}
}

func findings(p *Plan) (codes []string) {
	for _, f := range p.Findings {
		if !f.Warning {
			codes = append(codes, f.Code)
		}
	}
	return codes
}

func TestFindings(t *testing.T) {
	cidr, ip := netip.MustParsePrefix, netip.MustParseAddr
	for name, tc := range map[string]struct {
		change func(*Site, *Spec)
		want   []string
	}{
		"plain":                   {func(*Site, *Spec) {}, nil},
		"managed":                 {func(s *Site, _ *Spec) { s.Hosts[0].ManagedBy = "192.168.20.10" }, []string{"managed"}},
		"away":                    {func(s *Site, _ *Spec) { s.Hosts[0].Connected = false }, []string{"host-away"}},
		"license":                 {func(s *Site, _ *Spec) { s.Features = []string{"vmotion"} }, []string{"license"}},
		"unknown license":         {func(s *Site, _ *Spec) { s.Features = nil }, nil},
		"firewall":                {func(s *Site, _ *Spec) { s.Hosts[0].Rulesets[0].Enabled = false }, []string{"firewall"}},
		"firewall opened":         {func(s *Site, v *Spec) { s.Hosts[0].Rulesets[0].Enabled, v.OpenFirewall = false, true }, nil},
		"firewall without a rule": {func(s *Site, _ *Spec) { s.Hosts[0].Rulesets[0].Rule[0].EndPort = 80 }, []string{"firewall-rules"}},
		"firewall open":           {func(s *Site, _ *Spec) { s.Hosts[0].Rulesets[0].Enabled = false; *s.Hosts[0].OutgoingBlocked = false }, nil},
		"firewall for others": {func(s *Site, v *Spec) {
			s.Hosts[0].Rulesets[0].AllowedHosts = &types.HostFirewallRulesetIpList{IpNetwork: []types.HostFirewallRulesetIpNetwork{{Network: "10.0.0.0", PrefixLength: 8}}}
			v.Networks[Public] = RoleNet{IP: cidr("192.168.1.5/24"), Gateway: ip("192.168.1.1")}
		}, []string{"firewall-addresses"}},
		"datastore":         {func(_ *Site, v *Spec) { v.Datastore = "nope" }, []string{"datastore-unknown"}},
		"two datastores":    {func(s *Site, _ *Spec) { s.Datastores = append(s.Datastores, Datastore{Name: "ds2", Accessible: true}) }, []string{"datastore-ambiguous"}},
		"full":              {func(s *Site, _ *Spec) { s.Datastores[0].Free = 1000 }, []string{"datastore-full"}},
		"no network":        {func(_ *Site, v *Spec) { v.Networks[Public] = RoleNet{Network: "nope"} }, []string{"network-unknown"}},
		"bridge is public":  {func(_ *Site, v *Spec) { v.Networks[Bridge] = RoleNet{Network: "VM Network"} }, []string{"bridge-shared"}},
		"no gateway":        {func(_ *Site, v *Spec) { v.Networks[Public] = RoleNet{IP: cidr("10.0.0.5/24")} }, []string{"gateway-missing"}},
		"gateway outside":   {func(_ *Site, v *Spec) { v.Networks[Public] = RoleNet{IP: cidr("10.0.0.5/24"), Gateway: ip("10.1.0.1")} }, []string{"gateway"}},
		"gateway itself":    {func(_ *Site, v *Spec) { v.Networks[Public] = RoleNet{IP: cidr("10.0.0.5/24"), Gateway: ip("10.0.0.5")} }, []string{"gateway"}},
		"verify and DHCP":   {func(_ *Site, v *Spec) { v.TLS = TLSVerify }, []string{"cname"}},
		"verify and a name": {func(_ *Site, v *Spec) { v.TLS, v.Cname = TLSVerify, "vch1.lab.local" }, nil},
		"compute":           {func(_ *Site, v *Spec) { v.Compute = "nope" }, []string{"compute-unknown"}},
		"exists": {func(s *Site, _ *Spec) {
			s.Machines = []Machine{{Ref: ref("VirtualMachine", "1"), Name: "vch1", Parent: ref("Folder", "ha-folder-vm"), Keys: Keys{}}}
		}, []string{"exists"}},
		"pool in use": {func(s *Site, _ *Spec) {
			pool := Pool{Ref: ref("ResourcePool", "p1"), Parent: ref("ResourcePool", "ha-root-pool"), Name: "vch1"}
			s.Pools = append(s.Pools, pool)
			s.Machines = []Machine{{Ref: ref("VirtualMachine", "1"), Name: "other", Pool: pool.Ref, Keys: Keys{}}}
		}, []string{"pool-taken"}},
		"vCenter without a DVS": {func(s *Site, _ *Spec) { s.VCenter, s.Features = true, []string{"serialuri", "dvs"} }, []string{"bridge-missing"}},
		"vCenter, standard bridge": {func(s *Site, _ *Spec) {
			s.VCenter, s.Features = true, []string{"serialuri", "dvs"}
			s.Networks = append(s.Networks, Network{Name: "vch1-bridge"})
		}, []string{"bridge-standard"}},
		"vCenter": {func(s *Site, _ *Spec) {
			s.VCenter, s.Features = true, []string{"evaluation"}
			s.Networks = append(s.Networks, Network{Name: "vch1-bridge", Key: "dvportgroup-1"})
		}, nil},
		"all at once": {func(s *Site, v *Spec) {
			s.Hosts[0].ManagedBy, s.Features, s.Hosts[0].Rulesets[0].Enabled = "10.0.0.1", []string{}, false
			v.Datastore = "nope"
		}, []string{"managed", "datastore-unknown", "license", "firewall"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, v := bare(), plainSpec(t)
			tc.change(s, v)
			p := NewPlan(s, v)
			if got := findings(p); !slices.Equal(got, tc.want) {
				t.Errorf("found %v, want %v: %+v", got, tc.want, p.Findings)
			}
		})
	}
}

// Each VCH deals out addresses as if it were alone on its bridge: that another
// one is there, or comes with it, is said once.
func TestSharedBridge(t *testing.T) {
	at := func(name string, machines ...Machine) *Plan {
		s, v := bare(), plainSpec(t)
		s.VCenter, s.Features = true, []string{"evaluation"}
		s.Networks = append(s.Networks, Network{Ref: ref("DistributedVirtualPortgroup", "dvportgroup-1"), Name: "vch1-bridge", Key: "dvportgroup-1"})
		s.Machines, v.Name = machines, name
		return NewPlan(s, v)
	}
	on := []Ref{ref("DistributedVirtualPortgroup", "dvportgroup-1")}
	other := Machine{Ref: ref("VirtualMachine", "vm-9"), Name: "t0", Networks: on, Keys: Keys{markerKeys[0]: "VirtualMachine:vm-9"}}
	plain := Machine{Ref: ref("VirtualMachine", "vm-8"), Name: "pihole", Networks: on, Keys: Keys{}}
	for name, tc := range map[string]struct {
		plans []*Plan
		want  string // whom the warning names
	}{
		"alone":      {[]*Plan{at("t1")}, ""},
		"no VCH":     {[]*Plan{at("t1", plain)}, ""},
		"with t0":    {[]*Plan{at("t1", other)}, "VCH t0 is"},
		"three come": {[]*Plan{at("t1"), at("t2"), at("t3")}, "VCH t1 is"},
	} {
		all, bad := gather(tc.plans)
		var said []string
		for _, f := range all {
			if f.Code == "bridge-used" {
				said = append(said, f.Text)
			}
		}
		if tc.want == "" && len(said) > 0 || tc.want != "" && (len(said) != 1 || !strings.Contains(said[0], tc.want)) || bad {
			t.Errorf("%s: said %q, bad %v", name, said, bad)
		}
	}
}

// Roles on one port group share an adapter and carry the same address; its
// gateway has the mask of the address.
func TestStaticAddress(t *testing.T) {
	v := plainSpec(t)
	v.TLS = TLSNone
	v.Networks[Public] = RoleNet{Network: "VM Network", IP: netip.MustParsePrefix("192.168.1.5/24"), Gateway: netip.MustParseAddr("192.168.1.1")}
	p := NewPlan(bare(), v)
	if p.refused() {
		t.Fatalf("%+v", p.Findings)
	}
	c := p.config(made{}, &Certificates{Mode: TLSNone})
	for _, r := range outer {
		n := c.Init.Networks[string(r)]
		if !n.Static || n.IP == nil || n.IP.text() != "192.168.1.5/24" || len(n.IP.IP) != 16 || len(n.IP.Mask) != 4 ||
			n.Network.Gateway == nil || n.Network.Gateway.text() != "192.168.1.1/24" || len(n.Network.DNS) != 2 {
			t.Errorf("%s: %+v", r, n)
		}
	}
	if c.Cert.HostCertificate != nil || !slices.Contains(c.Init.Sessions["docker-personality"].Cmd.Args, "-port=2375") {
		t.Error("TLS is not off")
	}
	if len(c.Network.BridgeRange.IP) != 4 || p.spec.certName() != "192.168.1.5" {
		t.Errorf("%+v %s", c.Network.BridgeRange, p.spec.certName())
	}
}

func TestCertificates(t *testing.T) {
	now := time.Now()
	c, err := NewCertificates(CertRequest{Mode: TLSVerify, Name: "192.168.1.5", Organization: []string{"lab"}, KeyBits: 1024, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.CA) {
		t.Fatal("no CA")
	}
	for name, tc := range map[string]struct {
		cert []byte
		use  x509.ExtKeyUsage
		host string
	}{"server": {c.ServerCert, x509.ExtKeyUsageServerAuth, "192.168.1.5"}, "client": {c.ClientCert, x509.ExtKeyUsageClientAuth, ""}} {
		block, _ := pem.Decode(tc.cert)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{tc.use}, DNSName: tc.host}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !cert.NotAfter.Equal(c.NotAfter) || cert.NotBefore.After(now.Add(-23*time.Hour)) {
			t.Errorf("%s: from %v to %v", name, cert.NotBefore, cert.NotAfter)
		}
	}
	if _, err := NewCertificates(CertRequest{Mode: TLSVerify, Now: now}); err == nil {
		t.Error("client authentication without a name")
	}
}

func TestBundles(t *testing.T) {
	good := fakeBundle(t, "v1.5.6-21000-abc1234", 1<<16)
	if good.Version != (BundleVersion{"v1.5.6", "21000", "abc1234"}) {
		t.Errorf("%+v", good.Version)
	}
	if _, err := OpenBundle(t.TempDir()); !errors.As(err, new(*BundleError)) || !strings.Contains(err.Error(), "appliance.iso") {
		t.Errorf("got %v", err)
	}
	for _, s := range []string{"", "1.5.8-0-x", "v1.5.8", "v1.5.8--x", "v1.5.8-0-a/b", "v1-2-]"} {
		if v, err := ParseBundleVersion(s); err == nil {
			t.Errorf("%q is %+v", s, v)
		}
	}
}

func TestParsers(t *testing.T) {
	if r, err := ParseRange("10.0.0.10-20"); err != nil || r.Last.String() != "10.0.0.20" {
		t.Errorf("%v %v", r, err)
	}
	if r, err := ParseRange("10.0.0.0/24"); err != nil || r.Last.String() != "10.0.0.255" {
		t.Errorf("%v %v", r, err)
	}
	for _, s := range []string{"10.0.0.9-10.0.0.1", "x", "10.0.0.1-999", "10.0.0.1"} {
		if r, err := ParseRange(s); err == nil {
			t.Errorf("%s is %v", s, r)
		}
	}
	if v, err := ParseVolume("ds://ds1/a/b:label"); err != nil || v.Datastore != "ds1" || v.Path != "a/b" || v.Label != "label" {
		t.Errorf("%+v %v", v, err)
	}
	if v, err := ParseVolume("nfs://nas/export?uid=1:n"); err != nil || v.NFS.Host != "nas" || v.NFS.RawQuery != "uid=1" {
		t.Errorf("%+v %v", v, err)
	}
	for _, s := range []string{"ds1", "ds1/../x:l", ":l", "ds1:", "nfs://u:p@nas/x:l", "ds://x"} {
		if v, err := ParseVolume(s); err == nil {
			t.Errorf("%s is %+v", s, v)
		}
	}
	if gw, dst, err := ParseGateway("10.0.0.0/8,172.16.0.0/12:192.168.1.1"); err != nil || gw.String() != "192.168.1.1" || len(dst) != 2 {
		t.Errorf("%v %v %v", gw, dst, err)
	}
	for _, s := range []string{"localhost", "https://127.0.0.1/sdk", "[::1]", "https://x.localhost", "0.0.0.0"} {
		if to, err := CheckTarget(s); err == nil {
			t.Errorf("%s is %s", s, to)
		}
	}
	if to, err := CheckTarget("root@nuc01.lab:8443/sdk"); err != nil || to != "https://nuc01.lab:8443" {
		t.Errorf("%s %v", to, err)
	}
	for _, s := range []string{"", "a/b", "../x", "a|b", strings.Repeat("n", 32), "-x", "x.", "a\nb"} {
		if CheckName(s) == nil {
			t.Errorf("%q is a name", s)
		}
	}
}

// Passwords that others left in a configuration are not shown.
func TestMasked(t *testing.T) {
	k := Keys{ovfEnv: "key", readPrefix + "connect/token@secret": "sealed",
		readPrefix + "init/sessions|x/cmd/Env~": "PATH=/|HTTP_PROXY=http://u:hunter2@proxy:1|HTTPS_PROXY=http://u:p@/hunter2@proxy:1|DB_PASSWORD=hunter2|N=1"}
	for name, v := range k.masked() {
		if strings.Contains(v, "hunter2") || v == "key" || v == "sealed" {
			t.Errorf("%s shows %s", name, v)
		}
	}
	if v := k.masked()[readPrefix+"init/sessions|x/cmd/Env~"]; !strings.HasSuffix(v, "|N=1") {
		t.Errorf("too much is hidden: %s", v)
	}
}

// A container VM is proven by its own keys, and by nothing else.
func TestContainers(t *testing.T) {
	id := strings.Repeat("ab", 32)
	for name, tc := range map[string]struct {
		m    Machine
		want bool
	}{
		"1.5":            {Machine{Name: "x-1", Keys: Keys{readPrefix + "version/Version": "v1.5.8", readPrefix + "common/id": id}}, true},
		"0.4":            {Machine{Name: id, Keys: Keys{oldReadPrefix + "repo": "hello-world", oldReadPrefix + "common/name": "x"}}, true},
		"0.4, renamed":   {Machine{Name: "x", Keys: Keys{oldReadPrefix + "repo": "hello-world", oldReadPrefix + "common/name": "x"}}, false},
		"a VCH":          {Machine{Keys: Keys{readPrefix + "init/common/id": creating, readPrefix + "version/Version": "v1", readPrefix + "common/id": id}}, false},
		"id alone":       {Machine{Keys: Keys{readPrefix + "common/id": id}}, false},
		"named like one": {Machine{Name: id, Keys: Keys{}}, false},
	} {
		if got := isContainer(tc.m); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
