package hid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// ErrConnection: the connection to a keyboard at another machine is lost. That
// end lets go of all keys by itself, within a second.
var ErrConnection = errors.New("the connection to the keyboard is lost")

// Remote is the keyboard behind a connection whose other end is Serve. It is a
// Sink that keeps the times of whole keys at that end.
type Remote struct {
	conn    io.ReadWriteCloser
	write   chan message // to the writer
	answers chan message // to the request under way
	dead    chan struct{}
	once    sync.Once

	busy sync.Mutex // one request at a time
	seq  int

	mu       sync.Mutex
	attached bool  // the keyboard was opened
	cause    error // of the end
	lights   LEDs
	known    bool
	left     bool // the host has let go of the keyboard
}

// Attach opens the keyboard at the other end of conn, which it closes on an
// error. The error is a *VersionError where the other end is another version's,
// a *RemoteError where it could not open its keyboard. ready may last as long as
// a person needs to start a watcher; ctx ends that.
func Attach(ctx context.Context, conn io.ReadWriteCloser, release string, w Wish) (*Remote, error) {
	r := &Remote{conn: conn, write: make(chan message), answers: make(chan message, 1), dead: make(chan struct{})}
	lines := newWireReader(conn)
	first := make(chan error, 1)
	go func() {
		hello, err := lines.hello()
		if err == nil {
			err = checkHello(hello, release)
		}
		first <- err
		// Also after an error: until then a writer at the other end may block.
		r.read(lines)
	}()
	fail := func(err error) (*Remote, error) {
		r.end(err)
		return nil, err
	}
	limit := wireHello
	if w.Timeout > 0 {
		limit = min(limit, w.Timeout)
	}
	hello := time.NewTimer(limit)
	defer hello.Stop()
	select {
	case err := <-first:
		var version *VersionError
		if errors.As(err, &version) {
			// The other end has to hear of it, or it would wait.
			writeMessage(conn, message{Op: opHello, Protocol: WireProtocol, Release: release})
		}
		if err != nil {
			return fail(err)
		}
	case <-hello.C:
		return fail(fmt.Errorf("no labctl answered within %s", limit))
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	go r.send(message{Op: opHello, Protocol: WireProtocol, Release: release})
	if _, err := r.ask(ctx, message{Op: opOpen, Open: &w}); err != nil {
		var early *DeliveryError
		if errors.As(err, &early) {
			err = early.Err // no report was on its way
		}
		return fail(err)
	}
	r.mu.Lock()
	r.attached = true
	r.mu.Unlock()
	return r, nil
}

// end closes the connection. The first reason stays.
func (r *Remote) end(cause error) {
	r.once.Do(func() {
		r.mu.Lock()
		r.cause = cause
		r.mu.Unlock()
		close(r.dead)
		r.conn.Close()
	})
}

// gone is why no answer will come.
func (r *Remote) gone() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var remote *RemoteError
	if r.cause == nil || errors.Is(r.cause, ErrConnection) || !r.attached && errors.As(r.cause, &remote) {
		return r.cause
	}
	return fmt.Errorf("%w: %w", ErrConnection, r.cause)
}

// send writes: what is to be written, and beats.
func (r *Remote) send(m message) {
	t := time.NewTicker(wireBeat)
	defer t.Stop()
	for {
		if err := writeMessage(r.conn, m); err != nil {
			r.end(fmt.Errorf("%w: %w", ErrConnection, err))
			return
		}
		select {
		case m = <-r.write:
		case <-t.C:
			m = message{Op: opBeat}
		case <-r.dead:
			return
		}
	}
}

// read takes what comes, until nothing does.
func (r *Remote) read(lines *wireReader) {
	silence := time.AfterFunc(wirePatience, func() {
		r.end(fmt.Errorf("%w: nothing came for %s", ErrConnection, wirePatience))
	})
	defer silence.Stop()
	for {
		m, err := lines.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("it was closed")
			}
			r.end(fmt.Errorf("%w: %w", ErrConnection, err))
			return
		}
		silence.Reset(wirePatience)
		r.mu.Lock()
		if m.Lights != nil {
			r.lights, r.known = *m.Lights, true
		}
		r.left = r.left || m.Left
		r.mu.Unlock()
		switch m.Op {
		case opFail:
			err := errors.New("the keyboard's end failed")
			if m.Fault != nil {
				err = m.Fault.error()
			}
			r.end(err)
			return
		case opReady, opDone:
			select {
			case r.answers <- m:
			default: // to no request
			}
		}
	}
}

// ask makes one request. An error is a *DeliveryError of State Refused where it
// never left. One whose answer does not come ends the connection, and with it
// whatever is down.
func (r *Remote) ask(ctx context.Context, m message) (message, error) {
	r.busy.Lock()
	defer r.busy.Unlock()
	r.seq++
	m.Seq = r.seq
	refused := func(err error) (message, error) {
		return message{}, &DeliveryError{State: Refused, Err: err}
	}
	select {
	case <-r.dead:
		return refused(r.gone())
	default:
	}
	select {
	case r.write <- m:
	case <-r.dead:
		return refused(r.gone())
	case <-ctx.Done():
		return refused(ctx.Err())
	}
	for {
		select {
		case a := <-r.answers:
			if a.Op == opDone && a.Seq != m.Seq {
				continue
			}
			if a.Fault != nil {
				return a, a.Fault.error()
			}
			return a, nil
		case <-r.dead:
			return message{}, r.gone()
		case <-ctx.Done():
			r.end(fmt.Errorf("%w: no answer came in time", ErrConnection))
			return message{}, fmt.Errorf("%w: %w", r.gone(), ctx.Err())
		}
	}
}

// Take sends one report.
func (r *Remote) Take(ctx context.Context, report Report) error {
	_, err := r.ask(ctx, message{Op: opPlay, Reports: []string{report.String()}})
	return err
}

// Play sends the reports of one key; the other end keeps the times.
func (r *Remote) Play(ctx context.Context, reports []Report, p Pace) (int, error) {
	m := message{Op: opPlay, Pace: &p}
	for _, report := range reports {
		m.Reports = append(m.Reports, report.String())
	}
	a, err := r.ask(ctx, m)
	return a.Count, err
}

// Lights returns the lights as the other end told them last.
func (r *Remote) Lights() (LEDs, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lights, r.known
}

// HostLeft reports whether the host has let go of the keyboard, as the other end
// told.
func (r *Remote) HostLeft() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

// Close lets the other end release all keys and hide the keyboard, and closes
// the connection. A connection that is lost is no error: that end does the same
// by itself.
func (r *Remote) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), wireClose)
	defer cancel()
	_, err := r.ask(ctx, message{Op: opClose})
	r.end(ErrConnection)
	if errors.Is(err, ErrConnection) {
		return nil
	}
	return err
}
