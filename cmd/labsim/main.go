// Labsim is a homelab in a box: a simulated vCenter and its ESXi hosts on loopback, to try labctl on and to test it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/labctl/labctl/esxi/sim"
)

const usage = `usage: labsim [flags]

Serves a simulated homelab on loopback until it is interrupted, and prints "ready" when it can be used.

  --scene NAME           the lab to simulate (default nuc)
  --vms N                VMs on each host (default 3)
  --listen ADDR          the vCenter's address; hosts take the ports after it (default: free ports of 127.0.0.1)
  --control ADDR         address for GET /state, POST|DELETE /fault, POST /release, POST /reset, GET /console/HOST and
                         POST /console/HOST/report (default: a free port)
  --write-config FILE    write a labctl.yaml for this lab, and its passwords beside it
  --fault JSON           arm a fault, for example '{"fault": "wire-vlan", "host": "nuc01", "vlan": 999}'; repeatable
  --rollback-after D     how long a host waits before it undoes a change that cut it off (default 1s)
  --lost-after D         how long the vCenter takes to notice that a host is gone (default 1s)
  --reconnect-after D    and that it is back (default 1s)
  --boot-after D         how long a host takes to restart (default 3s)
  --boot D               what a VCH takes from power-on to its Docker endpoint (default 1s)
  --list-scenes          print the scenes and end
  --list-faults          print the faults and end
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	log.SetOutput(io.Discard) // vcsim talks to the standard logger
	fs := flag.NewFlagSet("labsim", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	opt := sim.Options{Console: newConsole}
	var config string
	var listScenes, listFaults bool
	var faults []sim.Fault
	fs.StringVar(&opt.Scene, "scene", "nuc", "")
	fs.IntVar(&opt.VMs, "vms", 3, "")
	fs.StringVar(&opt.Listen, "listen", "", "")
	fs.StringVar(&opt.Control, "control", "", "")
	fs.StringVar(&config, "write-config", "", "")
	fs.DurationVar(&opt.RollbackAfter, "rollback-after", time.Second, "")
	fs.DurationVar(&opt.ReconnectAfter, "reconnect-after", time.Second, "")
	fs.DurationVar(&opt.LostAfter, "lost-after", time.Second, "")
	fs.DurationVar(&opt.BootAfter, "boot-after", 3*time.Second, "")
	fs.DurationVar(&opt.Boot, "boot", time.Second, "")
	fs.BoolVar(&listScenes, "list-scenes", false, "")
	fs.BoolVar(&listFaults, "list-faults", false, "")
	fs.Func("fault", "", func(s string) error {
		f, err := sim.ParseFault([]byte(s))
		faults = append(faults, f)
		return err
	})
	err := fs.Parse(args)
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "labsim: %v\n", err)
		return 2
	case listScenes:
		for _, s := range sim.Scenes() {
			fmt.Fprintf(stdout, "%-12s %s\n", s.Name, s.Summary)
		}
		return 0
	case listFaults:
		for _, line := range sim.Faults() {
			fmt.Fprintln(stdout, line)
		}
		return 0
	}
	if opt.VMs == 0 {
		opt.VMs = -1 // the library's zero value is a furnished lab
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, opt, config, faults, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "labsim: %v\n", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, opt sim.Options, config string, faults []sim.Fault, stdout, stderr io.Writer) error {
	lab, err := sim.Start(ctx, opt)
	if err != nil {
		return err
	}
	defer lab.Close()
	for _, f := range faults {
		if err := lab.Arm(f); err != nil {
			return err
		}
	}
	for _, e := range append([]sim.Endpoint{lab.VCenter()}, lab.Hosts()...) {
		fmt.Fprintf(stderr, "%-8s %s user %s thumbprint %s\n", e.Name, e.URL, e.User, e.Thumbprint)
	}
	fmt.Fprintf(stderr, "control  http://%s\n", lab.ControlAddr())
	if config != "" {
		if err := lab.WriteConfig(config); err != nil {
			return err
		}
		fmt.Fprintf(stderr, "LABCTL_CONFIG=%s\n", config)
	}
	fmt.Fprintln(stdout, "ready")
	<-ctx.Done()
	return nil
}
