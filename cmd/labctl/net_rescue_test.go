package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// rescued is the last object of an apply with a rescue.
type rescued struct {
	Outcome string
	VMs     struct{ Moved, Failed int }
	Left    []string
	Cause   string
	Rescue  netRescued
	Exit    int
}

func (r answer) rescued(t testing.TB) (out rescued) {
	t.Helper()
	for d := json.NewDecoder(strings.NewReader(r.stdout)); ; {
		var next rescued
		if err := d.Decode(&next); err == io.EOF {
			return out
		} else if err != nil {
			t.Fatalf("%v\n%s%s", err, r.stdout, r.stderr)
		}
		out = next
	}
}

// effects are what keys did at the host's console since the last reset.
func (l *lab) effects() []string {
	l.t.Helper()
	var c struct{ Effects []string }
	if err := json.Unmarshal(l.call("GET", "/console/nuc01", ""), &c); err != nil {
		l.t.Fatal(err)
	}
	return c.Effects
}

// press taps keys at the host's console, by their usages.
func (l *lab) press(usages ...byte) {
	l.t.Helper()
	for _, u := range usages {
		l.call("POST", "/console/nuc01/report", fmt.Sprintf("0000%02x0000000000", u))
		l.call("POST", "/console/nuc01/report", "0000000000000000")
	}
}

const wrongWire = `{"fault":"wire-vlan","host":"nuc01","vlan":999}`

// withRescue is an apply with a rescue. The time-out shortens the window in which
// the host may come back by itself.
func withRescue(extra ...string) []string {
	return with("apply", append([]string{"--to", "standard", "--rescue", "restore-standard-switch", "--timeout", "1500ms"}, extra...)...)
}

// The whole story: the wire drops what is tagged, vCenter's rollback does not
// help, the keys do. Then resume brings the machines after the host, and cleanup
// leaves nothing behind.
func TestRescueStory(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	l.arm(wrongWire)
	began := time.Now()
	got := l.run(withRescue()...)
	if took := time.Since(began); took > 4*time.Minute {
		t.Errorf("it took %v", took)
	}
	res := got.rescued(t)
	h := l.look().Hosts[0]
	if got.code != exitChanged || res.Outcome != "rescued" || res.Rescue.State != "typed" || res.Exit != exitChanged || len(res.Left) == 0 {
		t.Fatalf("exit %d, %+v\n%s", got.code, res, got.stderr)
	}
	if m := h.Management; m.SwitchKind != "standard" || m.VLAN != 0 || !m.Reachable {
		t.Fatalf("management is %+v", m)
	}
	if e := l.effects(); !slices.Equal(e, []string{"standard switch restored"}) {
		t.Errorf("the console did %v", e)
	}
	if !strings.Contains(got.stdout, "restore-standard-switch") {
		t.Error("the output does not name the rescue")
	}
	l.noSecretsKept()

	if again := l.run(with("apply", "--to", "standard")...); again.code != exitUnsafe {
		t.Errorf("an apply on top ends with %d\n%s", again.code, again.stderr)
	}
	st := l.run("net", "status", "nuc01", "-o", "json")
	if st.code != exitPending || !strings.Contains(st.stdout, `"rescued"`) || !strings.Contains(st.stderr, "net resume nuc01") {
		t.Errorf("status: exit %d\n%s%s", st.code, st.stdout, st.stderr)
	}
	if r := l.run(with("resume", "--timeout", "5s")...); r.code != exitDone {
		t.Fatalf("resume: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	h = l.look().Hosts[0]
	if m := h.Management; m.SwitchKind != "standard" || m.VLAN != 0 || !m.Reachable {
		t.Errorf("after resume management is %+v", m)
	}
	for _, vm := range h.VMs {
		for _, n := range vm.NICs {
			if n.SwitchKind != "standard" || n.Switch != h.Management.Switch {
				t.Errorf("after resume %s is on %s", vm.Name, n.Switch)
			}
		}
	}
	if st := l.run("net", "status", "nuc01"); st.code != exitDone {
		t.Errorf("status after resume: exit %d\n%s", st.code, st.stdout)
	}
	l.eventually("vCenter has the host again", func() bool { return l.look().Hosts[0].ConnectionState == "connected" })
	if c := l.run("net", "cleanup", "nuc01", "--yes", "-o", "json"); c.code != exitDone || !strings.Contains(c.stdout, "membership of DVS0") {
		t.Errorf("cleanup: exit %d\n%s%s", c.code, c.stdout, c.stderr)
	}
	if r := l.run("net", "show", "nuc01"); r.code != exitDone || strings.Contains(r.stdout, "DVS0") {
		t.Errorf("show: exit %d\n%s", r.code, r.stdout)
	}
}

// Nothing is typed where it is not needed, and nothing changed where the rescue
// is not ready.
func TestRescueReady(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	before := l.look().signature()
	wrong := func(t *testing.T) {
		files := l.config + ".nuc01.password"
		right, err := os.ReadFile(files)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files, []byte("not-the-password\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.WriteFile(files, right, 0o600) })
	}
	few := func(t *testing.T) { // what no API tells is not given
		whole, err := os.ReadFile(l.config)
		if err != nil {
			t.Fatal(err)
		}
		poor := strings.NewReplacer("    lockdown_item: dimmed\n", "", "    wrap: \"no\"\n", "", "    console: local\n", "").Replace(string(whole))
		if err := os.WriteFile(l.config, []byte(poor), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.WriteFile(l.config, whole, 0o600) })
	}
	for _, c := range []struct {
		name  string
		armed []string
		setup func(*testing.T)
		args  []string
		code  int
		says  string
	}{
		{"not needed", nil, nil, withRescue(), exitDone, ""},
		{"keyboard dead", []string{wrongWire, `{"fault":"console-refuse","host":"nuc01","count":999}`}, nil, withRescue(), exitFailed, "the rescue is not ready"},
		{"wrong password", []string{wrongWire}, wrong, withRescue(), exitFailed, "password is wrong"},
		{"no keyboard there", []string{wrongWire}, nil, withRescue("--keyboard", "sim://127.0.0.1:1/nuc01"), exitFailed, "the rescue is not ready"},
		{"model as a keyboard", []string{wrongWire}, nil, withRescue("--keyboard", "sim:"), exitUsage, "reaches no host"},
		{"rollback off", []string{wrongWire, `{"fault":"rollback-off"}`}, nil, withRescue(), exitUnsafe, "standard switch"},
		{"on the host itself", []string{wrongWire}, nil, withRescue("--via", "esxi"), exitUnsafe, "standard switch"},
		{"facts missing", []string{wrongWire}, few, withRescue(), exitUnsafe, "--fact lockdown_item="},
		{"longer than its limit", []string{wrongWire}, nil, with("apply", "--to", "standard", "--via", "esxi", "--rescue", "set-vlan", "--var", "vlan=0", "--timeout", "3s"), exitUsage, "takes 10s, and 3s is the limit"},
		{"another recipe", []string{wrongWire}, nil, with("apply", "--to", "standard", "--rescue", "factory-reset"), exitUnsafe, "system configuration reset"},
		{"no such recipe", []string{wrongWire}, nil, with("apply", "--to", "standard", "--rescue", "restore-standard-swich"), exitUsage, "did you mean"},
		{"no such fact", []string{wrongWire}, nil, withRescue("--fact", "wrapp=no"), exitUsage, "wrap"},
		{"keyboard without a rescue", nil, nil, with("apply", "--to", "standard", "--keyboard", "sim:"), exitUsage, "--rescue is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.t = t
			l.reset()
			for _, f := range c.armed {
				l.arm(f)
			}
			if c.setup != nil {
				c.setup(t)
			}
			got := l.run(c.args...)
			if got.code != c.code || !strings.Contains(got.stderr, c.says) {
				t.Fatalf("exit %d, want %d, with %q\n%s%s", got.code, c.code, c.says, got.stdout, got.stderr)
			}
			if e := l.effects(); len(e) > 0 {
				t.Errorf("the console did %v", e)
			}
			if c.code == exitDone {
				if r := got.rescued(t); r.Outcome != "applied" || r.Rescue.State != "not-needed" {
					t.Errorf("%+v", r)
				}
				return
			}
			if r := got.rescued(t); c.code != exitUsage && (r.Outcome != "not-applied" || r.Exit != c.code || r.Cause == "") {
				t.Errorf("the last object is %+v", r)
			}
			if l.look().signature() != before {
				t.Error("the host was changed")
			}
			if st := l.run("net", "status", "nuc01"); st.code != exitDone {
				t.Errorf("status: exit %d\n%s", st.code, st.stdout)
			}
		})
	}
}

// A host that somebody brings back by hand is known to resume all the same: the
// journal need not name the console.
func TestRescueByHand(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	l.arm(wrongWire)
	got := l.run(with("apply", "--to", "standard", "--timeout", "1500ms")...)
	if got.code != exitChanged || !strings.Contains(got.stderr, "labctl recipe run restore-standard-switch --host nuc01") {
		t.Fatalf("exit %d\n%s", got.code, got.stderr)
	}
	st := l.run("net", "status", "nuc01", "-o", "json")
	if st.code != exitPending || !strings.Contains(st.stdout, `"away": true`) || !strings.Contains(st.stderr, "labctl recipe run restore-standard-switch") {
		t.Errorf("status of a host that is gone: exit %d\n%s%s", st.code, st.stdout, st.stderr)
	}
	// By what vCenter answered it has taken the change back: that is known now.
	if r := l.run("host", "show", "nuc01", "-o", "json"); !strings.Contains(r.stdout, `"value": "distributed"`) {
		t.Errorf("show: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := l.run("recipe", "check", "restore-standard-switch", "--host", "nuc01"); r.code != exitDone || strings.Contains(r.stderr, "has acted on the network") {
		t.Errorf("check: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := l.run("recipe", "run", "restore-standard-switch", "--host", "nuc01", "--yes"); r.code != exitDone || !strings.Contains(r.stderr, "labctl net resume nuc01") {
		t.Fatalf("recipe run: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	l.resumesRescued()
}

// A host that was lost without a move of labctl leaves its machines behind too.
// A move to where management is already takes them along, and cuts nobody off.
func TestRescueWithoutAMove(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	l.arm(wrongWire)
	if got := l.run(with("apply", "--to", "standard", "--timeout", "1500ms")...); got.code != exitChanged {
		t.Fatalf("exit %d\n%s", got.code, got.stderr)
	}
	if err := os.RemoveAll(l.state); err != nil { // nobody knows of that move
		t.Fatal(err)
	}
	if r := l.run("recipe", "run", "restore-standard-switch", "--host", "nuc01", "--yes"); r.code != exitDone || !strings.Contains(r.stderr, "labctl net status nuc01") {
		t.Fatalf("recipe run: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	l.eventually("vCenter has the host again", func() bool { return l.look().Hosts[0].ConnectionState == "connected" })
	before := l.look().signature()
	st := l.run("net", "status", "nuc01")
	if st.code != exitDone || !strings.Contains(st.stdout, "without an uplink  nested-esxi, photonbox, pihole") || !strings.Contains(st.stderr, "labctl net apply nuc01 --to standard") {
		t.Errorf("status: exit %d\n%s%s", st.code, st.stdout, st.stderr)
	}
	if r := l.run("net", "plan", "nuc01", "--to", "standard", "-o", "json"); r.code != exitDone || strings.Contains(r.stdout, `"cutsManagement": true`) {
		t.Errorf("plan: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	moved := func() {
		t.Helper()
		r := l.run("net", "apply", "nuc01", "--to", "standard", "--yes", "-o", "json")
		h := l.look().Hosts[0]
		if r.code != exitDone || r.rescued(t).VMs.Failed > 0 {
			t.Fatalf("apply: exit %d\n%s%s", r.code, r.stdout, r.stderr)
		}
		if m := h.Management; m.SwitchKind != "standard" || m.VLAN != 0 || !m.Reachable {
			t.Errorf("management is %+v", m)
		}
		for _, vm := range h.VMs {
			for _, n := range vm.NICs {
				if n.Switch != h.Management.Switch {
					t.Errorf("%s is on %s", vm.Name, n.Switch)
				}
			}
		}
	}
	moved()
	if r := l.run(with("rollback")...); r.code != exitDone || l.look().signature() != before {
		t.Errorf("rollback: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := l.run("host", "show", "nuc01", "-o", "json"); !strings.Contains(r.stdout, `"value": "standard"`) {
		t.Errorf("after the rollback it is taken to be elsewhere\n%s", r.stdout)
	}
	moved()
	if r := l.run("net", "apply", "nuc01", "--to", "standard", "--yes", "-o", "json"); r.code != exitDone || !strings.Contains(r.stdout, `"already": true`) {
		t.Errorf("again: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// resumesRescued sees that status knows what the console did, and that resume
// brings the machines after the host and leaves management alone.
func (l *lab) resumesRescued() {
	t := l.t
	t.Helper()
	st := l.run("net", "status", "nuc01")
	for _, want := range []string{"brought back from the console", "without an uplink", "photonbox", "hint: to move what is left to the switch that the host is on now: labctl net resume nuc01"} {
		if st.code != exitPending || !strings.Contains(st.stdout+st.stderr, want) {
			t.Errorf("status: exit %d, %q is missing\n%s%s", st.code, want, st.stdout, st.stderr)
		}
	}
	if r := l.run(with("resume", "--timeout", "5s")...); r.code != exitDone {
		t.Fatalf("resume: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	h := l.look().Hosts[0]
	if m := h.Management; m.SwitchKind != "standard" || m.VLAN != 0 || !m.Reachable {
		t.Errorf("after resume management is %+v", m)
	}
	for _, vm := range h.VMs {
		for _, n := range vm.NICs {
			if n.Switch != h.Management.Switch {
				t.Errorf("after resume %s is on %s", vm.Name, n.Switch)
			}
		}
	}
	if st := l.run("net", "status", "nuc01"); st.code != exitDone || strings.Contains(st.stdout, "without an uplink") {
		t.Errorf("status after resume: exit %d\n%s", st.code, st.stdout)
	}
}

// A rollback of a rescued host goes back to where it was cut off. Where that is
// refused the host stays rescued, and resume is still the way on.
func TestRescueRollbackRefused(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	l.arm(wrongWire)
	if got := l.run(withRescue()...); got.rescued(t).Outcome != "rescued" {
		t.Fatalf("exit %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if r := l.run(with("rollback", "--timeout", "5s")...); r.code != exitChanged || !strings.Contains(r.stderr, "to move what is left to the switch that the host is on now: labctl net resume nuc01") {
		t.Fatalf("rollback: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	l.resumesRescued()
}

// On the host itself nobody takes the move back, and its answer is lost with the
// host: the recipe has to be right on either switch.
func TestRescueOnTheHostItself(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	l.arm(wrongWire)
	got := l.run(with("apply", "--to", "standard", "--via", "esxi", "--rescue", "set-vlan", "--var", "vlan=0", "--timeout", "10s")...)
	res := got.rescued(t)
	m := l.look().Hosts[0].Management
	if got.code != exitChanged || res.Outcome != "rescued" || res.Rescue.State != "typed" || m.SwitchKind != "standard" || m.VLAN != 0 || !m.Reachable {
		t.Fatalf("exit %d, %+v, management %+v\n%s", got.code, res, m, got.stderr)
	}
	if r := l.run(with("resume", "--timeout", "5s")...); r.code != exitDone {
		t.Errorf("resume: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// trial is one run of the story with something else going wrong.
type trial struct {
	armed  []string
	screen []byte        // keys that somebody pressed before
	heal   time.Duration // after this the cable is right; 0 is never
	args   []string
}

func newTrial(n int) trial {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	tr := trial{armed: []string{wrongWire}}
	timeout := 500 + r.IntN(2000)
	tr.args = with("apply", "--to", "standard", "--rescue", "restore-standard-switch", "--timeout", fmt.Sprintf("%dms", timeout))
	arm := func(format string, args ...any) { tr.armed = append(tr.armed, fmt.Sprintf(format, args...)) }
	switch n % 10 {
	case 0: // the move as it may be, without the wrong wire
		tr.armed = nil
		if r.IntN(2) == 0 {
			arm(`{"fault":"link-down","host":"nuc01","pnic":"vmnic0","when":"next-change"}`)
		}
	case 1:
		arm(`{"fault":"console-drop","host":"nuc01","when":%q,"call":%d,"count":%d}`, []string{"before", "after"}[r.IntN(2)], 4+r.IntN(90), 1+r.IntN(3))
	case 2:
		arm(`{"fault":"console-refuse","host":"nuc01","call":%d,"count":%d}`, 4+r.IntN(90), 1+r.IntN(30))
	case 3, 4:
		tr.heal = time.Duration(r.IntN(13000)) * time.Millisecond
	case 5:
		arm(`{"fault":"answer-lost","method":"UpdateNetworkConfig","count":1}`)
	case 6:
		arm(`{"fault":"silent","host":"nuc01"}`)
	case 7:
		arm(`{"fault":"delay","ms":%d}`, 1+r.IntN(20))
	case 8: // F2, Caps Lock, F11, ESC, letters, arrows
		for range 1 + r.IntN(6) {
			tr.screen = append(tr.screen, []byte{0x3b, 0x39, 0x44, 0x29, 0x04, 0x51}[r.IntN(6)])
		}
	case 9:
		arm(`{"fault":"fail-before","method":"UpdateNetworkConfig","type":"HostCommunication","count":1}`)
	}
	return tr
}

// Whatever goes wrong beside the wrong wire, and whenever: the exit code and the
// outcome are what the lab knows to be true, no other effect than the wanted one
// ever comes of the keys, and what is left can be finished.
func TestRescueTruth(t *testing.T) {
	t.Parallel()
	runs, labs := 100, 10
	if testing.Short() {
		runs = 20
	}
	if n, err := strconv.Atoi(os.Getenv("LABCTL_RESCUE_RUNS")); err == nil {
		runs = n
	}
	var mu sync.Mutex
	ends := map[string]int{}
	t.Cleanup(func() { t.Logf("%v", ends) })
	// All labs at once, however few processors there are: a run is nearly all
	// waiting, and t.Parallel would only let as many in.
	var wg sync.WaitGroup
	defer wg.Wait()
	for k := range labs {
		wg.Go(func() {
			t.Run(fmt.Sprintf("lab %d", k), func(t *testing.T) {
				l := startLab(t)
				t.Cleanup(func() {
					if said, err := os.ReadFile(filepath.Join(filepath.Dir(l.config), "labsim.err")); t.Failed() && err == nil {
						t.Logf("labsim says:\n%s", said[max(0, len(said)-4000):])
					}
				})
				before := l.look().signature()
				if got := l.run(with("apply", "--to", "standard")...); got.code != exitDone {
					t.Fatalf("exit %d\n%s", got.code, got.stderr)
				}
				after := l.look().signature()
				for n := k; n < runs; n += labs {
					// The kinds of trouble take turns over the labs: they differ in how long they take.
					end := l.try(newTrial((n+n/labs)%10+n/10*10), before, after)
					mu.Lock()
					ends[end]++
					mu.Unlock()
					if t.Failed() {
						t.Fatalf("run %d", n)
					}
				}
			})
		})
	}
}

func (l *lab) try(tr trial, before, after string) string {
	t := l.t
	t.Helper()
	l.reset()
	l.press(tr.screen...)
	for _, f := range tr.armed {
		l.arm(f)
	}
	healed := make(chan bool, 1)
	if tr.heal > 0 {
		time.AfterFunc(tr.heal, func() { l.heal(); healed <- true })
	}
	got := l.run(tr.args...)
	if tr.heal > 0 {
		<-healed
	}
	bad := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%+v: %s\n%s%s", tr, fmt.Sprintf(format, args...), got.stdout, got.stderr)
	}
	effects := l.effects()
	st := l.look()
	m := st.Hosts[0].Management
	if got.code == exitFailed || got.code == exitUnsafe {
		if len(effects) > 0 || st.signature() != before {
			bad("exit %d, but the console did %v, as before %t", got.code, effects, st.signature() == before)
		}
		return fmt.Sprintf("exit %d", got.code)
	}
	res := got.rescued(t)
	if slices.ContainsFunc(effects, func(e string) bool { return e != "standard switch restored" }) {
		bad("the console did %v", effects)
	}
	if did := len(effects) > 0; did && res.Rescue.State != "typed" && res.Rescue.State != "broken-off" || !did && res.Rescue.State == "typed" {
		bad("the console did %v, and the rescue is said to be %s", effects, res.Rescue.State)
	}
	if err := judge(l, got.code, before, after); err != nil {
		bad("%v", err)
	}
	end := fmt.Sprintf("exit %d %s %s", got.code, res.Outcome, res.Rescue.State)
	if res.Outcome == "rescued" && (m.SwitchKind != "standard" || len(effects) == 0 || tr.heal == 0 && !m.Reachable) {
		bad("rescued, but management is %+v", m)
	}
	if res.Outcome == "unknown" && m.Reachable && tr.heal == 0 {
		bad("unknown, but management answers: %+v", m)
	}
	if got.code != exitChanged || len(effects) > 0 && !m.Reachable {
		return end // no link, or untagged on a trunk: nobody reaches that host but its console
	}
	if len(effects) == 0 {
		if err := recover(l, "resume", before, after); err != nil {
			bad("%v", err)
		}
		return end
	}
	resume := l.run(with("resume", "--timeout", "5s")...)
	h := l.look().Hosts[0]
	if resume.code != exitDone || h.Management.SwitchKind != "standard" || !h.Management.Reachable {
		bad("resume: exit %d, management %+v\n%s%s", resume.code, h.Management, resume.stdout, resume.stderr)
	}
	for _, vm := range h.VMs {
		for _, n := range vm.NICs {
			if n.Switch != h.Management.Switch {
				bad("after resume %s is on %s", vm.Name, n.Switch)
			}
		}
	}
	return end
}
