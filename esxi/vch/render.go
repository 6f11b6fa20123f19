package vch

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// made is what the server decided about a VCH while it was made.
type made struct {
	vm, pool Ref
	folder   string         // of the machine on the datastore
	networks map[string]Ref // by name
}

// Limits of VIC's own defaults.
const (
	defaultMemoryMB  = 2048
	defaultCPUs      = 1
	defaultScratchKB = 8_000_000 // 8 GB, in the units of vic-machine 1.5
	pluginVersion    = 10        // data format of 1.5 (vic: lib/migration/feature)
)

var (
	defaultBridgeRange = netip.MustParsePrefix("172.16.0.0/12")
	defaultBridgeWidth = 16
	// What vic-machine falls back to where no network has DHCP.
	defaultDNS = []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("8.8.4.4")}
)

// config returns the configuration of the VCH.
func (p *Plan) config(at made, certs *Certificates) *Config {
	s := p.spec
	v := s.Bundle.Version
	_, bootstrap := v.files()
	c := &Config{
		Init: Executor{
			Common:      Identity{ID: creating, Name: s.Name},
			Diagnostics: Diagnostics{Debug: s.Debug, Syslog: s.Syslog},
			AsymRouting: s.AsymmetricRoute,
			Version:     &Version{Version: v.Release, GitCommit: v.Commit, BuildDate: buildDates[v.String()], BuildNumber: v.Build, PluginVersion: pluginVersion},
			Sessions:    p.sessions(),
			Networks:    map[string]*NIC{},
		},
		Connect: Connection{Target: s.Target, Username: s.User, Token: s.Password.Reveal(), Thumbprint: cmp.Or(s.Thumbprint, p.site.Thumbprint)},
		Storage: Storage{
			ImageStores: []StoreURL{{Scheme: "ds", Host: p.Datastore, Path: cmp.Or(s.ImagePath, at.folder)}},
			Quota:       s.StorageQuota, ScratchSize: cmp.Or(s.ScratchKB, defaultScratchKB),
			Volumes: map[string]StoreURL{},
		},
		Network: Networks{BridgeNetwork: string(Bridge), ContainerNetworks: map[string]*Attached{}},
		Container: Containers{
			ComputeResources: []MoRef{{"ResourcePool", at.pool.Value}},
			BootstrapPath:    onStore(p.Datastore, at.folder, bootstrap),
			NameConvention:   s.NameConvention, Limit: s.ContainerLimit,
		},
		Registry:       Registry{Whitelist: s.Whitelist, Insecure: s.Insecure},
		BridgeCreated:  p.MakesPortGroup,
		InstallOptions: p.options(),
	}
	if at.vm.Value != "" {
		c.Init.Common.ID = markerFor(at.vm.Value)
	}
	if certs.Mode != TLSNone {
		c.Cert.HostCertificate = &KeyPair{Cert: certs.ServerCert, Key: certs.ServerKey}
		c.Cert.CertificateAuthorities = certs.CA
	}
	c.Cert.RegistryCertificateAuthorities = s.RegistryCAs
	for _, vol := range s.Volumes {
		c.Storage.Volumes[vol.Label] = vol.storeURL()
	}
	if len(s.Volumes) == 0 {
		c.Storage.Volumes = nil
	}
	for _, nic := range p.NICs {
		for _, r := range nic.Roles {
			c.Init.Networks[string(r)] = p.endpoint(r, nic, at)
		}
	}
	bridge := s.network(Bridge).Network
	c.Network.ContainerNetworks[string(Bridge)] = &Attached{Common: Common{ID: networkID(at.networks[bridge]), Name: string(Bridge)}, Type: string(Bridge)}
	for _, n := range s.ContainerNets {
		alias := cmp.Or(n.Alias, n.Network)
		a := &Attached{Common: Common{ID: networkID(at.networks[n.Network]), Name: alias}, Type: "external", DNS: addrs(n.DNS), TrustLevel: trustLevels[n.Firewall]}
		if n.Gateway.IsValid() {
			a.Gateway = &IPNet{ip16(n.Gateway.Addr()), mask4(n.Gateway.Bits())}
		}
		for _, r := range n.Ranges {
			a.Pools = append(a.Pools, IPRange{ip16(r.First), ip16(r.Last)})
		}
		c.Network.ContainerNetworks[alias] = a
	}
	span := s.BridgeRange
	if !span.IsValid() {
		span = defaultBridgeRange
	}
	c.Network.BridgeRange = net4(span)
	c.Network.BridgeWidth = mask4(cmp.Or(s.BridgeWidth, defaultBridgeWidth))
	return c
}

// buildDates are known by release alone: an image does not say its own.
var buildDates = map[string]string{"v1.5.8-0-2c978fe": "2021/06/24@20:27:11"}

func (p *Plan) endpoint(r Role, nic Adapter, at made) *NIC {
	n := p.spec.network(r)
	e := &NIC{
		Common:  Common{ID: fmt.Sprint(nic.Slot), Name: string(r)},
		Network: Attached{Common: Common{ID: networkID(at.networks[nic.Network]), Name: string(r)}, Default: r == Public},
	}
	switch r {
	case Management:
		e.Common.Name = "" // as vic-machine has it
	case Bridge:
		// The appliance gives itself the first address of the bridge.
		e.Static, e.IP, e.Network.Type = true, &IPNet{IP: ip16(netip.IPv4Unspecified())}, string(Bridge)
		return e
	}
	if n.IP.IsValid() {
		e.Static, e.IP = true, &IPNet{ip16(n.IP.Addr()), mask4(n.IP.Bits())}
		if n.Gateway.IsValid() {
			e.Network.Gateway = &IPNet{ip16(n.Gateway), mask4(n.IP.Bits())}
		}
		for _, d := range n.Destinations {
			e.Network.Destinations = append(e.Network.Destinations, net4(d))
		}
	}
	e.Network.DNS = addrs(p.dns())
	return e
}

// dns returns the name servers: with a static address on every side nobody else
// would name one.
func (p *Plan) dns() []netip.Addr {
	if len(p.spec.DNS) > 0 {
		return p.spec.DNS
	}
	for _, r := range outer {
		if !p.spec.network(r).IP.IsValid() {
			return nil
		}
	}
	return defaultDNS
}

func networkID(r Ref) string {
	if r.Value == "" {
		return ""
	}
	return r.Type + ":" + r.Value
}

func ip16(a netip.Addr) net.IP  { return net.IP(a.AsSlice()).To16() }
func mask4(bits int) net.IPMask { return net.CIDRMask(bits, 32) }
func net4(p netip.Prefix) IPNet { return IPNet{net.IP(p.Masked().Addr().AsSlice()), mask4(p.Bits())} }
func addrs(in []netip.Addr) (out []net.IP) {
	for _, a := range in {
		out = append(out, ip16(a))
	}
	return out
}

func (v Volume) storeURL() StoreURL {
	if v.NFS != nil {
		return StoreURL{Scheme: "nfs", Host: v.NFS.Host, Path: v.NFS.Path, RawQuery: v.NFS.RawQuery}
	}
	return StoreURL{Scheme: "ds", Host: v.Datastore, Path: onStore(v.Datastore, cmp.Or(v.Path, storeRoot))}
}

// sessions returns the appliance's three programs.
func (p *Plan) sessions() map[string]*Session {
	s := p.spec
	proxies := func(prefix string) (out []string) {
		for _, e := range [][2]string{{prefix + "HTTP_PROXY", s.HTTPProxy}, {prefix + "HTTPS_PROXY", s.HTTPSProxy}, {"NO_PROXY", s.NoProxy}} {
			if e[1] != "" {
				out = append(out, e[0]+"="+e[1])
			}
		}
		return out
	}
	program := func(name, user, dir string, env []string, args ...string) *Session {
		return &Session{
			Common: Common{ID: name, Name: name},
			Cmd:    Cmd{Path: args[0], Args: args, Env: env, Dir: dir},
			Active: true, Restart: true, User: user, Group: user,
		}
	}
	return map[string]*Session{
		"vicadmin": program("vicadmin", "vicadmin", "/home/vicadmin",
			append([]string{"PATH=/sbin:/bin", "GOTRACEBACK=all"}, proxies("VICADMIN_")...),
			"/sbin/vicadmin", "--dc="+p.Datacenter, "--pool="+p.PoolPath, "--cluster="+p.ComputePath),
		"docker-personality": program("docker-personality", "", "",
			append([]string{"PATH=/sbin", "GOTRACEBACK=all"}, proxies("")...),
			"/sbin/docker-engine-server", fmt.Sprintf("-port=%d", s.tls().port()), fmt.Sprintf("-port-layer-port=%d", containerPort)),
		"port-layer": program("port-layer", "", "",
			[]string{"VC_URL=" + s.Target, "DC_PATH=" + p.Datacenter, "CS_PATH=" + p.ComputePath, "POOL_PATH=" + p.PoolPath, "DS_PATH=" + p.Datastore},
			"/sbin/port-layer-server", "--host=localhost", fmt.Sprintf("--port=%d", containerPort)),
	}
}

// options returns the command line that vic-machine would have been given. It
// shows them in its own inspect. Users, passwords and proxies are left out.
func (p *Plan) options() []string {
	s := p.spec
	out := []string{"--target=" + s.Target, "--name=" + s.Name, "--image-store=" + path.Join(p.Datastore, s.ImagePath)}
	if s.Compute != "" {
		out = append(out, "--compute-resource="+s.Compute)
	}
	for _, r := range []Role{Bridge, Public, Client, Management} {
		n, given := s.Networks[r], s.Networks[r].Network
		if given != "" || r == Bridge {
			out = append(out, fmt.Sprintf("--%s-network=%s", r, s.name(r)))
		}
		if n.IP.IsValid() {
			out = append(out, fmt.Sprintf("--%s-network-ip=%s", r, n.IP))
		}
	}
	for _, d := range s.DNS {
		out = append(out, "--dns-server="+d.String())
	}
	switch s.tls() {
	case TLSNone:
		out = append(out, "--no-tls=true")
	case TLSServer:
		out = append(out, "--no-tlsverify=true")
	}
	if s.Cname != "" {
		out = append(out, "--tls-cname="+s.Cname)
	}
	return slices.DeleteFunc(out, func(o string) bool { return strings.Contains(o, listSeparator) })
}

// marks returns labctl's own keys.
func (p *Plan) marks(done []string, bridge, parents string) Keys {
	k := Keys{keyMade: strings.Join(done, " "), keyParents: parents}
	if !p.spec.Expires.IsZero() {
		k[keyExpires] = p.spec.Expires.UTC().Format(time.RFC3339)
	}
	if bridge != "" {
		k[keyBridge] = bridge
	}
	return k
}

// options returns keys as the API takes them, in order.
func (k Keys) options() []types.BaseOptionValue {
	var out []types.BaseOptionValue
	for _, key := range slices.Sorted(maps.Keys(k)) {
		out = append(out, &types.OptionValue{Key: key, Value: k[key]})
	}
	return out
}

// The keys of new devices: negative ones are placeholders that the server
// replaces.
const (
	ideKey    = -1
	scsiKey   = -2
	nicKey    = -10 // and down
	cdromKey  = -3
	serialKey = -4
	firstPCI  = 100 // the PCI controller that every machine has
)

// machine returns what CreateVM gets.
func (p *Plan) machine(keys Keys) types.VirtualMachineConfigSpec {
	s := p.spec
	spec := types.VirtualMachineConfigSpec{
		Name:               p.Name,
		GuestId:            string(types.VirtualMachineGuestOsIdentifierOtherGuest64),
		AlternateGuestName: alternateName(s.Bundle.Version),
		Files:              &types.VirtualMachineFileInfo{VmPathName: "[" + p.Datastore + "]"},
		NumCPUs:            int32(cmp.Or(s.CPUs, defaultCPUs)),
		MemoryMB:           int64(cmp.Or(s.MemoryMB, defaultMemoryMB)),
		Version:            s.HardwareVersion,
		ExtraConfig:        keys.options(),
	}
	// From API 8 on the defaults are newer than the appliance's kernel.
	if major, _, _ := strings.Cut(p.site.APIVersion, "."); atoi(major) >= 8 {
		spec.Version = cmp.Or(spec.Version, "vmx-13")
		spec.Firmware = string(types.GuestOsDescriptorFirmwareTypeBios)
	}
	add := func(d types.BaseVirtualDevice) {
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d})
	}
	add(&types.VirtualIDEController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: ideKey}}})
	add(&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
		SharedBus:         types.VirtualSCSISharingNoSharing,
		VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: scsiKey}},
	}})
	for i, nic := range p.NICs {
		add(&types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{
			AddressType: string(types.VirtualEthernetCardMacTypeGenerated),
			VirtualDevice: types.VirtualDevice{
				Key:         int32(nicKey - i),
				Backing:     p.backing(nic.Network),
				SlotInfo:    &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: int32(nic.Slot)},
				Connectable: &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Connected: true},
			},
		}}})
	}
	return spec
}

func alternateName(v BundleVersion) string {
	return fmt.Sprintf("Photon - VCH %s, %s, %.7s", v.Release, v.Build, v.Commit)
}

// backing attaches an adapter. A port group that is yet to be made is a
// standard one.
func (p *Plan) backing(name string) types.BaseVirtualDeviceBackingInfo {
	n := p.network(name)
	switch {
	case n != nil && n.Key != "":
		return &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
			Port: types.DistributedVirtualSwitchPortConnection{SwitchUuid: n.DVSUUID, PortgroupKey: n.Key},
		}
	case n != nil && n.OpaqueID != "":
		return &types.VirtualEthernetCardOpaqueNetworkBackingInfo{OpaqueNetworkId: n.OpaqueID, OpaqueNetworkType: n.OpaqueType}
	}
	b := &types.VirtualEthernetCardNetworkBackingInfo{}
	b.DeviceName = name
	if n != nil {
		b.Network = &n.Ref
	}
	return b
}

// finish returns what Reconfigure gets: the boot image, the serial port that
// the appliance logs to, and all keys.
func (p *Plan) finish(at made, devices []types.BaseVirtualDevice, keys Keys) types.VirtualMachineConfigSpec {
	appliance, _ := p.spec.Bundle.Version.files()
	spec := types.VirtualMachineConfigSpec{ExtraConfig: keys.options()}
	cd := &types.VirtualCdrom{VirtualDevice: types.VirtualDevice{
		Key: cdromKey, ControllerKey: freeIDE(devices), UnitNumber: types.NewInt32(0),
		Backing:     &types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: onStore(p.Datastore, at.folder, appliance)}},
		Connectable: &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Connected: true},
	}}
	serial := &types.VirtualSerialPort{YieldOnPoll: true, VirtualDevice: types.VirtualDevice{
		Key:         serialKey,
		Backing:     &types.VirtualSerialPortFileBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: onStore(p.Datastore, at.folder, logFile)}},
		Connectable: &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Connected: true},
	}}
	for _, d := range devices {
		if sio, ok := d.(*types.VirtualSIOController); ok {
			serial.ControllerKey, serial.UnitNumber = sio.Key, types.NewInt32(0)
		}
	}
	for _, d := range []types.BaseVirtualDevice{cd, serial} {
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d})
	}
	return spec
}

// logFile is where the appliance's serial port writes.
const logFile = "tether.debug"

// freeIDE returns the first IDE controller whose first place is free.
func freeIDE(devices []types.BaseVirtualDevice) int32 {
	taken := map[int32]bool{}
	for _, d := range devices {
		v := d.GetVirtualDevice()
		if v.UnitNumber != nil && *v.UnitNumber == 0 {
			taken[v.ControllerKey] = true
		}
	}
	for _, d := range devices {
		if ide, ok := d.(*types.VirtualIDEController); ok && !taken[ide.Key] {
			return ide.Key
		}
	}
	return 200 // the first IDE controller of every machine
}
