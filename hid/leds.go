package hid

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// LEDs is the set of lights that a host has switched on (HID Usage Tables, page
// 8, in the bits of the boot protocol's output report, HID 1.11 appendix B.1).
type LEDs byte

// The lights of the lock keys.
const (
	NumLock LEDs = 1 << iota
	CapsLock
	ScrollLock
)

// ErrNoEcho: the host did not answer a lock key with its light.
var ErrNoEcho = errors.New("the host did not switch the light")

// LEDs returns the lights as the host set them last, and whether it ever did
// since the keyboard was opened. Hosts set them after they found the keyboard,
// and some never.
func (k *Keyboard) LEDs() (lights LEDs, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drain()
	return k.lights, k.known
}

// lightsAtOnce is LEDs for who does not want to wait for a Type under way: then
// nothing is known.
func (k *Keyboard) lightsAtOnce() (lights LEDs, known bool) {
	if !k.mu.TryLock() {
		return 0, false
	}
	defer k.mu.Unlock()
	k.drain()
	return k.lights, k.known
}

// AwaitLights returns whether the host has set the lights, once it has or when
// the time is up. Hosts that do set them begin when their driver has found the
// keyboard: before that, a report may be fetched and still not become a key.
func (k *Keyboard) AwaitLights(ctx context.Context, limit time.Duration) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.awaitLEDs(ctx, limit, func() bool { return true })
	if errors.Is(err, ErrNoEcho) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("waiting for the host's lights: %w", err)
	}
	return true, nil
}

// drain reads every output report that has come. The gadget may hold several, or
// with no_out_endpoint only the last.
func (k *Keyboard) drain() {
	const most = 64 // a host cannot keep us here
	for range most {
		b, err := k.dev.read()
		if err != nil {
			return
		}
		k.lights, k.known = LEDs(b), true
	}
}

// awaitLEDs waits for lights of which ok is true.
func (k *Keyboard) awaitLEDs(ctx context.Context, within time.Duration, ok func() bool) error {
	// A device without a host can call itself readable and have nothing to read.
	const slice, pause = 20 * time.Millisecond, time.Millisecond
	for deadline := time.Now().Add(within); ; {
		k.drain()
		if k.known && ok() {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return ErrNoEcho
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		ready, err := k.dev.wait(readable, min(slice, left))
		if err != nil {
			return err
		}
		if ready {
			time.Sleep(pause)
		}
	}
}

var lockLights = map[Usage]LEDs{KeyNumLock: NumLock, KeyCapsLock: CapsLock, KeyScroll: ScrollLock}

// Probe asks the host for a sign of life: it taps a lock key, expects its light to
// change within the given time, and does both again, so that the lock ends as it
// was. Where lights were unknown this is done twice, as the host's first answer
// may be what it says to every new keyboard. Where the host never answers, the
// key has still been tapped twice, and the error wraps ErrNoEcho. KeyNumLock
// changes least: Scroll Lock stops the output of a Linux console.
func (k *Keyboard) Probe(ctx context.Context, lock Usage, within time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.probe(ctx, lock, within)
}

func (k *Keyboard) probe(ctx context.Context, lock Usage, within time.Duration) error {
	light, ok := lockLights[lock]
	if !ok {
		return fmt.Errorf("probing the host: %s is no lock key", lock)
	}
	k.drain()
	rounds := 1
	if !k.known {
		rounds = 2
	}
	for range rounds {
		learning := !k.known
		var first error
		for tap := range 2 {
			tapCtx := ctx
			if tap == 1 {
				tapCtx = context.WithoutCancel(ctx) // the lock must not stay inverted
			}
			before := k.lights & light
			if learning {
				k.known = false
			}
			err := k.tap(tapCtx, lock)
			if err != nil {
				return fmt.Errorf("probing the host: %w", errors.Join(first, err))
			}
			err = k.awaitLEDs(tapCtx, within, func() bool { return learning || k.lights&light != before })
			if err != nil && first == nil {
				first = fmt.Errorf("%s: %w", lock, err)
			}
		}
		if first != nil {
			return fmt.Errorf("probing the host: %w", first)
		}
	}
	return nil
}

// tap presses and releases a key; whatever happens, nothing stays down that can
// be released.
func (k *Keyboard) tap(ctx context.Context, key Usage) (err error) {
	defer func() { err = errors.Join(err, k.release(ctx)) }()
	if k.far() != nil {
		_, err := k.play(ctx, []Report{{2: byte(key)}, {}}, Pace{Hold: DefaultHold})
		return err
	}
	if err := k.send(ctx, Report{2: byte(key)}); err != nil {
		return err
	}
	return k.send(context.WithoutCancel(ctx), Report{})
}

// SetCapsLock switches Caps Lock on or off by what its light says. A host that
// has never set its lights is asked by tapping the key; if it does not answer,
// the key is tapped back and the error wraps ErrNoEcho: what Caps Lock is then
// stays unknown, and a password might arrive inverted.
func (k *Keyboard) SetCapsLock(ctx context.Context, on bool, within time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drain()
	if !k.known {
		if err := k.probe(ctx, KeyCapsLock, within); err != nil {
			return fmt.Errorf("setting Caps Lock: %w", err)
		}
	}
	is := func() bool { return (k.lights&CapsLock != 0) == on }
	if is() {
		return nil
	}
	err := k.tap(ctx, KeyCapsLock)
	if err == nil {
		err = k.awaitLEDs(context.WithoutCancel(ctx), within, is)
	}
	if err != nil {
		return fmt.Errorf("setting Caps Lock: %w", err)
	}
	return nil
}
