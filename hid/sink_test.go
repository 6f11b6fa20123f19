package hid

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// console is a sink that keeps what it takes and answers lock keys.
type console struct {
	got    []Report
	lights LEDs
	silent bool  // shows no lights
	fail   error // what Take answers from now on
	keys   Decoder
}

func (c *console) Take(ctx context.Context, r Report) error {
	if c.fail != nil {
		return c.fail
	}
	if _, ok := ctx.Deadline(); !ok {
		return errors.New("a report without a deadline")
	}
	c.got = append(c.got, r)
	for _, e := range c.keys.Decode(r) {
		if e.Down {
			c.lights ^= lockLights[e.Key]
		}
	}
	return nil
}

func (c *console) Lights() (LEDs, bool) { return c.lights, !c.silent }

func TestSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &console{lights: CapsLock}
		k := NewKeyboard(c, Options{})
		if n, err := k.Type(t.Context(), chordsOf(t, "A SHIFT+B"), Pace{}); err != nil || n != 6 || k.Delivered() != 6 {
			t.Errorf("%d reports, %d delivered, %v", n, k.Delivered(), err)
		}
		if got, known := k.LEDs(); got != CapsLock || !known {
			t.Errorf("lights %03b, known: %v", got, known)
		}
		if err := k.Probe(t.Context(), KeyNumLock, time.Second); err != nil || c.lights != CapsLock {
			t.Errorf("lights %03b after a probe, %v", c.lights, err)
		}
		if err := k.SetCapsLock(t.Context(), false, time.Second); err != nil || c.lights != 0 {
			t.Errorf("lights %03b, %v", c.lights, err)
		}
		c.silent = true
		k = NewKeyboard(c, Options{})
		if err := k.Probe(t.Context(), KeyNumLock, time.Second); !errors.Is(err, ErrNoEcho) {
			t.Errorf("no lights: %v", err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A sink's word on where a report is goes through unchanged.
func TestSinkStates(t *testing.T) {
	c := &console{}
	k := NewKeyboard(c, Options{})
	c.fail = &DeliveryError{State: Refused, Err: ErrNoHost}
	wantState(t, k.Send(t.Context(), Report{2: 4}), Refused, false, ErrNoHost)
	c.fail = nil
	if err := k.Send(t.Context(), Report{2: 4}); err != nil {
		t.Errorf("after a refused report: %v", err)
	}
	c.fail = os.ErrDeadlineExceeded
	wantState(t, k.Send(t.Context(), Report{}), Pending, false, os.ErrDeadlineExceeded)
	c.fail = nil
	wantState(t, k.Send(t.Context(), Report{2: 5}), Refused, false, os.ErrDeadlineExceeded)
	if err := k.Close(); err != nil || c.got[len(c.got)-1] != (Report{}) {
		t.Errorf("closing did not release: %v, %v", c.got, err)
	}
	if k.Delivered() != 2 {
		t.Errorf("%d delivered, want the key and the release at the end", k.Delivered())
	}
}

// Without its guard nothing is pressed, and what is down can still be released.
func TestGuard(t *testing.T) {
	c := &console{}
	var gone error
	k := NewKeyboard(c, Options{Guard: func() error { return gone }})
	if err := k.Send(t.Context(), Report{2: 4}); err != nil {
		t.Fatal(err)
	}
	gone = errors.New("nobody is on guard")
	wantState(t, k.Send(t.Context(), Report{2: 5}), Refused, false, gone)
	if err := k.Close(); err != nil || hexes(c.got) != "0000040000000000 0000000000000000" {
		t.Errorf("got %s, %v", hexes(c.got), err)
	}
}

// Modifiers that are a chord by themselves are held as long as a key is.
func TestHoldOfModifiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := NewKeyboard(&console{}, Options{})
		start := time.Now()
		if _, err := k.Type(t.Context(), chordsOf(t, "ALT SHIFT+A"), Pace{Hold: time.Second, Lead: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2*time.Second+2*time.Millisecond {
			t.Errorf("took %s, want two holds, and a lead and a lag", took)
		}
	})
}

func TestAwaitWatcher(t *testing.T) {
	sign := WatcherSign()
	for name, tc := range map[string]struct {
		lights []LEDs
		every  time.Duration
		want   bool
	}{
		"the sign":            {sign, WatcherHold, true},
		"beside other lights": {[]LEDs{NumLock, NumLock | ScrollLock, NumLock, NumLock | ScrollLock, NumLock}, WatcherHold, true},
		"a new keyboard's":    {[]LEDs{0, NumLock, NumLock | CapsLock, 0}, WatcherHold, false},
		"once":                {sign[:2], WatcherHold, false},
		"half way":            {sign[:3], WatcherHold, false},
		"by hand":             {sign, 4 * time.Second, false},
		"nothing":             {nil, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := &fakeGadget{}
			start := time.Now()
			for i, b := range tc.lights {
				g.out = append(g.out, ledOut{start.Add(tc.every * time.Duration(i+1)), b})
			}
			k := newKeyboard(g, Options{})
			err := k.AwaitWatcher(t.Context(), 30*time.Second)
			if tc.want != (err == nil) || !tc.want && !errors.Is(err, ErrNoWatcher) {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(start); tc.want && took > time.Duration(len(tc.lights)+1)*tc.every {
				t.Errorf("%s: seen only after %s", name, took)
			}
			if g.writes != 0 {
				t.Errorf("%s: something was sent", name)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newKeyboard(&fakeGadget{}, Options{}).AwaitWatcher(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "switched") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAwaitLights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		g := &fakeGadget{out: []ledOut{{start.Add(300 * time.Millisecond), 0}}}
		k := newKeyboard(g, Options{})
		if seen, err := k.AwaitLights(t.Context(), time.Second); !seen || err != nil || time.Since(start) > 400*time.Millisecond {
			t.Errorf("seen: %v after %s, %v", seen, time.Since(start), err)
		}
		start = time.Now()
		k = newKeyboard(&fakeGadget{}, Options{})
		if seen, err := k.AwaitLights(t.Context(), time.Second); seen || err != nil || time.Since(start) < time.Second {
			t.Errorf("seen: %v after %s, %v", seen, time.Since(start), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := k.AwaitLights(ctx, time.Second); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
