package sim

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
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

func TestEverySceneStandsAndAnswers(t *testing.T) {
	t.Parallel()
	pictures := map[string]string{
		"nuc":         "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected",
		"standard":    "vSwitch0[vmnic0] DVS0[] vmk0→Management Network connected",
		"fresh":       "vSwitch0[vmnic0] vmk0→Management Network connected",
		"ephemeral":   "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected",
		"vcsa":        "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected",
		"rack":        "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected",
		"two-uplinks": "DVS0[vmnic0=Uplink 1 vmnic1=Uplink 2] vmk0→DVS-Mgmt connected",
		"storage":     "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected",
		"lag":         "DVS0[vmnic0=lag1-0] vmk0→DVS-Mgmt connected",
		"pvlan":       "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected",
		"trunk":       "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected",
		"vch":         "vSwitch0[vmnic0] vch1[] DVS0[] vmk0→Management Network connected",
		"vic-0.4":     "vSwitch0[vmnic0] vSwitch1[] DVS0[] vmk0→Management Network connected",
		"standalone":  "vSwitch0[vmnic0] vmk0→Management Network connected",
		"awkward":     "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected",
	}
	for _, sc := range Scenes() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			l := start(t, Options{Scene: sc.Name})
			if got := picture(l); got != pictures[sc.Name] {
				t.Errorf("%s, want %s", got, pictures[sc.Name])
			}
			for _, h := range l.State().Hosts {
				for _, v := range h.VMs {
					for _, n := range v.NICs {
						if bridge := n.Switch == "vch1" || n.Switch == "vSwitch1"; v.Power == "on" && n.Lit == bridge { // a VCH's bridge has no uplink
							t.Errorf("%s starts in the dark", v.Name)
						}
					}
				}
			}
			if sc.Name != "standalone" {
				connect(t, l, "vcenter")
			}
			for _, e := range l.Hosts() {
				if sc.Name == "standalone" {
					if m := connect(t, l, "esxi").host.Summary.ManagementServerIp; m != "" {
						t.Errorf("%s is managed by %s", e.Name, m)
					}
				}
				if _, err := dial(t, e); err != nil {
					t.Errorf("%s: %v", e.Name, err)
				}
			}
		})
	}
	if _, err := Start(t.Context(), Options{Scene: "attic"}); err == nil || !strings.Contains(err.Error(), `"attic"`) {
		t.Errorf("an unknown scene: %v", err)
	}
}

func TestPasswordsAreChecked(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	for _, e := range []Endpoint{l.VCenter(), l.Hosts()[0]} {
		if _, err := dial(t, e); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		wrong := e
		wrong.Password = "wrong"
		if _, err := dial(t, wrong); !fault.Is(err, &types.InvalidLogin{}) {
			t.Errorf("%s with a wrong password: %v", e.Name, err)
		}
	}
}

func TestResetRestoresEverythingAndKeepsTheKeys(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	vcenter, host := l.VCenter(), l.Hosts()[0]
	first := l.State()
	for round := range renewEvery + 3 {
		for _, path := range []string{"vcenter", "esxi"} {
			c := connect(t, l, path)
			if round%2 == 0 {
				if err := c.update(toStandard(20)); err != nil {
					t.Fatalf("round %d, %s: %v", round, path, err)
				}
				if err := c.rewire("photonbox", standardBacking("Lab")); err != nil {
					t.Fatalf("round %d, %s: %v", round, path, err)
				}
			} else if err := l.Arm(Fault{Fault: "link-down", Host: "nuc01", Pnic: "vmnic0"}); err != nil {
				t.Fatal(err)
			}
			if err := l.Reset(); err != nil {
				t.Fatal(err)
			}
			state := l.State()
			state.Hosts[0].DarkMs = 0
			same(t, "the state after a reset", state, first)
		}
	}
	if vcenter != l.VCenter() || host != l.Hosts()[0] {
		t.Error("an endpoint has changed")
	}
	c := connect(t, l, "vcenter")
	if c.host.Runtime.ConnectionState != types.HostSystemConnectionStateConnected || len(c.host.Config.Network.Vswitch) != 0 {
		t.Errorf("the vCenter shows %s, %v", c.host.Runtime.ConnectionState, c.host.Config.Network.Vswitch)
	}
	if len(c.host.Vm) != 3 {
		t.Errorf("%d VMs", len(c.host.Vm))
	}
}

func TestResetTakesBackWhatIsNotNetworking(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	ctx := t.Context()
	if err := c.create("left-behind", dvBacking("dvportgroup-22")); err != nil {
		t.Fatal(err)
	}
	task, err := c.vm("photonbox").Reconfigure(ctx, types.VirtualMachineConfigSpec{Annotation: "scribble"})
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"vcenter", "esxi"} {
		c := connect(t, l, path)
		if len(c.host.Vm) != 3 {
			t.Errorf("%s: %d VMs", path, len(c.host.Vm))
		}
		var v mo.VirtualMachine
		if err := c.vm("photonbox").Properties(ctx, c.vm("photonbox").Reference(), []string{"config.annotation"}, &v); err != nil {
			t.Fatal(err)
		}
		if v.Config != nil && v.Config.Annotation != "" {
			t.Errorf("%s: photonbox is still annotated %q", path, v.Config.Annotation)
		}
	}
}

func TestResetForgetsRollbackEvents(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	if err := c.update(toStandard(99)); !fault.Is(err, &types.NetworkDisruptedAndConfigRolledBack{}) {
		t.Fatal(err)
	}
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	c = connect(t, l, "vcenter")
	events, err := methods.QueryEvents(t.Context(), c.Client, &types.QueryEvents{
		This: *c.ServiceContent.EventManager, Filter: types.EventFilterSpec{EventTypeId: []string{"NetworkRollbackEvent"}},
	})
	if err != nil || len(events.Returnval) != 0 || l.State().RollbackEvents != 0 {
		t.Errorf("after a reset: %+v, %v", events, err)
	}
}

// What a vCenter client began before a reset must not act after it.
func TestAResetEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	l := start(t, Options{RollbackAfter: 10 * time.Second})
	c := connect(t, l, "vcenter")
	lost := make(chan error, 1)
	go func() { lost <- c.update(toStandard(99)) }()
	eventually(t, func() bool { return l.State().Hosts[0].Management.Reachable }, false)
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := <-lost; err == nil {
		t.Error("a change that a reset swept away succeeded")
	}
	if got, want := picture(l), "DVS0[vmnic0=Uplink 1] vmk0→DVS-Mgmt connected"; got != want || l.State().RollbackEvents != 0 {
		t.Errorf("%s, %d rollbacks, want %s", got, l.State().RollbackEvents, want)
	}
	c = connect(t, l, "vcenter")
	if err := c.update(toStandard(20)); err != nil {
		t.Errorf("the next change: %v", err)
	}
}

func TestAWaitForUpdatesSeesTheChange(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	seen := make(chan error, 1)
	watching := make(chan struct{})
	go func() {
		first := true
		seen <- property.Wait(t.Context(), property.DefaultCollector(c.Client), c.host.Self, []string{"config.network"}, func(pc []types.PropertyChange) bool {
			if first {
				first = false
				close(watching)
				return false
			}
			return true
		})
	}()
	<-watching
	if err := c.update(toStandard(20)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-seen:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the watcher was not told")
	}
}

// A read sees the world before a change or after it, never half of it: it waits while one is being shown.
func TestAReadWaitsForAChangeToBeComplete(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	s := l.site.Load()
	s.mu.Lock()
	read := make(chan struct{})
	go func() {
		defer close(read)
		c2 := *c
		c2.read()
	}()
	select {
	case <-read:
		t.Error("a read was answered in the middle of a change")
	case <-time.After(100 * time.Millisecond):
	}
	s.mu.Unlock()
	<-read
}

func TestManyClientsAtOnce(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "ephemeral", RollbackAfter: 20 * time.Millisecond})
	var wg sync.WaitGroup
	for i := range 6 {
		path := []string{"vcenter", "esxi"}[i%2]
		c := connect(t, l, path)
		wg.Go(func() {
			for n := range 8 {
				switch (i + n) % 4 {
				case 0:
					_ = c.update(toStandard(20))
				case 1:
					_ = c.update(toDistributed())
				case 2:
					_ = c.rewire("photonbox", standardBacking("Lab"))
				case 3:
					_ = c.rewire("pihole", dvBacking("dvportgroup-23"))
				}
				l.State()
			}
		})
	}
	wg.Wait()
	if s := l.State().Hosts[0]; !s.Management.Reachable {
		t.Errorf("right moves alone have stranded the host: %s", s.Management.Reason)
	}
}

func TestTheConfigWorksAsItIs(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	file := filepath.Join(t.TempDir(), "labctl.yaml")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.WriteConfig(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Endpoint{l.VCenter(), l.Hosts()[0]} {
		for _, want := range []string{e.URL, e.Thumbprint, file + "." + e.Name + ".password"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("the config lacks %s", want)
			}
		}
		if strings.Contains(string(text), e.Password) {
			t.Error("the config holds a password")
		}
		secret := file + "." + e.Name + ".password"
		got, err := os.ReadFile(secret)
		if err != nil || strings.TrimSpace(string(got)) != e.Password {
			t.Errorf("%s: %v", secret, err)
		}
		for _, f := range []string{file, secret} {
			if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", f, info.Mode(), err)
			}
		}
	}
	if !strings.Contains(string(text), "keyboard: sim://"+l.ControlAddr()+"/nuc01") {
		t.Errorf("the config lacks the keyboard:\n%s", text)
	}
}

func TestRackHostsAreSeparate(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Scene: "rack"})
	if n := len(l.Hosts()); n != 3 {
		t.Fatalf("%d hosts", n)
	}
	c := connect(t, l, "vcenter")
	if err := c.update(toStandard(20)); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, h := range l.State().Hosts {
		kinds = append(kinds, h.Management.SwitchKind)
	}
	if got := strings.Join(kinds, " "); got != "standard distributed distributed" {
		t.Errorf("vmk0 is on: %s", got)
	}
}

func TestTheRollbackSettingIsTheVCenters(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	query := func() string {
		res, err := methods.QueryOptions(t.Context(), c.Client, &types.QueryOptions{This: *c.ServiceContent.Setting, Name: rollbackOption})
		if err != nil {
			t.Fatal(err)
		}
		return res.Returnval[0].GetOptionValue().Value.(string)
	}
	if v := query(); v != "true" {
		t.Errorf("rollback is %s", v)
	}
	if err := l.Arm(Fault{Fault: "rollback-off"}); err != nil {
		t.Fatal(err)
	}
	if v := query(); v != "false" {
		t.Errorf("with the fault armed rollback is %s", v)
	}
	l.Disarm()
	_, err := methods.UpdateOptions(t.Context(), c.Client, &types.UpdateOptions{This: *c.ServiceContent.Setting, ChangedValue: []types.BaseOptionValue{
		&types.OptionValue{Key: rollbackOption, Value: "false"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.update(toStandard(99)); err == nil || fault.Is(err, &types.NetworkDisruptedAndConfigRolledBack{}) {
		t.Errorf("with rollback off: %v", err)
	}
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	c = connect(t, l, "vcenter")
	if v := query(); v != "true" {
		t.Errorf("after a reset rollback is %s", v)
	}
}

func TestAClosedLabStaysClosed(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	dir := l.site.Load().dir
	l.Close()
	if _, err := dial(t, l.VCenter()); err == nil {
		t.Error("a closed lab answers")
	}
	if err := l.Reset(); !errors.Is(err, errClosed) {
		t.Errorf("resetting a closed lab: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("its files are still there: %v", err)
	}
	l.Close()
}

// vcsim alone would wait for a client that is gone, polling, until the process ends.
func TestAWaitEndsWithItsClient(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	c := connect(t, l, "vcenter")
	waits := func() int {
		buf := make([]byte, 1<<20)
		return strings.Count(string(buf[:runtime.Stack(buf, true)]), "simulator.(*PropertyCollector).WaitForUpdatesEx(")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_ = property.Wait(ctx, property.DefaultCollector(c.Client), c.host.Self, []string{"config.network"}, func([]types.PropertyChange) bool { return false })
	}()
	eventually(t, waits, 1)
	l.vcenter.gate.reset() // as if the client had been killed
	eventually(t, waits, 0)
}
