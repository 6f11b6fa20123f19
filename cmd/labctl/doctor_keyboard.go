package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/hid/gadget"
)

// checkKeyboards looks at the way by which keys reach each host.
func (a *app) checkKeyboards(ctx context.Context, s *settings, c *checkup) {
	seen := map[string]string{} // URI → host that had it
	for _, h := range s.Hosts {
		name := h.Name + " keyboard"
		if h.Keyboard == "" {
			c.skip(name, "none is configured: when the API is gone, nothing reaches this host", "keyboard: ssh://pi@HOST in its entry of the config; docs/pi.md has the rest")
			continue
		}
		if first := seen[h.Keyboard]; first != "" {
			c.warn(name, fmt.Sprintf("it is that of %s too: a cable goes to one host", first), "correct keyboard: in the config")
			continue
		}
		seen[h.Keyboard] = h.Name
		if h.Layout == "" && h.Facts["layout"] == "" && a.knownLayout(h.Name) == "" {
			mend := "labctl host learn " + h.Name + ", or layout: in the config"
			if h.URL == "" && strings.HasPrefix(h.Keyboard, "vm://") {
				mend = "layout: in its entry of the config" // it has no API to learn from
			}
			c.warn(h.Name+" layout", "the layout of its console is unknown, and passwords depend on it", mend)
		}
		a.checkKeyboard(ctx, name, h.Keyboard, c)
	}
}

// knownLayout is what was learned of a host's keymap.
func (a *app) knownLayout(host string) string {
	f, err := a.readLearned(host)
	if err != nil {
		return ""
	}
	return f.believe(a.now()).facts["layout"]
}

func (a *app) checkKeyboard(ctx context.Context, name, uri string, c *checkup) {
	ctx, cancel := context.WithTimeout(ctx, a.upTo(keyboardLimit))
	defer cancel()
	u, err := url.Parse(uri)
	switch {
	case uri == "sim:":
		c.ok(name, "the simulated console: no key leaves this machine")
	case strings.HasPrefix(uri, "/"):
		a.checkGadget(name, c)
	case err != nil:
		c.fail(name, "it is no URI", "known are ssh://[user@]HOST, vm://HOST/VM, "+keyboardForms)
	case u.Scheme == "ssh":
		a.checkSSH(ctx, name, u, c)
	case u.Scheme == "sim":
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			c.fail(name, oneLineOf(err), "start labsim, and take the config that it writes")
			return
		}
		conn.Close()
		c.ok(name, "labsim answers at %s", u.Host)
	case u.Scheme == "vm":
		a.checkVMKeyboard(ctx, name, u, c)
	default:
		c.fail(name, u.Redacted()+" is of no known kind", "known are ssh://[user@]HOST, vm://HOST/VM, "+keyboardForms)
	}
}

// keyboardLimit bounds the look at one keyboard: an ssh login over a slow
// network, and a program on a Pi Zero.
const keyboardLimit = 15 * time.Second

// checkGadget asks hid doctor, which knows the details.
func (a *app) checkGadget(name string, c *checkup) {
	const mend = "labctl hid doctor shows each step, and how to mend it"
	r, err := a.hidDoctor(machine{sys: gadget.System{}, goos: runtime.GOOS, uid: os.Geteuid(), groups: os.Getgroups})
	if err != nil {
		c.fail(name, oneLineOf(err), mend)
		return
	}
	for _, want := range []string{checkFail, checkWarn} {
		for _, one := range r.Checks {
			switch {
			case one.Verdict != want:
			case want == checkFail:
				c.fail(name, one.Name+": "+one.Found, one.Fix)
				return
			default:
				c.warn(name, one.Name+": "+one.Found, one.Fix)
				return
			}
		}
	}
	c.ok(name, "this machine is a keyboard (%s)", r.Model)
}

// checkVMKeyboard sees that the machine is there. A login that has failed in the
// look at the APIs is not tried again: hosts lock accounts.
func (a *app) checkVMKeyboard(ctx context.Context, name string, u *url.URL, c *checkup) {
	t, err := a.target(u.Host)
	if err != nil {
		c.fail(name, oneLineOf(err), "vm://HOST/VM takes a HOST of the config")
		return
	}
	e, whose := t.ESXi, t.Name
	if e == nil {
		e, whose = t.VCenter, "vcenter"
	}
	if !slices.ContainsFunc(*c, func(l doctorCheck) bool { return l.Name == whose+" "+nameLogin && l.Verdict == doctorOK }) {
		c.skip(name, "it goes through the API of "+whose+", and there was no login", "")
		return
	}
	client, err := esxi.Dial(ctx, e)
	if err != nil {
		c.fail(name, oneLineOf(err), a.loginMend(err, e))
		return
	}
	defer a.logout(ctx, client)
	if _, err := findMachine(ctx, client, t, strings.TrimPrefix(u.Path, "/")); err != nil {
		c.fail(name, oneLineOf(err), cmp.Or(hintOf(err, ""), "keyboard: vm://HOST/VM in the config takes the name of a machine on that host"))
		return
	}
	c.ok(name, "through the API of %s, where the machine runs", whose)
}

// checkSSH asks the other end who it is, by the user's own ssh and without a
// question: whoever rescues a host at night wants none either.
func (a *app) checkSSH(ctx context.Context, name string, u *url.URL, c *checkup) {
	program, err := exec.LookPath("ssh")
	if err != nil {
		c.fail(name, "there is no program ssh on this machine", "install OpenSSH's client, as in: apt install openssh-client")
		return
	}
	where := u.Hostname()
	if user := u.User.Username(); user != "" {
		where = user + "@" + where
	}
	if u.Hostname() == "" || strings.HasPrefix(where, "-") {
		c.fail(name, "it names no host", "keyboard: ssh://[user@]HOST[:PORT] in the config")
		return
	}
	args := []string{"-o", "BatchMode=yes", "-o", "ConnectTimeout=8"}
	shown := "ssh "
	if u.Port() != "" {
		args = append(args, "-p", u.Port())
		shown += "-p " + u.Port() + " "
	}
	shown += where
	args = append(args, "--", where, "labctl version -o json")
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err != nil && ctx.Err() != nil:
		c.fail(name, where+" did not answer in time", shown+" shows what it waits for")
		return
	case errors.As(err, &exit) && exit.ExitCode() == 127:
		c.fail(name, "there is no labctl in the PATH of "+where, "install labctl there, for a login without a terminal; then: "+shown+" labctl version")
		return
	case err != nil:
		c.fail(name, "ssh to "+where+": "+lastLine(said.String(), err), shown+" must log in without a question: the machine is on, its sshd runs, and it knows a key of yours, as you know its own")
		return
	}
	var there versionResult
	if err := json.Unmarshal(out, &there); err != nil || there.Version != 1 {
		c.fail(name, where+" answers labctl version with something else", "look at: "+shown+" labctl version -o json; what its shell prints at login does not belong there")
		return
	}
	here := buildVersion()
	if there.Release != here.Release || there.Commit != here.Commit {
		c.fail(name, fmt.Sprintf("%s has labctl %s, and this is %s", where, named(there), named(here)), "install the same labctl on both")
		return
	}
	c.ok(name, "%s has the same labctl; labctl hid doctor there looks at its USB port", where)
}

func named(v versionResult) string {
	if v.Commit == "" {
		return v.Release
	}
	return v.Release + " of commit " + v.Commit[:min(12, len(v.Commit))]
}

// lastLine is the last thing that a program said, which is what went wrong.
func lastLine(said string, err error) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	if l := strings.TrimSpace(lines[len(lines)-1]); l != "" {
		r := []rune(l)
		return string(r[:min(len(r), 200)])
	}
	return err.Error()
}
