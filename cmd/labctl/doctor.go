package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/vch"
)

// Verdicts of doctor. The words are a contract.
const (
	doctorOK      = "ok"
	doctorWarn    = "warn" // works, and will not always
	doctorFail    = "fail"
	doctorSkipped = "skipped" // could not be looked at, or is not asked for
)

// doctorCheck is one thing that was looked at. The JSON is a contract.
type doctorCheck struct {
	Name    string `json:"name"`
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
	Mend    string `json:"mend"` // the exact way; "" where nothing is to be mended
}

type doctorResult struct {
	Version int           `json:"version"`
	Checks  []doctorCheck `json:"checks"`
}

// checkup collects checks in order.
type checkup []doctorCheck

func (c *checkup) ok(name, format string, args ...any) {
	*c = append(*c, doctorCheck{name, doctorOK, fmt.Sprintf(format, args...), ""})
}

func (c *checkup) warn(name, detail, mend string) {
	*c = append(*c, doctorCheck{name, doctorWarn, detail, mend})
}

func (c *checkup) fail(name, detail, mend string) {
	*c = append(*c, doctorCheck{name, doctorFail, detail, mend})
}

func (c *checkup) skip(name, why, mend string) {
	*c = append(*c, doctorCheck{name, doctorSkipped, why, mend})
}

// skipRest marks what hangs on a check that failed.
func (c *checkup) skipRest(whose, why string, names ...string) {
	for _, n := range names {
		c.skip(whose+" "+n, why, "")
	}
}

// doctorLimit bounds what is asked of one endpoint, login included, after the
// connection stands; a slow homelab vCenter takes some seconds for a login.
const doctorLimit = 20 * time.Second

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Look at everything that can be wrong, and say how to mend it",
		Long: `Doctor looks, in order, at the config, at each way to vCenter and the hosts
(address, certificate, login, clock, privileges), at what is known of each host
for the day when it does not answer, at the keyboards, and at the files for VCHs.
Each has a verdict: ok, warn, fail or skipped, and what is wrong comes with the
exact way to mend it. It changes nothing, and every look is bounded in time.

The exit code is 1 if something failed.`,
		Example: "  labctl doctor\n  labctl doctor -o json",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := a.doctor(cmd.Context())
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			r := doctorResult{Version: 1, Checks: checks}
			if err := a.result(r, func(p *page) { writeDoctor(p, checks) }); err != nil {
				return err
			}
			a.afterDoctor(checks)
			if slices.ContainsFunc(checks, func(c doctorCheck) bool { return c.Verdict == doctorFail }) {
				return exitWith(exitFailed, nil)
			}
			return nil
		},
	}
}

// afterDoctor leads to the first command that mends something, what failed before
// what only may; else to the host.
func (a *app) afterDoctor(checks []doctorCheck) {
	for _, verdict := range []string{doctorFail, doctorWarn} {
		found := false
		for _, c := range checks {
			if c.Verdict != verdict {
				continue
			}
			found = true
			for line := range strings.Lines(c.Mend) {
				if at := endsInCommand.FindStringIndex(strings.TrimSpace(line)); at != nil {
					a.nextLine = "to begin with " + c.Name + ": " + strings.TrimPrefix(strings.TrimSpace(line)[at[0]:], ": ")
					return
				}
			}
		}
		if found && verdict == doctorFail {
			a.next("when that is mended", "doctor")
			return
		}
	}
	if s, err := a.settings(); err == nil && s.onlyAddress() != nil {
		a.next("to see the switches of the host", "net", "show", s.onlyAddress().Name)
	} else {
		a.next("what is configured", "host", "ls")
	}
}

func writeDoctor(p *page, checks []doctorCheck) {
	width := 0
	for _, c := range checks {
		width = max(width, len([]rune(c.Name)))
	}
	count := map[string]int{}
	for _, c := range checks {
		count[c.Verdict]++
		look := map[string]style{doctorOK: green, doctorWarn: yellow, doctorFail: red}[c.Verdict]
		p.printf("%s  %-*s  %s\n", p.paint(look, fmt.Sprintf("%-7s", c.Verdict)), width, c.Name, c.Detail)
		for line := range strings.Lines(c.Mend) {
			p.printf("%*s  → %s\n", 7+2+width, "", strings.TrimSuffix(line, "\n"))
		}
	}
	p.printf("\n%d ok, %d to look at, %d failed, %d skipped\n", count[doctorOK], count[doctorWarn], count[doctorFail], count[doctorSkipped])
}

// doctor goes from this machine outward, so that the first failure is the one to
// mend first.
func (a *app) doctor(ctx context.Context) []doctorCheck {
	var c checkup
	s, err := a.settings()
	if err != nil {
		c.fail("config", oneLineOf(err), "correct the line; labctl config check shows it with its place")
		c.skip("everything else", "the config says what there is to look at", "")
		return c
	}
	switch {
	case s.file != nil:
		c.ok("config", "%s", s.file.path)
	case s.URL != "" || s.VCenter.URL != "":
		c.ok("config", "none; flags and variables name what there is")
	default:
		path, _, err := configPath(a.flags, a.env)
		if err != nil {
			path = err.Error()
		}
		c.warn("config", "there is none: "+path, "labctl config init\nwithout one: labctl doctor --url https://root@HOST")
	}
	a.checkState(&c)
	targets := a.doctorTargets(s, &c)
	a.checkEndpoints(ctx, s, targets, &c)
	for i := range s.Hosts {
		a.checkFactsOf(&s.Hosts[i], &c)
	}
	a.checkKeyboards(ctx, s, &c)
	a.checkBundle(s, &c)
	return c
}

// oneLineOf is an error on one line of a table.
func oneLineOf(err error) string {
	var file fileErrors
	if errors.As(err, &file) && len(file.all) > 0 {
		f := file.all[0]
		text := fmt.Sprintf("%s:%d:%d: %s", file.path, f.line, f.col, f.msg)
		if n := len(file.all) - 1; n > 0 {
			text += fmt.Sprintf(" (and %d more)", n)
		}
		return text
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// checkState sees that journals, locks and facts have a place that is private.
func (a *app) checkState(c *checkup) {
	const name = "state folder"
	path, err := a.statePath("")
	if err != nil {
		c.fail(name, oneLineOf(err), "set HOME, or XDG_STATE_HOME to an absolute path")
		return
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.ok(name, "%s, made when it is needed", path)
	case err != nil:
		c.fail(name, oneLineOf(err), "labctl keeps its journals there: give this user the right to read it")
	case !info.IsDir():
		c.fail(name, path+" is not a folder", "move that file away")
	case info.Mode().Perm()&0o077 != 0:
		c.warn(name, fmt.Sprintf("others may look into %s (mode %04o)", path, info.Mode().Perm()), "chmod 700 "+path)
	case info.Mode().Perm()&0o700 != 0o700:
		c.fail(name, fmt.Sprintf("%s is closed to its owner (mode %04o)", path, info.Mode().Perm()), "chmod 700 "+path)
	default:
		c.ok(name, "%s", path)
	}
}

// doctorTargets are the hosts to look at: that of --url, else those of the
// config that can be reached through an API.
func (a *app) doctorTargets(s *settings, c *checkup) []*target {
	names := []string{}
	if strings.HasPrefix(s.origins["url"], "flag ") || s.URL != "" && len(s.Hosts) == 0 || s.VCenter.URL != "" && len(s.Hosts) == 0 {
		names = append(names, "")
	} else {
		for _, h := range s.Hosts {
			if h.URL != "" || s.VCenter.URL != "" && !strings.HasPrefix(h.Keyboard, "vm://") {
				names = append(names, h.Name)
			}
		}
	}
	var out []*target
	for _, n := range names {
		t, err := a.target(n)
		if err != nil {
			c.fail(cmp.Or(n, "host"), oneLineOf(err), hintOf(err, "labctl config show --origin tells where each value comes from"))
			continue
		}
		out = append(out, t)
	}
	if len(names) == 0 {
		c.skip("hosts", "no host is configured", "labctl config init")
	}
	return out
}

// checkFactsOf looks at what would be known of a host if it were gone now.
func (a *app) checkFactsOf(h *HostConf, c *checkup) {
	name := h.Name + " facts"
	if h.URL == "" && strings.HasPrefix(h.Keyboard, "vm://") {
		return // there is an API by which its screen is seen
	}
	learn := "labctl host learn " + h.Name
	f, err := a.readLearned(h.Name)
	if err != nil {
		c.fail(name, oneLineOf(err), learn)
		return
	}
	configured := hostFacts(h)
	b := f.believe(a.now())
	for _, n := range []string{"esxi", "vcenter", "lockdown", "management", "layout"} {
		if have, learned := configured[n], b.facts[n]; have != "" && learned != "" && !sameFact(n, have, learned) {
			c.warn(name, fmt.Sprintf("the config says %s=%s, and the host had %s %s ago", n, have, learned, ageWords(b.newest)),
				fmt.Sprintf("correct facts: of host %s in the config: it comes first", h.Name))
			return
		}
	}
	switch {
	case len(f.Facts) == 0 && len(configured) == 0:
		c.warn(name, "nothing is known of its console, should it not answer one day", learn)
	case len(f.Facts) == 0:
		c.ok(name, "from the config alone: %s", factWords(configured))
	case b.oldest > factsOld:
		c.warn(name, fmt.Sprintf("learned %s ago", ageWords(b.oldest)), learn)
	case b.facts["lockdown"] == "strict":
		c.warn(name, "strict lockdown mode: the console lets nobody in, so no recipe can help", "in vCenter: Configure, Security Profile, Lockdown Mode: normal")
	case b.facts["management"] == "" && configured["management"] == "":
		c.warn(name, "where management lives is unknown again: "+strings.Join(b.open, ", "), learn)
	default:
		c.ok(name, "learned %s ago: %s", ageWords(b.oldest), factWords(b.facts))
	}
}

func (a *app) checkBundle(s *settings, c *checkup) {
	const name = "vch bundle"
	if s.VCH.Bundle == "" {
		c.skip(name, "none is configured", "vch: {bundle: DIR} in the config, for labctl vch")
		return
	}
	dir := a.expandHome(s.VCH.Bundle)
	b, err := vch.OpenBundle(dir)
	if err != nil {
		c.fail(name, oneLineOf(err), "the folder takes appliance.iso and bootstrap.iso of one VIC 1.5 release")
		return
	}
	c.ok(name, "%s: both images are %s", dir, b.Version)
}

// loginMend is the way out of a failed login or connection.
func (a *app) loginMend(err error, e *esxi.Endpoint) string {
	var login *esxi.LoginError
	if errors.As(err, &login) {
		return fmt.Sprintf("correct user and password_* of %s; hosts lock an account for a while after a few wrong passwords", e.URL.Host)
	}
	return cmp.Or(a.advice(err), hintOf(err, "labctl doctor -v shows each request"))
}
