package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A route is a direction on a path, with the lab it is run in. Direct sessions
// cannot plug into port groups with static binding, so there they are
// ephemeral.
type route struct{ scene, to, via string }

var routes = []route{
	{"nuc", "standard", "vcenter"},
	{"nuc", "distributed", "vcenter"},
	{"ephemeral", "standard", "esxi"},
	{"ephemeral", "distributed", "esxi"},
}

func (r route) String() string { return r.to + " via " + r.via }

func (r route) apply(extra ...string) []string {
	return with("apply", append([]string{"--to", r.to, "--via", r.via, "--timeout", "1500ms"}, extra...)...)
}

// bench puts the lab where the route starts from.
func (r route) begin(l *lab) {
	l.t.Helper()
	l.reset()
	if r.to == "distributed" {
		if got := l.run(with("apply", "--to", "standard", "--via", r.via)...); got.code != exitDone {
			l.t.Fatalf("getting to the start: exit %d\n%s", got.code, got.stderr)
		}
	}
}

// goodStates returns the signatures before and after an undisturbed run, and
// how many API calls it makes.
func (r route) goodStates(l *lab) (before, after string, calls int) {
	l.t.Helper()
	r.begin(l)
	st := l.look()
	before, calls = st.signature(), len(st.Requests.Calls)
	if got := l.run(r.apply()...); got.code != exitDone {
		l.t.Fatalf("an undisturbed run ends with %d\n%s", got.code, got.stderr)
	}
	st = l.look()
	return before, st.signature(), len(st.Requests.Calls) - calls
}

// judge holds an exit code against the truth.
func judge(l *lab, code int, before, after string) error {
	st := l.look()
	sig, reachable := st.signature(), st.Hosts[0].Management.Reachable
	open := l.run("net", "status", "nuc01", "--timeout", "500ms").code == exitPending
	switch code {
	case exitDone:
		if sig != after || !reachable || open {
			return fmt.Errorf("exit 0, but target %t, reachable %t, open journal %t", sig == after, reachable, open)
		}
	case exitUnchanged:
		if sig != before || !reachable || open {
			return fmt.Errorf("exit 5, but as before %t, reachable %t, open journal %t\n%s\nwanted\n%s", sig == before, reachable, open, sig, before)
		}
	case exitFailed:
		if sig != before || open {
			return fmt.Errorf("exit 1, but as before %t, open journal %t", sig == before, open)
		}
	case exitChanged:
		if !open {
			return fmt.Errorf("exit 6 without an open journal: nothing can bring the host back")
		}
	default:
		return fmt.Errorf("exit %d tells nothing", code)
	}
	return nil
}

// recover heals the lab and runs the verb: the host must end in a good state,
// and the exit code must say in which.
func recover(l *lab, verb string, before, after string) error {
	l.heal()
	l.eventually("vCenter reconnects the host", func() bool {
		h := l.look().Hosts[0]
		return h.ConnectionState == "connected" && h.Management.Reachable
	})
	got := l.run(with(verb, "--timeout", "3s")...)
	sig := l.look().signature()
	want := map[int]string{exitDone: after, exitUnchanged: before}
	if verb == "rollback" {
		want = map[int]string{exitDone: before}
	}
	good, ok := want[got.code]
	switch {
	case !ok:
		return fmt.Errorf("%s ends with %d\n%s%s", verb, got.code, got.stdout, got.stderr)
	case sig != good:
		return fmt.Errorf("%s ends with %d, but the host is elsewhere\n%s\nwanted\n%s\n%s", verb, got.code, sig, good, got.stderr)
	}
	if again := l.run("net", "status", "nuc01"); again.code != exitDone {
		return fmt.Errorf("status after %s: exit %d\n%s", verb, again.code, again.stdout)
	}
	return nil
}

// netFault is a trouble by its name in docs/faults.md, and what labsim is told.
type netFault struct {
	name  string
	armed []string
	exit  int
}

// netFaults are the rows of the matrix, with how an apply ends under each.
var netFaults = []netFault{
	{"none", nil, exitDone},
	{"every request slow", []string{`{"fault":"delay","ms":5}`}, exitDone},
	{"host slow", []string{`{"fault":"op-delay","ms":300}`}, exitDone},
	{"rollback off, nothing else", []string{`{"fault":"rollback-off"}`}, exitDone},
	{"answer to the change lost", []string{`{"fault":"answer-lost","method":"UpdateNetworkConfig","count":1}`}, exitDone},
	{"change refused", []string{`{"fault":"fail-before","method":"UpdateNetworkConfig","type":"HostConfigFault","count":1}`}, exitUnchanged},
	{"wrong VLAN on the wire", []string{`{"fault":"wire-vlan","host":"nuc01","vlan":999}`}, exitChanged},
	{"wrong VLAN, host silent", []string{`{"fault":"silent","host":"nuc01"}`, `{"fault":"wire-vlan","host":"nuc01","vlan":999}`}, exitChanged},
	{"wrong VLAN, rollback off", []string{`{"fault":"rollback-off"}`, `{"fault":"wire-vlan","host":"nuc01","vlan":999}`}, exitChanged},
	{"link goes down with the change", []string{`{"fault":"link-down","host":"nuc01","pnic":"vmnic0","when":"next-change"}`}, exitChanged},
	{"one machine refuses once", []string{`{"fault":"vm-edit","vm":"photonbox","count":1}`}, exitDone},
	{"one machine refuses for good", []string{`{"fault":"vm-edit","vm":"photonbox","count":99}`}, exitChanged},
	{"answer to a machine's edit lost", []string{`{"fault":"answer-lost","method":"ReconfigVM_Task","count":1}`}, exitDone},
	{"a task is running on the host", []string{`{"fault":"busy","host":"nuc01"}`}, exitUnsafe},
}

// The fault matrix: every fault, both directions, both paths. Whatever happens,
// the exit code is true, and what is not in a good state can be brought back.
func TestNetFaults(t *testing.T) {
	t.Parallel()
	for _, r := range routes {
		t.Run(r.String(), func(t *testing.T) {
			t.Parallel()
			l := startLab(t, "--scene", r.scene)
			before, after, _ := r.goodStates(l)
			for _, f := range netFaults {
				t.Run(f.name, func(t *testing.T) {
					l.t = t
					r.begin(l)
					for _, fault := range f.armed {
						l.arm(fault)
					}
					got := l.run(r.apply()...)
					if got.code != f.exit {
						t.Fatalf("exit %d, want %d\n%s%s", got.code, f.exit, got.stdout, got.stderr)
					}
					if got.code == exitUnsafe || got.code == exitFailed {
						if sig := l.look().signature(); sig != before {
							t.Fatalf("exit %d, but the host was changed", got.code)
						}
						return
					}
					if err := judge(l, got.code, before, after); err != nil {
						t.Fatalf("%v\n%s%s", err, got.stdout, got.stderr)
					}
					if got.code == exitChanged {
						if err := recover(l, "resume", before, after); err != nil {
							t.Fatal(err)
						}
					}
					l.noSecretsKept()
				})
			}
		})
	}
}

// Each API call of a run in turn fails, or loses its connection before or after
// it is carried out.
func TestNetEveryCallFails(t *testing.T) {
	t.Parallel()
	for _, r := range routes {
		t.Run(r.String(), func(t *testing.T) {
			t.Parallel()
			l := startLab(t, "--scene", r.scene)
			before, after, calls := r.goodStates(l)
			for k := 1; k <= calls; k++ {
				for _, fault := range []string{
					fmt.Sprintf(`{"fault":"fail-call","call":%d}`, k),
					fmt.Sprintf(`{"fault":"drop","call":%d,"when":"before"}`, k),
					fmt.Sprintf(`{"fault":"drop","call":%d,"when":"after"}`, k),
				} {
					r.begin(l)
					l.arm(fault)
					got := l.run(r.apply()...)
					if err := judge(l, got.code, before, after); err != nil {
						t.Fatalf("%s: %v\n%s%s", fault, err, got.stdout, got.stderr)
					}
					if got.code == exitChanged {
						if err := recover(l, "resume", before, after); err != nil {
							t.Fatalf("%s: %v\n%s%s", fault, err, got.stdout, got.stderr)
						}
					}
				}
			}
		})
	}
}

// labctl is killed at each API call in turn, before and after the call is
// carried out. The journal alone brings the host to a good state: to the end
// with resume, to the beginning with rollback.
func TestNetKilledAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, r := range routes {
		t.Run(r.String(), func(t *testing.T) {
			t.Parallel()
			l := startLab(t, "--scene", r.scene)
			before, after, calls := r.goodStates(l)
			for k := 1; k <= calls; k++ {
				for _, when := range []string{"before", "after"} {
					for _, verb := range []string{"resume", "rollback"} {
						err := killAt(l, r, k, when, verb, before, after)
						if errors.Is(err, errEnded) && k > surely {
							continue
						}
						if err != nil {
							t.Fatalf("killed %s call %d, then %s: %v", when, k, verb, err)
						}
					}
				}
			}
		})
	}
}

func killAt(l *lab, r route, k int, when, verb, before, after string) error {
	r.begin(l)
	if err := l.killed(r.apply(), fmt.Sprintf(`{"fault":"hold","call":%d,"when":"%s"}`, k, when)); err != nil {
		return err
	}
	l.heal()
	l.eventually("vCenter sees the host", func() bool { return l.look().Hosts[0].ConnectionState == "connected" })
	status := l.run("net", "status", "nuc01").code
	if sig := l.look().signature(); sig != before && sig != after && status != exitPending {
		return fmt.Errorf("the host is in between, but status exits %d", status)
	}
	if err := recover(l, verb, before, after); err != nil {
		return err
	}
	l.noSecretsKept()
	return nil
}

// errEnded says that a run was over before the call that it was to be killed at.
// A look after an edit that had not ended may come or not, so the last calls of
// one run need not be there in the next.
var errEnded = errors.New("labctl ended before")

// surely is how many calls every run makes, to standard or back, on any path.
const surely = 10

// killed runs labctl until the hold has a request, kills it there with SIGKILL,
// and lets go of the request: it is carried out or not, as with a real host,
// and only then does a person come back.
func (l *lab) killed(args []string, hold string) error {
	l.t.Helper()
	l.arm(hold)
	cmd := l.command(args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for deadline := time.Now().Add(20 * time.Second); l.look().Held == 0; {
		select {
		case <-done:
			return fmt.Errorf("%w: %s", errEnded, hold)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("never came to %s", hold)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	<-done
	l.call("POST", "/release", "")
	return nil
}

// The law behind the matrix: whatever faults come together, and whenever labctl
// is killed, no path ends with vmk0 unreachable and no journal that can bring
// it back. The first half may be the fault of the wire; the second never is.
func TestNetLaw(t *testing.T) {
	t.Parallel()
	type site struct {
		l             *lab
		before, after string
		calls         int
	}
	sites := map[route]*site{}
	for _, r := range routes {
		s := &site{l: startLab(t, "--scene", r.scene)}
		s.before, s.after, s.calls = r.goodStates(s.l)
		sites[r] = s
	}
	gen := rapid.Custom(func(t *rapid.T) string {
		path := rapid.SampledFrom([]string{"", "vcenter", "esxi"}).Draw(t, "path")
		call := rapid.IntRange(1, 14).Draw(t, "call")
		method := rapid.SampledFrom([]string{"UpdateNetworkConfig", "ReconfigVM_Task", "RetrievePropertiesEx", "RemovePortGroup"}).Draw(t, "method")
		return rapid.SampledFrom([]string{
			fmt.Sprintf(`{"fault":"fail-call","call":%d,"path":%q}`, call, path),
			fmt.Sprintf(`{"fault":"drop","call":%d,"when":"before","path":%q}`, call, path),
			fmt.Sprintf(`{"fault":"drop","call":%d,"when":"after","path":%q}`, call, path),
			fmt.Sprintf(`{"fault":"answer-lost","method":%q,"count":1,"path":%q}`, method, path),
			fmt.Sprintf(`{"fault":"fail-before","method":%q,"type":"HostConfigFault","count":2,"path":%q}`, method, path),
			`{"fault":"vm-edit","vm":"pihole","count":5}`,
			`{"fault":"wire-vlan","host":"nuc01","vlan":999}`,
			`{"fault":"link-down","host":"nuc01","pnic":"vmnic0","when":"next-change"}`,
			`{"fault":"rollback-off"}`,
			`{"fault":"silent","host":"nuc01"}`,
			`{"fault":"op-delay","ms":60}`,
		}).Draw(t, "fault")
	})
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	for i := range rounds {
		// One rapid example per seed: rapid would otherwise run a hundred, and
		// each of them is a handful of processes.
		r := routes[i%len(routes)]
		s := sites[r]
		faults := rapid.SliceOfNDistinct(gen, 1, 3, rapid.ID[string]).Example(i)
		kill := rapid.IntRange(-s.calls, s.calls).Example(i) // none below 1
		verb := rapid.SampledFrom([]string{"resume", "rollback"}).Example(i)
		what := fmt.Sprintf("round %d, %s, %v, kill at %d, %s", i, r, faults, kill, verb)

		r.begin(s.l)
		for _, f := range faults {
			s.l.arm(f)
		}
		if kill < 1 {
			got := s.l.run(r.apply()...)
			if err := judge(s.l, got.code, s.before, s.after); err != nil {
				t.Fatalf("%s: %v\n%s%s", what, err, got.stdout, got.stderr)
			}
			if got.code != exitChanged {
				continue
			}
		} else if err := s.l.killed(r.apply(), fmt.Sprintf(`{"fault":"hold","call":%d,"when":"after"}`, kill)); err != nil {
			continue // the faults ended the run first, which the branch above looks at
		}
		if err := recover(s.l, verb, s.before, s.after); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}
