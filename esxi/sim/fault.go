package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// Fault is one thing that goes wrong, as tests and the command line arm it. Which fields a fault takes is told by
// Faults; the others must be left out.
type Fault struct {
	Fault  string `json:"fault"`
	Host   string `json:"host,omitempty"`
	VM     string `json:"vm,omitempty"`
	Pnic   string `json:"pnic,omitempty"`
	Path   string `json:"path,omitempty"`   // vcenter or esxi; both if unset
	Method string `json:"method,omitempty"` // an API method's name; any if unset
	Type   string `json:"type,omitempty"`   // an API fault's type name
	When   string `json:"when,omitempty"`
	State  string `json:"state,omitempty"`
	Call   int    `json:"call,omitempty"`  // the matching request that is struck, counted from 1 when the fault is armed
	Count  int    `json:"count,omitempty"` // how many are struck; 1 if unset
	VLAN   int    `json:"vlan,omitempty"`
	MS     int    `json:"ms,omitempty"` // milliseconds
	Bytes  int    `json:"bytes,omitempty"`
	VCH    string `json:"vch,omitempty"` // name of a VCH, which need not exist yet; any if unset

	Component string `json:"component,omitempty"` // port-layer, docker-personality or vicadmin
}

// kind describes a fault: its fields, required ones first with a star, and what it does.
type kind struct {
	name, fields, what string
}

var kinds = []kind{
	{"wire-vlan", "host* vlan*", "from the next network change on the host's cable ends in an access port: tagged frames are dropped"},
	{"link-down", "host* pnic* when", "the link goes down, now or with the next-change"},
	{"answer-lost", "method path call count", "the request is carried out, then the connection is cut"},
	{"fail-before", "method type path call count", "the request is answered with a fault and not carried out"},
	{"fail-call", "call* type path", "like fail-before, for the request with that number"},
	{"drop", "call* when path method", "the connection is cut before or after that request is carried out"},
	{"hold", "call* when path method", "that request hangs before or after it is carried out, until POST /release"},
	{"delay", "ms* path", "each request takes that much longer, half of it on the way there"},
	{"op-delay", "ms*", "each network change and VM reconfiguration takes that long"},
	{"rollback-off", "", "the vCenter does not undo network changes that cut a host off"},
	{"half-dead", "path", "the endpoint accepts connections and says nothing"},
	{"silent", "host", "a host that is cut off is silent, as on a real wire; without this its connections are reset"},
	{"vm-edit", "vm* count", "reconfiguring this VM fails"},
	{"busy", "host vm", "a task is running on the host or VM"},
	{"hide-dvs", "", "direct endpoints do not show distributed port groups"},
	{"vcenter-down", "", "the vCenter's endpoint is dead"},
	{"console-drop", "host* when call count", "the connection is cut before or after a report for that host's console is taken"},
	{"console-refuse", "host* call count", "a report for that host's console is not taken"},
	{"upload-broken", "bytes* path count", "the connection of an upload to a datastore is cut after that many bytes"},
	{"no-address", "vch count", "a VCH that boots gets no address"},
	{"component-fails", "component* vch count", "that component of a VCH that boots does not start"},
	{"boot-power-off", "vch count", "a VCH that boots powers itself off once it has its address"},
	{"firewall-closed", "host*", "the host's firewall has no rule set enabled that lets its VMs reach a VCH"},
	{"no-license", "", "the licence has no features for VCHs, as a free one"},
	{"host-state", "host* state*", "the vCenter shows the host as disconnected, or in maintenance"},
}

// Faults tells, a line each, which faults there are, their fields (* required) and what they do.
func Faults() []string {
	var lines []string
	for _, k := range kinds {
		lines = append(lines, fmt.Sprintf("%-15s %-30s %s", k.name, "{"+k.fields+"}", k.what))
	}
	return lines
}

// ParseFault reads a fault from JSON, strictly: a field that is unknown, or that this fault does not take, is an error.
func ParseFault(data []byte) (Fault, error) {
	var f Fault
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return f, fmt.Errorf("reading a fault: %w", err)
	}
	if dec.More() {
		return f, fmt.Errorf("reading a fault: more than one JSON value")
	}
	return f, f.check()
}

// given lists the fields that are set, by their JSON names.
func (f Fault) given() map[string]any {
	m := map[string]any{}
	raw, _ := json.Marshal(f) // strings and ints only: cannot fail
	_ = json.Unmarshal(raw, &m)
	delete(m, "fault")
	return m
}

func (f Fault) check() error {
	at := slices.IndexFunc(kinds, func(k kind) bool { return k.name == f.Fault })
	if at < 0 {
		return fmt.Errorf("there is no fault %q", f.Fault)
	}
	given := f.given()
	allowed := map[string]bool{}
	for field := range strings.FieldsSeq(kinds[at].fields) {
		name, required := strings.CutSuffix(field, "*")
		allowed[name] = true
		if _, ok := given[name]; required && !ok {
			return fmt.Errorf("fault %s needs %q", f.Fault, name)
		}
	}
	for name := range given {
		if !allowed[name] {
			return fmt.Errorf("fault %s takes no %q", f.Fault, name)
		}
	}
	one := func(name, v string, of ...string) error {
		if v == "" || slices.Contains(of, v) {
			return nil
		}
		return fmt.Errorf("fault %s: %s is %s, not %q", f.Fault, name, strings.Join(of, " or "), v)
	}
	whens := []string{"before", "after"}
	if f.Fault == "link-down" {
		whens = []string{"now", "next-change"}
	}
	if err := one("when", f.When, whens...); err != nil {
		return err
	}
	if err := one("path", f.Path, "vcenter", "esxi"); err != nil {
		return err
	}
	if err := one("state", f.State, "disconnected", "maintenance"); err != nil {
		return err
	}
	if err := one("component", f.Component, "port-layer", "docker-personality", "vicadmin"); err != nil {
		return err
	}
	if f.Type != "" && faultNamed(f.Type) == nil {
		return fmt.Errorf("fault %s: the API has no fault %q", f.Fault, f.Type)
	}
	for name, n := range map[string]int{"call": f.Call, "count": f.Count, "ms": f.MS, "bytes": f.Bytes, "vlan": f.VLAN} {
		if n < 0 || name == "vlan" && n > 4094 {
			return fmt.Errorf("fault %s: %s cannot be %d", f.Fault, name, n)
		}
	}
	if f.Fault == "busy" && (f.Host == "") == (f.VM == "") {
		return fmt.Errorf("fault busy needs a host or a vm")
	}
	return nil
}

// faultNamed makes an API fault from its type's name.
func faultNamed(name string) types.BaseMethodFault {
	t, ok := types.TypeFunc()(name)
	if !ok {
		return nil
	}
	f, _ := reflect.New(t).Interface().(types.BaseMethodFault)
	return f
}

// faultSet holds the faults that are armed.
type faultSet struct {
	mu    sync.Mutex
	armed []*armedFault
}

type armedFault struct {
	Fault
	Seen  int  `json:"seen"`  // matching requests since it was armed
	Fired int  `json:"fired"` // how often it has struck
	done  bool // nothing is left of it to strike
	hold  chan struct{}
}

func (s *faultSet) find(name string) *armedFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.armed {
		if f.Fault.Fault == name {
			return f
		}
	}
	return nil
}

func (s *faultSet) has(name string) bool { return s.find(name) != nil }

func (s *faultSet) disconnected(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.armed, func(f *armedFault) bool {
		return f.Fault.Fault == "host-state" && f.Host == host && f.State == "disconnected"
	})
}

func (s *faultSet) opDelay() time.Duration {
	if f := s.find("op-delay"); f != nil {
		return time.Duration(f.MS) * time.Millisecond
	}
	return 0
}

// silent says whether a host that is cut off hangs instead of resetting connections.
func (s *faultSet) silent(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.armed, func(f *armedFault) bool {
		return f.Fault.Fault == "silent" && (f.Host == "" || f.Host == host)
	})
}

func (s *faultSet) halfDead(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.armed, func(f *armedFault) bool {
		return f.Fault.Fault == "half-dead" && (f.Path == "" || f.Path == path)
	})
}

// vmEdit fails an edit of a VM while such a fault is armed for it.
func (s *faultSet) vmEdit(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.armed {
		if f.Fault.Fault == "vm-edit" && f.VM == name && !f.done {
			f.Fired++
			f.done = f.Count > 0 && f.Fired >= f.Count
			return refuse(&types.GenericVmConfigFault{Reason: "armed fault"}, "reconfiguring %s fails, as armed", name)
		}
	}
	return nil
}

// strike lets the faults that wait for a host's next network change happen to w.
func (s *faultSet) strike(w *world, hostName string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.armed {
		if f.Host != hostName || f.done {
			continue
		}
		switch {
		case f.Fault.Fault == "wire-vlan":
			w.editHost(hostName).wire.access = f.VLAN
		case f.Fault.Fault == "link-down" && f.When == "next-change":
			w.editHost(hostName).pnic(f.Pnic).mbps = 0
		default:
			continue
		}
		f.Fired++
		f.done = true
	}
}

// strikes is what the armed faults do to one request.
type strikes struct {
	fault                 types.BaseMethodFault
	dropBefore, dropAfter bool
	before, after         chan struct{} // the request hangs until these are closed
	untaken               bool          // a keyboard report
	delay                 time.Duration
}

// request counts a request with every fault that could strike it and says what happens to it.
func (s *faultSet) request(path, method string) strikes {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st strikes
	for _, f := range s.armed {
		name := f.Fault.Fault
		if f.Path != "" && f.Path != path {
			continue
		}
		if name == "delay" {
			st.delay += time.Duration(f.MS) * time.Millisecond
			continue
		}
		if !slices.Contains([]string{"answer-lost", "fail-before", "fail-call", "drop", "hold"}, name) || f.done {
			continue
		}
		if f.Method != "" && f.Method != method {
			continue
		}
		f.Seen++
		if f.Seen < max(f.Call, 1) {
			continue
		}
		f.Fired++
		f.done = f.Fired >= max(f.Count, 1)
		switch name {
		case "answer-lost":
			st.dropAfter = true
		case "fail-before", "fail-call":
			st.fault = faultNamed(f.Type)
			if st.fault == nil {
				st.fault = &types.SystemError{Reason: "armed fault"}
			}
		case "drop":
			st.dropBefore, st.dropAfter = f.When != "after", f.When == "after"
		case "hold":
			if f.When == "after" {
				st.after = f.hold
			} else {
				st.before = f.hold
			}
		}
	}
	return st
}

// console counts a keyboard report for a console and says what happens to it.
func (s *faultSet) console(name string) strikes {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st strikes
	for _, f := range s.armed {
		if f.Host != name || f.done || f.Fault.Fault != "console-drop" && f.Fault.Fault != "console-refuse" {
			continue
		}
		f.Seen++
		if f.Seen < max(f.Call, 1) {
			continue
		}
		f.Fired++
		f.done = f.Fired >= max(f.Count, 1)
		switch {
		case f.Fault.Fault == "console-refuse":
			st.untaken = true
		case f.When == "after":
			st.dropAfter = true
		default:
			st.dropBefore = true
		}
	}
	return st
}

// held waits for a hold to be released; false means that the request has lost its client or its lab meanwhile.
func (e *endpoint) held(hold chan struct{}, r *http.Request, life *life) bool {
	if hold == nil {
		return true
	}
	e.lab.held.Add(1)
	defer e.lab.held.Add(-1)
	select {
	case <-hold:
		return true
	case <-r.Context().Done():
		return false
	case <-life.ctx.Done():
		return false
	}
}

// boots says whether such a fault strikes a VCH that boots.
func (s *faultSet) boots(name, vch, component string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.armed {
		if f.Fault.Fault != name || f.done || f.VCH != "" && f.VCH != vch || f.Component != component {
			continue
		}
		f.Fired++
		f.done = f.Count > 0 && f.Fired >= f.Count
		return true
	}
	return false
}

// uploadBreaks says after how many bytes an upload is cut, if it is.
func (s *faultSet) uploadBreaks(path string) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.armed {
		if f.Fault.Fault == "upload-broken" && !f.done && (f.Path == "" || f.Path == path) {
			f.Fired++
			f.done = f.Fired >= max(f.Count, 1)
			return int64(f.Bytes), true
		}
	}
	return 0, false
}

func (s *faultSet) arm(f Fault) *armedFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &armedFault{Fault: f, hold: make(chan struct{})}
	s.armed = append(s.armed, a)
	return a
}

// clear disarms everything and lets held requests go.
func (s *faultSet) clear() {
	s.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = nil
}

// release lets held requests go.
func (s *faultSet) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.armed {
		close(f.hold)
		f.hold = make(chan struct{})
	}
}

// knows refuses a fault that names something the site does not have.
func (s *site) knows(f Fault) error {
	if strings.HasPrefix(f.Fault, "console-") {
		if s.desk(f.Host) == nil {
			return fmt.Errorf("fault %s: there is no console %q", f.Fault, f.Host)
		}
		return nil
	}
	if f.Host != "" && s.world.host(f.Host) == nil {
		return fmt.Errorf("fault %s: there is no host %q", f.Fault, f.Host)
	}
	if f.Pnic != "" && s.world.host(f.Host).pnic(f.Pnic) == nil {
		return fmt.Errorf("fault %s: %s has no physical adapter %q", f.Fault, f.Host, f.Pnic)
	}
	if f.VM != "" && !slices.ContainsFunc(s.world.vms, func(v *vm) bool { return v.name == f.VM }) {
		return fmt.Errorf("fault %s: there is no VM %q", f.Fault, f.VM)
	}
	return nil
}

// afflict lets a fault that was armed just now take effect, as far as it does so at once. mu is held.
func (s *site) afflict(f *armedFault) {
	w := s.world
	switch f.Fault.Fault {
	case "link-down":
		if f.When != "next-change" {
			w = w.clone()
			w.editHost(f.Host).pnic(f.Pnic).mbps = 0
			f.Fired, f.done = 1, true
		}
	case "rollback-off":
		s.setRollback(false)
	case "hide-dvs":
		s.hideFrom(true)
	case "host-state":
		s.maintain(f.Host, f.State == "maintenance")
	case "busy":
		s.keepBusy(f)
	case "firewall-closed":
		s.closeFirewall(f.Host, true)
	case "no-license":
		s.license(false)
	}
	s.commit(w)
}

// heal undoes what faults did to cables, links and hosts. mu is held.
func (s *site) heal() {
	w := s.world.clone()
	for _, h := range s.world.hosts {
		c := w.editHost(h.name)
		c.wire = wire{}
		for i := range c.pnics {
			c.pnics[i].mbps = linkMbps
		}
		s.maintain(h.name, false)
		s.closeFirewall(h.name, false)
	}
	s.license(true)
	s.hideFrom(false)
	s.setRollback(true)
	s.commit(w)
}

// hideFrom makes hosts show distributed port groups or not.
func (s *site) hideFrom(hide bool) {
	if s.hideDVS == hide {
		return
	}
	s.hideDVS = hide
	for _, in := range s.direct {
		in.shown = nil // everything that names a port group is to be shown anew
	}
}

// maintain shows a host in maintenance mode or out of it.
func (s *site) maintain(name string, on bool) {
	for _, in := range []*inventory{s.vcenter, s.direct[name]} {
		if hs := in.hosts[name]; hs.Runtime.InMaintenanceMode != on {
			in.update(hs, prop("runtime.inMaintenanceMode", on))
		}
	}
}

// keepBusy shows a task running on a host or VM until the fault is disarmed or released.
func (s *site) keepBusy(f *armedFault) {
	hold, life := f.hold, s.life.Load()
	for _, in := range s.inventories() {
		var ref types.ManagedObjectReference
		if f.Host != "" {
			if hs := in.hosts[f.Host]; hs != nil {
				ref = hs.Self
			}
		}
		for id, r := range in.refs {
			if v := s.world.vm(id); v != nil && v.name == f.VM {
				ref = r
			}
		}
		if ref.Value == "" {
			continue
		}
		in.startTask(ref, "reconfigure", func() (types.AnyType, error) {
			select {
			case <-hold:
			case <-life.ctx.Done():
			}
			return nil, nil
		})
	}
}
