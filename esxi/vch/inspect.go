package vch

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// Details are all that the inventory and a VCH's own keys say of it.
type Details struct {
	Entry
	Networks   []NetworkInfo   `json:"networks"`
	Images     ImageInfo       `json:"images"`
	Volumes    []string        `json:"volumes"`
	Sessions   []SessionInfo   `json:"sessions"`
	Containers []ContainerInfo `json:"containers"`
	Pool       string          `json:"pool"`
	VMPath     string          `json:"vmPath"`
	Admin      string          `json:"admin,omitempty"`
	Problems   []string        `json:"problems,omitempty"` // keys that do not decode
	VMX        Keys            `json:"vmx"`                // raw, secrets masked
}

// NetworkInfo is a role of a VCH on its network.
type NetworkInfo struct {
	Role     string `json:"role"`
	Network  string `json:"network"`
	Slot     string `json:"slot"`
	Label    string `json:"label"` // of the adapter
	MAC      string `json:"mac"`
	Static   bool   `json:"static"`
	IP       string `json:"ip"` // assigned, with prefix length
	Gateway  string `json:"gateway,omitempty"`
	DNS      string `json:"dns,omitempty"`
	Attached bool   `json:"connected"`
}

// ImageInfo says what a VCH boots from and where it keeps images.
type ImageInfo struct {
	Boot      string   `json:"boot"`      // ISO that the appliance boots from
	Bootstrap string   `json:"bootstrap"` // ISO that container VMs boot from
	Stores    []string `json:"stores"`
}

// SessionInfo is a program of the appliance.
type SessionInfo struct {
	Name  string   `json:"name"`
	State string   `json:"state"` // running, not started, or why it failed
	Args  []string `json:"args"`  // the program first
}

// ContainerInfo is a container as its virtual machine shows it.
type ContainerInfo struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Repo    string `json:"repo"` // image
	Cmd     string `json:"cmd"`
	Power   string `json:"power"`
	VM      string `json:"vm"`
	Serial  string `json:"serial"`
	Network string `json:"network"` // port group, then its addresses
	Disk    string `json:"disk"`
	State   string `json:"state"`
	VMX     Keys   `json:"vmx"`
}

// NotFoundError says that there is no VCH of a name.
type NotFoundError struct {
	Name  string
	Known []string
}

func (e *NotFoundError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("there is no VCH %s, nor any other", e.Name)
	}
	verb := "are"
	if len(e.Known) == 1 {
		verb = "is"
	}
	return fmt.Sprintf("there is no VCH %s: there %s %s", e.Name, verb, strings.Join(e.Known, ", "))
}

// find returns a VCH by name or id.
func (s *Site) find(name string) (*Machine, error) {
	m, err := s.vch(name)
	if m == nil && err == nil {
		e := &NotFoundError{Name: name}
		for _, l := range entries(s.Machines) {
			e.Known = append(e.Known, l.Name)
		}
		err = e
	}
	return m, err
}

// Inspect reads everything about one VCH, by name or id. It needs no Docker API
// and no power.
func Inspect(ctx context.Context, c *esxi.Client, name string) (*Details, error) {
	site, err := ReadSite(ctx, c, false)
	if err != nil {
		return nil, err
	}
	m, err := site.find(name)
	if err != nil {
		return nil, err
	}
	refs := []Ref{m.Ref}
	for _, o := range site.Machines {
		if belongs(o, *m, site.Machines) {
			refs = append(refs, o.Ref)
		}
	}
	details, err := readDetails(ctx, c, refs)
	if err != nil {
		return nil, err
	}
	own, ok := details[m.Ref]
	if !ok {
		return nil, &NotFoundError{Name: name}
	}
	d := describe(site, own)
	for _, r := range refs[1:] {
		if o, ok := details[r]; ok && isContainer(o.Machine) {
			d.Containers = append(d.Containers, site.describeContainer(o))
		}
	}
	slices.SortFunc(d.Containers, func(a, b ContainerInfo) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	d.Entry.Containers = len(d.Containers)
	return d, nil
}

func describe(s *Site, m container) *Details {
	d := &Details{Entry: newEntry(m.Machine), VMPath: m.Path, Pool: s.path(m.Pool), VMX: m.Keys.masked(),
		Networks: []NetworkInfo{}, Sessions: []SessionInfo{}, Containers: []ContainerInfo{}, Volumes: []string{}}
	d.Images.Stores = []string{}
	var c Config
	if err := DecodeKeys(m.Keys, &c, nil); err != nil {
		d.Problems = strings.Split(err.Error(), "\n")
	}
	for _, r := range append(slices.Clone(outer), Bridge, "external") {
		if n := c.Init.Networks[string(r)]; n != nil {
			d.Networks = append(d.Networks, s.describeNIC(string(r), n, m.devices))
		}
	}
	d.Images.Bootstrap = c.Container.BootstrapPath
	for _, dev := range m.devices {
		if cd, ok := dev.(*types.VirtualCdrom); ok {
			if iso, ok := cd.Backing.(*types.VirtualCdromIsoBackingInfo); ok {
				d.Images.Boot = iso.FileName
			}
		}
	}
	for _, u := range c.Storage.ImageStores {
		d.Images.Stores = append(d.Images.Stores, u.Scheme+"://"+path.Join(u.Host, u.Path))
	}
	for label, u := range c.Storage.Volumes {
		where := u.Path
		if u.Scheme != "ds" {
			where = u.Scheme + "://" + u.Host + u.Path
		}
		d.Volumes = append(d.Volumes, label+": "+where)
	}
	slices.Sort(d.Volumes)
	for name, ses := range c.Init.Sessions {
		state := "not started"
		switch {
		case ses.Started == "true" && m.On:
			state = "running"
		case ses.Started == "true":
			state = "stopped"
		case ses.Started != "":
			state = ses.Started
		}
		args := ses.Cmd.Args
		if len(args) == 0 {
			args = []string{ses.Cmd.Path} // VIC 0.4 has no more
		}
		d.Sessions = append(d.Sessions, SessionInfo{name, state, args})
	}
	slices.SortFunc(d.Sessions, func(a, b SessionInfo) int { return cmp.Compare(a.Name, b.Name) })
	if d.IP != "" {
		d.Admin = "https://" + net.JoinHostPort(d.IP, "2378")
	}
	return d
}

func (s *Site) describeNIC(role string, n *NIC, devices []types.BaseVirtualDevice) NetworkInfo {
	i := NetworkInfo{Role: role, Slot: n.Common.ID, Static: n.Static}
	_, id, _ := strings.Cut(n.Network.Common.ID, ":")
	if net := find(s.Networks, func(w Network) bool { return w.Ref.Value == id }); net != nil {
		i.Network = net.Name
	}
	for _, d := range devices {
		card, ok := d.(types.BaseVirtualEthernetCard)
		if !ok {
			continue
		}
		v := card.GetVirtualEthernetCard()
		on := s.attachedTo(v)
		slot, ok := v.SlotInfo.(*types.VirtualDevicePciBusSlotInfo)
		if ok && fmt.Sprint(slot.PciSlotNumber) == n.Common.ID || !ok && on == i.Network {
			i.MAC, i.Network = v.MacAddress, cmp.Or(on, i.Network)
			i.Attached = v.Connectable != nil && v.Connectable.Connected
			if info := v.DeviceInfo; info != nil {
				i.Label = info.GetDescription().Label
			}
		}
	}
	i.IP = n.Assigned.text()
	if i.IP == "" && n.IP != nil && !n.IP.IP.IsUnspecified() {
		i.IP = n.IP.text()
	}
	gateway, dns := n.Network.Assigned.Gateway.IP, n.Network.Assigned.DNS
	if gateway == nil && n.Network.Gateway != nil {
		gateway = n.Network.Gateway.IP
	}
	if len(dns) == 0 {
		dns = n.Network.DNS
	}
	if gateway != nil {
		i.Gateway = gateway.String()
	}
	var servers []string
	for _, ip := range dns {
		servers = append(servers, ip.String())
	}
	i.DNS = strings.Join(servers, ", ")
	return i
}

// attachedTo returns the port group of an adapter.
func (s *Site) attachedTo(v *types.VirtualEthernetCard) string {
	switch b := v.Backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		return b.DeviceName
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		if n := find(s.Networks, func(n Network) bool { return n.Key == b.Port.PortgroupKey }); n != nil {
			return n.Name
		}
		return b.Port.PortgroupKey
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		return b.OpaqueNetworkId
	}
	return ""
}

// text returns an address with its prefix length where there is a mask.
func (n IPNet) text() string {
	if len(n.IP) == 0 || n.IP.IsUnspecified() {
		return ""
	}
	if ones, bits := n.Mask.Size(); bits > 0 {
		return fmt.Sprintf("%s/%d", n.IP, ones)
	}
	return n.IP.String()
}

// containerName returns the docker name of a container VM. It is hidden from
// the guest since VIC 1.0.
func (k Keys) containerName() string {
	for _, key := range []string{"common/name", oldReadPrefix + "common/name", readPrefix + "common/name"} {
		if v := k[key]; v != "" && v != nothing {
			return v
		}
	}
	return ""
}

func (s *Site) describeContainer(m container) ContainerInfo {
	var e Executor
	// A key that does not decode costs its own field and no more.
	_ = DecodeKeys(m.Keys, &e, nil)
	i := ContainerInfo{ID: cmp.Or(e.Common.ID, m.Name), Name: cmp.Or(m.Keys.containerName(), m.Name), Repo: e.Repo, VM: m.Name, Power: "off", VMX: m.Keys.masked()}
	if m.On {
		i.Power = "on"
	}
	ses := e.Sessions[i.ID]
	if ses == nil {
		// VIC 0.4 keeps no list of sessions that survives every version.
		ses = &Session{Cmd: Cmd{Path: m.Keys.either(readPrefix + "sessions|" + i.ID + "/cmd/Path")}}
		if args := m.Keys.either(readPrefix + "sessions|" + i.ID + "/cmd/Args~"); args != "" {
			ses.Cmd.Args = strings.Split(args, listSeparator)
		}
		ses.Started = m.Keys.either(writePrefix + "sessions|" + i.ID + ".started")
	}
	i.Cmd = ses.Cmd.Path
	if len(ses.Cmd.Args) > 0 {
		i.Cmd = strings.Join(ses.Cmd.Args, " ")
	}
	switch {
	case m.On && ses.Started == "true":
		i.State = "running"
	case ses.Started != "" && ses.Started != "true":
		i.State = ses.Started
	case ses.Started == "true" && m.Keys.either(writePrefix+"sessions|"+i.ID+".status") == "":
		i.State = "exited" // VIC 0.4 keeps no status
	case ses.Started == "true":
		i.State = fmt.Sprintf("exited (%d)", ses.Status)
	default:
		i.State = "created"
	}
	var nets []string
	for _, d := range m.devices {
		switch d := d.(type) {
		case *types.VirtualDisk:
			if b, ok := d.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok && i.Disk == "" {
				i.Disk = b.GetVirtualDeviceFileBackingInfo().FileName
			}
		case *types.VirtualSerialPort:
			switch b := d.Backing.(type) {
			case *types.VirtualSerialPortURIBackingInfo:
				i.Serial = b.ServiceURI
			case *types.VirtualSerialPortFileBackingInfo:
				i.Serial = b.FileName
			}
		case types.BaseVirtualEthernetCard:
			nets = append(nets, s.attachedTo(d.GetVirtualEthernetCard()))
		}
	}
	for _, n := range e.Networks {
		if ip := n.Assigned.text(); ip != "" {
			nets = append(nets, ip)
		} else if n.IP != nil && n.IP.text() != "" {
			nets = append(nets, n.IP.text())
		}
	}
	i.Network = strings.Join(nets, " ")
	return i
}

// userinfo matches a password in a URL, as proxies have them.
var userinfo = regexp.MustCompile(`(//[^/\s:@|]*):[^\s|]*@`)

// env matches the value of a variable whose name sounds like a secret.
var env = regexp.MustCompile(`(?i)([\w]*(?:pass|pwd|secret|token|key)[\w]*=)[^|]*`)

// masked returns keys as they may be shown: sealed secrets, the key to them,
// and passwords in the clear are ••••.
func (k Keys) masked() Keys {
	out := Keys{}
	for name, v := range k {
		switch {
		case name == ovfEnv, strings.Contains(name, secretSuffix):
			v = "••••"
		default:
			v = userinfo.ReplaceAllString(v, "$1:••••@")
			if strings.Contains(name, "Env~") || strings.Contains(name, "Args~") {
				v = env.ReplaceAllString(v, "$1••••")
			}
		}
		out[name] = v
	}
	return out
}

// findContainer returns the container VM of a container, nil if there is none.
func findContainer(ctx context.Context, c *esxi.Client, id string) (*ContainerInfo, error) {
	site, err := ReadSite(ctx, c, false)
	if err != nil {
		return nil, err
	}
	m := find(site.Machines, func(m Machine) bool { return m.Keys.either(readPrefix+"common/id") == id || m.Name == id })
	if m == nil {
		return nil, nil
	}
	details, err := readDetails(ctx, c, []Ref{m.Ref})
	if err != nil {
		return nil, err
	}
	d, ok := details[m.Ref]
	if !ok {
		return nil, nil
	}
	i := site.describeContainer(d)
	return &i, nil
}

// maxLog is how much of an appliance's log is fetched: its end.
const maxLog = 1 << 20

// Logs returns the end of the log that a VCH's appliance wrote over its serial
// port, also of one that never came up.
func Logs(ctx context.Context, c *esxi.Client, name string) ([]byte, error) {
	site, err := ReadSite(ctx, c, false)
	if err != nil {
		return nil, err
	}
	m, err := site.find(name)
	if err != nil {
		return nil, err
	}
	store, folder := splitPath(m.Path)
	dc := site.Names[site.datacenter(site.owner(m.Pool))].Name
	return readLog(ctx, c, dc, store, folder)
}

func readLog(ctx context.Context, c *esxi.Client, dc, store, folder string) ([]byte, error) {
	file := path.Join(folder, logFile)
	u := storeURL(c, dc, store, file)
	res, err := storeRequest(ctx, c, http.MethodGet, u, nil, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", onStore(store, file), plainURL(err))
	}
	defer res.Body.Close()
	var tail []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := res.Body.Read(buf)
		tail = append(tail, buf[:n]...)
		if len(tail) > 2*maxLog {
			tail = slices.Clone(tail[len(tail)-maxLog:])
		}
		if err == io.EOF {
			return tail[max(0, len(tail)-maxLog):], nil
		}
		if err != nil {
			return tail, fmt.Errorf("read %s: %w", onStore(store, file), err)
		}
	}
}

// plainURL drops the URL that net/http puts before an error.
func plainURL(err error) error {
	if out, ok := err.(*url.Error); ok {
		return out.Err
	}
	return err
}
