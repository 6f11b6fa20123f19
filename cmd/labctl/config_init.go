package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/configs"
	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/esxi/network"
	"github.com/labctl/labctl/hid"
)

type configInitResult struct {
	Version int    `json:"version"`
	File    string `json:"file"` // that was written
}

// initFlags are what config init takes instead of asking.
type initFlags struct {
	host        HostConf
	vcenterUser string
	force       bool
}

func (a *app) configInitCommand() *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use: "init", Short: "Write a first config file",
		Long: `Init writes a commented config file for one host. On a terminal it is a short
conversation: it asks for the host, shows its certificate, tries the login, and
finds vmk0, the uplink and the switches, and the vCenter that manages the host.
Passwords are used for that alone and stored nowhere. Nothing is written before
the last question, and an existing file is replaced only when you say so.

With --url, and where there is no terminal, it takes everything from flags, asks
nothing and no host; an existing file then stays as it is unless --force (or
--yes) is given.`,
		Example: "  labctl config init\n  labctl config init --host nuc01 --url https://root@nuc01.lab.local \\\n    --vcenter https://vcsa.lab.local --password-command pass,show,nuc01",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.configInit(cmd.Context(), &f)
		},
	}
	h, fl := &f.host, c.Flags()
	fl.StringVar(&h.Name, "host", "", "`NAME` of the host (default: from --url)")
	fl.StringVar(&h.User, "user", "", "`USER` that logs in to the host (default: from --url, else root)")
	fl.StringVar(&f.vcenterUser, "vcenter-user", "", "`USER` that logs in to vCenter (default: from --vcenter, else administrator@vsphere.local)")
	fl.StringSliceVar(&h.PasswordCommand, "password-command", nil, "program and arguments, by commas, that print the host's password (`WORDS`)")
	fl.StringVar(&h.PasswordEnv, "password-env", "", "`VARIABLE` that holds the host's password")
	fl.StringVar(&h.PasswordFile, "password-file", "", "`FILE` that holds the host's password")
	fl.StringVar(&h.Keyboard, "keyboard", "", "how keys reach the host: `URI`, as in ssh://root@pi-nuc01")
	fl.StringVar(&h.Layout, "layout", "", "keyboard layout of the host's console, by `NAME`: us, de, ch-fr")
	fl.BoolVar(&f.force, "force", false, "replace a file that is there")
	c.RegisterFlagCompletionFunc("layout", completeLayouts)
	c.MarkFlagsMutuallyExclusive("password-command", "password-env", "password-file")
	return c
}

func (a *app) configInit(ctx context.Context, f *initFlags) error {
	path, _, err := configPath(a.flags, a.env)
	if err != nil {
		return err
	}
	c := &Config{Version: 1, Hosts: []HostConf{f.host}}
	host := &c.Hosts[0]
	flag := func(name string) string {
		if f := a.flags.Lookup(name); f.Changed {
			return f.Value.String()
		}
		return ""
	}
	host.URL, host.Thumbprint, c.VCenter.URL, c.VCenter.User = flag("url"), flag("thumbprint"), flag("vcenter"), f.vcenterUser
	asks := host.URL == ""
	if asks && !a.interactive() {
		a.nextLine = "without a terminal everything comes from flags, as in: labctl config init --url https://root@nuc01.lab.local --host nuc01 --password-env ESXI_PASSWORD"
		return usagef("no terminal to ask on (address of the host): give --url https://root@HOST")
	}
	replace := f.force || a.yes
	if _, err := os.Stat(path); err == nil && !replace {
		if !asks {
			return hintf(usagef("%s is there already", path), "--config FILE writes another; to replace it: %s", a.again("--force"))
		}
		a.say("%s is there already", path)
		if replace, err = a.confirm(ctx, "ask for everything anew, and replace it in the end?"); err != nil || !replace {
			return cmp.Or(err, hintf(exitWith(exitUsage, errors.New("nothing was changed")), "what it holds: %s", a.line("config", "show")))
		}
	}
	talk := &initTalk{a: a, c: c, host: host}
	if asks {
		if err := talk.run(ctx, path); err != nil {
			return err
		}
	} else {
		if err := splitURL(&host.Access, "root"); err != nil {
			return usagef("the host's address: %w", err)
		}
		if c.VCenter.URL != "" {
			if err := splitURL(&c.VCenter, "administrator@vsphere.local"); err != nil {
				return usagef("vCenter's address: %w", err)
			}
		}
		host.Name = firstOf(host.Name, hostNameOf(host.URL))
	}
	text, err := renderConfig(*c)
	if err != nil {
		return err
	}
	// Reading it back judges the values by the same rules as any other file.
	if _, err := parseConfig(path, text); err != nil {
		return hintf(fmt.Errorf("nothing was written: %w", err), "the lines are those of the file that would have been written; to begin again: %s", a.again())
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the config's folder: %w", err)
	}
	if err := writeFile(path, text, replace); err != nil {
		return fmt.Errorf("write the config: %w", err)
	}
	a.say("wrote %s", path)
	// The file holds now what these flags said.
	where := whereFlags(a.flags, []string{"--url", "--vcenter", "--thumbprint", "--insecure"})
	switch {
	case talk.loggedIn:
		a.nextLine = "to keep what its console depends on, for the night when it does not answer: " + bareLine("host", "learn", host.Name) + where
	case host.Thumbprint == "":
		a.nextLine = "to look at its certificate: " + bareLine("host", "trust", host.Name) + where
	default:
		a.nextLine = "to log in: " + bareLine("host", "show", host.Name) + where
	}
	return a.result(configInitResult{1, path}, func(*page) {})
}

// initTalk is the conversation of config init.
type initTalk struct {
	a        *app
	c        *Config
	host     *HostConf
	loggedIn bool
	managed  string // address of its vCenter, as the host knows it
}

// mostTries is how often a question is put again. ESXi locks an account for a
// while after five wrong passwords, so three leave two for a person.
const mostTries = 3

func (t *initTalk) run(ctx context.Context, path string) error {
	a := t.a
	a.say("a few questions, then %s is written; ctrl-c ends it with nothing changed", path)
	if err := t.findHost(ctx); err != nil {
		return err
	}
	if err := t.nameIt(ctx); err != nil {
		return err
	}
	if err := t.findVCenter(ctx); err != nil {
		return err
	}
	var err error
	for t.host.Keyboard == "" {
		if t.host.Keyboard, err = a.ask(ctx, "how keys reach its console, as in ssh://root@pi-nuc01 or /dev/hidg0, empty for not yet:", "--keyboard"); err != nil {
			return err
		}
		if t.host.Keyboard == "" {
			break
		}
		if !keyboardURI(t.host.Keyboard) {
			a.say("%s is no keyboard: /dev/hidg0, ssh://[user@]pi, vm://HOST/VM, or sim:", maskURL(t.host.Keyboard))
			t.host.Keyboard = ""
		}
	}
	if len(t.host.PasswordCommand) == 0 && t.host.PasswordEnv == "" && t.host.PasswordFile == "" {
		words, err := a.ask(ctx, "command that prints the host's password, as in pass show nuc01, empty to be asked each time:", "--password-command")
		if err != nil {
			return err
		}
		t.host.PasswordCommand = strings.Fields(words)
	}
	return nil
}

// nameIt asks what commands are to call the host.
func (t *initTalk) nameIt(ctx context.Context) error {
	if t.host.Name != "" {
		return nil
	}
	t.host.Name = hostNameOf(t.host.URL)
	for {
		name, err := t.a.ask(ctx, "what to call the host ["+t.host.Name+"]:", "--host")
		if err != nil || name == "" {
			return err
		}
		if goodHostName(name) && name != "vcenter" {
			t.host.Name = name
			return nil
		}
		t.a.say("a name is made of letters, digits, dots and dashes, does not end in .json, and is not vcenter")
	}
}

// findHost asks for the host until there is one, and looks into it.
func (t *initTalk) findHost(ctx context.Context) error {
	a := t.a
	for try := 1; ; try++ {
		text, err := a.ask(ctx, "address of the host, as in nuc01.lab.local or root@192.168.1.5:", "--url https://root@HOST")
		if err != nil {
			return err
		}
		access := t.host.Access
		access.URL = text
		if err := splitURL(&access, "root"); err != nil || text == "" {
			if try >= mostTries {
				return usagef("the host's address: %w", cmp.Or(err, errors.New("none was given")))
			}
			a.say("%v: an address is a name or a number, with a user before an @ and a port behind a colon where they differ", cmp.Or(err, errors.New("none was given")))
			continue
		}
		look, err := t.look(ctx, "the host", &access)
		if err != nil {
			return err
		}
		if look == wrongPlace && try < mostTries {
			continue
		}
		before := t.host.Access
		t.host.Access = access
		if look != lookedAt {
			return nil
		}
		failed, err := t.logIn(ctx, firstOf(t.host.Name, hostNameOf(access.URL)), &t.host.Access, t.readHost)
		if failed == nil || err != nil || try >= mostTries {
			return err
		}
		if errors.Is(failed, errVCenter) {
			a.say("%v: it is kept as that; now the host itself", failed)
			t.c.VCenter, t.host.Access = t.host.Access, before
			continue
		}
		if ok, err := a.confirm(ctx, "take this address all the same?"); err != nil || ok {
			return err
		}
		t.host.Access = before
	}
}

// What came of looking at an address.
type lookOutcome int

const (
	lookedAt   lookOutcome = iota // its certificate is known: a password may be sent
	leftAlone                     // nobody answered, or the certificate was not trusted
	wrongPlace                    // another address is to be given
)

// look shows the certificate at an address and pins it when the user says so.
func (t *initTalk) look(ctx context.Context, whose string, access *Access) (lookOutcome, error) {
	a := t.a
	u, _, err := esxi.ParseURL(access.URL)
	if err != nil {
		return wrongPlace, err
	}
	a.progress("looking at %s", endpointKey(u))
	cert, err := esxi.FetchCertificate(ctx, &esxi.Endpoint{URL: u})
	if ctx.Err() != nil {
		return wrongPlace, ctx.Err()
	}
	if err != nil {
		a.say("%s", err)
		ok, err := a.confirm(ctx, "take this address all the same, and look at its certificate later?")
		if err != nil || ok {
			return leftAlone, err
		}
		return wrongPlace, nil
	}
	if access.Thumbprint != "" {
		return lookedAt, nil
	}
	r := newTrustResult(whose, endpointKey(u), cert)
	p := a.page(a.stderr)
	writeCertificate(p, r)
	a.stderrLines("", p.text())
	if a.now().After(cert.NotAfter) {
		a.warn("it ran out on %s", r.NotAfter)
	}
	question := "is this the right certificate?"
	if whose != "vcenter" {
		question += " The console shows it under View Support Information."
	}
	ok, err := a.confirm(ctx, question)
	if err != nil {
		return leftAlone, err
	}
	if !ok {
		a.say("it is not pinned, and no password is sent there")
		return leftAlone, nil
	}
	access.Thumbprint = r.SHA256
	return lookedAt, nil
}

// errVCenter says that an address is not what was asked for.
var errVCenter = errors.New("that is a vCenter")

// logIn tries a login and lets read look around. It is not needed for the file:
// what failed is said, and returned apart from what ends the conversation.
func (t *initTalk) logIn(ctx context.Context, whose string, access *Access, read func(context.Context, *esxi.Client) error) (failed, err error) {
	a := t.a
	own := len(access.PasswordCommand) > 0 || access.PasswordEnv != "" || access.PasswordFile != ""
	given := false // the user, by the first try
	for try := 1; try <= mostTries; try++ {
		e, err := a.endpoint(&settings{}, access, whose, "", "LABCTL_PASSWORD")
		if err != nil {
			return nil, err
		}
		if !own {
			if !given {
				user, err := a.ask(ctx, "user that logs in ["+access.User+"]:", "--user")
				if err != nil {
					return nil, err
				}
				access.User = firstOf(user, access.User)
				if e, err = a.endpoint(&settings{}, access, whose, "", "LABCTL_PASSWORD"); err != nil {
					return nil, err
				}
			}
			secret, err := a.askSecret(ctx, fmt.Sprintf("password of %s on %s, to try it (not stored, empty for later):", access.User, e.URL.Host), "--url")
			if err != nil || secret.IsZero() {
				return nil, err
			}
			given = true
			e.Password = func(context.Context) (esxi.Secret, error) { return secret, nil }
		}
		client, err := esxi.Dial(ctx, e)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var login *esxi.LoginError
		if errors.As(err, &login) && !own {
			a.say("%s", err)
			if try < mostTries {
				continue
			}
			a.say("a host locks an account for a while after five wrong passwords: that is enough for now")
			return nil, nil
		}
		if err == nil {
			defer a.logout(ctx, client)
			err = read(ctx, client)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil && !errors.Is(err, errVCenter) {
			a.warn("%s: %s", whose, err)
		}
		return err, nil
	}
	return nil, nil
}

// readHost finds the adapter, the uplink and the switches.
func (t *initTalk) readHost(ctx context.Context, c *esxi.Client) error {
	a := t.a
	about := c.Vim.ServiceContent.About
	if c.Vim.IsVC() {
		return fmt.Errorf("%w (%s)", errVCenter, about.FullName)
	}
	h, err := c.FindHost(ctx, esxi.Wanted{})
	if err != nil {
		return err
	}
	s, err := network.Read(ctx, h)
	if err != nil {
		return err
	}
	t.loggedIn, t.managed = true, s.ManagedBy
	p := a.page(a.stderr)
	table := table{}
	table.row(bold, "found", about.FullName)
	n := &t.host.Network
	for _, v := range s.Vmkernels {
		if v.Device != "vmk0" {
			continue
		}
		n.VMK = v.Device
		side := &n.Standard
		if v.Kind == network.Distributed {
			side = &n.Distributed
		}
		side.Switch, side.PortGroup = v.Switch, v.Group
		table.row(plain, v.Device, fmt.Sprintf("%s on %s, a %s switch, port group %s", v.IP, dash(v.Switch), v.Kind, dash(v.Group)))
		for _, u := range s.Uplinks {
			if u.Switch != v.Switch || u.Kind != v.Kind {
				continue
			}
			n.Uplink = firstOf(n.Uplink, u.Device)
			link := "no link"
			if u.Link > 0 {
				link = fmt.Sprintf("%d Mb/s", u.Link)
			}
			table.row(plain, "uplink", u.Device+", "+link)
		}
	}
	if n.VMK == "" {
		a.warn("it has no vmk0: say in the file which adapter is management's")
	}
	if facts, _, err := c.ReadFacts(ctx, h); err == nil {
		if l, err := hid.FindLayout(facts.Layout); err == nil {
			t.host.Layout = firstOf(t.host.Layout, l.Short())
			table.row(plain, "keyboard layout", facts.Layout)
		}
	}
	table.row(plain, "managed by", dash(t.managed))
	table.write(p)
	a.stderrLines("", p.text())
	return nil
}

// findVCenter asks for the vCenter, with the one that the host names as answer.
func (t *initTalk) findVCenter(ctx context.Context) error {
	a, v := t.a, &t.c.VCenter
	for try := 1; ; try++ {
		if v.URL == "" {
			question := "address of the vCenter that manages it, empty for none:"
			if t.managed != "" {
				question = fmt.Sprintf("address of the vCenter that manages it, - for none [%s]:", t.managed)
			}
			text, err := a.ask(ctx, question, "--vcenter")
			if err != nil {
				return err
			}
			if text == "" {
				text = t.managed
			}
			if text == "" || text == "-" {
				*v = Access{}
				return nil
			}
			v.URL = text
		}
		err := splitURL(v, "administrator@vsphere.local")
		if err == nil {
			var look lookOutcome
			if look, err = t.look(ctx, "vcenter", v); err != nil {
				return err
			}
			if look == lookedAt {
				_, err := t.logIn(ctx, "vcenter", v, t.readVCenter)
				return err
			}
			if look == leftAlone || try >= mostTries {
				return nil
			}
		} else if try >= mostTries {
			return usagef("vCenter's address: %w", err)
		} else {
			a.say("%v", err)
		}
		*v = Access{}
	}
}

// readVCenter finds the host there, and the distributed switch that it is on or
// could be moved to.
func (t *initTalk) readVCenter(ctx context.Context, c *esxi.Client) error {
	a := t.a
	if !c.Vim.IsVC() {
		a.warn("that is no vCenter: %s", c.Vim.ServiceContent.About.FullName)
		return nil
	}
	u, _, err := esxi.ParseURL(t.host.URL)
	if err != nil {
		return err
	}
	h, err := c.FindHost(ctx, esxi.Wanted{Name: t.host.Name, URLHost: u.Hostname()})
	if err != nil {
		return err
	}
	s, err := network.Read(ctx, h)
	if err != nil {
		return err
	}
	n := &t.host.Network
	for _, v := range s.Vmkernels {
		if v.Device == n.VMK && v.Kind == network.Distributed {
			n.Distributed = SwitchConf{v.Switch, v.Group}
		}
	}
	if n.Distributed.Switch == "" && len(s.Distributed) == 1 {
		n.Distributed.Switch = s.Distributed[0].Name
	}
	a.progress("%s has the host as %s", c.Vim.ServiceContent.About.FullName, s.Host)
	return nil
}

// splitURL moves the user out of the URL and completes what is missing.
func splitURL(a *Access, user string) error {
	u, inURL, err := esxi.ParseURL(a.URL)
	if err != nil {
		return err
	}
	if a.User == "" {
		a.User = inURL
	}
	if a.User == "" {
		a.User = user
	}
	u.Path = strings.TrimSuffix(u.Path, "/sdk")
	a.URL = u.String()
	return nil
}

// hostNameOf suggests a name: the first label, or the address where it is one.
func hostNameOf(address string) string {
	u, _, err := esxi.ParseURL(address)
	if err != nil {
		return ""
	}
	if net.ParseIP(u.Hostname()) != nil {
		return u.Hostname()
	}
	name, _, _ := strings.Cut(u.Hostname(), ".")
	return name
}

// renderConfig writes the commented file. Values are quoted as JSON, which
// YAML reads too.
func renderConfig(c Config) ([]byte, error) {
	quote := func(s string) (string, error) {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		err := enc.Encode(s)
		return strings.TrimSpace(b.String()), err
	}
	t, err := template.New("config").Funcs(template.FuncMap{"quote": quote}).Parse(configs.Init)
	if err != nil {
		return nil, fmt.Errorf("read the config's template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, c); err != nil {
		return nil, fmt.Errorf("write the config: %w", err)
	}
	return out.Bytes(), nil
}
