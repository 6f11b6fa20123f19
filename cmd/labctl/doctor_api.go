package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
)

// checkEndpoints looks at the vCenter and at each host, all at the same time,
// and tells in order.
func (a *app) checkEndpoints(ctx context.Context, s *settings, targets []*target, c *checkup) {
	type look struct {
		name    string
		e       *esxi.Endpoint
		targets []*target // hosts to find there
		found   checkup
	}
	var looks []*look
	for _, t := range targets {
		if t.VCenter == nil {
			continue
		}
		if len(looks) == 0 {
			looks = append(looks, &look{name: "vcenter", e: t.VCenter})
		}
		if t.Name != "" { // else any: the vCenter is what was named
			looks[0].targets = append(looks[0].targets, t)
		}
	}
	if len(looks) == 0 && s.VCenter.URL != "" {
		if e, err := a.endpoint(s, &s.VCenter, "vcenter", s.Thumbprint, "LABCTL_VCENTER_PASSWORD"); err != nil {
			c.fail("vcenter", oneLineOf(err), hintOf(err, "correct vcenter: in the config"))
		} else {
			looks = append(looks, &look{name: "vcenter", e: e})
		}
	}
	for _, t := range targets {
		if t.ESXi != nil {
			looks = append(looks, &look{name: t.Name, e: t.ESXi, targets: []*target{t}})
		}
	}
	var wg sync.WaitGroup
	for _, l := range looks {
		wg.Go(func() { a.checkEndpoint(ctx, l.name, l.e, l.targets, &l.found) })
	}
	wg.Wait()
	for _, l := range looks {
		*c = append(*c, l.found...)
	}
}

// Names of the checks of an endpoint, behind its own.
const (
	nameAddress     = "address"
	nameCertificate = "certificate"
	nameLogin       = "login"
	nameClock       = "clock"
)

func (a *app) checkEndpoint(ctx context.Context, whose string, e *esxi.Endpoint, targets []*target, c *checkup) {
	// A handshake has its own limit, and is allowed it twice: to look at the
	// certificate, and to log in.
	ctx, cancel := context.WithTimeout(ctx, a.upTo(doctorLimit)+2*maxDial)
	defer cancel()
	cert, err := esxi.FetchCertificate(ctx, e)
	if err != nil {
		c.fail(whose+" "+nameAddress, oneLineOf(err), "is the address right, the machine on, and its management agent running? ping it, and look at https://"+e.URL.Host+"/")
		c.skipRest(whose, "nobody answers", nameCertificate, nameLogin, nameClock)
		return
	}
	c.ok(whose+" "+nameAddress, "%s answers", endpointKey(e.URL))
	if !a.checkCertificate(ctx, whose, e, cert, c) {
		c.skipRest(whose, "no password is sent to a machine that is not proved", nameLogin, nameClock)
		return
	}
	call, cancel := context.WithTimeout(ctx, a.upTo(doctorLimit))
	defer cancel()
	client, err := esxi.Dial(call, e)
	if err != nil {
		var given *fault
		if errors.As(err, &given) && given.code == exitUsage && strings.Contains(err.Error(), "no terminal") {
			c.skip(whose+" "+nameLogin, oneLineOf(err), "password_command, password_file or password_env in the config lets labctl log in unattended")
		} else {
			mend := a.loginMend(err, e)
			if errors.As(err, &given) && given.code == exitUsage {
				mend = "password_command, password_file or password_env of " + whose + " in the config has to give its password: " + cmp.Or(hintOf(err, ""), "try that by hand")
			}
			c.fail(whose+" "+nameLogin, oneLineOf(err), mend)
		}
		c.skipRest(whose, "not logged in", nameClock)
		return
	}
	defer a.logout(ctx, client)
	about := client.Vim.ServiceContent.About
	c.ok(whose+" "+nameLogin, "%s, %s %s build %s", e.User, about.Name, about.Version, about.Build)
	a.checkClock(call, whose, client, c)
	for _, t := range targets {
		a.checkHost(call, whose, t, client, c)
	}
}

// checkCertificate reports whether a password may be sent.
func (a *app) checkCertificate(ctx context.Context, whose string, e *esxi.Endpoint, cert *x509.Certificate, c *checkup) bool {
	name, sum := whose+" "+nameCertificate, esxi.SHA256Fingerprint(cert)
	trust := a.trustCommand(endpointKey(e.URL))
	if e.Insecure {
		c.warn(name, "not looked at (--insecure): whoever answers gets the password", trust)
		return true
	}
	err := esxi.Knock(ctx, e)
	var pin *esxi.PinError
	switch {
	case errors.As(err, &pin):
		c.fail(name, "it is not the pinned one: "+sum, fmt.Sprintf("if it was replaced on purpose: %s shows both and asks; else find out who answers at %s", trust, endpointKey(e.URL)))
		return false
	case err != nil:
		c.fail(name, oneLineOf(err), trust)
		return false
	}
	how := "signed by an authority of this machine"
	if e.Thumbprint != "" {
		how = "the pinned one"
	}
	const day = 24 * time.Hour
	switch left := cert.NotAfter.Sub(a.now()); {
	case left < 0:
		c.warn(name, fmt.Sprintf("%s, and it ran out on %s", how, cert.NotAfter.UTC().Format(time.DateOnly)), "renew it; then: "+trust)
	case left < 30*day:
		c.warn(name, fmt.Sprintf("%s, and it runs out on %s", how, cert.NotAfter.UTC().Format(time.DateOnly)), "renew it; then: "+trust)
	default:
		c.ok(name, "%s, good until %s", how, cert.NotAfter.UTC().Format(time.DateOnly))
	}
	return true
}

// Clock differences: a certificate made just now is not valid yet for a clock
// that lags, and vCenter refuses to take a host back whose clock is minutes off.
const (
	clockWarn = 30 * time.Second
	clockFail = 5 * time.Minute
)

func (a *app) checkClock(ctx context.Context, whose string, client *esxi.Client, c *checkup) {
	name := whose + " " + nameClock
	before := a.now()
	there, err := methods.GetCurrentTime(ctx, client.Vim)
	if err != nil {
		c.skip(name, oneLineOf(err), "")
		return
	}
	took := a.now().Sub(before)
	off := there.Sub(before.Add(took / 2)).Round(time.Second)
	verdict, detail, mend := clockVerdict(off)
	*c = append(*c, doctorCheck{name, verdict, detail, mend})
}

// clockVerdict judges how far another clock is ahead of this machine's.
func clockVerdict(off time.Duration) (verdict, detail, mend string) {
	how := fmt.Sprintf("%v ahead of this machine's", off)
	if off < 0 {
		how = fmt.Sprintf("%v behind this machine's", -off)
	}
	mend = "set the time of both by NTP; here: timedatectl set-ntp true; on ESXi 7 and later: esxcli system ntp set --server=pool.ntp.org --enabled=true"
	switch d := off.Abs(); {
	case d >= clockFail:
		return doctorFail, how, mend
	case d >= clockWarn:
		return doctorWarn, how, mend
	}
	return doctorOK, "agrees with this machine's", ""
}

// netPrivileges are what a move takes on the host, by "Privileges" in the API
// reference of UpdateNetworkConfig and ReconfigVM_Task; on a host's own API the
// same are root's.
var netPrivileges = []string{"Host.Config.Network", "Network.Assign", "VirtualMachine.Config.EditDevice"}

// checkHost finds a host in the inventory and looks at what the account may do
// with it.
func (a *app) checkHost(ctx context.Context, whose string, t *target, client *esxi.Client, c *checkup) {
	at := t.Name
	if whose == "vcenter" {
		at = t.Name + " in vcenter"
	}
	ref, err := client.FindHost(ctx, t.wanted())
	if err != nil {
		var lost *esxi.FindError
		mend := a.loginMend(err, client.Endpoint())
		if errors.As(err, &lost) {
			mend = "name it in the config as the inventory does, or by the address of its vmkernel adapter"
		}
		c.fail(at, oneLineOf(err), mend)
		return
	}
	var h mo.HostSystem
	err = property.DefaultCollector(client.Vim).RetrieveOne(ctx, ref.Reference(), []string{
		"name", "runtime.connectionState", "runtime.inMaintenanceMode", "config.product",
	}, &h)
	if err != nil {
		c.fail(at, oneLineOf(err), "the account needs to see the host: Read-only is enough for this")
		return
	}
	switch state := h.Runtime.ConnectionState; {
	case state != types.HostSystemConnectionStateConnected:
		c.fail(at, fmt.Sprintf("%s is %s", h.Name, state), fmt.Sprintf("right-click it in vCenter: Connection, Connect; labctl net show %s --via esxi asks the host itself", t.Name))
	case h.Runtime.InMaintenanceMode:
		c.warn(at, h.Name+" is in maintenance mode", "take it out when the work is done: its machines do not start before")
	default:
		c.ok(at, "%s is connected", h.Name)
	}
	a.checkPrivileges(ctx, at, ref, client, c)
	if h.Config == nil {
		return
	}
	if f, err := a.readLearned(t.Name); err == nil {
		was, is := f.Facts[factVersion].Value, h.Config.Product.Version
		if was != "" && is != "" && was != is {
			c.warn(at+" version", fmt.Sprintf("it runs %s, and %s was learned", is, was), "labctl host learn "+t.Name)
		}
	}
}

func (a *app) checkPrivileges(ctx context.Context, at string, host *object.HostSystem, client *esxi.Client, c *checkup) {
	name := at + " privileges"
	sc := client.Vim.ServiceContent
	var m mo.SessionManager
	if sc.AuthorizationManager == nil || sc.SessionManager == nil {
		c.skip(name, "the server does not tell", "")
		return
	}
	err := property.DefaultCollector(client.Vim).RetrieveOne(ctx, *sc.SessionManager, []string{"currentSession"}, &m)
	if err != nil || m.CurrentSession == nil {
		c.skip(name, "the server does not name this session", "")
		return
	}
	res, err := methods.HasPrivilegeOnEntity(ctx, client.Vim, &types.HasPrivilegeOnEntity{
		This: *sc.AuthorizationManager, Entity: host.Reference(), SessionId: m.CurrentSession.Key, PrivId: netPrivileges,
	})
	if err != nil {
		c.skip(name, oneLineOf(err), "")
		return
	}
	if lacks := lacking(netPrivileges, res.Returnval); len(lacks) > 0 {
		c.fail(name, fmt.Sprintf("%s lacks %s", client.Endpoint().User, strings.Join(lacks, ", ")),
			"give the account a role that holds them, on the host and what is below it, or use one that has Administrator")
		return
	}
	c.ok(name, "%s may move the network", client.Endpoint().User)
}

// lacking lists the wanted that were not granted; an answer that is too short
// grants nothing.
func lacking(wanted []string, granted []bool) []string {
	i := -1
	return slices.DeleteFunc(slices.Clone(wanted), func(string) bool {
		i++
		return i < len(granted) && granted[i]
	})
}
