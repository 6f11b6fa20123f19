package recipes

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/labctl/labctl/recipes/dcui"
)

// What an answer leaves of three hosts on the network, one off it, and one on
// which a ping test was started.
func TestEvidence(t *testing.T) {
	world := func(facts map[string]string) dcui.World {
		t.Helper()
		w, err := dcui.NewWorld(facts)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	usual := map[string]string{"esxi": "7.0", "management": "standard", "ssh": "off"}
	hosts := map[string]dcui.World{
		"ssh off": world(usual),
		"ssh on":  world(with(usual, "ssh", "on")),
		"no net":  world(with(usual, "management", "none", "ssh", "on")),
	}
	pinged := compiled(t, "ping-canary", with(seedHost, "lockdown_item", "dimmed"), Vars{Values: map[string]string{"address": "192.0.2.1"}})
	hosts["pinged"] = pinged.ends().Worlds()[0] // its SSH is off
	restarted := compiled(t, "restart-host", with(seedHost, "lockdown_item", "dimmed"), Vars{})
	hosts["restarted"] = restarted.ends().Worlds()[0]
	all := []string{"no net", "pinged", "ssh off", "ssh on"}
	for _, c := range []struct {
		what    Condition
		yes, no []string
	}{
		{Condition{Kind: "icmp"}, []string{"pinged"}, all},
		{Condition{Kind: "led"}, all, all},
		{Condition{Kind: "usb-reset"}, []string{"restarted"}, append(slices.Clone(all), "restarted")},
		{Condition{Kind: "reachable", TCP: 443}, []string{"pinged", "ssh off", "ssh on"}, all},
		{Condition{Kind: "reachable", TCP: 22}, []string{"ssh on"}, all},
		{Condition{Kind: "closed", TCP: 22}, []string{"pinged", "ssh off"}, all},
		{Condition{Kind: "unreachable", TCP: 22}, all, []string{"ssh on"}},
		{Condition{Kind: "unreachable"}, all, []string{"pinged", "ssh off", "ssh on"}},
		{Condition{Kind: "fact", Fact: "ssh", Value: "on"}, []string{"ssh on"}, []string{"pinged", "ssh off"}},
		{Condition{Kind: "fact", Fact: "ssh", Value: "off"}, []string{"pinged", "ssh off"}, []string{"ssh on"}},
		{Condition{Kind: "fact", Fact: "management", Value: "none"}, []string{"no net"}, []string{"pinged", "ssh off", "ssh on"}},
		{Condition{Kind: "reachable", TCP: 22, Host: "192.0.2.9"}, all, all},
	} {
		var yes, no []string
		names := all
		if c.what.Kind == "usb-reset" {
			names = append(slices.Clone(all), "restarted")
		}
		for _, name := range names {
			if mayHold(hosts[name], c.what) {
				yes = append(yes, name)
			}
			if mayFail(hosts[name], c.what) {
				no = append(no, name)
			}
		}
		if !slices.Equal(yes, c.yes) || !slices.Equal(no, c.no) {
			t.Errorf("%s: yes leaves %v, want %v; no leaves %v, want %v", c.what, yes, c.yes, no, c.no)
		}
	}
}

// leaving is a keyboard that the host lets go of some time after a key.
type leaving struct {
	*console
	after time.Duration // 0: never
	blind bool
}

func (l *leaving) HostLeft() (left, known bool) {
	if l.blind || l.after == 0 || len(l.at) == 0 {
		return false, !l.blind
	}
	return time.Since(l.at[len(l.at)-1]) >= l.after, true
}

// A host that lets go of the keyboard has restarted: worlds in which the login
// had failed are gone. Where the keyboard cannot tell, the model does.
func TestUSBReset(t *testing.T) {
	r := parsed(t, `recipe: again
secrets: {password: root}
risk: disruptive
steps:
  - anchor
  - login: F12
  - confirm: F11
  - probe: {usb-reset: {within: 5m}}
verify:
  - effect: host restarted
`)
	for _, c := range []struct {
		name      string
		kb        leaving
		seen      bool
		predicted bool
	}{
		{"restarts", leaving{after: 2 * time.Minute}, true, false},
		{"stays", leaving{}, false, false},
		{"too late", leaving{after: 6 * time.Minute}, false, false},
		{"cannot tell", leaving{blind: true}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.kb.console = newConsole(t, seedHost, rootPassword)
				var told []Event
				waits := 0
				err := compiledRecipe(t, r, seedHost, Vars{}).Run(t.Context(), &c.kb, func(e Event) {
					if e.Kind == EventVerify && e.Step == 3 {
						told = append(told, e)
					}
					if e.Kind == EventWait && strings.Contains(e.Text, "lets go") {
						waits++
					}
				})
				if (err == nil) != c.seen || len(told) != 1 || told[0].OK != c.seen || told[0].Predict != c.predicted || c.kb.after > 0 && waits < 10 {
					t.Errorf("%v, told %+v, %d times of the wait", err, told, waits)
				}
			})
		})
	}
}

const sshOnce = `recipe: ssh-once
esxi: ">=5.1"
secrets: {password: root}
steps:
  - anchor
  - login
  - select: Troubleshooting Options
  - probe:
      ssh: on
      within: 10s
      then: []
      else:
        - toggle: {SSH: on}
  - leave
verify:
  - ssh: on
`

// network answers for a host as it is, as far as somebody lets it.
type network struct {
	kb    *console
	cut   bool
	asked []string
}

func (n *network) Probe(_ context.Context, c Condition) (bool, error) {
	n.asked = append(n.asked, c.String())
	if n.cut {
		return c.Kind == "unreachable", nil
	}
	return holds(n.kb.world, c), nil
}

// The state of SSH is not known, the port tells it, and the recipe is safe
// either way; a host that says nothing gets no further key.
func TestProbeGoesTwoWays(t *testing.T) {
	facts := with(seedHost, "lockdown_item", "dimmed", "management", "standard")
	delete(facts, "ssh")
	r := parsed(t, sshOnce)
	for _, c := range []struct {
		ssh  string
		cut  bool
		keys int // ENTERs: login, menu, toggle
		err  string
	}{
		{ssh: "on", keys: 2},
		{ssh: "off", keys: 3},
		{ssh: "off", cut: true, keys: 2, err: "neither answered nor was refused"},
		{ssh: "on", cut: true, keys: 2, err: "neither answered nor was refused"},
	} {
		t.Run(c.ssh, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kb := newConsole(t, with(facts, "ssh", c.ssh), rootPassword)
				n := &network{kb: kb, cut: c.cut}
				p := compiledRecipe(t, r, facts, Vars{Speed: math.Inf(1), Prober: n})
				v, err := p.Check(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if v.Verdict != Safe || len(v.Worlds) != 2 || v.Worlds[0].Way == v.Worlds[1].Way || v.Worlds[0].Way == "" {
					t.Fatalf("%+v", v)
				}
				var steps []string
				var seen []Event
				err = p.Run(t.Context(), lit{kb}, func(e Event) {
					switch e.Kind {
					case EventStep:
						steps = append(steps, e.Text)
					case EventVerify:
						seen = append(seen, e)
					}
				})
				if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				enters := 0
				for _, k := range kb.log {
					if k == "ENTER" {
						enters++
					}
				}
				if enters != c.keys {
					t.Errorf("%d ENTERs, want %d", enters, c.keys)
				}
				if c.err != "" {
					return
				}
				if got, _ := kb.world.Now("ssh"); got != "on" {
					t.Errorf("SSH is %s", got)
				}
				if e := seen[0]; e.Before != 2 || e.Belief.Len() != 1 || e.Predict || e.OK != (c.ssh == "on") {
					t.Errorf("%d worlds before, %d after, %+v", e.Before, e.Belief.Len(), e)
				}
				if went := slices.Contains(steps, "if not: toggle SSH on"); went != (c.ssh == "off") {
					t.Errorf("steps %q", steps)
				}
				if !slices.Contains(steps, "leave") {
					t.Errorf("steps %q: what comes after the probe is missing", steps)
				}
			})
		})
	}
}

// Without an else, the same recipe is right only where SSH is on.
func TestProbeWithoutElse(t *testing.T) {
	facts := with(seedHost, "lockdown_item", "dimmed", "management", "standard")
	delete(facts, "ssh")
	src := strings.Replace(sshOnce, "      else:\n        - toggle: {SSH: on}\n", "", 1)
	v, err := compiledRecipe(t, parsed(t, src), facts, Vars{}).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.Verdict != NeedsFacts || len(v.Missing) == 0 || v.Missing[0].Fact != "ssh" {
		t.Errorf("%+v", v)
	}
}

// A host that is not as it was said to be is found out, and gets no key more.
func TestSurprise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		facts := with(seedHost, "lockdown_item", "dimmed", "management", "standard", "ssh", "off")
		kb := newConsole(t, with(facts, "ssh", "on"), rootPassword)
		p := compiledRecipe(t, parsed(t, sshOnce), facts, Vars{Speed: math.Inf(1), Prober: &network{kb: kb}})
		err := p.Run(t.Context(), lit{kb}, nil)
		if !errors.Is(err, ErrSurprise) {
			t.Errorf("error %v", err)
		}
		if got, _ := kb.world.Now("ssh"); got != "on" {
			t.Error("SSH was turned off")
		}
	})
}

// What destroys on one way is not excused by being the goal of the other.
func TestWaysHaveTheirOwnGoals(t *testing.T) {
	facts := with(seedHost, "lockdown_item", "dimmed")
	v, err := compiledRecipe(t, parsed(t, `recipe: drawn
secrets: {password: root}
steps:
  - anchor
  - login
  - select: Network Restore Options
  - probe:
      reachable: {tcp: 443, within: 5s}
      then: [{select: Restore Standard Switch}, {confirm: F11}]
      else: [{keys: DOWN ENTER F11}]
`), facts, Vars{}).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.Verdict != Unsafe || !slices.Contains(v.Risks, "standard-switch-restored") {
		t.Errorf("%s, risks %v, worlds %+v", v.Verdict, v.Risks, v.Worlds)
	}
}

func TestForkFaults(t *testing.T) {
	const head = "recipe: drawn\nsecrets: {password: root}\nsteps:\n"
	for _, c := range []struct{ step, want string }{
		{"- probe: {led: , then: [{selct: x}], else: []}", "test.yaml:4:26: unknown step selct"},
		{"- probe: {then: [anchor], else: []}", "probe is empty"},
		{"- probe: {led: , icmp: , then: [], else: [anchor]}", "test.yaml:4:18: a probe that goes two ways asks for one thing"},
		{"- probe: {led: , then: anchor, else: []}", "probe.then wants a list"},
		{"- wait: {reachable: {tcp: 22}, then: []}", "wait has no then"},
		{"- expect: {screen: menu, else: []}", "expect has no else"},
		{"- probe: {closed: {host: 192.0.2.1}}", "closed wants a port"},
		{"- probe: {led: , then: [], then: []}", "a second time"},
		{strings.Repeat("- probe: {led: , else: []}\n", 5), "more than 4 probes that go two ways"},
	} {
		_, err := Parse("test.yaml", []byte(head+c.step+"\n"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.step, err, c.want)
		}
	}
}

var lawProbes = []string{"reachable: {tcp: 22, within: 3s}", "reachable: {tcp: 443, within: 3s}", "closed: {tcp: 22, within: 3s}",
	"unreachable: {tcp: 22, within: 3s}", "ssh: on, within: 3s", "ssh: off, within: 3s", "icmp: {within: 3s}", "led: "}

// Whatever is answered, as long as it is possible for the host, the host stays in
// the belief; each way is checked; and where the check says safe, any answer
// leads to the goal or to no further key.
func TestEvidenceKeepsTheHost(t *testing.T) {
	forked, safe := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		known, host := someFacts(t)
		src := "recipe: drawn\nsecrets: {password: root}\nsteps:\n  - anchor\n  - login\n"
		some := func(name, indent string, most int) string {
			out := ""
			for _, s := range rapid.SliceOfN(rapid.SampledFrom(lawSteps), 0, most).Draw(t, name) {
				out += indent + "- " + s + "\n"
			}
			return out
		}
		if rapid.Bool().Draw(t, "switch") {
			src += "  - select: Troubleshooting Options\n"
		}
		for range rapid.IntRange(1, 2).Draw(t, "probes") {
			src += some("before", "  ", 2)
			src += "  - probe:\n      " + strings.ReplaceAll(rapid.SampledFrom(lawProbes).Draw(t, "probe"), ", within: 3s", "\n      within: 3s")
			src = strings.ReplaceAll(src, "\n      within: 3s}", ", within: 3s}") + "\n"
			then, els := some("then", "        ", 2), some("else", "        ", 2)
			src += "      then:\n" + then
			if rapid.Bool().Draw(t, "toggle") {
				els = "        - toggle: {SSH: on}\n"
			}
			src += "      else:\n" + els
		}
		src += some("after", "  ", 1)
		r, err := Parse("drawn.yaml", []byte(src))
		if err != nil {
			t.Fatalf("%s\n%v", src, err)
		}
		forked++
		n := &anyAnswer{says: rapid.SliceOfN(rapid.Bool(), 8, 8).Draw(t, "answers")}
		v := Vars{Speed: math.Inf(1), Secrets: map[string]Secret{"password": secret("Xyz789Abc")}, Prober: n, Timeout: 5 * time.Millisecond}
		p, verdict := verdictOf(t, r, known, v)
		if p == nil {
			return
		}
		w, err := dcui.NewWorld(host)
		if err != nil {
			t.Fatal(err)
		}
		// Each way holds the host where it ends or where it was left behind: run
		// from the start, whatever the verdict says.
		kb := &console{world: w.SetPassword("Xyz789Abc")}
		n.kb = kb
		run := &run{Program: p, kb: lit{kb}, belief: p.start, step: -1, taken: map[int]bool{}}
		run.on = func(e Event) {
			if e.Kind == EventVerify && e.Before > 0 && e.Belief.Like(w).Len() != 1 {
				t.Fatalf("%s\n%s: %t, which takes %v out of the belief", src, e.Text, e.OK, host)
			}
		}
		for ops := p.ops; len(ops) > 0; {
			o := &ops[0]
			if err := run.do(t.Context(), o, len(ops) == 1); err != nil {
				if verdict.Verdict == Safe && !stopsHonestly(err) {
					t.Fatalf("%s\n%v on %v", src, err, host)
				}
				return
			}
			if ops = ops[1:]; o.fork {
				ops = o.no
				if run.taken[o.step] {
					ops = o.yes
				}
			}
		}
		if verdict.Verdict != Safe {
			return
		}
		safe++
		reached := slices.ContainsFunc(p.ways, func(way *way) bool { return way.end.Like(w).Len() > 0 && p.misses(way, kb.world) == "" })
		if !reached {
			t.Fatalf("%s\nis safe, and %v ends at %s with %s", src, host, kb.world.At(), kb.world.Effect())
		}
	})
	if forked == 0 || safe == 0 {
		t.Errorf("%d recipes, %d of them safe", forked, safe)
	}
}

func stopsHonestly(err error) bool {
	var v *VerifyError
	return errors.As(err, &v) && !v.Predicted
}

// anyAnswer says of a host whatever it may say.
type anyAnswer struct {
	kb   *console
	says []bool
	n    atomic.Int32
}

func (a *anyAnswer) Probe(_ context.Context, c Condition) (bool, error) {
	yes, no := mayBeSeen(a.kb.world, c), mayBeMissed(a.kb.world, c)
	if yes && no {
		return a.says[int(a.n.Add(1))%len(a.says)], nil
	}
	return yes, nil
}

// mayBeSeen and mayBeMissed are the law's own words about the real world, in
// which any cable may be out.
func mayBeSeen(w dcui.World, c Condition) bool {
	management, _ := w.Now("management")
	ssh, _ := w.Now("ssh")
	up := !w.Down() && management != "none"
	switch c.Kind {
	case "reachable":
		return up && (c.TCP != 22 || ssh == "on")
	case "closed":
		return up && (c.TCP != 22 || ssh == "off")
	case "icmp":
		return slices.Contains(w.Effects(), dcui.PingTest)
	}
	return true
}

func mayBeMissed(w dcui.World, c Condition) bool {
	// Only what nothing stands in the way of is seen for certain.
	return c.Kind != "unreachable" || mayBeSeen(w, Condition{Kind: "reachable", TCP: c.TCP})
}
