package vch

import (
	"net"
	"strings"
)

// Config is the ExtraConfig of a VCH as VIC 1.5 lays it out. Names of fields
// that have no tag are part of the format.
type Config struct {
	Init           Executor   `extra:"init"`
	Connect        Connection `extra:"connect"`
	Cert           Certs      `extra:"cert"`
	Storage        Storage    `extra:"storage"`
	Network        Networks   `extra:"network"`
	Container      Containers `extra:"container"`
	Registry       Registry   `extra:"registry"`
	BridgeCreated  bool       `extra:"create_bridge_network"` // by whoever installed the VCH
	GrantPerms     string     `extra:"grant_permissions"`
	InstallOptions []string   `extra:"vic_machine_create_options"` // command line, nothing secret in it
}

// Executor describes one virtual machine: a VCH below init, a container VM at
// the root.
type Executor struct {
	Common      Identity            `extra:"common"`
	CreateTime  int64               `extra:"createtime,rw"`
	Diagnostics Diagnostics         `extra:"diagnostics"`
	LayerID     string              `extra:"layerid"`
	ImageID     string              `extra:"imageid"`
	Repo        string              `extra:"repo"`
	Hostname    string              `extra:"hostname"`
	Domainname  string              `extra:"domainname"`
	AsymRouting bool                `extra:"asymrouting"`
	Version     *Version            `extra:"version"`
	Sessions    map[string]*Session `extra:"sessions"`
	Networks    map[string]*NIC     `extra:"networks"`
}

// Identity names an executor. Its id is the marker of a VCH.
type Identity struct {
	ExecutionEnvironment string
	ID                   string `extra:"id"`
	Name                 string `extra:"name,hidden"`
	Notes                string `extra:"notes,hidden"`
}

// Common names a session, a NIC or a network.
type Common struct {
	ExecutionEnvironment string
	ID                   string `extra:"id"`
	Name                 string `extra:"name"`
	Notes                string `extra:"notes,hidden"`
}

// Diagnostics of an executor. Debug from 3 on keeps a shell open in the
// appliance.
type Diagnostics struct {
	Debug         int     `extra:"debug"`
	Resurrections int     `extra:"resurrections,rw"`
	Syslog        *Syslog `extra:"syslog"`
}

// Syslog is where an appliance logs to.
type Syslog struct {
	Network string // udp or tcp
	RAddr   string // host:port
}

// Version is a bundle's build. vic-machine compares the build number alone.
type Version struct {
	Version       string
	GitCommit     string
	BuildDate     string
	BuildNumber   string
	State         string
	PluginVersion int
}

// String returns the version as vic-machine shows it.
func (v *Version) String() string {
	if v == nil || v.Version == "" {
		return ""
	}
	return strings.TrimRight(strings.Join([]string{v.Version, v.BuildNumber, v.GitCommit}, "-"), "-")
}

// Session is a program that an executor runs.
type Session struct {
	Common      Common      `extra:"common"`
	Detail      Detail      `extra:"detail,rw"`
	Cmd         Cmd         `extra:"cmd"`
	Attach      bool        `extra:"attach"`
	OpenStdin   bool        `extra:"openstdin"`
	RunBlock    bool        `extra:"runblock,rw"`
	Active      bool        `extra:"active"`
	Tty         bool        `extra:"tty"`
	Restart     bool        `extra:"restart"`
	StopSignal  string      `extra:"stopSignal"`
	User        string      `extra:"User"`
	Group       string      `extra:"Group"`
	Status      int         `extra:"status,rw"`  // exit status
	Started     string      `extra:"started,rw"` // true, or why it did not start
	Diagnostics SessionDiag `extra:"diagnostics"`
}

// SessionDiag are the diagnostics of a session.
type SessionDiag struct {
	Debug         int `extra:"debug"`
	Resurrections int `extra:"resurrections,rw"`
}

// Detail are times of a session in seconds since 1970.
type Detail struct {
	CreateTime int64 `extra:"createtime,rw"`
	StartTime  int64 `extra:"starttime,rw"`
	StopTime   int64 `extra:"stoptime,rw"`
}

// Cmd is a command line. The first argument repeats the path.
type Cmd struct {
	Path string
	Args []string
	Env  []string
	Dir  string
}

// NIC is the end of a network in an executor. The id of its Common is the PCI
// slot number of the adapter.
type NIC struct {
	Common   Common
	IP       *IPNet   `extra:"ip"` // absent with DHCP
	Assigned IPNet    `extra:"assigned,rw"`
	Network  Attached `extra:"network"`
	Static   bool     `extra:"static"`
	Internal bool     `extra:"internal"`
}

// IPNet is an address with its mask; absent parts have no key. Addresses are
// 16 bytes long, those of networks 4.
type IPNet struct {
	IP   net.IP
	Mask net.IPMask
}

// Attached is a network as an executor sees it: its id is TYPE:MOREF.
type Attached struct {
	Common       Common
	Type         string    `extra:"type,rw"` // bridge, external or nothing
	Default      bool      `extra:"default"`
	Destinations []IPNet   `extra:"destinations"`
	Gateway      *IPNet    `extra:"gateway"`
	DNS          []net.IP  `extra:"dns"`
	Pools        []IPRange `extra:"pools"`
	TrustLevel   int       // a container network's firewall
	Assigned     Assigned  `extra:"assigned,rw"`
}

// Assigned is what a network told the appliance.
type Assigned struct {
	Gateway IPNet    `extra:"gateway,rw"`
	DNS     []net.IP `extra:"dns,rw"`
}

// IPRange is a range of addresses, both ends included.
type IPRange struct {
	First net.IP `extra:"first"`
	Last  net.IP `extra:"last"`
}

// Connection is how the appliance reaches vSphere.
type Connection struct {
	Target     string `extra:"target"`
	Username   string `extra:"username"`
	Token      string `extra:"token,secret"` // password
	Thumbprint string `extra:"target_thumbprint"`
	Keepalive  int64  `extra:"keepalive"` // nanoseconds
}

// Certs are the certificates of the Docker endpoint. Without HostCertificate
// there is no TLS, without CertificateAuthorities no client authentication.
type Certs struct {
	HostCertificate                *KeyPair
	CertificateAuthorities         []byte // PEM
	RegistryCertificateAuthorities []byte // PEM
}

// KeyPair is a certificate with its key, both PEM.
type KeyPair struct {
	Cert []byte
	Key  []byte `extra:"Key,secret"`
}

// Storage is where a VCH keeps images and volumes.
type Storage struct {
	ImageStores []StoreURL          `extra:"image_stores"`
	Volumes     map[string]StoreURL `extra:"VolumeLocations"`
	Quota       int64               `extra:"storage_quota"` // bytes, 0 is no limit
	ScratchSize int64               `extra:"scratch_size"`  // KB
}

// StoreURL is a URL in the parts that Go's net/url has; vic-machine 1.5.8 built
// with a current Go writes OmitHost and RawFragment too.
type StoreURL struct {
	Scheme, Opaque, Host, Path, RawPath string
	ForceQuery                          bool
	RawQuery, Fragment                  string
	OmitHost                            bool
	RawFragment                         string
}

// Networks are what containers can be attached to.
type Networks struct {
	BridgeNetwork     string               `extra:"bridge_network"`
	ContainerNetworks map[string]*Attached `extra:"container_networks"`
	BridgeRange       IPNet                `extra:"bridge-ip-range"`
	BridgeWidth       net.IPMask           `extra:"bridge-net-width"`
}

// Containers say where container VMs go and what they start from.
type Containers struct {
	ComputeResources []MoRef `extra:"ComputeResources"` // the port layer takes exactly one
	BootstrapPath    string  `extra:"bootstrap_image_path"`
	NameConvention   string  `extra:"ContainerNameConvention"`
	UseVMGroup       bool    `extra:"UseVMGroup"`
	VMGroupName      string  `extra:"VMGroupName"`
	Limit            int     `extra:"container_count"`
}

// MoRef is a reference to a managed object.
type MoRef struct{ Type, Value string }

// Registry restricts where images come from.
type Registry struct {
	Whitelist []string `extra:"whitelist_registries"`
	Insecure  []string `extra:"insecure_registries"`
}

// creating is the marker of a VCH whose own id is not known yet.
const creating = "CreatingVCH"

// markerFor returns what the marker of the VCH in this virtual machine is.
func markerFor(vm string) string { return "VirtualMachine:" + vm }
