package hid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Wish is what the far end wants of the keyboard that it opens.
type Wish struct {
	Command string        `json:"command,omitempty"` // who types, for a lock's message
	Settle  time.Duration `json:"settle,omitempty"`  // as the keyboard's opener takes it
	Watcher bool          `json:"watcher,omitempty"` // nothing is typed before a watcher's sign
	Timeout time.Duration `json:"timeout,omitempty"` // caps each wait, that for a login too; 0 caps none
}

// Served is a keyboard that Serve has opened.
type Served struct {
	*Keyboard
	Finish func() error // releases all keys and hides the keyboard
}

// ServeOptions of Serve. Open is needed.
type ServeOptions struct {
	Release string // of this program, for the other end's message
	// Open opens the keyboard. Its ctx ends when the connection does. The keyboard's
	// deadline should be no longer than WireDeadline.
	Open func(ctx context.Context, w Wish) (*Served, error)
	// Hint gives the advice that goes with an error; nil for none.
	Hint func(error) string
}

// ErrSilence: the other end of the connection has sent nothing, not even a beat,
// for WireSilence.
var ErrSilence = fmt.Errorf("nothing came from the other end for %s", WireSilence)

// Serve lets the other end of a connection type on a keyboard of this machine.
// When the connection ends, or nothing came for WireSilence, it types nothing
// more, and releases and hides the keyboard before it returns. The error is nil
// where the other end has taken its leave.
func Serve(ctx context.Context, in io.Reader, out io.Writer, o ServeOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &server{ctx: ctx, end: cancel, opts: o, lines: make(chan message), answers: make(chan message, 1000)}
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.send(out)
	}()
	// The other end waits for a word from here first: only then does it know that
	// what it writes reaches no login shell.
	s.write(message{Op: opHello, Protocol: WireProtocol, Release: o.Release})
	go s.read(in)
	err := s.run(ctx)
	if cause := context.Cause(ctx); cause != nil {
		// Where that still hears something, it is told why.
		s.write(message{Op: opFail, Fault: newWireFault(cause)})
	}
	close(s.answers)
	select {
	case <-written:
	case <-time.After(wireLast): // a connection that takes nothing more
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	return err
}

type server struct {
	ctx   context.Context
	end   context.CancelCauseFunc
	opts  ServeOptions
	lines chan message // that are requests

	// answers has room for more than can come together before the silence of an
	// end that takes none is heard: nothing here may wait for the connection.
	answers chan message
	tellers sync.WaitGroup // that write
}

func (s *server) write(m message) {
	select {
	case s.answers <- m:
	default:
		s.end(errors.New("the other end takes no answers"))
	}
}

func (s *server) send(out io.Writer) {
	for m := range s.answers {
		if err := writeMessage(out, m); err != nil {
			s.end(fmt.Errorf("writing to the other end: %w", err))
			for range s.answers { // to nobody
			}
		}
	}
}

// read hands requests on, and ends everything when nothing more can come. A
// request that comes before the last one is answered breaks the protocol, and is
// where that shows.
func (s *server) read(in io.Reader) {
	var heard atomic.Int64
	silence := time.AfterFunc(wireHello, func() {
		// A machine that was too busy to read first hears what has come meanwhile.
		before := heard.Load()
		time.Sleep(wireDoubt)
		if heard.Load() == before {
			s.end(ErrSilence)
		}
	})
	defer silence.Stop()
	r := newWireReader(in)
	for {
		m, err := r.next()
		heard.Add(1)
		if err != nil {
			s.end(fmt.Errorf("reading from the other end: %w", err))
			return
		}
		silence.Reset(WireSilence)
		if s.ctx.Err() != nil {
			return // too late
		}
		if m.Op == opBeat {
			continue
		}
		select {
		case s.lines <- m:
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *server) next(ctx context.Context) (message, error) {
	select {
	case m := <-s.lines:
		// Both may be ready: what came before the end is not typed after it.
		return m, ctx.Err()
	case <-ctx.Done():
		return message{}, ctx.Err()
	}
}

func (s *server) fail(err error) error {
	f := newWireFault(err)
	if s.opts.Hint != nil {
		f.Hint = s.opts.Hint(err)
	}
	s.write(message{Op: opFail, Fault: f})
	return err
}

func (s *server) run(ctx context.Context) error {
	hello, err := s.next(ctx)
	if err != nil {
		return err
	}
	if hello.Op != opHello {
		return s.fail(fmt.Errorf("the other end begins with %q", hello.Op))
	}
	if err := checkHello(hello, s.opts.Release); err != nil {
		return s.fail(err)
	}
	tellers, stop := context.WithCancel(ctx)
	defer s.tellers.Wait()
	defer stop()
	s.tellers.Go(func() { s.beat(tellers) })
	open, err := s.next(ctx)
	if err != nil {
		return err
	}
	if open.Op != opOpen || open.Open == nil {
		return s.fail(fmt.Errorf("the other end asks for %q before it opens the keyboard", open.Op))
	}
	kb, err := s.opts.Open(ctx, *open.Open)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // Serve tells the cause
	}
	if err != nil {
		return s.fail(err)
	}
	finish := sync.OnceValue(kb.Finish)
	defer finish()
	s.write(message{Op: opReady})
	s.tellers.Go(func() { s.lights(tellers, kb) })
	for {
		m, err := s.next(ctx)
		if err != nil {
			return errors.Join(err, finish())
		}
		switch m.Op {
		case opPlay:
			if err := s.play(ctx, kb, m); err != nil {
				return errors.Join(err, finish())
			}
		case opClose:
			err := finish()
			s.write(message{Op: opDone, Seq: m.Seq, Fault: newWireFault(err)})
			return err
		default:
			return s.fail(fmt.Errorf("the other end asks for %q", m.Op))
		}
	}
}

// play sends the reports of one request. Its error ends the connection.
func (s *server) play(ctx context.Context, kb *Served, m message) error {
	reports, err := checkPlay(m.Reports)
	if err != nil {
		return s.fail(err)
	}
	a := message{Op: opDone, Seq: m.Seq}
	if len(reports) == 1 && m.Pace == nil {
		if err = kb.Send(ctx, reports[0]); err == nil {
			a.Count = 1
		}
	} else {
		var p Pace
		if m.Pace != nil {
			p = *m.Pace
		}
		a.Count, err = kb.Play(ctx, reports, p)
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	a.Fault = newWireFault(err)
	lights, known := kb.LEDs()
	if known {
		a.Lights = &lights
	}
	s.write(a)
	return nil
}

// beat says that this end lives.
func (s *server) beat(ctx context.Context) {
	for t := time.NewTicker(wireBeat); ; {
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			s.write(message{Op: opBeat})
		}
	}
}

// lights tells the other end what the host's lights are, and once when the host
// has let go of the keyboard.
func (s *server) lights(ctx context.Context, kb *Served) {
	const every = 10 * time.Millisecond
	var last LEDs
	told, left := false, false
	for t := time.NewTicker(every); ; {
		// Not while a key is being typed: its answer has the lights too.
		if now, known := kb.lightsAtOnce(); known && (!told || now != last) {
			s.write(message{Op: opLights, Lights: &now})
			last, told = now, true
		}
		if now, _ := kb.HostLeft(); now && !left {
			s.write(message{Op: opBeat, Left: true})
			left = true
		}
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}
