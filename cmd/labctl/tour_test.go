package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// errand is one command line against the lab.
type errand struct {
	line  string // words by spaces; DIR stands for a folder of the test's own
	stdin string
	exit  int
	arm   string // a fault for the lab, armed before
	reset bool   // the lab begins anew before
	bare  bool   // without a config
	env   string // a variable, NAME=value
}

// do runs an errand with more flags behind it.
func (e *errand) do(l *lab, dir string, more ...string) answer {
	l.t.Helper()
	if e.reset {
		l.reset()
	}
	if e.arm != "" {
		l.arm(e.arm)
	}
	cmd := l.command(append(strings.Fields(strings.ReplaceAll(e.line, "DIR", dir)), more...)...)
	if e.bare {
		cmd.Env = []string{"HOME=" + dir + "/nobody", "PATH=" + os.Getenv("PATH")}
	}
	if e.env != "" {
		cmd.Env = append(cmd.Env, e.env)
	}
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(e.stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	start := time.Now()
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		l.t.Fatal(err)
	}
	l.t.Logf("  %6.2fs labctl %s", time.Since(start).Seconds(), e.line)
	r := answer{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	if r.code != e.exit {
		l.t.Errorf("labctl %s %s: exit %d, want %d\n%s%s", e.line, strings.Join(more, " "), r.code, e.exit, r.stdout, r.stderr)
	}
	return r
}

// tour is every command that writes JSON, in an order that makes sense, and
// some of them in more than one situation.
var tour = []errand{
	{line: "version"},
	{line: "help"},
	{line: "help link-down"},
	{line: "config check"},
	{line: "config check --config DIR/wrong.yaml", exit: exitUsage},
	{line: "config show"},
	{line: "config init --config DIR/new.yaml --url https://root@nuc01.lab.local --host nuc01"},
	{line: "host ls"},
	{line: "host show nuc01"},
	{line: "host trust nuc01"},
	{line: "host learn nuc01"},
	{line: "host show nuc01"},
	{line: "doctor"},
	{line: "hid status"},
	{line: "hid doctor --root DIR", exit: exitFailed},
	{line: "hid up --dry-run --root DIR"},
	{line: "hid down --dry-run --root DIR"},
	{line: "hid down --root DIR"},
	{line: "hid type hello --dry-run"},
	{line: "hid type hello --keyboard sim:"},
	{line: "hid press F2 ESC --dry-run"},
	{line: "hid press F2 ESC --keyboard sim:"},
	{line: "dcui --fact esxi=7.0", stdin: "\x1bOQ\t"},
	{line: "recipe list"},
	{line: "recipe show restore-standard-switch"},
	{line: "recipe check restore-standard-switch --host nuc01"},
	{line: "recipe check seed-restore-standard-switch", exit: exitUnsafe},
	{line: "recipe check restore-standard-switch --fact esxi=5.0", exit: exitPending},
	{line: "recipe record DIR/mine.yaml --fact esxi=7.0", stdin: "\x1b[12~\tlabctl\r\x1b[B\x1b[B\r\x1b\x1b"},
	{line: "recipe export restore-standard-switch --host nuc01 --format ducky"},
	{line: "recipe export restore-standard-switch --host nuc01 --format packer --out DIR/boot.txt"},
	{line: "recipe import DIR/boot.txt --format packer"},
	{line: "recipe rehearse restore-standard-switch"},
	{line: "recipe rehearse restore-standard-switch --keyboard vm://nuc01/nested-esxi --yes"},
	{line: "recipe rehearse restore-standard-switch --dry-run"},
	{line: "recipe run seed-restore-standard-switch --keyboard /dev/hidg0 --yes", exit: exitUnsafe},
	{line: "recipe run restore-standard-switch --host nuc01 --yes --dry-run"},
	{line: "net show nuc01", reset: true},
	{line: "net status nuc01"},
	{line: "net plan nuc01 --to standard"},
	{line: "net plan nuc01 --to standard --out DIR/plan.json --detailed-exitcode", exit: exitPending},
	{line: "net plan nuc01 --to distributed"},
	{line: "net rollback nuc01 --yes"},
	{line: "net apply nuc01 --to distributed --yes --accept-risk=lose-management"},
	{line: "net apply DIR/plan.json --yes --accept-risk=lose-management"},
	{line: "net apply DIR/plan.json --yes --accept-risk=lose-management", exit: exitStale},
	{line: "net status nuc01"},
	{line: "net resume nuc01 --yes"},
	{line: "net rollback nuc01 --yes --accept-risk=lose-management"},
	{line: "net cleanup nuc01 --yes"},
	{line: "net apply nuc01 --to standard --yes --accept-risk=lose-management --timeout 1s", arm: `{"fault":"wire-vlan","host":"nuc01","vlan":999}`, exit: exitChanged},
	{line: "recipe run restore-standard-switch --host nuc01 --yes --timeout 1s", reset: true, exit: exitChanged},
	{line: "vch ls", reset: true},
	{line: "vch up t1"},
	{line: "vch up t1", exit: exitFailed},
	{line: "vch ls"},
	{line: "vch inspect t1"},
	{line: "vch test t1"},
	{line: "vch logs t1"},
	{line: "vch down t1"},
	{line: "vch down t1"},
	{line: "vch down --expired"},
}

// tourLab is a lab for a tour, and a folder with the files that it names.
func tourLab(t *testing.T) (*lab, string) {
	l, dir := startLab(t, "--boot", "50ms"), t.TempDir()
	for name, text := range map[string]string{
		"wrong.yaml": "version: 1\nhosts:\n  - nmae: a\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l, dir
}

// commandOf is the command that a line calls, by its own words.
func commandOf(t *testing.T, line string) string {
	t.Helper()
	c, _, err := (&app{env: testEnv(t)}).root().Find(strings.Fields(line))
	if err != nil {
		t.Fatalf("labctl %s: %v", line, err)
	}
	return strings.TrimPrefix(c.CommandPath(), "labctl ")
}

// What every command writes with -o json is what its schema says, each line of
// it, and there is nothing else on stdout.
func TestOutputsHoldTheirSchemas(t *testing.T) {
	t.Parallel()
	l, dir := tourLab(t)
	seen := map[string]bool{"hid watch": true} // needs libusb and a cable; its own tests judge it
	for _, e := range tour {
		command := commandOf(t, e.line)
		r := e.do(l, dir, "-o", "json")
		seen[command] = true
		validateOutput(t, command, r.stdout)
	}
	for command := range outputs {
		if !seen[command] {
			t.Errorf("labctl %s is not on the tour", command)
		}
	}
}

// address is the URL of a host of the lab, with its user.
func (l *lab) address(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseConfig(l.config, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range c.Hosts {
		if h.Name == name {
			return strings.Replace(h.URL, "://", "://root@", 1)
		}
	}
	t.Fatalf("the lab has no host %s", name)
	return ""
}
