package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Console is the direct console of one machine, with the keyboard that is plugged into it. The lab runs the console
// and the machine's network as one world: what keys do is told as deeds, which the lab carries out, and the console is
// told what has become of the machine by any way. The lab calls one method at a time, and none while the machine is
// off or booting.
type Console interface {
	// Report takes an input report of a boot keyboard (HID 1.11, appendix B.1).
	Report(report [8]byte) []Deed
	// Key takes one key, pressed and released with its modifiers; both numbers are those of USB HID.
	Key(usage, modifiers byte) []Deed
	// Learn tells facts of the machine that have changed, by labctl's names for them.
	Learn(facts map[string]string)
	// Boot is the end of a start: the keyboard is a new one to the machine, nobody is logged in.
	Boot()
	// View shows what the screen and the keyboard's lights show.
	View() View
	// Picture is the screen in pixels, 8×16 of them for each character.
	Picture() image.Image
}

// View is what a console shows.
type View struct {
	Screen string   // its name
	LEDs   byte     // lock lights: bit 0 Num, 1 Caps, 2 Scroll Lock
	Text   []string // 25 rows of up to 80 characters
}

// Deed is something that keys at a console did to its machine. What is the name that labctl has for the effect; a name
// that the lab does not know is noted and does nothing.
type Deed struct {
	What string
	// Settings are those of the management network that a confirm changed: adapters (with commas), vlan; ipv4 (off,
	// dhcp or static) with address, netmask and gateway; dns1 and dns2. Those of a restored distributed switch are
	// adapters and vlan.
	Settings map[string]string
	Password string // of root, after "password changed"
}

// Machine is what a console must know of its machine.
type Machine struct {
	Name     string
	Password string            // of root
	Facts    map[string]string // every fact that labctl knows of a console
}

// The deeds that mean something to the lab.
const (
	deedStandard    = "standard switch restored"
	deedDistributed = "distributed switch restored"
	deedWiped       = "all networking wiped"
	deedReset       = "system configuration reset"
	deedNetwork     = "management network changed"
	deedRestartNet  = "management network restarted"
	deedAgents      = "management agents restarted"
	deedRestart     = "host restarted"
	deedShutDown    = "host shut down"
	deedPassword    = "password changed"
)

// toggles are the deeds that set a fact.
var toggles = map[string]struct{ fact, value string }{
	"ssh on": {"ssh", "on"}, "ssh off": {"ssh", "off"}, "shell on": {"shell", "on"}, "shell off": {"shell", "off"},
	"lockdown on": {"lockdown", "normal"}, "lockdown off": {"lockdown", "off"},
}

// seedFacts are those of the host on which the first lab's recipe is known to have worked.
var seedFacts = map[string]string{
	"esxi": "6.0", "console": "local", "vcenter": "yes", "lockdown": "off", "lockdown_item": "dimmed", "management": "distributed",
	"wrap": "no", "screen": "welcome", "caps": "off", "layout": "us", "shell": "off", "ssh": "off",
}

// system is how a machine is apart from its network. The zero system is up.
type system struct {
	power    power
	agents   bool // hostd is restarting
	ssh      bool
	shell    bool
	lockdown bool
	password *string // of root, where a key has changed it
}

type power int

const (
	powerOn power = iota
	powerOff
	powerBooting
)

func (p power) String() string { return [...]string{"on", "off", "booting"}[p] }

// agentsTime is how long hostd takes to restart. In reality it is about 30 s.
const agentsTime = 500 * time.Millisecond

// desk is a console in the lab: of a host, or of a VM in which ESXi runs.
type desk struct {
	name    string
	host    string // whose console it is, or on which the VM runs
	vm      string // id of the VM, "" for a host's own
	con     Console
	told    map[string]string // the facts that it knows
	deeds   []string          // in the order in which they were done
	on      bool              // the VM had power at the last commit
	booting bool              // the VM
}

// desks puts consoles in front of the site's machines. mu is held, or the site is not shown yet.
func (s *site) openDesks() error {
	s.desks = nil
	if s.lab.opt.Console == nil {
		return nil
	}
	add := func(d *desk, password string, facts map[string]string) error {
		con, err := s.lab.opt.Console(Machine{Name: d.name, Password: password, Facts: facts})
		if err != nil {
			return fmt.Errorf("opening the console of %s: %w", d.name, err)
		}
		d.con, d.told, d.on = con, maps.Clone(facts), true
		s.desks = append(s.desks, d)
		return nil
	}
	for _, h := range s.world.hosts {
		if err := add(&desk{name: h.name, host: h.name}, s.lab.hostEndpoint(h.name).password, s.hostFacts(h)); err != nil {
			return err
		}
	}
	for _, v := range s.world.vms {
		if !v.esxi {
			continue
		}
		if err := add(&desk{name: v.name, host: v.host, vm: v.id}, s.lab.nestedPassword(v.name), maps.Clone(seedFacts)); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) desk(name string) *desk {
	for _, d := range s.desks {
		if d.name == name {
			return d
		}
	}
	return nil
}

// hostFacts is what a host's console would tell about it.
func (s *site) hostFacts(h *host) map[string]string {
	f := maps.Clone(seedFacts)
	onOff := map[bool]string{false: "off", true: "on"}
	f["ssh"], f["shell"] = onOff[h.system.ssh], onOff[h.system.shell]
	if h.system.lockdown {
		f["lockdown"] = "normal"
	}
	f["management"] = "none"
	if k := h.vmk("vmk0"); k != nil {
		f["management"] = s.world.place(h, k.attachment()).kind
	}
	return f
}

// power says whether a desk's machine runs.
func (s *site) powered(d *desk) power {
	h := s.world.host(d.host)
	if d.vm == "" || h.system.power != powerOn {
		return h.system.power
	}
	switch v := s.world.vm(d.vm); {
	case v == nil || !v.on:
		return powerOff
	case d.booting:
		return powerBooting
	}
	return powerOn
}

// attend brings the consoles up to date with the world: what has changed on a host, and which VM was turned off or on.
// mu is held.
func (s *site) attend() {
	for _, d := range s.desks {
		if d.vm == "" {
			now := s.hostFacts(s.world.host(d.host))
			news := map[string]string{}
			for name, value := range now {
				if d.told[name] != value {
					news[name] = value
				}
			}
			if len(news) > 0 {
				d.told = now
				d.con.Learn(news)
			}
			continue
		}
		v := s.world.vm(d.vm)
		on := v != nil && v.on && s.world.host(d.host).system.power == powerOn
		if on && !d.on {
			s.bootVM(d)
		}
		d.on = on
	}
}

// bootVM starts what runs in a VM anew. mu is held.
func (s *site) bootVM(d *desk) {
	d.booting = true
	s.later(s.lab.opt.BootAfter, func() {
		if s.desk(d.name) == d && d.booting {
			d.booting = false
			d.con.Boot()
		}
	})
}

// later does something after a while in this life of the site, with mu held.
func (s *site) later(after time.Duration, do func()) {
	life := s.life.Load()
	time.AfterFunc(after, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if life.ctx.Err() == nil {
			do()
		}
	})
}

// perform carries out what keys did. mu is held.
func (s *site) perform(d *desk, deeds []Deed) {
	if len(deeds) == 0 {
		return
	}
	for _, deed := range deeds {
		d.deeds = append(d.deeds, deed.What)
	}
	if d.vm != "" {
		s.performVM(d, deeds)
		return
	}
	w := s.world.clone()
	for _, deed := range deeds {
		s.performHost(w, w.editHost(d.host), deed)
	}
	w.sweep()
	s.commit(w)
}

// performVM carries out what keys did to an ESXi that runs in a VM. Its network is none of the lab's: only its power
// counts here, and what there is to know about it.
func (s *site) performVM(d *desk, deeds []Deed) {
	for _, deed := range deeds {
		if t, ok := toggles[deed.What]; ok {
			d.told[t.fact] = t.value
		}
		switch deed.What {
		case deedStandard, deedWiped, deedReset:
			d.told["management"] = "standard"
		}
		if deed.What == deedReset {
			d.told["ssh"], d.told["shell"], d.told["lockdown"] = "off", "off", "off"
		}
		switch deed.What {
		case deedRestart, deedReset:
			s.bootVM(d)
		case deedShutDown:
			w := s.world.clone()
			v := w.editVM(d.vm)
			v.on = false
			for i := range v.nics {
				v.nics[i].connect.Connected = false
			}
			s.commit(w)
		}
	}
}

// performHost carries out one deed on a host of a world that is being changed.
func (s *site) performHost(w *world, h *host, deed Deed) {
	if t, ok := toggles[deed.What]; ok {
		switch on := t.value != "off"; t.fact {
		case "ssh":
			h.system.ssh = on
		case "shell":
			h.system.shell = on
		case "lockdown":
			h.system.lockdown = on
		}
	}
	switch deed.What {
	case deedStandard, deedDistributed, deedWiped, deedReset, deedNetwork:
		s.lab.faults.strike(w, h.name)
		h = w.host(h.name)
	}
	switch deed.What {
	case deedStandard:
		w.restoreStandard(h)
	case deedDistributed:
		w.restoreDistributed(h, deed.Settings)
	case deedWiped:
		w.wipe(h)
	case deedReset:
		w.wipe(h)
		none := ""
		h.system = system{password: &none}
		s.boot(h)
	case deedNetwork:
		w.confirm(h, deed.Settings)
	case deedRestartNet:
		w.renew(h)
		s.lab.hostEndpoint(h.name).gate.reset()
	case deedAgents:
		h.system.agents = true
		s.lab.hostEndpoint(h.name).expel()
		s.later(agentsTime, func() { s.alter(h.name, func(y *system) { y.agents = false }) })
	case deedPassword:
		h.system.password = &deed.Password
	case deedRestart:
		s.boot(h)
	case deedShutDown:
		h.system.power = powerOff
		s.lab.hostEndpoint(h.name).expel()
	}
}

// boot lets a host restart: its console and VMs are back when it is.
func (s *site) boot(h *host) {
	h.system.power, h.system.agents = powerBooting, false
	s.lab.hostEndpoint(h.name).expel()
	s.later(s.lab.opt.BootAfter, func() {
		if s.world.host(h.name).system.power != powerBooting {
			return
		}
		s.alter(h.name, func(y *system) { y.power = powerOn })
		if d := s.desk(h.name); d != nil {
			d.con.Boot()
		}
	})
}

// alter changes how a host is apart from its network. mu is held.
func (s *site) alter(hostName string, change func(*system)) {
	w := s.world.clone()
	change(&w.editHost(hostName).system)
	s.commit(w)
}

// errUntaken is for keys that no machine listens to.
var errUntaken = errors.New("no machine takes keys there")

// key gives one input to a console, as a machine takes it: one that boots takes keys and ignores them, one that is off
// takes none. mu is held.
func (s *site) key(d *desk, input func(Console) []Deed) error {
	switch s.powered(d) {
	case powerOff:
		return fmt.Errorf("%s is off: %w", d.name, errUntaken)
	case powerOn:
		s.perform(d, input(d.con))
	}
	return nil
}

// view is what a desk shows; a machine that is off or boots shows nothing that a program could read.
func (s *site) view(d *desk) View {
	if p := s.powered(d); p != powerOn {
		return View{Screen: p.String(), Text: make([]string, 25)}
	}
	return d.con.View()
}

// consoleState is the answer to GET /console.
type consoleState struct {
	Host    string   `json:"host"`
	Screen  string   `json:"screen"`
	LEDs    byte     `json:"leds"`
	Text    []string `json:"text"`
	Effects []string `json:"effects"` // what keys did since the last reset, in order
}

func (l *Lab) consoles(mux *http.ServeMux) {
	mux.HandleFunc("GET /console/{host}", func(w http.ResponseWriter, r *http.Request) {
		s := l.site.Load()
		s.mu.Lock()
		d := s.desk(r.PathValue("host"))
		if d == nil {
			s.mu.Unlock()
			problem(w, http.StatusNotFound, fmt.Errorf("there is no console %q", r.PathValue("host")))
			return
		}
		v := s.view(d)
		st := consoleState{Host: d.name, Screen: v.Screen, LEDs: v.LEDs, Text: v.Text, Effects: append([]string{}, d.deeds...)}
		s.mu.Unlock()
		reply(w, st)
	})
	mux.HandleFunc("POST /console/{host}/report", l.report)
}

// report takes one keyboard report over HTTP. Its body never shows in an answer: it may be a key of a password.
func (l *Lab) report(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	if err != nil {
		return
	}
	s := l.site.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.desk(r.PathValue("host"))
	if d == nil {
		problem(w, http.StatusNotFound, fmt.Errorf("there is no console %q", r.PathValue("host")))
		return
	}
	digits := strings.TrimSpace(string(body))
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != 8 {
		problem(w, http.StatusBadRequest, fmt.Errorf("a report of %d characters: want 16 hexadecimal digits", len(digits)))
		return
	}
	strikes := l.faults.console(d.name)
	if strikes.dropBefore {
		hangUp(w)
		return
	}
	if strikes.untaken {
		err = fmt.Errorf("%s: as armed, %w", d.name, errUntaken)
	} else {
		err = s.key(d, func(c Console) []Deed { return c.Report([8]byte(raw)) })
	}
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err)
		return
	}
	if strikes.dropAfter {
		hangUp(w)
		return
	}
	v := s.view(d)
	reply(w, map[string]any{"leds": v.LEDs, "screen": v.Screen})
}

// problem answers with an error as JSON.
func problem(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

// hangUp closes the connection under an answer.
func hangUp(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if c, _, err := h.Hijack(); err == nil {
			_ = c.Close()
		}
	}
}

// Nested is a VM of the lab in which ESXi runs, with a console of its own.
type Nested struct {
	Name     string // of the VM
	Host     string // on which it runs
	Password string // of its root
	Facts    map[string]string
}

// Nested lists the VMs in which ESXi runs. Without Options.Console there are none.
func (l *Lab) Nested() []Nested {
	s := l.site.Load()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []Nested
	for _, d := range s.desks {
		if d.vm != "" {
			list = append(list, Nested{Name: d.name, Host: d.host, Password: l.nestedPassword(d.name), Facts: maps.Clone(d.told)})
		}
	}
	return list
}

// facts is what is true of a host's console, nil where it has none.
func (l *Lab) facts(host string) map[string]string {
	s := l.site.Load()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if d := s.desk(host); d != nil {
		return maps.Clone(d.told)
	}
	return nil
}

// nestedPassword is the password of a nested host's root: a reset keeps it.
func (l *Lab) nestedPassword(name string) string {
	sum := sha256.Sum256([]byte(l.seed + name))
	return hex.EncodeToString(sum[:12])
}

// hostEndpoint finds a host's endpoint; the scene's hosts all have one.
func (l *Lab) hostEndpoint(name string) *endpoint {
	return l.hosts[slices.IndexFunc(l.hosts, func(e *endpoint) bool { return e.host == name })]
}
