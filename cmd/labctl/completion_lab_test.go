package main

import (
	"strings"
	"testing"
)

// The commands that look leave to the tab key what they saw; before, and where
// the lab is gone, it says nothing and does not wait.
func TestCompletionKnowsTheLab(t *testing.T) {
	l := startLab(t)
	words := func(args ...string) string {
		t.Helper()
		r := l.run(append([]string{"__complete"}, args...)...)
		if r.code != 0 {
			t.Fatalf("__complete %q: exit %d: %s", args, r.code, r.stderr)
		}
		return r.stdout
	}
	has := func(out, word string) bool { return strings.Contains("\n"+out, "\n"+word+"\n") }
	if out := words("net", "plan", "nuc01", "--dvs", ""); has(out, "DVS0") {
		t.Errorf("known before anybody looked: %s", out)
	}
	if r := l.run("net", "plan", "nuc01", "--to", "standard"); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	for _, c := range []struct {
		word string
		args []string
	}{
		{"nuc01", []string{"net", "plan", ""}},
		{"DVS0", []string{"net", "plan", "nuc01", "--dvs", ""}},
		{"DVS-Mgmt=", []string{"net", "plan", "nuc01", "--to", "standard", "--map", ""}},
		{"DVS-Mgmt", []string{"net", "apply", "nuc01", "--to", "distributed", "--portgroup", ""}},
		{"VM Network", []string{"vch", "up", "t1", "--public-network", ""}},
	} {
		if out := words(c.args...); !has(out, c.word) {
			t.Errorf("__complete %q lacks %s:\n%s", c.args, c.word, out)
		}
	}
}
