package sim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// site is one life of a lab, from its start or a reset to the next reset: a world and the inventories that show it.
type site struct {
	lab    *Lab
	dir    string // datastore files
	ctx    context.Context
	cancel context.CancelFunc

	// mu guards what follows and everything published: a reader of properties sees one world, never half a change.
	mu      sync.RWMutex
	world   *world
	seen    *world // the world as the vCenter knows it: hosts it cannot reach are as it last saw them
	vcenter *inventory
	direct  map[string]*inventory
	members map[string]*member
	dark    map[string]*darkness
	changed chan struct{} // closed and replaced at each commit

	rollbacks int
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
	s := &site{
		lab: l, world: st.w, seen: st.w,
		direct:  map[string]*inventory{},
		members: map[string]*member{},
		dark:    map[string]*darkness{},
		changed: make(chan struct{}),
	}
	if s.dir, err = os.MkdirTemp("", "labsim-"); err != nil {
		return nil, fmt.Errorf("making room for datastores: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, h := range st.w.hosts {
		if err := os.Mkdir(s.dirOf(h.name), 0o700); err != nil {
			s.close()
			return nil, fmt.Errorf("making room for datastores: %w", err)
		}
		s.members[h.name] = &member{state: types.HostSystemConnectionStateConnected}
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

func (s *site) close() {
	s.cancel()
	_ = os.RemoveAll(s.dir)
}

func (s *site) dirOf(host string) string { return filepath.Join(s.dir, host) }

// datastoreOf names a host's local datastore: as on real hosts the first is datastore1, a vCenter numbers the others.
func (s *site) datastoreOf(name string) string {
	i := slices.IndexFunc(s.world.hosts, func(h *host) bool { return h.name == name })
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
		time.AfterFunc(after, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			m.waiting = false
			if s.ctx.Err() != nil || m.pending {
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

// change runs one network change on a host, through the vCenter or directly. eval gets the world as it is when the
// host's turn has come.
//
// Through the vCenter the change is a transaction: unless the vCenter reaches the host afterwards, the host undoes it
// when the timer ends. In a direct session nobody undoes anything.
func (s *site) change(hostName, method string, direct bool, eval func(*world) (*world, error)) error {
	m := s.members[hostName]
	m.busy.Lock()
	defer m.busy.Unlock()
	if err := s.sleep(s.lab.faults.opDelay()); err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if !direct {
		if err := s.connected(hostName); err != nil {
			return err
		}
	}
	before := s.world
	after, err := eval(before)
	if err != nil {
		return err
	}
	s.lab.faults.strike(after, hostName)
	m.pending = !direct
	s.commit(after)
	if direct {
		return nil
	}
	defer func() { m.pending = false; s.publish(); s.watch() }()
	if s.await(hostName, s.lab.opt.RollbackAfter) {
		return nil
	}
	if s.rollsBack() {
		s.commit(undo(s.world, before, hostName))
		if s.reached(hostName) {
			s.rollbacks++
			s.vcenter.event(s.rollbackEvent(hostName, method))
			return refuse(&types.NetworkDisruptedAndConfigRolledBack{Host: hostName},
				"%s cut %s off and was rolled back", method, hostName)
		}
	}
	m.pending = false
	s.setState(hostName, types.HostSystemConnectionStateNotResponding)
	return refuse(&types.HostCommunication{}, "%s: %s does not answer any more", method, hostName)
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

// await waits until the vCenter reaches the host, at most for d. mu is held, and free while waiting.
func (s *site) await(hostName string, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for !s.reached(hostName) {
		changed := s.changed
		s.mu.Unlock()
		over := false
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-s.ctx.Done():
			over = true
		}
		s.mu.Lock()
		if over {
			return s.reached(hostName)
		}
	}
	return true
}

// sleep waits without holding anything, and fails if the site ends meanwhile.
func (s *site) sleep(d time.Duration) error {
	if d <= 0 {
		return s.ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// rollsBack reads the vCenter's setting, which an armed fault or a client may have turned off.
func (s *site) rollsBack() bool {
	if s.lab.faults.has("rollback-off") {
		return false
	}
	for _, o := range s.vcenter.reg.OptionManager().Setting {
		if v := o.GetOptionValue(); v.Key == rollbackOption {
			return fmt.Sprint(v.Value) == "true"
		}
	}
	return true
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

// undo gives a host the network configuration it had before. What is not configuration stays: the cable, the links,
// where VMs have been plugged since.
func undo(now, before *world, hostName string) *world {
	w := now.clone()
	h := w.editHost(hostName)
	old := before.host(hostName)
	wire, pnics := h.wire, h.pnics
	*h = *old
	h.wire, h.pnics = wire, pnics
	for _, k := range h.vmks { // a port made at run time went with its adapter and comes back with it
		if a := k.attachment(); a.dvs != "" {
			if d := w.dvs(a.dvs); d != nil && d.port(a.port) == nil {
				d = w.editDVS(a.dvs)
				d.ports = append(d.ports, *before.dvs(a.dvs).port(a.port))
			}
		}
	}
	for _, p := range h.proxies { // and so does a membership
		if d := w.dvs(p.dvs); d != nil && !slices.Contains(d.members, hostName) {
			d = w.editDVS(p.dvs)
			d.members = append(d.members, hostName)
			d.ports = append(d.ports, before.dvs(p.dvs).uplinkPorts(hostName)...)
		}
	}
	w.sweep()
	return w
}
