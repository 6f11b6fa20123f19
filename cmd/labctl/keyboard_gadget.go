package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/hid/gadget"
)

// gadgetLock is the name of the lock of this machine's USB keyboard; labctl makes
// only one.
const gadgetLock = "usb-keyboard"

// keyboardGroup is the group of those who may type with this machine's USB
// keyboard without being root. Where there is one of that name, hid up lets it
// bind the keyboard, and a udev rule has to give it the device; the Debian
// package brings both.
const keyboardGroup = "labctl"

// onlyLinux is an error on systems that have no USB gadgets.
func onlyLinux() error {
	if runtime.GOOS == "linux" {
		return nil
	}
	return hintf(fmt.Errorf("a USB keyboard needs Linux and a USB port that can play device, and this is %s", runtime.GOOS),
		"run labctl on a Raspberry Pi; --keyboard sim: works everywhere")
}

// usbHelp adds advice to errors of the gadget.
func usbHelp(err error) error {
	var port *gadget.UDCError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return hintf(err, "USB gadgets belong to root")
	case errors.Is(err, gadget.ErrNoConfigFS):
		return hintf(err, "what is missing: labctl hid doctor")
	case errors.As(err, &port) && len(port.Found) > 1:
		return hintf(err, "--udc NAME chooses one; what there is: labctl hid status")
	case errors.As(err, &port) && port.User != "":
		return hintf(err, "that gadget has to go first: a port takes one")
	case errors.Is(err, syscall.EBUSY):
		return hintf(err, "another gadget may hold the port, such as the module g_ether or g_serial: lsmod shows it, sudo modprobe -r NAME removes it")
	case errors.As(err, &port):
		return hintf(err, "which line in which file changes that: labctl hid doctor")
	case errors.Is(err, hid.ErrNotTaken), errors.Is(err, hid.ErrBusy):
		return hintf(err, "the host has found the keyboard and no longer asks it for keys: asleep, switched off, or its USB driver stopped")
	case errors.Is(err, hid.ErrLeft):
		return hintf(err, "keys would go to its firmware now; wait until the host is up, then begin again. A cable that was out for a moment looks the same")
	case errors.Is(err, hid.ErrNoHost):
		return hintf(err, "is the cable in the host and in the right port of this machine, and the host powered on? Which port that is: labctl hid doctor")
	}
	return err
}

// openGadget binds this machine's USB keyboard and returns it once the host
// takes reports. It is bound only until Close; should labctl die first, a
// watchdog that is there before the bind unbinds it.
func (a *app) openGadget(ctx context.Context, u keyboardPlace, o keyboardOptions) (*keyboard, error) {
	if err := onlyLinux(); err != nil {
		return nil, err
	}
	g := &usbKeyboard{sys: gadget.System{Root: o.Root}, open: hid.Open}
	return g.keyboard(ctx, a, u, o)
}

// keyboard starts a run.
func (g *usbKeyboard) keyboard(ctx context.Context, a *app, u keyboardPlace, o keyboardOptions) (*keyboard, error) {
	kb, err := g.start(ctx, a, u, o)
	switch {
	case err == nil && !o.PowerOn: // firmware lets go of it and takes it again
		kb.WatchHost()
	case err != nil:
		if errors.Is(err, fs.ErrPermission) {
			err = g.hintGroup(err)
		}
		err = fmt.Errorf("opening keyboard %s: %w", u.text, err)
		if closeErr := g.close(a); closeErr != nil {
			err = fmt.Errorf("%w; and %v", err, closeErr)
		}
		if hintOf(err, "") == "" {
			err = usbHelp(err)
		}
		return nil, err
	}
	return &keyboard{Keyboard: kb, Name: u.text, finish: func() error { return g.close(a) }}, nil
}

// hintGroup tells who is not root how to be let in.
func (g *usbKeyboard) hintGroup(err error) error {
	gid, groupErr := g.sys.Group(keyboardGroup)
	now, inspectErr := g.sys.Inspect("")
	groups, groupsErr := os.Getgroups()
	switch {
	case gid == 0 || errors.Join(groupErr, inspectErr, groupsErr) != nil:
		return err
	case !slices.Contains(groups, gid):
		return hintf(err, "%s; or sudo labctl …", joinGroup)
	case now.Group != gid:
		return hintf(err, "the keyboard was set up before there was a group %s: sudo labctl hid up", keyboardGroup)
	}
	return hintf(err, "no udev rule gives the group %s the device: labctl hid doctor; or sudo labctl …", keyboardGroup)
}

const joinGroup = "sudo usermod -aG " + keyboardGroup + " $USER, then log in anew"

const powerOnUsage = "begin when the host is switched on, and type into its firmware; with this machine's USB keyboard only"

// usbKeyboard is what one run has to give back.
type usbKeyboard struct {
	sys   gadget.System
	open  func(path string, o hid.Options) (*hid.Keyboard, error)
	lock  *keyboardLock
	dog   *watchdog
	bound bool
	kb    *hid.Keyboard
}

func (g *usbKeyboard) start(ctx context.Context, a *app, u keyboardPlace, o keyboardOptions) (*hid.Keyboard, error) {
	var err error
	if g.lock, err = a.lockKeyboard(ctx, a.keyboardDirs(o.Root), gadgetLock, o.Command); err != nil {
		return nil, err
	}
	now, err := g.sys.Inspect("")
	switch {
	case err != nil:
		return nil, err
	case !now.Present:
		return nil, hintf(errors.New("no keyboard is set up on this machine"), "to set it up: %s", asRoot("labctl hid up"))
	}
	if now.UDC != "" {
		a.say("an earlier run left the keyboard bound: unbinding it first")
		if err := g.sys.Unbind(ctx, ""); err != nil {
			return nil, err
		}
		if err := pause(ctx, rebindPause); err != nil {
			return nil, err
		}
	}
	if g.dog, err = a.startWatchdog(ctx, o.Root, u.path, g.lock); err != nil {
		return nil, err
	}
	// A stopped labctl would hold its key down.
	signal.Ignore(stopSignals...)
	a.leaving("the keyboard, which its watchdog unbinds now")
	port := a.readChosenPort(o.Root)
	if o.Watcher {
		// Bound all the time: the cable may be plugged in only now, too.
		limit := a.upTo(watcherLimit)
		defer a.reminding(func() { a.progress("waiting for a watcher at the other end of the cable, %s at most", limit) })()
		if err := g.bind(ctx, a, u, o, port, limit); err != nil {
			return nil, err
		}
		return g.kb, g.kb.AwaitWatcher(ctx, limit)
	}
	if o.PowerOn {
		limit := a.upTo(powerOnLimit)
		defer a.reminding(func() { a.progress("waiting for the host to be switched on, %s at most", limit) })()
		// No pause after it: firmware listens for a moment only.
		err := g.bind(ctx, a, u, o, port, limit)
		return g.kb, err
	}
	for try := 1; ; try++ {
		err = g.bind(ctx, a, u, o, port, a.upTo(hostLimit))
		if err == nil || try == 2 || !errors.Is(err, hid.ErrNoHost) {
			break
		}
		a.progress("no host has taken the keyboard yet: plugging it in a second time")
		// Nothing was sent, so there is nothing that a second time could double. Some
		// hosts lose a keyboard that comes back at once.
		if err = g.unbind(ctx); err == nil {
			err = pause(ctx, rebindPause)
		}
		if err != nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if o.Settle < 0 {
		return g.kb, nil
	}
	if _, err := g.kb.AwaitLights(ctx, a.upTo(lightsLimit)); err != nil {
		return nil, err
	}
	return g.kb, pause(ctx, o.Settle)
}

// udevLimit is how long udev may take to hand the device to the group; a Pi that
// is busy with other rules needs about a second.
const udevLimit = 5 * time.Second

// bind shows the keyboard to the host and waits for the host to take it, up to
// the limit.
func (g *usbKeyboard) bind(ctx context.Context, a *app, u keyboardPlace, o keyboardOptions, port string, limit time.Duration) error {
	g.bound = true // as far as anybody can tell from here on
	if _, err := g.sys.Bind(ctx, "", port); err != nil {
		return err
	}
	node, err := g.sys.WaitNode(ctx, "", a.upTo(nodeLimit))
	if err != nil {
		return err
	}
	if node != u.path {
		return hintf(usagef("this machine's keyboard is %s", node), "--keyboard %s", node)
	}
	if g.kb != nil {
		g.kb.Close()
	}
	var away time.Duration
	if o.PowerOn {
		away = a.upTo(firmwareGap)
	}
	for end := time.Now().Add(udevLimit); ; {
		g.kb, err = g.open(g.sys.Root+node, hid.Options{
			Deadline: a.within(o, hid.DefaultDeadline),
			Flush:    g.unbind,
			Guard:    g.dog.alive,
			Away:     away,
		})
		// The kernel makes the device for root, at each bind. The group gets it from
		// udev, some milliseconds later.
		if !errors.Is(err, fs.ErrPermission) || os.Geteuid() == 0 || !time.Now().Before(end) {
			break
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return g.kb.WaitReady(ctx, limit)
}

func (g *usbKeyboard) unbind(ctx context.Context) error {
	if err := g.sys.Unbind(ctx, ""); err != nil {
		return err
	}
	g.bound = false
	return nil
}

// close undoes start, as far as that has come. Keys that could not be released
// are no fault where the keyboard could be unbound: the host then takes it for
// unplugged, and releases them.
func (g *usbKeyboard) close(a *app) error {
	ctx, cancel := context.WithTimeout(context.Background(), watchdogWork)
	defer cancel()
	var released, unbound error
	if g.kb != nil {
		released = g.kb.Close()
	}
	if g.bound {
		if unbound = g.unbind(ctx); unbound != nil {
			unbound = errors.Join(released, fmt.Errorf("the host still sees the keyboard: %w", unbound))
		}
	}
	if g.dog != nil {
		if unbound == nil {
			g.dog.stop()
		} else {
			g.dog.pipe.Close() // let it try
		}
		signal.Reset(stopSignals...)
		a.leaving("")
	}
	if g.lock != nil {
		g.lock.release()
	}
	return unbound
}
