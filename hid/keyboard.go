package hid

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Paces that hosts were seen to follow: slower than their polling, faster than a
// patient typist.
const (
	DefaultHold = 30 * time.Millisecond
	DefaultGap  = 50 * time.Millisecond
	DefaultLead = 10 * time.Millisecond
)

// DefaultDeadline is how long a host may take to fetch one report. Busy hosts
// poll every 10 ms or slower; one that takes a second is not polling.
const DefaultDeadline = time.Second

// Pace says how long to pause. The zero Pace pauses nowhere; delivery alone then
// sets the speed.
type Pace struct {
	Hold time.Duration // a key stays down
	Gap  time.Duration // between the release of a key and the next one
	Lead time.Duration // a modifier is down before its key, and after it
}

// State says where a report is that was not delivered.
type State int

const (
	// Refused reports never reached the gadget's endpoint; the key did not land.
	Refused State = iota + 1
	// Pending reports wait on the endpoint. The host may fetch them at any later
	// time, or has just done so. Such a key must never be sent again.
	Pending
)

func (s State) String() string {
	switch s {
	case Refused:
		return "refused"
	case Pending:
		return "pending"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Reasons in a DeliveryError.
var (
	// ErrNoHost: no host has configured the gadget, or it has gone away.
	ErrNoHost = errors.New("no host is connected")
	// ErrNotTaken: the host did not fetch the report before the deadline.
	ErrNotTaken = errors.New("the host did not take the report in time")
	// ErrBusy: a report sent before, perhaps by somebody else, was still waiting
	// at the deadline, or the bus was suspended.
	ErrBusy = errors.New("the keyboard was not ready for a report in time")
	// ErrLeft: the host has let go of the keyboard since WatchHost. It may have
	// taken it again: a host that restarts does.
	ErrLeft = errors.New("the host has let go of the keyboard in the meantime, as one does that restarts")
)

// DeliveryError is a report that was not delivered. It does not say which: that
// may be a key of a password.
type DeliveryError struct {
	State   State
	Flushed bool // Pending only: it was withdrawn and will not land any more
	Err     error
}

func (e *DeliveryError) Error() string {
	s := "sending a report: " + e.State.String()
	if e.Flushed {
		s += ", now withdrawn"
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *DeliveryError) Unwrap() error { return e.Err }

// Options of a Keyboard. The zero value works.
type Options struct {
	// Deadline for the host to fetch each report; 0 means DefaultDeadline.
	Deadline time.Duration
	// Flush withdraws a report that the host did not fetch, by unbinding the
	// gadget: to the host the keyboard is then unplugged, which releases its keys
	// too. Without it a pending report stays where it is.
	Flush func(context.Context) error
	// Guard is asked before each report but a release; its error refuses the
	// report. Whoever releases the keys when this program dies may have died first.
	Guard func() error
	// Away is how long a report waits for a host that has let go of the keyboard,
	// as firmware does more than once while it starts. Such a report was refused,
	// so it has not landed. 0: no host, no waiting.
	Away time.Duration
}

// device is a keyboard gadget's character device, or something like it, opened
// so that nothing blocks but wait.
type device interface {
	// write queues one report: errAgain if another is queued, ErrNoHost if no
	// host has configured the gadget.
	write(r Report) error
	// read returns the last byte of one output report, errAgain if there is none.
	read() (byte, error)
	// wait returns whether a report can be queued, or read, before the time is up.
	wait(what direction, limit time.Duration) (bool, error)
	close() error
}

type direction int

const (
	writable direction = iota
	readable
)

var (
	errAgain = errors.New("not now")
	errShort = errors.New("the gadget took only a part of the report")
)

// Keyboard types on a host. Its methods may be called from several goroutines
// and take turns; a text that must not be torn apart is one call of Type.
type Keyboard struct {
	dev  device
	opts Options

	mu     sync.Mutex
	down   bool  // the host may see a key down
	lost   error // a report is pending: nothing may follow it
	closed bool
	lights LEDs
	known  bool // lights came from the host

	delivered atomic.Int64
	moves     atomic.Int64 // odd while a report is on its way
	left      atomic.Bool  // the host let go of a keyboard that is watched
	withdrawn atomic.Bool  // it is we who let go, with Flush
	watch     sync.Once
	unwatch   chan struct{} // closed to end the watching
	watching  sync.WaitGroup
}

// Open opens the character device of a keyboard gadget, such as /dev/hidg0. The
// gadget need not be bound yet. Whether the kernel answers as documented here is
// for a test on a real kernel to show; nothing on this side of the device can.
func Open(path string, o Options) (*Keyboard, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening keyboard: %w", err)
	}
	if info.Mode()&os.ModeCharDevice == 0 {
		// A plain file takes every report and delivers none.
		return nil, fmt.Errorf("opening keyboard: %s is no character device", path)
	}
	dev, err := openDevice(path)
	if err != nil {
		return nil, fmt.Errorf("opening keyboard: %w", err)
	}
	return newKeyboard(dev, o), nil
}

func newKeyboard(dev device, o Options) *Keyboard {
	if o.Deadline <= 0 {
		o.Deadline = DefaultDeadline
	}
	return &Keyboard{dev: dev, opts: o, unwatch: make(chan struct{})}
}

// Send hands one report to the host and returns nil once the host has fetched
// it. Writing to the device only puts the report on the endpoint; that room for
// the next one appears is the proof of the fetch. (A gadget whose link breaks
// down in the very moment of a fetch can look the same. dummy_hcd takes the first
// report of a burst before its host asks.)
//
// Any other outcome is a *DeliveryError, within Deadline for each of the two
// steps, plus what Flush takes. ctx is heard until the report is queued. From
// then on Send waits for the answer, because a report that has left cannot be
// called back and the caller has to know. After a pending report every further
// Send is refused.
func (k *Keyboard) Send(ctx context.Context, r Report) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.send(ctx, r)
}

func (k *Keyboard) send(ctx context.Context, r Report) error {
	refused := func(err error) error { return &DeliveryError{State: Refused, Err: err} }
	if err := k.may(ctx, r); err != nil {
		return refused(err)
	}
	k.moves.Add(1)
	defer k.moves.Add(1)
	err := k.dev.write(r)
	if errors.Is(err, ErrNoHost) && k.opts.Away > 0 {
		if err = k.waitReady(ctx, k.opts.Away); err == nil {
			err = k.dev.write(r)
		}
	}
	if errors.Is(err, errAgain) {
		err = k.writeLater(ctx, r)
	}
	switch {
	case errors.Is(err, errShort):
		// It is on its way, and no report the host understands.
		k.down = true
		return k.pend(ctx, err)
	case err != nil:
		return refused(err)
	}
	if r != (Report{}) {
		k.down = true
	}
	ready, err := k.dev.wait(writable, k.opts.Deadline)
	switch {
	case err != nil:
		return k.pend(ctx, err)
	case !ready:
		return k.pend(ctx, ErrNotTaken)
	}
	if r == (Report{}) {
		k.down = false
	}
	k.delivered.Add(1)
	return nil
}

// may says why a report must not be sent.
func (k *Keyboard) may(ctx context.Context, r Report) error {
	if k.closed {
		return os.ErrClosed
	}
	if k.lost != nil {
		return fmt.Errorf("an earlier report is not settled: %w", k.lost)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if r == (Report{}) {
		return nil
	}
	if k.left.Load() {
		return ErrLeft
	}
	if k.opts.Guard != nil {
		return k.opts.Guard()
	}
	return nil
}

// WatchHost makes the keyboard refuse every report but a release, with ErrLeft,
// once the host has let go of it for a moment: a host that restarts has it again
// within tenths of a second, and then it is the firmware that takes keys. Only a
// gadget can tell; other keyboards stay as they are.
func (k *Keyboard) WatchHost() {
	// Short beside the 50 ms for which a hub holds a port in reset (USB 2.0, 7.1.7.5).
	const every = 10 * time.Millisecond
	dev, ok := k.dev.(interface{ attached() bool })
	if !ok {
		return
	}
	k.watch.Do(func() {
		k.watching.Go(func() {
			t := time.NewTicker(every)
			defer t.Stop()
			for {
				select {
				case <-k.unwatch:
					return
				case <-t.C:
				}
				// A report on its way looks the same, so none may be, before and after.
				before := k.moves.Load()
				if k.withdrawn.Load() {
					return
				}
				if before%2 == 0 && !dev.attached() && k.moves.Load() == before {
					k.left.Store(true)
					return
				}
			}
		})
	})
}

// HostLeft reports whether the host has let go of the keyboard since WatchHost.
// known is false where nobody can tell: of keyboards that are no gadgets.
func (k *Keyboard) HostLeft() (left, known bool) {
	if k.left.Load() {
		return true, true
	}
	if d, ok := k.dev.(*sinkDevice); ok {
		far, ok := d.sink.(interface{ HostLeft() bool })
		return ok && far.HostLeft(), ok
	}
	_, known = k.dev.(interface{ attached() bool })
	return false, known
}

// Delivered returns how many reports the host has taken since the keyboard was
// opened, probes and releases included. It does not wait for a Type under way.
func (k *Keyboard) Delivered() int { return int(k.delivered.Load()) }

// writeLater tries until the deadline. A suspended bus refuses reports while it
// says that there is room, so each try is a write, and a pause of its own keeps
// it from spinning.
func (k *Keyboard) writeLater(ctx context.Context, r Report) error {
	const pause, slice = time.Millisecond, 20 * time.Millisecond
	for deadline := time.Now().Add(k.opts.Deadline); ; {
		left := time.Until(deadline)
		if left <= 0 {
			return ErrBusy
		}
		ready, err := k.dev.wait(writable, min(slice, left))
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.dev.write(r); !errors.Is(err, errAgain) {
			return err
		}
		if ready {
			time.Sleep(pause)
		}
	}
}

// pend settles a report that the host has not fetched.
func (k *Keyboard) pend(ctx context.Context, why error) error {
	e := &DeliveryError{State: Pending, Err: why}
	k.lost = why
	var known *DeliveryError // of another machine's keyboard
	if errors.As(why, &known) && known.State == Pending {
		e.Flushed, e.Err = known.Flushed, known.Err
		k.down = k.down && !e.Flushed
	}
	if k.opts.Flush != nil {
		k.withdrawn.Store(true)
		// Also when ctx has ended: that is when a key left behind is worst.
		if err := k.opts.Flush(context.WithoutCancel(ctx)); err != nil {
			e.Err = fmt.Errorf("%w; withdrawing it: %w", why, err)
		} else {
			e.Flushed = true
			k.down = false
		}
	}
	return e
}

// WaitReady returns once a host has configured the keyboard and no report waits.
// It sends nothing. The error wraps ErrNoHost.
func (k *Keyboard) WaitReady(ctx context.Context, limit time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return fmt.Errorf("waiting for a host: %w", os.ErrClosed)
	}
	return k.waitReady(ctx, limit)
}

func (k *Keyboard) waitReady(ctx context.Context, limit time.Duration) error {
	const slice = 20 * time.Millisecond // a device need not wake us when its host comes
	for deadline := time.Now().Add(limit); ; {
		ready, err := k.dev.wait(writable, max(0, min(slice, time.Until(deadline))))
		switch {
		case err != nil:
			return fmt.Errorf("waiting for a host: %w", err)
		case ready:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for a host: %w", ctx.Err())
		case time.Until(deadline) <= 0:
			return fmt.Errorf("waiting for a host: after %s, %w", limit, ErrNoHost)
		}
	}
}

// Type taps chords at the given pace. It returns how many reports the host has
// fetched; on an error, an end of ctx or a panic it releases all keys before it
// returns, as far as the host still listens.
func (k *Keyboard) Type(ctx context.Context, chords []Chord, p Pace) (n int, err error) {
	return k.Play(ctx, Reports(chords), p)
}

// Play is Type for reports.
func (k *Keyboard) Play(ctx context.Context, reports []Report, p Pace) (n int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer func() {
		if releaseErr := k.release(ctx); releaseErr != nil {
			err = errors.Join(err, releaseErr)
		}
	}()
	return k.play(ctx, reports, p)
}

func (k *Keyboard) play(ctx context.Context, reports []Report, p Pace) (n int, err error) {
	if far := k.far(); far != nil {
		return k.playFar(ctx, far, reports, p)
	}
	for i, r := range reports {
		if err := k.send(ctx, r); err != nil {
			return n, fmt.Errorf("typing report %d of %d: %w", i+1, len(reports), err)
		}
		n++
		pause := p.Lead
		switch {
		case len(r.Keys()) > 0, alone(reports, i):
			pause = p.Hold
		case r == (Report{}):
			pause = p.Gap
		}
		if err := sleep(ctx, pause); err != nil {
			return n, fmt.Errorf("typing, after report %d of %d: %w", i+1, len(reports), err)
		}
	}
	return n, nil
}

// alone says that a report holds modifiers that are a chord by themselves: no
// key comes between them and their release.
func alone(reports []Report, i int) bool {
	return reports[i] != Report{} && (i == 0 || reports[i-1] == Report{}) && i+1 < len(reports) && reports[i+1] == Report{}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil // Send looks at ctx
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

// Release lets go of every key. It does nothing where none is down.
func (k *Keyboard) Release(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.release(ctx)
}

// release works after the end of ctx too, and after a pending report: if that
// has left in the meantime, the release may follow it.
func (k *Keyboard) release(ctx context.Context) error {
	if !k.down || k.closed {
		return nil
	}
	lost := k.lost
	k.lost = nil
	err := k.send(context.WithoutCancel(ctx), Report{})
	if lost != nil {
		k.lost = lost
	}
	if errors.Is(err, ErrNoHost) || errors.Is(err, ErrConnection) {
		// A host lets go of the keys of a keyboard that has gone, and so does the
		// other end of a connection.
		k.down = false
		return nil
	}
	if err != nil && k.down {
		return fmt.Errorf("releasing keys, one may still be down on the host: %w", err)
	}
	return nil
}

// Close releases every key and closes the device. (The kernel releases nothing
// by itself when a device is closed.)
func (k *Keyboard) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	err := k.release(context.Background())
	k.closed = true
	close(k.unwatch)
	k.watching.Wait()
	if closeErr := k.dev.close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("closing keyboard: %w", closeErr))
	}
	return err
}
