package hid

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// fakeGadget is a device as the kernel's f_hid is described: one report waits on
// the endpoint until the host fetches it. Its time is that of the test's bubble.
type fakeGadget struct {
	poll     time.Duration // how often the host fetches
	away     bool          // no host: ESHUTDOWN
	asleep   bool          // the host has stopped fetching
	lying    bool          // room is reported though writes are refused (dwc2, suspended)
	queued   *Report
	since    time.Time
	got      []Report
	stamps   []time.Time
	writes   int
	failAt   int // this write and those after it meet a host that is gone, counted from 1
	sleepAt  int // the report of this write stays on the endpoint
	echo     time.Duration
	wakes    time.Time // away and lying end then, if set
	lights   LEDs
	out      []ledOut
	keysDown map[Usage]bool
	decoder  Decoder
	closed   bool
	panicAt  int
	mu       sync.Mutex
	restarts [2]time.Time // from the first on until the second there is no host
}

type ledOut struct {
	at time.Time
	b  LEDs
}

func (g *fakeGadget) fetch() {
	if !g.wakes.IsZero() && !time.Now().Before(g.wakes) {
		g.away, g.lying = false, false
	}
	if g.queued == nil || g.asleep || g.away || time.Since(g.since) < g.poll {
		return
	}
	r := *g.queued
	g.queued = nil
	g.got = append(g.got, r)
	g.stamps = append(g.stamps, time.Now())
	if g.keysDown == nil {
		g.keysDown = map[Usage]bool{}
	}
	for _, e := range g.decoder.Decode(r) {
		if g.keysDown[e.Key] = e.Down; !e.Down {
			delete(g.keysDown, e.Key)
		}
		if light := lockLights[e.Key]; e.Down && light != 0 && g.echo > 0 {
			g.lights ^= light
			g.out = append(g.out, ledOut{time.Now().Add(g.echo), g.lights})
		}
	}
}

func (g *fakeGadget) write(r Report) error {
	g.fetch()
	g.writes++
	if g.panicAt == g.writes {
		panic("the program has a bug")
	}
	if g.failAt > 0 && g.writes >= g.failAt {
		g.away = true
	}
	if g.away {
		return ErrNoHost
	}
	if g.queued != nil || g.lying {
		return errAgain
	}
	if g.sleepAt == g.writes {
		g.asleep = true
	}
	g.queued, g.since = &r, time.Now()
	return nil
}

func (g *fakeGadget) read() (byte, error) {
	if len(g.out) == 0 || time.Now().Before(g.out[0].at) {
		return 0, errAgain
	}
	b := g.out[0].b
	g.out = g.out[1:]
	return byte(b), nil
}

func (g *fakeGadget) wait(what direction, limit time.Duration) (bool, error) {
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		g.fetch()
		ready := g.queued == nil && !g.away
		if what == readable {
			ready = len(g.out) > 0 && !time.Now().Before(g.out[0].at)
		}
		if ready || !time.Now().Before(end) {
			return ready, nil
		}
	}
}

func (g *fakeGadget) close() error { g.closed = true; return nil }

// attached knows of a restart only: the rest may change in this moment.
func (g *fakeGadget) attached() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	return now.Before(g.restarts[0]) || !now.Before(g.restarts[1])
}

// flush is what unbinding does.
func (g *fakeGadget) flush(context.Context) error {
	g.queued, g.away, g.keysDown, g.decoder = nil, true, nil, Decoder{}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.restarts = [2]time.Time{time.Now(), time.Now().Add(time.Hour)}
	return nil
}

func chordsOf(t testing.TB, keys string) []Chord {
	t.Helper()
	c, err := ParseChords(keys)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantState(t testing.TB, err error, state State, flushed bool, reason error) {
	t.Helper()
	var d *DeliveryError
	if !errors.As(err, &d) || d.State != state || d.Flushed != flushed || !errors.Is(err, reason) {
		t.Errorf("got %v, want %s (flushed: %v) because %v", err, state, flushed, reason)
	}
}

func TestSendWaitsForTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{poll: 8 * time.Millisecond}
		k := newKeyboard(g, Options{})
		start := time.Now()
		if err := k.Send(t.Context(), Report{2: 4}); err != nil {
			t.Fatal(err)
		}
		if len(g.got) != 1 || time.Since(start) < g.poll {
			t.Errorf("Send returned after %s with %d reports at the host", time.Since(start), len(g.got))
		}
		if err := k.Close(); err != nil || hexes(g.got) != "0000040000000000 0000000000000000" || !g.closed {
			t.Errorf("Close left the host with %s (%v)", hexes(g.got), err)
		}
		wantState(t, k.Send(t.Context(), Report{}), Refused, false, os.ErrClosed)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestSendOutcomes(t *testing.T) {
	for _, c := range []struct {
		name    string
		g       *fakeGadget
		flush   bool
		state   State
		flushed bool
		reason  error
		within  time.Duration
	}{
		{"no host", &fakeGadget{away: true}, true, Refused, false, ErrNoHost, 0},
		{"host stops fetching", &fakeGadget{asleep: true}, false, Pending, false, ErrNotTaken, time.Second},
		{"host stops fetching, withdrawn", &fakeGadget{asleep: true}, true, Pending, true, ErrNotTaken, time.Second},
		{"stale report of somebody else", &fakeGadget{asleep: true, queued: &Report{2: 9}}, true, Refused, false, ErrBusy, time.Second},
		{"suspended bus", &fakeGadget{lying: true}, true, Refused, false, ErrBusy, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := Options{}
				if c.flush {
					o.Flush = c.g.flush
				}
				k := newKeyboard(c.g, o)
				start := time.Now()
				wantState(t, k.Send(t.Context(), Report{2: 4}), c.state, c.flushed, c.reason)
				if d := time.Since(start); d < c.within || d > c.within+100*time.Millisecond {
					t.Errorf("it took %s, want %s", d, c.within)
				}
				if c.g.writes > 1100 {
					t.Errorf("%d tries: it spins", c.g.writes)
				}
				if c.flushed && (c.g.queued != nil || k.Close() != nil) {
					t.Error("the report is still on the endpoint, or Close found something to complain about")
				}
			})
		})
	}
}

// A key that may land is followed by nothing, not even when the host is back.
func TestNothingAfterPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{sleepAt: 3}
		k := newKeyboard(g, Options{})
		n, err := k.Type(t.Context(), chordsOf(t, "A B C"), Pace{})
		wantState(t, err, Pending, false, ErrNotTaken)
		if n != 2 || g.writes > 3+1100 {
			t.Errorf("%d reports delivered, %d writes", n, g.writes)
		}
		if !strings.Contains(err.Error(), "one may still be down") {
			t.Errorf("the key that may stick is not told of: %v", err)
		}
		g.asleep = false
		wantState(t, k.Send(t.Context(), Report{2: 6}), Refused, false, ErrNotTaken)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		if got := hexes(g.got); got != "0000040000000000 0000000000000000 0000050000000000 0000000000000000" {
			t.Errorf("the host got %s: B once, its release, and nothing else", got)
		}
		if len(g.keysDown) != 0 {
			t.Errorf("still down: %v", g.keysDown)
		}
	})
}

func TestSuspendedBusComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{lying: true}
		k := newKeyboard(g, Options{})
		g.wakes = time.Now().Add(300 * time.Millisecond)
		if err := k.Send(t.Context(), Report{2: 4}); err != nil || len(g.got) != 1 {
			t.Errorf("%d reports arrived, %v", len(g.got), err)
		}
	})
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{}
		k := newKeyboard(g, Options{})
		if _, err := k.Type(t.Context(), chordsOf(t, "A SHIFT+B C"), Pace{Hold: DefaultHold, Gap: DefaultGap, Lead: DefaultLead}); err != nil {
			t.Fatal(err)
		}
		// A, up, Shift, B, Shift alone, up, C, up
		want := []time.Duration{DefaultHold, DefaultGap, DefaultLead, DefaultHold, DefaultLead, DefaultGap, DefaultHold}
		for i, w := range want {
			if d := g.stamps[i+1].Sub(g.stamps[i]); d < w || d > w+5*time.Millisecond {
				t.Errorf("after report %d (%s): %s, want %s", i+1, g.got[i], d, w)
			}
		}
		start := time.Now()
		if _, err := k.Type(t.Context(), chordsOf(t, "A×100 SHIFT+B×100"), Pace{}); err != nil || time.Since(start) > 10*time.Millisecond {
			t.Errorf("600 reports without pauses took %s, %v", time.Since(start), err)
		}
	})
}

// Whatever ends a run, no key is left down on a host that still listens.
func TestNothingStaysDown(t *testing.T) {
	chords := chordsOf(t, "A SHIFT+B ALT+KP4+ ALT+KP5 DOWN×3")
	reports := Reports(chords)
	for at := range len(reports) + 1 {
		synctest.Test(t, func(t *testing.T) {
			g := &fakeGadget{poll: 2 * time.Millisecond}
			k := newKeyboard(g, Options{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(at)*12*time.Millisecond+time.Millisecond)
			defer cancel()
			n, err := k.Type(ctx, chords, Pace{Hold: 10 * time.Millisecond, Gap: 10 * time.Millisecond, Lead: 10 * time.Millisecond})
			if len(g.keysDown) != 0 {
				t.Errorf("cancelled after %d reports: still down: %v", n, g.keysDown)
			}
			if n < len(reports) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d of %d reports and %v", n, len(reports), err)
			}
			if got, want := hexes(g.got), hexes(reports[:n]); !strings.HasPrefix(got, want) {
				t.Errorf("the host got %s, want at first %s", got, want)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			g := &fakeGadget{panicAt: at + 1}
			k := newKeyboard(g, Options{})
			func() {
				defer func() {
					if recover() == nil && at < len(reports) {
						t.Error("the panic was swallowed")
					}
				}()
				k.Type(t.Context(), chords, Pace{})
			}()
			if len(g.keysDown) != 0 {
				t.Errorf("panic at report %d: still down: %v", at+1, g.keysDown)
			}
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			g := &fakeGadget{sleepAt: at + 1}
			k := newKeyboard(g, Options{Flush: g.flush})
			n, err := k.Type(t.Context(), chords, Pace{})
			if at < len(reports) {
				wantState(t, err, Pending, true, ErrNotTaken)
			}
			if n != at || len(g.keysDown) != 0 || g.queued != nil {
				t.Errorf("host asleep at report %d: %d delivered, still down: %v, queued: %v", at+1, n, g.keysDown, g.queued)
			}
		})
	}
}

// A host that goes away lets go of the keys itself: that is no second fault.
func TestHostGoesAwayUnderAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyboard(&fakeGadget{failAt: 2}, Options{})
		n, err := k.Type(t.Context(), chordsOf(t, "A B"), Pace{})
		wantState(t, err, Refused, false, ErrNoHost)
		if n != 1 || strings.Contains(err.Error(), "still be down") {
			t.Errorf("%d reports, %v", n, err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Firmware lets go of a keyboard and takes it again. What was refused meanwhile
// goes out then, once; without leave to wait it stays refused.
func TestAwayForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			gone, away time.Duration
			want       int
		}{{2 * time.Second, 5 * time.Second, 4}, {6 * time.Second, 5 * time.Second, 0}, {time.Second, 0, 0}} {
			g := &fakeGadget{away: true, wakes: time.Now().Add(tc.gone)}
			k := newKeyboard(g, Options{Away: tc.away})
			n, err := k.Type(t.Context(), chordsOf(t, "F10 F10"), Pace{})
			if n != tc.want || len(g.got) != tc.want {
				t.Errorf("gone for %s, %s to wait: %d reports sent, %v arrived", tc.gone, tc.away, n, g.got)
			}
			if tc.want == 0 {
				wantState(t, err, Refused, false, ErrNoHost)
			} else if err != nil {
				t.Error(err)
			}
		}
	})
}

func TestFailedFlushIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{asleep: true}
		broken := errors.New("the gadget will not unbind")
		k := newKeyboard(g, Options{Flush: func(context.Context) error { return broken }})
		err := k.Send(t.Context(), Report{2: 4})
		wantState(t, err, Pending, false, ErrNotTaken)
		wantState(t, err, Pending, false, broken)
		if err := k.Close(); err == nil {
			t.Error("Close does not say that a key may be down")
		}
	})
}

func TestCancelledBeforeTheKey(t *testing.T) {
	g := &fakeGadget{}
	k := newKeyboard(g, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantState(t, k.Send(ctx, Report{2: 4}), Refused, false, context.Canceled)
	if g.writes != 0 {
		t.Error("a key was sent after the end")
	}
}

func TestWaitReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{away: true}
		k := newKeyboard(g, Options{})
		if err := k.WaitReady(t.Context(), time.Second); !errors.Is(err, ErrNoHost) {
			t.Errorf("without a host: %v", err)
		}
		g.wakes = time.Now().Add(400 * time.Millisecond)
		start := time.Now()
		if err := k.WaitReady(t.Context(), 5*time.Second); err != nil || time.Since(start) > 500*time.Millisecond {
			t.Errorf("the host came after 400 ms, seen after %s: %v", time.Since(start), err)
		}
		if g.writes != 0 {
			t.Error("waiting typed something")
		}
	})
}

func TestProbe(t *testing.T) {
	for _, c := range []struct {
		name    string
		g       *fakeGadget
		err     error
		reports int
	}{
		{"lights unknown", &fakeGadget{echo: 5 * time.Millisecond}, nil, 8},
		{"lights known", &fakeGadget{echo: 5 * time.Millisecond, lights: NumLock, out: []ledOut{{b: NumLock}}}, nil, 4},
		{"silent host", &fakeGadget{}, ErrNoEcho, 4},
		{"silent after it greeted", &fakeGadget{out: []ledOut{{b: 0}}}, ErrNoEcho, 4},
		{"no host", &fakeGadget{away: true}, ErrNoHost, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := c.g.lights
				k := newKeyboard(c.g, Options{})
				if err := k.Probe(t.Context(), KeyNumLock, time.Second); !errors.Is(err, c.err) {
					t.Errorf("got %v, want %v", err, c.err)
				}
				if len(c.g.got) != c.reports || c.g.lights != before || len(c.g.keysDown) != 0 {
					t.Errorf("%d reports, want %d; lights %b, were %b; down: %v", len(c.g.got), c.reports, c.g.lights, before, c.g.keysDown)
				}
			})
		})
	}
	k := newKeyboard(&fakeGadget{}, Options{})
	if err := k.Probe(t.Context(), KeyA, time.Second); err == nil {
		t.Error("A is no lock key")
	}
}

// A probe that is cut short must not leave the lock inverted.
func TestProbeEndsAsItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{echo: 50 * time.Millisecond, out: []ledOut{{}}}
		k := newKeyboard(g, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := k.Probe(ctx, KeyNumLock, time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if len(g.got) != 4 || g.lights != 0 {
			t.Errorf("%d reports, lights %03b", len(g.got), g.lights)
		}
	})
}

// The greeting of a host that comes late must not pass for an echo.
func TestProbeIsNotFooledByAGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{out: []ledOut{{time.Now().Add(3 * time.Millisecond), 0}, {time.Now().Add(6 * time.Millisecond), NumLock}}}
		k := newKeyboard(g, Options{})
		if err := k.Probe(t.Context(), KeyNumLock, time.Second); !errors.Is(err, ErrNoEcho) {
			t.Errorf("got %v, want %v", err, ErrNoEcho)
		}
	})
}

func TestSetCapsLock(t *testing.T) {
	for _, known := range []bool{true, false} {
		for _, was := range []LEDs{0, CapsLock, CapsLock | NumLock} {
			for _, want := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					g := &fakeGadget{echo: 5 * time.Millisecond, lights: was}
					if known {
						g.out = []ledOut{{b: was}}
					}
					k := newKeyboard(g, Options{})
					err := k.SetCapsLock(t.Context(), want, time.Second)
					if err != nil || (g.lights&CapsLock != 0) != want || g.lights&NumLock != was&NumLock {
						t.Errorf("known %v, lights %03b, want Caps Lock %v: got %03b, %v", known, was, want, g.lights, err)
					}
					if known && (was&CapsLock != 0) == want && len(g.got) != 0 {
						t.Error("the key was pressed for nothing")
					}
				})
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{}
		k := newKeyboard(g, Options{})
		if err := k.SetCapsLock(t.Context(), false, time.Second); !errors.Is(err, ErrNoEcho) || len(g.got) != 4 {
			t.Errorf("a silent host: %v after %d reports", err, len(g.got))
		}
	})
}

// Law: whatever a host does in between, it gets a prefix of what was typed, then
// at most releases: nothing lost inside, nothing twice.
func TestDelivery(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		chords := rapid.SliceOfN(genChord(), 1, 8).Draw(rt, "chords")
		g := &fakeGadget{
			poll:    time.Duration(rapid.IntRange(0, 20).Draw(rt, "poll, ms")) * time.Millisecond,
			failAt:  rapid.IntRange(0, 40).Draw(rt, "gone at"),
			sleepAt: rapid.IntRange(0, 40).Draw(rt, "asleep at"),
		}
		flush := rapid.Bool().Draw(rt, "flush")
		synctest.Test(t, func(t *testing.T) {
			o := Options{Deadline: 50 * time.Millisecond}
			if flush {
				o.Flush = g.flush
			}
			k := newKeyboard(g, o)
			n, err := k.Type(t.Context(), chords, Pace{})
			g.asleep = false // the host wakes: what still waits would land now
			g.fetch()
			reports := Reports(chords)
			if (err == nil) != (n == len(reports)) {
				rt.Fatalf("%d of %d reports and %v", n, len(reports), err)
			}
			got := g.got
			if len(got) < n || hexes(got[:n]) != hexes(reports[:n]) {
				rt.Fatalf("the host got %s, typed was %s", hexes(got), hexes(reports[:n]))
			}
			rest := got[n:]
			var d *DeliveryError
			if errors.As(err, &d) && d.State == Pending && !d.Flushed && len(rest) > 0 && rest[0] == reports[n] {
				rest = rest[1:] // it may land, and was said to
			}
			for _, r := range rest {
				if r != (Report{}) {
					rt.Fatalf("typed was %s, then the host got %s", hexes(reports[:n]), hexes(got[n:]))
				}
			}
		})
	})
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hidg0")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, Options{}); err == nil || !strings.Contains(err.Error(), "no character device") {
		t.Errorf("a plain file takes every report and delivers none: %v", err)
	}
	if _, err := Open(file+"x", Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Errors are shown and logged, so they must not tell what was typed.
func TestErrorsHoldNoKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyboard(&fakeGadget{sleepAt: 4}, Options{})
		_, err := k.Type(t.Context(), chordsOf(t, "SHIFT+X"), Pace{})
		if err == nil || strings.Contains(err.Error(), "1b") || strings.Contains(err.Error(), "X") {
			t.Errorf("got %v", err)
		}
	})
}

// A report that is withdrawn, by unplugging the keyboard, is no sign of the host.
func TestWithdrawnIsNotLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGadget{poll: time.Millisecond, sleepAt: 2}
		k := newKeyboard(g, Options{Flush: g.flush})
		k.WatchHost()
		_, err := k.Type(t.Context(), chordsOf(t, "A"), Pace{})
		wantState(t, err, Pending, true, ErrNotTaken)
		time.Sleep(time.Second)
		if left, known := k.HostLeft(); left || !known {
			t.Errorf("left %t, known %t", left, known)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A host that lets go of the keyboard in a pause and takes it again gets no more
// keys: it has restarted. What is down on it is released.
func TestWatchHost(t *testing.T) {
	for _, c := range []struct {
		name    string
		watched bool
		leaves  time.Duration // how long
		want    string
	}{
		{"not watched", false, 50 * time.Millisecond, "A A B B"},
		{"stays", true, 0, "A A B B"},
		{"restarts", true, 50 * time.Millisecond, "A A"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGadget{poll: time.Millisecond}
				g.restarts[0] = time.Now().Add(time.Second)
				g.restarts[1] = g.restarts[0].Add(c.leaves)
				k := newKeyboard(g, Options{})
				if c.watched {
					k.WatchHost()
					k.WatchHost()
				}
				if left, known := k.HostLeft(); left || !known {
					t.Errorf("at first: left %t, known %t", left, known)
				}
				_, err := k.Type(t.Context(), chordsOf(t, "A B"), Pace{Hold: 2 * time.Second})
				if left, _ := k.HostLeft(); left != (c.want == "A A") {
					t.Errorf("in the end: left %t", left)
				}
				if c.want == "A A" {
					wantState(t, err, Refused, false, ErrLeft)
				} else if err != nil {
					t.Error(err)
				}
				var got []string
				var d Decoder
				for _, r := range g.got {
					for _, e := range d.Decode(r) {
						got = append(got, e.Key.String())
					}
				}
				if s := strings.Join(got, " "); s != c.want {
					t.Errorf("the host saw %s, want %s", s, c.want)
				}
				if err := k.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
