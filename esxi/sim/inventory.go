package sim

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/simulator/vpx"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// What the machines of the lab say they are: the NUC and the release of the first lab.
const (
	version   = "6.0.0"
	esxiBuild = "3620759"
	vcBuild   = "3634794"
	datastore = "datastore1"
)

// inventory is what one endpoint shows: vcsim's objects of a vCenter or of a host, in which the networking follows
// the site's world. Everything that is not networking is vcsim's.
type inventory struct {
	site *site
	host string // the host of a direct endpoint, "" for the vCenter
	ctx  *simulator.Context
	svc  *simulator.Service
	reg  *simulator.Registry
	dc   *simulator.Datacenter

	hosts    map[string]*simulator.HostSystem
	networks map[string]*mo.Network                            // by label
	groups   map[string]*simulator.DistributedVirtualPortgroup // by key
	switches map[string]*simulator.DistributedVirtualSwitch    // by uuid; a host shows none
	refs     map[string]types.ManagedObjectReference           // VM id → moref
	ids      map[types.ManagedObjectReference]string           // and back
	shown    *world
	api      *api
}

func (in *inventory) direct() bool { return in.host != "" }

// context is a fresh identity for vcsim's object locks, which are shared within one context.
func (in *inventory) context() *simulator.Context {
	c := *in.ctx
	return &c
}

// building lets one inventory be built at a time: vcsim's constructors write package variables.
var building sync.Mutex

func newInventory(s *site, hostName string) (*inventory, error) {
	building.Lock()
	defer building.Unlock()
	in := &inventory{
		site: s, host: hostName, ctx: simulator.NewContext(),
		hosts:    map[string]*simulator.HostSystem{},
		networks: map[string]*mo.Network{},
		groups:   map[string]*simulator.DistributedVirtualPortgroup{},
		switches: map[string]*simulator.DistributedVirtualSwitch{},
		refs:     map[string]types.ManagedObjectReference{},
		ids:      map[types.ManagedObjectReference]string{},
	}
	in.reg = in.ctx.Map
	content, root := vpx.ServiceContent, vpx.RootFolder
	about := types.AboutInfo{
		Name: "VMware vCenter Server", FullName: "VMware vCenter Server 6.0.0 build-" + vcBuild, Vendor: "VMware, Inc.",
		Version: version, Build: vcBuild, OsType: "linux-x64", ProductLineId: "vpx", ApiType: "VirtualCenter", ApiVersion: "6.0",
		LocaleVersion: "INTL", LocaleBuild: "000", LicenseProductName: "VMware VirtualCenter Server", LicenseProductVersion: "6.0",
	}
	if in.direct() {
		content, root = esx.ServiceContent, esx.RootFolder
		about = hostAbout
	}
	content.About = about
	_, si := simulator.NewServiceInstance(in.ctx, content, root)
	in.svc = simulator.New(in.ctx, si)
	in.ctx.Session.UserName = "labsim"
	in.ownSettings()

	rootFolder := in.reg.Get(content.RootFolder).(*simulator.Folder)
	if !in.direct() {
		rootFolder.CreateDatacenter(in.context(), &types.CreateDatacenter{This: rootFolder.Self, Name: "Homelab"})
	}
	in.dc = in.reg.Any("Datacenter").(*simulator.Datacenter)
	for _, ref := range slices.Clone(in.dc.Network) { // vcsim's own VM Network
		in.removeNetwork(ref)
	}
	for _, h := range in.hostsOf(s.world) {
		if err := in.addHost(h); err != nil {
			return nil, err
		}
	}
	in.license(true)
	in.route()
	return in, nil
}

var hostAbout = types.AboutInfo{
	Name: "VMware ESXi", FullName: "VMware ESXi 6.0.0 build-" + esxiBuild, Vendor: "VMware, Inc.",
	Version: version, Build: esxiBuild, OsType: "vmnix-x86", ProductLineId: "embeddedEsx", ApiType: "HostAgent", ApiVersion: "6.0",
	LocaleVersion: "INTL", LocaleBuild: "000", LicenseProductName: "VMware ESX Server", LicenseProductVersion: "6.0",
}

// ownSettings replaces option lists that vcsim shares between all its instances, and adds what it lacks.
func (in *inventory) ownSettings() {
	m := in.reg.OptionManager()
	own := make([]types.BaseOptionValue, 0, len(m.Setting)+2)
	for _, o := range m.Setting {
		v := *o.GetOptionValue()
		own = append(own, &v)
	}
	own = append(own, &types.OptionValue{Key: "vcsim.home", Value: in.site.dir})
	if !in.direct() {
		own = append(own, &types.OptionValue{Key: rollbackOption, Value: "true"}, &types.OptionValue{Key: persistOption, Value: "false"})
	}
	m.Setting = own
}

// rollbackOption is vCenter's switch for undoing network changes that cut a host off.
const rollbackOption = "config.vpxd.network.rollback"

func (in *inventory) addHost(h *host) error {
	var hs *simulator.HostSystem
	name := h.name
	if in.direct() {
		hs = in.reg.Any("HostSystem").(*simulator.HostSystem)
		name = "localhost.lab.local" // what a host calls itself says nothing about how others know it
	} else {
		folder := in.reg.Get(in.dc.HostFolder).(*simulator.Folder)
		var fault types.BaseMethodFault
		hs, fault = simulator.CreateStandaloneHost(in.context(), folder, types.HostConnectSpec{HostName: h.name})
		if fault != nil {
			return fmt.Errorf("adding host %s to the vCenter: %T", h.name, fault)
		}
	}
	in.hosts[h.name] = hs
	in.reg.WithLock(in.context(), hs, func() {
		hs.Name = name
		hs.Runtime.ConnectionState = types.HostSystemConnectionStateConnected
		about := hostAbout
		hs.Config.Product = about
		hs.Summary.Config.Name = name
		hs.Summary.Config.Product = &about
		hs.Summary.Host = &hs.Self
		hs.Summary.ManagementServerIp = "127.0.0.1"
		if in.site.unmanaged {
			hs.Summary.ManagementServerIp = ""
		}
		hardware := *hs.Hardware
		hardware.SystemInfo.Vendor, hardware.SystemInfo.Model = "Intel Corporation", "NUC6i5SYH"
		hardware.SystemInfo.Uuid = "564d6f75-6e74-4c61-6273-0000000000" + h.name[len(h.name)-2:]
		hs.Hardware = &hardware
		summary := *hs.Summary.Hardware
		summary.Vendor, summary.Model, summary.Uuid = hardware.SystemInfo.Vendor, hardware.SystemInfo.Model, hardware.SystemInfo.Uuid
		summary.NumNics = int32(len(h.pnics))
		hs.Summary.Hardware = &summary
		in.addServices(&hs.ConfigManager.ServiceSystem)
	})
	if m, ok := in.reg.Get(*hs.ConfigManager.AdvancedOption).(*simulator.OptionManager); ok {
		m.UpdateOptions(&types.UpdateOptions{ChangedValue: []types.BaseOptionValue{
			&types.OptionValue{Key: consoleTimeOut, Value: int64(600)}, &types.OptionValue{Key: consoleAccess, Value: "root"},
		}})
	}
	if cr, ok := in.reg.Get(*hs.Parent).(*mo.ComputeResource); ok {
		cr.Name = name
	}
	in.showFirewall(h.name)
	dss := in.reg.Get(*hs.ConfigManager.DatastoreSystem).(*simulator.HostDatastoreSystem)
	res := dss.CreateLocalDatastore(in.context(), &types.CreateLocalDatastore{Name: in.site.datastoreOf(h.name), Path: in.site.dirOf(h.name)})
	if f := res.Fault(); f != nil {
		return fmt.Errorf("mounting a datastore on %s: %s", h.name, f.String)
	}
	return nil
}

// handler serves the inventory over HTTP: the SOAP API, datastore files and disk leases, as vcsim does.
func (in *inventory) handler(addr, user, password string, admits func(user, password string) bool) http.Handler {
	in.svc.Listen = &url.URL{Scheme: "https", Host: addr, Path: vim25.Path, User: url.UserPassword(user, password)}
	in.svc.RegisterSDK(in.reg, in.reg.Path+"/vimService")
	in.reg.SessionManager().ServiceHostName = addr
	m := in.reg.OptionManager() // where vcsim looks when it hands out URLs of disks
	m.Setting = append(m.Setting, &types.OptionValue{Key: "vcsim.server.url", Value: "https://" + addr + vim25.Path})
	mux := in.svc.ServeMux
	mux.HandleFunc(in.reg.Path+"/vimServiceVersions.xml", in.svc.ServiceVersions)
	mux.HandleFunc("GET /screen", in.serveScreen(admits))
	mux.HandleFunc("/nfc/", simulator.ServeNFC)
	return mux
}

// placeVM makes the VM objects of a scene's VM; their networking is published with the world.
func (in *inventory) placeVM(v *vm, register bool) error {
	hs := in.hosts[v.host]
	cr := in.reg.Get(*hs.Parent).(*mo.ComputeResource)
	folder := in.reg.Get(in.dc.VmFolder).(*simulator.Folder)
	file := fmt.Sprintf("[%s] %s/%s.vmx", in.site.datastoreOf(v.host), v.name, v.name)
	var ref types.ManagedObjectReference
	var err error
	if register {
		ref, err = in.task(folder.RegisterVMTask(in.context(), &types.RegisterVM_Task{
			This: folder.Self, Path: file, Name: v.name, Pool: cr.ResourcePool, Host: &hs.Self,
		}))
	} else {
		ref, err = in.task(folder.CreateVMTask(in.context(), &types.CreateVM_Task{
			This: folder.Self, Pool: *cr.ResourcePool, Host: &hs.Self,
			Config: types.VirtualMachineConfigSpec{
				Name: v.name, GuestId: "otherGuest64", Files: &types.VirtualMachineFileInfo{VmPathName: file}, MemoryMB: 1024, NumCPUs: 1,
			},
		}))
	}
	if err != nil {
		return fmt.Errorf("creating VM %s: %w", v.name, err)
	}
	in.know(v.id, ref)
	obj := in.reg.Get(ref).(*simulator.VirtualMachine)
	in.reg.WithLock(in.context(), obj, func() {
		obj.Config.Template, obj.Summary.Config.Template = v.template, v.template
		if v.template {
			obj.ResourcePool = nil
		}
		if v.product != "" {
			obj.Config.VAppConfig = &types.VmConfigInfo{Product: []types.VAppProductInfo{{Name: v.product, Vendor: "VMware, Inc.", Version: version}}}
		}
		if v.on && v.guestIP != "" {
			obj.Guest.IpAddress, obj.Guest.HostName = v.guestIP, v.guestDNS
			obj.Guest.ToolsStatus, obj.Guest.ToolsRunningStatus = types.VirtualMachineToolsStatusToolsOk, string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
			obj.Summary.Guest.IpAddress, obj.Summary.Guest.HostName = v.guestIP, v.guestDNS
		}
	})
	return nil
}

func (in *inventory) know(id string, ref types.ManagedObjectReference) {
	in.refs[id] = ref
	in.ids[ref] = id
}

func (in *inventory) forget(id string) {
	delete(in.ids, in.refs[id])
	delete(in.refs, id)
}

// task waits for one of vcsim's own tasks and gives its result.
func (in *inventory) task(body soap.HasFault) (types.ManagedObjectReference, error) {
	var none types.ManagedObjectReference
	if f := body.Fault(); f != nil {
		return none, &refusal{fault: methodFault(f), why: f.String}
	}
	t, ok := in.reg.Get(taskRef(body)).(*simulator.Task)
	if !ok {
		return none, fmt.Errorf("%T names no task", body)
	}
	// vcsim offers no signal but property updates; its tasks take well under a millisecond.
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		var info types.TaskInfo
		in.reg.WithLock(in.context(), t, func() { info = t.Info })
		switch info.State {
		case types.TaskInfoStateSuccess:
			ref, _ := info.Result.(types.ManagedObjectReference)
			return ref, nil
		case types.TaskInfoStateError:
			return none, &refusal{fault: info.Error.Fault, why: strings.TrimPrefix(fmt.Sprintf("%T", info.Error.Fault), "*types.")}
		}
		time.Sleep(pause)
	}
}

// methodFault digs the typed fault out of a SOAP fault.
func methodFault(f *soap.Fault) types.BaseMethodFault {
	if m, ok := f.VimFault().(types.BaseMethodFault); ok {
		return m
	}
	return &types.SystemError{Reason: f.String}
}

// snapshot gives a scene's VM a snapshot, which remembers the cards as they are now.
func (in *inventory) snapshot(id string) error {
	vm := in.reg.Get(in.refs[id]).(*simulator.VirtualMachine)
	_, err := in.task(vm.CreateSnapshotTask(in.context(), &types.CreateSnapshot_Task{This: vm.Self, Name: "before", Memory: false}))
	if err != nil {
		return fmt.Errorf("taking a snapshot of %s: %w", path.Base(id), err)
	}
	return nil
}

// event posts an event to the vCenter's log.
func (in *inventory) event(e types.BaseEvent) {
	ctx := in.context()
	m := in.reg.EventManager()
	in.reg.WithLock(ctx, m, func() { m.PostEvent(ctx, &types.PostEvent{EventToPost: e}) })
}
