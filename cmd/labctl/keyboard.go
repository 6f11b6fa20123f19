package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/hid"
)

// keyboard is an opened keyboard, whatever is behind it. Its own methods are
// those of hid.Keyboard: Send, Type, LEDs, Probe, SetCapsLock and the rest.
type keyboard struct {
	*hid.Keyboard
	Name   string    // its URI
	Model  *simModel // the console behind sim:, else nil
	finish func() error

	// Picture keeps what the host's screen shows, under a name without its ending.
	// It is nil where no pictures are to be had, or wanted.
	Picture func(ctx context.Context, name string) error

	once   sync.Once
	closed error
}

// Close releases every key, hides the keyboard from the host and gives its lock
// back. It works after the end of the command's context too. A second Close does
// nothing: by then another run may have the keyboard.
func (k *keyboard) Close() error {
	k.once.Do(func() { k.closed = k.finish() })
	return k.closed
}

// keyboardOptions are what a command wants from a keyboard. Only URI is needed.
type keyboardOptions struct {
	URI     string
	Command string        // who holds the lock, as in "hid type"
	Settle  time.Duration // pause after the host has found the keyboard; 0 means defaultSettle, less than 0 none
	Watcher bool          // send nothing before a watcher's sign
	PowerOn bool          // wait for the host to be switched on: the keys are for its firmware
	Root    string        // before all paths of the gadget, in tests

	Screens  string        // folder for pictures of the screen, where there are any; "" keeps none
	Guarded  bool          // a watchdog too where none is needed as a rule: behind sim://
	Deadline time.Duration // for the host to take a report, where that is less than usual; 0 means as usual

	// Of the console behind sim: only.
	Facts    map[string]string
	Password *esxi.Secret // of root, which may be empty; nil: the model's own
}

// Waits for a keyboard. A host takes some tenths of a second to find one (0.4 s
// were measured on Linux), 4 s and more when it wakes up for it.
const (
	hostLimit     = 4 * time.Second
	nodeLimit     = 2 * time.Second // for the device file; 13 ms were measured
	rebindPause   = time.Second     // a host has to notice that the keyboard has gone
	lightsLimit   = 2 * time.Second // for the driver to set the lights, as a sign that it is there
	defaultSettle = time.Second     // from then until its reports become keys for certain
	watcherLimit  = 2 * time.Minute // for a person to start the watcher
	powerOnLimit  = 2 * time.Minute // for a person to press the button
	firmwareGap   = 5 * time.Second // in which firmware hands the keyboard from one of its drivers to the next
)

// keyboardPlace is a parsed --keyboard.
type keyboardPlace struct {
	text string
	kind string // gadget, model, labsim, ssh or vm
	path string // of the gadget's device file
	addr string // host:port of labsim; port of ssh, "" for that of its config
	host string // whose console in labsim; the machine of the keyboard; the host of the virtual machine
	user string // there
	vm   string // its name
}

// keyboardForms are the URIs that this labctl knows.
const keyboardForms = "/dev/hidg0, ssh://[user@]pi, vm://HOST/VM, sim: and sim://ADDR:PORT/HOST"

// parseKeyboardURI reads a URI without touching what it names. The error has
// exit code 2.
func parseKeyboardURI(text string) (keyboardPlace, error) {
	k := keyboardPlace{text: text}
	bad := func(why string, args ...any) (keyboardPlace, error) {
		return k, hintf(usagef("keyboard %s: %s", text, fmt.Sprintf(why, args...)), "known are %s", keyboardForms)
	}
	if text == "" {
		return k, hintf(usagef("no keyboard is named"), "known are %s", keyboardForms)
	}
	if text == "sim:" {
		k.kind = "model"
		return k, nil
	}
	if strings.HasPrefix(text, "/") {
		k.kind, k.path = "gadget", text
		if !strings.HasPrefix(text, "/dev/hidg") {
			return bad("it is no keyboard gadget's device file")
		}
		return k, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return k, hintf(usagef("a keyboard that is no URI"), "known are %s", keyboardForms) // it may hold a password
	}
	k.text = u.Redacted()
	text = k.text
	switch u.Scheme {
	case "sim":
		k.kind, k.addr, k.host = "labsim", u.Host, strings.Trim(u.Path, "/")
		if _, port, err := net.SplitHostPort(u.Host); err != nil || port == "" || u.User != nil {
			return bad("want the control address of labsim, as in sim://127.0.0.1:8989/nuc01")
		}
		if k.host == "" || strings.Contains(k.host, "/") {
			return bad("want the name of one host behind the address, as in sim://%s/nuc01", u.Host)
		}
		return k, nil
	case "ssh":
		if err := parseSSH(&k, u); err != nil {
			return bad("%s", err)
		}
		return k, nil
	case "vm":
		if err := parseVM(&k, u); err != nil {
			return bad("%s", err)
		}
		return k, nil
	}
	return bad("it is of no known kind")
}

// openKeyboard opens a keyboard for one run: no other labctl has it, the host
// takes its reports, and nothing has been typed. The caller closes it.
func (a *app) openKeyboard(ctx context.Context, o keyboardOptions) (*keyboard, error) {
	u, err := parseKeyboardURI(o.URI)
	if err != nil {
		return nil, err
	}
	if o.Watcher && u.kind != "gadget" && u.kind != "ssh" {
		return nil, usagef("keyboard %s has no cable that somebody could watch", u.text)
	}
	if o.PowerOn && u.kind != "gadget" {
		err := usagef("keyboard %s: only this machine's USB keyboard can wait for a host to be switched on", u.text)
		if u.kind == "ssh" {
			return nil, hintf(err, "run labctl on %s itself: ssh -t %s", u.host, u.host)
		}
		return nil, err
	}
	switch o.Settle = cmp.Or(o.Settle, defaultSettle); u.kind {
	case "model":
		return openModel(u, o)
	case "labsim":
		return a.openLabsim(ctx, u, o)
	case "ssh":
		return a.openSSH(ctx, u, o)
	case "vm":
		return a.openVM(ctx, u, o)
	}
	return a.openGadget(ctx, u, o)
}

// upTo caps a wait with --timeout.
func (a *app) upTo(limit time.Duration) time.Duration {
	if t := a.set.Timeout; t > 0 {
		return min(t, limit)
	}
	return limit
}

// within is upTo, and what the keyboard's user asks for.
func (a *app) within(o keyboardOptions, limit time.Duration) time.Duration {
	if o.Deadline > 0 {
		limit = min(limit, o.Deadline)
	}
	return a.upTo(limit)
}

// pause waits for d unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keysFault gives an error of typing its exit code, by what the keyboard knows:
// 5 where the host has taken nothing, 6 where it took a report or may have. An
// interrupted run keeps its own code.
func keysFault(k *keyboard, err error) error {
	var lost *hid.DeliveryError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &lost) && lost.State == hid.Pending:
		return exitWith(exitChanged, err)
	case k.Delivered() > 0:
		return exitWith(exitChanged, err)
	}
	return exitWith(exitUnchanged, err)
}
