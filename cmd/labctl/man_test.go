package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each command has a page that names its flags, and no page has a line that troff
// would take for a request, or a character it does not know.
func TestManPages(t *testing.T) {
	a := &app{env: testEnv(t)}
	root := a.root()
	pages := manPages(root, versionResult{Release: "1.2", Time: "2026-01-02T03:04:05Z"})
	for _, name := range []string{"labctl.1", "labctl-net-plan.1", "labctl-hid-up.1", "labctl-recipe-rehearse.1", "labctl-man.1"} {
		if pages[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	if pages["labctl-hid-watchdog.1"] != nil {
		t.Error("a command that is hidden has a page")
	}
	plan := string(pages["labctl-net-plan.1"])
	for _, want := range []string{`.TH LABCTL\-NET\-PLAN 1 "2026-01-02" "labctl 1.2"`, `\fB\-\-to\fR \fIstandard|distributed\fR`, ".SH EXAMPLES\n.nf\n", ".BR labctl (1)"} {
		if !strings.Contains(plan, want) {
			t.Errorf("labctl-net-plan.1 lacks %q:\n%s", want, plan)
		}
	}
	known := regexp.MustCompile(`^\.(TH|SH|TP|PP|BR|B|nf|fi|nh|ad)( |$)`)
	dir := t.TempDir()
	for name, text := range pages {
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, ".") && !known.MatchString(strings.TrimSpace(line)) || strings.HasPrefix(line, "'") {
				t.Errorf("%s: a request that is none: %s", name, line)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := exec.LookPath("groff"); err == nil {
			if out, err := exec.Command("groff", "-man", "-Tutf8", "-ww", "-z", filepath.Join(dir, name)).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: %v %s", name, err, out)
			}
		}
	}
}
