package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/labctl/labctl/hid"
	"github.com/labctl/labctl/recipes/dcui"
)

// simModel is the console behind sim:, a world of the DCUI model that takes
// reports as a host does.
type simModel struct {
	mu    sync.Mutex
	world dcui.World
	keys  dcui.Receiver
}

// World returns the console as the keys so far have left it.
func (m *simModel) World() dcui.World {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.world
}

// Take presses what a report adds to the one before.
func (m *simModel) Take(_ context.Context, r hid.Report) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.keys.Take(r) {
		m.world = m.world.Press(c)
	}
	return nil
}

// Lights are always known: a host that finds a keyboard sets them.
func (m *simModel) Lights() (hid.LEDs, bool) { return hid.LEDs(m.World().LEDs()), true }

func openModel(u keyboardPlace, o keyboardOptions) (*keyboard, error) {
	w, err := dcui.NewWorld(o.Facts)
	if err != nil {
		return nil, usagef("%w", err)
	}
	if o.Password != nil {
		w = w.SetPassword(o.Password.Reveal())
	}
	m := &simModel{world: w}
	kb := hid.NewKeyboard(m, hid.Options{})
	return &keyboard{Keyboard: kb, Name: u.text, Model: m, finish: kb.Close}, nil
}

// labsimConsole types into a console of labsim, by its control address.
type labsimConsole struct {
	http *http.Client
	url  string // of the console

	mu     sync.Mutex
	lights hid.LEDs
}

// labsimAnswer is what labsim says of a console: after a report LEDs and Screen.
type labsimAnswer struct {
	LEDs   byte     `json:"leds"`
	Screen string   `json:"screen"`
	Text   []string `json:"text"`
	Error  string   `json:"error"`
}

// ask returns labsim's answer. An error is a *hid.DeliveryError of State Refused
// where the request has certainly not been carried out.
func (c *labsimConsole) ask(ctx context.Context, method, path, body string) (*labsimAnswer, error) {
	refused := func(err error) error { return &hid.DeliveryError{State: hid.Refused, Err: err} }
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, refused(err)
	}
	req.GetBody = nil // no second attempt by the transport: a key that may have landed is not sent again
	res, err := c.http.Do(req)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return nil, refused(fmt.Errorf("%w: %w", hid.ErrNoHost, dial))
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the rest is an address, and the method
		}
		return nil, fmt.Errorf("labsim gave no answer: %w", err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("labsim's answer broke off: %w", err)
	}
	var answer labsimAnswer
	if err := json.Unmarshal(raw, &answer); err != nil {
		answer.Error = "it answers " + res.Status
		if res.StatusCode == http.StatusOK {
			return nil, errors.New("labsim's answer is no JSON")
		}
	}
	switch {
	case res.StatusCode == http.StatusOK:
		c.mu.Lock()
		c.lights = hid.LEDs(answer.LEDs)
		c.mu.Unlock()
		return &answer, nil
	case res.StatusCode < http.StatusInternalServerError, res.StatusCode == http.StatusServiceUnavailable:
		return nil, refused(fmt.Errorf("labsim: %s", answer.Error))
	}
	return nil, fmt.Errorf("labsim: %s", answer.Error)
}

func (c *labsimConsole) Take(ctx context.Context, r hid.Report) error {
	_, err := c.ask(ctx, http.MethodPost, "/report", r.String())
	return err
}

func (c *labsimConsole) Lights() (hid.LEDs, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lights, true
}

// labsimDeadline is for one report. A lost one and two attempts to release its
// key stay below the 15 s in which a run that lost its host has to end.
const labsimDeadline = 3 * time.Second

func newLabsimConsole(u keyboardPlace) *labsimConsole {
	return &labsimConsole{
		// Straight to the address: a proxy of this machine is for other traffic.
		http: &http.Client{Transport: &http.Transport{}},
		url:  "http://" + u.addr + "/console/" + url.PathEscape(u.host),
	}
}

// openLabsim checks that the console is there. The first report releases what a
// run before this one may have left down.
func (a *app) openLabsim(ctx context.Context, u keyboardPlace, o keyboardOptions) (*keyboard, error) {
	dir, err := a.stateDir("locks")
	if err != nil {
		return nil, err
	}
	lock, err := a.lockKeyboard(ctx, []string{dir}, "keyboard "+u.text, o.Command)
	if err != nil {
		return nil, err
	}
	c := newLabsimConsole(u)
	openCtx, cancel := context.WithTimeout(ctx, a.upTo(2*labsimDeadline))
	defer cancel()
	if _, err = c.ask(openCtx, http.MethodGet, "", ""); err == nil {
		err = c.Take(openCtx, hid.Report{})
	}
	if err != nil {
		lock.release()
		var d *hid.DeliveryError
		if errors.As(err, &d) {
			err = d.Err
		}
		return nil, hintf(fmt.Errorf("opening keyboard %s: %w", u.text, err), "is labsim running, and is that its control address?")
	}
	options := hid.Options{Deadline: a.within(o, labsimDeadline)}
	stop := func() {}
	if o.Guarded {
		dog, err := a.startWatchdog(ctx, "", u.text, lock)
		if err != nil {
			lock.release()
			return nil, err
		}
		options.Guard, stop = dog.alive, dog.stop
	}
	kb := hid.NewKeyboard(c, options)
	return &keyboard{Keyboard: kb, Name: u.text, finish: func() error {
		defer lock.release()
		defer c.http.CloseIdleConnections()
		defer stop()
		return kb.Close()
	}}, nil
}
