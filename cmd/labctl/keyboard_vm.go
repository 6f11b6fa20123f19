package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/labctl/labctl/esxi"
	"github.com/labctl/labctl/hid"
)

// parseVM reads vm://HOST/VMNAME.
func parseVM(k *keyboardPlace, u *url.URL) error {
	k.kind, k.host, k.vm = "vm", u.Host, strings.Trim(u.Path, "/")
	if k.host == "" || k.vm == "" || strings.Contains(k.vm, "/") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("want a host of the config and the name of a virtual machine on it, as in vm://nuc01/nested-esxi")
	}
	return nil
}

// machineKeys types into a virtual machine through its host's API. The API has
// whole keys only: what a report lets go of is up already.
type machineKeys struct {
	client *esxi.Client
	vm     types.ManagedObjectReference

	mu   sync.Mutex
	keys hid.Decoder
}

// wholeKeys refuses chords that the API of a virtual machine cannot type: it has
// whole keys only, and lets go of everything after each. Other keyboards can type
// any. The error does not say which: that may be a character of a secret.
func wholeKeys(uri string, chords []hid.Chord) error {
	u, err := parseKeyboardURI(uri)
	if err != nil || u.kind != "vm" {
		return err
	}
	for _, c := range chords {
		switch {
		case c.Key == 0:
			return usagef("keyboard %s cannot tap a modifier alone: the API of a virtual machine has it only together with a key", u.text)
		case c.Keep:
			return usagef("keyboard %s cannot type a code on the keypad: Alt would have to stay down, and the API of a virtual machine lets go of it after each key", u.text)
		}
	}
	return nil
}

// Take types the keys that a report adds to the one before.
func (m *machineKeys) Take(ctx context.Context, r hid.Report) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.keys
	var down []hid.Usage
	for _, e := range m.keys.Decode(r) {
		if e.Down && e.Key < firstModifierUsage {
			down = append(down, e.Key)
		}
	}
	refused := func(err error) error {
		m.keys = before
		return &hid.DeliveryError{State: hid.Refused, Err: err}
	}
	switch {
	case len(down) == 0:
		return nil
	case len(down) > 1:
		return refused(errors.New("the API of a virtual machine takes one key at a time"))
	case r.Mods() == hid.Alt && (down[0] >= hid.KeyKP1 && down[0] <= hid.KeyKP0):
		return refused(errors.New("a number on the keypad needs Alt to stay down, and the API lets go of it after each key"))
	}
	err := esxi.PutKey(ctx, m.client.Vim, m.vm, byte(down[0]), byte(r.Mods()))
	if err != nil && !errors.Is(err, esxi.ErrKeyUnanswered) {
		return refused(err)
	}
	return err
}

// firstModifierUsage begins the eight modifier keys (HID Usage Tables 1.12, page 7).
const firstModifierUsage hid.Usage = 0xe0

// Lights are not to be had: the API shows none.
func (m *machineKeys) Lights() (hid.LEDs, bool) { return 0, false }

// machineDeadline is for one key, through a server that may be busy. After a lost
// one nothing more is typed.
const machineDeadline = 5 * time.Second

// openVM opens the keyboard of a virtual machine, as a nested ESXi host is one.
func (a *app) openVM(ctx context.Context, u keyboardPlace, o keyboardOptions) (_ *keyboard, err error) {
	t, err := a.target(u.host)
	if err != nil {
		return nil, err
	}
	dir, err := a.stateDir("locks")
	if err != nil {
		return nil, err
	}
	lock, err := a.lockKeyboard(ctx, []string{dir}, "keyboard "+u.text, o.Command)
	if err != nil {
		return nil, err
	}
	e := t.ESXi
	if e == nil {
		e = t.VCenter
	}
	c, err := esxi.Dial(ctx, e)
	if err != nil {
		lock.release()
		return nil, fmt.Errorf("opening keyboard %s: %w", u.text, err)
	}
	vm, err := findMachine(ctx, c, t, u.vm)
	if err != nil {
		a.logout(ctx, c)
		lock.release()
		return nil, fmt.Errorf("opening keyboard %s: %w", u.text, err)
	}
	kb := hid.NewKeyboard(&machineKeys{client: c, vm: vm.Reference()}, hid.Options{Deadline: a.upTo(machineDeadline)})
	k := &keyboard{Keyboard: kb, Name: u.text, finish: func() error {
		defer lock.release()
		defer a.logout(context.Background(), c)
		return kb.Close()
	}}
	if o.Screens != "" {
		k.Picture = func(ctx context.Context, name string) error {
			return a.keepScreen(ctx, c, vm.Reference(), filepath.Join(o.Screens, name+".png"))
		}
	}
	return k, nil
}

// findMachine finds the one virtual machine of that name on the target's host.
func findMachine(ctx context.Context, c *esxi.Client, t *target, name string) (*object.VirtualMachine, error) {
	host, err := c.FindHost(ctx, t.wanted())
	if err != nil {
		return nil, err
	}
	var h mo.HostSystem
	pc := property.DefaultCollector(c.Vim)
	if err := pc.RetrieveOne(ctx, host.Reference(), []string{"vm"}, &h); err != nil {
		return nil, fmt.Errorf("read the machines of host %s: %w", t.Name, err)
	}
	var all []mo.VirtualMachine
	if len(h.Vm) > 0 {
		if err := pc.Retrieve(ctx, h.Vm, []string{"name", "runtime.powerState"}, &all); err != nil {
			return nil, fmt.Errorf("read the machines of host %s: %w", t.Name, err)
		}
	}
	var found []mo.VirtualMachine
	var names []string
	for _, v := range all {
		if v.Name == name {
			found = append(found, v)
		}
		names = append(names, v.Name)
	}
	switch {
	case len(found) == 0:
		err := usagef("host %s has no virtual machine %s", t.Name, name)
		if near := nearest(name, names); near != "" {
			return nil, hintf(err, "did you mean %s?", near)
		}
		return nil, err
	case len(found) > 1:
		return nil, usagef("host %s has %d virtual machines called %s", t.Name, len(found), name)
	case found[0].Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn:
		return nil, hintf(exitWith(exitUnchanged, fmt.Errorf("%s is not running: %s", name, found[0].Runtime.PowerState)), "a machine takes keys only while it runs")
	}
	return object.NewVirtualMachine(c.Vim, found[0].Self), nil
}

// screenLimit is for one picture: the server draws it on request.
const screenLimit = 5 * time.Second

// screenBytes bounds a picture: that of a console has a few kilobytes.
const screenBytes = 16 << 20

// keepScreen stores what the machine's screen shows, as the API's /screen draws it.
func (a *app) keepScreen(ctx context.Context, c *esxi.Client, vm types.ManagedObjectReference, path string) error {
	ctx, cancel := context.WithTimeout(ctx, a.upTo(screenLimit))
	defer cancel()
	u := *c.Endpoint().URL
	u.Path, u.RawQuery, u.User = "/screen", url.Values{"id": {vm.Value}}.Encode(), nil
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("taking a picture of the screen: %w", err)
	}
	res, err := c.Vim.Client.Client.Do(req)
	if err != nil {
		return fmt.Errorf("taking a picture of the screen: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("taking a picture of the screen: the server answers %s", res.Status)
	}
	png, err := io.ReadAll(io.LimitReader(res.Body, screenBytes))
	if err != nil {
		return fmt.Errorf("taking a picture of the screen: %w", err)
	}
	// Others have no business with a console.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keeping a picture of the screen: %w", err)
	}
	if err := os.WriteFile(path, png, 0o600); err != nil {
		return fmt.Errorf("keeping a picture of the screen: %w", err)
	}
	return nil
}
