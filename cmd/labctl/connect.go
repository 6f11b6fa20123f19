package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/labctl/labctl/esxi"
)

// target is the host that a command is about, and the two ways to its API.
type target struct {
	Name    string
	Host    *HostConf      // never nil; only Name and Access.URL are set without a config
	ESXi    *esxi.Endpoint // the host's own API; nil where no address is known
	VCenter *esxi.Endpoint // the vCenter that manages it; nil where none is known
}

// wanted is what esxi.FindHost looks for.
func (t *target) wanted() esxi.Wanted {
	w := esxi.Wanted{Name: t.Name}
	if t.ESXi != nil {
		w.URLHost = t.ESXi.URL.Hostname()
	}
	return w
}

// way is how a host was named.
type way int

const (
	byConfig  way = iota // an entry of the config
	byURL                // --url or a variable
	byVCenter            // a name, or nothing, in a vCenter's inventory
)

// choose decides which host is called name. Without a name it is the one that
// --url or LABCTL_URL gives, else the only one of the config, else the one of
// GOVC_URL: that variable is usually there for another tool. A host that only
// has a keyboard, as one in a virtual machine, is never meant without its name.
func (s *settings) choose(name string) (*HostConf, way, error) {
	origin := s.origins["url"]
	explicit := strings.HasPrefix(origin, "flag ")
	i := slices.IndexFunc(s.Hosts, func(h HostConf) bool { return strings.EqualFold(h.Name, name) })
	switch {
	case name != "" && i >= 0 && explicit:
		return nil, 0, usagef("%s is in the config and --url names a host too: give one of them", name)
	case name != "" && i >= 0:
		return &s.Hosts[i], byConfig, nil
	case s.URL != "" && (explicit || name == "" && origin == "env LABCTL_URL" || len(s.Hosts) == 0):
		return &HostConf{Name: name, Access: Access{URL: s.URL}}, byURL, nil
	case name == "" && len(s.Hosts) == 1:
		return &s.Hosts[0], byConfig, nil
	case name == "" && s.onlyAddress() != nil:
		return s.onlyAddress(), byConfig, nil
	case s.VCenter.URL != "" && (len(s.Hosts) == 0 || name != "" && s.fromOutside("vcenter.url")):
		return &HostConf{Name: name}, byVCenter, nil
	case len(s.Hosts) == 0:
		return nil, 0, hintf(usagef("no host is configured"), "without a config a host is named by --url https://user@host; to write one: %s", "labctl config init"+s.where)
	}
	names := make([]string, len(s.Hosts))
	for i, h := range s.Hosts {
		names[i] = h.Name
	}
	if name == "" {
		return nil, 0, hintf(usagef("the config holds several hosts, name one: %s", strings.Join(names, ", ")), "to list them: %s", "labctl host ls"+s.where)
	}
	err := usagef("no host is called %s: the config holds %s", name, strings.Join(names, ", "))
	if near := nearest(name, names); near != "" {
		return nil, 0, hintf(hintf(err, "to list them: %s", "labctl host ls"+s.where), "did you mean %s?", near)
	}
	return nil, 0, hintf(err, "to list them: %s", "labctl host ls"+s.where)
}

// onlyAddress returns the only host of the config that has an address, nil where
// none or several have one.
func (s *settings) onlyAddress() *HostConf {
	var found *HostConf
	for i := range s.Hosts {
		if s.Hosts[i].URL == "" {
			if !strings.HasPrefix(s.Hosts[i].Keyboard, "vm://") {
				return nil // vCenter may know it
			}
			continue
		}
		if found != nil {
			return nil
		}
		found = &s.Hosts[i]
	}
	return found
}

// fromOutside reports that a value comes from a flag or a variable.
func (s *settings) fromOutside(name string) bool {
	return strings.HasPrefix(s.origins[name], "flag ") || strings.HasPrefix(s.origins[name], "env ")
}

// target returns the host called name, see choose, with both ways to it.
func (a *app) target(name string) (*target, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	h, by, err := s.choose(name)
	if err != nil {
		return nil, err
	}
	t := &target{Name: h.Name, Host: h}
	switch {
	case by == byURL:
		whose := strings.TrimPrefix(strings.TrimPrefix(s.origins["url"], "flag "), "env ")
		variables := []string{"LABCTL_PASSWORD", "GOVC_PASSWORD"}
		if whose == "GOVC_URL" {
			h.User = a.get("GOVC_USERNAME")
		}
		t.ESXi, err = a.endpoint(s, &h.Access, whose, s.Thumbprint, variables...)
		if err == nil && h.Name == "" {
			t.Name = t.ESXi.URL.Hostname()
			h.Name = t.Name
		}
	case by == byConfig && h.URL != "":
		t.ESXi, err = a.endpoint(s, &h.Access, "host "+h.Name, s.Thumbprint, "LABCTL_PASSWORD")
	}
	if err != nil {
		return nil, err
	}
	// The vCenter of the config need not manage a host that --url names.
	if s.VCenter.URL != "" && (by != byURL || s.fromOutside("vcenter.url")) {
		pin := ""
		if t.ESXi == nil { // else --thumbprint is the host's
			pin = s.Thumbprint
		}
		if t.VCenter, err = a.endpoint(s, &s.VCenter, "vcenter", pin, "LABCTL_VCENTER_PASSWORD"); err != nil {
			return nil, err
		}
	}
	if t.ESXi == nil && t.VCenter == nil {
		return nil, usagef("host %s has no url in the config, and there is no vCenter", h.Name)
	}
	return t, nil
}

// endpoint turns one access block into what esxi.Dial takes. Who proves the
// certificate: the pin given for this run, else the config's, else the one that
// host trust stored, else this machine's authorities. variables are where the
// password is looked for when the block names no source.
func (a *app) endpoint(s *settings, access *Access, whose, pin string, variables ...string) (*esxi.Endpoint, error) {
	u, user, err := esxi.ParseURL(access.URL)
	if err != nil {
		return nil, hintf(usagef("%s: %w", whose, err), "give https://user@host; the password comes from %s or is asked for", variables[0])
	}
	if access.User != "" {
		user = access.User
	}
	if user == "" {
		return nil, usagef("%s: no user: put it into the URL (https://user@%s) or the config", whose, u.Host)
	}
	if pin == "" {
		pin = access.Thumbprint
	}
	e := &esxi.Endpoint{URL: u, User: user, Insecure: s.Insecure, On: a.trace}
	switch {
	case pin != "" && s.Insecure:
		return nil, hintf(usagef("%s has a thumbprint in the config: --insecure would ignore it", whose), "leave --insecure out, or correct the thumbprint")
	case pin != "":
		if e.Thumbprint, err = esxi.ParseThumbprint(pin); err != nil {
			return nil, usagef("%s: %w", whose, err)
		}
	case s.Insecure:
		a.insecureWarning.Do(func() { a.warn("certificates are not checked (--insecure): whoever answers gets the password") })
	default:
		if e.Thumbprint, err = a.knownCertificate(endpointKey(u)); err != nil {
			return nil, err
		}
	}
	if s.Timeout > 0 {
		e.DialTimeout, e.CallTimeout = min(s.Timeout, maxDial), s.Timeout
	}
	e.Password = a.passwords.source(a, access, whose, fmt.Sprintf("password of %s on %s:", user, u.Host), variables)
	return e, nil
}

// maxDial caps what a generous --timeout allows for TCP and TLS: the wait is
// for answers, and an absent host is tried again instead.
const maxDial = 30 * time.Second

// endpointKey is host:port, what certificates are known by.
func endpointKey(u *url.URL) string {
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return u.Host
}

// sameEndpoint reports whether two addresses as users write them lead to the
// same host and port.
func sameEndpoint(a, b string) bool {
	ua, _, errA := esxi.ParseURL(a)
	ub, _, errB := esxi.ParseURL(b)
	return errA == nil && errB == nil && strings.EqualFold(endpointKey(ua), endpointKey(ub))
}

// trace is the -v line of one API request. A call holds no arguments, so none
// can leak.
func (a *app) trace(c esxi.Call) {
	if c.Err != nil {
		a.log.Warn(c.Method, "host", c.Host, "took", c.Took.Round(time.Microsecond), "err", c.Err)
		return
	}
	a.log.Debug(c.Method, "host", c.Host, "took", c.Took.Round(time.Microsecond))
}

// logout ends a session at the end of a command, also an interrupted one. That
// it may fail is nobody's problem: sessions end by themselves.
func (a *app) logout(ctx context.Context, c *esxi.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := c.Logout(ctx); err != nil {
		a.log.Debug("logout failed", "err", err)
	}
}

// passwords holds each password for the length of one command, so that two
// connections ask once.
type passwords struct {
	mu    sync.Mutex
	known map[string]esxi.Secret
}

func (p *passwords) source(a *app, access *Access, whose, question string, variables []string) func(context.Context) (esxi.Secret, error) {
	return func(ctx context.Context) (esxi.Secret, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		key := whose + "\n" + question
		if s, ok := p.known[key]; ok {
			return s, nil
		}
		s, err := a.password(ctx, access, whose, question, variables)
		if err != nil {
			return esxi.Secret{}, &passwordError{err}
		}
		if p.known == nil {
			p.known = map[string]esxi.Secret{}
		}
		p.known[key] = s
		return s, nil
	}
}

// passwordError says that a password could not be had.
type passwordError struct{ err error }

func (e *passwordError) Error() string { return e.err.Error() }
func (e *passwordError) Unwrap() error { return e.err }

// password asks the block's own source, else the variables, else the user. An
// empty password is none: it would only count as a failed login.
func (a *app) password(ctx context.Context, access *Access, whose, question string, variables []string) (esxi.Secret, error) {
	var text, from string
	var err error
	switch {
	case len(access.PasswordCommand) > 0:
		from = "password_command"
		text, err = a.commandOutput(ctx, access.PasswordCommand)
	case access.PasswordEnv != "":
		from = "variable " + access.PasswordEnv
		text = a.get(access.PasswordEnv)
	case access.PasswordFile != "":
		from = "password_file"
		text, err = a.secretFile(access.PasswordFile)
	default:
		for _, name := range variables {
			if v := a.get(name); v != "" {
				return esxi.NewSecret(v), nil
			}
		}
		s, err := a.askSecret(ctx, question, variables[0]+" or a password_* line in the config")
		if err == nil && s.IsZero() {
			err = usagef("%s: an empty password is not sent", whose)
		}
		return s, err
	}
	if ctx.Err() != nil {
		return esxi.Secret{}, ctx.Err()
	}
	if err != nil {
		return esxi.Secret{}, usagef("%s: %w", whose, err)
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	switch {
	case text == "":
		return esxi.Secret{}, usagef("%s: %s gives no password: it is empty or not set", whose, from)
	case strings.ContainsAny(text, "\r\n"):
		return esxi.Secret{}, usagef("%s: %s gives more than one line: a password is one", whose, from)
	}
	return esxi.NewSecret(text), nil
}

// commandLimit bounds a password_command: long enough for a person to touch a
// key or to unlock a store.
const commandLimit = 90 * time.Second

// commandOutput runs a password_command. Neither its arguments nor what it
// says on stderr are repeated anywhere: both can hold what they should not.
func (a *app) commandOutput(ctx context.Context, argv []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.expandHome(argv[0]), argv[1:]...)
	cmd.WaitDelay = time.Second // a child of the program may keep the pipe open
	out, err := cmd.Output()
	program := filepath.Base(argv[0])
	var exit *exec.ExitError
	switch {
	case err == nil:
		return string(out), nil
	case ctx.Err() == context.DeadlineExceeded:
		return "", fmt.Errorf("password_command %s did not end within %v", program, commandLimit)
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.As(err, &exit):
		return "", hintf(fmt.Errorf("password_command %s failed: %v", program, exit.ProcessState), "run it by hand to see what it says")
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("password_command: there is no program %s", program)
	}
	return "", fmt.Errorf("password_command %s: %w", program, err)
}

func (a *app) secretFile(path string) (string, error) {
	path = a.expandHome(path)
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		a.warn("others may read %s (mode %04o): chmod 600 keeps it to you", path, mode)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	return string(b), nil
}

func (a *app) expandHome(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(a.get("HOME"), rest)
	}
	return path
}
