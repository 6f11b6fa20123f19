package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/labctl/labctl/recipes"
)

const (
	loginBytes = "\x1bOQ\tlabctl\r"
	downBytes  = "\x1b[B"
	f11Bytes   = "\x1b[23~"
)

// recorded plays a terminal's bytes and gives the recipe that comes of them.
func recorded(t *testing.T, bytes string, facts ...string) string {
	t.Helper()
	e := testEnv(t)
	e.stdin = strings.NewReader(bytes)
	file := filepath.Join(t.TempDir(), "mine.yaml")
	args := []string{"recipe", "record", file}
	for _, f := range facts {
		args = append(args, "--fact", f)
	}
	if code, _, stderr := invoke(t, e, args...); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := recipes.Parse(file, b); err != nil {
		t.Errorf("the recording is no recipe: %v", err)
	}
	// What was done there can be done again.
	if code, _, stderr := invoke(t, testEnv(t), "recipe", "rehearse", file); code != 0 {
		t.Errorf("the recording does not play: exit %d: %s\n%s", code, stderr, b)
	}
	return string(b)
}

func TestRecord(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes  string
		facts  []string
		want   []string
		absent []string
	}{
		"restore": {loginBytes + strings.Repeat(downBytes, 4) + "\r" + downBytes + "\r" + f11Bytes + "\r\x1b\x1b", []string{"management=distributed"},
			[]string{"risk: destructive", "management: distributed", "- anchor", "- login", "- select: Network Restore Options", "- select: Restore Standard Switch", "- confirm: F11", "- leave", "- effect: standard switch restored"},
			[]string{"DOWN", "labctl\n"}},
		// The cursor strays, the login fails once, a form is left again: none of
		// it is in the recipe.
		"detours": {"\x1bOQ\tlabctx\r\r\x1b\x1b" + loginBytes + downBytes + downBytes + "\x1b[A\r" + downBytes + "\r77\x1b\x1b" + strings.Repeat(downBytes, 5) + "\r" + downBytes + "\r\x1b\x1b", nil,
			[]string{"risk: toggle", "SSH: \"on\""}, []string{"77", "set:", "keys:"}},
		"password": {loginBytes + "\rlabctl\tNew-pass1\tNew-pass1\r\x1b", nil,
			[]string{"Old Password: ${password}", "New Password: ${new_password}", "Confirm Password: ${new_password}", "new_password: "}, []string{"New-pass1", "***"}},
		"shutdown": {"\x1b[24~\tlabctl\r\x1bOQ", nil, []string{"- login: F12", "- confirm: F2", "risk: disruptive"}, []string{"select"}},
		"vlan": {loginBytes + downBytes + "\r" + downBytes + "\r42\r\x1by\x1b", nil,
			[]string{"- select: Configure Management Network", "- select: VLAN (optional)", "VLAN ID", "42", "- confirm: ENTER", "- confirm: \"Y\""}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := recorded(t, tc.bytes, tc.facts...)
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("lacks %q:\n%s", want, got)
				}
			}
			for _, absent := range tc.absent {
				if strings.Contains(got, absent) {
					t.Errorf("holds %q:\n%s", absent, got)
				}
			}
		})
	}
}
