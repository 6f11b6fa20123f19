package recipes

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/labctl/labctl/recipes/dcui"
)

// seedHost is the host of the design's example: ESXi 6.0, its management on a
// distributed switch, the lockdown item dimmed all the same.
var seedHost = map[string]string{
	"esxi": "6.0", "console": "local", "vcenter": "yes", "lockdown": "off", "lockdown_item": "dimmed",
	"management": "distributed", "wrap": "no", "screen": "welcome", "caps": "off", "layout": "us",
	"shell": "off", "ssh": "off",
}

func with(facts map[string]string, changes ...string) map[string]string {
	m := maps.Clone(facts)
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "" {
			delete(m, changes[i])
			continue
		}
		m[changes[i]] = changes[i+1]
	}
	return m
}

func check(t testing.TB, r *Recipe, facts map[string]string) *Verdict {
	t.Helper()
	b, err := r.Belief(facts)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Compile(b, Vars{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func found(t testing.TB, name string) *Recipe {
	t.Helper()
	r, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const head = "recipe: x\nsecrets: {password: root}\nvars: {name: a name}\nsteps:\n"

// One host after the other: what is known of it, the verdict, and where the
// first of its worlds ends.
func TestVerdicts(t *testing.T) {
	const seed = head + "  - keys: F2 TAB ${password} ENTER DOWN×4 ENTER DOWN ENTER F11\n"
	for _, c := range []struct {
		name    string
		src     string // a file, or the name of a recipe of the library
		facts   map[string]string
		verdict Kind
		end     string
		missing string // facts that are said to be missing
	}{
		{"seed on its host", "seed-restore-standard-switch", seedHost, Safe, "restore.result: standard switch restored", ""},
		{"seed, lockdown selectable", "seed-restore-standard-switch", with(seedHost, "lockdown_item", "selectable"), NeedsFacts, "test.result: ping test", "lockdown_item"},
		{"seed, standard switch", "seed-restore-standard-switch", with(seedHost, "management", "standard"), Unsafe, "restore.result: all networking wiped", ""},
		{"seed, no management", "seed-restore-standard-switch", with(seedHost, "management", "none"), NeedsFacts, "logs: nothing", "management"},
		{"seed, management unknown", "seed-restore-standard-switch", with(seedHost, "management", ""), Unsafe, "restore.result: all networking wiped", "management"},
		{"seed, lockdown item unknown", "seed-restore-standard-switch", with(seedHost, "lockdown_item", ""), NeedsFacts, "restore.result: standard switch restored", "lockdown_item"},
		{"seed, Caps Lock on", "seed-restore-standard-switch", with(seedHost, "caps", "on"), NeedsFacts, "login.error: nothing", "caps"},
		{"seed, 5.0", "seed-restore-standard-switch", with(seedHost, "esxi", "5.0"), NeedsFacts, "disable_mgmt.result: management network changed", "esxi"},
		{"seed, nothing known", "seed-restore-standard-switch", nil, Unsafe, "", "esxi console lockdown lockdown_item management wrap caps layout screen"},

		{"restore", "restore-standard-switch", seedHost, Safe, "restore.result: standard switch restored", ""},
		{"restore, lockdown selectable", "restore-standard-switch", with(seedHost, "lockdown_item", "selectable"), Safe, "restore.result: standard switch restored", ""},
		{"restore, lockdown item unknown", "restore-standard-switch", with(seedHost, "lockdown_item", ""), Safe, "restore.result: standard switch restored", ""},
		{"restore, lockdown item and wrap unknown", "restore-standard-switch", with(seedHost, "lockdown_item", "", "wrap", ""), Safe, "restore.result: standard switch restored", ""},
		{"restore, two wrapping lists", "restore-standard-switch", with(seedHost, "lockdown_item", "", "console", "", "wrap", "yes"), NeedsFacts, "restore.result: standard switch restored", "lockdown_item"},
		{"restore, management unknown", "restore-standard-switch", with(seedHost, "management", ""), NeedsFacts, "welcome: nothing", "management"},
		{"restore, standard switch", "restore-standard-switch", with(seedHost, "management", "standard"), NeedsFacts, "welcome: nothing", "management"},
		{"restore, strict lockdown", "restore-standard-switch", with(seedHost, "lockdown", "strict"), NeedsFacts, "denied: nothing", "lockdown"},
		{"restore, both", "restore-standard-switch", with(seedHost, "lockdown", "strict", "management", "none"), NeedsFacts, "welcome: nothing", "management"},
		{"restore, 5.0", "restore-standard-switch", with(seedHost, "esxi", "5.0"), NeedsFacts, "welcome: nothing", "esxi"},
		{"restore, layout unknown", "restore-standard-switch", with(seedHost, "layout", ""), NeedsFacts, "login.error: nothing", "layout"},
		{"restore, caps unknown", "restore-standard-switch", with(seedHost, "caps", "", "screen", ""), Safe, "restore.result: standard switch restored", ""},
		{"restore, nothing known", "restore-standard-switch", nil, NeedsFacts, "", "esxi lockdown lockdown_item management layout"},

		// A raw recipe without verify has no goal: any destructive effect is one
		// too many, whatever the file declares.
		{"raw without a goal", seed + "risk: destructive\n", seedHost, Unsafe, "restore.result: standard switch restored", ""},
		{"raw without an effect", head + "  - keys: F2 ESC\n", seedHost, Safe, "welcome: nothing", ""},
		{"raw, another effect is the goal", seed + "verify: [effect: all networking wiped]\n", with(seedHost, "management", "standard"), Safe, "restore.result: all networking wiped", ""},
		{"raw, wiped for standard", seed + "verify: [management: standard]\n", with(seedHost, "management", "standard"), Unsafe, "restore.result: all networking wiped", ""},
		{"raw, reachable names no effect", seed + "verify: [reachable: {tcp: 443}]\n", seedHost, Unsafe, "restore.result: standard switch restored", ""},
		{"raw that never gets there", head + "  - keys: F2 ESC\nverify: [management: standard]\n", seedHost, NeedsFacts, "welcome: nothing", "management"},
		{"raw that nobody gets anywhere with", head + "  - keys: ESC\nverify: [effect: password changed]\n", seedHost, NeedsFacts, "welcome: nothing", "screen"},

		// The item selected and confirmed is the goal.
		{"select and confirm", head + "  - login\n  - select: Network Restore Options\n  - select: Restore Network Settings\n  - confirm\n", seedHost, Safe, "restore.result: all networking wiped", ""},
		{"confirm without select", head + "  - login\n  - keys: DOWN×4 ENTER ENTER\n  - confirm: F11\n", seedHost, Unsafe, "restore.result: all networking wiped", ""},
		{"nothing to confirm", head + "  - login\n  - confirm: F11\n", seedHost, NeedsFacts, "menu: nothing", "screen"},
		{"dimmed", head + "  - login\n  - select: Configure Lockdown Mode\n", seedHost, NeedsFacts, "menu: nothing", "lockdown_item"},
		{"no menu in front", head + "  - select: Network Restore Options\n", seedHost, NeedsFacts, "welcome: nothing", "screen"},
		{"login from elsewhere", head + "  - login\n", with(seedHost, "screen", "power"), NeedsFacts, "power: nothing", "screen"},

		// One key turns a switch on and off.
		{"toggle", head + "  - login\n  - select: Troubleshooting Options\n  - toggle: {SSH: on}\n", seedHost, Safe, "trouble: ssh on", ""},
		{"toggle, on already", head + "  - login\n  - select: Troubleshooting Options\n  - toggle: {SSH: on}\n", with(seedHost, "ssh", "on"), Safe, "trouble: nothing", ""},
		{"toggle, unknown", head + "  - login\n  - select: Troubleshooting Options\n  - toggle: {SSH: on}\n", with(seedHost, "ssh", ""), NeedsFacts, "trouble: ssh on", "ssh"},
		{"toggle by its label", head + "  - login\n  - select: Troubleshooting Options\n  - select: Enable ESXi Shell\n", seedHost, Safe, "trouble: shell on", ""},
		{"two switches", head + "  - login\n  - select: Troubleshooting Options\n  - toggle: {SSH: on, ESXi Shell: on}\n", seedHost, Safe, "trouble: ssh on", ""},

		{"on and off again", head + "  - login\n  - select: Troubleshooting Options\n  - toggle: {SSH: on}\n  - toggle: {SSH: off}\n", seedHost, Safe, "trouble: nothing", ""},

		{"form", head + "  - login\n  - select: Configure Management Network\n  - select: VLAN (optional)\n  - set: {VLAN ID: 20}\n  - confirm: ENTER\n  - leave\n  - confirm: Y\n", seedHost, Safe, "menu: management network changed", ""},
		{"form on a German keyboard", head + "  - login\n  - select: Configure Management Network\n  - select: VLAN (optional)\n  - set: {VLAN ID: 20}\n  - confirm: ENTER\n  - leave\n  - confirm: Y\n", with(seedHost, "layout", "de"), Safe, "menu: management network changed", ""},
		{"bad value", head + "  - login\n  - select: Configure Management Network\n  - select: VLAN (optional)\n  - set: {VLAN ID: 9999}\n  - confirm: ENTER\n  - leave: mgmt\n", seedHost, Safe, "mgmt: nothing", ""},
		{"radio button", head + "  - login\n  - select: Configure Management Network\n  - select: IPv4 Configuration\n  - set: {Use dynamic IPv4: on}\n  - confirm: ENTER\n  - leave\n  - confirm: Y\n", seedHost, Safe, "menu: management network changed", ""},
		{"leave without a question", head + "  - login\n  - select: Configure Management Network\n  - leave\n", seedHost, Safe, "welcome: nothing", ""},
		{"field that is not there", head + "  - login\n  - select: Configure Password\n  - set: {VLAN ID: 5}\n", seedHost, NeedsFacts, "password: nothing", "screen"},

		{"when", head + "  - keys: F2\n    when: {ssh: on}\n  - keys: F12\n    when: {ssh: off}\n", seedHost, Safe, "login: nothing", ""},
		{"when, unknown", head + "  - keys: F2\n    when: {ssh: on}\n", with(seedHost, "ssh", ""), NeedsFacts, "welcome: nothing", "ssh"},
		{"expect", head + "  - keys: F2\n  - expect: login\n", seedHost, Safe, "login: nothing", ""},
		{"expect in vain", head + "  - keys: F2\n  - expect: menu\n", seedHost, NeedsFacts, "login: nothing", "screen"},
		{"probe", head + "  - probe: {tcp: 22, within: 1s}\n  - keys: F2\n", with(seedHost, "ssh", ""), NeedsFacts, "welcome: nothing", "ssh"},
		{"requires a version", "recipe: x\nesxi: \">=6.5 <8\"\nsteps: [{keys: F2}]\n", with(seedHost, "esxi", "7.0"), Safe, "login: nothing", ""},
		{"requires another version", "recipe: x\nesxi: \">=6.5 <8\"\nsteps: [{keys: F2}]\n", with(seedHost, "esxi", "8.0"), NeedsFacts, "welcome: nothing", "esxi"},
		{"too late", head + "  - login\n  - wait: 3m\n  - keys: DOWN\n", seedHost, Unsafe, "menu: nothing", ""},
		{"too late, anchored", head + "  - login\n  - wait: 3m\n  - anchor\n  - login\n", seedHost, Safe, "menu: nothing", ""},
		{"wait at the end", head + "  - login\n  - wait: 3m\n", seedHost, Safe, "menu: nothing", ""},
		{"held key that makes no difference", head + "  - login\n  - keys: DOWN×10\n  - hold: {key: DOWN, for: 1s}\n", seedHost, Safe, "menu: nothing", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r *Recipe
			if strings.Contains(c.src, "\n") {
				r = parsed(t, c.src)
			} else {
				r = found(t, c.src)
			}
			v := check(t, r, c.facts)
			if v.Verdict != c.verdict {
				t.Errorf("verdict %s, want %s: %v, notes %v", v.Verdict, c.verdict, v.Keys, v.Notes)
			}
			if end := v.Worlds[0].End + ": " + v.Worlds[0].Effect; c.end != "" && end != c.end {
				t.Errorf("ends with %s, want %s: %s", end, c.end, v.Worlds[0].Why)
			}
			var missing []string
			for _, m := range v.Missing {
				missing = append(missing, m.Fact)
				if len(m.Splits) < 2 || m.Why == "" || m.Probe == "" || !slices.Equal(m.Splits, unique(m.Splits)) {
					t.Errorf("missing %+v", m)
				}
			}
			if got := strings.Join(missing, " "); got != c.missing {
				t.Errorf("missing %q, want %q", got, c.missing)
			}
			if len(c.facts) == len(dcui.FactNames()) && len(v.Worlds) != 1 {
				t.Errorf("%d worlds with all facts given", len(v.Worlds))
			}
		})
	}
}

func unique(s []string) []string {
	var out []string
	for _, x := range s {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// With every fact given the restore is safe whatever its menus look like.
func TestRestoreIsSafe(t *testing.T) {
	r := found(t, "restore-standard-switch")
	n := 0
	for _, item := range dcui.FactValues("lockdown_item") {
		for _, console := range dcui.FactValues("console") {
			for _, wrap := range dcui.FactValues("wrap") {
				for _, version := range dcui.FactValues("esxi")[1:] {
					for _, screen := range dcui.FactValues("screen") {
						v := check(t, r, with(seedHost, "lockdown_item", item, "console", console, "wrap", wrap, "esxi", version, "screen", screen))
						if v.Verdict != Safe || len(v.Worlds) != 1 || v.Worlds[0].Effect != "standard switch restored" {
							t.Errorf("%s %s %s %s %s: %s %v", item, console, wrap, version, screen, v.Verdict, v.Worlds)
						}
						n++
					}
				}
			}
		}
	}
	if n < 1000 {
		t.Errorf("only %d hosts", n)
	}
}

// A secret that is typed in the open: a fault of the recipe where no world
// hides it, unsafe with its place where some do, and never typed by login.
func TestSecretInTheOpen(t *testing.T) {
	compile := func(src string, facts map[string]string) (*Program, error) {
		r := parsed(t, src)
		b, err := r.Belief(facts)
		if err != nil {
			t.Fatal(err)
		}
		return r.Compile(b, Vars{})
	}
	for _, src := range []string{
		head + "  - keys: F2 TAB TAB ${password}\n",
		head + "  - type: ${password}\n",
		head + "  - login\n  - select: Configure Management Network\n  - select: VLAN (optional)\n  - set: {VLAN ID: \"${password}\"}\n",
	} {
		_, err := compile(src, seedHost)
		var all Errors
		if !errors.As(err, &all) || len(all) != 1 || !strings.Contains(all[0].Msg, "in the open") || !strings.HasPrefix(all[0].Text[all[0].Col-1:], "${password}") {
			t.Errorf("%s: %v", src, err)
		}
	}
	p, err := compile(head+"  - keys: F2 TAB ${password}\n", with(seedHost, "screen", ""))
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Check(t.Context())
	if err != nil || v.Verdict != Unsafe || !slices.Equal(v.Risks, []string{"open-secret"}) || len(v.Notes) != 1 || v.Notes[0].Line != 5 || v.Notes[0].Col != 18 {
		t.Errorf("%v, notes %v", v.Verdict, v.Notes)
	}
	// A world in which somebody could read it is not right, whatever else holds.
	ok := map[string]bool{}
	for _, e := range v.Worlds {
		ok[e.Facts["screen"]] = e.OK
		if e.OK == e.World.Exposed() || e.Harm || !e.OK && e.Why != "a secret is typed in the open" {
			t.Errorf("%+v", e)
		}
	}
	for screen, want := range map[string]bool{"welcome": true, "login": true, "menu": false, "shell": false, "test": false} {
		if ok[screen] != want {
			t.Errorf("from %s: ok %t", screen, ok[screen])
		}
	}
	p, err = compile(head+"  - login\n", with(seedHost, "screen", ""))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := p.Check(t.Context()); err != nil || v.Verdict != NeedsFacts || len(v.Missing) != 1 || v.Missing[0].Fact != "screen" {
		t.Errorf("%v, missing %v, %v", v.Verdict, v.Missing, err)
	}
}

// What cannot be typed is said before the first key, with its place in the
// file and in the text, and without the character.
func TestUntypeable(t *testing.T) {
	r := parsed(t, head+"  - login\n  - type: ${name}\n")
	b, err := r.Belief(seedHost)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		v    Vars
		want string
	}{
		{Vars{Secrets: map[string]Secret{"password": secret("abcΩd")}}, "test.yaml:5:5: layout us cannot type character 4 of secret password"},
		{Vars{Values: map[string]string{"name": "ΩX"}}, "test.yaml:6:11: layout us cannot type character 1 of variable name"},
		{Vars{Values: map[string]string{"nam": "X"}}, "test.yaml:3:1: recipe x has no variable nam"},
		{Vars{Values: map[string]string{"password": "X"}}, "test.yaml:3:1: password is a secret: its value is never given as a variable"},
		{Vars{Layout: "klingon"}, `finding layout "klingon"`},
	} {
		_, err := r.Compile(b, c.v)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "Ω") {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if _, err := r.Compile(b, Vars{Secrets: map[string]Secret{"password": secret("ä")}, Layout: "de"}); err != nil {
		t.Errorf("de: %v", err)
	}
}

func TestValuesOfKinds(t *testing.T) {
	for _, c := range []struct{ kind, good, bad string }{
		{"ipv4", "192.0.2.1", "192.0.2.256"}, {"ipv4", "0.0.0.0", "fe80::1"}, {"netmask", "255.255.254.0", "255.0.255.0"},
		{"vlan", "0", "4096"}, {"vlan", "4095", "-1"}, {"number", "10", "+1"}, {"hostname", "a.b-c", "-a"}, {"hostname", "x", "a_b"}, {"text", "any thing", "a\nb"},
	} {
		if why := badValue(c.kind, c.good); why != "" {
			t.Errorf("%s %q: %s", c.kind, c.good, why)
		}
		if badValue(c.kind, c.bad) == "" {
			t.Errorf("%s takes %q", c.kind, c.bad)
		}
	}
}

// Other programs know the effects by these names and no others; what else is
// done to a host stands beside it.
func TestEffectsInJSON(t *testing.T) {
	names := strings.Split("standard switch restored, all networking wiped, distributed switch restored, system configuration reset, "+
		"management network restarted, management agents restarted, management network changed, ping test, ssh on, ssh off, shell on, shell off, "+
		"password changed, lockdown on, lockdown off, host shut down, host restarted, nothing", ", ")
	did := map[string]bool{}
	for _, r := range Library() {
		b, err := r.Belief(nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.Compile(b, Vars{})
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range v.Worlds {
			if !slices.Contains(names, e.Effect) {
				t.Fatalf("%s: effect %q", r.Name, e.Effect)
			}
			if want := e.Worst(); (e.Did == "") != (want == e.Effect) || e.Did != "" && e.Did != want {
				t.Fatalf("%s: effect %q, did %q, worst %q", r.Name, e.Effect, e.Did, want)
			}
			did[e.Did] = true
		}
	}
	for _, want := range []string{"shell command run", ""} {
		if !did[want] {
			t.Errorf("in no world %q", want)
		}
	}
}

// The same question has the same answer, to the byte.
func TestCheckIsDeterministic(t *testing.T) {
	for _, r := range Library() {
		for _, facts := range []map[string]string{nil, {"esxi": "7.0"}, with(seedHost, "management", "", "wrap", "", "layout", "")} {
			var first string
			for range 3 {
				out, err := json.Marshal(check(t, r, facts))
				if err != nil {
					t.Fatal(err)
				}
				if first == "" {
					first = string(out)
				} else if first != string(out) {
					t.Fatalf("%s differs from time to time", r.Name)
				}
			}
		}
	}
}

// Each recipe of the library says what is missing where it is not safe.
func TestLibraryVerdicts(t *testing.T) {
	for _, r := range Library() {
		v := check(t, r, nil)
		if v.Verdict == NeedsFacts && len(v.Missing) == 0 || len(v.Worlds) == 0 || len(v.Keys) == 0 {
			t.Errorf("%s: %s, %d missing, %d worlds", r.Name, v.Verdict, len(v.Missing), len(v.Worlds))
		}
		for _, w := range v.Worlds {
			if w.OK == (w.Why != "") {
				t.Errorf("%s: %+v", r.Name, w)
			}
		}
	}
}

// A risk that is declared too low is noted, and excuses nothing either way.
func TestUnderstatedRisk(t *testing.T) {
	for _, c := range []struct {
		risk  string
		notes int
	}{{"read-only", 1}, {"toggle", 1}, {"disruptive", 0}, {"destructive", 0}} {
		v := check(t, parsed(t, head+"  - login: F12\n  - confirm: F11\nrisk: "+c.risk+"\n"), seedHost)
		if len(v.Notes) != c.notes || v.Verdict != Safe {
			t.Errorf("%s: %s, %v", c.risk, v.Verdict, v.Notes)
		}
	}
	for _, r := range Library() {
		if r.Raw() {
			continue
		}
		if v := check(t, r, with(seedHost, "lockdown", "normal", "lockdown_item", "selectable")); len(v.Notes) > 0 {
			t.Errorf("%s: %v", r.Name, v.Notes)
		}
	}
}

// The JSON has lists where it has lists, and no null.
func TestVerdictJSON(t *testing.T) {
	for _, facts := range []map[string]string{seedHost, nil} {
		out, err := json.Marshal(check(t, found(t, "restore-standard-switch"), facts))
		if err != nil || strings.Contains(string(out), "null") {
			t.Errorf("%.300s, %v", out, err)
		}
	}
}

// With the version unknown, compiling goes on with the most versions that have
// keys in common, not with the one whose keys are fewest.
func TestMostVersionsAreKept(t *testing.T) {
	p := compiled(t, "restart-management-agents", nil, Vars{})
	kept := p.ends().Values("esxi")
	if len(kept) < 5 || slices.Contains(kept, "5.0") {
		t.Errorf("versions kept: %v, keys %v", kept, p.Keys())
	}
}
