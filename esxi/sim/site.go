package sim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// site is a world and the inventories that show it.
type site struct {
	lab     *Lab
	dir     string // datastore files
	scene   *world // the world at the start
	life    atomic.Pointer[life]
	touched atomic.Bool // vcsim's own part of the inventories may have changed
	resets  int

	// mu guards what follows and everything published: a reader of properties sees one world, never half a change.
	mu      sync.RWMutex
	world   *world
	seen    *world // the world as the vCenter knows it: hosts it cannot reach are as it last saw them
	vcenter *inventory
	direct  map[string]*inventory
	members map[string]*member
	dark    map[string]*darkness
	changed chan struct{} // closed and replaced at each commit
	desks   []*desk       // the consoles, hosts' first

	rollbacks  int
	editing    map[string]bool // distributed switches that an edit has in hand
	pools      []*pool
	builders   []vchBuilder
	unmanaged  bool                  // the vCenter is not there for anyone
	rules      map[string]bool       // firewall rule sets that were switched, by host/key
	unlicensed bool                  // the licence has nothing for VCHs
	closed     map[string]bool       // hosts whose firewall lets no VCH be reached
	guests     map[string]*appliance // running VCHs by VM
	volatile   map[string]bool       // VMs whose guestinfo was changed while they ran
	ovfEnv     map[string]string     // what VMs have for that key, which the API does not show
	hideDVS    bool                  // hosts show no distributed port groups
}

// life is the time between two resets of a site. What began in one life must not act in the next.
type life struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func newLife() *life {
	ctx, cancel := context.WithCancel(context.Background())
	return &life{ctx, cancel}
}

// sleep waits without holding anything, and fails if the life ends meanwhile.
func (l *life) sleep(d time.Duration) error {
	if d <= 0 {
		return l.ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

// member is a host as managed by the vCenter.
type member struct {
	busy    sync.Mutex // one network change at a time
	state   types.HostSystemConnectionState
	pending bool // a change waits for the vCenter's commit: what it shows stays as it was
	waiting bool // a state change is due
}

// darkness is how long an adapter has been without a network.
type darkness struct {
	since time.Time // zero while it is lit
	total time.Duration
}

func newSite(l *Lab) (*site, error) {
	st, err := furnish(l.opt.Scene, l.opt.VMs)
	if err != nil {
		return nil, err
	}
	s := &site{lab: l, scene: st.w, builders: st.vchs, unmanaged: st.unmanaged, direct: map[string]*inventory{}}
	s.begin()
	if s.dir, err = os.MkdirTemp("", "labsim-"); err != nil {
		return nil, fmt.Errorf("making room for datastores: %w", err)
	}
	for _, h := range st.w.hosts {
		if err := os.Mkdir(s.dirOf(h.name), 0o700); err != nil {
			s.close()
			return nil, fmt.Errorf("making room for datastores: %w", err)
		}
	}
	if err := s.populate(st); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *site) populate(st *stage) error {
	var err error
	if s.vcenter, err = newInventory(s, ""); err != nil {
		return err
	}
	for _, h := range s.world.hosts {
		if s.direct[h.name], err = newInventory(s, h.name); err != nil {
			return err
		}
	}
	for _, v := range s.world.vms {
		if err := s.vcenter.placeVM(v, false); err != nil {
			return err
		}
		if err := s.direct[v.host].placeVM(v, true); err != nil {
			return err
		}
	}
	s.publish()
	for _, v := range s.world.vms {
		if !slices.Contains(st.snapshots, v.name) {
			continue
		}
		for _, in := range []*inventory{s.vcenter, s.direct[v.host]} {
			if err := in.snapshot(v.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin sets everything but the inventories to the start of the scene.
func (s *site) begin() {
	s.world, s.seen = s.scene, s.scene
	s.members = map[string]*member{}
	for _, h := range s.scene.hosts {
		s.members[h.name] = &member{state: types.HostSystemConnectionStateConnected}
	}
	s.dark = map[string]*darkness{}
	s.editing = map[string]bool{}
	s.guests, s.volatile = map[string]*appliance{}, map[string]bool{}
	s.ovfEnv, s.rules, s.closed, s.pools = map[string]string{}, map[string]bool{}, map[string]bool{}, nil
	s.changed = make(chan struct{})
	s.rollbacks = 0
	s.life.Store(newLife())
}

func (s *site) close() {
	s.life.Load().cancel()
	_ = os.RemoveAll(s.dir)
}

// renewEvery is how many resets a site survives. vcsim keeps the property collectors of clients that went without
// logging out, and notifies them of everything.
const renewEvery = 25

// restore resets the site where it stands, which takes a fraction of building another, and says whether it could:
// only if nothing but networking and consoles has changed.
func (s *site) restore() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resets++
	if s.touched.Load() || s.rollbacks > 0 || s.resets >= renewEvery {
		return false, nil
	}
	s.life.Load().cancel()
	s.lab.faults.clear()
	for _, h := range s.scene.hosts {
		s.maintain(h.name, false)
		s.closeFirewall(h.name, false)
	}
	s.license(true)
	s.hideFrom(false)
	s.setRollback(true)
	s.begin()
	s.publish()
	for _, in := range s.inventories() {
		in.forgetTasks()
	}
	for name, m := range s.members {
		if hs := s.vcenter.hosts[name]; hs.Runtime.ConnectionState != m.state {
			s.vcenter.update(hs, prop("runtime.connectionState", m.state))
		}
	}
	s.account(time.Now())
	s.lab.regate(s)
	return true, s.openDesks()
}

func (s *site) inventories() []*inventory {
	all := []*inventory{s.vcenter}
	for _, h := range s.scene.hosts {
		all = append(all, s.direct[h.name])
	}
	return all
}

func (s *site) dirOf(host string) string { return filepath.Join(s.dir, host) }

// datastoreOf names a host's local datastore: as on real hosts the first is datastore1, a vCenter numbers the others.
func (s *site) datastoreOf(name string) string {
	i := slices.IndexFunc(s.scene.hosts, func(h *host) bool { return h.name == name })
	if i <= 0 {
		return datastore
	}
	return fmt.Sprintf("%s (%d)", datastore, i)
}

// reached says whether the vCenter can talk to a host: both must be on the network.
func (s *site) reached(host string) bool {
	if ok, _ := s.world.management(host); !ok {
		return false
	}
	return s.vcenterLit() && !s.lab.faults.has("vcenter-down")
}

// vcenterLit says whether the vCenter has a network; one that runs outside the lab always has.
func (s *site) vcenterLit() bool {
	for _, v := range s.world.vms {
		if v.product != vcsaProduct {
			continue
		}
		if !v.on || len(v.nics) == 0 || s.world.nicDark(v, &v.nics[0]) != "" {
			return false
		}
	}
	return true
}

// commit makes w the truth: it is shown, the gates follow it, and the vCenter will notice who came and went. mu is held.
func (s *site) commit(w *world) {
	s.world = w
	s.publish()
	s.account(time.Now())
	s.lab.regate(s)
	s.watch()
	s.attend()
	close(s.changed)
	s.changed = make(chan struct{})
}

// publish shows the world: hosts at once, the vCenter as far as it can see.
func (s *site) publish() {
	seen := s.world.clone()
	blind := func(host string) bool { // also before the vCenter has noticed that the host is gone
		m := s.members[host]
		return m.state != types.HostSystemConnectionStateConnected || m.pending || !s.reached(host)
	}
	for i, h := range seen.hosts {
		if blind(h.name) {
			seen.hosts[i] = s.seen.host(h.name)
		}
	}
	for i, v := range seen.vms {
		if old := s.seen.vm(v.id); old != nil && blind(v.host) {
			seen.vms[i] = old
		}
	}
	s.seen = seen
	s.vcenter.publish(seen)
	for _, in := range s.direct {
		in.publish(s.world)
	}
}

// account adds up how long each adapter has been dark. Only what is meant to work counts: vmk0, and connected cards of
// running VMs.
func (s *site) account(now time.Time) {
	mark := func(key string, dark bool) {
		d := s.dark[key]
		if d == nil {
			d = &darkness{}
			s.dark[key] = d
		}
		switch {
		case dark && d.since.IsZero():
			d.since = now
		case !dark && !d.since.IsZero():
			d.total += now.Sub(d.since)
			d.since = time.Time{}
		}
	}
	for _, h := range s.world.hosts {
		ok, _ := s.world.management(h.name)
		mark(h.name, !ok)
	}
	for _, v := range s.world.vms {
		for i := range v.nics {
			n := &v.nics[i]
			mark(fmt.Sprint(v.id, "#", n.key), v.on && n.connect.Connected && s.world.nicDark(v, n) != "")
		}
	}
}

// darkFor is the time an adapter has been dark since the site began, in milliseconds.
func (s *site) darkFor(key string, now time.Time) int64 {
	d := s.dark[key]
	if d == nil {
		return 0
	}
	t := d.total
	if !d.since.IsZero() {
		t += now.Sub(d.since)
	}
	return t.Milliseconds()
}

// watch lets the vCenter find out, a while after the fact, which hosts it lost and which came back. mu is held.
func (s *site) watch() {
	for name, m := range s.members {
		if m.pending || m.waiting {
			continue
		}
		want, after := types.HostSystemConnectionStateConnected, s.lab.opt.ReconnectAfter
		switch {
		case s.lab.faults.disconnected(name):
			want, after = types.HostSystemConnectionStateDisconnected, 0
		case !s.reached(name):
			want, after = types.HostSystemConnectionStateNotResponding, s.lab.opt.LostAfter
		}
		if want == m.state {
			continue
		}
		if after == 0 {
			s.setState(name, want)
			continue
		}
		m.waiting = true
		life := s.life.Load()
		time.AfterFunc(after, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			m.waiting = false
			if life.ctx.Err() != nil || m.pending {
				return
			}
			if s.reached(name) == (want == types.HostSystemConnectionStateConnected) && !s.lab.faults.disconnected(name) {
				s.setState(name, want)
			}
			s.watch()
		})
	}
}

// setState sets how the vCenter shows a host; one that has come back is read anew. mu is held.
func (s *site) setState(name string, st types.HostSystemConnectionState) {
	m := s.members[name]
	m.state = st
	hs := s.vcenter.hosts[name]
	s.vcenter.update(hs, prop("runtime.connectionState", st))
	if st == types.HostSystemConnectionStateConnected {
		s.publish()
	}
}

// networkCall is one network change under way: which hosts it touches, by which path, and what it does to the world.
type networkCall struct {
	method string
	hosts  []string // in the order of the world's
	direct bool
	eval   func(*world) (*world, error) // gets the world as it is when the hosts' turn has come
}

// change runs a network change.
//
// Through the vCenter the change is a transaction: unless the vCenter reaches the hosts afterwards, they undo it when
// the timer ends. In a direct session nobody undoes anything.
func (s *site) change(c networkCall) error {
	life := s.life.Load()
	members := make([]*member, len(c.hosts))
	s.mu.RLock()
	for i, name := range c.hosts {
		members[i] = s.members[name]
	}
	s.mu.RUnlock()
	for _, m := range members {
		m.busy.Lock()
		defer m.busy.Unlock()
	}
	if err := life.sleep(s.lab.faults.opDelay()); err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if err := life.ctx.Err(); err != nil {
		return err
	}
	if !c.direct {
		for _, name := range c.hosts {
			if err := s.connected(name); err != nil {
				return err
			}
		}
	}
	before := s.world
	after, err := c.eval(before)
	if err != nil {
		return err
	}
	for i, name := range c.hosts {
		s.lab.faults.strike(after, name)
		members[i].pending = !c.direct
	}
	s.commit(after)
	if c.direct {
		return nil
	}
	lost := s.await(life, c.hosts, s.lab.opt.RollbackAfter)
	if err := life.ctx.Err(); err != nil {
		return err
	}
	defer func() {
		for _, m := range members {
			m.pending = false
		}
		s.publish()
		s.watch()
	}()
	if lost == "" {
		return nil
	}
	if s.rollsBack() {
		s.commit(undo(s.world, before, after, c.hosts))
	}
	if lost = s.unreached(c.hosts); lost == "" {
		s.rollbacks++
		s.vcenter.event(s.rollbackEvent(c.hosts[0], c.method))
		return refuse(&types.NetworkDisruptedAndConfigRolledBack{Host: c.hosts[0]}, "%s cut %s off and was rolled back", c.method, c.hosts[0])
	}
	s.members[lost].pending = false
	s.setState(lost, types.HostSystemConnectionStateNotResponding)
	return refuse(&types.HostCommunication{}, "%s: %s does not answer any more", c.method, lost)
}

// connected refuses what the vCenter cannot do for want of a connection to the host.
func (s *site) connected(hostName string) error {
	if st := s.members[hostName].state; st != types.HostSystemConnectionStateConnected {
		return refuse(&types.HostNotConnected{}, "%s is %s", hostName, st)
	}
	if !s.reached(hostName) {
		return refuse(&types.HostCommunication{}, "%s does not answer", hostName)
	}
	return nil
}

// unreached names a host that the vCenter does not reach, or "".
func (s *site) unreached(hosts []string) string {
	for _, h := range hosts {
		if !s.reached(h) {
			return h
		}
	}
	return ""
}

// await waits until the vCenter reaches all of the hosts, at most for d, and names one that it does not reach. mu is
// held, and free while waiting.
func (s *site) await(life *life, hosts []string, d time.Duration) (lost string) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		if lost = s.unreached(hosts); lost == "" || d == 0 {
			return lost
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			d = 0
		case <-life.ctx.Done():
			d = 0
		}
		s.mu.Lock()
	}
}

// rollsBack reads the vCenter's setting, which an armed fault or a client may have turned off.
func (s *site) rollsBack() (on bool) {
	m := s.vcenter.reg.OptionManager()
	s.vcenter.reg.WithLock(s.vcenter.context(), m, func() {
		for _, o := range m.Setting {
			if v := o.GetOptionValue(); v.Key == rollbackOption {
				on = fmt.Sprint(v.Value) == "true"
			}
		}
	})
	return on
}

// setRollback turns the setting on or off.
func (s *site) setRollback(on bool) {
	m := s.vcenter.reg.OptionManager()
	s.vcenter.reg.WithLock(s.vcenter.context(), m, func() {
		for i, o := range m.Setting {
			if o.GetOptionValue().Key == rollbackOption { // replaced, since an answer may still be reading the old one
				m.Setting[i] = &types.OptionValue{Key: rollbackOption, Value: fmt.Sprint(on)}
			}
		}
	})
}

func (s *site) rollbackEvent(hostName, method string) types.BaseEvent {
	hs := s.vcenter.hosts[hostName]
	return &types.NetworkRollbackEvent{
		Event: types.Event{Host: &types.HostEventArgument{
			EntityEventArgument: types.EntityEventArgument{Name: hostName}, Host: hs.Self,
		}},
		MethodName: method, TransactionId: fmt.Sprint(74780 + s.rollbacks),
	}
}

// undo gives hosts and distributed switches the configuration they had before a change. What is not configuration
// stays: the cable, the links, whether they are on, and where VMs have been plugged since.
func undo(now, before, after *world, hosts []string) *world {
	w := now.clone()
	for _, name := range hosts {
		h := w.editHost(name)
		wire, pnics, system := h.wire, h.pnics, h.system
		*h = *before.host(name)
		h.wire, h.pnics, h.system = wire, pnics, system
	}
	for _, old := range before.switches {
		if after.dvs(old.uuid) == old {
			continue
		}
		d := w.editDVS(old.uuid)
		ports := d.ports
		*d = *old
		d.version++
		d.ports = slices.Clone(old.ports)
		for _, p := range ports {
			if d.port(p.key) == nil && d.group(p.group) != nil {
				d.ports = append(d.ports, p)
			}
		}
	}
	w.sweep()
	return w
}
