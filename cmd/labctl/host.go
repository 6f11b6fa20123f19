package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

func (a *app) hostCommand() *cobra.Command {
	return a.noun("host", "The configured hosts: list, look, learn, trust",
		"Host lists the hosts of the config, shows one, learns what its console depends\non, and stores the certificate that a host or the vCenter is known by.",
		"  labctl host trust nuc01\n  labctl host learn nuc01", a.hostLsCommand(), a.hostShowCommand(), a.hostLearnCommand(), a.hostTrustCommand())
}

type hostLsResult struct {
	Version int          `json:"version"`
	VCenter *hostLsItem  `json:"vcenter"`
	Hosts   []hostLsItem `json:"hosts"`
}

type hostLsItem struct {
	Name        string   `json:"name"`
	URL         string   `json:"url"`
	User        string   `json:"user"`
	Paths       []string `json:"paths,omitempty"` // ways to its API: vcenter, esxi
	Keyboard    string   `json:"keyboard,omitempty"`
	Certificate string   `json:"certificate"` // pinned, trusted or unknown
}

func (a *app) hostLsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the hosts of the config",
		Long:    "Ls lists the hosts of the config, how each is reached, and whether its\ncertificate is pinned in the config, trusted by host trust, or unknown. It asks\nno host.",
		Example: "  labctl host ls -o json",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.settings()
			if err != nil {
				return err
			}
			known, err := a.knownCertificates()
			if err != nil {
				return err
			}
			item := func(name string, access Access) hostLsItem {
				i := hostLsItem{Name: name, URL: access.URL, User: access.User, Certificate: "unknown"}
				u, user, err := esxi.ParseURL(access.URL)
				if err != nil || access.URL == "" {
					i.Certificate = ""
					return i
				}
				if user != "" {
					i.User = user
				}
				if access.Thumbprint != "" {
					i.Certificate = "pinned"
				} else if known[strings.ToLower(endpointKey(u))] != "" {
					i.Certificate = "trusted"
				}
				return i
			}
			r := hostLsResult{Version: 1, Hosts: []hostLsItem{}}
			if s.VCenter.URL != "" {
				v := item("vcenter", s.VCenter)
				r.VCenter = &v
			}
			for _, h := range s.Hosts {
				i := item(h.Name, h.Access)
				i.Keyboard = h.Keyboard
				if r.VCenter != nil {
					i.Paths = append(i.Paths, "vcenter")
				}
				if h.URL != "" {
					i.Paths = append(i.Paths, "esxi")
				}
				r.Hosts = append(r.Hosts, i)
			}
			if len(r.Hosts) == 0 {
				a.say("no host is configured")
				a.next("to write a config", "config", "init")
			}
			a.afterHostLs(&r)
			return a.result(r, func(p *page) {
				if len(r.Hosts) == 0 && r.VCenter == nil {
					return
				}
				t := table{header: []string{"NAME", "URL", "USER", "PATHS", "KEYBOARD", "CERTIFICATE"}}
				for _, h := range r.Hosts {
					t.row(plain, h.Name, dash(h.URL), dash(h.User), dash(strings.Join(h.Paths, "+")), dash(h.Keyboard), dash(h.Certificate))
				}
				if v := r.VCenter; v != nil {
					t.row(plain, v.Name, v.URL, dash(v.User), "-", "-", v.Certificate)
				}
				t.write(p)
			})
		},
	}
}

// afterHostLs leads from what is configured to what is known.
func (a *app) afterHostLs(r *hostLsResult) {
	for _, h := range r.Hosts {
		switch {
		case h.Certificate == "unknown":
			a.next("to look at its certificate", "host", "trust", h.Name)
			return
		case len(h.Paths) > 0 && len(a.learned(h.Name).Facts) == 0 && !strings.HasPrefix(h.Keyboard, "vm://"):
			a.next("to keep what its console depends on", "host", "learn", h.Name)
			return
		}
	}
	if len(r.Hosts) > 0 {
		a.next("to see its switches", "net", "show", r.Hosts[0].Name)
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type hostShowResult struct {
	Version     int          `json:"version"`
	Host        string       `json:"host"`
	Via         string       `json:"via"`  // vcenter or esxi
	Name        string       `json:"name"` // what the inventory calls it
	Product     string       `json:"product"`
	Release     string       `json:"release"`
	Build       string       `json:"build"`
	Vendor      string       `json:"vendor"`
	Model       string       `json:"model"`
	State       string       `json:"state"` // connected, disconnected, notResponding
	Maintenance bool         `json:"maintenance"`
	ManagedBy   string       `json:"managedBy,omitempty"` // address of its vCenter
	Uplinks     []hostUplink `json:"uplinks"`
	VMKernels   []hostVMK    `json:"vmkernels"`
	Facts       []hostFact   `json:"facts"` // as host learn or net apply have stored them
}

type hostUplink struct {
	Device string `json:"device"`
	Mbps   int    `json:"mbps"` // 0: no link
	MAC    string `json:"mac"`
}

type hostVMK struct {
	Device string `json:"device"`
	IP     string `json:"ip"`
	MTU    int    `json:"mtu"`
	MAC    string `json:"mac"`
}

func (a *app) hostShowCommand() *cobra.Command {
	var via string
	c := &cobra.Command{
		Use: "show [HOST]", Short: "Show what a host is and how it is connected",
		Long: `Show reads a host's version, model, state, physical adapters and vmkernel
adapters: through vCenter where one is configured, else from the host itself. An
inventory that holds one host needs no name. Below stand the facts that host
learn has stored, with their ages; they are all there is, and the exit code is 1,
when the host does not answer.`,
		Example:           "  labctl host show nuc01",
		Args:              argsBetween(0, 1, "one host"),
		ValidArgsFunction: a.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target(first(args))
			if err != nil {
				return err
			}
			r, err := a.hostShow(cmd.Context(), t, via)
			if r == nil && t.Name != "" {
				r = &hostShowResult{Version: 1, Host: t.Name, Uplinks: []hostUplink{}, VMKernels: []hostVMK{}}
			} else if r == nil {
				return err
			}
			r.Facts = a.learned(r.Host).shown(nil)
			switch {
			case err != nil:
			case len(r.Facts) == 0:
				a.next("to keep what its console depends on", "host", "learn", r.Host)
			default:
				a.next("to see its switches", "net", "show", r.Host)
			}
			if err != nil && len(r.Facts) == 0 {
				return err
			}
			failed := a.result(r, func(p *page) {
				if err == nil {
					writeHost(p, r)
				}
				writeFacts(p, r.Facts, a.now())
			})
			return cmp.Or(err, failed)
		},
	}
	a.viaFlag(c, &via)
	return c
}

// viaFlag adds --via to a command that talks to a host.
func (a *app) viaFlag(c *cobra.Command, via *string) {
	c.Flags().StringVar(via, "via", "", "path to the host: `vcenter|esxi` (default: vcenter where one is configured)")
	c.RegisterFlagCompletionFunc("via", cobra.FixedCompletions([]string{"vcenter", "esxi"}, cobra.ShellCompDirectiveNoFileComp))
}

// path returns the endpoint that --via names, or the default one, and its name.
func (t *target) path(via string) (*esxi.Endpoint, string, error) {
	switch {
	case via == "" && t.VCenter != nil:
		return t.VCenter, "vcenter", nil
	case via == "":
		return t.ESXi, "esxi", nil
	case via == "vcenter" && t.VCenter != nil:
		return t.VCenter, via, nil
	case via == "esxi" && t.ESXi != nil:
		return t.ESXi, via, nil
	case via == "vcenter":
		return nil, "", hintf(usagef("--via vcenter: no vCenter is configured for %s", t.Name), "--vcenter URL names one")
	case via == "esxi":
		return nil, "", hintf(usagef("--via esxi: no address of %s is configured", t.Name), "--url https://user@host names one")
	}
	return nil, "", usagef("--via %s is neither vcenter nor esxi", via)
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// hostShow takes the default path first and, where no path was demanded, the
// other one when the first does not answer.
func (a *app) hostShow(ctx context.Context, t *target, via string) (*hostShowResult, error) {
	e, name, err := t.path(via)
	if err != nil {
		return nil, err
	}
	r, err := a.readHost(ctx, t, e)
	if unanswered(err) && ctx.Err() == nil && via == "" && name == "vcenter" && t.ESXi != nil {
		a.say("vCenter: %s; asking the host itself", err)
		name = "esxi"
		r, err = a.readHost(ctx, t, t.ESXi)
	}
	if err != nil {
		return nil, err
	}
	r.Via = name
	return r, nil
}

// unanswered reports whether an error says that nobody answered, rather than
// that somebody refused.
func unanswered(err error) bool {
	var dial *esxi.DialError
	var away *esxi.AwayError
	var call *esxi.CallError
	return errors.As(err, &dial) || errors.As(err, &away) || errors.As(err, &call) && !call.Refused
}

func (a *app) readHost(ctx context.Context, t *target, e *esxi.Endpoint) (*hostShowResult, error) {
	c, err := esxi.Dial(ctx, e)
	if err != nil {
		return nil, err
	}
	defer a.logout(ctx, c)
	ref, err := c.FindHost(ctx, t.wanted())
	if err != nil {
		return nil, err
	}
	var h mo.HostSystem
	err = property.DefaultCollector(c.Vim).RetrieveOne(ctx, ref.Reference(), []string{
		"name", "summary.config.product", "summary.managementServerIp", "hardware.systemInfo",
		"runtime.connectionState", "runtime.inMaintenanceMode", "config.network.pnic", "config.network.vnic",
	}, &h)
	if err != nil {
		return nil, fmt.Errorf("read host %s: %w", t.Name, err)
	}
	name := t.Name
	if name == "" {
		name = h.Name
	}
	r := &hostShowResult{
		Version: 1, Host: name, Name: h.Name, State: string(h.Runtime.ConnectionState), Maintenance: h.Runtime.InMaintenanceMode,
		ManagedBy: h.Summary.ManagementServerIp, Uplinks: []hostUplink{}, VMKernels: []hostVMK{},
	}
	if p := h.Summary.Config.Product; p != nil {
		r.Product, r.Release, r.Build = p.Name, p.Version, p.Build
	}
	if h.Hardware != nil {
		r.Vendor, r.Model = h.Hardware.SystemInfo.Vendor, h.Hardware.SystemInfo.Model
	}
	if h.Config == nil || h.Config.Network == nil {
		return r, nil // a host that vCenter cannot reach, or one without rights on it
	}
	for _, p := range h.Config.Network.Pnic {
		u := hostUplink{Device: p.Device, MAC: p.Mac}
		if p.LinkSpeed != nil {
			u.Mbps = int(p.LinkSpeed.SpeedMb)
		}
		r.Uplinks = append(r.Uplinks, u)
	}
	for _, v := range h.Config.Network.Vnic {
		k := hostVMK{Device: v.Device, MTU: int(v.Spec.Mtu), MAC: v.Spec.Mac}
		if v.Spec.Ip != nil {
			k.IP = v.Spec.Ip.IpAddress
		}
		r.VMKernels = append(r.VMKernels, k)
	}
	return r, nil
}

func writeHost(p *page, r *hostShowResult) {
	state, look := r.State, plain
	if r.State != string(types.HostSystemConnectionStateConnected) {
		look = red
	}
	if r.Maintenance {
		state += ", in maintenance mode"
	}
	t := table{}
	t.row(bold, "host", r.Host)
	t.row(plain, "name", r.Name)
	t.row(plain, "product", strings.TrimSpace(fmt.Sprintf("%s %s build %s", r.Product, r.Release, r.Build)))
	t.row(plain, "model", strings.TrimSpace(r.Vendor+" "+r.Model))
	t.row(look, "state", state)
	t.row(plain, "managed by", dash(r.ManagedBy))
	t.row(plain, "read via", r.Via)
	t.write(p)
	p.printf("\n")
	t = table{header: []string{"UPLINK", "LINK", "MAC"}}
	for _, u := range r.Uplinks {
		link, look := strconv.Itoa(u.Mbps)+" Mb/s", plain
		if u.Mbps == 0 {
			link, look = "down", yellow
		}
		t.row(look, u.Device, link, u.MAC)
	}
	t.write(p)
	p.printf("\n")
	t = table{header: []string{"VMKERNEL", "IP", "MTU", "MAC"}}
	for _, k := range r.VMKernels {
		t.row(plain, k.Device, dash(k.IP), strconv.Itoa(k.MTU), k.MAC)
	}
	t.write(p)
}

type hostTrustResult struct {
	Version   int    `json:"version"`
	Host      string `json:"host"`
	Endpoint  string `json:"endpoint"` // host:port
	Subject   string `json:"subject"`
	Issuer    string `json:"issuer"`
	NotBefore string `json:"notBefore"`
	NotAfter  string `json:"notAfter"`
	SHA256    string `json:"sha256"`
	SHA1      string `json:"sha1"`
	Before    string `json:"before,omitempty"` // the fingerprint it was known by so far
	Status    string `json:"status"`           // trusted, unchanged
}

func (a *app) hostTrustCommand() *cobra.Command {
	return &cobra.Command{
		Use: "trust [HOST|vcenter]", Short: "Look at a certificate and remember it",
		Long: `Trust opens a TLS connection to the host, or with vcenter to the vCenter, shows
the certificate and asks whether it is the right one. Compare the SHA-256
fingerprint with what the host's own screen shows: DCUI, View Support
Information. From then on that certificate and no other is accepted, and no
password is sent to anything else. Nothing is logged in to.

A pin in the config or in --thumbprint comes before what is remembered here.
Without a terminal, --thumbprint HEX accepts exactly that certificate, and --yes
one that is seen for the first time. One that changed needs the thumbprint.`,
		Example: "  labctl host trust nuc01",
		Args:    argsBetween(0, 1, "one host, or vcenter"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			names, d := a.completeHosts(cmd, args, word)
			return append(names, "vcenter"), d
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.hostTrust(cmd.Context(), first(args)) },
	}
}

// hostTrust reads the certificate unpinned, as its whole point is to look at
// it, and decides by the pins that are there already.
func (a *app) hostTrust(ctx context.Context, name string) error {
	s, err := a.settings()
	if err != nil {
		return err
	}
	access, whose, pin, err := s.trustee(name)
	if err != nil {
		return err
	}
	u, _, err := esxi.ParseURL(access.URL)
	if err != nil {
		return usagef("%s: %w", whose, err)
	}
	endpoint := &esxi.Endpoint{URL: u}
	if s.Timeout > 0 {
		endpoint.DialTimeout = min(s.Timeout, maxDial)
	}
	cert, err := esxi.FetchCertificate(ctx, endpoint)
	if err != nil {
		return err
	}
	r := newTrustResult(whose, endpointKey(u), cert)
	known, err := a.knownCertificate(r.Endpoint)
	if err != nil {
		return err
	}
	given := ""
	if s.Thumbprint != "" {
		if given, err = esxi.ParseThumbprint(s.Thumbprint); err != nil {
			return usagef("%s: %w", s.origins["thumbprint"], err)
		}
	}
	shown := false
	text := func(p *page) {
		if !shown {
			writeCertificate(p, r)
		}
	}
	switch {
	case given != "" && given != r.SHA256 && given != r.SHA1:
		return &esxi.PinError{Host: r.Endpoint, Want: given, Got: r.inHashOf(given)}
	case access.Thumbprint != "" && access.Thumbprint != r.SHA256 && access.Thumbprint != r.SHA1:
		return hintf(&esxi.PinError{Host: r.Endpoint, Want: access.Thumbprint, Got: r.inHashOf(access.Thumbprint)},
			"the pin stands in %s: correct it there, if the certificate was replaced on purpose", s.origins[pin])
	case access.Thumbprint != "":
		a.afterTrust(whose)
		r.Status = "unchanged"
		a.say("%s shows the certificate that the config pins", whose)
		return a.result(r, text)
	case known == r.SHA256 || known == r.SHA1:
		a.afterTrust(whose)
		r.Status = "unchanged"
		a.say("%s shows the certificate it is known by", whose)
		return a.result(r, text)
	}
	r.Before = known
	if given == "" {
		if err := a.showFirst(r, text); err != nil {
			return err
		}
		shown = true
		if err := a.confirmTrust(ctx, r); err != nil {
			return err
		}
	}
	if err := a.trustCertificate(r.Endpoint, r.SHA256); err != nil {
		return err
	}
	r.Status = "trusted"
	a.afterTrust(whose)
	a.say("%s is known by this certificate from now on", whose)
	return a.result(r, text)
}

func (a *app) afterTrust(whose string) {
	switch {
	case whose == "vcenter", a.flags.Changed("url"):
		a.next("to log in and look at everything", "doctor")
	default:
		a.next("to log in", "host", "show", whose)
	}
}

// trustee returns the access block of whoever's certificate is to be looked
// at, what to call it, and the key of its pin in the config.
func (s *settings) trustee(name string) (access Access, whose, pin string, err error) {
	if name == "vcenter" {
		if s.VCenter.URL == "" {
			return access, "", "", hintf(usagef("no vCenter is configured"), "--vcenter URL names one")
		}
		return s.VCenter, name, "vcenter.thumbprint", nil
	}
	h, by, err := s.choose(name)
	switch {
	case err != nil:
		return access, "", "", err
	case by == byVCenter || h.URL == "":
		return access, "", "", hintf(usagef("no address of the host itself is configured"), "labctl host trust vcenter is for the vCenter")
	case by == byConfig:
		i := slices.IndexFunc(s.Hosts, func(other HostConf) bool { return other.Name == h.Name })
		pin = fmt.Sprintf("hosts[%d].thumbprint", i)
	}
	whose = h.Name
	if u, _, err := esxi.ParseURL(h.URL); whose == "" && err == nil {
		whose = endpointKey(u)
	}
	return h.Access, whose, pin, nil
}

// inHashOf returns the certificate's digest in the hash that pin is in.
func (r *hostTrustResult) inHashOf(pin string) string {
	if len(pin) == len(r.SHA1) {
		return r.SHA1
	}
	return r.SHA256
}

// showFirst shows the certificate before the question: as text it is the
// result already, with -o json the result comes last and this is talk.
func (a *app) showFirst(r *hostTrustResult, text func(*page)) error {
	if !a.json() {
		return a.result(r, text)
	}
	p := a.page(a.stderr)
	text(p)
	a.stderrLines("", p.text())
	return nil
}

// confirmTrust asks. A certificate that changed is the moment to be careful:
// the answer is then the host's name, and --yes does not give it.
func (a *app) confirmTrust(ctx context.Context, r *hostTrustResult) error {
	refused := func(err error) error {
		return hintf(exitWith(exitUnsafe, err), "nothing was stored; to look again: %s", a.again())
	}
	if r.Before == "" {
		ok, err := a.confirm(ctx, "is this the right certificate?")
		if err == nil && !ok {
			return refused(errors.New("not trusted"))
		}
		return err
	}
	a.warn("%s is known by another certificate: it was reinstalled, or something else answers in its place", r.Host)
	if !a.interactive() {
		return hintf(usagef("a certificate that changed is not accepted unseen"), "look at it on the host's own screen, then give --thumbprint with what stands there")
	}
	answer, err := a.ask(ctx, fmt.Sprintf("type %s to accept the new one:", r.Host), "--thumbprint")
	if err == nil && answer != r.Host {
		return refused(errors.New("not trusted"))
	}
	return err
}

func writeCertificate(p *page, r *hostTrustResult) {
	t := table{}
	host := r.Host
	if host != r.Endpoint {
		host += " (" + r.Endpoint + ")"
	}
	t.row(bold, "host", host)
	t.row(plain, "subject", r.Subject)
	t.row(plain, "issuer", r.Issuer)
	t.row(plain, "valid", r.NotBefore+" to "+r.NotAfter)
	if r.Before != "" {
		t.row(yellow, "known by", r.Before)
	}
	t.row(plain, "sha-256", r.SHA256)
	t.row(plain, "sha-1", r.SHA1)
	t.write(p)
}

func newTrustResult(host, endpoint string, c *x509.Certificate) *hostTrustResult {
	const day = "2006-01-02"
	return &hostTrustResult{
		Version: 1, Host: host, Endpoint: endpoint, Subject: c.Subject.String(), Issuer: c.Issuer.String(),
		NotBefore: c.NotBefore.UTC().Format(day), NotAfter: c.NotAfter.UTC().Format(day),
		SHA256: esxi.SHA256Fingerprint(c), SHA1: esxi.SHA1Fingerprint(c),
	}
}
