// Package sim is a homelab in a box, for tests and demonstrations: a vCenter and, for each of its ESXi hosts, the
// host's own endpoint, on loopback, sharing one true network in which a careless change strands the host.
//
// Start fails if the scene is unknown or an address cannot be listened on. After that, what goes wrong is what was
// asked for: refusals come as API faults, a host that is cut off stops answering, and armed faults strike.
package sim

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what lab to start. The zero value is the nuc scene on free ports of 127.0.0.1.
type Options struct {
	Scene string // one of Scenes; nuc if empty
	VMs   int    // VMs per host; 3 if zero, none if negative

	Listen  string // address of the vCenter; the hosts take the ports after it. Free ports if empty or port 0
	Control string // address of the control server; a free port if empty

	RollbackAfter  time.Duration // how long a host waits for the vCenter's commit; 1 s if zero (about 30 s in reality)
	ReconnectAfter time.Duration // until the vCenter has reconnected a host that is back; 1 s if zero
	Boot           time.Duration // what a VCH takes from power-on to its Docker endpoint; 1 s if zero (about a minute in reality)
	LostAfter      time.Duration // until the vCenter notices that a host is gone; 1 s if zero (about 60 s in reality)
	BootAfter      time.Duration // until a host that restarts is back; 3 s if zero (some minutes in reality)

	Console func(Machine) (Console, error) // opens a machine's console; without it no machine has one
}

// Scene is a lab that can be started.
type Scene struct{ Name, Summary string }

// Scenes lists the labs that can be started.
func Scenes() []Scene {
	list := make([]Scene, len(scenes))
	for i, s := range scenes {
		list[i] = Scene{s.name, s.summary}
	}
	return list
}

// Endpoint is how to reach a part of a lab.
type Endpoint struct {
	Name       string // the host's name in the vCenter's inventory; "vcenter" for the vCenter
	URL        string
	User       string
	Password   string
	Thumbprint string // SHA-256 of its certificate, colon hex
}

// Lab is a running lab.
type Lab struct {
	opt     Options
	vcenter *endpoint
	hosts   []*endpoint
	control *control
	faults  faultSet
	held    atomic.Int64
	seed    string // of the passwords of nested hosts

	leases sync.Mutex
	next   int // which address a VCH is offered next

	mu    sync.Mutex // one of Reset, Arm, Disarm and Close at a time
	site  atomic.Pointer[site]
	tally tally
}

// Start starts a lab. It ends when ctx does, or by Close.
func Start(ctx context.Context, opt Options) (*Lab, error) {
	if opt.Scene == "" {
		opt.Scene = "nuc"
	}
	switch {
	case opt.VMs == 0:
		opt.VMs = 3
	case opt.VMs < 0:
		opt.VMs = 0
	}
	for _, d := range []*time.Duration{&opt.RollbackAfter, &opt.ReconnectAfter, &opt.LostAfter} {
		if *d == 0 {
			*d = time.Second
		}
	}
	if opt.BootAfter == 0 {
		opt.BootAfter = 3 * time.Second
	}
	if opt.Boot == 0 {
		opt.Boot = time.Second
	}
	l := &Lab{opt: opt}
	var err error
	if l.seed, err = secret(); err != nil {
		return nil, err
	}
	s, err := newSite(l)
	if err != nil {
		return nil, fmt.Errorf("building scene %s: %w", opt.Scene, err)
	}
	if err := l.listen(s); err != nil {
		l.Close()
		s.close()
		return nil, err
	}
	if err := s.openDesks(); err != nil {
		l.Close()
		s.close()
		return nil, err
	}
	l.install(s)
	for _, e := range l.endpoints() {
		go e.serve()
	}
	go l.control.serve()
	context.AfterFunc(ctx, l.Close)
	if err := s.furnishVCHs(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lab) listen(s *site) error {
	addrs, err := addresses(l.opt.Listen, 1+len(s.world.hosts))
	if err != nil {
		return err
	}
	if l.vcenter, err = newEndpoint(l, "", addrs[0]); err != nil {
		return err
	}
	for i, h := range s.world.hosts {
		e, err := newEndpoint(l, h.name, addrs[1+i])
		if err != nil {
			return err
		}
		l.hosts = append(l.hosts, e)
	}
	l.control, err = newControl(l, l.opt.Control)
	return err
}

// addresses makes n addresses from the first: consecutive ports, or free ones.
func addresses(first string, n int) ([]string, error) {
	if first == "" {
		first = "127.0.0.1:0"
	}
	host, port, err := net.SplitHostPort(first)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %w", first, err)
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: the port is a number", first)
	}
	if err := loopback(host); err != nil {
		return nil, err
	}
	list := make([]string, n)
	for i := range list {
		next := p
		if p != 0 {
			next = p + i
		}
		list[i] = net.JoinHostPort(host, strconv.Itoa(next))
	}
	return list, nil
}

// loopback refuses addresses that others on the network could reach.
func loopback(host string) error {
	if host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%q is not a loopback address: a lab is for this machine only", host)
}

func (l *Lab) endpoints() []*endpoint {
	var all []*endpoint
	if l.vcenter != nil {
		all = append(all, l.vcenter)
	}
	return append(all, l.hosts...)
}

// install puts a site behind the endpoints.
func (l *Lab) install(s *site) {
	for _, e := range l.endpoints() {
		in := s.vcenter
		if e.host != "" {
			in = s.direct[e.host]
		}
		e.current.Store(&served{site: s, in: in, handler: e.handlerOf(in)})
	}
	l.site.Store(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account(time.Now())
	l.regate(s)
	s.watch()
}

// regate sets each wire to what the world and the armed faults make of it. The site's lock is held.
func (l *Lab) regate(s *site) {
	if l.site.Load() != s {
		return
	}
	lost := func(silent bool) gateState {
		if silent {
			return gateSilent
		}
		return gateCut
	}
	for _, e := range l.hosts {
		state := gateOpen
		if ok, _ := s.world.management(e.host); !ok {
			state = lost(l.faults.silent(e.host))
		} else if l.faults.halfDead("esxi") {
			state = gateSilent
		}
		e.gate.turn(state)
	}
	state := gateOpen
	switch {
	case l.faults.has("vcenter-down"), s.unmanaged:
		state = gateCut
	case !s.vcenterLit():
		state = lost(l.faults.silent(""))
	case l.faults.halfDead("vcenter"):
		state = gateSilent
	}
	l.vcenter.gate.turn(state)
}

// Close ends the lab and frees its addresses.
func (l *Lab) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.endpoints() {
		_ = e.server.Close()
		_ = e.gate.Listener.Close()
		e.gate.reset()
	}
	if l.control != nil {
		l.control.close()
	}
	if s := l.site.Load(); s != nil {
		s.close()
	}
}

// Reset starts the scene anew: worlds as at the start, all faults disarmed, counts at zero. Addresses, certificates
// and credentials stay; logins end.
func (l *Lab) Reset() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.site.Load()
	if old.life.Load().ctx.Err() != nil {
		return errClosed
	}
	restored, err := old.restore()
	if err != nil {
		return fmt.Errorf("resetting the lab: %w", err)
	}
	if !restored {
		s, err := newSite(l)
		if err != nil {
			return fmt.Errorf("resetting the lab: %w", err)
		}
		if err := s.openDesks(); err != nil {
			s.close()
			return fmt.Errorf("resetting the lab: %w", err)
		}
		l.faults.clear()
		l.install(s)
		old.close()
		if err := s.furnishVCHs(); err != nil {
			return fmt.Errorf("resetting the lab: %w", err)
		}
	}
	l.tally.clear()
	return nil
}

// Arm arms a fault.
func (l *Lab) Arm(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.site.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.knows(f); err != nil {
		return err
	}
	s.afflict(l.faults.arm(f))
	return nil
}

// Disarm disarms all faults: requests that were held go on, cables and links are as they were, and the vCenter
// reconnects the hosts it can reach again.
func (l *Lab) Disarm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.site.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	l.faults.clear()
	s.heal()
}

// VCenter is the vCenter's endpoint.
func (l *Lab) VCenter() Endpoint { return l.vcenter.public("vcenter") }

// Hosts are the endpoints of the hosts, in the order of their names.
func (l *Lab) Hosts() []Endpoint {
	var list []Endpoint
	for _, e := range l.hosts {
		list = append(list, e.public(e.host))
	}
	return list
}

// ControlAddr is the address of the control server.
func (l *Lab) ControlAddr() string { return l.control.listener.Addr().String() }

func (e *endpoint) public(name string) Endpoint {
	return Endpoint{Name: name, URL: e.url(), User: e.user, Password: e.password, Thumbprint: e.thumbprint()}
}
