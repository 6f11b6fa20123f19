package vch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// Target is a VCH to remove.
type Target struct {
	Name    string   // or its id, where several have the name
	Journal *Journal // may be nil
	CertDir string   // its files on this machine; "" is none
}

// DownOptions say how far a removal goes.
type DownOptions struct {
	On      func(Event) // told of everything, one event at a time; may be nil
	Force   bool        // containers that are running too
	Volumes bool        // volume stores too
}

// Removal is what came of one target.
type Removal struct {
	Name    string   `json:"name"`
	Found   bool     `json:"found"` // a VCH of that name, or what an interrupted run left of it
	Removed []string `json:"removed"`
	Kept    []string `json:"kept,omitempty"` // on purpose: volume stores
	Left    []string `json:"left"`           // not removed, with the reason
}

// RunningError says that containers of a VCH are running. Nothing was removed.
type RunningError struct {
	VCH        string
	Containers []string
}

func (e *RunningError) Error() string {
	return fmt.Sprintf("%s has running containers: %s", e.VCH, strings.Join(e.Containers, ", "))
}

// AmbiguousError says that several VCHs have a name.
type AmbiguousError struct {
	Name string
	IDs  []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("several VCHs are called %s: %s", e.Name, strings.Join(e.IDs, ", "))
}

// Down removes VCHs, whoever made them and whatever their version: containers
// first, the appliance last. What is gone already is no error, and what is
// there beside them stays. Nothing is removed where an error is returned; what
// could not be removed is in the results.
func Down(ctx context.Context, c *esxi.Client, targets []Target, o DownOptions) ([]Removal, error) {
	site, err := ReadSite(ctx, c, false)
	if err != nil {
		return nil, err
	}
	victims := make([]*victim, len(targets))
	for i, t := range targets {
		m, err := site.vch(t.Name)
		if err != nil {
			return nil, err
		}
		victims[i] = &victim{name: t.Name, machine: m, journal: t.Journal, certs: t.CertDir}
		if m != nil {
			victims[i].name = m.Name
		}
	}
	k := &cleaner{c: c, site: site, on: o.On, volumes: o.Volumes}
	if err := k.inspect(ctx, victims); err != nil {
		return nil, err
	}
	for _, v := range victims {
		if names := v.running(); len(names) > 0 && !o.Force {
			return nil, &RunningError{v.name, names}
		}
	}
	k.clean(ctx, victims)
	out := make([]Removal, len(victims))
	for i, v := range victims {
		out[i] = Removal{Name: v.name, Found: v.found(), Removed: append([]string{}, v.removed...), Kept: v.kept, Left: append([]string{}, v.left...)}
	}
	return out, nil
}

// vch returns the VCH of a name or id, nil if there is none.
func (s *Site) vch(name string) (*Machine, error) {
	var hits []*Machine
	for i, m := range s.Machines {
		if markerOf(m) == "" {
			continue
		}
		if m.Ref.Value == name {
			return &s.Machines[i], nil
		}
		if m.Name == name {
			hits = append(hits, &s.Machines[i])
		}
	}
	if len(hits) > 1 {
		e := &AmbiguousError{Name: name}
		for _, m := range hits {
			e.IDs = append(e.IDs, m.Ref.Value)
		}
		return nil, e
	}
	if len(hits) == 0 {
		return nil, nil
	}
	return hits[0], nil
}

// undo takes back what a failed run made, and returns what is left of it.
func (r *upRun) undo(ctx context.Context) []string {
	k := &cleaner{c: r.c, on: r.tell, volumes: true, undoing: true}
	v := &victim{name: r.p.Name, journal: r.job.Journal, made: r.objects, doubt: r.doubt}
	all := func(err error) (left []string) {
		for _, o := range r.objects {
			left = append(left, fmt.Sprintf("%v (perhaps: %v)", o, err))
		}
		return left
	}
	read, cancel := context.WithTimeout(ctx, answerLimit)
	site, err := ReadSite(read, r.c, false)
	cancel()
	if err != nil {
		return all(err)
	}
	k.site = site
	for i, m := range site.Machines {
		if slices.ContainsFunc(r.objects, m.is) {
			v.machine = &site.Machines[i]
		}
	}
	if err := k.inspect(ctx, []*victim{v}); err != nil {
		return all(err)
	}
	k.clean(ctx, []*victim{v})
	return v.left
}

// is reports whether o is about this machine, and the machine a VCH.
func (m Machine) is(o Object) bool {
	return o.Kind == "vm" && o.Name == m.Name && o.Parent == m.Pool.Value && (o.ID == "" || o.ID == m.Ref.Value) && markerOf(m) != ""
}

// victim is a VCH that is to go.
type victim struct {
	name       string
	machine    *Machine // nil where the appliance is gone
	config     Config
	devices    []types.BaseVirtualDevice
	containers []container
	journal    *Journal
	certs      string
	made       []Object // beside what the journal holds
	doubt      []Object // of them, those that may still appear
	objects    []Object // to remove beside machines, with ids
	dc         Ref

	mu                  sync.Mutex
	removed, kept, left []string
	stuck               bool // the appliance has to stay, for another try
	unsure              bool // what is left could not be read
}

// container is a container VM with its disks.
type container struct {
	Machine
	devices []types.BaseVirtualDevice
}

// found reports whether there is, or was, anything of the victim.
func (v *victim) found() bool { return v.machine != nil || len(v.objects) > 0 }

func (v *victim) running() (names []string) {
	for _, c := range v.containers {
		if c.On {
			names = append(names, cmp.Or(c.Keys.containerName(), c.Name))
		}
	}
	return names
}

// cleaner removes victims.
type cleaner struct {
	c       *esxi.Client
	site    *Site
	on      func(Event)
	volumes bool
	undoing bool
	others  []neighbour // VCHs that stay, where the victims have stores that they could use too

	telling sync.Mutex // one event at a time
	mu      sync.Mutex
	dead    error // why nothing more is tried: the server is silent
}

func (k *cleaner) say(v *victim, kind, text string) {
	if k.on != nil {
		k.telling.Lock()
		defer k.telling.Unlock()
		k.on(Event{VCH: v.name, Kind: kind, Text: text})
	}
}

func (v *victim) leave(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.left = append(v.left, fmt.Sprintf(format, args...))
}

// try carries out one removal, and reports whether the thing is gone.
func (k *cleaner) try(ctx context.Context, v *victim, what string, do func(context.Context) error) bool {
	if !k.act(ctx, v, "to remove "+what, what, do) {
		return false
	}
	v.mu.Lock()
	v.removed = append(v.removed, what)
	v.mu.Unlock()
	k.say(v, "removed", what)
	return true
}

// prepare carries out what a removal needs first; done tells of it.
func (k *cleaner) prepare(ctx context.Context, v *victim, done, undone string, do func(context.Context) error) bool {
	if !k.act(ctx, v, undone, undone, do) {
		return false
	}
	k.say(v, "step", done)
	return true
}

// act makes one change, and reports whether it is made; what is left when it is
// not, and how the wait for it is told of, are its words. Each can be made twice without harm, so a lost answer is asked for again.
func (k *cleaner) act(ctx context.Context, v *victim, doing, what string, do func(context.Context) error) bool {
	k.mu.Lock()
	dead := k.dead
	k.mu.Unlock()
	if dead != nil {
		v.leave("%s (not tried: %v)", what, dead)
		return false
	}
	stop := beat(func(so time.Duration) { k.say(v, "waiting", fmt.Sprintf("%s, after %v", doing, so)) })
	defer stop()
	err := again(ctx, func() error {
		err := do(ctx)
		if gone(err) {
			return nil
		}
		return err
	})
	if err == nil {
		return true
	}
	if faultOf(err) == "" {
		k.mu.Lock()
		k.dead = errors.New("the server stopped answering")
		k.mu.Unlock()
	}
	v.leave("%s (%v)", what, err)
	return false
}

// quick is a call that is answered at once, or not at all.
func quick(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	return do(ctx)
}

// task starts a task and waits for its end.
func (k *cleaner) task(ctx context.Context, start func(context.Context) (Ref, error)) error {
	var task Ref
	err := quick(ctx, func(ctx context.Context) (err error) {
		task, err = start(ctx)
		return err
	})
	if err != nil {
		return err
	}
	_, err = wait(ctx, k.c, task)
	return err
}

// inspect reads everything about the victims and works out what goes with them.
func (k *cleaner) inspect(ctx context.Context, victims []*victim) error {
	var refs []Ref
	for _, v := range victims {
		if v.machine == nil {
			continue
		}
		refs = append(refs, v.machine.Ref)
		for _, m := range k.site.Machines {
			if belongs(m, *v.machine, k.site.Machines) {
				refs = append(refs, m.Ref)
			}
		}
	}
	details, err := readDetails(ctx, k.c, refs)
	if err != nil {
		return err
	}
	for _, v := range victims {
		if v.machine != nil {
			d := details[v.machine.Ref]
			v.devices = d.devices
			v.machine.Keys = d.Keys
			// What is broken in the keys must not keep a VCH from going.
			_ = DecodeKeys(d.Keys, &v.config, nil)
			for _, m := range k.site.Machines {
				if d, ok := details[m.Ref]; ok && belongs(m, *v.machine, k.site.Machines) {
					m.Keys = d.Keys
					if isContainer(m) {
						v.containers = append(v.containers, container{m, d.devices})
					}
				}
			}
		}
	}
	if err := k.readOthers(ctx, victims); err != nil {
		return err
	}
	for _, v := range victims {
		k.objects(v)
	}
	return nil
}

// readDetails reads all keys and devices of machines, in one call. A machine
// that has gone meanwhile makes the call fail, and then each is read alone.
func readDetails(ctx context.Context, c *esxi.Client, refs []Ref) (map[Ref]container, error) {
	out := map[Ref]container{}
	if len(refs) == 0 {
		return out, nil
	}
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: "VirtualMachine",
		PathSet: []string{"name", "parent", "resourcePool", "runtime.powerState", "summary.config.vmPathName", "summary.config.uuid", "network", "config.extraConfig", "config.hardware.device"}}}}
	for _, r := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: r})
	}
	objects, err := retrieve(ctx, c, spec)
	if gone(err) {
		objects = nil
		for _, r := range refs {
			spec.ObjectSet = []types.ObjectSpec{{Obj: r}}
			one, err := retrieve(ctx, c, spec)
			if err != nil && !gone(err) {
				return nil, fmt.Errorf("read the VCH: %w", err)
			}
			objects = append(objects, one...)
		}
	} else if err != nil {
		return nil, fmt.Errorf("read the VCH: %w", err)
	}
	list := machines(objects)
	for i, o := range objects {
		d := container{Machine: list[i]}
		for _, p := range o.PropSet {
			if a, ok := p.Val.(types.ArrayOfVirtualDevice); ok {
				d.devices = a.VirtualDevice
			}
		}
		out[o.Obj] = d
	}
	return out, nil
}

// objects works out what a victim takes with it: what its own keys say labctl
// made for it, what vic-machine makes by its rules, and what the journal holds.
// All of it counts only where the inventory shows it in the right place.
func (k *cleaner) objects(v *victim) {
	pending := v.made
	if !k.undoing { // what an earlier run left, volumes that were kept among it, is no business of one that failed
		pending = slices.Concat(v.journal.Pending(), v.made)
	}
	add := func(o Object) {
		if o.ID == "" && slices.Contains([]string{"pool", "folder"}, o.Kind) || slices.ContainsFunc(v.objects, o.same) {
			return
		}
		v.objects = append(v.objects, o)
	}
	if m := v.machine; m != nil {
		marked, labctls := m.Keys[keyMade]
		made := func(kind string) bool { return !labctls || slices.Contains(strings.Fields(marked), kind) }
		if p := find(k.site.Pools, func(p Pool) bool { return p.Ref == m.Pool && p.Name == m.Name }); p != nil && made("pool") && k.site.owner(p.Ref) != p.Parent {
			add(Object{Kind: "pool", Name: p.Name, Parent: p.Parent.Value, ID: p.Ref.Value})
		}
		if f, ok := k.site.Names[m.Parent]; ok && k.site.VCenter && f.Name == m.Name && made("folder") && f.Parent.Type == "Folder" {
			add(Object{Kind: "folder", Name: f.Name, Parent: f.Parent.Value, ID: m.Parent.Value})
		}
		if name := k.bridgeName(v); name != "" && (v.config.BridgeCreated && made("portgroup") || m.Keys[keyBridge] == name) {
			host := m.Host.Value
			k.fromJournal(v, Object{Kind: "portgroup", Name: name, Parent: host}, add)
			// A VCH that found the bridge made by another takes the switch along.
			if !labctls || made("switch") || m.Keys[keyBridge] == name && !made("portgroup") {
				k.fromJournal(v, Object{Kind: "switch", Name: name, Parent: host}, add)
			}
		}
		v.dc = k.site.datacenter(k.site.owner(m.Pool))
		if store, folder := splitPath(m.Path); folder != "" {
			add(Object{Kind: "directory", Name: onStore(store, folder), Parent: v.dc.Value})
		}
		k.stores(v, add, made("images"), labctls)
	}
	for _, o := range pending {
		k.fromJournal(v, o, add)
	}
	if v.dc.Value == "" {
		for _, o := range v.objects {
			if slices.Contains([]string{"directory", "volume", "images"}, o.Kind) {
				v.dc = Ref{Type: "Datacenter", Value: o.Parent}
			}
		}
	}
}

// fromJournal adds an object that a journal announces, where the inventory has
// it.
func (k *cleaner) fromJournal(v *victim, o Object, add func(Object)) {
	switch o.Kind {
	case "pool":
		p := find(k.site.Pools, func(p Pool) bool {
			return p.Name == o.Name && p.Parent.Value == o.Parent && (o.ID == "" || o.ID == p.Ref.Value)
		})
		if p != nil {
			o.ID = p.Ref.Value
			add(o)
		}
	case "folder":
		for r, n := range k.site.Names {
			if r.Type == "Folder" && n.Name == o.Name && n.Parent.Value == o.Parent && (o.ID == "" || o.ID == r.Value) {
				o.ID = r.Value
				add(o)
			}
		}
	case "switch", "portgroup":
		h := find(k.site.Hosts, func(h Host) bool { return h.Ref.Value == o.Parent })
		if h != nil && (o.Kind == "switch" && h.hasSwitch(o.Name) || o.Kind == "portgroup" && h.hasPortGroup(o.Name)) {
			add(o)
		}
	case "directory", "volume", "images", "parent":
		add(o)
	}
}

func (h *Host) hasSwitch(name string) bool {
	return slices.ContainsFunc(h.VSwitches, func(s types.HostVirtualSwitch) bool { return s.Name == name })
}

func (h *Host) hasPortGroup(name string) bool {
	return slices.ContainsFunc(h.PortGroups, func(g types.HostPortGroup) bool { return g.Spec.Name == name })
}

// bridgeName returns the port group that the adapter of a VCH's bridge is on.
func (k *cleaner) bridgeName(v *victim) string {
	if nic := v.config.Init.Networks[string(Bridge)]; nic != nil {
		if i := k.site.describeNIC(string(Bridge), nic, v.devices); i.Network != "" {
			return i.Network
		}
	}
	return v.machine.Keys[keyBridge]
}

// each runs do for all victims side by side.
func each(victims []*victim, do func(*victim)) {
	var wg sync.WaitGroup
	for _, v := range victims {
		wg.Go(func() { do(v) })
	}
	wg.Wait()
}

// clean carries the removal out: containers, power, networks, images, the
// appliance, and then what it was in.
func (k *cleaner) clean(ctx context.Context, victims []*victim) {
	each(victims, func(v *victim) { k.empty(ctx, v) })
	for _, v := range victims {
		k.networks(ctx, v, victims)
	}
	each(victims, func(v *victim) { k.appliance(ctx, v) })
	k.around(ctx, victims)
	k.check(ctx, victims)
	for _, v := range victims {
		for _, o := range v.doubt {
			if !slices.Contains(v.removed, o.String()) {
				v.leave("%v (its making was not answered: it may still appear)", o)
			}
		}
		v.settle(k)
		for _, l := range v.left {
			k.say(v, "left", l)
		}
	}
}

// empty removes the containers, and takes power and networks from the
// appliance.
func (k *cleaner) empty(ctx context.Context, v *victim) {
	for _, c := range v.containers {
		if !k.container(ctx, v, c) {
			v.stuck = true
		}
	}
	if v.stuck || v.machine == nil {
		return
	}
	m := v.machine
	if m.On && !k.prepare(ctx, v, "powered off", m.Name+" is still powered on", func(ctx context.Context) error { return k.powerOff(ctx, m.Ref) }) {
		v.stuck = true
		return
	}
	// Adapters would keep the port group in use, and disks would go with the
	// machine.
	var change []types.BaseVirtualDeviceConfigSpec
	bridged := slices.ContainsFunc(v.objects, func(o Object) bool { return o.Kind == "portgroup" })
	for _, d := range v.devices {
		_, nic := d.(types.BaseVirtualEthernetCard)
		_, disk := d.(*types.VirtualDisk)
		if nic && bridged || disk {
			change = append(change, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: d})
		}
	}
	if len(change) > 0 && !k.prepare(ctx, v, "disconnected from its networks and disks", m.Name+" is still connected to its networks and disks", func(ctx context.Context) error {
		err := k.reconfigure(ctx, m.Ref, change)
		if faultOf(err) == "InvalidDeviceSpec" {
			return nil // an earlier try that was not answered has done it
		}
		return err
	}) {
		v.stuck = true
	}
}

func (k *cleaner) reconfigure(ctx context.Context, ref Ref, change []types.BaseVirtualDeviceConfigSpec) error {
	return k.task(ctx, func(ctx context.Context) (Ref, error) {
		res, err := methods.ReconfigVM_Task(ctx, k.c.Vim, &types.ReconfigVM_Task{This: ref, Spec: types.VirtualMachineConfigSpec{DeviceChange: change}})
		if err != nil {
			return Ref{}, err
		}
		return res.Returnval, nil
	})
}

// powerOff cuts the power: what the appliance holds goes with it, and a guest
// that hangs would keep everybody waiting.
func (k *cleaner) powerOff(ctx context.Context, ref Ref) error {
	err := k.task(ctx, func(ctx context.Context) (Ref, error) {
		res, err := methods.PowerOffVM_Task(ctx, k.c.Vim, &types.PowerOffVM_Task{This: ref})
		if err != nil {
			return Ref{}, err
		}
		return res.Returnval, nil
	})
	if faultOf(err) == "InvalidPowerState" {
		return nil
	}
	return err
}

// destroy removes a machine with its files. vic-machine disables that on
// vCenter for its VCHs.
func (k *cleaner) destroy(ctx context.Context, ref Ref) error {
	start := func(ctx context.Context) (Ref, error) {
		res, err := methods.Destroy_Task(ctx, k.c.Vim, &types.Destroy_Task{This: ref})
		if err != nil {
			return Ref{}, err
		}
		return res.Returnval, nil
	}
	err := k.task(ctx, start)
	if f := faultOf(err); f == "MethodDisabled" || f == "MethodDisabledFault" {
		if on := object.NewAuthorizationManager(k.c.Vim).EnableMethods(ctx, []Ref{ref}, []string{"Destroy_Task"}, "VIC"); on != nil {
			return errors.Join(err, on)
		}
		err = k.task(ctx, start)
	}
	return err
}

// deleteFiles removes a folder of a datastore with all that is in it.
func (k *cleaner) deleteFiles(ctx context.Context, name string, dc Ref) error {
	fm := k.c.Vim.ServiceContent.FileManager
	if fm == nil {
		return errors.New("the server has no file manager")
	}
	return k.task(ctx, func(ctx context.Context) (Ref, error) {
		res, err := methods.DeleteDatastoreFile_Task(ctx, k.c.Vim, &types.DeleteDatastoreFile_Task{This: *fm, Name: name, Datacenter: &dc})
		if err != nil {
			return Ref{}, err
		}
		return res.Returnval, nil
	})
}

// container removes one container VM. Disks from elsewhere, volumes, are taken
// out of it first.
func (k *cleaner) container(ctx context.Context, v *victim, c container) bool {
	name := "container " + cmp.Or(c.Keys.containerName(), c.Name)
	if c.On && !k.prepare(ctx, v, name+" powered off", name+" is still powered on", func(ctx context.Context) error { return k.powerOff(ctx, c.Ref) }) {
		return false
	}
	store, folder := splitPath(c.Path)
	var change []types.BaseVirtualDeviceConfigSpec
	for _, d := range c.devices {
		disk, ok := d.(*types.VirtualDisk)
		if !ok {
			continue
		}
		if b, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
			if s, f := splitPath(b.GetVirtualDeviceFileBackingInfo().FileName); s != store || f != folder {
				change = append(change, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: d})
			}
		}
	}
	if len(change) > 0 && !k.prepare(ctx, v, "volumes taken out of "+name, "volumes are still in "+name, func(ctx context.Context) error { return k.reconfigure(ctx, c.Ref, change) }) {
		return false
	}
	if !k.try(ctx, v, name, func(ctx context.Context) error { return k.destroy(ctx, c.Ref) }) {
		return false
	}
	if folder == "" || k.occupied(store, folder, c.Ref) != "" {
		return true
	}
	dc := k.site.datacenter(k.site.owner(c.Pool))
	return k.try(ctx, v, "files of "+name, func(ctx context.Context) error { return k.deleteFiles(ctx, onStore(store, folder), dc) })
}

// occupied returns the machine other than self whose files are in a folder, or
// below it.
func (k *cleaner) occupied(store, folder string, self Ref) string {
	for _, m := range k.site.Machines {
		if s, f := splitPath(m.Path); m.Ref != self && s == store && (f == folder || strings.HasPrefix(f, folder+"/")) {
			return m.Name
		}
	}
	return ""
}

// networks removes the bridge that was made for a VCH, where nobody else is on
// it. Another VCH on it takes it along when it goes.
func (k *cleaner) networks(ctx context.Context, v *victim, victims []*victim) {
	if v.stuck {
		return
	}
	for _, kind := range []string{"portgroup", "switch"} {
		for _, o := range v.objects {
			if o.Kind != kind {
				continue
			}
			h := find(k.site.Hosts, func(h Host) bool { return h.Ref.Value == o.Parent })
			if h == nil {
				v.leave("%v (its host is not there)", o)
				continue
			}
			if who, heir := k.user(h, o, victims); heir {
				v.kept = append(v.kept, fmt.Sprintf("%v: %s is on it", o, who))
				continue
			} else if who != "" {
				v.leave("%v (%s is on it)", o, who)
				continue
			}
			ok := k.try(ctx, v, o.String(), func(ctx context.Context) error {
				return quick(ctx, func(ctx context.Context) error {
					if kind == "portgroup" {
						_, err := methods.RemovePortGroup(ctx, k.c.Vim, &types.RemovePortGroup{This: h.NetworkSystem, PgName: o.Name})
						return err
					}
					_, err := methods.RemoveVirtualSwitch(ctx, k.c.Vim, &types.RemoveVirtualSwitch{This: h.NetworkSystem, VswitchName: o.Name})
					return err
				})
			})
			v.stuck = v.stuck || !ok
		}
	}
}

// user returns who else uses a port group or a switch: a machine that is not
// about to go, another port group, an uplink. heir says that it is a VCH that
// will remove it in its time.
func (k *cleaner) user(h *Host, o Object, victims []*victim) (who string, heir bool) {
	if o.Kind == "switch" {
		for _, g := range h.PortGroups {
			if g.Spec.VswitchName == o.Name && g.Spec.Name != o.Name {
				return "port group " + g.Spec.Name, false
			}
		}
		if s := find(h.VSwitches, func(s types.HostVirtualSwitch) bool { return s.Name == o.Name }); s != nil && len(s.Pnic) > 0 {
			return "an uplink", false
		}
	}
	net := find(k.site.Networks, func(n Network) bool { return n.Name == o.Name })
	if net == nil {
		return "", false
	}
	for _, m := range k.site.Machines {
		goes := slices.ContainsFunc(victims, func(v *victim) bool {
			return v.machine != nil && v.machine.Ref == m.Ref || slices.ContainsFunc(v.containers, func(c container) bool { return c.Ref == m.Ref })
		})
		if goes || !slices.Contains(m.Networks, net.Ref) {
			continue
		}
		who, heir = m.Name, markerOf(m) != "" && m.Keys[keyBridge] == o.Name
		if !heir {
			return who, false
		}
	}
	return who, heir
}

// appliance removes images, the machine, and its files.
func (k *cleaner) appliance(ctx context.Context, v *victim) {
	if v.stuck {
		if v.machine != nil {
			v.leave("VCH %s itself: it stays, so that the rest can be tried again", v.machine.Name)
		}
		return
	}
	for _, o := range v.objects {
		if o.Kind != "images" && o.Kind != "volume" {
			continue
		}
		switch who := k.userOf(o); {
		case who != "":
			v.kept = append(v.kept, fmt.Sprintf("%v: VCH %s has it too", o, who))
		case o.Kind == "volume" && !k.volumes:
			v.kept = append(v.kept, o.String())
		default:
			k.files(ctx, v, o)
		}
	}
	if len(v.left) > 0 && v.stuck {
		return
	}
	if m := v.machine; m != nil {
		// From here on only the journal knows of what is removed after it.
		for _, o := range v.objects {
			if err := v.journal.announce(o); err != nil {
				v.leave("VCH %s (%v)", m.Name, err)
				v.stuck = true
				return
			}
		}
		if !k.try(ctx, v, "virtual machine "+m.Name, func(ctx context.Context) error { return k.destroy(ctx, m.Ref) }) {
			v.stuck = true
			return
		}
	}
	for _, o := range v.objects {
		if o.Kind == "directory" {
			k.files(ctx, v, o)
		}
	}
	for _, o := range slices.Backward(v.objects) {
		if o.Kind == "parent" {
			k.parent(ctx, v, o)
		}
	}
}

// parent removes a folder that was made on the way to another, if nothing is in
// it: what somebody has put there since is not to go with it.
func (k *cleaner) parent(ctx context.Context, v *victim, o Object) {
	empty, err := k.isEmpty(ctx, o.Name)
	switch {
	case gone(err):
		_ = v.journal.forget(o)
	case err != nil:
		v.leave("%v (%v)", o, err)
	case empty:
		k.files(ctx, v, o)
	default:
		v.kept = append(v.kept, o.String()+": something is in it")
	}
}

// isEmpty lists a folder of a datastore.
func (k *cleaner) isEmpty(ctx context.Context, name string) (bool, error) {
	store, _ := splitPath(name + "/x")
	d := find(k.site.Datastores, func(d Datastore) bool { return d.Name == store })
	if d == nil {
		return false, fmt.Errorf("there is no datastore %s", store)
	}
	objects, err := retrieve(ctx, k.c, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: "Datastore", PathSet: []string{"browser"}}},
		ObjectSet: []types.ObjectSpec{{Obj: d.Ref}},
	})
	if err != nil || len(objects) == 0 || len(objects[0].PropSet) == 0 {
		return false, errors.Join(errors.New("its folder cannot be listed"), err)
	}
	browser, _ := objects[0].PropSet[0].Val.(Ref)
	res, err := methods.SearchDatastore_Task(ctx, k.c.Vim, &types.SearchDatastore_Task{This: browser, DatastorePath: name,
		SearchSpec: &types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{"*"}}})
	if err != nil {
		return false, err
	}
	result, err := wait(ctx, k.c, res.Returnval)
	if err != nil {
		return false, err
	}
	list, ok := result.(types.HostDatastoreBrowserSearchResults)
	return ok && len(list.File) == 0, nil
}

func (k *cleaner) files(ctx context.Context, v *victim, o Object) {
	store, folder := splitPath(o.Name + "/x")
	folder = strings.Trim(path.Clean("/"+folder), "/") // "" is the datastore itself
	self := Ref{}
	if v.machine != nil {
		self = v.machine.Ref
	}
	if folder == "" || badPath(o.Name) {
		v.leave("%v (not a folder)", o)
		return
	}
	if who := k.occupied(store, folder, self); who != "" {
		v.leave("%v (%s keeps files in it)", o, who)
		return
	}
	if k.try(ctx, v, o.String(), func(ctx context.Context) error {
		return k.deleteFiles(ctx, o.Name, Ref{Type: "Datacenter", Value: o.Parent})
	}) {
		_ = v.journal.forget(o)
	}
}

// around removes folders and pools that are empty now. Both are read again
// right before: destroying a folder destroys what is in it.
func (k *cleaner) around(ctx context.Context, victims []*victim) {
	if k.dead == nil && slices.ContainsFunc(victims, func(v *victim) bool {
		return !v.stuck && slices.ContainsFunc(v.objects, func(o Object) bool { return o.Kind == "folder" || o.Kind == "pool" })
	}) {
		read, cancel := context.WithTimeout(ctx, 3*answerLimit)
		site, err := ReadSite(read, k.c, false)
		cancel()
		if err != nil {
			k.dead = err
		} else {
			k.site = site
		}
	}
	each(victims, func(v *victim) {
		if v.stuck {
			return
		}
		for _, kind := range []string{"folder", "pool"} {
			for _, o := range v.objects {
				if o.Kind == kind {
					k.shell(ctx, v, o)
				}
			}
		}
	})
}

// shell removes an empty folder or pool.
func (k *cleaner) shell(ctx context.Context, v *victim, o Object) {
	ref := Ref{Type: map[string]string{"folder": "Folder", "pool": "ResourcePool"}[o.Kind], Value: o.ID}
	if _, there := k.site.Names[ref]; !there && k.dead == nil {
		return
	}
	for _, m := range k.site.Machines {
		if m.Parent == ref || m.Pool == ref {
			v.leave("%v (%s is in it)", o, m.Name)
			return
		}
	}
	for _, n := range k.site.Names {
		if n.Parent == ref {
			v.leave("%v (%s is in it)", o, n.Name)
			return
		}
	}
	k.try(ctx, v, o.String(), func(ctx context.Context) error {
		return k.task(ctx, func(ctx context.Context) (Ref, error) {
			res, err := methods.Destroy_Task(ctx, k.c.Vim, &types.Destroy_Task{This: ref})
			if err != nil {
				return Ref{}, err
			}
			return res.Returnval, nil
		})
	})
}

// check reads once more what is still there, and says so.
func (k *cleaner) check(ctx context.Context, victims []*victim) {
	if !slices.ContainsFunc(victims, func(v *victim) bool { return v.machine != nil || len(v.objects) > 0 }) || k.dead != nil {
		return
	}
	read, cancel := context.WithTimeout(ctx, 3*answerLimit)
	defer cancel()
	site, err := ReadSite(read, k.c, false)
	if err != nil {
		for _, v := range victims {
			v.unsure = true
			v.leave("whether everything of %s is gone (%v)", v.name, err)
		}
		return
	}
	k.site = site
	for _, v := range victims {
		left := strings.Join(v.left, "\n")
		miss := func(what string) {
			if !strings.Contains(left, what) {
				v.leave("%s (it is still there)", what)
			}
		}
		if v.machine != nil && find(site.Machines, func(m Machine) bool { return m.Ref == v.machine.Ref }) != nil {
			miss("VCH " + v.machine.Name)
		}
		for _, o := range v.objects {
			there := false
			probe := &victim{}
			if !slices.Contains([]string{"directory", "volume", "images", "parent"}, o.Kind) {
				k.fromJournal(probe, o, func(Object) { there = true })
			}
			if there && !slices.ContainsFunc(v.kept, func(s string) bool { return strings.HasPrefix(s, o.String()) }) {
				miss(o.String())
			}
		}
	}
}

// settle closes the journal: what is not left is gone.
func (v *victim) settle(k *cleaner) {
	left := strings.Join(append(slices.Clone(v.left), v.kept...), "\n")
	for _, o := range v.journal.Pending() {
		if v.unsure || k.dead != nil {
			break
		}
		if k.undoing && !slices.ContainsFunc(v.made, o.same) {
			continue
		}
		if o.Kind == "vm" && v.machine != nil && strings.Contains(left, v.machine.Name+" ") && v.stuck || strings.Contains(left, o.String()) {
			continue
		}
		_ = v.journal.forget(o)
	}
	v.journal.settle()
	if len(v.left) == 0 && v.certs != "" && v.found() {
		if err := RemoveStored(v.certs); err != nil {
			v.leave("%v", err)
		}
		os.Remove(LogFile(v.certs)) // of an earlier try, where there was one
	}
}
