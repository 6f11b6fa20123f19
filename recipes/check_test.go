package recipes

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

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

func TestDump(t *testing.T) {
	name := os.Getenv("DUMP")
	if name == "" {
		t.Skip()
	}
	_ = dcui.F2
	r, err := Find(name)
	if strings.Contains(name, "/") {
		src, _ := os.ReadFile(name)
		r, err = Parse(name, src)
	}
	if err != nil {
		t.Fatal(err)
	}
	facts := map[string]string{}
	if os.Getenv("FACTS") != "" {
		facts = maps.Clone(seedHost)
		for _, kv := range strings.Fields(os.Getenv("FACTS")) {
			k, v, _ := strings.Cut(kv, "=")
			facts = with(facts, k, v)
		}
	}
	start := time.Now()
	v := check(t, r, facts)
	took := time.Since(start)
	j, _ := json.MarshalIndent(v.Missing, "", " ")
	t.Logf("%s %s keys %v\nmissing %s", v.Recipe, v.Verdict, v.Keys, j)
	for i, w := range v.Worlds {
		if i > 40 {
			break
		}
		t.Log(w.OK, w.End, w.Effect, w.Facts, w.Why)
	}
	for _, n := range v.Notes {
		t.Log(n)
	}
	t.Log(len(v.Worlds), "worlds", took)
}
