package sim

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// The ports of a VCH: Docker with TLS and without, and the administrator's page.
const (
	dockerTLSPort = "2376"
	dockerPort    = "2375"
	adminPort     = "2378"
)

// engine runs a VCH's containers, each in a VM of its own.
type engine struct {
	a *appliance

	mu         sync.Mutex
	images     []*dockerImage
	containers []*container
	listeners  map[chan event]struct{}
}

// dockerImage is what a registry holds, as far as it matters here.
type dockerImage struct {
	repo    string
	id      string
	layer   string
	command []string
	size    int64
	pulled  time.Time
}

// catalogue is the registry: images that everybody knows.
var catalogue = []dockerImage{
	{repo: "hello-world", command: []string{"/hello"}, size: 13256, id: "9c7a54a9a43cca047013b82af109fe963fde787f63f9e016fdc3384500c2823d", layer: "01bb4fce3eb1b56b05adf99504dafd31907a5aadac736e36b27595c8b92f07f1"},
	{repo: "busybox", command: []string{"sh"}, size: 4261502, id: "a416a98b71e224a31ee99cff8e16063554498227d2b696152a9c3e0aa65e5824", layer: "3d24ee258efc3bfe4066a1a9fb83febf6dc0b1548dfe896161533668281c9f4f"},
	{repo: "alpine", command: []string{"/bin/sh"}, size: 7340032, id: "c1aabb73d2339c5ebaa3681de2e9d9c18d57485045a4e311d9f8004bec208d67", layer: "78a822fe2a2d2c84f3de4a403188c45f623017d6a4521d23047c9fbb0801794c"},
	{repo: "nginx", command: []string{"nginx", "-g", "daemon off;"}, size: 187000000, id: "eb4a57159180767450cb8426e6367f11b999653d8f185b5e3b78a9ca30c2c31d", layer: "8cd998d5e4dd2c4bd04e2e1a0b5b4f4a4c1c4b6a9e7d4e2d7d0a3bcb8b4f3f17"},
}

// container is a container and the VM that it is.
type container struct {
	id, name string
	image    *dockerImage
	argv     []string
	tty      bool
	remove   bool // when it ends
	labels   map[string]string
	created  time.Time
	vm       string // name of its VM
	ref      types.ManagedObjectReference

	state    string // created, running or exited
	exit     int
	ends     int // how often it has ended
	started  time.Time
	finished time.Time
	out      []byte
	changed  chan struct{} // closed and replaced at each change
	stop     context.CancelFunc
}

// event is what the Docker API tells about a container.
type event struct {
	container *container
	action    string
	exit      string
	at        time.Time
}

func newEngine(a *appliance) *engine { return &engine{a: a, listeners: map[chan event]struct{}{}} }

// personality opens the Docker endpoint.
func (a *appliance) personality(program *daemon) error {
	if layer := option(program.args, "port-layer-port"); layer != "2377" {
		return fmt.Errorf("the port layer is not at port %q", layer)
	}
	conf, err := a.config.tls()
	if err != nil {
		return err
	}
	port := dockerTLSPort
	if conf == nil {
		port = dockerPort
	}
	if said := option(program.args, "port"); said != port {
		return fmt.Errorf("-port=%s: port %s is the one for this endpoint", said, port)
	}
	if !a.ip.IsLoopback() { // nothing of a lab is to be reached by others
		return fmt.Errorf("listen tcp %s:%s: bind: cannot assign requested address: a VCH of labsim answers on loopback only", a.ip, port)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(a.ip.String(), port))
	if err != nil {
		return fmt.Errorf("listen tcp %s:%s: address already in use", a.ip, port)
	}
	e := newEngine(a)
	e.recover()
	server := e.serve(ln, conf)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.engine, a.server = e, server
	a.port, _ = strconv.Atoi(port)
	if a.life.Err() != nil {
		_ = server.Close()
		return a.life.Err()
	}
	return nil
}

// recover finds the containers of an earlier run by the settings of their VMs. What they had said is lost.
func (e *engine) recover() {
	a := e.a
	s := a.s
	pool := a.config.text("container/ComputeResources|0/Value")
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, v := range s.world.vms {
		ref := a.where.refs[v.id]
		obj, ok := a.where.reg.Get(ref).(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		var at string
		a.where.reg.WithLock(a.where.context(), obj, func() {
			if obj.ResourcePool != nil {
				at = obj.ResourcePool.Value
			}
		})
		keys := guestConfig(s.settings(v.id))
		known := slices.IndexFunc(catalogue, func(i dockerImage) bool { return i.repo == keys.text("repo") })
		id := keys.text("common/id")
		if at != pool || known < 0 || id == "" || v.id == a.id {
			continue
		}
		argv, err := keys.list("sessions|" + id + "/cmd/Args")
		if err != nil || len(argv) == 0 {
			continue
		}
		img := catalogue[known]
		img.pulled = time.Now()
		c := &container{
			id: id, name: keys["common/name"], image: &img, argv: argv, tty: keys.flag("sessions|" + id + "/tty"), labels: map[string]string{},
			created: time.Now(), vm: v.name, ref: ref, state: "exited", changed: make(chan struct{}),
		}
		if v.on {
			ctx, cancel := context.WithCancel(a.life)
			c.state, c.stop = "running", cancel
			go func() { // its program goes on until it is stopped
				<-ctx.Done()
				e.ended(c, 137)
			}()
		}
		e.containers = append(e.containers, c)
		if !slices.ContainsFunc(e.images, func(i *dockerImage) bool { return i.repo == img.repo }) {
			e.images = append(e.images, &img)
		}
	}
}

// repoOf turns a reference as clients write it into a name in the catalogue.
func repoOf(ref string) string {
	ref = strings.TrimPrefix(strings.TrimPrefix(ref, "docker.io/"), "library/")
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") {
		ref = ref[:i]
	}
	return ref
}

// pull fetches an image.
func (e *engine) pull(ref string) (*dockerImage, error) {
	repo := repoOf(ref)
	at := slices.IndexFunc(catalogue, func(i dockerImage) bool { return i.repo == repo })
	if at < 0 {
		return nil, fmt.Errorf("repository %s not found: does not exist or no pull access", repo)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, i := range e.images {
		if i.repo == repo {
			return i, nil
		}
	}
	i := catalogue[at]
	i.pulled = time.Now()
	e.images = append(e.images, &i)
	return &i, nil
}

func (e *engine) imageOf(ref string) *dockerImage {
	repo := repoOf(ref)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, i := range e.images {
		if i.repo == repo || len(ref) >= 6 && strings.HasPrefix(i.id, strings.TrimPrefix(ref, "sha256:")) {
			return i
		}
	}
	return nil
}

// find looks a container up by id, the beginning of its id, or name.
func (e *engine) find(ref string) *container {
	ref = strings.TrimPrefix(ref, "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.id == ref || c.name == ref {
			return c
		}
	}
	for _, c := range e.containers {
		if ref != "" && strings.HasPrefix(c.id, ref) {
			return c
		}
	}
	return nil
}

var (
	moods = []string{"calm", "eager", "gentle", "jolly", "keen", "merry", "quiet", "sunny"}
	tools = []string{"anvil", "chisel", "drill", "file", "hammer", "lathe", "plane", "wrench"}
)

// create makes a container: its VM with its own settings, disk, serial line and adapter.
func (e *engine) create(name string, img *dockerImage, argv []string, tty, remove bool, labels map[string]string) (*container, error) {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, fmt.Errorf("making an id: %w", err)
	}
	c := &container{
		id: hex.EncodeToString(raw[:]), name: name, image: img, argv: argv, tty: tty, remove: remove, labels: labels,
		created: time.Now(), state: "created", changed: make(chan struct{}),
	}
	if len(argv) == 0 {
		c.argv = img.command
	}
	if c.name == "" {
		c.name = moods[int(raw[0])%len(moods)] + "_" + tools[int(raw[1])%len(tools)] + strconv.Itoa(int(raw[2]))
	}
	if e.find(c.name) != nil {
		return nil, fmt.Errorf("the name %q is taken by another container", c.name)
	}
	c.vm = c.name + "-" + c.id[:12]
	spec, folder, pool, host, err := e.machine(c)
	if err != nil {
		return nil, err
	}
	c.ref, err = e.a.where.api.run(&types.CreateVM_Task{This: folder, Config: *spec, Pool: pool, Host: host})
	if err != nil {
		return nil, fmt.Errorf("making the container's VM: %w", err)
	}
	e.mu.Lock()
	e.containers = append(e.containers, c)
	e.mu.Unlock()
	e.tell(c, "create", "")
	return c, nil
}

// containerSlot is the PCI slot of a container VM's adapter.
const containerSlot = 1184

// machine describes a container's VM and where it goes: the VCH's folder, pool and host.
func (e *engine) machine(c *container) (spec *types.VirtualMachineConfigSpec, folder, pool types.ManagedObjectReference, host *types.ManagedObjectReference, err error) {
	a := e.a
	in, s := a.where, a.s
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.world.vm(a.id)
	if v == nil {
		return nil, folder, pool, nil, errors.New("the VCH is gone")
	}
	vch, ok := in.reg.Get(in.refs[a.id]).(*simulator.VirtualMachine)
	if !ok {
		return nil, folder, pool, nil, errors.New("the VCH is gone")
	}
	folder = *vch.Parent
	pool = types.ManagedObjectReference{Type: "ResourcePool", Value: a.config.text("container/ComputeResources|0/Value")}
	ref := in.hosts[v.host].Self
	add := func(d types.BaseVirtualDevice) *types.VirtualDeviceConfigSpec {
		return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d}
	}
	bridge := a.config.text("network/bridge_network")
	card, network, err := in.cardFor(a.config.text("network/container_networks|" + bridge + "/Common/id"))
	if err != nil {
		return nil, folder, pool, nil, err
	}
	card.Key = -40
	card.SlotInfo = &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: containerSlot}
	ds := a.config.text("storage/image_stores|0/Host")
	disk := add(&types.VirtualDisk{CapacityInKB: 8000000, VirtualDevice: types.VirtualDevice{
		Key: -20, ControllerKey: -10, UnitNumber: types.NewInt32(0),
		Backing: &types.VirtualDiskFlatVer2BackingInfo{
			DiskMode: string(types.VirtualDiskModePersistent), ThinProvisioned: types.NewBool(true),
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[" + ds + "]"},
		},
	}})
	disk.FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
	e.mu.Lock()
	n := len(e.containers)
	e.mu.Unlock()
	spec = &types.VirtualMachineConfigSpec{
		Name: c.vm, GuestId: "otherGuest64", NumCPUs: 2, MemoryMB: 2048,
		Files: &types.VirtualMachineFileInfo{VmPathName: "[" + ds + "]"},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{
			add(&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
				SharedBus:         types.VirtualSCSISharingNoSharing,
				VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: -10}},
			}}),
			disk,
			add(&types.VirtualCdrom{VirtualDevice: types.VirtualDevice{
				Key: -30, ControllerKey: 200, UnitNumber: types.NewInt32(0),
				Connectable: &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true},
				Backing: &types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{
					FileName: a.config.text("container/bootstrap_image_path"),
				}},
			}}),
			add(&types.VirtualSerialPort{YieldOnPoll: true, VirtualDevice: types.VirtualDevice{
				Key: -50, Backing: &types.VirtualSerialPortURIBackingInfo{VirtualDeviceURIBackingInfo: types.VirtualDeviceURIBackingInfo{
					ServiceURI: "tcp://" + a.ip.String() + ":2377", Direction: string(types.VirtualDeviceURIBackingOptionDirectionClient),
				}},
			}}),
			add(&types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: *card}}),
		},
	}
	for k, val := range e.settings(c, network, n) {
		spec.ExtraConfig = append(spec.ExtraConfig, &types.OptionValue{Key: k, Value: val})
	}
	slices.SortFunc(spec.ExtraConfig, func(a, b types.BaseOptionValue) int {
		return strings.Compare(a.GetOptionValue().Key, b.GetOptionValue().Key)
	})
	return spec, folder, pool, &ref, nil
}

// cardFor is an adapter on a network that is named by its reference.
func (in *inventory) cardFor(id string) (*types.VirtualEthernetCard, string, error) {
	var ref types.ManagedObjectReference
	if !ref.FromString(id) {
		return nil, "", fmt.Errorf("%q is no network", id)
	}
	card := &types.VirtualEthernetCard{}
	for label, n := range in.networks {
		if n.Self == ref {
			card.Backing = &types.VirtualEthernetCardNetworkBackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: label}}
			return card, label, nil
		}
	}
	for _, d := range in.site.world.switches {
		if g := d.group(ref.Value); g != nil && ref.Type == "DistributedVirtualPortgroup" {
			card.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
				Port: types.DistributedVirtualSwitchPortConnection{SwitchUuid: d.uuid, PortgroupKey: g.key},
			}
			return card, g.name, nil
		}
	}
	return nil, "", fmt.Errorf("there is no network %q", id)
}

// settings are a container VM's keys, in which everything about the container can be read without Docker.
func (e *engine) settings(c *container, network string, n int) map[string]string {
	r := func(p string) string { return readOnly + p }
	w := func(p string) string { return readWrite + p }
	sess := "sessions|" + c.id
	keys := map[string]string{
		r("common/id"): c.id, "common/name": c.name, "common/notes": emptyText, r("common/ExecutionEnvironment"): emptyText,
		r("repo"): c.image.repo, r("imageid"): c.image.id, r("layerid"): c.image.layer, r("hostname"): c.id[:12], r("domainname"): emptyText,
		r("sessions"): c.id, r(sess + "/common/id"): c.id, r(sess + "/common/name"): c.name,
		r(sess + "/cmd/Path"): c.argv[0], r(sess + "/cmd/Args"): strconv.Itoa(len(c.argv) - 1), r(sess + "/cmd/Args~"): strings.Join(c.argv, "|"),
		r(sess + "/cmd/Dir"): "/", r(sess + "/tty"): strconv.FormatBool(c.tty), r(sess + "/active"): "true", r(sess + "/attach"): "true",
		w("sessions|" + c.id + ".started"): emptyText, w("sessions|" + c.id + ".status"): "0", w("createtime"): strconv.FormatInt(c.created.Unix(), 10),
		r("networks"): "bridge", r("networks|bridge/Common/id"): strconv.Itoa(containerSlot), r("networks|bridge/Common/name"): network,
		r("networks|bridge/network/Common/id"): e.a.config.text("network/container_networks|bridge/Common/id"), r("networks|bridge/network/Common/name"): "bridge",
		r("networks|bridge/static"): "true", w("networks|bridge.network.type"): "bridge",
		"answer.msg.serial.file.open": "Append",
	}
	for _, k := range []string{"Version", "GitCommit", "BuildDate", "BuildNumber", "State", "PluginVersion"} {
		if v, ok := e.a.config[r("init/version/"+k)]; ok {
			keys[r("version/"+k)] = v
		}
	}
	base, baseErr := e.a.config.ip("network/bridge-ip-range/IP")
	width, widthErr := e.a.config.bytes("network/bridge-net-width")
	if baseErr == nil && widthErr == nil && base.To4() != nil { // it has booted, so they are well-formed
		ip := slices.Clone(base.To4())
		ip[3] = byte(2 + n%250)
		keys[r("networks|bridge/ip/IP")] = base64.StdEncoding.EncodeToString(ip.To16())
		keys[r("networks|bridge/ip/Mask")] = base64.StdEncoding.EncodeToString(width)
	}
	return keys
}

// note has a container's VM tell how its program is.
func (e *engine) note(c *container, started string, status int) {
	s := e.a.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := e.a.where.ids[c.ref]; ok {
		_ = s.write(id, map[string]string{
			readWrite + "sessions|" + c.id + ".started": started, readWrite + "sessions|" + c.id + ".status": strconv.Itoa(status),
		})
	}
}

// start powers a container's VM on and runs its program in it.
func (e *engine) start(c *container) error {
	e.mu.Lock()
	if c.state == "running" {
		e.mu.Unlock()
		return errRunning
	}
	ctx, cancel := context.WithCancel(e.a.life)
	c.state, c.stop, c.started = "running", cancel, time.Now()
	e.mu.Unlock()
	if _, err := e.a.where.api.run(&types.PowerOnVM_Task{This: c.ref}); err != nil {
		cancel()
		e.mu.Lock()
		c.state = "created"
		e.mu.Unlock()
		return fmt.Errorf("powering the container's VM on: %w", err)
	}
	e.note(c, "true", 0)
	e.tell(c, "start", "")
	go func() {
		code := program(ctx, c.image, c.argv, func(line string) { e.print(c, line) })
		e.ended(c, code)
	}()
	return nil
}

var errRunning = errors.New("the container is running already")

func (e *engine) print(c *container, line string) {
	if c.tty {
		line = strings.ReplaceAll(line, "\n", "\r\n")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c.out = append(c.out, line...)
	close(c.changed)
	c.changed = make(chan struct{})
}

// ended notes that a container's program is over, and powers its VM off.
func (e *engine) ended(c *container, code int) {
	if e.a.life.Err() != nil {
		return // the VCH is off, and its containers run on without it
	}
	e.note(c, "true", code)
	_, _ = e.a.where.api.run(&types.PowerOffVM_Task{This: c.ref})
	e.mu.Lock()
	c.state, c.exit, c.finished = "exited", code, time.Now()
	c.ends++
	remove := c.remove
	close(c.changed)
	c.changed = make(chan struct{})
	e.mu.Unlock()
	e.tell(c, "die", strconv.Itoa(code))
	if remove {
		_ = e.destroy(c)
	}
}

// poweredOff is told that a VM is off or gone, which may be a container's.
func (e *engine) poweredOff(id string) {
	s := e.a.s
	s.mu.RLock()
	ref, known := e.a.where.refs[id]
	s.mu.RUnlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if known && c.ref == ref && c.state == "running" && c.stop != nil {
			c.stop()
		}
	}
	if known {
		return
	}
	e.containers = slices.DeleteFunc(e.containers, func(c *container) bool {
		_, there := e.a.where.reg.Get(c.ref).(*simulator.VirtualMachine)
		return !there
	})
}

// destroy removes a container and its VM.
func (e *engine) destroy(c *container) error {
	if _, err := e.a.where.api.run(&types.Destroy_Task{This: c.ref}); err != nil {
		return fmt.Errorf("destroying the container's VM: %w", err)
	}
	e.mu.Lock()
	e.containers = slices.DeleteFunc(e.containers, func(o *container) bool { return o == c })
	e.mu.Unlock()
	e.tell(c, "destroy", "")
	return nil
}

// halt stops a container's program and waits until its VM is off.
func (e *engine) halt(ctx context.Context, c *container) error {
	e.mu.Lock()
	stop, running := c.stop, c.state == "running"
	e.mu.Unlock()
	if !running {
		return nil
	}
	stop()
	return e.wait(ctx, c)
}

// wait waits until a container does not run.
func (e *engine) wait(ctx context.Context, c *container) error {
	for {
		e.mu.Lock()
		running, changed := c.state == "running", c.changed
		e.mu.Unlock()
		if !running {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-e.a.life.Done():
			return e.a.life.Err()
		}
	}
}

// program does what a container's image and command would, as far as anyone would ask that of a test double.
func program(ctx context.Context, img *dockerImage, argv []string, print func(string)) int {
	arg := func(i int) string {
		if i < len(argv) {
			return argv[i]
		}
		return ""
	}
	name := arg(0)
	if (name == "sh" || name == "/bin/sh") && arg(1) == "-c" {
		argv = strings.Fields(arg(2))
		name = arg(0)
	}
	switch {
	case img.repo == "hello-world":
		print("\nHello from Docker!\nThis container ran in a VM of its own, and labsim played the VM.\n\n")
		return 0
	case name == "echo":
		print(strings.Join(argv[1:], " ") + "\n")
		return 0
	case name == "true":
		return 0
	case name == "false":
		return 1
	case name == "exit":
		n, _ := strconv.Atoi(arg(1))
		return n
	case name == "sleep":
		n, err := strconv.ParseFloat(arg(1), 64)
		if err != nil {
			print("sleep: invalid number '" + arg(1) + "'\n")
			return 1
		}
		t := time.NewTimer(time.Duration(n * float64(time.Second)))
		defer t.Stop()
		select {
		case <-t.C:
			return 0
		case <-ctx.Done():
			return 137
		}
	case name == "sh", name == "/bin/sh":
		return 0 // nobody types anything
	}
	<-ctx.Done()
	return 137
}

// state lists the containers.
func (e *engine) state() []ContainerState {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []ContainerState{}
	for _, c := range e.containers {
		list = append(list, ContainerState{ID: c.id, Name: c.name, Image: c.image.repo, State: c.state, VM: c.vm})
	}
	return list
}

// tell sends an event to everyone who listens; who does not keep up misses some.
func (e *engine) tell(c *container, action, exit string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ch := range e.listeners {
		select {
		case ch <- event{container: c, action: action, exit: exit, at: time.Now()}:
		default:
		}
	}
}
