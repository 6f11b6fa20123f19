package hid

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/labctl/labctl/internal/skipped"
)

// A pipe with room for one page says that it is writable only when its reader
// has taken everything: like the gadget's endpoint, through the real calls.
func onePagePipe(t *testing.T) (*fdDevice, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hidg0")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	dev, err := openDevice(path)
	if err != nil {
		t.Fatal(err)
	}
	d := dev.(*fdDevice)
	if _, err := unix.FcntlInt(uintptr(d.fd), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		skipped.Test(t, "the kernel gives no pipe of one page: %v", err)
	}
	host, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	return d, host
}

func TestSystemCalls(t *testing.T) {
	d, host := onePagePipe(t)
	k := newKeyboard(d, Options{Deadline: 10 * time.Second})
	// Signals for the threads of the runtime, as in a busy program.
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				runtime.GC()
			}
		}
	}()
	chords := chordsOf(t, "A SHIFT+B ALT+KP4+ ALT+KP5 DOWN×20")
	reports := Reports(chords)
	type arrival struct {
		r   Report
		err error
	}
	arrived := make(chan arrival, len(reports)+1)
	go func() {
		for range reports {
			var a arrival
			time.Sleep(2 * time.Millisecond)
			_, a.err = io.ReadFull(host, a.r[:])
			arrived <- a
		}
	}()
	if n, err := k.Type(t.Context(), chords, Pace{}); err != nil || n != len(reports) {
		t.Fatalf("%d of %d reports, %v", n, len(reports), err)
	}
	for i, want := range reports {
		if a := <-arrived; a.err != nil || a.r != want {
			t.Fatalf("report %d: got %s, %v; want %s", i+1, a.r, a.err, want)
		}
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

func TestSystemCallsWithoutAReader(t *testing.T) {
	d, host := onePagePipe(t)
	k := newKeyboard(d, Options{Deadline: 30 * time.Millisecond})
	start := time.Now()
	wantState(t, k.Send(t.Context(), Report{2: 4}), Pending, false, ErrNotTaken)
	if time.Since(start) < 30*time.Millisecond {
		t.Error("the deadline was cut short")
	}
	if ready, err := d.wait(writable, 0); ready || err != nil {
		t.Errorf("room while a report waits: %v, %v", ready, err)
	}
	var b [8]byte
	if _, err := io.ReadFull(host, b[:]); err != nil {
		t.Fatal(err)
	}
	if ready, err := d.wait(writable, time.Second); !ready || err != nil {
		t.Errorf("no room after the report was read: %v, %v", ready, err)
	}
}

// The runtime signals its threads; a call that a signal ends goes on where it
// stopped, and in all takes no longer.
func TestSignalsCutNothingShort(t *testing.T) {
	d, _ := onePagePipe(t)
	if err := d.write(Report{2: 4}); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := unix.Gettid()
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for tick := time.NewTicker(2 * time.Millisecond); ; n++ {
			select {
			case <-stop:
				tick.Stop()
				stopped <- n
				return
			case <-tick.C:
				if err := unix.Tgkill(unix.Getpid(), tid, unix.SIGURG); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	start := time.Now()
	ready, err := d.wait(writable, 100*time.Millisecond)
	took := time.Since(start)
	close(stop)
	if n := <-stopped; n == 0 {
		t.Error("no signal was sent")
	}
	if ready || err != nil || took < 100*time.Millisecond {
		t.Errorf("ready: %v, %v after %s, want nothing after 100ms", ready, err, took)
	}
}

func TestLightsThroughSystemCalls(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	k := newKeyboard(&fdDevice{fds[0]}, Options{})
	if _, known := k.LEDs(); known {
		t.Error("lights are known that no host has set")
	}
	for _, b := range []byte{1, 3, 2} {
		if _, err := unix.Write(fds[1], []byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if lights, known := k.LEDs(); !known || lights != CapsLock {
		t.Errorf("got %03b (known: %v), want the last of three", lights, known)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if _, known := k.LEDs(); !known {
		t.Error("closing forgot the lights")
	}
}

func TestReasons(t *testing.T) {
	for err, want := range map[error]error{unix.EAGAIN: errAgain, unix.ESHUTDOWN: ErrNoHost, unix.ENODEV: ErrNoHost, unix.EIO: unix.EIO} {
		if got := reason("writing to", err); !errors.Is(got, want) {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}

// What Send adds to the two system calls that any proof of delivery takes. The
// null device always has room, so this is the cost without a host.
func BenchmarkSend(b *testing.B) {
	dev, err := openDevice("/dev/null")
	if err != nil {
		b.Fatal(err)
	}
	d := dev.(*fdDevice)
	defer d.close()
	press := Report{2: 4}
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLOUT}}
		for b.Loop() {
			if _, err := unix.Write(d.fd, press[:]); err != nil {
				b.Fatal(err)
			}
			if n, err := unix.Poll(fds, 1000); n != 1 || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("Send", func(b *testing.B) {
		b.ReportAllocs()
		k := newKeyboard(d, Options{})
		for b.Loop() {
			if err := k.Send(b.Context(), press); err != nil {
				b.Fatal(err)
			}
		}
	})
}
