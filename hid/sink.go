package hid

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sink takes reports where there is no gadget: a simulated console, a virtual
// machine, a keyboard at another machine.
type Sink interface {
	// Take hands one report to the host and returns nil once the host has it. A
	// *DeliveryError whose State is Refused says that it has not arrived and will
	// not; after any other error it may have. ctx ends at the keyboard's deadline.
	Take(ctx context.Context, r Report) error
	// Lights returns the host's lights as far as they are known, without asking.
	Lights() (lights LEDs, known bool)
}

// NewKeyboard types into a sink. Closing the keyboard leaves the sink open.
func NewKeyboard(s Sink, o Options) *Keyboard {
	d := &sinkDevice{sink: s}
	k := newKeyboard(d, o)
	d.deadline = k.opts.Deadline
	return k
}

// sinkDevice is a sink as a device: what Take tells at once comes out of write
// and wait, where a gadget's endpoint tells it.
type sinkDevice struct {
	sink     Sink
	deadline time.Duration
	failed   error // the last report may have arrived
	lights   LEDs
	known    bool // lights were read
}

func (d *sinkDevice) write(r Report) error {
	ctx, cancel := context.WithTimeout(context.Background(), d.deadline)
	defer cancel()
	d.failed = d.sink.Take(ctx, r)
	var refused *DeliveryError
	if errors.As(d.failed, &refused) && refused.State == Refused {
		d.failed = nil
		return refused.Err
	}
	return nil
}

func (d *sinkDevice) fresh() (LEDs, bool) {
	now, known := d.sink.Lights()
	return now, known && (!d.known || now != d.lights)
}

func (d *sinkDevice) read() (byte, error) {
	now, fresh := d.fresh()
	if !fresh {
		return 0, errAgain
	}
	d.lights, d.known = now, true
	return byte(now), nil
}

func (d *sinkDevice) wait(what direction, limit time.Duration) (bool, error) {
	if what == writable {
		return d.failed == nil, d.failed
	}
	const slice = time.Millisecond // lights can change between two reports
	for end := time.Now().Add(limit); ; time.Sleep(slice) {
		if _, fresh := d.fresh(); fresh {
			return true, nil
		}
		if !time.Now().Before(end) {
			return false, nil
		}
	}
}

func (d *sinkDevice) close() error { return nil }

// farSink is a sink at another machine. It is given all reports of a key in one
// go, and keeps the pauses between them: on a slow connection a key would stay
// down until the host repeats it.
type farSink interface {
	Sink
	// Play returns how many reports the host has taken. Its errors are Take's.
	Play(ctx context.Context, reports []Report, p Pace) (int, error)
}

// far returns the keyboard's far sink, nil for any other keyboard.
func (k *Keyboard) far() farSink {
	if d, ok := k.dev.(*sinkDevice); ok {
		far, _ := d.sink.(farSink)
		return far
	}
	return nil
}

// Far says that the keyboard is at another machine, so that reports which belong
// together are better given to Play than to Send.
func (k *Keyboard) Far() bool { return k.far() != nil }

// playFar plays key by key: at most one is on its way.
func (k *Keyboard) playFar(ctx context.Context, far farSink, reports []Report, p Pace) (n int, err error) {
	for n < len(reports) {
		end := n
		for end < len(reports)-1 && reports[end] != (Report{}) {
			end++
		}
		key := reports[n : end+1]
		if err := k.may(ctx, key[0]); err != nil {
			return n, fmt.Errorf("typing report %d of %d: %w", n+1, len(reports), &DeliveryError{State: Refused, Err: err})
		}
		// Each report has the deadline, and the pauses take their time.
		limit := time.Duration(len(key))*(k.opts.Deadline+max(p.Hold, p.Lead)) + p.Gap
		until := context.WithoutCancel(ctx) // the answer of a tapped key is worth the wait
		if p.Hold >= time.Second {
			until = ctx // an end to it closes the connection, and that releases the key
		}
		playCtx, cancel := context.WithTimeout(until, limit)
		taken, err := far.Play(playCtx, key, p)
		cancel()
		n += taken
		k.delivered.Add(int64(taken))
		var d *DeliveryError
		switch {
		case err == nil:
			continue
		case errors.As(err, &d) && d.State == Refused:
			k.down = k.down || taken > 0 && key[taken-1] != Report{}
		default:
			k.down = true
			err = k.pend(ctx, err)
		}
		return n, fmt.Errorf("typing report %d of %d: %w", n+1, len(reports), err)
	}
	return n, nil
}
