package sim

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func TestFaultsAreReadStrictly(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ json, err string }{
		{`{"fault": "wire-vlan", "host": "nuc01", "vlan": 999}`, ""},
		{`{"fault": "link-down", "host": "nuc01", "pnic": "vmnic0", "when": "next-change"}`, ""},
		{`{"fault": "fail-before", "method": "UpdateNetworkConfig", "path": "esxi", "count": 2, "type": "ResourceInUse"}`, ""},
		{`{"fault": "drop", "call": 3, "when": "after"}`, ""},
		{`{"fault": "vcenter-down"}`, ""},
		{`{"fault": "earthquake"}`, `there is no fault "earthquake"`},
		{`{"fault": "wire-vlan", "host": "nuc01"}`, `needs "vlan"`},
		{`{"fault": "wire-vlan", "host": "nuc01", "vlan": 999, "ms": 5}`, `takes no "ms"`},
		{`{"fault": "wire-vlan", "host": "nuc01", "vlan": 5000}`, "vlan cannot be 5000"},
		{`{"fault": "delay", "ms": -1}`, "ms cannot be -1"},
		{`{"fault": "delay", "ms": 5, "path": "moon"}`, `path is vcenter or esxi, not "moon"`},
		{`{"fault": "drop", "call": 3, "when": "now"}`, `when is before or after`},
		{`{"fault": "link-down", "host": "nuc01", "pnic": "vmnic0", "when": "after"}`, `when is now or next-change`},
		{`{"fault": "fail-before", "type": "NoSuchFault"}`, `no fault "NoSuchFault"`},
		{`{"fault": "fail-before", "type": "HostSystem"}`, `no fault "HostSystem"`},
		{`{"fault": "busy"}`, "needs a host or a vm"},
		{`{"fault": "host-state", "host": "nuc01", "state": "tired"}`, "state is disconnected or maintenance"},
		{`{"fault": "delay", "ms": 5, "unknown": 1}`, "unknown"},
		{`{"fault": "delay", "ms": 5} {}`, "more than one"},
		{`{"fault": "delay", "ms": "5"}`, "reading a fault"},
		{``, "reading a fault"},
	} {
		_, err := ParseFault([]byte(tc.json))
		switch {
		case tc.err == "" && err != nil:
			t.Errorf("%s: %v", tc.json, err)
		case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %v, want one line with %q", tc.json, err, tc.err)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	f.Add([]byte(`{"fault": "wire-vlan", "host": "nuc01", "vlan": 999}`))
	f.Add([]byte(`{"fault": "fail-before", "type": "ResourceInUse"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		flt, err := ParseFault(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(flt)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseFault(again); err != nil || back != flt {
			t.Errorf("%s reads as %+v, which writes as %s: %v", data, flt, again, err)
		}
	})
}

func TestAFaultNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	for _, f := range []Fault{
		{Fault: "wire-vlan", Host: "nuc09", VLAN: 9},
		{Fault: "link-down", Host: "nuc01", Pnic: "vmnic9"},
		{Fault: "vm-edit", VM: "nobody"},
	} {
		if err := l.Arm(f); err == nil {
			t.Errorf("%+v was armed", f)
		}
	}
}

// moved says where vmk0 is, so that a test can tell a change that was carried out from one that was not.
func moved(l *Lab) bool { return l.State().Hosts[0].Management.SwitchKind == "standard" }

func TestRequestFaults(t *testing.T) {
	t.Parallel()
	update := func(c *client) error { return c.update(toStandard(20)) }
	for _, tc := range []struct {
		fault Fault
		moved bool
		check func(error) bool // the first answer
	}{
		{Fault{Fault: "answer-lost", Method: "UpdateNetworkConfig"}, true, isConnectionLost},
		{Fault{Fault: "drop", Method: "UpdateNetworkConfig", Call: 1, When: "after"}, true, isConnectionLost},
		{Fault{Fault: "drop", Method: "UpdateNetworkConfig", Call: 1}, false, isConnectionLost},
		{Fault{Fault: "drop", Call: 1, When: "before"}, false, isConnectionLost},
		{Fault{Fault: "fail-call", Call: 1}, false, func(err error) bool { return fault.Is(err, &types.SystemError{}) }},
		{Fault{Fault: "fail-before", Method: "UpdateNetworkConfig", Type: "HostConfigFault"}, false, func(err error) bool { return fault.Is(err, &types.HostConfigFault{}) }},
		{Fault{Fault: "fail-before", Type: "ResourceInUse"}, false, func(err error) bool { return fault.Is(err, &types.ResourceInUse{}) }},
		{Fault{Fault: "fail-before", Type: "NotAuthenticated"}, false, func(err error) bool { return fault.Is(err, &types.NotAuthenticated{}) }},
		{Fault{Fault: "fail-before", Method: "Login"}, true, func(err error) bool { return err == nil }},
	} {
		for _, path := range []string{"vcenter", "esxi"} {
			name := tc.fault.Fault + " " + tc.fault.Method + tc.fault.Type + tc.fault.When + " " + path
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				l := start(t, Options{})
				c := connect(t, l, path)
				if err := l.Arm(tc.fault); err != nil {
					t.Fatal(err)
				}
				if err := update(c); !tc.check(err) {
					t.Errorf("the answer is %v", err)
				}
				if moved(l) != tc.moved {
					t.Errorf("carried out: %v, want %v", moved(l), tc.moved)
				}
				if !tc.moved {
					if err := update(c); err != nil || !moved(l) { // once only
						t.Errorf("the second time: %v", err)
					}
				}
			})
		}
	}
}

func isConnectionLost(err error) bool {
	var ue *url.Error
	return errors.As(err, &ue) && !soap.IsSoapFault(err)
}

func TestCountsAndPaths(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	vc, direct := connect(t, l, "vcenter"), connect(t, l, "esxi")
	ping := func(c *client) error {
		_, err := methods.GetCurrentTime(t.Context(), c.Client)
		return err
	}
	if err := l.Arm(Fault{Fault: "fail-before", Path: "esxi", Method: "CurrentTime", Count: 2, Call: 2}); err != nil {
		t.Fatal(err)
	}
	var answers []bool
	for range 5 {
		answers = append(answers, ping(direct) == nil)
		if err := ping(vc); err != nil {
			t.Errorf("the other path: %v", err)
		}
	}
	if want := []bool{true, false, false, true, true}; !slices.Equal(answers, want) {
		t.Errorf("answers: %v, want %v", answers, want)
	}
	if f := l.State().Faults[0]; f.Fired != 2 || f.Seen != 3 {
		t.Errorf("%+v", f)
	}
	r := l.State().Requests
	if r.ByPath["esxi"]-r.ByPath["vcenter"] != 0 || r.Total != len(r.Calls) || r.Calls[len(r.Calls)-1] != "CurrentTime" {
		t.Errorf("%+v", r)
	}
}

func TestAHeldRequestWaits(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			l := start(t, Options{})
			c := connect(t, l, "vcenter")
			if err := l.Arm(Fault{Fault: "hold", Call: 1, When: when, Method: "UpdateNetworkConfig"}); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- c.update(toStandard(20)) }()
			eventually(t, func() int { return l.State().Held }, 1)
			if moved(l) != (when == "after") {
				t.Errorf("carried out while held: %v", moved(l))
			}
			l.Release()
			if err := <-done; err != nil {
				t.Errorf("after the release: %v", err)
			}
			eventually(t, func() int { return l.State().Held }, 0)
		})
	}
}

func TestAHeldRequestEndsWithItsClient(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	if err := l.Arm(Fault{Fault: "hold", Call: 1, Method: "UpdateNetworkConfig"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = c.network().UpdateNetworkConfig(ctx, toStandard(20), "modify")
	}()
	eventually(t, func() int { return l.State().Held }, 1)
	cancel()
	eventually(t, func() int { return l.State().Held }, 0)
	if moved(l) {
		t.Error("a request whose client was gone before it was carried out")
	}
}

func TestTheWireBecomesAnAccessPort(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	if err := l.Arm(Fault{Fault: "wire-vlan", Host: "nuc01", VLAN: 999}); err != nil {
		t.Fatal(err)
	}
	if got, want := picture(l), "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected"; got != want {
		t.Errorf("before the next change: %s", got)
	}
	c := connect(t, l, "vcenter")
	if err := c.update(toStandard(20)); err == nil || fault.Is(err, &types.NetworkDisruptedAndConfigRolledBack{}) {
		t.Errorf("undoing it does not help, and the answer is %v", err)
	}
	if got, want := picture(l), "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt unreachable notResponding"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := dial(t, l.Hosts()[0]); err == nil {
		t.Error("the host answers")
	}
	l.Disarm()
	eventually(t, func() string { return picture(l) }, "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected")
	connect(t, l, "esxi")
}

func TestAnUntaggedMoveSurvivesTheAccessPort(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	if err := l.Arm(Fault{Fault: "wire-vlan", Host: "nuc01", VLAN: 999}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, l, "esxi")
	if err := c.update(toStandard(0)); err != nil {
		t.Fatal(err)
	}
	if got, want := picture(l), "vSwitch0[vmnic0] DVS0[] vmk0→Management Network connected"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestLinkDown(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	if err := l.Arm(Fault{Fault: "link-down", Host: "nuc01", Pnic: "vmnic0", When: "next-change"}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, l, "esxi")
	if err := c.update(toStandard(20)); !isConnectionLost(err) {
		t.Errorf("the answer is %v", err)
	}
	if s := l.State().Hosts[0]; s.Pnics[0].Mbps != 0 || !strings.Contains(s.Management.Reason, "link") {
		t.Errorf("%+v %s", s.Pnics, s.Management.Reason)
	}
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := l.Arm(Fault{Fault: "link-down", Host: "nuc01", Pnic: "vmnic0"}); err != nil {
		t.Fatal(err)
	}
	if l.State().Hosts[0].Management.Reachable {
		t.Error("the link is down now and the host reachable")
	}
	l.Disarm()
	if !l.State().Hosts[0].Management.Reachable {
		t.Error("the link is up and the host unreachable")
	}
}

func TestASilentHostHangsAndComesBack(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "esxi")
	if err := l.Arm(Fault{Fault: "silent", Host: "nuc01"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := c.network().UpdateNetworkConfig(ctx, toStandard(99), "modify")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the answer is %v, want silence", err)
	}
	u, _ := url.Parse(l.Hosts()[0].URL)
	raw, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatalf("a silent host still accepts connections: %v", err)
	}
	defer raw.Close()
	if _, err := raw.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = raw.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := raw.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("a silent host says something: %v", err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestHalfDeadEndpoints(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"vcenter", "esxi"} {
		l := start(t, Options{})
		c := connect(t, l, path)
		if err := l.Arm(Fault{Fault: "half-dead", Path: path}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := methods.GetCurrentTime(ctx, c.Client)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want silence", path, err)
		}
		other := map[string]string{"vcenter": "esxi", "esxi": "vcenter"}[path]
		connect(t, l, other)
		l.Disarm()
		connect(t, l, path)
	}
}

func TestVCenterDown(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	if err := l.Arm(Fault{Fault: "vcenter-down"}); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, l.VCenter()); err == nil {
		t.Error("the vCenter answers")
	}
	connect(t, l, "esxi")
	l.Disarm()
	connect(t, l, "vcenter")
}

func TestDelays(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	took := func(f func() error) time.Duration {
		t.Helper()
		begun := time.Now()
		if err := f(); err != nil {
			t.Error(err)
		}
		return time.Since(begun)
	}
	ping := func() error { _, err := methods.GetCurrentTime(t.Context(), c.Client); return err }
	if err := l.Arm(Fault{Fault: "delay", MS: 60, Path: "vcenter"}); err != nil {
		t.Fatal(err)
	}
	if d := took(ping); d < 60*time.Millisecond {
		t.Errorf("a delayed request took %v", d)
	}
	l.Disarm()
	if err := l.Arm(Fault{Fault: "op-delay", MS: 1000}); err != nil {
		t.Fatal(err)
	}
	done := make(chan time.Duration, 1)
	go func() { done <- took(func() error { return c.update(toStandard(20)) }) }()
	reads := 0
	for {
		select {
		case d := <-done:
			if d < time.Second {
				t.Errorf("a delayed operation took %v", d)
			}
			if reads < 2 {
				t.Errorf("%d reads during the operation: it keeps readers waiting", reads)
			}
			return
		default:
			c2 := *c
			c2.read()
			reads++
		}
	}
}

func TestStandingStates(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	vc := connect(t, l, "vcenter")
	if err := l.Arm(Fault{Fault: "host-state", Host: "nuc01", State: "maintenance"}); err != nil {
		t.Fatal(err)
	}
	if vc.read(); !vc.host.Runtime.InMaintenanceMode {
		t.Error("not in maintenance")
	}
	l.Disarm()
	if vc.read(); vc.host.Runtime.InMaintenanceMode {
		t.Error("still in maintenance")
	}
	if err := l.Arm(Fault{Fault: "host-state", Host: "nuc01", State: "disconnected"}); err != nil {
		t.Fatal(err)
	}
	if vc.read(); vc.host.Runtime.ConnectionState != types.HostSystemConnectionStateDisconnected {
		t.Errorf("the host is %s", vc.host.Runtime.ConnectionState)
	}
	if err := vc.update(toStandard(20)); !fault.Is(err, &types.HostNotConnected{}) {
		t.Errorf("a change on a disconnected host: %v", err)
	}
	l.Disarm()
	eventually(t, func() string { return l.State().Hosts[0].ConnectionState }, "connected")
}

func TestABusyVM(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	for _, f := range []Fault{{Fault: "busy", VM: "photonbox"}, {Fault: "busy", Host: "nuc01"}} {
		if err := l.Arm(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"vcenter", "esxi"} {
		c := connect(t, l, path)
		running := func(obj types.ManagedObjectReference) (n int) {
			var e mo.ManagedEntity
			pc := c.vm("photonbox")
			if err := pc.Properties(t.Context(), obj, []string{"recentTask"}, &e); err != nil {
				t.Fatal(err)
			}
			for _, ref := range e.RecentTask {
				var task mo.Task
				if err := pc.Properties(t.Context(), ref, []string{"info"}, &task); err != nil {
					t.Fatal(err)
				}
				if task.Info.State == types.TaskInfoStateRunning {
					n++
				}
			}
			return n
		}
		if n := running(c.vm("photonbox").Reference()); n != 1 {
			t.Errorf("%s: %d tasks run on the VM", path, n)
		}
		if n := running(c.host.Self); n != 1 {
			t.Errorf("%s: %d tasks run on the host", path, n)
		}
	}
	l.Disarm()
	c := connect(t, l, "vcenter")
	eventually(t, func() types.TaskInfoState {
		var v mo.VirtualMachine
		if err := c.vm("photonbox").Properties(t.Context(), c.vm("photonbox").Reference(), []string{"recentTask"}, &v); err != nil {
			t.Fatal(err)
		}
		var task mo.Task
		if err := object.NewCommon(c.Client, v.RecentTask[0]).Properties(t.Context(), v.RecentTask[0], []string{"info"}, &task); err != nil {
			t.Fatal(err)
		}
		return task.Info.State
	}, types.TaskInfoStateSuccess)
}

func TestVMEditsFail(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "standard"})
	if err := l.Arm(Fault{Fault: "vm-edit", VM: "photonbox", Count: 1}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, l, "vcenter")
	if err := c.rewire("pihole", dvBacking("dvportgroup-23")); err != nil {
		t.Errorf("another VM: %v", err)
	}
	if err := c.rewire("photonbox", dvBacking("dvportgroup-22")); !fault.Is(err, &types.GenericVmConfigFault{}) {
		t.Errorf("this VM: %v", err)
	}
	if err := c.rewire("photonbox", dvBacking("dvportgroup-22")); err != nil {
		t.Errorf("once only: %v", err)
	}
}

func TestControlIsForPrograms(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	do := func(method, path, body string, edit func(*http.Request)) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.ControlAddr()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			edit(req)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var text strings.Builder
		buf := make([]byte, 1<<16)
		for {
			n, err := res.Body.Read(buf)
			text.Write(buf[:n])
			if err != nil {
				break
			}
		}
		return res.StatusCode, text.String()
	}
	if code, text := do("GET", "/state", "", nil); code != 200 || !strings.Contains(text, `"version": 1`) {
		t.Errorf("state: %d %s", code, text)
	}
	if code, text := do("POST", "/fault", `{"fault": "wire-vlan", "host": "nuc01", "vlan": 999}`, nil); code != 200 {
		t.Errorf("fault: %d %s", code, text)
	}
	if code, text := do("POST", "/fault", `{"fault": "nonsense"}`, nil); code != 400 || strings.Count(text, "\n") != 1 {
		t.Errorf("an unknown fault: %d %q", code, text)
	}
	if n := len(l.State().Faults); n != 1 {
		t.Errorf("%d faults are armed", n)
	}
	if code, _ := do("POST", "/reset", "", nil); code != 200 || len(l.State().Faults) != 0 {
		t.Errorf("reset: %d, %v", code, l.State().Faults)
	}
	for _, edit := range []func(*http.Request){
		func(r *http.Request) { r.Header.Set("Origin", "https://example.com") },
		func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		func(r *http.Request) { r.Host = "example.com" },
	} {
		if code, _ := do("POST", "/reset", "", edit); code != http.StatusForbidden {
			t.Errorf("a browser may: %d", code)
		}
	}
	if code, _ := do("GET", "/nothing", "", nil); code != 404 {
		t.Errorf("an unknown path: %d", code)
	}
	if _, err := Start(t.Context(), Options{Control: "0.0.0.0:0"}); err == nil {
		t.Error("a control server for everybody")
	}
	if _, err := Start(t.Context(), Options{Listen: "0.0.0.0:0"}); err == nil {
		t.Error("a vCenter for everybody")
	}
}

// A lost host resets what is open, also where nobody is speaking, and closes what is opened.
func TestALostHostResetsConnections(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	u, err := url.Parse(l.Hosts()[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	ends := func(c net.Conn) error {
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, err := c.Read(make([]byte, 1))
		return err
	}
	idle, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	eventually(t, func() int {
		g := l.hosts[0].gate
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.conns)
	}, 1)
	if err := l.Arm(Fault{Fault: "link-down", Host: "nuc01", Pnic: "vmnic0"}); err != nil {
		t.Fatal(err)
	}
	if err := ends(idle); isTimeout(err) {
		t.Error("an idle connection stays open")
	}
	fresh, err := net.Dial("tcp", u.Host)
	if err != nil {
		return // reset before the dialer saw it: as good
	}
	defer fresh.Close()
	if err := ends(fresh); isTimeout(err) {
		t.Error("a new connection stays open")
	}
}
