package hid

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The far end of a gadget tells once that the host has let go of it.
func TestRemoteHostLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{poll: time.Millisecond}
		g.restarts[0] = time.Now().Add(time.Second)
		g.restarts[1] = g.restarts[0].Add(50 * time.Millisecond)
		near, end := net.Pipe()
		served := make(chan error, 1)
		go func() {
			defer end.Close()
			served <- Serve(t.Context(), end, end, ServeOptions{Open: func(context.Context, Wish) (*Served, error) {
				kb := newKeyboard(g, Options{})
				kb.WatchHost()
				return &Served{kb, kb.Close}, nil
			}})
		}()
		r, err := Attach(t.Context(), near, "", Wish{})
		if err != nil {
			t.Fatal(err)
		}
		k := NewKeyboard(r, Options{})
		time.Sleep(900 * time.Millisecond)
		if left, known := k.HostLeft(); left || !known {
			t.Errorf("before: left %t, known %t", left, known)
		}
		time.Sleep(300 * time.Millisecond)
		if left, known := k.HostLeft(); !left || !known {
			t.Errorf("after: left %t, known %t", left, known)
		}
		if err := errors.Join(r.Close(), <-served); err != nil {
			t.Error(err)
		}
		if _, known := NewKeyboard(&console{}, Options{}).HostLeft(); known {
			t.Error("a simulated console knows")
		}
	})
}

// far is a served console, and a connection to it that can be cut or can go
// silent.
type far struct {
	*console
	mu       sync.Mutex
	opened   Wish
	finished time.Time // all keys up
	err      chan error
	near     net.Conn
	openErr  error
	opening  func(context.Context) error
	slow     time.Duration // a report takes that long
	at       []time.Time
}

func (f *far) Take(ctx context.Context, r Report) error {
	if f.slow > 0 {
		time.Sleep(f.slow)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = append(f.at, time.Now())
	return f.console.Take(ctx, r)
}

func (f *far) Lights() (LEDs, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.console.Lights()
}

func (f *far) reports() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return hexes(f.got)
}

func (f *far) serve(t *testing.T) {
	f.err = make(chan error, 1)
	near, end := net.Pipe()
	f.near = near
	go func() {
		defer end.Close()
		f.err <- Serve(t.Context(), end, end, ServeOptions{
			Release: "1.0",
			Open: func(ctx context.Context, w Wish) (*Served, error) {
				if f.opening != nil {
					return nil, f.opening(ctx)
				}
				if f.openErr != nil {
					return nil, f.openErr
				}
				f.opened = w
				kb := NewKeyboard(f, Options{Deadline: WireDeadline})
				return &Served{kb, func() error { err := kb.Close(); f.finished = time.Now(); return err }}, nil
			},
			Hint: func(error) string { return "the way out" },
		})
	}()
}

func TestRemote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{console: &console{lights: CapsLock}}
		f.serve(t)
		r, err := Attach(t.Context(), f.near, "1.1", Wish{Command: "hid type", Settle: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		k := NewKeyboard(r, Options{})
		start := time.Now()
		n, err := k.Type(t.Context(), chordsOf(t, "A SHIFT+B"), Pace{Hold: 30 * time.Millisecond, Gap: 50 * time.Millisecond, Lead: 10 * time.Millisecond})
		if err != nil || n != 6 || k.Delivered() != 6 {
			t.Errorf("%d reports, %d delivered, %v", n, k.Delivered(), err)
		}
		if took, want := time.Since(start), 180*time.Millisecond; took != want {
			t.Errorf("took %s, want two holds, two gaps, a lead and a lag: %s", took, want)
		}
		if err := k.Probe(t.Context(), KeyNumLock, time.Second); err != nil {
			t.Error(err)
		}
		if err := k.SetCapsLock(t.Context(), false, time.Second); err != nil || f.lights != 0 {
			t.Errorf("lights %03b, %v", f.lights, err)
		}
		time.Sleep(time.Minute) // beats keep it alive
		if err := k.Send(t.Context(), Report{2: 4}); err != nil {
			t.Errorf("after a minute: %v", err)
		}
		if err := errors.Join(k.Close(), r.Close()); err != nil {
			t.Error(err)
		}
		if err := <-f.err; err != nil || f.finished.IsZero() || f.opened.Command != "hid type" || f.opened.Settle != time.Second {
			t.Errorf("the far end: %v, %+v", err, f.opened)
		}
		if got := f.reports(); !strings.HasSuffix(got, "0000040000000000 0000000000000000") {
			t.Errorf("a key stays down: %s", got)
		}
		wantState(t, k.Send(t.Context(), Report{2: 4}), Refused, false, os.ErrClosed)
		wantState(t, r.Take(t.Context(), Report{2: 4}), Refused, false, ErrConnection)
	})
}

// However the near end goes, the far one lets go of the key within a second, and
// what was still to be typed is not.
func TestRemoteLost(t *testing.T) {
	for name, cut := range map[string]func(net.Conn, *stall){
		"closed": func(c net.Conn, _ *stall) { c.Close() },
		"silent": func(_ net.Conn, s *stall) { s.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &far{console: &console{}}
				f.serve(t)
				s := &stall{Conn: f.near, stopped: make(chan struct{})}
				r, err := Attach(t.Context(), s, "", Wish{})
				if err != nil {
					t.Fatal(err)
				}
				k := NewKeyboard(r, Options{})
				if err := k.Send(t.Context(), Report{2: 4}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Second)
				cut(f.near, s)
				lost := time.Now()
				if err := <-f.err; err == nil {
					t.Error("the far end calls that a good end")
				}
				if up := f.finished.Sub(lost); up > time.Second || up < 0 {
					t.Errorf("the key is up %s after the connection was", up)
				}
				if got := f.reports(); got != "0000040000000000 0000000000000000" {
					t.Errorf("typed %s", got)
				}
				err = k.Send(t.Context(), Report{2: 5})
				if !errors.Is(err, ErrConnection) || name == "silent" && !strings.Contains(err.Error(), ErrSilence.Error()) {
					t.Errorf("a report after that: %v", err)
				}
				if err := errors.Join(k.Close(), r.Close()); err != nil {
					t.Errorf("closing: %v", err)
				}
				close(s.stopped)
			})
		})
	}
}

// stall is a connection that can stop to take anything, as one through a network
// that has gone.
type stall struct {
	net.Conn
	mu      sync.Mutex
	stalled bool
	stopped chan struct{}
}

func (s *stall) stop() { s.mu.Lock(); s.stalled = true; s.mu.Unlock() }

func (s *stall) Write(b []byte) (int, error) {
	s.mu.Lock()
	stalled := s.stalled
	s.mu.Unlock()
	if stalled {
		<-s.stopped
		return 0, io.ErrClosedPipe
	}
	return s.Conn.Write(b)
}

// A text that is cut off in the middle of a key leaves nothing down.
func TestRemoteCutInAText(t *testing.T) {
	for _, after := range []time.Duration{0, 1, 25, 31, 79, 100, 333} {
		synctest.Test(t, func(t *testing.T) {
			f := &far{console: &console{}, slow: time.Millisecond}
			f.serve(t)
			r, err := Attach(t.Context(), f.near, "", Wish{})
			if err != nil {
				t.Fatal(err)
			}
			k := NewKeyboard(r, Options{})
			time.AfterFunc(after*time.Millisecond, func() { f.near.Close() })
			start := time.Now()
			_, err = k.Type(t.Context(), chordsOf(t, "A SHIFT+B C D E F G H I J K L M N O P"), Pace{Hold: 30 * time.Millisecond, Gap: 50 * time.Millisecond})
			if !errors.Is(err, ErrConnection) {
				t.Errorf("%v", err)
			}
			<-f.err
			if up := f.finished.Sub(start); up > after*time.Millisecond+time.Second {
				t.Errorf("cut after %d ms, it goes on for %s", after, up)
			}
			if got := f.reports(); got != "" && !strings.HasSuffix(got, "0000000000000000") {
				t.Errorf("cut after %d ms: %s", after, got)
			}
		})
	}
}

// An answer that does not come leaves the key in doubt, and is the last.
func TestRemoteNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{console: &console{}, slow: 5 * time.Second}
		f.serve(t)
		r, err := Attach(t.Context(), f.near, "", Wish{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewKeyboard(r, Options{}).Type(t.Context(), chordsOf(t, "A"), Pace{})
		wantState(t, err, Pending, false, ErrConnection)
		<-f.err
	})
	synctest.Test(t, func(t *testing.T) {
		f := &far{console: &console{}, slow: 5 * time.Second}
		f.serve(t)
		r, err := Attach(t.Context(), f.near, "", Wish{})
		if err != nil {
			t.Fatal(err)
		}
		k := NewKeyboard(r, Options{})
		wantState(t, k.Send(t.Context(), Report{2: 4}), Pending, false, ErrConnection)
		wantState(t, k.Send(t.Context(), Report{2: 5}), Refused, false, ErrConnection)
		<-f.err
		if got := f.reports(); strings.Contains(got, "000005") || !strings.HasSuffix(got, "0000000000000000") {
			t.Errorf("typed %s", got)
		}
	})
}

// What the far keyboard says of a report comes through.
func TestRemoteFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			fail  error
			state State
			want  error
		}{
			{&DeliveryError{State: Refused, Err: ErrNoHost}, Refused, ErrNoHost},
			{&DeliveryError{State: Refused, Err: ErrBusy}, Refused, ErrBusy},
			{ErrNotTaken, Pending, ErrNotTaken},
		} {
			for _, play := range []bool{false, true} {
				f := &far{console: &console{}}
				f.serve(t)
				r, err := Attach(t.Context(), f.near, "", Wish{})
				if err != nil {
					t.Fatal(err)
				}
				k := NewKeyboard(r, Options{})
				f.mu.Lock()
				f.fail = tc.fail
				f.mu.Unlock()
				if play {
					_, err = k.Type(t.Context(), chordsOf(t, "A"), Pace{})
				} else {
					err = k.Send(t.Context(), Report{2: 4})
				}
				wantState(t, err, tc.state, false, tc.want)
				k.Close()
				r.Close()
				<-f.err
			}
		}
	})
}

// A far end that is another version's is named, and nothing is opened.
func TestRemoteVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, end := net.Pipe()
		go func() {
			writeMessage(end, message{Op: opHello, Protocol: 7, Release: "9.9"})
			io.Copy(io.Discard, end)
		}()
		_, err := Attach(t.Context(), near, "1.1", Wish{})
		var v *VersionError
		if !errors.As(err, &v) || v.Theirs != 7 || !strings.Contains(err.Error(), "1.1") || !strings.Contains(err.Error(), "9.9") {
			t.Errorf("%v", err)
		}
		end.Close()

		f := &far{console: &console{}}
		f.serve(t)
		lines := bufio.NewScanner(f.near)
		lines.Scan()
		writeMessage(f.near, message{Op: opHello, Protocol: 7, Release: "9.9"})
		var m message
		for lines.Scan() && m.Op != opFail {
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				t.Fatal(err)
			}
		}
		if m.Fault == nil || !strings.Contains(m.Fault.Text, "9.9") {
			t.Errorf("%+v", m)
		}
		if err := <-f.err; !errors.As(err, &v) {
			t.Errorf("the far end: %v", err)
		}
		f.near.Close()
	})
}

func TestRemoteOpenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{console: &console{}, openErr: ErrNoHost}
		f.serve(t)
		_, err := Attach(t.Context(), f.near, "", Wish{})
		var remote *RemoteError
		if !errors.As(err, &remote) || remote.Hint != "the way out" || !errors.Is(err, ErrNoHost) || errors.Is(err, ErrConnection) {
			t.Errorf("%v", err)
		}
		<-f.err
	})
}

// A far end that does not answer is waited for as long as a login may take, and no
// longer than the near end's user wants.
func TestRemoteMute(t *testing.T) {
	for limit, want := range map[time.Duration]time.Duration{0: wireHello, time.Hour: wireHello, 3 * time.Second: 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			near, end := net.Pipe()
			defer end.Close()
			start := time.Now()
			_, err := Attach(t.Context(), near, "", Wish{Timeout: limit})
			if took := time.Since(start); took != want || err == nil || !strings.Contains(err.Error(), want.String()) {
				t.Errorf("%s: after %s: %v", limit, took, err)
			}
		})
	}
}

// A near end that goes silent while the far keyboard is being opened is told that,
// and not how the opening ended.
func TestRemoteSilentWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{console: &console{}, opening: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		f.serve(t)
		lines := bufio.NewScanner(f.near)
		lines.Scan()
		for _, m := range []message{{Op: opHello, Protocol: WireProtocol}, {Op: opOpen, Open: &Wish{}}} {
			if err := writeMessage(f.near, m); err != nil {
				t.Fatal(err)
			}
		}
		silent := time.Now()
		var m message
		for lines.Scan() && m.Op != opFail {
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				t.Fatal(err)
			}
		}
		if m.Fault == nil || m.Fault.Text != ErrSilence.Error() {
			t.Errorf("%+v", m.Fault)
		}
		if took := time.Since(silent); took < WireSilence || took > WireSilence+wireBeat {
			t.Errorf("after %s", took)
		}
		if err := <-f.err; !errors.Is(err, ErrSilence) {
			t.Errorf("the far end: %v", err)
		}
		f.near.Close()
	})
}

// What a login shell says before labctl does is passed over; where nothing else
// comes, it is the reason.
func TestRemoteNoise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, end := net.Pipe()
		go func() {
			io.WriteString(end, "Welcome to pi\n")
			end.Close()
		}()
		if _, err := Attach(t.Context(), near, "", Wish{}); err == nil || !strings.Contains(err.Error(), "Welcome to pi") {
			t.Errorf("%v", err)
		}

		f := &far{console: &console{}}
		f.serve(t)
		r, err := Attach(t.Context(), noisy{f.near, io.MultiReader(strings.NewReader("Welcome to pi\n\n{}\n"), f.near)}, "", Wish{})
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		<-f.err
	})
}

type noisy struct {
	net.Conn
	all io.Reader
}

func (n noisy) Read(b []byte) (int, error) { return n.all.Read(b) }

// Lines of anything do no harm, and no error repeats them.
func FuzzServe(f *testing.F) {
	f.Add(`{"op":"hello","protocol":1}` + "\n" + `{"op":"open","open":{}}` + "\n" + `{"op":"play","seq":1,"reports":["0000040000000000"]}`)
	f.Add(`{"op":"hello","protocol":1}` + "\n" + `{"op":"open","open":{}}` + "\n" + `{"op":"play","seq":1,"reports":["zz04"],"pace":{}}`)
	f.Add(`{"op":"hello","protocol":1}` + "\n" + `{"op":"open","open":{}}` + "\n" + `{"op":"play","seq":1,"reports":["0000040000000000"]}` + "\n" + `{"op":"dance"}`)
	f.Add("{}\n\n")
	f.Fuzz(func(t *testing.T, lines string) {
		synctest.Test(t, func(t *testing.T) {
			c := &console{}
			Serve(t.Context(), strings.NewReader(lines+"\n"), io.Discard, ServeOptions{Open: func(context.Context, Wish) (*Served, error) {
				kb := NewKeyboard(c, Options{})
				return &Served{kb, kb.Close}, nil
			}})
			if n := len(c.got); n > 0 && c.got[n-1] != (Report{}) {
				t.Errorf("%q leave a key down", lines)
			}
		})
	})
}
