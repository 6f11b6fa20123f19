package sim

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// The programs of an appliance, in the order in which it starts them.
var components = []struct{ name, path string }{
	{"port-layer", "/sbin/port-layer-server"},
	{"docker-personality", "/sbin/docker-engine-server"},
	{"vicadmin", "/sbin/vicadmin"},
}

// roles are a VCH's networks. Client, management and public may share an adapter, bridge has its own.
var roles = []string{"bridge", "client", "management", "public"}

// lookup is the name at which all of a lab's endpoints are: an appliance takes the one with the right certificate.
const everyName = "vsphere.lab.local"

// appliance is the guest of a VCH's VM while it is powered on.
type appliance struct {
	s      *site
	id     string // of its VM in the world
	name   string
	life   context.Context
	end    context.CancelFunc
	config guestConfig
	where  *inventory    // where its target leads
	booted chan struct{} // closed when the boot is over, well or not

	mu     sync.Mutex
	phase  string // booting, up or failed
	reason string // why it has failed
	ip     net.IP // of the client network
	port   int    // of the Docker endpoint
	server *http.Server
	claims []net.Listener // on adminPort of its addresses
	engine *engine
	wrote  map[string]string // keys that it has written → what they were before
}

// power starts or ends the guest of a VM that has been powered on or off, or is gone. The site's lock is held.
func (s *site) power(id string, on bool) {
	if a := s.guests[id]; a != nil && !on {
		a.end()
		delete(s.guests, id)
		if s.world.vm(id) != nil {
			_ = s.write(id, a.before())
			s.showAddress(id, "")
		}
		if s.volatile[id] { // what was written while it ran is gone with it
			delete(s.ovfEnv, id)
			delete(s.volatile, id)
		}
	}
	for _, a := range s.guests {
		a.mu.Lock()
		e := a.engine
		a.mu.Unlock()
		if e != nil && !on {
			go e.poweredOff(id)
		}
	}
	if !on || s.guests[id] != nil {
		return
	}
	keys := s.settings(id)
	if _, ok := keys[readOnly+"init/sessions"]; !ok {
		return // no VCH of this kind
	}
	a := &appliance{s: s, id: id, name: s.world.vm(id).name, config: keys, phase: "booting", booted: make(chan struct{}), wrote: map[string]string{}}
	a.life, a.end = context.WithCancel(s.life.Load().ctx)
	s.guests[id] = a
	go a.run()
}

// before is what the keys that the guest wrote were before it did: what a guest writes does not outlive its power.
func (a *appliance) before() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := map[string]string{}
	for k, v := range a.wrote {
		keys[k] = v
	}
	return keys
}

func (a *appliance) run() {
	err := a.boot()
	a.mu.Lock()
	a.phase = "up"
	if err != nil {
		a.phase, a.reason = "failed", err.Error()
	}
	server := a.server
	claims := a.claims
	a.mu.Unlock()
	close(a.booted)
	if err != nil && a.life.Err() == nil {
		a.logf("boot: %v", err)
	}
	<-a.life.Done()
	if server != nil {
		_ = server.Close()
	}
	for _, ln := range claims {
		_ = ln.Close()
	}
}

// sleep passes a part of the boot.
func (a *appliance) sleep(parts, of int) error {
	t := time.NewTimer(a.s.lab.opt.Boot * time.Duration(parts) / time.Duration(of))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-a.life.Done():
		return a.life.Err()
	}
}

// boot takes the appliance from power-on to its last component. What keeps it is written where the real one writes it:
// a component's error in its key, the rest in the log on the serial port.
func (a *appliance) boot() error {
	faults := &a.s.lab.faults
	if err := a.sleep(1, 5); err != nil {
		return err
	}
	if err := a.medium(); err != nil {
		return err // there is no guest, and nobody to say so
	}
	a.logf("booting %s %s", a.name, a.config.text("init/version/Version"))
	if faults.boots("no-address", a.name, "") {
		a.logf("no answer from DHCP")
		return errors.New("no answer from DHCP")
	}
	if err := a.address(); err != nil {
		a.logf("network: %v", err)
		return err
	}
	if faults.boots("boot-power-off", a.name, "") {
		a.logf("panic: power off")
		go a.s.powerOff(a.id)
		return errors.New("powered off")
	}
	for _, c := range components {
		if err := a.sleep(1, 5); err != nil {
			return err
		}
		err := a.start(c.name, c.path)
		if err == nil && faults.boots("component-fails", a.name, c.name) {
			err = fmt.Errorf("%s: exit status 1, as armed", c.path)
		}
		said := "true"
		if err != nil {
			said = err.Error()
		}
		a.logf("%s: started: %s", c.name, said)
		if werr := a.tell(map[string]string{
			readWrite + "init.sessions|" + c.name + ".started":          said,
			readWrite + "init.sessions|" + c.name + ".detail.starttime": strconv.FormatInt(time.Now().Unix(), 10),
		}); werr != nil {
			return werr
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// tell writes keys of the VM.
func (a *appliance) tell(keys map[string]string) error {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	if err := a.life.Err(); err != nil {
		return err
	}
	was := a.s.settings(a.id)
	a.mu.Lock()
	for k := range keys {
		if _, ok := a.wrote[k]; !ok {
			a.wrote[k] = was[k]
		}
	}
	a.mu.Unlock()
	return a.s.write(a.id, keys)
}

// devices are the hardware of the VM.
func (a *appliance) devices() object.VirtualDeviceList {
	a.s.mu.RLock()
	defer a.s.mu.RUnlock()
	v := a.s.world.vm(a.id)
	if v == nil {
		return nil
	}
	in := a.s.direct[v.host]
	obj, ok := in.reg.Get(in.refs[a.id]).(*simulator.VirtualMachine)
	if !ok {
		return nil
	}
	var list object.VirtualDeviceList
	in.reg.WithLock(in.context(), obj, func() { list = slices.Clone(obj.Config.Hardware.Device) })
	return list
}

// medium looks for what the VM boots from: a CD-ROM that holds a whole ISO image.
func (a *appliance) medium() error {
	for _, d := range a.devices().SelectByType((*types.VirtualCdrom)(nil)) {
		b, ok := d.GetVirtualDevice().Backing.(*types.VirtualCdromIsoBackingInfo)
		if !ok {
			continue
		}
		if c := d.GetVirtualDevice().Connectable; c != nil && !c.StartConnected {
			continue
		}
		file, ok := a.s.onDisk(b.FileName)
		if !ok {
			return fmt.Errorf("no boot medium: %s", b.FileName)
		}
		if err := wholeISO(file); err != nil {
			return fmt.Errorf("no boot medium: %s: %w", b.FileName, err)
		}
		return nil
	}
	return errors.New("no boot medium: there is no CD-ROM with an image")
}

// logFile is the file behind the VM's serial port, or "".
func (a *appliance) logFile() string {
	for _, d := range a.devices().SelectByType((*types.VirtualSerialPort)(nil)) {
		if b, ok := d.GetVirtualDevice().Backing.(*types.VirtualSerialPortFileBackingInfo); ok {
			if file, ok := a.s.onDisk(b.FileName); ok {
				return file
			}
		}
	}
	return ""
}

// logf writes a line to the serial port, if the VM has one.
func (a *appliance) logf(format string, args ...any) {
	f, err := os.OpenFile(a.logFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	fmt.Fprintf(f, "%s "+format+"\n", append([]any{time.Now().UTC().Format(time.RFC3339)}, args...)...)
	_ = f.Close()
}

// adapter finds the role's Ethernet card by its PCI slot, and says why it does not work, or "".
func (a *appliance) adapter(role string) (slot int, dark string, err error) {
	p := "init/networks|" + role
	if !slices.Contains(a.config.names("init/networks"), role) {
		return 0, "", fmt.Errorf("init/networks has no %s", role)
	}
	if slot, err = strconv.Atoi(a.config.text(p + "/Common/id")); err != nil {
		return 0, "", fmt.Errorf("%s/Common/id: %q is no PCI slot", p, a.config.text(p+"/Common/id"))
	}
	a.s.mu.RLock()
	defer a.s.mu.RUnlock()
	v := a.s.world.vm(a.id)
	if v == nil {
		return 0, "", errors.New("the VM is gone")
	}
	for i := range v.nics {
		n := &v.nics[i]
		s, ok := n.device.GetVirtualDevice().SlotInfo.(*types.VirtualDevicePciBusSlotInfo)
		if !ok || int(s.PciSlotNumber) != slot {
			continue
		}
		if _, ok := n.device.(*types.VirtualVmxnet3); !ok {
			return 0, "", fmt.Errorf("the adapter in PCI slot %d is no vmxnet3", slot)
		}
		if role == "bridge" {
			return slot, "", nil // nothing but container VMs is there
		}
		return slot, a.s.world.nicDark(v, n), nil
	}
	return 0, "", fmt.Errorf("there is no adapter in PCI slot %d for network %s", slot, role)
}

// address gives each adapter its address. A VCH gets one on loopback: its own, so that its Docker endpoint can be at
// the usual port; or the static one that it is configured with, if that is on loopback.
func (a *appliance) address() error {
	if id := a.config.text("init/common/id"); !a.isMe(id) {
		return fmt.Errorf("init/common/id is %q, which is not this VM", id)
	}
	keys := map[string]string{}
	bySlot := map[int]net.IP{}
	var client net.IP
	bridge, _, err := a.adapter("bridge")
	if err != nil {
		return err
	}
	for _, role := range roles {
		slot, dark, err := a.adapter(role)
		if err != nil {
			return err
		}
		if role != "bridge" && slot == bridge {
			return fmt.Errorf("network %s shares its adapter with bridge", role)
		}
		if dark != "" {
			return fmt.Errorf("network %s has no carrier: %s", role, dark)
		}
		p := "init/networks|" + role
		ip, err := a.config.ip(p + "/ip/IP")
		if err != nil {
			return err
		}
		mask := net.CIDRMask(24, 32)
		switch {
		case role == "bridge":
			base, err := a.config.ip("network/bridge-ip-range/IP")
			if err != nil || base == nil {
				return fmt.Errorf("network/bridge-ip-range: %w", cmpErr(err, "there is none"))
			}
			width, err := a.config.bytes("network/bridge-net-width")
			if err != nil || len(width) != net.IPv4len {
				return fmt.Errorf("network/bridge-net-width: %w", cmpErr(err, "it is no mask of 4 bytes"))
			}
			ip, mask = slices.Clone(base.To4()), width
			ip[3]++
		case a.config.flag(p + "/static"):
			if ip == nil {
				return fmt.Errorf("network %s is static and has no address", role)
			}
			m, err := a.config.bytes(p + "/ip/Mask")
			if err != nil || len(m) != net.IPv4len {
				return fmt.Errorf("%s/ip/Mask: %w", p, cmpErr(err, "it is no mask of 4 bytes"))
			}
			mask = m
			have := bySlot[slot]
			if have != nil && !have.Equal(ip) {
				return fmt.Errorf("network %s: its adapter has address %s already", role, have)
			}
			if have == nil && ip.IsLoopback() {
				ln, err := net.Listen("tcp", net.JoinHostPort(ip.String(), adminPort))
				if err != nil {
					return fmt.Errorf("network %s: another VCH has address %s", role, ip)
				}
				a.claim(ln)
			}
			bySlot[slot] = ip
		case bySlot[slot] != nil:
			ip = bySlot[slot]
		default:
			ln, err := a.s.lab.lease()
			if err != nil {
				return err
			}
			a.claim(ln)
			ip = ln.Addr().(*net.TCPAddr).IP
			bySlot[slot] = ip
		}
		w := readWrite + "init.networks|" + role + ".assigned."
		keys[w+"IP"] = base64.StdEncoding.EncodeToString(ip.To16())
		keys[w+"Mask"] = base64.StdEncoding.EncodeToString(mask)
		if role == "client" {
			client = ip
		}
	}
	if err := a.tell(keys); err != nil {
		return err
	}
	a.mu.Lock()
	a.ip = client
	a.mu.Unlock()
	a.s.mu.Lock()
	err = a.life.Err()
	if err == nil {
		a.s.showAddress(a.id, client.String())
	}
	a.s.mu.Unlock()
	if err == nil {
		a.logf("client address %s", client)
	}
	return err
}

// cmpErr is err, or if there is none an error that says otherwise.
func cmpErr(err error, otherwise string) error {
	if err != nil {
		return err
	}
	return errors.New(otherwise)
}

// claim keeps an address as long as the appliance runs.
func (a *appliance) claim(ln net.Listener) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.claims = append(a.claims, ln)
}

// isMe says whether an id is this VM's, in the inventory of either path.
func (a *appliance) isMe(id string) bool {
	a.s.mu.RLock()
	defer a.s.mu.RUnlock()
	for _, in := range a.s.inventories() {
		if ref, ok := in.refs[a.id]; ok && id == ref.String() {
			return true
		}
	}
	return false
}

// showAddress has the VM's tools report an address, or that they do not run. The site's lock is held.
func (s *site) showAddress(id, ip string) {
	w := s.world.clone()
	v := w.editVM(id)
	if v == nil {
		return
	}
	v.guestIP = ip
	tools, status := types.VirtualMachineToolsRunningStatusGuestToolsRunning, types.VirtualMachineToolsStatusToolsOk
	if ip == "" {
		tools, status = types.VirtualMachineToolsRunningStatusGuestToolsNotRunning, types.VirtualMachineToolsStatusToolsNotRunning
	}
	for _, in := range []*inventory{s.direct[v.host], s.vcenter} {
		obj, ok := in.reg.Get(in.refs[id]).(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		in.update(obj, prop("guest.ipAddress", ip), prop("guest.toolsRunningStatus", string(tools)), prop("guest.toolsStatus", status),
			prop("summary.guest.ipAddress", ip), prop("summary.guest.toolsRunningStatus", string(tools)))
	}
	s.commit(w)
}

// start brings up one component, as far as its configuration allows.
func (a *appliance) start(name, file string) error {
	program, err := a.config.daemon(name, file)
	if err != nil {
		return err
	}
	switch name {
	case "port-layer":
		return a.portLayer(program)
	case "docker-personality":
		return a.personality(program)
	}
	for _, arg := range []string{"dc", "pool", "cluster"} {
		if option(program.args, arg) == "" {
			return fmt.Errorf("vicadmin: --%s is not given", arg)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	go a.admin(a.claims)
	return nil
}

// portLayer logs in at the target and finds the datastore, pool, images and networks that containers need.
func (a *appliance) portLayer(program *daemon) error {
	for _, k := range []string{"VC_URL", "DC_PATH", "CS_PATH", "POOL_PATH", "DS_PATH"} {
		if option(program.env, k) == "" {
			return fmt.Errorf("%s is not in the environment", k)
		}
	}
	if err := a.login(); err != nil {
		return err
	}
	n, err := a.config.count("container/ComputeResources")
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("container/ComputeResources: %d, and exactly one is needed", n)
	}
	pool := types.ManagedObjectReference{Type: a.config.text("container/ComputeResources|0/Type"), Value: a.config.text("container/ComputeResources|0/Value")}
	if _, ok := a.where.reg.Get(pool).(*simulator.ResourcePool); !ok {
		return fmt.Errorf("container/ComputeResources: there is no %s", pool)
	}
	boot := a.config.text("container/bootstrap_image_path")
	file, ok := a.s.onDisk(boot)
	if !ok {
		return fmt.Errorf("container/bootstrap_image_path: %q is no datastore path", boot)
	}
	if err := wholeISO(file); err != nil {
		return fmt.Errorf("container/bootstrap_image_path: %s: %w", boot, err)
	}
	if err := a.networks(); err != nil {
		return err
	}
	return a.imageStore()
}

// networks looks for the container networks' port groups.
func (a *appliance) networks() error {
	bridge := a.config.text("network/bridge_network")
	all := a.config.names("network/container_networks")
	if bridge == "" || !slices.Contains(all, bridge) {
		return fmt.Errorf("network/container_networks has no %q", bridge)
	}
	a.s.mu.RLock()
	defer a.s.mu.RUnlock()
	for _, name := range all {
		var ref types.ManagedObjectReference
		id := a.config.text("network/container_networks|" + name + "/Common/id")
		if !ref.FromString(id) || a.where.reg.Get(ref) == nil {
			return fmt.Errorf("container network %s: there is no network %q", name, id)
		}
	}
	return nil
}

// imageStore makes the directories in which images and containers' settings are kept.
func (a *appliance) imageStore() error {
	n, err := a.config.count("storage/image_stores")
	if err != nil {
		return err
	}
	if n < 1 {
		return errors.New("storage/image_stores: there is none")
	}
	if size, err := strconv.ParseInt(a.config.text("storage/scratch_size"), 10, 64); err != nil || size <= 0 {
		return fmt.Errorf("storage/scratch_size: %q is no size", a.config.text("storage/scratch_size"))
	}
	p := "storage/image_stores|0/"
	if scheme := a.config.text(p + "Scheme"); scheme != "ds" {
		return fmt.Errorf("storage/image_stores: %q is no scheme for images", scheme)
	}
	root, ok := a.s.onDisk(fmt.Sprintf("[%s] %s", a.config.text(p+"Host"), a.config.text(p+"Path")))
	if !ok {
		return fmt.Errorf("storage/image_stores: there is no datastore %q", a.config.text(p+"Host"))
	}
	a.s.touched.Store(true)
	for _, dir := range []string{path.Join("VIC", a.uuid(), "images", "scratch"), "kvStores"} {
		if err := os.MkdirAll(filepath.Join(root, filepath.FromSlash(dir)), 0o700); err != nil {
			return errors.New("storage/image_stores: the image store cannot be made")
		}
	}
	return nil
}

// uuid is the VM's BIOS UUID.
func (a *appliance) uuid() string {
	a.s.mu.RLock()
	defer a.s.mu.RUnlock()
	v := a.s.world.vm(a.id)
	if v == nil {
		return ""
	}
	in := a.s.direct[v.host]
	uuid := ""
	if obj, ok := in.reg.Get(in.refs[a.id]).(*simulator.VirtualMachine); ok {
		in.reg.WithLock(in.context(), obj, func() { uuid = obj.Config.Uuid })
	}
	return uuid
}

// login finds the target, compares its certificate and presents the credentials. It makes no request of its own, so
// that the lab's counts hold what clients asked for.
func (a *appliance) login() error {
	u, err := a.config.target()
	if err != nil {
		return err
	}
	password, err := a.config.secret("connect/token")
	if err != nil {
		return err
	}
	if _, dark, err := a.adapter("management"); err != nil || dark != "" {
		return fmt.Errorf("dial %s: %w", u.Host, cmpErr(err, dark))
	}
	candidates := a.resolve(u)
	if len(candidates) == 0 {
		return fmt.Errorf("dial tcp: lookup %s: no such host", u.Hostname())
	}
	pin := a.config.text("connect/target_thumbprint")
	at := slices.IndexFunc(candidates, func(e *endpoint) bool { return e.sha1() == pin })
	if at < 0 {
		return fmt.Errorf("%s: x509: the certificate is not the one of connect/target_thumbprint", u.Host)
	}
	e := candidates[at]
	if e.gate.closed() {
		return fmt.Errorf("dial tcp: %s: connection refused", u.Host)
	}
	if a.config.text("connect/username") != e.user || password != e.password {
		return fmt.Errorf("%s: ServerFaultCode: cannot complete login due to an incorrect user name or password", u.Host)
	}
	a.s.mu.RLock()
	defer a.s.mu.RUnlock()
	a.where = a.s.vcenter
	if e.host != "" {
		a.where = a.s.direct[e.host]
		if v := a.s.world.vm(a.id); v == nil || v.host != e.host {
			return fmt.Errorf("%s does not run this VM", u.Host)
		}
	}
	return nil
}

// resolve gives the endpoints at a name or address: hosts and the vCenter by their names in lab.local or their
// addresses in the lab, and all of them by everyName. From inside a VM loopback is the VM itself.
func (a *appliance) resolve(u *url.URL) []*endpoint {
	l := a.s.lab
	port := u.Port()
	fits := func(e *endpoint) bool {
		_, own, _ := net.SplitHostPort(e.addr())
		return port == "" || port == "443" || port == own
	}
	names := map[*endpoint][]string{l.vcenter: {"vcsa.lab.local", everyName}}
	for _, e := range l.hosts {
		names[e] = []string{e.host, e.host + ".lab.local", a.s.scene.host(e.host).address, everyName}
	}
	var list []*endpoint
	for _, e := range l.endpoints() {
		if slices.Contains(names[e], strings.ToLower(u.Hostname())) && fits(e) {
			list = append(list, e)
		}
	}
	return list
}

// closed says whether connections get through.
func (g *gate) closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state != gateOpen
}

// lease gives an address on loopback that no other VCH on this machine has, as a listener that keeps it.
func (l *Lab) lease() (net.Listener, error) {
	l.leases.Lock()
	defer l.leases.Unlock()
	for range 1 << 14 {
		if l.next == 0 {
			l.next = (os.Getpid()*251)%(1<<14-1) + 1 // labs side by side start apart
		}
		n := l.next
		l.next = (n + 1) % (1 << 14)
		ip := net.IPv4(127, 44, byte(n>>7), byte(n&0x7f)+1)
		if ln, err := net.Listen("tcp", net.JoinHostPort(ip.String(), adminPort)); err == nil {
			return ln, nil
		}
	}
	return nil, errors.New("no answer from DHCP: no loopback address is free")
}

// powerOff turns a VM off from the inside.
func (s *site) powerOff(id string) {
	s.mu.RLock()
	v := s.world.vm(id)
	var in *inventory
	var ref types.ManagedObjectReference
	if v != nil {
		in = s.direct[v.host]
		ref = in.refs[id]
	}
	s.mu.RUnlock()
	if v != nil {
		_, _ = in.api.run(&types.PowerOffVM_Task{This: ref})
	}
}

// run has a VM's or folder's method carried out as if a client had called it, and waits for its task.
func (a *api) run(req any) (types.ManagedObjectReference, error) {
	a.site.touched.Store(true)
	ctx := a.context()
	session := *ctx.Session
	ctx.Session = &session
	var body soap.HasFault
	if c, ok := req.(*types.CreateVM_Task); ok {
		body = a.CreateVMTask(c)
	} else {
		body = a.Oversee(ctx, req)
	}
	return a.task(body)
}

// VCHState is a Virtual Container Host as the lab knows it.
type VCHState struct {
	Name       string            `json:"name"`
	Host       string            `json:"host"`
	Pool       string            `json:"pool"`
	Power      string            `json:"power"`      // on or off
	Phase      string            `json:"phase"`      // off, booting, up or failed
	Reason     string            `json:"reason"`     // why it failed
	IP         string            `json:"ip"`         // of the client network
	DockerHost string            `json:"dockerHost"` // of an endpoint that answers
	Components map[string]string `json:"components"` // what each said when it started
	Containers []ContainerState  `json:"containers"`
}

// ContainerState is a container of a VCH.
type ContainerState struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Image string `json:"image"`
	State string `json:"state"`
	VM    string `json:"vm"`
}

// PoolState is a resource pool that did not come with a host.
type PoolState struct {
	Host string   `json:"host"`
	Name string   `json:"name"`
	VMs  []string `json:"vms"`
}

// FolderState is a folder of VMs in the vCenter.
type FolderState struct {
	Name string   `json:"name"`
	VMs  []string `json:"vms"`
}

// vchs lists the VCHs. The site's lock is held.
func (s *site) vchs() []VCHState {
	list := []VCHState{}
	for _, v := range s.world.vms {
		keys := s.settings(v.id)
		if _, ok := keys[readOnly+"init/common/id"]; !ok {
			continue
		}
		st := VCHState{Name: v.name, Host: v.host, Pool: s.poolOf(v), Power: "off", Phase: "off", Components: map[string]string{}, Containers: []ContainerState{}}
		if v.on {
			st.Power = "on"
		}
		for _, c := range components {
			if said := keys[readWrite+"init.sessions|"+c.name+".started"]; said != emptyText {
				st.Components[c.name] = said
			}
		}
		if a := s.guests[v.id]; a != nil {
			a.mu.Lock()
			st.Phase, st.Reason = a.phase, a.reason
			if a.ip != nil {
				st.IP = a.ip.String()
			}
			if a.server != nil {
				st.DockerHost = fmt.Sprintf("tcp://%s:%d", a.ip, a.port)
			}
			e := a.engine
			a.mu.Unlock()
			if e != nil {
				st.Containers = e.state()
			}
		}
		list = append(list, st)
	}
	return list
}

func (s *site) poolOf(v *vm) string {
	in := s.direct[v.host]
	obj, ok := in.reg.Get(in.refs[v.id]).(*simulator.VirtualMachine)
	if !ok {
		return ""
	}
	name := ""
	var ref *types.ManagedObjectReference
	in.reg.WithLock(in.context(), obj, func() { ref = obj.ResourcePool })
	if ref != nil {
		if p, ok := in.reg.Get(*ref).(*simulator.ResourcePool); ok {
			in.reg.WithLock(in.context(), p, func() { name = p.Name })
		}
	}
	return name
}

// poolList lists the pools that were made. The site's lock is held.
func (s *site) poolList() []PoolState {
	list := []PoolState{}
	for _, p := range s.pools {
		in := s.direct[p.host]
		obj, ok := in.reg.Get(p.refs[in]).(*simulator.ResourcePool)
		if !ok {
			continue
		}
		st := PoolState{Host: p.host, VMs: []string{}}
		in.reg.WithLock(in.context(), obj, func() { st.Name = obj.Name })
		for _, v := range s.world.vms {
			if v.host == p.host && s.poolOf(v) == st.Name {
				st.VMs = append(st.VMs, v.name)
			}
		}
		list = append(list, st)
	}
	return list
}

// folderList lists the folders of VMs below the datacenter's.
func (s *site) folderList() []FolderState {
	list := []FolderState{}
	in := s.vcenter
	var walk func(ref types.ManagedObjectReference, prefix string)
	walk = func(ref types.ManagedObjectReference, prefix string) {
		f, ok := in.reg.Get(ref).(*simulator.Folder)
		if !ok {
			return
		}
		var children []types.ManagedObjectReference
		st := FolderState{VMs: []string{}}
		in.reg.WithLock(in.context(), f, func() { children, st.Name = slices.Clone(f.ChildEntity), path.Join(prefix, f.Name) })
		if ref == in.dc.VmFolder {
			st.Name = ""
		}
		at := -1
		if st.Name != "" {
			list = append(list, st)
			at = len(list) - 1
		}
		for _, c := range children {
			switch obj := in.reg.Get(c).(type) {
			case *simulator.Folder:
				walk(c, st.Name)
			case *simulator.VirtualMachine:
				if at >= 0 {
					if v := s.world.vm(in.ids[c]); v != nil {
						list[at].VMs = append(list[at].VMs, v.name)
					}
				}
				_ = obj
			}
		}
	}
	walk(in.dc.VmFolder, "")
	return list
}
