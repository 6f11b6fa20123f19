package hid

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// fdDevice is a device by its raw descriptor. The runtime's poller would do for
// reading, but a write that the gadget refuses with EAGAIN while it reports room
// (dwc2, when the bus is suspended) would spin in it.
type fdDevice struct{ fd int }

func openDevice(path string) (device, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &fdDevice{fd}, nil
}

// retry repeats a call that a signal cut short before it did anything; the
// runtime interrupts its own threads many times a second.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func reason(doing string, err error) error {
	switch {
	case errors.Is(err, unix.EAGAIN):
		return errAgain
	case errors.Is(err, unix.ESHUTDOWN), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w (%w)", ErrNoHost, err)
	}
	return fmt.Errorf("%s the keyboard device: %w", doing, err)
}

func (d *fdDevice) write(r Report) error {
	n, err := retry(func() (int, error) { return unix.Write(d.fd, r[:]) })
	switch {
	case err != nil:
		return reason("writing to", err)
	case n != len(r):
		return errShort
	}
	return nil
}

func (d *fdDevice) read() (byte, error) {
	var b [64]byte
	n, err := retry(func() (int, error) { return unix.Read(d.fd, b[:]) })
	switch {
	case err != nil:
		return 0, reason("reading from", err)
	case n <= 0:
		return 0, errAgain
	}
	return b[n-1], nil
}

func (d *fdDevice) wait(what direction, limit time.Duration) (bool, error) {
	want := int16(unix.POLLOUT)
	if what == readable {
		want = unix.POLLIN
	}
	fds := []unix.PollFd{{Fd: int32(d.fd), Events: want}}
	// ppoll writes the time that is left into its argument, so a call after a
	// signal goes on where the first one stopped, without a look at the clock.
	left := unix.NsecToTimespec(int64(max(0, limit)))
	if _, err := retry(func() (int, error) { return unix.Ppoll(fds, &left, nil) }); err != nil {
		return false, reason("polling", err)
	}
	if fds[0].Revents&unix.POLLNVAL != 0 {
		return false, reason("polling", unix.EBADF)
	}
	return fds[0].Revents&want != 0, nil
}

// attached says whether a host has configured the gadget: else, as while a report
// waits, there is no room for one.
func (d *fdDevice) attached() bool {
	ready, err := d.wait(writable, 0)
	return ready || err != nil
}

func (d *fdDevice) close() error {
	fd := d.fd
	d.fd = -1 // the number may soon be another file's
	return unix.Close(fd)
}
