package hid

import (
	"context"
	"errors"
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
