package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/labctl/labctl/hid/gadget"
)

// Verdicts of a check.
const (
	checkOK   = "ok"
	checkWarn = "warning" // works, and could do better
	checkFail = "failed"
	checkNote = "note" // nobody can tell from here
)

// check is one thing that was looked at.
type check struct {
	Name    string `json:"name"`
	Verdict string `json:"verdict"`
	Found   string `json:"found"`
	Fix     string `json:"fix,omitempty"` // the exact way to mend it
}

type hidDoctorResult struct {
	Version int     `json:"version"`
	OK      bool    `json:"ok"` // nothing failed
	Model   string  `json:"model"`
	Checks  []check `json:"checks"`
}

func (a *app) hidDoctorCommand() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use: "doctor", Short: "Find what keeps this machine from being a keyboard",
		Long: `Doctor looks at all that a USB keyboard needs: the board and its port, the boot
configuration, kernel modules, configfs, permissions, power. What is wrong comes
with the exact file and line, or the command, that mends it. It changes nothing
and types nothing. It ends with 1 if something failed.`,
		Example: "  labctl hid doctor",
		Args:    argsBetween(0, 0, "no argument"),
		RunE: func(*cobra.Command, []string) error {
			r, err := a.hidDoctor(machine{sys: gadget.System{Root: root}, goos: runtime.GOOS, uid: os.Geteuid(), groups: os.Getgroups})
			if err != nil {
				return err
			}
			err = a.result(r, func(p *page) { writeChecks(p, r.Checks) })
			if err == nil && !r.OK {
				a.next("when that is mended", "hid", "doctor")
				err = exitWith(exitFailed, nil)
			} else {
				a.next("how the keyboard stands", "hid", "status")
			}
			return err
		},
	}
	rootFlag(c, &root)
	return c
}

// machine is what doctor looks at.
type machine struct {
	sys  gadget.System
	goos string
	uid  int
	// groups returns the numbers of the groups that this process is in.
	groups func() ([]int, error)
}

func writeChecks(p *page, checks []check) {
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	for _, c := range checks {
		look := map[string]style{checkOK: green, checkWarn: yellow, checkFail: red}[c.Verdict]
		p.printf("%s  %s  %s\n", p.paint(look, fmt.Sprintf("%-7s", c.Verdict)), fmt.Sprintf("%-*s", width, c.Name), c.Found)
		for line := range strings.Lines(c.Fix) {
			p.printf("%*s  → %s\n", 7+2+width, "", strings.TrimSuffix(line, "\n"))
		}
	}
}

// hidDoctor goes from the kernel up to the keyboard, so that the first failure is
// the one to mend first.
func (a *app) hidDoctor(m machine) (*hidDoctorResult, error) {
	r := &hidDoctorResult{Version: 1, OK: true}
	add := func(name, verdict, found, fix string, args ...any) {
		r.Checks = append(r.Checks, check{name, verdict, found, fmt.Sprintf(fix, args...)})
		r.OK = r.OK && verdict != checkFail
	}
	if m.goos != "linux" {
		add("system", checkFail, m.goos, "a USB keyboard needs Linux and a USB port that can play device: run labctl on a Raspberry Pi")
		return r, nil
	}
	board, err := m.sys.Board()
	if err != nil {
		return nil, err
	}
	r.Model = board.Model
	ports, err := m.sys.UDCs()
	if err != nil {
		return nil, err
	}
	works := len(ports) > 0
	switch {
	case board.Connector != "":
		add("board", checkOK, board.Model+": the cable to the host goes into "+board.Connector, "")
	case board.Known:
		add("board", checkFail, board.Model+": its USB ports hang behind a hub and cannot play device",
			"use a Raspberry Pi Zero, Zero 2 W, 4, 5, A+ or 3A+")
	case works:
		add("board", checkOK, boardName(board.Model)+": unknown to labctl, and it has a USB port in device mode", "")
	default:
		add("board", checkWarn, boardName(board.Model)+": unknown to labctl",
			"its manual says which USB port can play device (OTG, dual role), if one can")
	}
	if board.Known && board.Connector != "" {
		if err := bootChecks(m, board, works, add); err != nil {
			return nil, err
		}
	}
	if err := moduleChecks(m, add); err != nil {
		return nil, err
	}
	switch chosen := a.readChosenPort(m.sys.Root); {
	case len(ports) == 0 && board.Connector != "":
		add("port", checkFail, "no USB port is in device mode", "mend the boot configuration first, then reboot")
	case len(ports) == 0:
		add("port", checkFail, "no USB port is in device mode", "this machine needs a USB device controller and its driver; /sys/class/udc shows them")
	case len(ports) > 1 && chosen == "":
		add("port", checkWarn, "several are in device mode: "+strings.Join(ports, ", "), "sudo labctl hid up --udc NAME")
	default:
		port := cmp.Or(chosen, ports[0])
		user, err := m.sys.User(port)
		if err != nil {
			return nil, err
		}
		if user != "" && user != gadget.DefaultName {
			add("port", checkFail, port+" is in use by gadget "+user, "that gadget has to go first: a port takes one")
		} else {
			add("port", checkOK, port, "")
		}
	}
	if err := gadgetChecks(a, m, add); err != nil {
		return nil, err
	}
	if err := permissionChecks(m, add); err != nil {
		return nil, err
	}
	if board.Power != "" {
		add("power", checkNote, "labctl cannot see how this board is powered", "%s", board.Power)
	}
	return r, nil
}

func boardName(model string) string {
	if model == "" {
		return "no board that names itself"
	}
	return model
}

type addCheck func(name, verdict, found, fix string, args ...any)

func bootChecks(m machine, board gadget.Board, works bool, add addCheck) error {
	boot, err := m.sys.BootConfig(board)
	if err != nil {
		return err
	}
	const name = "boot configuration"
	line := fmt.Sprintf("in %s, below a line [all] at its end: %s\nthen: sudo reboot", boot.File, gadget.PeripheralLine)
	mend := fmt.Sprintf("take line %d out; %s", boot.Line, line)
	if boot.Set { // that line is there, and something against it too
		mend = fmt.Sprintf("take line %d of %s out\nthen: sudo reboot", boot.Line, boot.File)
	}
	switch {
	case boot.File == "" && works:
		add(name, checkNote, "no config.txt, and the port works", "")
	case boot.File == "":
		add(name, checkFail, "there is no /boot/firmware/config.txt and no /boot/config.txt",
			"mount the boot partition, then add %s below a line [all]", gadget.PeripheralLine)
	case boot.Against != "" && works:
		add(name, checkWarn, fmt.Sprintf("%s:%d: %s, and yet a port is in device mode", boot.File, boot.Line, boot.Against), "%s", mend)
	case boot.Against != "":
		add(name, checkFail, fmt.Sprintf("%s:%d: %s", boot.File, boot.Line, boot.Against), "%s", mend)
	case !boot.Set && works:
		add(name, checkWarn, boot.File+" does not ask for device mode, and yet a port is in it", "%s", line)
	case !boot.Set:
		add(name, checkFail, boot.File+" does not ask for device mode", "%s", line)
	case !works:
		add(name, checkWarn, boot.File+" asks for device mode, and no port is in it yet", "sudo reboot")
	default:
		add(name, checkOK, boot.File+" asks for device mode", "")
	}
	state, err := m.sys.Module("dwc2")
	if err != nil {
		return err
	}
	if state == gadget.Available && boot.Set && !works {
		add("module dwc2", checkWarn, "there, and not loaded",
			"if it still is not after a reboot: echo dwc2 | sudo tee /etc/modules-load.d/labctl.conf")
	}
	return nil
}

func moduleChecks(m machine, add addCheck) error {
	offers, err := m.sys.Inspect("")
	configfs := !errors.Is(err, gadget.ErrNoConfigFS)
	if err != nil && configfs {
		return err
	}
	for _, module := range []struct{ name, what string }{
		{"libcomposite", "USB gadgets"}, {"usb_f_hid", "keyboards"},
	} {
		state, err := m.sys.Module(module.name)
		if err != nil {
			return err
		}
		name := "module " + module.name
		switch {
		case state == gadget.Loaded, module.name == "libcomposite" && configfs, module.name == "usb_f_hid" && offers.Present:
			add(name, checkOK, "loaded", "")
		case state == gadget.Available:
			add(name, checkOK, "there, and loaded by labctl hid up", "")
		default:
			add(name, checkWarn, "this kernel seems to have none, and without it no "+module.what,
				"sudo modprobe %s tells; a kernel update without a reboot can be the reason", module.name)
		}
	}
	if configfs {
		add("configfs", checkOK, "mounted, and has gadgets", "")
	} else {
		add("configfs", checkNote, "no gadgets in it yet", "sudo labctl hid up mounts it and loads libcomposite")
	}
	return nil
}

// udevRules are the places of the rule that gives the keyboard's device to the
// group: the package's, and the administrator's own.
var udevRules = []string{"/usr/lib/udev/rules.d/60-labctl.rules", "/lib/udev/rules.d/60-labctl.rules", "/etc/udev/rules.d/60-labctl.rules"}

// permissionChecks looks at who may type.
func permissionChecks(m machine, add addCheck) error {
	const name = "permissions"
	if m.uid == 0 {
		add(name, checkOK, "root", "")
		return nil
	}
	gid, err := m.sys.Group(keyboardGroup)
	if err != nil {
		return err
	}
	who := "this is user " + fmt.Sprint(m.uid)
	if gid == 0 {
		add(name, checkWarn, "USB gadgets belong to root, and "+who, "put sudo before labctl hid and before labctl recipe run")
		return nil
	}
	groups, err := m.groups()
	if err != nil {
		return err
	}
	now, err := m.sys.Inspect("")
	if err != nil && !errors.Is(err, gadget.ErrNoConfigFS) {
		return err
	}
	rule := slices.ContainsFunc(udevRules, func(p string) bool {
		_, err := os.Stat(filepath.Join(m.sys.Root, p))
		return err == nil
	})
	switch {
	case !slices.Contains(groups, gid):
		add(name, checkWarn, who+", who is not in the group "+keyboardGroup+" that may type", "%s", joinGroup)
	case !rule:
		add(name, checkWarn, "no udev rule gives the keyboard's device to the group "+keyboardGroup,
			"in %s: SUBSYSTEM==\"hidg\", GROUP=\"%s\", MODE=\"0660\"\nthen: sudo udevadm control --reload", udevRules[2], keyboardGroup)
	case now.Present && now.Group != gid:
		add(name, checkWarn, "the keyboard was set up before there was a group "+keyboardGroup, "sudo labctl hid up")
	default:
		add(name, checkOK, who+", who may type as a member of the group "+keyboardGroup, "")
	}
	return nil
}

func gadgetChecks(a *app, m machine, add addCheck) error {
	now, err := m.sys.Inspect("")
	if err != nil && !errors.Is(err, gadget.ErrNoConfigFS) {
		return err
	}
	user := a.keyboardUser(m.sys.Root)
	switch {
	case !now.Present:
		add("keyboard", checkWarn, "not set up", "sudo labctl hid up, after each boot; the Debian package's labctl-gadget.service does it by itself")
	case now.UDC == "":
		add("keyboard", checkOK, "set up, and not visible to the host while nobody types", "")
	case user != "":
		add("keyboard", checkOK, "visible to the host: "+user+" types", "")
	default:
		add("keyboard", checkWarn, "still visible to the host, though nobody types", "the next run hides it; at once: sudo labctl hid up")
	}
	return nil
}
