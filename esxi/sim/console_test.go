package sim

import (
	"fmt"
	"image"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// desktop is a console that does what a test tells it to do with the next key.
type desktop struct {
	Machine
	mu    sync.Mutex
	next  []Deed
	keys  int
	boots int
}

func (d *desktop) Report([8]byte) []Deed { return d.Key(0, 0) }

func (d *desktop) Key(_, _ byte) []Deed {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys++
	deeds := d.next
	d.next = nil
	return deeds
}

func (d *desktop) Learn(facts map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Facts = maps.Clone(d.Facts)
	maps.Copy(d.Facts, facts)
}

func (d *desktop) Boot() { d.mu.Lock(); defer d.mu.Unlock(); d.boots++ }
func (d *desktop) View() View {
	return View{Screen: "test", Text: make([]string, 25)}
}

func (d *desktop) Picture() image.Image { return image.NewGray(screenSize) }

func (d *desktop) fact(name string) string { d.mu.Lock(); defer d.mu.Unlock(); return d.Facts[name] }
func (d *desktop) started() int            { d.mu.Lock(); defer d.mu.Unlock(); return d.boots }

// startDesks starts a lab whose consoles are the test's.
func startDesks(t *testing.T, scene string) (*Lab, func(name string) *desktop) {
	t.Helper()
	var mu sync.Mutex
	all := map[string]*desktop{}
	l := start(t, Options{Scene: scene, BootAfter: 300 * time.Millisecond, Console: func(m Machine) (Console, error) {
		mu.Lock()
		defer mu.Unlock()
		all[m.Name] = &desktop{Machine: m}
		return all[m.Name], nil
	}})
	return l, func(name string) *desktop { mu.Lock(); defer mu.Unlock(); return all[name] }
}

// do has a key at a console do these deeds.
func (d *desktop) do(t *testing.T, l *Lab, deeds ...Deed) {
	t.Helper()
	d.mu.Lock()
	d.next = deeds
	d.mu.Unlock()
	res, err := http.Post("http://"+l.ControlAddr()+"/console/"+d.Name+"/report", "text/plain", strings.NewReader("0000000000000000"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
}

func settings(pairs ...string) Deed {
	d := Deed{What: deedNetwork, Settings: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		d.Settings[pairs[i]] = pairs[i+1]
	}
	return d
}

// What keys do to a host's network, in every scene where it makes a difference.
func TestDeeds(t *testing.T) {
	t.Parallel()
	restore := Deed{What: deedStandard}
	wipe := Deed{What: deedWiped}
	dhcp := settings("ipv4", "dhcp")
	home := settings("vlan", "20", "ipv4", "static", "address", "192.168.20.11", "netmask", "255.255.255.0", "gateway", gatewayIP)
	for _, tc := range []struct {
		name, scene string
		deeds       []Deed
		want        string // as picture and the address of vmk0
		management  string // the fact
	}{
		{"restore", "nuc", []Deed{restore}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network unreachable 192.168.20.11", "standard"},
		{"restore, then the VLAN", "nuc", []Deed{restore, settings("vlan", "20")}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network 192.168.20.11", "standard"},
		{"restore on a standard switch", "standard", []Deed{restore}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network 192.168.20.11", "standard"},
		{"restore with two uplinks", "two-uplinks", []Deed{restore}, "vSwitch0[vmnic0] DVS0[vmnic1=Uplink 2] vmk0→Management Network unreachable 192.168.20.11", "standard"},
		{"restore with other adapters", "storage", []Deed{restore}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network unreachable 192.168.20.11", "standard"},
		{"restore out of a LAG", "lag", []Deed{restore}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network unreachable 192.168.20.11", "standard"},
		{"wipe", "nuc", []Deed{wipe}, "vSwitch0[vmnic0] vmk0→Management Network unreachable 192.168.1.151", "standard"},
		{"wipe on a standard switch", "standard", []Deed{wipe}, "vSwitch0[vmnic0] vmk0→Management Network unreachable 192.168.1.151", "standard"},
		{"wipe with everything", "storage", []Deed{wipe}, "vSwitch0[vmnic0] vmk0→Management Network unreachable 192.168.1.151", "standard"},
		{"wipe with a VM of ports of its own", "awkward", []Deed{wipe}, "vSwitch0[vmnic0] vmk0→Management Network unreachable 192.168.1.151", "standard"},
		{"wipe with ephemeral ports", "ephemeral", []Deed{wipe}, "vSwitch0[vmnic0] vmk0→Management Network unreachable 192.168.1.151", "standard"},
		{"wipe, then home again", "nuc", []Deed{wipe, home}, "vSwitch0[vmnic0] vmk0→Management Network 192.168.20.11", "standard"},
		{"a lease in the VLAN of management", "standard", []Deed{dhcp}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network unreachable 192.168.20.151", "standard"},
		{"a lease in none", "standard", []Deed{dhcp, settings("vlan", "77")}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network unreachable 169.254.7.1", "standard"},
		{"a lease that is renewed", "standard", []Deed{dhcp, settings("vlan", "30"), {What: deedRestartNet}}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network unreachable 192.168.30.151", "standard"},
		{"no address", "standard", []Deed{settings("ipv4", "off")}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network unreachable ", "standard"},
		{"no adapter", "standard", []Deed{settings("adapters", "")}, "vSwitch0[] DVS0[] vmk0→Management Network unreachable 192.168.20.11", "standard"},
		{"an adapter that is not there", "standard", []Deed{settings("adapters", "vmnic0,vusb0")}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network 192.168.20.11", "standard"},
		{"and back", "standard", []Deed{settings("adapters", ""), settings("adapters", "vmnic0")}, "vSwitch0[vmnic0] DVS0[] vmk0→Management Network 192.168.20.11", "standard"},
		{"dialogs on a distributed switch", "nuc", []Deed{settings("vlan", "7", "adapters", "")}, "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt 192.168.20.11", "distributed"},
		{"restore vDS in its VLAN", "nuc", []Deed{{What: deedDistributed, Settings: map[string]string{"adapters": "vmnic0", "vlan": "20"}}}, "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt 192.168.20.11", "distributed"},
		{"restore vDS in another", "nuc", []Deed{{What: deedDistributed, Settings: map[string]string{"adapters": "vmnic0", "vlan": "7"}}}, "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt unreachable 192.168.20.11", "distributed"},
		{"restore vDS untagged, and again", "ephemeral", []Deed{{What: deedDistributed}, {What: deedDistributed, Settings: map[string]string{"vlan": "20"}}}, "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt 192.168.20.11", "distributed"},
		{"a restart of the management network", "nuc", []Deed{{What: deedRestartNet}}, "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt 192.168.20.11", "distributed"},
		{"what the lab does not know", "nuc", []Deed{{What: "ping test"}}, "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt 192.168.20.11", "distributed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l, desk := startDesks(t, tc.scene)
			first := l.State()
			for range 2 { // the second time after a reset
				d := desk("nuc01")
				for _, deed := range tc.deeds {
					d.do(t, l, deed)
				}
				h := l.State().Hosts[0]
				if got := strings.TrimSuffix(picture(l), " "+h.ConnectionState) + " " + h.Vmkernels[0].IP; got != tc.want {
					t.Errorf("got  %s\nwant %s", got, tc.want)
				}
				if got := d.fact("management"); got != tc.management {
					t.Errorf("the console believes that management is on %q", got)
				}
				reachable := h.Management.Reachable
				if _, err := dial(t, l.Hosts()[0]); (err == nil) != reachable {
					t.Errorf("reachable %t, yet %v", reachable, err)
				}
				want := "notResponding"
				if reachable {
					want = "connected"
				}
				eventually(t, func() string { return l.State().Hosts[0].ConnectionState }, want)
				connect(t, l, "vcenter")
				if err := l.Reset(); err != nil {
					t.Fatal(err)
				}
				again := l.State()
				again.Hosts[0].DarkMs = 0
				for i := range again.Hosts[0].VMs {
					again.Hosts[0].VMs[i].NICs[0].DarkMs = 0
				}
				again.Requests, first.Requests = Requests{}, Requests{}
				same(t, "the state after a reset", again, first)
			}
		})
	}
}

// A restored switch takes what is left of an earlier one.
func TestRestoreUsesWhatIsThere(t *testing.T) {
	t.Parallel()
	l, desk := startDesks(t, "nuc")
	c := connect(t, l, "vcenter")
	if err := c.update(types.HostNetworkConfig{
		Vswitch:   []types.HostVirtualSwitchConfig{{ChangeOperation: "add", Name: "vSwitch0", Spec: &types.HostVirtualSwitchSpec{NumPorts: 8}}, {ChangeOperation: "add", Name: "vSwitch1"}},
		Portgroup: []types.HostPortGroupConfig{{ChangeOperation: "add", Spec: &types.HostPortGroupSpec{Name: "Management Network", VlanId: 99, VswitchName: "vSwitch1"}}},
	}); err != nil {
		t.Fatal(err)
	}
	desk("nuc01").do(t, l, Deed{What: deedStandard})
	h := l.State().Hosts[0]
	if len(h.Switches) != 2 || h.Management.Switch != "vSwitch0" || h.Management.VLAN != 0 || len(h.Portgroups) != 1 {
		t.Errorf("%+v, %+v, %+v", h.Switches, h.Management, h.Portgroups)
	}
}

// A host that has lost the uplink of its distributed switch gets it back.
func TestRestoreDistributed(t *testing.T) {
	t.Parallel()
	l, desk := startDesks(t, "nuc")
	c := connect(t, l, "esxi")
	_ = c.update(types.HostNetworkConfig{ProxySwitch: []types.HostProxySwitchConfig{{ChangeOperation: "edit", Uuid: dvsUUID,
		Spec: &types.HostProxySwitchSpec{Backing: &types.DistributedVirtualSwitchHostMemberPnicBacking{}}}}}) // its answer cannot arrive
	if l.State().Hosts[0].Management.Reachable {
		t.Fatal("the uplink is there still")
	}
	desk("nuc01").do(t, l, Deed{What: deedDistributed, Settings: map[string]string{"adapters": "vmnic0", "vlan": "20"}})
	if got := picture(l); !strings.HasPrefix(got, "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt") || !l.State().Hosts[0].Management.Reachable {
		t.Error(got)
	}
}

// Faults that wait for a host's next network change do not care who makes it.
func TestFaultsStrikeAtTheConsoleToo(t *testing.T) {
	t.Parallel()
	l, desk := startDesks(t, "nuc")
	if err := l.Arm(Fault{Fault: "wire-vlan", Host: "nuc01", VLAN: 999}); err != nil {
		t.Fatal(err)
	}
	desk("nuc01").do(t, l, Deed{What: deedStandard})
	if h := l.State().Hosts[0]; h.Wire.Mode != "access" || !h.Management.Reachable {
		t.Errorf("%+v, %+v", h.Wire, h.Management)
	}
}

// A vCenter that takes its change back does not undo what was done at the console to the rest of the host.
func TestRollbackLeavesTheHostAlone(t *testing.T) {
	t.Parallel()
	l, desk := startDesks(t, "nuc")
	c := connect(t, l, "vcenter")
	done := make(chan error, 1)
	go func() { done <- c.update(toStandard(99)) }()
	eventually(t, func() bool { return l.State().Hosts[0].Management.Reachable }, false)
	desk("nuc01").do(t, l, Deed{What: "ssh on"})
	if err := <-done; !fault.Is(err, &types.NetworkDisruptedAndConfigRolledBack{}) {
		t.Fatal(err)
	}
	if h := l.State().Hosts[0]; !h.SSH || !h.Management.Reachable {
		t.Errorf("SSH %t, %+v", h.SSH, h.Management)
	}
}

// The facts of a console are those of its host, whoever changes it.
func TestConsoleLearns(t *testing.T) {
	t.Parallel()
	l, desk := startDesks(t, "nuc")
	d := desk("nuc01")
	if d.Facts["management"] != "distributed" || len(d.Facts) != 12 || d.Password != l.Hosts()[0].Password {
		t.Errorf("it starts with %v", d.Facts)
	}
	c := connect(t, l, "vcenter")
	if err := c.update(toStandard(20)); err != nil {
		t.Fatal(err)
	}
	if got := d.fact("management"); got != "standard" {
		t.Errorf("after a move it believes in %s", got)
	}
	if err := c.update(toDistributed()); err != nil {
		t.Fatal(err)
	}
	if got := d.fact("management"); got != "distributed" {
		t.Errorf("after the way back it believes in %s", got)
	}
	_ = connect(t, l, "esxi").update(types.HostNetworkConfig{Vnic: []types.HostVirtualNicConfig{{ChangeOperation: "remove", Device: "vmk0"}}})
	// The cut that ends the call comes in the middle of the change.
	eventually(t, func() string { return d.fact("management") }, "none")
}

// Agents and restarts end every session with the host, and only the agents leave its VMs alone.
func TestAbsence(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		deed string
		lit  bool
	}{{deedAgents, true}, {deedRestart, false}, {deedReset, false}} {
		t.Run(tc.deed, func(t *testing.T) {
			t.Parallel()
			l, desk := startDesks(t, "nuc")
			c := connect(t, l, "esxi")
			desk("nuc01").do(t, l, Deed{What: tc.deed})
			if h := l.State().Hosts[0]; h.Management.Reachable || h.VMs[0].NICs[0].Lit != tc.lit {
				t.Errorf("%+v, VM lit %t", h.Management, h.VMs[0].NICs[0].Lit)
			}
			eventually(t, func() string { return l.State().Hosts[0].ConnectionState }, "notResponding")
			eventually(t, func() string { return l.State().Hosts[0].Power }, "on")
			if tc.deed == deedReset {
				return
			}
			eventually(t, func() string { return l.State().Hosts[0].ConnectionState }, "connected")
			if _, err := methods.AddPortGroup(t.Context(), c.Client, &types.AddPortGroup{
				This: *c.host.ConfigManager.NetworkSystem, Portgrp: types.HostPortGroupSpec{Name: "x", VswitchName: "y"},
			}); !fault.Is(err, &types.NotAuthenticated{}) {
				t.Errorf("with the old session: %v", err)
			}
			connect(t, l, "esxi")
			if got, want := desk("nuc01").started(), map[bool]int{true: 0, false: 1}[tc.lit]; got != want {
				t.Errorf("the console has seen %d starts, want %d", got, want)
			}
			eventually(t, func() int { return desk("nested-esxi").started() }, map[bool]int{true: 0, false: 1}[tc.lit])
		})
	}
}

// After a reset of its configuration root has no password, and the host a lease.
func TestSystemReset(t *testing.T) {
	t.Parallel()
	l, desk := startDesks(t, "standard")
	desk("nuc01").do(t, l, Deed{What: "ssh on"}, Deed{What: deedReset})
	if h := l.State().Hosts[0]; h.SSH || h.Power != "booting" || h.Vmkernels[0].IP != "192.168.1.151" {
		t.Errorf("%+v", h)
	}
	eventually(t, func() string { return l.State().Hosts[0].Power }, "on")
	desk("nuc01").do(t, l, settings("vlan", "20", "ipv4", "static", "address", "192.168.20.11", "netmask", "255.255.255.0", "gateway", gatewayIP))
	e := l.Hosts()[0]
	if _, err := dial(t, e); err == nil {
		t.Error("the password has outlived the reset")
	}
	e.Password = ""
	if _, err := dial(t, e); err != nil {
		t.Errorf("without a password: %v", err)
	}
}

func TestLockdownKeepsRootOut(t *testing.T) {
	t.Parallel()
	l, desk := startDesks(t, "nuc")
	d := desk("nuc01")
	d.do(t, l, Deed{What: "lockdown on"})
	if _, err := dial(t, l.Hosts()[0]); !fault.Is(err, &types.InvalidLogin{}) {
		t.Errorf("in lockdown mode: %v", err)
	}
	connect(t, l, "vcenter")
	if got := d.fact("lockdown"); got != "normal" {
		t.Errorf("the console believes in lockdown %s", got)
	}
	d.do(t, l, Deed{What: "lockdown off"})
	if _, err := dial(t, l.Hosts()[0]); err != nil {
		t.Errorf("after lockdown mode: %v", err)
	}
}

// The API and the console turn the same switches.
func TestServices(t *testing.T) {
	t.Parallel()
	l, desk := startDesks(t, "rack")
	for _, path := range []string{"vcenter", "esxi"} {
		c := connect(t, l, path)
		running := func() string {
			var on []string
			var hs mo.HostSystem
			var ss mo.HostServiceSystem
			pc := property.DefaultCollector(c.Client)
			if err := pc.RetrieveOne(t.Context(), c.host.Self, []string{"config.service", "config.lockdownMode"}, &hs); err != nil {
				t.Fatal(err)
			}
			if err := pc.RetrieveOne(t.Context(), *c.host.ConfigManager.ServiceSystem, []string{"serviceInfo"}, &ss); err != nil {
				t.Fatal(err)
			}
			for i, s := range hs.Config.Service.Service {
				if !reflect.DeepEqual(s, ss.ServiceInfo.Service[i]) {
					t.Errorf("%+v in one place, %+v in the other", s, ss.ServiceInfo.Service[i])
				}
				if s.Running {
					on = append(on, s.Key)
				}
			}
			return strings.Join(append(on, string(hs.Config.LockdownMode)), " ")
		}
		want := func(s string) {
			t.Helper()
			if got := running(); got != s {
				t.Errorf("%s: %s, want %s", path, got, s)
			}
		}
		want("DCUI lockdownDisabled")
		ss := *c.host.ConfigManager.ServiceSystem
		if _, err := methods.StartService(t.Context(), c.Client, &types.StartService{This: ss, Id: "TSM-SSH"}); err != nil {
			t.Fatal(err)
		}
		want("DCUI TSM-SSH lockdownDisabled")
		if got := desk("nuc01").fact("ssh") + desk("nuc02").fact("ssh"); got != "onoff" {
			t.Errorf("%s: the consoles of nuc01 and nuc02 believe that SSH is %s", path, got)
		}
		desk("nuc01").do(t, l, Deed{What: "shell on"})
		want("DCUI TSM TSM-SSH lockdownDisabled")
		desk("nuc01").do(t, l, Deed{What: "ssh off"})
		if _, err := methods.StopService(t.Context(), c.Client, &types.StopService{This: ss, Id: "TSM"}); err != nil {
			t.Fatal(err)
		}
		want("DCUI lockdownDisabled")
		for _, id := range []string{"telnet", "DCUI"} {
			if _, err := methods.StopService(t.Context(), c.Client, &types.StopService{This: ss, Id: id}); err == nil {
				t.Errorf("%s: %s was stopped", path, id)
			}
		}
		_, err := methods.EnterLockdownMode(t.Context(), c.Client, &types.EnterLockdownMode{This: c.host.Self})
		if path == "esxi" {
			if !fault.Is(err, &types.NotSupported{}) {
				t.Errorf("lockdown mode in a direct session: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		want("DCUI lockdownNormal")
		if _, err := dial(t, l.Hosts()[0]); err == nil || desk("nuc01").fact("lockdown") != "normal" {
			t.Errorf("in lockdown mode root logs in: %v", err)
		}
		if _, err := methods.EnterLockdownMode(t.Context(), c.Client, &types.EnterLockdownMode{This: c.host.Self}); err == nil {
			t.Error("lockdown mode twice")
		}
		if _, err := methods.ExitLockdownMode(t.Context(), c.Client, &types.ExitLockdownMode{This: c.host.Self}); err != nil {
			t.Fatal(err)
		}
		want("DCUI lockdownDisabled")
		res, err := methods.QueryOptions(t.Context(), c.Client, &types.QueryOptions{This: *c.host.ConfigManager.AdvancedOption, Name: consoleTimeOut})
		if err != nil || len(res.Returnval) != 1 || fmt.Sprint(res.Returnval[0].GetOptionValue().Value) != "600" {
			t.Errorf("%s: %+v, %v", path, res, err)
		}
	}
}

// Keys reach each console alone, also when many type at once and the lab is reset meanwhile.
func TestManyKeyboards(t *testing.T) {
	t.Parallel()
	l, desk := startDesks(t, "rack")
	var wg sync.WaitGroup
	names := []string{"nuc01", "nuc02", "nuc03", "nested-esxi", "nested-esxi-02", "nested-esxi-03"}
	for _, name := range names {
		wg.Go(func() {
			for range 50 {
				desk(name).do(t, l)
			}
		})
	}
	wg.Wait()
	for _, name := range names {
		if got := desk(name).keys; got != 50 {
			t.Errorf("%s took %d keys of 50", name, got)
		}
	}
	for i, name := range names {
		wg.Go(func() {
			for n := range 20 {
				desk(name).do(t, l, Deed{What: []string{deedStandard, deedWiped, deedAgents, "ssh on", deedRestartNet, deedNetwork}[(i+n)%6]})
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			if err := l.Reset(); err != nil {
				t.Error(err)
			}
			l.State()
		}
	})
	wg.Wait()
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	for _, h := range l.State().Hosts {
		if !h.Management.Reachable || h.Management.SwitchKind != "distributed" {
			t.Errorf("%s: %+v", h.Name, h.Management)
		}
	}
	if got := len(l.Nested()); got != 3 {
		t.Errorf("%d nested hosts", got)
	}
}

// A lab without consoles says so.
func TestWithoutConsoles(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	res, err := http.Get("http://" + l.ControlAddr() + "/console/nuc01")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusNotFound || len(l.Nested()) != 0 {
		t.Errorf("%s, %v", res.Status, l.Nested())
	}
	if _, err := Start(t.Context(), Options{Console: func(Machine) (Console, error) { return nil, fmt.Errorf("no cable") }}); err == nil || !strings.Contains(err.Error(), "console of nuc01: no cable") {
		t.Errorf("a console that cannot be opened: %v", err)
	}
	c := connect(t, l, "esxi")
	n, err := c.vm("photonbox").PutUsbScanCodes(t.Context(), types.UsbScanCodeSpec{KeyEvents: slices.Repeat([]types.UsbScanCodeSpecKeyEvent{{UsbHidCode: 0x40007}}, 3)})
	if err != nil || n != 3 {
		t.Errorf("a VM took %d keys of 3, %v", n, err)
	}
}
