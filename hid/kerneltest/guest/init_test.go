//go:build linux

package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inside is a file that only the machine has.
const inside = "/etc/labctl-guest"

// results is the serial port that the other side reads; the kernel's console is
// the first one.
const results = "/dev/ttyS1"

func TestMain(m *testing.M) {
	if _, err := os.Stat(inside); err != nil {
		fmt.Println("not in the machine of package kerneltest, so there is nothing to test")
		return
	}
	if os.Getpid() != 1 {
		os.Exit(m.Run())
	}
	if err := initialise(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	os.Exit(1) // the kernel panics then, and that ends the machine too
}

// initialise is what the first process of a machine does; it returns when the
// tests are done.
func initialise() error {
	for _, m := range []struct{ kind, at string }{
		{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mounting %s: %w", m.at, err)
		}
	}
	// Ctrl+Alt+Delete, should a test type it, is for this process to ignore.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		return err
	}
	port, err := os.OpenFile(results, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if err := makeRaw(int(port.Fd())); err != nil {
		return err
	}
	for _, module := range []string{"dummy_hcd", "usbhid", "hid_generic", "evdev"} {
		if out, err := exec.Command("/bin/modprobe", module).CombinedOutput(); err != nil {
			return fmt.Errorf("modprobe %s: %w: %s", module, err, out)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	// The kernel puts what it does not know of its command line here.
	pick := "-test.run=" + os.Getenv("LABCTL_TESTS")
	if os.Getenv("LABCTL_TESTS") == "-" {
		pick = "-test.skip=^TestKilled$" // which has machines of its own
	}
	cmd := exec.Command(self, "-test.v", "-test.timeout=11m", pick)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = port, port, port
	cmd.Env = []string{"PATH=/bin", "HOME=/root", "TERM=linux", "LABCTL_KILLS=" + os.Getenv("LABCTL_KILLS")}
	if err := cmd.Start(); err != nil {
		return err
	}
	// A test that takes its time is no machine that hangs: the other side tells
	// them apart by this.
	go func() {
		for range time.Tick(5 * time.Second) {
			fmt.Fprintln(port, "@@alive")
		}
	}()
	// Whoever loses its parent becomes ours, so everything that ends is waited for.
	for {
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for the tests: %w", err)
		case pid == cmd.Process.Pid:
			_, err := fmt.Fprintf(port, "\n@@exit %d\n", status.ExitStatus())
			time.Sleep(100 * time.Millisecond) // the port is a slow one
			return err
		}
	}
}

func makeRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag = 0
	t.Oflag = 0
	t.Lflag = 0
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD | unix.CLOCAL
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// figure tells the other side a number.
func figure(name string, value float64) {
	fmt.Printf("\n@@figure {\"Name\":%q,\"Value\":%g}\n", name, value)
}

// screenshot has the other side take a picture of the screen, and waits until it
// has done so.
func screenshot(t *testing.T, name string) {
	t.Helper()
	fmt.Printf("\n@@screen %s\n", name)
	answer := make([]byte, 3)
	if _, err := io.ReadFull(os.Stdin, answer); err != nil || string(answer) != "ok\n" {
		t.Fatalf("asking for a picture: %q, %v", answer, err)
	}
}
