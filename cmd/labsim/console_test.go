package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/sim"
	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// patience bounds what should take milliseconds, on a machine that may be busy with other things.
const patience = 30 * time.Second

type lab struct {
	*sim.Lab
	t *testing.T
}

func startLab(t *testing.T, scene string, change ...func(*sim.Options)) *lab {
	t.Helper()
	opt := sim.Options{
		Scene: scene, Console: newConsole,
		RollbackAfter: 50 * time.Millisecond, ReconnectAfter: 20 * time.Millisecond, LostAfter: 20 * time.Millisecond, BootAfter: 100 * time.Millisecond,
	}
	for _, f := range change {
		f(&opt)
	}
	l, err := sim.Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return &lab{l, t}
}

// ask makes one request of the control address.
func (l *lab) ask(method, path, body string) (code int, answer map[string]any, err error) {
	req, err := http.NewRequest(method, "http://"+l.ControlAddr()+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		answer = map[string]any{"error": string(b)}
	}
	return res.StatusCode, answer, nil
}

// reports gives what a keyboard sends for words: key notation, and text in quotes.
func reports(t *testing.T, words string) []hid.Report {
	t.Helper()
	us, err := hid.FindLayout("us")
	if err != nil {
		t.Fatal(err)
	}
	var chords []hid.Chord
	for word := range strings.FieldsSeq(words) {
		var more []hid.Chord
		if text, ok := strings.CutPrefix(word, `"`); ok {
			more, err = us.Chords(strings.TrimSuffix(text, `"`))
		} else {
			more, err = hid.ParseChords(word)
		}
		if err != nil {
			t.Fatal(err)
		}
		chords = append(chords, more...)
	}
	return hid.Reports(chords)
}

// keys types words into a console over HTTP and gives the screen's name at the end.
func (l *lab) keys(name, words string) string {
	l.t.Helper()
	screen := ""
	for _, r := range reports(l.t, words) {
		code, answer, err := l.ask("POST", "/console/"+name+"/report", r.String())
		if err != nil || code != http.StatusOK {
			l.t.Fatalf("%d %v %v", code, answer, err)
		}
		screen = answer["screen"].(string)
	}
	return screen
}

// login is the way from any screen to System Customization.
func login(password string) string {
	return `ALT+F2 ESC ESC ESC ESC F2 TAB "` + password + `" ENTER `
}

func (l *lab) password(name string) string {
	for _, e := range l.Hosts() {
		if e.Name == name {
			return e.Password
		}
	}
	for _, n := range l.Nested() {
		if n.Name == name {
			return n.Password
		}
	}
	l.t.Fatalf("%s has no password", name)
	return ""
}

func (l *lab) host() sim.HostState { return l.State().Hosts[0] }

func (l *lab) effects(name string) []any {
	l.t.Helper()
	_, answer, err := l.ask("GET", "/console/"+name, "")
	if err != nil {
		l.t.Fatal(err)
	}
	return answer["effects"].([]any)
}

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// dial logs in at an endpoint.
func (l *lab) dial(e sim.Endpoint, password string) (*esxi.Client, error) {
	u, err := url.Parse(e.URL)
	if err != nil {
		l.t.Fatal(err)
	}
	return esxi.Dial(l.t.Context(), &esxi.Endpoint{URL: u, User: e.User, Thumbprint: e.Thumbprint,
		Password: func(context.Context) (esxi.Secret, error) { return esxi.NewSecret(password), nil }})
}

func (l *lab) finder(e sim.Endpoint) (*esxi.Client, *find.Finder) {
	l.t.Helper()
	c, err := l.dial(e, e.Password)
	if err != nil {
		l.t.Fatal(err)
	}
	f := find.NewFinder(c.Vim)
	dc, err := f.DefaultDatacenter(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return c, f.SetDatacenter(dc)
}

// change makes a network change through the vCenter that moves nothing.
func (l *lab) change() {
	l.t.Helper()
	_, f := l.finder(l.VCenter())
	h, err := f.DefaultHostSystem(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	ns, err := h.ConfigManager().NetworkSystem(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	_ = ns.AddVirtualSwitch(l.t.Context(), "vSwitch9", nil) // what the answer is depends on the faults
}

// The whole way out: a wire that drops tagged frames, a vCenter whose rollback does not help, and keys.
func TestRestoreStandardSwitch(t *testing.T) {
	l := startLab(t, "nuc")
	if code, _, err := l.ask("POST", "/fault", `{"fault": "wire-vlan", "host": "nuc01", "vlan": 999}`); code != http.StatusOK || err != nil {
		t.Fatal(code, err)
	}
	l.change()
	if h := l.host(); h.Management.Reachable || h.Management.SwitchKind != "distributed" {
		t.Fatalf("the host is not cut off: %+v", h.Management)
	}
	l.eventually("the vCenter misses the host", func() bool { return l.host().ConnectionState == "notResponding" })

	before := l.host().Vmkernels[0]
	if at := l.keys("nuc01", login(l.password("nuc01"))+"DOWN×4 ENTER DOWN ENTER"); at != "restore.standard" {
		t.Fatalf("at %s", at)
	}
	if l.host().Management.Reachable {
		t.Fatal("management is back before the confirm")
	}
	if at := l.keys("nuc01", "F11"); at != "restore.result" {
		t.Fatalf("at %s", at)
	}
	h := l.host()
	m := h.Management
	if !m.Reachable || m.SwitchKind != "standard" || m.Switch != "vSwitch0" || m.Portgroup != "Management Network" || m.VLAN != 0 {
		t.Errorf("management: %+v", m)
	}
	if k := h.Vmkernels[0]; k.IP != before.IP || k.MAC != before.MAC {
		t.Errorf("vmk0 was %+v, is %+v", before, k)
	}
	if h.Pnics[0].Switch != "vSwitch0" || len(h.ProxySwitches) != 1 || len(h.ProxySwitches[0].Uplinks) != 0 {
		t.Errorf("%+v, %+v", h.Pnics, h.ProxySwitches)
	}
	for _, v := range h.VMs {
		if n := v.NICs[0]; n.Lit || n.SwitchKind != "distributed" {
			t.Errorf("%s: %+v", v.Name, n)
		}
	}
	l.eventually("the vCenter is back", func() bool { return l.host().ConnectionState == "connected" })
	if _, err := l.dial(l.Hosts()[0], l.Hosts()[0].Password); err != nil {
		t.Errorf("the host's own path: %v", err)
	}
	if got := l.effects("nuc01"); !slices.Equal(got, []any{"standard switch restored"}) {
		t.Errorf("effects %q", got)
	}

	// What did it is dimmed from then on, and ENTER on the other item is the worse one.
	if at := l.keys("nuc01", "ENTER ESC×3 "+login(l.password("nuc01"))+"DOWN×4 ENTER DOWN ENTER"); at != "restore.settings" {
		t.Errorf("at %s", at)
	}

	first := startLab(t, "nuc").State().Hosts[0]
	if code, _, err := l.ask("POST", "/reset", ""); code != http.StatusOK || err != nil {
		t.Fatal(code, err)
	}
	again := l.host()
	if again.Management != first.Management || len(again.Switches) != 0 || again.Wire != first.Wire {
		t.Errorf("after a reset: %+v", again)
	}
	if got := l.effects("nuc01"); len(got) != 0 {
		t.Errorf("effects after a reset: %q", got)
	}
	if at := l.keys("nuc01", "F2"); at != "login" {
		t.Errorf("after a reset F2 leads to %s", at)
	}
}

func TestWipedNetwork(t *testing.T) {
	l := startLab(t, "nuc")
	l.keys("nuc01", login(l.password("nuc01"))+"DOWN×4 ENTER ENTER F11")
	h := l.host()
	if h.Management.Reachable || h.Management.Switch != "vSwitch0" || !strings.Contains(h.Management.Reason, "has lost its address") || h.Vmkernels[0].IP != "192.168.1.151" {
		t.Errorf("%+v, %+v", h.Management, h.Vmkernels)
	}
	if len(h.ProxySwitches) != 0 || len(h.Portgroups) != 2 {
		t.Errorf("%+v, %+v", h.ProxySwitches, h.Portgroups)
	}
	// The address that the host had, in the VLAN where it belongs.
	l.keys("nuc01", `ENTER ESC×3 `+login(l.password("nuc01"))+
		`DOWN ENTER DOWN ENTER "20" ENTER DOWN ENTER DOWN×3 BACKSPACE×15 "192.168.20.11" ENTER ESC "y"`)
	if h := l.host(); !h.Management.Reachable || h.Management.VLAN != 20 {
		t.Errorf("%+v, %+v", h.Management, h.Vmkernels)
	}
	want := []any{"all networking wiped", "management network changed"}
	if got := l.effects("nuc01"); !slices.Equal(got, want) {
		t.Errorf("effects %q, want %q", got, want)
	}
	if err := l.Reset(); err != nil || !l.host().Management.Reachable || l.host().Management.SwitchKind != "distributed" {
		t.Errorf("after a reset: %v, %+v", err, l.host().Management)
	}
}

// Where the wire drops tags, an untagged port on the distributed switch is a way out as well.
func TestRestoreVDS(t *testing.T) {
	l := startLab(t, "nuc")
	if err := l.Arm(sim.Fault{Fault: "wire-vlan", Host: "nuc01", VLAN: 999}); err != nil {
		t.Fatal(err)
	}
	l.change()
	if l.host().Management.Reachable {
		t.Fatal("the host is not cut off")
	}
	l.keys("nuc01", login(l.password("nuc01"))+"DOWN×4 ENTER DOWN×2 ENTER F11")
	if m := l.host().Management; !m.Reachable || m.SwitchKind != "distributed" || m.VLAN != 0 {
		t.Errorf("%+v", m)
	}
	if got := l.effects("nuc01"); !slices.Equal(got, []any{"distributed switch restored"}) {
		t.Errorf("effects %q", got)
	}
	if err := l.Reset(); err != nil || l.host().Management.VLAN != 20 {
		t.Errorf("after a reset: %v, %+v", err, l.host().Management)
	}
}

func TestRestart(t *testing.T) {
	l := startLab(t, "nuc", func(o *sim.Options) { o.BootAfter = 2 * time.Second }) // some keys long
	p := l.password("nuc01")
	if at := l.keys("nuc01", `CAPSLOCK CAPSLOCK F12 TAB "`+p+`" ENTER F11`); at != "booting" {
		t.Fatalf("at %s", at)
	}
	if h := l.host(); h.Power != "booting" || h.Management.Reachable || h.VMs[0].NICs[0].Lit {
		t.Errorf("%s, %+v", h.Power, h.Management)
	}
	// Keys are taken by whatever boots, and mean nothing.
	if at := l.keys("nuc01", "F2 ENTER F11"); at != "booting" {
		t.Errorf("at %s", at)
	}
	l.eventually("the host is back", func() bool { return l.host().Management.Reachable && l.host().Power == "on" })
	if at := l.keys("nuc01", login(p)); at != "menu" {
		t.Errorf("after the restart: at %s", at)
	}
	if at := l.keys("nuc01", `ESC F12 TAB "`+p+`" ENTER`); at != "power" {
		t.Fatalf("at %s", at)
	}
	// The release of the key that turns a host off has nobody to take it.
	press := reports(t, "F2")
	if code, answer, err := l.ask("POST", "/console/nuc01/report", press[0].String()); err != nil || code != http.StatusOK || answer["screen"] != "off" {
		t.Errorf("%d %v %v", code, answer, err)
	}
	code, answer, err := l.ask("POST", "/console/nuc01/report", press[1].String())
	if err != nil || code != http.StatusServiceUnavailable || !strings.Contains(fmt.Sprint(answer["error"]), "nuc01 is off") {
		t.Errorf("%d %v %v", code, answer, err)
	}
	if h := l.host(); h.Power != "off" || h.Management.Reachable {
		t.Errorf("%+v", h)
	}
	if err := l.Reset(); err != nil || l.host().Power != "on" || l.keys("nuc01", "F2") != "login" {
		t.Errorf("after a reset: %v, %s", err, l.host().Power)
	}
}

func TestPasswordAndSwitches(t *testing.T) {
	l := startLab(t, "nuc")
	e := l.Hosts()[0]
	l.keys("nuc01", login(e.Password)+`ENTER "`+e.Password+`" TAB "Str0ng-er" TAB "Str0ng-er" ENTER`)
	if _, err := l.dial(e, e.Password); err == nil {
		t.Error("the old password is good still")
	}
	if _, err := l.dial(e, "Str0ng-er"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	l.keys("nuc01", "DOWN×6 ENTER ENTER DOWN ENTER ENTER ENTER")
	if h := l.host(); !h.Shell || !h.SSH {
		t.Errorf("shell %t, SSH %t", h.Shell, h.SSH)
	}
	want := []any{"password changed", "shell on", "ssh on", "ssh off", "ssh on"}
	if got := l.effects("nuc01"); !slices.Equal(got, want) {
		t.Errorf("effects %q, want %q", got, want)
	}
	if err := l.Reset(); err != nil || l.host().SSH || l.host().Shell {
		t.Fatalf("after a reset: %v, %+v", err, l.host())
	}
	if _, err := l.dial(e, e.Password); err != nil {
		t.Errorf("the password after a reset: %v", err)
	}
}

// The console knows where the API has put management.
func TestTheConsoleFollowsTheAPI(t *testing.T) {
	l := startLab(t, "standard")
	restore := login(l.password("nuc01")) + "DOWN×4 ENTER DOWN ENTER"
	if at := l.keys("nuc01", restore); at != "restore.settings" {
		t.Errorf("on a standard switch DOWN leads to %s", at)
	}
	d := startLab(t, "nuc")
	if at := d.keys("nuc01", login(d.password("nuc01"))+"DOWN×4 ENTER DOWN ENTER"); at != "restore.standard" {
		t.Errorf("on a distributed switch DOWN leads to %s", at)
	}
}

func TestConsoleOverHTTP(t *testing.T) {
	l := startLab(t, "nuc")
	for _, tc := range []struct {
		method, path, body string
		code               int
		says               string // in the error
	}{
		{"GET", "/console/nuc02", "", 404, `no console "nuc02"`},
		{"POST", "/console/nuc02/report", "0000000000000000", 404, `no console "nuc02"`},
		{"POST", "/console/nuc01/report", "", 400, "a report of 0 characters"},
		{"POST", "/console/nuc01/report", "00003a00000000", 400, "a report of 14 characters"},
		{"POST", "/console/nuc01/report", "00003a000000000g", 400, "want 16 hexadecimal digits"},
		{"POST", "/console/nuc01/report", strings.Repeat("0", 2000), 400, "want 16"},
		{"POST", "/console/nuc01/report", "0000000000000000\n", 200, ""},
		{"POST", "/console/nested-esxi/report", "0000000000000000", 200, ""},
		{"GET", "/console/nested-esxi", "", 200, ""},
	} {
		code, answer, err := l.ask(tc.method, tc.path, tc.body)
		if err != nil || code != tc.code || tc.says != "" && !strings.Contains(fmt.Sprint(answer["error"]), tc.says) {
			t.Errorf("%s %s %q: %d %v %v", tc.method, tc.path, tc.body, code, answer, err)
		}
	}
	_, st, err := l.ask("GET", "/console/nuc01", "")
	if err != nil {
		t.Fatal(err)
	}
	text := st["text"].([]any)
	if st["host"] != "nuc01" || st["screen"] != "welcome" || st["leds"] != 0.0 || len(text) != 25 || !strings.Contains(fmt.Sprint(text), "VMware ESXi 6.0.0") {
		t.Errorf("%v", st)
	}
	// The lock lights answer, also while the key is held.
	for _, tc := range []struct {
		report string
		leds   float64
	}{{"0000390000000000", 2}, {"0000390000000000", 2}, {"0000000000000000", 2}, {"0000470000000000", 6}, {"0000000000000000", 6}, {"0000390000000000", 4}} {
		if _, answer, err := l.ask("POST", "/console/nuc01/report", tc.report); err != nil || answer["leds"] != tc.leds {
			t.Errorf("%s: %v, %v; want lights %v", tc.report, answer, err, tc.leds)
		}
	}
}

func TestConsoleFaults(t *testing.T) {
	l := startLab(t, "nuc")
	arm := func(fault string) {
		t.Helper()
		if code, _, err := l.ask("POST", "/fault", fault); err != nil || code != http.StatusOK {
			t.Fatal(code, err)
		}
	}
	f2 := reports(t, "F2")[0].String()
	screen := func() string {
		_, st, err := l.ask("GET", "/console/nuc01", "")
		if err != nil {
			t.Fatal(err)
		}
		return st["screen"].(string)
	}
	send := func(report string) (int, map[string]any, error) {
		return l.ask("POST", "/console/nuc01/report", report)
	}
	const release = "0000000000000000"

	arm(`{"fault": "console-drop", "host": "nuc01"}`)
	if _, _, err := send(f2); err == nil || screen() != "welcome" {
		t.Errorf("dropped before: %v, at %s", err, screen())
	}
	arm(`{"fault": "console-drop", "host": "nuc01", "when": "after", "call": 2}`)
	if code, _, err := send(release); err != nil || code != http.StatusOK {
		t.Errorf("the first report: %d, %v", code, err)
	}
	if _, _, err := send(f2); err == nil || screen() != "login" {
		t.Errorf("dropped after: %v, at %s", err, screen())
	}
	if code, answer, err := send(release); err != nil || code != http.StatusOK || answer["screen"] != "login" {
		t.Errorf("the next report: %d, %v", code, err)
	}
	arm(`{"fault": "console-refuse", "host": "nuc01", "count": 2}`)
	esc := reports(t, "ESC")[0].String()
	for range 2 {
		if code, answer, err := send(esc); err != nil || code != http.StatusServiceUnavailable || !strings.Contains(fmt.Sprint(answer["error"]), "no machine takes keys") {
			t.Errorf("refused: %d %v %v", code, answer, err)
		}
	}
	if code, answer, err := send(esc); err != nil || code != http.StatusOK || answer["screen"] != "welcome" {
		t.Errorf("after that: %d %v %v", code, answer, err)
	}
	if code, _, err := send(release); err != nil || code != http.StatusOK {
		t.Error(code, err)
	}
	// A fault is for one console, and a reset disarms it.
	arm(`{"fault": "console-refuse", "host": "nested-esxi", "count": 99}`)
	l.keys("nuc01", "F2")
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	l.keys("nested-esxi", "F2")
	if code, _, err := l.ask("POST", "/fault", `{"fault": "console-refuse", "host": "nuc09"}`); err == nil && code == http.StatusOK {
		t.Error("a fault for no console was armed")
	}
}

// A number on the keypad under Alt is one character, however many digits it has.
func TestConsoleTakesKeypadCodes(t *testing.T) {
	c, err := newConsole(sim.Machine{Name: "nuc01", Password: "n", Facts: map[string]string{"screen": "welcome"}})
	if err != nil {
		t.Fatal(err)
	}
	chords := []hid.Chord{ // 110
		{Key: hid.KeyF2}, {Key: hid.KeyTab},
		{Mods: hid.Alt, Key: hid.KeyKP1, Keep: true}, {Mods: hid.Alt, Key: hid.KeyKP1, Keep: true}, {Mods: hid.Alt, Key: hid.KeyKP0},
		{Key: hid.KeyEnter},
	}
	for _, r := range hid.Reports(chords) {
		c.Report(r)
	}
	if at := c.View().Screen; at != "menu" {
		t.Errorf("the login ends at %s", at)
	}
}

func TestNestedTypedThroughTheAPI(t *testing.T) {
	l := startLab(t, "nuc")
	if n := l.Nested(); len(n) != 1 || n[0].Name != "nested-esxi" || n[0].Host != "nuc01" || len(n[0].Facts) != 12 || n[0].Facts["management"] != "distributed" {
		t.Fatalf("%+v", n)
	}
	put := func(c *esxi.Client, vm *object.VirtualMachine, words string) {
		t.Helper()
		var mods byte
		for _, r := range reports(t, words) {
			mods = r[0]
			if r[2] == 0 {
				continue
			}
			if err := esxi.PutKey(t.Context(), c.Vim, vm.Reference(), r[2], mods); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, e := range []sim.Endpoint{l.Hosts()[0], l.VCenter()} {
		c, f := l.finder(e)
		vm, err := f.VirtualMachine(t.Context(), "nested-esxi")
		if err != nil {
			t.Fatal(err)
		}
		put(c, vm, login(l.password("nested-esxi"))+"DOWN×4 ENTER DOWN ENTER F11 ENTER ESC×4")
		if got := l.effects("nested-esxi"); !slices.Equal(got, []any{"standard switch restored"}) {
			t.Errorf("through %s: %q", e.Name, got)
		}
		if got := l.Nested()[0].Facts["management"]; got != "standard" {
			t.Errorf("through %s: management is on %s", e.Name, got)
		}
		if h := l.host(); !h.Management.Reachable || h.Management.SwitchKind != "distributed" || len(l.effects("nuc01")) != 0 {
			t.Errorf("what was typed into the VM happened to its host: %+v", h.Management)
		}
		// Several at once, one of which is no key.
		n, err := vm.PutUsbScanCodes(t.Context(), types.UsbScanCodeSpec{KeyEvents: []types.UsbScanCodeSpecKeyEvent{{UsbHidCode: 0x3b0007}, {UsbHidCode: 0x3b0001}}})
		if err != nil || n != 1 {
			t.Errorf("through %s: %d of 2 taken, %v", e.Name, n, err)
		}
		if _, st, _ := l.ask("GET", "/console/nested-esxi", ""); st["screen"] != "login" {
			t.Errorf("at %v", st["screen"])
		}
		if err := l.Reset(); err != nil {
			t.Fatal(err)
		}
		if got := l.effects("nested-esxi"); len(got) != 0 || l.Nested()[0].Facts["management"] != "distributed" {
			t.Errorf("after a reset: %q", got)
		}
	}
}

// A screenshot shows the text of the screen: each character has one shape, and no two share one.
func TestScreenshot(t *testing.T) {
	l := startLab(t, "nuc")
	get := func(e sim.Endpoint, client *http.Client, query, user, password string) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", strings.TrimSuffix(e.URL, "/sdk")+"/screen"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, b
	}
	anyone := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, e := range []sim.Endpoint{l.Hosts()[0], l.VCenter()} {
		c, f := l.finder(e)
		vm, err := f.VirtualMachine(t.Context(), "nested-esxi")
		if err != nil {
			t.Fatal(err)
		}
		l.keys("nested-esxi", login(l.password("nested-esxi"))+"DOWN×4")
		id := "?id=" + vm.Reference().Value
		code, b := get(e, anyone, id, e.User, e.Password)
		if code != http.StatusOK {
			t.Fatalf("%s: %d %s", e.Name, code, b)
		}
		img, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		_, st, err := l.ask("GET", "/console/nested-esxi", "")
		if err != nil {
			t.Fatal(err)
		}
		shapes, of := map[rune]string{}, map[string]rune{}
		for row, line := range st["text"].([]any) {
			runes := []rune(line.(string))
			for col := range 80 {
				r := ' '
				if col < len(runes) {
					r = runes[col]
				}
				var shape strings.Builder
				for y := range 16 {
					for x := range 8 {
						fmt.Fprint(&shape, img.At(8*col+x, 16*row+y) != img.At(8*col, 16*row))
					}
				}
				if old, ok := shapes[r]; ok && old != shape.String() {
					t.Fatalf("%c at row %d, column %d has another shape than before", r, row, col)
				}
				if old, ok := of[shape.String()]; ok && old != r {
					t.Fatalf("%c at row %d, column %d looks like %c", r, row, col, old)
				}
				shapes[r], of[shape.String()] = shape.String(), r
			}
		}
		if len(shapes) < 30 {
			t.Errorf("only %d characters are there", len(shapes))
		}

		if code, again := get(e, &http.Client{Transport: c.Vim.Client.DefaultTransport(), Jar: c.Vim.Client.Jar}, id, "", ""); code != http.StatusOK || !bytes.Equal(again, b) {
			t.Errorf("%s: with the session's cookie: %d", e.Name, code)
		}
		for _, tc := range []struct {
			query, user, password string
			code                  int
		}{
			{id, "", "", 401}, {id, e.User, "wrong", 401}, {id, "nobody", e.Password, 401}, {"?id=vm-0", e.User, e.Password, 404}, {"", e.User, e.Password, 404},
		} {
			if code, _ := get(e, anyone, tc.query, tc.user, tc.password); code != tc.code {
				t.Errorf("%s%s as %q: %d, want %d", e.Name, tc.query, tc.user, code, tc.code)
			}
		}

		// The same as a task that leaves a file.
		for n := range 2 {
			res, err := methods.CreateScreenshot_Task(t.Context(), c.Vim, &types.CreateScreenshot_Task{This: vm.Reference()})
			if err != nil {
				t.Fatal(err)
			}
			info, err := object.NewTask(c.Vim, res.Returnval).WaitForResult(t.Context())
			want := fmt.Sprintf("[datastore1] nested-esxi/nested-esxi-%d.png", n+1)
			if err != nil || info.Result != want {
				t.Fatalf("%s: %v, %v, want %s", e.Name, info, err, want)
			}
			ds, err := f.Datastore(t.Context(), "datastore1")
			if err != nil {
				t.Fatal(err)
			}
			file, _, err := ds.Download(t.Context(), strings.TrimPrefix(want, "[datastore1] "), nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(file)
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("%s: %s is another picture, %v", e.Name, want, err)
			}
			file.Close()
		}
		if err := l.Reset(); err != nil {
			t.Fatal(err)
		}
	}
}

// Every character that can be typed has a shape of its own.
func TestLetters(t *testing.T) {
	seen := map[[7]byte]rune{}
	for r := '!'; r <= '~'; r++ {
		shape, ok := letters[r]
		if old, twice := seen[shape]; !ok || twice {
			t.Errorf("%c: there %t, the same as %c", r, ok, old)
		}
		seen[shape] = r
		for _, row := range shape {
			if row > 0x1f {
				t.Errorf("%c is wider than its grid", r)
			}
		}
	}
	if len(letters) != '~'-'!'+1 {
		t.Errorf("%d shapes", len(letters))
	}
}

// The power of the VM is that of what runs in it.
func TestNestedPower(t *testing.T) {
	l := startLab(t, "nuc")
	c, f := l.finder(l.Hosts()[0])
	vm, err := f.VirtualMachine(t.Context(), "nested-esxi")
	if err != nil {
		t.Fatal(err)
	}
	screen := func() any { _, st, _ := l.ask("GET", "/console/nested-esxi", ""); return st["screen"] }
	p := l.password("nested-esxi")
	if at := l.keys("nested-esxi", `F12 TAB "`+p+`" ENTER F11`); at != "booting" {
		t.Errorf("at %s", at)
	}
	l.eventually("it is back", func() bool { return screen() == "welcome" })
	l.keys("nested-esxi", `F12 TAB "`+p+`" ENTER`)
	if _, answer, err := l.ask("POST", "/console/nested-esxi/report", reports(t, "F2")[0].String()); err != nil || answer["screen"] != "off" {
		t.Errorf("%v %v", answer, err)
	}
	if state, err := vm.PowerState(t.Context()); err != nil || state != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("shut down, it is %s, %v", state, err)
	}
	if err := esxi.PutKey(t.Context(), c.Vim, vm.Reference(), 0x3b, 0); err == nil || !strings.Contains(err.Error(), "powered off") {
		t.Errorf("a key for one that is off: %v", err)
	}
	task, err := vm.PowerOn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.eventually("it has started", func() bool { return screen() == "welcome" })
	l.keys("nested-esxi", "F2")
	if err := l.Reset(); err != nil || screen() != "welcome" {
		t.Errorf("after a reset: %v, at %v", err, screen())
	}
}

// A console that is left alone logs out.
func TestIdleConsole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		con, err := newConsole(sim.Machine{Password: "geheim", Facts: map[string]string{"esxi": "6.0"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reports(t, `F2 TAB "geheim" ENTER`) {
			if deeds := con.Report(r); len(deeds) > 0 {
				t.Fatal(deeds)
			}
		}
		for _, tc := range []struct {
			pause time.Duration
			at    string
		}{{9 * time.Minute, "menu"}, {9 * time.Minute, "menu"}, {11 * time.Minute, "welcome"}} {
			time.Sleep(tc.pause)
			if at := con.View().Screen; at != tc.at {
				t.Errorf("after %s it is at %s, want %s", tc.pause, at, tc.at)
			}
			for _, r := range reports(t, "DOWN") {
				con.Report(r)
			}
		}
	})
	if _, err := newConsole(sim.Machine{Facts: map[string]string{"esxi": "4.1"}}); err == nil {
		t.Error("a console of a version that is not known was opened")
	}
}

// Several keys in one report, and modifiers that come with them, are what a keyboard driver makes of them.
func TestReportsAreDecoded(t *testing.T) {
	con, err := newConsole(sim.Machine{Password: "x", Facts: map[string]string{"esxi": "6.0"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ report, at string }{
		{"00003b0000000000", "login"},   // F2
		{"00003b2900000000", "welcome"}, // ESC, with F2 held
		{"00003b2900000000", "welcome"}, // the same again is no news
		{"0000000000000000", "welcome"},
		{"0000010101010101", "welcome"}, // too many keys say nothing
		{"0400450000000000", "log"},     // ALT and F12 in one report
		{"04003b0000000000", "welcome"}, // ALT+F2, F12 up
		{"0000000000000000", "welcome"},
		{"00003b0000000000", "login"},
	} {
		r, err := hid.ParseReport(tc.report)
		if err != nil {
			t.Fatal(err)
		}
		con.Report(r)
		if at := con.View().Screen; at != tc.at {
			t.Errorf("after %s at %s, want %s", tc.report, at, tc.at)
		}
	}
}

// The config tells every fact of every console, and where its keys and its password are.
func TestConfigOfConsoles(t *testing.T) {
	l := startLab(t, "standard")
	l.keys("nuc01", login(l.password("nuc01"))+"DOWN×6 ENTER DOWN ENTER")
	file := filepath.Join(t.TempDir(), "labctl.yaml")
	if err := l.WriteConfig(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Hosts []struct {
			Name, URL, Keyboard string
			PasswordFile        string `yaml:"password_file"`
			Facts               map[string]string
		}
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	want := map[string]struct{ keyboard, management, ssh string }{
		"nuc01":       {"sim://" + l.ControlAddr() + "/nuc01", "standard", "on"},
		"nested-esxi": {"vm://nuc01/nested-esxi", "distributed", "off"},
	}
	if len(c.Hosts) != len(want) {
		t.Fatalf("%d hosts:\n%s", len(c.Hosts), text)
	}
	for _, h := range c.Hosts {
		w := want[h.Name]
		if h.Keyboard != w.keyboard || h.Facts["management"] != w.management || h.Facts["ssh"] != w.ssh || (h.URL == "") != (h.Name == "nested-esxi") {
			t.Errorf("%+v, want %+v", h, w)
		}
		for _, name := range dcui.FactNames() {
			if !slices.Contains(dcui.FactValues(name), h.Facts[name]) {
				t.Errorf("%s: fact %s is %q", h.Name, name, h.Facts[name])
			}
		}
		if b, err := os.ReadFile(h.PasswordFile); err != nil || strings.TrimSpace(string(b)) != l.password(h.Name) {
			t.Errorf("%s: its password is not in %s: %v", h.Name, h.PasswordFile, err)
		}
	}
}
