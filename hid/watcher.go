package hid

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrNoWatcher: nobody at the host's end of the cable gave the sign.
var ErrNoWatcher = errors.New("no watcher has switched its lights")

// WatcherHold is how long each state of the watcher's sign stays: a gadget
// without an OUT endpoint keeps only the last lights, and its reader may be late.
const WatcherHold = 100 * time.Millisecond

// WatcherSign returns the lights by which a program that watches the cable says
// that it has taken the keyboard from its machine: Scroll Lock on and off, twice.
// No host does that by itself when it finds a keyboard.
func WatcherSign() []LEDs { return []LEDs{ScrollLock, 0, ScrollLock, 0} }

// watcherWithin is the longest time for the whole sign, so that lights that
// somebody switched by hand over minutes do not add up to one.
const watcherWithin = 5 * time.Second

// AwaitWatcher returns once a watcher has given its sign. It sends nothing. The
// error wraps ErrNoWatcher.
func (k *Keyboard) AwaitWatcher(ctx context.Context, limit time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var offs []time.Time // when Scroll Lock's light went out
	was := k.lights & ScrollLock
	sign := func() bool {
		if now := k.lights & ScrollLock; now != was {
			if was = now; now == 0 {
				offs = append(offs, time.Now())
			}
		}
		n := len(offs)
		return n >= 2 && offs[n-1].Sub(offs[n-2]) <= watcherWithin
	}
	err := k.awaitLEDs(ctx, limit, sign)
	if errors.Is(err, ErrNoEcho) {
		err = fmt.Errorf("after %s, %w", limit, ErrNoWatcher)
	}
	if err != nil {
		return fmt.Errorf("waiting for a watcher: %w", err)
	}
	return nil
}
