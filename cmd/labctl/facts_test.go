package main

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/recipes/dcui"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func learnedOf(facts *esxi.Facts, read time.Time) *learnedFile {
	f := &learnedFile{Version: 1, Host: "nuc01", Facts: map[string]learnedFact{}}
	f.learn(facts, "esxi", read)
	return f
}

func someFacts() *esxi.Facts {
	return &esxi.Facts{
		Version: "6.7.0", Build: "1", Vendor: "Intel", Model: "NUC", ManagedBy: "192.0.2.5", Lockdown: "off", Shell: "off", SSH: "on",
		Management: "distributed", DCUIAccess: []string{}, DCUITimeout: "120", Layout: "Swiss French",
		VMKernels: []esxi.FactVMKernel{{Device: "vmk0", Kind: "distributed", Switch: "DVS0", Management: true}},
		Uplinks:   []esxi.FactUplink{{Device: "vmnic0", Mbps: 1000, Kind: "distributed", Switch: "DVS0"}, {Device: "vmnic1"}},
	}
}

func TestBelieve(t *testing.T) {
	settings := "esxi=6.7 vcenter=yes lockdown=off layout=ch-fr"
	for _, tc := range []struct {
		what   string
		change func(*learnedFile)
		age    time.Duration
		want   string
		open   []string // fact (why), in part
	}{
		{"just read", nil, 0, "esxi=6.7 vcenter=yes lockdown=off management=distributed layout=ch-fr", []string{"shell (was off", "ssh (was on"}},
		{"a day later", nil, placeKept, "esxi=6.7 vcenter=yes lockdown=off management=distributed layout=ch-fr", nil},
		{"after a day", nil, placeKept + time.Second, settings, []string{"management (was distributed 24 hours ago)"}},
		{"a year later", nil, 365 * 24 * time.Hour, settings, []string{"management (was distributed 365 days ago)"}},
		{"labctl acted since", func(f *learnedFile) { f.Acted, f.ActedBy = noon.Add(-time.Second), "net apply" }, time.Minute, settings,
			[]string{"management (was distributed, and net apply has acted since)"}},
		{"labctl acted before", func(f *learnedFile) { f.Acted = noon.Add(-time.Hour) }, time.Minute, "management=distributed", nil},
		{"a version to come", func(f *learnedFile) { f.Facts["version"] = learnedFact{Value: "9.0.0", Read: noon} }, 0, "vcenter=yes lockdown=off management=distributed layout=ch-fr",
			[]string{"esxi (nothing is known of the console of 9.0)"}},
		{"a layout to come", func(f *learnedFile) { f.Facts["layout"] = learnedFact{Value: "Klingon", Read: noon} }, 0, "lockdown=off management=distributed",
			[]string{`layout ("Klingon" is no layout`}},
		{"not managed", func(f *learnedFile) { f.Facts["managed_by"] = learnedFact{Value: "none", Read: noon} }, 0, "vcenter=no", nil},
		{"a value of another release", func(f *learnedFile) { f.Facts["lockdown"] = learnedFact{Value: "severe", Read: noon} }, 0, "vcenter=yes management=distributed", nil},
		{"seen in a rehearsal", func(f *learnedFile) {
			f.Facts["lockdown_item"] = learnedFact{Value: "dimmed", Read: noon, Via: "rehearsal"}
		}, 0, "lockdown_item=dimmed", nil},
		{"the clock was set back", nil, -time.Hour, "management=distributed", nil},
	} {
		f := learnedOf(someFacts(), noon.Add(-tc.age))
		if tc.change != nil {
			tc.change(f)
		}
		b := f.believe(noon)
		got := factWords(b.facts)
		for _, w := range strings.Fields(tc.want) {
			if !slices.Contains(strings.Fields(got), w) {
				t.Errorf("%s: %s, want %s in it", tc.what, got, w)
			}
		}
		if tc.what == "after a day" && got != tc.want || strings.Contains(tc.what, "to come") && strings.Contains(got, strings.Fields(tc.open[0])[0]+"=") {
			t.Errorf("%s: %s, want %s", tc.what, got, tc.want)
		}
		for _, o := range tc.open {
			if !slices.ContainsFunc(b.open, func(have string) bool { return strings.HasPrefix(have, o) }) {
				t.Errorf("%s: open are %q, want %s", tc.what, b.open, o)
			}
		}
		if b.idle != 2*time.Minute {
			t.Errorf("%s: time-out %v", tc.what, b.idle)
		}
	}
	f := learnedOf(&esxi.Facts{DCUITimeout: "0"}, noon)
	if got := f.believe(noon).idle; got != never {
		t.Errorf("a console that never logs out: %v", got)
	}
}

// Whatever is stored, and however old it is: states are never believed, what is
// believed is a fact of the model, and the place of management does not outlive
// a change.
func TestBelieveLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &learnedFile{Version: 1, Facts: map[string]learnedFact{}}
		names := append(slices.Clone(dcui.FactNames()), "version", "managed_by", "dcui_timeout", "dcui_access", "uplink vmnic0", "junk")
		at := rapid.Map(rapid.Int64Range(-1e6, 1e6), func(s int64) time.Time { return noon.Add(time.Duration(s) * time.Second) })
		for range rapid.IntRange(0, 12).Draw(t, "n") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			values := append(slices.Clone(dcui.FactValues(name)), "6.7.0", "none", "", "-1", "99999999999999999999", "x")
			f.Facts[name] = learnedFact{Value: rapid.SampledFrom(values).Draw(t, "value"), Read: at.Draw(t, "read")}
		}
		f.Acted = at.Draw(t, "acted")
		b := f.believe(noon)
		if err := checkFacts(b.facts); err != nil {
			t.Fatal(err)
		}
		for _, n := range neverKept {
			if v, ok := b.facts[n]; ok {
				t.Fatalf("%s=%s is believed", n, v)
			}
		}
		if m := f.Facts["management"]; b.facts["management"] != "" && (m.Read.Before(f.Acted) || noon.Sub(m.Read) > placeKept) {
			t.Fatalf("management is believed, read %v, acted %v", m.Read, f.Acted)
		}
		if b.idle < 0 || b.oldest < b.newest {
			t.Fatalf("%+v", b)
		}
	})
}

// A reading keeps what it does not tell, and drops adapters that are gone.
func TestLearnAgain(t *testing.T) {
	f := learnedOf(someFacts(), noon)
	f.learn(&esxi.Facts{Version: "6.7.0", Management: "standard", VMKernels: []esxi.FactVMKernel{}}, "vcenter", noon.Add(time.Hour))
	if got := f.Facts["layout"]; got.Value != "Swiss French" || !got.Read.Equal(noon) {
		t.Errorf("the layout is %+v", got)
	}
	if got := f.Facts["management"]; got.Value != "standard" || !got.Read.Equal(noon.Add(time.Hour)) || got.Via != "vcenter" {
		t.Errorf("management is %+v", got)
	}
	if _, ok := f.Facts["vmkernel vmk0"]; ok {
		t.Error("an adapter that is gone is still there")
	}
	if _, ok := f.Facts["uplink vmnic0"]; !ok {
		t.Error("uplinks that were not read are gone")
	}
	if got := f.Facts[factAccess].Value; got != "nobody" {
		t.Errorf("an empty list of users is %q", got)
	}
}

func factsApp(t *testing.T) *app {
	t.Helper()
	return &app{env: testEnv(t, "XDG_STATE_HOME="+t.TempDir())}
}

func TestFactsAfterActing(t *testing.T) {
	a := factsApp(t)
	for _, tc := range []struct {
		effect dcui.Effect
		gone   string // facts no longer believed
	}{
		{dcui.NetworkChanged, "management"}, {dcui.StandardRestored, "management"}, {dcui.DistributedRestored, "management"},
		{dcui.NetworkWiped, "management"}, {dcui.ShellCommand, "management"},
		{dcui.LockdownOff, "lockdown"}, {dcui.LockdownOn, "lockdown"}, {dcui.SettingsChanged, "layout"},
		{dcui.SystemReset, "layout lockdown management vcenter"}, {dcui.SSHOn, ""}, {dcui.AgentsRestarted, ""},
	} {
		f := learnedOf(someFacts(), a.now().Add(-time.Second))
		if err := a.keepFacts(f); err != nil {
			t.Fatal(err)
		}
		before := f.believe(a.now()).facts
		if err := a.acting("nuc01", "recipe run", dcui.Nothing, tc.effect); err != nil {
			t.Fatal(err)
		}
		after := a.learned("nuc01").believe(a.now()).facts
		var gone []string
		for _, n := range slices.Sorted(maps.Keys(before)) {
			if after[n] == "" {
				gone = append(gone, n)
			}
		}
		if got := strings.Join(gone, " "); got != tc.gone {
			t.Errorf("after %v: %q are unknown again, want %q", tc.effect, got, tc.gone)
		}
	}
}

// Two hosts never share a file, whatever they are called, and none leaves the
// folder.
// What the config says of a host's network is doubted aloud once labctl itself
// has acted on that, until it was read again.
func TestConfiguredPlaceAfterActing(t *testing.T) {
	a := factsApp(t)
	var said bytes.Buffer
	a.stderr, a.now = &said, func() time.Time { return noon }
	h := &HostConf{Name: "nuc01", Facts: map[string]string{"management": "distributed"}}
	warned := func() bool {
		said.Reset()
		a.saidFacts = ""
		facts, _, err := a.knownFacts(h)
		if err != nil || facts["management"] != "distributed" {
			t.Fatalf("%v, %v", facts, err)
		}
		return strings.Contains(said.String(), "recipe x has acted on the network: is it so still? labctl host learn nuc01")
	}
	if warned() {
		t.Errorf("nothing was done yet: %s", said.String())
	}
	if err := a.acting("nuc01", "recipe x", dcui.SSHOn); err != nil {
		t.Fatal(err)
	}
	if warned() {
		t.Errorf("SSH is no matter of the network: %s", said.String())
	}
	if err := a.acting("nuc01", "recipe x", dcui.StandardRestored); err != nil {
		t.Fatal(err)
	}
	if !warned() {
		t.Errorf("nothing is said: %s", said.String())
	}
	a.now = func() time.Time { return noon.Add(time.Minute) }
	a.learnPlace("nuc01", "esxi", "standard")
	if warned() || !strings.Contains(said.String(), "the config holds") {
		t.Errorf("after a reading: %s", said.String())
	}
}

func TestFactsPath(t *testing.T) {
	a := factsApp(t)
	seen := map[string]string{}
	for _, host := range []string{"nuc01", "NUC01", "../nuc01", "a/b", "a%2Fb", "ä", ".", "nuc01.lock"} {
		path, err := a.factsPath(host)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(filepath.Dir(path)) != "facts" || seen[path] != "" {
			t.Errorf("%s: %s, which is also that of %q", host, path, seen[path])
		}
		seen[path] = host
		if err := a.keepFacts(&learnedFile{Version: 1, Host: host}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", host, info.Mode(), err)
		}
	}
}

func TestAgeWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "less than a minute", time.Minute: "1 minute", 119 * time.Minute: "119 minutes", 2 * time.Hour: "2 hours",
		47 * time.Hour: "47 hours", 48 * time.Hour: "2 days", 400 * 24 * time.Hour: "400 days",
	} {
		if got := ageWords(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// A file that somebody has edited is an error or facts, and never a panic.
func FuzzLearned(f *testing.F) {
	f.Add([]byte(`{"version":1,"facts":{"version":{"value":"6.7.0","read":"2026-03-01T12:00:00Z"}}}`))
	f.Add([]byte(`{"version":1,"facts":null,"acted":"9999-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`[]`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, src []byte) {
		a := &app{env: &env{lookup: func(name string) (string, bool) { return dir, name == "XDG_STATE_HOME" }}}
		path, err := a.factsPath("nuc01")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, src, 0o600)); err != nil {
			t.Fatal(err)
		}
		l, err := a.readLearned("nuc01")
		if err != nil {
			return
		}
		if err := checkFacts(l.believe(noon).facts); err != nil {
			t.Error(err)
		}
		if len(l.shown(nil)) != len(l.Facts) {
			t.Error("not every fact is shown")
		}
	})
}

func TestClockVerdict(t *testing.T) {
	for off, want := range map[time.Duration]string{
		0: doctorOK, 29 * time.Second: doctorOK, -30 * time.Second: doctorWarn, 4 * time.Minute: doctorWarn, 5 * time.Minute: doctorFail, -time.Hour: doctorFail,
	} {
		verdict, detail, mend := clockVerdict(off)
		if verdict != want || (mend == "") != (want == doctorOK) {
			t.Errorf("%v: %s, %q", off, verdict, mend)
		}
		if off < 0 && !strings.Contains(detail, "behind") {
			t.Errorf("%v: %s", off, detail)
		}
	}
}

func TestLacking(t *testing.T) {
	want := []string{"a", "b", "c"}
	for _, tc := range []struct {
		granted []bool
		lacks   string
	}{{[]bool{true, true, true}, ""}, {[]bool{true, false, true}, "b"}, {[]bool{true}, "b c"}, {nil, "a b c"}} {
		if got := strings.Join(lacking(want, tc.granted), " "); got != tc.lacks {
			t.Errorf("granted %v: lacks %q, want %q", tc.granted, got, tc.lacks)
		}
	}
}
