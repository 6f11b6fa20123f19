package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/esxi/vch"
)

type vchTestResult struct {
	Version int    `json:"version"`
	VCH     string `json:"vch"`
	*vch.TestResult
	Error string `json:"error,omitempty"`
}

func (a *app) vchTestCommand() *cobra.Command {
	var p vchPlace
	var image, certs string
	c := &cobra.Command{
		Use: "test NAME", Short: "Run a container in a VCH",
		Long: `Test pulls an image through a VCH's Docker API (version 1.25, no docker client
needed), runs it, shows its output, finds the virtual machine that the container
is, and removes it.`,
		Example:           "  labctl vch test t1",
		Args:              argsBetween(1, 1, "the name or id of a VCH"),
		ValidArgsFunction: a.completeVCHs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.vchTest(cmd.Context(), &p, args[0], image, certs)
		},
	}
	c.Flags().StringVar(&image, "image", "hello-world", "`IMAGE` to run")
	c.Flags().StringVar(&certs, "tls-cert-path", "", "`DIR` with cert.pem and key.pem, where labctl did not make the VCH")
	a.vchPlaceFlags(c, &p)
	return c
}

func (a *app) vchTest(ctx context.Context, p *vchPlace, name, image, certs string) error {
	s, done, err := a.vchDial(ctx, p)
	if err != nil {
		return err
	}
	defer done()
	d, err := vch.Inspect(ctx, s.Client, name)
	if err != nil {
		return a.vchError(err)
	}
	switch {
	case d.Power != "on":
		return hintf(fmt.Errorf("%s is powered off", d.Name), "what its appliance said: %s", a.like("vch", "logs", d.Name))
	case d.DockerHost == "":
		return hintf(fmt.Errorf("%s has no address yet", d.Name), "how far it is: %s", a.like("vch", "inspect", d.Name))
	}
	t, err := a.vchTLS(d, certs)
	if err != nil {
		return err
	}
	client := vch.NewDocker(d.DockerHost, t)
	defer client.Close()
	client.Limit = a.set.Timeout
	view := &vchProgress{a: a}
	res, err := client.Test(ctx, s.Client, image, func(e vch.Event) { e.VCH = d.Name; view.on(e) })
	view.end()
	out := vchTestResult{Version: 1, VCH: d.Name, TestResult: res}
	if err != nil {
		out.Error = err.Error()
	}
	shown := a.result(out, func(pg *page) {
		for line := range strings.Lines(res.Output) {
			pg.printf("%s\n", strings.TrimRight(line, "\r\n"))
		}
		if m := res.Machine; m != nil {
			pg.printf("%s was container %.12s (%s) in virtual machine %s\n", res.Image, m.ID, m.Name, m.VM)
			pg.printf("  network %s, serial line %s\n  disk %s\n", firstOf(m.Network, "-"), firstOf(m.Serial, "-"), firstOf(m.Disk, "-"))
		}
	})
	if err == nil {
		a.nextLine = "when it is no longer needed: " + a.like("vch", "down", name)
		return shown
	}
	a.nextLine = "what its appliance says: " + a.like("vch", "logs", name)
	code := exitFailed
	if res.ID != "" && !res.Removed {
		code = exitChanged
	}
	return exitWith(code, fmt.Errorf("test %s: %w", d.Name, err))
}

// vchTLS returns how to talk to a VCH's Docker endpoint. The certificate to
// expect is the one that was stored when it was made, else the one in its own
// configuration, which only vSphere's users can change.
func (a *app) vchTLS(d *vch.Details, certs string) (*tls.Config, error) {
	dir := certs
	if dir == "" {
		var err error
		if dir, err = a.vchDir(d.Name); err != nil {
			return nil, err
		}
	}
	own, err := base64.StdEncoding.DecodeString(d.VMX["guestinfo.vice./cert/HostCertificate/Cert"])
	if err != nil {
		return nil, fmt.Errorf("%s: its certificate does not decode", d.Name)
	}
	if len(own) == 0 && strings.HasSuffix(d.DockerHost, ":2375") {
		return nil, nil
	}
	return vch.ClientTLS(dir, own)
}
