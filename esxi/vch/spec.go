package vch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labctl/labctl/esxi"
)

// Role is a purpose that a network serves in a VCH.
type Role string

// The four roles of every VCH.
const (
	Public     Role = "public"
	Client     Role = "client"
	Management Role = "management"
	Bridge     Role = "bridge"
)

// outer are the roles other than the bridge, in the order in which their
// networks get an adapter.
var outer = []Role{Public, Client, Management}

// RoleNet attaches a role to a network.
type RoleNet struct {
	Network      string         // port group; empty: see Spec.network
	IP           netip.Prefix   // static address; zero is DHCP
	Gateway      netip.Addr     // zero is none
	Destinations []netip.Prefix // what the gateway leads to; empty is everything
}

// Volume is a place for volumes: a datastore folder, or an NFS export.
type Volume struct {
	Label     string
	Datastore string
	Path      string
	NFS       *url.URL // instead of a datastore
}

// ContainerNet is a network that containers can be attached to directly.
type ContainerNet struct {
	Network  string
	Alias    string // docker network name; default: Network
	Gateway  netip.Prefix
	Ranges   []AddrRange
	DNS      []netip.Addr
	Firewall string // closed, outbound, peers, published or open; empty is the default of the appliance
}

// AddrRange is a range of addresses, both ends included.
type AddrRange struct{ First, Last netip.Addr }

// Spec says what VCH to make. Name, Bundle, Target, User and Password are
// required; everything else has vic-machine's default.
type Spec struct {
	Name    string
	Bundle  *Bundle
	Compute string // name or path of a cluster, host or pool; empty: the only one

	Datastore    string // empty: the only one
	ImagePath    string // folder for images; empty: the appliance's own
	Volumes      []Volume
	ScratchKB    int64 // size of an image's disk; 0 is 8,000,000
	StorageQuota int64 // bytes; 0 is no limit

	Networks        map[Role]RoleNet
	DNS             []netip.Addr
	BridgeRange     netip.Prefix // zero is 172.16.0.0/12
	BridgeWidth     int          // prefix length of one bridge network; 0 is 16
	ContainerNets   []ContainerNet
	AsymmetricRoute bool
	OpenFirewall    bool // enable the rule set that containers need, where it is off

	Target     string // https://host[:port], as the appliance reaches vSphere
	User       string // who the appliance logs in as
	Password   esxi.Secret
	OwnUser    bool   // User is the one of this run, and not one made for the VCH
	Thumbprint string // SHA-1 of vSphere's certificate

	TLS          TLS    // empty is TLSServer
	Cname        string // name in the server's certificate; empty: a static address
	Organization []string
	KeyBits      int
	RegistryCAs  []byte // PEM

	MemoryMB, CPUs                 int   // of the appliance; 0 is 2048 and 1
	PoolMemoryMB, PoolCPUMHz       int64 // limits of all containers together; 0 is none
	ContainerLimit                 int   // number of containers; 0 is none
	Debug                          int
	Syslog                         *Syslog
	NameConvention                 string
	Insecure, Whitelist            []string // registries
	HTTPProxy, HTTPSProxy, NoProxy string
	Expires                        time.Time // zero is never
	HardwareVersion                string    // as in vmx-13; empty: the host's default, before API 8
}

// maxName is the length that vic-machine allows for a name.
const maxName = 31

// CheckName reports what a VCH cannot be called, after vic-machine's rule. A
// name is a file's and a folder's too.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a VCH needs a name")
	case len([]rune(name)) > maxName:
		return fmt.Errorf("name %s has %d characters: vic-machine's limit is %d", name, len([]rune(name)), maxName)
	case strings.ContainsAny(name, "%&*$#@!\\/:?\"<>;'|[]") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }):
		return fmt.Errorf("name %q holds a character that vSphere or a datastore path cannot take", name)
	case strings.Trim(name, ". ") != name || strings.HasPrefix(name, "-"):
		return fmt.Errorf("name %q cannot begin or end like that", name)
	}
	return nil
}

// loopbacks are the names that the usual hosts file gives to a machine itself.
// The second is what ESXi calls itself before it has a name.
var loopbacks = []string{"localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}

// CheckTarget reads the address at which the appliance reaches vSphere, and
// returns it as VIC stores it, without user and path. An address that means the
// appliance itself is refused.
func CheckTarget(s string) (string, error) {
	u, _, err := esxi.ParseURL(s)
	if err != nil {
		return "", err
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	ip, err := netip.ParseAddr(host)
	if slices.Contains(loopbacks, host) || strings.HasSuffix(host, ".localhost") || err == nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		return "", fmt.Errorf("%s is the appliance itself, seen from the appliance", host)
	}
	return "https://" + u.Host, nil
}

// network returns what a role is attached to and how: client falls back to
// public, management to client, public to VM Network, the bridge to the VCH's
// own name. Roles that share a network share its static address too, whichever
// of them it was given for.
func (s *Spec) network(r Role) RoleNet {
	n := s.Networks[r]
	n.Network = s.name(r)
	if r == Bridge || n.IP.IsValid() {
		return n
	}
	for _, other := range outer {
		if o := s.Networks[other]; other != r && o.IP.IsValid() && s.name(other) == n.Network {
			n.IP, n.Gateway = o.IP, o.Gateway
			if len(n.Destinations) == 0 {
				n.Destinations = o.Destinations
			}
			return n
		}
	}
	return n
}

// name is the network of a role, without its address.
func (s *Spec) name(r Role) string {
	if n := s.Networks[r].Network; n != "" {
		return n
	}
	switch r {
	case Client:
		return s.name(Public)
	case Management:
		return s.name(Client)
	case Bridge:
		return s.Name
	}
	return "VM Network"
}

// certName returns what the server's certificate is made out to: the name
// given, else the first static address in vic-machine's order.
func (s *Spec) certName() string {
	if s.Cname != "" {
		return s.Cname
	}
	for _, r := range []Role{Client, Public, Management} {
		if ip := s.network(r).IP; ip.IsValid() {
			return ip.Addr().String()
		}
	}
	return ""
}

// certAddr returns the address that the server's certificate holds: the client
// side's where it is known before the boot, so that clients can go by it
// whatever the name is.
func (s *Spec) certAddr() netip.Addr {
	if ip := s.network(Client).IP; ip.IsValid() {
		return ip.Addr()
	}
	ip, _ := netip.ParseAddr(s.certName())
	return ip
}

// CertRequest returns what certificates the VCH needs.
func (s *Spec) CertRequest(now time.Time) CertRequest {
	org := s.Organization
	if len(org) == 0 {
		org = []string{s.Name}
	}
	return CertRequest{Mode: s.tls(), Name: s.certName(), Addr: s.certAddr(), Organization: org, KeyBits: s.KeyBits, Now: now}
}

func (s *Spec) tls() TLS {
	if s.TLS == "" {
		return TLSServer
	}
	return s.TLS
}

// port is where the Docker endpoint listens.
func (t TLS) port() int {
	if t == TLSNone {
		return 2375
	}
	return 2376
}

// ParseImageStore reads --image-store: DATASTORE[/PATH], with or without ds://.
func ParseImageStore(s string) (datastore, path string, err error) {
	datastore, path, _ = strings.Cut(strings.TrimPrefix(s, "ds://"), "/")
	path = strings.Trim(path, "/")
	if datastore == "" || strings.ContainsAny(s, "[]") || badPath(path) {
		return "", "", fmt.Errorf("%q is not DATASTORE[/PATH]", s)
	}
	return datastore, path, nil
}

// badPath finds what would leave the folder that a path begins in.
func badPath(path string) bool {
	for _, part := range strings.Split(path, "/") {
		if part == ".." || part == "." {
			return true
		}
	}
	return false
}

// ParseVolume reads --volume-store: DATASTORE[/PATH]:LABEL, with or without
// ds://, or nfs://HOST/PATH[?uid=…&gid=…&proto=…]:LABEL.
func ParseVolume(s string) (Volume, error) {
	at := strings.LastIndex(s, ":")
	if at < 0 || strings.HasPrefix(s[at:], "://") {
		return Volume{}, fmt.Errorf("%q has no label: DATASTORE[/PATH]:LABEL", s)
	}
	v := Volume{Label: s[at+1:]}
	if v.Label == "" || strings.ContainsAny(v.Label, "|/ ") {
		return Volume{}, fmt.Errorf("%q has no usable label: DATASTORE[/PATH]:LABEL", s)
	}
	if strings.HasPrefix(s, "nfs://") {
		u, err := url.Parse(s[:at])
		if err != nil || u.Host == "" || u.Path == "" || u.User != nil {
			return Volume{}, fmt.Errorf("%q is not nfs://HOST/PATH:LABEL", s)
		}
		v.NFS = u
		return v, nil
	}
	var err error
	v.Datastore, v.Path, err = ParseImageStore(s[:at])
	if err != nil {
		return Volume{}, fmt.Errorf("%q is not DATASTORE[/PATH]:LABEL", s)
	}
	return v, nil
}

// ParseGateway reads a gateway as vic-machine does: IP, or DST[,DST…]:IP.
func ParseGateway(s string) (ip netip.Addr, dst []netip.Prefix, err error) {
	list, last, ok := strings.Cut(s, ":")
	if !ok {
		list, last = "", s
	}
	// A mask says nothing of a gateway; vic-machine takes one.
	last, _, _ = strings.Cut(last, "/")
	if ip, err = netip.ParseAddr(last); err != nil || !ip.Is4() {
		return ip, nil, fmt.Errorf("%q is not [DESTINATION,…:]IP", s)
	}
	for _, d := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		p, err := netip.ParsePrefix(d)
		if err != nil {
			return ip, nil, fmt.Errorf("%q: %q is no network of the form 10.0.0.0/8", s, d)
		}
		dst = append(dst, p.Masked())
	}
	return ip, dst, nil
}

// ParseStatic reads an address with its prefix length, as in 10.0.0.5/24.
func ParseStatic(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p.Bits() == 0 {
		return p, fmt.Errorf("%q is not an address with its prefix length, as in 10.0.0.5/24", s)
	}
	if p.Bits() < 31 && (p.Addr() == p.Masked().Addr() || p.Addr() == last(p)) {
		return p, fmt.Errorf("%s is the network itself, or everybody in it, and no host of it", s)
	}
	return p, nil
}

// last returns the last address of a network.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// CheckProxy reports what is no URL of a proxy; "" is none. The text of the
// error does not repeat it: there may be a password in it.
func CheckProxy(s string) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return nil
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.ContainsAny(s, "| "):
		return errors.New("it is not of the form http://HOST[:PORT]")
	}
	return nil
}

// ParseRange reads FIRST-LAST, FIRST-LASTBYTE or a network in CIDR form.
func ParseRange(s string) (AddrRange, error) {
	bad := fmt.Errorf("%q is neither FIRST-LAST nor a network of the form 10.0.0.0/24", s)
	if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() {
		return AddrRange{p.Masked().Addr(), last(p)}, nil
	}
	from, to, ok := strings.Cut(s, "-")
	first, err := netip.ParseAddr(strings.TrimSpace(from))
	if !ok || err != nil || !first.Is4() {
		return AddrRange{}, bad
	}
	to = strings.TrimSpace(to)
	last, err := netip.ParseAddr(to)
	if n, numeric := strconv.Atoi(to); err != nil && numeric == nil && n >= 0 && n <= 255 {
		b := first.As4()
		b[3] = byte(n)
		last, err = netip.AddrFrom4(b), nil
	}
	if err != nil || !last.Is4() || last.Less(first) {
		return AddrRange{}, bad
	}
	return AddrRange{first, last}, nil
}

// trustLevels are the firewalls of a container network by vic-machine's name.
var trustLevels = map[string]int{"": 0, "published": 1, "open": 2, "closed": 3, "outbound": 4, "peers": 5}

// CheckFirewall reports a name that no container network's firewall has.
func CheckFirewall(s string) error {
	if _, ok := trustLevels[s]; !ok || s == "" {
		return fmt.Errorf("%q is none of closed, outbound, peers, published and open", s)
	}
	return nil
}

// ParseSyslog reads --syslog-address: udp://HOST[:514].
func ParseSyslog(s string) (*Syslog, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "udp" && u.Scheme != "tcp" || u.Hostname() == "" || u.Path != "" {
		return nil, fmt.Errorf("%q is not udp://HOST[:PORT] or tcp://HOST[:PORT]", s)
	}
	addr := u.Host
	if port := u.Port(); port == "" {
		addr = net.JoinHostPort(u.Hostname(), "514")
	} else if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return nil, fmt.Errorf("%q: there is no port %s", s, port)
	}
	return &Syslog{Network: u.Scheme, RAddr: addr}, nil
}
