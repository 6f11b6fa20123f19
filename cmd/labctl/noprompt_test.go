//go:build unix

package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// wouldAsk are command lines that ask on a terminal: for a password that the
// config does not have, for a yes, for what is missing.
var wouldAsk = []errand{
	{line: "config init"},
	{line: "host show nuc01"},
	{line: "host learn nuc01"},
	{line: "host trust --url ESXI"},
	{line: "net show nuc01"},
	{line: "net plan nuc01 --to standard --out plan.json"},
	{line: "net apply nuc01 --to standard --yes --accept-risk=lose-management"},
	{line: "net status nuc01"},
	{line: "net cleanup nuc01"},
	{line: "recipe run ping-canary --host nuc01 --var address=192.168.1.5"},
	{line: "recipe run restore-standard-switch --host nuc01 --yes"},
	{line: "recipe rehearse restore-standard-switch --keyboard vm://nuc01/nested-esxi"},
	{line: "hid type --secret --keyboard sim:"},
	{line: "vch ls"},
	{line: "vch up t1"},
	{line: "vch inspect t1"},
	{line: "vch test t1"},
	{line: "vch logs t1"},
	{line: "vch down t1"},
	{line: "vch down --all"},
	// With a password, and still a question each.
	{line: "net apply nuc01 --to standard", env: "known"},
	{line: "net apply nuc01 --to standard --yes", env: "known"},
	{line: "net apply nuc01 --to standard --rescue restore-standard-switch", env: "known"},
	{line: "recipe run restore-standard-switch --host nuc01", env: "known"},
	{line: "recipe rehearse restore-standard-switch --keyboard vm://nuc01/nested-esxi", env: "known"},
}

// neverAsk are the commands that have no question, each with a line that ends.
var neverAsk = []string{
	"completion bash", "help net", "man DIR/man", "config check", "config schema", "config show", "dcui", "doctor", "hid doctor", "hid down --dry-run", "hid press F2 --dry-run",
	"hid serve --stdio", "hid status", "hid type a --dry-run", "hid up --dry-run", "hid watch --timeout 1s", "host ls", "net resume nuc01", "net rollback nuc01",
	"recipe check ping-canary", "recipe export ping-canary --format ducky", "recipe import nothing.txt", "recipe list", "recipe record mine.yaml",
	"recipe rehearse ping-canary --var address=192.168.1.5", "recipe schema", "recipe show ping-canary", "version", "host show nuc01 --timeout 1s",
}

// Without a terminal nothing is ever asked: every command ends by itself, those
// that have a question with 2 or 7, at once, and with no file written.
func TestNothingIsAskedWithoutATerminal(t *testing.T) {
	t.Parallel()
	l, dir := tourLab(t)
	esxi := l.address(t, "nuc01")
	config, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	bare := filepath.Join(dir, "asks.yaml")
	if err := os.WriteFile(bare, regexp.MustCompile(`(?m)^ *password_file:.*\n`).ReplaceAll(config, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	files := func() (all string) {
		for _, root := range []string{dir, l.state} {
			filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() && !strings.Contains(path, "/locks/") && filepath.Base(path) != "seen.json" { // names for completion, of what was read

					all += path + "\n"
				}
				return nil
			})
		}
		return all
	}
	run := func(line, config string) (answer, time.Duration) {
		cmd := l.command(strings.Fields(line)...)
		cmd.Env = append(cmd.Env, "HOME="+dir, "LABCTL_CONFIG="+config)
		if strings.HasPrefix(line, "config init") || strings.Contains(line, "--url") {
			cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
		}
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no /dev/tty
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr // stdin is /dev/null
		start := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		defer kill.Stop()
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return answer{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}, time.Since(start)
	}
	covered := map[string]bool{}
	for _, e := range wouldAsk {
		before := files()
		with := bare
		if e.env == "known" {
			with = l.config
		}
		line := strings.ReplaceAll(e.line, "ESXI", esxi)
		r, took := run(line, with)
		if r.code != exitUsage && r.code != exitUnsafe {
			t.Errorf("labctl %s: exit %d, want 2 or 7\n%s%s", line, r.code, r.stdout, r.stderr)
		}
		if took > 20*time.Second { // a busy machine, and still far from a wait
			t.Errorf("labctl %s took %v", line, took)
		}
		if after := files(); after != before {
			t.Errorf("labctl %s wrote files: before\n%s\nafter\n%s", line, before, after)
		}
		if strings.Contains(r.stderr, "[y/N]") || strings.Contains(r.stdout, "[y/N]") {
			t.Errorf("labctl %s puts a question", line)
		}
		covered[commandOf(t, e.line)] = true
	}
	for _, line := range neverAsk {
		if r, took := run(strings.ReplaceAll(line, "DIR", dir), l.config); r.code < 0 || took > 30*time.Second {
			t.Errorf("labctl %s: exit %d after %v\n%s%s", line, r.code, took, r.stdout, r.stderr)
		}
		covered[commandOf(t, line)] = true
	}
	walkCommands((&app{env: testEnv(t)}).root(), func(c *cobra.Command) {
		if name := strings.TrimPrefix(c.CommandPath(), "labctl "); !c.Hidden && !c.HasSubCommands() && !covered[name] {
			t.Errorf("labctl %s is not tried", name)
		}
	})
}
