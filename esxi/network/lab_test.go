package network

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/sim/labproc"
)

func TestMain(m *testing.M) {
	code := m.Run()
	labproc.Clean()
	os.Exit(code)
}

// lab is a labsim process.
type lab struct {
	*labproc.Lab
	t         *testing.T
	endpoints map[string]*esxi.Endpoint // by vcenter, esxi
	dir       string                    // of journals
}

func startLab(t *testing.T, scene string, args ...string) *lab {
	t.Helper()
	dir := t.TempDir()
	p, err := labproc.Start(dir, append([]string{"--scene", scene,
		"--rollback-after", "200ms", "--lost-after", "100ms", "--reconnect-after", "50ms"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	l := &lab{Lab: p, t: t, dir: filepath.Join(dir, "journals"), endpoints: map[string]*esxi.Endpoint{}}
	for _, e := range p.Endpoints {
		u, _, err := esxi.ParseURL(e.URL)
		if err != nil {
			t.Fatal(err)
		}
		via := "esxi"
		if e.Name == "vcenter" {
			via = e.Name
		}
		l.endpoints[via] = &esxi.Endpoint{URL: u, User: e.User, Thumbprint: e.Thumbprint, Password: func(context.Context) (esxi.Secret, error) {
			password, err := p.Password(e.Name)
			return esxi.NewSecret(password), err
		}}
	}
	return l
}

func (l *lab) call(method, path, body string) []byte {
	l.t.Helper()
	b, err := l.Ask(method, path, body)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

func (l *lab) arm(faults ...string) {
	l.t.Helper()
	for _, f := range faults {
		l.call("POST", "/fault", f)
	}
}

func (l *lab) disarm() { l.t.Helper(); l.call("DELETE", "/fault", "") }
func (l *lab) reset()  { l.t.Helper(); l.call("POST", "/reset", "") }

// labState is what the tests look at in GET /state.
type labState struct {
	Hosts []labHost
	DVS   []struct {
		Members    []string
		Portgroups []struct {
			Name, Type string
			VLAN       int
		}
	}
	Held     int
	Requests struct{ Calls []string }
}

type labHost struct {
	ConnectionState string
	Management      struct {
		SwitchKind, Reason string
		Reachable          bool
	}
	Switches, ProxySwitches, Portgroups json.RawMessage
	Vmkernels                           []labVmk
	VMs                                 []struct {
		Name string
		NICs []struct {
			Switch, SwitchKind, Portgroup, MAC string
			Connected, Lit                     bool
		}
	}
}

type labVmk struct {
	Device, IP, MAC, Switch, SwitchKind, Portgroup string
	MTU, VLAN                                      int
	Services                                       []string
}

func (l *lab) look() *labState {
	l.t.Helper()
	var st labState
	if err := json.Unmarshal(l.call("GET", "/state", ""), &st); err != nil {
		l.t.Fatal(err)
	}
	return &st
}

// signature is all of the configuration: of the host, its machines and the DVS.
func (st *labState) signature() string {
	h := st.Hosts[0]
	var b strings.Builder
	for _, raw := range []json.RawMessage{h.Switches, h.ProxySwitches, h.Portgroups} {
		var compact bytes.Buffer
		json.Compact(&compact, raw)
		fmt.Fprintln(&b, compact.String())
	}
	fmt.Fprintln(&b, h.Vmkernels)
	for _, vm := range h.VMs {
		for _, n := range vm.NICs {
			fmt.Fprintln(&b, vm.Name, n.Switch, n.SwitchKind, n.Portgroup, n.MAC, n.Connected)
		}
	}
	fmt.Fprintln(&b, st.DVS)
	return b.String()
}

// calls counts the requests of one method since the last reset.
func (st *labState) calls(method string) (n int) {
	for _, c := range st.Requests.Calls {
		if c == method {
			n++
		}
	}
	return n
}

func (l *lab) path(via string) *Path {
	e := l.endpoints[via]
	p := &Path{Via: via, Want: esxi.Wanted{Name: "nuc01"}, Dial: func(ctx context.Context) (*esxi.Client, error) { return esxi.Dial(ctx, e) }}
	l.t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

func other(via string) string {
	return map[string]string{"vcenter": "esxi", "esxi": "vcenter"}[via]
}

// story collects a run's events.
type story struct {
	mu     sync.Mutex
	events []Event
	hook   func(Event)
}

func (s *story) on(e Event) {
	s.mu.Lock()
	s.events = append(s.events, e)
	s.mu.Unlock()
	if s.hook != nil {
		s.hook(e)
	}
}

// failed lists the steps that did not work out.
func (s *story) failed() (out []string) {
	for _, e := range s.events {
		if e.State == Failed {
			out = append(out, e.Step+": "+e.Text)
		}
	}
	return out
}

// run plans a move and begins its journal.
func (l *lab) run(via string, g Goal) (*Run, *Snapshot, *story) {
	l.t.Helper()
	p := l.path(via)
	h, err := p.Host(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	s, err := ReadFor(l.t.Context(), h, g)
	if err != nil {
		l.t.Fatal(err)
	}
	plan := NewPlan(s, g)
	if plan.Refused() || plan.Already {
		l.t.Fatalf("refused: %v, already %t", plan.Refusals, plan.Already)
	}
	j, err := CreateJournal(l.dir, "nuc01", time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { j.Close() })
	if err := j.Begin("nuc01", nil); err != nil {
		l.t.Fatal(err)
	}
	if err := j.Planned(plan); err != nil {
		l.t.Fatal(err)
	}
	r, st := l.newRun(via, plan, j)
	r.Via = p
	return r, s, st
}

func (l *lab) newRun(via string, p *Plan, j *Journal) (*Run, *story) {
	st := &story{}
	return &Run{Via: l.path(via), Other: l.path(other(via)), Plan: p, Journal: j, Timeout: 3 * time.Second, On: st.on,
		Knock: func(ctx context.Context) error { return esxi.Knock(ctx, l.endpoints["esxi"]) }}, st
}

// later is a run of another process: it has the journal, and nothing else.
func (l *lab) later(via string) (*Run, *story) {
	l.t.Helper()
	j, err := LatestJournal(l.dir, "nuc01")
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { j.Close() })
	return l.newRun(via, j.Plan(), j)
}

// apply carries a move out and fails unless it is wholly done.
func (l *lab) apply(via string, g Goal) (*Run, *Result) {
	l.t.Helper()
	r, s, st := l.run(via, g)
	res, err := r.Apply(l.t.Context(), s)
	if err != nil {
		l.t.Fatal(err)
	}
	if res.Outcome != Applied || !res.Clean() || len(st.failed()) > 0 {
		l.t.Fatalf("%+v\n%q", res, st.failed())
	}
	l.good(string(r.Plan.To))
	return r, res
}

// good fails unless management answers on that kind of switch, and every
// machine has its network.
func (l *lab) good(kind string) {
	l.t.Helper()
	h := l.look().Hosts[0]
	if m := h.Management; m.SwitchKind != kind || !m.Reachable {
		l.t.Errorf("management is on a %s switch, reachable %t (%s)", m.SwitchKind, m.Reachable, m.Reason)
	}
	for _, vm := range h.VMs {
		for _, n := range vm.NICs {
			if !n.Lit || n.SwitchKind != kind {
				l.t.Errorf("%s is on %s of the %s switch, lit %t", vm.Name, n.Portgroup, n.SwitchKind, n.Lit)
			}
		}
	}
}

// same fails unless the lab is as it was.
func (l *lab) same(before string) {
	l.t.Helper()
	if now := l.look().signature(); now != before {
		l.t.Errorf("not as it was:\n%s", cmp.Diff(before, now))
	}
}

// rollback takes the newest migration back and fails unless all is as before.
func (l *lab) rollback(via, before string) {
	l.t.Helper()
	r, st := l.later(via)
	res, err := r.Rollback(l.t.Context())
	if err != nil || res.Outcome != RolledBack || !res.Clean() || len(st.failed()) > 0 {
		l.t.Fatalf("%v, %+v\n%q", err, res, st.failed())
	}
	if r.Journal.Open() {
		l.t.Error("the journal is open after a rollback")
	}
	l.same(before)
}

// goals by direction, as a config asks for them.
var goals = map[string]Goal{
	"standard":    {To: Standard, PortGroup: "Management Network"},
	"distributed": {To: Distributed, PortGroup: "DVS-Mgmt", DVS: "DVS0"},
}

// Both directions on both paths: there, a resume that finds nothing to do, and
// back by the journal alone.
func TestMove(t *testing.T) {
	for _, tc := range []struct{ scene, to, via string }{
		{"nuc", "standard", "vcenter"}, {"standard", "distributed", "vcenter"},
		{"ephemeral", "standard", "esxi"}, {"ephemeral", "distributed", "esxi"},
	} {
		t.Run(tc.to+" via "+tc.via, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, tc.scene)
			if tc.scene == "ephemeral" && tc.to == "distributed" {
				l.apply("esxi", goals["standard"])
			}
			before := l.look()
			r, res := l.apply(tc.via, goals[tc.to])
			if res.Moved != 3 || !res.Sent || !res.OutageKnown || res.RolledBy != "" || res.Cause != "" {
				t.Errorf("%+v", res)
			}
			if n := r.Via.Requests() + 1; n > 13 {
				t.Errorf("%d requests with the logout, want 13 at the most", n)
			}
			if r.Other.Requests() != 0 {
				t.Error("in the plain case the other path was asked too")
			}
			if r.Journal.Open() {
				t.Error("the journal is open after all was done")
			}
			after := l.look()
			unchanged(t, before, after)

			again, st := l.later(tc.via)
			res, err := again.Resume(t.Context())
			if err != nil || res.Outcome != Applied || !res.Clean() || len(st.failed()) > 0 {
				t.Errorf("resume of a complete move: %v, %+v", err, res)
			}
			if n := l.look().calls("UpdateNetworkConfig"); n != after.calls("UpdateNetworkConfig") {
				t.Error("resume of a complete move changed something")
			}
			l.rollback(tc.via, before.signature())
			l.good(map[string]string{"standard": "distributed", "distributed": "standard"}[tc.to])
		})
	}
}

// unchanged fails when a move changed more of the adapters than where they are.
func unchanged(t *testing.T, before, after *labState) {
	t.Helper()
	for i, v := range before.Hosts[0].Vmkernels {
		w := after.Hosts[0].Vmkernels[i]
		w.Switch, w.SwitchKind, w.Portgroup = v.Switch, v.SwitchKind, v.Portgroup
		if !cmp.Equal(v, w) {
			t.Errorf("%s", cmp.Diff(v, w))
		}
	}
	for i, vm := range before.Hosts[0].VMs {
		for k, n := range vm.NICs {
			if m := after.Hosts[0].VMs[i].NICs[k]; m.MAC != n.MAC || m.Connected != n.Connected {
				t.Errorf("%s: MAC %s became %s, connected %t became %t", vm.Name, n.MAC, m.MAC, n.Connected, m.Connected)
			}
		}
	}
}

// Reading costs what it is said to.
func TestReadRequests(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	for via, want := range map[string]int{"vcenter": 2, "esxi": 1} {
		p := l.path(via)
		h, err := p.Host(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := p.Requests()
		if _, err := Read(t.Context(), h); err != nil || p.Requests()-n != 1 {
			t.Errorf("%s: Read: %d requests, %v", via, p.Requests()-n, err)
		}
		n = p.Requests()
		s, err := ReadFor(t.Context(), h, goals["standard"])
		if err != nil || p.Requests()-n != want {
			t.Errorf("%s: ReadFor: %d requests, want %d, %v", via, p.Requests()-n, want, err)
		}
		if via == "vcenter" && s.Rollback != "true" {
			t.Errorf("rollback is %q", s.Rollback)
		}
	}
}

// Every vmkernel adapter moves, each with all that it is, and finds its way
// back to the port group it came from.
func TestStorageAdapters(t *testing.T) {
	t.Parallel()
	l := startLab(t, "storage")
	before := l.look()
	p := l.path("vcenter")
	h, err := p.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadFor(t.Context(), h, goals["standard"])
	if err != nil {
		t.Fatal(err)
	}
	if plan := NewPlan(s, goals["standard"]); !slices.Contains(refused(plan), "storage-vmk") {
		t.Fatalf("not refused: %v", plan.Refusals)
	}
	g := goals["standard"]
	g.Accept = []string{"lose-storage"}
	r, _ := l.apply("vcenter", g)
	if len(r.Plan.After.Vmkernels) != 3 {
		t.Fatalf("%d adapters moved", len(r.Plan.After.Vmkernels))
	}
	after := l.look()
	unchanged(t, before, after)
	for _, v := range after.Hosts[0].Vmkernels {
		if v.SwitchKind != "standard" {
			t.Errorf("%s was left on %s", v.Device, v.Switch)
		}
	}
	// Not the inverse, but a plan of the other direction.
	g = goals["distributed"]
	g.Accept = []string{"lose-storage"}
	l.apply("vcenter", g)
	unchanged(t, before, l.look())
	for i, v := range l.look().Hosts[0].Vmkernels {
		if v.Portgroup != before.Hosts[0].Vmkernels[i].Portgroup {
			t.Errorf("%s came back to %s", v.Device, v.Portgroup)
		}
	}
}

// Both uplinks move, and each comes back to its slot.
func TestTwoUplinks(t *testing.T) {
	t.Parallel()
	l := startLab(t, "two-uplinks")
	before := l.look().signature()
	r, _ := l.apply("vcenter", goals["standard"])
	if !slices.ContainsFunc(r.Plan.Warnings, func(w string) bool { return strings.Contains(w, "vmnic0, vmnic1") }) {
		t.Errorf("nobody said that both uplinks move: %q", r.Plan.Warnings)
	}
	l.rollback("vcenter", before)
	l.apply("vcenter", goals["standard"])
	l.apply("vcenter", goals["distributed"])
}

// A host that is not a member of the DVS, which lacks a port group: it joins,
// the port group is made, and all of it goes again, whatever fails in between.
func TestCreateAndJoin(t *testing.T) {
	t.Parallel()
	l := startLab(t, "fresh")
	g := goals["distributed"]
	g.CreatePortGroups = true
	before := l.look().signature()
	for _, tc := range []struct {
		name    string
		faults  []string
		outcome Outcome
		left    string // part of what is left
	}{
		{"nothing fails", nil, Applied, ""},
		{"joining fails", []string{`{"fault":"fail-before","method":"ReconfigureDvs_Task"}`}, NotApplied, ""},
		{"creating fails", []string{`{"fault":"fail-before","method":"AddDVPortgroup_Task"}`}, NotApplied, ""},
		{"the answer to joining is lost", []string{`{"fault":"answer-lost","method":"ReconfigureDvs_Task"}`}, NotApplied, ""},
		{"the answer to creating is lost", []string{`{"fault":"answer-lost","method":"AddDVPortgroup_Task"}`}, NotApplied, ""},
		{"the answer to joining is lost, and it takes a while", []string{`{"fault":"op-delay","ms":300}`, `{"fault":"answer-lost","method":"ReconfigureDvs_Task"}`}, NotApplied, ""},
		{"the answer to creating is lost, and it takes a while", []string{`{"fault":"op-delay","ms":300}`, `{"fault":"answer-lost","method":"AddDVPortgroup_Task"}`}, NotApplied, ""},
		{"the change fails", []string{`{"fault":"fail-before","method":"UpdateNetworkConfig"}`}, NotApplied, ""},
		{"the change fails, and the port group stays", []string{`{"fault":"fail-before","method":"UpdateNetworkConfig"}`, `{"fault":"fail-before","method":"Destroy_Task","count":9}`}, NotApplied, "port group Lab of DVS0"},
		{"joining fails, and the port group stays", []string{`{"fault":"fail-before","method":"AddDVPortgroup_Task"}`, `{"fault":"fail-before","method":"ReconfigureDvs_Task","call":2,"count":9}`}, NotApplied, "membership of DVS0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := *l
			l.t = t
			l.reset()
			r, s, _ := l.run("vcenter", g)
			if pr := r.Plan.Prepare; pr == nil || !pr.Join || len(pr.Create) != 1 {
				t.Fatalf("%+v", pr)
			}
			l.arm(tc.faults...)
			res, err := r.Apply(t.Context(), s)
			l.disarm()
			if err != nil {
				t.Fatal(err)
			}
			if res.Outcome != tc.outcome || len(res.FailedVMs) > 0 || !res.Sent {
				t.Fatalf("%+v", res)
			}
			switch {
			case tc.outcome == Applied:
				l.good("distributed")
				made := l.look().DVS[0]
				if len(made.Members) != 1 || !slices.ContainsFunc(made.Portgroups, func(g struct {
					Name, Type string
					VLAN       int
				}) bool {
					return g.Name == "Lab" && g.VLAN == 30
				}) {
					t.Errorf("%+v", made)
				}
			case tc.left == "":
				if !res.Clean() || r.Journal.Open() {
					t.Errorf("left: %q, open %t", res.Left, r.Journal.Open())
				}
				time.Sleep(400 * time.Millisecond) // what was still under way has landed by now
				l.same(before)
				return
			default:
				if !slices.ContainsFunc(res.Left, func(s string) bool { return strings.Contains(s, tc.left) }) || !r.Journal.Open() {
					t.Fatalf("left: %q, open %t", res.Left, r.Journal.Open())
				}
			}
			// By the journal alone, and now nothing fails.
			again, _ := l.later("vcenter")
			back, err := again.Rollback(t.Context())
			if err != nil || !back.Clean() || back.Outcome == Applied {
				t.Fatalf("%v, %+v", err, back)
			}
			l.same(before)
		})
	}
}

// Who interrupts while the DVS is prepared finds it as it was.
func TestInterruptedWhilePreparing(t *testing.T) {
	t.Parallel()
	l := startLab(t, "fresh")
	before := l.look().signature()
	g := goals["distributed"]
	g.CreatePortGroups = true
	r, s, st := l.run("vcenter", g)
	l.arm(`{"fault":"op-delay","ms":300}`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st.hook = func(e Event) {
		if e.Step == "prepare" && e.State == Started {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
	}
	res, err := r.Apply(ctx, s)
	if err != nil || !res.Clean() || res.Outcome == Applied || res.Cause != "interrupted" {
		t.Fatalf("%v, %+v", err, res)
	}
	if n := l.look().calls("UpdateNetworkConfig"); n != 0 {
		t.Error("the change was sent all the same")
	}
	time.Sleep(400 * time.Millisecond) // what was still under way has landed by now
	l.same(before)
}

// What somebody else made between the plan and the act is not taken for ours.
func TestPreparedBySomebodyElse(t *testing.T) {
	t.Parallel()
	l := startLab(t, "fresh")
	g := goals["distributed"]
	g.CreatePortGroups = true
	r, s, _ := l.run("vcenter", g)
	d := s.dvsNamed("DVS0")
	setting := Policy{Teaming: teaming{Mode: bySourcePort}}.setting(30, slotNames)
	if _, err := methods.AddDVPortgroup_Task(t.Context(), r.Via.Client().Vim, &types.AddDVPortgroup_Task{This: d.Ref, Spec: []types.DVPortgroupConfigSpec{
		{Name: "Lab", Type: "earlyBinding", DefaultPortConfig: setting}}}); err != nil {
		t.Fatal(err)
	}
	theirs := func() bool {
		return slices.ContainsFunc(l.look().DVS[0].Portgroups, func(g struct {
			Name, Type string
			VLAN       int
		}) bool {
			return g.Name == "Lab"
		})
	}
	eventually(t, "the port group is there", theirs)
	if res, err := r.Apply(t.Context(), s); res != nil || err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("%+v, %v", res, err)
	}
	if !theirs() || r.Journal.Sent() {
		t.Error("somebody else's port group was taken for ours")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// vCenter's own machine is on the host: straight to the host, its card first. As
// long as management's port group has static binding there is no way back, and
// a rollback says so before it touches anything.
func TestVCSAOnHost(t *testing.T) {
	t.Parallel()
	l := startLab(t, "vcsa")
	for _, via := range []string{"vcenter", "esxi"} {
		h, err := l.path(via).Host(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s, err := ReadFor(t.Context(), h, goals["standard"])
		if err != nil {
			t.Fatal(err)
		}
		if p := NewPlan(s, goals["standard"]); !slices.Contains(refused(p), "vcsa-on-host") {
			t.Errorf("via %s: %v", via, p.Refusals)
		}
	}
	g := goals["standard"]
	g.VCSAOnHost = true
	r, res := l.apply("esxi", g)
	if r.Plan.VMs[0].Name != "vcsa" || res.Moved != 4 {
		t.Errorf("first %s, %d moved", r.Plan.VMs[0].Name, res.Moved)
	}
	if !strings.Contains(r.Plan.Undo, "by hand") {
		t.Errorf("undo: %s", r.Plan.Undo)
	}
	if _, err := l.path("vcenter").Host(t.Context()); err != nil {
		t.Errorf("vCenter is away: %v", err)
	}
	moved := l.look().signature()
	back, _ := l.later("esxi")
	if res, err := back.Rollback(t.Context()); err != nil || res.Outcome != Unknown || !strings.Contains(res.Cause, "ephemeral") {
		t.Errorf("%v, %+v", err, res)
	}
	l.same(moved)
}

// Eight machines are edited at the same time, no more, and none waits for
// another; the rest follows.
func TestMachinesInParallel(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc", "--vms", "11")
	r, s, _ := l.run("vcenter", goals["standard"])
	for call := range 8 {
		l.arm(fmt.Sprintf(`{"fault":"hold","method":"ReconfigVM_Task","call":%d}`, call+1))
	}
	r.Timeout = 20 * time.Second
	type end struct {
		res *Result
		err error
	}
	done := make(chan end, 1)
	go func() {
		res, err := r.Apply(t.Context(), s)
		done <- end{res, err}
	}()
	eventually(t, "eight are on their way", func() bool { return l.look().Held == 8 })
	time.Sleep(100 * time.Millisecond) // a ninth would have come by now
	if n := l.look().calls("ReconfigVM_Task"); n != 8 {
		t.Errorf("%d edits at the same time", n)
	}
	l.call("POST", "/release", "")
	e := <-done
	if e.err != nil || e.res.Outcome != Applied || e.res.Moved != 11 || !e.res.Clean() {
		t.Fatalf("%v, %+v", e.err, e.res)
	}
	if n := l.look().calls("ReconfigVM_Task"); n != 11 {
		t.Errorf("%d edits for 11 machines", n)
	}
	l.good("standard")
}

func ours(p *Plan) func(SwitchName) bool {
	return func(n SwitchName) bool { return slices.Contains(p.switches(), n) }
}

// Cleanup in both directions, as far as the host lets it.
func TestCleanup(t *testing.T) {
	for _, tc := range []struct {
		scene, to string
		fault     string
		want      []string // what is found
		left      []string
	}{
		{"nuc", "standard", "", []string{"membership of DVS0"}, nil},
		{"nuc", "standard", `{"fault":"fail-before","method":"ReconfigureDvs_Task","count":9}`, []string{"membership of DVS0"}, []string{"membership of DVS0"}},
		{"standard", "distributed", "", []string{"port group Lab of vSwitch0", "port group Management Network of vSwitch0", "port group VM Network of vSwitch0", "standard switch vSwitch0"}, nil},
		{"standard", "distributed", `{"fault":"fail-before","method":"RemoveVirtualSwitch","type":"ResourceInUse","count":9}`,
			[]string{"port group Lab of vSwitch0", "port group Management Network of vSwitch0", "port group VM Network of vSwitch0", "standard switch vSwitch0"}, []string{"standard switch vSwitch0"}},
	} {
		t.Run(fmt.Sprint("to ", tc.to, ", fault ", tc.fault != ""), func(t *testing.T) {
			t.Parallel()
			l := startLab(t, tc.scene)
			r, _ := l.apply("vcenter", goals[tc.to])
			h, err := r.Via.Host(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s, err := Read(t.Context(), h)
			if err != nil {
				t.Fatal(err)
			}
			all := Leftovers(s, "vmk0", ours(r.Plan))
			var found []string
			for _, o := range all {
				found = append(found, o.What)
				if !o.Safe {
					t.Errorf("%s is not safe: %s", o.What, o.Reason)
				}
			}
			if !slices.Equal(found, tc.want) {
				t.Errorf("found %q, want %q", found, tc.want)
			}
			if tc.fault != "" {
				l.arm(tc.fault)
			}
			removed, left, err := r.Remove(t.Context(), s, all)
			if err != nil || len(removed)+len(left) != len(all) || len(left) != len(tc.left) {
				t.Fatalf("removed %q, left %q, %v", removed, left, err)
			}
			for i, what := range tc.left {
				if !strings.HasPrefix(left[i], what+": ") {
					t.Errorf("left %q without a reason", left[i])
				}
			}
			l.good(tc.to)
			st := l.look()
			if tc.fault == "" && tc.to == "standard" && len(st.DVS[0].Members) > 0 {
				t.Error("the host is a member still")
			}
			if tc.fault == "" && tc.to == "distributed" && strings.Contains(string(st.Hosts[0].Switches), "vSwitch0") {
				t.Error("the switch is there still")
			}
		})
	}
}

// What has been made on the new switch since the move is not cut off or thrown
// away by taking the move back.
func TestRollbackSparesWhatIsNew(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	before := l.look().signature()
	r, _ := l.apply("vcenter", goals["standard"])
	var ns types.ManagedObjectReference
	if h, err := r.Via.Host(t.Context()); err != nil {
		t.Fatal(err)
	} else if s, err := Read(t.Context(), h); err != nil {
		t.Fatal(err)
	} else {
		ns = s.NetworkSystem
	}
	vim := r.Via.Client().Vim
	if _, err := methods.AddPortGroup(t.Context(), vim, &types.AddPortGroup{This: ns, Portgrp: types.HostPortGroupSpec{Name: "mine", VswitchName: "vSwitch0"}}); err != nil {
		t.Fatal(err)
	}
	again, _ := l.later("vcenter")
	res, err := again.Rollback(t.Context())
	if err != nil || res.Clean() || !slices.Equal(res.Left, []string{"standard switch vSwitch0"}) || !again.Journal.Open() {
		t.Fatalf("%v, %+v", err, res)
	}
	if !strings.Contains(string(l.look().Hosts[0].Portgroups), "mine") {
		t.Error("a port group that is not ours was thrown away")
	}
	if _, err := methods.RemovePortGroup(t.Context(), vim, &types.RemovePortGroup{This: ns, PgName: "mine"}); err != nil {
		t.Fatal(err)
	}
	third, _ := l.later("vcenter")
	if res, err = third.Rollback(t.Context()); err != nil || !res.Clean() {
		t.Fatalf("%v, %+v", err, res)
	}
	l.same(before)
}

// Machines get their tries on the way back, whatever was tried on the way there.
func TestTriesPerDirection(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	before := l.look().signature()
	r, _ := l.apply("vcenter", goals["standard"])
	h, err := r.Via.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Read(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody puts the host back and leaves the machines.
	if err := r.update(t.Context(), s, r.Plan.inverseFor(s)); err != nil {
		t.Fatal(err)
	}
	if s, err = Read(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	r.tried, r.refused = 3, time.Now().Add(-time.Minute)
	res, err := r.undoFrom(t.Context(), s)
	if err != nil || !res.Clean() || res.Outcome != RolledBack {
		t.Fatalf("%v, %+v", err, res)
	}
	l.same(before)
}

// A change that fails leaves nothing behind, and says why.
func TestFailuresOfTheChange(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	before := l.look().signature()
	for _, tc := range []struct {
		name    string
		faults  []string
		outcome Outcome
		by      string
		cause   string
	}{
		{"refused", []string{`{"fault":"fail-before","method":"UpdateNetworkConfig","type":"ResourceInUse"}`}, NotApplied, "", "ResourceInUse"},
		{"link lost with it", []string{`{"fault":"link-down","host":"nuc01","pnic":"vmnic0","when":"next-change"}`}, Unknown, "", ""},
		{"answer lost", []string{`{"fault":"answer-lost","method":"UpdateNetworkConfig"}`}, Applied, "", ""},
		{"answer lost, and a machine's too", []string{`{"fault":"answer-lost","method":"UpdateNetworkConfig"}`, `{"fault":"answer-lost","method":"ReconfigVM_Task"}`}, Applied, "", ""},
		{"never arrived", []string{`{"fault":"drop","call":1,"method":"UpdateNetworkConfig","when":"before"}`}, NotApplied, "", "no answer"},
		{"a machine refuses twice", []string{`{"fault":"vm-edit","vm":"photonbox","count":2}`}, Applied, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := *l
			l.t = t
			l.reset()
			r, s, _ := l.run("vcenter", goals["standard"])
			l.arm(tc.faults...)
			res, err := r.Apply(t.Context(), s)
			if err != nil || res.Outcome != tc.outcome || res.RolledBy != tc.by || !strings.Contains(res.Cause, tc.cause) || res.Outcome == Applied && res.Cause != "" {
				t.Fatalf("%v, %+v", err, res)
			}
			l.disarm()
			switch tc.outcome {
			case Applied:
				l.good("standard")
			case NotApplied:
				l.same(before)
			default:
				if !r.Journal.Open() {
					t.Fatal("nothing can bring it back: the journal is closed")
				}
				eventually(t, "vCenter sees the host", func() bool { return l.look().Hosts[0].ConnectionState == "connected" })
				again, _ := l.later("vcenter")
				if res, err := again.Resume(t.Context()); err != nil || !res.Clean() || again.Journal.Open() {
					t.Fatalf("%v, %+v", err, res)
				}
				l.good(l.look().Hosts[0].Management.SwitchKind)
			}
		})
	}
}

// One machine that cannot be moved is named with the reason, the others move,
// and a later run finishes.
func TestOneMachineLeftBehind(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	r, s, _ := l.run("vcenter", goals["standard"])
	l.arm(`{"fault":"vm-edit","vm":"photonbox","count":99}`)
	res, err := r.Apply(t.Context(), s)
	if err != nil || res.Outcome != Applied || res.Clean() || res.Moved != 2 || len(res.FailedVMs) != 1 || !strings.HasPrefix(res.FailedVMs[0], "photonbox: ") {
		t.Fatalf("%v, %+v", err, res)
	}
	if n := l.look().calls("ReconfigVM_Task"); n > 2+3 {
		t.Errorf("%d edits: a refused one is tried three times at the most", n)
	}
	l.disarm()
	again, _ := l.later("vcenter")
	if !again.Journal.Open() {
		t.Error("the journal is closed")
	}
	if res, err = again.Resume(t.Context()); err != nil || res.Outcome != Applied || !res.Clean() {
		t.Fatalf("%v, %+v", err, res)
	}
	l.good("standard")
}

// Who interrupts before the change stops the run; after it the run goes on to
// its verdict.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	before := l.look().signature()
	r, s, _ := l.run("vcenter", goals["standard"])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if res, err := r.Apply(ctx, s); res != nil || err == nil || r.Journal.Sent() {
		t.Errorf("%+v, %v, sent %t", res, err, r.Journal.Sent())
	}
	l.same(before)

	r, s, st := l.run("vcenter", goals["standard"])
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	st.hook = func(e Event) {
		if e.Step == "change" {
			cancel()
		}
	}
	res, err := r.Apply(ctx, s)
	if err != nil || res.Outcome != Applied || !res.Clean() || ctx.Err() == nil {
		t.Errorf("%v, %+v", err, res)
	}
	l.good("standard")
}

// A journal that cannot be written stops a run before the change, and does not
// hide the truth after it.
func TestJournalFails(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	before := l.look().signature()
	r, s, _ := l.run("vcenter", goals["standard"])
	r.Journal.file.Close()
	if res, err := r.Apply(t.Context(), s); res != nil || err == nil {
		t.Errorf("%+v, %v", res, err)
	}
	l.same(before)

	r, s, st := l.run("vcenter", goals["standard"])
	st.hook = func(e Event) {
		if e.Step == "change" && e.State == Started {
			r.Journal.file.Close()
		}
	}
	res, err := r.Apply(t.Context(), s)
	if err != nil || res.Outcome != Applied || !res.Clean() {
		t.Errorf("%v, %+v", err, res)
	}
	l.good("standard")

	// On the way back, between the host and its machines.
	r, st = l.later("vcenter")
	st.hook = func(e Event) {
		if e.Step == "undo" && e.State == Done {
			r.Journal.file.Close()
		}
	}
	if res, err = r.Rollback(t.Context()); err != nil || res == nil || res.Outcome != Unknown {
		t.Errorf("%v, %+v", err, res)
	}
	r, _ = l.later("vcenter")
	if !r.Journal.Open() {
		t.Error("the journal is closed")
	}
	if res, err = r.Rollback(t.Context()); err != nil || !res.Clean() {
		t.Fatalf("%v, %+v", err, res)
	}
	l.same(before)
}

// Nobody knocks: the outage is a bound, and says so.
func TestOutageUnwatched(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	r, s, _ := l.run("vcenter", goals["standard"])
	r.Knock = nil
	res, err := r.Apply(t.Context(), s)
	if err != nil || res.Outcome != Applied || res.OutageKnown || res.Outage <= 0 {
		t.Errorf("%v, %+v", err, res)
	}
}

// A session that ended while a person was thinking is begun anew.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	for _, via := range []string{"vcenter", "esxi"} {
		p := l.path(via)
		if _, err := p.Host(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := p.Requests()
		if err := p.Client().Fresh().Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := &Run{Via: p, Plan: &Plan{}, Timeout: 3 * time.Second}
		s, err := r.settle(t.Context(), false)
		if err != nil || s.vmkernel("vmk0") == nil {
			t.Errorf("%s: %v", via, err)
		}
		if p.Requests() <= n+2 {
			t.Errorf("%s: %d requests counted, then %d", via, n, p.Requests())
		}
	}
}

// Reading for a plan logs in again too.
func TestReadInEndedSession(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	for _, via := range []string{"vcenter", "esxi"} {
		p := l.path(via)
		goal := goals["standard"]
		for _, g := range []*Goal{nil, &goal} {
			if _, err := p.Host(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := p.Client().Fresh().Logout(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s, err := p.Read(t.Context(), g); err != nil || s.vmkernel("vmk0") == nil {
				t.Errorf("%s, goal %v: %v", via, g, err)
			}
		}
	}
}

// How long an attempt to read a host back may take is what the path says.
func TestReadLimit(t *testing.T) {
	t.Parallel()
	l := startLab(t, "nuc")
	p := l.path("esxi")
	if _, err := p.Host(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.arm(`{"fault":"delay","ms":1000}`)
	p.Timeout = 200 * time.Millisecond
	if _, _, err := p.reread(t.Context(), nil); err == nil {
		t.Error("a limit of 200 ms outlasts an answer that takes a second")
	}
	p.Timeout = 20 * time.Second
	if _, _, err := p.reread(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if p.Timeout = 0; p.readLimit() != readTimeout {
		t.Errorf("without a word it is %v", p.readLimit())
	}
}

// What a host hides is refused, not guessed.
func TestHiddenPortGroups(t *testing.T) {
	t.Parallel()
	l := startLab(t, "ephemeral")
	l.arm(`{"fault":"hide-dvs"}`)
	h, err := l.path("esxi").Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadFor(t.Context(), h, goals["standard"])
	if err != nil {
		t.Fatal(err)
	}
	if p := NewPlan(s, goals["standard"]); !slices.Equal(refused(p), []string{"dvs-hidden"}) {
		t.Errorf("%v", p.Refusals)
	}
}
