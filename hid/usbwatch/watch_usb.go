//go:build usb && cgo

package usbwatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/gousb"

	"github.com/labctl/labctl/hid"
)

// Built says whether the program holds libusb.
const Built = true

// The gadget that labctl makes.
const (
	vendor  = gousb.ID(0x1d6b)
	product = gousb.ID(0x0104)
)

const (
	// lookPause lies between two looks for a keyboard. Each also takes up to the
	// 100 ms after which gousb notices that its context is to close.
	lookPause = 20 * time.Millisecond
	// claimWithin is for a device that is still being set up by this machine's
	// kernel: until then it cannot be taken.
	claimWithin = 3 * time.Second
	// inFlight transfers wait at the same time, so that reports which come while
	// this program does something else have a place.
	inFlight = 64
	// answerWithin is for one control request; USB 2.0, 9.2.6.4 allows 5 s, no
	// gadget takes that long.
	answerWithin = time.Second
)

// Requests of the HID class and the descriptor they are about (HID 1.11, 7.1, 7.2).
const (
	toInterface   = 0x21
	fromInterface = 0x81
	getDescriptor = 0x06
	setReport     = 0x09
	setIdle       = 0x0a
	setProtocol   = 0x0b
	outputReport  = 0x0200
	reportKind    = 0x2200
	longest       = 4096 // bytes of a report descriptor; Linux takes no more
)

// Watch looks for a gadget's keyboard, takes it from this machine's driver, plays
// a host to it and calls on for each event, from one goroutine, until it is gone;
// then it looks for the next. It returns nil when ctx ends. A keyboard is not
// given back to the driver: what it still types would go to the desktop, and
// labctl's gadget comes anew for each run.
func Watch(ctx context.Context, o Options, on func(Event)) error {
	for ctx.Err() == nil {
		k, err := find(ctx)
		if err != nil {
			return fmt.Errorf("looking for a USB keyboard: %w", err)
		}
		if k == nil {
			return nil
		}
		on(Event{Kind: EventFound, At: time.Now(), Device: &k.about, Findings: Lint(&k.about)})
		if !o.Lint {
			err = k.listen(ctx, on)
		}
		k.close()
		if o.Lint || ctx.Err() != nil {
			return nil
		}
		on(Event{Kind: EventGone, At: time.Now(), Err: err})
		if o.Once {
			return nil
		}
	}
	return nil
}

// keyboard is a device that was claimed.
type keyboard struct {
	usb    *gousb.Context
	dev    *gousb.Device
	config *gousb.Config
	iface  *gousb.Interface
	in     *gousb.InEndpoint
	out    *gousb.OutEndpoint // nil where lights go by the control endpoint
	packet int
	about  Device
}

// find returns the first keyboard that can be claimed, and nil when ctx ends.
func find(ctx context.Context) (*keyboard, error) {
	var since time.Time // when a device was there that could not be claimed
	for {
		// A context of its own for each look: where no udev tells libusb of changes,
		// one sees for ever what was there when it was made.
		k, seen, err := look()
		switch {
		case k != nil:
			return k, nil
		case err == nil || !seen:
			since = time.Time{}
		case errors.Is(err, ErrNotAllowed):
			return nil, err
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > claimWithin:
			return nil, err
		}
		if err != nil && !seen {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(lookPause):
		}
	}
}

// newContext starts libusb. Gousb panics where that fails.
func newContext() (c *gousb.Context, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("starting libusb: %v", p)
		}
	}()
	return gousb.NewContext(), nil
}

// look looks once. An error with seen is one of a gadget that is there.
func look() (_ *keyboard, seen bool, err error) {
	usb, err := newContext()
	if err != nil {
		return nil, false, err
	}
	devices, err := usb.OpenDevices(func(d *gousb.DeviceDesc) bool {
		is := d.Vendor == vendor && d.Product == product
		seen = seen || is
		return is
	})
	if len(devices) > 0 || !seen {
		err = nil // of a device that is none of ours, or went while we looked
	}
	if errors.Is(err, gousb.ErrorAccess) {
		err = ErrNotAllowed
	}
	var found *keyboard
	for _, d := range devices {
		if found != nil {
			_ = d.Close() // nothing of it is claimed, so there is no error
			continue
		}
		k := &keyboard{usb: usb, dev: d}
		if claimErr := k.claim(); claimErr != nil {
			err = claimErr
			k.closeDevice()
			continue
		}
		found, err = k, nil
	}
	if found == nil {
		err = errors.Join(err, usb.Close())
	}
	return found, seen, err
}

// claim takes the keyboard from whoever has it and asks what it is.
func (k *keyboard) claim() error {
	k.dev.ControlTimeout = answerWithin
	active, err := k.dev.ActiveConfigNum()
	if err != nil {
		return fmt.Errorf("asking for its configuration: %w", err)
	}
	desc, ok := k.dev.Desc.Configs[active]
	if !ok {
		return errors.New("the device has no configuration yet")
	}
	setting, ok := keyboardOf(desc)
	if !ok {
		return errors.New("the gadget 1d6b:0104 at this machine is no keyboard")
	}
	if setting.Number >= len(desc.Interfaces) {
		return errors.New("its interfaces are numbered with gaps, which gousb does not take")
	}
	// Detached by hand: libusb's own way would attach the driver again at the end.
	if err := k.dev.SetAutoDetach(true); err != nil {
		return fmt.Errorf("taking it from this machine's driver: %w", err)
	}
	if k.config, err = k.dev.Config(active); err != nil {
		return fmt.Errorf("taking it from this machine's driver: %w", err)
	}
	if err := k.dev.SetAutoDetach(false); err != nil {
		return fmt.Errorf("taking it from this machine's driver: %w", err)
	}
	if k.iface, err = k.config.Interface(setting.Number, setting.Alternate); err != nil {
		return fmt.Errorf("claiming it: %w", err)
	}
	k.describe(desc, setting)
	for _, e := range setting.Endpoints {
		if e.TransferType != gousb.TransferTypeInterrupt {
			continue
		}
		if e.Direction == gousb.EndpointDirectionIn && k.in == nil {
			k.in, err = k.iface.InEndpoint(e.Number)
			k.packet = e.MaxPacketSize
		} else if e.Direction == gousb.EndpointDirectionOut && k.out == nil {
			k.out, err = k.iface.OutEndpoint(e.Number)
		}
		if err != nil {
			return fmt.Errorf("opening its endpoint %s: %w", e.Address, err)
		}
	}
	if k.in == nil {
		return errors.New("the keyboard has no interrupt endpoint to read from")
	}
	return nil
}

// keyboardOf returns the interface that is a keyboard, of the boot subclass where
// there is one.
func keyboardOf(c gousb.ConfigDesc) (gousb.InterfaceSetting, bool) {
	var other *gousb.InterfaceSetting
	for _, i := range c.Interfaces {
		for _, s := range i.AltSettings {
			switch {
			case s.Class != gousb.ClassHID:
			case s.SubClass == subClassBoot && s.Protocol == protocolKeyboard:
				return s, true
			case other == nil:
				other = &s
			}
		}
	}
	if other == nil {
		return gousb.InterfaceSetting{}, false
	}
	return *other, true
}

// describe fills in what the descriptors say and how the device answers what
// firmware asks.
func (k *keyboard) describe(c gousb.ConfigDesc, s gousb.InterfaceSetting) {
	d := k.dev.Desc
	k.about = Device{
		Bus: d.Bus, Address: d.Address, Speed: d.Speed.String(),
		Vendor: uint16(d.Vendor), Product: uint16(d.Product), Release: d.Device.String(),
		MaxPower: int(c.MaxPower), Interfaces: len(c.Interfaces), Interface: s.Number,
		Class: uint8(s.Class), SubClass: uint8(s.SubClass), Protocol: uint8(s.Protocol),
	}
	for _, e := range s.Endpoints {
		k.about.Endpoints = append(k.about.Endpoints, Endpoint{
			In: e.Direction == gousb.EndpointDirectionIn, Interrupt: e.TransferType == gousb.TransferTypeInterrupt,
			MaxPacket: e.MaxPacketSize, Interval: e.PollInterval,
		})
	}
	// Names are for the reader only, so a device without them is none the worse.
	k.about.Manufacturer, _ = k.dev.Manufacturer()
	k.about.Name, _ = k.dev.Product()
	b := make([]byte, longest)
	n, err := k.dev.Control(fromInterface, getDescriptor, reportKind, uint16(s.Number), b)
	if err != nil {
		k.about.DescriptorErr = err
	} else {
		k.about.Descriptor = b[:n]
	}
	_, k.about.BootErr = k.dev.Control(toInterface, setProtocol, 0, uint16(s.Number), nil)
	_, k.about.IdleErr = k.dev.Control(toInterface, setIdle, 0, uint16(s.Number), nil)
}

// setLights does what a host does when a lock changes.
func (k *keyboard) setLights(l hid.LEDs) error {
	var err error
	if k.out != nil {
		ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
		defer cancel()
		_, err = k.out.WriteContext(ctx, []byte{byte(l)})
	} else {
		_, err = k.dev.Control(toInterface, setReport, outputReport, uint16(k.about.Interface), []byte{byte(l)})
	}
	if err != nil {
		return fmt.Errorf("setting its lights: %w", err)
	}
	return nil
}

// listen gives the watcher's sign and hands over reports until the keyboard is
// gone, which is no error.
func (k *keyboard) listen(ctx context.Context, on func(Event)) error {
	// Read before the sign: keys may follow it at once.
	stream, err := k.in.NewStream(max(k.packet, len(hid.Report{})), inFlight)
	if err != nil {
		return fmt.Errorf("reading from it: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	lights := make(chan hid.LEDs, 1)
	signed := make(chan error, 1)
	var lamps sync.WaitGroup
	defer func() { cancel(); close(lights); lamps.Wait() }()
	lamps.Go(func() {
		signed <- k.sign(ctx)
		for l := range lights {
			_ = k.setLights(l) // a keyboard that is gone shows in what is read
		}
	})
	arrivals := make(chan arrival, inFlight)
	go k.read(ctx, stream, arrivals)

	var locks lockState
	var failed error
	for {
		select {
		case err := <-signed:
			if err == nil {
				on(Event{Kind: EventReady, At: time.Now()})
			} else if failed == nil {
				failed = err
				cancel() // arrivals then end
			}
		case a, ok := <-arrivals:
			switch {
			case !ok && unplugged(failed):
				return nil
			case !ok:
				return failed
			case a.err != nil:
				if failed == nil && ctx.Err() == nil {
					failed = fmt.Errorf("reading from it: %w", a.err)
				}
			case len(a.bytes) != len(hid.Report{}):
				on(Event{Kind: EventOdd, At: a.at, Length: len(a.bytes)})
			default:
				r := hid.Report(a.bytes)
				if locks.take(r) {
					select {
					case <-lights: // not set yet, and stale
					default:
					}
					lights <- locks.on
				}
				on(Event{Kind: EventReport, At: a.at, Report: r})
			}
		}
	}
}

// arrival is what one transfer brought.
type arrival struct {
	at    time.Time
	bytes []byte
	err   error // the last
}

// read passes on what comes, and leaves out the empty packet that kernels send
// after each full one.
func (k *keyboard) read(ctx context.Context, stream *gousb.ReadStream, to chan<- arrival) {
	defer close(to)
	b := make([]byte, max(k.packet, len(hid.Report{})))
	for {
		n, err := stream.ReadContext(ctx, b)
		if err != nil {
			to <- arrival{err: err}
			return
		}
		if n > 0 {
			to <- arrival{at: time.Now(), bytes: bytes.Clone(b[:n])}
		}
	}
}

// unplugged says that an error is how libusb tells of a device that is gone; a
// transfer under way may also end as a failed one.
func unplugged(err error) bool {
	return errors.Is(err, gousb.TransferNoDevice) || errors.Is(err, gousb.ErrorNoDevice) ||
		errors.Is(err, gousb.TransferError) || errors.Is(err, gousb.ErrorIO)
}

// sign gives the watcher's sign.
func (k *keyboard) sign(ctx context.Context) error {
	for _, l := range append([]hid.LEDs{0}, hid.WatcherSign()...) {
		if err := k.setLights(l); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(hid.WatcherHold):
		}
	}
	return nil
}

// closeDevice gives the device back.
func (k *keyboard) closeDevice() {
	if k.iface != nil {
		k.iface.Close()
	}
	// Neither fails once nothing of it is open any more.
	if k.config != nil {
		_ = k.config.Close()
	}
	_ = k.dev.Close()
}

func (k *keyboard) close() {
	k.closeDevice()
	_ = k.usb.Close()
}
