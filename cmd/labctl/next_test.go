package main

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// These end with what they were asked for, and nothing follows from it.
var nothingNext = []string{"version", "help", "config show", "hid type", "hid press", "hid down", "hid up", "recipe export", "recipe import", "config schema", "recipe schema", "completion"}

// stuck is where people find themselves: nothing is there yet, something is
// wrong, something does not answer.
var stuck = []errand{
	{line: "config show", bare: true},
	{line: "config check", bare: true, exit: exitUsage},
	{line: "host ls --config DIR/none.yaml", exit: exitUsage},
	{line: "host ls", bare: true, env: "LABCTL_CONFIG=/none/at/all.yaml", exit: exitUsage},
	{line: "config init", bare: true, exit: exitUsage},
	{line: "config schema net plann", exit: exitUsage},
	{line: "host ls", bare: true},
	{line: "host show", bare: true, exit: exitUsage},
	{line: "host show nuc02", exit: exitUsage},
	{line: "host show nuc01 --via direct", exit: exitUsage},
	{line: "net show", bare: true, exit: exitUsage},
	{line: "net plan --to standard", bare: true, exit: exitUsage},
	{line: "net plan nuc01", exit: exitUsage},
	{line: "net plan nuc01 --to standrad", exit: exitUsage},
	{line: "net plan nuc01 --too standard", exit: exitUsage},
	{line: "net plann nuc01", exit: exitUsage},
	{line: "net apply nowhere.json", exit: exitUsage},
	{line: "net apply nuc01 --to standard", exit: exitUsage},
	{line: "net apply nuc01 --to standard --yes", exit: exitUnsafe},
	{line: "net apply nuc01 --to standard --rescue ping-canary --yes --accept-risk=lose-management --var address=192.168.1.5", exit: exitUnsafe},
	{line: "net status", bare: true, exit: exitUsage},
	{line: "net resume nuc01 --yes", exit: exitUnchanged},
	{line: "net rollback nuc01 --yes"},
	{line: "net cleanup nuc01"},
	{line: "vch ls", bare: true, exit: exitUsage},
	{line: "vch inspect nothing", exit: exitUsage},
	{line: "vch logs nothing", exit: exitUsage},
	{line: "vch test nothing", exit: exitUsage},
	{line: "vch down", exit: exitUsage},
	{line: "vch down nothing"},
	{line: "vch up t1 --bundle DIR", exit: exitUsage},
	{line: "vch up t1 --bridge-network nowhere", exit: exitFailed},
	{line: "recipe check restore-standrad-switch", exit: exitUsage},
	{line: "recipe check restore-standard-switch --fact managment=standard", exit: exitUsage},
	{line: "recipe check restore-standard-switch --fact esxi=5.0", exit: exitPending},
	{line: "recipe check seed-restore-standard-switch", exit: exitUnsafe},
	{line: "recipe check seed-restore-standard-switch", bare: true, exit: exitUnsafe},
	{line: "recipe run ping-canary", exit: exitUsage},
	{line: "recipe run ping-canary --host nuc01", exit: exitUsage},
	{line: "recipe rehearse seed-restore-standard-switch --keyboard sim://127.0.0.1:1/nuc01 --yes", exit: exitUnsafe},
	{line: "recipe run DIR/none.yaml --host nuc01", exit: exitUsage},
	{line: "hid status --root DIR"},
	{line: "hid up --root DIR", exit: exitFailed},
	{line: "hid press F2 --keyboard /dev/hidg0", exit: exitFailed},
	{line: "hid press F22x --dry-run", exit: exitUsage},
	{line: "hid type a --keyboard usb:", exit: exitUsage},
	{line: "doctor", bare: true},
	{line: "doctor nuc01", exit: exitUsage},
	{line: "doctor --url https://root@127.0.0.1:1", bare: true, exit: exitFailed},
	{line: "host show --url https://root@127.0.0.1:1", bare: true, env: "LABCTL_PASSWORD=x", exit: exitFailed},
	{line: "host show --url ftp://root@127.0.0.1:1", bare: true, exit: exitUsage},
	{line: "net plan --to standard --url https://root@127.0.0.1:1", bare: true, env: "LABCTL_PASSWORD=x", exit: exitFailed},
	{line: "host trust --url https://root@127.0.0.1:1", bare: true, exit: exitFailed},
	{line: "host show --url ESXI", bare: true, env: "LABCTL_PASSWORD=x", exit: exitFailed},                                         // unknown certificate
	{line: "net show --insecure --url ESXI", bare: true, env: "LABCTL_PASSWORD=wrong", exit: exitFailed},                           // wrong password
	{line: "net show --url ESXI --thumbprint " + strings.Repeat("AB", 32), bare: true, env: "LABCTL_PASSWORD=x", exit: exitFailed}, // wrong pin
	{line: "host show --config DIR/wrong.yaml", exit: exitUsage},
	{line: "nett show", exit: exitUsage},
	{line: "dcui --fact esxi=9", exit: exitUsage},
	// The plan is refused, the host cannot be reached, the answer is lost.
	{line: "net plan nuc01 --to standard --switch a-name-that-is-longer-than-esxi-allows", exit: exitUnsafe},
	{line: "net apply nuc01 --to standard --yes --accept-risk=lose-management --timeout 1s", arm: `{"fault":"wire-vlan","host":"nuc01","vlan":999}`, exit: exitChanged},
	{line: "net status nuc01 --timeout 1s", exit: exitPending},
	{line: "net plan nuc01 --to standard --timeout 1s", exit: exitUnsafe},
	{line: "host show nuc01 --timeout 1s"},
	{line: "net apply nuc01 --to standard --yes --accept-risk=lose-management --timeout 1s", exit: exitUnsafe},
	{line: "net show nuc01 --timeout 1s"},
}

var shout = regexp.MustCompile(`^[A-Z]{3,}$`)

// Every command's last line is the next sensible command, which can be typed as
// it stands: its words are a command's, and its flags and arguments pass.
func TestTheLastLineIsTheNextCommand(t *testing.T) {
	t.Parallel()
	l, dir := tourLab(t)
	esxi := l.address(t, "nuc01")
	var all []errand
	for _, e := range tour {
		if !strings.Contains(e.line, "vm://") && !strings.Contains(e.line, "recipe run restore-standard-switch --host nuc01 --yes --timeout") { // they take their time
			all = append(all, e)
		}
	}
	stuck[0].reset = true
	for _, e := range append(all, stuck...) {
		e.line = strings.ReplaceAll(e.line, "ESXI", esxi)
		r := e.do(l, dir)
		if c := commandOf(t, e.line); e.exit == exitDone && slices.Contains(nothingNext, c) && !e.bare {
			continue
		}
		lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
		last := lines[len(lines)-1]
		text, ok := strings.CutPrefix(last, "labctl: hint: ")
		at := endsInCommand.FindStringIndex(text)
		if !ok || at == nil {
			t.Errorf("labctl %s (exit %d): the last line names no command: %q", e.line, r.code, last)
			continue
		}
		line := strings.TrimPrefix(strings.TrimPrefix(text[at[0]:], ": "), "sudo ")
		if err := passes(t, line); err != "" {
			t.Errorf("labctl %s: %q cannot be typed: %s", e.line, line, err)
		}
		if e.bare && strings.Contains(e.line, "--url") && exitUsage != e.exit && !strings.Contains(line, "--url") {
			t.Errorf("labctl %s: %q is about another host", e.line, line)
		}
	}
}

// passes says why a command line would be refused before it does anything.
func passes(t *testing.T, line string) string {
	t.Helper()
	words := shellWords(line)
	if i := slices.IndexFunc(words, shout.MatchString); i >= 0 {
		return words[i] + " is left to fill in"
	}
	if len(words) > 1 && words[1] == "help" {
		if code, _, stderr := invoke(t, testEnv(t), words[1:]...); code != exitDone {
			return stderr
		}
		return ""
	}
	root := (&app{env: testEnv(t)}).root()
	c, rest, err := root.Find(words[1:])
	if err != nil {
		return err.Error()
	}
	if err := c.ParseFlags(rest); errors.Is(err, pflag.ErrHelp) {
		return ""
	} else if err != nil {
		return err.Error()
	}
	if !c.Runnable() {
		return "it does nothing"
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return err.Error()
	}
	if c.HasSubCommands() && len(c.Flags().Args()) > 0 {
		return "there is no such command"
	}
	return ""
}
