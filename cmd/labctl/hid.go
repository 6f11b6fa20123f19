package main

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/hid/gadget"
)

// gadgetFlags are those of the commands that change the gadget.
type gadgetFlags struct {
	root   string
	dryRun bool
}

func (a *app) hidCommand() *cobra.Command {
	return a.noun("hid", "The USB keyboard: set it up, look at it, type with it",
		`Hid makes this machine, a Raspberry Pi say, a USB keyboard for the host at the
other end of a cable, and types with it. The host sees the keyboard only while
labctl types.`,
		"  sudo labctl hid up\n  sudo labctl hid press F2",
		a.hidUpCommand(),
		a.hidDownCommand(),
		a.hidStatusCommand(),
		a.hidDoctorCommand(),
		a.hidTypeCommand(),
		a.hidPressCommand(),
		a.hidWatchCommand(),
		a.hidServeCommand(),
		a.hidWatchdogCommand())
}

// rootFlag is how tests put a machine of their own in place of this one.
func rootFlag(c *cobra.Command, root *string) {
	c.Flags().StringVar(root, "root", "", "`DIR` before all paths of the gadget")
	c.Flags().MarkHidden("root")
}

func (f *gadgetFlags) add(c *cobra.Command) {
	rootFlag(c, &f.root)
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "print what would be written, and write nothing")
}

// hidStepsResult is what up and down --dry-run print.
type hidStepsResult struct {
	Version int      `json:"version"`
	Gadget  string   `json:"gadget"`
	Steps   []string `json:"steps"`
}

func (a *app) showSteps(steps []gadget.Step) error {
	r := hidStepsResult{Version: 1, Gadget: gadget.DefaultName, Steps: []string{}}
	for _, s := range steps {
		r.Steps = append(r.Steps, s.String())
	}
	if len(r.Steps) == 0 {
		a.say("nothing to do")
	}
	return a.result(r, func(p *page) {
		for _, s := range r.Steps {
			p.printf("%s\n", s)
		}
	})
}

func (a *app) hidUpCommand() *cobra.Command {
	var f gadgetFlags
	var udc string
	var fullSpeed bool
	c := &cobra.Command{
		Use: "up", Short: "Make this machine a USB keyboard",
		Long: `Up makes a USB boot keyboard in the kernel's configfs: a keyboard and nothing
else, since some firmware accepts no other. It loads libcomposite and mounts
configfs where that is needed. The host does not see the keyboard yet: it is
plugged in, so to speak, only while labctl types. Up again changes nothing.
Where there is a group labctl, as with the Debian package, its members may then
type without being root.`,
		Example: "  sudo labctl hid up\n  labctl hid up --dry-run",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usbHelp(a.hidUp(cmd.Context(), f, udc, gadget.Spec{FullSpeed: fullSpeed}))
		},
	}
	f.add(c)
	c.Flags().StringVar(&udc, "udc", "", "USB device port to use, where there are several: a `NAME` from hid status")
	c.Flags().BoolVar(&fullSpeed, "full-speed", false, "12 Mbit/s, for hosts that take no keyboard at high speed")
	return c
}

func (a *app) hidUp(ctx context.Context, f gadgetFlags, udc string, spec gadget.Spec) error {
	if err := onlyLinux(); err != nil {
		return err
	}
	sys := gadget.System{Root: f.root}
	ports, err := sys.UDCs()
	if err != nil {
		return err
	}
	switch {
	case udc != "" && !slices.Contains(ports, udc):
		return hintf(usagef("there is no USB device port %s", udc), "this machine has %s", cmp.Or(strings.Join(ports, ", "), "none"))
	case len(ports) == 0 && !f.dryRun:
		return &gadget.UDCError{}
	case len(ports) > 1 && udc == "" && a.readChosenPort(f.root) == "" && !f.dryRun:
		return usagef("%w", &gadget.UDCError{Found: ports})
	}
	if spec.Group, err = sys.Group(keyboardGroup); err != nil {
		return err
	}
	if f.dryRun {
		steps, err := sys.Prepare()
		if err != nil {
			return err
		}
		now, err := sys.Inspect("")
		if err != nil && !errors.Is(err, gadget.ErrNoConfigFS) {
			return err
		}
		return a.showSteps(append(steps, spec.Plan(now)...))
	}
	lock, err := a.lockKeyboard(ctx, a.keyboardDirs(f.root), gadgetLock, "hid up")
	if err != nil {
		return err
	}
	_, err = sys.Up(ctx, spec)
	if err == nil && udc != "" {
		err = keepChosenPort(filepath.Dir(lock.file.Name()), udc)
	}
	lock.release()
	if err != nil {
		return err
	}
	a.say("the keyboard is set up; the host sees it only while labctl types")
	return a.hidStatus(f.root)
}

func (a *app) hidDownCommand() *cobra.Command {
	var f gadgetFlags
	c := &cobra.Command{
		Use: "down", Short: "Take the USB keyboard down",
		Long: `Down removes what up made from configfs. Kernel modules stay loaded, since
others may use them. Down again changes nothing.`,
		Example: "  sudo labctl hid down",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usbHelp(a.hidDown(cmd.Context(), f))
		},
	}
	f.add(c)
	return c
}

func (a *app) hidDown(ctx context.Context, f gadgetFlags) error {
	if err := onlyLinux(); err != nil {
		return err
	}
	sys := gadget.System{Root: f.root}
	if f.dryRun {
		now, err := sys.Inspect("")
		if err != nil && !errors.Is(err, gadget.ErrNoConfigFS) {
			return err
		}
		return a.showSteps(gadget.Teardown(now))
	}
	lock, err := a.lockKeyboard(ctx, a.keyboardDirs(f.root), gadgetLock, "hid down")
	if err != nil {
		return err
	}
	err = sys.Down(ctx, "")
	lock.release()
	if err != nil {
		return err
	}
	if err := a.dropChosenPort(f.root); err != nil {
		return err
	}
	a.say("the keyboard is taken down")
	return a.hidStatus(f.root)
}

// hidStatusResult is the keyboard of this machine as the kernel shows it.
type hidStatusResult struct {
	Version  int      `json:"version"`
	Gadget   string   `json:"gadget"`
	ConfigFS bool     `json:"configfs"` // the kernel offers gadgets
	Up       bool     `json:"up"`
	Bound    string   `json:"bound"` // the port at which the host sees it; "" while nobody types
	State    string   `json:"state"` // what the kernel says of that port, a hint
	Device   string   `json:"device"`
	Ports    []string `json:"ports"` // that can play device
	Port     string   `json:"port"`  // that the next run will use
	User     string   `json:"user"`  // who types, or changes it
	Group    string   `json:"group"` // whose members may type besides root, "" for none
}

func (a *app) hidStatusCommand() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use: "status", Short: "Show the USB keyboard and the ports it can use",
		Long: `Status shows whether the keyboard is set up, whether a host sees it at this
moment, who is using it, and the USB ports of this machine that can play device.
It changes nothing.`,
		Example: "  labctl hid status -o json",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(*cobra.Command, []string) error {
			if err := onlyLinux(); err != nil {
				return err
			}
			return usbHelp(a.hidStatus(root))
		},
	}
	rootFlag(c, &root)
	return c
}

func (a *app) hidStatus(root string) error {
	sys := gadget.System{Root: root}
	r := hidStatusResult{Version: 1, ConfigFS: true, Ports: []string{}}
	now, err := sys.Inspect("")
	if errors.Is(err, gadget.ErrNoConfigFS) {
		r.ConfigFS = false
	} else if err != nil {
		return err
	}
	r.Gadget, r.Up, r.Bound, r.State, r.Device = now.Name, now.Present, now.UDC, now.State, now.Node
	ports, err := sys.UDCs()
	if err != nil {
		return err
	}
	r.Ports = append(r.Ports, ports...)
	if r.Port = a.readChosenPort(root); r.Port == "" && len(ports) == 1 {
		r.Port = ports[0]
	}
	r.User = a.keyboardUser(root)
	switch {
	case len(r.Ports) == 0:
		a.next("what keeps this machine from being a keyboard", "hid", "doctor")
	case !r.Up:
		a.nextLine = "to set it up: " + asRoot(a.line("hid", "up"))
	default:
		a.nextLine = "to try it on the host that the cable leads to: " + asRoot(a.line("hid", "type", "hello", "--layout", "us"))
	}
	if gid, err := sys.Group(keyboardGroup); err != nil {
		return err
	} else if gid != 0 && now.Group == gid {
		r.Group = keyboardGroup
	}
	return a.result(r, func(p *page) {
		t := table{}
		up, look := "not set up (labctl hid up)", yellow
		switch {
		case r.Up:
			up, look = "set up", plain
		case !r.ConfigFS:
			up = "not set up, and the kernel offers no gadgets yet (labctl hid up)"
		}
		t.row(look, "keyboard", up)
		seen := "no: only while labctl types"
		if r.Bound != "" {
			seen = "yes, at port " + r.Bound
			if r.State != "" {
				seen += ", which the kernel calls " + r.State
			}
		}
		t.row(plain, "visible to the host", seen)
		if r.Device != "" {
			t.row(plain, "device", r.Device)
		}
		t.row(plain, "used by", dash(r.User))
		if r.Group != "" {
			t.row(plain, "who may type", "root and the group "+r.Group)
		}
		if len(r.Ports) == 0 {
			t.row(red, "ports", "none can play device (labctl hid doctor)")
		} else {
			t.row(plain, "ports", strings.Join(r.Ports, ", "))
		}
		t.write(p)
	})
}
