package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/labctl/labctl/esxi/vch"
)

// vchUpFlags are the flags of up, by vic-machine's names where it has one.
type vchUpFlags struct {
	place  vchPlace
	config VCHConf // flags that the config file has too

	staticIP, staticGW           map[vch.Role]*string
	bridgeRange                  string
	bridgeWidth                  int
	asymmetric                   bool
	target, cname                string
	organization                 []string
	keyBits                      int
	opsUser                      string
	debug                        int
	scratch                      int64
	syslog, convention, hardware string
	openFirewall                 bool

	ttl, ready, address, upload time.Duration
	count                       int
	keep                        bool
}

func (a *app) vchUpCommand() *cobra.Command {
	f := &vchUpFlags{staticIP: map[vch.Role]*string{}, staticGW: map[vch.Role]*string{}}
	c := &cobra.Command{
		Use: "up NAME...", Short: "Stand up VCHs",
		Long: `Up makes VCHs from the images of a VIC 1.5 release: it checks everything first
and reports all it finds at once, makes the pool, the bridge network (on a host
without vCenter) and the appliance, uploads the images, and waits until the
Docker endpoint answers. Several come up side by side, and the images are
uploaded once.

A run that fails takes back what it made, and only that, or keeps it with
--keep. Each flag is in the config file too, as far as a lab has one value for
it, so that labctl vch up t1 is enough there.

The images are those of a VIC release, which is no longer offered for download
by its maker; labctl does not come with them.

Exit codes: 0 up; 1 refused before anything was made; 2 usage, or no usable
bundle; 5 failed, and nothing is left; 6 failed, and what is left is named; 130
interrupted, and nothing is left.`,
		Example: `  labctl vch up t1 --bundle ./vic --ttl 4h
  labctl vch up ci --count 10`,
		Args:              argsBetween(1, -1, "names for VCHs"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.vchUp(cmd.Context(), cmd.Flags(), f, args)
		},
	}
	fl := c.Flags()
	fl.SortFlags = false
	v := &f.config
	fl.StringVar(&v.Bundle, "bundle", "", "`DIR` with appliance.iso and bootstrap.iso")
	fl.StringVar(&v.Datastore, "datastore", "", "`NAME` of the datastore (default: the only one)")
	fl.StringVar(&v.ImageStore, "image-store", "", "`DATASTORE[/PATH]` for images (default: the appliance's own folder)")
	fl.StringArrayVar(&v.VolumeStores, "volume-store", nil, "`DATASTORE[/PATH]:LABEL` or nfs://HOST/PATH:LABEL; repeatable")
	fl.StringVar(&v.ComputeResource, "compute-resource", "", "`NAME` or path of a cluster, host or pool, where there are several")
	fl.StringVar(&v.BridgeNetwork, "bridge-network", "", "`PORTGROUP` between containers (default: the VCH's name; on vCenter one that is there)")
	fl.StringVar(&v.PublicNetwork, "public-network", "", "`PORTGROUP` of the public side (default VM Network)")
	fl.StringVar(&v.ClientNetwork, "client-network", "", "`PORTGROUP` of the Docker API (default: the public one)")
	fl.StringVar(&v.ManagementNetwork, "management-network", "", "`PORTGROUP` to vSphere (default: the client one)")
	fl.StringVar(&v.IP, "ip", "", "static address of the public network, and of all that share it: `CIDR` (default: DHCP)")
	fl.StringVar(&v.Gateway, "gateway", "", "its gateway, `IP`")
	for _, r := range []vch.Role{vch.Public, vch.Client, vch.Management} {
		f.staticIP[r], f.staticGW[r] = new(string), new(string)
		fl.StringVar(f.staticIP[r], string(r)+"-network-ip", "", fmt.Sprintf("static address of the %s network: `CIDR`", r))
		fl.StringVar(f.staticGW[r], string(r)+"-network-gateway", "", "its gateway: `[DESTINATION,…:]IP`")
	}
	fl.StringArrayVar(&v.DNSServers, "dns-server", nil, "`IP` of a name server; repeatable")
	fl.StringArrayVar(&v.ContainerNetworks, "container-network", nil, "`PORTGROUP[:ALIAS]` that containers can be attached to; repeatable")
	fl.StringArrayVar(&v.ContainerGateways, "container-network-gateway", nil, "`PORTGROUP:CIDR` of its gateway; repeatable")
	fl.StringArrayVar(&v.ContainerRanges, "container-network-ip-range", nil, "`PORTGROUP:RANGE` of its addresses, as in 10.0.0.10-10.0.0.50; repeatable")
	fl.StringArrayVar(&v.ContainerDNS, "container-network-dns", nil, "`PORTGROUP:IP` of its name server; repeatable")
	fl.StringArrayVar(&v.ContainerFirewalls, "container-network-firewall", nil, "`PORTGROUP:KIND`: closed, outbound, peers, published or open; repeatable")
	fl.StringVar(&f.bridgeRange, "bridge-network-range", "", "addresses for bridge networks: `CIDR` (default 172.16.0.0/12)")
	fl.IntVar(&f.bridgeWidth, "bridge-network-width", 0, "prefix length of one bridge network: `BITS` (default 16)")
	fl.BoolVar(&f.asymmetric, "asymmetric-routes", false, "accept packets that come in another way than answers go out")
	fl.StringVar(&f.target, "vch-target", "", "`URL` at which the appliance reaches vSphere (default: the address that labctl uses)")
	fl.StringVar(&f.opsUser, "ops-user", "", "`USER` that the appliance logs in as; its password is in LABCTL_OPS_PASSWORD, the config, or asked for")
	fl.StringVar(&v.TLS, "tls", "", "`MODE` of the Docker API: none, server, or verify (default server)")
	fl.StringVar(&f.cname, "tls-cname", "", "`NAME` in the server's certificate (default: a static address)")
	fl.StringArrayVar(&f.organization, "organization", nil, "`ORG` in the certificates; repeatable")
	fl.IntVar(&f.keyBits, "certificate-key-size", 0, "`BITS` of the keys (default 2048)")
	fl.StringArrayVar(&v.InsecureRegistries, "insecure-registry", nil, "`HOST[:PORT]` without a valid certificate; repeatable")
	fl.StringArrayVar(&v.WhitelistRegistry, "whitelist-registry", nil, "`HOST` to pull from, and from no other; repeatable")
	fl.StringArrayVar(&v.RegistryCAs, "registry-ca", nil, "PEM `FILE` with an authority of a registry; repeatable")
	fl.StringVar(&v.HTTPProxy, "http-proxy", "", "proxy for http: `URL`")
	fl.StringVar(&v.HTTPSProxy, "https-proxy", "", "proxy for https: `URL`")
	fl.StringVar(&v.NoProxy, "no-proxy", "", "`HOSTS` that are reached without a proxy")
	fl.IntVar(&v.EndpointMemory, "endpoint-memory", 0, "memory of the appliance in `MB` (default 2048)")
	fl.IntVar(&v.EndpointCPU, "endpoint-cpu", 0, "virtual CPUs of the appliance: `N` (default 1)")
	fl.IntVar(&v.Memory, "memory", 0, "limit for all containers together in `MB`")
	fl.IntVar(&v.CPU, "cpu", 0, "limit for all containers together in `MHZ`")
	fl.IntVar(&v.Containers, "containers", 0, "largest number of containers: `N`")
	fl.IntVar(&v.StorageQuota, "storage-quota", 0, "limit for images and containers in `GIB`")
	fl.Int64Var(&f.scratch, "base-image-size", 0, "size of an image's disk in `GB` (default 8)")
	fl.StringVar(&f.syslog, "syslog-address", "", "where the appliance logs to: `udp://HOST[:514]`")
	fl.StringVar(&f.convention, "container-name-convention", "", "`PATTERN` of container VMs' names, with {id} or {name}")
	fl.StringVar(&f.hardware, "hardware-version", "", "`VERSION` of the virtual hardware, as in vmx-13")
	fl.IntVar(&f.debug, "debug", 0, "`LEVEL` of the appliance's log; from 3 on it keeps a shell open")
	fl.BoolVar(&f.openFirewall, "open-firewall", false, "enable the host's rule set that containers need, where it is off")
	fl.DurationVar(&f.ttl, "ttl", 0, "after this `TIME` labctl vch down --expired removes it")
	fl.IntVar(&f.count, "count", 0, "make `N`, called NAME-1 to NAME-N")
	fl.DurationVar(&f.upload, "upload-timeout", 0, "longest upload, as a `DURATION` (default 30m)")
	fl.DurationVar(&f.address, "address-timeout", 0, "longest wait for an address after power-on (default 2m)")
	fl.DurationVar(&f.ready, "wait", 0, "longest wait for everything after power-on (default 3m)")
	fl.BoolVar(&f.keep, "keep", false, "leave what was made when it fails")
	a.vchPlaceFlags(c, &f.place)
	c.RegisterFlagCompletionFunc("tls", cobra.FixedCompletions([]string{"none", "server", "verify"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// names are the VCHs to make.
func (f *vchUpFlags) names(args []string, counted bool) ([]string, error) {
	if counted {
		switch {
		case len(args) != 1:
			return nil, usagef("--count goes with one name")
		case f.count < 1 || f.count > 100:
			return nil, usagef("--count %d: from 1 to 100", f.count)
		}
		base := args[0]
		args = nil
		for i := range f.count {
			args = append(args, fmt.Sprintf("%s-%d", base, i+1))
		}
	}
	seen := map[string]bool{}
	for _, n := range args {
		if err := vch.CheckName(n); err != nil {
			return nil, usagef("%w", err)
		}
		// On one datastore names that differ in case share a folder.
		if seen[strings.ToLower(n)] {
			return nil, usagef("the name %s stands there twice", n)
		}
		seen[strings.ToLower(n)] = true
	}
	return args, nil
}

// overlay fills what no flag gave from the config file.
func (v *VCHConf) overlay(file VCHConf, given func(string) bool) {
	text := func(to *string, from, flag string) {
		if !given(flag) {
			*to = from
		}
	}
	list := func(to *[]string, from []string, flag string) {
		if !given(flag) {
			*to = from
		}
	}
	number := func(to *int, from int, flag string) {
		if !given(flag) {
			*to = from
		}
	}
	text(&v.Bundle, file.Bundle, "bundle")
	text(&v.Datastore, file.Datastore, "datastore")
	text(&v.ImageStore, file.ImageStore, "image-store")
	list(&v.VolumeStores, file.VolumeStores, "volume-store")
	text(&v.ComputeResource, file.ComputeResource, "compute-resource")
	text(&v.PublicNetwork, file.PublicNetwork, "public-network")
	text(&v.ClientNetwork, file.ClientNetwork, "client-network")
	text(&v.ManagementNetwork, file.ManagementNetwork, "management-network")
	text(&v.BridgeNetwork, file.BridgeNetwork, "bridge-network")
	list(&v.ContainerNetworks, file.ContainerNetworks, "container-network")
	list(&v.DNSServers, file.DNSServers, "dns-server")
	text(&v.Target, file.Target, "vch-target")
	if !given("public-network-ip") {
		text(&v.IP, file.IP, "ip")
	}
	if !given("public-network-gateway") {
		text(&v.Gateway, file.Gateway, "gateway")
	}
	if !given("container-network") { // what the file says is of its own networks
		list(&v.ContainerGateways, file.ContainerGateways, "container-network-gateway")
		list(&v.ContainerRanges, file.ContainerRanges, "container-network-ip-range")
		list(&v.ContainerDNS, file.ContainerDNS, "container-network-dns")
		list(&v.ContainerFirewalls, file.ContainerFirewalls, "container-network-firewall")
	}
	text(&v.TLS, file.TLS, "tls")
	list(&v.InsecureRegistries, file.InsecureRegistries, "insecure-registry")
	list(&v.WhitelistRegistry, file.WhitelistRegistry, "whitelist-registry")
	list(&v.RegistryCAs, file.RegistryCAs, "registry-ca")
	text(&v.HTTPProxy, file.HTTPProxy, "http-proxy")
	text(&v.HTTPSProxy, file.HTTPSProxy, "https-proxy")
	text(&v.NoProxy, file.NoProxy, "no-proxy")
	number(&v.EndpointMemory, file.EndpointMemory, "endpoint-memory")
	number(&v.EndpointCPU, file.EndpointCPU, "endpoint-cpu")
	number(&v.Memory, file.Memory, "memory")
	number(&v.CPU, file.CPU, "cpu")
	number(&v.Containers, file.Containers, "containers")
	number(&v.StorageQuota, file.StorageQuota, "storage-quota")
	v.Ops = file.Ops
}

// spec turns flags and config into what package vch takes, without the name
// and the passwords.
func (f *vchUpFlags) spec() (*vch.Spec, error) {
	v := &f.config
	s := &vch.Spec{
		Compute: v.ComputeResource, Datastore: v.Datastore, Networks: map[vch.Role]vch.RoleNet{},
		AsymmetricRoute: f.asymmetric, OpenFirewall: f.openFirewall,
		TLS: vch.TLS(v.TLS), Cname: f.cname, Organization: f.organization, KeyBits: f.keyBits,
		MemoryMB: v.EndpointMemory, CPUs: v.EndpointCPU, PoolMemoryMB: int64(v.Memory), PoolCPUMHz: int64(v.CPU),
		ContainerLimit: v.Containers, Debug: f.debug, NameConvention: f.convention, HardwareVersion: f.hardware,
		Insecure: v.InsecureRegistries, Whitelist: v.WhitelistRegistry,
		HTTPProxy: v.HTTPProxy, HTTPSProxy: v.HTTPSProxy, NoProxy: v.NoProxy,
		StorageQuota: int64(v.StorageQuota) << 30, ScratchKB: f.scratch * 1_000_000,
	}
	var err error
	if v.ImageStore != "" {
		store, path, err := vch.ParseImageStore(v.ImageStore)
		if err != nil {
			return nil, usagef("--image-store: %w", err)
		}
		if s.Datastore != "" && s.Datastore != store {
			return nil, usagef("--image-store is on %s and the appliance on %s: VIC keeps both on one datastore", store, s.Datastore)
		}
		s.Datastore, s.ImagePath = store, path
	}
	for _, text := range v.VolumeStores {
		vol, err := vch.ParseVolume(text)
		if err != nil {
			return nil, usagef("--volume-store: %w", err)
		}
		s.Volumes = append(s.Volumes, vol)
	}
	if err = f.networks(s); err != nil {
		return nil, err
	}
	for _, text := range v.DNSServers {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, usagef("--dns-server: %q is no address", text)
		}
		s.DNS = append(s.DNS, ip)
	}
	if len(s.DNS) > 3 {
		return nil, usagef("--dns-server: %d are given, and a resolver takes 3", len(s.DNS))
	}
	if s.TLS != "" && s.TLS != vch.TLSNone && s.TLS != vch.TLSServer && s.TLS != vch.TLSVerify {
		return nil, usagef("--tls %s is none of none, server and verify", s.TLS)
	}
	if f.keyBits != 0 && (f.keyBits < 2048 || f.keyBits > 8192) {
		return nil, usagef("--certificate-key-size %d: from 2048 to 8192", f.keyBits)
	}
	if f.syslog != "" {
		if s.Syslog, err = vch.ParseSyslog(f.syslog); err != nil {
			return nil, usagef("--syslog-address: %w", err)
		}
	}
	if c := f.convention; c != "" && !strings.Contains(c, "{id}") && !strings.Contains(c, "{name}") {
		return nil, usagef("--container-name-convention %s holds neither {id} nor {name}", c)
	}
	for _, file := range v.RegistryCAs {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, usagef("--registry-ca: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(b) {
			return nil, usagef("--registry-ca %s: no certificate in PEM form is in it", file)
		}
		s.RegistryCAs = append(s.RegistryCAs, b...)
	}
	for _, p := range []struct{ flag, value string }{{"http-proxy", v.HTTPProxy}, {"https-proxy", v.HTTPSProxy}} {
		if err := vch.CheckProxy(p.value); err != nil {
			return nil, usagef("--%s: %w", p.flag, err)
		}
	}
	for _, l := range []struct {
		flag   string
		values []string
	}{{"insecure-registry", v.InsecureRegistries}, {"whitelist-registry", v.WhitelistRegistry}, {"no-proxy", strings.Split(v.NoProxy, ",")}} {
		for _, text := range l.values {
			if strings.ContainsAny(text, "| \t") || text == "" && l.flag != "no-proxy" {
				return nil, usagef("--%s %q is not the name of a host", l.flag, text)
			}
		}
	}
	if strings.ContainsAny(f.cname, "/: \t") {
		return nil, usagef("--tls-cname %q is neither a name nor an address", f.cname)
	}
	if n, ok := strings.CutPrefix(f.hardware, "vmx-"); f.hardware != "" && (!ok || strings.Trim(n, "0123456789") != "" || n == "") {
		return nil, usagef("--hardware-version %s is not of the form vmx-13", f.hardware)
	}
	if v.EndpointMemory%4 != 0 {
		return nil, usagef("--endpoint-memory %d: ESXi gives memory in steps of 4 MB", v.EndpointMemory)
	}
	for _, n := range []struct {
		flag  string
		value int64
	}{{"endpoint-memory", int64(v.EndpointMemory)}, {"endpoint-cpu", int64(v.EndpointCPU)}, {"memory", int64(v.Memory)}, {"cpu", int64(v.CPU)},
		{"containers", int64(v.Containers)}, {"storage-quota", int64(v.StorageQuota)}, {"base-image-size", f.scratch}, {"debug", int64(f.debug)}} {
		if n.value < 0 || n.value > 1<<30 {
			return nil, usagef("--%s %d cannot be", n.flag, n.value)
		}
	}
	return s, nil
}

func (f *vchUpFlags) networks(s *vch.Spec) error {
	v := &f.config
	if v.IP != "" && *f.staticIP[vch.Public] != "" || v.Gateway != "" && *f.staticGW[vch.Public] != "" {
		return usagef("--ip and --gateway are those of the public network: give them once")
	}
	for role, name := range map[vch.Role]string{vch.Public: v.PublicNetwork, vch.Client: v.ClientNetwork, vch.Management: v.ManagementNetwork, vch.Bridge: v.BridgeNetwork} {
		n := vch.RoleNet{Network: name}
		if role != vch.Bridge {
			ip, gw, flag := *f.staticIP[role], *f.staticGW[role], "--"+string(role)+"-network"
			ipFlag, gwFlag := flag+"-ip", flag+"-gateway"
			if role == vch.Public && ip == "" && v.IP != "" {
				ip, ipFlag = v.IP, "--ip"
			}
			if role == vch.Public && gw == "" && v.Gateway != "" {
				gw, gwFlag = v.Gateway, "--gateway"
			}
			var err error
			if ip != "" {
				if n.IP, err = vch.ParseStatic(ip); err != nil {
					return usagef("%s: %w", ipFlag, err)
				}
			}
			if gw != "" {
				if n.Gateway, n.Destinations, err = vch.ParseGateway(gw); err != nil {
					return usagef("%s: %w", gwFlag, err)
				}
			}
		}
		s.Networks[role] = n
	}
	if f.bridgeRange != "" {
		p, err := netip.ParsePrefix(f.bridgeRange)
		if err != nil || !p.Addr().Is4() {
			return usagef("--bridge-network-range %s is no network of the form 172.16.0.0/12", f.bridgeRange)
		}
		s.BridgeRange = p.Masked()
	}
	if f.bridgeWidth != 0 {
		low := 12
		if s.BridgeRange.IsValid() {
			low = s.BridgeRange.Bits()
		}
		if f.bridgeWidth < low || f.bridgeWidth > 30 {
			return usagef("--bridge-network-width %d: from %d, the range's, to 30", f.bridgeWidth, low)
		}
		s.BridgeWidth = f.bridgeWidth
	} else if s.BridgeRange.IsValid() && s.BridgeRange.Bits() > 16 {
		s.BridgeWidth = s.BridgeRange.Bits()
	}
	return f.containerNetworks(s)
}

// containerNetworks reads the list and what is said of each by PORTGROUP:VALUE.
func (f *vchUpFlags) containerNetworks(s *vch.Spec) error {
	for _, text := range f.config.ContainerNetworks {
		name, alias, _ := strings.Cut(text, ":")
		if name == "" {
			return usagef("--container-network %q is not PORTGROUP[:ALIAS]", text)
		}
		s.ContainerNets = append(s.ContainerNets, vch.ContainerNet{Network: name, Alias: alias})
	}
	each := func(flag string, values []string, set func(*vch.ContainerNet, string) error) error {
		for _, text := range values {
			name, value, ok := strings.Cut(text, ":")
			if !ok || value == "" {
				return usagef("--%s %q is not PORTGROUP:VALUE", flag, text)
			}
			hit := false
			for i := range s.ContainerNets {
				if n := &s.ContainerNets[i]; n.Network == name {
					hit = true
					if err := set(n, value); err != nil {
						return usagef("--%s: %w", flag, err)
					}
				}
			}
			if !hit {
				return hintf(usagef("--%s %s: no --container-network is called %s", flag, text, name), "--container-network %s comes with it", name)
			}
		}
		return nil
	}
	for _, of := range []struct {
		flag   string
		values []string
		set    func(*vch.ContainerNet, string) error
	}{
		{"container-network-gateway", f.config.ContainerGateways, func(n *vch.ContainerNet, v string) (err error) {
			n.Gateway, err = vch.ParseStatic(v)
			return err
		}},
		{"container-network-ip-range", f.config.ContainerRanges, func(n *vch.ContainerNet, v string) error {
			r, err := vch.ParseRange(v)
			n.Ranges = append(n.Ranges, r)
			return err
		}},
		{"container-network-dns", f.config.ContainerDNS, func(n *vch.ContainerNet, v string) error {
			ip, err := netip.ParseAddr(v)
			n.DNS = append(n.DNS, ip)
			return err
		}},
		{"container-network-firewall", f.config.ContainerFirewalls, func(n *vch.ContainerNet, v string) error {
			n.Firewall = v
			return vch.CheckFirewall(v)
		}},
	} {
		if err := each(of.flag, of.values, of.set); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) vchUp(ctx context.Context, flags *pflag.FlagSet, f *vchUpFlags, args []string) error {
	set, err := a.settings()
	if err != nil {
		return err
	}
	names, err := f.names(args, flags.Changed("count"))
	if err != nil {
		return err
	}
	f.config.overlay(set.VCH, flags.Changed)
	f.config.RegistryCAs = slices.Clone(f.config.RegistryCAs)
	for i, file := range f.config.RegistryCAs {
		f.config.RegistryCAs[i] = a.expandHome(file)
	}
	base, err := f.spec()
	if err != nil {
		return err
	}
	for _, d := range []time.Duration{f.ttl, f.upload, f.address, f.ready} {
		if d < 0 {
			return usagef("a duration of %v has already passed", d)
		}
	}
	for _, d := range []*time.Duration{&f.upload, &f.address, &f.ready} {
		if set.Timeout > 0 && (*d == 0 || *d > set.Timeout) {
			*d = set.Timeout
		}
	}
	for r, n := range base.Networks {
		if n.IP.IsValid() && len(names) > 1 {
			return usagef("%d VCHs cannot share the static address %s of the %s network", len(names), n.IP, r)
		}
	}
	if base.Bundle, err = vch.OpenBundle(a.expandHome(f.config.Bundle)); err != nil {
		return a.vchError(err)
	}
	endpoint, err := a.vchEndpoint(&f.place)
	if err != nil {
		return err
	}
	target := firstOf(f.target, f.config.Target)
	if f.target == "" && f.config.Target == "" {
		target = endpoint.URL.String()
	}
	if base.Target, err = vch.CheckTarget(target); err != nil {
		return hintf(usagef("the address at which the appliance reaches vSphere: %w", err), "--vch-target URL, or vch.target in the config, gives one that works from the appliance")
	}
	if err := a.opsUser(ctx, f, base); err != nil {
		return err
	}
	unlock, err := a.lockVCHs(names, "vch up")
	if err != nil {
		return err
	}
	defer unlock()
	s, done, err := a.vchDial(ctx, &f.place)
	if err != nil {
		return err
	}
	defer done()
	if base.User == "" {
		base.User, base.OwnUser = s.endpoint.User, true
		if base.Password, err = s.endpoint.Password(ctx); err != nil {
			return err
		}
	}
	if f.ttl > 0 {
		base.Expires = a.now().Add(f.ttl)
	}
	if f.place.host != "" && base.Compute == "" && s.IsVCenter() {
		base.Compute = f.place.host
	}
	return a.vchMake(ctx, s, f, base, names)
}

// opsUser finds whom the appliance logs in as, if it is somebody of its own.
func (a *app) opsUser(ctx context.Context, f *vchUpFlags, s *vch.Spec) (err error) {
	access := f.config.Ops.access()
	if f.opsUser != "" && f.opsUser != access.User {
		access = &Access{User: f.opsUser}
	}
	if access.User == "" {
		return nil
	}
	s.User = access.User
	s.Password, err = a.passwords.source(a, access, "vch.ops", fmt.Sprintf("password of %s, for the appliance:", access.User), []string{"LABCTL_OPS_PASSWORD"})(ctx)
	return err
}

type vchUpResult struct {
	Version  int           `json:"version"`
	VCHs     []vchOutcome  `json:"vchs"`
	Findings []vch.Finding `json:"findings,omitempty"`
	Requests int           `json:"requests"`
	Exit     int           `json:"exit"`
}

type vchOutcome struct {
	*vch.Instance
	Name    string   `json:"name"`
	Outcome string   `json:"outcome"` // up, failed or kept
	Error   string   `json:"error,omitempty"`
	Left    []string `json:"left,omitempty"`
	Env     []string `json:"env,omitempty"`
	EnvFile string   `json:"envFile,omitempty"`
	Log     string   `json:"log,omitempty"`
}

// vchMake runs the jobs and reports.
func (a *app) vchMake(ctx context.Context, s *vchSession, f *vchUpFlags, base *vch.Spec, names []string) error {
	var jobs []vch.Job
	for _, n := range names {
		spec := *base
		spec.Name = n
		j := vch.Job{Spec: &spec}
		var err error
		if j.CertDir, err = a.vchDir(n); err != nil {
			return err
		}
		if j.Journal, err = vch.OpenJournal(s.journals, s.server(), n); err != nil {
			return err
		}
		defer j.Journal.Done()
		jobs = append(jobs, j)
	}
	a.leaving("what was made so far; labctl vch down %s removes it", strings.Join(names, " "))
	view := &vchProgress{a: a}
	out, err := vch.Up(ctx, s.Client, jobs, vch.Options{On: view.on, Keep: f.keep, Upload: f.upload, Address: f.address, Ready: f.ready})
	view.end()
	a.leaving("")
	var invalid *vch.InvalidError
	if errors.As(err, &invalid) {
		return a.vchRefused(invalid, s.Requests())
	}
	if err != nil {
		return err
	}
	res := vchUpResult{Version: 1, Requests: s.Requests()}
	up, left := 0, false
	for i, o := range out {
		v := vchOutcome{Name: o.Name, Instance: o.Instance, Outcome: "up"}
		var failed *vch.UpError
		if errors.As(o.Err, &failed) {
			v.Outcome, v.Error, v.Left, v.Log = "failed", fmt.Sprintf("%s: %v", failed.Step, failed.Err), failed.Left, failed.Log
			if failed.Kept {
				v.Outcome = "kept"
			}
			left = left || len(failed.Left) > 0
		} else {
			up++
			v.Env, v.EnvFile = o.Instance.Env(), vch.EnvFile(jobs[i].CertDir)
		}
		res.VCHs = append(res.VCHs, v)
	}
	switch {
	case up == len(out):
	case left || up > 0:
		res.Exit = exitChanged
	case context.Cause(ctx) == errInterrupted:
		res.Exit = exitInterrupted
	default:
		res.Exit = exitUnchanged
	}
	if err := a.result(res, func(pg *page) { writeUp(pg, res.VCHs) }); err != nil {
		return err
	}
	return a.vchFailure(res)
}

// vchAdvice is what helps against a finding, by its code.
var vchAdvice = map[string]string{
	"compute-ambiguous":    "--compute-resource NAME names one",
	"compute-unknown":      "--compute-resource NAME names one of them",
	"datastore-ambiguous":  "--datastore NAME names one",
	"datastore-unknown":    "--datastore NAME names one of them",
	"datastore-away":       "--datastore NAME names another",
	"datastore-full":       "make room, or --datastore NAME names another",
	"volume-label":         "--volume-store DATASTORE/PATH:LABEL, with a label of its own each",
	"volume-datastore":     "--volume-store DATASTORE/PATH:LABEL, with one of them",
	"managed":              "go through that vCenter: --via vcenter, with vcenter: in the config or --vcenter URL",
	"host-away":            "labctl net show HOST reads the host itself",
	"network-unknown":      "--public-network, --client-network and --management-network name port groups",
	"bridge-missing":       "--bridge-network names one; on vCenter it is made by hand, for this purpose alone",
	"bridge-standard":      "--bridge-network names one of those",
	"bridge-shared":        "--bridge-network names a port group for this purpose alone",
	"container-network":    "--container-network PORTGROUP:ALIAS, and what goes with it",
	"container-alias":      "--container-network PORTGROUP:ALIAS gives it another name",
	"gateway":              "--ip CIDR --gateway IP, both of one network",
	"gateway-missing":      "--gateway IP",
	"gateway-destinations": "--client-network-gateway or --management-network-gateway DESTINATION:IP",
	"static-twice":         "give it once: roles on one port group share it",
	"address-taken":        "--ip CIDR, with a free one",
	"exists":               "labctl vch down NAME removes a VCH; another name leaves it alone",
	"pool-taken":           "another name leaves it alone",
	"folder-taken":         "another name leaves it alone",
	"license":              "the free license has none, and blocks changes through the API too; evaluation mode has everything",
	"ops-login":            "its password comes from LABCTL_OPS_PASSWORD, vch.ops in the config, or a prompt",
	"firewall":             "--open-firewall enables it",
	"firewall-addresses":   "add the address to the rule set, or allow all",
	"firewall-rules":       "a rule set of your own, or, in a lab, esxcli network firewall set --enabled false",
	"cname":                "--tls-cname NAME, or a static address with --ip and --gateway, or --tls server",
}

// vchRefused prints everything that speaks against an installation.
func (a *app) vchRefused(e *vch.InvalidError, requests int) error {
	res := vchUpResult{Version: 1, VCHs: []vchOutcome{}, Findings: e.Findings, Requests: requests, Exit: exitFailed}
	if a.json() {
		if err := a.result(res, nil); err != nil {
			return err
		}
	}
	bad := 0
	for _, f := range e.Findings {
		if !f.Warning && bad == 0 {
			a.next("why, and what to do", "help", f.Code)
		}
		if f.Warning {
			a.warn("%s", f.Text)
			continue
		}
		bad++
		a.say("%s", f.Text)
		if h := vchAdvice[f.Code]; h != "" {
			a.hint("%s", h)
		}
	}
	word := "thing speaks"
	if bad > 1 {
		word = "things speak"
	}
	return exitWith(exitFailed, fmt.Errorf("nothing was made: %d %s against it", bad, word))
}

// vchFailure is the error of a run in which not every VCH came up.
func (a *app) vchFailure(res vchUpResult) error {
	if res.Exit == 0 {
		a.nextLine = "to run a container in it: " + a.like("vch", "test", res.VCHs[0].Name)
		return nil
	}
	var lines []string
	hint := ""
	for _, v := range res.VCHs {
		if v.Outcome == "up" {
			continue
		}
		line := v.Name + ": " + v.Error
		switch {
		case v.Outcome == "kept":
			line += "; kept until vch down: " + strings.Join(v.Left, ", ")
			hint = "what its appliance says: " + a.line("vch", "logs", v.Name)
		case len(v.Left) > 0:
			line += "; left: " + strings.Join(v.Left, ", ")
			hint = "to remove the rest: " + a.like("vch", "down", v.Name)
		default:
			line += "; nothing of it is left"
			if v.Log != "" && hint == "" {
				hint = "its log was saved: " + a.like("vch", "logs", v.Name)
			}
		}
		lines = append(lines, line)
	}
	err := exitWith(res.Exit, errors.New(strings.Join(lines, "\n")))
	if hint != "" {
		return hintf(err, "%s", hint)
	}
	return err
}

func writeUp(pg *page, list []vchOutcome) {
	for i, v := range list {
		if v.Instance == nil {
			continue
		}
		if i > 0 {
			pg.WriteString("\n")
		}
		pg.printf("%s is up at %s\n", v.Name, v.IP)
		pg.printf("  admin page    %s\n", v.Admin)
		if !v.CertsUntil.IsZero() {
			pg.printf("  certificates  valid until %s\n", v.CertsUntil.Local().Format("2006-01-02"))
		}
		if !v.Expires.IsZero() {
			pg.printf("  expires       %s\n", v.Expires.Local().Format("2006-01-02 15:04"))
		}
		pg.printf("  env file      %s\n\n", v.EnvFile)
		for _, e := range v.Env {
			pg.printf("%s\n", e)
		}
		flags := ""
		switch v.TLS {
		case vch.TLSServer:
			flags = " --tls --tlscacert=" + shellWord(v.CertDir) + "/ca.pem"
		case vch.TLSVerify:
			d := shellWord(v.CertDir)
			flags = fmt.Sprintf(" --tlsverify --tlscacert=%s/ca.pem --tlscert=%s/cert.pem --tlskey=%s/key.pem", d, d, d)
		}
		pg.printf("DOCKER_API_VERSION=%s docker -H %s%s info\n", vch.DockerAPI, v.VerifiedHost(), flags)
		if v.VerifiedAs != "" {
			pg.printf("\nThe certificate is made out to %s: docker verifies it where that name leads to %s.\n", v.VerifiedAs, v.IP)
		}
	}
}

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:=,@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
